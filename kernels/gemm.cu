// Sums by cuBLAS: it computes the sums over a layer, these kernels everything else.
//
// States are numbers 0 and 1, rows x stride, the format of a matrix product. Sums are in the memory of pre-activations or means:
// a thread reads its sum before it overwrites it.
#include "layers.cuh"

/// Rows that a block of `activate` computes one after the other: one jump in the random sequence serves them all.
#define ROWS_A_BLOCK 8u
/// Rows that a block of `learn_bias` adds up at a time.
#define ROWS_AT_ONCE 32u

/// The unit of a thread and the rows of its block; blocks go over a row first, `rows` at a time.
struct Place {
    u64 first_row;
    u32 unit;

    __device__ Place(u32 units, u32 rows) {
        u32 tiles = (units + blockDim.x - 1) / blockDim.x;
        first_row = (u64)(blockIdx.x / tiles) * rows;
        unit = blockIdx.x % tiles * blockDim.x + threadIdx.x;
    }
};

/// Rows of data as numbers, rounded to bits if `round`, times the weight of each row unless that is null.
extern "C" __global__ void __launch_bounds__(256)
    numbers_of_rows(Rows rows, u32 round, const float* row_weights, float* out, u32 stride) {
    Place at(rows.stride, 1);
    if (at.unit >= rows.stride) return;
    float x = round ? (rows.bit(at.first_row, at.unit) ? 1.0f : 0.0f) : rows.value(at.first_row, at.unit);
    if (row_weights) x = __fmul_rn(row_weights[at.first_row], x);
    out[at.first_row * stride + at.unit] = x;
}

/// Packed bits as numbers.
extern "C" __global__ void __launch_bounds__(256) numbers_of_bits(const u32* bits, u32 units, float* out, u32 stride) {
    Place at(units, 1);
    if (at.unit >= units) return;
    u32 word = bits[at.first_row * words_of(units) + at.unit / 32];
    out[at.first_row * stride + at.unit] = (float)(word >> (at.unit % 32) & 1);
}

/// The rest of a layer, from its sums: pre-activations, means, and, if there is a generator, samples, as numbers and as bits.
/// Null for outputs that are not needed. `betas` null for 1, else row r's is number r*beta_step; `first`: the count of numbers
/// between the generator's position and the first draw.
extern "C" __global__ void __launch_bounds__(256)
    activate(Side side, u32 rows, const float* sums, const float* betas, u32 beta_step, const u64* generator, u64 first,
             float* pre_activations, float* means, float* states, u32* bits) {
    Place at(side.made, ROWS_A_BLOCK);
    bool exists = at.unit < side.made;
    u64 state = 0;
    Jump over_a_row = {1, 0};
    if (generator) {
        state = state_of_lane(*generator, first + at.first_row * side.made + at.unit / 32 * 32);
        over_a_row = jump_over(side.made);
    }
    u64 end = min(at.first_row + ROWS_A_BLOCK, (u64)rows);
    for (u64 row = at.first_row; row < end; row++) {
        u64 place = row * side.stride + at.unit;
        float beta = betas ? betas[row * beta_step] : 1.0f;
        float pre = pre_activation(side, at.unit, exists ? sums[place] : 0.0f, beta);
        float odds = odds_off(pre);
        if (exists && pre_activations) pre_activations[place] = pre;
        if (exists && means) means[place] = mean_of_odds(pre, odds);
        if (generator) {
            u32 word = sample_word(exists, odds, output(state));
            if (exists && states) states[place] = (float)(word >> (threadIdx.x % 32) & 1);
            if (exists && bits && at.unit % 32 == 0) bits[row * words_of(side.made) + at.unit / 32] = word;
            state = over_a_row.from(state);
        }
    }
}

/// F(v) = -b v - sum_j sp(c_j + (vW)_j) of each row, from its hidden sums. Sixteen threads per row.
extern "C" __global__ void __launch_bounds__(128)
    free_energy_of_sums(Side up, Rows rows, const float* visible_bias, const float* sums, double* out) {
    u64 row = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / 16;
    u32 lane = threadIdx.x % 16;
    bool exists = row < rows.rows;
    double bias = 0.0, hidden = 0.0;
    for (u32 i = exists ? lane : up.given; i < up.given; i += 16) {
        bias = __dadd_rn(bias, __dmul_rn((double)rows.value(row, i), (double)visible_bias[i]));
    }
    for (u32 j = exists ? lane : up.made; j < up.made; j += 16) {
        hidden = __dadd_rn(hidden, (double)softplus(pre_activation(up, j, sums[row * up.stride + j], 1.0f)));
    }
    double all_bias = total(bias), all = total(hidden);
    if (exists && lane == 0) out[row] = __dadd_rn(-all_bias, -all);
}

/// n_visible log P(x_i|x_-i) of each row for one bit i, from the hidden sums of the rounded row. Sixteen threads per row.
extern "C" __global__ void __launch_bounds__(128)
    pseudo_likelihood_of_sums(Side up, Rows rows, const float* visible_bias, const u32* place_of_bit, const float* sums,
                              double* out) {
    u64 row = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / 16;
    u32 lane = threadIdx.x % 16, bit = *place_of_bit;
    bool exists = row < rows.rows;
    bool x = exists && rows.bit(row, bit);
    const float* weights = up.weights + (u64)bit * up.stride;
    double added = 0.0;
    for (u32 j = exists ? lane : up.made; j < up.made; j += 16) {
        float pre = pre_activation(up, j, sums[row * up.stride + j], 1.0f);
        added = __dadd_rn(added, (double)flip(x, weights[j], pre, softplus(pre)));
    }
    double all = total(added);
    if (!exists || lane > 0) return;
    out[row] = rows.is_missing(row, bit) ? 0.0 : __dmul_rn((double)up.given, of_bit(x, visible_bias[bit], all));
}

/// The gain of each log weight from betas[0] to betas[1]. `states`: the visible states at betas[0]; `sums`: their hidden
/// sums. Sixteen threads per chain.
extern "C" __global__ void __launch_bounds__(128) gain(Side down, Side up, u32 chains, const float* states,
                                                       const float* sums, const float* betas, double* log_weights) {
    u64 chain = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / 16;
    u32 lane = threadIdx.x % 16;
    bool exists = chain < chains;
    double slopes = 0.0, hidden = 0.0;
    for (u32 i = exists ? lane : down.made; i < down.made; i += 16) {
        double slope = __dadd_rn((double)down.bias[i], -(double)down.reference[i]);
        slopes = __dadd_rn(slopes, __dmul_rn((double)states[chain * down.stride + i], slope));
    }
    for (u32 j = exists ? lane : up.made; j < up.made; j += 16) {
        float sum = sums[chain * up.stride + j];
        float before = pre_activation(up, j, sum, betas[0]), after = pre_activation(up, j, sum, betas[1]);
        hidden = __dadd_rn(hidden, (double)__fadd_rn(softplus(after), -softplus(before)));
    }
    double all_slopes = total(slopes), all = total(hidden);
    if (exists && lane == 0) {
        double rise = __dadd_rn((double)betas[1], -(double)betas[0]);
        double more = __dadd_rn(__dmul_rn(rise, all_slopes), all);
        log_weights[chain] = __dadd_rn(log_weights[chain], more);
    }
}

/// The values from which the biases of one layer learn, rows x stride: the data's states or means, each row times its weight unless
/// that is null, and the chains'.
struct Means {
    const float* positive;
    const float* row_weights;
    const float* negative;
    u32 rows;
    u32 chains;
    u32 units;
    u32 stride;
    /// 1/B and 1/M.
    float positive_scale;
    float negative_scale;
};

/// The sum of a column over the rows of a lane of the block, every ROWS_AT_ONCE-th, ascending.
__device__ inline float sum_of_lane(const float* values, const float* weights, u32 rows, u32 stride, u32 unit) {
    float sum = 0.0f;
#pragma unroll 8
    for (u32 row = threadIdx.x / 32; row < rows; row += ROWS_AT_ONCE) {
        sum = __fmaf_rn(weights ? weights[row] : 1.0f, values[(u64)row * stride + unit], sum);
    }
    return sum;
}

/// theta <- theta - lr*gradient for the biases of a layer. A block per 32 units; a warp per lane of rows; the lanes' sums are added
/// in their order.
extern "C" __global__ void __launch_bounds__(1024) learn_bias(Means m, float* bias, Step step) {
    __shared__ float positive[ROWS_AT_ONCE][32], negative[ROWS_AT_ONCE][32];
    u32 column = threadIdx.x % 32, lane = threadIdx.x / 32;
    u32 unit = blockIdx.x * 32 + column;
    bool exists = unit < m.units;
    positive[lane][column] = exists ? sum_of_lane(m.positive, m.row_weights, m.rows, m.stride, unit) : 0.0f;
    negative[lane][column] = exists ? sum_of_lane(m.negative, 0, m.chains, m.stride, unit) : 0.0f;
    __syncthreads();
    if (lane > 0 || !exists) return;
    float all_positive = 0.0f, all_negative = 0.0f;
    for (u32 l = 0; l < ROWS_AT_ONCE; l++) {
        all_positive = __fadd_rn(all_positive, positive[l][column]);
        all_negative = __fadd_rn(all_negative, negative[l][column]);
    }
    step.take(bias + unit, m, all_positive, all_negative);
}
