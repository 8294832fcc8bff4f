//! Diagnostics of chains, on series and on tiny models with known answers.

use crate::oracle::{
    exact::{Exact, state},
    generator, random_bits, random_rbm, rows, shape,
    statistics::most_of,
    uniform,
};
use harmonium::{
    Chains, Cpu, Purpose, Rbm, Resident, Uniforms,
    diagnostics::{
        CheckUp, EquilibriumGap, Health, Recorder, autocorrelation_time, bulk_effective_sample_size, check_up,
        equilibrium_gap, r_hat,
    },
};

/// Stationary chains x ← φx + √(1 - φ²)·normal.
fn autoregressive(phi: f64, chains: usize, draws: usize, seed: u64) -> Vec<Vec<f64>> {
    let mut generator = generator(seed);
    let mut normal = || {
        let (u, v) = (1.0 - uniform(&mut generator), uniform(&mut generator));
        (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
    };
    let mut chain = || {
        let mut x = normal();
        let mut step = || {
            x = phi * x + (1.0 - phi * phi).sqrt() * normal();
            x
        };
        (0..draws).map(|_| step()).collect()
    };
    (0..chains).map(|_| chain()).collect()
}

/// Five standard deviations of an autocorrelation time from `n` draws with a window of five of them (Sokal 1989, equation
/// 3.19: variance 2·(2·window + 1)/n of its square).
fn tolerance(time: f64, n: usize) -> f64 {
    5.0 * time * (2.0 * (10.0 * time + 1.0) / n as f64).sqrt()
}

#[test]
fn autoregressive_series_have_their_known_times() {
    for (phi, draws) in [(0.0, 5000), (0.5, 8000), (0.9, 20_000), (0.97, 40_000), (-0.5, 8000)] {
        let chains = autoregressive(phi, 4, draws, 7);
        let (n, expected) = (4 * draws, (1.0 + phi) / (1.0 - phi));
        // The last window ends at a correlation of 1/32.
        let allowed = tolerance(expected.max(1.0), n);
        let time = autocorrelation_time(&chains).expect("long enough");
        assert!((time - expected).abs() <= allowed, "φ = {phi}: {time}, expected {expected} ± {allowed}");
        // Ranks of a normal are normal: the same time, by Geyer's sequence, which is less precise.
        let effective = bulk_effective_sample_size(&chains).expect("long enough");
        let ratio = effective * expected / n as f64;
        let rough = 1.5 * allowed / expected;
        assert!((ratio - 1.0).abs() <= rough, "φ = {phi}: {effective} of {n}, {ratio} ± {rough}");
        let r = r_hat(&chains).expect("long enough");
        assert!((0.999..1.01).contains(&r), "φ = {phi}: R̂ {r}");
    }
}

#[test]
fn chains_that_differ_are_told() {
    let good = autoregressive(0.3, 4, 2000, 3);
    let mut shifted = good.clone();
    shifted[2].iter_mut().for_each(|x| *x += 2.0);
    let mut scaled = good.clone();
    scaled[1].iter_mut().for_each(|x| *x *= 5.0);
    let mut drifting = good.clone();
    drifting.iter_mut().for_each(|chain| chain.iter_mut().enumerate().for_each(|(t, x)| *x += t as f64 / 500.0));
    for (bad, what) in [(&shifted, "shifted"), (&scaled, "scaled"), (&drifting, "drifting")] {
        let r = r_hat(bad).expect("long enough");
        assert!(r > 1.05, "{what}: {r}");
    }
    assert!(bulk_effective_sample_size(&shifted).expect("long enough") < 40.0);
    // Only ranks matter.
    let transformed: Vec<Vec<f64>> = good.iter().map(|chain| chain.iter().map(|x| x.exp()).collect()).collect();
    let (a, b) = (bulk_effective_sample_size(&good), bulk_effective_sample_size(&transformed));
    assert_eq!(a, b);
}

#[test]
fn numbers_that_do_not_move_tell_nothing() {
    let still = vec![vec![1.5; 100]; 3];
    assert!(r_hat(&still).expect("long enough").is_nan());
    assert!(bulk_effective_sample_size(&still).expect("long enough").is_nan());
    assert!(autocorrelation_time(&still).expect("long enough").is_nan());
    // Chains that stay at one place each are the worst case.
    let apart: Vec<Vec<f64>> = (0..3).map(|n| vec![f64::from(n); 100]).collect();
    assert!(r_hat(&apart).expect("long enough") > 1e6);
    assert!(bulk_effective_sample_size(&apart).expect("long enough") < 4.0);
    for wrong in [vec![], vec![vec![1.0; 3]; 2], vec![vec![1.0; 9], vec![1.0; 8]]] {
        assert!(r_hat(&wrong).is_err());
        assert!(bulk_effective_sample_size(&wrong).is_err());
        assert!(autocorrelation_time(&wrong).is_err());
    }
}

fn resident(rbm: &Rbm) -> Resident {
    rbm.on(Cpu::detect().expect("a CPU")).expect("resident")
}

/// Runs chains of the model and records them.
fn recorded(rbm: &Rbm, chains: usize, steps: usize) -> Health {
    let resident = resident(rbm);
    let draws = Uniforms::new(11, Purpose::Sampling);
    let mut chains = Chains::new(resident.device(), rbm.shape(), chains, draws).expect("chains");
    let mut recorder = Recorder::new(&resident, &chains, 3);
    chains.sweep(&resident, 200).expect("a sweep");
    for _ in 0..steps {
        chains.sweep(&resident, 1).expect("a sweep");
        recorder.record(&resident, &chains).expect("recorded");
    }
    assert_eq!(recorder.draws(), steps);
    recorder.health().expect("long enough")
}

/// P(v'|v) of a Gibbs step, from each v.
fn transitions(model: &Exact) -> Vec<Vec<f64>> {
    let from = |v: usize| {
        let mut to = vec![0.0; 1 << model.nv];
        for (h, p) in model.p_all_hidden(&state(v, model.nv)).into_iter().enumerate() {
            model.p_all_visible(h).into_iter().zip(&mut to).for_each(|(q, to)| *to += p * q);
        }
        to
    };
    (0..1 << model.nv).map(from).collect()
}

/// One visible and one hidden unit: a chain of two states, whose second eigenvalue is P(1|1) - P(1|0).
#[test]
fn two_states_forget_at_the_rate_of_their_second_eigenvalue() {
    for (w, seed) in [(1.0, 1), (3.0, 2), (5.0, 3)] {
        let rbm = Rbm::from_parts(shape(1, 1), vec![w], vec![-w / 2.0], vec![-w / 2.0]).expect("a model");
        let t = transitions(&Exact::of(&rbm));
        let lambda = t[1][1] - t[0][1];
        let expected = (1.0 + lambda) / (1.0 - lambda);
        let health = recorded(&rbm, 8, 20_000);
        let allowed = tolerance(expected, 160_000);
        // F is the same for both states by symmetry; the overlap differs.
        let overlap = &health.statistics[1];
        assert!((overlap.autocorrelation_time - expected).abs() <= allowed, "{seed}: {overlap:?}, expected {expected}");
        let flips = t[0][1] / 2.0 + t[1][0] / 2.0;
        let error = 5.0 * (flips * expected / 160_000.0).sqrt();
        assert!((health.visible_flip_rate - flips).abs() <= error, "{} {flips} ± {error}", health.visible_flip_rate);
        assert!((health.hidden_flip_rate - flips).abs() <= error, "{} {flips} ± {error}", health.hidden_flip_rate);
    }
}

#[test]
fn the_free_energy_forgets_as_the_transition_matrix_says() {
    for seed in 0..4 {
        let rbm = random_rbm(shape(4, 3), 2.0, seed);
        let model = Exact::of(&rbm);
        let (t, p) = (transitions(&model), model.p_v());
        let f: Vec<f64> = (0..16).map(|v| model.free_energy(&state(v, 4))).collect();
        let mean: f64 = p.iter().zip(&f).map(|(p, f)| p * f).sum();
        let centred: Vec<f64> = f.iter().map(|f| f - mean).collect();
        let with = |g: &[f64]| p.iter().zip(&centred).zip(g).map(|((p, f), g)| p * f * g).sum::<f64>();
        // τ = 1 + 2·Σ_t <f, Tᵗf>/<f, f>: the sum over eigenvalues λ of (1 + λ)/(1 - λ), weighted by f's share in each.
        let (mut moved, mut expected) = (centred.clone(), 1.0);
        for _ in 0..20_000 {
            moved = t.iter().map(|to| to.iter().zip(&moved).map(|(p, g)| p * g).sum()).collect();
            expected += 2.0 * with(&moved) / with(&centred);
        }
        let health = recorded(&rbm, 8, 20_000);
        let energy = &health.statistics[0];
        let allowed = tolerance(expected, 160_000);
        assert!(
            (energy.autocorrelation_time - expected).abs() <= allowed,
            "{seed}: {energy:?}, {expected} ± {allowed}"
        );
        let error = 5.0 * (with(&centred) * expected / 160_000.0).sqrt();
        assert!((energy.mean - mean).abs() <= error, "{seed}: {energy:?}, expected {mean} ± {error}");
        assert_eq!(health.warning(), None, "{health:?}");
    }
}

/// Two modes, all off and all on, that no chain leaves.
fn two_valleys(deeper: f32) -> Rbm {
    let n = 10;
    let bias = vec![deeper - 20.0; n];
    Rbm::from_parts(shape(n, n), vec![4.0; n * n], bias.clone(), bias).expect("a model")
}

#[test]
fn chains_that_stay_in_their_valleys_are_told() {
    let rbm = two_valleys(0.1);
    let resident = resident(&rbm);
    let data: Vec<f32> = (0..40).map(|k| if k / 10 % 2 == 0 { 0.0 } else { 1.0 }).collect();
    let draws = Uniforms::new(3, Purpose::Sampling);
    let mut chains = Chains::from_visible(&resident, rows(&data, 10), draws).expect("chains");
    let mut recorder = Recorder::new(&resident, &chains, 2);
    for _ in 0..100 {
        chains.sweep(&resident, 1).expect("a sweep");
        recorder.record(&resident, &chains).expect("recorded");
    }
    let health = recorder.health().expect("long enough");
    assert!(health.worst_r_hat() > 1.5, "{health:?}");
    assert!(health.warning().expect("a warning").contains("not mixed"));
    assert_eq!(recorder.free_energies().len(), 4);
    // Chains of another model, and a recorder with too few draws.
    let other = random_rbm(shape(9, 10), 1.0, 1);
    assert!(recorder.record(&self::resident(&other), &chains).is_err());
    assert!(Recorder::new(&resident, &chains, 0).health().is_err());
}

fn diagnosis() -> Uniforms {
    Uniforms::new(1, Purpose::Diagnosis)
}

/// The mean of F over the states of chains, in their order.
fn mean_free_energy(rbm: &Resident, chains: &Chains) -> f64 {
    let mut visible = harmonium::Activations::default();
    chains.visible(rbm, &mut visible).expect("visible");
    let each = rbm.free_energy(rows(&visible.sample, rbm.shape().n_visible())).expect("free energies");
    each.iter().sum::<f64>() / each.len() as f64
}

#[test]
fn persistent_chains_are_compared_with_fresh_ones() {
    let rbm = random_rbm(shape(12, 8), 1.0, 5);
    let on_cpu = resident(&rbm);
    let data = random_bits(12 * 200, 0.5, 2);
    let draws = Uniforms::new(8, Purpose::Training);
    let mut chains = Chains::new(on_cpu.device(), rbm.shape(), 200, draws.clone()).expect("chains");
    chains.sweep(&on_cpu, 500).expect("a sweep");
    let before = chains.state().expect("a state");
    let gap = equilibrium_gap(&on_cpu, &chains, rows(&data, 12), 500, diagnosis()).expect("a gap");
    assert_eq!(chains.state().expect("a state"), before, "the chains stay where they are");
    assert!(gap.gap.abs() <= 5.0 * gap.standard_error && gap.standard_error > 0.0, "{gap:?}");
    assert!((gap.gap - (gap.persistent - gap.fresh)).abs() < 1e-12);
    let mut copy = chains.drawing(diagnosis()).expect("a copy");
    copy.sweep(&on_cpu, 1).expect("a sweep");
    assert_eq!(gap.persistent, mean_free_energy(&on_cpu, &copy));
    let end = copy.state().expect("a state").uniforms;
    let mut fresh = Chains::from_visible(&on_cpu, rows(&data, 12), end).expect("chains");
    fresh.sweep(&on_cpu, 500).expect("a sweep");
    assert_eq!(gap.fresh, mean_free_energy(&on_cpu, &fresh));

    // All data are in the deep mode; the chains are in the other one.
    let rbm = two_valleys(0.3);
    let resident = resident(&rbm);
    let chains = Chains::new(resident.device(), rbm.shape(), 30, draws).expect("chains");
    let ones = vec![1.0; 10 * 30];
    let gap = equilibrium_gap(&resident, &chains, rows(&ones, 10), 100, diagnosis()).expect("a gap");
    assert!((gap.gap - 6.0).abs() < 0.5, "{gap:?}");
    assert!(gap.warning().expect("a warning").contains("lag"));
    assert!(equilibrium_gap(&resident, &chains, rows(&ones, 10), 0, diagnosis()).is_err());
}

/// Welch's example by hand: squared standard errors 1/3·(4, 1) of three numbers each.
#[test]
fn the_gap_has_welchs_degrees_of_freedom() {
    let gap = EquilibriumGap::of(&[8.0, 10.0, 12.0], &[1.0, 2.0, 3.0]);
    assert_eq!((gap.persistent, gap.fresh, gap.gap), (10.0, 2.0, 8.0));
    assert!((gap.standard_error - (5.0f64 / 3.0).sqrt()).abs() < 1e-15, "{gap:?}");
    // (4 + 1)²/(4²/2 + 1²/2).
    assert!((gap.degrees_of_freedom - 50.0 / 17.0).abs() < 1e-14, "{gap:?}");
    // 6.2 standard errors; Student's t at 2.94 degrees of freedom reaches 9.4.
    assert_eq!((gap.lags(), gap.warning()), (Some(false), None));
    // A side without variance contributes nothing.
    let still = EquilibriumGap::of(&[1.0; 9], &[1.0, 2.0, 3.0, 4.0]);
    assert!((still.degrees_of_freedom - 3.0).abs() < 1e-14, "{still:?}");
    // Free energies that are all equal do not differ by chance.
    let apart = EquilibriumGap::of(&[1.0; 2], &[2.0; 3]);
    assert_eq!((apart.standard_error, apart.degrees_of_freedom, apart.lags()), (0.0, 3.0, Some(true)));
    assert_eq!(EquilibriumGap::of(&[2.0; 2], &[2.0; 3]).lags(), Some(false));
}

/// A single chain per side has no scatter of free energies: no gap is large enough to show that it lags.
#[test]
fn of_a_single_chain_nothing_can_be_said() {
    for (persistent, fresh) in [(&[100.0][..], &[1.0, 2.0, 3.0][..]), (&[1.0, 2.0], &[100.0]), (&[1.0], &[100.0])] {
        let gap = EquilibriumGap::of(persistent, fresh);
        assert!(gap.standard_error.is_nan() && gap.degrees_of_freedom.is_nan() && gap.gap.abs() > 90.0, "{gap:?}");
        assert_eq!(gap.lags(), None);
        let warning = gap.warning().expect("a warning");
        assert!(warning.contains("unknown") && !warning.starts_with("the chains lag"), "{warning}");
    }
}

/// With equal numbers of normal values of one variance per side, Student's T is exact with 2·(n - 1) degrees of freedom, and
/// Welch's are never more: false alarms have a probability of at most 0.0027. Of 20 000 as many are allowed as exceed that once in
/// a million runs; three standard errors would give some 1200 with two chains per side. Chains that do lag are found.
#[test]
fn few_chains_claim_no_more_than_many() {
    let most = most_of(20_000, 0.0027);
    for n in [2, 3, 10] {
        let free_energies = autoregressive(0.0, 1, 20_000 * 2 * n, n as u64).concat();
        let sides = |chains: &[f64], shift: f64| {
            let (one, other) = chains.split_at(n);
            EquilibriumGap::of(one, &other.iter().map(|x| x + shift).collect::<Vec<_>>()).lags().expect("two chains")
        };
        let claims = |shift| free_energies.chunks_exact(2 * n).filter(|chains| sides(chains, shift)).count();
        assert!(claims(0.0) <= most, "{n} chains a side: {} of 20 000, at most {most}", claims(0.0));
        assert!(n < 10 || claims(4.0) > 19_000, "{n} chains a side: {} of 20 000 that lag", claims(4.0));
    }
}

#[test]
fn a_check_up_leaves_chains_alone_and_tells_how_they_are() {
    let rbm = random_rbm(shape(12, 8), 1.0, 5);
    let on_cpu = resident(&rbm);
    let data = random_bits(12 * 100, 0.5, 2);
    let draws = Uniforms::new(8, Purpose::Training);
    let mut chains = Chains::new(on_cpu.device(), rbm.shape(), 100, draws.clone()).expect("chains");
    chains.sweep(&on_cpu, 500).expect("a sweep");
    let before = chains.state().expect("a state");
    let after = |updates, draws| check_up(&on_cpu, &chains, rows(&data, 12), 500, draws, updates).expect("a check-up");
    let found = after(0, diagnosis());
    assert_eq!(chains.state().expect("a state"), before, "the chains stay where they are");
    assert_eq!(after(0, diagnosis()), found);
    let (r_hat, effective) = (found.r_hat.expect("R̂"), found.bulk_effective_sample_size.expect("an ESS"));
    assert!(r_hat < 1.02 && effective > 1000.0, "{found:?}");
    assert!(found.autocorrelation_time.expect("a time") >= 0.5, "{found:?}");
    // The gap is that of a first step and of new chains.
    let gap = equilibrium_gap(&on_cpu, &chains, rows(&data, 12), 500, diagnosis()).expect("a gap");
    assert_eq!(found.gap.persistent, gap.persistent);
    assert!(found.gap.gap.abs() <= 5.0 * found.gap.standard_error, "{found:?}");
    // Flip rates are those of one step.
    let health = recorded(&rbm, 100, 500);
    assert!((found.visible_flip_rate - health.visible_flip_rate).abs() < 0.02, "{found:?}");
    assert!(check_up(&on_cpu, &chains, rows(&data, 12), 3, diagnosis(), 1).is_err());

    // The random numbers of the next diagnosis begin at the end of those of this one, for any size.
    let mut copy = chains.drawing(diagnosis()).expect("a copy");
    copy.sweep(&on_cpu, 500).expect("a sweep");
    let end = copy.state().expect("a state").uniforms;
    let mut others = Chains::from_visible(&on_cpu, rows(&data, 12), end).expect("chains");
    others.sweep(&on_cpu, 500).expect("a sweep");
    // The new chains are these, after as many steps as the copy makes.
    assert_eq!(found.gap.fresh, mean_free_energy(&on_cpu, &others));
    let end = others.state().expect("a state").uniforms;
    let next = after(1, diagnosis());
    assert_eq!(CheckUp { updates: 1, ..after(0, end) }, next);
    assert_ne!(CheckUp { updates: 0, ..next }, found);
    let mut far = diagnosis();
    far.seek(
        diagnosis().position() + 77 * (others.state().expect("a state").uniforms.position() - diagnosis().position()),
    );
    assert_eq!(CheckUp { updates: 77, ..after(0, far) }, after(77, diagnosis()));

    // Chains in the shallow mode, while all data are in the deep one.
    let rbm = two_valleys(0.3);
    let resident = resident(&rbm);
    let chains = Chains::new(resident.device(), rbm.shape(), 30, draws).expect("chains");
    let found = check_up(&resident, &chains, rows(&vec![1.0; 300], 10), 50, diagnosis(), 9).expect("a check-up");
    assert!(found.gap.warning().expect("a warning").contains("lag"), "{found:?}");
}
