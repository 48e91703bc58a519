//! How long things took: a histogram with three significant digits up to an hour.
//! It goes from process to process as pairs of value and count.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Durations in nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Latency(Histogram<u64>);

/// The finest the histogram can be; coarser would blur what takes microseconds.
const LOWEST_NS: u64 = 1;
/// An hour; what takes longer counts as that.
const HIGHEST_NS: u64 = 3_600_000_000_000;

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, 3);
        Self(histogram.expect("the bounds are right"))
    }
}

impl Latency {
    /// Counts `count` durations of `ns`.
    pub fn record(&mut self, ns: u64, count: u64) {
        self.0.saturating_record_n(ns, count);
    }

    /// Adds what another histogram has counted.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The duration, in microseconds, that `percentile` of 100 do not exceed; 0 if there are
    /// none.
    #[must_use]
    pub fn percentile_us(&self, percentile: f64) -> f64 {
        self.0.value_at_percentile(percentile) as f64 / 1e3
    }

    /// The longest, in microseconds; 0 if there are none.
    #[must_use]
    pub fn max_us(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }
}

impl From<Vec<(u64, u64)>> for Latency {
    fn from(pairs: Vec<(u64, u64)>) -> Self {
        let mut latency = Self::default();
        pairs.into_iter().for_each(|(ns, count)| latency.record(ns, count));
        latency
    }
}

impl From<Latency> for Vec<(u64, u64)> {
    fn from(latency: Latency) -> Self {
        let recorded = latency.0.iter_recorded();
        recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let mut latency = Latency::default();
        (1..=1_000).for_each(|us| latency.record(us * 1_000, 1));
        for (percentile, us) in [(50.0, 500.0), (99.0, 990.0), (99.9, 999.0)] {
            let measured = latency.percentile_us(percentile);
            assert!((measured / us - 1.0).abs() < 0.002, "{percentile}: {measured}");
        }
        assert!((latency.max_us() - 1_000.0).abs() < 1.0);
    }

    #[test]
    fn nothing_is_lost_between_processes() {
        let mut latency = Latency::default();
        latency.record(70, 3);
        latency.record(1_234_567, 5);
        latency.record(u64::MAX, 1);
        let json = serde_json::to_string(&latency).unwrap();
        let read: Latency = serde_json::from_str(&json).unwrap();
        assert_eq!(read.0, latency.0);
    }

    #[test]
    fn merging_adds() {
        let (mut one, mut other) = (Latency::default(), Latency::default());
        one.record(1_000, 1);
        other.record(9_000, 2);
        one.merge(&other);
        assert_eq!(one.count(), 3);
        assert!(one.percentile_us(50.0) > 8.9);
    }
}
