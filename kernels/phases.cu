// The positive phase and what frames an update. src/cpu/phases.rs.
#include "layers.cuh"

/// What changes from update to update and so cannot be a launch argument of a captured graph.
struct Turn {
    /// The address of the batch, and that of the words that tell which of its values are missing.
    u64 rows;
    u64 missing;
    /// The visible unit whose pseudo-likelihood is watched.
    u32 bit;
};

/// Points the kernels that follow at some rows and at a bit.
extern "C" __global__ void begin(Turn* turn, u64 rows, u64 missing, u32 bit) {
    turn->rows = rows;
    turn->missing = missing;
    turn->bit = bit;
}

/// A layer from rows: pre-activations, means, and, where there is a generator, samples. A block a row. Null for what is not
/// wanted; `betas` null for 1.
extern "C" __global__ void __launch_bounds__(1024, 1)
    propagate(Side side, Rows rows, u32 round, const float* betas, const u64* generator, float* pre_activations,
              float* means, u32* samples) {
    __shared__ List list;
    u64 row = blockIdx.x;
    u64 state = 0;
    Jump over_a_turn = {1, 0};
    if (generator) {
        state = state_of_lane(*generator, row * side.made + threadIdx.x / 32 * 32);
        over_a_turn = jump_over(blockDim.x);
    }
    float beta = betas ? betas[row] : 1.0f;
    make_from_row(side, rows, row, round, list, [&](u32 unit, float sum) {
        bool exists = unit < side.made;
        float pre = pre_activation(side, unit, sum, beta);
        float odds = odds_off(pre);
        if (exists && pre_activations) pre_activations[row * side.stride + unit] = pre;
        if (exists && means) means[row * side.stride + unit] = mean_of_odds(pre, odds);
        if (generator) {
            u32 word = fire(exists, odds, output(state));
            if (exists && unit % 32 == 0) samples[row * words_of(side.made) + unit / 32] = word;
            state = over_a_turn.from(state);
        }
    });
}

/// watched += the mean of the values; moves the generator on by n. One warp; one thread adds: the order of the sum is the CPU's.
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
