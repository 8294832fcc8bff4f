//! Forward and reverse runs with two base rates and three populations of chains. The documentation of the module above has the rules
//! of judgement.

use super::{
    Agreement, BaseRate, LogPartition, Method, STANDARD_ERRORS, UNSEEN, Weights,
    annealing::{Annealing, Start, backward, check, check_start, forward, rounding},
    bennett::Bennett,
    bound::Visited,
    populations::{Mixing, burn_in_and_measure, chains},
};
use crate::{
    error::Result,
    gibbs::Chains,
    resident::Resident,
    uniforms::{Purpose, Uniforms},
};

/// An interval for log Z from forward and reverse runs. The [module](crate::log_partition) explains it, and when it lacks an end.
///
/// `base_rate`: fitted to the rows that the model was trained on, or uniform without data. `start`: the same rows. Costs
/// about `runs`·(3·`steps` + `burn_in`) Gibbs steps. Canonical on [`Cpu`](crate::Cpu).
///
/// [`Error::Argument`](crate::Error::Argument) if there are fewer than 2 runs or if rows or chains do not fit the shape,
/// [`Error::Length`](crate::Error::Length) if the base rate has another number of units.
pub fn bracket(rbm: &Resident, base_rate: &BaseRate, start: Start<'_>, settings: &Annealing) -> Result<LogPartition> {
    bracket_watched(rbm, base_rate, start, settings, &mut |_| {})
}

impl Annealing {
    /// The number of steps that [`bracket_watched`] reports in total.
    pub fn bracket_steps(&self, base_rate: &BaseRate) -> usize {
        (2 * base_rates(base_rate) * self.schedule.steps()).saturating_add(self.burn_in)
    }
}

/// [`bracket`] with progress: calls `watch` with the number of steps completed since, [`Annealing::bracket_steps`] in total.
///
/// # Errors
/// Those of [`bracket`].
pub fn bracket_watched(
    rbm: &Resident, base_rate: &BaseRate, start: Start<'_>, settings: &Annealing, watch: &mut dyn FnMut(usize),
) -> Result<LogPartition> {
    check(rbm, base_rate, settings.runs)?;
    check_start(rbm, &start)?;
    let shape = rbm.shape();
    let words = shape.n_hidden().div_ceil(64);
    let mut visited = Visited::default();
    let mut bases = bases(rbm, base_rate, settings.runs)?;
    let mut ends = Vec::new();
    let mut draws = Uniforms::new(settings.seed, Purpose::Annealing);
    for base in &mut bases {
        let log_z_0 = base.rate.log_z(shape.n_hidden());
        let (log_weights, state) = forward(rbm, &base.rate, base.runs, &settings.schedule, draws, watch)?;
        base.rounding = rounding(rbm, log_z_0, &log_weights);
        base.forward = log_weights.iter().map(|log| log_z_0 + log).collect();
        visited.take_hidden(&state.hidden, words);
        ends.extend(state.hidden);
        draws = state.uniforms;
    }
    let weights: Vec<f64> = bases.iter().flat_map(Base::shares).collect();
    let (mut chains, populations) = chains(rbm, start, settings, &weights, &ends)?;
    let mixing = burn_in_and_measure(rbm, &mut chains, &populations, settings.burn_in, &mut visited, watch)?;
    let mut state = chains.state()?;
    for base in &mut bases {
        let log_z_0 = base.rate.log_z(shape.n_hidden());
        let mut chains = Chains::from_state(rbm.device(), shape, &state)?;
        let log_weights = backward(rbm, &base.rate, &mut chains, &settings.schedule, watch)?;
        base.reverse = log_weights.iter().map(|log| log_z_0 - log).collect();
        state.uniforms = chains.state()?.uniforms;
    }
    let effective = super::effective_sample_size(&weights);
    Ok(judge(&bases, mixing, populations[0], effective).at_least(visited.bound(rbm)?))
}

/// A base rate and its runs. Log-weights are on the scale of log Z: their mean weight is Z.
struct Base {
    rate: BaseRate,
    runs: usize,
    /// The log-weight of each run to the model.
    forward: Vec<f64>,
    /// For each run from the model, the log-weight of the same path forward.
    reverse: Vec<f64>,
    rounding: f64,
}

impl Base {
    /// The log of each forward run's contribution to the estimate of Z.
    fn shares(&self) -> impl Iterator<Item = f64> {
        let runs = (self.runs as f64).ln();
        self.forward.iter().map(move |log| log - runs)
    }
}

/// The number of base rates: the given one, and the broad one if it differs.
fn base_rates(given: &BaseRate) -> usize {
    if given.is_uniform() { 1 } else { 2 }
}

/// The given base rate with all runs, and the broad one with half of them, if it differs.
fn bases(rbm: &Resident, given: &BaseRate, runs: usize) -> Result<Vec<Base>> {
    let base = |rate, runs| Base { rate, runs, forward: Vec::new(), reverse: Vec::new(), rounding: 0.0 };
    let mut bases = vec![base(given.clone(), runs)];
    if base_rates(given) > 1 {
        bases.push(base(BaseRate::broad(rbm.to_rbm()?.view()), (runs / 2).max(2)));
    }
    Ok(bases)
}

/// An interval of log Z from the chosen reverse runs and all forward runs.
struct Interval {
    estimate: f64,
    lower: f64,
    upper: f64,
    /// Those of the base rate with the greatest overlap.
    forward: Weights,
    reverse: Weights,
    overlap: f64,
}

/// The intersection of the intervals of all base rates. `starts`: the number of independent chains that the first `chains` of the
/// reverse runs count as.
fn interval(bases: &[Base], chains: usize, starts: f64) -> Interval {
    let each = bases.iter().map(|base| {
        let reverse: Vec<f64> = base.reverse[..chains].iter().map(|log| -log).collect();
        let together = Bennett::of(&base.forward, &reverse, starts, UNSEEN);
        let up = Weights::of(&base.forward, base.runs as f64, base.rounding);
        let down = Weights::of(&reverse, starts, base.rounding);
        Interval {
            estimate: together.estimate,
            lower: (together.lower - base.rounding).max(up.log_mean - up.too_high),
            upper: (together.upper + base.rounding).min(-down.log_mean + down.too_high),
            forward: up,
            reverse: down,
            overlap: together.overlap,
        }
    });
    let join = |a: Interval, b: Interval| {
        let (lower, upper) = (a.lower.max(b.lower), a.upper.min(b.upper));
        let best = if b.overlap > a.overlap { b } else { a };
        Interval { lower, upper, ..best }
    };
    each.reduce(join).expect("at least one base rate")
}

/// Applies steps 1 to 3 of the documentation of the module above.
fn judge(bases: &[Base], mixing: Option<Mixing>, grown: usize, effective_sample_size: f64) -> LogPartition {
    let all = bases[0].reverse.len();
    let runs = bases[0].runs;
    let mix = mixing.is_some_and(Mixing::mixes);
    let forward = bases.iter().map(|base| Weights::of(&base.forward, base.runs as f64, base.rounding));
    let (best, least) = forward.fold((f64::NEG_INFINITY, f64::NEG_INFINITY), |(best, least), weights| {
        (best.max(weights.log_mean), least.max(weights.log_mean - weights.too_high))
    });
    let starts = effective_sample_size.min(grown as f64);
    let mut found = if mix { interval(bases, all, all as f64) } else { interval(bases, grown, starts) };
    let mut agreement = found.agreement(bases.iter().map(|base| base.rounding).fold(0.0, f64::max));
    let mut excess = None;
    if !mix {
        // Each chain is judged by the base rate that serves it best.
        let least_of = |chain: usize| bases.iter().map(|base| base.reverse[chain]).fold(f64::INFINITY, f64::min);
        let beyond = (grown..all).map(least_of).fold(f64::NEG_INFINITY, f64::max) - found.upper;
        let unseen = beyond.exp() * UNSEEN / runs as f64;
        excess = (unseen > 1.0).then_some(beyond);
        if excess.is_some() || starts <= UNSEEN {
            agreement = Agreement::Divided;
            found.upper = f64::INFINITY;
        } else {
            found.upper += unseen.ln_1p();
        }
    }
    if found.upper < found.lower {
        agreement = Agreement::Crossed;
        found.upper = f64::INFINITY;
    }
    if found.upper == f64::INFINITY {
        (found.lower, found.estimate) = (least, best);
    }
    LogPartition {
        estimate: found.estimate.clamp(found.lower, found.upper),
        lower: found.lower,
        upper: found.upper,
        effective_sample_size: found.forward.effective_sample_size.min(found.reverse.effective_sample_size),
        method: Method::Bracket,
        agreement,
        runs,
        forward: Some(best),
        reverse: Some(-found.reverse.log_mean),
        overlap: Some(found.overlap),
        refuted: None,
        r_hat: mixing.map(|mixing| mixing.r_hat).filter(|r_hat| !r_hat.is_nan()),
        mix: Some(mix),
        excess,
    }
}

impl Interval {
    fn agreement(&self, rounding: f64) -> Agreement {
        let error = STANDARD_ERRORS * self.forward.standard_error.hypot(self.reverse.standard_error) + 2.0 * rounding;
        if -self.reverse.log_mean - self.forward.log_mean > error { Agreement::Apart } else { Agreement::Meet }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    /// A fitted and a uniform base rate with a hundred runs each way, with log-weights within ±0.05 of these numbers.
    fn bases(forward: [f64; 2], reverse: [&[f64]; 2]) -> Vec<Base> {
        let near = |log: f64, run: usize| log + (run as f64 * 0.618).fract() / 10.0 - 0.05;
        let base = |n: usize| Base {
            rate: BaseRate::uniform(1),
            runs: 100,
            forward: (0..100).map(|run| near(forward[n], run)).collect(),
            reverse: (0..80).map(|run| near(reverse[n][run * reverse[n].len() / 80], run)).collect(),
            rounding: 0.0,
        };
        vec![base(0), base(1)]
    }

    fn r_hat(r_hat: f64) -> Option<Mixing> {
        Some(Mixing { r_hat, probability: 0.3 })
    }

    #[test]
    fn chains_that_mix_all_count() {
        // Both base rates reach the whole model.
        let found = judge(&bases([50.0, 50.0], [&[50.0], &[50.0]]), r_hat(1.02), 30, 100.0);
        assert_eq!((found.verdict(), found.agreement, found.r_hat), (Verdict::Bracketed, Agreement::Meet, Some(1.02)));
        assert!(found.lower > 49.9 && (found.estimate - 50.0).abs() < 0.02 && found.upper < 50.1, "{found:?}");
        // One of them does not: its runs end in a part with a share of e^-20, where all reverse runs come from.
        let found = judge(&bases([50.0, 30.0], [&[50.0], &[80.0]]), r_hat(f64::NAN), 30, 100.0);
        assert_eq!((found.verdict(), found.agreement), (Verdict::Bracketed, Agreement::Meet));
        assert!(found.lower > 49.9 && found.upper < 50.4, "{found:?}");
    }

    #[test]
    fn chains_that_stay_where_no_run_comes_take_the_upper_end_away() {
        let stay = [50.0, 50.0, 50.0, 50.0, 50.0, 50.0, 50.0, 53.5];
        let bases = |beyond: f64| bases([50.0, 30.0], [&[&stay[..7], &[50.0 + beyond]].concat(), &[80.0]]);
        // Chains that mix visit that part in time: an eighth of the model is there.
        let found = judge(&bases(9.0), r_hat(1.05), 30, 100.0);
        assert!(found.lower > 49.9 && (0.13..0.5).contains(&(found.upper - 50.0)), "{found:?}");
        let differ = Some(Mixing { r_hat: 1.05, probability: 0.0005 });
        for (beyond, mixing) in [(9.0, r_hat(1.3)), (9.0, None), (9.0, differ), (4.0, r_hat(f64::INFINITY))] {
            let found = judge(&bases(beyond), mixing, 30, 100.0);
            assert_eq!((found.verdict(), found.agreement), (Verdict::LowerBound, Agreement::Divided), "{beyond}");
            assert!((found.excess.expect("by so much") - beyond).abs() < 0.5 && found.lower > 49.9, "{found:?}");
        }
        // The part may hold as much as 6.6 % of e^2.
        let found = judge(&bases(2.0), r_hat(1.3), 30, 100.0);
        assert_eq!((found.verdict(), found.excess), (Verdict::Bracketed, None));
        assert!((0.5..0.8).contains(&(found.upper - 50.0)), "{found:?}");
    }

    /// Chains that only one base rate serves, and that hold a share of e^-20, change nothing.
    #[test]
    fn chains_in_a_negligible_part_change_nothing() {
        let [fitted, uniform] = [[30.0, 75.0, 75.0, 30.0], [50.0, 50.0, 50.0, 80.0]];
        // Of 80 chains, 20 are grown where the uniform base rate leads.
        let mut bases = bases([30.0, 50.0], [&fitted, &uniform]);
        bases[0].reverse[..20].fill(75.0);
        let found = judge(&bases, r_hat(1.6), 20, 60.0);
        assert_eq!(found.verdict(), Verdict::Bracketed, "{found:?}");
        assert!(found.lower > 49.9 && found.upper < 50.6, "{found:?}");
        // If a few runs have all of the weight, the shares of the parts are unknown.
        let found = judge(&bases, r_hat(1.6), 20, 6.0);
        assert_eq!((found.verdict(), found.agreement, found.excess), (Verdict::LowerBound, Agreement::Divided, None));
        assert!(found.reason().contains("a few forward runs"), "{}", found.reason());
    }

    /// Forward weights are unbiased for any start of the chains: an upper end below them proves the chains wrong.
    #[test]
    fn crossed_directions_convict_the_reverse_runs() {
        let found = judge(&bases([242.2, 100.0], [&[227.3], &[227.3]]), r_hat(1.01), 30, 100.0);
        assert_eq!((found.verdict(), found.agreement), (Verdict::LowerBound, Agreement::Crossed));
        assert!((found.estimate - 242.2).abs() < 0.02 && found.lower > 242.0 && found.upper.is_infinite(), "{found:?}");
        assert!(found.reason().contains("227.3") && found.reason().contains("242.2"), "{}", found.reason());
    }
}
