//! The end of a connection. The orderly end has three steps: our Close frame goes out, then our
//! FIN, then input is read and discarded until the peer's FIN. The last step prevents a TCP reset,
//! which could destroy the Close frame and make the peer report 1006. The other end is to be cut
//! off. In both cases [`Shard::release`] frees the slot when no operation is in flight.

use ringwire_proto::{CloseCode, Response};

use super::http::respond;
use super::lent::Lent;
use super::receive::tell_closed;
use super::{Shard, guard};
use crate::driver::{Driver, Errno, Key};
use crate::handler::Handler;
use crate::slot::{Ending, Failing, PeerSide, Receiving, Stage};

impl<H: Handler, D: Driver> Shard<H, D> {
    /// Fails a connection (RFC 6455 §7.1.7): our Close goes out, and the peer's is not
    /// waited for.
    pub(super) fn fail(&mut self, key: Key, code: CloseCode, reason: &str) {
        let Some(slot) = self.connections.get_mut(key) else {
            return;
        };
        let session = &mut slot.session;
        match session.stage {
            Stage::Open | Stage::Closing => {
                session.begin_close(&mut self.core, code, reason);
                // Only now: behind what did not fit nothing that was published may slip in.
                session.failing = Failing::No;
                session.expect_no_more(&mut self.core);
                self.tell_closed(key, code, reason);
            }
            Stage::Opening | Stage::Awaiting | Stage::Answering | Stage::Idle | Stage::Draining => {
                self.cut_off(key, code, reason);
            }
            Stage::Dying => {}
        }
    }

    /// Fails the connections that callbacks and publishes have marked, a tick's share of them.
    pub(super) fn fail_failing(&mut self) {
        // Failing one tells its handler, which may publish and so mark others: they are in
        // the list behind, and a connection that has failed is not open to be marked again.
        for _ in 0..self.core.tick_limits.endings_max {
            let Some((key, ending)) = self.core.failing.pop_front() else { return };
            match ending {
                Ending::Fail(code, reason) => self.fail(key, code, reason),
                Ending::CutOff if self.connections.get_mut(key).is_some() => {
                    self.cut_off(key, CloseCode::ABNORMAL, "");
                }
                Ending::CutOff => {}
            }
        }
    }

    /// The request head did not come in time (RFC 9110 §15.5.9). Who has not begun one is no client
    /// that waits for an answer, and gets none.
    pub(super) fn time_out_opening(&mut self, key: Key) {
        let slot = self.connections.get_mut(key).expect("its deadline goes with it");
        if slot.session.pending.is_none() {
            self.core.metrics.connections_silent += 1;
            return self.cut_off(key, CloseCode::ABNORMAL, "timeout");
        }
        self.core.metrics.handshakes_refused += 1;
        // Without a body, since it may answer a HEAD.
        respond(&mut self.core, &mut slot.session, &Response::new(408), true);
    }

    /// A receive or a send has failed. Of one connection the first error is the cause; what fails
    /// after it, or after we have cut the connection off, is its consequence.
    #[cold]
    pub(super) fn count_connection_error(&mut self, key: Key, errno: Errno) {
        let slot = self.connections.get_mut(key).expect("looked up by the caller");
        if slot.session.stage != Stage::Dying {
            self.core.metrics.count_connection_error(errno);
        }
    }

    /// Ends a connection without further words: the peer is gone, or out of time.
    pub(super) fn cut_off(&mut self, key: Key, code: CloseCode, reason: &str) {
        let slot = self.connections.get_mut(key).expect("looked up by the caller");
        if slot.session.stage == Stage::Dying {
            return;
        }
        // Before the handler is told: what it sends now has no effect, and shall not seem to. It has
        // left its topics, as one has that closes.
        slot.session.stage = Stage::Dying;
        slot.session.unsubscribe_all(&mut self.core);
        self.tell_closed(key, code, reason);
        let slot = self.connections.get_mut(key).expect("looked up just before");
        let session = &mut slot.session;
        session.writes.clear(&mut self.core.pool);
        if session.receiving != Receiving::No || session.sending {
            self.driver.shut_down(&session.socket);
        }
        // Freed when the tick ends, or with the last completion.
        session.mark_dirty(&mut self.core);
        self.note_moved();
    }

    /// Everything queued is out: if nothing more is expected from the peer, so is our FIN.
    pub(super) fn after_last_byte(&mut self, key: Key) {
        let slot = self.connections.get_mut(key).expect("looked up by the caller");
        let session = &mut slot.session;
        if session.stage != Stage::Closing || session.peer_side == PeerSide::Open {
            return;
        }
        if session.peer_side == PeerSide::Ended {
            // The peer's FIN is here: nothing can be unread, closing sends no reset.
            self.cut_off(key, CloseCode::ABNORMAL, "");
            return self.release(key);
        }
        self.driver.shut_down_write(&session.socket);
        session.stage = Stage::Draining;
    }

    /// Frees a slot that is dying and has nothing in flight.
    pub(super) fn release(&mut self, key: Key) {
        let slot = self.connections.get_mut(key).expect("looked up by the caller");
        let session = &slot.session;
        if session.stage != Stage::Dying || session.receiving != Receiving::No || session.sending {
            return;
        }
        let slot = self.connections.remove(key);
        self.core.timers.remove(key.slot);
        self.core.metrics.connections_now -= 1;
        self.driver.close(slot.session.socket);
        // Dropping what the application kept is its code, too.
        let state = slot.session.state;
        if guard(|| drop(state)).is_none() {
            self.core.note_panic();
        }
        self.on_released(key);
    }

    /// Tells the handler that a connection is over, once, if it was ever told of it.
    pub(super) fn tell_closed(&mut self, key: Key, code: CloseCode, reason: &str) {
        let Self { connections, handler, core, desk, .. } = self;
        let (slot, others) = connections.lend(key).expect("looked up by the caller");
        let mut lent = Lent { handler, core, desk, others };
        tell_closed(&mut lent, &mut slot.session, code, reason);
        self.note_moved();
    }
}
