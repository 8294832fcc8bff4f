//! Locations of files for tests and benches: in the build folder or, for programs that benches/gpu/run copied to another machine,
//! from the environment.
#![allow(dead_code, reason = "nobody uses all of it")]

use std::path::{Path, PathBuf};

fn said(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

/// The folder with MNIST.
pub fn mnist() -> PathBuf {
    said("HARMONIUM_MNIST").unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mnist"))
}

/// The folder for what tests write.
pub fn scratch() -> PathBuf {
    said("HARMONIUM_SCRATCH").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into())
}

/// The command.
#[cfg(feature = "cli")]
pub fn harmonium() -> PathBuf {
    said("HARMONIUM_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_harmonium").into())
}
