//! The same seed gives the same bits: those of one sequential program, on every instruction set, on any number of threads, for any
//! split of the rows, dense or sparse.

mod oracle;

use harmonium::{
    Activations, Algorithm, ChainState, Chains, Cpu, Dataset, Error, Gradient, Isa, Monitor, Purpose, Rbm, Rows,
    Settings, Shape, Trainer, Uniforms, Values,
};
use oracle::{
    assert_bits, bits, byte_rows,
    canonical::{Canonical, CanonicalTrainer, sample},
    in_pool, random_bits, random_bytes, random_rbm, random_values, rows, shape,
};
use std::process::Command;

const THREADS: [usize; 4] = [1, 2, 3, 8];
const LR: f32 = 0.05;

/// W, b and c.
type Parameters = (Vec<f32>, Vec<f32>, Vec<f32>);

/// A run of training.
#[derive(Clone)]
struct Run {
    shape: Shape,
    data: Dataset,
    batch: usize,
    settings: Settings,
    updates: usize,
}

/// The results of a run.
#[derive(Clone, PartialEq)]
struct Outcome {
    parameters: Parameters,
    hidden: Vec<f32>,
    position: u64,
    monitors: Vec<Option<u64>>,
}

impl Run {
    fn start(&self) -> Rbm {
        random_rbm(self.shape, 2.0 / (self.shape.n_visible() as f64).sqrt(), self.settings.seed)
    }

    /// The rows of update `n`: batch after batch, the last of an epoch short, then from the beginning.
    fn rows(&self, n: usize) -> Rows<'_> {
        let batches = self.data.len().div_ceil(self.batch);
        let first = n % batches * self.batch;
        self.data.rows().range(first..(first + self.batch).min(self.data.len()))
    }

    /// Trains, with a report every 50 updates and at the end.
    fn on(&self, device: &Cpu) -> Outcome {
        let mut rbm = self.start();
        let mut trainer = Trainer::new(device, self.shape, self.settings).expect("trainer");
        let mut lent = rbm.lend(device).expect("lent");
        let mut monitors = Vec::new();
        for n in 0..self.updates {
            trainer.step(&mut lent, self.rows(n), LR).expect("step");
            if n % 50 == 49 || n + 1 == self.updates {
                monitors.push(trainer.take_report().expect("report").monitor.map(f64::to_bits));
            }
        }
        lent.finish().expect("finish");
        let hidden = trainer.chains().hidden().expect("hidden");
        let position = trainer.chains().state().expect("state").uniforms.position();
        Outcome { parameters: rbm.into_parts(), hidden, position, monitors }
    }

    /// The naive program's parameters and chains.
    fn naive(&self) -> (Parameters, Vec<f32>) {
        let mut model = Canonical::of(&self.start());
        let draws = Uniforms::new(self.settings.seed, Purpose::Training);
        let mut trainer = CanonicalTrainer::new(&model, self.settings.algorithm, self.settings.k, &draws);
        for n in 0..self.updates {
            trainer.step(&mut model, &numbers(self.rows(n)), LR);
        }
        ((model.w, model.b, model.c), trainer.hidden)
    }

    /// Compares every instruction set and number of threads with the naive program, and their reports with each other. The portable
    /// set calls a function for each fused multiply-add. Work is split among threads in the same way for all sets, so this one runs
    /// on one and three threads only.
    fn check(&self) {
        let ((w, b, c), hidden) = self.naive();
        let mut monitors = None;
        for isa in Isa::available() {
            let portable = isa.name() == "scalar";
            for threads in THREADS.into_iter().filter(|&threads| !portable || threads % 2 == 1) {
                let what = format!("{:?} {:?}, {}, {threads} threads", self.shape, self.settings, isa.name());
                let found = in_pool(threads, || self.on(&Cpu::with_isa(isa)));
                assert_bits(&found.parameters.0, &w, &format!("{what}: weights"));
                assert_bits(&found.parameters.1, &b, &format!("{what}: visible bias"));
                assert_bits(&found.parameters.2, &c, &format!("{what}: hidden bias"));
                assert_bits(&found.hidden, &hidden, &format!("{what}: chains"));
                assert_eq!(&found.monitors, monitors.get_or_insert(found.monitors.clone()), "{what}: monitor");
            }
        }
    }
}

/// The numbers of the rows.
fn numbers(rows: Rows<'_>) -> Vec<f32> {
    match rows.values() {
        Values::U8(x) => x.iter().map(|&x| f32::from(x) / 255.0).collect(),
        Values::F32(x) => x.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn real(n: usize, units: usize, density: f64, seed: u64) -> Dataset {
    Dataset::from_f32(random_values(n * units, density, seed), units).expect("data")
}

fn bytes(n: usize, units: usize, density: f64, seed: u64) -> Dataset {
    Dataset::from_u8(random_bytes(n * units, density, seed), units).expect("data")
}

const CD: Algorithm = Algorithm::Cd;

fn pcd(n_chains: usize) -> Algorithm {
    Algorithm::Pcd { n_chains }
}

/// 300 updates at a ragged size.
fn run(nv: usize, nh: usize, data: Dataset, algorithm: Algorithm, k: usize, monitor: Monitor) {
    let settings = Settings { algorithm, k, monitor, seed: (nv * 1000 + nh) as u64, ..Settings::default() };
    Run { shape: shape(nv, nh), data, batch: 7, settings, updates: 300 }.check();
}

#[test]
fn pcd_sparse_bytes() {
    run(97, 31, bytes(40, 97, 0.2, 1), pcd(5), 3, Monitor::PseudoLikelihood);
}

#[test]
fn pcd_dense_bytes() {
    run(33, 129, bytes(40, 33, 0.9, 2), pcd(5), 2, Monitor::ExactPseudoLikelihood);
}

#[test]
fn pcd_many_chains() {
    run(65, 31, real(40, 65, 0.4, 3), pcd(23), 1, Monitor::Reconstruction);
}

#[test]
fn pcd_one_chain() {
    run(64, 64, real(40, 64, 1.0, 4), pcd(1), 4, Monitor::None);
}

#[test]
fn cd_sparse_real() {
    run(65, 129, real(40, 65, 0.1, 5), CD, 1, Monitor::Reconstruction);
}

#[test]
fn cd_dense_real() {
    run(97, 31, real(40, 97, 0.8, 6), CD, 3, Monitor::PseudoLikelihood);
}

#[test]
fn cd_bytes() {
    run(33, 31, bytes(40, 33, 0.55, 7), CD, 5, Monitor::ExactPseudoLikelihood);
}

#[test]
fn the_smallest_models() {
    run(1, 1, real(10, 1, 0.7, 8), pcd(3), 2, Monitor::PseudoLikelihood);
    run(1, 130, real(10, 1, 0.7, 9), CD, 1, Monitor::Reconstruction);
    run(130, 1, bytes(10, 130, 0.5, 10), pcd(2), 1, Monitor::ExactPseudoLikelihood);
}

/// More rows and chains than a group.
#[test]
fn many_rows_and_chains() {
    for (algorithm, density, monitor) in [
        (CD, 0.2, Monitor::PseudoLikelihood),
        (CD, 0.8, Monitor::Reconstruction),
        (pcd(131), 0.2, Monitor::Reconstruction),
        (pcd(3), 0.8, Monitor::ExactPseudoLikelihood),
        (pcd(200), 0.8, Monitor::PseudoLikelihood),
    ] {
        let settings = Settings { algorithm, k: 2, monitor, seed: 12, ..Settings::default() };
        let data = bytes(230, 67, density, 12);
        Run { shape: shape(67, 83), data, batch: 150, settings, updates: 2 }.check();
    }
}

/// Images similar to digits: about a fifth of the values is not 0, most of those in the middle, many of them 255.
fn pictures(n: usize) -> Dataset {
    let noise = random_bytes(n * 784, 1.0, 11);
    let value = |(at, x): (usize, u8)| {
        let (row, column) = ((at % 784 / 28) as f64 - 13.5, (at % 28) as f64 - 13.5);
        let turned = row + column * ((at / 784) as f64).sin();
        match turned.abs() < 2.5 && row.abs() < 10.0 && column.abs() < 9.0 {
            true => x.saturating_mul(3),
            false => 0,
        }
    };
    Dataset::from_u8(noise.into_iter().enumerate().map(value).collect(), 784).expect("data")
}

#[test]
fn the_tutorials_shape() {
    // A few updates against the naive program, which is slow.
    for algorithm in [CD, pcd(20)] {
        let settings = Settings { algorithm, k: 2, monitor: Monitor::PseudoLikelihood, seed: 1, ..Settings::default() };
        Run { shape: shape(784, 500), data: pictures(60), batch: 20, settings, updates: 3 }.check();
    }
}

#[test]
fn an_epoch_of_pictures() {
    let settings = Settings::default();
    let run = Run { shape: shape(784, 500), data: pictures(3000), batch: 20, settings, updates: 150 };
    let mut first: Option<Outcome> = None;
    for isa in Isa::available().into_iter().filter(|isa| *isa != Isa::named("scalar").expect("always there")) {
        for threads in THREADS {
            let found = in_pool(threads, || run.on(&Cpu::with_isa(isa)));
            let first = first.get_or_insert(found.clone());
            assert!(found == *first, "{}, {threads} threads", isa.name());
            assert_eq!(found.monitors.len(), 3);
        }
    }
}

/// Conditionals, for every density and number of rows: the choice of a kernel must not change the bits.
#[test]
fn conditionals_at_any_density() {
    for (nv, nh) in [(33, 31), (97, 129), (200, 70)] {
        let rbm = random_rbm(shape(nv, nh), 0.3, 20);
        let model = Canonical::of(&rbm);
        for density in [0.0, 0.02, 0.3, 0.41, 0.43, 0.8, 1.0] {
            for n in [1, 2, 3, 4, 5, 6, 9, 20, 66] {
                let (v, h) = (random_values(n * nv, density, 1), random_bits(n * nh, density, 2));
                let grey = random_bytes(n * nv, density, 3);
                let ones = vec![1.0; n];
                let (up, down) = (model.propup(&v, &ones), model.propdown(&h, &ones));
                let grey_up = model.propup(&numbers(byte_rows(&grey, nv)), &ones);
                for isa in Isa::available() {
                    for threads in [1, 3] {
                        let what =
                            format!("{nv} × {nh}, density {density}, {n} rows, {}, {threads} threads", isa.name());
                        let resident = rbm.on(Cpu::with_isa(isa)).expect("resident");
                        let mut out = Activations::default();
                        in_pool(threads, || {
                            resident.propup(rows(&v, nv), &mut out).expect("propup");
                            assert_bits(&out.pre_activation, &up.pre_activation, &what);
                            assert_bits(&out.mean, &up.mean, &what);
                            assert!(out.sample.is_empty());
                            resident.propup(byte_rows(&grey, nv), &mut out).expect("propup");
                            assert_bits(&out.pre_activation, &grey_up.pre_activation, &what);
                            let mut draws = Uniforms::new(4, Purpose::Sampling);
                            let expected = sample(&down.pre_activation, &mut draws.generator());
                            resident.sample_v_given_h(rows(&h, nh), &mut draws, &mut out).expect("propdown");
                            assert_bits(&out.pre_activation, &down.pre_activation, &what);
                            assert_bits(&out.mean, &down.mean, &what);
                            assert_bits(&out.sample, &expected, &what);
                        });
                    }
                }
            }
        }
    }
}

/// The free energy's gradient: rows in ascending order, each term fma(w·x, P, sum); and the `f64` part.
#[test]
fn the_rest_does_not_depend_on_the_machine() {
    let (nv, nh, n) = (97, 131, 37);
    let rbm = random_rbm(shape(nv, nh), 0.3, 21);
    for density in [0.1, 0.9] {
        let v = random_values(n * nv, density, 22);
        let weights: Vec<f32> = random_values(n, 1.0, 23).iter().map(|w| w - 0.5).collect();
        let mut first = None;
        for isa in Isa::available() {
            for threads in THREADS {
                let found = in_pool(threads, || {
                    let resident = rbm.on(Cpu::with_isa(isa)).expect("resident");
                    let data = rows(&v, nv);
                    let mut gradient = Gradient::zero(rbm.shape());
                    resident.free_energy_gradient(data, &weights, &mut gradient).expect("gradient");
                    let numbers = [
                        resident.free_energy(data).expect("free energy"),
                        resident.pseudo_log_likelihood(data).expect("exact"),
                        resident.pseudo_log_likelihood_of_bit(data, 96).expect("bit"),
                    ];
                    (bits(&gradient.weights), bits(&gradient.visible_bias), bits(&gradient.hidden_bias), numbers)
                });
                let first = first.get_or_insert(found.clone());
                assert!(found == *first, "{}, {threads} threads", isa.name());
            }
        }
    }
}

/// Weights from tiny ones to some that are too large for a product, in a whole model and in single units.
#[test]
fn the_exact_pseudo_likelihood_is_the_sequential_program() {
    for (nv, nh, n, range, seed) in [
        (1, 1, 3, 1.0, 40),
        (33, 31, 5, 0.01, 41),
        (97, 131, 9, 0.4, 42),
        (65, 300, 66, 2.5, 43),
        (20, 500, 3, 19.0, 44),
        (70, 70, 3, 25.0, 45),
        (9, 80, 3, 1000.0, 46),
    ] {
        let rbm = random_rbm(shape(nv, nh), range, seed);
        let model = Canonical::of(&rbm);
        let x = random_bits(n * nv, 0.3, seed);
        let expected: Vec<f64> = x.chunks_exact(nv).map(|x| model.pseudo_log_likelihood(x)).collect();
        for isa in Isa::available() {
            for threads in THREADS {
                let resident = rbm.on(Cpu::with_isa(isa)).expect("resident");
                let found = in_pool(threads, || resident.pseudo_log_likelihood(rows(&x, nv)).expect("PL"));
                assert_eq!(found, expected, "{nv} × {nh}, weights to {range}, {}, {threads} threads", isa.name());
            }
        }
    }
}

/// A row's results do not depend on the rows beside it.
#[test]
fn a_row_is_alone() {
    let (nv, nh, n) = (97, 131, 150);
    let rbm = random_rbm(shape(nv, nh), 0.3, 24);
    let resident = rbm.on(Cpu::detect().expect("cpu")).expect("resident");
    // Rows of different density, so that the kernel differs too.
    let v: Vec<f32> = (0..n).flat_map(|r| random_values(nv, (r % 50) as f64 / 49.0, r as u64)).collect();
    let data = rows(&v, nv);
    let (mut whole, mut part) = (Activations::default(), Activations::default());
    resident.sample_h_given_v(data, &mut Uniforms::new(5, Purpose::Sampling), &mut whole).expect("whole");
    let free = resident.free_energy(data).expect("free energy");
    let (exact, bit) = (
        resident.pseudo_log_likelihood(data).expect("exact"),
        resident.pseudo_log_likelihood_of_bit(data, 50).expect("bit"),
    );
    for size in [1, 7, 64, 100] {
        let mut draws = Uniforms::new(5, Purpose::Sampling);
        for first in (0..n).step_by(size) {
            let some = first..(first + size).min(n);
            let batch = data.range(some.clone());
            resident.sample_h_given_v(batch, &mut draws, &mut part).expect("part");
            let span = some.start * nh..some.end * nh;
            assert_bits(&part.pre_activation, &whole.pre_activation[span.clone()], "pre-activation");
            assert_bits(&part.mean, &whole.mean[span.clone()], "mean");
            assert_bits(&part.sample, &whole.sample[span], "sample");
            assert_eq!(resident.free_energy(batch).expect("free energy"), free[some.clone()]);
            assert_eq!(resident.pseudo_log_likelihood(batch).expect("exact"), exact[some.clone()]);
            assert_eq!(resident.pseudo_log_likelihood_of_bit(batch, 50).expect("bit"), bit[some]);
        }
    }
}

#[test]
fn a_sweep_is_k_steps() {
    for (nv, nh, n) in [(33, 31, 5), (97, 129, 21), (65, 300, 64)] {
        let rbm = random_rbm(shape(nv, nh), 0.4, 25);
        let model = Canonical::of(&rbm);
        for isa in Isa::available() {
            for threads in THREADS {
                in_pool(threads, || {
                    let device = Cpu::with_isa(isa);
                    let resident = rbm.on(device).expect("resident");
                    let mut draws = Uniforms::new(6, Purpose::Training);
                    draws.seek((1 << 40) - 1000);
                    let mut generator = draws.generator();
                    let mut chains = Chains::new(device, rbm.shape(), n, draws.clone()).expect("chains");
                    let (mut visible, mut hidden) = (Activations::default(), Activations::default());
                    let mut h = vec![0.0; n * nh];
                    let mut naive = h.clone();
                    for k in 1..=4 {
                        let mut naive_visible = Activations::default();
                        for _ in 0..k {
                            resident.gibbs_hvh(rows(&h, nh), &mut draws, &mut visible, &mut hidden).expect("hvh");
                            h.clone_from(&hidden.sample);
                            let step = model.hvh(&naive, &vec![1.0; n], &mut generator);
                            (naive_visible, naive) = (step.0, step.1.sample);
                        }
                        chains.sweep(&resident, k).expect("sweep");
                        let mut last = Activations::default();
                        chains.visible(&resident, &mut last).expect("visible");
                        for (found, what) in [(&last, "sweep"), (&visible, "hvh")] {
                            assert_bits(&found.pre_activation, &naive_visible.pre_activation, what);
                            assert_bits(&found.mean, &naive_visible.mean, what);
                            assert_bits(&found.sample, &naive_visible.sample, what);
                        }
                        assert_bits(&chains.hidden().expect("hidden"), &naive, "hidden");
                        assert_bits(&h, &naive, "hvh hidden");
                        assert_eq!(chains.state().expect("state").uniforms, draws);
                    }
                });
            }
        }
    }
}

#[test]
fn tempered_chains_are_the_naive_ones() {
    let (nv, nh, n) = (65, 97, 11);
    let rbm = random_rbm(shape(nv, nh), 0.5, 26);
    let model = Canonical::of(&rbm);
    let betas: Vec<f32> = (0..n).map(|m| m as f32 / 7.0).collect();
    for isa in Isa::available() {
        let device = Cpu::with_isa(isa);
        let draws = Uniforms::new(7, Purpose::Annealing);
        let state = ChainState { hidden: vec![0; 2 * n], betas: betas.clone(), uniforms: draws.clone() };
        let mut chains = Chains::from_state(device, rbm.shape(), &state).expect("chains");
        let resident = rbm.on(device).expect("resident");
        chains.sweep(&resident, 3).expect("sweep");
        let mut generator = draws.generator();
        let (mut h, mut visible, mut found) = (vec![0.0; n * nh], Activations::default(), Activations::default());
        for _ in 0..3 {
            let step = model.hvh(&h, &betas, &mut generator);
            (visible, h) = (step.0, step.1.sample);
        }
        chains.visible(&resident, &mut found).expect("visible");
        assert_bits(&found.pre_activation, &visible.pre_activation, "pre-activation");
        assert_bits(&chains.hidden().expect("hidden"), &h, "hidden");
    }
}

/// New chains with a state that was taken from others continue in the same way.
#[test]
fn chains_go_on_from_their_state() {
    let rbm = random_rbm(shape(65, 130), 0.5, 27);
    let device = Cpu::detect().expect("cpu");
    let resident = rbm.on(device).expect("resident");
    let mut chains = Chains::new(device, rbm.shape(), 9, Uniforms::new(8, Purpose::Sampling)).expect("chains");
    chains.sweep(&resident, 3).expect("sweep");
    let mut other = Chains::from_state(device, rbm.shape(), &chains.state().expect("state")).expect("chains");
    chains.sweep(&resident, 2).expect("sweep");
    other.sweep(&resident, 2).expect("sweep");
    assert_eq!(chains.state(), other.state());
}

#[test]
fn a_step_is_gradient_and_apply() {
    for (algorithm, density) in [(CD, 0.2), (CD, 0.9), (pcd(5), 0.2), (pcd(30), 0.9)] {
        let shape = shape(97, 131);
        let data = random_values(7 * 97, density, 28);
        for isa in Isa::available() {
            for threads in [1, 3] {
                in_pool(threads, || {
                    let device = Cpu::with_isa(isa);
                    let settings =
                        Settings { algorithm, k: 2, monitor: Monitor::None, seed: 28, ..Settings::default() };
                    let (mut one, mut two) = (random_rbm(shape, 0.3, 28), random_rbm(shape, 0.3, 28));
                    let mut first = Trainer::new(device, shape, settings).expect("trainer");
                    let mut second = Trainer::new(device, shape, settings).expect("trainer");
                    let mut gradient = Gradient::zero(shape);
                    let (mut stepped, mut applied) = (one.lend(device).expect("lent"), two.lend(device).expect("lent"));
                    for _ in 0..5 {
                        first.step(&mut stepped, rows(&data, 97), LR).expect("step");
                        second.gradient(&applied, rows(&data, 97), &mut gradient).expect("gradient");
                        applied.apply(&gradient, LR).expect("apply");
                    }
                    drop((stepped, applied));
                    let ((w, b, c), (x, y, z)) = (one.into_parts(), two.into_parts());
                    assert_bits(&w, &x, "weights");
                    assert_bits(&b, &y, "visible bias");
                    assert_bits(&c, &z, "hidden bias");
                });
            }
        }
    }
}

/// The gradient itself, not only the trained parameters.
#[test]
fn the_gradient_is_the_naive_one() {
    for (algorithm, density) in [(CD, 0.2), (CD, 0.9), (pcd(5), 0.2), (pcd(30), 0.9)] {
        let rbm = random_rbm(shape(97, 131), 0.3, 29);
        let model = Canonical::of(&rbm);
        let data = random_values(7 * 97, density, 29);
        let settings = Settings { algorithm, k: 3, monitor: Monitor::Reconstruction, seed: 29, ..Settings::default() };
        for isa in Isa::available() {
            let device = Cpu::with_isa(isa);
            let mut naive = CanonicalTrainer::new(&model, algorithm, 3, &Uniforms::new(29, Purpose::Training));
            let mut trainer = Trainer::new(device, rbm.shape(), settings).expect("trainer");
            let resident = rbm.on(device).expect("resident");
            let (mut gradient, mut visible) = (Gradient::zero(rbm.shape()), Activations::default());
            for _ in 0..3 {
                let expected = naive.gradient(&model, &data);
                trainer.gradient(&resident, rows(&data, 97), &mut gradient).expect("gradient");
                assert_bits(&gradient.weights, &expected.weights, "weights");
                assert_bits(&gradient.visible_bias, &expected.visible_bias, "visible bias");
                assert_bits(&gradient.hidden_bias, &expected.hidden_bias, "hidden bias");
                trainer.chains().visible(&resident, &mut visible).expect("visible");
                assert_bits(&visible.pre_activation, &naive.visible.pre_activation, "visible pre-activation");
                assert_bits(&visible.mean, &naive.visible.mean, "visible mean");
                assert_bits(&visible.sample, &naive.visible.sample, "visible sample");
            }
        }
    }
}

/// Holds in any environment; [`the_environment_forces_an_instruction_set`] runs it in several.
#[test]
fn detection_obeys_the_environment() {
    let expected = match std::env::var("HARMONIUM_ISA") {
        Ok(name) => Isa::available()
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or(Error::Isa { what: "HARMONIUM_ISA", name }),
        Err(_) => Ok(*Isa::available().last().expect("at least scalar")),
    };
    assert_eq!(Isa::detect(), expected);
    assert_eq!(Cpu::detect().err(), expected.err());
}

#[test]
fn the_environment_forces_an_instruction_set() {
    let known = ["scalar", "avx2", "avx512"];
    assert!(Isa::available().iter().all(|isa| known.contains(&isa.name())) && Isa::available()[0].name() == "scalar");
    for name in known.into_iter().chain(["sse9", "", "AVX2"]) {
        let here = Isa::available().iter().any(|isa| isa.name() == name);
        match Isa::named(name) {
            Ok(isa) => assert!(here && isa.name() == name),
            Err(error) => {
                assert!(
                    !here
                        && error == Error::Isa { what: "instruction set", name: name.into() }
                        && error.to_string().contains(name)
                )
            }
        }
        let output = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "detection_obeys_the_environment"])
            .env("HARMONIUM_ISA", name)
            .output()
            .expect("this test, run again");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "HARMONIUM_ISA={name}: {text}");
    }
}
