//! The Date of responses (RFC 9110 §6.6.1), formatted at most once per second and shard. The
//! system's clock is read a few times per second at most.

use std::time::{Duration, SystemTime};

/// The first second that the format cannot say: the year has four digits (RFC 9110 §5.6.7).
const YEAR_10000_S: u64 = 253_402_300_800;

/// How old the time may be. A quarter of a second: nobody sees it in whole seconds, and a busy shard
/// does not ask the system for the time in each tick.
const AGE_MS_MAX: u64 = 250;

/// The time of day, and the last Date written.
pub(crate) struct Date {
    time: SystemTime,
    /// When it was looked at, by the shard's clock.
    looked_ms: u64,
    /// Seconds since 1970.
    at_s: u64,
    text: String,
}

impl Date {
    pub(crate) fn new(time: SystemTime, now_ms: u64) -> Self {
        Self { time, looked_ms: now_ms, at_s: u64::MAX, text: String::new() }
    }

    /// Looks at the system's clock, if the time is too old.
    #[inline]
    pub(crate) fn look(&mut self, now_ms: u64, clock: impl FnOnce() -> SystemTime) {
        if now_ms - self.looked_ms >= AGE_MS_MAX {
            self.looked_ms = now_ms;
            self.time = clock();
        }
    }

    /// The time now as an IMF-fixdate; `None` while the clock is before 1970 or beyond the year
    /// 9999: a server that does not know the time sends no Date (RFC 9110 §6.6.1).
    pub(crate) fn now(&mut self) -> Option<&str> {
        let since_1970 = self.time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let at_s = since_1970.as_secs();
        if at_s >= YEAR_10000_S {
            return None;
        }
        if at_s != self.at_s {
            self.text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(at_s));
            self.at_s = at_s;
        }
        Some(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_follows_the_clock_in_both_directions() {
        let mut date = Date::new(SystemTime::UNIX_EPOCH, 0);
        let ms = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let table = [
            (ms(0), Some("Thu, 01 Jan 1970 00:00:00 GMT")),
            (ms(784_111_777_000), Some("Sun, 06 Nov 1994 08:49:37 GMT")),
            (ms(784_111_777_999), Some("Sun, 06 Nov 1994 08:49:37 GMT")),
            (ms(784_111_778_000), Some("Sun, 06 Nov 1994 08:49:38 GMT")),
            (ms(951_782_400_000), Some("Tue, 29 Feb 2000 00:00:00 GMT")),
            (ms(784_111_777_000), Some("Sun, 06 Nov 1994 08:49:37 GMT")),
            (ms(YEAR_10000_S * 1_000 - 1), Some("Fri, 31 Dec 9999 23:59:59 GMT")),
            (ms(YEAR_10000_S * 1_000), None),
            (SystemTime::UNIX_EPOCH - Duration::from_secs(1), None),
        ];
        for ((time, text), now_ms) in
            table.into_iter().zip((AGE_MS_MAX..).step_by(AGE_MS_MAX as usize))
        {
            date.look(now_ms - 1, || unreachable!("the time is not too old"));
            date.look(now_ms, || time);
            assert_eq!(date.now(), text, "{time:?}");
        }
    }
}
