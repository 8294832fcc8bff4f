//! Training learns: bars and stripes, whose best log-likelihood is known.

mod oracle;

use harmonium::{Algorithm, Device, Monitor, Rbm, Settings, Trainer};
use oracle::{
    exact::{Exact, rows_f64},
    for_each_device, rows, shape,
};

/// The side of the images.
const SIDE: usize = 3;

/// Bars and stripes (G. E. Hinton, T. J. Sejnowski, 1986): first the direction is chosen, then each line is on or off. The empty
/// and the full image come from both directions and have twice the weight: 16 rows, 14 of which differ.
fn bars_and_stripes() -> Vec<f32> {
    let mut rows = Vec::new();
    for direction in 0..2 {
        for lines in 0..1 << SIDE {
            for y in 0..SIDE {
                for x in 0..SIDE {
                    let line = if direction == 0 { x } else { y };
                    rows.push((lines >> line & 1) as f32);
                }
            }
        }
    }
    rows
}

/// Minus the entropy of these images, in nats: no model can have a greater likelihood.
const OPTIMUM: f64 = -2.599_302;

#[test]
fn the_optimum_is_minus_the_entropy() {
    let entropy = 2.0 * (2.0 / 16.0) * (16.0f64 / 2.0).ln() + 12.0 * (1.0 / 16.0) * 16f64.ln();
    assert!((OPTIMUM + entropy).abs() < 5e-7);
    let mut pictures: Vec<Vec<u8>> =
        bars_and_stripes().chunks_exact(SIDE * SIDE).map(|row| row.iter().map(|&x| x as u8).collect()).collect();
    assert_eq!(pictures.len(), 16);
    pictures.sort();
    pictures.dedup();
    assert_eq!(pictures.len(), 14);
}

/// The exact log-likelihood at regular intervals of updates.
fn learn(device: &Device, algorithm: Algorithm, lr: f32, seed: u64) -> Vec<f64> {
    let data = bars_and_stripes();
    let exact = rows_f64(&data, SIDE * SIDE);
    let mut rbm = Rbm::new(shape(SIDE * SIDE, 9), seed);
    let settings = Settings { algorithm, k: 10, monitor: Monitor::None, seed, ..Settings::default() };
    let mut trainer = Trainer::new(device, rbm.shape(), settings).expect("trainer");
    let mut lent = rbm.lend(device).expect("lent");
    // Each image several times, for enough chains to reduce the noise of the gradient.
    let data = data.repeat(REPEAT);
    let held = device.load(rows(&data, SIDE * SIDE)).expect("data");
    let mut curve = vec![Exact::of(&lent.to_rbm().expect("copy")).log_likelihood(&exact)];
    for _ in 0..STAGES {
        for _ in 0..UPDATES {
            trainer.step(&mut lent, held.range(0..16 * REPEAT), lr).expect("step");
        }
        curve.push(Exact::of(&lent.to_rbm().expect("copy")).log_likelihood(&exact));
    }
    curve
}

const REPEAT: usize = 2;
const STAGES: usize = 14;
const UPDATES: usize = 500;
const SEEDS: u64 = 5;

for_each_device! {
    fn contrastive_divergence_learns_bars_and_stripes(device) {
        let mut last = 0.0;
        for seed in 0..SEEDS {
            let curve = learn(&device, Algorithm::Cd, 0.2, seed);
            // Gibbs' inequality. The constant is rounded to six digits.
            assert!(curve.iter().all(|ll| *ll <= OPTIMUM + 1e-6), "above the optimum: {curve:?}");
            // Of the last stages, so that the noise of the last update does not decide.
            last += curve[STAGES - 3..].iter().sum::<f64>() / 4.0 / SEEDS as f64;
        }
        assert!(last > -2.75, "mean log-likelihood {last} after CD-10");
    }

    fn persistent_chains_learn_too(device) {
        let curve = learn(&device, Algorithm::Pcd { n_chains: 100 }, 0.05, 1);
        assert!(curve.iter().all(|ll| *ll <= OPTIMUM + 1e-6), "above the optimum: {curve:?}");
        assert!(curve[STAGES] > -3.0 && curve[STAGES] > curve[0] + 2.0, "{curve:?}");
    }
}
