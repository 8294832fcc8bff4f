//! Samples without their sums: the weights once more, rounded to a grid of 16 bits, on which almost every unit is decided.
//!
//! Where nobody wants the means of a layer, a unit is one bit: whether u < σ(a). A pre-activation a' that is off by no more than ε
//! tells it, unless u lies between σ(a' - ε) and σ(a' + ε). Here a' is a sum of whole numbers q, the weights rounded to multiples of
//! 2^-s. Whole numbers have the same sum in any order: each chain keeps its sums from step to step, and only the units that
//! *changed* are added or taken away, less than half of those that are on, in rows half as long. The few units that ε leaves open,
//! less than one in a thousand, get their canonical sum, each along its own row of weights. So all bits are the canonical ones, and
//! nothing in a result tells how it was made.
//!
//! The grid takes half the memory of the weights and their transposes. The first sweep of enough steps makes it, updates keep it
//! current as long as sweeps use it between them, and a model with weights that are too large for a useful one goes without.
//!
//! # Why the bits are right
//!
//! Let n units be on, with weights w to the unit in question and |w| ≤ 2^(15-s); S their canonical sum, S' = 2^-s·Σq as `f32`; b and
//! b₀ the unit's bias and reference, no larger than B and B₀; a the pre-activation that S gives at inverse temperature β.
//!
//! 1. *S' - S.* Each w is off by 2^-(s+1) at most. The k-th addition of S rounds a number below 1.01·k·2^(15-s), and so does the
//!    conversion of Σq for k = n; each is off by 2^-24 of it, and the factor 2^-s by nothing. Together no more than
//!    n·2^-(s+1)·(1 + (n + 3)/500).
//! 2. *From S' to an exponent.* a is β·S plus what biases give, rounded once. The same of S', times -log₂e, is t, with no more than four
//!    roundings and an error of log₂e below half of one. All of them amount to 5·2^-24·(1.01·|β|·n·2^(15-s) + |β|·B + |1-β|·B₀). So
//!
//!    > |-t·ln 2 - a| ≤ ε = |β|·n·2^-(s+1)·(1 + (n + 13)/500) + 2^-21·(|β|·B + |1-β|·B₀).
//! 3. *The bit.* Let e = e^-a and Λ = ln(u/(1-u)): the exact answer is "on" iff u·e < 1-u, or Λ < a. e' is 2^t with 2^-13.5 of it for
//!    the error of `exp2_roughly`, and u lies within [U, U + δ], δ = 2^-24, both ends of which are numbers of `f32`, as their
//!    distances to 1 are. With κ = ε + 2^-13 the unit is taken to be on where (U + δ)·e' < (1-U-δ)·(1-κ), which is below (1-u)·e^-κ;
//!    and off where (1-U)·(1+κ+κ²) < U·e', as e^κ is below 1+κ+κ² for κ ≤ 1. With the roundings of these products on means Λ < a - 2^-15,
//!    and off Λ > a + 2^-15.
//! 4. *The canonical bit.* Let D be the distance of u to the end of the unit interval at which the rarer state is, ½ if it is more. That
//!    state is taken iff D·(1 + e) < min(e, 1), with roundings that amount to less than 2^-22 of the product; that moves Λ by less than
//!    2^-20, and 1.7 ulp of e move it by less than 2^-22. So wherever Λ is 2^-19 or more away from a, the canonical bit is
//!    the exact answer. Where e ends at e^±87.3, and 2^t at 2^±126, nothing changes, as |Λ| < 23.
//!
//! All other units are open: also where κ is above 1, or something is not a number.
//!
//! Whole numbers do not overflow: a change adds a unit or takes it away, so that any sum is one over a set of units, no more than
//! 2^16 of them, each with |q| < 2^15.

mod samples;

pub(crate) use samples::GridSums;

use super::{
    host::{Cpu, Drawing},
    tiles::{CpuParameters, Row, TILE, VECTORS},
};
use crate::{
    lanes::{
        LANES, Small, dispatch,
        isa::Isa,
        threads::{RowsMut, Split},
    },
    shape::Layer,
};
use std::{
    ops::RangeInclusive,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// From how many steps of a chain in a sweep on rounding the weights pays.
const WORTH: usize = 64;
/// The most units of a layer.
const MOST_UNITS: usize = 1 << 16;
/// No |w|·2^s is as large, and so no |q| is larger.
const LIMIT: f32 = 32_767.0;
/// A small number has so many halves of a tile.
const HALVES: usize = VECTORS / 2;

/// When a grid is of use.
#[derive(Clone, Debug)]
struct Rules {
    /// What s may be.
    shifts: RangeInclusive<i32>,
    /// How large the mean of ε over some chains may be.
    most: f64,
    /// How much of ε is heeded.
    share: f64,
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
                Some(Rules { shifts: -100..=finest, most: f64::INFINITY, share: f64::from(percent) / 100.0 })
            }
        }
    }
}

/// A tile of a row of weights on the grid.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct GridRow([Small; HALVES]);

/// The weights on a grid, in the blocks that [`tiles`](super::tiles) tells of.
#[derive(Debug)]
pub(super) struct Grid {
    /// Whose order of small numbers it is.
    isa: Isa,
    rules: Rules,
    /// s; none where the weights have no place on any grid, which then stays so.
    shift: Option<i32>,
    weights: Vec<GridRow>,
    transposed: Vec<GridRow>,
    /// Whether an update made weights that have no place on it.
    outgrown: AtomicBool,
}

/// The grid of a model, once somebody asks for it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    grid: OnceLock<Grid>,
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

impl CpuParameters {
    /// The grid for so many steps of chains, if it pays.
    pub(super) fn grid(&self, cpu: Cpu, steps: usize) -> Option<&Grid> {
        let most = self.shape.n_visible().max(self.shape.n_hidden());
        let rules = cpu.drawing.rules(steps)?;
        if cpu.gemm || most > MOST_UNITS || !self.shape.visible().is_discrete() {
            return None;
        }
        self.grid.used.store(true, Relaxed);
        let make = || Grid::of(cpu.isa, rules, &self.weights, &self.transposed);
        Some(self.grid.grid.get_or_init(make)).filter(|grid| grid.shift.is_some())
    }

    /// After an update that rounded its weights by parts: rounds all of them where some had no place on the grid.
    pub(super) fn renew_grid(&mut self) {
        if let Some(grid) = self.grid.grid.get_mut().filter(|grid| grid.outgrown.load(Relaxed)) {
            grid.renew(&self.weights, &self.transposed);
        }
    }
}

impl Kept {
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
fn power(n: i32) -> f32 {
    libm::scalbnf(1.0, n)
}

impl Grid {
    fn of(isa: Isa, rules: Rules, weights: &[Row], transposed: &[Row]) -> Self {
        let (shift, outgrown) = (None, AtomicBool::new(false));
        let mut new = Self { isa, rules, shift, weights: Vec::new(), transposed: Vec::new(), outgrown };
        new.renew(weights, transposed);
        new
    }

    /// Rounds all weights, to the finest grid that has room for them.
    fn renew(&mut self, weights: &[Row], transposed: &[Row]) {
        let largest = largest(self.isa, weights);
        self.shift = self.rules.shifts.clone().rev().find(|&shift| largest * power(shift) < LIMIT);
        *self.outgrown.get_mut() = false;
        let Some(shift) = self.shift else { return };
        for (from, to) in [(weights, &mut self.weights), (transposed, &mut self.transposed)] {
            to.resize(from.len(), GridRow([[0; 2 * LANES]; HALVES]));
            round(self.isa, from, power(shift), 0, [false; HALVES], to);
        }
    }

    /// ε for a chain with `n` units on, where the biases and those of the reference are no larger than `biases`.
    fn epsilon(&self, n: u32, beta: f32, biases: [f32; 2]) -> f64 {
        let (n, beta, [own, reference]) = (f64::from(n), f64::from(beta), biases.map(f64::from));
        let half = 0.5 / f64::from(power(self.shift.unwrap_or(0)));
        let biases = beta.abs() * own + (1.0 - beta).abs() * reference;
        self.rules.share * (beta.abs() * n * half * (1.0 + (n + 13.0) / 500.0) + biases / 2_097_152.0)
    }

    /// What [`CpuParameters::strip`] has, on the grid.
    fn strip(&self, parameters: &CpuParameters, given: Layer, tile: usize) -> &[GridRow] {
        match given {
            Layer::Visible => &self.weights[tile * TILE..],
            Layer::Hidden => &self.transposed[tile * parameters.block_rows()..][..parameters.block_rows()],
        }
    }
}

dispatch! {
    /// The largest size of a number; not a number where there is one that is none.
    fn largest(|_l| rows: &[Row]) -> f32 {
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

#[cfg(test)]
mod tests;
