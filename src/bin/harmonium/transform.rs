//! `harmonium transform`: hidden units as features of rows.

use crate::{
    arguments::{Compute, DATA, at_least, named},
    console::Progress,
    data,
    numbers::Format,
};
use clap::Args;
use harmonium::{Activations, Device, Purpose, Result, Uniforms, model};
use std::path::PathBuf;

#[derive(Args)]
pub struct Transform {
    /// A model file, as train writes it.
    pub model: PathBuf,
    /// A folder with MNIST's IDX files, or one file of data, of which all rows are taken.
    #[arg(long, value_name = "PATH", default_value = DATA)]
    pub data: PathBuf,
    #[command(flatten)]
    pub selection: data::Selection,
    /// Which rows of a folder: its first 50 000 training rows, those behind them, or its test rows.
    #[arg(long, value_name = "NAME", default_value = "test", value_parser = named(data::Split::ALL))]
    pub split: data::Split,
    /// Bits drawn from P(h|v) in place of the probabilities.
    #[arg(long)]
    pub sample: bool,
    /// Chooses the draws of --sample.
    #[arg(long, value_name = "N", default_value = "123")]
    pub seed: u64,
    /// Rows that are taken at once; the result is the same.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = at_least::<1>)]
    pub batch_size: usize,
    #[command(flatten)]
    pub compute: Compute,
    /// The array to write, rows × hidden units: its name ends with .npy or .csv.
    #[arg(long, value_name = "FILE", default_value = "h.npy")]
    pub out: PathBuf,
}

/// What [`Resident::propup`](harmonium::Resident::propup) and
/// [`Resident::sample_h_given_v`](harmonium::Resident::sample_h_given_v) give for all rows at once.
pub fn run(device: &Device, options: &Transform) -> Result<()> {
    let format = Format::of_out(&options.out)?;
    let (rbm, extras) = model::load_with(&options.model)?;
    let read = |path: &std::path::Path, how: &_| data::split(path, "--data", options.split, how);
    let images = data::fitting((&rbm, &extras), &options.model, (&options.data, &options.selection), read)?;
    let (rows, resident) = (images.rows, rbm.on(device)?);
    let mut draws = Uniforms::new(options.seed, Purpose::Sampling);
    let mut hidden = Activations::default();
    let progress = Progress::new(rows.len() as u64, "rows", false);
    let parts = rows.batches(options.batch_size).map(|part| {
        let v = rows.rows().range(part.clone());
        match options.sample {
            true => resident.sample_h_given_v(v, &mut draws, &mut hidden)?,
            false => resident.propup(v, &mut hidden)?,
        }
        progress.advance(part.len() as u64);
        Ok(if options.sample { hidden.sample.clone() } else { hidden.mean.clone() })
    });
    let what = if options.sample { "rows of hidden bits" } else { "rows of hidden means" };
    format.save_parts(parts, rows.len(), rbm.shape().n_hidden(), &options.out, what)
}
