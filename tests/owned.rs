//! Everything that trains can be owned: stored in a struct, moved between threads, and stopped and queried at any time.

mod oracle;

use harmonium::{
    Activations, Algorithm, BatchMeans, Chains, Cpu, Data, Dataset, Device, Error, Gradient, Monitor, Place, Purpose,
    Rbm, Resident, Result, Settings, Sums, Trainer, Uniforms,
    log_partition::{Annealing, BaseRate, Schedule, Start, reverse_ais},
};
use oracle::{assert_bits, for_each_device, is_canonical, random_bytes, random_rbm, rows, shape};

/// The state of a program with an interface of its own: device, data, model and trainer in one struct.
struct Estimator {
    device: Device,
    data: Data<'static>,
    rbm: Resident,
    trainer: Trainer,
    batch_size: usize,
}

impl Estimator {
    fn new(device: &Device, data: Dataset, n_hidden: usize, settings: Settings) -> Result<Self> {
        let shape = harmonium::Shape::new(data.units(), n_hidden)?;
        Ok(Self {
            device: device.clone(),
            data: device.load_owned(data)?,
            rbm: Rbm::new(shape, settings.seed).on(device)?,
            trainer: Trainer::new(device, shape, settings)?,
            batch_size: 10,
        })
    }

    /// Trains for an epoch and returns its monitor.
    fn fit(&mut self, lr: f32) -> Result<Option<f64>> {
        for first in (0..self.data.len()).step_by(self.batch_size) {
            self.trainer.step(&mut self.rbm, self.data.range(first..first + self.batch_size), lr)?;
        }
        Ok(self.trainer.take_report()?.monitor)
    }

    /// The mean activations of all rows, as the data of another estimator.
    fn transform(&self) -> Result<Dataset> {
        let mut hidden = Activations::default();
        self.rbm.propup(self.data.all(), &mut hidden)?;
        Dataset::from_f32(hidden.mean, self.rbm.shape().n_hidden())
    }
}

fn settings(algorithm: Algorithm, seed: u64) -> Settings {
    Settings { algorithm, k: 2, monitor: Monitor::PseudoLikelihood, seed, ..Settings::default() }
}

fn data(units: usize, seed: u64) -> Dataset {
    Dataset::from_u8(random_bytes(50 * units, 0.3, seed), units).expect("rows")
}

for_each_device! {
    /// A loan on one thread and an estimator that moves to another thread after every epoch learn the same.
    fn an_estimator_moves_between_threads(device) {
        let settings = settings(Algorithm::Pcd { n_chains: 7 }, 3);
        let mut estimator = Estimator::new(&device, data(60, 1), 33, settings).expect("an estimator");
        let mut monitors = Vec::new();
        for _ in 0..3 {
            let trained = std::thread::spawn(move || {
                let monitor = estimator.fit(0.1).expect("an epoch");
                (estimator, monitor)
            });
            let (moved, monitor) = trained.join().expect("no panic");
            estimator = moved;
            monitors.push(monitor);
        }
        let (mut rbm, rows) = (Rbm::new(shape(60, 33), 3), data(60, 1));
        let mut trainer = Trainer::new(&device, rbm.shape(), settings).expect("a trainer");
        let mut lent = rbm.lend(&device).expect("a loan");
        for monitor in monitors {
            for batch in rows.batches(10) {
                trainer.step(&mut lent, rows.rows().range(batch), 0.1).expect("a step");
            }
            assert_eq!(trainer.take_report().expect("a report").monitor, monitor);
        }
        lent.finish().expect("finished");
        assert_eq!(estimator.rbm.to_rbm().expect("a copy"), rbm);
        assert_eq!(estimator.device, device);
    }

    /// The three layers of a stack are trained in turn, repeatedly, each on the others' activations.
    fn a_stack_is_trained_in_turns(device) {
        let mut input = data(40, 5);
        let mut layers = Vec::new();
        for (n, n_hidden) in [30, 20, 10].into_iter().enumerate() {
            let layer = Estimator::new(&device, input, n_hidden, settings(Algorithm::Cd, n as u64)).expect("a layer");
            input = layer.transform().expect("means");
            layers.push(layer);
        }
        let before: Vec<Rbm> = layers.iter().map(|layer| layer.rbm.to_rbm().expect("a copy")).collect();
        for _ in 0..2 {
            for n in 0..layers.len() {
                layers[n].fit(0.1).expect("an epoch");
                let means = layers[n].transform().expect("means");
                if let Some(above) = layers.get_mut(n + 1) {
                    above.data = above.device.load_owned(means).expect("data");
                }
            }
        }
        for (layer, before) in layers.iter().zip(&before) {
            assert!(layer.rbm.to_rbm().expect("a copy") != *before);
        }
    }

    /// A custom rule of descent: the plain one equals `step` to the bit, and the means are those of the batch.
    fn gradient_and_apply_are_a_step(device) {
        for algorithm in [Algorithm::Cd, Algorithm::Pcd { n_chains: 13 }] {
            let (nv, nh, n) = (97, 130, 21);
            let x = oracle::random_values(n * nv, 0.4, 8);
            let settings = settings(algorithm, 8);
            let mut one = random_rbm(shape(nv, nh), 0.3, 8).on(&device).expect("resident");
            let mut other = one.clone();
            let mut stepping = Trainer::new(&device, one.shape(), settings).expect("a trainer");
            let mut ruling = Trainer::new(&device, one.shape(), settings).expect("a trainer");
            let (mut gradient, mut means) = (Gradient::zero(one.shape()), BatchMeans::default());
            let mut hidden = Activations::default();
            for lr in [0.1, 0.05, -0.02] {
                other.propup(rows(&x, nv), &mut hidden).expect("means");
                stepping.step(&mut one, rows(&x, nv), lr).expect("a step");
                ruling.gradient_and_means(&other, rows(&x, nv), &mut gradient, &mut means).expect("a gradient");
                other.apply(&gradient, lr).expect("applied");
                for (found, values) in [(&means.visible, &x), (&means.hidden, &hidden.mean)] {
                    let units = values.len() / n;
                    assert_eq!(found.len(), units);
                    for (j, &found) in found.iter().enumerate() {
                        let mean = values.iter().skip(j).step_by(units).map(|&x| f64::from(x)).sum::<f64>() / n as f64;
                        // n additions, a division and a multiplication of `f32`, and the difference of a matrix library's sums.
                        assert!((f64::from(found) - mean).abs() <= (2 * n) as f64 * 6e-8 * mean, "{j}: {found} {mean}");
                    }
                }
            }
            let (one, other) = (one.to_rbm().expect("a copy"), other.to_rbm().expect("a copy"));
            if is_canonical(&device) {
                assert_bits(one.view().weights(), other.view().weights(), "weights");
                assert_bits(one.view().visible_bias(), other.view().visible_bias(), "visible bias");
                assert_bits(one.view().hidden_bias(), other.view().hidden_bias(), "hidden bias");
            }
        }
    }

    /// Reading changes nothing, and only `take_report` starts a new interval.
    fn reports_and_states_by_reference(device) {
        let rows = data(20, 4);
        let mut estimator = Estimator::new(&device, data(20, 4), 9, settings(Algorithm::Cd, 4)).expect("an estimator");
        let mut sum = 0.0;
        for (n, batch) in rows.batches(10).enumerate() {
            let Estimator { trainer, rbm, .. } = &mut estimator;
            let bit = n % 20;
            let before = rbm.pseudo_log_likelihood_of_bit(rows.rows().range(batch.clone()), bit).expect("PL");
            sum += before.iter().sum::<f64>() / 10.0;
            trainer.step(rbm, rows.rows().range(batch), 0.1).expect("a step");
            let report = trainer.report().expect("a report");
            assert_eq!((report.updates, report.since_last), (n as u64 + 1, n as u64 + 1));
            let mean = report.monitor.expect("a monitor");
            assert!((mean - sum / (n + 1) as f64).abs() <= 1e-4 * mean.abs(), "{mean} {sum}");
            assert_eq!(trainer.state().expect("a state"), trainer.state().expect("a state"));
        }
        let trainer = &mut estimator.trainer;
        assert_eq!(trainer.report().expect("a report"), trainer.take_report().expect("a report"));
        let next = trainer.report().expect("a report");
        assert_eq!((next.since_last, next.monitor), (0, None));
    }

    /// k, lr and the monitor change from step to step.
    fn settings_change_between_steps(device) {
        let rows = data(20, 6);
        let changed = |k: usize, monitor: Monitor| Settings { k, monitor, ..settings(Algorithm::Cd, 6) };
        let mut rbm = Rbm::new(shape(20, 9), 6).on(&device).expect("resident");
        let mut trainer = Trainer::new(&device, rbm.shape(), changed(1, Monitor::PseudoLikelihood)).expect("a trainer");
        trainer.step(&mut rbm, rows.rows(), 0.1).expect("a step");
        let (mut expected, state) = (rbm.clone(), trainer.state().expect("a state"));
        trainer.set_k(3).expect("k");
        trainer.set_monitor(Monitor::Reconstruction).expect("a monitor");
        assert_eq!(trainer.settings(), changed(3, Monitor::Reconstruction));
        trainer.step(&mut rbm, rows.rows(), 0.05).expect("a step");
        let report = trainer.report().expect("a report");
        assert_eq!((report.updates, report.since_last), (2, 1));
        // The same through the state, without the previous values of the monitor.
        let mut state = state;
        (state.watched, state.reported) = (0.0, 1);
        let settings = changed(3, Monitor::Reconstruction);
        let mut other = Trainer::from_state(&device, rbm.shape(), settings, &state).expect("a trainer");
        other.step(&mut expected, rows.rows(), 0.05).expect("a step");
        assert_eq!(rbm.to_rbm().expect("a copy"), expected.to_rbm().expect("a copy"));
        assert_eq!(other.report().expect("a report"), report);
        assert_eq!(trainer.set_k(0).expect_err("no steps").to_string(), "k: expected at least 1, found 0");
    }
}

/// Objects of two devices do not work together, for any kinds.
#[test]
fn devices_are_not_mixed() {
    let cpu = Cpu::detect().expect("a CPU");
    let gemm = oracle::gemm();
    let shape = shape(6, 4);
    let (mut here, there) =
        (Rbm::new(shape, 1).on(cpu).expect("resident"), Rbm::new(shape, 1).on(&gemm).expect("resident"));
    let draws = || Uniforms::new(1, Purpose::Sampling);
    let mut chains = Chains::new(&gemm, shape, 3, draws()).expect("chains");
    let mut trainer = Trainer::new(&gemm, shape, Settings::default()).expect("a trainer");
    let x = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0];
    let mut gradient = Gradient::zero(shape);
    let annealing = Annealing { runs: 3, schedule: Schedule::new(5).expect("steps"), burn_in: 1, seed: 1 };
    let isa = cpu.isa();
    for (what, error) in [
        ("chains", chains.sweep(&here, 1).expect_err("another device")),
        ("chains", chains.visible(&here, &mut Activations::default()).expect_err("another device")),
        ("trainer", trainer.step(&mut here, rows(&x, 6), 0.1).expect_err("another device")),
        ("trainer", trainer.gradient(&here, rows(&x, 6), &mut gradient).expect_err("another device")),
        (
            "chains",
            reverse_ais(&here, &BaseRate::uniform(6), Start::Chains(&chains), &annealing).expect_err("another device"),
        ),
    ] {
        let (expected, found) = (format!("the CPU ({isa}, canonical sums)"), format!("the CPU ({isa}, gemm sums)"));
        assert_eq!(error, Error::Device { what, expected, found });
    }
    let error = trainer.step(&mut here, rows(&x, 6), 0.1).expect_err("another device");
    assert_eq!(
        error.to_string(),
        format!("trainer: expected on the CPU ({isa}, canonical sums), found on the CPU ({isa}, gemm sums)")
    );
    chains.sweep(&there, 1).expect("one device");
}

/// A device by name, for programs with an option for it.
#[test]
fn places_open_devices() {
    let place: Place = "cpu".parse().expect("a place");
    assert_eq!((place, place.to_string()), (Place::Cpu, "cpu".into()));
    assert_eq!(place.open(Sums::Canonical), Cpu::detect().map(Device::from));
    assert_eq!(place.open(Sums::Gemm).map(|device| device.sums()), Ok(Sums::Gemm));
    assert_eq!(place.open(Sums::Auto).map(|device| device.sums()), Ok(Sums::Canonical));
    let error = place.open(Sums::GemmTf32).expect_err("only a GPU has it").to_string();
    assert_eq!(error, "sums: expected canonical, gemm or auto on the CPU, found gemm-tf32");
    let expected = if cfg!(feature = "cuda") { "cpu, cuda or cuda:N" } else { "cpu" };
    assert_eq!(
        "gpu".parse::<Place>().expect_err("unknown").to_string(),
        format!("device: expected {expected}, found gpu")
    );
    for sums in Sums::ALL {
        assert_eq!(sums.to_string().parse(), Ok(*sums));
    }
}
