//! log Z against enumeration and against a sequential program of annealing.

mod oracle;

use harmonium::{
    Cpu, Device, Error, Gradient, Isa, LogLikelihood, Purpose, Rbm, Uniforms,
    elementary::softplus,
    likelihood::log_likelihoods,
    log_likelihood,
    log_partition::{
        self, Agreement, Annealing, BaseRate, LogPartition, Method, Schedule, Start, ais, bracket, lower_bound,
        reverse_ais,
    },
};
use oracle::{
    canonical,
    exact::{Exact, log_sum_exp, rows_f64},
    flat, generator, in_pool, random_bits, random_rbm, rows, shape,
    statistics::assert_relative,
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
        assert_eq!((found.method, found.agreement, found.warning()), (Method::Exact, Agreement::Exact, None));
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

/// More states than one walk from scratch has, and more than one block.
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
            let state = oracle::exact::state(v, nv);
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

/// Runs of annealing as one sequential program.
fn naive_ais(rbm: &Rbm, reference: &[f32], betas: &[f32], runs: usize, draws: Uniforms) -> f64 {
    let (nv, nh) = (rbm.shape().n_visible(), rbm.shape().n_hidden());
    let (w, b, c) = (rbm.view().weights(), rbm.view().visible_bias(), rbm.view().hidden_bias());
    let mut generator = draws.generator();
    let mut h = vec![0.0; runs * nh];
    let mut log_weights = vec![0.0; runs];
    let dense =
        |x: &[f32], w: &dyn Fn(usize) -> f32| x.iter().enumerate().fold(0.0f32, |sum, (k, &x)| x.mul_add(w(k), sum));
    for pair in betas.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let mut pre = Vec::new();
        for h in h.chunks_exact(nh) {
            for i in 0..nv {
                let bias = from.mul_add(b[i], (1.0 - from) * reference[i]);
                pre.push(from.mul_add(dense(h, &|j| w[i * nh + j]), bias));
            }
        }
        let v = canonical::sample(&pre, &mut generator);
        pre.clear();
        for (v, log_weight) in v.chunks_exact(nv).zip(&mut log_weights) {
            for i in 0..nv {
                *log_weight +=
                    f64::from(v[i]) * (f64::from(to) - f64::from(from)) * (f64::from(b[i]) - f64::from(reference[i]));
            }
            for j in 0..nh {
                let sum = dense(v, &|i| w[i * nh + j]);
                let (before, after) = (from.mul_add(sum, from * c[j]), to.mul_add(sum, to * c[j]));
                *log_weight += f64::from(softplus(after)) - f64::from(softplus(before));
                pre.push(after);
            }
        }
        h = canonical::sample(&pre, &mut generator);
    }
    let log_z_0: f64 = reference.iter().map(|&a| oracle::exact::softplus(f64::from(a))).sum();
    log_z_0 + nh as f64 * 2f64.ln() + log_sum_exp(&log_weights) - (runs as f64).ln()
}

#[test]
fn annealing_is_the_sequential_program() {
    for (nv, nh, runs, seed) in [(7, 5, 3, 1), (70, 65, 9, 2), (33, 130, 70, 3)] {
        let rbm = random_rbm(shape(nv, nh), 0.5, seed);
        let data = random_bits(50 * nv, 0.3, seed);
        let base_rate = BaseRate::fit(rows(&data, nv));
        let settings = Annealing { runs, schedule: Schedule::new(137).expect("steps"), burn_in: 0, seed };
        let expected =
            naive_ais(&rbm, base_rate.bias(), settings.schedule.betas(), runs, Uniforms::new(seed, Purpose::Annealing));
        let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
        let found = ais(&resident, &base_rate, &settings).expect("an estimate");
        // The same `f32` terms; only the order of their `f64` sums differs.
        assert!((found.estimate - expected).abs() <= 1e-6, "{} {expected}", found.estimate);
    }
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

/// P(X > k) for X binomial of n and p.
fn binomial_tail(n: u32, p: f64, k: u32) -> f64 {
    let mut term = (1.0 - p).powi(n as i32);
    let mut sum = if k == u32::MAX { term } else { 0.0 };
    for x in 0..n {
        term *= f64::from(n - x) / f64::from(x + 1) * p / (1.0 - p);
        if x + 1 > k {
            sum += term;
        }
    }
    sum
}

/// The bracket is said to contain log Z in 99 % of cases: of 200, with a false-alarm rate of 1e-6, as many may miss.
fn allowed_misses() -> usize {
    (0..200).find(|&k| binomial_tail(200, 0.01, k) < 1e-6).expect("a limit") as usize
}

fn assert_covers(device: &Device, settings: &Annealing) {
    let (mut misses, mut meet) = (Vec::new(), 0);
    for seed in 0..200 {
        let rbm = some_model(seed);
        let base_rate = BaseRate::uniform(rbm.shape().n_visible());
        let settings = Annealing { seed, ..settings.clone() };
        let resident = rbm.on(device).expect("resident");
        let found = bracket(&resident, &base_rate, Start::Annealed, &settings).expect("a bracket");
        let truth = exact(&rbm);
        assert!(found.lower <= found.estimate && found.estimate <= found.upper);
        if !(found.lower..=found.upper).contains(&truth) {
            misses.push((seed, truth, found.clone()));
        }
        meet += usize::from(found.agreement == Agreement::Meet);
    }
    assert!(misses.len() <= allowed_misses(), "{} of 200 miss: {misses:?}", misses.len());
    assert!(meet >= 150, "forward and reverse meet in {meet} of 200");
}

#[test]
fn the_bracket_contains_the_truth() {
    let settings = Annealing { runs: 50, schedule: Schedule::new(1000).expect("steps"), burn_in: 100, seed: 0 };
    assert_covers(&Cpu::detect().expect("a CPU").into(), &settings);
}

/// So few temperatures that a few runs make the mean weight of either direction: Markov's inequality alone would leave 13
/// nats.
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
        if found.effective_sample_size < 10.0 {
            scattered += 1;
            widths += found.upper - found.lower;
        }
    }
    assert!(misses <= allowed_misses(), "{misses} of 200 miss");
    assert!(scattered >= 20, "{scattered} of 200 scatter");
    assert!(widths / f64::from(scattered) < 9.0, "{}", widths / f64::from(scattered));
}

#[test]
fn the_bracket_of_the_matrix_road_contains_the_truth() {
    let settings = Annealing { runs: 20, schedule: Schedule::new(500).expect("steps"), burn_in: 50, seed: 0 };
    assert_covers(&oracle::gemm(), &settings);
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
        assert!(width(&short_ais) > 2.0 * width(&long_ais), "{seed}: {short_ais:?} {long_ais:?}");
        let flagged = short.warning().expect("a warning");
        assert!(short.agreement == Agreement::Apart || flagged.contains("effective sample size"), "{seed}: {flagged}");
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

/// One row, or two chains, start as many reverse runs as are asked for.
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
        // Copies of a start make runs of their own.
        assert!(found.effective_sample_size > 10.0, "{start:?}: {found:?}");
    }
}

/// Two valleys, all off and all on, the second one 3 nats deeper, and a hundred nats between them.
fn two_valleys() -> Rbm {
    let (n, w) = (10, 4.0);
    let bias = vec![0.15 - w * n as f32 / 2.0; n];
    Rbm::from_parts(shape(n, n), vec![w; n * n], bias.clone(), bias).expect("a model")
}

/// Reverse runs that all start in the lesser of two valleys see little of Z.
#[test]
fn chains_that_are_no_samples_of_the_model_are_noticed() {
    let cpu = Cpu::detect().expect("a CPU");
    let (n, rbm) = (10, two_valleys());
    let resident = rbm.on(cpu).expect("resident");
    let zeros = vec![0.0; 50 * n];
    let start = Start::Rows(rows(&zeros, n).into());
    let settings = Annealing { runs: 50, schedule: Schedule::new(3000).expect("steps"), burn_in: 100, seed: 4 };
    let found = bracket(&resident, &BaseRate::uniform(n), start, &settings).expect("a bracket");
    assert_eq!(found.agreement, Agreement::Crossed, "{found:?}");
    assert!(found.warning().expect("a warning").contains("no samples of the model"));
    let truth = exact(&rbm);
    assert!((found.lower..=found.upper).contains(&truth), "{truth} {found:?}");
}

/// The base rate and the reverse runs know one valley only, and so the directions agree; rows in the other one refute them.
#[test]
fn rows_that_are_too_likely_refute_the_interval() {
    let (n, rbm) = (10, two_valleys());
    let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
    let (zeros, ones) = (vec![0.0; 50 * n], vec![1.0; 50 * n]);
    let (zeros, ones) = (rows(&zeros, n), rows(&ones, n));
    let settings = Annealing { runs: 50, schedule: Schedule::new(1000).expect("steps"), burn_in: 100, seed: 4 };
    let found = bracket(&resident, &BaseRate::fit(zeros), Start::Rows(zeros.into()), &settings).expect("a bracket");
    let truth = exact(&rbm);
    assert!(found.agreement == Agreement::Meet && found.warning().is_none() && found.upper < truth - 2.0, "{found:?}");

    let free_energies = resident.free_energy(ones).expect("free energies");
    let bound = lower_bound(rbm.shape(), ones, &free_energies).expect("a bound");
    let refuted = found.clone().at_least(bound);
    assert_eq!((refuted.lower, refuted.estimate, refuted.upper), (bound, bound, f64::INFINITY));
    assert_eq!((refuted.refuted, refuted.forward), (Some(found.upper), found.forward));
    assert!(bound <= truth && bound > truth - 0.1, "{bound} {truth}");
    let warning = refuted.warning().expect("a warning");
    assert!(warning.contains("at least 3.00") && warning.contains("below 0."), "{warning}");
    assert_eq!(refuted.clone().at_least(bound - 1.0), refuted, "a weaker bound changes nothing");

    // The rows refute it also where nobody has asked for the bound.
    for log_z in [&found, &refuted] {
        let likelihood = log_likelihood(&resident, ones, log_z).expect("a likelihood");
        assert!(likelihood.mean <= 0.0 && likelihood.mean > -0.1 && likelihood.upper <= 0.0, "{likelihood:?}");
        assert_eq!((likelihood.lower, likelihood.warning.as_deref()), (f64::NEG_INFINITY, Some(&*warning)));
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

/// log Z is the bound of all states, each of which counts once however often it occurs.
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
    use Agreement::{Apart, Crossed, Exact, Meet, Unchecked};
    for agreement in [Exact, Unchecked, Meet, Apart, Crossed] {
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
    // The visible biases differ from the base rate's, so that weights vary a little.
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
