//! What an application writes: the callbacks of a connection, and the answer to an upgrade.
//! Nothing here is ever called from more than one thread.

use ringwire_proto::{
    CloseCode, Message, Offer, Request, Response, is_origin_of_host, is_serialised_origin,
};

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
    /// Whatever this returns, the engine refuses (403) pages of other origins than the host
    /// they ask for, unless [`Upgrade::allow_origin`] names theirs (§10.2).
    ///
    /// A browser that offers subprotocols fails a connection for which none is chosen, with
    /// 1006 and no reason: choose one by [`Upgrade::protocol`] if your pages offer any.
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

    /// A plain HTTP request on the same port: GET or HEAD, of HTTP/1.1 or 1.0. The connection
    /// ends with the response; for HEAD the engine leaves out its body. OPTIONS is answered by
    /// the engine, with 204.
    ///
    /// Default: 200 for the path `/health`, which is for the health checks of load balancers and
    /// says that this shard runs; 426 for all others, this is a WebSocket server (RFC 9110
    /// §15.5.22). A handler with an `on_request` of its own answers health checks itself.
    fn on_request(&mut self, request: &Request<'_>) -> Response {
        if request.path() == "/health" {
            return Response::new(200).body("text/plain", b"ok\n".as_slice());
        }
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
    Accept(Accept<S>),
    Refuse(Response),
}

#[derive(Debug)]
pub(crate) struct Accept<S> {
    pub(crate) state: S,
    pub(crate) protocol: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) origins: Origins,
}

/// Whose pages may open the connection. Other programs than browsers send no Origin.
#[derive(Debug)]
pub(crate) enum Origins {
    /// Those of the host that is asked for, and these.
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
    /// Opens the connection (101) with this state, if the request comes from no page of another
    /// origin; else the engine answers 403 and drops the state.
    ///
    /// A browser lets any page connect anywhere, sends the cookies of that place along, and says
    /// in Origin whose page it was (RFC 6455 §10.2). Let in are requests without Origin (other
    /// programs than browsers), and those whose origin is `http` or `https` at the host and port
    /// that are asked for, by the target or by Host. The scheme is not compared, since TLS ends
    /// in front of the engine; a port that is not written is that of the origin's scheme. `null`
    /// is another origin.
    ///
    /// A proxy in front must pass the Host on as it came (nginx: `proxy_set_header Host
    /// $http_host;`), or every page is one of another origin.
    pub fn accept(state: S) -> Self {
        let (headers, origins) = (Vec::new(), Origins::Same(Vec::new()));
        Self { answer: Answer::Accept(Accept { state, protocol: None, headers, origins }) }
    }

    /// Lets in pages of this origin too, such as `https://app.example`; may be called again for
    /// further ones. It is compared byte by byte with what the browser sends.
    ///
    /// # Panics
    ///
    /// If no browser would ever send it in these bytes: with a path, a capital letter, or the
    /// port of the scheme itself, say (RFC 6454 §6.2). And for `null`, which every site can have
    /// its pages send: that is [`dangerously_allow_any_origin`](Self::dangerously_allow_any_origin).
    pub fn allow_origin(mut self, origin: &str) -> Self {
        assert!(is_serialised_origin(origin), "not an origin as browsers send it: {origin:?}");
        if let Answer::Accept(Accept { origins: Origins::Same(others), .. }) = &mut self.answer {
            others.push(origin.to_owned());
        }
        self
    }

    /// Lets in pages of any site: each can act here with its visitor's cookies, from within the
    /// visitor's network (RFC 6455 §10.2). Only for servers that tell nobody anything private and
    /// believe no cookie, or that judge [`Request::origin`] themselves.
    pub fn dangerously_allow_any_origin(mut self) -> Self {
        if let Answer::Accept(accept) = &mut self.answer {
            accept.origins = Origins::Any;
        }
        self
    }

    /// Answers with `response` instead, such as 401, 403 or 503.
    pub fn refuse(response: Response) -> Self {
        Self { answer: Answer::Refuse(response) }
    }

    /// Chooses a subprotocol, one of those offered (RFC 6455 §4.2.2); otherwise the request
    /// is answered with 500, since a client must fail such a connection.
    pub fn protocol(mut self, name: &str) -> Self {
        if let Answer::Accept(accept) = &mut self.answer {
            accept.protocol = Some(name.to_owned());
        }
        self
    }

    /// Adds a header field to the 101, such as `Set-Cookie`. A name or value that cannot be
    /// one (a line break, say), or one the handshake itself uses, answers the request with
    /// 500 and is never emitted.
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
            Answer::Refuse(_) => panic!("it accepts"),
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
