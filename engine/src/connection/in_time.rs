//! Whether what had come before a deadline has been looked at, so that nobody is ended for silence
//! while his bytes wait. Asked by `shard/deadlines.rs`, told of by `connection/slot.rs`.

/// What had come before a deadline and has not been looked at: completions that wait to be handed
/// out, and bytes that no receive has taken. Both are asked for once per deadline: what comes later
/// is too late.
#[derive(Clone, Copy)]
pub(crate) struct InTime(u32);

impl Default for InTime {
    fn default() -> Self {
        Self::NOT_ASKED
    }
}

impl InTime {
    const NOT_ASKED: Self = Self(u32::MAX);
    /// Everything that had completed at the first look has been handed out: what is read from here
    /// on had not been, and counts.
    const COUNTS: u32 = 1 << 31;
    /// At the last look every byte had been taken by a receive.
    const TAKEN: u32 = 1 << 30;
    /// The bytes that are still to be read.
    const BYTES: u32 = Self::TAKEN - 1;

    /// Input has been read.
    #[inline]
    pub(crate) fn read(&mut self, bytes: usize) {
        if self.is_asked() && self.0 & Self::COUNTS != 0 {
            let left = (self.0 & Self::BYTES).saturating_sub(bytes as u32);
            self.0 = self.0 & !Self::BYTES | left;
        }
    }

    pub(crate) fn is_asked(self) -> bool {
        self.0 != Self::NOT_ASKED.0
    }

    /// Whether some of it is still to be looked at. To be asked again only when everything that
    /// has completed by now has been handed out. `is_waiting` says whether any completion is not.
    pub(crate) fn is_left(&mut self, unread_bytes: u32, is_waiting: bool) -> bool {
        let taken = if unread_bytes == 0 { Self::TAKEN } else { 0 };
        if !self.is_asked() {
            let counts = if is_waiting { 0 } else { Self::COUNTS };
            // Not all of them, which would mean that it was not asked.
            self.0 = counts | taken | unread_bytes.min(Self::BYTES - 1);
            return unread_bytes > 0 || is_waiting;
        }
        let was_taken = self.0 & Self::TAKEN != 0;
        self.0 = self.0 & Self::BYTES | taken | Self::COUNTS;
        let is_read = self.0 & Self::BYTES == 0;
        // A receive has taken the last byte, and what it completed with has been handed out.
        let is_over = taken != 0 && (was_taken || !is_waiting);
        !is_read && !is_over
    }
}
