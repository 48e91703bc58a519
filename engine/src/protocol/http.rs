//! Requests of HTTP/1.1 (RFC 9112), one after the other on a connection, until one of them asks for
//! a WebSocket or the connection ends. Opening handshakes are answered in `handshake.rs`, and
//! what is answered later in `later.rs`.
//!
//! ```text
//!            ┌──────────── the response is out, and nothing has come ────────────┐
//!            ▼                                                                   │
//! Idle ──► Opening ──► (head) ──► (body) ──► on_request ──► Answering ──────────┤
//!            ▲                                   │   ▲                           │
//!            │                                   ▼   │                           │
//!            │                                 Awaiting                          │
//!            └──────────── the response is out, and the next request has come ───┘
//! ```
//!
//! The next request is looked at when the response to the one before is out. What comes earlier is
//! kept unparsed, and bounded.

use ringwire_proto::http::CONTINUE;
use ringwire_proto::{
    BodyFraming, BodyProgress, BodyReader, HeadScan, Method, Request, Response, is_head_request,
};

use super::handshake::{open_and_take, upgrade};
use super::later::{admit_rest, await_answer};
use super::response::{is_head, is_surplus, refuse, reply, respond, try_again_later};
use super::websocket::Failure;
use crate::connection::deadlines::look_anew;
use crate::connection::slot::{Body, Head, Pending, Session, Slot, Stage};
use crate::driver::Socket;
use crate::handler::{Handler, Reply};
use crate::shard::core::Core;
use crate::shard::lent::Lent;

/// Takes input that belongs to a request.
pub(crate) fn take_request_bytes<H: Handler, K: Socket>(
    lent: &mut Lent<'_, H, K>,
    slot: &mut Slot<H::State>,
    input: &mut [u8],
) -> Failure {
    if slot.session.stage == Stage::Idle {
        slot.session.stage = Stage::Opening;
        slot.session.since_ms = lent.core.now_ms as u32;
        look_anew(lent.core, &slot.session);
    }
    match slot.session.pending.take().map(|pending| *pending) {
        Some(Pending::Body(body)) => take_body(lent, slot, body, input),
        Some(Pending::Head(Head { scan, mut bytes })) => {
            bytes.extend_from_slice(input);
            take_head(lent, slot, scan, &mut bytes)
        }
        _ => take_head(lent, slot, HeadScan::default(), input),
    }
}

/// Looks for the end of the head. Usually the head comes in one piece and is read where the kernel
/// put it; only one in pieces is copied.
fn take_head<H: Handler, K: Socket>(
    lent: &mut Lent<'_, H, K>,
    slot: &mut Slot<H::State>,
    mut scan: HeadScan,
    input: &mut [u8],
) -> Failure {
    match scan.scan(input, &lent.core.head_limits) {
        Ok(Some(head_bytes)) => return take_request(lent, slot, input, head_bytes),
        Ok(None) => {
            let head = Head { scan, bytes: input.to_vec() };
            slot.session.pending = Some(Box::new(Pending::Head(head)));
        }
        Err(error) => refuse(lent.core, &mut slot.session, &error, is_head_request(input)),
    }
    None
}

/// The head is whole. What follows it is a body, the next request, or frames.
fn take_request<H: Handler, K: Socket>(
    lent: &mut Lent<'_, H, K>,
    slot: &mut Slot<H::State>,
    input: &mut [u8],
    head_bytes: usize,
) -> Failure {
    let (head, rest) = input.split_at_mut(head_bytes);
    let request = match Request::parse(head, &lent.core.head_limits) {
        Ok(request) => request,
        Err(error) => {
            refuse(lent.core, &mut slot.session, &error, is_head_request(head));
            return None;
        }
    };
    match request.upgrade() {
        Ok(Some(_)) if is_surplus(lent.core, slot.session.key) => {
            lent.core.metrics.handshakes_refused += 1;
            respond(lent.core, &mut slot.session, &try_again_later(), false);
        }
        Ok(Some(offer)) => {
            upgrade(lent, slot, &request, &offer, (head, rest));
            let failure = admit_rest(lent.core, &slot.session, rest);
            return if failure.is_some() { failure } else { open_and_take(lent, slot, rest) };
        }
        Ok(None) if request.body_framing() == BodyFraming::None => {
            return answer_request(lent, &mut slot.session, &request, (head, rest));
        }
        Ok(None) => return begin_body(lent, slot, &request, (head, rest)),
        Err(error) => refuse(lent.core, &mut slot.session, &error, is_head(&request)),
    }
    None
}

fn begin_body<H: Handler, K: Socket>(
    lent: &mut Lent<'_, H, K>,
    slot: &mut Slot<H::State>,
    request: &Request<'_>,
    (head, rest): (&[u8], &mut [u8]),
) -> Failure {
    let Core { config, pool, .. } = &mut *lent.core;
    let reader = match BodyReader::new(request.body_framing(), config.body_bytes_max) {
        Ok(reader) => reader,
        Err(error) => {
            refuse(lent.core, &mut slot.session, &error, false);
            return None;
        }
    };
    if request.expects_continue() && rest.is_empty() {
        slot.session.writes.append(pool, CONTINUE.len(), |out| out.extend_from_slice(CONTINUE));
        slot.session.mark_dirty(lent.core);
    }
    slot.session.since_ms = lent.core.now_ms as u32;
    let body = Body { head: head.to_vec(), reader, bytes: Vec::new() };
    take_body(lent, slot, body, rest)
}

fn take_body<H: Handler, K: Socket>(
    lent: &mut Lent<'_, H, K>,
    slot: &mut Slot<H::State>,
    mut body: Body,
    input: &mut [u8],
) -> Failure {
    let session = &mut slot.session;
    match body.reader.read(input, &mut body.bytes) {
        Ok(BodyProgress::More) => {
            session.pending = Some(Box::new(Pending::Body(body)));
            look_anew(lent.core, session);
        }
        Ok(BodyProgress::Whole { consumed_bytes }) => {
            let request = Request::parse(&body.head, &lent.core.head_limits);
            let request = request.expect("it was parsed before").with_body(&body.bytes);
            let rest = &input[consumed_bytes..];
            return answer_request(lent, session, &request, (&body.head, rest));
        }
        Err(error) => refuse(lent.core, session, &error, false),
    }
    None
}

fn answer_request<H: Handler, K: Socket>(
    lent: &mut Lent<'_, H, K>,
    session: &mut Session<H::State>,
    request: &Request<'_>,
    (head, rest): (&[u8], &[u8]),
) -> Failure {
    answer_or_wait(lent, session, request, (head, rest));
    admit_rest(lent.core, session, rest)
}

fn answer_or_wait<H: Handler, K: Socket>(
    lent: &mut Lent<'_, H, K>,
    session: &mut Session<H::State>,
    request: &Request<'_>,
    (head, rest): (&[u8], &[u8]),
) {
    if request.method() == Method::Options {
        // Of no resource in particular (RFC 9110 §9.3.7): a load balancer asks whether we live.
        let response = Response::new(204).header("Allow", ALLOWED).expect("a token and a value");
        return reply(lent.core, session, &response, request, rest);
    }
    lent.core.metrics.requests += 1;
    let returned =
        lent.call_shard(Some(session.key), |handler, cx| handler.on_request(cx, request));
    match returned {
        Some(Reply { answer: Ok(response) }) => {
            reply(lent.core, session, &response, request, rest);
        }
        Some(Reply { answer: Err(serial) }) => {
            await_answer(lent.core, session, serial, head, rest);
        }
        None => respond(lent.core, session, &Response::new(500), is_head(request)),
    }
}

/// The methods that [`Request::parse`] knows.
const ALLOWED: &str = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE";
