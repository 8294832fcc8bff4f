//! The program as its users start it: in a folder, with a line of arguments.

use super::random_bytes;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// An empty folder of a test's own, below the place for what tests write.
pub fn empty_folder(place: &[&str]) -> PathBuf {
    let folder = place.iter().fold(PathBuf::from(env!("CARGO_TARGET_TMPDIR")), |folder, name| folder.join(name));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// An IDX file of random bytes, two fifths of them not 0: its first size is how many rows it has.
pub fn write_data(path: &Path, sizes: &[u32], seed: u64) {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(random_bytes(sizes.iter().product::<u32>() as usize, 0.4, seed));
    fs::write(path, bytes).expect("data");
}

pub fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harmonium"));
    command.current_dir(folder).args(arguments.split_whitespace());
    command
}

/// Exit status, standard output and standard error.
pub fn run(folder: &Path, arguments: &str) -> (i32, String, String) {
    let output = command(folder, arguments).output().expect("started");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("not killed"), text(output.stdout), text(output.stderr))
}

/// Standard output of a run that ends well.
#[track_caller]
pub fn fine(folder: &Path, arguments: &str) -> String {
    let (status, stdout, stderr) = run(folder, arguments);
    assert_eq!(status, 0, "{arguments}: {stderr}");
    stdout
}
