//! Gradient and update on the device: one pass over the weights.

use super::{
    Cuda, launch,
    launch::{Buffer, Grid, Ptr, Statistics, Step},
    memory::{Batch, Chains, Numbers, Parameters, Work, blocks, count, pad, rows_of, threads, tiles_of},
};
use crate::{
    backend::{Gradient, Layer, Shape, Watch},
    error::Result,
};

impl Cuda {
    pub(super) fn update(
        &self, parameters: &mut Parameters, batch: Batch<'_>, chains: &Chains, work: &mut Work, lr: f32,
    ) -> Result<()> {
        let statistics = self.statistics(batch, chains, work)?;
        let shape = parameters.shape;
        let to = parameters.numbers.own(self.stream())?.arguments(shape);
        self.learn(statistics, to, Step { update: 1, lr })
    }

    pub(super) fn gradient(
        &self, parameters: &Parameters, batch: Batch<'_>, chains: &Chains, work: &mut Work, out: &mut Gradient,
    ) -> Result<()> {
        let statistics = self.statistics(batch, chains, work)?;
        self.gradient_to_host(parameters.shape, out, |to, step| self.learn(statistics, to, step))
    }

    pub(super) fn free_energy_gradient(
        &self, parameters: &Parameters, rows: Batch<'_>, weights: &[f32], work: &mut Work, out: &mut Gradient,
    ) -> Result<()> {
        let shape = parameters.shape;
        self.make_room(shape, rows.rows, Watch::Nothing, work)?;
        self.begin(&work.turn, rows, 0)?;
        let row_weights = Buffer::of(self.stream(), weights)?;
        let up = parameters.side(Layer::Visible);
        let batch = rows_of(rows, &work.turn)?;
        let (grid, positive, none) = (Grid::new(batch.rows, threads(up.made)), work.positive.ptr(), Ptr::NULL);
        self.run().propagate(self.stream(), grid, up, batch, 0, none, Ptr::NULL, none, positive, Ptr::NULL)?;
        let statistics = Statistics {
            rows: batch,
            row_weights: row_weights.ptr(),
            positive,
            visible: Ptr::NULL,
            negative: Ptr::NULL,
            chains: 0,
            positive_scale: 1.0,
            negative_scale: 0.0,
        };
        self.gradient_to_host(shape, out, |to, step| self.learn(statistics, to, step))
    }

    pub(super) fn apply(&self, parameters: &mut Parameters, gradient: &Gradient, lr: f32) -> Result<()> {
        let (stream, shape) = (self.stream(), parameters.shape);
        let numbers = parameters.numbers.own(stream)?;
        for (to, gradient) in [
            (&numbers.weights, pad(&gradient.weights, shape.n_hidden())),
            (&numbers.visible_bias, gradient.visible_bias.clone()),
            (&numbers.hidden_bias, gradient.hidden_bias.clone()),
        ] {
            let n = gradient.len();
            let gradient = Buffer::of(stream, &gradient)?;
            let grid = Grid::new(blocks("parameters", n)?, 256);
            self.run().descend(stream, grid, to.ptr(), gradient.ptr(), lr, n as u64)?;
        }
        self.transpose(numbers, shape)
    }

    pub(super) fn transpose(&self, numbers: &Numbers, shape: Shape) -> Result<()> {
        let arguments = numbers.arguments(shape);
        self.run().transpose(self.stream(), tiles_of(&arguments)?, arguments)
    }

    /// θ ← θ - lr·gradient, or the gradient alone, from the statistics.
    fn learn(&self, statistics: Statistics, to: launch::Parameters, step: Step) -> Result<()> {
        self.run().learn(self.stream(), tiles_of(&to)?, statistics, to, step)
    }

    /// The gradient that `learn` puts into some room, on the host.
    pub(super) fn gradient_to_host(
        &self, shape: Shape, out: &mut Gradient, learn: impl FnOnce(launch::Parameters, Step) -> Result<()>,
    ) -> Result<()> {
        let numbers = Numbers::new(self.stream(), shape, &[], &[], &[])?;
        learn(launch::Parameters { transposed: Ptr::NULL, ..numbers.arguments(shape) }, Step { update: 0, lr: 0.0 })?;
        numbers.read(self.stream(), shape, &mut out.weights, &mut out.visible_bias, &mut out.hidden_bias)
    }

    /// The statistics of the phases that were run last.
    pub(super) fn statistics(&self, batch: Batch<'_>, chains: &Chains, work: &Work) -> Result<Statistics> {
        Ok(Statistics {
            rows: rows_of(batch, &work.turn)?,
            row_weights: Ptr::NULL,
            positive: work.positive.ptr(),
            visible: chains.states.visible.ptr(),
            negative: chains.states.hidden_mean.ptr(),
            chains: count("chains", chains.betas.len())?,
            positive_scale: 1.0 / batch.rows as f32,
            negative_scale: 1.0 / chains.betas.len() as f32,
        })
    }
}
