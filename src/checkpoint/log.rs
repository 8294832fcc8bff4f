//! How far a run has come, and what it has told on the way.

/// How far training has come in its data.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Place {
    /// Epochs that are over.
    pub epoch: u64,
    /// Batches of the next one that are done.
    pub batch: u64,
    /// Seconds of training.
    pub seconds: f64,
}

impl Place {
    /// `batch` batches into epoch number `epoch`, after `seconds` of training.
    pub fn new(epoch: u64, batch: u64, seconds: f64) -> Self {
        Self { epoch, batch, seconds }
    }
}

/// How things stood at the end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Epoch {
    /// Updates since training began.
    pub updates: u64,
    /// The mean of what is watched over the epoch, in nats a row.
    pub monitor: Option<f64>,
    /// Seconds of training since it began; the time for pictures and files is left out.
    pub seconds: f64,
    /// What else was looked at, where it was.
    pub figures: Option<Figures>,
}

/// What is looked at when some epochs are over; what is unknown is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// The learning rate of the last update.
    pub learning_rate: f32,
    /// Gibbs steps of the last update.
    pub k: usize,
    /// The running log Z, in nats.
    pub log_z: Option<f64>,
    /// How many particles of equal weight would tell log Z as well.
    pub effective_sample_size: Option<f64>,
    /// The standard error of the running log Z, in nats.
    pub standard_error: Option<f64>,
    /// The mean log-likelihood of rows that are trained on, in nats a row.
    pub log_likelihood: Option<f64>,
    /// That of rows that are not.
    pub validation: Option<f64>,
    /// The mean free energy of rows that are not trained on less that of rows that are: grows where a model learns rows by
    /// heart.
    pub free_energy_gap: Option<f64>,
    /// The size of the last update of the weights, as a part of the size of the weights.
    pub update_ratio: Option<f64>,
    /// Hidden units that are the same for all rows that were looked at.
    pub constant_units: Option<u64>,
}

impl Epoch {
    /// An epoch that ended after `updates` updates and `seconds` of training, with this mean of its monitor.
    pub fn new(updates: u64, monitor: Option<f64>, seconds: f64) -> Self {
        Self { updates, monitor, seconds, figures: None }
    }
}
