//! What a peer can do wrong on an open connection, and what it is told.
//!
//! Never an error of the caller: those have their own types beside the function that returns them.

use core::fmt;

use crate::close::CloseCode;

/// A violation of RFC 6455 (or of our limits) by the peer, one variant each.
///
/// The connection is failed with [`close_code`](Self::close_code) and [`reason`](Self::reason);
/// nothing the peer sends afterwards is looked at (§7.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// RSV1, RSV2 or RSV3 is set and no extension gave it a meaning (§5.2).
    ReservedBits,
    /// Opcode 3 to 7 or 11 to 15 (§5.2).
    ReservedOpcode,
    /// A control frame without FIN (§5.5).
    FragmentedControl,
    /// A control frame of more than 125 bytes (§5.5).
    ControlTooLong,
    /// A client's frame without a mask (§5.1).
    Unmasked,
    /// A server's frame with a mask (§5.1).
    Masked,
    /// A length written in more bytes than needed (§5.2).
    LengthNotMinimal,
    /// A 64-bit length with the most significant bit set (§5.2).
    LengthOutOfRange,
    /// A continuation frame while no message is under way (§5.4).
    NothingToContinue,
    /// A text or binary frame while a fragmented message is under way (§5.4).
    MessageInterrupted,
    /// A Close frame with a payload of one byte (§5.5.1).
    CloseTruncated,
    /// A Close frame with a code that must not be sent (§7.4).
    CloseCode,
    /// A Close reason that is not UTF-8 (§5.5.1).
    CloseReason,
    /// A text message that is not UTF-8, or can no longer become it (§8.1).
    InvalidUtf8,
    /// A message longer than the limit, known from the header that says so (§10.4).
    MessageTooBig,
    /// A message in so many small fragments that they cost more than their bytes (§10.4).
    TooManyFragments,
}

impl ProtocolError {
    /// The status code the connection is failed with (§7.4.1): 1002, 1007 or 1009.
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::Unmasked
            | Self::Masked
            | Self::LengthNotMinimal
            | Self::LengthOutOfRange
            | Self::NothingToContinue
            | Self::MessageInterrupted
            | Self::CloseTruncated
            | Self::CloseCode => CloseCode::PROTOCOL_ERROR,
            Self::CloseReason | Self::InvalidUtf8 => CloseCode::INVALID_PAYLOAD,
            Self::MessageTooBig | Self::TooManyFragments => CloseCode::MESSAGE_TOO_BIG,
        }
    }

    /// What was wrong, in a few words that fit a Close reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved bit set",
            Self::ReservedOpcode => "reserved opcode",
            Self::FragmentedControl => "fragmented control frame",
            Self::ControlTooLong => "control frame over 125 bytes",
            Self::Unmasked => "client frame not masked",
            Self::Masked => "server frame masked",
            Self::LengthNotMinimal => "length not minimal",
            Self::LengthOutOfRange => "length out of range",
            Self::NothingToContinue => "continuation of nothing",
            Self::MessageInterrupted => "message inside a fragmented message",
            Self::CloseTruncated => "close payload of one byte",
            Self::CloseCode => "close code not allowed",
            Self::CloseReason => "close reason not UTF-8",
            Self::InvalidUtf8 => "text not UTF-8",
            Self::MessageTooBig => "message too big",
            Self::TooManyFragments => "too many fragments",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl core::error::Error for ProtocolError {}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::close::REASON_BYTES_MAX;

    #[test]
    fn every_violation_has_a_code_and_a_reason_that_fit_a_close_frame() {
        use ProtocolError::*;
        let table = [
            (1002, &[ReservedBits, ReservedOpcode, FragmentedControl, ControlTooLong][..]),
            (1002, &[Unmasked, Masked, LengthNotMinimal, LengthOutOfRange]),
            (1002, &[NothingToContinue, MessageInterrupted, CloseTruncated, CloseCode]),
            (1007, &[CloseReason, InvalidUtf8]),
            (1009, &[MessageTooBig, TooManyFragments]),
        ];
        for (code, errors) in table {
            for error in errors {
                assert_eq!(error.close_code().as_u16(), code, "{error:?}");
                assert!(error.close_code().is_sendable());
                assert!((1..=REASON_BYTES_MAX).contains(&error.reason().len()));
                assert_eq!(error.to_string(), error.reason());
            }
        }
    }
}
