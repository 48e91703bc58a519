//! Requests of HTTP/1.1 (RFC 9112), one after the other on a connection, until one of them asks for
//! a WebSocket or the connection ends. Opening handshakes are answered in `opening.rs`, and what is
//! answered later in `tickets.rs`.
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

use ringwire_proto::{
    BodyFraming, BodyProgress, BodyReader, HeadScan, Method, Persistence, Request, RequestError,
    Response, is_head_request,
};

use super::deadlines::look_anew;
use super::lent::Lent;
use super::opening::{open_and_take, upgrade};
use super::receive::Failure;
use super::surplus::try_again_later;
use super::tickets::{TOO_EARLY, await_answer, is_too_early};
use super::{Core, Shard};
use crate::driver::{Driver, Key};
use crate::handler::{Handler, Reply};
use crate::slot::{Body, Head, PeerSide, Pending, Session, Slot, Stage};
use ringwire_proto::http::CONTINUE;

/// Room for a response's head; a body grows it.
pub(super) const RESPONSE_BYTES: usize = 256;

/// Takes input that belongs to a request.
pub(super) fn take_request_bytes<H: Handler>(
    lent: &mut Lent<'_, H>,
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
fn take_head<H: Handler>(
    lent: &mut Lent<'_, H>,
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
fn take_request<H: Handler>(
    lent: &mut Lent<'_, H>,
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
            let is_too_much = is_too_early(lent.core, &slot.session, rest);
            return if is_too_much { Some(TOO_EARLY) } else { open_and_take(lent, slot, rest) };
        }
        Ok(None) if request.body_framing() == BodyFraming::None => {
            return answer_request(lent, &mut slot.session, &request, (head, rest));
        }
        Ok(None) => return begin_body(lent, slot, &request, (head, rest)),
        Err(error) => refuse(lent.core, &mut slot.session, &error, is_head(&request)),
    }
    None
}

fn begin_body<H: Handler>(
    lent: &mut Lent<'_, H>,
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

fn take_body<H: Handler>(
    lent: &mut Lent<'_, H>,
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

fn answer_request<H: Handler>(
    lent: &mut Lent<'_, H>,
    session: &mut Session<H::State>,
    request: &Request<'_>,
    (head, rest): (&[u8], &[u8]),
) -> Failure {
    answer_or_wait(lent, session, request, (head, rest));
    is_too_early(lent.core, session, rest).then_some(TOO_EARLY)
}

fn answer_or_wait<H: Handler>(
    lent: &mut Lent<'_, H>,
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
    let returned = lent.call_shard(Some((session.key, &session.socket)), |handler, cx| {
        handler.on_request(cx, request)
    });
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

/// The request itself is at fault.
pub(super) fn refuse<S>(
    core: &mut Core,
    session: &mut Session<S>,
    error: &RequestError,
    head_only: bool,
) {
    core.metrics.handshakes_refused += 1;
    respond(core, session, &error.response(), head_only);
}

fn is_head(request: &Request<'_>) -> bool {
    request.method() == Method::Head
}

fn is_surplus(core: &Core, key: Key) -> bool {
    core.surplus.iter().any(|surplus| surplus.key == key)
}

/// Queues the response to a request that was understood. The connection stays if the client wants
/// it to; `rest`, what has come behind the request, is kept until the response is out.
pub(super) fn reply<S>(
    core: &mut Core,
    session: &mut Session<S>,
    response: &Response,
    request: &Request<'_>,
    rest: &[u8],
) {
    let stays = request.keep_alive() && !core.is_draining && !is_surplus(core, session.key);
    // After FIN there is at most what has come already.
    if !stays || (session.peer_side != PeerSide::Open && rest.is_empty()) {
        return respond(core, session, response, is_head(request));
    }
    let Core { pool, date, .. } = core;
    session.writes.append(pool, RESPONSE_BYTES, |out| {
        response.write(out, is_head(request), Persistence::Stays, date.now());
    });
    session.stage = Stage::Answering;
    session.pending = (!rest.is_empty()).then(|| Box::new(Pending::Early(rest.to_vec())));
    look_anew(core, session);
    session.mark_dirty(core);
}

/// Queues a response; the connection ends when it is out (RFC 9112 §9.6, `Connection:
/// close`), and nothing behind the request is looked at.
pub(super) fn respond<S>(
    core: &mut Core,
    session: &mut Session<S>,
    response: &Response,
    head_only: bool,
) {
    let Core { pool, date, .. } = core;
    session.writes.append(pool, RESPONSE_BYTES, |out| {
        response.write(out, head_only, Persistence::Ends, date.now());
    });
    session.expect_no_more(core);
    session.enter_closing(core);
}

impl<H: Handler, D: Driver> Shard<H, D> {
    /// A response is out: the next request, if it has come already.
    pub(super) fn next_request(&mut self, key: Key) {
        let Self { connections, handler, core, desk, .. } = self;
        let (slot, others) = connections.lend(key).expect("looked up by the caller");
        let session = &mut slot.session;
        session.stage = Stage::Idle;
        session.since_ms = core.now_ms as u32;
        look_anew(core, session);
        let early = match session.pending.take().map(|pending| *pending) {
            Some(Pending::Early(early)) => early,
            _ => Vec::new(),
        };
        let mut lent = Lent { handler, core, desk, others };
        let failure = if early.is_empty() {
            None
        } else {
            let mut early = early;
            take_request_bytes(&mut lent, slot, &mut early)
        };
        // Its FIN came before the response was out, and had to wait for what lay before it.
        let is_over = slot.session.peer_side == PeerSide::Ended
            && matches!(slot.session.stage, Stage::Idle | Stage::Opening | Stage::Open);
        if let Some((code, reason)) = failure {
            self.fail(key, code, reason);
        } else if is_over {
            self.end_of_input(key);
        }
    }
}
