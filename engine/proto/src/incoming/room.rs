//! Receiving the rest of a long message straight into its own buffer, without a copy from a
//! receive buffer in between. What is received this way gives the same events as ever.

use alloc::vec::Vec;

use super::{Incoming, Step, UNMASK_BYTES, Unfinished};
use crate::{events::Events, incoming::IncomingLimits, mask};

/// The buffer of a message under way, lent to whoever receives.
#[derive(Debug)]
pub struct Room {
    /// What has come of the message; what comes next belongs behind it.
    pub buffer: Vec<u8>,
    /// How many bytes may be added: they are all the payload's. There is capacity for them.
    pub bytes: usize,
}

impl Incoming {
    /// How many bytes of the data frame under way are still to come, once some have.
    pub fn room_bytes(&self) -> usize {
        match self.unfinished.as_deref() {
            Some(Unfinished { step: Step::Payload(partial), buffer, .. })
                if !partial.opcode.is_control() && !buffer.is_empty() =>
            {
                usize::try_from(partial.remaining).unwrap_or(usize::MAX)
            }
            _ => 0,
        }
    }

    /// Lends the buffer of the message under way, if at least `bytes_min` bytes of its frame are
    /// still to come. It must come back with [`fill`](Self::fill) before anything else is received.
    ///
    /// Its capacity follows what has come, as ever: a declared length takes no memory.
    pub fn take_room(&mut self, bytes_min: usize, limits: &IncomingLimits) -> Option<Room> {
        let remaining = self.room_bytes();
        if remaining < bytes_min.max(1) {
            return None;
        }
        let unfinished = self.unfinished.as_deref_mut()?;
        let Step::Payload(partial) = unfinished.step else { return None };
        if unfinished.buffer.len() == unfinished.buffer.capacity() {
            unfinished.reserve(&partial, 1, limits.message_bytes_max);
        }
        let buffer = core::mem::take(&mut unfinished.buffer);
        let bytes = remaining.min(buffer.capacity() - buffer.len());
        Some(Room { buffer, bytes })
    }

    /// Takes the lent buffer back, with `bytes` more bytes of the peer at its end, and lends what
    /// they complete.
    ///
    /// # Panics
    ///
    /// If no buffer was lent, or more was added than there was room for.
    pub fn fill<'a>(
        &'a mut self,
        mut buffer: Vec<u8>,
        bytes: usize,
        limits: &'a IncomingLimits,
    ) -> Events<'a> {
        let unfinished = self.unfinished.as_deref_mut().expect("a buffer was lent");
        let Step::Payload(partial) = &mut unfinished.step else { panic!("a buffer was lent") };
        assert!(bytes as u64 <= partial.remaining, "more than there was room for");
        let start = buffer.len() - bytes;
        // In parts that stay in the first-level cache, as many as the key's bytes divide.
        for part in buffer[start..].chunks_mut(UNMASK_BYTES) {
            mask::unmask(part, partial.key);
        }
        partial.key = mask::rotate(partial.key, bytes);
        partial.remaining -= bytes as u64;
        unfinished.buffer = buffer;
        Events::new(self, &mut [], limits)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::{Event, Message, Outgoing, ProtocolError, Role};

    /// A masked frame, of which the first `first` bytes come in a receive buffer and the rest in
    /// pieces straight into the message.
    fn receive(frame: &[u8], first: usize, pieces: usize) -> Vec<Result<Vec<u8>, ProtocolError>> {
        let limits = IncomingLimits::default();
        let mut incoming = Incoming::new(Role::Server);
        let mut seen = Vec::new();
        let mut note = |mut events: Events<'_>| {
            while let Some(event) = events.next() {
                seen.push(event.map(|event| match event {
                    Event::Message(message) => message.payload().to_vec(),
                    other => panic!("{other:?}"),
                }));
            }
        };
        let (start, mut rest) = frame.split_at(first);
        note(incoming.receive(&mut start.to_vec(), &limits));
        while let Some(Room { mut buffer, bytes }) = incoming.take_room(1, &limits) {
            assert!(buffer.capacity() >= buffer.len() + bytes, "there is capacity");
            let taken = bytes.min(rest.len()).min(pieces);
            buffer.extend_from_slice(&rest[..taken]);
            rest = &rest[taken..];
            note(incoming.fill(buffer, taken, &limits));
        }
        note(incoming.receive(&mut rest.to_vec(), &limits));
        seen
    }

    #[test]
    fn any_cut_gives_the_same_message() {
        let text = "grüße ".repeat(2_000);
        for message in [Message::Text(&text), Message::Binary(&vec![7; 30_001])] {
            let mut frame = Vec::new();
            Outgoing::client(|| [1, 2, 3, 4]).message(&mut frame, message);
            for (first, pieces) in [(1, 1), (9, 5), (100, 999), (8_191, 4_097), (5, 100_000)] {
                let seen = receive(&frame, first, pieces);
                assert_eq!(seen, [Ok(message.payload().to_vec())], "{first}, {pieces}");
            }
        }
    }

    #[test]
    fn a_text_fails_at_the_byte_that_spoils_it() {
        let mut frame = Vec::new();
        let mut outgoing = Outgoing::client(|| [9, 8, 7, 6]);
        let mut text = vec![b'a'; 10_000];
        text[5_000] = 0xFF;
        outgoing.frame(&mut frame, true, crate::Opcode::Text, &text);
        let limits = IncomingLimits::default();
        let mut incoming = Incoming::new(Role::Server);
        assert_eq!(incoming.receive(&mut frame[..100].to_vec(), &limits).next(), None);
        let Room { mut buffer, .. } = incoming.take_room(1, &limits).unwrap();
        buffer.extend_from_slice(&frame[100..6_000]);
        let mut events = incoming.fill(buffer, 5_900, &limits);
        assert_eq!(events.next(), Some(Err(ProtocolError::InvalidUtf8)));
    }

    #[test]
    fn nothing_else_is_received_this_way() {
        let limits = IncomingLimits::default();
        for start in [&[][..], b"\x82", b"\x89\x85aaaab", b"\x02\x81aaaab", b"\x82\x85aaaa"] {
            let mut incoming = Incoming::new(Role::Server);
            assert_eq!(incoming.receive(&mut start.to_vec(), &limits).next(), None);
            assert!(incoming.take_room(1, &limits).is_none(), "{start:?}");
        }
    }
}
