//! Visible units of several laws on CUDA: with canonical sums the CPU's bits, with cuBLAS's up to rounding. Runs where
//! `tests/cuda.rs` does.
#![cfg(feature = "cuda")]

mod oracle;

use harmonium::{
    Activations, Algorithm, BatchMeans, ChainState, Chains, Cpu, Cuda, Dataset, Descent, Device, Error, Gradient,
    Monitor, Program, Purpose, Rbm, Result, Rows, Segment, Segments, Settings, Shape, Trainer, Uniforms, Values,
    descent::{Centring, Sparsity},
    log_partition::{Annealing, BaseRate, Schedule, Start, ais, bracket},
};
use oracle::{
    device::{cuda, cuda_gemm},
    faults::{Fault, catches},
    generator, random_rbm, random_values, rows,
    statistics::assert_near,
    symmetric, uniform,
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

/// What a test asks of either device, in numbers that are exact.
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

/// Where answers differ first.
fn difference(expected: &Answers, found: &Answers) -> Option<String> {
    assert_eq!(expected.0.len(), found.0.len());
    expected.0.iter().zip(&found.0).find_map(|((name, expected), (_, found))| {
        assert!(expected.iter().all(|x| x.is_finite()), "{name}: {expected:?}");
        if expected.len() != found.len() {
            return Some(format!("{name}: {} numbers on the CPU, {} on CUDA", expected.len(), found.len()));
        }
        let differs = |(a, b): (&f64, &f64)| a.to_bits() != b.to_bits();
        let at = expected.iter().zip(found).position(differs)?;
        let n = expected.iter().zip(found).filter(|&pair| differs(pair)).count();
        let (cpu, cuda) = (expected[at], found[at]);
        Some(format!("{name}[{at}]: {cpu:e} on the CPU, {cuda:e} on CUDA; {n} of {} differ", found.len()))
    })
}

/// Asks the CPU and CUDA the same and compares; ends the test where there is no CUDA.
macro_rules! same {
    ($what:expr, $ask:ident($($argument:expr),*)) => {{
        let Some(cuda) = cuda() else { return };
        let cpu = Cpu::detect().expect("a CPU").into();
        let expected = $ask(&cpu, $($argument),*).expect("answers of the CPU");
        let found = $ask(&cuda.into(), $($argument),*).expect("answers of CUDA");
        if let Some(difference) = difference(&expected, &found) {
            panic!("{}: {difference}", $what);
        }
    }};
}

/// What chains at several inverse temperatures come to.
fn of_chains(device: &Device, rbm: &Rbm, n: usize, k: usize) -> Result<Answers> {
    let mut answers = Answers::default();
    let resident = rbm.on(device)?;
    // At β = 0 a Gaussian unit has no precision.
    let betas = (0..n).map(|m| [1.0, 0.5, 0.125][m % 3]).collect();
    let hidden = vec![0; n * rbm.shape().n_hidden().div_ceil(64)];
    let state = ChainState { hidden, betas, uniforms: draws(7) };
    let mut chains = Chains::from_state(device, rbm.shape(), &state)?;
    let mut visible = Activations::default();
    for _ in 0..2 {
        chains.sweep(&resident, k)?;
        chains.visible(&resident, &mut visible)?;
        answers.chains("sweep", &chains);
        answers.activations("visible", &visible);
    }
    // A copy stays where it is.
    let mut before = chains.clone();
    chains.sweep(&resident, 1)?;
    answers.chains("the copy", &before);
    before.visible(&resident, &mut visible)?;
    answers.activations("visible of the copy", &visible);
    before.sweep(&resident, 1)?;
    answers.chains("after the copy", &chains);
    answers.chains("the copy, moved", &before);
    Ok(answers)
}

#[test]
fn chains() {
    for (n, shape) in shapes() {
        let (chains, k) = ([1, 33, 2][n % 3], [1, 3, 2][n / 3 % 3]);
        same!(&format!("{shape}, {chains} chains, k = {k}"), of_chains(&model(shape, n as u64), chains, k));
    }
}

/// Either layer given the other.
fn of_conditionals(device: &Device, rbm: &Rbm, v: Rows<'_>, h: Rows<'_>) -> Result<Answers> {
    let mut answers = Answers::default();
    let resident = rbm.on(device)?;
    let (visible, hidden) = (device.load(v)?, device.load(h)?);
    let (v, h) = (visible.range(1..v.len()), hidden.range(1..h.len()));
    let (mut out, mut other, mut draws) = (Activations::default(), Activations::default(), draws(3));
    resident.propup(v, &mut out)?;
    answers.activations("propup", &out);
    resident.propdown(h, &mut out)?;
    answers.activations("propdown", &out);
    resident.sample_h_given_v(v, &mut draws, &mut out)?;
    answers.activations("h given v", &out);
    resident.sample_v_given_h(h, &mut draws, &mut out)?;
    answers.activations("v given h", &out);
    resident.gibbs_hvh(h, &mut draws, &mut other, &mut out)?;
    answers.activations("hvh", &out);
    resident.gibbs_vhv(v, &mut draws, &mut other, &mut out)?;
    answers.activations("vhv", &out);
    answers.double("position", &[draws.position() as f64]);
    answers.chains("from rows", &Chains::from_visible(&resident, v, draws)?);
    Ok(answers)
}

#[test]
fn conditionals() {
    for (n, shape) in shapes() {
        let r = [2, 3, 34][n % 3];
        let (v, h) = (states(shape.visible(), r, true, 1), random_values(r * shape.n_hidden(), 0.9, 2));
        let v = law_rows(&v, shape.visible());
        same!(
            &format!("{shape}, {r} rows"),
            of_conditionals(&model(shape, 20 + n as u64), v, rows(&h, shape.n_hidden()))
        );
    }
}

/// How likely rows are.
fn of_energies(device: &Device, rbm: &Rbm, v: Rows<'_>) -> Result<Answers> {
    let mut answers = Answers::default();
    let resident = rbm.on(device)?;
    let data = device.load(v)?;
    let batch = data.range(1..v.len());
    answers.double("free energy", &resident.free_energy(batch)?);
    let weights: Vec<f32> = (1..v.len()).map(|r| r as f32 / 3.0 - 1.0).collect();
    let mut gradient = Gradient::zero(rbm.shape());
    resident.free_energy_gradient(batch, &weights, &mut gradient)?;
    answers.gradient("gradient of F", &gradient);
    let visible = rbm.shape().visible();
    if visible.is_discrete() {
        answers.double("pseudo-likelihood", &resident.pseudo_log_likelihood(batch)?);
        for site in [0, visible.sites() / 2, visible.sites() - 1] {
            answers.double("of a site", &resident.pseudo_log_likelihood_of_bit(batch, site)?);
        }
    }
    Ok(answers)
}

#[test]
fn energies() {
    for (n, shape) in shapes() {
        let r = [34, 2, 3][n % 3];
        for grey in [false, true] {
            let v = states(shape.visible(), r, grey, 3);
            same!(
                &format!("{shape}, {r} rows"),
                of_energies(&model(shape, 50 + n as u64), law_rows(&v, shape.visible()))
            );
        }
    }
}

/// Weights beyond what products of exponentials take, in a binary unit beside Potts sites and in a site.
#[test]
fn large_weights() {
    let shape = shape("potts:7x3,binary:40,potts:2x5", 35);
    let (mut weights, visible_bias, hidden_bias) = model(shape, 3).into_parts();
    for i in [2, 25, 26] {
        weights[i * 35..][..35].iter_mut().step_by(4).for_each(|w| *w *= 90.0);
    }
    let rbm = Rbm::from_parts(shape, weights, visible_bias, hidden_bias).expect("a model");
    let v = states(shape.visible(), 9, false, 5);
    same!("large weights", of_energies(&rbm, law_rows(&v, shape.visible())));
}

/// Trains on either device and asks what became of it. `sizes`: the batches, one after the other.
fn train(device: &Device, rbm: &Rbm, data: Rows<'_>, settings: Settings, sizes: &[usize]) -> Result<Answers> {
    let mut answers = Answers::default();
    let mut rbm = rbm.clone();
    let data = device.load(data)?;
    let mut trainer = Trainer::new(device, rbm.shape(), settings)?;
    let mut lent = rbm.lend(device)?;
    let mut first = 0;
    for &size in sizes {
        trainer.step(&mut lent, data.range(first..first + size), 0.05)?;
        first += size;
    }
    let mut gradient = Gradient::zero(lent.shape());
    let mut means = BatchMeans::default();
    trainer.gradient_and_means(&lent, data.range(0..sizes[0]), &mut gradient, &mut means)?;
    lent.apply(&gradient, 0.05)?;
    trainer.step(&mut lent, data.range(0..sizes[0]), 0.05)?;
    let mut visible = Activations::default();
    // Both forms of the weights are the same: k steps of other chains read them.
    let mut chains = Chains::new(device, lent.shape(), 2, draws(5))?;
    chains.sweep(&lent, 3)?;
    chains.visible(&lent, &mut visible)?;
    lent.finish()?;
    let monitor = trainer.take_report()?.monitor;
    answers.double("monitor", monitor.as_slice());
    answers.gradient("gradient", &gradient);
    answers.single("mean of v", &means.visible);
    answers.single("mean of P(h|v)", &means.hidden);
    answers.rbm(&rbm);
    answers.chains("chains", trainer.chains());
    answers.activations("other chains", &visible);
    let state = trainer.state()?;
    if let Some(rule) = state.rule {
        answers.single("visible offset", &rule.visible_offset);
        answers.single("hidden offset", &rule.hidden_offset);
        answers.single("hidden mean", &rule.hidden_mean);
        if let Some(velocity) = rule.velocity {
            answers.gradient("velocity", &velocity);
        }
    }
    Ok(answers)
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

/// log Z, with the own terms of the base rate and of the model.
fn of_annealing(device: &Device, rbm: &Rbm, v: Rows<'_>, runs: usize) -> Result<Answers> {
    let mut answers = Answers::default();
    let (resident, base_rate) = (rbm.on(device)?, BaseRate::fit(v));
    let schedule = Schedule::new(7).expect("schedule");
    let settings = Annealing { runs, schedule, burn_in: 3, ..Annealing::default() };
    let found = ais(&resident, &base_rate, &settings)?;
    answers.double("log Z", &[found.estimate, found.effective_sample_size]);
    for start in [Start::Annealed, Start::Rows(v.into())] {
        let found = bracket(&resident, &base_rate, start, &settings)?;
        answers.double("bracket", &[found.estimate, found.effective_sample_size]);
    }
    Ok(answers)
}

#[test]
fn annealing() {
    for (n, shape) in shapes() {
        let (v, runs) = (states(shape.visible(), 10, false, 8), [2, 33, 5][n % 3]);
        let v = law_rows(&v, shape.visible());
        same!(&format!("{shape}, {runs} runs"), of_annealing(&model(shape, 200 + n as u64), v, runs));
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

/// What the models of these tests say, in short.
fn answers(device: &Device) -> Result<Answers> {
    let mut all = Answers::default();
    for (visible, n_hidden) in
        ["potts:40x3,binary:9", "gaussian:3,potts:2x3,binary:35,potts:2x4"].into_iter().zip([20, 33])
    {
        let shape = shape(visible, n_hidden);
        let (rbm, v) = (model(shape, 7), states(shape.visible(), 9, true, 8));
        let (v, h) = (law_rows(&v, shape.visible()), random_values(5 * n_hidden, 0.9, 2));
        all.0.extend(of_chains(device, &rbm, 3, 2)?.0);
        all.0.extend(of_conditionals(device, &rbm, v, rows(&h, n_hidden))?.0);
        all.0.extend(of_energies(device, &rbm, v)?.0);
        all.0.extend(of_annealing(device, &rbm, v, 4)?.0);
        let descent = Descent { centring: Some(Centring { rate: 0.3 }), momentum: 0.5, ..Descent::default() };
        for (n, monitor) in monitors(shape).into_iter().enumerate() {
            let descent = if n == 1 { descent } else { Descent::default() };
            let settings = Settings { k: 1, monitor, seed: 3, descent, ..Settings::default() };
            all.0.extend(train(device, &rbm, v, settings, &[3, 3, 3])?.0);
        }
    }
    Ok(all)
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "the number of another site",
        from: "output(state_behind(state, unit))",
        to: "output(state_behind(state, site))",
        found: "on the CPU",
    },
    Fault {
        name: "weights that count from 0",
        from: "exp_of(__fadd_rn(a, -greatest))",
        to: "exp_of(a)",
        found: "on the CPU",
    },
    Fault {
        name: "a draw that keeps the last state out",
        from: "chosen += through <= target ? 1 : 0;",
        to: "chosen = through <= target ? s : chosen;",
        found: "on the CPU",
    },
    Fault { name: "half a normal number", from: "upper ? z : -z", to: "z", found: "on the CPU" },
    Fault {
        name: "a variance that knows no temperature",
        from: "precision_at(own, other, beta), upper",
        to: "own, upper",
        found: "on the CPU",
    },
    Fault {
        name: "chains without precisions",
        from: "__fmul_rn(laws.precision_of(unit + s), x)",
        to: "x",
        found: "on the CPU",
    },
    Fault {
        name: "rows without precisions",
        from: "__fmul_rn(precision[at.unit], rows.value(at.first_row, at.unit))",
        to: "rows.value(at.first_row, at.unit)",
        found: "on the CPU",
    },
    Fault {
        name: "lanes the other way round",
        from: "__shfl_sync(FULL_WARP, term, lane))",
        to: "__shfl_sync(FULL_WARP, term, 31 - lane))",
        found: "on the CPU",
    },
    Fault {
        name: "free energies without own terms",
        from: "__dadd_rn(-all, out[row])",
        to: "out[row]",
        found: "on the CPU",
    },
    Fault {
        name: "a gradient of variances without own terms",
        from: "__dadd_rn(__dmul_rn(-0.5, __dmul_rn(s, squares)), -product)",
        to: "-product",
        found: "on the CPU",
    },
    Fault {
        name: "a state that is not taken out",
        from: "if (potts) a = __fadd_rn(a, -own[j]);",
        to: "",
        found: "on the CPU",
    },
    Fault {
        name: "logarithms of units and not of sites",
        from: "__dmul_rn((double)laws.sites, log(segment, site))",
        to: "__dmul_rn((double)units, log(segment, site))",
        found: "on the CPU",
    },
    Fault {
        name: "ends that are counted as bits",
        from: "NUMBERS ? of_ends : (float)on",
        to: "(float)on",
        found: "on the CPU",
    },
    Fault {
        name: "ends that are always on",
        from: "if (!visible) return ends.value(chain, i);",
        to: "if (!visible) return 1.0f;",
        found: "on the CPU",
    },
    Fault {
        name: "a base rate that is the model",
        from: "-minus_own_energy(law, x, down.reference[i], laws.reference_of(i))",
        to: "-minus_own_energy(law, x, down.reference[i], laws.precision_of(i))",
        found: "on the CPU",
    },
    Fault {
        name: "a variable too many",
        from: "if (at.unit >= laws.sites) return;\n    u32 site",
        to: "if (at.unit > laws.sites) return;\n    u32 site",
        found: "ILLEGAL_ADDRESS",
    },
];

#[test]
fn faults_in_the_kernels_are_caught() {
    catches("faults_in_the_kernels_are_caught", "86", FAULTS, &["1"], |program: Program<'_>| {
        let found = Cuda::with_program(0, program).and_then(|cuda| answers(&cuda.into()));
        let found = found.map_err(|error| error.to_string())?;
        let expected = answers(&Cpu::detect().expect("a CPU").into()).expect("answers");
        difference(&expected, &found).map_or(Ok(()), Err)
    });
}

/// The greatest size of some numbers.
fn greatest(values: impl IntoIterator<Item = f32>) -> f64 {
    values.into_iter().fold(0.0, |greatest, x| greatest.max(f64::from(x.abs())))
}

/// Half of the distance of neighbouring `f32` near 1: what a rounding adds.
const ROUNDING: f64 = 1.0 / 16_777_216.0;

/// cuBLAS's sums of real numbers: whatever its order, a sum of n products of factors within a and b is off by no more than n
/// roundings of numbers within n·a·b, on either side.
#[test]
fn products_give_the_same_up_to_rounding() {
    let (Some(cuda), Some(gemm)) = (cuda(), cuda_gemm()) else { return };
    for (n, shape) in shapes() {
        let (rbm, v) = (model(shape, 300 + n as u64), states(shape.visible(), 3, true, 1));
        let (view, h) = (rbm.view(), random_values(3 * shape.n_hidden(), 0.9, 2));
        let scale = view.visible_log_variance().iter().fold(1.0f64, |most, &log| most.max(f64::from(-log).exp()));
        let (x, w) = (scale * greatest(v.iter().copied()), greatest(view.weights().iter().copied()));
        let bound = |n: usize, x: f64| 2.0 * (n * n + 1) as f64 * (x * w + 1.0) * ROUNDING;
        let (up, down) = (bound(shape.n_visible(), x), bound(shape.n_hidden(), 1.0));
        let ask = |device: &Device| {
            let (resident, mut out) = (rbm.on(device).expect("on"), Activations::default());
            let mut all: Vec<(&str, f64, Vec<f64>)> = Vec::new();
            let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect();
            let (v, h) = (law_rows(&v, shape.visible()), rows(&h, shape.n_hidden()));
            resident.propup(v, &mut out).expect("propup");
            all.push(("up", up, wide(&out.pre_activation)));
            resident.propdown(h, &mut out).expect("propdown");
            all.push(("down", down, wide(&out.pre_activation)));
            // No mean moves by more than the pre-activations of its variable do, the elementary functions aside.
            all.push(("means", 2.0 * down + 8.0 * ROUNDING, wide(&out.mean)));
            let softplus = shape.n_hidden() as f64 * (up + 8.0 * (x * w * shape.n_visible() as f64 + 2.0) * ROUNDING);
            all.push(("free energy", softplus, resident.free_energy(v).expect("free energy")));
            if shape.visible().is_discrete() {
                // Two softplus terms a hidden unit for each state of each variable, the own and the others'.
                let sites = 4.0 * shape.visible().sites() as f64 * softplus + 8.0 * ROUNDING;
                all.push(("pseudo-likelihood", sites, resident.pseudo_log_likelihood(v).expect("pl")));
                all.push(("of a site", sites, resident.pseudo_log_likelihood_of_bit(v, 0).expect("pl of a site")));
            }
            let mut gradient = Gradient::zero(shape);
            resident.free_energy_gradient(v, &[0.5, -1.0, 2.0], &mut gradient).expect("gradient");
            let mean = up + 8.0 * ROUNDING;
            all.push(("weights", 3.5 * x * (mean + 6.0 * ROUNDING), wide(&gradient.weights)));
            let of_weights = shape.n_hidden() as f64 * w * 3.5 * x * (mean + 6.0 * ROUNDING);
            all.push(("log variance", of_weights + 3.5 * x * x * ROUNDING, wide(&gradient.visible_log_variance)));
            all
        };
        let [expected, found] = [cuda.clone(), gemm.clone()].map(|device| ask(&device.into()));
        for ((name, bound, expected), (_, _, found)) in expected.iter().zip(&found) {
            assert_near(found, expected, &vec![*bound; found.len()], &format!("{shape}: {name}"));
        }
    }
}

/// Updates and annealing by products. A draw may fall between two means that rounding sets apart, as `tests/cuda_gemm.rs`
/// reckons: one seed of five must agree.
#[test]
fn updates_and_annealing_by_products() {
    let (Some(cuda), Some(gemm)) = (cuda(), cuda_gemm()) else { return };
    for (n, shape) in shapes() {
        let rbm = model(shape, 400 + n as u64);
        let v = states(shape.visible(), 6, false, 4);
        let v = law_rows(&v, shape.visible());
        let ask = |device: &Device, seed: u64| -> Result<(Vec<u64>, Vec<f64>, f64, f64)> {
            let settings = Settings { k: 2, seed, monitor: Monitor::Reconstruction, ..Settings::default() };
            let (mut resident, mut trainer) = (rbm.on(device)?, Trainer::new(device, shape, settings)?);
            let (mut gradient, mut visible) = (Gradient::zero(shape), Activations::default());
            trainer.gradient(&resident, v, &mut gradient)?;
            trainer.chains().visible(&resident, &mut visible)?;
            let x = greatest(visible.sample.iter().copied());
            let hidden = trainer.chains().state()?.hidden;
            trainer.step(&mut resident, v, 0.125)?;
            let mut numbers = [gradient.weights, gradient.visible_bias, gradient.hidden_bias].concat();
            numbers.extend(resident.to_rbm()?.into_parts().0);
            let annealing = Annealing { runs: 2, schedule: Schedule::new(5)?, seed, ..Annealing::default() };
            let log_z = ais(&rbm.on(device)?, &BaseRate::fit(v), &annealing)?.estimate;
            Ok((hidden, numbers.into_iter().map(f64::from).collect(), x, log_z))
        };
        let agrees = |seed: u64| {
            let [(hidden, expected, x, log_z), (other, found, _, other_log_z)] =
                [cuda.clone(), gemm.clone()].map(|device| ask(&device.into(), seed).expect("answers"));
            // Numbers within s·x, whose sums over 6 rows and 20 chains differ by their roundings and by those of the means.
            let x = x.max(3.0) * 4.1;
            let mean = 2.0 * ((shape.n_visible().pow(2) + 9) as f64) * (x + 1.0) * ROUNDING;
            let bound = 2.0 * (x * mean + mean + 26.0 * x * ROUNDING);
            let log_bound = 6.0 * (shape.n_visible() + shape.n_hidden()) as f64 * x * x * mean;
            let near = expected.iter().zip(&found).all(|(a, b)| (a - b).abs() <= bound);
            hidden == other && near && (log_z - other_log_z).abs() <= log_bound.min(0.5)
        };
        assert!((1..=5).any(agrees), "{shape}: no seed of five agrees");
    }
}
