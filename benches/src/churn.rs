//! Churn: connections that are opened, upgraded, echo one message and are reset, some at a
//! time. Nothing is left in TIME_WAIT, so that ports do not run out.

use std::time::Duration;

use crate::dialect::{Dialect, check_head};
use crate::period::Position;
use crate::sockets::Then;
use crate::work::Tally;
use crate::worker::{Clock, Worker, connect};

/// How far one connection is.
#[derive(Default)]
struct Visit {
    since_ns: u64,
    /// The response head, until it is complete.
    head: String,
    is_open: bool,
    position: Position,
}

impl Worker {
    /// Keeps `at_once` connections coming and going for `time`.
    pub(crate) fn churn(&mut self, at_once: usize, time: Duration) -> Result<Tally, String> {
        let Self { target, period, sockets, .. } = self;
        if target.dialect == Dialect::SocketIo {
            return Err("churn does not speak Socket.IO".to_owned());
        }
        let upgrade = target.dialect.upgrade_request();
        let mut visits: Vec<Visit> = Vec::new();
        let mut tally = Tally::default();
        let clock = Clock::start(time);
        let mut now_ns = 0;
        while now_ns < clock.end_ns() || !sockets.is_empty() {
            while now_ns < clock.end_ns() && sockets.len() < at_once {
                let since_ns = clock.now_ns();
                let stream = connect(target).map_err(|error| format!("connecting: {error}"))?;
                let slot = sockets.adopt(stream);
                visits.resize_with(visits.len().max(slot + 1), Visit::default);
                let is_open = upgrade.is_empty();
                visits[slot] = Visit { since_ns, is_open, ..Visit::default() };
                let Visit { position, .. } = &mut visits[slot];
                sockets.send(slot, |out| match is_open {
                    true => position.append_requests(period, 1, out),
                    false => out.extend_from_slice(upgrade.as_bytes()),
                });
                tally.sent += 1;
            }
            sockets.wait(clock.wait(now_ns));
            now_ns = clock.now_ns();
            clock.check_patience(now_ns, sockets.len() as u64)?;
            sockets.dispatch(|slot, bytes, out| {
                let visit = &mut visits[slot];
                if !visit.is_open {
                    visit.read_head(bytes)?;
                    if visit.is_open {
                        visit.position.append_requests(period, 1, out);
                    }
                    return Ok(Then::Stay);
                }
                let answers = visit.position.advance(period, bytes, out)?;
                if answers == 0 {
                    return Ok(Then::Stay);
                }
                tally.latency.record(now_ns.saturating_sub(visit.since_ns), 1);
                tally.count(1, now_ns < clock.end_ns());
                Ok(Then::Leave)
            })?;
        }
        Ok(tally)
    }
}

impl Visit {
    fn read_head(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.head.push_str(&String::from_utf8_lossy(bytes));
        if self.head.ends_with("\r\n\r\n") {
            check_head(&self.head).map_err(|error| error.to_string())?;
            self.is_open = true;
        }
        Ok(())
    }
}
