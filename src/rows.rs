//! Borrowed rows of data, in the width in which they came.

use crate::error::{Error, Result};
use std::ops::Range;

/// A borrowed row-major matrix of values in [0, 1], one row for each example.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    values: Values<'a>,
    units: usize,
}

/// The values of [`Rows`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Values<'a> {
    /// Eight bits each; x stands for x/255.
    U8(&'a [u8]),
    /// The numbers themselves.
    F32(&'a [f32]),
}

/// The number that eight bits stand for: x/255, correctly rounded.
#[inline(always)]
pub fn unit_value(x: u8) -> f32 {
    f32::from(x) / 255.0
}

impl<'a> Rows<'a> {
    /// Rows of `units` values each.
    ///
    /// # Errors
    /// [`Error::Length`] where the values are no whole number of rows, [`Error::Argument`] where rows would have no value,
    /// [`Error::Value`] where one is not within [0, 1].
    pub fn new(values: Values<'a>, units: usize) -> Result<Self> {
        let found = match values {
            Values::U8(x) => x.len(),
            Values::F32(x) => x.len(),
        };
        if units == 0 {
            return Err(Error::Argument {
                what: "rows",
                expected: "at least one value a row".into(),
                found: "none".into(),
            });
        }
        if found % units != 0 {
            return Err(Error::Length { what: "rows", expected: found.div_ceil(units) * units, found });
        }
        if let Values::F32(x) = values {
            let outside = |x: &f32| !(0.0..=1.0).contains(x);
            if let Some(index) = x.iter().position(outside) {
                return Err(Error::Value { what: "rows", index, expected: "a value within [0, 1]", found: x[index] });
            }
        }
        Ok(Self { values, units })
    }

    /// Rows that are known to be right.
    pub(crate) fn of(values: Values<'a>, units: usize) -> Self {
        Self { values, units }
    }

    /// How many rows there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match self.values {
            Values::U8(x) => x.len() / self.units,
            Values::F32(x) => x.len() / self.units,
        }
    }

    /// How many values each row has.
    pub fn units(&self) -> usize {
        self.units
    }

    /// All values, row after row.
    pub fn values(&self) -> Values<'a> {
        self.values
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// Where the range does not lie within the rows.
    pub fn range(&self, rows: Range<usize>) -> Self {
        let span = rows.start * self.units..rows.end * self.units;
        let values = match self.values {
            Values::U8(x) => Values::U8(&x[span]),
            Values::F32(x) => Values::F32(&x[span]),
        };
        Self { values, units: self.units }
    }

    /// Σ_r v_ri of each unit, rows in ascending order in one `f64` accumulator.
    pub(crate) fn sums(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.units];
        for r in 0..self.len() {
            sums.iter_mut().enumerate().for_each(|(i, sum)| *sum += f64::from(self.value(r, i)));
        }
        sums
    }

    /// The mean of each unit over the N rows, no nearer to 0 and 1 than 1/N, where its log-odds are finite; ½ where N is below 2.
    ///
    /// Where a unit's visible bias may begin ([`Rbm::from_data`](crate::Rbm::from_data)) and a centred gradient its offset.
    /// Canonical: a sum in `f64`, rows in ascending order, and a division. Here rounded to `f32`, units values.
    pub fn clipped_means(&self) -> Vec<f32> {
        self.clipped_means_f64().map(|mean| mean as f32).collect()
    }

    /// [`clipped_means`](Self::clipped_means) before they are rounded.
    pub(crate) fn clipped_means_f64(&self) -> impl Iterator<Item = f64> + use<> {
        let n = self.len() as f64;
        let clipped = move |sum: f64| if n < 2.0 { 0.5 } else { (sum / n).clamp(1.0 / n, 1.0 - 1.0 / n) };
        self.sums().into_iter().map(clipped)
    }

    /// Value `i` of row `r`.
    #[inline(always)]
    pub fn value(&self, r: usize, i: usize) -> f32 {
        match self.values {
            Values::U8(x) => unit_value(x[r * self.units + i]),
            Values::F32(x) => x[r * self.units + i],
        }
    }

    /// Whether value `i` of row `r` counts as 1 where only 0 and 1 will do: x ≥ 0.5.
    #[inline(always)]
    pub fn bit(&self, r: usize, i: usize) -> bool {
        match self.values {
            Values::U8(x) => x[r * self.units + i] >= 128,
            Values::F32(x) => x[r * self.units + i] >= 0.5,
        }
    }
}
