//! The command line: commands, options that several commands share, and how values are parsed.

use crate::{
    Failure,
    classify::Classify,
    diagnose::Diagnose,
    evaluate::Evaluate,
    examples,
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

/// The default folder of data.
pub const DATA: &str = "data/mnist";

/// Headings of groups of options in the help.
pub const DATA_HEADING: &str = "Data";
pub const COMPUTE_HEADING: &str = "Computation";
pub const OUTPUT_HEADING: &str = "Output";

/// Trains Restricted Boltzmann Machines, measures their likelihood, samples from them and shows what they have learned.
#[derive(Parser)]
#[command(version, arg_required_else_help = false, after_help = examples::ALL)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Train a model; without options, the run of the Deep Learning Tutorials on MNIST.
    #[command(after_help = examples::TRAIN)]
    Train(Box<Train>),
    /// Draw samples from a model, as an image or as numbers.
    #[command(after_help = examples::SAMPLE)]
    Sample(Sample),
    /// Fill in missing values with their means, given the known values of each row.
    #[command(after_help = examples::IMPUTE)]
    Impute(Impute),
    /// Measure the likelihood of data: log Z and log-likelihood with intervals, pseudo-likelihood, free energy.
    #[command(after_help = examples::EVALUATE)]
    Evaluate(Evaluate),
    /// Compute features: P(h = 1|v) of the hidden units for each row.
    #[command(after_help = examples::TRANSFORM)]
    Transform(Transform),
    /// Score each row: free energy, log-likelihood, pseudo-likelihood, reconstruction.
    #[command(after_help = examples::SCORE)]
    Score(Score),
    /// Predict labels: the exact probability of each label given the other values of the row.
    #[command(after_help = examples::CLASSIFY)]
    Classify(Classify),
    /// Check whether Gibbs chains of a model mix: R̂, effective sample size, autocorrelation time.
    #[command(after_help = examples::DIAGNOSE)]
    Diagnose(Diagnose),
    /// Draw the weights of the hidden units as images.
    #[command(after_help = examples::FILTERS)]
    Filters(Filters),
    /// Write a report of a run: one HTML page with curves, images, histograms and settings.
    #[command(after_help = examples::REPORT)]
    Report(Report),
    /// Print the size of a model and statistics of its parameters.
    #[command(after_help = examples::INFO)]
    Info(Info),
    /// Convert a model of scikit-learn or rbms to a model file.
    #[command(after_help = examples::IMPORT)]
    Import(Import),
    /// Convert a model file for scikit-learn or rbms.
    #[command(after_help = examples::EXPORT)]
    Export(Export),
    /// List public data sets, or print how a data file is read.
    #[command(after_help = examples::DATA)]
    Data(Guide),
    /// Print a shell's completion script for commands and options.
    #[command(after_help = examples::COMPLETIONS)]
    Completions(Completions),
    /// Write manual pages, one for each command.
    #[command(after_help = examples::MAN)]
    Man(Manual),
}

// The options of every command that computes.
#[derive(Args, Clone, Copy, Serialize)]
pub struct Compute {
    /// Number of threads [default: the number of processors].
    #[arg(long, value_name = "N", value_parser = threads, help_heading = COMPUTE_HEADING)]
    #[serde(skip)]
    pub threads: Option<usize>,
    /// Device: cpu, or cuda[:N] for CUDA device N in a build with CUDA.
    #[arg(long, value_name = "NAME", default_value = "cpu", value_parser = place, help_heading = COMPUTE_HEADING)]
    #[serde(skip)]
    pub device: Place,
    /// How to compute the sums over units: canonical, gemm, gemm-tf32 or auto.
    ///
    /// canonical adds in one fixed order and gives the same bits on all hardware. gemm uses the products of a matrix library.
    /// gemm-tf32, on a GPU only, may round factors to eleven bits. auto uses gemm on a GPU for many chains or rows, and canonical
    /// otherwise.
    #[arg(
        long,
        alias = STORED_SUMS,
        value_name = "NAME",
        default_value = "canonical",
        value_parser = named(Sums::ALL),
        hide_possible_values = true,
        help_heading = COMPUTE_HEADING
    )]
    #[serde(rename = "road", serialize_with = "unless_canonical")]
    pub sums: Sums,
}

/// The name of `--sums` in checkpoints, and on the command line of older versions.
const STORED_SUMS: &str = "road";

/// The name under which a checkpoint stores an option.
pub fn stored_name(option: &str) -> &str {
    if option == "sums" { STORED_SUMS } else { option }
}

/// The option of a name in a checkpoint.
pub fn option_name(stored: &str) -> &str {
    if stored == STORED_SUMS { "sums" } else { stored }
}

impl Compute {
    /// Runs the whole `job` on the device inside one thread pool. Entering a pool costs as much as a few Gibbs steps, so it happens
    /// once.
    pub fn run<T: Send>(self, job: impl FnOnce(&Device) -> harmonium::Result<T> + Send) -> Result<T, Failure> {
        if (self.device, self.sums) == (Place::Cpu, Sums::GemmTf32) {
            let text = "--sums: expected canonical, gemm or auto with --device cpu, found gemm-tf32";
            return Err(Failure::Usage(text.into()));
        }
        let device = ranks::open(self.device, self.sums)?;
        pool::install(ranks::threads(self.threads)?, || job(&device))
    }
}

/// Height and width, or rows and columns.
pub type Sides = (usize, usize);

pub fn sides(text: &str) -> Result<Sides, String> {
    let sides = text.split_once('x').and_then(|(h, w)| Some((at_least::<1>(h).ok()?, at_least::<1>(w).ok()?)));
    sides.ok_or_else(|| "expected two whole numbers of at least 1, such as 28x28".into())
}

/// A parser for one of several choices, by name.
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

/// More than the processors of any machine, and few enough to start in an instant.
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

/// Nothing for canonical sums, the only ones of older versions.
fn unless_canonical<S: Serializer>(sums: &Sums, serializer: S) -> Result<S::Ok, S::Error> {
    Some(sums).filter(|&&sums| sums != Sums::Canonical).map(Sums::to_string).serialize(serializer)
}

/// Parses a command line; adds the recipe's options to those of [`Train`]. Also returns the names of the options on the command line.
fn with_recipe(words: Vec<OsString>) -> Result<(Arguments, Vec<String>), clap::Error> {
    let matches = Arguments::command().try_get_matches_from(&words)?;
    let arguments = Arguments::from_arg_matches(&matches)?;
    let (Command::Train(train), Some((_, matches))) = (&arguments.command, matches.subcommand()) else {
        return Ok((arguments, Vec::new()));
    };
    let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let given = matches.ids().map(clap::Id::as_str).filter(|id| is_given(id)).map(|id| id.replace('_', "-")).collect();
    // A resumed run takes its options from the checkpoint.
    let is_set = |option: &str| train.resume.is_some() || is_given(&option.replace('-', "_"));
    let more = train.recipe.options(is_set);
    let more = more.into_iter().map(|(name, value)| OsString::from(format!("--{name}={value}")));
    let matches = Arguments::command().try_get_matches_from(words.into_iter().chain(more))?;
    Ok((Arguments::from_arg_matches(&matches)?, given))
}

/// The definition of the whole command line.
pub fn all() -> clap::Command {
    Arguments::command()
}

/// The names of the commands.
pub fn names() -> String {
    let all = all();
    let names: Vec<_> = all.get_subcommands().map(clap::Command::get_name).collect();
    names.join(", ")
}

/// Parses the command line. `None` after printing the help or the version; an error is one line.
pub fn parse() -> Result<Option<Command>, String> {
    let parsed = with_recipe(env::args_os().collect()).map(|(mut arguments, given)| {
        if let Command::Train(train) = &mut arguments.command {
            train.begin(given);
        }
        arguments.command
    });
    parsed.map(Some).or_else(|problem| match problem.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // The reader may have closed the pipe.
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

/// The parser's message in one line, without usage and tips.
pub fn one_line(text: &str) -> String {
    let lines =
        text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let words: Vec<_> = lines.filter(|line| !line.is_empty() && !line.starts_with("tip:")).collect();
    let line = words.join(" ").replace(" [possible values: ", ": expected one of ");
    line.trim_start_matches("error: ").trim_end_matches(']').to_string()
}
