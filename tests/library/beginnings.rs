//! Initialisation: a model from the data's means, and chains from the hidden biases.

use crate::oracle::{
    assert_bits, byte_rows,
    canonical::sample,
    for_each_device, generator, random_bytes, random_rbm, random_values, rows, shape,
    statistics::{U, assert_distribution, assert_near},
    uniform,
};
use harmonium::{
    Activations, Algorithm, Chains, Cpu, Dataset, Monitor, Purpose, Rbm, Resident, Rows, Settings, Trainer, Uniforms,
    Values,
};
use rand_core::Rng;
use sha2::{Digest, Sha256};

/// One rounding to `f32`, and a few in `f64`.
fn rounded(expected: &[f64]) -> Vec<f64> {
    expected.iter().map(|x| x.abs() * (U + 1e-14)).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// With the standard library's functions, number by number.
#[test]
fn a_model_from_data_is_as_documented() {
    let bytes = random_bytes(40 * 13, 0.3, 1);
    let values = random_values(40 * 13, 0.3, 2);
    let bits: Vec<u8> =
        (0..40 * 13).map(|n| if n % 13 == 0 { 0 } else { 255 * u8::from(n % 13 == 1 || n / 13 == 0) }).collect();
    for data in [byte_rows(&bytes, 13), rows(&values, 13), byte_rows(&bits, 13), byte_rows(&bytes[..26], 13)] {
        let n = data.len() as f64;
        let mean = |i: usize| (0..data.len()).map(|r| f64::from(data.value(r, i))).sum::<f64>() / n;
        let p: Vec<f64> = (0..13).map(|i| mean(i).max(1.0 / n).min(1.0 - 1.0 / n)).collect();
        assert_near(&wide(&data.clipped_means()), &p, &rounded(&p), "means");
        let rbm = Rbm::from_data(data, 7, 5).expect("a model");
        assert_eq!(rbm.shape(), shape(13, 7));
        let bias: Vec<f64> = p.iter().map(|p| (p / (1.0 - p)).ln()).collect();
        assert_near(&wide(rbm.view().visible_bias()), &bias, &rounded(&bias), "visible bias");
        assert_eq!(rbm.view().hidden_bias(), [0.0; 7]);
        let mut generator = Uniforms::new(5, Purpose::Initialisation).generator();
        let mut u = || (f64::from(generator.next_u32()) + 0.5) / 2f64.powi(32);
        let mut weight = || {
            let radius = (-2.0 * u().ln()).sqrt();
            0.01 * radius * (2.0 * std::f64::consts::PI * u()).cos()
        };
        let weights: Vec<f64> = (0..13 * 7).map(|_| weight()).collect();
        assert_near(&wide(rbm.view().weights()), &weights, &rounded(&weights), "weights");
    }
    // The means of units that are never or always on are clipped to 1/40 and 39/40.
    let bias = Rbm::from_data(byte_rows(&bits, 13), 1, 5).expect("a model").into_parts().1;
    assert_near(&wide(&bias[..2]), &[-39f64.ln(), 39f64.ln()], &[4.0 * U; 2], "bias at the ends");
    // A single row has no information about means.
    let one = byte_rows(&bits[..13], 13);
    assert_eq!(one.clipped_means(), [0.5; 13]);
    assert_eq!(Rbm::from_data(one, 1, 5).expect("a model").view().visible_bias(), [0.0; 13]);
}

#[test]
fn what_no_model_begins_with() {
    let none = Rows::new(Values::U8(&[]), 3).expect("no rows");
    let found = |data, n_hidden| Rbm::from_data(data, n_hidden, 1).expect_err("no model").to_string();
    assert_eq!(found(none, 2), "data: expected at least one row, found none");
    let expected = "shape: expected at least one visible and one hidden unit, and at most 2147483647 weights, found ";
    assert_eq!(found(byte_rows(&[1, 2, 3], 3), 0), format!("{expected}3 × 0"));
    assert_eq!(found(byte_rows(&[1, 2, 3], 3), usize::MAX), format!("{expected}3 × {}", usize::MAX));
}

/// The bits of an initial model, for all releases and on every machine; another program computed them from the documentation.
#[test]
fn the_same_model_for_ever() {
    let data = random_bytes(40 * 61, 0.3, 1);
    let (weights, visible_bias, _) = Rbm::from_data(byte_rows(&data, 61), 97, 123).expect("a model").into_parts();
    let numbers = weights.iter().chain(&visible_bias);
    let hash = Sha256::digest(numbers.flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
    assert_eq!(
        hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "14248f2c1bf23f56c06b4a7496f4f0f50d8ec9b4567bd64c34567223d9b7dc4e"
    );
}

/// Four moments, each within 4.9 standard errors (two-sided 1e-6 for a normal distribution, which they have with so many weights),
/// and Pearson's test over cells of width ¼.
#[test]
fn the_weights_are_normal() {
    let data = [255; 784];
    let (weights, ..) = Rbm::from_data(byte_rows(&data, 784), 500, 123).expect("a model").into_parts();
    let z: Vec<f64> = weights.iter().map(|&w| f64::from(w) / 0.01).collect();
    let n = z.len() as f64;
    // E[z^k] and the variance of z^k: E[z^2k] - E[z^k]².
    for (k, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
        let found = z.iter().map(|z| z.powi(k)).sum::<f64>() / n;
        assert!((found - expected).abs() < 4.9 * f64::sqrt(variance / n), "moment {k}: {found}, expected {expected}");
    }
    // Weights that share a draw would be correlated: the variance of z·z' is 1.
    for lag in [1, 2, 500] {
        let found = z.iter().zip(&z[lag..]).map(|(a, b)| a * b).sum::<f64>() / (n - lag as f64);
        assert!(found.abs() < 4.9 / (n - lag as f64).sqrt(), "lag {lag}: {found}");
    }
    let edge = |cell: usize| cell as f64 / 4.0 - 4.0;
    let below = |z: f64| libm::erfc(-z / std::f64::consts::SQRT_2) / 2.0;
    let mut counts = [0; 34];
    z.iter().for_each(|z| counts[((z + 4.0) * 4.0 + 1.0).floor().clamp(0.0, 33.0) as usize] += 1);
    let p: Vec<f64> = (0..34)
        .map(|cell| match cell {
            0 => below(-4.0),
            33 => below(-4.0),
            _ => below(edge(cell)) - below(edge(cell - 1)),
        })
        .collect();
    assert_distribution(&counts, &p, "weights");
}

for_each_device! {
    fn chains_begin_with_the_hidden_biases(device) {
        let rbm = random_rbm(shape(37, 70), 2.0, 1);
        let resident = rbm.on(&device).expect("resident");
        let draws = Uniforms::new(3, Purpose::Training);
        let chains = Chains::from_hidden_bias(&resident, 500, draws.clone()).expect("chains");
        let hidden = chains.hidden().expect("hidden");
        assert_eq!(chains.state().expect("a state").uniforms.position(), 500 * 70);
        // The only terms are 0 and the bias, so these bits do not depend on a device's order of sums.
        let pre: Vec<f32> = rbm.view().hidden_bias().iter().copied().cycle().take(500 * 70).collect();
        let expected = sample(&pre, &mut draws.generator());
        assert_bits(&hidden, &expected, "hidden");
        for n in [0, usize::MAX, 1 << 40] {
            let wrong = Chains::from_hidden_bias(&resident, n, draws.clone()).expect_err("chains").to_string();
            assert_eq!(wrong, format!("n_chains: expected at least 1, and as many as fit in memory, found {n}"));
        }
    }
}

/// 2000 rows of 5000 units in ten groups. A unit of a row's own group is on with probability 0.006, others with 0.0005: six units a
/// row.
fn sparse() -> Dataset {
    let mut generator = generator(1);
    let mut value = |n: usize| {
        let p = if n / 5000 % 10 == n % 10 { 0.006 } else { 0.0005 };
        if uniform(&mut generator) < p { 255 } else { 0 }
    };
    Dataset::from_u8((0..2000 * 5000).map(&mut value).collect(), 5000).expect("rows")
}

/// The number of hidden units that are constant at 1, and at 0: within 0.01 for every row.
fn constant(rbm: &Resident, data: &Dataset) -> (usize, usize) {
    let n_hidden = rbm.shape().n_hidden();
    let mut hidden = Activations::default();
    rbm.propup(data, &mut hidden).expect("hidden means");
    let all = |is: &dyn Fn(f32) -> bool| {
        (0..n_hidden).filter(|j| hidden.mean.iter().skip(*j).step_by(n_hidden).all(|&p| is(p))).count()
    };
    (all(&|p| p > 0.99), all(&|p| p < 0.01))
}

/// The reason for `from_data`: on wide sparse data the tutorial's weights make every hidden unit constant, while the visible biases
/// approach the base rates.
#[test]
fn sparse_rows_need_a_beginning_of_their_own() {
    const N_HIDDEN: usize = 32;
    let data = sparse();
    let cpu = Cpu::detect().expect("a CPU");
    for algorithm in [Algorithm::Cd, Algorithm::Pcd { n_chains: 20 }] {
        let trained = |rbm: Rbm, from_bias: bool| {
            let mut rbm = rbm.on(cpu).expect("resident");
            let settings = Settings { algorithm, k: 1, monitor: Monitor::None, seed: 1, ..Settings::default() };
            let mut trainer = Trainer::new(cpu, rbm.shape(), settings).expect("a trainer");
            if from_bias && algorithm != Algorithm::Cd {
                let draws = Uniforms::new(1, Purpose::Training);
                let mut state = trainer.state().expect("a state");
                state.chains =
                    Chains::from_hidden_bias(&rbm, 20, draws).and_then(|chains| chains.state()).expect("chains");
                trainer = Trainer::from_state(cpu, rbm.shape(), settings, &state).expect("a trainer");
            }
            for batch in data.batches(10) {
                trainer.step(&mut rbm, data.rows().range(batch), 0.1).expect("a step");
            }
            constant(&rbm, &data)
        };
        assert_eq!(trained(Rbm::new(shape(5000, N_HIDDEN), 1), false), (N_HIDDEN, 0), "{algorithm:?}");
        let rbm = Rbm::from_data(data.rows(), N_HIDDEN, 1).expect("a model");
        assert_eq!(trained(rbm, true), (0, 0), "{algorithm:?}");
    }
}
