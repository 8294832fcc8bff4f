//! Rows of data on the device, in their own element type, and the cursor that points kernels at some of them.

use super::{
    arguments::RowsArgument,
    buffer::{Buffer, Ptr},
    handle::Cuda,
    launch::Grid,
    sizes::{count, stride, words},
};
use crate::{
    error::Result,
    rows::{Rows, Values},
    units::Segments,
};
use std::ops::Range;

/// A data set in device memory.
#[derive(Debug)]
pub(crate) struct Data {
    cuda: Cuda,
    values: Stored,
    /// The bits of missing values, in the host's words; empty if none is missing.
    missing: Buffer<u64>,
    rows: usize,
    segments: Segments,
}

#[derive(Debug)]
enum Stored {
    U8(Buffer<u8>),
    F32(Buffer<f32>),
}

impl Data {
    /// A copy of the host's rows.
    pub fn new(cuda: &Cuda, rows: Rows<'_>) -> Result<Self> {
        let values = match rows.values() {
            Values::U8(values) => Stored::U8(Buffer::of(cuda.stream(), values)?),
            Values::F32(values) => Stored::F32(Buffer::of(cuda.stream(), values)?),
        };
        let missing = Buffer::of(cuda.stream(), rows.missing())?;
        Ok(Self { cuda: cuda.clone(), values, missing, rows: rows.len(), segments: rows.segments() })
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If the range exceeds the rows.
    pub fn range(&self, rows: Range<usize>) -> Batch<'_> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        Batch { data: self, first: rows.start, rows: rows.len() }
    }

    pub fn len(&self) -> usize {
        self.rows
    }
}

/// Some rows of a data set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'a> {
    data: &'a Data,
    first: usize,
    rows: usize,
}

impl<'a> Batch<'a> {
    pub fn len(self) -> usize {
        self.rows
    }

    /// A range of these rows.
    pub fn range(self, rows: Range<usize>) -> Self {
        self.data.range(self.first + rows.start..self.first + rows.end)
    }

    /// The laws of the values.
    pub fn segments(self) -> Segments {
        self.data.segments
    }

    pub fn units(self) -> usize {
        self.data.segments.units()
    }

    pub fn device(self) -> &'a Cuda {
        &self.data.cuda
    }

    pub(super) fn eight_bit(self) -> bool {
        matches!(self.data.values, Stored::U8(_))
    }

    /// Whether any value of the data set is missing.
    pub fn has_missing(self) -> bool {
        self.data.missing.len() > 0
    }

    fn address(self) -> u64 {
        let first = self.first * self.units();
        match &self.data.values {
            Stored::U8(values) => values.ptr().offset(first).address,
            Stored::F32(values) => values.ptr().offset(first).address,
        }
    }

    /// The address of the mask of missing values, or null.
    fn missing(self) -> u64 {
        self.data.missing.ptr().offset(self.first * words(self.units())).address
    }

    /// The kernels' argument for these rows, once the cursor points at them.
    pub(super) fn argument(self, cursor: &Cursor) -> Result<RowsArgument> {
        Ok(RowsArgument {
            place: cursor.rows(),
            missing: if self.has_missing() { cursor.missing() } else { Ptr::NULL },
            rows: count("rows", self.rows)?,
            stride: count("units", self.units())?,
            eight_bit: u32::from(self.eight_bit()),
        })
    }

    /// Scratch for the rows as numbers, for a product.
    pub(super) fn numbers(self, product: bool) -> Result<Buffer<f32>> {
        Buffer::zeros(self.device().stream(), if product { self.rows * stride(self.units()) } else { 0 })
    }
}

/// The addresses of rows and of their mask and the bit that the kernels read, and the address of the batch's hidden means.
#[derive(Debug)]
pub(super) struct Cursor(Buffer<u64>);

impl Cursor {
    /// A cursor that points at nothing.
    pub fn new(cuda: &Cuda) -> Result<Self> {
        Buffer::zeros(cuda.stream(), 4).map(Self)
    }

    /// A cursor at some rows and one of their bits.
    pub fn at(batch: Batch<'_>, bit: usize) -> Result<Self> {
        let new = Self::new(batch.device())?;
        new.point(batch, bit)?;
        Ok(new)
    }

    /// Points the kernels that follow at some rows and one of their bits.
    pub fn point(&self, batch: Batch<'_>, bit: usize) -> Result<()> {
        let cuda = batch.device();
        let (rows, missing) = (batch.address(), batch.missing());
        cuda.run().begin(cuda.stream(), Grid::new(1, 1), self.rows(), rows, missing, bit as u32)
    }

    /// Sets the address of the batch's hidden means, and resets the rest.
    pub fn keep_means(&mut self, cuda: &Cuda, means: Ptr<f32>) -> Result<()> {
        self.0.write(cuda.stream(), &[0, 0, 0, means.address])
    }

    pub fn rows(&self) -> Ptr<u64> {
        self.0.ptr()
    }

    pub fn missing(&self) -> Ptr<u64> {
        self.0.ptr().offset(1)
    }

    pub fn bit(&self) -> Ptr<u32> {
        self.0.ptr().offset(2).cast()
    }

    pub fn means(&self) -> Ptr<u64> {
        self.0.ptr().offset(3)
    }
}
