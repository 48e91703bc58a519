//! The rows of the comparison: what each does to a server and what is measured of it. Nothing
//! is run here.

use crate::contender::Mode;
use crate::mix::Mix;
use crate::work::{Tally, Work};

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is called on the command line, in the results and in the document.
    pub name: &'static str,
    /// What it measures, in a line.
    pub title: &'static str,
    /// What is done.
    pub kind: Kind,
}

/// What is done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Echoes, closed loop.
    Echo {
        /// Payload of a message.
        payload_bytes: usize,
        /// Connections.
        connections: usize,
        /// Messages in flight on each.
        in_flight: usize,
    },
    /// Echoes, open loop, at half of the best peer's peak.
    Rate,
    /// Connections that come and go.
    Churn,
    /// One publishes, all receive.
    Broadcast {
        /// Publishes in flight.
        in_flight: usize,
    },
    /// Connections that have echoed once and are quiet.
    Memory,
    /// Echoes over fewer and more connections.
    Connections,
    /// One shard against two, on each driver.
    Shards,
}

/// Every row.
pub const ROWS: [Row; 14] = [
    echo("echo-64", "64 B × 100 connections, 1 in flight", 64, 100, 1),
    echo("echo-512", "512 B × 1,000 connections, 1 in flight", 512, 1_000, 1),
    echo("echo-64-16", "64 B × 100 connections, 16 in flight", 64, 100, 16),
    echo("echo-16k", "16 KiB × 10 connections, 1 in flight", 16 << 10, 10, 1),
    echo("echo-64k", "64 KiB × 10 connections, 1 in flight", 64 << 10, 10, 1),
    echo("echo-256k", "256 KiB × 10 connections, 1 in flight", 256 << 10, 10, 1),
    echo("echo-1m", "1 MiB × 10 connections, 1 in flight", 1 << 20, 10, 1),
    row("rate", "64 B × 1,000 connections at a fixed rate", Kind::Rate),
    row("churn", "connect, upgrade, one echo, reset; 100 at a time", Kind::Churn),
    row("broadcast", "64 B to 1,000 connections, 1 in flight", Kind::Broadcast { in_flight: 1 }),
    row(
        "broadcast-16",
        "64 B to 1,000 connections, 16 in flight",
        Kind::Broadcast { in_flight: 16 },
    ),
    row("memory", "15,000 connections after one echo each", Kind::Memory),
    row("connections", "64 B, 1 in flight, over 10 to 50,000 connections", Kind::Connections),
    row("shards", "64 B × 100 connections, 1 in flight, nobody pinned", Kind::Shards),
];

/// The numbers of connections of the row `connections`.
pub const CONNECTION_COUNTS: [usize; 5] = [10, 100, 1_000, 10_000, 50_000];

const fn row(name: &'static str, title: &'static str, kind: Kind) -> Row {
    Row { name, title, kind }
}

const fn echo(
    name: &'static str,
    title: &'static str,
    payload_bytes: usize,
    connections: usize,
    in_flight: usize,
) -> Row {
    row(name, title, Kind::Echo { payload_bytes, connections, in_flight })
}

/// Something measured of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// What, with its unit.
    pub name: &'static str,
    /// Whether more of it is better.
    pub more_is_better: bool,
}

const fn more(name: &'static str) -> Metric {
    Metric { name, more_is_better: true }
}

const fn less(name: &'static str) -> Metric {
    Metric { name, more_is_better: false }
}

impl Row {
    /// The row called `name`.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn find(name: &str) -> Result<&'static Self, String> {
        ROWS.iter().find(|row| row.name == name).ok_or_else(|| {
            let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            format!("no row is called {name:?}; there are {}", names.join(", "))
        })
    }
}

impl Kind {
    /// What the server must do with a message.
    #[must_use]
    pub fn mode(self) -> Mode {
        match self {
            Self::Broadcast { .. } => Mode::Broadcast,
            _ => Mode::Echo,
        }
    }

    /// What is measured. The first is what servers are compared by.
    #[must_use]
    pub fn metrics(self) -> &'static [Metric] {
        const ECHO: [Metric; 4] =
            [more("messages/s"), less("CPU µs/message"), less("p50 µs"), less("p99 µs")];
        match self {
            Self::Echo { .. } | Self::Connections | Self::Shards => &ECHO,
            Self::Rate => {
                const {
                    &[
                        less("p99 µs"),
                        less("p50 µs"),
                        less("p99.9 µs"),
                        less("CPU µs/message"),
                        less("sent late, p99 µs"),
                    ]
                }
            }
            Self::Churn => {
                &const { [less("CPU µs/connection"), more("connections/s"), less("p99 µs")] }
            }
            Self::Broadcast { .. } => {
                &const {
                    [more("deliveries/s"), less("CPU µs/delivery"), less("p50 µs"), less("p99 µs")]
                }
            }
            Self::Memory => {
                const {
                    &[
                        less("bytes/connection"),
                        less("of them private and dirty"),
                        less("of the kernel, both ends"),
                    ]
                }
            }
        }
    }

    /// The messages.
    #[must_use]
    pub fn mix(self) -> Mix {
        match self {
            Self::Echo { payload_bytes, .. } => Mix::uniform(payload_bytes),
            _ => Mix::uniform(64),
        }
    }

    /// How many connections are opened beforehand.
    #[must_use]
    pub fn connections(self) -> usize {
        match self {
            Self::Echo { connections, .. } => connections,
            Self::Rate | Self::Broadcast { .. } => 1_000,
            Self::Churn => 0,
            Self::Memory => 15_000,
            Self::Connections | Self::Shards => 100,
        }
    }

    /// What the workers do; a rate is found out first.
    #[must_use]
    pub fn work(self) -> Work {
        match self {
            Self::Echo { in_flight, .. } => Work::Echo { in_flight },
            Self::Broadcast { in_flight } => Work::Broadcast { in_flight },
            Self::Churn => Work::Churn { at_once: 100 },
            Self::Rate | Self::Memory | Self::Connections | Self::Shards => {
                Work::Echo { in_flight: 1 }
            }
        }
    }

    /// The figures of one round, in the order of [`metrics`](Self::metrics).
    ///
    /// # Panics
    ///
    /// For `Memory`, which is not a work for a time.
    #[must_use]
    pub fn figures(self, tally: &Tally, cpu_seconds: f64, seconds: f64) -> Vec<f64> {
        let rate = tally.within as f64 / seconds;
        let cpu_us = cpu_seconds * 1e6 / tally.overall as f64;
        let percentile = |percentile| tally.latency.percentile_us(percentile);
        match self {
            Self::Echo { .. } | Self::Broadcast { .. } | Self::Connections | Self::Shards => {
                vec![rate, cpu_us, percentile(50.0), percentile(99.0)]
            }
            Self::Rate => {
                let late_us = tally.lateness.percentile_us(99.0);
                vec![percentile(99.0), percentile(50.0), percentile(99.9), cpu_us, late_us]
            }
            Self::Churn => vec![cpu_us, rate, percentile(99.0)],
            Self::Memory => panic!("memory is not measured over time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_a_figure_for_each_metric() {
        let mut tally = Tally::default();
        tally.count(1_000, true);
        tally.count(1_000, false);
        tally.latency.record(5_000, 2_000);
        tally.lateness.record(5_000, 2_000);
        for row in ROWS.iter().filter(|row| row.kind != Kind::Memory) {
            let figures = row.kind.figures(&tally, 0.01, 2.0);
            assert_eq!(figures.len(), row.kind.metrics().len(), "{}", row.name);
            for (figure, metric) in figures.iter().zip(row.kind.metrics()) {
                // 1,000 within 2 s; 10 ms for 2,000; 5 µs each.
                let right = if metric.more_is_better { 500.0 } else { 5.0 };
                assert!((figure / right - 1.0).abs() < 0.01, "{}: {}", row.name, metric.name);
            }
        }
    }

    #[test]
    fn rows_are_found_by_name() {
        assert_eq!(Row::find("echo-16k").unwrap().kind.mix(), Mix::uniform(16_384));
        assert!(Row::find("echo").unwrap_err().contains("echo-512"));
    }
}
