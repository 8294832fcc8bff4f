//! Weight decay: L2 and L1.
//!
//! Before its step each weight becomes (1 - lr·l2)·w, and then moves towards 0 by at most lr·l1, without crossing 0. So weights approach
//! the minimum of the penalty lr·(l2·w²/2 + l1·|w|) without oscillating about 0. Biases do not decay.
//!
//! Sources: G. E. Hinton, "A practical guide to training restricted Boltzmann machines", 2010, section 10; J. Langford, L. Li,
//! T. Zhang, "Sparse online learning via truncated gradient", 2009, for L1.

use super::{Pace, settled};
use crate::lanes::Lanes;

/// A weight after decay; the same bits if there is no decay.
#[inline(always)]
pub(crate) fn decayed<L: Lanes>(l: L, weight: L::F, pace: Pace) -> L::F {
    if !pace.decays() {
        return weight;
    }
    shrunk(l, weight, l.splat(pace.keep), l.splat(pace.shrink))
}

/// keep·weight, moved towards 0 by at most `shrink`.
#[inline(always)]
pub(crate) fn shrunk<L: Lanes>(l: L, weight: L::F, keep: L::F, shrink: L::F) -> L::F {
    let weight = settled(l, l.mul(weight, keep));
    let taken = l.smaller(shrink, l.larger(l.negate(shrink), weight));
    l.add(weight, l.negate(taken))
}
