//! Opening handshakes and requests that are answered later. Meanwhile the connection keeps its
//! request head and what comes behind it, bounded and unparsed.

use ringwire_proto::{Request, Response};

use super::Shard;
use super::core::{Core, drop_guarded};
use super::lent::Lent;
use crate::connection::slot::{Awaiting, PeerSide, Pending, Session, Slot, Stage};
use crate::driver::{Driver, Key, Socket};
use crate::handler::{Answer, Handler, Upgrade};
use crate::protocol::handshake::{decide_upgrade, open_and_take};
use crate::protocol::response::{is_head, reply, respond, try_again_later};
use crate::protocol::websocket::Failure;
use crate::shard::place::Place;
use crate::ticket::Verdict;

impl<H: Handler, D: Driver> Shard<H, D> {
    /// Answers what a ticket stands for, if it still does.
    pub(super) fn answer(&mut self, place: Place, verdict: Verdict<H::State>) {
        let Self { connections, handler, core, desk, .. } = self;
        let lent = connections.lend(place.key);
        let Some((slot, others)) = lent.filter(|(slot, _)| awaits(&slot.session, place)) else {
            core.metrics.tickets_late += 1;
            return drop_guarded(core, verdict);
        };
        let mut lent = Lent { handler, core, desk, others };
        if let Some((code, reason)) = conclude(&mut lent, slot, verdict) {
            self.fail(place.key, code, reason);
        }
        self.note_moved();
    }

    /// The answer is late.
    pub(super) fn expire_ticket(&mut self, key: Key) {
        self.core.metrics.tickets_expired += 1;
        self.refuse_awaiting(key);
    }

    /// Nobody will answer any more: the peer may try again.
    pub(super) fn refuse_awaiting(&mut self, key: Key) {
        let Self { connections, core, .. } = self;
        let session = &mut connections.get_mut(key).expect("looked up by the caller").session;
        let head_only =
            end_waiting(session).is_some_and(|awaiting| asks_for_head(core, &awaiting.head));
        respond(core, session, &try_again_later(), head_only);
    }
}

fn awaits<S>(session: &Session<S>, place: Place) -> bool {
    let serial = match session.pending.as_deref() {
        Some(Pending::Awaiting(awaiting)) => Some(awaiting.serial),
        _ => None,
    };
    session.stage == Stage::Awaiting && serial == Some(place.serial)
}

fn end_waiting<S>(session: &mut Session<S>) -> Option<Awaiting> {
    session.stage = Stage::Opening;
    match session.pending.take().map(|pending| *pending) {
        Some(Pending::Awaiting(awaiting)) => Some(awaiting),
        _ => None,
    }
}

fn asks_for_head(core: &Core, head: &[u8]) -> bool {
    Request::parse(head, &core.head_limits).is_ok_and(|request| is_head(&request))
}

fn conclude<H: Handler, K: Socket>(
    lent: &mut Lent<'_, H, K>,
    slot: &mut Slot<H::State>,
    verdict: Verdict<H::State>,
) -> Failure {
    let session = &mut slot.session;
    let Awaiting { head, mut early, .. } =
        end_waiting(session).expect("a connection that awaits an answer knows for what");
    let request = Request::parse(&head, &lent.core.head_limits).expect("it was parsed before");
    let head_only = is_head(&request);
    let offer = request.upgrade().expect("it was checked before");
    match (verdict, offer) {
        (Verdict::Upgrade(upgrade), Some(offer)) if session.peer_side == PeerSide::Open => {
            decide_upgrade(lent.core, session, &request, &offer, upgrade);
            return open_and_take(lent, slot, &mut early);
        }
        // Who has sent FIN still reads.
        (Verdict::Upgrade(Upgrade { answer: Answer::Refuse(response) }), Some(_)) => {
            lent.core.metrics.handshakes_refused += 1;
            respond(lent.core, session, &response, head_only);
        }
        (Verdict::Upgrade(upgrade), offer) => {
            drop_guarded(lent.core, upgrade);
            if offer.is_none() {
                tracing::error!("a ticket of a plain request was answered with an upgrade");
            }
            respond(lent.core, session, &Response::new(500), head_only);
        }
        (Verdict::Response(response), offer) => {
            let is_handshake = offer.is_some();
            lent.core.metrics.handshakes_refused += u64::from(is_handshake);
            if is_handshake {
                respond(lent.core, session, &response, head_only);
            } else {
                reply(lent.core, session, &response, &request, &early);
            }
        }
        (Verdict::None, _) => respond(lent.core, session, &Response::new(500), head_only),
    }
    None
}
