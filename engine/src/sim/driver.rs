//! The simulated kernel of one shard, as io_uring shows it or as epoll does. It completes what the
//! shard has queued in an order and in pieces of its own choosing, and checks that the shard keeps
//! its side of the contract.

mod complete;
mod inspect;
mod readiness;
mod socket;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::SystemTime;

pub(super) use self::readiness::Order;
use self::readiness::Readiness;
pub(crate) use self::socket::SimSocket;
use self::socket::{Manner, OpenSocket, Send};
use super::dice::Dice;
use super::kernel::Kernel;
use super::wire::{Faults, SharedWire};
use crate::config::TickLimits;
use crate::driver::{Completion, Driver, Errno, Key, Lease, Mark, Outbound, Wait};

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

/// How a listener accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Accept {
    Off,
    Multishot,
    Once,
}

pub(super) struct SimDriver {
    kernel: Rc<Kernel>,
    dice: Dice,
    shard: usize,
    accept: Accept,
    listening: bool,
    accept_cancelled: bool,
    next_socket: i32,
    sockets: BTreeMap<i32, OpenSocket>,
    buffers: Vec<Vec<u8>>,
    places: Vec<Place>,
    provided: VecDeque<u16>,
    /// Completed and not handed out yet, each with the time at which it was.
    waiting: VecDeque<(u64, Completion<SimSocket>)>,
    /// How many of them have been, ever.
    completions_handed_out: u64,
    /// With the order of epoll only.
    readiness: Option<Readiness>,
    /// Shards to wake when the queue of operations is submitted.
    wakes: Vec<usize>,
    /// What one tick may ask of the kernel, and what it has asked for in this one.
    limits: TickLimits,
    handed_out: usize,
    sends: usize,
    shut_downs: usize,
    overflows: u64,
}

/// How late a socket is found writable. Together with the pause of an accept less than the clock
/// may move while a world comes to rest.
const WRITABLE_LATE_MS_MAX: usize = 100;

impl SimDriver {
    pub(super) fn new(
        kernel: Rc<Kernel>,
        dice: Dice,
        shard: usize,
        limits: TickLimits,
        order: Order,
    ) -> Self {
        let buffers = dice.between(2, 8);
        let buffer_bytes = *dice.pick(&[7, 64, 600, 1_500]);
        let readiness = (order == Order::Epoll).then(|| Readiness::draw(&dice));
        Self {
            kernel,
            dice,
            shard,
            accept: Accept::Off,
            listening: true,
            accept_cancelled: false,
            next_socket: 3,
            sockets: BTreeMap::new(),
            buffers: vec![vec![0; buffer_bytes]; buffers],
            places: vec![Place::Spare; buffers],
            provided: VecDeque::new(),
            waiting: VecDeque::new(),
            completions_handed_out: 0,
            readiness,
            wakes: Vec::new(),
            limits,
            handed_out: 0,
            sends: 0,
            shut_downs: 0,
            overflows: 0,
        }
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

    fn open(&mut self, wire: SharedWire) -> SimSocket {
        let number = self.next_socket;
        self.next_socket += 1;
        wire.borrow_mut().accepted_ms = Some(self.kernel.now_ms.get());
        self.sockets.insert(number, OpenSocket::new(&wire));
        let kernel = Rc::clone(&self.kernel);
        SimSocket { number, wire, kernel }
    }

    fn arm_accept_as(&mut self, accept: Accept) {
        let is_off = self.accept == Accept::Off;
        assert!(is_off && self.listening, "accepting twice, or behind the end");
        self.accept = accept;
        self.queue_listener();
    }

    /// What was queued reaches the kernel: with a tick, or when the shard goes to sleep.
    pub(super) fn submit(&mut self) {
        for shard in self.wakes.drain(..) {
            self.kernel.woken.borrow_mut()[shard] = true;
        }
    }

    fn open_socket(&mut self, socket: &SimSocket) -> &mut OpenSocket {
        self.sockets.get_mut(&socket.number).expect("the shard names an open socket")
    }
}

impl Driver for SimDriver {
    type Socket = SimSocket;

    fn adopt(&mut self, _descriptor: OwnedFd) -> Option<SimSocket> {
        None
    }

    fn arm_accept(&mut self, _listener: usize) {
        self.arm_accept_as(Accept::Multishot);
    }

    fn arm_accept_once(&mut self, _listener: usize) {
        self.arm_accept_as(Accept::Once);
    }

    fn cancel_accept(&mut self, _listener: usize) {
        self.accept_cancelled = true;
        if self.readiness.is_some() {
            self.end_cancelled_accept();
        }
    }

    fn close_listener(&mut self, _listener: usize) {
        assert_eq!(self.accept, Accept::Off, "the listener is closed under its accept");
        self.listening = false;
        // Whoever waits to be accepted is reset.
        for wire in self.kernel.backlogs.borrow_mut()[self.shard].drain(..) {
            let mut wire = wire.borrow_mut();
            (wire.server_closed, wire.server_reset) = (true, true);
        }
    }

    fn arm_receive(&mut self, key: Key, socket: &SimSocket) {
        let number = socket.number;
        let socket = self.open_socket(socket);
        assert_eq!(socket.receive, None, "a receive armed twice");
        assert!(!socket.receive_ends, "a receive armed before its last completion");
        (socket.key, socket.receive) = (Some(key), Some(key));
        socket.manner = Manner::Multishot { is_cancelled: false };
        self.queue_socket(number);
    }

    fn arm_receive_once(&mut self, key: Key, socket: &SimSocket) {
        self.arm_receive(key, socket);
        self.open_socket(socket).manner = Manner::Once;
    }

    fn end_receive(&mut self, key: Key, socket: &SimSocket) {
        let is_at_once = self.readiness.is_some();
        let socket = self.open_socket(socket);
        // It may have ended by itself meanwhile.
        let Some(_) = socket.receive else { return };
        let Manner::Multishot { is_cancelled } = &mut socket.manner else { return };
        *is_cancelled = true;
        if is_at_once {
            (socket.receive, socket.receive_ends) = (None, true);
            let result = Err(Errno::CANCELLED);
            self.complete(Completion::Received { key, result, more: false });
        }
    }

    fn receive_into(&mut self, key: Key, socket: &SimSocket, buffer: Vec<u8>, bytes: usize) {
        assert!(bytes > 0 && buffer.capacity() - buffer.len() >= bytes, "no room");
        self.arm_receive(key, socket);
        self.open_socket(socket).manner = Manner::Into { buffer, bytes };
    }

    fn send(&mut self, key: Key, socket: &SimSocket, outbound: Outbound, offset: usize) {
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
        let number = socket.number;
        let socket = self.open_socket(socket);
        assert!(socket.send.is_none() && !socket.send_ends, "two sends in flight");
        if offset == 0 {
            socket.send_since_ms = now_ms;
        }
        let since_ms = socket.send_since_ms;
        socket.send = Some(Send { key, outbound, offset, since_ms, not_before_ms });
        if self.readiness.is_some() {
            self.try_send(number);
        }
    }

    fn shut_down(&mut self, _key: Key, socket: &SimSocket) {
        self.shut_downs += 1;
        let is_readiness = self.readiness.is_some();
        let socket = self.open_socket(socket);
        socket.is_shut_down = true;
        // As the driver on io_uring does where there is something unread.
        if !is_readiness
            && socket.has_unread()
            && let Manner::Multishot { is_cancelled } = &mut socket.manner
        {
            *is_cancelled = true;
        }
        // FIN goes out behind what the kernel has taken.
        let mut wire = socket.wire.borrow_mut();
        (wire.server_fin, wire.server_shut) = (true, true);
    }

    fn shut_down_write(&mut self, socket: &SimSocket) {
        let socket = self.open_socket(socket);
        assert!(socket.send.is_none() && !socket.send_ends, "FIN overtakes a send");
        socket.wire.borrow_mut().server_fin = true;
    }

    fn close(&mut self, socket: SimSocket) {
        let open = self.sockets.remove(&socket.number).expect("a socket is closed once");
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
        // An eventfd is written to at once; a message to a ring waits for the next enter.
        if self.readiness.is_some() {
            self.submit();
        }
    }

    fn tick(&mut self, _wait: Wait, completions: &mut Vec<Completion<SimSocket>>) {
        self.submit();
        (self.sends, self.shut_downs) = (0, 0);
        self.kernel.looks.set(0);
        self.provide();
        if self.readiness.is_some() {
            return self.take_turns(completions);
        }
        self.kernel.woken.borrow_mut()[self.shard] = false;
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
        completed.into_iter().for_each(|completion| self.complete(completion));
        self.hand_out(completions);
    }

    fn completions_waiting(&self) -> usize {
        self.waiting.len() + self.readiness.as_ref().map_or(0, Readiness::turns)
    }

    fn mark(&self) -> Mark {
        let turns = self.readiness.as_ref().map_or(0, Readiness::turns_ever);
        Mark { completions: self.completions_handed_out + self.waiting.len() as u64, turns }
    }

    fn has_handed_out(&self, mark: Mark) -> bool {
        let turns = self.readiness.as_ref().map_or(0, Readiness::turns_taken);
        self.completions_handed_out >= mark.completions && turns >= mark.turns
    }

    fn overflows(&self) -> u64 {
        self.overflows
    }

    fn trim(&mut self) {}

    fn now_ms(&self) -> u64 {
        self.kernel.now_ms.get()
    }

    fn system_time() -> SystemTime {
        // The same in every run.
        SystemTime::UNIX_EPOCH
    }
}
