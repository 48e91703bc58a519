//! The commands of the simulated application, and which of them each shard has yet to carry out, in
//! which order.

use std::collections::VecDeque;

use super::tickets::{Held, RequestId};

/// A command.
pub(in crate::sim) struct Errand {
    pub(in crate::sim) number: u64,
    pub(in crate::sim) deed: Deed,
}

/// What `on_command` is to do.
pub(in crate::sim) enum Deed {
    Nothing,
    /// Something of its own choice.
    Act,
    /// Answers a ticket, of this shard or another.
    Answer(Held),
    Panic,
}

impl Errand {
    /// The ticket in it.
    pub(in crate::sim) fn ticket(&self) -> Option<(RequestId, bool)> {
        match &self.deed {
            Deed::Answer(held) => Some(held.id()),
            Deed::Nothing | Deed::Act | Deed::Panic => None,
        }
    }
}

/// What is to come for one shard.
#[derive(Default)]
struct Due {
    /// Through its queue: from other threads, and from other shards.
    boxed: VecDeque<u64>,
    /// From its own callbacks, each with the tick whose commands it comes behind.
    own: VecDeque<(u64, Option<u64>)>,
}

pub(in crate::sim) struct Errands {
    next: u64,
    shards: Vec<Due>,
    /// Commands of any kind for which there was no room, or no shard any more.
    pub(in crate::sim) refused: u64,
    pub(in crate::sim) obeyed: u64,
    /// Of the tick under way.
    pub(in crate::sim) boxed_in_tick: usize,
    pub(in crate::sim) own_in_tick: usize,
}

impl Errands {
    pub(in crate::sim) fn new(shards: usize) -> Self {
        let shards = (0..shards).map(|_| Due::default()).collect();
        Self { next: 0, shards, refused: 0, obeyed: 0, boxed_in_tick: 0, own_in_tick: 0 }
    }

    /// A command that has not been left anywhere yet.
    pub(in crate::sim) fn make(&mut self, deed: Deed) -> Errand {
        self.next += 1;
        Errand { number: self.next, deed }
    }

    /// A shard's queue has taken it.
    pub(in crate::sim) fn note_boxed(&mut self, shard: usize, number: u64) {
        self.shards[shard].boxed.push_back(number);
    }

    /// A callback has left it for its own shard. `tick` is that of the command under way, if one is:
    /// what it leaves has a later one.
    pub(super) fn note_own(&mut self, shard: usize, number: u64, tick: Option<u64>) {
        self.shards[shard].own.push_back((number, tick));
    }

    /// A shard carries it out: is it the one that was next?
    pub(super) fn take(&mut self, shard: usize, number: u64, tick: u64) -> Result<(), String> {
        let Due { boxed, own } = &mut self.shards[shard];
        self.obeyed += 1;
        if boxed.front() == Some(&number) {
            boxed.pop_front();
            self.boxed_in_tick += 1;
            return Ok(());
        }
        match own.front() {
            Some((next, left_in)) if *next == number && *left_in != Some(tick) => {
                own.pop_front();
                self.own_in_tick += 1;
                Ok(())
            }
            _ => Err(format!(
                "shard {shard}: command {number} in tick {tick}, and due are {:?}, {:?}",
                boxed.front(),
                own.front()
            )),
        }
    }

    /// How many wait that a shard has left for itself.
    pub(super) fn own(&self, shard: usize) -> usize {
        self.shards[shard].own.len()
    }

    /// How many a shard has yet to carry out.
    pub(in crate::sim) fn left(&self, shard: usize) -> usize {
        self.shards[shard].boxed.len() + self.own(shard)
    }
}
