//! log Z, the number that a likelihood needs: exactly where enumeration is possible, else as an interval with a warning where
//! it should not be trusted.
//!
//! | function | result | use |
//! |---|---|---|
//! | [`exact()`] | log Z itself, by enumeration | a smaller layer of up to [`exact::MAX_UNITS`] units |
//! | [`ais`] | an estimate that lies below log Z on average | a first look |
//! | [`reverse_ais`] | an estimate that lies above it on average | the other end |
//! | [`bracket`] | both, the interval between them, and whether they agree | reports |
//! | [`lower_bound`] | what rows prove of log Z, for [`LogPartition::at_least`] | every interval |
//!
//! Annealed importance sampling (R. M. Neal, "Annealed importance sampling", 2001; R. Salakhutdinov, I. Murray, "On the
//! quantitative analysis of deep belief networks", 2008) carries runs through p*_β(v) = exp((1 - β)·a·v + β·b·v)·
//! Π_j (1 + e^(β·(c_j + (vW)_j))) from a [`BaseRate`] model, β = 0, whose Z_0 = 2^n_hidden·Π_i (1 + e^a_i) is known, to the
//! RBM, β = 1. A run's weight w is the product of p*_β'(v)/p*_β(v) over its steps, and its expectation is Z/Z_0. The mean of R weights is
//! unbiased, hence its logarithm is too low on average, and by Markov's inequality it is more than x too high with a
//! probability of at most e^-x (Y. Burda, R. Grosse, R. Salakhutdinov, "Accurate and conservative estimates of MRF
//! log-likelihood using reverse annealing", 2015). Run in reverse, from samples of the RBM down to the base rate, the same
//! argument bounds log Z from above (R. Grosse, Z. Ghahramani, R. Adams, "Sandwiching the marginal likelihood using
//! bidirectional Monte Carlo", 2015). Neither an estimate nor its standard error shows that runs miss a part of the
//! distribution. The gap between the two directions may show it, and so may rows that are too probable: log Z is never below
//! log Σ e^-F(v) over distinct rows ([`lower_bound`]).
//!
//! # The interval
//! With s the standard deviation of R log-weights and σ the standard error of the log of their mean (delta method),
//! - against too high a mean weight: 3σ; where the effective sample size is below 10 or R/10, at least
//!   ln(1/0.00135) = 6.6, which Markov's inequality gives the probability that 3σ has in a normal distribution;
//! - against too low a mean weight: the same, or where that is more, the upper end of Cox's interval for the mean of a
//!   log-normal distribution, mean + s²/2 + 3·√(s²/R + s⁴/(2(R - 1))) (C. E. Land, "An evaluation of approximate confidence
//!   interval estimation methods for lognormal means", 1972): it grows with s² where a short schedule scatters the weights;
//! - either way 2^-20·(n_hidden + |log Z|) for the rounding of the `f32` arithmetic.
//!
//! One direction alone has both ends from its own weights. A bracket has its lower end from the forward runs and its upper
//! end from the reverse ones, either guarded against too high a mean weight, so that both are stochastic bounds whatever the
//! schedule. Log-weights that scatter by several nats make these bounds wide, as a few runs are the mean weight. But forward
//! and reverse runs determine log Z *together* by means of numbers within [0, 1] (C. H. Bennett's acceptance ratio, 1976), for
//! which Chernoff's inequality gives an interval without assumptions on the weights; at the same error of 0.00135 for each of
//! its four tails the bracket is the part that both intervals have in common, and its estimate is Bennett's. By the sum of
//! these six errors it contains log Z in at least 99 % of cases, as long as the chains that reverse runs start from are
//! samples of the model. Where they are not the two estimates may come out crossed; the interval then covers both and
//! [`warning`](LogPartition::warning) says so.

mod annealing;
mod bennett;
mod bound;
pub mod exact;
mod products;
mod walk;

pub use annealing::{Annealing, BaseRate, Schedule, Start, ais, ais_watched, bracket, bracket_watched, reverse_ais};
pub use bound::lower_bound;
pub use exact::log_partition as exact;

use crate::{names::names, summary::Summary};
use bennett::Bennett;

/// log Z in nats, and how far to trust it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogPartition {
    /// log Z; for a bracket from forward and reverse runs together, or where they are crossed the middle between them.
    pub estimate: f64,
    /// The lower end of the interval.
    pub lower: f64,
    /// The upper end of the interval; infinite where a certain bound has refuted it.
    pub upper: f64,
    /// (Σw)²/Σw²: as many runs of equal weight would do as well. For a bracket the lesser of both directions; infinite where
    /// nothing was sampled.
    pub effective_sample_size: f64,
    /// How it was found.
    pub method: Method,
    /// Whether forward and reverse runs meet.
    pub agreement: Agreement,
    /// How many runs a direction has; 0 where nothing was sampled.
    pub runs: usize,
    /// The estimate of the forward runs.
    pub forward: Option<f64>,
    /// The estimate of the reverse runs.
    pub reverse: Option<f64>,
    /// Of a bracket: how many runs of either direction end where those of the other do. It is the number of runs that
    /// make the estimate of both together, as the effective sample size is for one direction.
    pub overlap: Option<f64>,
    /// The upper end that a certain bound has refuted; see [`at_least`](Self::at_least).
    pub refuted: Option<f64>,
}

/// How a [`LogPartition`] was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// Enumeration.
    Exact,
    /// Annealed importance sampling from the base rate to the model.
    Ais,
    /// Annealed importance sampling from the model to the base rate.
    ReverseAis,
    /// Both.
    Bracket,
}

names!(Method, "method", Exact = "exact", Ais = "ais", ReverseAis = "reverse_ais", Bracket = "bracket");

/// Whether forward and reverse runs give the same log Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Agreement {
    /// Nothing was sampled.
    Exact,
    /// There is one direction only.
    Unchecked,
    /// The two are no further apart than three standard errors of their difference.
    Meet,
    /// The reverse estimate lies above the forward one by more than that: the schedule is too short.
    Apart,
    /// The reverse estimate lies below the forward one by more than that: the chains that the reverse runs started from
    /// were no samples of the model.
    Crossed,
}

names!(
    Agreement,
    "agreement",
    Exact = "exact",
    Unchecked = "unchecked",
    Meet = "meet",
    Apart = "apart",
    Crossed = "crossed"
);

impl LogPartition {
    /// The same with log Z ≥ `bound` put to use, which must be certain, as that of [`lower_bound`] is.
    ///
    /// Raises the lower end and the estimate to the bound. A bound above the upper end refutes the interval: the runs missed a
    /// part of the model, `upper` becomes infinite, and [`warning`](Self::warning) says so. An exact log Z stays as it is.
    #[must_use]
    pub fn at_least(mut self, bound: f64) -> Self {
        if self.method == Method::Exact {
            return self;
        }
        if bound > self.upper {
            self.refuted = Some(self.upper);
            self.upper = f64::INFINITY;
        }
        self.lower = self.lower.max(bound);
        self.estimate = self.estimate.max(bound);
        self
    }

    /// What a reader of the number must know, if anything: print it wherever the number is printed.
    pub fn warning(&self) -> Option<String> {
        if let Some(upper) = self.refuted {
            return Some(format!(
                "log Z is at least {:.2} for certain, but the annealing runs put it below {upper:.2}: they missed a part of \
                 the model, and log Z has no known upper end",
                self.lower
            ));
        }
        let mut all = Vec::new();
        match (self.agreement, self.forward, self.reverse) {
            (Agreement::Apart, Some(forward), Some(reverse)) => all.push(format!(
                "forward and reverse estimates of log Z are {:.2} nats apart: only the interval can be trusted; more \
                 temperatures narrow it",
                reverse - forward
            )),
            (Agreement::Crossed, Some(forward), Some(reverse)) => all.push(format!(
                "the reverse estimate of log Z is {:.2} nats below the forward one: the chains that it started from were no \
                 samples of the model; a longer burn-in may help",
                forward - reverse
            )),
            (Agreement::Unchecked, ..) => all.push(match self.method {
                Method::ReverseAis => "reverse runs alone tend to too high a log Z and so to too low a likelihood, unseen by \
                                       their standard error: a bracket would tell"
                    .into(),
                _ => "forward runs alone tend to too low a log Z and so to too high a likelihood, unseen by their standard \
                      error: a bracket would tell"
                    .into(),
            }),
            _ => {}
        }
        let overlaps = self.overlap.is_some_and(|overlap| overlap >= MIN_OVERLAP && self.agreement == Agreement::Meet);
        if self.runs > 0 && is_small(self.effective_sample_size, self.runs) && !overlaps {
            all.push(format!(
                "the effective sample size is {:.1} of {} runs: a few runs make the estimate; more temperatures help",
                self.effective_sample_size, self.runs
            ));
        }
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// How many standard errors the interval reaches.
const STANDARD_ERRORS: f64 = 3.0;
/// ln(1/0.00135): Markov's inequality gives e^-this what three standard errors have in a normal distribution.
const MARKOV: f64 = 6.607_7;

/// With fewer runs than this in the overlap of both directions a bracket's estimate rests on a few of them.
const MIN_OVERLAP: f64 = 5.0;

/// Whether an effective sample size is too small for a standard error to mean much.
fn is_small(effective_sample_size: f64, runs: usize) -> bool {
    effective_sample_size < (runs as f64 / 10.0).max(10.0)
}

/// How far a sum of `n_hidden` softplus terms in `f32`, and what else adds up to `size`, may be off.
pub(crate) fn rounding(n_hidden: usize, size: f64) -> f64 {
    2f64.powi(-20) * (n_hidden as f64 + size)
}

/// What the log-weights of one direction say of the log of the mean weight.
#[derive(Clone, Copy, Debug)]
struct Weights {
    log_mean: f64,
    standard_error: f64,
    effective_sample_size: f64,
    /// How much too high the estimate may be.
    too_high: f64,
    /// How much too low.
    too_low: f64,
}

impl Weights {
    /// Of at least two log-weights. `rounding` is what the arithmetic may be off.
    fn of(log_weights: &[f64], rounding: f64) -> Self {
        let runs = log_weights.len() as f64;
        let greatest = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = log_weights.iter().map(|log| (log - greatest).exp()).collect();
        let (sum, squares) = weights.iter().fold((0.0, 0.0), |(sum, squares), w| (sum + w, squares + w * w));
        let effective_sample_size = sum * sum / squares;
        let weights = Summary::of(&weights);
        let log_mean = greatest + weights.mean.ln();
        let standard_error = weights.standard_error() / weights.mean;
        let mut too_high = STANDARD_ERRORS * standard_error;
        if is_small(effective_sample_size, log_weights.len()) {
            too_high = too_high.max(MARKOV);
        }
        let logs = Summary::of(log_weights);
        let spread = logs.variance();
        let cox = (spread / runs + spread * spread / (2.0 * (runs - 1.0))).sqrt();
        let log_normal = logs.mean + spread / 2.0 + STANDARD_ERRORS * cox;
        Self {
            log_mean,
            standard_error,
            effective_sample_size,
            too_high: too_high + rounding,
            too_low: too_high.max(log_normal - log_mean) + rounding,
        }
    }
}

impl LogPartition {
    /// From the log-weights of one direction: forward ones have the mean weight Z/Z_0, reverse ones Z_0/Z.
    fn alone(method: Method, log_z_0: f64, log_weights: &[f64], rounding: f64) -> Self {
        let weights = Weights::of(log_weights, rounding);
        let (forward, reverse) = (log_z_0 + weights.log_mean, log_z_0 - weights.log_mean);
        let is_reverse = method == Method::ReverseAis;
        let (estimate, below, above) = match is_reverse {
            true => (reverse, weights.too_low, weights.too_high),
            false => (forward, weights.too_high, weights.too_low),
        };
        Self {
            estimate,
            lower: estimate - below,
            upper: estimate + above,
            effective_sample_size: weights.effective_sample_size,
            method,
            agreement: Agreement::Unchecked,
            runs: log_weights.len(),
            forward: (!is_reverse).then_some(forward),
            reverse: is_reverse.then_some(reverse),
            overlap: None,
            refuted: None,
        }
    }

    /// From both.
    fn both(log_z_0: f64, forward: &[f64], reverse: &[f64], rounding: f64) -> Self {
        let (up, down) = (Weights::of(forward, rounding), Weights::of(reverse, rounding));
        let (low, high) = (log_z_0 + up.log_mean, log_z_0 - down.log_mean);
        let error = STANDARD_ERRORS * up.standard_error.hypot(down.standard_error) + 2.0 * rounding;
        let agreement = match high - low {
            gap if gap > error => Agreement::Apart,
            gap if gap < -error => Agreement::Crossed,
            _ => Agreement::Meet,
        };
        let together = Bennett::of(forward, reverse, MARKOV);
        let (mut lower, mut upper) = (low - up.too_high, high + down.too_high);
        let mut estimate = log_z_0 + together.estimate;
        if agreement == Agreement::Crossed {
            // The bounds should be in order; where they are not either may be the wrong one.
            estimate = low.midpoint(high);
            lower = lower.min(high - down.too_low);
            upper = upper.max(low + up.too_low);
        } else {
            lower = lower.max(log_z_0 + together.lower - rounding).min(estimate);
            upper = upper.min(log_z_0 + together.upper + rounding).max(estimate);
        }
        Self {
            estimate,
            lower,
            upper,
            overlap: Some(together.overlap),
            refuted: None,
            effective_sample_size: up.effective_sample_size.min(down.effective_sample_size),
            method: Method::Bracket,
            agreement,
            runs: forward.len().min(reverse.len()),
            forward: Some(low),
            reverse: Some(high),
        }
    }
}
