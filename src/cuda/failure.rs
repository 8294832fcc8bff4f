//! The errors of driver calls.

use crate::error::{CudaError, Error};
use cudarc::driver::{DriverError, sys::cudaError_enum as Code};
use std::ffi::CStr;

/// The driver's text for an error, and its name.
pub(super) fn message(error: &DriverError) -> String {
    let text = |text: Result<&CStr, DriverError>| {
        text.map_or_else(|_| format!("{:?}", error.0), |text| text.to_string_lossy().into_owned())
    };
    format!("{} ({})", text(error.error_string()), text(error.error_name()))
}

/// The error of a failed `call`.
pub(super) fn failed(call: &'static str) -> impl Fn(DriverError) -> Error {
    move |error| Error::Cuda(CudaError::Failed { call, problem: message(&error) })
}

/// The error of a failed allocation of `len` numbers.
pub(super) fn no_memory<T>(error: DriverError, len: usize) -> Error {
    match error.0 {
        Code::CUDA_ERROR_OUT_OF_MEMORY => {
            Error::Cuda(CudaError::OutOfMemory { bytes: len.saturating_mul(size_of::<T>()) })
        }
        _ => failed("allocation")(error),
    }
}
