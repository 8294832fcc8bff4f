//! Monitors of training: pseudo-likelihood and reconstruction cross-entropy, in nats a row; greater is better.
//!
//! - log PL(x) = Σ_i log P(x_i|x_-i) = Σ_i log σ(F(x̃_i) - F(x)), where x̃_i is x with bit i flipped, and x is rounded to bits first
//!   (x ≥ 0.5 → 1). One bit at a time, n_visible·log P(x_i|x_-i) estimates it. The difference of free energies needs one
//!   pre-activation a = xW + c: F(x̃_i) - F(x) = (2x_i - 1)·b_i - Σ_j [sp(a_j + (1 - 2x_i)·W_ij) - sp(a_j)].
//! - The reconstruction cross-entropy is Σ_i [x_i·log σ(p_i) + (1 - x_i)·log(1 - σ(p_i))] = -Σ_i [sp(p_i) - x_i·p_i], where p are
//!   the visible pre-activations of a reconstruction. It is computed from pre-activations, never from σ, so it is finite.
//! - For a Potts site, P(x_g|x_-g) is the probability of one of S states, from the S free energies of the row with each of them. The
//!   density of a Gaussian unit given the others has no closed form; models with such units have a reconstruction only
//!   ([`units`](crate::units)).
//!
//! Use the pseudo-likelihood for PCD, whose chains do not start at the data, and the cross-entropy for CD (the tutorial's advice).

use crate::{
    device::Batch,
    error::{Error, Result},
    resident::Resident,
    rows::Rows,
    shape::Shape,
};
use serde::{Deserialize, Serialize};
use std::{
    fmt::{self, Display},
    str::FromStr,
};

/// The quantity that a [`Trainer`](crate::Trainer) monitors at every update, with the parameters from before the update.
///
/// `Display`, `FromStr` and serde use one set of names:
///
/// ```
/// use harmonium::Monitor;
/// assert_eq!("pl-exact".parse(), Ok(Monitor::ExactPseudoLikelihood));
/// assert_eq!(Monitor::PseudoLikelihood.to_string(), "pl");
/// assert!("likelihood".parse::<Monitor>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Monitor {
    /// No monitor.
    None,
    /// n_visible times the term of one bit of the pseudo-likelihood. Each update uses the next bit, and the bit is not reset between
    /// epochs. Successive epochs average different bits, so the curve fluctuates slightly, as the tutorial's does.
    #[serde(rename = "pl")]
    PseudoLikelihood,
    /// The pseudo-likelihood over all bits: O(rows·n_visible·n_hidden) multiply-adds an update.
    #[serde(rename = "pl-exact")]
    ExactPseudoLikelihood,
    /// The reconstruction cross-entropy. For CD, of the pre-activations of the k-th step. For PCD, whose chains are not
    /// reconstructions, of the pre-activations that the batch's hidden means give.
    Reconstruction,
}

impl Monitor {
    /// All monitors.
    pub const ALL: &[Self] = &[Self::PseudoLikelihood, Self::ExactPseudoLikelihood, Self::Reconstruction, Self::None];

    /// The name in words, for a log or the axis of a plot.
    pub fn title(self) -> &'static str {
        match self {
            Monitor::None => "nothing",
            Monitor::PseudoLikelihood => "pseudo-likelihood",
            Monitor::ExactPseudoLikelihood => "exact pseudo-likelihood",
            Monitor::Reconstruction => "reconstruction",
        }
    }

    /// Checks that the monitor is defined for the laws of the visible units.
    pub(crate) fn check(self, shape: Shape) -> Result<()> {
        match self {
            Monitor::PseudoLikelihood | Monitor::ExactPseudoLikelihood => check_discrete(shape),
            Monitor::None | Monitor::Reconstruction => Ok(()),
        }
    }

    pub(crate) fn is_some(self) -> bool {
        self != Monitor::None
    }
}

impl Display for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl FromStr for Monitor {
    type Err = Error;

    /// # Errors
    /// [`Error::Argument`] with all names if the name is unknown.
    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|monitor| monitor.to_string() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(Self::to_string).collect();
            let expected = format!("one of {}", names.join(", "));
            Error::Argument { what: "monitor", expected, found: name.into() }
        })
    }
}

impl Resident {
    /// log PL(x) of each row, exact over all bits, in nats a row (divide by n_visible for nats a bit).
    ///
    /// `v`: rows × n_visible, rounded to bits first (x ≥ 0.5 → 1); Potts units count by sites. O(rows·n_visible·n_hidden), with two
    /// multiplications for each on [`Cpu`](crate::Cpu). There the error of every log P(x_i|x_-i) is at most 6.3e-7·n_hidden, in
    /// addition to the effect of rounded pre-activations, and usually much less. Canonical on [`Cpu`](crate::Cpu).
    ///
    /// ```
    /// use harmonium::{Cpu, Dataset, Rbm, Shape};
    ///
    /// # fn main() -> harmonium::Result<()> {
    /// // Without weights: P(x_0 = 1) = 3/4, P(x_1 = 0) = 1/2.
    /// let rbm = Rbm::from_parts(Shape::new(2, 1)?, vec![0.0; 2], vec![3f32.ln(), 0.0], vec![0.0])?.on(Cpu::detect()?)?;
    /// let found = rbm.pseudo_log_likelihood(&Dataset::from_u8(vec![255, 0], 2)?)?[0];
    /// assert!((found - (0.75f64 * 0.5).ln()).abs() < 1e-5);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if the rows do not fit the shape, or there are Gaussian units.
    pub fn pseudo_log_likelihood<'a>(&self, v: impl Into<Batch<'a>>) -> Result<Vec<f64>> {
        check_discrete(self.shape)?;
        self.each_row(v.into(), |v, out| self.device.pseudo_log_likelihood(&self.parameters, v.0, None, out))
    }

    /// n·log P(x_g|x_-g) of each row in nats, for variable number g = `bit` of n, a binary unit or a Potts site. It is an estimate of
    /// log PL(x), exact on average over g. If all units are binary, g is the number of the bit.
    ///
    /// # Errors
    /// [`Error::Argument`] if the rows do not fit the shape, there is no such variable, or there are Gaussian units.
    pub fn pseudo_log_likelihood_of_bit<'a>(&self, v: impl Into<Batch<'a>>, bit: usize) -> Result<Vec<f64>> {
        check_discrete(self.shape)?;
        if bit >= self.shape.visible().sites() {
            let expected = format!("less than {}", self.shape.visible().sites());
            return Err(Error::Argument { what: "bit", expected, found: bit.to_string() });
        }
        self.each_row(v.into(), |v, out| self.device.pseudo_log_likelihood(&self.parameters, v.0, Some(bit), out))
    }
}

/// Checks that the pseudo-likelihood is defined, which needs variables with finitely many states.
fn check_discrete(shape: Shape) -> Result<()> {
    if shape.visible().is_discrete() {
        return Ok(());
    }
    Err(Error::Argument {
        what: "pseudo-likelihood",
        expected:
            "binary and Potts units: the density of a Gaussian unit given the others has no closed form; watch the \
                   reconstruction"
                .into(),
        found: format!("visible units {}", shape.visible()),
    })
}

/// The log-probability of rows x given visible pre-activations p, in nats a row. Over binary units it is Σ_i [x_i·p_i - sp(p_i)], minus
/// the cross-entropy between x and σ(p); over Potts sites Σ_s x_s·p_s - ln Σ_s e^p_s; over Gaussian units -(x_i - p_i)²/2,
/// half the squared error.
///
/// `x`: rows × units; `pre_activation`: p in log-odds, the same size. Summed in `f64`; finite for finite p. If σ is not 1, divide x
/// and p by it.
///
/// ```
/// use harmonium::{Rows, Values, monitor::reconstruction_cross_entropy};
///
/// let x = Rows::new(Values::F32(&[1.0, 0.0]), 2)?;
/// let found = reconstruction_cross_entropy(x, &[3f32.ln(), 0.0])?[0];
/// assert!((found - (0.75f64 * 0.5).ln()).abs() < 1e-6);
/// # Ok::<(), harmonium::Error>(())
/// ```
///
/// # Errors
/// [`Error::Length`] if the sizes differ.
pub fn reconstruction_cross_entropy(x: Rows<'_>, pre_activation: &[f32]) -> Result<Vec<f64>> {
    let expected = x.len() * x.units();
    if pre_activation.len() != expected {
        return Err(Error::Length { what: "pre_activation", expected, found: pre_activation.len() });
    }
    let (mut values, precision) = (vec![0.0; x.units()], vec![1.0; x.units()]);
    let row = |(r, p): (usize, &[f32])| {
        values.iter_mut().enumerate().for_each(|(i, value)| *value = x.value(r, i));
        x.segments().reconstruction(&values, p, &precision, |i| !x.is_missing(r, i))
    };
    Ok(pre_activation.chunks_exact(x.units()).enumerate().map(row).collect())
}
