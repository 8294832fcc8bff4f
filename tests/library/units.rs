//! Visible units of several laws: the oracle itself, and conditionals, energies and gradients against it.

use crate::oracle::{
    bits,
    exact::{log_sum_exp, rows_f64, sigmoid, state},
    generator, in_pool,
    laws::{Laws, law_rows, random_laws, random_states, segments},
    random_values, rows,
    statistics::{assert_near, assert_relative, law_gradient_error, mean_error, pre_error},
    symmetric,
};
use harmonium::{
    Activations, Cpu, Device, Gradient, Isa, Purpose, Rbm, Shape, Uniforms,
    log_partition::{Annealing, BaseRate, Schedule, ais},
};
use proptest::prelude::*;

/// Small layers with each law and with all of them.
const SMALL: [&str; 6] =
    ["binary:5", "potts:2x3", "potts:1x2,potts:1x4", "gaussian:1", "gaussian:2", "binary:2,potts:1x3,gaussian:1"];
/// Sizes that are not multiples of 16 or 64, with sites across their borders.
const LARGE: [&str; 7] = [
    "potts:1x2",
    "potts:31x5",
    "gaussian:1",
    "gaussian:97",
    "binary:61,potts:3x7,gaussian:50",
    "gaussian:70,binary:3,potts:1x200",
    "potts:20x3,gaussian:9,potts:2x37,binary:20,gaussian:66",
];

fn small(text: &str, seed: u64) -> Laws {
    Laws::of(&random_laws(text, 3, 1.5, seed))
}

/// A step of the central differences.
const STEP: f64 = 1e-4;

/// The error of the central differences for F(v): F's third derivative in W_ij is σ''·x³, in ln σ_i² at most s·(v - b)²/2 and for
/// each hidden unit t + 3σ'·t² + σ''·t³ with t = x_i·W_ij; σ' ≤ 1/4, σ'' ≤ 0.0963. Rounding is 1e-15 of each term's magnitude.
fn difference_error(model: &Laws, v: &[f64]) -> f64 {
    let greatest = |f: &dyn Fn(usize) -> f64| (0..model.nv).map(f).fold(1.0, f64::max);
    let x = greatest(&|i| (model.s[i] * v[i]).abs());
    let t = x * (0..model.nv * model.nh).map(|at| model.theta[at].abs()).fold(1.0, f64::max);
    let own: f64 = (0..model.nv).map(|i| model.s[i] * (v[i] - model.b(i)).powi(2) + (model.b(i) * v[i]).abs()).sum();
    let third = own + model.nh as f64 * (t + 0.75 * t * t + 0.0963 * t * t * t);
    let size = own + model.hidden_pre(v).1.iter().sum::<f64>() + model.nh as f64;
    STEP * STEP / 6.0 * third + 1e-15 * (model.nv + model.nh) as f64 * size / STEP
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn energies_by_hand() {
    // A bit, a site of two states, a number with s = e^-ln 4 = 1/4.
    let shape = Shape::with_visible(segments("binary:1,potts:1x2,gaussian:1"), 1).expect("a shape");
    let rbm =
        Rbm::from_parts(shape, vec![1.0, 2.0, 4.0, 8.0], vec![0.5, 0.25, -0.25, 3.0], vec![-1.0]).expect("a model");
    let rbm = rbm.with_visible_log_variance(vec![0.0, 0.0, 0.0, 4f32.ln()]).expect("variances");
    let v = [1.0, 0.0, 1.0, 7.0];
    // -0.5 + 0.25 + (7 - 3)²/8 + 1 - (1 + 4 + 7·8/4)
    let expected = -0.5 + 0.25 + 2.0 + 1.0 - 19.0;
    // ln 4 is rounded, and so is e^-x: a relative error of 2^-22 of the precision, in terms of 2 + 14.
    let model = Laws::of(&rbm);
    assert!((model.energy(&v, &[1.0]) - expected).abs() <= 16.0 * 2f64.powi(-22));
    let (single, h) = (v.map(|x| x as f32), [1.0]);
    let found = rbm.view().energy(law_rows(&single, shape.visible()), rows(&h, 1)).expect("energy");
    assert!((found[0] - expected).abs() <= 16.0 * 2f64.powi(-22), "{found:?}");
}

/// Z is the same over visible nodes and over hidden states in closed form, which checks the laws' log-normalisers and the grid.
#[test]
fn log_z_both_ways() {
    for text in SMALL {
        for seed in 0..3 {
            let model = small(text, seed);
            assert_relative(model.log_z(), model.log_z_of_hidden(), 1e-12);
            for (v, _) in model.nodes().iter().step_by(7) {
                let terms: Vec<f64> = (0..8).map(|h| -model.energy(v, &state(h, 3))).collect();
                assert_relative(model.free_energy(v), -log_sum_exp(&terms), 1e-12);
            }
        }
    }
}

/// Means are expectations of e^-E over the states of a layer, given the other one.
#[test]
fn means_are_expectations() {
    for text in SMALL {
        let model = small(text, 5);
        let nodes = model.nodes();
        for h in (0..8).map(|h| state(h, 3)) {
            let weights: Vec<f64> = nodes.iter().map(|(v, volume)| volume - model.energy(v, &h)).collect();
            let log = log_sum_exp(&weights);
            let means = model.means(&model.visible_pre(&h).0);
            for i in 0..model.nv {
                let expected: f64 = nodes.iter().zip(&weights).map(|((v, _), w)| v[i] * (w - log).exp()).sum();
                assert_relative(means[i], expected, 1e-12);
            }
        }
        let v = &nodes[nodes.len() / 3].0;
        let weights: Vec<f64> = (0..8).map(|h| -model.energy(v, &state(h, 3))).collect();
        for j in 0..3 {
            let on = |&h: &usize| h >> j & 1 == 1;
            let log = log_sum_exp(&(0..8).filter(on).map(|h| weights[h]).collect::<Vec<_>>()) - log_sum_exp(&weights);
            assert_relative(model.p_hidden(v)[j], log.exp(), 1e-12);
        }
    }
}

#[test]
fn the_closed_gradient_is_the_finite_difference() {
    for text in SMALL {
        let model = small(text, 6);
        for (v, _) in model.nodes().iter().step_by(11) {
            let (closed, error) = (model.free_energy_gradient(v), difference_error(&model, v));
            for (at, found) in closed.iter().enumerate() {
                let expected = model.difference(at, STEP, |model| model.free_energy(v));
                assert_near(&[*found], &[expected], &[error], text);
            }
        }
    }
}

/// Sizes for both layers, several numbers of rows, bits and grey values, both kinds of sums: tolerances hold for any order.
fn each_case(run: impl Fn(&Device, &Rbm, &Laws, &[f32], usize, &str)) {
    for (seed, text) in LARGE.into_iter().enumerate() {
        for (nh, n, grey) in [(1, 1, false), (33, 5, true), (131, 71, false)] {
            let visible = segments(text);
            let rbm = random_laws(text, nh, 2.0 / (visible.units().max(nh) as f64).sqrt(), seed as u64);
            let v = random_states(visible, n, grey, seed as u64);
            for device in [Cpu::detect().expect("a CPU").into(), crate::oracle::gemm()] {
                run(&device, &rbm, &Laws::of(&rbm), &v, n, &format!("{text} × {nh}, {n} rows, {:?}", device.sums()));
            }
        }
    }
}

#[test]
fn conditionals_are_the_oracles() {
    each_case(|device, rbm, model, v, n, what| {
        let resident = rbm.on(device).expect("resident");
        let mut out = Activations::default();
        resident.propup(law_rows(v, model.visible), &mut out).expect("propup");
        for (r, v) in rows_f64(v, model.nv).iter().enumerate() {
            let (pre, size) = model.hidden_pre(v);
            let span = r * model.nh..(r + 1) * model.nh;
            // A product x = s·v takes one more rounding.
            let errors: Vec<f64> = size.iter().map(|&size| pre_error(model.nv + 1, size)).collect();
            assert_near(&wide(&out.pre_activation[span.clone()]), &pre, &errors, what);
            let means: Vec<f64> = pre.into_iter().map(sigmoid).collect();
            let errors: Vec<f64> = errors.into_iter().map(mean_error).collect();
            assert_near(&wide(&out.mean[span]), &means, &errors, what);
        }
        for h in [random_values(n * model.nh, 0.6, 3), vec![0.0; n * model.nh], vec![1.0; n * model.nh]] {
            resident.propdown(rows(&h, model.nh), &mut out).expect("propdown");
            assert!(out.sample.is_empty());
            for (r, h) in rows_f64(&h, model.nh).iter().enumerate() {
                let (pre, size) = model.visible_pre(h);
                let span = r * model.nv..(r + 1) * model.nv;
                let errors: Vec<f64> = size.iter().map(|&size| pre_error(model.nh, size)).collect();
                assert_near(&wide(&out.pre_activation[span.clone()]), &pre, &errors, what);
                assert_near(&wide(&out.mean[span]), &model.means(&pre), &model.mean_errors(&pre, &errors), what);
            }
        }
    });
}

#[test]
fn energies_are_the_oracles() {
    each_case(|device, rbm, model, v, n, what| {
        let resident = rbm.on(device).expect("resident");
        let found = resident.free_energy(law_rows(v, model.visible)).expect("free energy");
        let exact = rows_f64(v, model.nv);
        let expected: Vec<f64> = exact.iter().map(|v| model.free_energy(v)).collect();
        let errors: Vec<f64> = exact.iter().map(|v| model.free_energy_error(v)).collect();
        assert_near(&found, &expected, &errors, what);

        let h = random_values(n * model.nh, 0.6, 4);
        let found = rbm.view().energy(law_rows(v, model.visible), rows(&h, model.nh)).expect("energy");
        for ((v, h), found) in exact.iter().zip(rows_f64(&h, model.nh)).zip(found) {
            // All in `f64`, like the oracle.
            let size = model.hidden_pre(v).1.iter().sum::<f64>() + model.free_energy(v).abs();
            let off = (found - model.energy(v, &h)).abs();
            assert!(off <= 1e-15 * (model.nv + model.nh) as f64 * size, "{what}: energy off by {off:e}");
        }
    });
}

/// For σ far from 1 and for sites with very different pre-activations, means are correct.
#[test]
fn extremes_are_the_oracles() {
    let shape = Shape::with_visible(segments("potts:2x3,gaussian:2"), 2).expect("a shape");
    let weights = vec![60.0, -60.0, 0.0, 0.0, -90.0, 1.0, 1000.0, -1000.0, 0.0, 0.0, 3.0, 0.0, 0.5, 1e3, 1e-3, 0.0];
    let rbm = Rbm::from_parts(shape, weights, vec![0.0, 1.0, 2.0, -50.0, 0.0, 50.0, 1e3, -1e-3], vec![0.0, 1.0]);
    let rbm = rbm.expect("a model").with_visible_log_variance(vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -12.0, 20.0]);
    let rbm = rbm.expect("variances");
    let model = Laws::of(&rbm);
    let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
    let h = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0];
    let (mut out, mut draws) = (Activations::default(), Uniforms::new(1, Purpose::Sampling));
    resident.propdown(rows(&h, 2), &mut out).expect("propdown");
    for (r, h) in rows_f64(&h, 2).iter().enumerate() {
        let (pre, size) = model.visible_pre(h);
        let errors: Vec<f64> = size.iter().map(|&size| pre_error(2, size)).collect();
        let found = wide(&out.mean[r * 8..(r + 1) * 8]);
        assert_near(&found, &model.means(&pre), &model.mean_errors(&pre, &errors), "means");
    }
    resident.sample_v_given_h(rows(&h, 2), &mut draws, &mut out).expect("samples");
    let found = resident.free_energy(law_rows(&out.sample, shape.visible())).expect("free energy");
    let exact = rows_f64(&out.sample, 8);
    let expected: Vec<f64> = exact.iter().map(|v| model.free_energy(v)).collect();
    let errors: Vec<f64> = exact.iter().map(|v| model.free_energy_error(v)).collect();
    assert_near(&found, &expected, &errors, "free energies");
}

/// Any instruction set, any number of threads, any rows beside a row.
#[test]
fn all_are_the_same_bits() {
    for (seed, text) in LARGE.into_iter().enumerate() {
        let (visible, nh, n) = (segments(text), 83, 135);
        let rbm = random_laws(text, nh, 0.2, seed as u64);
        let (v, h) = (random_states(visible, n, false, 1), random_values(n * nh, 0.5, 2));
        let weights: Vec<f32> = random_values(n, 1.0, 3).iter().map(|w| w - 0.5).collect();
        let mut first = None;
        for isa in Isa::available() {
            for threads in 1..=3 {
                let found = in_pool(threads, || {
                    let resident = rbm.on(Cpu::with_isa(isa)).expect("resident");
                    let (data, mut numbers) = (law_rows(&v, visible), Vec::new());
                    let (mut out, mut draws) = (Activations::default(), Uniforms::new(4, Purpose::Sampling));
                    let mut gradient = Gradient::zero(rbm.shape());
                    resident.free_energy_gradient(data, &weights, &mut gradient).expect("gradient");
                    let Gradient { weights, visible_bias, hidden_bias, visible_log_variance } = &gradient;
                    numbers.extend([weights, visible_bias, hidden_bias, visible_log_variance].map(|x| bits(x)));
                    resident.propup(data, &mut out).expect("propup");
                    numbers.extend([bits(&out.pre_activation), bits(&out.mean)]);
                    resident.sample_v_given_h(rows(&h, nh), &mut draws, &mut out).expect("samples");
                    numbers.extend([bits(&out.pre_activation), bits(&out.mean), bits(&out.sample)]);
                    let sampled_means = bits(&out.mean);
                    resident.propdown(rows(&h, nh), &mut out).expect("propdown");
                    assert_eq!(bits(&out.mean), sampled_means, "{text}: with and without a draw");
                    let mut energies = resident.free_energy(data).expect("free energy");
                    if visible.is_discrete() {
                        energies.extend(resident.pseudo_log_likelihood(data).expect("pseudo-likelihood"));
                    }
                    let few =
                        Annealing { runs: 71, schedule: Schedule::new(5).expect("steps"), ..Annealing::default() };
                    let rate = BaseRate::fit(data);
                    energies.push(ais(&resident, &rate, &few).expect("ais").estimate);
                    let last = resident.free_energy(data.range(n - 1..n)).expect("free energy")[0];
                    assert_eq!(last, energies[n - 1], "{text}: a row is alone");
                    (numbers, energies)
                });
                let first = first.get_or_insert(found.clone());
                assert!(found == *first, "{text}: {}, {threads} threads", isa.name());
            }
        }
    }
}

/// The number of random cases. A failing case is printed, not stored in a file.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn the_free_energy_gradient_is_its_finite_difference() {
    let laws = prop_oneof![
        (1u32..40).prop_map(|n| format!("binary:{n}")),
        (1u32..12, 2u32..9).prop_map(|(sites, states)| format!("potts:{sites}x{states}")),
        (1u32..70).prop_map(|n| format!("gaussian:{n}")),
        (1u32..30, 1u32..5, 2u32..20, 1u32..40)
            .prop_map(|(b, n, s, g)| format!("gaussian:{g},potts:{n}x{s},binary:{b}")),
    ];
    proptest!(cases(60), |(text in laws, nh in 1usize..70, n in 1usize..9, grey: bool, seed: u64)| {
        let visible = segments(&text);
        let rbm = random_laws(&text, nh, 2.0 / (visible.units().max(nh) as f64).sqrt(), seed);
        let data = random_states(visible, n, grey, seed);
        let mut generator = generator(seed);
        let weights: Vec<f32> = (0..n).map(|_| symmetric(&mut generator, 2.0)).collect();
        let mut gradient = Gradient::zero(rbm.shape());
        for part in [&mut gradient.weights, &mut gradient.visible_bias, &mut gradient.hidden_bias, &mut gradient.visible_log_variance] {
            part.fill(7.0);
        }
        let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
        resident.free_energy_gradient(law_rows(&data, visible), &weights, &mut gradient).expect("gradient");
        let mut found = crate::oracle::flat(&gradient);
        found.extend(wide(&gradient.visible_log_variance));

        let (model, data, weights) = (Laws::of(&rbm), rows_f64(&data, visible.units()), wide(&weights));
        let bounds = law_gradient_error(&model, &data, &weights);
        let mut closed = vec![0.0; model.parameters()];
        data.iter().zip(&weights).for_each(|(v, w)| crate::oracle::exact::add(&mut closed, *w, &model.free_energy_gradient(v)));
        assert_near(&found, &closed, &bounds, "closed form");
        // A few parameters represent all, including some σ.
        let objective = |model: &Laws| data.iter().zip(&weights).map(|(v, w)| w * model.free_energy(v)).sum::<f64>();
        let error: f64 = data.iter().zip(&weights).map(|(v, w)| w.abs() * difference_error(&model, v)).sum();
        let step = (model.parameters() / 40).max(1);
        let some = (seed as usize % step..model.parameters()).step_by(step).chain(model.parameters() - 1..model.parameters());
        for at in some {
            let expected = model.difference(at, STEP, objective);
            assert_near(&found[at..=at], &[expected], &[bounds[at] + error], "gradient");
        }
    });
}
