//! One connection as the handler of the simulated shards knows it: what it was told, and what is due.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::connection::conn_id::ConnId;
use crate::sim::label::{ClientNumber, Sender, To};

/// What is to become of a message from afar.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    MustCome,
    /// It may have been lost with what its client was told of.
    InGap,
    /// It may come or not: its client has left the topic.
    Free,
}

/// One connection as the handler knows it.
#[derive(Default)]
pub(in crate::sim) struct Tenant {
    pub(super) shard: usize,
    pub(in crate::sim) id: Option<ConnId>,
    pub(in crate::sim) is_hostile: bool,
    /// Told of the open and not of the close.
    pub(in crate::sim) is_open: bool,
    pub(super) was_opened: bool,
    pub(super) was_closed: bool,
    /// The handler has called `close`.
    pub(super) is_closing: bool,
    /// Another thread has.
    pub(in crate::sim) may_be_closing: bool,
    /// A callback of its own shard has cut it off, or any has.
    pub(super) is_terminated: bool,
    pub(in crate::sim) may_be_terminated: bool,
    pub(super) owes_drain: bool,
    /// Something may be queued for it whose sender is not told how full it is: a publish, or
    /// what another thread sends.
    pub(in crate::sim) may_fill_unseen: bool,
    /// The last message of the client, which numbers them from 1.
    pub(super) heard: u64,
    pub(super) topics: BTreeSet<char>,
    /// Those it has ever had: what was published before it left may still arrive.
    pub(super) topics_ever: BTreeSet<char>,
    /// A publish or another thread's message may have closed it for a full write buffer, or one
    /// of its handler's has.
    pub(super) may_have_overflowed: bool,
    /// What was queued for it on its own shard, in order.
    pub(super) due: VecDeque<String>,
    /// How many of these were, when the shard's handler was told of the stop.
    pub(super) due_at_stop: usize,
    /// What other shards have published to its topics and other threads to it or them, by
    /// [`Sender`].
    pub(super) due_from_afar: BTreeMap<Sender, VecDeque<(String, Fate)>>,
    /// Messages from afar that have not come and were in a gap it was told of.
    pub(super) missed_in_gaps: u64,
    /// The number of the newest message seen of each.
    pub(super) seen_from_afar: BTreeMap<Sender, u64>,
}

impl Tenant {
    pub(super) fn is_meant(&self, own: ClientNumber, to: To<'_>) -> bool {
        match to {
            To::Client(client) => client == own,
            To::Topic(topic) => self.topics_ever.iter().any(|&ever| topic.chars().eq([ever])),
        }
    }

    /// Told of the open, and nobody has ended it.
    pub(super) fn is_served(&self) -> bool {
        self.is_open && !self.is_closing && !self.may_be_terminated
    }

    /// What has not come from afar, of those with such a fate.
    pub(super) fn left_from_afar(&self, fate: Fate) -> impl Iterator<Item = &String> {
        let left = self.due_from_afar.values().flatten();
        left.filter(move |(_, its_fate)| *its_fate == fate).map(|(payload, _)| payload)
    }

    /// Something may be queued for it whose sender is not told whether there was room.
    pub(in crate::sim) fn note_unseen(&mut self) {
        self.may_fill_unseen = true;
        self.may_have_overflowed = true;
    }
}
