//! How other threads reach a running server. Every call puts a command into a shard's bounded
//! queue. The shard's thread executes it.

mod waiting;

use std::cell::Cell;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use ringwire_proto::{CloseCode, Message};
use socket2::{SockRef, Type};

pub use self::waiting::Waiting;
use crate::connection::conn_id::ConnId;
use crate::connection::send_status::{SendCounts, SendStatus};
use crate::error::HandleError;
use crate::message::{AsMessage, encode};
use crate::metrics::Metrics;
use crate::server::driver_choice::DriverKind;
use crate::shard::addressees::Addressees;
use crate::shard::mailbox::{Adopted, Command, Mailbox};

/// Reaches a running server from any thread. Cloning is cheap. `C` is the handler's
/// [`Command`](crate::Handler::Command).
///
/// `Ok` means that the command is queued. If the server ends first, the command is not executed and
/// is counted in [`Metrics::commands_lost`].
///
/// The queue of a shard is bounded ([`command_entries`](crate::Config::command_entries),
/// [`command_bytes_max`](crate::Config::command_bytes_max)). The methods here never wait: a full
/// queue is [`HandleError::Busy`], and counted in [`Metrics::commands_refused`].
/// [`waiting`](Self::waiting) waits for room, on a thread or in a task.
pub struct Handle<C = ()> {
    mailboxes: Arc<[Mailbox<C>]>,
    /// The server whose ids are valid here.
    server: u32,
    driver: DriverKind,
}

impl<C> Clone for Handle<C> {
    fn clone(&self) -> Self {
        let mailboxes = Arc::clone(&self.mailboxes);
        Self { mailboxes, server: self.server, driver: self.driver }
    }
}

impl<C> Handle<C> {
    /// A handle of shards on io_uring, or on a driver that is none of the kernel's.
    pub(crate) fn new(mailboxes: Arc<[Mailbox<C>]>, server: u32) -> Self {
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
    pub fn publish(&self, topic: &str, message: impl AsMessage) -> Result<(), HandleError> {
        let (mailbox, command) = self.publication(topic, message.as_message());
        mailbox.push(command)
    }

    /// Sends a message to one connection. Has no effect if the connection has ended, is closing or
    /// has no room for the message (see [`Config::overflow`](crate::Config::overflow)).
    ///
    /// # Errors
    ///
    /// [`HandleError::Busy`], [`HandleError::Stopped`] or [`HandleError::OtherServer`]. The message
    /// is then not sent.
    pub fn send(&self, id: ConnId, message: impl AsMessage) -> Result<(), HandleError> {
        self.mailbox(id)?
            .push(Command::Send { key: id.key, frame: encode(message.as_message()).into() })
    }

    /// Sends one message to many connections, as [`send`](Self::send) does to each. The frame is
    /// encoded once and shared, as in [`Context::send_many`](crate::Context::send_many).
    ///
    /// [`queued`](SendCounts::queued) says for how many of them a shard's queue has taken it,
    /// [`dropped`](SendCounts::dropped) for how many the queue was full, and
    /// [`gone`](SendCounts::gone) how many are another server's, or that this one has stopped.
    #[must_use = "the message is lost for connections whose shard's queue is full"]
    pub fn send_many(
        &self,
        ids: impl IntoIterator<Item = ConnId>,
        message: impl AsMessage,
    ) -> SendCounts {
        let mut counts = SendCounts::default();
        let mut addressees = Addressees::default();
        for id in ids {
            match self.mailbox(id) {
                Ok(_) => addressees.add(id),
                Err(_) => counts.add(SendStatus::Gone, 1),
            }
        }
        let frame = Bytes::from(encode(message.as_message()));
        addressees.send(&frame, &mut counts, |shard, command| {
            self.mailboxes[usize::from(shard)].push(command)
        });
        counts
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

    /// Cuts one connection off, as [`Conn::terminate`](crate::Conn::terminate) does. Has no effect
    /// if it has ended.
    ///
    /// # Errors
    ///
    /// [`HandleError::Busy`], [`HandleError::Stopped`] or [`HandleError::OtherServer`]. The
    /// connection then stays.
    pub fn terminate(&self, id: ConnId) -> Result<(), HandleError> {
        self.mailbox(id)?.push(Command::Terminate { key: id.key })
    }

    /// Gives a command to the handler of one shard
    /// ([`on_command`](crate::Handler::on_command)). [`ConnId::shard`] says which shard has a
    /// connection.
    ///
    /// # Errors
    ///
    /// [`HandleError::Busy`] or [`HandleError::Stopped`]. The command is then dropped.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    pub fn command(&self, shard: usize, command: C) -> Result<(), HandleError> {
        self.mailboxes[shard].push(Command::Custom(command))
    }

    /// Hands a connection over that somebody else has accepted and upgraded: another HTTP server in
    /// this process has sent its 101 response. From here on it is served like any other, beginning
    /// with [`on_open`](crate::Handler::on_open).
    ///
    /// `leftover` is what that server has read behind the request already: the first frames. `state`
    /// must be the handler's [`State`](crate::Handler::State); another type is an error of the
    /// application, which the log names. `shard` chooses a shard; `None` takes the one with the
    /// fewest connections. A connection beyond
    /// [`connections_max`](crate::Config::connections_max) is closed, and counted in
    /// [`Metrics::connections_refused`].
    ///
    /// The socket must not be registered anywhere any more: tokio's `TcpStream::into_std` sees to
    /// that. TLS must have ended before it. The 101 must agree to no extension;
    /// [`accept_for_key`](crate::accept_for_key) makes its Sec-WebSocket-Accept. Whether a page of
    /// another origin may connect (RFC 6455 §10.2) is for that server to decide.
    ///
    /// # Errors
    ///
    /// [`HandleError::Busy`] or [`HandleError::Stopped`]; the connection is then closed.
    /// [`HandleError::NoStream`] if the descriptor is that of something else: a datagram socket
    /// could not be cut off, and the server would never end.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    pub fn adopt<S: Send + 'static>(
        &self,
        shard: Option<usize>,
        socket: impl Into<OwnedFd>,
        leftover: Vec<u8>,
        state: S,
    ) -> Result<(), HandleError> {
        let socket = socket.into();
        if SockRef::from(&socket).r#type().ok() != Some(Type::STREAM) {
            return Err(HandleError::NoStream);
        }
        prepare(&socket);
        let mailbox = match shard {
            Some(shard) => &self.mailboxes[shard],
            None => self.mailboxes.iter().min_by_key(|mailbox| mailbox.connections()).expect("one"),
        };
        mailbox.push(Command::Adopt(Adopted { socket, leftover, state: Box::new(state) }))
    }

    /// The same calls, which wait for room instead of failing with [`HandleError::Busy`].
    #[must_use]
    pub fn waiting(&self) -> Waiting<'_, C> {
        Waiting { handle: self }
    }

    /// How many shards the server has.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.mailboxes.len()
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

    /// The counters of one shard, at most one tick old.
    ///
    /// # Panics
    ///
    /// If there is no such shard.
    #[must_use]
    pub fn shard_metrics(&self, shard: usize) -> Metrics {
        let mut metrics = Metrics::default();
        self.mailboxes[shard].add_metrics_to(&mut metrics);
        metrics
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
    /// A handler answers a scraper by [`Context::handle`](crate::Context::handle):
    ///
    /// ```
    /// use ringwire::{Context, Handler, Offer, Reply, Request, Response, Upgrade};
    ///
    /// struct Scraped;
    ///
    /// impl Handler for Scraped {
    ///     type State = ();
    ///     type Command = ();
    ///
    ///     fn on_request(&mut self, cx: &mut Context<'_, Self>, request: &Request<'_>) -> Reply {
    ///         if request.path() != "/metrics" {
    ///             return Response::new(404).into();
    ///         }
    ///         let text = cx.handle().metrics_text().into_bytes();
    ///         Response::new(200).body("text/plain; version=0.0.4", text).into()
    ///     }
    ///
    ///     fn on_upgrade(
    ///         &mut self,
    ///         _: &mut Context<'_, Self>,
    ///         _: &Request<'_>,
    ///         _: &Offer<'_>,
    ///     ) -> Upgrade<()> {
    ///         Upgrade::accept(())
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn metrics_text(&self) -> String {
        self.metrics().text(self.driver)
    }

    /// Leaves the answer to a ticket.
    pub(crate) fn answer(&self, shard: usize, answer: Command<C>) {
        self.mailboxes[shard].push_answer(answer);
    }

    fn publication(&self, topic: &str, message: Message<'_>) -> (&Mailbox<C>, Command<C>) {
        // One shard per topic, so that its publishes stay in order and topics spread.
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(topic);
        let mailbox = &self.mailboxes[hash as usize % self.mailboxes.len()];
        (mailbox, Command::Publish { topic: topic.into(), frame: encode(message).into() })
    }

    fn mailbox(&self, id: ConnId) -> Result<&Mailbox<C>, HandleError> {
        if id.server != self.server {
            return Err(HandleError::OtherServer);
        }
        self.mailboxes.get(usize::from(id.shard)).ok_or(HandleError::OtherServer)
    }
}

impl<C> std::fmt::Debug for Handle<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("shards", &self.mailboxes.len())
            .field("driver", &self.driver)
            .finish()
    }
}

thread_local! {
    static IS_SHARD: Cell<bool> = const { Cell::new(false) };
}

/// This thread is a shard's from now on: it must not wait for one.
pub(crate) fn become_shard() {
    IS_SHARD.set(true);
}

/// As a listener's sockets are: io_uring waits by itself, and no frame waits for another one's
/// acknowledgement. A Unix socket has no such option, and sends at once. Any other socket that
/// refuses is gone, as the first receive will say.
fn prepare(socket: &OwnedFd) {
    let socket = SockRef::from(socket);
    let _ = socket.set_nonblocking(false);
    let _ = socket.set_tcp_nodelay(true);
}

#[cfg(test)]
mod tests {
    use crate::{Context, DriverChoice, DriverKind, Handler, Offer, Request, Server, Upgrade};

    struct Nothing;

    impl Handler for Nothing {
        type State = ();
        type Command = ();

        fn on_upgrade(
            &mut self,
            _cx: &mut Context<'_, Self>,
            _request: &Request<'_>,
            _offer: &Offer<'_>,
        ) -> Upgrade<()> {
            Upgrade::accept(())
        }
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
