//! `harmonium sample`, and the sample images at the end of training.

use crate::{
    arguments::{Compute, DATA, DATA_HEADING, OUTPUT_HEADING, Sides, at_least, sides},
    clamp::{self, Clamp, clamp},
    console::{self, Progress, complain},
    data,
    numbers::Format,
};
use clap::Args;
use harmonium::{
    Activations, Chains, Dataset, Device, Error, Ladder, Purpose, Rbm, Resident, Result, Source, Tempered, Uniforms,
    formats::Images,
    model::{self, Extras},
    raster::{self, Raster},
};
use std::path::{Path, PathBuf};

const CHAIN_HEADING: &str = "Chains";

#[derive(Args)]
pub struct Sample {
    /// Model file, as train writes it.
    pub model: PathBuf,
    /// Start of the chains: rows of --data, random hidden states, or rows of a file.
    ///
    /// Default: data if --data is given or data/mnist fits the model, else random. A notice reports the default.
    #[arg(long, value_name = "data|random|FILE", help_heading = CHAIN_HEADING)]
    pub start: Option<String>,
    /// Rows at which chains start: a folder with MNIST's IDX files, or one data file [default: data/mnist].
    ///
    /// Of a folder, the test rows, or the training rows if there are none.
    #[arg(long, value_name = "PATH", help_heading = DATA_HEADING)]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub selection: data::Selection,
    /// Clamp visible units to values, or to the rows of a file, such as 0-9,12=1 or 0-391=upper.npy.
    ///
    /// Columns count from 0. Values are unscaled: one value a column, one state number a Potts site, or one value for all columns. A file
    /// has one row for all chains or one row a chain. The option can be repeated for other columns.
    #[arg(long, value_name = "COLUMNS=VALUES|FILE", value_parser = clamp, help_heading = CHAIN_HEADING)]
    pub clamp: Vec<Clamp>,
    /// Clamp the label to this class: its name, or its number from 0 if the model has no names.
    #[arg(long, value_name = "K", help_heading = CHAIN_HEADING)]
    pub class: Option<String>,
    /// Parallel tempering with up to N temperatures, so that chains leave modes.
    ///
    /// Each chain exchanges states with hotter ones. A notice reports the temperatures and their acceptance rates.
    #[arg(long, value_name = "N", value_parser = at_least::<2>, help_heading = CHAIN_HEADING)]
    pub temper: Option<usize>,
    /// Number of chains, the columns of the image [default: 20, or the number of rows in a file of --clamp].
    #[arg(long, value_name = "N", value_parser = at_least::<1>, help_heading = CHAIN_HEADING)]
    pub chains: Option<usize>,
    /// Number of samples from each chain, the rows of the image.
    #[arg(long, value_name = "N", default_value = "10", value_parser = at_least::<1>, help_heading = CHAIN_HEADING)]
    pub rows: usize,
    /// Gibbs steps before each sample.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = at_least::<1>, help_heading = CHAIN_HEADING)]
    pub steps: usize,
    /// Seed of all random numbers, including the choice of the first rows.
    #[arg(long, value_name = "N", default_value = "123", help_heading = CHAIN_HEADING)]
    pub seed: u64,
    #[command(flatten)]
    pub compute: Compute,
    /// Write the means E[v|h]; for Potts sites the probability of each state [default for images].
    #[arg(long, conflicts_with = "bits", help_heading = OUTPUT_HEADING)]
    pub means: bool,
    /// Write the samples v themselves [default for .npy and .csv].
    #[arg(long, help_heading = OUTPUT_HEADING)]
    pub bits: bool,
    /// Height and width of the images in pixels [default: as the data file says, or square].
    #[arg(long, value_name = "HxW", value_parser = sides, help_heading = OUTPUT_HEADING)]
    pub image: Option<Sides>,
    /// PNG image to write, or an array if the name ends with .npy or .csv.
    ///
    /// A row of the array is a sample: first those of all chains after STEPS steps, then after 2·STEPS, and so on.
    #[arg(long, value_name = "FILE", default_value = "samples.png", help_heading = OUTPUT_HEADING)]
    pub out: PathBuf,
}

/// The tutorial's samples: 20 chains, ten times, 1000 Gibbs steps before each.
pub const TUTORIAL: Sheet = Sheet { chains: 20, rows: 10, steps: 1000 };
/// The greatest number of pixels of an image of samples.
pub const MOST_PIXELS: usize = 1 << 28;

/// The layout of an image of samples: chains as columns, samples of each chain as rows, and Gibbs steps before each row.
#[derive(Clone, Copy)]
pub struct Sheet {
    pub chains: usize,
    pub rows: usize,
    pub steps: usize,
}

pub fn run(device: &Device, options: &Sample) -> Result<()> {
    let (rbm, extras) = model::load_with(&options.model)?;
    let shape = rbm.shape();
    let format = Format::of(&options.out);
    let held = clamp::held(shape.visible(), &extras, &options.clamp, options.class.as_deref())?;
    let n = chains(options.chains, held.as_ref())?;
    let held = held.map(|held| data::bits(held, "--clamp"));
    let sheet = Sheet { chains: n, rows: options.rows, steps: options.steps };
    let start = start(options, (&rbm, &extras))?;
    if let Some((path, images)) = &start
        && n > images.rows.len()
    {
        return Err(Error::Argument {
            what: "--chains",
            expected: format!("at most {}, the rows of {} to start from", images.rows.len(), path.display()),
            found: n.to_string(),
        });
    }
    // Report what prevents an image before the chains run, not after.
    let pictured = data::pictured(shape.visible());
    let in_file = start.as_ref().and_then(|(_, images)| images.img_shape);
    let sides = format
        .is_none()
        .then(|| data::sides(options.image, in_file, pictured.len()).map_err(or_numbers))
        .transpose()?;
    sheet.check(shape.n_visible())?;

    let resident: Resident = rbm.on(device)?;
    let rows = start.as_ref().map(|(_, images)| &images.rows as &dyn Source);
    let mut walk = Walk::begin(&resident, rows, sheet, options.seed)?;
    if let (Walk::Alone(chains), Some(held)) = (&mut walk, &held) {
        let row = |m: usize| if held.len() == 1 { 0 } else { m };
        chains.hold(held.select(&(0..n).map(row).collect::<Vec<_>>())?.rows())?;
    }
    if let Some(at_most) = options.temper {
        walk = walk.tempered(&resident, at_most, options.seed)?;
    }
    let progress = Progress::new("samples", sheet.rows as u64, "rows", false);
    let means = if format.is_some() { options.means } else { !options.bits };
    let what = |visible: &Activations| if means { visible.mean.clone() } else { visible.sample.clone() };
    let mut values = walk.record(&resident, sheet, &progress, what)?;
    if let Walk::Tempered(chains) = &walk {
        complain(&tempering_notice(chains));
    }
    if let Some(format) = format {
        if let Some(scale) = &extras.scale {
            scale.undo(&mut values);
        }
        drop(progress);
        return format.save(&values, shape.n_visible(), &options.out, if means { "means" } else { "samples" });
    }
    let values = data::columns(&values, shape.n_visible(), pictured);
    let picture = raster::sample_sheet(&values, sides.unwrap_or_default(), sheet.rows, sheet.chains)?;
    raster::write_png(&picture, &options.out)?;
    drop(progress);
    console::say(&format!("{}: {} × {} pixels", options.out.display(), picture.height(), picture.width()));
    Ok(())
}

/// The number of chains: `asked`, else the number of clamped rows.
fn chains(asked: Option<usize>, held: Option<&Dataset>) -> Result<usize> {
    let n = held.map_or(1, Dataset::len);
    match asked {
        Some(asked) if n != 1 && n != asked => Err(Error::Argument {
            what: "--clamp",
            expected: format!("one row, or {asked}, a row for each of --chains"),
            found: n.to_string(),
        }),
        Some(asked) => Ok(asked),
        None => Ok(if n == 1 { TUTORIAL.chains } else { n }),
    }
}

/// The rows at which chains start, scaled for the model, with the path of their file. `None` for a random start.
fn start(options: &Sample, model: (&Rbm, &Extras)) -> Result<Option<(PathBuf, Images)>> {
    let usual = Path::new(DATA);
    let option = if options.start.as_deref().is_none_or(|start| start == "data") { "--data" } else { "--start" };
    let read = |path: &Path| {
        let open = |path: &Path, how: &_| data::starting(path, option, how);
        let images = data::fitting(model, &options.model, (path, &options.selection), open)?;
        Ok(Some((path.to_path_buf(), images)))
    };
    match (options.start.as_deref(), &options.data) {
        (Some("data") | None, Some(path)) => read(path),
        (Some("data"), None) => read(usual),
        (Some(start), Some(path)) => Err(Error::Argument {
            what: "--data",
            expected: format!("none with --start {start}"),
            found: path.display().to_string(),
        }),
        (Some("random"), None) => Ok(None),
        (Some(file), None) => read(Path::new(file)),
        (None, None) => {
            let random = |why: String| complain(&format!("notice: chains start at random hidden states: {why}"));
            if !matches!(usual.try_exists(), Ok(true)) {
                random(format!("{DATA} does not exist, and neither --data nor --start is given"));
                return Ok(None);
            }
            let found = read(usual);
            match &found {
                Ok(_) => complain(&format!("notice: chains start at rows of {DATA}")),
                Err(problem) => random(problem.to_string()),
            }
            found.or(Ok(None))
        }
    }
}

/// Adds the option for numbers to an error about images.
fn or_numbers(problem: Error) -> Error {
    match problem {
        Error::Argument { what, expected, found } if found == "none" => {
            let expected = format!("{expected}; or --out with a name that ends with .npy or .csv");
            Error::Argument { what, expected, found }
        }
        other => other,
    }
}

/// A notice about the temperatures and their acceptance rates.
fn tempering_notice(chains: &Tempered) -> String {
    let (betas, rates) = (chains.betas(), chains.rates());
    let percent = |x: f64| format!("{:.0} %", 100.0 * x);
    let (least, most) = rates.iter().fold((f64::INFINITY, 0.0f64), |(least, most), &x| (least.min(x), most.max(x)));
    format!(
        "notice: {} inverse temperatures from 1 to {:.3}, {} to {} of exchanges between neighbours accepted, {} round trips",
        betas.len(),
        betas[betas.len() - 1],
        percent(least),
        percent(most),
        chains.round_trips()
    )
}

/// Starts chains at random rows of the data and draws their visible means after every `sheet.steps` Gibbs steps; chains continue from
/// samples. (The tutorial's chains start at consecutive rows, which in MNIST are of all classes.)
pub fn draw(
    device: &Device, rbm: &Rbm, rows: &dyn Source, sides: (usize, usize), sheet: Sheet, seed: u64, progress: &Progress,
) -> Result<Raster<u8>> {
    sheet.check(rbm.shape().n_visible())?;
    let resident = rbm.on(device)?;
    let mut walk = Walk::begin(&resident, Some(rows), sheet, seed)?;
    let means = walk.record(&resident, sheet, progress, |visible| visible.mean.clone())?;
    let means = data::columns(&means, rbm.shape().n_visible(), data::pictured(rbm.shape().visible()));
    raster::sample_sheet(&means, sides, sheet.rows, sheet.chains)
}

impl Sheet {
    /// Fails if the image would have too many pixels.
    fn check(self, units: usize) -> Result<()> {
        let pixels = self.rows.checked_mul(self.chains).and_then(|n| n.checked_mul(units));
        if pixels.is_some_and(|n| n <= MOST_PIXELS) {
            return Ok(());
        }
        Err(Error::Argument {
            what: "--chains and --rows",
            expected: format!("at most {} images", MOST_PIXELS / units),
            found: format!("{} × {}", self.chains, self.rows),
        })
    }
}

/// The sampled chains.
enum Walk {
    Alone(Box<Chains>),
    Tempered(Box<Tempered>),
}

/// Rounds for adapting the ladder of temperatures.
const LADDER_ROUNDS: usize = 1000;

impl Walk {
    /// Chains at random rows of the data, or without rows at random hidden states.
    fn begin(resident: &Resident, rows: Option<&dyn Source>, sheet: Sheet, seed: u64) -> Result<Self> {
        let draws = Uniforms::new(seed, Purpose::Sampling);
        let chains = match rows {
            Some(rows) => {
                let starts = data::from_all_over(rows, sheet.chains, seed)?;
                Chains::from_visible(resident, starts.rows(), draws)?
            }
            None => Chains::from_hidden_bias(resident, sheet.chains, draws)?,
        };
        Ok(Walk::Alone(Box::new(chains)))
    }

    /// Adds hotter chains to each chain.
    fn tempered(self, resident: &Resident, at_most: usize, seed: u64) -> Result<Self> {
        let Walk::Alone(start) = self else { return Ok(self) };
        let ladder = Ladder::Adapted { at_most, rounds: LADDER_ROUNDS };
        let exchanges = Uniforms::new(seed, Purpose::Exchanging);
        let tempered = Tempered::new(resident, &start, ladder, exchanges).map_err(|problem| match problem {
            Error::Argument { expected, found, .. } => Error::Argument { what: "--temper", expected, found },
            other => other,
        })?;
        Ok(Walk::Tempered(Box::new(tempered)))
    }

    /// The visible layers of all chains after every `sheet.steps` Gibbs steps.
    fn record(
        &mut self, resident: &Resident, sheet: Sheet, progress: &Progress, what: impl Fn(&Activations) -> Vec<f32>,
    ) -> Result<Vec<f32>> {
        let mut visible = Activations::default();
        let mut all = Vec::new();
        for _ in 0..sheet.rows {
            match self {
                Walk::Alone(chains) => {
                    chains.sweep(resident, sheet.steps)?;
                    chains.visible(resident, &mut visible)?;
                }
                Walk::Tempered(chains) => {
                    (0..sheet.steps).try_for_each(|_| chains.step(resident, 1))?;
                    chains.coldest(resident, &mut visible)?;
                }
            }
            all.extend(what(&visible));
            progress.advance(1);
        }
        Ok(all)
    }
}
