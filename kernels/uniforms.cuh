// The random numbers: one PCG32 sequence, read by position. src/uniforms.rs is the specification.
#pragma once

typedef unsigned int u32;
typedef unsigned long long u64;

#define FULL_WARP 0xffffffffu

/// Some number of steps of the generator at once: s <- multiply*s + add.
struct Jump {
    u64 multiply;
    u64 add;

    /// The state that the jump reaches from state s.
    __device__ u64 from(u64 s) const { return multiply * s + add; }

    /// This jump and then the other.
    __device__ Jump then(Jump other) const {
        return {multiply * other.multiply, other.multiply * add + other.add};
    }
};

/// Jumps over 2^i numbers.
struct Powers {
    Jump of[64] = {};

    __device__ constexpr Powers() {
        of[0] = {6364136223846793005ull, 1442695040888963407ull};
        for (u32 i = 1; i < 64; i++) {
            of[i].multiply = of[i - 1].multiply * of[i - 1].multiply;
            of[i].add = of[i - 1].multiply * of[i - 1].add + of[i - 1].add;
        }
    }
};
__device__ const Powers POWERS;

/// n steps, the same n for all lanes of a warp: each lane multiplies the powers of its bits of n, and the warp combines them.
__device__ inline Jump jump_over(u64 n) {
    u32 lane = threadIdx.x % 32;
    Jump jump = {1, 0};
    if (n >> lane & 1) jump = POWERS.of[lane];
    if (n >> 32 >> lane & 1) jump = jump.then(POWERS.of[32 + lane]);
#pragma unroll
    for (u32 step = 16; step > 0; step /= 2) {
        jump = jump.then({__shfl_xor_sync(FULL_WARP, jump.multiply, step), __shfl_xor_sync(FULL_WARP, jump.add, step)});
    }
    return jump;
}

/// The state n + l numbers after `state`, for lane l.
__device__ inline u64 state_of_lane(u64 state, u64 n) {
    state = jump_over(n).from(state);
    Jump power = {6364136223846793005ull, 1442695040888963407ull};
#pragma unroll
    for (u32 i = 0; i < 5; i++) {
        if (threadIdx.x >> i & 1) state = power.from(state);
        power = power.then(power);
    }
    return state;
}

/// The state n numbers after `state`; n may differ between threads.
__device__ inline u64 state_behind(u64 state, u32 n) {
    for (u32 i = 0; n != 0; i++, n >>= 1) {
        if (n & 1) state = POWERS.of[i].from(state);
    }
    return state;
}

/// The output of the generator in state s: PCG's XSH RR.
__device__ inline u32 output(u64 s) {
    u32 x = (u32)(((s >> 18) ^ s) >> 27);
    u32 turn = (u32)(s >> 59);
    return (x >> turn) | (x << ((32 - turn) & 31));
}

/// The largest multiple of 2^-24 that is not above u = (x + 1/2) 2^-32.
__device__ inline float unit_interval(u32 x) { return __fmul_rn((float)(int)(x >> 8), 1.0f / 16777216.0f); }

/// The distance of u = (x + 1/2) 2^-32 from 0 or, if `upper`, from 1; at most 1/2.
__device__ inline float end_distance(u32 x, bool upper) {
    u32 steps = min(upper ? ~x : x, 0x7fffffffu);
    return __fmaf_rn((float)(int)steps, 1.0f / 4294967296.0f, 0.5f / 4294967296.0f);
}
