//! Visible units of several laws on CUDA: with canonical sums the CPU's bits, with cuBLAS's up to rounding. Runs where
//! `tests/cuda.rs` does.
#![cfg(feature = "cuda")]

mod oracle;

use harmonium::{
    Activations, Algorithm, BatchMeans, ChainState, Chains, Cpu, Dataset, Descent, Device, Error, Gradient, Monitor,
    Purpose, Rbm, Rows, Segment, Segments, Settings, Shape, Trainer, Uniforms, Values,
    descent::{Centring, Sparsity},
    log_partition::{Annealing, BaseRate, Schedule, Start, ais, bracket},
};
use oracle::{
    device::{cuda, cuda_gemm},
    generator, random_rbm, random_values, rows, symmetric, uniform,
};

/// Sites across words and warps; more states than lanes; laws in any order; more units than a block has threads, or than are
/// listed at a time.
const LAYERS: [(&str, usize); 9] = [
    ("potts:1x2", 1),
    ("potts:13x5", 33),
    ("potts:3x41", 70),
    ("potts:40x7,binary:9", 20),
    ("gaussian:1", 2),
    ("gaussian:33", 40),
    ("binary:70,potts:9x5,gaussian:21", 37),
    ("gaussian:3,potts:2x3,binary:5,potts:2x4,gaussian:2", 65),
    ("gaussian:300,potts:90x9,binary:40", 34),
];

fn shapes() -> impl Iterator<Item = (usize, Shape)> {
    LAYERS.into_iter().map(|(visible, n_hidden)| shape(visible, n_hidden)).enumerate()
}

fn shape(visible: &str, n_hidden: usize) -> Shape {
    Shape::with_visible(visible.parse().expect("segments"), n_hidden).expect("a shape")
}

/// A model, the standard deviations of whose Gaussian units are from 0.5 to 2.
fn model(shape: Shape, seed: u64) -> Rbm {
    let rbm = random_rbm(shape, 2.0 / (shape.n_visible().max(4) as f64).sqrt(), seed);
    if shape.visible().is_discrete() {
        return rbm;
    }
    let mut numbers = generator(seed + 1);
    let mut log_variance = vec![0.0; shape.n_visible()];
    for (segment, units) in shape.visible().iter() {
        if let Segment::Gaussian(_) = segment {
            log_variance[units].iter_mut().for_each(|log| *log = symmetric(&mut numbers, 1.4));
        }
    }
    rbm.with_visible_log_variance(log_variance).expect("variances")
}

/// Rows that the laws allow: binary units are grey where `grey`, a Gaussian unit is sometimes 0.
fn states(segments: Segments, rows: usize, grey: bool, seed: u64) -> Vec<f32> {
    let mut numbers = generator(seed);
    let mut all = vec![0.0; rows * segments.units()];
    for row in all.chunks_exact_mut(segments.units()) {
        for (segment, units) in segments.iter() {
            match segment {
                Segment::Binary(_) => row[units].iter_mut().for_each(|x| {
                    let u = uniform(&mut numbers);
                    *x = if grey && u < 0.7 { u as f32 } else { f32::from(u < 0.4) };
                }),
                Segment::Potts { states, .. } => row[units].chunks_exact_mut(states as usize).for_each(|site| {
                    site[(uniform(&mut numbers) * f64::from(states)) as usize] = 1.0;
                }),
                Segment::Gaussian(_) => row[units].iter_mut().for_each(|x| {
                    *x = if uniform(&mut numbers) < 0.1 { 0.0 } else { symmetric(&mut numbers, 3.0) };
                }),
            }
        }
    }
    all
}

fn law_rows(values: &[f32], segments: Segments) -> Rows<'_> {
    Rows::with_segments(Values::F32(values), segments).expect("rows")
}

fn draws(seed: u64) -> Uniforms {
    let mut draws = Uniforms::new(seed, Purpose::Sampling);
    draws.skip(seed * 1000);
    draws
}

/// What a test asks of either device. Bits are compared as bits, sums of cuBLAS as numbers.
#[derive(Clone, Default)]
struct Answers(Vec<(String, Vec<f64>)>);

impl Answers {
    fn single(&mut self, what: &str, values: &[f32]) {
        self.0.push((what.to_owned(), values.iter().map(|&x| f64::from(x)).collect()));
    }

    fn double(&mut self, what: &str, values: &[f64]) {
        self.0.push((what.to_owned(), values.to_vec()));
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
        self.single(&format!("{what}: log variance"), &of.visible_log_variance);
    }

    fn chains(&mut self, what: &str, of: &Chains) {
        let ChainState { hidden, betas, uniforms } = of.state().expect("state");
        let halves = hidden.iter().flat_map(|word| [(word >> 32) as f64, (word & 0xffff_ffff) as f64]);
        self.double(&format!("{what}: hidden"), &halves.collect::<Vec<_>>());
        self.single(&format!("{what}: betas"), &betas);
        self.double(&format!("{what}: position"), &[uniforms.position() as f64]);
    }

    fn rbm(&mut self, of: &Rbm) {
        self.single("weights", of.view().weights());
        self.single("visible bias", of.view().visible_bias());
        self.single("hidden bias", of.view().hidden_bias());
        self.single("log variance", of.view().visible_log_variance());
    }
}

#[track_caller]
fn compare(what: &str, expected: &Answers, found: &Answers) {
    assert_eq!(expected.0.len(), found.0.len());
    for ((name, expected), (_, found)) in expected.0.iter().zip(&found.0) {
        assert_eq!(expected.len(), found.len(), "{what}: {name}: length");
        assert!(expected.iter().all(|x| x.is_finite()), "{what}: {name}: {expected:?}");
        let differs = |(a, b): (&f64, &f64)| a.to_bits() != b.to_bits();
        if let Some(at) = expected.iter().zip(found).position(differs) {
            let n = expected.iter().zip(found).filter(|&pair| differs(pair)).count();
            let (cpu, cuda) = (expected[at], found[at]);
            panic!("{what}: {name}[{at}]: {cpu:e} on the CPU, {cuda:e} on CUDA; {n} of {} differ", found.len());
        }
    }
}

/// Asks the CPU and CUDA the same and compares; ends the test where there is no CUDA.
macro_rules! same {
    ($what:expr, $ask:ident($($argument:expr),*)) => {{
        let Some(cuda) = cuda() else { return };
        let cpu = Cpu::detect().expect("a CPU").into();
        compare($what, &$ask(&cpu, $($argument),*), &$ask(&cuda.into(), $($argument),*));
    }};
}

#[test]
fn chains() {
    fn ask(device: &Device, rbm: &Rbm, n: usize, k: usize) -> Answers {
        let mut answers = Answers::default();
        let resident = rbm.on(device).expect("on");
        // At β = 0 a Gaussian unit has no precision.
        let betas = (0..n).map(|m| [1.0, 0.5, 0.125][m % 3]).collect();
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
        // A copy stays where it is.
        let mut before = chains.clone();
        chains.sweep(&resident, 1).expect("sweep");
        answers.chains("the copy", &before);
        before.visible(&resident, &mut visible).expect("visible");
        answers.activations("visible of the copy", &visible);
        before.sweep(&resident, 1).expect("sweep");
        answers.chains("after the copy", &chains);
        answers.chains("the copy, moved", &before);
        answers
    }
    for (n, shape) in shapes() {
        let (chains, k) = ([1, 33, 2][n % 3], [1, 3, 2][n / 3 % 3]);
        same!(&format!("{shape}, {chains} chains, k = {k}"), ask(&model(shape, n as u64), chains, k));
    }
}

#[test]
fn conditionals() {
    fn ask(device: &Device, rbm: &Rbm, v: Rows<'_>, h: Rows<'_>) -> Answers {
        let mut answers = Answers::default();
        let resident = rbm.on(device).expect("on");
        let (visible, hidden) = (device.load(v).expect("load"), device.load(h).expect("load"));
        let (v, h) = (visible.range(1..v.len()), hidden.range(1..h.len()));
        let (mut out, mut other, mut draws) = (Activations::default(), Activations::default(), draws(3));
        resident.propup(v, &mut out).expect("propup");
        answers.activations("propup", &out);
        resident.propdown(h, &mut out).expect("propdown");
        answers.activations("propdown", &out);
        resident.sample_h_given_v(v, &mut draws, &mut out).expect("sample");
        answers.activations("h given v", &out);
        resident.sample_v_given_h(h, &mut draws, &mut out).expect("sample");
        answers.activations("v given h", &out);
        resident.gibbs_hvh(h, &mut draws, &mut other, &mut out).expect("gibbs");
        answers.activations("hvh", &out);
        resident.gibbs_vhv(v, &mut draws, &mut other, &mut out).expect("gibbs");
        answers.activations("vhv", &out);
        answers.double("position", &[draws.position() as f64]);
        answers.chains("from rows", &Chains::from_visible(&resident, v, draws).expect("chains"));
        answers
    }
    for (n, shape) in shapes() {
        let r = [2, 3, 34][n % 3];
        let (v, h) = (states(shape.visible(), r, true, 1), random_values(r * shape.n_hidden(), 0.9, 2));
        let v = law_rows(&v, shape.visible());
        same!(&format!("{shape}, {r} rows"), ask(&model(shape, 20 + n as u64), v, rows(&h, shape.n_hidden())));
    }
}

#[test]
fn energies() {
    fn ask(device: &Device, rbm: &Rbm, v: Rows<'_>) -> Answers {
        let mut answers = Answers::default();
        let resident = rbm.on(device).expect("on");
        let data = device.load(v).expect("load");
        let batch = data.range(1..v.len());
        answers.double("free energy", &resident.free_energy(batch).expect("free energy"));
        let weights: Vec<f32> = (1..v.len()).map(|r| r as f32 / 3.0 - 1.0).collect();
        let mut gradient = Gradient::zero(rbm.shape());
        resident.free_energy_gradient(batch, &weights, &mut gradient).expect("gradient");
        answers.gradient("gradient of F", &gradient);
        let visible = rbm.shape().visible();
        if visible.is_discrete() {
            answers.double("pseudo-likelihood", &resident.pseudo_log_likelihood(batch).expect("pl"));
            for site in [0, visible.sites() / 2, visible.sites() - 1] {
                answers.double("of a site", &resident.pseudo_log_likelihood_of_bit(batch, site).expect("pl of a site"));
            }
        }
        answers
    }
    for (n, shape) in shapes() {
        let r = [34, 2, 3][n % 3];
        for grey in [false, true] {
            let v = states(shape.visible(), r, grey, 3);
            same!(&format!("{shape}, {r} rows"), ask(&model(shape, 50 + n as u64), law_rows(&v, shape.visible())));
        }
    }
}

/// Weights beyond what products of exponentials take, in a binary unit beside Potts sites and in a site.
#[test]
fn large_weights() {
    fn ask(device: &Device, rbm: &Rbm, v: Rows<'_>) -> Answers {
        let mut answers = Answers::default();
        let resident = rbm.on(device).expect("on");
        answers.double("pseudo-likelihood", &resident.pseudo_log_likelihood(v).expect("pl"));
        answers
    }
    let shape = shape("potts:7x3,binary:40,potts:2x5", 35);
    let (mut weights, visible_bias, hidden_bias) = model(shape, 3).into_parts();
    for i in [2, 25, 26] {
        weights[i * 35..][..35].iter_mut().step_by(4).for_each(|w| *w *= 90.0);
    }
    let rbm = Rbm::from_parts(shape, weights, visible_bias, hidden_bias).expect("a model");
    let v = states(shape.visible(), 9, false, 5);
    same!("large weights", ask(&rbm, law_rows(&v, shape.visible())));
}

/// Trains on either device and asks what became of it. `sizes`: the batches, one after the other.
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
    let mut gradient = Gradient::zero(lent.shape());
    let mut means = BatchMeans::default();
    trainer.gradient_and_means(&lent, data.range(0..sizes[0]), &mut gradient, &mut means).expect("gradient");
    lent.apply(&gradient, 0.05).expect("apply");
    trainer.step(&mut lent, data.range(0..sizes[0]), 0.05).expect("step");
    let mut visible = Activations::default();
    // Both forms of the weights are the same: k steps of other chains read them.
    let mut chains = Chains::new(device, lent.shape(), 2, draws(5)).expect("chains");
    chains.sweep(&lent, 3).expect("a sweep");
    chains.visible(&lent, &mut visible).expect("visible");
    lent.finish().expect("finish");
    let monitor = trainer.take_report().expect("report").monitor;
    answers.double("monitor", monitor.as_slice());
    answers.gradient("gradient", &gradient);
    answers.single("mean of v", &means.visible);
    answers.single("mean of P(h|v)", &means.hidden);
    answers.rbm(&rbm);
    answers.chains("chains", trainer.chains());
    answers.activations("other chains", &visible);
    let state = trainer.state().expect("a state");
    if let Some(rule) = state.rule {
        answers.single("visible offset", &rule.visible_offset);
        answers.single("hidden offset", &rule.hidden_offset);
        answers.single("hidden mean", &rule.hidden_mean);
        if let Some(velocity) = rule.velocity {
            answers.gradient("velocity", &velocity);
        }
    }
    answers
}

/// Every monitor that a model has.
fn monitors(shape: Shape) -> Vec<Monitor> {
    match shape.visible().is_discrete() {
        true => {
            vec![Monitor::PseudoLikelihood, Monitor::Reconstruction, Monitor::ExactPseudoLikelihood, Monitor::None]
        }
        false => vec![Monitor::Reconstruction, Monitor::None],
    }
}

#[test]
fn updates() {
    for (n, shape) in shapes() {
        for (m, monitor) in monitors(shape).into_iter().enumerate() {
            for (a, algorithm) in [Algorithm::Cd, Algorithm::Pcd { n_chains: [33, 3][n % 2] }].into_iter().enumerate() {
                let k = if shape.n_visible() > 300 { 1 } else { 1 + n % 3 };
                let settings = Settings { algorithm, k, monitor, seed: n as u64, ..Settings::default() };
                // The same size again, so that a graph is replayed; then another one.
                let sizes = [[2, 2, 2, 33], [5, 5, 1, 1], [1, 1, 2, 2]][(n + m + a) % 3];
                let v = states(shape.visible(), sizes.iter().sum(), m % 2 == 0, 4);
                let v = law_rows(&v, shape.visible());
                same!(&format!("{shape}, {settings:?}"), train(&model(shape, 100 + n as u64), v, settings, &sizes));
            }
        }
    }
}

#[test]
fn updates_by_rules() {
    let plain = Descent::default();
    let centring = Some(Centring { rate: 0.3 });
    let sparsity = Some(Sparsity { target: 0.1, cost: 0.7, rate: 0.2 });
    let rules = [
        Descent { centring, ..plain },
        Descent { momentum: 0.8, l2: 0.05, l1: 0.02, ..plain },
        Descent { centring, momentum: 0.6, l2: 0.1, l1: 0.01, sparsity },
    ];
    for (n, shape) in shapes() {
        for (r, descent) in rules.into_iter().enumerate() {
            let algorithm = [Algorithm::Cd, Algorithm::Pcd { n_chains: 13 }][(n + r) % 2];
            let settings = Settings { algorithm, k: 1, monitor: Monitor::Reconstruction, seed: 4, descent };
            let sizes = [[5, 5, 3, 1], [1, 1, 33, 4]][n % 2];
            let v = states(shape.visible(), sizes.iter().sum(), r == 1, 20 + n as u64);
            let v = law_rows(&v, shape.visible());
            same!(&format!("{shape}, {settings:?}"), train(&model(shape, 10 + n as u64), v, settings, &sizes));
        }
    }
}

/// Bytes stand for x/255, of which 0 and 255 are states of a site.
#[test]
fn bytes() {
    let shape = shape("binary:40,potts:11x3", 20);
    let bytes: Vec<u8> = states(shape.visible(), 12, true, 8).iter().map(|x| (x * 255.0) as u8).collect();
    let data = Rows::with_segments(Values::U8(&bytes), shape.visible()).expect("rows");
    let settings = Settings { k: 2, monitor: Monitor::ExactPseudoLikelihood, seed: 5, ..Settings::default() };
    same!("bytes", train(&model(shape, 9), data, settings, &[4, 4, 4]));
}

#[test]
fn annealing() {
    fn ask(device: &Device, rbm: &Rbm, v: Rows<'_>, runs: usize) -> Answers {
        let mut answers = Answers::default();
        let (resident, base_rate) = (rbm.on(device).expect("on"), BaseRate::fit(v));
        let schedule = Schedule::new(7).expect("schedule");
        let settings = Annealing { runs, schedule, burn_in: 3, ..Annealing::default() };
        let found = ais(&resident, &base_rate, &settings).expect("ais");
        answers.double("log Z", &[found.estimate, found.effective_sample_size]);
        for start in [Start::Annealed, Start::Rows(v.into())] {
            let found = bracket(&resident, &base_rate, start, &settings).expect("a bracket");
            answers.double("bracket", &[found.estimate, found.effective_sample_size]);
        }
        answers
    }
    for (n, shape) in shapes() {
        let (v, runs) = (states(shape.visible(), 10, false, 8), [2, 33, 5][n % 3]);
        let v = law_rows(&v, shape.visible());
        same!(&format!("{shape}, {runs} runs"), ask(&model(shape, 200 + n as u64), v, runs));
    }
}

/// Rows that were loaded as something else cannot be checked on the device; the host's own are.
#[test]
fn rows_of_other_laws_are_refused() {
    let Some(cuda) = cuda() else { return };
    let shape = shape("binary:4,potts:2x3", 5);
    let resident = model(shape, 1).on(&cuda).expect("on");
    let right = states(shape.visible(), 3, false, 2);
    let unknown = rows(&right, shape.n_visible());
    let loaded = cuda.load(unknown).expect("data");
    let problem = resident.free_energy(loaded.all()).expect_err("rows of binary units");
    assert!(matches!(problem, Error::Argument { what: "batch", .. }), "{problem}");
    assert!(problem.to_string().contains("binary:4,potts:2x3"), "{problem}");
    let known = cuda.load(law_rows(&right, shape.visible())).expect("data");
    let expected = resident.free_energy(known.range(1..3)).expect("free energies");
    let found = resident.free_energy(unknown.range(1..3)).expect("free energies");
    assert_eq!(expected, found);
    let data = Dataset::from_f32(vec![1.0; 10], 10).expect("rows");
    let problem = resident.free_energy(&data).expect_err("two states of a site at once");
    assert!(matches!(problem, Error::Law { .. }), "{problem}");
}

/// cuBLAS's sums: draws come from the same numbers, so that almost all states are the same, and means differ by rounding.
#[test]
fn sums_of_products() {
    let (Some(cuda), Some(gemm)) = (cuda(), cuda_gemm()) else { return };
    let [cuda, gemm] = [Device::from(cuda), Device::from(gemm)];
    for (n, shape) in shapes() {
        let rbm = model(shape, 300 + n as u64);
        let (v, h) = (states(shape.visible(), 3, true, 1), random_values(3 * shape.n_hidden(), 0.9, 2));
        let ask = |device: &Device| {
            let mut answers = Answers::default();
            let (resident, mut out) = (rbm.on(device).expect("on"), Activations::default());
            let (v, h) = (law_rows(&v, shape.visible()), rows(&h, shape.n_hidden()));
            for (name, given) in [("up", true), ("down", false)] {
                match given {
                    true => resident.propup(v, &mut out).expect("propup"),
                    false => resident.propdown(h, &mut out).expect("propdown"),
                }
                answers.single(&format!("{name}: pre-activation"), &out.pre_activation);
                answers.single(&format!("{name}: mean"), &out.mean);
            }
            answers.double("free energy", &resident.free_energy(v).expect("free energy"));
            let mut gradient = Gradient::zero(shape);
            resident.free_energy_gradient(v, &[0.5, -1.0, 2.0], &mut gradient).expect("gradient");
            answers.gradient("gradient of F", &gradient);
            if shape.visible().is_discrete() {
                answers.double("pseudo-likelihood", &resident.pseudo_log_likelihood(v).expect("pl"));
                answers.double("of a site", &resident.pseudo_log_likelihood_of_bit(v, 0).expect("pl of a site"));
            }
            answers
        };
        for ((name, expected), (_, found)) in ask(&cuda).0.iter().zip(&ask(&gemm).0) {
            // Sums of at most 1200 products of numbers within ±12 and ±1: each rounding is half of 2^-24 of a partial sum.
            let greatest = expected.iter().fold(1.0f64, |greatest, x| greatest.max(x.abs()));
            let bound = 1200.0 * 2f64.powi(-24) * greatest.max(12.0) * shape.n_hidden() as f64;
            for (a, b) in expected.iter().zip(found) {
                assert!((a - b).abs() <= bound, "{shape}: {name}: {a} and {b}, bound {bound}");
            }
        }
        // Updates, chains and annealing run by products too.
        let data = states(shape.visible(), 12, false, 4);
        let data = law_rows(&data, shape.visible());
        for descent in [Descent::default(), Descent { centring: Some(Centring { rate: 0.3 }), ..Descent::default() }] {
            let settings = Settings { k: 1, monitor: Monitor::Reconstruction, seed: 3, descent, ..Settings::default() };
            let [expected, found] = [&cuda, &gemm].map(|device| train(device, &rbm, data, settings, &[4, 4, 4]));
            let of = |answers: &Answers| answers.0.iter().find(|(name, _)| name == "monitor").expect("a monitor").1[0];
            assert!(
                (of(&expected) - of(&found)).abs() < 0.1 * of(&expected).abs(),
                "{shape}: {} {}",
                of(&expected),
                of(&found)
            );
        }
    }
}
