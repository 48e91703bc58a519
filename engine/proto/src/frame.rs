//! Frames on the wire (RFC 6455 §5.2): opcodes, headers, and every rule a header must keep.
//!
//! Never looks at a payload, and never knows what came before: the order of frames is
//! [`Incoming`](crate::Incoming)'s business.

use alloc::vec::Vec;

use crate::{error::ProtocolError, mask, message::Kind, role::Role};

/// Longest payload of a control frame in bytes (RFC 6455 §5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// Longest header in bytes: two, eight of length, four of mask key.
pub const HEADER_BYTES_MAX: usize = 14;

const FIN: u8 = 0x80;
const RSV: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASK: u8 = 0x80;
const LENGTH: u8 = 0x7f;

/// Values of the 7-bit length that announce a longer one.
const LENGTH_IN_2_BYTES: u8 = 126;
const LENGTH_IN_8_BYTES: u8 = 127;

/// What a frame is (RFC 6455 §11.8). The discriminant is its value on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// The next fragment of the message under way.
    Continuation = 0x0,
    /// A text message or its first fragment.
    Text = 0x1,
    /// A binary message or its first fragment.
    Binary = 0x2,
    /// The start or the answer of the closing handshake.
    Close = 0x8,
    /// A question whether the peer is there.
    Ping = 0x9,
    /// The answer to a Ping, or an unsolicited sign of life.
    Pong = 0xa,
}

impl Opcode {
    /// Close, Ping or Pong (RFC 6455 §5.5).
    pub const fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }

    const fn from_wire(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Opcode::Continuation),
            0x1 => Some(Opcode::Text),
            0x2 => Some(Opcode::Binary),
            0x8 => Some(Opcode::Close),
            0x9 => Some(Opcode::Ping),
            0xa => Some(Opcode::Pong),
            _ => None,
        }
    }
}

/// The header of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether this frame is the last of its message.
    pub fin: bool,
    /// RSV1 to RSV3 as a number of three bits, RSV1 the highest. Always 0 in a decoded header.
    pub rsv: u8,
    /// What the frame is.
    pub opcode: Opcode,
    /// The mask key, if the payload is masked.
    pub mask: Option<[u8; 4]>,
    /// Length of the payload in bytes.
    pub payload_bytes: u64,
}

impl Header {
    /// Reads the header at the start of `bytes`, with its own length in bytes; `None` if it is not
    /// all there yet.
    ///
    /// Whether a mask is required depends on the receiver; [`check_mask`] says.
    ///
    /// # Errors
    ///
    /// The first rule of RFC 6455 §5 that the bytes break, as soon as they break it: a prefix that
    /// fails keeps failing the same way whatever follows.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, ProtocolError> {
        let Some((&first, bytes)) = bytes.split_first() else {
            return Ok(None);
        };
        let opcode = check_first(first)?;
        let Some((&second, bytes)) = bytes.split_first() else {
            return Ok(None);
        };
        check_second(opcode, second)?;
        let Some((payload_bytes, length_bytes)) = decode_length(second & LENGTH, bytes)? else {
            return Ok(None);
        };
        let (mask, mask_bytes) = if second & MASK == 0 {
            (None, 0)
        } else {
            let Some(key) = bytes[length_bytes..].first_chunk() else {
                return Ok(None);
            };
            (Some(*key), key.len())
        };
        let header = Self { fin: first & FIN != 0, rsv: 0, opcode, mask, payload_bytes };
        Ok(Some((header, 2 + length_bytes + mask_bytes)))
    }

    /// Appends the header as it stands, with its length in as few bytes as possible.
    ///
    /// Checks nothing else: tests use it to write what [`decode`](Self::decode) refuses.
    pub fn append(&self, out: &mut Vec<u8>) {
        let first = u8::from(self.fin) << 7 | (self.rsv & 7) << 4 | self.opcode as u8;
        let mask_bit = if self.mask.is_some() { MASK } else { 0 };
        match self.payload_bytes {
            short @ 0..=125 => out.extend_from_slice(&[first, mask_bit | short as u8]),
            medium @ 126..=0xffff => {
                let [high, low] = (medium as u16).to_be_bytes();
                out.extend_from_slice(&[first, mask_bit | LENGTH_IN_2_BYTES, high, low]);
            }
            long => {
                out.extend_from_slice(&[first, mask_bit | LENGTH_IN_8_BYTES]);
                out.extend_from_slice(&long.to_be_bytes());
            }
        }
        out.extend_from_slice(self.mask.as_ref().map_or(&[], |key| key.as_slice()));
    }
}

/// What the first byte of a frame must be: no reserved bit, a known opcode, control frames whole.
///
/// # Errors
///
/// The rule it breaks.
#[inline]
pub const fn check_first(first: u8) -> Result<Opcode, ProtocolError> {
    // §5.2: "MUST be 0 unless an extension is negotiated that defines meanings for non-zero
    // values."
    if first & RSV != 0 {
        return Err(ProtocolError::ReservedBits);
    }
    // §5.2: "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket
    // Connection_."
    let Some(opcode) = Opcode::from_wire(first & OPCODE) else {
        return Err(ProtocolError::ReservedOpcode);
    };
    // §5.5: "All control frames [...] MUST NOT be fragmented."
    if opcode.is_control() && first & FIN == 0 {
        return Err(ProtocolError::FragmentedControl);
    }
    Ok(opcode)
}

/// What the second byte must be towards this receiver: masked for a server, unmasked for a client.
///
/// # Errors
///
/// [`ProtocolError::Unmasked`] or [`ProtocolError::Masked`].
pub const fn check_mask(receiver: Role, second: u8) -> Result<(), ProtocolError> {
    match (receiver, second & MASK) {
        // §5.1: "The server MUST close the connection upon receiving a frame that is not masked."
        (Role::Server, 0) => Err(ProtocolError::Unmasked),
        (Role::Server, _) | (Role::Client, 0) => Ok(()),
        // §5.1: "A client MUST close a connection if it detects a masked frame."
        (Role::Client, _) => Err(ProtocolError::Masked),
    }
}

#[inline]
const fn check_second(opcode: Opcode, second: u8) -> Result<(), ProtocolError> {
    // §5.5: "All control frames MUST have a payload length of 125 bytes or less"
    if opcode.is_control() && second & LENGTH > CONTROL_PAYLOAD_BYTES_MAX as u8 {
        return Err(ProtocolError::ControlTooLong);
    }
    Ok(())
}

/// The payload length, and the number of bytes behind the second that told it.
#[inline]
fn decode_length(short: u8, bytes: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    // §5.2: "in all cases, the minimal number of bytes MUST be used to encode the length"
    match short {
        LENGTH_IN_2_BYTES => match bytes.first_chunk::<2>() {
            Some([0, 0..LENGTH_IN_2_BYTES]) => Err(ProtocolError::LengthNotMinimal),
            Some(length) => Ok(Some((u64::from(u16::from_be_bytes(*length)), 2))),
            None => Ok(None),
        },
        LENGTH_IN_8_BYTES => match bytes {
            // §5.2: "(the most significant bit MUST be 0)"
            [0x80..=0xff, ..] => Err(ProtocolError::LengthOutOfRange),
            [0, 0, 0, 0, 0, 0, ..] => Err(ProtocolError::LengthNotMinimal),
            _ => Ok(bytes.first_chunk().map(|length| (u64::from_be_bytes(*length), 8))),
        },
        short => Ok(Some((u64::from(short), 0))),
    }
}

/// Length in bytes of the header of an unmasked frame with this payload: 2, 4 or 10.
#[inline]
pub const fn frame_header_bytes(payload_bytes: usize) -> usize {
    match payload_bytes {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Writes the header of one whole unmasked frame to `room`, which is as long as it.
///
/// # Panics
///
/// If `room` is not [`frame_header_bytes`] long.
pub fn write_frame_header(room: &mut [u8], opcode: Opcode, payload_bytes: usize) {
    assert_eq!(room.len(), frame_header_bytes(payload_bytes));
    room[0] = FIN | opcode as u8;
    match payload_bytes {
        short @ 0..=125 => room[1] = short as u8,
        medium @ 126..=0xffff => {
            room[1] = LENGTH_IN_2_BYTES;
            room[2..].copy_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            room[1] = LENGTH_IN_8_BYTES;
            room[2..].copy_from_slice(&(long as u64).to_be_bytes());
        }
    }
}

/// Appends one whole unmasked frame, a server's.
///
/// Control frames must be kept to [`CONTROL_PAYLOAD_BYTES_MAX`] by the caller.
#[inline]
pub fn append_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let first = FIN | opcode as u8;
    out.reserve(frame_header_bytes(payload.len()) + payload.len());
    match payload.len() {
        short @ 0..=125 => out.extend_from_slice(&[first, short as u8]),
        medium @ 126..=0xffff => {
            let [high, low] = (medium as u16).to_be_bytes();
            out.extend_from_slice(&[first, LENGTH_IN_2_BYTES, high, low]);
        }
        long => {
            let [a, b, c, d, e, f, g, h] = (long as u64).to_be_bytes();
            out.extend_from_slice(&[first, LENGTH_IN_8_BYTES, a, b, c, d, e, f, g, h]);
        }
    }
    out.extend_from_slice(payload);
}

/// Appends one frame, masked if there is a key.
pub(crate) fn append_any_frame(
    out: &mut Vec<u8>,
    fin: bool,
    opcode: Opcode,
    key: Option<[u8; 4]>,
    payload: &[u8],
) {
    out.reserve(HEADER_BYTES_MAX + payload.len());
    let payload_bytes = payload.len() as u64;
    Header { fin, rsv: 0, opcode, mask: key, payload_bytes }.append(out);
    let payload_start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = key {
        mask::unmask(&mut out[payload_start..], key);
    }
}

/// A data frame that is a message by itself, unmasked where it lies, and what follows it.
pub(crate) struct Whole<'a> {
    pub(crate) kind: Kind,
    pub(crate) payload: &'a mut [u8],
    pub(crate) rest: &'a mut [u8],
}

/// Takes the whole message that `input` starts with: the path nearly all messages take.
///
/// `Err` gives the input back untouched: it starts with something that takes the long way, such as
/// a control frame, a fragment, a frame of more than 65,535 bytes, an unfinished or a wrong one.
#[inline]
pub(crate) fn split_whole(
    input: &mut [u8],
    receiver: Role,
    payload_bytes_max: usize,
) -> Result<Whole<'_>, &mut [u8]> {
    const TEXT: u8 = FIN | Opcode::Text as u8;
    const BINARY: u8 = FIN | Opcode::Binary as u8;
    let &mut [first @ (TEXT | BINARY), second, ..] = input else {
        return Err(input);
    };
    // With the one right mask bit taken out, a wrong one shows as a length above 127.
    let (length_end, payload_bytes) = match second ^ receiver.mask_bit_received() {
        short @ 0..LENGTH_IN_2_BYTES => (2, usize::from(short)),
        LENGTH_IN_2_BYTES => match *input {
            [_, _, high, low, ..] => match u16::from_be_bytes([high, low]) {
                0..126 => return Err(input),
                medium => (4, usize::from(medium)),
            },
            _ => return Err(input),
        },
        _ => return Err(input),
    };
    let key_bytes = match receiver {
        Role::Server => 4,
        Role::Client => 0,
    };
    let payload_start = length_end + key_bytes;
    if input.len() < payload_start + payload_bytes || payload_bytes > payload_bytes_max {
        return Err(input);
    }
    let (frame, rest) = input.split_at_mut(payload_start + payload_bytes);
    let (header, payload) = frame.split_at_mut(payload_start);
    if let (Role::Server, Some(key)) = (receiver, header.last_chunk()) {
        mask::unmask(payload, *key);
    }
    let kind = if first == TEXT { Kind::Text } else { Kind::Binary };
    Ok(Whole { kind, payload, rest })
}

#[cfg(test)]
mod tests;
