//! Sparsity: a target for the fraction of rows in which each hidden unit is on.
//!
//! The penalty cost·(the cross-entropy between the target t and the mean q_j of unit j) has the gradient cost·(q_j - t) in the
//! unit's pre-activation. s_j = cost·(q_j - t) is subtracted from each P_rj of the data, so that weights and bias both learn it.
//! q ← (1 - ν)·q + ν·⟨p⟩ is a running mean over the batches; an update uses the q from before it.
//!
//! Source: G. E. Hinton, "A practical guide to training restricted Boltzmann machines", 2010, section 11.

use crate::lanes::Lanes;

/// A target for the mean of every hidden unit; the [module](self) has the equations.
///
/// ```
/// use harmonium::{Descent, descent::Sparsity};
///
/// // Each hidden unit should be on in 10 % of the rows.
/// let descent = Descent { sparsity: Some(Sparsity::new(0.1, 0.5)), ..Descent::default() };
/// assert_eq!(descent.sparsity, Some(Sparsity { target: 0.1, cost: 0.5, rate: 0.05 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sparsity {
    /// t: the fraction of rows in which a unit should be on, within [0, 1].
    pub target: f32,
    /// The strength of the penalty, at least 0.
    pub cost: f32,
    /// ν: the weight of each batch's means in the running means, within [0, 1].
    pub rate: f32,
}

impl Sparsity {
    /// Sparsity with this target and cost, and ν = 0.05.
    pub fn new(target: f32, cost: f32) -> Self {
        Self { target, cost, rate: 0.05 }
    }
}

/// s, which is subtracted from the hidden means of the data.
#[inline(always)]
pub(crate) fn pull<L: Lanes>(l: L, mean: L::F, target: L::F, cost: L::F) -> L::F {
    l.mul(cost, l.add(mean, l.negate(target)))
}
