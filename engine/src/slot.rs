//! One connection: its stage, what is in flight, and what it has to send.
//!
//! ```text
//! Opening ──► Open ──► Closing ──► Draining ──► Dying ──► (freed)
//!    │         │          ▲  │                    ▲
//!    └─────────┼──────────┘  └────────────────────┤   each stage may end in Dying
//!              └──────────────────────────────────┘
//! ```
//!
//! A slot is freed in one place (`Shard::release`), and only when neither a receive nor a
//! send is in flight. This file never calls a handler and never talks to the driver.

use ringwire_proto::{
    CloseCode, HeadScan, Incoming, Message, Outgoing, Role, Unmasked, frame_header_bytes,
};

use crate::config::Overflow;
use crate::conn::SendStatus;
use crate::driver::{Key, Run, Socket};
use crate::shard::Core;
use crate::topic::{Subscriptions, Topics};
use crate::write_buffer::WriteBuffer;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Waiting for the whole request head.
    Opening,
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

/// What a few connections have and most do not.
pub(crate) enum Pending {
    /// A request head that came in pieces; while `Opening`.
    Head(Head),
    /// The newest ping's payload, while there is no room for its pong.
    Pong(Vec<u8>),
}

/// A request head that came in pieces.
pub(crate) struct Head {
    pub(crate) scan: HeadScan,
    pub(crate) bytes: Vec<u8>,
}

/// What a slot holds. In two parts, so that a callback can use the connection while the
/// message it was called with still borrows `incoming`.
pub(crate) struct Slot<S> {
    pub(crate) incoming: Incoming,
    pub(crate) session: Session<S>,
}

/// Two cache lines, and what every idle connection takes; whoever makes it more should know.
/// (The simulator's sockets are larger.)
#[cfg(not(any(test, feature = "sim")))]
const _: () = assert!(size_of::<Option<Slot<()>>>() == 128);

pub(crate) struct Session<S> {
    pub(crate) key: Key,
    pub(crate) socket: Socket,
    pub(crate) stage: Stage,
    pub(crate) told: Told,
    /// A multishot receive is armed.
    pub(crate) receiving: bool,
    /// A send is in flight.
    pub(crate) sending: bool,
    /// In the shard's list of connections to look at when the tick ends.
    pub(crate) dirty: bool,
    /// In the shard's list of connections to fail.
    pub(crate) failing: bool,
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
    /// Something last came from the peer.
    pub(crate) heard_ms: u32,
    /// The kernel last took bytes, or the send in flight was queued.
    pub(crate) wrote_ms: u32,
    pub(crate) pinged_ms: u32,
    /// Control frames in the current second; input dropped while draining.
    pub(crate) control_second: u16,
    pub(crate) control_frames: u16,
    pub(crate) drained_bytes: u32,
    pub(crate) writes: WriteBuffer,
    pub(crate) subscriptions: Option<Box<Subscriptions>>,
    pub(crate) pending: Option<Box<Pending>>,
    /// The application's; from the upgrade on.
    pub(crate) state: Option<S>,
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
                receiving: false,
                sending: false,
                dirty: false,
                failing: false,
                over_mark: false,
                peer_side: PeerSide::Open,
                pinged: false,
                mid_message: false,
                outgoing: Outgoing::server(),
                since_ms: core.now_ms as u32,
                heard_ms: core.now_ms as u32,
                wrote_ms: core.now_ms as u32,
                pinged_ms: core.now_ms as u32,
                control_second: 0,
                control_frames: 0,
                drained_bytes: 0,
                writes: WriteBuffer::default(),
                subscriptions: None,
                pending: None,
                state: None,
            },
        }
    }
}

impl<S> Session<S> {
    /// Queues one message, in the order of the program with what was published.
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
                writes.append(&mut core.pool, |out| outgoing.message(out, message));
            }
        })
    }

    /// Queues an encoded data frame of another thread.
    pub(crate) fn send_frame(&mut self, core: &mut Core, frame: &[u8]) -> SendStatus {
        self.send_with(core, frame.len(), |session, core| {
            session.writes.append(&mut core.pool, |out| out.extend_from_slice(frame));
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
        if self.stage != Stage::Open || self.failing {
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
        unsent == 0 || unsent + frame_bytes <= core.config.write_bytes_max
    }

    fn note_mark(&mut self, core: &Core) -> SendStatus {
        if self.writes.unsent_bytes() <= core.config.write_bytes_mark {
            return SendStatus::Queued;
        }
        self.over_mark = true;
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
        if !self.failing {
            self.failing = true;
            core.failing.push((self.key, code, reason));
        }
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
        let position = subscriptions.position;
        for index in core.log.stretches_after(position) {
            let stretch = core.log.stretch(index);
            if !subscriptions.contains(stretch.topic) {
                continue;
            }
            let bytes = core.log.bytes_after(stretch, position).len();
            self.take_published(core, bytes, |session, core| {
                let Core { pool, log, .. } = core;
                let bytes = log.bytes_after(stretch, position);
                session.writes.append(pool, |open| open.extend_from_slice(bytes));
            });
        }
        subscriptions.position = core.log.end();
        self.subscriptions = Some(subscriptions);
    }

    /// Takes the part of a sealed run that this connection has not been served yet.
    #[inline]
    pub(crate) fn take_run(&mut self, core: &mut Core, run_start: u64, run: &Run, end: u64) {
        let Some(subscriptions) = &mut self.subscriptions else {
            return;
        };
        let served_bytes = subscriptions.position.saturating_sub(run_start) as u32;
        let start = run.start.max(served_bytes);
        // It may have been served beyond this stretch already.
        subscriptions.position = subscriptions.position.max(end);
        if start < run.end {
            let part = Run { bytes: run.bytes.clone(), start, end: run.end };
            let bytes = (run.end - start) as usize;
            self.take_published(core, bytes, |session, core| {
                session.writes.attach(&mut core.pool, part, session.sending);
            });
        }
    }

    /// Published bytes count like sent ones, but there is nobody to be answered.
    #[inline]
    fn take_published(
        &mut self,
        core: &mut Core,
        bytes: usize,
        take: impl FnOnce(&mut Self, &mut Core),
    ) {
        if self.stage != Stage::Open || self.failing {
            return;
        }
        if !self.has_room(core, bytes) {
            return self.overflow(core);
        }
        take(self, core);
        self.mark_dirty(core);
        self.note_mark(core);
    }

    /// Queues the application's ping; `false` if it cannot be sent any more or there is no room.
    pub(crate) fn ping(&mut self, core: &mut Core, payload: &[u8]) -> bool {
        self.serve_published(core);
        let frame_bytes = frame_header_bytes(payload.len()) + payload.len();
        self.has_room(core, frame_bytes)
            && self.control(core, |outgoing, out| outgoing.ping(out, payload).is_ok())
    }

    /// Queues a ping of the engine's own. It needs no room: one at most is unanswered.
    pub(crate) fn heartbeat(&mut self, core: &mut Core) {
        self.control(core, |outgoing, out| outgoing.ping(out, b"").is_ok());
    }

    /// Answers a ping (RFC 6455 §5.5.2), or keeps the newest to be answered when the peer
    /// has read what it was sent (§5.5.3 allows to answer only that one).
    pub(crate) fn pong(&mut self, core: &mut Core, payload: &[u8]) {
        if self.writes.unsent_bytes() > core.config.write_bytes_mark {
            self.pending = Some(Box::new(Pending::Pong(payload.to_vec())));
            return;
        }
        self.control(core, |outgoing, out| outgoing.pong(out, payload).is_ok());
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
        let appended = writes.append(&mut core.pool, |out| append(outgoing, out));
        self.mark_dirty(core);
        appended
    }

    /// Counts a control frame; `false` if the peer sends too many (an attack, or a loop).
    pub(crate) fn admit_control(&mut self, core: &Core) -> bool {
        let second = (core.now_ms / 1_000) as u16;
        if second != self.control_second {
            (self.control_second, self.control_frames) = (second, 0);
        }
        self.control_frames = self.control_frames.saturating_add(1);
        let max = core.config.control_frames_per_second_max;
        max == 0 || u32::from(self.control_frames) <= max
    }

    /// The application or the server closes the connection. One that is about to be failed for
    /// a full write buffer is closed for that: the peer must not take what it got for everything.
    pub(crate) fn close(&mut self, core: &mut Core, code: CloseCode, reason: &str) {
        // It may turn out only now that what was published in this tick does not fit.
        self.serve_published(core);
        let (code, reason) = if self.failing { WRITE_BUFFER_FULL } else { (code, reason) };
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
        writes.append(&mut core.pool, |out| outgoing.close(out, code, reason));
        self.enter_closing(core);
    }

    /// The peer sends nothing more that matters.
    pub(crate) fn expect_no_more(&mut self, core: &mut Core) {
        if self.peer_side == PeerSide::Open {
            self.peer_side = PeerSide::Done;
        }
        self.mark_dirty(core);
    }

    /// From here on the connection only gets rid of its last bytes.
    pub(crate) fn enter_closing(&mut self, core: &mut Core) {
        self.stage = Stage::Closing;
        self.since_ms = core.now_ms as u32;
        let deadline = core.now_ms + u64::from(core.config.close_timeout_ms);
        core.timers.schedule_no_later(self.key.slot, deadline);
        self.mark_dirty(core);
    }

    pub(crate) fn subscribe(&mut self, core: &mut Core, name: &str) -> bool {
        if self.stage != Stage::Open || name.len() > core.config.topic_bytes_max {
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

    /// Publishes; this connection is left out unless `including_self`.
    pub(crate) fn publish(
        &mut self,
        core: &mut Core,
        topic: &str,
        message: Message<'_>,
        including_self: bool,
    ) {
        if including_self || self.subscriptions.is_none() {
            return core.publish(topic, message);
        }
        self.serve_published(core);
        core.publish(topic, message);
        if let Some(subscriptions) = &mut self.subscriptions {
            subscriptions.position = core.log.end();
        }
    }

    /// Has the shard look at this connection when the tick ends.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, core: &mut Core) {
        if !self.dirty {
            self.dirty = true;
            core.dirty.push(self.key);
        }
    }
}
