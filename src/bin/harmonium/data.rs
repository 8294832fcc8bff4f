//! Finding and reading data.

use crate::memory;
use harmonium::{Dataset, Error, Result, idx, npy};
use std::{
    fs::File,
    io::{BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
};

/// MNIST has 60 000 rows for training; the tutorial trains on the first 50 000 and keeps the rest for validation.
const TRAINING_ROWS: usize = 50_000;

/// Rows, and the height and width of the images that they are, where the file says so.
pub struct Images {
    pub rows: Dataset,
    pub sides: Option<(usize, usize)>,
}

/// The rows to train on: of a folder the first 50 000 of its training file, else all.
pub fn training(path: &Path) -> Result<Images> {
    let Some(folder) = Folder::at(path)? else { return read(path) };
    let mut images = folder.images("train")?.ok_or_else(|| folder.lacks_files())?;
    images.rows.keep(0..images.rows.len().min(TRAINING_ROWS))?;
    Ok(images)
}

/// One of the three parts that MNIST is cut into.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Split {
    Train,
    Validation,
    Test,
}

/// A part of a folder: the first 50 000 rows of its training file, the others of it, or its test file. Of a file all.
pub fn split(path: &Path, split: Split) -> Result<Images> {
    let Some(folder) = Folder::at(path)? else { return read(path) };
    match split {
        Split::Train => training(path),
        Split::Validation => {
            let mut images = folder.images("train")?.ok_or_else(|| folder.lacks_files())?;
            let rows = images.rows.len();
            if rows <= TRAINING_ROWS {
                return Err(Error::Format {
                    source_name: path.display().to_string(),
                    expected: format!("more than {TRAINING_ROWS} training rows, those behind being for validation"),
                    found: rows.to_string(),
                });
            }
            images.rows.keep(TRAINING_ROWS..rows)?;
            Ok(images)
        }
        Split::Test => test(path)?.ok_or_else(|| folder.lacks_files()),
    }
}

/// The rows to start chains from: of a folder its test file, or without one its training rows; else all.
pub fn starting(path: &Path) -> Result<Images> {
    match test(path)? {
        Some(images) => Ok(images),
        None => training(path),
    }
}

/// The rows of a folder's test file, where there is a folder with one.
pub fn test(path: &Path) -> Result<Option<Images>> {
    let Some(folder) = Folder::at(path)? else { return Ok(None) };
    folder.images("t10k")
}

/// Height and width of images of `units` pixels: as asked for, as the file says, or square.
pub fn sides(asked: Option<(usize, usize)>, said: Option<(usize, usize)>, units: usize) -> Result<(usize, usize)> {
    let fits = |&(height, width): &(usize, usize)| height.checked_mul(width) == Some(units);
    if let Some((height, width)) = asked.filter(|sides| !fits(sides)) {
        let expected = format!("height x width of {units} pixels");
        return Err(Error::Argument { what: "--image", expected, found: format!("{height}x{width}") });
    }
    let root = units.isqrt();
    asked.or(said.filter(fits)).or(Some((root, root)).filter(fits)).ok_or_else(|| Error::Argument {
        what: "--image",
        expected: format!("height and width of the pictures, as {units} values a row make no square"),
        found: "none".into(),
    })
}

/// A folder of MNIST's files.
struct Folder<'a>(&'a Path);

impl<'a> Folder<'a> {
    /// None where the path is a file.
    fn at(path: &'a Path) -> Result<Option<Self>> {
        match path.metadata() {
            Ok(found) => Ok(found.is_dir().then_some(Folder(path))),
            Err(problem) if problem.kind() == ErrorKind::NotFound => Err(Folder(path).lacks_files()),
            Err(problem) => Err(file_error(path, &problem)),
        }
    }

    /// The images of one set, where they are there. Nobody needs their labels, but where those lie beside them and are not as
    /// many, files of different sets have been mixed up.
    fn images(&self, set: &str) -> Result<Option<Images>> {
        let Some(file) = self.find(set, "images", 3)? else { return Ok(None) };
        let images = read(&file)?;
        if let Some(labels) = self.find(set, "labels", 1)? {
            let name = labels.display().to_string();
            let found = idx::read_idx_within(open(&labels)?, &name, limit())?;
            if found.dimensions() != [images.rows.len()] {
                return Err(Error::Format {
                    source_name: name,
                    expected: format!("{} labels, as many as {} has rows", images.rows.len(), file.display()),
                    found: format!("dimensions {:?}", found.dimensions()),
                });
            }
        }
        Ok(Some(images))
    }

    /// A file of one set, under one of the names that it goes by.
    fn find(&self, set: &str, kind: &str, dimensions: u32) -> Result<Option<PathBuf>> {
        for separator in ['-', '.'] {
            for ending in ["", ".gz"] {
                let file = self.0.join(format!("{set}-{kind}{separator}idx{dimensions}-ubyte{ending}"));
                if file.try_exists().map_err(|problem| file_error(&file, &problem))? {
                    return Ok(Some(file));
                }
            }
        }
        Ok(None)
    }

    fn lacks_files(&self) -> Error {
        Error::File {
            path: self.0.display().to_string(),
            problem: "expected a folder with MNIST's files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, \
                      t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz (.gz or unpacked; labels are not needed), \
                      found no training images; put them there or say --data PATH"
                .into(),
        }
    }
}

/// Reads an IDX or npy file, whichever its first bytes say that it is.
fn read(path: &Path) -> Result<Images> {
    let name = path.display().to_string();
    let mut file = open(path)?;
    let mut start = Vec::new();
    file.by_ref()
        .take(npy::MAGIC.len() as u64)
        .read_to_end(&mut start)
        .map_err(|problem| file_error(path, &problem))?;
    let whole = start.as_slice().chain(file);
    let images = if start == npy::MAGIC {
        Images { rows: npy::read_npy_within(whole, &name, memory::free())?, sides: None }
    } else if matches!(start[..], [0, 0, ..] | [0x1f, 0x8b, ..]) {
        let idx = idx::read_idx_within(whole, &name, limit())?;
        let sides = idx.image();
        Images { rows: idx.into_dataset()?, sides }
    } else {
        let expected = "an IDX file, gzipped or not, or an npy file".into();
        return Err(Error::Format {
            source_name: name,
            expected,
            found: format!("a file that begins with {start:02x?}"),
        });
    };
    if images.rows.len() == 0 {
        return Err(Error::Format { source_name: name, expected: "at least one row".into(), found: "none".into() });
    }
    Ok(images)
}

/// How many bytes of an IDX file are read: a few kilobytes of gzip can unpack to more than there is memory.
fn limit() -> u64 {
    idx::MAX_BYTES.min(memory::free())
}

fn open(path: &Path) -> Result<BufReader<File>> {
    File::open(path).map(BufReader::new).map_err(|problem| file_error(path, &problem))
}

fn file_error(path: &Path, problem: &std::io::Error) -> Error {
    Error::File { path: path.display().to_string(), problem: problem.to_string() }
}
