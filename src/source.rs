//! Rows that are read on demand, from memory or from files larger than memory.

use crate::{
    dataset::{Dataset, check_numbers},
    error::Result,
    rows::Values,
    units::Segments,
};

/// Rows that can be read in any order, a few at a time: a [`Dataset`], or a file that may be larger than memory
/// ([`npy::OnDisk`](crate::formats::npy::OnDisk)).
///
/// [`Epochs::show_part`](crate::Epochs::show_part) takes a part of an epoch from either. An implementation must return the same values
/// whenever a row is read.
///
/// ```
/// use harmonium::{Dataset, Result, Segments, Source};
///
/// /// All bytes, one a row.
/// struct Bytes;
///
/// impl Source for Bytes {
///     fn len(&self) -> usize {
///         256
///     }
///     fn segments(&self) -> Segments {
///         "binary:1".parse().expect("one unit")
///     }
///     fn read(&self, rows: &[usize], into: &mut Dataset) -> Result<()> {
///         *into = Dataset::from_u8(rows.iter().map(|&row| row as u8).collect(), 1)?;
///         Ok(())
///     }
/// }
/// assert_eq!(Bytes.select(&[255, 0])?.rows().to_vec(), [1.0, 0.0]);
/// # Ok::<(), harmonium::Error>(())
/// ```
#[allow(clippy::len_without_is_empty)]
pub trait Source {
    /// The number of rows.
    fn len(&self) -> usize;

    /// The laws of the values.
    fn segments(&self) -> Segments;

    /// Reads rows, in any order and any number of times, and replaces the contents of `into`: its row r becomes row `rows[r]`. The
    /// memory of `into` is reused if possible.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) if a number is not below [`len`](Self::len), and any error that prevents a row from
    /// being read.
    fn read(&self, rows: &[usize], into: &mut Dataset) -> Result<()>;

    /// Reads rows into a new dataset.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    fn select(&self, rows: &[usize]) -> Result<Dataset> {
        let mut into = Dataset::empty();
        self.read(rows, &mut into)?;
        Ok(into)
    }
}

impl Source for Dataset {
    fn len(&self) -> usize {
        self.len()
    }

    fn segments(&self) -> Segments {
        self.segments()
    }

    fn read(&self, rows: &[usize], into: &mut Dataset) -> Result<()> {
        fn gather<T: Copy>(values: &[T], rows: &[usize], units: usize, into: &mut [T]) {
            for (&row, into) in rows.iter().zip(into.chunks_exact_mut(units)) {
                into.copy_from_slice(&values[row * units..][..units]);
            }
        }
        check_numbers(rows, self.len())?;
        let (units, segments) = (self.units(), self.segments());
        match self.rows().values() {
            Values::U8(values) => gather(values, rows, units, into.bytes_mut(rows.len() * units, segments)),
            Values::F32(values) => gather(values, rows, units, into.numbers_mut(rows.len() * units, segments)),
        }
        into.leave_out(self, rows.iter().copied());
        Ok(())
    }
}
