//! SVG plots: the curve of `train`, the traces of `diagnose`, and the figures of `report`.

use harmonium::{Error, Result, storage::write_atomically};
use plotters::{coord::Shift, element::DashedPathElement, prelude::*};
use std::{io, ops::Range, path::Path};

pub const BLUE: RGBColor = RGBColor(25, 101, 176);
pub const ORANGE: RGBColor = RGBColor(220, 127, 22);
pub const GREEN: RGBColor = RGBColor(78, 135, 60);
pub const RED: RGBColor = RGBColor(190, 50, 60);
const GREY: RGBColor = RGBColor(221, 221, 221);
/// The size of a plot in its own file, and of one on a page, as wide as a telephone.
const SIZE: (u32, u32) = (800, 480);
const SMALL: (u32, u32) = (420, 260);
const FONT: (&str, u32) = ("sans-serif", 16);
/// The greatest number of points of a line, about one a pixel.
const MOST_POINTS: usize = 800;
/// The limits of drawn values: differences stay finite, and whole numbers exact in `f64`.
const GREATEST: f64 = 1e150;
const LAST: u64 = 1 << 53;

/// Points with whole x.
pub type Points = Vec<(u64, f64)>;

/// Points with x = 0, 1, 2 and so on.
pub fn in_order(values: &[f64]) -> Points {
    (0..).zip(values.iter().copied()).collect()
}

/// A line; values that are not finite are skipped.
pub struct Line<'a> {
    pub points: Points,
    pub colour: RGBColor,
    pub look: Look<'a>,
}

/// The style of a line, with its name in the legend. A band fills the area between the line and other points with the same x.
pub enum Look<'a> {
    Marked(&'a str),
    Dashed(&'a str),
    Faint,
    BandTo(Points),
}

/// Writes a plot with the names of both axes.
pub fn write(path: &Path, x_name: &str, y_name: &str, lines: &[Line]) -> Result<()> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let drawn = area.fill(&WHITE).and_then(|()| draw(area, x_name, Some(y_name), lines));
    write_atomically(path, |file| drawn.map_err(io::Error::other).and_then(|()| file.write_all(svg.as_bytes())))
}

/// A small plot without background, legend and name of the vertical axis, for a page that has them.
pub fn inline(x_name: &str, lines: &[Line]) -> Result<String> {
    let mut svg = String::new();
    let drawn = draw(SVGBackend::with_string(&mut svg, SMALL).into_drawing_area(), x_name, None, lines);
    drawn.map_err(failed)?;
    Ok(svg)
}

/// A small histogram with equal bins. Numbers outside of the range are ignored.
pub fn histogram(numbers: &[f64], range: Range<f64>, parts: usize, colour: RGBColor) -> Result<String> {
    // Equal numbers need an axis of some width too.
    let least = (1e-3 * range.start.abs().max(range.end.abs())).max(1e-6);
    let margin = if range.end - range.start < least { least } else { 0.0 };
    let range = range.start - margin..range.end + margin;
    let width = (range.end - range.start) / parts as f64;
    let mut counts = vec![0u64; parts];
    for x in numbers.iter().filter(|&&x| (range.start..=range.end).contains(&x)) {
        counts[(((x - range.start) / width) as usize).min(parts - 1)] += 1;
    }
    let mut svg = String::new();
    bars(SVGBackend::with_string(&mut svg, SMALL).into_drawing_area(), &counts, range, colour).map_err(failed)?;
    Ok(svg)
}

/// The error of a plot in memory, which should not happen.
fn failed(problem: impl ToString) -> Error {
    Error::File { path: "plot".into(), problem: problem.to_string() }
}

/// The labels of an axis, with enough decimals to distinguish them.
fn labels(low: f64, high: f64) -> impl Fn(&f64) -> String {
    let decimals = (1.0 - (high - low).log10().floor()).max(0.0) as usize;
    move |x| if x.abs() < 1e7 { format!("{x:.decimals$}") } else { format!("{x:.4e}") }
}

type Drawn<DB> = std::result::Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

fn bars<DB: DrawingBackend>(
    area: DrawingArea<DB, Shift>, counts: &[u64], range: Range<f64>, colour: RGBColor,
) -> Drawn<DB> {
    let width = (range.end - range.start) / counts.len() as f64;
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .margin_right(20)
        .x_label_area_size(26)
        .y_label_area_size(62)
        .build_cartesian_2d(range.clone(), 0..most + most.div_ceil(20))?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh().bold_line_style(GREY).light_line_style(TRANSPARENT).label_style(FONT);
    mesh.x_labels(6).y_labels(6).x_label_formatter(&labels(range.start, range.end)).draw()?;
    chart.draw_series(counts.iter().enumerate().map(|(n, &count)| {
        let from = range.start + n as f64 * width;
        Rectangle::new([(from, 0), (from + width, count)], colour.filled())
    }))?;
    area.present()
}

/// Without `y_name`, the plot is small and has no legend.
fn draw<DB: DrawingBackend>(
    area: DrawingArea<DB, Shift>, x_name: &str, y_name: Option<&str>, lines: &[Line],
) -> Drawn<DB> {
    let is_drawn = |&(x, y): &(u64, f64)| x < LAST && y.abs() < GREATEST;
    let band = |line: &Line| match &line.look {
        Look::BandTo(others) => others.clone(),
        _ => Points::new(),
    };
    let mut all: Points = lines.iter().flat_map(|line| [line.points.clone(), band(line)].concat()).collect();
    all.retain(is_drawn);
    let values = all.iter().map(|&(_, y)| y);
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)));
    let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
    // A single value needs an axis of some height too.
    let margin = (0.05 * (high - low)).max(5e-4 * low.abs().max(high.abs())).max(1e-6);
    let (low, high) = (low - margin, high + margin);
    let last = all.iter().map(|&(x, _)| x).max().unwrap_or(0).max(1);

    let mut chart = ChartBuilder::on(&area);
    let (x_labels, y_labels) = match y_name {
        Some(_) => {
            chart.margin(15).x_label_area_size(50).y_label_area_size(90);
            (15, 10)
        }
        None => {
            chart.margin(8).margin_right(20).x_label_area_size(40).y_label_area_size(62);
            (6, 6)
        }
    };
    let mut chart = chart.build_cartesian_2d(0..last, low..high)?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh().bold_line_style(GREY).light_line_style(TRANSPARENT).label_style(FONT);
    mesh.x_labels(x_labels).y_labels(y_labels).x_desc(x_name).y_desc(y_name.unwrap_or_default());
    mesh.y_label_formatter(&labels(low, high)).draw()?;
    for Line { points, colour, look } in lines {
        let stride = points.len().div_ceil(MOST_POINTS).max(1);
        let points = points.iter().copied().step_by(stride).filter(is_drawn);
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
            Look::BandTo(others) => {
                let back = others.iter().copied().step_by(stride).filter(is_drawn).collect::<Points>();
                let around: Vec<_> = points.chain(back.into_iter().rev()).collect();
                chart.draw_series([Polygon::new(around, colour.mix(0.2).filled())])?
            }
        };
    }
    if y_name.is_none() {
        return area.present();
    }
    let mut legend = chart.configure_series_labels();
    legend.position(SeriesLabelPosition::LowerRight).margin(15).legend_area_size(40).label_font(FONT).draw()?;
    area.present()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_values_give_a_plot() {
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
                let line = Line { points: in_order(values), colour: BLUE, look };
                draw(area, "x", Some("y"), &[line]).expect("a plot in memory");
                assert_eq!(svg.matches("<circle").count(), expected, "{values:?}");
                assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{values:?}");
            }
            for x in [0, LAST - 1, LAST, u64::MAX] {
                let points = values.iter().map(|&y| (x, y)).collect();
                let line = Line { points, colour: BLUE, look: Look::Marked("") };
                assert!(inline("x", &[line]).expect("a text").ends_with("</svg>\n"), "{x}");
            }
            let look = Look::BandTo(in_order(values));
            let svg = inline("x", &[Line { points: in_order(values), colour: BLUE, look }]).expect("a text");
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{values:?}");
        }
    }

    #[test]
    fn bars_count_the_numbers_in_the_range() {
        let numbers = [0.0, 0.2, 0.5, 0.5, 1.0, -0.1, 1.1, f64::NAN, f64::INFINITY];
        let svg = histogram(&numbers, 0.0..1.0, 2, BLUE).expect("a text");
        let bars: Vec<&str> =
            svg.lines().filter(|line| line.starts_with("<rect") && line.contains("#1965B0")).collect();
        let height = |bar: &str| {
            let (_, rest) = bar.split_once("height=\"").expect("a height");
            rest[..rest.find('"').expect("an end")].parse::<f64>().expect("a number")
        };
        assert_eq!(bars.len(), 2, "{svg}");
        // Two numbers below 1/2 and three from there on, to the pixel.
        assert!((height(bars[0]) / height(bars[1]) - 2.0 / 3.0).abs() < 0.02, "{bars:?}");
        let greatest = f64::from(f32::MAX);
        for range in [2.0..2.0, 0.0..0.0, 0.0..5e-324, -greatest..greatest, greatest..greatest] {
            let svg = histogram(&[range.start, range.end], range.clone(), 50, BLUE).expect("a text");
            assert!(svg.contains("#1965B0") && !svg.contains("NaN"), "{range:?}");
        }
        assert!(histogram(&[], 0.0..1.0, 3, BLUE).expect("a text").ends_with("</svg>\n"));
    }
}
