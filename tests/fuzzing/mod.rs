//! What a fuzzer does with bytes: each body takes any bytes, and panics where a promise is broken. The fuzzer's targets
//! (`fuzz/`) and an ordinary test (`tests/fuzz.rs`) run the same ones.

pub mod checkpoint;
pub mod differential;
pub mod fasta;
pub mod idx;
pub mod laws;
pub mod model;
pub mod npy;
pub mod text;

use harmonium::{Dataset, Error, formats};

/// What recognises a file by its first bytes reads the same rows as the format's own reader, if there are any.
pub fn recognise(bytes: &[u8], rows: Result<&Dataset, &Error>) {
    match (formats::read_within(bytes, "a.file", u64::MAX), rows) {
        (Ok(images), Ok(rows)) => assert!(images.rows == *rows && rows.len() > 0),
        (Ok(_), Err(problem)) => panic!("read where the format's own reader fails: {problem}"),
        (Err(Error::Format { expected, .. }), Ok(rows)) if rows.len() == 0 => assert_eq!(expected, "at least one row"),
        (Err(problem), Ok(_)) => panic!("not read where the format's own reader reads: {problem}"),
        (Err(problem), Err(_)) => assert!(problem.to_string().starts_with("a.file: "), "{problem}"),
    }
}

/// An error must name its source and be one line.
pub fn judge(error: &Error) {
    let text = error.to_string();
    assert!(text.starts_with("a.file: ") || matches!(error, Error::Argument { .. }), "{text}");
    assert!(!text.contains('\n'), "{text}");
}
