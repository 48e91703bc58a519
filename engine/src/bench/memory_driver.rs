//! A kernel that is two lists: bytes that have arrived, and sends that are complete the next time
//! it is asked. It does as little as a driver can, so that what is measured is the shard.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::driver::{
    COMPLETIONS_PER_TICK_MAX, Completion, Driver, Key, Lease, Mark, Outbound, Socket, Wait,
};

/// A send that the shard has queued.
pub(super) struct Send {
    key: Key,
    outbound: Outbound,
    offset: usize,
}

/// What the bench and the driver both see.
#[derive(Default)]
pub(super) struct Memory {
    /// Connects waiting to be accepted.
    pub(super) backlog: Cell<usize>,
    /// The tenant of each slot.
    pub(super) tenants: RefCell<Vec<Key>>,
    pub(super) arrived: RefCell<Arrived>,
    /// In flight.
    pub(super) sends: RefCell<Vec<Send>>,
    /// Bytes of all sends there ever were.
    pub(super) sent_bytes: Cell<u64>,
    /// Where sent bytes are copied to, if anybody wants to see them.
    pub(super) heard: RefCell<Option<Vec<u8>>>,
}

/// Input for the next tick.
#[derive(Default)]
pub(super) struct Arrived {
    bytes: Vec<u8>,
    /// Whose it is and where in `bytes` it ends.
    ends: Vec<(Key, usize)>,
}

impl Arrived {
    pub(super) fn push(&mut self, key: Key, bytes: &[u8]) {
        assert!(self.ends.len() < COMPLETIONS_PER_TICK_MAX, "more than one tick may bring");
        self.bytes.extend_from_slice(bytes);
        self.ends.push((key, self.bytes.len()));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// A socket, of which nothing is known.
#[derive(Debug)]
pub(super) struct MemorySocket;

impl Socket for MemorySocket {
    fn unread_bytes(&self) -> u32 {
        0
    }

    fn unacknowledged_bytes(&self) -> u32 {
        0
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        None
    }
}

pub(super) struct MemoryDriver {
    memory: Rc<Memory>,
    /// Receive buffers: as many as there are leases at most. A lease may outlive its tick.
    buffers: Vec<Vec<u8>>,
    spare: Vec<u16>,
}

impl MemoryDriver {
    pub(super) fn new(memory: Rc<Memory>) -> Self {
        Self { memory, buffers: Vec::new(), spare: Vec::new() }
    }

    fn accept(&self, completions: &mut Vec<Completion<MemorySocket>>) {
        let accepted = self.memory.backlog.get().min(COMPLETIONS_PER_TICK_MAX);
        self.memory.backlog.set(self.memory.backlog.get() - accepted);
        for _ in 0..accepted {
            let result = Ok(MemorySocket);
            completions.push(Completion::Accepted { listener: 0, result, more: true });
        }
    }

    fn complete_sends(&self, completions: &mut Vec<Completion<MemorySocket>>) {
        let mut sends = self.memory.sends.borrow_mut();
        let arrived = self.memory.arrived.borrow().ends.len();
        while completions.len() + arrived < COMPLETIONS_PER_TICK_MAX
            && let Some(Send { key, outbound, offset }) = sends.pop()
        {
            let bytes = (outbound.bytes() - offset) as u32;
            completions.push(Completion::Sent { key, result: Ok(bytes), outbound });
        }
    }

    fn take_arrived(&mut self, completions: &mut Vec<Completion<MemorySocket>>) {
        let memory = Rc::clone(&self.memory);
        let mut arrived = memory.arrived.borrow_mut();
        let mut start = 0;
        for &(key, end) in &arrived.ends {
            let lease = self.fill_buffer(&arrived.bytes[start..end]);
            completions.push(Completion::Received { key, result: Ok(Some(lease)), more: true });
            start = end;
        }
        arrived.clear();
    }

    fn fill_buffer(&mut self, bytes: &[u8]) -> Lease {
        let buffer = self.spare.pop().unwrap_or_else(|| {
            self.buffers.push(Vec::new());
            (self.buffers.len() - 1) as u16
        });
        let room = &mut self.buffers[usize::from(buffer)];
        room.clear();
        room.extend_from_slice(bytes);
        Lease { buffer, bytes: bytes.len() as u32 }
    }

    fn bytes_of<'a>(&'a self, outbound: &'a Outbound) -> &'a [u8] {
        match outbound {
            Outbound::Own(bytes) => bytes,
            Outbound::Run(run) => run.as_slice(),
            Outbound::Received(received) => {
                &self.buffers[usize::from(received.lease.buffer)][received.range()]
            }
        }
    }
}

impl Driver for MemoryDriver {
    type Socket = MemorySocket;

    fn adopt(&mut self, _descriptor: OwnedFd) -> Option<MemorySocket> {
        None
    }

    fn arm_accept(&mut self, _listener: usize) {}

    fn cancel_accept(&mut self, _listener: usize) {}

    fn close_listener(&mut self, _listener: usize) {}

    fn arm_receive(&mut self, key: Key, _socket: &MemorySocket) {
        let mut tenants = self.memory.tenants.borrow_mut();
        assert_eq!(tenants.len(), key.slot as usize, "slots are taken in order, and kept");
        tenants.push(key);
    }

    fn arm_receive_once(&mut self, _key: Key, _socket: &MemorySocket) {
        panic!("every message arrives whole");
    }

    fn end_receive(&mut self, _key: Key, _socket: &MemorySocket) {
        panic!("every message arrives whole");
    }

    fn receive_into(&mut self, _key: Key, _socket: &MemorySocket, _buffer: Vec<u8>, _bytes: usize) {
        panic!("every message arrives whole");
    }

    fn send(&mut self, key: Key, _socket: &MemorySocket, outbound: Outbound, offset: usize) {
        let bytes = (outbound.bytes() - offset) as u64;
        self.memory.sent_bytes.set(self.memory.sent_bytes.get() + bytes);
        if let Some(heard) = &mut *self.memory.heard.borrow_mut() {
            heard.extend_from_slice(&self.bytes_of(&outbound)[offset..]);
        }
        self.memory.sends.borrow_mut().push(Send { key, outbound, offset });
    }

    fn shut_down(&mut self, _key: Key, _socket: &MemorySocket) {
        panic!("a connection was cut off");
    }

    fn shut_down_write(&mut self, _socket: &MemorySocket) {
        panic!("a connection was closed");
    }

    fn close(&mut self, _socket: MemorySocket) {
        panic!("a connection was refused");
    }

    #[inline]
    fn received<'a>(&'a mut self, lease: &'a Lease) -> &'a mut [u8] {
        &mut self.buffers[usize::from(lease.buffer)]
    }

    #[inline]
    fn recycle(&mut self, lease: Lease) {
        self.spare.push(lease.buffer);
    }

    fn wake(&mut self, _shard: usize) {}

    fn tick(&mut self, _wait: Wait, completions: &mut Vec<Completion<MemorySocket>>) {
        self.accept(completions);
        self.complete_sends(completions);
        self.take_arrived(completions);
    }

    fn completions_waiting(&self) -> usize {
        0
    }

    fn mark(&self) -> Mark {
        Mark::default()
    }

    fn has_handed_out(&self, _mark: Mark) -> bool {
        true
    }

    fn overflows(&self) -> u64 {
        0
    }

    fn trim(&mut self) {}

    fn now_ms(&self) -> u64 {
        // No deadline ever comes.
        1_000
    }
}
