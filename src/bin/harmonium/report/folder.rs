//! Reads the files of a run, and validates them.

use crate::resume;
use harmonium::{
    Checkpoint, Error, Rbm, Result,
    model::{self, Extras},
};
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A line of log.csv; older logs have fewer columns.
#[derive(Deserialize)]
pub struct Line {
    pub epoch: u64,
    pub updates: u64,
    pub monitor: Option<f64>,
    pub seconds: f64,
    #[serde(default)]
    pub learning_rate: Option<f64>,
    #[serde(default)]
    pub k: Option<f64>,
    #[serde(default)]
    pub log_z: Option<f64>,
    #[serde(default)]
    pub ess: Option<f64>,
    #[serde(default)]
    pub standard_error: Option<f64>,
    #[serde(default)]
    pub log_likelihood: Option<f64>,
    #[serde(default)]
    pub validation: Option<f64>,
    #[serde(default)]
    pub free_energy_gap: Option<f64>,
    #[serde(default)]
    pub update_ratio: Option<f64>,
    #[serde(default)]
    pub constant_units: Option<f64>,
}

/// A line of health.csv.
#[derive(Deserialize)]
pub struct CheckUp {
    pub updates: u64,
    pub r_hat: Option<f64>,
    pub bulk_effective_sample_size: Option<f64>,
    pub autocorrelation_time: Option<f64>,
    pub visible_flip_rate: f64,
    pub hidden_flip_rate: f64,
    pub equilibrium_gap: f64,
    pub standard_error: Option<f64>,
    pub lag: Option<u8>,
}

/// An image: the bytes of its PNG file, and its width in pixels.
pub struct Picture {
    pub bytes: Vec<u8>,
    pub width: u32,
}

pub struct Folder {
    pub path: PathBuf,
    pub model: Rbm,
    pub extras: Extras,
    pub log: Vec<Line>,
    pub health: Vec<CheckUp>,
    /// The source of the settings; can be missing.
    pub checkpoint: Option<Checkpoint>,
    /// The names of all files and their sizes in bytes, sorted by name.
    pub files: Vec<(String, u64)>,
}

/// The greatest size of an image file. No run writes a larger image of filters or chains.
const MOST_BYTES: u64 = 8 << 20;

impl Folder {
    pub fn open(path: &Path) -> Result<Self> {
        let names = fs::read_dir(path).map_err(|problem| file_error(path, problem))?;
        let mut files = Vec::new();
        for entry in names {
            let entry = entry.map_err(|problem| file_error(path, problem))?;
            let size = entry.metadata().map_err(|problem| file_error(&entry.path(), problem))?;
            if size.is_file() {
                files.push((entry.file_name().to_string_lossy().into_owned(), size.len()));
            }
        }
        files.sort();
        let has = |name: &str| files.iter().any(|(other, _)| other == name);
        if !has("log.csv") {
            let expected = "the folder of a run of harmonium train, with log.csv".into();
            let source_name = path.display().to_string();
            return Err(Error::Format { source_name, expected, found: "a folder without log.csv".into() });
        }
        let log = table(&path.join("log.csv"))?;
        let health = if has("health.csv") { table(&path.join("health.csv"))? } else { Vec::new() };
        let (model, extras) = model::load_with(&path.join("model.safetensors"))?;
        let stored = resume::path(path);
        let checkpoint = has("checkpoint.safetensors").then(|| Checkpoint::load(&stored)).transpose()?;
        Ok(Self { path: path.into(), model, extras, log, health, checkpoint, files })
    }

    /// The numbers of the epochs with an image of this kind, in ascending order.
    pub fn epochs(&self, kind: &str) -> Vec<u64> {
        let number =
            |name: &str| name.strip_prefix(kind)?.strip_prefix("_at_epoch_")?.strip_suffix(".png")?.parse().ok();
        let mut epochs: Vec<_> = self.files.iter().filter_map(|(name, _)| number(name)).collect();
        epochs.sort_unstable();
        epochs
    }

    /// Reads an image, if its file exists.
    pub fn picture(&self, name: &str) -> Result<Option<Picture>> {
        let Some((_, size)) = self.files.iter().find(|(other, _)| other == name) else { return Ok(None) };
        let path = self.path.join(name);
        let fail = |found: String| {
            let source_name = path.display().to_string();
            Error::Format { source_name, expected: format!("a PNG image of at most {} MiB", MOST_BYTES >> 20), found }
        };
        if *size > MOST_BYTES {
            return Err(fail(format!("{size} bytes")));
        }
        let bytes = fs::read(&path).map_err(|problem| file_error(&path, problem))?;
        let read = png::Decoder::new(io::Cursor::new(&bytes)).read_info();
        let width = read.map_err(|problem| fail(problem.to_string()))?.info().width;
        Ok(Some(Picture { bytes, width }))
    }
}

/// Parses the lines of a CSV table.
fn table<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let bytes = fs::read(path).map_err(|problem| file_error(path, problem))?;
    let lines: std::result::Result<Vec<T>, _> = csv::Reader::from_reader(&bytes[..]).deserialize().collect();
    lines.map_err(|problem| Error::Format {
        source_name: path.display().to_string(),
        expected: "a table of harmonium train".into(),
        found: problem.to_string(),
    })
}

fn file_error(path: &Path, problem: impl ToString) -> Error {
    Error::File { path: path.display().to_string(), problem: problem.to_string() }
}
