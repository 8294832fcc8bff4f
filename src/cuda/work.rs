//! The scratch of an update besides parameters, data and chains: reused, so that only the first update allocates.

use super::{
    buffer::Buffer,
    data::{Batch, Cursor},
    failure::failed,
    handle::Cuda,
    launch::{Graph, wait_for_memory},
    sizes::stride,
    visible::Scaled,
};
use crate::{error::Result, shape::Shape, verbs::Watch};
use cudarc::driver::CudaStream;
use std::sync::Arc;

/// Scratch of the monitor.
#[derive(Debug)]
pub(super) struct Scratch {
    /// The monitored quantity of each row of the batch.
    pub values: Buffer<f64>,
    /// Only for some monitors: pre-activations, their means on and off, the terms of every bit.
    pub pre: Buffer<f32>,
    pub means: Buffer<f32>,
    pub terms: Buffer<f64>,
}

impl Scratch {
    pub const EMPTY: Self =
        Self { values: Buffer::EMPTY, pre: Buffer::EMPTY, means: Buffer::EMPTY, terms: Buffer::EMPTY };

    /// Grows the scratch for `rows` rows, whose sums are products if `product`.
    pub fn grow(
        &mut self, stream: &Arc<CudaStream>, shape: Shape, rows: usize, watch: Watch, product: bool,
    ) -> Result<()> {
        let (visible, hidden) = (rows * stride(shape.n_visible()), rows * stride(shape.n_hidden()));
        let (pre, means, terms) = match watch {
            Watch::Site(_) if !shape.visible().is_binary() => (hidden, 0, rows * shape.n_visible()),
            Watch::AllSites => (hidden, 2 * hidden, rows * shape.n_visible()),
            Watch::Reconstruction => (visible, 0, 0),
            Watch::Site(_) if product => (hidden, 0, 0),
            Watch::Site(_) | Watch::Nothing => (0, 0, 0),
        };
        self.values.grow(stream, rows)?;
        self.pre.grow(stream, pre)?;
        self.means.grow(stream, means)?;
        self.terms.grow(stream, terms)?;
        Ok(())
    }
}

/// A captured update, and the sizes and addresses at its capture. It can be repeated as long as they are the same.
#[derive(Debug)]
pub(super) struct Captured {
    pub key: [u64; 35],
    /// None after the first launches, which are not recorded.
    pub graph: Option<Graph>,
}

/// The scratch of an update.
#[derive(Debug)]
pub struct CudaWork {
    pub(super) cursor: Cursor,
    /// P, the hidden means of the batch.
    pub(super) positive: Buffer<f32>,
    /// The batch's rows times the precisions of Gaussian units.
    pub(super) scaled: Scaled,
    /// The batch's rows and the chains' visible states as numbers, for products.
    pub(super) numbers: [Buffer<f32>; 2],
    pub(super) scratch: Scratch,
    /// The sum over updates of the monitor's mean over rows.
    pub(super) watched: Buffer<f64>,
    /// Streams that only record: the main branch of the graph, and the parallel one.
    pub(super) recorder: Arc<CudaStream>,
    pub(super) branch: Arc<CudaStream>,
    pub(super) captured: Option<Captured>,
}

impl CudaWork {
    pub(super) fn new(cuda: &Cuda) -> Result<Self> {
        wait_for_memory(cuda.stream())?;
        let stream = || cuda.opened().context.new_stream().map_err(failed("creation of a stream"));
        Ok(Self {
            cursor: Cursor::new(cuda)?,
            positive: Buffer::EMPTY,
            scaled: Scaled::EMPTY,
            numbers: [Buffer::EMPTY, Buffer::EMPTY],
            scratch: Scratch::EMPTY,
            watched: Buffer::zeros(cuda.stream(), 1)?,
            recorder: stream()?,
            branch: stream()?,
            captured: None,
        })
    }

    /// Grows the scratch for a batch, and points the cursor at it.
    pub(super) fn begin(&mut self, shape: Shape, batch: Batch<'_>, watch: Watch, product: bool) -> Result<()> {
        let (cuda, rows) = (batch.device(), batch.len());
        if self.positive.grow(cuda.stream(), rows * stride(shape.n_hidden()))? {
            self.cursor.keep_means(cuda, self.positive.ptr())?;
        }
        self.scaled.grow(cuda.stream(), shape, rows)?;
        self.scratch.grow(cuda.stream(), shape, rows, watch, product)?;
        self.grow_numbers(cuda, shape, if product { [rows, 0] } else { [0, 0] })?;
        self.cursor.point(batch, if let Watch::Site(bit) = watch { bit } else { 0 })
    }

    /// Grows the memory for the visible states of `n` rows and chains as numbers.
    pub(super) fn grow_numbers(&mut self, cuda: &Cuda, shape: Shape, n: [usize; 2]) -> Result<()> {
        for (numbers, n) in self.numbers.iter_mut().zip(n) {
            numbers.grow(cuda.stream(), n * stride(shape.n_visible()))?;
        }
        Ok(())
    }
}
