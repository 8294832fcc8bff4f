//! IDX files, the format of MNIST: two bytes 0, the type, the number n of dimensions, n big-endian 32-bit sizes, the values.
//!
//! Only type 0x08, unsigned eight-bit values, is supported; all published IDX data sets use it. With feature `gzip` a gzipped
//! stream is recognised by its first two bytes and unpacked while it is read.

use super::{
    Reading, eight_bit, read_unpacked,
    table::{Numbers, Table},
};
use crate::{
    dataset::Dataset,
    error::{Error, Result},
    storage::{expect_end, format_error, read_exactly, read_part},
};
use std::{io::Read, ops::Range};

/// The greatest number of bytes that [`read_idx`] reads, 4 GiB: about 90 times MNIST. It also limits what a gzipped stream unpacks to.
pub const MAX_BYTES: u64 = 1 << 32;

/// The contents of an IDX file.
#[derive(Clone, Debug, PartialEq)]
pub struct Idx {
    dimensions: Vec<usize>,
    values: Vec<u8>,
}

/// Reads an IDX file; `source_name` is its name in errors.
///
/// Memory grows with the bytes that arrive. It never exceeds the product of the sizes, which is at most [`MAX_BYTES`].
///
/// # Errors
/// [`Error::Format`] if the stream is not an IDX file of eight-bit values, or if it is shorter or longer than its sizes say;
/// [`Error::File`] if it cannot be read.
///
/// ```
/// use harmonium::idx::read_idx;
///
/// let file = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 0, 51, 102, 153, 204, 255];
/// let idx = read_idx(&file[..], "two rows")?;
/// assert_eq!(idx.dimensions(), [2, 3]);
/// assert_eq!(idx.into_dataset()?.rows().to_vec(), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
/// # Ok::<(), harmonium::Error>(())
/// ```
pub fn read_idx(reader: impl Read, source_name: &str) -> Result<Idx> {
    read_idx_within(reader, source_name, MAX_BYTES)
}

/// [`read_idx`] with a limit other than [`MAX_BYTES`]: refuses a stream with more than `max_bytes` values, once its header has
/// been read.
///
/// # Errors
/// Those of [`read_idx`].
pub fn read_idx_within(reader: impl Read, source_name: &str, max_bytes: u64) -> Result<Idx> {
    Ok(read_some(reader, source_name, max_bytes, |rows| 0..rows)?.0)
}

/// Keeps a part of the rows, by their number, and skips the others. Also returns the number of all rows.
pub(super) fn read_some(
    reader: impl Read, source_name: &str, max_bytes: u64, part: impl Fn(usize) -> Range<usize>,
) -> Result<(Idx, usize)> {
    read_unpacked(reader, source_name, |reader| read_plain(reader, source_name, max_bytes, part))
}

fn read_plain(
    mut reader: &mut dyn Read, source_name: &str, max_bytes: u64, part: impl Fn(usize) -> Range<usize>,
) -> Result<(Idx, usize)> {
    let magic = read_exactly(&mut reader, 4, "IDX header", source_name)?;
    if magic[..2] != [0, 0] {
        return Err(format_error(
            source_name,
            "an IDX file, which begins with two bytes 0",
            format!("{:02x?}", &magic[..2]),
        ));
    }
    if magic[2] != 0x08 {
        let name = match magic[2] {
            0x09 => "signed eight-bit values",
            0x0b => "16-bit integers",
            0x0c => "32-bit integers",
            0x0d => "32-bit floating-point numbers",
            0x0e => "64-bit floating-point numbers",
            _ => "no type of the IDX format",
        };
        return Err(format_error(
            source_name,
            "IDX values of type 0x08, eight bits unsigned",
            format!("0x{:02x}, {name}", magic[2]),
        ));
    }
    let n_dimensions = usize::from(magic[3]);
    if n_dimensions == 0 {
        return Err(format_error(source_name, "at least one dimension", "none"));
    }
    let sizes = read_exactly(&mut reader, 4 * n_dimensions, "IDX header", source_name)?;
    let sizes = || sizes.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let len = sizes()
        .try_fold(1u64, |product, size| product.checked_mul(u64::from(size)))
        .filter(|&len| len <= max_bytes)
        .and_then(|len| usize::try_from(len).ok())
        .ok_or_else(|| {
            let found: Vec<_> = sizes().map(|size| size.to_string()).collect();
            format_error(source_name, format!("at most {max_bytes} values"), found.join(" × "))
        })?;
    let mut dimensions: Vec<_> = sizes().map(|size| size as usize).collect();
    let rows = dimensions[0];
    let part = part(rows);
    let row = len.checked_div(rows).unwrap_or(0);
    let values = read_part(&mut reader, len, part.start * row..part.end * row, "IDX values", source_name)?;
    expect_end(&mut reader, source_name)?;
    dimensions[0] = part.len();
    Ok((Idx { dimensions, values }, rows))
}

/// Reads an IDX file as rows.
pub(super) fn read_table(reader: &mut dyn Read, source_name: &str, how: &Reading) -> Result<Table> {
    Ok(read_table_part(reader, source_name, how, |rows| 0..rows)?.0)
}

/// Reads a part of an IDX file as rows. Also returns the number of all rows.
pub(super) fn read_table_part(
    reader: impl Read, source_name: &str, how: &Reading, part: impl Fn(usize) -> Range<usize>,
) -> Result<(Table, usize)> {
    let (idx, rows) = read_some(reader, source_name, how.max_bytes.min(MAX_BYTES), part)?;
    let columns = idx.columns().map_err(|problem| match problem {
        Error::Argument { expected, found, .. } => format_error(source_name, expected, found),
        other => other,
    })?;
    Ok((Table { img_shape: idx.image(), ..Table::new(Numbers::Bytes(idx.values), columns) }, rows))
}

impl Idx {
    /// The sizes of all dimensions, at least one.
    pub fn dimensions(&self) -> &[usize] {
        &self.dimensions
    }

    /// All values; the last dimension varies fastest.
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// Height and width of the images, if there are three dimensions.
    pub fn image(&self) -> Option<(usize, usize)> {
        match self.dimensions[..] {
            [_, height, width] => Some((height, width)),
            _ => None,
        }
    }

    /// Converts the values to rows. The first dimension counts the rows; the product of the others is the number of values a row.
    /// x stands for x/255, or for a bit if the greatest value is 1.
    ///
    /// # Errors
    /// [`Error::Argument`] if rows would have no values, or more than can be counted.
    pub fn into_dataset(self) -> Result<Dataset> {
        let units = self.columns()?;
        Ok(eight_bit(self.values, units)?.0)
    }

    /// The number of values in a row.
    fn columns(&self) -> Result<usize> {
        // Without rows, the number of values in the file puts no bound on the sizes of a row.
        let units = self.dimensions[1..].iter().try_fold(1, |units: usize, &size| units.checked_mul(size));
        units.filter(|&units| units > 0).ok_or_else(|| {
            let expected = "IDX dimensions with at least one value in a row, and rows that fit in memory".into();
            Error::Argument { what: "rows", expected, found: format!("{:?}", self.dimensions) }
        })
    }

    /// Converts the values to labels, one for each row.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is more than one dimension.
    pub fn into_labels(self) -> Result<Vec<u8>> {
        match self.dimensions[..] {
            [_] => Ok(self.values),
            _ => Err(Error::Argument {
                what: "labels",
                expected: "one dimension".into(),
                found: self.dimensions.len().to_string(),
            }),
        }
    }
}
