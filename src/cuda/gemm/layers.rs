//! One layer from numbers of the other: a product and the kernel that makes the rest.

use super::{CudaGemm, LEAST_ROWS, blas::Matrix};
use crate::{
    backend::{Activations, Layer},
    cuda::{
        activate::Made,
        launch::{self, Buffer, Grid, Ptr, Side},
        memory::{Batch, Parameters, count, rows_of, stride, threads},
    },
    error::Result,
    uniforms::Uniforms,
};
use cudarc::driver::CudaStream;

/// As many rows does a block of the kernel `activate` make.
const ROWS_A_BLOCK: u32 = 8;

/// What becomes of the sums of a layer: null for what is not wanted.
#[derive(Clone, Copy)]
pub(super) struct Outcome {
    /// The inverse temperature of each row, or of all where `beta_step` is 0; null for 1.
    pub betas: Ptr<f32>,
    pub beta_step: u32,
    /// Null where nothing is drawn, and how many numbers to leave out before the draw.
    pub generator: Ptr<u64>,
    pub first: u64,
    pub pre: Ptr<f32>,
    pub means: Ptr<f32>,
    /// The samples as numbers and as bits.
    pub states: Ptr<f32>,
    pub bits: Ptr<u32>,
}

impl Outcome {
    pub const NOTHING: Self = Self {
        betas: Ptr::NULL,
        beta_step: 1,
        generator: Ptr::NULL,
        first: 0,
        pre: Ptr::NULL,
        means: Ptr::NULL,
        states: Ptr::NULL,
        bits: Ptr::NULL,
    };
}

/// A block of at most 256 threads for so many units of so many rows.
fn tiles(units: u32, rows: u32, rows_a_block: u32) -> Result<Grid> {
    let threads = threads(units).min(256);
    let blocks = units.div_ceil(threads) as usize * rows.div_ceil(rows_a_block) as usize;
    Ok(Grid::new(count("units of all rows", blocks)?, threads))
}

impl CudaGemm {
    /// out ← rows of data as numbers, rows × stride; rounded to bits, or times the weight of each row unless null.
    pub(super) fn numbers_of_rows(
        &self, stream: &CudaStream, rows: launch::Rows, round: bool, weights: Ptr<f32>, out: Ptr<f32>,
    ) -> Result<()> {
        let (grid, to) = (tiles(rows.stride, rows.rows, 1)?, stride(rows.stride as usize) as u32);
        self.cuda.run().numbers_of_rows(stream, grid, rows, u32::from(round), weights, out, to)
    }

    /// The same from packed bits.
    pub(super) fn numbers_of_bits(
        &self, stream: &CudaStream, bits: Ptr<u32>, rows: u32, units: u32, out: Ptr<f32>,
    ) -> Result<()> {
        let (grid, to) = (tiles(units, rows, 1)?, stride(units as usize) as u32);
        self.cuda.run().numbers_of_bits(stream, grid, bits, units, out, to)
    }

    /// sums ← states·weights: the sums that `rows` rows of the given layer make.
    pub(super) fn sums(
        &self, stream: &CudaStream, side: Side, states: Ptr<f32>, rows: u32, sums: Ptr<f32>,
    ) -> Result<()> {
        let given = stride(side.given as usize) as u32;
        let states = Matrix::new(states, rows, side.given, given);
        let weights = Matrix::new(side.weights, side.given, side.made, side.stride);
        let sums = Matrix::new(sums, rows, side.made, side.stride);
        self.blas.multiply(stream, self.tf32, 1.0, states, weights, 0.0, sums)
    }

    /// The rest of the layer. What it makes may stand where the sums do.
    pub(super) fn finish_layer(
        &self, stream: &CudaStream, side: Side, rows: u32, sums: Ptr<f32>, outcome: Outcome,
    ) -> Result<()> {
        let Outcome { betas, beta_step, generator, first, pre, means, states, bits } = outcome;
        let (run, grid) = (self.cuda.run(), tiles(side.made, rows, ROWS_A_BLOCK)?);
        run.activate(stream, grid, side, rows, sums, betas, beta_step, generator, first, pre, means, states, bits)
    }

    pub(super) fn activate(
        &self, parameters: &Parameters, given: Layer, rows: Batch<'_>, draws: Option<&mut Uniforms>,
        out: &mut Activations,
    ) -> Result<()> {
        if !self.is_worth(rows.rows, LEAST_ROWS) {
            return self.cuda.activate(parameters, given, rows, draws, out);
        }
        let stream = self.cuda.stream();
        let side = parameters.side(given);
        let turn = self.cuda.turn_to(rows, 0)?;
        let numbers = Buffer::zeros(stream, rows.rows * stride(rows.units))?;
        let made = Made::new(stream, rows.rows, parameters.shape.units(given.other()), draws.as_deref())?;
        let rows = rows_of(rows, &turn)?;
        let pre = made.pre.ptr();
        self.numbers_of_rows(stream, rows, false, Ptr::NULL, numbers.ptr())?;
        self.sums(stream, side, numbers.ptr(), rows.rows, pre)?;
        let (means, bits, generator) = (made.mean.ptr(), made.sample.ptr(), made.generator());
        let outcome = Outcome { generator, pre, means, bits, ..Outcome::NOTHING };
        self.finish_layer(stream, side, rows.rows, pre, outcome)?;
        made.read(stream, draws, out)
    }
}
