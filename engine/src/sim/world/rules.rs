//! The rules that a world keeps: after every step, after a tick, and before a shard waits.

use super::limits::IDLE_TIMEOUT_MS;
use super::{Model, World};
use crate::config::TickLimits;
use crate::driver::Wait;

impl World {
    /// The rules that hold after every step.
    pub(super) fn check(&mut self) {
        for (shard, sockets) in self.shards.iter().zip(&*self.kernel.sockets.borrow()) {
            shard.check(*sockets);
        }
        let mut model = self.model.borrow_mut();
        assert!(model.violations.is_empty(), "{:?}", model.violations);
        for (number, reason) in std::mem::take(&mut model.timed_out) {
            self.check_timed_out(number, &reason);
        }
        let lost = self.publishes_lost();
        // One more would be the engine's own, caught with the handler's.
        let panics: u64 = self.shards.iter().map(|shard| shard.metrics().panics).sum();
        assert_eq!(panics, model.panics, "callbacks that panicked");
        assert!(model.gap_publishes_max <= lost, "publishes lost and not counted");
        let refused = self.handle.metrics().commands_refused;
        assert_eq!(refused, model.errands.refused, "commands refused");
        model.has_dropped |= self.shards.iter().any(|shard| {
            shard.metrics().messages_dropped > 0 || shard.metrics().publishes_lost > 0
        });
    }

    pub(super) fn publishes_lost(&self) -> u64 {
        self.shards.iter().map(|shard| shard.metrics().publishes_lost).sum()
    }

    /// A deadline has ended a connection: the client must have left something undone, and nothing
    /// may be unread that had come before the server looked.
    fn check_timed_out(&self, number: usize, reason: &str) {
        let wire = self.wires[number].borrow();
        let oldest_ms = wire.arrivals.front().map(|(arrived_ms, _)| *arrived_ms);
        let is_unread = oldest_ms
            .is_some_and(|oldest_ms| wire.asked_ms.is_none_or(|asked_ms| oldest_ms < asked_ms));
        // Other deadlines do not begin anew with what has come; the server asks once.
        let counts = matches!(reason, "ping timeout" | "idle timeout") || wire.asked_ms.is_none();
        let is_unread = is_unread && counts;
        assert!(!is_unread, "client {number}: {reason}, and its bytes were unread");
        let client = &self.clients[number];
        let is_late = client.may_time_out(reason, IDLE_TIMEOUT_MS);
        assert!(is_late, "client {number}: {reason}, and it had done all it had to");
    }

    /// A tick did no more than its share of anything, and what was due that the share left room for.
    pub(super) fn check_shares(&self, shard: usize) {
        let TickLimits { endings_max, taken_max, .. } = self.limits;
        let (now_ms, has_left) = self.shards[shard].now_and_left();
        let mut model = self.model.borrow_mut();
        let Model { failures, cut_offs, .. } = *model;
        assert!(failures <= endings_max, "{failures} connections failed in one tick");
        assert!(cut_offs <= endings_max, "{cut_offs} connections cut off in one tick");
        let (boxed, own) = (model.errands.boxed_in_tick, model.errands.own_in_tick);
        assert!(boxed <= taken_max && own <= taken_max, "{boxed} and {own} commands in one tick");
        let fired = model.clocks.fired_in_tick;
        assert!(fired <= taken_max, "{fired} timers in one tick");
        let is_overdue = model.clocks.next_ms(shard).is_some_and(|at_ms| at_ms <= now_ms);
        assert!(!is_overdue || fired == taken_max, "shard {shard}: a timer is overdue");
        model.now_ms[shard] = now_ms;
        if !has_left {
            model.requests.note_taken(shard, now_ms);
        }
    }

    /// A shard that waits wakes up for its first timer, and leaves nothing undone before it.
    pub(super) fn check_wait(&self, shard: usize, wait: Wait) {
        let model = self.model.borrow();
        let (now_ms, has_left) = self.shards[shard].now_and_left();
        let left = model.errands.left(shard);
        assert!(!has_left && left == 0, "shard {shard} waits, commands {left}, others {has_left}");
        let Some(at_ms) = model.clocks.next_ms(shard) else { return };
        let is_in_time = match wait {
            Wait::No => true,
            Wait::Millis(ms) => at_ms > now_ms && now_ms + u64::from(ms) <= at_ms + 1,
            Wait::Forever => false,
        };
        assert!(is_in_time, "shard {shard} waits {wait:?} from {now_ms}, timer at {at_ms}");
    }
}
