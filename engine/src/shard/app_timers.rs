//! The timers of an application, one-shot and periodic. The deadlines of connections are in
//! `timer_wheel.rs`, whose buckets of 64 ms are too coarse for a game that ticks 20 times a second.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::TooManyTimers;

/// Names a timer of one shard. No later timer of the shard has the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId(u64);

struct Timer {
    at_ms: u64,
    /// `None` fires once.
    period_ms: Option<u64>,
}

pub(crate) struct AppTimers {
    by_id: BTreeMap<TimerId, Timer>,
    /// In the order in which they fire; those of one millisecond in the order in which they were
    /// set.
    by_time: BTreeMap<(u64, TimerId), ()>,
    next: u64,
    timers_max: usize,
}

impl AppTimers {
    pub(crate) fn new(timers_max: usize) -> Self {
        Self { by_id: BTreeMap::new(), by_time: BTreeMap::new(), next: 0, timers_max }
    }

    pub(crate) fn set(
        &mut self,
        now_ms: u64,
        delay: Duration,
        is_periodic: bool,
    ) -> Result<TimerId, TooManyTimers> {
        if self.by_id.len() >= self.timers_max {
            return Err(TooManyTimers);
        }
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX).max(1);
        let id = TimerId(self.next);
        self.next += 1;
        let at_ms = now_ms.saturating_add(delay_ms);
        self.by_id.insert(id, Timer { at_ms, period_ms: is_periodic.then_some(delay_ms) });
        self.by_time.insert((at_ms, id), ());
        Ok(id)
    }

    pub(crate) fn cancel(&mut self, id: TimerId) -> bool {
        let Some(timer) = self.by_id.remove(&id) else { return false };
        self.by_time.remove(&(timer.at_ms, id));
        true
    }

    /// Takes the first timer whose time has come. A periodic one is set again.
    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<TimerId> {
        let (&(at_ms, id), ()) = self.by_time.first_key_value()?;
        if at_ms > now_ms {
            return None;
        }
        self.by_time.pop_first();
        let timer = self.by_id.get_mut(&id).expect("both know it");
        match timer.period_ms {
            None => drop(self.by_id.remove(&id)),
            Some(period_ms) => {
                // The next beat that is still to come.
                let missed = (now_ms - at_ms) / period_ms;
                timer.at_ms = at_ms.saturating_add((missed + 1).saturating_mul(period_ms));
                self.by_time.insert((timer.at_ms, id), ());
            }
        }
        Some(id)
    }

    /// When the next one fires.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.by_time.first_key_value().map(|(&(at_ms, _), ())| at_ms)
    }

    /// Whether the time of one has come, which more than one tick's share may leave.
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        self.next_ms().is_some_and(|at_ms| at_ms <= now_ms)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.by_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS_10: Duration = Duration::from_millis(10);

    #[test]
    fn one_shot_fires_once_and_in_order() {
        let mut timers = AppTimers::new(8);
        let late = timers.set(100, 2 * MS_10, false).unwrap();
        let early = timers.set(100, MS_10, false).unwrap();
        let same = timers.set(110, MS_10, false).unwrap();
        assert_eq!(timers.next_ms(), Some(110));
        assert!(!timers.is_due(109) && timers.is_due(110));
        assert_eq!(timers.pop_due(109), None);
        assert_eq!(timers.pop_due(110), Some(early));
        assert_eq!(timers.pop_due(119), None);
        assert_eq!(timers.pop_due(500), Some(late));
        assert_eq!(timers.pop_due(500), Some(same));
        assert_eq!((timers.pop_due(500), timers.len()), (None, 0));
    }

    #[test]
    fn a_period_keeps_its_rhythm_and_skips_what_was_missed() {
        let mut timers = AppTimers::new(8);
        let beat = timers.set(0, MS_10, true).unwrap();
        assert_eq!(timers.pop_due(13), Some(beat));
        assert_eq!(timers.next_ms(), Some(20));
        assert_eq!(timers.pop_due(57), Some(beat));
        assert_eq!((timers.pop_due(57), timers.next_ms()), (None, Some(60)));
        assert!(timers.cancel(beat) && !timers.cancel(beat));
        assert_eq!(timers.next_ms(), None);
    }

    #[test]
    fn there_are_only_so_many() {
        let mut timers = AppTimers::new(1);
        let only = timers.set(0, Duration::ZERO, false).unwrap();
        assert_eq!(timers.next_ms(), Some(1), "not at once, or it would never end");
        assert_eq!(timers.set(0, MS_10, false), Err(TooManyTimers));
        assert!(timers.cancel(only));
        assert_ne!(timers.set(0, Duration::MAX, false), Ok(only));
        assert_eq!(timers.pop_due(u64::MAX - 1), None);
    }
}
