//! Decides a unit by an integer sum if the error bound permits. CUDA's text of these functions is printed from here.
//!
//! # Proof that the bits are canonical
//!
//! Let n units be on, with weights w to the unit in question and |w| ≤ 2^(15-s). Let S be their canonical sum, and S' = 2^-s·Σq as
//! `f32`. Let b and b₀ be the unit's bias and reference, with |b| ≤ B and |b₀| ≤ B₀. Let a be the pre-activation that S gives at
//! inverse temperature β.
//!
//! 1. *S' - S.* The error of each w is at most 2^-(s+1). The k-th addition of S rounds a number below 1.01·k·2^(15-s), and so does
//!    the conversion of Σq for k = n. Each rounding has a relative error of 2^-24; the factor 2^-s is exact. Together the error is
//!    at most n·2^-(s+1)·(1 + (n + 3)/500).
//! 2. *From S' to an exponent.* a is β·S plus the terms of the biases, rounded once. The same expression with S', times -log₂e, is
//!    t; it has at most four roundings, and an error of log₂e below half a rounding. All of them amount to
//!    5·2^-24·(1.01·|β|·n·2^(15-s) + |β|·B + |1-β|·B₀). So
//!
//!    > |-t·ln 2 - a| ≤ ε = |β|·n·2^-(s+1)·(1 + (n + 13)/500) + 2^-21·(|β|·B + |1-β|·B₀).
//! 3. *The bit.* Let e = e^-a and Λ = ln(u/(1-u)). The exact answer is "on" iff u·e < 1-u, that is iff Λ < a. e' is 2^t with a
//!    relative error of 2^-13.5 from `exp2_roughly`. u lies within [U, U + δ], δ = 2^-24; both ends and their distances to 1 are
//!    numbers of `f32`. Let κ = ε + 2^-13. The unit is taken to be on if (U + δ)·e' < (1-U-δ)·(1-κ), which is below (1-u)·e^-κ. It
//!    is taken to be off if (1-U)·(1+κ+κ²) < U·e', because e^κ is below 1+κ+κ² for κ ≤ 1. Including the roundings of these products,
//!    "on" implies Λ < a - 2^-15, and "off" implies Λ > a + 2^-15.
//! 4. *The canonical bit.* Let D be the distance of u to the end of the unit interval with the rarer state, or ½ if the distance is
//!    more. That state is taken iff D·(1 + e) < min(e, 1), with roundings that amount to less than 2^-22 of the product. They move Λ
//!    by less than 2^-20, and the error of e, 1.7 ulp, moves it by less than 2^-22. So if |Λ - a| ≥ 2^-19, the canonical bit is the
//!    exact answer. The limits of e at e^±87.3 and of 2^t at 2^±126 change nothing, because |Λ| < 23.
//!
//! All other units are open. That includes units with κ ≥ 1, and units with a NaN among their numbers.
//!
//! ε itself and the factors of κ are computed by a few operations in `f32`, each with a relative error of 2^-24. ε has room for
//! these errors: its first term has at least 3·10^-4, because 5·1.01/2^8 is that much less than 10/500, and 1.01/2^9 is less than
//! 1/500. Its second term has three eighths. The factors have room as well: 1-κ is below e^-κ by κ²/3. For κ above 0.01 that is
//! hundreds of such errors. For smaller κ the error of 1-κ is 1.02·2^-24 of it, which counts as one more of the roundings of point
//! 3.
//!
//! The integers do not overflow. A change adds or removes a unit, so any sum is one over a set of at most 2^16 units, each with |q|
//! < 2^15.

use crate::{lanes::Lanes, units::pre_activation};
use std::f32::consts::LOG2_E;

/// δ: the spacing of the numbers of [`unit_interval`](crate::uniforms::unit_interval).
pub(super) const STEP: f32 = 1.0 / 16_777_216.0;

/// ε for a sum of `n` weights, where the error of each weight is at most `half`, and the biases are at most `own` and `reference`.
#[inline(always)]
pub(super) fn error_bound<L: Lanes>(l: L, n: L::F, half: L::F, beta: L::F, own: L::F, reference: L::F) -> L::F {
    let size = |x| l.larger(x, l.negate(x));
    let other = l.add(l.splat(1.0), l.negate(beta));
    let biases = l.mul_add(size(beta), own, l.mul(size(other), reference));
    let rounding = l.mul_add(l.add(n, l.splat(13.0)), l.splat(1.0 / 500.0), l.splat(1.0));
    let grid = l.mul(l.mul(n, half), rounding);
    l.mul_add(size(beta), grid, l.mul(biases, l.splat(1.0 / 2_097_152.0)))
}

/// κ = ε + 2^-13, and `found(κ)`. The result is infinite, so that no comparison holds, unless κ < 1.
#[inline(always)]
fn factor<L: Lanes>(l: L, epsilon: L::F, found: impl FnOnce(L::F) -> L::F) -> L::F {
    let kappa = l.add(epsilon, l.splat(1.0 / 8192.0));
    l.select(l.less(kappa, l.splat(1.0)), found(kappa), l.splat(f32::INFINITY))
}

/// 1 - κ.
#[inline(always)]
pub(super) fn below<L: Lanes>(l: L, epsilon: L::F) -> L::F {
    factor(l, epsilon, |kappa| l.add(l.splat(1.0), l.negate(kappa)))
}

/// 1 + κ + κ².
#[inline(always)]
pub(super) fn above<L: Lanes>(l: L, epsilon: L::F) -> L::F {
    factor(l, epsilon, |kappa| l.mul_add(kappa, kappa, l.add(l.splat(1.0), kappa)))
}

/// t for a sum of 0.
#[inline(always)]
pub(super) fn exponent_alone<L: Lanes>(l: L, bias: L::F, reference: L::F, beta: L::F) -> L::F {
    l.mul(pre_activation(l, l.splat(0.0), bias, reference, beta), l.splat(-LOG2_E))
}

/// 2^t, where t is `alone` plus the integer sum times `step` = -β·2^-s·log₂e.
#[inline(always)]
pub(super) fn rough_odds<L: Lanes>(l: L, sum: L::F, step: L::F, alone: L::F) -> L::F {
    exp2_roughly(l, l.mul_add(sum, step, alone))
}

/// Whether the unit is certainly on: (U + δ)·e' < (1-U-δ)·(1-κ).
#[inline(always)]
pub(super) fn surely_on<L: Lanes>(l: L, low: L::F, odds: L::F, below: L::F) -> L::M {
    let high = l.add(low, l.splat(STEP));
    l.less(l.mul(high, odds), l.mul_add(high, l.negate(below), below))
}

/// Whether the unit is certainly off: (1-U)·(1+κ+κ²) < U·e'.
#[inline(always)]
pub(super) fn surely_off<L: Lanes>(l: L, low: L::F, odds: L::F, above: L::F) -> L::M {
    l.less(l.mul_add(low, l.negate(above), above), l.mul(low, odds))
}

/// 2^f on [-½, ½]: minimax in relative error, which is 7.5e-5.
const EXP2: [f32; 4] = [0.999_928_06, 0.693_260_97, 0.242_611_13, 0.055_171_66];
/// The bits of 1.5·2^23 + 127 + n end with 127 + n, the biased exponent of 2^n.
const ROUND: f32 = 12_582_912.0 + 127.0;

/// 2^t with a relative error of 2^-13.5, for t within ±126.
#[inline(always)]
pub(super) fn exp2_roughly<L: Lanes>(l: L, t: L::F) -> L::F {
    let t = l.larger(l.splat(-126.0), l.smaller(l.splat(126.0), t));
    let shifted = l.add(t, l.splat(ROUND));
    let f = l.mul_add(l.add(shifted, l.splat(-ROUND)), l.splat(-1.0), t);
    let mut sum = l.splat(EXP2[3]);
    for &c in EXP2[..3].iter().rev() {
        sum = l.mul_add(sum, f, l.splat(c));
    }
    l.mul(sum, l.shift_to_exponent(shifted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::printed::{check, function};

    #[test]
    fn the_kernels_have_these_functions() {
        check(
            "grid.cuh",
            "// Printed from the functions of src/cpu/decision.rs, which document the formulas: see src/lanes/printed.rs.\n",
            &[
                function(
                    "error_bound",
                    "The largest difference between a pre-activation on the grid and the canonical one; n weights are each off by half.",
                    ["n", "half", "beta", "own", "reference"],
                    |l, [n, half, beta, own, reference]| error_bound(l, n, half, beta, own, reference),
                ),
                function("below", "The bound of surely_on.", ["epsilon"], |l, [epsilon]| below(l, epsilon)),
                function("above", "The bound of surely_off.", ["epsilon"], |l, [epsilon]| above(l, epsilon)),
                function(
                    "exponent_alone",
                    "The exponent of a unit's odds of being off if its sum is 0.",
                    ["bias", "reference", "beta"],
                    |l, [bias, reference, beta]| exponent_alone(l, bias, reference, beta),
                ),
                function(
                    "rough_odds",
                    "The approximate odds of being off, from a sum of integers.",
                    ["sum", "step", "alone"],
                    |l, [sum, step, alone]| rough_odds(l, sum, step, alone),
                ),
                function(
                    "surely_on",
                    "Whether a unit whose number is at least low is certainly on.",
                    ["low", "odds", "below"],
                    |l, [low, odds, below]| surely_on(l, low, odds, below),
                ),
                function(
                    "surely_off",
                    "Whether a unit whose number is at least low is certainly off.",
                    ["low", "odds", "above"],
                    |l, [low, odds, above]| surely_off(l, low, odds, above),
                ),
            ],
        );
    }
}
