//! `harmonium impute`: what is missing of rows, given the rest of them.
//!
//! A row is a chain that holds what is there of it and draws the rest from P(v_missing, h | v_there). After a burn-in the mean of
//! v_missing is estimated by that of E[v_i|h] over N draws of h, one a Gibbs step. It has the expectation of a mean of the draws v_i
//! themselves and, of so many independent draws, never a larger variance (Rao and Blackwell): P(v_i = 1|h) of a binary unit, P(s|h) of
//! each state of a Potts site, b_i + (Wh)_i of a Gaussian one.
//!
//! Rows are taken [`GROUP`] at a time, the last group filled up, and the chains of a group draw side by side. Row r draws as chain
//! r mod GROUP of so many, from number (r div GROUP)·GROUP·(n_hidden + steps·(n_visible + n_hidden)) of the seed's
//! [`Purpose::Sampling`] sequence on, whatever the other rows are: more rows, threads or memory change nothing.

use crate::{
    arguments::{Compute, at_least},
    console::{Progress, complain},
    data,
    numbers::Format,
};
use clap::Args;
use harmonium::{
    Activations, Chains, Dataset, Device, Error, Purpose, Resident, Result, Uniforms, formats::Reading, model, storage,
};
use std::{
    ops::Range,
    path::{Path, PathBuf},
};

/// Rows that are imputed at once.
const GROUP: usize = 64;

#[derive(Args)]
pub struct Impute {
    /// A model file, as train writes it.
    pub model: PathBuf,
    /// Rows some values of which are missing: nan in an array, nothing in a table of text; labels that the rows lack are missing too.
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    #[command(flatten)]
    pub selection: data::Selection,
    /// Draws over which means are taken.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = at_least::<1>)]
    pub draws: usize,
    /// Gibbs steps before the first draw.
    #[arg(long, value_name = "N", default_value = "100", value_parser = at_least::<0>)]
    pub burn_in: usize,
    /// Chooses all draws.
    #[arg(long, value_name = "N", default_value = "123")]
    pub seed: u64,
    #[command(flatten)]
    pub compute: Compute,
    /// The rows as the data have them, with means in the place of what is missing: a value for each visible unit, of Potts sites the
    /// probability of each state. The name ends with .npy or .csv.
    #[arg(long, value_name = "FILE", default_value = "imputed.npy")]
    pub out: PathBuf,
}

pub fn run(device: &Device, options: &Impute) -> Result<()> {
    let format = Format::of_out(&options.out)?;
    storage::check_replaceable(&options.out)?;
    let (rbm, extras) = model::load_with(&options.model)?;
    let (shape, visible) = (rbm.shape(), rbm.shape().visible());
    let (model, path) = ((&rbm, &extras), &options.data);
    let read = |path: &Path, how: &Reading| data::file(path, "--data", how);
    let given = data::before_scaling(model, &options.model, (path, &options.selection), read)?.rows;
    let steps = (options.burn_in as u64).saturating_add(options.draws as u64);
    let each = (shape.n_visible() + shape.n_hidden()) as u64;
    if steps
        .checked_mul(each)
        .and_then(|n| n.checked_add(each))
        .and_then(|n| n.checked_mul(given.len() as u64 + GROUP as u64))
        .is_none()
    {
        let expected = "so few that there are random numbers for all rows".into();
        return Err(Error::Argument { what: "--draws and --burn-in", expected, found: steps.to_string() });
    }
    let (scaled, clamped) = data::scaled(given.clone(), &extras, visible, path)?;
    if let Some(clamped) = clamped {
        complain(&clamped);
    }
    let held = data::bits(scaled, &path.display().to_string());

    let resident = rbm.on(device)?;
    let units = shape.n_visible();
    let mut values = given.rows().to_vec();
    let progress = Progress::new(held.len() as u64, "rows", false);
    let mut rows_filled = 0;
    for first in (0..held.len()).step_by(GROUP) {
        let group = first..held.len().min(first + GROUP);
        let is_missing = |r: usize, i: usize| held.rows().is_missing(r, i);
        let filled = group.clone().filter(|&r| (0..units).any(|i| is_missing(r, i))).count();
        if filled > 0 {
            let mut means = means(&resident, &held, group.clone(), options)?;
            if let Some(scale) = &extras.scale {
                scale.undo(&mut means);
            }
            for (r, means) in group.clone().zip(means.chunks_exact(units)) {
                let row = values[r * units..].iter_mut().zip(means).enumerate();
                row.filter(|&(i, _)| is_missing(r, i)).for_each(|(_, (x, mean))| *x = *mean);
            }
        }
        rows_filled += filled;
        progress.advance(group.len() as u64);
    }
    drop(progress);
    if rows_filled == 0 {
        complain(&format!("notice: {}: no value is missing", options.data.display()));
    }
    format.save(&values, units, &options.out, "rows")
}

/// The means of all visible units of a group of rows, as the model sees them.
fn means(resident: &Resident, held: &Dataset, group: Range<usize>, options: &Impute) -> Result<Vec<f32>> {
    let shape = resident.shape();
    // Chains draw side by side, so that their number must always be the same.
    let rows: Vec<usize> = (group.start..group.start + GROUP).map(|r| r.min(group.end - 1)).collect();
    let held = held.select(&rows)?;
    let each = shape.n_hidden() as u64
        + (options.burn_in as u64 + options.draws as u64) * (shape.n_visible() + shape.n_hidden()) as u64;
    let mut draws = Uniforms::new(options.seed, Purpose::Sampling);
    draws.seek(group.start as u64 * each);
    let mut chains = Chains::from_visible(resident, held.rows(), draws)?;
    chains.hold(held.rows())?;
    if options.burn_in > 0 {
        chains.sweep(resident, options.burn_in)?;
    }
    let mut sums = vec![0.0; group.len() * shape.n_visible()];
    let mut visible = Activations::default();
    for _ in 0..options.draws {
        chains.sweep(resident, 1)?;
        chains.visible(resident, &mut visible)?;
        sums.iter_mut().zip(&visible.mean).for_each(|(sum, &mean)| *sum += f64::from(mean));
    }
    Ok(sums.into_iter().map(|sum: f64| (sum / options.draws as f64) as f32).collect())
}
