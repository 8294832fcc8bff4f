//! Convergence statistics of several chains of one number.
//!
//! All take one slice a chain, of one length. Sources: A. Vehtari, A. Gelman, D. Simpson, B. Carpenter, P.-C. Bürkner,
//! "Rank-normalization, folding, and localization: an improved R̂ for assessing convergence of MCMC", 2021 (R̂, bulk ESS); C. J.
//! Geyer, "Practical Markov chain Monte Carlo", 1992 (initial monotone sequence); A. D. Sokal, "Monte Carlo methods in
//! statistical mechanics: foundations and new algorithms", 1989 (automatic window).

use crate::{
    error::{Error, Result},
    summary::Summary,
};

/// The shortest chains that have statistics: two draws in each half.
const MIN_DRAWS: usize = 4;
/// Sokal's c: the window is as many autocorrelation times.
const WINDOW: f64 = 5.0;

/// R̂: rank-normalised, split; the greater of that of the draws and that of their distances from the median.
///
/// √((W·(n - 1)/n + B/n)/W) with W the mean variance within half-chains of n draws and B/n the variance of their means:
/// 1 where the chains cannot be told apart, and larger the less they agree; the authors want less than 1.01. NaN where all
/// draws are the same: nothing can be told from a number that does not move.
///
/// # Errors
/// [`Error::Argument`] where there is no chain, or chains differ in length or have less than 4 draws.
pub fn r_hat<C: AsRef<[f64]>>(chains: &[C]) -> Result<f64> {
    let halves = split(&check(chains)?);
    let mut all = halves.concat();
    all.sort_by(f64::total_cmp);
    let median = all[(all.len() - 1) / 2].midpoint(all[all.len() / 2]);
    let folded: Vec<_> = halves.iter().map(|half| half.iter().map(|x| (x - median).abs()).collect()).collect();
    let (bulk, tail) = (basic_r_hat(&rank_normalised(&halves)), basic_r_hat(&rank_normalised(&folded)));
    // Bits and other numbers of two values have all the same distance from the median.
    Ok(if tail.is_nan() { bulk } else { bulk.max(tail) })
}

/// The bulk effective sample size: how many independent draws would tell the mean of the ranks as well.
///
/// N/τ over N draws, rank-normalised and split, τ = 1 + 2Σρ_t with correlations from all half-chains together and the sum cut
/// by Geyer's initial monotone sequence; at most N·log10 N. The authors want at least 400. NaN where all draws are the same.
/// O(N·τ).
///
/// # Errors
/// Those of [`r_hat`].
pub fn bulk_effective_sample_size<C: AsRef<[f64]>>(chains: &[C]) -> Result<f64> {
    let chains = rank_normalised(&split(&check(chains)?));
    let (m, n) = (chains.len() as f64, chains[0].len());
    let total = m * n as f64;
    let means: Vec<f64> = chains.iter().map(|chain| Summary::of(chain).mean).collect();
    let within = |lag| {
        let sum: f64 = chains.iter().zip(&means).map(|(chain, &mean)| products(chain, mean, lag)).sum();
        sum / total
    };
    let w = within(0) * n as f64 / (n as f64 - 1.0);
    let spread = within(0) + Summary::of(&means).variance();
    let rho = |lag| 1.0 - (w - within(lag)) / spread;
    let mut tau = -1.0;
    let mut least = f64::INFINITY;
    let mut lag = 0;
    while lag + 1 < n {
        let first = if lag == 0 { 1.0 } else { rho(lag) };
        let pair = first + rho(lag + 1);
        if pair < 0.0 {
            break;
        }
        least = least.min(pair);
        tau += 2.0 * least;
        lag += 2;
    }
    if spread == 0.0 {
        return Ok(f64::NAN);
    }
    Ok(total / tau.max(1.0 / total.log10()))
}

/// The integrated autocorrelation time τ = 1 + 2Σρ_t in draws: N draws tell the mean as well as N/τ independent ones.
///
/// Correlations are about the mean of all chains, summed up to the smallest window of at least 5τ (Sokal's automatic window)
/// and at least 5 draws, as those of anticorrelated draws cancel. Infinite where there is none in half a chain, which is then
/// too short to tell; to be trusted from 50τ draws or so. NaN where all draws are the same. O(N·τ).
///
/// # Errors
/// Those of [`r_hat`].
pub fn autocorrelation_time<C: AsRef<[f64]>>(chains: &[C]) -> Result<f64> {
    let chains = check(chains)?;
    let n = chains[0].len();
    let mean = Summary::of(&chains.concat()).mean;
    let covariance = |lag: usize| {
        let sum: f64 = chains.iter().map(|chain| products(chain, mean, lag)).sum();
        sum / (chains.len() * (n - lag)) as f64
    };
    let c0 = covariance(0);
    if c0 == 0.0 {
        return Ok(f64::NAN);
    }
    let mut tau = 1.0;
    for lag in 1..=n / 2 {
        tau += 2.0 * covariance(lag) / c0;
        if lag as f64 >= WINDOW * tau.max(1.0) {
            // Anticorrelated draws may sum to less than nothing by chance.
            return Ok(tau.max(1.0 / n as f64));
        }
    }
    Ok(f64::INFINITY)
}

fn check<C: AsRef<[f64]>>(chains: &[C]) -> Result<Vec<&[f64]>> {
    let chains: Vec<&[f64]> = chains.iter().map(AsRef::as_ref).collect();
    let shortest = chains.iter().map(|chain| chain.len()).min().unwrap_or(0);
    if shortest >= MIN_DRAWS && chains.iter().all(|chain| chain.len() == shortest) {
        return Ok(chains);
    }
    Err(Error::Argument {
        what: "chains",
        expected: format!("at least one chain, all of the same length of at least {MIN_DRAWS} draws"),
        found: format!("{} chains, the shortest of {shortest}", chains.len()),
    })
}

/// The first and the last half of each chain; an odd draw in the middle is left out.
fn split(chains: &[&[f64]]) -> Vec<Vec<f64>> {
    let half = |chain: &[f64]| [chain[..chain.len() / 2].to_vec(), chain[chain.len().div_ceil(2)..].to_vec()];
    chains.iter().flat_map(|chain| half(chain)).collect()
}

/// Each draw replaced by the normal quantile of its rank among all, (rank - 3/8)/(N + 1/4) (G. Blom, 1958); equal draws
/// share the mean of their ranks.
fn rank_normalised(chains: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let all = chains.concat();
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by(|&a, &b| all[a].total_cmp(&all[b]));
    let mut scores = vec![0.0; all.len()];
    for group in order.chunk_by(|&a, &b| all[a] == all[b]) {
        // `group` is a part of `order`: its place there is the number of smaller draws.
        let before = order.partition_point(|&at| all[at].total_cmp(&all[group[0]]).is_lt());
        let rank = before as f64 + (group.len() as f64 + 1.0) / 2.0;
        let score = normal_quantile((rank - 0.375) / (all.len() as f64 + 0.25));
        group.iter().for_each(|&at| scores[at] = score);
    }
    scores.chunks(chains[0].len()).map(<[f64]>::to_vec).collect()
}

fn basic_r_hat(chains: &[Vec<f64>]) -> f64 {
    let n = chains[0].len() as f64;
    let (means, variances): (Vec<f64>, Vec<f64>) =
        chains.iter().map(|chain| Summary::of(chain)).map(|summary| (summary.mean, summary.variance())).unzip();
    let within = Summary::of(&variances).mean;
    (((n - 1.0) / n * within + Summary::of(&means).variance()) / within).sqrt()
}

/// Σ_t (x_t - mean)·(x_{t+lag} - mean).
fn products(chain: &[f64], mean: f64, lag: usize) -> f64 {
    chain.iter().zip(&chain[lag..]).map(|(x, y)| (x - mean) * (y - mean)).sum()
}

/// Φ⁻¹(p) for p from 1e-11 to 1 - 1e-11, good to 1.2e-7 of its size: M. J. Wichura, "Algorithm AS 241: the percentage points
/// of the normal distribution", 1988, its shorter form.
fn normal_quantile(p: f64) -> f64 {
    let ratio = |r: f64, over: [f64; 4], under: [f64; 3]| {
        (((over[3] * r + over[2]) * r + over[1]) * r + over[0]) / (((under[2] * r + under[1]) * r + under[0]) * r + 1.0)
    };
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let over = [3.387_132_717_9, 50.434_271_938, 159.291_132_02, 59.109_374_720];
        return q * ratio(0.180_625 - q * q, over, [17.895_169_469, 78.757_757_664, 67.187_563_600]);
    }
    let r = (-p.min(1.0 - p).ln()).sqrt() - 1.6;
    let over = [1.423_437_277_7, 2.756_815_390_0, 1.306_728_481_6, 0.170_238_211_03];
    q.signum() * ratio(r, over, [0.737_001_642_50, 0.120_211_329_75, 0.0])
}

#[cfg(test)]
mod tests {
    use super::normal_quantile;

    /// The normal distribution function by Simpson's rule.
    fn normal(z: f64) -> f64 {
        let n = 20_000;
        let (low, h) = (-12.0, (z + 12.0) / n as f64);
        let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let weight = |k: usize| if k == 0 || k == n { 1.0 } else { 2.0 + 2.0 * (k % 2) as f64 };
        (0..=n).map(|k| weight(k) * density(low + k as f64 * h)).sum::<f64>() * h / 3.0
    }

    #[test]
    fn the_normal_quantile_undoes_the_normal_distribution() {
        for k in -60..=60 {
            let z = f64::from(k) / 10.0;
            let p = normal(z);
            // What 1e-15 in p makes of z, and the stated 1.2e-7.
            let allowed = 1.2e-7 * z.abs().max(1.0) + 1e-13 / (-z * z / 2.0).exp();
            assert!((normal_quantile(p) - z).abs() <= allowed, "{z}: {}", normal_quantile(p));
        }
    }
}
