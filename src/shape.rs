//! The sizes of an RBM's two layers.

use crate::error::{Error, Result};
use std::fmt::{self, Display};

/// The sizes of the two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    n_visible: usize,
    n_hidden: usize,
}

impl Shape {
    /// A shape of `n_visible` × `n_hidden` units.
    ///
    /// # Errors
    /// [`Error::Argument`] where a layer has no unit, or where the weights would be more than 2^31 - 1: what a BLAS and the
    /// CUDA kernels can index.
    pub fn new(n_visible: usize, n_hidden: usize) -> Result<Self> {
        let fits = n_visible.checked_mul(n_hidden).is_some_and(|n| n <= i32::MAX as usize);
        if n_visible == 0 || n_hidden == 0 || !fits {
            return Err(Error::Argument {
                what: "shape",
                expected: "at least one visible and one hidden unit, and at most 2147483647 weights".into(),
                found: format!("{n_visible} × {n_hidden}"),
            });
        }
        Ok(Self { n_visible, n_hidden })
    }

    /// The number of visible units.
    pub fn n_visible(self) -> usize {
        self.n_visible
    }

    /// The number of hidden units.
    pub fn n_hidden(self) -> usize {
        self.n_hidden
    }

    /// The number of units of one layer.
    pub fn units(self, layer: Layer) -> usize {
        match layer {
            Layer::Visible => self.n_visible,
            Layer::Hidden => self.n_hidden,
        }
    }
}

impl Display for Shape {
    /// `784 × 500`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} × {}", self.n_visible, self.n_hidden))
    }
}

/// One of the two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The layer that data is put into.
    Visible,
    /// The layer that explains it.
    Hidden,
}

impl Layer {
    /// The layer on the other side of the weights.
    pub fn other(self) -> Self {
        match self {
            Layer::Visible => Layer::Hidden,
            Layer::Hidden => Layer::Visible,
        }
    }
}
