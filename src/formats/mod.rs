//! Readers of data files, one module for each format. Most formats are recognised by their first bytes, tables of text by the
//! ending of their names.
//!
//! | module | files | rows |
//! |---|---|---|
//! | [`idx`] | IDX | along the first dimension |
//! | [`npy`] | NumPy's arrays | along the first dimension |
//! | [`npz`] | NumPy's archives of arrays, with feature `npz` | those of one array |
//! | [`parquet`] | Parquet, with feature `parquet` | those of the table |
//! | [`text`] | `.csv`, `.tsv`, `.txt`, `.data`: numbers between commas, tabs, semicolons or blanks, with feature `csv` | one a line |
//! | [`svmlight`] | `.svm`, `.svmlight`, `.libsvm`: a label and the nonzero values | one a line |
//! | [`fasta`] | aligned sequences of RNA, DNA or proteins | one a sequence, with a unit for each letter of each site |
//! | [`mnist`] | a folder of IDX files under MNIST's names | the training, validation or test rows |
//!
//! With feature `gzip` each file may be gzipped. A value is missing if it is NaN, or a field of text that is empty, `NA` or `?`.
//!
//! [`open`] and [`Dataset::open`] read a file with default options. [`Reading`] sets options: the laws of the units, the array of
//! an archive, the labels, a limit of memory.
//!
//! ```
//! use harmonium::formats::{LabelSource, Reading};
//!
//! let text = "+1 1:0.5 3:1\n-1 2:0.25\n";
//! let how = Reading { labels: LabelSource::Own, ..Reading::default() };
//! let images = how.read(text.as_bytes(), "two.svm")?;
//! assert_eq!(images.rows.rows().to_vec(), [0.5, 0.0, 1.0, 0.0, 0.25, 0.0]);
//! assert_eq!(images.labels.unwrap().names(), ["-1", "1"]);
//! # Ok::<(), harmonium::Error>(())
//! ```
//!
//! To add a format, write one module that reads it as a table of numbers, and add one line to `FORMATS` in this file.

pub mod fasta;
pub mod idx;
pub mod labels;
pub mod mnist;
pub mod npy;
pub mod npz;
pub mod parquet;
pub mod svmlight;
mod table;
pub mod text;

pub use labels::{Column, LabelSource, Labels};

use crate::{
    dataset::Dataset,
    error::Result,
    storage::{file_error, format_error, stream_error},
    units::Segments,
};
use mnist::Split;
use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};
use table::{Table, eight_bit};

/// A file format that holds rows.
struct Format {
    name: &'static str,
    by: Recognition,
    /// Reads a stream; the second argument is its name in errors.
    read: fn(&mut dyn Read, &str, &Reading) -> Result<Table>,
}

/// How a format is recognised.
enum Recognition {
    /// By the first bytes of the file.
    Start(&'static [u8]),
    /// By the ending of the file's name, before `.gz`.
    Ending(&'static [&'static str]),
}

const FORMATS: [Format; 7] = [
    Format { name: "an IDX file", by: Recognition::Start(&[0, 0]), read: idx::read_table },
    Format { name: "an npy file", by: Recognition::Start(&npy::MAGIC), read: npy::read_table },
    Format { name: "an npz file", by: Recognition::Start(&npz::START), read: npz::read_table },
    Format { name: "a Parquet file", by: Recognition::Start(b"PAR1"), read: parquet::read_table },
    Format { name: "a FASTA file", by: Recognition::Start(&fasta::START), read: fasta::read_table },
    Format {
        name: "text named *.csv, *.tsv, *.txt or *.data",
        by: Recognition::Ending(&text::ENDINGS),
        read: text::read_table,
    },
    Format {
        name: "*.svm, *.svmlight or *.libsvm",
        by: Recognition::Ending(&svmlight::ENDINGS),
        read: svmlight::read_table,
    },
];

/// The range of values that is expected if no laws are given, as errors print it.
pub const UNIT_INTERVAL: &str = "values within [0, 1]";

/// The first two bytes of a gzipped stream.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The contents of a data file. Later versions may add fields.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Images {
    /// At least one row.
    pub rows: Dataset,
    /// Height and width of the image in each row, if the file says so.
    pub img_shape: Option<(usize, usize)>,
    /// The assumptions of the reader about what the file leaves open (for example that eight-bit values are bits), and the number of
    /// missing values: one line to show to the user.
    pub assumed: Option<String>,
    /// The labels of the rows, if [`Reading::labels`] asks for them.
    pub labels: Option<Labels>,
}

/// Options for reading a data file.
///
/// ```no_run
/// use harmonium::formats::{LabelSource, Reading};
///
/// let how = Reading { labels: LabelSource::Own, ..Reading::default() };
/// let images = how.open("data/mnist")?;
/// let labels = images.labels.expect("as asked for");
/// assert_eq!(labels.names().len(), 10);
/// let rows = labels.beside(&images.rows)?;
/// assert_eq!(rows.segments().to_string(), "binary:784,potts:1x10");
/// # Ok::<(), harmonium::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The laws of the visible units, without the labels, if they differ from the file's own. Each row of the file must have either one
    /// value for each unit, or one for each site; a Potts site's single value is the number of its state, counted from 0.
    ///
    /// An eight-bit value x of a binary unit stands for x/255, or for a bit if no value of its segment exceeds 1. Eight-bit values of
    /// Gaussian units are used as they are.
    pub visible: Option<Segments>,
    /// Reads values as numbers of Gaussian units instead of values within [0, 1], if neither `visible` nor the file gives laws.
    pub as_numbers: bool,
    /// The limit of memory in bytes. A file that needs more is refused, in most formats as soon as its header has been read.
    pub max_bytes: u64,
    /// The name of the array to read from an npz file.
    pub array: Option<String>,
    /// Where to find the labels of the rows.
    pub labels: LabelSource,
    /// The file holds labels only, so that an array may have one dimension.
    pub is_labels: bool,
}

impl Default for Reading {
    /// Reads all rows with the file's own laws, without labels and without a limit of memory.
    fn default() -> Self {
        let (visible, array, labels) = Default::default();
        Self { visible, as_numbers: false, max_bytes: u64::MAX, array, labels, is_labels: false }
    }
}

impl Reading {
    /// Opens data. Reads all rows of a file, or the training rows ([`Split::Train`]) of a folder with MNIST's files.
    ///
    /// # Errors
    /// Those of [`open`]; [`Error::Format`](crate::Error::Format) if rows do not fit the laws, or the file lacks the array or the
    /// labels that the options name.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Images> {
        let path = path.as_ref();
        match path.metadata() {
            Ok(found) if found.is_dir() => mnist::open_with(path, Split::Train, self),
            Ok(_) => open_table(path, self)?.read(self, &path.display().to_string()),
            Err(problem) => Err(file_error(path, problem)),
        }
    }

    /// Reads all rows of a stream in any format of this module except a folder.
    ///
    /// `source_name` names the stream in errors; its ending identifies tables of text. [`LabelSource::File`] is ignored.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn read(&self, reader: impl Read, source_name: &str) -> Result<Images> {
        read_table(reader, source_name, self)?.read(self, source_name)
    }
}

/// Opens data. Reads all rows of a file, or the training rows ([`Split::Train`]) of a folder with MNIST's files.
///
/// # Errors
/// [`Error::File`](crate::Error::File) if the path cannot be read, [`Error::Format`](crate::Error::Format) if its format is
/// unknown, or if it is damaged or has no rows. Both name the file.
///
/// ```no_run
/// let images = harmonium::formats::open("data/mnist/t10k-images-idx3-ubyte.gz")?;
/// assert_eq!((images.rows.len(), images.rows.units(), images.img_shape), (10_000, 784, Some((28, 28))));
/// # Ok::<(), harmonium::Error>(())
/// ```
pub fn open(path: impl AsRef<Path>) -> Result<Images> {
    Reading::default().open(path)
}

/// [`open`] with a limit of memory: refuses a file that needs more than `max_bytes`, once its header has been read.
///
/// # Errors
/// Those of [`open`].
pub fn open_within(path: impl AsRef<Path>, max_bytes: u64) -> Result<Images> {
    Reading { max_bytes, ..Reading::default() }.open(path)
}

/// Reads a file as numbers, with its labels if they are asked for.
fn open_table(path: &Path, how: &Reading) -> Result<Table> {
    let mut table = read_path(path, how)?;
    if let LabelSource::File(labels) = &how.labels {
        table.labels = Some(open_labels(labels, table.len(), how.max_bytes)?);
    }
    Ok(table)
}

fn read_path(path: &Path, how: &Reading) -> Result<Table> {
    let file = File::open(path).map_err(|problem| file_error(path, problem))?;
    read_table(BufReader::new(file), &path.display().to_string(), how)
}

/// Reads `rows` labels from a file with one column.
fn open_labels(path: &Path, rows: usize, max_bytes: u64) -> Result<Labels> {
    let name = path.display().to_string();
    let labels = LabelSource::Column(Column::Number(0));
    let table = read_path(path, &Reading { labels, is_labels: true, max_bytes, ..Reading::default() })?;
    let fail = |expected: String, found: String| Err(format_error(&name, expected, found));
    let labels = match (table.columns, table.labels) {
        (0, Some(labels)) => labels,
        (columns, _) => return fail("one column of labels".into(), (columns + 1).to_string()),
    };
    // The first line of a column of words may be a header or a label; only the number of lines tells them apart.
    let has_header = labels.states().len() == rows + 1 && Recognition::Ending(&text::ENDINGS).matches(&[], &name);
    let labels = if has_header { labels.without_first() } else { labels };
    match labels.states().len() {
        n if n == rows => Ok(labels),
        n => fail(format!("{rows} labels, as many as there are rows"), n.to_string()),
    }
}

/// Reads all rows of a stream in any format of this module, with at most `max_bytes` of memory. `source_name` names the stream in
/// errors; its ending identifies tables of text.
///
/// # Errors
/// Those of [`open`].
pub fn read_within(reader: impl Read, source_name: &str, max_bytes: u64) -> Result<Images> {
    Reading { max_bytes, ..Reading::default() }.read(reader, source_name)
}

fn read_table(reader: impl Read, source_name: &str, how: &Reading) -> Result<Table> {
    read_unpacked(reader, source_name, |mut reader| {
        let longest = FORMATS.iter().map(|format| format.by.start().len()).max().unwrap_or(0);
        let start = first_bytes(&mut reader, longest, source_name)?;
        let Some(format) = FORMATS.iter().find(|format| format.by.matches(&start, source_name)) else {
            let expected = format!("{}, gzipped or not", FORMATS.map(|format| format.name).join(", or "));
            let found = format!("a file that begins with {start:02x?}");
            return Err(format_error(source_name, expected, found));
        };
        if let Some(array) = how.array.as_ref().filter(|_| format.by.start() != npz::START) {
            return Err(format_error(source_name, format!("an npz file with an array {array}"), format.name));
        }
        let mut table = (format.read)(&mut start.as_slice().chain(reader), source_name, how)?;
        if table.len() == 0 {
            return Err(format_error(source_name, "at least one row", "none"));
        }
        match &how.labels {
            LabelSource::Column(column) if table.labels.is_none() => table.take_labels(column, source_name)?,
            LabelSource::Own if table.labels.is_none() => {
                let expected = "a file with labels of its own: MNIST's folder, an svmlight file or an npz file with y_train, y, \
                                labels or target";
                return Err(format_error(source_name, expected, "none"));
            }
            _ => {}
        }
        if table.columns == 0 && !how.is_labels {
            return Err(format_error(source_name, "at least one column besides the labels", "none"));
        }
        Ok(table)
    })
}

impl Recognition {
    fn start(&self) -> &'static [u8] {
        match self {
            Recognition::Start(start) => start,
            Recognition::Ending(_) => &[],
        }
    }

    /// Returns true if a file with these first bytes and this name has the format.
    fn matches(&self, start: &[u8], name: &str) -> bool {
        match self {
            Recognition::Start(begins) => start.starts_with(begins),
            Recognition::Ending(endings) => {
                let name = name.to_ascii_lowercase();
                let name = name.strip_suffix(".gz").unwrap_or(&name);
                endings.iter().any(|ending| name.ends_with(ending))
            }
        }
    }
}

/// Reads the first `len` bytes of a stream, or all of it if it is shorter.
fn first_bytes(reader: &mut dyn Read, len: usize, source_name: &str) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    reader.take(len as u64).read_to_end(&mut start).map_err(|problem| stream_error(source_name, problem))?;
    Ok(start)
}

/// Calls `read` on a stream, which is unpacked first if it is gzipped.
fn read_unpacked<T>(
    mut reader: impl Read, source_name: &str, read: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    let start = first_bytes(&mut reader, GZIP.len(), source_name)?;
    let mut whole = start.as_slice().chain(reader);
    if start != GZIP {
        return read(&mut whole);
    }
    #[cfg(feature = "gzip")]
    return read(&mut flate2::read::MultiGzDecoder::new(whole));
    #[cfg(not(feature = "gzip"))]
    Err(format_error(source_name, "a file that is not gzipped, or harmonium with its feature `gzip`", "a gzipped one"))
}

impl Dataset {
    /// Opens data. Reads all rows of a file, or the training rows of a folder with MNIST's files.
    ///
    /// The same as [`formats::open`](open) without labels and the shape of the images. [`formats`](crate::formats) lists the formats.
    ///
    /// ```no_run
    /// let images = harmonium::Dataset::open("data/mnist/t10k-images-idx3-ubyte.gz")?;
    /// assert_eq!((images.len(), images.units()), (10_000, 784));
    /// # Ok::<(), harmonium::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`formats::open`](open).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(open(path)?.rows)
    }
}
