//! Rows that stay on disk: the same model, checkpoint and log as in memory, on any number of threads and with stops anywhere; little memory
//! for files of any size; errors.

use crate::oracle::{
    program::{command, empty_folder, fine, outcome, run},
    random_bytes, random_values,
};
use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

fn folder(name: &str) -> PathBuf {
    empty_folder(&["on_disk_command", name])
}

/// The header of an npy file.
fn header(descr: &str, rows: usize, units: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {units}), }}");
    text += &" ".repeat((64 - (10 + text.len() + 1) % 64) % 64);
    text.push('\n');
    [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat()
}

fn write(path: &Path, descr: &str, units: usize, values: &[u8]) {
    let width: usize = descr[2..].parse().expect("a width");
    fs::write(path, [header(descr, values.len() / units / width, units), values.to_vec()].concat()).expect("an array");
}

#[track_caller]
fn fails(folder: &Path, arguments: &str, status: i32, message: &str) {
    let (found, stdout, stderr) = run(folder, arguments);
    let last = stderr.lines().last().unwrap_or("");
    assert_eq!((found, stdout.as_str(), last), (status, "", &*format!("error: {message}")), "{arguments}");
}

const TRAIN: &str = "train --quiet --hidden 6 --epochs 3 --batch-size 10 --k 2 --samples 2 --image 3x5";

/// Arrays of 103 rows of 15 values: the last batch is short.
fn arrays(name: &str) -> PathBuf {
    let (folder, n) = (folder(name), 103 * 15);
    let (grey, real) = (random_bytes(n, 0.5, 1), random_values(n, 0.7, 2));
    write(&folder.join("grey.npy"), "|u1", 15, &grey);
    write(&folder.join("bits.npy"), "|u1", 15, &grey.iter().map(|&x| u8::from(x > 100)).collect::<Vec<_>>());
    write(&folder.join("truth.npy"), "|b1", 15, &grey.iter().map(|&x| u8::from(x > 100)).collect::<Vec<_>>());
    write(&folder.join("f4.npy"), "<f4", 15, &real.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
    write(&folder.join("big-endian.npy"), ">f4", 15, &real.iter().flat_map(|x| x.to_be_bytes()).collect::<Vec<_>>());
    folder
}

#[test]
fn the_same_model_as_from_memory() {
    let folder = arrays("same");
    for (options, stops) in [
        ("--data grey.npy", &[15][..]),
        ("--data grey.npy --shuffle off", &[15]),
        ("--data grey.npy --shuffle off --binarise sample --validation 0.2", &[3, 20]),
        ("--data grey.npy --binarise sample --validation 0.2 --init data", &[1, 9, 10, 26]),
        ("--data grey.npy --binarise threshold:16-240 --algorithm cd --limit 77", &[7]),
        ("--data bits.npy --init data --centring 0.01 --momentum 0.5 --average 0.3", &[12]),
        ("--data bits.npy --recipe density --validation 0.2 --keep best", &[4]),
        ("--data truth.npy --health-every 7 --validation grey.npy", &[7]),
        ("--data f4.npy --binarise sample --validation 0.5 --limit 90", &[14]),
        ("--data big-endian.npy --init data --likelihood off", &[]),
        ("--data f4.npy --visible binary:9,gaussian:6 --lr 0.01", &[16]),
        ("--data grey.npy --visible binary:15 --binarise threshold", &[]),
    ] {
        let options = format!("{TRAIN} {options}");
        fine(&folder, &format!("{options} --out memory"));
        let expected = outcome(&folder.join("memory"));
        for threads in [1, 2] {
            fine(&folder, &format!("{options} --in-place --threads {threads} --out disk"));
            assert!(outcome(&folder.join("disk")) == expected, "{options}, {threads} threads");
            for picture in ["samples.png", "filters_at_epoch_2.png"] {
                let bytes = |out: &str| fs::read(folder.join(out).join(picture)).ok();
                assert!(bytes("disk") == bytes("memory"), "{options}: {picture}");
            }
        }
        for (n, stop) in stops.iter().enumerate() {
            // Start in place or in memory, resume in place or in memory.
            let (before, after) = [(" --in-place", " --in-place"), ("", " --in-place"), (" --in-place", "")][n % 3];
            let _ = fs::remove_dir_all(folder.join("parts"));
            fine(&folder, &format!("{options}{before} --stop-after {stop} --out parts"));
            fine(&folder, &format!("train --quiet --resume parts --samples 0{after}"));
            assert!(outcome(&folder.join("parts")) == expected, "{options}, stopped after {stop}");
        }
    }
}

/// Enough rows for several windows in an epoch; the last one is short.
#[test]
fn several_windows() {
    let folder = folder("windows");
    write(&folder.join("x.npy"), "|u1", 784, &random_bytes(12_345 * 784, 0.2, 3));
    let options = "train --quiet --data x.npy --hidden 4 --epochs 2 --batch-size 1000 --k 1 --samples 0 --binarise sample \
                   --init data --likelihood off";
    fine(&folder, &format!("{options} --out memory"));
    fine(&folder, &format!("{options} --in-place --out disk"));
    assert!(outcome(&folder.join("disk")) == outcome(&folder.join("memory")));
    fine(&folder, &format!("{options} --in-place --stop-after 19 --out parts"));
    fine(&folder, "train --quiet --resume parts --in-place --samples 0");
    assert!(outcome(&folder.join("parts")) == outcome(&folder.join("memory")));
    // As many epochs as take a second, estimated from a part of one.
    fine(
        &folder,
        "train --quiet --data x.npy --in-place --hidden 4 --batch-size 1000 --samples 0 --minutes 0.02 --out timed",
    );
}

#[test]
fn other_commands() {
    let folder = arrays("commands");
    for data in ["grey.npy", "bits.npy", "f4.npy"] {
        fine(&folder, &format!("{TRAIN} --data {data} --out out"));
        for sample in ["", " --sample"] {
            let transform = format!("transform out/model.safetensors --data {data} --batch-size 10{sample}");
            fine(&folder, &format!("{transform} --out memory.npy"));
            fine(&folder, &format!("{transform} --in-place --out disk.npy"));
            let bytes = |name: &str| fs::read(folder.join(name)).expect("an array");
            assert!(bytes("disk.npy") == bytes("memory.npy"), "{transform}");
        }
        let score = format!("score out/model.safetensors --data {data} --limit 40 --log-z exact");
        fine(&folder, &format!("{score} --out memory.csv"));
        fine(&folder, &format!("{score} --in-place --out disk.csv"));
        let text = |name: &str| fs::read_to_string(folder.join(name)).expect("a table");
        assert_eq!(text("disk.csv"), text("memory.csv"));
        assert_eq!(text("disk.csv").lines().count(), 41);
        let evaluate = format!(
            "evaluate out/model.safetensors --data {data} --limit 500 --log-z bracket --temperatures 50 --burn-in 10"
        );
        let numbers = |text: String| text.lines().filter(|line| !line.ends_with(" s")).collect::<Vec<_>>().join("\n");
        assert_eq!(numbers(fine(&folder, &format!("{evaluate} --in-place"))), numbers(fine(&folder, &evaluate)));
    }
    // A model with labels and a scale reads rows without labels and scales them.
    fs::write(folder.join("labels.txt"), (0..103).map(|r| format!("{}\n", r % 3)).collect::<String>()).expect("labels");
    fine(&folder, &format!("{TRAIN} --data f4.npy --labels labels.txt --scale minmax --out out"));
    fine(&folder, "transform out/model.safetensors --data f4.npy --out memory.npy");
    fine(&folder, "transform out/model.safetensors --data f4.npy --in-place --out disk.npy");
    assert!(fs::read(folder.join("disk.npy")).expect("rows") == fs::read(folder.join("memory.npy")).expect("rows"));
    fs::write(folder.join("wide.npy"), [header("|u1", 2, 16), vec![3; 32]].concat()).expect("an array");
    fails(
        &folder,
        "transform out/model.safetensors --data wide.npy --in-place",
        1,
        "wide.npy: expected rows of 15 values, the visible units gaussian:15, found rows of 16",
    );
    let needs = "the following required arguments were not provided: --limit <ROWS>";
    fails(&folder, "score out/model.safetensors --data f4.npy --in-place", 2, needs);
}

/// Three gibibytes of rows in 100 MiB of address space.
#[cfg(target_os = "linux")]
#[test]
fn a_file_larger_than_memory() {
    let folder = folder("large");
    let (rows, units, path) = (4_000_000, 784, folder.join("large.npy"));
    let header = header("|u1", rows, units);
    fs::write(&path, &header).expect("a header");
    let file = OpenOptions::new().write(true).open(&path).expect("a file");
    file.set_len((header.len() + rows * units) as u64).expect("a file with holes");
    file.write_all_at(&random_bytes(1000 * units, 0.3, 4), header.len() as u64).expect("some rows");
    let run = |arguments: &str| {
        let script = format!("ulimit -v 100000; exec \"$H\" {arguments}");
        let mut shell = std::process::Command::new("sh");
        let shell =
            shell.current_dir(&folder).env("H", crate::oracle::places::harmonium()).env("RAYON_NUM_THREADS", "1");
        let output = shell.args(["-c", &script]).output().expect("a shell");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let train = "train --data large.npy --quiet --hidden 4 --epochs 1 --batch-size 100 --samples 0 --validation 0.1 --limit 5000";
    assert_eq!(run(&format!("{train} --in-place --out out")), (Some(0), String::new()));
    let (status, stderr) = run("score out/model.safetensors --data large.npy --in-place --limit 1000");
    assert_eq!((status, &*stderr), (Some(0), "notice: large.npy: 2991 MiB stay on disk\n"));
    let (status, _) = run(&format!("{train} --out out"));
    assert_ne!(status, Some(0), "it does not fit in memory");
    fs::remove_file(&path).expect("removed");
}

#[test]
#[rustfmt::skip]
fn what_is_refused() {
    let folder = arrays("refused");
    let train = format!("{TRAIN} --in-place");
    let real = |at: usize, x: f32| {
        let mut values = vec![0.5f32; 60 * 15];
        values[at] = x;
        write(&folder.join("x.npy"), "<f4", 15, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
    };
    real(40 * 15 + 3, f32::NAN);
    fails(&folder, &format!("{train} --data x.npy"), 1, "x.npy: expected no missing value, as rows stay on disk, found NaN in row 40, column 3");
    real(59 * 15 + 14, 1.25);
    fails(&folder, &format!("{train} --data x.npy --validation 0.1"), 1, "x.npy: expected values within [0, 1], found 1.25 in row 59, column 14");
    // Rows beyond the limit are not read.
    fine(&folder, &format!("{train} --data x.npy --limit 59"));
    real(0, f32::INFINITY);
    fails(&folder, &format!("{train} --data x.npy --visible gaussian:15"), 1, "x.npy: expected a finite number in column 0 (gaussian), found inf in row 0");
    write(&folder.join("x.npy"), "<f4", 2, &[[0.5f32, 7.0]; 30].concat().iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
    fails(&folder, "train --in-place --quiet --data x.npy --visible gaussian:2", 1,
        "x.npy: expected columns of Gaussian units with different values, or --scale standard, found 0.5 in all rows of column 0");
    fs::write(folder.join("labels.txt"), "0\n1\n").expect("labels");
    fs::write(folder.join("t.csv"), "1,0\n0,1\n").expect("a table");
    fs::create_dir(folder.join("folder")).expect("a folder");
    for (options, message) in [
        ("--data folder", "--in-place: expected an npy file as --data, found the folder folder"),
        ("--data grey.npy --array x", "--in-place: expected an npy file, which has one array, found --array x"),
        ("--data grey.npy --labels labels.txt", "--in-place: expected rows without labels, as labels need the rows in memory, found labels"),
        ("--data grey.npy --label-column 3", "--in-place: expected rows without labels, as labels need the rows in memory, found labels"),
        ("--data grey.npy --scale max", "--in-place: expected --scale none, as values stay as they are on disk, found --scale max"),
        ("--data t.csv", "t.csv: expected an npy file, which begins with 93 4e 55 4d 50 59, found [31, 2c, 30, 0a, 30, 2c]"),
        ("--data grey.npy --limit 104", "--limit: expected at most 103, the training rows of grey.npy, found 104"),
        ("--data grey.npy --validation 0.001", "--validation: expected a fraction that puts some of 103 rows on either side, found 0.001"),
        ("--data grey.npy --validation rest", "--validation: expected a fraction of the rows, a file or none, as grey.npy has no further rows, found rest"),
        ("--data grey.npy --visible binary:14", "grey.npy: expected rows of 14 values, the visible units binary:14, found rows of 15"),
    ] {
        fails(&folder, &format!("{train} {options}"), 1, message);
    }
    fails(&folder, "train --in-place --quiet --data grey.npy --batch-size 104", 1,
        "--batch-size: expected at most 103, the training rows taken from grey.npy, found 104");
    // A file other than the run's, and a shorter one.
    fine(&folder, &format!("{train} --data grey.npy --stop-after 3 --out parts"));
    let (status, _, stderr) = run(&folder, "train --resume parts --quiet --in-place --data bits.npy");
    assert!(status == 1 && stderr.starts_with("error: --data: expected the rows of parts/checkpoint.safetensors, fingerprint "), "{stderr}");
    let bytes = fs::read(folder.join("grey.npy")).expect("an array");
    fs::write(folder.join("grey.npy"), &bytes[..bytes.len() - 1]).expect("a file");
    fails(&folder, "train --resume parts --quiet --in-place", 1, "grey.npy: expected 1545 bytes of npy values, found 1544");
}

/// If another process truncates the file during training, the run ends with a message.
#[test]
fn a_truncated_file() {
    let folder = arrays("shorter");
    let arguments = "train --quiet --in-place --data grey.npy --hidden 4 --epochs 1000000 --batch-size 10 --likelihood off --out out";
    let mut child = command(&folder, arguments).stderr(std::process::Stdio::piped()).spawn().expect("started");
    let checkpoint = folder.join("out/checkpoint.safetensors");
    // A checkpoint of the first epoch shows that training has started.
    for _ in 0..3000 {
        if checkpoint.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(checkpoint.exists(), "the run has not begun");
    let path = folder.join("grey.npy");
    let len = fs::metadata(&path).expect("a size").len();
    OpenOptions::new().write(true).open(&path).expect("a file").set_len(len - 50 * 15).expect("cut off");
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().expect("a pipe"), &mut stderr).expect("text");
    assert_eq!(child.wait().expect("ended").code(), Some(1));
    assert_eq!(
        stderr,
        "error: grey.npy: expected 103 rows, as when it was opened, found 53: the file has become shorter\n"
    );
}
