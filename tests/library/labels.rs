//! Labels: their probabilities follow from free energies, and their gradient equals the oracle's.

use crate::oracle::{
    in_pool,
    laws::{Laws, random_laws, random_states, segments},
};
use harmonium::{Cpu, Dataset, Gradient, Rbm, Shape, labels::Discriminator};

const LAYERS: [&str; 4] = ["binary:150,potts:1x10", "potts:9x5,potts:1x3", "gaussian:20,potts:1x2", "potts:1x70"];

/// The same row with another label.
fn with_label(row: &[f32], first: usize, state: usize) -> Vec<f64> {
    let mut row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
    row[first..].fill(0.0);
    row[first + state] = 1.0;
    row
}

/// An `f32` sum over n_visible terms, and softplus and σ of it, for each hidden unit: the error of T is at most `error`, that of a
/// probability twice that.
fn error(model: &Laws, row: &[f32]) -> f64 {
    let ulp = 2f64.powi(-24);
    let size = |j: usize| {
        let terms: f64 = (0..model.nv).map(|i| (model.s[i] * f64::from(row[i]) * model.w(i, j)).abs()).sum();
        terms + model.c(j).abs() + (0..model.nv).map(|i| model.w(i, j).abs()).fold(0.0, f64::max)
    };
    // The error of the sum, that of s·v, and 4 ulp of the results, whose size is at most 1 + |a|.
    (0..model.nh).map(|j| ulp * ((model.nv + 4) as f64 * size(j) + 4.0 * (1.0 + size(j)))).sum()
}

#[test]
fn probabilities_are_those_of_free_energies() {
    for (seed, text) in LAYERS.into_iter().enumerate() {
        let (visible, n) = (segments(text), 11);
        let rbm = random_laws(text, 37, 0.2, seed as u64);
        let (model, label) = (Laws::of(&rbm), rbm.shape().label().expect("a label"));
        let values = random_states(visible, n, false, 3);
        let data = Dataset::of_numbers(values.clone(), visible).expect("right rows");
        let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("a resident");
        let logs = resident.log_label_probabilities(data.rows()).expect("logarithms");
        let mut unlabelled = values.clone();
        unlabelled.chunks_exact_mut(visible.units()).for_each(|row| row[label.clone()].fill(f32::NAN));
        let unlabelled = Dataset::with_missing(unlabelled, visible).expect("right rows");
        assert_eq!(logs, resident.log_label_probabilities(unlabelled.rows()).expect("logarithms"), "{text}");
        assert_eq!(logs, in_pool(3, || resident.log_label_probabilities(data.rows())).expect("logarithms"), "{text}");
        for (row, logs) in values.chunks_exact(visible.units()).zip(logs.chunks_exact(label.len())) {
            let energy = |s: usize| -model.free_energy(&with_label(row, label.start, s));
            let energies: Vec<f64> = (0..label.len()).map(energy).collect();
            let greatest = energies.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let normaliser = greatest + energies.iter().map(|e| (e - greatest).exp()).sum::<f64>().ln();
            for (log, energy) in logs.iter().zip(&energies) {
                let bound = 2.0 * error(&model, row) + 1e-12;
                assert!((log - (energy - normaliser)).abs() < bound, "{text}: {log}, {}", energy - normaliser);
            }
        }
    }
}

/// ∂/∂θ of -mean log P(y|v) = mean [∂F(v, y) - Σ_s P(s|v)·∂F(v, s)] by the oracle, whose own derivatives are checked by finite
/// differences.
#[test]
fn the_gradient_is_the_oracles() {
    for (seed, text) in LAYERS.into_iter().enumerate() {
        let (visible, n, nh) = (segments(text), 9, 21);
        let rbm = random_laws(text, nh, 0.2, seed as u64 + 10);
        let (model, label) = (Laws::of(&rbm), rbm.shape().label().expect("a label"));
        let nv = visible.units();
        let mut values = random_states(visible, n, false, 5);
        let complete = values.clone();
        // One row has no label and is ignored.
        values[4 * nv + label.start..5 * nv].fill(f32::NAN);
        let data = Dataset::with_missing(values, visible).expect("right rows");
        let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("a resident");
        let mut found = Gradient::zero(rbm.shape());
        let mut discriminator = Discriminator::new().expect("a CPU");
        let mean = discriminator.gradient(&resident, data.rows(), &mut found).expect("a gradient");
        let mut again = Gradient::zero(rbm.shape());
        in_pool(3, || discriminator.gradient(&resident, data.rows(), &mut again)).expect("a gradient");
        assert_eq!(found, again, "{text}: on another number of threads");
        let (mut expected, mut sum, mut bound) = (vec![0.0; nv * nh + nv + nh], 0.0, 0.0_f64);
        for (_, row) in complete.chunks_exact(nv).enumerate().filter(|&(r, _)| r != 4) {
            let own = (0..label.len()).find(|s| row[label.start + s] == 1.0).expect("a label");
            let energies: Vec<f64> =
                (0..label.len()).map(|s| -model.free_energy(&with_label(row, label.start, s))).collect();
            let greatest = energies.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = energies.iter().map(|e| (e - greatest).exp()).sum();
            let p = |s: usize| (energies[s] - greatest).exp() / total;
            sum += p(own).ln() / (n - 1) as f64;
            for s in 0..label.len() {
                let weight = (f64::from(u8::from(s == own)) - p(s)) / (n - 1) as f64;
                let slope = model.free_energy_gradient(&with_label(row, label.start, s));
                expected.iter_mut().zip(slope).for_each(|(sum, slope)| *sum += weight * slope);
            }
            let largest = (0..nv).map(|i| (model.s[i] * f64::from(row[i])).abs()).fold(1.0, f64::max);
            // The errors of a probability and of σ, and of the sum over states and rows.
            let of_row = 4.0 * error(&model, row) + 2f64.powi(-24) * (8 + label.len() + n) as f64;
            bound = bound.max(largest * of_row);
        }
        assert!((mean - sum).abs() < bound, "{text}: {mean}, {sum}");
        let found = [&found.weights[..], &found.visible_bias, &found.hidden_bias].concat();
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!((f64::from(*found) - expected).abs() < bound, "{text}, {at}: {found}, {expected} within {bound}");
        }
    }
}

#[test]
fn a_step_is_the_gradient_applied() {
    let (visible, rbm) = (segments(LAYERS[0]), random_laws(LAYERS[0], 19, 0.2, 4));
    let data = Dataset::of_numbers(random_states(visible, 6, false, 5), visible).expect("right rows");
    let mut resident = rbm.on(Cpu::detect().expect("a CPU")).expect("a resident");
    let mut other = resident.clone();
    let mut discriminator = Discriminator::new().expect("a CPU");
    let mut gradient = Gradient::zero(rbm.shape());
    discriminator.gradient(&other, data.rows(), &mut gradient).expect("a gradient");
    other.apply(&gradient, 0.3).expect("applied");
    discriminator.step(&mut resident, data.rows(), 0.3).expect("a step");
    assert_eq!(resident.to_rbm(), other.to_rbm());
}

#[test]
fn what_has_no_label_is_refused() {
    let cpu = Cpu::detect().expect("a CPU");
    let plain = Rbm::new(Shape::new(3, 2).expect("a shape"), 1).on(cpu).expect("a resident");
    let rows = Dataset::from_u8(vec![0, 255, 0], 3).expect("right rows");
    assert_eq!(
        plain.log_label_probabilities(rows.rows()).expect_err("no label").to_string(),
        "rbm: expected visible units that end with a label, potts:1xSTATES, found binary:3"
    );
    let shape = Shape::with_visible(segments("binary:1,potts:1x2"), 2).expect("a shape");
    let mut labelled = Rbm::new(shape, 1).on(cpu).expect("a resident");
    let rows = Dataset::with_missing(vec![1.0, f32::NAN, f32::NAN], shape.visible()).expect("right rows");
    let mut discriminator = Discriminator::new().expect("a CPU");
    assert_eq!(
        discriminator.step(&mut labelled, rows.rows(), 0.1).expect_err("no label").to_string(),
        "labels: expected at least one row with a label, found none of 1"
    );
    assert!(discriminator.step(&mut labelled, rows.rows(), f32::NAN).is_err());
}
