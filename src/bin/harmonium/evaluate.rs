//! `harmonium evaluate`: how likely a model makes data, and how far that can be believed.

use crate::{
    arguments::{Compute, DATA, at_least, named},
    console::{self, Progress},
    data,
};
use clap::{Args, ValueEnum};
use harmonium::{
    Dataset, Device, Error, LogLikelihood, LogPartition, Rbm, Resident, Result, Summary,
    log_partition::{self, Annealing, BaseRate, Schedule, Start, lower_bound},
    model,
};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

#[derive(Args)]
pub struct Evaluate {
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
    /// Evaluate the first ROWS of them only.
    #[arg(long, value_name = "ROWS", value_parser = at_least::<1>)]
    pub limit: Option<usize>,
    /// The rows that the model was trained on, for annealing's base rate and the chains that reverse runs start from: a folder
    /// with MNIST's IDX files (its first 50 000 training rows), or one file of data [default: the training rows of a folder
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

/// How log Z is found.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogZ {
    Auto,
    Exact,
    Ais,
    Bracket,
    None,
}

/// The largest smaller layer that `--log-z auto` enumerates: some ten seconds of one core for 784 visible units.
const AUTO_UNITS: usize = 25;
/// How many rows are reconstructed at once.
const ROWS: usize = 1000;
/// Of so many training rows, drawn over all of them, some start chains: more would cost memory and change nothing.
const MOST_STARTS: usize = 10_000;

/// The results for a model and some rows, in nats a row.
struct Evaluation {
    n_visible: usize,
    n_hidden: usize,
    rows: usize,
    mean_free_energy: f64,
    /// Where the base rate and the chains come from, and whether these are the rows that are evaluated.
    training: Option<(PathBuf, bool)>,
    log_z: Option<LogPartition>,
    log_likelihood: Option<LogLikelihood>,
    /// Where there are no Gaussian units.
    pseudo_log_likelihood: Option<f64>,
    reconstruction: f64,
    is_binary: bool,
    seconds: f64,
}

pub fn run(device: &Device, options: &Evaluate) -> Result<()> {
    let start = Instant::now();
    let (rbm, extras) = model::load_with(&options.model)?;
    let (shape, visible) = (rbm.shape(), rbm.shape().visible());
    let read = |path: &Path, option: &str, split| {
        let read = |path: &Path, how: &_| data::split(path, option, split, how);
        let images = data::fitting((&rbm, &extras), &options.model, (path, &options.selection), read)?;
        Ok(images.rows.binarised())
    };
    let is_file = options.data.metadata().is_ok_and(|found| !found.is_dir());
    if options.split.is_some() && is_file {
        return Err(Error::Argument {
            what: "--split",
            expected: "a folder as --data".into(),
            found: format!("the file {}, of which all rows are taken", options.data.display()),
        });
    }
    let split = options.split.unwrap_or(data::Split::Test);
    let mut rows = read(&options.data, "--data", split)?;
    rows.keep(0..options.limit.unwrap_or(rows.len()).min(rows.len()))?;
    let resident = rbm.on(device)?;
    let mut training = None;
    let log_z = match options.log_z {
        LogZ::Auto if enumerated_units(&rbm) <= AUTO_UNITS => Some(enumerated(&rbm)?),
        LogZ::Exact => Some(enumerated(&rbm)?),
        LogZ::None => None,
        LogZ::Auto | LogZ::Bracket | LogZ::Ais => {
            let (path, option) = options.train.as_ref().map_or((&options.data, "--data"), |path| (path, "--train"));
            let evaluated = *path == options.data && (is_file || split == data::Split::Train);
            training = Some((path.clone(), evaluated));
            Some(annealed(&resident, &read(path, option, data::Split::Train)?, options)?)
        }
    };
    let data = device.load(rows.rows())?;
    let all = data.range(0..rows.len());
    let free_energies = resident.free_energy(all)?;
    let log_z = log_z.map(|log_z| bounded(&resident, &rows, &free_energies, log_z)).transpose()?;
    let log_likelihood = log_z.as_ref().map(|log_z| LogLikelihood::of(shape, &free_energies, log_z));
    let evaluation = Evaluation {
        n_visible: shape.n_visible(),
        n_hidden: shape.n_hidden(),
        rows: rows.len(),
        mean_free_energy: Summary::of(&free_energies).mean,
        training,
        log_z,
        log_likelihood,
        pseudo_log_likelihood: match visible.is_discrete() {
            true => Some(Summary::of(&resident.pseudo_log_likelihood(all)?).mean),
            false => None,
        },
        reconstruction: reconstruction(&resident, &rows)?,
        is_binary: visible.is_binary(),
        seconds: start.elapsed().as_secs_f64(),
    };
    console::answer(&match options.json {
        true => vec![format!("{:#}", evaluation.json())],
        false => evaluation.table(options),
    })?;
    if let (Some((path, true)), None) = (&evaluation.training, &options.train) {
        let path = path.display();
        console::complain(&format!(
            "notice: {path}: the rows that are evaluated also gave the base rate and started chains; --train names the rows that \
             the model was trained on"
        ));
    }
    let densities = visible.iter().filter(|(segment, _)| segment.is_number()).flat_map(|(_, units)| units);
    if let (Some(scale), Some(_), false) = (&extras.scale, &evaluation.log_likelihood, visible.is_discrete()) {
        let nats: f64 = densities.map(|i| f64::from(scale.deviation()[i]).ln()).sum();
        console::complain(&format!(
            "notice: {}: likelihoods are densities of scaled columns; those of the data are {nats:.4} nats a row lower",
            options.model.display()
        ));
    }
    if let Some(warning) = evaluation.log_z.as_ref().and_then(LogPartition::warning) {
        console::complain(&format!("warning: {warning}"));
    }
    Ok(())
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
fn annealed(rbm: &Resident, training: &Dataset, options: &Evaluate) -> Result<LogPartition> {
    let settings = Annealing {
        runs: options.runs,
        schedule: Schedule::new(options.temperatures)?,
        burn_in: options.burn_in,
        seed: options.seed,
    };
    let base_rate = BaseRate::fit(training.rows());
    let starts = data::from_all_over(training, MOST_STARTS, options.seed)?;
    let forward_only = options.log_z == LogZ::Ais;
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
    if !rbm.shape().visible().is_discrete() {
        return Ok(log_z);
    }
    Ok(log_z.at_least(lower_bound(rbm.shape(), rows.rows(), free_energies)?))
}

/// An interval; what is infinite is not an end.
fn interval(low: f64, high: f64) -> String {
    match (low.is_finite(), high.is_finite()) {
        (true, false) => format!("at least {low:.4}"),
        (false, true) => format!("at most {high:.4}"),
        _ => format!("{low:.4} to {high:.4}"),
    }
}

/// How well reconstructions from hidden means explain rows.
fn reconstruction(rbm: &Resident, rows: &Dataset) -> Result<f64> {
    let mut sum = 0.0;
    for first in (0..rows.len()).step_by(ROWS) {
        let part = rows.rows().range(first..rows.len().min(first + ROWS));
        sum += rbm.reconstruction(part)?.iter().sum::<f64>();
    }
    Ok(sum / rows.len() as f64)
}

impl Evaluation {
    fn json(&self) -> Value {
        // What is infinite or not a number becomes null.
        let log_z = self.log_z.as_ref().map(|z| {
            json!({
                "estimate": z.estimate,
                "lower": z.lower,
                "upper": z.upper,
                "verdict": z.verdict().to_string(),
                "reason": z.reason(),
                "effective_sample_size": z.effective_sample_size,
                "method": z.method.to_string(),
                "agreement": z.agreement.to_string(),
                "forward": z.forward,
                "reverse": z.reverse,
                "overlap": z.overlap,
                "r_hat": z.r_hat,
                "mix": z.mix,
                "warning": z.warning(),
            })
        });
        let log_likelihood = self.log_likelihood.as_ref().map(|l| {
            json!({
                "mean": l.mean,
                "standard_error": l.standard_error,
                "lower": l.lower,
                "upper": l.upper,
                "bits_per_dimension": l.bits_per_dimension(),
            })
        });
        let mut json = json!({
            "n_visible": self.n_visible,
            "n_hidden": self.n_hidden,
            "rows": self.rows,
            "mean_free_energy": self.mean_free_energy,
            "training": self.training.as_ref().map(|(path, evaluated)| {
                json!({ "path": path.display().to_string(), "evaluated": evaluated })
            }),
            "log_z": log_z,
            "log_likelihood": log_likelihood,
            "pseudo_log_likelihood": self.pseudo_log_likelihood,
            "seconds": self.seconds,
        });
        json[if self.is_binary { "reconstruction_cross_entropy" } else { "reconstruction" }] =
            self.reconstruction.into();
        json
    }

    fn table(&self, options: &Evaluate) -> Vec<String> {
        let each = |name: &str, nats: f64, more: String| {
            format!("{name:<29} {nats:>12.4} {:>12.6} {more}", nats / self.n_visible as f64).trim_end().to_string()
        };
        let Self { n_visible, n_hidden, rows, .. } = self;
        let mut lines = vec![
            format!("{}: {n_visible} visible and {n_hidden} hidden units", options.model.display()),
            format!(
                "{}: {rows} rows{}",
                options.data.display(),
                if self.is_binary { ", binarised (x ≥ 0.5 → 1)" } else { "" }
            ),
            format!("{:<29} {:>12} {:>12}", "", "nats a row", "a unit"),
            each("mean free energy", self.mean_free_energy, String::new()),
        ];
        if let Some(z) = &self.log_z {
            let verdict = z.verdict();
            let ends = if z.runs == 0 { String::new() } else { format!("{}, ", interval(z.lower, z.upper)) };
            lines.push(format!("{:<29} {:>12.4} {:>12} {ends}{verdict}: {}", "log Z", z.estimate, "", z.reason()));
            if z.runs > 0 {
                let directions = match (z.forward, z.reverse) {
                    (Some(forward), Some(reverse)) => format!(", forward {forward:.4}, reverse {reverse:.4}"),
                    _ => String::new(),
                };
                let (method, runs, agreement) = (z.method, z.runs, z.agreement);
                let size = format!("effective sample size {:.1}", z.effective_sample_size);
                lines.push(format!("{:<29} {method} of {runs} runs{directions}, {size}, {agreement}", ""));
            }
        }
        if let Some((path, evaluated)) = &self.training {
            let which = if *evaluated { "the rows that are evaluated" } else { "training rows" };
            let path = path.display();
            lines.push(format!("{:<29} base rate and a part of the chains from {path}, {which}", ""));
        }
        if let Some(l) = &self.log_likelihood {
            let (interval, bits) = (interval(l.lower, l.upper), l.bits_per_dimension());
            let (error, verdict) = (console::known(l.standard_error, 4), l.verdict);
            let more = format!("{interval}, log Z {verdict}, standard error {error}, {bits:.6} bits a unit");
            lines.push(each("log-likelihood", l.mean, more));
        }
        if let Some(nats) = self.pseudo_log_likelihood {
            lines.push(each("pseudo-log-likelihood", nats, String::new()));
        }
        let name = if self.is_binary { "reconstruction cross-entropy" } else { "reconstruction" };
        lines.push(each(name, self.reconstruction, String::new()));
        lines.push(format!("{:.1} s", self.seconds));
        lines
    }
}
