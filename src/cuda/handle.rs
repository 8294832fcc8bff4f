//! A GPU as a device: the opened device, and the kind of its sums.

use super::{
    blas::Blas,
    launch::{self, Kernels, PTX, SOURCE},
    opened::{Opened, Program},
};
use crate::{cpu::Part, error::Result, verbs::Sums};
use cudarc::driver::CudaStream;
use std::{
    fmt::{self, Display},
    sync::Arc,
};

/// The least runs that [`Sums::Auto`] anneals by products.
const LEAST_RUNS: usize = 1024;
/// The least rows for which it uses products, for everything except sweeps.
const LEAST_ROWS: usize = 256;
/// The kernels that make Gibbs steps with canonical sums. The results are the same bits.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweeps {
    /// The fastest for the number of chains.
    Auto,
    /// A block per chain.
    Blocks,
    /// A cluster of blocks per chain, if the device has clusters.
    Clusters,
    /// All chains a layer at a time, by blocks that keep strips of the weights.
    Strips,
    /// The same, but all steps except the last on a grid of 16 bits, if the device has matrix units for it.
    Grid,
}

/// An NVIDIA GPU.
///
/// With [`Sums::Canonical`], the default, results are the bits of [`Cpu`](crate::Cpu).
/// [`Sums::Gemm`] and [`Sums::GemmTf32`] leave every sum over a layer or over rows to cuBLAS. Results then agree with the canonical
/// ones up to rounding, and samples in distribution; random numbers have the same positions. On one GPU with one version
/// of cuBLAS the same seed gives the same bits. [`Sums::Auto`] uses cuBLAS for calls that anneal at least 1024 runs or read
/// at least 256 rows (rows and chains together in a gradient), and canonical sums for all others.
///
/// A process keeps up to a gibibyte of released device memory for its next calls.
///
/// Clones share the handle. Objects of two handles cannot be used together, even on one GPU: each handle has its own
/// stream, and nothing orders the work of two streams.
#[derive(Clone, Debug)]
pub struct Cuda {
    opened: Arc<Opened>,
    /// None with canonical sums.
    blas: Option<Arc<Blas>>,
    sums: Sums,
    sweeps: Sweeps,
    /// The chains that this process moves.
    part: Part,
}

impl Cuda {
    /// GPU number `ordinal`, from 0 in the driver's order, with canonical sums.
    ///
    /// # Errors
    /// Returns [`Error::Cuda`](crate::Error::Cuda) if there is no driver or no such device, if either is too old, or if no
    /// kernels can be loaded.
    pub fn new(ordinal: usize) -> Result<Self> {
        Self::with_program(ordinal, Program::Own)
    }

    /// The GPU with other kernels, for tests that inject faults.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    #[doc(hidden)]
    pub fn with_program(ordinal: usize, program: Program<'_>) -> Result<Self> {
        Ok(Self {
            opened: Arc::new(Opened::open(ordinal, program)?),
            blas: None,
            sums: Sums::Canonical,
            sweeps: Sweeps::Auto,
            part: Part::WHOLE,
        })
    }

    /// The same handle with other sums. Opens cuBLAS for all except canonical ones.
    ///
    /// # Errors
    /// Returns [`Error::Cuda`](crate::Error::Cuda) if there is no cuBLAS, or no memory for its workspace.
    pub fn with_sums(self, sums: Sums) -> Result<Self> {
        let blas = match sums {
            Sums::Canonical => None,
            _ => Some(Arc::new(Blas::open(self.stream(), sums == Sums::GemmTf32)?)),
        };
        Ok(Self { blas, sums, ..self })
    }

    /// The same handle with other kernels for Gibbs steps, for tests and benches.
    #[doc(hidden)]
    pub fn with_sweeps(self, sweeps: Sweeps) -> Self {
        Self { sweeps, ..self }
    }

    /// Whether the device and its kernels have clusters of blocks.
    #[doc(hidden)]
    pub fn has_clusters(&self) -> bool {
        self.run().have_clusters()
    }

    /// Whether the device and its kernels draw on a grid.
    #[doc(hidden)]
    pub fn has_grid(&self) -> bool {
        self.run().have_grid()
    }

    /// The kernels' source, and the PTX that comes with the crate.
    #[doc(hidden)]
    pub fn kernels() -> (&'static str, &'static str) {
        (SOURCE, PTX)
    }

    /// The driver's name of the GPU.
    pub fn name(&self) -> &str {
        &self.opened.name
    }

    /// The order of its sums.
    pub fn sums(&self) -> Sums {
        self.sums
    }

    /// The time that the device takes for the work that `work` puts into this handle's stream, in seconds by the device's
    /// clock. Waits for its end.
    ///
    /// # Errors
    /// Returns the errors of `work`, and [`Error::Cuda`](crate::Error::Cuda) if the work failed on the device.
    #[doc(hidden)]
    pub fn seconds_of(&self, work: impl FnOnce() -> Result<()>) -> Result<f64> {
        launch::seconds_of(self.stream(), work)
    }

    /// The same handle that moves a share of all chains.
    #[cfg(feature = "mpi")]
    pub(super) fn with_part(self, part: Part) -> Self {
        Self { part, ..self }
    }

    pub(super) fn part(&self) -> Part {
        self.part
    }

    /// Whether other processes move chains of the same run.
    pub(super) fn is_shared(&self) -> bool {
        self.part != Part::WHOLE
    }

    pub(super) fn opened(&self) -> &Opened {
        &self.opened
    }

    pub(super) fn stream(&self) -> &Arc<CudaStream> {
        &self.opened.stream
    }

    pub(super) fn run(&self) -> &Kernels {
        &self.opened.kernels
    }

    /// The kernels that make Gibbs steps with canonical sums.
    pub(super) fn sweeps(&self) -> Sweeps {
        self.sweeps
    }

    /// cuBLAS, if it computes the steps of chains: with [`Sums::Auto`] never, since active units are faster to add up.
    pub(super) fn blas_for_chains(&self) -> Option<&Blas> {
        self.blas_from(0, usize::MAX)
    }

    /// cuBLAS, if it anneals this number of runs.
    pub(super) fn blas_for_runs(&self, runs: usize) -> Option<&Blas> {
        self.blas_from(runs, LEAST_RUNS)
    }

    /// cuBLAS, if it computes the sums of this number of rows.
    pub(super) fn blas_for_rows(&self, rows: usize) -> Option<&Blas> {
        self.blas_from(rows, LEAST_ROWS)
    }

    fn blas_from(&self, n: usize, least: usize) -> Option<&Blas> {
        self.blas.as_deref().filter(|_| self.sums != Sums::Auto || n >= least)
    }
}

impl PartialEq for Cuda {
    /// The same handle and the same sums.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.opened, &other.opened) && self.sums == other.sums
    }
}

impl Display for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Opened { handle, context, name, .. } = self.opened();
        write!(f, "GPU {} ({name}, {} sums, handle {handle})", context.ordinal(), self.sums)
    }
}
