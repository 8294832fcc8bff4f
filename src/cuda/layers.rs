//! One layer from rows of the other: by the kernel `propagate`, or by a product and the kernel `activate`.

use super::{
    arguments::{RowsArgument, SideArgument},
    blas::{Blas, Matrix},
    buffer::{Buffer, Ptr},
    data::{Batch, Cursor},
    handle::Cuda,
    memory::CudaParameters,
    sizes::{block_a_row, block_of_rows, stride, strip, words},
    visible::Scaled,
};
use crate::{
    error::Result,
    shape::Layer,
    uniforms::Uniforms,
    verbs::{Activations, Conditionals, unpack},
};
use cudarc::driver::CudaStream;

/// The rows per block of the kernel `activate`.
const ROWS_A_BLOCK: u32 = 8;

/// The rows from which a layer is computed.
#[derive(Clone, Copy)]
pub(super) struct Given {
    pub rows: RowsArgument,
    /// Whether values count as 1 from 0.5 on, and as 0 below.
    pub round: bool,
    /// Memory for the rows as numbers, rows × stride, which a product reads.
    pub numbers: Ptr<f32>,
    /// Whether the numbers are already there.
    pub ready: bool,
}

impl Given {
    /// Rows unchanged, with memory for their numbers.
    pub fn new(rows: RowsArgument, numbers: &Buffer<f32>) -> Self {
        Self { rows, round: false, numbers: numbers.ptr(), ready: false }
    }
}

/// The results of a layer: null for those that are not needed.
#[derive(Clone, Copy)]
pub(super) struct Outcome {
    /// The inverse temperature of each row, or of all if `beta_step` is 0; null for 1.
    pub betas: Ptr<f32>,
    pub beta_step: u32,
    /// Null if nothing is drawn; and the number of random numbers to skip before the draw.
    pub generator: Ptr<u64>,
    pub first: u64,
    pub pre: Ptr<f32>,
    pub means: Ptr<f32>,
    /// The samples as numbers, as hidden layers read those of visible units (s·v, only by [`Cuda::activate_visible`]), and as
    /// bits.
    pub states: Ptr<f32>,
    pub scaled: Ptr<f32>,
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
        scaled: Ptr::NULL,
        bits: Ptr::NULL,
    };
}

impl Cuda {
    /// Computes a layer, by the sums of cuBLAS if given. Then `to` must have pre-activations or means, whose memory takes the sums.
    /// `states` and `first` are only for layers that are computed from sums.
    pub(super) fn compute_layer(
        &self, stream: &CudaStream, blas: Option<&Blas>, side: SideArgument, given: Given, to: Outcome,
    ) -> Result<()> {
        let Outcome { betas, generator, pre, means, bits, .. } = to;
        let Given { rows, round, .. } = given;
        let Some(blas) = blas else {
            let (run, grid) = (self.run(), block_a_row(rows.rows, side.made));
            return run.propagate(stream, grid, side, rows, u32::from(round), betas, generator, pre, means, bits);
        };
        let sums = if pre.address == 0 { means } else { pre };
        self.sums_by_product(stream, blas, side, given, sums)?;
        self.activate(stream, side, rows.rows, sums, to)
    }

    /// Computes the sums of a layer alone, of either kind.
    pub(super) fn compute_sums(
        &self, stream: &CudaStream, blas: Option<&Blas>, side: SideArgument, given: Given, sums: Ptr<f32>,
    ) -> Result<()> {
        match blas {
            Some(blas) => self.sums_by_product(stream, blas, side, given, sums),
            None => self.compute_layer(stream, None, side.to_sums(), given, Outcome { pre: sums, ..Outcome::NOTHING }),
        }
    }

    /// The same by a product.
    pub(super) fn sums_by_product(
        &self, stream: &CudaStream, blas: &Blas, side: SideArgument, given: Given, sums: Ptr<f32>,
    ) -> Result<()> {
        if !given.ready {
            self.numbers_of_rows(stream, given.rows, given.round, Ptr::NULL, given.numbers)?;
        }
        self.multiply(stream, blas, side, given.numbers, given.rows.rows, sums)
    }

    /// out ← rows of data as numbers, rows × stride; rounded to bits, or times the weight of each row unless null.
    pub(super) fn numbers_of_rows(
        &self, stream: &CudaStream, rows: RowsArgument, round: bool, weights: Ptr<f32>, out: Ptr<f32>,
    ) -> Result<()> {
        let (grid, to) = (block_of_rows(rows.stride, rows.rows, 1)?, stride(rows.stride as usize) as u32);
        self.run().numbers_of_rows(stream, grid, rows, u32::from(round), weights, out, to)
    }

    /// The same from packed bits.
    pub(super) fn numbers_of_bits(
        &self, stream: &CudaStream, bits: Ptr<u32>, rows: u32, units: u32, out: Ptr<f32>,
    ) -> Result<()> {
        let (grid, to) = (block_of_rows(units, rows, 1)?, stride(units as usize) as u32);
        self.run().numbers_of_bits(stream, grid, bits, units, out, to)
    }

    /// sums ← states·weights, for `rows` rows of states of the given layer as numbers.
    pub(super) fn multiply(
        &self, stream: &CudaStream, blas: &Blas, side: SideArgument, states: Ptr<f32>, rows: u32, sums: Ptr<f32>,
    ) -> Result<()> {
        let given = stride(side.given as usize) as u32;
        let states = Matrix::new(states, rows, side.given, given);
        let weights = Matrix::new(side.weights, side.given, side.made, side.stride);
        blas.multiply(stream, 1.0, states, weights, 0.0, Matrix::new(sums, rows, side.made, side.stride))
    }

    /// The rest of a layer, from its sums. Its results may overwrite them.
    pub(super) fn activate(
        &self, stream: &CudaStream, side: SideArgument, rows: u32, sums: Ptr<f32>, to: Outcome,
    ) -> Result<()> {
        let Outcome { betas, beta_step, generator, first, pre, means, states, bits, .. } = to;
        let grid = block_of_rows(side.made, rows, ROWS_A_BLOCK)?;
        self.run()
            .activate(stream, grid, side, rows, sums, betas, beta_step, generator, first, pre, means, states, bits)
    }
}

impl Conditionals for Cuda {
    fn conditional(
        &self, parameters: &CudaParameters, rows: Batch<'_>, given: Layer, draws: Option<&mut Uniforms>,
        out: &mut Activations,
    ) -> Result<()> {
        let (stream, n, units) = (self.stream(), rows.len(), parameters.shape.units(given.other()));
        let (cursor, blas) = (Cursor::at(rows, 0)?, self.blas_for_rows(n));
        let numbers = rows.numbers(blas.is_some())?;
        let generator = Buffer::of(stream, draws.as_ref().map(|draws| draws.state()).as_slice())?;
        let (pre, means) = (Buffer::zeros(stream, n * stride(units))?, Buffer::zeros(stream, n * stride(units))?);
        let bits = Buffer::<u64>::zeros(stream, if draws.is_some() { n * words(units) } else { 0 })?;
        let to = Outcome {
            generator: generator.ptr(),
            pre: pre.ptr(),
            means: means.ptr(),
            bits: bits.ptr().cast(),
            ..Outcome::NOTHING
        };
        let (side, argument) = (parameters.side(given), rows.argument(&cursor)?);
        let mut states = Buffer::EMPTY;
        match parameters.laws.as_ref().filter(|_| given == Layer::Hidden) {
            None => {
                let (_room, argument) = match given {
                    Layer::Visible => self.scaled(parameters, rows, argument)?,
                    Layer::Hidden => (Scaled::EMPTY, argument),
                };
                self.compute_layer(stream, blas, side, Given::new(argument, &numbers), to)?;
            }
            Some(laws) => {
                states.grow(stream, if draws.is_some() { pre.len() } else { 0 })?;
                let to = Outcome { states: states.ptr(), ..to };
                self.compute_sums(stream, blas, side, Given::new(argument, &numbers), pre.ptr())?;
                self.activate_visible(stream, side, laws.argument(), argument.rows, pre.ptr(), to)?;
            }
        }
        strip(&pre.read(stream)?, units, &mut out.pre_activation);
        strip(&means.read(stream)?, units, &mut out.mean);
        if let Some(draws) = draws {
            match states.len() {
                0 => unpack(&bits.read(stream)?, units, &mut out.sample),
                _ => strip(&states.read(stream)?, units, &mut out.sample),
            }
            draws.skip((n * units) as u64);
        }
        Ok(())
    }
}
