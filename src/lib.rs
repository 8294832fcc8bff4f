//! Restricted Boltzmann Machines (RBMs), trained by contrastive divergence on packed bits. The same seed gives the same bits on any
//! number of threads.
//!
//! An RBM is an energy-based model of vectors v of binary units with hidden units h:
//!
//! > E(v, h) = -b·v - c·h - vᵀWh,  P(v) = Σ_h e^-E(v,h)/Z = e^-F(v)/Z.
//!
//! Given one layer, the units of the other are independent: P(h_j = 1|v) = σ(c_j + (vW)_j) and P(v_i = 1|h) = σ(b_i + (hWᵀ)_i).
//! Visible units may also be categories and real numbers ([`units`]).
//!
//! harmonium samples a whole layer at once by these conditionals ([`Chains`]). It follows the gradient of the log-likelihood, with
//! chains in place of the model's expectation ([`Trainer`]), and monitors training by the pseudo-likelihood ([`Monitor`]).
//!
//! ```
//! use harmonium::{Algorithm, Cpu, Dataset, Rbm, Settings, Shape, Trainer};
//!
//! # fn main() -> harmonium::Result<()> {
//! let stripes = [1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1].map(|bit: u8| 255 * bit).to_vec();
//! let data = Dataset::from_u8(stripes, 6)?;
//! let cpu = Cpu::detect()?;
//! let mut rbm = Rbm::new(Shape::new(6, 4)?, 123).on(cpu)?;
//! let settings = Settings { algorithm: Algorithm::Pcd { n_chains: 10 }, k: 5, ..Settings::default() };
//! let mut trainer = Trainer::new(cpu, rbm.shape(), settings)?;
//! for _ in 0..500 {
//!     trainer.step(&mut rbm, &data, 0.1)?;
//! }
//! let watched = trainer.report()?.monitor.unwrap();           // log pseudo-likelihood in nats a row; 6·ln ½ = -4.2 before training
//! assert!(watched > -3.0, "{watched}");
//! let free_energies = rbm.free_energy(&data)?;                // F(v) = -log P(v) - log Z of each row, in nats
//! assert_eq!(free_energies.len(), 2);
//! let trained: Rbm = rbm.to_rbm()?;                           // the parameters, to save or to continue with
//! assert_eq!(trained.view().weights().len(), 6 * 4);
//! # Ok(())
//! # }
//! ```
//!
//! # A tour
//!
//! A module uses only modules from rows above its own.
//!
//! | Items | Subject |
//! |---|---|
//! | [`Error`], [`uniforms`], [`elementary`] | errors · random numbers by position · exp, σ, softplus and normal numbers |
//! | [`units`], [`Shape`], [`Rows`], [`Columns`], [`Dataset`], [`Source`], [`Epochs`] | laws of visible units · sizes of layers · borrowed rows · sums over columns · owned rows · rows read on demand · the rows of each epoch |
//! | [`Scale`] | columns scaled to mean 0 and variance 1 |
//! | [`Rbm`], [`RbmRef`], [`RbmMut`] | parameters, owned and borrowed |
//! | [`descent`] | rules of descent: from a gradient to an update, one file for each rule |
//! | [`Cpu`], `Cuda` (feature `cuda`), `Ranks` (feature `mpi`), `CudaRanks` (both), [`Sums`] | the backends, and the order of their sums |
//! | [`Device`], [`Place`], [`Data`], [`Batch`] | a backend chosen at run time, and its name · rows in its memory |
//! | [`Resident`], [`Lent`] | parameters on a device: energies, conditionals, pseudo-likelihoods |
//! | [`Chains`], [`tempering`], [`Trainer`], [`Average`], [`monitor`] | Gibbs chains · parallel tempering · CD-k and PCD-k · averages of parameters · monitors of training |
//! | [`labels`] | a Potts site as a label: prediction, and discriminative training |
//! | [`log_partition`], [`likelihood`], [`diagnostics`] | log Z: exact, as an interval by annealing, tracked along training · log-likelihoods · mixing of chains |
//! | [`formats`], [`model`], [`checkpoint`], [`raster`] | files and images |
//!
//! # The numerics contract
//!
//! With [`Sums::Canonical`] all results are *canonical*: the same seed gives the same bits for any number of threads, any
//! instruction set, any grouping of rows, and on a GPU.
//! - A pre-activation adds its units in ascending order to one `f32` accumulator by fused multiply-add, and then the bias.
//! - exp, σ and softplus are one fixed sequence of operations ([`elementary`]).
//! - Unit (r, j) of a layer is on iff u < p, where u is number r·units + j of the layer's draw. u has 32 bits, and the comparison
//!   is exact near both ends of the unit interval ([`uniforms`]). A Gaussian unit takes Φ⁻¹ of its number. A Potts site takes the
//!   state at which the cumulative sum of its probabilities, in `f64`, exceeds the number of its first unit ([`units`]).
//! - A Gaussian unit enters sums as s·v, rounded to `f32`.
//! - Sums over rows have one accumulator and ascending order. Sums of energies are in `f64` with sixteen partial sums each. The
//!   exact pseudo-likelihood uses `f32` products with sixteen partial products each.
//! - Each lane and thread computes its own results; nothing is summed across them.
//!
//! The other [`Sums`] are exempt, because a matrix library has its own order of summation.

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod checkpoint;
mod columns;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod dataset;
pub mod descent;
mod device;
pub mod diagnostics;
pub mod elementary;
mod energy;
mod epochs;
mod error;
pub mod formats;
mod gibbs;
pub mod labels;
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
pub mod scale;
mod shape;
mod source;
pub mod storage;
mod summary;
pub mod tempering;
mod tensors;
mod train;
pub mod uniforms;
pub mod units;
mod verbs;

pub use checkpoint::Checkpoint;
pub use columns::Columns;
pub use cpu::Cpu;
#[cfg(feature = "mpi")]
pub use cpu::{Ranks, Traffic};
#[cfg(all(feature = "cuda", feature = "mpi"))]
pub use cuda::CudaRanks;
#[cfg(feature = "cuda")]
pub use cuda::{Cuda, Program, Sweeps};
pub use dataset::Dataset;
pub use descent::{Descent, RuleState};
pub use device::{Batch, Data, Device, Place};
pub use epochs::{Binarise, Epochs};
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
pub use scale::Scale;
pub use shape::{Layer, Shape};
pub use source::Source;
pub use summary::Summary;
pub use tempering::{Ladder, Tempered};
pub use train::{Algorithm, Average, Report, Settings, Trainer, TrainerState};
pub use uniforms::{Purpose, Uniforms};
pub use units::{MAX_LOG_VARIANCE, Segment, Segments};
pub use verbs::{Activations, BatchMeans, ChainState, Sums};

/// Compiles and runs the README's program with the tests; its data are gzipped.
#[cfg(all(doctest, feature = "gzip"))]
#[doc = include_str!("../README.md")]
struct Readme;
