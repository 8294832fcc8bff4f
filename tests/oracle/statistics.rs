//! Goodness of fit at a stated rate of false alarms, and bounds on rounding.

use super::{exact::Exact, laws::Laws, uniform};
use harmonium::elementary::{SIGMOID_ULP, SOFTPLUS_ULP};
use rand_pcg::Pcg32;

/// Half the distance from 1 to the next `f32`: the greatest relative error of one rounding.
pub const U: f64 = 1.0 / 16_777_216.0;

/// The greatest error of n successive roundings of a sum or product, relative to the sum of its terms' magnitudes (N. J. Higham,
/// "Accuracy and Stability of Numerical Algorithms", 2002, lemma 3.1). It holds for any order of summation.
pub fn gamma(n: usize) -> f64 {
    n as f64 * U / (1.0 - n as f64 * U)
}

/// Greatest error of a pre-activation in `f32`: a sum of `units` products and a bias with the total magnitude `size`, then scaled
/// by β and shifted by a reference.
pub fn pre_error(units: usize, size: f64) -> f64 {
    gamma(units + 4) * size
}

/// Greatest error of σ of such a pre-activation: σ' ≤ 1/4, and a unit in the last place of a number ≤ 1 is ≤ 2U.
pub fn mean_error(pre_error: f64) -> f64 {
    pre_error / 4.0 + SIGMOID_ULP * 2.0 * U
}

/// Greatest error of softplus of a pre-activation: sp' ≤ 1, and a unit in the last place is ≤ 2U of the number.
pub fn softplus_error(pre_error: f64, softplus: f64) -> f64 {
    pre_error + SOFTPLUS_ULP * 2.0 * U * (softplus + pre_error) + f64::from(f32::MIN_POSITIVE) * 2.0
}

/// Greatest rounding error of Σ_r w_r ∂F(v_r)/∂θ in `f32`.
///
/// The error of each hidden mean is at most [`mean_error`]. A product w·x·P takes two roundings, a sum of R terms R more, and the
/// two factors 1/B and 1/M with the subtraction at most four: in all gamma(R + 6) of the sum of the terms' magnitudes.
pub fn gradient_error(model: &Exact, data: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
    let (nv, nh) = (model.nv, model.nh);
    let mut bound = vec![1e-30; model.theta.len()];
    let relative = gamma(data.len() + 6);
    for (x, w) in data.iter().zip(weights) {
        let (p, size, w) = (model.p_hidden(x), model.hidden_size(x), w.abs());
        for j in 0..nh {
            let error = w * (mean_error(pre_error(nv, size[j])) + relative * p[j]) * (1.0 + relative);
            bound[nv * nh + nv + j] += error;
            (0..nv).for_each(|i| bound[i * nh + j] += x[i] * error);
        }
        (0..nv).for_each(|i| bound[nv * nh + i] += w * relative * x[i]);
    }
    bound
}

/// Greatest rounding error of Σ w ∂F: as [`gradient_error`], with one more rounding each for x = s·v and w·x. The own terms of
/// Gaussian units are `f64`. ln σ² needs a product of W and its gradient, with the errors of the latter.
pub fn law_gradient_error(model: &Laws, data: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
    let (nv, nh) = (model.nv, model.nh);
    let mut bound = vec![1e-30; model.parameters()];
    let relative = gamma(data.len() + 8);
    for (v, w) in data.iter().zip(weights) {
        let ((_, size), p, w) = (model.hidden_pre(v), model.p_hidden(v), w.abs());
        for j in 0..nh {
            let error = w * (mean_error(pre_error(nv + 1, size[j])) + relative * p[j]) * (1.0 + relative);
            bound[nv * nh + nv + j] += error;
            (0..nv).for_each(|i| bound[i * nh + j] += (model.s[i] * v[i]).abs() * error);
        }
        for i in 0..nv {
            let gaussian = model.is_gaussian(i);
            bound[nv * nh + i] += w * relative * if gaussian { model.s[i] * (v[i] - model.b(i)).abs() } else { v[i] };
            if gaussian {
                let product: f64 = (0..nh).map(|j| (model.s[i] * v[i] * model.w(i, j) * p[j]).abs()).sum();
                let own = model.s[i] * (v[i] - model.b(i)).powi(2) / 2.0;
                bound[nv * nh + nv + nh + i] += w * gamma(4) * (own + product);
            }
        }
    }
    for i in (0..nv).filter(|&i| model.is_gaussian(i)) {
        let of_weights: f64 = (0..nh).map(|j| model.w(i, j).abs() * bound[i * nh + j]).sum();
        bound[nv * nh + nv + nh + i] += of_weights;
    }
    bound
}

/// Greatest rounding error of log Z in one visit of a tracker: two free energies, and draws with inexact probabilities. Each of
/// these may lead to another state and so, to that extent, to another weight.
pub fn visit_error(model: &Exact) -> f64 {
    let all = vec![1.0; model.nv.max(model.nh)];
    let (hidden, visible) = (model.hidden_size(&all[..model.nv]), model.visible_size(&all[..model.nh]));
    let energy: f64 = hidden.iter().map(|&size| softplus_error(pre_error(model.nv, size), size + 0.7)).sum();
    let draws = hidden.iter().map(|&size| mean_error(pre_error(model.nv, size))).sum::<f64>()
        + visible.iter().map(|&size| mean_error(pre_error(model.nh, size))).sum::<f64>();
    2.0 * energy + draws
}

/// The quantile of the standard normal distribution that is exceeded with probability 1e-6.
const NORMAL_1E_6: f64 = 4.753_424;

/// The quantile of the chi-square distribution that is exceeded with probability 1e-6: E. B. Wilson and M. M. Hilferty's cube root
/// approximation (1931), accurate to half a percent from ten degrees of freedom on.
pub fn chi_square_limit(degrees: usize) -> f64 {
    let d = degrees as f64;
    let s = 2.0 / (9.0 * d);
    d * (1.0 - s + NORMAL_1E_6 * s.sqrt()).powi(3)
}

/// Pearson's test, at a false-alarm rate of 1e-6, of the hypothesis that `counts` come from the distribution `p`. Cells with fewer
/// than ten expected counts are merged into one.
#[track_caller]
pub fn assert_distribution(counts: &[u64], p: &[f64], what: &str) {
    assert_eq!(counts.len(), p.len());
    let n: u64 = counts.iter().sum();
    let (mut statistic, mut cells, mut rest) = (0.0, 0, (0.0, 0.0));
    let mut cell = |count: f64, expected: f64| {
        statistic += (count - expected).powi(2) / expected;
        cells += 1;
    };
    for (&count, p) in counts.iter().zip(p) {
        let (count, expected) = (count as f64, n as f64 * p);
        if expected < 10.0 {
            rest = (rest.0 + count, rest.1 + expected);
        } else {
            cell(count, expected);
        }
    }
    if rest.1 >= 10.0 {
        cell(rest.0, rest.1);
    } else {
        // The expectation is too small for the chi-square distribution. By Markov's inequality more than ten million times the
        // expectation has a probability below 1e-7. An impossible state must not occur.
        assert!(rest.0 <= 1e7 * rest.1, "{what}: impossible states {} times", rest.0);
    }
    let limit = chi_square_limit(cells - 1);
    assert!(statistic <= limit, "{what}: chi-square {statistic:.1} over {} degrees, limit {limit:.1}", cells - 1);
}

/// The number of successes in n cases with probability p each that is exceeded with a probability below 1e-6.
pub fn most_of(n: u32, p: f64) -> usize {
    let mut term = (1.0 - p).powi(n as i32);
    let mut left = 1.0;
    for k in 0..n {
        left -= term;
        if left < 1e-6 {
            return k as usize;
        }
        term *= f64::from(n - k) / f64::from(k + 1) * p / (1.0 - p);
    }
    n as usize
}

/// The index of a cell drawn from the distribution `p`.
pub fn draw_from(p: &[f64], generator: &mut Pcg32) -> usize {
    let mut u = uniform(generator);
    for (at, p) in p.iter().enumerate() {
        u -= p;
        if u < 0.0 {
            return at;
        }
    }
    p.len() - 1
}

/// Asserts |found - expected| ≤ bound for each number.
#[track_caller]
pub fn assert_near(found: &[f64], expected: &[f64], bounds: &[f64], what: &str) {
    assert!(found.len() == expected.len() && found.len() == bounds.len(), "{what}: length");
    for (at, ((found, expected), bound)) in found.iter().zip(expected).zip(bounds).enumerate() {
        let off = (found - expected).abs();
        // Not `off > bound`, because a NaN must fail.
        assert!(
            off <= *bound,
            "{what}[{at}]: found {found:e}, expected {expected:e}, off by {off:e}, allowed {bound:e}"
        );
    }
}

/// Asserts |found - expected| ≤ tolerance·max(1, |expected|).
#[track_caller]
pub fn assert_relative(found: f64, expected: f64, tolerance: f64) {
    let off = (found - expected).abs();
    assert!(off <= tolerance * expected.abs().max(1.0), "found {found}, expected {expected}, off by {off:e}");
}

/// Kolmogorov's test, at a false-alarm rate of 1e-6 for any sample size, of the hypothesis that numbers are standard normal. Their
/// greatest distance D has P(D > d) ≤ 2e^(-2nd²) (P. Massart, "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality",
/// 1990). The rounding of the numbers moves it by less than 1e-6.
#[track_caller]
pub fn assert_normal(mut z: Vec<f64>, what: &str) {
    assert!(z.len() >= 1000, "{what}: {} numbers say nothing", z.len());
    z.sort_by(f64::total_cmp);
    let n = z.len() as f64;
    let cdf = |z: f64| 0.5 * libm::erfc(-z / std::f64::consts::SQRT_2);
    let off = |(at, &z): (usize, &f64)| (cdf(z) - at as f64 / n).max((at + 1) as f64 / n - cdf(z));
    let distance = z.iter().enumerate().map(off).fold(0.0, f64::max);
    let limit = (2e6f64.ln() / (2.0 * n)).sqrt() + 1e-6;
    // Not `distance > limit`, because a NaN must fail.
    assert!(distance <= limit, "{what}: distance {distance:.5} from a normal distribution, limit {limit:.5}");
}
