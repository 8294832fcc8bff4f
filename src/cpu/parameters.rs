//! The layout of the parameters on the CPU: weights in blocks, in two copies.
//!
//! The weights are divided in both directions into blocks of 64 × 64. Block (I, J) joins visible tile I and hidden tile J. There
//! are two copies: in `weights` row i of a block runs over the hidden units, in `transposed` row j runs over the visible ones. Both
//! store their blocks in the order (I, J), so that
//! - the rows that a product reads are whole cache lines, close to each other, for either direction;
//! - the data of visible tile I are contiguous in both copies, so an update can be split by tiles without locks.
//!
//! A matrix library needs neither blocks nor a second copy. For it, the tiles of each row are contiguous in `weights`, and
//! `transposed` is empty.

use super::{
    grid::{Grid, GridCache, GridRow},
    host::Cpu,
    tiles::{Row, TILE, gather, spread, tiles},
};
use crate::{
    elementary::exp,
    rbm::{RbmMut, RbmRef},
    shape::{Layer, Shape},
};
use std::ops::Range;

/// The layout of the weights of a visible tile: in blocks, or `flat`, with the `width` tiles of each row contiguous.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks {
    flat: bool,
    width: usize,
}

impl Blocks {
    /// The position of the block with hidden tile `hidden`, and the distance between its rows.
    pub fn block(self, hidden: usize) -> (usize, usize) {
        if self.flat { (hidden, self.width) } else { (hidden * TILE, 1) }
    }

    /// Calls `run` for each block of the given hidden tiles, with its tile, its rows, the distance between them, and its transpose.
    /// The transpose of a flat matrix is empty.
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

/// The parameters of an RBM in the CPU's layout.
#[derive(Clone, Debug)]
pub struct CpuParameters {
    pub(crate) shape: Shape,
    pub(crate) blocks: Blocks,
    pub(crate) weights: Vec<Row>,
    pub(crate) transposed: Vec<Row>,
    pub(crate) visible_bias: Vec<Row>,
    pub(crate) hidden_bias: Vec<Row>,
    /// ln σ² and s = 1/σ² of the visible units, n_visible; empty without Gaussian units.
    pub(crate) log_variance: Vec<f32>,
    pub(crate) precision: Vec<f32>,
    pub(super) grid: GridCache,
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
            grid: GridCache::default(),
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

    /// Copies the parameters to row-major buffers.
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

    /// Sets ln σ² and the precision.
    pub(crate) fn set_log_variance(&mut self, log_variance: Vec<f32>) {
        self.precision = log_variance.iter().map(|&log| exp(-log)).collect();
        self.log_variance = log_variance;
    }

    /// The rows of all blocks of a visible tile.
    pub(crate) fn block_rows(&self) -> usize {
        tiles(self.shape.n_hidden()) * TILE
    }

    /// The position of the row of visible unit `i` in hidden tile `hidden`.
    pub(crate) fn row(&self, i: usize, hidden: usize) -> usize {
        let (first, step) = self.blocks.block(hidden);
        i / TILE * self.block_rows() + first + i % TILE * step
    }

    /// The weights between a unit of `layer` and tile `other` of the other layer. Needs the transposed copy.
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

    /// The rows that a sum over the units of the layer `given` reads, for one tile of the other layer. Empty for a matrix library,
    /// which computes all sums at once.
    pub(crate) fn strip(&self, given: Layer, tile: usize) -> Strip<'_> {
        let rows = match given {
            _ if self.blocks.flat => &[][..],
            Layer::Visible => &self.weights[tile * TILE..],
            Layer::Hidden => &self.transposed[tile * self.block_rows()..][..self.block_rows()],
        };
        Strip { rows, skip: self.skip(given) }
    }

    /// The weights on a grid for this number of steps of chains, if it pays.
    pub(super) fn grid(&self, cpu: Cpu, steps: usize) -> Option<&Grid> {
        self.grid.for_steps(cpu, steps, self.shape, &self.weights, &self.transposed)
    }

    /// The rows of [`strip`](Self::strip) on the grid.
    pub(super) fn grid_strip<'a>(&self, grid: &'a Grid, given: Layer, tile: usize) -> &'a [GridRow] {
        match given {
            Layer::Visible => &grid.weights[tile * TILE..],
            Layer::Hidden => &grid.transposed[tile * self.block_rows()..][..self.block_rows()],
        }
    }

    /// Completes an update of the grid that rounded its weights by parts.
    pub(super) fn renew_grid(&mut self) {
        self.grid.renew(&self.weights, &self.transposed);
    }
}

/// The weights between all units of one layer and one tile of the other: the row of unit u is `rows[u + u/64·skip]`.
#[derive(Clone, Copy)]
pub(crate) struct Strip<'a> {
    pub rows: &'a [Row],
    pub skip: usize,
}
