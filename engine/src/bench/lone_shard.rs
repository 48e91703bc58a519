//! A shard without a kernel: everything that happens to a message but the system calls.

use std::rc::Rc;

use super::memory_driver::{Memory, MemoryDriver};
use crate::config::Config;
use crate::handler::Handler;
use crate::server::joining::{join_shards, make_mailboxes};
use crate::shard::Shard;

/// One shard with its connections, all open, on a driver that only moves bytes in memory. Its
/// clock stands still.
pub struct LoneShard<H: Handler> {
    shard: Shard<H, MemoryDriver>,
    memory: Rc<Memory>,
}

impl<H: Handler> LoneShard<H> {
    /// Opens so many connections, each with this request head, and completes what the handler
    /// sends to them. Takes a descriptor for each.
    ///
    /// # Panics
    ///
    /// If descriptors run out, or if the handler or the head do not let a connection open.
    #[must_use]
    pub fn new(handler: H, connections: usize, head: &[u8]) -> Self {
        let config = Config::new().connections_max(connections);
        let mailboxes = make_mailboxes(1, &config).expect("an eventfd");
        let links = join_shards(&mailboxes, &config).pop().expect("links for each shard");
        let memory = Rc::new(Memory::default());
        let driver = MemoryDriver::new(Rc::clone(&memory));
        let mut shard = Shard::new(driver, handler, &config, links);
        shard.start();
        let mut lone = Self { shard, memory };
        lone.memory.backlog.set(connections);
        while lone.memory.backlog.get() > 0 {
            lone.tick();
        }
        for connection in 0..connections {
            lone.receive(connection, head);
            lone.tick();
        }
        lone.settle();
        lone
    }

    /// Has these bytes arrive at a connection in the next tick, in one receive buffer. At most 512
    /// times per tick.
    pub fn receive(&mut self, connection: usize, bytes: &[u8]) {
        let key = self.memory.tenants.borrow()[connection];
        self.memory.arrived.borrow_mut().push(key, bytes);
    }

    /// One tick. What was sent in the last one completes in this one.
    pub fn tick(&mut self) {
        self.shard.tick();
    }

    /// Ticks until no send is in flight.
    pub fn settle(&mut self) {
        while !self.memory.sends.borrow().is_empty() {
            self.tick();
        }
    }

    /// Bytes sent to all connections since the beginning.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.memory.sent_bytes.get()
    }

    /// One tick, and all bytes sent in it, whoever they are for.
    pub fn tick_and_listen(&mut self) -> Vec<u8> {
        *self.memory.heard.borrow_mut() = Some(Vec::new());
        self.tick();
        self.memory.heard.take().unwrap_or_default()
    }
}
