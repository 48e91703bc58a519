//! Close frames: status codes and the payload that carries one.
//!
//! Never the closing handshake itself: who has sent or received a Close is known to
//! [`Outgoing`](crate::Outgoing) and [`Incoming`](crate::Incoming).

use core::fmt;

use crate::error::ProtocolError;

/// Longest reason a Close frame has room for, in bytes: 125 less the two of the code
/// (RFC 6455 §5.5, §5.5.1).
pub const REASON_BYTES_MAX: usize = 123;

/// A status code of RFC 6455 §7.4.
///
/// Values that may not be on the wire cannot be made, with two exceptions that are only ever
/// reported: [`NO_STATUS`](Self::NO_STATUS) and [`ABNORMAL`](Self::ABNORMAL).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server shuts down or the browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a type of data this end cannot accept.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1005: the Close frame carried no code. Only reported.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: the connection ended without a Close frame. Only reported.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: data that does not fit its type, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: against this end's policy, when no other code says more.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message too big to process.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: the server did not agree to an extension the client needs.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: the server met a condition it did not expect.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service restarts (IANA registry).
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the service is overloaded (IANA registry).
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got a bad answer from the server behind it (IANA registry).
    pub const BAD_GATEWAY: Self = Self(1014);

    /// A code an application may send; `None` for all others.
    ///
    /// Sendable are 1000–1003, 1007–1014 (1012–1014 by the IANA registry) and 3000–4999.
    pub const fn new(code: u16) -> Option<Self> {
        // §7.4.1 reserves 1004, 1005, 1006 and 1015; §7.4.2 leaves 0-999 unused and keeps
        // 1016-2999 for the protocol; 5000 and above have no meaning.
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// A code as it arrived in a Close frame; `None` if no Close frame may carry it.
    ///
    /// The same set as [`new`](Self::new): what may not be sent may not arrive.
    pub const fn from_wire(code: u16) -> Option<Self> {
        Self::new(code)
    }

    /// Whether a Close frame may carry this code: all but `NO_STATUS` and `ABNORMAL`.
    pub const fn is_sendable(self) -> bool {
        Self::new(self.0).is_some()
    }

    /// The code as a number.
    pub const fn as_u16(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a Close frame says. An empty one has the code [`CloseCode::NO_STATUS`] and no reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// Why the peer closes.
    pub code: CloseCode,
    /// Words for people and logs, at most [`REASON_BYTES_MAX`] bytes.
    pub reason: &'a str,
}

impl<'a> Close<'a> {
    /// Reads the payload of a Close frame (RFC 6455 §5.5.1).
    ///
    /// # Errors
    ///
    /// A payload of one byte, a code that must not be sent, a reason that is not UTF-8.
    pub fn parse(payload: &'a [u8]) -> Result<Self, ProtocolError> {
        match payload {
            [] => Ok(Self { code: CloseCode::NO_STATUS, reason: "" }),
            // "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned
            // integer"
            [_] => Err(ProtocolError::CloseTruncated),
            [high, low, reason @ ..] => {
                let code = CloseCode::from_wire(u16::from_be_bytes([*high, *low]))
                    .ok_or(ProtocolError::CloseCode)?;
                let reason =
                    core::str::from_utf8(reason).map_err(|_| ProtocolError::CloseReason)?;
                Ok(Self { code, reason })
            }
        }
    }
}

/// The start of `reason` that fits a Close frame and ends between characters.
pub(crate) fn reason_that_fits(reason: &str) -> &str {
    let mut bytes = reason.len().min(REASON_BYTES_MAX);
    // `str::floor_char_boundary` is newer (Rust 1.91) than the rest.
    while !reason.is_char_boundary(bytes) {
        bytes -= 1;
    }
    &reason[..bytes]
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec::Vec};

    use super::*;

    #[test]
    fn every_code_from_0_to_65535_is_sorted_as_the_rfc_and_iana_do() {
        for number in 0..=u16::MAX {
            let sendable = matches!(
                number,
                1000..=1003 | 1007 | 1008 | 1009 | 1010 | 1011 | 1012 | 1013 | 1014 | 3000..=4999
            );
            assert_eq!(CloseCode::new(number).is_some(), sendable, "{number}");
            assert_eq!(CloseCode::from_wire(number), CloseCode::new(number));
            let parsed = Close::parse(&number.to_be_bytes()).map(|close| close.code.as_u16());
            assert_eq!(parsed, sendable.then_some(number).ok_or(ProtocolError::CloseCode));
        }
    }

    #[test]
    fn reported_codes_are_not_sendable() {
        assert!(!CloseCode::NO_STATUS.is_sendable());
        assert!(!CloseCode::ABNORMAL.is_sendable());
        assert!(CloseCode::NORMAL.is_sendable());
        assert_eq!(CloseCode::ABNORMAL.to_string(), "1006");
    }

    #[test]
    fn the_payload_is_empty_or_a_code_and_a_reason() {
        let empty = Close { code: CloseCode::NO_STATUS, reason: "" };
        assert_eq!(Close::parse(b""), Ok(empty));
        assert_eq!(Close::parse(&[3]), Err(ProtocolError::CloseTruncated));
        let bye = Close { code: CloseCode::NORMAL, reason: "bye é" };
        assert_eq!(Close::parse("\u{3}\u{0}".as_bytes()), Err(ProtocolError::CloseCode));
        let payload: Vec<u8> = [&1000u16.to_be_bytes()[..], "bye é".as_bytes()].concat();
        assert_eq!(Close::parse(&payload), Ok(bye));
        assert_eq!(
            Close::parse(&payload[..payload.len() - 1]),
            Err(ProtocolError::CloseReason),
            "a reason must not end inside a character"
        );
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(reason_that_fits("short"), "short");
        let long = "é".repeat(100);
        assert_eq!(reason_that_fits(&long).len(), 122);
        assert_eq!(reason_that_fits(&"x".repeat(200)).len(), REASON_BYTES_MAX);
    }
}
