//! The command on a device gives the same bytes as on the CPU, and resumes runs from either.
#![cfg(feature = "cuda")]

mod oracle;

use harmonium::{Checkpoint, Dataset, npy};
use oracle::{
    device::cuda,
    places,
    program::{empty_folder, fine, run, timeless, without_seconds, write_data},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A folder for one test with `data`, 30 images of 4 × 5 pixels.
fn folder(name: &str) -> PathBuf {
    let folder = empty_folder(&["cuda", name]);
    write_data(&folder.join("data"), &[30, 4, 5], 1);
    folder
}

/// All files of a run, without durations.
fn outcome(out: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(out)
        .expect("a folder")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("text");
            let bytes = match name.as_str() {
                "log.csv" => {
                    fs::read_to_string(entry.path()).expect("a log").lines().flat_map(without_seconds).collect()
                }
                "checkpoint.safetensors" => timeless(&entry.path()),
                _ => fs::read(entry.path()).expect("a file"),
            };
            (name, bytes)
        })
        .collect();
    files.sort();
    files
}

#[track_caller]
fn same(found: &Path, expected: &Path, what: &str) {
    let (found, expected) = (outcome(found), outcome(expected));
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|file| file.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected), "{what}");
    for ((name, found), (_, expected)) in found.iter().zip(&expected) {
        assert!(found == expected, "{what}: {name}");
    }
}

/// Three updates an epoch, two epochs.
const SMALL: &str =
    "train --quiet --data data --hidden 7 --epochs 2 --batch-size 10 --k 2 --samples 0 --likelihood off";
const UPDATES: u64 = 6;

/// Stops at every update and resumes, on the given devices.
fn at_every_update(algorithm: &str, before: &str, after: &str) {
    if cuda().is_none() {
        return;
    }
    let folder = folder(&format!("{algorithm}-{before}-{after}"));
    let options = format!("{SMALL} --algorithm {algorithm}");
    fine(&folder, &format!("{options} --out whole"));
    fine(&folder, &format!("{options} --device {after} --out there"));
    same(&folder.join("there"), &folder.join("whole"), after);
    for stop in 1..UPDATES {
        let _ = fs::remove_dir_all(folder.join("parts"));
        fine(&folder, &format!("{options} --device {before} --stop-after {stop} --out parts"));
        let stopped = Checkpoint::load(&folder.join("parts/checkpoint.safetensors")).expect("a checkpoint");
        assert_eq!(stopped.trainer.updates, stop);
        fine(&folder, &format!("train --quiet --resume parts --samples 0 --device {after}"));
        same(&folder.join("parts"), &folder.join("whole"), &format!("stopped after {stop}"));
    }
}

/// A recipe with rules of descent, binarised rows in another order, averages and exchanged units.
#[test]
fn recipes_train_the_same_and_resume_on_either() {
    if cuda().is_none() {
        return;
    }
    let folder = folder("recipes");
    let options = "train --quiet --data data --hidden 7 --epochs 3 --batch-size 8 --samples 0 --likelihood off";
    for recipe in ["density --average 0.5 --momentum 0.5", "features --binarise threshold:20-230"] {
        for out in ["whole", "there", "parts"] {
            let _ = fs::remove_dir_all(folder.join(out));
        }
        fine(&folder, &format!("{options} --recipe {recipe} --out whole"));
        fine(&folder, &format!("{options} --recipe {recipe} --device cuda --out there"));
        same(&folder.join("there"), &folder.join("whole"), recipe);
        fine(&folder, &format!("{options} --recipe {recipe} --device cuda --stop-after 7 --out parts"));
        fine(&folder, "train --quiet --resume parts --samples 0 --stop-after 9 --device cpu");
        fine(&folder, "train --quiet --resume parts --samples 0 --device cuda");
        same(&folder.join("parts"), &folder.join("whole"), recipe);
    }
}

/// Rows on disk are copied to the device in parts.
#[test]
fn rows_on_disk_train_the_same() {
    if cuda().is_none() {
        return;
    }
    let folder = folder("on-disk");
    let rows = Dataset::open(folder.join("data")).expect("rows").rows().to_vec();
    npy::save(&rows, 20, &folder.join("data.npy")).expect("an array");
    for more in ["--shuffle off", "--binarise sample --init data --validation 0.2"] {
        let options = format!("{SMALL} {more}").replace("--data data", "--data data.npy");
        fine(&folder, &format!("{options} --out whole"));
        fine(&folder, &format!("{options} --device cuda --in-place --out there"));
        same(&folder.join("there"), &folder.join("whole"), more);
    }
}

#[test]
fn stopped_on_the_device_and_resumed_there() {
    at_every_update("pcd", "cuda", "cuda");
}

#[test]
fn stopped_on_the_device_and_resumed_on_the_cpu() {
    at_every_update("cd", "cuda", "cpu");
}

#[test]
fn stopped_on_the_cpu_and_resumed_on_the_device() {
    at_every_update("pcd", "cpu", "cuda");
}

/// Every command that computes.
#[test]
fn the_commands_print_the_same() {
    if cuda().is_none() {
        return;
    }
    let folder = folder("commands");
    fine(&folder, &format!("{SMALL} --out run"));
    for device in ["cpu", "cuda:0"] {
        fs::create_dir(folder.join(&device[..3])).expect("a folder");
    }
    for command in [
        "sample MODEL --data data --chains 3 --rows 2 --steps 5 --out TO/samples.png",
        "evaluate MODEL --data data --log-z exact --json",
        "evaluate MODEL --data data --log-z bracket --runs 4 --temperatures 20 --json",
        "diagnose MODEL --data data --chains 4 --steps 8 --json --plot TO/traces.svg",
    ] {
        let [expected, found] = ["cpu", "cuda:0"].map(|device| {
            let command = command.replace("MODEL", "run/model.safetensors").replace("TO", &device[..3]);
            let output = fine(&folder, &format!("{command} --device {device}")).replace(&device[..3], "");
            // Durations differ.
            output.lines().filter(|line| !line.contains("\"seconds\"")).map(str::to_owned).collect::<Vec<_>>()
        });
        assert_eq!(found, expected, "{command}");
    }
    same(&folder.join("cud"), &folder.join("cpu"), "pictures");
}

#[test]
fn an_unknown_device() {
    let folder = folder("absent");
    for command in ["train", "sample x", "evaluate x", "diagnose x"] {
        let (status, _, stderr) = run(&folder, &format!("{command} --device cuda:99"));
        assert!(status == 1 && stderr.starts_with("error: ") && stderr.lines().count() == 1, "{status}: {stderr}");
        assert!(stderr.contains("device 99") || stderr.contains("driver"), "{stderr}");
        let (status, _, stderr) = run(&folder, &format!("{command} --device cuda:x"));
        assert!(status == 2 && stderr.contains("expected cpu, cuda or cuda:N"), "{status}: {stderr}");
    }
}

/// The first epoch of the tutorial's run on 400 rows of MNIST, with its sizes and settings: 20 updates.
#[test]
fn the_tutorials_run() {
    if cuda().is_none() {
        return;
    }
    let data = places::mnist();
    let folder = folder("tutorial");
    for device in ["cpu", "cuda"] {
        let command = format!(
            "train --limit 400 --epochs 1 --samples 0 --likelihood off --quiet --device {device} --out {device}"
        );
        fine(&folder, &format!("{command} --data {}", data.display()));
    }
    same(&folder.join("cuda"), &folder.join("cpu"), "the tutorial's run");
}
