//! Folders with MNIST's files: IDX images and labels for training and test, each gzipped or not. Both spellings of their names are
//! accepted (`train-images-idx3-ubyte`, `train-images.idx3-ubyte`).

use super::{Images, LabelSource, Reading, idx, labels, table::Table};
use crate::{
    error::Result,
    names::names,
    storage::{file_error, format_error},
};
use std::{
    fs::File,
    io::BufReader,
    ops::Range,
    path::{Path, PathBuf},
};

/// The number of rows of the training file that are used for training. The rows after them, 10 000 for MNIST, are for validation. This
/// is the split of the Deep Learning Tutorials.
pub const TRAINING_ROWS: usize = 50_000;

/// The files that [`open`] expects in a folder, as errors print it.
pub const EXPECTED: &str = "a folder with MNIST's files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, \
                            t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz (.gz or unpacked; labels are not needed)";

/// A part of MNIST. Later versions may add variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Split {
    /// The first [`TRAINING_ROWS`] rows of the training file, or all if there are fewer.
    Train,
    /// The other rows of the training file.
    Validation,
    /// The rows of the test file.
    Test,
}

names!(Split, "split", Train = "train", Validation = "validation", Test = "test");

/// Opens a part of a folder of MNIST's files.
///
/// Reads images only; [`open_with`] reads labels too. Still, the number of labels must be that of the images, as a difference means
/// that files of different data sets were mixed up.
///
/// # Errors
/// [`Error::File`](crate::Error::File) if a file cannot be read, [`Error::Format`](crate::Error::Format) if the folder has no
/// file for this part, the part has no rows, or a file is damaged. Both name the folder or file.
///
/// ```no_run
/// use harmonium::formats::mnist::{self, Split};
///
/// assert_eq!(mnist::open("data/mnist", Split::Validation)?.rows.len(), 10_000);
/// # Ok::<(), harmonium::Error>(())
/// ```
pub fn open(folder: impl AsRef<Path>, split: Split) -> Result<Images> {
    open_within(folder, split, u64::MAX)
}

/// [`open`] with a limit of memory: refuses a file that needs more than `max_bytes`, once its header has been read.
///
/// # Errors
/// Those of [`open`].
pub fn open_within(folder: impl AsRef<Path>, split: Split, max_bytes: u64) -> Result<Images> {
    open_with(folder, split, &Reading { max_bytes, ..Reading::default() })
}

/// [`open`] with options ([`Reading`]).
///
/// Labels come from the file of labels. If the laws have one more visible unit or site than there are pixels and no labels are asked
/// for, the labels become the last column of the rows.
///
/// # Errors
/// Those of [`open`], and [`Error::Format`](crate::Error::Format) if rows do not fit the laws.
pub fn open_with(folder: impl AsRef<Path>, split: Split, how: &Reading) -> Result<Images> {
    let (folder, visible, max_bytes) = (folder.as_ref(), how.visible, how.max_bytes);
    let fail = |expected: String, found: String| format_error(&folder.display().to_string(), expected, found);
    let (set, name) = if split == Split::Test { ("t10k", "test") } else { ("train", "training") };
    let part = |rows: usize| match split {
        Split::Train => 0..rows.min(TRAINING_ROWS),
        Split::Validation => rows.min(TRAINING_ROWS)..rows,
        Split::Test => 0..rows,
    };
    let Part { mut table, labels, rows } =
        images(folder, set, how, part)?.ok_or_else(|| fail(EXPECTED.into(), format!("no {name} images")))?;
    if split == Split::Validation && rows <= TRAINING_ROWS {
        let expected = format!("more than {TRAINING_ROWS} training rows, of which the others are for validation");
        return Err(fail(expected, rows.to_string()));
    }
    let is_wider = visible.is_some_and(|visible| [visible.units(), visible.sites()].iter().all(|&n| n > table.columns));
    let is_asked_for = how.labels == LabelSource::Own || how.labels == LabelSource::IfOwn && labels.is_some();
    if is_wider || is_asked_for {
        let labels = labels.ok_or_else(|| fail(EXPECTED.into(), format!("no {name} labels")))?;
        if !is_wider {
            let mut named = labels::Builder::default();
            labels.iter().for_each(|label| named.push(Some(&label.to_string())));
            table.labels = Some(named.finish());
        } else {
            table = table.with_column(&labels);
        }
    }
    match &how.labels {
        LabelSource::Column(column) => table.take_labels(column, &folder.display().to_string())?,
        LabelSource::File(path) => {
            let mut labels = super::open_labels(path, rows, max_bytes)?;
            labels.keep(part(rows));
            table.labels = Some(labels);
        }
        LabelSource::Own | LabelSource::IfOwn | LabelSource::None => {}
    }
    table.read(how, &folder.display().to_string())
}

/// Returns true if a folder has a file of test images.
///
/// # Errors
/// [`Error::File`](crate::Error::File) with the operating system's message.
pub fn has_test(folder: impl AsRef<Path>) -> Result<bool> {
    Ok(find(folder.as_ref(), "t10k", "images", 3)?.is_some())
}

/// A part of the images of one set, their labels if there are any, and the number of all images.
struct Part {
    table: Table,
    labels: Option<Vec<u8>>,
    rows: usize,
}

/// Reads a part of the images of one set, given by their number.
fn images(folder: &Path, set: &str, how: &Reading, part: impl Fn(usize) -> Range<usize>) -> Result<Option<Part>> {
    let Some(path) = find(folder, set, "images", 3)? else { return Ok(None) };
    let file = File::open(&path).map_err(|problem| file_error(&path, problem))?;
    let (table, rows) = idx::read_table_part(BufReader::new(file), &path.display().to_string(), how, &part)?;
    let mut all_labels = None;
    if let Some(labels) = find(folder, set, "labels", 1)? {
        let (file, name) = (File::open(&labels).map_err(|problem| file_error(&labels, problem))?, labels.display());
        let found = idx::read_idx_within(BufReader::new(file), &name.to_string(), how.max_bytes.min(idx::MAX_BYTES))?;
        if found.dimensions() != [rows] {
            let expected = format!("{rows} labels, as many as {} has rows", path.display());
            return Err(format_error(&name.to_string(), expected, format!("dimensions {:?}", found.dimensions())));
        }
        all_labels = Some(found.into_labels()?[part(rows)].to_vec());
    }
    Ok(Some(Part { table, labels: all_labels, rows }))
}

/// Finds a file of one set under any of its possible names.
fn find(folder: &Path, set: &str, kind: &str, dimensions: u32) -> Result<Option<PathBuf>> {
    for separator in ['-', '.'] {
        for ending in ["", ".gz"] {
            let file = folder.join(format!("{set}-{kind}{separator}idx{dimensions}-ubyte{ending}"));
            if file.try_exists().map_err(|problem| file_error(&file, problem))? {
                return Ok(Some(file));
            }
        }
    }
    Ok(None)
}
