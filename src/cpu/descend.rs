//! Updates by rules of descent on the CPU; [`descent`](crate::descent) has the formulas.
//!
//! There are three passes, each split among the threads. The first, over rows and chains, computes the centred means and two
//! factors for each row. The second is over the hidden tiles. The third, over the visible tiles with all their weights, is that of
//! a plain update.

use super::{
    blocks::{TileScratch, transpose_block, with_scratch},
    chains::CpuChains,
    grid::GridCache,
    groups::{self, spread_row},
    host::Cpu,
    layers::{self, total},
    parameters::CpuParameters,
    statistics::{CpuWork, Panels, Scales, Statistics},
    sums::Terms,
    tiles::{Row, TILE, VECTORS, gather, spread, tiles, vectors},
};
use crate::{
    descent::{
        Pace, RuleState,
        centring::{centre_of, centred, next_offset},
        decay::decayed,
        momentum::next_velocity,
        sparsity::pull,
    },
    lanes::{
        LANES, One, Vector, Wide, dispatch,
        threads::{RowsMut, in_parts, share_pieces},
    },
    rbm::{Gradient, Rbm, RbmRef},
    rows::Rows,
    shape::Shape,
};

/// The state of the rules of descent on the CPU, and the intermediate results of an update.
#[derive(Debug)]
pub struct CpuRule {
    /// μ, λ and q.
    visible_offset: Vec<Row>,
    pub(super) hidden_offset: Vec<Row>,
    pub(super) hidden_mean: Vec<Row>,
    /// In the layout of the parameters, without transposed weights.
    pub(super) velocity: Option<CpuParameters>,
    /// The offsets of the visible units, and of the hidden units in the data and in the chains.
    centre: Vec<Row>,
    pub(super) shifts: [Vec<Row>; 2],
    /// P̂ and N̂, rows × tiles.
    pub(super) centred: [Vec<Row>; 2],
    /// a and d of each row and of each chain.
    pub(super) factors: [Factors; 2],
    /// ĝ.
    slope: Vec<Row>,
}

/// The weights of rows in the gradients of the visible bias, a, and of the hidden one, d.
#[derive(Debug, Default)]
pub(super) struct Factors {
    pub visible: Vec<f32>,
    pub hidden: Vec<f32>,
}

impl CpuRule {
    pub(super) fn new(cpu: Cpu, shape: Shape, state: &RuleState) -> Self {
        let hidden = |values: &[f32]| spread(values, shape.n_hidden());
        Self {
            visible_offset: spread(&state.visible_offset, shape.n_visible()),
            hidden_offset: hidden(&state.hidden_offset),
            hidden_mean: hidden(&state.hidden_mean),
            velocity: state.velocity.as_ref().map(|velocity| velocity_of(cpu, shape, velocity)),
            centre: Vec::new(),
            shifts: Default::default(),
            centred: Default::default(),
            factors: Default::default(),
            slope: vec![Row::ZERO; tiles(shape.n_hidden())],
        }
    }

    pub(super) fn state(&self, shape: Shape) -> RuleState {
        let flat = |tiled: &[Row], units: usize| {
            let mut flat = vec![0.0; units];
            gather(tiled, units, &mut flat);
            flat
        };
        RuleState {
            visible_offset: flat(&self.visible_offset, shape.n_visible()),
            hidden_offset: flat(&self.hidden_offset, shape.n_hidden()),
            hidden_mean: flat(&self.hidden_mean, shape.n_hidden()),
            velocity: self.velocity.as_ref().map(|velocity| {
                let mut numbers = Rbm::zero(shape);
                velocity.write(numbers.view_mut());
                let (weights, visible_bias, hidden_bias) = numbers.into_parts();
                Gradient { weights, visible_bias, hidden_bias, ..Gradient::zero(shape) }
            }),
        }
    }

    /// Computes the offsets of this update.
    fn prepare(&mut self, shape: Shape, pace: Pace) {
        let Self { visible_offset, hidden_offset, hidden_mean, centre: centres, shifts: [of_data, of_chains], .. } =
            self;
        for (from, to) in [(&*visible_offset, &mut *centres), (hidden_offset, of_data), (hidden_offset, of_chains)] {
            to.clear();
            to.extend_from_slice(from);
        }
        centres.iter_mut().flat_map(Row::units_mut).for_each(|offset| *offset = centre_of(One, *offset));
        // The sparsity target does not act on lanes without a unit.
        let means = hidden_mean.iter().flat_map(Row::units).take(shape.n_hidden());
        for (shift, &mean) in of_data.iter_mut().flat_map(Row::units_mut).zip(means) {
            *shift += pull(One, mean, pace.target, pace.cost);
        }
    }
}

fn velocity_of(cpu: Cpu, shape: Shape, velocity: &Gradient) -> CpuParameters {
    let mut numbers = CpuParameters::new(RbmRef::of(shape, velocity), cpu.gemm);
    numbers.transposed = Vec::new();
    numbers
}

impl Cpu {
    pub(super) fn descend_by_rule(
        self, parameters: &mut CpuParameters, batch: Rows<'_>, chains: &CpuChains, work: &mut CpuWork,
        rule: &mut CpuRule, pace: Pace,
    ) {
        self.centre(parameters, batch, chains, work, rule, pace);
        self.descend_from(parameters, batch, chains, &mut work.panels, rule, pace);
    }

    /// The first pass: over rows and chains.
    pub(super) fn centre(
        self, parameters: &CpuParameters, batch: Rows<'_>, chains: &CpuChains, work: &CpuWork, rule: &mut CpuRule,
        pace: Pace,
    ) {
        let shape = parameters.shape;
        rule.prepare(shape, pace);
        let width = tiles(shape.n_hidden());
        let CpuRule { centre, shifts, centred, factors, hidden_offset, .. } = rule;
        let square = {
            let mut partial = [0.0; LANES];
            layers::add_products(self.isa, centre, centre, &mut partial);
            total(partial)
        };
        for (phase, (means, shift)) in [&work.positive, &chains.hidden_mean].into_iter().zip(&*shifts).enumerate() {
            let (centred, Factors { visible, hidden }) = (&mut centred[phase], &mut factors[phase]);
            let n = means.len() / width;
            centred.resize(means.len(), Row::ZERO);
            visible.resize(n, 0.0);
            hidden.resize(n, 0.0);
            let (centre, hidden_offset) = (&*centre, &*hidden_offset);
            let job = (RowsMut::new(width, centred), RowsMut::new(1, visible), RowsMut::new(1, hidden));
            // Rows of the batch are read number by number.
            let size = n * (2 * VECTORS * width + if phase == 0 { shape.n_visible() } else { 0 });
            share_pieces(self.own(job), size, &|(mut centred, visible, hidden)| {
                groups::with_scratch(|scratch| {
                    for n in 0..visible.values.len() {
                        let r = visible.first + n;
                        let to = centred.part(n..n + 1).values;
                        let mut partial = [0.0; LANES];
                        let means = &means[r * width..][..width];
                        shifted(self.isa, means, shift, hidden_offset, to, shape.n_hidden(), &mut partial);
                        visible.values[n] = (1.0 - total(partial)) as f32;
                        let mut partial = [0.0; LANES];
                        let rows = if phase == 0 { Some(batch) } else { chains.visible_rows() };
                        if let Some(rows) = rows {
                            spread_row(rows, r, &mut scratch.row);
                            times(&mut scratch.row, &parameters.precision);
                            layers::add_products(self.isa, &scratch.row, centre, &mut partial);
                        } else {
                            let words = tiles(shape.n_visible());
                            add_active(self.isa, &chains.visible[r * words..][..words], centre, &mut partial);
                        }
                        hidden.values[n] = (1.0 - (total(partial) - square)) as f32;
                    }
                });
            });
        }
    }

    /// The second and third pass: over hidden and visible tiles.
    pub(super) fn descend_from(
        self, parameters: &mut CpuParameters, batch: Rows<'_>, chains: &CpuChains, panels: &mut Panels,
        rule: &mut CpuRule, pace: Pace,
    ) {
        let shape = parameters.shape;
        let CpuRule {
            visible_offset,
            hidden_offset,
            hidden_mean,
            velocity,
            centre,
            shifts,
            centred,
            factors,
            slope,
            ..
        } = rule;
        let [positive, negative] = &*centred;
        let precision = std::mem::take(&mut parameters.precision);
        let statistics =
            Statistics { positive, negative, ..Statistics::of_update(batch, positive, chains, &precision) };
        let (weights_velocity, visible_velocity, hidden_velocity) = match velocity {
            Some(CpuParameters { weights, visible_bias, hidden_bias, .. }) => {
                (Some(weights), Some(visible_bias), Some(hidden_bias))
            }
            None => (None, None, None),
        };
        fn tiled(rows: &mut [Row]) -> RowsMut<'_, Row> {
            RowsMut::new(1, rows)
        }
        let (positive_panel, negative_panel) = panels.of(statistics, tiles(shape.n_hidden()));
        let job = (
            (tiled(&mut parameters.hidden_bias), positive_panel, negative_panel),
            (tiled(hidden_offset), tiled(hidden_mean), tiled(slope), hidden_velocity.map(|rows| tiled(rows))),
        );
        let size = VECTORS * (positive.len() + negative.len());
        share_pieces(self.own(job), size, &|job| {
            in_parts(job, 1, |((bias, positive, negative), (offset, mean, slope, velocity))| {
                let tile = bias.first;
                hidden_tile(
                    self.isa,
                    tile,
                    positive.values,
                    negative.values,
                    statistics,
                    factors,
                    &shifts[0][tile],
                    pace,
                    HiddenTile {
                        bias: &mut bias.values[0],
                        offset: &mut offset.values[0],
                        mean: &mut mean.values[0],
                        slope: &mut slope.values[0],
                        velocity: velocity.map(|velocity| &mut velocity.values[0]),
                    },
                );
            });
        });
        let own = self.part.range(tiles(shape.n_hidden()));
        let (panels, blocks, rows, slope, factors) =
            (&*panels, parameters.blocks, parameters.block_rows(), &*slope, &*factors);
        let sum = |factors: &Factors| factors.visible.iter().fold(0.0, |sum, x| sum + x);
        let slope_of_bias = statistics.scales.combine(sum(&factors[0]), sum(&factors[1]));
        let size = statistics.size(parameters.weights.len());
        let job = (
            (tiled(&mut parameters.visible_bias), tiled(visible_offset), visible_velocity.map(|rows| tiled(rows))),
            (
                RowsMut::new(rows, &mut parameters.weights),
                RowsMut::new(rows, &mut parameters.transposed),
                weights_velocity.map(|weights| RowsMut::new(rows, weights)),
                parameters.grid.parts(rows),
            ),
        );
        share_pieces(job, size, &|job| {
            in_parts(job, 1, |((bias, offset, of_bias), (weights, transposed, mut of_weights, mut grid))| {
                with_scratch(|scratch| {
                    let tile = bias.first;
                    scratch.take(self, statistics, shape, tile);
                    let TileScratch { rows, chains, .. } = scratch;
                    let (centre, units) = (&centre[tile], TILE.min(shape.n_visible() - tile * TILE));
                    let mut sums = [Row::ZERO; 3];
                    for i in 0..units {
                        sums[0].units_mut()[i] = rows.weighted_total(i, &factors[0].visible);
                        sums[1].units_mut()[i] = chains.weighted_total(i, &factors[1].visible);
                        sums[2].units_mut()[i] = rows.total(i);
                    }
                    let to = VisibleTile {
                        bias: &mut bias.values[0],
                        offset: &mut offset.values[0],
                        velocity: of_bias.map(|rows| &mut rows.values[0]),
                    };
                    visible_tile(self.isa, &sums, centre, slope_of_bias, statistics.scales, pace, to);
                    let idle = if pace.keeps_at_rest() { rows.idle() & chains.idle() & zero_units(centre) } else { 0 };
                    blocks.each(own.clone(), weights.values, transposed.values, |hidden, weights, step, transposed| {
                        let (isa, scales, vectors) = (self.isa, statistics.scales, vectors(shape.n_hidden(), hidden));
                        let terms = scratch.terms(self, shape, panels, hidden);
                        let (first, _) = blocks.block(hidden);
                        let velocity = of_weights.as_mut().map(|velocity| &mut velocity.values[first..]);
                        let inputs = BlockStep { centre, slope: &slope[hidden], idle, units, scales, pace };
                        match vectors {
                            1 => descend_block::<1>(isa, weights, velocity, step, transposed, terms, inputs),
                            2 => descend_block::<2>(isa, weights, velocity, step, transposed, terms, inputs),
                            3 => descend_block::<3>(isa, weights, velocity, step, transposed, terms, inputs),
                            _ => descend_block::<VECTORS>(isa, weights, velocity, step, transposed, terms, inputs),
                        }
                        transpose_block(isa, weights, transposed, vectors, idle);
                        if let Some(grid) = &mut grid {
                            grid.round(hidden, weights, transposed, idle);
                        }
                    });
                });
            });
        });
        parameters.renew_grid();
        parameters.precision = precision;
    }
}

/// Multiplies numbers by the precisions of their units, if there are precisions.
fn times(row: &mut [Row], precision: &[f32]) {
    row.iter_mut().flat_map(Row::units_mut).zip(precision).for_each(|(x, &s)| *x *= s);
}

/// The units with offset 0, as bits of a word.
fn zero_units(centre: &Row) -> u64 {
    centre.units().iter().enumerate().fold(0, |word, (i, &x)| word | u64::from(x == 0.0) << i)
}

/// The numbers of a hidden tile that an update changes.
struct HiddenTile<'a> {
    bias: &'a mut Row,
    offset: &'a mut Row,
    mean: &'a mut Row,
    slope: &'a mut Row,
    velocity: Option<&'a mut Row>,
}

/// The numbers of a visible tile that an update changes, without its weights.
struct VisibleTile<'a> {
    bias: &'a mut Row,
    offset: &'a mut Row,
    velocity: Option<&'a mut Row>,
}

/// A parameter after its step. Also updates the velocity, if there is one.
#[inline(always)]
fn stepped<L: Wide>(l: L, parameter: L::F, gradient: L::F, velocity: Option<&mut Vector>, pace: Pace) -> L::F {
    match velocity {
        None => l.mul_add(l.splat(-pace.lr), gradient, parameter),
        Some(velocity) => {
            let next = next_velocity(l, l.load(velocity), l.splat(pace.momentum), l.splat(pace.lr), gradient);
            l.store(next, velocity);
            l.add(parameter, next)
        }
    }
}

/// The inputs of a step for a block of weights.
#[derive(Clone, Copy)]
struct BlockStep<'a> {
    centre: &'a Row,
    slope: &'a Row,
    idle: u64,
    units: usize,
    scales: Scales,
    pace: Pace,
}

dispatch! {
    /// to = means - shift for one row of tiles; partial += to·offset.
    fn shifted(
        |l| means: &[Row], shift: &[Row], offset: &[Row], to: &mut [Row], units: usize, partial: &mut [f64; LANES],
    ) {
        for (tile, (((means, shift), offset), to)) in means.iter().zip(shift).zip(offset).zip(to).enumerate() {
            for v in 0..vectors(units, tile) {
                l.store(l.add(l.load(&means.0[v]), l.negate(l.load(&shift.0[v]))), &mut to.0[v]);
                for lane in 0..LANES {
                    partial[lane] += f64::from(to.0[v][lane]) * f64::from(offset.0[v][lane]);
                }
            }
        }
    }

    /// partial += the numbers of the active units, for one row of words.
    fn add_active(|_l| words: &[u64], numbers: &[Row], partial: &mut [f64; LANES]) {
        for (&word, numbers) in words.iter().zip(numbers) {
            for v in 0..VECTORS {
                let on = (word >> (v * LANES)) as u16;
                for lane in 0..LANES {
                    partial[lane] += f64::from(on >> lane & 1) * f64::from(numbers.0[v][lane]);
                }
            }
        }
    }

    /// Writes both panels of a tile of hidden units, and updates its biases, offsets and means.
    fn hidden_tile(
        |l| tile: usize, positive: &mut [Row], negative: &mut [Row], statistics: Statistics<'_>, factors: &[Factors; 2],
        shift: &Row, pace: Pace, to: HiddenTile<'_>,
    ) {
        let width = statistics.positive.len() / positive.len();
        let mut sums = [[l.splat(0.0); VECTORS]; 4];
        let phases = [(statistics.positive, positive), (statistics.negative, negative)];
        for (phase, (means, panel)) in phases.into_iter().enumerate() {
            let weights = &factors[phase].hidden;
            for ((means, to), &weight) in means.iter().skip(tile).step_by(width).zip(panel).zip(weights) {
                for v in 0..VECTORS {
                    let mean = l.load(&means.0[v]);
                    l.store(mean, &mut to.0[v]);
                    sums[2 * phase][v] = l.add(sums[2 * phase][v], mean);
                    sums[2 * phase + 1][v] = l.mul_add(l.splat(weight), mean, sums[2 * phase + 1][v]);
                }
            }
        }
        let HiddenTile { bias, offset, mean, slope, mut velocity } = to;
        for v in 0..VECTORS {
            l.store(combine(l, statistics.scales, sums[0][v], sums[2][v]), &mut slope.0[v]);
            let gradient = combine(l, statistics.scales, sums[1][v], sums[3][v]);
            let own = velocity.as_mut().map(|velocity| &mut velocity.0[v]);
            l.store(stepped(l, l.load(&bias.0[v]), gradient, own, pace), &mut bias.0[v]);
            let now = l.mul_add(sums[0][v], l.splat(statistics.scales.positive), l.load(&shift.0[v]));
            l.store(next_offset(l, l.load(&offset.0[v]), now, l.splat(pace.slide)), &mut offset.0[v]);
            l.store(next_offset(l, l.load(&mean.0[v]), now, l.splat(pace.mean_rate)), &mut mean.0[v]);
        }
    }

    /// Updates the biases and offsets of a tile of visible units. `sums`: over the rows and over the chains with the factors a, and
    /// over the rows. `slope`: ⟨a_r, a_m⟩.
    fn visible_tile(
        |l| sums: &[Row; 3], centre: &Row, slope: f32, scales: Scales, pace: Pace, to: VisibleTile<'_>,
    ) {
        let VisibleTile { bias, offset, mut velocity } = to;
        let [positive, negative, totals] = sums;
        for v in 0..VECTORS {
            let gradient = combine(l, scales, l.load(&positive.0[v]), l.load(&negative.0[v]));
            let gradient = centred(l, gradient, l.load(&centre.0[v]), l.splat(slope));
            let own = velocity.as_mut().map(|velocity| &mut velocity.0[v]);
            l.store(stepped(l, l.load(&bias.0[v]), gradient, own, pace), &mut bias.0[v]);
            let mean = l.mul(l.load(&totals.0[v]), l.splat(scales.positive));
            l.store(next_offset(l, l.load(&offset.0[v]), mean, l.splat(pace.slide)), &mut offset.0[v]);
        }
    }

    /// Updates a block of weights from both sums. `ahead`: the rows that will be written next.
    fn descend_block<const V: usize>(
        |l| weights: &mut [Row], velocity: Option<&mut [Row]>, step: usize, ahead: &[Row], terms: [Terms<'_>; 2],
        inputs: BlockStep<'_>,
    ) {
        let BlockStep { centre, slope, idle, units, scales, pace } = inputs;
        let mut velocity = velocity;
        for (i, row) in weights.iter_mut().step_by(step).take(units).enumerate() {
            if idle >> i & 1 == 1 {
                continue;
            }
            if let Some(ahead) = ahead.get(i) {
                for v in 0..V {
                    l.prefetch(&ahead.0[v]);
                }
            }
            let positive = terms[0].sums::<L, V>(l, i);
            let negative = terms[1].sums::<L, V>(l, i);
            let centre = l.splat(centre.units()[i]);
            for v in 0..V {
                let gradient = combine(l, scales, positive[v], negative[v]);
                let gradient = centred(l, gradient, centre, l.load(&slope.0[v]));
                let weight = decayed(l, l.load(&row.0[v]), pace);
                let own = velocity.as_deref_mut().map(|velocity| &mut velocity[i * step].0[v]);
                l.store(stepped(l, weight, gradient, own, pace), &mut row.0[v]);
            }
        }
    }

    /// parameters ← parameters + share·(to - parameters).
    fn approach_part(|l| parameters: &mut [Row], to: &[Row], share: f32) {
        for (row, to) in parameters.iter_mut().zip(to) {
            for v in 0..VECTORS {
                let old = l.load(&row.0[v]);
                l.store(crate::descent::slide(l, old, l.load(&to.0[v]), l.splat(share)), &mut row.0[v]);
            }
        }
    }
}

/// [`Scales::combine`] for a vector.
#[inline(always)]
fn combine<L: Wide>(l: L, scales: Scales, positive: L::F, negative: L::F) -> L::F {
    let positive = l.negate(l.mul(positive, l.splat(scales.positive)));
    l.mul_add(negative, l.splat(scales.negative), positive)
}

impl Cpu {
    /// θ ← θ + share·(to - θ), for both copies of the weights.
    pub(super) fn approach_parameters(self, parameters: &mut CpuParameters, to: &CpuParameters, part: f32) {
        parameters.grid = GridCache::default();
        let rows = parameters.block_rows();
        let pairs = [
            (&mut parameters.weights, &to.weights, rows),
            (&mut parameters.transposed, &to.transposed, rows),
            (&mut parameters.visible_bias, &to.visible_bias, 1),
            (&mut parameters.hidden_bias, &to.hidden_bias, 1),
        ];
        for (numbers, to, width) in pairs {
            let size = VECTORS * numbers.len();
            share_pieces(RowsMut::new(width, numbers), size, &|numbers| {
                approach_part(self.isa, numbers.values, &to[numbers.first * width..], part);
            });
        }
        if !parameters.precision.is_empty() {
            let numbers = parameters.log_variance.iter().zip(&to.log_variance);
            let next = numbers.map(|(&old, &to)| crate::descent::slide(One, old, to, part)).collect();
            parameters.set_log_variance(next);
        }
    }
}
