//! `harmonium impute`: estimates missing values, given the known values of each row.
//!
//! Each row has a chain. It clamps the known values and draws the others from P(v_missing, h | v_known). After a burn-in, the mean of
//! E[v_i|h] over N draws of h, one a Gibbs step, estimates v_i. E[v_i|h] is P(v_i = 1|h) of a binary unit, P(s|h) of each state of a Potts
//! site, and b_i + (Wh)_i of a Gaussian unit. The estimate has the expectation of a mean of draws v_i and, for independent draws, never a
//! larger variance (Rao and Blackwell).
//!
//! Chains run in groups of [`GROUP`] rows; the last group is padded. Row r is chain r mod GROUP of its group. Its random numbers
//! start at number (r div GROUP)·GROUP·(n_hidden + steps·(n_visible + n_hidden)) of the seed's [`Purpose::Sampling`] sequence. So
//! the result does not depend on other rows, threads or memory.

use crate::{
    arguments::{Compute, DATA_HEADING, OUTPUT_HEADING, at_least},
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

/// The number of rows in a group.
const GROUP: usize = 64;

#[derive(Args)]
pub struct Impute {
    /// Model file, as train writes it.
    pub model: PathBuf,
    /// Rows with missing values: nan in an array, an empty field in a text table.
    ///
    /// If the model has labels and the rows have none, the labels are missing too.
    #[arg(long, value_name = "PATH", help_heading = DATA_HEADING)]
    pub data: PathBuf,
    #[command(flatten)]
    pub selection: data::Selection,
    /// Number of draws in each mean, one a Gibbs step.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = at_least::<1>, help_heading = "Chains")]
    pub draws: usize,
    /// Gibbs steps before the first draw.
    #[arg(long, value_name = "N", default_value = "100", value_parser = at_least::<0>, help_heading = "Chains")]
    pub burn_in: usize,
    /// Seed of all random numbers.
    #[arg(long, value_name = "N", default_value = "123", help_heading = "Chains")]
    pub seed: u64,
    #[command(flatten)]
    pub compute: Compute,
    /// Array to write, rows × visible units; the name ends with .npy or .csv.
    ///
    /// Known values stay as in the data. A missing Potts site gets the probability of each state.
    #[arg(long, value_name = "FILE", default_value = "imputed.npy", help_heading = OUTPUT_HEADING)]
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
        let expected = "few enough for the 2^64 random numbers of a seed".into();
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
    let progress = Progress::new("means", held.len() as u64, "rows", false);
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

/// The means of all visible units of a group of rows, before the scale is undone.
fn means(resident: &Resident, held: &Dataset, group: Range<usize>, options: &Impute) -> Result<Vec<f32>> {
    let shape = resident.shape();
    // The random numbers of a chain depend on the number of chains, so groups have a fixed size.
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
