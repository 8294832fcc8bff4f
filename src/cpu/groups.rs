//! A group of rows on its way through the layers: what every verb of the CPU is made of.
//!
//! A worker takes its rows in groups of at most [`GROUP`] and goes over the tiles of the layer that it makes: for each tile
//! the sums of all rows of the group, so that the tile's strip of weights stays in the second-level cache, and then at
//! once what becomes of them.

use super::{
    inputs::Inputs,
    isa::Isa,
    layers::{self, Partial},
    threads::{Split, in_parts},
    tiles::{Parameters, Row, TILE, tiles, vectors},
};
use crate::{
    backend::{Layer, Rows},
    lanes::LANES,
    uniforms::Jump,
};
use std::cell::RefCell;

/// The largest group: enough to use a strip well, few enough for its tile to stay in the first-level cache.
pub(crate) const GROUP: usize = 64;

/// Does some work in groups.
pub(crate) fn in_groups<W: Split>(work: W, run: impl FnMut(W)) {
    in_parts(work, GROUP, run);
}

/// What a worker needs besides the rows; one for each thread, made once.
#[derive(Default)]
pub(crate) struct Scratch {
    pub inputs: Inputs,
    /// One tile of every row of the group.
    tile: Vec<Row>,
    pub base: Vec<Row>,
    pub row: Vec<Row>,
    pub flat: Vec<f32>,
    pub bits: Vec<u64>,
    pub states: Vec<u64>,
    /// What leads from a layer's first draw to the first draw of each row, for either layer.
    pub jumps: [Vec<Jump>; 2],
    pub partials: Vec<Partial>,
    pub changes: Vec<f32>,
    /// e^±W of one visible tile; log P(x_i|x_-i) of the group; which units have weights too large for a product.
    pub factors: Vec<Row>,
    pub terms: Vec<Row>,
    pub large: Vec<u64>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Lends the thread's scratch; nothing inside may hand work to other threads.
pub(crate) fn with_scratch<T>(f: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(f)
}

/// A model at the inverse temperatures of the rows of a group.
#[derive(Clone, Copy)]
pub(crate) struct Tempered<'a> {
    pub isa: Isa,
    pub parameters: &'a Parameters,
    /// The visible bias of the model at β = 0; one row of tiles.
    pub reference: &'a [Row],
    pub betas: &'a [f32],
}

/// The inverse temperature of the model itself, for every row of a group.
pub(crate) const COLD: [f32; GROUP] = [1.0; GROUP];

impl Tempered<'_> {
    /// Makes the layer other than `given` from the states in `inputs`: `take` gets each tile's number, its number of
    /// vectors and the pre-activations of its rows.
    pub fn make(
        &self, given: Layer, inputs: &Inputs, tile_rows: &mut Vec<Row>, mut take: impl FnMut(usize, usize, &mut [Row]),
    ) {
        let rows = self.betas.len();
        let units = self.parameters.shape.units(given.other());
        tile_rows.resize(rows.max(tile_rows.len()), Row::ZERO);
        for (tile, bias) in self.parameters.bias(given.other()).iter().enumerate() {
            let sums = &mut tile_rows[..rows];
            let vectors = vectors(units, tile);
            inputs.sums(self.isa, self.parameters.strip(given, tile), vectors, sums);
            let reference = match given {
                Layer::Hidden => &self.reference[tile],
                Layer::Visible => &Row::ZERO,
            };
            layers::pre_activations(self.isa, sums, bias, reference, self.betas, vectors);
            take(tile, vectors, sums);
        }
    }

    /// [`make`](Self::make) from rows of real numbers.
    pub fn make_from_rows(
        &self, given: Layer, rows: Rows<'_>, scratch: &mut Scratch, take: impl FnMut(usize, usize, &mut [Row]),
    ) {
        scratch.inputs.take_rows(self.isa, rows, self.parameters.skip(given));
        self.make(given, &scratch.inputs, &mut scratch.tile, take);
    }

    /// [`make`](Self::make) from packed bits.
    pub fn make_from_bits(
        &self, given: Layer, bits: &[u64], scratch: &mut Scratch, take: impl FnMut(usize, usize, &mut [Row]),
    ) {
        scratch.inputs.take_bits(self.isa, bits, self.parameters.shape.units(given), self.parameters.skip(given));
        self.make(given, &scratch.inputs, &mut scratch.tile, take);
    }
}

/// The draws of a whole layer for many rows: row r, unit j has number r·units + j from `state` on.
#[derive(Clone, Copy)]
pub(crate) struct LayerDraws {
    pub state: u64,
    pub units: usize,
}

impl LayerDraws {
    /// What leads to the first draw of each of `rows` rows from row `first` on.
    pub fn jumps(self, first: usize, rows: usize, out: &mut Vec<Jump>) {
        let step = Jump::over(self.units as u64);
        let mut jump = Jump::over((first * self.units) as u64);
        out.clear();
        for _ in 0..rows {
            out.push(jump);
            jump = jump.then(step);
        }
    }

    /// The generator's state for each row.
    pub fn states(self, jumps: &[Jump], out: &mut Vec<u64>) {
        out.clear();
        out.extend(jumps.iter().map(|jump| jump.from(self.state)));
    }
}

/// Rounds rows to bits: x ≥ 0.5 → 1.
pub(crate) fn round(rows: Rows<'_>, bits: &mut Vec<u64>) {
    let words = tiles(rows.units());
    bits.clear();
    bits.resize(rows.len() * words, 0);
    for (r, bits) in bits.chunks_exact_mut(words).enumerate() {
        for i in 0..rows.units() {
            bits[i / TILE] |= u64::from(rows.bit(r, i)) << (i % TILE);
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
