//! `harmonium train --resume`: the options of a run that goes on.

use crate::{Failure, arguments::Compute, train::Train};
use harmonium::{Checkpoint, Error, checkpoint::VERSION, descent::Rate};
use std::path::{Path, PathBuf};

/// The checkpoint of a run that writes to this folder.
pub fn path(out: &Path) -> PathBuf {
    out.join("checkpoint.safetensors")
}

/// What may be said anew when a run goes on. (For data it is what it holds that counts, which is looked at when it is read.)
const MAY_CHANGE: [&str; 10] =
    ["checkpoint-every", "data", "device", "epochs", "in-place", "quiet", "resume", "samples", "stop-after", "threads"];

/// The options that count, and the checkpoint to go on from where there is one: its own options, but for those that may
/// change and were said. One that was said and contradicts it is an error.
pub fn settle(said: Train) -> Result<(Train, Option<Checkpoint>), Failure> {
    let Some(folder) = &said.resume else { return Ok((said, None)) };
    if said.minutes.is_some() {
        let text = "--minutes: expected without --resume, which has the epochs of its checkpoint";
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
    let (kept, given) = (&checkpoint.options, said.stored());
    for option in said.said.iter().filter(|option| !MAY_CHANGE.contains(&option.as_str())) {
        if option == "out" {
            if said.out != *folder {
                let (expected, found) = (folder.display(), said.out.display());
                return Err(Failure::Usage(format!("--out: expected {expected}, as --resume says, found {found}")));
            }
        } else if kept.get(option) != given.get(option) {
            // The road is kept where it is not the usual one.
            let unsaid = if option == "road" { "canonical" } else { "none" };
            let found = given.get(option).map_or(unsaid, String::as_str);
            let expected = kept.get(option).map_or(unsaid, String::as_str);
            return Err(Failure::Usage(format!("--{option}: expected {expected}, as {name} has it, found {found}")));
        }
    }
    let over = checkpoint.place.epoch.saturating_add(u64::from(checkpoint.place.batch > 0));
    let is_said = |option: &str| said.said.iter().any(|other| other == option);
    let epochs = if is_said("epochs") { said.epochs } else { stored.epochs };
    if (epochs as u64) < over {
        let text = format!("--epochs: expected at least {over}, as {name} has begun so many, found {epochs}");
        return Err(Failure::Usage(text));
    }
    let is_laid_over =
        stored.schedule != Rate::Constant || stored.average.0.is_some() || stored.k.to_string().contains(',');
    if is_laid_over && epochs != stored.epochs {
        let text = format!(
            "--epochs: expected {}, over which {name} has a schedule, found {epochs}; to train on: --init MODEL",
            stored.epochs
        );
        return Err(Failure::Usage(text));
    }
    let settled = Train {
        data: if is_said("data") { said.data } else { stored.data },
        epochs,
        compute: Compute { road: stored.compute.road, ..said.compute },
        samples: said.samples,
        in_place: said.in_place,
        out: folder.clone(),
        checkpoint_every: if is_said("checkpoint-every") { said.checkpoint_every } else { stored.checkpoint_every },
        resume: Some(folder.clone()),
        stop_after: said.stop_after,
        quiet: said.quiet,
        said: Vec::new(),
        ..stored
    };
    Ok((settled, Some(checkpoint)))
}

/// What of another version of this program one is told.
pub fn other_version(checkpoint: &Checkpoint) -> Option<String> {
    let Checkpoint { version, .. } = checkpoint;
    (version != VERSION)
        .then(|| format!("the checkpoint is of version {version}: version {VERSION} may go on to other bits"))
}
