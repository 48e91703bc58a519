//! Ringwire's two drivers beside each other, in every row that has measured both: what io_uring is
//! worth. A driver is ahead only where it was better in every round; losses are shown like wins.

use comfy_table::{CellAlignment, Table, presets};

use crate::contender::{RINGWIRE, RINGWIRE_EPOLL};
use crate::results::{PointResult, Results, RowResult, ServerResult};
use crate::row::{Metric, ROWS, Row};
use crate::spread::Spread;
use crate::table::figure;

/// What stands where no row has measured both.
const NOTHING: &str = "No row has measured both drivers yet.";

/// A line for each row, point and figure that is compared, without a line break at its end.
#[must_use]
pub fn render(results: &Results) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["row", "figure", "io_uring", "epoll", "io_uring ÷ epoll", "ahead"]);
    for row in &ROWS {
        let Some(result) = results.rows.get(row.name) else { continue };
        for point in &result.points {
            table.add_rows(lines(row, result, point));
        }
    }
    if table.is_empty() {
        return NOTHING.to_owned();
    }
    for column in table.column_iter_mut().skip(2).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn lines(row: &Row, result: &RowResult, point: &PointResult) -> Vec<[String; 6]> {
    let called = |name: &str| point.servers.iter().find(|server| server.name == name);
    let (Some(ring), Some(epoll)) = (called(RINGWIRE), called(RINGWIRE_EPOLL)) else {
        return Vec::new();
    };
    let name = match &point.label[..] {
        "" => row.name.to_owned(),
        label => format!("{}, {label}", row.name),
    };
    let metrics = row.kind.metrics().iter().filter(|metric| is_compared(row, metric));
    metrics.filter_map(|metric| line(&name, result, metric, ring, epoll)).collect()
}

/// What servers are compared by, and what it costs.
fn is_compared(row: &Row, metric: &Metric) -> bool {
    *metric == row.kind.metrics()[0] || metric.name.starts_with("CPU")
}

fn line(
    name: &str,
    result: &RowResult,
    metric: &Metric,
    ring: &ServerResult,
    epoll: &ServerResult,
) -> Option<[String; 6]> {
    // By its name: a row of an earlier day may have measured others.
    let index = result.metrics.iter().position(|measured| measured == metric.name)?;
    let (ring, epoll) = (ring.figures.get(index)?, epoll.figures.get(index)?);
    let median = |figures: &[f64]| Some(figure(Spread::of(figures.iter().copied())?.median));
    let ratio = Spread::of_ratios(ring, epoll)?;
    let Spread { median: middle, lowest, highest } = ratio;
    Some([
        name.to_owned(),
        metric.name.to_owned(),
        median(ring)?,
        median(epoll)?,
        format!("**{middle:.2}** ({lowest:.2}–{highest:.2})"),
        ahead(*metric, ratio),
    ])
}

/// Which driver was better in every round, and by how much in the median.
fn ahead(metric: Metric, ratio: Spread) -> String {
    let (is_more, is_less) = (ratio.lowest > 1.0, ratio.highest < 1.0);
    let (better, factor) = match (is_more, is_less) {
        (false, false) => return "neither".to_owned(),
        _ if is_more == metric.more_is_better => ("io_uring", ratio.median),
        _ => ("epoll", 1.0 / ratio.median),
    };
    let than = if metric.more_is_better { "more" } else { "less" };
    format!("{better}, {:.1} % {than}", (factor - 1.0).abs() * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, figures: [[f64; 2]; 2]) -> ServerResult {
        let figures = figures.map(|rounds| rounds.to_vec()).to_vec();
        ServerResult { name: name.to_owned(), version: "1.0".to_owned(), figures }
    }

    fn results(row: &str, metrics: [&str; 2], servers: &[ServerResult]) -> Results {
        let point = PointResult { label: String::new(), servers: servers.to_vec() };
        let metrics = metrics.map(str::to_owned).to_vec();
        let row_result = RowResult { metrics, points: vec![point], ..crate::results::tests::row() };
        Results { rows: [(row.to_owned(), row_result)].into() }
    }

    const ECHO: [&str; 2] = ["messages/s", "CPU µs/message"];

    /// The cells of each line below the header.
    fn cells(results: &Results) -> Vec<Vec<String>> {
        let cells = |line: &str| {
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        render(results).lines().skip(2).map(cells).collect()
    }

    #[test]
    fn the_table_says_which_driver_is_ahead_and_by_how_much() {
        let ring = server("ringwire", [[110.0, 60.0], [4.0, 8.0]]);
        let epoll = server("ringwire-epoll", [[100.0, 50.0], [5.0, 10.0]]);
        let [rate, cpu] = &cells(&results("echo-64", ECHO, &[ring, epoll]))[..] else {
            panic!("a line for each figure")
        };
        assert_eq!(rate[..2], ["echo-64", "messages/s"]);
        assert_eq!(rate[4..], ["**1.15** (1.10–1.20)", "io_uring, 15.0 % more"]);
        assert_eq!(cpu[4..], ["**0.80** (0.80–0.80)", "io_uring, 20.0 % less"]);
    }

    #[test]
    fn a_loss_of_io_uring_is_called_one() {
        let ring = server("ringwire", [[50.0, 80.0], [5.0, 10.0]]);
        let epoll = server("ringwire-epoll", [[100.0, 100.0], [4.0, 8.0]]);
        let lines = cells(&results("echo-64", ECHO, &[ring, epoll]));
        assert_eq!(lines[0][5], "epoll, 53.8 % more");
        assert_eq!(lines[1][5], "epoll, 20.0 % less");
    }

    #[test]
    fn rounds_that_disagree_or_are_equal_have_no_winner() {
        let ring = server("ringwire", [[110.0, 90.0], [5.0, 5.0]]);
        let epoll = server("ringwire-epoll", [[100.0, 100.0], [5.0, 5.0]]);
        let lines = cells(&results("echo-64", ECHO, &[ring, epoll]));
        assert_eq!([&lines[0][5], &lines[1][5]], ["neither", "neither"]);
    }

    /// Where less is better in the first column, less is ahead.
    #[test]
    fn memory_is_compared_by_its_bytes_alone() {
        let metrics = ["bytes/connection", "of them private and dirty"];
        let ring = server("ringwire", [[160.0, 160.0], [1.0, 1.0]]);
        let epoll = server("ringwire-epoll", [[200.0, 200.0], [1.0, 1.0]]);
        let lines = cells(&results("memory", metrics, &[ring, epoll]));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0][5], "io_uring, 20.0 % less");
    }

    #[test]
    fn rows_without_both_drivers_are_left_out() {
        assert_eq!(render(&Results::default()), NOTHING);
        let ring = server("ringwire", [[1.0, 1.0], [1.0, 1.0]]);
        assert_eq!(render(&results("echo-64", ECHO, &[ring])), NOTHING);
    }
}
