//! The outgoing half: messages and control frames become bytes for the peer.
//!
//! Never holds bytes back: what it makes is appended to the caller's buffer at once, in order.

use alloc::vec::Vec;
use core::fmt;

use crate::{
    close::{self, CloseCode, REASON_BYTES_MAX},
    frame::{self, CONTROL_PAYLOAD_BYTES_MAX, Opcode},
    message::Message,
};

/// Where the mask keys of outgoing frames come from, if they are masked.
///
/// Implemented by every `FnMut() -> [u8; 4]`. A client must take its keys from a strong source of
/// entropy, a fresh one for each frame (RFC 6455 §5.3, §10.3).
pub trait MaskKeys {
    /// Whether frames are masked at all: a client's are, a server's are not (§5.1).
    const MASKED: bool;

    /// The key of the next frame. Only called if [`MASKED`](Self::MASKED).
    fn next_key(&mut self) -> [u8; 4];
}

/// A server's [`MaskKeys`]: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unmasked;

impl MaskKeys for Unmasked {
    const MASKED: bool = false;

    fn next_key(&mut self) -> [u8; 4] {
        [0; 4]
    }
}

impl<F: FnMut() -> [u8; 4]> MaskKeys for F {
    const MASKED: bool = true;

    fn next_key(&mut self) -> [u8; 4] {
        self()
    }
}

/// A Ping or Pong payload of more than 125 bytes (RFC 6455 §5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlPayloadTooLong;

impl fmt::Display for ControlPayloadTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a control frame carries at most {CONTROL_PAYLOAD_BYTES_MAX} bytes")
    }
}

impl core::error::Error for ControlPayloadTooLong {}

/// What we send. It remembers one thing: whether our Close is out, after which nothing may follow
/// (RFC 6455 §5.5.1).
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<K = Unmasked> {
    keys: K,
    close_sent: bool,
}

const _: () = assert!(size_of::<Outgoing<Unmasked>>() == 1);

impl Outgoing<Unmasked> {
    /// A server's half: frames are not masked.
    pub const fn server() -> Self {
        Self { keys: Unmasked, close_sent: false }
    }
}

impl<K: MaskKeys> Outgoing<K> {
    /// A client's half, with the source of its mask keys.
    pub const fn client(keys: K) -> Self {
        Self { keys, close_sent: false }
    }

    /// Whether our Close frame has been made.
    #[inline]
    pub const fn close_sent(&self) -> bool {
        self.close_sent
    }

    /// Appends a message in one frame; `false`, and nothing appended, if our Close is out.
    #[inline]
    pub fn message(&mut self, out: &mut Vec<u8>, message: Message<'_>) -> bool {
        let opcode = message.opcode();
        self.frame(out, true, opcode, message.payload())
    }

    /// Appends a Ping; `false`, and nothing appended, if our Close is out.
    ///
    /// # Errors
    ///
    /// The payload has more than 125 bytes; nothing is appended.
    pub fn ping(
        &mut self,
        out: &mut Vec<u8>,
        payload: &[u8],
    ) -> Result<bool, ControlPayloadTooLong> {
        self.control(out, Opcode::Ping, payload)
    }

    /// Appends a Pong; `false`, and nothing appended, if our Close is out.
    ///
    /// # Errors
    ///
    /// The payload has more than 125 bytes; nothing is appended.
    pub fn pong(
        &mut self,
        out: &mut Vec<u8>,
        payload: &[u8],
    ) -> Result<bool, ControlPayloadTooLong> {
        self.control(out, Opcode::Pong, payload)
    }

    /// Appends our Close; `false`, and nothing appended, if it is out already.
    ///
    /// A reason of more than [`REASON_BYTES_MAX`] bytes is cut between characters. A code that is
    /// only reported ([`CloseCode::NO_STATUS`], [`CloseCode::ABNORMAL`]) makes an empty Close
    /// frame, without the reason.
    pub fn close(&mut self, out: &mut Vec<u8>, code: CloseCode, reason: &str) -> bool {
        let mut payload = [0; 2 + REASON_BYTES_MAX];
        let mut payload_bytes = 0;
        if code.is_sendable() {
            let reason = close::reason_that_fits(reason).as_bytes();
            payload[..2].copy_from_slice(&code.as_u16().to_be_bytes());
            payload[2..2 + reason.len()].copy_from_slice(reason);
            payload_bytes = 2 + reason.len();
        }
        let appended = self.frame(out, true, Opcode::Close, &payload[..payload_bytes]);
        self.close_sent = true;
        appended
    }

    /// Appends any frame, a fragment for instance; `false`, and nothing appended, if our Close is
    /// out.
    ///
    /// Nothing is checked but that: the caller keeps the order of fragments and the length of
    /// control frames. A Close made here is not taken note of; [`close`](Self::close) is for that.
    #[inline]
    pub fn frame(&mut self, out: &mut Vec<u8>, fin: bool, opcode: Opcode, payload: &[u8]) -> bool {
        if self.close_sent {
            return false;
        }
        if K::MASKED {
            frame::append_any_frame(out, fin, opcode, Some(self.keys.next_key()), payload);
        } else if fin {
            frame::append_frame(out, opcode, payload);
        } else {
            frame::append_any_frame(out, fin, opcode, None, payload);
        }
        true
    }

    fn control(
        &mut self,
        out: &mut Vec<u8>,
        opcode: Opcode,
        payload: &[u8],
    ) -> Result<bool, ControlPayloadTooLong> {
        if payload.len() > CONTROL_PAYLOAD_BYTES_MAX {
            return Err(ControlPayloadTooLong);
        }
        Ok(self.frame(out, true, opcode, payload))
    }
}

#[cfg(test)]
mod tests;
