//! The pseudo-likelihood on the CPU, of one visible unit or of all of them, for a group of rows.
//!
//! The term of one unit is a sum of softplus differences. For all units, each unit of each row is flipped once. Flipping unit i
//! changes pre-activation a_j by w = ±W_ij, and multiplies e^-F by e^±b_i and by the product over the hidden units of (1 + e^(a_j +
//! w))/(1 + e^a_j) = σ(-a_j) + σ(a_j)·e^w. That is one multiply-add for each factor, with both means from the row and e^±W from the
//! model, and one logarithm for the whole product. All terms are positive, so nothing cancels. The error of each factor is at most
//! [`SIGMOID_ULP`](crate::elementary::SIGMOID_ULP) + [`EXP_ULP`](crate::elementary::EXP_ULP) + 1/2 ulp, from its parts and their
//! sum, and half an ulp from the multiplication, for any a and w.
//!
//! The canonical product: hidden unit j belongs to lane j mod 16. A lane multiplies its units in ascending order. Then the upper
//! half of the lanes is multiplied by the lower half, until one lane remains. Each product is an `f32` m·2^n whose exponent never
//! overflows; log = n·ln 2 + ln m. (Extracting an exponent is exact, so its frequency does not matter.) This applies to units whose
//! weights are all within ±[`MAX_WEIGHT`]; the terms of other units use softplus, unit by unit.

use super::{
    flip::Flip,
    groups::{Scratch, empty, round},
    layers::{self, total},
    tempered::Tempered,
    tiles::{LANE, Row, TILE, VECTORS, lanes_used, tiles, vectors},
};
use crate::{
    elementary::{exp, exp_lanes, ln, ln_1p_lanes, sigmoid_lanes, softplus_lanes},
    lanes::{LANES, dispatch},
    rows::Rows,
    shape::Layer,
    units::Segment,
};
use std::ops::Range;

/// Four factors of e^20 are less than 2^126.
pub(super) const MAX_WEIGHT: f32 = 20.0;
/// The bound on |log| of a product of mantissas and factors.
const MAX_LOG: f32 = 86.0;
/// The number of independent products, enough to hide the latency of multiplication.
const SIDE_BY_SIDE: usize = 4;

/// log P(x_g|x_-g) of each row for one variable g, a binary unit or a Potts site, times the number of variables.
pub(super) fn pseudo_log_likelihood_of_site(
    model: Tempered<'_>, rows: Rows<'_>, site: usize, out: &mut [f64], scratch: &mut Scratch,
) {
    let visible = model.parameters.shape.visible();
    round(rows, &mut scratch.bits);
    match visible.site(site) {
        (Segment::Potts { .. }, units) => {
            take_pre_activations(model, out.len(), scratch);
            out.fill(0.0);
            add_log_conditionals_of_site(model, rows, units, out, scratch);
        }
        (_, units) => {
            log_conditionals_of_bit(model, units.start, out, scratch);
            leave_out(rows, units.start, out);
        }
    }
    out.iter_mut().for_each(|log| *log *= visible.sites() as f64);
}

/// Starts the flip of a variable of rows that are bits, if the variable is one unit. Returns whether it is.
pub(super) fn begin_flip(model: Tempered<'_>, rows: Rows<'_>, site: usize, flip: &mut Flip) -> bool {
    let (segment, units) = model.parameters.shape.visible().site(site);
    let is_bit = matches!(segment, Segment::Binary(_));
    if is_bit {
        flip.begin(units.start, (0..rows.len()).map(|r| rows.bit(r, units.start)));
    }
    is_bit
}

/// [`pseudo_log_likelihood_of_site`] from such a flip, after all hidden units were added to it.
pub(super) fn end_flip(model: Tempered<'_>, rows: Rows<'_>, flip: &Flip, out: &mut [f64]) {
    flip.log_conditionals(model, out);
    leave_out(rows, flip.unit, out);
    out.iter_mut().for_each(|log| *log *= model.parameters.shape.visible().sites() as f64);
}

/// Sets the term of a unit to 0 in rows that lack the unit.
fn leave_out(rows: Rows<'_>, unit: usize, out: &mut [f64]) {
    (0..out.len()).filter(|&r| rows.is_missing(r, unit)).for_each(|r| out[r] = 0.0);
}

/// The hidden pre-activations given the bits in `scratch.bits`, in `scratch.row`, ordered by tile and then by row.
fn take_pre_activations(model: Tempered<'_>, n: usize, scratch: &mut Scratch) {
    let Scratch { sums, bits, row: pre_activations, .. } = scratch;
    pre_activations.clear();
    model.make_from_bits(Layer::Visible, bits, sums, |_, _, pre| pre_activations.extend_from_slice(&pre[..n]));
}

/// Adds log P(x_g|x_-g) of the Potts site with these units. Let c be the state that is on, a' the pre-activations without its
/// weights, and T_s = b_s + Σ_j [sp(a'_j + W_sj) - sp(a'_j)]. The logarithm is T_c - ln Σ_s e^T_s. Exponentials and logarithm are
/// `f32`, relative to the greatest T.
fn add_log_conditionals_of_site(
    model: Tempered<'_>, rows: Rows<'_>, units: Range<usize>, out: &mut [f64], scratch: &mut Scratch,
) {
    let (isa, parameters, n) = (model.cpu.isa, model.parameters, out.len());
    let width = tiles(parameters.shape.n_visible());
    let Scratch { bits, row: pre_activations, base: without, partials, changes, site_terms: terms, .. } = scratch;
    let is_on = |r: usize, i: usize| bits[r * width + i / TILE] >> (i % TILE) & 1 == 1;
    let state = |r: usize| units.clone().position(|i| is_on(r, i)).unwrap_or(0);
    without.clone_from(pre_activations);
    for (tile, without) in without.chunks_exact_mut(n).enumerate() {
        for (r, without) in without.iter_mut().enumerate() {
            subtract(isa, without, &parameters.weights[parameters.row(units.start + state(r), tile)]);
        }
    }
    changes.clear();
    changes.resize(n, 1.0);
    terms.clear();
    for i in units.clone() {
        empty(partials, n);
        for (tile, without) in without.chunks_exact(n).enumerate() {
            let (weights, hidden) = (&parameters.weights[parameters.row(i, tile)], parameters.shape.n_hidden());
            layers::add_flip(isa, without, weights, changes, hidden, tile, vectors(hidden, tile), partials);
        }
        let bias = f64::from(parameters.visible_bias[i / TILE].units()[i % TILE]);
        terms.extend(partials.iter().map(|&partial| bias + total(partial)));
    }
    for (r, out) in out.iter_mut().enumerate() {
        let terms = || terms[r..].iter().step_by(n).copied();
        let greatest = terms().fold(f64::NEG_INFINITY, f64::max);
        let sum = terms().fold(0.0, |sum: f32, term| sum + exp((term - greatest) as f32));
        let own = terms().nth(state(r)).unwrap_or(greatest);
        if !rows.is_missing(r, units.start) {
            *out += (own - greatest) - f64::from(ln(sum));
        }
    }
}

/// log P(x_i|x_-i) for one bit i of each row in `scratch.bits`, as an `f32`.
pub(super) fn log_conditionals_of_bit(model: Tempered<'_>, bit: usize, out: &mut [f64], scratch: &mut Scratch) {
    let Scratch { sums, bits, flip, .. } = scratch;
    let words = bits[bit / TILE..].iter().step_by(tiles(model.parameters.shape.n_visible()));
    flip.begin(bit, words.map(|word| word >> (bit % TILE) & 1 == 1));
    model.make_from_bits(Layer::Visible, bits, sums, |tile, vectors, pre| flip.add(model, tile, vectors, pre));
    flip.log_conditionals(model, out);
}

/// Σ log P(x_g|x_-g) of each row over all variables g, binary units first.
pub(super) fn pseudo_log_likelihood(model: Tempered<'_>, rows: Rows<'_>, out: &mut [f64], scratch: &mut Scratch) {
    let visible = model.parameters.shape.visible();
    out.fill(0.0);
    if visible.iter().any(|(segment, _)| matches!(segment, Segment::Binary(_))) {
        log_likelihood_of_bits(model, rows, out, scratch);
    }
    let sites = || visible.iter().filter(|(segment, _)| matches!(segment, Segment::Potts { .. }));
    if sites().next().is_some() {
        round(rows, &mut scratch.bits);
        take_pre_activations(model, out.len(), scratch);
    }
    for (segment, units) in sites() {
        for first in units.step_by(segment.states()) {
            add_log_conditionals_of_site(model, rows, first..first + segment.states(), out, scratch);
        }
    }
}

/// Σ_i log P(x_i|x_-i) of each row over the binary units i.
fn log_likelihood_of_bits(model: Tempered<'_>, rows: Rows<'_>, out: &mut [f64], scratch: &mut Scratch) {
    let (isa, shape) = (model.cpu.isa, model.parameters.shape);
    let (width, visible_width) = (tiles(shape.n_hidden()), tiles(shape.n_visible()));
    let Scratch { sums, bits, row: on, base: off, factors, terms, large, .. } = &mut *scratch;
    round(rows, bits);
    for rows_of in [&mut *on, &mut *off] {
        rows_of.clear();
        rows_of.resize(rows.len() * width, Row::ZERO);
    }
    model.make_from_bits(Layer::Visible, bits, sums, |tile, _, pre| {
        for (r, pre) in pre.iter().enumerate() {
            let at = r * width + tile;
            both_means(isa, pre, shape.n_hidden(), tile, &mut on[at], &mut off[at]);
        }
    });
    terms.clear();
    terms.resize(rows.len() * visible_width, Row::ZERO);
    large.clear();
    factors.resize(2 * TILE * width, Row::ZERO);
    for visible_tile in 0..visible_width {
        let weights = &model.parameters.weights[visible_tile * model.parameters.block_rows()..];
        let (mut greatest, mut within) = (0.0, u64::MAX);
        for tile in 0..width {
            let (first, step) = model.parameters.blocks.block(tile);
            exponentials(isa, &weights[first..], step, tile, width, factors, &mut greatest, &mut within);
        }
        large.push(!within);
        // At least one tile between extractions: four factors a lane.
        let every = ((MAX_LOG / VECTORS as f32 / greatest.max(f32::MIN_POSITIVE)) as usize).clamp(1, width);
        for r in 0..rows.len() {
            let word = bits[r * visible_width + visible_tile];
            let (on, off) = (&on[r * width..][..width], &off[r * width..][..width]);
            let bias = &model.parameters.visible_bias[visible_tile];
            log_conditionals(isa, on, off, factors, every, word, bias, &mut terms[r * visible_width + visible_tile]);
        }
    }
    for tile in 0..visible_width {
        let mut left = scratch.large[tile];
        while left != 0 {
            let lane = left.trailing_zeros() as usize;
            left &= left - 1;
            log_conditionals_of_bit(model, tile * TILE + lane, out, scratch);
            for (term, &log) in scratch.terms[tile..].iter_mut().step_by(visible_width).zip(&*out) {
                // The result of a softplus is an `f32`, so the conversion is exact.
                term.units_mut()[lane] = log as f32;
            }
        }
    }
    for (r, (out, terms)) in out.iter_mut().zip(scratch.terms.chunks_exact(visible_width)).enumerate() {
        let binary = shape.visible().iter().filter(|(segment, _)| matches!(segment, Segment::Binary(_)));
        let term = |i: usize| f64::from(terms[i / TILE].units()[i % TILE]);
        let bits = binary.flat_map(|(_, units)| units).filter(|&i| !rows.is_missing(r, i));
        *out = bits.fold(0.0, |sum, i| sum + term(i));
    }
}

/// Extracts the exponents of positive numbers, which leaves mantissas in [1, 2).
#[inline(always)]
fn take_exponents(mantissas: &mut [f32; LANES], exponents: &mut [i32; LANES]) {
    for lane in 0..LANES {
        let bits = mantissas[lane].to_bits();
        exponents[lane] += (bits >> 23) as i32 - 127;
        mantissas[lane] = f32::from_bits(bits & 0x007f_ffff | 0x3f80_0000);
    }
}

/// The product of positive lanes, with repeated multiplication of the lower half by the upper half, and the sum of exponents.
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
    /// pre ← pre - weights.
    fn subtract(|l| pre: &mut Row, weights: &Row) {
        for v in 0..VECTORS {
            let difference = l.add(l.load(&pre.0[v]), l.negate(l.load(&weights.0[v])));
            l.store(difference, &mut pre.0[v]);
        }
    }

    /// on ← σ(pre), off ← σ(-pre). Lanes without a unit get 0 and 1, so that their factor is 1.
    fn both_means(|l| pre: &Row, units: usize, tile: usize, on: &mut Row, off: &mut Row) {
        for v in 0..VECTORS {
            let used = l.less(l.load(&LANE), l.splat(lanes_used(units, tile, v)));
            let pre = l.load(&pre.0[v]);
            l.store(l.select(used, sigmoid_lanes(l, pre), l.splat(0.0)), &mut on.0[v]);
            l.store(l.select(used, sigmoid_lanes(l, l.negate(pre)), l.splat(1.0)), &mut off.0[v]);
        }
    }

    /// factors ← e^w and e^-w of a block; those of unit i are at (2i)·width and (2i + 1)·width. Raises `greatest` to the greatest
    /// |w|. Clears the bits in `within` of units with a weight beyond ±[`MAX_WEIGHT`].
    fn exponentials(
        |l| weights: &[Row], step: usize, tile: usize, width: usize, factors: &mut [Row], greatest: &mut f32, within: &mut u64
    ) {
        let mut largest = l.splat(*greatest);
        for (i, row) in weights.iter().step_by(step).take(TILE).enumerate() {
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

    /// terms ← log P(x_i|x_-i) for the units of a visible tile whose states are `word`. Extracts exponents once per `every` tiles.
    fn log_conditionals(
        |l| on: &[Row], off: &[Row], factors: &[Row], every: usize, word: u64, bias: &Row, terms: &mut Row
    ) {
        let width = on.len();
        let mut mantissas = [[0.0; LANES]; VECTORS];
        let mut exponents = [[0; LANES]; VECTORS];
        for first in (0..TILE).step_by(SIDE_BY_SIDE) {
            let factors: [&[Row]; SIDE_BY_SIDE] = std::array::from_fn(|n| {
                let i = first + n;
                // A unit that is 1 flips to 0.
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
