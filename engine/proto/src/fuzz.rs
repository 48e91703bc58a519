//! The bodies of the fuzz targets. Each takes arbitrary bytes and panics if something is wrong.
//!
//! Never part of a build without tests or the feature `fuzz`. The targets themselves are lines in
//! the package `ringwire-fuzz`; their corpus is replayed by `cargo test` there.

pub mod naive;
mod requests;

pub use requests::{check_body, http_body};

use alloc::vec::Vec;

use crate::{
    Close, Event, HeadLimits, HeadScan, Incoming, IncomingLimits, Method, ProtocolError, Request,
    RequestError, Role, http, mask,
};
use naive::Heard;

/// Frames: [`Incoming`] hears what the naive decoder hears, in one piece.
pub fn frame(data: &[u8]) {
    let Some((role, limits, stream)) = setting(data) else {
        return;
    };
    let expected = naive::hear(role, &limits, stream);
    assert_eq!(hear(role, &limits, stream, stream.len().max(1)), expected);
}

/// Cuts: where the input is cut makes no difference to what is heard.
pub fn cuts(data: &[u8]) {
    let Some((role, limits, rest)) = setting(data) else {
        return;
    };
    let Some((&cuts, rest)) = rest.split_first() else {
        return;
    };
    let (cuts, stream) = rest.split_at(usize::from(cuts % 32).min(rest.len()));
    let pieces = cuts.iter().map(|&bytes| usize::from(bytes));
    let whole = hear(role, &limits, stream, stream.len().max(1));
    assert_eq!(hear_in_pieces(role, &limits, stream, pieces), whole);
    assert_eq!(hear(role, &limits, stream, 1), whole);
}

/// Handshake: no head makes the parser panic, and the scan does not depend on cuts.
pub fn handshake(data: &[u8]) {
    let limits = HeadLimits { head_bytes_max: 2048, headers_max: 16, target_bytes_max: 512 };
    let whole = HeadScan::new().scan(data, &limits);
    assert_eq!(scan_byte_by_byte(data, &limits), whole);
    let Ok(Some(head_bytes)) = whole else { return };
    let (head, _) = data.split_at(head_bytes);
    let _ = crate::check_response(head, [0; 16], &["chat"]);
    let Ok(request) = Request::parse(head, &limits) else {
        return;
    };
    check_request(&request, &limits);
    assert_eq!(http::is_head_request(head), request.method() == Method::Head);
    match request.upgrade() {
        Ok(Some(offer)) => {
            assert!(request.method() == Method::Get && !request.is_http_1_0());
            let protocol = offer.protocols().next();
            assert_eq!(offer.choose_protocol(protocol.as_slice()), protocol);
            assert!(request.body_framing() == crate::BodyFraming::None);
            let mut out = Vec::new();
            crate::accept_response(&mut out, &offer, protocol, &[]).expect("it was offered");
            assert_eq!(HeadScan::new().scan(&out, &HeadLimits::default()), Ok(Some(out.len())));
        }
        Ok(None) => {}
        Err(error) => assert!((400..500).contains(&error.status())),
    }
}

/// What always holds of a request that was parsed: its parts lie where RFC 3986 says.
fn check_request(request: &Request<'_>, limits: &HeadLimits) {
    let (target, host, path) = (request.target(), request.host(), request.path());
    if target == "*" {
        assert_eq!((path, request.method()), ("*", Method::Options));
    } else {
        assert!(path.starts_with('/') && !path.contains(['?', '#']));
    }
    // A path that was sent is what stands behind the host, before the first `?`.
    let query_bytes = request.query().map_or(0, |query| query.len() + 1);
    let before_query = &target[..target.len() - query_bytes];
    match before_query.split_once("://").filter(|_| !target.starts_with('/')) {
        Some((_, rest)) => assert!(rest == host || rest.strip_prefix(host) == Some(path)),
        None => assert_eq!(before_query, path),
    }
    assert!(!host.is_empty() || request.is_http_1_0());
    assert!(!host.contains(['@', '/', '?', '#', '\\', ',']));
    assert!(request.headers().count() <= limits.headers_max);
    let _ = request.query_param("a");
    assert!(request.cookies().all(|(name, value)| !name.is_empty() && !value.contains(';')));
    assert!(request.body_framing() == crate::BodyFraming::None || request.method().may_have_body());
    let origin = request.origin().unwrap_or("null");
    let is_same = ["http", "https"].iter().any(|scheme| http::is_same_origin(origin, scheme, host));
    assert_eq!(http::is_origin_of_host(origin, host), is_same);
    assert!(!is_same || !host.is_empty());
    let _ = http::is_serialised_origin(origin);
}

/// Close payloads: what is accepted can be sent, and says the same when it comes back.
pub fn close_payload(data: &[u8]) {
    match Close::parse(data) {
        Ok(close) => {
            let mut out = Vec::new();
            crate::Outgoing::server().close(&mut out, close.code, close.reason);
            let sent = &out[2..];
            if data.len() <= 125 {
                assert_eq!(sent, data);
            }
            assert_eq!(Close::parse(sent).map(|sent| sent.code), Ok(close.code));
        }
        Err(error) => assert!([1002, 1007].contains(&error.close_code().as_u16())),
    }
}

/// Masks: whole or in two pieces, as the naive loop does it, and twice is not at all.
pub fn mask(data: &[u8]) {
    let [cut, start, a, b, c, d, payload @ ..] = data else {
        return;
    };
    let key = [*a, *b, *c, *d];
    let payload = &payload[usize::from(*start % 8).min(payload.len())..];
    let mut expected = payload.to_vec();
    naive::unmask(&mut expected, key);
    let mut pieces = payload.to_vec();
    let cut = usize::from(*cut).min(pieces.len());
    mask::unmask(&mut pieces[..cut], key);
    mask::unmask(&mut pieces[cut..], mask::rotate(key, cut));
    assert_eq!(pieces, expected);
    mask::unmask(&mut pieces, key);
    assert_eq!(pieces, payload);
}

/// What [`Incoming`] hears of `stream` in pieces of this many bytes.
pub fn hear(
    role: Role,
    limits: &IncomingLimits,
    stream: &[u8],
    piece_bytes: usize,
) -> Result<Vec<Heard>, (Vec<Heard>, ProtocolError)> {
    hear_in_pieces(role, limits, stream, core::iter::repeat(piece_bytes))
}

/// What [`Incoming`] hears of `stream` in pieces of these lengths, the last one being what is left.
pub fn hear_in_pieces(
    role: Role,
    limits: &IncomingLimits,
    stream: &[u8],
    piece_bytes: impl IntoIterator<Item = usize>,
) -> Result<Vec<Heard>, (Vec<Heard>, ProtocolError)> {
    let mut incoming = Incoming::new(role);
    let mut piece_bytes = piece_bytes.into_iter();
    let mut heard = Vec::new();
    let mut error = None;
    let mut received_bytes = 0;
    let mut rest = stream;
    while !rest.is_empty() {
        let end = piece_bytes.next().unwrap_or(rest.len()).clamp(1, rest.len());
        let mut piece = rest[..end].to_vec();
        rest = &rest[end..];
        received_bytes += end;
        let mut events = incoming.receive(&mut piece, limits);
        while let Some(event) = events.next() {
            assert!(error.is_none(), "an event after the end");
            match event {
                Ok(event) => heard.push(Heard::from(event)),
                Err(violation) => error = Some(violation),
            }
        }
        drop(events);
        let closed = matches!(heard.last(), Some(Heard::Close(..)));
        assert_eq!(incoming.is_ended(), closed || error.is_some());
        assert!(incoming.buffered_bytes() <= 8 * received_bytes + 4096);
        assert!(!incoming.is_idle() || incoming.buffered_bytes() == 0);
    }
    match error {
        None => Ok(heard),
        Some(error) => Err((heard, error)),
    }
}

fn scan_byte_by_byte(data: &[u8], limits: &HeadLimits) -> Result<Option<usize>, RequestError> {
    let mut scan = HeadScan::new();
    for end in 0..=data.len() {
        match scan.scan(&data[..end], limits) {
            Ok(None) => {}
            verdict => return verdict,
        }
    }
    Ok(None)
}

/// The first two bytes choose the role and the limits, small ones, so that they are reached.
fn setting(data: &[u8]) -> Option<(Role, IncomingLimits, &[u8])> {
    let (&[role, limit], stream) = data.split_first_chunk::<2>()?;
    let role = if role % 2 == 0 { Role::Server } else { Role::Client };
    let limits =
        IncomingLimits { message_bytes_max: usize::from(limit) * 16, fragment_charge_bytes: 64 };
    Some((role, limits, stream))
}

impl From<Event<'_>> for Heard {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message(message) if message.is_text() => Heard::Text(message.payload().into()),
            Event::Message(message) => Heard::Binary(message.payload().into()),
            Event::Ping(payload) => Heard::Ping(payload.into()),
            Event::Pong(payload) => Heard::Pong(payload.into()),
            Event::Close(close) => Heard::Close(close.code.as_u16(), close.reason.into()),
        }
    }
}
