//! Model files: safetensors with three tensors, readable wherever that format is.
//!
//! | tensor | shape | type |
//! |---|---|---|
//! | `weights` | `[n_visible, n_hidden]` | F32 |
//! | `visible_bias` | `[n_visible]` | F32 |
//! | `hidden_bias` | `[n_hidden]` | F32 |
//!
//! The metadata has the one entry `harmonium`, `rbm` and the version that wrote the file. (One entry, because their order
//! would not be the same in every run: equal models make equal files.) It is not needed for reading: a file from elsewhere
//! opens if it has the three tensors. Other tensors are left alone.
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
    rbm::{Rbm, RbmRef},
    shape::Shape,
    storage::{read_file, write_atomically},
    tensors::{Tensor, Tensors, write},
};
use std::path::Path;

/// What the metadata says under `harmonium`.
const WRITER: &str = concat!("rbm ", env!("CARGO_PKG_VERSION"));

/// Writes the file `path` whole or not at all.
///
/// # Errors
/// [`Error::File`] with what the operating system says.
pub fn save(rbm: RbmRef<'_>, path: &Path) -> Result<()> {
    let bytes = to_bytes(rbm)?;
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

/// The bytes of a model file; equal parameters give equal bytes.
///
/// # Errors
/// [`Error::Format`] where the model does not fit the format; none is known that does not.
pub fn to_bytes(rbm: RbmRef<'_>) -> Result<Vec<u8>> {
    write(&tensors(rbm), WRITER.into(), "model")
}

/// The three tensors.
pub(crate) fn tensors(rbm: RbmRef<'_>) -> Vec<Tensor> {
    let (n_visible, n_hidden) = (rbm.shape().n_visible(), rbm.shape().n_hidden());
    vec![
        Tensor::new("weights", vec![n_visible, n_hidden], rbm.weights()),
        Tensor::new("visible_bias", vec![n_visible], rbm.visible_bias()),
        Tensor::new("hidden_bias", vec![n_hidden], rbm.hidden_bias()),
    ]
}

/// The model in the bytes of a file; `source_name` stands for it in errors.
///
/// # Errors
/// [`Error::Format`] where the bytes are no safetensors file, a tensor is missing or has another type or shape, the sizes
/// do not belong together, or a number is not finite.
pub fn from_bytes(bytes: &[u8], source_name: &str) -> Result<Rbm> {
    from_tensors(&Tensors::open(bytes, source_name)?)
}

/// The model in the three tensors.
pub(crate) fn from_tensors(file: &Tensors<'_>) -> Result<Rbm> {
    let ([n_visible, n_hidden], weights) = file.tensor("weights")?;
    let ([visible], visible_bias) = file.tensor("visible_bias")?;
    let ([hidden], hidden_bias) = file.tensor("hidden_bias")?;
    let shape = Shape::new(n_visible, n_hidden).map_err(|problem| match problem {
        Error::Argument { expected, found, .. } => file.fail(format!("weights: {expected}"), found),
        other => other,
    })?;
    for (name, expected, found) in [("visible_bias", n_visible, visible), ("hidden_bias", n_hidden, hidden)] {
        if expected != found {
            let expected = format!("{name} of shape [{expected}], as weights have it");
            return Err(file.fail(expected, format!("[{found}]")));
        }
    }
    Rbm::from_parts(shape, weights, visible_bias, hidden_bias).map_err(|problem| match problem {
        Error::Value { what, index, expected, found } => {
            file.fail(format!("{what}[{index}] to be {expected}"), found.to_string())
        }
        other => other,
    })
}
