//! The sections of a report.

use super::{
    Hidden,
    folder::{CheckUp, Folder, Line, Picture},
    page::{self, Body, Figure, Section, Table},
};
use crate::{
    activity::five,
    checkpoints::quoted,
    plot::{self, BLUE, GREEN, Look, ORANGE, Points, RED},
    train,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use harmonium::{Result, Summary};
use plotters::style::RGBColor;

/// The half-width of an error band, in standard errors.
const ERRORS: f64 = 2.0;
/// The name of the monitor if the run has no checkpoint.
const MONITOR: &str = "monitor";
/// The greatest width of an enlarged image on the page. The factor is a whole number; wider images keep their size.
const SHOWN: u32 = 620;
const SAMPLES_SHOWN: u32 = 1240;
/// Below this width in pixels, the pixels of an enlarged image are drawn as squares.
const FEW: u32 = 200;

/// A line of a plot: name, colour, points, and the standard errors of its band.
struct Series {
    name: String,
    colour: RGBColor,
    points: Points,
    errors: Option<Vec<f64>>,
}

impl Series {
    fn is_known(&self) -> bool {
        self.points.iter().any(|(_, y)| y.is_finite())
    }
}

/// A plot; `None` without known points. A single line needs no legend.
fn figure(title: &str, note: &str, x_name: &str, all: Vec<Series>) -> Result<Option<Figure>> {
    let all: Vec<_> = all.into_iter().filter(Series::is_known).collect();
    if all.is_empty() {
        return Ok(None);
    }
    let mut lines = Vec::new();
    for Series { colour, points, errors, .. } in &all {
        let by = |sign: f64| -> Points {
            let errors = errors.iter().flatten();
            points.iter().zip(errors).map(|(&(x, y), error)| (x, y + sign * ERRORS * error)).collect()
        };
        let is_known = |points: &Points| points.iter().any(|(_, y)| y.is_finite());
        let (below, above) = (by(-1.0), by(1.0));
        if is_known(&below) {
            lines.push(plot::Line { points: below, colour: *colour, look: Look::BandTo(above) });
        }
    }
    for Series { colour, points, .. } in &all {
        lines.push(plot::Line { points: points.clone(), colour: *colour, look: Look::Marked("") });
    }
    let keys = match &all[..] {
        [_] => Vec::new(),
        _ => all.iter().map(|series| (page::name(series.colour), series.name.clone())).collect(),
    };
    let body = Body::Plot(plot::inline(x_name, &lines)?);
    Ok(Some(Figure { title: title.into(), note: note.into(), keys, body }))
}

/// The name of the run's monitor.
pub fn monitor(run: &Folder) -> &'static str {
    run.checkpoint.as_ref().map_or(MONITOR, |checkpoint| checkpoint.settings.monitor.title())
}

pub fn curves(run: &Folder) -> Result<Section> {
    let mut section = Section::new("curves", "Curves");
    let points = |of: &dyn Fn(&Line) -> Option<f64>| -> Points {
        run.log.iter().map(|line| (line.epoch, of(line).unwrap_or(f64::NAN))).collect()
    };
    let errors = || Some(run.log.iter().map(|line| line.standard_error.unwrap_or(f64::NAN)).collect::<Vec<_>>());
    let series = |name: &str, colour, of: &dyn Fn(&Line) -> Option<f64>| Series {
        name: name.into(),
        colour,
        points: points(of),
        errors: None,
    };
    let banded =
        |name, colour, of: &dyn Fn(&Line) -> Option<f64>| Series { errors: errors(), ..series(name, colour, of) };
    let differs = |of: &dyn Fn(&Line) -> Option<f64>| run.log.windows(2).any(|pair| of(&pair[0]) != of(&pair[1]));
    let band = "Band: ± two standard errors of the running log Z.";
    let mut figures = vec![
        figure(
            "Log-likelihood, nats a row: an upper bound on average",
            band,
            "epoch",
            vec![
                banded("training rows", GREEN, &|line| line.log_likelihood),
                banded("validation rows", RED, &|line| line.validation),
            ],
        )?,
        figure(
            &format!("{}, nats a row", capital(monitor(run))),
            "Mean over the updates since the previous line.",
            "epoch",
            vec![series("", BLUE, &|line| line.monitor)],
        )?,
        figure(
            "Free energy gap, nats",
            "Mean free energy of validation rows minus that of training rows. It grows with overfitting.",
            "epoch",
            vec![series("", ORANGE, &|line| line.free_energy_gap)],
        )?,
        figure("Running log Z, nats", band, "epoch", vec![banded("", BLUE, &|line| line.log_z)])?,
        figure(
            "Effective sample size of the running log Z",
            "Particles of equal weight with the same variance.",
            "epoch",
            vec![series("", BLUE, &|line| line.ess)],
        )?,
        figure(
            "Relative size of the last update, |ΔW|/|W|",
            "",
            "epoch",
            vec![series("", ORANGE, &|line| line.update_ratio)],
        )?,
        figure(
            "Hidden units that are constant over training rows",
            "",
            "epoch",
            vec![series("", RED, &|line| line.constant_units)],
        )?,
    ];
    if differs(&|line| line.learning_rate) {
        figures.push(figure("Learning rate", "", "epoch", vec![series("", BLUE, &|line| line.learning_rate)])?);
    }
    if differs(&|line| line.k) {
        figures.push(figure("Gibbs steps in each update", "", "epoch", vec![series("", BLUE, &|line| line.k)])?);
    }
    section.figures = figures.into_iter().flatten().collect();
    if section.figures.is_empty() {
        section.texts.push("The log has no values to plot.".into());
    }
    Ok(section)
}

/// Text with a capital first letter.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn shown(title: String, picture: Picture, most: u32) -> Figure {
    let (few, times) = (picture.width < FEW, (most / picture.width.max(1)).clamp(1, 10));
    let data = BASE64_STANDARD.encode(picture.bytes);
    let body = Body::Picture { data, width: picture.width, shown: picture.width.saturating_mul(times), few };
    Figure { title, note: String::new(), keys: Vec::new(), body }
}

/// Images of filters and chains, of the first and the last line of the log.
pub fn pictures(run: &Folder) -> Result<Option<Section>> {
    let mut section = Section::new("pictures", "Filters and chains");
    for (kind, title) in [("filters", "Filters"), ("chains", "Chains")] {
        let epochs = run.epochs(kind);
        let mut some = vec![epochs.first(), epochs.last()];
        some.dedup();
        for epoch in some.into_iter().flatten() {
            if let Some(picture) = run.picture(&format!("{kind}_at_epoch_{epoch}.png"))? {
                section.figures.push(shown(format!("{title} after epoch {epoch}"), picture, SHOWN));
            }
        }
    }
    section.texts.push(
        "A filter shows the weights of one hidden unit, on a grey scale of its own. A chain shows the means of its visible \
         units."
            .into(),
    );
    Ok(Some(section).filter(|section| !section.figures.is_empty()))
}

pub fn samples(run: &Folder) -> Result<Option<Section>> {
    let Some(picture) = run.picture("samples.png")? else { return Ok(None) };
    let mut section = Section::new("samples", "Samples");
    section.texts.push(
        "Each column is a chain that started at a row of data. There are 1000 Gibbs steps between two rows of the image."
            .into(),
    );
    section.figures.push(shown("Means of visible units".into(), picture, SAMPLES_SHOWN));
    Ok(Some(section))
}

pub fn weights(run: &Folder) -> Result<Section> {
    let mut section = Section::new("weights", "Weights and biases");
    let view = run.model.view();
    let mut table = Table { head: words(&["", "min", "max", "mean", "std dev"]), ..Table::default() };
    for (name, numbers, colour) in [
        ("weights", view.weights(), BLUE),
        ("visible biases", view.visible_bias(), GREEN),
        ("hidden biases", view.hidden_bias(), ORANGE),
        ("ln σ² of visible units", view.visible_log_variance(), RED),
    ] {
        if numbers.is_empty() {
            continue;
        }
        let summary = Summary::of(numbers);
        let row = [summary.min, summary.max, summary.mean, summary.standard_deviation()];
        table.rows.push([vec![name.to_string()], row.map(|x| format!("{x:.5}")).to_vec()].concat());
        let numbers: Vec<f64> = numbers.iter().copied().map(f64::from).collect();
        section.figures.push(Figure::histogram(&capital(name), &numbers, summary.min..summary.max, colour)?);
    }
    section.tables.push(table);
    Ok(section)
}

pub fn hidden(hidden: &Hidden) -> Result<Section> {
    let mut section = Section::new("hidden", "Hidden units over data");
    section.texts.push(hidden.text());
    let Hidden::Known(activity, _) = hidden else { return Ok(section) };
    let mut table = Table { head: words(&["", "min", "25 %", "median", "75 %", "max"]), ..Table::default() };
    for (name, numbers, most, colour) in
        [("mean", &activity.mean, 1.0, BLUE), ("standard deviation", &activity.standard_deviation, 0.5, GREEN)]
    {
        let row = five(numbers).map(|x| format!("{x:.4}"));
        table.rows.push([vec![name.to_string()], row.to_vec()].concat());
        let title = format!("{} of each unit", capital(name));
        section.figures.push(Figure::histogram(&title, numbers, 0.0..most, colour)?);
    }
    section.tables.push(table);
    Ok(section)
}

pub fn health(run: &Folder) -> Result<Section> {
    let mut section = Section::new("health", "Health of the chains");
    let Some(last) = run.health.last() else {
        let text = "Left out: the run had no --health-every N. For a trained model, use harmonium diagnose MODEL.";
        section.texts.push(text.into());
        return Ok(section);
    };
    section.texts.push(match last.lag {
        Some(0) => {
            "At the last check-up, no lag of the persistent chains behind chains that started at data was measurable."
                .into()
        }
        Some(_) => {
            "At the last check-up, the persistent chains lagged: their free energies differed from those of chains that \
                    started at data."
                .into()
        }
        None => "Whether the persistent chains lag is unknown: the test needs more than one chain.".to_string(),
    });
    let points = |of: &dyn Fn(&CheckUp) -> Option<f64>| -> Points {
        run.health.iter().map(|line| (line.updates, of(line).unwrap_or(f64::NAN))).collect()
    };
    let series = |name: &str, colour, of: &dyn Fn(&CheckUp) -> Option<f64>| Series {
        name: name.into(),
        colour,
        points: points(of),
        errors: None,
    };
    let errors = run.health.iter().map(|line| line.standard_error.unwrap_or(f64::NAN)).collect();
    let figures = [
        figure(
            "Equilibrium gap, nats",
            "Mean free energy of the persistent chains minus that of chains from data. Band: ± two standard errors.",
            "updates",
            vec![Series { errors: Some(errors), ..series("", BLUE, &|line| Some(line.equilibrium_gap)) }],
        )?,
        figure("R̂", "At most 1.01 if chains mix.", "updates", vec![series("", RED, &|line| line.r_hat)])?,
        figure(
            "Fraction of units that a Gibbs step flips",
            "",
            "updates",
            vec![
                series("visible", GREEN, &|line| Some(line.visible_flip_rate)),
                series("hidden", ORANGE, &|line| Some(line.hidden_flip_rate)),
            ],
        )?,
    ];
    section.figures = figures.into_iter().flatten().collect();
    let known = |x: Option<f64>| x.map_or("unknown".into(), |x| format!("{x:.3}"));
    section.tables.push(Table {
        head: words(&["at the last check-up", ""]),
        rows: vec![
            vec!["updates".into(), last.updates.to_string()],
            vec!["R̂".into(), known(last.r_hat)],
            vec!["bulk effective sample size".into(), known(last.bulk_effective_sample_size)],
            vec!["autocorrelation time, steps".into(), known(last.autocorrelation_time)],
            vec!["equilibrium gap, nats".into(), known(Some(last.equilibrium_gap))],
            vec!["its standard error".into(), known(last.standard_error)],
        ],
        ..Table::default()
    });
    Ok(section)
}

pub fn settings(run: &Folder) -> Section {
    let mut section = Section::new("settings", "Settings");
    let Some(checkpoint) = &run.checkpoint else {
        section.texts.push("Left out: the folder has no checkpoint.safetensors, which keeps them.".into());
        return section;
    };
    let mut command = vec!["harmonium train".to_string()];
    command.extend(train::words(&checkpoint.options).iter().map(|(name, value)| format!("--{name} {}", quoted(value))));
    command.push(format!("--out {}", quoted(&run.path.display().to_string())));
    section.texts.push("The command for this run:".into());
    section.code.push(command.join(" \\\n    "));
    let mut rows: Vec<Vec<String>> =
        checkpoint.options.iter().map(|(name, value)| vec![name.clone(), value.clone()]).collect();
    rows.push(vec!["types of visible units".into(), run.model.shape().visible().to_string()]);
    rows.push(vec!["fingerprint of the training rows".into(), checkpoint.data.clone()]);
    rows.push(vec!["version of harmonium".into(), checkpoint.version.clone()]);
    section.tables.push(Table { head: words(&["setting", "value"]), rows, words: true });
    section
}

pub fn files(run: &Folder) -> Section {
    let mut section = Section::new("files", "Files");
    let size = |bytes: u64| match bytes {
        0..1024 => format!("{bytes} B"),
        _ => format!("{} KiB", bytes.div_ceil(1024)),
    };
    let others = run.files.iter().filter(|(name, _)| name != "report.html");
    let rows = others.map(|(name, bytes)| vec![name.clone(), what(name).into(), size(*bytes)]).collect();
    section.tables.push(Table { head: words(&["file", "contents", "size"]), rows, words: true });
    section
}

/// The contents of a file of a run.
fn what(name: &str) -> &'static str {
    match name {
        "model.safetensors" => "the model",
        "last.safetensors" => "the last parameters, if the model has others",
        "checkpoint.safetensors" => "everything to resume the run",
        "log.csv" => "the values of the curves",
        "health.csv" => "the diagnostics of the chains",
        "curve.svg" => "the plot of monitor and log-likelihood",
        "samples.png" => "samples",
        _ if name.starts_with("filters_at_epoch_") => "filters",
        _ if name.starts_with("chains_at_epoch_") => "chains",
        _ => "",
    }
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|word| word.to_string()).collect()
}
