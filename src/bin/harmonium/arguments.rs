//! The command line.

use crate::{Failure, data::Split, pool};
use clap::{
    Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
    error::ErrorKind,
    parser::ValueSource,
};
use harmonium::{Algorithm, Descent, Device, Monitor, Place, Settings, Sums};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
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
    Train(Train),
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

/// A checkpoint keeps what serde does not skip, by the options' names.
#[derive(Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Train {
    /// A folder with MNIST's IDX files (the first 50 000 training rows are trained on), or one IDX or npy file.
    #[arg(long, value_name = "PATH", default_value = DATA)]
    #[serde(serialize_with = "path")]
    pub data: PathBuf,
    /// Hidden units.
    #[arg(long, value_name = "N", default_value = "500", value_parser = at_least::<1>)]
    pub hidden: usize,
    /// Passes over the data.
    #[arg(long, value_name = "N", default_value = "15", value_parser = at_least::<1>)]
    pub epochs: usize,
    /// Rows an update; rows left over at the end of an epoch are dropped.
    #[arg(long, value_name = "N", default_value = "20", value_parser = at_least::<1>)]
    pub batch_size: usize,
    /// Learning rate of the mean gradient over a batch.
    #[arg(long, value_name = "RATE", default_value = "0.1", value_parser = rate, allow_negative_numbers = true)]
    #[serde(serialize_with = "shortest")]
    pub lr: f32,
    /// Persistent contrastive divergence, or contrastive divergence.
    #[arg(long, value_name = "NAME", default_value = "pcd", value_parser = algorithm())]
    #[serde(serialize_with = "name")]
    pub algorithm: Algorithm,
    /// Gibbs steps an update.
    #[arg(long, value_name = "N", default_value = "15", value_parser = at_least::<1>)]
    pub k: usize,
    /// Persistent chains; only with --algorithm pcd [default: the batch size].
    #[arg(long, value_name = "N", value_parser = at_least::<1>)]
    pub chains: Option<usize>,
    /// Pseudo-likelihood by one bit an update or over all bits, reconstruction cross-entropy, or nothing
    /// [default: pl for pcd, reconstruction for cd].
    #[arg(long, value_name = "NAME", value_parser = named(&Monitor::ALL))]
    pub monitor: Option<Monitor>,
    /// After every N updates write to DIR/health.csv how the persistent chains are, from 1000 Gibbs steps of copies: R̂,
    /// effective sample size, autocorrelation time, flip rates, and their free energy beside that of as many chains started
    /// at rows from all over the data; with a warning where they lag. Changes nothing in what is learnt. Only with
    /// --algorithm pcd.
    #[arg(long, value_name = "N", value_parser = at_least::<1>)]
    pub health_every: Option<usize>,
    /// Train on the first ROWS training rows only.
    #[arg(long, value_name = "ROWS", value_parser = at_least::<1>)]
    pub limit: Option<usize>,
    /// Chooses all random numbers: the same seed gives the same model, whatever the number of threads.
    #[arg(long, value_name = "N", default_value = "123")]
    pub seed: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub compute: Compute,
    /// Height and width of the pictures in the rows [default: what the data file says, or square].
    #[arg(long, value_name = "HxW", value_parser = sides)]
    #[serde(serialize_with = "by")]
    pub image: Option<Sides>,
    /// Folder for the model, pictures and log; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "harmonium-out")]
    #[serde(skip)]
    pub out: PathBuf,
    /// Rows of samples, 1000 Gibbs steps apart, drawn when the training is done; 0 for no samples.
    #[arg(long, value_name = "ROWS", default_value = "10")]
    #[serde(skip)]
    pub samples: usize,
    /// How often DIR/checkpoint.safetensors is written: every so many updates, epochs or minutes, as in 500updates.
    #[arg(long, value_name = "N[updates|epochs|minutes]", default_value = "1epochs", value_parser = every)]
    pub checkpoint_every: Every,
    /// Go on, to the bit, where DIR/checkpoint.safetensors stands, with the options it was made with; only --epochs,
    /// --threads, --device, --samples, --quiet, --checkpoint-every, --stop-after and the place of the same data may be
    /// others.
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub resume: Option<PathBuf>,
    /// Stop with a checkpoint after N updates, counted from the run's beginning, to be resumed later.
    #[arg(long, value_name = "N", value_parser = at_least::<1>)]
    #[serde(skip)]
    pub stop_after: Option<usize>,
    /// Say nothing but errors.
    #[arg(long)]
    #[serde(skip)]
    pub quiet: bool,
    /// The names of the options that were said, not left to their defaults.
    #[arg(skip)]
    #[serde(skip)]
    pub said: Vec<String>,
}

#[derive(Args)]
pub struct Sample {
    /// A model file, as train writes it.
    pub model: PathBuf,
    /// Where the chains start: a folder with MNIST's IDX files (test rows, where there are any), or one IDX or npy file.
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
    /// The picture to write.
    #[arg(long, value_name = "FILE", default_value = "samples.png")]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct Evaluate {
    /// A model file, as train writes it.
    pub model: PathBuf,
    /// A folder with MNIST's IDX files, or one IDX or npy file, of which all rows are taken.
    #[arg(long, value_name = "PATH", default_value = DATA)]
    pub data: PathBuf,
    /// Which rows of a folder: its first 50 000 training rows, those behind them, or its test rows [default: test].
    #[arg(long, value_name = "NAME", value_parser = named(Split::ALL))]
    pub split: Option<Split>,
    /// Evaluate the first ROWS of them only.
    #[arg(long, value_name = "ROWS", value_parser = at_least::<1>)]
    pub limit: Option<usize>,
    /// The rows that the model was trained on, for annealing's base rate and the chains that reverse runs start from: a folder
    /// with MNIST's IDX files (its first 50 000 training rows), or one IDX or npy file [default: the training rows of a folder
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
    /// Where half of the chains start: a folder with MNIST's IDX files (test rows, where there are any), or one IDX or npy
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

/// How often something happens.
#[derive(Clone, Copy)]
pub enum Every {
    Updates(u64),
    Epochs(u64),
    Minutes(u64),
}

impl Serialize for Every {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Every::Updates(n) => serializer.collect_str(&format_args!("{n}updates")),
            Every::Epochs(n) => serializer.collect_str(&format_args!("{n}epochs")),
            Every::Minutes(n) => serializer.collect_str(&format_args!("{n}minutes")),
        }
    }
}

fn every(text: &str) -> Result<Every, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let every = number.parse().ok().filter(|&n| n > 0).and_then(|n| match unit.trim_start() {
        "update" | "updates" => Some(Every::Updates(n)),
        "" | "epoch" | "epochs" => Some(Every::Epochs(n)),
        "minute" | "minutes" => Some(Every::Minutes(n)),
        _ => None,
    });
    every.ok_or_else(|| {
        "expected a whole number of at least 1 and updates, epochs or minutes, such as 500updates".into()
    })
}

/// Height and width, or rows and columns.
type Sides = (usize, usize);

fn sides(text: &str) -> Result<Sides, String> {
    let sides = text.split_once('x').and_then(|(h, w)| Some((at_least::<1>(h).ok()?, at_least::<1>(w).ok()?)));
    sides.ok_or_else(|| "expected two whole numbers of at least 1, such as 28x28".into())
}

/// One of some choices, by its name.
fn named<T>(all: &'static [T]) -> impl TypedValueParser<Value = T>
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

fn at_least<const LEAST: usize>(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&n| n >= LEAST);
    number.ok_or_else(|| format!("expected a whole number of at least {LEAST}"))
}

/// More than any machine has processors, and fewer than take minutes to start.
const MOST_THREADS: usize = 1024;

fn threads(text: &str) -> Result<usize, String> {
    let number = at_least::<1>(text).ok().filter(|&n| n <= MOST_THREADS);
    number.ok_or_else(|| format!("expected a whole number of at least 1 and at most {MOST_THREADS}"))
}

fn rate(text: &str) -> Result<f32, String> {
    let rate = text.parse().ok().filter(|x: &f32| x.is_finite() && *x > 0.0);
    rate.ok_or_else(|| "expected a finite number above 0".into())
}

/// The number of chains comes by another option: [`Train::fill_in`].
fn algorithm() -> impl TypedValueParser<Value = Algorithm> {
    PossibleValuesParser::new(Algorithm::all(0).map(Algorithm::name)).try_map(|name| Algorithm::named(&name, 0))
}

fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

fn shortest<S: Serializer>(x: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{x:?}"))
}

fn by<S: Serializer>(sides: &Option<Sides>, serializer: S) -> Result<S::Ok, S::Error> {
    sides.map(|(height, width)| format!("{height}x{width}")).serialize(serializer)
}

fn name<S: Serializer>(algorithm: &Algorithm, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(algorithm.name())
}

/// Older checkpoints have no `road`: their sums were canonical.
fn unless_canonical<S: Serializer>(road: &Sums, serializer: S) -> Result<S::Ok, S::Error> {
    Some(road).filter(|&&road| road != Sums::Canonical).map(Sums::to_string).serialize(serializer)
}

impl Train {
    /// Settles the defaults that depend on other options.
    fn fill_in(&mut self) {
        let usual = match &mut self.algorithm {
            Algorithm::Pcd { n_chains } => {
                *n_chains = *self.chains.get_or_insert(self.batch_size);
                Monitor::PseudoLikelihood
            }
            _ => Monitor::Reconstruction,
        };
        self.monitor.get_or_insert(usual);
    }

    /// What can be told of the options alone.
    pub fn check(&self) -> Result<(), Failure> {
        let only_pcd = [
            ("--chains", self.chains, "cd has a chain for each row of a batch"),
            ("--health-every", self.health_every, "cd has no chains that last"),
        ];
        for (option, value, why) in only_pcd {
            if let (Algorithm::Cd, Some(n)) = (self.algorithm, value) {
                let text = format!("{option}: expected only with --algorithm pcd ({why}), found {n}");
                return Err(Failure::Usage(text));
            }
        }
        Ok(())
    }

    pub fn settings(&self) -> Settings {
        let monitor = self.monitor.unwrap_or(Monitor::None);
        Settings { algorithm: self.algorithm, k: self.k, monitor, seed: self.seed, descent: Descent::default() }
    }

    /// All options that a checkpoint keeps; null where there is nothing to keep.
    fn kept(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(options)) => options,
            other => unreachable!("options are texts and numbers, not {other:?}"),
        }
    }

    /// The options as a checkpoint keeps them.
    pub fn stored(&self) -> BTreeMap<String, String> {
        let text = |(name, value)| match value {
            Value::Null => None,
            Value::String(text) => Some((name, text)),
            number => Some((name, number.to_string())),
        };
        self.kept().into_iter().filter_map(text).collect()
    }

    /// The options that [`stored`](Self::stored) gave, read as the command line is; what it does not give is left to the
    /// defaults.
    pub fn from_stored(stored: &BTreeMap<String, String>) -> Result<Self, String> {
        let known = Self::from_words([])?.kept();
        if let Some(name) = stored.keys().find(|name| !known.contains_key(*name)) {
            return Err(format!("--{name}"));
        }
        Self::from_words(stored.iter().map(|(name, value)| format!("--{name}={value}")))
    }

    fn from_words(options: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let command = Self::augment_args(clap::Command::new("train").no_binary_name(true));
        let parsed = command.try_get_matches_from(options).and_then(|matches| Self::from_arg_matches(&matches));
        let mut train = parsed.map_err(|problem| one_line(&problem.to_string()))?;
        train.fill_in();
        Ok(train)
    }
}

/// The command, or none where the user only wanted to read the help; an error is one line.
pub fn parse() -> Result<Option<Command>, String> {
    let parsed = Arguments::command().try_get_matches().and_then(|matches| {
        let mut arguments = Arguments::from_arg_matches(&matches)?;
        if let (Command::Train(train), Some((_, matches))) = (&mut arguments.command, matches.subcommand()) {
            let said = matches.ids().filter(|id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine));
            train.said = said.map(|id| id.as_str().replace('_', "-")).collect();
            train.fill_in();
        }
        Ok(arguments.command)
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
fn one_line(text: &str) -> String {
    let lines =
        text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let words: Vec<_> = lines.filter(|line| !line.is_empty() && !line.starts_with("tip:")).collect();
    let line = words.join(" ").replace(" [possible values: ", ": expected one of ");
    line.trim_start_matches("error: ").trim_end_matches(']').to_string()
}
