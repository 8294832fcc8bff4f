//! Gradient and update on the CPU: one pass over the weights, split by tiles of visible units.
//!
//! For each weight, with x the data, v⁻ the chains' visible bits, P and N the hidden means that belong to them,
//! pos = Σ_r x_ri·P_rj over the rows and neg = Σ_m v⁻_mi·N_mj over the chains, each from 0 in ascending order by fused
//! multiply-add; the gradient is fma(neg, 1/M, -(pos·(1/B))) and the new weight fma(-lr, gradient, weight). Both sums skip
//! what is 0. A worker has all of a visible tile's weights in both forms, so that it also writes the transposed ones.

use super::{
    chains::Chains,
    isa::Isa,
    sums::{Inputs, Terms},
    threads::{RowsMut, Split, share},
    tiles::{Parameters, Row, TILE, VECTORS, tiles, vectors},
};
use crate::{
    backend::{Gradient, Rows, Shape},
    lanes::{LANES, Wide, dispatch},
};
use std::cell::RefCell;

/// The two phases' statistics and their scales.
#[derive(Clone, Copy)]
pub(super) struct Statistics<'a> {
    pub batch: Rows<'a>,
    /// How many of the batch's values are not 0.
    on: usize,
    /// P, rows × tiles.
    pub positive: &'a [Row],
    /// The weight of each row, where it is not 1.
    pub row_weights: Option<&'a [f32]>,
    /// v⁻, chains × tiles.
    pub visible: &'a [u64],
    /// N, chains × tiles.
    pub negative: &'a [Row],
    /// 1/B and 1/M.
    pub scales: Scales,
}

#[derive(Clone, Copy)]
pub(super) struct Scales {
    positive: f32,
    negative: f32,
}

impl Scales {
    #[inline(always)]
    fn combine(self, positive: f32, negative: f32) -> f32 {
        negative.mul_add(self.negative, -(positive * self.positive))
    }
}

impl<'a> Statistics<'a> {
    /// Those of an update.
    pub fn of_update(batch: Rows<'a>, positive: &'a [Row], chains: &'a Chains) -> Self {
        let scales = Scales { positive: 1.0 / batch.len() as f32, negative: 1.0 / chains.len() as f32 };
        let (on, visible, negative) = (batch.count_of_nonzero(), &chains.visible, &chains.hidden_mean);
        Self { batch, on, positive, row_weights: None, visible, negative, scales }
    }

    /// Those of Σ_r weight_r ∂F(v_r)/∂θ.
    pub fn of_rows(batch: Rows<'a>, positive: &'a [Row], weights: &'a [f32]) -> Self {
        let (on, scales) = (batch.count_of_nonzero(), Scales { positive: 1.0, negative: 0.0 });
        Self { batch, on, positive, row_weights: Some(weights), visible: &[], negative: &[], scales }
    }
}

/// What happens to the parameters.
#[derive(Clone, Copy)]
enum Target {
    /// They become the gradient.
    Gradient,
    /// θ ← θ - lr·gradient.
    Update { lr: f32 },
}

impl Target {
    /// Whether a gradient of 0 leaves every number as it is; with a negative rate -0 would become 0.
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

pub(super) fn update(isa: Isa, parameters: &mut Parameters, statistics: Statistics<'_>, lr: f32) {
    run(isa, parameters, statistics, Target::Update { lr });
}

/// Needs room for parameters, of which nothing is read.
pub(super) fn gradient(isa: Isa, room: &mut Parameters, statistics: Statistics<'_>, out: &mut Gradient) {
    run(isa, room, statistics, Target::Gradient);
    room.write(&mut out.weights, &mut out.visible_bias, &mut out.hidden_bias);
}

/// θ ← θ - lr·gradient.
pub(super) fn apply(parameters: &mut Parameters, gradient: &Gradient, lr: f32) {
    let shape = parameters.shape;
    let mut flat = Gradient::zero(shape);
    parameters.write(&mut flat.weights, &mut flat.visible_bias, &mut flat.hidden_bias);
    let target = Target::Update { lr };
    for (parameters, gradient) in [
        (&mut flat.weights, &gradient.weights),
        (&mut flat.visible_bias, &gradient.visible_bias),
        (&mut flat.hidden_bias, &gradient.hidden_bias),
    ] {
        parameters
            .iter_mut()
            .zip(gradient)
            .for_each(|(parameter, &gradient)| *parameter = target.of(*parameter, gradient));
    }
    *parameters = Parameters::new(shape, &flat.weights, &flat.visible_bias, &flat.hidden_bias);
}

fn run(isa: Isa, parameters: &mut Parameters, statistics: Statistics<'_>, target: Target) {
    hidden_bias(isa, &mut parameters.hidden_bias, statistics, target);
    let width = tiles(parameters.shape.n_hidden()) * TILE;
    let job = Job {
        weights: RowsMut::new(width, &mut parameters.weights),
        transposed: RowsMut::new(width, &mut parameters.transposed),
        visible_bias: RowsMut::new(1, &mut parameters.visible_bias),
    };
    let shape = parameters.shape;
    share(job, &|job| {
        SCRATCH.with_borrow_mut(|scratch| {
            let width = tiles(shape.n_hidden());
            panels(statistics.positive, width, &mut scratch.positive);
            panels(statistics.negative, width, &mut scratch.negative);
            let mut rest = job;
            while rest.pieces() > 0 {
                let (tile, others) = rest.split(1);
                visible_tile(isa, shape, tile, statistics, target, scratch);
                rest = others;
            }
        });
    });
}

/// Rows × tiles becomes tiles × rows: all rows of a tile stand together. In the first order they are a multiple of some
/// power of two apart, which would put them all into the same few lines of a cache.
fn panels(rows: &[Row], width: usize, out: &mut Vec<Row>) {
    out.clear();
    for tile in 0..width {
        out.extend(rows.iter().skip(tile).step_by(width));
    }
}

/// What belongs to some tiles of visible units.
struct Job<'a> {
    weights: RowsMut<'a, Row>,
    transposed: RowsMut<'a, Row>,
    visible_bias: RowsMut<'a, Row>,
}

impl Split for Job<'_> {
    fn pieces(&self) -> usize {
        self.visible_bias.pieces()
    }

    fn split(self, pieces: usize) -> (Self, Self) {
        let (weights, other_weights) = self.weights.split(pieces);
        let (transposed, other_transposed) = self.transposed.split(pieces);
        let (visible_bias, other_visible_bias) = self.visible_bias.split(pieces);
        (
            Self { weights, transposed, visible_bias },
            Self { weights: other_weights, transposed: other_transposed, visible_bias: other_visible_bias },
        )
    }
}

/// What a worker needs for its visible tiles.
#[derive(Default)]
struct Scratch {
    /// The units of a visible tile in the rows and in the chains.
    rows: Inputs,
    chains: Inputs,
    /// P and N, tile by tile.
    positive: Vec<Row>,
    negative: Vec<Row>,
    /// Both sums for a block.
    sums: [Vec<Row>; 2],
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn visible_tile(
    isa: Isa, shape: Shape, job: Job<'_>, statistics: Statistics<'_>, target: Target, scratch: &mut Scratch,
) {
    let Scratch { rows, chains, positive, negative, sums } = scratch;
    let (tile, width) = (job.visible_bias.first, tiles(shape.n_hidden()));
    let units = TILE.min(shape.n_visible() - tile * TILE);
    rows.take_columns(statistics.batch, tile, statistics.row_weights, statistics.on);
    chains.take_bit_columns(statistics.visible, tiles(shape.n_visible()), tile, units);
    let bias = job.visible_bias.values[0].units_mut();
    for (i, bias) in bias[..units].iter_mut().enumerate() {
        *bias = target.of(*bias, statistics.scales.combine(rows.total(i), chains.total(i)));
    }
    // A unit that is 0 everywhere has gradient 0, and w - lr·0 is w to the bit: pixels at the border cost nothing.
    let idle = if target.keeps_at_rest() { rows.idle() & chains.idle() } else { 0 };
    sums.iter_mut().for_each(|sums| sums.resize(TILE, Row::ZERO));
    for tile in 0..width {
        let block = tile * TILE..(tile + 1) * TILE;
        let (weights, transposed) = (&mut job.weights.values[block.clone()], &mut job.transposed.values[block]);
        let vectors = vectors(shape.n_hidden(), tile);
        let [made, others] = &mut *sums;
        let terms = [(&*rows, &*positive, made), (&*chains, &*negative, others)].map(|(inputs, panels, room)| {
            let panel = panels.len() / width;
            inputs.terms(isa, &panels[tile * panel..][..panel], vectors, room)
        });
        let scales = statistics.scales;
        match vectors {
            1 => learn_block::<1>(isa, weights, transposed, terms, units, idle, scales, target),
            2 => learn_block::<2>(isa, weights, transposed, terms, units, idle, scales, target),
            3 => learn_block::<3>(isa, weights, transposed, terms, units, idle, scales, target),
            _ => learn_block::<VECTORS>(isa, weights, transposed, terms, units, idle, scales, target),
        }
    }
}

dispatch! {
    /// What becomes of a block of weights, given both sums, and of its transpose.
    fn learn_block<const V: usize>(
        |l| weights: &mut [Row], transposed: &mut [Row], terms: [Terms<'_>; 2], units: usize, idle: u64, scales: Scales,
        target: Target,
    ) {
        for (i, row) in weights[..units].iter_mut().enumerate() {
            if idle >> i & 1 == 0 {
                // It will be written below.
                for v in 0..V {
                    l.prefetch(&transposed[i].0[v]);
                }
                let positive = terms[0].sums::<L, V>(l, i);
                let negative = terms[1].sums::<L, V>(l, i);
                for v in 0..V {
                    store(l, positive[v], negative[v], scales, target, &mut row.0[v]);
                }
            }
        }
        if matches!(target, Target::Update { .. }) {
            for (group, rows) in weights.as_chunks().0.iter().enumerate() {
                if (idle >> (group * LANES)) as u16 == u16::MAX {
                    continue;
                }
                for (v, columns) in transposed.as_chunks_mut().0.iter_mut().enumerate().take(V) {
                    transpose(l, rows, v, columns, group);
                }
            }
        }
    }

    fn hidden_bias(|l| bias: &mut [Row], statistics: Statistics<'_>, target: Target) {
        let width = bias.len();
        for (tile, bias) in bias.iter_mut().enumerate() {
            let mut pos = [l.splat(0.0); VECTORS];
            for (r, means) in statistics.positive.chunks_exact(width).enumerate() {
                let weight = l.splat(statistics.row_weights.map_or(1.0, |weights| weights[r]));
                for v in 0..VECTORS {
                    pos[v] = l.mul_add(weight, l.load(&means[tile].0[v]), pos[v]);
                }
            }
            let mut neg = [l.splat(0.0); VECTORS];
            for means in statistics.negative.chunks_exact(width) {
                for v in 0..VECTORS {
                    neg[v] = l.add(neg[v], l.load(&means[tile].0[v]));
                }
            }
            for v in 0..VECTORS {
                store(l, pos[v], neg[v], statistics.scales, target, &mut bias.0[v]);
            }
        }
    }
}

/// What [`Scales::combine`] and [`Target::of`] do, for a vector.
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

/// Vector `v` of 16 rows becomes vector `group` of 16 rows.
#[inline(always)]
fn transpose<L: Wide>(l: L, from: &[Row; LANES], v: usize, to: &mut [Row; LANES], group: usize) {
    let mut rows = [l.splat(0.0); LANES];
    for i in 0..LANES {
        rows[i] = l.load(&from[i].0[v]);
    }
    let columns = l.transpose(rows);
    for i in 0..LANES {
        l.store(columns[i], &mut to[i].0[group]);
    }
}
