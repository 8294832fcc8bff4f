//! The command line.

pub use crate::train::Train;
use crate::{Failure, data::Split, pool};
use clap::{
    Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
    error::ErrorKind,
    parser::ValueSource,
};
use harmonium::{Device, Place, Sums};
use serde::{Serialize, Serializer};
use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Where data is looked for unless said otherwise.
pub const DATA: &str = "data/mnist";

/// Restricted Boltzmann Machines: trains them and shows what they have learnt.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = false)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Train a model; with no option, the run of the Deep Learning Tutorials on MNIST.
    Train(Box<Train>),
    /// Draw samples from a model: one row of pictures after every STEPS Gibbs steps.
    Sample(Sample),
    /// Tell how likely a model makes data: log Z and log-likelihood with their interval, pseudo-likelihood, free energy.
    Evaluate(Evaluate),
    /// Tell whether a model's chains mix, and how fast they forget.
    Diagnose(Diagnose),
    /// Show the weights of a model's hidden units as pictures.
    Filters(Filters),
    /// Tell the size of a model and how its parameters are distributed.
    Info(Info),
}

#[derive(Args)]
pub struct Sample {
    /// A model file, as train writes it.
    pub model: PathBuf,
    /// Where the chains start: a folder with MNIST's IDX files (test rows, where there are any), or one IDX, npy or FASTA file.
    #[arg(long, value_name = "PATH", default_value = DATA)]
    pub data: PathBuf,
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

#[derive(Args)]
pub struct Evaluate {
    /// A model file, as train writes it.
    pub model: PathBuf,
    /// A folder with MNIST's IDX files, or one IDX, npy or FASTA file, of which all rows are taken.
    #[arg(long, value_name = "PATH", default_value = DATA)]
    pub data: PathBuf,
    /// Which rows of a folder: its first 50 000 training rows, those behind them, or its test rows [default: test].
    #[arg(long, value_name = "NAME", value_parser = named(Split::ALL))]
    pub split: Option<Split>,
    /// Evaluate the first ROWS of them only.
    #[arg(long, value_name = "ROWS", value_parser = at_least::<1>)]
    pub limit: Option<usize>,
    /// The rows that the model was trained on, for annealing's base rate and the chains that reverse runs start from: a folder
    /// with MNIST's IDX files (its first 50 000 training rows), or one IDX, npy or FASTA file [default: the training rows of a folder
    /// as --data; of a file the rows that are evaluated, with a notice].
    #[arg(long, value_name = "PATH")]
    pub train: Option<PathBuf>,
    /// log Z by enumeration, by annealing both ways or forward only, or not at all; auto enumerates up to 25 units in the
    /// smaller layer and else brackets.
    #[arg(long, value_enum, value_name = "NAME", default_value = "auto")]
    pub log_z: LogZ,
    /// Annealing runs from the fitted base rate, and as many chains for reverse runs.
    #[arg(long, value_name = "N", default_value = "100", value_parser = at_least::<2>)]
    pub runs: usize,
    /// Gibbs steps of the chains before reverse runs start from them.
    #[arg(long, value_name = "N", default_value = "10000", value_parser = at_least::<0>)]
    pub burn_in: usize,
    /// Temperatures of each run.
    #[arg(long, value_name = "N", default_value = "14500", value_parser = at_least::<1>)]
    pub temperatures: usize,
    /// Chooses the annealing's random numbers.
    #[arg(long, value_name = "N", default_value = "123")]
    pub seed: u64,
    #[command(flatten)]
    pub compute: Compute,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct Diagnose {
    /// A model file, as train writes it.
    pub model: PathBuf,
    /// Where half of the chains start: a folder with MNIST's IDX files (test rows, where there are any), or one IDX, npy or FASTA
    /// file.
    #[arg(long, value_name = "PATH", default_value = DATA)]
    pub data: PathBuf,
    /// Chains, half of them from data and half with all hidden units off.
    #[arg(long, value_name = "N", default_value = "20", value_parser = at_least::<2>)]
    pub chains: usize,
    /// Gibbs steps that are recorded, after as many that are not.
    #[arg(long, value_name = "N", default_value = "5000", value_parser = at_least::<4>)]
    pub steps: usize,
    #[command(flatten)]
    pub compute: Compute,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
    /// Draw the free energy of each chain over the steps, as SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

#[derive(Args)]
pub struct Filters {
    /// A model file, as train writes it.
    pub model: PathBuf,
    /// Height and width of the images that the visible units are [default: square].
    #[arg(long, value_name = "HxW", value_parser = sides)]
    pub image: Option<Sides>,
    /// Tiles from top to bottom and from left to right.
    #[arg(long, value_name = "RxC", default_value = "10x10", value_parser = sides)]
    pub tile: Sides,
    /// The picture to write.
    #[arg(long, value_name = "FILE", default_value = "filters.png")]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct Info {
    /// A model file, as train writes it.
    pub model: PathBuf,
    /// Say it as JSON.
    #[arg(long)]
    pub json: bool,
}

/// How log Z is found.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogZ {
    Auto,
    Exact,
    Ais,
    Bracket,
    None,
}

/// Where and how a command computes.
#[derive(Args, Clone, Copy, Serialize)]
pub struct Compute {
    /// Threads [default: as many as there are processors].
    #[arg(long, value_name = "N", value_parser = threads)]
    #[serde(skip)]
    pub threads: Option<usize>,
    /// Where to compute: cpu, or in a build with CUDA cuda[:N], N being the number of the device.
    #[arg(long, value_name = "NAME", default_value = "cpu", value_parser = place)]
    #[serde(skip)]
    pub device: Place,
    /// How sums are made: in one fixed order, the same bits everywhere (canonical); by products of a matrix library (gemm; on
    /// a GPU also gemm-tf32, where factors may be rounded to eleven bits); or by products on a GPU where there are many chains
    /// or rows, else canonical (auto).
    #[arg(long, value_name = "NAME", default_value = "canonical", value_parser = named(Sums::ALL), hide_possible_values = true)]
    #[serde(serialize_with = "unless_canonical")]
    pub road: Sums,
}

impl Compute {
    /// Runs `job` on the device, from beginning to end inside one pool of threads: entering a pool costs as much as some Gibbs
    /// steps.
    pub fn run<T: Send>(self, job: impl FnOnce(&Device) -> harmonium::Result<T> + Send) -> Result<T, Failure> {
        if (self.device, self.road) == (Place::Cpu, Sums::GemmTf32) {
            let text = "--road: expected gemm-tf32 only with --device cuda, found it with cpu";
            return Err(Failure::Usage(text.into()));
        }
        let device = self.device.open(self.road)?;
        pool::install(self.threads, || job(&device))
    }
}

/// Height and width, or rows and columns.
pub type Sides = (usize, usize);

pub fn sides(text: &str) -> Result<Sides, String> {
    let sides = text.split_once('x').and_then(|(h, w)| Some((at_least::<1>(h).ok()?, at_least::<1>(w).ok()?)));
    sides.ok_or_else(|| "expected two whole numbers of at least 1, such as 28x28".into())
}

/// One of some choices, by its name.
pub fn named<T>(all: &'static [T]) -> impl TypedValueParser<Value = T>
where
    T: ToString + FromStr<Err = harmonium::Error> + Clone + Send + Sync,
{
    PossibleValuesParser::new(all.iter().map(T::to_string)).try_map(|name| name.parse::<T>())
}

fn place(text: &str) -> Result<Place, String> {
    text.parse().map_err(|problem| match problem {
        harmonium::Error::Argument { expected, .. } => format!("expected {expected}"),
        other => other.to_string(),
    })
}

pub fn at_least<const LEAST: usize>(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&n| n >= LEAST);
    number.ok_or_else(|| format!("expected a whole number of at least {LEAST}"))
}

/// More than any machine has processors, and fewer than take minutes to start.
const MOST_THREADS: usize = 1024;

fn threads(text: &str) -> Result<usize, String> {
    let number = at_least::<1>(text).ok().filter(|&n| n <= MOST_THREADS);
    number.ok_or_else(|| format!("expected a whole number of at least 1 and at most {MOST_THREADS}"))
}

pub fn rate(text: &str) -> Result<f32, String> {
    let rate = text.parse().ok().filter(|x: &f32| x.is_finite() && *x > 0.0);
    rate.ok_or_else(|| "expected a finite number above 0".into())
}

pub fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

pub fn by<S: Serializer>(sides: &Option<Sides>, serializer: S) -> Result<S::Ok, S::Error> {
    sides.map(|(height, width)| format!("{height}x{width}")).serialize(serializer)
}

/// Older checkpoints have no `road`: their sums were canonical.
fn unless_canonical<S: Serializer>(road: &Sums, serializer: S) -> Result<S::Ok, S::Error> {
    Some(road).filter(|&&road| road != Sums::Canonical).map(Sums::to_string).serialize(serializer)
}

/// The options of [`Train`], with those of its recipe that were not said, and the names of those that were.
fn with_recipe(words: Vec<OsString>) -> Result<(Arguments, Vec<String>), clap::Error> {
    let matches = Arguments::command().try_get_matches_from(&words)?;
    let arguments = Arguments::from_arg_matches(&matches)?;
    let (Command::Train(train), Some((_, matches))) = (&arguments.command, matches.subcommand()) else {
        return Ok((arguments, Vec::new()));
    };
    let is_said = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let said = matches.ids().map(clap::Id::as_str).filter(|id| is_said(id)).map(|id| id.replace('_', "-")).collect();
    // A run that goes on has its options from its checkpoint.
    let is_there = |option: &str| train.resume.is_some() || is_said(&option.replace('-', "_"));
    let more = train.recipe.options(is_there);
    let more = more.into_iter().map(|(name, value)| OsString::from(format!("--{name}={value}")));
    let matches = Arguments::command().try_get_matches_from(words.into_iter().chain(more))?;
    Ok((Arguments::from_arg_matches(&matches)?, said))
}

/// The command, or none where the user only wanted to read the help; an error is one line.
pub fn parse() -> Result<Option<Command>, String> {
    let parsed = with_recipe(env::args_os().collect()).map(|(mut arguments, said)| {
        if let Command::Train(train) = &mut arguments.command {
            train.begin(said);
        }
        arguments.command
    });
    parsed.map(Some).or_else(|problem| match problem.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nobody may be reading any more.
            let _ = problem.print();
            Ok(None)
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Err("expected a command, train, sample, evaluate, diagnose, filters or info, found none (see --help)"
                .into())
        }
        _ => Err(one_line(&problem.to_string())),
    })
}

/// The parser's message without usage and advice, in one line.
pub fn one_line(text: &str) -> String {
    let lines =
        text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let words: Vec<_> = lines.filter(|line| !line.is_empty() && !line.starts_with("tip:")).collect();
    let line = words.join(" ").replace(" [possible values: ", ": expected one of ");
    line.trim_start_matches("error: ").trim_end_matches(']').to_string()
}
