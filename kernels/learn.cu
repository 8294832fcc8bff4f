// Gradient and update: one pass over the weights. src/cpu/learn.rs has the formulas and their order.
#include "layers.cuh"

/// Rows of one sum in flight for each thread.
#define TERMS_AHEAD 4u

/// The two phases' statistics and their scales.
struct Statistics {
    Rows rows;
    /// The weight of each row, or null for 1.
    const float* row_weights;
    /// P, rows x stride.
    const float* positive;
    /// The visible bits of the chains, and the hidden means that belong to them, N.
    const u32* visible;
    const float* negative;
    u32 chains;
    /// 1/B and 1/M.
    float positive_scale;
    float negative_scale;
};

/// Parameters, or room for a gradient in the same layout.
struct Parameters {
    float* weights;
    /// Null in a gradient.
    float* transposed;
    float* visible_bias;
    float* hidden_bias;
    u32 n_visible;
    u32 n_hidden;
    u32 weights_stride;
    u32 transposed_stride;
};

/// theta <- theta - lr*gradient, or where not `update` the gradient itself.
struct Step {
    u32 update;
    float lr;

    /// `s` has the scales of both sums.
    template <class S>
    __device__ void take(float* parameter, const S& s, float positive, float negative) const {
        float gradient = __fmaf_rn(negative, s.negative_scale, -__fmul_rn(positive, s.positive_scale));
        *parameter = update ? __fmaf_rn(-lr, gradient, *parameter) : gradient;
    }
};

/// Takes the set bits of a mask off from below, TERMS_AHEAD at a time; -1 where there are no more. What is loaded for
/// those is added as 0, which changes nothing: no sum is -0.
__device__ inline void next_places(u32& mask, int* places) {
#pragma unroll
    for (u32 a = 0; a < TERMS_AHEAD; a++) {
        places[a] = __ffs(mask) - 1;
        mask &= mask - 1;
    }
}

/// A block of 32 x 8 threads a tile of 32 visible x 32 hidden units; a warp a visible unit at a time, a lane a hidden one.
extern "C" __global__ void __launch_bounds__(256) learn(Statistics s, Parameters parameters, Step step) {
    __shared__ float tile[32][33];
    const Parameters& p = parameters;
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 hidden_tiles = (p.n_hidden + 31) / 32;
    u32 first_i = blockIdx.x / hidden_tiles * 32, first_j = blockIdx.x % hidden_tiles * 32;
    u32 j = first_j + lane;
    bool exists = j < p.n_hidden;
    for (u32 i = first_i + warp; i < min(first_i + 32, p.n_visible); i += 8) {
        float positive = 0.0f, of_bias = 0.0f;
        for (u32 first = 0; first < s.rows.rows; first += 32) {
            u32 row = first + lane;
            float x = row < s.rows.rows ? s.rows.value(row, i) : 0.0f;
            u32 mask = __ballot_sync(FULL_WARP, x != 0.0f);
            if (s.row_weights && row < s.rows.rows) x = __fmul_rn(s.row_weights[row], x);
            while (mask) {
                int places[TERMS_AHEAD];
                float means[TERMS_AHEAD];
                next_places(mask, places);
#pragma unroll
                for (u32 a = 0; a < TERMS_AHEAD; a++) {
                    means[a] = s.positive[(u64)(first + max(places[a], 0)) * p.weights_stride + j];
                }
#pragma unroll
                for (u32 a = 0; a < TERMS_AHEAD; a++) {
                    float xa = __shfl_sync(FULL_WARP, x, places[a] & 31);
                    xa = places[a] >= 0 ? xa : 0.0f;
                    positive = __fmaf_rn(xa, means[a], positive);
                    of_bias = __fadd_rn(of_bias, xa);
                }
            }
        }
        float negative = 0.0f;
        u32 on = 0;
        for (u32 first = 0; first < s.chains; first += 32) {
            u32 chain = first + lane;
            u32 word = chain < s.chains ? s.visible[(u64)chain * words_of(p.n_visible) + i / 32] : 0;
            u32 mask = __ballot_sync(FULL_WARP, word >> (i % 32) & 1);
            on += __popc(mask);
            while (mask) {
                int places[TERMS_AHEAD];
                float means[TERMS_AHEAD];
                next_places(mask, places);
#pragma unroll
                for (u32 a = 0; a < TERMS_AHEAD; a++) {
                    means[a] = s.negative[(u64)(first + max(places[a], 0)) * p.weights_stride + j];
                }
#pragma unroll
                for (u32 a = 0; a < TERMS_AHEAD; a++) {
                    negative = __fadd_rn(negative, places[a] >= 0 ? means[a] : 0.0f);
                }
            }
        }
        if (exists) {
            float* weight = p.weights + (u64)i * p.weights_stride + j;
            step.take(weight, s, positive, negative);
            tile[i - first_i][lane] = *weight;
        }
        if (first_j == 0 && lane == 0) step.take(p.visible_bias + i, s, of_bias, (float)on);
    }
    if (first_i == 0 && warp == 0 && exists) {
        float positive = 0.0f, negative = 0.0f;
#pragma unroll 8
        for (u32 row = 0; row < s.rows.rows; row++) {
            float weight = s.row_weights ? s.row_weights[row] : 1.0f;
            positive = __fmaf_rn(weight, s.positive[(u64)row * p.weights_stride + j], positive);
        }
#pragma unroll 8
        for (u32 chain = 0; chain < s.chains; chain++) {
            negative = __fadd_rn(negative, s.negative[(u64)chain * p.weights_stride + j]);
        }
        step.take(p.hidden_bias + j, s, positive, negative);
    }
    if (p.transposed) {
        __syncthreads();
        u32 i = first_i + lane;
        for (u32 j = first_j + warp; j < min(first_j + 32, p.n_hidden); j += 8) {
            if (i < p.n_visible) p.transposed[(u64)j * p.transposed_stride + i] = tile[lane][j - first_j];
        }
    }
}

/// theta <- theta - lr*gradient for n parameters.
extern "C" __global__ void descend(float* parameters, const float* gradient, float lr, u64 n) {
    u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at < n) parameters[at] = __fmaf_rn(-lr, gradient[at], parameters[at]);
}

/// The transposed weights. A block of 32 x 8 threads a tile of 32 x 32.
extern "C" __global__ void __launch_bounds__(256) transpose(Parameters p) {
    __shared__ float tile[32][33];
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 hidden_tiles = (p.n_hidden + 31) / 32;
    u32 first_i = blockIdx.x / hidden_tiles * 32, first_j = blockIdx.x % hidden_tiles * 32;
    for (u32 i = first_i + warp; i < min(first_i + 32, p.n_visible); i += 8) {
        u32 j = first_j + lane;
        if (j < p.n_hidden) tile[i - first_i][lane] = p.weights[(u64)i * p.weights_stride + j];
    }
    __syncthreads();
    for (u32 j = first_j + warp; j < min(first_j + 32, p.n_hidden); j += 8) {
        u32 i = first_i + lane;
        if (i < p.n_visible) p.transposed[(u64)j * p.transposed_stride + i] = tile[lane][j - first_j];
    }
}
