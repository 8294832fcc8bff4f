//! The weights once more, rounded to multiples of 2^-s in 16 bits: what [`samples`](super::samples) adds up.
//!
//! The grid takes half the memory of the weights and their transposes. The first sweep of enough steps makes it, updates keep it
//! current as long as sweeps use it between them, and a model with weights that are too large for a useful one goes without.

use super::{
    decision::error_bound,
    host::{Cpu, Drawing},
    tiles::{Row, TILE, VECTORS},
};
use crate::{
    lanes::{
        LANES, One, Small, dispatch,
        isa::Isa,
        threads::{RowsMut, Split},
    },
    shape::Shape,
};
use std::{
    ops::RangeInclusive,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// From how many steps of a chain in a sweep on rounding the weights pays.
pub(super) const WORTH: usize = 64;
/// The most units of a layer.
const MOST_UNITS: usize = 1 << 16;
/// No |w|·2^s is as large, and so no |q| is larger.
const LIMIT: f32 = 32_767.0;
/// A small number has so many halves of a tile.
pub(super) const HALVES: usize = VECTORS / 2;

/// When a grid is of use.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// What s may be.
    pub shifts: RangeInclusive<i32>,
    /// How large the mean of ε over some chains may be.
    pub most: f64,
    /// How much of ε is heeded.
    pub share: f32,
}

impl Drawing {
    /// The rules for so many steps of chains; none where there is no grid.
    fn rules(self, steps: usize) -> Option<Rules> {
        match self {
            // A finer grid is of no use; a coarser one, and a larger ε, would leave too many units open.
            Drawing::Fastest => (steps >= WORTH).then_some(Rules { shifts: 8..=16, most: 0.1, share: 1.0 }),
            #[cfg(test)]
            Drawing::Sums => None,
            #[cfg(test)]
            Drawing::Grid { finest, percent } => {
                Some(Rules { shifts: -100..=finest, most: f64::INFINITY, share: percent as f32 / 100.0 })
            }
        }
    }
}

/// A tile of a row of weights on the grid.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct GridRow(pub [Small; HALVES]);

/// The weights on a grid, in the blocks of [`parameters`](super::parameters).
#[derive(Debug)]
pub(super) struct Grid {
    /// Whose order of small numbers it is.
    pub isa: Isa,
    pub rules: Rules,
    /// s; none where the weights have no place on any grid, which then stays so.
    pub shift: Option<i32>,
    pub weights: Vec<GridRow>,
    pub transposed: Vec<GridRow>,
    /// Whether an update made weights that have no place on it.
    outgrown: AtomicBool,
}

/// The grid of a model, once somebody asks for it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub grid: OnceLock<Grid>,
    /// Whether somebody did since the last update.
    used: AtomicBool,
}

impl Clone for Kept {
    /// A copy of the model makes its own.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// The parts of a grid that belong to some visible tiles.
pub(super) struct GridPart<'a> {
    isa: Isa,
    scale: f32,
    outgrown: &'a AtomicBool,
    weights: RowsMut<'a, GridRow>,
    transposed: RowsMut<'a, GridRow>,
}

impl Kept {
    /// The grid of these weights and transposed weights for so many steps of chains, if it pays.
    pub fn for_steps(
        &self, cpu: Cpu, steps: usize, shape: Shape, weights: &[Row], transposed: &[Row],
    ) -> Option<&Grid> {
        let rules = cpu.drawing.rules(steps)?;
        if cpu.gemm || shape.n_visible().max(shape.n_hidden()) > MOST_UNITS || !shape.visible().is_discrete() {
            return None;
        }
        self.used.store(true, Relaxed);
        let make = || Grid::of(cpu.isa, rules, weights, transposed);
        Some(self.grid.get_or_init(make)).filter(|grid| grid.shift.is_some())
    }

    /// After an update that rounded its weights by parts: rounds all of them where some had no place on the grid.
    pub fn renew(&mut self, weights: &[Row], transposed: &[Row]) {
        if let Some(grid) = self.grid.get_mut().filter(|grid| grid.outgrown.load(Relaxed)) {
            grid.renew(weights, transposed);
        }
    }

    /// Keeps the grid for one more update: that of the weights which come from other ranks.
    #[cfg(feature = "mpi")]
    pub fn keep(&self) {
        self.used.store(true, Relaxed);
    }

    /// What an update has to round, `rows` rows for each visible tile. A grid that nobody asked for since the last update is dropped.
    pub fn parts(&mut self, rows: usize) -> Option<GridPart<'_>> {
        if !std::mem::take(self.used.get_mut()) {
            self.grid = OnceLock::new();
        }
        let Grid { isa, shift, weights, transposed, outgrown, .. } = self.grid.get_mut()?;
        Some(GridPart {
            isa: *isa,
            scale: power(*shift.as_ref()?),
            outgrown,
            weights: RowsMut::new(rows, weights),
            transposed: RowsMut::new(rows, transposed),
        })
    }
}

impl Split for GridPart<'_> {
    fn pieces(&self) -> usize {
        self.weights.pieces()
    }

    fn split(self, pieces: usize) -> (Self, Self) {
        let (weights, others) = self.weights.split(pieces);
        let (transposed, other_transposed) = self.transposed.split(pieces);
        (Self { weights, transposed, ..self }, Self { weights: others, transposed: other_transposed, ..self })
    }
}

impl GridPart<'_> {
    /// Rounds the weights of a block with tile `hidden` and their transposes, but for idle visible units.
    pub fn round(&mut self, hidden: usize, weights: &[Row], transposed: &[Row], idle: u64) {
        let rows = hidden * TILE..(hidden + 1) * TILE;
        let half = |h: usize| (idle >> (h * 2 * LANES)) as u32 == u32::MAX;
        let (own, other) = (&mut self.weights.values[rows.clone()], &mut self.transposed.values[rows]);
        let fit = round(self.isa, &weights[..TILE], self.scale, idle, [false; HALVES], own)
            && round(self.isa, transposed, self.scale, 0, std::array::from_fn(half), other);
        if !fit {
            self.outgrown.store(true, Relaxed);
        }
    }
}

/// 2^n.
pub(super) fn power(n: i32) -> f32 {
    libm::scalbnf(1.0, n)
}

impl Grid {
    pub fn of(isa: Isa, rules: Rules, weights: &[Row], transposed: &[Row]) -> Self {
        let (shift, outgrown) = (None, AtomicBool::new(false));
        let mut new = Self { isa, rules, shift, weights: Vec::new(), transposed: Vec::new(), outgrown };
        new.renew(weights, transposed);
        new
    }

    /// Rounds all weights, to the finest grid that has room for them.
    pub fn renew(&mut self, weights: &[Row], transposed: &[Row]) {
        let largest = largest(self.isa, weights);
        self.shift = self.rules.shifts.clone().rev().find(|&shift| largest * power(shift) < LIMIT);
        *self.outgrown.get_mut() = false;
        let Some(shift) = self.shift else { return };
        for (from, to) in [(weights, &mut self.weights), (transposed, &mut self.transposed)] {
            to.resize(from.len(), GridRow([[0; 2 * LANES]; HALVES]));
            round(self.isa, from, power(shift), 0, [false; HALVES], to);
        }
    }

    /// ε of [`decision`](super::decision) for a chain with `n` units on, where the biases and those of the reference are no larger
    /// than these.
    pub fn epsilon(&self, n: u32, beta: f32, [own, reference]: [f32; 2]) -> f32 {
        let half = 0.5 * power(-self.shift.unwrap_or(0));
        self.rules.share * error_bound(One, n as f32, half, beta, own, reference)
    }
}

dispatch! {
    /// The largest size of a number; not a number where there is one that is none.
    pub(super) fn largest(|_l| rows: &[Row]) -> f32 {
        let mut largest = [0; LANES];
        for vector in rows.iter().flat_map(|row| &row.0) {
            for lane in 0..LANES {
                largest[lane] = largest[lane].max(vector[lane].to_bits() & 0x7fff_ffff);
            }
        }
        f32::from_bits(largest.into_iter().fold(0, u32::max))
    }

    /// Rounds rows of weights times `scale`, but for idle rows and halves of rows; whether all of them have a place on the grid.
    fn round(
        |l| from: &[Row], scale: f32, idle: u64, idle_halves: [bool; HALVES], to: &mut [GridRow]
    ) -> bool {
        let (scale, limit) = (l.splat(scale), l.splat(LIMIT * LIMIT));
        let mut fit = u16::MAX;
        for (i, (from, to)) in from.iter().zip(to).enumerate() {
            if idle >> (i % TILE) & 1 == 1 {
                continue;
            }
            for (h, to) in to.0.iter_mut().enumerate() {
                if !idle_halves[h] {
                    let a = l.mul(l.load(&from.0[2 * h]), scale);
                    let b = l.mul(l.load(&from.0[2 * h + 1]), scale);
                    fit &= l.bits(l.less(l.mul(a, a), limit)) & l.bits(l.less(l.mul(b, b), limit));
                    l.round([a, b], to);
                }
            }
        }
        fit == u16::MAX
    }
}
