//! What a file of data holds, before anybody has said what its numbers stand for.

use super::{Images, Labels, Reading, UNIT_INTERVAL, labels::outside_of};
use crate::{
    dataset::Dataset,
    error::{Error, Result},
    storage::format_error,
    units::{Segment, Segments},
};
use std::ops::Range;

/// The numbers of a file, row after row.
pub(super) struct Table {
    pub numbers: Numbers,
    /// How many numbers a row has, at least one.
    pub columns: usize,
    /// Height and width of the image in each row, if the file says so.
    pub img_shape: Option<(usize, usize)>,
    /// What the file says of its laws, and what is told of that.
    pub said: Option<(Segments, String)>,
    /// What else is told of how the file was read.
    pub told: Option<String>,
    /// The labels of the rows, where they were asked for.
    pub labels: Option<Labels>,
    /// The number of the first row, in errors.
    pub first: usize,
}

pub(super) enum Numbers {
    /// Eight bits each, of which nothing is said.
    Bytes(Vec<u8>),
    /// Bits, 0 and 1.
    Bits(Vec<u8>),
    /// Real numbers, NaN where one is missing, and the first one outside of [0, 1] as the file has it, with its place.
    Real(Vec<f32>, Option<(usize, f64)>),
}

/// Where the greatest value is 1: then eight-bit values are bits, and not x/255.
fn are_bits(values: impl Iterator<Item = u8>) -> bool {
    values.max() == Some(1)
}

/// Eight-bit values as rows, x standing for x/255; where the greatest one is 1, for x: they are bits. And whether they are.
pub(super) fn eight_bit(mut values: Vec<u8>, units: usize) -> Result<(Dataset, bool)> {
    let are_bits = are_bits(values.iter().copied());
    if are_bits {
        values.iter_mut().for_each(|x| *x *= 255);
    }
    Ok((Dataset::from_u8(values, units)?, are_bits))
}

impl Table {
    /// Rows of so many numbers, of which nothing else is known.
    pub fn new(numbers: Numbers, columns: usize) -> Self {
        Self { numbers, columns, img_shape: None, said: None, told: None, labels: None, first: 0 }
    }

    /// The rows for units of the laws that are asked for, or else as the file has them.
    pub fn read(mut self, how: &Reading, source_name: &str) -> Result<Images> {
        if let Some((n, all)) = self.numbers.missing() {
            let missing = format!("{n} of {all} values are missing");
            self.told = Some(self.told.map_or(missing.clone(), |told| format!("{told}; {missing}")));
        }
        let numbers = how.as_numbers && self.said.is_none();
        let numbers = numbers.then(|| Segment::Gaussian(self.columns.try_into().unwrap_or(u32::MAX)));
        match how
            .visible
            .map_or_else(|| numbers.map(|segment| Segments::new(&[segment])).transpose(), |v| Ok(Some(v)))?
        {
            Some(visible) => self.into_rows(visible, source_name, how.max_bytes, None),
            None => self.into_images(source_name),
        }
    }

    /// The rows as the file has them: values in [0, 1], or of the laws that the file itself says.
    pub fn into_images(self, source_name: &str) -> Result<Images> {
        let Self { numbers, columns, img_shape, said, told, labels, first } = self;
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
        let (rows, assumed) = match said {
            None => (rows, assumed),
            Some((segments, text)) => (rows.with_segments(segments)?, Some(text)),
        };
        let assumed = told.into_iter().chain(assumed).reduce(|all, more| format!("{all}; {more}"));
        Ok(Images { rows, img_shape, assumed, labels })
    }

    /// The rows for visible units of these laws. A row of the file has a value for each unit, or one number of a state, counted
    /// from 0, for each Potts site.
    ///
    /// Of binary units eight-bit values x stand for x/255, or for bits where none of the segment is greater than 1; of Gaussian
    /// units they are the numbers themselves.
    ///
    /// Needs at most `max_bytes` of memory besides the file's own numbers. `bits`: of which segments eight-bit values are bits,
    /// where that is not for these rows alone to say.
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
        let Self { numbers, img_shape, said, told: of_file, labels, first: first_row, .. } = self;
        let n = numbers.len() / columns;
        let is_eight_bit = visible.is_discrete() && !matches!(numbers, Numbers::Real(..));
        let needed = (n as u128) * (units as u128) * if is_eight_bit { 1 } else { size_of::<f32>() as u128 };
        if needed > u128::from(max_bytes) {
            let expected = format!("rows that take at most {max_bytes} bytes of memory as units of {visible}");
            return Err(format_error(source_name, expected, format!("{n} rows of {units} units, {needed} bytes")));
        }
        let (mut bytes, mut reals, mut told) = (Vec::new(), Vec::new(), Vec::new());
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
                told.push(format!("{segment}: eight-bit, values 0 to 1: bits"));
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
        let said = said.map(|(_, text)| text);
        let assumed = of_file.into_iter().chain(said).chain(told).reduce(|all, more| format!("{all}; {more}"));
        Ok(Images { rows, img_shape, assumed, labels })
    }

    /// Keeps some of the rows.
    pub fn keep(&mut self, rows: Range<usize>) {
        fn keep<T>(values: &mut Vec<T>, span: Range<usize>) {
            values.truncate(span.end);
            values.drain(..span.start);
        }
        if let Some(labels) = &mut self.labels {
            labels.keep(rows.clone());
        }
        let span = rows.start * self.columns..rows.end * self.columns;
        match &mut self.numbers {
            Numbers::Bytes(values) | Numbers::Bits(values) => keep(values, span),
            Numbers::Real(values, outside) => {
                keep(values, span);
                *outside = outside_of(values);
            }
        }
    }

    pub fn len(&self) -> usize {
        // A file of labels has no other column.
        self.numbers.len().checked_div(self.columns).unwrap_or(self.labels.as_ref().map_or(0, |l| l.states().len()))
    }

    /// The same with one more column behind the others, where the numbers are bytes.
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

    /// All of them.
    #[cfg(feature = "npz")]
    pub fn into_f32(self) -> Vec<f32> {
        match self {
            Numbers::Bytes(values) | Numbers::Bits(values) => values.into_iter().map(f32::from).collect(),
            Numbers::Real(values, _) => values,
        }
    }

    /// The number at this place.
    pub fn number(&self, at: usize) -> f32 {
        match self {
            Numbers::Bytes(values) | Numbers::Bits(values) => f32::from(values[at]),
            Numbers::Real(values, _) => values[at],
        }
    }

    /// How many numbers are missing, and of how many, where one is.
    fn missing(&self) -> Option<(usize, usize)> {
        let Numbers::Real(values, _) = self else { return None };
        Some((values.iter().filter(|x| x.is_nan()).count(), values.len())).filter(|&(n, _)| n > 0)
    }
}

impl Numbers {
    /// Numbers of a format that has no types: bits where there are only 0 and 1.
    pub fn of(values: Vec<f32>) -> Self {
        if values.iter().all(|&x| x == 0.0 || x == 1.0) {
            return Numbers::Bits(values.iter().map(|&x| u8::from(x == 1.0)).collect());
        }
        let outside = outside_of(&values);
        Numbers::Real(values, outside)
    }
}
