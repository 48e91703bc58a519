//! The client's end of the opening handshake.
//!
//! Never draws a key: the caller does, a new one for each connection (RFC 6455 §4.1).

use alloc::vec::Vec;
use core::{fmt, mem::MaybeUninit};

use super::{KEY_BYTES, OWN_HEADERS, accept_for, encode};
use crate::http::{
    Fields, HEADERS_MAX, HeadLimits, HeadScan, InvalidHeader, is_token, list,
    response::{append_header, check_header},
};

/// Appends the request that asks `host` for a WebSocket connection (RFC 6455 §4.1).
///
/// `target` is the path with its query, `key` 16 random bytes, `protocols` the subprotocols on
/// offer, the preferred ones first.
///
/// # Errors
///
/// Something in it is not fit to be sent: a target that does not begin with `/` or is not visible
/// ASCII, a subprotocol that is no token or named twice, or a header that may not be sent. Nothing
/// is appended.
pub fn client_request(
    out: &mut Vec<u8>,
    host: &str,
    target: &str,
    key: [u8; 16],
    protocols: &[&str],
    headers: &[(&str, &str)],
) -> Result<(), InvalidHeader> {
    check_line(host, target)?;
    for (at, protocol) in protocols.iter().enumerate() {
        if !is_token(protocol.as_bytes()) || protocols[..at].contains(protocol) {
            return Err(InvalidHeader);
        }
    }
    for (name, value) in headers {
        check_header(name, value, &OWN_HEADERS)?;
    }
    for part in ["GET ", target, " HTTP/1.1\r\nHost: ", host, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ");
    out.extend_from_slice(&key_text(key));
    out.extend_from_slice(b"\r\nSec-WebSocket-Version: 13\r\n");
    if !protocols.is_empty() {
        append_header(out, "Sec-WebSocket-Protocol", &protocols.join(", "));
    }
    for (name, value) in headers {
        append_header(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Why a server's answer does not open the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseError {
    /// Not a whole head of an HTTP response.
    Malformed,
    /// A status other than 101: this one.
    Status(u16),
    /// Upgrade is not `websocket`.
    Upgrade,
    /// Connection lacks `upgrade`.
    Connection,
    /// Sec-WebSocket-Accept does not answer our key.
    Accept,
    /// A subprotocol we did not offer, or several.
    Protocol,
    /// An extension; we offer none.
    Extension,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed response",
            Self::Status(status) => return write!(f, "status {status} instead of 101"),
            Self::Upgrade => "Upgrade is not websocket",
            Self::Connection => "Connection lacks upgrade",
            Self::Accept => "wrong Sec-WebSocket-Accept",
            Self::Protocol => "subprotocol not offered",
            Self::Extension => "extension not offered",
        })
    }
}

impl core::error::Error for ResponseError {}

/// Checks the head of the server's answer to [`client_request`], and tells the subprotocol it
/// chose (RFC 6455 §4.1).
///
/// `head` goes from the status line to the empty line; [`HeadScan`] finds its end. Bytes behind it are the server's first frames.
///
/// # Errors
///
/// The answer does not open the connection; the client must close it.
pub fn check_response<'a>(
    head: &'a [u8],
    key: [u8; 16],
    protocols: &[&str],
) -> Result<Option<&'a str>, ResponseError> {
    let limits = HeadLimits { head_bytes_max: head.len() + 1, ..HeadLimits::default() };
    if !matches!(HeadScan::new().scan(head, &limits), Ok(Some(end)) if end == head.len()) {
        return Err(ResponseError::Malformed);
    }
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        head,
        &mut headers,
    );
    if parsed != Ok(httparse::Status::Complete(head.len())) || response.version != Some(1) {
        return Err(ResponseError::Malformed);
    }
    match response.code {
        Some(101) => {}
        status => return Err(ResponseError::Status(status.unwrap_or(0))),
    }
    let fields = Fields::of_head(head);
    match fields.only("Upgrade") {
        Ok(Some(value)) if value.eq_ignore_ascii_case(b"websocket") => {}
        _ => return Err(ResponseError::Upgrade),
    }
    if !fields.list_has("Connection", "upgrade") {
        return Err(ResponseError::Connection);
    }
    match fields.only("Sec-WebSocket-Accept") {
        Ok(Some(value)) if value == accept_for(&key_text(key)) => {}
        _ => return Err(ResponseError::Accept),
    }
    if fields.values("Sec-WebSocket-Extensions").flat_map(list).next().is_some() {
        return Err(ResponseError::Extension);
    }
    match fields.only("Sec-WebSocket-Protocol") {
        Ok(None) => Ok(None),
        Ok(Some(value)) => match str::from_utf8(value) {
            Ok(protocol) if protocols.contains(&protocol) => Ok(Some(protocol)),
            _ => Err(ResponseError::Protocol),
        },
        Err(_) => Err(ResponseError::Protocol),
    }
}

/// The Sec-WebSocket-Key value of a key.
fn key_text(key: [u8; 16]) -> [u8; KEY_BYTES] {
    let mut text = [0; KEY_BYTES];
    encode(&key, &mut text);
    text
}

fn check_line(host: &str, target: &str) -> Result<(), InvalidHeader> {
    let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_empty() || !is_visible(host) || !target.starts_with('/') || !is_visible(target) {
        return Err(InvalidHeader);
    }
    Ok(())
}
