//! Rows that are read when they are needed: from memory, or from where there are more of them than memory holds.

use crate::{
    dataset::{Dataset, check_numbers},
    error::Result,
    rows::Values,
    units::Segments,
};

/// Rows that can be read in any order, some at a time: a [`Dataset`], or a file that need not fit in memory
/// ([`npy::OnDisk`](crate::formats::npy::OnDisk)).
///
/// [`Epochs::show_part`](crate::Epochs::show_part) shows a part of an epoch of either. One of your own reads rows with the same
/// values whenever it is asked for them, and says `*into = `[`Dataset::from_u8`]`(…)?` or the like.
#[allow(clippy::len_without_is_empty)]
pub trait Source {
    /// How many rows there are.
    fn len(&self) -> usize;

    /// The laws that the values keep to.
    fn segments(&self) -> Segments;

    /// Reads some of the rows, in any order and any number of times, in place of what `into` holds: row r of it becomes row
    /// `rows[r]`. Memory that `into` has is used again where it can be.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) if a number is not below [`len`](Self::len); what else keeps a row from being
    /// read.
    fn read(&self, rows: &[usize], into: &mut Dataset) -> Result<()>;

    /// The rows as data of its own.
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
