//! The sizes of an RBM's two layers.

use crate::error::{Error, Result, shown};
use std::{
    fmt::{self, Display},
    str::FromStr,
};

/// The sizes of the two layers. Written and read as `784 × 500`, visible × hidden units; `784x500` is read too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
        let shape = Self { n_visible, n_hidden };
        let fits = n_visible.checked_mul(n_hidden).is_some_and(|n| n <= i32::MAX as usize);
        if n_visible == 0 || n_hidden == 0 || !fits {
            return Err(Error::Argument {
                what: "shape",
                expected: "at least one visible and one hidden unit, and at most 2147483647 weights".into(),
                found: shape.to_string(),
            });
        }
        Ok(shape)
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
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}", self.n_visible, self.n_hidden)
    }
}

impl FromStr for Shape {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let sizes = text.split_once(['×', 'x']).and_then(|(v, h)| v.trim().parse().ok().zip(h.trim().parse().ok()));
        let (n_visible, n_hidden) = sizes.ok_or_else(|| Error::Argument {
            what: "shape",
            expected: "visible × hidden units, such as 784 × 500".into(),
            found: shown(text),
        })?;
        Self::new(n_visible, n_hidden)
    }
}

/// One of the two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
