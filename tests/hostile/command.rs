//! Command lines, each with at most [`MOST_KIB`] of memory.

use super::{
    MOST_KIB, Table,
    data::{gzip, idx},
};
use std::{
    fs,
    io::{Read, repeat},
    path::{Path, PathBuf},
    process::Command,
};

pub(super) fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hostile").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn write_idx(path: &Path, sizes: &[u32]) {
    let values = vec![100; sizes.iter().product::<u32>() as usize];
    fs::write(path, idx([0, 0, 8, sizes.len() as u8], sizes, &values)).expect("data");
}

/// Runs the command with limited memory. Returns the exit status and standard error.
pub(super) fn run(folder: &Path, arguments: &str) -> (i32, String) {
    let script = format!("ulimit -v {MOST_KIB}; exec \"$H\" {arguments}");
    let mut command = Command::new("sh");
    // One thread and one arena: others would use up address space without touching it.
    let command = command.current_dir(folder).env("H", env!("CARGO_BIN_EXE_harmonium")).env("RAYON_NUM_THREADS", "1");
    let output = command.args(["-c", &script]).output().expect("a shell");
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).expect("text"))
}

#[cfg(target_os = "linux")]
#[test]
#[rustfmt::skip]
fn command_lines() {
    let folder = folder("command");
    write_idx(&folder.join("data"), &[20, 16]);
    write_idx(&folder.join("wide"), &[20, 17]);
    write_idx(&folder.join("none"), &[0, 16]);
    fs::write(folder.join("text"), "hello").expect("a file");
    fs::write(folder.join("4GiB"), idx([0, 0, 8, 2], &[1 << 16, 1 << 16], &[1; 9])).expect("a file");
    let bomb = gzip(idx([0, 0, 8, 2], &[1 << 31, 1 << 10], &[]).chain(repeat(0).take(1 << 20)));
    fs::write(folder.join("bomb"), bomb).expect("a file");
    fs::create_dir(folder.join("empty")).expect("a folder");
    // Labels of another data set than the images.
    fs::create_dir(folder.join("mixed")).expect("a folder");
    write_idx(&folder.join("mixed/train-images-idx3-ubyte"), &[20, 4, 4]);
    write_idx(&folder.join("mixed/train-labels-idx1-ubyte"), &[19]);
    fs::create_dir(folder.join("right")).expect("a folder");
    write_idx(&folder.join("right/train-images-idx3-ubyte"), &[20, 4, 4]);
    fs::create_dir(folder.join("unlabelled")).expect("a folder");
    write_idx(&folder.join("unlabelled/train-images-idx3-ubyte"), &[3, 0, 4]);
    let missing = "a folder with MNIST's files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, \
                   t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz (.gz or unpacked; labels are not needed), or a file: IDX, npy, npz, FASTA, svmlight or a text table";
    // Folders in the place of files.
    fs::create_dir_all(folder.join("blocked/model.safetensors")).expect("a folder");
    fs::create_dir_all(folder.join("blocked-log/log.csv")).expect("a folder");
    assert_eq!(run(&folder, "train --quiet --data data --hidden 4 --epochs 1 --threads 1 --out run"), (0, String::new()));

    let columns = "expected COLUMNS=VALUES or COLUMNS=FILE, such as 0-9,12=1 or 0-391=upper.npy";
    let (one, rate) = ("expected a whole number of at least 1", "expected a finite number above 0");
    let cases: Vec<(&str, i32, String)> = vec![
        ("--", 2, "expected a command, one of train, sample, impute, evaluate, transform, score, classify, diagnose, filters, report, info, import, export, data, completions, man, found none (see --help)".into()),
        ("completions tcsh", 2, "invalid value 'tcsh' for '<SHELL>': expected one of bash, elvish, fish, powershell, zsh".into()),
        ("grow", 2, "unrecognized subcommand 'grow'".into()),
        ("train extra", 2, "unexpected argument 'extra' found".into()),
        ("train --frobnicate", 2, "unexpected argument '--frobnicate' found".into()),
        ("train --hidden 0", 2, format!("invalid value '0' for '--hidden <N>': {one}")),
        ("train --hidden 1e3", 2, format!("invalid value '1e3' for '--hidden <N>': {one}")),
        ("train --hidden 18446744073709551616", 2, format!("invalid value '18446744073709551616' for '--hidden <N>': {one}")),
        ("train --hidden -5", 2, "unexpected argument '-5' found".into()),
        ("train --hidden 0x10", 2, format!("invalid value '0x10' for '--hidden <N>': {one}")),
        ("train --hidden 8 --hidden 9", 2, "the argument '--hidden <N>' cannot be used multiple times".into()),
        ("train --epochs 0", 2, format!("invalid value '0' for '--epochs <N>': {one}")),
        ("train --batch-size 0", 2, format!("invalid value '0' for '--batch-size <N>': {one}")),
        ("train --batch-size x", 2, format!("invalid value 'x' for '--batch-size <N>': {one}")),
        ("train --k 0", 2, format!("invalid value '0' for '--k <N>': {one}, or such numbers up to parts of the run, as 1:60%,5")),
        ("train --chains 0", 2, format!("invalid value '0' for '--chains <N>': {one}")),
        ("train --stop-after 0", 2, format!("invalid value '0' for '--stop-after <N>': {one}")),
        ("train --threads 0", 2, format!("invalid value '0' for '--threads <N>': {one} and at most 1024")),
        ("train --threads 1025", 2, format!("invalid value '1025' for '--threads <N>': {one} and at most 1024")),
        ("evaluate m --threads 18446744073709551615", 2, format!("invalid value '18446744073709551615' for '--threads <N>': {one} and at most 1024")),
        ("train --limit 0", 2, format!("invalid value '0' for '--limit <ROWS>': {one}")),
        ("train --lr NaN", 2, format!("invalid value 'NaN' for '--lr <RATE>': {rate}")),
        ("train --lr inf", 2, format!("invalid value 'inf' for '--lr <RATE>': {rate}")),
        ("train --lr 1e39", 2, format!("invalid value '1e39' for '--lr <RATE>': {rate}")),
        ("train --lr -0.1", 2, format!("invalid value '-0.1' for '--lr <RATE>': {rate}")),
        ("train --lr 0", 2, format!("invalid value '0' for '--lr <RATE>': {rate}")),
        ("train --lr 1e-50", 2, format!("invalid value '1e-50' for '--lr <RATE>': {rate}")),
        ("train --lr", 2, "a value is required for '--lr <RATE>' but none was supplied".into()),
        ("train --seed -1", 2, "unexpected argument '-1' found".into()),
        ("train --image 28", 2, "invalid value '28' for '--image <HxW>': expected two whole numbers of at least 1, such as 28x28".into()),
        ("train --monitor x", 2, "invalid value 'x' for '--monitor <NAME>': expected one of pl, pl-exact, reconstruction, none".into()),
        ("train --device cuda:x", 2, format!("invalid value 'cuda:x' for '--device <NAME>': {}", if cfg!(feature = "cuda") { "expected cpu, cuda or cuda:N" } else { "expected cpu, as this build is without CUDA" })),
        ("train --device gpu", 2, format!("invalid value 'gpu' for '--device <NAME>': expected cpu{}", if cfg!(feature = "cuda") { ", cuda or cuda:N" } else { "" })),
        ("train --checkpoint-every 5hours", 2, "invalid value '5hours' for '--checkpoint-every <N[updates|epochs|minutes]>': expected a whole number of at least 1 and updates, epochs or minutes, such as 500updates".into()),
        ("train --checkpoint-every 0", 2, "invalid value '0' for '--checkpoint-every <N[updates|epochs|minutes]>': expected a whole number of at least 1 and updates, epochs or minutes, such as 500updates".into()),
        ("train --algorithm sgd", 2, "invalid value 'sgd' for '--algorithm <NAME>': expected one of pcd, cd".into()),
        ("train --algorithm cd --chains 4", 2, "--chains: expected only with --algorithm pcd (cd starts a chain at each row of the minibatch), found 4".into()),
        ("train --data mixed", 1, "mixed/train-labels-idx1-ubyte: expected 20 labels, as many as mixed/train-images-idx3-ubyte has rows, found dimensions [19]".into()),
        ("train --data unlabelled/train-images-idx3-ubyte", 1, "unlabelled/train-images-idx3-ubyte: expected IDX dimensions with at least one value in a row, and rows that fit in memory, found [3, 0, 4]".into()),
        ("evaluate run/model.safetensors --data empty", 1, format!("empty: expected {missing}, found no test images; put them there or give --data PATH")),
        ("evaluate run/model.safetensors --data mixed", 1, format!("mixed: expected {missing}, found no test images; put them there or give --data PATH")),
        ("evaluate run/model.safetensors --data right --split validation", 1, "right: expected more than 50000 training rows, of which the others are for validation, found 20".into()),
        ("evaluate m --split training", 2, "invalid value 'training' for '--split <NAME>': expected one of train, validation, test".into()),
        ("train --data empty", 1, format!("empty: expected {missing}, found no training images; put them there or give --data PATH")),
        ("train --data nowhere", 1, format!("nowhere: expected {missing}, found nothing; put them there or give --data PATH")),
        ("train --data none", 1, "none: expected at least one row, found none".into()),
        ("train --data text", 1, "text: expected an IDX file, or an npy file, or an npz file, or a Parquet file, or a FASTA file, or text named *.csv, *.tsv, *.txt or *.data, or *.svm, *.svmlight or *.libsvm, gzipped or not, found a file that begins with [68, 65, 6c, 6c, 6f]".into()),
        ("train --data 4GiB", 1, "4GiB: expected 4294967296 bytes of IDX values, found 9".into()),
        ("train --data bomb", 1, "bomb: expected at most 4294967296 values, found 2147483648 × 1024".into()),
        ("train --data data/below", 1, "data/below: Not a directory (os error 20)".into()),
        ("train --data data --batch-size 21", 1, "--batch-size: expected at most 20, the training rows taken from data, found 21".into()),
        ("train --data data --limit 21", 1, "--limit: expected at most 20, the training rows of data, found 21".into()),
        ("train --data data --hidden 134217728", 1, "--hidden: expected at least one visible and one hidden unit, and at most 2147483647 weights, found 16 × 134217728".into()),
        ("train --data data --hidden 18446744073709551615", 1, "--hidden: expected at least one visible and one hidden unit, and at most 2147483647 weights, found 16 × 18446744073709551615".into()),
        ("train --data data --chains 4161791", 1, "--chains: expected at most 4161790, the most chains with 2^31 units for the rows of data, found 4161791".into()),
        ("train --data data --image 3x5", 1, "--image: expected height x width of 16 pixels, found 3x5".into()),
        ("train --data data --out text", 1, "text: expected a folder to write to: File exists (os error 17)".into()),
        ("train --data data --out text/below", 1, "text/below: expected a folder to write to: Not a directory (os error 20)".into()),
        ("train --data data --out blocked", 1, "blocked/model.safetensors: expected a regular file or nothing, found a folder or a device".into()),
        ("train --data data --out blocked-log", 1, "blocked-log/log.csv: expected a regular file or nothing, found a folder or a device".into()),
        ("train --data data --out /proc", 1, "/proc: No such file or directory (os error 2)".into()),
        ("train --resume empty", 1, "empty/checkpoint.safetensors: No such file or directory (os error 2)".into()),
        ("train --resume run/model.safetensors", 1, "run/model.safetensors/checkpoint.safetensors: Not a directory (os error 20)".into()),
        ("sample", 2, "the following required arguments were not provided: <MODEL>".into()),
        ("sample m --chains 0", 2, format!("invalid value '0' for '--chains <N>': {one}")),
        ("sample m --rows 0", 2, format!("invalid value '0' for '--rows <N>': {one}")),
        ("sample m --steps 0", 2, format!("invalid value '0' for '--steps <N>': {one}")),
        ("sample text", 1, "text: expected a safetensors file, found a header that goes beyond the end".into()),
        ("sample run/model.safetensors --data data --chains 21", 1, "--chains: expected at most 20, the rows of data to start from, found 21".into()),
        ("sample run/model.safetensors --start data", 1, "data/mnist: Not a directory (os error 20)".into()),
        ("sample run/model.safetensors --start nowhere", 1, format!("nowhere: expected {missing}, found nothing; put them there or give --start PATH")),
        ("sample run/model.safetensors --start random --data data", 1, "--data: expected none with --start random, found data".into()),
        ("sample run/model.safetensors --start data --data data --chains 21", 1, "--chains: expected at most 20, the rows of data to start from, found 21".into()),
        ("sample run/model.safetensors --temper 1", 2, "invalid value '1' for '--temper <N>': expected a whole number of at least 2".into()),
        ("sample run/model.safetensors --start random --temper 18446744073709551615", 1, "--temper: expected at least 1, and as many as fit in memory, found 18446744073709551615".into()),
        ("sample run/model.safetensors --means --bits", 2, "the argument '--means' cannot be used with '--bits'".into()),
        ("sample run/model.safetensors --clamp 3", 2, format!("invalid value '3' for '--clamp <COLUMNS=VALUES|FILE>': {columns}")),
        ("sample run/model.safetensors --clamp 5-3=1", 2, format!("invalid value '5-3=1' for '--clamp <COLUMNS=VALUES|FILE>': {columns}")),
        ("sample run/model.safetensors --clamp 3=", 2, format!("invalid value '3=' for '--clamp <COLUMNS=VALUES|FILE>': {columns}")),
        ("sample run/model.safetensors --clamp 3=nan", 2, "invalid value '3=nan' for '--clamp <COLUMNS=VALUES|FILE>': expected finite numbers".into()),
        ("sample run/model.safetensors --clamp 0-18446744073709551615=1", 1, "--clamp: expected columns from 0 to 15, found 18446744073709551615".into()),
        ("sample run/model.safetensors --clamp 0-2=1,0", 1, "--clamp: expected 3 values, one a column, or one value, found 2".into()),
        ("sample run/model.safetensors --clamp 0-2=1 --clamp 2,5=0", 1, "--clamp: expected each column only once, --class included, found column 2 twice".into()),
        ("sample run/model.safetensors --clamp 4=2", 1, "--clamp: expected a value within [0, 1] for column 4, found 2".into()),
        ("sample run/model.safetensors --clamp 4=nowhere", 1, format!("nowhere: expected {missing}, found nothing; put them there or give --clamp PATH")),
        ("sample run/model.safetensors --clamp 0-3=data", 1, "data: expected rows of 4 values, the visible units binary:4, found rows of 16".into()),
        ("sample run/model.safetensors --start random --clamp 0-15=data --chains 3", 1, "--clamp: expected one row, or 3, a row for each of --chains, found 20".into()),
        ("sample run/model.safetensors --class 1", 1, "--class: expected a model with a label, such as binary:784,potts:1x10, found binary:16".into()),
        ("impute run/model.safetensors", 2, "the following required arguments were not provided: --data <PATH>".into()),
        ("impute run/model.safetensors --data wide", 1, "wide: expected rows of 16 values, the visible units of run/model.safetensors, found rows of 17".into()),
        ("impute run/model.safetensors --data data --out x.png", 1, "--out: expected a name that ends with .npy or .csv, found x.png".into()),
        ("impute run/model.safetensors --data data --draws 0", 2, format!("invalid value '0' for '--draws <N>': {one}")),
        ("impute run/model.safetensors --data data --draws 18446744073709551615", 1, "--draws and --burn-in: expected few enough for the 2^64 random numbers of a seed, found 18446744073709551615".into()),
        ("sample run/model.safetensors --data wide", 1, "wide: expected rows of 16 values, the visible units of run/model.safetensors, found rows of 17".into()),
        ("sample run/model.safetensors --data data --rows 99999999999", 1, "--chains and --rows: expected at most 16777216 images, found 20 × 99999999999".into()),
        ("filters", 2, "the following required arguments were not provided: <MODEL>".into()),
        ("filters m --tile 0x3", 2, "invalid value '0x3' for '--tile <RxC>': expected two whole numbers of at least 1, such as 28x28".into()),
        ("filters m --image 3x", 2, "invalid value '3x' for '--image <HxW>': expected two whole numbers of at least 1, such as 28x28".into()),
        ("filters nothing", 1, "nothing: No such file or directory (os error 2)".into()),
        ("filters run/model.safetensors --image 3x5", 1, "--image: expected height x width of 16 pixels, found 3x5".into()),
        ("filters run/model.safetensors --out empty", 1, "empty: expected a regular file or nothing, found a folder or a device".into()),
        ("filters run/model.safetensors --out no/f.png", 1, "no/f.png: No such file or directory (os error 2)".into()),
        ("filters run/model.safetensors --out /dev/full", 1, "/dev/full: expected a regular file or nothing, found a folder or a device".into()),
        ("filters run/model.safetensors --tile 99999x99999", 1, "--tile: expected between 1 and 268435456 values, found 499994 × 499994 pixels".into()),
        ("info", 2, "the following required arguments were not provided: <MODEL>".into()),
        ("info a b", 2, "unexpected argument 'b' found".into()),
        ("info nothing", 1, "nothing: No such file or directory (os error 2)".into()),
        ("info empty", 1, "empty: Is a directory (os error 21)".into()),
        ("info run/model.safetensors >/dev/full", 1, "standard output: No space left on device (os error 28)".into()),
        ("info run/model.safetensors --json >/dev/full", 1, "standard output: No space left on device (os error 28)".into()),
        ("evaluate run/model.safetensors --data data --json >/dev/full", 1, "standard output: No space left on device (os error 28)".into()),
        ("diagnose run/model.safetensors --data data --steps 20 >/dev/full", 1, "standard output: No space left on device (os error 28)".into()),
        ("evaluate run/model.safetensors --data data --log-z ais --temperatures 18446744073709551615", 1, "temperatures: expected at least 1 and at most 67108864, found 18446744073709551615".into()),
        ("evaluate run/model.safetensors --data data --log-z ais --runs 18446744073709551615", 1, "n_chains: expected at least 1, and as many as fit in memory, found 18446744073709551615".into()),
        ("evaluate run/model.safetensors --data data --split test", 1, "--split: expected a folder as --data, found the file data, of which all rows are used".into()),
        ("info /dev/zero", 1, "/dev/zero: expected a regular file, found a device or a pipe".into()),
        ("info run/log.csv", 1, "run/log.csv: expected a safetensors file, found a header that goes beyond the end".into()),
    ];
    let mut table = Table::default();
    for (arguments, status, message) in &cases {
        let found = run(&folder, arguments);
        table.message(arguments, &format!("{} {}", found.0, found.1.trim_end()), &format!("{status} error: {message}"));
    }
    // The free memory of this machine is unknown, but less than the memory for 2^31 weights.
    let (status, stderr) = run(&folder, "train --likelihood off --data data --hidden 134217727 --chains 1 --batch-size 1 --out none-made");
    let begins = "error: --hidden, --chains and --batch-size: expected sizes that fit into ";
    let ends = " MiB of free memory, found 16 × 134217727 weights, 1 chains and 1 rows: 75265 MiB\n";
    assert!(status == 1 && stderr.starts_with(begins) && stderr.ends_with(ends), "{stderr}");
    assert!(!folder.join("none-made").exists());
    for (sizes, found) in [
        ("--chains 18446744073709551615", "18446744073709551615 and 5000"),
        ("--steps 18446744073709551615", "20 and 18446744073709551615"),
    ] {
        let (status, stderr) = run(&folder, &format!("diagnose run/model.safetensors --data data {sizes}"));
        let begins = "error: --chains and --steps: expected numbers that fit into ";
        assert!(status == 1 && stderr.starts_with(begins) && stderr.ends_with(&format!("found {found}\n")), "{stderr}");
    }
    table.judge(82);
}
