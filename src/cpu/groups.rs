//! Groups of rows and the scratch of a worker, which all operations of the CPU backend share.
//!
//! A worker processes its rows in groups of at most 64. For each group it iterates over the tiles of the layer that it computes.
//! For each tile it computes the sums of all rows of the group, so that the tile's strip of weights stays in the second-level
//! cache, and then at once uses the sums.

use super::{
    flip::Flip,
    host::Cpu,
    inputs,
    layers::Partial,
    samples::GridSums,
    tempered::LayerScratch,
    tiles::{Row, TILE, tiles},
};
use crate::{
    lanes::{
        LANES,
        threads::{Split, in_parts},
    },
    rows::Rows,
    shape::Shape,
    uniforms::Jump,
    units::Room,
};
use std::cell::RefCell;

/// Splits work into groups.
pub(crate) fn in_groups<W: Split>(cpu: Cpu, work: W, run: impl FnMut(W)) {
    in_parts(work, cpu.group(), run);
}

/// The scratch of a worker, in addition to its rows; one per thread, allocated once.
#[derive(Default)]
pub(crate) struct Scratch {
    pub sums: LayerScratch,
    pub on_grid: GridSums,
    pub visible: VisibleLayer,
    pub draws: [LayerDraws; 2],
    pub base: Vec<Row>,
    pub row: Vec<Row>,
    pub flat: Vec<f32>,
    pub bits: Vec<u64>,
    pub partials: Vec<Partial>,
    pub flip: Flip,
    pub changes: Vec<f32>,
    /// e^±W of one visible tile; log P(x_i|x_-i) of the group; the mask of units whose weights are too large for a product.
    pub factors: Vec<Row>,
    pub terms: Vec<Row>,
    pub large: Vec<u64>,
    /// The log-probability terms of the states of a site, ordered by state and then by row.
    pub site_terms: Vec<f64>,
}

/// The visible layers of a group, row-major: pre-activations and samples.
#[derive(Default)]
pub(crate) struct VisibleLayer {
    /// Pre-activations, or means if those are requested; rows × n_visible.
    pub pre: Vec<f32>,
    /// The sampled bits, rows × tiles.
    pub words: Vec<u64>,
    /// The sampled numbers, rows × n_visible; empty if all states are bits.
    pub numbers: Vec<f32>,
    pub bias: Vec<f32>,
    pub reference: Vec<f32>,
    pub room: Room,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Borrows the thread's scratch. `f` must not give work to other threads.
pub(crate) fn with_scratch<T>(f: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(f)
}

/// The random numbers of a layer for the rows of a group: row r, unit j has number r·units + j from a given position.
#[derive(Default)]
pub(crate) struct LayerDraws {
    /// The jumps from the layer's first random number to the first one of each row.
    jumps: Vec<Jump>,
    /// The generator's state for each row.
    pub states: Vec<u64>,
}

impl LayerDraws {
    /// Prepares rows `first..first + rows` of layers with `units` units.
    pub fn prepare(&mut self, units: usize, first: usize, rows: usize) {
        let step = Jump::over(units as u64);
        let mut jump = Jump::over((first * units) as u64);
        self.jumps.clear();
        for _ in 0..rows {
            self.jumps.push(jump);
            jump = jump.then(step);
        }
    }

    /// Sets the generator's state at the layer's first random number.
    pub fn begin(&mut self, state: u64) {
        self.states.clear();
        self.states.extend(self.jumps.iter().map(|jump| jump.from(state)));
    }
}

/// The positions of a sweep's random numbers, layer by layer: visible units of all chains, hidden units of all chains, and so on.
pub(crate) struct SweepDraws {
    state: u64,
    over: [Jump; 2],
}

impl SweepDraws {
    /// Starts at `state`, and prepares `draws` for the rows of a group.
    pub fn new(
        state: u64, shape: Shape, chains: usize, first: usize, rows: usize, draws: &mut [LayerDraws; 2],
    ) -> Self {
        let units = [shape.n_visible(), shape.n_hidden()];
        draws.iter_mut().zip(units).for_each(|(draws, units)| draws.prepare(units, first, rows));
        Self { state, over: units.map(|units| Jump::over((chains * units) as u64)) }
    }

    /// The group's states for the next visible layer (0) or the hidden layer after it (1).
    pub fn layer<'d>(&mut self, layer: usize, draws: &'d mut [LayerDraws; 2]) -> &'d mut [u64] {
        draws[layer].begin(self.state);
        self.state = self.over[layer].from(self.state);
        &mut draws[layer].states
    }
}

/// Copies a tile of each row to tile number `tile` of rows with `width` tiles.
pub(crate) fn put(tile: usize, width: usize, from: &[Row], to: &mut [Row]) {
    to[tile..].iter_mut().step_by(width).zip(from).for_each(|(to, from)| *to = *from);
}

/// Rounds rows to bits: x ≥ 0.5 → 1.
pub(crate) fn round(rows: Rows<'_>, bits: &mut Vec<u64>) {
    let words = tiles(rows.units());
    bits.clear();
    bits.resize(rows.len() * words, 0);
    for (r, bits) in bits.chunks_exact_mut(words).enumerate() {
        for (word, first) in bits.iter_mut().zip((0..rows.units()).step_by(TILE)) {
            *word = inputs::rounded(rows, r, first..rows.units().min(first + TILE));
        }
    }
}

/// Copies row `r` to tiles.
pub(crate) fn spread_row(rows: Rows<'_>, r: usize, out: &mut Vec<Row>) {
    out.clear();
    out.resize(tiles(rows.units()), Row::ZERO);
    for i in 0..rows.units() {
        out[i / TILE].units_mut()[i % TILE] = rows.value(r, i);
    }
}

/// Clears the partial sums of all rows.
pub(crate) fn empty(partials: &mut Vec<Partial>, rows: usize) {
    partials.clear();
    partials.resize(rows, [0.0; LANES]);
}
