//! A group of rows on its way through the layers: what every verb of the CPU is made of.
//!
//! A worker takes its rows in groups of at most 64 and goes over the tiles of the layer that it makes: for each tile
//! the sums of all rows of the group, so that the tile's strip of weights stays in the second-level cache, and then at
//! once what becomes of them.

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

/// Does some work in groups.
pub(crate) fn in_groups<W: Split>(cpu: Cpu, work: W, run: impl FnMut(W)) {
    in_parts(work, cpu.group(), run);
}

/// What a worker needs besides the rows; one for each thread, made once.
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
    /// e^±W of one visible tile; log P(x_i|x_-i) of the group; which units have weights too large for a product.
    pub factors: Vec<Row>,
    pub terms: Vec<Row>,
    pub large: Vec<u64>,
    /// What each state of a site would have, state after state of all rows.
    pub site_terms: Vec<f64>,
}

/// The visible layers of a group, row-major: what is drawn and what from.
#[derive(Default)]
pub(crate) struct VisibleLayer {
    /// Pre-activations, or means where those are asked for; rows × n_visible.
    pub pre: Vec<f32>,
    /// The bits that were drawn, rows × tiles.
    pub words: Vec<u64>,
    /// The numbers that were drawn, rows × n_visible; empty where all states are bits.
    pub numbers: Vec<f32>,
    pub bias: Vec<f32>,
    pub reference: Vec<f32>,
    pub room: Room,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Lends the thread's scratch; nothing inside may hand work to other threads.
pub(crate) fn with_scratch<T>(f: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(f)
}

/// The draws of a whole layer for the rows of a group: row r, unit j has number r·units + j from some place on.
#[derive(Default)]
pub(crate) struct LayerDraws {
    /// What leads from the layer's first draw to the first one of each row.
    jumps: Vec<Jump>,
    /// The generator's state for each row.
    pub states: Vec<u64>,
}

impl LayerDraws {
    /// Draws for rows `first..first + rows` of layers of so many units.
    pub fn prepare(&mut self, units: usize, first: usize, rows: usize) {
        let step = Jump::over(units as u64);
        let mut jump = Jump::over((first * units) as u64);
        self.jumps.clear();
        for _ in 0..rows {
            self.jumps.push(jump);
            jump = jump.then(step);
        }
    }

    /// Goes to the draws of a layer that begin at this state of the generator.
    pub fn begin(&mut self, state: u64) {
        self.states.clear();
        self.states.extend(self.jumps.iter().map(|jump| jump.from(state)));
    }
}

/// The places of a sweep's draws, layer after layer: all chains' visible units, then all chains' hidden units, and again.
pub(crate) struct SweepDraws {
    state: u64,
    over: [Jump; 2],
}

impl SweepDraws {
    /// From `state` on; readies `draws` for the rows of a group.
    pub fn new(
        state: u64, shape: Shape, chains: usize, first: usize, rows: usize, draws: &mut [LayerDraws; 2],
    ) -> Self {
        let units = [shape.n_visible(), shape.n_hidden()];
        draws.iter_mut().zip(units).for_each(|(draws, units)| draws.prepare(units, first, rows));
        Self { state, over: units.map(|units| Jump::over((chains * units) as u64)) }
    }

    /// The group's states for the next visible layer (0) or the hidden one after it (1).
    pub fn layer<'d>(&mut self, layer: usize, draws: &'d mut [LayerDraws; 2]) -> &'d mut [u64] {
        draws[layer].begin(self.state);
        self.state = self.over[layer].from(self.state);
        &mut draws[layer].states
    }
}

/// Writes tile number `tile` of each row into rows of `width` tiles.
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

/// Spreads row `r` over tiles.
pub(crate) fn spread_row(rows: Rows<'_>, r: usize, out: &mut Vec<Row>) {
    out.clear();
    out.resize(tiles(rows.units()), Row::ZERO);
    for i in 0..rows.units() {
        out[i / TILE].units_mut()[i % TILE] = rows.value(r, i);
    }
}

/// As many empty partial sums as there are rows.
pub(crate) fn empty(partials: &mut Vec<Partial>, rows: usize) {
    partials.clear();
    partials.resize(rows, [0.0; LANES]);
}
