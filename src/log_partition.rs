//! log Z, which a likelihood needs: exact by enumeration for small layers; otherwise an interval, or a lower bound if the runs do not
//! justify an interval.
//!
//! | function | result | use |
//! |---|---|---|
//! | [`exact()`] | log Z itself, by enumeration | a smaller layer of up to [`exact::MAX_UNITS`] units |
//! | [`bracket()`] | an interval and its [`Verdict`] | reports |
//! | [`ais`] | a lower bound, and an estimate that is below log Z on average | a first look |
//! | [`reverse_ais`] | an upper bound, valid if its chains are samples of the model | chains known to be samples |
//! | [`lower_bound`] | a certain lower bound from given rows, for [`LogPartition::at_least`] | every interval |
//! | [`Tracker`] | an estimate that is below log Z on average and follows the parameters | training |
//!
//! ```
//! use harmonium::{Batch, Cpu, Dataset, Rbm, Shape};
//! use harmonium::log_partition::{self, Annealing, BaseRate, Schedule, Start, Verdict};
//!
//! # fn main() -> harmonium::Result<()> {
//! let rbm = Rbm::new(Shape::new(6, 4)?, 123);
//! let exact = log_partition::exact(rbm.view())?;
//! assert_eq!(exact.verdict(), Verdict::Exact);
//!
//! // For a large model: annealing in both directions gives an interval.
//! let resident = rbm.on(Cpu::detect()?)?;
//! let data = Dataset::from_u8(vec![255, 0, 0, 255, 255, 0], 6)?;
//! let settings = Annealing { schedule: Schedule::new(100)?, burn_in: 100, ..Annealing::default() };
//! let base_rate = BaseRate::fit(data.rows());
//! let z = log_partition::bracket(&resident, &base_rate, Start::Rows(Batch::from(&data)), &settings)?;
//! assert_eq!(z.verdict(), Verdict::Bracketed, "{}", z.reason());
//! assert!(z.lower <= exact.estimate && exact.estimate <= z.upper);
//! # Ok(())
//! # }
//! ```
//!
//! Annealed importance sampling (R. M. Neal, "Annealed importance sampling", 2001; R. Salakhutdinov, I. Murray, "On the
//! quantitative analysis of deep belief networks", 2008) carries runs through p*_β(v) = exp((1 - β)·a·v + β·b·v)·
//! Π_j (1 + e^(β·(c_j + (vW)_j))). At β = 0 this is a [`BaseRate`] model, whose Z_0 = 2^n_hidden·Π_i (1 + e^a_i) is known; at β = 1 it
//! is the RBM. A run's weight w is the product of p*_β'(v)/p*_β(v) over its steps; its expectation is Z/Z_0. The mean of R weights is
//! unbiased. So its logarithm is too low on average, and by Markov's inequality it is more than x too high with a
//! probability of at most e^-x (Y. Burda, R. Grosse, R. Salakhutdinov, "Accurate and conservative estimates of MRF
//! log-likelihood using reverse annealing", 2015). Reverse runs go from samples of the RBM to the base rate; the same
//! argument then bounds log Z from above (R. Grosse, Z. Ghahramani, R. Adams, "Sandwiching the marginal likelihood using
//! bidirectional Monte Carlo", 2015).
//!
//! # The interval
//! The forward bound always holds. The reverse bound holds if its chains are samples of the model. A part of the model that no run
//! and no chain visits is missing from both. The ends of the interval combine these:
//! - The mean weight of each direction, with a margin of three standard errors of its logarithm (delta method). The margin is at
//!   least -ln(1 - 6.6/R), because a part of the model with a share of 6.6/R escapes R runs with a probability of 0.00135, that of
//!   three standard errors of a normal distribution. If the effective sample size is below 10 or R/10, the margin is at least
//!   ln(1/0.00135) = 6.6, by Markov's inequality.
//! - Both directions together, by means of numbers within [0, 1] (C. H. Bennett's acceptance ratio, 1976). For these, Chernoff's
//!   inequality gives an interval for any distribution of the weights, at the same error of 0.00135 for each of four tails. It is
//!   narrow if the directions overlap, even if the weights scatter. The estimate is Bennett's.
//! - In both cases 2^-20·(n_hidden + |log Z|) for the rounding of the `f32` arithmetic.
//! - [`lower_bound`], over all states of either layer that chains have visited.
//!
//! # Two sides
//! One base rate and one kind of start can miss the same part of the model; then both directions agree on a wrong log Z. The
//! forward runs of [`bracket()`] therefore start from the given base rate *and* from the uniform one. Reverse runs go to both, from
//! chains of three populations: ends of forward runs in proportion to their weights (*grown*), the given rows or chains, and hidden
//! layers of every density from all off to all on (*spread*). The interval is the intersection of those of both base rates.
//!
//! 1. If the chains mix, they are samples of the model for any start, and all reverse runs count. They mix if R̂ over all of them in
//!    the second half of the burn-in is at most 1.1, and no two populations differ in the means of their chains. That is Welch's
//!    t-test of the free energy and of four overlaps, with a false-alarm rate of 0.001 for all of these comparisons together.
//! 2. If they do not mix, only the grown chains are distributed over the model correctly, by unbiased weights. They count as at most
//!    as many independent starts as the effective sample size of these weights, and as none if that is 6.6 or less. A chain that
//!    stays elsewhere shows a part s of the model, and its reverse run shows the log-weight log(Z_s/P(s)) that a forward run to s
//!    would have, where P(s) is the probability of such a run. As R runs never reached s, P(s) is hardly more than 6.6/R, and s
//!    adds at most 6.6/R·e^(that log-weight) to Z. If this is at most e^(the upper end), it raises the upper end. If it is more, it
//!    is unknown which chains are right, and there is no upper end.
//! 3. If the upper end is below the lower end, the chains that the reverse runs started from were wrong, because forward weights are
//!    unbiased for any chains. There is no upper end.
//!
//! `docs/census.md` reports how often intervals contained log Z, for about two hundred trained models whose log Z is known.

mod annealing;
mod bennett;
mod bound;
mod bracket;
pub mod exact;
mod populations;
mod products;
mod tracker;
mod walk;

pub use annealing::{Annealing, BaseRate, Schedule, Start, ais, ais_watched, reverse_ais};
pub use bound::lower_bound;
pub use bracket::{bracket, bracket_watched};
pub use exact::log_partition as exact;
pub use tracker::{Tracker, TrackerState};

use crate::{names::names, summary::Summary};

/// An estimate of log Z in nats, and its uncertainty. The [module](self) has an example.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogPartition {
    /// The estimate of log Z in nats. For a bracket it uses forward and reverse runs, or forward runs only if there is no upper end.
    pub estimate: f64,
    /// The lower end of the interval in nats; -∞ for reverse runs alone.
    pub lower: f64,
    /// The upper end of the interval in nats; ∞ if none is known.
    pub upper: f64,
    /// (Σw)²/Σw²: the number of runs of equal weight that would give as good an estimate. For a bracket the lesser of both
    /// directions; infinite if nothing was sampled.
    pub effective_sample_size: f64,
    /// The method.
    pub method: Method,
    /// The agreement between the directions, and between chains of different starts.
    pub agreement: Agreement,
    /// The number of runs of each direction; 0 if nothing was sampled.
    pub runs: usize,
    /// The estimate of the forward runs in nats. For a bracket the greater one of both base rates, as each is too low on average.
    pub forward: Option<f64>,
    /// The estimate of the reverse runs in nats.
    pub reverse: Option<f64>,
    /// For a bracket: the number of runs of each direction that end where those of the other do. It says how many runs make the joint
    /// estimate, as the effective sample size does for one direction.
    pub overlap: Option<f64>,
    /// For a bracket: the greatest R̂ of the chains over the second half of their burn-in; `None` if no number changes, or the burn-in
    /// is too short.
    pub r_hat: Option<f64>,
    /// For a bracket: true if the chains mix, judged by R̂ and by a comparison of chains with different starts.
    pub mix: Option<bool>,
    /// For a bracket whose chains are [`Divided`](Agreement::Divided): by how many nats a reverse run exceeds the upper end that forward
    /// runs alone would allow; `None` if none does.
    pub excess: Option<f64>,
    /// The upper end in nats that a certain bound has refuted; see [`at_least`](Self::at_least).
    pub refuted: Option<f64>,
}

/// The conclusion that a [`LogPartition`] permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// The estimate is log Z itself.
    Exact,
    /// log Z lies within the interval.
    Bracketed,
    /// log Z is at least the lower end, and may be much more. A likelihood then has no lower end.
    LowerBound,
    /// Reverse runs alone: log Z is at most the upper end, if the chains were samples of the model.
    UpperBound,
}

names!(
    Verdict,
    "verdict",
    Exact = "exact",
    Bracketed = "bracketed",
    LowerBound = "lower_bound",
    UpperBound = "upper_bound"
);

/// The method behind a [`LogPartition`].
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

/// The agreement of forward runs, reverse runs, and the chains that reverse runs start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Agreement {
    /// Nothing was sampled.
    Exact,
    /// There is only one direction.
    Unchecked,
    /// The two directions are at most three standard errors of their difference apart.
    Meet,
    /// The reverse estimate exceeds the forward one by more than that: the schedule is too short.
    Apart,
    /// The upper end of the reverse runs is below the lower end of the forward runs: the chains that the reverse runs started from
    /// were not samples of the model.
    Crossed,
    /// The chains do not mix, and some stay where forward runs do not go, or a few runs have all of the weight. It is unknown how
    /// much of the model is where.
    Divided,
}

names!(
    Agreement,
    "agreement",
    Exact = "exact",
    Unchecked = "unchecked",
    Meet = "meet",
    Apart = "apart",
    Crossed = "crossed",
    Divided = "divided"
);

impl LogPartition {
    /// The conclusion, according to which ends are known.
    pub fn verdict(&self) -> Verdict {
        match (self.lower.is_finite(), self.upper.is_finite()) {
            _ if self.method == Method::Exact => Verdict::Exact,
            (true, true) => Verdict::Bracketed,
            (false, true) => Verdict::UpperBound,
            _ => Verdict::LowerBound,
        }
    }

    /// Uses the fact that log Z ≥ `bound`, which must be certain, as [`lower_bound`] is.
    ///
    /// Raises the lower end and the estimate to the bound. A bound above the upper end refutes the interval, because the runs missed a
    /// part of the model: `upper` becomes infinite, and [`reason`](Self::reason) says so. An exact log Z stays unchanged.
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

    /// The reason for the [`verdict`](Self::verdict), to be printed together with the number.
    pub fn reason(&self) -> String {
        if let Some(upper) = self.refuted {
            return format!(
                "log Z is certainly at least {:.2}, but the annealing runs put it below {upper:.2}: they missed a part of \
                 the model, and log Z has no known upper end",
                self.lower
            );
        }
        let chains = match self.r_hat {
            Some(r_hat) if r_hat > 99.0 => "R̂ above 99".into(),
            Some(r_hat) => format!("R̂ {r_hat:.2}"),
            None if self.method == Method::Bracket => "R̂ unknown".into(),
            None => String::new(),
        };
        let help = "a longer burn-in or more temperatures may help; enumeration works if a layer is small enough";
        match (self.agreement, self.forward, self.reverse) {
            (Agreement::Exact, ..) => "all states of the smaller layer are counted".into(),
            (Agreement::Unchecked, ..) if self.method == Method::ReverseAis => {
                "reverse runs alone prove nothing unless their chains are samples of the model, which is not checked here".into()
            }
            (Agreement::Unchecked, ..) => {
                "forward runs alone may miss a part of the model without a trace in their standard error; a bracket looks for it".into()
            }
            (Agreement::Divided, ..) => {
                let why = match self.excess {
                    Some(excess) => format!("forward runs do not reach all of them ({excess:.1} nats short)"),
                    None => "a few forward runs have all of the weight".into(),
                };
                format!(
                    "chains from different starts stay in different parts of the model ({chains}), and {why}: it is unknown how \
                     much of the model each part holds; {help}"
                )
            }
            (Agreement::Crossed, Some(forward), Some(reverse)) => format!(
                "the reverse estimate of log Z, {reverse:.2}, is below the forward one, {forward:.2}: the chains that it \
                 started from were not samples of the model ({chains}); {help}"
            ),
            _ if self.upper == f64::INFINITY => {
                format!("reverse runs do not come near the start of the forward runs ({chains}); {help}")
            }
            (Agreement::Apart, Some(forward), Some(reverse)) => format!(
                "forward and reverse estimates of log Z are {:.2} nats apart ({chains}): the interval is wide; more \
                 temperatures narrow it",
                reverse - forward
            ),
            _ if self.mix == Some(false) => format!(
                "the chains do not mix ({chains}), but forward runs reach every place where one stays, and their weights say \
                 how much of the model is there"
            ),
            _ => format!("forward and reverse runs agree, and chains of all starts mix ({chains})"),
        }
    }

    /// The [`reason`](Self::reason), if a reader must not overlook it: an interval that lacks an end, or that rests on a few runs.
    pub fn warning(&self) -> Option<String> {
        let few = self.runs > 0 && is_small(self.effective_sample_size, self.runs as f64);
        let overlaps = self.overlap.is_some_and(|overlap| overlap >= MIN_OVERLAP && self.agreement == Agreement::Meet);
        match self.verdict() {
            Verdict::Exact => None,
            Verdict::Bracketed if few && !overlaps => Some(format!(
                "the effective sample size is {:.1} of {} runs: a few runs determine the estimate; more temperatures help",
                self.effective_sample_size, self.runs
            )),
            Verdict::Bracketed => (self.agreement != Agreement::Meet).then(|| self.reason()),
            _ => Some(self.reason()),
        }
    }
}

/// The margin of the interval in standard errors.
const STANDARD_ERRORS: f64 = 3.0;
/// ln(1/0.00135), where 0.00135 is the probability that a normal number lies more than three standard errors above its mean. A
/// share of UNSEEN/R escapes R runs with about this probability; Markov's inequality holds except with probability e^-UNSEEN.
const UNSEEN: f64 = 6.607_7;

/// The least overlap of both directions, in runs. Below it a bracket's estimate rests on too few runs.
const MIN_OVERLAP: f64 = 5.0;

/// Returns true if an effective sample size is too small for a meaningful standard error.
fn is_small(effective_sample_size: f64, runs: f64) -> bool {
    effective_sample_size < (runs / 10.0).max(10.0)
}

/// The possible rounding error of `n_hidden` softplus terms in `f32`, with other terms that add up to `size`.
pub(crate) fn rounding(n_hidden: usize, size: f64) -> f64 {
    2f64.powi(-20) * (n_hidden as f64 + size)
}

/// (Σw)²/Σw², from log-weights.
fn effective_sample_size(log_weights: &[f64]) -> f64 {
    let greatest = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights = log_weights.iter().map(|log| (log - greatest).exp());
    let (sum, squares) = weights.fold((0.0, 0.0), |(sum, squares), w| (sum + w, squares + w * w));
    sum * sum / squares
}

/// The logarithm of the mean weight, from log-weights.
fn log_mean(log_weights: &[f64]) -> f64 {
    let greatest = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = log_weights.iter().map(|log| (log - greatest).exp()).sum();
    greatest + (sum / log_weights.len() as f64).ln()
}

/// The log of the mean weight of one direction, and its uncertainty.
#[derive(Clone, Copy, Debug)]
struct Weights {
    log_mean: f64,
    standard_error: f64,
    effective_sample_size: f64,
    /// The margin by which the estimate may be too high, in nats.
    too_high: f64,
}

impl Weights {
    /// From at least two log-weights, which count as `runs` independent ones. `rounding`: the error of the arithmetic, in nats.
    fn of(log_weights: &[f64], runs: f64, rounding: f64) -> Self {
        let greatest = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights = Summary::of(&log_weights.iter().map(|log| (log - greatest).exp()).collect::<Vec<_>>());
        let effective_sample_size = effective_sample_size(log_weights);
        let standard_error = weights.variance().sqrt() / runs.sqrt() / weights.mean;
        let unseen = if runs > UNSEEN { -(-UNSEEN / runs).ln_1p() } else { f64::INFINITY };
        let mut too_high = unseen.max(STANDARD_ERRORS * standard_error);
        if is_small(effective_sample_size * runs / log_weights.len() as f64, runs) {
            too_high = too_high.max(UNSEEN);
        }
        let log_mean = greatest + weights.mean.ln();
        Self { log_mean, standard_error, effective_sample_size, too_high: too_high + rounding }
    }
}

impl LogPartition {
    /// Uses the log-weights of one direction: forward ones have the mean weight Z/Z_0, reverse ones Z_0/Z.
    fn alone(method: Method, log_z_0: f64, log_weights: &[f64], rounding: f64) -> Self {
        let weights = Weights::of(log_weights, log_weights.len() as f64, rounding);
        let is_reverse = method == Method::ReverseAis;
        let estimate = if is_reverse { log_z_0 - weights.log_mean } else { log_z_0 + weights.log_mean };
        Self {
            estimate,
            lower: if is_reverse { f64::NEG_INFINITY } else { estimate - weights.too_high },
            upper: if is_reverse { estimate + weights.too_high } else { f64::INFINITY },
            effective_sample_size: weights.effective_sample_size,
            method,
            agreement: Agreement::Unchecked,
            runs: log_weights.len(),
            forward: (!is_reverse).then_some(estimate),
            reverse: is_reverse.then_some(estimate),
            overlap: None,
            r_hat: None,
            mix: None,
            excess: None,
            refuted: None,
        }
    }
}
