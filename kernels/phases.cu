// The positive phase, and the begin and end of an update. src/cpu/phases.rs.
#include "layers.cuh"

/// The values that change between updates and so cannot be launch arguments of a captured graph.
struct Cursor {
    /// The addresses of the batch and of the mask of its missing values.
    u64 rows;
    u64 missing;
    /// The visible unit whose pseudo-likelihood is monitored.
    u32 bit;
};

/// Points the kernels that follow at some rows and one of their bits.
extern "C" __global__ void begin(Cursor* cursor, u64 rows, u64 missing, u32 bit) {
    cursor->rows = rows;
    cursor->missing = missing;
    cursor->bit = bit;
}

/// A layer from rows: pre-activations, means, and, if there is a generator, samples. A block per row. Null for outputs that are not
/// needed; `betas` null for 1.
extern "C" __global__ void __launch_bounds__(1024, 1)
    propagate(Side side, Rows rows, u32 round, const float* betas, const u64* generator, float* pre_activations,
              float* means, u32* samples) {
    __shared__ List list;
    u64 row = blockIdx.x;
    u64 state = 0;
    Jump over_a_block = {1, 0};
    if (generator) {
        state = state_of_lane(*generator, row * side.made + threadIdx.x / 32 * 32);
        over_a_block = jump_over(blockDim.x);
    }
    float beta = betas ? betas[row] : 1.0f;
    layer_from_row(side, rows, row, round, list, [&](u32 unit, float sum) {
        bool exists = unit < side.made;
        float pre = pre_activation(side, unit, sum, beta);
        float odds = odds_off(pre);
        if (exists && pre_activations) pre_activations[row * side.stride + unit] = pre;
        if (exists && means) means[row * side.stride + unit] = mean_of_odds(pre, odds);
        if (generator) {
            u32 word = sample_word(exists, odds, output(state));
            if (exists && unit % 32 == 0) samples[row * words_of(side.made) + unit / 32] = word;
            state = over_a_block.from(state);
        }
    });
}

/// watched += the mean of the values; advances the generator by n. One warp; one thread adds: the order of the sum is the CPU's.
extern "C" __global__ void __launch_bounds__(32)
    finish(u64* generator, u64 n, const double* values, u32 rows, double* watched) {
    Jump jump = jump_over(n);
    if (threadIdx.x > 0) return;
    *generator = jump.from(*generator);
    if (rows > 0) {
        double sum = -0.0;
#pragma unroll 8
        for (u32 r = 0; r < rows; r++) sum = __dadd_rn(sum, values[r]);
        *watched = __dadd_rn(*watched, __ddiv_rn(sum, (double)rows));
    }
}
