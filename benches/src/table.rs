//! A row's results as a table, the same on a terminal and in Markdown. Losses are shown like
//! wins: nothing is sorted or left out.

use comfy_table::{CellAlignment, Table, presets};

use crate::results::{PointResult, RowResult, ServerResult};
use crate::spread::Spread;

/// The table of a row, without a line break at its end.
#[must_use]
pub fn render(row: &RowResult) -> String {
    let has_labels = row.points.len() > 1;
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let mut header: Vec<String> = if has_labels { vec![String::new()] } else { vec![] };
    header.push("server".to_owned());
    header.extend(row.metrics.iter().cloned());
    header.push("Ringwire ÷ it".to_owned());
    table.set_header(header);
    for point in &row.points {
        for server in &point.servers {
            let label = has_labels.then(|| point.label.clone());
            table.add_row(label.into_iter().chain(cells(point, server)));
        }
    }
    let numbers = if has_labels { 2 } else { 1 };
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn cells(point: &PointResult, server: &ServerResult) -> Vec<String> {
    let mut cells = vec![name(server)];
    for figures in &server.figures {
        cells.push(Spread::of(figures.iter().copied()).map_or_else(String::new, spread));
    }
    let ratio = point.ratio_to(server);
    cells.push(ratio.map_or_else(String::new, |ratio| {
        // Small ones would otherwise all be 0.00.
        let digits = if ratio.median < 0.1 { 3 } else { 2 };
        let Spread { median, lowest, highest } = ratio;
        format!("**{median:.digits$}** ({lowest:.digits$}–{highest:.digits$})")
    }));
    cells
}

/// The name, and the version unless the name is in it already.
fn name(server: &ServerResult) -> String {
    let version = server.version.strip_prefix(&server.name[..]).unwrap_or(&server.version);
    format!("{} {}", server.name, version.trim()).trim().to_owned()
}

fn spread(spread: Spread) -> String {
    format!("{} ({}–{})", figure(spread.median), figure(spread.lowest), figure(spread.highest))
}

/// Three digits, as one reads them.
#[must_use]
pub fn figure(value: f64) -> String {
    match value.abs() {
        1e6.. => format!("{:.2} M", value / 1e6),
        1e5.. => format!("{:.0} k", value / 1e3),
        1e4.. => format!("{:.1} k", value / 1e3),
        1e3.. => format!("{:.2} k", value / 1e3),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::row;

    #[test]
    fn figures_have_three_digits() {
        for (value, text) in [
            (4_284_000.0, "4.28 M"),
            (237_123.0, "237 k"),
            (23_712.0, "23.7 k"),
            (2_371.0, "2.37 k"),
            (296.4, "296"),
            (25.04, "25.0"),
            (4.216, "4.22"),
        ] {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_server() {
        let text = render(&row());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[2].contains("90.0 k (60.0 k–120 k)"), "{text}");
        assert!(lines[3].contains("**1.20** (1.20–1.20)"), "{text}");
    }
}
