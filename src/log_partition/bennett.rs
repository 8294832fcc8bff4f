//! Forward and reverse runs together: Bennett's acceptance ratio, with an interval that holds for any distribution of weights.
//!
//! With s(x) = 1/(1 + e^-x), f the forward and r the reverse log-weights, log(Z/Z_0) = C + log E s(f - C) - log E s(r + C) for
//! any C (C. H. Bennett, "Efficient estimation of free energy differences from Monte Carlo data", 1976; for annealing G. E.
//! Crooks, "Path-ensemble averages in systems driven far from equilibrium", 2000). The best C makes both sums equal.
//! Terms lie within [0, 1], so that no mean depends on a few runs. For the same reason Chernoff's inequality in Hoeffding's form
//! bounds the true means p: P(mean of n ≥ a) ≤ e^(-n·KL(a‖p)) for a > p and likewise below (W. Hoeffding, "Probability
//! inequalities for sums of bounded random variables", 1963, theorem 1). This holds for any distribution of the weights, also if
//! forward runs miss a part of the model that they should reach now and then.

/// The joint estimate of log(Z/Z_0) from both directions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bennett {
    pub estimate: f64,
    pub lower: f64,
    pub upper: f64,
    /// The sum of s over the runs of either direction: the number of runs that end where those of the other direction do.
    pub overlap: f64,
}

impl Bennett {
    /// `starts`: the number of independent starts that the reverse runs count as. `tail`: -log of the probability that each of the
    /// four bounds on a mean may fail. The dependence of C on the runs is neglected.
    pub fn of(forward: &[f64], reverse: &[f64], starts: f64, tail: f64) -> Self {
        let sum = |logs: &[f64], c: f64| logs.iter().map(|log| fermi(log + c)).sum::<f64>();
        // In C, one sum falls and the other rises.
        let all = forward.iter().copied().chain(reverse.iter().map(|r| -r));
        let (mut low, mut high) =
            all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high): (f64, f64), x| (low.min(x), high.max(x)));
        // Far beyond all numbers, one sum is nearly 0 and the other is nearly at its maximum.
        let far = 50.0 + ((forward.len() + reverse.len()) as f64).ln();
        (low, high) = (low - far, high + far);
        while high - low > 1e-12 * (1.0 + high.abs().max(low.abs())) {
            let c = low.midpoint(high);
            if c <= low || c >= high {
                break;
            }
            if sum(forward, -c) > sum(reverse, c) { low = c } else { high = c }
        }
        let c = low.midpoint(high);
        let (n, m) = (forward.len() as f64, reverse.len() as f64);
        let (up, down) = (sum(forward, -c) / n, sum(reverse, c) / m);
        let within = |mean: f64, n: f64| (bound(mean, tail / n, 0.0).ln(), bound(mean, tail / n, 1.0).ln());
        let ((up_low, up_high), (down_low, down_high)) = (within(up, n), within(down, starts));
        Self {
            // If the directions never meet, both sums vanish, and C lies between them.
            estimate: if up + down > 0.0 { c + up.ln() - down.ln() } else { c },
            lower: c + up_low - down_high,
            upper: c + up_high - down_low,
            overlap: (up * n).min(down * m),
        }
    }
}

fn fermi(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The p between `mean` and `end`, 0 or 1, with KL(mean‖p) = `divergence`.
fn bound(mean: f64, divergence: f64, end: f64) -> f64 {
    let term = |a: f64, p: f64| if a > 0.0 { a * (a / p).ln() } else { 0.0 };
    let (mut inside, mut outside) = (mean, end);
    for _ in 0..100 {
        let p = inside.midpoint(outside);
        let reached = term(mean, p) + term(1.0 - mean, 1.0 - p);
        if reached < divergence { inside = p } else { outside = p }
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Purpose, Uniforms, log_partition::UNSEEN};
    use rand_core::Rng;
    use rand_pcg::Pcg32;

    #[test]
    fn equal_weights_are_known() {
        let found = Bennett::of(&[3.0; 100], &[-3.0; 100], 100.0, 6.6);
        assert!((found.estimate - 3.0).abs() < 1e-9 && (found.overlap - 50.0).abs() < 1e-6, "{found:?}");
        assert!(found.lower < 2.5 && found.lower > 1.5 && found.upper > 3.5 && found.upper < 4.5, "{found:?}");
    }

    #[test]
    fn directions_that_never_meet_say_nothing() {
        let found = Bennett::of(&[-1000.0; 50], &[-1000.0; 70], 70.0, 6.6);
        assert!(found.overlap < 1e-200 && found.upper - found.lower > 1000.0, "{found:?}");
        let found = Bennett::of(&[-1e6; 50], &[-1e6; 70], 70.0, 6.6);
        assert!(!found.lower.is_nan() && !found.upper.is_nan(), "{found:?}");
        assert!(found.estimate.abs() <= 1e6, "{found:?}");
    }

    /// The bound is for binomial tails, such as that of 3 of 100, which is known.
    #[test]
    fn means_are_bounded() {
        assert!((bound(0.0, 6.0 / 100.0, 1.0) - (1.0 - (-0.06f64).exp())).abs() < 1e-12);
        assert_eq!(bound(0.0, 0.1, 0.0), 0.0);
        let (low, high) = (bound(0.03, 0.066, 0.0), bound(0.03, 0.066, 1.0));
        assert!(low > 0.0 && low < 0.03 && high > 0.03 && high < 0.2, "{low} {high}");
    }

    /// One direction has ten times as many numbers as the other. Equal numbers would hide an exchange of the two.
    const NUMBERS: [(usize, usize); 2] = [(20, 200), (200, 20)];
    const CASES: u32 = 2000;

    /// A number within (0, 1).
    fn uniform(generator: &mut Pcg32) -> f64 {
        (f64::from(generator.next_u32()) + 0.5) / 2f64.powi(32)
    }

    /// Draws the forward log-weight x, or that of a reverse run, -x.
    type Draw = Box<dyn Fn(&mut Pcg32, bool) -> f64>;

    /// Pairs of distributions, P of x forward and P' of x in reverse, with Crooks's relation P'(x) = P(x)·e^x, and so
    /// log(Z/Z_0) = 0: normal ones with mean ∓s²/2 and variance s²; and two points, the heavier with probability p and weight w.
    fn crooks_pairs() -> Vec<(String, Draw)> {
        let normal = |s: f64| -> Draw {
            Box::new(move |generator, _| {
                let (u, v) = (uniform(generator), uniform(generator));
                // By symmetry, the reverse log-weight -x has the mean -s²/2 too.
                s * (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos() - s * s / 2.0
            })
        };
        let two_points = |p: f64, w: f64| -> Draw {
            let lighter = (1.0 - p * w) / (1.0 - p);
            Box::new(move |generator, is_reverse| {
                let is_heavy = uniform(generator) < if is_reverse { p * w } else { p };
                let x = if is_heavy { w.ln() } else { lighter.ln() };
                if is_reverse { -x } else { x }
            })
        };
        let mut all: Vec<_> = [0.5, 2.0, 4.0].map(|s| (format!("normal, s = {s}"), normal(s))).into();
        all.extend([(0.25, 2.0), (0.1, 9.9), (0.005, 100.0)].map(|(p, w)| (format!("{w} of {p}"), two_points(p, w))));
        all
    }

    /// P(X > k) for X binomial of n and p.
    fn binomial_tail(n: u32, p: f64, k: u32) -> f64 {
        let mut term = (1.0 - p).powi(n as i32);
        let mut below = 0.0;
        for x in 0..=k {
            below += term;
            term *= f64::from(n - x) / f64::from(x + 1) * p / (1.0 - p);
        }
        1.0 - below
    }

    /// A second implementation of the formula: the means at the C that makes both sums equal, and the p at which e^(-n·KL) is as small
    /// as the probability of three standard errors.
    fn naive(forward: &[f64], reverse: &[f64]) -> (f64, f64, f64) {
        let (n, m) = (forward.len() as f64, reverse.len() as f64);
        let share = |x: f64| 1.0 / (1.0 + x.exp());
        let means = |c: f64| {
            let up = forward.iter().map(|f| share(c - f)).sum::<f64>() / n;
            (up, reverse.iter().map(|r| share(-r - c)).sum::<f64>() / m)
        };
        let root = |mut low: f64, mut high: f64, rises: &dyn Fn(f64) -> f64| {
            (0..200).for_each(|_| {
                let middle = low.midpoint(high);
                if rises(middle) < 0.0 { low = middle } else { high = middle }
            });
            low
        };
        let c = root(-100.0, 100.0, &|c| means(c).1 * m - means(c).0 * n);
        let kl = |a: f64, p: f64| {
            let part = |a: f64, p: f64| if a == 0.0 { 0.0 } else { a * (a / p).ln() };
            part(a, p) + part(1.0 - a, 1.0 - p)
        };
        let tail = (1.0 / 0.00135f64).ln();
        let ends = |a: f64, n: f64| (root(0.0, a, &|p| tail - n * kl(a, p)), root(a, 1.0, &|p| n * kl(a, p) - tail));
        let (up, down) = means(c);
        let ((up_low, up_high), (down_low, down_high)) = (ends(up, n), ends(down, m));
        (c + (up / down).ln(), c + (up_low / down_high).ln(), c + (up_high / down_low).ln())
    }

    /// Each of four tails fails with a probability of at most 0.00135. The number of failures that is allowed among 2000 pairs of samples
    /// is one that four such tails exceed once in a million runs.
    #[test]
    fn the_truth_lies_within_the_interval_of_unequal_numbers() {
        let most = (0..200).find(|&k| binomial_tail(CASES, 4.0 * 0.00135, k) < 1e-6).expect("a limit");
        for (seed, (what, draw)) in (1..).zip(crooks_pairs()) {
            for (n, m) in NUMBERS {
                let mut generator = Uniforms::new(seed, Purpose::Sampling).generator();
                let mut misses = 0;
                for case in 0..CASES {
                    let forward: Vec<f64> = (0..n).map(|_| draw(&mut generator, false)).collect();
                    let reverse: Vec<f64> = (0..m).map(|_| draw(&mut generator, true)).collect();
                    let found = Bennett::of(&forward, &reverse, m as f64, UNSEEN);
                    misses += u32::from(!(found.lower..=found.upper).contains(&0.0));
                    // No wider and no narrower than the formula's. UNSEEN has five digits of ln(1/0.00135); the ends move by less
                    // than the same share of the width, as they grow less than in proportion to it.
                    if case < 50 {
                        let (estimate, lower, upper) = naive(&forward, &reverse);
                        let off = 1e-5 * (upper - lower);
                        let all = [(found.estimate, estimate), (found.lower, lower), (found.upper, upper)];
                        assert!(
                            all.iter().all(|(found, expected)| (found - expected).abs() <= off),
                            "{what}, {n} and {m}: {found:?}, expected {estimate} within {lower} to {upper}"
                        );
                    }
                }
                assert!(misses <= most, "{what}, {n} and {m}: {misses} of {CASES} miss, at most {most}");
            }
        }
    }
}
