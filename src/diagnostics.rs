//! Diagnostics of Markov chains: mixing, autocorrelation time, and whether they have reached the model's distribution.
//!
//! A [`Recorder`] takes a record after each sweep, or after every few. For each chain it records the free energy F(v) and the
//! overlaps with a few fixed patterns, q_m = (1/n_visible)·Σ_i s_mi·(2v_i - 1) with random signs s. The free energy shows how
//! probable a chain's state is; overlaps distinguish modes of equal free energy. [`Health`] has [`r_hat`],
//! [`bulk_effective_sample_size`] and [`autocorrelation_time`] of each of these numbers, and how often units flip.
//!
//! All chains may be wrong in the same way. [`equilibrium_gap`] therefore compares them with chains that start at data.
//! [`check_up`] does both without disturbing the chains, for example those of training. [`Activity`] needs no chains: it says how
//! often each hidden unit is on over data.
//!
//! Sources: A. Vehtari, A. Gelman, D. Simpson, B. Carpenter, P.-C. Bürkner, "Rank-normalization, folding, and localization: an
//! improved R̂ for assessing convergence of MCMC", 2021 (R̂, bulk effective sample size); C. J. Geyer, "Practical Markov chain Monte
//! Carlo", 1992 (initial monotone sequence); A. D. Sokal, "Monte Carlo methods in statistical mechanics: foundations and new
//! algorithms", 1989 (automatic window).

mod activity;
mod gap;
pub(crate) mod statistics;

pub use activity::Activity;
pub use gap::{EquilibriumGap, equilibrium_gap};
pub use statistics::{autocorrelation_time, bulk_effective_sample_size, r_hat};

use crate::{
    device::Batch,
    error::{Error, Result},
    gibbs::Chains,
    resident::Resident,
    shape::Layer,
    summary::Summary,
    uniforms::{Purpose, Uniforms},
    verbs::Activations,
};
use gap::gap_to_fresh;
use rand_core::Rng;

/// The seed of the patterns, so that they are the same in every run.
const PATTERN_SEED: u64 = 0x6f76_6572_6c61_7073;
/// Limits by Vehtari et al., 2021, section 4.
const MAX_R_HAT: f64 = 1.01;
const MIN_EFFECTIVE: f64 = 400.0;
/// The number of overlaps that [`check_up`] records.
pub const CHECK_UP_OVERLAPS: usize = 4;
/// The least length of a chain, in autocorrelation times, for a reliable estimate of that time.
const MIN_LENGTH: f64 = 50.0;

/// Records free energies, overlaps and flips of chains.
///
/// ```
/// use harmonium::{Chains, Cpu, Purpose, Rbm, Shape, Uniforms, diagnostics::Recorder};
///
/// # fn main() -> harmonium::Result<()> {
/// let rbm = Rbm::new(Shape::new(6, 4)?, 123).on(Cpu::detect()?)?;
/// let mut chains = Chains::from_hidden_bias(&rbm, 10, Uniforms::new(123, Purpose::Sampling))?;
/// let mut recorder = Recorder::new(&rbm, &chains, 2);
/// for _ in 0..1000 {
///     chains.sweep(&rbm, 1)?;
///     recorder.record(&rbm, &chains)?;
/// }
/// let health = recorder.health()?;
/// assert_eq!((health.chains, health.draws, health.statistics.len()), (10, 1000, 3));
/// // The weights are small, so the chains mix at once.
/// assert_eq!(health.warning(), None);
/// assert!(health.longest_autocorrelation_time() < 2.0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Recorder {
    chains: usize,
    /// Signs, patterns × n_visible.
    patterns: Vec<f32>,
    /// Draws of the free energy and of each overlap: statistics × chains × draws.
    series: Vec<Vec<Vec<f64>>>,
    visible: Activations,
    last_visible: Vec<f32>,
    last_hidden: Vec<u64>,
    visible_flips: u64,
    hidden_flips: u64,
    n_visible: usize,
    n_hidden: usize,
}

impl Recorder {
    /// Creates a recorder for chains of this number and RBMs of this shape, with `overlaps` overlaps besides the free energy.
    pub fn new(rbm: &Resident, chains: &Chains, overlaps: usize) -> Self {
        let n_visible = rbm.shape().n_visible();
        let mut generator = Uniforms::new(PATTERN_SEED, Purpose::Sampling).generator();
        let sign = |_| if generator.next_u32() >> 31 == 0 { 1.0 } else { -1.0 };
        Self {
            chains: chains.len(),
            patterns: (0..overlaps * n_visible).map(sign).collect(),
            series: vec![vec![Vec::new(); chains.len()]; 1 + overlaps],
            visible: Activations::default(),
            last_visible: Vec::new(),
            last_hidden: Vec::new(),
            visible_flips: 0,
            hidden_flips: 0,
            n_visible,
            n_hidden: rbm.shape().n_hidden(),
        }
    }

    /// The number of records so far, which is the number of draws of each chain.
    pub fn draws(&self) -> usize {
        self.series[0].first().map_or(0, Vec::len)
    }

    /// Records the current state of the chains.
    ///
    /// Costs O(chains·n_visible·n_hidden), about half a Gibbs step.
    ///
    /// # Errors
    /// [`Error::Argument`] if the chains have not made a step yet, if their number has changed, or if they do not fit the RBM.
    pub fn record(&mut self, rbm: &Resident, chains: &Chains) -> Result<()> {
        chains.check_belongs(rbm)?;
        if (chains.len(), rbm.shape().n_visible()) != (self.chains, self.n_visible) {
            return Err(Error::Argument {
                what: "chains",
                expected: format!("{} of {} visible units", self.chains, self.n_visible),
                found: format!("{} of {}", chains.len(), rbm.shape().n_visible()),
            });
        }
        chains.visible(rbm, &mut self.visible)?;
        let hidden = chains.state()?.hidden;
        let bits = &self.visible.sample;
        if self.draws() > 0 {
            self.visible_flips += bits.iter().zip(&self.last_visible).filter(|(a, b)| a != b).count() as u64;
            self.hidden_flips +=
                hidden.iter().zip(&self.last_hidden).map(|(a, b)| u64::from((a ^ b).count_ones())).sum::<u64>();
        }
        let energies = free_energies(rbm, bits)?;
        self.series[0].iter_mut().zip(energies).for_each(|(series, f)| series.push(f));
        for (series, pattern) in self.series[1..].iter_mut().zip(self.patterns.chunks_exact(self.n_visible)) {
            for (series, bits) in series.iter_mut().zip(bits.chunks_exact(self.n_visible)) {
                let sum: f32 = pattern.iter().zip(bits).map(|(s, v)| s * (2.0 * v - 1.0)).sum();
                series.push(f64::from(sum) / self.n_visible as f64);
            }
        }
        self.last_visible.clone_from(bits);
        self.last_hidden = hidden;
        Ok(())
    }

    /// The free energies of the recorded states in nats: chains × draws.
    pub fn free_energies(&self) -> &[Vec<f64>] {
        &self.series[0]
    }

    /// The mean of each chain, for the free energy and for each overlap.
    pub(crate) fn chain_means(&self) -> impl Iterator<Item = Vec<f64>> {
        self.series.iter().map(|series| series.iter().map(|chain| Summary::of(chain).mean).collect())
    }

    /// Computes the statistics of all records.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are fewer than 4 draws.
    pub fn health(&self) -> Result<Health> {
        let statistic = |(n, series): (usize, &Vec<Vec<f64>>)| {
            let summary = Summary::of(&series.concat());
            Ok(Statistic {
                name: if n == 0 { "free energy".into() } else { format!("overlap {n}") },
                mean: summary.mean,
                standard_deviation: summary.standard_deviation(),
                r_hat: r_hat(series)?,
                bulk_effective_sample_size: bulk_effective_sample_size(series)?,
                autocorrelation_time: autocorrelation_time(series)?,
            })
        };
        let statistics = self.series.iter().enumerate().map(statistic).collect::<Result<_>>()?;
        let moves = (self.chains * (self.draws() - 1)) as f64;
        Ok(Health {
            chains: self.chains,
            draws: self.draws(),
            statistics,
            visible_flip_rate: self.visible_flips as f64 / (moves * self.n_visible as f64),
            hidden_flip_rate: self.hidden_flips as f64 / (moves * self.n_hidden as f64),
        })
    }
}

/// F(v) of rows of bits, in nats.
fn free_energies(rbm: &Resident, bits: &[f32]) -> Result<Vec<f64>> {
    rbm.free_energy(rbm.rows(Layer::Visible, bits))
}

/// Statistics of chains. Times are in units of the interval between two records.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// The number of chains.
    pub chains: usize,
    /// The number of draws of each chain.
    pub draws: usize,
    /// The statistics of the free energy, and of each overlap.
    pub statistics: Vec<Statistic>,
    /// The fraction of visible units that differ between two successive records, within [0, 1].
    pub visible_flip_rate: f64,
    /// The fraction of hidden units that differ between two successive records, within [0, 1].
    pub hidden_flip_rate: f64,
}

/// Statistics of one number over all chains.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Statistic {
    /// `free energy`, `overlap 1`, …
    pub name: String,
    /// The mean of all draws, in nats for the free energy.
    pub mean: f64,
    /// The standard deviation of all draws.
    pub standard_deviation: f64,
    /// See [`r_hat`].
    pub r_hat: f64,
    /// See [`bulk_effective_sample_size`].
    pub bulk_effective_sample_size: f64,
    /// See [`autocorrelation_time`].
    pub autocorrelation_time: f64,
}

impl Health {
    /// The greatest R̂; NaN if no number changes.
    pub fn worst_r_hat(&self) -> f64 {
        self.worst(|statistic| statistic.r_hat, f64::max)
    }

    /// The least bulk effective sample size; NaN if no number changes.
    pub fn least_effective_sample_size(&self) -> f64 {
        self.worst(|statistic| statistic.bulk_effective_sample_size, f64::min)
    }

    /// The greatest autocorrelation time in records; NaN if no number changes.
    pub fn longest_autocorrelation_time(&self) -> f64 {
        self.worst(|statistic| statistic.autocorrelation_time, f64::max)
    }

    /// Chooses among all statistics. Those of a constant number are NaN, which `f64::max` and `f64::min` ignore.
    fn worst(&self, of: impl Fn(&Statistic) -> f64, choose: impl Fn(f64, f64) -> f64) -> f64 {
        self.statistics.iter().map(of).fold(f64::NAN, choose)
    }

    /// One line about problems, if there are any: R̂ above 1.01, an effective sample size below 400, or chains shorter than 50
    /// autocorrelation times.
    pub fn warning(&self) -> Option<String> {
        let (r_hat, effective, time) =
            (self.worst_r_hat(), self.least_effective_sample_size(), self.longest_autocorrelation_time());
        let mut all = Vec::new();
        if r_hat.is_nan() {
            all.push("the chains do not move".into());
        }
        if r_hat > MAX_R_HAT {
            all.push(format!("R̂ is {r_hat:.3}, above {MAX_R_HAT}: the chains have not mixed"));
        }
        if effective < MIN_EFFECTIVE {
            all.push(format!("the bulk effective sample size is {effective:.0}, below {MIN_EFFECTIVE}"));
        }
        if time.is_infinite() {
            all.push("the chains are too short to estimate their autocorrelation time".into());
        } else if (self.draws as f64) < MIN_LENGTH * time {
            all.push(format!("{} draws are fewer than {MIN_LENGTH} autocorrelation times of {time:.1}", self.draws));
        }
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// The state of chains at one moment of training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckUp {
    /// The number of updates so far.
    pub updates: u64,
    /// The greatest R̂; `None` if no number changes.
    pub r_hat: Option<f64>,
    /// The least bulk effective sample size; `None` if no number changes.
    pub bulk_effective_sample_size: Option<f64>,
    /// The greatest autocorrelation time in steps; `None` if no number changes or there are too few steps to estimate it.
    pub autocorrelation_time: Option<f64>,
    /// The fraction of visible units that flip in a step, within [0, 1].
    pub visible_flip_rate: f64,
    /// The fraction of hidden units that flip in a step, within [0, 1].
    pub hidden_flip_rate: f64,
    /// The comparison with chains that start at data.
    pub gap: EquilibriumGap,
}

/// Measures health and equilibrium gap of chains without moving them, for a training log.
///
/// A copy of the chains makes `steps` steps with the current parameters and records each of them with [`CHECK_UP_OVERLAPS`]
/// overlaps. Chains that start at `rows` make `steps` steps too; the gap compares their free energies with those of the copy
/// after its first step.
///
/// - `rows`: take them from all over the data. Neighbours in a file that is sorted by class would start all fresh chains in one
///   class.
/// - `steps`: at least 4. Longer autocorrelation times than this cannot be seen. The gap does not need mixing.
/// - `draws`: the sequence of all check-ups of a run. With [`Purpose::Diagnosis`] they do not change the numbers of training.
/// - `updates`: the number of updates so far.
///
/// Each check-up takes D = steps·(chains + rows)·(n_visible + n_hidden) + rows·n_hidden numbers, first for the copy and then for
/// the fresh chains, beginning updates·D after `draws`. So check-ups share no numbers, and none depends on which others are made.
/// The cost is about 3/2 of the steps of the copy plus the steps of the fresh chains.
///
/// # Errors
/// [`Error::Argument`] if chains or rows do not fit the RBM, or there are fewer than 4 steps.
pub fn check_up<'a>(
    rbm: &Resident, chains: &Chains, rows: impl Into<Batch<'a>>, steps: usize, mut draws: Uniforms, updates: u64,
) -> Result<CheckUp> {
    let rows = rows.into();
    let fresh = rows.len();
    let (n_visible, n_hidden) = (rbm.shape().n_visible(), rbm.shape().n_hidden());
    let a_step = ((chains.len() + fresh) * (n_visible + n_hidden)) as u64;
    let taken = a_step.wrapping_mul(steps as u64).wrapping_add((fresh * n_hidden) as u64);
    draws.skip(updates.wrapping_mul(taken));
    let mut copy = chains.drawing(draws)?;
    let mut recorder = Recorder::new(rbm, &copy, CHECK_UP_OVERLAPS);
    for _ in 0..steps {
        copy.sweep(rbm, 1)?;
        recorder.record(rbm, &copy)?;
    }
    let health = recorder.health()?;
    let first: Vec<f64> = recorder.free_energies().iter().map(|chain| chain[0]).collect();
    let known = |x: f64| Some(x).filter(|x| x.is_finite());
    Ok(CheckUp {
        updates,
        r_hat: known(health.worst_r_hat()),
        bulk_effective_sample_size: known(health.least_effective_sample_size()),
        autocorrelation_time: known(health.longest_autocorrelation_time()),
        visible_flip_rate: health.visible_flip_rate,
        hidden_flip_rate: health.hidden_flip_rate,
        gap: gap_to_fresh(rbm, &first, rows, steps, copy.state()?.uniforms)?,
    })
}
