//! Tables of text: each line is a row of numbers between commas, tabs, semicolons or blanks, with feature `csv`.
//!
//! - The first line decides the separator: the first of tab, semicolon and comma that it contains, or else blanks.
//! - The first line is a header if any of its fields is not a number, apart from the column of labels.
//! - Empty lines and lines that begin with `#` are skipped. Fields may be in double quotes.
//! - A field that is empty, `NA`, `nan`, `null` or `?` is missing. Any other field must be a finite number, except in the column of
//!   labels, whose fields may be words.
//!
//! ```
//! # #[cfg(feature = "csv")] {
//! use harmonium::formats::Reading;
//!
//! let images = Reading::default().read("a,b\n0.5,1\n0,NA\n".as_bytes(), "two.csv")?;
//! assert_eq!(images.rows.rows().to_vec()[..3], [0.5, 1.0, 0.0]);
//! assert!(images.rows.rows().to_vec()[3].is_nan());
//! # }
//! # Ok::<(), harmonium::Error>(())
//! ```

use super::{Reading, table::Table};
use crate::{
    error::Result,
    storage::{format_error, stream_error},
};
use std::io::{BufRead, BufReader, Read};

/// The endings of file names of tables of text.
pub const ENDINGS: [&str; 4] = [".csv", ".tsv", ".txt", ".data"];
/// The spellings of a missing value, in upper or lower case.
pub(super) const MISSING: [&str; 5] = ["", "na", "nan", "null", "?"];

#[cfg(not(feature = "csv"))]
pub(super) fn read_table(_: &mut dyn Read, source_name: &str, _: &Reading) -> Result<Table> {
    Err(format_error(source_name, "another file than text, or harmonium with its feature `csv`", "a table of text"))
}

#[cfg(feature = "csv")]
pub(super) use parsed::read_table;

/// A line without its line break; lines are counted from 1.
pub(super) struct Line<'a> {
    pub number: u64,
    pub bytes: &'a [u8],
}

/// Calls `each` for every line of a stream. A line longer than `max_bytes` is an error.
pub(super) fn lines(
    reader: &mut dyn Read, source_name: &str, max_bytes: u64, mut each: impl FnMut(Line<'_>) -> Result<()>,
) -> Result<()> {
    let mut reader = BufReader::new(reader);
    let (mut number, mut bytes) = (0, Vec::new());
    loop {
        bytes.clear();
        let most = max_bytes.saturating_add(1);
        let n = reader.by_ref().take(most).read_until(b'\n', &mut bytes);
        if n.map_err(|problem| stream_error(source_name, problem))? == 0 {
            return Ok(());
        }
        number += 1;
        if bytes.len() as u64 == most {
            let expected = format!("lines of at most {max_bytes} bytes");
            return Err(format_error(source_name, expected, format!("a longer one, line {number}")));
        }
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        each(Line { number, bytes: line })?;
    }
}

#[cfg(feature = "csv")]
mod parsed {
    use super::{Line, MISSING, Read, Reading, Result, Table, format_error, lines, stream_error};
    use crate::{
        error::shown,
        formats::{LabelSource, first_bytes, labels, table::Numbers},
    };
    use csv::{ByteRecord, ReaderBuilder, Trim};
    use std::{
        io::{self, Error as IoError},
        sync::atomic::{AtomicU64, Ordering},
    };

    /// The number of bytes within which the first line is looked for.
    const BEGINNING: usize = 1 << 16;
    const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

    pub fn read_table(mut reader: &mut dyn Read, source_name: &str, how: &Reading) -> Result<Table> {
        let start = first_bytes(&mut reader, BEGINNING, source_name)?;
        let start = start.strip_prefix(&BYTE_ORDER_MARK).unwrap_or(&start);
        if start.contains(&0) {
            return Err(format_error(source_name, "a table of text", "a byte 0"));
        }
        let is_row = |line: &&[u8]| !line.starts_with(b"#") && line.iter().any(|byte| !byte.is_ascii_whitespace());
        let first = start.split(|&byte| byte == b'\n').find(is_row).unwrap_or_default();
        let delimiter = delimiter(first);
        let mut rows = Rows::new(source_name, how);
        let mut whole = start.chain(reader);
        match delimiter {
            Some(delimiter) => {
                // The last line may lack the line break that all others have.
                let has_pairs = first.ends_with(b"\r");
                let mut whole = whole.chain(if has_pairs { &b"\r\n"[..] } else { b"\n" });
                read_delimited(&mut whole, delimiter, has_pairs, &mut rows)?;
            }
            None => lines(&mut whole, source_name, how.max_bytes, |Line { number, bytes }| {
                let fields: Vec<_> = bytes.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).collect();
                match fields[..] {
                    [] => Ok(()),
                    [first, ..] if first.starts_with(b"#") => Ok(()),
                    _ => rows.push(number, &fields),
                }
            })?,
        }
        rows.finish(match delimiter {
            Some(b'\t') => "tabs",
            Some(b';') => "semicolons",
            Some(_) => "commas",
            None => "blanks",
        })
    }

    /// The separator of this line's fields, or `None` for blanks.
    fn delimiter(line: &[u8]) -> Option<u8> {
        let is_outside = |at: &usize| line[..*at].iter().filter(|&&byte| byte == b'"').count() % 2 == 0;
        let has = |delimiter: u8| (0..line.len()).filter(|&at| line[at] == delimiter).any(|at| is_outside(&at));
        let trimmed = line.trim_ascii();
        let found = [b'\t', b';', b','].into_iter().find(|&delimiter| has(delimiter));
        // One quoted field is one field, even if it contains blanks.
        found.or((trimmed.starts_with(b"\"") && trimmed.ends_with(b"\"")).then_some(b','))
    }

    /// A stream with a limit on the number of bytes read for one row.
    struct Bounded<'a> {
        inner: &'a mut dyn Read,
        left: &'a AtomicU64,
    }

    impl Read for Bounded<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.inner.read(buffer)?;
            let left = self.left.load(Ordering::Relaxed).checked_sub(n as u64);
            self.left
                .store(left.ok_or_else(|| IoError::other("a row that does not fit in memory"))?, Ordering::Relaxed);
            Ok(n)
        }
    }

    /// `has_pairs`: lines end with two characters, `\r\n`.
    fn read_delimited(reader: &mut dyn Read, delimiter: u8, has_pairs: bool, rows: &mut Rows<'_>) -> Result<()> {
        // The reader reads ahead, so `left` may be a few buffers below the row's own limit.
        let most = rows.how.max_bytes.saturating_add(BEGINNING as u64);
        let left = AtomicU64::new(most);
        let (reader, source_name) = (Bounded { inner: reader, left: &left }, rows.source_name);
        let mut builder = ReaderBuilder::new();
        builder.delimiter(delimiter).has_headers(false).flexible(true).comment(Some(b'#')).trim(Trim::All);
        let mut reader = builder.from_reader(reader);
        let mut record = ByteRecord::new();
        while reader.read_byte_record(&mut record).map_err(|problem| stream_error(source_name, problem))? {
            left.store(most, Ordering::Relaxed);
            // A line of blanks counts as empty.
            if record.len() == 1 && record[0].is_empty() {
                continue;
            }
            // The reader's line is after the row: subtract the line breaks within fields, and the row's own if it has been read.
            let within = record.as_slice().iter().filter(|&&byte| byte == b'\n').count() as u64;
            let line = reader.position().line().saturating_sub(within + u64::from(!has_pairs));
            rows.push(line, &record.iter().collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// The rows read so far.
    struct Rows<'a> {
        source_name: &'a str,
        how: &'a Reading,
        /// The number of fields in each line, and the number of the first line.
        fields: usize,
        first: u64,
        header: Option<Vec<String>>,
        /// The index of the column of labels.
        label: Option<usize>,
        labels: labels::Builder,
        numbers: Vec<f32>,
    }

    impl<'a> Rows<'a> {
        fn new(source_name: &'a str, how: &'a Reading) -> Self {
            let (fields, first, header, label, labels, numbers) = Default::default();
            Self { source_name, how, fields, first, header, label, labels, numbers }
        }

        fn push(&mut self, line: u64, fields: &[&[u8]]) -> Result<()> {
            if self.fields == 0 && self.begin(line, fields)? {
                return Ok(());
            }
            if fields.len() != self.fields {
                let expected = format!("{} fields in each line as in line {}", self.fields, self.first);
                return Err(format_error(self.source_name, expected, format!("{} in line {line}", fields.len())));
            }
            for (column, field) in fields.iter().enumerate() {
                if self.label == Some(column) {
                    self.label(line, column, field)?;
                    continue;
                }
                match number(field) {
                    Some(x) => self.numbers.push(x),
                    None => {
                        let place = self.place(line, column);
                        let labels = match &self.how.labels {
                            LabelSource::None => "; a column of words can be the labels".to_string(),
                            _ => String::new(),
                        };
                        let found = format!("{} {place}{labels}", shown(&String::from_utf8_lossy(field)));
                        return Err(format_error(self.source_name, "a finite number, or nothing, NA or ?", found));
                    }
                }
            }
            // A vector doubles as it grows.
            let needed = 2 * (self.numbers.len() * size_of::<f32>()) as u64 + self.labels.bytes();
            if needed > self.how.max_bytes {
                let expected = format!("rows that take at most {} bytes of memory", self.how.max_bytes);
                return Err(format_error(self.source_name, expected, format!("{needed} bytes by line {line}")));
            }
            Ok(())
        }

        /// Takes the number of columns and the labels' column from the first line; returns true if the line is a header.
        fn begin(&mut self, line: u64, fields: &[&[u8]]) -> Result<bool> {
            (self.fields, self.first) = (fields.len(), line);
            let names: Vec<_> = fields.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect();
            if let LabelSource::Column(column) = &self.how.labels {
                self.label = Some(column.index_among(fields.len(), &names, self.source_name)?);
            }
            let is_named = matches!(&self.how.labels, LabelSource::Column(labels::Column::Name(_)));
            let is_word = |(column, field): (usize, &&[u8])| self.label != Some(column) && number(field).is_none();
            let is_header = is_named || fields.iter().enumerate().any(is_word);
            self.header = is_header.then_some(names);
            Ok(is_header)
        }

        fn label(&mut self, line: u64, column: usize, field: &[u8]) -> Result<()> {
            let text = String::from_utf8_lossy(field);
            let is_missing = MISSING.iter().any(|name| text.eq_ignore_ascii_case(name));
            if text.parse().is_ok_and(|x: f64| !is_missing && x.fract() != 0.0) {
                let found = format!("{} {}", shown(&text), self.place(line, column));
                return Err(format_error(self.source_name, "labels that are words or whole numbers", found));
            }
            self.labels.push(Some(shown(&text)).filter(|_| !is_missing).as_deref());
            Ok(())
        }

        fn place(&self, line: u64, column: usize) -> String {
            let name = self.header.as_ref().map(|names| format!(" ({})", shown(&names[column])));
            format!("in line {line}, column {column}{}", name.unwrap_or_default())
        }

        fn finish(self, between: &str) -> Result<Table> {
            let columns = self.fields - usize::from(self.label.is_some());
            let header = if self.header.is_some() { ", the first line names the columns" } else { ", no header" };
            let labels = self.label.map(|_| self.labels.finish());
            let mut table = Table::new(Numbers::of(self.numbers), columns.max(usize::from(labels.is_none())));
            table.labels = labels;
            table.note = Some(format!("{} × {columns}, {between} between fields{header}", table.len()));
            Ok(table)
        }
    }

    /// Parses a field; NaN if it is missing.
    fn number(field: &[u8]) -> Option<f32> {
        let text = str::from_utf8(field).ok()?;
        if MISSING.iter().any(|name| text.eq_ignore_ascii_case(name)) {
            return Some(f32::NAN);
        }
        // Parsed as `f32` directly, because rounding through `f64` would round twice.
        text.parse().ok().filter(|x: &f32| x.is_finite())
    }
}
