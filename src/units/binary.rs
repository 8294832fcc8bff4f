//! Binary units: 0 or 1.
//!
//! A unit with pre-activation a (its log-odds) is on with the probability σ(a), and its two states have the total weight 1 + e^a: the
//! mean is [`sigmoid`](crate::elementary::sigmoid), the log-normaliser [`softplus`].

use super::{Law, LogSums, Room, VisibleRow, clipped, load, store, vectors};
use crate::{
    elementary::{mean_of_odds_lanes, odds_off_lanes, sigmoid_lanes, softplus},
    lanes::{LANES, Lanes, Wide},
};
use std::ops::Range;

/// Returns true if a unit takes the rarer one of its states. `odds_off`: the odds of being off; if they are at least 1, the rarer state
/// is "on". `distance`: the distance of the unit's number u from the end of the unit interval where the rarer state is, which is the
/// lower end for "on" ([`uniforms`](crate::uniforms)).
///
/// The rarer state has the probability min(odds, 1)/(1 + odds). The comparison avoids the division.
#[inline(always)]
pub(crate) fn is_rare<L: Lanes>(l: L, odds_off: L::F, distance: L::F) -> L::M {
    l.less(l.mul_add(distance, odds_off, distance), l.smaller(odds_off, l.splat(1.0)))
}

/// Decides which units are on, from their odds of being off; lane l is bit l. u < σ is tested at the end of the unit interval that is
/// nearer to σ ([`uniforms`](crate::uniforms)).
#[inline(always)]
pub(crate) fn are_on<L: Wide>(l: L, x: L::X, odds_off: L::F) -> u16 {
    let upper = l.less(odds_off, l.splat(1.0));
    l.bits(is_rare(l, odds_off, l.end_distance(x, upper))) ^ l.bits(upper)
}

/// The law of binary units.
#[derive(Clone, Copy)]
pub(crate) struct Binary;

impl Law for Binary {
    #[inline(always)]
    fn draw<L: Wide>(self, l: L, row: &mut VisibleRow<'_>, units: Range<usize>, state: u64, _: &mut Room) {
        let mut draws = l.states(state);
        for part in vectors(units) {
            let pre = load(l, &row.pre[part.clone()]);
            let odds = odds_off_lanes(l, pre);
            let exist = u16::MAX >> (LANES - part.len());
            row.set_bits(part.start, are_on(l, l.draw(&mut draws), odds) & exist);
            if row.means {
                store(l, mean_of_odds_lanes(l, pre, odds), &mut row.pre[part]);
            }
        }
    }

    #[inline(always)]
    fn means<L: Wide>(self, l: L, pre: &mut [f32], _: &mut Room) {
        for pre in pre.chunks_mut(LANES) {
            store(l, sigmoid_lanes(l, load(l, pre)), pre);
        }
    }

    fn log_normaliser(self, pre: &[f64], _: &[f32], _: &[f64]) -> f64 {
        let mut sum = LogSums::default();
        pre.iter().for_each(|&a| sum.add(a.max(0.0), 1.0 + libm::exp(-a.abs())));
        sum.total()
    }

    fn means_f64(self, pre: &[f64], out: &mut [f64]) {
        out.iter_mut().zip(pre).for_each(|(mean, a)| *mean = 1.0 / (1.0 + (-a).exp()));
    }

    fn reconstruction(self, x: &[f32], pre: &[f32], _: &[f32]) -> f64 {
        let term = |(&x, &a): (&f32, &f32)| f64::from(softplus(a)) - f64::from(x) * f64::from(a);
        -x.iter().zip(pre).map(term).sum::<f64>()
    }

    fn wrong(self, x: &[f32]) -> Option<(usize, &'static str)> {
        x.iter().position(|x| !(0.0..=1.0).contains(x)).map(|unit| (unit, "a value within [0, 1]"))
    }

    fn clipped_mean(self, sum: f64, n: usize) -> f64 {
        clipped(sum, n)
    }

    fn bias_of(self, mean: f64) -> f64 {
        libm::log(mean / (1.0 - mean))
    }

    /// Laplace's rule, (1 + Σv)/(2 + n), which keeps the log-odds finite.
    fn fit(self, n: &[usize], sums: &[f64], _: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let logit = |(sum, &n): (&f64, &usize)| ((1.0 + sum) / (1.0 + (n as f64 - sum))).ln();
        (sums.iter().zip(n).map(logit).collect(), vec![1.0; sums.len()])
    }
}
