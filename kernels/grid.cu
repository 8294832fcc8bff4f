// Bits of many chains on a grid: weights rounded to 16 bits, sums of integers by the matrix units, and almost every unit
// decided by them. src/cpu/decision.rs has the proof that the bits are the canonical ones; kernels/grid.cuh has its formulas.
//
// A weight on the grid is q = 256*high + low, low within [0, 255] and high within [-128, 127], each a plane of bytes. A product
// of bits and a plane is exact in 32 bits: for at most 2^16 units either sum is below 2^24, and 256*high + low, a sum of
// |q| < 2^15, is below 2^31. So the order in which the matrix units add makes no difference.
//
// A block writes whole words of bits, which no other block writes. It reads only memory that no block of the launch writes.
#include "layers.cuh"
#include "grid.cuh"

// These products of matrix units exist from compute capability 8.0 on.
#if __CUDA_ARCH__ >= 800

/// The range of s, the largest mean of epsilon over the chains of a block, and the share of epsilon that is used.
#define GRID_FINEST 16
#define GRID_COARSEST 8
#define GRID_MOST 0.1f
#define GRID_SHARE 1.0f
/// The bound of |w|*2^s, itself excluded.
#define GRID_LIMIT 32767.0f
/// Blocks that search for the largest numbers, and threads of those that round.
#define GRID_PARTS 128u
/// Units, chains and threads of a block that draws. A warp has half of the units and a quarter of the chains.
#define GRID_UNITS 64u
#define GRID_CHAINS 128u
#define GRID_THREADS 256u
/// Words of 32 given units in shared memory at a time.
#define GRID_DEEP 4u
/// The lowest bit of each byte.
#define GRID_BYTES 0x01010101u

/// The grid of one direction: whether there is one, -2^-s*log2(e), half of 2^-s, and the largest size of the biases.
struct OnGrid {
    u32 usable;
    float step;
    float half;
    float bias;
};

/// 2^n.
__device__ inline float power_of_two(int n) { return __int_as_float((127 + n) << 23); }

/// The greatest of a number of each thread of the block, for all of them. `scratch`: a number for each warp.
__device__ inline u32 greatest_of_block(u32 x, u32* scratch) {
    x = __reduce_max_sync(FULL_WARP, x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
    __syncthreads();
    u32 greatest = 0;
    for (u32 w = 0; w < blockDim.x / 32; w++) greatest = max(greatest, scratch[w]);
    return greatest;
}

/// Each block's part of the largest size among weights, hidden and visible biases, as bits: the bits of NaN are above all others.
extern "C" __global__ void __launch_bounds__(256) largest_sizes(Side up, const float* visible_bias, u32* parts) {
    __shared__ u32 scratch[8];
    const float* numbers[3] = {up.weights, up.bias, visible_bias};
    u64 lengths[3] = {(u64)up.given * up.stride, up.made, up.given};
#pragma unroll
    for (u32 list = 0; list < 3; list++) {
        u32 largest = 0;
        for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < lengths[list]; i += (u64)gridDim.x * blockDim.x) {
            largest = max(largest, __float_as_uint(numbers[list][i]) & 0x7fffffffu);
        }
        largest = greatest_of_block(largest, scratch);
        if (threadIdx.x == 0) parts[list * GRID_PARTS + blockIdx.x] = largest;
    }
}

/// Rounds the weights to the finest grid on which they fit, for both directions: blocks of the first row `up`, of the second
/// `down`.
///
/// A block rounds 32 given times 32 made units, 128 threads 16 bytes each, in the layout that `draw_on_grid` reads: thread i of a
/// warp has both planes of the eight weights that lane i of a product takes. Both factors may number the given units in any common
/// order, so bit t + 8*b of a word is byte b of lane t, or with 4 more of its second register: then a shift and a mask make bytes
/// of a word. Of the made units, number n of product p is 8*(n/2) + 2*p + n%2: then a lane has eight neighbours.
extern "C" __global__ void __launch_bounds__(GRID_PARTS)
    put_on_grid(Side up, Side down, const u32* parts, OnGrid* grids, uint4* planes) {
    __shared__ u32 scratch[GRID_PARTS / 32];
    bool is_down = blockIdx.y != 0;
    const float* weights = is_down ? down.weights : up.weights;
    u32 given_units = is_down ? down.given : up.given, made_units = is_down ? down.made : up.made;
    u32 stride = is_down ? down.stride : up.stride;
    float largest = __uint_as_float(greatest_of_block(parts[threadIdx.x], scratch));
    u32 bias = greatest_of_block(parts[(1 + blockIdx.y) * GRID_PARTS + threadIdx.x], scratch);
    int s = GRID_FINEST;
    while (s >= GRID_COARSEST && !(__fmul_rn(largest, power_of_two(s)) < GRID_LIMIT)) s--;
    bool usable = s >= GRID_COARSEST;
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        float step = usable ? power_of_two(-s) : 0.0f;
        grids[blockIdx.y] = {usable, __fmul_rn(step, -1.442695f), __fmul_rn(step, 0.5f), __uint_as_float(bias)};
    }
    if (!usable) return;
    u32 words = words_of(given_units), product = threadIdx.x / 32, lane = threadIdx.x % 32;
    u32 column = lane / 4, unit = blockIdx.x / words * 32 + column / 2 * 8 + 2 * product + column % 2;
    u32 high[2] = {}, low[2] = {};
    float scale = power_of_two(s);
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        u32 given = blockIdx.x % words * 32 + lane % 4 + i / 4 * 4 + i % 4 * 8;
        bool exists = given < given_units && unit < made_units;
        int q = exists ? __float2int_rn(__fmul_rn(weights[(u64)given * stride + unit], scale)) : 0;
        high[i / 4] |= (u32)(q >> 8 & 255) << (i % 4 * 8);
        low[i / 4] |= (u32)(q & 255) << (i % 4 * 8);
    }
    u64 block = (u64)blockIdx.y * gridDim.x + blockIdx.x;
    planes[block * GRID_PARTS + threadIdx.x] = {high[0], high[1], low[0], low[1]};
}

/// The shared memory of a step: planes of two halves of the units, for each word of given units those of four products;
/// and the bits of the chains.
struct Stage {
    uint4 planes[2][GRID_DEEP][4][32];
    u32 bits[GRID_CHAINS][GRID_DEEP];
};

/// The sums of a warp, 32 chains times 32 units: two sixteens of chains, four eights of units, four of them in each lane.
typedef int GridSums[2][4][4];

/// Sixteen rows of bytes 0 and 1 times eight columns of a plane, added to the sums of the lane.
__device__ inline void add_high(int (&sums)[4], const u32 (&bits)[4], u32 first, u32 second) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
        : "r"(bits[0]), "r"(bits[1]), "r"(bits[2]), "r"(bits[3]), "r"(first), "r"(second));
}
__device__ inline void add_low(int (&sums)[4], const u32 (&bits)[4], u32 first, u32 second) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
        : "r"(bits[0]), "r"(bits[1]), "r"(bits[2]), "r"(bits[3]), "r"(first), "r"(second));
}

/// The tile of a block: units from `first_unit` on of `chains` chains from `first_chain` on, whose given units are `given`.
struct GridTile {
    const u32* given;
    u32 words;
    u64 first_chain;
    u32 chains;
    u32 first_unit;
};

/// Begins to copy the planes and bits of GRID_DEEP words of given units, or of the remaining ones.
__device__ inline void begin_stage(Stage& stage, const GridTile& tile, const uint4* planes, u32 word) {
    u32 deep = min(GRID_DEEP, tile.words - word);
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        const uint4* from = planes + ((u64)(tile.first_unit / 32 + half) * tile.words + word) * 128;
        u32 to = (u32)__cvta_generic_to_shared(&stage.planes[half]);
        for (u32 i = threadIdx.x; i < deep * 128; i += GRID_THREADS) {
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to + 16 * i), "l"(from + i) : "memory");
        }
    }
    // Layers have whole pairs of words.
    u32 chain = threadIdx.x / 2, pair = threadIdx.x % 2 * 2;
    if (chain >= tile.chains) {
        stage.bits[chain][pair] = stage.bits[chain][pair + 1] = 0;
    } else if (pair < deep) {
        u32 to = (u32)__cvta_generic_to_shared(&stage.bits[chain][pair]);
        const u32* from = tile.given + chain * (u64)tile.words + word + pair;
        asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(to), "l"(from) : "memory");
    }
}

/// Computes the sums of a tile, and counts the given units that are on; the counts are complete after a barrier.
__device__ inline void add_on_grid(GridSums& sums, Stage (&stages)[2], u32* active, const GridTile& tile, const uint4* planes) {
    u32 lane = threadIdx.x % 32, half = threadIdx.x / 32 % 2, row = threadIdx.x / 64 * 32 + lane / 4, on = 0;
    GridSums high = {}, low = {};
    begin_stage(stages[0], tile, planes, 0);
    asm volatile("cp.async.commit_group;" ::: "memory");
    for (u32 word = 0; word < tile.words; word += GRID_DEEP) {
        Stage& stage = stages[word / GRID_DEEP % 2];
        if (word + GRID_DEEP < tile.words) begin_stage(stages[(word / GRID_DEEP + 1) % 2], tile, planes, word + GRID_DEEP);
        asm volatile("cp.async.commit_group;" ::: "memory");
        // All copies except the ones that have just begun.
        asm volatile("cp.async.wait_group 1;" ::: "memory");
        __syncthreads();
        u32 deep = min(GRID_DEEP, tile.words - word), pair = threadIdx.x % 2 * 2;
        if (pair < deep) on += __popc(stage.bits[threadIdx.x / 2][pair]) + __popc(stage.bits[threadIdx.x / 2][pair + 1]);
#pragma unroll 2
        for (u32 d = 0; d < deep; d++) {
            u32 bits[2][4];
#pragma unroll
            for (u32 m = 0; m < 2; m++) {
                u32 lower = stage.bits[row + 16 * m][d] >> (lane % 4), upper = stage.bits[row + 16 * m + 8][d] >> (lane % 4);
                bits[m][0] = lower & GRID_BYTES;
                bits[m][1] = upper & GRID_BYTES;
                bits[m][2] = lower >> 4 & GRID_BYTES;
                bits[m][3] = upper >> 4 & GRID_BYTES;
            }
#pragma unroll
            for (u32 p = 0; p < 4; p++) {
                uint4 q = stage.planes[half][d][p][lane];
#pragma unroll
                for (u32 m = 0; m < 2; m++) {
                    add_high(high[m][p], bits[m], q.x, q.y);
                    add_low(low[m][p], bits[m], q.z, q.w);
                }
            }
        }
        // The next stage but one overwrites this one.
        __syncthreads();
    }
#pragma unroll
    for (u32 n = 0; n < 32; n++) {
        u32 m = n / 16, p = n / 4 % 4, c = n % 4;
        sums[m][p][c] = 256 * high[m][p][c] + low[m][p][c];
    }
    on += __shfl_xor_sync(FULL_WARP, on, 1);
    if (threadIdx.x % 2 == 0) active[threadIdx.x / 2] = on;
}

/// The canonical sum of a unit, whose row of weights is `weights`: given units ascending, in one sum, by a whole warp.
__device__ inline float sum_in_order(const float* weights, const u32* given, u32 units) {
    u32 lane = threadIdx.x % 32, words = (units + 31) / 32;
    float sum = 0.0f;
    for (u32 first = 0; first < words; first += 8) {
        u32 own = lane < 8 && first + lane < words ? given[first + lane] : 0;
        float row[8];
#pragma unroll
        for (u32 a = 0; a < 8; a++) row[a] = first + a < words ? weights[32 * (first + a) + lane] : 0.0f;
#pragma unroll
        for (u32 a = 0; a < 8; a++) {
            for (u32 word = __shfl_sync(FULL_WARP, own, a); word != 0;) {
                float w[4];
#pragma unroll
                for (u32 n = 0; n < 4; n++) {
                    float x = __shfl_sync(FULL_WARP, row[a], __ffs(word) - 1);
                    w[n] = word != 0 ? x : 0.0f;
                    word &= word - 1;
                }
                // Zeros at the end change nothing: no sum is -0.
#pragma unroll
                for (u32 n = 0; n < 4; n++) sum = __fadd_rn(sum, w[n]);
            }
        }
    }
    return sum;
}

/// Whether a unit is on by its canonical sum, for a whole warp. `weights` is its row, `number` the generator's output.
__device__ inline bool settle(const Side& side, const float* weights, const u32* given, u32 unit, float beta, u32 number) {
    float odds = odds_off(pre_activation(side, unit, sum_in_order(weights, given, side.given), beta));
    bool is_likely = odds < 1.0f;
    return is_rare(odds, end_distance(number, is_likely)) != is_likely;
}

/// Draws the units that the sums decide, then the undecided ones. `rows` are the weights of each made unit, `stride` apart;
/// `begin` is the generator's state for the first chain and unit of the warp. `drawn`: for each chain of the warp its word and
/// the mask of its undecided units.
__device__ inline void draw_decided(const GridSums& sums, const u32* active, uint2* drawn, const OnGrid& grid, const Side& side,
                                    const float* rows, u32 stride, const GridTile& tile, const float* betas, u64 begin,
                                    u32* bits) {
    u32 lane = threadIdx.x % 32, warps_first = threadIdx.x / 64 * 32, first = tile.first_unit + threadIdx.x / 32 % 2 * 32;
    u32 own = first + lane % 4 * 8, here = own < side.made ? min(side.made - own, 8u) : 0, exist = (1u << here) - 1;
    Jump over_8_chains = jump_over(8ull * side.made);
    const Jump over_one = {6364136223846793005ull, 1442695040888963407ull};
    u64 state = state_behind(begin, lane / 4 * side.made + lane % 4 * 8);
    float bias[8];
#pragma unroll
    for (u32 j = 0; j < 8; j++) bias[j] = j < here ? side.bias[own + j] : 0.0f;
#pragma unroll
    for (u32 q = 0; q < 4; q++) {
        u32 local = warps_first + 8 * q + lane / 4;
        float beta = local < tile.chains ? betas[tile.first_chain + local] : 0.0f, step = __fmul_rn(beta, grid.step);
        float epsilon = __fmul_rn(GRID_SHARE, error_bound((float)active[local], grid.half, beta, grid.bias, 0.0f));
        float lower = below(epsilon), upper = above(epsilon);
        uint2 word = {0, 0};
        u64 draw = state;
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            u32 p = j / 2, c = 2 * (q % 2) + j % 2;
            float odds = rough_odds((float)sums[q / 2][p][c], step, exponent_alone(bias[j], 0.0f, beta));
            float u = unit_interval(output(draw));
            bool is_on = surely_on(u, odds, lower), is_off = surely_off(u, odds, upper);
            word.x |= (u32)is_on << j;
            word.y |= (u32)!(is_on || is_off) << j;
            draw = over_one.from(draw);
        }
        word = {(word.x & exist) << (lane % 4 * 8), (word.y & exist) << (lane % 4 * 8)};
#pragma unroll
        for (u32 n = 1; n < 4; n *= 2) {
            word.x |= __shfl_xor_sync(FULL_WARP, word.x, n);
            word.y |= __shfl_xor_sync(FULL_WARP, word.y, n);
        }
        if (lane % 4 == 0) drawn[8 * q + lane / 4] = word;
        state = over_8_chains.from(state);
    }
    __syncwarp();
    // From here on a lane has a chain.
    u32 local = warps_first + lane;
    bool is_there = local < tile.chains;
    uint2 word = drawn[lane];
    float beta = is_there ? betas[tile.first_chain + local] : 0.0f;
    for (u32 left = __ballot_sync(FULL_WARP, is_there && word.y != 0); left != 0; left &= left - 1) {
        u32 owner = __ffs(left) - 1;
        const u32* its_given = tile.given + (warps_first + owner) * (u64)tile.words;
        float its_beta = __shfl_sync(FULL_WARP, beta, owner);
        for (u32 open = __shfl_sync(FULL_WARP, word.y, owner); open != 0; open &= open - 1) {
            u32 place = __ffs(open) - 1, unit = first + place;
            u32 number = output(state_behind(begin, owner * side.made + place));
            bool is_on = settle(side, rows + (u64)unit * stride, its_given, unit, its_beta, number);
            if (lane == owner) word.x |= (u32)is_on << place;
        }
    }
    if (is_there) bits[(tile.first_chain + local) * words_of(side.made) + first / 32] = word.x;
}

/// Draws a tile by canonical sums alone, as `layer_by_strips` does, 128 rows of weights at a time in `stage`.
__device__ inline void draw_by_sums(const Side& side, const GridTile& tile, float2* stage, const float* betas, u64 generator,
                                    u64 first, u32* bits) {
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float2 sums[GRID_CHAINS / 8] = {};
    for (u32 row = 0; row < side.given; row += 32 * GRID_DEEP) {
        __syncthreads();
        const float* weights = side.weights + tile.first_unit + lane;
#pragma unroll 8
        for (u32 r = warp; r < min(32 * GRID_DEEP, side.given - row); r += 8) {
            u64 at = (u64)(row + r) * side.stride;
            stage[r * 32 + lane] = {weights[at], tile.first_unit + 32 < side.stride ? weights[at + 32] : 0.0f};
        }
        // Word lane%4 of the warp's chains lane/4 and lane/4 + 8.
        u32 own[2];
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            u32 c = warp + 8 * (lane / 4 + 8 * i), w = row / 32 + lane % 4;
            own[i] = c < tile.chains && w < tile.words ? tile.given[c * (u64)tile.words + w] : 0;
        }
        __syncthreads();
#pragma unroll
        for (u32 c = 0; c < GRID_CHAINS / 8; c++) {
#pragma unroll 1
            for (u32 d = 0; d < GRID_DEEP; d++) {
                for (u32 word = __shfl_sync(FULL_WARP, own[c / 8], c % 8 * 4 + d); word != 0; word &= word - 1) {
                    float2 w = stage[(32 * d + __ffs(word) - 1) * 32 + lane];
                    sums[c] = {__fadd_rn(sums[c].x, w.x), __fadd_rn(sums[c].y, w.y)};
                }
            }
        }
    }
    // Nobody reads the rows any more: each thread overwrites them with its own sums.
    __syncthreads();
#pragma unroll
    for (u32 c = 0; c < GRID_CHAINS / 8; c++) stage[(warp + 8 * c) * 32 + lane] = sums[c];
    u64 state = state_of_lane(generator, first + (tile.first_chain + warp) * side.made + tile.first_unit);
    Jump over_8_chains = jump_over(8ull * side.made), over_32 = jump_over(32);
#pragma unroll 1
    for (u32 c = warp; c < tile.chains; c += 8) {
        u64 chain = tile.first_chain + c, draw = state;
        float beta = betas[chain];
        float2 sum = stage[c * 32 + lane];
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            u32 unit = tile.first_unit + 32 * half + lane;
            float pre = pre_activation(side, unit, half ? sum.y : sum.x, beta);
            u32 word = sample_word(unit < side.made, odds_off(pre), output(draw));
            if (lane == 0) bits[chain * words_of(side.made) + unit / 32] = word;
            draw = over_32.from(draw);
        }
        state = over_8_chains.from(state);
    }
}

/// The bits of a layer of all chains from those of the other, each chain at its own inverse temperature; the side has no
/// reference. `rows`: the weights of each made unit, `stride` apart; `first`: the count of numbers between the generator's position
/// and the first draw. A block is 64 units of 128 chains; blocks go over units first.
///
/// A block draws by canonical sums if there is no grid, or if epsilon is so large that too many units would be undecided.
extern "C" __global__ void __launch_bounds__(GRID_THREADS, 2)
    draw_on_grid(Side side, const float* rows, u32 stride, const OnGrid* grids, const uint4* planes, const u32* given, u32 chains,
                 const float* betas, const u64* generator, u64 first, u32* bits) {
    __shared__ Stage stages[2];
    __shared__ u32 active[GRID_CHAINS];
    __shared__ uint2 drawn[GRID_THREADS / 32][32];
    __shared__ float bounds[GRID_CHAINS / 32];
    u32 strips = (side.made + GRID_UNITS - 1) / GRID_UNITS;
    GridTile tile = {given, words_of(side.given), (u64)(blockIdx.x / strips) * GRID_CHAINS, 0, blockIdx.x % strips * GRID_UNITS};
    tile.chains = min(GRID_CHAINS, (u32)(chains - tile.first_chain));
    tile.given += tile.first_chain * tile.words;
    OnGrid grid = *grids;
    if (grid.usable) {
        GridSums sums;
        add_on_grid(sums, stages, active, tile, planes);
        __syncthreads();
        if (threadIdx.x < GRID_CHAINS) {
            float bound = 0.0f;
            if (threadIdx.x < tile.chains) {
                float beta = betas[tile.first_chain + threadIdx.x];
                bound = error_bound((float)active[threadIdx.x], grid.half, beta, grid.bias, 0.0f);
            }
#pragma unroll
            for (u32 step = 16; step > 0; step /= 2) bound = __fadd_rn(bound, __shfl_xor_sync(FULL_WARP, bound, step));
            if (threadIdx.x % 32 == 0) bounds[threadIdx.x / 32] = bound;
        }
        __syncthreads();
        float all = __fadd_rn(__fadd_rn(bounds[0], bounds[1]), __fadd_rn(bounds[2], bounds[3]));
        // False if it is not a number.
        if (all <= __fmul_rn(GRID_MOST, (float)tile.chains)) {
            u64 chain = tile.first_chain + threadIdx.x / 64 * 32;
            u64 state = jump_over(first + chain * side.made + tile.first_unit + threadIdx.x / 32 % 2 * 32).from(*generator);
            uint2* of_warp = drawn[threadIdx.x / 32];
            return draw_decided(sums, active, of_warp, grid, side, rows, stride, tile, betas, state, bits);
        }
    }
    draw_by_sums(side, tile, (float2*)stages, betas, *generator, first, bits);
}

#endif
