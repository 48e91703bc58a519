//! A request whose answer comes later. Meanwhile the connection keeps its head and what comes behind
//! it, bounded and unparsed. `shard/tickets.rs` brings the answer.

use ringwire_proto::CloseCode;

use super::websocket::Failure;
use crate::connection::slot::{Awaiting, Pending, Session, Stage};
use crate::shard::core::Core;

/// The callback has taken a ticket: the connection waits for its answer.
pub(crate) fn await_answer<S>(
    core: &mut Core,
    session: &mut Session<S>,
    serial: u32,
    head: &[u8],
    rest: &[u8],
) {
    session.stage = Stage::Awaiting;
    session.since_ms = core.now_ms as u32;
    let awaiting = Awaiting { serial, head: head.to_vec(), early: rest.to_vec() };
    session.pending = Some(Box::new(Pending::Awaiting(awaiting)));
    let deadline = core.now_ms + u64::from(core.config.ticket_timeout_ms);
    core.timers.schedule_no_later(session.key.slot, deadline);
}

/// What a peer is cut off with that sends too much before an answer. It is told nothing.
const TOO_EARLY: (CloseCode, &str) = (CloseCode::POLICY_VIOLATION, "too much before the answer");

/// Whether so many bytes may wait for the answer.
fn admit_early(core: &mut Core, bytes: usize) -> Failure {
    if bytes <= core.config.early_bytes_max {
        return None;
    }
    core.metrics.violations += 1;
    Some(TOO_EARLY)
}

/// What has come with a request that is not answered at once may be too much, too.
pub(crate) fn admit_rest<S>(core: &mut Core, session: &Session<S>, rest: &[u8]) -> Failure {
    match session.stage {
        Stage::Awaiting | Stage::Answering => admit_early(core, rest.len()),
        _ => None,
    }
}

/// Keeps what comes before the answer, or before it is out.
pub(crate) fn take_early<S>(core: &mut Core, session: &mut Session<S>, input: &[u8]) -> Failure {
    let pending = session.pending.get_or_insert_with(|| Box::new(Pending::Early(Vec::new())));
    let early = match &mut **pending {
        Pending::Awaiting(awaiting) => &mut awaiting.early,
        Pending::Early(early) => early,
        Pending::Head(_) | Pending::Body(_) | Pending::Pong(_) => {
            unreachable!("a request that is being answered is whole")
        }
    };
    let failure = admit_early(core, early.len() + input.len());
    if failure.is_none() {
        early.extend_from_slice(input);
    }
    failure
}
