//! Model files: safetensors with a few tensors, readable wherever that format is.
//!
//! | tensor | shape | type |
//! |---|---|---|
//! | `weights` | `[n_visible, n_hidden]` | F32 |
//! | `visible_bias` | `[n_visible]` | F32 |
//! | `hidden_bias` | `[n_hidden]` | F32 |
//! | `visible_mean`, `visible_deviation` | `[n_visible]` | F32: the [`Scale`] of the data, where it is kept |
//! | `visible_log_variance` | `[n_visible]` | F32: ln σ² of Gaussian units, 0 of others; where there are some, else 0 |
//!
//! The metadata has the entry `harmonium`, `rbm` and the version that wrote the file, and `visible`, the laws of the visible
//! units as [`Segments`] are written, such as `binary:784,potts:1x10`; without it all units are binary. Where the last Potts site
//! stands for labels of the data, `labels` has their names, a JSON array of as many strings as the site has states. Equal
//! models make equal files. A file from elsewhere opens if it has the first three tensors. Other tensors are left alone.
//!
//! Other people's models come in by a few lines of Python; this is for the `.mat` files of R. Salakhutdinov's:
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

/// What the metadata says under `harmonium`.
const WRITER: &str = concat!("rbm ", env!("CARGO_PKG_VERSION"));
const LOG_VARIANCE: &str = "visible_log_variance";
const MEAN: &str = "visible_mean";
const DEVIATION: &str = "visible_deviation";

const LABELS: &str = "labels";

/// What a model file keeps beside the model. Later versions may keep more.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Extras {
    /// The scale of the data, where they were scaled.
    pub scale: Option<Scale>,
    /// The names of the labels, of which each is a state of the last Potts site; none where the data had no labels.
    pub labels: Vec<String>,
}

impl Extras {
    /// A scale and labels, if there are any.
    pub fn new(scale: Option<Scale>, labels: Vec<String>) -> Self {
        Self { scale, labels }
    }

    /// The laws of the units that stand for data and not for labels.
    pub fn data_units(&self, visible: Segments) -> Segments {
        without_labels(visible, self.labels.len()).unwrap_or(visible)
    }
}

/// Writes the file `path` whole or not at all.
///
/// # Errors
/// [`Error::File`] with what the operating system says.
pub fn save(rbm: RbmRef<'_>, path: &Path) -> Result<()> {
    save_with(rbm, &Extras::default(), path)
}

/// [`save`], with what belongs to the data.
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
/// [`Error::File`] where it cannot be read, and those of [`from_bytes`].
pub fn load(path: &Path) -> Result<Rbm> {
    let bytes = read_file(path)?;
    from_bytes(&bytes, &path.display().to_string())
}

/// [`load`], with what belongs to the data.
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
/// [`Error::Format`] where the model does not fit the format; none is known that does not.
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

/// What belongs to the data.
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

/// The scale, where there is one.
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

/// What the metadata says besides `harmonium`: the laws of the visible units, where they are not all binary, and the labels.
pub(crate) fn entries(rbm: RbmRef<'_>, extras: &Extras) -> Vec<(&'static str, String)> {
    let visible = Some(rbm.shape().visible()).filter(|visible| !visible.is_binary());
    let labels = Some(&extras.labels).filter(|labels| !labels.is_empty());
    let labels = labels.map(|labels| (LABELS, serde_json::json!(labels).to_string()));
    visible.map(|visible| ("visible", visible.to_string())).into_iter().chain(labels).collect()
}

/// The tensors of the table above.
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

/// The model in the bytes of a file; `source_name` stands for it in errors.
///
/// # Errors
/// [`Error::Format`] where the bytes are no safetensors file, a tensor is missing or has another type or shape, the sizes
/// do not belong together, or a number is not finite.
pub fn from_bytes(bytes: &[u8], source_name: &str) -> Result<Rbm> {
    from_tensors(&Tensors::open(bytes, source_name)?)
}

/// The model in these tensors.
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
