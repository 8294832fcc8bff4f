//! Opens data within the memory that is free, and says what is wrong in terms of the command's options.

use crate::{console::complain, memory};
pub use harmonium::formats::mnist::Split;
use harmonium::{
    Dataset, Error, Purpose, Rbm, Result, Scale, Segment, Segments, Shape, Uniforms,
    formats::{self, Images, mnist},
};
use std::{ops::Range, path::Path};

/// The rows to train on: of a folder the first 50 000 of its training file, else all.
pub fn training(path: &Path, visible: Option<Segments>) -> Result<Images> {
    open(path, "--data", visible).map_err(|problem| match problem {
        Error::Format { source_name, expected, found } if visible.is_none() && expected == formats::UNIT_INTERVAL => {
            let expected =
                format!("{expected}, or --visible gaussian:N for real numbers and potts:SITESxSTATES for categories");
            Error::Format { source_name, expected, found }
        }
        other => other,
    })
}

fn open(path: &Path, option: &str, visible: Option<Segments>) -> Result<Images> {
    formats::open_as(path, visible, memory::free()).map_err(|problem| with_advice(path, option, problem))
}

/// The laws that rows must be read for, where they are not those of bits.
pub fn laws(visible: Segments) -> Option<Segments> {
    Some(visible).filter(|visible| !visible.is_binary())
}

/// What is said of a file that does not say itself what its values are.
pub fn assumed(path: &Path, images: &Images) -> Option<String> {
    images.assumed.as_ref().map(|assumed| format!("notice: {}: {assumed}", path.display()))
}

/// What `read` gives for a path and laws, where its rows have a value for each visible unit of the model read from another, as
/// the model sees them.
pub fn fitting(
    (rbm, scale): (&Rbm, Option<&Scale>), model: &Path, path: &Path,
    read: impl FnOnce(&Path, Option<Segments>) -> Result<Images>,
) -> Result<Images> {
    let mut images = read(path, laws(rbm.shape().visible()))?;
    if let Some(assumed) = assumed(path, &images) {
        complain(&assumed);
    }
    check_fits(rbm.shape(), model, path, images.rows.units())?;
    if let Some(scale) = scale {
        images.rows = scale.apply(&images.rows)?;
    }
    images.rows = with_laws(images.rows, rbm.shape().visible())?;
    Ok(images)
}

/// Rows for units of these laws; those of a file that says other laws itself, such as sequences, may be right for them too.
pub fn with_laws(rows: Dataset, visible: Segments) -> Result<Dataset> {
    if rows.segments() == visible { Ok(rows) } else { rows.with_segments(visible) }
}

/// Fails where rows of `path` do not have a value for each visible unit of the model.
pub fn check_fits(shape: Shape, model: &Path, path: &Path, units: usize) -> Result<()> {
    if units == shape.n_visible() {
        return Ok(());
    }
    Err(Error::Format {
        source_name: path.display().to_string(),
        expected: format!("rows of {} values, the visible units of {}", shape.n_visible(), model.display()),
        found: format!("rows of {units}"),
    })
}

/// All rows of a file; `option` names the path on the command line.
pub fn file(path: &Path, option: &str, visible: Option<Segments>) -> Result<Images> {
    open(path, option, visible)
}

/// The rows of a folder behind those to train on, if there are any.
pub fn rest(path: &Path, visible: Option<Segments>) -> Result<Option<Dataset>> {
    if !path.is_dir() {
        return Ok(None);
    }
    match mnist::open_as(path, Split::Validation, visible, memory::free()) {
        Ok(images) => Ok(Some(images.rows)),
        // What is wrong with the folder has been found before: only that there are no more rows is left.
        Err(Error::Format { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// The rows without `n` of them, and these: the first entries of a permutation that no epoch uses.
pub fn without_some(rows: &Dataset, n: usize, seed: u64) -> Result<(Dataset, Dataset)> {
    let mut draws = Uniforms::new(seed, Purpose::Shuffling);
    draws.seek(1 << 63);
    let order = draws.permutation(rows.len());
    let mut others = order[n..].to_vec();
    others.sort_unstable();
    Ok((rows.select(&others)?, rows.select(&order[..n])?))
}

/// A part of a folder; of a file all. `option` names the path on the command line.
pub fn split(path: &Path, option: &str, split: Split, visible: Option<Segments>) -> Result<Images> {
    if !path.is_dir() {
        return open(path, option, visible);
    }
    mnist::open_as(path, split, visible, memory::free()).map_err(|problem| with_advice(path, option, problem))
}

/// The rows to start chains from: of a folder its test file, or without one its training rows; else all.
pub fn starting(path: &Path, visible: Option<Segments>) -> Result<Images> {
    test(path, visible)?.map_or_else(|| training(path, visible), Ok)
}

/// `n` rows from all over the data, for chains to start from; all, in another order, where there are fewer. The first rows of
/// a file that is sorted are of one class, and so would the chains be. Rows are drawn without replacement: the first `n`
/// entries of the permutation at the beginning of the seed's sequence of [`Purpose::Shuffling`], from which no model draws.
pub fn from_all_over(rows: &Dataset, n: usize, seed: u64) -> Result<Dataset> {
    let mut order = Uniforms::new(seed, Purpose::Shuffling).permutation(rows.len());
    order.truncate(n);
    rows.select(&order)
}

/// The rows of a folder's test file, if there is a folder with one.
pub fn test(path: &Path, visible: Option<Segments>) -> Result<Option<Images>> {
    let is_there = path.is_dir() && mnist::has_test(path)?;
    is_there.then(|| split(path, "--data", Split::Test, visible)).transpose()
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
        expected: format!("{}, or an IDX, npy or FASTA file", mnist::EXPECTED),
        found: format!("{found}; put them there or say {option} PATH"),
    }
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
