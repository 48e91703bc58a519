//! What the shard is asked to do beside its connections: commands of other threads, of other shards
//! and of its own callbacks, the application's timers, and the start and the stop of the handler.

use std::any::Any;
use std::rc::Rc;

use super::Shard;
use super::lent::Lent;
use crate::context::Context;
use crate::driver::Driver;
use crate::handler::Handler;
use crate::shard::mailbox::Command;
use crate::ticket::{Place, Verdict};

impl<H: Handler, D: Driver> Shard<H, D> {
    /// Carries out what waits, a tick's share of it.
    pub(super) fn take_commands(&mut self) {
        let mut taken = 0;
        while taken < self.core.tick_limits.taken_max
            && let Some(command) = self.mailbox().pop()
        {
            taken += command.connections();
            self.obey(command);
        }
        if taken > 0 {
            self.mailbox().wake_waiting();
        }
        while let Some((place, verdict)) = self.desk.take_answer() {
            self.answer_any(place, verdict);
        }
        // Those that carrying them out leaves have the next tick.
        let own = self.desk.own().min(self.core.tick_limits.taken_max);
        for _ in 0..own {
            let Some(command) = self.desk.take_own() else { break };
            self.call_shard(|handler, cx| handler.on_command(cx, command));
        }
    }

    fn obey(&mut self, command: Command<H::Command>) {
        match command {
            Command::Publish { topic, frame } => self.core.publish_frame(topic, frame),
            Command::Send { key, frame } => {
                if let Some(slot) = self.connections.get_mut(key) {
                    slot.session.send_frame(&mut self.core, &frame);
                }
            }
            Command::SendMany { keys, frame } => {
                let frame = Rc::new(Vec::from(frame));
                for key in keys {
                    if let Some(slot) = self.connections.get_mut(key) {
                        slot.session.send_shared(&mut self.core, &frame);
                    }
                }
            }
            Command::Close { key, code, reason } => {
                if let Some(slot) = self.connections.get_mut(key) {
                    slot.session.close(&mut self.core, code, &reason);
                    self.note_moved();
                }
            }
            Command::Terminate { key } => {
                if let Some(slot) = self.connections.get_mut(key) {
                    slot.session.terminate_later(&mut self.core);
                }
            }
            Command::Custom(command) => {
                self.call_shard(|handler, cx| handler.on_command(cx, command));
            }
            Command::Adopt(adopted) => self.adopt(adopted),
            Command::Answer { place, verdict } => self.answer_any(place, verdict),
            Command::Respond { place, response } => {
                self.answer(place, response.map_or(Verdict::None, Verdict::Response));
            }
        }
    }

    fn answer_any(&mut self, place: Place, verdict: Box<dyn Any>) {
        let verdict = verdict.downcast().expect("a ticket knows its handler's state");
        self.answer(place, *verdict);
    }

    /// Calls the handler for the application's timers whose time has come, a tick's share of them.
    pub(super) fn fire_timers(&mut self) {
        for _ in 0..self.core.tick_limits.taken_max {
            let Some(timer) = self.desk.timers.pop_due(self.core.now_ms) else { return };
            self.call_shard(|handler, cx| handler.on_timer(cx, timer));
        }
    }

    /// Calls a callback about no connection. A panic has nothing to end.
    pub(super) fn call_shard(&mut self, callback: impl FnOnce(&mut H, &mut Context<'_, H>)) {
        let Self { connections, handler, core, desk, .. } = self;
        let others = connections.lend_all();
        let _ = Lent { handler, core, desk, others }.call_shard(None, callback);
    }
}
