//! Gradient and update on the CPU: one pass over the hidden means, split by tiles of hidden units, and one over the weights,
//! split by tiles of visible units.
//!
//! For each weight, with x the data, v⁻ the chains' visible bits, P and N the hidden means that belong to them,
//! pos = Σ_r x_ri·P_rj over the rows and neg = Σ_m v⁻_mi·N_mj over the chains, each from 0 in ascending order by fused
//! multiply-add, as `sums` does it; the gradient is fma(neg, 1/M, -(pos·(1/B))) and the new weight fma(-lr, gradient,
//! weight). A worker has all of a visible tile's weights in both forms, so that it also writes the transposed ones.

use super::{
    chains::Chains,
    inputs::Inputs,
    isa::Isa,
    sums::Terms,
    threads::{RowsMut, Split, in_parts, share},
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
        Self { batch, positive, row_weights: None, visible: &chains.visible, negative: &chains.hidden_mean, scales }
    }

    /// Those of Σ_r weight_r ∂F(v_r)/∂θ.
    pub fn of_rows(batch: Rows<'a>, positive: &'a [Row], weights: &'a [f32]) -> Self {
        let scales = Scales { positive: 1.0, negative: 0.0 };
        Self { batch, positive, row_weights: Some(weights), visible: &[], negative: &[], scales }
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

pub(super) fn update(isa: Isa, parameters: &mut Parameters, statistics: Statistics<'_>, panels: &mut Panels, lr: f32) {
    run(isa, parameters, statistics, panels, Target::Update { lr });
}

/// Needs room for parameters, of which nothing is read.
pub(super) fn gradient(
    isa: Isa, room: &mut Parameters, statistics: Statistics<'_>, panels: &mut Panels, out: &mut Gradient,
) {
    run(isa, room, statistics, panels, Target::Gradient);
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

fn run(isa: Isa, parameters: &mut Parameters, statistics: Statistics<'_>, panels: &mut Panels, target: Target) {
    let shape = parameters.shape;
    let width = tiles(shape.n_hidden());
    let Panels { positive, negative } = panels;
    positive.resize(statistics.positive.len(), Row::ZERO);
    negative.resize(statistics.negative.len(), Row::ZERO);
    let hidden = HiddenJob {
        bias: RowsMut::new(1, &mut parameters.hidden_bias),
        positive: RowsMut::new(positive.len() / width, positive),
        negative: RowsMut::new(negative.len() / width, negative),
    };
    share(hidden, &|job| in_parts(job, 1, |tile| hidden_tile(isa, width, tile, statistics, target)));
    let panels = &*panels;
    let visible = VisibleJob {
        weights: RowsMut::new(width * TILE, &mut parameters.weights),
        transposed: RowsMut::new(width * TILE, &mut parameters.transposed),
        bias: RowsMut::new(1, &mut parameters.visible_bias),
    };
    share(visible, &|job| {
        SCRATCH.with_borrow_mut(|scratch| {
            in_parts(job, 1, |tile| visible_tile(isa, shape, tile, statistics, panels, target, scratch));
        });
    });
}

/// P and N, all rows of a tile together. In the order of the rows they are a multiple of some power of two apart, which
/// would put them all into the same few lines of a cache.
#[derive(Debug, Default)]
pub(super) struct Panels {
    positive: Vec<Row>,
    negative: Vec<Row>,
}

/// What belongs to some tiles of hidden units.
struct HiddenJob<'a> {
    bias: RowsMut<'a, Row>,
    positive: RowsMut<'a, Row>,
    negative: RowsMut<'a, Row>,
}

impl Split for HiddenJob<'_> {
    fn pieces(&self) -> usize {
        self.bias.pieces()
    }

    fn split(self, pieces: usize) -> (Self, Self) {
        let (bias, other_bias) = self.bias.split(pieces);
        let (positive, other_positive) = self.positive.split(pieces);
        let (negative, other_negative) = self.negative.split(pieces);
        (
            Self { bias, positive, negative },
            Self { bias: other_bias, positive: other_positive, negative: other_negative },
        )
    }
}

/// What belongs to some tiles of visible units.
struct VisibleJob<'a> {
    weights: RowsMut<'a, Row>,
    transposed: RowsMut<'a, Row>,
    bias: RowsMut<'a, Row>,
}

impl Split for VisibleJob<'_> {
    fn pieces(&self) -> usize {
        self.bias.pieces()
    }

    fn split(self, pieces: usize) -> (Self, Self) {
        let (weights, other_weights) = self.weights.split(pieces);
        let (transposed, other_transposed) = self.transposed.split(pieces);
        let (bias, other_bias) = self.bias.split(pieces);
        (
            Self { weights, transposed, bias },
            Self { weights: other_weights, transposed: other_transposed, bias: other_bias },
        )
    }
}

/// What a worker needs for its visible tiles.
#[derive(Default)]
struct Scratch {
    /// The units of a visible tile in the rows and in the chains.
    rows: Inputs,
    chains: Inputs,
    /// Both sums for a block.
    sums: [Vec<Row>; 2],
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn visible_tile(
    isa: Isa, shape: Shape, job: VisibleJob<'_>, statistics: Statistics<'_>, panels: &Panels, target: Target,
    scratch: &mut Scratch,
) {
    let Scratch { rows, chains, sums } = scratch;
    let (tile, width) = (job.bias.first, tiles(shape.n_hidden()));
    let units = TILE.min(shape.n_visible() - tile * TILE);
    rows.take_columns(isa, statistics.batch, tile, statistics.row_weights);
    chains.take_bit_columns(isa, statistics.visible, tiles(shape.n_visible()), tile, units);
    let bias = job.bias.values[0].units_mut();
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
        let (positive, negative) = (&panels.positive, &panels.negative);
        let terms = [(&*rows, positive, made), (&*chains, negative, others)].map(|(inputs, panels, room)| {
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

    /// Both panels and the bias of a tile of hidden units.
    fn hidden_tile(|l| width: usize, job: HiddenJob<'_>, statistics: Statistics<'_>, target: Target) {
        let tile = job.bias.first;
        let mut pos = [l.splat(0.0); VECTORS];
        for (r, (means, to)) in statistics.positive.iter().skip(tile).step_by(width).zip(job.positive.values).enumerate() {
            let weight = l.splat(statistics.row_weights.map_or(1.0, |weights| weights[r]));
            for v in 0..VECTORS {
                let mean = l.load(&means.0[v]);
                l.store(mean, &mut to.0[v]);
                pos[v] = l.mul_add(weight, mean, pos[v]);
            }
        }
        let mut neg = [l.splat(0.0); VECTORS];
        for (means, to) in statistics.negative.iter().skip(tile).step_by(width).zip(job.negative.values) {
            for v in 0..VECTORS {
                let mean = l.load(&means.0[v]);
                l.store(mean, &mut to.0[v]);
                neg[v] = l.add(neg[v], mean);
            }
        }
        for v in 0..VECTORS {
            store(l, pos[v], neg[v], statistics.scales, target, &mut job.bias.values[0].0[v]);
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
