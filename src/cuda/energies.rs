//! Free energies and pseudo-likelihoods on the device.

use super::{
    Cuda, launch,
    launch::{Buffer, Grid, Ptr, Side},
    memory::{Batch, Parameters, blocks, count, rows_of, threads},
};
use crate::{backend::Layer, error::Result};
use cudarc::driver::CudaStream;

impl Cuda {
    pub(super) fn free_energy(&self, parameters: &Parameters, rows: Batch<'_>, out: &mut [f64]) -> Result<()> {
        let (up, down) = (parameters.side(Layer::Visible), parameters.side(Layer::Hidden));
        let turn = self.turn_to(rows, 0)?;
        let values = Buffer::zeros(self.stream(), rows.rows)?;
        let grid = Grid::new(count("rows", rows.rows)?, threads(up.made));
        self.run().free_energy(self.stream(), grid, up, rows_of(rows, &turn)?, down.bias, values.ptr())?;
        out.copy_from_slice(&values.read(self.stream())?);
        Ok(())
    }

    pub(super) fn pseudo_log_likelihood(
        &self, parameters: &Parameters, rows: Batch<'_>, bit: Option<usize>, out: &mut [f64],
    ) -> Result<()> {
        let stream = self.stream();
        let (up, down) = (parameters.side(Layer::Visible), parameters.side(Layer::Hidden));
        let turn = self.turn_to(rows, bit.unwrap_or(0))?;
        let (n, units) = (rows.rows, rows.units);
        let rows = rows_of(rows, &turn)?;
        let values = Buffer::zeros(stream, n)?;
        let run = self.run();
        match bit {
            Some(_) => {
                let grid = Grid::new(rows.rows, threads(up.made));
                run.pseudo_likelihood_of_bit(stream, grid, up, rows, down.bias, turn.bit(), values.ptr())?;
            }
            None => {
                let pre = Buffer::zeros(stream, n * up.stride as usize)?;
                let means = Buffer::zeros(stream, 2 * n * up.stride as usize)?;
                let terms = Buffer::zeros(stream, n * units)?;
                let scratch = [pre.ptr(), means.ptr()];
                self.launch_all_bits(stream, up, rows, down.bias, scratch, terms.ptr(), values.ptr())?;
            }
        }
        out.copy_from_slice(&values.read(stream)?);
        Ok(())
    }

    /// The pseudo-likelihood of all bits. `scratch`: room for rows × n_hidden once and twice, `terms` for rows × n_visible.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn launch_all_bits(
        &self, stream: &CudaStream, up: Side, rows: launch::Rows, visible_bias: Ptr<f32>, scratch: [Ptr<f32>; 2],
        terms: Ptr<f64>, out: Ptr<f64>,
    ) -> Result<()> {
        let (grid, pre, none) = (Grid::new(rows.rows, threads(up.made)), scratch[0], Ptr::NULL);
        self.run().propagate(stream, grid, up, rows, 1, none, Ptr::NULL, pre, none, Ptr::NULL)?;
        self.launch_bits_of_pre(stream, up, rows, visible_bias, scratch, terms, out)
    }

    /// The same from the hidden pre-activations of the rounded rows, which stand in the first of `scratch`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn launch_bits_of_pre(
        &self, stream: &CudaStream, up: Side, rows: launch::Rows, visible_bias: Ptr<f32>, scratch: [Ptr<f32>; 2],
        terms: Ptr<f64>, out: Ptr<f64>,
    ) -> Result<()> {
        const BITS: u32 = 16;
        let (run, [pre, on]) = (self.run(), scratch);
        let n = u64::from(rows.rows) * u64::from(up.stride);
        let off = on.offset(n as usize);
        let each = Grid::new(blocks("numbers", n as usize)?, 256);
        run.elementwise(stream, each, pre, 0, on, n)?;
        run.elementwise(stream, each, pre, 1, off, n)?;
        let grid = Grid { slices: up.given.div_ceil(BITS).min(1024), ..Grid::new(rows.rows, 16 * BITS) };
        run.pseudo_likelihood_of_bits(stream, grid, up, rows, visible_bias, pre, on, off, terms)?;
        run.sum_terms(stream, Grid::new(rows.rows.div_ceil(128), 128), terms, rows.rows, up.given, out)
    }
}
