//! The connection as lent to a callback: what a handler may do with it.
//! It cannot outlive the callback; a [`ConnId`] can.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use ringwire_proto::{CloseCode, Message};

use crate::driver::Key;
use crate::shard::Core;
use crate::slot::Session;

/// Names a connection for as long as the server runs, also for other threads
/// ([`Handle`](crate::Handle)). Once its connection is gone, it names nothing: no later
/// connection gets the same one, nor does one of another server of this process.
///
/// As text it is four numbers with hyphens between, which `parse` takes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    pub(crate) server: u32,
    pub(crate) shard: u16,
    pub(crate) key: Key,
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, shard, key } = self;
        write!(f, "{server}-{shard}-{}-{}", key.slot, key.generation)
    }
}

impl FromStr for ConnId {
    type Err = InvalidConnId;

    /// Takes back what `Display` wrote.
    ///
    /// # Errors
    ///
    /// If the text is anything else.
    fn from_str(text: &str) -> Result<Self, InvalidConnId> {
        fn number<T: FromStr>(part: Option<&str>) -> Result<T, InvalidConnId> {
            let is_plain = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
            part.filter(is_plain).and_then(|text| text.parse().ok()).ok_or(InvalidConnId)
        }
        let mut parts = text.split('-');
        let (server, shard) = (number(parts.next())?, number(parts.next())?);
        let key = Key { slot: number(parts.next())?, generation: number(parts.next())? };
        let id = Self { server, shard, key };
        // A number has one spelling, so an id has, too.
        if parts.next().is_none() && id.to_string() == text { Ok(id) } else { Err(InvalidConnId) }
    }
}

/// The text is no [`ConnId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidConnId;

impl fmt::Display for InvalidConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a connection's id is four numbers with hyphens between")
    }
}

impl std::error::Error for InvalidConnId {}

/// What became of a message given to [`Conn::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendStatus {
    /// It goes out when the tick ends.
    Queued,
    /// It goes out too, but the peer reads slower than it is sent to
    /// ([`write_bytes_mark`](crate::Config::write_bytes_mark)). `on_drain` says when to go on.
    Backpressure,
    /// It does not go out: the connection is closing, or its write buffer is full
    /// ([`write_bytes_max`](crate::Config::write_bytes_max)), which by default closes it.
    Dropped,
}

/// A connection, lent to a callback. `S` is the handler's [`State`](crate::Handler::State).
pub struct Conn<'a, S> {
    session: &'a mut Session<S>,
    core: &'a mut Core,
}

impl<'a, S> Conn<'a, S> {
    #[inline]
    pub(crate) fn new(session: &'a mut Session<S>, core: &'a mut Core) -> Self {
        Self { session, core }
    }

    /// Sends a message: `&str` as text, `&[u8]` as binary, or a received
    /// [`Message`] as it came, which is not copied if it is large
    /// ([`forward_bytes_min`](crate::Config::forward_bytes_min)). Never blocks.
    #[inline]
    pub fn send<'m>(&mut self, message: impl Into<Message<'m>>) -> SendStatus {
        self.session.send(self.core, message.into())
    }

    /// Starts the closing handshake (RFC 6455 §7.1.2); nothing sent afterwards goes out, and
    /// messages that still arrive are dropped. `on_close` follows with the peer's answer, or
    /// at the latest after [`close_timeout_ms`](crate::Config::close_timeout_ms).
    ///
    /// If a message did not fit into the write buffer just before, the connection is closed with
    /// 1013 instead ([`Overflow::Close`](crate::Overflow::Close)).
    ///
    /// A reason of more than 123 bytes is cut between characters. With
    /// [`CloseCode::NO_STATUS`] or [`CloseCode::ABNORMAL`], which may not be sent, the Close
    /// frame is empty.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.session.close(self.core, code, reason);
    }

    /// Sends a ping (RFC 6455 §5.5.2); `false` if the payload has more than 125 bytes, the
    /// connection is closing, or its write buffer is full
    /// ([`write_bytes_max`](crate::Config::write_bytes_max)), which does not close it. Pings
    /// that keep a connection alive are sent without this
    /// ([`ping_interval_ms`](crate::Config::ping_interval_ms)).
    pub fn ping(&mut self, payload: &[u8]) -> bool {
        self.session.ping(self.core, payload)
    }

    /// The application's own state of this connection.
    #[inline]
    pub fn state(&mut self) -> &mut S {
        self.session.state.as_mut().expect("a callback's connection has been upgraded")
    }

    /// The name of this connection.
    #[must_use]
    pub fn id(&self) -> ConnId {
        ConnId { server: self.core.server, shard: self.core.shard as u16, key: self.session.key }
    }

    /// The shard it lives on, from 0.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.core.shard
    }

    /// The peer's address; `None` if it is gone already. Costs a system call
    /// (getpeername(2)): ask once and keep it in the state.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        (self.core.peer_addr)(&self.session.socket)
    }

    /// Bytes queued and not yet taken by the kernel.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.session.writes.unsent_bytes()
    }

    /// Subscribes to a topic; `true` if it is subscribed now. `false` if the connection is
    /// closing or a limit stands against it ([`subscriptions_max`](crate::Config),
    /// [`topic_bytes_max`](crate::Config)).
    pub fn subscribe(&mut self, topic: &str) -> bool {
        self.session.subscribe(self.core, topic)
    }

    /// Ends a subscription; `false` if there was none. What was published before still
    /// arrives. A closing connection leaves its topics by itself.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        self.session.unsubscribe(self.core, topic)
    }

    /// Publishes a message to every subscriber of `topic` on every shard, but not to this
    /// connection. The frame is encoded once.
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) {
        self.session.publish(self.core, topic, message.into(), false);
    }

    /// Publishes a message to every subscriber of `topic` on every shard, this connection
    /// included if it is one.
    pub fn publish_all<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) {
        self.session.publish(self.core, topic, message.into(), true);
    }
}

impl<S> fmt::Debug for Conn<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("id", &self.id())
            .field("stage", &self.session.stage)
            .field("buffered_bytes", &self.buffered_bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_being_text() {
        for number in [0, 1, 77, u32::MAX] {
            let key = Key { slot: number, generation: number };
            let id = ConnId { server: number, shard: number as u16, key };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in ["", "1-2-3", "1-2-3-4-5", "1-65536-3-4", "+1-2-3-4", "01-2-3-4", "1-2-3-4 "] {
            assert_eq!(text.parse::<ConnId>(), Err(InvalidConnId), "{text}");
        }
    }
}
