//! The parameters of an RBM: owned, borrowed, or lent to a device.
//!
//! Three flat row-major `f32` buffers: `weights` (n_visible × n_hidden, W[i][j] between visible unit i and hidden unit j),
//! `visible_bias` b and `hidden_bias` c. [`Rbm`] owns them. [`RbmRef`] and [`RbmMut`] borrow them from whoever does: a layer
//! of a deep belief net keeps its own W and b and lends them with [`RbmMut::from_parts`], without copy or transpose on its
//! side. To compute, parameters go to a [`Backend`]: [`RbmRef::on`] gives a [`Resident`] to read with, [`RbmMut::lend`] a
//! [`Lent`] that can also be trained.
//!
//! The design once had the methods on the views. They moved to [`Resident`] because every road needs the weights in a form
//! of its own (the CPU in tiles, in both directions; CUDA in device memory) and because they can so be written once for
//! all backends. While parameters are lent, the borrow checker keeps everybody else away from them, so that there are
//! never two sources of truth.

use crate::{
    backend::{Backend, Gradient, Shape},
    error::{Error, Result},
    uniforms::{Purpose, Uniforms},
};
use rand_core::Rng;

/// An RBM that owns its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Rbm {
    shape: Shape,
    weights: Vec<f32>,
    visible_bias: Vec<f32>,
    hidden_bias: Vec<f32>,
}

/// Borrowed parameters.
#[derive(Clone, Copy, Debug)]
pub struct RbmRef<'a> {
    shape: Shape,
    weights: &'a [f32],
    visible_bias: &'a [f32],
    hidden_bias: &'a [f32],
}

/// Mutably borrowed parameters.
#[derive(Debug)]
pub struct RbmMut<'a> {
    shape: Shape,
    weights: &'a mut [f32],
    visible_bias: &'a mut [f32],
    hidden_bias: &'a mut [f32],
}

impl Rbm {
    /// The tutorial's initialisation: W_ij uniform on [-r, r), r = 4·sqrt(6/(n_visible + n_hidden)); both biases 0.
    ///
    /// Weight (i, j) is number i·n_hidden + j of the seed's [`Purpose::Initialisation`] sequence, scaled in `f64` and then
    /// rounded to `f32`. Source: X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    /// networks", 2010, whose range is multiplied by 4 for logistic units.
    pub fn new(shape: Shape, seed: u64) -> Self {
        let range = 4.0 * (6.0 / (shape.n_visible() + shape.n_hidden()) as f64).sqrt();
        let mut generator = Uniforms::new(seed, Purpose::Initialisation).generator();
        let mut weight = || (range * (f64::from(generator.next_u32()) / 2f64.powi(31) - 1.0)) as f32;
        Self {
            shape,
            weights: (0..shape.n_visible() * shape.n_hidden()).map(|_| weight()).collect(),
            visible_bias: vec![0.0; shape.n_visible()],
            hidden_bias: vec![0.0; shape.n_hidden()],
        }
    }

    /// An RBM of given parameters.
    ///
    /// # Errors
    /// [`Error::Length`] where a buffer does not fit the shape, [`Error::Value`] where a number is not finite.
    pub fn from_parts(shape: Shape, weights: Vec<f32>, visible_bias: Vec<f32>, hidden_bias: Vec<f32>) -> Result<Self> {
        RbmRef::from_parts(shape, &weights, &visible_bias, &hidden_bias)?;
        Ok(Self { shape, weights, visible_bias, hidden_bias })
    }

    /// The weights, the visible and the hidden bias.
    pub fn into_parts(self) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        (self.weights, self.visible_bias, self.hidden_bias)
    }

    /// The sizes of the layers.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The parameters, to read.
    pub fn view(&self) -> RbmRef<'_> {
        RbmRef {
            shape: self.shape,
            weights: &self.weights,
            visible_bias: &self.visible_bias,
            hidden_bias: &self.hidden_bias,
        }
    }

    /// The parameters, to change.
    pub fn view_mut(&mut self) -> RbmMut<'_> {
        RbmMut {
            shape: self.shape,
            weights: &mut self.weights,
            visible_bias: &mut self.visible_bias,
            hidden_bias: &mut self.hidden_bias,
        }
    }

    /// Short for `self.view().on(backend)`.
    ///
    /// # Errors
    /// See [`RbmRef::on`].
    pub fn on<B: Backend>(&self, backend: &B) -> Result<Resident<B>> {
        self.view().on(backend)
    }

    /// Short for `self.view_mut().lend(backend)`.
    ///
    /// # Errors
    /// See [`RbmMut::lend`].
    pub fn lend<B: Backend>(&mut self, backend: &B) -> Result<Lent<'_, B>> {
        self.view_mut().lend(backend)
    }
}

impl<'a> RbmRef<'a> {
    /// Parameters that stand in somebody else's buffers.
    ///
    /// # Errors
    /// [`Error::Length`] where a buffer does not fit the shape, [`Error::Value`] where a number is not finite.
    pub fn from_parts(
        shape: Shape, weights: &'a [f32], visible_bias: &'a [f32], hidden_bias: &'a [f32],
    ) -> Result<Self> {
        check("weights", weights, shape.n_visible() * shape.n_hidden())?;
        check("visible_bias", visible_bias, shape.n_visible())?;
        check("hidden_bias", hidden_bias, shape.n_hidden())?;
        Ok(Self { shape, weights, visible_bias, hidden_bias })
    }

    /// The sizes of the layers.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// W, n_visible × n_hidden, row-major.
    pub fn weights(&self) -> &'a [f32] {
        self.weights
    }

    /// b, n_visible.
    pub fn visible_bias(&self) -> &'a [f32] {
        self.visible_bias
    }

    /// c, n_hidden.
    pub fn hidden_bias(&self) -> &'a [f32] {
        self.hidden_bias
    }

    /// Fails where a parameter is not finite: training with too large a learning rate ends so.
    ///
    /// # Errors
    /// [`Error::Value`] with the first such parameter.
    pub fn check_finite(&self) -> Result<()> {
        Self::from_parts(self.shape, self.weights, self.visible_bias, self.hidden_bias).map(|_| ())
    }

    /// The parameters as `backend` computes with them; costs one pass over the weights.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn on<B: Backend>(&self, backend: &B) -> Result<Resident<B>> {
        let parameters = backend.upload(self.shape, self.weights, self.visible_bias, self.hidden_bias)?;
        Ok(Resident { backend: backend.clone(), shape: self.shape, parameters })
    }
}

impl<'a> RbmMut<'a> {
    /// Parameters that stand in somebody else's buffers, to be trained there.
    ///
    /// # Errors
    /// [`Error::Length`] where a buffer does not fit the shape, [`Error::Value`] where a number is not finite.
    pub fn from_parts(
        shape: Shape, weights: &'a mut [f32], visible_bias: &'a mut [f32], hidden_bias: &'a mut [f32],
    ) -> Result<Self> {
        RbmRef::from_parts(shape, weights, visible_bias, hidden_bias)?;
        Ok(Self { shape, weights, visible_bias, hidden_bias })
    }

    /// The parameters, to read.
    pub fn view(&self) -> RbmRef<'_> {
        RbmRef {
            shape: self.shape,
            weights: self.weights,
            visible_bias: self.visible_bias,
            hidden_bias: self.hidden_bias,
        }
    }

    /// Lends the parameters to `backend`. The owner's buffers hold what has become of them once the loan ends.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn lend<B: Backend>(self, backend: &B) -> Result<Lent<'a, B>> {
        let resident = self.view().on(backend)?;
        Ok(Lent { owner: self, resident, returned: false })
    }
}

/// As many finite numbers as expected.
pub(crate) fn check(what: &'static str, values: &[f32], expected: usize) -> Result<()> {
    if values.len() != expected {
        return Err(Error::Length { what, expected, found: values.len() });
    }
    match values.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(Error::Value { what, index, expected: "a finite number", found: values[index] }),
        None => Ok(()),
    }
}

/// An RBM as a backend computes with it. What it can answer stands in `crate::energy` and `crate::gibbs`.
#[derive(Clone, Debug)]
pub struct Resident<B: Backend> {
    pub(crate) backend: B,
    pub(crate) shape: Shape,
    pub(crate) parameters: B::Parameters,
}

impl<B: Backend> Resident<B> {
    /// The sizes of the layers.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Where it is.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// A copy of the parameters in an [`Rbm`] of its own.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn to_rbm(&self) -> Result<Rbm> {
        let Gradient { mut weights, mut visible_bias, mut hidden_bias } = Gradient::zero(self.shape);
        self.backend.download(&self.parameters, &mut weights, &mut visible_bias, &mut hidden_bias)?;
        Ok(Rbm { shape: self.shape, weights, visible_bias, hidden_bias })
    }

    /// The batch must have rows of this layer's units, and at least one.
    pub(crate) fn check_batch(&self, layer: crate::backend::Layer, batch: B::Batch<'_>) -> Result<usize> {
        let (rows, units) = B::batch_size(batch);
        let expected = self.shape.units(layer);
        if units != expected {
            return Err(Error::Argument {
                what: "batch",
                expected: format!("rows of {expected} values"),
                found: format!("rows of {units}"),
            });
        }
        if rows == 0 {
            return Err(Error::Argument { what: "batch", expected: "at least one row".into(), found: "none".into() });
        }
        Ok(rows)
    }
}

/// An RBM on loan to a backend, which may train it. Reads like the [`Resident`] that it holds.
///
/// The owner's buffers are written when the loan ends: by [`finish`](Self::finish), which reports failure, or by dropping
/// it, which cannot (and on the CPU need not).
#[derive(Debug)]
pub struct Lent<'a, B: Backend> {
    owner: RbmMut<'a>,
    resident: Resident<B>,
    returned: bool,
}

impl<B: Backend> Lent<'_, B> {
    /// Writes the parameters to their owner's buffers and ends the loan.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn finish(mut self) -> Result<()> {
        self.write_back()
    }

    fn write_back(&mut self) -> Result<()> {
        self.returned = true;
        let RbmMut { weights, visible_bias, hidden_bias, .. } = &mut self.owner;
        self.resident.backend.download(&self.resident.parameters, weights, visible_bias, hidden_bias)
    }

    pub(crate) fn resident_mut(&mut self) -> &mut Resident<B> {
        &mut self.resident
    }
}

impl<B: Backend> std::ops::Deref for Lent<'_, B> {
    type Target = Resident<B>;

    fn deref(&self) -> &Resident<B> {
        &self.resident
    }
}

impl<B: Backend> Drop for Lent<'_, B> {
    fn drop(&mut self) {
        if !self.returned {
            // Nobody is left to tell; `finish` is for those who want to know.
            let _ = self.write_back();
        }
    }
}
