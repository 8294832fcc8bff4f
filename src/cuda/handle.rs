//! A GPU as a device: what was opened, and how sums are made.

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

/// From so many runs on, [`Sums::Auto`] anneals by products.
const LEAST_RUNS: usize = 1024;
/// From so many rows on, it does everything but sweeps by products.
const LEAST_ROWS: usize = 256;
/// How kernels with canonical sums move chains. The results are the same bits.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweeps {
    /// As is the fastest for so many chains.
    Auto,
    /// A chain a block.
    Blocks,
    /// A chain a cluster of blocks, where the device has them.
    Clusters,
    /// All chains a layer at a time, by blocks that keep strips of the weights.
    Strips,
    /// The same, but all steps except the last on a grid of 16 bits, where the device has matrix units for it.
    Grid,
}

/// An NVIDIA GPU.
///
/// With [`Sums::Canonical`], which it begins with, results are the bits of [`Cpu`](crate::Cpu).
/// [`Sums::Gemm`] and [`Sums::GemmTf32`] leave every sum over a layer or over rows to cuBLAS: results agree with the canonical
/// ones up to rounding and samples in distribution, drawn from the numbers at the same positions. On one GPU with one version
/// of cuBLAS the same seed gives the same bits. [`Sums::Auto`] takes cuBLAS for calls that anneal in at least 1024 runs or read
/// at least 256 rows (rows and chains together in a gradient), and canonical sums for all others.
///
/// A process keeps up to a gibibyte of the device's memory that it has released, for its next calls.
///
/// Clones share the handle. Objects of two handles cannot be used together, though both be of one GPU: each handle has a
/// stream of its own, and nothing orders the work of two streams.
#[derive(Clone, Debug)]
pub struct Cuda {
    opened: Arc<Opened>,
    /// With canonical sums none.
    blas: Option<Arc<Blas>>,
    sums: Sums,
    sweeps: Sweeps,
    /// The chains that this process moves.
    part: Part,
}

impl Cuda {
    /// GPU number `ordinal`, from 0, as the driver counts them, with canonical sums.
    ///
    /// # Errors
    /// [`Error::Cuda`](crate::Error::Cuda): no driver, no such device, either too old, or no kernels for it.
    pub fn new(ordinal: usize) -> Result<Self> {
        Self::with_program(ordinal, Program::Own)
    }

    /// The GPU with kernels from elsewhere: how the tests plant faults.
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

    /// The same handle with other sums; opens cuBLAS for all but the canonical ones.
    ///
    /// # Errors
    /// [`Error::Cuda`](crate::Error::Cuda): no cuBLAS, or no memory for its workspace.
    pub fn with_sums(self, sums: Sums) -> Result<Self> {
        let blas = match sums {
            Sums::Canonical => None,
            _ => Some(Arc::new(Blas::open(self.stream(), sums == Sums::GemmTf32)?)),
        };
        Ok(Self { blas, sums, ..self })
    }

    /// The same handle with chains moved in that way, for tests and benches.
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

    /// What the driver calls the GPU.
    pub fn name(&self) -> &str {
        &self.opened.name
    }

    /// How it adds up.
    pub fn sums(&self) -> Sums {
        self.sums
    }

    /// How long the device takes for what `work` asks of this handle, in seconds, by the device's own clock; waits for its end.
    ///
    /// # Errors
    /// Those of `work`, and [`Error::Cuda`](crate::Error::Cuda): the work failed on the device.
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

    /// How canonical sums are to move chains.
    pub(super) fn sweeps(&self) -> Sweeps {
        self.sweeps
    }

    /// cuBLAS, where it moves chains: with [`Sums::Auto`] never, since active units are faster to add up.
    pub(super) fn blas_for_chains(&self) -> Option<&Blas> {
        self.blas_from(0, usize::MAX)
    }

    /// cuBLAS, where it anneals in so many runs.
    pub(super) fn blas_for_runs(&self, runs: usize) -> Option<&Blas> {
        self.blas_from(runs, LEAST_RUNS)
    }

    /// cuBLAS, where it makes the sums of so many rows.
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
