//! How training is watched: pseudo-likelihood and reconstruction cross-entropy, in nats a row; the larger the better.
//!
//! - log PL(x) = Σ_i log P(x_i|x_-i) = Σ_i log σ(F(x̃_i) - F(x)), x̃_i being x with bit i flipped, and x rounded to bits first
//!   (x ≥ 0.5 → 1). One bit a time, n_visible·log P(x_i|x_-i) estimates it. The difference of free energies comes from one
//!   pre-activation a = xW + c: F(x̃_i) - F(x) = (2x_i - 1)·b_i - Σ_j [sp(a_j + (1 - 2x_i)·W_ij) - sp(a_j)].
//! - The reconstruction cross-entropy is Σ_i [x_i·log σ(p_i) + (1 - x_i)·log(1 - σ(p_i))] = -Σ_i [sp(p_i) - x_i·p_i], p being
//!   the visible pre-activations of a reconstruction. It is formed from pre-activations, never from σ, and so finite.
//!
//! - Of the states of a Potts site P(x_g|x_-g) is one of S, and goes by the S free energies of the row with each of them. The density
//!   of a Gaussian unit given the others has no closed form: such models have a reconstruction only ([`units`](crate::units)).
//!
//! Pseudo-likelihood suits PCD, cross-entropy CD (the tutorial's advice): PCD's chains do not start at the data.

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

/// What a [`Trainer`](crate::Trainer) watches at every update, with the parameters from before it.
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
    /// Nothing.
    None,
    /// The pseudo-likelihood's term of one bit times n_visible; the next bit at the next update, over epochs. Consecutive
    /// epochs average different bits, so the curve goes up and down a little as the tutorial's does.
    #[serde(rename = "pl")]
    PseudoLikelihood,
    /// The pseudo-likelihood over all bits: O(rows·n_visible·n_hidden) multiply-adds an update.
    #[serde(rename = "pl-exact")]
    ExactPseudoLikelihood,
    /// The reconstruction cross-entropy. CD: of the k-th step's pre-activations. PCD, whose chains are not
    /// reconstructions: of the pre-activations that the batch's hidden means give.
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

    /// Fails where visible units follow a law that it knows nothing of.
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
    /// [`Error::Argument`] with all names where this is none of them.
    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|monitor| monitor.to_string() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(Self::to_string).collect();
            let expected = format!("one of {}", names.join(", "));
            Error::Argument { what: "monitor", expected, found: name.into() }
        })
    }
}

impl Resident {
    /// log PL(x) of each row, exact over all bits, in nats a row (not a bit: divide by n_visible for that).
    ///
    /// `v`: rows × n_visible, rounded to bits first (x ≥ 0.5 → 1); of Potts units by sites. O(rows·n_visible·n_hidden): on [`Cpu`](crate::Cpu) two
    /// multiplications for each. Every log P(x_i|x_-i) is off by no more than 6.3e-7·n_hidden there, on top of what the
    /// rounding of the pre-activations does, and usually by much less. Canonical on [`Cpu`](crate::Cpu).
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape.
    pub fn pseudo_log_likelihood<'a>(&self, v: impl Into<Batch<'a>>) -> Result<Vec<f64>> {
        check_discrete(self.shape)?;
        self.each_row(v.into(), |v, out| self.device.pseudo_log_likelihood(&self.parameters, v.0, None, out))
    }

    /// n·log P(x_g|x_-g) of each row for variable number g = `bit` of n, a binary unit or a Potts site: an estimate of log PL(x),
    /// exact on average over g. Where all units are binary it is bit g.
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape, there is no such variable, or there are Gaussian units.
    pub fn pseudo_log_likelihood_of_bit<'a>(&self, v: impl Into<Batch<'a>>, bit: usize) -> Result<Vec<f64>> {
        check_discrete(self.shape)?;
        if bit >= self.shape.visible().sites() {
            let expected = format!("less than {}", self.shape.visible().sites());
            return Err(Error::Argument { what: "bit", expected, found: bit.to_string() });
        }
        self.each_row(v.into(), |v, out| self.device.pseudo_log_likelihood(&self.parameters, v.0, Some(bit), out))
    }
}

/// There is a pseudo-likelihood where each variable has a few states.
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

/// How well visible pre-activations p explain rows x, in nats a row: Σ_i [x_i·p_i - sp(p_i)] over binary units, which is minus
/// the cross-entropy between x and σ(p), Σ_s x_s·p_s - ln Σ_s e^p_s over Potts sites, and -(x_i - p_i)²/2 over Gaussian units,
/// half the squared error.
///
/// `x`: rows × units; `pre_activation`: p, as many numbers. Summed in `f64`; finite for finite p. Where σ is not 1, divide x and
/// p by it.
///
/// # Errors
/// [`Error::Length`] where the two differ in size.
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
