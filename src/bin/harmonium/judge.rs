//! The part that `evaluate` and `score` share: rows, their free energies, and log Z.

use crate::{
    arguments::{Compute, DATA, DATA_HEADING, at_least, named},
    console::{self, Progress},
    data,
    in_place::ForModel,
};
use clap::{Args, ValueEnum};
use harmonium::{
    Dataset, Device, Error, LogPartition, Rbm, Resident, Result,
    log_partition::{self, Annealing, BaseRate, Schedule, Start, lower_bound},
    model::{self, Extras},
};
use std::path::{Path, PathBuf};

const LOG_Z_HEADING: &str = "Partition function";

#[derive(Args)]
pub struct Judge {
    /// Model file, as train writes it.
    pub model: PathBuf,
    /// Rows to evaluate: a folder with MNIST's IDX files, or one data file, of which all rows are used.
    #[arg(long, value_name = "PATH", default_value = DATA, help_heading = DATA_HEADING)]
    pub data: PathBuf,
    #[command(flatten)]
    pub selection: data::Selection,
    /// Rows of a folder: the first 50 000 training rows, the other training rows (validation), or the test rows [default: test].
    #[arg(long, value_name = "NAME", value_parser = named(data::Split::ALL), help_heading = DATA_HEADING)]
    pub split: Option<data::Split>,
    /// Use the first ROWS rows only [default: all].
    #[arg(long, value_name = "ROWS", value_parser = at_least::<1>, help_heading = DATA_HEADING)]
    pub limit: Option<usize>,
    /// Read only the rows of --limit from an npy file [default: if all rows exceed half of the free memory].
    #[arg(long, requires = "limit", help_heading = DATA_HEADING)]
    pub in_place: bool,
    /// Training rows of the model, for the base rate of annealing and the chains of reverse runs [default: from --data].
    ///
    /// A folder with MNIST's IDX files (its first 50 000 training rows), or one data file. By default these are the training rows
    /// of the folder
    /// --data, or the evaluated rows if --data is a file; a notice reports the latter.
    #[arg(long, value_name = "PATH", help_heading = DATA_HEADING)]
    pub train: Option<PathBuf>,
    /// Method for log Z [default: auto; none for score and for rows with missing values].
    #[arg(long, value_enum, value_name = "NAME", help_heading = LOG_Z_HEADING)]
    pub log_z: Option<LogZ>,
    /// Number of annealing runs from the base rate; reverse runs have as many chains.
    #[arg(long, value_name = "N", default_value = "100", value_parser = at_least::<2>, help_heading = LOG_Z_HEADING)]
    pub runs: usize,
    /// Gibbs steps of the chains before reverse runs start.
    #[arg(long, value_name = "N", default_value = "10000", value_parser = at_least::<0>, help_heading = LOG_Z_HEADING)]
    pub burn_in: usize,
    /// Number of temperatures of each run.
    #[arg(long, value_name = "N", default_value = "14500", value_parser = at_least::<1>, help_heading = LOG_Z_HEADING)]
    pub temperatures: usize,
    /// Seed of the annealing's random numbers.
    #[arg(long, value_name = "N", default_value = "123", help_heading = LOG_Z_HEADING)]
    pub seed: u64,
    #[command(flatten)]
    pub compute: Compute,
}

/// The method for log Z.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogZ {
    /// exact if the smaller layer has at most 25 units, else bracket.
    Auto,
    /// Enumerate all states of the smaller layer.
    Exact,
    /// Annealed importance sampling, forward only.
    Ais,
    /// Annealing in both directions, which brackets log Z.
    Bracket,
    /// No log Z and no log-likelihood.
    None,
}

/// The number of rows that are reconstructed at once.
const ROWS: usize = 1000;
/// The greatest number of units that `--log-z auto` enumerates: about ten seconds on one core for 784 visible units.
const AUTO_UNITS: usize = 25;
/// The number of random training rows from which the chains' starts are drawn. More would only cost memory.
const MOST_STARTS: usize = 10_000;

/// Rows and the quantities that determine their likelihood under a model.
pub struct Judged {
    pub extras: Extras,
    pub resident: Resident,
    pub rows: Dataset,
    pub free_energies: Vec<f64>,
    pub log_z: Option<LogPartition>,
    /// The source of the base rate and the chains, and whether it is the evaluated data.
    pub training: Option<(PathBuf, bool)>,
}

impl Judge {
    /// Reads the model and the rows, and computes log Z. `usual`: the method without `--log-z`.
    pub fn judge(&self, device: &Device, usual: LogZ) -> Result<Judged> {
        let (rbm, extras) = model::load_with(&self.model)?;
        let read = |path: &Path, option: &str, split| {
            let is_asked = self.in_place && *path == self.data;
            if let Some(file) = ForModel::open((&rbm, &extras), &self.model, (path, &self.selection), is_asked)? {
                return Ok(file.first(self.limit)?.binarised());
            }
            let read = |path: &Path, how: &_| data::split(path, option, split, how);
            let images = data::fitting((&rbm, &extras), &self.model, (path, &self.selection), read)?;
            Ok(images.rows.binarised())
        };
        let is_file = self.data.metadata().is_ok_and(|found| !found.is_dir());
        if self.split.is_some() && is_file {
            return Err(Error::Argument {
                what: "--split",
                expected: "a folder as --data".into(),
                found: format!("the file {}, of which all rows are used", self.data.display()),
            });
        }
        let split = self.split.unwrap_or(data::Split::Test);
        let mut rows = read(&self.data, "--data", split)?;
        rows.keep(0..self.limit.unwrap_or(rows.len()).min(rows.len()))?;
        let resident = rbm.on(device)?;
        let mut training = None;
        let log_z = match self.log_z.unwrap_or(usual) {
            LogZ::None => None,
            _ if rows.rows().has_missing() => self.without_log_z()?,
            LogZ::Auto if enumerated_units(&rbm) <= AUTO_UNITS => Some(enumerated(&rbm)?),
            LogZ::Exact => Some(enumerated(&rbm)?),
            LogZ::Auto | LogZ::Bracket | LogZ::Ais => {
                let (path, option) = self.train.as_ref().map_or((&self.data, "--data"), |path| (path, "--train"));
                let judged = *path == self.data && (is_file || split == data::Split::Train);
                training = Some((path.clone(), judged));
                Some(annealed(&resident, &read(path, option, data::Split::Train)?, self)?)
            }
        };
        let free_energies = resident.free_energy(&rows)?;
        let log_z = log_z.map(|log_z| bounded(&resident, &rows, &free_energies, log_z)).transpose()?;
        Ok(Judged { extras, resident, rows, free_energies, log_z, training })
    }

    /// No log Z for rows with missing values: each has a log Z of its own, that of the RBM without the missing units.
    fn without_log_z(&self) -> Result<Option<LogPartition>> {
        let (path, why) = (self.data.display(), "each such row has a log Z of its own");
        if self.log_z.is_some() {
            return Err(Error::Argument {
                what: "--log-z",
                expected: format!("none for rows with missing values, as {why}"),
                found: format!("another method for {path}"),
            });
        }
        console::complain(&format!("notice: {path}: some values are missing; no log-likelihood, as {why}"));
        Ok(None)
    }
}

impl Judged {
    /// The reconstruction score of each row, from hidden means.
    pub fn reconstructions(&self) -> Result<Vec<f64>> {
        let mut each = Vec::with_capacity(self.rows.len());
        for first in (0..self.rows.len()).step_by(ROWS) {
            let part = self.rows.rows().range(first..self.rows.len().min(first + ROWS));
            each.extend(self.resident.reconstruction(part)?);
        }
        Ok(each)
    }

    /// The pseudo-log-likelihood of each row; `None` with Gaussian units.
    pub fn pseudo_log_likelihoods(&self) -> Result<Option<Vec<f64>>> {
        let is_discrete = self.resident.shape().visible().is_discrete();
        is_discrete.then(|| self.resident.pseudo_log_likelihood(&self.rows)).transpose()
    }

    /// Prints notices and warnings about log Z and the likelihoods.
    pub fn notices(&self, options: &Judge) {
        if let (Some((path, true)), None) = (&self.training, &options.train) {
            let path = path.display();
            console::complain(&format!(
                "notice: {path}: the evaluated rows also gave the base rate and the starts of chains; give the training rows \
                 with --train"
            ));
        }
        let visible = self.resident.shape().visible();
        let densities = visible.iter().filter(|(segment, _)| segment.is_number()).flat_map(|(_, units)| units);
        if let (Some(scale), Some(_), false) = (&self.extras.scale, &self.log_z, visible.is_discrete()) {
            let nats: f64 = densities.map(|i| f64::from(scale.deviation()[i]).ln()).sum();
            console::complain(&format!(
                "notice: {}: likelihoods are densities of scaled columns; densities of the unscaled data are {nats:.4} nats a row lower",
                options.model.display()
            ));
        }
        if let Some(warning) = self.log_z.as_ref().and_then(LogPartition::warning) {
            console::complain(&format!("warning: {warning}"));
        }
    }
}

/// The number of units in the enumerated layer: the smaller one, or the hidden one if not all visible units are binary.
fn enumerated_units(rbm: &Rbm) -> usize {
    let (n_visible, n_hidden) = (rbm.shape().n_visible(), rbm.shape().n_hidden());
    if rbm.shape().visible().is_binary() { n_visible.min(n_hidden) } else { n_hidden }
}

/// log Z by enumeration.
fn enumerated(rbm: &Rbm) -> Result<LogPartition> {
    let units = enumerated_units(rbm);
    let progress = Progress::new("log Z", 1u64.checked_shl(units as u32).unwrap_or(u64::MAX), "states", false);
    log_partition::exact::log_partition_watched(rbm.view(), &|states| progress.advance(states))
}

/// log Z by annealing, in both directions or forward only.
fn annealed(rbm: &Resident, training: &Dataset, options: &Judge) -> Result<LogPartition> {
    let settings = Annealing {
        runs: options.runs,
        schedule: Schedule::new(options.temperatures)?,
        burn_in: options.burn_in,
        seed: options.seed,
    };
    let base_rate = BaseRate::fit(training.rows());
    let starts = data::from_all_over(training, MOST_STARTS, options.seed)?;
    let forward_only = options.log_z == Some(LogZ::Ais);
    let steps = if forward_only { settings.schedule.steps() } else { settings.bracket_steps(&base_rate) };
    let progress = Progress::new("log Z", steps as u64, "steps", false);
    let mut watch = |steps: usize| progress.advance(steps as u64);
    let log_z = match forward_only {
        true => log_partition::ais_watched(rbm, &base_rate, &settings, &mut watch),
        false => {
            log_partition::bracket_watched(rbm, &base_rate, Start::Rows(starts.rows().into()), &settings, &mut watch)
        }
    }?;
    bounded(rbm, training, &rbm.free_energy(training)?, log_z)
}

/// log Z with the lower bound that rows and their free energies give; unchanged for real-valued rows.
fn bounded(rbm: &Resident, rows: &Dataset, free_energies: &[f64], log_z: LogPartition) -> Result<LogPartition> {
    if !rbm.shape().visible().is_discrete() || rows.rows().has_missing() {
        return Ok(log_z);
    }
    Ok(log_z.at_least(lower_bound(rbm.shape(), rows.rows(), free_energies)?))
}
