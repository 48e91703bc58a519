//! The part that an application writes: the callbacks, and the answer to an opening handshake.
//! The callbacks of a handler value are called on one thread only.

use ringwire_proto::{
    CloseCode, Message, Offer, Request, Response, is_origin_of_host, is_serialised_origin,
};

use crate::conn::Conn;
use crate::context::Context;
use crate::shard::app_timers::TimerId;
use crate::ticket::Ticket;

/// The callbacks of one shard. Each shard has its own handler value, so a handler needs no lock
/// and need not be `Send`.
///
/// The order for one connection is [`on_upgrade`](Self::on_upgrade), [`on_open`](Self::on_open),
/// any number of [`on_message`](Self::on_message), [`on_pong`](Self::on_pong),
/// [`on_drain`](Self::on_drain) and [`on_gap`](Self::on_gap), and exactly one
/// [`on_close`](Self::on_close). Before all of them the shard has [`on_start`](Self::on_start).
///
/// The state of the connection is lent beside it, so that both can be used at once:
/// `conn.send(&state.name)`.
///
/// A callback must not block: no other connection of the shard is served meanwhile. Slow work
/// belongs on another thread, which answers through a [`Handle`](crate::Handle): with a message, or
/// with a [`Command`](Self::Command), which [`on_command`](Self::on_command) gets.
///
/// If a callback about a connection panics, the connection is closed with 1011 (RFC 6455 §7.4.1); a
/// handshake or a request whose callback panics gets 500. The other connections continue, whichever
/// callback it was, and timers fire again.
pub trait Handler: Sized + 'static {
    /// The application's state of a connection.
    type State: 'static;

    /// What other threads, other shards and callbacks may ask of this handler: usually an enum, or
    /// `()` if nothing.
    type Command: Send + 'static;

    /// Called once, on the shard's thread, before the shard accepts connections.
    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let _ = cx;
    }

    /// Answers a valid opening handshake (RFC 6455 §4.2): [`Upgrade::accept`] with the connection's
    /// state, or [`Upgrade::refuse`]. [`Context::peer_addr`] has the peer's address.
    ///
    /// The engine then checks the origin. A browser page of another origin than the requested host
    /// gets 403, unless the answer allows it with [`Upgrade::allow_origin`] (§10.2).
    ///
    /// If a browser offers subprotocols and the server chooses none, the browser fails the
    /// connection with 1006 and no reason. If your pages offer any, choose one with
    /// [`Upgrade::protocol`].
    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_, Self>,
        request: &Request<'_>,
        offer: &Offer<'_>,
    ) -> Upgrade<Self::State>;

    /// Called when the connection is open. Messages sent here follow the 101 directly.
    fn on_open(&mut self, conn: &mut Conn<'_, Self>, state: &mut Self::State) {
        let _ = (conn, state);
    }

    /// Called for each message, when it is complete and valid. Its bytes are valid until the
    /// callback returns.
    fn on_message(
        &mut self,
        conn: &mut Conn<'_, Self>,
        state: &mut Self::State,
        message: Message<'_>,
    ) {
        let _ = (conn, state, message);
    }

    /// Called for each pong, asked for or not (RFC 6455 §5.5.3). The payload is that of the ping it
    /// answers. The engine's own pings have an empty one.
    fn on_pong(&mut self, conn: &mut Conn<'_, Self>, state: &mut Self::State, payload: &[u8]) {
        let _ = (conn, state, payload);
    }

    /// Called once after the write buffer was above its high-water mark
    /// ([`write_bytes_mark`](crate::Config::write_bytes_mark)), by sends or by publishes, when at
    /// most half of the mark is unsent. Continue to send here after
    /// [`SendStatus::Backpressure`](crate::SendStatus::Backpressure).
    fn on_drain(&mut self, conn: &mut Conn<'_, Self>, state: &mut Self::State) {
        let _ = (conn, state);
    }

    /// Called when publishes were lost, because this shard fell too far behind another one
    /// ([`broadcast_entries`](crate::Config::broadcast_entries)) or because more was published in
    /// one tick than the engine holds (1 GiB).
    ///
    /// The engine does not know which topics they were for. So every connection of the shard with
    /// a subscription is told, before it gets a newer publish. This happens only with
    /// [`Overflow::Drop`](crate::Overflow::Drop). With
    /// [`Overflow::Close`](crate::Overflow::Close), the default, these connections are closed with
    /// 1013 and the reason "publishes lost" instead.
    fn on_gap(&mut self, conn: &mut Conn<'_, Self>, state: &mut Self::State, gap: Gap) {
        let _ = (conn, state, gap);
    }

    /// Called when the connection is over, and has left its topics. Sending has no effect here;
    /// publishing still works.
    ///
    /// `code` and `reason` are one of these:
    ///
    /// - those of the peer's Close frame ([`CloseCode::NO_STATUS`] if it had no code);
    /// - those with which the engine failed the connection (a violation, a deadline, a full write
    ///   buffer, a panic);
    /// - [`CloseCode::ABNORMAL`] if the connection ended without a Close frame (§7.1.5): FIN, a
    ///   reset, or a deadline that cut the connection off.
    fn on_close(
        &mut self,
        conn: &mut Conn<'_, Self>,
        state: &mut Self::State,
        code: CloseCode,
        reason: &str,
    ) {
        let _ = (conn, state, code, reason);
    }

    /// Answers a plain HTTP request on the same port: any method but OPTIONS, which the engine
    /// answers itself, with 204. [`Request::body`] is whole, and has at most
    /// [`body_bytes_max`](crate::Config::body_bytes_max). For HEAD the engine omits the body of the
    /// response. The connection stays open for the next request, unless the client or HTTP/1.0
    /// wants otherwise (RFC 9112 §9.3).
    ///
    /// Default: 200 for the path `/health`, for the health checks of load balancers; it shows that
    /// this shard runs. Every other path gets 426, since this is a WebSocket server (RFC 9110
    /// §15.5.22). A handler that overrides this method must answer health checks itself.
    fn on_request(&mut self, cx: &mut Context<'_, Self>, request: &Request<'_>) -> Reply {
        let _ = cx;
        if request.path() == "/health" && !request.method().may_have_body() {
            return Response::new(200).body("text/plain", b"ok\n".as_slice()).into();
        }
        let response = Response::new(426).header("Upgrade", "websocket");
        let response = response.expect("a token and a value");
        response.body("text/plain", b"this is a WebSocket server\n".as_slice()).into()
    }

    /// Called for each command that was given to this shard
    /// ([`Handle::command`](crate::Handle::command), [`Context::command`]), in the order in which
    /// the shard's queue took them.
    fn on_command(&mut self, cx: &mut Context<'_, Self>, command: Self::Command) {
        let _ = (cx, command);
    }

    /// Called when a timer has fired ([`Context::set_timer`], [`Context::set_interval`]).
    fn on_timer(&mut self, cx: &mut Context<'_, Self>, timer: TimerId) {
        let _ = (cx, timer);
    }

    /// Called once when the server is told to stop, before the connections of this shard are
    /// closed. Messages sent here still go out. Commands and timers go on until the last connection
    /// has ended; then the handler is dropped, and commands that are left are counted in
    /// [`Metrics::commands_lost`](crate::Metrics::commands_lost).
    fn on_stop(&mut self, cx: &mut Context<'_, Self>) {
        let _ = cx;
    }
}

/// The answer to a plain request, or that it comes later. A [`Response`] becomes one by `into()`.
#[derive(Debug)]
#[must_use = "an answer that is not returned answers nothing"]
pub struct Reply {
    /// The response, or the serial number of the ticket.
    pub(crate) answer: Result<Response, u32>,
}

impl Reply {
    /// Answers the request later, by this ticket. Until then the peer waits, at most for
    /// [`ticket_timeout_ms`](crate::Config::ticket_timeout_ms).
    pub fn later<H: Handler>(ticket: &Ticket<H>) -> Self {
        Self { answer: Err(ticket.serial()) }
    }
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self { answer: Ok(response) }
    }
}

/// A loss of publishes, as [`Handler::on_gap`] gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// Number of publishes lost, over all topics.
    pub publishes: u64,
}

/// The answer to an opening handshake. It must be returned from [`Handler::on_upgrade`].
#[derive(Debug)]
#[must_use = "an answer that is not returned answers nothing"]
pub struct Upgrade<S> {
    pub(crate) answer: Answer<S>,
}

#[derive(Debug)]
pub(crate) enum Answer<S> {
    Accept(Accept<S>),
    Refuse(Response),
    /// By the ticket of this serial number.
    Later(u32),
}

#[derive(Debug)]
pub(crate) struct Accept<S> {
    pub(crate) state: S,
    pub(crate) protocol: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) origins: Origins,
}

/// The origins whose pages may open the connection. Only browsers send an Origin.
#[derive(Debug)]
pub(crate) enum Origins {
    /// The origin of the requested host, and these.
    Same(Vec<String>),
    Any,
}

impl Origins {
    /// Whether a page of this origin may connect to `host`.
    pub(crate) fn admit(&self, origin: Option<&str>, host: &str) -> bool {
        let Some(origin) = origin else { return true };
        match self {
            Self::Same(others) => {
                is_origin_of_host(origin, host) || others.iter().any(|other| other == origin)
            }
            Self::Any => true,
        }
    }
}

impl<S> Upgrade<S> {
    /// Accepts the handshake (101) with this state, unless the request comes from a page of another
    /// origin. Such a request gets 403, and the state is dropped.
    ///
    /// A browser lets any page connect to any server, sends the server's cookies along, and names
    /// the page's origin in the field Origin (RFC 6455 §10.2). Accepted are:
    ///
    /// - requests without Origin, which come from other programs than browsers;
    /// - requests whose origin is `http` or `https` at the requested host and port, as the target
    ///   or Host names them.
    ///
    /// The scheme is not compared, since TLS ends in front of the engine. A missing port means the
    /// default port of the origin's scheme. `null` counts as another origin.
    ///
    /// A proxy in front must pass Host on unchanged (nginx: `proxy_set_header Host $http_host;`).
    /// Otherwise every page seems to be of another origin.
    pub fn accept(state: S) -> Self {
        let (headers, origins) = (Vec::new(), Origins::Same(Vec::new()));
        Self { answer: Answer::Accept(Accept { state, protocol: None, headers, origins }) }
    }

    /// Also accepts pages of this origin, such as `https://app.example`. Each further call adds an
    /// origin. It is compared byte by byte with the Origin that the browser sends.
    ///
    /// # Panics
    ///
    /// If no browser sends an origin in this form: with a path, a capital letter, or the scheme's
    /// default port (RFC 6454 §6.2). Also for `null`, because any site can make its pages send it;
    /// [`dangerously_allow_any_origin`](Self::dangerously_allow_any_origin) accepts it.
    pub fn allow_origin(mut self, origin: &str) -> Self {
        assert!(is_serialised_origin(origin), "not an origin as browsers send it: {origin:?}");
        if let Answer::Accept(Accept { origins: Origins::Same(others), .. }) = &mut self.answer {
            others.push(origin.to_owned());
        }
        self
    }

    /// Accepts pages of any site. Such a page acts with its visitor's cookies and from within the
    /// visitor's network (RFC 6455 §10.2). Use it only if the server has no private data and trusts
    /// no cookies, or if `on_upgrade` checks [`Request::origin`] itself.
    pub fn dangerously_allow_any_origin(mut self) -> Self {
        if let Answer::Accept(accept) = &mut self.answer {
            accept.origins = Origins::Any;
        }
        self
    }

    /// Answers the handshake later, by this ticket. Until then the peer waits, at most for
    /// [`ticket_timeout_ms`](crate::Config::ticket_timeout_ms).
    pub fn later<H: Handler<State = S>>(ticket: &Ticket<H>) -> Self {
        Self { answer: Answer::Later(ticket.serial()) }
    }

    /// Refuses the handshake with `response`, such as 401, 403 or 503.
    pub fn refuse(response: Response) -> Self {
        Self { answer: Answer::Refuse(response) }
    }

    /// Chooses one of the offered subprotocols (RFC 6455 §4.2.2). A name that was not offered makes
    /// the engine answer 500, because a client must fail such a connection.
    pub fn protocol(mut self, name: &str) -> Self {
        if let Answer::Accept(accept) = &mut self.answer {
            accept.protocol = Some(name.to_owned());
        }
        self
    }

    /// Adds a header field to the 101, such as `Set-Cookie`. The engine answers 500 instead if the
    /// name or value is invalid (a line break, for example), or if the handshake itself uses the
    /// field.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Answer::Accept(accept) = &mut self.answer {
            accept.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(upgrade: Upgrade<()>) -> Origins {
        match upgrade.answer {
            Answer::Accept(accept) => accept.origins,
            Answer::Refuse(_) | Answer::Later(_) => panic!("it accepts"),
        }
    }

    #[test]
    fn origins_are_let_in_by_name_or_all_of_them() {
        let same = origins(Upgrade::accept(()));
        let two = Upgrade::accept(()).allow_origin("https://a.example").allow_origin("app://b");
        let two = origins(two);
        let any = origins(Upgrade::accept(()).dangerously_allow_any_origin());
        // An origin, and whether it may connect to `c.example`.
        let table = [
            (None, true, true),
            (Some("https://c.example"), true, true),
            (Some("https://a.example"), false, true),
            (Some("app://b"), false, true),
            (Some("http://a.example"), false, false),
            (Some("https://A.example"), false, false),
            (Some("https://a.example:443"), false, false),
            (Some("https://a.example."), false, false),
            (Some("https://a.example.evil"), false, false),
            (Some("null"), false, false),
            (Some(""), false, false),
        ];
        for (origin, by_same, by_two) in table {
            assert_eq!(same.admit(origin, "c.example"), by_same, "{origin:?}");
            assert_eq!(two.admit(origin, "c.example"), by_two, "{origin:?}");
            assert!(any.admit(origin, "c.example"), "{origin:?}");
        }
    }

    #[test]
    fn any_stays_any() {
        let upgrade = Upgrade::accept(()).dangerously_allow_any_origin();
        let any = origins(upgrade.allow_origin("https://a.example"));
        assert!(any.admit(Some("https://b.example"), "c.example"));
    }

    #[test]
    fn an_origin_that_would_never_match_is_a_mistake() {
        for origin in ["null", "*", "a.example", "https://a.example/", "https://a:443"] {
            let allowed = std::panic::catch_unwind(|| {
                let _ = Upgrade::accept(()).allow_origin(origin);
            });
            assert!(allowed.is_err(), "{origin}");
        }
    }
}
