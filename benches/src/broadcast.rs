//! A broadcast: the first connection publishes, every connection receives, and each byte is
//! compared. One worker does it alone, because it must know how far all receivers are.

use std::time::Duration;

use crate::sockets::Then;
use crate::work::Tally;
use crate::worker::{Clock, Worker};

impl Worker {
    /// Keeps `in_flight` publishes under way for `time`: the next is sent when the deliveries,
    /// divided by the connections, have caught up.
    pub(crate) fn broadcast(&mut self, in_flight: usize, time: Duration) -> Result<Tally, String> {
        let slots = self.slots()?;
        let Self { sockets, connections, period, .. } = self;
        let mut tally = Tally::default();
        // When each publish was sent, and how many each connection has received.
        let mut published_ns: Vec<u64> = Vec::new();
        let mut received = vec![0; slots];
        let clock = Clock::start(time);
        let mut now_ns = 0;
        loop {
            let is_within = now_ns < clock.end_ns();
            let delivered = tally.overall as usize / slots;
            let due = in_flight.saturating_sub(published_ns.len() - delivered);
            if is_within && due > 0 {
                published_ns.resize(published_ns.len() + due, now_ns);
                let publisher = &mut connections[0].position;
                sockets.send(0, |out| publisher.append_requests(period, due, out));
            }
            let missing = (published_ns.len() * slots) as u64 - tally.overall;
            if missing == 0 {
                tally.sent = published_ns.len() as u64;
                return Ok(tally);
            }
            sockets.wait(clock.wait(now_ns));
            now_ns = clock.now_ns();
            clock.check_patience(now_ns, missing)?;
            sockets.dispatch(|slot, bytes, out| {
                let answers = connections[slot].position.advance(period, bytes, out)?;
                let until = received[slot] + answers;
                let sent_ns = published_ns.get(received[slot]..until);
                for &sent_ns in sent_ns.ok_or("a publish came more often than it was sent")? {
                    tally.latency.record(now_ns - sent_ns, 1);
                }
                received[slot] = until;
                tally.count(answers, now_ns < clock.end_ns());
                Ok(Then::Stay)
            })?;
        }
    }
}
