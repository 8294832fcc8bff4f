//! The oracle, checked by enumeration of all states of small models, directly from the definitions.

use crate::oracle::{
    exact::{self, Exact, log_sum_exp, state},
    generator, random_rbm, rows, shape,
    statistics::{assert_distribution, assert_near, draw_from},
    symmetric, uniform,
};

/// Shapes with at most twelve units.
const SHAPES: [(usize, usize); 8] = [(1, 1), (2, 1), (1, 3), (3, 4), (6, 6), (9, 3), (3, 9), (11, 1)];

fn models() -> impl Iterator<Item = Exact> {
    SHAPES.iter().enumerate().map(|(seed, &(nv, nh))| Exact::of(&random_rbm(shape(nv, nh), 2.0, seed as u64)))
}

/// All energies; that of pair (v, h) has index v·2^n_hidden + h.
fn energies(model: &Exact) -> Vec<f64> {
    let pairs = (0..1 << model.nv).flat_map(|v| (0..1 << model.nh).map(move |h| (v, h)));
    pairs.map(|(v, h)| model.energy(&state(v, model.nv), &state(h, model.nh))).collect()
}

/// Sums of a few thousand `f64` numbers near 1 agree to this.
const CLOSE: f64 = 1e-10;

#[test]
fn energy_by_hand() {
    // E = -b·v - c·h - vᵀWh with W = [[1, 2], [3, 4]], b = (5, 6), c = (7, 8), and all of v, h.
    let model = Exact { nv: 2, nh: 2, theta: (1..=8).map(f64::from).collect() };
    assert_eq!(model.energy(&[1.0, 0.0], &[0.0, 1.0]), -(5.0 + 8.0 + 2.0));
    assert_eq!(model.energy(&[0.0, 1.0], &[1.0, 0.0]), -(6.0 + 7.0 + 3.0));
    assert_eq!(model.energy(&[1.0, 1.0], &[1.0, 1.0]), -36.0);
    assert_eq!(model.energy(&[0.0, 0.0], &[0.0, 0.0]), 0.0);
}

#[test]
fn the_librarys_energy_is_the_oracles() {
    for (seed, (nv, nh)) in [(3, 4), (17, 5), (1, 1), (70, 130)].into_iter().enumerate() {
        let rbm = random_rbm(shape(nv, nh), 1.0, seed as u64);
        let (v, h) = (crate::oracle::random_values(5 * nv, 0.5, 1), crate::oracle::random_values(5 * nh, 0.5, 2));
        let model = Exact::of(&rbm);
        let pairs = exact::rows_f64(&v, nv).into_iter().zip(exact::rows_f64(&h, nh));
        let expected: Vec<f64> = pairs.map(|(v, h)| model.energy(&v, &h)).collect();
        let found = rbm.view().energy(rows(&v, nv), rows(&h, nh)).expect("energies");
        // Both are sums of f64 products; ten thousand of them, each at most 1.
        assert_near(&found, &expected, &[CLOSE; 5], "energy");
    }
}

#[test]
fn free_energy_sums_the_hidden_states_out() {
    for model in models() {
        for (v, energies) in energies(&model).chunks_exact(1 << model.nh).enumerate() {
            let minus: Vec<f64> = energies.iter().map(|e| -e).collect();
            let free = model.free_energy(&state(v, model.nv));
            assert!((free + log_sum_exp(&minus)).abs() < CLOSE, "{free}");
        }
    }
}

#[test]
fn log_z_both_ways() {
    for model in models() {
        let minus: Vec<f64> = energies(&model).iter().map(|e| -e).collect();
        assert!((model.log_z() - log_sum_exp(&minus)).abs() < CLOSE);
        assert!((model.p_v().iter().sum::<f64>() - 1.0).abs() < CLOSE);
        assert!((model.joint(1.0).iter().sum::<f64>() - 1.0).abs() < CLOSE);
    }
}

#[test]
fn conditionals_are_ratios_of_joint_probabilities() {
    for model in models() {
        let (joint, hidden_states) = (model.joint(1.0), 1 << model.nh);
        for v in 0..1 << model.nv {
            let row = &joint[v * hidden_states..][..hidden_states];
            let total: f64 = row.iter().sum();
            for (j, p) in model.p_hidden(&state(v, model.nv)).into_iter().enumerate() {
                let on: f64 = row.iter().enumerate().filter(|(h, _)| h >> j & 1 == 1).map(|(_, p)| p).sum();
                assert!((p - on / total).abs() < CLOSE);
            }
            let expected = model.p_all_hidden(&state(v, model.nv));
            assert!(row.iter().zip(expected).all(|(p, q)| (p / total - q).abs() < CLOSE));
        }
        for h in 0..hidden_states {
            let column: Vec<f64> = joint.iter().skip(h).step_by(hidden_states).copied().collect();
            let total: f64 = column.iter().sum();
            for (i, p) in model.p_visible(&state(h, model.nh)).into_iter().enumerate() {
                let on: f64 = column.iter().enumerate().filter(|(v, _)| v >> i & 1 == 1).map(|(_, p)| p).sum();
                assert!((p - on / total).abs() < CLOSE);
            }
        }
    }
}

#[test]
fn the_gradient_is_the_likelihoods_finite_difference() {
    for (seed, model) in models().enumerate() {
        let mut generator = generator(seed as u64);
        let data: Vec<Vec<f64>> = (0..3).map(|_| (0..model.nv).map(|_| uniform(&mut generator)).collect()).collect();
        // Central differences at s are off by s²/6 times the third derivative, which is a third cumulant of quantities in
        // [-1, 1] and at most 8: below 2e-8 at s = 1e-4; rounding gives 1e-15·40/s = 4e-10 more.
        let expected = model.finite_difference(1e-4, |model| -model.log_likelihood(&data));
        assert_near(&model.loss_gradient(&data), &expected, &vec![2e-8; expected.len()], "loss gradient");
        let x = &data[0];
        let expected = model.finite_difference(1e-4, |model| model.free_energy(x));
        assert_near(&model.free_energy_gradient(x), &expected, &vec![2e-8; expected.len()], "free energy gradient");
    }
}

#[test]
fn contrastive_divergence_has_its_closed_form() {
    for (seed, model) in models().enumerate() {
        let mut generator = generator(seed as u64);
        let mut some = |rows: usize| -> Vec<Vec<f64>> {
            (0..rows).map(|_| (0..model.nv).map(|_| uniform(&mut generator)).collect()).collect()
        };
        let (data, ends) = (some(4), some(3));
        let objective = |m: &Exact| exact::mean(&data, |x| m.free_energy(x)) - exact::mean(&ends, |x| m.free_energy(x));
        let expected = model.finite_difference(1e-4, objective);
        assert_near(&model.cd_gradient(&data, &ends), &expected, &vec![2e-8; expected.len()], "CD gradient");
    }
}

#[test]
fn pseudo_likelihood_is_made_of_full_conditionals() {
    for model in models() {
        let p = model.p_v();
        for v in 0..1usize << model.nv {
            let x = state(v, model.nv);
            let logs = (0..model.nv).map(|i| (p[v] / (p[v] + p[v ^ 1 << i])).ln());
            for (i, log) in logs.clone().enumerate() {
                assert!((model.log_conditional(&x, i) - log).abs() < CLOSE);
            }
            assert!((model.pseudo_log_likelihood(&x) - logs.sum::<f64>()).abs() < CLOSE);
        }
    }
}

#[test]
fn the_kernel_leaves_the_joint_distribution_as_it_is() {
    for model in models().filter(|model| model.nv + model.nh <= 7) {
        let (joint, hidden_states) = (model.joint(1.0), 1 << model.nh);
        let hidden: Vec<f64> = (0..hidden_states).map(|h| joint.iter().skip(h).step_by(hidden_states).sum()).collect();
        for k in 1..=3 {
            let after = model.after_sweeps(&hidden, k);
            assert!(after.iter().zip(&joint).all(|(p, q)| (p - q).abs() < CLOSE));
        }
        // It converges from any start.
        let mut start = vec![0.0; hidden_states];
        start[0] = 1.0;
        assert!(model.after_sweeps(&start, 300).iter().zip(&joint).all(|(p, q)| (p - q).abs() < 1e-4));
    }
}

#[test]
fn cross_entropy_by_hand() {
    // x = 1 against σ(0) = 1/2, and x = 1/4 against σ(ln 3) = 3/4.
    let expected = 0.5f64.ln() + 0.25 * 0.75f64.ln() + 0.75 * 0.25f64.ln();
    assert!((exact::cross_entropy(&[1.0, 0.25], &[0.0, 3f64.ln()]) - expected).abs() < CLOSE);
}

/// The test of distributions must accept a correct one and reject a wrong one. False-alarm rate 1e-6 for the correct one.
#[test]
fn the_test_of_distributions_tells_them_apart() {
    let mut generator = generator(1);
    let p: Vec<f64> = (1..=32).map(|i| f64::from(i) / 528.0).collect();
    let mut counts = vec![0; 32];
    (0..20_000).for_each(|_| counts[draw_from(&p, &mut generator)] += 1);
    assert_distribution(&counts, &p, "right");
    let other: Vec<f64> = p.iter().map(|p| 0.8 * p + 0.2 / 32.0).collect();
    assert!(std::panic::catch_unwind(|| assert_distribution(&counts, &other, "wrong")).is_err());
    assert!((0..1000).all(|_| symmetric(&mut generator, 3.0).abs() <= 3.0));
}
