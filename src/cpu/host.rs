//! The CPU as a device: an instruction set, and the order of sums.

use crate::{
    error::{Error, Result},
    lanes::{isa::Isa, threads::Split, uniforms},
    uniforms::Uniforms,
    verbs::Sums,
};
use std::{
    fmt::{self, Display},
    ops::Range,
};

/// The CPU with one of its instruction sets: the default device.
///
/// With [`Sums::Canonical`], the default, results have the same bits for any instruction set, any number of threads, and on CUDA.
/// If few units are on, canonical sums are several times as fast as a matrix library. Each lane and thread computes its own
/// results; nothing is summed across them.
///
/// | call | computation |
/// |---|---|
/// | chains, `sample_*`, `gibbs_*`, `propup`, `propdown` | a sum of the weights of active units, with a factor each if states are real; a dense product in the same order if more than seven tenths of the units are not 0 |
/// | samples of chains whose means are not needed | integer sums of weights rounded to 16 bits; the canonical sum of a unit whose bit these do not decide |
/// | free energies, the pseudo-likelihood of one bit, cross-entropies | the same sums, then softplus terms added in `f64` |
/// | the exact pseudo-likelihood | the same sums, then products of the factors by which a flip changes P |
/// | gradients and updates | the same sums over rows instead of units, then the step and the transposition of each block of weights |
///
/// [`Sums::Gemm`] computes these sums by `sgemm`: that of matrixmultiply or, with feature `blas`, of the BLAS that the final binary
/// links; nothing else changes. Use it as a reference, on a processor without fused multiply-add, or to use a BLAS that you trust.
/// Limit a BLAS with threads of its own to one thread (`OPENBLAS_NUM_THREADS=1`), because harmonium already splits the work among
/// threads.
///
/// Threads are those of the caller's rayon pool (feature `rayon`). To use a given number, run inside `ThreadPool::install`.
///
/// ```
/// use harmonium::{Chains, Cpu, Isa, Purpose, Rbm, Shape, Uniforms};
///
/// # fn main() -> harmonium::Result<()> {
/// // The same chains on every instruction set that this machine has.
/// let rbm = Rbm::new(Shape::new(20, 10)?, 1);
/// let state = |isa| {
///     let cpu = Cpu::with_isa(isa);
///     let mut chains = Chains::new(cpu, rbm.shape(), 5, Uniforms::new(2, Purpose::Sampling))?;
///     chains.sweep(&rbm.on(cpu)?, 10)?;
///     chains.state()
/// };
/// let expected = state(Isa::detect()?)?;
/// for isa in Isa::available() {
///     assert_eq!(state(isa)?, expected);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cpu {
    pub(super) isa: Isa,
    /// Whether a matrix library computes the sums.
    pub(super) gemm: bool,
    pub(super) method: SampleMethod,
    pub(super) part: Part,
}

/// The part of the work that belongs to this process, if several share it ([`Ranks`](crate::Ranks) in builds with MPI).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Part {
    /// The number of this process, counted from 0, and the number of processes.
    pub rank: usize,
    pub of: usize,
}

impl Part {
    /// All of the work.
    pub const WHOLE: Self = Self { rank: 0, of: 1 };

    /// This part of a number of pieces: a contiguous range, in the order of the ranks. The sizes of any two parts differ by at most
    /// one.
    pub fn range(self, pieces: usize) -> Range<usize> {
        // In 128 bits, because pieces times ranks may exceed 64 bits.
        let end = |rank: usize| (pieces as u128 * rank as u128 / self.of as u128) as usize;
        end(self.rank)..end(self.rank + 1)
    }
}

/// The method for samples whose means are not needed ([`grid`](super::grid)). All methods give the same bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum SampleMethod {
    /// The fastest method.
    #[default]
    Fastest,
    /// By sums, in all cases.
    #[cfg(test)]
    Sums,
    /// On a grid, in all cases. The grid is no finer than 2^-`finest`, and `percent` of its error bound is applied.
    #[cfg(test)]
    Grid { finest: i32, percent: u32 },
}

impl Cpu {
    /// The CPU with its widest instruction set, or the one that the environment variable `HARMONIUM_ISA` names.
    ///
    /// # Errors
    /// [`Error::Isa`] if this machine lacks the instruction set that `HARMONIUM_ISA` names.
    pub fn detect() -> Result<Self> {
        Ok(Self::with_isa(Isa::detect()?))
    }

    /// The CPU with a given instruction set.
    pub fn with_isa(isa: Isa) -> Self {
        Self { isa, gemm: false, method: SampleMethod::default(), part: Part::WHOLE }
    }

    /// Sets the order of sums. [`Sums::Auto`] is canonical on the CPU.
    ///
    /// # Errors
    /// [`Error::Argument`] for [`Sums::GemmTf32`], which only a GPU has.
    pub fn with_sums(self, sums: Sums) -> Result<Self> {
        match sums {
            Sums::Canonical | Sums::Auto => Ok(Self { gemm: false, ..self }),
            Sums::Gemm => Ok(Self { gemm: true, ..self }),
            Sums::GemmTf32 => Err(Error::Argument {
                what: "sums",
                expected: "canonical, gemm or auto on the CPU".into(),
                found: "gemm-tf32".into(),
            }),
        }
    }

    /// Fills `out` with the next numbers of the sequence, in order, and advances the sequence.
    pub fn uniforms(self, draws: &mut Uniforms, out: &mut [f32]) {
        uniforms(self.isa, draws.state(), out);
        draws.skip(out.len() as u64);
    }

    /// The part of `work` that belongs to this process.
    pub(super) fn own<W: Split>(self, work: W) -> W {
        if self.part == Part::WHOLE {
            return work;
        }
        let range = self.part.range(work.pieces());
        work.split(range.end).0.split(range.start).1
    }

    /// The instruction set.
    pub fn isa(self) -> Isa {
        self.isa
    }

    /// The order of sums: [`Sums::Canonical`] or [`Sums::Gemm`].
    pub fn sums(self) -> Sums {
        if self.gemm { Sums::Gemm } else { Sums::Canonical }
    }
}

impl Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the CPU ({}, {} sums)", self.isa, self.sums())
    }
}
