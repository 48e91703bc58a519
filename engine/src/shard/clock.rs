//! The clock of a shard, and the time by which it judges deadlines.

use crate::driver::{Driver, Mark, Wait};

/// The shard's clock, which stands still while the shard does: a process that was stopped, a
/// machine that was moved, a callback that did not return. Peers cannot be heard meanwhile, and
/// such a time is nobody's silence.
pub(super) struct Clock {
    /// When the last tick began and ended, by the driver's clock.
    began_ms: u64,
    ended_ms: u64,
    /// How long the shard has stood still in all.
    pub(super) stalled_ms: u64,
}

/// A tick later than this is a stall. Far above what a busy scheduler makes of a tick, and well
/// below any deadline.
const STALL_MS_MIN: u64 = 1_000;

impl Clock {
    pub(super) fn new(driver_ms: u64) -> Self {
        Self { began_ms: driver_ms, ended_ms: driver_ms, stalled_ms: 0 }
    }

    pub(super) fn end_tick(&mut self, driver_ms: u64) {
        self.ended_ms = driver_ms;
    }

    /// How long the last tick has taken by this clock.
    pub(super) fn worked_ms(&self) -> u64 {
        match self.ended_ms.saturating_sub(self.began_ms) {
            STALL_MS_MIN.. => 0,
            worked_ms => worked_ms,
        }
    }

    /// The time now that this wait is over.
    pub(super) fn begin_tick(&mut self, wait: Wait, driver_ms: u64) -> u64 {
        let worked_ms = self.ended_ms.saturating_sub(self.began_ms);
        let waited_ms = driver_ms.saturating_sub(self.ended_ms);
        let late_ms = match wait {
            Wait::No => waited_ms,
            Wait::Millis(ms) => waited_ms.saturating_sub(u64::from(ms)),
            // Without any deadline there is nothing to be late for.
            Wait::Forever => 0,
        };
        self.began_ms = driver_ms;
        if worked_ms + late_ms >= STALL_MS_MIN {
            // All of the wait: nobody knows when in it the stall began, and a peer whose
            // acknowledgements could not arrive is given the time again.
            self.stalled_ms += worked_ms + waited_ms;
        }
        driver_ms - self.stalled_ms
    }
}

/// How far the completions have been handed out.
pub(super) struct Judging {
    judged_ms: u64,
    /// When everything before the mark has been handed out, that is everything that had completed
    /// by then.
    next: Option<(Mark, u64)>,
}

impl Judging {
    pub(super) fn new(now_ms: u64) -> Self {
        Self { judged_ms: now_ms, next: None }
    }

    pub(super) fn judged_ms(&mut self, now_ms: u64, driver: &impl Driver) -> u64 {
        if driver.completions_waiting() == 0 {
            (self.judged_ms, self.next) = (now_ms, None);
            return now_ms;
        }
        if let Some((mark, then_ms)) = self.next {
            if !driver.has_handed_out(mark) {
                return self.judged_ms;
            }
            self.judged_ms = then_ms;
        }
        self.next = Some((driver.mark(), now_ms));
        self.judged_ms
    }
}
