//! Annealing against one sequential program, forward and in reverse, on every device; and the interval of one direction
//! against its formula.
//!
//! Parameters are multiples of 1/64, so that their sums are exact in any order: a matrix library has to give the same numbers
//! as the canonical sums, and every device the same draws. What is left is the rounding of sums in `f64`. Temperatures are
//! few: a draw at another one than its own changes some of the hundreds of draws of its step, and with them the result by far
//! more than that.

mod oracle;

use harmonium::{
    Chains, Device, Purpose, Rbm, Resident, Shape, Uniforms,
    elementary::{sigmoid, softplus},
    log_partition::{Agreement, Annealing, BaseRate, LogPartition, Schedule, Start, ais, bracket, reverse_ais},
};
use oracle::{canonical, exact::log_sum_exp, for_each_device, generator, random_bits, rows, shape};
use rand_core::Rng;
use rand_pcg::Pcg32;

/// The rounding of a number in `f64`.
const U: f64 = f64::EPSILON / 2.0;

/// A model whose parameters are multiples of 1/64 within [-1, 1], or some times as large.
fn coarse_rbm(shape: Shape, scale: f32, seed: u64) -> Rbm {
    let mut generator = generator(seed);
    let mut some = |n: usize| (0..n).map(|_| scale * ((generator.next_u32() % 129) as f32 / 64.0 - 1.0)).collect();
    let (nv, nh) = (shape.n_visible(), shape.n_hidden());
    Rbm::from_parts(shape, some(nv * nh), some(nv), some(nh)).expect("a model")
}

/// The sequential program: chains one after the other, units one after the other, one generator.
struct Program<'a> {
    rbm: &'a Rbm,
    /// The biases of the base rate.
    reference: &'a [f32],
    generator: Pcg32,
    /// The hidden layers, chain after chain.
    h: Vec<f32>,
    log_weights: Vec<f64>,
    /// What the roundings of a log-weight may add up to: how many sums it is made of, and the size of their terms.
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

    /// Chains with these hidden layers, whose runs begin.
    fn begin(&mut self, h: Vec<f32>) {
        self.log_weights = vec![0.0; h.len() / self.rbm.shape().n_hidden()];
        self.sizes = self.log_weights.clone();
        (self.h, self.terms) = (h, 0);
    }

    /// The same hidden layers over and over, until there are as many as `runs`.
    fn repeat(&mut self, runs: usize) {
        let nh = self.rbm.shape().n_hidden();
        let h: Vec<f32> = self.h.iter().copied().cycle().take(self.h.len().max(runs * nh)).collect();
        self.begin(h);
    }

    /// h ~ P(h|v) for rows v.
    fn start(&mut self, v: &[f32]) {
        let (nv, nh) = (self.rbm.shape().n_visible(), self.rbm.shape().n_hidden());
        let (w, c) = (self.rbm.view().weights(), self.rbm.view().hidden_bias());
        let mean = |v: &[f32], j: usize| sigmoid(dense(v, |i| w[i * nh + j]) + c[j]);
        let means: Vec<f32> = v.chunks_exact(nv).flat_map(|v| (0..nh).map(move |j| mean(v, j))).collect();
        let h = canonical::sample(&means, &mut self.generator);
        self.begin(h);
    }

    /// v ~ P_from(v|h), the weight's gain from `from` to `to`, h ~ P_to(h|v), for all chains. From 1 to 1 it is a Gibbs step.
    fn step(&mut self, from: f32, to: f32) {
        let (nv, nh) = (self.rbm.shape().n_visible(), self.rbm.shape().n_hidden());
        let view = self.rbm.view();
        let (w, b, c) = (view.weights(), view.visible_bias(), view.hidden_bias());
        let mut means = Vec::new();
        for h in self.h.chunks_exact(nh) {
            for i in 0..nv {
                let bias = from.mul_add(b[i], (1.0 - from) * self.reference[i]);
                means.push(sigmoid(from.mul_add(dense(h, |j| w[i * nh + j]), bias)));
            }
        }
        let v = canonical::sample(&means, &mut self.generator);
        means.clear();
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
                means.push(sigmoid(after));
            }
        }
        self.h = canonical::sample(&means, &mut self.generator);
        self.terms += nv + nh;
    }

    fn anneal(&mut self, betas: impl IntoIterator<Item = f32>) {
        let betas: Vec<f32> = betas.into_iter().collect();
        betas.windows(2).for_each(|pair| self.step(pair[0], pair[1]));
    }

    /// Forward runs. At β = 0 it does not matter where they begin.
    fn forward(&mut self, settings: &Annealing) {
        self.begin(vec![0.0; settings.runs * self.rbm.shape().n_hidden()]);
        self.anneal(settings.schedule.betas().iter().copied());
    }

    /// Burn-in and reverse runs, from where the chains are.
    fn reverse(&mut self, settings: &Annealing) {
        self.repeat(settings.runs);
        (0..settings.burn_in).for_each(|_| self.step(1.0, 1.0));
        self.begin(self.h.clone());
        self.anneal(settings.schedule.betas().iter().rev().copied());
    }

    /// Each chain as often as its weight demands: number n of N is the first one at which the weights so far come to (n + u)/N
    /// of all. How many different ones are left.
    fn resample(&mut self) -> usize {
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
        let chosen: Vec<usize> = (0..runs)
            .map(|n| {
                let place = (n as f64 + u) / runs as f64 * so_far[runs - 1];
                so_far.iter().position(|&sum| sum >= place).unwrap_or(runs - 1)
            })
            .collect();
        self.begin(chosen.iter().flat_map(|&run| self.h[run * nh..][..nh].to_vec()).collect());
        let mut different = chosen;
        different.dedup();
        different.len()
    }

    /// How far another order of the sums may move a log-weight (N. J. Higham, "Accuracy and Stability of Numerical Algorithms",
    /// 2002, section 4.2): each of both is off by at most as many roundings as it has terms, four more being in a term.
    fn rounding(&self) -> f64 {
        2.0 * (self.terms + 4) as f64 * U * self.sizes.iter().copied().fold(0.0, f64::max)
    }

    /// log Z_0 = Σ_i sp(a_i) + n_hidden·ln 2.
    fn log_z_0(&self) -> f64 {
        let visible: f64 = self.reference.iter().map(|&a| oracle::exact::softplus(f64::from(a))).sum();
        visible + self.rbm.shape().n_hidden() as f64 * 2f64.ln()
    }

    /// Asserts that these runs gave that log Z, and the end of its interval that one direction has: see the documentation of
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
        // Where all weights move by a share of t, the standard error does by at most 4t, as it is at most 1. ln(1/0.00135) has
        // five digits, of which ln(1 - x) with x = 6.6/R keeps the share 1/(1 - x).
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
            // Beyond the formula there is the allowance for `f32`, 2^-20·(n_hidden + |log Z|), and nothing else.
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

/// A model, what it is annealed from and how, and rows that reverse runs start at.
struct Case {
    rbm: Rbm,
    base_rate: BaseRate,
    settings: Annealing,
    data: Vec<f32>,
}

/// Sizes that fill no group, one and several, and no tile of units, one and several; schedules of one step, of a few and, so
/// that a device gets several parts of it, of 137.
fn cases() -> Vec<Case> {
    let few = [0.0, 0.125, 0.375, 0.5, 0.75, 1.0].to_vec();
    let twice = [0.0, 0.25, 0.25, 1.0].to_vec();
    let schedules = [vec![0.0, 1.0], few.clone(), twice, Schedule::new(137).expect("steps").betas().to_vec()];
    let sizes = [(7, 5, 600, 1), (70, 65, 9, 2), (33, 130, 70, 3), (64, 64, 32, 4)];
    let mut all = Vec::new();
    for (n, betas) in schedules.into_iter().enumerate() {
        for (nv, nh, runs, seed) in sizes {
            // Of the long schedule one size is enough for the sequential program.
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

/// Bits of hidden layers as numbers.
fn unpacked(chains: &Chains, nh: usize) -> Vec<f32> {
    let state = chains.state().expect("a state");
    let words = nh.div_ceil(64);
    let bit = |words: &[u64], j: usize| (words[j / 64] >> (j % 64) & 1) as f32;
    state.hidden.chunks_exact(words).flat_map(|words| (0..nh).map(move |j| bit(words, j))).collect()
}

/// One direction after the other, from every kind of start, on one device.
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
    // As many rows as runs, less and more.
    for n in [settings.runs, settings.runs / 3, settings.runs + 2] {
        let mut program = Program::new(rbm, base_rate, &sampling);
        let v = &data[..n * nv];
        program.start(v);
        program.reverse(settings);
        program.assert_gave(&reverse(Start::Rows(rows(v, nv).into()), settings), true, &what(&format!("{n} rows")));
    }
    // Without a burn-in it is another result, or the test would say nothing of it.
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
    program.resample();
    program.reverse(settings);
    program.assert_gave(&reverse(Start::Annealed, settings), true, &what("annealed"));
}

/// The ends that forward and reverse log-weights give together: of the means of s(f - C) and s(r + C), at the C that makes
/// their sums equal, those that are as unlikely as three standard errors by Chernoff's inequality.
fn together(forward: &[f64], reverse: &[f64]) -> (f64, f64) {
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
    let tail = (1.0 / 0.00135f64).ln();
    let ends = |a: f64, n: f64| (root(0.0, a, &|p| tail - n * kl(a, p)), root(a, 1.0, &|p| n * kl(a, p) - tail));
    let (up, down) = (ends(sum(forward, -c) / n, n), ends(sum(reverse, c) / m, m));
    (c + (up.0 / down.1).ln(), c + (up.1 / down.0).ln())
}

for_each_device! {
    fn annealing_is_the_sequential_program(device) {
        cases().iter().for_each(|case| check(&device, case));
    }

    /// Weights so different that a few runs are resampled many times: reverse runs from all of them alike, or from another
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
            let different = program.resample();
            assert!((2..=runs / 3).contains(&different), "{different} of {runs}");
            program.reverse(&settings);
            let found = reverse_ais(&resident, &base_rate, Start::Annealed, &settings).expect("an estimate");
            program.assert_gave(&found, true, "annealed");
        }
    }

    /// Three reverse runs for each forward one: the number of one direction is not that of the other. Weights scatter so much
    /// that either direction's own bound is wider than what both give together.
    fn a_bracket_is_made_by_both_directions(device) {
        let (nv, nh, runs) = (33, 40, 20);
        let rbm = coarse_rbm(shape(nv, nh), 0.75, 7);
        let data = random_bits(3 * runs * nv, 0.5, 7);
        let base_rate = BaseRate::uniform(nv);
        let schedule = Schedule::from_betas(vec![0.0, 0.125, 0.375, 0.5, 0.75, 1.0]).expect("rises");
        let settings = Annealing { runs, schedule, burn_in: 20, seed: 7 };
        let mut up = Program::new(&rbm, &base_rate, &Uniforms::new(7, Purpose::Annealing));
        up.forward(&settings);
        let mut down = Program::new(&rbm, &base_rate, &Uniforms::new(7, Purpose::Sampling));
        down.start(&data);
        down.reverse(&settings);
        let (lower, upper) = together(&up.log_weights, &down.log_weights);
        let (lower, upper) = (lower + up.log_z_0(), upper + up.log_z_0());

        let resident = rbm.on(&device).expect("resident");
        let found = bracket(&resident, &base_rate, Start::Rows(rows(&data, nv).into()), &settings).expect("a bracket");
        assert!(found.agreement != Agreement::Crossed && found.effective_sample_size < 10.0, "{found:?}");
        // Five digits of ln(1/0.00135), and the allowance for `f32`.
        let off = 1e-5 * (upper - lower);
        let allowance = 2f64.powi(-20) * (nh as f64 + 2.0 * up.log_z_0().abs());
        assert!((0.0 - off..=allowance + off).contains(&(lower - found.lower)), "{found:?}, expected {lower}");
        assert!((0.0 - off..=allowance + off).contains(&(found.upper - upper)), "{found:?}, expected {upper}");
    }
}
