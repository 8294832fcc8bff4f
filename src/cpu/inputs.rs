//! The states of one layer for a group of rows, as inputs of sums: lists of active units, and the choice of the fastest kernel of
//! `sums`.
//!
//! Any input (packed bits or numbers, by rows or by columns) becomes words that mark the units that are not 0, and words become
//! lists of units. On MNIST 5 to 20 % of the units are on, and a list reads only their rows of weights. If most units are on, a
//! dense product reads all rows and needs no list. For a matrix library, states are numbers, and each layer takes a few products
//! ([`Inputs::multiply_weights`]).

use super::{
    gemm::{Matrix, sgemm},
    host::Cpu,
    parameters::{CpuParameters, Strip},
    sums::{DENSE_ROWS, Lists, Terms, dense, in_blocks, one_by_one},
    tiles::{Row, TILE, VECTORS, tiles},
};
use crate::{
    lanes::{LANES, dispatch, isa::Isa},
    rows::{Rows, Values},
    shape::Layer,
};
use std::{mem::take, ops::Range};

/// The share of units that are not 0 above which the dense product is faster.
const DENSE_ABOVE: f32 = 0.7;
/// The number of uses of each row of weights from which lists are processed block by block.
const MIN_USES: usize = 4;

/// The states of a group of rows.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    rows: usize,
    units: usize,
    form: Form,
    /// Whether all values that are not 0 are 1.
    bits: bool,
    /// The mask of units that are not 0, rows × tiles, if it was not given.
    words: Vec<u64>,
    /// For each row, from `row·stride`: the positions in a [`Strip`] of the rows of units that are not 0, ascending.
    places: Vec<u32>,
    /// The values of those units; unused if all are 1. In dense form, the values of all units, ordered by tile and then by row; for
    /// a matrix library, ordered by row and then by tile.
    values: Vec<f32>,
    /// The length of each row's list before each tile, ordered by tile, and at its end.
    lengths: Vec<u32>,
    /// The product from a matrix library: `width` tiles for each row.
    product: Vec<Row>,
    width: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Form {
    #[default]
    OneByOne,
    InBlocks,
    Dense,
    Gemm,
}

/// The distance between the lists of two rows: an odd number of cache lines, so that they use the sets of a cache evenly.
#[inline(always)]
fn stride(units: usize) -> usize {
    (units.div_ceil(LANES) | 1) * LANES
}

impl Inputs {
    /// Loads rows of packed bits. `skip` is the [`Strip`]'s.
    pub fn take_bits(&mut self, cpu: Cpu, bits: &[u64], units: usize, skip: usize) {
        self.take_words(cpu, bits.len() / tiles(units), bits, units, skip);
    }

    /// Loads rows of real numbers, times the precisions of their units, if there are precisions.
    pub fn take_rows(&mut self, cpu: Cpu, rows: Rows<'_>, skip: usize, precision: &[f32]) {
        let units = rows.units();
        let (mut words, mut bits) = (take(&mut self.words), precision.is_empty());
        words.clear();
        for r in 0..rows.len() {
            for first in (0..units).step_by(TILE) {
                let units = first..units.min(first + TILE);
                words.push(active(rows, r, units.clone()));
                bits = bits && are_bits(rows, r, units);
            }
        }
        if bits {
            self.take_words(cpu, rows.len(), &words, units, skip);
        } else if precision.is_empty() {
            self.take_values(cpu, rows.len(), &words, units, skip, |r, i| rows.value(r, i));
        } else {
            self.take_values(cpu, rows.len(), &words, units, skip, |r, i| precision[i] * rows.value(r, i));
        }
        self.words = words;
    }

    /// Loads units as rows: row i is unit number i of `tile` in each of `rows`. Values are multiplied by the unit's precision and
    /// by the row's weight, if there are any.
    pub fn take_columns(&mut self, cpu: Cpu, rows: Rows<'_>, tile: usize, precision: &[f32], weights: Option<&[f32]>) {
        let first = tile * TILE;
        let units = TILE.min(rows.units() - first);
        let weight = |r: usize| weights.map_or(1.0, |weights| weights[r]);
        let mut words = take(&mut self.words);
        columns(units, (0..rows.len()).map(|r| active(rows, r, first..first + units)), &mut words);
        let bits = || (0..rows.len()).all(|r| are_bits(rows, r, first..first + units));
        if precision.is_empty() && weights.is_none() && bits() {
            self.take_words(cpu, units, &words, rows.len(), 0);
        } else if precision.is_empty() {
            self.take_values(cpu, units, &words, rows.len(), 0, |i, r| weight(r) * rows.value(r, first + i));
        } else {
            let value = |i: usize, r: usize| weight(r) * (precision[first + i] * rows.value(r, first + i));
            self.take_values(cpu, units, &words, rows.len(), 0, value);
        }
        self.words = words;
    }

    /// [`take_columns`](Self::take_columns) for rows of packed bits, `width` words each. `units` is the number of units in the
    /// tile.
    pub fn take_bit_columns(&mut self, cpu: Cpu, bits: &[u64], width: usize, tile: usize, units: usize) {
        let mut words = take(&mut self.words);
        columns(units, bits.chunks_exact(width).map(|row| row[tile]), &mut words);
        self.take_words(cpu, units, &words, bits.len() / width, 0);
        self.words = words;
    }

    /// Loads rows in which the units in `words` are 1 and the others are 0.
    fn take_words(&mut self, cpu: Cpu, rows: usize, words: &[u64], units: usize, skip: usize) {
        self.reset(cpu, rows, words, units, true);
        match self.form {
            Form::Dense | Form::Gemm => {
                for (n, &word) in words.iter().enumerate() {
                    let place = self.place(n);
                    spread_bits(cpu.isa, word, &mut self.values[place..][..TILE]);
                }
            }
            _ => list(cpu.isa, rows, words, units, skip, &mut self.places, &mut self.lengths),
        }
    }

    /// Loads rows in which the units in `words` are `value(row, unit)` and the others are 0.
    #[inline(always)]
    fn take_values(
        &mut self, cpu: Cpu, rows: usize, words: &[u64], units: usize, skip: usize, value: impl Fn(usize, usize) -> f32,
    ) {
        self.reset(cpu, rows, words, units, false);
        if matches!(self.form, Form::Dense | Form::Gemm) {
            for n in 0..words.len() {
                let (r, first) = (n / tiles(units), n % tiles(units) * TILE);
                let place = self.place(n);
                let to = &mut self.values[place..][..TILE.min(units - first)];
                to.iter_mut().enumerate().for_each(|(i, x)| *x = value(r, first + i));
            }
            return;
        }
        list(cpu.isa, rows, words, units, skip, &mut self.places, &mut self.lengths);
        for (n, (from, to)) in self.lengths.iter().zip(&self.lengths[rows..]).enumerate() {
            let (tile, r) = (n / rows, n % rows);
            let part = r * stride(units) + *from as usize..r * stride(units) + *to as usize;
            for (x, place) in self.values[part.clone()].iter_mut().zip(&self.places[part]) {
                *x = value(r, *place as usize - tile * skip);
            }
        }
    }

    /// Resizes the buffers for the active units in `words`, and chooses the form.
    fn reset(&mut self, cpu: Cpu, rows: usize, words: &[u64], units: usize, bits: bool) {
        let on = words.iter().map(|word| word.count_ones() as usize).sum::<usize>();
        (self.rows, self.units, self.bits) = (rows, units, bits);
        self.form = if cpu.gemm {
            Form::Gemm
        } else if 2 * rows > DENSE_ROWS && on as f32 > DENSE_ABOVE * (rows * units) as f32 {
            Form::Dense
        } else if units <= TILE || on >= MIN_USES * units {
            Form::InBlocks
        } else {
            Form::OneByOne
        };
        let size = rows * stride(units).max(tiles(units) * TILE);
        if self.places.len() < size {
            self.places.resize(size, 0);
            self.values.resize(size, 0.0);
        }
        self.lengths.clear();
        self.lengths.resize((tiles(units) + 1) * rows, 0);
    }

    /// The position of the values of tile `n % tiles` of row `n / tiles`, in the forms with values of all units.
    fn place(&self, n: usize) -> usize {
        let width = tiles(self.units);
        TILE * if self.form == Form::Dense { n % width * self.rows + n / width } else { n }
    }

    /// The mask of those among the first 64 rows that are 0 everywhere, row r in bit r; the bits beyond the last row are 1.
    pub fn idle(&self) -> u64 {
        let busy = |r: usize| matches!(self.form, Form::Dense | Form::Gemm) || self.list_lengths()[r] > 0;
        !(0..self.rows).fold(0, |bits, r| bits | u64::from(busy(r)) << r)
    }

    /// The sum of the values of row `r`, in ascending order.
    pub fn total(&self, r: usize) -> f32 {
        let n = self.list_lengths()[r];
        match self.form {
            Form::Dense | Form::Gemm => (0..self.units)
                .map(|i| self.values[self.place(r * tiles(self.units) + i / TILE) + i % TILE])
                .fold(0.0, |sum, x| sum + x),
            _ if self.bits => n as f32,
            _ => self.values[r * stride(self.units)..][..n as usize].iter().fold(0.0, |sum, x| sum + x),
        }
    }

    /// The sum of the values of row `r`, each times the weight of its unit, in ascending order by fused multiply-add.
    pub fn weighted_total(&self, r: usize, weights: &[f32]) -> f32 {
        let n = self.list_lengths()[r] as usize;
        let first = r * stride(self.units);
        match self.form {
            Form::Dense | Form::Gemm => (0..self.units)
                .map(|i| self.values[self.place(r * tiles(self.units) + i / TILE) + i % TILE])
                .zip(weights)
                .fold(0.0, |sum, (x, &weight)| x.mul_add(weight, sum)),
            _ if self.bits => self.places[first..][..n].iter().fold(0.0, |sum, &place| sum + weights[place as usize]),
            _ => {
                let list = self.places[first..][..n].iter().zip(&self.values[first..]);
                list.fold(0.0, |sum, (&place, x)| x.mul_add(weights[place as usize], sum))
            }
        }
    }

    /// Computes all sums over the units of the layer `given` by a matrix library, if one is used; [`sums`](Self::sums) returns
    /// them.
    pub fn multiply_weights(&mut self, parameters: &CpuParameters, given: Layer) {
        let shape = parameters.shape;
        let weights = || Matrix::of_tiles(&parameters.weights, shape.n_visible(), tiles(shape.n_hidden()));
        match given {
            _ if self.form != Form::Gemm => {}
            Layer::Visible => self.multiply(weights()),
            Layer::Hidden => self.multiply(weights().first_columns(shape.n_hidden()).t()),
        }
    }

    /// The same for the rows of a matrix of `width` tiles instead of weights; [`terms`](Self::terms) returns them.
    pub fn multiply_rows(&mut self, matrix: &[Row], width: usize) {
        if self.form == Form::Gemm {
            self.multiply(Matrix::of_tiles(matrix, self.units, width));
        }
    }

    fn multiply(&mut self, by: Matrix<'_>) {
        let states = Matrix::new(&self.values, self.rows, self.units, tiles(self.units) * TILE);
        self.width = tiles(by.size().1);
        self.product.resize(self.rows * self.width, Row::ZERO);
        sgemm(states, by, &mut self.product);
    }

    /// Writes the sums of all rows for tile number `tile`, which has `vectors` vectors, to `out`.
    pub fn sums(&self, isa: Isa, strip: Strip<'_>, tile: usize, vectors: usize, out: &mut [Row]) {
        if self.form == Form::Gemm {
            let made = self.product[tile..].iter().step_by(self.width);
            return out.iter_mut().zip(made).for_each(|(out, made)| *out = *made);
        }
        match vectors {
            1 => self.sums_of::<1>(isa, strip, out),
            2 => self.sums_of::<2>(isa, strip, out),
            3 => self.sums_of::<3>(isa, strip, out),
            _ => self.sums_of::<VECTORS>(isa, strip, out),
        }
    }

    /// The sums of all rows for tile number `tile` of a matrix with contiguous rows. Computes them in `room`, unless they have so
    /// few terms that the caller should compute them when it needs them.
    pub fn terms<'a>(
        &'a self, isa: Isa, matrix: &'a [Row], tile: usize, vectors: usize, room: &'a mut [Row],
    ) -> Terms<'a> {
        if matches!(self.form, Form::OneByOne | Form::InBlocks) && self.units <= TILE {
            return Terms::Lists(self.lists(), matrix, self.list_lengths());
        }
        self.sums(isa, Strip { rows: matrix, skip: 0 }, tile, vectors, room);
        Terms::Sums(room)
    }

    fn sums_of<const V: usize>(&self, isa: Isa, strip: Strip<'_>, out: &mut [Row]) {
        let (units, lists, out) = (self.units, self.lists(), &mut out[..self.rows]);
        match self.form {
            Form::OneByOne => one_by_one::<V>(isa, strip.rows, lists, self.list_lengths(), out),
            Form::InBlocks => in_blocks::<V>(isa, strip, units, lists, &self.lengths, out),
            Form::Dense | Form::Gemm => {
                dense::<V>(isa, strip, units, &self.values[..self.rows * tiles(units) * TILE], out)
            }
        }
    }

    fn lists(&self) -> Lists<'_> {
        let values = if self.bits { None } else { Some(&self.values[..]) };
        Lists { places: &self.places, values, stride: stride(self.units) }
    }

    /// Whether all values are known to be 0 or 1.
    pub fn are_bits(&self) -> bool {
        self.bits
    }

    /// The length of each row's list.
    fn list_lengths(&self) -> &[u32] {
        &self.lengths[tiles(self.units) * self.rows..]
    }
}

/// The lowest bit of each of eight bytes.
const LOWEST: u64 = 0x0101_0101_0101_0101;

/// The mask of units of row `r` that are not 0, for the units of a tile.
#[inline(always)]
fn active(rows: Rows<'_>, r: usize, units: Range<usize>) -> u64 {
    let of_bytes = |bytes: u64| [4, 2, 1].into_iter().fold(bytes, |bytes, shift| bytes | bytes >> shift);
    word(rows, r, units, of_bytes, |x| x != 0.0)
}

/// The mask of units of row `r` that round to 1, x ≥ 0.5, for the units of a tile.
#[inline(always)]
pub(super) fn rounded(rows: Rows<'_>, r: usize, units: Range<usize>) -> u64 {
    word(rows, r, units, |bytes| bytes >> 7, |x| x >= 0.5)
}

/// A tile's mask of row `r`. For eight 8-bit values, `of_bytes` returns the mask in the lowest bit of each byte.
#[inline(always)]
fn word(
    rows: Rows<'_>, r: usize, units: Range<usize>, of_bytes: impl Fn(u64) -> u64, of_number: impl Fn(f32) -> bool,
) -> u64 {
    let span = r * rows.units() + units.start..r * rows.units() + units.end;
    match rows.values() {
        Values::U8(x) => {
            // One multiplication gathers the bits of all bytes in the topmost byte.
            let eight = |x: u64| (of_bytes(x) & LOWEST).wrapping_mul(0x0102_0408_1020_4080) >> 56;
            bytes(&x[span]).enumerate().fold(0, |word, (i, x)| word | eight(x) << (8 * i))
        }
        Values::F32(x) => x[span].iter().enumerate().fold(0, |word, (i, &x)| word | u64::from(of_number(x)) << i),
    }
}

/// Whether these units of row `r` are all 0 or 1.
#[inline(always)]
fn are_bits(rows: Rows<'_>, r: usize, units: Range<usize>) -> bool {
    let span = r * rows.units() + units.start..r * rows.units() + units.end;
    match rows.values() {
        Values::U8(x) => bytes(&x[span]).all(|x| (x & LOWEST).wrapping_mul(255) == x),
        Values::F32(x) => x[span].iter().all(|&x| x == 0.0 || x == 1.0),
    }
}

/// Eight bytes at a time, padded with 0.
#[inline(always)]
fn bytes(x: &[u8]) -> impl Iterator<Item = u64> {
    let (eights, rest) = x.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(u64::from_le_bytes(last));
    eights.iter().map(|x| u64::from_le_bytes(*x)).chain(last)
}

/// Transposes a tile: from its word of each row to the words of each of its units. Bit r of these is the unit in row r.
fn columns(units: usize, mut rows: impl ExactSizeIterator<Item = u64>, out: &mut Vec<u64>) {
    let width = tiles(rows.len());
    out.clear();
    out.resize(units * width, 0);
    for tile in 0..width {
        let mut block = [0; TILE];
        block.iter_mut().zip(&mut rows).for_each(|(to, word)| *to = word);
        transpose(&mut block);
        out[tile..].iter_mut().step_by(width).zip(block).for_each(|(to, word)| *to = word);
    }
}

/// Transposes 64 × 64 bits: bit c of word r becomes bit r of word c. Swaps the quarters on either side of the diagonal, then their
/// quarters, and so on.
fn transpose(words: &mut [u64; TILE]) {
    let (mut half, mut low) = (TILE / 2, u64::MAX >> (TILE / 2));
    while half > 0 {
        for r in (0..TILE).filter(|r| r & half == 0) {
            let change = (words[r] >> half ^ words[r + half]) & low;
            words[r] ^= change << half;
            words[r + half] ^= change;
        }
        half /= 2;
        low ^= low << half;
    }
}

dispatch! {
    /// Lists the positions of active units, for each row of words.
    fn list(|l| rows: usize, bits: &[u64], units: usize, skip: usize, places: &mut [u32], lengths: &mut [u32]) {
        for (r, row) in bits.chunks_exact(tiles(units).max(1)).enumerate() {
            let places = &mut places[r * stride(units)..];
            let mut n = 0;
            for (tile, &word) in row.iter().enumerate() {
                for v in 0..VECTORS {
                    let on = (word >> (v * LANES)) as u16;
                    // There is room for a whole vector, except for one beyond the last unit.
                    if let Some(to) = places[n..].first_chunk_mut() {
                        n += l.list(on, (tile * (TILE + skip) + v * LANES) as u32, to);
                    }
                }
                lengths[(tile + 1) * rows + r] = n as u32;
            }
        }
    }

    /// Expands a tile's bits to the numbers 0 and 1.
    fn spread_bits(|_l| word: u64, out: &mut [f32]) {
        out.iter_mut().enumerate().for_each(|(i, x)| *x = (word >> i & 1) as f32);
    }
}
