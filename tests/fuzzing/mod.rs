//! What a fuzzer does with bytes: each body takes any bytes, and panics where a promise is broken. The fuzzer's targets
//! (`fuzz/`) and an ordinary test (`tests/fuzz.rs`) run the same ones.

pub mod checkpoint;
pub mod differential;
pub mod idx;
pub mod model;
pub mod npy;

use harmonium::Error;

/// An error must name its source and be one line.
pub fn judge(error: &Error) {
    let text = error.to_string();
    assert!(text.starts_with("a.file: ") || matches!(error, Error::Argument { .. }), "{text}");
    assert!(!text.contains('\n'), "{text}");
}
