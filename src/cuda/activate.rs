//! Conditionals on the device: one layer from rows of the other.

use super::{
    Cuda,
    launch::{Buffer, Grid, Ptr},
    memory::{Batch, Parameters, count, rows_of, stride, strip, threads, unpack, words},
};
use crate::{
    backend::{Activations, Layer},
    error::Result,
    uniforms::Uniforms,
};
use cudarc::driver::CudaStream;
use std::sync::Arc;

impl Cuda {
    pub(super) fn activate(
        &self, parameters: &Parameters, given: Layer, rows: Batch<'_>, draws: Option<&mut Uniforms>,
        out: &mut Activations,
    ) -> Result<()> {
        let stream = self.stream();
        let side = parameters.side(given);
        let turn = self.turn_to(rows, 0)?;
        let made = Made::new(stream, rows.rows, parameters.shape.units(given.other()), draws.as_deref())?;
        let grid = Grid::new(count("rows", rows.rows)?, threads(side.made));
        let rows = rows_of(rows, &turn)?;
        let (pre, mean, sample) = (made.pre.ptr(), made.mean.ptr(), made.sample.ptr());
        self.run().propagate(stream, grid, side, rows, 0, Ptr::NULL, made.generator(), pre, mean, sample)?;
        made.read(stream, draws, out)
    }
}

/// A layer that is made for the host.
pub(super) struct Made {
    rows: usize,
    units: usize,
    generator: Option<Buffer<u64>>,
    pub pre: Buffer<f32>,
    pub mean: Buffer<f32>,
    pub sample: Buffer<u32>,
}

impl Made {
    /// Room for it.
    pub fn new(stream: &Arc<CudaStream>, rows: usize, units: usize, draws: Option<&Uniforms>) -> Result<Self> {
        Ok(Self {
            rows,
            units,
            generator: draws.map(|draws| Buffer::of(stream, &[draws.state()])).transpose()?,
            pre: Buffer::zeros(stream, rows * stride(units))?,
            mean: Buffer::zeros(stream, rows * stride(units))?,
            sample: Buffer::zeros(stream, rows * words(units))?,
        })
    }

    /// The generator's state where the draws begin; null where nothing is drawn.
    pub fn generator(&self) -> Ptr<u64> {
        self.generator.as_ref().map_or(Ptr::NULL, Buffer::ptr)
    }

    /// Takes it to the host and moves the sequence on.
    pub fn read(&self, stream: &Arc<CudaStream>, draws: Option<&mut Uniforms>, out: &mut Activations) -> Result<()> {
        strip(&self.pre.read(stream)?, self.units, &mut out.pre_activation);
        strip(&self.mean.read(stream)?, self.units, &mut out.mean);
        if let Some(draws) = draws {
            unpack(&self.sample.read(stream)?, self.units, &mut out.sample);
            draws.skip((self.rows * self.units) as u64);
        }
        Ok(())
    }
}
