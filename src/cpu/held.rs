//! Clamped visible units: samples of them are overwritten with fixed values.

use super::tiles::tiles;
use crate::rows::Rows;

/// The clamped visible states of chains: chain m has those of row m mod rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    rows: usize,
    /// The mask of clamped units, rows × tiles, and their bits.
    mask: Vec<u64>,
    words: Vec<u64>,
    /// Their numbers, rows × n_visible, unless all states are bits.
    numbers: Vec<f32>,
}

impl Held {
    /// Clamps the present values; missing values move. The states of binary units must be bits.
    pub fn at(rows: Rows<'_>) -> Self {
        let (units, width) = (rows.units(), tiles(rows.units()));
        let mut held = Self { rows: rows.len(), mask: vec![0; rows.len() * width], ..Self::default() };
        held.words.clone_from(&held.mask);
        for r in 0..rows.len() {
            for i in (0..units).filter(|&i| !rows.is_missing(r, i)) {
                held.mask[r * width + i / 64] |= 1 << (i % 64);
                held.words[r * width + i / 64] |= u64::from(rows.bit(r, i)) << (i % 64);
            }
        }
        if !rows.segments().is_discrete() {
            let value = |n: usize| rows.value(n / units, n % units);
            held.numbers.extend((0..rows.len() * units).map(value));
        }
        held
    }

    /// Clamps the values that these rows lack to 0, the state with which a unit enters no sum.
    pub fn leave_out(&mut self, rows: Rows<'_>) {
        let numbers = if rows.segments().is_discrete() { 0 } else { rows.len() * rows.units() };
        self.rows = rows.len();
        self.mask.clear();
        self.mask.extend_from_slice(rows.missing());
        self.words.clear();
        self.words.resize(self.mask.len(), 0);
        self.numbers.clear();
        self.numbers.resize(numbers, 0.0);
    }

    /// Overwrites samples with the clamped states of chains `first` and following: chains × tiles, and chains × n_visible numbers,
    /// if there are any.
    pub fn write(&self, first: usize, units: usize, words: &mut [u64], mut numbers: Option<&mut [f32]>) {
        let width = tiles(units);
        for (m, words) in words.chunks_exact_mut(width).enumerate() {
            let row = (first + m) % self.rows;
            let (mask, held) = (&self.mask[row * width..][..width], &self.words[row * width..][..width]);
            for ((word, mask), held) in words.iter_mut().zip(mask).zip(held) {
                *word = *word & !mask | held & mask;
            }
            if let Some(numbers) = &mut numbers {
                self.write_numbers(row, &mut numbers[m * units..][..units]);
            }
        }
    }

    /// Overwrites the means of chains with the clamped values, chains × n_visible.
    pub fn write_means(&self, units: usize, means: &mut [f32]) {
        for (m, means) in means.chunks_exact_mut(units).enumerate() {
            self.write_numbers(m % self.rows, means);
        }
    }

    fn write_numbers(&self, row: usize, to: &mut [f32]) {
        let (units, width) = (to.len(), tiles(to.len()));
        for (i, to) in to.iter_mut().enumerate() {
            let (word, bit) = (row * width + i / 64, i % 64);
            if self.mask[word] >> bit & 1 == 1 {
                let bit = (self.words[word] >> bit & 1) as f32;
                *to = if self.numbers.is_empty() { bit } else { self.numbers[row * units + i] };
            }
        }
    }
}
