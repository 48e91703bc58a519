//! The simulated kernel of one shard. It completes what the shard has queued in an order and
//! in pieces of its own choosing, and checks that the shard keeps its side of the contract.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

use super::Outstanding;
use super::dice::Dice;
use super::wire::{Faults, SharedWire};
use crate::driver::{Completion, Descriptor, Driver, Errno, Key, Lease, Outbound, Socket, Wait};

/// What the world and a shard's driver both see.
pub(super) struct Kernel {
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
}

impl Kernel {
    fn strike(&self) {
        self.strikes.set(self.strikes.get() + 1);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Spare,
    Provided,
    Leased,
    /// Leased, and a send reads from it.
    Outbound,
}

struct Send {
    key: Key,
    outbound: Outbound,
    offset: usize,
}

struct OpenSocket {
    wire: SharedWire,
    receive: Option<Key>,
    send: Option<Send>,
    /// A cancel has been queued for what is in flight.
    cancelled: bool,
}

pub(super) struct SimDriver {
    kernel: Rc<Kernel>,
    dice: Dice,
    shard: usize,
    accepting: bool,
    listening: bool,
    accept_cancelled: bool,
    next_socket: i32,
    sockets: BTreeMap<i32, OpenSocket>,
    buffers: Vec<Vec<u8>>,
    places: Vec<Place>,
    provided: VecDeque<u16>,
    overflows: u64,
}

/// `EMFILE`, and what else the kernel says here.
const EMFILE: Errno = Errno(libc::EMFILE);
const ECANCELED: Errno = Errno(libc::ECANCELED);
const ECONNRESET: Errno = Errno(libc::ECONNRESET);
const EPIPE: Errno = Errno(libc::EPIPE);

impl SimDriver {
    pub(super) fn new(kernel: Rc<Kernel>, dice: Dice, shard: usize) -> Self {
        let buffers = dice.between(2, 8);
        let buffer_bytes = *dice.pick(&[7, 64, 600, 1_500]);
        Self {
            kernel,
            dice,
            shard,
            accepting: false,
            listening: true,
            accept_cancelled: false,
            next_socket: 3,
            sockets: BTreeMap::new(),
            buffers: vec![vec![0; buffer_bytes]; buffers],
            places: vec![Place::Spare; buffers],
            provided: VecDeque::new(),
            overflows: 0,
        }
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listening
    }

    /// Whether the kernel has something for a shard that waits.
    pub(super) fn is_ready(&self) -> bool {
        let backlog = !self.kernel.backlogs.borrow()[self.shard].is_empty();
        (self.accepting && (backlog || self.accept_cancelled))
            || self.sockets.values().any(OpenSocket::is_ready)
    }

    fn faults(&self) -> Faults {
        self.kernel.faults.borrow().clone()
    }

    fn strikes(&self, percent: usize) -> bool {
        let strikes = self.dice.chance(percent);
        if strikes {
            self.kernel.strike();
        }
        strikes
    }

    fn provide(&mut self) {
        for (buffer, place) in self.places.iter_mut().enumerate() {
            if *place == Place::Spare {
                *place = Place::Provided;
                self.provided.push_back(buffer as u16);
            }
        }
    }

    fn accept(&mut self, completions: &mut Vec<Completion>) {
        if self.accept_cancelled && !self.strikes(self.faults().cancel_late) {
            self.accept_cancelled = false;
            if std::mem::take(&mut self.accepting) {
                completions.push(Completion::Accepted {
                    listener: 0,
                    result: Err(ECANCELED),
                    more: false,
                });
            }
        }
        let faults = self.faults();
        while self.accepting {
            let Some(wire) = self.kernel.backlogs.borrow_mut()[self.shard].pop_front() else {
                break;
            };
            if self.strikes(faults.accept_exhausted) {
                // The connection stays in the backlog.
                self.kernel.backlogs.borrow_mut()[self.shard].push_front(wire);
                self.accepting = false;
                completions.push(Completion::Accepted {
                    listener: 0,
                    result: Err(EMFILE),
                    more: false,
                });
                break;
            }
            self.accepting = !self.strikes(faults.lost_more);
            let socket = self.open(wire);
            completions.push(Completion::Accepted {
                listener: 0,
                result: Ok(socket),
                more: self.accepting,
            });
        }
    }

    fn open(&mut self, wire: SharedWire) -> Socket {
        let number = self.next_socket;
        self.next_socket += 1;
        let open = OpenSocket { wire, receive: None, send: None, cancelled: false };
        self.sockets.insert(number, open);
        self.kernel.sockets.borrow_mut()[self.shard] += 1;
        Socket(Descriptor::Simulated(number))
    }

    /// Completes what may be completed on one socket.
    fn progress(&mut self, number: i32, completions: &mut Vec<Completion>) {
        let faults = self.faults();
        let is_cancelled = self.sockets[&number].cancelled;
        if is_cancelled && !self.strikes(faults.delay) {
            self.progress_cancelled(number, &faults, completions);
            return;
        }
        // Receives and sends complete in either order.
        if self.dice.chance(50) {
            self.progress_receive(number, &faults, completions);
            self.progress_send(number, &faults, completions);
        } else {
            self.progress_send(number, &faults, completions);
            self.progress_receive(number, &faults, completions);
        }
    }

    fn progress_cancelled(
        &mut self,
        number: i32,
        faults: &Faults,
        completions: &mut Vec<Completion>,
    ) {
        if self.strikes(faults.cancel_late) {
            self.progress_receive(number, faults, completions);
            self.progress_send(number, faults, completions);
        }
        // Both end now or one of them later.
        let (receive_ends, send_ends) = (!self.strikes(faults.delay), !self.strikes(faults.delay));
        let Some(socket) = self.sockets.get_mut(&number) else { return };
        if receive_ends && let Some(key) = socket.receive.take() {
            let result = Err(ECANCELED);
            completions.push(Completion::Received { key, result, more: false });
        }
        if send_ends && let Some(send) = socket.send.take() {
            self.complete_send(send, Err(ECANCELED), completions);
        }
    }

    fn progress_receive(
        &mut self,
        number: i32,
        faults: &Faults,
        completions: &mut Vec<Completion>,
    ) {
        // A multishot completes several times in one pass.
        for _ in 0..4 {
            let Some(key) = self.sockets[&number].receive else { return };
            if self.strikes(faults.delay) {
                return;
            }
            let Some((result, more)) = self.receive_once(number, faults) else { return };
            if !more {
                self.sockets.get_mut(&number).expect("looked up just before").receive = None;
            }
            completions.push(Completion::Received { key, result, more });
        }
    }

    /// One completion of a receive: its result and whether it stays armed.
    fn receive_once(
        &mut self,
        number: i32,
        faults: &Faults,
    ) -> Option<(Result<Option<Lease>, Errno>, bool)> {
        let wire = Rc::clone(&self.sockets[&number].wire);
        let mut wire = wire.borrow_mut();
        // What has arrived is received before the reset behind it, often in the same pass.
        if wire.client_reset && wire.to_server.is_empty() {
            return Some((Err(ECONNRESET), false));
        }
        if wire.to_server.is_empty() && !wire.client_fin {
            return None;
        }
        let Some(&buffer) = self.provided.front() else {
            // Without a buffer even the end of the stream arrives as this.
            self.kernel.strike();
            return Some((Err(Errno::NO_BUFFERS), false));
        };
        if wire.to_server.is_empty() {
            return Some((Ok(None), false));
        }
        self.provided.pop_front();
        self.places[buffer as usize] = Place::Leased;
        let room = &mut self.buffers[buffer as usize];
        let mut bytes = wire.to_server.len().min(room.len());
        if self.dice.chance(faults.short_receive) {
            self.kernel.strike();
            bytes = self.dice.between(1, bytes);
        }
        for (place, byte) in room.iter_mut().zip(wire.to_server.drain(..bytes)) {
            *place = byte;
        }
        let more = !self.dice.chance(faults.lost_more);
        Some((Ok(Some(Lease { buffer, bytes: bytes as u32 })), more))
    }

    fn progress_send(&mut self, number: i32, faults: &Faults, completions: &mut Vec<Completion>) {
        if self.strikes(faults.delay) {
            return;
        }
        let short = self.strikes(faults.short_send);
        let socket = self.sockets.get_mut(&number).expect("a socket that is open");
        let Some(send) = &socket.send else { return };
        let mut wire = socket.wire.borrow_mut();
        let result = if wire.client_reset {
            Err(EPIPE)
        } else {
            let bytes = match &send.outbound {
                Outbound::Own(bytes) => bytes.as_slice(),
                Outbound::Run(run) => run.as_slice(),
                Outbound::Received(received) => {
                    &self.buffers[received.lease.buffer as usize][received.range()]
                }
            };
            let bytes = &bytes[send.offset..];
            let room = wire.window_bytes.saturating_sub(wire.to_client.len());
            let mut taken = bytes.len().min(room);
            if taken == 0 {
                return;
            }
            if short {
                taken = self.dice.between(1, taken);
            }
            assert!(!wire.server_fin, "bytes behind our FIN");
            wire.to_client.extend(&bytes[..taken]);
            Ok(taken as u32)
        };
        drop(wire);
        let send = socket.send.take().expect("seen just before");
        self.complete_send(send, result, completions);
    }

    fn complete_send(
        &mut self,
        send: Send,
        result: Result<u32, Errno>,
        completions: &mut Vec<Completion>,
    ) {
        let Send { key, outbound, .. } = send;
        if let Outbound::Received(received) = &outbound {
            self.places[received.lease.buffer as usize] = Place::Leased;
        }
        completions.push(Completion::Sent { key, result, outbound });
    }

    fn open_socket(&mut self, socket: &Socket) -> &mut OpenSocket {
        self.sockets.get_mut(&number_of(socket)).expect("the shard names an open socket")
    }
}

impl OpenSocket {
    fn is_ready(&self) -> bool {
        let wire = self.wire.borrow();
        let receive = self.receive.is_some()
            && (self.cancelled
                || wire.client_reset
                || wire.client_fin
                || !wire.to_server.is_empty());
        let send = self.send.is_some()
            && (self.cancelled || wire.client_reset || wire.to_client.len() < wire.window_bytes);
        receive || send
    }
}

impl Outstanding for SimDriver {
    fn outstanding(&self, socket: &Socket) -> (bool, bool) {
        let open = &self.sockets[&number_of(socket)];
        (open.receive.is_some(), open.send.is_some())
    }

    fn leases(&self) -> usize {
        let leased = [Place::Leased, Place::Outbound];
        self.places.iter().filter(|place| leased.contains(place)).count()
    }
}

impl Driver for SimDriver {
    fn arm_accept(&mut self, _listener: usize) {
        assert!(!self.accepting && self.listening, "accepting twice, or behind the end");
        self.accepting = true;
    }

    fn cancel_accept(&mut self, _listener: usize) {
        self.accept_cancelled = true;
    }

    fn close_listener(&mut self, _listener: usize) {
        assert!(!self.accepting, "the listener is closed under its accept");
        self.listening = false;
        // Whoever waits to be accepted is reset.
        for wire in self.kernel.backlogs.borrow_mut()[self.shard].drain(..) {
            let mut wire = wire.borrow_mut();
            (wire.server_closed, wire.server_reset) = (true, true);
        }
    }

    fn arm_receive(&mut self, key: Key, socket: &Socket) {
        let socket = self.open_socket(socket);
        assert_eq!(socket.receive, None, "a receive armed twice");
        socket.receive = Some(key);
    }

    fn send(&mut self, key: Key, socket: &Socket, outbound: Outbound, offset: usize) {
        assert!(offset < outbound.bytes(), "a send of nothing");
        if let Outbound::Received(received) = &outbound {
            let place = &mut self.places[received.lease.buffer as usize];
            assert_eq!(*place, Place::Leased, "sent from a buffer without a lease");
            *place = Place::Outbound;
        }
        let socket = self.open_socket(socket);
        assert!(socket.send.is_none(), "two sends in flight");
        socket.send = Some(Send { key, outbound, offset });
    }

    fn cancel(&mut self, socket: &Socket) {
        self.open_socket(socket).cancelled = true;
    }

    fn shut_down_write(&mut self, socket: &Socket) {
        let socket = self.open_socket(socket);
        assert!(socket.send.is_none(), "FIN overtakes a send");
        socket.wire.borrow_mut().server_fin = true;
    }

    fn close(&mut self, socket: Socket) {
        let open = self.sockets.remove(&number_of(&socket)).expect("a socket is closed once");
        assert_eq!(open.receive, None, "closed under a receive");
        assert!(open.send.is_none(), "closed under a send");
        self.kernel.sockets.borrow_mut()[self.shard] -= 1;
        let mut wire = open.wire.borrow_mut();
        wire.server_closed = true;
        if wire.to_server.is_empty() {
            wire.server_fin = true;
        } else {
            // Closing with input unread sends a reset, and that takes what is on its way.
            wire.server_reset = true;
            wire.to_client.clear();
        }
    }

    fn received<'a>(&'a mut self, lease: &'a Lease) -> &'a mut [u8] {
        assert_eq!(self.places[lease.buffer as usize], Place::Leased);
        &mut self.buffers[lease.buffer as usize][..lease.bytes()]
    }

    fn recycle(&mut self, lease: Lease) {
        let place = &mut self.places[lease.buffer as usize];
        assert_eq!(*place, Place::Leased, "recycled without a lease");
        *place = Place::Spare;
        // Whoever still looks at it sees that it is somebody else's now.
        self.buffers[lease.buffer as usize].fill(0xDB);
    }

    fn wake(&mut self, shard: usize) {
        self.kernel.woken.borrow_mut()[shard] = true;
    }

    fn tick(&mut self, _wait: Wait, completions: &mut Vec<Completion>) {
        self.kernel.woken.borrow_mut()[self.shard] = false;
        self.provide();
        self.accept(completions);
        let mut numbers: Vec<i32> = self.sockets.keys().copied().collect();
        let start = self.dice.below(numbers.len());
        numbers.rotate_left(start);
        // Sometimes the completion queue is full half way; the rest comes with a later tick.
        let mut taken = numbers.len();
        if self.dice.chance(20) {
            taken = self.dice.below(numbers.len() + 1);
            self.overflows += u64::from(taken < numbers.len());
        }
        for number in numbers.into_iter().take(taken) {
            self.progress(number, completions);
        }
        if self.dice.chance(10) {
            completions.push(Completion::Woken);
        }
    }

    fn overflows(&self) -> u64 {
        self.overflows
    }

    fn now_ms(&self) -> u64 {
        self.kernel.now_ms.get()
    }

    fn peer_addr(_socket: &Socket) -> Option<SocketAddr> {
        None
    }
}

fn number_of(socket: &Socket) -> i32 {
    match socket.0 {
        Descriptor::Simulated(number) => number,
        Descriptor::Open(_) => panic!("a socket of another driver"),
    }
}
