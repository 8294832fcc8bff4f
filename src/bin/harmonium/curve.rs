//! curve.svg: what was watched, epoch by epoch, as plain SVG.

use std::fmt::Write;

/// The whole picture, and the rectangle between the axes.
const SIZE: (f64, f64) = (640.0, 400.0);
const LEFT: f64 = 70.0;
const RIGHT: f64 = 620.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 350.0;

/// The value of each epoch as a line, beside the tutorial's where there is one for comparison.
pub fn svg(values: &[f64], tutorial: Option<&[f64]>, name: &str) -> String {
    let compared = tutorial.unwrap_or_default();
    let epochs = values.len().max(compared.len());
    let (low, high, step) = axis(values.iter().chain(compared).copied());
    let x = |epoch: f64| LEFT + (RIGHT - LEFT) * if epochs > 1 { epoch / (epochs - 1) as f64 } else { 0.5 };
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * (value - low) / (high - low);

    let mut svg = String::new();
    let mut add = |line: String| svg += &(line + "\n");
    let (width, height) = SIZE;
    add(format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13" fill="#333">"##
    ));
    add(format!(r##"<rect width="{width}" height="{height}" fill="#fff"/>"##));
    for n in 0..=((high - low) / step).round() as usize {
        let value = low + n as f64 * step;
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        add(format!(r##"<path d="M{LEFT} {0:.1}H{RIGHT}" stroke="#ddd"/>"##, y(value)));
        add(format!(
            r#"<text x="{}" y="{:.1}" text-anchor="end">{value:.decimals$}</text>"#,
            LEFT - 8.0,
            y(value) + 4.0
        ));
    }
    let every = epochs.div_ceil(15).max(1);
    for epoch in (0..epochs).step_by(every) {
        let at = x(epoch as f64);
        add(format!(r#"<text x="{at:.1}" y="{}" text-anchor="middle">{epoch}</text>"#, BOTTOM + 20.0));
    }
    add(format!(r##"<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="#333"/>"##));
    add(format!(r#"<text x="{}" y="{}" text-anchor="middle">epoch</text>"#, (LEFT + RIGHT) / 2.0, BOTTOM + 42.0));
    let middle = (TOP + BOTTOM) / 2.0;
    add(format!(
        r#"<text transform="translate(18 {middle}) rotate(-90)" text-anchor="middle">{name}, nats a row</text>"#
    ));
    let lines = [(values, "#1965b0", "none", "this run"), (compared, "#dc7f16", "5 4", "the tutorial")];
    for (n, (values, colour, dashes, label)) in lines.into_iter().filter(|line| !line.0.is_empty()).enumerate() {
        let points = values.iter().enumerate().filter(|(_, value)| value.is_finite()).fold(
            String::new(),
            |mut text, (epoch, &value)| {
                // Writing to a string cannot fail.
                let _ = write!(text, "{:.1},{:.1} ", x(epoch as f64), y(value));
                text
            },
        );
        let points = points.trim_end();
        let style = format!(r#"fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}""#);
        add(format!(r#"<polyline points="{points}" {style}/>"#));
        for point in points.split(' ').filter_map(|point| point.split_once(',')) {
            add(format!(r#"<circle cx="{}" cy="{}" r="3" fill="{colour}"/>"#, point.0, point.1));
        }
        let at = BOTTOM - 40.0 + 20.0 * n as f64;
        add(format!(r#"<path d="M{} {at}h30" {style}/>"#, RIGHT - 150.0));
        add(format!(r#"<text x="{}" y="{}">{label}</text>"#, RIGHT - 110.0, at + 4.0));
    }
    svg + "</svg>\n"
}

/// Round numbers below and above all values, and the distance between marks, 1, 2 or 5 times a power of ten.
pub fn axis(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return (0.0, 1.0, 1.0);
    }
    // A single value still wants an axis around it.
    let span = (high - low).max(high.abs() * 1e-3).max(1e-6);
    let power = 10f64.powf((span / 6.0).log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| span / step <= 6.0).unwrap_or(10.0 * power);
    let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
    (low, if high > low { high } else { low + step }, step)
}
