//! Gibbs steps of chains on the device. With canonical sums there are three ways to make them: a block carries one chain
//! through all k steps; with few chains a cluster of blocks does; with many, all chains compute one layer after the other, by
//! blocks that keep strips of the weights, and all steps except the last on a [grid](super::grid). Otherwise all chains make a
//! step together: by products, or with visible units of several laws by either kind of sums.

use super::{
    arguments::{LawsArgument, SideArgument},
    blas::Blas,
    buffer::{Buffer, Ptr},
    data::{Batch, Cursor},
    grid::MOST_UNITS,
    handle::{Cuda, Sweeps},
    launch::Grid,
    layers::{Given, Outcome},
    memory::{CudaChains, CudaParameters, Held, Kept},
    share::{Keeping, Share, from},
    sizes::{block_a_row, block_of_rows, count, sixteen_a_row, stride, strip, thread_a_number, warp_a_row, words},
    visible::Laws,
};
use crate::{
    error::{CudaError, Error, Result},
    rows::Rows,
    shape::{Layer, Shape},
    verbs::{Activations, Sampling, Tempering, unpack},
};
use cudarc::driver::CudaStream;
use std::sync::Arc;

/// Shared memory that every device has for a block, less what the chain kernels declare.
const SHARED_BYTES: usize = (48 - 13) * 1024;
/// The same for a block of a cluster.
const CLUSTER_BYTES: usize = (48 - 5) * 1024;

/// Blocks of a cluster, and threads of each: kernels/clusters.cu.
const CLUSTER: u32 = 8;
const CLUSTER_THREADS: u32 = 256;

/// The least units of the smaller layer with enough work for all blocks of a cluster.
const LEAST_UNITS: usize = 128;
/// The least chains, and the least weights that they read in a half-step, for which strips are faster than a block per chain.
const LEAST_STRIPS: usize = 256;
const LEAST_WEIGHTS: usize = 350_000_000;

/// Units of a strip, warps of its block, the most chains that a warp carries at a time, and the entries of a warp's list besides
/// one for each row: kernels/strips.cu.
const STRIP: u32 = 64;
const STRIP_WARPS: u32 = 16;
const CHAINS_AT_ONCE: u32 = 8;
const STRIP_AHEAD: u32 = 8;

impl CudaChains {
    /// The number of random numbers that a sweep draws.
    pub(super) fn drawn(&self, k: usize) -> u64 {
        k as u64 * self.len() as u64 * (self.shape.n_visible() + self.shape.n_hidden()) as u64
    }

    /// A block per chain, with a thread for each unit of the larger layer and shared memory for the bits of both.
    fn grid(&self) -> Result<Grid> {
        let (nv, nh) = (self.shape.n_visible(), self.shape.n_hidden());
        let shared = 8 * (words(nv) + words(nh));
        if shared > SHARED_BYTES {
            let limit = 8 * SHARED_BYTES - 128;
            return Err(Error::Cuda(CudaError::TooLarge { what: "units of both layers", limit, found: nv + nh }));
        }
        Ok(Grid { shared: shared as u32, ..block_a_row(count("chains", self.len())?, nv.max(nh) as u32) })
    }
}

impl Sampling for Cuda {
    fn start(&self, parameters: &CudaParameters, chains: &mut CudaChains, rows: Batch<'_>) -> Result<()> {
        let (stream, up) = (self.stream(), parameters.side(Layer::Visible));
        let (cursor, blas) = (Cursor::at(rows, 0)?, self.blas_for_rows(rows.len()));
        let numbers = rows.numbers(blas.is_some())?;
        let (_room, argument) = self.scaled(parameters, rows, rows.argument(&cursor)?)?;
        chains.resize(stream, rows.len())?;
        let states = chains.own(stream, false)?;
        let to = Outcome {
            betas: states.betas.ptr(),
            generator: states.generator.ptr(),
            means: states.hidden_mean.ptr(),
            bits: states.hidden.ptr().cast(),
            ..Outcome::NOTHING
        };
        self.compute_layer(stream, blas, up, Given::new(argument, &numbers), to)?;
        self.advance(chains, rows.len() as u64 * u64::from(up.made))
    }

    fn sweep(&self, parameters: &CudaParameters, chains: &mut CudaChains, k: usize) -> Result<()> {
        let blas = self.blas_for_chains();
        chains.own(self.stream(), blas.is_some() || chains.held.is_some())?;
        self.grow_grid(chains, k)?;
        self.launch_sweep(self.stream(), blas, parameters, chains, chains.kept()?, 0, k)?;
        self.advance(chains, chains.drawn(k))
    }

    fn hold(&self, chains: &mut CudaChains, held: Option<Rows<'_>>) -> Result<()> {
        chains.held = held.map(|rows| Held::new(self, rows).map(Arc::new)).transpose()?;
        Ok(())
    }

    fn visible(&self, chains: &CudaChains, out: &mut Activations) -> Result<()> {
        let (stream, units, pre) = (self.stream(), chains.shape.n_visible(), &chains.states.visible_pre);
        let means = Buffer::zeros(stream, pre.len())?;
        if chains.shape.visible().is_binary() {
            let grid = thread_a_number("numbers", pre.len())?;
            self.run().elementwise(stream, grid, pre.ptr(), 0, means.ptr(), pre.len() as u64)?;
            unpack(&chains.states.visible.read(stream)?, units, &mut out.sample);
        } else {
            let (laws, n) = (Laws::new(stream, chains.shape.visible())?, count("chains", chains.len())?);
            let to = Outcome { means: means.ptr(), ..Outcome::NOTHING };
            let side = SideArgument::of_pre_activations(units as u32, stride(units) as u32);
            self.activate_visible(stream, side, laws.argument(), n, pre.ptr(), to)?;
            strip(&chains.states.values.read(stream)?, units, &mut out.sample);
        }
        if let Some(Kept { rows, left_out, .. }) = chains.kept()? {
            let kept = Keeping { rows, left_out, first: 0, n: count("chains", chains.len())? };
            self.keep_visible(stream, kept, chains.shape, Ptr::NULL, [means.ptr(), Ptr::NULL], Ptr::NULL)?;
        }
        strip(&pre.read(stream)?, units, &mut out.pre_activation);
        strip(&means.read(stream)?, units, &mut out.mean);
        Ok(())
    }
}

impl Tempering for Cuda {
    fn anneal(
        &self, parameters: &CudaParameters, chains: &mut CudaChains, reference: [&[f32]; 2], betas: &[f32],
        log_weights: &mut [f64],
    ) -> Result<()> {
        let Some((&last, earlier)) = betas.split_last() else { return Ok(()) };
        let (stream, pairs, blas) = (self.stream(), earlier.len(), self.blas_for_runs(chains.len()));
        let by_layers = blas.is_some() || self.is_shared();
        chains.betas.fill(last);
        let all = chains.betas.clone();
        chains.own(stream, by_layers)?.betas.write(stream, &all)?;
        if pairs == 0 {
            return Ok(());
        }
        let [reference, precision] = [Buffer::of(stream, reference[0])?, Buffer::of(stream, reference[1])?];
        let schedule = Buffer::of(stream, betas)?;
        let weights = Buffer::of(stream, log_weights)?;
        let up = parameters.side(Layer::Visible);
        let down = SideArgument { reference: reference.ptr(), ..parameters.side(Layer::Hidden) };
        let laws = parameters.laws.as_ref().map(|laws| laws.argument());
        let laws = laws.map(|laws| LawsArgument { reference_precision: precision.ptr(), ..laws });
        match (blas, laws) {
            (None, None) if !by_layers => {
                let (pairs, generator) = (count("steps", pairs)?, chains.states.generator.ptr());
                let (grid, betas) = (chains.grid()?, schedule.ptr());
                let run = self.run();
                run.anneal(stream, grid, down, up, chains.argument(), generator, betas, pairs, weights.ptr())?;
            }
            _ => {
                let at = |step| (schedule.ptr().offset(step), 0);
                let share = Share::new(self, chains, None, true)?;
                let (n, run, weights) = (share.n, self.run(), weights.ptr().offset(share.first));
                // Bits have the order of canonical sums where they count as states of a law.
                let bits = Laws::new(stream, chains.shape.visible())?;
                let (of_gain, states) = match laws {
                    Some(laws) => (laws, share.values),
                    None => (bits.argument(), share.numbers[0]),
                };
                let gain = |step, sums| match (blas, laws) {
                    (Some(_), None) => {
                        run.gain(stream, sixteen_a_row(n), down, up, n, states, sums, at(step).0, weights)
                    }
                    _ => {
                        let grid = warp_a_row(n);
                        run.gain_of_laws(stream, grid, down, up, of_gain, n, states, sums, at(step).0, weights)
                    }
                };
                if n > 0 {
                    self.launch_steps(stream, blas, [down, up], laws, &share, 0, pairs, at, gain)?;
                }
            }
        }
        self.advance(chains, chains.drawn(pairs))?;
        log_weights.copy_from_slice(&weights.read(stream)?);
        Ok(())
    }
}

impl Cuda {
    /// The fastest method for this number of chains of a model.
    pub(super) fn sweeps_of(&self, chains: usize, shape: Shape) -> Sweeps {
        let chains = self.part().range(chains).len();
        let grid = self.has_grid() && shape.n_visible().max(shape.n_hidden()) <= MOST_UNITS;
        let (clusters, at_once) = (self.has_clusters(), 2 * self.opened().multiprocessors as usize / CLUSTER as usize);
        let smaller = shape.n_visible().min(shape.n_hidden());
        let passed = chains.saturating_mul(shape.n_visible()).saturating_mul(shape.n_hidden());
        let sweeps = match self.sweeps() {
            Sweeps::Clusters if !clusters => Sweeps::Blocks,
            Sweeps::Auto if clusters && chains <= at_once && smaller >= LEAST_UNITS => Sweeps::Clusters,
            Sweeps::Grid if !grid => Sweeps::Strips,
            Sweeps::Auto if chains >= LEAST_STRIPS && passed >= LEAST_WEIGHTS && grid => Sweeps::Grid,
            Sweeps::Auto if chains >= LEAST_STRIPS && passed >= LEAST_WEIGHTS => Sweeps::Strips,
            Sweeps::Auto => Sweeps::Blocks,
            told => told,
        };
        // Kernels that carry a chain through all steps draw as if theirs were all chains.
        match sweeps {
            Sweeps::Blocks | Sweeps::Clusters if self.is_shared() => Sweeps::Strips,
            sweeps => sweeps,
        }
    }

    /// A sweep whose first draw is `first` numbers after the generator's position.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn launch_sweep(
        &self, stream: &CudaStream, blas: Option<&Blas>, parameters: &CudaParameters, chains: &CudaChains,
        kept: Option<Kept<'_>>, first: u64, k: usize,
    ) -> Result<()> {
        let (up, down) = (parameters.side(Layer::Visible), parameters.side(Layer::Hidden));
        let laws = parameters.laws.as_ref().map(|laws| laws.argument());
        let by_layers = blas.is_some() || laws.is_some() || kept.is_some();
        let share = Share::new(self, chains, kept, by_layers)?;
        if share.n == 0 {
            return Ok(());
        }
        if by_layers {
            let at = |_| (share.betas, 1);
            return self.launch_steps(stream, blas, [down, up], laws, &share, first, k, at, |_, _| Ok(()));
        }
        let (generator, argument) = (chains.states.generator.ptr(), chains.argument());
        let sweeps = self.sweeps_of(chains.len(), chains.shape);
        if matches!(sweeps, Sweeps::Strips | Sweeps::Grid) {
            // The caller may read the pre-activations and means of the last step.
            let on_grid = if sweeps == Sweeps::Grid { k.saturating_sub(1) } else { 0 };
            self.launch_on_grid(stream, [down, up], chains, &share, first, on_grid)?;
            return self.launch_strips(stream, [down, up], &share, first + chains.drawn(on_grid), k - on_grid);
        }
        let (grid, k) = (chains.grid()?, count("k", k)?);
        if sweeps == Sweeps::Blocks {
            return self.run().sweep(stream, grid, down, up, argument, generator, first, k);
        }
        // The shared memory for rows of weights, which the bits of both layers leave.
        let capacity = (CLUSTER_BYTES as u32 - grid.shared) / 4;
        let blocks = count("blocks of clusters", chains.len() * CLUSTER as usize)?;
        let grid = Grid { shared: CLUSTER_BYTES as u32, ..Grid::new(blocks, CLUSTER_THREADS) };
        self.run().sweep_in_clusters(stream, grid, down, up, argument, generator, first, k, capacity)
    }

    /// k steps of all chains, a kernel per layer; blocks loop over strips of its units.
    fn launch_strips(
        &self, stream: &CudaStream, [down, up]: [SideArgument; 2], share: &Share, first: u64, k: usize,
    ) -> Result<()> {
        let n = share.n;
        let layer = |side: SideArgument, given: Ptr<u32>, first, pre, means, bits| {
            // A tile of 256 bytes a row, one row of zeros, and two bytes a row in the list of each warp.
            let free = self.opened().strips - 256 - 2 * STRIP_WARPS * STRIP_AHEAD;
            let tile = (free / (256 + 2 * STRIP_WARPS)).min(side.given.next_multiple_of(32)).min(1024) / 32 * 32;
            let strips = side.made.div_ceil(STRIP);
            let groups = (self.opened().multiprocessors / strips).clamp(1, n.div_ceil(STRIP_WARPS));
            let at_once = n.div_ceil(groups * STRIP_WARPS).min(CHAINS_AT_ONCE);
            let shared = (tile + 1) * 256 + 2 * STRIP_WARPS * (tile + STRIP_AHEAD);
            let grid = Grid { shared, ..Grid::new(count("blocks", (strips * groups) as usize)?, 32 * STRIP_WARPS) };
            let (betas, generator) = (share.betas, share.generator);
            let run = self.run();
            run.layer_by_strips(
                stream, grid, side, given, n, betas, 1, generator, first, tile, at_once, pre, means, bits,
            )
        };
        let (visible, hidden) = (share.visible, share.hidden);
        for step in 0..k {
            let (draws, last) = (share.draws(first, step), step + 1 == k);
            let only_last = |to: Ptr<f32>| if last { to } else { Ptr::NULL };
            layer(down, hidden, draws[0], only_last(share.visible_pre), Ptr::NULL, visible)?;
            layer(up, visible, draws[1], Ptr::NULL, only_last(share.hidden_mean), hidden)?;
        }
        Ok(())
    }

    /// k steps of all chains a layer at a time, by products, with units of several laws or with kept states, in scratch that
    /// [`CudaChains::own`] allocated. `at` returns the inverse temperatures of the visible layer of a step, and with the next
    /// step those of its hidden layer; `between` reads the hidden sums. The sums of a layer are computed in the memory of its
    /// pre-activations or means.
    #[allow(clippy::too_many_arguments)]
    fn launch_steps(
        &self, stream: &CudaStream, blas: Option<&Blas>, [down, up]: [SideArgument; 2], laws: Option<LawsArgument>,
        share: &Share, first: u64, k: usize, at: impl Fn(usize) -> (Ptr<f32>, u32),
        between: impl Fn(usize, Ptr<f32>) -> Result<()>,
    ) -> Result<()> {
        let (n, visible_sums, hidden_sums) = (share.n, share.visible_pre, share.hidden_mean);
        let [visible_states, hidden_states] = share.numbers;
        let [visible_rows, hidden_rows] = [(Layer::Visible, visible_states), (Layer::Hidden, hidden_states)]
            .map(|(layer, numbers)| Given { rows: share.rows(layer), round: false, numbers, ready: true });
        self.numbers_of_bits(stream, share.hidden, n, up.made, hidden_states)?;
        for step in 0..k {
            let draws = share.draws(first, step);
            let outcome = |(betas, beta_step), first, states_to| Outcome {
                betas,
                beta_step,
                generator: share.generator,
                first,
                states: states_to,
                ..Outcome::NOTHING
            };
            let mut visible = outcome(at(step), draws[0], visible_states);
            let mut hidden = outcome(at(step + 1), draws[1], hidden_states);
            if step + 1 == k {
                (visible.pre, visible.bits) = (visible_sums, share.visible);
                (hidden.means, hidden.bits) = (hidden_sums, share.hidden);
            }
            self.compute_sums(stream, blas, down, hidden_rows, visible_sums)?;
            match laws {
                None => self.activate(stream, down, n, visible_sums, visible)?,
                Some(laws) => {
                    visible.states = share.values;
                    visible.scaled = if laws.precision.address == 0 { Ptr::NULL } else { visible_states };
                    self.activate_visible(stream, down, laws, n, visible_sums, visible)?;
                }
            }
            for &kept in &share.kept {
                let precision = laws.map_or(Ptr::NULL, |laws| laws.precision);
                let bits = if laws.is_none() { visible.bits } else { Ptr::NULL };
                self.keep_visible(stream, kept, share.shape, precision, [visible.states, visible.scaled], bits)?;
            }
            self.compute_sums(stream, blas, up, visible_rows, hidden_sums)?;
            between(step, hidden_sums)?;
            self.activate(stream, up, n, hidden_sums, hidden)?;
        }
        Ok(())
    }

    /// Overwrites the chains' visible states with the values that they keep: `states`, `scaled` = `states`·`precision`, and `bits`.
    fn keep_visible(
        &self, stream: &CudaStream, kept: Keeping, shape: Shape, precision: Ptr<f32>, numbers: [Ptr<f32>; 2],
        bits: Ptr<u32>,
    ) -> Result<()> {
        let (units, width) = (shape.n_visible() as u32, stride(shape.n_visible()));
        let (run, grid, left_out) = (self.run(), block_of_rows(units, kept.n, 1)?, u32::from(kept.left_out));
        let [states, scaled] = numbers.map(|numbers| from(numbers, kept.first * width));
        let bits = from(bits, kept.first * 2 * words(shape.n_visible()));
        run.keep_visible(stream, grid, kept.rows, left_out, units, precision, states, scaled, width as u32, bits)
    }

    /// Advances the generator by `numbers`, on the device and on the host.
    fn advance(&self, chains: &mut CudaChains, numbers: u64) -> Result<()> {
        let generator = chains.states.generator.ptr();
        self.run().finish(self.stream(), Grid::new(1, 32), generator, numbers, Ptr::NULL, 0, Ptr::NULL)?;
        chains.uniforms.skip(numbers);
        Ok(())
    }
}
