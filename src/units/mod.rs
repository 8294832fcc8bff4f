//! What units do with the sum over the other layer: a law a file. So far there are binary units.
//!
//! Everything here is over lanes, so that every instruction set does it alike, and is printed for the CUDA kernels
//! (`kernels/units.cuh`).

pub(crate) mod binary;

use crate::lanes::Lanes;

/// β·sum + (β·bias + (1 - β)·reference): the pre-activation at inverse temperature β on the way from a model that has only the
/// reference bias. β = 1 is the model itself.
#[inline(always)]
pub(crate) fn pre_activation<L: Lanes>(l: L, sum: L::F, bias: L::F, reference: L::F, beta: L::F) -> L::F {
    let rest = l.add(l.splat(1.0), l.negate(beta));
    l.mul_add(beta, sum, l.mul_add(beta, bias, l.mul(rest, reference)))
}

#[cfg(test)]
mod tests {
    use super::{binary, pre_activation};
    use crate::lanes::printed::{check, function};

    #[test]
    fn the_kernels_have_these_functions() {
        check(
            "units.cuh",
            "// Printed by the functions of src/units/, which have the formulas: see src/lanes/printed.rs.\n",
            &[
                function(
                    "pre_activation_of",
                    "The pre-activation at inverse temperature beta.",
                    ["sum", "bias", "reference", "beta"],
                    |l, [sum, bias, reference, beta]| pre_activation(l, sum, bias, reference, beta),
                ),
                function(
                    "is_rare",
                    "Whether a unit with these odds of being off takes the rarer one of its states.",
                    ["odds", "distance"],
                    |l, [odds, distance]| binary::is_rare(l, odds, distance),
                ),
            ],
        );
    }
}
