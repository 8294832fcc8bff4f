//! Model files: safetensors files with a few tensors, readable by any program that knows the format.
//!
//! | tensor | shape | type |
//! |---|---|---|
//! | `weights` | `[n_visible, n_hidden]` | F32 |
//! | `visible_bias` | `[n_visible]` | F32 |
//! | `hidden_bias` | `[n_hidden]` | F32 |
//! | `visible_mean`, `visible_deviation` | `[n_visible]` | F32: the [`Scale`] of the data, if there is one |
//! | `visible_log_variance` | `[n_visible]` | F32: ln σ² of Gaussian units, and 0 for others; present only with Gaussian units |
//!
//! The metadata have these entries: `harmonium`, which is `rbm` and the version that wrote the file; `visible`, the laws of the visible
//! units in the text form of [`Segments`], such as `binary:784,potts:1x10` (if it is missing, all units are binary); and `labels`, if
//! the last Potts site stands for labels of the data: a JSON array with the name of each state. Equal models give equal files. A file
//! from another program opens if it has the first three tensors. Other tensors are ignored.
//!
//! ```
//! use harmonium::{Rbm, Shape, model};
//!
//! let rbm = Rbm::new(Shape::new(6, 4)?, 123);
//! let bytes = model::to_bytes(rbm.view())?;
//! assert_eq!(model::from_bytes(&bytes, "a model")?, rbm);
//!
//! let path = std::env::temp_dir().join(format!("harmonium-{}.safetensors", std::process::id()));
//! model::save(rbm.view(), &path)?;
//! assert_eq!(model::load(&path)?, rbm);
//! # let _ = std::fs::remove_file(path);
//! # Ok::<(), harmonium::Error>(())
//! ```
//!
//! A few lines of Python convert other programs' models; these convert the `.mat` files of R. Salakhutdinov:
//!
//! ```python
//! mat = scipy.io.loadmat("model.mat")
//! safetensors.numpy.save_file({
//!     "weights": numpy.ascontiguousarray(mat["vishid"], "float32"),
//!     "visible_bias": mat["visbiases"].ravel().astype("float32"),
//!     "hidden_bias": mat["hidbiases"].ravel().astype("float32"),
//! }, "model.safetensors")
//! ```

use crate::{
    error::{Error, Result},
    formats::labels::without_labels,
    rbm::{Rbm, RbmRef},
    scale::Scale,
    shape::Shape,
    storage::{read_file, write_atomically},
    tensors::{Tensor, Tensors, write},
    units::Segments,
};
use std::path::Path;

/// The value of the metadata entry `harmonium`.
const WRITER: &str = concat!("rbm ", env!("CARGO_PKG_VERSION"));
const LOG_VARIANCE: &str = "visible_log_variance";
const MEAN: &str = "visible_mean";
const DEVIATION: &str = "visible_deviation";

const LABELS: &str = "labels";

/// Data that a model file stores together with the model. Later versions may add fields.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Extras {
    /// The scale of the data, if they were scaled.
    pub scale: Option<Scale>,
    /// The names of the labels, one for each state of the last Potts site; empty if the data had no labels.
    pub labels: Vec<String>,
}

impl Extras {
    /// The scale and the labels, if there are any.
    pub fn new(scale: Option<Scale>, labels: Vec<String>) -> Self {
        Self { scale, labels }
    }

    /// The laws of the units that hold data, without the label.
    pub fn data_units(&self, visible: Segments) -> Segments {
        without_labels(visible, self.labels.len()).unwrap_or(visible)
    }
}

/// Writes the file `path`, whole or not at all.
///
/// # Errors
/// [`Error::File`] with the operating system's message.
pub fn save(rbm: RbmRef<'_>, path: &Path) -> Result<()> {
    save_with(rbm, &Extras::default(), path)
}

/// [`save`] with the scale and the labels of the data.
///
/// # Errors
/// Those of [`save`].
pub fn save_with(rbm: RbmRef<'_>, extras: &Extras, path: &Path) -> Result<()> {
    let bytes = to_bytes_with(rbm, extras)?;
    write_atomically(path, |file| file.write_all(&bytes))
}

/// Reads the file `path`.
///
/// # Errors
/// [`Error::File`] if the file cannot be read, and those of [`from_bytes`].
pub fn load(path: &Path) -> Result<Rbm> {
    let bytes = read_file(path)?;
    from_bytes(&bytes, &path.display().to_string())
}

/// [`load`] with the scale and the labels of the data.
///
/// # Errors
/// Those of [`load`].
pub fn load_with(path: &Path) -> Result<(Rbm, Extras)> {
    let (bytes, name) = (read_file(path)?, path.display().to_string());
    let file = Tensors::open(&bytes, &name)?;
    let rbm = from_tensors(&file)?;
    let extras = extras(&file, rbm.shape())?;
    Ok((rbm, extras))
}

/// The bytes of a model file; equal parameters give equal bytes.
///
/// # Errors
/// [`Error::Format`] if the model does not fit the format; no such model is known.
pub fn to_bytes(rbm: RbmRef<'_>) -> Result<Vec<u8>> {
    to_bytes_with(rbm, &Extras::default())
}

fn to_bytes_with(rbm: RbmRef<'_>, extras: &Extras) -> Result<Vec<u8>> {
    let mut tensors = tensors(rbm);
    tensors.extend(extras.scale.iter().flat_map(scale_tensors));
    write(&tensors, WRITER.into(), &entries(rbm, extras), "model")
}

/// The tensors of a scale.
pub(crate) fn scale_tensors(scale: &Scale) -> [Tensor; 2] {
    let n = scale.mean().len();
    [Tensor::new(MEAN, vec![n], scale.mean()), Tensor::new(DEVIATION, vec![n], scale.deviation())]
}

/// Reads the scale and the labels.
pub(crate) fn extras(file: &Tensors<'_>, shape: Shape) -> Result<Extras> {
    let mut extras = Extras::new(scale_from_tensors(file, shape)?, Vec::new());
    if let Some(text) = file.entry(LABELS) {
        let fail = |found: String| file.fail("the metadata labels: a JSON array of strings", found);
        extras.labels = serde_json::from_str(text).map_err(|problem| fail(problem.to_string()))?;
        if without_labels(shape.visible(), extras.labels.len()).is_none() {
            let expected =
                format!("the metadata labels: a name for each state of the last site of {}", shape.visible());
            return Err(file.fail(expected, extras.labels.len().to_string()));
        }
    }
    Ok(extras)
}

/// Reads the scale, if there is one.
fn scale_from_tensors(file: &Tensors<'_>, shape: Shape) -> Result<Option<Scale>> {
    if !file.has(MEAN) {
        return Ok(None);
    }
    let ([n_means], mean) = file.tensor(MEAN)?;
    let ([n_deviations], deviation) = file.tensor(DEVIATION)?;
    let expected = shape.n_visible();
    if [n_means, n_deviations] != [expected; 2] {
        let found = format!("[{n_means}] and [{n_deviations}]");
        return Err(file.fail(format!("{MEAN} and {DEVIATION} of shape [{expected}], as weights have it"), found));
    }
    Scale::from_parts(mean, deviation)
        .map(Some)
        .map_err(|problem| file.fail("a scale of finite numbers", problem.to_string()))
}

/// The metadata entries besides `harmonium`: the laws of the visible units, unless all are binary, and the labels.
pub(crate) fn entries(rbm: RbmRef<'_>, extras: &Extras) -> Vec<(&'static str, String)> {
    let visible = Some(rbm.shape().visible()).filter(|visible| !visible.is_binary());
    let labels = Some(&extras.labels).filter(|labels| !labels.is_empty());
    let labels = labels.map(|labels| (LABELS, serde_json::json!(labels).to_string()));
    visible.map(|visible| ("visible", visible.to_string())).into_iter().chain(labels).collect()
}

/// The tensors of the model.
pub(crate) fn tensors(rbm: RbmRef<'_>) -> Vec<Tensor> {
    let (n_visible, n_hidden) = (rbm.shape().n_visible(), rbm.shape().n_hidden());
    let mut tensors = vec![
        Tensor::new("weights", vec![n_visible, n_hidden], rbm.weights()),
        Tensor::new("visible_bias", vec![n_visible], rbm.visible_bias()),
        Tensor::new("hidden_bias", vec![n_hidden], rbm.hidden_bias()),
    ];
    if !rbm.visible_log_variance().is_empty() {
        tensors.push(Tensor::new(LOG_VARIANCE, vec![n_visible], rbm.visible_log_variance()));
    }
    tensors
}

/// Reads a model from the bytes of a file; `source_name` is its name in errors.
///
/// # Errors
/// [`Error::Format`] if the bytes are not a safetensors file, a tensor is missing or has another type or shape, the sizes
/// are inconsistent, or a number is not finite.
pub fn from_bytes(bytes: &[u8], source_name: &str) -> Result<Rbm> {
    from_tensors(&Tensors::open(bytes, source_name)?)
}

/// Builds the model from tensors.
pub(crate) fn from_tensors(file: &Tensors<'_>) -> Result<Rbm> {
    let ([n_visible, n_hidden], weights) = file.tensor("weights")?;
    let ([visible], visible_bias) = file.tensor("visible_bias")?;
    let ([hidden], hidden_bias) = file.tensor("hidden_bias")?;
    let mut shape = Shape::new(n_visible, n_hidden).map_err(|problem| match problem {
        Error::Argument { expected, found, .. } => file.fail(format!("weights: {expected}"), found),
        other => other,
    })?;
    if let Some(text) = file.entry("visible") {
        let segments: Segments = text.parse().map_err(|problem| match problem {
            Error::Argument { expected, found, .. } => file.fail(format!("the metadata visible: {expected}"), found),
            other => other,
        })?;
        if segments.units() != n_visible {
            let expected = format!("the metadata visible: {n_visible} units, as weights have them");
            return Err(file.fail(expected, format!("{} of {segments}", segments.units())));
        }
        shape = Shape::with_visible(segments, n_hidden)?;
    }
    for (name, expected, found) in [("visible_bias", n_visible, visible), ("hidden_bias", n_hidden, hidden)] {
        if expected != found {
            let expected = format!("{name} of shape [{expected}], as weights have it");
            return Err(file.fail(expected, format!("[{found}]")));
        }
    }
    let made = Rbm::from_parts(shape, weights, visible_bias, hidden_bias).and_then(|rbm| {
        if shape.visible().is_discrete() || !file.has(LOG_VARIANCE) {
            return Ok(rbm);
        }
        let ([n], log_variance) = file.tensor(LOG_VARIANCE)?;
        if n != n_visible {
            let expected = format!("{LOG_VARIANCE} of shape [{n_visible}], as weights have it");
            return Err(file.fail(expected, format!("[{n}]")));
        }
        rbm.with_visible_log_variance(log_variance)
    });
    made.map_err(|problem| match problem {
        Error::Value { what, index, expected, found } => {
            file.fail(format!("{what}[{index}] to be {expected}"), found.to_string())
        }
        other => other,
    })
}
