//! Free energies and pseudo-likelihoods on the device.

use super::{
    arguments::StatisticsArgument,
    blas::Blas,
    buffer::{Buffer, Ptr},
    data::{Batch, Cursor},
    handle::Cuda,
    launch::Grid,
    layers::{Given, Outcome},
    memory::CudaParameters,
    sizes::{block_a_row, sixteen_a_row, stride, thread_a_number},
    work::{CudaWork, Scratch},
};
use crate::{
    error::Result,
    rbm::Gradient,
    shape::Layer,
    verbs::{Energies, Watch},
};
use cudarc::driver::CudaStream;

impl Energies for Cuda {
    fn free_energy(&self, parameters: &CudaParameters, rows: Batch<'_>, out: &mut [f64]) -> Result<()> {
        let (stream, run, n) = (self.stream(), self.run(), rows.len());
        let (up, bias) = (parameters.side(Layer::Visible), parameters.side(Layer::Hidden).bias);
        let (cursor, values) = (Cursor::at(rows, 0)?, Buffer::zeros(stream, n)?);
        let own = rows.argument(&cursor)?;
        let (scaled, argument) = self.scaled(parameters, rows, own)?;
        let laws = parameters.laws.as_ref().filter(|_| scaled.numbers.len() > 0);
        // If some visible energies are not products with the biases, compute the hidden units' terms first, with biases 0.
        let (all, bias) = (bias, if laws.is_some() { parameters.side(Layer::Hidden).to_sums().bias } else { bias });
        match self.blas_for_rows(n) {
            None => run.free_energy(stream, block_a_row(argument.rows, up.made), up, argument, bias, values.ptr())?,
            Some(blas) => {
                let (numbers, sums) = (rows.numbers(true)?, Buffer::zeros(stream, n * up.stride as usize)?);
                self.sums_by_product(stream, blas, up, Given::new(argument, &numbers), sums.ptr())?;
                let grid = sixteen_a_row(argument.rows);
                run.free_energy_of_sums(stream, grid, up, argument, bias, sums.ptr(), values.ptr())?;
            }
        }
        if let Some(laws) = laws {
            self.own_energies(stream, laws.argument(), own, all, values.ptr())?;
        }
        out.copy_from_slice(&values.read(stream)?);
        Ok(())
    }

    fn free_energy_gradient(
        &self, parameters: &CudaParameters, rows: Batch<'_>, work: &mut CudaWork, weights: &[f32], out: &mut Gradient,
    ) -> Result<()> {
        let (shape, blas) = (parameters.shape, self.blas_for_rows(rows.len()));
        work.begin(shape, rows, Watch::Nothing, blas.is_some())?;
        let row_weights = Buffer::of(self.stream(), weights)?;
        let own = rows.argument(&work.cursor)?;
        let argument = self.scale(self.stream(), parameters, own, &work.scaled)?;
        let given = Given::new(argument, &work.numbers[0]);
        let means = Outcome { means: work.positive.ptr(), ..Outcome::NOTHING };
        self.compute_layer(self.stream(), blas, parameters.side(Layer::Visible), given, means)?;
        let statistics = StatisticsArgument {
            row_weights: row_weights.ptr(),
            positive_scale: 1.0,
            ..work.positive_statistics(rows)?
        };
        let gradient = self.read_gradient(shape, statistics, work, out)?;
        self.own_gradients(parameters, own, row_weights.ptr(), &gradient, out)
    }

    fn pseudo_log_likelihood(
        &self, parameters: &CudaParameters, rows: Batch<'_>, bit: Option<usize>, out: &mut [f64],
    ) -> Result<()> {
        let (stream, blas) = (self.stream(), self.blas_for_rows(rows.len()));
        let (cursor, numbers) = (Cursor::at(rows, bit.unwrap_or(0))?, rows.numbers(blas.is_some())?);
        let mut scratch = Scratch::EMPTY;
        scratch.grow(stream, parameters.shape, rows.len(), bit.map_or(Watch::AllSites, Watch::Site), blas.is_some())?;
        let given = Given::new(rows.argument(&cursor)?, &numbers);
        self.launch_pseudo_likelihood(stream, blas, parameters, given, bit.map(|_| cursor.bit()), &scratch)?;
        out.copy_from_slice(&scratch.values.read(stream)?);
        Ok(())
    }
}

impl Cuda {
    /// The pseudo-likelihood of each row: of all bits, or n_visible times the term of one.
    pub(super) fn launch_pseudo_likelihood(
        &self, stream: &CudaStream, blas: Option<&Blas>, parameters: &CudaParameters, given: Given,
        bit: Option<Ptr<u32>>, scratch: &Scratch,
    ) -> Result<()> {
        const BITS: u32 = 16;
        let (run, given) = (self.run(), Given { round: true, ..given });
        let (up, bias) = (parameters.side(Layer::Visible), parameters.side(Layer::Hidden).bias);
        let (rows, pre, values) = (given.rows, scratch.pre.ptr(), scratch.values.ptr());
        let laws = parameters.laws.as_ref().map(|laws| laws.argument());
        if let (Some(_), Some(laws)) = (bit, laws) {
            self.compute_layer(stream, blas, up, given, Outcome { pre, ..Outcome::NOTHING })?;
            return self.pseudo_likelihood_by_laws(stream, parameters, laws, given, bit, scratch);
        }
        match (bit, blas) {
            (Some(bit), None) => {
                let grid = block_a_row(rows.rows, up.made);
                run.pseudo_likelihood_of_bit(stream, grid, up, rows, bias, bit, values)
            }
            (Some(bit), Some(blas)) => {
                self.sums_by_product(stream, blas, up, given, pre)?;
                let grid = sixteen_a_row(rows.rows);
                run.pseudo_likelihood_of_sums(stream, grid, up, rows, bias, bit, pre, values)
            }
            (None, blas) => {
                self.compute_layer(stream, blas, up, given, Outcome { pre, ..Outcome::NOTHING })?;
                let n = rows.rows as usize * stride(up.made as usize);
                let (on, terms, each) = (scratch.means.ptr(), scratch.terms.ptr(), thread_a_number("numbers", n)?);
                let off = on.offset(n);
                run.elementwise(stream, each, pre, 0, on, n as u64)?;
                run.elementwise(stream, each, pre, 1, off, n as u64)?;
                let grid = Grid { slices: up.given.div_ceil(BITS).min(1024), ..Grid::new(rows.rows, 16 * BITS) };
                run.pseudo_likelihood_of_bits(stream, grid, up, rows, bias, pre, on, off, terms)?;
                if let Some(laws) = laws {
                    return self.pseudo_likelihood_by_laws(stream, parameters, laws, given, None, scratch);
                }
                run.sum_terms(stream, Grid::new(rows.rows.div_ceil(128), 128), terms, rows.rows, up.given, values)
            }
        }
    }
}
