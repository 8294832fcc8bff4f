//! CUDA gives the CPU's bits. Runs on an NVIDIA GPU or on the emulator of `tests/cuda_emulator`. Without both it reports that;
//! `HARMONIUM_CUDA=required` makes that a failure.
#![cfg(feature = "cuda")]

mod oracle;

use harmonium::{
    Activations, Algorithm, BatchMeans, ChainState, Chains, Cpu, Device, Gradient, Monitor, Purpose, Rbm, Rows,
    Settings, Shape, Sweeps, Trainer, Uniforms, Values,
    log_partition::{Annealing, BaseRate, Schedule, ais},
};
use oracle::{byte_rows, device::cuda, random_bits, random_bytes, random_rbm, random_values, rows, shape};
use sha2::{Digest, Sha256};

const SIZES: [usize; 5] = [1, 31, 32, 33, 257];
const MONITORS: [Monitor; 4] =
    [Monitor::PseudoLikelihood, Monitor::ExactPseudoLikelihood, Monitor::Reconstruction, Monitor::None];

/// Ragged sizes; more units than threads in a block; more units than a list holds.
fn shapes() -> Vec<Shape> {
    let mut all = Vec::new();
    for (n, &nv) in SIZES.iter().enumerate() {
        all.push(shape(nv, SIZES[(n + 1) % SIZES.len()]));
        all.push(shape(nv, SIZES[(n + 3) % SIZES.len()]));
    }
    all.extend([shape(32, 32), shape(257, 257), shape(1100, 40), shape(40, 1100)]);
    all
}

fn model(shape: Shape, seed: u64) -> Rbm {
    random_rbm(shape, 2.0 / (shape.n_visible().max(4) as f64).sqrt(), seed)
}

fn draws(seed: u64) -> Uniforms {
    let mut draws = Uniforms::new(seed, Purpose::Sampling);
    draws.skip(seed * 1000);
    draws
}

/// The answers of a device, as bits.
#[derive(Clone, Default)]
struct Answers(Vec<(String, Vec<u64>)>);

impl Answers {
    fn single(&mut self, what: &str, values: &[f32]) {
        self.0.push((what.to_owned(), values.iter().map(|x| u64::from(x.to_bits())).collect()));
    }

    fn double(&mut self, what: &str, values: &[f64]) {
        self.0.push((what.to_owned(), values.iter().map(|x| x.to_bits()).collect()));
    }

    fn activations(&mut self, what: &str, of: &Activations) {
        self.single(&format!("{what}: pre-activation"), &of.pre_activation);
        self.single(&format!("{what}: mean"), &of.mean);
        self.single(&format!("{what}: sample"), &of.sample);
    }

    fn gradient(&mut self, what: &str, of: &Gradient) {
        self.single(&format!("{what}: weights"), &of.weights);
        self.single(&format!("{what}: visible bias"), &of.visible_bias);
        self.single(&format!("{what}: hidden bias"), &of.hidden_bias);
    }

    fn chains(&mut self, what: &str, of: &Chains) {
        let ChainState { hidden, betas, uniforms } = of.state().expect("state");
        self.0.push((format!("{what}: hidden"), hidden));
        self.single(&format!("{what}: betas"), &betas);
        self.0.push((format!("{what}: position"), vec![uniforms.position()]));
    }

    fn rbm(&mut self, of: &Rbm) {
        self.single("weights", of.view().weights());
        self.single("visible bias", of.view().visible_bias());
        self.single("hidden bias", of.view().hidden_bias());
    }
}

#[track_caller]
fn compare(what: &str, Answers(expected): Answers, Answers(found): Answers) {
    assert_eq!(expected.len(), found.len());
    for ((name, expected), (_, found)) in expected.iter().zip(&found) {
        assert_eq!(expected.len(), found.len(), "{what}: {name}: length");
        let differ = expected.iter().zip(found).filter(|(a, b)| a != b).count();
        if let Some(at) = expected.iter().zip(found).position(|(a, b)| a != b) {
            let (cpu, cuda) = (expected[at], found[at]);
            panic!("{what}: {name}[{at}]: {cpu:#x} on the CPU, {cuda:#x} on CUDA; {differ} of {} differ", found.len());
        }
    }
}

/// Runs the same code on the CPU and on CUDA and compares the results; returns from the test without CUDA.
macro_rules! same {
    ($what:expr, $ask:ident($($argument:expr),*)) => {{
        let Some(cuda) = cuda() else { return };
        let cpu = Cpu::detect().expect("a CPU").into();
        compare($what, $ask(&cpu, $($argument),*), $ask(&cuda.into(), $($argument),*));
    }};
}

#[test]
fn chains() {
    fn ask(device: &Device, rbm: &Rbm, n: usize, k: usize) -> Answers {
        let mut answers = Answers::default();
        let resident = rbm.on(device).expect("on");
        let betas = (0..n).map(|m| [1.0, 0.5, 0.0][m % 3]).collect();
        let hidden = vec![0; n * rbm.shape().n_hidden().div_ceil(64)];
        let state = ChainState { hidden, betas, uniforms: draws(7) };
        let mut chains = Chains::from_state(device, rbm.shape(), &state).expect("chains");
        let mut visible = Activations::default();
        for _ in 0..2 {
            chains.sweep(&resident, k).expect("sweep");
            chains.visible(&resident, &mut visible).expect("visible");
            answers.chains("sweep", &chains);
            answers.activations("visible", &visible);
        }
        // A copy does not move with the original.
        let before = chains.clone();
        chains.sweep(&resident, 1).expect("sweep");
        answers.chains("the copy", &before);
        answers.chains("after the copy", &chains);
        answers
    }
    let Some(cuda) = cuda() else { return };
    let cpu = Cpu::detect().expect("a CPU").into();
    let ways: &[_] = match cuda.has_clusters() {
        true => &[Sweeps::Blocks, Sweeps::Strips, Sweeps::Grid, Sweeps::Clusters],
        false => &[Sweeps::Blocks, Sweeps::Strips, Sweeps::Grid],
    };
    // More chains than a block of a strip processes at once; more units than it has room for, or than a cluster computes in one
    // pass.
    let more = [(shape(70, 130), 100, 1), (shape(430, 40), 3, 2), (shape(2100, 40), 1, 1), (shape(40, 2100), 1, 1)];
    let ragged = shapes().into_iter().enumerate().map(|(n, shape)| (shape, [1, 2, 33][n % 3], [1, 2, 5][n / 3 % 3]));
    for (n, (shape, chains, k)) in ragged.chain(more).enumerate() {
        let rbm = model(shape, n as u64);
        let expected = ask(&cpu, &rbm, chains, k);
        for &sweeps in ways {
            let found = ask(&cuda.clone().with_sweeps(sweeps).into(), &rbm, chains, k);
            compare(&format!("{shape:?}, {chains} chains, k = {k}, {sweeps:?}"), expected.clone(), found);
        }
    }
}

#[test]
fn conditionals() {
    fn ask(device: &Device, rbm: &Rbm, v: Rows<'_>, h: Rows<'_>) -> Answers {
        let mut answers = Answers::default();
        let resident = rbm.on(device).expect("on");
        let (visible, hidden) = (device.load(v).expect("load"), device.load(h).expect("load"));
        let (v, h) = (visible.range(0..v.len()), hidden.range(1..h.len()));
        let mut out = Activations::default();
        let mut draws = draws(3);
        resident.propup(v, &mut out).expect("propup");
        answers.activations("propup", &out);
        resident.propdown(h, &mut out).expect("propdown");
        answers.activations("propdown", &out);
        resident.sample_h_given_v(v, &mut draws, &mut out).expect("sample");
        answers.activations("h given v", &out);
        resident.sample_v_given_h(h, &mut draws, &mut out).expect("sample");
        answers.activations("v given h", &out);
        let mut other = Activations::default();
        resident.gibbs_hvh(h, &mut draws, &mut other, &mut out).expect("gibbs");
        answers.activations("hvh", &out);
        resident.gibbs_vhv(v, &mut draws, &mut other, &mut out).expect("gibbs");
        answers.activations("vhv", &out);
        answers.chains("from rows", &Chains::from_visible(&resident, v, draws).expect("chains"));
        answers
    }
    for (n, shape) in shapes().into_iter().enumerate() {
        let r = [1, 2, 33][n % 3];
        let rbm = model(shape, n as u64);
        let bytes = random_bytes(r * shape.n_visible(), 0.2, 1);
        let means = random_values((r + 1) * shape.n_hidden(), 0.9, 2);
        same!(
            &format!("{shape:?}, {r} rows"),
            ask(&rbm, byte_rows(&bytes, shape.n_visible()), rows(&means, shape.n_hidden()))
        );
    }
}

#[test]
fn energies() {
    fn ask(device: &Device, rbm: &Rbm, v: Rows<'_>) -> Answers {
        let mut answers = Answers::default();
        let resident = rbm.on(device).expect("on");
        let data = device.load(v).expect("load");
        let batch = data.range(0..v.len());
        answers.double("free energy", &resident.free_energy(batch).expect("free energy"));
        answers.double("pseudo-likelihood", &resident.pseudo_log_likelihood(batch).expect("pl"));
        for bit in [0, rbm.shape().n_visible() - 1] {
            answers.double("of a bit", &resident.pseudo_log_likelihood_of_bit(batch, bit).expect("pl of a bit"));
        }
        let weights: Vec<f32> = (0..v.len()).map(|r| r as f32 / 3.0 - 1.0).collect();
        let mut gradient = Gradient::zero(rbm.shape());
        resident.free_energy_gradient(batch, &weights, &mut gradient).expect("gradient");
        answers.gradient("gradient of F", &gradient);
        answers
    }
    for (n, shape) in shapes().into_iter().enumerate() {
        let r = [33, 1, 2][n % 3];
        let rbm = model(shape, 50 + n as u64);
        let numbers = random_values(r * shape.n_visible(), 0.6, 3);
        same!(&format!("{shape:?}, {r} rows"), ask(&rbm, rows(&numbers, shape.n_visible())));
    }
}

/// Trains on a device and returns its answers. `sizes`: the sizes of successive batches.
fn train(device: &Device, rbm: &Rbm, data: Rows<'_>, settings: Settings, sizes: &[usize]) -> Answers {
    let mut answers = Answers::default();
    let mut rbm = rbm.clone();
    let data = device.load(data).expect("load");
    let mut trainer = Trainer::new(device, rbm.shape(), settings).expect("trainer");
    let mut lent = rbm.lend(device).expect("lent");
    let mut first = 0;
    for &size in sizes {
        trainer.step(&mut lent, data.range(first..first + size), 0.05).expect("step");
        first += size;
    }
    // Applying a gradient equals a step.
    let mut gradient = Gradient::zero(lent.shape());
    let mut means = BatchMeans::default();
    trainer.gradient_and_means(&lent, data.range(0..sizes[0]), &mut gradient, &mut means).expect("gradient");
    lent.apply(&gradient, 0.05).expect("apply");
    trainer.step(&mut lent, data.range(0..sizes[0]), 0.05).expect("step");
    lent.finish().expect("finish");
    let monitor = trainer.take_report().expect("report").monitor;
    answers.double("monitor", monitor.as_slice());
    answers.gradient("gradient", &gradient);
    answers.single("mean of v", &means.visible);
    answers.single("mean of P(h|v)", &means.hidden);
    answers.rbm(&rbm);
    answers.chains("chains", trainer.chains());
    answers
}

#[test]
fn updates() {
    let runs = [(Algorithm::Cd, 1), (Algorithm::Cd, 15), (Algorithm::Pcd { n_chains: 33 }, 15)];
    for (n, shape) in shapes().into_iter().enumerate() {
        let (algorithm, k) = runs[n % 3];
        let k = if shape.n_visible().max(shape.n_hidden()) > 300 { 2 } else { k };
        let settings = Settings { algorithm, k, monitor: MONITORS[n % 4], seed: n as u64, ..Settings::default() };
        // The same size again, so that a graph is replayed; then another size.
        let sizes = [[2, 2, 2, 33], [33, 33, 1, 1], [1, 1, 2, 2]][n % 3];
        let rbm = model(shape, 100 + n as u64);
        let bytes = random_bytes(sizes.iter().sum::<usize>() * shape.n_visible(), 0.3, 4);
        same!(&format!("{shape:?}, {settings:?}"), train(&rbm, byte_rows(&bytes, shape.n_visible()), settings, &sizes));
    }
}

#[test]
fn every_monitor_of_either_algorithm() {
    let shape = shape(37, 45);
    let bits = random_bits(10 * 37, 0.3, 5);
    for algorithm in [Algorithm::Cd, Algorithm::Pcd { n_chains: 2 }] {
        for monitor in MONITORS {
            let settings = Settings { algorithm, k: 2, monitor, seed: 9, ..Settings::default() };
            same!(&format!("{settings:?}"), train(&model(shape, 6), rows(&bits, 37), settings, &[5, 5]));
        }
    }
}

/// CD-3 at ragged sizes against the CPU's digests in `tests/library/golden.rs`.
#[test]
fn the_golden_digest() {
    const DIGEST: &str = "44eeb6607e0a2b0dd179561f3a83b6f8e8b7b9dfb555697d8804fe33d72a8c6f";
    let Some(cuda) = cuda() else { return };
    let bytes = random_bytes(217 * 97, 0.4, 1);
    let data = cuda.load(byte_rows(&bytes, 97)).expect("data");
    let settings =
        Settings { algorithm: Algorithm::Cd, k: 3, monitor: Monitor::Reconstruction, seed: 7, ..Settings::default() };
    let mut rbm = random_rbm(shape(97, 131), 0.3, 2);
    let mut trainer = Trainer::new(&cuda, rbm.shape(), settings).expect("trainer");
    let mut lent = rbm.lend(&cuda).expect("lent");
    for first in (0..217).step_by(7) {
        trainer.step(&mut lent, data.range(first..first + 7), 0.05).expect("step");
    }
    lent.finish().expect("finish");
    let view = rbm.view();
    let numbers = view.weights().iter().chain(view.visible_bias()).chain(view.hidden_bias());
    let digest = Sha256::digest(numbers.flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
    assert_eq!(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), DIGEST);
}

/// The tutorial's own size and settings.
#[test]
fn the_tutorials_updates() {
    let shape = shape(784, 500);
    let bytes = random_bytes(60 * 784, 0.19, 6);
    let settings = Settings::default();
    same!("the tutorial", train(&Rbm::new(shape, 123), byte_rows(&bytes, 784), settings, &[20, 20, 20]));
}

#[test]
fn annealing() {
    fn ask(device: &Device, rbm: &Rbm, runs: usize) -> Answers {
        let mut answers = Answers::default();
        let nv = rbm.shape().n_visible();
        let base_rate = BaseRate::fit(rows(&random_bits(10 * nv, 0.3, 8), nv));
        let settings = Annealing { runs, schedule: Schedule::new(7).expect("schedule"), ..Annealing::default() };
        let found = ais(&rbm.on(device).expect("on"), &base_rate, &settings).expect("ais");
        answers.double("log Z", &[found.estimate, found.lower, found.upper, found.effective_sample_size]);
        answers
    }
    for (n, shape) in shapes().into_iter().enumerate() {
        let runs = [2, 33, 5][n % 3];
        same!(&format!("{shape:?}, {runs} runs"), ask(&model(shape, 200 + n as u64), runs));
    }
}

/// Several threads share a device.
#[test]
fn threads() {
    let Some(cuda) = cuda() else { return };
    let shape = shape(33, 31);
    let settings =
        Settings { algorithm: Algorithm::Cd, k: 2, monitor: Monitor::PseudoLikelihood, seed: 1, ..Settings::default() };
    let bytes = random_bytes(8 * 33, 0.3, 7);
    let data = Rows::new(Values::U8(&bytes), 33).expect("rows");
    let device = Device::from(cuda);
    let run = |seed: u64| train(&device, &model(shape, seed), data, Settings { seed, ..settings }, &[4, 4]);
    let at_once: Vec<Answers> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|seed| scope.spawn(move || run(seed))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a thread")).collect()
    });
    for (seed, answers) in at_once.into_iter().enumerate() {
        let cpu = Cpu::detect().expect("a CPU").into();
        let seed = seed as u64;
        let expected = train(&cpu, &model(shape, seed), data, Settings { seed, ..settings }, &[4, 4]);
        compare("threads", expected, answers);
    }
}
