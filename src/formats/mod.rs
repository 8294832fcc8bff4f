//! Files of data: what recognises them by their first bytes, and one module for each format.
//!
//! | module | files | rows |
//! |---|---|---|
//! | [`idx`] | IDX | the first dimension counts them |
//! | [`npy`] | NumPy's arrays of two dimensions | as in the array |
//! | [`fasta`] | aligned sequences of RNA, DNA or proteins | a sequence each, a unit for each letter of each site |
//! | [`mnist`] | a folder of IDX files under MNIST's names | its training, validation or test rows |
//!
//! With feature `gzip` each file may be gzipped. A new format is one module that reads it as a table of numbers and one line of
//! `FORMATS` in this file.

pub mod fasta;
pub mod idx;
pub mod mnist;
pub mod npy;
mod table;

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

/// A format whose files hold rows.
struct Format {
    name: &'static str,
    /// The bytes with which its files begin.
    start: &'static [u8],
    /// Reads a stream, which has a name in errors, in at most so many bytes of memory.
    read: fn(&mut dyn Read, &str, u64) -> Result<Table>,
}

const FORMATS: [Format; 3] = [
    Format { name: "an IDX file", start: &[0, 0], read: idx::read_table },
    Format { name: "an npy file", start: &npy::MAGIC, read: npy::read_table },
    Format { name: "a FASTA file", start: &fasta::START, read: fasta::read_table },
];

/// What numbers are expected where nobody has said other laws, in the words of errors.
pub const UNIT_INTERVAL: &str = "values within [0, 1]";

/// The first two bytes of a gzipped stream.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What a file of data holds. Later versions may find more in it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Images {
    /// At least one row.
    pub rows: Dataset,
    /// Height and width of the image in each row, if the file says so.
    pub img_shape: Option<(usize, usize)>,
    /// What the reader took the file for where the file does not say it, in one line for its user.
    pub assumed: Option<String>,
}

/// Opens data: all rows of a file, or of a folder of MNIST's files the training rows ([`Split::Train`]).
///
/// # Errors
/// [`Error::File`](crate::Error::File) if the path cannot be read, [`Error::Format`](crate::Error::Format) if it has no
/// format of this module, is damaged, or has no row. Both name the file.
///
/// ```no_run
/// let images = harmonium::formats::open("data/mnist/t10k-images-idx3-ubyte.gz")?;
/// assert_eq!((images.rows.len(), images.rows.units(), images.img_shape), (10_000, 784, Some((28, 28))));
/// # Ok::<(), harmonium::Error>(())
/// ```
pub fn open(path: impl AsRef<Path>) -> Result<Images> {
    open_within(path, u64::MAX)
}

/// [`open`] with a limit: a file that needs more than `max_bytes` of memory is refused when its header has been read.
///
/// # Errors
/// Those of [`open`].
pub fn open_within(path: impl AsRef<Path>, max_bytes: u64) -> Result<Images> {
    open_as(path, None, max_bytes)
}

/// [`open_within`] for visible units of these laws, where they are given: a row has a value for each unit, or a number of a
/// state, counted from 0, for each Potts site. Of MNIST's files the labels are the last column where there is one more than
/// pixels.
///
/// Eight-bit values x of binary units stand for x/255, or for bits where none is greater than 1; those of Gaussian units are
/// numbers.
///
/// # Errors
/// Those of [`open`]; [`Error::Format`](crate::Error::Format) where rows do not fit the laws.
pub fn open_as(path: impl AsRef<Path>, visible: Option<Segments>, max_bytes: u64) -> Result<Images> {
    let path = path.as_ref();
    match path.metadata() {
        Ok(found) if found.is_dir() => mnist::open_as(path, Split::Train, visible, max_bytes),
        Ok(_) => as_images(open_table(path, max_bytes)?, visible, &path.display().to_string(), max_bytes),
        Err(problem) => Err(file_error(path, problem)),
    }
}

fn as_images(table: Table, visible: Option<Segments>, source_name: &str, max_bytes: u64) -> Result<Images> {
    match visible {
        Some(visible) => table.into_rows(visible, source_name, max_bytes),
        None => table.into_images(source_name),
    }
}

fn open_table(path: &Path, max_bytes: u64) -> Result<Table> {
    let file = File::open(path).map_err(|problem| file_error(path, problem))?;
    read_table(BufReader::new(file), &path.display().to_string(), max_bytes)
}

/// Reads all rows of a stream in any format of this module, in at most `max_bytes` of memory; `source_name` is its name in
/// errors.
///
/// # Errors
/// Those of [`open`].
pub fn read_within(reader: impl Read, source_name: &str, max_bytes: u64) -> Result<Images> {
    read_table(reader, source_name, max_bytes)?.into_images(source_name)
}

fn read_table(reader: impl Read, source_name: &str, max_bytes: u64) -> Result<Table> {
    unpacked(reader, source_name, |mut reader| {
        let longest = FORMATS.iter().map(|format| format.start.len()).max().unwrap_or(0);
        let start = beginning(&mut reader, longest, source_name)?;
        let Some(format) = FORMATS.iter().find(|format| start.starts_with(format.start)) else {
            let expected = format!("{}, gzipped or not", FORMATS.map(|format| format.name).join(", or "));
            return Err(format_error(source_name, expected, format!("a file that begins with {start:02x?}")));
        };
        let table = (format.read)(&mut start.as_slice().chain(reader), source_name, max_bytes)?;
        match table.len() {
            0 => Err(format_error(source_name, "at least one row", "none")),
            _ => Ok(table),
        }
    })
}

/// The first bytes of a stream, fewer where it ends before.
fn beginning(reader: &mut dyn Read, len: usize, source_name: &str) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    reader.take(len as u64).read_to_end(&mut start).map_err(|problem| stream_error(source_name, problem))?;
    Ok(start)
}

/// What `read` makes of a stream, unpacked if it is gzipped.
fn unpacked<T>(mut reader: impl Read, source_name: &str, read: impl FnOnce(&mut dyn Read) -> Result<T>) -> Result<T> {
    let start = beginning(&mut reader, GZIP.len(), source_name)?;
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
    /// Opens data: all rows of a file, or of a folder of MNIST's files the training rows. The same as
    /// [`formats::open`](open) without the shape of the images.
    ///
    /// # Errors
    /// Those of [`formats::open`](open).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(open(path)?.rows)
    }
}
