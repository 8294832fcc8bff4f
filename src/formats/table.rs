//! The contents of a data file, before units give its numbers a meaning.

use super::{Images, Labels, Reading, UNIT_INTERVAL, labels::outside_of};
use crate::{
    dataset::Dataset,
    error::{Error, Result},
    storage::format_error,
    units::{Segment, Segments},
};

/// The numbers of a file, row after row.
pub(super) struct Table {
    pub numbers: Numbers,
    /// The number of values in a row, at least one.
    pub columns: usize,
    /// Height and width of the image in each row, if the file says so.
    pub img_shape: Option<(usize, usize)>,
    /// The laws that the file itself declares, and a note about them for the user.
    pub declared: Option<(Segments, String)>,
    /// Another note for the user about how the file was read.
    pub note: Option<String>,
    /// The labels of the rows, if they were asked for.
    pub labels: Option<Labels>,
    /// The number of the first row, for errors.
    pub first: usize,
}

pub(super) enum Numbers {
    /// Eight-bit values without a declared meaning.
    Bytes(Vec<u8>),
    /// Bits, 0 and 1.
    Bits(Vec<u8>),
    /// Real numbers with NaN for a missing one; and the first number outside of [0, 1], as the file has it, with its position.
    Real(Vec<f32>, Option<(usize, f64)>),
}

/// Returns true if the greatest value is 1. Eight-bit values are then bits instead of x/255.
fn are_bits(values: impl Iterator<Item = u8>) -> bool {
    values.max() == Some(1)
}

/// Converts eight-bit values x to rows of x/255, or of bits if the greatest value is 1. The second result is true for bits.
pub(super) fn eight_bit(mut values: Vec<u8>, units: usize) -> Result<(Dataset, bool)> {
    let are_bits = are_bits(values.iter().copied());
    if are_bits {
        values.iter_mut().for_each(|x| *x *= 255);
    }
    Ok((Dataset::from_u8(values, units)?, are_bits))
}

impl Table {
    /// A table of rows with `columns` numbers, without laws, labels or notes.
    pub fn new(numbers: Numbers, columns: usize) -> Self {
        Self { numbers, columns, img_shape: None, declared: None, note: None, labels: None, first: 0 }
    }

    /// Converts the table to rows for the laws that the options ask for, or else the file's own.
    pub fn read(mut self, how: &Reading, source_name: &str) -> Result<Images> {
        if let Some((n, all)) = self.numbers.missing() {
            let missing = format!("{n} of {all} values are missing");
            self.note = Some(self.note.map_or(missing.clone(), |note| format!("{note}; {missing}")));
        }
        let numbers = how.as_numbers && self.declared.is_none();
        let numbers = numbers.then(|| Segment::Gaussian(self.columns.try_into().unwrap_or(u32::MAX)));
        match how
            .visible
            .map_or_else(|| numbers.map(|segment| Segments::new(&[segment])).transpose(), |v| Ok(Some(v)))?
        {
            Some(visible) => self.into_rows(visible, source_name, how.max_bytes, None),
            None => self.into_images(source_name),
        }
    }

    /// Converts the table to rows with the file's own laws, or with values in [0, 1].
    pub fn into_images(self, source_name: &str) -> Result<Images> {
        let Self { numbers, columns, img_shape, declared, note, labels, first } = self;
        let place = |at: usize| format!("in row {}, column {}", first + at / columns, at % columns);
        let (rows, are_bits) = match numbers {
            Numbers::Bytes(values) => eight_bit(values, columns)?,
            Numbers::Bits(values) => (Dataset::from_u8(values.into_iter().map(|x| x * 255).collect(), columns)?, false),
            Numbers::Real(_, Some((at, x))) => {
                let found = format!("{x} {}", place(at));
                return Err(format_error(source_name, UNIT_INTERVAL, found));
            }
            Numbers::Real(values, None) => {
                let binary = Segment::Binary(columns.try_into().unwrap_or(u32::MAX));
                let rows = match values.iter().any(|x| x.is_nan()) {
                    true => Segments::new(&[binary]).and_then(|binary| Dataset::with_missing(values, binary)),
                    false => Dataset::from_f32(values, columns),
                };
                (rows.map_err(|problem| format_error(source_name, UNIT_INTERVAL, problem.to_string()))?, false)
            }
        };
        let bits = || format!("{} × {}, eight-bit, values 0 to 1: bits", rows.len(), rows.units());
        let assumed = are_bits.then(bits);
        let (rows, assumed) = match declared {
            None => (rows, assumed),
            Some((segments, text)) => (rows.with_segments(segments)?, Some(text)),
        };
        let assumed = note.into_iter().chain(assumed).reduce(|all, more| format!("{all}; {more}"));
        Ok(Images { rows, img_shape, assumed, labels })
    }

    /// Converts the table to rows for visible units of these laws. Each row of the file has either one value for each unit, or one for
    /// each site; a Potts site's single value is the number of its state, counted from 0.
    ///
    /// Eight-bit values x of binary units stand for x/255, or for bits if no value of the segment exceeds 1. Gaussian units take the
    /// numbers as they are.
    ///
    /// Needs at most `max_bytes` of memory besides the file's own numbers. `bits` says for each segment whether eight-bit values are
    /// bits, if these rows are only a part of the file and cannot decide it.
    pub fn into_rows(
        self, visible: Segments, source_name: &str, max_bytes: u64, bits: Option<&[bool]>,
    ) -> Result<Images> {
        let (units, columns) = (visible.units(), self.columns);
        let has_states = columns != units;
        if has_states && columns != visible.sites() {
            let expected = match visible.sites() {
                sites if sites == units => format!("rows of {units} values, the visible units {visible}"),
                sites => format!("rows of {units} values, or of {sites} with one number a Potts site, for {visible}"),
            };
            return Err(format_error(source_name, expected, format!("rows of {columns}")));
        }
        let Self { numbers, img_shape, declared, note: of_file, labels, first: first_row, .. } = self;
        let n = numbers.len() / columns;
        let is_eight_bit = visible.is_discrete() && !matches!(numbers, Numbers::Real(..));
        let needed = (n as u128) * (units as u128) * if is_eight_bit { 1 } else { size_of::<f32>() as u128 };
        if needed > u128::from(max_bytes) {
            let expected = format!("rows that take at most {max_bytes} bytes of memory as units of {visible}");
            return Err(format_error(source_name, expected, format!("{n} rows of {units} units, {needed} bytes")));
        }
        let (mut bytes, mut reals, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        if is_eight_bit {
            bytes.resize(n * units, 0)
        } else {
            reals.resize(n * units, 0.0)
        }
        let mut first = 0;
        for (n_segment, (segment, to)) in visible.iter().enumerate() {
            let from = first..first + if has_states { segment.sites() } else { segment.units() };
            first = from.end;
            let values = || (0..n).flat_map(|r| from.clone().map(move |column| (r, column)));
            let byte = |(r, column): (usize, usize)| match &numbers {
                Numbers::Bytes(values) | Numbers::Bits(values) => values[r * columns + column],
                Numbers::Real(..) => 0,
            };
            let number = |(r, column): (usize, usize)| match &numbers {
                Numbers::Real(values, _) => values[r * columns + column],
                _ => f32::from(byte((r, column))),
            };
            let is_unit = !matches!(numbers, Numbers::Real(..)) && !segment.is_number();
            let are_bits = is_unit
                && (matches!(numbers, Numbers::Bits(_))
                    || bits.map_or_else(|| are_bits(values().map(byte)), |bits| bits[n_segment]));
            if are_bits && matches!(numbers, Numbers::Bytes(_)) && matches!(segment, Segment::Binary(_)) {
                notes.push(format!("{segment}: eight-bit, values 0 to 1: bits"));
            }
            let scale = if is_unit && !are_bits { 255.0 } else { 1.0 };
            let mut put = |r: usize, unit: usize, x: f32, byte: u8| match is_eight_bit {
                true => bytes[r * units + to.start + unit] = byte,
                false => reals[r * units + to.start + unit] = x,
            };
            for at in values() {
                let (r, column) = (at.0, at.1 - from.start);
                if !(has_states && segment.states() > 1) {
                    put(r, column, number(at) / scale, if are_bits { 255 * byte(at) } else { byte(at) });
                    continue;
                }
                let state = number(at);
                if state.is_nan() {
                    (0..segment.states()).for_each(|unit| put(r, column * segment.states() + unit, f32::NAN, 0));
                    continue;
                }
                if !(state >= 0.0 && state < segment.states() as f32 && state.fract() == 0.0) {
                    let expected = format!("a state of {segment}, a whole number from 0 to {}", segment.states() - 1);
                    let found = format!("{state} in row {}, column {}", first_row + r, at.1);
                    return Err(format_error(source_name, expected, found));
                }
                put(r, column * segment.states() + state as usize, 1.0, 255);
            }
        }
        let rows = match is_eight_bit {
            true => Dataset::from_u8(bytes, units)?.with_segments(visible),
            false => Dataset::with_missing(reals, visible),
        };
        let rows = rows.map_err(|problem| match problem {
            Error::Law { row, column, law, expected, found } => {
                let expected = format!("{expected} in column {column} ({law})");
                format_error(source_name, expected, format!("{found} in row {}", first_row + row))
            }
            other => other,
        })?;
        let declared = declared.map(|(_, text)| text);
        let assumed = of_file.into_iter().chain(declared).chain(notes).reduce(|all, more| format!("{all}; {more}"));
        Ok(Images { rows, img_shape, assumed, labels })
    }

    pub fn len(&self) -> usize {
        // A file of labels has no other column.
        self.numbers.len().checked_div(self.columns).unwrap_or(self.labels.as_ref().map_or(0, |l| l.states().len()))
    }

    /// Appends a column, if the numbers are eight-bit.
    pub fn with_column(self, column: &[u8]) -> Self {
        let Numbers::Bytes(values) = self.numbers else { return self };
        let mut wider = Vec::with_capacity(values.len() + column.len());
        for (row, &last) in values.chunks_exact(self.columns).zip(column) {
            wider.extend_from_slice(row);
            wider.push(last);
        }
        Self { numbers: Numbers::Bytes(wider), columns: self.columns + 1, ..self }
    }
}

impl Numbers {
    fn len(&self) -> usize {
        match self {
            Numbers::Bytes(values) | Numbers::Bits(values) => values.len(),
            Numbers::Real(values, _) => values.len(),
        }
    }

    /// Converts all numbers.
    #[cfg(feature = "npz")]
    pub fn into_f32(self) -> Vec<f32> {
        match self {
            Numbers::Bytes(values) | Numbers::Bits(values) => values.into_iter().map(f32::from).collect(),
            Numbers::Real(values, _) => values,
        }
    }

    /// The number at a position.
    pub fn number(&self, at: usize) -> f32 {
        match self {
            Numbers::Bytes(values) | Numbers::Bits(values) => f32::from(values[at]),
            Numbers::Real(values, _) => values[at],
        }
    }

    /// The number of missing values and of all values, if any is missing.
    fn missing(&self) -> Option<(usize, usize)> {
        let Numbers::Real(values, _) = self else { return None };
        Some((values.iter().filter(|x| x.is_nan()).count(), values.len())).filter(|&(n, _)| n > 0)
    }
}

impl Numbers {
    /// Numbers of a format without types: bits if all are 0 or 1.
    pub fn of(values: Vec<f32>) -> Self {
        if values.iter().all(|&x| x == 0.0 || x == 1.0) {
            return Numbers::Bits(values.iter().map(|&x| u8::from(x == 1.0)).collect());
        }
        let outside = outside_of(&values);
        Numbers::Real(values, outside)
    }
}
