//! `harmonium train --resume`: the options of a resumed run.

use crate::{
    Failure,
    arguments::{Compute, stored_name},
    train::Train,
};
use harmonium::{Checkpoint, Error, checkpoint::VERSION, descent::Rate};
use std::path::{Path, PathBuf};

/// The checkpoint file of a run with this output folder.
pub fn path(out: &Path) -> PathBuf {
    out.join("checkpoint.safetensors")
}

/// The options that can change when a run resumes. (The path of the data can change. Its fingerprint, which is checked later, cannot.)
const MAY_CHANGE: [&str; 10] =
    ["checkpoint-every", "data", "device", "epochs", "in-place", "quiet", "resume", "samples", "stop-after", "threads"];

/// Combines the command line with the checkpoint of `--resume`, if any. Returns the options of the run and the checkpoint.
///
/// # Errors
/// If an option on the command line contradicts the checkpoint.
pub fn settle(asked: Train) -> Result<(Train, Option<Checkpoint>), Failure> {
    let Some(folder) = &asked.resume else { return Ok((asked, None)) };
    if asked.minutes.is_some() {
        let text = "--minutes: expected without --resume, which takes the epochs from the checkpoint";
        return Err(Failure::Usage(text.into()));
    }
    let path = path(folder);
    let checkpoint = Checkpoint::load(&path)?;
    let name = path.display();
    let stored = Train::from_stored(&checkpoint.options).map_err(|found| Error::Format {
        source_name: name.to_string(),
        expected: "options of harmonium train".into(),
        found,
    })?;
    let (kept, wanted) = (&checkpoint.options, asked.stored());
    for option in asked.given.iter().filter(|option| !MAY_CHANGE.contains(&option.as_str())) {
        let key = stored_name(option);
        if option == "out" {
            if asked.out != *folder {
                let (expected, found) = (folder.display(), asked.out.display());
                return Err(Failure::Usage(format!(
                    "--out: expected {expected}, the folder of --resume, found {found}"
                )));
            }
        } else if kept.get(key) != wanted.get(key) {
            // A checkpoint leaves canonical sums out.
            let default = if option == "sums" { "canonical" } else { "none" };
            let found = wanted.get(key).map_or(default, String::as_str);
            let expected = kept.get(key).map_or(default, String::as_str);
            return Err(Failure::Usage(format!("--{option}: expected {expected}, as in {name}, found {found}")));
        }
    }
    let started = checkpoint.place.epoch.saturating_add(u64::from(checkpoint.place.batch > 0));
    let is_given = |option: &str| asked.given.iter().any(|other| other == option);
    let epochs = if is_given("epochs") { asked.epochs } else { stored.epochs };
    if (epochs as u64) < started {
        let text = format!("--epochs: expected at least {started}, the epochs that {name} has started, found {epochs}");
        return Err(Failure::Usage(text));
    }
    let has_schedule =
        stored.schedule != Rate::Constant || stored.average.0.is_some() || stored.k.to_string().contains(',');
    if has_schedule && epochs != stored.epochs {
        let text = format!(
            "--epochs: expected {}, the length of the schedule in {name}, found {epochs}; to train longer: --init MODEL",
            stored.epochs
        );
        return Err(Failure::Usage(text));
    }
    let settled = Train {
        data: if is_given("data") { asked.data } else { stored.data },
        epochs,
        compute: Compute { sums: stored.compute.sums, ..asked.compute },
        samples: asked.samples,
        in_place: asked.in_place,
        out: folder.clone(),
        checkpoint_every: if is_given("checkpoint-every") { asked.checkpoint_every } else { stored.checkpoint_every },
        resume: Some(folder.clone()),
        stop_after: asked.stop_after,
        quiet: asked.quiet,
        given: Vec::new(),
        ..stored
    };
    Ok((settled, Some(checkpoint)))
}

/// A warning if another version wrote the checkpoint.
pub fn other_version(checkpoint: &Checkpoint) -> Option<String> {
    let Checkpoint { version, .. } = checkpoint;
    (version != VERSION)
        .then(|| format!("version {version} wrote the checkpoint; version {VERSION} may give other bits"))
}
