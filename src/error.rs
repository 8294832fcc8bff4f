//! What can go wrong, and what is said about it.

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Every failure names the argument or file it is about, what was expected and what was found.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A buffer's length does not fit the shape.
    #[error("{what}: expected {expected} values, found {found}")]
    Length {
        /// The argument.
        what: &'static str,
        /// How many values it should hold.
        expected: usize,
        /// How many it holds.
        found: usize,
    },
    /// An argument is outside of what it may be.
    #[error("{what}: expected {expected}, found {found}")]
    Argument {
        /// The argument.
        what: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Two objects that should work together belong to different devices.
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
        /// Where in it.
        index: usize,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: f32,
    },
    /// A value of a row is none that the law of its unit allows.
    #[error("rows: row {row}, column {column}, {law}: expected {expected}, found {found}")]
    Law {
        /// The row, counted from 0.
        row: usize,
        /// The visible unit, counted from 0.
        column: usize,
        /// The law of the unit.
        law: &'static str,
        /// What it allows.
        expected: &'static str,
        /// What is there.
        found: f32,
    },
    /// Neither layer is small enough to be enumerated.
    #[error("exact log Z: expected at most {limit} units in the smaller layer, found {units}: 2^{units} states")]
    States {
        /// The greatest number of units that are enumerated.
        limit: usize,
        /// The units of the smaller layer.
        units: usize,
    },
    /// A file cannot be opened, read or written.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What the operating system says.
        problem: String,
    },
    /// A file or stream does not hold what it should.
    #[error("{source_name}: expected {expected}, found {found}")]
    Format {
        /// The file, or `stream` where it has no name.
        source_name: String,
        /// What belongs there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// An instruction set that this machine lacks, or that nobody knows.
    #[error("{what}: expected scalar, avx2 or avx512, as far as this machine has them, found {name}")]
    Isa {
        /// Who asked for it: the environment variable `HARMONIUM_ISA`, or an argument.
        what: &'static str,
        /// What was asked for.
        name: String,
    },
    /// CUDA cannot be used here, or failed.
    #[cfg(feature = "cuda")]
    #[error("CUDA: {0}")]
    Cuda(CudaError),
}

/// What stands in a file, or was made of it, fit for a message: one line, without control characters, not too long.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 500;
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let end = if text.chars().nth(MOST).is_some() { "…" } else { "" };
    text.chars().take(MOST).map(escaped).chain([end.to_string()]).collect()
}

// There is no `From<CudaError>`: it would make `?` ambiguous in code that compiles without the feature.
/// What CUDA lacks, or what it says.
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
        /// How many there are.
        found: usize,
    },
    /// cuBLAS, which all but canonical sums need, cannot be found.
    #[error("no cuBLAS: libcublas cannot be loaded; canonical sums do without")]
    NoCublas,
    /// The driver is older than what the kernels need.
    #[error("the driver is too old: expected CUDA {expected} or later, found {found}")]
    DriverTooOld {
        /// The oldest version that will do.
        expected: String,
        /// What the driver says of itself.
        found: String,
    },
    /// The device is older than what the kernels need.
    #[error("the device is too old: expected compute capability 7.0 or later, found {found}")]
    DeviceTooOld {
        /// The device's compute capability.
        found: String,
    },
    /// The kernels can neither be compiled nor loaded as they come.
    #[error("no kernels: NVRTC: {nvrtc}; the kernels that come with this program: {ptx}")]
    NoKernels {
        /// Why they were not compiled.
        nvrtc: String,
        /// Why the compiled ones were not loaded.
        ptx: String,
    },
    /// Not enough memory on the device.
    #[error("out of device memory: {bytes} bytes more were needed")]
    OutOfMemory {
        /// How much was asked for.
        bytes: usize,
    },
    /// More units than a chain's bits may have in a block's shared memory, or more rows than a grid has blocks.
    #[error("too large for the device: {what}: expected at most {limit}, found {found}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: usize,
        /// How much there is.
        found: usize,
    },
    /// A call failed: a launch, a copy, or, since the device works on its own, anything before it.
    #[error("{call} failed: {problem}")]
    Failed {
        /// What was called.
        call: &'static str,
        /// What the driver says.
        problem: String,
    },
}
