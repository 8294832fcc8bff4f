//! Momentum: a parameter keeps a fraction of its last step.
//!
//! u ← m·u - lr·gradient and θ ← θ + u, for every weight and bias. Decay is not part of the velocity u.
//!
//! Source: G. E. Hinton, "A practical guide to training restricted Boltzmann machines", 2010, section 9.

use super::settled;
use crate::lanes::Lanes;

/// The velocity after an update.
#[inline(always)]
pub(crate) fn next_velocity<L: Lanes>(l: L, velocity: L::F, momentum: L::F, lr: L::F, gradient: L::F) -> L::F {
    settled(l, l.mul_add(l.negate(lr), gradient, l.mul(momentum, velocity)))
}
