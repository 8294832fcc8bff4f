//! Lines as SVG: the curve of `train` and the traces of `diagnose`.

use harmonium::{Result, storage::write_atomically};
use plotters::{coord::Shift, element::DashedPathElement, prelude::*};
use std::{io, path::Path};

pub const BLUE: RGBColor = RGBColor(25, 101, 176);
pub const ORANGE: RGBColor = RGBColor(220, 127, 22);
pub const GREEN: RGBColor = RGBColor(78, 135, 60);
pub const RED: RGBColor = RGBColor(190, 50, 60);
const GREY: RGBColor = RGBColor(221, 221, 221);
const SIZE: (u32, u32) = (800, 480);
const FONT: (&str, u32) = ("sans-serif", 16);
/// More points than pixels only make the file large.
const MOST_POINTS: usize = 800;
/// Numbers below it are drawn: their differences are finite.
const GREATEST: f64 = 1e150;

/// The values at 0, 1 and so on; what is no finite number is left out.
pub struct Line<'a> {
    pub values: &'a [f64],
    pub colour: RGBColor,
    pub look: Look<'a>,
}

/// How a line looks, and its name in the legend.
pub enum Look<'a> {
    Marked(&'a str),
    Dashed(&'a str),
    Faint,
}

/// Writes a plot of lines with the names of both axes.
pub fn write(path: &Path, x_name: &str, y_name: &str, lines: &[Line]) -> Result<()> {
    let mut svg = String::new();
    let drawn = draw(SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), x_name, y_name, lines);
    write_atomically(path, |file| drawn.map_err(io::Error::other).and_then(|()| file.write_all(svg.as_bytes())))
}

fn draw<DB: DrawingBackend>(
    area: DrawingArea<DB, Shift>, x_name: &str, y_name: &str, lines: &[Line],
) -> std::result::Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let is_drawn = |y: &f64| y.abs() < GREATEST;
    let values = lines.iter().flat_map(|line| line.values).copied().filter(is_drawn);
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)));
    let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
    // A single value, too, needs an axis around it.
    let margin = (0.05 * (high - low)).max(5e-4 * low.abs().max(high.abs())).max(1e-6);
    let (low, high) = (low - margin, high + margin);
    let decimals = (1.0 - (high - low).log10().floor()).max(0.0) as usize;
    let y_label = |y: &f64| if y.abs() < 1e7 { format!("{y:.decimals$}") } else { format!("{y:.4e}") };
    let longest = lines.iter().map(|line| line.values.len()).max().unwrap_or(0);

    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(15)
        .x_label_area_size(50)
        .y_label_area_size(90)
        .build_cartesian_2d(0..longest.saturating_sub(1).max(1), low..high)?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh().bold_line_style(GREY).light_line_style(TRANSPARENT).label_style(FONT).x_labels(15);
    mesh.x_desc(x_name).y_desc(y_name).y_label_formatter(&y_label).draw()?;
    for Line { values, colour, look } in lines {
        let stride = values.len().div_ceil(MOST_POINTS).max(1);
        let points = values.iter().copied().enumerate().step_by(stride).filter(|(_, y)| is_drawn(y));
        let style = colour.filled().stroke_width(2);
        let key = |(x, y)| [(x, y), (x + 30, y)];
        match look {
            Look::Marked(name) => chart
                .draw_series(LineSeries::new(points, style).point_size(3))?
                .label(*name)
                .legend(move |at| PathElement::new(key(at), style)),
            Look::Dashed(name) => chart
                .draw_series(DashedLineSeries::new(points, 6, 4, style))?
                .label(*name)
                .legend(move |at| DashedPathElement::new(key(at), 6, 4, style)),
            Look::Faint => chart.draw_series(LineSeries::new(points, colour.mix(0.5)))?,
        };
    }
    let mut legend = chart.configure_series_labels();
    legend.position(SeriesLabelPosition::LowerRight).margin(15).legend_area_size(40).label_font(FONT).draw()?;
    area.present()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_values_are() {
        let (nan, infinite, huge) = (f64::NAN, f64::INFINITY, f64::MAX);
        #[rustfmt::skip]
        let cases: [(&[f64], usize); 9] = [
            (&[], 0), (&[-3.0], 1), (&[nan], 0), (&[2.0, 2.0], 2), (&[-1.0, nan, -0.5, infinite, -infinite], 2),
            (&[0.0, 5e-324], 2), (&[-1e149, 1e149], 2), (&[huge, -huge], 0), (&[1e12, 1e12 + 1.0], 2),
        ];
        for (values, n) in cases {
            for look in [Look::Marked("this run"), Look::Dashed("the tutorial"), Look::Faint] {
                let expected = if matches!(look, Look::Marked(_)) { n } else { 0 };
                let mut svg = String::new();
                let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
                draw(area, "x", "y", &[Line { values, colour: BLUE, look }]).expect("a text takes everything");
                assert_eq!(svg.matches("<circle").count(), expected, "{values:?}");
                assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{values:?}");
            }
        }
    }
}
