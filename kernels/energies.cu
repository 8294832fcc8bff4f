// Free energies, pseudo-likelihoods, cross-entropies. Terms are f32, their sums f64. src/cpu/energies.rs.
#include "layers.cuh"

/// F(v) = -b v - sum_j sp(c_j + (vW)_j) of each row. A block per row.
extern "C" __global__ void __launch_bounds__(1024, 1)
    free_energy(Side up, Rows rows, const float* visible_bias, double* out) {
    __shared__ List list;
    __shared__ float terms[1024];
    u64 row = blockIdx.x;
    double partial = 0.0;
    layer_from_row(up, rows, row, false, list, [&](u32 unit, float sum) {
        float pre = pre_activation(up, unit, sum, 1.0f);
        partial = accumulate(partial, terms, unit < up.made ? softplus(pre) : 0.0f);
    });
    if (threadIdx.x < 32) {
        double bias = 0.0;
        if (threadIdx.x < 16) {
            for (u32 i = threadIdx.x; i < up.given; i += 16) {
                bias = __dadd_rn(bias, __dmul_rn((double)rows.value(row, i), (double)visible_bias[i]));
            }
        }
        double all_bias = total(bias), all = total(partial);
        if (threadIdx.x == 0) out[row] = __dadd_rn(-all_bias, -all);
    }
}

/// log P(x_i|x_-i) = -sp(-(F(x~_i) - F(x))), from `added`, the change of the softplus sum by flipping bit i.
__device__ inline double of_bit(bool x, float bias, double added) {
    double difference = __dadd_rn((double)(x ? bias : -bias), -added);
    return -(double)softplus(__double2float_rn(-difference));
}

/// sp(pre + change w) - sp(pre), where flipping changes the bit by 1 or -1.
__device__ inline float flip(bool x, float w, float pre, float base) {
    return __fadd_rn(softplus(__fmaf_rn(x ? -1.0f : 1.0f, w, pre)), -base);
}

/// n_visible log P(x_i|x_-i) of each row for one bit i; 0 if it is missing. A block per row.
extern "C" __global__ void __launch_bounds__(1024, 1)
    pseudo_likelihood_of_bit(Side up, Rows rows, const float* visible_bias, const u32* place_of_bit, double* out) {
    __shared__ List list;
    __shared__ float terms[1024];
    u64 row = blockIdx.x;
    u32 bit = *place_of_bit;
    bool x = rows.bit(row, bit);
    const float* weights = up.weights + (u64)bit * up.stride;
    double partial = 0.0;
    layer_from_row(up, rows, row, true, list, [&](u32 unit, float sum) {
        float pre = pre_activation(up, unit, sum, 1.0f);
        float term = unit < up.made ? flip(x, weights[unit], pre, softplus(pre)) : 0.0f;
        partial = accumulate(partial, terms, term);
    });
    if (threadIdx.x < 32) {
        double all = total(partial);
        if (threadIdx.x == 0) {
            out[row] = rows.is_missing(row, bit) ? 0.0 : __dmul_rn((double)up.given, of_bit(x, visible_bias[bit], all));
        }
    }
}

/// Units with a weight beyond this use the terms of softplus: src/cpu/pseudo_likelihood.rs.
#define MAX_WEIGHT 20.0f

/// A positive number, mantissa 2^exponent with a mantissa in [1, 2).
struct Scaled {
    float mantissa;
    int exponent;

    __device__ void multiply(float factor) {
        u32 bits = __float_as_uint(__fmul_rn(mantissa, factor));
        exponent += (int)(bits >> 23) - 127;
        mantissa = __uint_as_float((bits & 0x007fffffu) | 0x3f800000u);
    }
};

/// The product of sixteen lanes' numbers, the upper half multiplied to the lower one until one is left; its logarithm in lane 0.
__device__ inline double log_of_all(Scaled product) {
    for (u32 n = 8; n > 0; n /= 2) {
        float other = __shfl_down_sync(FULL_WARP, product.mantissa, n, 16);
        product.exponent += __shfl_down_sync(FULL_WARP, product.exponent, n, 16);
        product.multiply(other);
    }
    double log = (double)ln_1p(__fadd_rn(product.mantissa, -1.0f));
    return __dadd_rn(__dmul_rn((double)product.exponent, 0.693147180559945309417), log);
}

/// log P(x_i|x_-i) for every bit i of each row, rows x n_visible; 0 if it is missing. Sixteen threads per bit, a block per row
/// and some bits.
/// `pre`: the hidden pre-activations of the rounded rows; `on` and `off`: their means and 1 minus these; rows x stride.
extern "C" __global__ void __launch_bounds__(256)
    pseudo_likelihood_of_bits(Side up, Rows rows, const float* visible_bias, const float* pre, const float* on,
                              const float* off, double* out) {
    u64 row = blockIdx.x;
    u32 lane = threadIdx.x % 16, units = blockDim.x / 16;
    // All threads of a warp stay in the loop, for the shuffles.
    for (u32 first = blockIdx.y * units; first < up.given; first += gridDim.y * units) {
        u32 i = first + threadIdx.x / 16;
        bool exists = i < up.given;
        bool x = exists && rows.bit(row, i);
        const float* weights = up.weights + (u64)i * up.stride;
        bool within = true;
        Scaled product = {1.0f, 0};
        for (u32 j = exists ? lane : up.made; j < up.made; j += 16) {
            float w = weights[j];
            within = within && w < MAX_WEIGHT && -w < MAX_WEIGHT;
            product.multiply(__fmaf_rn(on[row * up.stride + j], exp_within(x ? -w : w), off[row * up.stride + j]));
        }
        double added = log_of_all(product);
        u32 votes = __ballot_sync(FULL_WARP, within) >> (threadIdx.x % 32 / 16 * 16) & 0xffffu;
        double partial = 0.0;
        for (u32 j = exists && votes != 0xffffu ? lane : up.made; j < up.made; j += 16) {
            float a = pre[row * up.stride + j];
            partial = __dadd_rn(partial, (double)flip(x, weights[j], a, softplus(a)));
        }
        double all = total(partial);
        if (!exists || lane > 0) continue;
        double log = of_bit(x, visible_bias[i], votes == 0xffffu ? added : all);
        out[row * up.given + i] = rows.is_missing(row, i) ? 0.0 : log;
    }
}

/// The sum of each row of terms, ascending. A thread per row.
extern "C" __global__ void sum_terms(const double* terms, u32 rows, u32 units, double* out) {
    u64 row = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    double sum = 0.0;
    for (u32 i = 0; i < units; i++) sum = __dadd_rn(sum, terms[row * units + i]);
    out[row] = sum;
}

/// -sum_i [sp(p_i) - x_i p_i] of each row over its present values, with visible pre-activations p, rows x stride. Sixteen
/// threads per row.
extern "C" __global__ void cross_entropy(Rows rows, u32 units, const float* pre, u32 stride, double* out) {
    u64 row = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / 16;
    bool exists = row < rows.rows;
    double partial = 0.0;
    for (u32 i = exists ? threadIdx.x % 16 : units; i < units; i += 16) {
        if (rows.is_missing(row, i)) continue;
        float p = pre[row * stride + i];
        partial = __dadd_rn(partial, (double)__fmaf_rn(-rows.value(row, i), p, softplus(p)));
    }
    double all = total(partial);
    if (exists && threadIdx.x % 16 == 0) out[row] = -all;
}

/// The means of n pre-activations, or if `off` 1 minus the means.
extern "C" __global__ void elementwise(const float* pre, u32 off, float* out, u64 n) {
    u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at < n) out[at] = sigmoid(off ? -pre[at] : pre[at]);
}
