//! The sizes of an RBM's two layers, and the laws of its visible units.

use crate::{
    error::{Error, Result, shown},
    units::Segments,
};
use std::{
    fmt::{self, Display},
    str::FromStr,
};

/// The sizes of the two layers, visible × hidden, and the laws of the visible units. `Display` prints `784 × 500`; `FromStr` reads
/// `784 × 500` or `784x500`, with binary units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    visible: Segments,
    n_visible: usize,
    n_hidden: usize,
}

impl Shape {
    /// A shape of `n_visible` × `n_hidden` binary units.
    ///
    /// # Errors
    /// [`Error::Argument`] if a layer has no units, or if there would be more than 2^31 - 1 weights, the most that a BLAS and the
    /// CUDA kernels can index.
    pub fn new(n_visible: usize, n_hidden: usize) -> Result<Self> {
        Self::of(Segments::binary(n_visible), n_visible, n_hidden)
    }

    /// A shape whose visible units have these laws.
    ///
    /// ```
    /// use harmonium::Shape;
    ///
    /// let shape = Shape::with_visible("binary:784,potts:1x10".parse()?, 500)?;
    /// assert_eq!(shape.n_visible(), 794);
    /// # Ok::<(), harmonium::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_visible(visible: Segments, n_hidden: usize) -> Result<Self> {
        Self::of(visible, visible.units(), n_hidden)
    }

    fn of(visible: Segments, n_visible: usize, n_hidden: usize) -> Result<Self> {
        let shape = Self { visible, n_visible, n_hidden };
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

    /// The laws of the visible units.
    pub fn visible(self) -> Segments {
        self.visible
    }

    /// The laws of the units of one layer; hidden units are binary.
    pub fn segments(self, layer: Layer) -> Segments {
        match layer {
            Layer::Visible => self.visible,
            Layer::Hidden => Segments::binary(self.n_hidden),
        }
    }

    /// This shape and another one as text for an error message, with the laws if the sizes are equal.
    pub(crate) fn mismatch(self, found: Shape) -> (String, String) {
        if self.to_string() != found.to_string() {
            return (format!("shape {self}"), found.to_string());
        }
        let with_laws = |shape: Shape| format!("{shape} with visible units {}", shape.visible);
        (format!("shape {}", with_laws(self)), with_laws(found))
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
    /// The layer of the data, v.
    Visible,
    /// The layer of the features, h.
    Hidden,
}

impl Layer {
    /// The other layer.
    pub fn other(self) -> Self {
        match self {
            Layer::Visible => Layer::Hidden,
            Layer::Hidden => Layer::Visible,
        }
    }
}
