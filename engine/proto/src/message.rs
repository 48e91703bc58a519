//! A message: what the user sends and receives, borrowed, whole and unmasked.
//!
//! Never a frame: how many frames carried it is not visible here.

use alloc::{string::String, vec::Vec};

use crate::error::ProtocolError;
use crate::frame::Opcode;

/// A whole data message (RFC 6455 §5.6), borrowed from whoever holds its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text, which is always valid UTF-8.
    Text(&'a str),
    /// Arbitrary bytes.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// The bytes of the message, whatever its type.
    #[inline]
    pub const fn payload(&self) -> &'a [u8] {
        match *self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }

    /// The opcode of a frame that carries the whole message (RFC 6455 §5.6).
    #[inline]
    pub const fn opcode(&self) -> Opcode {
        match self {
            Message::Text(_) => Opcode::Text,
            Message::Binary(_) => Opcode::Binary,
        }
    }

    /// Length of the payload in bytes (not in characters).
    #[inline]
    pub const fn len(&self) -> usize {
        self.payload().len()
    }

    /// Whether the payload has no bytes. An empty message is a message all the same.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.payload().is_empty()
    }

    /// Whether this is a text message.
    #[inline]
    pub const fn is_text(&self) -> bool {
        matches!(self, Message::Text(_))
    }
}

impl<'a> From<&'a str> for Message<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Message::Text(text)
    }
}

impl<'a> From<&'a String> for Message<'a> {
    #[inline]
    fn from(text: &'a String) -> Self {
        Message::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Self {
        Message::Binary(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Message<'a> {
    #[inline]
    fn from(bytes: &'a Vec<u8>) -> Self {
        Message::Binary(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Message<'a> {
    #[inline]
    fn from(bytes: &'a [u8; N]) -> Self {
        Message::Binary(bytes)
    }
}

/// The type of a message whose bytes are elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Binary,
}

impl Kind {
    /// The finished message; text is checked (RFC 6455 §8.1).
    #[inline]
    pub(crate) fn message(self, payload: &[u8]) -> Result<Message<'_>, ProtocolError> {
        match self {
            Kind::Text => match simdutf8::basic::from_utf8(payload) {
                Ok(text) => Ok(Message::Text(text)),
                Err(_) => Err(ProtocolError::InvalidUtf8),
            },
            Kind::Binary => Ok(Message::Binary(payload)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_is_made_from_decides_its_type() {
        let text = String::from("é");
        assert_eq!(Message::from("é"), Message::Text("é"));
        assert_eq!(Message::from(&text), Message::Text("é"));
        let bytes = Vec::from([1, 2]);
        assert_eq!(Message::from(&bytes), Message::Binary(&[1, 2]));
        assert_eq!(Message::from(&bytes[..]), Message::Binary(&[1, 2]));
        assert_eq!(Message::from(&[1, 2]), Message::Binary(&[1, 2]));
    }

    #[test]
    fn length_is_in_bytes() {
        assert_eq!(Message::from("é").len(), 2);
        assert_eq!(Message::from("é").payload(), [0xc3, 0xa9]);
        assert!(Message::from("").is_empty() && Message::from("").is_text());
        assert!(!Message::from(b"x").is_empty() && !Message::from(b"x").is_text());
    }
}
