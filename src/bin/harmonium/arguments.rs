//! The command line.

use crate::{
    Failure,
    classify::Classify,
    diagnose::Diagnose,
    evaluate::Evaluate,
    exchange::{Export, Import},
    filters::Filters,
    guide::Guide,
    impute::Impute,
    info::Info,
    pool, ranks,
    report::Report,
    sample::Sample,
    score::Score,
    shell::{Completions, Manual},
    train::Train,
    transform::Transform,
};
use clap::{
    Args, CommandFactory, FromArgMatches, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
    error::ErrorKind,
    parser::ValueSource,
};
use harmonium::{Device, Place, Sums};
use serde::{Serialize, Serializer};
use std::{env, ffi::OsString, path::Path, str::FromStr};

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
    /// Fill in what is missing of data: means given what is there of each row.
    Impute(Impute),
    /// Tell how likely a model makes data: log Z and log-likelihood with their interval, pseudo-likelihood, free energy.
    Evaluate(Evaluate),
    /// Write what a model's hidden units are in data: P(h = 1|v), a row for each row.
    Transform(Transform),
    /// Write how likely a model makes each row: free energy, log-likelihood, pseudo-likelihood, reconstruction.
    Score(Score),
    /// Tell the labels of data: the exact probability of each label given the rest of the row.
    Classify(Classify),
    /// Tell whether a model's chains mix, and how fast they forget.
    Diagnose(Diagnose),
    /// Show the weights of a model's hidden units as pictures.
    Filters(Filters),
    /// Show a run on one page: curves, filters, chains, samples, weights, hidden units, settings and files.
    Report(Report),
    /// Tell the size of a model and how its parameters are distributed.
    Info(Info),
    /// Make a model file of a model of scikit-learn or rbms.
    Import(Import),
    /// Write a model for scikit-learn or rbms.
    Export(Export),
    /// List public data, or print how a file of data is read.
    Data(Guide),
    /// Print a script with which a shell completes commands and options.
    Completions(Completions),
    /// Write manual pages, one for each command.
    Man(Manual),
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
        let device = ranks::device(self.device.open(self.road)?)?;
        pool::install(ranks::threads(self.threads)?, || job(&device))
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

/// The whole command line.
pub fn all() -> clap::Command {
    Arguments::command()
}

/// The names of the commands.
pub fn names() -> String {
    let all = all();
    let names: Vec<_> = all.get_subcommands().map(clap::Command::get_name).collect();
    names.join(", ")
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
            if ranks::is_first() {
                let _ = problem.print();
            }
            Ok(None)
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Err(format!("expected a command, one of {}, found none (see --help)", names()))
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
