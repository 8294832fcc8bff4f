//! Restricted Boltzmann Machines: trained by contrastive divergence on packed bits, the same bits on any number of threads.
//!
//! An RBM is an energy-based model of vectors v of binary units with hidden units h,
//!
//! > E(v, h) = -b·v - c·h - vᵀWh,  P(v) = Σ_h e^-E(v,h)/Z = e^-F(v)/Z,
//!
//! whose units are independent given the other layer: P(h_j = 1|v) = σ(c_j + (vW)_j), P(v_i = 1|h) = σ(b_i + (hWᵀ)_i).
//! Visible units may also be categories and real numbers ([`units`]). harmonium draws whole layers at once by these ([`Chains`]), follows the gradient of the likelihood with chains in place of
//! the model's expectation ([`Trainer`]) and watches it by pseudo-likelihood ([`Monitor`]).
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
//! println!("log pseudo-likelihood: {:?} nats a row", trainer.report()?.monitor);
//! println!("{:?}", rbm.free_energy(&data)?);
//! let trained: Rbm = rbm.to_rbm()?;
//! # let _ = trained;
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
//! | [`Error`], [`uniforms`], [`elementary`] | what can go wrong · the random numbers, by position · exp, σ, softplus and normal numbers |
//! | [`units`], [`Shape`], [`Rows`], [`Columns`], [`Dataset`], [`Source`], [`Epochs`] | the laws of visible units · sizes · data, borrowed · sums over its columns · owned · read as it is needed · what of it an epoch shows |
//! | [`Scale`] | columns brought to mean 0 and variance 1 |
//! | [`Rbm`], [`RbmRef`], [`RbmMut`] | parameters, owned and borrowed |
//! | [`descent`] | what updates make of a gradient, a rule a file |
//! | [`Cpu`], `Cuda` (feature `cuda`), `Ranks` (feature `mpi`), [`Sums`] | the kinds of devices, and the ways in which each adds up |
//! | [`Device`], [`Place`], [`Data`], [`Batch`] | a device as a value, by its name · rows where it can read them |
//! | [`Resident`], [`Lent`] | parameters where a device computes with them: energies, conditionals, pseudo-likelihoods |
//! | [`Chains`], [`tempering`], [`Trainer`], [`Average`], [`monitor`] | Gibbs chains · chains that change places with hotter ones · CD-k and PCD-k · means of parameters · what is watched |
//! | [`labels`] | a Potts site told from the other units, and learning to |
//! | [`log_partition`], [`likelihood`], [`diagnostics`] | log Z: exact, as an interval by annealing, along with training · log-likelihoods · the health of chains |
//! | [`formats`], [`model`], [`checkpoint`], [`raster`] | files and pictures |
//!
//! # The numerics contract
//!
//! With [`Sums::Canonical`] everything is *canonical*: the same seed gives the same bits for any number of threads, any
//! instruction set, any way in which rows are grouped, and on a GPU.
//! - A pre-activation takes its units in ascending order into one `f32` accumulator by fused multiply-add; then the bias.
//! - exp, σ and softplus are one fixed sequence of operations ([`elementary`]).
//! - Unit (r, j) of a layer is on iff u < p, u being number r·units + j of the layer's draw, of 32 bits, and the comparison
//!   as exact at either end of the unit interval ([`uniforms`]). A Gaussian unit takes Φ⁻¹ of its number, a Potts site the
//!   state at which the sums of its probabilities, in `f64`, pass that of its first unit ([`units`]).
//! - A Gaussian unit enters sums as s·v, rounded to `f32`.
//! - Sums over rows run in ascending order in one accumulator; sums of energies in `f64`, sixteen partial sums each; the exact
//!   pseudo-likelihood in `f32` products, sixteen partial products each.
//! - Each lane and thread computes its own results; nothing is summed across them.
//!
//! The other [`Sums`] are exempt: a matrix library adds up in an order of its own.

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

/// The README's program is compiled and run with the tests; its data are gzipped.
#[cfg(all(doctest, feature = "gzip"))]
#[doc = include_str!("../README.md")]
struct Readme;
