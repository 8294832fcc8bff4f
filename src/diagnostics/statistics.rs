//! Convergence statistics of one number over several chains.
//!
//! All functions take one slice a chain, all of the same length. The module above names the sources.

use crate::{
    error::{Error, Result},
    summary::Summary,
};

/// The shortest chains that are accepted: two draws in each half.
const MIN_DRAWS: usize = 4;
/// Sokal's c, the width of the window in autocorrelation times.
const WINDOW: f64 = 5.0;

/// R̂, rank-normalised and split: the greater of R̂ of the draws and R̂ of their distances from the median.
///
/// √((W·(n - 1)/n + B/n)/W) with W the mean variance within half-chains of n draws and B/n the variance of their means. It is 1 if
/// the chains are indistinguishable, and grows as they disagree; the authors recommend less than 1.01. NaN if all draws are equal,
/// because a constant says nothing about convergence.
///
/// ```
/// use harmonium::diagnostics::r_hat;
///
/// let one: Vec<f64> = (0..100).map(|n| f64::from(n * 37 % 100)).collect();
/// let other: Vec<f64> = one.iter().map(|x| x + 200.0).collect();
/// assert!(r_hat(&[one.clone(), one.clone()])? < 1.1);
/// assert!(r_hat(&[one, other])? > 1.5);
/// # Ok::<(), harmonium::Error>(())
/// ```
///
/// # Errors
/// [`Error::Argument`] if there are no chains, or chains differ in length or have fewer than 4 draws.
pub fn r_hat<C: AsRef<[f64]>>(chains: &[C]) -> Result<f64> {
    let halves = split(&check(chains)?);
    let mut all = halves.concat();
    all.sort_by(f64::total_cmp);
    let median = all[(all.len() - 1) / 2].midpoint(all[all.len() / 2]);
    let folded: Vec<_> = halves.iter().map(|half| half.iter().map(|x| (x - median).abs()).collect()).collect();
    let (bulk, tail) = (basic_r_hat(&rank_normalised(&halves)), basic_r_hat(&rank_normalised(&folded)));
    // Numbers with only two values, such as bits, all have the same distance from the median.
    Ok(if tail.is_nan() { bulk } else { bulk.max(tail) })
}

/// The bulk effective sample size: the number of independent draws that would estimate the mean of the ranks as well.
///
/// N/τ over N draws, rank-normalised and split, with τ = 1 + 2Σρ_t. The correlations ρ_t come from all half-chains together;
/// Geyer's initial monotone sequence truncates the sum. At most N·log10 N. The authors recommend at least 400. NaN if all draws are
/// equal. O(N·τ).
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

/// The integrated autocorrelation time τ = 1 + 2Σρ_t in draws: N draws estimate the mean as well as N/τ independent ones.
///
/// Correlations are about the mean of all chains. They are summed up to the smallest window of at least 5τ (Sokal's automatic
/// window) and at least 5 draws, because correlations of anticorrelated draws cancel. Infinite if half a chain is shorter than this
/// window; reliable from about 50τ draws. NaN if all draws are equal. O(N·τ).
///
/// ```
/// use harmonium::{Purpose, Uniforms, diagnostics::autocorrelation_time};
///
/// // Independent numbers, each of them repeated ten times.
/// let numbers = Uniforms::new(123, Purpose::Other).permutation(2000);
/// let chain: Vec<f64> = numbers.iter().flat_map(|&x| [x as f64; 10]).collect();
/// assert!((autocorrelation_time(&[chain])? - 10.0).abs() < 3.0);
/// # Ok::<(), harmonium::Error>(())
/// ```
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
            // The sum of anticorrelated draws may be negative by chance.
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

/// The first and the last half of each chain, without the draw in the middle if the number is odd.
fn split(chains: &[&[f64]]) -> Vec<Vec<f64>> {
    let half = |chain: &[f64]| [chain[..chain.len() / 2].to_vec(), chain[chain.len().div_ceil(2)..].to_vec()];
    chains.iter().flat_map(|chain| half(chain)).collect()
}

/// Replaces each draw by the normal quantile of its rank among all draws, (rank - 3/8)/(N + 1/4) (G. Blom, 1958); equal draws share
/// the mean of their ranks.
fn rank_normalised(chains: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let all = chains.concat();
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by(|&a, &b| all[a].total_cmp(&all[b]));
    let mut scores = vec![0.0; all.len()];
    for group in order.chunk_by(|&a, &b| all[a] == all[b]) {
        // `group` is a part of `order`; its position there is the number of smaller draws.
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

/// Φ⁻¹(p) for p from 1e-11 to 1 - 1e-11, with a relative error of 1.2e-7: M. J. Wichura, "Algorithm AS 241: the percentage points
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

/// The difference of two means, and its uncertainty.
pub(crate) struct Difference {
    pub means: [f64; 2],
    /// NaN if either mean is that of a single number.
    pub standard_error: f64,
    /// The degrees of freedom of Student's t; NaN if the standard error is.
    pub degrees_of_freedom: f64,
}

impl Difference {
    /// The difference between the means of n and m numbers.
    ///
    /// The standard error is √(e² + e'²), where e² = variance/n and e'² = variance'/m are the squared standard errors of the two
    /// means. Degrees of freedom are (e² + e'²)²/(e⁴/(n - 1) + e'⁴/(m - 1)) (B. L. Welch, "The generalization of 'Student's'
    /// problem when several different population variances are involved", 1947; F. E. Satterthwaite, "An approximate
    /// distribution of estimates of variance components", 1946), or n + m - 2 if neither side scatters.
    pub fn of(one: &[f64], other: &[f64]) -> Self {
        let [(n, one), (m, other)] = [one, other].map(|x| (x.len() as f64, Summary::of(x)));
        let standard_error = one.standard_error().hypot(other.standard_error());
        // As fractions of the sum, so that squares neither overflow nor underflow.
        let [one_share, other_share] = [one, other].map(|x| (x.standard_error() / standard_error).powi(2));
        let degrees_of_freedom = match standard_error {
            0.0 => n + m - 2.0,
            _ => 1.0 / (one_share.powi(2) / (n - 1.0) + other_share.powi(2) / (m - 1.0)),
        };
        Self { means: [one.mean, other.mean], standard_error, degrees_of_freedom }
    }

    /// P(|T| > t), where t is the difference in standard errors: the probability that means of the same distribution differ by more.
    /// 1 if t is below 3 or unknown.
    pub fn probability(&self) -> f64 {
        let difference = (self.means[0] - self.means[1]).abs();
        if difference == 0.0 || self.standard_error.is_nan() || difference < 3.0 * self.standard_error {
            return 1.0;
        }
        if self.standard_error == 0.0 {
            0.0
        } else {
            student_tails(difference / self.standard_error, self.degrees_of_freedom)
        }
    }
}

/// The probability that a normal number lies more than three standard deviations from its mean, 2·(1 - Φ(3)).
const THREE_SIGMA: f64 = 0.002_699_796_063_260_189;

/// The number of standard errors that is as improbable as three for a normal number: t with P(|T| > t) = 2·(1 - Φ(3)) for Student's
/// T (Student, "The probable error of a mean", 1908).
///
/// `degrees`: degrees of freedom. Values below 1 count as 1; infinity gives 3. The relative error is at most 1e-9 up to 10^6
/// degrees. O(√degrees).
pub(super) fn standard_errors(degrees: f64) -> f64 {
    if degrees.is_infinite() {
        return 3.0;
    }
    let degrees = degrees.max(1.0);
    // One degree of freedom has the longest tail: tan(π/2·(1 - THREE_SIGMA)) = 235.8.
    let (mut low, mut high) = (3.0, 236.0);
    for _ in 0..60 {
        let t = f64::midpoint(low, high);
        if student_tails(t, degrees) > THREE_SIGMA { low = t } else { high = t }
    }
    f64::midpoint(low, high)
}

/// P(|T| > t) for Student's T of ν ≥ 1 degrees of freedom and t ≥ 3: the incomplete beta function I_x(ν/2, 1/2) at
/// x = ν/(ν + t²). Its continued fraction (NIST Digital Library of Mathematical Functions, 8.17.22) converges in O(√ν) terms for
/// these t; Lentz's method evaluates it (I. J. Thompson, A. R. Barnett, "Coulomb and Bessel functions of complex arguments and
/// order", 1986).
fn student_tails(t: f64, degrees: f64) -> f64 {
    let (a, b, y) = (degrees / 2.0, 0.5, t * t / (degrees + t * t));
    let x = 1.0 - y;
    let (mut fraction, mut c, mut d) = (1.0, 1.0, 0.0);
    for n in 1..1_000_000 {
        let m = f64::from(n / 2);
        let term = match n % 2 {
            1 => -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
            _ => m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
        };
        d = 1.0 / (1.0 + term * d);
        c = 1.0 + term / c;
        fraction *= c * d;
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    // x^a·(1 - x)^b/(a·B(a, b)), B(a, 1/2) = √π·Γ(a)/Γ(a + 1/2).
    let front = (a * (-y).ln_1p()).exp() * y.sqrt() * gamma_ratio(a) / (a * std::f64::consts::PI.sqrt());
    front / fraction
}

/// Γ(a + 1/2)/Γ(a) with a relative error of at most 1e-11: its asymptotic series (F. G. Tricomi, A. Erdélyi, "The asymptotic
/// expansion of a ratio of gamma functions", 1951) for a ≥ 20, and the recurrence of Γ below it.
fn gamma_ratio(mut a: f64) -> f64 {
    let mut ratio = 1.0;
    while a < 20.0 {
        ratio *= a / (a + 0.5);
        a += 1.0;
    }
    let r = 1.0 / a;
    ratio * a.sqrt() * (1.0 - r * (1.0 / 8.0 - r * (1.0 / 128.0 + r * (5.0 / 1024.0 - r * 21.0 / 32768.0))))
}

#[cfg(test)]
mod tests {
    use super::{THREE_SIGMA, normal_quantile, standard_errors, student_tails};
    use std::f64::consts::{FRAC_2_PI, FRAC_PI_2};

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
            // The effect of 1e-15 in p on z, plus the stated 1.2e-7.
            let allowed = 1.2e-7 * z.abs().max(1.0) + 1e-13 / (-z * z / 2.0).exp();
            assert!((normal_quantile(p) - z).abs() <= allowed, "{z}: {}", normal_quantile(p));
        }
    }

    /// For whole degrees of freedom the distribution function is elementary (M. Abramowitz, I. A. Stegun, "Handbook of
    /// mathematical functions", 1964, 26.7.3 and 26.7.4).
    #[test]
    fn students_tails_are_the_elementary_ones() {
        for t in [3.0f64, 3.7, 5.0, 9.2, 19.0, 100.0] {
            for degrees in 1..=60 {
                let n = f64::from(degrees);
                let theta = (t / n.sqrt()).atan();
                let (odd, cos) = (degrees % 2 == 1, theta.cos());
                let (mut term, mut sum) = (if odd { cos } else { 1.0 }, 0.0);
                for k in (if odd { 3 } else { 2 }..=degrees).step_by(2) {
                    sum += term;
                    term *= f64::from(k - 1) / f64::from(k) * cos * cos;
                }
                let within = if odd { FRAC_2_PI * (theta + theta.sin() * sum) } else { theta.sin() * sum };
                let (found, expected) = (student_tails(t, n), 1.0 - within);
                // The subtraction from 1 leaves an absolute error of its roundings.
                assert!((found - expected).abs() <= 1e-9 * expected + 1e-14, "{t}, {n}: {found} {expected}");
            }
        }
    }

    /// With t = √ν·tan θ the density is cos^(ν - 1) θ, up to a factor. Simpson's rule integrates it in s, π/2 - θ = s⁴, in which it
    /// is smooth.
    #[test]
    fn students_tails_are_the_integral_between_whole_degrees() {
        for degrees in [1.0, 1.3, 2.5, 7.3, 19.9, 150.5] {
            let integral = |to: f64| {
                let n = 20_000;
                let h = to.powf(0.25) / f64::from(n);
                let term = |k: i32| {
                    let s = f64::from(k) * h;
                    let weight = if k == 0 || k == n { 1.0 } else { 2.0 + 2.0 * f64::from(k % 2) };
                    weight * s.powi(4).sin().powf(degrees - 1.0) * 4.0 * s.powi(3)
                };
                (0..=n).map(term).sum::<f64>() * h / 3.0
            };
            for t in [3.0, 4.0, 9.0] {
                let (found, expected) =
                    (student_tails(t, degrees), integral((degrees.sqrt() / t).atan()) / integral(FRAC_PI_2));
                assert!((found - expected).abs() <= 1e-9 * expected, "{t}, {degrees}: {found} {expected}");
            }
        }
    }

    /// The column for 99.73 % of the table of the t-distribution in JCGM 100:2008, "Guide to the expression of uncertainty in
    /// measurement", table G.2.
    #[test]
    fn three_standard_errors_of_few_numbers() {
        for (degrees, expected) in [
            (1.0, 235.80),
            (2.0, 19.21),
            (3.0, 9.22),
            (4.0, 6.62),
            (5.0, 5.51),
            (6.0, 4.90),
            (7.0, 4.53),
            (8.0, 4.28),
            (9.0, 4.09),
            (10.0, 3.96),
            (20.0, 3.42),
            (50.0, 3.16),
            (100.0, 3.077),
        ] {
            let found = standard_errors(degrees);
            assert!((found - expected).abs() <= 0.005, "{degrees}: {found}, expected {expected}");
            assert!((student_tails(found, degrees) / THREE_SIGMA - 1.0).abs() < 1e-12, "{degrees}");
        }
        assert_eq!((standard_errors(f64::INFINITY), standard_errors(0.5)), (3.0, standard_errors(1.0)));
        // R. A. Fisher's expansion in 1/ν, whose third term is less than 3e-8 from 1000 degrees on.
        for degrees in [1e3f64, 1e4, 1e5, 1e6] {
            let (z, n) = (3f64, degrees);
            let expected =
                z + (z.powi(3) + z) / (4.0 * n) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n);
            assert!((standard_errors(n) - expected).abs() < 3.1e-8, "{n}: {} {expected}", standard_errors(n));
        }
    }
}
