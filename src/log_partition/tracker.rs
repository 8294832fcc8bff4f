//! log Z during training, by weighted particles that follow the parameters.
//! The type [`Tracker`] explains the method.

use super::{
    annealing::{BaseRate, Schedule, forward, resampled},
    effective_sample_size, log_mean,
};
use crate::{
    error::{Error, Result},
    gibbs::check_number,
    resident::Resident,
    rows::{Rows, Values},
    shape::{Layer, Shape},
    uniforms::{Purpose, Uniforms},
    verbs::{Activations, check_packed, pack, unpack},
};
use std::mem::swap;

/// The least number of particles that has an effective sample size.
const LEAST: usize = 2;

/// The complete state of a [`Tracker`], as a checkpoint stores it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TrackerState {
    /// The visible bits, ⌈n_visible/64⌉ words a particle; unit i is bit i mod 64 of word i/64, and bits beyond the last unit are 0.
    /// With Gaussian units, the states as numbers, ⌈n_visible/2⌉ words a particle: the bits of the `f32` of number i are half i mod 2
    /// of word i/2, the lower half first.
    pub visible: Vec<u64>,
    /// log w of each particle since the last resampling, in nats.
    pub log_weights: Vec<f64>,
    /// log Z at the last resampling in nats; initially that of the base rate.
    pub log_z: f64,
    /// The sum of 1/s - 1/C over all resamplings, where s is the effective sample size before each.
    pub variance: f64,
    /// F(v) of each particle under the parameters of the last visit, in nats.
    pub free_energies: Vec<f64>,
    /// The position of the next random number.
    pub uniforms: Uniforms,
}

/// A running estimate of log Z by C weighted particles v that follow the parameters:
/// Z'/Z = E[e^(F(v; θ) - F(v; θ'))] over v ~ P(v; θ).
///
/// After θ has become θ', a visit gives each particle log w ← log w + F(v; θ) - F(v; θ'), resamples if the effective sample
/// size is below C/2, and makes a Gibbs step under θ'. The estimate is log Z̃ + log(Σw/C), where Z̃ is the estimate at the last
/// resampling. It is below log Z on average: Σw/C·Z̃ itself is unbiased, as long as the particles do not influence the
/// parameters. So by Markov's inequality it is more than x nats too high with a probability of at most e^-x.
///
/// As with [`ais`](super::ais), a part of the model that grows where no particle is stays unseen; use [`bracket`](super::bracket())
/// on the finished model. The particles live on the host and can visit a model on any device.
///
/// Each visit is a step of annealed importance sampling (R. M. Neal, "Annealed importance sampling", 2001) whose intermediate
/// distributions are the models of training themselves. G. Desjardins, A. Courville and Y. Bengio ("On tracking the partition
/// function", 2011) estimate the change of each update in this way, from the chains of training. Weights that are carried from
/// update to update, with resampling, are those of D. Carbone, M. Hua, S. Coste and E. Vanden-Eijnden ("Efficient training of
/// energy-based models using Jarzynski equality", 2023). Their particles also provide the gradient; here they do not.
///
/// Random numbers come from the seed's [`Purpose::Tracking`] sequence: first those of the forward runs, then v of all particles. A
/// visit takes one number if it resamples, then draws h and v of all particles.
///
/// ```
/// use harmonium::{Cpu, Dataset, Rbm, Settings, Shape, Trainer};
/// use harmonium::log_partition::{self, BaseRate, Schedule, Tracker};
///
/// # fn main() -> harmonium::Result<()> {
/// let data = Dataset::from_u8([1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1].map(|bit: u8| 255 * bit).to_vec(), 6)?;
/// let cpu = Cpu::detect()?;
/// let mut rbm = Rbm::new(Shape::new(6, 4)?, 123).on(cpu)?;
/// let mut trainer = Trainer::new(cpu, rbm.shape(), Settings::default())?;
/// let mut tracker = Tracker::begin(&rbm, &BaseRate::fit(data.rows()), 1000, &Schedule::new(10)?, 123)?;
/// for _ in 0..100 {
///     trainer.step(&mut rbm, &data, 0.05)?;
///     tracker.follow(&rbm)?;
/// }
/// let exact = log_partition::exact(rbm.to_rbm()?.view())?.estimate;
/// assert!((tracker.log_z() - exact).abs() < 6.0 * tracker.standard_error() + 1e-4);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tracker {
    shape: Shape,
    /// The states of the particles as numbers, particles × n_visible.
    visible: Vec<f32>,
    log_weights: Vec<f64>,
    log_z: f64,
    variance: f64,
    free_energies: Vec<f64>,
    uniforms: Uniforms,
    /// Scratch for a Gibbs step.
    hidden: Activations,
    next: Activations,
}

impl Tracker {
    /// Starts C particles for the current model, by forward runs from the base rate, whose log Z is known.
    ///
    /// - `chains`: C, at least 2.
    /// - `schedule`: about ten steps suffice for a model near the base rate, such as an untrained one;
    ///   [`standard_error`](Self::standard_error) shows whether they do.
    /// - `seed`: the seed of the random numbers ([`Purpose::Tracking`]).
    ///
    /// Costs C·`schedule.steps()` Gibbs steps.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are too few chains or too many, [`Error::Length`] if the base rate has another number
    /// of units, [`Error::Value`] if a free energy of the model is not finite; errors of the device.
    pub fn begin(rbm: &Resident, base_rate: &BaseRate, chains: usize, schedule: &Schedule, seed: u64) -> Result<Self> {
        let shape = rbm.shape();
        base_rate.check(rbm)?;
        check_number("chains", LEAST, shape, chains)?;
        let draws = Uniforms::new(seed, Purpose::Tracking);
        let (log_weights, ends) = forward(rbm, base_rate, chains, schedule, draws, &mut |_| {})?;
        check_finite("log_weights", &log_weights)?;
        let mut hidden = vec![0.0; chains * shape.n_hidden()];
        unpack(&ends.hidden, shape.n_hidden(), &mut hidden);
        let (mut uniforms, mut next) = (ends.uniforms, Activations::default());
        rbm.sample_v_given_h(rows(&hidden, shape, Layer::Hidden), &mut uniforms, &mut next)?;
        let visible = std::mem::take(&mut next.sample);
        let free_energies = free_energies(rbm, &visible)?;
        let log_z = base_rate.log_z(shape.n_hidden());
        let hidden = Activations::default();
        Ok(Self { shape, visible, log_weights, log_z, variance: 0.0, free_energies, uniforms, hidden, next })
    }

    /// Restores a tracker. It continues bit by bit as the original would, on devices that compute the same.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are too few particles or too many, or a bit beyond the last unit is set; [`Error::Length`] if
    /// the parts do not fit each other; [`Error::Value`] if a number is not finite.
    pub fn from_state(shape: Shape, state: &TrackerState) -> Result<Self> {
        let chains = state.log_weights.len();
        check_number("tracker", LEAST, shape, chains)?;
        let visible = match shape.visible().is_discrete() {
            true => {
                check_packed("tracker.visible", &state.visible, chains, shape, Layer::Visible)?;
                let mut visible = vec![0.0; chains * shape.n_visible()];
                unpack(&state.visible, shape.n_visible(), &mut visible);
                visible
            }
            false => numbers_of(&state.visible, chains, shape)?,
        };
        if state.free_energies.len() != chains {
            let (what, found) = ("tracker.free_energies", state.free_energies.len());
            return Err(Error::Length { what, expected: chains, found });
        }
        check_finite("tracker.log_weights", &state.log_weights)?;
        check_finite("tracker.free_energies", &state.free_energies)?;
        check_finite("tracker.log_z", &[state.log_z])?;
        check_finite("tracker.variance", &[state.variance])?;
        if state.variance < 0.0 {
            let (expected, found) = ("at least 0".into(), state.variance.to_string());
            return Err(Error::Argument { what: "tracker.variance", expected, found });
        }
        let TrackerState { log_weights, log_z, variance, free_energies, uniforms, .. } = state.clone();
        let (hidden, next) = (Activations::default(), Activations::default());
        Ok(Self { shape, visible, log_weights, log_z, variance, free_energies, uniforms, hidden, next })
    }

    /// The complete state, to restore the tracker with [`from_state`](Self::from_state).
    pub fn state(&self) -> TrackerState {
        TrackerState {
            visible: match self.shape.visible().is_discrete() {
                true => pack(&self.visible, self.shape.n_visible()),
                false => words_of(&self.visible, self.shape),
            },
            log_weights: self.log_weights.clone(),
            log_z: self.log_z,
            variance: self.variance,
            free_energies: self.free_energies.clone(),
            uniforms: self.uniforms.clone(),
        }
    }

    /// Follows the parameters after one or more updates. Fewer updates between visits give weights with less scatter.
    ///
    /// Costs two free energies and a Gibbs step of C rows, two to three times a sweep of as many [`Chains`](crate::Chains). After an
    /// error the tracker is unchanged.
    ///
    /// # Errors
    /// [`Error::Argument`] if the RBM has another shape, [`Error::Value`] if a free energy is not finite; errors of the device.
    pub fn follow(&mut self, rbm: &Resident) -> Result<()> {
        rbm.check_belongs("tracker", rbm.device(), self.shape)?;
        // Both free energies are the same function of v and θ, rounding included. Rounding therefore does not accumulate over visits:
        // the tracker follows the normalising constant of this very function.
        let now = free_energies(rbm, &self.visible)?;
        let gains = self.free_energies.iter().zip(&now).map(|(before, now)| before - now);
        let mut log_weights: Vec<f64> = self.log_weights.iter().zip(gains).map(|(log, gain)| log + gain).collect();

        let (mut log_z, mut variance, mut uniforms) = (self.log_z, self.variance, self.uniforms.clone());
        let chains = log_weights.len();
        let mut resampled_rows = None;
        if 2.0 * effective_sample_size(&log_weights) < chains as f64 {
            log_z += log_mean(&log_weights);
            variance += relative_variance(&log_weights);
            let width = self.shape.n_visible();
            resampled_rows = Some(resampled(&log_weights, &self.visible, width, chains, &mut uniforms));
            log_weights.fill(0.0);
        }
        let visible = resampled_rows.as_ref().unwrap_or(&self.visible);

        let Self { hidden, next, .. } = self;
        rbm.sample_h_given_v(rows(visible, self.shape, Layer::Visible), &mut uniforms, hidden)?;
        rbm.sample_v_given_h(rows(&hidden.sample, self.shape, Layer::Hidden), &mut uniforms, next)?;
        self.free_energies = free_energies(rbm, &next.sample)?;
        swap(&mut self.visible, &mut next.sample);
        (self.log_weights, self.log_z, self.variance, self.uniforms) = (log_weights, log_z, variance, uniforms);
        Ok(())
    }

    /// Goes from one model to another in `visits` visits, at equal distances on the straight line between their parameters.
    ///
    /// A training step changes F(v) of likely v by far more than a nat, in ways that later steps reverse. Particles that follow every
    /// step therefore soon have worthless weights. A running mean of the parameters moves slowly and can be followed; from
    /// there a walk leads to the parameters themselves. The variance of the weights falls like 1/`visits`.
    ///
    /// `from`: the model of the last visit; `visits`: at least 1. Costs as much as `visits` calls of [`follow`](Self::follow).
    ///
    /// # Errors
    /// Those of [`follow`](Self::follow), and [`Error::Device`] if the models are on two devices.
    pub fn walk(&mut self, from: &Resident, to: &Resident, visits: usize) -> Result<()> {
        let mut there = from.clone();
        for left in (2..=visits).rev() {
            there.approach(to, (1.0 / left as f64) as f32)?;
            self.follow(&there)?;
        }
        self.follow(to)
    }

    /// The estimate of log Z of the model at the last visit, in nats. It is too low on average, by about half the square of
    /// [`standard_error`](Self::standard_error).
    pub fn log_z(&self) -> f64 {
        self.log_z + log_mean(&self.log_weights)
    }

    /// √(1/s - 1/C + Σ(1/s' - 1/C)), where s is the [`effective_sample_size`](Self::effective_sample_size) and s' its value before each
    /// resampling: the standard error of [`log_z`](Self::log_z) in nats, if chains mix between resamplings.
    ///
    /// This is the delta method, so values above about 0.5 are not accurate; they still show that there are too few particles or visits
    /// to trust log Z. It grows during training. It does not show a part of the model where no particle is.
    pub fn standard_error(&self) -> f64 {
        (self.variance + relative_variance(&self.log_weights)).sqrt()
    }

    /// (Σw)²/Σw² of the weights since the last resampling: the number of particles of equal weight that would do as well.
    ///
    /// Resampling resets it to C. The loss of precision by resampling is part of [`standard_error`](Self::standard_error).
    pub fn effective_sample_size(&self) -> f64 {
        effective_sample_size(&self.log_weights)
    }

    /// C, the number of particles.
    pub fn chains(&self) -> usize {
        self.log_weights.len()
    }

    /// The sizes of the layers.
    pub fn shape(&self) -> Shape {
        self.shape
    }
}

/// Packs numbers, two a word.
fn words_of(numbers: &[f32], shape: Shape) -> Vec<u64> {
    let half = |n: usize, x: &f32| u64::from(x.to_bits()) << (32 * n);
    let word = |pair: &[f32]| pair.iter().enumerate().fold(0, |word, (n, x)| word | half(n, x));
    numbers.chunks_exact(shape.n_visible()).flat_map(|row| row.chunks(2).map(word)).collect()
}

/// Unpacks the result of [`words_of`] and checks the numbers against the laws.
fn numbers_of(words: &[u64], rows: usize, shape: Shape) -> Result<Vec<f32>> {
    let (units, width) = (shape.n_visible(), shape.n_visible().div_ceil(2));
    if words.len() != rows * width {
        return Err(Error::Length { what: "tracker.visible", expected: rows * width, found: words.len() });
    }
    let number = |row: &[u64], i: usize| f32::from_bits((row[i / 2] >> (32 * (i % 2))) as u32);
    let numbers: Vec<f32> = words.chunks_exact(width).flat_map(|row| (0..units).map(move |i| number(row, i))).collect();
    Rows::with_segments(Values::F32(&numbers), shape.visible())?;
    Ok(numbers)
}

/// 1/s - 1/C: the variance of the mean of C weights, relative to its square (delta method).
fn relative_variance(log_weights: &[f64]) -> f64 {
    (1.0 / effective_sample_size(log_weights) - 1.0 / log_weights.len() as f64).max(0.0)
}

/// States 0 and 1 of one layer as rows.
fn rows(values: &[f32], shape: Shape, layer: Layer) -> Rows<'_> {
    Rows::of(Values::F32(values), shape.segments(layer))
}

/// F(v) of each particle in nats; an error if the model's parameters are not finite.
fn free_energies(rbm: &Resident, visible: &[f32]) -> Result<Vec<f64>> {
    let free_energies = rbm.free_energy(rows(visible, rbm.shape(), Layer::Visible))?;
    check_finite("free_energies", &free_energies)?;
    Ok(free_energies)
}

fn check_finite(what: &'static str, values: &[f64]) -> Result<()> {
    match values.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(Error::Value { what, index, expected: "a finite number", found: values[index] as f32 }),
        None => Ok(()),
    }
}
