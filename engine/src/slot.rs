//! One connection: its stage, what is in flight, and what it has to send.
//!
//! ```text
//! Opening ──► Open ──► Closing ──► Draining ──► Dying ──► (freed)
//!    │ ▲       │          ▲  │                    ▲
//!    │ └──► Awaiting, Answering, Idle (see `shard/http.rs`)
//!    └─────────┼──────────┘  └────────────────────┤   each stage may end in Dying
//!              └──────────────────────────────────┘
//! ```
//!
//! A slot is freed in one place (`Shard::release`), when neither a receive nor a send is in flight.
//! This file calls neither the handler nor the driver.

use ringwire_proto::{
    BodyReader, CloseCode, HeadScan, Incoming, Message, Outgoing, Role, Unmasked,
    frame_header_bytes,
};

use crate::config::Overflow;
use crate::conn::SendStatus;
use crate::driver::{Key, Socket};
use crate::in_time::InTime;
use crate::publish_log::{Delivery, Part, SealedTick, frames};
use crate::shard::Core;
use crate::tally::Tally;
use crate::topic::{Subscriptions, Topics};
use crate::write_buffer::{FRAME_BYTES_MAX, WriteBuffer};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Waiting for the whole request.
    Opening,
    /// The request is answered later; what comes behind it is kept unparsed.
    Awaiting,
    /// The response to a request is on its way; what comes behind the request is kept unparsed.
    Answering,
    /// Between two requests.
    Idle,
    /// Messages flow.
    Open,
    /// Our last bytes (a Close frame or an HTTP response) are queued.
    Closing,
    /// They are out, and so is our FIN; input is dropped until the peer's.
    Draining,
    /// Cut off: waiting for operations in flight to end.
    Dying,
}

/// What the handler knows of the connection: one open is matched by one close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Nothing,
    Open,
    Closed,
}

/// What is still to come from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerSide {
    /// Messages, or the answer to our Close.
    Open,
    /// Nothing: once our bytes are out, so is our FIN.
    Done,
    /// Its FIN has come.
    Ended,
}

/// Whether the connection is in the shard's list of connections to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failing {
    No,
    /// To be closed.
    Fail,
    /// To be cut off: the handler hears nothing more of it but its end.
    CutOff,
}

/// Which receive is armed.
///
/// ```text
/// No ──► Multishot ──► Ending ──► No ──► Filling ──► No ──► Once ──► No ──► Filling …
///            a long message has begun      its last byte     the next one has begun
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    No,
    /// Completes for whatever comes, into receive buffers.
    Multishot,
    /// The same, and it has been asked to end.
    Ending,
    /// Completes once, into a receive buffer.
    Once,
    /// Completes once, behind what has come of a long message.
    Filling,
}

/// What a few connections have and most do not.
pub(crate) enum Pending {
    /// A request head that came in pieces; while `Opening`.
    Head(Head),
    /// A request whose body is not whole; while `Opening`.
    Body(Body),
    /// What has come behind a request; while `Answering`.
    Early(Vec<u8>),
    /// The request that is answered later; while `Awaiting`.
    Awaiting(Awaiting),
    /// The newest ping's payload, while there is no room for its pong.
    Pong(Vec<u8>),
}

/// A request head that came in pieces.
pub(crate) struct Head {
    pub(crate) scan: HeadScan,
    pub(crate) bytes: Vec<u8>,
}

/// A request whose body is not whole.
pub(crate) struct Body {
    /// Its head, whole and checked.
    pub(crate) head: Vec<u8>,
    pub(crate) reader: BodyReader,
    /// What has come of the body, at most `body_bytes_max`.
    pub(crate) bytes: Vec<u8>,
}

/// A request that is answered later.
pub(crate) struct Awaiting {
    /// Of its ticket.
    pub(crate) serial: u32,
    /// Its head, whole and checked.
    pub(crate) head: Vec<u8>,
    /// What has come behind it, at most `early_bytes_max`.
    pub(crate) early: Vec<u8>,
}

/// What a slot holds. In two parts, so that a callback can use the connection while the
/// message it was called with still borrows `incoming`.
pub(crate) struct Slot<S> {
    pub(crate) incoming: Incoming,
    pub(crate) session: Session<S>,
}

pub(crate) struct Session<S> {
    pub(crate) key: Key,
    pub(crate) socket: Socket,
    pub(crate) stage: Stage,
    pub(crate) told: Told,
    pub(crate) receiving: Receiving,
    /// Long messages come one behind the other.
    pub(crate) long_messages: bool,
    /// A send is in flight.
    pub(crate) sending: bool,
    /// In the shard's list of connections to look at when the tick ends.
    pub(crate) dirty: bool,
    /// In the shard's list of connections to fail.
    pub(crate) failing: Failing,
    /// Since `progress_ms` there was always something that the kernel had not taken.
    pub(crate) behind: bool,
    /// Above `write_bytes_mark`; `on_drain` is owed.
    pub(crate) over_mark: bool,
    pub(crate) peer_side: PeerSide,
    /// A ping went unanswered since `pinged_ms`.
    pub(crate) pinged: bool,
    /// A message or frame is unfinished since `since_ms`.
    pub(crate) mid_message: bool,
    pub(crate) outgoing: Outgoing<Unmasked>,
    /// Times are the low 32 bits of the shard's clock: compare by `Core::elapsed_ms` only.
    /// Start of `Opening`, of `Closing` (`Draining` is part of that time) or of an unfinished
    /// message.
    pub(crate) since_ms: u32,
    /// Something last came from the peer, or was found acknowledged when a deadline was due.
    pub(crate) heard_ms: u32,
    /// The peer was last seen to acknowledge what it is sent, or the first send was queued that
    /// the kernel did not take at once.
    pub(crate) progress_ms: u32,
    pub(crate) pinged_ms: u32,
    /// Bytes the kernel has taken since progress was last seen, and those the peer had not
    /// acknowledged then; holds at the top.
    pub(crate) owed_bytes: u32,
    pub(crate) in_time: InTime,
    pub(crate) tally: Tally,
    /// Pings of ours that no pong has come for.
    pub(crate) pings_unanswered: u16,
    pub(crate) writes: WriteBuffer,
    pub(crate) subscriptions: Option<Box<Subscriptions>>,
    pub(crate) pending: Option<Box<Pending>>,
    /// The application's: from the upgrade on, and lent to a callback about the connection.
    pub(crate) state: Option<S>,
}

/// The longest control frame of ours (RFC 6455 §5.5: a payload of at most 125 bytes).
const CONTROL_FRAME_BYTES_MAX: usize = 2 + 125;

/// How a connection is to be ended when no callback runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Fail(CloseCode, &'static str),
    CutOff,
}

/// What a connection is closed with for [`Overflow::Close`].
const WRITE_BUFFER_FULL: (CloseCode, &str) = (CloseCode::TRY_AGAIN_LATER, "write buffer full");

impl<S> Slot<S> {
    pub(crate) fn new(key: Key, socket: Socket, core: &Core) -> Self {
        Self {
            incoming: Incoming::new(Role::Server),
            session: Session {
                key,
                socket,
                stage: Stage::Opening,
                told: Told::Nothing,
                receiving: Receiving::No,
                long_messages: false,
                sending: false,
                dirty: false,
                failing: Failing::No,
                behind: false,
                over_mark: false,
                peer_side: PeerSide::Open,
                pinged: false,
                mid_message: false,
                outgoing: Outgoing::server(),
                since_ms: core.now_ms as u32,
                heard_ms: core.now_ms as u32,
                progress_ms: core.now_ms as u32,
                pinged_ms: core.now_ms as u32,
                owed_bytes: 0,
                in_time: InTime::default(),
                tally: Tally::default(),
                pings_unanswered: 0,
                writes: WriteBuffer::default(),
                subscriptions: None,
                pending: None,
                state: None,
            },
        }
    }
}

impl<S> Session<S> {
    /// Queues one message in a callback about this connection, in the order of the program with
    /// what was published.
    #[inline]
    pub(crate) fn send(&mut self, core: &mut Core, message: Message<'_>) -> SendStatus {
        let payload_bytes = message.payload().len();
        let frame_bytes = frame_header_bytes(payload_bytes) + payload_bytes;
        self.send_with(core, frame_bytes, |session, core| {
            let is_first = core.forward.is_showing() && !session.writes.is_waiting();
            if is_first && core.forward.claim(message) {
                session.writes.reserve_first(frame_bytes);
            } else {
                let Self { outgoing, writes, .. } = session;
                writes.append(&mut core.pool, frame_bytes, |out| outgoing.message(out, message));
            }
        })
    }

    /// Queues one message in a callback about another connection: if it is that one's message, it
    /// is copied.
    pub(crate) fn send_other(&mut self, core: &mut Core, message: Message<'_>) -> SendStatus {
        let frame_bytes = frame_header_bytes(message.payload().len()) + message.payload().len();
        self.send_with(core, frame_bytes, |session, core| {
            let Self { outgoing, writes, .. } = session;
            writes.append(&mut core.pool, frame_bytes, |out| outgoing.message(out, message));
        })
    }

    /// Queues an encoded data frame of another thread.
    pub(crate) fn send_frame(&mut self, core: &mut Core, frame: &[u8]) -> SendStatus {
        self.send_with(core, frame.len(), |session, core| {
            session.writes.append(&mut core.pool, frame.len(), |out| {
                out.extend_from_slice(frame);
            });
        })
    }

    #[inline]
    fn send_with(
        &mut self,
        core: &mut Core,
        frame_bytes: usize,
        queue: impl FnOnce(&mut Self, &mut Core),
    ) -> SendStatus {
        self.serve_published(core);
        // Behind a message that did not fit nothing smaller may slip in: that would be a hole.
        if self.stage != Stage::Open || self.is_failing() {
            return SendStatus::Dropped;
        }
        if !self.has_room(core, frame_bytes) {
            self.overflow(core);
            return SendStatus::Dropped;
        }
        queue(self, core);
        core.metrics.messages_sent += 1;
        self.mark_dirty(core);
        self.note_mark(core)
    }

    /// A message that arrives when nothing is queued always fits; else the sum counts.
    fn has_room(&self, core: &Core, frame_bytes: usize) -> bool {
        let unsent = self.writes.unsent_bytes();
        let is_alone = unsent == 0 && frame_bytes <= FRAME_BYTES_MAX;
        is_alone || unsent + frame_bytes <= core.config.write_bytes_max
    }

    fn note_mark(&mut self, core: &mut Core) -> SendStatus {
        if self.writes.unsent_bytes() <= core.config.write_bytes_mark {
            return SendStatus::Queued;
        }
        self.over_mark = true;
        core.is_quiet = false;
        SendStatus::Backpressure
    }

    #[cold]
    fn overflow(&mut self, core: &mut Core) {
        core.metrics.messages_dropped += 1;
        if core.config.overflow == Overflow::Close {
            let (code, reason) = WRITE_BUFFER_FULL;
            self.fail_later(core, code, reason);
        }
    }

    /// Has the shard fail this connection as soon as no callback runs.
    pub(crate) fn fail_later(&mut self, core: &mut Core, code: CloseCode, reason: &'static str) {
        if !self.is_failing() {
            self.failing = Failing::Fail;
            core.failing.push_back((self.key, Ending::Fail(code, reason)));
        }
    }

    /// Has the shard cut this connection off as soon as no callback runs. Nothing is queued any
    /// more until then, and no message handed out.
    pub(crate) fn terminate_later(&mut self, core: &mut Core) {
        self.failing = Failing::CutOff;
        core.failing.push_back((self.key, Ending::CutOff));
    }

    /// Gives the connection what was published to its topics in this tick so far.
    #[inline]
    pub(crate) fn serve_published(&mut self, core: &mut Core) {
        if self.subscriptions.is_some() && !core.log.is_empty() {
            self.serve_published_now(core);
        }
    }

    #[cold]
    fn serve_published_now(&mut self, core: &mut Core) {
        let Some(mut subscriptions) = self.subscriptions.take() else {
            return;
        };
        let position = std::mem::replace(&mut subscriptions.position, core.log.end());
        let indexes = core.log.pieces_after(position);
        let pieces = indexes.clone().map(|index| core.log.piece(index));
        let wanted = pieces.filter(|piece| subscriptions.contains(piece.topic));
        let bytes = wanted.map(|piece| piece.bytes_after(position)).sum();
        let fits = self.has_room(core, bytes);
        if bytes > 0 && self.stage == Stage::Open && !self.is_failing() {
            let short = core.log.short();
            for index in indexes {
                let piece = core.log.piece(index);
                if subscriptions.contains(piece.topic) {
                    let part = piece.part_after(position, &short);
                    self.take_part(core, &part, fits);
                }
            }
            self.mark_dirty(core);
            self.note_mark(core);
        }
        self.subscriptions = Some(subscriptions);
    }

    /// Takes this connection's part of a tick that is over.
    #[inline]
    pub(crate) fn take_delivery(&mut self, core: &mut Core, delivery: &Delivery, end: u64) {
        if let Some(subscriptions) = &mut self.subscriptions {
            subscriptions.position = end;
            self.take_parts(core, &delivery.parts, delivery.bytes);
        }
    }

    /// Takes what this connection has not been served of a tick that is over.
    #[cold]
    pub(crate) fn take_rest(&mut self, core: &mut Core, tick: &SealedTick) {
        let Some(subscriptions) = &mut self.subscriptions else {
            return;
        };
        let position = std::mem::replace(&mut subscriptions.position, tick.end);
        let wanted = tick
            .pieces()
            .iter()
            .filter(|piece| piece.bytes_after(position) > 0 && subscriptions.contains(piece.topic));
        let parts: Vec<Part> =
            wanted.map(|piece| piece.part_after(position, tick.short())).collect();
        let bytes = parts.iter().map(|part| part.run().as_slice().len()).sum();
        self.take_parts(core, &parts, bytes);
    }

    /// Published bytes count like sent ones, but there is nobody to be answered.
    #[inline]
    fn take_parts(&mut self, core: &mut Core, parts: &[Part], bytes: usize) {
        if self.stage != Stage::Open || self.is_failing() || bytes == 0 {
            return;
        }
        let fits = self.has_room(core, bytes);
        parts.iter().for_each(|part| self.take_part(core, part, fits));
        self.mark_dirty(core);
        self.note_mark(core);
    }

    #[inline]
    fn take_part(&mut self, core: &mut Core, part: &Part, fits: bool) {
        match part {
            _ if !fits => self.take_frames_that_fit(core, part),
            Part::Shared(run) => {
                self.writes.attach(&mut core.pool, run.clone(), self.sending);
            }
            Part::Copied(run) => {
                let bytes = run.as_slice();
                self.writes.append(&mut core.pool, bytes.len(), |open| {
                    open.extend_from_slice(bytes);
                });
            }
        }
    }

    /// There is no room for all that was published: what fits goes, message by message, and each
    /// that does not is counted.
    #[cold]
    fn take_frames_that_fit(&mut self, core: &mut Core, part: &Part) {
        for frame in frames(part.run()) {
            // Behind what did not fit nothing slips in, where that closes the connection.
            if self.is_failing() || !self.has_room(core, frame.as_slice().len()) {
                self.overflow(core);
                continue;
            }
            let is_whole = frame.as_slice().len() == frame.bytes.len();
            // What is to be copied stays so, even if it is alone: the tick still writes there.
            let frame = match part {
                Part::Shared(_) if is_whole => Part::Shared(frame),
                _ => Part::Copied(frame),
            };
            self.take_part(core, &frame, true);
        }
    }

    /// Queues the application's ping; `false` if it cannot be sent any more or there is no room.
    pub(crate) fn ping(&mut self, core: &mut Core, payload: &[u8]) -> bool {
        self.serve_published(core);
        let frame_bytes = frame_header_bytes(payload.len()) + payload.len();
        let is_queued = self.is_served()
            && self.has_room(core, frame_bytes)
            && self.control(core, |outgoing, out| outgoing.ping(out, payload).is_ok());
        self.pings_unanswered = self.pings_unanswered.saturating_add(u16::from(is_queued));
        is_queued
    }

    /// Queues a ping of the engine's own. It needs no room: one at most is unanswered.
    pub(crate) fn heartbeat(&mut self, core: &mut Core) {
        let is_queued = self.control(core, |outgoing, out| outgoing.ping(out, b"").is_ok());
        self.pings_unanswered = self.pings_unanswered.saturating_add(u16::from(is_queued));
    }

    /// Answers a ping (RFC 6455 §5.5.2). Without room in the write buffer the newest is kept, to
    /// be answered when there is some (§5.5.3 allows to answer only that one).
    pub(crate) fn pong(&mut self, core: &mut Core, payload: &[u8]) {
        self.serve_published(core);
        if !self.has_room(core, frame_header_bytes(payload.len()) + payload.len()) {
            self.pending = Some(Box::new(Pending::Pong(payload.to_vec())));
            return;
        }
        self.control(core, |outgoing, out| outgoing.pong(out, payload).is_ok());
    }

    /// The pong that waits goes out, if there is room for it now.
    pub(crate) fn pong_if_room(&mut self, core: &mut Core) {
        if !matches!(self.pending.as_deref(), Some(Pending::Pong(_))) {
            return;
        }
        if let Some(Pending::Pong(payload)) = self.pending.take().as_deref() {
            self.pong(core, payload);
        }
    }

    fn control(
        &mut self,
        core: &mut Core,
        append: impl FnOnce(&mut Outgoing<Unmasked>, &mut Vec<u8>) -> bool,
    ) -> bool {
        if self.stage != Stage::Open {
            return false;
        }
        self.serve_published(core);
        let Self { outgoing, writes, .. } = self;
        let appended =
            writes.append(&mut core.pool, CONTROL_FRAME_BYTES_MAX, |out| append(outgoing, out));
        self.mark_dirty(core);
        appended
    }

    /// Counts a control frame; `false` if the peer sends too many (an attack, or a loop).
    pub(crate) fn admit_control(&mut self, core: &Core) -> bool {
        let config = &core.config;
        config.control_frames_per_second_max == 0 || self.tally.admit_control(core.now_ms, config)
    }

    /// Counts a pong, unless we have asked for it.
    pub(crate) fn admit_pong(&mut self, core: &Core) -> bool {
        match self.pings_unanswered.checked_sub(1) {
            Some(unanswered) => {
                self.pings_unanswered = unanswered;
                true
            }
            None => self.admit_control(core),
        }
    }

    /// What the kernel says of the connection when a deadline is about to end it: whether the peer
    /// has acknowledged enough since progress was last seen, at `write_rate_bytes_min`. Frames of
    /// ours that need no answer do not count: a machine acknowledges whether its application reads
    /// or not.
    pub(crate) fn note_progress(&mut self, core: &Core, unacknowledged_bytes: u32) -> bool {
        let acknowledged = self.owed_bytes.saturating_sub(unacknowledged_bytes);
        let rate = u64::from(core.config.write_rate_bytes_min);
        let elapsed_ms = u64::from(core.elapsed_ms(self.progress_ms));
        let least = (rate * elapsed_ms / 1_000).max(CONTROL_FRAME_BYTES_MAX as u64);
        // The peer may have all that the kernel was given, and wait for us.
        let is_waiting = self.sending && unacknowledged_bytes == 0;
        let has_progressed = is_waiting || u64::from(acknowledged) > least;
        if has_progressed {
            self.count_progress_from_now(core, unacknowledged_bytes);
        }
        has_progressed
    }

    /// What is acknowledged from here on is progress.
    pub(crate) fn count_progress_from_now(&mut self, core: &Core, unacknowledged_bytes: u32) {
        self.owed_bytes = unacknowledged_bytes;
        self.progress_ms = core.now_ms as u32;
    }

    /// A peer that has progressed is neither silent nor stalled. All deadlines begin anew, because
    /// the same bytes are not counted again for the next that is due.
    pub(crate) fn renew_deadlines(&mut self, core: &Core) {
        let now_ms = core.now_ms as u32;
        (self.heard_ms, self.pinged_ms, self.progress_ms) = (now_ms, now_ms, now_ms);
        // Else it is the time of a message, or of a request, that is late all the same.
        if matches!(self.stage, Stage::Closing | Stage::Draining) {
            self.since_ms = now_ms;
        }
    }

    /// The application or the server closes the connection. One that is about to be failed for
    /// a full write buffer is closed for that: the peer must not take what it got for everything.
    pub(crate) fn close(&mut self, core: &mut Core, code: CloseCode, reason: &str) {
        // It may turn out only now that what was published in this tick does not fit.
        self.serve_published(core);
        let (code, reason) = if self.is_failing() { WRITE_BUFFER_FULL } else { (code, reason) };
        self.begin_close(core, code, reason);
    }

    /// Queues our Close frame and leaves every topic: no data goes out after it.
    pub(crate) fn begin_close(&mut self, core: &mut Core, code: CloseCode, reason: &str) {
        if self.stage != Stage::Open {
            return;
        }
        self.serve_published(core);
        self.unsubscribe_all(core);
        let Self { outgoing, writes, .. } = self;
        writes.append(&mut core.pool, CONTROL_FRAME_BYTES_MAX, |out| {
            outgoing.close(out, code, reason);
        });
        self.enter_closing(core);
    }

    /// The peer sends nothing more that matters.
    pub(crate) fn expect_no_more(&mut self, core: &mut Core) {
        if self.peer_side == PeerSide::Open {
            self.peer_side = PeerSide::Done;
            self.tally = Tally::default();
        }
        self.mark_dirty(core);
    }

    /// From here on the connection only gets rid of its last bytes.
    pub(crate) fn enter_closing(&mut self, core: &mut Core) {
        self.stage = Stage::Closing;
        self.since_ms = core.now_ms as u32;
        // Little has been acknowledged soon.
        let unacknowledged_bytes = match self.owed_bytes {
            0..=1_024 => 0,
            _ => (core.unacknowledged_bytes)(&self.socket),
        };
        self.count_progress_from_now(core, unacknowledged_bytes);
        let deadline = core.now_ms + u64::from(core.config.close_timeout_ms);
        core.timers.schedule_no_later(self.key.slot, deadline);
        self.mark_dirty(core);
    }

    pub(crate) fn subscribe(&mut self, core: &mut Core, name: &str) -> bool {
        if !self.is_served() || name.len() > core.config.topic_bytes_max {
            return false;
        }
        self.serve_published(core);
        let known = core.topics.find(name);
        let subscriptions = self.subscriptions.get_or_insert_default();
        if known.is_some_and(|topic| subscriptions.contains(topic)) {
            return true;
        }
        if subscriptions.len() >= core.config.subscriptions_max {
            return false;
        }
        core.topics.subscribe(name, self.key.slot, subscriptions);
        subscriptions.position = core.log.end();
        true
    }

    pub(crate) fn unsubscribe(&mut self, core: &mut Core, name: &str) -> bool {
        self.serve_published(core);
        let Some(topic) = core.topics.find(name) else {
            return false;
        };
        let Some(subscriptions) = &mut self.subscriptions else {
            return false;
        };
        if !subscriptions.contains(topic) {
            return false;
        }
        core.moved.extend(core.topics.unsubscribe(topic, subscriptions));
        if subscriptions.len() == 0 {
            self.subscriptions = None;
        }
        true
    }

    pub(crate) fn unsubscribe_all(&mut self, core: &mut Core) {
        let Some(mut subscriptions) = self.subscriptions.take() else {
            return;
        };
        while let Some(topic) = Topics::any_of(&subscriptions) {
            core.moved.extend(core.topics.unsubscribe(topic, &mut subscriptions));
        }
    }

    /// Publishes to all subscribers but this connection.
    pub(crate) fn publish(&mut self, core: &mut Core, topic: &str, message: Message<'_>) {
        if self.subscriptions.is_none() {
            return core.publish(topic, message);
        }
        self.serve_published(core);
        core.publish(topic, message);
        if let Some(subscriptions) = &mut self.subscriptions {
            subscriptions.position = core.log.end();
        }
    }

    /// Notes that so many bytes have come from the peer.
    #[inline]
    pub(crate) fn note_heard(&mut self, core: &Core, bytes: usize) {
        self.heard_ms = core.now_ms as u32;
        self.pinged = false;
        self.in_time.read(bytes);
    }

    /// Whether it is in the shard's list of connections to fail: nothing is queued any more.
    #[inline]
    pub(crate) fn is_failing(&self) -> bool {
        self.failing != Failing::No
    }

    /// Whether the handler gets what comes: not behind our Close, and not while the connection is
    /// about to be cut off.
    #[inline]
    pub(crate) fn is_served(&self) -> bool {
        self.stage == Stage::Open && self.failing != Failing::CutOff
    }

    /// Whether what comes from the peer is looked at. Otherwise it has said its last word, or been
    /// told ours behind which nothing counts: behind an HTTP response there are no frames at all.
    #[inline]
    pub(crate) fn is_heard(&self) -> bool {
        match self.stage {
            Stage::Opening | Stage::Awaiting | Stage::Answering | Stage::Idle | Stage::Open => true,
            Stage::Closing => self.peer_side == PeerSide::Open,
            Stage::Draining | Stage::Dying => false,
        }
    }

    /// Has the shard look at this connection when the tick ends.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, core: &mut Core) {
        if !self.dirty {
            self.dirty = true;
            core.dirty.push_back(self.key);
        }
    }
}
