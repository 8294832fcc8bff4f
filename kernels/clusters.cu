// Few chains: a cluster of blocks carries one chain through all steps, each block some units of both layers. chains.cu does the
// same by one block. For devices with clusters, from compute capability 9.0 on.
//
// Every block keeps the bits of the whole chain. It writes the bits that it draws into the shared memory of all blocks, which count
// the bytes that reach them; the blocks wait for nothing else. A barrier of the cluster would also make global memory
// consistent, at several times the price, and empty the first-level cache.
//
// Bytes do not name their round, so words of two rounds must not be in flight to one block. They are not, because every block
// that takes part computes some units of either layer: a block that sends words has received those of the other layer from
// every block, and each of these had received all words of the round before. Blocks for which a layer has no words do not take
// part.
#include "layers.cuh"

#if __CUDA_ARCH__ >= 900 && (__CUDACC_VER_MAJOR__ > 12 || __CUDACC_VER_MAJOR__ == 12 && __CUDACC_VER_MINOR__ >= 1)

/// Blocks of a cluster, and threads of a block.
#define CLUSTER 8u
#define CLUSTER_THREADS 256u

__device__ inline u32 rank_in_cluster() {
    u32 rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

__device__ inline u32 shared_address(const void* at) { return (u32)__cvta_generic_to_shared(at); }

/// The address, in the block of that rank, of this block's object at `address`.
__device__ inline u32 address_in(u32 address, u32 rank) {
    u32 there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}

/// Signals the other blocks of the cluster that this thread has arrived; and waits until all threads of all blocks have.
__device__ inline void arrive_in_cluster() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ inline void wait_for_cluster() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

/// The number of 32-bit words with bits of a layer.
__device__ inline u32 words_in(u32 units) { return (units + 31) / 32; }

/// The bits of a layer that arrive from all blocks of the cluster, round after round.
struct Arrivals {
    /// Addresses of the words and of the barrier that counts their bytes: in this block, and in the block of the lane's rank.
    u32 barrier, words_there, barrier_there;
    u32 bytes, blocks;

    /// For `taking_part` blocks. A barrier of the cluster must follow before any other use.
    __device__ void open(const u32* words, u64* counter, u32 units, u32 taking_part) {
        u32 rank = threadIdx.x % CLUSTER;
        barrier = shared_address(counter);
        words_there = address_in(shared_address(words), rank);
        barrier_there = address_in(barrier, rank);
        bytes = words_in(units) * 4;
        blocks = taking_part;
        if (threadIdx.x > 0) return;
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }

    /// Begins a round. By then the whole block must have seen the end of the previous round, or some of its threads could miss
    /// it: words may arrive as soon as other blocks compute them, but a round does not end before it is expected.
    __device__ void expect() const {
        if (threadIdx.x > 0) return;
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
    }

    /// Sends a word to all blocks, from a whole warp.
    __device__ void send(u32 number, u32 word) const {
        if (threadIdx.x % 32 >= blocks) return;
        asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%0], %1, [%2];" ::"r"(
                         words_there + 4 * number),
                     "r"(word), "r"(barrier_there)
                     : "memory");
    }

    /// Waits for all words of a round; rounds count from 0.
    __device__ void await(u32 round) const {
        u32 done;
        do {
            asm volatile(
                "{\n\t.reg .pred p;\n\tmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\tselp.u32 %0, 1, 0, p;\n\t}"
                : "=r"(done)
                : "r"(barrier), "r"(round % 2)
                : "memory");
        } while (!done);
    }
};

/// A block's part of a layer: neighbouring words, as many as every other block up to one. In each pass it computes as many of
/// their units as it has threads.
struct Part {
    u32 first, width, passes;
    /// All threads copy rows, in pieces of 16 bytes: a thread's first row, its offset in the row, and the number of rows that all
    /// threads copy at once.
    u32 row, place, rows_at_once;
    /// The rows that fit in shared memory at a time.
    u32 most;
    /// Whether the thread has a unit, and its bias.
    bool exists;
    float bias;

    __device__ Part(const Side& side, u32 rank, u32 blocks, u32 pass, u32 capacity) {
        u32 words = words_in(side.made), begin = words * rank / blocks, end = words * (rank + 1) / blocks;
        passes = (end - begin + CLUSTER_THREADS / 32 - 1) / (CLUSTER_THREADS / 32);
        first = 32 * begin + pass * CLUSTER_THREADS;
        width = min(CLUSTER_THREADS, 32 * end - first);
        u32 pieces = width / 4;
        rows_at_once = CLUSTER_THREADS / pieces;
        row = threadIdx.x / pieces;
        place = threadIdx.x % pieces * 4;
        // If the pieces do not divide the threads, some threads have nothing to copy.
        if (row >= rows_at_once) row = TILE;
        most = capacity / width;
        exists = threadIdx.x < width && first + threadIdx.x < side.made;
        bias = exists ? side.bias[first + threadIdx.x] : 0.0f;
    }
};

/// Lists the active units of a tile, ascending, and returns their number. The list is complete after a barrier.
__device__ inline u32 list_in_block(u32* units, const u32* words, u32 given, u32 tile) {
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 word = lane < (min(given - tile, TILE) + 31) / 32 ? words[tile / 32 + lane] : 0;
    u32 through = __popc(word);
#pragma unroll
    for (u32 step = 1; step < 32; step *= 2) {
        u32 lower = __shfl_up_sync(FULL_WARP, through, step);
        if (lane >= step) through += lower;
    }
    u32 before = through - __popc(word);
#pragma unroll
    for (u32 w = 0; w < 32; w += CLUSTER_THREADS / 32) {
        u32 bits = __shfl_sync(FULL_WARP, word, w + warp), start = __shfl_sync(FULL_WARP, before, w + warp);
        if (bits >> lane & 1) units[start + __popc(bits & ((1u << lane) - 1))] = tile + 32 * (w + warp) + lane;
    }
    return __shfl_sync(FULL_WARP, through, 31);
}

/// Copies the listed rows' weights of the block's units.
__device__ inline void copy_rows(const Side& side, const Part& part, const u32* units, float* stage, u32 rows) {
    const float* weights = side.weights + part.first + part.place;
    u32 to = shared_address(stage + part.row * part.width + part.place);
#pragma unroll 4
    for (u32 r = part.row; r < rows; r += part.rows_at_once, to += part.rows_at_once * part.width * 4) {
        const float* from = weights + (u64)units[r] * side.stride;
        asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/// sum + the weights of the thread's unit in `rows` rows.
__device__ inline float add_rows(float sum, const float* weights, u32 width, u32 rows) {
    u32 r = 0;
#pragma unroll 2
    for (; r + 8 <= rows; r += 8, weights += 8 * width) {
        float column[8];
#pragma unroll
        for (u32 a = 0; a < 8; a++) column[a] = weights[a * width];
#pragma unroll
        for (u32 a = 0; a < 8; a++) sum = __fadd_rn(sum, column[a]);
    }
    // Zeros at the end change nothing: no sum is -0.
    if (r < rows) {
        float column[7];
#pragma unroll
        for (u32 a = 0; a < 7; a++) column[a] = r + a < rows ? weights[a * width] : 0.0f;
#pragma unroll
        for (u32 a = 0; a < 7; a++) sum = __fadd_rn(sum, column[a]);
    }
    return sum;
}

/// Computes the block's part of a layer: copies the active units' rows to shared memory, then each thread adds up its unit's
/// column.
/// `take` receives the threads of whole warps, their unit and its sum. There is at least one barrier of the block.
template <class Take>
__device__ void compute_part(const Side& side, Part part, u32 rank, u32 blocks, const u32* words, u32* units, float* stage, u32 capacity,
                          Take take) {
    u32 passes = part.passes;
    for (u32 pass = 0; pass < passes; pass++) {
        if (pass > 0) part = Part(side, rank, blocks, pass, capacity);
        float sum = 0.0f;
        for (u32 tile = 0; tile < side.given; tile += TILE) {
            if (pass > 0 || tile > 0) __syncthreads();
            u32 listed = list_in_block(units, words, side.given, tile);
            __syncthreads();
            for (u32 begin = 0; begin < listed; begin += part.most) {
                u32 rows = min(part.most, listed - begin);
                if (begin > 0) __syncthreads();
                copy_rows(side, part, units + begin, stage, rows);
                __syncthreads();
                if (part.exists) sum = add_rows(sum, stage + threadIdx.x, part.width, rows);
            }
        }
        if (threadIdx.x < part.width) take(part, part.first + threadIdx.x, sum);
    }
}

/// k times v ~ P(v|h), h ~ P(h|v), each chain at its own inverse temperature. `capacity`: the floats of rows that fit in a
/// block's shared memory.
extern "C" __global__ void __launch_bounds__(CLUSTER_THREADS, 1) __cluster_dims__(CLUSTER, 1, 1)
    sweep_in_clusters(Side down, Side up, Chains chains, const u64* generator, u64 first, u32 k, u32 capacity) {
    extern __shared__ float stage[];
    __shared__ u32 units[TILE];
    __shared__ u64 counters[2];
    u32 rank = rank_in_cluster();
    u64 chain = blockIdx.x / CLUSTER, n_chains = gridDim.x / CLUSTER;
    u32 hidden_words = words_of(up.made), visible_words = words_of(down.made);
    u32 *hidden = (u32*)(stage + capacity), *visible = hidden + hidden_words;
    for (u32 w = threadIdx.x; w < hidden_words; w += CLUSTER_THREADS) hidden[w] = chains.hidden[chain * hidden_words + w];
    for (u32 w = threadIdx.x; w < visible_words; w += CLUSTER_THREADS) visible[w] = 0;
    u32 blocks = min(CLUSTER, min(words_in(down.made), words_in(up.made)));
    Arrivals of_visible, of_hidden;
    of_visible.open(visible, &counters[0], down.made, blocks);
    of_hidden.open(hidden, &counters[1], up.made, blocks);
    arrive_in_cluster();
    if (rank >= blocks) return wait_for_cluster();
    float beta = chains.betas[chain];
    Part visible_part(down, rank, blocks, 0, capacity), hidden_part(up, rank, blocks, 0, capacity);
    u64 state = *generator;
    u32 warps_first = threadIdx.x / 32 * 32;
    u64 visible_draw = state_of_lane(state, first + chain * down.made + visible_part.first + warps_first);
    u64 hidden_draw = state_of_lane(state, first + n_chains * down.made + chain * up.made + hidden_part.first + warps_first);
    // From step to step, and from pass to pass.
    Jump over_a_step = jump_over(n_chains * ((u64)down.made + up.made)), over_a_block = jump_over(CLUSTER_THREADS);
    wait_for_cluster();
    of_visible.expect();
    of_hidden.expect();
    for (u32 step = 0; step < k; step++) {
        bool last = step + 1 == k;
        state = visible_draw;
        u32 number = output(state);
        compute_part(down, visible_part, rank, blocks, hidden, units, stage, capacity, [&](const Part& part, u32 unit, float sum) {
            float pre = part.exists ? pre_activation_of(sum, part.bias, 0.0f, beta) : 0.0f;
            u32 word = sample_word(part.exists, odds_off(pre), number);
            of_visible.send(unit / 32, word);
            if (last && part.exists) chains.visible_pre[chain * down.stride + unit] = pre;
            state = over_a_block.from(state);
            number = output(state);
        });
        if (step > 0) of_hidden.expect();
        visible_draw = over_a_step.from(visible_draw);
        state = hidden_draw;
        number = output(state);
        of_visible.await(step);
        compute_part(up, hidden_part, rank, blocks, visible, units, stage, capacity, [&](const Part& part, u32 unit, float sum) {
            float pre = part.exists ? pre_activation_of(sum, part.bias, 0.0f, beta) : 0.0f;
            float odds = odds_off(pre);
            u32 word = sample_word(part.exists, odds, number);
            of_hidden.send(unit / 32, word);
            if (last && part.exists) chains.hidden_mean[chain * up.stride + unit] = mean_of_odds(pre, odds);
            state = over_a_block.from(state);
            number = output(state);
        });
        if (!last) of_visible.expect();
        hidden_draw = over_a_step.from(hidden_draw);
        of_hidden.await(step);
    }
    if (rank > 0) return;
    for (u32 w = threadIdx.x; w < hidden_words; w += CLUSTER_THREADS) chains.hidden[chain * hidden_words + w] = hidden[w];
    for (u32 w = threadIdx.x; w < visible_words; w += CLUSTER_THREADS) chains.visible[chain * visible_words + w] = visible[w];
}

#endif
