//! What a peer has acknowledged of what it is sent: whether it makes progress.

use super::outbox::CONTROL_FRAME_BYTES_MAX;
use super::slot::{Session, Stage};
use crate::shard::core::Core;

impl<S> Session<S> {
    /// What the kernel says of the connection when a deadline is about to end it: whether the peer
    /// has acknowledged enough since progress was last seen, at `write_rate_bytes_min`. Frames of
    /// ours that need no answer do not count: a machine acknowledges whether its application reads
    /// or not.
    pub(crate) fn note_progress(&mut self, core: &Core, unacknowledged_bytes: u32) -> bool {
        let acknowledged = self.owed_bytes.saturating_sub(unacknowledged_bytes);
        let rate = u64::from(core.config.write_rate_bytes_min);
        let elapsed_ms = u64::from(core.elapsed_ms(self.progress_ms));
        let least = (rate * elapsed_ms / 1_000).max(CONTROL_FRAME_BYTES_MAX as u64);
        // The peer may have all that the kernel was given, and wait for us.
        let is_waiting = self.sending && unacknowledged_bytes == 0;
        let has_progressed = is_waiting || u64::from(acknowledged) > least;
        if has_progressed {
            self.count_progress_from_now(core, unacknowledged_bytes);
        }
        has_progressed
    }

    /// What is acknowledged from here on is progress.
    pub(crate) fn count_progress_from_now(&mut self, core: &Core, unacknowledged_bytes: u32) {
        self.owed_bytes = unacknowledged_bytes;
        self.progress_ms = core.now_ms as u32;
    }

    /// A peer that has progressed is neither silent nor stalled. All deadlines begin anew, because
    /// the same bytes are not counted again for the next that is due.
    pub(crate) fn renew_deadlines(&mut self, core: &Core) {
        let now_ms = core.now_ms as u32;
        (self.heard_ms, self.pinged_ms, self.progress_ms) = (now_ms, now_ms, now_ms);
        // Else it is the time of a message, or of a request, that is late all the same.
        if matches!(self.stage, Stage::Closing | Stage::Draining) {
            self.since_ms = now_ms;
        }
    }
}
