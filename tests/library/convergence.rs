//! Convergence statistics against slow programs that follow the papers sentence by sentence.

use crate::oracle::{generator, uniform};
use harmonium::diagnostics::{autocorrelation_time, bulk_effective_sample_size, r_hat};

fn mean(x: &[f64]) -> f64 {
    x.iter().sum::<f64>() / x.len() as f64
}

/// The unbiased estimate of a variance.
fn variance(x: &[f64]) -> f64 {
    x.iter().map(|y| (y - mean(x)).powi(2)).sum::<f64>() / (x.len() - 1) as f64
}

/// Φ(z) = 1/2 + φ(z)·Σ_k z^(2k + 1)/(1·3·…·(2k + 1)).
fn normal(z: f64) -> f64 {
    let (mut term, mut sum) = (z, 0.0);
    for k in 1..200 {
        sum += term;
        term *= z * z / f64::from(2 * k + 1);
    }
    0.5 + (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * sum
}

/// Φ⁻¹(p) by bisection.
fn quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-7.0, 7.0);
    for _ in 0..60 {
        let z = f64::midpoint(low, high);
        if normal(z) < p { low = z } else { high = z }
    }
    low
}

/// Vehtari et al., equation 14: quantiles of mean ranks.
fn ranked(chains: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let all = chains.concat();
    let rank = |x: f64| {
        let less = all.iter().filter(|&&y| y < x).count() as f64;
        let equal = all.iter().filter(|&&y| y == x).count() as f64;
        less + (equal + 1.0) / 2.0
    };
    let score = |&x: &f64| quantile((rank(x) - 3.0 / 8.0) / (all.len() as f64 + 1.0 / 4.0));
    chains.iter().map(|chain| chain.iter().map(score).collect()).collect()
}

/// The first and the last half of each chain, without the middle draw of an odd number.
fn halves(chains: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let n = chains[0].len() / 2;
    chains.iter().flat_map(|chain| [chain[..n].to_vec(), chain[chain.len() - n..].to_vec()]).collect()
}

/// W and var⁺ of chains of n draws: the mean variance within chains, and the sum of W·(n - 1)/n and the variance of the means.
fn within_and_all(chains: &[Vec<f64>]) -> (f64, f64) {
    let n = chains[0].len() as f64;
    let w = mean(&chains.iter().map(|chain| variance(chain)).collect::<Vec<_>>());
    let means: Vec<f64> = chains.iter().map(|chain| mean(chain)).collect();
    (w, w * (n - 1.0) / n + variance(&means))
}

/// Vehtari et al., sections 2 and 4.
fn naive_r_hat(chains: &[Vec<f64>]) -> f64 {
    let chains = halves(chains);
    let mut all = chains.concat();
    all.sort_by(f64::total_cmp);
    let median = (all[(all.len() - 1) / 2] + all[all.len() / 2]) / 2.0;
    let folded: Vec<Vec<f64>> = chains.iter().map(|chain| chain.iter().map(|x| (x - median).abs()).collect()).collect();
    let [bulk, tail] = [chains, folded].map(|chains| {
        let (w, all) = within_and_all(&ranked(&chains));
        (all / w).sqrt()
    });
    bulk.max(tail)
}

/// Vehtari et al., equations 10 to 13: τ, and the number of draws.
fn naive_tau(chains: &[Vec<f64>]) -> (f64, f64) {
    let chains = ranked(&halves(chains));
    let n = chains[0].len();
    let draws = (n * chains.len()) as f64;
    let (w, all) = within_and_all(&chains);
    let covariance = |chain: &Vec<f64>, lag: usize| {
        (0..n - lag).map(|t| (chain[t] - mean(chain)) * (chain[t + lag] - mean(chain))).sum::<f64>() / n as f64
    };
    let rho: Vec<f64> = (0..n)
        .map(|lag| match lag {
            0 => 1.0,
            _ => 1.0 - (w - mean(&chains.iter().map(|chain| covariance(chain, lag)).collect::<Vec<_>>())) / all,
        })
        .collect();
    // Pairs of neighbours while they are positive, each no greater than those before it.
    let pairs: Vec<f64> = rho.chunks_exact(2).map(|pair| pair[0] + pair[1]).take_while(|&pair| pair >= 0.0).collect();
    let least = |k: usize| pairs[..=k].iter().copied().fold(f64::INFINITY, f64::min);
    let tau = -1.0 + 2.0 * (0..pairs.len()).map(least).sum::<f64>();
    (tau.max(1.0 / draws.log10()), draws)
}

/// Sokal's window: the least M ≥ 5 that is at least five times 1 + 2Σ_{t ≤ M} ρ_t.
fn naive_time(chains: &[Vec<f64>]) -> f64 {
    let n = chains[0].len();
    let centre = mean(&chains.concat());
    let covariance = |lag: usize| {
        let products = chains.iter().flat_map(|chain| (0..n - lag).map(move |t| (chain[t], chain[t + lag])));
        mean(&products.map(|(x, y)| (x - centre) * (y - centre)).collect::<Vec<_>>())
    };
    let rho: Vec<f64> = (0..=n / 2).map(|lag| covariance(lag) / covariance(0)).collect();
    let tau = |window: usize| 1.0 + 2.0 * rho[1..=window].iter().sum::<f64>();
    let window = (5..=n / 2).find(|&window| window as f64 >= 5.0 * tau(window).max(1.0));
    window.map_or(f64::INFINITY, |window| tau(window).max(1.0 / n as f64))
}

/// Chains of every kind: independent and correlated draws, few values, a trend, one chain apart, odd and even lengths.
fn series() -> Vec<Vec<Vec<f64>>> {
    let mut generator = generator(1);
    let mut all = Vec::new();
    for (m, n) in [(1, 60), (2, 41), (4, 100), (3, 97)] {
        for (phi, trend, apart, step) in [
            (0.0, 0.0, 0.0, 0.0),
            (0.8, 0.0, 0.0, 0.0),
            (0.95, 0.0, 0.0, 0.0),
            (-0.5, 0.0, 0.0, 0.0),
            (0.3, 4.0, 0.0, 0.0),
            (0.3, 0.0, 3.0, 0.0),
            (0.5, 0.0, 0.0, 1.0),
        ] {
            let mut chain = |number: usize| {
                let mut x = 0.0;
                let mut draw = |t: usize| {
                    x = phi * x + uniform(&mut generator) - 0.5;
                    let y = x + trend * t as f64 / n as f64 + if number == 0 { apart } else { 0.0 };
                    // Some series have few values, and so ties.
                    if step > 0.0 { (2.0 * y / step).round() * step } else { y }
                };
                (0..n).map(&mut draw).collect::<Vec<f64>>()
            };
            all.push((0..m).map(&mut chain).collect());
        }
    }
    all
}

/// The library's quantiles have a relative error of 1.2e-7. That changes sums of squares and of products by a share of 2.4e-7 of
/// the sums of squares, their quotients by twice as much and, with the differences in the numerator of ρ, by less than 2e-6.
const RHO_ERROR: f64 = 2e-6;

#[test]
fn r_hat_and_effective_sample_sizes_are_the_papers() {
    for (number, chains) in series().iter().enumerate() {
        let (found, expected) = (r_hat(chains).expect("long enough"), naive_r_hat(chains));
        assert!((found / expected - 1.0).abs() <= RHO_ERROR, "series {number}: R̂ {found}, expected {expected}");
        let (tau, draws) = naive_tau(chains);
        let found = bulk_effective_sample_size(chains).expect("long enough");
        // τ is twice a sum of at most n/2 correlations.
        let off = 2.0 * chains[0].len() as f64 / 2.0 * RHO_ERROR / tau;
        assert!(
            (found / (draws / tau) - 1.0).abs() <= off,
            "series {number}: {found}, expected {} ± {off}",
            draws / tau
        );
    }
}

#[test]
fn autocorrelation_times_are_sokals() {
    let mut known = 0;
    for (number, chains) in series().iter().enumerate() {
        let (found, expected) = (autocorrelation_time(chains).expect("long enough"), naive_time(chains));
        // Sums of at most 400 products in another order, at most 50 of them.
        assert!(
            found == expected || (found - expected).abs() <= 1e-10,
            "series {number}: {found}, expected {expected}"
        );
        known += usize::from(expected.is_finite());
    }
    assert!(known >= 15, "only {known} series are long enough");
}
