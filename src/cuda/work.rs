//! What an update needs besides parameters, data and chains: reused, so that only the first one allocates.

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

/// Room for what is watched.
#[derive(Debug)]
pub(super) struct Scratch {
    /// What was watched, for each row of the batch.
    pub values: Buffer<f64>,
    /// What only some monitors need: pre-activations, their means on and off, the terms of every bit.
    pub pre: Buffer<f32>,
    pub means: Buffer<f32>,
    pub terms: Buffer<f64>,
}

impl Scratch {
    pub const EMPTY: Self =
        Self { values: Buffer::EMPTY, pre: Buffer::EMPTY, means: Buffer::EMPTY, terms: Buffer::EMPTY };

    /// Room for so many rows, whose sums a product makes or not.
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

/// A captured update, and what it was captured with: sizes and addresses. Where those are the same it can be repeated.
#[derive(Debug)]
pub(super) struct Captured {
    pub key: [u64; 35],
    /// None where the launches were made once, but not recorded yet.
    pub graph: Option<Graph>,
}

/// What an update needs besides parameters, data and chains.
#[derive(Debug)]
pub struct CudaWork {
    pub(super) cursor: Cursor,
    /// P, the hidden means of the batch.
    pub(super) positive: Buffer<f32>,
    /// The batch's rows times the precisions of Gaussian units.
    pub(super) scaled: Scaled,
    /// The batch's rows and the chains' visible states as numbers, where products read them.
    pub(super) numbers: [Buffer<f32>; 2],
    pub(super) scratch: Scratch,
    /// The sum over updates of the mean of what was watched.
    pub(super) watched: Buffer<f64>,
    /// Only record: what comes one after the other, and what goes beside it.
    pub(super) recorder: Arc<CudaStream>,
    pub(super) beside: Arc<CudaStream>,
    pub(super) captured: Option<Captured>,
}

impl CudaWork {
    pub(super) fn new(cuda: &Cuda) -> Result<Self> {
        wait_for_memory(cuda.stream())?;
        let stream = || cuda.opened().context.new_stream().map_err(failed("making of a stream"));
        Ok(Self {
            cursor: Cursor::new(cuda)?,
            positive: Buffer::EMPTY,
            scaled: Scaled::EMPTY,
            numbers: [Buffer::EMPTY, Buffer::EMPTY],
            scratch: Scratch::EMPTY,
            watched: Buffer::zeros(cuda.stream(), 1)?,
            recorder: stream()?,
            beside: stream()?,
            captured: None,
        })
    }

    /// Room for a batch, and the cursor at it.
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

    /// Room for the visible states of so many rows and so many chains as numbers.
    pub(super) fn grow_numbers(&mut self, cuda: &Cuda, shape: Shape, n: [usize; 2]) -> Result<()> {
        for (numbers, n) in self.numbers.iter_mut().zip(n) {
            numbers.grow(cuda.stream(), n * stride(shape.n_visible()))?;
        }
        Ok(())
    }
}
