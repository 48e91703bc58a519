//! The incoming half: bytes of the peer become messages and control frames.
//!
//! Never answers (that is [`Outgoing`](crate::Outgoing)'s part), never reads a clock, and never
//! believes a declared length: memory follows the bytes that came.

use alloc::{boxed::Box, vec::Vec};
use core::mem;

use crate::{
    error::ProtocolError,
    events::Events,
    frame::{self, HEADER_BYTES_MAX, Header, Opcode},
    mask,
    message::Kind,
    role::Role,
    utf8,
};

/// What one message of the peer may cost us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncomingLimits {
    /// Longest message in bytes, whether in one frame or in fragments. Default: 1 MiB.
    ///
    /// A longer one fails with 1009 at the header that says so.
    pub message_bytes_max: usize,
    /// What each fragment of a fragmented message is charged beside its bytes. Default: 128.
    ///
    /// Bytes and charges together may reach twice `message_bytes_max` plus
    /// [`FRAGMENTS_FREE`](Self::FRAGMENTS_FREE) charges; beyond it 1009. So a message within the
    /// limit always passes if its fragments have at least this many bytes on average, and endless
    /// empty fragments do not.
    pub fragment_charge_bytes: usize,
}

impl IncomingLimits {
    /// Number of fragments whose charge is covered whatever the limit, so that a small limit still
    /// admits a message in a few pieces.
    pub const FRAGMENTS_FREE: u64 = 64;

    /// What a fragmented message may cost, bytes and charges together.
    fn cost_bytes_max(&self) -> u64 {
        let bytes = (self.message_bytes_max as u64).saturating_mul(2);
        bytes.saturating_add(self.charge_bytes(Self::FRAGMENTS_FREE))
    }

    fn charge_bytes(&self, fragments: u64) -> u64 {
        fragments.saturating_mul(self.fragment_charge_bytes as u64)
    }
}

impl Default for IncomingLimits {
    fn default() -> Self {
        // 1 MiB is what NATS and Socket.IO allow by default. 128 bytes is what the `ws` package
        // settled on after its fragment floods: a fragment costs us no memory of its own, but work
        // of the order of copying as much.
        Self { message_bytes_max: 1 << 20, fragment_charge_bytes: 128 }
    }
}

/// The state of what a peer sends. Between messages it owns no heap memory.
#[derive(Debug)]
pub struct Incoming {
    /// What has come in part, if anything has; behind a pointer, since most connections have
    /// nothing of the kind at most times.
    unfinished: Option<Box<Unfinished>>,
    /// The peer has closed or broken the protocol; nothing is looked at any more.
    ended: bool,
    pub(crate) role: Role,
}

// Every connection has one, idle or not.
const _: () = assert!(size_of::<Incoming>() == 16);

/// A frame or message of which more is to come.
#[derive(Debug, Default)]
struct Unfinished {
    /// `room_bytes` of nothing, the message so far, and behind it the part of a control frame that
    /// cut into it.
    buffer: Vec<u8>,
    /// For a frame header of ours in front of a message that came in one frame, so that it can be
    /// sent on as it is ([`Events::take_frame`]).
    room_bytes: u8,
    step: Step,
    /// Bytes at the start of the message settled as UTF-8.
    settled_bytes: usize,
    /// Fragments of the message so far.
    fragments: u32,
    /// The message under way, if it is fragmented.
    fragmented: Option<Kind>,
}

/// Where in the stream of frames we are, while anything is unfinished.
///
/// ```text
///   rest ── part of a header ──▶ Header ── all of it ──▶ Payload ── its last byte ──▶ rest
///     └── a whole frame ──▶ rest                any of them ── Close, violation ──▶ ended
/// ```
///
/// Inside a fragmented message, `Between` stands in the place of rest.
#[derive(Clone, Copy, Debug, Default)]
enum Step {
    /// No frame is unfinished, a fragmented message is.
    #[default]
    Between,
    /// The first `len` bytes of a header.
    Header { bytes: [u8; HEADER_BYTES_MAX], len: u8 },
    /// A frame whose payload is not all there.
    Payload(Partial),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Partial {
    opcode: Opcode,
    fin: bool,
    /// Bytes at the end of `buffer` that belong to this frame, if it is a control frame.
    control_bytes: u8,
    /// Turned to the next byte; zero for an unmasked frame.
    key: [u8; 4],
    /// Payload bytes still to come.
    remaining: u64,
}

/// How far a payload has come.
pub(crate) enum Progress {
    /// More bytes are needed.
    Unfinished,
    /// A fragment is over, its message is not.
    Fragment,
    /// The message is over.
    Message(Kind, Whole),
    /// The control frame is over.
    Control(Opcode, Vec<u8>),
}

/// A message that came in pieces.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    /// `room_bytes` of nothing, then the message.
    pub(crate) buffer: Vec<u8>,
    pub(crate) room_bytes: usize,
}

impl Incoming {
    /// The start of a connection. `role` is ours: a server requires masked frames, a client
    /// unmasked ones.
    pub const fn new(role: Role) -> Self {
        Self { unfinished: None, ended: false, role }
    }

    /// Takes the next bytes of the peer and lends what is in them, one event at a time.
    ///
    /// `input` is unmasked in place; its content afterwards is of no use. The events must be asked
    /// for until there are none, or the bytes not looked at are lost. Where the input is cut makes
    /// no difference to the events.
    #[inline]
    pub fn receive<'a>(
        &'a mut self,
        input: &'a mut [u8],
        limits: &'a IncomingLimits,
    ) -> Events<'a> {
        Events::new(self, input, limits)
    }

    /// Whether nothing is unfinished. An idle half owns no heap memory.
    #[inline]
    pub const fn is_idle(&self) -> bool {
        self.unfinished.is_none()
    }

    /// Whether a frame or a fragmented message is unfinished: the time for a deadline to run.
    #[inline]
    pub const fn is_mid_message(&self) -> bool {
        !self.is_idle()
    }

    /// Whether the peer has closed or broken the protocol, so that no event will follow.
    #[inline]
    pub const fn is_ended(&self) -> bool {
        self.ended
    }

    /// Heap bytes held for the unfinished message: of a fragmented one at most twice what came of
    /// it plus 4 KiB, of one frame at most eight times; never more than `message_bytes_max` and
    /// 256 bytes. Of those at most what came is written.
    #[inline]
    pub fn buffered_bytes(&self) -> usize {
        self.unfinished.as_ref().map_or(0, |unfinished| unfinished.buffer.capacity())
    }

    /// Whether the next byte is the first of a message or of a control frame.
    #[inline]
    pub(crate) const fn is_at_rest(&self) -> bool {
        self.unfinished.is_none() && !self.ended
    }

    /// The frame whose payload is not all there, if that is where we are.
    pub(crate) fn partial(&self) -> Option<Partial> {
        match self.unfinished.as_ref()?.step {
            Step::Payload(partial) => Some(partial),
            Step::Between | Step::Header { .. } => None,
        }
    }

    /// The next header, if its bytes are all there; takes them out of `input`.
    pub(crate) fn take_header(
        &mut self,
        input: &mut &mut [u8],
        limits: &IncomingLimits,
    ) -> Result<Option<Header>, ProtocolError> {
        let (mut bytes, len) = match self.unfinished.as_ref().map(|unfinished| unfinished.step) {
            Some(Step::Header { bytes, len }) => (bytes, usize::from(len)),
            _ => ([0; HEADER_BYTES_MAX], 0),
        };
        let copied = input.len().min(HEADER_BYTES_MAX - len);
        bytes[len..len + copied].copy_from_slice(&input[..copied]);
        match self.check_header(&bytes[..len + copied], limits)? {
            Some((header, header_bytes)) => {
                cut(input, header_bytes - len);
                Ok(Some(header))
            }
            None => {
                // Too short for a header, so the copy has taken all there was.
                cut(input, copied);
                if len + copied > 0 {
                    self.unfinished_mut().step = Step::Header { bytes, len: (len + copied) as u8 };
                }
                Ok(None)
            }
        }
    }

    /// Whether this frame can be lent where it lies, once all of it is there: a control frame or a
    /// message of one frame.
    pub(crate) fn is_lent_in_place(&self, header: &Header) -> bool {
        header.opcode.is_control() || (header.fin && self.fragmented().is_none())
    }

    /// Takes in a header whose payload goes through the buffer.
    pub(crate) fn start_payload(&mut self, header: &Header) -> Partial {
        let is_fragment = !self.is_lent_in_place(header);
        let unfinished = self.unfinished_mut();
        if is_fragment {
            unfinished.fragmented.get_or_insert(kind(header.opcode));
            unfinished.fragments = unfinished.fragments.saturating_add(1);
        } else if !header.opcode.is_control() {
            // A declared length within the limits, so far below what overflows.
            let room_bytes = frame::frame_header_bytes(header.payload_bytes as usize);
            unfinished.room_bytes = room_bytes as u8;
        }
        Partial {
            opcode: header.opcode,
            fin: header.fin,
            control_bytes: 0,
            key: header.mask.unwrap_or_default(),
            remaining: header.payload_bytes,
        }
    }

    /// Takes what there is of a payload out of `input`.
    pub(crate) fn take_payload(
        &mut self,
        mut partial: Partial,
        input: &mut &mut [u8],
        limits: &IncomingLimits,
    ) -> Result<Progress, ProtocolError> {
        let piece_bytes = usize::try_from(partial.remaining).unwrap_or(usize::MAX);
        let piece = cut(input, piece_bytes.min(input.len()));
        let unfinished = self.unfinished_mut();
        // With a buffer there may be news in it: see `fill`.
        if piece.is_empty() && partial.remaining > 0 && unfinished.buffer.is_empty() {
            unfinished.step = Step::Payload(partial);
            return Ok(Progress::Unfinished);
        }
        unfinished.append(&mut partial, piece, limits.message_bytes_max);
        if partial.opcode.is_control() {
            if partial.remaining > 0 {
                unfinished.step = Step::Payload(partial);
                return Ok(Progress::Unfinished);
            }
            return Ok(Progress::Control(partial.opcode, self.finish_control(&partial)));
        }
        let kind = unfinished.fragmented.unwrap_or(kind(partial.opcode));
        if partial.remaining == 0 && partial.fin {
            return Ok(Progress::Message(kind, self.finish_message()));
        }
        // §8.1: a text fails as soon as it cannot become valid.
        if kind == Kind::Text {
            let settled_bytes = usize::from(unfinished.room_bytes) + unfinished.settled_bytes;
            let unsettled = &unfinished.buffer[settled_bytes..];
            unfinished.settled_bytes += utf8::settled_bytes(unsettled)?;
        }
        if partial.remaining > 0 {
            unfinished.step = Step::Payload(partial);
            return Ok(Progress::Unfinished);
        }
        unfinished.step = Step::Between;
        Ok(Progress::Fragment)
    }

    /// The peer has said its last word.
    #[cold]
    pub(crate) fn end(&mut self) {
        *self = Self { ended: true, ..Self::new(self.role) };
    }

    /// The peer has broken the protocol.
    #[cold]
    pub(crate) fn fail<T>(&mut self, error: ProtocolError) -> Option<Result<T, ProtocolError>> {
        self.end();
        Some(Err(error))
    }

    /// All rules for the header at the start of `bytes`, in the order in which bytes come, so that
    /// the verdict does not depend on how many there are.
    fn check_header(
        &self,
        bytes: &[u8],
        limits: &IncomingLimits,
    ) -> Result<Option<(Header, usize)>, ProtocolError> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        self.check_order(frame::check_first(first)?)?;
        if let Some(&second) = bytes.get(1) {
            frame::check_mask(self.role, second)?;
        }
        let Some((header, header_bytes)) = Header::decode(bytes)? else {
            return Ok(None);
        };
        self.check_cost(&header, limits)?;
        Ok(Some((header, header_bytes)))
    }

    /// §5.4: fragments of one message follow each other, with nothing but control frames between.
    fn check_order(&self, opcode: Opcode) -> Result<(), ProtocolError> {
        match (opcode, self.fragmented()) {
            (Opcode::Continuation, None) => Err(ProtocolError::NothingToContinue),
            (Opcode::Text | Opcode::Binary, Some(_)) => Err(ProtocolError::MessageInterrupted),
            _ => Ok(()),
        }
    }

    /// §10.4: the limits, from the header alone.
    fn check_cost(&self, header: &Header, limits: &IncomingLimits) -> Result<(), ProtocolError> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let (so_far_bytes, fragments) = self
            .unfinished
            .as_ref()
            .map_or((0, 0), |unfinished| (unfinished.buffer.len() as u64, unfinished.fragments));
        let message_bytes = so_far_bytes.saturating_add(header.payload_bytes);
        if message_bytes > limits.message_bytes_max as u64 {
            return Err(ProtocolError::MessageTooBig);
        }
        if self.is_lent_in_place(header) {
            return Ok(());
        }
        let charge_bytes = limits.charge_bytes(u64::from(fragments) + 1);
        if message_bytes.saturating_add(charge_bytes) > limits.cost_bytes_max() {
            return Err(ProtocolError::TooManyFragments);
        }
        Ok(())
    }

    fn fragmented(&self) -> Option<Kind> {
        self.unfinished.as_ref()?.fragmented
    }

    fn unfinished_mut(&mut self) -> &mut Unfinished {
        self.unfinished.get_or_insert_default()
    }

    /// No frame is unfinished any more; a fragmented message may be.
    pub(crate) fn rest_or_between(&mut self) {
        match &mut self.unfinished {
            Some(unfinished) if unfinished.fragmented.is_some() => unfinished.step = Step::Between,
            unfinished => *unfinished = None,
        }
    }

    /// Hands out the message; what is left owns nothing.
    fn finish_message(&mut self) -> Whole {
        self.unfinished.take().map_or_else(Whole::default, |unfinished| Whole {
            room_bytes: usize::from(unfinished.room_bytes),
            buffer: unfinished.buffer,
        })
    }

    /// Hands out the control payload; what is left is the message it cut into, if any.
    fn finish_control(&mut self, partial: &Partial) -> Vec<u8> {
        let unfinished = self.unfinished_mut();
        let message_bytes = unfinished.buffer.len() - usize::from(partial.control_bytes);
        let payload = unfinished.buffer.split_off(message_bytes);
        self.rest_or_between();
        payload
    }
}

impl Unfinished {
    fn append(&mut self, partial: &mut Partial, piece: &mut [u8], message_bytes_max: usize) {
        partial.remaining -= piece.len() as u64;
        if partial.opcode.is_control() {
            // A control payload has at most 125 bytes.
            partial.control_bytes += piece.len() as u8;
        }
        let room_bytes = usize::from(self.room_bytes);
        let piece_bytes = room_bytes.saturating_sub(self.buffer.len()) + piece.len();
        self.reserve(partial, piece_bytes, message_bytes_max);
        if self.buffer.is_empty() {
            self.buffer.resize(room_bytes, 0);
        }
        // Unmasked after the copy and in parts that stay in the first-level cache meanwhile.
        for part in piece.chunks(UNMASK_BYTES) {
            let start = self.buffer.len();
            self.buffer.extend_from_slice(part);
            mask::unmask(&mut self.buffer[start..], partial.key);
        }
        partial.key = mask::rotate(partial.key, piece.len());
    }

    /// Makes room for `piece_bytes` more, but never more than the message can still use.
    fn reserve(&mut self, partial: &Partial, piece_bytes: usize, message_bytes_max: usize) {
        let needed = self.buffer.len() + piece_bytes;
        if needed <= self.buffer.capacity() {
            return;
        }
        // Only a message of one frame has said how long it is.
        let factor = if needed < SPARSE_BYTES || self.fragmented.is_some() { 2 } else { 8 };
        let longest = message_bytes_max.saturating_add(BESIDE_MESSAGE_BYTES_MAX).max(needed);
        let mut capacity = needed.saturating_mul(factor).min(longest);
        // Only the last frame of a message tells its end. A control frame does not, and must not
        // make a long message move again for every few bytes.
        if partial.fin && !partial.opcode.is_control() {
            let remaining = usize::try_from(partial.remaining).unwrap_or(usize::MAX);
            capacity = capacity.min(needed.saturating_add(remaining));
        }
        self.buffer.reserve_exact(capacity - self.buffer.len());
    }
}

/// From here on a buffer grows faster, so that a long message is hardly ever moved: what lies
/// behind the bytes that came is whole pages, and takes no memory before it is written.
const SPARSE_BYTES: usize = 16 << 10;

/// What a buffer holds beside its message: room for a frame header of ours, and a control payload.
const BESIDE_MESSAGE_BYTES_MAX: usize = 14 + 125;

/// A multiple of the mask key's four bytes, and an eighth of a common first-level cache.
const UNMASK_BYTES: usize = 4_096;

/// The type that the first frame of a message gives it.
const fn kind(opcode: Opcode) -> Kind {
    match opcode {
        Opcode::Text => Kind::Text,
        _ => Kind::Binary,
    }
}

/// Cuts the first `bytes` bytes off `input`.
fn cut<'a>(input: &mut &'a mut [u8], bytes: usize) -> &'a mut [u8] {
    let (front, rest) = mem::take(input).split_at_mut(bytes);
    *input = rest;
    front
}

mod room;

pub use room::Room;

#[cfg(test)]
mod tests;
