//! Contrastive divergence and its persistent form.
//!
//! Both follow the gradient of the mean of F over the data minus the mean of F over the ends of chains, with the ends held
//! constant. With P = σ(vW + c) for the rows v of the batch, v⁻ the visible samples of the last of k Gibbs steps and N the
//! hidden means that belong to them,
//!
//! - ∂/∂W = -(1/B)·vᵀP + (1/M)·v⁻ᵀN
//! - ∂/∂b = -mean(v) + mean(v⁻)
//! - ∂/∂c = -mean(P) + mean(N)
//!
//! CD-k (G. E. Hinton, "Training products of experts by minimizing contrastive divergence", 2002) starts M = B chains at the
//! rows of the batch, h ~ P(h|v). PCD-k (T. Tieleman, "Training restricted Boltzmann machines using approximations to the
//! likelihood gradient", 2008) lets M chains, any number, live on from update to update. Data and chains are averaged
//! separately, so a short batch weighs its rows rightly. All of one update uses the parameters from before it.

mod algorithm;
mod average;
mod exchange;

pub use algorithm::Algorithm;
pub use average::Average;

use crate::{
    descent::{Descent, RuleState},
    device::{Batch, Device, Rule, Work},
    error::{Error, Result},
    gibbs::{Chains, check_k},
    monitor::Monitor,
    rbm::{Gradient, check},
    resident::{Resident, check_rate},
    shape::{Layer, Shape},
    uniforms::{Purpose, Uniforms},
    verbs::{BatchMeans, ChainState, Plan, Watch},
};
use exchange::exchange_states;

/// What a [`Trainer`] does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Contrastive divergence or its persistent form.
    pub algorithm: Algorithm,
    /// Gibbs steps an update, at least 1.
    pub k: usize,
    /// What is watched at every update.
    pub monitor: Monitor,
    /// Chooses the chains' random numbers ([`Purpose::Training`]).
    pub seed: u64,
    /// What updates make of the gradient.
    pub descent: Descent,
    /// The learning rate of ln σ² of Gaussian units, as a part of that of the other parameters, at least 0; 0 leaves it as it is.
    ///
    /// The gradient of ln σ_i² is s·⟨(v - b)², (v⁻ - b)²⟩/2 - Σ_j W_ij·G_ij with G the gradient of W (K. Cho, A. Ilin, T. Raiko,
    /// "Improved learning of Gaussian-Bernoulli restricted Boltzmann machines", 2011, section 3.2); no rule of descent changes it.
    /// Costs one more pass over the weights.
    pub variance: f32,
}

impl Default for Settings {
    /// The tutorial's: PCD-15 with 20 chains, watched by pseudo-likelihood, seed 123.
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Pcd { n_chains: 20 },
            k: 15,
            monitor: Monitor::PseudoLikelihood,
            seed: 123,
            descent: Descent::default(),
            variance: 0.0,
        }
    }
}

/// What [`Trainer::report`] tells.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Updates since the trainer was made.
    pub updates: u64,
    /// Updates since the last report.
    pub since_last: u64,
    /// The mean of the monitor over the updates since the last report, in nats a row; the larger the better. `None` where
    /// nothing is watched or no update was made.
    pub monitor: Option<f64>,
}

/// All that lasts of a [`Trainer`] but its settings: what a checkpoint keeps and what goes from one device to another.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TrainerState {
    /// The chains: PCD's persistent ones, or those of the last CD update.
    pub chains: ChainState,
    /// The visible variable, a binary unit or a Potts site, whose pseudo-likelihood comes next.
    pub bit: usize,
    /// Updates since the trainer was made.
    pub updates: u64,
    /// Updates up to the last report.
    pub reported: u64,
    /// The sum of the monitor over the updates since the last report.
    pub watched: f64,
    /// What the rules of descent keep, where there are any.
    pub rule: Option<RuleState>,
}

/// Trains an RBM, one batch at a time.
///
/// Owns all that it needs and refers to no RBM, so that it can be kept in a struct beside a [`Resident`].
#[derive(Debug)]
pub struct Trainer {
    shape: Shape,
    settings: Settings,
    chains: Chains,
    work: Work,
    /// The visible variable whose pseudo-likelihood comes next: state that outlives epochs.
    bit: usize,
    updates: u64,
    reported: u64,
    /// What the rules of descent keep; `None` where updates are plain.
    rule: Option<Rule>,
    /// Room for a gradient, where ln σ² is learnt.
    room: Option<Gradient>,
}

/// It must be a rate.
fn check_variance(rate: f32) -> Result<()> {
    if rate.is_finite() && rate >= 0.0 {
        return Ok(());
    }
    let expected = "a finite number of at least 0".into();
    Err(Error::Argument { what: "variance", expected, found: rate.to_string() })
}

impl Trainer {
    /// A trainer for RBMs of one shape on one device.
    ///
    /// # Errors
    /// [`Error::Argument`] where k or the number of chains is 0, or a number of the rules of descent is none that they can
    /// work with.
    pub fn new(device: impl Into<Device>, shape: Shape, settings: Settings) -> Result<Self> {
        check_k(settings.k)?;
        settings.monitor.check(shape)?;
        settings.descent.check()?;
        check_variance(settings.variance)?;
        let n_chains = match settings.algorithm {
            Algorithm::Cd => 1,
            Algorithm::Pcd { n_chains } => n_chains,
        };
        let device = device.into();
        let chains = Chains::new(&device, shape, n_chains, Uniforms::new(settings.seed, Purpose::Training))?;
        let work = device.work(shape)?;
        let state = (!settings.descent.is_plain()).then(|| RuleState::new(shape, settings.descent));
        let rule = state.map(|state| device.rule(shape, &state)).transpose()?;
        Ok(Self { shape, settings, chains, work, bit: 0, updates: 0, reported: 0, rule, room: None })
    }

    /// A trainer that continues where another one, perhaps on another device, was: to the bit where both compute the same.
    ///
    /// # Errors
    /// [`Error::Argument`] where the state does not fit the shape, the settings or itself, and those of
    /// [`Chains::from_state`].
    pub fn from_state(
        device: impl Into<Device>, shape: Shape, settings: Settings, state: &TrainerState,
    ) -> Result<Self> {
        check_k(settings.k)?;
        settings.monitor.check(shape)?;
        let fail = |what, expected: String, found: String| Err(Error::Argument { what, expected, found });
        let found = state.chains.betas.len();
        match settings.algorithm {
            Algorithm::Pcd { n_chains } if n_chains != found => {
                return fail("chains", n_chains.to_string(), found.to_string());
            }
            _ => {}
        }
        if state.bit >= shape.visible().sites() {
            return fail("bit", format!("less than {}", shape.visible().sites()), state.bit.to_string());
        }
        if state.reported > state.updates {
            let expected = format!("at most {}, the number of updates", state.updates);
            return fail("reported", expected, state.reported.to_string());
        }
        settings.descent.check()?;
        check_variance(settings.variance)?;
        match &state.rule {
            Some(rule) if !settings.descent.is_plain() => rule.check(shape, settings.descent)?,
            None if settings.descent.is_plain() => {}
            found => {
                let text = |is_there| if is_there { "a state" } else { "none" };
                return fail("rule", text(found.is_none()).into(), text(found.is_some()).into());
            }
        }
        let device = device.into();
        let chains = Chains::from_state(&device, shape, &state.chains)?;
        let mut work = device.work(shape)?;
        if settings.monitor.is_some() {
            device.watch_from(&mut work, state.watched)?;
        }
        let rule = state.rule.as_ref().map(|rule| device.rule(shape, rule)).transpose()?;
        let TrainerState { bit, updates, reported, .. } = *state;
        Ok(Self { shape, settings, chains, work, bit, updates, reported, rule, room: None })
    }

    /// All that lasts but the settings. Costs a read-back where the device is not the host.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn state(&self) -> Result<TrainerState> {
        let (chains, watched) = (self.chains.state()?, self.watched()?.unwrap_or(0.0));
        let rule = self.rule_state()?;
        Ok(TrainerState { chains, bit: self.bit, updates: self.updates, reported: self.reported, watched, rule })
    }

    /// What the rules of descent keep, where there are any.
    fn rule_state(&self) -> Result<Option<RuleState>> {
        self.rule.as_ref().map(|rule| self.chains.device().rule_state(rule, self.shape)).transpose()
    }

    /// The sum of the monitor since the last report.
    fn watched(&self) -> Result<Option<f64>> {
        self.settings.monitor.is_some().then(|| self.chains.device().watched(&self.work)).transpose()
    }

    /// What the trainer does.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Makes k Gibbs steps an update from here on.
    ///
    /// # Errors
    /// [`Error::Argument`] where k is 0.
    pub fn set_k(&mut self, k: usize) -> Result<()> {
        check_k(k)?;
        self.settings.k = k;
        Ok(())
    }

    /// Watches something else from here on, in an interval of its own: what was watched since the last report and not
    /// reported is dropped.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn set_monitor(&mut self, monitor: Monitor) -> Result<()> {
        monitor.check(self.shape)?;
        self.restart()?;
        self.settings.monitor = monitor;
        Ok(())
    }

    /// One update: θ ← θ - lr·[`gradient`](Self::gradient), or what the rules of [`Settings::descent`] make of it.
    ///
    /// `batch`: at least one row of n_visible values in [0, 1]; `lr`: finite. The gradient is a mean over rows, so that the
    /// learning rate does not depend on the batch size. After the first update nothing is allocated.
    ///
    /// # Errors
    /// [`Error::Argument`] where the batch or the RBM does not fit, or lr is not finite; [`Error::Device`] where they are on
    /// another device.
    pub fn step<'a>(&mut self, rbm: &mut Resident, batch: impl Into<Batch<'a>>, lr: f32) -> Result<()> {
        check_rate(lr)?;
        let batch = self.check(rbm, batch.into())?;
        let device = rbm.device.clone();
        device.reading(batch, |batch| {
            self.phases(rbm, batch)?;
            let (parameters, chains, work) = (&mut rbm.parameters, self.chains.states_mut(), &mut self.work);
            let learns = self.settings.variance > 0.0 && !self.shape.visible().is_discrete();
            if learns {
                let room = self.room.get_or_insert_with(|| Gradient::zero(self.shape));
                device.gradient(parameters, batch.0, chains, work, room)?;
            }
            match &mut self.rule {
                None => device.update(parameters, batch.0, chains, work, lr)?,
                Some(rule) => {
                    device.descend(parameters, batch.0, chains, work, rule, self.settings.descent.pace(lr))?
                }
            }
            match &self.room {
                Some(room) if learns => {
                    device.learn_variance(parameters, &room.visible_log_variance, lr * self.settings.variance)
                }
                _ => Ok(()),
            }
        })
    }

    /// The gradient of one update, without the update: moves the chains and the monitor on and writes over `out`.
    ///
    /// For rules of descent of one's own; [`Resident::apply`] is the plain one. Costs a pass over the weights, on all threads.
    ///
    /// # Errors
    /// [`Error::Argument`] where the batch or the RBM does not fit, [`Error::Length`] where `out` does not;
    /// [`Error::Device`] where they are on another device.
    pub fn gradient<'a>(&mut self, rbm: &Resident, batch: impl Into<Batch<'a>>, out: &mut Gradient) -> Result<()> {
        rbm.check_gradient(out)?;
        let batch = self.check(rbm, batch.into())?;
        rbm.device.reading(batch, |batch| self.gradient_of(rbm, batch, out))
    }

    /// [`gradient`](Self::gradient), and the means ⟨v⟩ and ⟨p⟩ of the batch and of its hidden units, which a centred
    /// gradient needs.
    ///
    /// # Errors
    /// Those of [`gradient`](Self::gradient).
    pub fn gradient_and_means<'a>(
        &mut self, rbm: &Resident, batch: impl Into<Batch<'a>>, out: &mut Gradient, means: &mut BatchMeans,
    ) -> Result<()> {
        rbm.check_gradient(out)?;
        let batch = self.check(rbm, batch.into())?;
        rbm.device.reading(batch, |batch| {
            self.gradient_of(rbm, batch, out)?;
            rbm.device.batch_means(batch.0, &mut self.work, self.shape, means)
        })
    }

    fn gradient_of(&mut self, rbm: &Resident, batch: Batch<'_>, out: &mut Gradient) -> Result<()> {
        self.phases(rbm, batch)?;
        rbm.device.gradient(&rbm.parameters, batch.0, self.chains.states_mut(), &mut self.work, out)
    }

    /// The batch, where it and the RBM fit the trainer.
    fn check<'a>(&self, rbm: &Resident, batch: Batch<'a>) -> Result<Batch<'a>> {
        rbm.check_belongs("trainer", self.chains.device(), self.shape)?;
        rbm.check_batch(Layer::Visible, &batch)?;
        Ok(batch)
    }

    fn phases(&mut self, rbm: &Resident, batch: Batch<'_>) -> Result<()> {
        let watch = match self.settings.monitor {
            Monitor::None => Watch::Nothing,
            Monitor::PseudoLikelihood => Watch::Site(self.bit),
            Monitor::ExactPseudoLikelihood => Watch::AllSites,
            Monitor::Reconstruction => Watch::Reconstruction,
        };
        let plan = Plan { k: self.settings.k, persistent: self.settings.algorithm != Algorithm::Cd, watch };
        rbm.device.phases(&rbm.parameters, batch.0, self.chains.states_mut(), &mut self.work, plan)?;
        self.bit = (self.bit + 1) % self.shape.visible().sites();
        self.updates += 1;
        Ok(())
    }

    /// The updates since the last report, and the mean of the monitor over them. Changes nothing; the next interval begins
    /// with [`take_report`](Self::take_report). Costs a read-back where the device is not the host.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn report(&self) -> Result<Report> {
        let since_last = self.updates - self.reported;
        let monitor = self.watched()?.filter(|_| since_last > 0).map(|sum| sum / since_last as f64);
        Ok(Report { updates: self.updates, since_last, monitor })
    }

    /// [`report`](Self::report), after which a new interval begins. Where it fails nothing is lost.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn take_report(&mut self) -> Result<Report> {
        let report = self.report()?;
        self.restart()?;
        Ok(report)
    }

    /// A new interval of the monitor.
    fn restart(&mut self) -> Result<()> {
        if self.settings.monitor.is_some() {
            self.chains.device().watch_from(&mut self.work, 0.0)?;
        }
        self.reported = self.updates;
        Ok(())
    }

    /// The chains go on from these, their states and their random numbers: such as
    /// [`Chains::from_hidden_bias`], where not all units are off.
    ///
    /// # Errors
    /// [`Error::Argument`] where they are not as many as persistent chains, or of another shape; [`Error::Device`] where they
    /// are on another device.
    pub fn set_chains(&mut self, chains: Chains) -> Result<()> {
        self.chains.check_like(&chains)?;
        match self.settings.algorithm {
            Algorithm::Pcd { n_chains } if n_chains != chains.len() => {
                let (expected, found) = (n_chains.to_string(), chains.len().to_string());
                Err(Error::Argument { what: "chains", expected, found })
            }
            _ => {
                self.chains = chains;
                Ok(())
            }
        }
    }

    /// The offsets of the visible units become these numbers, such as the means of the data: a better start than ½.
    ///
    /// `means`: n_visible finite numbers.
    ///
    /// # Errors
    /// [`Error::Argument`] where the gradient is not centred, [`Error::Length`] and [`Error::Value`] where the numbers are wrong.
    pub fn centre_at(&mut self, means: &[f32]) -> Result<()> {
        if self.settings.descent.centring.is_none() {
            let (expected, found) = ("a trainer with a centred gradient".into(), "another one".into());
            return Err(Error::Argument { what: "centre", expected, found });
        }
        check("means", means, self.shape.n_visible())?;
        if let Some(mut state) = self.rule_state()? {
            state.visible_offset = means.to_vec();
            self.rule = Some(self.chains.device().rule(self.shape, &state)?);
        }
        Ok(())
    }

    /// Exchanges each hidden unit that is on in more than `above` of the data for its opposite, h → 1 - h, in the model and in
    /// all that the trainer keeps; gives their numbers. The model stays the same, and sums over units that are on
    /// become shorter.
    ///
    /// Looks at the offset λ of a centred gradient, which learns the same either way; where nothing is centred, or where a
    /// target pulls at hidden means, no unit is exchanged. Costs some passes over the weights where there is such a unit.
    ///
    /// # Errors
    /// [`Error::Argument`] and [`Error::Device`] where the RBM does not fit.
    pub fn exchange_busy_units(&mut self, rbm: &mut Resident, above: f32) -> Result<Vec<usize>> {
        let device = self.chains.device().clone();
        rbm.check_belongs("trainer", &device, self.shape)?;
        let Descent { centring: Some(_), sparsity: None, .. } = self.settings.descent else { return Ok(Vec::new()) };
        let Some(mut rule) = self.rule_state()? else { return Ok(Vec::new()) };
        let busy = |&j: &usize| rule.hidden_offset[j] > above;
        let units: Vec<usize> = (0..self.shape.n_hidden()).filter(busy).collect();
        if units.is_empty() {
            return Ok(units);
        }
        rbm.exchange_units(&units)?;
        let mut chains = self.chains.state()?;
        exchange_states(&units, self.shape, &mut rule, &mut chains);
        self.chains = Chains::from_state(&device, self.shape, &chains)?;
        self.rule = Some(device.rule(self.shape, &rule)?);
        Ok(units)
    }

    /// The chains: PCD's persistent ones, or those of the last CD update.
    pub fn chains(&self) -> &Chains {
        &self.chains
    }
}
