//! Many chains on a grid of 16 bits: what the CPU does in `src/cpu/samples.rs`, with sums by the matrix units (kernels/grid.cu).
//!
//! Only for steps of which nobody wants more than bits. The last step of a sweep leaves pre-activations and means, so strips make
//! it, and a sweep of one step has no use for a grid. Chains that hold units, or whose visible units are not all bits, go another way
//! altogether.
//!
//! Each sweep rounds the weights anew, in room that belongs to the chains: they are read twice and written once, which is less than
//! a tenth of one step of as many chains as make it worth while. So updates have nothing to keep current, and what is in the room
//! does not outlive the sweep. The device finds the largest weight and with it the grid, or that there is none. Neither that nor
//! whether the bound leaves too many units open is reported to the host: a block that has no use for the grid makes canonical sums itself.
//! So a captured graph holds whatever the weights become.

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

/// The most units of a layer whose sums fit in 32 bits.
pub(super) const MOST_UNITS: usize = 1 << 16;

/// Blocks that look for the largest numbers, units and chains of a block that draws, and its threads: kernels/grid.cu.
const PARTS: u32 = 128;
const UNITS: u32 = 64;
const CHAINS: u32 = 128;
const THREADS: u32 = 256;

/// Where in the room, in words of 32 bits, the largest numbers of these blocks are, for both ways what the grid is, and the planes.
const GRIDS: usize = 3 * PARTS as usize;
const GRID: usize = 4;
const PLANES: usize = 512;
/// Words of a block of 32 × 32 weights.
const BLOCK: usize = 32 * 32 / 2;

/// How many words the planes of one way take: 16 bits a weight, the layers being filled up to whole words of 64 units.
fn planes(shape: Shape) -> usize {
    4 * words(shape.n_visible()) * words(shape.n_hidden()) * BLOCK
}

impl Cuda {
    /// Makes room for a grid where sweeps of `k` steps use one. The chains must be the only owner of their states.
    pub(super) fn make_room_for_grid(&self, chains: &mut CudaChains, k: usize) -> Result<()> {
        let shape = chains.shape;
        let by_layers = self.blas_for_chains().is_some() || chains.held.is_some() || !shape.visible().is_binary();
        if k > 1 && !by_layers && self.sweeps_of(chains.len(), shape) == Sweeps::Grid {
            chains.states.own(self.stream())?.grid.grow(self.stream(), PLANES + 2 * planes(shape))?;
        }
        Ok(())
    }

    /// k steps of all chains of which nothing stays but bits, in room that was made.
    pub(super) fn launch_on_grid(
        &self, stream: &CudaStream, [down, up]: [SideArgument; 2], chains: &CudaChains, share: &Share, first: u64,
        k: usize,
    ) -> Result<()> {
        if k == 0 {
            return Ok(());
        }
        let (room, n, run) = (chains.states.grid.ptr(), share.n, self.run());
        run.largest_sizes(stream, Grid::new(PARTS, 256), up, down.bias, room)?;
        let blocks = count("blocks of weights", planes(chains.shape) / BLOCK)?;
        let grid = Grid { slices: 2, ..Grid::new(blocks, PARTS) };
        run.put_on_grid(stream, grid, up, down, room, room.offset(GRIDS), room.offset(PLANES))?;
        let layer = |way: usize, side: SideArgument, other: SideArgument, given: Ptr<u32>, first, bits| {
            let blocks = side.made.div_ceil(UNITS) as usize * n.div_ceil(CHAINS) as usize;
            let grid = Grid::new(count("blocks of units", blocks)?, THREADS);
            let (on_grid, planes) = (room.offset(GRIDS + way * GRID), room.offset(PLANES + way * planes(chains.shape)));
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
