//! The opening handshake (RFC 6455 §4.2): the handler's answer becomes a 101, and the connection is
//! opened, or another response, behind which it ends. Requests are read in `http.rs`.

use ringwire_proto::{Offer, Request, Response, accept_response};

use super::later::await_answer;
use super::response::{RESPONSE_BYTES, respond};
use super::websocket::{Failure, PANICKED, take_frames};
use crate::connection::deadlines::look_anew;
use crate::connection::slot::{Session, Slot, Stage, Told};
use crate::driver::Socket;
use crate::handler::{Accept, Answer, Handler, Upgrade};
use crate::shard::core::{Core, drop_guarded};
use crate::shard::lent::Lent;

/// If the connection has been upgraded: opens it, and takes the frames that came behind the head.
pub(crate) fn open_and_take<H: Handler, K: Socket>(
    lent: &mut Lent<'_, H, K>,
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

/// Asks the handler whether the peer may come in.
pub(crate) fn upgrade<H: Handler, K: Socket>(
    lent: &mut Lent<'_, H, K>,
    slot: &mut Slot<H::State>,
    request: &Request<'_>,
    offer: &Offer<'_>,
    (head, rest): (&[u8], &[u8]),
) {
    let session = &mut slot.session;
    let upgrade =
        lent.call_shard(Some(session.key), |handler, cx| handler.on_upgrade(cx, request, offer));
    let core = &mut *lent.core;
    match upgrade {
        None => respond(core, session, &Response::new(500), false),
        Some(Upgrade { answer: Answer::Later(serial) }) => {
            await_answer(core, session, serial, head, rest);
        }
        Some(upgrade) => decide_upgrade(core, session, request, offer, upgrade),
    }
}

/// Carries out what `on_upgrade`, or a ticket, has decided.
pub(crate) fn decide_upgrade<S>(
    core: &mut Core,
    session: &mut Session<S>,
    request: &Request<'_>,
    offer: &Offer<'_>,
    upgrade: Upgrade<S>,
) {
    let Accept { state, protocol, headers, origins } = match upgrade.answer {
        Answer::Accept(accept) => accept,
        Answer::Later(_) => {
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
    // While it waited for a ticket's answer it had nothing to say.
    session.heard_ms = core.now_ms as u32;
    look_anew(core, session);
    session.mark_dirty(core);
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
