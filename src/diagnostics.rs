//! How chains are: whether they mix, how fast they forget, and whether they have come to the model's distribution.
//!
//! A [`Recorder`] takes, after each sweep or every so many, the free energy F(v) of each chain and its overlaps with a few
//! fixed patterns, q_m = (1/n_visible)·Σ_i s_mi·(2v_i - 1) with random signs s: the energy says how deep a chain sits, overlaps
//! tell valleys of equal depth apart. [`Health`] has [`r_hat`], [`bulk_effective_sample_size`] and [`autocorrelation_time`] of
//! each, and how many units flip. All chains may be wrong in the same way; [`equilibrium_gap`] compares them with chains that
//! started elsewhere, at data. [`check_up`] does both for chains that must not be disturbed, such as those of training.
//! [`Activity`] tells of each hidden unit how often it is on over data, which needs no chains.

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

/// The seed of the patterns: they are the same in every run.
const PATTERNS: u64 = 0x6f76_6572_6c61_7073;
/// Limits that Vehtari et al. give, 2021, section 4.
const MAX_R_HAT: f64 = 1.01;
const MIN_EFFECTIVE: f64 = 400.0;
/// Overlaps that [`check_up`] records.
pub const CHECK_UP_OVERLAPS: usize = 4;
/// As many autocorrelation times should a chain last, or the time itself is doubtful.
const MIN_LENGTH: f64 = 50.0;

/// Records what chains do.
#[derive(Clone, Debug)]
pub struct Recorder {
    chains: usize,
    /// Signs, patterns × n_visible.
    patterns: Vec<f32>,
    /// For the free energy and each overlap, the draws of each chain.
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
    /// A recorder for chains of RBMs of this shape, with so many overlaps besides the free energy.
    pub fn new(rbm: &Resident, chains: &Chains, overlaps: usize) -> Self {
        let n_visible = rbm.shape().n_visible();
        let mut generator = Uniforms::new(PATTERNS, Purpose::Sampling).generator();
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

    /// How many draws of each chain there are.
    pub fn draws(&self) -> usize {
        self.series[0].first().map_or(0, Vec::len)
    }

    /// Takes the state of the chains. O(chains·n_visible·n_hidden), as much as half a Gibbs step.
    ///
    /// # Errors
    /// [`Error::Argument`] where the chains have not moved yet, are others in number or do not fit the RBM.
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

    /// The free energy of each recorded state, chain after chain.
    pub fn free_energies(&self) -> &[Vec<f64>] {
        &self.series[0]
    }

    /// The mean of each chain, of the free energy and of each overlap.
    pub(crate) fn chain_means(&self) -> impl Iterator<Item = Vec<f64>> {
        self.series.iter().map(|series| series.iter().map(|chain| Summary::of(chain).mean).collect())
    }

    /// What has been recorded says.
    ///
    /// # Errors
    /// [`Error::Argument`] where there are less than 4 draws.
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

/// F(v) of rows of bits.
fn free_energies(rbm: &Resident, bits: &[f32]) -> Result<Vec<f64>> {
    rbm.free_energy(rbm.rows(Layer::Visible, bits))
}

/// How chains are, in units of the steps between two records.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// How many chains there are.
    pub chains: usize,
    /// How many draws of each.
    pub draws: usize,
    /// Of the free energy, and of each overlap.
    pub statistics: Vec<Statistic>,
    /// The share of visible units that differ from one record to the next.
    pub visible_flip_rate: f64,
    /// The share of hidden units that do.
    pub hidden_flip_rate: f64,
}

/// What is known of one number over all chains.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Statistic {
    /// `free energy`, `overlap 1`, …
    pub name: String,
    /// Over all draws.
    pub mean: f64,
    /// Over all draws.
    pub standard_deviation: f64,
    /// See [`r_hat`].
    pub r_hat: f64,
    /// See [`bulk_effective_sample_size`].
    pub bulk_effective_sample_size: f64,
    /// See [`autocorrelation_time`].
    pub autocorrelation_time: f64,
}

impl Health {
    /// The greatest R̂; NaN where nothing moves.
    pub fn worst_r_hat(&self) -> f64 {
        self.worst(|statistic| statistic.r_hat, f64::max)
    }

    /// The least bulk effective sample size; NaN where nothing moves.
    pub fn least_effective_sample_size(&self) -> f64 {
        self.worst(|statistic| statistic.bulk_effective_sample_size, f64::min)
    }

    /// The greatest autocorrelation time; NaN where nothing moves.
    pub fn longest_autocorrelation_time(&self) -> f64 {
        self.worst(|statistic| statistic.autocorrelation_time, f64::max)
    }

    /// Numbers that do not move are NaN and do not count, as `max` and `min` have it.
    fn worst(&self, of: impl Fn(&Statistic) -> f64, choose: impl Fn(f64, f64) -> f64) -> f64 {
        self.statistics.iter().map(of).fold(f64::NAN, choose)
    }

    /// What must be said of these chains, if anything: R̂ above 1.01, an effective sample size below 400, or chains of less
    /// than 50 autocorrelation times.
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
            all.push("the chains are too short to tell their autocorrelation time".into());
        } else if (self.draws as f64) < MIN_LENGTH * time {
            all.push(format!("{} draws are less than {MIN_LENGTH} autocorrelation times of {time:.1}", self.draws));
        }
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// How chains are at one moment of training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckUp {
    /// Updates made so far.
    pub updates: u64,
    /// The greatest R̂; none where nothing moves.
    pub r_hat: Option<f64>,
    /// The least bulk effective sample size; none where nothing moves.
    pub bulk_effective_sample_size: Option<f64>,
    /// The greatest autocorrelation time in steps; none where nothing moves or the steps are too few to tell.
    pub autocorrelation_time: Option<f64>,
    /// The share of visible units that a step flips.
    pub visible_flip_rate: f64,
    /// The share of hidden units that a step flips.
    pub hidden_flip_rate: f64,
    /// The chains against fresh ones.
    pub gap: EquilibriumGap,
}

/// Health and equilibrium gap of chains after so many updates, without moving them: what a training log carries.
///
/// A copy of the chains makes `steps` steps at the present parameters, each of them recorded with [`CHECK_UP_OVERLAPS`]
/// overlaps; chains from the rows make as many, and the free energies of the copy's first step are compared with theirs.
/// `rows`: from all over the data; neighbours in a file that is sorted by class start all fresh chains in one class.
/// `steps`: at least 4; R̂ and autocorrelation times beyond them cannot be seen, the gap needs no mixing. `draws`: the sequence
/// of all check-ups of a run; with [`Purpose::Diagnosis`] training goes on as if nobody had asked. Each check-up takes
/// D = steps·(chains + rows)·(n_visible + n_hidden) + rows·n_hidden numbers, first for the copy and then for the fresh chains,
/// and begins updates·D after `draws`: it shares none with any other, and does not depend on which others are made. Costs some
/// 3/2 of the steps of the copy and the steps of the fresh chains.
///
/// # Errors
/// [`Error::Argument`] where chains or rows do not fit the RBM, or there are less than 4 steps.
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
