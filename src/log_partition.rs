//! log Z, the number that a likelihood needs: exactly where enumeration is possible, else as an interval, or as a lower bound
//! where nobody can vouch for more.
//!
//! | function | result | use |
//! |---|---|---|
//! | [`exact()`] | log Z itself, by enumeration | a smaller layer of up to [`exact::MAX_UNITS`] units |
//! | [`bracket()`] | an interval and a [`Verdict`] on it | reports |
//! | [`ais`] | a lower bound, and an estimate that lies below log Z on average | a first look |
//! | [`reverse_ais`] | an upper bound, as far as its chains are samples of the model | chains that are |
//! | [`lower_bound`] | what rows prove of log Z, for [`LogPartition::at_least`] | every interval |
//! | [`Tracker`] | an estimate that lies below log Z on average, and goes along with the parameters | training |
//!
//! Annealed importance sampling (R. M. Neal, "Annealed importance sampling", 2001; R. Salakhutdinov, I. Murray, "On the
//! quantitative analysis of deep belief networks", 2008) carries runs through p*_β(v) = exp((1 - β)·a·v + β·b·v)·
//! Π_j (1 + e^(β·(c_j + (vW)_j))) from a [`BaseRate`] model, β = 0, whose Z_0 = 2^n_hidden·Π_i (1 + e^a_i) is known, to the
//! RBM, β = 1. A run's weight w is the product of p*_β'(v)/p*_β(v) over its steps, and its expectation is Z/Z_0. The mean of R weights is
//! unbiased, hence its logarithm is too low on average, and by Markov's inequality it is more than x too high with a
//! probability of at most e^-x (Y. Burda, R. Grosse, R. Salakhutdinov, "Accurate and conservative estimates of MRF
//! log-likelihood using reverse annealing", 2015). Run in reverse, from samples of the RBM down to the base rate, the same
//! argument bounds log Z from above (R. Grosse, Z. Ghahramani, R. Adams, "Sandwiching the marginal likelihood using
//! bidirectional Monte Carlo", 2015).
//!
//! # The interval
//! The forward bound holds whatever happens. The reverse one holds as far as its chains are samples of the model, and a part
//! that no run and no chain comes to is missing from both. The ends of the interval come from
//! - the mean weight of each direction: three standard errors of its logarithm (delta method), but at least
//!   -ln(1 - 6.6/R), as a part with a share of 6.6/R escapes R runs with a probability of 0.00135, that of three standard
//!   errors in a normal distribution; and where the effective sample size is below 10 or R/10 at least
//!   ln(1/0.00135) = 6.6, by Markov's inequality;
//! - both directions together, by means of numbers within [0, 1] (C. H. Bennett's acceptance ratio, 1976), for which
//!   Chernoff's inequality gives an interval whatever the distribution of the weights, at the same error of 0.00135 for each
//!   of four tails: narrow where the weights scatter and the directions overlap all the same. The estimate is Bennett's;
//! - either way 2^-20·(n_hidden + |log Z|) for the rounding of the `f32` arithmetic;
//! - [`lower_bound`], over all states that chains have visited, of either layer.
//!
//! # Two sides
//! One base rate and one kind of start can miss the same part of the model, and then both directions agree on a wrong log Z.
//! So the forward runs of [`bracket()`] leave from the base rate that is given *and* from the uniform one; reverse runs go to
//! both, from chains of three populations: ends of forward runs in proportion to their weights (*grown*), the rows or chains
//! that are given, and hidden layers of every density from all off to all on (*spread*). The interval is what those of both
//! base rates have in common.
//!
//! 1. Do the chains mix? They do where R̂ over all of them in the second half of the burn-in is at most 1.1, and no two
//!    populations differ in the means of their chains, by Welch's t-test of the free energy and of four overlaps with a
//!    false-alarm rate of 0.001 for all of these comparisons together. Then they are samples of the model wherever they
//!    started, and all reverse runs count.
//! 2. Where they do not, only the grown ones are spread over the model as it should be: by weights, which are unbiased. They
//!    count as no more independent starts than the effective sample size of these weights, and as none where that is 6.6 or
//!    less. A chain that stays elsewhere shows a part s of the model, and its reverse run the log-weight log(Z_s/P(s)) that a
//!    forward run to s would have, where P(s) is the probability of such a run. In R runs that never came there P(s) is hardly
//!    more than 6.6/R, and so s adds at most 6.6/R·e^(that log-weight) to Z. Where this is no more than e^(the upper end), it
//!    raises the upper end. Where it is more, nobody knows which chains are right, and there is no upper end.
//! 3. An upper end below the lower end convicts the chains that the reverse runs left from: forward weights are unbiased
//!    whatever these chains do. There is no upper end.
//!
//! `docs/census.md` reports how often intervals held on some two hundred trained models whose log Z is known.

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

/// log Z in nats, and how far to trust it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogPartition {
    /// log Z; for a bracket from forward and reverse runs together, without an upper end from the forward runs alone.
    pub estimate: f64,
    /// The lower end of the interval; -∞ where only reverse runs were made.
    pub lower: f64,
    /// The upper end of the interval; ∞ where none is known.
    pub upper: f64,
    /// (Σw)²/Σw²: as many runs of equal weight would do as well. For a bracket the lesser of both directions; infinite where
    /// nothing was sampled.
    pub effective_sample_size: f64,
    /// How it was found.
    pub method: Method,
    /// What the directions, and chains of different starts, say of each other.
    pub agreement: Agreement,
    /// How many runs a direction has; 0 where nothing was sampled.
    pub runs: usize,
    /// The estimate of the forward runs; of a bracket the greater of both base rates, as either is too low on average.
    pub forward: Option<f64>,
    /// The estimate of the reverse runs.
    pub reverse: Option<f64>,
    /// Of a bracket: how many runs of either direction end where those of the other do. It is the number of runs that
    /// make the estimate of both together, as the effective sample size is for one direction.
    pub overlap: Option<f64>,
    /// Of a bracket: the greatest R̂ of the chains over the second half of their burn-in; none where nothing moves, or where
    /// the burn-in is too short to say.
    pub r_hat: Option<f64>,
    /// Of a bracket: whether chains mix, by R̂ and by a comparison of those that started alike.
    pub mix: Option<bool>,
    /// Of a bracket whose chains are [`Divided`](Agreement::Divided): by how many nats a reverse run lies beyond the upper end
    /// that forward runs alone would allow; none where it does not.
    pub excess: Option<f64>,
    /// The upper end that a certain bound has refuted; see [`at_least`](Self::at_least).
    pub refuted: Option<f64>,
}

/// What a [`LogPartition`] amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// It is log Z.
    Exact,
    /// log Z lies within the interval.
    Bracketed,
    /// log Z is at least the lower end; nobody knows how much more. A likelihood has then no lower end.
    LowerBound,
    /// Reverse runs alone: log Z is at most the upper end, if their chains were samples of the model.
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

/// What forward and reverse runs, and the chains that reverse runs start from, say of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Agreement {
    /// Nothing was sampled.
    Exact,
    /// There is one direction only.
    Unchecked,
    /// The two directions are no further apart than three standard errors of their difference.
    Meet,
    /// The reverse estimate lies above the forward one by more than that: the schedule is too short.
    Apart,
    /// The upper end of the reverse runs lies below the lower end of the forward ones: the chains that the reverse runs
    /// started from were no samples of the model.
    Crossed,
    /// The chains do not mix, and some stay where forward runs do not come, or a few runs have all of the weight: nobody
    /// knows how much of the model is where.
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
    /// What it amounts to, by the ends that are known.
    pub fn verdict(&self) -> Verdict {
        match (self.lower.is_finite(), self.upper.is_finite()) {
            _ if self.method == Method::Exact => Verdict::Exact,
            (true, true) => Verdict::Bracketed,
            (false, true) => Verdict::UpperBound,
            _ => Verdict::LowerBound,
        }
    }

    /// The same with log Z ≥ `bound` put to use, which must be certain, as that of [`lower_bound`] is.
    ///
    /// Raises the lower end and the estimate to the bound. A bound above the upper end refutes the interval: the runs missed a
    /// part of the model, `upper` becomes infinite, and [`reason`](Self::reason) says so. An exact log Z stays as it is.
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

    /// Why the [`verdict`](Self::verdict) is what it is: print it wherever the number is printed.
    pub fn reason(&self) -> String {
        if let Some(upper) = self.refuted {
            return format!(
                "log Z is at least {:.2} for certain, but the annealing runs put it below {upper:.2}: they missed a part of \
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
        let help = "a longer burn-in or more temperatures may help; enumeration does where a layer is small enough";
        match (self.agreement, self.forward, self.reverse) {
            (Agreement::Exact, ..) => "all states of the smaller layer are counted".into(),
            (Agreement::Unchecked, ..) if self.method == Method::ReverseAis => {
                "reverse runs alone say nothing if their chains are not samples of the model, and nothing here checks that".into()
            }
            (Agreement::Unchecked, ..) => {
                "forward runs alone may miss a part of the model, unseen by their standard error; a bracket looks for it".into()
            }
            (Agreement::Divided, ..) => {
                let why = match self.excess {
                    Some(excess) => format!("forward runs do not come to all of them ({excess:.1} nats short)"),
                    None => "the weights of forward runs are those of a few".into(),
                };
                format!(
                    "chains from different starts stay in different parts of the model ({chains}), and {why}: nobody knows how \
                     much of the model is where; {help}"
                )
            }
            (Agreement::Crossed, Some(forward), Some(reverse)) => format!(
                "the reverse estimate of log Z, {reverse:.2}, lies below the forward one, {forward:.2}: the chains that it \
                 started from were no samples of the model ({chains}); {help}"
            ),
            _ if self.upper == f64::INFINITY => {
                format!("reverse runs do not come near to where forward runs leave from ({chains}); {help}")
            }
            (Agreement::Apart, Some(forward), Some(reverse)) => format!(
                "forward and reverse estimates of log Z are {:.2} nats apart ({chains}): the interval is wide; more \
                 temperatures narrow it",
                reverse - forward
            ),
            _ if self.mix == Some(false) => format!(
                "the chains do not mix ({chains}), but forward runs come wherever one stays, and their weights say how much \
                 of the model is there"
            ),
            _ => format!("forward and reverse runs meet, and chains of all starts mix ({chains})"),
        }
    }

    /// The [`reason`](Self::reason) where a reader must not overlook it: an interval without one of its ends, or one made by
    /// a few runs.
    pub fn warning(&self) -> Option<String> {
        let few = self.runs > 0 && is_small(self.effective_sample_size, self.runs as f64);
        let overlaps = self.overlap.is_some_and(|overlap| overlap >= MIN_OVERLAP && self.agreement == Agreement::Meet);
        match self.verdict() {
            Verdict::Exact => None,
            Verdict::Bracketed if few && !overlaps => Some(format!(
                "the effective sample size is {:.1} of {} runs: a few runs make the estimate; more temperatures help",
                self.effective_sample_size, self.runs
            )),
            Verdict::Bracketed => (self.agreement != Agreement::Meet).then(|| self.reason()),
            _ => Some(self.reason()),
        }
    }
}

/// How many standard errors the interval reaches.
const STANDARD_ERRORS: f64 = 3.0;
/// ln(1/0.00135), where 0.00135 is the probability that a normal number lies more than three standard errors above its mean. A
/// share of UNSEEN/R escapes R runs with about this probability, and Markov's inequality gives it to e^-UNSEEN.
const UNSEEN: f64 = 6.607_7;

/// With fewer runs than this in the overlap of both directions a bracket's estimate rests on a few of them.
const MIN_OVERLAP: f64 = 5.0;

/// Whether an effective sample size is too small for a standard error to mean much.
fn is_small(effective_sample_size: f64, runs: f64) -> bool {
    effective_sample_size < (runs / 10.0).max(10.0)
}

/// How far a sum of `n_hidden` softplus terms in `f32`, and what else adds up to `size`, may be off.
pub(crate) fn rounding(n_hidden: usize, size: f64) -> f64 {
    2f64.powi(-20) * (n_hidden as f64 + size)
}

/// (Σw)²/Σw² of log-weights.
fn effective_sample_size(log_weights: &[f64]) -> f64 {
    let greatest = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights = log_weights.iter().map(|log| (log - greatest).exp());
    let (sum, squares) = weights.fold((0.0, 0.0), |(sum, squares), w| (sum + w, squares + w * w));
    sum * sum / squares
}

/// The logarithm of the mean of weights.
fn log_mean(log_weights: &[f64]) -> f64 {
    let greatest = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = log_weights.iter().map(|log| (log - greatest).exp()).sum();
    greatest + (sum / log_weights.len() as f64).ln()
}

/// What the log-weights of one direction say of the log of the mean weight.
#[derive(Clone, Copy, Debug)]
struct Weights {
    log_mean: f64,
    standard_error: f64,
    effective_sample_size: f64,
    /// How much too high the estimate may be.
    too_high: f64,
}

impl Weights {
    /// Of at least two log-weights, which count as `runs` independent ones. `rounding` is what the arithmetic may be off.
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
    /// From the log-weights of one direction: forward ones have the mean weight Z/Z_0, reverse ones Z_0/Z.
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
