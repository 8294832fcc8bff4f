//! The CPU as a device: an instruction set, and how sums are made.

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
/// With [`Sums::Canonical`], which it begins with, results are the same bits for any instruction set and any number of
/// threads; they are several times as fast as a matrix library's while few units are on. [`Sums::Gemm`] leaves every sum to
/// `sgemm`: matrixmultiply's, or with feature `blas` that of the BLAS that the final binary links. It is the yardstick, the
/// choice where a processor lacks fused multiply-add, and the way to use a BLAS that one trusts. A BLAS with threads of its
/// own should be told to use one (`OPENBLAS_NUM_THREADS=1`): the work is shared among threads already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cpu {
    pub(super) isa: Isa,
    /// Whether a matrix library makes the sums.
    pub(super) gemm: bool,
    pub(super) drawing: Drawing,
    pub(super) part: Part,
}

/// Which part of the work is this process's, where several share it ([`Ranks`](crate::Ranks) in builds with MPI).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Part {
    /// The number of this process, counted from 0, and of all.
    pub rank: usize,
    pub of: usize,
}

impl Part {
    /// All of it.
    const WHOLE: Self = Self { rank: 0, of: 1 };

    /// This part of so many pieces: contiguous, in the order of the ranks, no two of which differ by more than one.
    pub fn range(self, pieces: usize) -> Range<usize> {
        // In 128 bits, as pieces times ranks may be more than 64 hold.
        let end = |rank: usize| (pieces as u128 * rank as u128 / self.of as u128) as usize;
        end(self.rank)..end(self.rank + 1)
    }
}

/// How samples are drawn whose means are not wanted ([`grid`](super::grid)): all ways give the same bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Drawing {
    /// As is the fastest.
    #[default]
    Fastest,
    /// By sums, whatever it costs.
    #[cfg(test)]
    Sums,
    /// On a grid, whatever it costs, that is no finer than 2^-`finest`, with so much of its bound.
    #[cfg(test)]
    Grid { finest: i32, percent: u32 },
}

impl Cpu {
    /// The CPU with its widest instruction set, or the one that the environment variable `HARMONIUM_ISA` names.
    ///
    /// # Errors
    /// [`Error::Isa`] where `HARMONIUM_ISA` names one that this machine lacks.
    pub fn detect() -> Result<Self> {
        Ok(Self::with_isa(Isa::detect()?))
    }

    /// The CPU with a given instruction set.
    pub fn with_isa(isa: Isa) -> Self {
        Self { isa, gemm: false, drawing: Drawing::default(), part: Part::WHOLE }
    }

    /// The CPU with other sums. [`Sums::Auto`] is canonical here.
    ///
    /// # Errors
    /// [`Error::Argument`] for [`Sums::GemmTf32`], which only a GPU has.
    pub fn with_sums(self, sums: Sums) -> Result<Self> {
        match sums {
            Sums::Canonical | Sums::Auto => Ok(Self { gemm: false, ..self }),
            Sums::Gemm => Ok(Self { gemm: true, ..self }),
            Sums::GemmTf32 => Err(Error::Argument {
                what: "sums",
                expected: "gemm-tf32 only on a GPU".into(),
                found: "it on the CPU".into(),
            }),
        }
    }

    /// Fills `out` with the next numbers of the sequence, in order, and moves it on.
    pub fn uniforms(self, draws: &mut Uniforms, out: &mut [f32]) {
        uniforms(self.isa, draws.state(), out);
        draws.skip(out.len() as u64);
    }

    /// What of `work` is this process's.
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

    /// How it adds up: [`Sums::Canonical`] or [`Sums::Gemm`].
    pub fn sums(self) -> Sums {
        if self.gemm { Sums::Gemm } else { Sums::Canonical }
    }
}

impl Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the CPU ({}, {} sums)", self.isa, self.sums())
    }
}
