//! Numbers at the ends of their range: pre-activations of ± 1e4 and ± `f32::MAX`, subnormal numbers, -0. Means stay within [0, 1].
//! Results that are finite by definition are finite, as long as the pre-activations are.

mod oracle;

use harmonium::{
    Activations, Algorithm, Cpu, Isa, Monitor, Purpose, Rbm, Settings, Trainer, Uniforms,
    elementary::{SIGMOID_ULP, SOFTPLUS_ULP, sigmoid, softplus},
    monitor::reconstruction_cross_entropy,
};
use oracle::{assert_bits, bits, exact, for_each_device, in_pool, random_values, rows, shape};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Cd, Algorithm::Pcd { n_chains: 6 }];

/// Extreme numbers that a pre-activation can be.
fn extremes() -> Vec<f32> {
    let positive = [
        0.0,
        f32::from_bits(1),
        f32::MIN_POSITIVE / 2.0,
        f32::MIN_POSITIVE,
        1e-30,
        f32::EPSILON / 2.0,
        0.5,
        1.0,
        16.6,
        17.4,
        87.3,
        88.7,
        88.8,
        103.9,
        104.0,
        1e4,
        1e20,
        f32::MAX / 2.0,
        f32::MAX,
    ];
    positive.into_iter().flat_map(|x| [x, -x]).collect()
}

/// |found - expected| in units in the last place of the expected value. Subnormal values may be 0.
fn ulps(found: f32, expected: f64) -> f64 {
    let unit =
        f64::from((expected as f32).abs().max(f32::MIN_POSITIVE)).log2().floor().exp2() * f64::from(f32::EPSILON);
    (f64::from(found) - expected).abs() / unit
}

/// The greatest error of a sum of softplus terms and of products, given the sums of their magnitudes. The error of each softplus is
/// at most [`SOFTPLUS_ULP`], of which one is at most 2^-23 of it, or less than the smallest normal number. The products are exact
/// in `f64`, and the additions cost a few of its units each.
fn tolerance(softplus: f64, products: f64, terms: usize) -> f64 {
    let n = terms as f64;
    SOFTPLUS_ULP * f64::from(f32::EPSILON) * softplus
        + 2.0 * n * f64::EPSILON * (softplus + products)
        + n * f64::from(f32::MIN_POSITIVE)
}

#[test]
fn the_elementary_functions_at_the_ends() {
    for x in extremes() {
        let (s, sp) = (exact::sigmoid(f64::from(x)), exact::softplus(f64::from(x)));
        assert!((0.0..=1.0).contains(&sigmoid(x)) && softplus(x).is_finite() && softplus(x) >= 0.0, "{x:e}");
        // Below e^-87.3 both are 0, which is an error of less than one normal number.
        let small = f64::from(f32::MIN_POSITIVE) * 1.1;
        assert!(ulps(sigmoid(x), s) <= SIGMOID_ULP || s <= small && sigmoid(x) == 0.0, "σ({x:e}) = {:e}", sigmoid(x));
        assert!(
            ulps(softplus(x), sp) <= SOFTPLUS_ULP || sp <= small && softplus(x) == 0.0,
            "sp({x:e}) = {:e}",
            softplus(x)
        );
    }
}

for_each_device! {
    // Weights of 0, so that the pre-activation equals the bias to the bit, up to the sign of 0.
    fn a_layer_at_the_ends(device) {
        let x = extremes();
        let n = x.len();
        let rbm = Rbm::from_parts(shape(n, n), vec![0.0; n * n], x.clone(), x.clone()).expect("a model");
        let resident = rbm.on(&device).expect("resident");
        let states = random_values(3 * n, 0.5, 18);
        let data = device.load(rows(&states, n)).expect("data");
        let batch = data.range(0..3);
        let mut out = Activations::default();
        for up in [true, false] {
            if up { resident.propup(batch, &mut out) } else { resident.propdown(batch, &mut out) }.expect("means");
            assert_bits(&out.pre_activation, &x.repeat(3), "pre-activations");
            let expected: Vec<f32> = x.iter().map(|&x| sigmoid(x)).collect();
            assert_bits(&out.mean, &expected.repeat(3), "means");
        }
        let mut draws = Uniforms::new(1, Purpose::Sampling);
        resident.sample_h_given_v(batch, &mut draws, &mut out).expect("samples");
        assert!(out.sample.iter().zip(&out.mean).all(|(&h, &p)| (h == 0.0 || p > 0.0) && (h == 1.0 || p < 1.0)));

        let sums: f64 = x.iter().map(|&x| exact::softplus(f64::from(x))).sum();
        for (v, f) in states.chunks_exact(n).zip(resident.free_energy(batch).expect("F")) {
            let products = || v.iter().zip(&x).map(|(&v, &b)| f64::from(v) * f64::from(b));
            let expected = -products().sum::<f64>() - sums;
            let tolerance = tolerance(sums, products().map(f64::abs).sum(), 2 * n);
            assert!(f.is_finite() && (f - expected).abs() <= tolerance, "F = {f:e}, expected {expected:e}");
        }
        let likelihoods = resident.pseudo_log_likelihood(batch).expect("PL");
        assert!(likelihoods.iter().all(|x| x.is_finite() && *x <= 0.0), "{likelihoods:?}");
        for bit in 0..n {
            let found = resident.pseudo_log_likelihood_of_bit(batch, bit).expect("PL");
            assert!(found.iter().all(|x| x.is_finite() && *x <= 0.0), "bit {bit}: {found:?}");
        }
    }

    // Weights of ± 1e4 and of the smallest numbers: training with any monitor stays finite.
    fn training_at_the_ends(device) {
        let (nv, nh) = (9, 7);
        for size in [f32::from_bits(1), f32::MIN_POSITIVE, 1e4, 1e30] {
            let weights: Vec<f32> = (0..nv * nh).map(|i| if i % 3 == 0 { -size } else { size }).collect();
            let rbm = Rbm::from_parts(shape(nv, nh), weights, vec![-0.0; nv], vec![size; nh]).expect("a model");
            let values = random_values(4 * nv, 0.6, 19);
            let data = device.load(rows(&values, nv)).expect("data");
            let batch = data.range(0..4);
            for algorithm in ALGORITHMS {
                for monitor in [Monitor::PseudoLikelihood, Monitor::ExactPseudoLikelihood, Monitor::Reconstruction] {
                    let mut rbm = rbm.clone();
                    let settings = Settings { algorithm, k: 2, monitor, seed: 5, ..Settings::default() };
                    let mut trainer = Trainer::new(&device, shape(nv, nh), settings).expect("a trainer");
                    let mut lent = rbm.lend(&device).expect("lent");
                    (0..5).for_each(|_| trainer.step(&mut lent, batch, 0.1).expect("a step"));
                    let report = trainer.take_report().expect("a report");
                    assert!(report.monitor.is_some_and(f64::is_finite), "{size:e}, {settings:?}: {report:?}");
                    lent.finish().expect("finished");
                    rbm.view().check_finite().expect("finite");
                }
            }
        }
    }
}

#[test]
fn cross_entropy_at_the_ends() {
    let p = extremes();
    for x in [0.0, 0.5, 1.0, f32::MIN_POSITIVE] {
        let data = vec![x; p.len()];
        let found = reconstruction_cross_entropy(rows(&data, 1), &p).expect("one a row");
        for (&p, found) in p.iter().zip(found) {
            let (product, softplus) = (f64::from(x) * f64::from(p), exact::softplus(f64::from(p)));
            let tolerance = tolerance(softplus, product.abs(), 1);
            assert!(found.is_finite() && (found - (product - softplus)).abs() <= tolerance, "{x}, {p:e}: {found:e}");
        }
    }
}

#[test]
fn the_ends_are_the_same_on_every_road() {
    let x = extremes();
    let (n, nh) = (x.len(), 70);
    let weights: Vec<f32> = (0..n * nh).map(|i| x[i * 7 % n].clamp(-1e30, 1e30)).collect();
    let rbm = Rbm::from_parts(shape(n, nh), weights, x, vec![-0.0; nh]).expect("a model");
    let values = random_values(5 * n, 0.6, 20);
    let mut first = None;
    for isa in Isa::available() {
        for threads in [1, 3] {
            let found = in_pool(threads, || {
                let resident = rbm.on(Cpu::with_isa(isa)).expect("resident");
                let mut out = Activations::default();
                resident.propup(rows(&values, n), &mut out).expect("propup");
                let f: Vec<u64> =
                    resident.free_energy(rows(&values, n)).expect("F").into_iter().map(f64::to_bits).collect();
                (bits(&out.pre_activation), bits(&out.mean), f)
            });
            assert!(found == *first.get_or_insert(found.clone()), "{}, {threads} threads", isa.name());
        }
    }
}
