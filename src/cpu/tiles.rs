//! How the CPU keeps numbers: tiles of 64 units, vectors of 16 lanes, states as bits.
//!
//! A layer's units are cut into tiles of [`TILE`]; a tile's state is one `u64`, its real numbers one [`Row`] of four cache
//! lines. The weights are cut in both directions into blocks of 64 × 64, block (I, J) joining visible tile I to hidden
//! tile J, and kept twice: in `weights` row i of a block runs over the hidden units, in `transposed` row j runs over the
//! visible ones. Both keep their blocks in the order (I, J), so that
//! - the rows that a product reads are whole cache lines, near to each other, for either direction;
//! - all that belongs to visible tile I is one contiguous piece of either: an update is split by pieces, without locks.
//!
//! A matrix library needs neither blocks nor the second copy: for it `weights` has each row's tiles one behind the other,
//! and `transposed` is empty.
//!
//! What lies beyond the last unit of a layer is 0 and stays 0.

use super::grid::Kept;
use crate::{
    elementary::exp,
    lanes::{LANES, Vector},
    rbm::{RbmMut, RbmRef},
    shape::{Layer, Shape},
};
use std::ops::Range;

/// How many units make a tile: as many as a `u64` has bits.
pub(crate) const TILE: usize = 64;
/// How many vectors a tile has.
pub(crate) const VECTORS: usize = TILE / LANES;

/// One number for each unit of a tile, on cache lines of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Row(pub [Vector; VECTORS]);

impl Row {
    pub const ZERO: Self = Self([[0.0; LANES]; VECTORS]);

    /// The numbers in unit order.
    #[inline(always)]
    pub fn units(&self) -> &[f32] {
        self.0.as_flattened()
    }

    #[inline(always)]
    pub fn units_mut(&mut self) -> &mut [f32] {
        self.0.as_flattened_mut()
    }
}

/// How many tiles `units` units fill.
#[inline(always)]
pub(crate) const fn tiles(units: usize) -> usize {
    units.div_ceil(TILE)
}

/// How many vectors of tile `tile` hold units.
#[inline(always)]
pub(crate) fn vectors(units: usize, tile: usize) -> usize {
    (units - tile * TILE).div_ceil(LANES).min(VECTORS)
}

/// How many of the lanes of vector `v` of tile `tile` hold units, as a number to compare [`LANE`] with.
#[inline(always)]
pub(crate) fn lanes_used(units: usize, tile: usize, v: usize) -> f32 {
    units.saturating_sub(tile * TILE + v * LANES).min(LANES) as f32
}

/// The number of each lane.
pub(crate) const LANE: Vector = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// A row-major matrix, each row spread over its tiles.
pub(crate) fn spread(rows: &[f32], units: usize) -> Vec<Row> {
    let mut out = vec![Row::ZERO; rows.len() / units.max(1) * tiles(units)];
    spread_into(rows, units, &mut out);
    out
}

/// The same into tiles whose lanes without a unit are 0.
pub(crate) fn spread_into(rows: &[f32], units: usize, out: &mut [Row]) {
    for (row, tiled) in rows.chunks_exact(units).zip(out.chunks_exact_mut(tiles(units))) {
        for (part, tile) in row.chunks(TILE).zip(tiled) {
            tile.units_mut()[..part.len()].copy_from_slice(part);
        }
    }
}

/// Undoes [`spread`].
pub(crate) fn gather(tiled: &[Row], units: usize, out: &mut [f32]) {
    for (row, tiled) in out.chunks_exact_mut(units).zip(tiled.chunks_exact(tiles(units))) {
        for (part, tile) in row.chunks_mut(TILE).zip(tiled) {
            part.copy_from_slice(&tile.units()[..part.len()]);
        }
    }
}

/// How the weights of any visible tile are kept: in blocks, or `flat`, each row's `width` tiles one behind the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks {
    flat: bool,
    width: usize,
}

impl Blocks {
    /// Where the block with tile `hidden` begins, and how far apart its rows are.
    pub fn block(self, hidden: usize) -> (usize, usize) {
        if self.flat { (hidden, self.width) } else { (hidden * TILE, 1) }
    }

    /// Runs `run` for each block of these hidden tiles with its tile, its rows and how far apart they are, and with its transpose, which a flat
    /// matrix lacks.
    pub fn each(
        self, hidden: Range<usize>, weights: &mut [Row], transposed: &mut [Row],
        mut run: impl FnMut(usize, &mut [Row], usize, &mut [Row]),
    ) {
        for hidden in hidden {
            let (first, step) = self.block(hidden);
            let transposed = transposed.chunks_exact_mut(TILE).nth(hidden).unwrap_or_default();
            run(hidden, &mut weights[first..], step, transposed);
        }
    }
}

/// The parameters of an RBM as the CPU computes with them.
#[derive(Clone, Debug)]
pub struct CpuParameters {
    pub(crate) shape: Shape,
    pub(crate) blocks: Blocks,
    pub(crate) weights: Vec<Row>,
    pub(crate) transposed: Vec<Row>,
    pub(crate) visible_bias: Vec<Row>,
    pub(crate) hidden_bias: Vec<Row>,
    /// ln σ² and s = 1/σ² of the visible units, n_visible; empty where there is no Gaussian unit.
    pub(crate) log_variance: Vec<f32>,
    pub(crate) precision: Vec<f32>,
    pub(super) grid: Kept,
}

impl CpuParameters {
    /// In blocks, or `flat` for a matrix library.
    pub(crate) fn new(rbm: RbmRef<'_>, flat: bool) -> Self {
        let shape = rbm.shape();
        let rows = tiles(shape.n_visible()) * tiles(shape.n_hidden()) * TILE;
        let mut new = Self {
            shape,
            blocks: Blocks { flat, width: tiles(shape.n_hidden()) },
            weights: vec![Row::ZERO; rows],
            transposed: vec![Row::ZERO; if flat { 0 } else { rows }],
            visible_bias: spread(rbm.visible_bias(), shape.n_visible()),
            hidden_bias: spread(rbm.hidden_bias(), shape.n_hidden()),
            log_variance: Vec::new(),
            precision: Vec::new(),
            grid: Kept::default(),
        };
        if !shape.visible().is_discrete() {
            let mut log_variance = rbm.visible_log_variance().to_vec();
            log_variance.resize(shape.n_visible(), 0.0);
            new.set_log_variance(log_variance);
        }
        for (i, row) in rbm.weights().chunks_exact(shape.n_hidden()).enumerate() {
            for (tile, part) in row.chunks(TILE).enumerate() {
                let at = new.row(i, tile);
                new.weights[at].units_mut()[..part.len()].copy_from_slice(part);
                if !flat {
                    let block = at - i % TILE;
                    for (row, &w) in new.transposed[block..].iter_mut().zip(part) {
                        row.units_mut()[i % TILE] = w;
                    }
                }
            }
        }
        new
    }

    /// Writes them where their owner keeps them, row-major.
    pub(crate) fn write(&self, to: RbmMut<'_>) {
        let (weights, visible_bias, hidden_bias, log_variance) = to.parts();
        for (i, row) in weights.chunks_exact_mut(self.shape.n_hidden()).enumerate() {
            for (tile, part) in row.chunks_mut(TILE).enumerate() {
                let from = self.weights[self.row(i, tile)].units();
                part.copy_from_slice(&from[..part.len()]);
            }
        }
        gather(&self.visible_bias, self.shape.n_visible(), visible_bias);
        gather(&self.hidden_bias, self.shape.n_hidden(), hidden_bias);
        log_variance.iter_mut().zip(&self.log_variance).for_each(|(to, from)| *to = *from);
    }

    /// ln σ² and what follows from it.
    pub(crate) fn set_log_variance(&mut self, log_variance: Vec<f32>) {
        self.precision = log_variance.iter().map(|&log| exp(-log)).collect();
        self.log_variance = log_variance;
    }

    /// The rows of all blocks of a visible tile.
    pub(crate) fn block_rows(&self) -> usize {
        tiles(self.shape.n_hidden()) * TILE
    }

    /// The row of visible unit `i` in tile `hidden`.
    pub(crate) fn row(&self, i: usize, hidden: usize) -> usize {
        let (first, step) = self.blocks.block(hidden);
        i / TILE * self.block_rows() + first + i % TILE * step
    }

    /// The weights of a unit of `layer` with tile `other` of the other layer; the transposed ones must be there.
    #[inline(always)]
    pub(super) fn row_of(&self, layer: Layer, unit: usize, other: usize) -> &Row {
        match layer {
            Layer::Visible => &self.weights[self.row(unit, other)],
            Layer::Hidden => &self.transposed[other * self.block_rows() + unit],
        }
    }

    /// The bias of a layer.
    pub(crate) fn bias(&self, layer: Layer) -> &[Row] {
        match layer {
            Layer::Visible => &self.visible_bias,
            Layer::Hidden => &self.hidden_bias,
        }
    }

    /// The [`Strip`]'s `skip` for sums over the units of the layer `given`.
    pub(crate) fn skip(&self, given: Layer) -> usize {
        match given {
            Layer::Visible => (tiles(self.shape.n_hidden()) - 1) * TILE,
            Layer::Hidden => 0,
        }
    }

    /// What a sum over the units of the layer `given` reads, for one tile of the other layer; nothing where a matrix library
    /// makes all sums at once.
    pub(crate) fn strip(&self, given: Layer, tile: usize) -> Strip<'_> {
        let rows = match given {
            _ if self.blocks.flat => &[][..],
            Layer::Visible => &self.weights[tile * TILE..],
            Layer::Hidden => &self.transposed[tile * self.block_rows()..][..self.block_rows()],
        };
        Strip { rows, skip: self.skip(given) }
    }
}

/// The weights between all units of one layer and one tile of the other: the row of unit u is `rows[u + u/64·skip]`.
#[derive(Clone, Copy)]
pub(crate) struct Strip<'a> {
    pub rows: &'a [Row],
    pub skip: usize,
}
