//! Log-likelihoods from free energies and log Z: log P(v) = -F(v) - log Z.
//!
//! In nats a row; greater is better. Rows must be bits, as the model has no probability for a grey value: -F of one
//! lies between those of its neighbours and means nothing ([`Dataset::binarised`](crate::Dataset::binarised)).
//!
//! ```
//! use harmonium::{Cpu, Dataset, Rbm, Shape, log_likelihood, log_partition};
//!
//! # fn main() -> harmonium::Result<()> {
//! // Without weights and biases each of the 8 visible states has probability 1/8.
//! let rbm = Rbm::from_parts(Shape::new(3, 2)?, vec![0.0; 6], vec![0.0; 3], vec![0.0; 2])?;
//! let log_z = log_partition::exact(rbm.view())?;
//! let data = Dataset::from_u8(vec![255, 0, 0, 0, 255, 255], 3)?;
//! let found = log_likelihood(&rbm.on(Cpu::detect()?)?, &data, &log_z)?;
//! assert!((found.mean - (1.0f64 / 8.0).ln()).abs() < 1e-6 && (found.bits_per_dimension() - 1.0).abs() < 1e-6);
//! # Ok(())
//! # }
//! ```

use crate::{
    device::Batch,
    error::Result,
    log_partition::{LogPartition, Verdict, rounding},
    resident::Resident,
    shape::Shape,
    summary::Summary,
};

/// The mean log-likelihood of some rows, in nats a row, with its uncertainty.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogLikelihood {
    /// The mean over the rows in nats, with the estimate of log Z.
    pub mean: f64,
    /// The standard deviation over the rows divided by the square root of their number, in nats: the uncertainty from the choice of
    /// rows. NaN for a single row. It does not include the uncertainty of log Z.
    pub standard_error: f64,
    /// The mean with the upper end of log Z's interval, in nats; -∞ if that end is unknown.
    pub lower: f64,
    /// The mean with the lower end of log Z's interval, in nats.
    pub upper: f64,
    /// The number of rows.
    pub rows: usize,
    /// The number of visible units.
    pub n_visible: usize,
    /// The verdict on log Z, after the rows' free energies have been used.
    pub verdict: Verdict,
    /// The reason for the verdict, to be printed together with the likelihood.
    pub reason: String,
}

impl LogLikelihood {
    /// Computes the mean from F(v) of each row: -mean(F) - log Z. Its interval is that of log Z.
    ///
    /// A probability is at most 1, so log Z ≥ max(-F). [`LogPartition::at_least`] applies this bound, so that neither the mean nor an
    /// end exceeds 0. With Gaussian units P is a density, and no such bound holds.
    pub fn of(shape: Shape, free_energies: &[f64], log_partition: &LogPartition) -> Self {
        let summary = Summary::of(free_energies);
        let log_z = with_probability_bound(shape, &summary, log_partition);
        let most = upper_bound(shape);
        let with = |log_z: f64| (-summary.mean - log_z).min(most);
        Self {
            mean: with(log_z.estimate),
            standard_error: summary.standard_error(),
            lower: with(log_z.upper),
            upper: with(log_z.lower),
            rows: free_energies.len(),
            n_visible: shape.n_visible(),
            verdict: log_z.verdict(),
            reason: log_z.reason(),
        }
    }

    /// The mean in nats for each visible unit.
    pub fn nats_per_unit(&self) -> f64 {
        self.mean / self.n_visible as f64
    }

    /// -mean/(n_visible·ln 2): bits per dimension, a common measure of density models; less is better.
    pub fn bits_per_dimension(&self) -> f64 {
        -self.nats_per_unit() / std::f64::consts::LN_2
    }
}

/// log P(v) = -F(v) - log Z of each row with the estimate of log Z, in nats.
///
/// `v`: rows × n_visible, values 0 and 1. Costs one free energy for each row. As in [`LogLikelihood::of`], no result exceeds 0.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) if the rows do not fit the shape, or values are missing.
pub fn log_likelihoods<'a>(rbm: &Resident, v: impl Into<Batch<'a>>, log_partition: &LogPartition) -> Result<Vec<f64>> {
    let v = v.into();
    v.check_complete()?;
    let free_energies = rbm.free_energy(v)?;
    let log_z = with_probability_bound(rbm.shape(), &Summary::of(&free_energies), log_partition);
    Ok(free_energies.into_iter().map(|f| (-f - log_z.estimate).min(upper_bound(rbm.shape()))).collect())
}

/// The mean of log P(v) over rows, its scatter, and its interval: [`LogLikelihood::of`] the rows' free energies.
///
/// `v`: rows × n_visible, values 0 and 1. The interval is that of log Z and applies to these rows.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) if the rows do not fit the shape, or values are missing.
pub fn log_likelihood<'a>(
    rbm: &Resident, v: impl Into<Batch<'a>>, log_partition: &LogPartition,
) -> Result<LogLikelihood> {
    let v = v.into();
    v.check_complete()?;
    Ok(LogLikelihood::of(rbm.shape(), &rbm.free_energy(v)?, log_partition))
}

/// The upper bound of log P(v): 0 for a probability, none for a density.
fn upper_bound(shape: Shape) -> f64 {
    if shape.visible().is_discrete() { 0.0 } else { f64::INFINITY }
}

/// Applies the bound of the most probable row: log Z ≥ max(-F), minus the possible rounding error of F.
fn with_probability_bound(shape: Shape, free_energies: &Summary, log_partition: &LogPartition) -> LogPartition {
    if !shape.visible().is_discrete() {
        return log_partition.clone();
    }
    let least = free_energies.min;
    log_partition.clone().at_least(-least - rounding(shape.n_hidden(), least.abs()))
}

/// The mean free energy of held-out rows minus that of training rows, in nats a row.
///
/// log Z cancels, so that only free energies are needed. The gap is near 0 at first; if it grows, the model begins to overfit (G. E.
/// Hinton, "A practical guide to training restricted Boltzmann machines", 2010, section 6). Compare it over time, on the same
/// rows.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) if the rows do not fit the shape.
pub fn free_energy_gap<'a>(rbm: &Resident, train: impl Into<Batch<'a>>, held_out: impl Into<Batch<'a>>) -> Result<f64> {
    Ok(Summary::of(&rbm.free_energy(held_out)?).mean - Summary::of(&rbm.free_energy(train)?).mean)
}
