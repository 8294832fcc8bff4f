//! Decides when a run writes checkpoints and when it stops, and rejects parameters that are not finite.

use crate::{
    log::Log,
    ranks, resume,
    signals::Signals,
    train::{Every, Train},
};
use harmonium::{
    Batch, Checkpoint, Error, Rbm, Resident, Result, Settings, TrainerState, checkpoint::Place,
    log_partition::TrackerState, model::Extras,
};
use std::{path::PathBuf, time::Instant};

/// Why a run stops before its last epoch.
#[derive(Clone, Copy)]
pub enum Stop {
    Signal(u8),
    Asked,
}

/// From this many nats a visible unit on, adjacent `f32` are more than a nat apart: probabilities are lost.
const MOST_NATS: f64 = (1 << 24) as f64;

/// The checkpoints of one run.
pub struct Checkpoints<'a> {
    options: &'a Train,
    settings: Settings,
    /// Scale and labels of the data.
    extras: Extras,
    /// The fingerprint of the data.
    data: String,
    signals: Signals,
    path: PathBuf,
    /// The time of the last checkpoint, and its number of updates.
    saved: Instant,
    last: Option<u64>,
}

impl<'a> Checkpoints<'a> {
    /// `last`: the number of updates of the checkpoint from which the run resumes.
    pub fn new(
        options: &'a Train, settings: Settings, extras: Extras, data: String, last: Option<u64>,
    ) -> Result<Self> {
        let (signals, path) = (Signals::listen()?, resume::path(&options.out));
        Ok(Self { options, settings, extras, data, signals, path, saved: Instant::now(), last })
    }

    /// Whether the run must stop after this update. A signal on one rank stops all ranks.
    pub fn stop(&self, updates: u64) -> Option<Stop> {
        let asked = self.options.stop_after.is_some_and(|n| updates >= n as u64).then_some(Stop::Asked);
        self.received().map(Stop::Signal).or(asked)
    }

    /// To call after the last checkpoint. From now on a signal ends the process at once; an earlier signal stops the run.
    pub fn end_at_once(&self) -> Option<Stop> {
        self.signals.end_at_once();
        self.received().map(Stop::Signal)
    }

    fn received(&self) -> Option<u8> {
        let number = ranks::greatest(self.signals.received().unwrap_or(0).into());
        u8::try_from(number).ok().filter(|&number| number != 0)
    }

    /// Whether a checkpoint is due after this update. `epochs`: the number of complete epochs, if the update is the last of one.
    pub fn is_due(&self, updates: u64, epochs: Option<u64>) -> bool {
        match self.options.checkpoint_every {
            Every::Updates(n) => updates.is_multiple_of(n),
            Every::Epochs(n) => epochs.is_some_and(|epochs| epochs.is_multiple_of(n)),
            Every::Minutes(n) => ranks::greatest(self.saved.elapsed().as_secs()) / 60 >= n,
        }
    }

    /// Writes the checkpoint.
    pub fn save(
        &mut self, rbm: Rbm, trainer: TrainerState, place: Place, log: &Log, average: Option<(Rbm, u64)>,
        watch: Option<(Option<TrackerState>, Rbm)>,
    ) -> Result<()> {
        let updates = trainer.updates;
        let mut checkpoint = Checkpoint::new(rbm, self.settings, trainer, place, self.data.clone());
        (checkpoint.log, checkpoint.health) = (log.epochs.clone(), log.health.clone());
        checkpoint.average = average;
        if let Some((tracker, smooth)) = watch {
            (checkpoint.tracker, checkpoint.smooth) = (tracker, Some(smooth));
        }
        checkpoint.options = self.options.stored();
        checkpoint.extras = self.extras.clone();
        checkpoint.save(&self.path)?;
        (self.saved, self.last) = (Instant::now(), Some(updates));
        Ok(())
    }

    /// A copy of the parameters.
    ///
    /// # Errors
    /// If a parameter or a free energy of `batch` is not finite, or if the mean of the monitor is so great that rounding hides a nat.
    pub fn finite(
        &self, rbm: &Resident, batch: Batch<'_>, monitor: Option<f64>, epoch: u64, updates: u64,
    ) -> Result<Rbm> {
        let copy = rbm.to_rbm()?;
        let found = match copy.view().check_finite() {
            Err(Error::Value { what, index, found, .. }) => Some(format!("{what}[{index}] is {found}")),
            Err(other) => return Err(other),
            Ok(()) => rbm.free_energy(batch)?.iter().find(|f| !f.is_finite()).map(|f| format!("a free energy is {f}")),
        };
        let least = -MOST_NATS * rbm.shape().n_visible() as f64;
        let lost = monitor.filter(|x| !x.is_finite() || *x < least);
        let found = found.or(lost.map(|x| format!("the monitor is {x:.2e} nats a row")));
        let Some(found) = found else { return Ok(copy) };
        let kept = match self.last {
            Some(last) => format!("; {} keeps update {last}", self.path.display()),
            None => String::new(),
        };
        let lr = self.options.lr;
        Err(Error::Argument {
            what: "--lr",
            expected: "a learning rate small enough to keep all parameters finite".into(),
            found: format!("{lr:?}: in epoch {epoch}, by update {updates}, {found}{kept}"),
        })
    }

    /// The command that resumes a stopped run.
    pub fn how_to_resume(&self) -> String {
        let (updates, folder) = (self.last.unwrap_or(0), quoted(&self.options.out.display().to_string()));
        format!("stopped after update {updates}; to resume: harmonium train --resume {folder}")
    }
}

/// Quotes a word for a shell, if necessary.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./+:,@%=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_for_a_shell() {
        assert_eq!(quoted("runs/märz-1"), "runs/märz-1");
        assert_eq!(quoted("my run"), "'my run'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
