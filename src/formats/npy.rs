//! NumPy's `.npy` files: matrices with a row for each example.
//!
//! Read are format versions 1.0, 2.0 and 3.0, two dimensions, C order, and four types:
//!
//! | type | becomes |
//! |---|---|
//! | `\|u1` | stays eight-bit, x stands for x/255; where the greatest value is 1, for a bit |
//! | `\|b1` | eight-bit, False is 0 and True is 255 |
//! | `<f4` | `f32`; every value must lie within [0, 1], but for [other laws](super::open_as) |
//! | `<f8` | rounded to `f32`, likewise |
//!
//! Whatever else a header says is refused with what it says: a guess would train on the wrong numbers.

use super::table::{Numbers, Table};
use crate::{
    dataset::Dataset,
    error::{Result, shown},
    storage::{expect_end, format_error, read_exactly, write_atomically},
};
use std::{io::Read, path::Path};

/// What a `.npy` file begins with.
pub const MAGIC: [u8; 6] = *b"\x93NUMPY";
/// The longest header that is read; NumPy's own for a matrix has 118 bytes.
const MAX_HEADER: usize = 1 << 16;

/// Reads a `.npy` file as rows; `source_name` is its name in errors.
///
/// # Errors
/// [`Error::Format`](crate::Error::Format) if the stream is no such file as the module describes, a value is out of range, or
/// it ends before or after its last value; [`Error::File`](crate::Error::File) if it cannot be read.
pub fn read_npy(reader: impl Read, source_name: &str) -> Result<Dataset> {
    read_npy_within(reader, source_name, isize::MAX as u64)
}

/// [`read_npy`] with a limit: an array that takes more than `max_bytes` of memory while it is read is refused when its header
/// has been read.
///
/// # Errors
/// Those of [`read_npy`].
pub fn read_npy_within(mut reader: impl Read, source_name: &str, max_bytes: u64) -> Result<Dataset> {
    Ok(read_table(&mut reader, source_name, max_bytes)?.into_images(source_name)?.rows)
}

/// An npy file as numbers, for the table of formats.
pub(super) fn read_table(mut reader: &mut dyn Read, source_name: &str, max_bytes: u64) -> Result<Table> {
    let fail = |expected: &str, found: String| format_error(source_name, expected, found);
    let start = read_exactly(&mut reader, 8, "npy header", source_name)?;
    if start[..6] != MAGIC {
        return Err(fail("an npy file, which begins with 93 4e 55 4d 50 59", format!("{:02x?}", &start[..6])));
    }
    let wide = match start[6..] {
        [1, 0] => false,
        [2 | 3, 0] => true,
        _ => return Err(fail("npy format 1.0, 2.0 or 3.0", format!("{}.{}", start[6], start[7]))),
    };
    let length = read_exactly(&mut reader, if wide { 4 } else { 2 }, "npy header", source_name)?;
    let length = length.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    if length > MAX_HEADER {
        return Err(fail("an npy header of at most 65536 bytes", length.to_string()));
    }
    let header = read_exactly(&mut reader, length, "npy header", source_name)?;
    let header = String::from_utf8_lossy(&header);
    let Header { descr, fortran_order, shape } = Tokens(&header).header().ok_or_else(|| {
        let found = header.trim_end().chars().take(120).flat_map(char::escape_default).collect();
        fail("an npy header {'descr': '…', 'fortran_order': False, 'shape': (rows, units), }", found)
    })?;
    let [rows, units] = shape[..] else {
        return Err(fail("an array of two dimensions", format!("{} ({shape:?})", shape.len())));
    };
    if units == 0 {
        return Err(fail("at least one value a row", format!("{shape:?}")));
    }
    if fortran_order {
        return Err(fail("an array in C order", "Fortran order; save numpy.ascontiguousarray of it".into()));
    }
    let width = match descr.as_str() {
        "|u1" | "|b1" => 1,
        "<f4" => 4,
        "<f8" => 8,
        _ => return Err(fail("an array of type |u1, |b1, <f4 or <f8 (little-endian)", shown(&descr))),
    };
    let bytes = rows.checked_mul(units).and_then(|n| n.checked_mul(width)).filter(|&n| n <= isize::MAX as usize);
    let bytes = bytes.ok_or_else(|| fail("an array that fits in memory", format!("{shape:?}")))?;
    // Real numbers are in memory twice, as they came and as `f32`.
    let needed = bytes as u64 + if width == 1 { 0 } else { (bytes / width * size_of::<f32>()) as u64 };
    if needed > max_bytes {
        let expected = format!("an array that takes at most {max_bytes} bytes of memory");
        return Err(fail(&expected, format!("{shape:?} of type {descr}, {needed} bytes")));
    }
    let values = read_exactly(&mut reader, bytes, "npy values", source_name)?;
    expect_end(&mut reader, source_name)?;

    let numbers = match descr.as_str() {
        "|u1" => Numbers::Bytes(values),
        "|b1" => match values.iter().position(|&x| x > 1) {
            Some(index) => {
                let found = format!("{} in row {}, column {}", values[index], index / units, index % units);
                return Err(fail("bytes 0 or 1 for False and True", found));
            }
            None => Numbers::Bits(values),
        },
        _ => {
            let number = |x: &[u8]| match *x {
                [a, b, c, d] => f64::from(f32::from_le_bytes([a, b, c, d])),
                [a, b, c, d, e, f, g, h] => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
                _ => f64::NAN,
            };
            let numbers = || values.chunks_exact(width).map(number);
            let outside = numbers().enumerate().find(|(_, x)| !(0.0..=1.0).contains(x));
            Numbers::Real(numbers().map(|x| x as f32).collect(), outside)
        }
    };
    Ok(Table { numbers, columns: units, img_shape: None, said: None })
}

/// Writes numbers as a matrix of type `<f4` with rows of `units` values, whole or not at all.
///
/// # Errors
/// [`Error::File`](crate::Error::File) with what the operating system says.
pub fn save(values: &[f32], units: usize, path: &Path) -> Result<()> {
    let rows = values.len() / units.max(1);
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {units}), }}");
    // What stands before the values ends with a line and is a multiple of 64 bytes long.
    let before = MAGIC.len() + 4;
    let length = (before + header.len() + 1).next_multiple_of(64) - before;
    header.extend(std::iter::repeat_n(' ', length - 1 - header.len()));
    header.push('\n');
    write_atomically(path, |file| {
        file.write_all(&MAGIC)?;
        file.write_all(&[1, 0])?;
        file.write_all(&(length as u16).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for values in values.chunks(1 << 14) {
            file.write_all(&values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())?;
        }
        Ok(())
    })
}

struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// What is left of a header, which is a Python dictionary in its literal form. Only what NumPy writes is understood: three
/// keys, each once, with a string, a truth value and a tuple of numbers.
struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    fn header(mut self) -> Option<Header> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.take("{")?;
        while self.take("}").is_none() {
            let key = self.string()?;
            self.take(":")?;
            let twice = match key {
                "descr" => descr.replace(self.string()?.to_string()).is_some(),
                "fortran_order" => fortran_order.replace(self.truth()?).is_some(),
                "shape" => shape.replace(self.tuple()?).is_some(),
                _ => return None,
            };
            if twice {
                return None;
            }
            if self.take(",").is_none() {
                self.take("}")?;
                break;
            }
        }
        let header = Header { descr: descr?, fortran_order: fortran_order?, shape: shape? };
        self.0.trim().is_empty().then_some(header)
    }

    /// Takes this token, where it comes next.
    fn take(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        let quote = if self.take("'").is_some() { '\'' } else { self.take("\"").map(|()| '"')? };
        let (text, rest) = self.0.split_once(quote)?;
        self.0 = rest;
        (!text.contains('\\')).then_some(text)
    }

    fn truth(&mut self) -> Option<bool> {
        self.take("True").map(|()| true).or_else(|| self.take("False").map(|()| false))
    }

    fn tuple(&mut self) -> Option<Vec<usize>> {
        let mut sizes = Vec::new();
        self.take("(")?;
        while self.take(")").is_none() {
            self.0 = self.0.trim_start();
            let digits = self.0.find(|c: char| !c.is_ascii_digit())?;
            let (number, rest) = self.0.split_at(digits);
            sizes.push(number.parse().ok()?);
            self.0 = rest;
            if self.take(",").is_none() {
                self.take(")")?;
                break;
            }
        }
        Some(sizes)
    }
}
