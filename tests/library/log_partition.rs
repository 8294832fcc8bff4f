//! log Z against enumeration, certain bounds and warnings; see tests/annealing.rs for annealing itself.

use crate::oracle::{
    exact::{Exact, rows_f64},
    flat, generator, in_pool, random_bits, random_rbm, rows, shape,
    statistics::assert_relative,
};
use harmonium::{
    Cpu, Device, Error, Gradient, Isa, LogLikelihood, Purpose, Rbm, Uniforms,
    likelihood::log_likelihoods,
    log_likelihood,
    log_partition::{
        self, Agreement, Annealing, BaseRate, LogPartition, Method, Schedule, Start, Verdict, ais, bracket,
        lower_bound, reverse_ais,
    },
};
use rand_core::Rng;

/// A model of 1 to 12 units a layer with weights up to ±4.
fn some_model(seed: u64) -> Rbm {
    let mut generator = generator(seed);
    let mut units = || 1 + generator.next_u32() as usize % 12;
    random_rbm(shape(units(), units()), 4.0, seed)
}

fn exact(rbm: &Rbm) -> f64 {
    log_partition::exact(rbm.view()).expect("small enough").estimate
}

/// The same model with its layers exchanged.
fn exchanged(rbm: &Rbm) -> Rbm {
    let (nv, nh) = (rbm.shape().n_visible(), rbm.shape().n_hidden());
    let view = rbm.view();
    let weights = (0..nv * nh).map(|k| view.weights()[k % nv * nh + k / nv]).collect();
    Rbm::from_parts(shape(nh, nv), weights, view.hidden_bias().to_vec(), view.visible_bias().to_vec()).expect("a model")
}

#[test]
fn enumeration_is_the_naive_sum_over_states() {
    for seed in 0..200 {
        let rbm = some_model(seed);
        let naive = Exact::of(&rbm);
        let found = log_partition::exact(rbm.view()).expect("small enough");
        assert_relative(found.estimate, naive.log_z(), 1e-10);
        assert_eq!((found.lower, found.upper), (found.estimate, found.estimate));
        assert_eq!((found.method, found.agreement, found.verdict()), (Method::Exact, Agreement::Exact, Verdict::Exact));
        assert_eq!((found.warning(), found.reason().is_empty()), (None, false));
        assert_relative(exact(&exchanged(&rbm)), found.estimate, 1e-13);
    }
}

#[test]
fn enumeration_holds_where_exponentials_do_not() {
    for (range, seed) in [(60.0, 1), (300.0, 2), (3000.0, 3)] {
        let rbm = random_rbm(shape(9, 12), range, seed);
        let naive = Exact::of(&rbm);
        assert_relative(exact(&rbm), naive.log_z(), 1e-10);
        let moments = log_partition::exact::moments(rbm.view()).expect("small enough");
        let p = naive.p_v();
        for i in 0..9 {
            let mean: f64 = (0..1 << 9).filter(|v| v >> i & 1 == 1).map(|v| p[v]).sum();
            assert_relative(moments.visible[i], mean, 1e-10);
        }
    }
}

/// More states than one enumeration from scratch has, and more than one block.
#[test]
fn enumeration_of_many_states_is_the_same_on_any_number_of_threads() {
    let rbm = random_rbm(shape(70, 15), 0.3, 5);
    let naive = Exact::of(&exchanged(&rbm));
    let (log_z, moments) =
        in_pool(1, || (exact(&rbm), log_partition::exact::moments(rbm.view()).expect("small enough")));
    assert_relative(log_z, naive.log_z(), 1e-12);
    assert_relative(
        moments.hidden.iter().sum(),
        {
            let p = naive.p_v();
            (0..1usize << 15).map(|h| p[h] * f64::from(h.count_ones())).sum()
        },
        1e-11,
    );
    for threads in [2, 3, 7] {
        let again = in_pool(threads, || log_partition::exact::moments(rbm.view()).expect("small enough"));
        assert_eq!(again, moments, "{threads} threads");
        assert_eq!(moments.log_partition.to_bits(), log_z.to_bits());
    }
}

/// As large as the published models whose log Z is known: 784 × 15, weights of trained sizes.
#[test]
fn a_model_of_digits_with_15_hidden_units_is_enumerated() {
    let rbm = random_rbm(shape(784, 15), 1.2, 15);
    let log_z = Exact::of(&exchanged(&rbm)).log_z();
    let z = log_partition::exact(rbm.view()).expect("small enough");
    assert_relative(z.estimate, log_z, 1e-12);
    let data = random_bits(784 * 20, 0.2, 15);
    let likelihoods = log_partition::exact::log_likelihood(rbm.view(), rows(&data, 784)).expect("likelihoods");
    let model = Exact::of(&rbm);
    for (found, v) in likelihoods.iter().zip(rows_f64(&data, 784)) {
        assert_relative(*found, -model.free_energy(&v) - log_z, 1e-12);
    }
    let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
    let found = log_likelihoods(&resident, rows(&data, 784), &z).expect("likelihoods");
    found.iter().zip(&likelihoods).for_each(|(&found, &expected)| assert_relative(found, expected, 1e-6));
    let states = std::sync::atomic::AtomicU64::new(0);
    let watch = |n| {
        states.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    };
    assert_eq!(log_partition::exact::log_partition_watched(rbm.view(), &watch).expect("small enough"), z);
    assert_eq!(states.into_inner(), 1 << 15);
}

#[test]
fn moments_and_gradient_are_the_naive_ones() {
    for seed in 0..60 {
        let rbm = some_model(1000 + seed);
        let (nv, nh) = (rbm.shape().n_visible(), rbm.shape().n_hidden());
        let naive = Exact::of(&rbm);
        let data = random_bits(5 * nv, 0.4, seed);
        let mut found = Gradient::zero(rbm.shape());
        let log_z = log_partition::exact::gradient(rbm.view(), rows(&data, nv), &mut found).expect("a gradient");
        assert_relative(log_z, naive.log_z(), 1e-10);
        let expected = naive.loss_gradient(&rows_f64(&data, nv));
        for (found, expected) in flat(&found).iter().zip(&expected) {
            // Rounded to `f32` at the end.
            assert!((found - expected).abs() <= 1e-7 * expected.abs() + 1e-10, "{found} {expected}");
        }
        let moments = log_partition::exact::moments(rbm.view()).expect("small enough");
        let p = naive.p_v();
        let (mut visible, mut products) = (vec![0.0; nv], vec![0.0; nv * nh]);
        for (v, p) in p.iter().enumerate() {
            let state = crate::oracle::exact::state(v, nv);
            let means = naive.p_hidden(&state);
            for i in 0..nv {
                visible[i] += p * state[i];
                (0..nh).for_each(|j| products[i * nh + j] += p * state[i] * means[j]);
            }
        }
        let pairs = moments.visible.iter().zip(&visible).chain(moments.products.iter().zip(&products));
        pairs.for_each(|(&found, &expected)| assert_relative(found, expected, 1e-10));
        let likelihood = log_partition::exact::log_likelihood(rbm.view(), rows(&data, nv)).expect("a likelihood");
        assert_relative(likelihood.iter().sum::<f64>() / 5.0, naive.log_likelihood(&rows_f64(&data, nv)), 1e-10);
    }
}

#[test]
fn too_many_states_are_an_error_that_says_how_many() {
    let rbm = Rbm::new(shape(40, 29), 1);
    let problem = log_partition::exact(rbm.view()).expect_err("2^29 states");
    assert_eq!(problem, Error::States { limit: 28, units: 29 });
    assert!(problem.to_string().contains("2^29 states"), "{problem}");
}

#[test]
fn annealing_gives_the_same_bits_on_any_number_of_threads_and_any_instruction_set() {
    let rbm = random_rbm(shape(100, 70), 0.3, 8);
    let base_rate = BaseRate::uniform(100);
    let settings = Annealing { runs: 11, schedule: Schedule::new(250).expect("steps"), burn_in: 20, seed: 8 };
    let bracketed = |isa: Isa, threads| {
        in_pool(threads, || {
            let resident = rbm.on(Cpu::with_isa(isa)).expect("resident");
            bracket(&resident, &base_rate, Start::Annealed, &settings).expect("a bracket")
        })
    };
    let all = Isa::available();
    let expected = bracketed(all[0], 1);
    for isa in all {
        for threads in [1, 2, 3] {
            assert_eq!(bracketed(isa, threads), expected, "{isa:?}, {threads} threads");
        }
    }
}

/// The permitted number of misses among 200 brackets: the interval promises one miss in a hundred.
const ALLOWED_MISSES: usize = 2;

/// Brackets of 200 models, from the uniform base rate and grown chains alone, and with the command's settings: from a base rate
/// fitted to rows, and these rows.
fn assert_covers(device: &Device, settings: &Annealing, with_upper_end: usize) {
    for with_rows in [false, true] {
        let (mut misses, mut bracketed) = (Vec::new(), 0);
        for seed in 0..200 {
            let rbm = some_model(seed);
            let n_visible = rbm.shape().n_visible();
            let data = random_bits(20 * n_visible, 0.3, seed);
            let held = rows(&data, n_visible);
            let (base_rate, start) = match with_rows {
                true => (BaseRate::fit(held), Start::Rows(held.into())),
                false => (BaseRate::uniform(n_visible), Start::Annealed),
            };
            let settings = Annealing { seed, ..settings.clone() };
            let resident = rbm.on(device).expect("resident");
            let found = bracket(&resident, &base_rate, start, &settings).expect("a bracket");
            let truth = exact(&rbm);
            assert!(found.lower <= found.estimate && found.estimate <= found.upper);
            if !(found.lower..=found.upper).contains(&truth) {
                misses.push((seed, truth, found.clone()));
            }
            bracketed += usize::from(found.verdict() == Verdict::Bracketed);
        }
        assert!(misses.len() <= ALLOWED_MISSES, "{} of 200 miss: {misses:?}", misses.len());
        assert!(bracketed >= with_upper_end, "{bracketed} of 200 have an upper end");
    }
}

#[test]
fn the_bracket_contains_the_truth() {
    let settings = Annealing { runs: 50, schedule: Schedule::new(1000).expect("steps"), burn_in: 100, seed: 0 };
    assert_covers(&Cpu::detect().expect("a CPU").into(), &settings, 160);
}

/// So few temperatures that a few runs dominate the mean weight of either direction: Markov's inequality alone would leave 13 nats.
#[test]
fn the_bracket_of_scattered_weights_contains_the_truth_and_is_not_wide() {
    let cpu = Cpu::detect().expect("a CPU");
    let (mut misses, mut widths, mut scattered) = (0, 0.0, 0);
    for seed in 0..200 {
        let rbm = random_rbm(shape(12, 12), 2.0, seed);
        let resident = rbm.on(cpu).expect("resident");
        let settings = Annealing { runs: 100, schedule: Schedule::new(40).expect("steps"), burn_in: 200, seed };
        let found = bracket(&resident, &BaseRate::uniform(12), Start::Annealed, &settings).expect("a bracket");
        misses += usize::from(!(found.lower..=found.upper).contains(&exact(&rbm)));
        if found.effective_sample_size < 10.0 && found.verdict() == Verdict::Bracketed {
            scattered += 1;
            widths += found.upper - found.lower;
        }
    }
    assert!(misses <= ALLOWED_MISSES, "{misses} of 200 miss");
    assert!(scattered >= 20, "{scattered} of 200 scatter");
    assert!(widths / f64::from(scattered) < 9.0, "{}", widths / f64::from(scattered));
}

#[test]
fn the_bracket_of_the_library_road_contains_the_truth() {
    let settings = Annealing { runs: 20, schedule: Schedule::new(500).expect("steps"), burn_in: 50, seed: 0 };
    assert_covers(&crate::oracle::gemm(), &settings, 120);
}

#[test]
fn a_short_schedule_is_wider_and_flagged() {
    let cpu = Cpu::detect().expect("a CPU");
    let mut compared = 0;
    for seed in 0..20 {
        let rbm = random_rbm(shape(12, 12), 4.0, seed);
        let resident = rbm.on(cpu).expect("resident");
        let base_rate = BaseRate::uniform(12);
        let width = |z: &LogPartition| z.upper - z.lower;
        let run = |steps| {
            let schedule = Schedule::new(steps).expect("steps");
            let settings = Annealing { runs: 50, schedule, burn_in: 100, seed };
            let both = bracket(&resident, &base_rate, Start::Annealed, &settings).expect("a bracket");
            (both, ais(&resident, &base_rate, &settings).expect("an estimate"))
        };
        let ((long, long_ais), (short, short_ais)) = (run(4000), run(4));
        let truth = exact(&rbm);
        assert!((short.lower..=short.upper).contains(&truth), "{seed}: {truth} {short:?}");
        assert!(width(&short) > 2.0 * width(&long), "{seed}: {short:?} {long:?}");
        let below = |z: &LogPartition| z.estimate - z.lower;
        assert!(below(&short_ais) > 2.0 * below(&long_ais), "{seed}: {short_ais:?} {long_ais:?}");
        assert_eq!((short_ais.verdict(), short_ais.upper), (Verdict::LowerBound, f64::INFINITY));
        assert!(short.warning().is_some(), "{seed}: {short:?}");
        compared += usize::from(long.warning().is_none());
        assert!(long_ais.warning().is_some(), "one direction alone is never without a warning");
    }
    assert!(compared >= 15, "long schedules without a warning: {compared} of 20");
}

#[test]
fn reverse_runs_may_start_anywhere_that_is_the_model() {
    let cpu = Cpu::detect().expect("a CPU");
    let rbm = random_rbm(shape(12, 9), 0.7, 77);
    let resident = rbm.on(cpu).expect("resident");
    let truth = exact(&rbm);
    let data = random_bits(30 * 12, 0.5, 4);
    let held = rows(&data, 12);
    let settings = Annealing { runs: 30, schedule: Schedule::new(2000).expect("steps"), burn_in: 300, seed: 4 };
    let chains = harmonium::Chains::from_visible(&resident, held, Uniforms::new(9, Purpose::Training)).expect("chains");
    for start in [Start::Annealed, Start::Rows(held.into()), Start::Chains(&chains)] {
        let found = reverse_ais(&resident, &BaseRate::fit(held), start, &settings).expect("an estimate");
        assert!((found.lower..=found.upper).contains(&truth), "{start:?}: {truth} {found:?}");
        assert_eq!((found.method, found.agreement, found.runs), (Method::ReverseAis, Agreement::Unchecked, 30));
    }
}

/// One row, or two chains, start as many reverse runs as requested.
#[test]
fn few_starts_serve_over_and_over() {
    let rbm = random_rbm(shape(12, 9), 0.7, 77);
    let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
    let truth = exact(&rbm);
    let data = random_bits(2 * 12, 0.5, 4);
    let (one, two) = (rows(&data[..12], 12), rows(&data, 12));
    let settings = Annealing { runs: 50, schedule: Schedule::new(2000).expect("steps"), burn_in: 300, seed: 4 };
    let chains = harmonium::Chains::from_visible(&resident, two, Uniforms::new(9, Purpose::Training)).expect("chains");
    for start in [Start::Rows(one.into()), Start::Rows(two.into()), Start::Chains(&chains)] {
        let found = bracket(&resident, &BaseRate::fit(one), start, &settings).expect("a bracket");
        assert!((found.lower..=found.upper).contains(&truth), "{start:?}: {truth} {found:?}");
        assert_eq!((found.runs, found.agreement), (50, Agreement::Meet), "{start:?}");
        // Copies of a start make independent runs.
        assert!(found.effective_sample_size > 10.0, "{start:?}: {found:?}");
    }
}

/// Two modes, all off and all on, with a hundred nats between them; the second one is `deeper` nats deeper.
fn two_valleys(deeper: f32) -> Rbm {
    let (n, w) = (10, 4.0);
    let bias = vec![deeper / 20.0 - w * n as f32 / 2.0; n];
    Rbm::from_parts(shape(n, n), vec![w; n * n], bias.clone(), bias).expect("a model")
}

/// All rows are in the lesser of two modes, and a base rate fitted to them never reaches the other one. Both directions of such
/// runs alone agree on the lesser mode.
#[test]
fn rows_of_the_lesser_valley_do_not_hide_the_other_one() {
    let cpu = Cpu::detect().expect("a CPU");
    let n = 10;
    let zeros = vec![0.0; 50 * n];
    let zeros = rows(&zeros, n);
    let settings = Annealing { runs: 100, schedule: Schedule::new(3000).expect("steps"), burn_in: 1000, seed: 4 };
    for deeper in [3.0, 10.0, 40.0] {
        let rbm = two_valleys(deeper);
        let resident = rbm.on(cpu).expect("resident");
        let truth = exact(&rbm);
        let start = Start::Rows(zeros.into());
        let one_sided = reverse_ais(&resident, &BaseRate::fit(zeros), start, &settings).expect("an estimate");
        assert!(one_sided.upper < truth - 2.0, "{truth} {one_sided:?}");
        for base_rate in [BaseRate::fit(zeros), BaseRate::uniform(n)] {
            let found = bracket(&resident, &base_rate, start, &settings).expect("a bracket");
            assert_eq!(found.verdict(), Verdict::Bracketed, "{found:?}");
            assert!((found.lower..=found.upper).contains(&truth), "{truth} {found:?}");
            // Chains have visited both modes, and their states prove nearly all of Z.
            assert!(found.lower > truth - 0.1, "{truth} {found:?}");
            // The weights are dominated by a few runs from the uniform base rate.
            assert!(found.upper - found.lower < 4.0 && found.r_hat > Some(1.1), "{found:?}");
            let likelihood = log_likelihood(&resident, zeros, &found).expect("a likelihood");
            assert!((likelihood.mean + truth).abs() < 0.5, "{truth} {likelihood:?}");
        }
    }
}

/// Two modes of the same depth, one of them so narrow that annealing never finds it. Data there prove that it exists; its share of
/// the model is unknown, so there is no upper end.
#[test]
fn a_valley_that_forward_runs_do_not_find_takes_the_upper_end_away() {
    let cpu = Cpu::detect().expect("a CPU");
    // Hidden unit j detects one pattern, with all other visible units off: a golf hole in a plain.
    let (n, m) = (40, 8);
    let weights: Vec<f32> = (0..n * m).map(|k| if k / m % 2 == 0 { 3.0 } else { -3.0 }).collect();
    let rbm = Rbm::from_parts(shape(n, m), weights, vec![0.0; n], vec![-3.0 * 18.5; m]).expect("a model");
    let resident = rbm.on(cpu).expect("resident");
    let truth = exact(&rbm);
    let hole: Vec<f32> = (0..50 * n).map(|k| if k % n % 2 == 0 { 1.0 } else { 0.0 }).collect();
    let plain = random_bits(50 * n, 0.5, 3);
    let settings = Annealing { runs: 100, schedule: Schedule::new(300).expect("steps"), burn_in: 1000, seed: 4 };
    let both = [&plain[..49 * n], &hole[..n]].concat();
    let (both, plain) = (rows(&both, n), rows(&plain, n));
    let found =
        bracket(&resident, &BaseRate::fit(plain), Start::Rows(rows(&hole, n).into()), &settings).expect("a bracket");
    assert_eq!((found.verdict(), found.agreement), (Verdict::LowerBound, Agreement::Divided), "{truth} {found:?}");
    assert!(found.upper == f64::INFINITY && found.lower <= truth && found.excess > Some(1.0), "{truth} {found:?}");
    assert!(found.warning().is_some_and(|warning| warning.contains("it is unknown how much")), "{found:?}");
    let likelihood = log_likelihood(&resident, both, &found).expect("a likelihood");
    assert_eq!((likelihood.lower, likelihood.verdict), (f64::NEG_INFINITY, Verdict::LowerBound));
    assert_eq!(likelihood.reason, found.reason());
}

/// An interval that covers one mode only; rows in the other one refute it.
#[test]
fn rows_that_are_too_likely_refute_the_interval() {
    let (n, rbm) = (10, two_valleys(3.0));
    let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
    let ones = vec![1.0; 50 * n];
    let ones = rows(&ones, n);
    let truth = exact(&rbm);
    let settings = Annealing { runs: 50, schedule: Schedule::new(1000).expect("steps"), burn_in: 100, seed: 4 };
    let mut found = ais(&resident, &BaseRate::uniform(n), &settings).expect("an estimate");
    (found.lower, found.estimate, found.upper) = (-0.1, 0.0, 0.1);

    let free_energies = resident.free_energy(ones).expect("free energies");
    let bound = lower_bound(rbm.shape(), ones, &free_energies).expect("a bound");
    let refuted = found.clone().at_least(bound);
    assert_eq!((refuted.lower, refuted.estimate, refuted.upper), (bound, bound, f64::INFINITY));
    assert_eq!((refuted.refuted, refuted.verdict()), (Some(0.1), Verdict::LowerBound));
    assert!(bound <= truth && bound > truth - 0.1, "{bound} {truth}");
    let reason = refuted.reason();
    assert!(reason.contains("at least 3.00") && reason.contains("below 0."), "{reason}");
    assert_eq!(refuted.warning().as_ref(), Some(&reason));
    assert_eq!(refuted.clone().at_least(bound - 1.0), refuted, "a weaker bound changes nothing");

    // The rows refute it even if nobody requests the bound.
    for log_z in [&found, &refuted] {
        let likelihood = log_likelihood(&resident, ones, log_z).expect("a likelihood");
        assert!(likelihood.mean <= 0.0 && likelihood.mean > -0.1 && likelihood.upper <= 0.0, "{likelihood:?}");
        assert_eq!((likelihood.lower, &likelihood.reason), (f64::NEG_INFINITY, &reason));
        assert_eq!(likelihood, LogLikelihood::of(rbm.shape(), &free_energies, log_z));
        let each = log_likelihoods(&resident, ones, log_z).expect("likelihoods");
        assert!(each.iter().all(|&each| each <= 0.0 && each > -0.1), "{each:?}");
    }
}

#[test]
fn a_bound_within_the_interval_cuts_it() {
    let rbm = random_rbm(shape(6, 5), 1.0, 3);
    let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
    let settings = Annealing { runs: 10, schedule: Schedule::new(20).expect("steps"), burn_in: 10, seed: 4 };
    let found = bracket(&resident, &BaseRate::uniform(6), Start::Annealed, &settings).expect("a bracket");
    for (bound, estimate) in [
        (found.lower - 1.0, found.estimate),
        (found.lower.midpoint(found.estimate), found.estimate),
        (found.estimate.midpoint(found.upper), found.estimate.midpoint(found.upper)),
    ] {
        let cut = found.clone().at_least(bound);
        let expected = (bound.max(found.lower), estimate, found.upper, None);
        assert_eq!((cut.lower, cut.estimate, cut.upper, cut.refuted), expected);
        assert_eq!(cut.warning(), found.warning());
    }
    let exact = log_partition::exact(rbm.view()).expect("small enough");
    assert_eq!(exact.clone().at_least(exact.estimate + 1.0), exact);
}

/// log Z is the bound of all states, each of which counts once for any number of copies.
#[test]
fn distinct_rows_bound_log_z() {
    let cpu = Cpu::detect().expect("a CPU");
    for (seed, n_visible) in [(1, 3), (2, 9), (3, 11)] {
        let rbm = random_rbm(shape(n_visible, 7), 2.0, seed);
        let resident = rbm.on(cpu).expect("resident");
        let bound = |data: &[f32]| {
            let held = rows(data, n_visible);
            lower_bound(rbm.shape(), held, &resident.free_energy(held).expect("free energies")).expect("a bound")
        };
        let state = |v: usize| (0..n_visible).map(move |i| (v >> i & 1) as f32);
        let all: Vec<f32> = (0..1 << n_visible).flat_map(state).collect();
        let truth = exact(&rbm);
        assert!((truth - 1e-4..=truth).contains(&bound(&all)), "{} {truth}", bound(&all));
        assert_eq!(bound(&all.repeat(3)), bound(&all));
        let half = bound(&all[..all.len() / 2]);
        assert!(half < truth - 1e-3, "{half} {truth}");
    }
    // Rows that differ in one bit of the second word, or in the last bit.
    let rbm = Rbm::from_parts(shape(70, 1), vec![0.0; 70], vec![0.0; 70], vec![0.0]).expect("a model");
    let mut data = vec![0.0; 4 * 70];
    [70 + 64, 2 * 70 + 69].into_iter().for_each(|bit| data[bit] = 1.0);
    let found = lower_bound(rbm.shape(), rows(&data, 70), &[-2f64.ln(); 4]).expect("a bound");
    assert!((found - 6f64.ln()).abs() < 1e-5, "{found}");

    let held = rows(&data, 70);
    assert!(matches!(lower_bound(shape(69, 1), held, &[0.0; 4]), Err(Error::Argument { what: "rows", .. })));
    assert!(matches!(lower_bound(rbm.shape(), held, &[0.0; 3]), Err(Error::Length { expected: 4, found: 3, .. })));
    let grey = harmonium::Dataset::from_u8([[0; 71], [254; 71]].concat()[..140].to_vec(), 70).expect("rows");
    let problem = lower_bound(rbm.shape(), grey.rows(), &[0.0; 2]).expect_err("grey rows");
    assert_eq!(problem.to_string(), "rows[71]: expected 0 or 1, found 0.99607843");
}

#[test]
fn names_are_read_back() {
    for method in [Method::Exact, Method::Ais, Method::ReverseAis, Method::Bracket] {
        assert_eq!(method.to_string().parse(), Ok(method));
    }
    for verdict in [Verdict::Exact, Verdict::Bracketed, Verdict::LowerBound, Verdict::UpperBound] {
        assert_eq!(verdict.to_string().parse(), Ok(verdict));
    }
    use Agreement::{Apart, Crossed, Divided, Exact, Meet, Unchecked};
    for agreement in [Exact, Unchecked, Meet, Apart, Crossed, Divided] {
        assert_eq!(agreement.to_string().parse(), Ok(agreement));
    }
    assert_eq!(format!("{:>12}", Method::ReverseAis), " reverse_ais");
    let problem = "ai\ns".parse::<Method>().expect_err("no method");
    assert_eq!(problem.to_string(), "method: expected one of exact, ais, reverse_ais, bracket, found ai\\ns");
}

#[test]
fn a_model_of_independent_units_is_known_to_rounding() {
    let rbm = Rbm::from_parts(shape(20, 8), vec![0.0; 160], vec![-1.5; 20], vec![0.7; 8]).expect("a model");
    let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
    let settings = Annealing { runs: 20, schedule: Schedule::new(100).expect("steps"), burn_in: 0, seed: 1 };
    let base_rate = BaseRate::fit(rows(&random_bits(20 * 40, 0.2, 3), 20));
    let found = bracket(&resident, &base_rate, Start::Annealed, &settings).expect("a bracket");
    let truth = exact(&rbm);
    assert!((found.lower..=found.upper).contains(&truth), "{truth} {found:?}");
    // The visible biases differ from the base rate's, so that weights vary slightly.
    assert!(found.upper - found.lower < 2.0, "{found:?}");
}

#[test]
fn schedules_rise_from_0_to_1() {
    let standard = Schedule::default();
    assert_eq!(standard.steps(), 14_500);
    for (t, beta) in [(0, 0.0), (250, 0.25), (500, 0.5), (2500, 0.7), (4500, 0.9), (9500, 0.95), (14_500, 1.0)] {
        assert_eq!(standard.betas()[t], beta);
    }
    assert_eq!(Schedule::new(14_500).expect("steps"), standard);
    for steps in [1, 2, 3, 10, 997, 100_000] {
        let schedule = Schedule::new(steps).expect("steps");
        assert_eq!(Schedule::from_betas(schedule.betas().to_vec()).expect("rises"), schedule);
        assert_eq!(schedule.steps(), steps);
    }
    for wrong in [vec![], vec![0.0], vec![0.0, 0.5], vec![0.1, 1.0], vec![0.0, 0.7, 0.6, 1.0], vec![0.0, f32::NAN, 1.0]]
    {
        assert!(Schedule::from_betas(wrong).is_err());
    }
    assert!(Schedule::new(0).is_err());
}

#[test]
fn wrong_arguments_are_errors() {
    let rbm = Rbm::new(shape(6, 4), 1);
    let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
    let settings = Annealing { runs: 4, schedule: Schedule::new(10).expect("steps"), burn_in: 1, seed: 1 };
    assert!(ais(&resident, &BaseRate::uniform(5), &settings).is_err());
    assert!(ais(&resident, &BaseRate::uniform(6), &Annealing { runs: 1, ..settings.clone() }).is_err());
    let other = vec![0.0; 14];
    assert!(reverse_ais(&resident, &BaseRate::uniform(6), Start::Rows(rows(&other, 7).into()), &settings).is_err());
    let mut gradient = Gradient::zero(rbm.shape());
    assert!(log_partition::exact::gradient(rbm.view(), rows(&other, 7), &mut gradient).is_err());
}
