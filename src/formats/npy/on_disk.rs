//! An npy file whose rows are read from disk on demand.

use super::Layout;
use crate::{
    dataset::{Dataset, check_numbers},
    error::{Error, Result},
    formats::{
        Reading, UNIT_INTERVAL,
        table::{Numbers, Table},
    },
    lanes::threads::{RowsMut, share},
    source::Source,
    storage::{check_ends, file_error, format_error, stream_error},
    units::{Segment, Segments},
};
use std::{
    fs::File,
    io::{self, BufReader},
    ops::Range,
    path::Path,
    sync::Mutex,
};

/// The number of bytes in one read of the scan for bits.
const STEP: usize = 1 << 20;

/// An npy file in C order that may be larger than memory. Its rows are read on demand, with the same values that
/// [`Reading`](crate::formats::Reading) gives for the whole file.
///
/// The rows are read at their position in the file and not cached here; the operating system's page cache may keep them. The file is
/// not memory-mapped, so that a file that another program truncates causes an error and not a signal. Missing values are refused.
///
/// ```
/// use harmonium::npy::{self, OnDisk};
/// use harmonium::{Binarise, Cpu, Epochs, Rbm, Settings, Shape, Source, Trainer};
///
/// let path = std::env::temp_dir().join(format!("harmonium-on-disk-{}.npy", std::process::id()));
/// npy::save(&[0.0, 1.0, 1.0].repeat(50), 3, &path)?;
///
/// let data = OnDisk::open(&path, None)?;
/// let cpu = Cpu::detect()?;
/// let mut rbm = Rbm::new(Shape::with_visible(data.segments(), 2)?, 123).on(cpu)?;
/// let mut trainer = Trainer::new(cpu, rbm.shape(), Settings::default())?;
/// let mut epochs = Epochs::new(true, Binarise::None, 123)?;
/// for first in (0..data.len()).step_by(20) {
///     let rows = epochs.show_part(&data, 0, first..data.len().min(first + 20))?;
///     for batch in rows.batches(10) {
///         trainer.step(&mut rbm, rows.rows().range(batch), 0.1)?;
///     }
/// }
/// // Batches of 10 and 10 rows, 10 and 10, and 10.
/// assert_eq!(trainer.report()?.updates, 5);
/// # let _ = std::fs::remove_file(path);
/// # Ok::<(), harmonium::Error>(())
/// ```
#[derive(Debug)]
pub struct OnDisk {
    file: File,
    source_name: String,
    layout: Layout,
    segments: Segments,
    /// The caller gave laws other than the file's own.
    has_laws: bool,
    /// For each segment: its eight-bit values are bits.
    bits: Vec<bool>,
}

impl OnDisk {
    /// Opens a file with the given laws of visible units, or with binary units for `None`.
    ///
    /// Unsigned eight-bit values are bits if the greatest of them is 1, else x stands for x/255. To decide this, `open` scans the
    /// values up to the first one above 1, in the worst case all of them.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read. [`Error::Format`] if the module does not [support](super) it, if it is compressed or
    /// in Fortran order, if it is shorter or longer than its header says, if it has no rows, or if rows do not fit the laws. An
    /// invalid value is reported when its row is read.
    pub fn open(path: impl AsRef<Path>, visible: Option<Segments>) -> Result<Self> {
        let (path, source_name) = (path.as_ref(), path.as_ref().display().to_string());
        check_ends(path)?;
        let file = File::open(path).map_err(|problem| file_error(path, problem))?;
        let layout = Layout::read(&mut BufReader::new(&file), &source_name, &Reading::default())?;
        let fail = |expected: &str, found: &str| Err(format_error(&source_name, expected, found));
        if layout.fortran_order {
            return fail("an array in C order, as its rows stay on disk", "one in Fortran order");
        }
        if layout.bytes == 0 {
            return fail("at least one row", "none");
        }
        let len = file.metadata().map_err(|problem| file_error(path, problem))?.len();
        let found = len.saturating_sub(layout.start);
        if found < layout.bytes as u64 {
            return fail(&format!("{} bytes of npy values", layout.bytes), &found.to_string());
        }
        if found > layout.bytes as u64 {
            return fail("the end after the values that the header announces", "more bytes");
        }
        let Ok(units) = u32::try_from(layout.units) else {
            return fail("less than 2^32 values a row", &layout.units.to_string());
        };
        let segments = visible.map_or_else(|| Segments::new(&[Segment::Binary(units)]), Ok)?;
        let bits = vec![false; segments.iter().count()];
        if visible.is_some() {
            // Checks the length of a row against the laws; a table without rows can fail for no other reason.
            let none = Table::new(Numbers::Bytes(Vec::new()), layout.units);
            none.into_rows(segments, &source_name, u64::MAX, None)?;
        }
        let mut new = Self { file, source_name, layout, segments, has_laws: visible.is_some(), bits };
        new.bits = new.look_for_bits()?;
        Ok(new)
    }

    /// Height and width of the image in each row, if the file says so.
    pub fn img_shape(&self) -> Option<(usize, usize)> {
        self.layout.img_shape()
    }

    /// The size of the values on disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.layout.bytes as u64
    }

    /// The assumptions of the reader about what the file leaves open: one line to show to the user.
    pub fn assumed(&self) -> Option<String> {
        const BITS: &str = "eight-bit, values 0 to 1: bits";
        if !self.has_laws {
            return self.bits[0].then(|| format!("{} × {}, {BITS}", self.len(), self.layout.units));
        }
        let segments = self.segments.iter().zip(&self.bits);
        let of_bits = segments.filter(|((segment, _), is_bits)| **is_bits && matches!(segment, Segment::Binary(_)));
        of_bits.map(|((segment, _), _)| format!("{segment}: {BITS}")).reduce(|all, more| format!("{all}; {more}"))
    }

    /// Scans the file. For each segment: true if its eight-bit values are bits, the greatest of them being 1.
    fn look_for_bits(&self) -> Result<Vec<bool>> {
        let columns = self.columns();
        let (mut are_above, mut has_one) = (vec![false; columns.len()], vec![false; columns.len()]);
        if !self.layout.kind.is_eight_bit() {
            return Ok(has_one);
        }
        let width = self.layout.units;
        let mut bytes = vec![0; (STEP / width).clamp(1, self.len()) * width];
        for first in (0..self.len()).step_by(bytes.len() / width) {
            let rows = (self.len() - first).min(bytes.len() / width);
            let bytes = &mut bytes[..rows * width];
            self.read_run(first, bytes)?;
            if columns.len() == 1 {
                has_one[0] |= bytes.contains(&1);
                are_above[0] |= bytes.iter().any(|&x| x > 1);
            } else {
                for row in bytes.chunks_exact(width) {
                    for (n, columns) in columns.iter().enumerate() {
                        has_one[n] |= row[columns.clone()].contains(&1);
                        are_above[n] |= row[columns.clone()].iter().any(|&x| x > 1);
                    }
                }
            }
            if are_above.iter().all(|&is_above| is_above) {
                break;
            }
        }
        Ok(has_one.iter().zip(are_above).map(|(&has_one, is_above)| has_one && !is_above).collect())
    }

    /// The range of columns of each segment.
    fn columns(&self) -> Vec<Range<usize>> {
        let has_states = self.layout.units != self.segments.units();
        let mut end = 0;
        let of = |(segment, _): (Segment, Range<usize>)| {
            let start = end;
            end += if has_states { segment.sites() } else { segment.units() };
            start..end
        };
        self.segments.iter().map(of).collect()
    }

    /// Reads the bytes of rows into `into` with all threads. If several rows cannot be read, reports the first one.
    fn read_bytes(&self, rows: &[usize], into: &mut [u8]) -> Result<()> {
        let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        share(RowsMut::new(self.row_bytes(), into), &|part: RowsMut<'_, u8>| {
            let Err((row, problem)) = self.read_part(&rows[part.first..], part.values) else { return };
            // No code panics while it holds the lock.
            let mut failure = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if failure.as_ref().is_none_or(|(other, _)| row < *other) {
                *failure = Some((row, problem));
            }
        });
        let failure = failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        failure.map_or(Ok(()), |(_, problem)| Err(problem))
    }

    /// Reads as many of `rows` as fit `into`, on this thread. Reads in the order of the file and joins adjacent rows into one read. An
    /// error has the number of the row that cannot be read.
    fn read_part(&self, rows: &[usize], into: &mut [u8]) -> std::result::Result<(), (usize, Error)> {
        let width = self.row_bytes();
        let mut runs: Vec<(usize, usize, usize)> = Vec::new();
        for (place, &row) in rows[..into.len() / width].iter().enumerate() {
            match runs.last_mut() {
                Some((first, _, n)) if *first + *n == row => *n += 1,
                _ => runs.push((row, place, 1)),
            }
        }
        runs.sort_unstable();
        for (row, place, n) in runs {
            self.read_run(row, &mut into[place * width..][..n * width]).map_err(|problem| (row, problem))?;
        }
        Ok(())
    }

    /// Reads the bytes of adjacent rows into `into`, starting at row `row`.
    fn read_run(&self, row: usize, into: &mut [u8]) -> Result<()> {
        let width = self.row_bytes() as u64;
        read_exact_at(&self.file, into, self.layout.start + row as u64 * width).map_err(|problem| {
            if problem.kind() != io::ErrorKind::UnexpectedEof {
                return stream_error(&self.source_name, problem);
            }
            let expected = format!("{} rows, as when it was opened", self.len());
            let left = self.file.metadata().map_or(0, |found| found.len().saturating_sub(self.layout.start) / width);
            format_error(&self.source_name, expected, format!("{left}: the file has become shorter"))
        })
    }

    fn row_bytes(&self) -> usize {
        self.layout.units * self.layout.kind.width
    }

    /// Returns an error about value number `at` of these rows.
    fn wrong<T>(&self, rows: &[usize], at: usize, expected: &str, found: impl ToString) -> Result<T> {
        let units = self.layout.units;
        let found = format!("{} in row {}, column {}", found.to_string(), rows[at / units], at % units);
        Err(format_error(&self.source_name, expected, found))
    }

    /// Reads rows of binary units, without laws from the caller.
    fn read_binary(&self, rows: &[usize], into: &mut Dataset) -> Result<()> {
        let (kind, len) = (self.layout.kind, rows.len() * self.layout.units);
        if kind.is_byte() {
            let values = into.bytes_mut(len, self.segments);
            self.read_bytes(rows, values)?;
            return self.check_bytes(rows, values, self.bits[0]).map(|is_bits| {
                if is_bits {
                    values.iter_mut().for_each(|x| *x *= 255);
                }
            });
        }
        let mut bytes = vec![0; len * kind.width];
        self.read_bytes(rows, &mut bytes)?;
        if kind.letter == b'f' {
            let values = into.numbers_mut(len, self.segments);
            self.write_numbers(rows, &bytes, values, |x| (0.0..=1.0).contains(&x).then_some(x as f32))
        } else {
            let values = into.bytes_mut(len, self.segments);
            self.write_numbers(rows, &bytes, values, |x| (x == 0.0 || x == 1.0).then(|| 255 * x as u8))
        }
    }

    /// Reads rows with laws from the caller.
    fn read_laws(&self, rows: &[usize], first: usize) -> Result<Dataset> {
        let kind = self.layout.kind;
        let mut bytes = vec![0; rows.len() * self.row_bytes()];
        self.read_bytes(rows, &mut bytes)?;
        let numbers = if kind.is_eight_bit() {
            Numbers::Bytes(bytes)
        } else if kind.is_byte() {
            self.check_bytes(rows, &bytes, false)?;
            Numbers::Bits(bytes)
        } else {
            let mut values = vec![0.0; rows.len() * self.layout.units];
            self.write_numbers(rows, &bytes, &mut values, |x| Some(x as f32))?;
            Numbers::Real(values, None)
        };
        let table = Table { first, ..Table::new(numbers, self.layout.units) };
        Ok(table.into_rows(self.segments, &self.source_name, u64::MAX, Some(&self.bits))?.rows)
    }

    /// Checks that truth values and bits are 0 or 1; returns true if the bytes are bits.
    fn check_bytes(&self, rows: &[usize], values: &[u8], are_bits: bool) -> Result<bool> {
        let expected = match self.layout.kind.is_eight_bit() {
            false => "bytes 0 or 1 for False and True",
            true if are_bits => "bits, 0 or 1, as all values were when the file was opened",
            true => return Ok(false),
        };
        match values.iter().position(|&x| x > 1) {
            Some(at) => self.wrong(rows, at, expected, values[at]),
            None => Ok(true),
        }
    }

    /// Decodes the number in each group of bytes and stores what `value` returns for it; `None` is an error.
    fn write_numbers<T>(
        &self, rows: &[usize], bytes: &[u8], into: &mut [T], value: impl Fn(f64) -> Option<T>,
    ) -> Result<()> {
        let kind = self.layout.kind;
        match (kind.letter, kind.width, kind.is_big_endian) {
            (b'f', 4, false) => self.write_each(rows, bytes, into, |&x| f32::from_le_bytes(x).into(), value),
            (b'f', 4, true) => self.write_each(rows, bytes, into, |&x| f32::from_be_bytes(x).into(), value),
            (_, 1, _) => self.write_each(rows, bytes, into, |x: &[u8; 1]| kind.number(x), value),
            (_, 2, _) => self.write_each(rows, bytes, into, |x: &[u8; 2]| kind.number(x), value),
            (_, 4, _) => self.write_each(rows, bytes, into, |x: &[u8; 4]| kind.number(x), value),
            _ => self.write_each(rows, bytes, into, |x: &[u8; 8]| kind.number(x), value),
        }
    }

    fn write_each<const WIDTH: usize, T>(
        &self, rows: &[usize], bytes: &[u8], into: &mut [T], number: impl Fn(&[u8; WIDTH]) -> f64,
        value: impl Fn(f64) -> Option<T>,
    ) -> Result<()> {
        for (at, (bytes, into)) in bytes.as_chunks().0.iter().zip(into).enumerate() {
            let x = number(bytes);
            match value(x) {
                _ if x.is_nan() => return self.wrong(rows, at, "no missing value, as rows stay on disk", x),
                Some(x) => *into = x,
                None => return self.wrong(rows, at, UNIT_INTERVAL, x),
            }
        }
        Ok(())
    }
}

impl Source for OnDisk {
    fn len(&self) -> usize {
        self.layout.shape[0]
    }

    fn segments(&self) -> Segments {
        self.segments
    }

    fn read(&self, rows: &[usize], into: &mut Dataset) -> Result<()> {
        check_numbers(rows, self.len())?;
        if !self.has_laws {
            return self.read_binary(rows, into);
        }
        match self.read_laws(rows, 0) {
            Ok(read) => *into = read,
            // Reading the rows one at a time gives the error the row's number in the file.
            Err(problem) => {
                rows.iter().try_for_each(|&row| self.read_laws(&[row], row).map(|_| ()))?;
                return Err(problem);
            }
        }
        Ok(())
    }
}

/// Reads from byte `at` of the file, independently of other readers.
#[cfg(unix)]
fn read_exact_at(file: &File, into: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, at)
}

/// Reads from byte `at` of the file, independently of other readers.
#[cfg(windows)]
fn read_exact_at(file: &File, mut into: &mut [u8], mut at: u64) -> io::Result<()> {
    while !into.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, into, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                into = &mut into[n..];
                at += n as u64;
            }
            Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(())
}

/// Other systems have no read at a position that leaves the file's shared cursor alone.
#[cfg(not(any(unix, windows)))]
fn read_exact_at(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
