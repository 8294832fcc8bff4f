//! Binary units: off or on, 0 or 1.
//!
//! A unit with pre-activation a is on with the probability σ(a), and its two states together weigh 1 + e^a: the mean is
//! [`sigmoid`](crate::elementary::sigmoid), the log-normaliser [`softplus`](crate::elementary::softplus).

use crate::lanes::Lanes;

/// Whether a unit with these odds of being off takes the rarer one of its states, which is "on" where the odds are at least 1.
/// `distance`: how far its number u is from the end of the unit interval at which the rarer state is, the lower one where that is
/// "on" ([`uniforms`](crate::uniforms)).
///
/// The rarer state's probability is min(odds, 1)/(1 + odds): a comparison without the division.
#[inline(always)]
pub(crate) fn is_rare<L: Lanes>(l: L, odds_off: L::F, distance: L::F) -> L::M {
    l.less(l.mul_add(distance, odds_off, distance), l.smaller(odds_off, l.splat(1.0)))
}
