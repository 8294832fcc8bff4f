//! CUDA's chains on a 16-bit grid give the CPU's bits for any coarseness, and need the whole error bound for that. The counterpart
//! of `src/cpu/samples/tests.rs`. Runs where `tests/cuda.rs` does; coarse grids also need NVRTC, because they use other kernels.
#![cfg(feature = "cuda")]

mod oracle;

use harmonium::{
    Activations, Algorithm, ChainState, Chains, Checkpoint, Cpu, Cuda, CudaError, Dataset, Descent, Device, Error,
    Ladder, Monitor, Program, Purpose, Rbm, Result, Settings, Shape, Sweeps, Tempered, Trainer, Uniforms,
    checkpoint::{Place, fingerprint},
    descent::Centring,
};
use oracle::{
    byte_rows,
    device::{self, cuda},
    faults::{Fault, catches},
    generator, random_bytes, shape, uniform,
};
use std::{
    collections::HashMap,
    sync::{Mutex, OnceLock},
};

/// The conditions in the kernels, and the forced ones: any grid with at most a given fineness, in all cases, and a share of the
/// bound.
const RULES: [&str; 4] =
    ["#define GRID_FINEST 16", "#define GRID_COARSEST 8", "#define GRID_MOST 0.1f", "#define GRID_SHARE 1.0f"];

fn forced(source: &str, finest: i32, share: f32) -> String {
    let values = [finest.to_string(), "-100".to_owned(), "1e30f".to_owned(), format!("{share:?}f")];
    RULES.iter().zip(values).fold(source.to_owned(), |source, (rule, value)| {
        assert!(source.contains(rule), "{rule}");
        let (name, _) = rule.rsplit_once(' ').expect("a value");
        source.replace(rule, &format!("{name} {value}"))
    })
}

/// The device that uses a grid by its own conditions, or `None` with a message.
fn on_own_grid() -> Option<Cuda> {
    let cuda = cuda()?;
    if !cuda.has_grid() {
        device::not_applicable("the device has no matrix units for it");
        return None;
    }
    Some(cuda.with_sweeps(Sweeps::Grid))
}

/// The device with forced conditions.
fn on_grid(finest: i32, share: f32) -> Option<Cuda> {
    static OPENED: OnceLock<Mutex<HashMap<(i32, u32), Cuda>>> = OnceLock::new();
    on_own_grid()?;
    let mut opened = OPENED.get_or_init(Mutex::default).lock().expect("no test panics here");
    if let Some(cuda) = opened.get(&(finest, share.to_bits())) {
        return Some(cuda.clone());
    }
    match Cuda::with_program(0, Program::Source(&forced(Cuda::kernels().0, finest, share))) {
        Ok(cuda) => {
            let cuda = cuda.with_sweeps(Sweeps::Grid);
            opened.insert((finest, share.to_bits()), cuda.clone());
            Some(cuda)
        }
        Err(Error::Cuda(CudaError::NoKernels { nvrtc, .. })) if nvrtc.contains("cannot be loaded") => {
            device::not_applicable("coarse grids need NVRTC");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn cpu() -> Device {
    Cpu::detect().expect("a CPU").into()
}

/// A model from numbers within ±1, transformed by the given functions.
fn model(shape: Shape, seed: u64, weight: impl Fn(f32) -> f32, bias: impl Fn(f32) -> f32) -> Rbm {
    let mut numbers = generator(seed);
    let mut next = || 2.0 * uniform(&mut numbers) as f32 - 1.0;
    let weights = (0..shape.n_visible() * shape.n_hidden()).map(|_| weight(next())).collect();
    let [b, c] = [shape.n_visible(), shape.n_hidden()].map(|n| (0..n).map(|_| bias(next())).collect());
    Rbm::from_parts(shape, weights, b, c).expect("a model")
}

fn start(shape: Shape, chains: usize, density: f64, seed: u64) -> ChainState {
    let mut numbers = generator(seed);
    let words = shape.n_hidden().div_ceil(64);
    let mut hidden = vec![0_u64; chains * words];
    for (m, unit) in (0..chains).flat_map(|m| (0..shape.n_hidden()).map(move |unit| (m, unit))) {
        hidden[m * words + unit / 64] |= u64::from(uniform(&mut numbers) < density) << (unit % 64);
    }
    ChainState { hidden, betas: vec![1.0; chains], uniforms: Uniforms::new(seed, Purpose::Sampling) }
}

/// The state after two sweeps of k steps. All NaNs are equal.
fn swept(device: &Device, rbm: &Rbm, state: &ChainState, k: usize, held: Option<&Dataset>) -> Result<Vec<u64>> {
    let resident = rbm.on(device)?;
    let mut chains = Chains::from_state(device, rbm.shape(), state)?;
    if let Some(held) = held {
        chains.hold(held.rows())?;
    }
    chains.sweep(&resident, k)?;
    chains.sweep(&resident, k)?;
    let mut visible = Activations::default();
    chains.visible(&resident, &mut visible)?;
    let state = chains.state()?;
    let numbers = visible.sample.iter().chain(&visible.pre_activation);
    let bits = numbers.map(|x| if x.is_nan() { 1 } else { u64::from((x + 0.0).to_bits()) });
    Ok(state.hidden.into_iter().chain(bits).chain([state.uniforms.position()]).collect())
}

/// Compares sweeps with the CPU's.
#[track_caller]
fn check(cuda: &Cuda, rbm: &Rbm, state: &ChainState, k: usize, what: &str) {
    let expected = swept(&cpu(), rbm, state, k, None).expect("the CPU's chains");
    let found = swept(&cuda.clone().into(), rbm, state, k, None).expect("CUDA's chains");
    assert!(found == expected, "{what}, k = {k}");
}

#[test]
fn grids_of_any_size_give_the_bits_of_sums() {
    let Some(own) = on_own_grid() else { return };
    for (nv, nh, chains, k) in [
        (1, 1, 3, 4),
        (1, 130, 2, 3),
        (63, 65, 7, 3),
        (64, 64, 1, 5),
        (65, 63, 20, 2),
        (129, 100, 130, 3),
        (128, 30, 5, 4),
        (300, 200, 9, 3),
        (40, 1100, 3, 2),
    ] {
        for (size, density) in [(0.05, 0.1), (0.4, 0.5), (3.0, 0.9)] {
            let rbm = model(shape(nv, nh), 1, |x| size * x, |x| x - 0.5);
            let state = start(rbm.shape(), chains, density, 2);
            let what = format!("{}, {chains} chains, weights to {size}", rbm.shape());
            check(&own, &rbm, &state, k, &what);
            let finest = if nv % 2 == 0 { 9 } else { 4 };
            if let Some(cuda) = on_grid(finest, 1.0) {
                check(&cuda, &rbm, &state, k, &format!("{what}, 2^-{finest}"));
            }
        }
    }
}

/// All weights are 0.49 steps above the grid, so the errors of their sums nearly reach the bound. With half of the bound the bits
/// differ.
#[test]
fn half_of_the_bound_is_too_small() {
    let (Some(whole), Some(half)) = (on_grid(9, 1.0), on_grid(9, 0.5)) else { return };
    let rbm = model(shape(200, 150), 5, |x| ((60.0 * x).round() + 0.49) / 512.0, |x| 2.0 * x);
    let state = start(rbm.shape(), 60, 0.5, 6);
    let with = |device: Device| swept(&device, &rbm, &state, 20, None).expect("chains");
    let expected = with(cpu());
    assert!(with(whole.into()) == expected, "the whole bound");
    assert!(with(half.into()) != expected, "half of the bound");
}

#[test]
fn extreme_numbers() {
    let Some(own) = on_own_grid() else { return };
    let coarse = on_grid(9, 1.0);
    let shape = shape(70, 65);
    type Map = fn(f32) -> f32;
    let weights: [(&str, Map); 9] = [
        ("0", |_| 0.0),
        ("-0", |_| -0.0),
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
            let (state, what) = (start(shape, 20, 0.3, 9), format!("weights {weight}, biases {bias}"));
            check(&own, &rbm, &state, 2, &what);
            if let Some(coarse) = &coarse {
                check(coarse, &rbm, &state, 2, &format!("{what}, 2^-9"));
            }
        }
    }
}

/// Training that leaves the finite numbers, in which there is no grid at all.
#[test]
fn weights_that_are_not_finite() {
    let Some(own) = on_own_grid() else { return };
    let rbm = model(shape(100, 70), 8, |x| 0.1 * x, |x| x);
    let bytes = random_bytes(10 * 100, 0.3, 9);
    let rows = byte_rows(&bytes, 100);
    let ask = |device: Device| -> Result<(Vec<f32>, usize)> {
        let settings = Settings { algorithm: Algorithm::Pcd { n_chains: 10 }, k: 3, seed: 10, ..Settings::default() };
        let (mut resident, mut trainer) = (rbm.on(&device)?, Trainer::new(&device, rbm.shape(), settings)?);
        for _ in 0..10 {
            trainer.step(&mut resident, rows, f32::MAX)?;
        }
        let mut hidden = Activations::default();
        resident.propup(rows, &mut hidden)?;
        let odd = hidden.pre_activation.iter().filter(|x| !x.is_finite()).count();
        Ok((trainer.chains().hidden()?, odd))
    };
    let (expected, found) = (ask(cpu()).expect("the CPU"), ask(own.into()).expect("CUDA"));
    assert!(expected.1 > 0, "all pre-activations are finite");
    assert!(found == expected, "{expected:?} on the CPU, {found:?} on CUDA");
}

#[test]
fn any_temperature_and_clamped_units() {
    let Some(own) = on_own_grid() else { return };
    let rbm = model(shape(130, 70), 11, |x| 0.5 * x, |x| 2.0 * x);
    let mut state = start(rbm.shape(), 9, 0.4, 12);
    let values = (0..9 * 130).map(|i| if i % 7 < 3 { f32::NAN } else { (i % 2) as f32 }).collect();
    let held = Dataset::with_missing(values, rbm.shape().visible()).expect("rows");
    for betas in [[1.0, 0.5, 0.5, 0.0, 0.01, 1.5, -1.0, 2.0, 1.0], [1.0, 0.5, 0.5, 0.0, 0.01, 1.5, -1.0, 30.0, 1e30]] {
        state.betas = betas.into();
        for cuda in [Some(own.clone()), on_grid(9, 1.0), on_grid(4, 1.0)].into_iter().flatten() {
            check(&cuda, &rbm, &state, 4, &format!("inverse temperatures {betas:?}"));
            let with = |device: Device| swept(&device, &rbm, &state, 3, Some(&held)).expect("chains");
            assert!(with(cuda.into()) == with(cpu()), "clamped units");
        }
    }
}

#[test]
fn tempering() {
    let Some(own) = on_own_grid() else { return };
    let rbm = model(shape(90, 70), 13, |x| 0.6 * x, |x| x);
    let betas: Vec<f32> = (0..12).map(|n| 1.0 - n as f32 / 11.0).collect();
    let ask = |device: Device| -> Result<(Vec<f32>, Vec<u64>, Vec<u32>)> {
        let resident = rbm.on(&device)?;
        let start = Chains::from_state(&device, rbm.shape(), &start(rbm.shape(), 2, 0.5, 14))?;
        let ladder = Ladder::Fixed(&betas);
        let mut tempered = Tempered::new(&resident, &start, ladder, Uniforms::new(15, Purpose::Exchanging))?;
        for k in [1, 2, 4, 2] {
            tempered.step(&resident, k)?;
        }
        let mut coldest = Activations::default();
        tempered.coldest(&resident, &mut coldest)?;
        let state = tempered.chains().state()?;
        Ok((state.betas, state.hidden, coldest.pre_activation.iter().map(|x| x.to_bits()).collect()))
    };
    assert!(ask(own.into()).expect("CUDA") == ask(cpu()).expect("the CPU"));
}

/// A checkpoint after updates, each of which is a graph launch, followed by reports. The graph does not depend on a grid.
fn trained(device: &Device, rbm: &Rbm, bytes: &[u8], settings: Settings, lr: f32) -> Result<(Vec<u8>, Option<u64>)> {
    let rows = byte_rows(bytes, rbm.shape().n_visible());
    let mut rbm = rbm.clone();
    let data = device.load(rows)?;
    let mut trainer = Trainer::new(device, rbm.shape(), settings)?;
    let mut lent = rbm.lend(device)?;
    for update in 0..4 {
        let first = update % 2 * 10;
        trainer.step(&mut lent, data.range(first..first + 10), lr)?;
    }
    let report = trainer.take_report()?.monitor.map(f64::to_bits);
    let place = Place::new(2, 0, 1.5);
    let checkpoint = Checkpoint::new(lent.to_rbm()?, settings, trainer.state()?, place, fingerprint(rows));
    Ok((checkpoint.to_bytes()?, report))
}

#[test]
fn training_gives_the_bits_of_sums() {
    let Some(own) = on_own_grid() else { return };
    let (nv, nh) = (100, 70);
    let rbm = model(shape(nv, nh), 15, |x| 0.01 * x, |x| x);
    let bytes = random_bytes(20 * nv, 0.2, 16);
    let plain = Descent::default();
    let rules = Descent { centring: Some(Centring::default()), momentum: 0.5, l2: 1e-3, ..plain };
    for (algorithm, monitor, descent, lr) in [
        (Algorithm::Pcd { n_chains: 20 }, Monitor::PseudoLikelihood, plain, 0.1),
        // Growing weights make the grid coarser, and finally there is none, with the same graph.
        (Algorithm::Pcd { n_chains: 30 }, Monitor::None, plain, 30.0),
        (Algorithm::Pcd { n_chains: 30 }, Monitor::None, plain, 1000.0),
        (Algorithm::Cd, Monitor::Reconstruction, plain, 0.1),
        (Algorithm::Pcd { n_chains: 20 }, Monitor::Reconstruction, rules, -0.1),
    ] {
        let settings = Settings { algorithm, k: 4, monitor, descent, seed: 17, ..Settings::default() };
        let expected = trained(&cpu(), &rbm, &bytes, settings, lr).expect("the CPU's training");
        for cuda in [Some(own.clone()), on_grid(9, 1.0)].into_iter().flatten() {
            let found = trained(&cuda.into(), &rbm, &bytes, settings, lr).expect("CUDA's training");
            assert!(found == expected, "{settings:?}, lr {lr}");
        }
    }
}

/// The tutorial's shape, and a handle with automatic choice: enough chains that a grid pays.
#[test]
fn enough_chains_for_the_grid() {
    let Some(cuda) = cuda() else { return };
    let rbm = model(shape(784, 500), 3, |x| 0.3 * x * x * x, |x| 3.0 * x - 2.5);
    check(&cuda, &rbm, &start(rbm.shape(), 900, 0.2, 4), 2, "900 chains");
}

const FAULTS: &[Fault] = &[
    // Without both waits so many bits seem to be on that every unit is undecided, and then the result is right.
    Fault {
        name: "no wait for the third stage",
        from: "asm volatile(\"cp.async.wait_group 1;\"",
        to: "if (word < 2 * GRID_DEEP) asm volatile(\"cp.async.wait_group 1;\"",
        found: "not the CPU's",
    },
    Fault {
        name: "no barrier before a stage is read",
        from: "        __syncthreads();\n        u32 deep = min(GRID_DEEP, tile.words - word), pair",
        to: "        u32 deep = min(GRID_DEEP, tile.words - word), pair",
        found: "race",
    },
    Fault {
        name: "no barrier before a stage is overwritten",
        from: "        // The next stage but one overwrites this one.\n        __syncthreads();",
        to: "",
        found: "race",
    },
    Fault {
        name: "no barrier before the counts are read",
        from: "        add_on_grid(sums, stages, active, tile, planes);\n        __syncthreads();",
        to: "        add_on_grid(sums, stages, active, tile, planes);",
        found: "race",
    },
    Fault {
        name: "no barrier before the bounds are read",
        from: "        __syncthreads();\n        float all = __fadd_rn(__fadd_rn(bounds",
        to: "        float all = __fadd_rn(__fadd_rn(bounds",
        found: "race",
    },
    Fault {
        name: "no barrier between a warp's draws and its lanes' reads",
        from: "    __syncwarp();\n    // From here on a lane has a chain.",
        to: "",
        found: "race",
    },
    Fault {
        name: "no barrier before the greatest of a block is read",
        from: "scratch[threadIdx.x / 32] = x;\n    __syncthreads();",
        to: "scratch[threadIdx.x / 32] = x;",
        found: "race",
    },
    Fault {
        name: "no barrier before sums overwrite rows",
        from: "    // Nobody reads the rows any more: each thread overwrites them with its own sums.\n    __syncthreads();",
        to: "",
        found: "race",
    },
    Fault {
        name: "a signed low plane",
        from: "row.col.s32.u8.u8.s32",
        to: "row.col.s32.u8.s8.s32",
        found: "not the CPU's",
    },
    Fault {
        name: "given units in another order",
        from: "lane % 4 + i / 4 * 4 + i % 4 * 8",
        to: "lane % 4 * 8 + i",
        found: "not the CPU's",
    },
    Fault {
        name: "made units in another order",
        from: "column / 2 * 8 + 2 * product + column % 2",
        to: "column + product * 8",
        found: "not the CPU's",
    },
    Fault {
        name: "undecided units that are not settled",
        from: "if (lane == owner) word.x |= (u32)is_on << place;",
        to: "",
        found: "not the CPU's",
    },
    Fault {
        name: "another order of a canonical sum",
        from: "for (u32 n = 0; n < 4; n++) sum = __fadd_rn(sum, w[n]);",
        to: "for (u32 n = 0; n < 4; n++) sum = __fadd_rn(sum, w[3 - n]);",
        found: "not the CPU's",
    },
    Fault {
        name: "draws of the neighbouring chain",
        from: "state_behind(begin, lane / 4 * side.made + lane % 4 * 8)",
        to: "state_behind(begin, (lane / 4 + 1) * side.made + lane % 4 * 8)",
        found: "not the CPU's",
    },
    Fault {
        name: "draws of the neighbouring unit when it is settled",
        from: "state_behind(begin, owner * side.made + place)",
        to: "state_behind(begin, owner * side.made + place + 1)",
        found: "not the CPU's",
    },
    Fault {
        name: "chains too many in the last block",
        from: "tile.chains = min(GRID_CHAINS, (u32)(chains - tile.first_chain));",
        to: "tile.chains = GRID_CHAINS;",
        found: "ILLEGAL_ADDRESS",
    },
    Fault {
        name: "sums at the wrong place",
        from: "stage[(warp + 8 * c) * 32 + lane] = sums[c];",
        to: "stage[(warp + 7 * c) * 32 + lane] = sums[c];",
        found: "",
    },
];

/// Whether chains equal the CPU's if some units are undecided, if all are, and without a grid; otherwise a message.
fn verdict(program: Program<'_>) -> std::result::Result<(), String> {
    let Program::Source(source) = program else { return Err("expected a source".into()) };
    let forced = forced(source, 7, 1.0);
    let cuda = Cuda::with_program(0, Program::Source(&forced)).map_err(|error| error.to_string())?;
    // When large weights cancel, the order of a sum decides which of the others are lost.
    let cancelling = |x: f32| if x.abs() > 0.97 { 16_777_216_f32.copysign(x) } else { 0.4 * x };
    let weights: [&dyn Fn(f32) -> f32; 3] = [&|x| 0.4 * x, &cancelling, &|x| 5e35 * x];
    for weight in weights {
        let rbm = model(shape(300, 130), 19, weight, |x| x - 1.0);
        let state = start(rbm.shape(), 40, 0.4, 20);
        let found = swept(&cuda.clone().with_sweeps(Sweeps::Grid).into(), &rbm, &state, 2, None);
        if found.map_err(|error| error.to_string())? != swept(&cpu(), &rbm, &state, 2, None).expect("the CPU's chains")
        {
            return Err("a result is not the CPU's".into());
        }
    }
    Ok(())
}

#[test]
fn faults_in_the_kernels_of_the_grid_are_caught() {
    catches("faults_in_the_kernels_of_the_grid_are_caught", "86", FAULTS, &["1"], verdict);
}
