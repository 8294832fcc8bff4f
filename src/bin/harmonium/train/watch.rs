//! The evaluation during training, which does not change the model: the running log-likelihood, the size of updates, and constant hidden
//! units.

use super::{
    job::{Job, bits},
    values::{Init, Switch},
};
use crate::console::Progress;
use harmonium::{
    Algorithm, Dataset, Error, Rbm, Resident, Result, Summary,
    checkpoint::Figures,
    log_partition::{BaseRate, Schedule, Tracker, TrackerState},
};
use std::sync::Arc;

/// Number of particles of the running log Z.
const PARTICLES: usize = 100;
/// Temperatures of their first annealing: to a model with small weights, to the tutorial's initial weights, and to a trained model.
const FEW: usize = 50;
const SOME: usize = 200;
const MANY: usize = 2000;
/// Fractions of the time of updates for visits during training, for visits to the model of each line, for new annealing at each line, and
/// for new annealing at the last line.
const SHARE: f64 = 0.01;
const SHARE_OF_LINES: f64 = 0.015;
const SHARE_OF_ANNEALING: f64 = 0.01;
const SHARE_OF_LAST: f64 = 0.01;
/// The greatest number of temperatures of new annealing.
const MOST_TEMPERATURES: usize = 14_500;
/// The greatest number of visits to the model of a line; more gain nothing.
const MOST_VISITS: usize = 200;
/// The least number of visits to the model of a line, and during a whole run, so that short runs have a likelihood too.
const LEAST_VISITS: usize = 30;
const LEAST_ON_THE_WAY: u64 = 100;
/// The running mean of the parameters: updates between two steps, and the weight of the new parameters.
const STRIDE: u64 = 10;
const SMOOTH: f32 = 0.01;
/// The number of rows for finding constant hidden units.
const SOME_ROWS: usize = 1000;
/// An epoch that no run reaches. Its random numbers give the bits of the evaluated training rows, those of the next one the bits of
/// the validation rows.
pub const FAR: u64 = 1 << 40;
/// Warnings come after this fraction of a run and at its end; from this fraction of constant hidden units on.
const LATE: f64 = 0.5;
const MANY_CONSTANT: f64 = 0.1;
/// The standard error above which the running log Z gets a warning, in nats.
const UNSURE: f64 = 0.5;

/// The state of the evaluation.
pub struct Watch {
    /// `None` after free energies that were not finite, or if the checkpoint had none.
    tracker: Option<Tracker>,
    /// The running mean of the parameters, which the particles follow.
    smooth: Resident,
    /// Updates between two visits, and the number of visits to the model of a line.
    every: u64,
    visits: usize,
    /// Temperatures of new annealing at a line, and at the last line.
    temperatures: [usize; 2],
    base_rate: BaseRate,
    seed: u64,
    /// Bits of the evaluated training and validation rows.
    train: Dataset,
    validation: Option<Arc<Dataset>>,
    /// The log-likelihood of the training rows under independent columns, in nats a row.
    independent: f64,
    /// The model before the last update of an epoch with a line.
    before: Option<Rbm>,
    has_warned: bool,
}

impl Watch {
    /// Starts or resumes the evaluation. `None` with `--likelihood off`.
    pub fn new(job: &Job, rbm: &Resident) -> Result<Option<Self>> {
        let options = &job.options;
        if options.likelihood != Some(Switch::On) {
            return Ok(None);
        }
        let train = bits(&job.rows.for_evaluation(options.seed)?, options.binarise, options.seed, FAR)?;
        let base_rate = BaseRate::of_columns(&job.rows.columns()?);
        let independent = Summary::of(&base_rate.log_likelihoods(train.rows())?).mean;
        let tracker = match &job.resumed {
            Some(checkpoint) => {
                checkpoint.tracker.as_ref().map(|state| Tracker::from_state(job.shape, state)).transpose()?
            }
            None => {
                let temperatures = match options.init {
                    Init::Data => FEW,
                    Init::Tutorial => SOME,
                    Init::Model(_) => MANY,
                };
                Some(Tracker::begin(rbm, &base_rate, PARTICLES, &Schedule::new(temperatures)?, options.seed)?)
            }
        };
        let (batch, k) = (options.batch_size as f64, options.k.mean());
        let chains = match job.settings.algorithm {
            Algorithm::Pcd { n_chains } => n_chains as f64,
            _ => batch,
        };
        // Computed layers: two a Gibbs step, one for each row of the minibatch, and as many for the gradient.
        let (update, visit) = (2.0 * k * chains + 2.0 * batch + chains, 5.0 * PARTICLES as f64);
        let every = ((visit / (SHARE * update)).ceil() as u64).min(job.updates() / LEAST_ON_THE_WAY);
        let every = every.max(1).next_multiple_of(STRIDE);
        let lines = (options.epochs / options.log_every.unwrap_or(1)).max(1) as f64;
        let (run, temperature) = (update * job.updates() as f64, 3.0 * PARTICLES as f64);
        let visits = (SHARE_OF_LINES * run / (visit * lines)) as usize;
        let temperatures = [SHARE_OF_ANNEALING / lines, SHARE_OF_LAST]
            .map(|share| ((share * run / temperature) as usize).clamp(SOME, MOST_TEMPERATURES));
        let visits = visits.clamp(LEAST_VISITS, MOST_VISITS);
        let smooth = match job.resumed.as_ref().and_then(|checkpoint| checkpoint.smooth.as_ref()) {
            Some(smooth) => smooth.on(rbm.device())?,
            None => rbm.clone(),
        };
        Ok(Some(Self {
            tracker,
            smooth,
            every,
            visits,
            temperatures,
            base_rate,
            seed: options.seed,
            train,
            validation: job.validation.clone(),
            independent,
            before: None,
            has_warned: false,
        }))
    }

    /// Moves the particles to the model when a visit is due.
    pub fn after_update(&mut self, rbm: &Resident, updates: u64, progress: &Progress) -> Result<()> {
        if updates.is_multiple_of(STRIDE) {
            self.smooth.approach(rbm, SMOOTH)?;
        }
        let Some(tracker) = self.tracker.as_mut().filter(|_| updates.is_multiple_of(self.every)) else { return Ok(()) };
        match tracker.follow(&self.smooth) {
            Err(Error::Value { .. }) => {
                progress.warn(&format!(
                    "update {updates}: free energies are not finite; the log no longer has a likelihood"
                ));
                self.tracker = None;
                Ok(())
            }
            other => other,
        }
    }

    /// Follows an exchange of hidden units for their complements.
    pub fn exchange(&mut self, units: &[usize]) -> Result<()> {
        self.smooth.exchange_units(units)
    }

    /// Copies the model before the last update of an epoch with a line.
    pub fn before_last_update(&mut self, rbm: &Resident) -> Result<()> {
        self.before = Some(rbm.to_rbm()?);
        Ok(())
    }

    /// The state for a checkpoint: the particles, and the model that they follow.
    pub fn state(&self) -> Result<(Option<TrackerState>, Rbm)> {
        Ok((self.tracker.as_ref().map(Tracker::state), self.smooth.to_rbm()?))
    }

    /// Particles at the model to save; `None` if there are no particles.
    ///
    /// Old particles miss parts of a model whose chains do not mix. New particles, annealed with few temperatures, miss others. Both
    /// estimates are below log Z on average, so the particles with the greater one stay.
    fn visit(&mut self, kept: &Resident, line: u64, is_last: bool) -> Result<Option<Tracker>> {
        let Some(tracker) = &mut self.tracker else { return Ok(None) };
        tracker.follow(&self.smooth)?;
        let schedule = Schedule::new(self.temperatures[usize::from(is_last)])?;
        let new = Tracker::begin(&self.smooth, &self.base_rate, PARTICLES, &schedule, self.seed.wrapping_add(line))?;
        if new.log_z() > tracker.log_z() {
            *tracker = new;
        }
        // The particles stay at the running mean. A copy moves to the saved model.
        let mut copy = tracker.clone();
        copy.walk(&self.smooth, kept, self.visits)?;
        Ok(Some(copy))
    }

    /// The figures of the model to save: of the average if there is one.
    pub fn figures(
        &mut self, rbm: &Resident, mean: Option<&Resident>, last: &Rbm, line: u64, is_last: bool,
    ) -> Result<Figures> {
        let kept = mean.unwrap_or(rbm);
        let there = match self.visit(kept, line, is_last) {
            // Free energies are not finite: training continues without the likelihood.
            Err(Error::Value { .. }) => {
                self.tracker = None;
                None
            }
            other => other?,
        };
        let energy = |rows: &Dataset| {
            let energies = kept.free_energy(rows)?;
            Ok::<_, Error>(energies.iter().sum::<f64>() / energies.len() as f64)
        };
        let train = energy(&self.train)?;
        let validation = self.validation.as_deref().map(energy).transpose()?;
        // A log-likelihood of bits above 0 is impossible: then the estimate is useless.
        let is_density = !kept.shape().visible().is_discrete();
        let tracker = there.filter(|tracker| is_density || -train < tracker.log_z());
        let log_z = tracker.as_ref().map(Tracker::log_z);
        let likelihood = |energy: f64| log_z.map(|log_z| -energy - log_z);
        Ok(Figures {
            log_z,
            effective_sample_size: tracker.as_ref().map(Tracker::effective_sample_size),
            standard_error: tracker.as_ref().map(Tracker::standard_error),
            log_likelihood: likelihood(train),
            validation: validation.and_then(likelihood),
            free_energy_gap: validation.map(|validation| validation - train),
            // NaN if all weights are 0.
            update_ratio: self.before.as_ref().map(|before| ratio(before, last)).filter(|ratio| ratio.is_finite()),
            constant_units: Some(constant_units(kept, &self.train)?),
            ..Figures::default()
        })
    }

    /// Warns about the figures of a line after `epochs` of `of` epochs: once in the second half, and at the end.
    pub fn warn(&mut self, epochs: u64, of: u64, figures: Option<Figures>, progress: &Progress) {
        let Some(figures) = figures else { return };
        let warn = |text: String| progress.warn(&format!("epoch {}: {text}", epochs - 1));
        let is_late = epochs as f64 >= LATE * of as f64;
        if !(is_late && !self.has_warned || epochs == of) {
            return;
        }
        self.has_warned = true;
        if let Some(found) = figures.log_likelihood.filter(|&x| x < self.independent) {
            let columns = self.independent;
            warn(format!("log-likelihood {found:.2} nats a row; independent columns give {columns:.2}"));
        }
        let constant = figures.constant_units.unwrap_or(0);
        let units = self.tracker.as_ref().map_or(0, |tracker| tracker.shape().n_hidden());
        if constant as f64 > MANY_CONSTANT * units as f64 {
            warn(format!("{constant} of {units} hidden units are constant over all rows; see --init data"));
        }
        if let Some(error) = figures.standard_error.filter(|&error| epochs == of && error > UNSURE) {
            warn(format!(
                "the running likelihood may be wrong by {error:.1} nats or more; check with harmonium evaluate"
            ));
        }
    }
}

/// The likelihoods of a line, as text.
pub fn in_words(figures: &Figures) -> Option<String> {
    let train = figures.log_likelihood?;
    Some(match figures.validation {
        None => format!("log-likelihood at most {train:.2}, "),
        Some(validation) => format!("log-likelihood at most {train:.2}, validation {validation:.2}, "),
    })
}

/// The likelihoods of a line for a progress bar.
pub fn in_few_words(figures: &Figures) -> Option<String> {
    let train = figures.log_likelihood?;
    let validation = figures.validation.map_or(String::new(), |validation| format!(", validation {validation:.2}"));
    Some(format!("log-likelihood ≤ {train:.2}{validation}"))
}

/// |W' − W|/|W'|.
fn ratio(before: &Rbm, after: &Rbm) -> f64 {
    let square = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>();
    let (old, new) = (before.view().weights(), after.view().weights());
    let step = square(&mut old.iter().zip(new).map(|(&old, &new)| f64::from(new) - f64::from(old)));
    (step / square(&mut new.iter().map(|&x| f64::from(x)))).sqrt()
}

/// The number of hidden units that are always on or always off over the rows.
fn constant_units(rbm: &Resident, rows: &Dataset) -> Result<u64> {
    let activity = rbm.activity(rows.rows().range(0..rows.len().min(SOME_ROWS)))?;
    Ok((activity.always_off() + activity.always_on()) as u64)
}
