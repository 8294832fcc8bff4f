//! Log-likelihoods against enumeration, and the optimum that no model can exceed.

use crate::oracle::{
    exact::{Exact, rows_f64},
    random_bits, random_rbm, rows, shape,
    statistics::assert_relative,
};
use harmonium::{
    Cpu, Gradient, Rbm, Shape,
    likelihood::{free_energy_gap, log_likelihoods},
    log_likelihood, log_partition,
};

#[test]
fn likelihoods_are_free_energies_less_log_z() {
    let rbm = random_rbm(shape(11, 7), 1.0, 3);
    let naive = Exact::of(&rbm);
    let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
    let data = random_bits(40 * 11, 0.4, 3);
    let held = rows(&data, 11);
    let z = log_partition::exact(rbm.view()).expect("small enough");
    let each: Vec<f64> = rows_f64(&data, 11).iter().map(|v| -naive.free_energy(v) - z.estimate).collect();
    let found = log_likelihoods(&resident, held, &z).expect("likelihoods");
    found.iter().zip(&each).for_each(|(&found, &expected)| assert_relative(found, expected, 1e-5));
    let mean = each.iter().sum::<f64>() / 40.0;
    let variance = each.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 39.0;
    let mut wide = z.clone();
    (wide.lower, wide.upper) = (z.estimate - 0.5, z.estimate + 0.25);
    let found = log_likelihood(&resident, held, &wide).expect("a likelihood");
    assert_relative(found.mean, mean, 1e-5);
    assert_relative(found.standard_error, (variance / 40.0).sqrt(), 1e-5);
    assert_relative(found.lower, mean - 0.25, 1e-5);
    assert_relative(found.upper, mean + 0.5, 1e-5);
    assert_relative(found.bits_per_dimension(), -mean / (11.0 * 2f64.ln()), 1e-5);
    let gap = free_energy_gap(&resident, held.range(0..30), held.range(30..40)).expect("a gap");
    let part = |rows: std::ops::Range<usize>| -each[rows.clone()].iter().sum::<f64>() / rows.len() as f64;
    assert_relative(gap, part(30..40) - part(0..30), 1e-4);
}

/// One row has a likelihood, but no information about the scatter over rows.
#[test]
fn a_single_row_has_no_standard_error() {
    let rbm = random_rbm(shape(11, 7), 1.0, 3);
    let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
    let data = random_bits(2 * 11, 0.4, 3);
    let z = log_partition::exact(rbm.view()).expect("small enough");
    let of = |rows| log_likelihood(&resident, rows, &z).expect("a likelihood");
    let (one, two) = (of(rows(&data[..11], 11)), of(rows(&data, 11)));
    assert!(one.standard_error.is_nan() && one.mean.is_finite() && one.rows == 1, "{one:?}");
    assert!(two.standard_error.is_finite(), "{two:?}");
}

/// Bars and stripes of n × n, with every draw of the two-stage generator once: an orientation, then each line on or off.
fn bars_and_stripes(n: usize) -> Vec<f32> {
    let mut data = Vec::new();
    for lines in 0..1usize << n {
        for stripes in [false, true] {
            let on = |k: usize| lines >> (if stripes { k % n } else { k / n }) & 1;
            data.extend((0..n * n).map(|k| on(k) as f32));
        }
    }
    data
}

/// The labelled shifter ensemble: four bits, the same shifted cyclically left, not at all or right, and three labels.
fn shifter() -> Vec<f32> {
    let mut data = Vec::new();
    for bits in 0..16usize {
        for shift in 0..3 {
            data.extend((0..4).map(|k| (bits >> k & 1) as f32));
            data.extend((0..4).map(|k| (bits >> ((k + shift + 3) % 4) & 1) as f32));
            data.extend((0..3).map(|label| f32::from(u8::from(label == shift))));
        }
    }
    data
}

/// Trains on the exact gradient and returns the final mean log-likelihood. No intermediate one exceeds `optimum`.
fn train_exactly(data: &[f32], shape: Shape, start: f64, updates: usize, lr: f32, optimum: f64) -> f64 {
    let cpu = Cpu::detect().expect("a CPU");
    let held = rows(data, shape.n_visible());
    let (mut w, mut b, mut c) = random_rbm(shape, start, 1).into_parts();
    b.fill(0.0);
    c.fill(0.0);
    let mut rbm = Rbm::from_parts(shape, std::mem::take(&mut w), b, c).expect("a model");
    let mut gradient = Gradient::zero(shape);
    let mean = |rbm: &Rbm| {
        let each = log_partition::exact::log_likelihood(rbm.view(), held).expect("a likelihood");
        each.iter().sum::<f64>() / held.len() as f64
    };
    for update in 0..updates {
        log_partition::exact::gradient(rbm.view(), held, &mut gradient).expect("a gradient");
        rbm.lend(cpu).expect("lent").apply(&gradient, lr).expect("applied");
        if update % 100 == 0 {
            let now = mean(&rbm);
            assert!(now <= optimum + 1e-10, "{now} exceeds {optimum}");
        }
    }
    let end = mean(&rbm);
    assert!(end <= optimum + 1e-10, "{end} exceeds {optimum}");
    end
}

#[test]
fn no_model_exceeds_the_optimum() {
    for (data, n_visible, n_hidden, optimum) in [
        (bars_and_stripes(2), 4, 6, -1.732868),
        (bars_and_stripes(3), 9, 8, -2.599302),
        (bars_and_stripes(4), 16, 8, -3.379093),
        (shifter(), 11, 8, -(48f64.ln())),
    ] {
        let share = 1.0 / (data.len() / n_visible) as f64;
        let mut draws: Vec<&[f32]> = data.chunks_exact(n_visible).collect();
        draws.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
        let entropy: f64 =
            draws.chunk_by(|a, b| a == b).map(|same| same.len() as f64 * share).map(|p| p * p.ln()).sum();
        assert!((entropy - optimum).abs() < 1e-6, "{entropy} {optimum}");
        let start = train_exactly(&data, shape(n_visible, n_hidden), 0.1, 1, 0.1, entropy);
        let end = train_exactly(&data, shape(n_visible, n_hidden), 0.1, 1500, 0.5, entropy);
        assert!(end > start + 0.5, "{start} to {end}");
    }
}

#[test]
fn exact_training_comes_near_to_the_optimum_of_bars_and_stripes() {
    let end = train_exactly(&bars_and_stripes(3), shape(9, 9), 0.5, 20_000, 0.1, -2.599301);
    assert!(end >= -2.63, "{end}");
}
