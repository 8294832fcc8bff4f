//! Errors and their messages.

/// The result of every function of this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// An error. Its message names the argument or file, what was expected, and what was found.
///
/// ```
/// use harmonium::{Error, Shape};
///
/// let error = Shape::new(784, 0).unwrap_err();
/// assert!(matches!(error, Error::Argument { what: "shape", .. }));
/// let message = "shape: expected at least one visible and one hidden unit, and at most 2147483647 weights, found 784 × 0";
/// assert_eq!(error.to_string(), message);
/// ```
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A buffer's length does not fit the shape.
    #[error("{what}: expected {expected} values, found {found}")]
    Length {
        /// The argument.
        what: &'static str,
        /// The number of values that it should have.
        expected: usize,
        /// The number of values that it has.
        found: usize,
    },
    /// An argument is out of its range.
    #[error("{what}: expected {expected}, found {found}")]
    Argument {
        /// The argument.
        what: &'static str,
        /// The permitted values.
        expected: String,
        /// The actual value.
        found: String,
    },
    /// Two objects that are used together belong to different devices.
    #[error("{what}: expected on {expected}, found on {found}")]
    Device {
        /// The argument.
        what: &'static str,
        /// The device that it should belong to.
        expected: String,
        /// The device that it belongs to.
        found: String,
    },
    /// A value that must be finite, or within [0, 1], is not.
    #[error("{what}[{index}]: expected {expected}, found {found}")]
    Value {
        /// The buffer.
        what: &'static str,
        /// The index in the buffer.
        index: usize,
        /// The permitted values.
        expected: &'static str,
        /// The actual value.
        found: f32,
    },
    /// A value of a row violates the law of its unit.
    #[error("rows: row {row}, column {column}, {law}: expected {expected}, found {found}")]
    Law {
        /// The row, counted from 0.
        row: usize,
        /// The visible unit, counted from 0.
        column: usize,
        /// The law of the unit.
        law: &'static str,
        /// The values that the law permits.
        expected: &'static str,
        /// The actual value.
        found: f32,
    },
    /// Neither layer is small enough for enumeration.
    #[error("exact log Z: expected at most {limit} units in the smaller layer, found {units}: 2^{units} states")]
    States {
        /// The greatest number of units that can be enumerated.
        limit: usize,
        /// The number of units of the smaller layer.
        units: usize,
    },
    /// A file cannot be opened, read or written.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// The operating system's message.
        problem: String,
    },
    /// A file or stream has unexpected contents.
    #[error("{source_name}: expected {expected}, found {found}")]
    Format {
        /// The file, or `stream` if it has no name.
        source_name: String,
        /// The expected contents.
        expected: String,
        /// The actual contents.
        found: String,
    },
    /// An instruction set that is unknown, or that this machine lacks.
    #[error("{what}: expected scalar, avx2 or avx512, if this machine supports it, found {name}")]
    Isa {
        /// The source of the request: the environment variable `HARMONIUM_ISA`, or an argument.
        what: &'static str,
        /// The instruction set that was requested.
        name: String,
    },
    /// CUDA is not available, or failed.
    #[cfg(feature = "cuda")]
    #[error("CUDA: {0}")]
    Cuda(CudaError),
}

/// Text from a file, or derived from it, in a form fit for a message: one line, without control characters, of limited length.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 500;
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let end = if text.chars().nth(MOST).is_some() { "…" } else { "" };
    text.chars().take(MOST).map(escaped).chain([end.to_string()]).collect()
}

// There is no `From<CudaError>`, because it would make `?` ambiguous in code that compiles without the feature.
/// The reason why CUDA is not available, or failed.
#[cfg(feature = "cuda")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The driver's library cannot be found.
    #[error("no NVIDIA driver: libcuda cannot be loaded")]
    NoDriver,
    /// There is a driver, but no such device.
    #[error("no device number {ordinal}: the driver knows {found}")]
    NoDevice {
        /// The device that was asked for.
        ordinal: usize,
        /// The number of devices.
        found: usize,
    },
    /// cuBLAS, which all sums except canonical ones need, cannot be found.
    #[error("no cuBLAS: libcublas cannot be loaded; canonical sums do not need it")]
    NoCublas,
    /// The driver is older than the kernels require.
    #[error("the driver is too old: expected CUDA {expected} or later, found {found}")]
    DriverTooOld {
        /// The oldest version that suffices.
        expected: String,
        /// The version that the driver reports.
        found: String,
    },
    /// The device is older than the kernels require.
    #[error("the device is too old: expected compute capability 7.0 or later, found {found}")]
    DeviceTooOld {
        /// The device's compute capability.
        found: String,
    },
    /// The kernels can be neither compiled nor loaded.
    #[error("no kernels: NVRTC: {nvrtc}; the kernels that come with this program: {ptx}")]
    NoKernels {
        /// The reason why they were not compiled.
        nvrtc: String,
        /// The reason why the precompiled ones were not loaded.
        ptx: String,
    },
    /// Not enough memory on the device.
    #[error("out of device memory: {bytes} bytes more were needed")]
    OutOfMemory {
        /// The size of the request.
        bytes: usize,
    },
    /// A chain has too many units for a block's shared memory, or there are more rows than a grid has blocks.
    #[error("too large for the device: {what}: expected at most {limit}, found {found}")]
    TooLarge {
        /// The quantity that is too large.
        what: &'static str,
        /// Its limit.
        limit: usize,
        /// Its value.
        found: usize,
    },
    /// A call failed: a launch or a copy. As the device works asynchronously, the cause may be any earlier call.
    #[error("{call} failed: {problem}")]
    Failed {
        /// The call.
        call: &'static str,
        /// The driver's message.
        problem: String,
    },
}
