//! Objects of two devices are never used together: two GPUs, two handles of one GPU, other sums, a GPU and the CPU. Rows in host
//! memory work with all of them.
#![cfg(feature = "cuda")]

mod oracle;

use harmonium::{
    Activations, Algorithm, BatchMeans, Chains, Cpu, Cuda, Data, Device, Error, Gradient, Monitor, Purpose, Rbm,
    Resident, Result, Settings, Shape, Sums, Trainer, Uniforms, diagnostics,
    diagnostics::Recorder,
    likelihood, log_partition,
    log_partition::{Annealing, BaseRate, Schedule, Start},
};
use oracle::{
    byte_rows,
    device::{apart, cuda, is_emulated, task},
    random_bytes, random_rbm, shape,
};

/// As many visible units as hidden ones, so that rows fit either layer.
const UNITS: usize = 6;
const ROWS: usize = 4;

fn square() -> Shape {
    shape(UNITS, UNITS)
}

fn bytes() -> Vec<u8> {
    random_bytes(ROWS * UNITS, 0.5, 1)
}

/// One object of each kind.
struct Kit<'a> {
    device: Device,
    resident: Resident,
    chains: Chains,
    trainer: Trainer,
    data: Data<'a>,
}

impl<'a> Kit<'a> {
    fn new(device: Device, bytes: &'a [u8]) -> Self {
        let settings = Settings {
            algorithm: Algorithm::Pcd { n_chains: 3 },
            k: 1,
            monitor: Monitor::PseudoLikelihood,
            seed: 1,
            ..Settings::default()
        };
        let resident = random_rbm(square(), 0.5, 2).on(&device).expect("resident");
        let mut chains = Chains::new(&device, square(), 3, Uniforms::new(3, Purpose::Sampling)).expect("chains");
        chains.sweep(&resident, 1).expect("a sweep");
        let trainer = Trainer::new(&device, square(), settings).expect("a trainer");
        let data = device.load(byte_rows(bytes, UNITS)).expect("data");
        Self { device, resident, chains, trainer, data }
    }
}

/// Every call with an RBM of one kit and rows of another.
fn with_rows(rbm: &mut Resident, trainer: &mut Trainer, rows: &Data<'_>) -> Vec<(&'static str, Result<()>)> {
    let (draws, batch) = (&mut Uniforms::new(4, Purpose::Sampling), rows.all());
    let (mut out, mut other) = (Activations::default(), Activations::default());
    let mut gradient = Gradient::zero(square());
    let log_z = log_partition::exact::log_partition(Rbm::new(square(), 1).view()).expect("log Z");
    vec![
        ("propup", rbm.propup(batch, &mut out)),
        ("propdown", rbm.propdown(batch, &mut out)),
        ("sample_h_given_v", rbm.sample_h_given_v(batch, draws, &mut out)),
        ("sample_v_given_h", rbm.sample_v_given_h(batch, draws, &mut out)),
        ("gibbs_hvh", rbm.gibbs_hvh(batch, draws, &mut other, &mut out)),
        ("gibbs_vhv", rbm.gibbs_vhv(batch, draws, &mut other, &mut out)),
        ("free_energy", rbm.free_energy(batch).map(drop)),
        ("free_energy_gradient", rbm.free_energy_gradient(batch, &[1.0; ROWS], &mut gradient)),
        ("pseudo_log_likelihood", rbm.pseudo_log_likelihood(batch).map(drop)),
        ("pseudo_log_likelihood_of_bit", rbm.pseudo_log_likelihood_of_bit(batch, 0).map(drop)),
        ("log_likelihoods", likelihood::log_likelihoods(rbm, batch, &log_z).map(drop)),
        ("free_energy_gap", likelihood::free_energy_gap(rbm, batch, batch).map(drop)),
        ("from_visible", Chains::from_visible(rbm, batch, draws.clone()).map(drop)),
        ("start at rows", bracket(rbm, Start::Rows(batch))),
        ("gradient", trainer.gradient(rbm, batch, &mut gradient)),
        ("gradient_and_means", trainer.gradient_and_means(rbm, batch, &mut gradient, &mut BatchMeans::default())),
        ("step", trainer.step(rbm, batch, 0.1)),
    ]
}

/// Every call with an RBM and rows of one kit and chains of another.
fn with_chains(rbm: &Resident, chains: &mut Chains, rows: &Data<'_>) -> Vec<(&'static str, Result<()>)> {
    let draws = Uniforms::new(5, Purpose::Diagnosis);
    let mut recorder = Recorder::new(rbm, chains, 2);
    vec![
        ("visible", chains.visible(rbm, &mut Activations::default())),
        ("record", recorder.record(rbm, chains)),
        ("equilibrium_gap", diagnostics::equilibrium_gap(rbm, chains, rows.all(), 1, draws.clone()).map(drop)),
        ("check_up", diagnostics::check_up(rbm, chains, rows.all(), 4, draws, 0).map(drop)),
        ("start at chains", bracket(rbm, Start::Chains(chains))),
        ("sweep", chains.sweep(rbm, 1)),
    ]
}

/// Every call with an RBM and rows of one kit and the trainer of another.
fn with_trainer(rbm: &mut Resident, trainer: &mut Trainer, rows: &Data<'_>) -> Vec<(&'static str, Result<()>)> {
    let (batch, mut gradient) = (rows.all(), Gradient::zero(square()));
    vec![
        ("gradient", trainer.gradient(rbm, batch, &mut gradient)),
        ("gradient_and_means", trainer.gradient_and_means(rbm, batch, &mut gradient, &mut BatchMeans::default())),
        ("step", trainer.step(rbm, batch, 0.1)),
    ]
}

fn bracket(rbm: &Resident, start: Start<'_>) -> Result<()> {
    let settings = Annealing { runs: 2, schedule: Schedule::new(2)?, burn_in: 1, ..Annealing::default() };
    log_partition::bracket(rbm, &BaseRate::uniform(UNITS), start, &settings).map(drop)
}

#[track_caller]
fn assert_refused(answers: Vec<(&'static str, Result<()>)>, expected: &Device, found: &Device) {
    for (call, answer) in answers {
        match answer {
            Err(Error::Device { expected: e, found: f, .. }) => {
                assert_eq!((e, f), (expected.to_string(), found.to_string()), "{call}");
            }
            other => panic!("{call}: {found} on {expected}: {other:?}"),
        }
    }
}

#[test]
fn objects_of_two_devices_are_refused() {
    let test = "objects_of_two_devices_are_refused";
    let Some(found) = cuda() else { return };
    if is_emulated(&found) && task().is_none() {
        let (ended_well, output) = apart(test, "", &[("HARMONIUM_EMULATOR_DEVICES", "2")]);
        assert!(ended_well, "{output}");
        return;
    }
    let first = Cuda::new(0).expect("a device");
    let auto = first.clone().with_sums(Sums::Auto).expect("cuBLAS");
    let mut devices: Vec<Device> = vec![
        first.clone().into(),
        Cpu::detect().expect("a CPU").into(),
        Cuda::new(0).expect("another handle of it").into(),
        auto.into(),
    ];
    match Cuda::new(1) {
        Ok(second) => devices.push(second.into()),
        // There may be only one GPU.
        Err(error) => assert!(task().is_none(), "another device: {error}"),
    }
    // A clone is the same device. Any two other devices differ in their names as well.
    assert_eq!(devices[0], first.into());
    for (n, a) in devices.iter().enumerate() {
        for b in &devices[..n] {
            assert_ne!(a, b);
            assert_ne!(a.to_string(), b.to_string());
        }
    }
    let bytes = bytes();
    for of_rbm in &devices {
        for of_others in devices.iter().filter(|device| *device != of_rbm) {
            let [mut a, mut b] = [of_rbm, of_others].map(|device| Kit::new(device.clone(), &bytes));
            let before = (a.trainer.state().expect("state"), b.trainer.state().expect("state"), a.resident.to_rbm());
            assert_refused(with_chains(&a.resident, &mut b.chains, &a.data), &a.device, &b.device);
            assert_refused(with_trainer(&mut a.resident, &mut b.trainer, &a.data), &a.device, &b.device);
            assert_refused(with_trainer(&mut a.resident, &mut b.trainer, &b.data), &a.device, &b.device);
            if let Device::Cuda(_) = of_others {
                let answers = with_rows(&mut a.resident, &mut a.trainer, &b.data);
                assert_refused(answers, &a.device, &b.device);
            }
            let after = (a.trainer.state().expect("state"), b.trainer.state().expect("state"), a.resident.to_rbm());
            assert_eq!(after, before, "a refused call moves nothing");
            if let Device::Cpu(_) = of_others {
                // Rows of the host work with any device: they are copied for the call.
                let answers = with_rows(&mut a.resident, &mut a.trainer, &b.data);
                assert!(answers.iter().all(|(_, answer)| answer.is_ok()), "{answers:?}");
            }
        }
    }
}

/// Rows of the host give the CPU's bits, with and without loading.
#[test]
fn rows_of_the_host() {
    fn ask(device: &Device, load: bool) -> (Rbm, Vec<f64>, Vec<f32>, BatchMeans) {
        let bytes = bytes();
        let (rows, mut kit) = (byte_rows(&bytes, UNITS), Kit::new(device.clone(), &bytes));
        let mut hidden = Activations::default();
        let (mut gradient, mut means) = (Gradient::zero(square()), BatchMeans::default());
        // Twice, so that a graph is replayed with rows at another address.
        for _ in 0..2 {
            let half = if load { kit.data.range(2..4) } else { rows.range(2..4).into() };
            kit.trainer.step(&mut kit.resident, half, 0.1).expect("a step");
        }
        let all = if load { kit.data.all() } else { rows.into() };
        kit.resident.propup(all, &mut hidden).expect("propup");
        kit.trainer.gradient_and_means(&kit.resident, all, &mut gradient, &mut means).expect("a gradient");
        let free_energies = kit.resident.free_energy(all).expect("F");
        (kit.resident.to_rbm().expect("a copy"), free_energies, hidden.mean, means)
    }
    let Some(cuda) = cuda() else { return };
    let expected = ask(&Cpu::detect().expect("a CPU").into(), false);
    for load in [false, true] {
        assert_eq!(ask(&cuda.clone().into(), load), expected, "loaded: {load}");
    }
}

/// Data on a device do not borrow from the host: they move to another thread after the rows are dropped.
#[test]
fn data_outlives_the_rows() {
    let Some(cuda) = cuda() else { return };
    let resident = random_rbm(square(), 0.5, 2).on(&cuda).expect("resident");
    let data: Data<'static> = {
        let bytes = bytes();
        cuda.load(byte_rows(&bytes, UNITS)).expect("data")
    };
    let found =
        std::thread::spawn(move || resident.free_energy(data.range(1..3)).expect("F")).join().expect("a thread");
    let cpu = random_rbm(square(), 0.5, 2).on(Cpu::detect().expect("a CPU")).expect("resident");
    assert_eq!(found, cpu.free_energy(byte_rows(&bytes(), UNITS).range(1..3)).expect("F"));
}
