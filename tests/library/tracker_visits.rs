//! The visits of a tracker against one sequential program: the same bits on every device, instruction set and number of threads,
//! and after a state was saved and restored; see tests/library/tracker.rs for log Z along training.

use crate::oracle::{
    canonical,
    exact::{Exact, log_sum_exp},
    for_each_device, generator, in_pool, is_canonical, random_rbm, shape,
    statistics::visit_error,
};
use harmonium::{
    Cpu, Device, Error, Gradient, Isa, Purpose, Rbm, Resident, Shape, Uniforms,
    log_partition::{BaseRate, Schedule, Tracker, TrackerState},
    uniforms::unit_interval,
};
use rand_core::Rng;

const THREADS: [usize; 3] = [1, 2, 3];

fn cpu() -> Cpu {
    Cpu::detect().expect("a CPU")
}

fn model(resident: &Resident) -> Exact {
    Exact::of(&resident.to_rbm().expect("a copy"))
}

/// A model whose parameters are multiples of 1/64: sums are exact in any order.
fn coarse_rbm(shape: Shape, range: u32, seed: u64) -> Rbm {
    let mut generator = generator(seed);
    let mut some = |n: usize| -> Vec<f32> {
        (0..n).map(|_| ((generator.next_u32() % (2 * range + 1)) as f32 - range as f32) / 64.0).collect()
    };
    let (nv, nh) = (shape.n_visible(), shape.n_hidden());
    Rbm::from_parts(shape, some(nv * nh), some(nv), some(nh)).expect("a model")
}

/// The same model after a small step.
fn moved(rbm: &Rbm, range: u32, seed: u64) -> Rbm {
    let step = coarse_rbm(rbm.shape(), range, seed);
    let add = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a + b).collect();
    let (a, b) = (rbm.view(), step.view());
    let weights = add(a.weights(), b.weights());
    let (visible, hidden) = (add(a.visible_bias(), b.visible_bias()), add(a.hidden_bias(), b.hidden_bias()));
    Rbm::from_parts(rbm.shape(), weights, visible, hidden).expect("a model")
}

/// Models that are a small step apart, and sometimes a large one.
fn coarse_path(shape: Shape) -> Vec<Rbm> {
    let great = if shape.n_visible() < 10 { 56 } else { 6 };
    let mut path = vec![coarse_rbm(shape, 8, 3)];
    for n in 1..12 {
        path.push(moved(&path[n - 1], if n % 4 == 0 { great } else { 1 }, 100 + n as u64));
    }
    path
}

/// Rows of bits as numbers.
fn unpacked(words: &[u64], units: usize) -> Vec<f32> {
    let rows = words.chunks_exact(units.div_ceil(64));
    rows.flat_map(|row| (0..units).map(move |i| (row[i / 64] >> (i % 64) & 1) as f32)).collect()
}

/// The effective sample size of log-weights by its definition.
fn sample_size(log_weights: &[f64]) -> f64 {
    let doubled: Vec<f64> = log_weights.iter().map(|log| 2.0 * log).collect();
    (2.0 * log_sum_exp(log_weights) - log_sum_exp(&doubled)).exp()
}

/// Starts, and visits one model after another, in parallel with a sequential program.
fn check_against_the_program(device: &Device, shape: Shape, chains: usize) {
    let (nv, nh) = (shape.n_visible(), shape.n_hidden());
    let path = coarse_path(shape);
    let base_rate = BaseRate::uniform(nv);
    let schedule = Schedule::from_betas(vec![0.0, 1.0]).expect("rises");
    let on = |rbm: &Rbm| rbm.on(device).expect("resident");
    let mut tracker = Tracker::begin(&on(&path[0]), &base_rate, chains, &schedule, 7).expect("a tracker");

    let mut generator = Uniforms::new(7, Purpose::Tracking).generator();
    let up = |rbm: &Rbm, v: &[f32], generator: &mut _| {
        let pre = v.chunks_exact(nv).flat_map(|v| Exact::of(rbm).hidden_pre(&wide(v)));
        canonical::sample(&pre.map(|x| x as f32).collect::<Vec<_>>(), generator)
    };
    let down = |rbm: &Rbm, h: &[f32], generator: &mut _| {
        let pre = h.chunks_exact(nh).flat_map(|h| Exact::of(rbm).visible_pre(&wide(h)));
        canonical::sample(&pre.map(|x| x as f32).collect::<Vec<_>>(), generator)
    };
    let energies = |rbm: &Rbm, v: &[f32]| {
        let model = Exact::of(rbm);
        v.chunks_exact(nv).map(|v| model.free_energy(&wide(v))).collect::<Vec<f64>>()
    };
    let mut v = canonical::sample(&vec![0.0; chains * nv], &mut generator);
    let uniform_energy = -(nh as f64) * 2f64.ln();
    let mut log_weights: Vec<f64> = energies(&path[0], &v).iter().map(|f| uniform_energy - f).collect();
    let h = up(&path[0], &v, &mut generator);
    v = down(&path[0], &h, &mut generator);
    let (mut log_z, mut variance, mut off) = ((nv + nh) as f64 * 2f64.ln(), 0.0, visit_error(&Exact::of(&path[0])));
    let mut kinds = [0, 0];
    for (n, rbm) in path.iter().enumerate() {
        let what = format!("{shape}, {chains} particles, model {n}");
        if n > 0 {
            tracker.follow(&on(rbm)).expect("a visit");
            off += visit_error(&Exact::of(rbm));
            let gains = energies(&path[n - 1], &v).into_iter().zip(energies(rbm, &v));
            log_weights.iter_mut().zip(gains).for_each(|(log, (before, now))| *log += before - now);
            let size = sample_size(&log_weights);
            kinds[usize::from(size < chains as f64 / 2.0)] += 1;
            if size < chains as f64 / 2.0 {
                let sum = log_sum_exp(&log_weights);
                log_z += sum - (chains as f64).ln();
                variance += 1.0 / size - 1.0 / chains as f64;
                let u = f64::from(unit_interval(generator.next_u32()));
                let mut below = 0.0;
                let so_far: Vec<f64> = log_weights
                    .iter()
                    .map(|log| {
                        below += (log - sum).exp();
                        below
                    })
                    .collect();
                let chosen = (0..chains).map(|place| (place as f64 + u) / chains as f64);
                let chosen = chosen.map(|place| so_far.iter().position(|&sum| sum >= place).unwrap_or(chains - 1));
                v = chosen.flat_map(|at| v[at * nv..][..nv].to_vec()).collect();
                log_weights.fill(0.0);
            }
            let h = up(rbm, &v, &mut generator);
            v = down(rbm, &h, &mut generator);
        }
        let found = tracker.state();
        assert_eq!(unpacked(&found.visible, nv), v, "{what}: states");
        for (found, expected) in found.log_weights.iter().zip(&log_weights) {
            assert!((found - expected).abs() <= off, "{what}: log-weight {found}, expected {expected} ± {off}");
        }
        for (found, expected) in found.free_energies.iter().zip(energies(rbm, &v)) {
            assert!((found - expected).abs() <= off, "{what}: F {found}, expected {expected} ± {off}");
        }
        let expected = log_z + log_sum_exp(&log_weights) - (chains as f64).ln();
        let log_z = tracker.log_z();
        assert!((log_z - expected).abs() <= 2.0 * off, "{what}: log Z {log_z}, expected {expected} ± {off}");
        // If each weight changes by a share of up to t, s changes by up to 4t: e^(±2t)² to first order.
        let size = sample_size(&log_weights);
        assert!((tracker.effective_sample_size() / size - 1.0).abs() <= 5.0 * off, "{what}");
        let expected = variance + 1.0 / size - 1.0 / chains as f64;
        let found = tracker.standard_error().powi(2);
        assert!((found - expected).abs() <= 5.0 * off * (1.0 + n as f64), "{what}: {found}, expected {expected}");
        assert_eq!(tracker.chains(), chains);
    }
    assert!(kinds[0] >= 3 && kinds[1] >= 2, "{shape}: visits of both kinds: {kinds:?}");
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

for_each_device! {
    fn a_visit_is_the_sequential_program(device) {
        check_against_the_program(&device, shape(9, 7), 50);
        check_against_the_program(&device, shape(70, 65), 33);
    }

    /// A device with canonical sums gives the CPU's bits, including log Z.
    fn devices_agree_to_the_bit(device) {
        if is_canonical(&device) {
            let path = near_path();
            assert_eq!(followed(&device, &path), followed(&cpu().into(), &path));
        }
    }
}

/// Models with parameters as in training, near to each other, and one that is far away.
fn near_path() -> Vec<Rbm> {
    let mut path = vec![random_rbm(shape(70, 65), 0.1, 4)];
    for n in 1..8 {
        path.push(moved(&path[n - 1], if n == 4 { 16 } else { 1 }, 200 + n as u64));
    }
    path
}

fn followed(device: &Device, path: &[Rbm]) -> (TrackerState, u64) {
    let on = |rbm: &Rbm| rbm.on(device).expect("resident");
    let schedule = Schedule::new(5).expect("steps");
    let mut tracker = Tracker::begin(&on(&path[0]), &BaseRate::uniform(70), 131, &schedule, 5).expect("a tracker");
    path[1..].iter().for_each(|rbm| tracker.follow(&on(rbm)).expect("a visit"));
    let state = tracker.state();
    assert!(state.variance > 0.0, "there was something to resample");
    (state, tracker.log_z().to_bits())
}

#[test]
fn the_same_bits_on_any_instruction_set_and_number_of_threads() {
    let path = near_path();
    let expected = followed(&cpu().into(), &path);
    for isa in Isa::available() {
        for threads in THREADS {
            let found = in_pool(threads, || followed(&Cpu::with_isa(isa).into(), &path));
            assert_eq!(found, expected, "{}, {threads} threads", isa.name());
        }
    }
}

/// Restored after every visit, including one that resamples.
#[test]
fn a_state_goes_on_to_the_bit() {
    let path: Vec<Resident> = near_path().iter().map(|rbm| rbm.on(cpu()).expect("resident")).collect();
    let schedule = Schedule::new(5).expect("steps");
    let mut tracker = Tracker::begin(&path[0], &BaseRate::uniform(70), 40, &schedule, 5).expect("a tracker");
    let mut others: Vec<Tracker> = Vec::new();
    for resident in &path[1..] {
        let other = Tracker::from_state(tracker.shape(), &tracker.state()).expect("a tracker");
        assert_eq!(other.state(), tracker.state());
        others.push(other);
        tracker.follow(resident).expect("a visit");
        for other in &mut others {
            other.follow(resident).expect("a visit");
            assert_eq!(other.state(), tracker.state());
            assert_eq!(other.log_z().to_bits(), tracker.log_z().to_bits());
        }
    }
    assert!(tracker.state().variance > 0.0, "there was something to resample");
}

#[test]
fn resampling_restores_the_effective_sample_size() {
    let rbm = coarse_rbm(shape(12, 5), 8, 1);
    let far = coarse_rbm(shape(12, 5), 64, 2);
    let [rbm, far] = [rbm, far].map(|rbm| rbm.on(cpu()).expect("resident"));
    let schedule = Schedule::new(10).expect("steps");
    let mut tracker = Tracker::begin(&rbm, &BaseRate::uniform(12), 500, &schedule, 3).expect("a tracker");
    let (before, size) = (tracker.state(), tracker.effective_sample_size());
    assert!(size > 250.0 && size < 500.0, "{size}");

    // The expected result of the visit, from the current states.
    let (old, new) = (model(&rbm), model(&far));
    let visible = unpacked(&before.visible, 12);
    let gain = |v: &[f32]| old.free_energy(&wide(v)) - new.free_energy(&wide(v));
    let logs: Vec<f64> = visible.chunks_exact(12).zip(&before.log_weights).map(|(v, log)| log + gain(v)).collect();
    assert!(sample_size(&logs) < 250.0, "{}", sample_size(&logs));
    tracker.follow(&far).expect("a visit");
    let after = tracker.state();
    assert_eq!((tracker.effective_sample_size(), after.log_weights), (500.0, vec![0.0; 500]));
    let off = visit_error(&old) + visit_error(&new);
    let expected = before.log_z + log_sum_exp(&logs) - 500f64.ln();
    assert!((tracker.log_z() - expected).abs() <= off, "{} {expected}", tracker.log_z());
    let spent = (1.0 / sample_size(&logs) - 1.0 / 500.0).sqrt();
    assert!((tracker.standard_error() / spent - 1.0).abs() <= 10.0 * off, "{} {spent}", tracker.standard_error());
}

/// The same model gives the same free energies to the bit, so no weight drifts. Exchanging a hidden unit for its opposite changes
/// all weights alike: its E differs by -c_j.
#[test]
fn models_that_are_the_same_change_no_weight() {
    let rbm = coarse_rbm(shape(12, 5), 32, 6);
    let (mut weights, mut visible, mut hidden) = rbm.clone().into_parts();
    for i in 0..12 {
        visible[i] += weights[5 * i + 2];
        weights[5 * i + 2] *= -1.0;
    }
    let c = f64::from(hidden[2]);
    assert!(c != 0.0);
    hidden[2] *= -1.0;
    let opposite = Rbm::from_parts(rbm.shape(), weights, visible, hidden).expect("a model");
    let [resident, opposite] = [&rbm, &opposite].map(|rbm| rbm.on(cpu()).expect("resident"));
    let schedule = Schedule::new(100).expect("steps");
    let mut tracker = Tracker::begin(&resident, &BaseRate::uniform(12), 60, &schedule, 3).expect("a tracker");
    assert!(tracker.effective_sample_size() > 30.0);
    let before = tracker.state();
    for _ in 0..10 {
        tracker.follow(&resident).expect("a visit");
    }
    let same = tracker.state();
    assert_eq!((&same.log_weights, same.log_z), (&before.log_weights, before.log_z));
    assert_ne!(same.visible, before.visible);
    tracker.follow(&opposite).expect("a visit");
    let off = visit_error(&model(&resident)) + visit_error(&model(&opposite));
    for (log, before) in tracker.state().log_weights.iter().zip(&before.log_weights) {
        assert!((log - before + c).abs() <= off, "{log} {before} {c}");
    }
}

/// Invalid arguments and states, with their messages; nothing changes.
#[test]
fn wrong_arguments_are_told() {
    let rbm = coarse_rbm(shape(5, 3), 8, 1).on(cpu()).expect("resident");
    let schedule = Schedule::new(2).expect("steps");
    let begin = |units: usize, chains: usize| {
        let tracker = Tracker::begin(&rbm, &BaseRate::uniform(units), chains, &schedule, 1);
        tracker.expect_err("must be refused").to_string()
    };
    for n in [0, 1, 1 << 40, usize::MAX] {
        assert_eq!(begin(5, n), format!("chains: expected at least 2, and as many as fit in memory, found {n}"));
    }
    assert_eq!(begin(4, 2), "base_rate: expected 5 values, found 4");

    let mut tracker = Tracker::begin(&rbm, &BaseRate::uniform(5), 3, &schedule, 1).expect("a tracker");
    let good = tracker.state();
    let other = coarse_rbm(shape(3, 5), 8, 1).on(cpu()).expect("resident");
    let told = tracker.follow(&other).expect_err("must be refused").to_string();
    assert_eq!(told, "tracker: expected shape 3 × 5, found 5 × 3");
    let mut lost = rbm.clone();
    let mut gradient = Gradient::zero(lost.shape());
    gradient.hidden_bias.fill(f32::MAX);
    for _ in 0..2 {
        lost.apply(&gradient, -f32::MAX).expect("an update");
    }
    assert!(matches!(tracker.follow(&lost), Err(Error::Value { what: "free_energies", index: 0, .. })));
    assert_eq!(tracker.state(), good, "a tracker that could not follow");
    let begun = Tracker::begin(&lost, &BaseRate::uniform(5), 3, &schedule, 1);
    assert!(matches!(begun, Err(Error::Value { what: "log_weights", index: 0, .. })), "{begun:?}");

    let with = |change: &dyn Fn(&mut TrackerState)| {
        let mut state = good.clone();
        change(&mut state);
        Tracker::from_state(shape(5, 3), &state).expect_err("must be refused").to_string()
    };
    assert_eq!(with(&|s| s.visible.truncate(2)), "tracker.visible: expected 3 values, found 2");
    assert_eq!(
        with(&|s| s.visible[1] = 32),
        "tracker.visible: expected no bit beyond the last visible unit, found one"
    );
    assert_eq!(with(&|s| s.free_energies.truncate(2)), "tracker.free_energies: expected 3 values, found 2");
    let few = |s: &mut TrackerState| s.log_weights.truncate(1);
    assert_eq!(with(&few), "tracker: expected at least 2, and as many as fit in memory, found 1");
    let finite = "expected a finite number, found";
    assert_eq!(with(&|s| s.log_weights[2] = f64::NAN), format!("tracker.log_weights[2]: {finite} NaN"));
    assert_eq!(with(&|s| s.free_energies[1] = f64::INFINITY), format!("tracker.free_energies[1]: {finite} inf"));
    assert_eq!(with(&|s| s.log_z = f64::NEG_INFINITY), format!("tracker.log_z[0]: {finite} -inf"));
    assert_eq!(with(&|s| s.variance = f64::NAN), format!("tracker.variance[0]: {finite} NaN"));
    assert_eq!(with(&|s| s.variance = -1.0), "tracker.variance: expected at least 0, found -1");
    Tracker::from_state(shape(5, 3), &good).expect("a tracker");
}
