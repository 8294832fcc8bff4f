//! Log-likelihoods, from free energies and a log Z: log P(v) = -F(v) - log Z.
//!
//! In nats a row, the larger the better. Rows must be bits: the model has no probability for a grey value, and -F of one
//! lies between those of its neighbours and says nothing ([`Dataset::binarised`](crate::Dataset::binarised)).

use crate::{
    device::Batch,
    error::Result,
    log_partition::{LogPartition, Verdict, rounding},
    resident::Resident,
    shape::Shape,
    summary::Summary,
};

/// The log-likelihood of some rows, in nats a row.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogLikelihood {
    /// The mean over the rows, with the estimate of log Z.
    pub mean: f64,
    /// How far the mean over other rows of the same kind would be off: the standard deviation over the rows by the root of
    /// their number; NaN of a single row, which does not show it. Says nothing of log Z.
    pub standard_error: f64,
    /// The mean with the upper end of log Z's interval; -∞ where that is not known.
    pub lower: f64,
    /// The mean with the lower end of log Z's interval.
    pub upper: f64,
    /// The number of rows.
    pub rows: usize,
    /// The number of visible units.
    pub n_visible: usize,
    /// What log Z amounts to, after the rows have had their say.
    pub verdict: Verdict,
    /// Why: print it wherever the likelihood is printed.
    pub reason: String,
}

impl LogLikelihood {
    /// From F(v) of each row: the mean is -mean(F) - log Z, its interval that of log Z.
    ///
    /// A probability is at most 1, so log Z ≥ max(-F): [`LogPartition::at_least`] puts that to use, and neither the mean nor an
    /// end lies above 0. Where there are Gaussian units, these are densities, for which nothing of the kind holds.
    pub fn of(shape: Shape, free_energies: &[f64], log_partition: &LogPartition) -> Self {
        let summary = Summary::of(free_energies);
        let log_z = possible(shape, &summary, log_partition);
        let most = most(shape);
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
/// `v`: rows × n_visible, values 0 and 1. Costs a free energy a row. As in [`LogLikelihood::of`] none lies above 0.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) where the rows do not fit the shape, or values are missing.
pub fn log_likelihoods<'a>(rbm: &Resident, v: impl Into<Batch<'a>>, log_partition: &LogPartition) -> Result<Vec<f64>> {
    let v = v.into();
    v.check_complete()?;
    let free_energies = rbm.free_energy(v)?;
    let log_z = possible(rbm.shape(), &Summary::of(&free_energies), log_partition);
    Ok(free_energies.into_iter().map(|f| (-f - log_z.estimate).min(most(rbm.shape()))).collect())
}

/// The mean of log P(v) over rows, how much it varies, and its interval: [`LogLikelihood::of`] their free energies.
///
/// `v`: rows × n_visible, values 0 and 1. The interval is that of log Z: it is about these very rows.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) where the rows do not fit the shape, or values are missing.
pub fn log_likelihood<'a>(
    rbm: &Resident, v: impl Into<Batch<'a>>, log_partition: &LogPartition,
) -> Result<LogLikelihood> {
    let v = v.into();
    v.check_complete()?;
    Ok(LogLikelihood::of(rbm.shape(), &rbm.free_energy(v)?, log_partition))
}

/// The logarithm of a probability is at most 0; that of a density has no bound.
fn most(shape: Shape) -> f64 {
    if shape.visible().is_discrete() { 0.0 } else { f64::INFINITY }
}

/// log Z with what the most probable of some rows says of it: log Z ≥ max(-F), less what rounding may do to F.
fn possible(shape: Shape, free_energies: &Summary, log_partition: &LogPartition) -> LogPartition {
    if !shape.visible().is_discrete() {
        return log_partition.clone();
    }
    let least = free_energies.min;
    log_partition.clone().at_least(-least - rounding(shape.n_hidden(), least.abs()))
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
    Ok(Summary::of(&rbm.free_energy(held_out)?).mean - Summary::of(&rbm.free_energy(train)?).mean)
}
