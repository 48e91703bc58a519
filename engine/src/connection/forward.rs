//! Sends a received large message back without a copy.
//!
//! During a callback this file knows the address of the message. A `send` of the same bytes
//! *claims* the message. After the callback the shard queues the memory itself: the receive
//! buffer, or the buffer in which the message was assembled. This file holds no bytes.

use std::ops::Range;

use ringwire_proto::{Events, Message, Opcode, frame_header_bytes, write_frame_header};

use crate::config::Config;
use crate::driver::{Driver, Lease, Outbound, Received};

/// What can be sent on, and what has been claimed.
pub(crate) struct Forward {
    /// Shorter messages are copied.
    bytes_min: usize,
    /// Where the input under way lies, if it lies in a receive buffer; else empty. Addresses
    /// are compared here and never followed.
    input: Range<usize>,
    /// Whether any input is under way.
    is_under_way: bool,
    /// The message a callback is looking at, until it is claimed.
    shown: Option<Shown>,
    claimed: Option<Shown>,
    /// The claimed part of the input.
    part: Option<Part>,
    /// Receive buffers that are sent from, or wait to be.
    buffers_out: usize,
    /// Beyond this messages are copied: peers that do not read must not take the buffers of
    /// those that do.
    buffers_out_max: usize,
}

/// A message by the place of its payload.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shown {
    address: usize,
    bytes: usize,
    opcode: Opcode,
}

impl Shown {
    fn of(message: Message<'_>) -> Self {
        let opcode = message.opcode();
        let payload = message.payload();
        Self { address: payload.as_ptr().addr(), bytes: payload.len(), opcode }
    }
}

/// A message within a receive buffer.
pub(crate) struct Part {
    opcode: Opcode,
    payload: Range<usize>,
}

impl Part {
    /// Writes our frame header in front of the payload, where the peer's was: that had a mask
    /// key more, so there is room.
    pub(crate) fn into_frame(self, driver: &mut impl Driver, lease: Lease) -> Outbound {
        let payload = self.payload;
        let input = driver.received(&lease);
        let start = payload.start - frame_header_bytes(payload.len());
        write_frame_header(&mut input[start..payload.start], self.opcode, payload.len());
        Outbound::Received(Received { lease, start: start as u32, end: payload.end as u32 })
    }
}

impl Forward {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            // An empty message has no address that identifies it.
            bytes_min: config.forward_bytes_min.max(1),
            input: 0..0,
            is_under_way: false,
            shown: None,
            claimed: None,
            part: None,
            buffers_out: 0,
            buffers_out_max: config.receive_buffers_max / 4,
        }
    }

    /// Input in a receive buffer is about to be read.
    #[inline]
    pub(crate) fn begin(&mut self, input: &[u8]) {
        let start = input.as_ptr().addr();
        self.input = start..start + input.len();
        self.is_under_way = true;
    }

    /// Input that came straight into its message is about to be read.
    pub(crate) fn begin_filled(&mut self) {
        self.input = 0..0;
        self.is_under_way = true;
    }

    /// It has been read; the part of it that was claimed, if any was.
    #[inline]
    pub(crate) fn end(&mut self) -> Option<Part> {
        self.input = 0..0;
        self.is_under_way = false;
        self.part.take()
    }

    /// A callback is about to look at `message`. If it may be claimed, what has been
    /// [claimed](Self::take_claimed) must be asked for when the callback is over.
    #[inline]
    pub(crate) fn show(&mut self, message: Message<'_>) -> bool {
        message.payload().len() >= self.bytes_min && self.show_large(message)
    }

    #[inline(never)]
    fn show_large(&mut self, message: Message<'_>) -> bool {
        let shown = Shown::of(message);
        let is_possible = self.is_under_way
            && self.part.is_none()
            && self.buffers_out < self.buffers_out_max
            && self.has_room(&shown);
        self.shown = is_possible.then_some(shown);
        is_possible
    }

    /// Whether there is room for our header in front of the payload. There is not if the peer's
    /// header began in the receive buffer before.
    fn has_room(&self, shown: &Shown) -> bool {
        let is_in_input = self.input.contains(&shown.address);
        !is_in_input || shown.address - self.input.start >= frame_header_bytes(shown.bytes)
    }

    /// Whether a callback is looking at a message that can be claimed.
    #[inline]
    pub(crate) fn is_showing(&self) -> bool {
        self.shown.is_some()
    }

    /// Claims `message`, if it is the one shown; the caller leaves room for its frame in front
    /// of what it queues from now on.
    pub(crate) fn claim(&mut self, message: Message<'_>) -> bool {
        let is_shown = self.shown == Some(Shown::of(message));
        if is_shown {
            self.claimed = self.shown.take();
        }
        is_shown
    }

    /// The callback is over. The claimed message as a frame, if it was put together from
    /// pieces; one that lies in the input follows with [`end`](Self::end).
    pub(crate) fn take_claimed(&mut self, events: &mut Events<'_>) -> Option<Outbound> {
        self.shown = None;
        let claimed = self.claimed.take()?;
        if self.input.contains(&claimed.address) {
            let start = claimed.address - self.input.start;
            let payload = start..start + claimed.bytes;
            self.part = Some(Part { opcode: claimed.opcode, payload });
            return None;
        }
        let frame = events.take_frame(claimed.opcode);
        Some(Outbound::Own(frame.expect("what is not in the input is lent by the events")))
    }

    /// A receive buffer goes out, or has come back.
    pub(crate) fn count_out(&mut self) {
        self.buffers_out += 1;
    }

    pub(crate) fn count_back(&mut self) {
        self.buffers_out -= 1;
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn buffers_out(&self) -> usize {
        assert!(self.buffers_out <= self.buffers_out_max);
        self.buffers_out
    }
}
