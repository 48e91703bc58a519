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

use bitflags::bitflags;
use ringwire_proto::{BodyReader, HeadScan, Incoming, Outgoing, Role, Unmasked};

use crate::connection::in_time::InTime;
use crate::connection::tally::Tally;
use crate::connection::write_buffer::WriteBuffer;
use crate::driver::Key;
use crate::fanout::topic::Subscriptions;
use crate::shard::core::Core;
use crate::transport::Transport;

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

bitflags! {
    /// What is so of a connection or not. In one byte: a slot is two cache lines.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Marks: u8 {
        /// Long messages come one behind the other.
        const LONG_MESSAGES = 1;
        /// In the shard's list of connections to look at when the tick ends.
        const DIRTY = 1 << 1;
        /// What the peer has acknowledged is to be asked for, before progress is counted again.
        const RECOUNTING = 1 << 2;
        /// Since `progress_ms` there was always something that the kernel had not taken.
        const BEHIND = 1 << 3;
        /// Above `write_bytes_mark`; `on_drain` is owed.
        const OVER_MARK = 1 << 4;
        /// A ping went unanswered since `pinged_ms`.
        const PINGED = 1 << 5;
    }
}

/// What a slot holds. In two parts, so that a callback can use the connection while the
/// message it was called with still borrows `incoming`.
pub(crate) struct Slot<S> {
    pub(crate) incoming: Incoming,
    pub(crate) session: Session<S>,
}

pub(crate) struct Session<S> {
    pub(crate) key: Key,
    pub(crate) transport: Transport,
    pub(crate) stage: Stage,
    pub(crate) marks: Marks,
    pub(crate) told: Told,
    pub(crate) receiving: Receiving,
    /// A send is in flight.
    pub(crate) sending: bool,
    /// In the shard's list of connections to fail.
    pub(crate) failing: Failing,
    pub(crate) peer_side: PeerSide,
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

impl<S> Slot<S> {
    pub(crate) fn new(key: Key, core: &Core) -> Self {
        Self {
            incoming: Incoming::new(Role::Server),
            session: Session {
                key,
                transport: Transport::Plain,
                stage: Stage::Opening,
                marks: Marks::empty(),
                told: Told::Nothing,
                receiving: Receiving::No,
                sending: false,
                failing: Failing::No,
                peer_side: PeerSide::Open,
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

    /// Notes that so many bytes have come from the peer.
    #[inline]
    pub(crate) fn note_heard(&mut self, core: &Core, bytes: usize) {
        self.heard_ms = core.now_ms as u32;
        self.marks.remove(Marks::PINGED);
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
        if !self.marks.contains(Marks::DIRTY) {
            self.marks.insert(Marks::DIRTY);
            core.dirty.push_back(self.key);
        }
    }
}
