//! Free energies and pseudo-likelihoods from products.

use super::{CudaGemm, LEAST_ROWS, layers::Outcome};
use crate::{
    backend::Layer,
    cuda::{
        launch::{self, Buffer, Ptr},
        memory::{Batch, Parameters, rows_of, sixteen_a_row, stride},
    },
    error::Result,
};
use cudarc::driver::CudaStream;

impl CudaGemm {
    pub(super) fn free_energy(&self, parameters: &Parameters, rows: Batch<'_>, out: &mut [f64]) -> Result<()> {
        if !self.is_worth(rows.rows, LEAST_ROWS) {
            return self.cuda.free_energy(parameters, rows, out);
        }
        let stream = self.cuda.stream();
        let (up, down) = (parameters.side(Layer::Visible), parameters.side(Layer::Hidden));
        let turn = self.cuda.turn_to(rows, 0)?;
        let numbers = Buffer::zeros(stream, rows.rows * stride(rows.units))?;
        let sums = Buffer::zeros(stream, rows.rows * up.stride as usize)?;
        let values = Buffer::zeros(stream, rows.rows)?;
        let rows = rows_of(rows, &turn)?;
        self.numbers_of_rows(stream, rows, false, Ptr::NULL, numbers.ptr())?;
        self.sums(stream, up, numbers.ptr(), rows.rows, sums.ptr())?;
        let (run, grid) = (self.cuda.run(), sixteen_a_row(rows.rows));
        run.free_energy_of_sums(stream, grid, up, rows, down.bias, sums.ptr(), values.ptr())?;
        out.copy_from_slice(&values.read(stream)?);
        Ok(())
    }

    pub(super) fn pseudo_log_likelihood(
        &self, parameters: &Parameters, rows: Batch<'_>, bit: Option<usize>, out: &mut [f64],
    ) -> Result<()> {
        if !self.is_worth(rows.rows, LEAST_ROWS) {
            return self.cuda.pseudo_log_likelihood(parameters, rows, bit, out);
        }
        let stream = self.cuda.stream();
        let turn = self.cuda.turn_to(rows, bit.unwrap_or(0))?;
        let (n, up) = (rows.rows, parameters.side(Layer::Visible));
        let numbers = Buffer::zeros(stream, n * stride(rows.units))?;
        let pre = Buffer::zeros(stream, n * up.stride as usize)?;
        let values = Buffer::zeros(stream, n)?;
        let batch = rows_of(rows, &turn)?;
        let numbers = numbers.ptr();
        match bit {
            Some(_) => {
                self.launch_bit(stream, parameters, batch, turn.bit(), numbers, pre.ptr(), values.ptr())?;
            }
            None => {
                let means = Buffer::zeros(stream, 2 * n * up.stride as usize)?;
                let terms = Buffer::zeros(stream, n * rows.units)?;
                let scratch = [pre.ptr(), means.ptr()];
                self.launch_all_bits(stream, parameters, batch, numbers, scratch, terms.ptr(), values.ptr())?;
            }
        }
        out.copy_from_slice(&values.read(stream)?);
        Ok(())
    }

    /// The pseudo-likelihood's term of one bit. `numbers`: room for rows × n_visible, `sums` for rows × n_hidden.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn launch_bit(
        &self, stream: &CudaStream, parameters: &Parameters, rows: launch::Rows, bit: Ptr<u32>, numbers: Ptr<f32>,
        sums: Ptr<f32>, out: Ptr<f64>,
    ) -> Result<()> {
        let (up, down) = (parameters.side(Layer::Visible), parameters.side(Layer::Hidden));
        self.numbers_of_rows(stream, rows, true, Ptr::NULL, numbers)?;
        self.sums(stream, up, numbers, rows.rows, sums)?;
        let (run, grid) = (self.cuda.run(), sixteen_a_row(rows.rows));
        run.pseudo_likelihood_of_sums(stream, grid, up, rows, down.bias, bit, sums, out)
    }

    /// That of all bits. `scratch`: room for rows × n_hidden once and twice, `terms` for rows × n_visible.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn launch_all_bits(
        &self, stream: &CudaStream, parameters: &Parameters, rows: launch::Rows, numbers: Ptr<f32>,
        scratch: [Ptr<f32>; 2], terms: Ptr<f64>, out: Ptr<f64>,
    ) -> Result<()> {
        let (up, down) = (parameters.side(Layer::Visible), parameters.side(Layer::Hidden));
        let pre = scratch[0];
        self.numbers_of_rows(stream, rows, true, Ptr::NULL, numbers)?;
        self.sums(stream, up, numbers, rows.rows, pre)?;
        self.finish_layer(stream, up, rows.rows, pre, Outcome { pre, ..Outcome::NOTHING })?;
        self.cuda.launch_bits_of_pre(stream, up, rows, down.bias, scratch, terms, out)
    }
}
