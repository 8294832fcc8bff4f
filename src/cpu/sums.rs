//! Sums over units of state × row of weights, for a group of rows and one tile of columns: pre-activations, and both
//! phases' statistics in an update.
//!
//! The canonical order: each sum starts from 0 and takes its units in ascending order into one accumulator, by fused
//! multiply-add. As x·1 and x·0 are exact, the sum of the rows of the units that are on, the same with a factor for each,
//! and the product that takes every unit ([`dense`]) give the same bits for the same input, and [`Inputs`] chooses among
//! them by density. Lanes and rows only ever hold different sums.
//!
//! On MNIST 5 to 20 % of the units are on, and a list of them reads just their rows. Where each row of weights is used
//! several times, lists are taken block by block ([`in_blocks`]): a block of 64 × 64 weights stays in the first-level cache
//! for all rows of the group. Else a list is taken whole ([`one_by_one`]), each row of weights asked for ahead of its turn.

use super::{
    isa::Isa,
    tiles::{Row, Strip, TILE, VECTORS, tiles},
};
use crate::{
    backend::{Rows, Values, unit_value},
    lanes::{LANES, Wide, dispatch},
};
use std::ops::Range;

/// Above this share of units that are not 0 the dense product is the faster one.
const DENSE_ABOVE: f32 = 0.7;
/// How many rows the dense product takes at once: with a tile's vectors they fill the registers. Fewer rows than half of
/// that are better off without it.
const DENSE_ROWS: usize = 5;
/// From how many uses of each row of weights on lists are taken block by block.
const USES: usize = 4;
/// How many rows ahead of its turn a row of weights is asked for; no more than [`LANES`].
const AHEAD: usize = 6;

/// The states of one layer for a group of rows, in the form in which they are summed fastest.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    rows: usize,
    units: usize,
    form: Form,
    /// Whether all values that are not 0 are 1.
    bits: bool,
    /// For each row, from `row·stride` on: where the rows of the units that are not 0 stand in a [`Strip`], ascending.
    places: Vec<u32>,
    /// The values of those units; without use where all are 1. In dense form those of all units, each tile of all rows, row
    /// after row, and then the next tile.
    values: Vec<f32>,
    /// How long each row's list is before each tile, tile after tile, and at its end.
    lengths: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Form {
    #[default]
    OneByOne,
    InBlocks,
    Dense,
}

/// From one row's list to the next one's: an odd number of cache lines, so that they share the sets of a cache evenly.
#[inline(always)]
fn stride(units: usize) -> usize {
    (units.div_ceil(LANES) | 1) * LANES
}

impl Inputs {
    /// Makes room for rows of which `on` values are not 0, and chooses the form.
    fn reset(&mut self, rows: usize, units: usize, on: usize, bits: bool) {
        (self.rows, self.units, self.bits) = (rows, units, bits);
        self.form = if 2 * rows > DENSE_ROWS && on as f32 > DENSE_ABOVE * (rows * units) as f32 {
            Form::Dense
        } else if units <= TILE || on >= USES * units {
            Form::InBlocks
        } else {
            Form::OneByOne
        };
        // Behind the last list there is something to be asked for ahead.
        let size = rows * stride(units).max(tiles(units) * TILE) + LANES;
        if self.places.len() < size {
            self.places.resize(size, 0);
            self.values.resize(size, 0.0);
        }
        self.lengths.clear();
        self.lengths.resize((tiles(units) + 1) * rows, 0);
    }

    /// Takes rows of packed bits. `skip` is the [`Strip`]'s.
    pub fn take_bits(&mut self, isa: Isa, bits: &[u64], units: usize, skip: usize) {
        let on = bits.iter().map(|word| word.count_ones() as usize).sum();
        self.reset(bits.len() / tiles(units), units, on, true);
        match self.form {
            Form::Dense => spread_bits(isa, bits, self.rows, &mut self.values),
            _ => list(isa, bits, units, skip, &mut self.places, &mut self.lengths),
        }
    }

    /// Takes rows of real numbers.
    pub fn take_rows(&mut self, rows: Rows<'_>, skip: usize) {
        let units = rows.units();
        self.reset(rows.len(), units, rows.count_of_nonzero(), false);
        for r in 0..rows.len() {
            for tile in 0..tiles(units) {
                let span = r * units + tile * TILE..r * units + units.min((tile + 1) * TILE);
                match rows.values() {
                    Values::U8(x) => self.take(r, tile, x[span].iter().map(|&x| unit_value(x)), skip),
                    Values::F32(x) => self.take(r, tile, x[span].iter().copied(), skip),
                }
            }
        }
    }

    /// A tile of a row's values.
    fn take(&mut self, r: usize, tile: usize, values: impl Iterator<Item = f32>, skip: usize) {
        if self.form == Form::Dense {
            let to = &mut self.values[(tile * self.rows + r) * TILE..];
            return to.iter_mut().zip(values).for_each(|(to, x)| *to = x);
        }
        let list = r * stride(self.units);
        // Every unit is written and the length grows only by those that are not 0: no branch to mispredict.
        let mut n = self.lengths[tile * self.rows + r] as usize;
        for (i, x) in values.enumerate() {
            self.places[list + n] = (tile * (TILE + skip) + i) as u32;
            self.values[list + n] = x;
            n += usize::from(x != 0.0);
        }
        self.lengths[(tile + 1) * self.rows + r] = n as u32;
    }

    /// Takes units as rows: row i is what unit number i of `tile` is in each of `rows`, times that row's weight where there
    /// are weights. `on` of all values in the rows are not 0.
    pub fn take_columns(&mut self, rows: Rows<'_>, tile: usize, weights: Option<&[f32]>, on: usize) {
        let units = tile * TILE..rows.units().min((tile + 1) * TILE);
        self.reset(units.len(), rows.len(), on * units.len() / rows.units(), false);
        for r in 0..rows.len() {
            let weight = weights.map_or(1.0, |weights| weights[r]);
            let span = r * rows.units() + units.start..r * rows.units() + units.end;
            match rows.values() {
                Values::U8(x) => self.take_column(r, x[span].iter().map(|&x| weight * unit_value(x))),
                Values::F32(x) => self.take_column(r, x[span].iter().map(|&x| weight * x)),
            }
        }
    }

    /// The same of packed bits, `units` being how many the tile has.
    pub fn take_bit_columns(&mut self, bits: &[u64], width: usize, tile: usize, units: usize) {
        let words = || bits[tile.min(bits.len())..].iter().step_by(width);
        self.reset(units, bits.len() / width, words().map(|word| word.count_ones() as usize).sum(), true);
        for (r, word) in words().enumerate() {
            self.take_column(r, (0..units).map(|i| (word >> i & 1) as f32));
        }
    }

    /// What number `column` of every row is.
    fn take_column(&mut self, column: usize, values: impl Iterator<Item = f32>) {
        let (tile, rows) = (column / TILE, self.rows);
        if self.form == Form::Dense {
            let to = self.values[tile * rows * TILE + column % TILE..].iter_mut().step_by(TILE);
            return to.zip(values).for_each(|(to, x)| *to = x);
        }
        if column.is_multiple_of(TILE) {
            self.lengths.copy_within(tile * rows..(tile + 1) * rows, (tile + 1) * rows);
        }
        let lists = (0..).step_by(stride(self.units));
        for ((x, n), list) in values.zip(&mut self.lengths[(tile + 1) * rows..]).zip(lists) {
            let at = list + *n as usize;
            (self.places[at], self.values[at]) = (column as u32, x);
            *n += u32::from(x != 0.0);
        }
    }

    /// Which of the first 64 rows are known to be 0 everywhere, row r in bit r; the bits behind the last row are 1.
    pub fn idle(&self) -> u64 {
        let busy = |r: usize| self.form == Form::Dense || self.list_lengths()[r] > 0;
        !(0..self.rows).fold(0, |bits, r| bits | u64::from(busy(r)) << r)
    }

    /// The sum of the values of row `r`, in ascending order.
    pub fn total(&self, r: usize) -> f32 {
        let n = self.list_lengths()[r];
        match self.form {
            Form::Dense => (0..self.units)
                .map(|i| self.values[(i / TILE * self.rows + r) * TILE + i % TILE])
                .fold(0.0, |sum, x| sum + x),
            _ if self.bits => n as f32,
            _ => self.values[r * stride(self.units)..][..n as usize].iter().fold(0.0, |sum, x| sum + x),
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

    /// The sums of all rows with a tile of a matrix, whose rows stand one behind the other; made here, in `room`, unless they
    /// are so few terms that they are best made where they are needed.
    pub fn terms<'a>(&'a self, isa: Isa, matrix: &'a [Row], vectors: usize, room: &'a mut [Row]) -> Terms<'a> {
        if self.form != Form::Dense && self.units <= TILE {
            return Terms::Lists(self.lists(), matrix, self.list_lengths());
        }
        self.sums(isa, Strip { rows: matrix, skip: 0 }, vectors, room);
        Terms::Sums(room)
    }

    fn lists(&self) -> Lists<'_> {
        let values = if self.bits { None } else { Some(&self.values[..]) };
        Lists { places: &self.places, values, stride: stride(self.units) }
    }

    /// How long each row's list is.
    fn list_lengths(&self) -> &[u32] {
        &self.lengths[tiles(self.units) * self.rows..]
    }

    fn sums_of<const V: usize>(&self, isa: Isa, strip: Strip<'_>, out: &mut [Row]) {
        let (units, lists, out) = (self.units, self.lists(), &mut out[..self.rows]);
        match self.form {
            Form::OneByOne => one_by_one::<V>(isa, strip.rows, lists, self.list_lengths(), out),
            Form::InBlocks => in_blocks::<V>(isa, strip, units, lists, &self.lengths, out),
            Form::Dense => dense::<V>(isa, strip, units, &self.values[..self.rows * tiles(units) * TILE], out),
        }
    }
}

/// Sums that need not have been made yet: what [`Inputs::terms`] gives.
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
                add_rows::<L, V, false>(l, weights, lists, first..first + lengths[r] as usize, &mut sums);
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

/// The lists of [`Inputs`], for the kernels.
#[derive(Clone, Copy)]
pub(crate) struct Lists<'a> {
    places: &'a [u32],
    values: Option<&'a [f32]>,
    stride: usize,
}

/// Asks for a row that is soon to be read, if there is such a row: what stands behind the end of a list is of no use.
#[inline(always)]
fn prefetch<L: Wide>(l: L, rows: &[Row], place: usize) {
    if let Some(row) = rows.get(place) {
        for v in 0..VECTORS {
            l.prefetch(&row.0[v]);
        }
    }
}

/// Adds the rows of weights that stand in a part of a list; `ASK` for those that come soon.
#[inline(always)]
fn add_rows<L: Wide, const V: usize, const ASK: bool>(
    l: L, strip: &[Row], lists: Lists<'_>, part: Range<usize>, sums: &mut [L::F; V],
) {
    let places = &lists.places[part.clone()];
    let ahead = &lists.places[part.start + AHEAD..][..places.len()];
    match lists.values {
        None => {
            for (&place, &ahead) in places.iter().zip(ahead) {
                if ASK {
                    prefetch(l, strip, ahead as usize);
                }
                let row = &strip[place as usize];
                for v in 0..V {
                    sums[v] = l.add(sums[v], l.load(&row.0[v]));
                }
            }
        }
        Some(values) => {
            for ((&place, &ahead), &x) in places.iter().zip(ahead).zip(&values[part]) {
                if ASK {
                    prefetch(l, strip, ahead as usize);
                }
                let (row, x) = (&strip[place as usize], l.splat(x));
                for v in 0..V {
                    sums[v] = l.mul_add(x, l.load(&row.0[v]), sums[v]);
                }
            }
        }
    }
}

dispatch! {
    /// The places of the units that are on, for each row of words.
    fn list(|l| bits: &[u64], units: usize, skip: usize, places: &mut [u32], lengths: &mut [u32]) {
        let rows = bits.len() / tiles(units);
        for (r, row) in bits.chunks_exact(tiles(units)).enumerate() {
            let places = &mut places[r * stride(units)..];
            let mut n = 0;
            for (tile, &word) in row.iter().enumerate() {
                for v in 0..VECTORS {
                    let on = (word >> (v * LANES)) as u16;
                    // There is room for all of the vector, except for one behind the last unit.
                    if let Some(to) = places[n..].first_chunk_mut() {
                        n += l.list(on, (tile * (TILE + skip) + v * LANES) as u32, to);
                    }
                }
                lengths[(tile + 1) * rows + r] = n as u32;
            }
        }
    }

    fn one_by_one<const V: usize>(|l| strip: &[Row], lists: Lists<'_>, lengths: &[u32], out: &mut [Row]) {
        for (r, (&n, out)) in lengths.iter().zip(out).enumerate() {
            let first = r * lists.stride;
            let mut sums = [l.splat(0.0); V];
            add_rows::<L, V, true>(l, strip, lists, first..first + n as usize, &mut sums);
            for v in 0..V {
                l.store(sums[v], &mut out.0[v]);
            }
        }
    }

    fn in_blocks<const V: usize>(
        |l| strip: Strip<'_>, units: usize, lists: Lists<'_>, lengths: &[u32], out: &mut [Row],
    ) {
        let rows = out.len();
        for tile in 0..tiles(units) {
            let (next, share) = ((tile + 1) * (TILE + strip.skip), TILE.div_ceil(rows));
            for r in 0..rows {
                // Each row asks for its share of the next block.
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
                add_rows::<L, V, false>(l, strip.rows, lists, first + from..first + to, &mut sums);
                for v in 0..V {
                    l.store(sums[v], &mut out[r].0[v]);
                }
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
