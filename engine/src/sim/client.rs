//! The clients of a simulated world: `ringwire-proto` in the client role, with manners drawn
//! per client, and bytes no client should send.

mod answers;
mod plain;
mod speech;

use std::collections::VecDeque;
use std::rc::Rc;

use ringwire_proto::{Connection, Event, IncomingLimits, Message};

use self::plain::Plain;
use super::dice::Dice;
use super::kernel::Kernel;
use super::label::ClientNumber;
use super::model::SharedModel;
use super::wire::{SharedWire, Wire};

type MaskKeys = fn() -> [u8; 4];

/// That of every run.
pub(super) const HANDSHAKE_TIMEOUT_MS: u64 = 2_000;

/// What the server's kernel takes before the server reads. Small, because receive buffers are: the
/// whole of it is read in fewer ticks than an end may take.
const RECEIVE_WINDOW_BYTES: usize = 20_000;

/// What the kernels hold for a client that reads without a pause: little, as with a server that
/// keeps its queue in the kernel short.
const STEADY_WINDOW_BYTES: usize = 300;
/// What such a client reads at a time.
const STEADY_READ_BYTES: usize = 50;
/// Who reads as much as this within the shortest deadline is not behind: what the kernels hold, a
/// control frame, and what the least rate of a run takes.
const STEADY_BYTES_MIN: usize = 2 * STEADY_WINDOW_BYTES;

const KEY: [u8; 16] = *b"the sample nonce";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Open,
    /// Has sent Close, FIN or reset, or has been closed.
    Leaving,
    Gone,
}

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manners {
    Polite,
    /// Reads little and late.
    Slow,
    /// Sends what no client should.
    Hostile,
}

pub(super) struct Client {
    number: ClientNumber,
    dice: Dice,
    kernel: Rc<Kernel>,
    wire: SharedWire,
    model: SharedModel,
    pub(super) manners: Manners,
    /// Reads little at a time and without a pause, in a polite client.
    is_steady: bool,
    /// What it has read of late: times, oldest first, each with its bytes.
    reads: VecDeque<(u64, usize)>,
    /// Since when there is something that it should have done: its request or a message is not all
    /// written, or what has come is not read.
    behind_since_ms: Option<u64>,
    /// When it last wrote anything.
    wrote_ms: u64,
    stage: Stage,
    connection: Connection<MaskKeys>,
    /// Made and not yet written.
    out: Vec<u8>,
    plain: Plain,
    is_upgraded: bool,
    messages: u64,
    /// The newest ping, by the number in its payload, and the newest pong.
    pinged: u64,
    ponged: u64,
    close_seen: bool,
    /// It asks for what the server does not have.
    is_refused: bool,
    /// Something happened after which the server owes it no proper end.
    pub(super) excused: bool,
}

impl Client {
    pub(super) fn new(
        number: ClientNumber,
        dice: &Dice,
        kernel: &Rc<Kernel>,
        model: &SharedModel,
        manners: Manners,
    ) -> (Self, SharedWire) {
        let wire: SharedWire = Rc::default();
        let slow_window = dice.between(100, 3_000);
        let is_steady = manners == Manners::Polite && dice.chance(30);
        let window = match manners {
            Manners::Slow => slow_window,
            _ if is_steady => STEADY_WINDOW_BYTES,
            _ => 1 << 20,
        };
        wire.borrow_mut().window_bytes = window;
        let client = Self {
            number,
            dice: dice.clone(),
            kernel: Rc::clone(kernel),
            wire: Rc::clone(&wire),
            model: Rc::clone(model),
            manners,
            is_steady,
            reads: VecDeque::new(),
            behind_since_ms: Some(kernel.now_ms.get()),
            wrote_ms: kernel.now_ms.get(),
            stage: Stage::Opening,
            connection: Connection::client(|| [0x5A, 0x01, 0xF0, 0x33]),
            out: Vec::new(),
            plain: Plain::draw(dice, dice.chance(model.borrow().habits.plain)),
            is_upgraded: false,
            messages: 0,
            pinged: 0,
            ponged: 0,
            close_seen: false,
            is_refused: dice.chance(3),
            excused: manners != Manners::Polite,
        };
        let mut client = client;
        client.ask_first();
        if manners == Manners::Hostile && !client.out.is_empty() && dice.chance(20) {
            // Not in the target: that is another client's name.
            let first_line = client.out.iter().position(|&byte| byte == b'\n').unwrap_or(0);
            let head = client.out.windows(4).position(|four| four == b"\r\n\r\n");
            let at = dice.between(first_line, head.map_or(client.out.len() - 1, |at| at + 3));
            client.out[at] ^= 1 << dice.below(8);
        }
        (client, wire)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    /// Whether it waits for nothing: all is written and read, or it is gone.
    pub(super) fn is_settled(&self) -> bool {
        match self.stage {
            _ if self.manners != Manners::Polite => true,
            Stage::Opening | Stage::Open => self.is_quiet(),
            Stage::Leaving => self.excused && self.is_quiet(),
            Stage::Gone => true,
        }
    }

    /// Whether its newest ping was answered (RFC 6455 §5.5.3: older ones need not be).
    pub(super) fn is_answered(&self) -> bool {
        self.stage != Stage::Open || self.ponged == self.pinged
    }

    fn is_quiet(&self) -> bool {
        self.out.is_empty() && self.wire.borrow().to_client.is_empty()
    }

    /// One small thing of its choice.
    pub(super) fn step(&mut self, reset_percent: usize) {
        self.note_network();
        match self.dice.below(10) {
            0..=2 => self.write(),
            3..=5 => self.read(),
            6..=8 => self.speak(),
            _ if self.dice.chance(reset_percent) => self.reset(),
            _ if self.dice.chance(2) => self.leave(),
            _ => {}
        }
    }

    /// Everything it still has to write and to read.
    pub(super) fn catch_up(&mut self) {
        self.note_network();
        let out = std::mem::take(&mut self.out);
        self.put(&out);
        let bytes: Vec<u8> = self.wire.borrow_mut().to_client.drain(..).collect();
        self.take(bytes);
        self.note_end();
    }

    /// Ends the connection one way or another.
    pub(super) fn leave(&mut self) {
        match (self.stage, self.dice.below(4)) {
            (Stage::Gone, _) => {}
            (Stage::Open, 0..=2) => {
                self.connection.close(&mut self.out, ringwire_proto::CloseCode::NORMAL, "bye");
                self.stage = Stage::Leaving;
            }
            _ => {
                self.excused = true;
                self.out.clear();
                self.wire.borrow_mut().client_fin = true;
                self.stage = Stage::Leaving;
            }
        }
    }

    pub(super) fn reset(&mut self) {
        self.excused = true;
        let mut wire = self.wire.borrow_mut();
        wire.client_reset = true;
        // What it has sent is lost on its way, or has arrived before the reset.
        if self.dice.chance(50) {
            wire.lose_input();
        }
        self.stage = Stage::Gone;
    }

    fn write(&mut self) {
        let bytes = self.dice.between(0, self.out.len().min(3_000));
        let bytes: Vec<u8> = self.out.drain(..bytes).collect();
        self.put(&bytes);
    }

    fn put(&mut self, bytes: &[u8]) {
        let now_ms = self.kernel.now_ms.get();
        let mut wire = self.wire.borrow_mut();
        if self.stage != Stage::Gone && !wire.server_closed && !wire.client_fin {
            wire.arrive(now_ms, bytes);
            if !bytes.is_empty() && !wire.server_shut {
                self.wrote_ms = now_ms;
                drop(wire);
                self.note_written(bytes.len(), now_ms);
            }
        }
    }

    /// Nobody owes anybody anything where the network has failed.
    fn note_network(&mut self) {
        self.excused |= self.wire.borrow().broken.is_some();
    }

    /// Whether it has done everything that is its turn to do.
    fn is_up_to_date(&self) -> bool {
        let wire = self.wire.borrow();
        let has_ended = wire.server_fin || wire.server_closed;
        self.is_gone() || (self.out.is_empty() && wire.to_client.is_empty() && !has_ended)
    }

    /// Reads on without a pause, and writes what it has to.
    pub(super) fn go_on_reading(&mut self) {
        if self.is_steady {
            self.note_network();
            let out = std::mem::take(&mut self.out);
            self.put(&out);
            self.read();
        }
    }

    /// Time has passed that is nobody's.
    pub(super) fn skip_time(&mut self, ms: u64) {
        self.behind_since_ms = self.behind_since_ms.map(|since_ms| since_ms + ms);
        self.wrote_ms += ms;
        self.reads.iter_mut().for_each(|(read_ms, _)| *read_ms += ms);
        let mut wire = self.wire.borrow_mut();
        wire.accepted_ms = wire.accepted_ms.map(|accepted_ms| accepted_ms + ms);
        drop(wire);
        self.plain.skip_time(ms);
    }

    /// Whether it has read so much of late that it cannot be taken for gone.
    fn is_reading(&mut self, window_ms: u64) -> bool {
        let now_ms = self.kernel.now_ms.get();
        while self.reads.front().is_some_and(|(read_ms, _)| read_ms + window_ms < now_ms) {
            self.reads.pop_front();
        }
        self.reads.iter().map(|(_, bytes)| bytes).sum::<usize>() >= STEADY_BYTES_MIN
    }

    /// Time has passed: a deadline may strike who has left something undone for that long, and the
    /// idle timeout who has said nothing. Nobody else: what it has written counts from when it
    /// arrived, whenever the server reads it.
    pub(super) fn note_time(&mut self, before_ms: u64, shortest_deadline_ms: u64) {
        let now_ms = self.kernel.now_ms.get();
        let is_reading = self.out.is_empty() && self.is_reading(shortest_deadline_ms);
        if self.is_up_to_date() || is_reading {
            self.behind_since_ms = None;
        } else {
            let since_ms = *self.behind_since_ms.get_or_insert(before_ms);
            self.excused |= now_ms - since_ms >= shortest_deadline_ms;
        }
    }

    /// Whether the server may have ended it because a deadline of that name was over.
    pub(super) fn may_time_out(&self, reason: &str, idle_timeout_ms: u64) -> bool {
        let silent_ms = self.kernel.now_ms.get() - self.wrote_ms;
        self.excused || (reason == "idle timeout" && silent_ms >= idle_timeout_ms)
    }

    fn read(&mut self) {
        if self.manners == Manners::Slow && self.dice.chance(90) {
            return;
        }
        let available = self.wire.borrow().to_client.len();
        let taken = if self.is_steady {
            available.min(STEADY_READ_BYTES)
        } else {
            self.dice.between(0, available)
        };
        if self.is_steady && taken > 0 {
            self.reads.push_back((self.kernel.now_ms.get(), taken));
        }
        let bytes: Vec<u8> = self.wire.borrow_mut().to_client.drain(..taken).collect();
        self.take(bytes);
        self.note_end();
    }

    fn take(&mut self, mut bytes: Vec<u8>) {
        if self.stage == Stage::Gone || bytes.is_empty() {
            return;
        }
        if !self.is_upgraded {
            let Some(frames) = self.take_responses(&bytes) else { return };
            bytes = frames;
            self.is_upgraded = true;
            if self.stage == Stage::Opening {
                self.stage = Stage::Open;
            }
        }
        if bytes.is_empty() || self.connection.incoming.is_ended() {
            return;
        }
        let is_hostile = self.manners == Manners::Hostile;
        let Self { connection, out, model, number, close_seen, pinged, ponged, .. } = self;
        let limits = IncomingLimits { message_bytes_max: 1 << 20, fragment_charge_bytes: 128 };
        let received = connection.receive(&mut bytes, &limits, out, |_, _, event| match event {
            Event::Message(Message::Text(text)) => model.borrow_mut().delivered(*number, text),
            Event::Message(Message::Binary(_)) => panic!("nobody sends binary messages here"),
            Event::Close(close) => {
                *close_seen = true;
                model.borrow().closed(*number, close.code);
            }
            Event::Pong(payload) => {
                let pong = std::str::from_utf8(payload).ok().and_then(|pong| pong.parse().ok());
                // A hostile client's garbage may have been a ping.
                let is_right = pong.is_some_and(|pong| *ponged < pong && pong <= *pinged);
                assert!(is_right || is_hostile, "pong {pong:?} after {ponged} of {pinged}");
                *ponged = pong.unwrap_or(*ponged);
            }
            Event::Ping(_) => {}
        });
        received.expect("the server keeps the protocol");
    }

    /// Sees the server's FIN or reset.
    fn note_end(&mut self) {
        if self.stage == Stage::Gone {
            return;
        }
        let may_end = self.excused
            || self.model.borrow().is_terminated(self.number)
            || match self.is_upgraded {
                true => self.plain.has_ended,
                false => self.may_end_plainly(),
            };
        let mut wire = self.wire.borrow_mut();
        if wire.server_reset {
            let may_end = may_end && (!self.plain.is_over || self.excused);
            assert!(may_end, "client {}: reset instead of a proper end", self.number);
            self.stage = Stage::Gone;
        } else if wire.server_fin && wire.to_client.is_empty() {
            assert!(
                self.close_seen || may_end,
                "client {}: the connection ended without a Close frame; {}",
                self.number,
                self.plain
            );
            wire.client_fin = true;
            self.stage = Stage::Gone;
        }
    }
}

impl Wire {
    /// Whether the client's side can make nothing more of it.
    pub(super) fn is_over(&self) -> bool {
        self.server_closed
    }
}
