//! Means and deviations of hidden units over data: against the oracle, with one order of summation, and the constant units.

use crate::oracle::{
    canonical::Canonical,
    exact::{Exact, mean, rows_f64},
    for_each_device, in_pool, random_rbm, random_values, rows, shape,
    statistics::{assert_near, mean_error, pre_error},
};
use harmonium::{Cpu, Dataset, Error, Rbm, Rows, Values};

/// Half the distance from 1 to the next `f64`.
const U: f64 = f64::EPSILON / 2.0;

for_each_device! {
    fn means_and_deviations_are_the_oracles(device) {
        for (seed, (nv, nh, n)) in [(1, 1, 1), (3, 5, 2), (33, 65, 40), (97, 30, 7)].into_iter().enumerate() {
            let rbm = random_rbm(shape(nv, nh), 6.0 / (nv as f64).sqrt(), seed as u64);
            let (resident, model) = (rbm.on(&device).expect("resident"), Exact::of(&rbm));
            let v = random_values(n * nv, 0.5, seed as u64);
            let exact = rows_f64(&v, nv);
            let (mut means, mut deviations, mut errors) = (Vec::new(), Vec::new(), Vec::new());
            for j in 0..nh {
                let center = mean(&exact, |v| model.p_hidden(v)[j]);
                means.push(center);
                deviations.push(mean(&exact, |v| (model.p_hidden(v)[j] - center).powi(2)).sqrt());
                // The error of both figures is at most the error of a row's p in `f32`, because a deviation is the length of a
                // vector.
                let error = |v: &Vec<f64>| mean_error(pre_error(nv, model.hidden_size(v)[j]));
                errors.push(exact.iter().map(error).fold(0.0, f64::max));
            }
            let found = resident.activity(rows(&v, nv)).expect("an activity");
            assert_eq!(found.rows, n);
            // A mean of numbers in [0, 1] takes n updates with roundings of at most 2U each, here and in the oracle. In S each of n
            // terms has factors with errors of (n + 1)·2U, and is added once: the error of its mean is 8(n + 1)U.
            let (of_mean, of_variance) = (4.0 * n as f64 * U, 8.0 * (n + 1) as f64 * U);
            let more = |more: f64| errors.iter().map(|e| e + more).collect::<Vec<_>>();
            assert_near(&found.mean, &means, &more(of_mean), "means");
            assert_near(&found.standard_deviation, &deviations, &more(of_variance.sqrt()), "deviations");
        }
    }
}

#[test]
fn rows_are_added_in_their_order() {
    // More rows than one call processes.
    let (nv, nh, n) = (20, 300, 2500);
    let rbm = random_rbm(shape(nv, nh), 1.0, 3);
    let v = random_values(n * nv, 0.4, 4);
    let p = Canonical::of(&rbm).propup(&v, &vec![1.0; n]).mean;
    let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
    let found = in_pool(1, || resident.activity(rows(&v, nv)).expect("an activity"));
    for j in 0..nh {
        let (mut mean, mut squares, mut least, mut greatest) = (0.0f64, 0.0f64, 1.0f32, 0.0f32);
        for r in 0..n {
            let x = f64::from(p[r * nh + j]);
            let before = x - mean;
            mean += before / (r + 1) as f64;
            squares += before * (x - mean);
            (least, greatest) = (least.min(p[r * nh + j]), greatest.max(p[r * nh + j]));
        }
        assert_eq!((found.mean[j], found.least[j], found.greatest[j]), (mean, least, greatest), "unit {j}");
        assert_eq!(found.standard_deviation[j], (squares / n as f64).sqrt(), "unit {j}");
    }
    assert_eq!(in_pool(3, || resident.activity(rows(&v, nv)).expect("an activity")), found);
}

#[test]
fn constant_units_are_counted() {
    // Never on, always on, sometimes, and always at one half.
    let weights = vec![0.0, 0.0, 20.0, 0.0];
    let rbm = Rbm::from_parts(shape(1, 4), weights, vec![0.0], vec![-5.0, 5.0, -10.0, 0.0]).expect("a right model");
    let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
    let data = Dataset::from_u8(vec![0, 255, 255, 0, 255, 255], 1).expect("rows");
    let found = resident.activity(data.rows()).expect("an activity");
    assert_eq!((found.always_off(), found.always_on()), (1, 1));
    assert_eq!([0, 1, 3].map(|j| found.standard_deviation[j]), [0.0; 3]);
    assert_eq!(found.mean[3], 0.5);
    let wide = Rows::new(Values::U8(&[0; 4]), 2).expect("rows");
    assert!(matches!(resident.activity(wide), Err(Error::Argument { what: "batch", .. })));
    let none = Rows::new(Values::U8(&[]), 1).expect("rows");
    assert!(matches!(resident.activity(none), Err(Error::Argument { what: "batch", .. })));
}
