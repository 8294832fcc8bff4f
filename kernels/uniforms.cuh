// The random numbers: one PCG32 sequence, read by position. src/uniforms.rs is the specification.
#pragma once

typedef unsigned int u32;
typedef unsigned long long u64;

/// Some number of steps of the generator at once: s <- multiply*s + add.
struct Jump {
    u64 multiply;
    u64 add;

    /// Where the jump leads from state s.
    __device__ u64 from(u64 s) const { return multiply * s + add; }

    /// This jump and then the other.
    __device__ Jump then(Jump other) const {
        return {multiply * other.multiply, other.multiply * add + other.add};
    }
};

/// n steps, in O(log n).
__device__ inline Jump jump_over(u64 n) {
    Jump jump = {1, 0};
    Jump power = {6364136223846793005ull, 1442695040888963407ull};
    for (; n > 0; n >>= 1) {
        if (n & 1) jump = jump.then(power);
        power = power.then(power);
    }
    return jump;
}

/// The output of the generator in state s: PCG's XSH RR.
__device__ inline u32 output(u64 s) {
    u32 x = (u32)(((s >> 18) ^ s) >> 27);
    u32 turn = (u32)(s >> 59);
    return (x >> turn) | (x << ((32 - turn) & 31));
}

/// The number u in [0, 1), a multiple of 2^-24, that a draw x stands for. Exact: 24 bits times a power of two.
__device__ inline float unit_interval(u32 x) { return __fmul_rn((float)(int)(x >> 8), 1.0f / 16777216.0f); }
