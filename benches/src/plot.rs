//! Plots, as SVG: a row of the comparison as bars, and a load's latency by percentile. They
//! show what the tables say, losses like wins.

use plotters::prelude::*;

use crate::latency::Latency;
use crate::results::RowResult;
use crate::spread::Spread;
use crate::table::figure;

const WIDTH: u32 = 800;
const BAR_HEIGHT: u32 = 26;
const FONT: (&str, u32) = ("sans-serif", 13);

/// Ringwire's bars, and everybody else's: dark enough for white paper, light enough for black.
const OURS: RGBColor = RGBColor(0x2F, 0x81, 0xF7);
const THEIRS: RGBColor = RGBColor(0x8B, 0x94, 0x9E);
const PAPER: RGBColor = WHITE;

/// The main metric of a row: the median as a bar, and a line from the lowest to the highest.
///
/// # Errors
///
/// There is nothing to plot, or plotters says so.
pub fn bars(row: &RowResult) -> Result<String, String> {
    let bars: Vec<(String, Spread)> = row
        .points
        .iter()
        .flat_map(|point| point.servers.iter().map(move |server| (point, server)))
        .filter_map(|(point, server)| {
            let spread = Spread::of(server.figures.first()?.iter().copied())?;
            Some((format!("{} {}", point.label, server.name).trim().to_owned(), spread))
        })
        .collect();
    let highest = Spread::of(bars.iter().map(|(_, spread)| spread.highest));
    let highest = highest.ok_or("a row without figures")?.highest;
    let mut svg = String::new();
    draw_bars(row, &bars, highest, &mut svg).map_err(|error| format!("plotting: {error}"))?;
    Ok(svg)
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw_bars(row: &RowResult, bars: &[(String, Spread)], highest: f64, svg: &mut String) -> Drawn {
    let height = 90 + BAR_HEIGHT * bars.len() as u32;
    let area = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    area.fill(&PAPER)?;
    let lines = bars.len() as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{}: {}", row.title, row.metrics[0]), ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(210)
        // The first bar is on top.
        .build_cartesian_2d(0.0..highest * 1.12, lines..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(6)
        .max_light_lines(0)
        .x_label_formatter(&|value| figure(*value))
        .label_style(FONT)
        .draw()?;
    for (index, (name, spread)) in bars.iter().enumerate() {
        let top = index as f64;
        let colour = if name.contains("ringwire") { OURS } else { THEIRS };
        let bar = [(0.0, top + 0.18), (spread.median, top + 0.82)];
        chart.draw_series([Rectangle::new(bar, colour.filled())])?;
        let line = [(spread.lowest, top + 0.5), (spread.highest, top + 0.5)];
        chart.draw_series([PathElement::new(line, BLACK.stroke_width(2))])?;
        let value = (spread.highest + highest * 0.01, top + 0.3);
        chart.draw_series([Text::new(figure(spread.median), value, FONT)])?;
        let (_, y) = chart.backend_coord(&(0.0, top + 0.3));
        area.draw(&Text::new(name.clone(), (14, y), FONT))?;
    }
    area.present()?;
    Ok(())
}

/// Latency by percentile, on an axis that has as much room from 99 to 99.9 as from 90 to 99.
///
/// # Errors
///
/// There is nothing to plot, or plotters says so.
pub fn percentiles(title: &str, latency: &Latency) -> Result<String, String> {
    if latency.count() == 0 {
        return Err("no latency was measured".to_owned());
    }
    let mut svg = String::new();
    draw_percentiles(title, latency, &mut svg).map_err(|error| format!("plotting: {error}"))?;
    Ok(svg)
}

fn draw_percentiles(title: &str, latency: &Latency, svg: &mut String) -> Drawn {
    const HEIGHT: u32 = 420;
    const POINTS: u32 = 400;
    // Nines: 1 is 90 %, 2 is 99 %. Beyond one in as many as were counted nothing is known.
    let nines_max = (latency.count() as f64).log10().max(1.0);
    let percentile = |nines: f64| 100.0 - 100.0 / 10f64.powf(nines);
    let area = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
    area.fill(&PAPER)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..nines_max, 0.0..latency.max_us() * 1.05)?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_desc("percentile")
        .y_desc("µs")
        .x_labels(nines_max as usize + 1)
        .x_label_formatter(&|nines| format!("{}", percentile(*nines)))
        .y_label_formatter(&|us| figure(*us))
        .label_style(FONT)
        .draw()?;
    let points = (0..=POINTS).map(|point| {
        let nines = nines_max * f64::from(point) / f64::from(POINTS);
        (nines, latency.percentile_us(percentile(nines)))
    });
    chart.draw_series(LineSeries::new(points, OURS.stroke_width(2)))?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::row;

    #[test]
    fn a_row_has_a_bar_for_each_server() {
        let svg = bars(&row()).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for part in ["ringwire", "ws", "90.0 k", "75.0 k"] {
            assert!(svg.contains(part), "{part}");
        }
        let nothing = RowResult { points: Vec::new(), ..row() };
        bars(&nothing).unwrap_err();
    }

    #[test]
    fn latency_is_a_line_over_percentiles() {
        let mut latency = Latency::default();
        percentiles("nothing", &latency).unwrap_err();
        (1..=1_000).for_each(|us| latency.record(us * 1_000, 1));
        let svg = percentiles("a title", &latency).unwrap();
        for part in ["a title", "99", "polyline"] {
            assert!(svg.contains(part), "{part}");
        }
    }
}
