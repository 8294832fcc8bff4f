//! `harmonium transform`: hidden units as features of each row.

use crate::{
    arguments::{COMPUTE_HEADING, Compute, DATA, DATA_HEADING, OUTPUT_HEADING, at_least, named},
    console::Progress,
    data,
    in_place::ForModel,
    numbers::Format,
};
use clap::Args;
use harmonium::{Activations, Dataset, Device, Error, Purpose, Result, Uniforms, formats::Reading, model};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Transform {
    /// Model file, as train writes it.
    pub model: PathBuf,
    /// Rows to transform: a folder with MNIST's IDX files, or one data file, of which all rows are used.
    #[arg(long, value_name = "PATH", default_value = DATA, help_heading = DATA_HEADING)]
    pub data: PathBuf,
    #[command(flatten)]
    pub selection: data::Selection,
    /// Read the rows of an npy file from disk as needed [default: if they exceed half of the free memory].
    #[arg(long, help_heading = DATA_HEADING)]
    pub in_place: bool,
    /// Rows of a folder: the first 50 000 training rows, the other training rows (validation), or the test rows.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "test",
        value_parser = named(data::Split::ALL),
        help_heading = DATA_HEADING
    )]
    pub split: data::Split,
    /// Use each row's own label, as the model's label site [default: the site is missing, so features know no label].
    #[arg(long, conflicts_with = "in_place", help_heading = DATA_HEADING)]
    pub with_labels: bool,
    /// Write bits drawn from P(h|v) instead of the probabilities.
    #[arg(long, help_heading = OUTPUT_HEADING)]
    pub sample: bool,
    /// Seed of the random numbers of --sample.
    #[arg(long, value_name = "N", default_value = "123", help_heading = OUTPUT_HEADING)]
    pub seed: u64,
    /// Number of rows to compute at once; does not change the result.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = at_least::<1>, help_heading = COMPUTE_HEADING)]
    pub batch_size: usize,
    #[command(flatten)]
    pub compute: Compute,
    /// Array to write, rows × hidden units; the name ends with .npy or .csv.
    #[arg(long, value_name = "FILE", default_value = "h.npy", help_heading = OUTPUT_HEADING)]
    pub out: PathBuf,
}

/// The error of --with-labels if a file lacks them.
fn no_labels(path: &Path, expected: &str) -> Error {
    Error::Argument { what: "--with-labels", expected: expected.into(), found: format!("none in {}", path.display()) }
}

/// Writes the result of [`Resident::propup`](harmonium::Resident::propup) or
/// [`Resident::sample_h_given_v`](harmonium::Resident::sample_h_given_v) for all rows.
pub fn run(device: &Device, options: &Transform) -> Result<()> {
    let format = Format::of_out(&options.out)?;
    let (rbm, extras) = model::load_with(&options.model)?;
    let (model, from) = ((&rbm, &extras), (options.data.as_path(), &options.selection));
    if options.with_labels && extras.labels.is_empty() {
        return Err(no_labels(&options.model, "a model with labels"));
    }
    let on_disk = match options.with_labels {
        true => None,
        false => ForModel::open(model, &options.model, from, options.in_place)?,
    };
    let read = |path: &Path, how: &Reading| {
        let mut images = data::split(path, "--data", options.split, how)?;
        match options.with_labels {
            true if images.labels.is_none() => return Err(no_labels(path, "rows with labels")),
            true => {}
            false => images.labels = None,
        }
        Ok(images)
    };
    let in_memory = match &on_disk {
        Some(_) => None,
        None => Some(data::fitting(model, &options.model, from, read)?.rows),
    };
    let len = on_disk.as_ref().map(ForModel::len).or(in_memory.as_ref().map(Dataset::len)).unwrap_or(0);
    let resident = rbm.on(device)?;
    let mut draws = Uniforms::new(options.seed, Purpose::Sampling);
    let (mut hidden, mut outside) = (Activations::default(), 0);
    let progress = Progress::new("features", len as u64, "rows", false);
    let parts = (0..len).step_by(options.batch_size).map(|first| {
        let part = first..len.min(first.saturating_add(options.batch_size));
        let read = on_disk.as_ref().map(|file| file.rows(part.clone())).transpose()?;
        outside += read.as_ref().map_or(0, |(_, outside)| *outside);
        let v = match (&read, &in_memory) {
            (Some((read, _)), _) => read.rows(),
            (None, Some(rows)) => rows.rows().range(part.clone()),
            (None, None) => return Ok(Vec::new()),
        };
        match options.sample {
            true => resident.sample_h_given_v(v, &mut draws, &mut hidden)?,
            false => resident.propup(v, &mut hidden)?,
        }
        progress.advance(part.len() as u64);
        Ok(if options.sample { hidden.sample.clone() } else { hidden.mean.clone() })
    });
    let what = if options.sample { "rows of hidden bits" } else { "rows of hidden means" };
    format.save_parts(parts, len, rbm.shape().n_hidden(), &options.out, what)?;
    if let Some(file) = &on_disk {
        file.report_outside(outside);
    }
    Ok(())
}
