//! The gemm road on the device: every product of a layer with the weights is one call of cuBLAS, with fused kernels around it.
//!
//! The counterpart of [`Gemm`](crate::Gemm), for many chains and for inputs that are not mostly 0. All chains make a step
//! together: two products, each followed by one pass that adds the bias, takes σ and draws. Parameters, chains and data are
//! the canonical road's, in the same places, and units draw the numbers at the same positions; only the order in which
//! cuBLAS adds is its own. So a result differs from [`Cuda`]'s by rounding, and a sample where u falls between two means
//! that differ by rounding.
//!
//! | | canonical | gemm |
//! |---|---|---|
//! | states | bits | numbers 0 and 1; bits at the end of a sweep |
//! | work of a step | rows of weights of the active units | all weights, at the speed of a matrix library |
//! | a sweep of k steps | 1 kernel | 1 + 4k: product, `activate`, product, `activate` |
//! | gradient and update | 1 kernel | 7: two conversions to numbers, two products, both biases, `transpose` |
//!
//! # Which road
//!
//! A [`CudaGemm`] takes products always, unless it is told to choose [by size](CudaGemm::by_size). Then calls with fewer than
//! [`LEAST_CHAINS`] chains (sweeps, annealing) or [`LEAST_ROWS`] rows (everything else; rows and chains together in a
//! gradient) are the canonical road's, to the bit. Both numbers follow from the estimates below and were never timed.
//!
//! # Launches and bytes of an update
//!
//! PCD-k watched by pseudo-likelihood: 9 launches by the host (`begin`, graph, and the update's seven), 4k + 8 kernels in the
//! graph (three each of the positive phase and of the pseudo-likelihood, the sweep, `finish`); the first update of a kind
//! is launched kernel by kernel. Copied to the device: 28 bytes, as arguments (which rows, which bit, four times the
//! rate); copied back: 0. Bytes that move on the device, with M chains and B rows, besides what cuBLAS reads twice:
//!
//! | | bytes | M = 10 000, B = 20, 784 × 500 |
//! |---|---|---|
//! | a product, up or down | 4·M·(n_visible + n_hidden) + W | 53 MB |
//! | `activate` after it | 8·M·(units made) | 63 and 40 MB |
//! | a step | 16·M·(n_visible + n_hidden) + 2·W | 209 MB |
//! | update | 4·(M + B)·(3·n_visible + 2·n_hidden) + 6·W | 144 MB |
//!
//! # What to expect of it: an estimate, not a measurement
//!
//! On an H100 (132 multiprocessors, 3.35 TB/s, 50 MB second-level cache, 67 TFLOP/s in `f32`). Nothing here was ever timed.
//!
//! - *A sweep of 10 000 chains, one step: about 0.41 ms; 15 steps: 6.2 ms.* The two products are 15.7 GFLOP: 0.23 ms at the
//!   peak, 0.35 ms at the two thirds of it that matrix libraries reach; their bytes hide behind the arithmetic. `activate`
//!   moves 103 MB: 31 µs at the memory's speed, since 10 000 rows of both layers do not fit the cache, and about 70
//!   instructions a unit are 32 µs of arithmetic, part of it hidden: some 50 µs. Between the four kernels of a step lie 1.5 µs
//!   each. So arithmetic is the bound, and the design is within 1.8 times of the peak's 0.23 ms. The canonical road's estimate
//!   is 0.75 ms a step at MNIST's densities, and several times that where half of the units are on.
//! - *The update around it: about 0.25 ms.* Its product over the chains is 7.8 GFLOP, 0.18 ms at two thirds of the peak; 144 MB
//!   are 43 µs, half of it hidden; the monitor and the positive phase of 20 rows some 30 µs.
//! - *Where the roads cross.* The canonical road takes 65 ns a chain and step once there are more chains than multiprocessors.
//!   A product of few rows does not fill the device: 1000 chains make 16 × 13 and 16 × 8 tiles of 64 × 64, which is 60 µs a
//!   step at half the speed and 75 with everything, against 65; 2000 chains about 115 against 130. Denser layers move that
//!   point down, hence [`LEAST_CHAINS`]. Of rows, those of real numbers none of which is 0 cost the canonical road 1.6 MB,
//!   0.29 µs each, those of MNIST's digits 0.3 MB, while a product of some hundred rows takes about 30 µs whatever their
//!   number: they cross near 100 and near 600 rows, and [`LEAST_ROWS`] stands between.
//!
//! TF32 would take the products to the tensor cores, some 5 times as fast, and make memory the bound: about 0.15 ms a step. It
//! rounds every weight to eleven bits and is off unless [asked for](CudaGemm::with_tf32).
//!
//! # What is not verified
//!
//! cuBLAS's own numerics and speed, and whether it may be captured as it is here (its manual says so). The emulator's
//! double of it adds in orders of its own and rounds for TF32 as the hardware is said to.

mod blas;
mod chains;
mod energies;
mod layers;
mod learn;
mod phases;

use super::{
    Cuda, Program,
    memory::{Batch, Chains, Data, Parameters, Work},
};
use crate::{
    backend::{Activations, Backend, ChainState, Gradient, Layer, Plan, Rows, Shape, sealed::Sealed},
    error::Result,
    uniforms::Uniforms,
};
use blas::Blas;
use std::{ops::Range, sync::Arc};

/// From so many chains on a sweep by products is worth it, by estimate.
const LEAST_CHAINS: usize = 1024;
/// From so many rows on everything else is.
const LEAST_ROWS: usize = 256;

/// An NVIDIA GPU with cuBLAS: the gemm road beside [`Cuda`]. Clones share the device and its stream.
///
/// Exempt from the numerics contract: results agree with [`Cuda`]'s up to rounding and samples in distribution, drawn from the
/// numbers at the same positions. On one device with one version of cuBLAS the same seed gives the same bits.
#[derive(Clone, Debug)]
pub struct CudaGemm {
    cuda: Cuda,
    blas: Arc<Blas>,
    by_size: bool,
    tf32: bool,
}

impl CudaGemm {
    /// Device number `ordinal`, from 0, as the driver counts them; all products by cuBLAS, in full `f32`.
    ///
    /// # Errors
    /// [`Error::Cuda`](crate::Error::Cuda): those of [`Cuda::new`]; no cuBLAS; no memory for its workspace.
    pub fn new(ordinal: usize) -> Result<Self> {
        Self::with_program(ordinal, Program::Own)
    }

    /// The device with kernels from elsewhere: how the tests plant faults.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    #[doc(hidden)]
    pub fn with_program(ordinal: usize, program: Program<'_>) -> Result<Self> {
        let cuda = Cuda::with_program(ordinal, program)?;
        let blas = Arc::new(Blas::open(cuda.stream())?);
        Ok(Self { cuda, blas, by_size: false, tf32: false })
    }

    /// The road chosen anew for every call: canonical where fewer than 1024 chains move or fewer than 256 rows are given,
    /// where products would gain nothing.
    pub fn by_size(self) -> Self {
        Self { by_size: true, ..self }
    }

    /// Products on the tensor cores in TF32: their factors are rounded to eleven bits.
    pub fn with_tf32(self) -> Self {
        Self { tf32: true, ..self }
    }

    /// What the driver calls the device.
    pub fn name(&self) -> &str {
        self.cuda.name()
    }

    fn is_worth(&self, rows: usize, least: usize) -> bool {
        !self.by_size || rows >= least
    }
}

impl Sealed for CudaGemm {}

#[allow(private_interfaces)]
impl Backend for CudaGemm {
    type Parameters = Parameters;
    type Chains = Chains;
    type Work = Work;
    type Data<'a> = Data<'a>;
    type Batch<'a> = Batch<'a>;

    fn load<'a>(&self, rows: Rows<'a>) -> Result<Data<'a>> {
        self.cuda.load(rows)
    }

    fn batch<'a>(data: &'a Data<'_>, rows: Range<usize>) -> Batch<'a> {
        Cuda::batch(data, rows)
    }

    fn batch_size(batch: Batch<'_>) -> (usize, usize) {
        Cuda::batch_size(batch)
    }

    fn upload(&self, shape: Shape, weights: &[f32], visible_bias: &[f32], hidden_bias: &[f32]) -> Result<Parameters> {
        self.cuda.upload(shape, weights, visible_bias, hidden_bias)
    }

    fn download(
        &self, parameters: &Parameters, weights: &mut [f32], visible_bias: &mut [f32], hidden_bias: &mut [f32],
    ) -> Result<()> {
        self.cuda.download(parameters, weights, visible_bias, hidden_bias)
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
        self.cuda.chains(shape, state)
    }

    fn n_chains(chains: &Chains) -> usize {
        Cuda::n_chains(chains)
    }

    fn chain_state(&self, chains: &Chains) -> Result<ChainState> {
        self.cuda.chain_state(chains)
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
        self.cuda.visible(chains, out)
    }

    fn work(&self, shape: Shape) -> Result<Work> {
        self.cuda.work(shape)
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
        self.cuda.apply(parameters, gradient, lr)
    }

    fn watched(&self, work: &mut Work) -> Result<f64> {
        self.cuda.watched(work)
    }

    fn watch_from(&self, work: &mut Work, sum: f64) -> Result<()> {
        self.cuda.watch_from(work, sum)
    }
}
