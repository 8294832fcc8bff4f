//! Safetensors files: writes tensors, and reads them without trusting the header.

use crate::{
    error::{Error, Result, shown},
    storage::format_error,
};
use safetensors::tensor::{Dtype, Metadata, TensorView, serialize};

/// Numbers that a tensor can hold.
pub(crate) trait Number: Copy {
    const DTYPE: Dtype;
    fn extend(self, bytes: &mut Vec<u8>);
    fn of(bytes: &[u8]) -> Self;
}

macro_rules! numbers {
    ($($type:ty = $dtype:ident),*) => {$(
        impl Number for $type {
            const DTYPE: Dtype = Dtype::$dtype;

            fn extend(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn of(bytes: &[u8]) -> Self {
                bytes.first_chunk().map_or_else(Self::default, |&b| Self::from_le_bytes(b))
            }
        }
    )*};
}
numbers!(f32 = F32, f64 = F64, u64 = U64);

/// A tensor to be written.
pub(crate) struct Tensor {
    name: &'static str,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    pub fn new<T: Number>(name: &'static str, shape: Vec<usize>, values: &[T]) -> Self {
        let mut bytes = Vec::with_capacity(size_of_val(values));
        values.iter().for_each(|x| x.extend(&mut bytes));
        Self { name, dtype: T::DTYPE, shape, bytes }
    }
}

/// The bytes of a file with these tensors. Its metadata have the entry `harmonium`, followed by `others` in their order, so that equal
/// contents give equal bytes; the safetensors crate would write several entries in a different order in every run. The file begins with
/// the length of its header, followed by the first entry.
pub(crate) fn write(tensors: &[Tensor], metadata: String, others: &[(&str, String)], what: &str) -> Result<Vec<u8>> {
    let bytes = write_first(tensors, metadata.clone(), what)?;
    if others.is_empty() {
        return Ok(bytes);
    }
    let fail = || format_error(what, "a safetensors header", "another one");
    let (length, rest) = bytes.split_first_chunk().ok_or_else(fail)?;
    let (header, data) = rest.split_at_checked(u64::from_le_bytes(*length) as usize).ok_or_else(fail)?;
    let header = str::from_utf8(header).map_err(|_| fail())?;
    let entry = serde_json::to_string(&metadata).map_err(|_| fail())?;
    let first = format!("{{\"__metadata__\":{{\"harmonium\":{entry}");
    let end = header.strip_prefix(&first).ok_or_else(fail)?.trim_end();
    let mut header = first;
    for (name, text) in others {
        let text = serde_json::to_string(text).map_err(|_| fail())?;
        header.push_str(&format!(",\"{name}\":{text}"));
    }
    header.push_str(end);
    // Tensors begin at a multiple of eight bytes.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    Ok([&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat())
}

fn write_first(tensors: &[Tensor], metadata: String, what: &str) -> Result<Vec<u8>> {
    let views = tensors.iter().map(|tensor| {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes)?;
        Ok((tensor.name, view))
    });
    views
        .collect::<std::result::Result<Vec<_>, _>>()
        .and_then(|views| serialize(views, Some([("harmonium".to_string(), metadata)].into_iter().collect())))
        .map_err(|problem: safetensors::SafeTensorError| {
            format_error(what, "parameters that fit a safetensors file", problem.to_string())
        })
}

/// A file whose header has been checked against its length.
pub(crate) struct Tensors<'a> {
    metadata: Metadata,
    data: &'a [u8],
    source_name: &'a str,
}

impl<'a> Tensors<'a> {
    /// Parses a file; `source_name` is its name in errors.
    pub fn open(bytes: &'a [u8], source_name: &'a str) -> Result<Self> {
        let fail = |expected: String, found: String| format_error(source_name, expected, shown(&found));
        let no_file = |found: String| fail("a safetensors file".into(), found);
        // The safetensors crate's `deserialize` adds the lengths that the header claims without a check for overflow.
        let header_len =
            bytes.first_chunk().map(|&len| u64::from_le_bytes(len)).and_then(|len| usize::try_from(len).ok());
        let (header, data) = header_len
            .and_then(|len| bytes[8..].split_at_checked(len))
            .ok_or_else(|| no_file("a header that goes beyond the end".into()))?;
        let metadata: Metadata = serde_json::from_slice(header).map_err(|problem| no_file(problem.to_string()))?;
        if metadata.data_len() != data.len() {
            return Err(fail(format!("{} bytes of tensors", metadata.data_len()), data.len().to_string()));
        }
        Ok(Self { metadata, data, source_name })
    }

    /// The entry of the metadata with this name.
    pub fn entry(&self, name: &str) -> Option<&str> {
        self.metadata.metadata().as_ref()?.get(name).map(String::as_str)
    }

    /// Returns true if there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    pub fn fail(&self, expected: impl Into<String>, found: impl Into<String>) -> Error {
        format_error(self.source_name, expected, shown(&found.into()))
    }

    /// Shape and values of a tensor with N dimensions.
    pub fn tensor<T: Number, const N: usize>(&self, name: &str) -> Result<([usize; N], Vec<T>)> {
        let info = self.metadata.info(name).ok_or_else(|| {
            let names = self.metadata.offset_keys();
            self.fail(format!("a tensor {name}"), if names.is_empty() { "none".into() } else { names.join(", ") })
        })?;
        if info.dtype != T::DTYPE {
            return Err(self.fail(format!("{name} of type {}", T::DTYPE), info.dtype.to_string()));
        }
        let shape = <[usize; N]>::try_from(info.shape.as_slice())
            .map_err(|_| self.fail(format!("{name} with {N} dimensions"), format!("{:?}", info.shape)))?;
        // The offsets lie within the data and fit shape and type: the crate checked them when it parsed the header.
        let bytes = &self.data[info.data_offsets.0..info.data_offsets.1];
        Ok((shape, bytes.chunks_exact(size_of::<T>()).map(T::of).collect()))
    }
}
