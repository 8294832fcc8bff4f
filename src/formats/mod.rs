//! Files of data: what recognises them by their first bytes, and one module for each format.
//!
//! | module | files | rows |
//! |---|---|---|
//! | [`idx`] | IDX, gzipped or not | the first dimension counts them |
//! | [`npy`] | NumPy's arrays of two dimensions | as in the array |
//! | [`mnist`] | a folder of IDX files under MNIST's names | its training, validation or test rows |
//!
//! A new format is one module that reads it as [`Images`] and one line of the table `FORMATS` in this file.

pub mod idx;
pub mod mnist;
pub mod npy;

use crate::{
    dataset::Dataset,
    error::Result,
    storage::{file_error, format_error, stream_error},
};
use mnist::Split;
use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

/// A format whose files hold rows.
struct Format {
    name: &'static str,
    /// The bytes with which its files begin, one of these.
    starts: &'static [&'static [u8]],
    /// Reads a stream, which has a name in errors, in at most so many bytes of memory.
    read: fn(&mut dyn Read, &str, u64) -> Result<Images>,
}

const FORMATS: [Format; 2] = [
    Format { name: "an IDX file, gzipped or not", starts: &[&[0, 0], &idx::GZIP], read: idx::read_images },
    Format { name: "an npy file", starts: &[&npy::MAGIC], read: npy::read_images },
];

/// What a file of data holds. Later versions may find more in it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Images {
    /// At least one row.
    pub rows: Dataset,
    /// Height and width of the image in each row, if the file says so.
    pub img_shape: Option<(usize, usize)>,
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
    let path = path.as_ref();
    match path.metadata() {
        Ok(found) if found.is_dir() => mnist::open_within(path, Split::Train, max_bytes),
        Ok(_) => open_file(path, max_bytes),
        Err(problem) => Err(file_error(path, problem)),
    }
}

fn open_file(path: &Path, max_bytes: u64) -> Result<Images> {
    let file = File::open(path).map_err(|problem| file_error(path, problem))?;
    read_within(BufReader::new(file), &path.display().to_string(), max_bytes)
}

/// Reads all rows of a stream in any format of this module, in at most `max_bytes` of memory; `source_name` is its name in
/// errors.
///
/// # Errors
/// Those of [`open`].
pub fn read_within(mut reader: impl Read, source_name: &str, max_bytes: u64) -> Result<Images> {
    let longest = FORMATS.iter().flat_map(|format| format.starts).map(|start| start.len()).max().unwrap_or(0);
    let mut start = Vec::new();
    let came = reader.by_ref().take(longest as u64).read_to_end(&mut start);
    came.map_err(|problem| stream_error(source_name, problem))?;
    let Some(format) = FORMATS.iter().find(|format| format.starts.iter().any(|bytes| start.starts_with(bytes))) else {
        let expected = FORMATS.map(|format| format.name).join(", or ");
        return Err(format_error(source_name, expected, format!("a file that begins with {start:02x?}")));
    };
    let images = (format.read)(&mut start.as_slice().chain(reader), source_name, max_bytes)?;
    match images.rows.len() {
        0 => Err(format_error(source_name, "at least one row", "none")),
        _ => Ok(images),
    }
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
