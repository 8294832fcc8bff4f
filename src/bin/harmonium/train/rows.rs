//! The rows that a run is trained on: in memory, or in a file where they stay; and what an epoch shows of them.

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

/// So many bytes of rows in a file are in memory at once, or one batch where it has more.
const WINDOW: usize = 16 << 20;
/// So many rows are looked at while a model is trained, of those to train on and of others.
pub const MOST_ROWS: usize = 5000;

/// All rows that are trained on.
pub enum Rows {
    InMemory(Dataset),
    InPlace(Box<InPlace>),
}

/// Rows of a file.
pub struct InPlace {
    file: OnDisk,
    /// The first so many of them, without others.
    limit: usize,
    /// Of those others, in ascending order, how many rows that are trained on stand before each.
    gaps: Vec<usize>,
    /// What is known after all rows have been read once.
    known: Option<Known>,
}

struct Known {
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

    /// Whether any value is known to be missing.
    pub fn has_missing(&self) -> bool {
        matches!(self, Rows::InMemory(rows) if rows.rows().has_missing())
    }

    /// Those in memory as `change` makes them.
    pub fn map(self, change: impl FnOnce(Dataset) -> Result<Dataset>) -> Result<Self> {
        match self {
            Rows::InMemory(rows) => change(rows).map(Rows::InMemory),
            in_place => Ok(in_place),
        }
    }

    /// Keeps the first rows only.
    pub fn keep_first(&mut self, limit: usize) -> Result<()> {
        match self {
            Rows::InMemory(rows) => rows.keep(0..limit),
            Rows::InPlace(rows) => {
                rows.limit = limit;
                Ok(())
            }
        }
    }

    /// Takes `n` rows out; gives them, or of those of a file the ones that are looked at.
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

    /// Some of the rows from all over, at most [`MOST_ROWS`], that are looked at while a model is trained; and of others,
    /// which are already those where rows stay on disk.
    pub fn looked_at(&self, validation: Option<&Dataset>, seed: u64) -> Result<(Dataset, Option<Dataset>)> {
        let some = |rows: &dyn Source| data::from_all_over(rows, MOST_ROWS, seed);
        let others = validation.map(|others| match self {
            Rows::InPlace(rows) if !rows.gaps.is_empty() => Ok(others.clone()),
            _ => some(others),
        });
        Ok((some(self.source())?, others.transpose()?))
    }

    /// What tells the rows apart from others.
    pub fn fingerprint(&self) -> Result<String> {
        match self {
            Rows::InMemory(rows) => Ok(fingerprint(rows.rows())),
            Rows::InPlace(rows) => Ok(rows.known()?.fingerprint.clone()),
        }
    }

    /// Sums over all rows, in their order.
    pub fn columns(&self) -> Result<Columns> {
        match self {
            Rows::InMemory(rows) => {
                let mut columns = Columns::new(rows.segments());
                columns.add(rows.rows());
                Ok(columns)
            }
            Rows::InPlace(rows) => Ok(rows.known()?.columns.clone()),
        }
    }

    /// The first Gaussian unit whose column is the same number in all rows, and that number.
    pub fn without_variance(&self) -> Result<Option<(usize, f32)>> {
        match self {
            Rows::InMemory(rows) => Ok(without_variance(rows.rows())),
            Rows::InPlace(rows) => Ok(rows.known()?.constant),
        }
    }

    /// How many rows an epoch shows at once, in batches of so many.
    fn window(&self, batch_size: usize) -> usize {
        match self {
            Rows::InMemory(rows) => rows.len(),
            Rows::InPlace(rows) => (WINDOW / rows.row_bytes() / batch_size).max(1).saturating_mul(batch_size),
        }
    }

    /// Bytes of memory that an epoch takes besides the rows: `bytes` for each value in memory that is shown in another form, and
    /// for rows in a file a window, as it was read and as it is shown, and their order.
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
    /// The rows of a file, where they are to stay there. `known`: what belongs to the model to go on from.
    pub fn open(options: &Train, how: &Reading, known: Option<&Extras>) -> Result<Option<Self>> {
        let hindrance = if known.is_some_and(|known| !known.labels.is_empty()) {
            Some(("a model without labels, as their site is put beside rows in memory", "one with labels".into()))
        } else if options.scale != Scaling::None {
            Some(("--scale none, as values stay as they are on disk", format!("--scale {}", options.scale)))
        } else if known.is_some_and(|known| known.scale.is_some()) {
            Some(("a model without a scale, as values stay as they are on disk", "one with a scale".into()))
        } else {
            None
        };
        let Some(file) = in_place::open(&options.data, options.in_place, how, hindrance)? else { return Ok(None) };
        if !options.quiet {
            in_place::tell(&options.data, &file);
        }
        Ok(Some(Self { limit: file.len(), file, gaps: Vec::new(), known: None }))
    }

    pub fn img_shape(&self) -> Option<(usize, usize)> {
        self.file.img_shape()
    }

    /// Takes `n` rows out, those that [`data::without_some`] takes; gives those of them that are looked at.
    fn take(&mut self, n: usize, seed: u64) -> Result<Dataset> {
        let mut taken = data::some_numbers(self.limit, n, seed);
        let chosen = Uniforms::new(seed, Purpose::Shuffling).permutation_start(n, MOST_ROWS);
        let chosen: Vec<_> = chosen.into_iter().map(|place| taken[place]).collect();
        taken.sort_unstable();
        taken.iter_mut().enumerate().for_each(|(before, row)| *row -= before);
        self.gaps = taken;
        self.file.select(&chosen)
    }

    /// Reads all rows once: they are right, and tell what has to be known of all.
    pub fn look(&mut self) -> Result<()> {
        let (len, segments) = (self.len(), self.file.segments());
        let (mut digits, mut columns) = (Fingerprint::new(len), Columns::new(segments));
        let numbers = segments.iter().filter(|(segment, _)| segment.is_number()).flat_map(|(_, units)| units);
        // Columns of which only one number has come.
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
        self.known = Some(Known { fingerprint: digits.finish(), columns, constant: constant.first().copied() });
        Ok(())
    }

    fn known(&self) -> Result<&Known> {
        let (what, expected, found) = ("rows", "rows that have been read once".into(), "others".into());
        self.known.as_ref().ok_or(Error::Argument { what, expected, found })
    }

    /// Bytes of a row in memory, at most.
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
    /// The number of the first one in the epoch.
    pub first: usize,
}

impl Job {
    /// Whether every epoch shows the rows as they are.
    pub fn shows_as_it_is(&self) -> bool {
        self.options.shuffle != Some(Switch::On) && self.options.binarise == Binarise::None
    }

    /// The rows of a batch, counted from 0, in the order of an epoch.
    pub fn batch(&self, n: u64) -> Range<usize> {
        let (len, size) = (self.rows.len(), self.options.batch_size);
        let start = len.min((n as usize).saturating_mul(size));
        start..len.min(start.saturating_add(size))
    }

    /// The batches from number `first` on that are shown at once.
    pub fn window(&self, first: u64) -> Range<u64> {
        let size = self.options.batch_size;
        first..self.in_epoch().min(first + self.rows.window(size).div_ceil(size) as u64)
    }

    /// What an epoch shows in these batches, and perhaps in others.
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

    /// Sums over what the first epoch shows.
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
