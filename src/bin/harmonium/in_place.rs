//! Rows of an npy file that stay on disk, because that was asked for or because they would take too much memory.

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

/// The file, where its rows are to stay there. `hindrance`: what else keeps them from it, as expected and found.
pub fn open(
    path: &Path, is_asked: bool, how: &Reading, hindrance: Option<(&'static str, String)>,
) -> Result<Option<OnDisk>> {
    // Rows may stay on disk on all ranks or on none.
    if !is_asked && !ranks::any(is_large(path)) {
        return Ok(None);
    }
    let hindrance = if path.is_dir() {
        Some(("an npy file as --data", format!("the folder {}", path.display())))
    } else if let Some(array) = &how.array {
        Some(("an npy file, which has one array", format!("--array {array}")))
    } else if how.labels != LabelSource::None {
        Some(("rows without labels, as their site is put beside rows in memory", "labels".into()))
    } else {
        hindrance
    };
    match (hindrance, is_asked) {
        (None, true) => OnDisk::open(path, how.visible).map(Some),
        (Some((expected, found)), true) => {
            Err(Error::Argument { what: "--in-place", expected: expected.into(), found })
        }
        // Who reads the file whole tells what is wrong with it; and it may fit all the same.
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

/// Says that rows stay where they are, and what they were taken for.
pub fn tell(path: &Path, file: &OnDisk) {
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
    /// The file, where its rows are to stay there and fit the model in the file `name`.
    pub fn open(
        model: (&'a Rbm, &'a Extras), name: &Path, (path, selection): (&Path, &Selection), is_asked: bool,
    ) -> Result<Option<Self>> {
        let (rbm, extras) = model;
        let visible = rbm.shape().visible();
        let how = selection.reading(data::laws(data::before_scale(visible, extras)))?;
        let Some(file) = open(path, is_asked, &how, None)? else { return Ok(None) };
        data::check_fits(extras.data_units(visible).units(), name, path, file.segments().units())?;
        tell(path, &file);
        Ok(Some(Self { file, path: path.into(), model }))
    }

    pub fn len(&self) -> usize {
        self.file.len()
    }

    /// Some of the rows as the model sees them, their labels missing; and how many values had to be moved for it.
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

    /// The first rows, which `limit` says, in memory.
    pub fn first(&self, limit: Option<usize>) -> Result<Dataset> {
        // As they are read, as the model sees them, and a copy.
        let most = memory::free() / (12 * self.model.0.shape().n_visible() as u64);
        let limit = match limit {
            Some(limit) if limit.min(self.len()) as u64 <= most => limit.min(self.len()),
            other => {
                return Err(Error::Argument {
                    what: "--limit",
                    expected: format!("at most {most}, as many rows of {} as fit in memory", self.path.display()),
                    found: other.map_or("none".into(), |limit| limit.to_string()),
                });
            }
        };
        let (rows, outside) = self.rows(0..limit)?;
        self.tell_outside(outside);
        Ok(rows)
    }

    /// Says how many values had to be moved, where some had.
    pub fn tell_outside(&self, outside: usize) {
        if outside > 0 {
            complain(&data::outside(&self.path, outside));
        }
    }
}
