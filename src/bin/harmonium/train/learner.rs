//! One update of the parameters: generative, discriminative (labels given the row), or both.

use super::Train;
use harmonium::{Batch, Resident, Result, Rows, Trainer, labels::Discriminator};

/// Makes the updates of a run with a [`Trainer`].
pub struct Learner {
    /// With `--hybrid`: the weight of the joint log-likelihood beside that of labels given rows.
    hybrid: Option<(f32, Discriminator)>,
    /// The sum of log P(label|v) over the updates since the last line of the log, and their number.
    labels: (f64, u64),
}

impl Learner {
    pub fn new(options: &Train) -> Result<Self> {
        let hybrid = options.hybrid.0.map(|alpha| Ok((alpha, Discriminator::new()?)));
        Ok(Self { hybrid: hybrid.transpose()?, labels: (0.0, 0) })
    }

    /// Makes one update. `batch` is the minibatch on the trainer's device, `rows` the same rows on the host.
    pub fn step(
        &mut self, trainer: &mut Trainer, rbm: &mut Resident, batch: Batch<'_>, rows: Rows<'_>, lr: f32,
    ) -> Result<()> {
        let Some((alpha, discriminator)) = &mut self.hybrid else { return trainer.step(rbm, batch, lr) };
        trainer.step(rbm, batch, lr * *alpha)?;
        let label = rbm.shape().label();
        if label.is_some_and(|label| (0..rows.len()).any(|r| !rows.is_missing(r, label.start))) {
            self.labels.0 += discriminator.step(rbm, rows, lr)?;
            self.labels.1 += 1;
        }
        Ok(())
    }

    /// The mean log P(label|v) of the minibatches since the last call; `None` without `--hybrid`.
    pub fn take_labels(&mut self) -> Option<f64> {
        let (sum, updates) = std::mem::take(&mut self.labels);
        (updates > 0).then(|| sum / updates as f64)
    }
}
