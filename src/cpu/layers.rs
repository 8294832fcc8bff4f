//! Functions of a tile of sums, for each row: pre-activations, samples, means, softplus.
//!
//! Each is one pass over a tile that is still in the first-level cache. Lanes beyond the last unit are 0 in the result.

use super::tiles::{LANE, Row, VECTORS, lanes_used, vectors};
use crate::{
    elementary::{mean_of_odds_lanes, odds_off_lanes, sigmoid_lanes, softplus_lanes},
    lanes::{LANES, dispatch},
    units::{binary::are_on, pre_activation},
};

/// One partial sum in `f64` for each lane. Number j of a row is added to lane j mod 16, and the lanes are added at the end.
pub(crate) type Partial = [f64; LANES];

/// The sum of the lanes: repeatedly adds the upper half to the lower half.
pub(crate) fn total(mut lanes: Partial) -> f64 {
    let mut n = LANES / 2;
    while n > 0 {
        for l in 0..n {
            lanes[l] += lanes[l + n];
        }
        n /= 2;
    }
    lanes[0]
}

/// Adds a vector of `f32` to the partial sums.
macro_rules! accumulate {
    ($l:ident, $partial:expr, $x:expr) => {{
        let mut vector = [0.0; LANES];
        $l.store($x, &mut vector);
        for lane in 0..LANES {
            $partial[lane] += f64::from(vector[lane]);
        }
    }};
}

dispatch! {
    /// sum ← the pre-activation at inverse temperature β.
    pub(crate) fn pre_activations(|l| sums: &mut [Row], bias: &Row, reference: &Row, betas: &[f32], vectors: usize) {
        for (row, &beta) in sums.iter_mut().zip(betas) {
            let beta = l.splat(beta);
            for v in 0..vectors {
                let (sum, bias, reference) = (l.load(&row.0[v]), l.load(&bias.0[v]), l.load(&reference.0[v]));
                l.store(pre_activation(l, sum, bias, reference, beta), &mut row.0[v]);
            }
        }
    }

    /// pre ← σ(pre).
    pub(crate) fn means(|l| pre: &mut [Row], units: usize, tile: usize, vectors: usize) {
        for row in pre {
            for v in 0..vectors {
                let used = l.less(l.load(&LANE), l.splat(lanes_used(units, tile, v)));
                let mean = sigmoid_lanes(l, l.load(&row.0[v]));
                l.store(l.select(used, mean, l.splat(0.0)), &mut row.0[v]);
            }
        }
    }

    /// The word of each row: a unit is on iff u < σ(pre). With `means`, pre ← σ(pre). `states` are the generator's for the first
    /// unit of each row, and advance by a tile. `stride` is the distance between the words of two rows.
    pub(crate) fn draw(
        |l| pre: &mut [Row], units: usize, tile: usize, vectors: usize, states: &mut [u64], words: &mut [u64], stride: usize,
        means: bool,
    ) {
        // Lanes of the last vector that hold units.
        let used = l.less(l.load(&LANE), l.splat(lanes_used(units, tile, vectors - 1)));
        let mut odds = Row::ZERO;
        for ((row, state), word) in pre.iter_mut().zip(states).zip(words.iter_mut().step_by(stride)) {
            for v in 0..vectors {
                let pre = l.load(&row.0[v]);
                let odds_off = odds_off_lanes(l, pre);
                l.store(odds_off, &mut odds.0[v]);
                if means {
                    l.store(mean_of_odds_lanes(l, pre, odds_off), &mut row.0[v]);
                }
            }
            if means {
                let last = &mut row.0[vectors - 1];
                l.store(l.select(used, l.load(last), l.splat(0.0)), last);
            }
            let mut draws = l.states(*state);
            let mut on = [0; VECTORS];
            for (odds, on) in odds.0[..vectors].iter().zip(&mut on) {
                *on = are_on(l, l.draw(&mut draws), l.load(odds));
            }
            on[vectors - 1] &= l.bits(used);
            *word = on.iter().rev().fold(0, |word, &on| word << LANES | u64::from(on));
            *state = l.first(draws);
        }
    }

    /// partial += sp(pre), for each row.
    pub(crate) fn add_softplus(
        |l| pre: &[Row], units: usize, tile: usize, vectors: usize, partials: &mut [Partial]
    ) {
        for (row, partial) in pre.iter().zip(partials) {
            for v in 0..vectors {
                let used = l.less(l.load(&LANE), l.splat(lanes_used(units, tile, v)));
                let terms = softplus_lanes(l, l.load(&row.0[v]));
                accumulate!(l, partial, l.select(used, terms, l.splat(0.0)));
            }
        }
    }

    /// partial += sp(pre at `to`) - sp(pre at `from`), two inverse temperatures, for each row; sum ← pre at `to`.
    pub(crate) fn anneal(
        |l| sums: &mut [Row], bias: &Row, from: f32, to: f32, units: usize, tile: usize, vectors: usize,
        partials: &mut [Partial],
    ) {
        let (from, to) = (l.splat(from), l.splat(to));
        for (row, partial) in sums.iter_mut().zip(partials) {
            for v in 0..vectors {
                let used = l.less(l.load(&LANE), l.splat(lanes_used(units, tile, v)));
                let (sum, bias) = (l.load(&row.0[v]), l.load(&bias.0[v]));
                let before = l.mul_add(from, sum, l.mul(from, bias));
                let after = l.mul_add(to, sum, l.mul(to, bias));
                // Exact if one is at most twice the other, which holds in any practical schedule.
                let gain = l.add(softplus_lanes(l, after), l.negate(softplus_lanes(l, before)));
                accumulate!(l, partial, l.select(used, gain, l.splat(0.0)));
                l.store(after, &mut row.0[v]);
            }
        }
    }

    /// partial += sp(pre + change·w) - sp(pre) for each row, where w are the weights of a unit whose state changes by ±1.
    pub(crate) fn add_flip(
        |l| pre: &[Row], weights: &Row, changes: &[f32], units: usize, tile: usize, vectors: usize,
        partials: &mut [Partial],
    ) {
        for ((pre, &change), partial) in pre.iter().zip(changes).zip(partials) {
            for v in 0..vectors {
                let used = l.less(l.load(&LANE), l.splat(lanes_used(units, tile, v)));
                let pre = l.load(&pre.0[v]);
                let flipped = softplus_lanes(l, l.mul_add(l.splat(change), l.load(&weights.0[v]), pre));
                let difference = l.add(flipped, l.negate(softplus_lanes(l, pre)));
                accumulate!(l, partial, l.select(used, difference, l.splat(0.0)));
            }
        }
    }

    /// partial += sp(pre) - x·pre, for one row of tiles.
    pub(crate) fn add_cross_entropy(|l| pre: &[Row], x: &[Row], units: usize, partial: &mut Partial) {
        for (tile, (pre, x)) in pre.iter().zip(x).enumerate() {
            for v in 0..vectors(units, tile) {
                let used = l.less(l.load(&LANE), l.splat(lanes_used(units, tile, v)));
                let p = l.load(&pre.0[v]);
                let term = l.mul_add(l.negate(l.load(&x.0[v])), p, softplus_lanes(l, p));
                accumulate!(l, partial, l.select(used, term, l.splat(0.0)));
            }
        }
    }

    /// partial += x·bias for one row of tiles. Each product is in `f64` and exact.
    pub(crate) fn add_products(|_l| x: &[Row], bias: &[Row], partial: &mut Partial) {
        for (x, bias) in x.iter().zip(bias) {
            for (x, bias) in x.0.iter().zip(&bias.0) {
                for lane in 0..LANES {
                    partial[lane] += f64::from(x[lane]) * f64::from(bias[lane]);
                }
            }
        }
    }
}
