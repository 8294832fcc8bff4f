// Printed from the functions of src/elementary.rs, which document the formulas: see src/lanes/printed.rs.
#pragma once

/// e^x for x within [-87.3, 88.72].
__device__ inline float exp_within(float x) {
    float t1 = floorf(__fmul_rn(x, 1.442695f));
    float t2 = __fmaf_rn(t1, 0.00021219444f, __fmaf_rn(t1, -0.6933594f, x));
    float t3 = __fmaf_rn(__fmaf_rn(0.00194877f, t2, 0.0077922726f), t2, 0.041914992f);
    float t4 = __fmaf_rn(__fmaf_rn(__fmaf_rn(t3, t2, 0.16661014f), t2, 0.50000584f), t2, 0.9999998f);
    float t5 = __int_as_float(__float_as_int(__fadd_rn(t1, 12583039.0f)) << 23);
    return __fmul_rn(__fmaf_rn(t4, t2, 1.0f), t5);
}

/// e^-x, the odds that a unit is off, for x limited to +-87.3.
__device__ inline float odds_off(float x) {
    float t1 = -x < -87.3f ? -87.3f : -x;
    float t2 = 87.3f < t1 ? 87.3f : t1;
    float t3 = floorf(__fmul_rn(t2, 1.442695f));
    float t4 = __fmaf_rn(t3, 0.00021219444f, __fmaf_rn(t3, -0.6933594f, t2));
    float t5 = __fmaf_rn(__fmaf_rn(0.00194877f, t4, 0.0077922726f), t4, 0.041914992f);
    float t6 = __fmaf_rn(__fmaf_rn(__fmaf_rn(t5, t4, 0.16661014f), t4, 0.50000584f), t4, 0.9999998f);
    float t7 = __int_as_float(__float_as_int(__fadd_rn(t3, 12583039.0f)) << 23);
    return __fmul_rn(__fmaf_rn(t6, t4, 1.0f), t7);
}

/// The sigmoid of x, from odds_off(x).
__device__ inline float mean_of_odds(float x, float odds) {
    return x < -87.3f ? 0.0f : __fdiv_rn(1.0f, __fadd_rn(1.0f, odds));
}

/// 1/(1 + e^-x), within [0, 1].
__device__ inline float sigmoid(float x) {
    float t1 = -x < -87.3f ? -87.3f : -x;
    float t2 = 87.3f < t1 ? 87.3f : t1;
    float t3 = floorf(__fmul_rn(t2, 1.442695f));
    float t4 = __fmaf_rn(t3, 0.00021219444f, __fmaf_rn(t3, -0.6933594f, t2));
    float t5 = __fmaf_rn(__fmaf_rn(0.00194877f, t4, 0.0077922726f), t4, 0.041914992f);
    float t6 = __fmaf_rn(__fmaf_rn(__fmaf_rn(t5, t4, 0.16661014f), t4, 0.50000584f), t4, 0.9999998f);
    float t7 = __int_as_float(__float_as_int(__fadd_rn(t3, 12583039.0f)) << 23);
    float t8 = __fdiv_rn(1.0f, __fadd_rn(1.0f, __fmul_rn(__fmaf_rn(t6, t4, 1.0f), t7)));
    return x < -87.3f ? 0.0f : t8;
}

/// ln(1 + t) for t within [0, 1].
__device__ inline float ln_1p(float t) {
    float t1 = __fdiv_rn(t, __fadd_rn(2.0f, t));
    float t2 = __fmul_rn(t1, t1);
    float t3 = __fmaf_rn(__fmaf_rn(0.2802446f, t2, 0.27999142f), t2, 0.400217f);
    return __fmaf_rn(__fmul_rn(t1, t2), __fmaf_rn(t3, t2, 0.6666641f), __fadd_rn(t1, t1));
}

/// ln(1 + e^x).
__device__ inline float softplus(float x) {
    float t1 = x < -x ? x : -x;
    bool t2 = t1 < -87.3f;
    float t3 = t2 ? -87.3f : t1;
    float t4 = floorf(__fmul_rn(t3, 1.442695f));
    float t5 = __fmaf_rn(t4, 0.00021219444f, __fmaf_rn(t4, -0.6933594f, t3));
    float t6 = __fmaf_rn(__fmaf_rn(0.00194877f, t5, 0.0077922726f), t5, 0.041914992f);
    float t7 = __fmaf_rn(__fmaf_rn(__fmaf_rn(t6, t5, 0.16661014f), t5, 0.50000584f), t5, 0.9999998f);
    float t8 = __int_as_float(__float_as_int(__fadd_rn(t4, 12583039.0f)) << 23);
    float t9 = t2 ? 0.0f : __fmul_rn(__fmaf_rn(t7, t5, 1.0f), t8);
    float t10 = __fdiv_rn(t9, __fadd_rn(2.0f, t9));
    float t11 = __fmul_rn(t10, t10);
    float t12 = __fmaf_rn(__fmaf_rn(0.2802446f, t11, 0.27999142f), t11, 0.400217f);
    float t13 = __fmaf_rn(__fmul_rn(t10, t11), __fmaf_rn(t12, t11, 0.6666641f), __fadd_rn(t10, t10));
    return __fadd_rn(x < 0.0f ? 0.0f : x, t13);
}

/// e^x: 0 below -87.3, infinite above 88.72.
__device__ inline float exp_of(float x) {
    bool t1 = x < -87.3f;
    float t2 = t1 ? -87.3f : x;
    float t3 = 88.72f < t2 ? 88.72f : t2;
    float t4 = floorf(__fmul_rn(t3, 1.442695f));
    float t5 = __fmaf_rn(t4, 0.00021219444f, __fmaf_rn(t4, -0.6933594f, t3));
    float t6 = __fmaf_rn(__fmaf_rn(0.00194877f, t5, 0.0077922726f), t5, 0.041914992f);
    float t7 = __fmaf_rn(__fmaf_rn(__fmaf_rn(t6, t5, 0.16661014f), t5, 0.50000584f), t5, 0.9999998f);
    float t8 = __int_as_float(__float_as_int(__fadd_rn(t4, 12583039.0f)) << 23);
    float t9 = 88.72f < x ? __int_as_float(0x7f800000) : __fmul_rn(__fmaf_rn(t7, t5, 1.0f), t8);
    return t1 ? 0.0f : t9;
}

/// ln x of a normal number above 0.
__device__ inline float ln_of(float x) {
    float t1 = (float)((__float_as_int(x) >> 23) - 127);
    float t2 = __fadd_rn(__int_as_float(__float_as_int(x) & 0x007fffff | 0x3f800000), -1.0f);
    float t3 = __fdiv_rn(t2, __fadd_rn(2.0f, t2));
    float t4 = __fmul_rn(t3, t3);
    float t5 = __fmaf_rn(__fmaf_rn(0.2802446f, t4, 0.27999142f), t4, 0.400217f);
    float t6 = __fmaf_rn(__fmul_rn(t3, t4), __fmaf_rn(t5, t4, 0.6666641f), __fadd_rn(t3, t3));
    return __fmaf_rn(t1, 0.6933594f, __fmaf_rn(t1, -0.00021219444f, t6));
}

/// The magnitude of the normal number at this distance from an end of the unit interval.
__device__ inline float normal_size(float distance) {
    float t1 = __fadd_rn(0.5f, -distance);
    float t2 = __fmaf_rn(t1, t1, -0.0703125f);
    float t3 = __fmaf_rn(__fmaf_rn(113157.46f, t2, 22173.68f), t2, 3385.1084f);
    float t4 = __fmaf_rn(__fmaf_rn(__fmaf_rn(t3, t2, 749.6905f), t2, 175.01898f), t2, 42.121643f);
    float t5 = __fmaf_rn(__fmaf_rn(__fmaf_rn(t4, t2, 11.265303f), t2, 3.7598732f), t2, 2.726665f);
    float t6 = (float)((__float_as_int(distance) >> 23) - 127);
    float t7 = __int_as_float(__float_as_int(distance) & 0x007fffff | 0x3f800000);
    float t8 = __fadd_rn(t7, -1.0f);
    float t9 = __fdiv_rn(t8, __fadd_rn(2.0f, t8));
    float t10 = __fmul_rn(t9, t9);
    float t11 = __fmaf_rn(__fmaf_rn(0.2802446f, t10, 0.27999142f), t10, 0.400217f);
    float t12 = __fmaf_rn(__fmul_rn(t9, t10), __fmaf_rn(t11, t10, 0.6666641f), __fadd_rn(t9, t9));
    float t13 = __fmaf_rn(t6, 0.6933594f, __fmaf_rn(t6, -0.00021219444f, t12));
    float t14 = __fsqrt_rn(__fmul_rn(-2.0f, t13));
    float t15 = __fadd_rn(__fdiv_rn(1.0f, t14), -0.3203125f);
    float t16 = __fmaf_rn(__fmaf_rn(-8.206334f, t15, 3.7813566f), t15, -1.4627471f);
    float t17 = __fmaf_rn(__fmaf_rn(__fmaf_rn(t16, t15, 0.95967805f), t15, -0.74857f), t15, 0.7004889f);
    float t18 = __fmaf_rn(__fmaf_rn(t17, t15, -0.9158515f), t15, -1.1127496f);
    return distance < 0.125f ? __fmul_rn(t14, __fmaf_rn(t18, t15, 0.77684945f)) : __fmul_rn(t1, t5);
}
