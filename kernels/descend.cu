// Updates by rules of descent. src/descent/mod.rs has the formulas, src/cpu/descend.rs their order; rules.cuh has the
// operations of each rule.
#include "learn.cu"
#include "rules.cuh"

/// Numbers of a row in flight per thread.
#define NUMBERS_AHEAD 8u

/// The numbers of one update; `Pace` of src/descent/mod.rs.
struct Pace {
    float lr;
    float keep;
    float shrink;
    float momentum;
    float slide;
    float target;
    float cost;
    float mean_rate;
};

/// A weight after decay.
__device__ inline float decayed(float weight, const Pace& pace) {
    if (pace.keep == 1.0f && pace.shrink == 0.0f) return weight;
    return shrunk(weight, pace.keep, pace.shrink);
}

/// A parameter after its step; if it moves by a velocity, that is updated too.
__device__ inline float stepped(float parameter, float gradient, bool moves, float& velocity, const Pace& pace) {
    if (!moves) return __fmaf_rn(-pace.lr, gradient, parameter);
    velocity = next_velocity(velocity, pace.momentum, pace.lr, gradient);
    return __fadd_rn(parameter, velocity);
}

/// The same for a parameter in memory; its velocities are null without momentum.
__device__ inline void step_at(float* parameters, float* velocities, u32 at, float gradient, const Pace& pace) {
    float velocity = velocities ? velocities[at] : 0.0f;
    parameters[at] = stepped(parameters[at], gradient, velocities, velocity, pace);
    if (velocities) velocities[at] = velocity;
}

/// The state of the rules, and the intermediate results of an update.
struct Rule {
    /// mu, lambda and q.
    float* visible_offset;
    float* hidden_offset;
    float* hidden_mean;
    /// In the layout of the parameters; null without momentum.
    float* weights_velocity;
    float* visible_velocity;
    float* hidden_velocity;
    /// The centres of the visible units, and g^.
    float* centre;
    float* slope;
    /// P^ and N^, rows x stride.
    float* positive;
    float* negative;
    /// a and d of the rows, and then of the chains.
    float* visible_factors;
    float* hidden_factors;

    /// The offset of the data's hidden means: lambda + s.
    __device__ float shift_of(u32 j, const Pace& pace) const {
        return __fadd_rn(hidden_offset[j], pull(hidden_mean[j], pace.target, pace.cost));
    }

    /// A weight after its step, and its velocity with momentum.
    __device__ float weight(float old, float gradient, float centre, float slope, float& velocity, const Pace& pace) const {
        return stepped(decayed(old, pace), centred(gradient, centre, slope), weights_velocity, velocity, pace);
    }
};

/// P^ and N^, and a and d of each row and each chain. Sixteen threads per row or chain, and sixteen more for its visible units.
extern "C" __global__ void __launch_bounds__(128) count_from_offsets(Statistics s, Parameters p, Rule rule, Pace pace) {
    u32 lane = threadIdx.x % 16;
    u64 task = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / 16, all = (u64)s.rows.rows + s.chains;
    bool hidden = task < all, visible = !hidden && task < 2 * all;
    u64 at = hidden ? task : task - all;
    bool of_data = at < s.rows.rows;
    u64 row = of_data ? at : at - s.rows.rows;
    double partial = 0.0, square = 0.0;
    if (hidden) {
        const float* means = (of_data ? s.positive : s.negative) + row * p.weights_stride;
        float* to = (of_data ? rule.positive : rule.negative) + row * p.weights_stride;
        for (u32 first = lane; first < p.n_hidden; first += 16 * NUMBERS_AHEAD) {
            float mean[NUMBERS_AHEAD], shift[NUMBERS_AHEAD], offset[NUMBERS_AHEAD];
#pragma unroll
            for (u32 a = 0; a < NUMBERS_AHEAD; a++) {
                u32 j = min(first + 16 * a, p.n_hidden - 1);
                mean[a] = means[j];
                offset[a] = rule.hidden_offset[j];
                shift[a] = of_data ? rule.shift_of(j, pace) : offset[a];
            }
#pragma unroll
            for (u32 a = 0; a < NUMBERS_AHEAD; a++) {
                if (first + 16 * a >= p.n_hidden) break;
                float x = __fadd_rn(mean[a], -shift[a]);
                to[first + 16 * a] = x;
                partial = __dadd_rn(partial, __dmul_rn((double)x, (double)offset[a]));
            }
        }
    } else if (visible) {
#pragma unroll 8
        for (u32 i = lane; i < p.n_visible; i += 16) {
            float centre = centre_of(rule.visible_offset[i]);
            float x = of_data ? s.rows.value(row, i) : s.end(row, i, p.n_visible);
            partial = __dadd_rn(partial, __dmul_rn((double)x, (double)centre));
            square = __dadd_rn(square, __dmul_rn((double)centre, (double)centre));
        }
    }
    double sum = total(partial), squares = total(square);
    if (lane > 0) return;
    if (hidden) rule.visible_factors[at] = __double2float_rn(__dadd_rn(1.0, -sum));
    if (visible) rule.hidden_factors[at] = __double2float_rn(__dadd_rn(1.0, -__dadd_rn(sum, -squares)));
}

/// The step of the bias and the offsets of a hidden unit; `s` has P^ and N^.
__device__ inline void descend_hidden(const Statistics& s, const Parameters& p, const Rule& rule, const Pace& pace, u32 j) {
    float positive = 0.0f, negative = 0.0f, of_rows = 0.0f, of_chains = 0.0f;
#pragma unroll 8
    for (u32 row = 0; row < s.rows.rows; row++) {
        float x = s.positive[(u64)row * p.weights_stride + j];
        positive = __fadd_rn(positive, x);
        of_rows = __fmaf_rn(rule.hidden_factors[row], x, of_rows);
    }
#pragma unroll 8
    for (u32 chain = 0; chain < s.chains; chain++) {
        float x = s.negative[(u64)chain * p.weights_stride + j];
        negative = __fadd_rn(negative, x);
        of_chains = __fmaf_rn(rule.hidden_factors[s.rows.rows + chain], x, of_chains);
    }
    rule.slope[j] = gradient_of(s, positive, negative);
    step_at(p.hidden_bias, rule.hidden_velocity, j, gradient_of(s, of_rows, of_chains), pace);
    float mean = __fmaf_rn(positive, s.positive_scale, rule.shift_of(j, pace));
    rule.hidden_offset[j] = next_offset(rule.hidden_offset[j], mean, pace.slide);
    rule.hidden_mean[j] = next_offset(rule.hidden_mean[j], mean, pace.mean_rate);
}

/// The same for a visible unit.
__device__ inline void descend_visible(const Statistics& s, const Parameters& p, const Rule& rule, const Pace& pace, u32 i) {
    float on = 0.0f, of_rows = 0.0f, of_chains = 0.0f, all_rows = 0.0f, all_chains = 0.0f;
#pragma unroll 8
    for (u32 row = 0; row < s.rows.rows; row++) {
        float x = s.rows.value(row, i), factor = rule.visible_factors[row];
        on = __fadd_rn(on, x);
        of_rows = __fmaf_rn(x, factor, of_rows);
        all_rows = __fadd_rn(all_rows, factor);
    }
#pragma unroll 8
    for (u32 chain = 0; chain < s.chains; chain++) {
        float factor = rule.visible_factors[s.rows.rows + chain];
        of_chains = __fmaf_rn(s.end(chain, i, p.n_visible), factor, of_chains);
        all_chains = __fadd_rn(all_chains, factor);
    }
    float centre = centre_of(rule.visible_offset[i]);
    rule.centre[i] = centre;
    float gradient = centred(gradient_of(s, of_rows, of_chains), centre, gradient_of(s, all_rows, all_chains));
    step_at(p.visible_bias, rule.visible_velocity, i, gradient, pace);
    rule.visible_offset[i] = next_offset(rule.visible_offset[i], __fmul_rn(on, s.positive_scale), pace.slide);
}

/// The biases, the offsets, and the weights' share of both layers' sums. A thread per unit, the hidden ones first.
extern "C" __global__ void __launch_bounds__(64) descend_biases(Statistics s, Parameters p, Rule rule, Pace pace) {
    u32 hidden_blocks = (p.n_hidden + blockDim.x - 1) / blockDim.x;
    if (blockIdx.x < hidden_blocks) {
        u32 j = blockIdx.x * blockDim.x + threadIdx.x;
        if (j < p.n_hidden) descend_hidden(s, p, rule, pace, j);
    } else {
        u32 i = (blockIdx.x - hidden_blocks) * blockDim.x + threadIdx.x;
        if (i < p.n_visible) descend_visible(s, p, rule, pace, i);
    }
}

/// The step of weights by the rules.
struct Descent {
    const Rule& rule;
    const Pace& pace;

    __device__ bool reads() const { return true; }
    static constexpr bool BIASES = false;

    __device__ void take(float2* weights, const Statistics& s, float2 positive, float2 negative, Pair at) const {
        if (!at.exists) return;
        float centre = rule.centre[at.visible];
        float2 slope = *(const float2*)(rule.slope + at.hidden), velocity = {0.0f, 0.0f};
        if (rule.weights_velocity) velocity = *(const float2*)(rule.weights_velocity + at.place);
        float2 gradient = {gradient_of(s, positive.x, negative.x), gradient_of(s, positive.y, negative.y)};
        weights->x = rule.weight(weights->x, gradient.x, centre, slope.x, velocity.x, pace);
        weights->y = rule.weight(weights->y, gradient.y, centre, slope.y, velocity.y, pace);
        // Beyond the last unit it stays 0.
        if (rule.weights_velocity) *(float2*)(rule.weights_velocity + at.place) = velocity;
    }
};

/// The weights, from P^ and N^. A tile per block, as in `learn`.
extern "C" __global__ void __launch_bounds__(256) descend_weights(Statistics s, Parameters p, Rule rule, Pace pace) {
    learn_tile<false>(s, p, Descent{rule, pace});
}
extern "C" __global__ void __launch_bounds__(256)
    descend_weights_from_numbers(Statistics s, Parameters p, Rule rule, Pace pace) {
    learn_tile<true>(s, p, Descent{rule, pace});
}

/// The same, except the transposed weights, from the products of P^ and N^ with the visible units. A thread per weight.
extern "C" __global__ void __launch_bounds__(256)
    descend_by_products(const float* gradient, Parameters p, Rule rule, Pace pace) {
    u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    u64 i = at / p.weights_stride, j = at % p.weights_stride;
    if (i >= p.n_visible || j >= p.n_hidden) return;
    float velocity = rule.weights_velocity ? rule.weights_velocity[at] : 0.0f;
    p.weights[at] = rule.weight(p.weights[at], gradient[at], rule.centre[i], rule.slope[j], velocity, pace);
    if (rule.weights_velocity) rule.weights_velocity[at] = velocity;
}

/// theta <- theta + part*(to - theta) for n parameters.
extern "C" __global__ void approach(float* parameters, const float* to, float part, u64 n) {
    u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at < n) parameters[at] = slide(parameters[at], to[at], part);
}
