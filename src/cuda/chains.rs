//! Chains on the device: a block carries one through all k steps.

use super::{
    Cuda,
    launch::{Buffer, Grid, Ptr, Side},
    memory::{Batch, Chains, Parameters, blocks, count, rows_of, strip, threads, unpack, words},
};
use crate::{
    backend::{Activations, Layer, Shape},
    error::{CudaError, Error, Result},
};
use cudarc::driver::CudaStream;

/// Shared memory that every device has for a block, less what the chain kernels declare themselves.
const SHARED_BYTES: usize = (48 - 13) * 1024;

/// How many numbers a sweep draws.
pub(super) fn drawn(shape: Shape, chains: &Chains, k: usize) -> u64 {
    k as u64 * chains.betas.len() as u64 * (shape.n_visible() + shape.n_hidden()) as u64
}

/// A block a chain, with a thread for each unit of the larger layer and room for the bits of both.
fn sweep_grid(shape: Shape, chains: &Chains) -> Result<Grid> {
    let (nv, nh) = (shape.n_visible(), shape.n_hidden());
    let shared = 4 * (words(nv) + words(nh));
    if shared > SHARED_BYTES {
        let limit = 8 * SHARED_BYTES - 128;
        return Err(Error::Cuda(CudaError::TooLarge { what: "units of both layers", limit, found: nv + nh }));
    }
    let blocks = count("chains", chains.betas.len())?;
    Ok(Grid { shared: shared as u32, ..Grid::new(blocks, threads(nv.max(nh) as u32)) })
}

impl Cuda {
    pub(super) fn start(&self, parameters: &Parameters, chains: &mut Chains, rows: Batch<'_>) -> Result<()> {
        chains.resize(self.stream(), rows.rows)?;
        chains.states.own(self.stream())?;
        let turn = self.turn_to(rows, 0)?;
        let up = parameters.side(Layer::Visible);
        let states = &chains.states;
        let (betas, generator, hidden) = (states.betas.ptr(), states.generator.ptr(), states.hidden.ptr());
        let (rows, none) = (rows_of(rows, &turn)?, Ptr::NULL);
        let grid = Grid::new(rows.rows, threads(up.made));
        self.run().propagate(self.stream(), grid, up, rows, 0, betas, generator, none, none, hidden)?;
        self.advance(chains, u64::from(rows.rows) * u64::from(up.made))
    }

    pub(super) fn sweep(&self, parameters: &Parameters, chains: &mut Chains, k: usize) -> Result<()> {
        chains.states.own(self.stream())?;
        self.launch_sweep(self.stream(), parameters, chains, 0, k)?;
        self.advance(chains, drawn(chains.shape, chains, k))
    }

    /// A sweep that begins to draw `first` numbers after the generator's place.
    pub(super) fn launch_sweep(
        &self, stream: &CudaStream, parameters: &Parameters, chains: &Chains, first: u64, k: usize,
    ) -> Result<()> {
        let (up, down) = (parameters.side(Layer::Visible), parameters.side(Layer::Hidden));
        let grid = sweep_grid(chains.shape, chains)?;
        let generator = chains.states.generator.ptr();
        self.run().sweep(stream, grid, down, up, chains.arguments(), generator, first, count("k", k)?)
    }

    pub(super) fn anneal(
        &self, parameters: &Parameters, chains: &mut Chains, reference: &[f32], betas: &[f32], log_weights: &mut [f64],
    ) -> Result<()> {
        let Some((&last, earlier)) = betas.split_last() else { return Ok(()) };
        let stream = self.stream();
        chains.betas.fill(last);
        let all = chains.betas.clone();
        chains.states.own(stream)?.betas.write(stream, &all)?;
        if earlier.is_empty() {
            return Ok(());
        }
        let reference = Buffer::of(stream, reference)?;
        let schedule = Buffer::of(stream, betas)?;
        let weights = Buffer::of(stream, log_weights)?;
        let up = parameters.side(Layer::Visible);
        let down = Side { reference: reference.ptr(), ..parameters.side(Layer::Hidden) };
        let (grid, generator) = (sweep_grid(chains.shape, chains)?, chains.states.generator.ptr());
        let (schedule, pairs) = (schedule.ptr(), count("steps", earlier.len())?);
        self.run().anneal(stream, grid, down, up, chains.arguments(), generator, schedule, pairs, weights.ptr())?;
        self.advance(chains, drawn(chains.shape, chains, earlier.len()))?;
        log_weights.copy_from_slice(&weights.read(stream)?);
        Ok(())
    }

    pub(super) fn visible(&self, chains: &Chains, out: &mut Activations) -> Result<()> {
        let stream = self.stream();
        let units = chains.shape.n_visible();
        let pre = &chains.states.visible_pre;
        let means = Buffer::zeros(stream, pre.len())?;
        let grid = Grid::new(blocks("numbers", pre.len())?, 256);
        self.run().elementwise(stream, grid, pre.ptr(), 0, means.ptr(), pre.len() as u64)?;
        strip(&pre.read(stream)?, units, &mut out.pre_activation);
        strip(&means.read(stream)?, units, &mut out.mean);
        unpack(&chains.states.visible.read(stream)?, units, &mut out.sample);
        Ok(())
    }

    /// Moves the generator on by what `k` steps draw, there and here.
    pub(super) fn advance(&self, chains: &mut Chains, numbers: u64) -> Result<()> {
        let generator = chains.states.generator.ptr();
        self.run().finish(self.stream(), Grid::new(1, 1), generator, numbers, Ptr::NULL, 0, Ptr::NULL)?;
        chains.uniforms.skip(numbers);
        Ok(())
    }
}
