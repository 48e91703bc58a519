//! The opening handshake (RFC 6455 §4.2) and plain HTTP on the same port. A request head is
//! answered with 101, or with another response that ends the connection.

use ringwire_proto::{HeadScan, Method, Offer, Persistence, Request, RequestError, Response};
use ringwire_proto::{accept_response, is_head_request};

use super::deadlines::look_anew;
use super::lent::Lent;
use super::receive::{Failure, PANICKED, take_frames};
use super::surplus::try_again_later;
use super::{Core, guard};
use crate::driver::Key;
use crate::handler::{Accept, Answer, Handler};
use crate::slot::{Head, Pending, Session, Slot, Stage, Told};

/// Room for a response's head; a body grows it.
const RESPONSE_BYTES: usize = 256;

/// Takes input before the request head is whole. Usually the head comes in one piece and is
/// read where the kernel put it; only one in pieces is copied.
pub(super) fn take_head<H: Handler>(
    lent: &mut Lent<'_, H>,
    slot: &mut Slot<H::State>,
    input: &mut [u8],
) -> Failure {
    let (mut scan, mut earlier) = match slot.session.pending.take().map(|pending| *pending) {
        Some(Pending::Head(head)) => (head.scan, head.bytes),
        _ => (HeadScan::default(), Vec::new()),
    };
    let is_first = earlier.is_empty();
    let input = if is_first {
        input
    } else {
        earlier.extend_from_slice(input);
        &mut earlier
    };
    match scan.scan(input, &lent.core.head_limits) {
        Ok(Some(head_bytes)) => take_request(lent, slot, input, head_bytes),
        Ok(None) => {
            let bytes = if is_first { input.to_vec() } else { earlier };
            slot.session.pending = Some(Box::new(Pending::Head(Head { scan, bytes })));
            None
        }
        Err(error) => {
            refuse(lent.core, &mut slot.session, &error, is_head_request(input));
            None
        }
    }
}

/// The head is whole. What follows it are frames, if it is answered with 101.
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
        Ok(Some(offer)) => upgrade(lent, slot, &request, &offer),
        Ok(None) => answer_request(lent, &mut slot.session, &request),
        Err(error) => refuse(lent.core, &mut slot.session, &error, is_head(&request)),
    }
    if slot.session.stage != Stage::Open {
        return None;
    }
    if open(lent, slot).is_none() {
        return Some(PANICKED);
    }
    if rest.is_empty() { None } else { take_frames(lent, slot, rest) }
}

fn is_surplus(core: &Core, key: Key) -> bool {
    core.surplus.iter().any(|surplus| surplus.key == key)
}

fn upgrade<H: Handler>(
    lent: &mut Lent<'_, H>,
    slot: &mut Slot<H::State>,
    request: &Request<'_>,
    offer: &Offer<'_>,
) {
    let session = &mut slot.session;
    let upgrade = lent
        .call_shard(Some(&session.socket), |handler, cx| handler.on_upgrade(cx, request, offer));
    let core = &mut *lent.core;
    let Some(upgrade) = upgrade else {
        return respond(core, session, &Response::new(500), false);
    };
    let Accept { state, protocol, headers, origins } = match upgrade.answer {
        Answer::Accept(accept) => accept,
        Answer::Refuse(response) => {
            core.metrics.handshakes_refused += 1;
            return respond(core, session, &response, false);
        }
    };
    if !origins.admit(request.origin(), request.host()) {
        core.metrics.handshakes_refused += 1;
        drop_state(core, state);
        return respond(core, session, &refused_origin(), false);
    }
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let accepted = session.writes.append(&mut core.pool, RESPONSE_BYTES, |out| {
        accept_response(out, offer, protocol.as_deref(), &headers)
    });
    if let Err(error) = accepted {
        tracing::error!(%error, "on_upgrade accepted with what cannot be sent");
        drop_state(core, state);
        return respond(core, session, &Response::new(500), false);
    }
    core.metrics.handshakes_accepted += 1;
    session.state = Some(state);
    session.stage = Stage::Open;
    look_anew(core, session);
    session.mark_dirty(core);
}

/// Drops the state of a connection that is not opened: the application's code, too.
#[cold]
fn drop_state<S>(core: &mut Core, state: S) {
    if guard(|| drop(state)).is_none() {
        core.note_panic();
    }
}

/// A page of another origin (RFC 6455 §10.2). The body is for the developer whose page it is.
fn refused_origin() -> Response {
    Response::new(403).body("text/plain", REFUSED_ORIGIN.as_bytes())
}

const REFUSED_ORIGIN: &str = "Pages of this origin may not open a WebSocket here.\n\
It is not the origin of the host that was asked for. The server's application can let it in:\n\
\x20   Upgrade::accept(state).allow_origin(\"https://app.example\")\n\
If it is the server's own origin, a proxy has changed Host. nginx needs this line:\n\
\x20   proxy_set_header Host $http_host;\n";

fn open<H: Handler>(lent: &mut Lent<'_, H>, slot: &mut Slot<H::State>) -> Option<()> {
    slot.session.told = Told::Open;
    lent.call(&mut slot.session, |handler, conn, state| handler.on_open(conn, state))
}

fn answer_request<H: Handler>(
    lent: &mut Lent<'_, H>,
    session: &mut Session<H::State>,
    request: &Request<'_>,
) {
    let allowing = |status| {
        let response = Response::new(status).header("Allow", "GET, HEAD, OPTIONS");
        response.expect("a token and a value")
    };
    if request.method() == Method::Options {
        // Of no resource in particular (RFC 9110 §9.3.7): a load balancer asks whether we live.
        return respond(lent.core, session, &allowing(204), false);
    }
    if request.method().may_have_body() {
        // Bodies are not read here.
        lent.core.metrics.handshakes_refused += 1;
        return respond(lent.core, session, &allowing(405), false);
    }
    let response =
        lent.call_shard(Some(&session.socket), |handler, cx| handler.on_request(cx, request));
    let response = response.unwrap_or_else(|| Response::new(500));
    respond(lent.core, session, &response, is_head(request));
}

/// The request itself is at fault.
fn refuse<S>(core: &mut Core, session: &mut Session<S>, error: &RequestError, head_only: bool) {
    core.metrics.handshakes_refused += 1;
    respond(core, session, &error.response(), head_only);
}

fn is_head(request: &Request<'_>) -> bool {
    request.method() == Method::Head
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
