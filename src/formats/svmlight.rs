//! The sparse text of SVMlight and LIBSVM: each line is a row, its label and its nonzero values.
//!
//! ```text
//! +1 1:0.5 3:1 # a comment
//! -1 2:0.25
//! ```
//!
//! Columns are counted from 1, or from 0 if a column 0 occurs. The greatest column number gives the number of columns; visible units
//! ([`Reading::visible`](super::Reading::visible)) can raise it. Columns that a line lacks are 0. `qid:N` is ignored.

use super::{
    LabelSource, Reading, labels,
    table::{Numbers, Table},
    text::{Line, MISSING, lines},
};
use crate::{
    error::{Result, shown},
    storage::format_error,
};
use std::io::Read;

/// The endings of file names of this format.
pub const ENDINGS: [&str; 3] = [".svm", ".svmlight", ".libsvm"];

pub(super) fn read_table(reader: &mut dyn Read, source_name: &str, how: &Reading) -> Result<Table> {
    let fail = |expected: &str, line: u64, found: &[u8]| {
        let found = format!("{} in line {line}", shown(&String::from_utf8_lossy(found)));
        Err(format_error(source_name, expected, found))
    };
    let asks = [LabelSource::Own, LabelSource::IfOwn].contains(&how.labels);
    let mut labels = labels::Builder::default();
    // The nonzero values of all rows with their columns, and the position at which each row ends.
    let (mut values, mut ends) = (Vec::<(u32, f32)>::new(), Vec::new());
    let (mut least, mut greatest) = (u32::MAX, 0);
    lines(reader, source_name, how.max_bytes, |Line { number, bytes }| {
        let bytes = bytes.split(|&byte| byte == b'#').next().unwrap_or_default();
        let mut words = bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let Some(label) = words.next() else { return Ok(()) };
        let x: Option<f64> = str::from_utf8(label).ok().and_then(|label| label.parse().ok());
        let Some(x) = x.filter(|x| x.is_finite()) else {
            return fail("a number as label", number, label);
        };
        if asks {
            if x.fract() != 0.0 && how.labels == LabelSource::Own {
                return fail("a whole number as label", number, label);
            }
            labels.push(Some(&x.to_string()).filter(|_| x.fract() == 0.0).map(String::as_str));
        }
        let first = values.len();
        for word in words.filter(|word| !word.starts_with(b"qid:")) {
            let pair = str::from_utf8(word).ok().and_then(|word| word.split_once(':')).and_then(|(column, x)| {
                let x =
                    if MISSING.iter().any(|name| x.eq_ignore_ascii_case(name)) { f32::NAN } else { x.parse().ok()? };
                Some((column.parse().ok().filter(|&column: &u32| column < u32::MAX)?, x))
            });
            let Some((column, x)) = pair.filter(|(_, x)| !x.is_infinite()) else {
                return fail("COLUMN:VALUE, a whole number and a finite one", number, word);
            };
            values.push((column, x));
            (least, greatest) = (least.min(column), greatest.max(column));
        }
        values[first..].sort_unstable_by_key(|&(column, _)| column);
        if let Some(pair) = values[first..].windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return fail("each column once", number, format!("{} twice", pair[0].0).as_bytes());
        }
        ends.push(values.len());
        // Vectors double as they grow.
        let needed = 16 * (values.len() + ends.len()) as u64 + labels.bytes();
        match needed > how.max_bytes {
            true => Err(too_large(source_name, how, format!("more than {needed} bytes by line {number}"))),
            false => Ok(()),
        }
    })?;
    let first = if least == 0 { 0 } else { 1 };
    let columns = if values.is_empty() { 0 } else { (greatest - first) as usize + 1 };
    let columns = columns.max(how.visible.map_or(1, |visible| visible.units()));
    let needed = (ends.len() as u64).saturating_mul(columns as u64).saturating_mul(size_of::<f32>() as u64);
    if needed > how.max_bytes {
        return Err(too_large(source_name, how, format!("{} × {columns} values, {needed} bytes", ends.len())));
    }
    let mut dense = vec![0.0; ends.len() * columns];
    let mut begin = 0;
    for (row, end) in dense.chunks_exact_mut(columns).zip(ends) {
        values[begin..end].iter().for_each(|&(column, x)| row[(column - first) as usize] = x);
        begin = end;
    }
    let note = format!("columns are counted from {first}");
    let labels = (asks).then(|| labels.finish());
    Ok(Table { note: Some(note), labels, ..Table::new(Numbers::of(dense), columns) })
}

fn too_large(source_name: &str, how: &Reading, found: String) -> crate::Error {
    format_error(source_name, format!("rows that take at most {} bytes of memory", how.max_bytes), found)
}
