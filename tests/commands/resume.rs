//! Stopped training resumes with the same bits: after every update, for every algorithm and monitor, on other numbers of threads.
//! Options and checkpoints that contradict each other are errors.

use crate::oracle::program::{SMALL, UPDATES, fine, folder, outcome, run, write_data};
use harmonium::Checkpoint;
use std::{fs, path::Path};

/// Asserts this exit status and exactly this message.
#[track_caller]
fn fails(folder: &Path, arguments: &str, status: i32, message: &str) {
    assert_eq!(run(folder, arguments), (status, String::new(), format!("error: {message}\n")), "{arguments}");
}

/// Stops and resumes at every update, with other numbers of threads before and after.
fn at_every_update(algorithm: &str) {
    let folder = folder(algorithm);
    for monitor in ["pl", "pl-exact", "reconstruction", "none"] {
        let options = format!("{SMALL} --algorithm {algorithm} --monitor {monitor}");
        fine(&folder, &format!("{options} --threads 2 --out whole"));
        let whole = outcome(&folder.join("whole"));
        assert_eq!(whole.2.lines().count(), 5, "{}", whole.2);
        for stop in 1..=UPDATES {
            let (before, after) = if stop % 2 == 0 { (1, 3) } else { (3, 1) };
            fine(&folder, &format!("{options} --threads {before} --stop-after {stop} --out parts"));
            let stopped = Checkpoint::load(&folder.join("parts/checkpoint.safetensors")).expect("a checkpoint");
            let (epoch, batch) = (stop / 5, stop % 5);
            assert_eq!((stopped.trainer.updates, stopped.place.epoch, stopped.place.batch), (stop, epoch, batch));
            fine(&folder, &format!("train --quiet --resume parts --threads {after}"));
            assert!(outcome(&folder.join("parts")) == whole, "{algorithm}, {monitor}, stopped after {stop}");
        }
    }
}

#[test]
fn contrastive_divergence_at_every_update() {
    at_every_update("cd");
}

#[test]
fn persistent_chains_at_every_update() {
    at_every_update("pcd");
}

/// The last minibatch of an epoch is short: 50 rows make 4 updates with up to 15 rows.
#[test]
fn every_row_is_used() {
    let folder = folder("left-over");
    for algorithm in ["cd", "pcd"] {
        let options = SMALL.replace("--batch-size 10", "--batch-size 15") + " --algorithm " + algorithm;
        fine(&folder, &format!("{options} --out whole"));
        let whole = outcome(&folder.join("whole"));
        let finished = Checkpoint::load(&folder.join("whole/checkpoint.safetensors")).expect("a checkpoint");
        assert_eq!((finished.trainer.updates, finished.place.epoch), (16, 4));
        for stop in 1..=16 {
            fine(&folder, &format!("{options} --stop-after {stop} --out parts"));
            let stopped = Checkpoint::load(&folder.join("parts/checkpoint.safetensors")).expect("a checkpoint");
            assert_eq!((stopped.place.epoch, stopped.place.batch), (stop / 4, stop % 4));
            fine(&folder, "train --quiet --resume parts");
            assert!(outcome(&folder.join("parts")) == whole, "{algorithm}, stopped after {stop}");
        }
        // Training uses the last rows: other ones give another model.
        let mut bytes = fs::read(folder.join("data")).expect("data");
        let last = bytes.len() - 1;
        bytes[last] = !bytes[last];
        fs::write(folder.join("other"), bytes).expect("data");
        fine(&folder, &format!("{} --out other-run", options.replace("--data data", "--data other")));
        assert!(outcome(&folder.join("other-run")).0 != whole.0, "{algorithm}: the last row changes nothing");
    }
}

/// Check-ups are logged as in a run without stops, and do not change the model.
#[test]
fn check_ups_do_not_change_the_chains() {
    let folder = folder("health");
    let options = format!("{SMALL} --health-every 3");
    fine(&folder, &format!("{SMALL} --out without"));
    fine(&folder, &format!("{options} --threads 2 --out whole"));
    let (whole, without) = (outcome(&folder.join("whole")), outcome(&folder.join("without")));
    assert!((&whole.0, &whole.2) == (&without.0, &without.2), "the model or the log is another one");
    let read = |out: &str| fs::read_to_string(folder.join(out).join("health.csv")).expect("health.csv");
    let health = read("whole");
    assert!(health.starts_with(
        "updates,r_hat,bulk_effective_sample_size,autocorrelation_time,visible_flip_rate,hidden_flip_rate,\
         persistent_free_energy,fresh_free_energy,equilibrium_gap,standard_error,lag\n3,"
    ));
    let updates: Vec<u64> =
        health.lines().skip(1).map(|line| line.split(',').next().unwrap().parse().unwrap()).collect();
    assert_eq!(updates, [3, 6, 9, 12, 15, 18]);
    for stop in 1..=UPDATES {
        let (before, after) = if stop % 2 == 0 { (1, 3) } else { (3, 1) };
        fine(&folder, &format!("{options} --threads {before} --stop-after {stop} --out parts"));
        let so_far = read("parts");
        assert!(health.starts_with(&so_far) && so_far.lines().count() as u64 == 1 + stop / 3, "{so_far}");
        // The file is for readers; a resumed run uses the checkpoint only.
        fs::remove_file(folder.join("parts/health.csv")).expect("removed");
        fine(&folder, &format!("train --quiet --resume parts --threads {after}"));
        assert!(outcome(&folder.join("parts")) == whole && read("parts") == health, "stopped after {stop}");
    }
    fails(
        &folder,
        "train --quiet --resume parts --health-every 4",
        2,
        "--health-every: expected 3, as in parts/checkpoint.safetensors, found 4",
    );
    fails(
        &folder,
        &format!("{options} --algorithm cd --out cd"),
        2,
        "--health-every: expected only with --algorithm pcd (cd has no persistent chains), found 3",
    );
}

#[test]
fn many_stops_and_images() {
    let folder = folder("pictures");
    write_data(&folder.join("data"), &[50, 16], 2);
    fine(&folder, &format!("{SMALL} --out whole"));
    fine(&folder, &format!("{SMALL} --out parts --checkpoint-every 3updates --stop-after 1"));
    for stop in [2, 5, 6, 11, 15] {
        fine(&folder, &format!("train --quiet --resume parts --stop-after {stop}"));
    }
    // A stop at the end of the run.
    fine(&folder, "train --quiet --resume parts --stop-after 15");
    fine(&folder, "train --quiet --resume parts --checkpoint-every 1epochs");
    assert!(outcome(&folder.join("parts")) == outcome(&folder.join("whole")));
    let mut names: Vec<_> = fs::read_dir(folder.join("whole"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names.len(), 13, "{names:?}");
    for name in
        names.iter().filter(|name| !["log.csv", "checkpoint.safetensors"].contains(&name.to_str().expect("text")))
    {
        let read = |out: &str| fs::read(folder.join(out).join(name)).expect("a file");
        assert!(read("parts") == read("whole"), "{}", name.display());
    }
}

#[test]
fn frequent_checkpoints_change_nothing() {
    let folder = folder("dense");
    fine(&folder, &format!("{SMALL} --out whole"));
    fine(&folder, &format!("{SMALL} --out dense --checkpoint-every 1update"));
    let (whole, dense) = (outcome(&folder.join("whole")), outcome(&folder.join("dense")));
    assert!(whole.0 == dense.0 && whole.2 == dense.2);
    // The interval has not passed, but the run ends.
    fine(&folder, &format!("{SMALL} --out rare --checkpoint-every 5minutes"));
    assert!(outcome(&folder.join("rare")).0 == whole.0);
}

#[test]
fn a_longer_run_continues_a_shorter_one() {
    let folder = folder("longer");
    fine(&folder, &format!("{SMALL} --out whole"));
    fine(&folder, &format!("{} --out parts", SMALL.replace("--epochs 4", "--epochs 1")));
    fine(&folder, "train --quiet --resume parts --epochs 4");
    assert!(outcome(&folder.join("parts")) == outcome(&folder.join("whole")));
    // The run is complete.
    fine(&folder, "train --quiet --resume parts");
    assert!(outcome(&folder.join("parts")) == outcome(&folder.join("whole")));
}

#[test]
fn contradictions_with_the_checkpoint() {
    let folder = folder("contradictions");
    fine(&folder, &format!("{SMALL} --out run --stop-after 7"));
    let before = fs::read(folder.join("run/checkpoint.safetensors")).expect("a checkpoint");
    for (option, expected, found) in [
        ("--hidden 9", "8", "9"),
        ("--batch-size 20", "10", "20"),
        ("--lr 0.2", "0.1", "0.2"),
        ("--algorithm cd", "pcd", "cd"),
        ("--k 1", "2", "1"),
        ("--chains 11", "10", "11"),
        ("--monitor none", "pl", "none"),
        ("--limit 40", "none", "40"),
        ("--seed 5", "123", "5"),
        ("--image 3x5", "none", "3x5"),
    ] {
        let name = option.split(' ').next().expect("a name");
        let message = format!("{name}: expected {expected}, as in run/checkpoint.safetensors, found {found}");
        fails(&folder, &format!("train --resume run {option}"), 2, &message);
    }
    fails(&folder, "train --resume run --out other", 2, "--out: expected run, the folder of --resume, found other");
    let message = "--epochs: expected at least 2, the epochs that run/checkpoint.safetensors has started, found 1";
    fails(&folder, "train --resume run --epochs 1", 2, message);
    let message = "other/checkpoint.safetensors: No such file or directory (os error 2)";
    fails(&folder, "train --resume other", 1, message);

    write_data(&folder.join("other-data"), &[50, 15], 3);
    let (status, _, stderr) = run(&folder, "train --quiet --resume run --data other-data");
    let says = "error: --data: expected the rows of run/checkpoint.safetensors, fingerprint ";
    assert!(
        status == 1 && stderr.starts_with(says) && stderr.contains(", found the rows of other-data, fingerprint "),
        "{stderr}"
    );
    assert!(fs::read(folder.join("run/checkpoint.safetensors")).expect("a checkpoint") == before, "it was changed");

    // Equal options are no contradiction, nor is the same data at another path.
    fs::rename(folder.join("data"), folder.join("moved")).expect("moved");
    fails(&folder, "train --quiet --resume run", 1, run(&folder, "train --data data").2["error: ".len()..].trim_end());
    let same = "--hidden 8 --lr 0.10 --batch-size 10 --chains 10 --algorithm pcd --monitor pl --out run --data moved";
    fine(&folder, &format!("train --quiet --resume run --stop-after 8 --threads 1 --device cpu {same}"));
}

#[test]
fn files_of_an_earlier_run() {
    let folder = folder("left");
    fs::create_dir(folder.join("out")).expect("a folder");
    for name in [".harmonium-1-0.tmp", ".harmonium-99999-12.tmp", "harmonium-1-0.tmp", ".other.tmp"] {
        fs::write(folder.join("out").join(name), "half").expect("a file");
    }
    fine(&folder, &format!("{SMALL} --out out"));
    let left = |name: &str| folder.join("out").join(name).exists();
    assert!(!left(".harmonium-1-0.tmp") && !left(".harmonium-99999-12.tmp"));
    assert!(left("harmonium-1-0.tmp") && left(".other.tmp"), "what is somebody else's was removed");
    let said = fine(&folder, &format!("{SMALL} --out out").replace("--quiet ", ""));
    assert!(said.contains("this run will replace out/checkpoint.safetensors of an earlier run"), "{said}");
}

#[test]
fn two_runs_do_not_write_to_one_folder() {
    let folder = folder("two");
    fine(&folder, &format!("{SMALL} --out out --stop-after 7"));
    let out = folder.join("out");
    let before = fs::read(out.join("checkpoint.safetensors")).expect("a checkpoint");
    let held = harmonium::storage::hold_folder(&out).expect("nobody else").expect("locks");
    // A temporary file that another process is about to rename.
    fs::write(out.join(".harmonium-1-0.tmp"), "half").expect("a file");
    let message = "out: expected a folder that no other run writes to, found one that does";
    fails(&folder, &format!("{SMALL} --out out"), 1, message);
    fails(&folder, "train --quiet --resume out", 1, message);
    assert!(out.join(".harmonium-1-0.tmp").exists());
    assert!(fs::read(out.join("checkpoint.safetensors")).expect("a checkpoint") == before, "it was changed");
    drop(held);
    fine(&folder, "train --quiet --resume out");
}

#[test]
fn divergence_is_an_error_and_the_last_checkpoint_stays() {
    let folder = folder("divergence");
    fine(&folder, &format!("{SMALL} --out run --stop-after 7"));
    let path = folder.join("run/checkpoint.safetensors");
    let good = fs::read(&path).expect("a checkpoint");
    // The same position with another rate, as if the run had started with it.
    let mut checkpoint = Checkpoint::load(&path).expect("a checkpoint");
    checkpoint.options.insert("lr".into(), "3e38".into());
    checkpoint.save(&path).expect("saved");
    let poor = fs::read(&path).expect("a checkpoint");
    let (status, stdout, stderr) = run(&folder, "train --quiet --resume run --checkpoint-every 1updates");
    assert_eq!((status, stdout.as_str()), (1, ""));
    let says = "error: --lr: expected a learning rate small enough to keep all parameters finite, found 3e38: in epoch 1, by \
                update ";
    assert!(stderr.starts_with(says), "{stderr}");
    assert!(stderr.contains("run/checkpoint.safetensors keeps update ") && stderr.lines().count() == 1, "{stderr}");
    let last = Checkpoint::load(&path).expect("the last good one");
    assert!(last.trainer.updates >= 7 && (last.trainer.updates > 7 || fs::read(&path).expect("it") == poor));
    assert!(good != poor);
}

#[test]
fn checkpoints_that_do_not_fit_the_run() {
    let folder = folder("misfits");
    fine(&folder, &format!("{SMALL} --out run --stop-after 7"));
    let path = folder.join("run/checkpoint.safetensors");
    let good = Checkpoint::load(&path).expect("a checkpoint");
    let with = |change: &dyn Fn(&mut Checkpoint), message: &str| {
        let mut checkpoint = good.clone();
        change(&mut checkpoint);
        checkpoint.save(&path).expect("saved");
        fails(&folder, "train --quiet --resume run", 1, &format!("run/checkpoint.safetensors: {message}"));
    };
    let options = "expected options of harmonium train, found ";
    let set = |name: &'static str, value: &'static str| {
        move |c: &mut Checkpoint| drop(c.options.insert(name.into(), value.into()))
    };
    with(&set("out", "/"), &format!("{options}--out"));
    with(&set("resume", "x"), &format!("{options}--resume"));
    with(&set("help", ""), &format!("{options}--help"));
    let message = "invalid value '0' for '--hidden <N>': expected a whole number of at least 1";
    with(&set("hidden", "0"), &format!("{options}{message}"));
    let settings = "Settings { algorithm: Pcd { n_chains: 10 }, k: 2, monitor: PseudoLikelihood, seed: 123, \
                    descent: Descent { centring: None, momentum: 0.0, l2: 0.0, l1: 0.0, sparsity: None }, variance: 0.0 }";
    let message = format!("expected 15 × 9 units, {settings}, found 15 × 8 units, {settings}");
    with(&set("hidden", "9"), &message);
    let place = "expected a position within epochs of 5 batches, found ";
    with(&|c| c.place.batch = 5, &format!("{place}epoch 1, batch 5, update 7, 1 lines of the log"));
    with(&|c| c.place.epoch = 2, &format!("{place}epoch 2, batch 2, update 7, 1 lines of the log"));
    with(&|c| c.trainer.updates = 8, &format!("{place}epoch 1, batch 2, update 8, 1 lines of the log"));
    with(&|c| c.log.clear(), &format!("{place}epoch 1, batch 2, update 7, 0 lines of the log"));
    let mut checkpoint = good.clone();
    checkpoint.place.epoch = u64::MAX;
    checkpoint.save(&path).expect("saved");
    let message = format!(
        "--epochs: expected at least {}, the epochs that run/checkpoint.safetensors has started, found 4",
        u64::MAX
    );
    fails(&folder, "train --resume run", 2, &message);

    // A checkpoint of another version resumes with a warning.
    let mut checkpoint = good.clone();
    checkpoint.version = "0.0.1".into();
    checkpoint.save(&path).expect("saved");
    let (status, _, stderr) = run(&folder, "train --resume run --stop-after 8");
    assert_eq!(status, 0);
    assert!(stderr.contains("warning: version 0.0.1 wrote the checkpoint; version"), "{stderr}");
}

/// Runs that an earlier release stopped, and the models that it would have trained.
#[test]
fn old_checkpoints_end_as_in_the_old_version() {
    let folder = folder("old");
    for (name, check_ups) in [("cd", 0), ("pcd", 6)] {
        let old = |state: &str| {
            let name = format!("tests/checkpoints/{name}-{state}.safetensors");
            fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a checkpoint")
        };
        for bytes in [old("stopped"), old("finished")] {
            let read = Checkpoint::from_bytes(&bytes, name).expect("a checkpoint");
            assert!(read.to_bytes().expect("bytes") == bytes, "{name} is written in another way");
        }
        fs::create_dir(folder.join(name)).expect("a folder");
        let path = folder.join(name).join("checkpoint.safetensors");
        fs::write(&path, old("stopped")).expect("a checkpoint");
        fine(&folder, &format!("train --quiet --resume {name} --samples 1"));
        let mut found = Checkpoint::load(&path).expect("a checkpoint");
        let mut expected = Checkpoint::from_bytes(&old("finished"), name).expect("a checkpoint");
        // Check-ups use other random numbers now.
        assert_eq!((found.health.len(), expected.health.len()), (check_ups, check_ups));
        found.health.clone_from(&expected.health);
        for checkpoint in [&mut found, &mut expected] {
            checkpoint.place.seconds = 0.0;
            checkpoint.log.iter_mut().for_each(|epoch| epoch.seconds = 0.0);
            // That of the release that wrote it.
            checkpoint.version.clear();
        }
        assert_eq!(found, expected);
        let model = harmonium::model::load(&folder.join(name).join("model.safetensors")).expect("a model");
        assert_eq!(model, expected.rbm);
    }
}

#[test]
fn a_complete_run_makes_no_update() {
    let folder = folder("enough");
    fine(&folder, &format!("{SMALL} --out out --stop-after 7"));
    let before = outcome(&folder.join("out"));
    for stop in [3, 7] {
        fine(&folder, &format!("train --quiet --resume out --stop-after {stop}"));
        assert!(outcome(&folder.join("out")) == before, "--stop-after {stop}");
    }
}
