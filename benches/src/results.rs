//! What a comparison has measured, round by round, as it is kept in `results.json`. Tables and
//! plots are made from it; nothing is measured here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::spread::Spread;

/// Everything measured so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// By the name of the row.
    pub rows: BTreeMap<String, RowResult>,
}

/// One row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RowResult {
    /// What it measures, in a line.
    pub title: String,
    /// The command that measures it again.
    pub command: String,
    /// On what, and when.
    pub machine: Machine,
    /// Seconds of one measurement; 0 where time does not matter.
    pub seconds: f64,
    /// What was measured; servers are compared by the first.
    pub metrics: Vec<String>,
    /// Mostly one; more if the row varies something.
    pub points: Vec<PointResult>,
    /// Who was left out and why, and what else a reader should know.
    pub notes: Vec<String>,
}

/// The servers that were measured in turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PointResult {
    /// What sets it apart from other points of its row; empty if it is alone.
    pub label: String,
    /// Ringwire first.
    pub servers: Vec<ServerResult>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerResult {
    /// What it is called.
    pub name: String,
    /// Its version, as it says.
    pub version: String,
    /// For each metric the figures of all rounds.
    pub figures: Vec<Vec<f64>>,
}

impl PointResult {
    /// Ringwire's main metric divided by a server's, pair by pair; `None` for Ringwire itself.
    #[must_use]
    pub fn ratio_to(&self, server: &ServerResult) -> Option<Spread> {
        let ringwire = self.servers.first().filter(|first| *first != server)?;
        Spread::of_ratios(ringwire.figures.first()?, server.figures.first()?)
    }
}

impl RowResult {
    /// How often everybody was measured.
    #[must_use]
    pub fn rounds(&self) -> usize {
        let servers = self.points.first().and_then(|point| point.servers.first());
        servers.and_then(|server| server.figures.first()).map_or(0, Vec::len)
    }

    /// The median of Ringwire's main metric, at the first point.
    #[must_use]
    pub fn main_median(&self) -> Option<f64> {
        let figures = self.points.first()?.servers.first()?.figures.first()?;
        Spread::of(figures.iter().copied()).map(|spread| spread.median)
    }

    /// Ringwire's ratio to the server called `name`, at the first point that has it.
    #[must_use]
    pub fn ratio_to(&self, name: &str) -> Option<Spread> {
        self.points.iter().find_map(|point| {
            let server = point.servers.iter().find(|server| server.name == name)?;
            point.ratio_to(server)
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn row() -> RowResult {
        let server = |name: &str, figures: [f64; 2]| ServerResult {
            name: name.to_owned(),
            version: "1.0".to_owned(),
            figures: vec![figures.to_vec(), vec![2.0, 4.0]],
        };
        RowResult {
            title: "a title".to_owned(),
            command: "ringwire-compare --row echo-64".to_owned(),
            machine: Machine::default(),
            seconds: 1.0,
            metrics: vec!["messages/s".to_owned(), "CPU µs/message".to_owned()],
            points: vec![PointResult {
                label: String::new(),
                servers: vec![
                    server("ringwire", [120_000.0, 60_000.0]),
                    server("ws", [100_000.0, 50_000.0]),
                ],
            }],
            notes: vec!["bun was left out".to_owned()],
        }
    }

    #[test]
    fn ratios_are_ringwires_to_the_others() {
        let row = row();
        assert_eq!(row.ratio_to("ws").unwrap().median, 1.2);
        assert_eq!(row.ratio_to("ringwire"), None);
        assert_eq!(row.ratio_to("nobody"), None);
    }
}
