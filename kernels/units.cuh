// Printed from the functions of src/units/, which document the formulas: see src/lanes/printed.rs.
#pragma once

/// The pre-activation at inverse temperature beta.
__device__ inline float pre_activation_of(float sum, float bias, float reference, float beta) {
    float t1 = __fmaf_rn(beta, bias, __fmul_rn(__fadd_rn(1.0f, -beta), reference));
    return __fmaf_rn(beta, sum, t1);
}

/// Whether a unit with these odds of being off takes the rarer of its states.
__device__ inline bool is_rare(float odds, float distance) {
    return __fmaf_rn(distance, odds, distance) < (odds < 1.0f ? odds : 1.0f);
}

/// The precision of a Gaussian unit at inverse temperature beta.
__device__ inline float precision_at(float precision, float reference, float beta) {
    return __fmaf_rn(beta, precision, __fmul_rn(__fadd_rn(1.0f, -beta), reference));
}

/// The mean of a Gaussian unit at inverse temperature beta.
__device__ inline float gaussian_mean(float sum, float bias, float precision, float reference, float reference_precision, float beta) {
    float t1 = __fadd_rn(sum, bias);
    float t2 = __fadd_rn(1.0f, -beta);
    float t3 = __fmaf_rn(beta, __fmul_rn(precision, t1), __fmul_rn(t2, __fmul_rn(reference_precision, reference)));
    float t4 = __fmaf_rn(beta, precision, __fmul_rn(t2, reference_precision));
    return beta < 1.0f ? __fdiv_rn(t3, t4) : t1;
}

/// A Gaussian unit with this mean and precision, from a standard normal number z.
__device__ inline float gaussian_state(float mean, float precision, float z) {
    return __fmaf_rn(__fsqrt_rn(__fdiv_rn(1.0f, precision)), z, mean);
}
