//! Potts units: sites with several states each. Each state has a unit, and exactly one unit of a site is 1.
//!
//! A site whose units have the pre-activations a is in state s with the probability e^a_s/Σe^a: the means are the softmax, the
//! log-normaliser is ln Σe^a.
//!
//! The documentation of [`units`](crate::units) explains the draw.

use super::{Law, LogSums, Room, VisibleRow, clipped};
use crate::{
    elementary::{exp, exp_lanes, ln},
    lanes::{LANES, Wide},
    uniforms::{Jump, output},
};
use std::ops::Range;

/// The law of sites with `states` states.
#[derive(Clone, Copy)]
pub(crate) struct Potts {
    pub states: usize,
}

/// The number u of a site, (x + ½)·2^-32, exactly.
#[inline(always)]
fn number(x: u32) -> f64 {
    (f64::from(x) + 0.5) * (1.0 / 4_294_967_296.0)
}

impl Potts {
    /// weights ← e^(a - max a), with the maximum over each site.
    #[inline(always)]
    fn weigh<L: Wide>(self, l: L, pre: &[f32], weights: &mut Vec<f32>) {
        weights.clear();
        weights.resize(pre.len().next_multiple_of(LANES), 0.0);
        for (a, weights) in pre.chunks_exact(self.states).zip(weights.chunks_exact_mut(self.states)) {
            let greatest = a.iter().fold(f32::NEG_INFINITY, |greatest, &a| if greatest < a { a } else { greatest });
            weights.iter_mut().zip(a).for_each(|(weight, a)| *weight = a - greatest);
        }
        for part in weights.as_chunks_mut::<LANES>().0 {
            l.store(exp_lanes(l, l.load(part)), part);
        }
    }

    /// The means of a site's units.
    #[inline(always)]
    fn normalise(weights: &[f32], total: f64, means: &mut [f32]) {
        means.iter_mut().zip(weights).for_each(|(mean, &w)| *mean = (f64::from(w) / total) as f32);
    }
}

#[inline(always)]
fn sum(weights: &[f32]) -> f64 {
    weights.iter().fold(0.0, |sum, &w| sum + f64::from(w))
}

/// ln Σe^a of the numbers of a site; the same bits on every device.
pub(crate) fn canonical_log_sum(a: &[f32]) -> f64 {
    let greatest = a.iter().fold(f32::NEG_INFINITY, |greatest, &a| if greatest < a { a } else { greatest });
    let total = a.iter().fold(0.0, |sum, &a| sum + f64::from(exp(a - greatest)));
    f64::from(greatest) + f64::from(ln(total as f32))
}

/// ln Σe^a.
fn log_sum(a: &[f64]) -> f64 {
    let greatest = a.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    greatest + a.iter().map(|a| (a - greatest).exp()).sum::<f64>().ln()
}

impl Law for Potts {
    #[inline(always)]
    fn draw<L: Wide>(self, l: L, row: &mut VisibleRow<'_>, units: Range<usize>, state: u64, room: &mut Room) {
        let Room { weights, through } = room;
        self.weigh(l, &row.pre[units.clone()], weights);
        through.resize(self.states, 0.0);
        let (mut state, over) = (state, Jump::over(self.states as u64));
        for (first, weights) in units.step_by(self.states).zip(weights.chunks_exact(self.states)) {
            let mut total = 0.0;
            for (through, &w) in through.iter_mut().zip(weights) {
                total += f64::from(w);
                *through = total;
            }
            let target = number(output(state)) * total;
            state = over.from(state);
            // As the sums rise, those that are at most the target come first.
            let chosen = through[..self.states - 1].iter().filter(|&&through| through <= target).count();
            row.words[(first + chosen) / 64] |= 1 << ((first + chosen) % 64);
            if row.means {
                Self::normalise(weights, total, &mut row.pre[first..][..self.states]);
            }
        }
    }

    #[inline(always)]
    fn means<L: Wide>(self, l: L, pre: &mut [f32], room: &mut Room) {
        self.weigh(l, pre, &mut room.weights);
        for (pre, weights) in pre.chunks_exact_mut(self.states).zip(room.weights.chunks_exact(self.states)) {
            Self::normalise(weights, sum(weights), pre);
        }
    }

    fn log_normaliser(self, pre: &[f64], _: &[f32], _: &[f64]) -> f64 {
        let mut sum = LogSums::default();
        for a in pre.chunks_exact(self.states) {
            let greatest = a.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            sum.add(greatest, a.iter().fold(0.0, |sum, a| sum + libm::exp(a - greatest)));
        }
        sum.total()
    }

    fn means_f64(self, pre: &[f64], out: &mut [f64]) {
        for (a, out) in pre.chunks_exact(self.states).zip(out.chunks_exact_mut(self.states)) {
            let log = log_sum(a);
            out.iter_mut().zip(a).for_each(|(mean, a)| *mean = (a - log).exp());
        }
    }

    fn reconstruction(self, x: &[f32], pre: &[f32], _: &[f32]) -> f64 {
        let site = |(x, a): (&[f32], &[f32])| {
            let on: f64 = x.iter().zip(a).map(|(&x, &a)| f64::from(x) * f64::from(a)).sum();
            on - canonical_log_sum(a)
        };
        x.chunks_exact(self.states).zip(pre.chunks_exact(self.states)).map(site).sum()
    }

    fn wrong(self, x: &[f32]) -> Option<(usize, &'static str)> {
        if let Some(unit) = x.iter().position(|&x| x != 0.0 && x != 1.0) {
            return Some((unit, "0 or 1"));
        }
        let ones = |site: &[f32]| site.iter().filter(|&&x| x == 1.0).count();
        let site = x.chunks_exact(self.states).position(|site| ones(site) != 1)?;
        Some((site * self.states, "a single 1 among the states of the site that begins here"))
    }

    fn clipped_mean(self, sum: f64, n: usize) -> f64 {
        clipped(sum, n)
    }

    fn bias_of(self, mean: f64) -> f64 {
        libm::log(mean)
    }

    /// The logarithms of the frequencies (1 + Σv)/(S + n), by Laplace's rule.
    fn fit(self, n: &[usize], sums: &[f64], _: &[f64]) -> (Vec<f64>, Vec<f64>) {
        (
            sums.iter().zip(n).map(|(sum, n)| ((1.0 + sum) / (self.states + n) as f64).ln()).collect(),
            vec![1.0; sums.len()],
        )
    }
}
