//! `harmonium classify`: predicts the label of each row.

use crate::{
    arguments::{Compute, DATA, DATA_HEADING, OUTPUT_HEADING, named},
    console::{self, Progress},
    data,
};
use clap::Args;
use harmonium::{Device, Error, Result, model, storage};
use std::{
    io,
    path::{Path, PathBuf},
};

#[derive(Args)]
pub struct Classify {
    /// Model file of a model that was trained with labels.
    pub model: PathBuf,
    /// Rows to classify: a folder with MNIST's IDX files, or one data file, of which all rows are used.
    #[arg(long, value_name = "PATH", default_value = DATA, help_heading = DATA_HEADING)]
    pub data: PathBuf,
    #[command(flatten)]
    pub selection: data::Selection,
    /// Rows of a folder: the first 50 000 training rows, the other training rows (validation), or the test rows.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "test",
        value_parser = named(data::Split::ALL),
        help_heading = DATA_HEADING
    )]
    pub split: data::Split,
    #[command(flatten)]
    pub compute: Compute,
    /// CSV table to write, a line for each row: the most probable label, the true label if known, and the probability of each label.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT_HEADING)]
    pub out: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, help_heading = OUTPUT_HEADING)]
    pub json: bool,
}

/// The number of rows that are classified at once.
const ROWS: usize = 1000;

pub fn run(device: &Device, options: &Classify) -> Result<()> {
    let (rbm, mut extras) = model::load_with(&options.model)?;
    // Without names of labels, only a segment of a single site counts as the label.
    let is_label = |label: &std::ops::Range<usize>| {
        !extras.labels.is_empty() || rbm.shape().visible().iter().any(|(_, units)| units == *label)
    };
    let Some(label) = rbm.shape().label().filter(is_label) else {
        return Err(Error::Format {
            source_name: options.model.display().to_string(),
            expected: "a model whose last visible units are a label, as after train --labels".into(),
            found: rbm.shape().visible().to_string(),
        });
    };
    if extras.labels.is_empty() {
        extras.labels = (0..label.len()).map(|s| s.to_string()).collect();
    }
    let read = |path: &Path, how: &_| data::split(path, "--data", options.split, how);
    let images = data::fitting((&rbm, &extras), &options.model, (&options.data, &options.selection), read)?;
    let (rows, resident) = (images.rows, rbm.on(device)?);
    let progress = Progress::new("labels", rows.len() as u64, "rows", false);
    let mut logs = Vec::with_capacity(rows.len() * label.len());
    for part in rows.batches(ROWS) {
        logs.extend(resident.log_label_probabilities(rows.rows().range(part.clone()))?);
        progress.advance(part.len() as u64);
    }
    drop(progress);
    // The first one of equals.
    let likeliest = |logs: &[f64]| (1..logs.len()).fold(0, |best, s| if logs[s] > logs[best] { s } else { best });
    let predicted: Vec<_> = logs.chunks_exact(label.len()).map(likeliest).collect();
    let own = |r: usize| {
        let state = || label.clone().position(|i| rows.rows().value(r, i) == 1.0);
        state().filter(|_| !rows.rows().is_missing(r, label.start))
    };
    let own: Vec<_> = (0..rows.len()).map(own).collect();
    let labelled = own.iter().flatten().count();
    let right = own.iter().zip(&predicted).filter(|(own, predicted)| own.as_ref() == Some(predicted)).count();
    let of_own = own.iter().enumerate().filter_map(|(r, own)| own.map(|s| logs[r * label.len() + s]));
    let known = (labelled > 0).then(|| (right as f64 / labelled as f64, of_own.sum::<f64>() / labelled as f64));
    if let Some(out) = &options.out {
        let table = table(&extras.labels, &predicted, &own, &logs)
            .map_err(|problem| Error::File { path: out.display().to_string(), problem: problem.to_string() })?;
        storage::write_atomically(out, |file| file.write_all(&table))?;
    }
    let json = serde_json::json!({
        "model": options.model.display().to_string(),
        "data": options.data.display().to_string(),
        "labels": extras.labels,
        "rows": rows.len(),
        "labelled": labelled,
        "right": known.map(|_| right),
        "accuracy": known.map(|(accuracy, _)| accuracy),
        "mean_log_probability": known.map(|(_, log)| log),
    });
    let counts = extras
        .labels
        .iter()
        .enumerate()
        .map(|(s, name)| format!("{name}: {}", predicted.iter().filter(|&&label| label == s).count()));
    console::answer(&match (options.json, known) {
        (true, _) => vec![format!("{json:#}")],
        (false, Some((accuracy, log))) => vec![format!(
            "{}: {right} of {labelled} labels are correct, {:.2} %; mean log P(label|v) {log:.4} nats",
            options.data.display(),
            100.0 * accuracy
        )],
        (false, None) => {
            vec![format!("{}: {} rows; {}", options.data.display(), rows.len(), counts.collect::<Vec<_>>().join(", "))]
        }
    })
}

/// The CSV table.
fn table(names: &[String], predicted: &[usize], own: &[Option<usize>], logs: &[f64]) -> io::Result<Vec<u8>> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let has_own = own.iter().any(Option::is_some);
    let probability = |name: &String| format!("P({name})");
    let first = ["label", "own"].into_iter().take(1 + usize::from(has_own)).map(String::from);
    table.write_record(first.chain(names.iter().map(probability)))?;
    for ((&predicted, own), logs) in predicted.iter().zip(own).zip(logs.chunks_exact(names.len())) {
        let own = has_own.then(|| own.map_or(String::new(), |own| names[own].clone()));
        let probabilities = logs.iter().map(|log| log.exp().to_string());
        table.write_record([names[predicted].clone()].into_iter().chain(own).chain(probabilities))?;
    }
    table.into_inner().map_err(|problem| io::Error::other(problem.to_string()))
}
