//! Clamped units and missing values on CUDA: the CPU's bits. Runs where `tests/cuda.rs` does.
#![cfg(feature = "cuda")]

mod cuda_laws;
mod oracle;

use cuda_laws::{Answers, difference, draws, model, monitors, of_energies, shape, states, train};
use harmonium::{
    Activations, Algorithm, ChainState, Chains, Cpu, Cuda, Dataset, Descent, Device, Gradient, Monitor, Program, Rbm,
    Result, Segments, Settings, Shape, Trainer, Uniforms,
    descent::{Centring, Sparsity},
    likelihood::log_likelihoods,
    log_partition,
};
use oracle::{
    device::{cuda, cuda_gemm},
    faults::{Fault, catches},
    generator, uniform,
};

/// The layers of `tests/library/missing.rs`.
const LAYERS: [(&str, usize); 5] = [
    ("binary:150", 37),
    ("potts:31x5", 70),
    ("gaussian:97", 20),
    ("binary:61,potts:3x7,gaussian:50", 33),
    ("gaussian:2,potts:1x70,binary:9", 65),
];

fn shapes() -> impl Iterator<Item = (u64, Shape)> {
    LAYERS.into_iter().enumerate().map(|(n, (visible, n_hidden))| (n as u64, shape(visible, n_hidden)))
}

/// Runs the same code on the CPU and on this device and compares the results.
macro_rules! same {
    ($device:expr, $what:expr, $ask:ident($($argument:expr),*)) => {{
        let expected = $ask(&Cpu::detect().expect("a CPU").into(), $($argument),*).expect("answers of the CPU");
        let found = $ask(&$device.clone().into(), $($argument),*).expect("answers of CUDA");
        if let Some(difference) = difference(&expected, &found) {
            panic!("{}: {difference}", $what);
        }
    }};
}

/// Rows in which each site is missing with probability 0.3, except in the third row.
fn with_holes(mut values: Vec<f32>, visible: Segments, seed: u64) -> Dataset {
    let mut numbers = generator(seed + 500);
    for (r, row) in values.chunks_exact_mut(visible.units()).enumerate() {
        for (segment, units) in visible.iter() {
            for site in row[units].chunks_exact_mut(segment.states()) {
                if uniform(&mut numbers) < 0.3 || r == 2 {
                    site.fill(f32::NAN);
                }
            }
        }
    }
    Dataset::with_missing(values, visible).expect("right rows")
}

fn rows_with_holes(visible: Segments, rows: usize, grey: bool, seed: u64) -> Dataset {
    with_holes(states(visible, rows, grey, seed), visible, seed)
}

/// Chains with clamped units, then with other clamped units, then with none.
fn of_clamped(device: &Device, rbm: &Rbm, held: &[&Dataset], k: usize) -> Result<Answers> {
    let (resident, n, mut answers) = (rbm.on(device)?, held[0].rows().len(), Answers::default());
    let betas = (0..n).map(|m| [1.0, 0.5, 0.125][m % 3]).collect();
    let state = ChainState { hidden: vec![0; n * rbm.shape().n_hidden().div_ceil(64)], betas, uniforms: draws(7) };
    let mut chains = Chains::from_state(device, rbm.shape(), &state)?;
    let mut visible = Activations::default();
    let mut record = |what: &str, chains: &Chains| {
        chains.visible(&resident, &mut visible)?;
        answers.chains(what, chains);
        answers.activations(what, &visible);
        Result::Ok(())
    };
    for given in held {
        chains.hold(given.rows())?;
        chains.sweep(&resident, k)?;
        record("held", &chains)?;
    }
    // Copies clamp the same units independently.
    let mut copy = chains.clone();
    let mut others = chains.drawing(Uniforms::new(4, harmonium::Purpose::Sampling))?;
    chains.release()?;
    record("released", &chains)?;
    for (what, chains) in [("free", &mut chains), ("the copy", &mut copy), ("of other numbers", &mut others)] {
        chains.sweep(&resident, k)?;
        record(what, chains)?;
    }
    Ok(answers)
}

#[test]
fn clamped_chains() {
    let Some(cuda) = cuda() else { return };
    for (n, shape) in shapes() {
        let (chains, k) = ([5, 33, 4][n as usize % 3], [1, 2, 3][n as usize % 3]);
        let given = |seed| rows_with_holes(shape.visible(), chains, false, seed);
        // All units are clamped, and then some.
        let all = Dataset::of_numbers(states(shape.visible(), chains, false, 8), shape.visible()).expect("rows");
        let held = [&given(n), &all, &given(n + 30)];
        same!(cuda, format!("{shape}, {chains} chains, k = {k}"), of_clamped(&model(shape, n), &held, k));
    }
}

#[test]
fn energies() {
    let Some(cuda) = cuda() else { return };
    for (n, shape) in shapes() {
        for grey in [false, true] {
            let v = rows_with_holes(shape.visible(), [13, 5][usize::from(grey)], grey, n);
            same!(cuda, format!("{shape}"), of_energies(&model(shape, 50 + n), v.rows()));
            if shape.visible().is_discrete() {
                same!(cuda, format!("{shape}, bytes"), of_energies(&model(shape, 50 + n), v.binarised().rows()));
            }
        }
    }
}

#[test]
fn updates() {
    let Some(cuda) = cuda() else { return };
    let sparsity = Some(Sparsity { target: 0.1, cost: 0.7, rate: 0.2 });
    let rules =
        Descent { centring: Some(Centring { rate: 0.3 }), momentum: 0.6, l2: 0.1, sparsity, ..Descent::default() };
    for (n, shape) in shapes() {
        for (m, monitor) in monitors(shape).into_iter().enumerate() {
            // Fewer chains than rows, and more.
            for (a, algorithm) in
                [Algorithm::Cd, Algorithm::Pcd { n_chains: 3 }, Algorithm::Pcd { n_chains: 13 }].into_iter().enumerate()
            {
                let descent = if (m + a) % 3 == 1 { rules } else { Descent::default() };
                let variance = if m == 0 { 0.4 } else { 0.0 };
                let settings = Settings { algorithm, k: 1 + m % 2, monitor, seed: n, descent, variance };
                // The same size again, so that a graph is replayed; then another size.
                let v = rows_with_holes(shape.visible(), 16, m % 2 == 0, 4 + n);
                same!(
                    cuda,
                    format!("{shape}, {settings:?}"),
                    train(&model(shape, 100 + n), v.rows(), settings, &[5, 5, 5, 1])
                );
            }
        }
    }
}

/// Updates that alternate between rows with and without missing values.
fn alternating(device: &Device, rbm: &Rbm, data: [&Dataset; 2], settings: Settings) -> Result<Answers> {
    let (mut answers, mut resident) = (Answers::default(), rbm.on(device)?);
    let mut trainer = Trainer::new(device, rbm.shape(), settings)?;
    let [holes, all] = [device.load(data[0].rows())?, device.load(data[1].rows())?];
    for data in [&all, &holes, &holes, &all, &holes] {
        trainer.step(&mut resident, data.all(), 0.05)?;
    }
    answers.rbm(&resident.to_rbm()?);
    answers.chains("chains", trainer.chains());
    answers.double("monitor", trainer.report()?.monitor.as_slice());
    Ok(answers)
}

#[test]
fn the_mask_changes_between_updates() {
    let Some(cuda) = cuda() else { return };
    for (n, shape) in shapes() {
        for algorithm in [Algorithm::Cd, Algorithm::Pcd { n_chains: 7 }] {
            let settings = Settings { algorithm, k: 2, monitor: Monitor::Reconstruction, ..Settings::default() };
            let all = Dataset::of_numbers(states(shape.visible(), 6, false, 8), shape.visible()).expect("rows");
            let holes = rows_with_holes(shape.visible(), 6, false, 9);
            same!(cuda, format!("{shape}, {algorithm:?}"), alternating(&model(shape, n), [&holes, &all], settings));
        }
    }
}

/// A model whose weights are multiples of 1/64 within ½, and whose precisions are 1. With states that are small multiples of 1/64
/// every sum is exact, in any order.
fn exact_model(shape: Shape, seed: u64) -> Rbm {
    let (_, visible_bias, hidden_bias) = model(shape, seed).into_parts();
    let mut numbers = generator(seed);
    let weight = |_| (uniform(&mut numbers) * 65.0).floor() as f32 / 64.0 - 0.5;
    let weights = (0..shape.n_visible() * shape.n_hidden()).map(weight).collect();
    Rbm::from_parts(shape, weights, visible_bias, hidden_bias).expect("a model")
}

/// Results that depend on sums of states only.
fn of_states(device: &Device, rbm: &Rbm, data: &Dataset) -> Result<Answers> {
    let (mut answers, resident) = (Answers::default(), rbm.on(device)?);
    let (shape, data) = (rbm.shape(), device.load(data.rows())?);
    answers.double("free energy", &resident.free_energy(data.range(1..data.len()))?);
    answers.double("pseudo-likelihood", &resident.pseudo_log_likelihood(data.all())?);
    for site in 0..shape.visible().sites() {
        answers.double("of a site", &resident.pseudo_log_likelihood_of_bit(data.all(), site)?);
    }
    // A reconstruction is a product of means, which are not such multiples.
    for monitor in [Monitor::PseudoLikelihood, Monitor::ExactPseudoLikelihood] {
        let mut trainer = Trainer::new(device, shape, Settings { k: 2, monitor, ..Settings::default() })?;
        trainer.gradient(&resident, data.all(), &mut Gradient::zero(shape))?;
        answers.chains("chains", trainer.chains());
        answers.double("monitor", trainer.report()?.monitor.as_slice());
    }
    Ok(answers)
}

/// Products of exact numbers equal canonical sums, so cuBLAS gives the CPU's bits as well.
#[test]
fn products_of_exact_numbers() {
    let Some(gemm) = cuda_gemm() else { return };
    for (n, text) in ["binary:70", "potts:9x5,binary:7", "gaussian:20,binary:15,potts:2x3"].into_iter().enumerate() {
        let (shape, n) = (shape(text, 33), n as u64);
        let (rbm, visible) = (exact_model(shape, n), shape.visible());
        let mut values = states(visible, 6, false, n);
        for x in &mut values {
            *x = (*x * 64.0).round() / 64.0;
        }
        // Samples of Gaussian units are not multiples, so all of these units are clamped.
        let held = |seed: u64| {
            let holes = with_holes(values.clone(), visible, seed).rows().to_vec();
            let given = holes.iter().zip(&values).enumerate();
            let number = |i: usize| visible.iter().any(|(segment, units)| segment.is_number() && units.contains(&i));
            let kept = given.map(|(at, (&hole, &x))| if number(at % visible.units()) { x } else { hole });
            Dataset::with_missing(kept.collect(), visible).expect("right rows")
        };
        let betas = vec![1.0; 6];
        let of_chains = |device: &Device| {
            let (resident, mut visible) = (rbm.on(device)?, Activations::default());
            let state = ChainState { hidden: vec![0; 6], betas: betas.clone(), uniforms: draws(3) };
            let (mut chains, mut answers) = (Chains::from_state(device, shape, &state)?, Answers::default());
            for seed in [n, n + 40] {
                chains.hold(held(seed).rows())?;
                chains.sweep(&resident, 3)?;
                chains.visible(&resident, &mut visible)?;
                answers.chains("held", &chains);
                answers.activations("held", &visible);
            }
            Result::Ok(answers)
        };
        same!(gemm, format!("{shape}"), of_chains());
        if visible.is_discrete() {
            same!(gemm, format!("{shape}"), of_states(&rbm, &with_holes(values.clone(), visible, n)));
        } else {
            same!(gemm, format!("{shape}"), free_energies(&rbm, &with_holes(values.clone(), visible, n)));
        }
    }
}

fn free_energies(device: &Device, rbm: &Rbm, data: &Dataset) -> Result<Answers> {
    let mut answers = Answers::default();
    answers.double("free energy", &rbm.on(device)?.free_energy(data)?);
    Ok(answers)
}

/// Units that are missing in all rows learn nothing, with either kind of sums.
#[test]
fn units_missing_in_all_rows_learn_nothing() {
    let (Some(cuda), Some(gemm)) = (cuda(), cuda_gemm()) else { return };
    for device in [cuda, gemm] {
        for (n, shape) in shapes() {
            let (visible, nh) = (shape.visible(), shape.n_hidden());
            let mut values = states(visible, 5, false, n);
            let (segment, units) = visible.iter().next().expect("a segment");
            let site = units.start..units.start + segment.states();
            for row in values.chunks_exact_mut(visible.units()) {
                row[site.clone()].fill(f32::NAN);
            }
            let data = Dataset::with_missing(values, visible).expect("right rows");
            for algorithm in [Algorithm::Cd, Algorithm::Pcd { n_chains: 7 }] {
                let settings = Settings { algorithm, k: 2, ..Settings::default() };
                let settings = Settings { monitor: Monitor::None, ..settings };
                let resident = model(shape, n).on(&device).expect("on");
                let mut trainer = Trainer::new(&device, shape, settings).expect("a trainer");
                let mut gradient = Gradient::zero(shape);
                trainer.gradient(&resident, &data, &mut gradient).expect("a gradient");
                for i in site.clone() {
                    assert!(gradient.weights[i * nh..][..nh].iter().all(|&x| x == 0.0), "{shape}, {algorithm:?}");
                    assert_eq!(gradient.visible_bias[i], 0.0, "{shape}, {algorithm:?}");
                }
                assert!(gradient.weights[site.end * nh..].iter().any(|&x| x != 0.0), "{shape}, {algorithm:?}");
            }
        }
    }
}

#[test]
fn likelihoods_of_rows_with_holes_are_refused() {
    let Some(cuda) = cuda() else { return };
    let shape = shape("binary:3", 2);
    let (rbm, data) = (model(shape, 1), rows_with_holes(shape.visible(), 4, false, 1));
    let log_z = log_partition::exact::log_partition(rbm.view()).expect("log Z");
    let resident = rbm.on(&cuda).expect("on");
    let loaded = cuda.load(data.rows()).expect("data");
    for problem in [log_likelihoods(&resident, loaded.all(), &log_z), log_likelihoods(&resident, &data, &log_z)] {
        assert_eq!(
            problem.expect_err("no log Z for it").to_string(),
            "rows: expected rows without missing values, found missing values"
        );
    }
}

/// A summary of the answers of small models of every kind.
fn answers(device: &Device) -> Result<Answers> {
    let mut all = Answers::default();
    for (visible, n_hidden) in [("binary:40", 20), ("gaussian:3,potts:2x3,binary:35", 33), ("potts:3x4,binary:5", 9)] {
        let shape = shape(visible, n_hidden);
        let (rbm, v) = (model(shape, 7), rows_with_holes(shape.visible(), 9, false, 8));
        all.0.extend(of_clamped(device, &rbm, &[&v], 2)?.0);
        all.0.extend(of_energies(device, &rbm, v.rows())?.0);
        for (n, monitor) in monitors(shape).into_iter().enumerate() {
            let algorithm = [Algorithm::Cd, Algorithm::Pcd { n_chains: 5 }][n % 2];
            let settings = Settings { algorithm, k: 1, monitor, seed: 3, variance: 0.4, ..Settings::default() };
            all.0.extend(train(device, &rbm, v.rows(), settings, &[3, 3, 3])?.0);
        }
    }
    Ok(all)
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "the mask of another row",
        from: "[row * words_of(stride) + i / 32]",
        to: "[(row ? row - 1 : 0) * words_of(stride) + i / 32]",
        found: "on the CPU",
    },
    Fault {
        name: "words of 32 bits",
        from: "[row * words_of(stride) + i / 32]",
        to: "[row * ((stride + 31) / 32) + i / 32]",
        found: "on the CPU",
    },
    Fault {
        name: "a graph that keeps the first batch's mask",
        from: "    cursor->missing = missing;",
        to: "    if (!cursor->missing) cursor->missing = missing;",
        found: "on the CPU",
    },
    Fault {
        name: "a separate row for each chain",
        from: "(u32)chain % rows.rows",
        to: "min((u32)chain, rows.rows - 1)",
        found: "on the CPU",
    },
    Fault {
        name: "present values instead of missing ones",
        from: "== (left_out != 0)",
        to: "== (left_out == 0)",
        found: "on the CPU",
    },
    Fault {
        name: "bits that are drawn instead of kept",
        from: "    if (!bits) return;",
        to: "    return;",
        found: "on the CPU",
    },
    Fault {
        name: "numbers that are kept without precisions",
        from: "if (scaled) scaled[place] = __fmul_rn(precision[at.unit], x);",
        to: "if (scaled) scaled[place] = x;",
        found: "on the CPU",
    },
    Fault {
        name: "a pseudo-likelihood of a missing bit",
        from: "rows.is_missing(row, bit) ? 0.0 :",
        to: "",
        found: "on the CPU",
    },
    Fault {
        name: "a pseudo-likelihood of missing bits",
        from: "rows.is_missing(row, i) ? 0.0 : log;",
        to: "log;",
        found: "on the CPU",
    },
    Fault {
        name: "a pseudo-likelihood of missing sites",
        from: "        if (rows.is_missing(row, first)) return 0.0;\n",
        to: "",
        found: "on the CPU",
    },
    Fault {
        name: "a cross-entropy of missing bits",
        from: "        if (rows.is_missing(row, i)) continue;\n        float p",
        to: "        float p",
        found: "on the CPU",
    },
    Fault {
        name: "a reconstruction of missing sites",
        from: "bool there = site < segment.sites && !rows.is_missing(row, unit);",
        to: "bool there = site < segment.sites;",
        found: "on the CPU",
    },
    Fault {
        name: "own energies of missing units",
        from: "        if (rows.is_missing(row, i)) continue;\n        float x",
        to: "        float x",
        found: "on the CPU",
    },
    Fault {
        name: "own gradients of missing units",
        from: "        if (rows.is_missing(row, i)) continue;\n        double weight",
        to: "        double weight",
        found: "on the CPU",
    },
    Fault {
        name: "variances of rows without the unit",
        from: "        if (rows.is_missing(row, i)) continue;\n        double d",
        to: "        double d",
        found: "on the CPU",
    },
    Fault {
        name: "variances of chains without the unit",
        from: "        if (rows.is_missing(chain % rows.rows, i)) continue;\n",
        to: "",
        found: "on the CPU",
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
