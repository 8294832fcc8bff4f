//! Weight decay: L2 and L1.
//!
//! Before its step each weight becomes (1 - lr·l2)·w, and then moves towards 0 by lr·l1, but not past it: the minimum of the
//! penalty lr·(l2·w²/2 + l1·|w|) is approached without a weight ever jumping about 0. Biases do not decay.
//!
//! Sources: G. E. Hinton, "A practical guide to training restricted Boltzmann machines", 2010, section 10; J. Langford, L. Li,
//! T. Zhang, "Sparse online learning via truncated gradient", 2009, for L1.

use super::{Pace, settled};
use crate::lanes::Lanes;

/// What decay leaves of a weight: without decay the weight, to the bit.
#[inline(always)]
pub(crate) fn decayed<L: Lanes>(l: L, weight: L::F, pace: Pace) -> L::F {
    if !pace.decays() {
        return weight;
    }
    shrunk(l, weight, l.splat(pace.keep), l.splat(pace.shrink))
}

/// The part `keep` of a weight, nearer to 0 by `shrink`.
#[inline(always)]
pub(crate) fn shrunk<L: Lanes>(l: L, weight: L::F, keep: L::F, shrink: L::F) -> L::F {
    let weight = settled(l, l.mul(weight, keep));
    let taken = l.smaller(shrink, l.larger(l.negate(shrink), weight));
    l.add(weight, l.negate(taken))
}
