// Visible layers of several laws, from all sums of the layer. src/units/ has the laws; src/cpu/visible.rs, anneal.rs,
// energies.rs and pseudo_likelihood.rs have the order of every sum.
//
// The sums and the draw of a Potts site are written here as in src/units/potts.rs, because they are not functions of single
// numbers; every other formula of a law is in units.cuh or elementary.cuh.
#include "gemm.cu"

#define BINARY 0u
#define POTTS 1u
#define GAUSSIAN 2u

/// Neighbouring visible units of one law: `sites` variables of `states` units each, from unit `first` on.
struct Segment {
    u32 law;
    u32 first;
    u32 sites;
    u32 states;
};

/// The laws of the visible units.
struct Laws {
    const Segment* segments;
    /// s of each unit, and that of the model at inverse temperature 0 or null for 0; null without Gaussian units.
    const float* precision;
    const float* reference_precision;
    u32 count;
    u32 sites;

    /// The segment of variable n; n becomes its number within the segment.
    __device__ Segment of_site(u32& n) const {
        const Segment* segment = segments;
        for (; n >= segment->sites; segment++) n -= segment->sites;
        return *segment;
    }

    /// The segment of a unit.
    __device__ Segment of_unit(u32 unit) const {
        const Segment* segment = segments;
        while (unit - segment->first >= segment->sites * segment->states) segment++;
        return *segment;
    }

    __device__ float precision_of(u32 unit) const { return precision ? precision[unit] : 1.0f; }
    __device__ float reference_of(u32 unit) const { return reference_precision ? reference_precision[unit] : 0.0f; }
};

/// A sum plus a number of each lane of a warp, lane after lane.
__device__ inline double add_in_order(double sum, double term) {
#pragma unroll
    for (u32 lane = 0; lane < 32; lane++) sum = __dadd_rn(sum, __shfl_sync(FULL_WARP, term, lane));
    return sum;
}

/// The greatest of a site's pre-activations `pre(s)`, and the sum of e^(a - greatest), states ascending.
struct Softmax {
    float greatest;
    double total;

    template <class Pre>
    __device__ Softmax(u32 states, Pre pre) : greatest(__int_as_float(0xff800000)), total(0.0) {
        for (u32 s = 0; s < states; s++) {
            float a = pre(s);
            greatest = greatest < a ? a : greatest;
        }
        for (u32 s = 0; s < states; s++) total = __dadd_rn(total, (double)weight(pre(s)));
    }

    __device__ float weight(float a) const { return exp_of(__fadd_rn(a, -greatest)); }
};

/// The number u of a site, exact.
__device__ inline double site_number(u32 x) { return __dmul_rn(__dadd_rn((double)x, 0.5), 1.0 / 4294967296.0); }

/// Minus the energy of a unit alone in state x, in nats.
__device__ inline double minus_own_energy(u32 law, float x, float bias, float precision) {
    if (law != GAUSSIAN) return __dmul_rn((double)x, (double)bias);
    double d = __dadd_rn((double)x, -(double)bias);
    return __dmul_rn(-0.5, __dmul_rn((double)precision, __dmul_rn(d, d)));
}

/// Rows of visible states times the precisions of their units.
extern "C" __global__ void __launch_bounds__(256)
    scaled_rows(Rows rows, u32 units, const float* precision, float* out, u32 stride) {
    Place at(units, 1);
    if (at.unit >= units) return;
    out[at.first_row * stride + at.unit] = __fmul_rn(precision[at.unit], rows.value(at.first_row, at.unit));
}

/// The rest of a visible layer, from its sums, or if `down` has no bias from its pre-activations; rows x stride. Outputs:
/// pre-activations, means and, if there is a generator, states, and states times precisions. Null for outputs that are not needed;
/// outputs may overwrite the sums. A thread per variable of a row. `betas` and `first` are as in `activate`.
extern "C" __global__ void __launch_bounds__(256)
    visible_layer(Side down, Laws laws, const float* sums, const float* betas, u32 beta_step, const u64* generator, u64 first,
                  float* pre_activations, float* means, float* states, float* scaled) {
    Place at(laws.sites, 1);
    u64 row = at.first_row, state = 0;
    if (generator) state = jump_over(first + row * down.made).from(*generator);
    if (at.unit >= laws.sites) return;
    u32 site = at.unit;
    Segment segment = laws.of_site(site);
    u32 unit = segment.first + site * segment.states;
    u64 place = row * down.stride + unit;
    float beta = betas ? betas[row * beta_step] : 1.0f;
    u32 number = generator ? output(state_behind(state, unit)) : 0;
    auto reference = [&](u32 s) { return down.reference ? down.reference[unit + s] : 0.0f; };
    auto keep = [&](u32 s, float pre, float mean, float x) {
        if (pre_activations) pre_activations[place + s] = pre;
        if (means) means[place + s] = mean;
        if (generator && states) states[place + s] = x;
        if (generator && scaled) scaled[place + s] = __fmul_rn(laws.precision_of(unit + s), x);
    };
    if (segment.law == GAUSSIAN) {
        float own = laws.precision_of(unit), other = laws.reference_of(unit), mean = sums[place], x = 0.0f;
        if (down.bias) mean = gaussian_mean(mean, down.bias[unit], own, reference(0), other, beta);
        if (generator) {
            bool upper = number >> 31;
            float z = normal_size(end_distance(number, upper));
            x = gaussian_state(mean, precision_at(own, other, beta), upper ? z : -z);
        }
        return keep(0, mean, mean, x);
    }
    auto pre = [&](u32 s) {
        float sum = sums[place + s];
        return down.bias ? pre_activation_of(sum, down.bias[unit + s], reference(s), beta) : sum;
    };
    if (segment.law == BINARY) {
        float a = pre(0), odds = odds_off(a);
        bool upper = odds < 1.0f;
        return keep(0, a, mean_of_odds(a, odds), is_rare(odds, end_distance(number, upper)) != upper ? 1.0f : 0.0f);
    }
    Softmax softmax(segment.states, pre);
    u32 chosen = 0;
    if (generator) {
        double target = __dmul_rn(site_number(number), softmax.total), through = 0.0;
        for (u32 s = 0; s + 1 < segment.states; s++) {
            through = __dadd_rn(through, (double)softmax.weight(pre(s)));
            chosen += through <= target ? 1 : 0;
        }
    }
    for (u32 s = 0; s < segment.states; s++) {
        float a = pre(s), mean = __double2float_rn(__ddiv_rn((double)softmax.weight(a), softmax.total));
        keep(s, a, mean, s == chosen ? 1.0f : 0.0f);
    }
}

/// Overwrites the chains' sampled visible states, chains x stride, with the values that they keep, for chain m those of row m mod
/// rows: the present ones, or if `left_out` the missing ones, which are 0. Also their products with precisions and
/// the states as bits; null for outputs that are not needed. A thread per unit of a chain.
extern "C" __global__ void __launch_bounds__(256)
    keep_visible(Rows rows, u32 left_out, u32 units, const float* precision, float* states, float* scaled, u32 stride,
                 u32* bits) {
    Place at(units, 1);
    u64 chain = at.first_row, place = chain * stride + at.unit;
    u32 row = (u32)chain % rows.rows;
    bool exists = at.unit < units, on = false;
    if (exists) {
        float x = states[place];
        if (rows.is_missing(row, at.unit) == (left_out != 0)) {
            states[place] = x = rows.value(row, at.unit);
            if (scaled) scaled[place] = __fmul_rn(precision[at.unit], x);
        }
        on = x != 0.0f;
    }
    if (!bits) return;
    u32 word = __ballot_sync(FULL_WARP, on);
    if (exists && at.unit % 32 == 0) bits[chain * words_of(units) + at.unit / 32] = word;
}

/// The log probability of each row's present values given pre-activations, rows x stride; without the constants of Gaussian units.
/// A warp per row.
extern "C" __global__ void __launch_bounds__(128)
    reconstruction(Rows rows, Laws laws, const float* pre, u32 stride, double* out) {
    u64 row = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (row >= rows.rows) return;
    double all = 0.0;
    for (u32 n = 0; n < laws.count; n++) {
        Segment segment = laws.segments[n];
        double sum = 0.0;
        for (u32 first = 0; first < segment.sites; first += 32) {
            u32 site = first + threadIdx.x % 32, unit = segment.first + site * segment.states;
            double term = 0.0;
            bool there = site < segment.sites && !rows.is_missing(row, unit);
            if (there && segment.law == POTTS) {
                auto a = [&](u32 s) { return pre[row * stride + unit + s]; };
                Softmax softmax(segment.states, a);
                for (u32 s = 0; s < segment.states; s++) {
                    term = __dadd_rn(term, __dmul_rn((double)rows.value(row, unit + s), (double)a(s)));
                }
                double log = (double)ln_of(__double2float_rn(softmax.total));
                term = __dadd_rn(term, -__dadd_rn((double)softmax.greatest, log));
            } else if (there) {
                float a = pre[row * stride + unit], x = rows.value(row, unit);
                term = segment.law == GAUSSIAN ? minus_own_energy(GAUSSIAN, x, a, laws.precision_of(unit))
                                               : __dadd_rn(__dmul_rn((double)x, (double)a), -(double)softplus(a));
            }
            sum = add_in_order(sum, term);
        }
        all = __dadd_rn(all, sum);
    }
    if (threadIdx.x % 32 == 0) out[row] = all;
}

/// `gain` for these laws; the units' own terms are in one sum, units ascending. A warp per chain.
extern "C" __global__ void __launch_bounds__(128)
    gain_of_laws(Side down, Side up, Laws laws, u32 chains, const float* states, const float* sums, const float* betas,
                 double* log_weights) {
    u64 chain = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (chain >= chains) return;
    u32 lane = threadIdx.x % 32;
    double slopes = 0.0, hidden = 0.0;
    for (u32 first = 0; first < down.made; first += 32) {
        u32 i = first + lane;
        double slope = 0.0;
        if (i < down.made) {
            u32 law = laws.of_unit(i).law;
            float x = states[chain * down.stride + i];
            slope = __dadd_rn(minus_own_energy(law, x, down.bias[i], laws.precision_of(i)),
                              -minus_own_energy(law, x, down.reference[i], laws.reference_of(i)));
        }
        slopes = add_in_order(slopes, slope);
    }
    for (u32 j = lane < 16 ? lane : up.made; j < up.made; j += 16) {
        float sum = sums[chain * up.stride + j];
        float before = pre_activation(up, j, sum, betas[0]), after = pre_activation(up, j, sum, betas[1]);
        hidden = __dadd_rn(hidden, (double)__fadd_rn(softplus(after), -softplus(before)));
    }
    double all = total(hidden);
    if (lane > 0) return;
    double rise = __dadd_rn((double)betas[1], -(double)betas[0]);
    log_weights[chain] = __dadd_rn(log_weights[chain], __dadd_rn(__dmul_rn(rise, slopes), all));
}

/// Subtracts the own terms of present visible units from the hidden units' free energies in `out`. Sixteen threads per row.
extern "C" __global__ void __launch_bounds__(128)
    own_energies(Rows rows, Laws laws, u32 units, const float* visible_bias, double* out) {
    u64 row = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / 16;
    u32 lane = threadIdx.x % 16;
    bool exists = row < rows.rows;
    double partial = 0.0;
    for (u32 i = exists ? lane : units; i < units; i += 16) {
        if (rows.is_missing(row, i)) continue;
        float x = rows.value(row, i);
        partial = __dadd_rn(partial, minus_own_energy(laws.of_unit(i).law, x, visible_bias[i], laws.precision_of(i)));
    }
    double all = total(partial);
    if (exists && lane == 0) out[row] = __dadd_rn(-all, out[row]);
}

/// The gradient of ln s^-1 of unit i, from the sum of weighted squares about b and the gradient of the weights.
__device__ inline float variance_gradient(u32 i, double s, double squares, const Parameters& p, const Parameters& gradient) {
    double product = 0.0;
    for (u32 j = 0; j < p.n_hidden; j++) {
        u64 at = (u64)i * p.weights_stride + j;
        product = __dadd_rn(product, __dmul_rn((double)p.weights[at], (double)gradient.weights[at]));
    }
    return __double2float_rn(__dadd_rn(__dmul_rn(-0.5, __dmul_rn(s, squares)), -product));
}

/// The same for the Gaussian units in an update, from the gradient of the weights: over the rows and over the chains' final states
/// where the unit is present; chain m belongs to row m mod rows. A thread per unit.
extern "C" __global__ void __launch_bounds__(256)
    variance_gradients(Rows rows, float of_rows, const float* ends, u32 stride, u32 chains, float of_chains, Laws laws,
                       Parameters p, Parameters gradient, float* log_variance) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= p.n_visible || laws.of_unit(i).law != GAUSSIAN) return;
    double b = (double)p.visible_bias[i], of_data = 0.0, of_ends = 0.0;
    for (u32 row = 0; row < rows.rows; row++) {
        if (rows.is_missing(row, i)) continue;
        double d = __dadd_rn((double)rows.value(row, i), -b);
        of_data = __dadd_rn(of_data, __dmul_rn((double)of_rows, __dmul_rn(d, d)));
    }
    for (u32 chain = 0; chain < chains; chain++) {
        if (rows.is_missing(chain % rows.rows, i)) continue;
        double d = __dadd_rn((double)ends[(u64)chain * stride + i], -b);
        of_ends = __dadd_rn(of_ends, __dmul_rn((double)of_chains, __dmul_rn(d, d)));
    }
    log_variance[i] = variance_gradient(i, (double)laws.precision_of(i), __dadd_rn(of_data, of_ends), p, gradient);
}

/// The own energies' part of the Gaussian units in a gradient of free energies, from the gradient of the weights. A thread per
/// unit.
extern "C" __global__ void __launch_bounds__(256) own_gradients(Rows rows, Laws laws, const float* row_weights, Parameters p,
                                                                Parameters gradient, float* log_variance) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= p.n_visible || laws.of_unit(i).law != GAUSSIAN) return;
    double b = (double)p.visible_bias[i], s = (double)laws.precision_of(i), sum = 0.0, squares = 0.0;
    for (u32 row = 0; row < rows.rows; row++) {
        if (rows.is_missing(row, i)) continue;
        double weight = (double)row_weights[row], d = __dadd_rn((double)rows.value(row, i), -b);
        sum = __dadd_rn(sum, __dmul_rn(weight, d));
        squares = __dadd_rn(squares, __dmul_rn(weight, __dmul_rn(d, d)));
    }
    gradient.visible_bias[i] = __double2float_rn(-__dmul_rn(s, sum));
    log_variance[i] = variance_gradient(i, s, squares, p, gradient);
}

/// The state of a site in a row, counted from 0: its unit that is on.
__device__ inline u32 state_of(const Rows& rows, u64 row, u32 first, u32 states) {
    for (u32 s = 0; s < states; s++) {
        if (rows.bit(row, first + s)) return s;
    }
    return 0;
}

/// The terms of a pseudo-likelihood, rows x n_visible: T_s of the states of Potts sites, and for a binary unit the log
/// probability itself. For one variable, or if `place_of_site` is null for all Potts sites. Sixteen threads per unit, a block
/// per row and some units.
/// `pre`: the hidden pre-activations of the rounded rows.
extern "C" __global__ void __launch_bounds__(256)
    pseudo_likelihood_of_states(Side up, Rows rows, Laws laws, const float* visible_bias, const u32* place_of_site,
                                const float* pre, double* terms) {
    u64 row = blockIdx.x;
    u32 lane = threadIdx.x % 16, units = blockDim.x / 16, from = 0, to = up.given;
    if (place_of_site) {
        u32 site = *place_of_site;
        Segment segment = laws.of_site(site);
        from = segment.first + site * segment.states;
        to = from + segment.states;
    }
    // All threads of a warp stay in the loop, for the shuffles.
    for (u32 first = from + blockIdx.y * units; first < to; first += gridDim.y * units) {
        u32 i = first + threadIdx.x / 16;
        Segment segment = laws.of_unit(min(i, to - 1));
        bool potts = segment.law == POTTS, exists = i < to && (potts || place_of_site);
        const float* weights = up.weights + (u64)i * up.stride;
        const float* own = weights;
        if (exists && potts) {
            u32 site = segment.first + (i - segment.first) / segment.states * segment.states;
            own = up.weights + (u64)(site + state_of(rows, row, site, segment.states)) * up.stride;
        }
        bool x = exists && !potts && rows.bit(row, i);
        double partial = 0.0;
        for (u32 j = exists ? lane : up.made; j < up.made; j += 16) {
            float a = pre[row * up.stride + j];
            if (potts) a = __fadd_rn(a, -own[j]);
            partial = __dadd_rn(partial, (double)flip(x, weights[j], a, softplus(a)));
        }
        double all = total(partial);
        if (!exists || lane > 0) continue;
        terms[row * up.given + i] = potts ? __dadd_rn((double)visible_bias[i], all) : of_bit(x, visible_bias[i], all);
    }
}

/// log P(x_g|x_-g) of a Potts site in state `own`, from its T.
__device__ inline double of_states(const double* terms, u32 states, u32 own) {
    double greatest = terms[0];
    for (u32 s = 1; s < states; s++) greatest = greatest < terms[s] ? terms[s] : greatest;
    float sum = 0.0f;
    for (u32 s = 0; s < states; s++) sum = __fadd_rn(sum, exp_of(__double2float_rn(__dadd_rn(terms[s], -greatest))));
    return __dadd_rn(__dadd_rn(terms[own], -greatest), -(double)ln_of(sum));
}

/// The pseudo-likelihood of each row: of all present variables, binary units first, or the number of variables times the term of
/// one. A warp per row.
extern "C" __global__ void __launch_bounds__(128)
    pseudo_likelihood_of_sites(Rows rows, Laws laws, const u32* place_of_site, const double* terms, u32 units, double* out) {
    u64 row = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (row >= rows.rows) return;
    terms += row * units;
    auto log = [&](const Segment& segment, u32 site) {
        u32 first = segment.first + site * segment.states;
        if (rows.is_missing(row, first)) return 0.0;
        if (segment.law == BINARY) return terms[first];
        return of_states(terms + first, segment.states, state_of(rows, row, first, segment.states));
    };
    double sum = 0.0;
    if (place_of_site) {
        u32 site = *place_of_site;
        Segment segment = laws.of_site(site);
        sum = __dmul_rn((double)laws.sites, log(segment, site));
    } else {
        for (u32 law = BINARY; law <= POTTS; law++) {
            for (u32 n = 0; n < laws.count; n++) {
                Segment segment = laws.segments[n];
                for (u32 first = 0; segment.law == law && first < segment.sites; first += 32) {
                    u32 site = first + threadIdx.x % 32;
                    sum = add_in_order(sum, site < segment.sites ? log(segment, site) : 0.0);
                }
            }
        }
    }
    if (threadIdx.x % 32 == 0) out[row] = sum;
}
