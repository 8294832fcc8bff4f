//! A grid of any coarseness gives the same bits as sums, and needs its whole error bound for that.

use super::*;
use crate::cpu::{
    decision::{STEP, exp2_roughly},
    grid::{GridCache, MIN_STEPS, Rules},
    host::{Cpu, SampleMethod},
    parameters::CpuParameters,
};
use crate::{
    Activations, Algorithm, ChainState, Chains, Dataset, Monitor, Purpose, Rbm, Rows, Settings, Shape, Trainer,
    Uniforms, Values,
    descent::{Centring, Descent},
    lanes::One,
    log_partition::{Annealing, BaseRate, Schedule, ais},
    uniforms::unit_interval,
    units::pre_activation,
};
use rand_core::Rng;
use rand_pcg::Pcg32;
use std::f32::consts::LOG2_E;

/// A CPU that samples by the given method.
fn cpu(isa: Isa, method: SampleMethod) -> Cpu {
    Cpu { method, ..Cpu::with_isa(isa) }
}

/// Sampling on a grid in all cases.
fn on_grid(finest: i32) -> SampleMethod {
    SampleMethod::Grid { finest, percent: 100 }
}

fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(work)
}

/// Random numbers within ±1.
struct Numbers(Pcg32);

impl Numbers {
    fn new(seed: u64) -> Self {
        Self(Pcg32::new(seed, 7))
    }

    fn next(&mut self) -> f32 {
        (f64::from(self.0.next_u32()) / 2f64.powi(31) - 1.0) as f32
    }

    fn bits(&mut self, rows: usize, units: usize, density: f32) -> Vec<u64> {
        let mut words = vec![0; rows * tiles(units)];
        for (r, unit) in (0..rows).flat_map(|r| (0..units).map(move |unit| (r, unit))) {
            words[r * tiles(units) + unit / TILE] |= u64::from(self.next() < 2.0 * density - 1.0) << (unit % TILE);
        }
        words
    }
}

fn model(shape: Shape, seed: u64, weight: impl Fn(f32) -> f32, bias: impl Fn(f32) -> f32) -> Rbm {
    let mut numbers = Numbers::new(seed);
    let weights = (0..shape.n_visible() * shape.n_hidden()).map(|_| weight(numbers.next())).collect();
    let [b, c] = [shape.n_visible(), shape.n_hidden()].map(|n| (0..n).map(|_| bias(numbers.next())).collect());
    Rbm::from_parts(shape, weights, b, c).expect("a model")
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| (x + 0.0).to_bits()).collect()
}

/// The state after two sweeps of k steps with a pause between them: bits of both layers, the visible pre-activations, the position
/// of the next random number.
fn swept(cpu: Cpu, rbm: &Rbm, state: &ChainState, k: usize, held: Option<Rows<'_>>) -> impl PartialEq + Send + use<> {
    let resident = rbm.on(cpu).expect("resident");
    let mut chains = Chains::from_state(cpu, rbm.shape(), state).expect("chains");
    if let Some(held) = held {
        chains.hold(held).expect("held units");
    }
    chains.sweep(&resident, k).expect("a sweep");
    chains.sweep(&resident, k).expect("a sweep");
    let mut visible = Activations::default();
    chains.visible(&resident, &mut visible).expect("the visible layer");
    let state = chains.state().expect("a state");
    (state.hidden, bits(&visible.sample), bits(&visible.pre_activation), state.uniforms.position())
}

fn start(shape: Shape, chains: usize, density: f32, seed: u64) -> ChainState {
    let hidden = Numbers::new(seed).bits(chains, shape.n_hidden(), density);
    ChainState { hidden, betas: vec![1.0; chains], uniforms: Uniforms::new(seed, Purpose::Sampling) }
}

/// Compares grids of these spacings with sums, on all instruction sets.
fn check(rbm: &Rbm, state: &ChainState, k: usize, finest: &[i32], what: &str) {
    for isa in Isa::available() {
        let expected = swept(cpu(isa, SampleMethod::Sums), rbm, state, k, None);
        for &finest in finest {
            let found = swept(cpu(isa, on_grid(finest)), rbm, state, k, None);
            assert!(found == expected, "{what}, k = {k}, {isa}, 2^-{finest}");
        }
    }
}

#[test]
fn grids_of_any_size_give_the_bits_of_sums() {
    for (nv, nh, chains, k) in [
        (1, 1, 3, 4),
        (1, 130, 2, 3),
        (63, 65, 7, 3),
        (64, 64, 1, 5),
        (65, 63, 20, 2),
        (100, 100, 70, 3),
        (128, 30, 5, 4),
        (300, 200, 9, 3),
    ] {
        let shape = Shape::new(nv, nh).expect("a shape");
        for (size, density) in [(0.05, 0.1), (0.4, 0.5), (3.0, 0.9)] {
            let rbm = model(shape, 1, |x| size * x, |x| x - 0.5);
            let what = format!("{shape}, {chains} chains, weights to {size}");
            check(&rbm, &start(shape, chains, density, 2), k, &[16, 14, 12, 10, 8, 5, 3], &what);
        }
    }
}

#[test]
fn the_tutorials_shape_on_any_number_of_threads() {
    let shape = Shape::new(784, 500).expect("a shape");
    let rbm = model(shape, 3, |x| 0.3 * x * x * x, |x| 3.0 * x - 2.5);
    let state = start(shape, 21, 0.2, 4);
    let fastest = *Isa::available().last().expect("at least one");
    let expected = swept(cpu(fastest, SampleMethod::Sums), &rbm, &state, 4, None);
    for isa in Isa::available() {
        for (method, threads) in [
            (SampleMethod::Fastest, 1),
            (SampleMethod::Fastest, 2),
            (on_grid(16), 3),
            (on_grid(10), 2),
            (on_grid(6), 1),
        ] {
            let found = in_pool(threads, || swept(cpu(isa, method), &rbm, &state, 4, None));
            assert!(found == expected, "{isa}, {method:?}, {threads} threads");
        }
    }
}

/// All weights are 0.49 steps above the grid, so the errors of their sums nearly reach the bound. With half of the bound the bits
/// differ.
#[test]
fn the_bound_has_teeth() {
    let (shape, finest) = (Shape::new(200, 150).expect("a shape"), 9);
    let step = 1.0 / 512.0;
    let rbm = model(shape, 5, |x| ((60.0 * x).round() + 0.49) * step, |x| 2.0 * x);
    let state = start(shape, 60, 0.5, 6);
    for isa in Isa::available() {
        let with = |method| swept(cpu(isa, method), &rbm, &state, 20, None);
        let expected = with(SampleMethod::Sums);
        assert!(with(on_grid(finest)) == expected, "{isa}");
        assert!(with(SampleMethod::Grid { finest, percent: 50 }) != expected, "{isa}: half of the bound");
    }
}

#[test]
fn numbers_at_the_ends() {
    let shape = Shape::new(70, 65).expect("a shape");
    type Map = fn(f32) -> f32;
    let weights: [(&str, Map); 8] = [
        ("0", |_| 0.0),
        ("subnormal", |x| x * 1e-40),
        ("1e-30", |x| x * 1e-30),
        ("1e4", |x| x * 1e4),
        ("1e30", |x| x * 1e30),
        ("an outlier of 60", |x| if x > 0.99 { 60.0 } else { 0.1 * x }),
        ("an outlier of 1000", |x| if x > 0.99 { 1000.0 } else { 0.1 * x }),
        ("almost a power of two", |x| if x > 0.5 { 0.999_999_94 } else { -0.5 }),
    ];
    let biases: [(&str, Map); 7] = [
        ("0", |_| -0.0),
        ("±1", |x| x),
        ("±100", |x| 100.0 * x),
        ("-87.3", |_| -87.3),
        ("±23", |x| if x > 0.0 { 22.9 } else { -22.2 }),
        ("±1e30", |x| 1e30 * x),
        ("greatest", |x| f32::MAX.copysign(x)),
    ];
    for (weight, of_weight) in weights {
        for (bias, of_bias) in biases {
            let rbm = model(shape, 8, of_weight, of_bias);
            check(&rbm, &start(shape, 40, 0.3, 9), 3, &[16, 9, 4], &format!("weights {weight}, biases {bias}"));
            // The same with the automatic choice.
            for isa in Isa::available() {
                let state = start(shape, 40, 0.3, 10);
                let with = |method| swept(cpu(isa, method), &rbm, &state, 3, None);
                assert!(with(SampleMethod::Fastest) == with(SampleMethod::Sums), "{weight}, {bias}, {isa}");
            }
        }
    }
}

#[test]
fn any_temperature_and_held_units() {
    let shape = Shape::new(130, 70).expect("a shape");
    let rbm = model(shape, 11, |x| 0.5 * x, |x| 2.0 * x);
    let mut state = start(shape, 9, 0.4, 12);
    state.betas = vec![1.0, 0.5, 0.5, 0.0, 0.01, 1.5, -1.0, 30.0, 1e30];
    check(&rbm, &state, 4, &[16, 12, 7], "inverse temperatures");
    let values: Vec<f32> = (0..9 * 130).map(|i| if i % 7 < 3 { f32::NAN } else { (i % 2) as f32 }).collect();
    let held = Dataset::with_missing(values, shape.visible()).expect("rows");
    for isa in Isa::available() {
        let with = |method| swept(cpu(isa, method), &rbm, &state, 4, Some(held.rows()));
        assert!(with(on_grid(11)) == with(SampleMethod::Sums), "{isa}");
    }
}

/// Models with other laws sample their hidden layers on the grid too, unless the visible layer has real numbers.
#[test]
fn other_laws() {
    for law in ["potts:20x5", "binary:70,potts:9x3", "binary:30,gaussian:20"] {
        let shape = Shape::with_visible(law.parse().expect("laws"), 70).expect("a shape");
        let rbm = model(shape, 13, |x| 0.5 * x, |x| 2.0 * x);
        check(&rbm, &start(shape, 12, 0.4, 14), 4, &[16, 12, 7], law);
    }
}

/// Parameters and chains after training, and the exponent of the grid, if there is one.
fn trained(
    cpu: Cpu, rbm: &Rbm, data: &Dataset, settings: Settings, lr: f32,
) -> (Vec<Vec<u32>>, Vec<u64>, Option<Option<i32>>) {
    let mut resident = rbm.on(cpu).expect("resident");
    let mut trainer = Trainer::new(cpu, rbm.shape(), settings).expect("a trainer");
    for batch in (0..10).flat_map(|_| data.batches(20)) {
        trainer.step(&mut resident, data.rows().range(batch), lr).expect("a step");
    }
    let numbers = resident.to_rbm().expect("an RBM").into_parts();
    let parameters = &resident.parameters;
    #[allow(irrefutable_let_patterns)]
    let crate::device::Parameters::Cpu(parameters) = parameters else { panic!("not on the CPU") };
    let grid = parameters.grid.grid.get();
    if let Some(grid @ Grid { shift: Some(_), .. }) = grid {
        // The updated grid equals a new one.
        let mut fresh = Grid::of(grid.isa, grid.rules.clone(), &parameters.weights, &parameters.transposed);
        assert!(fresh.shift >= grid.shift);
        fresh.rules.shifts = -100..=grid.shift.unwrap_or(0);
        fresh.renew(&parameters.weights, &parameters.transposed);
        let numbers = |rows: &[GridRow]| rows.iter().flat_map(|row| row.0).collect::<Vec<_>>();
        assert!(numbers(&fresh.weights) == numbers(&grid.weights), "weights");
        assert!(numbers(&fresh.transposed) == numbers(&grid.transposed), "transposed");
    }
    let parameters = [numbers.0, numbers.1, numbers.2].map(|numbers| bits(&numbers)).into();
    (parameters, trainer.chains().state().expect("a state").hidden, grid.map(|grid| grid.shift))
}

#[test]
fn training_gives_the_bits_of_sums() {
    let shape = Shape::new(150, 100).expect("a shape");
    let rbm = model(shape, 15, |x| 0.01 * x, |x| x);
    let mut numbers = Numbers::new(16);
    // A quarter of the units is idle; most others are off.
    let values: Vec<f32> = (0..80 * 150).map(|i| f32::from(numbers.next() > 0.6 && i % 150 > 40)).collect();
    let complete = Dataset::from_f32(values.clone(), 150).expect("rows");
    let holes = values.iter().enumerate().map(|(i, &x)| if i % 31 == 0 { f32::NAN } else { x }).collect();
    let holes = Dataset::with_missing(holes, shape.visible()).expect("rows");
    let plain = Descent::default();
    let rules = Descent { centring: Some(Centring::default()), momentum: 0.5, l2: 1e-3, ..plain };
    for (data, algorithm, descent, lr) in [
        (&complete, Algorithm::Pcd { n_chains: 20 }, plain, 0.1),
        (&complete, Algorithm::Pcd { n_chains: 70 }, plain, 3.0),
        (&complete, Algorithm::Cd, plain, 0.1),
        (&complete, Algorithm::Pcd { n_chains: 20 }, rules, 0.1),
        (&holes, Algorithm::Cd, plain, 0.1),
        (&holes, Algorithm::Pcd { n_chains: 20 }, plain, -0.1),
    ] {
        let settings = Settings { algorithm, k: 5, monitor: Monitor::Reconstruction, descent, ..Settings::default() };
        for isa in Isa::available() {
            let with = |method, threads| in_pool(threads, || trained(cpu(isa, method), &rbm, data, settings, lr));
            let expected = with(SampleMethod::Sums, 1);
            assert_eq!(expected.2, None);
            for (method, threads) in [(SampleMethod::Fastest, 2), (on_grid(16), 1), (on_grid(9), 2)] {
                let found = with(method, threads);
                assert!(found.0 == expected.0 && found.1 == expected.1, "{isa}, {settings:?}, lr {lr}, {method:?}");
                // Growing weights make the grid coarser.
                let grown = found.2.expect("a grid").expect("a shift");
                assert!(lr < 1.0 || grown < 16, "{grown}");
            }
            // There is no grid for a single step, or if updates do not use it.
            let settings = Settings { k: 1, ..settings };
            assert_eq!(trained(cpu(isa, SampleMethod::Fastest), &rbm, data, settings, lr).2, None);
        }
    }
}

#[test]
fn a_grid_without_use_is_dropped() {
    let shape = Shape::new(70, 65).expect("a shape");
    let rbm = model(shape, 17, |x| 0.1 * x, |x| x);
    let isa = Isa::available()[0];
    let mut parameters = CpuParameters::new(rbm.view(), false);
    let cpu = cpu(isa, SampleMethod::Fastest);
    assert!(parameters.grid(cpu, MIN_STEPS - 1).is_none() && parameters.grid.grid.get().is_none());
    assert!(parameters.grid(cpu, MIN_STEPS).is_some_and(|grid| grid.shift == Some(16)));
    assert!(parameters.clone().grid.grid.get().is_none());
    assert!(parameters.grid.parts(parameters.weights.len() / 2).is_some());
    assert!(parameters.grid.parts(parameters.weights.len() / 2).is_none() && parameters.grid.grid.get().is_none());
    // Weights that fit no permitted grid, or are not finite, are remembered as such.
    for weight in [200.0, f32::INFINITY, f32::NAN] {
        parameters.weights[0].units_mut()[3] = weight;
        assert!(parameters.grid(cpu, MIN_STEPS).is_none());
        assert!(parameters.grid.parts(1).is_none() && parameters.grid.grid.get().is_some());
        parameters.grid = GridCache::default();
    }
}

/// The mean of a run's models changes without an update, while chains sweep with it.
#[test]
fn a_model_that_approaches_another_makes_a_new_grid() {
    let shape = Shape::new(90, 70).expect("a shape");
    let (rbm, other) = (model(shape, 19, |x| 0.5 * x, |x| x), model(shape, 20, |x| 0.5 * x, |x| x));
    let state = start(shape, 30, 0.4, 21);
    for isa in Isa::available() {
        let [expected, found] = [SampleMethod::Sums, SampleMethod::Fastest].map(|method| {
            let cpu = cpu(isa, method);
            let mut resident = rbm.on(cpu).expect("resident");
            let mut chains = Chains::from_state(cpu, shape, &state).expect("chains");
            chains.sweep(&resident, 10).expect("a sweep");
            resident.approach(&other.on(cpu).expect("resident"), 0.5).expect("parameters between both");
            chains.sweep(&resident, 10).expect("a sweep");
            (chains.state().expect("a state").hidden, bits(&resident.to_rbm().expect("an RBM").into_parts().0))
        });
        assert!(expected == found, "{isa}");
    }
}

#[test]
fn annealing_gives_the_bits_of_sums() {
    let shape = Shape::new(90, 70).expect("a shape");
    let rbm = model(shape, 18, |x| 0.6 * x, |x| x);
    let rows: Vec<f32> = (0..20 * 90).map(|i| f32::from(i % 90 % 4 == 0)).collect();
    let base_rate = BaseRate::fit(Rows::new(Values::F32(&rows), 90).expect("rows"));
    let settings = Annealing { runs: 10, schedule: Schedule::new(60).expect("a schedule"), ..Annealing::default() };
    for isa in Isa::available() {
        let estimate = |method| {
            let resident = rbm.on(cpu(isa, method)).expect("resident");
            ais(&resident, &base_rate, &settings).expect("an estimate").estimate.to_bits()
        };
        let expected = estimate(SampleMethod::Sums);
        for method in [SampleMethod::Fastest, on_grid(16), on_grid(11), on_grid(5)] {
            assert_eq!(estimate(method), expected, "{isa}, {method:?}");
        }
    }
}

/// Point 2 of the proof: the pre-activation from the grid against the canonical one, in exact numbers.
#[test]
fn the_bound_holds_and_is_not_idle() {
    for (size, offset) in [(0.3, 0.0), (0.3, 0.49), (40.0, 0.0), (40.0, 0.49)] {
        for n in [0_usize, 1, 2, 30, 200, 1500, 8000] {
            let mut numbers = Numbers::new(n as u64);
            let shift = [16, 9][usize::from(size > 1.0)];
            let step = power(-shift);
            let weights: Vec<f32> = (0..n).map(|_| ((size * numbers.next() / step).round() + offset) * step).collect();
            let mut row = vec![Row::ZERO; n.div_ceil(TILE)];
            row.iter_mut().flat_map(Row::units_mut).zip(&weights).for_each(|(to, &w)| *to = w);
            let grid =
                Grid::of(Isa::available()[0], Rules { shifts: shift..=shift, max_epsilon: 0.0, share: 1.0 }, &row, &[]);
            assert_eq!(grid.shift, Some(shift));
            let whole: i32 = grid.weights.iter().flat_map(|row| row.0.as_flattened()).map(|&q| i32::from(q)).sum();
            let sum = weights.iter().fold(0.0, |sum, w| sum + w);
            for (beta, bias, reference) in [(1.0, 0.7, 0.0), (0.3, -5.0, 2.0), (-2.0, 1e3, 1e2)] {
                let a = pre_activation(One, sum, bias, reference, beta);
                let alone = pre_activation(One, 0.0, bias, reference, beta) * -LOG2_E;
                let t = (whole as f32).mul_add(beta * (step * -LOG2_E), alone);
                let error = (f64::from(t) * -std::f64::consts::LN_2 - f64::from(a)).abs();
                let epsilon = f64::from(grid.epsilon(n as u32, beta, [bias, reference].map(f32::abs)));
                assert!(error <= epsilon, "{n} weights to {size}, β {beta}: {error} > {epsilon}");
                let least = if offset > 0.0 && (30..1000).contains(&n) && beta == 1.0 { 0.6 } else { 0.0 };
                assert!(error >= least * epsilon, "{n} weights to {size}: {error} of {epsilon}");
            }
        }
    }
}

#[test]
fn the_rough_exponential() {
    let mut largest: f64 = 0.0;
    for i in -126 * 4096..=126 * 4096 {
        let t = i as f32 / 4096.0;
        largest = largest.max((f64::from(exp2_roughly(One, t)) / f64::from(t).exp2() - 1.0).abs());
    }
    assert!(largest < 2f64.powf(-13.5), "{largest}");
    for (t, end) in [(1e3, 126.0), (f32::INFINITY, 126.0), (-1e30, -126.0)] {
        assert_eq!(exp2_roughly(One, t), exp2_roughly(One, end));
    }
    assert!(exp2_roughly(One, f32::NAN).is_nan());
    assert_eq!(unit_interval(u32::MAX) + STEP, 1.0);
}
