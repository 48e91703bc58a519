//! Input of a connection: bytes are parsed into events, and events become callbacks or answers.
//! The end of a connection is in `closing.rs`.

use ringwire_proto::{CloseCode, IncomingLimits};

use super::Shard;
use super::lent::Lent;
use crate::connection::connections::Tenant;
use crate::connection::slot::{Marks, PeerSide, Receiving, Slot, Stage};
use crate::driver::{Driver, Errno, Key, Lease};
use crate::handler::Handler;
use crate::protocol::http::take_request_bytes;
use crate::protocol::later::take_early;
use crate::protocol::websocket::{note_mid_message, take_events, take_frames};

impl<H: Handler, D: Driver> Shard<H, D> {
    pub(super) fn on_received(
        &mut self,
        key: Key,
        result: Result<Option<Lease>, Errno>,
        more: bool,
    ) {
        let slot = self.connections.get_mut(key).expect("a slot outlives its receive");
        let was = slot.session.receiving;
        if !more {
            slot.session.receiving = Receiving::No;
        }
        match result {
            Ok(Some(lease)) => self.take_input(key, lease),
            Ok(None) => self.end_of_input(key),
            Err(Errno::NO_BUFFERS) => {
                self.core.metrics.receives_unbuffered += 1;
                self.core.is_quiet = false;
            }
            Err(Errno::CANCELLED) if was == Receiving::Ending => {}
            Err(errno) => self.break_off(key, errno),
        }
        if !more {
            self.rearm_or_release(key);
        }
    }

    /// Bytes have come straight into the message under way.
    pub(super) fn on_filled(&mut self, key: Key, result: Result<u32, Errno>, buffer: Vec<u8>) {
        let slot = self.connections.get_mut(key).expect("a slot outlives its receive");
        slot.session.receiving = Receiving::No;
        match result {
            Ok(0) => self.end_of_input(key),
            Ok(bytes) => self.take_filled(key, buffer, bytes as usize),
            Err(errno) => self.break_off(key, errno),
        }
        self.rearm_or_release(key);
    }

    #[cold]
    fn break_off(&mut self, key: Key, errno: Errno) {
        self.count_connection_error(key, errno);
        self.cut_off(key, CloseCode::ABNORMAL, "");
    }

    fn take_filled(&mut self, key: Key, buffer: Vec<u8>, bytes: usize) {
        let Self { connections, handler, core, desk, .. } = self;
        let (slot, others) = connections.lend(key).expect("looked up just before");
        slot.session.note_heard(core, bytes);
        if !slot.session.is_heard() {
            return self.drop_input(key, bytes);
        }
        core.forward.begin_filled();
        let Slot { incoming, session } = slot;
        let limits: IncomingLimits = core.incoming_limits;
        let mut lent = Lent { handler, core, desk, others };
        let events = incoming.fill(buffer, bytes, &limits);
        let failure = take_events(&mut lent, session, events);
        let is_mid_message = incoming.is_mid_message();
        if is_mid_message != session.mid_message {
            note_mid_message(lent.core, session, is_mid_message);
        }
        let part = self.core.forward.end();
        debug_assert!(part.is_none(), "no receive buffer was read");
        if let Some((code, reason)) = failure {
            self.fail(key, code, reason);
        }
    }

    #[inline]
    fn take_input(&mut self, key: Key, lease: Lease) {
        let Self { driver, connections, handler, core, desk, .. } = self;
        let (slot, others) = connections.lend(key).expect("looked up just before");
        let session = &mut slot.session;
        session.note_heard(core, lease.bytes());
        let mut lent = Lent { handler, core, desk, others };
        let failure = match session.stage {
            Stage::Opening | Stage::Idle => {
                let input = session.transport.open(driver.received(&lease));
                take_request_bytes(&mut lent, slot, input)
            }
            Stage::Awaiting | Stage::Answering => {
                let input = session.transport.open(driver.received(&lease));
                take_early(lent.core, session, input)
            }
            _ if !session.is_heard() => {
                let bytes = lease.bytes();
                driver.recycle(lease);
                return self.drop_input(key, bytes);
            }
            Stage::Draining | Stage::Dying => unreachable!("nothing more is heard"),
            Stage::Open | Stage::Closing => {
                let input = session.transport.open(driver.received(&lease));
                if session.transport.carries_by_reference() {
                    lent.core.forward.begin(input);
                }
                take_frames(&mut lent, slot, input)
            }
        };
        let core = lent.core;
        match core.forward.end() {
            None => driver.recycle(lease),
            Some(part) => {
                core.forward.count_out();
                slot.session.writes.put_first(part.into_frame(driver, lease));
                core.metrics.messages_forwarded += 1;
            }
        }
        match failure {
            Some((code, reason)) => self.fail(key, code, reason),
            None => self.look_for_long_message(key),
        }
    }

    /// If a long message has begun, what is left of it shall come straight into its buffer.
    #[inline]
    fn look_for_long_message(&mut self, key: Key) {
        let Self { driver, connections, core, .. } = self;
        let Some(Tenant { slot, socket }) = connections.tenant_of(key) else { return };
        let session = &mut slot.session;
        if !session.mid_message && !session.marks.contains(Marks::LONG_MESSAGES) {
            return;
        }
        session.marks.set(
            Marks::LONG_MESSAGES,
            session.transport.carries_by_reference()
                && slot.incoming.room_bytes() >= core.tick_limits.long_bytes_min,
        );
        if session.marks.contains(Marks::LONG_MESSAGES) && session.receiving == Receiving::Multishot
        {
            session.receiving = Receiving::Ending;
            driver.end_receive(key, socket);
        }
    }

    /// Input behind our last bytes is dropped, up to a limit: dropping it keeps the kernel from
    /// answering it with a reset, which would take those bytes from the peer.
    #[cold]
    fn drop_input(&mut self, key: Key, bytes: usize) {
        let slot = self.connections.get_mut(key).expect("looked up by the caller");
        if !slot.session.tally.admit_dropped(bytes, &self.core.config) {
            self.cut_off(key, CloseCode::ABNORMAL, "");
        }
    }

    /// The peer's FIN. It may still read: what is queued goes out (answers, our Close, an HTTP
    /// response), and then the connection ends (RFC 6455 §7.1.5, RFC 9112 §9.6).
    pub(super) fn end_of_input(&mut self, key: Key) {
        let Some(slot) = self.connections.get_mut(key) else {
            return;
        };
        let session = &mut slot.session;
        session.peer_side = PeerSide::Ended;
        match session.stage {
            Stage::Open => {
                session.serve_published(&mut self.core);
                session.unsubscribe_all(&mut self.core);
                session.enter_closing(&mut self.core);
            }
            Stage::Closing => session.mark_dirty(&mut self.core),
            // It may still read the answer.
            Stage::Awaiting | Stage::Answering => return,
            Stage::Opening | Stage::Idle | Stage::Draining => {
                return self.cut_off(key, CloseCode::ABNORMAL, "");
            }
            Stage::Dying => {}
        }
        self.tell_closed(key, CloseCode::ABNORMAL, "");
    }
}
