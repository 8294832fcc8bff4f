//! Gradient and update by products: the weights by cuBLAS, in place; the biases by a kernel.

use super::{CudaGemm, LEAST_ROWS, blas::Matrix, layers::Outcome};
use crate::{
    backend::{Gradient, Layer, Shape, Watch},
    cuda::{
        launch::{self, Buffer, Grid, Ptr, Statistics, Step},
        memory::{Batch, Chains, Parameters, Work, rows_of, stride, tiles_of},
    },
    error::Result,
};

impl CudaGemm {
    pub(super) fn update(
        &self, parameters: &mut Parameters, batch: Batch<'_>, chains: &Chains, work: &mut Work, lr: f32,
    ) -> Result<()> {
        if !self.is_worth(batch.rows + chains.betas.len(), LEAST_ROWS) {
            return self.cuda.update(parameters, batch, chains, work, lr);
        }
        let (stream, shape) = (self.cuda.stream(), parameters.shape);
        let statistics = self.cuda.statistics(batch, chains, work)?;
        let to = parameters.numbers.own(stream)?.arguments(shape);
        self.make_numbers(shape, batch.rows, chains.betas.len(), work)?;
        self.learn(statistics, to, Step { update: 1, lr }, work)?;
        self.cuda.run().transpose(stream, tiles_of(&to)?, to)
    }

    pub(super) fn gradient(
        &self, parameters: &Parameters, batch: Batch<'_>, chains: &Chains, work: &mut Work, out: &mut Gradient,
    ) -> Result<()> {
        if !self.is_worth(batch.rows + chains.betas.len(), LEAST_ROWS) {
            return self.cuda.gradient(parameters, batch, chains, work, out);
        }
        let shape = parameters.shape;
        let statistics = self.cuda.statistics(batch, chains, work)?;
        self.make_numbers(shape, batch.rows, chains.betas.len(), work)?;
        self.cuda.gradient_to_host(shape, out, |to, step| self.learn(statistics, to, step, work))
    }

    pub(super) fn free_energy_gradient(
        &self, parameters: &Parameters, rows: Batch<'_>, weights: &[f32], work: &mut Work, out: &mut Gradient,
    ) -> Result<()> {
        if !self.is_worth(rows.rows, LEAST_ROWS) {
            return self.cuda.free_energy_gradient(parameters, rows, weights, work, out);
        }
        let (stream, shape) = (self.cuda.stream(), parameters.shape);
        self.cuda.make_room(shape, rows.rows, Watch::Nothing, work)?;
        self.make_numbers(shape, rows.rows, 0, work)?;
        self.cuda.begin(&work.turn, rows, 0)?;
        let row_weights = Buffer::of(stream, weights)?;
        let (up, rows, positive) = (parameters.side(Layer::Visible), rows_of(rows, &work.turn)?, work.positive.ptr());
        self.numbers_of_rows(stream, rows, false, Ptr::NULL, work.numbers[0].ptr())?;
        self.sums(stream, up, work.numbers[0].ptr(), rows.rows, positive)?;
        self.finish_layer(stream, up, rows.rows, positive, Outcome { means: positive, ..Outcome::NOTHING })?;
        let statistics = Statistics {
            rows,
            row_weights: row_weights.ptr(),
            positive,
            visible: Ptr::NULL,
            negative: Ptr::NULL,
            chains: 0,
            positive_scale: 1.0,
            negative_scale: 0.0,
        };
        self.cuda.gradient_to_host(shape, out, |to, step| self.learn(statistics, to, step, work))
    }

    /// Room for the visible states of the batch and of the chains as numbers.
    pub(super) fn make_numbers(&self, shape: Shape, rows: usize, chains: usize, work: &mut Work) -> Result<()> {
        for (numbers, n) in work.numbers.iter_mut().zip([rows, chains]) {
            let len = n * stride(shape.n_visible());
            if numbers.len() < len {
                *numbers = Buffer::zeros(self.cuda.stream(), len)?;
            }
        }
        Ok(())
    }

    /// θ ← θ - lr·gradient, or the gradient alone, from the statistics. Does not transpose the weights.
    fn learn(&self, s: Statistics, to: launch::Parameters, step: Step, work: &Work) -> Result<()> {
        let stream = self.cuda.stream();
        let [rows, ends] = [0, 1].map(|phase| work.numbers[phase].ptr());
        let (nv, nh) = (to.n_visible, to.n_hidden);
        let weights = Matrix::new(to.weights, nv, nh, to.weights_stride);
        let product = |factor: f32, n: u32, states, means, beta: f32| {
            let states = Matrix::new(states, n, nv, to.transposed_stride);
            let means = Matrix::new(means, n, nh, to.weights_stride);
            self.blas.multiply(stream, self.tf32, factor, states.t(), means, beta, weights)
        };
        let (descent, old) = if step.update == 1 { (-step.lr, 1.0) } else { (1.0, 0.0) };
        // Each row's weight goes into its numbers, and so once into every product and into the visible bias.
        self.numbers_of_rows(stream, s.rows, false, s.row_weights, rows)?;
        product(-descent * s.positive_scale, s.rows.rows, rows, s.positive, old)?;
        if s.chains > 0 {
            self.numbers_of_bits(stream, s.visible, s.chains, nv, ends)?;
            product(descent * s.negative_scale, s.chains, ends, s.negative, 1.0)?;
        }
        let means = launch::Means {
            positive: rows,
            row_weights: Ptr::NULL,
            negative: ends,
            rows: s.rows.rows,
            chains: s.chains,
            units: nv,
            stride: to.transposed_stride,
            positive_scale: s.positive_scale,
            negative_scale: s.negative_scale,
        };
        let grid = |units: u32| Grid::new(units.div_ceil(32), 1024);
        self.cuda.run().learn_bias(stream, grid(nv), means, to.visible_bias, step)?;
        let means = launch::Means {
            positive: s.positive,
            row_weights: s.row_weights,
            negative: s.negative,
            units: nh,
            stride: to.weights_stride,
            ..means
        };
        self.cuda.run().learn_bias(stream, grid(nh), means, to.hidden_bias, step)
    }
}
