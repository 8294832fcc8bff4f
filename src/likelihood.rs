//! Log-likelihoods, from free energies and a log Z: log P(v) = -F(v) - log Z.
//!
//! In nats a row, the larger the better. Rows must be bits: the model has no probability for a grey value, and -F of one
//! lies between those of its neighbours and says nothing ([`Dataset::binarised`](crate::Dataset::binarised)).

use crate::{device::Batch, error::Result, log_partition::LogPartition, resident::Resident};

/// The log-likelihood of some rows, in nats a row.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogLikelihood {
    /// The mean over the rows, with the estimate of log Z.
    pub mean: f64,
    /// How far the mean over other rows of the same kind would be off: the standard deviation over the rows by the root of
    /// their number; 0 for a single row. Says nothing of log Z.
    pub standard_error: f64,
    /// The mean with the upper end of log Z's interval.
    pub lower: f64,
    /// The mean with the lower end of log Z's interval.
    pub upper: f64,
    /// The number of rows.
    pub rows: usize,
    /// The number of visible units.
    pub n_visible: usize,
    /// What must be said beside the number, if anything.
    pub warning: Option<String>,
}

impl LogLikelihood {
    /// The mean in nats a visible unit.
    pub fn nats_per_unit(&self) -> f64 {
        self.mean / self.n_visible as f64
    }

    /// -mean/(n_visible·ln 2): bits per dimension, the smaller the better, as density models are often compared.
    pub fn bits_per_dimension(&self) -> f64 {
        -self.nats_per_unit() / std::f64::consts::LN_2
    }
}

/// log P(v) = -F(v) - log Z of each row with the estimate of log Z, in nats.
///
/// `v`: rows × n_visible, values 0 and 1. Costs a free energy a row.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) where the rows do not fit the shape.
pub fn log_likelihoods<'a>(rbm: &Resident, v: impl Into<Batch<'a>>, log_partition: &LogPartition) -> Result<Vec<f64>> {
    Ok(rbm.free_energy(v)?.into_iter().map(|f| -f - log_partition.estimate).collect())
}

/// The mean of log P(v) over rows, how much it varies, and its interval.
///
/// `v`: rows × n_visible, values 0 and 1. The interval is that of log Z: it is about these very rows.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) where the rows do not fit the shape.
pub fn log_likelihood<'a>(
    rbm: &Resident, v: impl Into<Batch<'a>>, log_partition: &LogPartition,
) -> Result<LogLikelihood> {
    let free_energies = rbm.free_energy(v)?;
    let (mean, standard_error) = mean_and_error(&free_energies);
    Ok(LogLikelihood {
        mean: -mean - log_partition.estimate,
        standard_error,
        lower: -mean - log_partition.upper,
        upper: -mean - log_partition.lower,
        rows: free_energies.len(),
        n_visible: rbm.shape().n_visible(),
        warning: log_partition.warning(),
    })
}

/// The mean free energy of held-out rows minus that of training rows, in nats a row.
///
/// log Z cancels, so that it costs only free energies. Near 0 at first; where it grows the model begins to overfit (G. E.
/// Hinton, "A practical guide to training restricted Boltzmann machines", 2010, section 6). Compare it over time, on the same
/// rows.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) where the rows do not fit the shape.
pub fn free_energy_gap<'a>(rbm: &Resident, train: impl Into<Batch<'a>>, held_out: impl Into<Batch<'a>>) -> Result<f64> {
    Ok(mean_and_error(&rbm.free_energy(held_out)?).0 - mean_and_error(&rbm.free_energy(train)?).0)
}

/// The mean of numbers, and its standard error, 0 for a single one.
pub(crate) fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, (variance / n).sqrt())
}
