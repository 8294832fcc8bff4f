//! Pre-activations: the sum over one layer's units of state × weight, for a group of rows and one tile of the other layer.
//!
//! The canonical order: each sum starts from 0 and takes its units in ascending order into one accumulator, by fused
//! multiply-add. As x·1 and x·0 are exact, the sum of the rows of the units that are on ([`active`]), the same with a factor
//! for each ([`weighted`]) and the product that takes every unit ([`dense`]) give the same bits for the same input, and
//! [`Inputs`] chooses among them by density. Lanes and rows only ever hold different sums.
//!
//! On MNIST 5 to 20 % of the units are on, and the sum of the active rows reads just those: it is bound by the bandwidth
//! of the caches, the dense product by the arithmetic.

use super::{
    isa::Isa,
    tiles::{Row, Strip, TILE, VECTORS, tiles},
};
use crate::{
    backend::{Rows, Values, unit_value},
    lanes::{LANES, Wide, dispatch},
};

/// Above this share of units that are not 0 the dense product is the faster one.
const DENSE_ABOVE: f32 = 0.42;
/// How many rows the dense product takes at once: with a tile's vectors they fill the registers. Fewer rows than half of
/// that are better off without it.
const DENSE_ROWS: usize = 5;

/// The states of one layer for a group of rows, in the form in which they are summed fastest.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    rows: usize,
    units: usize,
    form: Form,
    /// For each row, from `row·units` on: where the rows of the units that are not 0 stand in a [`Strip`], ascending.
    places: Vec<u32>,
    /// The values of those units; without use where all are 1. In dense form those of all units, each
    /// tile of all rows, row after row, and then the next tile.
    values: Vec<f32>,
    counts: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Form {
    #[default]
    Active,
    Weighted,
    Dense,
}

/// How many rows ahead of its turn a row is asked for; no more than [`LANES`].
const AHEAD: usize = 6;

/// Asks for a row that is soon to be read, if there is such a row: behind the end of a list of rows stands what is of no
/// use, but at least [`AHEAD`] of it.
#[inline(always)]
fn prefetch<L: Wide>(l: L, rows: &[Row], place: usize) {
    if let Some(row) = rows.get(place) {
        for v in 0..VECTORS {
            l.prefetch(&row.0[v]);
        }
    }
}

impl Inputs {
    fn reset(&mut self, rows: usize, units: usize) {
        (self.rows, self.units) = (rows, units);
        // Lists are written a vector at a time: room for one more behind the last.
        let size = rows * tiles(units) * TILE + LANES;
        if self.places.len() < size {
            self.places.resize(size, 0);
            self.values.resize(size, 0.0);
        }
        if self.counts.len() < rows {
            self.counts.resize(rows, 0);
        }
    }

    /// Whether the dense form is the faster one, with `on` values that are not 0.
    fn is_dense(&self, on: usize) -> bool {
        2 * self.rows > DENSE_ROWS && on as f32 > DENSE_ABOVE * (self.rows * self.units) as f32
    }

    /// Takes rows of packed bits. `skip` is the [`Strip`]'s.
    pub fn take_bits(&mut self, isa: Isa, bits: &[u64], units: usize, skip: usize) {
        let words = tiles(units);
        self.reset(bits.len() / words, units);
        if self.is_dense(bits.iter().map(|word| word.count_ones() as usize).sum()) {
            self.form = Form::Dense;
            spread_bits(isa, bits, self.rows, &mut self.values);
        } else {
            self.form = Form::Active;
            list(isa, bits, units, skip, &mut self.places, &mut self.counts);
        }
    }

    /// Takes rows of real numbers.
    pub fn take_rows(&mut self, rows: Rows<'_>, skip: usize) {
        let units = rows.units();
        self.reset(rows.len(), units);
        if self.is_dense(rows.count_of_nonzero()) {
            self.form = Form::Dense;
            for (n, to) in self.values.chunks_exact_mut(TILE).take(rows.len() * tiles(units)).enumerate() {
                let (first, r) = (n / rows.len() * TILE, n % rows.len());
                let span = r * units + first..r * units + units.min(first + TILE);
                match rows.values() {
                    Values::U8(x) => to.iter_mut().zip(&x[span]).for_each(|(to, &x)| *to = unit_value(x)),
                    Values::F32(x) => to[..span.len()].copy_from_slice(&x[span]),
                }
            }
            return;
        }
        self.form = Form::Weighted;
        for r in 0..rows.len() {
            let (places, values) = (&mut self.places[r * units..][..units], &mut self.values[r * units..][..units]);
            // Every unit is written and the count moves on only past those that are not 0: no branch to mispredict.
            let mut n = 0;
            let mut push = |i: usize, value: f32| {
                places[n] = (i + i / TILE * skip) as u32;
                values[n] = value;
                n += usize::from(value != 0.0);
            };
            match rows.range(r..r + 1).values() {
                Values::U8(row) => row.iter().enumerate().for_each(|(i, &x)| push(i, unit_value(x))),
                Values::F32(row) => row.iter().enumerate().for_each(|(i, &x)| push(i, x)),
            }
            self.counts[r] = n;
        }
    }

    /// The sums of all rows with a tile of `vectors` vectors, into the rows of `out`.
    pub fn sums(&self, isa: Isa, strip: Strip<'_>, vectors: usize, out: &mut [Row]) {
        match vectors {
            1 => self.sums_of::<1>(isa, strip, out),
            2 => self.sums_of::<2>(isa, strip, out),
            3 => self.sums_of::<3>(isa, strip, out),
            _ => self.sums_of::<VECTORS>(isa, strip, out),
        }
    }

    fn sums_of<const V: usize>(&self, isa: Isa, strip: Strip<'_>, out: &mut [Row]) {
        let (units, counts) = (self.units, &self.counts[..self.rows]);
        match self.form {
            Form::Active => active::<V>(isa, strip.rows, units, &self.places, counts, out),
            Form::Weighted => weighted::<V>(isa, strip.rows, units, &self.places, &self.values, counts, out),
            Form::Dense => dense::<V>(isa, strip, units, &self.values[..self.rows * tiles(units) * TILE], out),
        }
    }
}

dispatch! {
    /// The places of the units that are on, for each row of words.
    fn list(|l| bits: &[u64], units: usize, skip: usize, places: &mut [u32], counts: &mut [usize]) {
        for (r, (row, count)) in bits.chunks_exact(tiles(units)).zip(counts).enumerate() {
            let mut at = r * units;
            for (tile, &word) in row.iter().enumerate() {
                for v in 0..VECTORS {
                    let on = (word >> (v * LANES)) as u16;
                    // What is written behind the end of the list belongs to later rows, or to nobody.
                    if let Some(to) = places[at..].first_chunk_mut() {
                        at += l.list(on, (tile * (TILE + skip) + v * LANES) as u32, to);
                    }
                }
            }
            *count = at - r * units;
        }
    }

    fn active<const V: usize>(|l| strip: &[Row], units: usize, places: &[u32], counts: &[usize], out: &mut [Row]) {
        for (r, (&n, out)) in counts.iter().zip(out).enumerate() {
            let places = &places[r * units..];
            let mut sum = [l.splat(0.0); V];
            for (&place, &ahead) in places[..n].iter().zip(&places[AHEAD..]) {
                prefetch(l, strip, ahead as usize);
                let row = &strip[place as usize];
                for v in 0..V {
                    sum[v] = l.add(sum[v], l.load(&row.0[v]));
                }
            }
            for v in 0..V {
                l.store(sum[v], &mut out.0[v]);
            }
        }
    }

    fn weighted<const V: usize>(
        |l| strip: &[Row], units: usize, places: &[u32], values: &[f32], counts: &[usize], out: &mut [Row],
    ) {
        for (r, (&n, out)) in counts.iter().zip(out).enumerate() {
            let (places, values) = (&places[r * units..], &values[r * units..]);
            let mut sum = [l.splat(0.0); V];
            for ((&place, &ahead), &x) in places[..n].iter().zip(&places[AHEAD..]).zip(values) {
                prefetch(l, strip, ahead as usize);
                let row = &strip[place as usize];
                for v in 0..V {
                    sum[v] = l.mul_add(l.splat(x), l.load(&row.0[v]), sum[v]);
                }
            }
            for v in 0..V {
                l.store(sum[v], &mut out.0[v]);
            }
        }
    }

    /// Bits as numbers 0 and 1, tile after tile.
    fn spread_bits(|_l| bits: &[u64], rows: usize, out: &mut [f32]) {
        for (n, out) in out.chunks_exact_mut(TILE).take(bits.len()).enumerate() {
            let word = bits[n % rows * (bits.len() / rows) + n / rows];
            out.iter_mut().enumerate().for_each(|(i, x)| *x = (word >> i & 1) as f32);
        }
    }

    fn dense<const V: usize>(|l| strip: Strip<'_>, units: usize, values: &[f32], out: &mut [Row]) {
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

/// Adds the units of a tile to the sums of all rows, V vectors of them from `first` on. The tile's weights stay in the
/// first-level cache for all rows; those of several tiles would not: a vector of each row is a power of two apart.
#[inline(always)]
fn add_tile<L: Wide, const V: usize>(l: L, weights: &[Row], values: &[f32], out: &mut [Row], first: usize) {
    for (values, out) in values.chunks(DENSE_ROWS * TILE).zip(out.chunks_mut(DENSE_ROWS)) {
        // Rows beyond the last are the last once more, with the same sums.
        let last = out.len() - 1;
        let row = |r: usize| &values[r.min(last) * TILE..][..weights.len()];
        let rows: [&[f32]; DENSE_ROWS] = std::array::from_fn(row);
        let mut sums = [[l.splat(0.0); V]; DENSE_ROWS];
        for r in 0..DENSE_ROWS {
            for v in 0..V {
                sums[r][v] = l.load(&out[r.min(last)].0[first + v]);
            }
        }
        // Four units at a time: the loop around them costs as much as one.
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
