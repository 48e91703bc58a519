//! The simulated kernel of one shard. It completes what the shard has queued in an order and
//! in pieces of its own choosing, and checks that the shard keeps its side of the contract.

mod complete;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::SystemTime;

use super::Outstanding;
use super::dice::Dice;
use super::kernel::Kernel;
use super::wire::{Faults, SharedWire};
use crate::config::TickLimits;
use crate::driver::{
    Completion, Descriptor, Driver, Errno, Key, Lease, Mark, Outbound, Socket, Wait,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Spare,
    Provided,
    Leased,
    /// Leased, and a send reads from it.
    Outbound,
    /// Filled, and its completion is not handed out yet.
    Filled,
}

/// A socket as the shard has it.
pub(crate) struct SimSocket {
    number: i32,
    wire: SharedWire,
    kernel: Rc<Kernel>,
}

impl std::fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.number)
    }
}

struct Send {
    key: Key,
    outbound: Outbound,
    offset: usize,
    /// When its first byte was queued.
    since_ms: u64,
    /// Before that the socket is not found writable, whatever room there is.
    not_before_ms: u64,
}

/// How a receive completes.
enum Manner {
    Multishot {
        is_cancelled: bool,
    },
    Once,
    /// Behind what is in a buffer of the message's own, with so many bytes at most.
    Into {
        buffer: Vec<u8>,
        bytes: usize,
    },
}

struct OpenSocket {
    wire: SharedWire,
    /// Its connection, once a receive was armed.
    key: Option<Key>,
    receive: Option<Key>,
    /// How the receive that is armed completes.
    manner: Manner,
    send: Option<Send>,
    send_since_ms: u64,
    /// It has been shut down both ways: what is in flight ends.
    is_shut_down: bool,
    /// The last completion of the receive, of the send, that waits to be handed out.
    receive_ends: bool,
    send_ends: bool,
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
    /// Completed and not handed out yet.
    waiting: VecDeque<Completion>,
    /// How many of them have been, ever.
    completions_handed_out: u64,
    /// Shards to wake when the queue of operations is submitted.
    wakes: Vec<usize>,
    /// What one tick may ask of the kernel, and what it has asked for in this one.
    limits: TickLimits,
    handed_out: usize,
    sends: usize,
    shut_downs: usize,
    overflows: u64,
}

/// `EMFILE`, and what else the kernel says here.
const EMFILE: Errno = Errno(libc::EMFILE);
const ECANCELED: Errno = Errno(libc::ECANCELED);
const ECONNRESET: Errno = Errno(libc::ECONNRESET);
const EPIPE: Errno = Errno(libc::EPIPE);
/// How late a socket is found writable. Together with the pause of an accept less than the clock
/// may move while a world comes to rest.
const WRITABLE_LATE_MS_MAX: usize = 100;
/// A send for which there is room is over by then.
const SEND_LATE_MS_MAX: u64 = 200;
/// How a network fails.
const BROKEN: [i32; 5] =
    [libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::ENOMEM, libc::EIO];

impl SimDriver {
    pub(super) fn new(kernel: Rc<Kernel>, dice: Dice, shard: usize, limits: TickLimits) -> Self {
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
            waiting: VecDeque::new(),
            completions_handed_out: 0,
            wakes: Vec::new(),
            limits,
            handed_out: 0,
            sends: 0,
            shut_downs: 0,
            overflows: 0,
        }
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listening
    }

    /// Whether the kernel has something for a shard that waits.
    pub(super) fn is_ready(&self) -> bool {
        let backlog = !self.kernel.backlogs.borrow()[self.shard].is_empty();
        !self.waiting.is_empty()
            || (self.accepting && (backlog || self.accept_cancelled))
            || self.sockets.values().any(|socket| socket.is_ready(self.kernel.now_ms.get()))
    }

    /// Whether some socket will only be found writable later.
    pub(super) fn is_holding(&self) -> bool {
        let now_ms = self.kernel.now_ms.get();
        let mut sends = self.sockets.values().filter_map(|socket| socket.send.as_ref());
        sends.any(|send| send.not_before_ms > now_ms)
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

    fn open(&mut self, wire: SharedWire) -> Socket {
        let number = self.next_socket;
        self.next_socket += 1;
        wire.borrow_mut().accepted_ms = Some(self.kernel.now_ms.get());
        let open = OpenSocket {
            wire: Rc::clone(&wire),
            key: None,
            receive: None,
            manner: Manner::Multishot { is_cancelled: false },
            send: None,
            send_since_ms: 0,
            is_shut_down: false,
            receive_ends: false,
            send_ends: false,
        };
        self.sockets.insert(number, open);
        let kernel = Rc::clone(&self.kernel);
        Socket(Descriptor::Simulated(SimSocket { number, wire, kernel }))
    }

    /// What was queued reaches the kernel: with a tick, or when the shard goes to sleep.
    pub(super) fn submit(&mut self) {
        for shard in self.wakes.drain(..) {
            self.kernel.woken.borrow_mut()[shard] = true;
        }
    }

    fn open_socket(&mut self, socket: &Socket) -> &mut OpenSocket {
        self.sockets.get_mut(&number_of(socket)).expect("the shard names an open socket")
    }
}

impl OpenSocket {
    fn is_ready(&self, now_ms: u64) -> bool {
        let wire = self.wire.borrow();
        let receive = self.receive.is_some()
            && (self.is_shut_down
                || matches!(self.manner, Manner::Multishot { is_cancelled: true })
                || wire.broken.is_some()
                || wire.client_reset
                || wire.client_fin
                || !wire.to_server.is_empty());
        let is_writable =
            |send: &Send| send.not_before_ms <= now_ms && wire.to_client.len() < wire.window_bytes;
        let is_over = self.is_shut_down || wire.broken.is_some() || wire.client_reset;
        receive || self.send.as_ref().is_some_and(|send| is_over || is_writable(send))
    }
}

impl Outstanding for SimDriver {
    fn outstanding(&self, socket: &Socket) -> (bool, bool) {
        let open = &self.sockets[&number_of(socket)];
        (open.receive.is_some() || open.receive_ends, open.send.is_some() || open.send_ends)
    }

    fn handed_out(&self) -> usize {
        self.handed_out
    }

    fn shut_downs(&self) -> usize {
        self.shut_downs
    }

    fn looks(&self) -> usize {
        self.kernel.looks.get()
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
        assert!(!socket.receive_ends, "a receive armed before its last completion");
        (socket.key, socket.receive) = (Some(key), Some(key));
        socket.manner = Manner::Multishot { is_cancelled: false };
    }

    fn arm_receive_once(&mut self, key: Key, socket: &Socket) {
        self.arm_receive(key, socket);
        self.open_socket(socket).manner = Manner::Once;
    }

    fn end_receive(&mut self, _key: Key, socket: &Socket) {
        let socket = self.open_socket(socket);
        // It may have ended by itself meanwhile.
        if let Manner::Multishot { is_cancelled } = &mut socket.manner {
            *is_cancelled = socket.receive.is_some();
        }
    }

    fn receive_into(&mut self, key: Key, socket: &Socket, buffer: Vec<u8>, bytes: usize) {
        assert!(bytes > 0 && buffer.capacity() - buffer.len() >= bytes, "no room");
        self.arm_receive(key, socket);
        self.open_socket(socket).manner = Manner::Into { buffer, bytes };
    }

    fn send(&mut self, key: Key, socket: &Socket, outbound: Outbound, offset: usize) {
        assert!(offset < outbound.bytes(), "a send of nothing");
        if let Outbound::Received(received) = &outbound {
            let place = &mut self.places[received.lease.buffer as usize];
            assert_eq!(*place, Place::Leased, "sent from a buffer without a lease");
            *place = Place::Outbound;
        }
        self.sends += 1;
        let sends_max = self.limits.sends_max + self.handed_out;
        assert!(self.sends <= sends_max, "{} sends in one tick", self.sends);
        if let Outbound::Run(run) = &outbound {
            let (sent, kept) = (run.as_slice().len(), run.bytes.len());
            assert!(2 * sent >= kept, "a reference to {sent} bytes keeps {kept}");
        }
        let now_ms = self.kernel.now_ms.get();
        let mut not_before_ms = now_ms;
        // Not again for the rest of a short send: that would add up to a deadline.
        if offset == 0 && self.strikes(self.faults().writable_late) {
            not_before_ms += self.dice.between(1, WRITABLE_LATE_MS_MAX) as u64;
        }
        let socket = self.open_socket(socket);
        assert!(socket.send.is_none() && !socket.send_ends, "two sends in flight");
        if offset == 0 {
            socket.send_since_ms = now_ms;
        }
        let since_ms = socket.send_since_ms;
        socket.send = Some(Send { key, outbound, offset, since_ms, not_before_ms });
    }

    fn shut_down(&mut self, socket: &Socket) {
        self.shut_downs += 1;
        let socket = self.open_socket(socket);
        socket.is_shut_down = true;
        // FIN goes out behind what the kernel has taken.
        let mut wire = socket.wire.borrow_mut();
        (wire.server_fin, wire.server_shut) = (true, true);
    }

    fn shut_down_write(&mut self, socket: &Socket) {
        let socket = self.open_socket(socket);
        assert!(socket.send.is_none() && !socket.send_ends, "FIN overtakes a send");
        socket.wire.borrow_mut().server_fin = true;
    }

    fn close(&mut self, socket: Socket) {
        let open = self.sockets.remove(&number_of(&socket)).expect("a socket is closed once");
        assert_eq!(open.receive, None, "closed under a receive");
        assert!(
            open.send.is_none() && !open.receive_ends && !open.send_ends,
            "closed under a send"
        );
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
        self.wakes.push(shard);
    }

    fn tick(&mut self, _wait: Wait, completions: &mut Vec<Completion>) {
        self.submit();
        (self.sends, self.shut_downs) = (0, 0);
        self.kernel.looks.set(0);
        self.kernel.woken.borrow_mut()[self.shard] = false;
        self.provide();
        let mut completed = Vec::new();
        self.accept(&mut completed);
        let mut numbers: Vec<i32> = self.sockets.keys().copied().collect();
        let start = self.dice.below(numbers.len());
        numbers.rotate_left(start);
        // Sometimes the kernel is interrupted half way; the rest comes with a later tick.
        let mut taken = numbers.len();
        if self.dice.chance(20) {
            taken = self.dice.below(numbers.len() + 1);
            self.overflows += u64::from(taken < numbers.len());
        }
        for number in numbers.into_iter().take(taken) {
            self.progress(number, &mut completed);
        }
        if self.dice.chance(10) {
            completed.push(Completion::Woken);
        }
        self.waiting.extend(completed);
        self.hand_out(completions);
    }

    fn completions_waiting(&self) -> usize {
        self.waiting.len()
    }

    fn mark(&self) -> Mark {
        Mark { completions: self.completions_handed_out + self.waiting.len() as u64, turns: 0 }
    }

    fn has_handed_out(&self, mark: Mark) -> bool {
        self.completions_handed_out >= mark.completions
    }

    fn overflows(&self) -> u64 {
        self.overflows
    }

    fn trim(&mut self) {}

    fn unread_bytes(socket: &Socket) -> u32 {
        let socket = simulated(socket);
        let mut wire = socket.wire.borrow_mut();
        wire.asked_ms.get_or_insert(socket.kernel.now_ms.get());
        socket.kernel.looks.set(socket.kernel.looks.get() + 1);
        wire.to_server.len() as u32
    }

    fn unacknowledged_bytes(socket: &Socket) -> u32 {
        simulated(socket).wire.borrow().to_client.len() as u32
    }

    fn now_ms(&self) -> u64 {
        self.kernel.now_ms.get()
    }

    fn system_time() -> SystemTime {
        // The same in every run.
        SystemTime::UNIX_EPOCH
    }

    fn peer_addr(_socket: &Socket) -> Option<SocketAddr> {
        None
    }
}

fn number_of(socket: &Socket) -> i32 {
    simulated(socket).number
}

fn simulated(socket: &Socket) -> &SimSocket {
    match &socket.0 {
        Descriptor::Simulated(socket) => socket,
        Descriptor::Open(_) => panic!("a socket of another driver"),
    }
}
