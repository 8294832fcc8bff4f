// Many chains: a block keeps the weights to some units, a strip, in its shared memory and computes these units for one chain
// after the other; a kernel computes a layer of all chains. Shared memory delivers weights several times as fast as the
// second-level cache.
#include "layers.cuh"

typedef unsigned short u16;

/// Units of a strip, warps of a block, and chains that a warp carries at a time.
#define STRIP 64u
#define STRIP_WARPS 16u
#define CHAINS_AT_ONCE 8u
/// Rows of weights in flight per thread.
#define STRIP_AHEAD 8u

/// Lists the rows of a tile whose bits are set in the lanes' words, ascending, and returns their number; then STRIP_AHEAD
/// times the row of zeros.
__device__ inline u32 list_rows(u16* list, u32 word, u32 zeros) {
    u32 lane = threadIdx.x % 32, through = __popc(word);
#pragma unroll
    for (u32 step = 1; step < 32; step *= 2) {
        u32 lower = __shfl_up_sync(FULL_WARP, through, step);
        if (lane >= step) through += lower;
    }
    u32 at = through - __popc(word), listed = __shfl_sync(FULL_WARP, through, 31);
    // All lanes have read the previous list.
    __syncwarp();
    for (; word; word &= word - 1) list[at++] = (u16)(32 * lane + __ffs(word) - 1);
    if (lane < STRIP_AHEAD) list[listed + lane] = (u16)zeros;
    __syncwarp();
    return listed;
}

/// The sums of the lane's two units and the listed rows' weights, in list order. Zeros at the end change nothing: no sum is -0.
__device__ inline float2 add_listed(float2 sums, const float2* strip, const u16* list, u32 listed) {
    for (u32 at = 0; at < listed; at += STRIP_AHEAD) {
        uint4 packed = *(const uint4*)(list + at);
        u32 pairs[4] = {packed.x, packed.y, packed.z, packed.w};
        float2 w[STRIP_AHEAD];
#pragma unroll
        for (u32 a = 0; a < STRIP_AHEAD; a++) {
            u32 row = a % 2 ? pairs[a / 2] >> 16 : pairs[a / 2] & 0xffffu;
            w[a] = strip[row * 32 + threadIdx.x % 32];
        }
#pragma unroll
        for (u32 a = 0; a < STRIP_AHEAD; a++) sums = {__fadd_rn(sums.x, w[a].x), __fadd_rn(sums.y, w[a].y)};
    }
    return sums;
}

/// A layer of all chains from the bits of the other: pre-activations, means, samples. Null for outputs that are not needed.
/// Chain c's inverse temperature is number c*beta_step of `betas`. `first`: the count of numbers between the generator's
/// position and the first draw. `tile`: the rows of a strip that fit in shared memory, in whole words; `at_once`: the chains of
/// a warp that share them.
///
/// A block is one strip of one group of chains: blocks go over strips first. Shared memory holds the tile, a row of zeros, and
/// the lists of the warps. Lane l has the strip's units l and 32 + l, side by side.
extern "C" __global__ void __launch_bounds__(STRIP_WARPS * 32, 1)
    layer_by_strips(Side side, const u32* given, u32 chains, const float* betas, u32 beta_step, const u64* generator, u64 first,
                    u32 tile, u32 at_once, float* pre_activations, float* means, u32* bits) {
    extern __shared__ float2 strip[];
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 strips = (side.made + STRIP - 1) / STRIP, group = blockIdx.x / strips;
    // The distance between chains of a warp.
    u32 apart = gridDim.x / strips * STRIP_WARPS;
    u32 first_unit = blockIdx.x % strips * STRIP, given_words = words_of(side.given);
    u16* list = (u16*)(strip + (tile + 1) * 32) + warp * (tile + STRIP_AHEAD);
    u64 state = state_of_lane(*generator, first + (u64)(group * STRIP_WARPS + warp) * side.made + first_unit);
    Jump over_chains = jump_over((u64)apart * side.made), over_32 = jump_over(32);
    if (warp == 0) strip[tile * 32 + lane] = {0.0f, 0.0f};
    u32 in_tile = tile;
    for (u64 begin = group * STRIP_WARPS; begin < chains; begin += (u64)apart * at_once) {
        // The number of its chains that this warp has here.
        u32 own = begin + warp < chains ? (u32)min((u64)at_once, (chains - begin - warp + apart - 1) / apart) : 0;
        float2 sums[CHAINS_AT_ONCE] = {};
        for (u32 row = 0; row < side.given; row += tile) {
            // If there is only one tile, it stays.
            if (in_tile != row) {
                in_tile = row;
                __syncthreads();
                const float* weights = side.weights + first_unit + lane;
#pragma unroll 8
                for (u32 r = warp; r < min(tile, side.given - row); r += STRIP_WARPS) {
                    u64 at = (u64)(row + r) * side.stride;
                    // Rows end with whole words, but not with whole strips.
                    strip[r * 32 + lane] = {weights[at], first_unit + 32 < side.stride ? weights[at + 32] : 0.0f};
                }
                __syncthreads();
            }
            // Words are loaded one chain ahead of their use.
            bool listed = lane < tile / 32 && row / 32 + lane < given_words;
            const u32* words = given + (begin + warp) * given_words + row / 32 + lane;
            u32 word = listed && own > 0 ? *words : 0;
#pragma unroll 1
            for (u32 c = 0; c < own; c++) {
                words += (u64)apart * given_words;
                u32 next = listed && c + 1 < own ? *words : 0;
                sums[c] = add_listed(sums[c], strip, list, list_rows(list, word, tile));
                word = next;
            }
        }
#pragma unroll 1
        for (u32 c = 0; c < own; c++) {
            u64 chain = begin + warp + (u64)apart * c;
            float beta = betas[chain * beta_step];
            u64 draw = state;
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                u32 unit = first_unit + 32 * half + lane;
                bool exists = unit < side.made;
                float pre = pre_activation(side, unit, half ? sums[c].y : sums[c].x, beta);
                float odds = odds_off(pre);
                u64 place = chain * side.stride + unit;
                if (exists && pre_activations) pre_activations[place] = pre;
                if (exists && means) means[place] = mean_of_odds(pre, odds);
                u32 word = sample_word(exists, odds, output(draw));
                if (lane == 0) bits[chain * words_of(side.made) + unit / 32] = word;
                draw = over_32.from(draw);
            }
            state = over_chains.from(state);
        }
    }
}
