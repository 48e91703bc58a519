//! Why a request is refused and why a header of ours is not sent.
//!
//! Never carries bytes of the peer: nothing it sent can come back in an answer.

use core::fmt;

use super::Response;

/// A request that is answered with an error and a closed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// Not HTTP: bad request line, bare CR or LF, NUL, bad header name or value (RFC 9112 §2.2,
    /// §3, §5). 400.
    Malformed,
    /// A version other than HTTP/1.1 and 1.0 (RFC 9112 §2.3). 400.
    HttpVersion,
    /// A request target that is neither a path nor an absolute URI of http, https, ws or wss, or
    /// one with userinfo or a fragment (RFC 9112 §3.2, RFC 9110 §4.2). 400.
    Target,
    /// Host missing (but in HTTP/1.0), empty, repeated or malformed (RFC 9112 §3.2). 400.
    Host,
    /// Origin repeated or not visible ASCII: no policy could judge it (RFC 6454 §7). 400.
    Origin,
    /// Content-Length repeated, empty, not a number or beyond 64 bits (RFC 9112 §6.3). 400.
    ContentLength,
    /// A Transfer-Encoding that leaves in doubt where the request ends: `chunked` is not the last
    /// coding, or is applied twice; it is in HTTP/1.0, or beside a Content-Length (RFC 9112 §6.1,
    /// §6.3). 400.
    TransferEncoding,
    /// A Transfer-Encoding with a coding below `chunked` (RFC 9112 §6.1). 501.
    TransferCoding,
    /// A GET, HEAD or OPTIONS with a body, announced by its length or by Transfer-Encoding (RFC 9110
    /// §9.3.1: it might be an attempt at request smuggling). 400.
    Body,
    /// The body is longer than the limit (RFC 9110 §15.5.14). 413.
    BodyTooLong,
    /// A chunked body that is malformed: the size of a chunk, a line end, a trailer field (RFC 9112
    /// §7.1). 400.
    Chunk,
    /// The chunk extensions of a body are too long (RFC 9112 §7.1.1). 400.
    ChunkExtensions,
    /// The trailer fields of a body are too long (RFC 6585 §5). 431.
    TrailersTooLong,
    /// An Expect with anything but `100-continue` (RFC 9110 §10.1.1). 417.
    Expectation,
    /// A method other than those of [`Method`](super::Method) (RFC 9110 §15.5.6). 405.
    Method,
    /// A method other than GET with an opening handshake (RFC 6455 §4.1). 405.
    UpgradeMethod,
    /// The request target is too long (RFC 9110 §15.5.15). 414.
    TargetTooLong,
    /// The head is too long (RFC 6585 §5). 431.
    HeadTooLong,
    /// Too many header fields (RFC 6585 §5). 431.
    TooManyHeaders,
    /// An opening handshake in HTTP/1.0, where Upgrade means nothing (RFC 9110 §7.8). 426.
    UpgradeVersion,
    /// The Sec-WebSocket fields of an opening handshake without `Upgrade: websocket`: a proxy has
    /// taken it away. 426.
    Upgrade,
    /// `Upgrade: websocket` without `Connection: upgrade` (RFC 6455 §4.2.1). 400.
    Connection,
    /// Sec-WebSocket-Version missing, repeated or not 13 (RFC 6455 §4.4). 426.
    WebSocketVersion,
    /// Sec-WebSocket-Key missing, repeated or not 16 bytes in base64 (RFC 6455 §4.2.1). 400.
    WebSocketKey,
    /// Sec-WebSocket-Protocol with an element that is no token, a duplicate, or too many (RFC 6455
    /// §4.1). 400.
    WebSocketProtocol,
}

impl RequestError {
    /// The status of the answer.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Method | Self::UpgradeMethod => 405,
            Self::BodyTooLong => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::UpgradeVersion | Self::Upgrade | Self::WebSocketVersion => 426,
            Self::HeadTooLong | Self::TooManyHeaders | Self::TrailersTooLong => 431,
            Self::TransferCoding => 501,
            _ => 400,
        }
    }

    /// What was wrong, in a few words.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed request",
            Self::HttpVersion => "HTTP version is neither 1.1 nor 1.0",
            Self::Target => "bad request target",
            Self::Host => "bad Host",
            Self::Origin => "bad Origin",
            Self::ContentLength => "bad Content-Length",
            Self::TransferEncoding => "bad Transfer-Encoding",
            Self::TransferCoding => "transfer coding is not chunked alone",
            Self::Body => "request body not accepted",
            Self::BodyTooLong => "request body too long",
            Self::Chunk => "malformed chunked body",
            Self::ChunkExtensions => "chunk extensions too long",
            Self::TrailersTooLong => "trailer fields too long",
            Self::Expectation => "expectation not known",
            Self::Method => "method not allowed",
            Self::UpgradeMethod => "only GET can open a WebSocket",
            Self::TargetTooLong => "request target too long",
            Self::HeadTooLong => "request head too long",
            Self::TooManyHeaders => "too many header fields",
            Self::UpgradeVersion => "WebSocket handshake in HTTP/1.0",
            Self::Upgrade => "WebSocket handshake without Upgrade: websocket",
            Self::Connection => "WebSocket handshake without Connection: upgrade",
            Self::WebSocketVersion => "Sec-WebSocket-Version is not 13",
            Self::WebSocketKey => "bad Sec-WebSocket-Key",
            Self::WebSocketProtocol => "bad Sec-WebSocket-Protocol",
        }
    }

    /// The whole answer, with the headers its status asks for. Its body is the reason, and what to
    /// do about it where somebody can.
    pub fn response(&self) -> Response {
        let body = [self.reason(), "\n", self.advice()].concat();
        let response = Response::new(self.status()).body("text/plain", body.into_bytes());
        match self {
            Self::Method => response.own_header("Allow", METHODS),
            // RFC 9110 §15.5.6: not the method that has just been refused.
            Self::UpgradeMethod => response.own_header("Allow", "GET, OPTIONS"),
            // RFC 6455 §4.4 and RFC 9110 §15.5.22.
            Self::UpgradeVersion | Self::Upgrade | Self::WebSocketVersion => response
                .own_header("Upgrade", "websocket")
                .own_header("Sec-WebSocket-Version", "13"),
            _ => response,
        }
    }

    /// For whoever has put a proxy in front: the usual cause of handshakes that lost a part.
    const fn advice(&self) -> &'static str {
        match self {
            Self::UpgradeVersion | Self::Upgrade | Self::Connection => PROXY_ADVICE,
            _ => "",
        }
    }
}

/// All of [`Method`](super::Method).
const METHODS: &str = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE";

/// nginx speaks HTTP/1.0 to a server unless told otherwise (before 1.29.7), and passes neither
/// Upgrade nor Connection on.
const PROXY_ADVICE: &str = "A proxy in between has probably changed the request. \
nginx needs these lines where its proxy_pass is:\n\
\x20   proxy_http_version 1.1;\n\
\x20   proxy_set_header Upgrade $http_upgrade;\n\
\x20   proxy_set_header Connection \"upgrade\";\n";

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl core::error::Error for RequestError {}

/// A header that is not sent: its name is no token, its value has a byte that would break the
/// head open (CR, LF, NUL, …), or it is one that this crate writes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHeader;

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("header name or value not allowed")
    }
}

impl core::error::Error for InvalidHeader {}
