//! The connection as a callback gets it. It cannot outlive the callback; a [`ConnId`] can.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;

use ringwire_proto::CloseCode;

use crate::connection::slot::Session;
use crate::context::Context;
use crate::driver::Key;
use crate::error::{HandleError, SubscribeError};
use crate::handler::Handler;
use crate::message::AsMessage;
use crate::shard::core::Core;

/// Identifies a connection, also for other threads ([`Handle`](crate::Handle)). No later connection
/// gets the same id, and no connection of another server in this process has it. After the
/// connection has ended, its id matches nothing.
///
/// `Display` writes it as four numbers with hyphens between them; `parse` reads that text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    pub(crate) server: u32,
    pub(crate) shard: u16,
    pub(crate) key: Key,
}

impl ConnId {
    /// The number of the shard that has the connection, from 0.
    #[must_use]
    pub fn shard(self) -> usize {
        usize::from(self.shard)
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, shard, key } = self;
        write!(f, "{server}-{shard}-{}-{}", key.slot, key.generation)
    }
}

impl FromStr for ConnId {
    type Err = InvalidConnId;

    /// Reads the text that `Display` writes.
    ///
    /// # Errors
    ///
    /// [`InvalidConnId`] for any other text.
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

/// The text is not a [`ConnId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidConnId;

impl fmt::Display for InvalidConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a connection's id is four numbers with hyphens between")
    }
}

impl std::error::Error for InvalidConnId {}

/// The result of [`Conn::send`], [`Conn::ping`] and [`send_to`](crate::Context::send_to).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendStatus {
    /// The message is queued and goes out when the tick ends.
    Queued,
    /// The message is queued, but the peer reads too slowly: the write buffer is above its
    /// high-water mark ([`write_bytes_mark`](crate::Config::write_bytes_mark)). Wait for
    /// [`on_drain`](crate::Handler::on_drain) before you send more.
    Backpressure,
    /// The message is not queued. The connection is closing, or its write buffer is full
    /// ([`write_bytes_max`](crate::Config::write_bytes_max)), which closes it by default. A ping is
    /// not queued either if its payload is too long.
    Dropped,
    /// There is no such connection any more. Only
    /// [`send_to`](crate::Context::send_to) says so.
    Gone,
}

impl SendStatus {
    /// Whether the message is queued: it goes out, unless the connection ends first.
    #[must_use]
    pub const fn is_queued(self) -> bool {
        matches!(self, Self::Queued | Self::Backpressure)
    }

    /// What a message to another shard's connection has come to.
    pub(crate) fn of_command(told: Result<(), HandleError>) -> Self {
        match told {
            Ok(()) => Self::Queued,
            Err(HandleError::Busy) => Self::Dropped,
            Err(_) => Self::Gone,
        }
    }
}

/// The result of [`send_many`](crate::Context::send_many): how many connections have which
/// [`SendStatus`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendCounts {
    /// [`SendStatus::Queued`].
    pub queued: usize,
    /// [`SendStatus::Backpressure`].
    pub backpressure: usize,
    /// [`SendStatus::Dropped`].
    pub dropped: usize,
    /// [`SendStatus::Gone`].
    pub gone: usize,
}

impl SendCounts {
    pub(crate) fn add(&mut self, status: SendStatus, connections: usize) {
        *match status {
            SendStatus::Queued => &mut self.queued,
            SendStatus::Backpressure => &mut self.backpressure,
            SendStatus::Dropped => &mut self.dropped,
            SendStatus::Gone => &mut self.gone,
        } += connections;
    }
}

/// A connection, as a callback gets it, and through it the whole shard: it dereferences to
/// [`Context`]. `H` is the handler.
pub struct Conn<'a, H: Handler> {
    context: Context<'a, H>,
}

impl<'a, H: Handler> Deref for Conn<'a, H> {
    type Target = Context<'a, H>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.context
    }
}

impl<H: Handler> DerefMut for Conn<'_, H> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.context
    }
}

impl<'a, H: Handler> Conn<'a, H> {
    /// `context` is that of a callback about a connection.
    #[inline]
    pub(crate) fn new(context: Context<'a, H>) -> Self {
        debug_assert!(context.current.is_some());
        Self { context }
    }

    #[inline]
    fn session(&self) -> &Session<H::State> {
        self.context.current.as_ref().expect("the callback is about a connection")
    }

    #[inline]
    fn parts(&mut self) -> (&mut Session<H::State>, &mut Core) {
        let Context { core, current, .. } = &mut self.context;
        (current.as_mut().expect("the callback is about a connection"), core)
    }

    /// Sends a message: `str` or `String` as text, `[u8]`, `Vec<u8>` or `Bytes` as binary, or a
    /// received [`Message`](crate::Message) unchanged, borrowed or owned ([`AsMessage`]). Sending a
    /// large received message back copies nothing
    /// ([`forward_bytes_min`](crate::Config::forward_bytes_min)). Does not block.
    ///
    /// The result may be ignored: a peer that reads too slowly is closed, or misses the message, as
    /// [`overflow`](crate::Config::overflow) says, and the message is counted.
    #[inline]
    pub fn send(&mut self, message: impl AsMessage) -> SendStatus {
        let (session, core) = self.parts();
        session.send(core, message.as_message())
    }

    /// Starts the closing handshake (RFC 6455 §7.1.2). Messages sent earlier still go out; later
    /// ones do not. Messages that still arrive are discarded. `on_close` follows with the peer's
    /// Close frame, or after [`close_timeout_ms`](crate::Config::close_timeout_ms) without
    /// progress.
    ///
    /// If a message did not fit into the write buffer earlier in this tick, the connection is
    /// closed with 1013 instead ([`Overflow::Close`](crate::Overflow::Close)).
    ///
    /// A reason of more than 123 bytes is truncated between characters. [`CloseCode::NO_STATUS`]
    /// and [`CloseCode::ABNORMAL`] must not be sent; with them the Close frame is empty.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        let (session, core) = self.parts();
        session.close(core, code, reason);
    }

    /// Cuts the connection off after this callback, without a Close frame: what is queued is
    /// dropped, messages that have arrived are discarded, and `on_close` follows with
    /// [`CloseCode::ABNORMAL`]: in this tick, or in one of the next if the tick ends more
    /// connections than its share. For a peer that shall get no word and no time; any other deserves
    /// [`close`](Self::close).
    pub fn terminate(&mut self) {
        let (session, core) = self.parts();
        session.terminate_later(core);
    }

    /// Sends a ping (RFC 6455 §5.5.2), whose answer [`on_pong`](Handler::on_pong) gets. The result
    /// is [`SendStatus::Dropped`] if the payload has more than 125 bytes, the connection is closing,
    /// or the ping does not fit into the write buffer
    /// ([`write_bytes_max`](crate::Config::write_bytes_max)); that does not close the connection.
    /// The engine itself sends the pings that keep a connection alive
    /// ([`ping_interval_ms`](crate::Config::ping_interval_ms)).
    pub fn ping(&mut self, payload: &[u8]) -> SendStatus {
        let (session, core) = self.parts();
        session.ping(core, payload)
    }

    /// The id of this connection.
    #[must_use]
    pub fn id(&self) -> ConnId {
        let Core { server, shard, .. } = *self.context.core;
        ConnId { server, shard: shard as u16, key: self.session().key }
    }

    /// Unsent bytes: queued, and not yet accepted by the kernel.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.session().writes.unsent_bytes()
    }

    /// Subscribes to a topic. Has no effect if the connection is subscribed already, or is closing.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`] if that would exceed a limit
    /// ([`subscriptions_max`](crate::Config::subscriptions_max),
    /// [`topic_bytes_max`](crate::Config::topic_bytes_max)). The connection is then not subscribed.
    pub fn subscribe(&mut self, topic: &str) -> Result<(), SubscribeError> {
        let (session, core) = self.parts();
        session.subscribe(core, topic)
    }

    /// Ends a subscription. Returns `false` if there was none. Earlier publishes are still
    /// delivered. A closing connection leaves its topics automatically.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        let (session, core) = self.parts();
        session.unsubscribe(core, topic)
    }

    /// Whether the connection is subscribed to a topic.
    #[must_use]
    pub fn is_subscribed(&self, topic: &str) -> bool {
        let topic = self.context.core.topics.find(topic);
        let subscriptions = self.session().subscriptions.as_ref();
        topic.is_some_and(|topic| subscriptions.is_some_and(|held| held.contains(topic)))
    }

    /// The topics that the connection is subscribed to, in no order.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        let topics = &self.context.core.topics;
        let held = self.session().subscriptions.iter();
        held.flat_map(|held| held.topics()).map(|topic| topics.name_of(topic))
    }

    /// Publishes a message to all subscribers of one topic, on every shard, except this connection.
    /// [`publish_all`](Context::publish_all) includes it. The frame is encoded once.
    pub fn publish(&mut self, topic: &str, message: impl AsMessage) {
        let (session, core) = self.parts();
        session.publish(core, topic, message.as_message());
    }
}

impl<H: Handler> fmt::Debug for Conn<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("id", &self.id())
            .field("stage", &self.session().stage)
            .field("buffered_bytes", &self.buffered_bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_peer_gets_its_messages_too() {
        for (status, is_queued) in [
            (SendStatus::Queued, true),
            (SendStatus::Backpressure, true),
            (SendStatus::Dropped, false),
            (SendStatus::Gone, false),
        ] {
            assert_eq!(status.is_queued(), is_queued, "{status:?}");
        }
    }

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
