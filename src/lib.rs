//! lib
#![warn(missing_docs)]
mod backend;
mod cpu;
mod dataset;
pub mod elementary;
mod energy;
mod error;
mod gibbs;
mod lanes;
pub mod monitor;
mod rbm;
mod train;
pub mod uniforms;
pub use backend::{Activations, Backend, ChainState, Gradient, Layer, Rows, Shape, Values};
pub use cpu::{Cpu, isa::Isa};
pub use dataset::Dataset;
pub use error::{Error, Result};
pub use gibbs::Chains;
pub use monitor::Monitor;
pub use rbm::{Lent, Rbm, RbmMut, RbmRef, Resident};
pub use train::{Algorithm, Report, Settings, Trainer};
pub use uniforms::{Purpose, Uniforms};
