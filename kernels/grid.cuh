// Printed from the functions of src/cpu/decision.rs, which document the formulas: see src/lanes/printed.rs.
#pragma once

/// The largest difference between a pre-activation on the grid and the canonical one; n weights are each off by half.
__device__ inline float error_bound(float n, float half, float beta, float own, float reference) {
    float t1 = __fadd_rn(1.0f, -beta);
    float t2 = -beta < beta ? beta : -beta;
    float t3 = -t1;
    float t4 = __fmul_rn(__fmul_rn(n, half), __fmaf_rn(__fadd_rn(n, 13.0f), 0.002f, 1.0f));
    float t5 = __fmul_rn(__fmaf_rn(t2, own, __fmul_rn(t3 < t1 ? t1 : t3, reference)), 4.7683716e-7f);
    return __fmaf_rn(t2, t4, t5);
}

/// The bound of surely_on.
__device__ inline float below(float epsilon) {
    float t1 = __fadd_rn(epsilon, 0.00012207031f);
    return t1 < 1.0f ? __fadd_rn(1.0f, -t1) : __int_as_float(0x7f800000);
}

/// The bound of surely_off.
__device__ inline float above(float epsilon) {
    float t1 = __fadd_rn(epsilon, 0.00012207031f);
    return t1 < 1.0f ? __fmaf_rn(t1, t1, __fadd_rn(1.0f, t1)) : __int_as_float(0x7f800000);
}

/// The exponent of a unit's odds of being off if its sum is 0.
__device__ inline float exponent_alone(float bias, float reference, float beta) {
    float t1 = __fmaf_rn(beta, bias, __fmul_rn(__fadd_rn(1.0f, -beta), reference));
    return __fmul_rn(__fmaf_rn(beta, 0.0f, t1), -1.442695f);
}

/// The approximate odds of being off, from a sum of integers.
__device__ inline float rough_odds(float sum, float step, float alone) {
    float t1 = __fmaf_rn(sum, step, alone);
    float t2 = 126.0f < t1 ? 126.0f : t1;
    float t3 = t2 < -126.0f ? -126.0f : t2;
    float t4 = __fadd_rn(t3, 12583039.0f);
    float t5 = __fmaf_rn(__fadd_rn(t4, -12583039.0f), -1.0f, t3);
    float t6 = __fmaf_rn(__fmaf_rn(0.05517166f, t5, 0.24261113f), t5, 0.69326097f);
    return __fmul_rn(__fmaf_rn(t6, t5, 0.99992806f), __int_as_float(__float_as_int(t4) << 23));
}

/// Whether a unit whose number is at least low is certainly on.
__device__ inline bool surely_on(float low, float odds, float below) {
    float t1 = __fadd_rn(low, 5.9604645e-8f);
    return __fmul_rn(t1, odds) < __fmaf_rn(t1, -below, below);
}

/// Whether a unit whose number is at least low is certainly off.
__device__ inline bool surely_off(float low, float odds, float above) {
    return __fmaf_rn(low, -above, above) < __fmul_rn(low, odds);
}
