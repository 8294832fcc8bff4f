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
    /// The environment variable `HARMONIUM_ISA` asks for what this machine cannot do.
    #[error("HARMONIUM_ISA: expected scalar, avx2 or avx512, as far as this machine has them, found {name}")]
    Isa {
        /// What was asked for.
        name: String,
    },
}
