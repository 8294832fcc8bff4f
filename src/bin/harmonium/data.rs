//! Opens data within the memory that is free, and says what is wrong in terms of the command's options.

use crate::{console::complain, memory, ranks};
use clap::Args;
pub use harmonium::formats::mnist::Split;
use harmonium::{
    Dataset, Error, Purpose, Rbm, Result, Segment, Segments, Shape, Source, Uniforms,
    formats::{self, Column, Images, LabelSource, Labels, Reading, mnist},
    model::Extras,
};
use serde::Serialize;
use std::{
    ops::Range,
    path::{Path, PathBuf},
};

/// Which part of files is data, and where labels are.
#[derive(Args, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Selection {
    /// The array of an npz file [default: the only one, or x_train, X or data]; a path FILE.npz:NAME names its own.
    #[arg(long, value_name = "NAME")]
    pub array: Option<String>,
    /// Labels of the rows: own for those of MNIST's folder, an svmlight file, or y_train, y, labels or target of an npz file; or a
    /// file of one column (npy, IDX or text). They become one more Potts site, whose states the model file names.
    #[arg(long, value_name = "own|FILE", conflicts_with = "label_column")]
    pub labels: Option<String>,
    /// The column of the data that has the labels: its number, counted from 0, or below 0 from the end; or its name in a table of
    /// text with a header.
    #[arg(long, value_name = "N|NAME", allow_hyphen_values = true)]
    pub label_column: Option<String>,
}

impl Selection {
    /// How files are read, for units of these laws where they are given.
    pub fn reading(&self, visible: Option<Segments>) -> Result<Reading> {
        let labels = match (&self.labels, &self.label_column) {
            (_, Some(column)) => LabelSource::Column(column.parse::<Column>().map_err(|problem| match problem {
                Error::Argument { expected, found, .. } => Error::Argument { what: "--label-column", expected, found },
                other => other,
            })?),
            (Some(text), None) if text == "own" => LabelSource::Own,
            (Some(text), None) => LabelSource::File(text.into()),
            (None, None) => LabelSource::None,
        };
        Ok(Reading { visible, array: self.array.clone(), max_bytes: memory::free(), labels, ..Reading::default() })
    }
}

/// The rows to train on: of a folder the first 50 000 of its training file, else all.
pub fn training(path: &Path, how: &Reading) -> Result<Images> {
    open(path, "--data", how).map_err(|problem| match problem {
        Error::Format { source_name, expected, found } if how.visible.is_none() && expected == formats::UNIT_INTERVAL => {
            let expected = format!(
                "{expected}, to which --scale max or minmax brings others; or --visible gaussian:N for real numbers and \
                 potts:SITESxSTATES for categories"
            );
            Error::Format { source_name, expected, found }
        }
        other => other,
    })
}

fn open(path: &Path, option: &str, how: &Reading) -> Result<Images> {
    let opened = match array_of(path) {
        Some((file, array)) => Reading { array: Some(array), ..how.clone() }.open(&file),
        None => how.open(path),
    };
    opened.map_err(|problem| with_advice(path, option, problem)).and_then(same_everywhere)
}

/// The rows, where all ranks have read the same.
fn same_everywhere(images: Images) -> Result<Images> {
    ranks::check_rows(Some(images.rows.rows()))?;
    Ok(images)
}

/// The file and the array that a path FILE.npz:NAME names, where no file has that very name.
fn array_of(path: &Path) -> Option<(PathBuf, String)> {
    let (file, array) = path.to_str()?.rsplit_once(".npz:")?;
    let is_file = array.is_empty() || matches!(path.try_exists(), Ok(true));
    (!is_file).then(|| (format!("{file}.npz").into(), array.into()))
}

/// The laws that rows must be read for, where they are not those of bits.
pub fn laws(visible: Segments) -> Option<Segments> {
    Some(visible).filter(|visible| !visible.is_binary())
}

/// What is said of a file that does not say itself what its values are.
pub fn assumed(path: &Path, images: &Images) -> Option<String> {
    images.assumed.as_ref().map(|assumed| format!("notice: {}: {assumed}", path.display()))
}

/// What `read` gives for a path and how it is read, where its rows have a value for each visible unit of the model in the file
/// `model`, as the model sees them. The site of a model's labels is missing where the rows have no labels.
pub fn fitting(
    model: (&Rbm, &Extras), name: &Path, (path, selection): (&Path, &Selection),
    read: impl FnOnce(&Path, &Reading) -> Result<Images>,
) -> Result<Images> {
    let mut images = before_scaling(model, name, (path, selection), read)?;
    let (rows, clamped) = scaled(images.rows, model.1, model.0.shape().visible(), path)?;
    if let Some(clamped) = clamped {
        complain(&clamped);
    }
    images.rows = rows;
    Ok(images)
}

/// The same as the data has them, with labels.
pub fn before_scaling(
    (rbm, extras): (&Rbm, &Extras), model: &Path, (path, selection): (&Path, &Selection),
    read: impl FnOnce(&Path, &Reading) -> Result<Images>,
) -> Result<Images> {
    let visible = rbm.shape().visible();
    let mut how = selection.reading(laws(before_scale(visible, extras)))?;
    if !extras.labels.is_empty() && how.labels == LabelSource::None {
        how.labels = LabelSource::IfOwn;
    }
    let mut images = read(path, &how)?;
    if let Some(assumed) = assumed(path, &images) {
        complain(&assumed);
    }
    check_fits(extras.data_units(visible).units(), model, path, images.rows.units())?;
    images.rows = labelled(images.rows, images.labels.as_ref(), &extras.labels, path)?;
    Ok(images)
}

/// The laws of the units that stand for data, as rows are read before they are scaled.
pub fn before_scale(visible: Segments, extras: &Extras) -> Segments {
    extras.data_units(extras.scale.as_ref().map_or(visible, |scale| scale.unscaled(visible)))
}

/// Rows with the site of these labels behind the data, where there are names: missing where the rows have none.
pub fn labelled(rows: Dataset, labels: Option<&Labels>, names: &[String], path: &Path) -> Result<Dataset> {
    if names.is_empty() {
        return Ok(rows);
    }
    // Numbers of 32 bits where a label is missing, and for a moment the rows without labels besides.
    let needed = (rows.len() as u64).saturating_mul(4 * (rows.units() + names.len()) as u64);
    if needed > memory::free() {
        return Err(Error::Format {
            source_name: path.display().to_string(),
            expected: "rows with so few different labels that they fit in memory".into(),
            found: format!("{} rows, {} labels", rows.len(), names.len()),
        });
    }
    match labels {
        Some(labels) => labels.by(names, &path.display().to_string())?.beside(&rows),
        None => Labels::missing(rows.len(), names.to_vec()).beside(&rows),
    }
}

/// Rows with labels as the model sees them, and what is said where some values had to be moved for it.
pub fn scaled(rows: Dataset, extras: &Extras, visible: Segments, path: &Path) -> Result<(Dataset, Option<String>)> {
    let Some(scale) = &extras.scale else { return Ok((with_laws(rows, visible)?, None)) };
    let (rows, outside) = scale.apply_for(&rows, visible)?;
    Ok((rows, (outside > 0).then(|| self::outside(path, outside))))
}

/// What is said of values that had to be moved.
pub fn outside(path: &Path, values: usize) -> String {
    format!("notice: {}: {values} values outside of the model's scale became 0 or 1", path.display())
}

/// Rows for units of these laws; those of a file that says other laws itself, such as sequences, may be right for them too.
pub fn with_laws(rows: Dataset, visible: Segments) -> Result<Dataset> {
    if rows.segments() == visible { Ok(rows) } else { rows.with_segments(visible) }
}

/// Rows that units can be held at: binary ones at bits, 1 where x >= 0.5, with a notice that names the rows where some are grey.
pub fn bits(rows: Dataset, name: &str) -> Dataset {
    let is_grey = |x: f32| x != 0.0 && x != 1.0;
    let binary = rows.segments().iter().filter(|(segment, _)| matches!(segment, Segment::Binary(_)));
    let columns: Vec<usize> = binary.flat_map(|(_, units)| units).collect();
    let all = rows.rows();
    if !(0..all.len()).any(|r| columns.iter().any(|&i| is_grey(all.value(r, i)))) {
        return rows;
    }
    complain(&format!("notice: {name}: values between 0 and 1 are held as bits, 1 where x >= 0.5"));
    rows.binarised()
}

/// Fails where rows of `path` do not have a value for each visible unit of the model, labels not counted.
pub fn check_fits(expected: usize, model: &Path, path: &Path, units: usize) -> Result<()> {
    if units == expected {
        return Ok(());
    }
    Err(Error::Format {
        source_name: path.display().to_string(),
        expected: format!("rows of {expected} values, the visible units of {}", model.display()),
        found: format!("rows of {units}"),
    })
}

/// All rows of a file; `option` names the path on the command line.
pub fn file(path: &Path, option: &str, how: &Reading) -> Result<Images> {
    open(path, option, how)
}

/// The rows of a folder behind those to train on, if there are any.
pub fn rest(path: &Path, how: &Reading) -> Result<Option<Images>> {
    if !path.is_dir() {
        return Ok(None);
    }
    let rest = match mnist::open_with(path, Split::Validation, how) {
        Ok(images) => Some(images),
        // What is wrong with the folder has been found before: only that there are no more rows is left.
        Err(Error::Format { .. }) => None,
        Err(other) => return Err(other),
    };
    ranks::check_rows(rest.as_ref().map(|images| images.rows.rows()))?;
    Ok(rest)
}

/// The rows without `n` of them, and these: the first entries of a permutation that no epoch uses.
pub fn without_some(rows: &Dataset, n: usize, seed: u64) -> Result<(Dataset, Dataset)> {
    let taken = some_numbers(rows.len(), n, seed);
    let mut is_taken = vec![false; rows.len()];
    taken.iter().for_each(|&row| is_taken[row] = true);
    let others: Vec<_> = (0..rows.len()).filter(|&row| !is_taken[row]).collect();
    Ok((rows.select(&others)?, rows.select(&taken)?))
}

/// The numbers of the `n` rows of `len` that are taken so.
pub fn some_numbers(len: usize, n: usize, seed: u64) -> Vec<usize> {
    let mut draws = Uniforms::new(seed, Purpose::Shuffling);
    draws.seek(1 << 63);
    draws.permutation_start(len, n)
}

/// A part of a folder; of a file all. `option` names the path on the command line.
pub fn split(path: &Path, option: &str, split: Split, how: &Reading) -> Result<Images> {
    if !path.is_dir() {
        return open(path, option, how);
    }
    mnist::open_with(path, split, how).map_err(|problem| with_advice(path, option, problem)).and_then(same_everywhere)
}

/// The rows to start chains from: of a folder its test file, or without one its training rows; else all. `option` names the path on
/// the command line.
pub fn starting(path: &Path, option: &str, how: &Reading) -> Result<Images> {
    test(path, how)?.map_or_else(|| open(path, option, how), Ok)
}

/// `n` rows from all over the data, for chains to start from; all, in another order, where there are fewer. The first rows of
/// a file that is sorted are of one class, and so would the chains be. Rows are drawn without replacement: the first `n`
/// entries of the permutation at the beginning of the seed's sequence of [`Purpose::Shuffling`], from which no model draws.
pub fn from_all_over(rows: &dyn Source, n: usize, seed: u64) -> Result<Dataset> {
    rows.select(&Uniforms::new(seed, Purpose::Shuffling).permutation_start(rows.len(), n))
}

/// The rows of a folder's test file, if there is a folder with one.
pub fn test(path: &Path, how: &Reading) -> Result<Option<Images>> {
    let is_there = ranks::any(path.is_dir() && mnist::has_test(path)?);
    is_there.then(|| split(path, "--data", Split::Test, how)).transpose()
}

/// The visible units that pictures show: those of the first segment of binary or Gaussian units, where there are Potts sites
/// beside it, else all.
pub fn pictured(visible: Segments) -> Range<usize> {
    let is_pixel = |segment: Segment| !matches!(segment, Segment::Potts { .. });
    let has_sites = visible.iter().any(|(segment, _)| !is_pixel(segment));
    let first = visible.iter().find(|&(segment, _)| is_pixel(segment)).filter(|_| has_sites);
    first.map_or(0..visible.units(), |(_, units)| units)
}

/// Some of the columns of rows with so many.
pub fn columns(rows: &[f32], units: usize, part: Range<usize>) -> Vec<f32> {
    rows.chunks_exact(units).flat_map(|row| &row[part.clone()]).copied().collect()
}

/// The part of a model that pictures of its weights show.
pub fn pictured_part(rbm: &Rbm) -> Result<Rbm> {
    let (part, view, n_hidden) = (pictured(rbm.shape().visible()), rbm.view(), rbm.shape().n_hidden());
    let weights = view.weights()[part.start * n_hidden..part.end * n_hidden].to_vec();
    let bias = view.visible_bias()[part.clone()].to_vec();
    Rbm::from_parts(Shape::new(part.len(), n_hidden)?, weights, bias, view.hidden_bias().to_vec())
}

/// Where data is missing, which files go where and the option that names another place.
fn with_advice(path: &Path, option: &str, problem: Error) -> Error {
    let found = match problem {
        Error::Format { expected, found, .. } if expected == mnist::EXPECTED => found,
        Error::File { .. } if matches!(path.try_exists(), Ok(false)) => "nothing".into(),
        other => return other,
    };
    Error::Format {
        source_name: path.display().to_string(),
        expected: format!("{}, or a file: IDX, npy, npz, FASTA, svmlight or a table of text", mnist::EXPECTED),
        found: format!("{found}; put them there or say {option} PATH"),
    }
}

/// Rows and columns of so many tiles, as near to each other as they can be with no row missing: 20 tiles are 4 × 5.
pub fn grid(tiles: usize) -> (usize, usize) {
    let rows = tiles.isqrt().max(1);
    (rows, tiles.div_ceil(rows))
}

/// Height and width of images of `units` pixels: as asked for, as the file says, or square.
pub fn sides(asked: Option<(usize, usize)>, said: Option<(usize, usize)>, units: usize) -> Result<(usize, usize)> {
    let fits = |&(height, width): &(usize, usize)| height.checked_mul(width) == Some(units);
    if let Some((height, width)) = asked.filter(|sides| !fits(sides)) {
        let expected = format!("height x width of {units} pixels");
        return Err(Error::Argument { what: "--image", expected, found: format!("{height}x{width}") });
    }
    let root = units.isqrt();
    asked.or(said.filter(fits)).or(Some((root, root)).filter(fits)).ok_or_else(|| Error::Argument {
        what: "--image",
        expected: format!("height and width of the pictures, as {units} values a row make no square"),
        found: "none".into(),
    })
}
