//! Rules of descent on CUDA: with canonical sums the CPU's bits, with cuBLAS's up to rounding. Runs where `tests/cuda.rs` does.
#![cfg(feature = "cuda")]

mod oracle;

use harmonium::{
    Algorithm, Average, Chains, Cpu, Cuda, Dataset, Descent, Device, Error, Monitor, Program, Purpose, Rbm, Result,
    Settings, Shape, Trainer, TrainerState, Uniforms,
    descent::{Centring, Sparsity},
};
use oracle::{
    device::{cuda, cuda_gemm},
    faults::{Fault, catches},
    random_bytes, random_rbm, random_values, rows, shape,
    statistics::assert_near,
};

const LR: f32 = 0.05;

/// Every rule alone, some of them together, and all.
fn rules() -> Vec<Descent> {
    let plain = Descent::default();
    let centring = Some(Centring { rate: 0.3 });
    let sparsity = Some(Sparsity { target: 0.1, cost: 0.7, rate: 0.2 });
    vec![
        Descent { centring, ..plain },
        Descent { momentum: 0.8, ..plain },
        Descent { l2: 0.05, ..plain },
        Descent { l1: 0.02, ..plain },
        Descent { sparsity, ..plain },
        Descent { centring, momentum: 0.5, ..plain },
        Descent { centring, sparsity, l2: 0.01, ..plain },
        Descent { centring, momentum: 0.6, l2: 0.1, l1: 0.01, sparsity },
    ]
}

/// Grey or binary rows with a given share of values that are not 0. Some units are always off, some always on.
fn data(shape: Shape, rows: usize, grey: bool, share: f64, seed: u64) -> Dataset {
    let units = shape.n_visible();
    let mut bytes = random_bytes(rows * units, share, seed);
    for (n, x) in bytes.iter_mut().enumerate() {
        match n % units {
            i if i % 7 == 3 => *x = 0,
            i if i % 11 == 5 => *x = 255,
            _ if !grey && *x > 0 => *x = 255,
            _ => {}
        }
    }
    Dataset::from_u8(bytes, units).expect("rows")
}

/// A model with some weights that are 0 of either sign, and some so small that decay would set them to 0. Some of its visible
/// units are always off, as in the data.
fn model(shape: Shape, seed: u64) -> Rbm {
    let range = 2.0 / (shape.n_visible().max(4) as f64).sqrt();
    let (mut weights, mut visible_bias, hidden_bias) = random_rbm(shape, range, seed).into_parts();
    for (n, weight) in weights.iter_mut().enumerate() {
        *weight = match n % 19 {
            4 => -0.0,
            9 => 0.0,
            13 => 1e-35,
            17 => -1e-35,
            _ => *weight,
        };
    }
    visible_bias.iter_mut().skip(3).step_by(7).for_each(|bias| *bias = -50.0);
    Rbm::from_parts(shape, weights, visible_bias, hidden_bias).expect("a model")
}

/// A trainer with offsets other than the initial ones. Some offsets of visible units are so small that they count as 0.
fn with_offsets(device: &Device, shape: Shape, settings: Settings) -> Trainer {
    let new = Trainer::new(device, shape, settings).expect("a trainer");
    let mut state = new.state().expect("a state");
    if let Some(rule) = state.rule.as_mut().filter(|_| settings.descent.centring.is_some()) {
        for (i, offset) in rule.visible_offset.iter_mut().enumerate() {
            *offset = [0.3, 0.0009, 0.0011, 0.0, 0.7][i % 5];
        }
        for (j, offset) in rule.hidden_offset.iter_mut().enumerate() {
            *offset = [0.2, 0.9, 0.05][j % 3];
        }
    }
    Trainer::from_state(device, shape, settings, &state).expect("a trainer")
}

fn settings(algorithm: Algorithm, k: usize, descent: Descent) -> Settings {
    Settings { algorithm, k, monitor: Monitor::None, seed: 4, descent, ..Settings::default() }
}

/// All `f32` numbers of a model and of a trainer's state, each list with its name.
fn numbers(rbm: &Rbm, state: &TrainerState) -> Vec<(&'static str, Vec<f32>)> {
    let (view, mut all) = (rbm.view(), Vec::new());
    all.extend([
        ("weights", view.weights()),
        ("visible bias", view.visible_bias()),
        ("hidden bias", view.hidden_bias()),
    ]);
    let rule = state.rule.as_ref().expect("a rule");
    all.extend([("visible offset", &rule.visible_offset[..]), ("hidden offset", &rule.hidden_offset)]);
    all.push(("hidden mean", &rule.hidden_mean));
    if let Some(velocity) = &rule.velocity {
        all.extend([("velocity of weights", &velocity.weights[..]), ("velocity of b", &velocity.visible_bias)]);
        all.push(("velocity of c", &velocity.hidden_bias));
    }
    all.into_iter().map(|(name, values)| (name, values.to_vec())).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[track_caller]
fn compare(what: &str, (cpu, of_cpu): (&Rbm, &TrainerState), (cuda, of_cuda): (&Rbm, &TrainerState)) {
    let (expected, found) = (numbers(cpu, of_cpu), numbers(cuda, of_cuda));
    assert_eq!(expected.len(), found.len(), "{what}");
    for ((name, expected), (_, found)) in expected.iter().zip(&found) {
        assert_eq!(expected.len(), found.len(), "{what}: {name}");
        let differs = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
        if let Some(at) = expected.iter().zip(found).position(differs) {
            let n = expected.iter().zip(found).filter(|&pair| differs(pair)).count();
            let (a, b) = (expected[at], found[at]);
            panic!("{what}: {name}[{at}]: {a:e} on the CPU, {b:e} on CUDA; {n} of {} differ", found.len());
        }
    }
    assert_eq!(of_cpu.chains, of_cuda.chains, "{what}: chains");
}

/// A model and a trainer's state after updates with batches of these sizes.
fn train(device: &Device, rbm: &Rbm, data: &Dataset, settings: Settings, sizes: &[usize]) -> (Rbm, TrainerState) {
    let mut resident = rbm.on(device).expect("resident");
    let mut trainer = with_offsets(device, rbm.shape(), settings);
    let loaded = device.load(data.rows()).expect("data");
    let mut first = 0;
    for &size in sizes {
        trainer.step(&mut resident, loaded.range(first..first + size), LR).expect("a step");
        first += size;
    }
    // Both copies of the weights are the same: k steps of other chains read both.
    let mut chains = Chains::new(device, rbm.shape(), 2, Uniforms::new(7, Purpose::Sampling)).expect("chains");
    chains.sweep(&resident, 3).expect("a sweep");
    let mut state = trainer.state().expect("a state");
    state.chains.hidden.extend(chains.state().expect("a state").hidden);
    (resident.to_rbm().expect("an rbm"), state)
}

/// Rules, algorithms, grey rows and bits, sparse rows and full ones, odd shapes, short batches.
#[test]
fn updates_by_rules_are_the_cpus() {
    let Some(cuda) = cuda().map(Device::from) else { return };
    let cpu = Device::from(Cpu::detect().expect("a CPU"));
    let shapes = [shape(1, 1), shape(23, 9), shape(33, 31), shape(9, 130), shape(130, 70), shape(257, 33)];
    for (n, shape) in shapes.into_iter().enumerate() {
        for (r, descent) in rules().into_iter().enumerate() {
            // The same size again, so that a graph is replayed; then fewer rows, and more than a warp processes at once.
            let sizes = [[5, 5, 3, 1], [3, 3, 2, 40], [1, 1, 33, 4]][(n + r) % 3];
            let (grey, share) = ((n + r) % 2 == 0, [0.2, 0.95][r / 2 % 2]);
            let data = data(shape, sizes.iter().sum(), grey, share, 20 + n as u64);
            for algorithm in [Algorithm::Cd, Algorithm::Pcd { n_chains: [13, 37, 2][n % 3] }] {
                let settings = settings(algorithm, 1 + r % 2, descent);
                let rbm = model(shape, 10 + n as u64);
                let [expected, found] = [&cpu, &cuda].map(|device| train(device, &rbm, &data, settings, &sizes));
                let what = format!("{shape}, {algorithm:?}, {sizes:?}, grey {grey}, {share}, {descent:?}");
                compare(&what, (&expected.0, &expected.1), (&found.0, &found.1));
            }
        }
    }
}

/// One update of a model whose weights are 0 and whose b is very negative, so that hidden means are ½ and all chains end with their
/// visible units off. Returns the velocities of b and of c.
fn velocities(device: &Device, row: &[f32], offsets: (&[f32], &[f32]), mean: f32) -> Result<(Vec<f32>, Vec<f32>)> {
    let shape = shape(row.len(), offsets.1.len());
    let sparsity = Some(Sparsity { target: 0.25, cost: 1.0, rate: 0.1 });
    let descent = Descent { centring: Some(Centring::default()), momentum: 0.5, sparsity, ..Descent::default() };
    let settings = settings(Algorithm::Cd, 1, descent);
    let mut state = Trainer::new(device, shape, settings)?.state()?;
    if let Some(rule) = &mut state.rule {
        rule.visible_offset.copy_from_slice(offsets.0);
        rule.hidden_offset.copy_from_slice(offsets.1);
        rule.hidden_mean.fill(mean);
    }
    let (nv, nh) = (shape.n_visible(), shape.n_hidden());
    let mut resident = Rbm::from_parts(shape, vec![0.0; nv * nh], vec![-50.0; nv], vec![0.0; nh])?.on(device)?;
    let mut trainer = Trainer::from_state(device, shape, settings, &state)?;
    trainer.step(&mut resident, rows(row, nv), LR)?;
    let velocity = trainer.state()?.rule.and_then(|rule| rule.velocity).expect("a velocity");
    Ok((velocity.visible_bias, velocity.hidden_bias))
}

/// Velocities lr·d·P̂ and lr·a·v of a single row, with d and a near 0. The rounding error of their sums remains, which reveals the
/// order of the additions.
fn cancelled(device: &Device) -> Result<Vec<f32>> {
    // Of many magnitudes, so that every addition rounds.
    let numbers = |seed| random_values(400, 1.0, seed).into_iter().map(|x| x.powi(4)).collect::<Vec<_>>();
    // d = 1 - Σ (v - mu)·mu. The unit before the last brings it near 0, and the last one, being small, nearer.
    let (mut row, mut offsets) = (Vec::new(), numbers(3));
    offsets.iter_mut().for_each(|mu| *mu = mu.max(0.002));
    let mut sum = 0.0;
    for &mu in &offsets {
        row.push(if sum < 0.9 { (1.1 * mu).min(1.0) } else { mu });
        sum += f64::from(row[row.len() - 1] - mu) * f64::from(mu);
    }
    offsets.extend([0.5, 0.25]);
    row.extend([0.0, 0.0]);
    let rest = |row: &[f32]| {
        let term = |(&x, &mu): (&f32, &f32)| (f64::from(x) - f64::from(mu)) * f64::from(mu);
        1.0 - row.iter().zip(&offsets).map(term).sum::<f64>()
    };
    row[400] = (rest(&row) / 0.5) as f32 - 1e-6;
    row[401] = (rest(&row) / 0.25) as f32 + 1e-12;
    // N̂ = 0 and P̂ is not.
    let (_, of_d) = velocities(device, &row, (&offsets, &[0.5; 9]), 0.5)?;
    // a = 1 - Σ (½ - λ)·λ.
    let mut offsets: Vec<f32> = numbers(5).iter().map(|x| 0.04 * x).collect();
    let rest = |offsets: &[f32]| 1.0 - offsets.iter().map(|&x| f64::from(0.5 - x) * f64::from(x)).sum::<f64>();
    while rest(&offsets) < 0.02 {
        offsets.pop();
    }
    let near = rest(&offsets);
    offsets.push(((0.5 - (0.25 - 4.0 * near).sqrt()) / 2.0) as f32 - 1e-7);
    offsets.push((2.0 * rest(&offsets)) as f32);
    let (of_a, _) = velocities(device, &[1.0; 9], (&[0.0; 9], &offsets), 0.25)?;
    Ok([of_d, of_a].concat())
}

#[test]
fn products_with_offsets_are_added_up_in_their_order() {
    let Some(cuda) = cuda().map(Device::from) else { return };
    let expected = cancelled(&Cpu::detect().expect("a CPU").into()).expect("velocities");
    assert!(expected.iter().all(|x| *x != 0.0 && x.abs() < 1e-12), "{expected:?}");
    assert_eq!(bits(&expected), bits(&cancelled(&cuda).expect("velocities")), "{expected:?}");
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "offsets after the update",
        from: "float centre = rule.centre[at.visible];",
        to: "float centre = centre_of(rule.visible_offset[at.visible]);",
        found: "not the CPU's",
    },
    Fault {
        name: "rare units that use their offsets",
        from: "(-offset < offset ? offset : -offset) < 0.001f ? 0.0f : offset;",
        to: "offset;",
        found: "not the CPU's",
    },
    Fault {
        name: "partial sums of neighbours first",
        from: "for (u32 n = 8; n > 0; n /= 2) partial =",
        to: "for (u32 n = 1; n < 16; n *= 2) partial =",
        found: "not the CPU's",
    },
    Fault {
        name: "a partial sum that is rounded once more",
        from: "double sum = total(partial), squares",
        to: "partial = __dadd_rn(__dadd_rn(partial, 3.0), -3.0);\n    double sum = total(partial), squares",
        found: "not the CPU's",
    },
    Fault {
        name: "weights set to 0 without decay",
        from: "    if (pace.keep == 1.0f && pace.shrink == 0.0f) return weight;\n",
        to: "",
        found: "not the CPU's",
    },
    Fault {
        name: "factors of rows for chains",
        from: "rule.hidden_factors[s.rows.rows + chain]",
        to: "rule.hidden_factors[chain]",
        found: "not the CPU's",
    },
    Fault {
        name: "velocities by lanes beyond the last unit",
        from: "        if (!at.exists) return;\n",
        to: "",
        found: "race",
    },
    Fault {
        name: "one element too many",
        from: "if (at < n) parameters[at] = slide(",
        to: "if (at <= n) parameters[at] = slide(",
        found: "ILLEGAL_ADDRESS",
    },
];

/// Updates by all rules, sums near 0, and a mean of parameters.
fn answers(device: &Device) -> Result<Vec<u32>> {
    let shape = shape(33, 70);
    let (data, mut all) = (data(shape, 12, true, 0.3, 1), bits(&cancelled(device)?));
    for descent in [rules()[0], rules()[7]] {
        let settings = settings(Algorithm::Pcd { n_chains: 3 }, 1, descent);
        let mut resident = model(shape, 2).on(device)?;
        let mut trainer = with_offsets(device, shape, settings);
        let mut average = Average::from_parts(device, &model(shape, 3), 1)?;
        for first in [0, 4, 8] {
            trainer.step(&mut resident, data.rows().range(first..first + 4), LR)?;
            average.take(&resident)?;
        }
        let state = trainer.state()?;
        for (_, values) in numbers(&resident.to_rbm()?, &state) {
            all.extend(bits(&values));
        }
        let mean = average.mean().expect("a mean").to_rbm()?;
        all.extend(bits(mean.view().weights()));
    }
    Ok(all)
}

#[test]
fn faults_in_the_kernels_are_caught() {
    catches("faults_in_the_kernels_are_caught", "86", FAULTS, &["1", "3"], |program: Program<'_>| {
        let message = |error: Error| error.to_string();
        let found = Cuda::with_program(0, program).and_then(|cuda| answers(&cuda.into())).map_err(message)?;
        let expected = answers(&Cpu::detect().expect("a CPU").into()).expect("answers");
        if found == expected { Ok(()) } else { Err("a result is not the CPU's".into()) }
    });
}

/// The tutorial's size, with rules.
#[test]
fn the_tutorials_updates_by_rules() {
    let Some(cuda) = cuda().map(Device::from) else { return };
    let cpu = Device::from(Cpu::detect().expect("a CPU"));
    let (shape, descent) = (shape(784, 500), rules().pop().expect("all rules"));
    let (rbm, data) = (Rbm::new(shape, 123), data(shape, 50, true, 0.19, 6));
    let settings = settings(Algorithm::Pcd { n_chains: 20 }, 3, descent);
    let [expected, found] = [&cpu, &cuda].map(|device| train(device, &rbm, &data, settings, &[20, 20, 10]));
    compare("the tutorial", (&expected.0, &expected.1), (&found.0, &found.1));
}

/// The state of the rules moves between devices: updates alternating between devices equal those on the CPU.
#[test]
fn the_state_of_rules_moves_between_devices() {
    let Some(cuda) = cuda().map(Device::from) else { return };
    let cpu = Device::from(Cpu::detect().expect("a CPU"));
    let (shape, sizes) = (shape(37, 45), [6; 6]);
    let data = data(shape, 36, true, 0.3, 9);
    for descent in rules() {
        let settings = settings(Algorithm::Pcd { n_chains: 7 }, 2, descent);
        let run = |devices: [&Device; 6]| {
            let mut rbm = model(shape, 3);
            let mut state = with_offsets(devices[0], shape, settings).state().expect("a state");
            for (n, (device, size)) in devices.into_iter().zip(sizes).enumerate() {
                let mut resident = rbm.on(device).expect("resident");
                let mut trainer = Trainer::from_state(device, shape, settings, &state).expect("a trainer");
                assert_eq!(trainer.state().expect("a state"), state, "{device}, update {n}");
                trainer.step(&mut resident, data.rows().range(n * size..(n + 1) * size), LR).expect("a step");
                (rbm, state) = (resident.to_rbm().expect("an rbm"), trainer.state().expect("a state"));
            }
            (rbm, state)
        };
        let (expected, found) = (run([&cpu; 6]), run([&cuda, &cpu, &cuda, &cuda, &cpu, &cuda]));
        compare(&format!("{descent:?}"), (&expected.0, &expected.1), (&found.0, &found.1));
    }
}

/// Means of parameters, started on either device, equal the CPU's; the parameters themselves do not change.
#[test]
fn averages_are_the_cpus() {
    let Some(cuda) = cuda().map(Device::from) else { return };
    let cpu = Device::from(Cpu::detect().expect("a CPU"));
    for shape in [shape(33, 31), shape(9, 130)] {
        let data = data(shape, 30, false, 0.3, 2);
        let ask = |device: &Device| {
            let mut resident = model(shape, 5).on(device).expect("resident");
            let settings = settings(Algorithm::Cd, 1, Descent::default());
            let mut trainer = Trainer::new(device, shape, settings).expect("a trainer");
            let mut average = Average::from_parts(device, &model(shape, 6), 2).expect("an average");
            let mut other = Average::default();
            for first in (0..30).step_by(6) {
                average.take(&resident).expect("taken");
                other.take(&resident).expect("taken");
                trainer.step(&mut resident, data.rows().range(first..first + 6), LR).expect("a step");
            }
            let mut found = Vec::new();
            for mean in [average.mean(), other.mean(), Some(&resident)] {
                let mean = mean.expect("a mean");
                let rbm = mean.to_rbm().expect("an rbm");
                let view = rbm.view();
                let all = view.weights().iter().chain(view.visible_bias()).chain(view.hidden_bias());
                found.push(all.map(|x| u64::from(x.to_bits())).collect());
                let mut chains = Chains::new(device, shape, 3, Uniforms::new(8, Purpose::Sampling)).expect("chains");
                chains.sweep(mean, 4).expect("a sweep");
                found.push(chains.state().expect("a state").hidden);
            }
            assert_eq!((average.taken(), other.taken()), (7, 5));
            found
        };
        assert!(ask(&cpu) == ask(&cuda), "{shape}");
    }
}

/// Single updates from the same state, with cuBLAS's sums and with the CPU's. A draw may fall between two means that differ by
/// rounding, as computed in `tests/cuda_gemm.rs`: one seed of five must agree.
#[test]
fn updates_by_rules_with_products_are_the_cpus() {
    let Some(gemm) = cuda_gemm().map(Device::from) else { return };
    let cpu = Device::from(Cpu::detect().expect("a CPU"));
    for (n, shape) in [shape(23, 9), shape(9, 130), shape(130, 70)].into_iter().enumerate() {
        for descent in rules() {
            for algorithm in [Algorithm::Cd, Algorithm::Pcd { n_chains: 13 }] {
                let what = format!("{shape}, {algorithm:?}, {descent:?}");
                let agrees = |seed: u64| {
                    let settings = Settings { seed, ..settings(algorithm, 1, descent) };
                    is_near(&cpu, &gemm, shape, settings, &data(shape, 21, n % 2 == 0, 0.4, seed))
                };
                assert!((1..=5).any(agrees), "{what}: no seed of five agrees with the CPU");
            }
        }
    }
}

/// Three updates, each from the last state with cuBLAS's sums.
fn is_near(cpu: &Device, gemm: &Device, shape: Shape, settings: Settings, data: &Dataset) -> bool {
    let mut resident = model(shape, settings.seed).on(gemm).expect("resident");
    let mut trainer = with_offsets(gemm, shape, settings);
    // Rounding as in tests/library/descent.rs, on both devices.
    let unit = f64::from(f32::EPSILON);
    let size = (shape.n_visible() + shape.n_hidden()) as f64;
    let bound = 2.0 * (f64::from(LR) * unit * 16.0 * (1.0 + size / 8.0) + 4.0 * unit);
    for update in 0..3 {
        let mut twin = resident.to_rbm().expect("an rbm").on(cpu).expect("resident");
        let state = trainer.state().expect("a state");
        let mut of_twin = Trainer::from_state(cpu, shape, settings, &state).expect("a trainer");
        let batch = 7 * update..7 * (update + 1);
        trainer.step(&mut resident, data.rows().range(batch.clone()), LR).expect("a step");
        of_twin.step(&mut twin, data.rows().range(batch), LR).expect("a step");
        let found = (resident.to_rbm().expect("an rbm"), trainer.state().expect("a state"));
        let expected = (twin.to_rbm().expect("an rbm"), of_twin.state().expect("a state"));
        if found.1.chains != expected.1.chains {
            return false;
        }
        for ((name, found), (_, expected)) in numbers(&found.0, &found.1).iter().zip(&numbers(&expected.0, &expected.1))
        {
            let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let bounds = vec![bound; found.len()];
            assert_near(&wide(found), &wide(expected), &bounds, &format!("{shape}, {settings:?}: {name}"));
        }
    }
    true
}
