//! What is looked at while a model is trained, and never enters its gradient: the likelihood along with the updates, how far
//! they go, and hidden units that say nothing.

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

/// Particles of the running log Z.
const PARTICLES: usize = 100;
/// Temperatures of their first annealing: to a model whose hidden units say little yet, to the tutorial's first weights, and
/// to a model that has been trained.
const FEW: usize = 50;
const SOME: usize = 200;
const MANY: usize = 2000;
/// Of the time of updates, about these shares go to visits along the way, to visits that lead to the model of each line, to new
/// annealing for each line, and to that for the last one.
const SHARE: f64 = 0.01;
const SHARE_OF_LINES: f64 = 0.015;
const SHARE_OF_ANNEALING: f64 = 0.01;
const SHARE_OF_LAST: f64 = 0.01;
/// Temperatures of new annealing, at most.
const MOST_TEMPERATURES: usize = 14_500;
/// At most so many to the model of a line; more gain nothing.
const MOST_VISITS: usize = 200;
/// And at least so many, and so many along the way of a whole run: a short run need not be a blind one.
const LEAST_VISITS: usize = 30;
const LEAST_ON_THE_WAY: u64 = 100;
/// The running mean of the parameters takes a new one after so many updates, and this share of it.
const STRIDE: u64 = 10;
const SMOOTH: f32 = 0.01;
/// So many are asked whether hidden units change with them.
const SOME_ROWS: usize = 1000;
/// Epochs whose random numbers no run comes to: bits of the rows that are looked at.
const FAR: u64 = 1 << 40;
/// Warnings come when so much of a run is over and at its end, and where so many hidden units are constant.
const LATE: f64 = 0.5;
const MANY_CONSTANT: f64 = 0.1;
/// Above so large a standard error the running log Z is worth little.
const UNSURE: f64 = 0.5;

/// What the likelihood is reported of and by.
pub struct Watch {
    /// `None` where it was lost, or the run resumes from a checkpoint without one.
    tracker: Option<Tracker>,
    /// The running mean of the parameters, which the particles follow.
    smooth: Resident,
    /// Updates between two visits, and visits from there to the model of a line.
    every: u64,
    visits: usize,
    /// Temperatures of new annealing at a line, and at the last one.
    temperatures: [usize; 2],
    base_rate: BaseRate,
    seed: u64,
    /// Bits of rows that are trained on and of others.
    train: Dataset,
    validation: Option<Dataset>,
    /// What independent columns with the means of the training rows give for those rows, in nats a row.
    independent: f64,
    /// The model before the last update of a line.
    before: Option<Rbm>,
    has_warned: bool,
}

impl Watch {
    /// Begins to follow, or goes on; nothing where it is not wanted.
    pub fn new(job: &Job, rbm: &Resident) -> Result<Option<Self>> {
        let options = &job.options;
        if options.likelihood != Some(Switch::On) {
            return Ok(None);
        }
        let (train, validation) = job.rows.looked_at(job.validation.as_ref(), options.seed)?;
        let train = bits(&train, options.binarise, options.seed, FAR)?;
        let validation = validation.map(|rows| bits(&rows, options.binarise, options.seed, FAR + 1));
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
        // Layers that are made: two a Gibbs step, one for each row of the batch, and as much for the weights to learn.
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
        let validation = validation.transpose()?;
        Ok(Some(Self {
            tracker,
            smooth,
            every,
            visits,
            temperatures,
            base_rate,
            seed: options.seed,
            train,
            validation,
            independent,
            before: None,
            has_warned: false,
        }))
    }

    /// Follows where it is time to.
    pub fn after_update(&mut self, rbm: &Resident, updates: u64, progress: &Progress) -> Result<()> {
        if updates.is_multiple_of(STRIDE) {
            self.smooth.approach(rbm, SMOOTH)?;
        }
        let Some(tracker) = self.tracker.as_mut().filter(|_| updates.is_multiple_of(self.every)) else { return Ok(()) };
        match tracker.follow(&self.smooth) {
            Err(Error::Value { .. }) => {
                progress.warn(&format!("update {updates}: free energies are not finite; the likelihood is lost"));
                self.tracker = None;
                Ok(())
            }
            other => other,
        }
    }

    /// Hidden units have become their opposites.
    pub fn exchange(&mut self, units: &[usize]) -> Result<()> {
        self.smooth.exchange_units(units)
    }

    /// Keeps the model that the last update of a line begins with.
    pub fn before_last_update(&mut self, rbm: &Resident) -> Result<()> {
        self.before = Some(rbm.to_rbm()?);
        Ok(())
    }

    /// What a checkpoint keeps: the particles, and the model that they follow.
    pub fn state(&self) -> Result<(Option<TrackerState>, Rbm)> {
        Ok((self.tracker.as_ref().map(Tracker::state), self.smooth.to_rbm()?))
    }

    /// Particles at the model that would be kept, where there are any.
    ///
    /// Those that have followed for long miss parts of a model whose chains do not mix, and new ones that are annealed in haste
    /// miss others. Both estimates lie below log Z on average, so those with the greater one are kept.
    fn visit(&mut self, kept: &Resident, line: u64, is_last: bool) -> Result<Option<Tracker>> {
        let Some(tracker) = &mut self.tracker else { return Ok(None) };
        tracker.follow(&self.smooth)?;
        let schedule = Schedule::new(self.temperatures[usize::from(is_last)])?;
        let new = Tracker::begin(&self.smooth, &self.base_rate, PARTICLES, &schedule, self.seed.wrapping_add(line))?;
        if new.log_z() > tracker.log_z() {
            *tracker = new;
        }
        // They stay with the running mean; a copy of them visits what is kept.
        let mut copy = tracker.clone();
        copy.walk(&self.smooth, kept, self.visits)?;
        Ok(Some(copy))
    }

    /// The figures of the model that would be kept: the mean of the last parameters where there is one.
    pub fn figures(
        &mut self, rbm: &Resident, mean: Option<&Resident>, last: &Rbm, line: u64, is_last: bool,
    ) -> Result<Figures> {
        let kept = mean.unwrap_or(rbm);
        let there = match self.visit(kept, line, is_last) {
            // Free energies that are not finite: the likelihood is lost, training continues.
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
        let validation = self.validation.as_ref().map(energy).transpose()?;
        // No log-likelihood lies above 0: then nothing is known of it.
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
            // Of weights that are all 0 it is no number.
            update_ratio: self.before.as_ref().map(|before| ratio(before, last)).filter(|ratio| ratio.is_finite()),
            constant_units: Some(constant_units(kept, &self.train)?),
            ..Figures::default()
        })
    }

    /// Says what is wrong with a line that comes after so many epochs, if that has not been said before.
    pub fn warn(&mut self, epochs: u64, of: u64, figures: Option<Figures>, progress: &Progress) {
        let Some(figures) = figures else { return };
        let say = |text: String| progress.warn(&format!("epoch {}: {text}", epochs - 1));
        // Once on the way, and at the end.
        let is_late = epochs as f64 >= LATE * of as f64;
        if !(is_late && !self.has_warned || epochs == of) {
            return;
        }
        self.has_warned = true;
        if let Some(found) = figures.log_likelihood.filter(|&x| x < self.independent) {
            let columns = self.independent;
            say(format!("log-likelihood {found:.2} nats a row, where independent columns give {columns:.2}"));
        }
        let constant = figures.constant_units.unwrap_or(0);
        let units = self.tracker.as_ref().map_or(0, |tracker| tracker.shape().n_hidden());
        if constant as f64 > MANY_CONSTANT * units as f64 {
            say(format!("{constant} of {units} hidden units are the same for all rows; see --init data"));
        }
        if let Some(error) = figures.standard_error.filter(|&error| epochs == of && error > UNSURE) {
            say(format!("the running likelihood may be off by {error:.1} nats and more: harmonium evaluate tells"));
        }
    }
}

/// The likelihoods of a line, in words.
pub fn in_words(figures: &Figures) -> Option<String> {
    let train = figures.log_likelihood?;
    Some(match figures.validation {
        None => format!("log-likelihood at most {train:.2}, "),
        Some(validation) => format!("log-likelihood at most {train:.2}, of other rows {validation:.2}, "),
    })
}

/// |W' - W|/|W'|.
fn ratio(before: &Rbm, after: &Rbm) -> f64 {
    let square = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>();
    let (old, new) = (before.view().weights(), after.view().weights());
    let step = square(&mut old.iter().zip(new).map(|(&old, &new)| f64::from(new) - f64::from(old)));
    (step / square(&mut new.iter().map(|&x| f64::from(x)))).sqrt()
}

/// Hidden units that are on, or off, with the same certainty for all rows.
fn constant_units(rbm: &Resident, rows: &Dataset) -> Result<u64> {
    let activity = rbm.activity(rows.rows().range(0..rows.len().min(SOME_ROWS)))?;
    Ok((activity.always_off() + activity.always_on()) as u64)
}
