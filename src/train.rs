//! Training by contrastive divergence (CD) and persistent contrastive divergence (PCD): [`Trainer`].

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

/// The settings of a [`Trainer`].
///
/// The default is the tutorial's: PCD-15 with 20 chains, monitored by one bit of the pseudo-likelihood, plain gradient descent,
/// seed 123.
///
/// ```
/// use harmonium::{Algorithm, Monitor, Settings};
///
/// let settings = Settings { algorithm: Algorithm::Cd, k: 1, monitor: Monitor::Reconstruction, ..Settings::default() };
/// assert_eq!((settings.seed, Settings::default().algorithm), (123, Algorithm::Pcd { n_chains: 20 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Where chains start: CD or PCD.
    pub algorithm: Algorithm,
    /// The number of Gibbs steps per update, at least 1.
    pub k: usize,
    /// The quantity that is monitored at every update.
    pub monitor: Monitor,
    /// The seed of the chains' random numbers ([`Purpose::Training`]).
    pub seed: u64,
    /// The rules of descent, which turn a gradient into an update.
    pub descent: Descent,
    /// The learning rate of ln σ² of Gaussian units, relative to that of the other parameters; at least 0. With 0, ln σ² is
    /// constant.
    ///
    /// The gradient of ln σ_i² is s·⟨(v - b)², (v⁻ - b)²⟩/2 - Σ_j W_ij·G_ij with G the gradient of W (K. Cho, A. Ilin, T. Raiko,
    /// "Improved learning of Gaussian-Bernoulli restricted Boltzmann machines", 2011, section 3.2). The rules of descent do not
    /// change it. Costs one more pass over the weights.
    pub variance: f32,
}

impl Default for Settings {
    /// The tutorial's settings: PCD-15 with 20 chains, monitored by one bit of the pseudo-likelihood, seed 123.
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

/// The number of updates and the mean of the monitor: the result of [`Trainer::report`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The number of updates of this training.
    pub updates: u64,
    /// The number of updates since the last report.
    pub since_last: u64,
    /// The mean of the monitor over the updates since the last report, in nats a row; greater is better. `None` without a monitor,
    /// or without an update since the last report.
    pub monitor: Option<f64>,
}

/// The state of a [`Trainer`] without its settings, for a checkpoint or for a move to another device.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TrainerState {
    /// The chains: PCD's persistent ones, or those of the last CD update.
    pub chains: ChainState,
    /// The index of the next visible variable, a binary unit or a Potts site, whose pseudo-likelihood is monitored.
    pub bit: usize,
    /// The number of updates of this training.
    pub updates: u64,
    /// The number of updates at the last report.
    pub reported: u64,
    /// The sum of the monitor over the updates since the last report, in nats a row.
    pub watched: f64,
    /// The state of the rules of descent; `None` for plain gradient descent.
    pub rule: Option<RuleState>,
}

/// Trains an RBM, one minibatch at a time, by contrastive divergence or its persistent form.
///
/// Both descend the gradient of the mean of F over the data minus the mean of F over the ends of chains, where the ends are held
/// constant. With P = σ(vW + c) for the B rows v of the batch, v⁻ the visible samples of the last of k Gibbs steps in M chains and
/// N the hidden means given v⁻:
///
/// - ∂/∂W = -(1/B)·vᵀP + (1/M)·v⁻ᵀN
/// - ∂/∂b = -mean(v) + mean(v⁻)
/// - ∂/∂c = -mean(P) + mean(N)
///
/// CD-k starts M = B chains at the rows of the batch, h ~ P(h|v). PCD-k continues any number M of chains from update to update
/// ([`Algorithm`]). Data and chains are averaged separately, so a short batch gives each of its rows the right weight. Everything
/// in an update uses the parameters from before the update.
///
/// A trainer holds no reference to an RBM, so a struct can own it together with a [`Resident`].
///
/// ```
/// use harmonium::{Cpu, Dataset, Rbm, Settings, Shape, Trainer};
///
/// # fn main() -> harmonium::Result<()> {
/// let data = Dataset::from_u8([[255, 255, 0, 0], [0, 0, 255, 255]].concat(), 4)?;
/// let cpu = Cpu::detect()?;
/// let mut rbm = Rbm::new(Shape::new(4, 3)?, 1).on(cpu)?;
/// let mut trainer = Trainer::new(cpu, rbm.shape(), Settings::default())?;
/// let mut report = trainer.report()?;
/// for _epoch in 0..5 {
///     for _ in 0..100 {
///         trainer.step(&mut rbm, &data, 0.1)?;
///     }
///     report = trainer.take_report()?;                        // of the last 100 updates
/// }
/// assert_eq!((report.updates, report.since_last), (500, 100));
/// assert!(report.monitor.unwrap() > 4.0 * 0.5f64.ln());       // better than four fair coins, in nats a row
/// // A checkpoint: a trainer made from the state continues with the same bits.
/// let mut resumed = Trainer::from_state(cpu, rbm.shape(), trainer.settings(), &trainer.state()?)?;
/// let mut copy = rbm.clone();
/// trainer.step(&mut rbm, &data, 0.1)?;
/// resumed.step(&mut copy, &data, 0.1)?;
/// assert_eq!(rbm.to_rbm()?, copy.to_rbm()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Trainer {
    shape: Shape,
    settings: Settings,
    chains: Chains,
    work: Work,
    /// The next visible variable whose pseudo-likelihood is monitored. It is not reset between epochs.
    bit: usize,
    updates: u64,
    reported: u64,
    /// The state of the rules of descent; `None` for plain gradient descent.
    rule: Option<Rule>,
    /// Scratch for a gradient, if ln σ² is trained.
    room: Option<Gradient>,
}

/// Returns an error unless the rate is finite and at least 0.
fn check_variance(rate: f32) -> Result<()> {
    if rate.is_finite() && rate >= 0.0 {
        return Ok(());
    }
    let expected = "a finite number of at least 0".into();
    Err(Error::Argument { what: "variance", expected, found: rate.to_string() })
}

impl Trainer {
    /// Creates a trainer for RBMs of a given shape on a device. The chains of PCD start with all hidden units off.
    ///
    /// # Errors
    /// [`Error::Argument`] if k or the number of chains is 0, if the monitor has no value for such units, or if a rule of descent
    /// has an invalid number.
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

    /// Resumes a training from its state, which may come from another device. The bits are the same if both devices compute the
    /// same bits.
    ///
    /// # Errors
    /// [`Error::Argument`] if the state does not match the shape or the settings, or is inconsistent; also the errors of
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

    /// Returns the state without the settings. On a GPU this reads memory back.
    ///
    /// # Errors
    /// Errors of the device; none on the CPU.
    pub fn state(&self) -> Result<TrainerState> {
        let (chains, watched) = (self.chains.state()?, self.watched()?.unwrap_or(0.0));
        let rule = self.rule_state()?;
        Ok(TrainerState { chains, bit: self.bit, updates: self.updates, reported: self.reported, watched, rule })
    }

    /// The state of the rules of descent; `None` for plain gradient descent.
    fn rule_state(&self) -> Result<Option<RuleState>> {
        self.rule.as_ref().map(|rule| self.chains.device().rule_state(rule, self.shape)).transpose()
    }

    /// The sum of the monitor since the last report, in nats a row.
    fn watched(&self) -> Result<Option<f64>> {
        self.settings.monitor.is_some().then(|| self.chains.device().watched(&self.work)).transpose()
    }

    /// Returns the current settings.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Sets the number of Gibbs steps per update.
    ///
    /// # Errors
    /// [`Error::Argument`] if k is 0.
    pub fn set_k(&mut self, k: usize) -> Result<()> {
        check_k(k)?;
        self.settings.k = k;
        Ok(())
    }

    /// Changes the monitor and starts a new interval. Values since the last report are discarded.
    ///
    /// # Errors
    /// [`Error::Argument`] if the monitor has no value for such units; errors of the device.
    pub fn set_monitor(&mut self, monitor: Monitor) -> Result<()> {
        monitor.check(self.shape)?;
        self.restart()?;
        self.settings.monitor = monitor;
        Ok(())
    }

    /// One update: θ ← θ - lr·[`gradient`](Self::gradient), or the update of the rules in [`Settings::descent`].
    ///
    /// `batch`: at least one row of n_visible values in [0, 1], or values that the units' laws permit. `lr`: finite. The gradient
    /// is a mean over rows, so the learning rate does not depend on the size of the batch. Only the first update allocates memory.
    ///
    /// # Errors
    /// [`Error::Argument`] if the batch or the RBM does not fit, or lr is not finite; [`Error::Device`] if one of them is on
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

    /// Computes the gradient of one update without the update: advances the chains and the monitor, and overwrites `out`.
    ///
    /// For your own rule of descent; [`Resident::apply`] is the plain rule. Costs one pass over the weights, shared by all threads.
    ///
    /// # Errors
    /// [`Error::Argument`] if the batch or the RBM does not fit, [`Error::Length`] if `out` does not fit; [`Error::Device`] if one
    /// of them is on another device.
    pub fn gradient<'a>(&mut self, rbm: &Resident, batch: impl Into<Batch<'a>>, out: &mut Gradient) -> Result<()> {
        rbm.check_gradient(out)?;
        let batch = self.check(rbm, batch.into())?;
        rbm.device.reading(batch, |batch| self.gradient_of(rbm, batch, out))
    }

    /// [`gradient`](Self::gradient), and the means ⟨v⟩ of the batch and ⟨p⟩ of its hidden units, which a centred gradient needs.
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

    /// Returns the batch if it and the RBM fit the trainer.
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

    /// Returns the number of updates since the last report, and the mean of the monitor over them. Changes nothing;
    /// [`take_report`](Self::take_report) starts a new interval. On a GPU this reads memory back.
    ///
    /// # Errors
    /// Errors of the device; none on the CPU.
    pub fn report(&self) -> Result<Report> {
        let since_last = self.updates - self.reported;
        let monitor = self.watched()?.filter(|_| since_last > 0).map(|sum| sum / since_last as f64);
        Ok(Report { updates: self.updates, since_last, monitor })
    }

    /// [`report`](Self::report), then starts a new interval. If it fails, no value is lost.
    ///
    /// # Errors
    /// Errors of the device; none on the CPU.
    pub fn take_report(&mut self) -> Result<Report> {
        let report = self.report()?;
        self.restart()?;
        Ok(report)
    }

    /// Starts a new interval of the monitor.
    fn restart(&mut self) -> Result<()> {
        if self.settings.monitor.is_some() {
            self.chains.device().watch_from(&mut self.work, 0.0)?;
        }
        self.reported = self.updates;
        Ok(())
    }

    /// Replaces the chains, their states and their random numbers. For example, [`Chains::from_hidden_bias`] starts with some units
    /// on.
    ///
    /// # Errors
    /// [`Error::Argument`] if the number differs from the number of persistent chains, or the shape differs; [`Error::Device`] if
    /// they are on another device.
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

    /// Sets the offsets of the visible units, for example to the means of the data, which is a better start than ½.
    ///
    /// `means`: n_visible finite numbers.
    ///
    /// # Errors
    /// [`Error::Argument`] if the gradient is not centred; [`Error::Length`] or [`Error::Value`] if the numbers are invalid.
    pub fn centre_at(&mut self, means: &[f32]) -> Result<()> {
        if self.settings.descent.centring.is_none() {
            let (expected, found) = ("a trainer with a centred gradient".into(), "one with a plain gradient".into());
            return Err(Error::Argument { what: "centre", expected, found });
        }
        check("means", means, self.shape.n_visible())?;
        if let Some(mut state) = self.rule_state()? {
            state.visible_offset = means.to_vec();
            self.rule = Some(self.chains.device().rule(self.shape, &state)?);
        }
        Ok(())
    }

    /// Exchanges each hidden unit whose mean over the data exceeds `above` for its opposite, h → 1 - h, in the model and in the
    /// trainer's state. Returns the units' indices. The model of the visible units is unchanged, and sums over active units become
    /// shorter.
    ///
    /// The means are the offsets λ of a centred gradient, which is invariant to this exchange. No unit is exchanged if the gradient
    /// is not centred or a sparsity target acts on hidden means. Costs a few passes over the weights if there is such a unit.
    ///
    /// # Errors
    /// [`Error::Argument`] or [`Error::Device`] if the RBM does not fit.
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
