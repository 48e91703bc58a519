//! Deadlines: handshake, idle time, pings, unfinished messages, stalled writes, unfinished closes.
//! Each connection has one timer. Receiving and sending only note the time. When the timer fires,
//! the connection is checked, and the timer is set again if nothing is due.
//!
//! The clock alone ends no connection. Deadlines are judged by the time up to which all completions
//! have been handed out (`Core::judged_ms`). Then the kernel is asked. Input that had arrived in
//! time is read first (`SIOCINQ`), and a peer that acknowledges enough of what it is sent
//! (`SIOCOUTQ`) gets more time.

use ringwire_proto::CloseCode;

use super::Shard;
use crate::connection::connections::Tenant;
use crate::connection::deadlines::{Due, due};
use crate::connection::in_time::InTime;
use crate::connection::slot::{Marks, PeerSide, Slot, Stage};
use crate::driver::{Driver, Key, Socket};
use crate::handler::Handler;

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
            let session = &self.connections.tenant_mut(slot).slot.session;
            let (key, due) = (session.key, due(session, &self.core));
            self.fire(key, due);
        }
    }

    fn fire(&mut self, key: Key, due: Due) {
        match due {
            Due::In(ms) => {
                let tenant = self.connections.tenant_mut(key.slot);
                let Tenant { slot: Slot { session, .. }, socket } = tenant;
                if session.in_time.is_asked() {
                    session.in_time = InTime::default();
                    // It was put off, and what was acknowledged meanwhile counts as well.
                    let unacknowledged_bytes = socket.unacknowledged_bytes();
                    if session.marks.contains(Marks::BEHIND)
                        && session.note_progress(&self.core, unacknowledged_bytes)
                    {
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
        let tenant = self.connections.tenant_of(key).expect("its deadline goes with it");
        let Tenant { slot: Slot { session, .. }, socket } = tenant;
        // What comes while the connection only ends changes nothing.
        let is_heard = session.peer_side == PeerSide::Open;
        let unread_bytes = if is_heard { socket.unread_bytes() } else { 0 };
        if session.in_time.is_left(unread_bytes, is_waiting) {
            return true;
        }
        if matches!(due, Due::In(_) | Due::Ping | Due::Opening | Due::Request | Due::Message) {
            return false;
        }
        let unacknowledged_bytes = socket.unacknowledged_bytes();
        let has_progressed = session.note_progress(&self.core, unacknowledged_bytes);
        if has_progressed {
            session.renew_deadlines(&self.core);
        }
        has_progressed
    }

    fn ping(&mut self, key: Key) {
        let Some(Tenant { slot, socket }) = self.connections.tenant_of(key) else {
            return;
        };
        let session = &mut slot.session;
        session.marks.insert(Marks::PINGED);
        session.pinged_ms = self.core.now_ms as u32;
        // What is acknowledged from here on is. While a send is in flight its deadline counts too,
        // and that from where it was looked at last.
        let unacknowledged_bytes = socket.unacknowledged_bytes();
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
        // The tick may have taken long, and an application's timer is as punctual as can be.
        let timers_ms =
            self.desk.timers.next_ms().map(|at_ms| at_ms.saturating_sub(self.clock.worked_ms()));
        let shard_deadlines =
            [self.next_accept_ms(), self.drain_until_ms, self.trim_at_ms, timers_ms];
        let in_ms = shard_deadlines.into_iter().flatten().map(|at| at.saturating_sub(now_ms));
        // One more than what is left: the clock is coarse, and waking early is a tick more.
        let in_ms = in_ms.chain(self.core.timers.wait_ms(now_ms)).min()?;
        Some(u32::try_from(in_ms.saturating_add(1)).unwrap_or(u32::MAX))
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
