//! The next request of a connection, when the response to the one before is out.

use super::Shard;
use super::lent::Lent;
use crate::connection::deadlines::look_anew;
use crate::connection::slot::{PeerSide, Pending, Stage};
use crate::driver::{Driver, Key};
use crate::handler::Handler;
use crate::protocol::http::take_request_bytes;

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
        let has_peer_ended = slot.session.peer_side == PeerSide::Ended;
        if let Some((code, reason)) = failure {
            self.fail(key, code, reason);
        }
        if has_peer_ended {
            // Its FIN came while what stood in front of it waited.
            self.end_of_input(key);
        }
    }
}
