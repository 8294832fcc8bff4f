//! Gradient and update from the statistics of both phases: by one kernel, or by a product for each phase and a kernel for the
//! biases.

use super::{
    arguments::{MeansArgument, ParametersArgument, RowsArgument, StatisticsArgument, StepArgument},
    blas::{Blas, Matrix},
    buffer::{Buffer, Ptr},
    data::Batch,
    descend::CudaRule,
    handle::Cuda,
    launch::Grid,
    memory::{CudaChains, CudaParameters, Numbers},
    sizes::{block_of_weights, count, pad, thread_a_number},
    work::CudaWork,
};
use crate::{
    descent::Pace,
    error::Result,
    rbm::Gradient,
    shape::{Layer, Shape},
    units::gaussian,
    verbs::{BatchMeans, Learning},
};

/// Visible and hidden units per block of the kernels `learn` and `descend_weights`.
pub(super) const LEARN_TILE: [u32; 2] = [8, 64];

impl CudaWork {
    /// The statistics of the last positive phase.
    pub(super) fn positive_statistics(&self, batch: Batch<'_>) -> Result<StatisticsArgument> {
        Ok(StatisticsArgument {
            rows: self.scaled.argument(batch.argument(&self.cursor)?),
            row_weights: Ptr::NULL,
            positive: self.positive.ptr(),
            visible: Ptr::NULL,
            negative: Ptr::NULL,
            chains: 0,
            positive_scale: 1.0 / batch.len() as f32,
            negative_scale: 0.0,
            ends: RowsArgument::NONE,
        })
    }

    /// Those of both phases.
    pub(super) fn statistics(&self, batch: Batch<'_>, chains: &CudaChains) -> Result<StatisticsArgument> {
        Ok(StatisticsArgument {
            visible: chains.states.visible.ptr().cast(),
            ends: if chains.shape.visible().is_binary() { RowsArgument::NONE } else { chains.rows(Layer::Visible)? },
            negative: chains.states.hidden_mean.ptr(),
            chains: count("chains", chains.len())?,
            negative_scale: 1.0 / chains.len() as f32,
            ..self.positive_statistics(batch)?
        })
    }
}

impl Learning for Cuda {
    fn batch_means(&self, batch: Batch<'_>, work: &mut CudaWork, shape: Shape, out: &mut BatchMeans) -> Result<()> {
        // The biases of the positive phase's gradient are the negative means.
        let statistics = StatisticsArgument { rows: batch.argument(&work.cursor)?, ..work.positive_statistics(batch)? };
        let mut gradient = Gradient::zero(shape);
        self.read_gradient(shape, statistics, work, &mut gradient)?;
        let negated = |bias: Vec<f32>| bias.into_iter().map(|x| 0.0 - x).collect();
        *out = BatchMeans { visible: negated(gradient.visible_bias), hidden: negated(gradient.hidden_bias) };
        Ok(())
    }

    fn gradient(
        &self, parameters: &CudaParameters, batch: Batch<'_>, chains: &CudaChains, work: &mut CudaWork,
        out: &mut Gradient,
    ) -> Result<()> {
        let statistics = work.statistics(batch, chains)?;
        let numbers = self.read_gradient(parameters.shape, statistics, work, out)?;
        self.variance_gradients(parameters, batch.argument(&work.cursor)?, chains, &numbers, out)
    }

    fn update(
        &self, parameters: &mut CudaParameters, batch: Batch<'_>, chains: &CudaChains, work: &mut CudaWork, lr: f32,
    ) -> Result<()> {
        let statistics = work.statistics(batch, chains)?;
        let to = parameters.numbers.own(self.stream())?.argument(parameters.shape);
        self.learn(parameters.shape, statistics, to, StepArgument { update: 1, lr }, work)
    }

    fn descend(
        &self, parameters: &mut CudaParameters, batch: Batch<'_>, chains: &CudaChains, work: &mut CudaWork,
        rule: &mut CudaRule, pace: Pace,
    ) -> Result<()> {
        self.descend_by_rule(parameters, batch, chains, work, rule, pace)
    }

    fn learn_variance(&self, parameters: &mut CudaParameters, gradient: &[f32], lr: f32) -> Result<()> {
        let Some(laws) = &parameters.laws else { return Ok(()) };
        let numbers = laws.log_variance.iter().zip(gradient);
        let next = numbers.map(|(&log, &gradient)| gaussian::stepped(log, gradient, lr)).collect();
        self.set_log_variance(parameters, next)
    }

    fn approach(&self, parameters: &mut CudaParameters, to: &CudaParameters, share: f32) -> Result<()> {
        self.approach_parameters(parameters, to, share)
    }

    fn apply(&self, parameters: &mut CudaParameters, gradient: &Gradient, lr: f32) -> Result<()> {
        let (stream, shape) = (self.stream(), parameters.shape);
        let to = parameters.numbers.own(stream)?.argument(shape);
        let weights = pad(&gradient.weights, shape.n_hidden());
        for (to, gradient) in
            [(to.weights, &weights), (to.visible_bias, &gradient.visible_bias), (to.hidden_bias, &gradient.hidden_bias)]
        {
            let (n, grid) = (gradient.len(), thread_a_number("parameters", gradient.len())?);
            self.run().descend(stream, grid, to, Buffer::of(stream, gradient)?.ptr(), lr, n as u64)?;
        }
        self.transpose(to)
    }
}

impl Cuda {
    /// θ ← θ - lr·gradient, or without `step.update` the gradient alone, from the statistics.
    pub(super) fn learn(
        &self, shape: Shape, s: StatisticsArgument, to: ParametersArgument, step: StepArgument, work: &mut CudaWork,
    ) -> Result<()> {
        let n = [s.rows.rows, s.chains].map(|n| n as usize);
        let Some(blas) = self.blas_for_rows(n[0] + n[1]) else {
            let grid = block_of_weights(&to, LEARN_TILE)?;
            return match s.has_numbers() {
                false => self.run().learn(self.stream(), grid, s, to, step),
                true => self.run().learn_from_numbers(self.stream(), grid, s, to, step),
            };
        };
        work.grow_numbers(self, shape, n)?;
        self.learn_by_products(blas, s, to, step, work)?;
        if to.transposed.address == 0 { Ok(()) } else { self.transpose(to) }
    }

    fn learn_by_products(
        &self, blas: &Blas, s: StatisticsArgument, to: ParametersArgument, step: StepArgument, work: &CudaWork,
    ) -> Result<()> {
        let (stream, [rows, ends]) = (self.stream(), [0, 1].map(|phase| work.numbers[phase].ptr()));
        let (nv, nh) = (to.n_visible, to.n_hidden);
        let weights = Matrix::new(to.weights, nv, nh, to.weights_stride);
        let factors = if step.update == 1 { [-step.lr, 1.0] } else { [1.0, 0.0] };
        self.multiply_phases(blas, s, to, factors, weights, work)?;
        let means = MeansArgument {
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
        self.run().learn_bias(stream, grid(nv), means, to.visible_bias, step)?;
        let means = MeansArgument {
            positive: s.positive,
            row_weights: s.row_weights,
            negative: s.negative,
            units: nh,
            stride: to.weights_stride,
            ..means
        };
        self.run().learn_bias(stream, grid(nh), means, to.hidden_bias, step)
    }

    /// out ← factor·gradient of the weights + old·out, by a product for each phase. Leaves in `work` the rows, each times its
    /// weight, and the chains' visible states as numbers.
    pub(super) fn multiply_phases(
        &self, blas: &Blas, s: StatisticsArgument, to: ParametersArgument, [factor, old]: [f32; 2], out: Matrix,
        work: &CudaWork,
    ) -> Result<()> {
        let (stream, [rows, ends]) = (self.stream(), [0, 1].map(|phase| work.numbers[phase].ptr()));
        let product = |factor: f32, n: u32, states, means, old: f32| {
            let states = Matrix::new(states, n, to.n_visible, to.transposed_stride);
            let means = Matrix::new(means, n, to.n_hidden, to.weights_stride);
            blas.multiply(stream, factor, states.t(), means, old, out)
        };
        self.numbers_of_rows(stream, s.rows, false, s.row_weights, rows)?;
        product(-factor * s.positive_scale, s.rows.rows, rows, s.positive, old)?;
        if s.chains > 0 {
            match s.has_numbers() {
                false => self.numbers_of_bits(stream, s.visible, s.chains, to.n_visible, ends)?,
                true => self.numbers_of_rows(stream, s.ends, false, Ptr::NULL, ends)?,
            }
            product(factor * s.negative_scale, s.chains, ends, s.negative, 1.0)?;
        }
        Ok(())
    }

    /// The gradient of the statistics, on the host, and on the device for the caller.
    pub(super) fn read_gradient(
        &self, shape: Shape, statistics: StatisticsArgument, work: &mut CudaWork, out: &mut Gradient,
    ) -> Result<Numbers> {
        let numbers = Numbers::gradient(self.stream(), shape)?;
        self.learn(shape, statistics, numbers.argument(shape), StepArgument { update: 0, lr: 0.0 }, work)?;
        numbers.read(self.stream(), shape, &mut out.weights, &mut out.visible_bias, &mut out.hidden_bias)?;
        Ok(numbers)
    }
}
