//! Model files: safetensors with three tensors, readable wherever that format is.
//!
//! | tensor | shape | type |
//! |---|---|---|
//! | `weights` | [n_visible, n_hidden] | F32 |
//! | `visible_bias` | [n_visible] | F32 |
//! | `hidden_bias` | [n_hidden] | F32 |
//!
//! The metadata has the one entry `harmonium`, `rbm` and the version that wrote the file. (One entry, because their order
//! would not be the same in every run: equal models make equal files.) It is not needed for reading: a file from elsewhere
//! opens if it has the three tensors. Other tensors are left alone.

use crate::{
    backend::Shape,
    error::{Error, Result},
    rbm::{Rbm, RbmRef},
    storage::{file_error, write_atomically},
};
use safetensors::tensor::{Dtype, Metadata, TensorView, serialize};
use std::{fs, path::Path};

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
    let bytes = fs::read(path).map_err(|problem| file_error(path, problem))?;
    from_bytes(&bytes, &path.display().to_string())
}

/// The bytes of a model file; equal parameters give equal bytes.
///
/// # Errors
/// [`Error::Format`] where the model does not fit the format; none is known that does not.
pub fn to_bytes(rbm: RbmRef<'_>) -> Result<Vec<u8>> {
    let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let (n_visible, n_hidden) = (rbm.shape().n_visible(), rbm.shape().n_hidden());
    let weights = bytes(rbm.weights());
    let visible_bias = bytes(rbm.visible_bias());
    let hidden_bias = bytes(rbm.hidden_bias());
    let metadata = [("harmonium".to_string(), WRITER.to_string())].into_iter().collect();
    TensorView::new(Dtype::F32, vec![n_visible, n_hidden], &weights)
        .and_then(|weights| {
            let visible_bias = TensorView::new(Dtype::F32, vec![n_visible], &visible_bias)?;
            let hidden_bias = TensorView::new(Dtype::F32, vec![n_hidden], &hidden_bias)?;
            let tensors = [("weights", weights), ("visible_bias", visible_bias), ("hidden_bias", hidden_bias)];
            serialize(tensors, Some(metadata))
        })
        .map_err(|problem| Error::Format {
            source_name: "model".into(),
            expected: "parameters that fit a safetensors file".into(),
            found: problem.to_string(),
        })
}

/// The model in the bytes of a file; `source_name` stands for it in errors.
///
/// # Errors
/// [`Error::Format`] where the bytes are no safetensors file, a tensor is missing or has another type or shape, the sizes
/// do not belong together, or a number is not finite.
pub fn from_bytes(bytes: &[u8], source_name: &str) -> Result<Rbm> {
    let fail = |expected: String, found: String| Error::Format { source_name: source_name.into(), expected, found };
    let no_file = |found: String| fail("a safetensors file".into(), found);

    // The crate's own `deserialize` adds the lengths that the header claims without looking for overflow.
    let header_len = bytes.first_chunk().map(|&len| u64::from_le_bytes(len)).and_then(|len| usize::try_from(len).ok());
    let (header, data) = header_len
        .and_then(|len| bytes[8..].split_at_checked(len))
        .ok_or_else(|| no_file("a header that goes beyond the end".into()))?;
    let metadata: Metadata = serde_json::from_slice(header).map_err(|problem| no_file(problem.to_string()))?;
    if metadata.data_len() != data.len() {
        return Err(fail(format!("{} bytes of tensors", metadata.data_len()), data.len().to_string()));
    }

    let tensor = |name: &str, dimensions: usize| {
        let info = metadata.info(name).ok_or_else(|| {
            let found = if metadata.offset_keys().is_empty() { "none".into() } else { metadata.offset_keys().join(", ") };
            fail(format!("a tensor {name}"), found)
        })?;
        if info.dtype != Dtype::F32 {
            return Err(fail(format!("{name} of type F32"), info.dtype.to_string()));
        }
        if info.shape.len() != dimensions {
            return Err(fail(format!("{name} with {dimensions} dimensions"), format!("{:?}", info.shape)));
        }
        let values = &data[info.data_offsets.0..info.data_offsets.1];
        let values: Vec<f32> = values.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Ok((&info.shape, values))
    };
    let (shape, weights) = tensor("weights", 2)?;
    let (n_visible, visible_bias) = tensor("visible_bias", 1)?;
    let (n_hidden, hidden_bias) = tensor("hidden_bias", 1)?;
    let shape = Shape::new(shape[0], shape[1]).map_err(|problem| match problem {
        Error::Argument { expected, found, .. } => fail(format!("weights: {expected}"), found),
        other => other,
    })?;
    for (name, expected, found) in
        [("visible_bias", shape.n_visible(), n_visible[0]), ("hidden_bias", shape.n_hidden(), n_hidden[0])]
    {
        if expected != found {
            return Err(fail(format!("{name} of shape [{expected}], as weights have it"), format!("[{found}]")));
        }
    }
    Rbm::from_parts(shape, weights, visible_bias, hidden_bias).map_err(|problem| match problem {
        Error::Value { what, index, expected, found } => fail(format!("{what}[{index}] to be {expected}"), found.to_string()),
        other => other,
    })
}
