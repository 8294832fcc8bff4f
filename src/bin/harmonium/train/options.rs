//! The options of `harmonium train`: from the command line, and back from a checkpoint.

use super::{
    recipes::Recipe,
    values::{
        Every, Init, Keep, Pull, Scaling, Share, Switch, Validation, every, if_on, if_said, name, shortest, shown,
        text, unless_1, unless_usual,
    },
};
use crate::{
    Failure,
    arguments::{Compute, DATA, Sides, at_least, by, named, one_line, path, rate, sides},
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

/// A checkpoint keeps what serde does not skip, by the options' names; an option that is as it always was is left out.
#[derive(Args, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Train {
    /// A table of other options, printed at the beginning; each can be said beside it.
    #[arg(long, value_name = "NAME", default_value = "tutorial", value_enum, help_heading = "What to train")]
    #[serde(serialize_with = "unless_usual")]
    pub recipe: Recipe,
    /// A folder with MNIST's IDX files (the first 50 000 training rows are trained on), or one file of data: IDX, npy, npz, FASTA,
    /// svmlight or a table of text.
    #[arg(long, value_name = "PATH", default_value = DATA, help_heading = "What to train")]
    #[serde(serialize_with = "path")]
    pub data: PathBuf,
    #[command(flatten, next_help_heading = "What to train")]
    #[serde(flatten)]
    pub selection: Selection,
    /// Leave the rows of an npy file on disk and read them as they are needed, to the same model [default: where they would take
    /// more than half of the free memory].
    #[arg(long, help_heading = "What to train")]
    #[serde(skip)]
    pub in_place: bool,
    /// The laws of the visible units, in the order of the columns: binary:N for values in [0, 1], potts:SITESxSTATES for
    /// categories, as one-hot values or a column of state numbers a site, gaussian:N for real numbers; joined by commas
    /// [default: binary, but potts for a FASTA file]. With one unit more than pixels, MNIST's labels are the last column:
    /// binary:784,potts:1x10.
    #[arg(long, value_name = "LAWS", value_parser = text::<Segments>, help_heading = "What to train")]
    #[serde(serialize_with = "if_said")]
    pub visible: Option<Segments>,
    /// Bring columns to where units begin well: x over the greatest absolute value of all columns (max), or each column's range to
    /// [0, 1] (minmax), of binary and Gaussian units; or to mean 0 and variance 1 (standard), of Gaussian units. The model file
    /// keeps the scale, and samples are as the data.
    #[arg(
        long,
        value_name = "none|max|minmax|standard",
        default_value = "none",
        value_enum,
        hide_possible_values = true,
        help_heading = "What to train"
    )]
    #[serde(serialize_with = "unless_usual")]
    pub scale: Scaling,
    /// Train on the first ROWS training rows only.
    #[arg(long, value_name = "ROWS", value_parser = at_least::<1>, help_heading = "What to train")]
    pub limit: Option<usize>,
    /// What becomes of values between 0 and 1: nothing; a bit, x >= 0.5; a bit by a level that each row draws anew in every
    /// epoch; or fresh bits in every epoch, on with probability x.
    #[arg(
        long,
        value_name = "none|threshold[:LOW-HIGH]|sample",
        default_value = "none",
        value_parser = text::<Binarise>,
        help_heading = "What to train"
    )]
    #[serde(serialize_with = "unless_usual")]
    pub binarise: Binarise,
    /// Show the rows in another order in every epoch [default: on, but off for the tutorial's recipe on a folder].
    #[arg(long, value_name = "on|off", value_enum, hide_possible_values = true, help_heading = "What to train")]
    #[serde(serialize_with = "if_on")]
    pub shuffle: Option<Switch>,
    /// Rows that are not trained on: those of a folder behind the first 50 000 (rest), a part of the rows such as 0.1, those
    /// of a file of data, or none [default: rest for a folder that has some, else none].
    #[arg(long, value_name = "rest|PART|PATH|none", help_heading = "What to train")]
    pub validation: Option<Validation>,
    /// Hidden units.
    #[arg(long, value_name = "N", default_value = "500", value_parser = at_least::<1>, help_heading = "What to train")]
    pub hidden: usize,
    /// The tutorial's first weights; weights near 0 and biases of the data's means, the default where not all visible units are
    /// binary; or a model file to go on from.
    #[arg(
        long,
        value_name = "tutorial|data|MODEL",
        default_value = "tutorial",
        value_parser = text::<Init>,
        help_heading = "What to train"
    )]
    #[serde(serialize_with = "unless_usual")]
    pub init: Init,

    /// Passes over the data.
    #[arg(long, value_name = "N", default_value = "15", value_parser = at_least::<1>, help_heading = "How long")]
    pub epochs: usize,
    /// As many epochs as have at least N updates, in place of --epochs.
    #[arg(long, value_name = "N", value_parser = at_least::<1>, help_heading = "How long")]
    #[serde(skip)]
    pub updates: Option<usize>,
    /// As many epochs as will take about N minutes, measured before they begin, in place of --epochs.
    #[arg(long, value_name = "N", value_parser = minutes, help_heading = "How long")]
    #[serde(skip)]
    pub minutes: Option<f64>,
    /// End where the validation likelihood has not become better for N lines of the log.
    #[arg(long, value_name = "N", value_parser = at_least::<1>, help_heading = "How long")]
    pub patience: Option<usize>,
    /// Stop with a checkpoint after N updates, counted from the run's beginning, to be resumed later.
    #[arg(long, value_name = "N", value_parser = at_least::<1>, help_heading = "How long")]
    #[serde(skip)]
    pub stop_after: Option<usize>,
    /// Go on, to the bit, where DIR/checkpoint.safetensors stands, with the options it was made with; only --epochs,
    /// --threads, --device, --samples, --quiet, --checkpoint-every, --stop-after, --in-place and the place of the same data may
    /// be others.
    #[arg(long, value_name = "DIR", help_heading = "How long")]
    #[serde(skip)]
    pub resume: Option<PathBuf>,

    /// Rows an update; the last ones of an epoch may be fewer.
    #[arg(long, value_name = "N", default_value = "20", value_parser = at_least::<1>, help_heading = "Updates")]
    pub batch_size: usize,
    /// Persistent contrastive divergence, or contrastive divergence.
    #[arg(long, value_name = "NAME", default_value = "pcd", value_parser = algorithm(), help_heading = "Updates")]
    #[serde(serialize_with = "name")]
    pub algorithm: Algorithm,
    /// Gibbs steps an update: a number, or numbers for parts of the run, as 1:60%,5.
    #[arg(long, value_name = "N", default_value = "15", value_parser = text::<Steps>, help_heading = "Updates")]
    #[serde(serialize_with = "shown")]
    pub k: Steps,
    /// Persistent chains; only with --algorithm pcd [default: the batch size].
    #[arg(long, value_name = "N", value_parser = at_least::<1>, help_heading = "Updates")]
    pub chains: Option<usize>,
    /// Learning rate of the mean gradient over a batch, at the beginning.
    #[arg(
        long,
        value_name = "RATE",
        default_value = "0.1",
        value_parser = rate,
        allow_negative_numbers = true,
        help_heading = "Updates"
    )]
    #[serde(serialize_with = "shortest")]
    pub lr: f32,
    /// How the learning rate goes on: it stays, falls to 0 in a line or a wave, or as lr·√(γ/(γ + t)) in update t.
    #[arg(
        long,
        value_name = "constant|linear|cosine|inverse-sqrt:GAMMA",
        default_value = "constant",
        value_parser = text::<Rate>,
        help_heading = "Updates"
    )]
    #[serde(serialize_with = "unless_usual")]
    pub schedule: Rate,
    /// Count units from offsets that slide to the data's means at this rate, such as 0.01: the centred gradient.
    #[arg(long, value_name = "RATE|off", default_value = "off", value_parser = text::<Share>, help_heading = "Updates")]
    #[serde(serialize_with = "unless_usual")]
    pub centring: Share,
    /// How much of its last step a parameter keeps.
    #[arg(long, value_name = "PART|off", default_value = "off", value_parser = text::<Share>, help_heading = "Updates")]
    #[serde(serialize_with = "unless_usual")]
    pub momentum: Share,
    /// Each update takes lr·L2 of every weight.
    #[arg(long, value_name = "L2|off", default_value = "off", value_parser = text::<Share>, help_heading = "Updates")]
    #[serde(serialize_with = "unless_usual")]
    pub l2: Share,
    /// Each update takes lr·L1 from the size of every weight.
    #[arg(long, value_name = "L1|off", default_value = "off", value_parser = text::<Share>, help_heading = "Updates")]
    #[serde(serialize_with = "unless_usual")]
    pub l1: Share,
    /// Learn ln σ² of Gaussian units, at this part of --lr.
    #[arg(long, value_name = "PART|off", default_value = "off", value_parser = text::<Share>, help_heading = "Updates")]
    #[serde(serialize_with = "unless_usual")]
    pub variance: Share,
    /// Learn to tell the label from the other visible units: follow log P(label|v) + ALPHA·log P(v, label), the latter by
    /// --algorithm; 0 for the label alone.
    #[arg(long, value_name = "ALPHA|off", default_value = "off", value_parser = text::<Share>, help_heading = "Updates")]
    #[serde(serialize_with = "unless_usual")]
    pub hybrid: Share,
    /// Pull the mean of every hidden unit to TARGET with strength COST.
    #[arg(
        long,
        value_name = "TARGET:COST|off",
        default_value = "off",
        value_parser = text::<Pull>,
        help_heading = "Updates"
    )]
    #[serde(serialize_with = "unless_usual")]
    pub sparsity: Pull,
    /// Keep the mean of the parameters over this last part of the run, one of every ten updates, such as 0.2.
    #[arg(long, value_name = "PART|off", default_value = "off", value_parser = text::<Share>, help_heading = "Updates")]
    #[serde(serialize_with = "unless_usual")]
    pub average: Share,
    /// With --centring, exchange hidden units that are on in more than half of the data for their opposites, after every 1000
    /// updates: the same model, faster.
    #[arg(
        long,
        value_name = "on|off",
        default_value = "off",
        value_enum,
        hide_possible_values = true,
        help_heading = "Updates"
    )]
    #[serde(serialize_with = "unless_usual")]
    pub exchange: Switch,
    /// Chooses all random numbers: the same seed gives the same model, whatever the number of threads.
    #[arg(long, value_name = "N", default_value = "123", help_heading = "Updates")]
    pub seed: u64,
    #[command(flatten, next_help_heading = "Where to compute")]
    #[serde(flatten)]
    pub compute: Compute,

    /// Pseudo-likelihood by one bit an update or over all bits, reconstruction cross-entropy, or nothing
    /// [default: pl for pcd, reconstruction for cd].
    #[arg(long, value_name = "NAME", value_parser = named(&Monitor::ALL), help_heading = "What is watched and written")]
    pub monitor: Option<Monitor>,
    /// Follow log Z with chains of its own, and report an upper bound of the likelihood of training and validation rows;
    /// changes nothing in what is learnt [default: on].
    #[arg(
        long,
        value_name = "on|off",
        value_enum,
        hide_possible_values = true,
        help_heading = "What is watched and written"
    )]
    #[serde(serialize_with = "if_on")]
    pub likelihood: Option<Switch>,
    /// After every N updates write to DIR/health.csv how the persistent chains are, from 1000 Gibbs steps of copies: R̂,
    /// effective sample size, autocorrelation time, flip rates, and their free energy beside that of as many chains started
    /// at rows from all over the data; with a warning where they lag. Changes nothing in what is learnt. Only with
    /// --algorithm pcd.
    #[arg(long, value_name = "N", value_parser = at_least::<1>, help_heading = "What is watched and written")]
    pub health_every: Option<usize>,
    /// Write log, model and pictures after every N epochs [default: so that there are at most 25 lines].
    #[arg(long, value_name = "N", value_parser = at_least::<1>, help_heading = "What is watched and written")]
    #[serde(serialize_with = "unless_1")]
    pub log_every: Option<usize>,
    /// Which model DIR/model.safetensors ends as: the last one, or that of the best validation likelihood; the last parameters
    /// are in DIR/last.safetensors where they are others.
    #[arg(
        long,
        value_name = "last|best",
        default_value = "last",
        value_enum,
        hide_possible_values = true,
        help_heading = "What is watched and written"
    )]
    #[serde(serialize_with = "unless_usual")]
    pub keep: Keep,
    /// Height and width of the pictures in the rows [default: what the data file says, or square].
    #[arg(long, value_name = "HxW", value_parser = sides, help_heading = "What is watched and written")]
    #[serde(serialize_with = "by")]
    pub image: Option<Sides>,
    /// Folder for the model, pictures and log; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "harmonium-out", help_heading = "What is watched and written")]
    #[serde(skip)]
    pub out: PathBuf,
    /// Rows of samples, 1000 Gibbs steps apart, drawn when the training is done; 0 for no samples.
    #[arg(long, value_name = "ROWS", default_value = "10", help_heading = "What is watched and written")]
    #[serde(skip)]
    pub samples: usize,
    /// How often DIR/checkpoint.safetensors is written: every so many updates, epochs or minutes, as in 500updates.
    #[arg(
        long,
        value_name = "N[updates|epochs|minutes]",
        default_value = "1epochs",
        value_parser = every,
        help_heading = "What is watched and written"
    )]
    pub checkpoint_every: Every,
    /// Say nothing but errors.
    #[arg(long, help_heading = "What is watched and written")]
    #[serde(skip)]
    pub quiet: bool,
    /// The names of the options that were said, not left to their defaults.
    #[arg(skip)]
    #[serde(skip)]
    pub said: Vec<String>,
}

/// The log of a run has no more lines unless more are asked for.
pub const MOST_LINES: usize = 25;

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|x: &f64| *x > 0.0 && *x <= 1e6);
    minutes.ok_or_else(|| "expected a number of minutes above 0".into())
}

/// The number of chains comes by another option: [`Train::fill_in`].
fn algorithm() -> impl TypedValueParser<Value = Algorithm> {
    PossibleValuesParser::new(Algorithm::all(0).map(Algorithm::name)).try_map(|name| Algorithm::named(&name, 0))
}

impl Train {
    /// Settles the defaults that depend on other options.
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

    /// Settles what a run that begins has by default, and one of an older checkpoint has not.
    pub fn begin(&mut self, said: Vec<String>) {
        self.said = said;
        self.fill_in();
        let is_folder = self.data.is_dir();
        let is_tutorial = self.recipe == Recipe::Tutorial && is_folder;
        self.shuffle.get_or_insert(if is_tutorial { Switch::Off } else { Switch::On });
        self.likelihood.get_or_insert(Switch::On);
        if is_folder {
            self.validation.get_or_insert(Validation::Rest);
        }
    }

    /// What can be told of the options alone.
    pub fn check(&self) -> Result<(), Failure> {
        let usage = |text: String| Err(Failure::Usage(text));
        let only_pcd = [
            ("--chains", self.chains, "cd has a chain for each row of a batch"),
            ("--health-every", self.health_every, "cd has no chains that last"),
        ];
        for (option, value, why) in only_pcd {
            if let (Algorithm::Cd, Some(n)) = (self.algorithm, value) {
                return usage(format!("{option}: expected only with --algorithm pcd ({why}), found {n}"));
            }
        }
        let is_said = |option: &str| self.said.iter().any(|said| said == option);
        let lengths: Vec<_> = ["epochs", "updates", "minutes"].into_iter().filter(|option| is_said(option)).collect();
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
        let judged = [("--keep best", self.keep == Keep::Best), ("--patience", self.patience.is_some())];
        for (option, is_wanted) in judged {
            if is_wanted && self.likelihood != Some(Switch::On) {
                return usage(format!("{option}: expected only with --likelihood on, found off"));
            }
            if is_wanted && self.validation.as_ref().is_none_or(|rows| *rows == Validation::None) {
                return usage(format!("{option}: expected only with rows for --validation, found none"));
            }
        }
        Ok(())
    }

    /// Settles what depends on the rows.
    pub fn settle(&mut self, rows: usize, visible: Segments) {
        // The tutorial's first weights are for bits, and no Gaussian unit has a pseudo-likelihood.
        if !visible.is_binary() && !self.said.iter().any(|said| said == "init") && self.init == Init::Tutorial {
            self.init = Init::Data;
        }
        if !visible.is_discrete() && !self.said.iter().any(|said| said == "monitor") && self.monitor.is_some() {
            let is_watched = self.monitor != Some(Monitor::None);
            self.monitor = Some(if is_watched { Monitor::Reconstruction } else { Monitor::None });
        }
        if !self.said.iter().any(|said| said == "batch-size") {
            self.batch_size = self.batch_size.min(rows);
        }
        if let Some(updates) = self.updates {
            self.epochs = updates.div_ceil(rows.div_ceil(self.batch_size));
        }
        let l2 = self.recipe.l2_of_rows(rows, self.binarise);
        if let Some(l2) = l2.filter(|_| !self.said.iter().any(|said| said == "l2")) {
            self.l2 = Share(Some(l2));
        }
        self.spread_lines();
    }

    /// Settles how many lines the log has.
    pub fn spread_lines(&mut self) {
        if !self.said.iter().any(|said| said == "log-every") {
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

    /// The update from which on parameters are averaged, of so many.
    pub fn averaged_from(&self, updates: u64) -> Option<u64> {
        self.average.0.map(|part| updates - (f64::from(part) * updates as f64).round() as u64)
    }

    /// Where the rows are that are not trained on.
    pub fn validation_path(&self) -> &Path {
        match &self.validation {
            Some(Validation::File(path)) => path,
            _ => &self.data,
        }
    }

    /// Leaves the likelihood out, as rows with missing values have none: the log Z of each is that of a smaller RBM. Says so, and
    /// fails where something else was asked for.
    pub fn follow_no_likelihood(&mut self) -> harmonium::Result<()> {
        let is_on = self.likelihood == Some(Switch::On);
        let is_said = |option: &str| self.said.iter().any(|said| said == option);
        let asked = [
            ("--likelihood", "off", (is_on && is_said("likelihood")).then(|| "on".into())),
            ("--keep", "last", (self.keep == Keep::Best).then(|| "best".into())),
            ("--patience", "none", self.patience.map(|lines| lines.to_string())),
        ];
        for (what, expected, found) in asked {
            if let Some(found) = found {
                let expected = format!("{expected} for rows with missing values, whose likelihood is not followed");
                return Err(Error::Argument { what, expected, found });
            }
        }
        if is_on && !self.quiet {
            complain(&format!(
                "notice: {}: no likelihood is followed for rows with missing values",
                self.data.display()
            ));
        }
        self.likelihood = Some(Switch::Off);
        Ok(())
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

    pub(super) fn from_words(options: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let command = Self::augment_args(clap::Command::new("train").no_binary_name(true));
        let parsed = command.try_get_matches_from(options).and_then(|matches| Self::from_arg_matches(&matches));
        let mut train = parsed.map_err(|problem| one_line(&problem.to_string()))?;
        train.fill_in();
        Ok(train)
    }
}
