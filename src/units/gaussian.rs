//! Gaussian units: real numbers with a normal distribution given h.
//!
//! A unit with pre-activation a = b + (Wh) is N(a, σ²): its mean is a, and a state is a + σ·Φ⁻¹(u) with its own number u. With
//! s = 1/σ² the log-normaliser is ½·ln(2π/s) + s·(a² - b²)/2, and the hidden units see x = s·v. Source: K. Cho, A. Ilin, T. Raiko,
//! "Improved learning of Gaussian-Bernoulli restricted Boltzmann machines", 2011.
//!
//! Between β = 0, a model N(r, 1/t) without weights, and β = 1, the own energies have the weights 1 - β and β. The distribution then
//! has the precision (1 - β)·t + β·s and the mean ((1 - β)·t·r + β·s·a)/precision.

use super::{Law, Room, VisibleRow, load, store, vectors};
use crate::{
    elementary::normal_lanes,
    lanes::{Lanes, Wide},
};
use std::{f64::consts::TAU, ops::Range};

/// The precision at inverse temperature β.
#[inline(always)]
pub(crate) fn precision_at<L: Lanes>(l: L, precision: L::F, reference: L::F, beta: L::F) -> L::F {
    let rest = l.add(l.splat(1.0), l.negate(beta));
    l.mul_add(beta, precision, l.mul(rest, reference))
}

/// The mean at inverse temperature β; at 1 it is sum + bias.
#[inline(always)]
pub(crate) fn mean<L: Lanes>(
    l: L, sum: L::F, bias: L::F, precision: L::F, reference: L::F, reference_precision: L::F, beta: L::F,
) -> L::F {
    let own = l.add(sum, bias);
    let rest = l.add(l.splat(1.0), l.negate(beta));
    let pulls = l.mul(rest, l.mul(reference_precision, reference));
    let pulled = l.mul_add(beta, l.mul(precision, own), pulls);
    let between = l.div(pulled, precision_at(l, precision, reference_precision, beta));
    l.select(l.less(beta, l.splat(1.0)), between, own)
}

/// mean + σ·z.
#[inline(always)]
pub(crate) fn state<L: Lanes>(l: L, mean: L::F, precision: L::F, z: L::F) -> L::F {
    l.mul_add(l.sqrt(l.div(l.splat(1.0), precision)), z, mean)
}

/// The limit of |ln σ²|, which keeps precisions far from the ends of the range of `f32`.
pub const MAX_LOG_VARIANCE: f32 = 40.0;

/// ln σ² after a step against its gradient, clamped to ±[`MAX_LOG_VARIANCE`].
pub(crate) fn stepped(log_variance: f32, gradient: f32, lr: f32) -> f32 {
    (-lr).mul_add(gradient, log_variance).clamp(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE)
}

/// The greatest multiple of 2^-24 below ½.
const BELOW_HALF: f32 = 0.5 - 1.0 / 16_777_216.0;

/// The law of Gaussian units.
#[derive(Clone, Copy)]
pub(crate) struct Gaussian;

/// Loads a part of some numbers, or zeros if there are none.
#[inline(always)]
fn load_or_zero<L: Wide>(l: L, from: &[f32], part: Range<usize>) -> L::F {
    if from.is_empty() { l.splat(0.0) } else { load(l, &from[part]) }
}

impl Law for Gaussian {
    #[inline(always)]
    fn pre_activations<L: Wide>(
        self, l: L, sums: &mut [f32], bias: &[f32], reference: &[f32], precisions: [&[f32]; 2], beta: f32,
    ) {
        let beta = l.splat(beta);
        for part in vectors(0..sums.len()) {
            let [own, other] = precisions.map(|precisions| load_or_zero(l, precisions, part.clone()));
            let (bias, reference) = (load(l, &bias[part.clone()]), load(l, &reference[part.clone()]));
            let sums = &mut sums[part];
            store(l, mean(l, load(l, sums), bias, own, reference, other, beta), sums);
        }
    }

    #[inline(always)]
    fn draw<L: Wide>(self, l: L, row: &mut VisibleRow<'_>, units: Range<usize>, state: u64, _: &mut Room) {
        let mut draws = l.states(state);
        let beta = l.splat(row.beta);
        for part in vectors(units) {
            let x = l.draw(&mut draws);
            let upper = l.less(l.splat(BELOW_HALF), l.unit_interval(x));
            let z = normal_lanes(l, l.end_distance(x, upper), upper);
            let own = load(l, &row.precision[part.clone()]);
            let reference = load_or_zero(l, row.reference_precision, part.clone());
            let precision = precision_at(l, own, reference, beta);
            let number = self::state(l, load(l, &row.pre[part.clone()]), precision, z);
            store(l, number, &mut row.numbers[part]);
        }
    }

    #[inline(always)]
    fn means<L: Wide>(self, _: L, _: &mut [f32], _: &mut Room) {}

    fn log_normaliser(self, pre: &[f64], bias: &[f32], precision: &[f64]) -> f64 {
        let unit = |((&a, &b), &s): ((&f64, &f32), &f64)| {
            let b = f64::from(b);
            0.5 * (libm::log(TAU / s) + s * (a * a - b * b))
        };
        pre.iter().zip(bias).zip(precision).map(unit).sum()
    }

    fn means_f64(self, pre: &[f64], out: &mut [f64]) {
        out.copy_from_slice(pre);
    }

    /// -s·(x - b)²/2.
    #[inline(always)]
    fn minus_own_energy(self, x: f32, bias: f32, precision: f32) -> f64 {
        let d = f64::from(x) - f64::from(bias);
        -0.5 * (f64::from(precision) * (d * d))
    }

    /// -s·(x - a)²/2.
    fn reconstruction(self, x: &[f32], pre: &[f32], precision: &[f32]) -> f64 {
        x.iter().zip(pre).zip(precision).map(|((&x, &a), &s)| self.minus_own_energy(x, a, s)).sum()
    }

    fn wrong(self, x: &[f32]) -> Option<(usize, &'static str)> {
        x.iter().position(|x| !x.is_finite()).map(|unit| (unit, "a finite number"))
    }

    fn clipped_mean(self, sum: f64, n: usize) -> f64 {
        sum / n.max(1) as f64
    }

    fn bias_of(self, mean: f64) -> f64 {
        mean
    }

    /// The means, and the reciprocals of the variances, or 1 for a variance of 0.
    fn fit(self, n: &[usize], sums: &[f64], squares: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let unit = |((sum, square), &n): ((&f64, &f64), &usize)| {
            let n = n.max(1) as f64;
            let mean = sum / n;
            let variance = square / n - mean * mean;
            let is_there = variance > 1e-12 * (square / n);
            (mean, if is_there { 1.0 / variance } else { 1.0 })
        };
        sums.iter().zip(squares).zip(n).map(unit).unzip()
    }
}
