//! Rows with their labels.

use harmonium::{
    Dataset, Error, Result,
    formats::{
        LabelSource, Labels, Reading,
        mnist::{self, Split},
    },
};
use std::path::Path;

/// Rows and their classes.
#[derive(Clone, Debug)]
pub struct Digits {
    rows: Dataset,
    labels: Labels,
    /// The class of each row: the index of its label's name.
    classes: Vec<usize>,
}

impl Digits {
    /// Combines rows with labels, one for each row, none missing.
    ///
    /// # Errors
    /// [`Error::Length`] if the numbers of labels and rows differ, [`Error::Argument`] if a label is missing.
    pub fn new(rows: Dataset, labels: Labels) -> Result<Self> {
        let (expected, found) = (rows.len(), labels.states().len());
        if expected != found {
            return Err(Error::Length { what: "labels", expected, found });
        }
        let classes: Vec<usize> = labels.states().iter().flatten().map(|&class| class as usize).collect();
        if classes.len() != expected {
            let (expected, found) = ("a label for each row".into(), format!("{} missing", expected - classes.len()));
            return Err(Error::Argument { what: "labels", expected, found });
        }
        Ok(Self { rows, labels, classes })
    }

    /// Opens one split of a folder of MNIST's files. The classes are those of the training rows.
    ///
    /// # Errors
    /// Those of [`mnist::open_with`].
    pub fn open(folder: &Path, split: Split) -> Result<Self> {
        let how = Reading { labels: LabelSource::Own, ..Reading::default() };
        let images = mnist::open_with(folder, split, &how)?;
        Self::new(images.rows, images.labels.unwrap_or_default())
    }

    /// The same rows with the class numbers of `training`.
    ///
    /// # Errors
    /// [`Error::Format`] with the first unknown label; `source_name` is the name of the rows in it.
    pub fn like(self, training: &Digits, source_name: &str) -> Result<Self> {
        Self::new(self.rows, self.labels.by(training.labels.names(), source_name)?)
    }

    /// The rows.
    pub fn rows(&self) -> &Dataset {
        &self.rows
    }

    /// The labels with their names.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The class of each row, below [`n_classes`](Self::n_classes).
    pub fn classes(&self) -> &[usize] {
        &self.classes
    }

    /// The number of classes.
    pub fn n_classes(&self) -> usize {
        self.labels.names().len()
    }

    /// The number of rows.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.classes.len()
    }
}
