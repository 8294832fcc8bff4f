//! `harmonium sample`, and the sheet of samples at the end of training.

use crate::{
    arguments::{Compute, DATA, Sides, at_least, sides},
    console::{self, Progress},
    data,
};
use clap::Args;
use harmonium::{
    Activations, Chains, Dataset, Device, Error, Purpose, Rbm, Resident, Result, Uniforms, model, npy,
    raster::{self, Raster},
};
use std::path::PathBuf;

#[derive(Args)]
pub struct Sample {
    /// A model file, as train writes it.
    pub model: PathBuf,
    /// Where the chains start: a folder with MNIST's IDX files (test rows, where there are any), or one file of data.
    #[arg(long, value_name = "PATH", default_value = DATA)]
    pub data: PathBuf,
    #[command(flatten)]
    pub selection: data::Selection,
    /// Chains: pictures from left to right.
    #[arg(long, value_name = "N", default_value = "20", value_parser = at_least::<1>)]
    pub chains: usize,
    /// Pictures from top to bottom.
    #[arg(long, value_name = "N", default_value = "10", value_parser = at_least::<1>)]
    pub rows: usize,
    /// Gibbs steps before each row.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = at_least::<1>)]
    pub steps: usize,
    /// Chooses the rows to start from and all draws.
    #[arg(long, value_name = "N", default_value = "123")]
    pub seed: u64,
    #[command(flatten)]
    pub compute: Compute,
    /// Height and width of the pictures in the rows [default: what the data file says, or square].
    #[arg(long, value_name = "HxW", value_parser = sides)]
    pub image: Option<Sides>,
    /// The picture of means to write, or, where the name ends with .npy, an array of samples: all chains at one time, then at the
    /// next.
    #[arg(long, value_name = "FILE", default_value = "samples.png")]
    pub out: PathBuf,
}

/// What the tutorial shows: 20 chains, ten times, 1000 Gibbs steps in between.
pub const TUTORIAL: Sheet = Sheet { chains: 20, rows: 10, steps: 1000 };
/// A sheet has no more.
pub const MOST_PIXELS: usize = 1 << 28;

/// How much is sampled: so many chains from left to right, rows from top to bottom, and Gibbs steps before each row.
#[derive(Clone, Copy)]
pub struct Sheet {
    pub chains: usize,
    pub rows: usize,
    pub steps: usize,
}

pub fn run(device: &Device, options: &Sample) -> Result<()> {
    let (rbm, extras) = model::load_with(&options.model)?;
    let images = data::fitting((&rbm, &extras), &options.model, (&options.data, &options.selection), data::starting)?;
    if options.chains > images.rows.len() {
        return Err(Error::Argument {
            what: "--chains",
            expected: format!("at most {}, the rows of {} to start from", images.rows.len(), options.data.display()),
            found: options.chains.to_string(),
        });
    }
    let sheet = Sheet { chains: options.chains, rows: options.rows, steps: options.steps };
    let progress = Progress::new(sheet.rows as u64, "rows", false);
    let out = options.out.display();
    if options.out.extension().is_some_and(|ending| ending == "npy") {
        let mut states = states(device, &rbm, &images.rows, sheet, options.seed, &progress, |visible| &visible.sample)?;
        if let Some(scale) = &extras.scale {
            scale.undo(&mut states);
        }
        npy::save(&states, rbm.shape().n_visible(), &options.out)?;
        drop(progress);
        let (n, units) = (states.len() / rbm.shape().n_visible(), rbm.shape().n_visible());
        console::say(&format!("{out}: {n} samples of {units} values"));
        return Ok(());
    }
    let pictured = data::pictured(rbm.shape().visible()).len();
    let sides = data::sides(options.image, images.img_shape, pictured)?;
    let picture = draw(device, &rbm, &images.rows, sides, sheet, options.seed, &progress)?;
    raster::write_png(&picture, &options.out)?;
    drop(progress);
    console::say(&format!("{out}: {} × {} pixels", picture.height(), picture.width()));
    Ok(())
}

/// Starts chains at rows from all over the data and shows their visible means after every `sheet.steps` Gibbs steps; they go
/// on from samples. (The tutorial's start at rows side by side, which in MNIST are of all classes.)
pub fn draw(
    device: &Device, rbm: &Rbm, rows: &Dataset, sides: (usize, usize), sheet: Sheet, seed: u64, progress: &Progress,
) -> Result<Raster<u8>> {
    let means = states(device, rbm, rows, sheet, seed, progress, |visible| &visible.mean)?;
    let means = data::columns(&means, rbm.shape().n_visible(), data::pictured(rbm.shape().visible()));
    raster::sample_sheet(&means, sides, sheet.rows, sheet.chains)
}

/// What visible layers are after every `sheet.steps` Gibbs steps: of all chains at one time, then at the next.
fn states(
    device: &Device, rbm: &Rbm, rows: &Dataset, sheet: Sheet, seed: u64, progress: &Progress,
    what: impl Fn(&Activations) -> &[f32],
) -> Result<Vec<f32>> {
    // The picture is too large before the chains have run, not after.
    let pixels = sheet.rows.checked_mul(sheet.chains).and_then(|n| n.checked_mul(rows.units()));
    if pixels.is_none_or(|n| n > MOST_PIXELS) {
        return Err(Error::Argument {
            what: "--chains and --rows",
            expected: format!("at most {} pictures", MOST_PIXELS / rows.units()),
            found: format!("{} × {}", sheet.chains, sheet.rows),
        });
    }
    let starts = data::from_all_over(rows, sheet.chains, seed)?;
    let resident: Resident = rbm.on(device)?;
    let mut chains = Chains::from_visible(&resident, starts.rows(), Uniforms::new(seed, Purpose::Sampling))?;
    let mut visible = Activations::default();
    let mut all = Vec::new();
    for _ in 0..sheet.rows {
        chains.sweep(&resident, sheet.steps)?;
        chains.visible(&resident, &mut visible)?;
        all.extend_from_slice(what(&visible));
        progress.advance(1);
    }
    Ok(all)
}
