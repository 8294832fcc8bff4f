//! Restricted Boltzmann Machines: trained by contrastive divergence on packed bits, the same bits on any number of threads.
//!
//! An RBM is an energy-based model of binary vectors v with hidden units h,
//!
//! > E(v, h) = -b·v - c·h - vᵀWh,  P(v) = Σ_h e^-E(v,h)/Z = e^-F(v)/Z,
//!
//! whose units are independent given the other layer: P(h_j = 1|v) = σ(c_j + (vW)_j), P(v_i = 1|h) = σ(b_i + (hWᵀ)_i).
//! harmonium draws whole layers at once by these ([`Chains`]), follows the gradient of the likelihood with chains in place of
//! the model's expectation ([`Trainer`]) and watches it by pseudo-likelihood ([`Monitor`]).
//!
//! ```
//! use harmonium::{Algorithm, Backend, Cpu, Dataset, Rbm, Settings, Shape, Trainer};
//!
//! # fn main() -> harmonium::Result<()> {
//! let stripes = [1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1].map(|bit: u8| 255 * bit).to_vec();
//! let data = Dataset::from_u8(stripes, 6)?;
//! let cpu = Cpu::detect()?;
//! let shape = Shape::new(6, 4)?;
//! let mut rbm = Rbm::new(shape, 123);
//! let settings = Settings { algorithm: Algorithm::Pcd { n_chains: 10 }, k: 5, ..Settings::default() };
//! let mut trainer = Trainer::new(&cpu, shape, settings)?;
//! let mut lent = rbm.lend(&cpu)?;
//! for _ in 0..500 {
//!     trainer.step(&mut lent, data.rows(), 0.1)?;
//! }
//! println!("log pseudo-likelihood: {:?} nats a row", trainer.report()?.monitor);
//! lent.finish()?;
//! println!("{:?}", rbm.on(&cpu)?.free_energy(data.rows())?);
//! # Ok(())
//! # }
//! ```
//!
//! # A tour
//!
//! A module uses only what stands above it in this table.
//!
//! | | |
//! |---|---|
//! | [`Error`], [`uniforms`], [`elementary`], [`Summary`] | what can go wrong · the random numbers, by position · exp, σ and softplus · mean and variance |
//! | [`Backend`], [`Shape`], [`Rows`] | what a device must be able to do |
//! | [`Cpu`], [`Gemm`] | the two roads: sums of active rows, and explicit matrix products |
//! | [`Rbm`], [`RbmRef`], [`RbmMut`], [`Resident`], [`Lent`] | parameters: owned, borrowed, and where a device computes with them |
//! | [`Resident`]'s methods, [`Chains`], [`Dataset`] | energies and conditionals · Gibbs chains · data |
//! | [`Trainer`], [`monitor`] | CD-k and PCD-k · pseudo-likelihood and cross-entropy |
//! | [`log_partition`], [`likelihood`], [`diagnostics`] | log Z: exact, or as an interval by annealing · log-likelihoods · the health of chains |
//! | [`formats`], [`model`], [`checkpoint`], [`raster`] | files of data, models and runs · pictures |
//!
//! # The numerics contract
//!
//! On [`Cpu`] everything is *canonical*: the same seed gives the same bits for any number of threads, any instruction set and
//! any way in which rows are grouped; and on `Cuda` (feature `cuda`) as far as an emulator can tell.
//! - A pre-activation takes its units in ascending order into one `f32` accumulator by fused multiply-add; then the bias.
//! - exp, σ and softplus are one fixed sequence of operations ([`elementary`]).
//! - Unit (r, j) of a layer is on iff u < p, u being number r·units + j of the layer's draw ([`uniforms`]).
//! - Sums over rows run in ascending order in one accumulator; sums of energies in `f64`, sixteen partial sums each; the exact
//!   pseudo-likelihood in `f32` products, sixteen partial products each.
//! - Lanes and threads only ever hold different results. [`Gemm`] is exempt, and `CudaGemm`: their sums are in their matrix
//!   library's order.

pub mod checkpoint;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod dataset;
mod device;
pub mod diagnostics;
pub mod elementary;
mod energy;
mod error;
pub mod formats;
mod gibbs;
mod lanes;
pub mod likelihood;
pub mod log_partition;
pub mod model;
pub mod monitor;
mod names;
pub mod raster;
mod rbm;
mod resident;
mod rows;
mod shape;
pub mod storage;
mod summary;
mod tensors;
mod train;
pub mod uniforms;
mod verbs;

pub use checkpoint::Checkpoint;
pub use cpu::Cpu;
#[cfg(feature = "cuda")]
pub use cuda::{Cuda, Program};
pub use dataset::Dataset;
pub use device::{Batch, Data, Device, Place};
#[cfg(feature = "cuda")]
pub use error::CudaError;
pub use error::{Error, Result};
pub use formats::{idx, npy};
pub use gibbs::Chains;
pub use lanes::isa::Isa;
pub use likelihood::{LogLikelihood, log_likelihood};
pub use log_partition::LogPartition;
pub use monitor::Monitor;
pub use rbm::{Gradient, Rbm, RbmMut, RbmRef};
pub use resident::{Lent, Resident};
pub use rows::{Rows, Values};
pub use shape::{Layer, Shape};
pub use summary::Summary;
pub use train::{Algorithm, Report, Settings, Trainer, TrainerState};
pub use uniforms::{Purpose, Uniforms};
pub use verbs::{Activations, BatchMeans, ChainState, Sums};

/// The README's program is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
