//! Both halves together, with the answers the protocol asks for.
//!
//! Never more than the protocol: deadlines, pings of our own and what to do with a peer that does
//! not read are the caller's.

use alloc::vec::Vec;

use crate::{
    close::CloseCode,
    error::ProtocolError,
    events::Event,
    incoming::{Incoming, IncomingLimits},
    message::Message,
    outgoing::{ControlPayloadTooLong, MaskKeys, Outgoing, Unmasked},
    role::Role,
};

/// One end of an open connection.
///
/// Its methods come in four families:
///
/// - **look**: [`may_close_transport`](Self::may_close_transport), and the halves' own
///   (`incoming.is_mid_message()`, `outgoing.close_sent()`, …);
/// - **feed**: [`receive`](Self::receive) takes bytes of the peer. When time has passed is the
///   caller's to know: a deadline that runs out is a command;
/// - **command**: [`message`](Self::message), [`ping`](Self::ping), [`close`](Self::close);
/// - **output**: there is nothing to fetch. All bytes for the peer are appended to the `out` that
///   feeding and commanding take, in the order in which they must be written.
///
/// After every call: write `out`; once it is written, and
/// [`may_close_transport`](Self::may_close_transport) says so, close the transport. The server
/// closes it first and a client waits for that (RFC 6455 §7.1.1); each with a deadline of its own.
#[derive(Debug)]
pub struct Connection<K = Unmasked> {
    /// What the peer sends.
    pub incoming: Incoming,
    /// What we send.
    pub outgoing: Outgoing<K>,
}

impl Connection<Unmasked> {
    /// A server's end, after its 101 is sent.
    pub const fn server() -> Self {
        Self { incoming: Incoming::new(Role::Server), outgoing: Outgoing::server() }
    }
}

impl<K: MaskKeys> Connection<K> {
    /// A client's end, after the 101 has come, with the source of its mask keys.
    pub const fn client(keys: K) -> Self {
        Self { incoming: Incoming::new(Role::Client), outgoing: Outgoing::client(keys) }
    }

    /// Whether both have said their last word, or the peer has broken the protocol and been told.
    ///
    /// Before that the transport is closed only because a deadline ran out or it broke.
    pub const fn may_close_transport(&self) -> bool {
        self.incoming.is_ended() && self.outgoing.close_sent()
    }

    /// Takes bytes of the peer, answers what must be answered, and passes every event on.
    ///
    /// Appended to `out` before `on_event` sees the event: a Pong to a Ping, a Close to a Close.
    /// `on_event` is lent the outgoing half and `out` so that it can send at once. After our Close,
    /// events still come (messages the peer had under way), but nothing can be sent.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol. It has been sent a Close with the code of the violation,
    /// unless our Close was out already; no event will follow.
    pub fn receive(
        &mut self,
        input: &mut [u8],
        limits: &IncomingLimits,
        out: &mut Vec<u8>,
        mut on_event: impl FnMut(&mut Outgoing<K>, &mut Vec<u8>, Event<'_>),
    ) -> Result<(), ProtocolError> {
        let mut events = self.incoming.receive(input, limits);
        while let Some(event) = events.next() {
            match event {
                Ok(event) => {
                    answer(&mut self.outgoing, out, event);
                    on_event(&mut self.outgoing, out, event);
                }
                Err(error) => {
                    self.outgoing.close(out, error.close_code(), error.reason());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Appends a message; `false` if our Close is out.
    pub fn message(&mut self, out: &mut Vec<u8>, message: Message<'_>) -> bool {
        self.outgoing.message(out, message)
    }

    /// Appends a Ping; `false` if our Close is out.
    ///
    /// # Errors
    ///
    /// The payload has more than 125 bytes.
    pub fn ping(
        &mut self,
        out: &mut Vec<u8>,
        payload: &[u8],
    ) -> Result<bool, ControlPayloadTooLong> {
        self.outgoing.ping(out, payload)
    }

    /// Appends our Close, which starts the closing handshake; `false` if it is out already.
    pub fn close(&mut self, out: &mut Vec<u8>, code: CloseCode, reason: &str) -> bool {
        self.outgoing.close(out, code, reason)
    }
}

fn answer<K: MaskKeys>(outgoing: &mut Outgoing<K>, out: &mut Vec<u8>, event: Event<'_>) {
    match event {
        Event::Message(_) | Event::Pong(_) => {}
        // §5.5.3: "identical \"Application data\" as found in the message body of the Ping frame".
        // It was a control frame, so it fits one.
        Event::Ping(payload) => {
            let _ = outgoing.pong(out, payload);
        }
        // §5.5.1: "When sending a Close frame in response, the endpoint typically echos the status
        // code it received."
        Event::Close(close) => {
            outgoing.close(out, close.code, "");
        }
    }
}

#[cfg(test)]
mod tests;
