//! Forward and reverse runs together: Bennett's acceptance ratio, with an interval that no distribution of weights escapes.
//!
//! With s(x) = 1/(1 + e^-x), f the forward and r the reverse log-weights, log(Z/Z_0) = C + log E s(f - C) - log E s(r + C) for
//! any C (C. H. Bennett, "Efficient estimation of free energy differences from Monte Carlo data", 1976; for annealing G. E.
//! Crooks, "Path-ensemble averages in systems driven far from equilibrium", 2000). The best C makes both sums equal.
//! Neither mean is made by a few runs, as its terms lie within [0, 1]; and for the same reason the true means p are bounded
//! by Chernoff's inequality in Hoeffding's form, P(mean of n ≥ a) ≤ e^(-n·KL(a‖p)) for a > p and likewise below (W. Hoeffding,
//! "Probability inequalities for sums of bounded random variables", 1963, theorem 1), whatever the weights' distribution:
//! also where forward runs miss a part of the model that they should reach now and then.

/// What both directions say of log(Z/Z_0).
#[derive(Clone, Copy, Debug)]
pub(super) struct Bennett {
    pub estimate: f64,
    pub lower: f64,
    pub upper: f64,
    /// The sum of s over the runs of either direction: as many of them end where those of the other do.
    pub overlap: f64,
}

impl Bennett {
    /// `starts`: how many independent starts the reverse runs count as. `tail`: -log of the probability with which each of the
    /// four bounds on a mean may fail. The dependence of C on the runs is neglected.
    pub fn of(forward: &[f64], reverse: &[f64], starts: f64, tail: f64) -> Self {
        let sum = |logs: &[f64], c: f64| logs.iter().map(|log| fermi(log + c)).sum::<f64>();
        // The one sum falls in C, the other rises.
        let all = forward.iter().copied().chain(reverse.iter().map(|r| -r));
        let (mut low, mut high) =
            all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high): (f64, f64), x| (low.min(x), high.max(x)));
        // Far beyond all numbers one sum is nearly 0 and the other nearly as large as can be.
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
            estimate: c + up.ln() - down.ln(),
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
    }

    /// Binomial tails are what the bound is for: that of 3 of 100 is known.
    #[test]
    fn means_are_bounded() {
        assert!((bound(0.0, 6.0 / 100.0, 1.0) - (1.0 - (-0.06f64).exp())).abs() < 1e-12);
        assert_eq!(bound(0.0, 0.1, 0.0), 0.0);
        let (low, high) = (bound(0.03, 0.066, 0.0), bound(0.03, 0.066, 1.0));
        assert!(low > 0.0 && low < 0.03 && high > 0.03 && high < 0.2, "{low} {high}");
    }
}
