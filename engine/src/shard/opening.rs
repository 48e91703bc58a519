//! The opening handshake (RFC 6455 §4.2) and plain HTTP on the same port. A request head is
//! answered with 101, or with another response that ends the connection.

use ringwire_proto::{HeadScan, Method, Offer, Persistence, Request, RequestError, Response};
use ringwire_proto::{accept_response, is_head_request};

use super::deadlines::look_anew;
use super::lent::Lent;
use super::receive::{Failure, PANICKED, take_frames};
use super::surplus::try_again_later;
use super::tickets::await_answer;
use super::{Core, guard};
use crate::driver::Key;
use crate::handler::{Accept, Answer, Handler, Reply, Upgrade};
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
        Ok(Some(offer)) => upgrade(lent, slot, &request, &offer, (head, rest)),
        Ok(None) => answer_request(lent, &mut slot.session, &request, (head, rest)),
        Err(error) => refuse(lent.core, &mut slot.session, &error, is_head(&request)),
    }
    open_and_take(lent, slot, rest)
}

/// If the connection has been upgraded: opens it, and takes the frames that came behind the head.
pub(super) fn open_and_take<H: Handler>(
    lent: &mut Lent<'_, H>,
    slot: &mut Slot<H::State>,
    rest: &mut [u8],
) -> Failure {
    if slot.session.stage != Stage::Open {
        return None;
    }
    slot.session.told = Told::Open;
    let opened = lent.call(&mut slot.session, |handler, conn, state| handler.on_open(conn, state));
    if opened.is_none() {
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
    (head, rest): (&[u8], &[u8]),
) {
    let session = &mut slot.session;
    let upgrade = lent.call_shard(Some((session.key, &session.socket)), |handler, cx| {
        handler.on_upgrade(cx, request, offer)
    });
    let core = &mut *lent.core;
    match upgrade {
        None => respond(core, session, &Response::new(500), false),
        Some(Upgrade { answer: Answer::Later }) => {
            await_answer(core, session, head, rest);
        }
        Some(upgrade) => decide_upgrade(core, session, request, offer, upgrade),
    }
}

/// Carries out what `on_upgrade`, or a ticket, has decided.
pub(super) fn decide_upgrade<S>(
    core: &mut Core,
    session: &mut Session<S>,
    request: &Request<'_>,
    offer: &Offer<'_>,
    upgrade: Upgrade<S>,
) {
    let Accept { state, protocol, headers, origins } = match upgrade.answer {
        Answer::Accept(accept) => accept,
        Answer::Later => {
            tracing::error!("a ticket was answered with Upgrade::later");
            return respond(core, session, &Response::new(500), false);
        }
        Answer::Refuse(response) => {
            core.metrics.handshakes_refused += 1;
            return respond(core, session, &response, false);
        }
    };
    if !origins.admit(request.origin(), request.host()) {
        core.metrics.handshakes_refused += 1;
        drop_guarded(core, state);
        return respond(core, session, &refused_origin(), false);
    }
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let accepted = session.writes.append(&mut core.pool, RESPONSE_BYTES, |out| {
        accept_response(out, offer, protocol.as_deref(), &headers)
    });
    if let Err(error) = accepted {
        tracing::error!(%error, "on_upgrade accepted with what cannot be sent");
        drop_guarded(core, state);
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
pub(super) fn drop_guarded<S>(core: &mut Core, state: S) {
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

fn answer_request<H: Handler>(
    lent: &mut Lent<'_, H>,
    session: &mut Session<H::State>,
    request: &Request<'_>,
    (head, rest): (&[u8], &[u8]),
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
    let response = lent.call_shard(Some((session.key, &session.socket)), |handler, cx| {
        handler.on_request(cx, request)
    });
    match response {
        Some(Reply { response: None }) => await_answer(lent.core, session, head, rest),
        Some(Reply { response: Some(response) }) => {
            respond(lent.core, session, &response, is_head(request));
        }
        None => respond(lent.core, session, &Response::new(500), is_head(request)),
    }
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
