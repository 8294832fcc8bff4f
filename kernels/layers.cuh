// From one layer to the other: lists of active units, sums of their weights, pre-activations, samples, sums in f64.
#pragma once
#include "elementary.cuh"
#include "uniforms.cuh"
#include "units.cuh"

/// Units of the given layer that are listed at a time: a word of bits for each lane of a warp.
#define TILE 1024u
/// Rows of weights in flight per thread. Only the loads run ahead; additions keep their order.
#define AHEAD 16u

/// The weights in the direction to one layer: row u joins unit u of the given layer to every unit that is made, that is, computed.
/// A row of zeros follows the last one.
struct Side {
    const float* weights;
    const float* bias;
    /// The bias of the model at inverse temperature 0, or null for zeros.
    const float* reference;
    u32 given;
    u32 made;
    u32 stride;
};

/// The states of M chains, chain after chain.
struct Chains {
    /// M x words: the bits that persist.
    u32* hidden;
    const float* betas;
    /// After the last step: visible bits, M x words; visible pre-activations, M x down's stride; hidden means, M x up's stride.
    u32* visible;
    float* visible_pre;
    float* hidden_mean;
};

/// x/255 for x up to 255: the quotient and one step of Newton's method give the nearest `float`, as division does.
__device__ inline float of_byte(u32 x) {
    float whole = (float)x, quotient = __fmul_rn(whole, 1.0f / 255.0f);
    return __fmaf_rn(__fmaf_rn(-quotient, 255.0f, whole), 1.0f / 255.0f, quotient);
}

/// The number of words for the bits of a layer: whole 64-bit words, as on the host.
__device__ inline u32 words_of(u32 units) { return (units + 63) / 64 * 2; }

/// Rows of values: eight-bit ones represent x/255.
struct Rows {
    /// The address of the address of the first value: in device memory, so that one captured graph serves all rows.
    const u64* place;
    /// The address of the address of the mask of missing values, which are 0; null if none is missing.
    const u64* missing;
    u32 rows;
    u32 stride;
    u32 eight_bit;

    __device__ float value(u64 row, u32 i) const {
        if (eight_bit) return of_byte(((const unsigned char*)*place)[row * stride + i]);
        return ((const float*)*place)[row * stride + i];
    }

    /// Whether the value counts as 1 when it is rounded to 0 or 1.
    __device__ bool bit(u64 row, u32 i) const {
        if (eight_bit) return ((const unsigned char*)*place)[row * stride + i] >= 128;
        return ((const float*)*place)[row * stride + i] >= 0.5f;
    }

    __device__ bool is_missing(u64 row, u32 i) const {
        return missing && ((const u32*)*missing)[row * words_of(stride) + i / 32] >> (i % 32) & 1;
    }
};

/// The units of a tile that are not 0, ascending, and their values; then AHEAD times the row of zeros.
struct List {
    u32 units[TILE + AHEAD];
    float values[TILE + AHEAD];
};

/// Lists the units whose bits are set in the words of a tile, ascending, and returns their number. Unit numbers start at
/// `first`, the tile's first unit; `value` returns the value of a unit. The whole block must see the words.
template <class Value>
__device__ u32 list_units(List& list, const u32* words, u32 given, u32 first, Value value) {
    u32 n = (min(given - first, TILE) + 31) / 32;
    u32 lane = threadIdx.x % 32;
    u32 word = lane < n ? words[lane] : 0;
    u32 through = __popc(word);
    for (u32 step = 1; step < 32; step *= 2) {
        u32 lower = __shfl_up_sync(FULL_WARP, through, step);
        if (lane >= step) through += lower;
    }
    for (u32 w = threadIdx.x / 32; w < n; w += blockDim.x / 32) {
        u32 bits = __shfl_sync(FULL_WARP, word, w);
        u32 before = __shfl_sync(FULL_WARP, through, w) - __popc(bits);
        if (bits >> lane & 1) {
            u32 at = before + __popc(bits & ((1u << lane) - 1));
            u32 unit = first + 32 * w + lane;
            list.units[at] = unit;
            list.values[at] = value(unit);
        }
    }
    u32 listed = __shfl_sync(FULL_WARP, through, 31);
    if (threadIdx.x < AHEAD) {
        list.units[listed + threadIdx.x] = given;
        list.values[listed + threadIdx.x] = 0.0f;
    }
    return listed;
}

/// sum + the listed rows' weights for one unit, in list order. The zeros at the end change nothing: no sum is -0.
__device__ inline float add_active(float sum, const float* weights, u32 stride, const List& list, u32 n) {
    for (u32 at = 0; at < n; at += AHEAD) {
        float w[AHEAD];
#pragma unroll
        for (u32 a = 0; a < AHEAD; a++) w[a] = weights[(u64)list.units[at + a] * stride];
#pragma unroll
        for (u32 a = 0; a < AHEAD; a++) sum = __fadd_rn(sum, w[a]);
    }
    return sum;
}

/// The same with a factor for each row, by fused multiply-add.
__device__ inline float add_weighted(float sum, const float* weights, u32 stride, const List& list, u32 n) {
    for (u32 at = 0; at < n; at += AHEAD) {
        float w[AHEAD];
#pragma unroll
        for (u32 a = 0; a < AHEAD; a++) w[a] = weights[(u64)list.units[at + a] * stride];
#pragma unroll
        for (u32 a = 0; a < AHEAD; a++) sum = __fmaf_rn(list.values[at + a], w[a], sum);
    }
    return sum;
}

/// The pre-activation of a unit; 0 if there is no such unit.
__device__ inline float pre_activation(const Side& side, u32 unit, float sum, float beta) {
    if (unit >= side.made) return 0.0f;
    return pre_activation_of(sum, side.bias[unit], side.reference ? side.reference[unit] : 0.0f, beta);
}

/// Computes a layer from packed bits, a unit per thread, in several passes if there are more units: `take` receives each unit and
/// its sum of weights. Threads without a unit take part in every pass, with sum 0. Begins with a barrier, so that the block sees
/// all earlier writes.
template <class Take>
__device__ void layer_from_bits(const Side& side, const u32* words, List& list, Take take) {
    for (u32 first = 0; first < side.made; first += blockDim.x) {
        u32 unit = first + threadIdx.x;
        float sum = 0.0f;
        for (u32 tile = 0; tile < side.given; tile += TILE) {
            __syncthreads();
            u32 n = list_units(list, words + tile / 32, side.given, tile, [](u32) { return 1.0f; });
            __syncthreads();
            if (unit < side.made) sum = add_active(sum, side.weights + unit, side.stride, list, n);
        }
        take(unit, sum);
    }
}

/// The same from a row of real numbers, or of numbers rounded to bits.
template <class Take>
__device__ void layer_from_row(const Side& side, const Rows& rows, u64 row, bool round, List& list, Take take) {
    __shared__ u32 words[TILE / 32];
    for (u32 first = 0; first < side.made; first += blockDim.x) {
        u32 unit = first + threadIdx.x;
        float sum = 0.0f;
        for (u32 tile = 0; tile < side.given; tile += TILE) {
            // A thread that arrives here has passed the last barrier of the previous tile, after which nobody reads its words.
            for (u32 w = threadIdx.x / 32; w < TILE / 32; w += blockDim.x / 32) {
                u32 i = tile + 32 * w + threadIdx.x % 32;
                bool on = i < side.given && (round ? rows.bit(row, i) : rows.value(row, i) != 0.0f);
                u32 word = __ballot_sync(FULL_WARP, on);
                if (threadIdx.x % 32 == 0) words[w] = word;
            }
            __syncthreads();
            u32 n = list_units(list, words, side.given, tile,
                               [&](u32 i) { return round ? 1.0f : rows.value(row, i); });
            __syncthreads();
            if (unit < side.made) sum = add_weighted(sum, side.weights + unit, side.stride, list, n);
        }
        take(unit, sum);
    }
}

/// The units of the warp that are on. A unit is on iff its number u < its mean; its odds of being off decide that at the
/// nearer end of the unit interval. `number`: the generator's output, from which u follows. Units that do not exist are off.
__device__ inline u32 sample_word(bool exists, float odds, u32 number) {
    bool upper = odds < 1.0f;
    return __ballot_sync(FULL_WARP, exists && is_rare(odds, end_distance(number, upper)) != upper);
}

/// The sum of sixteen lanes' partial sums, the upper half added to the lower one until one is left, in lane 0 of the sixteen.
__device__ inline double total(double partial) {
    for (u32 n = 8; n > 0; n /= 2) partial = __dadd_rn(partial, __shfl_down_sync(FULL_WARP, partial, n, 16));
    return partial;
}

/// Adds one term of each thread to sixteen partial sums, which the first sixteen threads hold: unit j's term goes to sum
/// j mod 16, units in ascending order. A barrier must lie between two calls, as it does between two passes of a layer.
__device__ inline double accumulate(double partial, float* terms, float term) {
    terms[threadIdx.x] = term;
    __syncthreads();
    if (threadIdx.x < 16) {
        for (u32 t = threadIdx.x; t < blockDim.x; t += 16) partial = __dadd_rn(partial, (double)terms[t]);
    }
    return partial;
}
