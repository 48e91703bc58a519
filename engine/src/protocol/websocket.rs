//! Messages and control frames of an open connection (RFC 6455 §5, §6): input becomes events, and
//! events become callbacks or answers.

use ringwire_proto::{Close, CloseCode, Event, Events, IncomingLimits, Message};

use crate::connection::slot::{Session, Slot, Stage, Told};
use crate::driver::Socket;
use crate::handler::Handler;
use crate::shard::core::Core;
use crate::shard::lent::Lent;

/// Why a connection must be failed after its input: the code and the reason to send.
pub(crate) type Failure = Option<(CloseCode, &'static str)>;

/// Feeds input to the parser and its events to the handler.
#[inline]
pub(crate) fn take_frames<H: Handler, K: Socket>(
    lent: &mut Lent<'_, H, K>,
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
pub(crate) fn take_events<H: Handler, K: Socket>(
    lent: &mut Lent<'_, H, K>,
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
fn take_message<H: Handler, K: Socket>(
    lent: &mut Lent<'_, H, K>,
    session: &mut Session<H::State>,
    message: Message<'_>,
) -> Failure {
    // After our Close, data is read and dropped until the peer's (RFC 6455 §5.5.1).
    if !session.is_served() {
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
pub(crate) const PANICKED: (CloseCode, &str) = (CloseCode::INTERNAL_ERROR, "internal error");

fn take_pong<H: Handler, K: Socket>(
    lent: &mut Lent<'_, H, K>,
    session: &mut Session<H::State>,
    payload: &[u8],
) -> Failure {
    let failure = admitted(lent.core, session.admit_pong(lent.core));
    if failure.is_some() || !session.is_served() {
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
fn take_close<H: Handler, K: Socket>(
    lent: &mut Lent<'_, H, K>,
    session: &mut Session<H::State>,
    close: Close<'_>,
) {
    session.begin_close(lent.core, close.code, "");
    session.expect_no_more(lent.core);
    tell_closed(lent, session, close.code, close.reason);
}

/// Tells the handler that a connection is over, once, if it was ever told of it.
pub(crate) fn tell_closed<H: Handler, K: Socket>(
    lent: &mut Lent<'_, H, K>,
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
pub(crate) fn note_mid_message<S>(core: &mut Core, session: &mut Session<S>, is_mid_message: bool) {
    session.mid_message = is_mid_message;
    // The message so far takes memory, which is freed with it.
    core.is_quiet = false;
    if is_mid_message && session.stage == Stage::Open && core.config.message_timeout_ms > 0 {
        session.since_ms = core.now_ms as u32;
        let deadline = core.now_ms + u64::from(core.config.message_timeout_ms);
        core.timers.schedule_no_later(session.key.slot, deadline);
    }
}
