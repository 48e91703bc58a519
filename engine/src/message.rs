//! What can be sent as a message: borrowed, owned or shared text and bytes.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use ringwire_proto::{Message, append_frame};

/// What `send` and `publish` take: `str` and `String` as text, `[u8]`, `[u8; N]`, `Vec<u8>` and
/// [`Bytes`] as binary, a received [`Message`] as it was; and references to them, `Box`, `Rc`, `Arc`
/// and `Cow` of them.
///
/// The bytes are copied into a frame once, also those of an owned value. Many connections share one
/// frame by [`Context::send_many`](crate::Context::send_many) or by a topic.
///
/// An application can implement it for types of its own that hold a message.
pub trait AsMessage {
    /// The message.
    fn as_message(&self) -> Message<'_>;
}

impl AsMessage for Message<'_> {
    #[inline]
    fn as_message(&self) -> Message<'_> {
        *self
    }
}

/// For what is text, or binary.
macro_rules! as_message {
    ($kind:ident: $($owner:ty),*) => {
        $(
            impl AsMessage for $owner {
                #[inline]
                fn as_message(&self) -> Message<'_> {
                    Message::$kind(self)
                }
            }
        )*
    };
}

as_message!(Text: str, String);
as_message!(Binary: [u8], Vec<u8>, Bytes);

impl<const N: usize> AsMessage for [u8; N] {
    #[inline]
    fn as_message(&self) -> Message<'_> {
        Message::Binary(self)
    }
}

/// For pointers to what is one already.
macro_rules! through {
    ($($pointer:ty),*) => {
        $(
            impl<T: AsMessage + ?Sized> AsMessage for $pointer {
                #[inline]
                fn as_message(&self) -> Message<'_> {
                    (**self).as_message()
                }
            }
        )*
    };
}

through!(&T, Box<T>, Rc<T>, Arc<T>);

impl<T: AsMessage + ToOwned + ?Sized> AsMessage for Cow<'_, T> {
    #[inline]
    fn as_message(&self) -> Message<'_> {
        (**self).as_message()
    }
}

/// The frame of a message, in memory of its own.
pub(crate) fn encode(message: Message<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    append_frame(&mut frame, message.opcode(), message.payload());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_text(message: impl AsMessage) -> bool {
        let message = message.as_message();
        assert_eq!(message.payload(), b"ringwire");
        message.is_text()
    }

    #[test]
    fn text_is_text_and_bytes_are_binary_whoever_owns_them() {
        let text = String::from("ringwire");
        assert!(is_text("ringwire") && is_text(&text) && is_text(text.clone()));
        assert!(is_text(Cow::Borrowed("ringwire")) && is_text(Cow::<str>::Owned(text.clone())));
        assert!(is_text(text.clone().into_boxed_str()) && is_text(Rc::<str>::from("ringwire")));
        assert!(is_text(Arc::<str>::from("ringwire")) && is_text(Arc::new(text)));
        assert!(is_text(Message::Text("ringwire")) && is_text(Message::Text("ringwire")));

        let bytes = b"ringwire".to_vec();
        assert!(!is_text(b"ringwire") && !is_text(*b"ringwire") && !is_text(&bytes[..]));
        assert!(!is_text(&bytes) && !is_text(bytes.clone()) && !is_text(Arc::new(bytes.clone())));
        assert!(!is_text(Bytes::from(bytes.clone())) && !is_text(Bytes::from(bytes.clone())));
        assert!(!is_text(Arc::<[u8]>::from(bytes)) && !is_text(Message::Binary(b"ringwire")));
    }
}
