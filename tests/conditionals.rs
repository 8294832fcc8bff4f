//! Means and initialisation: the conditionals against the oracle, on every device, for every type of data.

mod oracle;

use harmonium::{Activations, Algorithm, Data, Device, Monitor, Rbm, Settings, Trainer};
use oracle::{
    byte_rows,
    exact::{Exact, rows_f64},
    for_each_device, random_bytes, random_rbm, random_values, rows, shape,
    statistics::{assert_distribution, assert_near, mean_error, pre_error},
};

/// Compares a conditional with the oracle's pre-activations, given the magnitudes of their sums.
fn check(found: &Activations, pre: &[f64], size: &[f64], units: usize, what: &str) {
    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let errors: Vec<f64> = size.iter().map(|&size| pre_error(units, size)).collect();
    assert_near(&wide(&found.pre_activation), pre, &errors, what);
    let means: Vec<f64> = pre.iter().map(|&x| oracle::exact::sigmoid(x)).collect();
    assert_near(&wide(&found.mean), &means, &errors.iter().map(|&e| mean_error(e)).collect::<Vec<_>>(), what);
    assert!(found.sample.is_empty(), "{what}: nothing was drawn");
}

/// The parameters after one update in the middle of some data.
fn trained(device: &Device, rbm: &Rbm, data: &Data<'_>, settings: Settings) -> Rbm {
    let mut rbm = rbm.clone();
    let mut trainer = Trainer::new(device, rbm.shape(), settings).expect("trainer");
    let mut lent = rbm.lend(device).expect("lent");
    for first in [0, 3, 1] {
        trainer.step(&mut lent, data.range(first..first + 4), 0.3).expect("step");
    }
    lent.finish().expect("finish");
    rbm
}

for_each_device! {
    fn means_are_the_oracles(device) {
        for (seed, (nv, nh)) in [(1, 1), (3, 5), (33, 31), (64, 64), (97, 129), (784, 70)].into_iter().enumerate() {
            let rbm = random_rbm(shape(nv, nh), 3.0 / (nv as f64).sqrt(), seed as u64);
            let (resident, model) = (rbm.on(&device).expect("resident"), Exact::of(&rbm));
            // The buffers are reused; their previous contents do not matter.
            let mut out = Activations { sample: vec![3.0; 5], ..Activations::default() };
            for density in [0.0, 0.1, 0.7, 1.0] {
                for n in [1, 5, 23] {
                    let v = random_values((n + 3) * nv, density, seed as u64);
                    let grey = random_bytes((n + 3) * nv, density, seed as u64);
                    let h = random_values((n + 3) * nh, density, seed as u64);
                    // Rows in the middle of more data.
                    let some = 2..n + 2;
                    let as_numbers: Vec<f32> = grey.iter().map(|&x| f32::from(x) / 255.0).collect();
                    for (data, values, what) in [(rows(&v, nv), &v, "real"), (byte_rows(&grey, nv), &as_numbers, "bytes")] {
                        let held = device.load(data).expect("data");
                        propup(&resident, &held, some.clone(), &mut out);
                        let exact = rows_f64(&values[2 * nv..(n + 2) * nv], nv);
                        let pre: Vec<f64> = exact.iter().flat_map(|v| model.hidden_pre(v)).collect();
                        let size: Vec<f64> = exact.iter().flat_map(|v| model.hidden_size(v)).collect();
                        check(&out, &pre, &size, nv, &format!("{nv} × {nh} up, density {density}, {n} rows, {what}"));
                    }
                    let held = device.load(rows(&h, nh)).expect("data");
                    propdown(&resident, &held, some, &mut out);
                    let exact = rows_f64(&h[2 * nh..(n + 2) * nh], nh);
                    let pre: Vec<f64> = exact.iter().flat_map(|h| model.visible_pre(h)).collect();
                    let size: Vec<f64> = exact.iter().flat_map(|h| model.visible_size(h)).collect();
                    check(&out, &pre, &size, nh, &format!("{nv} × {nh} down, density {density}, {n} rows"));
                }
            }
        }
    }

    /// Eight-bit data and the corresponding numbers are the same data.
    fn bytes_are_the_numbers_that_they_stand_for(device) {
        let (nv, nh) = (45, 33);
        let rbm = random_rbm(shape(nv, nh), 0.5, 1);
        let all: Vec<u8> = (0..=255).cycle().take(7 * nv).collect();
        let numbers: Vec<f32> = all.iter().map(|&x| f32::from(x) / 255.0).collect();
        for algorithm in [Algorithm::Cd, Algorithm::Pcd { n_chains: 3 }] {
            let settings = Settings { algorithm, k: 2, monitor: Monitor::PseudoLikelihood, seed: 1, ..Settings::default() };
            let bytes = device.load(byte_rows(&all, nv)).expect("data");
            let reals = device.load(rows(&numbers, nv)).expect("data");
            let one = trained(&device, &rbm, &bytes, settings);
            assert_eq!(one, trained(&device, &rbm, &reals, settings));
            assert_ne!(one, rbm);
            // Another seed gives other numbers.
            assert_ne!(one, trained(&device, &rbm, &bytes, Settings { seed: 2, ..settings }));
        }
    }
}

fn propup(rbm: &harmonium::Resident, data: &Data<'_>, some: std::ops::Range<usize>, out: &mut Activations) {
    rbm.propup(data.range(some), out).expect("propup");
}

fn propdown(rbm: &harmonium::Resident, data: &Data<'_>, some: std::ops::Range<usize>, out: &mut Activations) {
    rbm.propdown(data.range(some), out).expect("propdown");
}

/// Weights uniform within ±4·sqrt(6/(n_visible + n_hidden)), biases 0. False-alarm rate 1e-6, of a fixed seed.
#[test]
fn the_initialisation_is_the_tutorials() {
    let rbm = Rbm::new(shape(300, 200), 1234);
    let range = 4.0 * (6.0f64 / 500.0).sqrt();
    let mut counts = vec![0; 64];
    for &w in rbm.view().weights() {
        let place = (f64::from(w) / range + 1.0) / 2.0;
        assert!((0.0..=1.0).contains(&place), "{w}");
        counts[((64.0 * place) as usize).min(63)] += 1;
    }
    assert_distribution(&counts, &[1.0 / 64.0; 64], "weights");
    assert!(rbm.view().visible_bias().iter().chain(rbm.view().hidden_bias()).all(|&b| b == 0.0));
    assert_eq!(rbm, Rbm::new(shape(300, 200), 1234));
    assert_ne!(rbm, Rbm::new(shape(300, 200), 1235));
    assert_eq!((range * 1e4).round(), 4382.0);
}
