//! Decreasing learning rates: the rate of update t of n.
//!
//! | name | rate |
//! |---|---|
//! | `constant` | lr |
//! | `linear` | lr·(1 - t/n) |
//! | `cosine` | lr·(1 + cos(π·t/n))/2 |
//! | `inverse-sqrt:GAMMA` | lr·√(γ/(γ + t)) |
//!
//! Chains follow a model that moves slowly. A rate that falls to 0 lets them catch up, and averages over the noise of the last
//! updates. No other rule improves models as much.
//! Source: H. Robbins, S. Monro, "A stochastic approximation method", 1951; I. Loshchilov, F. Hutter, "SGDR: stochastic gradient
//! descent with warm restarts", 2017, for the cosine.

use crate::error::{Error, Result, shown};
use std::{
    fmt::{self, Display},
    str::FromStr,
};

/// The schedule of the learning rate; the [module](self) has the equations.
///
/// ```
/// use harmonium::descent::Rate;
///
/// assert_eq!(Rate::Linear.at(0.1, 75, 100), 0.025);
/// assert_eq!("inverse-sqrt:1000".parse::<Rate>()?, Rate::InverseSqrt { gamma: 1000.0 });
/// # Ok::<(), harmonium::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Rate {
    /// The rate is constant.
    #[default]
    Constant,
    /// The rate falls to 0 linearly.
    Linear,
    /// The rate falls to 0 as half a period of a cosine.
    Cosine,
    /// The rate falls like 1/√t, to 1/√2 of its first value after γ updates, and never reaches 0.
    InverseSqrt {
        /// γ, in updates, above 0.
        gamma: f64,
    },
}

impl Rate {
    /// The learning rate of update `t` of `n`, counted from 0; `lr` is that of update 0.
    ///
    /// Computed in `f64` from additions, products, quotients, square roots and, for the cosine, a polynomial: the same bits
    /// on every machine. For t > n it is the rate at n.
    pub fn at(self, lr: f32, t: u64, n: u64) -> f32 {
        let part = t.min(n) as f64 / n.max(1) as f64;
        let factor = match self {
            Rate::Constant => 1.0,
            Rate::Linear => 1.0 - part,
            Rate::Cosine => half_wave(part),
            Rate::InverseSqrt { gamma } => (gamma / (gamma + t as f64)).sqrt(),
        };
        (f64::from(lr) * factor) as f32
    }
}

/// (1 + cos(π·x))/2 for x within [0, 1]: cos²(π·x/2) by a power series, truncated where its terms are below 2^-53.
fn half_wave(x: f64) -> f64 {
    let square = (std::f64::consts::FRAC_PI_2 * x).powi(2);
    let cosine = (1..=11).rev().fold(1.0, |sum, n| 1.0 - sum * square / f64::from(2 * n * (2 * n - 1)));
    if x == 1.0 { 0.0 } else { cosine * cosine }
}

impl Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rate::Constant => f.pad("constant"),
            Rate::Linear => f.pad("linear"),
            Rate::Cosine => f.pad("cosine"),
            Rate::InverseSqrt { gamma } => f.pad(&format!("inverse-sqrt:{gamma}")),
        }
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let gamma = |text: &str| text.parse().ok().filter(|gamma: &f64| gamma.is_finite() && *gamma > 0.0);
        let found = match text {
            "constant" => Some(Rate::Constant),
            "linear" => Some(Rate::Linear),
            "cosine" => Some(Rate::Cosine),
            _ => text.strip_prefix("inverse-sqrt:").and_then(gamma).map(|gamma| Rate::InverseSqrt { gamma }),
        };
        found.ok_or_else(|| Error::Argument {
            what: "schedule",
            expected: "constant, linear, cosine or inverse-sqrt:GAMMA with GAMMA above 0".into(),
            found: shown(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_wave() {
        for n in 0..=1000 {
            let x = f64::from(n) / 1000.0;
            let expected = (1.0 + (std::f64::consts::PI * x).cos()) / 2.0;
            assert!((half_wave(x) - expected).abs() < 4e-16, "{x}: {} for {expected}", half_wave(x));
        }
    }
}
