//! Data: rows that somebody owns, in the width in which they came.

use crate::{
    error::Result,
    rows::{Rows, Values},
};
use std::ops::Range;

/// A row-major matrix of values in [0, 1]. Eight-bit data stays eight-bit; x/255 is formed as a batch is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    values: Owned,
    units: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Owned {
    U8(Vec<u8>),
    F32(Vec<f32>),
}

impl Dataset {
    /// Rows of `units` eight-bit values, x standing for x/255.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) where the values are no whole number of rows.
    pub fn from_u8(values: Vec<u8>, units: usize) -> Result<Self> {
        Rows::new(Values::U8(&values), units)?;
        Ok(Self { values: Owned::U8(values), units })
    }

    /// Rows of `units` values within [0, 1].
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) where the values are no whole number of rows,
    /// [`Error::Value`](crate::Error::Value) where one is not within [0, 1].
    pub fn from_f32(values: Vec<f32>, units: usize) -> Result<Self> {
        Rows::new(Values::F32(&values), units)?;
        Ok(Self { values: Owned::F32(values), units })
    }

    /// All rows.
    pub fn rows(&self) -> Rows<'_> {
        Rows::of(
            match &self.values {
                Owned::U8(values) => Values::U8(values),
                Owned::F32(values) => Values::F32(values),
            },
            self.units,
        )
    }

    /// Keeps only these rows, in place.
    ///
    /// # Panics
    /// Where the range does not lie within the rows.
    pub fn keep(&mut self, rows: Range<usize>) {
        fn keep<T>(values: &mut Vec<T>, span: Range<usize>) {
            values.truncate(span.end);
            values.drain(..span.start);
            values.shrink_to_fit();
        }
        let span = rows.start * self.units..rows.end * self.units;
        match &mut self.values {
            Owned::U8(values) => keep(values, span),
            Owned::F32(values) => keep(values, span),
        }
    }

    /// The rows as bits, x ≥ 0.5 → 1: what likelihoods are of.
    pub fn binarised(&self) -> Self {
        let (rows, units) = (self.rows(), self.units);
        let bit = |n: usize| if rows.bit(n / units, n % units) { 255 } else { 0 };
        Self { values: Owned::U8((0..rows.len() * units).map(bit).collect()), units }
    }

    /// How many rows there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.rows().len()
    }

    /// How many values each row has.
    pub fn units(&self) -> usize {
        self.units
    }

    /// The row ranges of whole batches in data order; what is left over at the end is dropped, as the tutorial does.
    pub fn batches(&self, batch_size: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let whole = self.len().checked_div(batch_size).unwrap_or(0);
        (0..whole).map(move |b| b * batch_size..(b + 1) * batch_size)
    }
}
