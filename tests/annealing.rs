//! Annealing against one sequential program, forward and in reverse, on every device; and the interval of one direction against its
//! formula.
//!
//! Parameters are multiples of 1/64, so that their sums are exact in any order. A matrix library must give the same numbers as the
//! canonical sums, and every device the same draws. Only the rounding of sums in `f64` remains. There are few temperatures: a draw
//! at a wrong temperature changes some of the hundreds of draws of its step, and so changes the result by far more than rounding.

mod oracle;

use harmonium::{
    Chains, Device, Purpose, Rbm, Resident, Shape, Uniforms,
    elementary::softplus,
    log_partition::{
        Agreement, Annealing, BaseRate, LogPartition, Schedule, Start, Verdict, ais, bracket, reverse_ais,
    },
    uniforms::unit_interval,
};
use oracle::{canonical, exact::log_sum_exp, for_each_device, generator, random_bits, rows, shape};
use rand_core::Rng;
use rand_pcg::Pcg32;

/// The rounding of a number in `f64`.
const U: f64 = f64::EPSILON / 2.0;

/// A model with parameters that are multiples of 1/64 within [-1, 1], times `scale`.
fn coarse_rbm(shape: Shape, scale: f32, seed: u64) -> Rbm {
    let mut generator = generator(seed);
    let mut some = |n: usize| (0..n).map(|_| scale * ((generator.next_u32() % 129) as f32 / 64.0 - 1.0)).collect();
    let (nv, nh) = (shape.n_visible(), shape.n_hidden());
    Rbm::from_parts(shape, some(nv * nh), some(nv), some(nh)).expect("a model")
}

/// The sequential program: chain by chain, unit by unit, one generator.
struct Program<'a> {
    rbm: &'a Rbm,
    /// The biases of the base rate.
    reference: &'a [f32],
    generator: Pcg32,
    /// The hidden layers, chain by chain.
    h: Vec<f32>,
    log_weights: Vec<f64>,
    /// The inputs of the rounding error of a log-weight: the number of sums in it, and the magnitude of their terms.
    terms: usize,
    sizes: Vec<f64>,
}

/// Σ x_k·w_k in ascending order, by fused multiply-adds.
fn dense(x: &[f32], w: impl Fn(usize) -> f32) -> f32 {
    x.iter().enumerate().fold(0.0, |sum, (k, &x)| x.mul_add(w(k), sum))
}

impl<'a> Program<'a> {
    fn new(rbm: &'a Rbm, base_rate: &'a BaseRate, draws: &Uniforms) -> Self {
        let (reference, generator) = (base_rate.bias(), draws.generator());
        Self { rbm, reference, generator, h: Vec::new(), log_weights: Vec::new(), terms: 0, sizes: Vec::new() }
    }

    /// Starts runs of chains with these hidden layers.
    fn begin(&mut self, h: Vec<f32>) {
        self.log_weights = vec![0.0; h.len() / self.rbm.shape().n_hidden()];
        self.sizes = self.log_weights.clone();
        (self.h, self.terms) = (h, 0);
    }

    /// Repeats the hidden layers until there are `runs` of them.
    fn repeat(&mut self, runs: usize) {
        let nh = self.rbm.shape().n_hidden();
        let h: Vec<f32> = self.h.iter().copied().cycle().take(self.h.len().max(runs * nh)).collect();
        self.begin(h);
    }

    /// h ~ P(h|v) for rows v.
    fn start(&mut self, v: &[f32]) {
        let (nv, nh) = (self.rbm.shape().n_visible(), self.rbm.shape().n_hidden());
        let (w, c) = (self.rbm.view().weights(), self.rbm.view().hidden_bias());
        let sum = |v: &[f32], j: usize| dense(v, |i| w[i * nh + j]) + c[j];
        let pre: Vec<f32> = v.chunks_exact(nv).flat_map(|v| (0..nh).map(move |j| sum(v, j))).collect();
        let h = canonical::sample(&pre, &mut self.generator);
        self.begin(h);
    }

    /// v ~ P_from(v|h), the gain of the weight between `from` and `to`, h ~ P_to(h|v), for all chains. From 1 to 1 it is a Gibbs
    /// step.
    fn step(&mut self, from: f32, to: f32) {
        let (nv, nh) = (self.rbm.shape().n_visible(), self.rbm.shape().n_hidden());
        let view = self.rbm.view();
        let (w, b, c) = (view.weights(), view.visible_bias(), view.hidden_bias());
        let mut pre = Vec::new();
        for h in self.h.chunks_exact(nh) {
            for i in 0..nv {
                let bias = from.mul_add(b[i], (1.0 - from) * self.reference[i]);
                pre.push(from.mul_add(dense(h, |j| w[i * nh + j]), bias));
            }
        }
        let v = canonical::sample(&pre, &mut self.generator);
        pre.clear();
        for ((v, log_weight), size) in v.chunks_exact(nv).zip(&mut self.log_weights).zip(&mut self.sizes) {
            for i in 0..nv {
                let slope = f64::from(b[i]) - f64::from(self.reference[i]);
                let term = f64::from(v[i]) * (f64::from(to) - f64::from(from)) * slope;
                *log_weight += term;
                *size += term.abs();
            }
            for j in 0..nh {
                let sum = dense(v, |i| w[i * nh + j]);
                let (before, after) = (from.mul_add(sum, from * c[j]), to.mul_add(sum, to * c[j]));
                let term = f64::from(softplus(after) - softplus(before));
                *log_weight += term;
                *size += term.abs();
                pre.push(after);
            }
        }
        self.h = canonical::sample(&pre, &mut self.generator);
        self.terms += nv + nh;
    }

    fn anneal(&mut self, betas: impl IntoIterator<Item = f32>) {
        let betas: Vec<f32> = betas.into_iter().collect();
        betas.windows(2).for_each(|pair| self.step(pair[0], pair[1]));
    }

    /// Forward runs. At β = 0 the initial states do not matter.
    fn forward(&mut self, settings: &Annealing) {
        self.begin(vec![0.0; settings.runs * self.rbm.shape().n_hidden()]);
        self.anneal(settings.schedule.betas().iter().copied());
    }

    /// Burn-in and reverse runs, from the current states of the chains.
    fn reverse(&mut self, settings: &Annealing) {
        self.repeat(settings.runs);
        (0..settings.burn_in).for_each(|_| self.step(1.0, 1.0));
        self.begin(self.h.clone());
        self.anneal(settings.schedule.betas().iter().rev().copied());
    }

    /// Resamples `len` chains by their weights: number n is the first one at which the cumulative weight reaches (n + u)/len of the
    /// total. Returns the number of different chains.
    fn resample(&mut self, len: usize) -> usize {
        let (nh, runs) = (self.rbm.shape().n_hidden(), self.log_weights.len());
        let u = f64::from((self.generator.next_u32() >> 8) as f32 / 16_777_216.0);
        let greatest = self.log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let so_far: Vec<f64> = self
            .log_weights
            .iter()
            .scan(0.0, |sum, log| {
                *sum += (log - greatest).exp();
                Some(*sum)
            })
            .collect();
        let chosen: Vec<usize> = (0..len)
            .map(|n| {
                let place = (n as f64 + u) / len as f64 * so_far[runs - 1];
                so_far.iter().position(|&sum| sum >= place).unwrap_or(runs - 1)
            })
            .collect();
        self.begin(chosen.iter().flat_map(|&run| self.h[run * nh..][..nh].to_vec()).collect());
        let mut different = chosen;
        different.dedup();
        different.len()
    }

    /// The effect of the order of the sums on a log-weight (N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2002,
    /// section 4.2): each order has at most as many roundings as terms, and each term has four more.
    fn rounding(&self) -> f64 {
        2.0 * (self.terms + 4) as f64 * U * self.sizes.iter().copied().fold(0.0, f64::max)
    }

    /// log Z_0 = Σ_i sp(a_i) + n_hidden·ln 2.
    fn log_z_0(&self) -> f64 {
        let visible: f64 = self.reference.iter().map(|&a| oracle::exact::softplus(f64::from(a))).sum();
        visible + self.rbm.shape().n_hidden() as f64 * 2f64.ln()
    }

    /// Asserts that these runs gave this log Z, and the end of its interval that one direction gives; see the documentation of
    /// `log_partition`.
    #[track_caller]
    fn assert_gave(&self, found: &LogPartition, is_reverse: bool, what: &str) {
        let logs = &self.log_weights;
        let runs = logs.len() as f64;
        let log_mean = log_sum_exp(logs) - runs.ln();
        let weights: Vec<f64> = logs.iter().map(|log| (log - log_mean).exp()).collect();
        let square = weights.iter().map(|w| w * w).sum::<f64>();
        let effective = runs * runs / square;
        let standard_error = ((square - runs) / (runs - 1.0) / runs).max(0.0).sqrt();
        let is_small = effective < (runs / 10.0).max(10.0);
        let unlikely = (1.0 / 0.00135f64).ln();
        let unseen = if runs > unlikely { -(1.0 - unlikely / runs).ln() } else { f64::INFINITY };
        let too_high = (3.0 * standard_error).max(unseen).max(if is_small { unlikely } else { 0.0 });
        let estimate = self.log_z_0() + if is_reverse { -log_mean } else { log_mean };

        // The sums of R weights, and the last few operations.
        let off = self.rounding() + (runs + 20.0) * U * (1.0 + estimate.abs() + self.log_z_0().abs());
        assert!(
            (found.estimate - estimate).abs() <= off,
            "{what}: found {}, expected {estimate} ± {off:e}",
            found.estimate
        );
        // If all weights change by a share of t, the standard error changes by at most 4t, because it is at most 1. ln(1/0.00135)
        // has five digits, of which ln(1 - x) with x = 6.6/R keeps the share 1/(1 - x).
        let digits = 5e-5 * if unseen.is_finite() { 1.0 / (runs - unlikely).min(1.0) } else { 1.0 };
        let off_end = 16.0 * off + digits;
        assert!((found.effective_sample_size / effective - 1.0).abs() <= 4.0 * off, "{what}: {found:?} {effective}");
        let n_hidden = self.rbm.shape().n_hidden() as f64;
        let size = self.log_z_0().abs() + logs.iter().map(|log| log.abs()).fold(0.0, f64::max);
        let (end, other) = match is_reverse {
            true => (found.upper - estimate, -found.lower),
            false => (estimate - found.lower, found.upper),
        };
        assert_eq!(other, f64::INFINITY, "{what}: one direction bounds one end");
        if too_high.is_finite() {
            // In addition to the formula there is the allowance for `f32`, 2^-20·(n_hidden + |log Z|), and nothing else.
            let allowance = (end - too_high) * 2f64.powi(20);
            let off = off_end * 2f64.powi(20);
            assert!(
                allowance >= n_hidden - off && allowance <= n_hidden + size + off,
                "{what}: the end is {end} away, expected {too_high}; 2^-20·{allowance} more, ± {off}"
            );
        } else {
            assert_eq!(end, f64::INFINITY, "{what}");
        }
        assert_eq!((found.runs, found.forward.is_some()), (logs.len(), !is_reverse), "{what}");
    }
}

/// A model, the base rate and settings of annealing, and rows at which reverse runs start.
struct Case {
    rbm: Rbm,
    base_rate: BaseRate,
    settings: Annealing,
    data: Vec<f32>,
}

/// Sizes that fill less than one group, one and several; less than one tile of units, one and several. Schedules of one step, of a
/// few and, so that a device processes several parts of it, of 137.
fn cases() -> Vec<Case> {
    let few = [0.0, 0.125, 0.375, 0.5, 0.75, 1.0].to_vec();
    let twice = [0.0, 0.25, 0.25, 1.0].to_vec();
    let schedules = [vec![0.0, 1.0], few.clone(), twice, Schedule::new(137).expect("steps").betas().to_vec()];
    let sizes = [(7, 5, 600, 1), (70, 65, 9, 2), (33, 130, 70, 3), (64, 64, 32, 4)];
    let mut all = Vec::new();
    for (n, betas) in schedules.into_iter().enumerate() {
        for (nv, nh, runs, seed) in sizes {
            // For the long schedule one size is enough for the sequential program.
            if n == 3 && runs != 9 {
                continue;
            }
            let schedule = Schedule::from_betas(betas.clone()).expect("rises");
            let data = random_bits((runs + 2) * nv, 0.3, seed);
            all.push(Case {
                rbm: coarse_rbm(shape(nv, nh), if nv < 10 { 1.0 } else { 0.25 }, seed),
                base_rate: BaseRate::fit(rows(&data, nv)),
                settings: Annealing { runs, schedule, burn_in: if n == 3 { 103 } else { 2 }, seed },
                data,
            });
        }
    }
    all
}

/// The bits of hidden layers as numbers.
fn unpacked(chains: &Chains, nh: usize) -> Vec<f32> {
    let state = chains.state().expect("a state");
    let words = nh.div_ceil(64);
    let bit = |words: &[u64], j: usize| (words[j / 64] >> (j % 64) & 1) as f32;
    state.hidden.chunks_exact(words).flat_map(|words| (0..nh).map(move |j| bit(words, j))).collect()
}

/// Both directions, from every kind of start, on one device.
fn check(device: &Device, case: &Case) {
    let Case { rbm, base_rate, settings, data } = case;
    let nv = rbm.shape().n_visible();
    let resident: Resident = rbm.on(device).expect("resident");
    let what = |how: &str| format!("{} of {}, {} steps, {how}", settings.runs, rbm.shape(), settings.schedule.steps());
    let mut program = Program::new(rbm, base_rate, &Uniforms::new(settings.seed, Purpose::Annealing));
    program.forward(settings);
    program.assert_gave(&ais(&resident, base_rate, settings).expect("an estimate"), false, &what("forward"));

    let reverse =
        |start, settings: &Annealing| reverse_ais(&resident, base_rate, start, settings).expect("an estimate");
    let sampling = Uniforms::new(settings.seed, Purpose::Sampling);
    // As many rows as runs, fewer and more.
    for n in [settings.runs, settings.runs / 3, settings.runs + 2] {
        let mut program = Program::new(rbm, base_rate, &sampling);
        let v = &data[..n * nv];
        program.start(v);
        program.reverse(settings);
        program.assert_gave(&reverse(Start::Rows(rows(v, nv).into()), settings), true, &what(&format!("{n} rows")));
    }
    // Without a burn-in the result differs; otherwise the test would not cover it.
    let start = Start::Rows(rows(&data[..settings.runs * nv], nv).into());
    let without = Annealing { burn_in: 0, ..settings.clone() };
    assert!(
        (reverse(start, &without).estimate - reverse(start, settings).estimate).abs() > 1e-3,
        "{}",
        what("burn-in")
    );

    let mut chains = Chains::from_visible(&resident, rows(&data[..4 * nv], nv), Uniforms::new(9, Purpose::Training))
        .expect("chains");
    chains.sweep(&resident, 1).expect("a sweep");
    let mut program = Program::new(rbm, base_rate, &chains.state().expect("a state").uniforms);
    program.begin(unpacked(&chains, rbm.shape().n_hidden()));
    program.reverse(settings);
    program.assert_gave(&reverse(Start::Chains(&chains), settings), true, &what("chains"));

    let mut program = Program::new(rbm, base_rate, &sampling);
    program.forward(settings);
    program.resample(settings.runs);
    program.reverse(settings);
    program.assert_gave(&reverse(Start::Annealed, settings), true, &what("annealed"));
}

/// ln(1/0.00135).
const UNLIKELY: f64 = 6.607_650_687;

/// The ends from forward and reverse log-weights together. They come from the means of s(f - C) and s(r + C), at the C that makes
/// their sums equal: the ends are as unlikely as three standard errors by Chernoff's inequality, where the reverse runs count as
/// `starts`.
fn together(forward: &[f64], reverse: &[f64], starts: f64) -> (f64, f64) {
    let (n, m) = (forward.len() as f64, reverse.len() as f64);
    let root = |mut low: f64, mut high: f64, rises: &dyn Fn(f64) -> f64| {
        (0..200).for_each(|_| {
            let middle = low.midpoint(high);
            if rises(middle) < 0.0 { low = middle } else { high = middle }
        });
        low
    };
    let sum = |logs: &[f64], c: f64| logs.iter().map(|log| 1.0 / (1.0 + (-log - c).exp())).sum::<f64>();
    let c = root(-1e3, 1e3, &|c| sum(reverse, c) - sum(forward, -c));
    let kl = |a: f64, p: f64| a * (a / p).ln() + (1.0 - a) * ((1.0 - a) / (1.0 - p)).ln();
    let ends =
        |a: f64, n: f64| (root(0.0, a, &|p| UNLIKELY - n * kl(a, p)), root(a, 1.0, &|p| n * kl(a, p) - UNLIKELY));
    let (up, down) = (ends(sum(forward, -c) / n, n), ends(sum(reverse, c) / m, starts));
    (c + (up.0 / down.1).ln(), c + (up.1 / down.0).ln())
}

/// The log of the mean weight, and its greatest excess if the weights count as `runs`.
fn alone(logs: &[f64], runs: f64) -> (f64, f64) {
    let n = logs.len() as f64;
    let log_mean = log_sum_exp(logs) - n.ln();
    let squares = logs.iter().map(|log| (2.0 * (log - log_mean)).exp()).sum::<f64>();
    let error = ((squares - n) / (n - 1.0) / runs).sqrt();
    let unseen = if runs > UNLIKELY { -(1.0 - UNLIKELY / runs).ln() } else { f64::INFINITY };
    let is_small = n / squares * runs < (runs / 10.0).max(10.0);
    (log_mean, (3.0 * error).max(unseen).max(if is_small { UNLIKELY } else { 0.0 }))
}

/// The bracket of these rows as a sequential program, for chains whose burn-in is too short to show whether they mix. Returns its
/// two ends.
fn naive_bracket(rbm: &Rbm, base_rate: &BaseRate, v: &[f32], settings: &Annealing) -> (f64, f64) {
    let (nh, runs) = (rbm.shape().n_hidden(), settings.runs);
    let uniform = BaseRate::uniform(rbm.shape().n_visible());
    let mut draws = Uniforms::new(settings.seed, Purpose::Annealing);
    let (mut forward, mut shares, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for (base, runs) in [(base_rate, runs), (&uniform, runs / 2)] {
        let mut program = Program::new(rbm, base, &draws);
        program.forward(&Annealing { runs, ..settings.clone() });
        draws.skip((settings.schedule.steps() * runs * (rbm.shape().n_visible() + nh)) as u64);
        let logs: Vec<f64> = program.log_weights.iter().map(|log| program.log_z_0() + log).collect();
        shares.extend(logs.iter().map(|log| log - (runs as f64).ln()));
        ends.extend(program.h.iter().copied());
        forward.push(logs);
    }
    // Grown from the base rate.
    let mut draws = Uniforms::new(settings.seed, Purpose::Sampling);
    let mut program = Program::new(rbm, base_rate, &draws);
    program.begin(ends);
    program.log_weights.clone_from(&shares);
    let grown = 3 * runs / 10;
    program.resample(grown);
    let mut h = std::mem::take(&mut program.h);
    // Started at the given rows.
    program.start(v);
    let given = std::mem::take(&mut program.h);
    let rows = given.len() / nh;
    draws.skip(1 + given.len() as u64);
    let order = draws.permutation(rows);
    order.iter().cycle().take(grown).for_each(|row| h.extend_from_slice(&given[row * nh..][..nh]));
    // Spread at random.
    program.generator = draws.generator();
    let spread = runs / 5;
    for chain in 0..spread {
        let density = chain as f32 / (spread - 1) as f32;
        h.extend((0..nh).map(|_| f32::from(unit_interval(program.generator.next_u32()) < density)));
    }
    let all = h.len() / nh;
    program.begin(h);
    (0..settings.burn_in).for_each(|_| program.step(1.0, 1.0));
    let start = program.h.clone();
    let reverse = [base_rate, &uniform].map(|base| {
        program.reference = base.bias();
        program.begin(start.clone());
        program.anneal(settings.schedule.betas().iter().rev().copied());
        program.log_weights.iter().map(|log| log - program.log_z_0()).collect::<Vec<f64>>()
    });

    let effective = 2.0 * log_sum_exp(&shares) - log_sum_exp(&shares.iter().map(|log| 2.0 * log).collect::<Vec<_>>());
    let starts = effective.exp().min(grown as f64);
    let (mut lower, mut upper) = (f64::NEG_INFINITY, f64::INFINITY);
    for (forward, reverse) in forward.iter().zip(&reverse) {
        let (low, high) = together(forward, &reverse[..grown], starts);
        let (up, down) = (alone(forward, forward.len() as f64), alone(&reverse[..grown], starts));
        lower = lower.max(low).max(up.0 - up.1);
        upper = upper.min(high).min(-down.0 + down.1);
    }
    let beyond =
        (grown..all).map(|chain| (-reverse[0][chain]).min(-reverse[1][chain]) - upper).fold(f64::MIN, f64::max);
    assert!(starts > UNLIKELY && beyond.exp() * UNLIKELY < runs as f64, "{starts} starts, {beyond} nats beyond");
    (lower, upper + (beyond.exp() * UNLIKELY / runs as f64).ln_1p())
}

for_each_device! {
    fn annealing_is_the_sequential_program(device) {
        cases().iter().for_each(|case| check(&device, case));
    }

    /// Weights so different that a few runs are resampled many times. Reverse runs from equal shares of all runs, or from another
    /// selection, would give another result.
    fn runs_are_resampled_by_their_weights(device) {
        for (nv, nh, runs, seed) in [(70, 65, 20, 1), (40, 90, 30, 2)] {
            let rbm = coarse_rbm(shape(nv, nh), 1.0, seed);
            let base_rate = BaseRate::uniform(nv);
            let schedule = Schedule::from_betas(vec![0.0, 0.25, 0.5, 1.0]).expect("rises");
            let settings = Annealing { runs, schedule, burn_in: 1, seed };
            let resident = rbm.on(&device).expect("resident");
            let mut program = Program::new(&rbm, &base_rate, &Uniforms::new(seed, Purpose::Annealing));
            program.forward(&settings);
            let found = ais(&resident, &base_rate, &settings).expect("an estimate");
            program.assert_gave(&found, false, "forward");

            let mut program = Program::new(&rbm, &base_rate, &Uniforms::new(seed, Purpose::Sampling));
            program.forward(&settings);
            let different = program.resample(runs);
            assert!((2..=runs / 3).contains(&different), "{different} of {runs}");
            program.reverse(&settings);
            let found = reverse_ais(&resident, &base_rate, Start::Annealed, &settings).expect("an estimate");
            program.assert_gave(&found, true, "annealed");
        }
    }

    /// Base rates, populations, their order and draws, the runs that count and their effective number: a bracket equals the
    /// program's.
    fn a_bracket_is_the_sequential_program(device) {
        for (nv, nh, runs, seed) in [(33, 40, 50, 7), (70, 9, 40, 8)] {
            let rbm = coarse_rbm(shape(nv, nh), 0.25, seed);
            let data = random_bits(17 * nv, 0.4, seed);
            let base_rate = BaseRate::fit(rows(&data, nv));
            let schedule = Schedule::from_betas(vec![0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0]).expect("rises");
            let settings = Annealing { runs, schedule, burn_in: 5, seed };
            let (lower, upper) = naive_bracket(&rbm, &base_rate, &data, &settings);
            let resident = rbm.on(&device).expect("resident");
            let start = Start::Rows(rows(&data, nv).into());
            let found = bracket(&resident, &base_rate, start, &settings).expect("a bracket");
            assert_eq!((found.verdict(), found.mix), (Verdict::Bracketed, Some(false)), "{found:?}");
            assert!(matches!(found.agreement, Agreement::Meet | Agreement::Apart), "{found:?}");
            // Five digits of ln(1/0.00135), and the allowance for `f32`, twice if Bennett's ends include it.
            let off = 1e-4 * (upper - lower);
            let allowance = 2f64.powi(-19) * (nh as f64 + 2.0 * upper.abs().max(200.0));
            assert!((-off..=allowance + off).contains(&(lower - found.lower)), "{found:?}, expected {lower}");
            assert!((-off..=allowance + off).contains(&(found.upper - upper)), "{found:?}, expected {upper}");
        }
    }
}
