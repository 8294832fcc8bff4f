//! Sparsity: hidden units that are to be on in a given share of the rows.
//!
//! The penalty cost·(the cross-entropy between the target t and the mean q_j of unit j) has the gradient cost·(q_j - t) in the
//! unit's pre-activation: s_j = cost·(q_j - t) is taken from each P_rj of the data, so that weights and bias learn it alike.
//! q ← (1 - ν)·q + ν·⟨p⟩ slides over the batches; an update uses the q from before it.
//!
//! Source: G. E. Hinton, "A practical guide to training restricted Boltzmann machines", 2010, section 11.

use crate::lanes::Lanes;

/// A target for the mean of every hidden unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sparsity {
    /// t: the share of rows in which a unit is to be on, within [0, 1].
    pub target: f32,
    /// How strong the pull is, at least 0.
    pub cost: f32,
    /// ν: how far the means that are looked at slide towards those of each batch, within [0, 1].
    pub rate: f32,
}

impl Sparsity {
    /// A pull of this strength to this target; ν = 0.05.
    pub fn new(target: f32, cost: f32) -> Self {
        Self { target, cost, rate: 0.05 }
    }
}

/// s: what is taken from the hidden means of the data.
#[inline(always)]
pub(crate) fn pull<L: Lanes>(l: L, mean: L::F, target: L::F, cost: L::F) -> L::F {
    l.mul(cost, l.add(mean, l.negate(target)))
}
