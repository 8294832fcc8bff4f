//! The mean of numbers, and their scatter.

/// The least, the greatest and the mean of n numbers x, and their scatter. Sums are in the order of the numbers.
///
/// ```
/// let summary = harmonium::Summary::of(&[1.0, 2.0, 3.0, 6.0]);
/// assert_eq!((summary.min, summary.max, summary.mean), (1.0, 6.0, 3.0));
/// assert_eq!((summary.variance(), summary.standard_deviation()), (14.0 / 3.0, 3.5f64.sqrt()));
/// assert_eq!(summary.standard_error(), (14.0f64 / 3.0 / 4.0).sqrt());
/// assert!(harmonium::Summary::of(&[5.0]).standard_error().is_nan());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The least number.
    pub min: f64,
    /// The greatest number.
    pub max: f64,
    /// Σx/n; NaN without numbers.
    pub mean: f64,
    n: f64,
    /// Σ(x - mean)².
    squares: f64,
}

impl Summary {
    /// The summary of these numbers.
    pub fn of<T: Copy + Into<f64>>(numbers: &[T]) -> Self {
        let numbers = numbers.iter().map(|&x| -> f64 { x.into() });
        let n = numbers.len() as f64;
        let mean = numbers.clone().sum::<f64>() / n;
        Self {
            min: numbers.clone().fold(f64::INFINITY, f64::min),
            max: numbers.clone().fold(f64::NEG_INFINITY, f64::max),
            mean,
            n,
            squares: numbers.map(|x| (x - mean) * (x - mean)).sum(),
        }
    }

    /// Σ(x - mean)²/(n - 1), the unbiased estimate of the variance of the numbers' distribution. NaN for fewer than two
    /// numbers, because a single one shows no scatter.
    pub fn variance(&self) -> f64 {
        if self.n > 1.0 { self.squares / (self.n - 1.0) } else { f64::NAN }
    }

    /// √(Σ(x - mean)²/n), the standard deviation of these numbers themselves.
    pub fn standard_deviation(&self) -> f64 {
        (self.squares / self.n).sqrt()
    }

    /// √(variance/n), the standard error of the mean of independent numbers. NaN for fewer than two numbers.
    pub fn standard_error(&self) -> f64 {
        (self.variance() / self.n).sqrt()
    }
}
