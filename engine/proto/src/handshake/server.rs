//! The server's end of the opening handshake.
//!
//! Never keeps the request: an [`Offer`] borrows it, and its accept value can be copied out.

use alloc::vec::Vec;
use core::fmt;

use super::{ACCEPT_BYTES, OWN_HEADERS, accept_for_key};
use crate::http::{
    Fields, InvalidHeader, Method, Request, RequestError, is_token, list,
    response::{append_header, check_header},
};

/// Most subprotocols one request may offer. Applications offer one to three; the limit keeps the
/// search for duplicates cheap.
pub const PROTOCOLS_MAX: usize = 32;

/// A client's wish for a WebSocket connection, checked, to be accepted or refused.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    accept: [u8; ACCEPT_BYTES],
    fields: Fields<'a>,
}

impl<'a> Offer<'a> {
    /// The Sec-WebSocket-Accept value of the answer, for [`append_accept`] when the request is
    /// gone.
    pub const fn accept(&self) -> [u8; ACCEPT_BYTES] {
        self.accept
    }

    /// The subprotocols the client speaks, the preferred ones first; no duplicates.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> + use<'a, '_> {
        self.fields
            .values("Sec-WebSocket-Protocol")
            .flat_map(list)
            .filter_map(|protocol| str::from_utf8(protocol).ok())
    }

    /// Whether the client speaks this subprotocol, in exactly these letters.
    pub fn offers_protocol(&self, protocol: &str) -> bool {
        self.protocols().any(|offered| offered == protocol)
    }

    /// The first of `supported` that the client speaks: the server's preference decides. `None` if
    /// there is no common one, or if the client offers none.
    ///
    /// A browser that has offered subprotocols fails a connection whose 101 names none of them, and
    /// tells its page nothing but 1006. A server that supports none of them can refuse the request
    /// with a status, which at least the browser's console shows.
    pub fn choose_protocol<'p>(&self, supported: &[&'p str]) -> Option<&'p str> {
        supported.iter().copied().find(|protocol| self.offers_protocol(protocol))
    }
}

impl<'a> Request<'a> {
    /// The client's offer, if the request asks for a WebSocket connection (RFC 6455 §4.2.1);
    /// `None` for plain HTTP. OPTIONS asks what there is, never for that, and HTTP/1.0 knows no
    /// Upgrade (RFC 9110 §7.8). To be asked before a body is read: a handshake has none.
    ///
    /// Extensions on offer are ignored, whatever they look like: none is ever agreed to.
    ///
    /// # Errors
    ///
    /// It asks for one, but not as the RFC says. Also when only the Sec-WebSocket fields are left of
    /// a handshake, which is what a proxy makes of it that was not told to pass it on.
    pub fn upgrade(&self) -> Result<Option<Offer<'a>>, RequestError> {
        let fields = self.headers();
        let is_upgrade = fields.list_has("Upgrade", "websocket") && !self.is_http_1_0();
        let has = |name| fields.values(name).next().is_some();
        let is_handshake = has("Sec-WebSocket-Key") || has("Sec-WebSocket-Version");
        if self.method() == Method::Options || !(is_upgrade || is_handshake) {
            return Ok(None);
        }
        if !matches!(self.method(), Method::Get | Method::Head) {
            return Err(RequestError::UpgradeMethod);
        }
        if self.is_http_1_0() {
            return Err(RequestError::UpgradeVersion);
        }
        if !is_upgrade {
            return Err(RequestError::Upgrade);
        }
        if self.method() != Method::Get {
            return Err(RequestError::UpgradeMethod);
        }
        if !fields.list_has("Connection", "upgrade") {
            return Err(RequestError::Connection);
        }
        let Ok(Some(b"13")) = fields.only("Sec-WebSocket-Version") else {
            return Err(RequestError::WebSocketVersion);
        };
        let accept = match fields.only("Sec-WebSocket-Key") {
            Ok(Some(key)) => accept_for_key(key).ok_or(RequestError::WebSocketKey)?,
            _ => return Err(RequestError::WebSocketKey),
        };
        check_protocols(&fields)?;
        Ok(Some(Offer { accept, fields }))
    }
}

/// §4.1: "The elements that comprise this value MUST be non-empty strings with characters in the
/// range U+0021 to U+007E not including separator characters [...] and MUST all be unique strings."
/// Empty elements of a list are none of its elements (RFC 9110 §5.6.1.2).
fn check_protocols(fields: &Fields<'_>) -> Result<(), RequestError> {
    let mut seen: [&[u8]; PROTOCOLS_MAX] = [&[]; PROTOCOLS_MAX];
    for (count, protocol) in fields.values("Sec-WebSocket-Protocol").flat_map(list).enumerate() {
        if count == PROTOCOLS_MAX || !is_token(protocol) || seen[..count].contains(&protocol) {
            return Err(RequestError::WebSocketProtocol);
        }
        seen[count] = protocol;
    }
    Ok(())
}

/// Why a 101 cannot be written as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// A header, or the subprotocol, is not fit to be sent.
    InvalidHeader(InvalidHeader),
    /// The client did not offer this subprotocol; it would fail the connection (RFC 6455 §4.1).
    NotOffered,
}

impl From<InvalidHeader> for AcceptError {
    fn from(error: InvalidHeader) -> Self {
        Self::InvalidHeader(error)
    }
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidHeader(error) => error.fmt(f),
            Self::NotOffered => f.write_str("subprotocol not offered by the client"),
        }
    }
}

impl core::error::Error for AcceptError {}

/// Appends the 101 that accepts `offer` (RFC 6455 §4.2.2), with one of its subprotocols or none.
///
/// # Errors
///
/// The subprotocol was not offered, or a header may not be sent; nothing is appended.
pub fn accept_response(
    out: &mut Vec<u8>,
    offer: &Offer<'_>,
    protocol: Option<&str>,
    headers: &[(&str, &str)],
) -> Result<(), AcceptError> {
    if protocol.is_some_and(|protocol| !offer.offers_protocol(protocol)) {
        return Err(AcceptError::NotOffered);
    }
    append_accept(out, &offer.accept, protocol, headers)?;
    Ok(())
}

/// As [`accept_response`], from the accept value alone: for an answer given later, when the
/// request is gone. That `protocol` was offered is for the caller to know.
///
/// # Errors
///
/// The subprotocol is no token, or a header may not be sent: its name is no token, its value has a
/// control character, or it is one this crate writes. Nothing is appended.
pub fn append_accept(
    out: &mut Vec<u8>,
    accept: &[u8; ACCEPT_BYTES],
    protocol: Option<&str>,
    headers: &[(&str, &str)],
) -> Result<(), InvalidHeader> {
    for (name, value) in headers {
        check_header(name, value, &OWN_HEADERS)?;
    }
    if protocol.is_some_and(|protocol| !is_token(protocol.as_bytes())) {
        return Err(InvalidHeader);
    }
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept);
    out.extend_from_slice(b"\r\n");
    if let Some(protocol) = protocol {
        append_header(out, "Sec-WebSocket-Protocol", protocol);
    }
    for (name, value) in headers {
        append_header(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}
