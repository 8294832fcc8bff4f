// Gradient and update: one pass over the weights. src/cpu/learn.rs has the formulas and their order.
#include "layers.cuh"

/// Rows of one sum in flight per thread.
#define TERMS_AHEAD 4u
/// Visible and hidden units per block of `learn`.
#define LEARN_VISIBLE 8u
#define LEARN_HIDDEN 64u

/// The two phases' statistics and their scales.
struct Statistics {
    Rows rows;
    /// The weight of each row, or null for 1.
    const float* row_weights;
    /// P, rows x stride.
    const float* positive;
    /// The visible bits of the chains, and their hidden means, N.
    const u32* visible;
    const float* negative;
    u32 chains;
    /// 1/B and 1/M.
    float positive_scale;
    float negative_scale;
    /// The visible units of the chains as rows if `visible` is null.
    Rows ends;

    /// A visible unit of a chain.
    __device__ float end(u64 chain, u32 i, u32 n_visible) const {
        if (!visible) return ends.value(chain, i);
        return (float)(visible[chain * words_of(n_visible) + i / 32] >> (i % 32) & 1);
    }
};

/// Parameters, or a gradient in the same layout.
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

/// A visible unit and the first of two hidden ones, and the index of their weights in a matrix with the layout of all weights.
struct Pair {
    u32 visible;
    u32 hidden;
    u64 place;
    /// Lanes beyond the last unit have the index of others.
    bool exists;
};

/// The gradient from both sums; `s` has their scales.
template <class S>
__device__ inline float gradient_of(const S& s, float positive, float negative) {
    return __fmaf_rn(negative, s.negative_scale, -__fmul_rn(positive, s.positive_scale));
}

/// theta <- theta - lr*gradient, or without `update` the gradient itself.
struct Step {
    u32 update;
    float lr;

    /// Whether it reads the old weights, and whether it also learns biases.
    __device__ bool reads() const { return update; }
    static constexpr bool BIASES = true;

    template <class S>
    __device__ void take(float* parameter, const S& s, float positive, float negative) const {
        float gradient = gradient_of(s, positive, negative);
        *parameter = update ? __fmaf_rn(-lr, gradient, *parameter) : gradient;
    }

    /// The weights of one visible unit and two hidden ones.
    __device__ void take(float2* weights, const Statistics& s, float2 positive, float2 negative, Pair) const {
        take(&weights->x, s, positive.x, negative.x);
        take(&weights->y, s, positive.y, negative.y);
    }
};

/// Removes the lowest set bits of a mask, TERMS_AHEAD at a time, and returns their places; -1 if there are no more. Values
/// loaded for
/// -1 are added as 0, which changes nothing: no sum is -0.
__device__ inline void next_places(u32& mask, int* places) {
#pragma unroll
    for (u32 a = 0; a < TERMS_AHEAD; a++) {
        places[a] = __ffs(mask) - 1;
        mask &= mask - 1;
    }
}

/// Two neighbours of a row of means.
__device__ inline float2 pair(const float* means, u64 row, u32 stride, u32 j) {
    return *(const float2*)(means + row * stride + j);
}

/// Adds up the value of unit i in each row times two neighbours of that row's means; `of_bias` is the sum of the values. By a
/// whole warp, each lane with its own j.
__device__ inline void add_rows(const Rows& rows, const float* row_weights, const float* all_means, u32 stride, u32 i, u32 j,
                                float2& sum, float& of_bias) {
    u32 lane = threadIdx.x % 32;
    for (u32 first = 0; first < rows.rows; first += 32) {
        u32 row = first + lane;
        float x = row < rows.rows ? rows.value(row, i) : 0.0f;
        u32 mask = __ballot_sync(FULL_WARP, x != 0.0f);
        if (row_weights && row < rows.rows) x = __fmul_rn(row_weights[row], x);
        while (mask) {
            int places[TERMS_AHEAD];
            float2 means[TERMS_AHEAD];
            next_places(mask, places);
#pragma unroll
            for (u32 a = 0; a < TERMS_AHEAD; a++) means[a] = pair(all_means, first + max(places[a], 0), stride, j);
#pragma unroll
            for (u32 a = 0; a < TERMS_AHEAD; a++) {
                float xa = __shfl_sync(FULL_WARP, x, places[a] & 31);
                xa = places[a] >= 0 ? xa : 0.0f;
                sum = {__fmaf_rn(xa, means[a].x, sum.x), __fmaf_rn(xa, means[a].y, sum.y)};
                of_bias = __fadd_rn(of_bias, xa);
            }
        }
    }
}

/// The step of the biases of a lane's two hidden units.
__device__ inline void learn_hidden_bias(const Statistics& s, const Parameters& p, const Step& step, u32 j) {
    float2 positive = {0.0f, 0.0f}, negative = {0.0f, 0.0f};
#pragma unroll 8
    for (u32 row = 0; row < s.rows.rows; row++) {
        float weight = s.row_weights ? s.row_weights[row] : 1.0f;
        float2 means = pair(s.positive, row, p.weights_stride, j);
        positive = {__fmaf_rn(weight, means.x, positive.x), __fmaf_rn(weight, means.y, positive.y)};
    }
#pragma unroll 8
    for (u32 chain = 0; chain < s.chains; chain++) {
        float2 means = pair(s.negative, chain, p.weights_stride, j);
        negative = {__fadd_rn(negative.x, means.x), __fadd_rn(negative.y, means.y)};
    }
    if (j < p.n_hidden) step.take(p.hidden_bias + j, s, positive.x, negative.x);
    if (j + 1 < p.n_hidden) step.take(p.hidden_bias + j + 1, s, positive.y, negative.y);
}

/// A block of 32 x 8 threads per tile of 8 visible x 64 hidden units; a warp per visible unit, a lane per two hidden ones.
/// `NUMBERS`: whether the chains' visible units are numbers instead of bits.
template <bool NUMBERS, class Step>
__device__ inline void learn_tile(const Statistics& s, const Parameters& p, const Step& step) {
    __shared__ float tile[LEARN_HIDDEN][LEARN_VISIBLE + 1];
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 hidden_tiles = (p.n_hidden + LEARN_HIDDEN - 1) / LEARN_HIDDEN;
    u32 first_i = blockIdx.x / hidden_tiles * LEARN_VISIBLE, first_j = blockIdx.x % hidden_tiles * LEARN_HIDDEN;
    u32 i = first_i + warp, j = first_j + 2 * lane;
    // Rows end with whole words, but not with whole tiles: lanes beyond the end read the first units and store nothing.
    if (j >= p.weights_stride) j = 0;
    bool exists = first_j + 2 * lane < p.n_hidden, second = first_j + 2 * lane + 1 < p.n_hidden;
    if (i < p.n_visible) {
        float* weight = p.weights + (u64)i * p.weights_stride + j;
        float2 weights = {0.0f, 0.0f};
        if (step.reads() && exists) weights = *(const float2*)weight;
        float2 positive = {0.0f, 0.0f}, negative = {0.0f, 0.0f};
        float of_bias = 0.0f;
        add_rows(s.rows, s.row_weights, s.positive, p.weights_stride, i, j, positive, of_bias);
        float of_ends = 0.0f;
        if constexpr (NUMBERS) add_rows(s.ends, 0, s.negative, p.weights_stride, i, j, negative, of_ends);
        u32 on = 0;
        for (u32 first = 0; !NUMBERS && first < s.chains; first += 32) {
            u32 chain = first + lane;
            u32 word = chain < s.chains ? s.visible[(u64)chain * words_of(p.n_visible) + i / 32] : 0;
            u32 mask = __ballot_sync(FULL_WARP, word >> (i % 32) & 1);
            on += __popc(mask);
            while (mask) {
                int places[TERMS_AHEAD];
                float2 means[TERMS_AHEAD];
                next_places(mask, places);
#pragma unroll
                for (u32 a = 0; a < TERMS_AHEAD; a++) {
                    means[a] = pair(s.negative, first + max(places[a], 0), p.weights_stride, j);
                }
#pragma unroll
                for (u32 a = 0; a < TERMS_AHEAD; a++) {
                    if (places[a] < 0) means[a] = {0.0f, 0.0f};
                    negative = {__fadd_rn(negative.x, means[a].x), __fadd_rn(negative.y, means[a].y)};
                }
            }
        }
        step.take(&weights, s, positive, negative, Pair{i, j, (u64)i * p.weights_stride + j, exists});
        if (second) {
            *(float2*)weight = weights;
        } else if (exists) {
            *weight = weights.x;
        }
        tile[2 * lane][warp] = weights.x;
        tile[2 * lane + 1][warp] = weights.y;
        if constexpr (Step::BIASES) {
            if (first_j == 0 && lane == 0) step.take(p.visible_bias + i, s, of_bias, NUMBERS ? of_ends : (float)on);
        }
    }
    if constexpr (Step::BIASES) {
        if (first_i == 0 && warp == LEARN_VISIBLE - 1 && exists) learn_hidden_bias(s, p, step, j);
    }
    if (p.transposed) {
        __syncthreads();
        u32 i = first_i + threadIdx.x % LEARN_VISIBLE;
        for (u32 n = threadIdx.x / LEARN_VISIBLE; n < min(LEARN_HIDDEN, p.n_hidden - first_j); n += 256 / LEARN_VISIBLE) {
            if (i < p.n_visible) p.transposed[(u64)(first_j + n) * p.transposed_stride + i] = tile[n][i - first_i];
        }
    }
}

/// Weights and biases in one pass, by the plain step.
extern "C" __global__ void __launch_bounds__(256) learn(Statistics s, Parameters p, Step step) {
    learn_tile<false>(s, p, step);
}
extern "C" __global__ void __launch_bounds__(256) learn_from_numbers(Statistics s, Parameters p, Step step) {
    learn_tile<true>(s, p, step);
}

/// theta <- theta - lr*gradient for n parameters.
extern "C" __global__ void descend(float* parameters, const float* gradient, float lr, u64 n) {
    u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at < n) parameters[at] = __fmaf_rn(-lr, gradient[at], parameters[at]);
}

/// The transposed weights. A block of 32 x 8 threads per tile of 32 x 32.
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
