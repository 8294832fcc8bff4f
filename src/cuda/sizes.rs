//! How numbers lie in device memory, and how many blocks and threads work on them.
//!
//! Rows of weights, and whatever has a number for each unit, are padded to [`LINE`] floats, so that each begins on a memory
//! line of its own. Bits are as the host has them; the kernels take a word as two halves, the lower one first.

use super::{arguments::ParametersArgument, launch::Grid};
use crate::error::{CudaError, Error, Result};

/// Floats of a memory line.
const LINE: usize = 32;

/// How far apart rows of so many units are.
pub(super) fn stride(units: usize) -> usize {
    units.next_multiple_of(LINE)
}

/// How many words hold the bits of a layer.
pub(super) fn words(units: usize) -> usize {
    units.div_ceil(64)
}

/// A count as the kernels take it.
pub(super) fn count(what: &'static str, n: usize) -> Result<u32> {
    // As many blocks as a grid may have.
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

/// Undoes [`pad`], as far as `rows` goes.
pub(super) fn strip(padded: &[f32], units: usize, rows: &mut [f32]) {
    for (to, from) in rows.chunks_exact_mut(units).zip(padded.chunks_exact(stride(units))) {
        to.copy_from_slice(&from[..units]);
    }
}

/// How many threads a block has where each makes one unit.
pub(super) fn threads(units: u32) -> u32 {
    units.next_multiple_of(32).min(1024)
}

/// A block a row, a thread a unit.
pub(super) fn block_a_row(rows: u32, units: u32) -> Grid {
    Grid::new(rows, threads(units))
}

/// Sixteen threads a row.
pub(super) fn sixteen_a_row(rows: u32) -> Grid {
    Grid::new(rows.div_ceil(8), 128)
}

/// A thread a number.
pub(super) fn thread_a_number(what: &'static str, n: usize) -> Result<Grid> {
    Ok(Grid::new(count(what, n.div_ceil(256))?, 256))
}

/// A warp a row.
pub(super) fn warp_a_row(rows: u32) -> Grid {
    Grid::new(rows.div_ceil(4), 128)
}

/// A block of at most 256 threads for so many units of so many rows.
pub(super) fn block_of_rows(units: u32, rows: u32, rows_a_block: u32) -> Result<Grid> {
    let threads = threads(units).min(256);
    let blocks = units.div_ceil(threads) as usize * rows.div_ceil(rows_a_block) as usize;
    Ok(Grid::new(count("units of all rows", blocks)?, threads))
}

/// A block of 256 threads for so many visible × so many hidden units' weights.
pub(super) fn block_of_weights(parameters: &ParametersArgument, [visible, hidden]: [u32; 2]) -> Result<Grid> {
    let blocks = parameters.n_visible.div_ceil(visible) as usize * parameters.n_hidden.div_ceil(hidden) as usize;
    Ok(Grid::new(count("weights", blocks)?, 256))
}
