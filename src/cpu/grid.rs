//! A second copy of the weights, rounded to multiples of 2^-s in 16 bits, for the integer sums of [`samples`](super::samples).
//!
//! The grid takes half the memory of the weights and their transposes. The first sweep with enough steps creates it. Updates keep
//! it current while sweeps use it between updates. A model with weights that are too large for a useful grid has none.

use super::{
    decision::error_bound,
    host::{Cpu, SampleMethod},
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

/// The least number of steps (chains × steps) in a sweep for which rounding the weights pays.
pub(super) const MIN_STEPS: usize = 64;
/// The maximum number of units in a layer.
const MOST_UNITS: usize = 1 << 16;
/// |w|·2^s is below this, so |q| is at most this.
const LIMIT: f32 = 32_767.0;
/// The number of 32-lane halves in a tile of 16-bit numbers.
pub(super) const HALVES: usize = VECTORS / 2;

/// The conditions under which a grid is used.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// The permitted values of s.
    pub shifts: RangeInclusive<i32>,
    /// The maximum of ε, as a mean over chains.
    pub max_epsilon: f64,
    /// The share of ε that is applied; 1 except in tests.
    pub share: f32,
}

impl SampleMethod {
    /// The conditions for a number of steps; `None` if no grid is used.
    fn rules(self, steps: usize) -> Option<Rules> {
        match self {
            // A finer grid would not help. A coarser one, or a larger ε, would leave too many units open.
            SampleMethod::Fastest => {
                (steps >= MIN_STEPS).then_some(Rules { shifts: 8..=16, max_epsilon: 0.1, share: 1.0 })
            }
            #[cfg(test)]
            SampleMethod::Sums => None,
            #[cfg(test)]
            SampleMethod::Grid { finest, percent } => {
                Some(Rules { shifts: -100..=finest, max_epsilon: f64::INFINITY, share: percent as f32 / 100.0 })
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
    /// The instruction set whose order of 16-bit numbers this grid has.
    pub isa: Isa,
    pub rules: Rules,
    /// s; `None` if the weights fit no permitted grid. It then stays `None`.
    pub shift: Option<i32>,
    pub weights: Vec<GridRow>,
    pub transposed: Vec<GridRow>,
    /// Whether an update produced weights that do not fit the grid.
    overflowed: AtomicBool,
}

/// The grid of a model, created on first use.
#[derive(Debug, Default)]
pub(super) struct GridCache {
    pub grid: OnceLock<Grid>,
    /// Whether the grid was requested since the last update.
    used: AtomicBool,
}

impl Clone for GridCache {
    /// A copy of the model creates its own grid.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// The parts of a grid that belong to a range of visible tiles.
pub(super) struct GridPart<'a> {
    isa: Isa,
    scale: f32,
    overflowed: &'a AtomicBool,
    weights: RowsMut<'a, GridRow>,
    transposed: RowsMut<'a, GridRow>,
}

impl GridCache {
    /// The grid for a sweep with this number of steps, if it pays.
    pub fn for_steps(
        &self, cpu: Cpu, steps: usize, shape: Shape, weights: &[Row], transposed: &[Row],
    ) -> Option<&Grid> {
        let rules = cpu.method.rules(steps)?;
        if cpu.gemm || shape.n_visible().max(shape.n_hidden()) > MOST_UNITS || !shape.visible().is_discrete() {
            return None;
        }
        self.used.store(true, Relaxed);
        let make = || Grid::of(cpu.isa, rules, weights, transposed);
        Some(self.grid.get_or_init(make)).filter(|grid| grid.shift.is_some())
    }

    /// Completes an update that rounded its weights by parts: rounds all weights again if some did not fit the grid.
    pub fn renew(&mut self, weights: &[Row], transposed: &[Row]) {
        if let Some(grid) = self.grid.get_mut().filter(|grid| grid.overflowed.load(Relaxed)) {
            grid.renew(weights, transposed);
        }
    }

    /// Keeps the grid for one more update: its weights arrive from other ranks.
    #[cfg(feature = "mpi")]
    pub fn keep(&self) {
        self.used.store(true, Relaxed);
    }

    /// The parts for an update to round, `rows` rows for each visible tile. Drops the grid if it was not requested since the last
    /// update.
    pub fn parts(&mut self, rows: usize) -> Option<GridPart<'_>> {
        if !std::mem::take(self.used.get_mut()) {
            self.grid = OnceLock::new();
        }
        let Grid { isa, shift, weights, transposed, overflowed, .. } = self.grid.get_mut()?;
        Some(GridPart {
            isa: *isa,
            scale: power(*shift.as_ref()?),
            overflowed,
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
    /// Rounds the weights of a block with hidden tile `hidden` and their transposes, except for idle visible units.
    pub fn round(&mut self, hidden: usize, weights: &[Row], transposed: &[Row], idle: u64) {
        let rows = hidden * TILE..(hidden + 1) * TILE;
        let half = |h: usize| (idle >> (h * 2 * LANES)) as u32 == u32::MAX;
        let (own, other) = (&mut self.weights.values[rows.clone()], &mut self.transposed.values[rows]);
        let fit = round(self.isa, &weights[..TILE], self.scale, idle, [false; HALVES], own)
            && round(self.isa, transposed, self.scale, 0, std::array::from_fn(half), other);
        if !fit {
            self.overflowed.store(true, Relaxed);
        }
    }
}

/// 2^n.
pub(super) fn power(n: i32) -> f32 {
    libm::scalbnf(1.0, n)
}

impl Grid {
    pub fn of(isa: Isa, rules: Rules, weights: &[Row], transposed: &[Row]) -> Self {
        let (shift, overflowed) = (None, AtomicBool::new(false));
        let mut new = Self { isa, rules, shift, weights: Vec::new(), transposed: Vec::new(), overflowed };
        new.renew(weights, transposed);
        new
    }

    /// Rounds all weights, to the finest grid that holds them.
    pub fn renew(&mut self, weights: &[Row], transposed: &[Row]) {
        let largest = largest(self.isa, weights);
        self.shift = self.rules.shifts.clone().rev().find(|&shift| largest * power(shift) < LIMIT);
        *self.overflowed.get_mut() = false;
        let Some(shift) = self.shift else { return };
        for (from, to) in [(weights, &mut self.weights), (transposed, &mut self.transposed)] {
            to.resize(from.len(), GridRow([[0; 2 * LANES]; HALVES]));
            round(self.isa, from, power(shift), 0, [false; HALVES], to);
        }
    }

    /// ε of [`decision`](super::decision) for a chain with `n` units on. The biases and those of the reference are at most the last
    /// argument.
    pub fn epsilon(&self, n: u32, beta: f32, [own, reference]: [f32; 2]) -> f32 {
        let half = 0.5 * power(-self.shift.unwrap_or(0));
        self.rules.share * error_bound(One, n as f32, half, beta, own, reference)
    }
}

dispatch! {
    /// Returns the largest magnitude, or NaN if a number is NaN.
    pub(super) fn largest(|_l| rows: &[Row]) -> f32 {
        let mut largest = [0; LANES];
        for vector in rows.iter().flat_map(|row| &row.0) {
            for lane in 0..LANES {
                largest[lane] = largest[lane].max(vector[lane].to_bits() & 0x7fff_ffff);
            }
        }
        f32::from_bits(largest.into_iter().fold(0, u32::max))
    }

    /// Rounds rows of weights times `scale`, except for idle rows and halves of rows. Returns whether all of them fit the grid.
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
