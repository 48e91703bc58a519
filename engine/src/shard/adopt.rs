//! Connections that somebody else has accepted and upgraded, and hands over.

use std::any::Any;

use super::Shard;
use super::core::drop_guarded;
use super::lent::Lent;
use super::mailbox::Adopted;
use crate::connection::deadlines::look_anew;
use crate::connection::slot::{Slot, Stage};
use crate::driver::Driver;
use crate::handler::Handler;
use crate::protocol::handshake::open_and_take;

impl<H: Handler, D: Driver> Shard<H, D> {
    pub(super) fn adopt(&mut self, adopted: Adopted) {
        let Adopted { socket, mut leftover, state } = adopted;
        // Who is not admitted is closed.
        let Some(state) = self.admit_adopted(state) else { return };
        let Some(socket) = self.driver.adopt(socket) else {
            return self.refuse_adopted(state);
        };
        let core = &mut self.core;
        core.metrics.connections_accepted += 1;
        core.metrics.connections_now += 1;
        let key = self.connections.insert(socket, |key| Slot::new(key, core));
        let Self { connections, handler, core, desk, .. } = self;
        let (slot, others) = connections.lend(key).expect("inserted just before");
        slot.session.state = Some(state);
        slot.session.stage = Stage::Open;
        core.timers.schedule(key.slot, core.now_ms + 1);
        look_anew(core, &slot.session);
        let mut lent = Lent { handler, core, desk, others };
        let failure = open_and_take(&mut lent, slot, &mut leftover);
        self.arm_receive(key);
        if let Some((code, reason)) = failure {
            self.fail(key, code, reason);
        }
        self.note_moved();
    }

    /// The driver has no kernel: a shard in memory serves no real socket.
    #[cold]
    fn refuse_adopted(&mut self, state: H::State) {
        self.links.descriptors.give_back();
        self.core.metrics.connections_refused += 1;
        drop_guarded(&mut self.core, state);
    }

    /// The state of a connection that there is room for; else it is dropped.
    fn admit_adopted(&mut self, state: Box<dyn Any + Send>) -> Option<H::State> {
        let state = match state.downcast::<H::State>() {
            Ok(state) => *state,
            Err(other) => {
                tracing::error!("Handle::adopt was given a state that is not the handler's State");
                self.core.metrics.connections_refused += 1;
                drop_guarded(&mut self.core, other);
                return None;
            }
        };
        let is_stopping = self.drain_until_ms.is_some();
        if !is_stopping && self.has_slot() && self.links.descriptors.take() {
            return Some(state);
        }
        self.core.metrics.connections_refused += 1;
        drop_guarded(&mut self.core, state);
        None
    }
}
