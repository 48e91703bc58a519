//! The Date of responses (RFC 9110 §6.6.1), formatted at most once per second and shard. The
//! system's clock is read only when a response is written.

use std::time::{Duration, SystemTime};

/// The first second that the format cannot say: the year has four digits (RFC 9110 §5.6.7).
const YEAR_10000_S: u64 = 253_402_300_800;

/// The last Date written.
pub(crate) struct Date {
    /// The system's clock, or the simulator's.
    clock: fn() -> SystemTime,
    /// Seconds since 1970.
    at_s: u64,
    text: String,
}

impl Date {
    pub(crate) fn new(clock: fn() -> SystemTime) -> Self {
        Self { clock, at_s: u64::MAX, text: String::new() }
    }

    /// The time now as an IMF-fixdate; `None` while the clock is before 1970 or beyond the year
    /// 9999: a server that does not know the time sends no Date (RFC 9110 §6.6.1).
    pub(crate) fn now(&mut self) -> Option<&str> {
        let since_1970 = (self.clock)().duration_since(SystemTime::UNIX_EPOCH).ok()?;
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
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static NOW: Cell<SystemTime> = const { Cell::new(SystemTime::UNIX_EPOCH) };
    }

    #[test]
    fn the_date_follows_the_clock_in_both_directions() {
        let mut date = Date::new(|| NOW.get());
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
        for (now, text) in table {
            NOW.set(now);
            assert_eq!(date.now(), text, "{now:?}");
        }
    }
}
