//! The rules of descent against their formulas, in `f64`, from the plain gradient.

use harmonium::{
    Algorithm, Average, BatchMeans, Cpu, Dataset, Descent, Device, Error, Gradient, Isa, Monitor, Purpose, Rbm,
    Settings, Shape, Sums, Trainer, Uniforms,
    descent::{Centring, Rate, Sparsity},
};
use rand_core::Rng;
use sha2::{Digest, Sha256};

/// The parameters and the state of the rules in `f64`.
struct Naive {
    n_hidden: usize,
    weights: Vec<f64>,
    visible_bias: Vec<f64>,
    hidden_bias: Vec<f64>,
    visible_offset: Vec<f64>,
    hidden_offset: Vec<f64>,
    hidden_mean: Vec<f64>,
    velocity: [Vec<f64>; 3],
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

impl Naive {
    fn new(rbm: &Rbm, trainer: &Trainer) -> Self {
        let rule = trainer.state().expect("a state").rule.expect("a rule");
        let view = rbm.view();
        let zeros = |values: &[f32]| vec![0.0; values.len()];
        let still = [zeros(view.weights()), zeros(view.visible_bias()), zeros(view.hidden_bias())];
        let velocity = rule.velocity.map_or(still, |u| [wide(&u.weights), wide(&u.visible_bias), wide(&u.hidden_bias)]);
        Self {
            n_hidden: rbm.shape().n_hidden(),
            weights: wide(view.weights()),
            visible_bias: wide(view.visible_bias()),
            hidden_bias: wide(view.hidden_bias()),
            visible_offset: wide(&rule.visible_offset),
            hidden_offset: wide(&rule.hidden_offset),
            hidden_mean: wide(&rule.hidden_mean),
            velocity,
        }
    }

    /// One update, from the plain gradient and the means of the batch.
    fn step(&mut self, gradient: &Gradient, means: &BatchMeans, descent: Descent, lr: f64) {
        let Gradient { weights, visible_bias, hidden_bias, .. } = gradient;
        let gradient = [weights, visible_bias, hidden_bias].map(|numbers| wide(numbers));
        self.descend(gradient, [wide(&means.visible), wide(&means.hidden)], descent, lr);
    }

    fn descend(&mut self, [mut w, mut b, mut c]: [Vec<f64>; 3], [v, p]: [Vec<f64>; 2], descent: Descent, lr: f64) {
        let h = self.n_hidden;
        if let Some(Sparsity { target, cost, rate }) = descent.sparsity {
            for j in 0..h {
                let s = f64::from(cost) * (self.hidden_mean[j] - f64::from(target));
                (0..v.len()).for_each(|i| w[i * h + j] += v[i] * s);
                c[j] += s;
                self.hidden_mean[j] += f64::from(rate) * (p[j] - self.hidden_mean[j]);
            }
        }
        if let Some(Centring { rate }) = descent.centring {
            // Such a small offset counts as 0.
            let mu: Vec<f64> = self.visible_offset.iter().map(|&x| if x < 0.001 { 0.0 } else { x }).collect();
            let lambda = self.hidden_offset.clone();
            for i in 0..v.len() {
                (0..h).for_each(|j| w[i * h + j] -= b[i] * lambda[j] + mu[i] * c[j]);
            }
            for i in 0..v.len() {
                b[i] -= (0..h).map(|j| w[i * h + j] * lambda[j]).sum::<f64>();
            }
            for j in 0..h {
                c[j] -= (0..v.len()).map(|i| w[i * h + j] * mu[i]).sum::<f64>();
            }
            let slide = |offsets: &mut [f64], to: &[f64]| {
                offsets.iter_mut().zip(to).for_each(|(x, to)| *x += f64::from(rate) * (to - *x));
            };
            slide(&mut self.visible_offset, &v);
            slide(&mut self.hidden_offset, &p);
        }
        for weight in &mut self.weights {
            *weight *= 1.0 - lr * f64::from(descent.l2);
            *weight = weight.signum() * (weight.abs() - lr * f64::from(descent.l1)).max(0.0);
        }
        let parameters = [&mut self.weights, &mut self.visible_bias, &mut self.hidden_bias];
        for ((parameters, velocity), gradient) in parameters.into_iter().zip(&mut self.velocity).zip([w, b, c]) {
            for ((x, u), g) in parameters.iter_mut().zip(velocity).zip(gradient) {
                *u = f64::from(descent.momentum) * *u - lr * g;
                *x += *u;
            }
        }
    }
}

fn rules() -> Vec<Descent> {
    let plain = Descent::default();
    let centring = Some(Centring { rate: 0.1 });
    let sparsity = Some(Sparsity { target: 0.1, cost: 0.7, rate: 0.2 });
    vec![
        Descent { centring, ..plain },
        Descent { momentum: 0.8, ..plain },
        Descent { l2: 0.05, ..plain },
        Descent { l1: 0.02, ..plain },
        Descent { sparsity, ..plain },
        Descent { centring, momentum: 0.6, l2: 0.1, l1: 0.01, sparsity },
    ]
}

/// Rows in which some pixels are always 0, some always 1 and one is rarely 1.
fn data(rows: usize, units: usize, grey: bool, seed: u64) -> Dataset {
    let mut draws = Uniforms::new(seed, Purpose::Sampling).generator();
    let value = |n: usize, x: u32| match n % units {
        i if i % 7 == 3 => 0,
        i if i % 11 == 5 => 255,
        1 => {
            if n / units == 3 {
                255
            } else {
                0
            }
        }
        _ if grey => (x >> 24) as u8,
        _ => {
            if x < 1 << 30 {
                255
            } else {
                0
            }
        }
    };
    Dataset::from_u8((0..rows * units).map(|n| value(n, draws.next_u32())).collect(), units).expect("rows")
}

fn settings(algorithm: Algorithm, descent: Descent) -> Settings {
    Settings { algorithm, k: 2, monitor: Monitor::None, seed: 4, descent, ..Settings::default() }
}

fn close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (n, (&x, &y)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(x) - y).abs() < tolerance, "{what}[{n}]: {x} for {y}");
    }
}

/// Single updates from the same state: the fused pass against the formulas with the plain gradient.
#[test]
fn rules_are_their_formulas() {
    for sums in [Sums::Canonical, Sums::Gemm] {
        let device = Device::from(Cpu::detect().expect("a cpu").with_sums(sums).expect("sums"));
        for (nv, nh, rows, grey) in [(23, 9, 7, true), (130, 70, 20, false), (784, 500, 20, true)] {
            for algorithm in [Algorithm::Cd, Algorithm::Pcd { n_chains: 13 }] {
                for descent in rules() {
                    check_rule(&device, Shape::new(nv, nh).expect("a shape"), rows, grey, algorithm, descent);
                }
            }
        }
    }
}

fn check_rule(device: &Device, shape: Shape, rows: usize, grey: bool, algorithm: Algorithm, descent: Descent) {
    let batch = data(rows, shape.n_visible(), grey, 1);
    let mut rbm = Rbm::new(shape, 8).on(device).expect("resident");
    let mut trainer = Trainer::new(device, shape, settings(algorithm, descent)).expect("a trainer");
    let lr = 0.05;
    for update in 0..3 {
        let mut naive = Naive::new(&rbm.to_rbm().expect("an rbm"), &trainer);
        let state = trainer.state().expect("a state");
        let mut twin = Trainer::from_state(device, shape, settings(algorithm, descent), &state).expect("a twin");
        let (mut gradient, mut means) = (Gradient::zero(shape), BatchMeans::default());
        twin.gradient_and_means(&rbm, &batch, &mut gradient, &mut means).expect("a gradient");
        naive.step(&gradient, &means, descent, f64::from(lr));
        trainer.step(&mut rbm, &batch, lr).expect("a step");
        let what = |name: &str| format!("{shape}, {algorithm:?}, {descent:?}, update {update}: {name}");
        let (found, rule) = (rbm.to_rbm().expect("an rbm"), trainer.state().expect("a state").rule.expect("a rule"));
        let view = found.view();
        // Each sum has some ten roundings of numbers that are at most the layer's size, and the step multiplies it by lr.
        let unit = f64::from(f32::EPSILON);
        let size = (shape.n_visible() + shape.n_hidden()) as f64;
        let tolerance = f64::from(lr) * unit * 16.0 * (1.0 + size / 8.0) + 4.0 * unit;
        close(&what("weights"), view.weights(), &naive.weights, tolerance);
        close(&what("visible_bias"), view.visible_bias(), &naive.visible_bias, tolerance);
        close(&what("hidden_bias"), view.hidden_bias(), &naive.hidden_bias, tolerance);
        close(&what("visible_offset"), &rule.visible_offset, &naive.visible_offset, 8.0 * unit);
        close(&what("hidden_offset"), &rule.hidden_offset, &naive.hidden_offset, 8.0 * unit);
        close(&what("hidden_mean"), &rule.hidden_mean, &naive.hidden_mean, 8.0 * unit);
        if let Some(velocity) = rule.velocity {
            close(&what("velocity"), &velocity.weights, &naive.velocity[0], tolerance);
        }
    }
}

/// Parameters and states after some updates, as bytes.
fn bytes_of(device: &Device, algorithm: Algorithm, descent: Descent) -> Vec<u8> {
    let shape = Shape::new(97, 131).expect("a shape");
    let mut rbm = Rbm::new(shape, 3).on(device).expect("resident");
    let mut trainer = Trainer::new(device, shape, settings(algorithm, descent)).expect("a trainer");
    let mut average = Average::default();
    for (n, rows) in [19, 33, 5, 19].into_iter().enumerate() {
        trainer.step(&mut rbm, &data(rows, 97, n % 2 == 0, n as u64), 0.1).expect("a step");
        average.take(&rbm).expect("taken");
    }
    let rule = trainer.state().expect("a state").rule.expect("a rule");
    let mut numbers = Vec::new();
    for rbm in [rbm.to_rbm(), average.mean().expect("a mean").to_rbm()] {
        let (weights, visible_bias, hidden_bias) = rbm.expect("an rbm").into_parts();
        numbers.extend([weights, visible_bias, hidden_bias].concat());
    }
    numbers.extend([rule.visible_offset, rule.hidden_offset, rule.hidden_mean].concat());
    numbers.extend(rule.velocity.into_iter().flat_map(|u| [u.weights, u.visible_bias, u.hidden_bias].concat()));
    numbers.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// The same bits on any instruction set and any number of threads, and for all releases; see tests/library/golden.rs.
#[test]
fn golden_rules() {
    let last = rules().pop().expect("rules");
    for (algorithm, descent, golden) in [
        (
            Algorithm::Pcd { n_chains: 21 },
            rules()[0],
            "a98014179f37d8bdf7dd57eca822a25d6eebfdb2dbb1402601fe13336c51c4d1",
        ),
        (Algorithm::Cd, last, "5bc52c93f1cdee432b6bbb24ac0cee1daaa0cc05288340f970046124375dda8e"),
    ] {
        for isa in Isa::available() {
            for threads in [1, 2, 3, 7] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
                let bytes = pool.install(|| bytes_of(&Cpu::with_isa(isa).into(), algorithm, descent));
                let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(digest, golden, "{}, {threads} threads", isa.name());
            }
        }
    }
}

/// A trainer that resumes from a state equals one that was not stopped, for each rule.
#[test]
fn rules_go_on_from_a_state() {
    let device = Device::from(Cpu::detect().expect("a cpu"));
    let shape = Shape::new(30, 12).expect("a shape");
    for descent in rules() {
        let settings = settings(Algorithm::Pcd { n_chains: 4 }, descent);
        let mut rbm = Rbm::new(shape, 3).on(&device).expect("resident");
        let mut trainer = Trainer::new(&device, shape, settings).expect("a trainer");
        let batch = data(8, 30, true, 2);
        (0..3).for_each(|_| trainer.step(&mut rbm, &batch, 0.1).expect("a step"));
        let state = trainer.state().expect("a state");
        let mut other = Trainer::from_state(&device, shape, settings, &state).expect("another trainer");
        let mut theirs = rbm.clone();
        assert_eq!(other.state().expect("a state"), state);
        trainer.step(&mut rbm, &batch, 0.1).expect("a step");
        other.step(&mut theirs, &batch, 0.1).expect("a step");
        assert_eq!(rbm.to_rbm().expect("an rbm"), theirs.to_rbm().expect("an rbm"));
        assert_eq!(trainer.state().expect("a state"), other.state().expect("a state"));
        // A state of other rules is refused, and so is a missing one.
        let plain = Settings { descent: Descent::default(), ..settings };
        assert!(matches!(
            Trainer::from_state(&device, shape, plain, &state),
            Err(Error::Argument { what: "rule", .. })
        ));
        let mut none = state.clone();
        none.rule = None;
        assert!(matches!(
            Trainer::from_state(&device, shape, settings, &none),
            Err(Error::Argument { what: "rule", .. })
        ));
        let mut short = state;
        short.rule.as_mut().expect("a rule").hidden_offset.pop();
        assert!(matches!(
            Trainer::from_state(&device, shape, settings, &short),
            Err(Error::Length { what: "hidden_offset", .. })
        ));
    }
}

/// v → 1 - v in all data, with W → -W, b → -b and c → c + Wᵀ1, gives an equivalent model, and a centred gradient is equivariant.
/// Tested with the model's expectations by enumeration, without random draws.
#[test]
fn a_centred_gradient_does_not_care_what_is_called_1() {
    let (nv, nh) = (5, 3);
    let shape = Shape::new(nv, nh).expect("a shape");
    let rows: Vec<Vec<f64>> = [0b10110, 0b10010, 0b00111, 0b11110, 0b10100_u32]
        .map(|bits| (0..nv).map(|i| f64::from(bits >> i & 1)).collect())
        .to_vec();
    let turned: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().map(|x| 1.0 - x).collect()).collect();
    let rbm = Rbm::new(shape, 5);
    let device = Device::from(Cpu::detect().expect("a cpu"));
    for (centring, is_invariant) in [(Some(Centring { rate: 0.2 }), true), (None, false)] {
        let descent = Descent { centring, momentum: 0.5, ..Descent::default() };
        let trainer = Trainer::new(&device, shape, settings(Algorithm::Cd, descent)).expect("a trainer");
        let mut one = Naive::new(&rbm, &trainer);
        let mut other = Naive::new(&rbm, &trainer);
        other.turn();
        for _ in 0..20 {
            one.step_exactly(&rows, descent);
            other.step_exactly(&turned, descent);
        }
        other.turn();
        let far = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let distance = far(&one.weights, &other.weights)
            .max(far(&one.visible_bias, &other.visible_bias))
            .max(far(&one.hidden_bias, &other.hidden_bias));
        assert_eq!(distance < 1e-12, is_invariant, "{distance}");
    }
}

impl Naive {
    /// The equivalent model of the inverted data.
    fn turn(&mut self) {
        for (i, row) in self.weights.chunks_exact(self.n_hidden).enumerate() {
            assert!(i < self.visible_bias.len());
            self.hidden_bias.iter_mut().zip(row).for_each(|(c, w)| *c += w);
        }
        self.weights.iter_mut().chain(&mut self.visible_bias).for_each(|x| *x = -*x);
        self.visible_offset.iter_mut().for_each(|x| *x = 1.0 - *x);
    }

    /// Hidden means of a row, and -F.
    fn up(&self, row: &[f64]) -> (Vec<f64>, f64) {
        let pre = |j: usize| {
            self.hidden_bias[j]
                + row.iter().enumerate().map(|(i, x)| x * self.weights[i * self.n_hidden + j]).sum::<f64>()
        };
        let pre: Vec<f64> = (0..self.n_hidden).map(pre).collect();
        let bias: f64 = row.iter().zip(&self.visible_bias).map(|(x, b)| x * b).sum();
        (
            pre.iter().map(|a| 1.0 / (1.0 + (-a).exp())).collect(),
            bias + pre.iter().map(|a| a.exp().ln_1p()).sum::<f64>(),
        )
    }

    /// One update with the expectations of the model by enumeration.
    fn step_exactly(&mut self, rows: &[Vec<f64>], descent: Descent) {
        let nv = self.visible_bias.len();
        let all: Vec<Vec<f64>> =
            (0..1_u32 << nv).map(|bits| (0..nv).map(|i| f64::from(bits >> i & 1)).collect()).collect();
        let weights: Vec<f64> = all.iter().map(|row| self.up(row).1.exp()).collect();
        let z: f64 = weights.iter().sum();
        let mut gradient = [vec![0.0; self.weights.len()], vec![0.0; nv], vec![0.0; self.n_hidden]];
        let mut add = |naive: &Self, row: &[f64], share: f64| {
            let (means, _) = naive.up(row);
            for (i, x) in row.iter().enumerate() {
                means.iter().enumerate().for_each(|(j, p)| gradient[0][i * means.len() + j] += share * x * p);
                gradient[1][i] += share * x;
            }
            means.iter().enumerate().for_each(|(j, p)| gradient[2][j] += share * p);
        };
        all.iter().zip(&weights).for_each(|(row, weight)| add(self, row, weight / z));
        rows.iter().for_each(|row| add(self, row, -1.0 / rows.len() as f64));
        let mean = |of: &dyn Fn(&[f64]) -> Vec<f64>, n: usize| -> Vec<f64> {
            let mut sum = vec![0.0; n];
            rows.iter().for_each(|row| sum.iter_mut().zip(of(row)).for_each(|(sum, x)| *sum += x));
            sum.into_iter().map(|sum| sum / rows.len() as f64).collect()
        };
        let (v, p) = (mean(&|row| row.to_vec(), nv), mean(&|row| self.up(row).0, self.n_hidden));
        let [w, b, c] = gradient;
        self.descend([w, b, c], [v, p], descent, 0.1);
    }
}

/// Exchanged units leave the model unchanged, and later training gives an equivalent model up to its draws.
#[test]
fn exchanged_units_are_the_same_model() {
    let device = Device::from(Cpu::detect().expect("a cpu"));
    let shape = Shape::new(9, 70).expect("a shape");
    let descent = Descent { centring: Some(Centring { rate: 0.5 }), momentum: 0.5, ..Descent::default() };
    let settings = settings(Algorithm::Pcd { n_chains: 4 }, descent);
    let mut rbm = Rbm::new(shape, 3).on(&device).expect("resident");
    let mut trainer = Trainer::new(&device, shape, settings).expect("a trainer");
    let batch = data(40, 9, false, 2);
    (0..3).for_each(|_| trainer.step(&mut rbm, &batch, 0.1).expect("a step"));
    let (before, rows) = (trainer.state().expect("a state"), data(50, 9, false, 9));
    let energies = rbm.free_energy(&rows).expect("energies");
    let offset = before.rule.clone().expect("a rule").hidden_offset;
    let expected: Vec<usize> = (0..70).filter(|&j| offset[j] > 0.55).collect();
    assert!(expected.len() > 5 && expected.len() < 65, "{}", expected.len());
    assert_eq!(trainer.exchange_busy_units(&mut rbm, 0.55).expect("exchanged"), expected);
    let after = trainer.state().expect("a state");
    for (j, &offset) in offset.iter().enumerate() {
        let is_exchanged = expected.contains(&j);
        let now = after.rule.clone().expect("a rule").hidden_offset[j];
        assert_eq!(now, if is_exchanged { 1.0 - offset } else { offset });
        for (old, new) in before.chains.hidden.chunks(2).zip(after.chains.hidden.chunks(2)) {
            assert_eq!((old[j / 64] ^ new[j / 64]) >> (j % 64) & 1 == 1, is_exchanged);
        }
    }
    // Free energies differ by one constant, up to the rounding of 70 softplus terms and as many sums.
    let differences: Vec<f64> =
        rbm.free_energy(&rows).expect("energies").iter().zip(&energies).map(|(now, before)| now - before).collect();
    assert!(differences.iter().all(|x| (x - differences[0]).abs() < 1e-4), "{differences:?}");
    // Now no unit is on in more than half of the rows, so a second call exchanges nothing.
    assert_eq!(trainer.exchange_busy_units(&mut rbm, 0.55).expect("exchanged"), [0; 0]);
    // Without a centred gradient the means are unknown.
    let plain = Settings { descent: Descent::default(), ..settings };
    let mut other = Trainer::new(&device, shape, plain).expect("a trainer");
    assert_eq!(other.exchange_busy_units(&mut rbm, 0.0).expect("exchanged"), [0; 0]);
}

/// The mean of parameters, against one in `f64`.
#[test]
fn averages_are_means() {
    let device = Device::from(Cpu::detect().expect("a cpu"));
    let shape = Shape::new(13, 5).expect("a shape");
    let models: Vec<Rbm> = (0..20).map(|seed| Rbm::new(shape, seed)).collect();
    let mut average = Average::default();
    assert!(average.mean().is_none());
    for (n, model) in models.iter().enumerate() {
        if n == 7 {
            // Continues from its parts.
            let mean = average.mean().expect("a mean").to_rbm().expect("an rbm");
            average = Average::from_parts(&device, &mean, average.taken()).expect("parts");
        }
        average.take(&model.on(&device).expect("resident")).expect("taken");
    }
    assert_eq!(average.taken(), 20);
    let mean = average.mean().expect("a mean").to_rbm().expect("an rbm");
    for (n, &found) in mean.view().weights().iter().enumerate() {
        let expected = models.iter().map(|model| f64::from(model.view().weights()[n])).sum::<f64>() / 20.0;
        // Each of twenty steps rounds a number below 3 three times.
        assert!(
            (f64::from(found) - expected).abs() < 60.0 * 3.0 * f64::from(f32::EPSILON) / 2.0,
            "{found} for {expected}"
        );
    }
    assert!(Average::from_parts(&device, &mean, 0).is_err());
    let other = Rbm::new(Shape::new(5, 5).expect("a shape"), 1).on(&device).expect("resident");
    assert!(matches!(average.take(&other), Err(Error::Argument { .. })));
}

/// A pixel that is never on keeps its weights with every rule but decay; decaying weights come to rest at 0.
#[test]
fn nothing_becomes_subnormal() {
    let device = Device::from(Cpu::detect().expect("a cpu"));
    let shape = Shape::new(20, 6).expect("a shape");
    let batch = Dataset::from_u8(vec![0; 20 * 4], 20).expect("rows");
    for descent in rules() {
        let mut first = Rbm::new(shape, 1);
        // The visible units of the chains are never on.
        first = Rbm::from_parts(shape, first.view().weights().to_vec(), vec![-40.0; 20], vec![0.0; 6]).expect("an rbm");
        let mut rbm = first.on(&device).expect("resident");
        let mut trainer =
            Trainer::new(&device, shape, settings(Algorithm::Pcd { n_chains: 3 }, descent)).expect("a trainer");
        for _ in 0..900 {
            trainer.step(&mut rbm, &batch, 0.5).expect("a step");
        }
        let (last, rule) = (rbm.to_rbm().expect("an rbm"), trainer.state().expect("a state").rule.expect("a rule"));
        let numbers = last.view().weights().iter().chain(&rule.visible_offset).chain(&rule.hidden_offset);
        let velocity = rule.velocity.iter().flat_map(|u| u.weights.iter().chain(&u.visible_bias));
        assert!(numbers.chain(velocity).all(|x| !x.is_subnormal()), "{descent:?}");
        if descent.l1 == 0.0 && descent.l2 == 0.0 && descent.centring.is_none() {
            assert_eq!(last.view().weights(), first.view().weights(), "{descent:?}");
        }
    }
}

#[test]
fn rates_over_a_run() {
    let at = |rate: &str, t| rate.parse::<Rate>().expect("a rate").at(0.5, t, 100);
    for (rate, values) in [
        ("constant", [0.5, 0.5, 0.5, 0.5]),
        ("linear", [0.5, 0.375, 0.25, 0.0]),
        ("cosine", [0.5, 0.25 + 0.25 * std::f32::consts::FRAC_1_SQRT_2, 0.25, 0.0]),
        ("inverse-sqrt:25", [0.5, 0.5 * std::f32::consts::FRAC_1_SQRT_2, 0.5 / 3_f32.sqrt(), 0.5 / 5_f32.sqrt()]),
    ] {
        for (t, value) in [0, 25, 50, 100].into_iter().zip(values) {
            assert!((at(rate, t) - value).abs() < 2e-8, "{rate} at {t}: {} for {value}", at(rate, t));
        }
        assert_eq!(rate.parse::<Rate>().expect("a rate").to_string(), rate);
        assert!((1..=100).all(|t| at(rate, t) <= at(rate, t - 1)), "{rate}");
    }
    for wrong in
        ["", "linea", "inverse-sqrt", "inverse-sqrt:0", "inverse-sqrt:-1", "inverse-sqrt:nan", "inverse-sqrt:inf"]
    {
        assert!(matches!(wrong.parse::<Rate>(), Err(Error::Argument { what: "schedule", .. })), "{wrong}");
    }
}

#[test]
fn numbers_that_rules_cannot_work_with() {
    let device = Device::from(Cpu::detect().expect("a cpu"));
    let shape = Shape::new(3, 2).expect("a shape");
    let plain = Descent::default();
    let sparsity = |target, cost, rate| Some(Sparsity { target, cost, rate });
    for (what, descent) in [
        ("momentum", Descent { momentum: 1.0, ..plain }),
        ("momentum", Descent { momentum: -0.1, ..plain }),
        ("momentum", Descent { momentum: f32::NAN, ..plain }),
        ("l2", Descent { l2: -1.0, ..plain }),
        ("l2", Descent { l2: f32::INFINITY, ..plain }),
        ("l1", Descent { l1: f32::NAN, ..plain }),
        ("centring", Descent { centring: Some(Centring { rate: 1.5 }), ..plain }),
        ("sparsity target", Descent { sparsity: sparsity(2.0, 1.0, 0.1), ..plain }),
        ("sparsity cost", Descent { sparsity: sparsity(0.5, f32::NAN, 0.1), ..plain }),
        ("sparsity rate", Descent { sparsity: sparsity(0.5, 1.0, -0.1), ..plain }),
    ] {
        match Trainer::new(&device, shape, settings(Algorithm::Cd, descent)) {
            Err(Error::Argument { what: found, .. }) => assert_eq!(found, what),
            other => panic!("{descent:?}: {other:?}"),
        }
    }
    let mut trainer = Trainer::new(&device, shape, settings(Algorithm::Cd, plain)).expect("a trainer");
    assert!(matches!(trainer.centre_at(&[0.5; 3]), Err(Error::Argument { what: "centre", .. })));
    let centred = Descent { centring: Some(Centring::default()), ..plain };
    let mut trainer = Trainer::new(&device, shape, settings(Algorithm::Cd, centred)).expect("a trainer");
    assert!(matches!(trainer.centre_at(&[0.5; 2]), Err(Error::Length { .. })));
    assert!(matches!(trainer.centre_at(&[0.5, f32::NAN, 0.5]), Err(Error::Value { .. })));
    trainer.centre_at(&[0.25, 0.5, 0.75]).expect("offsets");
    assert_eq!(trainer.state().expect("a state").rule.expect("a rule").visible_offset, [0.25, 0.5, 0.75]);
}

/// A weight without decay and gradient is unchanged, even if it is small enough to come to rest, or a signed 0. Tested among few
/// active units, where idle units are skipped, and among many.
#[test]
fn weights_without_a_gradient_stay_to_the_bit() {
    let (shape, descent) = (Shape::new(70, 9).expect("a shape"), rules()[4]);
    let weights: Vec<f32> = (0..70 * 9).map(|n| [1e-35, -0.0, 0.0, -1e-40, 0.25][n % 5]).collect();
    let mut bias = vec![0.0; 70];
    bias[3] = -50.0;
    let device = Device::from(Cpu::detect().expect("a cpu"));
    for is_on in [|i: usize| i.is_multiple_of(9), |_| true] {
        let rbm = Rbm::from_parts(shape, weights.clone(), bias.clone(), vec![0.0; 9]).expect("an rbm");
        let mut rbm = rbm.on(&device).expect("resident");
        let mut trainer = Trainer::new(&device, shape, settings(Algorithm::Cd, descent)).expect("a trainer");
        let values = (0..70 * 8).map(|n| if n % 70 != 3 && is_on(n % 70) { 255 } else { 0 });
        trainer.step(&mut rbm, &Dataset::from_u8(values.collect(), 70).expect("rows"), 0.05).expect("a step");
        let found = rbm.to_rbm().expect("an rbm");
        let bits = |weights: &[f32]| weights[3 * 9..4 * 9].iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(found.view().weights()), bits(&weights));
    }
}
