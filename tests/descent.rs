//! The rules of descent against their formulas, written out in `f64` from the plain gradient.

use harmonium::{
    Algorithm, BatchMeans, Cpu, Dataset, Descent, Device, Gradient, Monitor, Purpose, Rbm, Settings, Shape, Sums,
    Trainer, Uniforms,
    descent::{Centring, Sparsity},
};
use rand_core::Rng;

/// The parameters, and what the rules keep, in `f64`.
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
        let h = self.n_hidden;
        let (mut w, mut b, mut c) =
            (wide(&gradient.weights), wide(&gradient.visible_bias), wide(&gradient.hidden_bias));
        let (v, p) = (wide(&means.visible), wide(&means.hidden));
        if let Some(Sparsity { target, cost, rate }) = descent.sparsity {
            for j in 0..h {
                let s = f64::from(cost) * (self.hidden_mean[j] - f64::from(target));
                (0..v.len()).for_each(|i| w[i * h + j] += v[i] * s);
                c[j] += s;
                self.hidden_mean[j] += f64::from(rate) * (p[j] - self.hidden_mean[j]);
            }
        }
        if let Some(Centring { rate }) = descent.centring {
            // So small an offset counts as none.
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

/// Rows of which some pixels are always 0, some always 1 and one is rare.
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
    Settings { algorithm, k: 2, monitor: Monitor::None, seed: 4, descent }
}

fn close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (n, (&x, &y)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(x) - y).abs() < tolerance, "{what}[{n}]: {x} for {y}");
    }
}

/// Single updates from the same state: the fused pass, and the formulas from the plain gradient.
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
        // Each sum has some ten roundings of numbers of at most the layer's size, and the step takes lr of it.
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

/// What does not decay and has no gradient stays as it is, be it so small that it would come to rest, or 0 with a sign: among
/// few active units, where units at rest are passed over, and among many.
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
