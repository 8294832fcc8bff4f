//! Reads data within the free memory, and names the command's options in errors.

use crate::{arguments::DATA_HEADING, console::complain, memory, ranks};
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

// Which part of a file is data, and where the labels are.
#[derive(Args, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Selection {
    /// Array of an npz file [default: the only one, or x_train, X or data].
    ///
    /// A path FILE.npz:NAME selects an array too.
    #[arg(long, value_name = "NAME", help_heading = DATA_HEADING)]
    pub array: Option<String>,
    /// Labels of the rows: own for those in the data itself, or a file of one column (npy, IDX or text).
    ///
    /// The data's own labels are MNIST's label file, the first column of an svmlight file, or y_train, y, labels or target of an npz file.
    /// Labels become one more Potts site; the model file keeps the names of its states.
    #[arg(long, value_name = "own|FILE", conflicts_with = "label_column", help_heading = DATA_HEADING)]
    pub labels: Option<String>,
    /// Column of the data with the labels: its number, or its name in a text table with a header.
    ///
    /// Columns count from 0. Negative numbers count from the end: -1 is the last column.
    #[arg(long, value_name = "N|NAME", allow_hyphen_values = true, help_heading = DATA_HEADING)]
    pub label_column: Option<String>,
}

impl Selection {
    /// How to read files; `visible`: types of the visible units, if known.
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

/// The training rows: of a folder the first 50 000 of its training file, of a file all rows.
pub fn training(path: &Path, how: &Reading) -> Result<Images> {
    open(path, "--data", how).map_err(|problem| match problem {
        Error::Format { source_name, expected, found }
            if how.visible.is_none() && expected == formats::UNIT_INTERVAL =>
        {
            let expected = format!(
                "{expected}, or --scale max or minmax; --visible gaussian:N for real numbers, --visible \
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

/// The rows. An error if ranks have read different rows.
fn same_everywhere(images: Images) -> Result<Images> {
    ranks::check_rows(Some(images.rows.rows()))?;
    Ok(images)
}

/// The file and the array of a path FILE.npz:NAME, unless a file has exactly this name.
fn array_of(path: &Path) -> Option<(PathBuf, String)> {
    let (file, array) = path.to_str()?.rsplit_once(".npz:")?;
    let is_file = array.is_empty() || matches!(path.try_exists(), Ok(true));
    (!is_file).then(|| (format!("{file}.npz").into(), array.into()))
}

/// The types for reading rows; `None` if all are binary.
pub fn laws(visible: Segments) -> Option<Segments> {
    Some(visible).filter(|visible| !visible.is_binary())
}

/// A notice about the assumptions for a file that does not describe its values.
pub fn assumed(path: &Path, images: &Images) -> Option<String> {
    images.assumed.as_ref().map(|assumed| format!("notice: {}: {assumed}", path.display()))
}

/// Reads rows with `read` and scales them for the model in the file `name`. They must have a value for each visible unit. If they have no
/// labels, the model's label site is missing in each row.
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

/// [`fitting`] without scaling.
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

/// The types of the data's units, labels not included, before scaling.
pub fn before_scale(visible: Segments, extras: &Extras) -> Segments {
    extras.data_units(extras.scale.as_ref().map_or(visible, |scale| scale.unscaled(visible)))
}

/// Rows with the label site after the data, if there are `names` of labels. The site is missing in rows without a label.
pub fn labelled(rows: Dataset, labels: Option<&Labels>, names: &[String], path: &Path) -> Result<Dataset> {
    if names.is_empty() {
        return Ok(rows);
    }
    // Rows become 32-bit numbers if a label is missing, while the rows without labels are still in memory.
    let needed = (rows.len() as u64).saturating_mul(4 * (rows.units() + names.len()) as u64);
    if needed > memory::free() {
        return Err(Error::Format {
            source_name: path.display().to_string(),
            expected: "so few different labels that the rows fit in memory".into(),
            found: format!("{} rows, {} labels", rows.len(), names.len()),
        });
    }
    match labels {
        Some(labels) => labels.by(names, &path.display().to_string())?.beside(&rows),
        None => Labels::missing(rows.len(), names.to_vec()).beside(&rows),
    }
}

/// Scales rows for the model. Also returns a notice if values outside of the scale were clipped.
pub fn scaled(rows: Dataset, extras: &Extras, visible: Segments, path: &Path) -> Result<(Dataset, Option<String>)> {
    let Some(scale) = &extras.scale else { return Ok((with_laws(rows, visible)?, None)) };
    let (rows, outside) = scale.apply_for(&rows, visible)?;
    Ok((rows, (outside > 0).then(|| self::outside(path, outside))))
}

/// A notice that values were clipped.
pub fn outside(path: &Path, values: usize) -> String {
    format!("notice: {}: {values} values outside of the model's scale were clipped to 0 or 1", path.display())
}

/// Converts rows to these types of units. Rows of a file that declares other types, such as sequences, may fit too.
pub fn with_laws(rows: Dataset, visible: Segments) -> Result<Dataset> {
    if rows.segments() == visible { Ok(rows) } else { rows.with_segments(visible) }
}

/// Rows for clamping: values of binary units become bits, 1 if x >= 0.5. A notice names the rows if some values are neither 0 nor 1.
pub fn bits(rows: Dataset, name: &str) -> Dataset {
    let is_grey = |x: f32| x != 0.0 && x != 1.0;
    let binary = rows.segments().iter().filter(|(segment, _)| matches!(segment, Segment::Binary(_)));
    let columns: Vec<usize> = binary.flat_map(|(_, units)| units).collect();
    let all = rows.rows();
    if !(0..all.len()).any(|r| columns.iter().any(|&i| is_grey(all.value(r, i)))) {
        return rows;
    }
    complain(&format!("notice: {name}: values between 0 and 1 are clamped as bits, 1 if x >= 0.5"));
    rows.binarised()
}

/// Fails if rows of `path` do not have a value for each visible unit of the model, labels not counted.
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

/// All rows of a file. `option`: the option with the path, for errors.
pub fn file(path: &Path, option: &str, how: &Reading) -> Result<Images> {
    open(path, option, how)
}

/// The rows of a folder after the training rows, if there are any.
pub fn rest(path: &Path, how: &Reading) -> Result<Option<Images>> {
    if !path.is_dir() {
        return Ok(None);
    }
    let rest = match mnist::open_with(path, Split::Validation, how) {
        Ok(images) => Some(images),
        // Other errors of the folder have been reported before. This one means that there are no more rows.
        Err(Error::Format { .. }) => None,
        Err(other) => return Err(other),
    };
    ranks::check_rows(rest.as_ref().map(|images| images.rows.rows()))?;
    Ok(rest)
}

/// Splits off `n` rows, the first entries of a permutation that no epoch uses. Returns the other rows and these.
pub fn without_some(rows: &Dataset, n: usize, seed: u64) -> Result<(Dataset, Dataset)> {
    let taken = some_numbers(rows.len(), n, seed);
    let mut is_taken = vec![false; rows.len()];
    taken.iter().for_each(|&row| is_taken[row] = true);
    let others: Vec<_> = (0..rows.len()).filter(|&row| !is_taken[row]).collect();
    Ok((rows.select(&others)?, rows.select(&taken)?))
}

/// The numbers of the `n` rows of `len` that [`without_some`] splits off.
pub fn some_numbers(len: usize, n: usize, seed: u64) -> Vec<usize> {
    let mut draws = Uniforms::new(seed, Purpose::Shuffling);
    draws.seek(1 << 63);
    draws.permutation_start(len, n)
}

/// One split of a folder, or all rows of a file. `option`: the option with the path, for errors.
pub fn split(path: &Path, option: &str, split: Split, how: &Reading) -> Result<Images> {
    if !path.is_dir() {
        return open(path, option, how);
    }
    mnist::open_with(path, split, how).map_err(|problem| with_advice(path, option, problem)).and_then(same_everywhere)
}

/// The rows at which chains start: of a folder the test rows, or the training rows if there are none; of a file all rows. `option`:
/// the option with the path, for errors.
pub fn starting(path: &Path, option: &str, how: &Reading) -> Result<Images> {
    test(path, how)?.map_or_else(|| open(path, option, how), Ok)
}

/// Draws `n` rows without replacement, for chains to start from; all rows, shuffled, if there are fewer. The first rows of a sorted
/// file would all be of one class. The rows are the first `n` entries of the permutation at the beginning of the seed's sequence of
/// [`Purpose::Shuffling`], which no model uses.
pub fn from_all_over(rows: &dyn Source, n: usize, seed: u64) -> Result<Dataset> {
    rows.select(&Uniforms::new(seed, Purpose::Shuffling).permutation_start(rows.len(), n))
}

/// The rows of a folder's test file, if there is one.
pub fn test(path: &Path, how: &Reading) -> Result<Option<Images>> {
    let is_there = ranks::any(path.is_dir() && mnist::has_test(path)?);
    is_there.then(|| split(path, "--data", Split::Test, how)).transpose()
}

/// The visible units in images: those of the first segment of binary or Gaussian units if there are Potts sites too, else all.
pub fn pictured(visible: Segments) -> Range<usize> {
    let is_pixel = |segment: Segment| !matches!(segment, Segment::Potts { .. });
    let has_sites = visible.iter().any(|(segment, _)| !is_pixel(segment));
    let first = visible.iter().find(|&(segment, _)| is_pixel(segment)).filter(|_| has_sites);
    first.map_or(0..visible.units(), |(_, units)| units)
}

/// The columns `part` of rows with `units` columns.
pub fn columns(rows: &[f32], units: usize, part: Range<usize>) -> Vec<f32> {
    rows.chunks_exact(units).flat_map(|row| &row[part.clone()]).copied().collect()
}

/// The part of a model whose weights are in images.
pub fn pictured_part(rbm: &Rbm) -> Result<Rbm> {
    let (part, view, n_hidden) = (pictured(rbm.shape().visible()), rbm.view(), rbm.shape().n_hidden());
    let weights = view.weights()[part.start * n_hidden..part.end * n_hidden].to_vec();
    let bias = view.visible_bias()[part.clone()].to_vec();
    Rbm::from_parts(Shape::new(part.len(), n_hidden)?, weights, bias, view.hidden_bias().to_vec())
}

/// Adds to an error about missing data which files belong there, and the option for another path.
fn with_advice(path: &Path, option: &str, problem: Error) -> Error {
    let found = match problem {
        Error::Format { expected, found, .. } if expected == mnist::EXPECTED => found,
        Error::File { .. } if matches!(path.try_exists(), Ok(false)) => "nothing".into(),
        other => return other,
    };
    Error::Format {
        source_name: path.display().to_string(),
        expected: format!("{}, or a file: IDX, npy, npz, FASTA, svmlight or a text table", mnist::EXPECTED),
        found: format!("{found}; put them there or give {option} PATH"),
    }
}

/// Rows and columns for a number of tiles, as close to a square as possible without an empty row: 20 tiles are 4 × 5.
pub fn grid(tiles: usize) -> (usize, usize) {
    let rows = tiles.isqrt().max(1);
    (rows, tiles.div_ceil(rows))
}

/// Height and width of images with `units` pixels: `asked`, else those of the file, else square.
pub fn sides(asked: Option<(usize, usize)>, in_file: Option<(usize, usize)>, units: usize) -> Result<(usize, usize)> {
    let fits = |&(height, width): &(usize, usize)| height.checked_mul(width) == Some(units);
    if let Some((height, width)) = asked.filter(|sides| !fits(sides)) {
        let expected = format!("height x width of {units} pixels");
        return Err(Error::Argument { what: "--image", expected, found: format!("{height}x{width}") });
    }
    let root = units.isqrt();
    asked.or(in_file.filter(fits)).or(Some((root, root)).filter(fits)).ok_or_else(|| Error::Argument {
        what: "--image",
        expected: format!("height and width of the images, as {units} values a row are not a square"),
        found: "none".into(),
    })
}
