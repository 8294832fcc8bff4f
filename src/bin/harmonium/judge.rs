//! What `evaluate` and `score` share: rows, their free energies, and log Z.

use crate::{
    arguments::{Compute, DATA, at_least, named},
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

#[derive(Args)]
pub struct Judge {
    /// A model file, as train writes it.
    pub model: PathBuf,
    /// A folder with MNIST's IDX files, or one file of data, of which all rows are taken.
    #[arg(long, value_name = "PATH", default_value = DATA)]
    pub data: PathBuf,
    #[command(flatten)]
    pub selection: data::Selection,
    /// Which rows of a folder: its first 50 000 training rows, those behind them, or its test rows [default: test].
    #[arg(long, value_name = "NAME", value_parser = named(data::Split::ALL))]
    pub split: Option<data::Split>,
    /// Take the first ROWS of them only.
    #[arg(long, value_name = "ROWS", value_parser = at_least::<1>)]
    pub limit: Option<usize>,
    /// Of the rows of an npy file read those of --limit only [default: where all would take more than half of the free memory].
    #[arg(long, requires = "limit")]
    pub in_place: bool,
    /// The rows that the model was trained on, for annealing's base rate and the chains that reverse runs start from: a folder
    /// with MNIST's IDX files (its first 50 000 training rows), or one file of data [default: the training rows of a folder
    /// as --data; of a file the rows that are evaluated, with a notice].
    #[arg(long, value_name = "PATH")]
    pub train: Option<PathBuf>,
    /// log Z by enumeration, by annealing both ways or forward only, or not at all; auto enumerates up to 25 units in the
    /// smaller layer and else brackets [default: auto; none for rows with missing values, and for score].
    #[arg(long, value_enum, value_name = "NAME")]
    pub log_z: Option<LogZ>,
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

/// How many rows are reconstructed at once.
const ROWS: usize = 1000;
/// The largest smaller layer that `--log-z auto` enumerates: some ten seconds of one core for 784 visible units.
const AUTO_UNITS: usize = 25;
/// Of so many training rows, drawn over all of them, some start chains: more would cost memory and change nothing.
const MOST_STARTS: usize = 10_000;

/// Rows, and what is known of how likely a model makes them.
pub struct Judged {
    pub extras: Extras,
    pub resident: Resident,
    pub rows: Dataset,
    pub free_energies: Vec<f64>,
    pub log_z: Option<LogPartition>,
    /// Where the base rate and the chains come from, and whether these are the rows that are judged.
    pub training: Option<(PathBuf, bool)>,
}

impl Judge {
    /// Reads the model and the rows, and finds log Z: as `usual` says where nothing was said.
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
                found: format!("the file {}, of which all rows are taken", self.data.display()),
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

    /// Rows with missing values have each a log Z of their own, that of the RBM without what is missing.
    fn without_log_z(&self) -> Result<Option<LogPartition>> {
        let (path, why) = (self.data.display(), "each such row has a log Z of its own");
        if self.log_z.is_some() {
            return Err(Error::Argument {
                what: "--log-z",
                expected: format!("none for rows with missing values, as {why}"),
                found: format!("another for {path}"),
            });
        }
        console::complain(&format!("notice: {path}: some values are missing: no log-likelihood, as {why}"));
        Ok(None)
    }
}

impl Judged {
    /// How well reconstructions from hidden means explain each row.
    pub fn reconstructions(&self) -> Result<Vec<f64>> {
        let mut each = Vec::with_capacity(self.rows.len());
        for first in (0..self.rows.len()).step_by(ROWS) {
            let part = self.rows.rows().range(first..self.rows.len().min(first + ROWS));
            each.extend(self.resident.reconstruction(part)?);
        }
        Ok(each)
    }

    /// The pseudo-likelihood of each row, where there are no Gaussian units.
    pub fn pseudo_log_likelihoods(&self) -> Result<Option<Vec<f64>>> {
        let is_discrete = self.resident.shape().visible().is_discrete();
        is_discrete.then(|| self.resident.pseudo_log_likelihood(&self.rows)).transpose()
    }

    /// What has to be known of log Z to believe what was made of it.
    pub fn tell(&self, options: &Judge) {
        if let (Some((path, true)), None) = (&self.training, &options.train) {
            let path = path.display();
            console::complain(&format!(
                "notice: {path}: the rows that are evaluated also gave the base rate and started chains; --train names the rows \
                 that the model was trained on"
            ));
        }
        let visible = self.resident.shape().visible();
        let densities = visible.iter().filter(|(segment, _)| segment.is_number()).flat_map(|(_, units)| units);
        if let (Some(scale), Some(_), false) = (&self.extras.scale, &self.log_z, visible.is_discrete()) {
            let nats: f64 = densities.map(|i| f64::from(scale.deviation()[i]).ln()).sum();
            console::complain(&format!(
                "notice: {}: likelihoods are densities of scaled columns; those of the data are {nats:.4} nats a row lower",
                options.model.display()
            ));
        }
        if let Some(warning) = self.log_z.as_ref().and_then(LogPartition::warning) {
            console::complain(&format!("warning: {warning}"));
        }
    }
}

/// The units of the layer that is enumerated: the smaller one, or the hidden one where not all visible units are binary.
fn enumerated_units(rbm: &Rbm) -> usize {
    let (n_visible, n_hidden) = (rbm.shape().n_visible(), rbm.shape().n_hidden());
    if rbm.shape().visible().is_binary() { n_visible.min(n_hidden) } else { n_hidden }
}

/// log Z by enumeration.
fn enumerated(rbm: &Rbm) -> Result<LogPartition> {
    let units = enumerated_units(rbm);
    let progress = Progress::new(1u64.checked_shl(units as u32).unwrap_or(u64::MAX), "states", false);
    progress.title("log Z".into());
    log_partition::exact::log_partition_watched(rbm.view(), &|states| progress.advance(states))
}

/// log Z by annealing: both ways, or forward only.
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
    let progress = Progress::new(steps as u64, "steps", false);
    progress.title("log Z".into());
    let mut watch = |steps: usize| progress.advance(steps as u64);
    let log_z = match forward_only {
        true => log_partition::ais_watched(rbm, &base_rate, &settings, &mut watch),
        false => {
            log_partition::bracket_watched(rbm, &base_rate, Start::Rows(starts.rows().into()), &settings, &mut watch)
        }
    }?;
    bounded(rbm, training, &rbm.free_energy(training)?, log_z)
}

/// log Z with what rows, with their free energies, prove of it: nothing where they have densities.
fn bounded(rbm: &Resident, rows: &Dataset, free_energies: &[f64], log_z: LogPartition) -> Result<LogPartition> {
    if !rbm.shape().visible().is_discrete() || rows.rows().has_missing() {
        return Ok(log_z);
    }
    Ok(log_z.at_least(lower_bound(rbm.shape(), rows.rows(), free_energies)?))
}
