//! Sends, and receives that are armed again: the operations that a tick gives to the driver after
//! its callbacks. One send per connection is in flight; later frames go out with the next one.

use ringwire_proto::{CloseCode, Room};

use super::Shard;
use super::lent::Lent;
use crate::connection::connections::Tenant;
use crate::connection::slot::{Marks, PeerSide, Receiving, Slot, Stage};
use crate::driver::Socket as _;
use crate::driver::{Driver, Errno, Key, Outbound};
use crate::handler::Handler;
use crate::protocol::websocket::PANICKED;

impl<H: Handler, D: Driver> Shard<H, D> {
    pub(super) fn on_sent(&mut self, key: Key, result: Result<u32, Errno>, outbound: Outbound) {
        let Self { driver, connections, core, .. } = self;
        let Tenant { slot, socket } = connections.tenant_of(key).expect("a slot outlives its send");
        let session = &mut slot.session;
        session.sending = false;
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(errno) => {
                core.pool.reclaim(outbound);
                return self.on_send_failed(key, errno);
            }
        };
        session.owed_bytes = session.owed_bytes.saturating_add(bytes);
        if session.stage == Stage::Dying {
            core.pool.reclaim(outbound);
            return self.release(key);
        }
        if let Some((rest, offset)) =
            session.writes.advance(&mut core.pool, outbound, bytes as usize)
        {
            session.sending = true;
            session.marks.insert(Marks::BEHIND);
            driver.send(key, socket, rest, offset);
        } else if session.writes.is_waiting() {
            session.marks.insert(Marks::BEHIND);
            session.mark_dirty(core);
        } else {
            session.marks.remove(Marks::BEHIND);
            match session.stage {
                Stage::Closing => session.mark_dirty(core),
                Stage::Answering => return self.next_request(key),
                _ => {}
            }
        }
        if session.pending.is_some() {
            session.pong_if_room(core);
        }
        if session.marks.contains(Marks::OVER_MARK)
            && session.writes.unsent_bytes() <= core.config.write_bytes_mark / 2
        {
            self.relieve(key);
        }
    }

    #[cold]
    fn on_send_failed(&mut self, key: Key, errno: Errno) {
        self.count_connection_error(key, errno);
        self.cut_off(key, CloseCode::ABNORMAL, "");
        self.release(key);
    }

    /// The peer has read enough: the handler is told.
    #[cold]
    fn relieve(&mut self, key: Key) {
        let Self { connections, handler, core, desk, .. } = self;
        let (slot, others) = connections.lend(key).expect("looked up just before");
        let session = &mut slot.session;
        session.marks.remove(Marks::OVER_MARK);
        if !session.is_served() {
            return;
        }
        let mut lent = Lent { handler, core, desk, others };
        let returned = lent.call(session, |handler, conn, state| handler.on_drain(conn, state));
        if returned.is_none() {
            let (code, reason) = PANICKED;
            self.fail(key, code, reason);
        }
    }

    /// Looks at the connections with something to send or to end, in the order in which they had
    /// it. Those beyond a tick's share, and those that become dirty meanwhile, have the next tick.
    pub(super) fn flush_dirty(&mut self) {
        for _ in 0..self.core.dirty.len().min(self.core.tick_limits.sends_max) {
            let key = self.core.dirty.pop_front().expect("counted just before");
            self.flush(key);
        }
    }

    #[inline]
    fn flush(&mut self, key: Key) {
        let Self { driver, connections, core, .. } = self;
        let Some(Tenant { slot, socket }) = connections.tenant_of(key) else {
            return;
        };
        let session = &mut slot.session;
        session.marks.remove(Marks::DIRTY);
        if session.marks.contains(Marks::RECOUNTING) {
            session.marks.remove(Marks::RECOUNTING);
            session.count_progress_from_now(core, socket.unacknowledged_bytes());
        }
        if session.stage == Stage::Dying {
            return self.release(key);
        }
        if session.sending {
            // The peer is not taking what it was sent: watch that it does in time.
            let timeout_ms = u64::from(core.config.write_timeout_ms);
            if timeout_ms > 0 {
                core.timers.schedule_no_later(key.slot, core.now_ms + timeout_ms);
            }
        } else if let Some(outbound) = session.writes.next_outbound() {
            session.sending = true;
            if !session.marks.contains(Marks::BEHIND) {
                session.progress_ms = core.now_ms as u32;
            }
            driver.send(key, socket, session.transport.seal(outbound), 0);
        } else {
            self.after_last_byte(key);
        }
    }

    /// Receive buffers that were sent from go back to the kernel.
    #[inline]
    pub(super) fn recycle_sent(&mut self) {
        while let Some(lease) = self.core.pool.pop_lease() {
            self.core.forward.count_back();
            self.driver.recycle(lease);
        }
    }

    pub(super) fn arm_receive(&mut self, key: Key) {
        let Some(Tenant { slot, socket }) = self.connections.tenant_of(key) else {
            return;
        };
        let Slot { incoming, session } = slot;
        if session.marks.contains(Marks::LONG_MESSAGES) && session.is_heard() {
            let room = incoming.take_room(1, &self.core.incoming_limits);
            session.receiving = if room.is_some() { Receiving::Filling } else { Receiving::Once };
            return match room {
                Some(Room { buffer, bytes }) => {
                    self.driver.receive_into(key, socket, buffer, bytes);
                }
                None => self.driver.arm_receive_once(key, socket),
            };
        }
        session.receiving = Receiving::Multishot;
        self.driver.arm_receive(key, socket);
    }

    /// A receive has ended: it is armed again when the tick ends, unless the peer's FIN has
    /// come or the connection is dying.
    pub(super) fn rearm_or_release(&mut self, key: Key) {
        let Some(slot) = self.connections.get_mut(key) else {
            return;
        };
        let session = &slot.session;
        if session.stage == Stage::Dying {
            self.release(key);
        } else if session.peer_side != PeerSide::Ended {
            self.rearm.push(key);
        }
    }

    /// Armed only now, when the tick's receive buffers have been recycled: a receive that
    /// finds none ends at once.
    pub(super) fn rearm_receives(&mut self) {
        let mut rearm = std::mem::take(&mut self.rearm);
        for key in rearm.drain(..) {
            let is_wanted = self.connections.get_mut(key).is_some_and(|slot| {
                slot.session.stage != Stage::Dying && slot.session.receiving == Receiving::No
            });
            if is_wanted {
                self.arm_receive(key);
            }
        }
        self.rearm = rearm;
    }
}
