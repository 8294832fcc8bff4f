//! Π(1 + e^a) and Σσ(a) in `f64`, sixteen lanes wide, in loops that the compiler vectorises.
//!
//! No multiplication is fused with an addition, so that every instruction set gives the same bits; exp, ln and ln_1p are those
//! of the system's C library.

use crate::lanes::{LANES, dispatch};

/// The numbers that are computed at once.
pub(super) type Lane = [f64; LANES];

/// ln(1 + e^x).
pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// 1/(1 + e^-x).
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Distributes numbers over `vectors` vectors, padded with 0.
pub(super) fn spread(mut values: impl Iterator<Item = f64>, vectors: usize) -> impl Iterator<Item = Lane> {
    (0..vectors).map(move |_| std::array::from_fn(|_| values.next().unwrap_or(0.0)))
}

/// The numbers of successive vectors whose product stays finite, given the greatest a in each.
pub(super) fn spans(greatest: &[f64]) -> Vec<usize> {
    let mut spans = Vec::new();
    let (mut n, mut sum) = (0, 0.0);
    for a in greatest {
        let log = softplus(*a);
        if n > 0 && sum + log > 700.0 {
            spans.push(n);
            (n, sum) = (0, 0.0);
        }
        n += 1;
        sum += log;
    }
    spans.push(n);
    spans
}

/// A product of lanes, each in [1, 2), and the exponents that were taken out of them.
pub(super) type Product = (Lane, [i64; LANES]);

/// The logarithm of a product.
pub(super) fn log_of_product((mantissas, exponents): Product) -> f64 {
    // The product of the mantissas is less than 2^16.
    mantissas.iter().product::<f64>().ln() + exponents.iter().sum::<i64>() as f64 * std::f64::consts::LN_2
}

/// Takes the exponents out of numbers of at least 1.
#[inline(always)]
fn normalise((mantissas, exponents): &mut Product) {
    for l in 0..LANES {
        let bits = mantissas[l].to_bits();
        exponents[l] += (bits >> 52) as i64 - 1023;
        mantissas[l] = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    }
}

dispatch! {
    /// Π (1 + e).
    pub(super) fn log_product(|_l| terms: &[Lane], spans: &[usize]) -> Product {
        let mut product = ([1.0; LANES], [0; LANES]);
        let mut terms = terms.iter();
        for &n in spans {
            for term in terms.by_ref().take(n) {
                product.0.iter_mut().zip(term).for_each(|(product, e)| *product *= 1.0 + e);
            }
            normalise(&mut product);
        }
        product
    }

    /// e ← e·factor, and then Π (1 + e).
    pub(super) fn multiply(|_l| terms: &mut [Lane], factors: &[Lane], spans: &[usize]) -> Product {
        let mut product = ([1.0; LANES], [0; LANES]);
        let (mut terms, mut factors) = (terms, factors);
        for &n in spans {
            let (span, rest) = terms.split_at_mut(n);
            let (by, rest_by) = factors.split_at(n);
            (terms, factors) = (rest, rest_by);
            for (term, factor) in span.iter_mut().zip(by) {
                for lane in 0..LANES {
                    let e = term[lane] * factor[lane];
                    term[lane] = e;
                    product.0[lane] *= 1.0 + e;
                }
            }
            normalise(&mut product);
        }
        product
    }

    /// sum += p·σ(a), the terms being e^a or a.
    pub(super) fn add_means(|_l| products: bool, p: f64, terms: &[Lane], sums: &mut [Lane]) {
        for (term, sum) in terms.iter().zip(sums) {
            for lane in 0..LANES {
                let mean = if products { term[lane] / (1.0 + term[lane]) } else { sigmoid(term[lane]) };
                sum[lane] += p * mean;
            }
        }
    }

    /// sum += scale·x.
    pub(super) fn add_scaled(|_l| scale: f64, x: &[Lane], sums: &mut [Lane]) {
        for (x, sum) in x.iter().zip(sums) {
            for lane in 0..LANES {
                sum[lane] += scale * x[lane];
            }
        }
    }
}
