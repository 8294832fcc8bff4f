//! Visible units of several laws are trained: gradients of updates, initial models, small models.

use crate::oracle::{
    assert_bits,
    canonical::Canonical,
    exact::{add, mean, rows_f64, state},
    generator, in_pool,
    laws::{Laws, law_rows, random_laws, random_states, segments},
    statistics::{assert_distribution, assert_near, gamma, law_gradient_error, mean_error, pre_error},
    uniform,
};
use harmonium::{
    Activations, Algorithm, Chains, Cpu, Dataset, Descent, Gradient, Isa, Monitor, Purpose, Rbm, Resident, Settings,
    Shape, Trainer, Uniforms,
    descent::Centring,
    elementary::exp,
    log_partition::{Annealing, BaseRate, Schedule, ais, exact},
};

const LAYERS: [&str; 4] =
    ["potts:31x5", "gaussian:97", "binary:61,potts:3x7,gaussian:50", "gaussian:2,potts:1x70,binary:9"];
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Cd, Algorithm::Pcd { n_chains: 3 }, Algorithm::Pcd { n_chains: 70 }];

fn settings(algorithm: Algorithm) -> Settings {
    Settings { algorithm, k: 2, monitor: Monitor::None, seed: 5, ..Settings::default() }
}

/// The gradient by the contract, from the means of data and chain ends: with x = s·v in `f32` as for binary units. And in `f64`:
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
            // In `f64`, by one device.
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
            let mut found = crate::oracle::flat(&out);
            if !visible.is_discrete() {
                found.extend(out.visible_log_variance.iter().map(|&x| f64::from(x)));
            }
            assert_near(&found, &expected[..found.len()], &bounds[..found.len()], text);
        }
    }
}

/// A step with [`Settings::variance`] changes ln σ² against its gradient, for any rules for the other parameters, and changes these
/// exactly as a step without it.
#[test]
fn variances_are_learnt_by_their_gradient() {
    let visible = segments("binary:3,gaussian:4");
    for descent in
        [Descent::default(), Descent { centring: Some(Centring::default()), momentum: 0.5, ..Descent::default() }]
    {
        let rbm = random_laws("binary:3,gaussian:4", 6, 0.3, 1);
        let data = random_states(visible, 9, true, 6);
        let rows = law_rows(&data, visible);
        let of = |variance| Settings { descent, variance, ..settings(Algorithm::Pcd { n_chains: 11 }) };
        let device = Cpu::detect().expect("a CPU");
        let trainer = |variance| Trainer::new(device, rbm.shape(), of(variance)).expect("a trainer");
        let mut gradient = Gradient::zero(rbm.shape());
        let (mut held, mut learnt) = (rbm.on(device).expect("resident"), rbm.on(device).expect("resident"));
        trainer(0.0).gradient(&held, rows, &mut gradient).expect("gradient");
        trainer(0.0).step(&mut held, rows, 0.1).expect("step");
        trainer(0.25).step(&mut learnt, rows, 0.1).expect("step");
        let (held, learnt) = (held.to_rbm().expect("parameters"), learnt.to_rbm().expect("parameters"));
        let (old, new) = (held.view(), learnt.view());
        assert_eq!(old.visible_log_variance(), rbm.view().visible_log_variance());
        for (one, other) in [
            (old.weights(), new.weights()),
            (old.visible_bias(), new.visible_bias()),
            (old.hidden_bias(), new.hidden_bias()),
        ] {
            assert_bits(one, other, "another parameter");
        }
        let step = |(&log, &g): (&f32, &f32)| (-0.1f32 * 0.25).mul_add(g, log);
        let expected: Vec<f32> =
            old.visible_log_variance().iter().zip(&gradient.visible_log_variance).map(step).collect();
        assert_bits(new.visible_log_variance(), &expected, "ln σ²");
        assert!(expected[3..].iter().zip(&old.visible_log_variance()[3..]).all(|(new, old)| new != old));
    }
    let wrong = Settings { variance: f32::NAN, ..Settings::default() };
    let problem =
        Trainer::new(Cpu::detect().expect("a CPU"), Shape::new(2, 2).expect("a shape"), wrong).expect_err("NaN");
    assert!(problem.to_string().starts_with("variance: expected"), "{problem}");
}

/// The centred gradient of x = s·v: with offsets μ and λ the gradient of an update is G_W = -mean (x - μ)(P - λ)ᵀ of data and + of
/// ends, g_b = -mean x·(1 - λ·(P - λ)) + … - μ·slope and g_c = -mean (P - λ)·(1 - μ·(x - μ)) + …, where the slope is g_b for an x
/// that is always 1. In `f32`, as sums of so many terms in any order.
#[test]
fn centred_updates_are_the_oracles() {
    const LR: f32 = 0.1;
    for (seed, text) in LAYERS.into_iter().enumerate() {
        for algorithm in [Algorithm::Cd, Algorithm::Pcd { n_chains: 70 }] {
            let (nh, n) = (37, 9);
            let rbm = random_laws(text, nh, 0.1, seed as u64);
            let (model, visible, device) = (Laws::of(&rbm), segments(text), Cpu::detect().expect("a CPU"));
            let nv = model.nv;
            let data = random_states(visible, n, true, 6);
            let descent = Descent { centring: Some(Centring::default()), ..Descent::default() };
            let settings = Settings { descent, ..settings(algorithm) };
            let offsets: Vec<f32> = (0..nv).map(|i| (i % 7) as f32 / 4.0 - 0.5).collect();
            let mut stepped = rbm.on(device).expect("resident");
            let (mut ends, mut out) = (Activations::default(), Gradient::zero(rbm.shape()));
            let mut trainer = Trainer::new(device, rbm.shape(), settings).expect("trainer");
            trainer.gradient(&stepped, law_rows(&data, visible), &mut out).expect("gradient");
            trainer.chains().visible(&stepped, &mut ends).expect("ends");
            let mut trainer = Trainer::new(device, rbm.shape(), settings).expect("trainer");
            trainer.centre_at(&offsets).expect("offsets");
            trainer.step(&mut stepped, law_rows(&data, visible), LR).expect("step");

            // Small offsets count as 0.
            let mu: Vec<f64> = offsets.iter().map(|&x| if x.abs() < 0.001 { 0.0 } else { f64::from(x) }).collect();
            let lambda = 0.5;
            let mut expected = vec![0.0; model.theta.len()];
            let mut bounds = vec![0.0; model.theta.len()];
            for (rows, sign) in [(&data, -1.0), (&ends.sample, 1.0)] {
                let rows = rows_f64(rows, nv);
                let weight = 1.0 / rows.len() as f64;
                for v in &rows {
                    let x: Vec<f64> = (0..nv).map(|i| model.s[i] * v[i]).collect();
                    let (p, (_, size)) = (model.p_hidden(v), model.hidden_pre(v));
                    let f: f64 = 1.0 - p.iter().map(|p| lambda * (p - lambda)).sum::<f64>();
                    let g: f64 = 1.0 - x.iter().zip(&mu).map(|(x, mu)| mu * (x - mu)).sum::<f64>();
                    let g_size = 1.0 + x.iter().zip(&mu).map(|(x, mu)| mu.abs() * (x.abs() + mu.abs())).sum::<f64>();
                    // The error of P, which is also that of all linear functions of it.
                    let off: Vec<f64> = size.iter().map(|&size| mean_error(pre_error(nv + 1, size))).collect();
                    let sum_off = off.iter().sum::<f64>() * lambda;
                    let relative = gamma(rows.len() + nv + nh + 20);
                    let f_size = 1.0 + nh as f64 * lambda;
                    for i in 0..nv {
                        let x_size = x[i].abs() + mu[i].abs();
                        for j in 0..nh {
                            expected[i * nh + j] += sign * weight * (x[i] - mu[i]) * (p[j] - lambda);
                            bounds[i * nh + j] += weight * x_size * (off[j] + relative);
                        }
                        expected[nv * nh + i] += sign * weight * (x[i] - mu[i]) * f;
                        bounds[nv * nh + i] += weight * x_size * (sum_off + relative * f_size);
                    }
                    for j in 0..nh {
                        expected[nv * nh + nv + j] += sign * weight * (p[j] - lambda) * g;
                        bounds[nv * nh + nv + j] += weight * (off[j] * g.abs() + relative * g_size);
                    }
                }
            }
            let (lr, found) = (f64::from(LR), Laws::of(&stepped.to_rbm().expect("parameters")).theta);
            let expected: Vec<f64> = model.theta.iter().zip(expected).map(|(theta, g)| theta - lr * g).collect();
            let bounds: Vec<f64> = bounds.iter().zip(&expected).map(|(b, x)| lr * b + gamma(2) * x.abs()).collect();
            assert_near(&found, &expected, &bounds, &format!("{text}, {algorithm:?}"));
        }
    }
}

/// Ten classes, equally likely: by persistent chains from the tutorial's initialisation, which has no information about them.
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

/// Two modes at ±1 with σ = ½, by exact gradients and by persistent chains. The model can represent the distribution, whose
/// log-likelihood the data's mean estimates, and has a minimum between the modes. Samples have the model's distribution.
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
    for (by_chains, variance) in [(false, 0.0), (true, 0.0), (true, 0.5)] {
        let start = Rbm::from_parts(
            Shape::with_visible(visible, 2).expect("a shape"),
            vec![0.3, -0.2],
            vec![0.2],
            vec![-0.1, 0.1],
        );
        let start = start
            .and_then(|rbm| {
                rbm.with_visible_log_variance(vec![if variance > 0.0 { 0.4f32.ln() } else { 0.25f32.ln() }])
            })
            .expect("a model");
        let mut rbm = start.on(device).expect("resident");
        let algorithm = Algorithm::Pcd { n_chains: 500 };
        let settings = Settings { variance, ..settings(algorithm) };
        let mut trainer = Trainer::new(device, rbm.shape(), settings).expect("trainer");
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
        // For the two modes themselves it is 3.7.
        let depth = (density_of(1.0) + density_of(-1.0)) / (2.0 * density_of(0.0));
        assert!((2.0..8.0).contains(&depth), "{depth}, by chains: {by_chains}");
        // Samples fall into intervals with the trained model's probabilities, at a false-alarm rate of 1e-6. A chain moves between
        // the modes within some fifty steps.
        let draws = Uniforms::new(4, Purpose::Sampling);
        let mut chains = Chains::from_visible(&rbm, &data, draws).expect("chains");
        chains.sweep(&rbm, 500).expect("sweep");
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

/// Initial models and base rates: the documented formulas, for four rows.
#[test]
fn beginnings_are_what_explains_the_rows() {
    let visible = segments("binary:2,potts:1x3,gaussian:2");
    let values = [
        [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 7.0],
        [1.0, 0.0, 0.0, 1.0, 0.0, 2.0, 7.0],
        [0.0, 0.0, 1.0, 0.0, 0.0, -4.0, 7.0],
        [1.0, 0.5, 1.0, 0.0, 0.0, 3.0, 7.0],
    ]
    .concat();
    let data = law_rows(&values, visible);
    // One rounding to `f32`, of numbers of 1e-15 relative.
    let near = |found: &[f32], expected: &[f64]| {
        let bounds: Vec<f64> = expected.iter().map(|x| gamma(1) * x.abs() + 1e-15).collect();
        assert_near(&found.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), expected, &bounds, "beginning");
    };
    let rbm = Rbm::from_data(data, 3, 1).expect("a model");
    // Means are clipped to [1/4, 3/4]; ½/4 is 1/8.
    let logit = |p: f64| (p / (1.0 - p)).ln();
    let expected = [logit(0.75), logit(0.25), 0.75f64.ln(), 0.25f64.ln(), 0.25f64.ln(), 0.5, 7.0];
    near(rbm.view().visible_bias(), &expected);
    assert_eq!((rbm.shape().visible(), rbm.view().visible_log_variance()), (visible, &[0.0; 7][..]));
    near(&data.clipped_means(), &[0.75, 0.25, 0.75, 0.25, 0.25, 0.5, 7.0]);

    // Laplace's rule, means, and variances as log Z_0 shows them: 1 without a number.
    let base_rate = BaseRate::fit(data);
    let expected = [
        (4.0f64 / 2.0).ln(),
        (1.5f64 / 4.5).ln(),
        (4.0f64 / 7.0).ln(),
        (2.0f64 / 7.0).ln(),
        (1.0f64 / 7.0).ln(),
        0.5,
        7.0,
    ];
    near(base_rate.bias(), &expected);
    let zero = Rbm::from_parts(rbm.shape(), vec![0.0; 21], base_rate.bias().to_vec(), vec![0.0; 3]).expect("a model");
    let log_variance = vec![0.0, 0.0, 0.0, 0.0, 0.0, 7.25f32.ln(), 0.0];
    let zero = zero.with_visible_log_variance(log_variance).expect("variances");
    let few = Annealing { runs: 10, schedule: Schedule::new(20).expect("a schedule"), ..Annealing::default() };
    let found = ais(&zero.on(Cpu::detect().expect("a CPU")).expect("resident"), &base_rate, &few);
    let (found, expected) = (found.expect("ais"), exact(zero.view()).expect("log Z").estimate);
    // Both are the same model up to the rounding of s: each step contributes at most 2^-22 of s·(v - b)²/2, which is below 10.
    assert!((found.estimate - expected).abs() <= 10.0 * 2f64.powi(-22), "{found:?} {expected}");
}

/// An update with a given gradient does not change σ.
#[test]
fn an_update_of_given_numbers_leaves_variances() {
    let rbm = random_laws("gaussian:3", 2, 1.0, 1);
    let mut resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
    let mut gradient = Gradient::zero(rbm.shape());
    resident
        .free_energy_gradient(law_rows(&[1.0, 2.0, -3.0], rbm.shape().visible()), &[1.0], &mut gradient)
        .expect("gradient");
    assert!(gradient.visible_log_variance.iter().all(|&x| x != 0.0));
    resident.apply(&gradient, 0.1).expect("apply");
    let after = resident.to_rbm().expect("parameters");
    assert_eq!(after.view().visible_log_variance(), rbm.view().visible_log_variance());
    assert_ne!(after.view().visible_bias(), rbm.view().visible_bias());
}
