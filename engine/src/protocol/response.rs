//! Responses on their way out: how a connection goes on behind one.

use ringwire_proto::{Method, Persistence, Request, RequestError, Response};

use crate::config::RETRY_AFTER_S;
use crate::connection::deadlines::look_anew;
use crate::connection::slot::{PeerSide, Pending, Session, Stage};
use crate::driver::Key;
use crate::shard::core::Core;

/// Room for a response's head; a body grows it.
pub(crate) const RESPONSE_BYTES: usize = 256;

/// Queues the response to a request that was understood. The connection stays if the client wants
/// it to; `rest`, what has come behind the request, is kept until the response is out.
pub(crate) fn reply<S>(
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
pub(crate) fn respond<S>(
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

/// The request itself is at fault.
pub(crate) fn refuse<S>(
    core: &mut Core,
    session: &mut Session<S>,
    error: &RequestError,
    head_only: bool,
) {
    core.metrics.handshakes_refused += 1;
    respond(core, session, &error.response(), head_only);
}

/// What is answered when the server cannot now: to an upgrade beyond the limits, and in place of an
/// answer that does not come (RFC 9110 §15.6.4, §10.2.3).
pub(crate) fn try_again_later() -> Response {
    let response = Response::new(503).header("Retry-After", RETRY_AFTER_S);
    response.expect("a header that may be sent")
}

pub(crate) fn is_head(request: &Request<'_>) -> bool {
    request.method() == Method::Head
}

pub(crate) fn is_surplus(core: &Core, key: Key) -> bool {
    core.surplus.iter().any(|surplus| surplus.key == key)
}
