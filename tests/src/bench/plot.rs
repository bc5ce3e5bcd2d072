//! The picture: throughput against latency.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::report::{Report, short};

const SIZE: (u32, u32) = (900, 540);
const FONT: &str = "sans-serif";
/// What is drawn: the quantile of normal bookings, its colour.
const LINES: [(&str, RGBColor); 3] =
    [("p50", RGBColor(31, 119, 180)), ("p90", RGBColor(255, 127, 14)), ("p99", RGBColor(214, 39, 40))];

/// Draws the medians of all paces.
pub(crate) fn draw(report: &Report, path: &Path) -> Result<()> {
    let points = |quantile: &str| -> Vec<(f64, f64)> {
        let point = |(_, runs): &(_, Vec<_>)| {
            let ended = Report::spread(runs, "throughput", "sagas ended")?;
            let took = Report::spread(runs, "start to end, normal bookings", quantile)?;
            Some((ended.median, took.median))
        };
        let mut points: Vec<_> = report.runs.iter().filter_map(point).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let all: Vec<(f64, f64)> = LINES.iter().flat_map(|(quantile, _)| points(quantile)).collect();
    let most = |value: fn(&(f64, f64)) -> f64| all.iter().map(value).fold(1.0, f64::max) * 1.1;
    let (right, top) = (most(|point| point.0), most(|point| point.1));
    let failed = |error: &dyn std::fmt::Display| anyhow!("{}: {error}", path.display());

    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Booking sagas: latency from start to end", (FONT, 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..right, 0.0..top)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .x_desc("sagas ended per second")
        .y_desc("milliseconds")
        .x_label_formatter(&|value| tick(*value))
        .y_label_formatter(&|value| tick(*value))
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 15))
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .draw()
        .map_err(|error| failed(&error))?;
    for (quantile, colour) in LINES {
        let line = LineSeries::new(points(quantile), colour.stroke_width(2));
        let drawn = chart.draw_series(line).map_err(|error| failed(&error))?;
        drawn
            .label(quantile)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        let dots = points(quantile).into_iter().map(|point| Circle::new(point, 4, colour.filled()));
        chart.draw_series(dots).map_err(|error| failed(&error))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 14))
        .draw()
        .map_err(|error| failed(&error))?;
    area.present().map_err(|error| failed(&error))
}

/// A number at an axis: whole numbers as such.
fn tick(value: f64) -> String {
    if value.fract() == 0.0 && value < 100.0 { format!("{value:.0}") } else { short(value) }
}
