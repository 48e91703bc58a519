//! Echoes, closed loop and open loop. Both end with nothing under way, so that the next run
//! begins clean.

use std::time::Duration;

use ringwire::driver::Wait;

use crate::sockets::Then;
use crate::work::Tally;
use crate::worker::{Clock, Worker};

impl Worker {
    /// Keeps `in_flight` messages under way on each connection for `time`.
    pub(crate) fn echo(&mut self, in_flight: usize, time: Duration) -> Result<Tally, String> {
        let slots = self.slots()?;
        let Self { sockets, connections, period, .. } = self;
        let mut tally = Tally::default();
        let clock = Clock::start(time);
        let mut now_ns = 0;
        let mut under_way = slots * in_flight;
        tally.sent = under_way as u64;
        for (slot, connection) in connections.iter_mut().enumerate() {
            connection.pending.push_back((now_ns, in_flight));
            sockets.send(slot, |out| connection.position.append_requests(period, in_flight, out));
        }
        while under_way > 0 {
            sockets.wait(clock.wait(now_ns));
            now_ns = clock.now_ns();
            clock.check_patience(now_ns, under_way as u64)?;
            let is_within = now_ns < clock.end_ns();
            sockets.dispatch(|slot, bytes, out| {
                let connection = &mut connections[slot];
                let answers = connection.position.advance(period, bytes, out)?;
                connection.settle(answers, now_ns, &mut tally);
                tally.count(answers, is_within);
                if is_within && answers > 0 {
                    tally.sent += answers as u64;
                    connection.pending.push_back((now_ns, answers));
                    connection.position.append_requests(period, answers, out);
                } else {
                    under_way -= answers;
                }
                Ok(Then::Stay)
            })?;
        }
        Ok(tally)
    }

    /// Sends message n at n / `per_second` to the next connection, whatever has come back: of
    /// the messages of `workers` workers, every one that is `first`'s. Latency counts from
    /// when a message was due.
    pub(crate) fn echo_at_rate(
        &mut self,
        per_second: f64,
        workers: usize,
        first: usize,
        time: Duration,
    ) -> Result<Tally, String> {
        let slots = self.slots()?;
        let Self { sockets, connections, period, .. } = self;
        let mut tally = Tally::default();
        let clock = Clock::start(time);
        let due_ns = |sent: u64| {
            let message = sent * workers as u64 + first as u64;
            (message as f64 / per_second * 1e9) as u64
        };
        let mut next_ns = due_ns(0);
        while next_ns < clock.end_ns() || tally.overall < tally.sent {
            let mut now_ns = clock.now_ns();
            while next_ns <= now_ns && next_ns < clock.end_ns() {
                let slot = tally.sent as usize % slots;
                let connection = &mut connections[slot];
                connection.pending.push_back((next_ns, 1));
                tally.lateness.record(now_ns - next_ns, 1);
                tally.sent += 1;
                sockets.send(slot, |out| connection.position.append_requests(period, 1, out));
                next_ns = due_ns(tally.sent);
            }
            let is_over = next_ns >= clock.end_ns();
            sockets.wait(if is_over { clock.wait(now_ns) } else { wait_until(next_ns, now_ns) });
            now_ns = clock.now_ns();
            clock.check_patience(now_ns, tally.sent - tally.overall)?;
            sockets.dispatch(|slot, bytes, out| {
                let connection = &mut connections[slot];
                let answers = connection.position.advance(period, bytes, out)?;
                connection.settle(answers, now_ns, &mut tally);
                tally.count(answers, now_ns < clock.end_ns());
                Ok(Then::Stay)
            })?;
        }
        Ok(tally)
    }
}

/// Sleeps while nothing is due for long, and spins from then on: a sleep ends late by up to a
/// millisecond and the time it takes to be scheduled.
fn wait_until(due_ns: u64, now_ns: u64) -> Wait {
    const SPIN_MS: u64 = 2;
    match due_ns.saturating_sub(now_ns) / 1_000_000 {
        0..=SPIN_MS => Wait::No,
        ms => Wait::Millis((ms - SPIN_MS) as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_soon_is_waited_for_awake() {
        assert_eq!(wait_until(5, 9), Wait::No);
        assert_eq!(wait_until(2_999_999, 0), Wait::No);
        assert_eq!(wait_until(3_000_000, 0), Wait::Millis(1));
        assert_eq!(wait_until(103_000_000, 1_000_000), Wait::Millis(100));
    }
}
