//! How other threads reach a running server. Every call puts a command into a shard's bounded
//! queue and returns at once. The shard's thread executes it.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use bytes::Bytes;
use ringwire_proto::{CloseCode, Message, Opcode, append_frame, frame_header_bytes};

use crate::conn::ConnId;
use crate::driver_choice::DriverKind;
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
    driver: DriverKind,
}

impl Handle {
    /// A handle of shards on io_uring, or on the simulated driver, which plays its order of events.
    pub(crate) fn new(mailboxes: Arc<[Mailbox]>, server: u32) -> Self {
        Self { mailboxes, server, driver: DriverKind::IoUring }
    }

    /// The same handle, of shards on `driver`.
    pub(crate) fn on(self, driver: DriverKind) -> Self {
        Self { driver, ..self }
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

    /// The driver that the shards run on.
    #[must_use]
    pub fn driver(&self) -> DriverKind {
        self.driver
    }

    /// The counters of all shards and the driver, in the text format that Prometheus reads
    /// (exposition format 0.0.4). Send it as `text/plain; version=0.0.4`.
    ///
    /// Each field of [`Metrics`] is a line: `ringwire_NAME_total` for a counter, and
    /// `ringwire_connections_now` for the one gauge. The driver is
    /// `ringwire_driver{driver="epoll"} 1`, or the same with `io_uring`.
    ///
    /// A handler answers a scraper with the handle that its thread finds after the start:
    ///
    /// ```
    /// use std::sync::OnceLock;
    ///
    /// use ringwire::{Conn, DriverChoice, Handle, Handler, Message, Request, Response, Server};
    ///
    /// static HANDLE: OnceLock<Handle> = OnceLock::new();
    ///
    /// struct Echo;
    ///
    /// impl Handler for Echo {
    ///     type State = ();
    ///
    ///     fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
    ///         conn.send(message);
    ///     }
    ///
    ///     fn on_request(&mut self, request: &Request<'_>) -> Response {
    ///         if request.path() != "/metrics" {
    ///             return Response::new(404);
    ///         }
    ///         let Some(handle) = HANDLE.get() else { return Response::new(503) };
    ///         let text = handle.metrics_text().into_bytes();
    ///         Response::new(200).body("text/plain; version=0.0.4", text)
    ///     }
    /// }
    ///
    /// let server = Server::builder().listen("127.0.0.1:0").driver(DriverChoice::Epoll);
    /// let running = server.start(|_shard| Echo)?;
    /// let handle = HANDLE.get_or_init(|| running.handle());
    /// assert!(handle.metrics_text().contains("ringwire_driver{driver=\"epoll\"} 1\n"));
    /// # Ok::<(), ringwire::SetupError>(())
    /// ```
    #[must_use]
    pub fn metrics_text(&self) -> String {
        self.metrics().text(self.driver)
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
        f.debug_struct("Handle")
            .field("shards", &self.mailboxes.len())
            .field("driver", &self.driver)
            .finish()
    }
}

fn encode(message: Message<'_>) -> Bytes {
    let payload = message.payload();
    let mut frame = Vec::with_capacity(frame_header_bytes(payload.len()) + payload.len());
    let opcode = if message.is_text() { Opcode::Text } else { Opcode::Binary };
    append_frame(&mut frame, opcode, payload);
    frame.into()
}

#[cfg(test)]
mod tests {
    use crate::{Conn, DriverChoice, DriverKind, Handler, Message, Server};

    struct Nothing;

    impl Handler for Nothing {
        type State = ();

        fn on_message(&mut self, _conn: &mut Conn<'_, ()>, _message: Message<'_>) {}
    }

    #[test]
    fn a_handle_and_its_text_name_the_driver() {
        let server = Server::builder().listen("127.0.0.1:0").shards(1).driver(DriverChoice::Epoll);
        let running = server.start(|_shard| Nothing).expect("epoll works on every Linux");
        let handle = running.handle();
        assert_eq!((running.driver(), handle.driver()), (DriverKind::Epoll, DriverKind::Epoll));
        let text = handle.metrics_text();
        assert!(text.lines().any(|line| line == "ringwire_driver{driver=\"epoll\"} 1"), "{text}");
        handle.stop();
        running.join().expect("no shard panics");
    }
}
