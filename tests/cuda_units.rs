//! Visible units of several laws on CUDA: the CPU's bits. Runs where `tests/cuda.rs` does.
#![cfg(feature = "cuda")]

mod cuda_laws;
mod oracle;

use cuda_laws::{
    Answers, difference, law_rows, model, monitors, of_annealing, of_chains, of_conditionals, of_energies, shape,
    shapes, states, train,
};
use harmonium::{
    Algorithm, Cpu, Cuda, Dataset, Descent, Device, Error, Monitor, Program, Rbm, Result, Rows, Settings, Values,
    descent::{Centring, Sparsity},
};
use oracle::{
    device::cuda,
    faults::{Fault, catches},
    random_values, rows,
};

/// Runs the same code on the CPU and on CUDA and compares the results; returns from the test without CUDA.
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

#[test]
fn chains() {
    for (n, shape) in shapes() {
        let (chains, k) = ([1, 33, 2][n % 3], [1, 3, 2][n / 3 % 3]);
        same!(&format!("{shape}, {chains} chains, k = {k}"), of_chains(&model(shape, n as u64), chains, k));
    }
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

/// Weights beyond the limit of products of exponentials, in a binary unit next to Potts sites and in a site.
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

#[test]
fn updates() {
    for (n, shape) in shapes() {
        for (m, monitor) in monitors(shape).into_iter().enumerate() {
            for (a, algorithm) in [Algorithm::Cd, Algorithm::Pcd { n_chains: [33, 3][n % 2] }].into_iter().enumerate() {
                let k = if shape.n_visible() > 300 { 1 } else { 1 + n % 3 };
                let variance = if m == 0 { 0.4 } else { 0.0 };
                let settings = Settings { algorithm, k, monitor, seed: n as u64, variance, ..Settings::default() };
                // The same size again, so that a graph is replayed; then another size.
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
            let variance = if r == 0 { 0.4 } else { 0.0 };
            let monitor = Monitor::Reconstruction;
            let settings = Settings { algorithm, k: 1, monitor, seed: 4, descent, variance };
            let sizes = [[5, 5, 3, 1], [1, 1, 33, 4]][n % 2];
            let v = states(shape.visible(), sizes.iter().sum(), r == 1, 20 + n as u64);
            let v = law_rows(&v, shape.visible());
            same!(&format!("{shape}, {settings:?}"), train(&model(shape, 10 + n as u64), v, settings, &sizes));
        }
    }
}

/// Bytes represent x/255; 0 and 255 are states of a site.
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
    for (n, shape) in shapes() {
        let (v, runs) = (states(shape.visible(), 10, false, 8), [2, 33, 5][n % 3]);
        let v = law_rows(&v, shape.visible());
        same!(&format!("{shape}, {runs} runs"), of_annealing(&model(shape, 200 + n as u64), v, runs));
    }
}

/// Rows that were loaded with other laws cannot be checked on the device; rows of the host are checked.
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

/// A summary of the answers of these tests' models.
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
            let settings = Settings { k: 1, monitor, seed: 3, descent, variance: 0.4, ..Settings::default() };
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
        name: "weights indexed from 0",
        from: "exp_of(__fadd_rn(a, -greatest))",
        to: "exp_of(a)",
        found: "on the CPU",
    },
    Fault {
        name: "a draw without the last state",
        from: "chosen += through <= target ? 1 : 0;",
        to: "chosen = through <= target ? s : chosen;",
        found: "on the CPU",
    },
    Fault { name: "half a normal number", from: "upper ? z : -z", to: "z", found: "on the CPU" },
    Fault {
        name: "a variance without temperature",
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
        name: "lanes in reverse order",
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
        name: "variances from data alone",
        from: "__dadd_rn(of_data, of_ends), p",
        to: "of_data, p",
        found: "on the CPU",
    },
    Fault {
        name: "a state that is not subtracted",
        from: "if (potts) a = __fadd_rn(a, -own[j]);",
        to: "",
        found: "on the CPU",
    },
    Fault {
        name: "the number of units instead of sites",
        from: "__dmul_rn((double)laws.sites, log(segment, site))",
        to: "__dmul_rn((double)units, log(segment, site))",
        found: "on the CPU",
    },
    Fault {
        name: "final states counted as bits",
        from: "NUMBERS ? of_ends : (float)on",
        to: "(float)on",
        found: "on the CPU",
    },
    Fault {
        name: "final states that are always on",
        from: "if (!visible) return ends.value(chain, i);",
        to: "if (!visible) return 1.0f;",
        found: "on the CPU",
    },
    Fault {
        name: "the model as base rate",
        from: "-minus_own_energy(law, x, down.reference[i], laws.reference_of(i))",
        to: "-minus_own_energy(law, x, down.reference[i], laws.precision_of(i))",
        found: "on the CPU",
    },
    Fault {
        name: "one variable too many",
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
