//! Properties that hold for any model and data, in the spirit of scikit-learn's checks of estimators.

mod oracle;

use harmonium::{
    Activations, Algorithm, Batch, Chains, Checkpoint, Cpu, Data, Dataset, Device, Error, Gradient, Lent, Monitor,
    Purpose, Rbm, RbmMut, RbmRef, Resident, Rows, Settings, Trainer, TrainerState, Uniforms, model,
};
use oracle::{
    assert_bits, bits, byte_rows, exact, for_each_device, is_canonical, random_bytes, random_rbm, random_values, rows,
    shape,
};

const NV: usize = 37;
const NH: usize = 21;
const ROWS: usize = 13;

/// Equal to the bit with canonical sums; otherwise up to rounding.
#[track_caller]
fn assert_same(canonical: bool, found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        let near = if canonical { a.to_bits() == b.to_bits() } else { (a - b).abs() <= 1e-4 * (1.0 + b.abs()) };
        assert!(near, "{what}: found {a}, expected {b}");
    }
}

fn settings(algorithm: Algorithm) -> Settings {
    Settings { algorithm, k: 2, monitor: Monitor::PseudoLikelihood, seed: 5, ..Settings::default() }
}

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Cd, Algorithm::Pcd { n_chains: 6 }];

for_each_device! {
    fn inputs_are_never_modified(device) {
        let rbm = random_rbm(shape(NV, NH), 0.5, 1);
        let values = random_values(ROWS * NV, 0.4, 2);
        let (rbm_before, values_before) = (rbm.clone(), values.clone());
        let resident = rbm.on(&device).expect("resident");
        let data = device.load(rows(&values, NV)).expect("data");
        let batch = data.range(0..ROWS);
        let mut draws = Uniforms::new(1, Purpose::Sampling);
        let (mut hidden, mut visible) = (Activations::default(), Activations::default());
        resident.propup(batch, &mut hidden).expect("propup");
        resident.gibbs_vhv(batch, &mut draws, &mut hidden, &mut visible).expect("vhv");
        resident.free_energy(batch).expect("F");
        resident.pseudo_log_likelihood(batch).expect("PL");
        resident.free_energy_gradient(batch, &[1.0; ROWS], &mut Gradient::zero(shape(NV, NH))).expect("gradient");
        Chains::from_visible(&resident, batch, draws).expect("chains").sweep(&resident, 2).expect("a sweep");
        let mut trainer = Trainer::new(&device, shape(NV, NH), settings(Algorithm::Cd)).expect("a trainer");
        let mut gradient = Gradient::zero(shape(NV, NH));
        trainer.gradient(&resident, batch, &mut gradient).expect("a gradient");
        let mut copy = rbm.clone();
        trainer.step(&mut copy.lend(&device).expect("lent"), batch, 0.1).expect("a step");
        assert_eq!(bits(&values), bits(&values_before));
        assert_eq!(resident.to_rbm().expect("a copy"), rbm_before);
        assert_eq!(rbm, rbm_before);
        assert_ne!(copy, rbm_before);
    }

    fn the_same_seed_twice_is_the_same(device) {
        let bytes = random_bytes(ROWS * NV, 0.4, 3);
        let data = device.load(byte_rows(&bytes, NV)).expect("data");
        for algorithm in ALGORITHMS {
            let run = || {
                let mut rbm = Rbm::new(shape(NV, NH), 4);
                let mut trainer = Trainer::new(&device, shape(NV, NH), settings(algorithm)).expect("a trainer");
                let mut lent = rbm.lend(&device).expect("lent");
                for _ in 0..9 {
                    trainer.step(&mut lent, data.range(0..ROWS), 0.1).expect("a step");
                }
                lent.finish().expect("finished");
                (rbm, trainer.state().expect("a state"))
            };
            assert_eq!(run(), run());
        }
    }

    fn the_order_of_rows_does_not_matter(device) {
        let resident = random_rbm(shape(NV, NH), 0.5, 5).on(&device).expect("resident");
        let values = random_values(ROWS * NV, 0.4, 6);
        let backwards: Vec<f32> = values.chunks_exact(NV).rev().flatten().copied().collect();
        let both = |values: &[f32]| {
            let data = device.load(rows(values, NV)).expect("data");
            let v = || data.range(0..ROWS);
            [resident.free_energy(v()).expect("F"), resident.pseudo_log_likelihood(v()).expect("PL")]
        };
        for (mut found, expected) in both(&backwards).into_iter().zip(both(&values)) {
            found.reverse();
            assert_same(is_canonical(&device), &found, &expected, "backwards");
        }
    }

    fn the_split_into_batches_does_not_matter(device) {
        let resident = random_rbm(shape(NV, NH), 0.5, 7).on(&device).expect("resident");
        let values = random_values(ROWS * NV, 0.4, 8);
        let data = device.load(rows(&values, NV)).expect("data");
        let all = data.range(0..ROWS);
        for size in [1, 2, 5, 12] {
            let some = |first: usize| data.range(first..ROWS.min(first + size));
            let starts = || (0..ROWS).step_by(size).map(some);
            let energies: Vec<f64> = starts().flat_map(|part| resident.free_energy(part).expect("F")).collect();
            assert_same(is_canonical(&device), &energies, &resident.free_energy(all).expect("F"), "in parts");
            let likelihoods: Vec<f64> =
                starts().flat_map(|part| resident.pseudo_log_likelihood(part).expect("PL")).collect();
            let expected = resident.pseudo_log_likelihood(all).expect("PL");
            assert_same(is_canonical(&device), &likelihoods, &expected, "in parts");
            let (mut whole, mut part) = (Activations::default(), Activations::default());
            resident.propup(all, &mut whole).expect("propup");
            let found = starts().flat_map(|rows| {
                resident.propup(rows, &mut part).expect("propup");
                part.mean.clone()
            });
            let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let found: Vec<f32> = found.collect();
            assert_same(is_canonical(&device), &wide(&found), &wide(&whole.mean), "means in parts");
            // Draws as well: each row has its own.
            let mut draws = Uniforms::new(9, Purpose::Sampling);
            let mut again = draws.clone();
            resident.sample_h_given_v(all, &mut draws, &mut whole).expect("samples");
            let found: Vec<f32> = starts().flat_map(|rows| {
                resident.sample_h_given_v(rows, &mut again, &mut part).expect("samples");
                part.sample.clone()
            }).collect();
            if is_canonical(&device) {
                assert_bits(&found, &whole.sample, "samples in parts");
            }
            assert_eq!(draws, again);
        }
    }

    fn one_row_and_one_unit(device) {
        for (nv, nh, n) in [(1, 1, 1), (1, 1, 5), (1, 70, 1), (70, 1, 1), (NV, NH, 1)] {
            let rbm = random_rbm(shape(nv, nh), 1.0, 10);
            let model = exact::Exact::of(&rbm);
            let values = random_values(n * nv, 0.7, 11);
            let resident = rbm.on(&device).expect("resident");
            let data = device.load(rows(&values, nv)).expect("data");
            let batch = data.range(0..n);
            let found = resident.free_energy(batch).expect("F");
            for (f, v) in found.iter().zip(exact::rows_f64(&values, nv)) {
                assert!((f - model.free_energy(&v)).abs() < 1e-4 * (1.0 + f.abs()), "{nv} × {nh}");
            }
            for algorithm in [Algorithm::Cd, Algorithm::Pcd { n_chains: 1 }] {
                for monitor in [Monitor::PseudoLikelihood, Monitor::ExactPseudoLikelihood, Monitor::Reconstruction] {
                    let mut rbm = rbm.clone();
                    let settings = Settings { monitor, ..settings(algorithm) };
                    let mut trainer = Trainer::new(&device, shape(nv, nh), settings).expect("a trainer");
                    let mut lent = rbm.lend(&device).expect("lent");
                    (0..3).for_each(|_| trainer.step(&mut lent, batch, 0.1).expect("a step"));
                    let report = trainer.take_report().expect("a report");
                    assert!(report.monitor.is_some_and(|x| x <= 0.0 && x.is_finite()), "{report:?}");
                    lent.finish().expect("finished");
                    rbm.view().check_finite().expect("finite");
                }
            }
        }
    }

    fn what_is_saved_and_loaded_is_the_same(device) {
        let rbm = random_rbm(shape(NV, NH), 0.5, 12);
        let loaded = model::from_bytes(&model::to_bytes(rbm.view()).expect("bytes"), "x").expect("a model");
        assert_eq!(loaded, rbm);
        let values = random_values(ROWS * NV, 0.4, 13);
        let data = device.load(rows(&values, NV)).expect("data");
        let batch = data.range(0..ROWS);
        let f = |rbm: &Rbm| rbm.on(&device).expect("resident").free_energy(batch).expect("F");
        assert_same(true, &f(&loaded), &f(&rbm), "loaded");
    }

    fn clones_are_independent(device) {
        let values = random_values(ROWS * NV, 0.4, 14);
        let rbm = random_rbm(shape(NV, NH), 0.5, 15);
        let resident = rbm.on(&device).expect("resident");
        let data = device.load(rows(&values, NV)).expect("data");
        let batch = data.range(0..ROWS);
        let draws = Uniforms::new(1, Purpose::Sampling);
        let chains = Chains::from_visible(&resident, batch, draws.clone()).expect("chains");
        let before = chains.state().expect("a state");
        let mut moved = chains.clone();
        moved.sweep(&resident, 3).expect("a sweep");
        assert_eq!(chains.state().expect("a state"), before);
        assert_ne!(moved.state().expect("a state"), before);
        let mut other = chains.clone();
        other.sweep(&resident, 3).expect("a sweep");
        assert_eq!(other.state().expect("a state"), moved.state().expect("a state"));

        let (copy, still) = (resident.clone(), rbm.clone());
        let mut trained = rbm.clone();
        let mut trainer = Trainer::new(&device, shape(NV, NH), settings(Algorithm::Cd)).expect("a trainer");
        let mut lent = trained.lend(&device).expect("lent");
        trainer.step(&mut lent, batch, 0.5).expect("a step");
        lent.finish().expect("finished");
        assert_ne!(trained, rbm);
        assert_eq!(rbm, still);
        assert_eq!(copy.to_rbm().expect("a copy"), rbm);
    }
}

#[test]
fn everything_can_go_to_another_thread() {
    fn check<T: Send + Sync>() {}
    check::<Rbm>();
    check::<RbmRef<'_>>();
    check::<RbmMut<'_>>();
    check::<Rows<'_>>();
    check::<Dataset>();
    check::<Error>();
    check::<Settings>();
    check::<TrainerState>();
    check::<Checkpoint>();
    check::<Uniforms>();
    check::<Activations>();
    check::<Gradient>();
    check::<Device>();
    check::<Data<'_>>();
    check::<Batch<'_>>();
    check::<Resident>();
    check::<Lent<'_>>();
    check::<Chains>();
    check::<Trainer>();
    // It does learn together with others.
    let rbm = random_rbm(shape(NV, NH), 0.5, 16);
    let cpu = Cpu::detect().expect("a CPU");
    let resident = rbm.on(cpu).expect("resident");
    let values = random_values(ROWS * NV, 0.4, 17);
    let expected = resident.free_energy(rows(&values, NV)).expect("F");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(resident.free_energy(rows(&values, NV)).expect("F"), expected));
        }
    });
}
