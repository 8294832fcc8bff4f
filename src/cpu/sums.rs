//! Sums over units of state × row of weights, for a group of rows and one tile of columns: pre-activations, and the statistics of
//! both phases in an update.
//!
//! The canonical order: each sum starts from 0 and adds its units in ascending order to one accumulator, by fused multiply-add. x·1
//! and x·0 are exact, so three kernels give the same bits for the same input: the sum of the rows of active units, the same with a
//! factor for each, and the product over all units ([`dense`]). [`Inputs`](super::inputs::Inputs) chooses among them. Each lane and
//! row has its own sum; nothing is summed across them.
//!
//! If each row of weights is used several times, lists are processed block by block ([`in_blocks`]): a block of 64 × 64 weights
//! stays in the first-level cache for all rows of the group. Otherwise a list is processed as a whole ([`one_by_one`]): the loads
//! of its rows do not depend on each other, and prefetching them would cost more than it saves.

use super::{
    parameters::Strip,
    tiles::{Row, TILE, VECTORS, tiles},
};
use crate::lanes::{Wide, dispatch};
use std::ops::Range;

/// The number of rows that the dense product processes at once: with a tile's vectors they fill the registers. For fewer than half
/// as many rows it does not pay.
pub(super) const DENSE_ROWS: usize = 5;

/// Sums, or the lists to compute them from: the result of [`Inputs::terms`](super::inputs::Inputs::terms).
#[derive(Clone, Copy)]
pub(crate) enum Terms<'a> {
    /// The lists of a single block of weights, and their lengths.
    Lists(Lists<'a>, &'a [Row], &'a [u32]),
    Sums(&'a [Row]),
}

impl Terms<'_> {
    /// The sums of row `r`.
    #[inline(always)]
    pub fn sums<L: Wide, const V: usize>(self, l: L, r: usize) -> [L::F; V] {
        let mut sums = [l.splat(0.0); V];
        match self {
            Terms::Lists(lists, weights, lengths) => {
                let first = r * lists.stride;
                add_rows::<L, V>(l, weights, lists, first..first + lengths[r] as usize, &mut sums);
            }
            Terms::Sums(made) => {
                for v in 0..V {
                    sums[v] = l.load(&made[r].0[v]);
                }
            }
        }
        sums
    }
}

/// The lists of [`Inputs`](super::inputs::Inputs), for the kernels.
#[derive(Clone, Copy)]
pub(crate) struct Lists<'a> {
    pub places: &'a [u32],
    pub values: Option<&'a [f32]>,
    pub stride: usize,
}

/// Prefetches a row. `place` may be beyond the end of the strip.
#[inline(always)]
fn prefetch<L: Wide>(l: L, rows: &[Row], place: usize) {
    if let Some(row) = rows.get(place) {
        for v in 0..VECTORS {
            l.prefetch(&row.0[v]);
        }
    }
}

/// Adds the rows of weights in a range of a list.
#[inline(always)]
fn add_rows<L: Wide, const V: usize>(l: L, strip: &[Row], lists: Lists<'_>, part: Range<usize>, sums: &mut [L::F; V]) {
    let places = &lists.places[part.clone()];
    match lists.values {
        None => {
            for &place in places {
                let row = &strip[place as usize];
                for v in 0..V {
                    sums[v] = l.add(sums[v], l.load(&row.0[v]));
                }
            }
        }
        Some(values) => {
            for (&place, &x) in places.iter().zip(&values[part]) {
                let (row, x) = (&strip[place as usize], l.splat(x));
                for v in 0..V {
                    sums[v] = l.mul_add(x, l.load(&row.0[v]), sums[v]);
                }
            }
        }
    }
}

dispatch! {
    /// Sums each row's list as a whole.
    pub(super) fn one_by_one<const V: usize>(|l| strip: &[Row], lists: Lists<'_>, lengths: &[u32], out: &mut [Row]) {
        for (r, (&n, out)) in lengths.iter().zip(out).enumerate() {
            let first = r * lists.stride;
            let mut sums = [l.splat(0.0); V];
            add_rows::<L, V>(l, strip, lists, first..first + n as usize, &mut sums);
            for v in 0..V {
                l.store(sums[v], &mut out.0[v]);
            }
        }
    }

    pub(super) fn in_blocks<const V: usize>(
        |l| strip: Strip<'_>, units: usize, lists: Lists<'_>, lengths: &[u32], out: &mut [Row],
    ) {
        let rows = out.len();
        for tile in 0..tiles(units) {
            let (next, share) = ((tile + 1) * (TILE + strip.skip), TILE.div_ceil(rows));
            for r in 0..rows {
                // Each row prefetches its share of the next block.
                for n in r * share..TILE.min((r + 1) * share) {
                    prefetch(l, strip.rows, next + n);
                }
                let (from, to) = (lengths[tile * rows + r] as usize, lengths[(tile + 1) * rows + r] as usize);
                let first = r * lists.stride;
                let mut sums = [l.splat(0.0); V];
                if tile > 0 {
                    for v in 0..V {
                        sums[v] = l.load(&out[r].0[v]);
                    }
                }
                add_rows::<L, V>(l, strip.rows, lists, first + from..first + to, &mut sums);
                for v in 0..V {
                    l.store(sums[v], &mut out[r].0[v]);
                }
            }
        }
    }

    pub(super) fn dense<const V: usize>(|l| strip: Strip<'_>, units: usize, values: &[f32], out: &mut [Row]) {
        out.fill(Row::ZERO);
        for (tile, values) in values.chunks_exact(out.len() * TILE).enumerate() {
            let weights = &strip.rows[tile * (TILE + strip.skip)..][..TILE.min(units - tile * TILE)];
            if L::MANY_REGISTERS {
                add_tile::<L, V>(l, weights, values, out, 0);
            } else {
                (0..V).for_each(|v| add_tile::<L, 1>(l, weights, values, out, v));
            }
        }
    }
}

/// Adds the units of a tile to the sums of all rows, V vectors of them starting at `first`. The tile's weights stay in the
/// first-level cache for all rows. The weights of several tiles would not, because the vectors of two rows are a power of two
/// apart.
#[inline(always)]
fn add_tile<L: Wide, const V: usize>(l: L, weights: &[Row], values: &[f32], out: &mut [Row], first: usize) {
    for (values, out) in values.chunks(DENSE_ROWS * TILE).zip(out.chunks_mut(DENSE_ROWS)) {
        // Rows beyond the last repeat the last one, with the same sums.
        let last = out.len() - 1;
        let row = |r: usize| &values[r.min(last) * TILE..][..weights.len()];
        let rows: [&[f32]; DENSE_ROWS] = std::array::from_fn(row);
        let mut sums = [[l.splat(0.0); V]; DENSE_ROWS];
        for r in 0..DENSE_ROWS {
            for v in 0..V {
                sums[r][v] = l.load(&out[r.min(last)].0[first + v]);
            }
        }
        // Four units at a time, because the loop overhead equals the cost of one unit.
        let (fours, rest) = weights.as_chunks::<4>();
        for (n, weights) in fours.iter().enumerate() {
            let mut x = [[0.0; 4]; DENSE_ROWS];
            for r in 0..DENSE_ROWS {
                x[r] = rows[r].as_chunks().0[n];
            }
            for i in 0..4 {
                add_unit(l, &weights[i], &x, i, first, &mut sums);
            }
        }
        for (n, weights) in rest.iter().enumerate() {
            let mut x = [[0.0; 1]; DENSE_ROWS];
            for r in 0..DENSE_ROWS {
                x[r] = [rows[r][4 * fours.len() + n]];
            }
            add_unit(l, weights, &x, 0, first, &mut sums);
        }
        for r in 0..DENSE_ROWS {
            for v in 0..V {
                l.store(sums[r][v], &mut out[r.min(last)].0[first + v]);
            }
        }
    }
}

/// Adds number `i` of each row's `x` times a row of weights.
#[inline(always)]
fn add_unit<L: Wide, const V: usize, const N: usize>(
    l: L, weights: &Row, x: &[[f32; N]; DENSE_ROWS], i: usize, first: usize, sums: &mut [[L::F; V]; DENSE_ROWS],
) {
    let mut w = [l.splat(0.0); V];
    for v in 0..V {
        w[v] = l.load(&weights.0[first + v]);
    }
    for r in 0..DENSE_ROWS {
        let x = l.splat(x[r][i]);
        for v in 0..V {
            sums[r][v] = l.mul_add(x, w[v], sums[r][v]);
        }
    }
}
