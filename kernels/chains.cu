// Chains: one block carries one chain through all steps. src/cpu/chains.rs and src/cpu/anneal.rs do the same for groups.
#include "layers.cuh"

/// k times v ~ P(v|h), h ~ P(h|v) for the block's chain, whose bits stay in shared memory. `first`: the count of numbers
/// between the generator's position and the first draw. `beta_at` returns the inverse temperature of a step's visible layer,
/// `hidden_pre` a hidden unit's pre-activation from its sum; `end` receives the visible bits at the end of a step.
template <class BetaAt, class HiddenPre, class End>
__device__ void carry(const Side& down, const Side& up, const Chains& chains, const u64* generator, u64 first, u32 k,
                      BetaAt beta_at, HiddenPre hidden_pre, End end) {
    extern __shared__ u32 words[];
    __shared__ List list;
    u64 chain = blockIdx.x, n_chains = gridDim.x;
    u32 hidden_words = words_of(up.made), visible_words = words_of(down.made);
    u32 *hidden = words, *visible = words + hidden_words;
    for (u32 w = threadIdx.x; w < hidden_words; w += blockDim.x) hidden[w] = chains.hidden[chain * hidden_words + w];
    for (u32 w = threadIdx.x; w < visible_words; w += blockDim.x) visible[w] = 0;
    u64 warps_first = threadIdx.x / 32 * 32, state_now = *generator;
    u64 visible_draw = state_of_lane(state_now, first + chain * down.made + warps_first);
    u64 hidden_draw = state_of_lane(state_now, first + n_chains * down.made + chain * up.made + warps_first);
    // From step to step, and from pass to pass of the threads.
    Jump over_a_step = jump_over(n_chains * ((u64)down.made + up.made)), over_a_block = jump_over(blockDim.x);
    for (u32 step = 1; step <= k; step++) {
        float beta = beta_at(step);
        u64 state = visible_draw;
        layer_from_bits(down, hidden, list, [&](u32 unit, float sum) {
            bool exists = unit < down.made;
            float pre = pre_activation(down, unit, sum, beta);
            if (exists && step == k) chains.visible_pre[chain * down.stride + unit] = pre;
            u32 word = sample_word(exists, odds_off(pre), output(state));
            if (exists && unit % 32 == 0) visible[unit / 32] = word;
            state = over_a_block.from(state);
        });
        visible_draw = over_a_step.from(visible_draw);
        state = hidden_draw;
        layer_from_bits(up, visible, list, [&](u32 unit, float sum) {
            bool exists = unit < up.made;
            float pre = hidden_pre(step, unit, sum);
            float odds = odds_off(pre);
            if (exists && step == k) chains.hidden_mean[chain * up.stride + unit] = mean_of_odds(pre, odds);
            u32 word = sample_word(exists, odds, output(state));
            if (exists && unit % 32 == 0) hidden[unit / 32] = word;
            state = over_a_block.from(state);
        });
        hidden_draw = over_a_step.from(hidden_draw);
        end(step, visible);
    }
    __syncthreads();
    for (u32 w = threadIdx.x; w < hidden_words; w += blockDim.x) chains.hidden[chain * hidden_words + w] = hidden[w];
    for (u32 w = threadIdx.x; w < visible_words; w += blockDim.x) chains.visible[chain * visible_words + w] = visible[w];
}

/// k times v ~ P(v|h), h ~ P(h|v), each chain at its own inverse temperature.
extern "C" __global__ void __launch_bounds__(1024, 1)
    sweep(Side down, Side up, Chains chains, const u64* generator, u64 first, u32 k) {
    float beta = chains.betas[blockIdx.x];
    carry(
        down, up, chains, generator, first, k, [&](u32) { return beta; },
        [&](u32, u32 unit, float sum) { return pre_activation(up, unit, sum, beta); }, [](u32, const u32*) {});
}

/// The sum of bias - reference over the visible units that are on, ascending, by a whole warp.
__device__ inline double sum_of_slopes(const Side& down, const u32* visible) {
    double sum = 0.0;
    for (u32 w = 0; w < (down.made + 31) / 32; w++) {
        u32 unit = 32 * w + threadIdx.x % 32;
        double slope = 0.0;
        if (unit < down.made) slope = __dadd_rn((double)down.bias[unit], -(double)down.reference[unit]);
        for (u32 word = visible[w]; word != 0; word &= word - 1) {
            sum = __dadd_rn(sum, __shfl_sync(FULL_WARP, slope, __ffs(word) - 1));
        }
    }
    return sum;
}

/// For each pair of neighbours (beta, beta') in a schedule: v ~ P(v|h) at beta, the log weight gains log p*(v) at beta' minus
/// that at beta, h ~ P(h|v) at beta'.
extern "C" __global__ void __launch_bounds__(1024, 1)
    anneal(Side down, Side up, Chains chains, const u64* generator, const float* betas, u32 pairs, double* log_weights) {
    __shared__ float terms[1024];
    double partial = 0.0;
    carry(
        down, up, chains, generator, 0, pairs, [&](u32 step) { return betas[step - 1]; },
        [&](u32 step, u32 unit, float sum) {
            bool exists = unit < up.made;
            float bias = exists ? up.bias[unit] : 0.0f;
            float before = __fmaf_rn(betas[step - 1], sum, __fmul_rn(betas[step - 1], bias));
            float after = __fmaf_rn(betas[step], sum, __fmul_rn(betas[step], bias));
            partial = accumulate(partial, terms, exists ? __fadd_rn(softplus(after), -softplus(before)) : 0.0f);
            return after;
        },
        [&](u32 step, const u32* visible) {
            if (threadIdx.x < 32) {
                double hidden = total(partial), slopes = sum_of_slopes(down, visible);
                double rise = __dadd_rn((double)betas[step], -(double)betas[step - 1]);
                double gain = __dadd_rn(__dmul_rn(rise, slopes), hidden);
                if (threadIdx.x == 0) log_weights[blockIdx.x] = __dadd_rn(log_weights[blockIdx.x], gain);
                partial = 0.0;
            }
        });
}
