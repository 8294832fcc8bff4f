//! Annealed importance sampling, forward and in reverse. Each call of the device handles many temperatures.

use super::{LogPartition, Method};
use crate::{
    columns::Columns,
    device::Batch,
    error::{Error, Result},
    gibbs::Chains,
    rbm::RbmRef,
    resident::Resident,
    rows::Rows,
    shape::Layer,
    uniforms::{Purpose, Uniforms, unit_interval},
    units::Segments,
    verbs::ChainState,
};
use rand_core::Rng;

/// The number of steps in one call of the device; progress is reported between calls.
const STEPS: usize = 100;

/// The model at β = 0: independent visible units with biases a and, for Gaussian units, precisions t; hidden units are fair coins.
///
/// ```
/// use harmonium::{Dataset, log_partition::BaseRate};
///
/// let data = Dataset::from_u8(vec![255, 0, 255, 0, 255, 255], 2)?;
/// let base_rate = BaseRate::fit(data.rows());
/// // (1 + 3)/(2 + 3) and (1 + 1)/(2 + 3) as log-odds.
/// assert!((base_rate.bias()[0] - 4f32.ln()).abs() < 1e-6);
/// assert!((base_rate.bias()[1] - (2f32 / 3.0).ln()).abs() < 1e-6);
/// # Ok::<(), harmonium::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BaseRate {
    segments: Segments,
    bias: Vec<f32>,
    /// Empty without Gaussian units.
    precision: Vec<f32>,
}

impl BaseRate {
    /// Fits the biases to data: a_i = logit((1 + Σ_r v_ri)/(2 + R)), by Laplace's rule, which keeps it finite. A state of a Potts site
    /// with S states gets a_i = ln((1 + Σ_r v_ri)/(S + R)). A Gaussian unit gets the mean and variance of the data.
    ///
    /// `v`: R rows of n_visible values, which [carry](Rows::segments) their laws.
    pub fn fit(v: Rows<'_>) -> Self {
        Self::of_columns(&Columns::of(v))
    }

    /// [`fit`](Self::fit) from sums over columns, for rows that arrive in parts.
    pub fn of_columns(columns: &Columns) -> Self {
        let (segments, (bias, precision)) = (columns.segments(), columns.fit());
        let single = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect();
        let precision = if segments.is_discrete() { Vec::new() } else { precision };
        Self { segments, bias: single(bias), precision: single(precision) }
    }

    /// The uniform distribution, a = 0, for use without data.
    pub fn uniform(n_visible: usize) -> Self {
        Self { segments: Segments::binary(n_visible), bias: vec![0.0; n_visible], precision: Vec::new() }
    }

    /// The uniform distribution of discrete units. A Gaussian unit has the mean b_i + Σ_j W_ij/2 and the variance
    /// σ_i² + Σ_j W_ij²/4, which it would have if hidden units were fair coins.
    pub fn broad(rbm: RbmRef<'_>) -> Self {
        let (shape, segments) = (rbm.shape(), rbm.shape().visible());
        let mut new = Self { segments, bias: vec![0.0; shape.n_visible()], precision: Vec::new() };
        if segments.is_discrete() {
            return new;
        }
        new.precision = vec![1.0; shape.n_visible()];
        let precision = rbm.precision();
        for i in segments.iter().filter(|(segment, _)| segment.is_number()).flat_map(|(_, units)| units) {
            let weights = || rbm.weights()[i * shape.n_hidden()..][..shape.n_hidden()].iter().map(|&w| f64::from(w));
            new.bias[i] = (f64::from(rbm.visible_bias()[i]) + weights().sum::<f64>() / 2.0) as f32;
            let variance = 1.0 / f64::from(precision[i]) + weights().map(|w| w * w).sum::<f64>() / 4.0;
            new.precision[i] = (1.0 / variance) as f32;
        }
        new
    }

    /// log P(v) of each row under independent units, in nats. A model should exceed it.
    ///
    /// `v`: rows × n_visible.
    ///
    /// # Errors
    /// [`Error::Argument`] if the rows have other laws.
    pub fn log_likelihoods(&self, v: Rows<'_>) -> Result<Vec<f64>> {
        if v.segments() != self.segments {
            let (expected, found) = (format!("values of {}", self.segments), v.segments().to_string());
            return Err(Error::Argument { what: "rows", expected, found });
        }
        v.check_complete()?;
        let precision = if self.precision.is_empty() { vec![1.0; self.bias.len()] } else { self.precision.clone() };
        let log_z = self.log_z(0);
        let row = |r: usize| {
            let mut sum = 0.0;
            let own = |_, energy| sum += energy;
            self.segments.minus_own_energies(|i| v.value(r, i), &self.bias, &precision, own);
            sum - log_z
        };
        Ok((0..v.len()).map(row).collect())
    }

    /// Returns true if all states have the same probability.
    pub(super) fn is_uniform(&self) -> bool {
        self.precision.is_empty() && self.bias.iter().all(|&a| a == 0.0)
    }

    /// a, the biases in log-odds; n_visible values.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Checks that the base rate has the units of the RBM.
    pub(super) fn check(&self, rbm: &Resident) -> Result<()> {
        let (expected, found) = (rbm.shape().n_visible(), self.bias.len());
        if expected != found {
            return Err(Error::Length { what: "base_rate", expected, found });
        }
        let (expected, found) = (rbm.shape().visible(), self.segments);
        if expected != found {
            let (expected, found) = (format!("visible units {expected}"), found.to_string());
            return Err(Error::Argument { what: "base_rate", expected, found });
        }
        Ok(())
    }

    /// log Z_0 in nats: the log-normaliser of the visible units, plus n_hidden·ln 2.
    pub(super) fn log_z(&self, n_hidden: usize) -> f64 {
        let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let precision = if self.precision.is_empty() { vec![1.0; self.bias.len()] } else { wide(&self.precision) };
        let visible = self.segments.log_normaliser(&wide(&self.bias), &self.bias, &precision);
        visible + n_hidden as f64 * std::f64::consts::LN_2
    }
}

/// The inverse temperatures of annealing, rising from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    betas: Vec<f32>,
}

impl Default for Schedule {
    /// Salakhutdinov and Murray's schedule: 500 steps from 0 to 0.5, 4 000 to 0.9, 10 000 to 1.
    fn default() -> Self {
        let betas = (0..=14_500).map(|t| salakhutdinov_murray(f64::from(t)));
        Self { betas: betas.collect() }
    }
}

/// β after t of 14 500 steps.
fn salakhutdinov_murray(t: f64) -> f32 {
    let beta = match t {
        ..500.0 => t / 1000.0,
        ..4500.0 => 0.5 + (t - 500.0) / 10_000.0,
        _ => 0.9 + (t - 4500.0) / 100_000.0,
    };
    beta as f32
}

impl Schedule {
    /// Salakhutdinov and Murray's schedule, rescaled to `steps` steps, at least 1 and at most 2^26.
    ///
    /// # Errors
    /// [`Error::Argument`] if `steps` is out of range.
    pub fn new(steps: usize) -> Result<Self> {
        const MOST: usize = 1 << 26;
        if !(1..=MOST).contains(&steps) {
            let expected = format!("at least 1 and at most {MOST}");
            return Err(Error::Argument { what: "temperatures", expected, found: steps.to_string() });
        }
        let t = |s: usize| s as f64 * (14_500.0 / steps as f64);
        Ok(Self { betas: (0..steps).map(|s| salakhutdinov_murray(t(s))).chain([1.0]).collect() })
    }

    /// A schedule of inverse temperatures that rise from 0 to 1.
    ///
    /// # Errors
    /// [`Error::Argument`] if they do not.
    pub fn from_betas(betas: Vec<f32>) -> Result<Self> {
        let rise = betas.windows(2).all(|pair| pair[0] <= pair[1]);
        if betas.len() >= 2 && betas.first() == Some(&0.0) && betas.last() == Some(&1.0) && rise {
            return Ok(Self { betas });
        }
        Err(Error::Argument {
            what: "betas",
            expected: "inverse temperatures that rise from 0 to 1".into(),
            found: format!("{} numbers that do not", betas.len()),
        })
    }

    /// The inverse temperatures.
    pub fn betas(&self) -> &[f32] {
        &self.betas
    }

    /// The number of steps between them.
    pub fn steps(&self) -> usize {
        self.betas.len() - 1
    }
}

/// The number and the length of annealing runs.
///
/// Random numbers: forward runs draw from the seed's [`Purpose::Annealing`] sequence. The start of reverse runs, their burn-in and
/// the runs themselves draw from its [`Purpose::Sampling`] sequence, or continue the sequence of the given chains. Each step draws as
/// a step of a sweep does.
#[derive(Clone, Debug, PartialEq)]
pub struct Annealing {
    /// Independent runs of each direction, at least 2. For [`bracket`](super::bracket()) this is the number of forward runs from the
    /// given base rate, and about the number of chains.
    pub runs: usize,
    /// The inverse temperatures.
    pub schedule: Schedule,
    /// Gibbs steps that chains make before reverse runs start from them.
    pub burn_in: usize,
    /// The seed of the random numbers.
    pub seed: u64,
}

impl Default for Annealing {
    /// Salakhutdinov and Murray's 100 runs of 14 500 temperatures, with a burn-in of 10 000 steps and seed 123.
    fn default() -> Self {
        Self { runs: 100, schedule: Schedule::default(), burn_in: 10_000, seed: 123 }
    }
}

/// The chains that reverse runs start from, before their burn-in.
///
/// [`reverse_ais`] makes as many reverse runs as chains, but at least [`Annealing::runs`]; it repeats rows or chains if there are
/// fewer. [`bracket`](super::bracket()) draws a part of its chains from the given ones, all with the same probability.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// The ends of forward runs, drawn in proportion to their weights. Needs no data, but misses what forward runs miss.
    Annealed,
    /// One chain from each of these rows. For a trained model, use the rows that it was trained on.
    Rows(Batch<'a>),
    /// These chains, for example those of persistent contrastive divergence.
    Chains(&'a Chains),
}

/// Estimates log Z by forward runs, from the base rate to the model.
///
/// The estimate is below log Z on average. A shorter schedule makes the bias larger, and nothing in the estimate shows it, so the
/// interval has a lower end only. Prefer [`bracket`](super::bracket()). Costs `runs`·`steps` Gibbs steps. Canonical on
/// [`Cpu`](crate::Cpu).
///
/// ```
/// use harmonium::log_partition::{self, Annealing, BaseRate, Schedule, Verdict};
/// use harmonium::{Cpu, Rbm, Shape};
///
/// # fn main() -> harmonium::Result<()> {
/// let rbm = Rbm::new(Shape::new(6, 4)?, 123);
/// let settings = Annealing { schedule: Schedule::new(100)?, ..Annealing::default() };
/// let z = log_partition::ais(&rbm.on(Cpu::detect()?)?, &BaseRate::uniform(6), &settings)?;
/// assert!((z.estimate - log_partition::exact(rbm.view())?.estimate).abs() < 0.1);
/// assert_eq!(z.verdict(), Verdict::LowerBound);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Argument`] if there are fewer than 2 runs, [`Error::Length`] if the base rate has another number of units.
pub fn ais(rbm: &Resident, base_rate: &BaseRate, settings: &Annealing) -> Result<LogPartition> {
    ais_watched(rbm, base_rate, settings, &mut |_| {})
}

/// [`ais`] with progress: calls `watch` with the number of steps that all runs have completed since, `settings.schedule.steps()` in total.
///
/// # Errors
/// See [`ais`].
pub fn ais_watched(
    rbm: &Resident, base_rate: &BaseRate, settings: &Annealing, watch: &mut dyn FnMut(usize),
) -> Result<LogPartition> {
    check(rbm, base_rate, settings.runs)?;
    let draws = Uniforms::new(settings.seed, Purpose::Annealing);
    let (log_weights, _) = forward(rbm, base_rate, settings.runs, &settings.schedule, draws, watch)?;
    let log_z_0 = base_rate.log_z(rbm.shape().n_hidden());
    Ok(LogPartition::alone(Method::Ais, log_z_0, &log_weights, rounding(rbm, log_z_0, &log_weights)))
}

/// Estimates log Z by reverse runs, from samples of the model to the base rate.
///
/// The estimate is above log Z on average if the runs start from samples of the model; the interval has an upper end
/// only. Costs `burn_in` + `steps` Gibbs steps a run. Canonical on [`Cpu`](crate::Cpu).
///
/// # Errors
/// [`Error::Argument`] if there are fewer than 2 runs or if rows or chains do not fit the shape, [`Error::Length`] if the base
/// rate has another number of units.
pub fn reverse_ais(
    rbm: &Resident, base_rate: &BaseRate, start: Start<'_>, settings: &Annealing,
) -> Result<LogPartition> {
    check(rbm, base_rate, settings.runs)?;
    let log_weights = reverse(rbm, base_rate, start, settings, &mut |_| {})?;
    let log_z_0 = base_rate.log_z(rbm.shape().n_hidden());
    Ok(LogPartition::alone(Method::ReverseAis, log_z_0, &log_weights, rounding(rbm, log_z_0, &log_weights)))
}

pub(super) fn check(rbm: &Resident, base_rate: &BaseRate, runs: usize) -> Result<()> {
    base_rate.check(rbm)?;
    match runs {
        0 | 1 => Err(Error::Argument { what: "runs", expected: "at least 2".into(), found: runs.to_string() }),
        _ => Ok(()),
    }
}

/// Checks the start of reverse runs before the forward runs, which may take long.
pub(super) fn check_start(rbm: &Resident, start: &Start<'_>) -> Result<()> {
    match start {
        Start::Annealed => Ok(()),
        Start::Rows(rows) => rbm.check_batch(Layer::Visible, rows),
        Start::Chains(chains) => chains.check_belongs(rbm),
    }
}

/// The possible rounding error of log Z from the softplus terms.
pub(super) fn rounding(rbm: &Resident, log_z_0: f64, log_weights: &[f64]) -> f64 {
    let greatest = log_weights.iter().fold(0.0, |greatest: f64, log| greatest.max(log.abs()));
    super::rounding(rbm.shape().n_hidden(), log_z_0.abs().max(greatest))
}

/// Makes forward runs; returns their log-weights and their ends.
pub(super) fn forward(
    rbm: &Resident, base_rate: &BaseRate, runs: usize, schedule: &Schedule, draws: Uniforms,
    watch: &mut dyn FnMut(usize),
) -> Result<(Vec<f64>, ChainState)> {
    // At β = 0 the hidden units have no effect: from any state, the first step draws from the base rate.
    let mut chains = Chains::new(rbm.device(), rbm.shape(), runs, draws)?;
    let log_weights = anneal(rbm, &mut chains, base_rate, schedule.betas(), watch)?;
    Ok((log_weights, chains.state()?))
}

/// The log-weights of reverse runs from these chains, which end at β = 0.
pub(super) fn backward(
    rbm: &Resident, base_rate: &BaseRate, chains: &mut Chains, schedule: &Schedule, watch: &mut dyn FnMut(usize),
) -> Result<Vec<f64>> {
    let betas: Vec<f32> = schedule.betas().iter().rev().copied().collect();
    anneal(rbm, chains, base_rate, &betas, watch)
}

fn reverse(
    rbm: &Resident, base_rate: &BaseRate, start: Start<'_>, settings: &Annealing, watch: &mut dyn FnMut(usize),
) -> Result<Vec<f64>> {
    check_start(rbm, &start)?;
    let draws = Uniforms::new(settings.seed, Purpose::Sampling);
    let ChainState { hidden, betas, uniforms } = match start {
        Start::Chains(chains) => chains.state()?,
        Start::Rows(rows) => Chains::from_visible(rbm, rows, draws)?.state()?,
        Start::Annealed => {
            let (log_weights, mut ends) = forward(rbm, base_rate, settings.runs, &settings.schedule, draws, watch)?;
            let words = rbm.shape().n_hidden().div_ceil(64);
            ends.hidden = resampled(&log_weights, &ends.hidden, words, settings.runs, &mut ends.uniforms);
            ends
        }
    };
    // If there are fewer starts than runs, the starts are repeated; the burn-in separates the copies.
    let (words, runs) = (hidden.len() / betas.len(), settings.runs.max(betas.len()));
    let hidden = hidden.into_iter().cycle().take(runs * words).collect();
    let state = ChainState { hidden, betas: vec![1.0; runs], uniforms };
    let mut chains = Chains::from_state(rbm.device(), rbm.shape(), &state)?;
    burn_in(rbm, &mut chains, settings.burn_in, watch)?;
    backward(rbm, base_rate, &mut chains, &settings.schedule, watch)
}

/// Makes `steps` steps of all chains.
pub(super) fn burn_in(rbm: &Resident, chains: &mut Chains, steps: usize, watch: &mut dyn FnMut(usize)) -> Result<()> {
    for done in (0..steps).step_by(STEPS) {
        let k = STEPS.min(steps - done);
        chains.sweep(rbm, k)?;
        watch(k);
    }
    Ok(())
}

/// Draws `n` of the ends of runs in proportion to their weights: systematic resampling (G. Kitagawa, "Monte Carlo filter and
/// smoother for non-Gaussian nonlinear state space models", 1996) with one random number.
///
/// `ends`: runs × `width`, the states in any form.
pub(super) fn resampled<T: Copy>(
    log_weights: &[f64], ends: &[T], width: usize, n: usize, draws: &mut Uniforms,
) -> Vec<T> {
    let u = f64::from(unit_interval(draws.generator().next_u32()));
    draws.skip(1);
    let greatest = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = log_weights.iter().map(|log| (log - greatest).exp()).collect();
    let share = weights.iter().sum::<f64>() / n as f64;
    let mut chosen = Vec::with_capacity(n * width);
    let (mut run, mut sum) = (0, weights[0]);
    for place in 0..n {
        while sum < (place as f64 + u) * share && run + 1 < weights.len() {
            run += 1;
            sum += weights[run];
        }
        chosen.extend_from_slice(&ends[run * width..][..width]);
    }
    chosen
}

/// Carries chains through all temperatures and returns their log-weights.
fn anneal(
    rbm: &Resident, chains: &mut Chains, base_rate: &BaseRate, betas: &[f32], watch: &mut dyn FnMut(usize),
) -> Result<Vec<f64>> {
    let mut log_weights = vec![0.0; chains.len()];
    let mut first = 0;
    while first + 1 < betas.len() {
        let last = (first + STEPS).min(betas.len() - 1);
        let part = &betas[first..=last];
        rbm.device.anneal(
            &rbm.parameters,
            chains.states_mut(),
            [&base_rate.bias, &base_rate.precision],
            part,
            &mut log_weights,
        )?;
        watch(last - first);
        first = last;
    }
    Ok(log_weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cpu, Isa, Rbm, Shape};
    use sha2::{Digest, Sha256};

    /// Checks the log-weights themselves, which estimates hide; see tests/library/golden.rs on digests.
    #[test]
    fn golden_log_weights() {
        let rbm = Rbm::new(Shape::new(97, 131).expect("a shape"), 5);
        let base_rate = BaseRate { bias: (0..97).map(|i| i as f32 / 64.0 - 0.75).collect(), ..BaseRate::uniform(97) };
        let schedule = Schedule::new(250).expect("a schedule");
        let settings = Annealing { runs: 21, schedule, burn_in: 3, seed: 6 };
        for isa in Isa::available() {
            let resident = rbm.on(Cpu::with_isa(isa)).expect("resident");
            let draws = Uniforms::new(6, Purpose::Annealing);
            let (up, _) = forward(&resident, &base_rate, 21, &settings.schedule, draws, &mut |_| {}).expect("forward");
            let down = reverse(&resident, &base_rate, Start::Annealed, &settings, &mut |_| {}).expect("reverse");
            let bytes: Vec<u8> = up.iter().chain(&down).flat_map(|x| x.to_le_bytes()).collect();
            let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest, "fa9f13a62f97bdeb7fa8fa2af435894b5f5840314e92bb17ddcaa00fdf62fe77", "{}", isa.name());
        }
    }
}
