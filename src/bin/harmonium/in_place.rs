//! Rows of an npy file that are read from disk as needed, on request or if they are too large for memory.

use crate::{
    console::complain,
    data::{self, Selection},
    memory, ranks,
};
use harmonium::{
    Dataset, Error, Rbm, Result, Source,
    formats::{
        LabelSource, Reading,
        npy::{MAGIC, OnDisk},
    },
    model::Extras,
};
use std::{
    fs::File,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
};

/// Opens the file if its rows are to stay on disk. `hindrance`: another reason against it, as expected and found.
pub fn open(
    path: &Path, is_asked: bool, how: &Reading, hindrance: Option<(&'static str, String)>,
) -> Result<Option<OnDisk>> {
    // All ranks must make the same choice.
    if !is_asked && !ranks::any(is_large(path)) {
        return Ok(None);
    }
    let hindrance = if path.is_dir() {
        Some(("an npy file as --data", format!("the folder {}", path.display())))
    } else if let Some(array) = &how.array {
        Some(("an npy file, which has one array", format!("--array {array}")))
    } else if how.labels != LabelSource::None {
        Some(("rows without labels, as labels need the rows in memory", "labels".into()))
    } else {
        hindrance
    };
    match (hindrance, is_asked) {
        (None, true) => OnDisk::open(path, how.visible).map(Some),
        (Some((expected, found)), true) => {
            Err(Error::Argument { what: "--in-place", expected: expected.into(), found })
        }
        // The caller reads the whole file instead and reports its errors. It may fit into memory after all.
        (None, false) => Ok(OnDisk::open(path, how.visible).ok()),
        (Some(_), false) => Ok(None),
    }
}

/// Whether an npy file has more bytes than half of the free memory.
fn is_large(path: &Path) -> bool {
    let is_array = || {
        let mut start = [0; MAGIC.len()];
        File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok_and(|()| start == MAGIC)
    };
    path.metadata().is_ok_and(|found| found.is_file() && found.len() > memory::free() / 2) && is_array()
}

/// Prints a notice that rows stay on disk, with the assumptions about their values.
pub fn notice(path: &Path, file: &OnDisk) {
    let (path, mib) = (path.display(), file.bytes().div_ceil(1 << 20));
    let assumed = file.assumed().map_or(String::new(), |assumed| format!("; {assumed}"));
    complain(&format!("notice: {path}: {mib} MiB stay on disk{assumed}"));
}

/// Rows of a file for a model.
pub struct ForModel<'a> {
    file: OnDisk,
    path: PathBuf,
    model: (&'a Rbm, &'a Extras),
}

impl<'a> ForModel<'a> {
    /// Opens the file if its rows are to stay on disk. They must fit the model in the file `name`.
    pub fn open(
        model: (&'a Rbm, &'a Extras), name: &Path, (path, selection): (&Path, &Selection), is_asked: bool,
    ) -> Result<Option<Self>> {
        let (rbm, extras) = model;
        let visible = rbm.shape().visible();
        let how = selection.reading(data::laws(data::before_scale(visible, extras)))?;
        let Some(file) = open(path, is_asked, &how, None)? else { return Ok(None) };
        data::check_fits(extras.data_units(visible).units(), name, path, file.segments().units())?;
        notice(path, &file);
        Ok(Some(Self { file, path: path.into(), model }))
    }

    pub fn len(&self) -> usize {
        self.file.len()
    }

    /// Reads some of the rows, scaled for the model and with missing labels. Also returns the number of clipped values.
    pub fn rows(&self, rows: Range<usize>) -> Result<(Dataset, usize)> {
        let (rbm, extras) = self.model;
        let visible = rbm.shape().visible();
        let rows = self.file.select(&rows.collect::<Vec<_>>())?;
        let rows = data::labelled(rows, None, &extras.labels, &self.path)?;
        match &extras.scale {
            Some(scale) => scale.apply_for(&rows, visible),
            None => Ok((data::with_laws(rows, visible)?, 0)),
        }
    }

    /// Reads the first `limit` rows into memory.
    pub fn first(&self, limit: Option<usize>) -> Result<Dataset> {
        // The rows as read, the scaled rows, and a copy.
        let most = memory::free() / (12 * self.model.0.shape().n_visible() as u64);
        let limit = match limit {
            Some(limit) if limit.min(self.len()) as u64 <= most => limit.min(self.len()),
            other => {
                return Err(Error::Argument {
                    what: "--limit",
                    expected: format!(
                        "at most {most}, the number of rows of {} that fit in memory",
                        self.path.display()
                    ),
                    found: other.map_or("none".into(), |limit| limit.to_string()),
                });
            }
        };
        let (rows, outside) = self.rows(0..limit)?;
        self.report_outside(outside);
        Ok(rows)
    }

    /// Prints a notice if values were clipped.
    pub fn report_outside(&self, outside: usize) {
        if outside > 0 {
            complain(&data::outside(&self.path, outside));
        }
    }
}
