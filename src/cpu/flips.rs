//! The exact pseudo-likelihood on the CPU: every visible unit of each row flipped once, for a group of at most
//! [`GROUP`](super::groups::GROUP) rows.
//!
//! Flipping unit i changes pre-activation a_j by w = ±W_ij, and e^-F by e^±b_i times the product over the hidden units of
//! (1 + e^(a_j + w))/(1 + e^a_j) = σ(-a_j) + σ(a_j)·e^w: one multiply-add for each, both means being the row's and e^±W the
//! model's, and one logarithm for the whole product. All terms are positive, so nothing cancels: each factor is off by no
//! more than the [`SIGMOID_ULP`](crate::elementary::SIGMOID_ULP) + [`EXP_ULP`](crate::elementary::EXP_ULP) + 1/2 ulp of its
//! parts and its sum and half an ulp of the multiplication, whatever a and w.
//!
//! The canonical product: hidden unit j belongs to lane j mod 16, a lane multiplies its units in ascending order, the upper
//! half of the lanes is multiplied to the lower one until one is left, each product an `f32` m·2^n whose exponent never
//! overflows; log = n·ln 2 + ln m. (Taking an exponent out is exact, so it does not matter how often that is done.) That
//! is for units whose weights are all within ±[`MAX_WEIGHT`]; the others' terms come from softplus, unit by unit.

use super::{
    energies,
    groups::{Tempered, round, with_scratch},
    tiles::{Row, TILE, VECTORS, lanes_used, tiles},
};
use crate::{
    backend::{Layer, Rows},
    elementary::{exp_lanes, ln_1p_lanes, sigmoid_lanes, softplus_lanes},
    lanes::{LANES, dispatch},
};

/// Four factors of e^20 are less than 2^126.
pub(super) const MAX_WEIGHT: f32 = 20.0;
/// A product of mantissas and factors stays within e^±this.
const MAX_LOG: f32 = 86.0;
/// As many products side by side keep the multipliers busy.
const SIDE_BY_SIDE: usize = 4;

/// Σ_i log P(x_i|x_-i) of each row.
pub(super) fn pseudo_log_likelihood(model: Tempered<'_>, rows: Rows<'_>, out: &mut [f64]) {
    let shape = model.parameters.shape;
    let (width, visible_width) = (tiles(shape.n_hidden()), tiles(shape.n_visible()));
    with_scratch(|scratch| {
        let mut bits = std::mem::take(&mut scratch.bits);
        let (mut on, mut off) = (std::mem::take(&mut scratch.row), std::mem::take(&mut scratch.base));
        let mut factors = std::mem::take(&mut scratch.factors);
        let (mut terms, mut large) = (std::mem::take(&mut scratch.terms), std::mem::take(&mut scratch.large));
        round(rows, &mut bits);
        for rows_of in [&mut on, &mut off] {
            rows_of.clear();
            rows_of.resize(rows.len() * width, Row::ZERO);
        }
        model.make_from_bits(Layer::Visible, &bits, scratch, |tile, _, pre| {
            for (r, pre) in pre.iter().enumerate() {
                both_means(
                    model.isa,
                    pre,
                    shape.n_hidden(),
                    tile,
                    &mut on[r * width + tile],
                    &mut off[r * width + tile],
                );
            }
        });
        terms.clear();
        terms.resize(rows.len() * visible_width, Row::ZERO);
        large.clear();
        factors.resize(2 * TILE * width, Row::ZERO);
        for visible_tile in 0..visible_width {
            let block = model.parameters.block(visible_tile, 0);
            let (mut greatest, mut within) = (0.0, u64::MAX);
            for tile in 0..width {
                let weights = &model.parameters.weights[block + tile * TILE..][..TILE];
                exponentials(model.isa, weights, tile, width, &mut factors, &mut greatest, &mut within);
            }
            large.push(!within);
            // At least one tile at a time: four factors a lane.
            let every = ((MAX_LOG / VECTORS as f32 / greatest.max(f32::MIN_POSITIVE)) as usize).clamp(1, width);
            for r in 0..rows.len() {
                let word = bits[r * visible_width + visible_tile];
                let (on, off) = (&on[r * width..][..width], &off[r * width..][..width]);
                let bias = &model.parameters.visible_bias[visible_tile];
                let term = &mut terms[r * visible_width + visible_tile];
                log_conditionals(model.isa, on, off, &factors, every, word, bias, term);
            }
        }
        (scratch.bits, scratch.row, scratch.base, scratch.factors) = (bits, on, off, factors);
        (scratch.terms, scratch.large) = (terms, large);
    });
    let (mut terms, large) =
        with_scratch(|scratch| (std::mem::take(&mut scratch.terms), std::mem::take(&mut scratch.large)));
    for (tile, &large) in large.iter().enumerate() {
        let mut left = large;
        while left != 0 {
            let lane = left.trailing_zeros() as usize;
            left &= left - 1;
            energies::log_conditionals_of_bit(model, rows, tile * TILE + lane, out);
            for (term, &log) in terms[tile..].iter_mut().step_by(visible_width).zip(&*out) {
                // What a softplus gave: the conversion is exact.
                term.units_mut()[lane] = log as f32;
            }
        }
    }
    for (out, terms) in out.iter_mut().zip(terms.chunks_exact(visible_width)) {
        let terms = terms.iter().flat_map(Row::units).take(shape.n_visible());
        *out = terms.fold(0.0, |sum, &term| sum + f64::from(term));
    }
    with_scratch(|scratch| (scratch.terms, scratch.large) = (terms, large));
}

/// Takes the exponents out of positive numbers, which come into [1, 2).
#[inline(always)]
fn take_exponents(mantissas: &mut [f32; LANES], exponents: &mut [i32; LANES]) {
    for lane in 0..LANES {
        let bits = mantissas[lane].to_bits();
        exponents[lane] += (bits >> 23) as i32 - 127;
        mantissas[lane] = f32::from_bits(bits & 0x007f_ffff | 0x3f80_0000);
    }
}

/// The product of positive lanes, the upper half multiplied to the lower one until one is left, and the sum of exponents.
#[inline(always)]
fn fold(mut mantissas: [f32; LANES], mut exponents: [i32; LANES]) -> (f32, i32) {
    let mut n = LANES / 2;
    while n > 0 {
        for lane in 0..n {
            mantissas[lane] *= mantissas[lane + n];
            exponents[lane] += exponents[lane + n];
        }
        n /= 2;
    }
    (mantissas[0], exponents[0])
}

dispatch! {
    /// on ← σ(pre), off ← σ(-pre): where no unit is 0 and 1, so that its factor is 1.
    fn both_means(|l| pre: &Row, units: usize, tile: usize, on: &mut Row, off: &mut Row) {
        for v in 0..VECTORS {
            let used = l.less(l.load(&super::tiles::LANE), l.splat(lanes_used(units, tile, v)));
            let pre = l.load(&pre.0[v]);
            l.store(l.select(used, sigmoid_lanes(l, pre), l.splat(0.0)), &mut on.0[v]);
            l.store(l.select(used, sigmoid_lanes(l, l.negate(pre)), l.splat(1.0)), &mut off.0[v]);
        }
    }

    /// factors ← e^w and e^-w of a block: unit i's stand from (2i)·width and (2i + 1)·width on. `greatest` becomes the
    /// greatest |w| where it was less, and the bits of units with a weight beyond ±[`MAX_WEIGHT`] leave `within`.
    fn exponentials(
        |l| weights: &[Row], tile: usize, width: usize, factors: &mut [Row], greatest: &mut f32, within: &mut u64
    ) {
        let mut largest = l.splat(*greatest);
        for (i, row) in weights.iter().enumerate() {
            let mut all = u16::MAX;
            for v in 0..VECTORS {
                let w = l.load(&row.0[v]);
                let minus = l.negate(w);
                l.store(exp_lanes(l, w), &mut factors[2 * i * width + tile].0[v]);
                l.store(exp_lanes(l, minus), &mut factors[(2 * i + 1) * width + tile].0[v]);
                let size = l.select(l.less(w, minus), minus, w);
                largest = l.select(l.less(largest, size), size, largest);
                all &= l.bits(l.less(size, l.splat(MAX_WEIGHT)));
            }
            if all != u16::MAX {
                *within &= !(1 << i);
            }
        }
        let mut vector = [0.0; LANES];
        l.store(largest, &mut vector);
        *greatest = vector.into_iter().fold(0.0, f32::max).min(MAX_WEIGHT);
    }

    /// terms ← log P(x_i|x_-i) for the units of a visible tile whose states are `word`. Exponents are taken out after every
    /// so many tiles.
    fn log_conditionals(
        |l| on: &[Row], off: &[Row], factors: &[Row], every: usize, word: u64, bias: &Row, terms: &mut Row
    ) {
        let width = on.len();
        let mut mantissas = [[0.0; LANES]; VECTORS];
        let mut exponents = [[0; LANES]; VECTORS];
        for first in (0..TILE).step_by(SIDE_BY_SIDE) {
            let factors: [&[Row]; SIDE_BY_SIDE] = std::array::from_fn(|n| {
                let i = first + n;
                // An x of 1 goes off.
                &factors[(2 * i + (word >> i & 1) as usize) * width..][..width]
            });
            let mut product = [l.splat(1.0); SIDE_BY_SIDE];
            let mut exponent = [[0; LANES]; SIDE_BY_SIDE];
            for part in (0..width).step_by(every) {
                for tile in part..width.min(part + every) {
                    for v in 0..VECTORS {
                        let (on, off) = (l.load(&on[tile].0[v]), l.load(&off[tile].0[v]));
                        for n in 0..SIDE_BY_SIDE {
                            let factor = l.mul_add(on, l.load(&factors[n][tile].0[v]), off);
                            product[n] = l.mul(product[n], factor);
                        }
                    }
                }
                for n in 0..SIDE_BY_SIDE {
                    let mut vector = [0.0; LANES];
                    l.store(product[n], &mut vector);
                    take_exponents(&mut vector, &mut exponent[n]);
                    product[n] = l.load(&vector);
                }
            }
            for n in 0..SIDE_BY_SIDE {
                let i = first + n;
                let mut vector = [0.0; LANES];
                l.store(product[n], &mut vector);
                (mantissas[i / LANES][i % LANES], exponents[i / LANES][i % LANES]) = fold(vector, exponent[n]);
            }
        }
        for v in 0..VECTORS {
            take_exponents(&mut mantissas[v], &mut exponents[v]);
            let mut log = [0.0; LANES];
            l.store(ln_1p_lanes(l, l.add(l.load(&mantissas[v]), l.splat(-1.0))), &mut log);
            let mut minus = [0.0; LANES];
            for lane in 0..LANES {
                let added = f64::from(exponents[v][lane]) * std::f64::consts::LN_2 + f64::from(log[lane]);
                let b = bias.0[v][lane];
                let b = if word >> (v * LANES + lane) & 1 == 1 { b } else { -b };
                minus[lane] = -(f64::from(b) - added) as f32;
            }
            l.store(l.negate(softplus_lanes(l, l.load(&minus))), &mut terms.0[v]);
        }
    }
}
