//! A request whose answer comes later. Meanwhile the connection keeps its head and what comes behind
//! it, bounded and unparsed. `shard/tickets.rs` brings the answer.

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
    if !admit_early(core, rest.len()) {
        return session.terminate_later(core);
    }
    session.stage = Stage::Awaiting;
    session.since_ms = core.now_ms as u32;
    let awaiting = Awaiting { serial, head: head.to_vec(), early: rest.to_vec() };
    session.pending = Some(Box::new(Pending::Awaiting(awaiting)));
    let deadline = core.now_ms + u64::from(core.config.ticket_timeout_ms);
    core.timers.schedule_no_later(session.key.slot, deadline);
}

/// Whether so many bytes may wait for the answer; a peer that sends more is cut off.
pub(crate) fn admit_early(core: &mut Core, bytes: usize) -> bool {
    let is_admitted = bytes <= core.config.early_bytes_max;
    core.metrics.violations += u64::from(!is_admitted);
    is_admitted
}

/// Keeps what comes before the answer, or before it is out; `false` if it is too much.
pub(crate) fn take_early<S>(core: &mut Core, session: &mut Session<S>, input: &[u8]) -> bool {
    let pending = session.pending.get_or_insert_with(|| Box::new(Pending::Early(Vec::new())));
    let early = match &mut **pending {
        Pending::Awaiting(awaiting) => &mut awaiting.early,
        Pending::Early(early) => early,
        Pending::Head(_) | Pending::Body(_) | Pending::Pong(_) => {
            unreachable!("a request that is being answered is whole")
        }
    };
    let fits = admit_early(core, early.len() + input.len());
    if fits {
        early.extend_from_slice(input);
    }
    fits
}
