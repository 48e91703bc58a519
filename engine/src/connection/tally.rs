//! Counts what a peer sends and must not send for ever: control frames, and input that is dropped.

use crate::config::Config;

/// What a peer has sent that it must not send for ever: control frames while anything is expected
/// of it, and dropped bytes afterwards. Never both, so 32 bits do.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally(u32);

impl Tally {
    /// Counts a control frame in a bucket that leaks once a second, so that a burst after a stall
    /// of the network is no flood; `false` if the bucket is full.
    pub(crate) fn admit_control(&mut self, now_ms: u64, config: &Config) -> bool {
        // Upper half: the second in which it last leaked, which wraps after 18 hours and then
        // leaks too little at worst. Lower half: the frames in it.
        let second = (now_ms / 1_000) as u16;
        let seconds = u32::from(second.wrapping_sub((self.0 >> 16) as u16));
        let leaked = seconds.saturating_mul(config.control_frames_per_second_max);
        let frames = (self.0 & 0xFFFF).saturating_sub(leaked) + 1;
        self.0 = u32::from(second) << 16 | frames.min(0xFFFF);
        frames <= config.control_frames_burst_max
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn dropped_bytes(self) -> usize {
        self.0 as usize
    }

    /// Counts dropped bytes; `false` if they are too many.
    pub(crate) fn admit_dropped(&mut self, bytes: usize, config: &Config) -> bool {
        self.0 = self.0.saturating_add(bytes as u32);
        self.0 as usize <= config.drain_bytes_max
    }
}
