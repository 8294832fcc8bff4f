//! Visible units of several laws learn: gradients of updates, small models, and what is refused.

mod oracle;

use harmonium::{
    Activations, Algorithm, ChainState, Chains, Cpu, Dataset, Error, Gradient, Isa, Monitor, Purpose, Rbm, RbmRef,
    Resident, Rows, Segments, Settings, Shape, Trainer, Uniforms, Values,
    elementary::exp,
    log_partition::{Annealing, BaseRate, Start, ais, exact, reverse_ais},
};
use oracle::{
    assert_bits,
    canonical::Canonical,
    exact::{add, mean, rows_f64, state},
    generator, in_pool,
    laws::{Laws, law_rows, random_laws, random_states, segments},
    rows,
    statistics::{assert_distribution, assert_near, gamma, law_gradient_error},
    uniform,
};

const LAYERS: [&str; 4] =
    ["potts:31x5", "gaussian:97", "binary:61,potts:3x7,gaussian:50", "gaussian:2,potts:1x70,binary:9"];
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Cd, Algorithm::Pcd { n_chains: 3 }, Algorithm::Pcd { n_chains: 70 }];

fn settings(algorithm: Algorithm) -> Settings {
    Settings { algorithm, k: 2, monitor: Monitor::None, seed: 5, ..Settings::default() }
}

/// The gradient by the contract, from the means of data and chains' ends: with x = s·v in `f32` as of binary units. And in `f64`:
/// ∂/∂θ of mean F(data) - mean F(ends). An update is this gradient applied.
#[test]
fn an_updates_gradient_is_the_oracles() {
    for (seed, text) in LAYERS.into_iter().enumerate() {
        for algorithm in ALGORITHMS {
            let (nh, n) = (37, 9);
            let rbm = random_laws(text, nh, 0.15, seed as u64);
            let (model, visible) = (Laws::of(&rbm), segments(text));
            let data = random_states(visible, n, true, 6);
            for (isa, threads) in Isa::available().into_iter().zip([1, 2, 3]) {
                let device = Cpu::with_isa(isa);
                let (mut out, mut ends) = (Gradient::zero(rbm.shape()), Activations::default());
                out.visible_log_variance.fill(7.0);
                let (mut p, mut q) = (Activations::default(), Activations::default());
                let mut stepped = rbm.on(device).expect("resident");
                in_pool(threads, || {
                    let resident = rbm.on(device).expect("resident");
                    let mut trainer = Trainer::new(device, rbm.shape(), settings(algorithm)).expect("trainer");
                    trainer.gradient(&resident, law_rows(&data, visible), &mut out).expect("gradient");
                    trainer.chains().visible(&resident, &mut ends).expect("ends");
                    resident.propup(law_rows(&data, visible), &mut p).expect("propup");
                    resident.propup(law_rows(&ends.sample, visible), &mut q).expect("propup");
                    let mut trainer = Trainer::new(device, rbm.shape(), settings(algorithm)).expect("trainer");
                    trainer.step(&mut stepped, law_rows(&data, visible), 0.1).expect("step");
                });
                let scaled = |v: &[f32]| -> Vec<f32> {
                    let s = |i: usize| rbm.view().visible_log_variance().get(i).map_or(1.0, |log| exp(-log));
                    v.iter().enumerate().map(|(at, v)| s(at % model.nv) * v).collect()
                };
                let mut canonical = Canonical::of(&rbm);
                let expected = canonical.gradient(&scaled(&data), &p.mean, &scaled(&ends.sample), &q.mean);
                assert_bits(&out.weights, &expected.weights, text);
                assert_bits(&out.visible_bias, &expected.visible_bias, text);
                assert_bits(&out.hidden_bias, &expected.hidden_bias, text);
                canonical.apply(&expected, 0.1);
                let (w, b, c) = stepped.to_rbm().expect("parameters").into_parts();
                for (found, expected) in [(w, canonical.w), (b, canonical.b), (c, canonical.c)] {
                    assert_bits(&found, &expected, "after an update");
                }
            }
            // In `f64`, by one of them.
            let device = Cpu::detect().expect("a CPU");
            let resident = rbm.on(device).expect("resident");
            let mut trainer = Trainer::new(device, rbm.shape(), settings(algorithm)).expect("trainer");
            let (mut out, mut ends) = (Gradient::zero(rbm.shape()), Activations::default());
            out.visible_log_variance.fill(7.0);
            trainer.gradient(&resident, law_rows(&data, visible), &mut out).expect("gradient");
            trainer.chains().visible(&resident, &mut ends).expect("ends");
            law_rows(&ends.sample, visible);
            let (mut expected, mut bounds) = (vec![0.0; model.parameters()], vec![0.0; model.parameters()]);
            for (rows, sign) in [(&data, 1.0), (&ends.sample, -1.0)] {
                let rows = rows_f64(rows, model.nv);
                let weight = 1.0 / rows.len() as f64;
                for v in &rows {
                    add(&mut expected, sign * weight, &model.free_energy_gradient(v));
                    // b of Gaussian units comes from sums of s·v in `f32`, not of s·(v - b).
                    for i in 0..model.nv {
                        bounds[model.nv * nh + i] += weight * gamma(rows.len() + 8) * (model.s[i] * v[i]).abs();
                    }
                }
                add(&mut bounds, 1.0, &law_gradient_error(&model, &rows, &vec![weight; rows.len()]));
            }
            // ln σ² stays as it is.
            assert!(out.visible_log_variance.iter().all(|&x| x == 0.0));
            let found = oracle::flat(&out);
            assert_near(&found, &expected[..found.len()], &bounds[..found.len()], text);
        }
    }
}

/// Ten classes, equally likely: by persistent chains from the tutorial's initialisation, which knows nothing of them.
#[test]
fn one_of_ten_classes_is_learnt() {
    let visible = segments("potts:1x10");
    let shape = Shape::with_visible(visible, 20).expect("a shape");
    let values: Vec<f32> = (0..100).map(|at| f32::from(u8::from(at % 11 == 0))).collect();
    let data = Dataset::of_numbers(values.clone(), visible).expect("rows");
    let device = Cpu::detect().expect("a CPU");
    let mut rbm = Rbm::new(shape, 1).on(device).expect("resident");
    let likelihood = |rbm: &Resident| {
        let rbm = rbm.to_rbm().expect("parameters");
        exact::log_likelihood(rbm.view(), law_rows(&values, visible)).expect("likelihoods").iter().sum::<f64>() / 10.0
    };
    let best = -(10f64.ln());
    assert!(likelihood(&rbm) < best - 0.1, "{}", likelihood(&rbm));
    let mut trainer = Trainer::new(device, shape, settings(Algorithm::Pcd { n_chains: 500 })).expect("trainer");
    for update in 0..1500 {
        trainer.step(&mut rbm, &data, 0.2 / (1.0 + update as f32 / 150.0)).expect("step");
    }
    let found = likelihood(&rbm);
    assert!(found <= best + 1e-9 && found > best - 0.02, "{found} {best}");
    let mut chains = trainer.chains().clone();
    chains.sweep(&rbm, 5).expect("sweep");
    let mut out = Activations::default();
    chains.visible(&rbm, &mut out).expect("visible");
    law_rows(&out.sample, visible);
}

/// Two modes at ±1 with σ = ½, by exact gradients and by persistent chains. The model can be the distribution, whose
/// log-likelihood the data's mean estimates, and has a valley between the modes; samples are distributed as it says.
#[test]
fn two_modes_are_learnt() {
    let (visible, n) = (segments("gaussian:1"), 4000);
    let mut chance = generator(3);
    let mut normal = || (0..12).map(|_| uniform(&mut chance)).sum::<f64>() - 6.0;
    let values: Vec<f32> = (0..n).map(|at| (2.0 * f64::from(at as u8 % 2) - 1.0 + 0.5 * normal()) as f32).collect();
    let density = |v: f64| {
        let mode = |m: f64| (-2.0 * (v - m).powi(2)).exp() / (0.5 * std::f64::consts::TAU.sqrt());
        (0.5 * (mode(1.0) + mode(-1.0))).ln()
    };
    let best = mean(&rows_f64(&values, 1), |v| density(v[0]));
    let data = Dataset::of_numbers(values.clone(), visible).expect("rows");
    let device = Cpu::detect().expect("a CPU");
    for by_chains in [false, true] {
        let start = Rbm::from_parts(
            Shape::with_visible(visible, 2).expect("a shape"),
            vec![0.3, -0.2],
            vec![0.2],
            vec![-0.1, 0.1],
        );
        let start = start.and_then(|rbm| rbm.with_visible_log_variance(vec![0.25f32.ln()])).expect("a model");
        let mut rbm = start.on(device).expect("resident");
        let algorithm = Algorithm::Pcd { n_chains: 500 };
        let mut trainer = Trainer::new(device, rbm.shape(), settings(algorithm)).expect("trainer");
        let mut gradient = Gradient::zero(rbm.shape());
        for update in 0..600 {
            let lr = 0.2 / (1.0 + update as f32 / 300.0);
            if by_chains {
                trainer.step(&mut rbm, &data, lr).expect("step");
            } else {
                let view = rbm.to_rbm().expect("parameters");
                exact::gradient(view.view(), data.rows(), &mut gradient).expect("gradient");
                rbm.apply(&gradient, lr).expect("apply");
            }
        }
        let learnt = rbm.to_rbm().expect("parameters");
        let found =
            exact::log_likelihood(learnt.view(), data.rows()).expect("likelihoods").iter().sum::<f64>() / n as f64;
        assert!((found - best).abs() < 0.02, "{found} {best}, by chains: {by_chains}");
        let model = Laws::of(&learnt);
        let density_of = |v: f64| (-model.free_energy(&[v]) - model.log_z()).exp();
        // Of the two modes themselves it is 3.7.
        let depth = (density_of(1.0) + density_of(-1.0)) / (2.0 * density_of(0.0));
        assert!((2.0..8.0).contains(&depth), "{depth}, by chains: {by_chains}");
        // Samples fall into intervals as the learnt model says, at a false-alarm rate of 1e-6. A chain goes from one mode to the
        // other within some fifty steps.
        let draws = Uniforms::new(4, Purpose::Sampling);
        let mut chains = Chains::from_visible(&rbm, &data, draws).expect("chains");
        chains.sweep(&rbm, 1000).expect("sweep");
        let mut out = Activations::default();
        chains.visible(&rbm, &mut out).expect("visible");
        let below = |x: f64| -> f64 {
            let of = |(h, p): (usize, f64)| {
                let z = (x - model.visible_pre(&state(h, 2)).0[0]) * model.s[0].sqrt();
                p * 0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
            };
            model.p_h().into_iter().enumerate().map(of).sum()
        };
        let ends: Vec<f64> = (-10..=10).map(|at| f64::from(at) / 4.0).collect();
        let up_to: Vec<f64> = [0.0].into_iter().chain(ends.iter().map(|&x| below(x))).chain([1.0]).collect();
        let p: Vec<f64> = up_to.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mut counts = vec![0; p.len()];
        out.sample.iter().for_each(|&v| counts[ends.partition_point(|&x| x <= f64::from(v))] += 1);
        assert_distribution(&counts, &p, "samples");
    }
}

/// Each law refuses what it does not know, and says where it is.
#[test]
fn rows_that_a_law_does_not_allow_are_refused() {
    let visible = segments("binary:2,potts:2x3,gaussian:2");
    let right = [1.0, 0.5, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, -3.5, 1e30];
    let with = |changes: &[(usize, f32)]| {
        let mut values = [right, right, right].concat();
        changes.iter().for_each(|&(at, x)| values[20 + at] = x);
        values
    };
    law_rows(&with(&[]), visible);
    let no_state = "a single 1 among the states of the site that begins here";
    for (changes, column, law, expected) in [
        (&[(0, -0.5)][..], 0, "binary", "a value within [0, 1]"),
        (&[(1, 1.5)], 1, "binary", "a value within [0, 1]"),
        (&[(1, f32::NAN)], 1, "binary", "a value within [0, 1]"),
        (&[(4, 0.5)], 4, "potts", "0 or 1"),
        (&[(7, f32::NAN)], 7, "potts", "0 or 1"),
        (&[(3, 0.0)], 2, "potts", no_state),
        (&[(7, 1.0)], 5, "potts", no_state),
        (&[(8, f32::INFINITY)], 8, "gaussian", "a finite number"),
        (&[(9, f32::NAN)], 9, "gaussian", "a finite number"),
    ] {
        let values = with(changes);
        let plain = random_laws("binary:2,potts:2x3,gaussian:2", 3, 1.0, 1).on(Cpu::detect().expect("a CPU"));
        let plain = plain.expect("resident");
        let problems = [
            Rows::with_segments(Values::F32(&values), visible).expect_err("a wrong row"),
            Dataset::of_numbers(values.clone(), visible).expect_err("a wrong row"),
        ];
        for problem in problems {
            let Error::Law { row: 2, column: at, law: of, expected: allowed, found } = problem else {
                panic!("{problem:?}")
            };
            assert_eq!((at, of, allowed), (column, law, expected));
            assert_eq!(found.to_bits(), values[20 + column].to_bits());
            let text = problem.to_string();
            assert!(
                text.contains("row 2") && text.contains(&format!("column {column}")) && text.contains(law),
                "{text}"
            );
        }
        // As rows of another law that allows them: the model looks for itself.
        if values.iter().all(|x| x.is_finite()) {
            let numbers = law_rows(&values, segments("gaussian:10"));
            let problem = plain.free_energy(numbers).expect_err("a wrong row");
            assert!(matches!(problem, Error::Law { row: 2, column: at, .. } if at == column), "{problem:?}");
        }
    }
    // Eight-bit values are bits and states, too, of which 255 stands for 1.
    let bytes = [0, 128, 255, 0, 0];
    Rows::with_segments(Values::U8(&bytes), segments("binary:2,potts:1x3")).expect("right rows");
    let problem = Rows::with_segments(Values::U8(&bytes), segments("potts:1x5")).expect_err("a grey state");
    assert!(matches!(problem, Error::Law { row: 0, column: 1, law: "potts", .. }), "{problem:?}");
}

/// Rows that do not say which laws they follow serve where the model's laws allow them, and give the same.
#[test]
fn rows_without_laws_serve_where_they_can() {
    let rbm = random_laws("binary:2,potts:1x3", 4, 1.0, 2);
    let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
    let values = [1.0, 0.0, 0.0, 1.0, 0.0];
    let said = resident.free_energy(law_rows(&values, rbm.shape().visible())).expect("free energy");
    assert_eq!(resident.free_energy(rows(&values, 5)), Ok(said));
    let problem = resident.free_energy(rows(&[1.0, 0.0, 1.0, 1.0, 0.0], 5)).expect_err("two states");
    assert!(matches!(problem, Error::Law { row: 0, column: 2, law: "potts", .. }), "{problem:?}");
}

#[test]
fn segments_and_variances_must_fit() {
    let argument = |problem: Error, what: &str| {
        assert!(matches!(&problem, Error::Argument { what: of, .. } if *of == what), "{problem:?}");
        problem.to_string()
    };
    let data = Dataset::from_u8(vec![255, 0, 0, 255], 2).expect("rows");
    let text = argument(data.clone().with_segments(segments("potts:1x3")).expect_err("three units"), "rows");
    assert!(text.contains("3 values") && text.ends_with("found 2"), "{text}");
    assert_eq!(data.with_segments(segments("potts:1x2")).expect("states").segments(), segments("potts:1x2"));
    let problem = Dataset::of_numbers(vec![0.0; 7], segments("gaussian:3")).expect_err("no whole row");
    assert_eq!(problem, Error::Length { what: "rows", expected: 9, found: 7 });

    // Variances: none where there is no Gaussian unit, 0 for others, no more than e^±40.
    let what = "visible_log_variance";
    let shape = |text: &str| Shape::with_visible(segments(text), 1).expect("a shape");
    let rbm = |text: &str| {
        let n = segments(text).units();
        Rbm::from_parts(shape(text), vec![0.5; n], vec![0.0; n], vec![0.0]).expect("a model")
    };
    let refused = |text: &str, values: &[f32]| {
        let problem = rbm(text).with_visible_log_variance(values.to_vec()).expect_err("wrong variances");
        let borrowed = rbm(text);
        let borrowed: RbmRef<'_> = borrowed.view();
        // A NaN is not equal to itself.
        let again = borrowed.with_visible_log_variance(values).expect_err("wrong variances");
        assert_eq!(problem.to_string(), again.to_string());
        problem
    };
    assert_eq!(refused("binary:2", &[0.0, 0.0]), Error::Length { what, expected: 0, found: 2 });
    assert_eq!(refused("binary:2", &[]), Error::Length { what, expected: 0, found: 0 });
    assert_eq!(refused("gaussian:2", &[0.0]), Error::Length { what, expected: 2, found: 1 });
    let expected = "0, as the unit is not Gaussian";
    assert_eq!(
        refused("potts:1x2,gaussian:1", &[0.0, 0.1, 1.0]),
        Error::Value { what, index: 1, expected, found: 0.1 }
    );
    for wrong in [40.1, -41.0, f32::INFINITY, f32::NAN] {
        let problem = refused("binary:1,gaussian:2", &[0.0, 40.0, wrong]);
        assert!(matches!(problem, Error::Value { index: 2, .. }), "{problem:?}");
    }
    assert!(rbm("gaussian:1").with_visible_log_variance(vec![-40.0]).is_ok());

    // A base rate of other laws.
    let potts = rbm("potts:2x2").on(Cpu::detect().expect("a CPU")).expect("resident");
    for base_rate in [BaseRate::uniform(4), BaseRate::broad(rbm("gaussian:4").view())] {
        let problem = ais(&potts, &base_rate, &Annealing::default()).expect_err("another base rate");
        assert!(argument(problem, "base_rate").contains("potts:2x2"));
        let problem = reverse_ais(&potts, &base_rate, Start::Annealed, &Annealing::default());
        argument(problem.expect_err("another base rate"), "base_rate");
    }
}

/// Chains and trainers of other laws with as many units are refused, and the message tells both apart.
#[test]
fn shapes_of_other_laws_are_told_apart() {
    let device = Cpu::detect().expect("a CPU");
    let model = |text: &str| random_laws(text, 3, 1.0, 1).on(device).expect("resident");
    let draws = || Uniforms::new(1, Purpose::Sampling);
    let (potts, binary) = (model("potts:2x2"), model("binary:4"));
    let mut chains = Chains::new(device, potts.shape(), 2, draws()).expect("chains");
    let mut problems = vec![chains.sweep(&binary, 1).expect_err("other laws").to_string()];
    let mut trainer = Trainer::new(device, potts.shape(), settings(ALGORITHMS[1])).expect("trainer");
    problems.push(trainer.step(&mut binary.clone(), rows(&[0.0; 4], 4), 0.1).expect_err("other laws").to_string());
    problems.push(
        trainer
            .set_chains(Chains::new(device, binary.shape(), 3, draws()).expect("chains"))
            .expect_err("other laws")
            .to_string(),
    );
    problems.push(potts.clone().approach(&binary, 0.5).expect_err("other laws").to_string());
    assert!(problems.iter().all(|text| text.contains("potts:2x2") && text.contains("binary:4")), "{problems:#?}");
}

/// At β = 0 a Gaussian unit would have no precision.
#[test]
fn chains_of_numbers_have_a_temperature() {
    let visible: Segments = segments("potts:1x2,gaussian:1");
    let shape = Shape::with_visible(visible, 3).expect("a shape");
    for beta in [0.0, -1.0] {
        let state =
            ChainState { hidden: vec![0; 2], betas: vec![1.0, beta], uniforms: Uniforms::new(1, Purpose::Sampling) };
        let problem = Chains::from_state(Cpu::detect().expect("a CPU"), shape, &state).expect_err("no precision");
        assert!(matches!(problem, Error::Value { what: "betas", index: 1, .. }), "{problem:?}");
    }
}
