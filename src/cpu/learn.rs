//! Gradient and update on the CPU: one pass over the hidden means, split by tiles of hidden units, and one over the weights, split
//! by tiles of visible units.
//!
//! For each weight, let x be the data, v⁻ the chains' visible bits, and P and N the hidden means given these. pos = Σ_r x_ri·P_rj
//! over the rows and neg = Σ_m v⁻_mi·N_mj over the chains, each from 0 in ascending order by fused multiply-add, as in `sums`. The
//! gradient is fma(neg, 1/M, -(pos·(1/B))), and the new weight is fma(-lr, gradient, weight). A worker owns all weights of a
//! visible tile in both copies, so it also writes the transposed ones.

use super::{
    blocks::{TileScratch, transpose_block, with_scratch},
    chains::CpuChains,
    descend::CpuRule,
    host::Cpu,
    parameters::CpuParameters,
    statistics::{CpuWork, Panels, Scales, Statistics, own_gradients, squares_about},
    sums::Terms,
    tiles::{Row, TILE, VECTORS, tiles, vectors},
};
use crate::{
    descent::Pace,
    error::Result,
    lanes::{
        LANES, Wide, dispatch,
        threads::{RowsMut, in_parts, share, share_pieces},
    },
    rbm::Gradient,
    rows::Rows,
    shape::Shape,
    units::gaussian,
    verbs::{BatchMeans, Learning},
};

/// The operation on the parameters.
#[derive(Clone, Copy)]
enum Target {
    /// Overwrites them with the gradient.
    Gradient,
    /// θ ← θ - lr·gradient.
    Update { lr: f32 },
}

impl Target {
    /// Whether a gradient of 0 leaves every number unchanged. With a negative rate -0 would become 0.
    fn keeps_at_rest(self) -> bool {
        matches!(self, Target::Update { lr } if lr.is_sign_positive())
    }

    #[inline(always)]
    fn of(self, parameter: f32, gradient: f32) -> f32 {
        match self {
            Target::Gradient => gradient,
            Target::Update { lr } => (-lr).mul_add(gradient, parameter),
        }
    }
}

impl Learning for Cpu {
    fn batch_means(&self, batch: Rows<'_>, work: &mut CpuWork, shape: Shape, out: &mut BatchMeans) -> Result<()> {
        let (width, share_of_one) = (tiles(shape.n_hidden()), 1.0 / batch.len() as f32);
        let own = self.part.range(width);
        out.visible.resize(shape.n_visible(), 0.0);
        out.hidden.resize(shape.n_hidden(), 0.0);
        share(RowsMut::new(TILE, &mut out.visible), &|part| {
            in_parts(part, 1, |tile| {
                with_scratch(|TileScratch { rows, .. }| {
                    rows.take_columns(*self, batch, tile.first, &[], None);
                    tile.values.iter_mut().enumerate().for_each(|(i, mean)| *mean = rows.total(i) * share_of_one);
                });
            });
        });
        for (tile, means) in (0..).zip(out.hidden.chunks_mut(TILE)).skip(own.start).take(own.len()) {
            let rows = || work.positive[tile..].iter().step_by(width).map(Row::units);
            for (j, mean) in means.iter_mut().enumerate() {
                *mean = rows().fold(0.0, |sum, row| sum + row[j]) * share_of_one;
            }
        }
        Ok(())
    }

    fn gradient(
        &self, parameters: &CpuParameters, batch: Rows<'_>, chains: &CpuChains, work: &mut CpuWork, out: &mut Gradient,
    ) -> Result<()> {
        self.gradient_of_phases(parameters, batch, chains, work, out);
        self.gradient_of_variance(parameters, batch, chains, out);
        Ok(())
    }

    fn learn_variance(&self, parameters: &mut CpuParameters, gradient: &[f32], lr: f32) -> Result<()> {
        let numbers = parameters.log_variance.iter().zip(gradient);
        let next = numbers.map(|(&log, &gradient)| gaussian::stepped(log, gradient, lr)).collect();
        parameters.set_log_variance(next);
        Ok(())
    }

    fn update(
        &self, parameters: &mut CpuParameters, batch: Rows<'_>, chains: &CpuChains, work: &mut CpuWork, lr: f32,
    ) -> Result<()> {
        let precision = std::mem::take(&mut parameters.precision);
        let statistics = Statistics::of_update(batch, &work.positive, chains, &precision);
        let (shape, target) = (parameters.shape, Target::Update { lr });
        let biases = RowsMut::new(1, &mut parameters.hidden_bias);
        let (positive, negative) = work.panels.of(statistics, tiles(shape.n_hidden()));
        let size = VECTORS * (positive.values.len() + negative.values.len());
        share_pieces(self.own((biases, positive, negative)), size, &|job| {
            in_parts(job, 1, |(bias, positive, negative)| {
                hidden_tile(
                    self.isa,
                    bias.first,
                    positive.values,
                    negative.values,
                    statistics,
                    target,
                    &mut bias.values[0],
                );
            });
        });
        let (panels, blocks, rows) = (&work.panels, parameters.blocks, parameters.block_rows());
        let own = self.part.range(tiles(shape.n_hidden()));
        let weights = RowsMut::new(rows, &mut parameters.weights);
        let transposed = RowsMut::new(rows, &mut parameters.transposed);
        let grid = parameters.grid.parts(rows);
        let size = statistics.size(weights.values.len());
        share_pieces((RowsMut::new(1, &mut parameters.visible_bias), weights, transposed, grid), size, &|job| {
            in_parts(job, 1, |(bias, weights, transposed, mut grid)| {
                with_scratch(|scratch| {
                    let tile = VisibleTile { cpu: *self, shape, tile: bias.first, statistics, panels, target };
                    let idle = tile.prepare(scratch, bias.values[0].units_mut());
                    blocks.each(own.clone(), weights.values, transposed.values, |hidden, weights, step, transposed| {
                        tile.learn(scratch, hidden, idle, weights, step, transposed);
                        transpose_block(self.isa, weights, transposed, vectors(shape.n_hidden(), hidden), idle);
                        if let Some(grid) = &mut grid {
                            grid.round(hidden, weights, transposed, idle);
                        }
                    });
                });
            });
        });
        parameters.renew_grid();
        parameters.precision = precision;
        Ok(())
    }

    fn descend(
        &self, parameters: &mut CpuParameters, batch: Rows<'_>, chains: &CpuChains, work: &mut CpuWork,
        rule: &mut CpuRule, pace: Pace,
    ) -> Result<()> {
        self.descend_by_rule(parameters, batch, chains, work, rule, pace);
        Ok(())
    }

    fn approach(&self, parameters: &mut CpuParameters, to: &CpuParameters, share: f32) -> Result<()> {
        self.approach_parameters(parameters, to, share);
        Ok(())
    }

    fn apply(&self, parameters: &mut CpuParameters, gradient: &Gradient, lr: f32) -> Result<()> {
        let (shape, target) = (parameters.shape, Target::Update { lr });
        let (units, blocks, rows) = (shape.n_hidden(), parameters.blocks, parameters.block_rows());
        let biases = [
            (&mut parameters.visible_bias, &gradient.visible_bias),
            (&mut parameters.hidden_bias, &gradient.hidden_bias),
        ];
        for (parameters, gradient) in biases {
            let parameters = parameters.iter_mut().flat_map(Row::units_mut);
            parameters.zip(gradient).for_each(|(parameter, &g)| *parameter = target.of(*parameter, g));
        }
        let weights = RowsMut::new(rows, &mut parameters.weights);
        let grid = parameters.grid.parts(rows);
        let size = 3 * VECTORS * weights.values.len();
        share_pieces((weights, RowsMut::new(rows, &mut parameters.transposed), grid), size, &|job| {
            in_parts(job, 1, |(weights, transposed, mut grid)| {
                let rows = gradient.weights[weights.first * TILE * units..].chunks_exact(units).take(TILE);
                blocks.each(0..tiles(units), weights.values, transposed.values, |hidden, weights, step, transposed| {
                    let columns = hidden * TILE..units.min((hidden + 1) * TILE);
                    for (row, gradient) in weights.iter_mut().step_by(step).zip(rows.clone()) {
                        descend(self.isa, row, &gradient[columns.clone()], lr);
                    }
                    transpose_block(self.isa, weights, transposed, vectors(units, hidden), 0);
                    if let Some(grid) = &mut grid {
                        grid.round(hidden, weights, transposed, 0);
                    }
                });
            });
        });
        parameters.renew_grid();
        Ok(())
    }
}

impl Cpu {
    /// The gradient without that of ln σ².
    pub(super) fn gradient_of_phases(
        &self, parameters: &CpuParameters, batch: Rows<'_>, chains: &CpuChains, work: &mut CpuWork, out: &mut Gradient,
    ) {
        let statistics = Statistics::of_update(batch, &work.positive, chains, &parameters.precision);
        gradient(*self, parameters.shape, statistics, &mut work.panels, out);
    }

    /// The gradient of ln σ². Needs the gradient of W in `out`.
    pub(super) fn gradient_of_variance(
        &self, parameters: &CpuParameters, batch: Rows<'_>, chains: &CpuChains, out: &mut Gradient,
    ) {
        out.visible_log_variance.fill(0.0);
        if let Some(numbers) = chains.visible_rows() {
            let (of_rows, of_chains) = (1.0 / batch.len() as f32, -1.0 / chains.len() as f32);
            let squares = |i: usize, b: f64| {
                let of_chain = |m| if batch.is_missing(m % batch.len(), i) { 0.0 } else { of_chains };
                squares_about(batch, i, b, |_| of_rows).1 + squares_about(numbers, i, b, of_chain).1
            };
            own_gradients(parameters, squares, out, |_, _| {});
        }
    }
}

/// The gradient from the statistics.
pub(super) fn gradient(cpu: Cpu, shape: Shape, statistics: Statistics<'_>, panels: &mut Panels, out: &mut Gradient) {
    let target = Target::Gradient;
    let biases = RowsMut::new(TILE, &mut out.hidden_bias);
    let (positive, negative) = panels.of(statistics, tiles(shape.n_hidden()));
    let size = VECTORS * (positive.values.len() + negative.values.len());
    share_pieces(cpu.own((biases, positive, negative)), size, &|job| {
        in_parts(job, 1, |(bias, positive, negative)| {
            let mut room = Row::ZERO;
            hidden_tile(cpu.isa, bias.first, positive.values, negative.values, statistics, target, &mut room);
            bias.values.copy_from_slice(&room.units()[..bias.values.len()]);
        });
    });
    let (panels, units) = (&*panels, shape.n_hidden());
    let weights = RowsMut::new(TILE * units, &mut out.weights);
    let size = statistics.size(tiles(shape.n_visible()) * tiles(units) * TILE);
    share_pieces((RowsMut::new(TILE, &mut out.visible_bias), weights), size, &|job| {
        in_parts(job, 1, |(bias, weights)| {
            with_scratch(|scratch| {
                let tile = VisibleTile { cpu, shape, tile: bias.first, statistics, panels, target };
                let idle = tile.prepare(scratch, bias.values);
                let mut room = [Row::ZERO; TILE];
                for hidden in cpu.part.range(tiles(units)) {
                    tile.learn(scratch, hidden, idle, &mut room, 1, &[]);
                    let columns = hidden * TILE..units.min((hidden + 1) * TILE);
                    for (to, from) in weights.values.chunks_exact_mut(units).zip(&room) {
                        to[columns.clone()].copy_from_slice(&from.units()[..columns.len()]);
                    }
                }
            });
        });
    });
}

/// The inputs of a step for all weights of a tile of visible units.
struct VisibleTile<'a> {
    cpu: Cpu,
    shape: Shape,
    tile: usize,
    statistics: Statistics<'a>,
    panels: &'a Panels,
    target: Target,
}

impl VisibleTile<'_> {
    fn units(&self) -> usize {
        TILE.min(self.shape.n_visible() - self.tile * TILE)
    }

    /// Loads the tile's units in the rows and the chains, and updates their biases. Returns the mask of units whose weights will
    /// not change: a unit that is 0 everywhere has gradient 0, and w - lr·0 is w to the bit. So pixels at the border cost nothing.
    fn prepare(&self, scratch: &mut TileScratch, bias: &mut [f32]) -> u64 {
        let Self { cpu, shape, tile, statistics, target, .. } = *self;
        scratch.take(cpu, statistics, shape, tile);
        let TileScratch { rows, chains, .. } = scratch;
        for (i, bias) in bias[..self.units()].iter_mut().enumerate() {
            *bias = target.of(*bias, statistics.scales.combine(rows.total(i), chains.total(i)));
        }
        if target.keeps_at_rest() { rows.idle() & chains.idle() } else { 0 }
    }

    /// Updates the block of weights with hidden tile `hidden`. `ahead`: the rows that will be written next.
    fn learn(
        &self, scratch: &mut TileScratch, hidden: usize, idle: u64, weights: &mut [Row], step: usize, ahead: &[Row],
    ) {
        let Self { cpu, shape, statistics, panels, target, .. } = *self;
        let terms = scratch.terms(cpu, shape, panels, hidden);
        let (isa, units, scales) = (cpu.isa, self.units(), statistics.scales);
        match vectors(shape.n_hidden(), hidden) {
            1 => learn_block::<1>(isa, weights, step, ahead, terms, units, idle, scales, target),
            2 => learn_block::<2>(isa, weights, step, ahead, terms, units, idle, scales, target),
            3 => learn_block::<3>(isa, weights, step, ahead, terms, units, idle, scales, target),
            _ => learn_block::<VECTORS>(isa, weights, step, ahead, terms, units, idle, scales, target),
        }
    }
}

dispatch! {
    /// Updates a block of weights from both sums.
    fn learn_block<const V: usize>(
        |l| weights: &mut [Row], step: usize, ahead: &[Row], terms: [Terms<'_>; 2], units: usize, idle: u64, scales: Scales,
        target: Target,
    ) {
        for (i, row) in weights.iter_mut().step_by(step).take(units).enumerate() {
            if idle >> i & 1 == 0 {
                if let Some(ahead) = ahead.get(i) {
                    for v in 0..V {
                        l.prefetch(&ahead.0[v]);
                    }
                }
                let positive = terms[0].sums::<L, V>(l, i);
                let negative = terms[1].sums::<L, V>(l, i);
                for v in 0..V {
                    store(l, positive[v], negative[v], scales, target, &mut row.0[v]);
                }
            }
        }
    }

    /// weights ← weights - lr·gradient, for one row of a tile.
    fn descend(|l| weights: &mut Row, gradient: &[f32], lr: f32) {
        let mut room = Row::ZERO;
        room.units_mut()[..gradient.len()].copy_from_slice(gradient);
        let minus = l.splat(-lr);
        for v in 0..gradient.len().div_ceil(LANES) {
            l.store(l.mul_add(minus, l.load(&room.0[v]), l.load(&weights.0[v])), &mut weights.0[v]);
        }
    }

    /// Writes both panels of a tile of hidden units, and updates its bias.
    fn hidden_tile(
        |l| tile: usize, positive: &mut [Row], negative: &mut [Row], statistics: Statistics<'_>, target: Target,
        bias: &mut Row,
    ) {
        let width = statistics.positive.len() / positive.len();
        let mut pos = [l.splat(0.0); VECTORS];
        for (r, (means, to)) in statistics.positive.iter().skip(tile).step_by(width).zip(positive).enumerate() {
            let weight = l.splat(statistics.row_weights.map_or(1.0, |weights| weights[r]));
            for v in 0..VECTORS {
                let mean = l.load(&means.0[v]);
                l.store(mean, &mut to.0[v]);
                pos[v] = l.mul_add(weight, mean, pos[v]);
            }
        }
        let mut neg = [l.splat(0.0); VECTORS];
        for (means, to) in statistics.negative.iter().skip(tile).step_by(width).zip(negative) {
            for v in 0..VECTORS {
                let mean = l.load(&means.0[v]);
                l.store(mean, &mut to.0[v]);
                neg[v] = l.add(neg[v], mean);
            }
        }
        for v in 0..VECTORS {
            store(l, pos[v], neg[v], statistics.scales, target, &mut bias.0[v]);
        }
    }
}

/// [`Scales::combine`] and [`Target::of`] for a vector.
#[inline(always)]
fn store<L: Wide>(l: L, positive: L::F, negative: L::F, scales: Scales, target: Target, to: &mut [f32; LANES]) {
    let positive = l.negate(l.mul(positive, l.splat(scales.positive)));
    let gradient = l.mul_add(negative, l.splat(scales.negative), positive);
    let value = match target {
        Target::Gradient => gradient,
        Target::Update { lr } => l.mul_add(l.splat(-lr), gradient, l.load(to)),
    };
    l.store(value, to);
}
