//! The monitors of training: pseudo-likelihood and reconstruction cross-entropy.

mod oracle;

use harmonium::{
    Activations, Algorithm, Batch, Data, Device, Monitor, Rbm, Resident, Settings, Trainer,
    elementary::{EXP_ULP, LN_1P_ULP, SIGMOID_ULP},
    monitor::reconstruction_cross_entropy,
};
use oracle::{
    byte_rows,
    exact::{self, Exact, rows_f64, softplus},
    for_each_device, random_bits, random_bytes, random_rbm, random_values, rows, shape,
    statistics::{U, assert_near, gamma, pre_error, softplus_error},
};

/// Calls `work` with a batch of the rows.
fn with_batch<T>(device: &Device, values: &[f32], units: usize, work: impl FnOnce(Batch<'_>) -> T) -> T {
    let data = device.load(rows(values, units)).expect("data");
    work(data.range(0..values.len() / units))
}

fn rounded(x: &[f64]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(u8::from(x >= 0.5))).collect()
}

/// Greatest error of n·log P(x_i|x_-i) in `f32`, where n is n_visible and x are bits.
///
/// The difference of free energies d is a sum over hidden units of the difference of two softplus: of a pre-activation, and of the
/// same ± W_ij, which rounds once more. The error of each softplus is [`softplus_error`], their difference rounds once, and nh + 2
/// terms are summed. Then sp(-d) changes by no more than d does, and has an error of its own, and the factor rounds.
fn bit_error(model: &Exact, x: &[f64], i: usize) -> f64 {
    let (pre, size) = (model.hidden_pre(x), model.hidden_size(x));
    let (mut error, mut sum) = (0.0, model.b(i).abs());
    for j in 0..model.nh {
        let w = (1.0 - 2.0 * x[i]) * model.w(i, j);
        let flipped = pre[j] + w;
        let pre_here = pre_error(model.nv, size[j]);
        let pre_there = pre_here + U * (flipped.abs() + pre_here);
        let (here, there) = (softplus(pre[j]), softplus(flipped));
        error += softplus_error(pre_here, here) + softplus_error(pre_there, there) + U * (here + there);
        sum += (here - there).abs() + error / model.nh as f64;
    }
    let d = error + gamma(model.nh + 2) * (sum + error);
    let log = -model.log_conditional(x, i);
    let n = model.nv as f64;
    n * (softplus_error(d, log) + U * (log + d))
}

/// Greatest error of log P(x_i|x_-i) by products, where x are bits.
///
/// The log of a factor σ(-a) + σ(a)·e^w changes with a by |σ(a + w) - σ(a)| ≤ 1. Its parts are positive, so its relative error is
/// at most theirs and one rounding; nh + 15 multiplications round. Then comes the logarithm of a mantissa, and the rest is as in
/// [`bit_error`].
fn product_error(model: &Exact, x: &[f64], i: usize) -> f64 {
    let pre: f64 = model.hidden_size(x).iter().map(|&size| pre_error(model.nv, size)).sum();
    let factor = (SIGMOID_ULP + EXP_ULP) * 2.0 * U + U;
    let d = pre + gamma(model.nh + 15) + model.nh as f64 * factor / (1.0 - factor) + LN_1P_ULP * 2.0 * U;
    let difference = model.b(i).abs()
        + model
            .hidden_pre(x)
            .iter()
            .enumerate()
            .fold(0.0, |sum, (j, &a)| sum + (softplus(a + (1.0 - 2.0 * x[i]) * model.w(i, j)) - softplus(a)).abs());
    let d = d + U * (difference + d);
    softplus_error(d, -model.log_conditional(x, i))
}

/// Greatest error of F(x): the softplus terms, the biases and the sum.
fn free_energy_error(model: &Exact, x: &[f64]) -> f64 {
    let terms = model.hidden_pre(x).into_iter().zip(model.hidden_size(x));
    let error: f64 = terms.map(|(pre, size)| softplus_error(pre_error(model.nv, size), softplus(pre))).sum();
    let bias: f64 = (0..model.nv).map(|i| (model.b(i) * x[i]).abs()).sum();
    let size: f64 = bias + model.hidden_pre(x).into_iter().map(softplus).sum::<f64>();
    error + gamma(model.nv + model.nh + 2) * (size + error)
}

/// The mean over rows of the monitor at one update.
fn report(trainer: &mut Trainer) -> f64 {
    let report = trainer.take_report().expect("report");
    assert_eq!(report.since_last, 1);
    report.monitor.expect("a monitor")
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The library's cross-entropy computes x·p in `f64`; the monitor of training rounds each term to `f32` once. All terms have one
/// sign, so the error of the sum is at most one rounding of itself.
#[track_caller]
fn assert_same_terms(found: f64, expected: f64, what: &str) {
    let off = (found - expected).abs();
    assert!(off <= 1.01 * U * expected.abs(), "{what}: found {found}, expected {expected}");
}

#[track_caller]
fn assert_same(found: f64, expected: f64, what: &str) {
    // The same terms, perhaps summed in another order in f64.
    assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{what}: found {found}, expected {expected}");
}

fn settings(algorithm: Algorithm, k: usize, monitor: Monitor) -> Settings {
    Settings { algorithm, k, monitor, seed: 77, ..Settings::default() }
}

for_each_device! {
    fn pseudo_likelihood_is_the_oracles(device) {
        for (seed, (nv, nh, n)) in [(1, 1, 3), (4, 5, 9), (33, 31, 7), (65, 130, 5)].into_iter().enumerate() {
            for density in [0.1, 0.9] {
                let rbm = random_rbm(shape(nv, nh), 2.0 / (nv as f64).sqrt(), seed as u64);
                let (resident, model) = (rbm.on(&device).expect("resident"), Exact::of(&rbm));
                // Real numbers, which are rounded first.
                let x = random_values(n * nv, density, seed as u64);
                let rows: Vec<Vec<f64>> = rows_f64(&x, nv).iter().map(|x| rounded(x)).collect();
                let mut sums = vec![0.0; n];
                let mut errors = vec![0.0; n];
                let mut exact_errors = vec![0.0; n];
                for i in 0..nv {
                    let found = with_batch(&device, &x, nv, |x| resident.pseudo_log_likelihood_of_bit(x, i)).expect("bit");
                    let expected: Vec<f64> = rows.iter().map(|x| nv as f64 * model.log_conditional(x, i)).collect();
                    let bounds: Vec<f64> = rows.iter().map(|x| bit_error(&model, x, i)).collect();
                    assert_near(&found, &expected, &bounds, &format!("bit {i}"));
                    for r in 0..n {
                        sums[r] += found[r] / nv as f64;
                        errors[r] += bounds[r] / nv as f64;
                        // Canonical sums use a product, those of a matrix library a sum.
                        exact_errors[r] += product_error(&model, &rows[r], i).max(bounds[r] / nv as f64);
                    }
                }
                let found = with_batch(&device, &x, nv, |x| resident.pseudo_log_likelihood(x)).expect("exact");
                let expected: Vec<f64> = rows.iter().map(|x| model.pseudo_log_likelihood(x)).collect();
                assert_near(&found, &expected, &exact_errors, "exact");
                // The estimator's mean over bits is the exact one; the error of each is at most its bound.
                let both: Vec<f64> = errors.iter().zip(&exact_errors).map(|(a, b)| a + b).collect();
                assert_near(&sums, &found, &both, "mean over bits");
                assert!(with_batch(&device, &x, nv, |x| resident.pseudo_log_likelihood_of_bit(x, nv)).is_err());
            }
        }
    }

    fn free_energy_is_the_oracles(device) {
        for (seed, (nv, nh, n)) in [(1, 1, 3), (4, 5, 9), (33, 31, 7), (65, 130, 25)].into_iter().enumerate() {
            for density in [0.1, 0.9] {
                let rbm = random_rbm(shape(nv, nh), 2.0, seed as u64);
                let model = Exact::of(&rbm);
                let x = random_values(n * nv, density, seed as u64);
                let found = with_batch(&device, &x, nv, |x| rbm.on(&device).expect("resident").free_energy(x)).expect("F");
                let rows = rows_f64(&x, nv);
                let expected: Vec<f64> = rows.iter().map(|x| model.free_energy(x)).collect();
                let bounds: Vec<f64> = rows.iter().map(|x| free_energy_error(&model, x)).collect();
                assert_near(&found, &expected, &bounds, "free energy");
            }
        }
    }

    /// The value 1/2 counts as 1; in eight-bit data 128 is the first value that does.
    fn a_half_counts_as_one(device) {
        let rbm = random_rbm(shape(3, 4), 1.0, 5);
        let resident = rbm.on(&device).expect("resident");
        let exact = |x: &[f32]| with_batch(&device, x, 3, |x| resident.pseudo_log_likelihood(x)).expect("exact");
        let below = f32::from_bits(0.5f32.to_bits() - 1);
        assert_eq!(exact(&[0.5, below, 0.0]), exact(&[1.0, 0.0, 0.0]));
        let bytes = [128, 127, 255];
        let data = device.load(byte_rows(&bytes, 3)).expect("data");
        let found = resident.pseudo_log_likelihood(batch_of(&device, &data, 1)).expect("bytes");
        assert_eq!(found, exact(&[1.0, 0.0, 1.0]));
    }

    /// One bit per update, the next one at the next update, cyclically; with the parameters from before the update.
    fn the_bit_cycles_over_updates(device) {
        let (nv, nh, n) = (7, 5, 6);
        let grey = random_values(n * nv, 0.6, 6);
        // Rows that are bits share the sums of the positive phase.
        let bits: Vec<f32> = grey.iter().map(|x| x.round()).collect();
        for (algorithm, x) in [Algorithm::Cd, Algorithm::Pcd { n_chains: 3 }].into_iter().flat_map(|a| [(a, &grey), (a, &bits)]) {
            let mut rbm = random_rbm(shape(nv, nh), 1.0, 6);
            let mut trainer = Trainer::new(&device, rbm.shape(), settings(algorithm, 1, Monitor::PseudoLikelihood)).expect("trainer");
            assert_eq!(trainer.take_report().expect("report").monitor, None);
            let mut lent = rbm.lend(&device).expect("lent");
            for update in 0..3 * nv + 2 {
                let before = with_batch(&device, x, nv, |x| lent.pseudo_log_likelihood_of_bit(x, update % nv)).expect("bit");
                with_batch(&device, x, nv, |x| trainer.step(&mut lent, x, 0.5)).expect("step");
                assert_same(report(&mut trainer), average(&before), &format!("update {update}"));
            }
        }
    }

    /// A report is the mean over the updates since the last one, and contains their number.
    fn a_report_is_a_mean_over_updates(device) {
        let (nv, nh, n) = (7, 5, 6);
        let x = random_values(n * nv, 0.6, 6);
        let run = |every: usize| {
            let mut rbm = random_rbm(shape(nv, nh), 1.0, 6);
            let mut trainer = Trainer::new(&device, rbm.shape(), settings(Algorithm::Cd, 2, Monitor::PseudoLikelihood)).expect("trainer");
            let mut lent = rbm.lend(&device).expect("lent");
            let mut reports = Vec::new();
            for update in 1..=12 {
                with_batch(&device, &x, nv, |x| trainer.step(&mut lent, x, 0.5)).expect("step");
                if update % every == 0 {
                    let report = trainer.take_report().expect("report");
                    assert_eq!((report.updates, report.since_last), (update as u64, every as u64));
                    reports.push(report.monitor.expect("a monitor"));
                }
            }
            reports
        };
        let (single, four) = (run(1), run(4));
        for (epoch, mean) in four.iter().enumerate() {
            assert_same(*mean, average(&single[4 * epoch..4 * epoch + 4]), "mean of four");
        }
    }

    fn the_exact_monitor_is_of_the_old_parameters(device) {
        let (nv, nh, n) = (7, 5, 6);
        let mut rbm = random_rbm(shape(nv, nh), 1.0, 8);
        let x = random_values(n * nv, 0.6, 8);
        let pcd = Algorithm::Pcd { n_chains: 4 };
        let mut trainer = Trainer::new(&device, rbm.shape(), settings(pcd, 1, Monitor::ExactPseudoLikelihood)).expect("trainer");
        let mut lent = rbm.lend(&device).expect("lent");
        for _ in 0..5 {
            let before = with_batch(&device, &x, nv, |x| lent.pseudo_log_likelihood(x)).expect("exact");
            with_batch(&device, &x, nv, |x| trainer.step(&mut lent, x, 0.5)).expect("step");
            assert_same(report(&mut trainer), average(&before), "exact");
        }
    }

    fn reconstruction_is_of_the_right_pre_activations(device) {
        let (nv, nh, n) = (9, 5, 6);
        let x = random_values(n * nv, 0.6, 9);
        for k in [1, 3] {
            let mut rbm = random_rbm(shape(nv, nh), 1.0, 9);
            let mut trainer = Trainer::new(&device, rbm.shape(), settings(Algorithm::Cd, k, Monitor::Reconstruction)).expect("trainer");
            let mut lent = rbm.lend(&device).expect("lent");
            for _ in 0..5 {
                with_batch(&device, &x, nv, |x| trainer.step(&mut lent, x, 0.5)).expect("step");
                // CD: pre-activations of step k, which the chains still hold.
                let mut last = Activations::default();
                trainer.chains().visible(&lent, &mut last).expect("visible");
                let expected = reconstruction_cross_entropy(rows(&x, nv), &last.pre_activation).expect("cross-entropy");
                assert_same_terms(report(&mut trainer), average(&expected), "CD");
            }
        }
        let mut rbm = random_rbm(shape(nv, nh), 1.0, 9);
        let pcd = Algorithm::Pcd { n_chains: 4 };
        let mut trainer = Trainer::new(&device, rbm.shape(), settings(pcd, 2, Monitor::Reconstruction)).expect("trainer");
        let mut lent = rbm.lend(&device).expect("lent");
        for _ in 0..5 {
            // PCD: pre-activations given the batch's hidden means, with the parameters from before.
            let (mut hidden, mut visible) = (Activations::default(), Activations::default());
            with_batch(&device, &x, nv, |x| lent.propup(x, &mut hidden)).expect("propup");
            with_batch(&device, &hidden.mean, nh, |h| lent.propdown(h, &mut visible)).expect("propdown");
            let expected = reconstruction_cross_entropy(rows(&x, nv), &visible.pre_activation).expect("cross-entropy");
            with_batch(&device, &x, nv, |x| trainer.step(&mut lent, x, 0.5)).expect("step");
            assert_same_terms(report(&mut trainer), average(&expected), "PCD");
        }
    }

    fn nothing_watched_is_nothing_reported(device) {
        let mut rbm = random_rbm(shape(5, 4), 1.0, 10);
        let mut trainer = Trainer::new(&device, rbm.shape(), settings(Algorithm::Cd, 1, Monitor::None)).expect("trainer");
        let mut lent = rbm.lend(&device).expect("lent");
        with_batch(&device, &[0.5; 10], 5, |x| trainer.step(&mut lent, x, 0.1)).expect("step");
        assert_eq!(trainer.take_report().expect("report").monitor, None);
    }

    /// Pre-activations of ±1e4, where σ is 0 or 1 and its logarithm infinite.
    fn everything_is_finite_far_out(device) {
        let (nv, nh, n) = (20, 11, 8);
        for sign in [1.0, -1.0, 0.0] {
            let mut weights = random_bits(nv * nh, 0.5, 11);
            for w in &mut weights {
                *w = if sign == 0.0 { 1e3 * (2.0 * *w - 1.0) } else { 500.0 * sign };
            }
            let mut rbm = Rbm::from_parts(shape(nv, nh), weights, vec![-1e3; nv], vec![1e3; nh]).expect("model");
            let x: Vec<f32> = [vec![1.0; nv], vec![0.0; nv], random_bits((n - 2) * nv, 0.5, 12)].concat();
            let resident = rbm.on(&device).expect("resident");
            let finite = |values: Vec<f64>, what: &str| assert!(values.iter().all(|x| x.is_finite()), "{what}: {values:?}");
            finite(with_batch(&device, &x, nv, |x| resident.free_energy(x)).expect("F"), "free energy");
            finite(with_batch(&device, &x, nv, |x| resident.pseudo_log_likelihood(x)).expect("PL"), "exact");
            for i in 0..nv {
                finite(with_batch(&device, &x, nv, |x| resident.pseudo_log_likelihood_of_bit(x, i)).expect("PL"), "bit");
            }
            for monitor in [Monitor::PseudoLikelihood, Monitor::ExactPseudoLikelihood, Monitor::Reconstruction] {
                for algorithm in [Algorithm::Cd, Algorithm::Pcd { n_chains: 3 }] {
                    let mut trainer = Trainer::new(&device, rbm.shape(), settings(algorithm, 2, monitor)).expect("trainer");
                    let mut lent = rbm.lend(&device).expect("lent");
                    with_batch(&device, &x, nv, |x| trainer.step(&mut lent, x, 0.1)).expect("step");
                    let value = report(&mut trainer);
                    assert!(value.is_finite() && value <= 0.0, "{monitor:?}: {value}");
                }
            }
        }
    }
}

/// A batch of loaded data. It is a function because the closure above would have to name the types.
fn batch_of<'a>(_: &Device, data: &'a Data<'_>, n: usize) -> Batch<'a> {
    data.range(0..n)
}

#[test]
fn cross_entropy_is_the_oracles() {
    let (n, units) = (9, 23);
    let grey = random_bytes(n * units, 0.5, 13);
    let x: Vec<f32> = grey.iter().map(|&x| f32::from(x) / 255.0).collect();
    let pre: Vec<f32> = random_values(n * units, 1.0, 14).iter().map(|p| 40.0 * p - 20.0).collect();
    let found = reconstruction_cross_entropy(byte_rows(&grey, units), &pre).expect("cross-entropy");
    assert_eq!(found, reconstruction_cross_entropy(rows(&x, units), &pre).expect("cross-entropy"));
    let (x, pre_rows) = (rows_f64(&x, units), rows_f64(&pre, units));
    let expected: Vec<f64> = x.iter().zip(&pre_rows).map(|(x, p)| exact::cross_entropy(x, p)).collect();
    // Only the softplus terms are f32.
    let bound = |p: &Vec<f64>| p.iter().map(|&p| softplus_error(0.0, softplus(p))).sum::<f64>() + 1e-12;
    assert_near(&found, &expected, &pre_rows.iter().map(bound).collect::<Vec<_>>(), "cross-entropy");
    assert!(reconstruction_cross_entropy(rows(&[0.5; 4], 2), &[0.0; 3]).is_err());
    let far = reconstruction_cross_entropy(rows(&[0.0, 1.0, 0.5, 0.5], 4), &[1e4, -1e4, 1e4, -1e4]).expect("far out");
    assert_eq!(far, [-30_000.0]);
}

/// A loan and a resident are one type for calls.
#[test]
fn lent_parameters_read_like_resident_ones() {
    fn shape_of(resident: &Resident) -> (usize, usize) {
        (resident.shape().n_visible(), resident.shape().n_hidden())
    }
    let mut rbm = random_rbm(shape(3, 2), 1.0, 15);
    let device = harmonium::Cpu::detect().expect("cpu");
    let lent = rbm.lend(device).expect("lent");
    assert_eq!(shape_of(&lent), (3, 2));
}
