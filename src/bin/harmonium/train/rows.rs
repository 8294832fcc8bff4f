//! The training rows, in memory or in a file, and their order in each epoch.

use super::{
    Job, Train,
    values::{Scaling, Switch},
};
use crate::{data, in_place};
use harmonium::{
    Binarise, Columns, Dataset, Epochs, Error, Purpose, Result, Segments, Source, Uniforms,
    checkpoint::{Fingerprint, fingerprint},
    formats::{Reading, npy::OnDisk},
    model::Extras,
    scale::without_variance,
};
use std::ops::Range;

/// The bytes of rows of a file that are in memory at a time, or one minibatch if it is larger.
const WINDOW: usize = 16 << 20;
/// The number of training rows, and of validation rows, that are evaluated during training.
pub const MOST_ROWS: usize = 5000;

/// The training rows.
pub enum Rows {
    InMemory(Dataset),
    InPlace(Box<InPlace>),
}

/// Rows that stay in a file.
pub struct InPlace {
    file: OnDisk,
    /// The number of rows of the file in use.
    limit: usize,
    /// For each removed row, in ascending order, the number of training rows before it.
    gaps: Vec<usize>,
    /// Results of the pass over all rows.
    scan: Option<Scan>,
}

struct Scan {
    fingerprint: String,
    columns: Columns,
    constant: Option<(usize, f32)>,
}

impl Rows {
    pub fn source(&self) -> &dyn Source {
        match self {
            Rows::InMemory(rows) => rows,
            Rows::InPlace(rows) => &**rows,
        }
    }

    pub fn len(&self) -> usize {
        self.source().len()
    }

    pub fn segments(&self) -> Segments {
        self.source().segments()
    }

    pub fn units(&self) -> usize {
        self.segments().units()
    }

    /// Whether any value is missing; `false` for rows in a file.
    pub fn has_missing(&self) -> bool {
        matches!(self, Rows::InMemory(rows) if rows.rows().has_missing())
    }

    /// Applies `change` to rows in memory.
    pub fn map(self, change: impl FnOnce(Dataset) -> Result<Dataset>) -> Result<Self> {
        match self {
            Rows::InMemory(rows) => change(rows).map(Rows::InMemory),
            in_place => Ok(in_place),
        }
    }

    /// Keeps the first `limit` rows only.
    pub fn keep_first(&mut self, limit: usize) -> Result<()> {
        match self {
            Rows::InMemory(rows) => rows.keep(0..limit),
            Rows::InPlace(rows) => {
                rows.limit = limit;
                Ok(())
            }
        }
    }

    /// Removes `n` rows and returns them, or of rows in a file only the ones for evaluation.
    pub fn take(&mut self, n: usize, seed: u64) -> Result<Dataset> {
        match self {
            Rows::InMemory(rows) => {
                let (others, taken) = data::without_some(rows, n, seed)?;
                *rows = others;
                Ok(taken)
            }
            Rows::InPlace(rows) => rows.take(n, seed),
        }
    }

    /// Random training rows for evaluation, at most [`MOST_ROWS`].
    pub fn for_evaluation(&self, seed: u64) -> Result<Dataset> {
        data::from_all_over(self.source(), MOST_ROWS, seed)
    }

    /// Random validation rows for evaluation, at most [`MOST_ROWS`]. If rows stay on disk, `validation` has been reduced already.
    pub fn validation_for_evaluation(&self, validation: Dataset, seed: u64) -> Result<Dataset> {
        match self {
            Rows::InPlace(rows) if !rows.gaps.is_empty() => Ok(validation),
            _ => data::from_all_over(&validation, MOST_ROWS, seed),
        }
    }

    /// The fingerprint of the rows.
    pub fn fingerprint(&self) -> Result<String> {
        match self {
            Rows::InMemory(rows) => Ok(fingerprint(rows.rows())),
            Rows::InPlace(rows) => Ok(rows.scan()?.fingerprint.clone()),
        }
    }

    /// Column sums over all rows.
    pub fn columns(&self) -> Result<Columns> {
        match self {
            Rows::InMemory(rows) => {
                let mut columns = Columns::new(rows.segments());
                columns.add(rows.rows());
                Ok(columns)
            }
            Rows::InPlace(rows) => Ok(rows.scan()?.columns.clone()),
        }
    }

    /// The first Gaussian unit with a constant column, and its value.
    pub fn without_variance(&self) -> Result<Option<(usize, f32)>> {
        match self {
            Rows::InMemory(rows) => Ok(without_variance(rows.rows())),
            Rows::InPlace(rows) => Ok(rows.scan()?.constant),
        }
    }

    /// The number of rows in memory at a time, a multiple of the batch size.
    fn window(&self, batch_size: usize) -> usize {
        match self {
            Rows::InMemory(rows) => rows.len(),
            Rows::InPlace(rows) => (WINDOW / rows.row_bytes() / batch_size).max(1).saturating_mul(batch_size),
        }
    }

    /// Bytes of memory of an epoch besides the rows. Rows in memory need `bytes` for each shuffled or binarised value. Rows in a
    /// file need a window, as read and as converted, and their order.
    pub fn besides(&self, bytes: usize, batch_size: usize) -> usize {
        match self {
            Rows::InMemory(rows) => rows.len().saturating_mul(rows.units()).saturating_mul(bytes),
            Rows::InPlace(rows) => {
                let window = self.window(batch_size).min(rows.len());
                window.saturating_mul(3 * rows.row_bytes()).saturating_add(8 * rows.len())
            }
        }
    }
}

impl InPlace {
    /// Opens the file if its rows are to stay there. `known`: scale and labels of the initial model.
    pub fn open(options: &Train, how: &Reading, known: Option<&Extras>) -> Result<Option<Self>> {
        let hindrance = if known.is_some_and(|known| !known.labels.is_empty()) {
            Some(("a model without labels, as labels need the rows in memory", "one with labels".into()))
        } else if options.scale != Scaling::None {
            Some(("--scale none, as values stay as they are on disk", format!("--scale {}", options.scale)))
        } else if known.is_some_and(|known| known.scale.is_some()) {
            Some(("a model without a scale, as values stay as they are on disk", "one with a scale".into()))
        } else {
            None
        };
        let Some(file) = in_place::open(&options.data, options.in_place, how, hindrance)? else { return Ok(None) };
        if !options.quiet {
            in_place::notice(&options.data, &file);
        }
        Ok(Some(Self { limit: file.len(), file, gaps: Vec::new(), scan: None }))
    }

    pub fn img_shape(&self) -> Option<(usize, usize)> {
        self.file.img_shape()
    }

    /// Removes the `n` rows that [`data::without_some`] removes; returns those for evaluation.
    fn take(&mut self, n: usize, seed: u64) -> Result<Dataset> {
        let mut taken = data::some_numbers(self.limit, n, seed);
        let chosen = Uniforms::new(seed, Purpose::Shuffling).permutation_start(n, MOST_ROWS);
        let chosen: Vec<_> = chosen.into_iter().map(|place| taken[place]).collect();
        taken.sort_unstable();
        taken.iter_mut().enumerate().for_each(|(before, row)| *row -= before);
        self.gaps = taken;
        self.file.select(&chosen)
    }

    /// Reads all rows once: validates them, and computes their fingerprint and column sums.
    pub fn scan_all(&mut self) -> Result<()> {
        let (len, segments) = (self.len(), self.file.segments());
        let (mut digits, mut columns) = (Fingerprint::new(len), Columns::new(segments));
        let numbers = segments.iter().filter(|(segment, _)| segment.is_number()).flat_map(|(_, units)| units);
        // Columns that have been constant so far.
        let mut constant: Vec<(usize, f32)> = Vec::new();
        let step = (WINDOW / self.row_bytes()).max(1);
        let mut rows = self.select(&[0])?;
        constant.extend(numbers.map(|column| (column, rows.rows().value(0, column))));
        for first in (0..len).step_by(step) {
            let part: Vec<_> = (first..len.min(first + step)).collect();
            self.read(&part, &mut rows)?;
            digits.add(rows.rows());
            columns.add(rows.rows());
            constant.retain(|&(column, x)| (0..rows.len()).all(|r| rows.rows().value(r, column) == x));
        }
        self.scan = Some(Scan { fingerprint: digits.finish(), columns, constant: constant.first().copied() });
        Ok(())
    }

    fn scan(&self) -> Result<&Scan> {
        let (what, expected, found) = ("rows", "rows after a scan".into(), "none".into());
        self.scan.as_ref().ok_or(Error::Argument { what, expected, found })
    }

    /// The greatest size of a row in memory, in bytes.
    fn row_bytes(&self) -> usize {
        self.file.segments().units() * size_of::<f32>()
    }
}

impl Source for InPlace {
    fn len(&self) -> usize {
        self.limit - self.gaps.len()
    }

    fn segments(&self) -> Segments {
        self.file.segments()
    }

    fn read(&self, rows: &[usize], into: &mut Dataset) -> Result<()> {
        let of_file = |&row: &usize| row + self.gaps.partition_point(|&before| before <= row);
        self.file.read(&rows.iter().map(of_file).collect::<Vec<_>>(), into)
    }
}

/// Rows of an epoch.
pub struct Shown<'a> {
    pub rows: &'a Dataset,
    /// The position of the first row in the epoch.
    pub first: usize,
}

impl Job {
    /// Whether every epoch uses the rows unchanged.
    pub fn uses_rows_unchanged(&self) -> bool {
        self.options.shuffle != Some(Switch::On) && self.options.binarise == Binarise::None
    }

    /// The rows of minibatch `n`, counted from 0, in the order of the epoch.
    pub fn batch(&self, n: u64) -> Range<usize> {
        let (len, size) = (self.rows.len(), self.options.batch_size);
        let start = len.min((n as usize).saturating_mul(size));
        start..len.min(start.saturating_add(size))
    }

    /// The minibatches, from number `first` on, that are in memory at a time.
    pub fn window(&self, first: u64) -> Range<u64> {
        let size = self.options.batch_size;
        first..self.in_epoch().min(first + self.rows.window(size).div_ceil(size) as u64)
    }

    /// The rows of these minibatches of an epoch, possibly with others.
    pub fn show<'a>(&'a self, epochs: &'a mut Epochs, epoch: u64, batches: Range<u64>) -> Result<Shown<'a>> {
        match &self.rows {
            Rows::InMemory(rows) => Ok(Shown { rows: epochs.show(rows, epoch)?, first: 0 }),
            Rows::InPlace(rows) => {
                let first = self.batch(batches.start).start;
                let end = self.batch(batches.end - 1).end;
                Ok(Shown { rows: epochs.show_part(&**rows, epoch, first..end)?, first })
            }
        }
    }

    /// Column sums over the rows of the first epoch.
    pub fn first_columns(&self, epochs: &mut Epochs) -> Result<Columns> {
        if let Some(columns) = self.first_columns.get() {
            return Ok(columns.clone());
        }
        let (mut columns, mut next) = (Columns::new(self.rows.segments()), 0);
        while next < self.in_epoch() {
            let window = self.window(next);
            columns.add(self.show(epochs, 0, window.clone())?.rows.rows());
            next = window.end;
        }
        Ok(self.first_columns.get_or_init(|| columns).clone())
    }
}
