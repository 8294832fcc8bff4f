//! Checkpoints: a model and everything else that training needs to go on to the bit.
//!
//! One safetensors file, so that it opens as a model too ([`crate::model`]):
//!
//! | tensor | shape | type |
//! |---|---|---|
//! | `weights`, `visible_bias`, `hidden_bias` | as in a model file | F32 |
//! | `chains` | `[chains, ⌈n_hidden/64⌉]` | U64: the hidden bits, unit j being bit j mod 64 of word j/64 |
//! | `betas` | `[chains]` | F32: inverse temperatures |
//!
//! The metadata has the one entry `harmonium`: `checkpoint sha256:`, 64 hexadecimal digits, a space, and a JSON object with
//! all the rest. It comes first in the header, so that the digits stand at one place in every file. They are SHA-256 of the
//! *whole* file with 0 in their own place: a checkpoint with one bit changed or one byte missing anywhere is refused. Numbers
//! with a fraction are strings in JSON, in the shortest decimal form that gives back the same bits. Equal checkpoints make
//! equal files: the fields of the object stand in alphabetical order.

use crate::{
    descent::Descent,
    diagnostics::{CheckUp, EquilibriumGap},
    error::{Error, Result},
    model,
    monitor::Monitor,
    rbm::{Rbm, check},
    rows::{Rows, Values},
    storage::{read_file, write_atomically},
    tensors::{self, Tensor, Tensors},
    train::{Algorithm, Settings, TrainerState},
    uniforms::Uniforms,
    verbs::ChainState,
};
use serde::{Deserialize, Serialize, Serializer, ser::Error as _};
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
const FORMAT: u64 = 1;

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
    /// The [`fingerprint`] of the training rows.
    pub data: String,
    /// What else the program that trains wants to find again: learning rate, batch size and so on, under its own names.
    pub options: BTreeMap<String, String>,
    /// The version of this crate that wrote it; another one need not go on to the same bits.
    pub version: String,
}

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
}

impl Epoch {
    /// An epoch that ended after `updates` updates and `seconds` of training, with this mean of its monitor.
    pub fn new(updates: u64, monitor: Option<f64>, seconds: f64) -> Self {
        Self { updates, monitor, seconds }
    }
}

/// The version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What tells data apart: 64 hexadecimal digits, SHA-256 of type, sizes and all values.
pub fn fingerprint(rows: Rows<'_>) -> String {
    let mut hash = Sha256::new();
    let kind: &[u8] = match rows.values() {
        Values::U8(_) => b"u8 ",
        Values::F32(_) => b"f32",
    };
    hash.update(kind);
    hash.update((rows.len() as u64).to_le_bytes());
    hash.update((rows.units() as u64).to_le_bytes());
    match rows.values() {
        Values::U8(values) => hash.update(values),
        Values::F32(values) => {
            for values in values.chunks(1024) {
                hash.update(values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
            }
        }
    }
    hex(&hash.finalize())
}

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
        let (log, health, options) = Default::default();
        Self { rbm, settings, trainer, place, log, health, data, options, version: VERSION.into() }
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
        let entry = format!("{ENTRY}{} {metadata}", "0".repeat(DIGITS));
        let mut bytes = tensors::write(&tensors, entry, "checkpoint")?;
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
        let text = file.entry().and_then(|entry| entry.get(ENTRY.len() + DIGITS + 1..)).unwrap_or_default();
        // A later format may have other fields, so its number comes first.
        let Format { format } = parse(text).map_err(|found| file.fail(METADATA, found))?;
        if format != FORMAT {
            return Err(fail(&format!("a checkpoint of format {FORMAT}"), format.to_string()));
        }
        let metadata: Metadata = parse(text).map_err(|found| file.fail(METADATA, found))?;
        metadata.with_tensors(&file)
    }
}

/// What stands after the checksum, in messages.
const METADATA: &str = "the metadata of a checkpoint";

/// A JSON object, or the name of the field that is wrong and what is wrong with it.
fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> std::result::Result<T, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|problem| problem.to_string())?;
    json.end().map_err(|problem| problem.to_string())?;
    Ok(value)
}

/// A finite number, kept as text; one that is not finite cannot be written, and the error is its name.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Exact(f64);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let text = format!("{:?}", self.0);
        if self.0.is_finite() { serializer.serialize_str(&text) } else { Err(S::Error::custom(text)) }
    }
}

impl TryFrom<String> for Exact {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let number = text.parse().ok().filter(|x: &f64| x.is_finite());
        number.map(Self).ok_or_else(|| format!("expected a finite number, found {text}"))
    }
}

#[derive(Deserialize)]
struct Format {
    format: u64,
}

/// The JSON object. The order of the fields is that of the bytes.
#[derive(Serialize, Deserialize)]
struct Metadata {
    algorithm: String,
    batch: u64,
    bit: usize,
    data: String,
    epoch: u64,
    format: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    health: Vec<CheckUpRow>,
    k: usize,
    log: Vec<EpochRow>,
    monitor: Monitor,
    options: BTreeMap<String, String>,
    reported: u64,
    seconds: Exact,
    seed: u64,
    uniforms_position: u64,
    uniforms_seed: u64,
    updates: u64,
    version: String,
    watched: Exact,
}

/// Updates, monitor and seconds.
#[derive(Serialize, Deserialize)]
struct EpochRow(u64, Option<Exact>, Exact);

/// The numbers of a check-up in the order of its fields; the gap is the difference of two of them. The last one, the degrees
/// of freedom of the standard error, is left out where they are infinite, as in the files of versions that did not know any,
/// and where there is no standard error.
#[derive(Serialize, Deserialize)]
struct CheckUpRow(
    u64,
    Option<Exact>,
    Option<Exact>,
    Option<Exact>,
    Exact,
    Exact,
    Exact,
    Exact,
    Option<Exact>,
    #[serde(default, skip_serializing_if = "Option::is_none")] Option<Exact>,
);

impl CheckUpRow {
    fn of(check_up: &CheckUp) -> Self {
        let EquilibriumGap { persistent, fresh, gap: _, standard_error, degrees_of_freedom } = check_up.gap;
        let known = |x: f64| Some(Exact(x)).filter(|_| !x.is_nan());
        Self(
            check_up.updates,
            check_up.r_hat.map(Exact),
            check_up.bulk_effective_sample_size.map(Exact),
            check_up.autocorrelation_time.map(Exact),
            Exact(check_up.visible_flip_rate),
            Exact(check_up.hidden_flip_rate),
            Exact(persistent),
            Exact(fresh),
            known(standard_error),
            known(degrees_of_freedom).filter(|Exact(degrees)| degrees.is_finite()),
        )
    }

    fn check_up(self) -> CheckUp {
        let known = |x: Option<Exact>| x.map(|Exact(x)| x);
        let Self(
            updates,
            r_hat,
            effective,
            time,
            Exact(visible),
            Exact(hidden),
            Exact(persistent),
            Exact(fresh),
            error,
            degrees,
        ) = self;
        let error = known(error).unwrap_or(f64::NAN);
        let degrees = if error.is_nan() { f64::NAN } else { known(degrees).unwrap_or(f64::INFINITY) };
        CheckUp {
            updates,
            r_hat: known(r_hat),
            bulk_effective_sample_size: known(effective),
            autocorrelation_time: known(time),
            visible_flip_rate: visible,
            hidden_flip_rate: hidden,
            gap: EquilibriumGap {
                persistent,
                fresh,
                gap: persistent - fresh,
                standard_error: error,
                degrees_of_freedom: degrees,
            },
        }
    }
}

impl Metadata {
    fn of(checkpoint: &Checkpoint) -> Self {
        let Checkpoint { settings, trainer, place, log, health, data, options, version, .. } = checkpoint;
        let (uniforms_seed, uniforms_position) = trainer.chains.uniforms.parts();
        Self {
            algorithm: settings.algorithm.name().into(),
            batch: place.batch,
            bit: trainer.bit,
            data: data.clone(),
            epoch: place.epoch,
            format: FORMAT,
            health: health.iter().map(CheckUpRow::of).collect(),
            k: settings.k,
            log: log.iter().map(|row| EpochRow(row.updates, row.monitor.map(Exact), Exact(row.seconds))).collect(),
            monitor: settings.monitor,
            options: options.clone(),
            reported: trainer.reported,
            seconds: Exact(place.seconds),
            seed: settings.seed,
            uniforms_position,
            uniforms_seed,
            updates: trainer.updates,
            version: version.clone(),
            watched: Exact(trainer.watched),
        }
    }

    /// The checkpoint. The file is read without trust: the checksum proves that it was written, not by whom.
    fn with_tensors(self, file: &Tensors<'_>) -> Result<Checkpoint> {
        let rbm = model::from_tensors(file)?;
        let ([n_chains, words], hidden) = file.tensor("chains")?;
        let ([n_betas], betas) = file.tensor("betas")?;
        let expected = [n_betas, rbm.shape().n_hidden().div_ceil(64)];
        if [n_chains, words] != expected || n_chains == 0 {
            let expected = format!("chains of shape {expected:?}, as betas and weights have it, and at least one");
            return Err(file.fail(expected, format!("{:?}", [n_chains, words])));
        }
        if let Some(index) = betas.iter().position(|beta: &f32| !beta.is_finite()) {
            let expected = format!("betas[{index}] to be a finite number");
            return Err(file.fail(expected, betas[index].to_string()));
        }
        let algorithm = Algorithm::named(&self.algorithm, n_chains);
        let algorithm = algorithm.map_err(|problem| file.fail(METADATA, problem.to_string()))?;
        let uniforms = Uniforms::from_parts(self.uniforms_seed, self.uniforms_position);
        let epoch =
            |EpochRow(updates, monitor, Exact(seconds))| Epoch::new(updates, monitor.map(|x: Exact| x.0), seconds);
        Ok(Checkpoint {
            rbm,
            settings: Settings {
                algorithm,
                k: self.k,
                monitor: self.monitor,
                seed: self.seed,
                descent: Descent::default(),
            },
            trainer: TrainerState {
                chains: ChainState { hidden, betas, uniforms },
                bit: self.bit,
                updates: self.updates,
                reported: self.reported,
                watched: self.watched.0,
                rule: None,
            },
            place: Place::new(self.epoch, self.batch, self.seconds.0),
            log: self.log.into_iter().map(epoch).collect(),
            health: self.health.into_iter().map(CheckUpRow::check_up).collect(),
            data: self.data,
            options: self.options,
            version: self.version,
        })
    }
}
