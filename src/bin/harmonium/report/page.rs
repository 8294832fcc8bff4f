//! The contents of a page: sections of text, figures and tables. The layout is in `templates/report.html`.

use crate::plot::{self, BLUE, GREEN, ORANGE, RED};
use askama::Template;
use plotters::style::RGBColor;

/// The colours of plots and their names on the page, which changes them in dark mode.
const COLOURS: [(&str, RGBColor); 4] = [("blue", BLUE), ("orange", ORANGE), ("green", GREEN), ("red", RED)];

#[derive(Template)]
#[template(path = "report.html")]
pub struct Page {
    pub title: String,
    pub version: &'static str,
    colours: Vec<(&'static str, String)>,
    /// The facts at the top of the page.
    pub facts: Vec<(String, String)>,
    pub sections: Vec<Section>,
}

impl Page {
    pub fn new(title: String, facts: Vec<(String, String)>, sections: Vec<Section>) -> Self {
        // The form of colours in SVG plots.
        let code = |RGBColor(red, green, blue)| format!("#{red:02X}{green:02X}{blue:02X}");
        let colours = COLOURS.map(|(name, colour)| (name, code(colour))).into();
        Self { title, version: env!("CARGO_PKG_VERSION"), colours, facts, sections }
    }
}

/// The name of a colour of plots.
pub fn name(colour: RGBColor) -> &'static str {
    COLOURS.iter().find(|(_, known)| *known == colour).map_or("ink", |(name, _)| name)
}

#[derive(Default)]
pub struct Section {
    pub id: &'static str,
    pub title: &'static str,
    pub texts: Vec<String>,
    pub figures: Vec<Figure>,
    pub tables: Vec<Table>,
    pub code: Vec<String>,
}

impl Section {
    pub fn new(id: &'static str, title: &'static str) -> Self {
        Self { id, title, ..Self::default() }
    }

    /// Plots and images, which have different sizes: for each group its CSS class and its figures.
    fn groups(&self) -> Vec<(&'static str, Vec<&Figure>)> {
        let of = |plots: bool| self.figures.iter().filter(|f| matches!(f.body, Body::Plot(_)) == plots).collect();
        let groups = [("figures", of(true)), ("figures pictures", of(false))];
        groups.into_iter().filter(|(_, figures): &(_, Vec<_>)| !figures.is_empty()).collect()
    }
}

pub struct Figure {
    pub title: String,
    pub note: String,
    /// The legend: colours and names.
    pub keys: Vec<(&'static str, String)>,
    pub body: Body,
}

pub enum Body {
    /// SVG.
    Plot(String),
    /// A PNG file in base 64, its width in pixels, its width on the page, and whether it has so few pixels that they are drawn as squares.
    Picture { data: String, width: u32, shown: u32, few: bool },
}

impl Figure {
    pub fn histogram(
        title: &str, numbers: &[f64], range: std::ops::Range<f64>, colour: RGBColor,
    ) -> harmonium::Result<Self> {
        /// Bars of a histogram.
        const PARTS: usize = 50;
        let body = Body::Plot(plot::histogram(numbers, range, PARTS, colour)?);
        Ok(Self { title: title.into(), note: String::new(), keys: Vec::new(), body })
    }
}

#[derive(Default)]
pub struct Table {
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// Whether the columns have words, not numbers.
    pub words: bool,
}
