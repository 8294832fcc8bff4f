//! The sums of cuBLAS, beyond the tests of [`for_each_device`]. Runs where `tests/cuda.rs` does.
//!
//! If results are compared with the CPU's, a draw can fall between two means that differ by rounding, and the chain differs from
//! there on. With at most 10 000 draws and means that differ by at most 5e-6, that happens to less than one seed in twenty, and to
//! all of five seeds with probability 3e-7. So one seed of five must agree.
#![cfg(feature = "cuda")]

mod oracle;

use harmonium::{
    Activations, Algorithm, ChainState, Chains, Cpu, Cuda, Device, Monitor, Purpose, Rbm, Settings, Shape, Sums,
    Trainer, TrainerState, Uniforms,
    log_partition::{Annealing, BaseRate, Schedule, ais},
};
use oracle::{
    assert_bits, byte_rows,
    canonical::sample,
    device::{apart, cuda, cuda_gemm, emulator, is_emulated, task},
    exact::{Exact, add, index, rows_f64, sigmoid},
    random_bits, random_bytes, random_rbm, random_values, rows, shape,
    statistics::{U, assert_distribution, assert_near, gradient_error, mean_error, pre_error, softplus_error},
};

const SIZES: [usize; 5] = [1, 31, 32, 33, 257];
const BETAS: [f32; 3] = [1.0, 0.5, 0.0];

/// Each size once as visible and once as hidden.
fn shapes() -> impl Iterator<Item = Shape> {
    (0..SIZES.len()).map(|n| shape(SIZES[n], SIZES[(n + 3) % SIZES.len()]))
}

fn model(shape: Shape, seed: u64) -> Rbm {
    random_rbm(shape, 2.0 / (shape.n_visible().max(shape.n_hidden()).max(4) as f64).sqrt(), seed)
}

/// Chains at several inverse temperatures, far along a sequence.
fn state(shape: Shape, chains: usize, seed: u64) -> ChainState {
    let words = shape.n_hidden().div_ceil(64);
    let bits = random_bits(chains * shape.n_hidden(), 0.4, seed);
    let hidden = bits.chunks_exact(shape.n_hidden()).flat_map(|chain| {
        (0..words).map(|w| chain.iter().skip(64 * w).take(64).rev().fold(0, |word, &x| word << 1 | u64::from(x == 1.0)))
    });
    let mut uniforms = Uniforms::new(seed, Purpose::Sampling);
    uniforms.skip((1 << 40) - 1000);
    ChainState { hidden: hidden.collect(), betas: (0..chains).map(|m| BETAS[m % 3]).collect(), uniforms }
}

/// Whether some seed of five agrees.
#[track_caller]
fn assert_some_seed(what: &str, agrees: impl Fn(u64) -> bool) {
    assert!((1..=5).any(agrees), "{what}: no seed of five agrees with the CPU");
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// A step from a known state: pre-activations are the oracle's at each chain's temperature, and both layers use the numbers at the
/// canonical positions. A draw within the error of a hidden mean may give either result.
#[test]
fn a_step_draws_at_the_canonical_positions() {
    let Some(gemm) = cuda_gemm().map(Device::from) else { return };
    for (seed, shape) in (0..).zip(shapes()) {
        let (nv, nh, n) = (shape.n_visible(), shape.n_hidden(), [1, 2, 33][seed as usize % 3]);
        let rbm = model(shape, seed);
        let (resident, exact) = (rbm.on(&gemm).expect("resident"), Exact::of(&rbm));
        let start = state(shape, n, seed);
        let mut chains = Chains::from_state(&gemm, shape, &start).expect("chains");
        let before = chains.hidden().expect("hidden");
        chains.sweep(&resident, 1).expect("sweep");
        let mut visible = Activations::default();
        chains.visible(&resident, &mut visible).expect("visible");
        let at = |x: Vec<f64>, beta: f32| x.into_iter().map(move |x| x * f64::from(beta)).collect::<Vec<_>>();
        for (m, h) in rows_f64(&before, nh).iter().enumerate() {
            let (pre, size) = (at(exact.visible_pre(h), BETAS[m % 3]), exact.visible_size(h));
            let bounds: Vec<f64> = size.iter().map(|&size| pre_error(nh, size)).collect();
            assert_near(
                &wide(&visible.pre_activation[m * nv..][..nv]),
                &pre,
                &bounds,
                &format!("{shape:?}, chain {m}"),
            );
        }
        let mut generator = start.uniforms.generator();
        assert_bits(&visible.sample, &sample(&visible.pre_activation, &mut generator), "visible draws");
        let hidden = chains.hidden().expect("hidden");
        for (m, v) in rows_f64(&visible.sample, nv).iter().enumerate() {
            let (pre, size) = (at(exact.hidden_pre(v), BETAS[m % 3]), exact.hidden_size(v));
            for j in 0..nh {
                let p = sigmoid(pre[j]);
                let u = (f64::from(rand_core::Rng::next_u32(&mut generator)) + 0.5) / 2f64.powi(32);
                let near = (u - p).abs() <= mean_error(pre_error(nv, size[j]));
                assert!(near || (hidden[m * nh + j] == 1.0) == (u < p), "{shape:?}, chain {m}, unit {j}: {u}, {p}");
            }
        }
        let mut expected = start.uniforms.clone();
        expected.skip((n * (nv + nh)) as u64);
        assert_eq!(chains.state().expect("state").uniforms, expected);
    }
}

/// Sweeps of several steps, copies, and starts at rows equal the CPU's chains.
#[test]
fn chains_are_the_cpus() {
    fn ask(device: &Device, rbm: &Rbm, start: &ChainState, grey: &[u8]) -> Vec<ChainState> {
        let resident = rbm.on(device).expect("resident");
        let mut chains = Chains::from_state(device, rbm.shape(), start).expect("chains");
        chains.sweep(&resident, 3).expect("sweep");
        let copy = chains.clone();
        chains.sweep(&resident, 1).expect("sweep");
        let data = device.load(byte_rows(grey, rbm.shape().n_visible())).expect("data");
        let batch = data.range(1..3);
        let mut started = Chains::from_visible(&resident, batch, start.uniforms.clone()).expect("chains");
        started.sweep(&resident, 2).expect("sweep");
        [&chains, &copy, &started].map(|chains| chains.state().expect("state")).into()
    }
    let Some(gemm) = cuda_gemm().map(Device::from) else { return };
    let cpu = Device::from(Cpu::detect().expect("a CPU"));
    for (n, shape) in [shape(33, 257), shape(65, 31), shape(1, 32)].into_iter().enumerate() {
        assert_some_seed(&format!("{shape:?}"), |seed| {
            let (rbm, start) = (model(shape, seed), state(shape, [2, 9, 33][n], seed));
            let grey = random_bytes(3 * shape.n_visible(), 0.5, seed);
            ask(&gemm, &rbm, &start, &grey) == ask(&cpu, &rbm, &start, &grey)
        });
    }
}

/// One update.
fn step(device: &Device, rbm: &Rbm, settings: Settings, x: &[f32], lr: f32) -> (Rbm, Vec<f32>, TrainerState) {
    let (mut rbm, nv) = (rbm.clone(), rbm.shape().n_visible());
    let data = device.load(rows(x, nv)).expect("data");
    let mut trainer = Trainer::new(device, rbm.shape(), settings).expect("trainer");
    let mut lent = rbm.lend(device).expect("lent");
    trainer.step(&mut lent, data.range(0..x.len() / nv), lr).expect("step");
    lent.finish().expect("finish");
    let mut ends = Activations::default();
    trainer.chains().visible(&rbm.on(device).expect("on"), &mut ends).expect("ends");
    (rbm, ends.sample, trainer.state().expect("state"))
}

/// Parameters after an update: the error of either kind of sums is at most the rounding error of the gradient times the rate, and
/// four roundings of the parameter and of the change, which is at most two rates.
#[test]
fn an_update_is_the_cpus() {
    let Some(gemm) = cuda_gemm().map(Device::from) else { return };
    let cpu = Device::from(Cpu::detect().expect("a CPU"));
    let monitors = [Monitor::PseudoLikelihood, Monitor::ExactPseudoLikelihood, Monitor::Reconstruction, Monitor::None];
    for (n, shape) in shapes().enumerate() {
        let algorithm = if n % 2 == 0 { Algorithm::Pcd { n_chains: 33 } } else { Algorithm::Cd };
        let lr = 0.1f32;
        assert_some_seed(&format!("{shape:?}, {algorithm:?}"), |seed| {
            let settings = Settings { algorithm, k: 2, monitor: monitors[n % 4], seed, ..Settings::default() };
            let rbm = model(shape, seed);
            let x = random_values(7 * shape.n_visible(), 0.7, seed);
            let (expected, ends, state) = step(&cpu, &rbm, settings, &x, lr);
            let (found, found_ends, found_state) = step(&gemm, &rbm, settings, &x, lr);
            assert_eq!(found_state.chains.uniforms, state.chains.uniforms);
            if found_ends != ends || found_state.chains != state.chains {
                return false;
            }
            let (exact, after) = (Exact::of(&rbm), Exact::of(&expected));
            let mut bounds = vec![0.0; exact.theta.len()];
            for states in [&x, &ends] {
                let states = rows_f64(states, shape.n_visible());
                let mean = vec![1.0 / states.len() as f64; states.len()];
                add(&mut bounds, 2.0 * f64::from(lr), &gradient_error(&exact, &states, &mean));
            }
            let parameters = after.theta.iter().zip(&mut bounds);
            parameters.for_each(|(theta, bound)| *bound += 4.0 * U * (theta.abs() + 2.0 * f64::from(lr)));
            assert_near(&Exact::of(&found).theta, &after.theta, &bounds, &format!("{shape:?}, {settings:?}"));
            // The same terms up to rounding: each of at most (n_visible + n_hidden) softplus.
            let scale = shape.n_visible().max(30) as f64 * (shape.n_visible() + shape.n_hidden()) as f64;
            assert!((found_state.watched - state.watched).abs() <= 1e-5 * scale, "{found_state:?} {state:?}");
            true
        });
    }
}

/// Launched one by one, captured, replayed, and again after a change of sizes, which is the order in which trainers see their
/// updates.
#[test]
fn a_captured_update_is_the_same() {
    let Some(gemm) = cuda_gemm().map(Device::from) else { return };
    let shape = shape(33, 20);
    let x = random_bytes(40 * 33, 0.3, 1);
    let data = gemm.load(byte_rows(&x, 33)).expect("data");
    let batches = [0..6, 6..12, 12..18, 18..24, 24..27, 27..30, 30..36];
    for (algorithm, monitor) in [
        (Algorithm::Pcd { n_chains: 5 }, Monitor::PseudoLikelihood),
        (Algorithm::Cd, Monitor::Reconstruction),
        (Algorithm::Pcd { n_chains: 3 }, Monitor::ExactPseudoLikelihood),
    ] {
        let settings = Settings { algorithm, k: 2, monitor, seed: 3, ..Settings::default() };
        let run = |anew: bool| {
            let mut rbm = model(shape, 2);
            let mut trainer = Trainer::new(&gemm, shape, settings).expect("trainer");
            let mut lent = rbm.lend(&gemm).expect("lent");
            for batch in batches.clone() {
                trainer.step(&mut lent, data.range(batch), 0.1).expect("step");
                if anew {
                    let state = trainer.state().expect("state");
                    trainer = Trainer::from_state(&gemm, shape, settings, &state).expect("trainer");
                }
            }
            lent.finish().expect("finish");
            (rbm, trainer.state().expect("state"))
        };
        assert_eq!(run(false), run(true), "{settings:?}");
    }
}

/// The transitions of chains follow the conditionals. False-alarm rate 1e-6 each of two comparisons.
#[test]
fn samples_have_the_models_distribution() {
    let Some(gemm) = cuda_gemm().map(Device::from) else { return };
    let (nv, nh, n) = (3, 2, 4000);
    let rbm = random_rbm(shape(nv, nh), 1.5, 12);
    let (resident, exact) = (rbm.on(&gemm).expect("resident"), Exact::of(&rbm));
    let start =
        ChainState { hidden: vec![0b01; n], betas: vec![1.0; n], uniforms: Uniforms::new(5, Purpose::Sampling) };
    let mut chains = Chains::from_state(&gemm, rbm.shape(), &start).expect("chains");
    let mut visible = Activations::default();
    let mut steps = 0;
    for k in [1, 2] {
        chains.sweep(&resident, k).expect("sweep");
        steps += k;
        chains.visible(&resident, &mut visible).expect("visible");
        let hidden = chains.hidden().expect("hidden");
        let mut counts = vec![0; 1 << (nv + nh)];
        for (v, h) in visible.sample.chunks_exact(nv).zip(hidden.chunks_exact(nh)) {
            counts[index(v) << nh | index(h)] += 1;
        }
        assert_distribution(&counts, &exact.after_sweeps(&[0.0, 1.0, 0.0, 0.0], steps), &format!("{steps} steps"));
    }
}

/// log Z by annealing is the CPU's: each log weight is a sum over pairs of temperatures of differences of softplus terms.
#[test]
fn annealing_is_the_cpus() {
    let Some(gemm) = cuda_gemm().map(Device::from) else { return };
    let cpu = Device::from(Cpu::detect().expect("a CPU"));
    let (nv, nh, pairs) = (33, 31, 5);
    assert_some_seed("log Z", |seed| {
        let rbm = model(shape(nv, nh), seed);
        let base_rate = BaseRate::fit(rows(&random_bits(10 * nv, 0.3, seed), nv));
        let schedule = Schedule::new(pairs).expect("schedule");
        let settings = Annealing { runs: 17, schedule, seed, ..Annealing::default() };
        let expected = ais(&rbm.on(&cpu).expect("on"), &base_rate, &settings).expect("ais");
        let found = ais(&rbm.on(&gemm).expect("on"), &base_rate, &settings).expect("ais");
        let all_on = Exact::of(&rbm).hidden_size(&vec![1.0; nv]);
        let term = |&size: &f64| softplus_error(pre_error(nv, size), size + 1.0);
        let bound = 4.0 * pairs as f64 * all_on.iter().map(term).sum::<f64>();
        (found.estimate - expected.estimate).abs() <= bound
    });
}

/// The greatest relative change of a factor by TF32, which truncates after ten bits behind the point. cuBLAS may also round to
/// nearest, or not round at all; it does not document which it does for which sizes.
const TF32: f64 = 1.0 / 1024.0;

/// The midpoint between two TF32 numbers: truncation and rounding both change it by 2⁻¹¹.
const BETWEEN: f32 = 1.0 + 1.0 / 2048.0;

/// A model in which every sum shows whether weights were rounded.
fn model_between(n: usize) -> Rbm {
    Rbm::from_parts(shape(n, n), vec![BETWEEN; n * n], vec![-1.0; n], vec![-1.0; n]).expect("model")
}

/// Sums of few bits, which are the same in any order: exact unless factors are rounded, which only TF32 does.
#[test]
fn tf32_is_off_by_default() {
    let (Some(cuda), Some(gemm)) = (cuda(), cuda_gemm()) else { return };
    let tf32 = gemm.clone().with_sums(Sums::GemmTf32).expect("cuBLAS");
    for (n, m) in [(4, 1), (3, 2), (33, 5), (256, 300)] {
        let rbm = model_between(n);
        let pre = |cuda: &Cuda| {
            let data = cuda.load(rows(&vec![1.0; m * n], n)).expect("data");
            let mut hidden = Activations::default();
            rbm.on(cuda).expect("on").propup(data.all(), &mut hidden).expect("propup");
            hidden.pre_activation
        };
        let exact = n as f32 * BETWEEN - 1.0;
        let rounded = pre(&tf32);
        // Other sums do not change the handle from which they were requested.
        for (what, sums) in [("canonical", &cuda), ("cuBLAS", &gemm)] {
            assert_eq!(pre(sums), vec![exact; m * n], "{what}, {n} units, {m} rows");
        }
        let bound = TF32 * n as f64 * f64::from(BETWEEN);
        assert_near(&wide(&rounded), &vec![exact.into(); m * n], &vec![bound; m * n], &format!("{n} units, {m} rows"));
        if is_emulated(&cuda) {
            assert_eq!(rounded, vec![n as f32 - 1.0; m * n]);
        }
    }
}

/// Every call that takes rows.
fn of_rows(device: &Device, rbm: &Rbm, n: usize) -> Vec<Vec<f64>> {
    let x: Vec<f32> = vec![1.0; 3 * n];
    let data = device.load(rows(&x, 3)).expect("data");
    let (resident, mut hidden) = (rbm.on(device).expect("on"), Activations::default());
    resident.propup(data.all(), &mut hidden).expect("propup");
    let mut gradient = harmonium::Gradient::zero(rbm.shape());
    let weights = vec![1.0 / n as f32; n];
    resident.free_energy_gradient(data.all(), &weights, &mut gradient).expect("gradient");
    vec![
        wide(&hidden.pre_activation),
        resident.free_energy(data.all()).expect("F"),
        resident.pseudo_log_likelihood(data.all()).expect("PL"),
        resident.pseudo_log_likelihood_of_bit(data.all(), 1).expect("PL of a bit"),
        wide(&gradient.hidden_bias),
    ]
}

/// A sweep of `n` chains.
fn of_chains(device: &Device, rbm: &Rbm, n: usize) -> Vec<f32> {
    let start = ChainState { hidden: vec![0b111; n], betas: vec![1.0; n], uniforms: state(rbm.shape(), 1, 1).uniforms };
    let mut chains = Chains::from_state(device, rbm.shape(), &start).expect("chains");
    let (resident, mut visible) = (rbm.on(device).expect("on"), Activations::default());
    chains.sweep(&resident, 1).expect("sweep");
    chains.visible(&resident, &mut visible).expect("visible");
    visible.pre_activation
}

/// With TF32 every answer equals the canonical one up to rounded factors. On the emulator, which rounds all factors, it always
/// differs, for any number of rows and chains.
#[test]
fn products_are_used_for_all_sizes() {
    let (Some(cuda), Some(gemm)) = (cuda(), cuda_gemm()) else { return };
    let emulated = is_emulated(&cuda);
    let tf32 = Device::from(gemm.with_sums(Sums::GemmTf32).expect("cuBLAS"));
    let (cuda, rbm) = (Device::from(cuda), model_between(3));
    // A pre-activation: both factors of each of three products, and later roundings in `f32`.
    let size = 3.0 * f64::from(BETWEEN) + 1.0;
    let pre = (2.0 * TF32 + TF32 * TF32) * size + pre_error(3, size);
    // A free energy is a sum over three hidden units; a pseudo-likelihood is three logarithms of σ of the difference of two. In the
    // gradient, where σ' ≤ 1/4, the hidden mean is one more factor.
    let bounds = [pre, 3.0 * pre, 18.0 * pre, 18.0 * pre, pre / 4.0 + 3.0 * TF32].map(|bound| bound + 1e-5);
    for n in [2, 300] {
        let (found, canonical) = (of_rows(&tf32, &rbm, n), of_rows(&cuda, &rbm, n));
        for (what, ((found, canonical), bound)) in found.iter().zip(&canonical).zip(bounds).enumerate() {
            assert_near(found, canonical, &vec![bound; canonical.len()], &format!("answer {what}, {n} rows"));
            assert!(!emulated || (found[0] - canonical[0]).abs() > 1e-4, "answer {what}, {n} rows");
        }
    }
    for n in [1, 1100] {
        let (found, canonical) = (of_chains(&tf32, &rbm, n), of_chains(&cuda, &rbm, n));
        assert_near(&wide(&found), &wide(&canonical), &vec![pre; 3 * n], &format!("{n} chains"));
        assert!(!emulated || found != canonical, "{n} chains");
    }
}

/// With `auto` there is no product below the thresholds, and above them as many as the calls need. In an update with few rows and
/// many chains, each part follows its own threshold.
#[test]
fn sums_are_chosen_by_size() {
    let test = "sums_are_chosen_by_size";
    fn settings(n_chains: usize) -> Settings {
        Settings {
            algorithm: Algorithm::Pcd { n_chains },
            k: 1,
            monitor: Monitor::PseudoLikelihood,
            seed: 1,
            ..Settings::default()
        }
    }
    type Call = fn(&Device, usize);
    let calls: [(&str, usize, usize, Call); 4] = [
        ("rows", 256, 6, |device, n| drop(of_rows(device, &model_between(3), n))),
        ("chains", 1024, 0, |device, n| drop(of_chains(device, &model_between(3), n))),
        ("the gradient", 254, 2, |device, n| drop(step(device, &model_between(3), settings(n), &[1.0; 6], 0.1))),
        ("annealing", 1024, 4, |device, n| {
            let schedule = Schedule::new(2).expect("schedule");
            let settings = Annealing { runs: n, schedule, ..Annealing::default() };
            let resident = model_between(3).on(device).expect("on");
            ais(&resident, &BaseRate::uniform(3), &settings).expect("ais");
        }),
    ];
    if task().is_some() {
        let auto = Device::from(cuda().expect("a device").with_sums(Sums::Auto).expect("cuBLAS"));
        for (what, limit, _, call) in &calls {
            for n in [limit - 1, *limit] {
                eprintln!("begin {what} {n}");
                call(&auto, n);
            }
        }
        return;
    }
    if !emulator() {
        return;
    }
    let (ended_well, output) = apart(test, "", &[("HARMONIUM_EMULATOR_TRACE", "1")]);
    assert!(ended_well, "{output}");
    for (what, limit, products, _) in calls {
        for (n, products) in [(limit - 1, 0), (limit, products)] {
            let (_, rest) = output.split_once(&format!("begin {what} {n}\n")).expect("it begins");
            let calls = rest.split("begin ").next().expect("a part");
            assert_eq!(calls.matches("call: matrix product").count(), products, "{what}, {n}: {calls}");
        }
    }
    // The two rows are monitored canonically, with any other sums.
    let (Some(cuda), rbm) = (cuda(), model_between(3)) else { return };
    let auto = cuda.clone().with_sums(Sums::Auto).expect("cuBLAS").into();
    let of = |device: &Device, chains| step(device, &rbm, settings(chains), &[1.0; 6], 0.1);
    assert_eq!(of(&auto, 4), of(&cuda.clone().into(), 4));
    assert_eq!(of(&auto, 1024).2.watched, of(&cuda.into(), 1024).2.watched);
}
