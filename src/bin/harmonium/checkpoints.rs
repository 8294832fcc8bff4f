//! When a run's checkpoints are written, when it stops, and what is an error because it is not worth keeping.

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

/// Why a run stops before its end.
#[derive(Clone, Copy)]
pub enum Stop {
    Signal(u8),
    Asked,
}

/// So many nats a visible unit below 0 the neighbours of an `f32` are more than a nat apart: probabilities are lost.
const MOST_NATS: f64 = (1 << 24) as f64;

/// The checkpoints of one run.
pub struct Checkpoints<'a> {
    options: &'a Train,
    settings: Settings,
    /// What belongs to the data.
    extras: Extras,
    /// The fingerprint of the data.
    data: String,
    signals: Signals,
    path: PathBuf,
    /// When the last checkpoint was written, and after which update.
    saved: Instant,
    last: Option<u64>,
}

impl<'a> Checkpoints<'a> {
    /// `last`: the update of the checkpoint that the run goes on from.
    pub fn new(
        options: &'a Train, settings: Settings, extras: Extras, data: String, last: Option<u64>,
    ) -> Result<Self> {
        let (signals, path) = (Signals::listen()?, resume::path(&options.out));
        Ok(Self { options, settings, extras, data, signals, path, saved: Instant::now(), last })
    }

    /// Whether the run must stop after this update: on all ranks, where one of them has heard a signal.
    pub fn stop(&self, updates: u64) -> Option<Stop> {
        let asked = self.options.stop_after.is_some_and(|n| updates >= n as u64).then_some(Stop::Asked);
        self.heard().map(Stop::Signal).or(asked)
    }

    /// For when all is kept: a signal ends the process at once from here on, and the run if it came before.
    pub fn end_at_once(&self) -> Option<Stop> {
        self.signals.wait_for_none();
        self.heard().map(Stop::Signal)
    }

    fn heard(&self) -> Option<u8> {
        let number = ranks::greatest(self.signals.heard().unwrap_or(0).into());
        u8::try_from(number).ok().filter(|&number| number != 0)
    }

    /// Whether a checkpoint is due after this update; `epochs` where it is the last of an epoch: how many are over.
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

    /// A copy of the parameters, where they and the free energies of `batch` are finite numbers and the mean of the monitor
    /// is one that arithmetic can tell from its neighbours.
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
        let stays = match self.last {
            Some(last) => format!("; {} stays, of update {last}", self.path.display()),
            None => String::new(),
        };
        let lr = self.options.lr;
        Err(Error::Argument {
            what: "--lr",
            expected: "a learning rate small enough for training to stay finite".into(),
            found: format!("{lr:?}: in epoch {epoch}, at the latest at update {updates}, {found}{stays}"),
        })
    }

    /// How a run that was stopped after its last checkpoint is resumed.
    pub fn how_to_go_on(&self) -> String {
        let (updates, folder) = (self.last.unwrap_or(0), quoted(&self.options.out.display().to_string()));
        format!("stopped after update {updates}; to go on: harmonium train --resume {folder}")
    }
}

/// A word as a shell takes it.
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
