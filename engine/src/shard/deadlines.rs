//! What happens to a connection when time passes: handshake, silence, unanswered pings,
//! unfinished messages, stalled writes, unfinished closes. One timer per connection, which
//! is looked at when it fires and set again if nothing is due yet; receiving and sending
//! only note the time.

use ringwire_proto::CloseCode;

use super::{Core, Shard};
use crate::driver::{Driver, Key};
use crate::handler::Handler;
use crate::slot::{Session, Stage};

/// What is due on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Nothing for that many milliseconds.
    In(u32),
    Ping,
    /// The request head.
    Opening,
    /// The connection has failed.
    Failed(CloseCode, &'static str),
    /// Waiting any longer is pointless.
    CutOff,
}

/// A connection without any deadline is looked at this often all the same.
const IDLE_LOOK_MS: u32 = 3_600_000;

impl<H: Handler, D: Driver> Shard<H, D> {
    pub(super) fn fire_deadlines(&mut self) {
        self.drain_if_stopping();
        while let Some(slot) = self.core.timers.pop_due(self.core.now_ms) {
            let session = &self.connections.tenant_mut(slot).session;
            let (key, due) = (session.key, due(session, &self.core));
            self.fire(key, due);
        }
    }

    fn fire(&mut self, key: Key, due: Due) {
        match due {
            Due::In(ms) => self.core.timers.schedule(key.slot, self.core.now_ms + u64::from(ms)),
            Due::Ping => self.ping(key),
            Due::Opening => self.time_out_opening(key),
            Due::Failed(code, reason) => self.fail(key, code, reason),
            Due::CutOff => self.cut_off(key, CloseCode::ABNORMAL, "timeout"),
        }
    }

    fn ping(&mut self, key: Key) {
        let Some(slot) = self.connections.get_mut(key) else {
            return;
        };
        let session = &mut slot.session;
        session.pinged = true;
        session.pinged_ms = self.core.now_ms as u32;
        session.heartbeat(&mut self.core);
        // The pong's deadline, unless something else is due before it.
        let next = due(session, &self.core);
        self.fire(key, next);
    }

    /// Until something is due if no completion comes: a connection's deadline, the end of
    /// the accept's pause, or of the drain.
    pub(super) fn next_deadline_in_ms(&self) -> Option<u32> {
        let now_ms = self.core.now_ms;
        let shard_deadlines = [self.next_accept_ms(), self.drain_until_ms];
        let in_ms = shard_deadlines.into_iter().flatten().map(|at| at.saturating_sub(now_ms));
        // One more than what is left: the clock is coarse, and waking early is a tick more.
        let in_ms = in_ms.chain(self.core.timers.wait_ms(now_ms)).min()?;
        Some(u32::try_from(in_ms + 1).unwrap_or(u32::MAX))
    }

    /// Begins the drain when the server is told to stop, and ends it when its time is over.
    fn drain_if_stopping(&mut self) {
        if !self.mailbox().is_stopping() {
            return;
        }
        match self.drain_until_ms {
            None => {
                let timeout_ms = u64::from(self.core.config.drain_timeout_ms);
                self.drain_until_ms = Some(self.core.now_ms + timeout_ms);
                self.end_accepting();
                self.close_all();
            }
            Some(until_ms) if until_ms <= self.core.now_ms => self.cut_off_all(),
            Some(_) => {}
        }
    }

    fn close_all(&mut self) {
        for key in self.connections.keys() {
            let Some(slot) = self.connections.get_mut(key) else {
                continue;
            };
            match slot.session.stage {
                Stage::Open => {
                    slot.session.close(&mut self.core, CloseCode::GOING_AWAY, "server stops");
                }
                Stage::Opening => self.cut_off(key, CloseCode::GOING_AWAY, "server stops"),
                Stage::Closing | Stage::Draining | Stage::Dying => {}
            }
            self.note_moved();
        }
    }

    fn cut_off_all(&mut self) {
        for key in self.connections.keys() {
            self.cut_off(key, CloseCode::ABNORMAL, "server stops");
        }
    }
}

/// A connection has been opened: other things are due now than while it was opening.
pub(super) fn look_anew<S>(core: &mut Core, session: &Session<S>) {
    if let Due::In(ms) = due(session, core) {
        core.timers.schedule_no_later(session.key.slot, core.now_ms + u64::from(ms));
    }
}

/// The first thing that is due, or how long nothing is.
fn due<S>(session: &Session<S>, core: &Core) -> Due {
    let config = &core.config;
    // A send that begins later can stall without any further event, so an open connection
    // is looked at once per write timeout; that costs nothing where pings are as frequent.
    let mut next = match config.write_timeout_ms {
        0 => IDLE_LOOK_MS,
        write_timeout_ms => write_timeout_ms.min(IDLE_LOOK_MS),
    };
    // Whether `timeout_ms` (0 is never) after `then_ms` is over; else it is a candidate.
    let mut is_over = |timeout_ms: u32, then_ms: u32| {
        let left = timeout_ms.saturating_sub(core.elapsed_ms(then_ms));
        if timeout_ms > 0 {
            next = next.min(left);
        }
        timeout_ms > 0 && left == 0
    };
    match session.stage {
        Stage::Opening if is_over(config.handshake_timeout_ms, session.since_ms) => Due::Opening,
        Stage::Closing | Stage::Draining if is_over(config.close_timeout_ms, session.since_ms) => {
            Due::CutOff
        }
        Stage::Open | Stage::Closing
            if session.sending && is_over(config.write_timeout_ms, session.wrote_ms) =>
        {
            Due::CutOff
        }
        Stage::Open
            if session.mid_message && is_over(config.message_timeout_ms, session.since_ms) =>
        {
            Due::Failed(CloseCode::POLICY_VIOLATION, "message timeout")
        }
        Stage::Open if is_over(config.idle_timeout_ms, session.heard_ms) => {
            Due::Failed(CloseCode::GOING_AWAY, "idle timeout")
        }
        Stage::Open if session.pinged => {
            // The ping waits behind what the peer has not read yet: while it reads, there is
            // no telling whether it has seen it. One that does not read has its own deadline.
            let reads = session.sending
                && core.elapsed_ms(session.wrote_ms) < core.elapsed_ms(session.pinged_ms);
            let since_ms = if reads { session.wrote_ms } else { session.pinged_ms };
            if is_over(config.pong_timeout_ms, since_ms) {
                Due::Failed(CloseCode::INTERNAL_ERROR, "ping timeout")
            } else {
                // Sooner than that, to see whether it was answered and the next one is due.
                Due::In(next.min(config.ping_interval_ms))
            }
        }
        Stage::Open if is_over(config.ping_interval_ms, session.heard_ms) => Due::Ping,
        _ => Due::In(next),
    }
}
