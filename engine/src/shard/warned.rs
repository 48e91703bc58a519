//! When a warning was logged last, so that a peer cannot fill a disk with it. Never logs.

use crate::config::WARNING_INTERVAL_MS;

/// When a warning of one kind was logged last: clients can bring its cause about at will, so it
/// is logged once a minute at most.
#[derive(Default)]
pub(crate) struct Warned {
    at_ms: Option<u64>,
}

impl Warned {
    pub(crate) fn is_due(&mut self, now_ms: u64) -> bool {
        let is_due = self.at_ms.is_none_or(|at_ms| now_ms - at_ms >= WARNING_INTERVAL_MS);
        if is_due {
            self.at_ms = Some(now_ms);
        }
        is_due
    }
}
