//! CUDA: the same operations as on the CPU, and the same bits, on an NVIDIA GPU.
//!
//! Two roads, as on the CPU: the canonical one, which this page is about, and `gemm`, that of [`CudaGemm`], with estimates of
//! its own.
//!
//! Every verb of [`Cuda`] is *canonical*, as every verb of [`Cpu`](crate::Cpu) is: sums take their terms in the same order,
//! the elementary functions are the same operations, units draw the numbers at the same positions. Parameters, data (eight
//! bits stay eight bits), chains, the generator's state and the sums of the monitor live on the device.
//!
//! | on the CPU | on the device |
//! |---|---|
//! | a worker carries a group of chains through all k steps | a block carries one chain; a grid is all chains |
//! | a lane of a vector holds one unit of the layer that is made | a thread does; a layer of more units than threads takes turns |
//! | active list, states in the second-level cache | active list, states in shared memory |
//! | tiles of 64 × 64 weights, in both directions | rows of weights padded to 128 bytes, in both directions; a warp reads 32 neighbours |
//! | loads run ahead of additions by out-of-order execution | 16 rows are loaded, then added in their order |
//! | `crate::lanes::Wide::draw`: vectors of states jump by 16 | each thread jumps to its unit, then from layer to layer |
//! | 16 partial sums in `f64`, halves added | 16 threads, halves added by shuffles |
//! | two splits among threads an update | one graph launch and two kernel launches an update |
//! | `learn`: 64 visible units, then their transposed block | a block of 32 × 32 weights, transposed in shared memory |
//!
//! # An update
//!
//! The phases are captured once as a graph and replayed. What changes from update to update (which rows, which bit) is
//! written to device memory by `begin`, the generator's state is moved on by `finish`: nothing is frozen in the graph that
//! should not be. Other sizes, or parameters and chains at other addresses, make a new graph.
//!
//! | | launches by the host | kernels | copied to the device | copied back |
//! |---|---|---|---|---|
//! | CUDA, PCD watched by pseudo-likelihood | 3: `begin`, graph, `learn` | 6: `begin`, `propagate`, `pseudo_likelihood_of_bit`, `sweep`, `finish`, `learn` | 20 bytes, as arguments of `begin` and `learn` | 0 |
//! | CPU | – | 2 splits | 0 | 0 |
//!
//! An epoch costs one read-back: [`Trainer::report`](crate::Trainer::report) reads 8 bytes. Bytes that the processors read and
//! write in the tutorial's update (784 × 500, 20 rows, 20 chains, PCD-15), counted from the loops, not measured:
//!
//! | kernel | bytes | on the CPU |
//! |---|---|---|
//! | `sweep`: 20 chains × 15 steps × (about 100 active visible units × 2.0 kB + about 50 active hidden units × 3.1 kB) | 108 MB, second-level cache | the same 108 MB, of which each strip of weights comes into a core's second-level cache once a step and thread: 15 × 3.2 MB = 48 MB a thread |
//! | `propagate`: 20 rows × about 150 units that are not 0 × 2.0 kB | 6 MB | 6 MB |
//! | `pseudo_likelihood_of_bit`: 20 rows × about 100 × 2.0 kB | 4 MB | 4 MB |
//! | `learn`: W read, W and its transpose written, the means that belong to active units | 5 + 4 MB | 5 + 4 MB |
//!
//! # What to expect of it: an estimate, not a measurement
//!
//! On an H100 (132 multiprocessors at 1.7 GHz, 3.35 TB/s, 50 MB second-level cache, 67 TFLOP/s in `f32`). Nothing here was
//! ever timed.
//!
//! - *The tutorial's update: about 90 µs.* W and its transpose (3.2 MB) stay in the second-level cache. 20 chains keep 20
//!   multiprocessors busy; each takes in at most 64 bytes a cycle, 109 GB/s. A step reads 200 kB and 157 kB: 3.3 µs, which is
//!   the bound. It is reached if enough loads are in flight: at a latency of 280 cycles that takes 18 kB, and 16 warps of
//!   500 hidden units with 16 loads each have 32 kB. Four barriers, two lists and two sigmoids a step add about 1 µs:
//!   15 steps are 64 µs. `propagate` and the pseudo-likelihood are one such half-step each, 4 and 3 µs, `learn` 5 µs (9 MB, two
//!   waits for memory a visible unit), `begin` and `finish` 2 µs each, and about 1.5 µs lie between two kernels. The design is
//!   within 1.5 times of its bound, and the bound is that one chain has one multiprocessor.
//! - *A sweep of 10 000 chains, one step: about 0.75 ms; 15 steps: 11 ms.* 3.6 GB a step at the 5.5 TB/s or so that the
//!   second-level cache gives to all multiprocessors together: 0.65 ms. The dense product is 15.7 GFLOP a step: 0.23 ms at
//!   the peak of the arithmetic, 0.35 ms at what matrix libraries reach: for many chains the gemm road, about 0.41 ms with all
//!   that belongs to a step, is nearly twice as fast, and gives up the canonical bits for it.
//!
//! # What is not verified
//!
//! The kernels were executed by an emulator, not by a GPU: `tests/cuda_emulator`. So nothing is known of how the real driver
//! compiles and schedules them, of weak memory ordering, of work that overlaps, of captures by a real driver, and of any time.
//! See the README.

mod activate;
mod chains;
mod device;
mod energies;
mod gemm;
mod launch;
mod learn;
mod memory;
mod phases;

pub use device::Program;
pub use gemm::CudaGemm;

use crate::{
    backend::{Activations, Backend, ChainState, Gradient, Layer, Plan, Rows, Shape, Values, sealed::Sealed},
    error::Result,
    uniforms::Uniforms,
};
use cudarc::driver::CudaStream;
use device::Device;
use launch::{Buffer, Grid, Kernels};
use memory::{Batch, Chains, Data, Numbers, Parameters, Shared, Turn, Work};
use std::{marker::PhantomData, ops::Range, sync::Arc};

/// An NVIDIA GPU. Clones share the device and its stream.
#[derive(Clone, Debug)]
pub struct Cuda {
    device: Arc<Device>,
}

impl Cuda {
    /// Device number `ordinal`, from 0, as the driver counts them.
    ///
    /// Compiles the kernels, which takes a second.
    ///
    /// # Errors
    /// [`Error::Cuda`](crate::Error::Cuda): no driver, no such device, either too old, or no kernels for it.
    pub fn new(ordinal: usize) -> Result<Self> {
        Self::with_program(ordinal, Program::Own)
    }

    /// The device with kernels from elsewhere: how the tests plant faults.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    #[doc(hidden)]
    pub fn with_program(ordinal: usize, program: Program<'_>) -> Result<Self> {
        Ok(Self { device: Arc::new(Device::open(ordinal, program)?) })
    }

    /// The kernels' source, and the PTX that comes with the crate.
    #[doc(hidden)]
    pub fn kernels() -> (&'static str, &'static str) {
        (device::SOURCE, device::PTX)
    }

    /// What the driver calls the device.
    pub fn name(&self) -> &str {
        &self.device.name
    }

    fn stream(&self) -> &Arc<CudaStream> {
        &self.device.stream
    }

    fn run(&self) -> &Kernels {
        &self.device.kernels
    }

    /// Points the kernels at some rows, and at a bit of them.
    fn begin(&self, turn: &Turn, batch: Batch<'_>, bit: usize) -> Result<()> {
        self.run().begin(self.stream(), Grid::new(1, 1), turn.rows(), batch.address, bit as u32)
    }

    /// The same with room of its own, for verbs that have none.
    fn turn_to(&self, batch: Batch<'_>, bit: usize) -> Result<Turn> {
        let turn = Turn::new(self.stream())?;
        self.begin(&turn, batch, bit)?;
        Ok(turn)
    }
}

impl Sealed for Cuda {}

#[allow(private_interfaces)]
impl Backend for Cuda {
    type Parameters = Parameters;
    type Chains = Chains;
    type Work = Work;
    type Data<'a> = Data<'a>;
    type Batch<'a> = Batch<'a>;

    fn load<'a>(&self, rows: Rows<'a>) -> Result<Data<'a>> {
        let values = match rows.values() {
            Values::U8(values) => memory::Values::U8(Buffer::of(self.stream(), values)?),
            Values::F32(values) => memory::Values::F32(Buffer::of(self.stream(), values)?),
        };
        Ok(Data { values, rows: rows.len(), units: rows.units(), host: PhantomData })
    }

    fn batch<'a>(data: &'a Data<'_>, rows: Range<usize>) -> Batch<'a> {
        assert!(rows.start <= rows.end && rows.end <= data.rows, "rows {rows:?} of {}", data.rows);
        let first = rows.start * data.units;
        let (address, eight_bit) = match &data.values {
            memory::Values::U8(values) => (values.ptr().offset(first).address, true),
            memory::Values::F32(values) => (values.ptr().offset(first).address, false),
        };
        Batch { address, rows: rows.len(), units: data.units, eight_bit, data: PhantomData }
    }

    fn batch_size(batch: Batch<'_>) -> (usize, usize) {
        (batch.rows, batch.units)
    }

    fn upload(&self, shape: Shape, weights: &[f32], visible_bias: &[f32], hidden_bias: &[f32]) -> Result<Parameters> {
        let numbers = Numbers::new(self.stream(), shape, weights, visible_bias, hidden_bias)?;
        self.transpose(&numbers, shape)?;
        Ok(Parameters { shape, numbers: Shared::new(numbers) })
    }

    fn download(
        &self, parameters: &Parameters, weights: &mut [f32], visible_bias: &mut [f32], hidden_bias: &mut [f32],
    ) -> Result<()> {
        parameters.numbers.read(self.stream(), parameters.shape, weights, visible_bias, hidden_bias)
    }

    fn activate(
        &self, parameters: &Parameters, given: Layer, rows: Batch<'_>, draws: Option<&mut Uniforms>,
        out: &mut Activations,
    ) -> Result<()> {
        self.activate(parameters, given, rows, draws, out)
    }

    fn free_energy(&self, parameters: &Parameters, rows: Batch<'_>, out: &mut [f64]) -> Result<()> {
        self.free_energy(parameters, rows, out)
    }

    fn free_energy_gradient(
        &self, parameters: &Parameters, rows: Batch<'_>, weights: &[f32], work: &mut Work, out: &mut Gradient,
    ) -> Result<()> {
        self.free_energy_gradient(parameters, rows, weights, work, out)
    }

    fn pseudo_log_likelihood(
        &self, parameters: &Parameters, rows: Batch<'_>, bit: Option<usize>, out: &mut [f64],
    ) -> Result<()> {
        self.pseudo_log_likelihood(parameters, rows, bit, out)
    }

    fn chains(&self, shape: Shape, state: &ChainState) -> Result<Chains> {
        Chains::new(self.stream(), shape, state)
    }

    fn n_chains(chains: &Chains) -> usize {
        chains.betas.len()
    }

    fn chain_state(&self, chains: &Chains) -> Result<ChainState> {
        chains.state(self.stream())
    }

    fn start(&self, parameters: &Parameters, chains: &mut Chains, rows: Batch<'_>) -> Result<()> {
        self.start(parameters, chains, rows)
    }

    fn sweep(&self, parameters: &Parameters, chains: &mut Chains, k: usize) -> Result<()> {
        self.sweep(parameters, chains, k)
    }

    fn anneal(
        &self, parameters: &Parameters, chains: &mut Chains, reference: &[f32], betas: &[f32], log_weights: &mut [f64],
    ) -> Result<()> {
        self.anneal(parameters, chains, reference, betas, log_weights)
    }

    fn visible(&self, chains: &Chains, out: &mut Activations) -> Result<()> {
        self.visible(chains, out)
    }

    fn work(&self, _: Shape) -> Result<Work> {
        let stream = self.stream();
        Ok(Work {
            turn: Turn::new(stream)?,
            rows: 0,
            positive: Buffer::zeros(stream, 0)?,
            values: Buffer::zeros(stream, 0)?,
            pre: Buffer::zeros(stream, 0)?,
            means: Buffer::zeros(stream, 0)?,
            terms: Buffer::zeros(stream, 0)?,
            numbers: [Buffer::zeros(stream, 0)?, Buffer::zeros(stream, 0)?],
            watched: Buffer::zeros(stream, 1)?,
            recorder: self.device.context.new_stream().map_err(device::failed("making of a stream"))?,
            captured: None,
        })
    }

    fn phases(
        &self, parameters: &Parameters, batch: Batch<'_>, chains: &mut Chains, plan: Plan, work: &mut Work,
    ) -> Result<()> {
        self.phases(parameters, batch, chains, plan, work)
    }

    fn gradient(
        &self, parameters: &Parameters, batch: Batch<'_>, chains: &Chains, work: &mut Work, out: &mut Gradient,
    ) -> Result<()> {
        self.gradient(parameters, batch, chains, work, out)
    }

    fn update(
        &self, parameters: &mut Parameters, batch: Batch<'_>, chains: &Chains, work: &mut Work, lr: f32,
    ) -> Result<()> {
        self.update(parameters, batch, chains, work, lr)
    }

    fn apply(&self, parameters: &mut Parameters, gradient: &Gradient, lr: f32) -> Result<()> {
        self.apply(parameters, gradient, lr)
    }

    fn watched(&self, work: &mut Work) -> Result<f64> {
        let watched = work.watched.read(self.stream())?;
        work.watched.clear(self.stream())?;
        Ok(watched.first().copied().unwrap_or(0.0))
    }

    fn watch_from(&self, work: &mut Work, sum: f64) -> Result<()> {
        work.watched.write(self.stream(), &[sum])
    }
}
