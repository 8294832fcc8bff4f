//! The states of one layer for a group of rows, on their way into the sums: what is on, as lists, and which kernel of
//! `sums` is the fastest for them.
//!
//! Whatever is taken (packed bits or numbers, by rows or by columns) becomes words that say which units are not 0, and
//! words become lists of units. On MNIST 5 to 20 % of the units are on, and a list of them reads just their rows of
//! weights; where most are on, a product that reads all rows needs no list. Where a matrix library makes the sums, states are
//! numbers and each layer is a few products ([`Inputs::multiply_weights`]).

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

/// Above this share of units that are not 0 the dense product is the faster one.
const DENSE_ABOVE: f32 = 0.7;
/// From how many uses of each row of weights on lists are taken block by block.
const USES: usize = 4;

/// The states of a group of rows.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    rows: usize,
    units: usize,
    form: Form,
    /// Whether all values that are not 0 are 1.
    bits: bool,
    /// Which units are not 0, rows × tiles, where that was not given.
    words: Vec<u64>,
    /// For each row, from `row·stride` on: where the rows of the units that are not 0 stand in a [`Strip`], ascending.
    places: Vec<u32>,
    /// The values of those units; without use where all are 1. In dense form those of all units, each tile of all rows, row
    /// after row, and then the next tile; for a matrix library each row's tiles together.
    values: Vec<f32>,
    /// How long each row's list is before each tile, tile after tile, and at its end.
    lengths: Vec<u32>,
    /// What a matrix library made of them: so many tiles for each row.
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

/// From one row's list to the next one's: an odd number of cache lines, so that they share the sets of a cache evenly.
#[inline(always)]
fn stride(units: usize) -> usize {
    (units.div_ceil(LANES) | 1) * LANES
}

impl Inputs {
    /// Takes rows of packed bits. `skip` is the [`Strip`]'s.
    pub fn take_bits(&mut self, cpu: Cpu, bits: &[u64], units: usize, skip: usize) {
        self.take_words(cpu, bits.len() / tiles(units), bits, units, skip);
    }

    /// Takes rows of real numbers, times the precisions of their units where there are some.
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

    /// Takes units as rows: row i is what unit number i of `tile` is in each of `rows`, times its precision where there are
    /// some, and times that row's weight where there are weights.
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

    /// The same of rows of packed bits, `width` words each; `units` is how many the tile has.
    pub fn take_bit_columns(&mut self, cpu: Cpu, bits: &[u64], width: usize, tile: usize, units: usize) {
        let mut words = take(&mut self.words);
        columns(units, bits.chunks_exact(width).map(|row| row[tile]), &mut words);
        self.take_words(cpu, units, &words, bits.len() / width, 0);
        self.words = words;
    }

    /// Takes rows with the units in `words` on, whose values are 1.
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

    /// Takes rows with the units in `words` on, whose values are `value(row, unit)`.
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

    /// Makes room for the units that are on in `words`, and chooses the form.
    fn reset(&mut self, cpu: Cpu, rows: usize, words: &[u64], units: usize, bits: bool) {
        let on = words.iter().map(|word| word.count_ones() as usize).sum::<usize>();
        (self.rows, self.units, self.bits) = (rows, units, bits);
        self.form = if cpu.gemm {
            Form::Gemm
        } else if 2 * rows > DENSE_ROWS && on as f32 > DENSE_ABOVE * (rows * units) as f32 {
            Form::Dense
        } else if units <= TILE || on >= USES * units {
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

    /// Where the values of tile `n % tiles` of row `n / tiles` begin, in the forms that have those of all units.
    fn place(&self, n: usize) -> usize {
        let width = tiles(self.units);
        TILE * if self.form == Form::Dense { n % width * self.rows + n / width } else { n }
    }

    /// Which of the first 64 rows are known to be 0 everywhere, row r in bit r; the bits behind the last row are 1.
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

    /// Makes all sums over the units of the layer `given`, where that is a matrix library's work: for [`sums`](Self::sums).
    pub fn multiply_weights(&mut self, parameters: &CpuParameters, given: Layer) {
        let shape = parameters.shape;
        let weights = || Matrix::of_tiles(&parameters.weights, shape.n_visible(), tiles(shape.n_hidden()));
        match given {
            _ if self.form != Form::Gemm => {}
            Layer::Visible => self.multiply(weights()),
            Layer::Hidden => self.multiply(weights().first_columns(shape.n_hidden()).t()),
        }
    }

    /// The same with the rows of a matrix of `width` tiles in place of weights: for [`terms`](Self::terms).
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

    /// The sums of all rows with tile number `tile`, of `vectors` vectors, into the rows of `out`.
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

    /// The sums of all rows with tile number `tile` of a matrix, whose rows stand one behind the other; made here, in `room`,
    /// unless they are so few terms that they are best made where they are needed.
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

    /// How long each row's list is.
    fn list_lengths(&self) -> &[u32] {
        &self.lengths[tiles(self.units) * self.rows..]
    }
}

/// The lowest bit of each of eight bytes.
const LOWEST: u64 = 0x0101_0101_0101_0101;

/// Which units of row `r` are not 0, of a tile's.
#[inline(always)]
fn active(rows: Rows<'_>, r: usize, units: Range<usize>) -> u64 {
    let of_bytes = |bytes: u64| [4, 2, 1].into_iter().fold(bytes, |bytes, shift| bytes | bytes >> shift);
    word(rows, r, units, of_bytes, |x| x != 0.0)
}

/// Which units of row `r` count as 1 where only 0 and 1 will do, of a tile's: x ≥ 0.5.
#[inline(always)]
pub(super) fn rounded(rows: Rows<'_>, r: usize, units: Range<usize>) -> u64 {
    word(rows, r, units, |bytes| bytes >> 7, |x| x >= 0.5)
}

/// A tile's word of row `r`: for eight values of eight bits the lowest bit of each byte that `of_bytes` gives.
#[inline(always)]
fn word(
    rows: Rows<'_>, r: usize, units: Range<usize>, of_bytes: impl Fn(u64) -> u64, of_number: impl Fn(f32) -> bool,
) -> u64 {
    let span = r * rows.units() + units.start..r * rows.units() + units.end;
    match rows.values() {
        Values::U8(x) => {
            // One product brings the bits of all bytes into the topmost one.
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

/// Eight bytes at a time, 0 behind the last one.
#[inline(always)]
fn bytes(x: &[u8]) -> impl Iterator<Item = u64> {
    let (eights, rest) = x.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(u64::from_le_bytes(last));
    eights.iter().map(|x| u64::from_le_bytes(*x)).chain(last)
}

/// A tile's word of each row becomes words for each of its units: bit r of them is what the unit is in row r.
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

/// Bit c of word r becomes bit r of word c: quarters on either side of the diagonal change places, then theirs.
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
    /// The places of the units that are on, for each row of words.
    fn list(|l| rows: usize, bits: &[u64], units: usize, skip: usize, places: &mut [u32], lengths: &mut [u32]) {
        for (r, row) in bits.chunks_exact(tiles(units).max(1)).enumerate() {
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

    /// A tile's bits as numbers 0 and 1.
    fn spread_bits(|_l| word: u64, out: &mut [f32]) {
        out.iter_mut().enumerate().for_each(|(i, x)| *x = (word >> i & 1) as f32);
    }
}
