//! `harmonium sample`, and the sheet of samples at the end of training.

use crate::{
    arguments::{Compute, DATA, Sides, at_least, sides},
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

#[derive(Args)]
pub struct Sample {
    /// A model file, as train writes it.
    pub model: PathBuf,
    /// Where the chains start: at rows of --data, at random hidden states, or at rows of another file [default: data where --data
    /// is said or data/mnist fits the model, else random].
    #[arg(long, value_name = "data|random|FILE")]
    pub start: Option<String>,
    /// Rows that chains start at: a folder with MNIST's IDX files (test rows, where there are any), or one file of data [default:
    /// data/mnist].
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub selection: data::Selection,
    /// Hold visible units at values, all chains at the same ones, or at the rows of a file, a row a chain or one for all. Columns
    /// are counted from 0, values are those of data: one a column, one for each Potts site, the number of its state, or a single
    /// one. May be said again for other columns.
    #[arg(long, value_name = "COLUMNS=VALUES|FILE", value_parser = clamp)]
    pub clamp: Vec<Clamp>,
    /// Hold the last site of labels at this class: its name, or where the model has no names its number, counted from 0.
    #[arg(long, value_name = "K")]
    pub class: Option<String>,
    /// Let each chain change places with hotter ones, at up to N temperatures, so that it leaves a mode that it would stay in.
    #[arg(long, value_name = "N", value_parser = at_least::<2>)]
    pub temper: Option<usize>,
    /// Chains: pictures from left to right [default: 20, or as many as a file of --clamp has rows].
    #[arg(long, value_name = "N", value_parser = at_least::<1>)]
    pub chains: Option<usize>,
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
    /// Write means given the hidden layer, of Potts sites the probability of each state [default for pictures].
    #[arg(long, conflicts_with = "bits")]
    pub means: bool,
    /// Write the samples themselves [default for numbers].
    #[arg(long)]
    pub bits: bool,
    /// Height and width of the pictures in the rows [default: what the data file says, or square].
    #[arg(long, value_name = "HxW", value_parser = sides)]
    pub image: Option<Sides>,
    /// The picture to write, or, where the name ends with .npy or .csv, the numbers, a row a sample: all chains at one time, then
    /// at the next.
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
    // What makes no picture is told before the chains have run, not after.
    let pictured = data::pictured(shape.visible());
    let said = start.as_ref().and_then(|(_, images)| images.img_shape);
    let sides =
        format.is_none().then(|| data::sides(options.image, said, pictured.len()).map_err(or_numbers)).transpose()?;
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
    let progress = Progress::new(sheet.rows as u64, "rows", false);
    let means = if format.is_some() { options.means } else { !options.bits };
    let what = |visible: &Activations| if means { visible.mean.clone() } else { visible.sample.clone() };
    let mut values = walk.record(&resident, sheet, &progress, what)?;
    if let Walk::Tempered(chains) = &walk {
        complain(&told(chains));
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

/// How many chains there are: as many as were asked for, or as the rows that they are held at.
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

/// The rows that chains start at, with the name of their file, as the model sees them; none where they start at random.
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
            let random = |why: String| complain(&format!("notice: chains start at random hidden states, as {why}"));
            if !matches!(usual.try_exists(), Ok(true)) {
                random(format!("there is no {DATA} and neither --data nor --start"));
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

/// Pictures are not all that there is.
fn or_numbers(problem: Error) -> Error {
    match problem {
        Error::Argument { what, expected, found } if found == "none" => {
            let expected = format!("{expected}; or --out with a name that ends with .npy or .csv");
            Error::Argument { what, expected, found }
        }
        other => other,
    }
}

/// What the ladder became, and how well it served.
fn told(chains: &Tempered) -> String {
    let (betas, rates) = (chains.betas(), chains.rates());
    let percent = |x: f64| format!("{:.0} %", 100.0 * x);
    let (least, most) = rates.iter().fold((f64::INFINITY, 0.0f64), |(least, most), &x| (least.min(x), most.max(x)));
    format!(
        "notice: {} temperatures from 1 to {:.3}, neighbours swapped at {} to {}, {} round trips",
        betas.len(),
        betas[betas.len() - 1],
        percent(least),
        percent(most),
        chains.round_trips()
    )
}

/// Starts chains at rows from all over the data and shows their visible means after every `sheet.steps` Gibbs steps; they go
/// on from samples. (The tutorial's start at rows side by side, which in MNIST are of all classes.)
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
    /// Fails where so much does not fit into a picture.
    fn check(self, units: usize) -> Result<()> {
        let pixels = self.rows.checked_mul(self.chains).and_then(|n| n.checked_mul(units));
        if pixels.is_some_and(|n| n <= MOST_PIXELS) {
            return Ok(());
        }
        Err(Error::Argument {
            what: "--chains and --rows",
            expected: format!("at most {} pictures", MOST_PIXELS / units),
            found: format!("{} × {}", self.chains, self.rows),
        })
    }
}

/// Chains that are sampled from.
enum Walk {
    Alone(Box<Chains>),
    Tempered(Box<Tempered>),
}

/// Rounds in which a ladder of temperatures is found.
const LADDER_ROUNDS: usize = 1000;

impl Walk {
    /// Chains at rows from all over the data, or where there are none at random hidden states.
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

    /// The same with hotter chains beside each.
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

    /// What visible layers are after every `sheet.steps` Gibbs steps: of all chains at one time, then at the next.
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
