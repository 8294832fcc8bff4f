//! The options of `harmonium train`: from the command line, and back from a checkpoint.

use super::{
    recipes::Recipe,
    values::{
        Every, Init, Keep, Pull, Scaling, Share, Switch, Validation, every, if_given, if_on, name, shortest, shown,
        text, unless_1, unless_usual,
    },
};
use crate::{
    Failure,
    arguments::{Compute, DATA, DATA_HEADING, OUTPUT_HEADING, Sides, at_least, by, named, one_line, path, rate, sides},
    console::complain,
    data::Selection,
};
use clap::{
    Args, FromArgMatches,
    builder::{PossibleValuesParser, TypedValueParser},
};
use harmonium::{
    Algorithm, Binarise, Descent, Error, Monitor, Segments, Settings,
    descent::{Centring, Rate, Sparsity, Steps},
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Headings of the help that only this command has.
const MODEL_HEADING: &str = "Model";
const LENGTH_HEADING: &str = "Length of the run";
const UPDATE_HEADING: &str = "Parameter updates";
const MONITOR_HEADING: &str = "Monitoring";

// Serde writes the options that a checkpoint keeps, by their names. An option that older versions did not have is left out if it has
// its default value.
#[derive(Args, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Train {
    /// Table of defaults for the other options.
    ///
    /// The run prints the table before training starts. An option on the command line overrides its entry.
    #[arg(long, value_name = "NAME", default_value = "tutorial", value_enum, help_heading = DATA_HEADING)]
    #[serde(serialize_with = "unless_usual")]
    pub recipe: Recipe,
    /// Training data: a folder with MNIST's IDX files, or one data file.
    ///
    /// Of a folder, training uses the first 50 000 training rows. A file can be IDX, npy, npz, FASTA, svmlight or a text table.
    #[arg(long, value_name = "PATH", default_value = DATA, help_heading = DATA_HEADING)]
    #[serde(serialize_with = "path")]
    pub data: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    pub selection: Selection,
    /// Read the rows of an npy file from disk as training needs them [default: if they exceed half of the free memory].
    ///
    /// The model is the same.
    #[arg(long, help_heading = DATA_HEADING)]
    #[serde(skip)]
    pub in_place: bool,
    /// Types of the visible units, in the order of the columns [default: binary; potts for a FASTA file].
    ///
    /// binary:N for N values in [0, 1]; potts:SITESxSTATES for categories, as one-hot values or as one column of state numbers a site;
    /// gaussian:N for N real numbers. Commas join several types. With one unit more than pixels, the last column is MNIST's label:
    /// binary:784,potts:1x10.
    #[arg(long, value_name = "TYPES", value_parser = text::<Segments>, help_heading = MODEL_HEADING)]
    #[serde(serialize_with = "if_given")]
    pub visible: Option<Segments>,
    /// Scale the columns before training.
    ///
    /// max divides binary and Gaussian units by the greatest absolute value of all columns. minmax maps each column of such units to
    /// [0, 1]. standard gives each column of Gaussian units mean 0 and variance 1. The model file keeps the scale; other commands
    /// apply it to their data and undo it in samples.
    #[arg(
        long,
        value_name = "none|max|minmax|standard",
        default_value = "none",
        value_enum,
        hide_possible_values = true,
        help_heading = DATA_HEADING
    )]
    #[serde(serialize_with = "unless_usual")]
    pub scale: Scaling,
    /// Train on the first ROWS training rows only [default: all].
    #[arg(long, value_name = "ROWS", value_parser = at_least::<1>, help_heading = DATA_HEADING)]
    pub limit: Option<usize>,
    /// How values between 0 and 1 become bits.
    ///
    /// none keeps them. threshold sets a bit if x >= 0.5; threshold:LOW-HIGH draws a new threshold for each row in each epoch.
    /// sample draws new bits in each epoch, with P(bit = 1) = x.
    #[arg(
        long,
        value_name = "none|threshold[:LOW-HIGH]|sample",
        default_value = "none",
        value_parser = text::<Binarise>,
        help_heading = DATA_HEADING
    )]
    #[serde(serialize_with = "unless_usual")]
    pub binarise: Binarise,
    /// Shuffle the rows in each epoch [default: on; off for the tutorial's recipe on a folder].
    #[arg(long, value_name = "on|off", value_enum, hide_possible_values = true, help_heading = DATA_HEADING)]
    #[serde(serialize_with = "if_on")]
    pub shuffle: Option<Switch>,
    /// Validation rows, which training leaves out [default: rest for a folder that has more rows, else none].
    ///
    /// rest: the rows of a folder after the first 50 000. PART: a fraction of the rows, such as 0.1. PATH: all rows of a data file.
    #[arg(long, value_name = "rest|PART|PATH|none", help_heading = DATA_HEADING)]
    pub validation: Option<Validation>,
    /// Number of hidden units.
    #[arg(long, value_name = "N", default_value = "500", value_parser = at_least::<1>, help_heading = MODEL_HEADING)]
    pub hidden: usize,
    /// Initial parameters.
    ///
    /// tutorial: the uniform weights of the Deep Learning Tutorials. data: small weights, and visible biases from the means of the
    /// data; the default if not all visible units are binary. MODEL: the parameters of a model file.
    #[arg(
        long,
        value_name = "tutorial|data|MODEL",
        default_value = "tutorial",
        value_parser = text::<Init>,
        help_heading = MODEL_HEADING
    )]
    #[serde(serialize_with = "unless_usual")]
    pub init: Init,

    /// Number of passes over the data.
    #[arg(long, value_name = "N", default_value = "15", value_parser = at_least::<1>, help_heading = LENGTH_HEADING)]
    pub epochs: usize,
    /// Run the least number of epochs that gives N updates; replaces --epochs.
    #[arg(long, value_name = "N", value_parser = at_least::<1>, help_heading = LENGTH_HEADING)]
    #[serde(skip)]
    pub updates: Option<usize>,
    /// Run as many epochs as fit in about N minutes; replaces --epochs.
    ///
    /// A short trial before training measures the time of an epoch.
    #[arg(long, value_name = "N", value_parser = minutes, help_heading = LENGTH_HEADING)]
    #[serde(skip)]
    pub minutes: Option<f64>,
    /// Stop early if the validation likelihood has not improved for N lines of the log.
    #[arg(long, value_name = "N", value_parser = at_least::<1>, help_heading = LENGTH_HEADING)]
    pub patience: Option<usize>,
    /// Write a checkpoint and stop after N updates, counted from the start of the run.
    ///
    /// --resume continues the run.
    #[arg(long, value_name = "N", value_parser = at_least::<1>, help_heading = LENGTH_HEADING)]
    #[serde(skip)]
    pub stop_after: Option<usize>,
    /// Resume the run in DIR from its checkpoint; the result has the same bits.
    ///
    /// The checkpoint, DIR/checkpoint.safetensors, keeps the options of the run. Only --epochs, --threads, --device, --samples, --quiet,
    /// --checkpoint-every, --stop-after, --in-place and the path of the same data can change.
    #[arg(long, value_name = "DIR", help_heading = LENGTH_HEADING)]
    #[serde(skip)]
    pub resume: Option<PathBuf>,

    /// Rows in a minibatch; the last minibatch of an epoch can have fewer.
    #[arg(long, value_name = "N", default_value = "20", value_parser = at_least::<1>, help_heading = UPDATE_HEADING)]
    pub batch_size: usize,
    /// Persistent contrastive divergence (pcd) or contrastive divergence (cd).
    #[arg(long, value_name = "NAME", default_value = "pcd", value_parser = algorithm(), help_heading = UPDATE_HEADING)]
    #[serde(serialize_with = "name")]
    pub algorithm: Algorithm,
    /// Gibbs steps in each update.
    ///
    /// A number, or numbers for parts of the run: 1:60%,5 makes 1 step for the first 60 % of the updates and 5 steps for the rest.
    #[arg(long, value_name = "N", default_value = "15", value_parser = text::<Steps>, help_heading = UPDATE_HEADING)]
    #[serde(serialize_with = "shown")]
    pub k: Steps,
    /// Number of persistent chains; only with --algorithm pcd [default: the batch size].
    #[arg(long, value_name = "N", value_parser = at_least::<1>, help_heading = UPDATE_HEADING)]
    pub chains: Option<usize>,
    /// Initial learning rate, for the mean gradient of a minibatch.
    #[arg(
        long,
        value_name = "RATE",
        default_value = "0.1",
        value_parser = rate,
        allow_negative_numbers = true,
        help_heading = UPDATE_HEADING
    )]
    #[serde(serialize_with = "shortest")]
    pub lr: f32,
    /// Schedule of the learning rate.
    ///
    /// linear and cosine decay to 0 at the end of the run. inverse-sqrt:GAMMA gives lr·√(GAMMA/(GAMMA + t)) in update t.
    #[arg(
        long,
        value_name = "constant|linear|cosine|inverse-sqrt:GAMMA",
        default_value = "constant",
        value_parser = text::<Rate>,
        help_heading = UPDATE_HEADING
    )]
    #[serde(serialize_with = "unless_usual")]
    pub schedule: Rate,
    /// Centred gradient: offsets follow the means of the data at this rate, such as 0.01.
    #[arg(long, value_name = "RATE|off", default_value = "off", value_parser = text::<Share>, help_heading = UPDATE_HEADING)]
    #[serde(serialize_with = "unless_usual")]
    pub centring: Share,
    /// Momentum: the fraction of the previous step that is added to the next one, below 1.
    #[arg(long, value_name = "PART|off", default_value = "off", value_parser = text::<Share>, help_heading = UPDATE_HEADING)]
    #[serde(serialize_with = "unless_usual")]
    pub momentum: Share,
    /// L2 weight decay: each update subtracts lr·L2·w from each weight w.
    #[arg(long, value_name = "L2|off", default_value = "off", value_parser = text::<Share>, help_heading = UPDATE_HEADING)]
    #[serde(serialize_with = "unless_usual")]
    pub l2: Share,
    /// L1 weight decay: each update moves each weight towards 0 by lr·L1.
    #[arg(long, value_name = "L1|off", default_value = "off", value_parser = text::<Share>, help_heading = UPDATE_HEADING)]
    #[serde(serialize_with = "unless_usual")]
    pub l1: Share,
    /// Learn ln σ² of Gaussian units, with this fraction of --lr.
    #[arg(long, value_name = "PART|off", default_value = "off", value_parser = text::<Share>, help_heading = UPDATE_HEADING)]
    #[serde(serialize_with = "unless_usual")]
    pub variance: Share,
    /// Hybrid objective for labelled rows: maximise log P(label|v) + ALPHA·log P(v, label).
    ///
    /// --algorithm estimates the gradient of the second term. 0 trains a classifier only.
    #[arg(long, value_name = "ALPHA|off", default_value = "off", value_parser = text::<Share>, help_heading = UPDATE_HEADING)]
    #[serde(serialize_with = "unless_usual")]
    pub hybrid: Share,
    /// Sparsity penalty: pull the mean of each hidden unit towards TARGET with strength COST.
    #[arg(
        long,
        value_name = "TARGET:COST|off",
        default_value = "off",
        value_parser = text::<Pull>,
        help_heading = UPDATE_HEADING
    )]
    #[serde(serialize_with = "unless_usual")]
    pub sparsity: Pull,
    /// Save the mean of the parameters over this last fraction of the run, such as 0.2.
    ///
    /// The mean takes in the parameters after every tenth update.
    #[arg(long, value_name = "PART|off", default_value = "off", value_parser = text::<Share>, help_heading = UPDATE_HEADING)]
    #[serde(serialize_with = "unless_usual")]
    pub average: Share,
    /// Exchange the states 0 and 1 of hidden units that are mostly on; only with --centring.
    ///
    /// Every 1000 updates, each hidden unit that is on for more than half of the data becomes its complement. The distribution of
    /// the visible units stays the same, and sparse hidden states are faster.
    #[arg(
        long,
        value_name = "on|off",
        default_value = "off",
        value_enum,
        hide_possible_values = true,
        help_heading = UPDATE_HEADING
    )]
    #[serde(serialize_with = "unless_usual")]
    pub exchange: Switch,
    /// Seed of all random numbers.
    ///
    /// The same seed gives the same model on any number of threads.
    #[arg(long, value_name = "N", default_value = "123", help_heading = UPDATE_HEADING)]
    pub seed: u64,
    #[command(flatten)]
    #[serde(flatten)]
    pub compute: Compute,

    /// Quantity to monitor at each update, in nats a row [default: pl for pcd, reconstruction for cd].
    ///
    /// pl: pseudo-likelihood, estimated from one bit an update. pl-exact: pseudo-likelihood over all bits. reconstruction:
    /// cross-entropy of the reconstruction.
    #[arg(long, value_name = "NAME", value_parser = named(&Monitor::ALL), help_heading = MONITOR_HEADING)]
    pub monitor: Option<Monitor>,
    /// Estimate log Z during training and report the log-likelihood, in nats a row [default: on].
    ///
    /// The estimate is an upper bound on average, for training and validation rows. It uses particles of its own and does not
    /// change the model.
    #[arg(
        long,
        value_name = "on|off",
        value_enum,
        hide_possible_values = true,
        help_heading = MONITOR_HEADING
    )]
    #[serde(serialize_with = "if_on")]
    pub likelihood: Option<Switch>,
    /// Write diagnostics of the persistent chains to DIR/health.csv every N updates; only with --algorithm pcd.
    ///
    /// Copies of the chains make 1000 Gibbs steps. They give R̂, the effective sample size, the autocorrelation time and flip
    /// rates. A comparison of free energies with chains that start at data shows whether the persistent chains lag; a warning
    /// reports it. The diagnostics do not change the model.
    #[arg(long, value_name = "N", value_parser = at_least::<1>, help_heading = MONITOR_HEADING)]
    pub health_every: Option<usize>,
    /// Write log, model and images every N epochs [default: at most 25 times in a run].
    #[arg(long, value_name = "N", value_parser = at_least::<1>, help_heading = OUTPUT_HEADING)]
    #[serde(serialize_with = "unless_1")]
    pub log_every: Option<usize>,
    /// Which model to save: the last one, or the one with the best validation likelihood.
    ///
    /// The model is DIR/model.safetensors. If it is not the last one, DIR/last.safetensors has the last parameters.
    #[arg(
        long,
        value_name = "last|best",
        default_value = "last",
        value_enum,
        hide_possible_values = true,
        help_heading = OUTPUT_HEADING
    )]
    #[serde(serialize_with = "unless_usual")]
    pub keep: Keep,
    /// Height and width of the images in pixels [default: as the data file says, or square].
    #[arg(long, value_name = "HxW", value_parser = sides, help_heading = OUTPUT_HEADING)]
    #[serde(serialize_with = "by")]
    pub image: Option<Sides>,
    /// Folder for the model, images and log; created if missing.
    #[arg(long, value_name = "DIR", default_value = "harmonium-out", help_heading = OUTPUT_HEADING)]
    #[serde(skip)]
    pub out: PathBuf,
    /// Rows of sample images to draw after training, 1000 Gibbs steps apart; 0 for none.
    #[arg(long, value_name = "ROWS", default_value = "10", help_heading = OUTPUT_HEADING)]
    #[serde(skip)]
    pub samples: usize,
    /// How often to write DIR/checkpoint.safetensors, such as 500updates or 5minutes.
    #[arg(
        long,
        value_name = "N[updates|epochs|minutes]",
        default_value = "1epochs",
        value_parser = every,
        help_heading = OUTPUT_HEADING
    )]
    pub checkpoint_every: Every,
    /// Print errors only.
    #[arg(long, help_heading = OUTPUT_HEADING)]
    #[serde(skip)]
    pub quiet: bool,
    /// The names of the options that were given on the command line.
    #[arg(skip)]
    #[serde(skip)]
    pub given: Vec<String>,
}

/// The greatest number of lines in the log of a run without `--log-every`.
pub const MOST_LINES: usize = 25;

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|x: &f64| *x > 0.0 && *x <= 1e6);
    minutes.ok_or_else(|| "expected a number of minutes above 0".into())
}

/// Parses the algorithm's name. [`Train::fill_in`] sets the number of chains.
fn algorithm() -> impl TypedValueParser<Value = Algorithm> {
    PossibleValuesParser::new(Algorithm::all(0).map(Algorithm::name)).try_map(|name| Algorithm::named(&name, 0))
}

impl Train {
    /// Sets the defaults that depend on other options.
    fn fill_in(&mut self) {
        let usual = match &mut self.algorithm {
            Algorithm::Pcd { n_chains } => {
                let usual = self.recipe.chains(self.binarise).unwrap_or(self.batch_size);
                *n_chains = *self.chains.get_or_insert(usual);
                Monitor::PseudoLikelihood
            }
            _ => Monitor::Reconstruction,
        };
        self.monitor.get_or_insert(usual);
    }

    /// Sets the defaults of a new run, which checkpoints of older versions do not share. `given`: the options on the command line.
    pub fn begin(&mut self, given: Vec<String>) {
        self.given = given;
        self.fill_in();
        let is_folder = self.data.is_dir();
        let is_tutorial = self.recipe == Recipe::Tutorial && is_folder;
        self.shuffle.get_or_insert(if is_tutorial { Switch::Off } else { Switch::On });
        self.likelihood.get_or_insert(Switch::On);
        if is_folder {
            self.validation.get_or_insert(Validation::Rest);
        }
    }

    /// Checks what depends on the options alone.
    pub fn check(&self) -> Result<(), Failure> {
        let usage = |text: String| Err(Failure::Usage(text));
        let only_pcd = [
            ("--chains", self.chains, "cd starts a chain at each row of the minibatch"),
            ("--health-every", self.health_every, "cd has no persistent chains"),
        ];
        for (option, value, why) in only_pcd {
            if let (Algorithm::Cd, Some(n)) = (self.algorithm, value) {
                return usage(format!("{option}: expected only with --algorithm pcd ({why}), found {n}"));
            }
        }
        let is_given = |option: &str| self.given.iter().any(|given| given == option);
        let lengths: Vec<_> = ["epochs", "updates", "minutes"].into_iter().filter(|option| is_given(option)).collect();
        if let [one, other, ..] = lengths[..] {
            return usage(format!("--{other}: expected without --{one}, found both"));
        }
        for (option, share, most) in [
            ("--momentum", self.momentum, "below 1"),
            ("--centring", self.centring, "at most 1"),
            ("--average", self.average, "at most 1"),
        ] {
            if let Some(x) = share.0.filter(|&x| x > 1.0 || x == 1.0 && most == "below 1") {
                return usage(format!("{option}: expected a number {most}, found {x}"));
            }
        }
        if self.exchange == Switch::On && (self.centring.0.is_none() || self.sparsity.0.is_some()) {
            return usage("--exchange: expected only with --centring and without --sparsity, found on".into());
        }
        let dependent = [("--keep best", self.keep == Keep::Best), ("--patience", self.patience.is_some())];
        for (option, is_wanted) in dependent {
            if is_wanted && self.likelihood != Some(Switch::On) {
                return usage(format!("{option}: expected only with --likelihood on, found off"));
            }
            if is_wanted && self.validation.as_ref().is_none_or(|rows| *rows == Validation::None) {
                return usage(format!("{option}: expected only with rows for --validation, found none"));
            }
        }
        Ok(())
    }

    /// Sets the defaults that depend on the rows.
    pub fn settle(&mut self, rows: usize, visible: Segments) {
        // The tutorial's initial weights are for binary units, and Gaussian units have no pseudo-likelihood.
        if !visible.is_binary() && !self.given.iter().any(|given| given == "init") && self.init == Init::Tutorial {
            self.init = Init::Data;
        }
        if !visible.is_discrete() && !self.given.iter().any(|given| given == "monitor") && self.monitor.is_some() {
            let is_watched = self.monitor != Some(Monitor::None);
            self.monitor = Some(if is_watched { Monitor::Reconstruction } else { Monitor::None });
        }
        if !self.given.iter().any(|given| given == "batch-size") {
            self.batch_size = self.batch_size.min(rows);
        }
        if let Some(updates) = self.updates {
            self.epochs = updates.div_ceil(rows.div_ceil(self.batch_size));
        }
        let l2 = self.recipe.l2_of_rows(rows, self.binarise);
        if let Some(l2) = l2.filter(|_| !self.given.iter().any(|given| given == "l2")) {
            self.l2 = Share(Some(l2));
        }
        self.spread_lines();
    }

    /// Sets the default of `--log-every`.
    pub fn spread_lines(&mut self) {
        if !self.given.iter().any(|given| given == "log-every") {
            self.log_every = Some(self.epochs.div_ceil(MOST_LINES));
        }
    }

    pub fn settings(&self) -> Settings {
        let monitor = self.monitor.unwrap_or(Monitor::None);
        let number = |share: Share| share.0.unwrap_or(0.0);
        let descent = Descent {
            centring: self.centring.0.map(|rate| Centring { rate }),
            momentum: number(self.momentum),
            l2: number(self.l2),
            l1: number(self.l1),
            sparsity: self.sparsity.0.map(|(target, cost)| Sparsity::new(target, cost)),
        };
        let (k, variance) = (self.k.at(0, 1), number(self.variance));
        Settings { algorithm: self.algorithm, k, monitor, seed: self.seed, descent, variance }
    }

    /// The number of updates before averaging starts, in a run of `updates`.
    pub fn averaged_from(&self, updates: u64) -> Option<u64> {
        self.average.0.map(|part| updates - (f64::from(part) * updates as f64).round() as u64)
    }

    /// The file or folder of the validation rows.
    pub fn validation_path(&self) -> &Path {
        match &self.validation {
            Some(Validation::File(path)) => path,
            _ => &self.data,
        }
    }

    /// Turns `--likelihood` off with a notice, as each row with missing values has a log Z of its own, that of a smaller RBM.
    ///
    /// # Errors
    /// If an option on the command line needs the likelihood.
    pub fn follow_no_likelihood(&mut self) -> harmonium::Result<()> {
        let is_on = self.likelihood == Some(Switch::On);
        let is_given = |option: &str| self.given.iter().any(|given| given == option);
        let asked = [
            ("--likelihood", "off", (is_on && is_given("likelihood")).then(|| "on".into())),
            ("--keep", "last", (self.keep == Keep::Best).then(|| "best".into())),
            ("--patience", "none", self.patience.map(|lines| lines.to_string())),
        ];
        for (what, expected, found) in asked {
            if let Some(found) = found {
                let expected =
                    format!("{expected}, as training does not estimate the likelihood of rows with missing values");
                return Err(Error::Argument { what, expected, found });
            }
        }
        if is_on && !self.quiet {
            complain(&format!(
                "notice: {}: some values are missing; training does not estimate the likelihood",
                self.data.display()
            ));
        }
        self.likelihood = Some(Switch::Off);
        Ok(())
    }

    /// The options as serde writes them; null for an option that the checkpoint leaves out.
    fn kept(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(options)) => options,
            other => unreachable!("options are texts and numbers, not {other:?}"),
        }
    }

    /// The options for a checkpoint: names and values as text.
    pub fn stored(&self) -> BTreeMap<String, String> {
        let text = |(name, value)| match value {
            Value::Null => None,
            Value::String(text) => Some((name, text)),
            number => Some((name, number.to_string())),
        };
        self.kept().into_iter().filter_map(text).collect()
    }

    /// Parses the options of [`stored`](Self::stored) like a command line. Other options have their defaults.
    pub fn from_stored(stored: &BTreeMap<String, String>) -> Result<Self, String> {
        let known = Self::from_words([])?.kept();
        if let Some(name) = stored.keys().find(|name| !known.contains_key(*name)) {
            return Err(format!("--{name}"));
        }
        Self::from_words(stored.iter().map(|(name, value)| format!("--{name}={value}")))
    }

    pub(super) fn from_words(options: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let command = Self::augment_args(clap::Command::new("train").no_binary_name(true));
        let parsed = command.try_get_matches_from(options).and_then(|matches| Self::from_arg_matches(&matches));
        let mut train = parsed.map_err(|problem| one_line(&problem.to_string()))?;
        train.fill_in();
        Ok(train)
    }
}
