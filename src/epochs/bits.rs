//! Converts grey levels to bits.

use super::{Binarise, Order, Part};
use crate::{
    lanes::{
        LANES, Wide, dispatch,
        isa::Isa,
        threads::{RowsMut, share},
    },
    uniforms::{Jump, Purpose, Uniforms, output},
};

/// Writes the bits of all rows in the given order.
pub(super) fn write_bits<T: Grey>(
    isa: Isa, binarise: Binarise, seed: u64, order: &Order, values: &[T], part: Part, out: RowsMut<'_, u8>,
) {
    let units = out.width;
    // The number of random numbers for each row.
    let numbers = match binarise {
        Binarise::None | Binarise::Threshold => 0,
        Binarise::Levels { .. } => 1,
        Binarise::Sample => units as u64,
    };
    let mut draws = Uniforms::new(seed, Purpose::Binarising);
    draws.seek((part.rows as u64).wrapping_mul(part.epoch).wrapping_add(part.first as u64).wrapping_mul(numbers));
    let row = |r: usize| &values[order.row(r) * units..][..units];
    match binarise {
        Binarise::None | Binarise::Threshold => {
            each_row(out, &draws, numbers, &|r, _, out| write(row(r), out, T::rounds_to_one));
        }
        Binarise::Levels { low, high } => each_row(out, &draws, numbers, &|r, state, out| {
            let levels = u64::from(high - low) + 1;
            let level = low + ((u64::from(output(state)) * levels) >> 32) as u8;
            write(row(r), out, |x| x.reaches(level));
        }),
        Binarise::Sample => each_row(out, &draws, numbers, &|r, state, out| T::sample(isa, state, row(r), out)),
    }
}

/// Writes the rows of an epoch on all threads. `write` gets the number of the row and the generator's state for the first of
/// the row's `numbers` numbers.
fn each_row(out: RowsMut<'_, u8>, draws: &Uniforms, numbers: u64, write: &(impl Fn(usize, u64, &mut [u8]) + Sync)) {
    let next = Jump::over(numbers);
    share(out, &|part: RowsMut<'_, u8>| {
        let mut draws = draws.clone();
        draws.skip((part.first as u64).wrapping_mul(numbers));
        let mut state = draws.state();
        for (r, row) in (part.first..).zip(part.values.chunks_exact_mut(part.width)) {
            write(r, state, row);
            state = next.from(state);
        }
    });
}

/// Writes the bits of a row as bytes.
#[inline(always)]
fn write<T: Copy>(values: &[T], out: &mut [u8], is_on: impl Fn(T) -> bool) {
    for (&x, out) in values.iter().zip(out) {
        *out = bit(is_on(x));
    }
}

#[inline(always)]
fn bit(on: bool) -> u8 {
    if on { 255 } else { 0 }
}

/// A value in [0, 1], in its original type.
pub(super) trait Grey: Copy + Send + Sync {
    /// Returns true if x ≥ 0.5.
    fn rounds_to_one(self) -> bool;
    /// Returns true if 255·x ≥ level.
    fn reaches(self, level: u8) -> bool;
    /// Returns true if a value with this random number is on.
    fn is_on(self, number: u32) -> bool;
    /// [`is_on`](Self::is_on) for a row; `state` is the generator's state for the row's first number.
    fn sample(isa: Isa, state: u64, row: &[Self], out: &mut [u8]);
}

impl Grey for u8 {
    #[inline(always)]
    fn rounds_to_one(self) -> bool {
        self >= 128
    }

    #[inline(always)]
    fn reaches(self, level: u8) -> bool {
        self >= level
    }

    #[inline(always)]
    fn is_on(self, number: u32) -> bool {
        // 255·number < 2^32·x iff ⌊255·number/2^32⌋ < x: a comparison of bytes.
        (((u64::from(number) * 255) >> 32) as u8) < self
    }

    fn sample(isa: Isa, state: u64, row: &[u8], out: &mut [u8]) {
        sample_bytes(isa, state, row, out);
    }
}

impl Grey for f32 {
    #[inline(always)]
    fn rounds_to_one(self) -> bool {
        self >= 0.5
    }

    #[inline(always)]
    fn reaches(self, level: u8) -> bool {
        255.0 * self >= f32::from(level)
    }

    #[inline(always)]
    fn is_on(self, number: u32) -> bool {
        f64::from(number) < f64::from(self) * 4_294_967_296.0
    }

    fn sample(isa: Isa, state: u64, row: &[f32], out: &mut [u8]) {
        sample_numbers(isa, state, row, out);
    }
}

#[inline(always)]
fn sample<L: Wide, T: Grey>(l: L, state: u64, row: &[T], out: &mut [u8]) {
    let mut draws = l.states(state);
    let mut numbers = [0; LANES];
    for (row, out) in row.chunks(LANES).zip(out.chunks_mut(LANES)) {
        l.numbers(l.draw(&mut draws), &mut numbers);
        // A constant length lets the compiler vectorise the loop.
        if let (Ok(row), Ok(out)) = (<&[T; LANES]>::try_from(row), <&mut [u8; LANES]>::try_from(&mut *out)) {
            for lane in 0..LANES {
                out[lane] = bit(row[lane].is_on(numbers[lane]));
            }
        } else {
            for ((x, out), &number) in row.iter().zip(out).zip(&numbers) {
                *out = bit(x.is_on(number));
            }
        }
    }
}

dispatch! {
    /// A row of eight-bit values.
    fn sample_bytes(|l| state: u64, row: &[u8], out: &mut [u8]) {
        sample(l, state, row, out);
    }

    /// A row of numbers.
    fn sample_numbers(|l| state: u64, row: &[f32], out: &mut [u8]) {
        sample(l, state, row, out);
    }
}
