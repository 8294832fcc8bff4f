// Printed from the functions of src/descent/, which document the formulas: see src/lanes/printed.rs.
#pragma once

/// x moved towards another number.
__device__ inline float slide(float x, float to, float rate) {
    return __fmaf_rn(rate, __fadd_rn(to, -x), x);
}

/// The centre of a visible unit with this offset: 0 if the offset is tiny.
__device__ inline float centre_of(float offset) {
    return (-offset < offset ? offset : -offset) < 0.001f ? 0.0f : offset;
}

/// The gradient of weights with a visible unit of this centre.
__device__ inline float centred(float gradient, float centre, float slope) {
    return __fmaf_rn(-centre, slope, gradient);
}

/// An offset after an update whose rows have this mean.
__device__ inline float next_offset(float offset, float mean, float rate) {
    float t1 = __fmaf_rn(rate, __fadd_rn(mean, -offset), offset);
    float t2 = -t1;
    return (t2 < t1 ? t1 : t2) < 1e-30f ? 0.0f : t1;
}

/// The sparsity penalty on hidden means.
__device__ inline float pull(float mean, float target, float cost) {
    return __fmul_rn(cost, __fadd_rn(mean, -target));
}

/// keep times a weight, moved towards 0 by shrink.
__device__ inline float shrunk(float weight, float keep, float shrink) {
    float t1 = __fmul_rn(weight, keep);
    float t2 = -t1;
    float t3 = (t2 < t1 ? t1 : t2) < 1e-30f ? 0.0f : t1;
    float t4 = t3 < -shrink ? -shrink : t3;
    return __fadd_rn(t3, -(shrink < t4 ? shrink : t4));
}

/// The velocity after an update.
__device__ inline float next_velocity(float velocity, float momentum, float lr, float gradient) {
    float t1 = __fmaf_rn(-lr, gradient, __fmul_rn(momentum, velocity));
    float t2 = -t1;
    return (t2 < t1 ? t1 : t2) < 1e-30f ? 0.0f : t1;
}
