//! How other threads reach a running server. Every call puts a command into a shard's bounded
//! queue and returns at once. The shard's thread executes it.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use bytes::Bytes;
use ringwire_proto::{CloseCode, Message, Opcode, append_frame, frame_header_bytes};

use crate::conn::ConnId;
use crate::error::HandleError;
use crate::mailbox::{Command, Mailbox};
use crate::metrics::Metrics;

/// Reaches a running server from any thread. Cloning is cheap.
///
/// `Ok` means that the command is queued. If the server ends first, the command is not executed and
/// is counted in [`Metrics::commands_lost`].
#[derive(Clone)]
pub struct Handle {
    mailboxes: Arc<[Mailbox]>,
    /// The server whose ids are valid here.
    server: u32,
}

impl Handle {
    pub(crate) fn new(mailboxes: Arc<[Mailbox]>, server: u32) -> Self {
        Self { mailboxes, server }
    }

    /// Publishes a message to all subscribers of one topic, on every shard. Publishes of one thread
    /// to one topic arrive in their order.
    ///
    /// # Errors
    ///
    /// [`HandleError::Busy`] or [`HandleError::Stopped`]. The message is then not published on any
    /// shard.
    pub fn publish<'m>(
        &self,
        topic: &str,
        message: impl Into<Message<'m>>,
    ) -> Result<(), HandleError> {
        // One shard per topic, so that its publishes stay in order and topics spread.
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(topic);
        let mailbox = &self.mailboxes[hash as usize % self.mailboxes.len()];
        mailbox.push(Command::Publish { topic: topic.into(), frame: encode(message.into()) })
    }

    /// Sends a message to one connection. Has no effect if the connection has ended, is closing or
    /// has no room for the message (see [`Config::overflow`](crate::Config::overflow)).
    ///
    /// # Errors
    ///
    /// [`HandleError::Busy`], [`HandleError::Stopped`] or [`HandleError::OtherServer`]. The message
    /// is then not sent.
    pub fn send<'m>(&self, id: ConnId, message: impl Into<Message<'m>>) -> Result<(), HandleError> {
        self.mailbox(id)?.push(Command::Send { key: id.key, frame: encode(message.into()) })
    }

    /// Starts the closing handshake of one connection, as [`Conn::close`](crate::Conn::close) does.
    /// Has no effect if the connection has ended.
    ///
    /// # Errors
    ///
    /// [`HandleError::Busy`], [`HandleError::Stopped`] or [`HandleError::OtherServer`]. The
    /// connection is then not closed.
    pub fn close(&self, id: ConnId, code: CloseCode, reason: &str) -> Result<(), HandleError> {
        self.mailbox(id)?.push(Command::Close { key: id.key, code, reason: reason.into() })
    }

    /// Starts a graceful shutdown. The server stops accepting and closes every connection with
    /// 1001. Connections that are left after
    /// [`drain_timeout_ms`](crate::Config::drain_timeout_ms) are cut off. The engine itself handles
    /// no signals. Further calls have no effect.
    pub fn stop(&self) {
        self.mailboxes.iter().for_each(Mailbox::stop);
    }

    /// The counters of all shards, added up. Each is at most one tick old.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let mut sum = Metrics::default();
        self.mailboxes.iter().for_each(|mailbox| mailbox.add_metrics_to(&mut sum));
        sum
    }

    fn mailbox(&self, id: ConnId) -> Result<&Mailbox, HandleError> {
        if id.server != self.server {
            return Err(HandleError::OtherServer);
        }
        self.mailboxes.get(usize::from(id.shard)).ok_or(HandleError::OtherServer)
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("shards", &self.mailboxes.len()).finish()
    }
}

fn encode(message: Message<'_>) -> Bytes {
    let payload = message.payload();
    let mut frame = Vec::with_capacity(frame_header_bytes(payload.len()) + payload.len());
    let opcode = if message.is_text() { Opcode::Text } else { Opcode::Binary };
    append_frame(&mut frame, opcode, payload);
    frame.into()
}
