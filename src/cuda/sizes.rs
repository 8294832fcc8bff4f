//! The layout of numbers in device memory, and the number of blocks and threads that work on them.
//!
//! Rows of weights, and all rows with a number for each unit, are padded to a multiple of [`LINE`] floats, so that each begins at a
//! memory line. Bits have the host's layout; the kernels read a word as two halves, the lower one first.

use super::{arguments::ParametersArgument, launch::Grid};
use crate::error::{CudaError, Error, Result};

/// Floats of a memory line.
const LINE: usize = 32;

/// The distance between rows of `units` units.
pub(super) fn stride(units: usize) -> usize {
    units.next_multiple_of(LINE)
}

/// The number of words for the bits of a layer.
pub(super) fn words(units: usize) -> usize {
    units.div_ceil(64)
}

/// A count in the kernels' type.
pub(super) fn count(what: &'static str, n: usize) -> Result<u32> {
    // The most blocks of a grid.
    const LIMIT: usize = i32::MAX as usize;
    if n > LIMIT {
        return Err(Error::Cuda(CudaError::TooLarge { what, limit: LIMIT, found: n }));
    }
    Ok(n as u32)
}

/// Rows with the stride of the device.
pub(super) fn pad(rows: &[f32], units: usize) -> Vec<f32> {
    let mut padded = vec![0.0; rows.len() / units * stride(units)];
    for (to, from) in padded.chunks_exact_mut(stride(units)).zip(rows.chunks_exact(units)) {
        to[..units].copy_from_slice(from);
    }
    padded
}

/// The inverse of [`pad`], for as many rows as `rows` has.
pub(super) fn strip(padded: &[f32], units: usize, rows: &mut [f32]) {
    for (to, from) in rows.chunks_exact_mut(units).zip(padded.chunks_exact(stride(units))) {
        to.copy_from_slice(&from[..units]);
    }
}

/// The number of threads of a block in which each computes one unit.
pub(super) fn threads(units: u32) -> u32 {
    units.next_multiple_of(32).min(1024)
}

/// A block per row, a thread per unit.
pub(super) fn block_a_row(rows: u32, units: u32) -> Grid {
    Grid::new(rows, threads(units))
}

/// Sixteen threads per row.
pub(super) fn sixteen_a_row(rows: u32) -> Grid {
    Grid::new(rows.div_ceil(8), 128)
}

/// A thread per number.
pub(super) fn thread_a_number(what: &'static str, n: usize) -> Result<Grid> {
    Ok(Grid::new(count(what, n.div_ceil(256))?, 256))
}

/// A warp per row.
pub(super) fn warp_a_row(rows: u32) -> Grid {
    Grid::new(rows.div_ceil(4), 128)
}

/// Blocks of at most 256 threads, for `units` units of `rows` rows.
pub(super) fn block_of_rows(units: u32, rows: u32, rows_a_block: u32) -> Result<Grid> {
    let threads = threads(units).min(256);
    let blocks = units.div_ceil(threads) as usize * rows.div_ceil(rows_a_block) as usize;
    Ok(Grid::new(count("units of all rows", blocks)?, threads))
}

/// Blocks of 256 threads, each for the weights of `visible` × `hidden` units.
pub(super) fn block_of_weights(parameters: &ParametersArgument, [visible, hidden]: [u32; 2]) -> Result<Grid> {
    let blocks = parameters.n_visible.div_ceil(visible) as usize * parameters.n_hidden.div_ceil(hidden) as usize;
    Ok(Grid::new(count("weights", blocks)?, 256))
}
