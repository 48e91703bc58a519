//! A cheap monotonic clock for deadlines. It is too coarse for measurements.

use std::mem;

/// Milliseconds of `CLOCK_MONOTONIC_COARSE`: read from the vDSO on every clock source, so
/// never a system call; granularity is the kernel's timer tick (1 to 10 ms), finer than
/// any deadline here.
pub(crate) fn now_ms() -> u64 {
    // SAFETY: `timespec` is two integers, for which zero is a value.
    let mut time: libc::timespec = unsafe { mem::zeroed() };
    // SAFETY: the pointer names `time`, which lives across the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    assert_eq!(result, 0, "CLOCK_MONOTONIC_COARSE exists since Linux 2.6.32");
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_forward_only() {
        let earlier = now_ms();
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert!(now_ms() > earlier);
    }
}
