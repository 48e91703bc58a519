//! The events in one piece of input, lent one at a time.
//!
//! Never keeps an event: each is gone when the next one is asked for.

use alloc::vec::Vec;
use core::mem;

use crate::{
    close::Close,
    error::ProtocolError,
    frame::{self, Header, Opcode, append_frame},
    incoming::{Incoming, IncomingLimits, Progress, Whole},
    mask,
    message::{Kind, Message},
};

/// What the peer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'e> {
    /// A whole message, checked: text is valid UTF-8.
    Message(Message<'e>),
    /// A Ping with its payload, to be echoed in a Pong (RFC 6455 §5.5.2).
    Ping(&'e [u8]),
    /// A Pong with its payload, asked for or not (§5.5.3).
    Pong(&'e [u8]),
    /// A Close frame, the last event there is (§5.5.1).
    Close(Close<'e>),
}

/// The events of one call of [`Incoming::receive`].
///
/// Each event borrows the input, or the buffer of a message that came in pieces; that buffer is
/// freed when the next event is asked for or this value is dropped.
#[derive(Debug)]
pub struct Events<'a> {
    incoming: &'a mut Incoming,
    /// What has not been looked at.
    input: &'a mut [u8],
    limits: &'a IncomingLimits,
    /// What the last event borrows, if it does not lie in the input.
    lent: Whole,
}

impl<'a> Events<'a> {
    #[inline]
    pub(crate) const fn new(
        incoming: &'a mut Incoming,
        input: &'a mut [u8],
        limits: &'a IncomingLimits,
    ) -> Self {
        Self { incoming, input, limits, lent: Whole { buffer: Vec::new(), room_bytes: 0 } }
    }

    /// The next event; `None` when the input is used up.
    ///
    /// # Errors
    ///
    /// What the peer has done wrong. After it, as after [`Event::Close`], there is nothing more:
    /// the rest of the input and all later input is ignored (RFC 6455 §5.5.1, §7.1.7).
    // An iterator cannot lend, so this is no `Iterator`.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> Option<Result<Event<'_>, ProtocolError>> {
        self.lent = Whole::default();
        if self.incoming.is_at_rest() {
            let max = self.limits.message_bytes_max;
            match frame::split_whole(mem::take(&mut self.input), self.incoming.role, max) {
                Ok(whole) => {
                    self.input = whole.rest;
                    return lend_message(self.incoming, whole.kind, whole.payload);
                }
                Err([]) => return None,
                Err(input) => self.input = input,
            }
        }
        self.next_in_steps()
    }

    /// Number of bytes of the input that have not been looked at.
    pub const fn unread_bytes(&self) -> usize {
        self.input.len()
    }

    /// Takes the last message as an unmasked frame, ready to be sent on, if it did not lie in the
    /// input. `opcode` is the message's own. Nothing is copied if it came in one frame.
    ///
    /// With one that lies in the input the caller can do the same by
    /// [`write_frame_header`](crate::write_frame_header).
    pub fn take_frame(&mut self, opcode: Opcode) -> Option<Vec<u8>> {
        let Whole { mut buffer, room_bytes } = mem::take(&mut self.lent);
        if buffer.is_empty() {
            return None;
        }
        if room_bytes == 0 {
            let mut frame = Vec::new();
            append_frame(&mut frame, opcode, &buffer);
            return Some(frame);
        }
        let payload_bytes = buffer.len() - room_bytes;
        frame::write_frame_header(&mut buffer[..room_bytes], opcode, payload_bytes);
        Some(buffer)
    }

    /// The long way: control frames, fragments, whatever is not all there, and all that is wrong.
    #[inline(never)]
    fn next_in_steps(&mut self) -> Option<Result<Event<'_>, ProtocolError>> {
        loop {
            if self.incoming.is_ended() {
                self.input = &mut [];
                return None;
            }
            let partial = match self.incoming.partial() {
                Some(partial) => partial,
                None => {
                    let header = match self.incoming.take_header(&mut self.input, self.limits) {
                        Ok(Some(header)) => header,
                        Ok(None) => return None,
                        Err(error) => return self.incoming.fail(error),
                    };
                    if self.is_whole(&header) {
                        self.incoming.rest_or_between();
                        return self.lend_in_place(&header);
                    }
                    self.incoming.start_payload(&header)
                }
            };
            match self.incoming.take_payload(partial, &mut self.input, self.limits) {
                Ok(Progress::Unfinished) => return None,
                Ok(Progress::Fragment) => {}
                Ok(Progress::Message(kind, whole)) => {
                    self.lent = whole;
                    let payload = &self.lent.buffer[self.lent.room_bytes..];
                    return lend_message(self.incoming, kind, payload);
                }
                Ok(Progress::Control(opcode, payload)) => {
                    self.lent = Whole { buffer: payload, room_bytes: 0 };
                    return lend_control(self.incoming, opcode, &self.lent.buffer);
                }
                Err(error) => return self.incoming.fail(error),
            }
        }
    }

    /// Whether the frame can be lent where it lies and all of it is there.
    fn is_whole(&self, header: &Header) -> bool {
        self.incoming.is_lent_in_place(header) && header.payload_bytes <= self.input.len() as u64
    }

    fn lend_in_place(&mut self, header: &Header) -> Option<Result<Event<'_>, ProtocolError>> {
        let (payload, rest) =
            mem::take(&mut self.input).split_at_mut(header.payload_bytes as usize);
        self.input = rest;
        if let Some(key) = header.mask {
            mask::unmask(payload, key);
        }
        match header.opcode {
            Opcode::Text => lend_message(self.incoming, Kind::Text, payload),
            Opcode::Binary => lend_message(self.incoming, Kind::Binary, payload),
            control => lend_control(self.incoming, control, payload),
        }
    }
}

#[inline]
fn lend_message<'e>(
    incoming: &mut Incoming,
    kind: Kind,
    payload: &'e [u8],
) -> Option<Result<Event<'e>, ProtocolError>> {
    match kind.message(payload) {
        Ok(message) => Some(Ok(Event::Message(message))),
        Err(error) => incoming.fail(error),
    }
}

fn lend_control<'e>(
    incoming: &mut Incoming,
    opcode: Opcode,
    payload: &'e [u8],
) -> Option<Result<Event<'e>, ProtocolError>> {
    match opcode {
        Opcode::Ping => Some(Ok(Event::Ping(payload))),
        Opcode::Pong => Some(Ok(Event::Pong(payload))),
        _ => match Close::parse(payload) {
            Ok(close) => {
                incoming.end();
                Some(Ok(Event::Close(close)))
            }
            Err(error) => incoming.fail(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Outgoing, Role};

    #[test]
    fn a_message_in_two_pieces_can_be_taken_as_the_frame_that_sends_it_on() {
        let limits = IncomingLimits::default();
        for payload_bytes in [1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload: Vec<u8> = (0..payload_bytes).map(|index| index as u8).collect();
            let mut masked = Vec::new();
            Outgoing::client(|| [1, 2, 3, 4]).message(&mut masked, Message::Binary(&payload));
            let mut answer = Vec::new();
            append_frame(&mut answer, Opcode::Binary, &payload);
            let ends = [1, 2, masked.len() - payload_bytes, masked.len() - 1];
            for cut in ends.into_iter().filter(|&cut| cut < masked.len()) {
                let mut input = masked.clone();
                let (start, rest) = input.split_at_mut(cut);
                let mut incoming = Incoming::new(Role::Server);
                assert_eq!(incoming.receive(start, &limits).next(), None);
                let mut events = incoming.receive(rest, &limits);
                assert_eq!(events.next(), Some(Ok(Event::Message(Message::Binary(&payload)))));
                match events.take_frame(Opcode::Binary) {
                    Some(frame) => assert_eq!(frame, answer, "cut at {cut}"),
                    // Nothing of the payload had come before the cut.
                    None => assert!(cut <= masked.len() - payload_bytes),
                }
                assert_eq!(events.take_frame(Opcode::Binary), None, "once");
                assert_eq!(events.next(), None);
            }
        }
    }

    #[test]
    fn a_message_in_fragments_can_be_taken_as_one_frame() {
        let limits = IncomingLimits::default();
        let mut incoming = Incoming::new(Role::Client);
        let mut input = *b"\x02\x01a\x80\x01b";
        let mut events = incoming.receive(&mut input, &limits);
        assert_eq!(events.next(), Some(Ok(Event::Message(Message::Binary(b"ab")))));
        assert_eq!(events.take_frame(Opcode::Binary).unwrap(), b"\x82\x02ab");
        assert_eq!(events.take_frame(Opcode::Binary), None, "once");
    }

    #[test]
    fn the_buffer_of_a_lent_message_is_freed_when_the_next_event_is_asked_for() {
        let limits = IncomingLimits::default();
        let mut incoming = Incoming::new(Role::Client);
        // Two fragments, one message, and one more behind it.
        let mut input = *b"\x02\x01a\x80\x01b\x81\x01c";
        let mut events = incoming.receive(&mut input, &limits);
        assert_eq!(events.next(), Some(Ok(Event::Message(Message::Binary(b"ab")))));
        assert!(events.lent.buffer.capacity() > 0);
        assert_eq!(events.unread_bytes(), 3);
        assert_eq!(events.next(), Some(Ok(Event::Message(Message::Text("c")))));
        assert_eq!((events.lent.buffer.capacity(), events.unread_bytes()), (0, 0));
    }
}
