//! A kernel that is a pair of byte queues for each connection, and a clock that goes only while a
//! test lets time pass.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use crate::driver::{Completion, Driver, Errno, Key, Lease, Mark, Outbound, Socket, Wait};

/// The two directions of a connection.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) to_server: Vec<u8>,
    pub(super) to_client: Vec<u8>,
    /// The client has sent FIN.
    pub(super) client_left: bool,
    /// The server has sent FIN, or closed.
    pub(super) server_left: bool,
    /// The client does not read: the kernel takes nothing more for it.
    pub(super) is_full: bool,
}

pub(super) type SharedWire = Rc<RefCell<Wire>>;

/// What the test and the driver both see.
pub(super) struct World {
    now_ms: Cell<u64>,
    /// Until when the test lets time pass.
    until_ms: Cell<u64>,
    /// The shard waits for more.
    is_over: Cell<bool>,
    backlog: RefCell<VecDeque<SharedWire>>,
    wires: RefCell<Vec<SharedWire>>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            // No time of a connection is 0.
            now_ms: Cell::new(1_000),
            until_ms: Cell::new(1_000),
            is_over: Cell::new(false),
            backlog: RefCell::default(),
            wires: RefCell::default(),
        }
    }
}

impl World {
    pub(super) fn connect(&self) -> SharedWire {
        let wire = SharedWire::default();
        self.backlog.borrow_mut().push_back(Rc::clone(&wire));
        self.wires.borrow_mut().push(Rc::clone(&wire));
        wire
    }

    pub(super) fn begin(&self, time_ms: u64) {
        self.until_ms.set(self.now_ms.get() + time_ms);
        self.is_over.set(false);
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Every client leaves.
    pub(super) fn hang_up(&self) {
        for wire in self.wires.borrow().iter() {
            let mut wire = wire.borrow_mut();
            (wire.client_left, wire.is_full) = (true, false);
        }
    }

    fn pass(&self, wait: Wait) {
        let left_ms = self.until_ms.get() - self.now_ms.get();
        let wait_ms = match wait {
            Wait::No => return,
            Wait::Millis(ms) => u64::from(ms),
            Wait::Forever => u64::MAX,
        };
        self.now_ms.set(self.now_ms.get() + wait_ms.min(left_ms));
        // What the last moment has brought is still to be done.
        self.is_over.set(left_ms == 0);
    }
}

enum Receive {
    Off,
    Multishot,
    Once,
    Into(Vec<u8>, usize),
}

struct Send {
    outbound: Outbound,
    offset: usize,
}

/// A socket as the shard has it: its number.
#[derive(Debug)]
pub(super) struct TestSocket(u64);

impl Socket for TestSocket {
    fn unread_bytes(&self) -> u32 {
        // Whatever has come is received in the tick after it.
        0
    }

    fn unacknowledged_bytes(&self) -> u32 {
        0
    }

    fn peer_addr(&self) -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], 1)))
    }
}

/// What the driver knows of a socket.
struct Connection {
    wire: SharedWire,
    key: Option<Key>,
    receive: Receive,
    send: Option<Send>,
    is_shut_down: bool,
}

pub(super) struct TestDriver {
    world: Rc<World>,
    accepting: bool,
    /// By the number of the socket.
    connections: HashMap<u64, Connection>,
    done: Vec<Completion<TestSocket>>,
    buffer_bytes: usize,
    buffers: Vec<Vec<u8>>,
    spare: Vec<u16>,
    /// Of the next socket.
    next: u64,
}

impl TestDriver {
    pub(super) fn new(world: Rc<World>, buffer_bytes: usize) -> Self {
        Self {
            world,
            accepting: false,
            connections: HashMap::new(),
            done: Vec::new(),
            buffer_bytes,
            buffers: Vec::new(),
            spare: Vec::new(),
            next: 0,
        }
    }

    fn connection(&mut self, socket: &TestSocket) -> &mut Connection {
        self.connections.get_mut(&socket.0).expect("the shard names an open socket")
    }

    fn arm(&mut self, key: Key, socket: &TestSocket, receive: Receive) {
        let connection = self.connection(socket);
        (connection.key, connection.receive) = (Some(key), receive);
    }

    fn accept(&mut self, completions: &mut Vec<Completion<TestSocket>>) {
        while self.accepting
            && let Some(wire) = self.world.backlog.borrow_mut().pop_front()
        {
            let socket = TestSocket(self.next);
            self.next += 1;
            let connection = Connection {
                wire,
                key: None,
                receive: Receive::Off,
                send: None,
                is_shut_down: false,
            };
            self.connections.insert(socket.0, connection);
            completions.push(Completion::Accepted { listener: 0, result: Ok(socket), more: true });
        }
    }

    fn progress(&mut self, number: u64, completions: &mut Vec<Completion<TestSocket>>) {
        let Self { connections, buffers, spare, buffer_bytes, .. } = self;
        let connection = connections.get_mut(&number).expect("listed just before");
        let Some(key) = connection.key else { return };
        if let Some(Send { outbound, offset }) = connection.send.take() {
            let mut wire = connection.wire.borrow_mut();
            let result = if connection.is_shut_down {
                Some(Err(Errno(libc::EPIPE)))
            } else if wire.is_full {
                None
            } else {
                let bytes = &bytes_of(buffers, &outbound)[offset..];
                wire.to_client.extend_from_slice(bytes);
                Some(Ok(bytes.len() as u32))
            };
            match result {
                None => connection.send = Some(Send { outbound, offset }),
                Some(result) => completions.push(Completion::Sent { key, result, outbound }),
            }
        }
        let mut wire = connection.wire.borrow_mut();
        let is_at_end = wire.to_server.is_empty() && (wire.client_left || connection.is_shut_down);
        if wire.to_server.is_empty() && !is_at_end {
            return;
        }
        match std::mem::replace(&mut connection.receive, Receive::Off) {
            Receive::Off => {}
            Receive::Into(mut buffer, bytes) => {
                let count = wire.to_server.len().min(bytes);
                buffer.extend(wire.to_server.drain(..count));
                completions.push(Completion::Filled { key, result: Ok(count as u32), buffer });
            }
            Receive::Multishot | Receive::Once if is_at_end => {
                completions.push(Completion::Received { key, result: Ok(None), more: false });
            }
            receive @ (Receive::Multishot | Receive::Once) => {
                let more = matches!(receive, Receive::Multishot);
                let count = wire.to_server.len().min(*buffer_bytes);
                let buffer = spare.pop().unwrap_or_else(|| {
                    buffers.push(Vec::new());
                    (buffers.len() - 1) as u16
                });
                let room = &mut buffers[usize::from(buffer)];
                room.clear();
                room.extend(wire.to_server.drain(..count));
                let lease = Lease { buffer, bytes: count as u32 };
                completions.push(Completion::Received { key, result: Ok(Some(lease)), more });
                if more {
                    connection.receive = Receive::Multishot;
                }
            }
        }
    }
}

impl Driver for TestDriver {
    type Socket = TestSocket;

    fn adopt(&mut self, _descriptor: OwnedFd) -> Option<TestSocket> {
        None
    }

    fn arm_accept(&mut self, _listener: usize) {
        self.accepting = true;
    }

    fn cancel_accept(&mut self, listener: usize) {
        self.accepting = false;
        let result = Err(Errno::CANCELLED);
        self.done.push(Completion::Accepted { listener, result, more: false });
    }

    fn close_listener(&mut self, _listener: usize) {
        for wire in self.world.backlog.borrow_mut().drain(..) {
            wire.borrow_mut().server_left = true;
        }
    }

    fn arm_receive(&mut self, key: Key, socket: &TestSocket) {
        self.arm(key, socket, Receive::Multishot);
    }

    fn arm_receive_once(&mut self, key: Key, socket: &TestSocket) {
        self.arm(key, socket, Receive::Once);
    }

    fn end_receive(&mut self, key: Key, socket: &TestSocket) {
        let connection = self.connection(socket);
        if matches!(connection.receive, Receive::Multishot) {
            connection.receive = Receive::Off;
            let result = Err(Errno::CANCELLED);
            self.done.push(Completion::Received { key, result, more: false });
        }
    }

    fn receive_into(&mut self, key: Key, socket: &TestSocket, buffer: Vec<u8>, bytes: usize) {
        self.arm(key, socket, Receive::Into(buffer, bytes));
    }

    fn send(&mut self, key: Key, socket: &TestSocket, outbound: Outbound, offset: usize) {
        let connection = self.connection(socket);
        connection.key = Some(key);
        connection.send = Some(Send { outbound, offset });
    }

    fn shut_down(&mut self, _key: Key, socket: &TestSocket) {
        let connection = self.connection(socket);
        connection.is_shut_down = true;
        connection.wire.borrow_mut().server_left = true;
    }

    fn shut_down_write(&mut self, socket: &TestSocket) {
        self.connection(socket).wire.borrow_mut().server_left = true;
    }

    fn close(&mut self, socket: TestSocket) {
        let closed = self.connections.remove(&socket.0).expect("a socket closes once");
        closed.wire.borrow_mut().server_left = true;
    }

    fn received<'a>(&'a mut self, lease: &'a Lease) -> &'a mut [u8] {
        &mut self.buffers[usize::from(lease.buffer)]
    }

    fn recycle(&mut self, lease: Lease) {
        self.spare.push(lease.buffer);
    }

    fn wake(&mut self, _shard: usize) {}

    fn tick(&mut self, wait: Wait, completions: &mut Vec<Completion<TestSocket>>) {
        completions.append(&mut self.done);
        self.accept(completions);
        let mut numbers: Vec<u64> = self.connections.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            self.progress(number, completions);
        }
        if completions.is_empty() {
            self.world.pass(wait);
        }
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
        self.world.now_ms.get()
    }
}

fn bytes_of<'a>(buffers: &'a [Vec<u8>], outbound: &'a Outbound) -> &'a [u8] {
    match outbound {
        Outbound::Own(bytes) => bytes,
        Outbound::Run(run) => run.as_slice(),
        Outbound::Received(received) => {
            &buffers[usize::from(received.lease.buffer)][received.range()]
        }
    }
}

#[cfg(test)]
mod outstanding;
