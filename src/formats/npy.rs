//! NumPy's `.npy` files: arrays whose first dimension counts the rows.
//!
//! The reader supports format versions 1.0, 2.0 and 3.0, C and Fortran order, both byte orders, and these types:
//!
//! | type | becomes |
//! |---|---|
//! | `u1` | eight-bit values: x stands for x/255, or for a bit if the greatest value is 1 |
//! | `b1` | eight-bit values: False is 0 and True is 255 |
//! | `i1`, `i2` to `i8`, `u2` to `u8` | bits if all values are 0 or 1, else `f32` |
//! | `f2`, `f4`, `f8` | rounded to `f32`; NaN stands for a missing value |
//!
//! Numbers must lie within [0, 1], unless [other laws](super::Reading::visible) are given.
//!
//! | shape | becomes |
//! |---|---|
//! | (rows, units) | the same |
//! | (rows, height, width), optionally with one more dimension of size 1 before or after height and width | rows with images |
//! | (rows, a, b, c) | rows of a·b·c values |
//!
//! Any other header is refused with an error that quotes it, because a guess could train on the wrong numbers.
//!
//! [`OnDisk`] reads a file that is larger than memory in parts.

mod on_disk;

pub use on_disk::OnDisk;

use super::{
    Reading,
    table::{Numbers, Table},
};
use crate::{
    dataset::Dataset,
    error::{Result, shown},
    storage::{expect_end, format_error, read_exactly, write_atomically},
};
use std::{io::Read, path::Path};

/// The first bytes of a `.npy` file.
pub const MAGIC: [u8; 6] = *b"\x93NUMPY";
/// The longest header that is accepted; NumPy writes 118 bytes for a matrix.
const MAX_HEADER: usize = 1 << 16;

/// Reads a `.npy` file as rows; `source_name` is its name in errors.
///
/// ```
/// use harmonium::npy;
///
/// let path = std::env::temp_dir().join(format!("harmonium-{}.npy", std::process::id()));
/// npy::save(&[0.25, 1.0, 0.0, 0.5], 2, &path)?;
/// let bytes = std::fs::read(&path).expect("it was just written");
/// let rows = npy::read_npy(&bytes[..], "two rows")?;
/// assert_eq!((rows.len(), rows.units()), (2, 2));
/// assert_eq!(rows.rows().to_vec(), [0.25, 1.0, 0.0, 0.5]);
/// # let _ = std::fs::remove_file(path);
/// # Ok::<(), harmonium::Error>(())
/// ```
///
/// # Errors
/// [`Error::Format`](crate::Error::Format) if the stream is not a file as the module describes it, a value is out of range, or
/// the stream is shorter or longer than its header says; [`Error::File`](crate::Error::File) if it cannot be read.
pub fn read_npy(reader: impl Read, source_name: &str) -> Result<Dataset> {
    read_npy_within(reader, source_name, isize::MAX as u64)
}

/// [`read_npy`] with a limit of memory: refuses an array that needs more than `max_bytes` while it is read, once its header has
/// been read.
///
/// # Errors
/// Those of [`read_npy`].
pub fn read_npy_within(mut reader: impl Read, source_name: &str, max_bytes: u64) -> Result<Dataset> {
    let how = Reading { max_bytes, ..Reading::default() };
    Ok(read_table(&mut reader, source_name, &how)?.into_images(source_name)?.rows)
}

/// Reads an npy file as numbers.
pub(super) fn read_table(reader: &mut dyn Read, source_name: &str, how: &Reading) -> Result<Table> {
    let (numbers, shape) = read_numbers(reader, source_name, how)?;
    let each = &shape[1..];
    Ok(Table { img_shape: img_shape(each), ..Table::new(numbers, each.iter().product()) })
}

/// Reads the numbers of an npy file, the last index varying fastest, and its shape: two to four dimensions, or one for labels.
pub(super) fn read_numbers(
    mut reader: &mut dyn Read, source_name: &str, how: &Reading,
) -> Result<(Numbers, Vec<usize>)> {
    let layout = Layout::read(&mut reader, source_name, how)?;
    let needed = layout.needed();
    let Layout { descr, kind, fortran_order, shape, units, bytes, .. } = layout;
    if needed > how.max_bytes {
        let expected = format!("an array that takes at most {} bytes of memory", how.max_bytes);
        return Err(format_error(source_name, expected, format!("{shape:?} of type {descr}, {needed} bytes")));
    }
    let mut values = read_exactly(&mut reader, bytes, "npy values", source_name)?;
    expect_end(&mut reader, source_name)?;
    if fortran_order && !values.is_empty() {
        values = in_c_order(&values, kind.width, shape[0], &shape[1..]);
    }
    Ok((kind.numbers(values, units, source_name)?, shape))
}

/// The contents of a header.
#[derive(Debug)]
struct Layout {
    descr: String,
    kind: Kind,
    fortran_order: bool,
    shape: Vec<usize>,
    /// Values in a row, at least one.
    units: usize,
    /// The size of all values in bytes, and the position of the first one in the file.
    bytes: usize,
    start: u64,
}

impl Layout {
    fn read(mut reader: &mut dyn Read, source_name: &str, how: &Reading) -> Result<Self> {
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
        let before = start.len() + length.len();
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
        let (&rows, each) = match shape.split_first() {
            Some((rows, each)) if (1..=3).contains(&each.len()) || each.is_empty() && how.is_labels => (rows, each),
            Some((_, [])) => {
                let found = format!("1 ({shape:?}); numpy.reshape(x, (1, -1)) makes it one row, (-1, 1) one column");
                return Err(fail("an array of two to four dimensions", found));
            }
            _ => return Err(fail("an array of two to four dimensions", format!("{} ({shape:?})", shape.len()))),
        };
        // Without rows, the number of values in the file puts no bound on the sizes of a row.
        let units = each.iter().try_fold(1usize, |units, &size| units.checked_mul(size));
        let units = units.ok_or_else(|| fail("an array that fits in memory", format!("{shape:?}")))?;
        if units == 0 {
            return Err(fail("at least one value a row", format!("{shape:?}")));
        }
        let kind = Kind::of(&descr).ok_or_else(|| {
            fail("an array of type b1, i1 to i8, u1 to u8, or f2, f4 or f8, in either byte order", shown(&descr))
        })?;
        let bytes = rows.checked_mul(units).and_then(|n| n.checked_mul(kind.width));
        let bytes = bytes.filter(|&n| n <= isize::MAX as usize);
        let bytes = bytes.ok_or_else(|| fail("an array that fits in memory", format!("{shape:?}")))?;
        Ok(Self { descr, kind, fortran_order, shape, units, bytes, start: (before + length) as u64 })
    }

    /// The memory in bytes that reading takes. Values are in memory twice if they are converted to `f32` or reordered.
    fn needed(&self) -> u64 {
        let as_numbers = if self.kind.is_byte() { 0 } else { self.bytes / self.kind.width * size_of::<f32>() };
        let in_order = if self.fortran_order { self.bytes } else { 0 };
        self.bytes as u64 + as_numbers.max(in_order) as u64
    }

    /// Height and width of the image in each row, if rows are images.
    fn img_shape(&self) -> Option<(usize, usize)> {
        img_shape(&self.shape[1..])
    }
}

/// Height and width of the image in a row of these dimensions.
fn img_shape(each: &[usize]) -> Option<(usize, usize)> {
    match *each {
        [height, width] | [height, width, 1] | [1, height, width] => Some((height, width)),
        _ => None,
    }
}

/// The type of an array's values.
#[derive(Clone, Copy, Debug)]
struct Kind {
    /// `b`, `i`, `u` or `f`.
    letter: u8,
    width: usize,
    is_big_endian: bool,
}

impl Kind {
    /// The type that a header names, or `None` if it is not supported.
    fn of(descr: &str) -> Option<Self> {
        let &[order, letter, width] = descr.as_bytes() else { return None };
        let width = usize::from(width.checked_sub(b'0')?);
        let is_known = match letter {
            b'b' => width == 1,
            b'i' | b'u' => [1, 2, 4, 8].contains(&width),
            b'f' => [2, 4, 8].contains(&width),
            _ => false,
        };
        let has_order = b"<>".contains(&order) || order == b'|' && width == 1;
        (is_known && has_order).then_some(Self { letter, width, is_big_endian: order == b'>' })
    }

    /// Returns true for unsigned eight-bit values, which may stand for x/255.
    fn is_eight_bit(&self) -> bool {
        (self.letter, self.width) == (b'u', 1)
    }

    /// Returns true if values stay eight-bit.
    fn is_byte(&self) -> bool {
        self.width == 1 && self.letter != b'i'
    }

    fn numbers(&self, values: Vec<u8>, units: usize, source_name: &str) -> Result<Numbers> {
        if self.is_eight_bit() {
            return Ok(Numbers::Bytes(values));
        }
        if self.letter == b'b' {
            return match values.iter().position(|&x| x > 1) {
                Some(index) => {
                    let found = format!("{} in row {}, column {}", values[index], index / units, index % units);
                    Err(format_error(source_name, "bytes 0 or 1 for False and True", found))
                }
                None => Ok(Numbers::Bits(values)),
            };
        }
        let numbers = || values.chunks_exact(self.width).map(|x| self.number(x));
        if self.letter != b'f' && numbers().all(|x| x == 0.0 || x == 1.0) {
            return Ok(Numbers::Bits(numbers().map(|x| u8::from(x == 1.0)).collect()));
        }
        let outside = numbers().enumerate().find(|(_, x)| !((0.0..=1.0).contains(x) || x.is_nan()));
        Ok(Numbers::Real(numbers().map(|x| x as f32).collect(), outside))
    }

    /// Decodes one number.
    fn number(&self, bytes: &[u8]) -> f64 {
        // The bits of the value, starting at the most significant byte.
        let fold = |sum: u64, &byte: &u8| sum << 8 | u64::from(byte);
        let bits = if self.is_big_endian { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) };
        let unused = 64 - 8 * self.width as u32;
        match (self.letter, self.width) {
            (b'f', 2) => half(bits as u16),
            (b'f', 4) => f64::from(f32::from_bits(bits as u32)),
            (b'f', _) => f64::from_bits(bits),
            (b'u', _) => bits as f64,
            _ => ((bits << unused) as i64 >> unused) as f64,
        }
    }
}

/// Decodes a 16-bit number, IEEE 754's binary16.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// Reorders values from Fortran order (first index fastest) to C order. `each`: the sizes of a row, at least one value.
fn in_c_order(values: &[u8], width: usize, rows: usize, each: &[usize]) -> Vec<u8> {
    let units: usize = each.iter().product();
    let mut ordered = vec![0; values.len()];
    for unit in 0..units {
        // The unit's position in Fortran order.
        let (mut rest, mut place, mut step) = (unit, 0, units);
        for &size in each.iter().rev() {
            step /= size;
            place += rest % size * step;
            rest /= size;
        }
        for row in 0..rows {
            let (from, to) = ((place * rows + row) * width, (row * units + unit) * width);
            ordered[to..to + width].copy_from_slice(&values[from..from + width]);
        }
    }
    ordered
}

/// Writes rows of `units` values as a matrix of type `<f4`. The file appears whole or not at all.
///
/// # Errors
/// [`Error::File`](crate::Error::File) with the operating system's message.
pub fn save(values: &[f32], units: usize, path: &Path) -> Result<()> {
    let parts = values.chunks(1 << 14).map(<[f32]>::to_vec);
    save_parts(parts, values.len() / units.max(1), units, path)
}

/// [`save`] for an iterator: writes each part as it arrives.
///
/// # Errors
/// [`Error::File`](crate::Error::File) with the operating system's message, or if the parts do not add up to `rows`·`units` values.
pub fn save_parts(parts: impl Iterator<Item = Vec<f32>>, rows: usize, units: usize, path: &Path) -> Result<()> {
    write_atomically(path, |file| {
        file.write_all(&start(&[rows, units]))?;
        let mut came = 0;
        for values in parts {
            came += values.len();
            file.write_all(&values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())?;
        }
        match came == rows * units {
            true => Ok(()),
            false => Err(std::io::Error::other(format!("expected {rows} rows of {units} values, found {came} values"))),
        }
    })
}

/// The header of an array of type `<f4` in C order.
pub(super) fn start(shape: &[usize]) -> Vec<u8> {
    let sizes: Vec<_> = shape.iter().map(usize::to_string).collect();
    // Python's tuple of one number ends with a comma.
    let comma = if shape.len() == 1 { "," } else { "" };
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}{comma}), }}", sizes.join(", "));
    // NumPy pads the header with blanks to a multiple of 64 bytes and ends it with a line break.
    let before = MAGIC.len() + 4;
    let length = (before + header.len() + 1).next_multiple_of(64) - before;
    header.extend(std::iter::repeat_n(' ', length - 1 - header.len()));
    header.push('\n');
    let length = (length as u16).to_le_bytes();
    [&MAGIC[..], &[1, 0], &length, header.as_bytes()].concat()
}

struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// The unparsed rest of a header, which is a Python dictionary literal. Only the form that NumPy writes is accepted: three keys,
/// each once, with a string, a truth value and a tuple of numbers.
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

    /// Consumes the token if it comes next.
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
