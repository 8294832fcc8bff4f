// exp, sigmoid and softplus: src/elementary.rs operation by operation, hence the same bits.
#pragma once

#define EXP_MIN (-87.3f)
#define LOG2_E 1.44269504088896340736f
#define LN_2_HIGH 0.6933594f
#define LN_2_LOW (-2.1219444e-4f)

/// e^x for x within [EXP_MIN, 88.72]: x = n ln 2 + r with r in [0, ln 2).
__device__ inline float exp_within(float x) {
    float n = floorf(__fmul_rn(x, LOG2_E));
    float r = __fmaf_rn(n, -LN_2_LOW, __fmaf_rn(n, -LN_2_HIGH, x));
    float q = 0.00194877f;
    q = __fmaf_rn(q, r, 0.0077922726f);
    q = __fmaf_rn(q, r, 0.041914992f);
    q = __fmaf_rn(q, r, 0.16661014f);
    q = __fmaf_rn(q, r, 0.50000584f);
    q = __fmaf_rn(q, r, 0.9999998f);
    // The bits of 1.5*2^23 + m end in m: the addition makes the biased exponent of 2^n, the shift puts it in its place.
    float power = __int_as_float(__float_as_int(__fadd_rn(n, 127.0f + 12582912.0f)) << 23);
    return __fmul_rn(__fmaf_rn(q, r, 1.0f), power);
}

/// e^-x, the odds that a unit with pre-activation x is off, for x as near to 0 as +-87.3.
__device__ inline float odds_off(float x) {
    float a = -x;
    a = a < EXP_MIN ? EXP_MIN : a;
    a = -EXP_MIN < a ? -EXP_MIN : a;
    return exp_within(a);
}

/// The sigmoid of x, within [0, 1], from the odds that belong to x.
__device__ inline float mean_of_odds(float x, float odds) {
    float y = __fdiv_rn(1.0f, __fadd_rn(1.0f, odds));
    return x < EXP_MIN ? 0.0f : y;
}

/// 1/(1 + e^-x), within [0, 1].
__device__ inline float sigmoid(float x) { return mean_of_odds(x, odds_off(x)); }

/// ln(1 + t) for t within [0, 1], as 2 atanh(t/(2 + t)).
__device__ inline float ln_1p(float t) {
    float s = __fdiv_rn(t, __fadd_rn(2.0f, t));
    float z = __fmul_rn(s, s);
    float q = 0.2802446f;
    q = __fmaf_rn(q, z, 0.27999142f);
    q = __fmaf_rn(q, z, 0.400217f);
    q = __fmaf_rn(q, z, 0.6666641f);
    return __fmaf_rn(__fmul_rn(s, z), q, __fadd_rn(s, s));
}

/// ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|).
__device__ inline float softplus(float x) {
    float a = x < -x ? x : -x;
    float e = exp_within(a < EXP_MIN ? EXP_MIN : a);
    float t = a < EXP_MIN ? 0.0f : e;
    return __fadd_rn(x < 0.0f ? 0.0f : x, ln_1p(t));
}
