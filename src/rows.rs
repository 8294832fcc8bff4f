//! Borrowed rows of data, in the type in which they came.

use crate::{
    columns::Columns,
    error::{Error, Result},
    lanes::threads::Split,
    units::{Law, Segment, Segments, by_law},
};
use std::ops::Range;

/// A borrowed row-major matrix with one row for each example, and the laws that its values have been checked against: values in [0, 1]
/// for binary units, one 1 and zeros for the states of a Potts site, finite numbers for Gaussian units.
///
/// Values may be missing ([`Dataset::with_missing`](crate::Dataset::with_missing)). The model of a row is then the RBM with only the
/// visible units whose values are present: missing values enter no sum.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The values; a missing value is 0.
    values: Values<'a>,
    /// The mask of missing values, ⌈units/64⌉ words a row; empty if none is missing.
    missing: &'a [u64],
    units: usize,
    segments: Segments,
}

/// The values of [`Rows`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Values<'a> {
    /// Eight-bit values, where x stands for x/255.
    U8(&'a [u8]),
    /// The numbers themselves.
    F32(&'a [f32]),
}

impl Values<'_> {
    fn len(self) -> usize {
        match self {
            Values::U8(x) => x.len(),
            Values::F32(x) => x.len(),
        }
    }
}

/// The number that an eight-bit value stands for: x/255, correctly rounded.
#[inline(always)]
pub fn unit_value(x: u8) -> f32 {
    f32::from(x) / 255.0
}

impl<'a> Rows<'a> {
    /// Rows of `units` values each, all within [0, 1]: states of binary units, or their probabilities.
    ///
    /// # Errors
    /// [`Error::Length`] if the values are not a whole number of rows, [`Error::Argument`] if rows would have no values,
    /// [`Error::Value`] if a value is not within [0, 1].
    pub fn new(values: Values<'a>, units: usize) -> Result<Self> {
        let found = values.len();
        if !(1..=u32::MAX as usize).contains(&units) {
            let (expected, found) = match units {
                0 => ("at least one value a row".into(), "none".into()),
                _ => ("less than 2^32 values a row".into(), units.to_string()),
            };
            return Err(Error::Argument { what: "rows", expected, found });
        }
        if !found.is_multiple_of(units) {
            return Err(Error::Length { what: "rows", expected: found.div_ceil(units) * units, found });
        }
        if let Values::F32(x) = values {
            let outside = |x: &f32| !(0.0..=1.0).contains(x);
            if let Some(index) = x.iter().position(outside) {
                return Err(Error::Value { what: "rows", index, expected: "a value within [0, 1]", found: x[index] });
            }
        }
        Ok(Self::of(values, Segments::binary(units)))
    }

    /// Rows of values with the given laws.
    ///
    /// ```
    /// use harmonium::{Rows, Values};
    ///
    /// // Two bits, a site of three states and a number.
    /// let values = [1.0, 0.0, 0.0, 0.0, 1.0, -3.5];
    /// let rows = Rows::with_segments(Values::F32(&values), "binary:2,potts:1x3,gaussian:1".parse()?)?;
    /// assert_eq!((rows.len(), rows.units()), (1, 6));
    /// # Ok::<(), harmonium::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Length`] if the values are not a whole number of rows, [`Error::Law`] with the first value that violates its
    /// law.
    pub fn with_segments(values: Values<'a>, segments: Segments) -> Result<Self> {
        let (found, units) = (values.len(), segments.units());
        if !found.is_multiple_of(units) {
            return Err(Error::Length { what: "rows", expected: found.div_ceil(units) * units, found });
        }
        let rows = Self::of(values, segments);
        rows.check(segments)?;
        Ok(rows)
    }

    /// Checks each value against the law of its unit.
    pub(crate) fn check(&self, segments: Segments) -> Result<()> {
        let mut row = vec![0.0; self.units];
        for r in 0..self.len() {
            row.iter_mut().enumerate().for_each(|(i, x)| *x = self.value(r, i));
            for (segment, units) in segments.iter() {
                if self.has_missing() {
                    self.check_missing(r, segment, units.clone(), &mut row)?;
                }
                if let Some((unit, expected)) = by_law!(segment, |law| law.wrong(&row[units.clone()])) {
                    let column = units.start + unit;
                    return Err(Error::Law { row: r, column, law: segment.law(), expected, found: row[column] });
                }
            }
        }
        Ok(())
    }

    /// Checks that a site of row `r` has all states missing or none. If all are, `row` gets a valid state.
    fn check_missing(&self, r: usize, segment: Segment, units: Range<usize>, row: &mut [f32]) -> Result<()> {
        for first in units.step_by(segment.states()) {
            let site = first..first + segment.states();
            let missing = site.clone().filter(|&i| self.is_missing(r, i)).count();
            if missing == site.len() && site.len() > 1 {
                row[first] = 1.0;
            } else if missing > 0 && site.len() > 1 {
                let (column, law, expected) = (first, segment.law(), "all states of a site missing, or none");
                return Err(Error::Law { row: r, column, law, expected, found: f32::NAN });
            }
        }
        Ok(())
    }

    /// Rows that are known to be valid and complete.
    pub(crate) fn of(values: Values<'a>, segments: Segments) -> Self {
        Self { values, missing: &[], units: segments.units(), segments }
    }

    /// The same rows with a mask of missing values, which must be 0.
    pub(crate) fn without(self, missing: &'a [u64]) -> Self {
        Self { missing, ..self }
    }

    /// Returns true if a value may be missing.
    #[inline(always)]
    pub fn has_missing(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Returns true if value `i` of row `r` is missing.
    #[inline(always)]
    pub fn is_missing(&self, r: usize, i: usize) -> bool {
        self.has_missing() && self.missing[r * self.units.div_ceil(64) + i / 64] >> (i % 64) & 1 == 1
    }

    /// Checks that no value is missing: the likelihood of an incomplete row would need its own log Z.
    pub(crate) fn check_complete(&self) -> Result<()> {
        if self.has_missing() { Err(incomplete()) } else { Ok(()) }
    }

    /// The mask of missing values, ⌈units/64⌉ words a row; unit i is bit i mod 64 of word i/64. Empty if none is missing.
    pub(crate) fn missing(&self) -> &'a [u64] {
        self.missing
    }

    /// The laws of the values.
    pub fn segments(&self) -> Segments {
        self.segments
    }

    /// The number of rows.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.values.len() / self.units
    }

    /// The number of values in each row.
    pub fn units(&self) -> usize {
        self.units
    }

    /// All values, row after row; a missing value is 0.
    pub fn values(&self) -> Values<'a> {
        self.values
    }

    /// The rows in a range.
    ///
    /// # Panics
    /// If the range is not within the rows.
    pub fn range(&self, rows: Range<usize>) -> Self {
        let span = rows.start * self.units..rows.end * self.units;
        let values = match self.values {
            Values::U8(x) => Values::U8(&x[span]),
            Values::F32(x) => Values::F32(&x[span]),
        };
        let words = self.units.div_ceil(64);
        let missing = if self.has_missing() { &self.missing[rows.start * words..rows.end * words] } else { &[] };
        Self { values, missing, ..*self }
    }

    /// The mean of each unit over the N rows that have it. Means of binary and Potts units are at least 1/N away from 0 and 1, so that
    /// their log-odds are finite, and ½ if N is below 2.
    ///
    /// These means give initial visible biases ([`Rbm::from_data`](crate::Rbm::from_data)) and the initial offsets of a centred
    /// gradient. Canonical: a sum in `f64`, rows in ascending order, then a division, rounded to `f32`. One value for each unit.
    pub fn clipped_means(&self) -> Vec<f32> {
        Columns::of(*self).clipped_means()
    }

    /// All values as numbers, row after row; NaN if a value is missing.
    pub fn to_vec(&self) -> Vec<f32> {
        let mut numbers = match self.values {
            Values::U8(x) => x.iter().map(|&x| unit_value(x)).collect(),
            Values::F32(x) => x.to_vec(),
        };
        if self.has_missing() {
            let units = self.units;
            let missing = |n: &usize| self.is_missing(n / units, n % units);
            (0..numbers.len()).filter(missing).for_each(|n| numbers[n] = f32::NAN);
        }
        numbers
    }

    /// Value `i` of row `r`, or 0 if it is missing.
    #[inline(always)]
    pub fn value(&self, r: usize, i: usize) -> f32 {
        match self.values {
            Values::U8(x) => unit_value(x[r * self.units + i]),
            Values::F32(x) => x[r * self.units + i],
        }
    }

    /// The bit of value `i` of row `r`: x ≥ 0.5.
    #[inline(always)]
    pub fn bit(&self, r: usize, i: usize) -> bool {
        match self.values {
            Values::U8(x) => x[r * self.units + i] >= 128,
            Values::F32(x) => x[r * self.units + i] >= 0.5,
        }
    }
}

/// The error for missing values that must be present.
pub(crate) fn incomplete() -> Error {
    let (expected, found) = ("rows without missing values".into(), "missing values".into());
    Error::Argument { what: "rows", expected, found }
}

impl Split for Rows<'_> {
    fn pieces(&self) -> usize {
        self.len()
    }

    fn split(self, pieces: usize) -> (Self, Self) {
        (self.range(0..pieces), self.range(pieces..self.len()))
    }
}
