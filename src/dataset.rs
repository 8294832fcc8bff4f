//! Owned rows of data, in the type in which they came.

use crate::{
    error::{Error, Result},
    rows::{Rows, Values},
    uniforms::{Purpose, Uniforms},
    units::{Segment, Segments},
};
use std::{mem, ops::Range};

/// A row-major matrix of values in [0, 1], or of values that other laws permit ([`with_segments`](Self::with_segments)).
///
/// Eight-bit data stay eight-bit; x/255 is computed when a batch is taken.
///
/// ```
/// use harmonium::Dataset;
///
/// let data = Dataset::from_u8(vec![0, 255, 51, 102, 255, 0], 2)?;
/// assert_eq!((data.len(), data.units()), (3, 2));
/// assert_eq!(data.rows().to_vec(), [0.0, 1.0, 0.2, 0.4, 1.0, 0.0]);
/// assert_eq!(data.batches(2).collect::<Vec<_>>(), [0..2, 2..3]);
/// assert_eq!(data.binarised().rows().to_vec(), [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
/// # Ok::<(), harmonium::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    values: Owned,
    /// The mask of missing values, ⌈units/64⌉ words a row; empty if none is missing.
    missing: Vec<u64>,
    units: usize,
    segments: Segments,
}

#[derive(Clone, Debug, PartialEq)]
enum Owned {
    U8(Vec<u8>),
    F32(Vec<f32>),
}

impl Dataset {
    /// Rows of `units` eight-bit values, where x stands for x/255.
    ///
    /// # Errors
    /// [`Error::Length`] if the values are not a whole number of rows, [`Error::Argument`] if `units` is 0.
    pub fn from_u8(values: Vec<u8>, units: usize) -> Result<Self> {
        let segments = Rows::new(Values::U8(&values), units)?.segments();
        Ok(Self { values: Owned::U8(values), missing: Vec::new(), units, segments })
    }

    /// Rows of `units` values within [0, 1].
    ///
    /// # Errors
    /// [`Error::Length`] if the values are not a whole number of rows, [`Error::Argument`] if `units` is 0, [`Error::Value`] if a
    /// value is not within [0, 1].
    pub fn from_f32(values: Vec<f32>, units: usize) -> Result<Self> {
        let segments = Rows::new(Values::F32(&values), units)?.segments();
        Ok(Self { values: Owned::F32(values), missing: Vec::new(), units, segments })
    }

    /// Rows of numbers with the given laws.
    ///
    /// # Errors
    /// Those of [`Rows::with_segments`].
    pub fn of_numbers(values: Vec<f32>, segments: Segments) -> Result<Self> {
        Rows::with_segments(Values::F32(&values), segments)?;
        Ok(Self { values: Owned::F32(values), missing: Vec::new(), units: segments.units(), segments })
    }

    /// Rows of numbers with the given laws, where NaN stands for a missing value. Of a Potts site all states are missing, or none.
    ///
    /// The model of a row is the RBM with only the visible units whose values are present. The row's free energy, hidden means and
    /// pseudo-likelihood are those of this RBM. So are both phases of its gradient: the chain that belongs to the row omits the same
    /// units. Source: R. Salakhutdinov, A. Mnih, G. Hinton, "Restricted Boltzmann machines for collaborative
    /// filtering", 2007, section 2.
    ///
    /// ```
    /// use harmonium::Dataset;
    ///
    /// let data = Dataset::with_missing(vec![1.0, f32::NAN, 0.0, 1.0], "binary:2".parse()?)?;
    /// assert!(data.rows().is_missing(0, 1) && !data.rows().is_missing(1, 1));
    /// # Ok::<(), harmonium::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Rows::with_segments`].
    pub fn with_missing(mut values: Vec<f32>, segments: Segments) -> Result<Self> {
        let units = segments.units();
        if !values.len().is_multiple_of(units) {
            let expected = values.len().div_ceil(units) * units;
            return Err(Error::Length { what: "rows", expected, found: values.len() });
        }
        let words = units.div_ceil(64);
        let mut missing = vec![0; values.len() / units * words];
        for (n, x) in values.iter_mut().enumerate().filter(|(_, x)| x.is_nan()) {
            missing[n / units * words + n % units / 64] |= 1 << (n % units % 64);
            *x = 0.0;
        }
        if missing.iter().all(|&word| word == 0) {
            missing.clear();
        }
        let data = Self { values: Owned::F32(values), missing, units, segments };
        data.rows().check(segments)?;
        Ok(data)
    }

    /// The same rows with other laws.
    ///
    /// # Errors
    /// [`Error::Argument`] if the number of units differs, [`Error::Law`] with the first value that violates its law.
    pub fn with_segments(self, segments: Segments) -> Result<Self> {
        if segments.units() != self.units {
            let (expected, found) = (format!("{} values a row", segments.units()), self.units.to_string());
            return Err(Error::Argument { what: "rows", expected, found });
        }
        self.rows().check(segments)?;
        Ok(Self { segments, ..self })
    }

    /// A dataset without rows.
    pub(crate) fn empty() -> Self {
        Self { values: Owned::U8(Vec::new()), missing: Vec::new(), units: 1, segments: Segments::binary(1) }
    }

    /// Makes room for `len` eight-bit values in total with these laws, to be overwritten. Reuses the memory of the current values if it
    /// suffices.
    pub(crate) fn bytes_mut(&mut self, len: usize, segments: Segments) -> &mut [u8] {
        (self.units, self.segments) = (segments.units(), segments);
        self.missing.clear();
        if !matches!(self.values, Owned::U8(_)) {
            self.values = Owned::U8(Vec::new());
        }
        let Owned::U8(values) = &mut self.values else { unreachable!("they were made so") };
        values.resize(len, 0);
        values
    }

    /// The same for `f32` values.
    pub(crate) fn numbers_mut(&mut self, len: usize, segments: Segments) -> &mut [f32] {
        (self.units, self.segments) = (segments.units(), segments);
        self.missing.clear();
        if !matches!(self.values, Owned::F32(_)) {
            self.values = Owned::F32(Vec::new());
        }
        let Owned::F32(values) = &mut self.values else { unreachable!("they were made so") };
        values.resize(len, 0.0);
        values
    }

    /// Copies the mask of missing values to rows that have just been written: row r of these gets the mask of row number r in `rows`
    /// of the other dataset.
    pub(crate) fn leave_out(&mut self, of: &Dataset, rows: impl Iterator<Item = usize>) {
        self.missing.clear();
        if of.missing.is_empty() {
            return;
        }
        let words = self.units.div_ceil(64);
        rows.for_each(|row| self.missing.extend_from_slice(&of.missing[row * words..][..words]));
        for (r, missing) in self.missing.chunks_exact(words).enumerate() {
            for n in (0..self.units).filter(|i| missing[i / 64] >> (i % 64) & 1 == 1).map(|i| r * self.units + i) {
                match &mut self.values {
                    Owned::U8(values) => values[n] = 0,
                    Owned::F32(values) => values[n] = 0.0,
                }
            }
        }
    }

    /// Borrows all rows.
    pub fn rows(&self) -> Rows<'_> {
        let values = match &self.values {
            Owned::U8(values) => Values::U8(values),
            Owned::F32(values) => Values::F32(values),
        };
        Rows::of(values, self.segments).without(&self.missing)
    }

    /// Keeps only the rows in a range, in place.
    ///
    /// # Errors
    /// [`Error::Argument`] if the range is not within the rows; the rows are then unchanged.
    pub fn keep(&mut self, rows: Range<usize>) -> Result<()> {
        fn keep<T>(values: &mut Vec<T>, span: Range<usize>) {
            values.truncate(span.end);
            values.drain(..span.start);
            values.shrink_to_fit();
        }
        if rows.start > rows.end || rows.end > self.len() {
            let expected = format!("a range within 0..{}", self.len());
            return Err(Error::Argument { what: "rows", expected, found: format!("{rows:?}") });
        }
        let span = rows.start * self.units..rows.end * self.units;
        match &mut self.values {
            Owned::U8(values) => keep(values, span),
            Owned::F32(values) => keep(values, span),
        }
        if !self.missing.is_empty() {
            let words = self.units.div_ceil(64);
            keep(&mut self.missing, rows.start * words..rows.end * words);
        }
        Ok(())
    }

    /// Copies rows in any order and any number of times: row r of the result is row `rows[r]`.
    ///
    /// # Errors
    /// [`Error::Argument`] if a number is not below [`len`](Self::len).
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        fn gather<T: Copy>(values: &[T], units: usize, rows: &[usize]) -> Vec<T> {
            let mut gathered = Vec::with_capacity(rows.len() * units);
            rows.iter().for_each(|row| gathered.extend_from_slice(&values[row * units..][..units]));
            gathered
        }
        check_numbers(rows, self.len())?;
        let values = match &self.values {
            Owned::U8(values) => Owned::U8(gather(values, self.units, rows)),
            Owned::F32(values) => Owned::F32(gather(values, self.units, rows)),
        };
        let words = if self.missing.is_empty() { 0 } else { self.units.div_ceil(64) };
        Ok(Self { values, missing: gather(&self.missing, words, rows), ..*self })
    }

    /// A copy with the rows in another order: row r of the result is row `order[r]`.
    ///
    /// # Errors
    /// [`Error::Argument`] if `order` does not name each row once.
    pub fn permuted(&self, order: &[usize]) -> Result<Self> {
        let mut seen = vec![false; self.len()];
        let wrong = order.iter().find_map(|&row| match seen.get_mut(row) {
            None => Some(format!("row {row}")),
            Some(seen) => mem::replace(seen, true).then(|| format!("row {row} twice")),
        });
        let missing = || seen.iter().position(|seen| !seen).map(|row| format!("no row {row}"));
        match wrong.or_else(missing) {
            Some(found) => {
                Err(Error::Argument { what: "order", expected: format!("each of {} rows once", self.len()), found })
            }
            None => self.select(order),
        }
    }

    /// A copy with the rows in a random order, the same for the same seed on every machine: [`Uniforms::permutation`] at the
    /// start of the sequence of [`Purpose::Shuffling`].
    ///
    /// [`Epochs`](crate::Epochs) makes a new order for every epoch. To keep labels in the order of their rows, take permutations from
    /// one [`Uniforms`]:
    ///
    /// ```
    /// use harmonium::{Dataset, Purpose, Uniforms};
    ///
    /// let (data, labels) = (Dataset::from_u8(vec![0, 50, 100, 150], 1)?, [0, 5, 10, 15]);
    /// let mut draws = Uniforms::new(123, Purpose::Shuffling);
    /// for _epoch in 0..2 {
    ///     let order = draws.permutation(data.len());
    ///     let (rows, labels) = (data.permuted(&order)?, order.iter().map(|&row| labels[row]).collect::<Vec<_>>());
    ///     for batch in rows.batches(2) {
    ///         println!("{:?} {:?}", rows.rows().range(batch.clone()).values(), &labels[batch]);
    ///     }
    /// }
    /// # Ok::<(), harmonium::Error>(())
    /// ```
    pub fn shuffled(&self, seed: u64) -> Self {
        let order = Uniforms::new(seed, Purpose::Shuffling).permutation(self.len());
        self.select(&order).expect("a permutation names only rows that there are")
    }

    /// The rows with their binary units as bits, x ≥ 0.5 → 1. Likelihoods are defined for bits only.
    pub fn binarised(&self) -> Self {
        let (rows, units) = (self.rows(), self.units);
        if self.segments.is_discrete() {
            let bit = |n: usize| if rows.bit(n / units, n % units) { 255 } else { 0 };
            let values = Owned::U8((0..rows.len() * units).map(bit).collect());
            return Self { values, missing: self.missing.clone(), ..*self };
        }
        let mut values: Vec<f32> = (0..rows.len() * units).map(|n| rows.value(n / units, n % units)).collect();
        for (_, units) in self.segments.iter().filter(|(segment, _)| matches!(segment, Segment::Binary(_))) {
            for row in values.chunks_exact_mut(self.units) {
                row[units.clone()].iter_mut().for_each(|x| *x = if *x >= 0.5 { 1.0 } else { 0.0 });
            }
        }
        Self { values: Owned::F32(values), missing: self.missing.clone(), ..*self }
    }

    /// The laws of the values.
    pub fn segments(&self) -> Segments {
        self.segments
    }

    /// The number of rows.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.rows().len()
    }

    /// The number of values in each row.
    pub fn units(&self) -> usize {
        self.units
    }

    /// Ranges of rows for minibatches in data order, ⌈len/batch_size⌉ in total; the last one is shorter if rows are left over.
    ///
    /// A gradient is a mean over its rows, so the rows of a short minibatch have a greater weight than others. There are no batches if
    /// `batch_size` is 0 or there are no rows.
    pub fn batches(&self, batch_size: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let len = self.len();
        let batches = if batch_size == 0 { 0 } else { len.div_ceil(batch_size) };
        // Every batch begins at an existing row, so no product overflows.
        (0..batches).map(move |b| b * batch_size..len.min((b * batch_size).saturating_add(batch_size)))
    }
}

/// Checks that all numbers are below the number of rows.
pub(crate) fn check_numbers(rows: &[usize], len: usize) -> Result<()> {
    match rows.iter().find(|&&row| row >= len) {
        None => Ok(()),
        Some(row) => {
            let expected = format!("numbers below {len}");
            Err(Error::Argument { what: "rows", expected, found: row.to_string() })
        }
    }
}
