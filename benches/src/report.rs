//! What a load has done to a server, for people and for programs: a table, JSON, or a plot of
//! latency by percentile. Nothing is measured here.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::latency::Latency;
use crate::table::figure;
use crate::work::{Tally, Work};

/// The percentiles that are told.
const PERCENTILES: [(&str, f64); 4] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];

/// A load and what came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was done, in a line.
    pub title: String,
    /// What was done.
    pub work: Work,
    /// For how long.
    pub seconds: f64,
    /// Mean size of a payload.
    pub payload_bytes: f64,
    /// What came of it.
    pub tally: Tally,
    /// CPU time and resident memory of the server, if its process is known.
    pub server: Option<ServerUse>,
}

/// What the server has used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerUse {
    /// CPU time from the first message to the last.
    pub cpu_seconds: f64,
    /// Resident memory at the end.
    pub resident_bytes: u64,
}

impl Report {
    /// For people.
    #[must_use]
    pub fn to_table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_header([&self.title[..], ""]);
        for (name, value) in self.lines() {
            table.add_row([name, value]);
        }
        let value = table.column_mut(1).expect("a row has two cells");
        value.set_cell_alignment(CellAlignment::Right);
        table.to_string()
    }

    fn lines(&self) -> Vec<(String, String)> {
        let unit = self.unit();
        let mut lines = vec![
            (self.units().to_owned(), self.tally.within.to_string()),
            (format!("{}/s", self.units()), format!("{:.0}", self.rate())),
        ];
        if let Work::Broadcast { .. } = self.work {
            let publishes = self.tally.sent as f64 / self.seconds;
            lines.push(("publishes/s".to_owned(), format!("{publishes:.0}")));
        }
        if !matches!(self.work, Work::Churn { .. }) {
            let megabytes = self.rate() * self.payload_bytes / 1e6;
            lines.push(("payload MB/s".to_owned(), figure(megabytes)));
        }
        lines.extend(percentile_lines("latency", &self.tally.latency));
        if self.tally.lateness.count() > 0 {
            lines.extend(percentile_lines("sent late by", &self.tally.lateness));
        }
        if let Some(server) = self.server {
            lines.push((format!("server CPU µs/{unit}"), figure(self.cpu_us(server))));
            let busy = format!("{:.0} %", server.cpu_seconds / self.seconds * 100.0);
            lines.push(("server CPU".to_owned(), busy));
            let kib = server.resident_bytes >> 10;
            lines.push(("server resident".to_owned(), format!("{kib} KiB")));
        }
        lines
    }

    /// For programs. Latencies are in microseconds.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let server = self.server.map(|server| {
            json!({
                "cpu_seconds": server.cpu_seconds,
                "cpu_us_each": self.cpu_us(server),
                "resident_bytes": server.resident_bytes,
            })
        });
        json!({
            "title": self.title,
            "work": self.work,
            "unit": self.unit(),
            "seconds": self.seconds,
            "within": self.tally.within,
            "sent": self.tally.sent,
            "per_second": self.rate(),
            "latency_us": percentiles_json(&self.tally.latency),
            "lateness_us": percentiles_json(&self.tally.lateness),
            "server": server,
        })
    }

    /// What is counted.
    fn unit(&self) -> &'static str {
        match self.work {
            Work::Echo { .. } | Work::Rate { .. } => "message",
            Work::Broadcast { .. } => "delivery",
            Work::Churn { .. } => "connection",
        }
    }

    fn units(&self) -> &'static str {
        match self.work {
            Work::Echo { .. } | Work::Rate { .. } => "messages",
            Work::Broadcast { .. } => "deliveries",
            Work::Churn { .. } => "connections",
        }
    }

    fn rate(&self) -> f64 {
        self.tally.within as f64 / self.seconds
    }

    fn cpu_us(&self, server: ServerUse) -> f64 {
        server.cpu_seconds * 1e6 / self.tally.overall.max(1) as f64
    }
}

fn percentile_lines(name: &str, latency: &Latency) -> Vec<(String, String)> {
    let line = |label: &str, us| (format!("{name} {label} µs"), figure(us));
    let mut lines: Vec<_> = PERCENTILES
        .iter()
        .map(|(label, percentile)| line(label, latency.percentile_us(*percentile)))
        .collect();
    lines.push(line("max", latency.max_us()));
    lines
}

fn percentiles_json(latency: &Latency) -> Value {
    let mut all: serde_json::Map<String, Value> = PERCENTILES
        .iter()
        .map(|(label, percentile)| ((*label).to_owned(), latency.percentile_us(*percentile).into()))
        .collect();
    all.insert("max".to_owned(), latency.max_us().into());
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(work: Work) -> Report {
        let mut tally = Tally { sent: 10, ..Tally::default() };
        tally.count(1_000, true);
        tally.count(1_000, false);
        tally.latency.record(5_000, 2_000);
        let server = ServerUse { cpu_seconds: 0.01, resident_bytes: 4 << 20 };
        let title = "a title".to_owned();
        Report { title, work, seconds: 2.0, payload_bytes: 64.0, tally, server: Some(server) }
    }

    #[test]
    fn a_report_says_how_many_how_fast_and_at_what_cost() {
        let text = report(Work::Echo { in_flight: 1 }).to_table();
        for part in ["messages/s", " 500 ", "latency p99.9 µs", " 5.0", "4096 KiB"] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains("late by") && !text.contains("publishes"));
        assert!(report(Work::Broadcast { in_flight: 1 }).to_table().contains("publishes/s"));
        assert!(report(Work::Churn { at_once: 1 }).to_table().contains("connections/s"));
    }

    #[test]
    fn a_program_finds_the_same() {
        let json = report(Work::Echo { in_flight: 1 }).to_json();
        assert_eq!(json["per_second"], 500.0);
        assert_eq!(json["server"]["cpu_us_each"], 5.0);
        assert_eq!(json["latency_us"]["p50"], json["latency_us"]["max"]);
    }
}
