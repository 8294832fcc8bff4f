//! What of the data an epoch shows: the rows in an order of its own, their grey values as bits of its own.
//!
//! Everything is a function of the seed and the number of the epoch, so that a run goes on at any epoch without the others.

use crate::{
    dataset::Dataset,
    error::{Error, Result, shown},
    lanes::{
        LANES, Wide, dispatch,
        isa::Isa,
        threads::{RowsMut, share},
    },
    rows::{Values, unit_value},
    uniforms::{Jump, Purpose, Uniforms, output},
    units::{Segment, Segments},
};
use std::{
    fmt::{self, Display},
    str::FromStr,
};

/// What becomes of the values in [0, 1] of binary units, which an RBM takes for probabilities; values of other laws stay.
///
/// Written and read as `none`, `threshold`, `threshold:LOW-HIGH` and `sample`:
///
/// ```
/// use harmonium::Binarise;
/// assert_eq!("threshold:16-240".parse(), Ok(Binarise::Levels { low: 16, high: 240 }));
/// assert_eq!(Binarise::Sample.to_string(), "sample");
/// assert!("threshold:240-16".parse::<Binarise>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Binarise {
    /// Nothing: they stay as they are.
    #[default]
    None,
    /// x ≥ 0.5 → 1, as [`Dataset::binarised`].
    Threshold,
    /// Each row draws a level from the whole numbers `low` … `high` anew in every epoch; x is on iff it is at least the level.
    ///
    /// An eight-bit value is compared as it is; another one as 255·x, rounded to `f32`, so that x/255 counts as x. Level 0 is
    /// reached by every value. The level is low + ⌊n·(high - low + 1)/2^32⌋, n being the row's number: the probabilities of
    /// the levels differ by less than 2^-32.
    Levels {
        /// The least level.
        low: u8,
        /// The greatest level, not below `low`.
        high: u8,
    },
    /// Each value is on with probability x, anew in every epoch: 0 never, 1 always.
    ///
    /// With the value's number n, an eight-bit x is on iff 255·n < 2^32·x, in whole numbers; another one iff n < 2^32·x, where
    /// both sides are exact in `f64`. So the probability is the least multiple of 2^-32 that is not below x. Source:
    /// R. Salakhutdinov, I. Murray, "On the quantitative analysis of deep belief networks", 2008, section 5, whose data are
    /// drawn so.
    Sample,
}

impl Display for Binarise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.pad("none"),
            Self::Threshold => f.pad("threshold"),
            Self::Levels { low, high } => f.pad(&format!("threshold:{low}-{high}")),
            Self::Sample => f.pad("sample"),
        }
    }
}

impl FromStr for Binarise {
    type Err = Error;

    /// # Errors
    /// [`Error::Argument`] where this is none of them, or no levels are left.
    fn from_str(text: &str) -> Result<Self> {
        let levels = |range: &str| {
            let (low, high) = range.split_once('-')?;
            let digits = |level: &str| level.bytes().all(|byte| byte.is_ascii_digit()).then(|| level.parse().ok())?;
            Some(Self::Levels { low: digits(low)?, high: digits(high)? }).filter(|levels| levels.check().is_ok())
        };
        let found = match text {
            "none" => Some(Self::None),
            "threshold" => Some(Self::Threshold),
            "sample" => Some(Self::Sample),
            _ => text.strip_prefix("threshold:").and_then(levels),
        };
        found.ok_or_else(|| Error::Argument {
            what: "binarise",
            expected: "one of none, threshold, threshold:LOW-HIGH with 0 <= LOW <= HIGH <= 255, sample".into(),
            found: shown(text),
        })
    }
}

impl Binarise {
    fn check(self) -> Result<()> {
        match self {
            Self::Levels { low, high } if low > high => Err(Error::Argument {
                what: "levels",
                expected: "the least not above the greatest".into(),
                found: format!("{low}-{high}"),
            }),
            _ => Ok(()),
        }
    }
}

/// What epochs show of the data: any epoch, from its number alone.
///
/// - With `shuffle` the order of epoch e over n rows is [`Uniforms::permutation`] at position 2·(n - 1)·e of the seed's
///   [`Purpose::Shuffling`] sequence. Epoch 0 has the order of [`Dataset::shuffled`].
/// - Bits draw from the seed's [`Purpose::Binarising`] sequence. Value i of row r *of that order* has number
///   (e·n + r)·units + i; a row's level number e·n + r.
///
/// Positions are meant modulo 2^64, the period. The bits are the same for any number of threads and any instruction set.
/// Keeps room for one epoch, so that nothing is allocated after the first.
///
/// ```
/// use harmonium::{Binarise, Dataset, Epochs};
///
/// # fn main() -> harmonium::Result<()> {
/// let data = Dataset::from_u8(vec![0, 128, 255, 64, 128, 192], 3)?;
/// let mut epochs = Epochs::new(true, Binarise::Sample, 123)?;
/// for epoch in 0..10 {
///     let shown = epochs.show(&data, epoch)?;
///     for batch in shown.batches(20) {
///         println!("{:?}", shown.rows().range(batch));
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Epochs {
    shuffle: bool,
    binarise: Binarise,
    seed: u64,
    /// Which row of the data each row of the last epoch is, and that epoch.
    order: Vec<usize>,
    shown: Dataset,
    /// The bits of units of several laws, before they take their places.
    bits: Vec<u8>,
}

impl Epochs {
    /// Epochs that show the rows in an order of their own, where `shuffle` holds, and their values as `binarise` says.
    ///
    /// # Errors
    /// [`Error::Argument`] where the least level is above the greatest.
    pub fn new(shuffle: bool, binarise: Binarise, seed: u64) -> Result<Self> {
        binarise.check()?;
        Ok(Self { shuffle, binarise, seed, order: Vec::new(), shown: Dataset::empty(), bits: Vec::new() })
    }

    /// Which of `rows` rows each row of an epoch is: for labels, in the order of what is shown.
    pub fn order(&self, rows: usize, epoch: u64) -> Vec<usize> {
        let mut order = Vec::new();
        self.write_order(rows, epoch, &mut order);
        order
    }

    fn write_order(&self, rows: usize, epoch: u64, order: &mut Vec<usize>) {
        if !self.shuffle {
            order.clear();
            return order.extend(0..rows);
        }
        let mut draws = Uniforms::new(self.seed, Purpose::Shuffling);
        draws.seek((2 * rows.saturating_sub(1) as u64).wrapping_mul(epoch));
        draws.write_permutation(rows, order);
    }

    /// What epoch number `epoch` shows: the data itself where nothing is to be done, without a copy.
    ///
    /// Bits are eight-bit values 0 and 255; they cost one random number a value with [`Binarise::Sample`]. Works on all
    /// threads of the caller's pool.
    ///
    /// # Errors
    /// [`Error::Isa`] as [`Isa::detect`].
    pub fn show<'a>(&'a mut self, data: &'a Dataset, epoch: u64) -> Result<&'a Dataset> {
        Ok(self.show_on(Isa::detect()?, data, epoch))
    }

    /// [`show`](Self::show) with a given instruction set.
    pub fn show_on<'a>(&'a mut self, isa: Isa, data: &'a Dataset, epoch: u64) -> &'a Dataset {
        if !self.shuffle && self.binarise == Binarise::None {
            return data;
        }
        let mut order = std::mem::take(&mut self.order);
        self.write_order(data.len(), epoch, &mut order);
        self.order = order;
        let (units, len, segments) = (data.units(), data.len() * data.units(), data.segments());
        let mut bits = std::mem::take(&mut self.bits);
        if self.binarise != Binarise::None {
            let out = if segments.is_binary() { self.shown.bytes_mut(len, segments) } else { sized(&mut bits, len) };
            let out = RowsMut::new(units, out);
            match data.rows().values() {
                Values::U8(values) => write_bits(isa, self.binarise, self.seed, &self.order, values, epoch, out),
                Values::F32(values) => write_bits(isa, self.binarise, self.seed, &self.order, values, epoch, out),
            }
        }
        if self.binarise == Binarise::None || !segments.is_binary() {
            match data.rows().values() {
                Values::U8(values) => {
                    let shown = self.shown.bytes_mut(len, segments);
                    gather(values, &self.order, RowsMut::new(units, shown));
                    put_bits(&bits, segments, shown, |bit| bit);
                }
                Values::F32(values) => {
                    let shown = self.shown.numbers_mut(len, segments);
                    gather(values, &self.order, RowsMut::new(units, shown));
                    put_bits(&bits, segments, shown, unit_value);
                }
            }
        }
        self.bits = bits;
        self.shown.leave_out(data, &self.order);
        &self.shown
    }
}

/// Room for so many bytes.
fn sized(bytes: &mut Vec<u8>, len: usize) -> &mut [u8] {
    bytes.resize(len, 0);
    bytes
}

/// Writes the bits of the binary units over their values, where there are bits; values of other laws stay.
fn put_bits<T>(bits: &[u8], segments: Segments, to: &mut [T], value: impl Fn(u8) -> T) {
    let units = segments.units();
    for (bits, to) in bits.chunks_exact(units).zip(to.chunks_exact_mut(units)) {
        for (_, units) in segments.iter().filter(|(segment, _)| matches!(segment, Segment::Binary(_))) {
            to[units.clone()].iter_mut().zip(&bits[units]).for_each(|(to, &bit)| *to = value(bit));
        }
    }
}

/// The bits of all rows in that order.
fn write_bits<T: Grey>(
    isa: Isa, binarise: Binarise, seed: u64, order: &[usize], values: &[T], epoch: u64, out: RowsMut<'_, u8>,
) {
    let units = out.width;
    // How many numbers a row takes.
    let numbers = match binarise {
        Binarise::None | Binarise::Threshold => 0,
        Binarise::Levels { .. } => 1,
        Binarise::Sample => units as u64,
    };
    let mut draws = Uniforms::new(seed, Purpose::Binarising);
    draws.seek((order.len() as u64).wrapping_mul(numbers).wrapping_mul(epoch));
    let row = |r: usize| &values[order[r] * units..][..units];
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

/// Writes the rows of an epoch, on all threads: `write` gets the number of the row and the generator's state for the first of
/// its `numbers` numbers.
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

/// Copies rows in that order, on all threads.
fn gather<T: Copy + Send + Sync>(values: &[T], order: &[usize], out: RowsMut<'_, T>) {
    share(out, &|part: RowsMut<'_, T>| {
        for (row, from) in part.values.chunks_exact_mut(part.width).zip(&order[part.first..]) {
            row.copy_from_slice(&values[from * part.width..][..part.width]);
        }
    });
}

/// The bits of a row, as bytes.
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

/// A value in [0, 1], in the width in which it came.
trait Grey: Copy + Send + Sync {
    /// x ≥ 0.5.
    fn rounds_to_one(self) -> bool;
    /// 255·x ≥ level.
    fn reaches(self, level: u8) -> bool;
    /// Whether the value is on that has this number.
    fn is_on(self, number: u32) -> bool;
    /// [`is_on`](Self::is_on) for a row, whose numbers begin at this state of the generator.
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
        // A length that is known makes vectors of the loop.
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
    /// One row of eight-bit values.
    fn sample_bytes(|l| state: u64, row: &[u8], out: &mut [u8]) {
        sample(l, state, row, out);
    }

    /// One row of numbers.
    fn sample_numbers(|l| state: u64, row: &[f32], out: &mut [u8]) {
        sample(l, state, row, out);
    }
}
