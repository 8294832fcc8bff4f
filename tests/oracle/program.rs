//! The program as its users start it, in a folder with a line of arguments; and its results there.

use super::{places, random_bytes};
use harmonium::Checkpoint;
use std::{
    ffi::OsStr,
    fs,
    panic::Location,
    path::{Path, PathBuf},
    process::Command,
};

/// An empty folder for one test, below the folder for scratch files.
pub fn empty_folder(place: &[&str]) -> PathBuf {
    let folder = place.iter().fold(places::scratch(), |folder, name| folder.join(name));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// An IDX file of random bytes, two fifths of which are not 0. Its first size is the number of rows.
pub fn write_data(path: &Path, sizes: &[u32], seed: u64) {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(random_bytes(sizes.iter().product::<u32>() as usize, 0.4, seed));
    fs::write(path, bytes).expect("data");
}

/// A folder for one test with `data`, 50 rows of 15 values, below a folder for its test file.
#[track_caller]
pub fn folder(name: &str) -> PathBuf {
    // Names are unique within a test file.
    let file = Path::new(Location::caller().file()).file_stem().and_then(OsStr::to_str).expect("a file's name");
    let folder = empty_folder(&[file, name]);
    write_data(&folder.join("data"), &[50, 15], 1);
    folder
}

/// A run in such a folder: 4 epochs of five batches, 20 updates.
pub const SMALL: &str = "train --quiet --data data --hidden 8 --epochs 4 --batch-size 10 --k 2";
pub const UPDATES: u64 = 20;

pub fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(places::harmonium());
    command.current_dir(folder).args(arguments.split_whitespace());
    command
}

/// Exit status, standard output and standard error.
pub fn run(folder: &Path, arguments: &str) -> (i32, String, String) {
    let output = command(folder, arguments).output().expect("started");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("not killed"), text(output.stdout), text(output.stderr))
}

/// Standard output of a run that succeeds.
#[track_caller]
pub fn fine(folder: &Path, arguments: &str) -> String {
    let (status, stdout, stderr) = run(folder, arguments);
    assert_eq!(status, 0, "{arguments}: {stderr}");
    stdout
}

/// The bytes of the model and of the checkpoint, and the log, without durations.
pub fn outcome(out: &Path) -> (Vec<u8>, Vec<u8>, String) {
    let model = fs::read(out.join("model.safetensors")).expect("a model");
    let log = fs::read_to_string(out.join("log.csv")).expect("a log");
    let lines: Vec<_> = log.lines().map(|line| String::from_utf8(without_seconds(line)).expect("text")).collect();
    (model, timeless(&out.join("checkpoint.safetensors")), lines.join("\n"))
}

/// A line of a log, without its fourth column.
pub fn without_seconds(line: &str) -> Vec<u8> {
    let columns: Vec<_> = line.split(',').collect();
    [&columns[..3], &columns[4..]].concat().join(",").into_bytes()
}

/// The bytes of a checkpoint, without durations.
pub fn timeless(path: &Path) -> Vec<u8> {
    let mut checkpoint = Checkpoint::load(path).expect("a checkpoint");
    checkpoint.place.seconds = 0.0;
    checkpoint.log.iter_mut().for_each(|epoch| epoch.seconds = 0.0);
    checkpoint.to_bytes().expect("finite")
}
