//! Checkpoints: a model with all that is needed to resume training with the same bits.
//!
//! One safetensors file, so that it opens as a model too ([`crate::model`]):
//!
//! | tensor | shape | type |
//! |---|---|---|
//! | `weights`, `visible_bias`, `hidden_bias` | as in a model file | F32 |
//! | `chains` | `[chains, ⌈n_hidden/64⌉]` | U64: the hidden bits, unit j being bit j mod 64 of word j/64 |
//! | `betas` | `[chains]` | F32: inverse temperatures |
//! | `visible_offset`, `hidden_offset`, `hidden_mean` | `[n_visible]`, `[n_hidden]`, `[n_hidden]` | F32: the state of rules of descent |
//! | `velocity_weights`, `velocity_visible_bias`, `velocity_hidden_bias` | as in a model file | F32: with momentum |
//! | `average_weights`, `average_visible_bias`, `average_hidden_bias` | as in a model file | F32: the mean of the last parameters |
//! | `smooth_weights`, `smooth_visible_bias`, `smooth_hidden_bias` | as in a model file | F32: the model that a running log Z follows |
//! | `tracker_visible` | `[particles, ⌈n_visible/64⌉]` | U64: the particles of a running log Z, as bits; with Gaussian units as numbers, `[particles, ⌈n_visible/2⌉]` |
//! | `average_visible_log_variance`, `smooth_visible_log_variance` | `[n_visible]` | F32: with Gaussian units |
//! | `visible_log_variance`, `visible_mean`, `visible_deviation` | as in a model file | F32 |
//! | `tracker_log_weights`, `tracker_free_energies` | `[particles]` | F64 |
//!
//! The last eight lines are present only if the run uses them.
//!
//! The metadata has the entry `visible` of a model file, and the entry `harmonium`: `checkpoint sha256:`, 64 hexadecimal digits, a
//! space, and a JSON object with everything else. The entry comes first in the header, so that the digits are at the same position in
//! every file. They are SHA-256 of the *whole* file, with zeros in place of the digits. So a checkpoint with one changed bit or one
//! missing byte is refused. Numbers with a fraction are strings in JSON, in the shortest decimal form that gives back the same bits.
//! The fields of the object are in alphabetical order, and equal checkpoints give equal files.

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

/// The first bytes of every checkpoint, after the eight bytes with the length of the header.
const START: &[u8] = br#"{"__metadata__":{"harmonium":"checkpoint sha256:"#;
/// The beginning of its metadata.
const ENTRY: &str = "checkpoint sha256:";
/// The position and the number of the checksum's digits.
const DIGITS_AT: usize = 8 + START.len();
const DIGITS: usize = 64;
/// The current format.
const FORMAT: u64 = 2;
/// The format without rules of descent, averages, running likelihoods and figures. It is still written for checkpoints that have none of
/// them.
const FIRST_FORMAT: u64 = 1;

/// All that is needed to resume training with the same bits, and the history of the run.
///
/// ```
/// use harmonium::checkpoint::{Checkpoint, Place, fingerprint};
/// use harmonium::{Cpu, Dataset, Rbm, Settings, Shape, Trainer};
///
/// # fn main() -> harmonium::Result<()> {
/// let data = Dataset::from_u8(vec![255, 0, 255, 0, 255, 0], 3)?;
/// let cpu = Cpu::detect()?;
/// let mut rbm = Rbm::new(Shape::new(3, 2)?, 123).on(cpu)?;
/// let mut trainer = Trainer::new(cpu, rbm.shape(), Settings::default())?;
/// trainer.step(&mut rbm, &data, 0.1)?;
/// let (place, data_id) = (Place::new(0, 1, 0.0), fingerprint(data.rows()));
/// let saved = Checkpoint::new(rbm.to_rbm()?, trainer.settings(), trainer.state()?, place, data_id);
/// let bytes = saved.to_bytes()?;
///
/// let loaded = Checkpoint::from_bytes(&bytes, "a checkpoint")?;
/// let mut resumed_rbm = loaded.rbm.on(cpu)?;
/// let mut resumed = Trainer::from_state(cpu, rbm.shape(), loaded.settings, &loaded.trainer)?;
/// trainer.step(&mut rbm, &data, 0.1)?;
/// resumed.step(&mut resumed_rbm, &data, 0.1)?;
/// assert_eq!(resumed_rbm.to_rbm()?, rbm.to_rbm()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The parameters; all of them are finite.
    pub rbm: Rbm,
    /// The settings of the trainer.
    pub settings: Settings,
    /// The state of the trainer.
    pub trainer: TrainerState,
    /// The position in the data.
    pub place: Place,
    /// One entry for each completed epoch.
    pub log: Vec<Epoch>,
    /// The check-ups of the chains, if there are any.
    pub health: Vec<CheckUp>,
    /// The mean of the last parameters, and the number of updates in it, if it is made.
    pub average: Option<(Rbm, u64)>,
    /// The state of the running log Z, if it is tracked.
    pub tracker: Option<TrackerState>,
    /// The running mean of the parameters that the tracker's particles follow.
    pub smooth: Option<Rbm>,
    /// Properties of the data: its scale and the names of its labels.
    pub extras: Extras,
    /// The [`fingerprint`] of the training rows.
    pub data: String,
    /// Further options of the program that trains, such as learning rate and batch size, under the program's own names.
    pub options: BTreeMap<String, String>,
    /// The version of this crate that wrote the checkpoint. Another version may not continue with the same bits.
    pub version: String,
}

/// The version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The checksum of a file, computed with zeros in place of its digits.
fn checksum(bytes: &[u8]) -> String {
    let (before, rest) = bytes.split_at(DIGITS_AT);
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update([b'0'; DIGITS]);
    hash.update(&rest[DIGITS..]);
    hex(&hash.finalize())
}

impl Checkpoint {
    /// Creates a checkpoint of this version of the crate, without log and options.
    ///
    /// `rbm` and `trainer`: of the same shape and the same moment; `settings`: those of the trainer; `data`: the
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

    /// Writes the file `path`, whole or not at all. When `save` returns, the checkpoint is on the disk.
    ///
    /// # Errors
    /// [`Error::File`] with the operating system's message, and those of [`to_bytes`](Self::to_bytes).
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes = self.to_bytes()?;
        write_atomically(path, |file| file.write_all(&bytes))
    }

    /// Reads the file `path`.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read, and those of [`from_bytes`](Self::from_bytes).
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = read_file(path)?;
        Self::from_bytes(&bytes, &path.display().to_string())
    }

    /// The bytes of a file; equal checkpoints give equal bytes.
    ///
    /// # Errors
    /// [`Error::Value`] if a parameter or an inverse temperature is not finite, because training cannot resume from such a state.
    /// [`Error::Argument`] if a logged number is not finite, or the chains do not fit the shape.
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

    /// Reads a checkpoint from the bytes of a file; `source_name` is its name in errors.
    ///
    /// # Errors
    /// [`Error::Format`] if the bytes are not a checkpoint, are damaged or incomplete, have another version's format, or are
    /// inconsistent.
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
        // Another format may have other fields, so its number is read first.
        let Format { format } = parse(text).map_err(|found| file.fail(METADATA, found))?;
        if !(FIRST_FORMAT..=FORMAT).contains(&format) {
            return Err(fail(&format!("a checkpoint of format {FIRST_FORMAT} or {FORMAT}"), format.to_string()));
        }
        let metadata: Metadata = parse(text).map_err(|found| file.fail(METADATA, found))?;
        metadata.with_tensors(&file)
    }
}
