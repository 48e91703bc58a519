//! What is due on a connection, and when: handshake, request, ticket, idle time, pings, unfinished
//! messages, stalled writes, unfinished closes. `shard/deadlines.rs` carries it out.

use super::slot::{Marks, Pending, Session, Stage};
use crate::config::Config;
use crate::shard::core::Core;

/// What is due on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
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

/// A connection has been opened: other things are due now than while it was opening.
pub(crate) fn look_anew<S>(core: &mut Core, session: &Session<S>) {
    let in_ms = match due(session, core) {
        Due::In(ms) => ms,
        _ => 0,
    };
    core.timers.schedule_no_later(session.key.slot, core.now_ms + u64::from(in_ms));
}

/// The first thing that is due, or how long nothing is.
pub(crate) fn due<S>(session: &Session<S>, core: &Core) -> Due {
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
        Stage::Open if session.marks.contains(Marks::PINGED) => {
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
pub(crate) fn request_timeout_ms<S>(session: &Session<S>, core: &Core) -> u32 {
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
