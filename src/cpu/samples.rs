//! Samples from integer sums of weights on a 16-bit grid, which decide almost every unit.
//!
//! If the means of a layer are not needed, a unit is one bit: whether u < σ(a). A pre-activation a' with an error of at most ε
//! decides it, unless u lies between σ(a' - ε) and σ(a' + ε). Here a' is a sum of integers q, the weights rounded to multiples of
//! 2^-s. Integers have the same sum in any order. So each chain keeps its sums from step to step, and only *changed* units are
//! added or subtracted. They are fewer than half of the active units, and their rows are half as long. ε leaves fewer than one unit
//! in a thousand undecided; these get their canonical sum, each along its own row of weights. So all bits are canonical, and
//! results do not depend on the method. [`decision`](super::decision) has the proof.

use super::{
    decision::{above, below, exponent_alone, rough_odds, surely_off, surely_on},
    grid::{Grid, GridRow, HALVES, largest, power},
    tempered::Tempered,
    tiles::{LANE, Row, TILE, VECTORS, lanes_used, tiles, vectors},
};
use crate::{
    elementary::odds_off_lanes,
    lanes::{LANES, One, dispatch, isa::Isa},
    shape::Layer,
    uniforms::{Jump, end_distance, output},
    units::{binary::is_rare, pre_activation},
};
use std::f32::consts::LOG2_E;

/// A tile of sums.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Whole([[i32; LANES]; VECTORS]);

/// The integer sums of a group of chains during a sweep, for each given layer.
#[derive(Default)]
pub(crate) struct GridSums {
    given: [LayerSums; 2],
    changes: Changes,
    /// For each chain: 1 - κ and 1 + κ + κ², its word in the current tile, and the mask of undecided units in it.
    factors: Vec<[f32; 2]>,
    words: Vec<u64>,
    open: Vec<u64>,
}

#[derive(Default)]
struct LayerSums {
    /// The states to which the sums belong, chains × tiles.
    states: Vec<u64>,
    /// The sums for the other layer, ordered by tile and then by chain.
    sums: Vec<Whole>,
    /// The largest magnitudes of the other layer's biases: the model's and the reference's.
    biases: [f32; 2],
}

/// The changed units of each chain.
#[derive(Default)]
struct Changes {
    /// From `chain·stride`: the positions of their rows in a strip, and 1 for units that turned on, -1 for units that turned off. A
    /// 0 pads the list to an even length.
    places: Vec<u32>,
    signs: Vec<i16>,
    /// The length of each list, an even number.
    lengths: Vec<usize>,
    stride: usize,
}

impl GridSums {
    /// Resets the sums for chains at the beginning of a sweep.
    pub fn begin(&mut self, model: Tempered<'_>) {
        let (parameters, rows) = (model.parameters, model.betas.len());
        for given in [Layer::Visible, Layer::Hidden] {
            let LayerSums { states, sums, biases } = &mut self.given[given as usize];
            let width = |layer| rows * tiles(parameters.shape.units(layer));
            states.clear();
            states.resize(width(given), 0);
            sums.clear();
            sums.resize(width(given.other()), Whole([[0; LANES]; VECTORS]));
            let reference = if given == Layer::Hidden { model.reference } else { &[] };
            *biases = [parameters.bias(given.other()), reference].map(|rows| largest(model.cpu.isa, rows));
        }
    }

    /// Samples the layer other than `given`, whose bits are `states`, on the grid, and writes it to `to`. `draws` are the
    /// generator's states for the first unit of each row. Returns false and does nothing if there is no grid, or sums would be
    /// faster.
    pub fn draw(
        &mut self, model: Tempered<'_>, grid: Option<&Grid>, given: Layer, states: &[u64], draws: &mut [u64],
        to: &mut [u64],
    ) -> bool {
        let (shape, made) = (model.parameters.shape, given.other());
        let Some(grid) = grid.filter(|_| shape.segments(made).is_binary()) else { return false };
        let Self { given: layers, changes, factors: of_chains, words, open } = self;
        let LayerSums { states: before, sums, biases } = &mut layers[given as usize];
        let (units, rows, width) = (shape.units(made), model.betas.len(), tiles(shape.units(given)));
        let mut total = 0.0;
        of_chains.clear();
        for (words, &beta) in states.chunks_exact(width).zip(model.betas) {
            let epsilon = grid.epsilon(count(grid.isa, words), beta, *biases);
            of_chains.push([below(One, epsilon), above(One, epsilon)]);
            total += f64::from(epsilon);
        }
        // False if the total is NaN.
        let pays = total <= grid.rules.max_epsilon * rows as f64;
        if !pays {
            return false;
        }
        changes.take(grid.isa, before, states, shape.units(given), model.parameters.skip(given));
        words.resize(rows, 0);
        open.resize(rows, 0);
        for (number, sums) in sums.chunks_exact_mut(rows).enumerate() {
            let tile = GridTile {
                rows: model.parameters.grid_strip(grid, given, number),
                changes,
                step: power(-grid.shift.unwrap_or(0)) * -LOG2_E,
                bias: &model.parameters.bias(made)[number],
                reference: model.reference_of(made, number),
                betas: model.betas,
                factors: of_chains,
                last: lanes_used(units, number, vectors(units, number) - 1),
            };
            match vectors(units, number) {
                1 => draw_tile::<1>(grid.isa, tile, sums, draws, words, open),
                2 => draw_tile::<2>(grid.isa, tile, sums, draws, words, open),
                3 => draw_tile::<3>(grid.isa, tile, sums, draws, words, open),
                _ => draw_tile::<VECTORS>(grid.isa, tile, sums, draws, words, open),
            }
            for (r, draws) in draws.iter_mut().enumerate() {
                while open[r] != 0 {
                    let place = open[r].trailing_zeros() as usize;
                    let is_on = settle(
                        model.cpu.isa,
                        model,
                        made,
                        &states[r * width..][..width],
                        number * TILE + place,
                        r,
                        *draws,
                    );
                    words[r] = words[r] & !(1 << place) | u64::from(is_on) << place;
                    open[r] &= open[r] - 1;
                }
                to[r * tiles(units) + number] = words[r];
                *draws = OVER_TILE.from(*draws);
            }
        }
        true
    }
}

/// The jump over the random numbers of a tile.
const OVER_TILE: Jump = Jump::over(TILE as u64);

impl Changes {
    /// Lists the units in which `now` differs from `before`, and copies `now` to `before`.
    fn take(&mut self, isa: Isa, before: &mut [u64], now: &[u64], units: usize, skip: usize) {
        let (width, chains) = (tiles(units), now.len() / tiles(units));
        self.stride = units.next_multiple_of(2);
        let room = self.places.len().max(chains * self.stride);
        self.places.resize(room, 0);
        self.signs.resize(room, 0);
        self.lengths.resize(chains, 0);
        let words = before.chunks_exact_mut(width).zip(now.chunks_exact(width));
        let lists = self.places.chunks_exact_mut(self.stride).zip(self.signs.chunks_exact_mut(self.stride));
        for (((before, now), (places, signs)), length) in words.zip(lists).zip(&mut self.lengths) {
            *length = list(isa, before, now, skip, places, signs);
        }
    }

    /// Pairs of positions and of signs.
    #[inline(always)]
    fn of(&self, chain: usize) -> impl Iterator<Item = (&[u32; 2], &[i16; 2])> {
        let part = chain * self.stride..chain * self.stride + self.lengths[chain];
        self.places[part.clone()].as_chunks().0.iter().zip(self.signs[part].as_chunks().0)
    }
}

/// The inputs of a tile that are common to all chains.
#[derive(Clone, Copy)]
struct GridTile<'a> {
    rows: &'a [GridRow],
    changes: &'a Changes,
    /// -2^-s·log₂e.
    step: f32,
    bias: &'a Row,
    reference: &'a Row,
    betas: &'a [f32],
    factors: &'a [[f32; 2]],
    /// The number of lanes of the last vector that hold units.
    last: f32,
}

dispatch! {
    /// The number of active units.
    fn count(|_l| words: &[u64]) -> u32 {
        words.iter().map(|word| word.count_ones()).sum()
    }

    /// Lists the changes of one chain: the positions of their rows in a strip, and signs. Returns their number, and copies `now` to
    /// `before`.
    fn list(|_l| before: &mut [u64], now: &[u64], skip: usize, places: &mut [u32], signs: &mut [i16]) -> usize {
        let mut n = 0;
        for (tile, (before, &now)) in before.iter_mut().zip(now).enumerate() {
            let mut changed = *before ^ now;
            while changed != 0 {
                let unit = changed.trailing_zeros();
                places[n] = (tile * (TILE + skip)) as u32 + unit;
                signs[n] = 2 * (now >> unit & 1) as i16 - 1;
                changed &= changed - 1;
                n += 1;
            }
            *before = now;
        }
        if n % 2 == 1 {
            (places[n], signs[n]) = (0, 0);
            n += 1;
        }
        n
    }

    /// Updates the sums of a tile and samples it: the word of each chain, and the mask of its undecided units. `draws` are the
    /// generator's states for the first unit of each chain.
    fn draw_tile<const V: usize>(
        |l| tile: GridTile<'_>, sums: &mut [Whole], draws: &[u64], words: &mut [u64], open: &mut [u64],
    ) {
        let used = l.bits(l.less(l.load(&LANE), l.splat(tile.last)));
        let mut rest = [l.splat(0.0); V];
        for (r, sums) in sums.iter_mut().enumerate() {
            let mut now = [[l.load_whole(&sums.0[0]); 2]; HALVES];
            for h in 0..V.div_ceil(2) {
                now[h] = [l.load_whole(&sums.0[2 * h]), l.load_whole(&sums.0[2 * h + 1])];
            }
            for (places, &[first, second]) in tile.changes.of(r) {
                let [a, b] = places.map(|place| &tile.rows[place as usize]);
                let signs = u32::from(first as u16) | u32::from(second as u16) << 16;
                for h in 0..V.div_ceil(2) {
                    now[h] = l.add_small(now[h], [&a.0[h], &b.0[h]], signs as i32);
                }
            }
            for h in 0..V.div_ceil(2) {
                l.store_whole(now[h][0], &mut sums.0[2 * h]);
                l.store_whole(now[h][1], &mut sums.0[2 * h + 1]);
            }
            if r == 0 || tile.betas[r] != tile.betas[r - 1] {
                for v in 0..V {
                    let (bias, reference) = (l.load(&tile.bias.0[v]), l.load(&tile.reference.0[v]));
                    rest[v] = exponent_alone(l, bias, reference, l.splat(tile.betas[r]));
                }
            }
            let step = l.splat(tile.betas[r] * tile.step);
            let [below, above] = tile.factors[r].map(|factor| l.splat(factor));
            let mut numbers = l.states(draws[r]);
            let mut bits = [[0; VECTORS]; 2];
            for v in 0..V {
                let low = l.unit_interval(l.draw(&mut numbers));
                let odds = rough_odds(l, l.number(now[v / 2][v % 2]), step, rest[v]);
                bits[0][v] = l.bits(surely_on(l, low, odds, below));
                bits[1][v] = !(bits[0][v] | l.bits(surely_off(l, low, odds, above)));
            }
            for (bits, to) in bits.iter_mut().zip([&mut words[r], &mut open[r]]) {
                bits[V - 1] &= used;
                *to = bits.iter().rev().fold(0, |word, &bits| word << LANES | u64::from(bits));
            }
        }
    }

    /// Decides a unit of row `r` by its canonical sum over the bits of the other layer. `draws` is the generator's state for the
    /// first unit of its tile.
    fn settle(|_l| model: Tempered<'_>, layer: Layer, on: &[u64], unit: usize, r: usize, draws: u64) -> bool {
        let (parameters, tile, place) = (model.parameters, unit / TILE, unit % TILE);
        let mut sum = 0.0;
        for (number, &word) in on.iter().enumerate() {
            let (weights, mut word) = (parameters.row_of(layer, unit, number).units(), word);
            while word != 0 {
                sum += weights[word.trailing_zeros() as usize];
                word &= word - 1;
            }
        }
        let bias = parameters.bias(layer)[tile].units()[place];
        let reference = model.reference_of(layer, tile).units()[place];
        let odds = odds_off_lanes(One, pre_activation(One, sum, bias, reference, model.betas[r]));
        let upper = odds < 1.0;
        let number = output(Jump::over(place as u64).from(draws));
        is_rare(One, odds, end_distance(number, upper)) ^ upper
    }
}

#[cfg(test)]
mod tests;
