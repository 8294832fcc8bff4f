//! One update: by the statistics of both phases, by how well labels are told, or by both.

use super::Train;
use harmonium::{Batch, Resident, Result, Rows, Trainer, labels::Discriminator};

/// What makes the updates of a run besides its trainer.
pub struct Learner {
    /// How much the likelihood of rows and labels together counts beside that of labels, where these are to be told.
    hybrid: Option<(f32, Discriminator)>,
}

impl Learner {
    pub fn new(options: &Train) -> Result<Self> {
        let hybrid = options.hybrid.0.map(|alpha| Ok((alpha, Discriminator::new()?)));
        Ok(Self { hybrid: hybrid.transpose()? })
    }

    /// One update by a batch, which is on the trainer's device and, as `rows`, on the host.
    pub fn step(
        &mut self, trainer: &mut Trainer, rbm: &mut Resident, batch: Batch<'_>, rows: Rows<'_>, lr: f32,
    ) -> Result<()> {
        let Some((alpha, discriminator)) = &mut self.hybrid else { return trainer.step(rbm, batch, lr) };
        trainer.step(rbm, batch, lr * *alpha)?;
        discriminator.step(rbm, rows, lr).map(|_| ())
    }
}
