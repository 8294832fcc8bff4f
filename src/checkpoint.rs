//! Checkpoints: a model and everything else that training needs to go on to the bit.
//!
//! One safetensors file, so that it opens as a model too ([`crate::model`]):
//!
//! | tensor | shape | type |
//! |---|---|---|
//! | `weights`, `visible_bias`, `hidden_bias` | as in a model file | F32 |
//! | `chains` | `[chains, ⌈n_hidden/64⌉]` | U64: the hidden bits, unit j being bit j mod 64 of word j/64 |
//! | `betas` | `[chains]` | F32: inverse temperatures |
//! | `visible_offset`, `hidden_offset`, `hidden_mean` | `[n_visible]`, `[n_hidden]`, `[n_hidden]` | F32: what rules of descent keep |
//! | `velocity_weights`, `velocity_visible_bias`, `velocity_hidden_bias` | as in a model file | F32: with momentum |
//! | `average_weights`, `average_visible_bias`, `average_hidden_bias` | as in a model file | F32: the mean of the last parameters |
//! | `smooth_weights`, `smooth_visible_bias`, `smooth_hidden_bias` | as in a model file | F32: the model that a running log Z follows |
//! | `tracker_visible` | `[particles, ⌈n_visible/64⌉]` | U64: the particles of a running log Z, as bits; with Gaussian units as numbers, `[particles, ⌈n_visible/2⌉]` |
//! | `average_visible_log_variance`, `smooth_visible_log_variance` | `[n_visible]` | F32: with Gaussian units |
//! | `visible_log_variance`, `visible_mean`, `visible_deviation` | as in a model file | F32 |
//! | `tracker_log_weights`, `tracker_free_energies` | `[particles]` | F64 |
//!
//! The last eight lines are there where the run has such things.
//!
//! The metadata has the entry `harmonium`, and `visible` as a model file has it: `checkpoint sha256:`, 64 hexadecimal digits, a space, and a JSON object with
//! all the rest. It comes first in the header, so that the digits stand at one place in every file. They are SHA-256 of the
//! *whole* file with 0 in their own place: a checkpoint with one bit changed or one byte missing anywhere is refused. Numbers
//! with a fraction are strings in JSON, in the shortest decimal form that gives back the same bits. Equal checkpoints make
//! equal files: the fields of the object stand in alphabetical order.

mod fingerprint;
mod log;
mod metadata;
mod rows;

pub use fingerprint::{Fingerprint, fingerprint};
pub use log::{Epoch, Figures, Place};

use crate::{
    diagnostics::CheckUp,
    error::{Error, Result},
    log_partition::TrackerState,
    model::{self, Extras},
    rbm::{Rbm, check},
    storage::{read_file, write_atomically},
    tensors::{self, Tensor, Tensors},
    train::{Settings, TrainerState},
};
use metadata::{Format, METADATA, Metadata, parse};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, path::Path};

/// What every checkpoint begins with, after the eight bytes that say how long the header is.
const START: &[u8] = br#"{"__metadata__":{"harmonium":"checkpoint sha256:"#;
/// What its metadata begins with.
const ENTRY: &str = "checkpoint sha256:";
/// Where the digits of the checksum begin, and how many there are.
const DIGITS_AT: usize = 8 + START.len();
const DIGITS: usize = 64;
/// The layout that is written and read.
const FORMAT: u64 = 2;
/// The one that has the same without rules of descent, averages, running likelihoods and figures: what needs none of them is
/// still written so.
const FIRST_FORMAT: u64 = 1;

/// All that training needs to go on to the bit, and what led there.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The parameters, all of them finite.
    pub rbm: Rbm,
    /// What the trainer was made with.
    pub settings: Settings,
    /// Where it stands.
    pub trainer: TrainerState,
    /// Where the data stands.
    pub place: Place,
    /// The epochs that are over.
    pub log: Vec<Epoch>,
    /// How the chains were now and then, where that is looked at.
    pub health: Vec<CheckUp>,
    /// The mean of the last parameters, and of how many, where it is made.
    pub average: Option<(Rbm, u64)>,
    /// The running log Z, where it is followed.
    pub tracker: Option<TrackerState>,
    /// The running mean of the parameters that its particles follow.
    pub smooth: Option<Rbm>,
    /// What belongs to the data: its scale and the names of its labels.
    pub extras: Extras,
    /// The [`fingerprint`] of the training rows.
    pub data: String,
    /// What else the program that trains wants to find again: learning rate, batch size and so on, under its own names.
    pub options: BTreeMap<String, String>,
    /// The version of this crate that wrote it; another one need not go on to the same bits.
    pub version: String,
}

/// The version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The checksum of a file: its digits count as 0.
fn checksum(bytes: &[u8]) -> String {
    let (before, rest) = bytes.split_at(DIGITS_AT);
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update([b'0'; DIGITS]);
    hash.update(&rest[DIGITS..]);
    hex(&hash.finalize())
}

impl Checkpoint {
    /// A checkpoint by this version of the crate, with neither log nor options.
    ///
    /// `rbm` and `trainer`: of one shape and one moment; `settings`: what the trainer was made with; `data`: the
    /// [`fingerprint`] of the training rows.
    pub fn new(rbm: Rbm, settings: Settings, trainer: TrainerState, place: Place, data: String) -> Self {
        let (log, health, options, average, tracker, smooth, extras) = Default::default();
        Self {
            rbm,
            settings,
            trainer,
            place,
            log,
            health,
            average,
            tracker,
            smooth,
            extras,
            data,
            options,
            version: VERSION.into(),
        }
    }

    /// Writes the file `path` whole or not at all: when this has returned, the checkpoint is there to stay.
    ///
    /// # Errors
    /// [`Error::File`] with what the operating system says, and those of [`to_bytes`](Self::to_bytes).
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes = self.to_bytes()?;
        write_atomically(path, |file| file.write_all(&bytes))
    }

    /// Reads the file `path`.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read, and those of [`from_bytes`](Self::from_bytes).
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = read_file(path)?;
        Self::from_bytes(&bytes, &path.display().to_string())
    }

    /// The bytes of a file; equal checkpoints give equal bytes.
    ///
    /// # Errors
    /// [`Error::Value`] where a parameter or an inverse temperature is not finite: such a state cannot be gone on from.
    /// [`Error::Argument`] where a number that was watched is not, or the chains do not fit the shape.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.rbm.view().check_finite()?;
        let chains = &self.trainer.chains;
        check("betas", &chains.betas, chains.betas.len())?;
        let metadata = serde_json::to_string(&Metadata::of(self)).map_err(|problem| Error::Argument {
            what: "log",
            expected: "finite numbers".into(),
            found: problem.to_string(),
        })?;
        let words = self.rbm.shape().n_hidden().div_ceil(64);
        if chains.hidden.len() != chains.betas.len() * words {
            let expected = chains.betas.len() * words;
            return Err(Error::Length { what: "chains", expected, found: chains.hidden.len() });
        }
        let mut tensors = model::tensors(self.rbm.view());
        tensors.push(Tensor::new("chains", vec![chains.betas.len(), words], &chains.hidden));
        tensors.push(Tensor::new("betas", vec![chains.betas.len()], &chains.betas));
        tensors.extend(self.extras.scale.iter().flat_map(model::scale_tensors));
        tensors.extend(metadata::more_tensors(self));
        let entry = format!("{ENTRY}{} {metadata}", "0".repeat(DIGITS));
        let mut bytes = tensors::write(&tensors, entry, &model::entries(self.rbm.view(), &self.extras), "checkpoint")?;
        let digits = checksum(&bytes);
        bytes[DIGITS_AT..DIGITS_AT + DIGITS].copy_from_slice(digits.as_bytes());
        Ok(bytes)
    }

    /// The checkpoint in the bytes of a file; `source_name` stands for it in errors.
    ///
    /// # Errors
    /// [`Error::Format`] where the bytes are no checkpoint, or not all those that were written, or another version's, or
    /// do not belong together.
    pub fn from_bytes(bytes: &[u8], source_name: &str) -> Result<Self> {
        let fail = |expected: &str, found: String| Error::Format {
            source_name: source_name.into(),
            expected: expected.into(),
            found,
        };
        if bytes.len() < DIGITS_AT + DIGITS || bytes[8..DIGITS_AT] != *START {
            return Err(fail("a checkpoint of harmonium", "another file, or the beginning of one".into()));
        }
        let digits = &bytes[DIGITS_AT..DIGITS_AT + DIGITS];
        let found = checksum(bytes);
        if digits != found.as_bytes() {
            let expected = format!("checksum {}", String::from_utf8_lossy(digits).escape_default());
            return Err(fail(&expected, format!("{found}: the file is damaged or cut off")));
        }
        let file = Tensors::open(bytes, source_name)?;
        let text = file.entry("harmonium").and_then(|entry| entry.get(ENTRY.len() + DIGITS + 1..)).unwrap_or_default();
        // A later format may have other fields, so its number comes first.
        let Format { format } = parse(text).map_err(|found| file.fail(METADATA, found))?;
        if !(FIRST_FORMAT..=FORMAT).contains(&format) {
            return Err(fail(&format!("a checkpoint of format {FIRST_FORMAT} or {FORMAT}"), format.to_string()));
        }
        let metadata: Metadata = parse(text).map_err(|found| file.fail(METADATA, found))?;
        metadata.with_tensors(&file)
    }
}
