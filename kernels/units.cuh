// Printed by the functions of src/units/, which have the formulas: see src/lanes/printed.rs.
#pragma once

/// The pre-activation at inverse temperature beta.
__device__ inline float pre_activation_of(float sum, float bias, float reference, float beta) {
    float t1 = __fmaf_rn(beta, bias, __fmul_rn(__fadd_rn(1.0f, -beta), reference));
    return __fmaf_rn(beta, sum, t1);
}

/// Whether a unit with these odds of being off takes the rarer one of its states.
__device__ inline bool is_rare(float odds, float distance) {
    return __fmaf_rn(distance, odds, distance) < (odds < 1.0f ? odds : 1.0f);
}
