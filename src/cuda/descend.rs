//! Updates by rules of descent on the device; [`descent`](crate::descent) has the formulas.
//!
//! Three kernels: the first, over rows and chains, computes the centred means and two numbers for each row; the second is over the
//! units of both layers; the third is over the weights, a block per tile as in a plain update. With sums by products, two products
//! and a pass that makes the step replace the third one.

use super::{
    arguments::{RuleArgument, StatisticsArgument},
    blas::Matrix,
    buffer::{Buffer, Ptr},
    data::Batch,
    handle::Cuda,
    launch::Grid,
    learn::LEARN_TILE,
    memory::{CudaChains, CudaParameters, Numbers},
    sizes::{block_of_weights, count, pad, sixteen_a_row, stride, strip, thread_a_number},
    work::CudaWork,
};
use crate::{
    descent::{Pace, RuleState, slide},
    error::Result,
    lanes::One,
    rbm::Gradient,
    shape::Shape,
};
use cudarc::driver::CudaStream;
use std::sync::Arc;

/// The units per block of the kernel `descend_biases`.
const UNITS_A_BLOCK: u32 = 64;

/// The state of the rules of descent on the device, and the intermediate results of an update.
#[derive(Debug)]
pub struct CudaRule {
    /// μ, λ and q.
    visible_offset: Buffer<f32>,
    hidden_offset: Buffer<f32>,
    hidden_mean: Buffer<f32>,
    velocity: Option<Numbers>,
    /// The centres of the visible units, and ĝ.
    centre: Buffer<f32>,
    slope: Buffer<f32>,
    /// P̂ and N̂, rows × stride.
    centred: [Buffer<f32>; 2],
    /// a and d of the rows and then of the chains.
    factors: [Buffer<f32>; 2],
    /// The products of P̂ and N̂ with the visible units, in the layout of the weights, if products compute them.
    products: Buffer<f32>,
}

impl CudaRule {
    pub(super) fn new(stream: &Arc<CudaStream>, shape: Shape, state: &RuleState) -> Result<Self> {
        let (nv, nh) = (shape.n_visible(), shape.n_hidden());
        let velocity = state.velocity.as_ref().map(|velocity| {
            let mut numbers = Numbers::gradient(stream, shape)?;
            numbers.weights.write(stream, &pad(&velocity.weights, nh))?;
            numbers.visible_bias.write(stream, &velocity.visible_bias)?;
            numbers.hidden_bias.write(stream, &velocity.hidden_bias)?;
            Ok(numbers)
        });
        Ok(Self {
            visible_offset: Buffer::of(stream, &pad(&state.visible_offset, nv))?,
            hidden_offset: Buffer::of(stream, &pad(&state.hidden_offset, nh))?,
            hidden_mean: Buffer::of(stream, &pad(&state.hidden_mean, nh))?,
            velocity: velocity.transpose()?,
            centre: Buffer::zeros(stream, stride(nv))?,
            slope: Buffer::zeros(stream, stride(nh))?,
            centred: [Buffer::EMPTY, Buffer::EMPTY],
            factors: [Buffer::EMPTY, Buffer::EMPTY],
            products: Buffer::EMPTY,
        })
    }

    pub(super) fn state(&self, stream: &Arc<CudaStream>, shape: Shape) -> Result<RuleState> {
        let layer = |numbers: &Buffer<f32>, units: usize| {
            let mut values = vec![0.0; units];
            strip(&numbers.read(stream)?, units, &mut values);
            Ok(values)
        };
        let velocity = self.velocity.as_ref().map(|numbers| {
            let mut values = Gradient::zero(shape);
            let Gradient { weights, visible_bias, hidden_bias, .. } = &mut values;
            numbers.read(stream, shape, weights, visible_bias, hidden_bias)?;
            Ok(values)
        });
        Ok(RuleState {
            visible_offset: layer(&self.visible_offset, shape.n_visible())?,
            hidden_offset: layer(&self.hidden_offset, shape.n_hidden())?,
            hidden_mean: layer(&self.hidden_mean, shape.n_hidden())?,
            velocity: velocity.transpose()?,
        })
    }

    /// Grows the scratch for `n` rows and chains.
    fn grow(&mut self, stream: &Arc<CudaStream>, shape: Shape, n: [usize; 2], product: bool) -> Result<()> {
        let width = stride(shape.n_hidden());
        for (centred, n) in self.centred.iter_mut().zip(n) {
            centred.grow(stream, n * width)?;
        }
        for factors in &mut self.factors {
            factors.grow(stream, n[0] + n[1])?;
        }
        self.products.grow(stream, if product { shape.n_visible() * width } else { 0 })?;
        Ok(())
    }

    fn argument(&self) -> RuleArgument {
        let velocity = |of: fn(&Numbers) -> &Buffer<f32>| self.velocity.as_ref().map_or(Ptr::NULL, |all| of(all).ptr());
        RuleArgument {
            visible_offset: self.visible_offset.ptr(),
            hidden_offset: self.hidden_offset.ptr(),
            hidden_mean: self.hidden_mean.ptr(),
            weights_velocity: velocity(|all| &all.weights),
            visible_velocity: velocity(|all| &all.visible_bias),
            hidden_velocity: velocity(|all| &all.hidden_bias),
            centre: self.centre.ptr(),
            slope: self.slope.ptr(),
            positive: self.centred[0].ptr(),
            negative: self.centred[1].ptr(),
            visible_factors: self.factors[0].ptr(),
            hidden_factors: self.factors[1].ptr(),
        }
    }
}

impl Cuda {
    pub(super) fn descend_by_rule(
        &self, parameters: &mut CudaParameters, batch: Batch<'_>, chains: &CudaChains, work: &mut CudaWork,
        rule: &mut CudaRule, pace: Pace,
    ) -> Result<()> {
        let (run, stream, shape, n) = (self.run(), self.stream(), parameters.shape, [batch.len(), chains.len()]);
        let blas = self.blas_for_rows(n[0] + n[1]);
        rule.grow(stream, shape, n, blas.is_some())?;
        let (statistics, of_rule) = (work.statistics(batch, chains)?, rule.argument());
        let to = parameters.numbers.own(stream)?.argument(shape);
        let rows = count("rows and chains", 2 * (n[0] + n[1]))?;
        run.count_from_offsets(stream, sixteen_a_row(rows), statistics, to, of_rule, pace)?;
        let centred = StatisticsArgument { positive: of_rule.positive, negative: of_rule.negative, ..statistics };
        let blocks = to.n_hidden.div_ceil(UNITS_A_BLOCK) + to.n_visible.div_ceil(UNITS_A_BLOCK);
        run.descend_biases(stream, Grid::new(blocks, UNITS_A_BLOCK), centred, to, of_rule, pace)?;
        let Some(blas) = blas else {
            let grid = block_of_weights(&to, LEARN_TILE)?;
            return match centred.has_numbers() {
                false => run.descend_weights(stream, grid, centred, to, of_rule, pace),
                true => run.descend_weights_from_numbers(stream, grid, centred, to, of_rule, pace),
            };
        };
        work.grow_numbers(self, shape, n)?;
        let gradient = Matrix::new(rule.products.ptr(), to.n_visible, to.n_hidden, to.weights_stride);
        self.multiply_phases(blas, centred, to, [1.0, 0.0], gradient, work)?;
        let grid = thread_a_number("weights", rule.products.len())?;
        run.descend_by_products(stream, grid, rule.products.ptr(), to, of_rule, pace)?;
        self.transpose(to)
    }

    /// θ ← θ + part·(to - θ), for both layouts of the weights.
    pub(super) fn approach_parameters(
        &self, parameters: &mut CudaParameters, to: &CudaParameters, part: f32,
    ) -> Result<()> {
        let stream = self.stream();
        let (numbers, laws, to) = (parameters.numbers.own(stream)?, &to.laws, &to.numbers);
        for (numbers, to) in [
            (&numbers.weights, &to.weights),
            (&numbers.transposed, &to.transposed),
            (&numbers.visible_bias, &to.visible_bias),
            (&numbers.hidden_bias, &to.hidden_bias),
        ] {
            let n = numbers.len();
            self.run().approach(stream, thread_a_number("parameters", n)?, numbers.ptr(), to.ptr(), part, n as u64)?;
        }
        let next = parameters.laws.as_ref().zip(laws.as_ref()).filter(|(laws, _)| !laws.log_variance.is_empty());
        let next = next.map(|(from, to)| {
            let numbers = from.log_variance.iter().zip(&to.log_variance);
            numbers.map(|(&old, &to)| slide(One, old, to, part)).collect()
        });
        next.map_or(Ok(()), |next| self.set_log_variance(parameters, next))
    }
}
