//! The layout of numbers on the CPU: tiles of 64 units, vectors of 16 lanes, states as bits.
//!
//! A layer's units are divided into tiles of [`TILE`]. The state of a tile is one `u64`, and its real numbers are one [`Row`] of
//! four cache lines. Lanes beyond the last unit of a layer are always 0.

use crate::lanes::{LANES, Vector};

/// The number of units in a tile: that of the bits in a `u64`.
pub(crate) const TILE: usize = 64;
/// The number of vectors in a tile.
pub(crate) const VECTORS: usize = TILE / LANES;

/// One number for each unit of a tile, aligned to cache lines.
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

/// The number of tiles for `units` units.
#[inline(always)]
pub(crate) const fn tiles(units: usize) -> usize {
    units.div_ceil(TILE)
}

/// The number of vectors of tile `tile` that hold units.
#[inline(always)]
pub(crate) fn vectors(units: usize, tile: usize) -> usize {
    (units - tile * TILE).div_ceil(LANES).min(VECTORS)
}

/// The number of lanes of vector `v` of tile `tile` that hold units, to compare with [`LANE`].
#[inline(always)]
pub(crate) fn lanes_used(units: usize, tile: usize, v: usize) -> f32 {
    units.saturating_sub(tile * TILE + v * LANES).min(LANES) as f32
}

/// The index of each lane.
pub(crate) const LANE: Vector = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// Copies a row-major matrix to rows of tiles.
pub(crate) fn spread(rows: &[f32], units: usize) -> Vec<Row> {
    let mut out = vec![Row::ZERO; rows.len() / units.max(1) * tiles(units)];
    spread_into(rows, units, &mut out);
    out
}

/// [`spread`] into tiles whose lanes without a unit are 0.
pub(crate) fn spread_into(rows: &[f32], units: usize, out: &mut [Row]) {
    for (row, tiled) in rows.chunks_exact(units).zip(out.chunks_exact_mut(tiles(units))) {
        for (part, tile) in row.chunks(TILE).zip(tiled) {
            tile.units_mut()[..part.len()].copy_from_slice(part);
        }
    }
}

/// The inverse of [`spread`].
pub(crate) fn gather(tiled: &[Row], units: usize, out: &mut [f32]) {
    for (row, tiled) in out.chunks_exact_mut(units).zip(tiled.chunks_exact(tiles(units))) {
        for (part, tile) in row.chunks_mut(TILE).zip(tiled) {
            part.copy_from_slice(&tile.units()[..part.len()]);
        }
    }
}
