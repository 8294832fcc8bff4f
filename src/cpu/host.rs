//! The CPU as a device: an instruction set, and how sums are made.

use crate::{
    error::{Error, Result},
    lanes::{isa::Isa, uniforms},
    uniforms::Uniforms,
    verbs::Sums,
};
use std::fmt::{self, Display};

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
        Self { isa, gemm: false, drawing: Drawing::default() }
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
