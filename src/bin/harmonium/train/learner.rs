//! One update: by the statistics of both phases, by how well labels are told, or by both.

use super::Train;
use harmonium::{Batch, Resident, Result, Rows, Trainer, labels::Discriminator};

/// What makes the updates of a run besides its trainer.
pub struct Learner {
    /// How much the likelihood of rows and labels together counts beside that of labels, where these are to be told.
    hybrid: Option<(f32, Discriminator)>,
    /// Σ log P(label|v) over the updates since the last line of this process, and their number.
    labels: (f64, u64),
}

impl Learner {
    pub fn new(options: &Train) -> Result<Self> {
        let hybrid = options.hybrid.0.map(|alpha| Ok((alpha, Discriminator::new()?)));
        Ok(Self { hybrid: hybrid.transpose()?, labels: (0.0, 0) })
    }

    /// One update by a batch, which is on the trainer's device and, as `rows`, on the host.
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

    /// The mean log P(label|v) of the batches since the last call, where labels are learnt.
    pub fn take_labels(&mut self) -> Option<f64> {
        let (sum, updates) = std::mem::take(&mut self.labels);
        (updates > 0).then(|| sum / updates as f64)
    }
}
