//! The parameters of an RBM on the host, owned ([`Rbm`]) or borrowed ([`RbmRef`], [`RbmMut`]), and gradients.

use crate::{
    columns::Columns,
    elementary::exp,
    error::{Error, Result},
    rows::Rows,
    shape::Shape,
    uniforms::{Purpose, Uniforms},
    units::MAX_LOG_VARIANCE,
};
use rand_core::Rng;
use std::f64::consts::TAU;

/// An RBM that owns its parameters.
///
/// Three row-major `f32` buffers: `weights` W (n_visible × n_hidden, W_ij between visible unit i and hidden unit j), `visible_bias`
/// b (n_visible) and `hidden_bias` c (n_hidden). With Gaussian units also `visible_log_variance` ln σ² (n_visible). Weights and
/// biases are log-odds.
///
/// [`RbmRef`] and [`RbmMut`] borrow such buffers from another owner. For example, a layer of a deep belief net owns W and b, and
/// lends them with [`RbmMut::from_parts`] and [`lend`](RbmMut::lend), without copying or transposing them itself. [`on`](Self::on)
/// copies the parameters to a device, where a [`Resident`](crate::Resident) computes with them.
///
/// ```
/// use harmonium::{Cpu, Rbm, Shape};
///
/// # fn main() -> harmonium::Result<()> {
/// let rbm = Rbm::new(Shape::new(784, 500)?, 123);
/// assert_eq!((rbm.view().weights().len(), rbm.view().hidden_bias().len()), (784 * 500, 500));
/// let resident = rbm.on(Cpu::detect()?)?;         // ready for chains and training
/// assert_eq!(resident.to_rbm()?, rbm);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rbm {
    shape: Shape,
    weights: Vec<f32>,
    visible_bias: Vec<f32>,
    hidden_bias: Vec<f32>,
    /// Empty without Gaussian units.
    visible_log_variance: Vec<f32>,
}

/// Borrowed parameters of an RBM, in the layout of [`Rbm`].
///
/// ```
/// use harmonium::{RbmRef, Shape};
///
/// let (weights, b, c) = ([0.5, -0.5, 1.0, 0.0, 0.0, 2.0], [0.0; 3], [0.0; 2]);
/// let rbm = RbmRef::from_parts(Shape::new(3, 2)?, &weights, &b, &c)?;
/// assert_eq!(rbm.weights()[2], 1.0);              // W_10
/// # Ok::<(), harmonium::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RbmRef<'a> {
    shape: Shape,
    weights: &'a [f32],
    visible_bias: &'a [f32],
    hidden_bias: &'a [f32],
    /// Empty if every σ is 1.
    visible_log_variance: &'a [f32],
}

/// Mutably borrowed parameters of an RBM, in the layout of [`Rbm`]. See [`Lent`](crate::Lent) for training in place.
#[derive(Debug)]
pub struct RbmMut<'a> {
    shape: Shape,
    weights: &'a mut [f32],
    visible_bias: &'a mut [f32],
    hidden_bias: &'a mut [f32],
    visible_log_variance: &'a mut [f32],
}

/// The number of ln σ²: n_visible with Gaussian units, else 0.
pub(crate) fn log_variances(shape: Shape) -> usize {
    if shape.visible().is_discrete() { 0 } else { shape.n_visible() }
}

impl Rbm {
    /// Initialises as the tutorial does: W_ij uniform on [-r, r), r = 4·sqrt(6/(n_visible + n_hidden)); both biases 0.
    ///
    /// Weight (i, j) is number i·n_hidden + j of the seed's [`Purpose::Initialisation`] sequence, scaled in `f64` and then rounded
    /// to `f32`. Source: X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010;
    /// its range is multiplied by 4 for logistic units.
    pub fn new(shape: Shape, seed: u64) -> Self {
        let range = 4.0 * (6.0 / (shape.n_visible() + shape.n_hidden()) as f64).sqrt();
        let mut generator = Uniforms::new(seed, Purpose::Initialisation).generator();
        let mut weight = || (range * (f64::from(generator.next_u32()) / 2f64.powi(31) - 1.0)) as f32;
        Self {
            shape,
            weights: (0..shape.n_visible() * shape.n_hidden()).map(|_| weight()).collect(),
            visible_bias: vec![0.0; shape.n_visible()],
            hidden_bias: vec![0.0; shape.n_hidden()],
            visible_log_variance: vec![0.0; log_variances(shape)],
        }
    }

    /// Initialises with small weights, and with visible biases that give each unit its mean over the data:
    ///
    /// > b_i = ln(p_i/(1 - p_i)),  c_j = 0,  W_ij ~ N(0, 0.01²),
    ///
    /// where p_i are the data's means, clipped to [1/N, 1 - 1/N] ([`Rows::clipped_means`]). For the states of Potts sites b_i = ln
    /// p_i. Gaussian units have b_i = p_i and ln σ_i² = 0: scale the data to variances near 1 first.
    ///
    /// `data`: N ≥ 1 rows of n_visible values, whose [`segments`](Rows::segments) become those of the model. If most units are off,
    /// this is a far better start than [`new`](Self::new). With `new` half of the visible units are on at first, so the model must
    /// learn the base rates, and in a wide layer every hidden unit can become constant. Use it with
    /// [`Chains::from_hidden_bias`](crate::Chains::from_hidden_bias) for the chains.
    ///
    /// Canonical: with n = i·n_hidden + j, W_ij = 0.01·√(-2·ln u)·cos(2π·u'), where u and u' are (x + ½)·2^-32 for the numbers x at
    /// 2n and 2n + 1 of the seed's [`Purpose::Initialisation`] sequence. The computation is in `f64`, with the elementary functions
    /// of the crate `libm`, and is rounded once. Source: G. E. Hinton, "A practical guide to training restricted Boltzmann
    /// machines", 2010, section 8.
    ///
    /// ```
    /// use harmonium::{Dataset, Rbm};
    ///
    /// let data = Dataset::from_u8(vec![255, 0, 255, 0, 0, 0, 255, 255], 2)?;
    /// let rbm = Rbm::from_data(data.rows(), 3, 123)?;
    /// let b = rbm.view().visible_bias();              // the means are 3/4 and 1/4
    /// assert!((b[0] - 3f32.ln()).abs() < 1e-6 && (b[1] + 3f32.ln()).abs() < 1e-6);
    /// # Ok::<(), harmonium::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no row, no hidden unit, or too many units for a [`Shape`].
    pub fn from_data(data: Rows<'_>, n_hidden: usize, seed: u64) -> Result<Self> {
        Self::from_columns(&Columns::of(data), n_hidden, seed)
    }

    /// [`from_data`](Self::from_data) for rows that arrive in parts.
    ///
    /// # Errors
    /// Those of [`from_data`](Self::from_data).
    pub fn from_columns(data: &Columns, n_hidden: usize, seed: u64) -> Result<Self> {
        let shape = Shape::with_visible(data.segments(), n_hidden)?;
        if data.rows() == 0 {
            return Err(Error::Argument { what: "data", expected: "at least one row".into(), found: "none".into() });
        }
        let mut generator = Uniforms::new(seed, Purpose::Initialisation).generator();
        let mut uniform = || (f64::from(generator.next_u32()) + 0.5) / 2f64.powi(32);
        let mut weight = || {
            let radius = libm::sqrt(-2.0 * libm::log(uniform()));
            (0.01 * radius * libm::cos(TAU * uniform())) as f32
        };
        Ok(Self {
            shape,
            weights: (0..shape.n_visible() * shape.n_hidden()).map(|_| weight()).collect(),
            visible_bias: data.segments().biases_of(&data.clipped_means_f64()),
            hidden_bias: vec![0.0; shape.n_hidden()],
            visible_log_variance: vec![0.0; log_variances(shape)],
        })
    }

    /// Creates an RBM from its parameters.
    ///
    /// `weights`: n_visible × n_hidden, row-major; `visible_bias`: n_visible; `hidden_bias`: n_hidden. All are finite. ln σ² of
    /// Gaussian units is 0.
    ///
    /// # Errors
    /// [`Error::Length`] if a buffer does not fit the shape, [`Error::Value`] if a number is not finite.
    pub fn from_parts(shape: Shape, weights: Vec<f32>, visible_bias: Vec<f32>, hidden_bias: Vec<f32>) -> Result<Self> {
        RbmRef::from_parts(shape, &weights, &visible_bias, &hidden_bias)?;
        let visible_log_variance = vec![0.0; log_variances(shape)];
        Ok(Self { shape, weights, visible_bias, hidden_bias, visible_log_variance })
    }

    /// Sets ln σ_i² of Gaussian units, which is 0 by default.
    ///
    /// `values`: n_visible numbers within ±[`MAX_LOG_VARIANCE`](crate::MAX_LOG_VARIANCE), 0 for units of other laws.
    ///
    /// # Errors
    /// [`Error::Length`] if there is no Gaussian unit or the number of values differs, [`Error::Value`] if a value is invalid.
    pub fn with_visible_log_variance(self, values: Vec<f32>) -> Result<Self> {
        self.view().with_visible_log_variance(&values)?;
        Ok(Self { visible_log_variance: values, ..self })
    }

    /// An RBM with all parameters 0.
    pub(crate) fn zero(shape: Shape) -> Self {
        let Gradient { weights, visible_bias, hidden_bias, visible_log_variance } = Gradient::zero(shape);
        Self { shape, weights, visible_bias, hidden_bias, visible_log_variance }
    }

    /// Returns the weights, the visible and the hidden bias. For the variances of Gaussian units use [`view`](Self::view).
    pub fn into_parts(self) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        (self.weights, self.visible_bias, self.hidden_bias)
    }

    /// The sizes of the layers.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Borrows the parameters.
    pub fn view(&self) -> RbmRef<'_> {
        RbmRef {
            shape: self.shape,
            weights: &self.weights,
            visible_bias: &self.visible_bias,
            hidden_bias: &self.hidden_bias,
            visible_log_variance: &self.visible_log_variance,
        }
    }

    /// Borrows the parameters mutably.
    pub fn view_mut(&mut self) -> RbmMut<'_> {
        RbmMut {
            shape: self.shape,
            weights: &mut self.weights,
            visible_bias: &mut self.visible_bias,
            hidden_bias: &mut self.hidden_bias,
            visible_log_variance: &mut self.visible_log_variance,
        }
    }
}

impl<'a> RbmRef<'a> {
    /// Borrows parameters from another owner's buffers, in the layout of [`Rbm::from_parts`].
    ///
    /// # Errors
    /// [`Error::Length`] if a buffer does not fit the shape, [`Error::Value`] if a number is not finite.
    pub fn from_parts(
        shape: Shape, weights: &'a [f32], visible_bias: &'a [f32], hidden_bias: &'a [f32],
    ) -> Result<Self> {
        check("weights", weights, shape.n_visible() * shape.n_hidden())?;
        check("visible_bias", visible_bias, shape.n_visible())?;
        check("hidden_bias", hidden_bias, shape.n_hidden())?;
        Ok(Self { shape, weights, visible_bias, hidden_bias, visible_log_variance: &[] })
    }

    /// Sets ln σ_i² of Gaussian units, which is 0 by default.
    ///
    /// `values`: n_visible numbers within ±[`MAX_LOG_VARIANCE`](crate::MAX_LOG_VARIANCE), 0 for units of other laws.
    ///
    /// # Errors
    /// [`Error::Length`] if there is no Gaussian unit or the number of values differs, [`Error::Value`] if a value is invalid.
    pub fn with_visible_log_variance(self, values: &'a [f32]) -> Result<Self> {
        check_log_variance(self.shape, values)?;
        Ok(Self { visible_log_variance: values, ..self })
    }

    /// Borrows parameters without a check.
    pub(crate) fn of(shape: Shape, gradient: &'a Gradient) -> Self {
        let Gradient { weights, visible_bias, hidden_bias, visible_log_variance } = gradient;
        Self { shape, weights, visible_bias, hidden_bias, visible_log_variance }
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

    /// ln σ², n_visible: 0 for units that are not Gaussian. Empty without Gaussian units, or if every σ is 1.
    pub fn visible_log_variance(&self) -> &'a [f32] {
        self.visible_log_variance
    }

    /// s = 1/σ² of each visible unit; 1 for units that are not Gaussian.
    pub(crate) fn precision(&self) -> Vec<f32> {
        match self.visible_log_variance {
            [] => vec![1.0; self.shape.n_visible()],
            all => all.iter().map(|&log| exp(-log)).collect(),
        }
    }

    /// Returns an error if a parameter is not finite, which is how training with too large a learning rate ends.
    ///
    /// # Errors
    /// [`Error::Value`] with the first such parameter.
    pub fn check_finite(&self) -> Result<()> {
        Self::from_parts(self.shape, self.weights, self.visible_bias, self.hidden_bias)?;
        check("visible_log_variance", self.visible_log_variance, self.visible_log_variance.len())
    }
}

impl<'a> RbmMut<'a> {
    /// Borrows parameters mutably from another owner's buffers, in the layout of [`Rbm::from_parts`].
    ///
    /// # Errors
    /// [`Error::Length`] if a buffer does not fit the shape, [`Error::Value`] if a number is not finite.
    pub fn from_parts(
        shape: Shape, weights: &'a mut [f32], visible_bias: &'a mut [f32], hidden_bias: &'a mut [f32],
    ) -> Result<Self> {
        RbmRef::from_parts(shape, weights, visible_bias, hidden_bias)?;
        Ok(Self { shape, weights, visible_bias, hidden_bias, visible_log_variance: &mut [] })
    }

    /// Sets ln σ_i² of Gaussian units, which is 0 by default.
    ///
    /// `values`: n_visible numbers within ±[`MAX_LOG_VARIANCE`](crate::MAX_LOG_VARIANCE), 0 for units of other laws.
    ///
    /// # Errors
    /// [`Error::Length`] if there is no Gaussian unit or the number of values differs, [`Error::Value`] if a value is invalid.
    pub fn with_visible_log_variance(self, values: &'a mut [f32]) -> Result<Self> {
        check_log_variance(self.shape, values)?;
        Ok(Self { visible_log_variance: values, ..self })
    }

    /// Borrows the parameters.
    pub fn view(&self) -> RbmRef<'_> {
        RbmRef {
            shape: self.shape,
            weights: self.weights,
            visible_bias: self.visible_bias,
            hidden_bias: self.hidden_bias,
            visible_log_variance: self.visible_log_variance,
        }
    }

    /// W, b, c and ln σ² for writing; ln σ² is empty if it is constant.
    pub(crate) fn parts(self) -> (&'a mut [f32], &'a mut [f32], &'a mut [f32], &'a mut [f32]) {
        (self.weights, self.visible_bias, self.hidden_bias, self.visible_log_variance)
    }

    /// Reborrows the parameters.
    pub(crate) fn reborrow(&mut self) -> RbmMut<'_> {
        let Self { shape, weights, visible_bias, hidden_bias, visible_log_variance } = self;
        RbmMut { shape: *shape, weights, visible_bias, hidden_bias, visible_log_variance }
    }
}

/// The derivative of a function of the parameters, such as the mean of F over the data minus that over chains, in the layout of the
/// parameters.
///
/// ```
/// use harmonium::{Cpu, Gradient, Rbm, Shape};
///
/// # fn main() -> harmonium::Result<()> {
/// let shape = Shape::new(2, 1)?;
/// let gradient = Gradient { hidden_bias: vec![1.0], ..Gradient::zero(shape) };
/// let mut rbm = Rbm::new(shape, 1).on(Cpu::detect()?)?;
/// rbm.apply(&gradient, 0.5)?;                     // θ ← θ - lr·gradient
/// assert_eq!(rbm.to_rbm()?.view().hidden_bias(), [-0.5]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient {
    /// ∂/∂W, n_visible × n_hidden, row-major.
    pub weights: Vec<f32>,
    /// ∂/∂b, n_visible.
    pub visible_bias: Vec<f32>,
    /// ∂/∂c, n_hidden.
    pub hidden_bias: Vec<f32>,
    /// ∂/∂ln σ², n_visible: 0 for units that are not Gaussian. Empty without Gaussian units.
    pub visible_log_variance: Vec<f32>,
}

impl Gradient {
    /// The zero gradient.
    pub fn zero(shape: Shape) -> Self {
        Self {
            weights: vec![0.0; shape.n_visible() * shape.n_hidden()],
            visible_bias: vec![0.0; shape.n_visible()],
            hidden_bias: vec![0.0; shape.n_hidden()],
            visible_log_variance: vec![0.0; log_variances(shape)],
        }
    }
}

fn check_log_variance(shape: Shape, values: &[f32]) -> Result<()> {
    let what = "visible_log_variance";
    let expected = log_variances(shape);
    if values.len() != expected || expected == 0 {
        return Err(Error::Length { what, expected, found: values.len() });
    }
    let mut is_gaussian = vec![false; expected];
    for (segment, units) in shape.visible().iter() {
        is_gaussian[units].fill(segment.is_number());
    }
    for (index, (&found, is_gaussian)) in values.iter().zip(is_gaussian).enumerate() {
        if !is_gaussian && found != 0.0 {
            return Err(Error::Value { what, index, expected: "0, as the unit is not Gaussian", found });
        }
        if found.is_nan() || found.abs() > MAX_LOG_VARIANCE {
            return Err(Error::Value { what, index, expected: "a number within [-40, 40]", found });
        }
    }
    Ok(())
}

/// Returns an error unless there are `expected` finite numbers.
pub(crate) fn check(what: &'static str, values: &[f32], expected: usize) -> Result<()> {
    if values.len() != expected {
        return Err(Error::Length { what, expected, found: values.len() });
    }
    match values.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(Error::Value { what, index, expected: "a finite number", found: values[index] }),
        None => Ok(()),
    }
}
