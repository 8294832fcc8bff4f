//! `harmonium sample`, and the sheet of samples at the end of training.

use crate::{
    arguments::Sample,
    console::{self, Progress},
    data,
};
use harmonium::{
    Activations, Chains, Dataset, Device, Error, Purpose, Rbm, Resident, Result, Uniforms, model,
    raster::{self, Raster},
};

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
    let rbm = model::load(&options.model)?;
    let images = data::fitting(rbm.shape(), &options.model, &options.data, data::starting)?;
    if options.chains > images.rows.len() {
        return Err(Error::Argument {
            what: "--chains",
            expected: format!("at most {}, the rows of {} to start from", images.rows.len(), options.data.display()),
            found: options.chains.to_string(),
        });
    }
    let sides = data::sides(options.image, images.img_shape, rbm.shape().n_visible())?;
    let sheet = Sheet { chains: options.chains, rows: options.rows, steps: options.steps };
    let progress = Progress::new(sheet.rows as u64, "rows", false);
    let picture = draw(device, &rbm, &images.rows, sides, sheet, options.seed, &progress)?;
    raster::write_png(&picture, &options.out)?;
    drop(progress);
    console::say(&format!("{}: {} × {} pixels", options.out.display(), picture.height(), picture.width()));
    Ok(())
}

/// Starts chains at rows from all over the data and shows their visible means after every `sheet.steps` Gibbs steps; they go
/// on from samples. (The tutorial's start at rows side by side, which in MNIST are of all classes.)
pub fn draw(
    device: &Device, rbm: &Rbm, rows: &Dataset, sides: (usize, usize), sheet: Sheet, seed: u64, progress: &Progress,
) -> Result<Raster<u8>> {
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
    let mut means = Vec::new();
    for _ in 0..sheet.rows {
        chains.sweep(&resident, sheet.steps)?;
        chains.visible(&resident, &mut visible)?;
        means.extend_from_slice(&visible.mean);
        progress.advance(1);
    }
    raster::sample_sheet(&means, sides, sheet.rows, sheet.chains)
}
