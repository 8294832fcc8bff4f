//! Many chains on a grid of 16 bits: the method of `src/cpu/samples.rs`, with sums by the matrix units (kernels/grid.cu).
//!
//! Only for steps that need nothing but bits. The last step of a sweep leaves pre-activations and means, so strips compute it,
//! and a sweep of one step does not use a grid. Nor do clamped chains, or chains whose visible units are not all bits.
//!
//! Each sweep rounds the weights anew, in scratch of the chains. That reads the weights twice and writes them once, less than a
//! tenth of one step of as many chains as the grid needs to pay off. So updates have no copy to maintain, and the contents of
//! the scratch end with the sweep. The device finds the largest weight and from it the grid, or that there is no grid. It
//! reports to the host neither that nor whether the bound leaves too many units undecided: a block that cannot use the grid
//! computes canonical sums itself. So a captured graph is valid for any weights.

use super::{
    arguments::SideArgument,
    buffer::Ptr,
    handle::{Cuda, Sweeps},
    launch::Grid,
    memory::CudaChains,
    share::Share,
    sizes::{count, words},
};
use crate::{error::Result, shape::Shape};
use cudarc::driver::CudaStream;

/// The most units of a layer for which sums fit in 32 bits.
pub(super) const MOST_UNITS: usize = 1 << 16;

/// Blocks that search for the largest numbers, units and chains of a block that draws, and its threads: kernels/grid.cu.
const PARTS: u32 = 128;
const UNITS: u32 = 64;
const CHAINS: u32 = 128;
const THREADS: u32 = 256;

/// Offsets in the scratch, in words of 32 bits: after the largest numbers of these blocks come the grids of both directions,
/// then the planes.
const GRIDS: usize = 3 * PARTS as usize;
const GRID: usize = 4;
const PLANES: usize = 512;
/// Words of a block of 32 × 32 weights.
const BLOCK: usize = 32 * 32 / 2;

/// The words of the planes of one direction: 16 bits a weight, with layers padded to whole words of 64 units.
fn planes(shape: Shape) -> usize {
    4 * words(shape.n_visible()) * words(shape.n_hidden()) * BLOCK
}

impl Cuda {
    /// Grows the scratch of the grid if sweeps of `k` steps use one. The chains must be the only owner of their states.
    pub(super) fn grow_grid(&self, chains: &mut CudaChains, k: usize) -> Result<()> {
        let shape = chains.shape;
        let by_layers = self.blas_for_chains().is_some() || chains.held.is_some() || !shape.visible().is_binary();
        if k > 1 && !by_layers && self.sweeps_of(chains.len(), shape) == Sweeps::Grid {
            chains.states.own(self.stream())?.grid.grow(self.stream(), PLANES + 2 * planes(shape))?;
        }
        Ok(())
    }

    /// k steps of all chains that leave nothing but bits, in scratch that [`grow_grid`](Self::grow_grid) allocated.
    pub(super) fn launch_on_grid(
        &self, stream: &CudaStream, [down, up]: [SideArgument; 2], chains: &CudaChains, share: &Share, first: u64,
        k: usize,
    ) -> Result<()> {
        if k == 0 {
            return Ok(());
        }
        let (scratch, n, run) = (chains.states.grid.ptr(), share.n, self.run());
        run.largest_sizes(stream, Grid::new(PARTS, 256), up, down.bias, scratch)?;
        let blocks = count("blocks of weights", planes(chains.shape) / BLOCK)?;
        let grid = Grid { slices: 2, ..Grid::new(blocks, PARTS) };
        run.put_on_grid(stream, grid, up, down, scratch, scratch.offset(GRIDS), scratch.offset(PLANES))?;
        let layer = |way: usize, side: SideArgument, other: SideArgument, given: Ptr<u32>, first, bits| {
            let blocks = side.made.div_ceil(UNITS) as usize * n.div_ceil(CHAINS) as usize;
            let grid = Grid::new(count("blocks of units", blocks)?, THREADS);
            let (on_grid, planes) =
                (scratch.offset(GRIDS + way * GRID), scratch.offset(PLANES + way * planes(chains.shape)));
            let (betas, generator) = (share.betas, share.generator);
            run.draw_on_grid(
                stream,
                grid,
                side,
                other.weights,
                other.stride,
                on_grid,
                planes,
                given,
                n,
                betas,
                generator,
                first,
                bits,
            )
        };
        let (visible, hidden) = (share.visible, share.hidden);
        for step in 0..k {
            let draws = share.draws(first, step);
            layer(1, down, up, hidden, draws[0], visible)?;
            layer(0, up, down, visible, draws[1], hidden)?;
        }
        Ok(())
    }
}
