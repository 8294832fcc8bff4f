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

/// How far u = (x + 1/2) 2^-32 is from 0 or, where `upper` holds, from 1; 1/2 where it is more.
__device__ inline float end_distance(u32 x, bool upper) {
    u32 steps = min(upper ? ~x : x, 0x7fffffffu);
    return __fmaf_rn((float)(int)steps, 1.0f / 4294967296.0f, 0.5f / 4294967296.0f);
}
