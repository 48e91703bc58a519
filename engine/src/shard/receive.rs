//! Input of a connection: bytes are parsed into events, and events become callbacks or answers.
//! The end of a connection is in `closing.rs`.

use ringwire_proto::{Close, CloseCode, Event, Events, IncomingLimits, Message};

use super::http::take_request_bytes;
use super::lent::Lent;
use super::tickets::{TOO_EARLY, take_early};
use super::{Core, Shard};
use crate::driver::{Driver, Errno, Key, Lease};
use crate::handler::Handler;
use crate::slot::{PeerSide, Receiving, Session, Slot, Stage, Told};

/// Why a connection must be failed after its input: the code and the reason to send.
pub(super) type Failure = Option<(CloseCode, &'static str)>;

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
                take_request_bytes(&mut lent, slot, driver.received(&lease))
            }
            Stage::Awaiting | Stage::Answering => {
                let is_kept = take_early(lent.core, session, driver.received(&lease));
                (!is_kept).then_some(TOO_EARLY)
            }
            _ if !session.is_heard() => {
                let bytes = lease.bytes();
                driver.recycle(lease);
                return self.drop_input(key, bytes);
            }
            Stage::Draining | Stage::Dying => unreachable!("nothing more is heard"),
            Stage::Open | Stage::Closing => {
                let input = driver.received(&lease);
                lent.core.forward.begin(input);
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
        let Some(slot) = connections.get_mut(key) else { return };
        let session = &mut slot.session;
        if !session.mid_message && !session.long_messages {
            return;
        }
        session.long_messages = slot.incoming.room_bytes() >= core.tick_limits.long_bytes_min;
        if session.long_messages && session.receiving == Receiving::Multishot {
            session.receiving = Receiving::Ending;
            driver.end_receive(key, &session.socket);
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

/// Feeds input to the parser and its events to the handler.
#[inline]
pub(super) fn take_frames<H: Handler>(
    lent: &mut Lent<'_, H>,
    slot: &mut Slot<H::State>,
    input: &mut [u8],
) -> Failure {
    let Slot { incoming, session } = slot;
    let limits: IncomingLimits = lent.core.incoming_limits;
    let failure = take_events(lent, session, incoming.receive(input, &limits));
    let is_mid_message = incoming.is_mid_message();
    if is_mid_message != session.mid_message {
        note_mid_message(lent.core, session, is_mid_message);
    }
    failure
}

#[inline]
fn take_events<H: Handler>(
    lent: &mut Lent<'_, H>,
    session: &mut Session<H::State>,
    mut events: Events<'_>,
) -> Failure {
    while let Some(event) = events.next() {
        let failure = match event {
            Ok(Event::Message(message)) => {
                let is_shown = lent.core.forward.show(message);
                let failure = take_message(lent, session, message);
                if is_shown && let Some(frame) = lent.core.forward.take_claimed(&mut events) {
                    session.writes.put_first(frame);
                    lent.core.metrics.messages_forwarded += 1;
                }
                failure
            }
            Ok(Event::Ping(payload)) => take_ping(lent.core, session, payload),
            Ok(Event::Pong(payload)) => take_pong(lent, session, payload),
            Ok(Event::Close(close)) => {
                take_close(lent, session, close);
                None
            }
            Err(error) => {
                lent.core.metrics.violations += 1;
                Some((error.close_code(), error.reason()))
            }
        };
        if failure.is_some() {
            return failure;
        }
    }
    None
}

#[inline]
fn take_message<H: Handler>(
    lent: &mut Lent<'_, H>,
    session: &mut Session<H::State>,
    message: Message<'_>,
) -> Failure {
    // After our Close, data is read and dropped until the peer's (RFC 6455 §5.5.1).
    if session.stage != Stage::Open {
        return None;
    }
    lent.core.metrics.messages_received += 1;
    // What was unfinished is whole; if another message has begun, its deadline starts anew.
    session.mid_message = false;
    let returned =
        lent.call(session, |handler, conn, state| handler.on_message(conn, state, message));
    if returned.is_some() { None } else { Some(PANICKED) }
}

/// What a connection whose callback has panicked is failed with.
pub(super) const PANICKED: (CloseCode, &str) = (CloseCode::INTERNAL_ERROR, "internal error");

fn take_pong<H: Handler>(
    lent: &mut Lent<'_, H>,
    session: &mut Session<H::State>,
    payload: &[u8],
) -> Failure {
    let failure = admitted(lent.core, session.admit_pong(lent.core));
    if failure.is_some() || session.stage != Stage::Open {
        return failure;
    }
    let returned = lent.call(session, |handler, conn, state| handler.on_pong(conn, state, payload));
    if returned.is_some() { None } else { Some(PANICKED) }
}

fn take_ping<S>(core: &mut Core, session: &mut Session<S>, payload: &[u8]) -> Failure {
    let failure = admitted(core, session.admit_control(core));
    if failure.is_none() && session.stage == Stage::Open {
        session.pong(core, payload);
    }
    failure
}

fn admitted(core: &mut Core, is_admitted: bool) -> Failure {
    if is_admitted {
        return None;
    }
    core.metrics.violations += 1;
    Some((CloseCode::POLICY_VIOLATION, "too many control frames"))
}

/// The peer's Close: answered with one of the same code (RFC 6455 §5.5.1), unless it is
/// itself the answer to ours. Either way the peer sends nothing more.
fn take_close<H: Handler>(
    lent: &mut Lent<'_, H>,
    session: &mut Session<H::State>,
    close: Close<'_>,
) {
    session.begin_close(lent.core, close.code, "");
    session.expect_no_more(lent.core);
    tell_closed(lent, session, close.code, close.reason);
}

/// Tells the handler that a connection is over, once, if it was ever told of it.
pub(super) fn tell_closed<H: Handler>(
    lent: &mut Lent<'_, H>,
    session: &mut Session<H::State>,
    code: CloseCode,
    reason: &str,
) {
    if session.told != Told::Open {
        return;
    }
    session.told = Told::Closed;
    // A panic has nothing left to fail.
    let _ = lent.call(session, |handler, conn, state| handler.on_close(conn, state, code, reason));
}

/// A message has begun without being whole, or is whole now: its deadline starts or ends.
fn note_mid_message<S>(core: &mut Core, session: &mut Session<S>, is_mid_message: bool) {
    session.mid_message = is_mid_message;
    // The message so far takes memory, which is freed with it.
    core.is_quiet = false;
    if is_mid_message && session.stage == Stage::Open && core.config.message_timeout_ms > 0 {
        session.since_ms = core.now_ms as u32;
        let deadline = core.now_ms + u64::from(core.config.message_timeout_ms);
        core.timers.schedule_no_later(session.key.slot, deadline);
    }
}
