//! The statistics of both phases for the gradient on the CPU, and the scratch of an update.

use super::{
    chains::CpuChains,
    held::Held,
    parameters::CpuParameters,
    tiles::{Row, TILE, VECTORS, tiles},
};
use crate::{lanes::threads::RowsMut, rbm::Gradient, rows::Rows};

/// The statistics of an update, reused so that only the first update allocates memory.
#[derive(Debug, Default)]
pub struct CpuWork {
    /// P, the hidden means of the batch: rows × tiles.
    pub(super) positive: Vec<Row>,
    pub(super) panels: Panels,
    /// The values that chains clamp because the rows lack them.
    pub(super) left_out: Held,
    /// The monitor for each row of the batch.
    pub(super) values: Vec<f64>,
    /// The sum over updates of the mean of the monitor.
    pub(super) watched: f64,
}

/// P and N, with all rows of a tile contiguous. In row order the distance between rows is a multiple of a power of two, so that
/// they would compete for the same few cache lines.
#[derive(Debug, Default)]
pub(super) struct Panels {
    pub positive: Vec<Row>,
    pub negative: Vec<Row>,
}

/// The two phases' statistics and their scales.
#[derive(Clone, Copy)]
pub(super) struct Statistics<'a> {
    pub batch: Rows<'a>,
    /// P, rows × tiles.
    pub positive: &'a [Row],
    /// The weight of each row; `None` if all are 1.
    pub row_weights: Option<&'a [f32]>,
    /// v⁻, chains × tiles; as numbers unless all states are bits.
    pub visible: &'a [u64],
    pub numbers: Option<Rows<'a>>,
    /// s of the visible units; empty without Gaussian units.
    pub precision: &'a [f32],
    /// N, chains × tiles.
    pub negative: &'a [Row],
    /// 1/B and 1/M.
    pub scales: Scales,
}

#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub positive: f32,
    pub negative: f32,
}

impl Scales {
    #[inline(always)]
    pub fn combine(self, positive: f32, negative: f32) -> f32 {
        negative.mul_add(self.negative, -(positive * self.positive))
    }
}

impl<'a> Statistics<'a> {
    /// The approximate size of the sums for `rows` rows of weights, and of writing the weights: in vectors, of which a sum reads
    /// one for an eighth of the batch and of the chains.
    pub fn size(&self, rows: usize) -> usize {
        let sums = (self.batch.len() + self.visible.len() / tiles(self.batch.units())) / 8;
        rows * VECTORS * (3 + sums)
    }

    /// The statistics of an update.
    pub fn of_update(batch: Rows<'a>, positive: &'a [Row], chains: &'a CpuChains, precision: &'a [f32]) -> Self {
        let scales = Scales { positive: 1.0 / batch.len() as f32, negative: 1.0 / chains.len() as f32 };
        Self {
            batch,
            positive,
            row_weights: None,
            visible: &chains.visible,
            numbers: chains.visible_rows(),
            precision,
            negative: &chains.hidden_mean,
            scales,
        }
    }

    /// The statistics of Σ_r weight_r ∂F(v_r)/∂θ.
    pub fn of_rows(batch: Rows<'a>, positive: &'a [Row], weights: &'a [f32], precision: &'a [f32]) -> Self {
        let scales = Scales { positive: 1.0, negative: 0.0 };
        let (visible, numbers, negative) = (&[], None, &[]);
        Self { batch, positive, row_weights: Some(weights), visible, numbers, precision, negative, scales }
    }
}

impl Panels {
    /// Resizes the panels for the means of all rows and of all chains, ordered by tile.
    pub fn of(&mut self, statistics: Statistics<'_>, width: usize) -> (RowsMut<'_, Row>, RowsMut<'_, Row>) {
        let room = |panel: &'_ mut Vec<Row>, means: &[Row]| panel.resize(means.len(), Row::ZERO);
        room(&mut self.positive, statistics.positive);
        room(&mut self.negative, statistics.negative);
        let (rows, chains) = (self.positive.len() / width, self.negative.len() / width);
        (RowsMut::new(rows, &mut self.positive), RowsMut::new(chains, &mut self.negative))
    }
}

/// Adds the terms of Gaussian units' own energies to a gradient that already has W. The gradient of ln σ² is -s·Σ w·(v - b)²/2 -
/// Σ_j W_ij·G_ij, where G is the gradient of W: Σ_j W_ij·s·v·P_j for each row. `squares` returns Σ w·(v - b)² of a unit with bias
/// b. `take` receives the unit and the gradient for further terms. All in `f64`, with rows and hidden units in ascending order.
pub(super) fn own_gradients(
    parameters: &CpuParameters, squares: impl Fn(usize, f64) -> f64, out: &mut Gradient,
    mut take: impl FnMut(usize, &mut Gradient),
) {
    let shape = parameters.shape;
    for i in shape.visible().iter().filter(|(segment, _)| segment.is_number()).flat_map(|(_, units)| units) {
        let b = f64::from(parameters.visible_bias[i / TILE].units()[i % TILE]);
        let mut product = 0.0;
        for (j, &gradient) in out.weights[i * shape.n_hidden()..][..shape.n_hidden()].iter().enumerate() {
            let weight = parameters.weights[parameters.row(i, j / TILE)].units()[j % TILE];
            product += f64::from(weight) * f64::from(gradient);
        }
        let s = f64::from(parameters.precision[i]);
        out.visible_log_variance[i] = (-0.5 * (s * squares(i, b)) - product) as f32;
        take(i, out);
    }
}

/// Σ_r w_r·(v_ri - b) and Σ_r w_r·(v_ri - b)² over the rows that have the unit.
pub(super) fn squares_about(rows: Rows<'_>, i: usize, b: f64, weight: impl Fn(usize) -> f32) -> (f64, f64) {
    let (mut sum, mut squares) = (0.0, 0.0);
    for r in (0..rows.len()).filter(|&r| !rows.is_missing(r, i)) {
        let (d, weight) = (f64::from(rows.value(r, i)) - b, f64::from(weight(r)));
        sum += weight * d;
        squares += weight * (d * d);
    }
    (sum, squares)
}
