//! The kernel of a simulated machine, as far as all of its shards and clients share it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::wire::{Faults, SharedWire};

/// What the world and a shard's driver both see.
pub(crate) struct Kernel {
    pub(super) now_ms: Cell<u64>,
    pub(super) faults: RefCell<Faults>,
    /// Connects waiting to be accepted, by shard.
    pub(super) backlogs: RefCell<Vec<VecDeque<SharedWire>>>,
    /// Shards another shard has woken.
    pub(super) woken: RefCell<Vec<bool>>,
    /// Sockets open, by shard.
    pub(super) sockets: RefCell<Vec<usize>>,
    /// Faults that struck.
    pub(super) strikes: Cell<u64>,
    /// Deadlines at which the tick under way has asked what is unread.
    pub(super) looks: Cell<usize>,
}

impl Kernel {
    pub(super) fn new(now_ms: u64, faults: Faults, shards: usize) -> Self {
        Self {
            now_ms: Cell::new(now_ms),
            faults: RefCell::new(faults),
            backlogs: RefCell::new((0..shards).map(|_| Default::default()).collect()),
            woken: RefCell::new(vec![false; shards]),
            sockets: RefCell::new(vec![0; shards]),
            strikes: Cell::new(0),
            looks: Cell::new(0),
        }
    }

    pub(super) fn strike(&self) {
        self.strikes.set(self.strikes.get() + 1);
    }
}
