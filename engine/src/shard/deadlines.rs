//! Deadlines: handshake, idle time, pings, unfinished messages, stalled writes, unfinished closes.
//! Each connection has one timer. Receiving and sending only note the time. When the timer fires,
//! the connection is checked, and the timer is set again if nothing is due.
//!
//! The clock alone ends no connection. Deadlines are judged by the time up to which all completions
//! have been handed out (`Core::judged_ms`). Then the kernel is asked. Input that had arrived in
//! time is read first (`SIOCINQ`), and a peer that acknowledges enough of what it is sent
//! (`SIOCOUTQ`) gets more time.

use ringwire_proto::CloseCode;

use super::{Core, Shard};
use crate::config::Config;
use crate::driver::{Driver, Key};
use crate::handler::Handler;
use crate::in_time::InTime;
use crate::slot::{PeerSide, Pending, Session, Stage};

/// What is due on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Nothing for that many milliseconds.
    In(u32),
    Ping,
    /// The request head is late (RFC 9110 §15.5.9).
    Opening,
    /// The answer to a ticket is late.
    Ticket,
    /// No further request has come.
    Request,
    /// The message under way is late.
    Message,
    /// Nothing has come for too long.
    Idle,
    /// No answer to a ping.
    Pong,
    /// The peer takes nothing of what it is sent.
    Write,
    /// The end takes too long.
    Close,
}

/// A connection without any deadline is looked at this often all the same.
const IDLE_LOOK_MS: u32 = 3_600_000;

impl<H: Handler, D: Driver> Shard<H, D> {
    /// Looks at the connections whose time has come, a tick's share of them.
    pub(super) fn fire_deadlines(&mut self) {
        self.drain_if_stopping();
        self.has_deadlines_left = true;
        for _ in 0..self.core.tick_limits.endings_max {
            let Some(slot) = self.core.timers.pop_due(self.core.judged_ms) else {
                self.has_deadlines_left = false;
                return;
            };
            let session = &self.connections.tenant_mut(slot).session;
            let (key, due) = (session.key, due(session, &self.core));
            self.fire(key, due);
        }
    }

    fn fire(&mut self, key: Key, due: Due) {
        match due {
            Due::In(ms) => {
                let session = &mut self.connections.tenant_mut(key.slot).session;
                if session.in_time.is_asked() {
                    session.in_time = InTime::default();
                    // It was put off, and what was acknowledged meanwhile counts as well.
                    let unacknowledged_bytes = D::unacknowledged_bytes(&session.socket);
                    if session.behind && session.note_progress(&self.core, unacknowledged_bytes) {
                        session.renew_deadlines(&self.core);
                    }
                }
                // From the time by which it was judged: that may be behind the clock.
                self.core.timers.schedule(key.slot, self.core.judged_ms + u64::from(ms));
            }
            Due::Ping => self.ping(key),
            Due::Ticket => self.expire_ticket(key),
            _ if self.is_put_off(key, due) => {
                self.core.timers.schedule(key.slot, self.core.now_ms + 1);
            }
            Due::Opening => self.time_out_opening(key),
            Due::Request => self.cut_off(key, CloseCode::ABNORMAL, ""),
            Due::Message => self.fail(key, CloseCode::POLICY_VIOLATION, "message timeout"),
            Due::Idle => self.fail(key, CloseCode::GOING_AWAY, "idle timeout"),
            Due::Pong => self.fail(key, CloseCode::INTERNAL_ERROR, "ping timeout"),
            Due::Write | Due::Close => self.cut_off(key, CloseCode::ABNORMAL, "timeout"),
        }
    }

    /// Whether the kernel knows better: the peer's bytes had come before the deadline, or it has
    /// taken enough of ours since.
    fn is_put_off(&mut self, key: Key, due: Due) -> bool {
        let is_waiting = self.driver.completions_waiting() > 0;
        let slot = self.connections.get_mut(key).expect("its deadline goes with it");
        let session = &mut slot.session;
        // What comes while the connection only ends changes nothing.
        let is_heard = session.peer_side == PeerSide::Open;
        let unread_bytes = if is_heard { D::unread_bytes(&session.socket) } else { 0 };
        if session.in_time.is_left(unread_bytes, is_waiting) {
            return true;
        }
        if matches!(due, Due::In(_) | Due::Ping | Due::Opening | Due::Request | Due::Message) {
            return false;
        }
        let unacknowledged_bytes = D::unacknowledged_bytes(&session.socket);
        let has_progressed = session.note_progress(&self.core, unacknowledged_bytes);
        if has_progressed {
            session.renew_deadlines(&self.core);
        }
        has_progressed
    }

    fn ping(&mut self, key: Key) {
        let Some(slot) = self.connections.get_mut(key) else {
            return;
        };
        let session = &mut slot.session;
        session.pinged = true;
        session.pinged_ms = self.core.now_ms as u32;
        // What is acknowledged from here on is. While a send is in flight its deadline counts too,
        // and that from where it was looked at last.
        let unacknowledged_bytes = D::unacknowledged_bytes(&session.socket);
        if !session.note_progress(&self.core, unacknowledged_bytes) && !session.sending {
            session.count_progress_from_now(&self.core, unacknowledged_bytes);
        }
        session.heartbeat(&mut self.core);
        // The pong's deadline, unless something else is due before it.
        let next = due(session, &self.core);
        self.fire(key, next);
    }

    /// Until something is due if no completion comes: a connection's deadline, the end of
    /// the accept's pause, or of the drain.
    pub(super) fn next_deadline_in_ms(&self) -> Option<u32> {
        let now_ms = self.core.now_ms;
        let timers_ms = self.desk.timers.next_ms();
        let shard_deadlines =
            [self.next_accept_ms(), self.drain_until_ms, self.trim_at_ms, timers_ms];
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
                self.core.is_draining = true;
                self.end_accepting();
                self.call_shard(|handler, cx| handler.on_stop(cx));
                self.close_more();
            }
            Some(until_ms) if until_ms <= self.core.now_ms => self.cut_off_more(),
            Some(_) => self.close_more(),
        }
    }

    /// The server stops: closes its connections, a tick's share of them.
    fn close_more(&mut self) {
        let keys = self.endings_from(self.close_from);
        self.close_from = keys.last().map_or(u32::MAX, |key| key.slot + 1);
        for key in keys {
            let Some(slot) = self.connections.get_mut(key) else {
                continue;
            };
            match slot.session.stage {
                Stage::Open => {
                    slot.session.close(&mut self.core, CloseCode::GOING_AWAY, "server stops");
                }
                Stage::Opening => self.cut_off(key, CloseCode::GOING_AWAY, "server stops"),
                Stage::Idle => self.cut_off(key, CloseCode::GOING_AWAY, "server stops"),
                Stage::Awaiting => self.refuse_awaiting(key),
                Stage::Answering => {
                    slot.session.expect_no_more(&mut self.core);
                    slot.session.enter_closing(&mut self.core);
                }
                Stage::Closing | Stage::Draining | Stage::Dying => {}
            }
            self.note_moved();
        }
    }

    /// The drain has taken too long: cuts off those who are left, a tick's share of them.
    fn cut_off_more(&mut self) {
        let keys = self.endings_from(self.cut_off_from);
        self.cut_off_from = keys.last().map_or(u32::MAX, |key| key.slot + 1);
        for key in keys {
            self.cut_off(key, CloseCode::ABNORMAL, "server stops");
        }
    }

    fn endings_from(&self, slot: u32) -> Vec<Key> {
        self.connections.keys_from(slot).take(self.core.tick_limits.endings_max).collect()
    }

    /// Whether some have yet to be closed, or those who are left to be cut off.
    pub(super) fn is_ending_more(&self) -> bool {
        match self.drain_until_ms {
            None => false,
            Some(until_ms) if until_ms <= self.core.now_ms => self.cut_off_from != u32::MAX,
            Some(_) => self.close_from != u32::MAX,
        }
    }
}

/// A connection has been opened: other things are due now than while it was opening.
pub(super) fn look_anew<S>(core: &mut Core, session: &Session<S>) {
    let in_ms = match due(session, core) {
        Due::In(ms) => ms,
        _ => 0,
    };
    core.timers.schedule_no_later(session.key.slot, core.now_ms + u64::from(in_ms));
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
    // Whether `timeout_ms` after `then_ms` has passed (0 disables it); else it is a candidate.
    let mut is_over = |timeout_ms: u32, then_ms: u32| {
        let left = timeout_ms.saturating_sub(core.elapsed_ms(then_ms));
        if timeout_ms > 0 {
            next = next.min(left);
        }
        timeout_ms > 0 && left == 0
    };
    match session.stage {
        Stage::Opening if is_over(request_timeout_ms(session, core), session.since_ms) => {
            Due::Opening
        }
        Stage::Idle if is_over(config.keep_alive_timeout_ms, session.since_ms) => Due::Request,
        Stage::Awaiting if is_over(config.ticket_timeout_ms, session.since_ms) => Due::Ticket,
        Stage::Closing | Stage::Draining if is_over(config.close_timeout_ms, session.since_ms) => {
            Due::Close
        }
        Stage::Open | Stage::Answering | Stage::Closing
            if session.sending && is_over(config.write_timeout_ms, session.progress_ms) =>
        {
            Due::Write
        }
        Stage::Open
            if session.mid_message && is_over(config.message_timeout_ms, session.since_ms) =>
        {
            Due::Message
        }
        Stage::Open if is_over(config.idle_timeout_ms, session.heard_ms) => Due::Idle,
        Stage::Open if session.pinged => {
            if is_over(config.pong_timeout_ms, session.pinged_ms) {
                Due::Pong
            } else {
                // Sooner than that, to see whether it was answered and the next one is due.
                Due::In(next.min(config.ping_interval_ms))
            }
        }
        Stage::Open if is_over(ping_after_ms(config, session), session.heard_ms) => Due::Ping,
        _ => Due::In(next),
    }
}

/// How long the request may take from `since_ms` on: its head, then its body.
pub(super) fn request_timeout_ms<S>(session: &Session<S>, core: &Core) -> u32 {
    match session.pending.as_deref() {
        Some(Pending::Body(_)) => core.config.body_timeout_ms,
        _ => core.config.handshake_timeout_ms,
    }
}

fn ping_after_ms<S>(config: &Config, session: &Session<S>) -> u32 {
    spread_ping_ms(config.ping_interval_ms, session.key.generation, session.heard_ms)
}

/// After how long a silence a connection is pinged: between three quarters of the interval and
/// all of it. Connections that were opened together, as after a restart, are so spread further
/// with each ping instead of being pinged in one tick for ever.
fn spread_ping_ms(interval_ms: u32, generation: u32, heard_ms: u32) -> u32 {
    // Fibonacci hashing: neighbours end far apart.
    let hash = (generation ^ heard_ms).wrapping_mul(0x9E37_79B9);
    let spread_ms = (u64::from(interval_ms / 4) * u64::from(hash)) >> 32;
    interval_ms - spread_ms as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_is_due_within_the_last_quarter_of_its_interval() {
        for interval_ms in [0, 1, 3, 4, 1_500, 30_000, i32::MAX as u32, u32::MAX] {
            let least_ms = interval_ms - interval_ms / 4;
            for generation in [0, 1, 2, 1_000_003, u32::MAX] {
                for heard_ms in [0, 1, 60_000, u32::MAX] {
                    let after_ms = spread_ping_ms(interval_ms, generation, heard_ms);
                    assert!((least_ms..=interval_ms).contains(&after_ms), "{after_ms}");
                }
            }
        }
    }

    /// A restart: everybody connects again and is first heard in one millisecond, and answers each
    /// ping at once.
    #[test]
    fn connections_opened_together_are_not_pinged_together() {
        const CONNECTIONS: u32 = 15_000;
        const INTERVAL_MS: u32 = 30_000;
        // Of the timer wheel: what is due in one of them is due in one tick.
        const BUCKET_MS: u32 = 64;
        let opened_ms = 1_000_000;
        let mut heard_ms = vec![opened_ms; CONNECTIONS as usize];
        for ping in 1..=4 {
            for (generation, heard_ms) in (1u32..).zip(&mut heard_ms) {
                *heard_ms += spread_ping_ms(INTERVAL_MS, generation, *heard_ms);
            }
            let mut buckets = std::collections::BTreeMap::<u32, u32>::new();
            for heard_ms in &heard_ms {
                *buckets.entry(heard_ms / BUCKET_MS).or_default() += 1;
            }
            let fullest = buckets.values().max().expect("everybody is pinged");
            // A quarter of the interval has 117 buckets, with 128 connections each at best.
            assert!(*fullest <= 3 * 128, "ping {ping}: {fullest} in one bucket");
            let spread_buckets = buckets.len() as u32;
            assert!(spread_buckets >= 100, "ping {ping}: only {spread_buckets} buckets");
        }
    }
}
