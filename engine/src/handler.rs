//! What an application writes: the callbacks of a connection, and the answer to an upgrade.
//! Nothing here is ever called from more than one thread.

use ringwire_proto::{CloseCode, Message, Offer, Request, Response};

use crate::conn::Conn;

/// The callbacks of one shard. Each shard has a handler value of its own, so a handler needs
/// no lock and need not be `Send`.
///
/// For one connection the order is: [`on_upgrade`](Self::on_upgrade),
/// [`on_open`](Self::on_open), any number of messages and drains, and exactly one
/// [`on_close`](Self::on_close). A callback that panics closes its connection with 1011
/// (RFC 6455 §7.4.1); the others go on.
pub trait Handler: Sized + 'static {
    /// What the application keeps per connection.
    type State: Default + 'static;

    /// A valid opening handshake (RFC 6455 §4.2). Default: accepted, with the default state
    /// and no subprotocol.
    ///
    /// The Origin header is not checked unless this does it: a page of any site can open a
    /// connection with its visitor's cookies (§10.2).
    fn on_upgrade(&mut self, request: &Request<'_>, offer: &Offer<'_>) -> Upgrade<Self::State> {
        let _ = (request, offer);
        Upgrade::accept(Self::State::default())
    }

    /// The connection is open. Whatever is sent here goes out right behind the 101.
    fn on_open(&mut self, conn: &mut Conn<'_, Self::State>) {
        let _ = conn;
    }

    /// A message, whole and checked. Its bytes are gone when the callback returns.
    fn on_message(&mut self, conn: &mut Conn<'_, Self::State>, message: Message<'_>) {
        let _ = (conn, message);
    }

    /// After [`SendStatus::Backpressure`](crate::SendStatus::Backpressure): the peer has read
    /// enough, there is room again.
    fn on_drain(&mut self, conn: &mut Conn<'_, Self::State>) {
        let _ = conn;
    }

    /// Publishes of other shards have been lost before this connection could be given those meant
    /// for it: this shard fell too far behind
    /// ([`broadcast_entries`](crate::Config::broadcast_entries)). Nobody knows which topics they
    /// were for, so every connection that is subscribed to any is told, before it gets anything
    /// newer. Only with [`Overflow::Drop`](crate::Overflow::Drop): otherwise such a connection is
    /// closed with 1013.
    fn on_gap(&mut self, conn: &mut Conn<'_, Self::State>, gap: Gap) {
        let _ = (conn, gap);
    }

    /// The connection is over. Sending has no effect any more, publishing has.
    ///
    /// `code` and `reason` are the peer's Close frame's
    /// ([`CloseCode::NO_STATUS`] if it had none), those the engine closed it with
    /// (a violation, a deadline, a panic), or [`CloseCode::ABNORMAL`] if the connection
    /// ended without a Close frame (§7.1.5).
    fn on_close(&mut self, conn: &mut Conn<'_, Self::State>, code: CloseCode, reason: &str) {
        let _ = (conn, code, reason);
    }

    /// A plain HTTP request, GET or HEAD, on the same port. The connection ends with the
    /// response. Default: 426, this is a WebSocket server (RFC 9110 §15.5.22).
    fn on_request(&mut self, request: &Request<'_>) -> Response {
        let _ = request;
        let response = Response::new(426).header("Upgrade", "websocket");
        let response = response.expect("a token and a value");
        response.body("text/plain", b"this is a WebSocket server\n".as_slice())
    }
}

/// What a subscriber may have missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// How many publishes were lost, to whatever topics.
    pub publishes: u64,
}

/// The answer to an opening handshake.
#[derive(Debug)]
#[must_use = "an answer that is not returned answers nothing"]
pub struct Upgrade<S> {
    pub(crate) answer: Answer<S>,
}

#[derive(Debug)]
pub(crate) enum Answer<S> {
    Accept { state: S, protocol: Option<String>, headers: Vec<(String, String)> },
    Refuse(Response),
}

impl<S> Upgrade<S> {
    /// Opens the connection (101) with this state.
    pub fn accept(state: S) -> Self {
        Self { answer: Answer::Accept { state, protocol: None, headers: Vec::new() } }
    }

    /// Answers with `response` instead, such as 401, 403 or 503.
    pub fn refuse(response: Response) -> Self {
        Self { answer: Answer::Refuse(response) }
    }

    /// Chooses a subprotocol, one of those offered (RFC 6455 §4.2.2); otherwise the request
    /// is answered with 500, since a client must fail such a connection.
    pub fn protocol(mut self, name: &str) -> Self {
        if let Answer::Accept { protocol, .. } = &mut self.answer {
            *protocol = Some(name.to_owned());
        }
        self
    }

    /// Adds a header field to the 101, such as `Set-Cookie`. A name or value that cannot be
    /// one (a line break, say), or one the handshake itself uses, answers the request with
    /// 500 and is never emitted.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Answer::Accept { headers, .. } = &mut self.answer {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }
}
