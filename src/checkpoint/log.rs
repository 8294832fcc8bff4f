//! The progress of a run, and its log.

/// The position of training in its data.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Place {
    /// The number of completed epochs.
    pub epoch: u64,
    /// The number of completed batches of the current epoch.
    pub batch: u64,
    /// The time spent in training, in seconds.
    pub seconds: f64,
}

impl Place {
    /// The position after `batch` batches of epoch number `epoch` and `seconds` seconds of training.
    pub fn new(epoch: u64, batch: u64, seconds: f64) -> Self {
        Self { epoch, batch, seconds }
    }
}

/// The log entry of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Epoch {
    /// The number of updates since training began.
    pub updates: u64,
    /// The mean of the monitor over the epoch, in nats a row.
    pub monitor: Option<f64>,
    /// Seconds of training since it began, without the time for images and files.
    pub seconds: f64,
    /// Further figures, if they were computed.
    pub figures: Option<Figures>,
}

/// Figures that are computed after some epochs; `None` means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// The learning rate of the last update.
    pub learning_rate: f32,
    /// The number of Gibbs steps of the last update.
    pub k: usize,
    /// The running log Z, in nats.
    pub log_z: Option<f64>,
    /// The effective sample size of the running log Z, in particles of equal weight.
    pub effective_sample_size: Option<f64>,
    /// The standard error of the running log Z, in nats.
    pub standard_error: Option<f64>,
    /// The mean log-likelihood of training rows, in nats a row.
    pub log_likelihood: Option<f64>,
    /// The mean log-likelihood of validation rows, in nats a row.
    pub validation: Option<f64>,
    /// The mean free energy of validation rows minus that of training rows, in nats. It grows if a model overfits.
    pub free_energy_gap: Option<f64>,
    /// The norm of the last update of the weights, relative to the norm of the weights.
    pub update_ratio: Option<f64>,
    /// The number of hidden units that are constant over all rows examined.
    pub constant_units: Option<u64>,
}

impl Epoch {
    /// An epoch that ended after `updates` updates and `seconds` seconds of training, with the mean of its monitor.
    pub fn new(updates: u64, monitor: Option<f64>, seconds: f64) -> Self {
        Self { updates, monitor, seconds, figures: None }
    }
}
