//! log Z, likelihoods and monitors of visible units of several laws.

use crate::oracle::{
    exact::{log_sum_exp, mean, rows_f64, sigmoid, softplus},
    laws::{Laws, law_rows, random_laws, random_states, segments},
    rows,
    statistics::{assert_near, assert_relative, gamma, most_of, pre_error, softplus_error},
};
use harmonium::{
    Activations, Algorithm, Cpu, Gradient, Monitor, Rbm, Settings, Shape, Trainer, log_likelihood,
    log_partition::{
        Annealing, BaseRate, LogPartition, Schedule, Start, Verdict, ais, bracket, exact, lower_bound, reverse_ais,
    },
    monitor::reconstruction_cross_entropy,
};

/// A step of the central differences.
const STEP: f64 = 1e-4;
/// Small layers with each law and with all of them.
const SMALL: [&str; 5] =
    ["potts:2x3", "potts:1x2,potts:1x5", "gaussian:1", "gaussian:2", "binary:2,potts:1x3,gaussian:1"];

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn exact_log_z_is_the_oracles() {
    for text in SMALL {
        for (nh, range, seed) in [(1, 1.0, 1), (3, 1.5, 2), (4, 3.0, 3)] {
            let rbm = random_laws(text, nh, range, seed);
            assert_relative(exact(rbm.view()).expect("log Z").estimate, Laws::of(&rbm).log_z(), 1e-12);
        }
    }
    // More states than one enumeration from scratch has, and more than one block; layers that are not a multiple of a vector's
    // lanes.
    for (text, nh) in [("potts:7x5", 12), ("gaussian:19", 13), ("binary:7,potts:3x3,gaussian:9", 18)] {
        let rbm = random_laws(text, nh, 0.7, 4);
        assert_relative(exact(rbm.view()).expect("log Z").estimate, Laws::of(&rbm).log_z_of_hidden(), 1e-12);
    }
}

/// J. Melchior's model of two Gaussian and four hidden units, with its known values: log Z and P(h = 0), to ten digits.
#[test]
fn a_model_of_the_literature() {
    let weights: [[f64; 4]; 2] =
        [[-2.13559806, -0.71220501, 0.64841691, 2.17880554], [0.75840129, -2.13979672, 2.09910978, -0.64721076]];
    let hidden_bias: [f64; 4] = [-7.87792514, -7.60603139, -7.73935758, -7.722771];
    let sigma: [f64; 2] = [0.74241256, 0.73101419];
    let theta: Vec<f64> = weights.concat().into_iter().chain([0.0; 2]).chain(hidden_bias).collect();
    let s = sigma.map(|sigma| sigma.powi(-2)).to_vec();
    let model = Laws { visible: segments("gaussian:2"), nv: 2, nh: 4, theta, s };
    // Ten digits of log Z come from eight of the parameters, so the ninth digit of these matters.
    assert!((model.log_z() - 1.404_228_671_4).abs() < 1e-8, "{}", model.log_z());
    assert!((model.p_h()[0] - 0.837_340_742_0).abs() < 1e-8, "{}", model.p_h()[0]);

    let single = |x: &[f64]| x.iter().map(|&x| x as f32).collect::<Vec<_>>();
    let shape = Shape::with_visible(model.visible, 4).expect("a shape");
    let rbm = Rbm::from_parts(shape, single(&weights.concat()), vec![0.0; 2], single(&hidden_bias)).expect("a model");
    let log_variance: Vec<f64> = sigma.iter().map(|sigma| 2.0 * sigma.ln()).collect();
    let rbm = rbm.with_visible_log_variance(single(&log_variance)).expect("variances");
    let found = exact(rbm.view()).expect("log Z").estimate;
    assert_relative(found, Laws::of(&rbm).log_z(), 1e-12);
    // Parameters in `f32` have errors of half a unit in the last place, s 1.7 more from e^x. Twice the first order covers the
    // second one.
    let off: f64 = (0..model.parameters())
        .map(|at| {
            let size = model.theta.get(at).map_or_else(|| log_variance[at - 14].abs() + 4.0, |x| x.abs());
            (model.difference(at, 1e-5, Laws::log_z) * size * 2f64.powi(-24)).abs()
        })
        .sum();
    assert!(off < 1e-6);
    assert!((found - 1.404_228_671_4).abs() <= 2.0 * off + 1e-8, "{found}, off {off:e}");
}

#[test]
fn likelihoods_and_moments_are_the_oracles() {
    for text in SMALL {
        let rbm = random_laws(text, 3, 1.5, 7);
        let (model, v) = (Laws::of(&rbm), random_states(rbm.shape().visible(), 9, false, 8));
        let data = law_rows(&v, model.visible);
        let exact_v = rows_f64(&v, model.nv);
        let log_z = model.log_z();
        for (found, v) in exact::log_likelihood(rbm.view(), data).expect("likelihoods").iter().zip(&exact_v) {
            assert_relative(*found, -model.free_energy(v) - log_z, 1e-12);
        }
        let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
        let found = log_likelihood(&resident, data, &exact(rbm.view()).expect("log Z")).expect("likelihood");
        let expected = mean(&exact_v, |v| -model.free_energy(v)) - log_z;
        let error = mean(&exact_v, |v| model.free_energy_error(v));
        assert!((found.mean - expected).abs() <= error + 1e-12 * log_z.abs().max(1.0), "{text}: {found:?}");

        let moments = exact::moments(rbm.view()).expect("moments");
        let nodes = model.nodes();
        let p: Vec<f64> = nodes.iter().map(|(v, volume)| (volume - model.free_energy(v) - log_z).exp()).collect();
        let expectation = |f: &dyn Fn(&[f64]) -> f64| nodes.iter().zip(&p).map(|((v, _), p)| p * f(v)).sum::<f64>();
        for i in 0..model.nv {
            assert_relative(moments.visible[i], expectation(&|v| v[i]), 1e-11);
            for j in 0..3 {
                assert_relative(moments.products[i * 3 + j], expectation(&|v| v[i] * model.p_hidden(v)[j]), 1e-11);
            }
        }
        (0..3).for_each(|j| assert_relative(moments.hidden[j], expectation(&|v| model.p_hidden(v)[j]), 1e-11));
    }
}

/// The gradient of the log-likelihood by the oracle. The third derivative of log Z in a parameter is the third cumulant of a number
/// Y = x·h or s·(v - b), at most 8E|Y|³; that of F is at most 0.0963·|x|³. Rounding is 1e-15 of the magnitudes.
#[test]
fn the_exact_gradient_is_the_finite_difference() {
    for text in SMALL {
        let rbm = random_laws(text, 3, 1.0, 9);
        let (model, v) = (Laws::of(&rbm), random_states(rbm.shape().visible(), 7, false, 10));
        let mut gradient = Gradient::zero(rbm.shape());
        gradient.visible_log_variance.fill(7.0);
        let data = law_rows(&v, model.visible);
        let log_z = exact::gradient(rbm.view(), data, &mut gradient).expect("gradient");
        assert_relative(log_z, model.log_z_of_hidden(), 1e-12);
        let v = rows_f64(&v, model.nv);
        let loss = |model: &Laws| mean(&v, |v| model.free_energy(v)) + model.log_z_of_hidden();
        let cube = |v: &[f64]| {
            (0..model.nv).map(|i| model.s[i] * v[i].abs().max((v[i] - model.b(i)).abs())).fold(1.0, f64::max).powi(3)
        };
        let nodes = model.nodes();
        let cubes: f64 = nodes.iter().map(|(v, volume)| cube(v) * (volume - model.free_energy(v) - log_z).exp()).sum();
        let error = STEP * STEP / 6.0 * (8.0 * cubes + 0.0963 * mean(&v, cube)) + 1e-15 * 1e3 * cubes / STEP;
        assert!(error < 2e-4, "{text}: {error}");
        for (at, found) in crate::oracle::flat(&gradient).into_iter().enumerate() {
            assert_near(&[found], &[model.difference(at, STEP, loss)], &[error + gamma(1) * found.abs()], text);
        }
        // σ is not trained.
        assert_eq!(gradient.visible_log_variance.iter().map(|x| x.abs()).sum::<f32>(), 0.0);
    }
}

/// Short runs: some two seconds for all models below.
fn short(seed: u64) -> Annealing {
    Annealing { runs: 60, schedule: Schedule::new(120).expect("a schedule"), burn_in: 60, seed }
}

fn contains(found: &LogPartition, log_z: f64) -> bool {
    found.lower <= log_z && log_z <= found.upper
}

/// Each end of an interval fails with a probability of 0.00135; a bracket has four of them. As many failures are allowed as occur
/// once in a million tests. Intervals must also be narrow, or they would be useless.
#[test]
fn annealing_contains_the_exact_log_z() {
    let (mut brackets, mut single, mut tests, mut widths) = (0, 0, 0, Vec::new());
    for text in ["potts:6x3", "gaussian:9", "binary:7,potts:3x4,gaussian:5"] {
        for seed in 0..12 {
            let rbm = random_laws(text, 6, 0.8, seed);
            let visible = rbm.shape().visible();
            let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
            let log_z = exact(rbm.view()).expect("log Z").estimate;
            let v = random_states(visible, 50, false, seed);
            let fitted = BaseRate::fit(law_rows(&v, visible));
            let rows = || Start::Rows(law_rows(&v, visible).into());
            for (base_rate, start) in [(&fitted, rows()), (&BaseRate::broad(rbm.view()), Start::Annealed)] {
                let forward = ais(&resident, base_rate, &short(seed)).expect("ais");
                let reverse = reverse_ais(&resident, base_rate, start, &short(seed)).expect("reverse");
                single += usize::from(!contains(&forward, log_z)) + usize::from(!contains(&reverse, log_z));
                let found = bracket(&resident, base_rate, start, &short(seed)).expect("bracket");
                brackets += usize::from(!contains(&found, log_z));
                tests += 1;
                if found.verdict() == Verdict::Bracketed {
                    widths.push(found.upper - found.lower);
                }
            }
        }
    }
    widths.sort_by(f64::total_cmp);
    assert!(brackets <= most_of(tests, 4.0 * 0.00135) && single <= most_of(2 * tests, 0.00135), "{brackets} {single}");
    assert!(widths.len() as u32 >= tests - 2 && widths[widths.len() / 2] < 0.5, "{widths:?}");
}

/// Numbers far from 0, as in data that were not standardised: certain bounds hold for them too. c compensates for the contribution
/// of b to the hidden pre-activations.
#[test]
fn the_interval_holds_far_from_zero() {
    for (seed, offset) in (0..10).flat_map(|seed| [30.0, 300.0, 3000f32].map(|offset| (seed, offset))) {
        let near = random_laws("gaussian:6", 5, 0.8, seed);
        let model = Laws::of(&near);
        let (weights, bias, c) = near.clone().into_parts();
        let bias: Vec<f32> = bias.iter().map(|b| b + offset).collect();
        let taken = |j: usize| (0..6).map(|i| model.s[i] * model.w(i, j) * f64::from(bias[i])).sum::<f64>();
        let c = c.iter().enumerate().map(|(j, &c)| (f64::from(c) - taken(j)) as f32).collect();
        let rbm = Rbm::from_parts(near.shape(), weights, bias, c).expect("a model");
        let rbm = rbm.with_visible_log_variance(near.view().visible_log_variance().to_vec()).expect("variances");
        let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
        let log_z = exact(rbm.view()).expect("log Z").estimate;
        assert_relative(log_z, Laws::of(&rbm).log_z_of_hidden(), 1e-9);
        let broad = BaseRate::broad(rbm.view());
        let found = bracket(&resident, &broad, Start::Annealed, &short(seed)).expect("bracket");
        assert!(found.refuted.is_none() && contains(&found, log_z), "offset {offset}: {log_z}, {found:?}");
    }
}

/// Without weights a model is its base rate: every weight is the same, and log Z is n_hidden·ln 2 and the log-normalisers.
#[test]
fn models_without_weights_are_exact() {
    for text in ["potts:6x3", "gaussian:9", "binary:7,potts:3x4,gaussian:5"] {
        let visible = segments(text);
        let rbm = Rbm::from_parts(
            Shape::with_visible(visible, 5).expect("a shape"),
            vec![0.0; visible.units() * 5],
            random_laws(text, 5, 2.0, 11).view().visible_bias().to_vec(),
            vec![0.0; 5],
        );
        let rbm = rbm.expect("a model");
        let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
        let log_z = exact(rbm.view()).expect("log Z").estimate;
        assert_relative(log_z, Laws::of(&rbm).log_z_of_hidden(), 1e-12);
        let broad = BaseRate::broad(rbm.view());
        if visible.is_discrete() {
            // From uniform states to these biases weights vary. The base rate of a Gaussian layer is the model itself.
            let v = random_states(visible, 40, false, 1);
            let found = bracket(&resident, &BaseRate::fit(law_rows(&v, visible)), Start::Annealed, &short(1));
            assert!(contains(&found.expect("bracket"), log_z));
        } else if text.starts_with("gaussian") {
            let found = ais(&resident, &broad, &short(1)).expect("ais");
            assert_relative(found.estimate, log_z, 1e-12);
            assert_relative(found.effective_sample_size, 60.0, 1e-9);
        }
        let zero =
            Rbm::from_parts(rbm.shape(), vec![0.0; visible.units() * 5], vec![0.0; visible.units()], vec![0.0; 5]);
        let zero = zero.expect("a model");
        let resident = zero.on(Cpu::detect().expect("a CPU")).expect("resident");
        let found = ais(&resident, &BaseRate::broad(zero.view()), &short(1)).expect("ais");
        let own = visible.iter().map(|(segment, _)| match segment {
            harmonium::Segment::Binary(n) => f64::from(n) * 2f64.ln(),
            harmonium::Segment::Potts { sites, states } => f64::from(sites) * f64::from(states).ln(),
            harmonium::Segment::Gaussian(n) => f64::from(n) * 0.5 * std::f64::consts::TAU.ln(),
        });
        assert_relative(found.estimate, own.sum::<f64>() + 5.0 * 2f64.ln(), 1e-12);
    }
}

#[test]
fn the_certain_bound_counts_states() {
    let rbm = random_laws("binary:2,potts:1x3", 4, 1.5, 12);
    let (model, visible) = (Laws::of(&rbm), rbm.shape().visible());
    let all: Vec<f32> =
        model.nodes().iter().flat_map(|(v, _)| v.iter().map(|&x| x as f32).collect::<Vec<_>>()).collect();
    let twice = [&all[..], &all[..]].concat();
    let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
    let free = resident.free_energy(law_rows(&twice, visible)).expect("free energies");
    let bound = lower_bound(rbm.shape(), law_rows(&twice, visible), &free).expect("bound");
    let log_z = model.log_z();
    assert!(bound <= log_z && bound >= log_z - 1e-4, "{bound} {log_z}");
    let gaussian = random_laws("gaussian:2", 2, 1.0, 1);
    let problem = lower_bound(gaussian.shape(), law_rows(&[0.0, 1.0], gaussian.shape().visible()), &[0.0]);
    assert!(problem.expect_err("numbers").to_string().contains("gaussian:2"));
}

/// Greatest rounding error of log P(v_g|v_-g): differences of softplus, two for each hidden unit and state, and one more
/// subtraction in the pre-activations of a site; the exponentials and the logarithm at the end, whose sum is at most S.
fn pseudo_error(model: &Laws, v: &[f64]) -> f64 {
    let (pre, mut size) = model.hidden_pre(v);
    let weight = |j: usize| (0..model.nv).map(|i| model.w(i, j).abs()).fold(0.0, f64::max);
    size.iter_mut().enumerate().for_each(|(j, size)| *size += 2.0 * weight(j));
    let term = |(&size, &a): (&f64, &f64)| softplus_error(pre_error(model.nv + 2, size), softplus(a.abs() + size));
    let sums: f64 = 2.0 * size.iter().zip(&pre).map(term).sum::<f64>();
    // The error of a product of factors is documented at pseudo_log_likelihood.
    2.0 * sums + 6.3e-7 * model.nh as f64 + gamma(8) * (10.0 + sums) + 2f64.powi(-20) * 8.0
}

#[test]
fn the_pseudo_likelihood_is_the_oracles() {
    let layers =
        ["potts:1x2", "potts:2x3", "potts:31x5", "binary:61,potts:3x7", "potts:1x70,binary:5,potts:9x3,binary:66"];
    for (seed, text) in layers.into_iter().enumerate() {
        for (nh, n, grey) in [(1, 1, false), (33, 5, false), (131, 70, true)] {
            let visible = segments(text);
            let rbm = random_laws(text, nh, 2.0 / (visible.units().max(nh) as f64).sqrt(), seed as u64);
            let model = Laws::of(&rbm);
            let v = random_states(visible, n, grey, seed as u64);
            let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
            let data = law_rows(&v, visible);
            let found = resident.pseudo_log_likelihood(data).expect("pseudo-likelihood");
            let sites = visible.sites();
            assert_eq!(sites, model.sites().len());
            let mut means = vec![0.0; n];
            let rounded: Vec<Vec<f64>> =
                rows_f64(&v, model.nv).iter().map(|v| v.iter().map(|&x| f64::from(x >= 0.5)).collect()).collect();
            // All sites of a few rows, and a few of all.
            let rows = if n > 5 { 3 } else { n };
            for site in 0..sites {
                let of_site = resident.pseudo_log_likelihood_of_bit(data, site).expect("of a site");
                means.iter_mut().zip(&of_site).for_each(|(mean, x)| *mean += x / sites as f64);
                for (v, found) in rounded.iter().zip(&of_site).take(rows) {
                    let expected = model.log_conditional(v, site);
                    assert_near(&[found / sites as f64], &[expected], &[pseudo_error(&model, v)], text);
                }
            }
            for (r, v) in rounded.iter().enumerate() {
                let error = pseudo_error(&model, v) * sites as f64;
                assert_near(&[found[r]], &[means[r]], &[2.0 * error], &format!("{text}: mean of sites"));
                if r < rows {
                    let expected: f64 = (0..sites).map(|site| model.log_conditional(v, site)).sum();
                    assert_near(&[found[r]], &[expected], &[error], text);
                }
            }
            assert!(
                resident
                    .pseudo_log_likelihood_of_bit(data, sites)
                    .expect_err("no such site")
                    .to_string()
                    .contains(&sites.to_string())
            );
        }
    }
}

#[test]
fn densities_have_no_pseudo_likelihood() {
    let rbm = random_laws("binary:3,gaussian:2", 4, 1.0, 1);
    let device = Cpu::detect().expect("a CPU");
    let resident = rbm.on(device).expect("resident");
    let v = [0.0, 1.0, 0.0, -3.0, 2.0];
    let data = law_rows(&v, rbm.shape().visible());
    let mut problems = vec![
        resident.pseudo_log_likelihood(data).expect_err("a density").to_string(),
        resident.pseudo_log_likelihood_of_bit(data, 0).expect_err("a density").to_string(),
    ];
    for monitor in [Monitor::PseudoLikelihood, Monitor::ExactPseudoLikelihood] {
        let settings = Settings { monitor, ..Settings::default() };
        problems.push(Trainer::new(device, rbm.shape(), settings).expect_err("a density").to_string());
    }
    let mut trainer =
        Trainer::new(device, rbm.shape(), Settings { monitor: Monitor::None, ..Settings::default() }).expect("trainer");
    problems.push(trainer.set_monitor(Monitor::PseudoLikelihood).expect_err("a density").to_string());
    assert!(
        problems.iter().all(|text| text.contains("pseudo-likelihood") && text.contains("gaussian:2")),
        "{problems:?}"
    );
    trainer.set_monitor(Monitor::Reconstruction).expect("a reconstruction");
}

/// Σ of the laws' reconstructions by their formulas; for a Gaussian unit with s.
fn reconstruction(model: &Laws, v: &[f64], pre: &[f64]) -> f64 {
    let of = |(segment, units): (harmonium::Segment, std::ops::Range<usize>)| {
        let i = units.start;
        match segment {
            harmonium::Segment::Binary(_) => v[i] * sigmoid(pre[i]).ln() + (1.0 - v[i]) * sigmoid(-pre[i]).ln(),
            harmonium::Segment::Potts { .. } => {
                let on: f64 = units.clone().map(|i| v[i] * pre[i]).sum();
                on - log_sum_exp(&pre[units])
            }
            harmonium::Segment::Gaussian(_) => -model.s[i] * (v[i] - pre[i]).powi(2) / 2.0,
        }
    };
    model.sites().into_iter().map(of).sum()
}

#[test]
fn reconstructions_are_the_oracles() {
    for text in ["potts:31x5", "gaussian:97", "binary:61,potts:3x7,gaussian:50"] {
        let (nh, n) = (33, 70);
        let rbm = random_laws(text, nh, 0.2, 3);
        let (model, visible) = (Laws::of(&rbm), rbm.shape().visible());
        let v = random_states(visible, n, true, 4);
        let device = Cpu::detect().expect("a CPU");
        let resident = rbm.on(device).expect("resident");
        for algorithm in [Algorithm::Cd, Algorithm::Pcd { n_chains: 7 }] {
            let settings =
                Settings { algorithm, k: 2, monitor: Monitor::Reconstruction, seed: 5, ..Settings::default() };
            let mut trainer = Trainer::new(device, rbm.shape(), settings).expect("trainer");
            let mut gradient = Gradient::zero(rbm.shape());
            trainer.gradient(&resident, law_rows(&v, visible), &mut gradient).expect("gradient");
            let found = trainer.report().expect("a report").monitor.expect("watched");
            let mut last = Activations::default();
            if algorithm == Algorithm::Cd {
                trainer.chains().visible(&resident, &mut last).expect("visible");
            } else {
                let mut hidden = Activations::default();
                resident.propup(law_rows(&v, visible), &mut hidden).expect("propup");
                resident.propdown(rows(&hidden.mean, nh), &mut last).expect("propdown");
            }
            let (exact_v, pre) = (rows_f64(&v, model.nv), rows_f64(&last.pre_activation, model.nv));
            let each: Vec<f64> = exact_v.iter().zip(&pre).map(|(v, pre)| reconstruction(&model, v, pre)).collect();
            let expected = each.iter().sum::<f64>() / n as f64;
            // Of given pre-activations: softplus, or an exponential and a logarithm (2^-20 of the magnitude of their inputs), in
            // `f32`.
            let size = mean(&pre, |pre| pre.iter().map(|a| softplus(a.abs()) + a.abs()).sum());
            assert!((found - expected).abs() <= 2f64.powi(-20) * size, "{text}, {algorithm:?}: {found} {expected}");
            // Without a model the function assumes σ = 1.
            let alone = reconstruction_cross_entropy(law_rows(&v, visible), &last.pre_activation).expect("alone");
            let unit = Laws { s: vec![1.0; model.nv], ..model.clone() };
            let each: Vec<f64> = exact_v.iter().zip(&pre).map(|(v, pre)| reconstruction(&unit, v, pre)).collect();
            assert_near(&alone, &each, &vec![2f64.powi(-20) * 2.0 * size; n], text);
            assert!(wide(&last.mean).iter().all(|mean| mean.is_finite()));
        }
    }
}
