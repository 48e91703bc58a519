//! The timers of the simulated application: which are set on each shard, and when each is to fire.

use std::collections::BTreeMap;

use crate::shard::app_timers::TimerId;
use crate::sim::dice::Dice;

struct Clock {
    due_ms: u64,
    period_ms: Option<u64>,
}

pub(in crate::sim) struct Clocks {
    set: Vec<BTreeMap<TimerId, Clock>>,
    /// Whatever was ever set on a shard.
    ever: Vec<Vec<TimerId>>,
    pub(in crate::sim) fired: u64,
    /// Of the tick under way.
    pub(in crate::sim) fired_in_tick: usize,
}

impl Clocks {
    pub(in crate::sim) fn new(shards: usize) -> Self {
        let set = (0..shards).map(|_| BTreeMap::new()).collect();
        Self { set, ever: vec![Vec::new(); shards], fired: 0, fired_in_tick: 0 }
    }

    /// A callback was told that it is set; `Err` if that cannot be.
    pub(super) fn set(
        &mut self,
        shard: usize,
        id: TimerId,
        due_ms: u64,
        period_ms: Option<u64>,
    ) -> Result<(), String> {
        if self.ever[shard].contains(&id) {
            return Err(format!("shard {shard}: {id:?} is an earlier timer"));
        }
        self.ever[shard].push(id);
        self.set[shard].insert(id, Clock { due_ms, period_ms });
        Ok(())
    }

    pub(super) fn count(&self, shard: usize) -> usize {
        self.set[shard].len()
    }

    /// One fires: is it its turn?
    pub(super) fn fire(&mut self, shard: usize, id: TimerId, now_ms: u64) -> Result<(), String> {
        self.fired += 1;
        self.fired_in_tick += 1;
        let set = &mut self.set[shard];
        let first = set.iter().map(|(id, clock)| (clock.due_ms, *id)).min();
        let Some(clock) = set.get_mut(&id) else {
            return Err(format!("shard {shard}: {id:?} fires, and is not set"));
        };
        let due_ms = clock.due_ms;
        match clock.period_ms {
            None => drop(set.remove(&id)),
            // The next beat that is still to come.
            Some(period_ms) => {
                while clock.due_ms <= now_ms {
                    clock.due_ms += period_ms;
                }
            }
        }
        if now_ms < due_ms {
            return Err(format!("shard {shard}: {id:?} fires at {now_ms}, due at {due_ms}"));
        }
        match first {
            Some(first) if first != (due_ms, id) => {
                Err(format!("shard {shard}: {id:?}, due at {due_ms}, overtakes {first:?}"))
            }
            _ => Ok(()),
        }
    }

    /// One is taken back: whether it was still to fire.
    pub(super) fn cancel(&mut self, shard: usize, id: TimerId) -> bool {
        self.set[shard].remove(&id).is_some()
    }

    /// Any timer that a shard ever had; one that is set more often.
    pub(super) fn pick(&self, shard: usize, dice: &Dice) -> Option<TimerId> {
        let set: Vec<TimerId> = self.set[shard].keys().copied().collect();
        match dice.chance(70) {
            true if !set.is_empty() => Some(*dice.pick(&set)),
            _ if !self.ever[shard].is_empty() => Some(*dice.pick(&self.ever[shard])),
            _ => None,
        }
    }

    /// When the first one is due.
    pub(in crate::sim) fn next_ms(&self, shard: usize) -> Option<u64> {
        self.set[shard].values().map(|clock| clock.due_ms).min()
    }
}
