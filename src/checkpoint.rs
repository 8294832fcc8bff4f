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
//! equal files.

use crate::{
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
use serde_json::{Map, Value, json};
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
pub struct Place {
    /// Epochs that are over.
    pub epoch: u64,
    /// Batches of the next one that are done.
    pub batch: u64,
    /// Seconds of training.
    pub seconds: f64,
}

/// How things stood at the end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// Updates since training began.
    pub updates: u64,
    /// The mean of what is watched over the epoch, in nats a row.
    pub monitor: Option<f64>,
    /// Seconds of training since it began; the time for pictures and files is left out.
    pub seconds: f64,
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
        let TrainerState { chains, watched, .. } = &self.trainer;
        check("betas", &chains.betas, chains.betas.len())?;
        let numbers = self.log.iter().flat_map(|epoch| [epoch.monitor.unwrap_or(0.0), epoch.seconds]);
        let numbers = numbers.chain(self.health.iter().flat_map(numbers_of).flatten());
        if let Some(x) = numbers.chain([*watched, self.place.seconds]).find(|x| !x.is_finite()) {
            return Err(Error::Argument { what: "log", expected: "finite numbers".into(), found: x.to_string() });
        }
        let words = self.rbm.shape().n_hidden().div_ceil(64);
        if chains.hidden.len() != chains.betas.len() * words {
            let expected = chains.betas.len() * words;
            return Err(Error::Length { what: "chains", expected, found: chains.hidden.len() });
        }
        let mut tensors = model::tensors(self.rbm.view());
        tensors.push(Tensor::new("chains", vec![chains.betas.len(), words], &chains.hidden));
        tensors.push(Tensor::new("betas", vec![chains.betas.len()], &chains.betas));
        let entry = format!("{ENTRY}{} {}", "0".repeat(DIGITS), self.json());
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
        let value: Value = serde_json::from_str(text)
            .map_err(|problem| fail("a JSON object after the checksum", problem.to_string()))?;
        let fields = Fields { value: &value, file: &file };
        let format = fields.number("format")?;
        if format != FORMAT {
            return Err(fail(&format!("a checkpoint of format {FORMAT}"), format.to_string()));
        }
        fields.checkpoint()
    }

    fn json(&self) -> Value {
        let Settings { algorithm, k, monitor, seed } = self.settings;
        let (uniforms_seed, position) = self.trainer.chains.uniforms.parts();
        let TrainerState { bit, updates, reported, watched, .. } = &self.trainer;
        let epoch = |Epoch { updates, monitor, seconds }: &Epoch| {
            json!([updates, monitor.map(|monitor| format!("{monitor:?}")), format!("{seconds:?}")])
        };
        let mut value = json!({
            "format": FORMAT,
            "version": self.version,
            "data": self.data,
            "algorithm": match algorithm {
                Algorithm::Cd => "cd",
                Algorithm::Pcd { .. } => "pcd",
            },
            "k": k,
            "monitor": name(monitor),
            "seed": seed,
            "uniforms_seed": uniforms_seed,
            "uniforms_position": position,
            "bit": bit,
            "updates": updates,
            "reported": reported,
            "watched": format!("{watched:?}"),
            "epoch": self.place.epoch,
            "batch": self.place.batch,
            "seconds": format!("{:?}", self.place.seconds),
            "log": self.log.iter().map(epoch).collect::<Vec<_>>(),
            "options": self.options,
        });
        if !self.health.is_empty() {
            let row = |check_up: &CheckUp| {
                let numbers = numbers_of(check_up).map(|x| x.map_or(Value::Null, |x| Value::from(format!("{x:?}"))));
                [Value::from(check_up.updates)].into_iter().chain(numbers).collect::<Value>()
            };
            value["health"] = self.health.iter().map(row).collect();
        }
        value
    }
}

/// The numbers of a check-up in the order in which they are kept.
fn numbers_of(check_up: &CheckUp) -> [Option<f64>; 8] {
    let EquilibriumGap { persistent, fresh, gap: _, standard_error } = check_up.gap;
    [
        check_up.r_hat,
        check_up.bulk_effective_sample_size,
        check_up.autocorrelation_time,
        Some(check_up.visible_flip_rate),
        Some(check_up.hidden_flip_rate),
        Some(persistent),
        Some(fresh),
        Some(standard_error),
    ]
}

/// Undoes [`numbers_of`].
fn check_up_of(row: &Value) -> Option<CheckUp> {
    let known = |n: usize| match &row[n] {
        Value::Null => Some(None),
        x => finite(x).map(Some),
    };
    let (persistent, fresh, standard_error) = (finite(&row[6])?, finite(&row[7])?, finite(&row[8])?);
    Some(CheckUp {
        updates: row[0].as_u64()?,
        r_hat: known(1)?,
        bulk_effective_sample_size: known(2)?,
        autocorrelation_time: known(3)?,
        visible_flip_rate: finite(&row[4])?,
        hidden_flip_rate: finite(&row[5])?,
        gap: EquilibriumGap { persistent, fresh, gap: persistent - fresh, standard_error },
    })
}

const MONITORS: [Monitor; 4] =
    [Monitor::None, Monitor::PseudoLikelihood, Monitor::ExactPseudoLikelihood, Monitor::Reconstruction];

fn name(monitor: Monitor) -> &'static str {
    match monitor {
        Monitor::None => "none",
        Monitor::PseudoLikelihood => "pl",
        Monitor::ExactPseudoLikelihood => "pl-exact",
        Monitor::Reconstruction => "reconstruction",
    }
}

/// What stands in the JSON object, read without trust: the checksum proves that it was written, not by whom.
struct Fields<'a> {
    value: &'a Value,
    file: &'a Tensors<'a>,
}

impl Fields<'_> {
    fn checkpoint(&self) -> Result<Checkpoint> {
        let rbm = model::from_tensors(self.file)?;
        let ([n_chains, words], hidden) = self.file.tensor("chains")?;
        let ([n_betas], betas) = self.file.tensor("betas")?;
        let expected = [n_betas, rbm.shape().n_hidden().div_ceil(64)];
        if [n_chains, words] != expected || n_chains == 0 {
            let expected = format!("chains of shape {expected:?}, as betas and weights have it, and at least one");
            return Err(self.file.fail(expected, format!("{:?}", [n_chains, words])));
        }
        if let Some(index) = betas.iter().position(|beta: &f32| !beta.is_finite()) {
            let expected = format!("betas[{index}] to be a finite number");
            return Err(self.file.fail(expected, betas[index].to_string()));
        }
        let algorithm = match self.text("algorithm")? {
            "cd" => Algorithm::Cd,
            "pcd" => Algorithm::Pcd { n_chains },
            other => return Err(self.wrong("algorithm", "cd or pcd", other)),
        };
        let monitor = self.text("monitor")?;
        let monitor = MONITORS
            .into_iter()
            .find(|&known| name(known) == monitor)
            .ok_or_else(|| self.wrong("monitor", "none, pl, pl-exact or reconstruction", monitor))?;
        let size = |what: &str| {
            let number = self.number(what)?;
            usize::try_from(number).map_err(|_| self.wrong(what, "a size", &number.to_string()))
        };
        let uniforms = Uniforms::from_parts(self.number("uniforms_seed")?, self.number("uniforms_position")?);
        let epoch = |row: &Value| {
            let monitor = match &row[1] {
                Value::Null => Some(None),
                monitor => finite(monitor).map(Some),
            };
            Some(Epoch { updates: row[0].as_u64()?, monitor: monitor?, seconds: finite(&row[2])? })
        };
        let log: Option<Vec<Epoch>> = self.value["log"].as_array().and_then(|rows| rows.iter().map(epoch).collect());
        let health = match &self.value["health"] {
            Value::Null => Some(Vec::new()),
            rows => rows.as_array().and_then(|rows| rows.iter().map(check_up_of).collect()),
        };
        let options = self.value["options"].as_object();
        let options = options.and_then(|options: &Map<String, Value>| {
            options.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_string()))).collect()
        });
        Ok(Checkpoint {
            settings: Settings { algorithm, k: size("k")?, monitor, seed: self.number("seed")? },
            trainer: TrainerState {
                chains: ChainState { hidden, betas, uniforms },
                bit: size("bit")?,
                updates: self.number("updates")?,
                reported: self.number("reported")?,
                watched: self.fraction("watched")?,
            },
            place: Place {
                epoch: self.number("epoch")?,
                batch: self.number("batch")?,
                seconds: self.fraction("seconds")?,
            },
            log: log.ok_or_else(|| self.wrong("log", "rows of updates, monitor and seconds", "others"))?,
            health: health.ok_or_else(|| self.wrong("health", "rows of updates and eight numbers", "others"))?,
            data: self.text("data")?.into(),
            options: options.ok_or_else(|| self.wrong("options", "names and texts", "others"))?,
            version: self.text("version")?.into(),
            rbm,
        })
    }

    fn wrong(&self, name: &str, expected: &str, found: &str) -> Error {
        self.file.fail(format!("{name} to be {expected}"), found.escape_default().to_string())
    }

    fn number(&self, name: &str) -> Result<u64> {
        self.value[name].as_u64().ok_or_else(|| self.wrong(name, "a whole number", &self.value[name].to_string()))
    }

    fn text(&self, name: &str) -> Result<&str> {
        self.value[name].as_str().ok_or_else(|| self.wrong(name, "a text", &self.value[name].to_string()))
    }

    fn fraction(&self, name: &str) -> Result<f64> {
        finite(&self.value[name]).ok_or_else(|| self.wrong(name, "a finite number", &self.value[name].to_string()))
    }
}

/// A finite number as [`Checkpoint::json`] writes one.
fn finite(value: &Value) -> Option<f64> {
    value.as_str()?.parse().ok().filter(|x: &f64| x.is_finite())
}
