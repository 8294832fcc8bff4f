//! Several ranks leave the same bytes as one process: for every algorithm, rule, law and monitor, and for all other computations. A
//! rank that fails ends the run with one message, and no rank waits for ever.
//!
//! Needs Open MPI's `mpirun`; without it these tests fail.

mod oracle;

use harmonium::{Checkpoint, npy};
use oracle::{
    mpirun::{LIMIT, end, errors, fails, fine_after, fine_on, mixed, mpirun, start},
    places,
    program::{empty_folder, fine, folder, outcome, write_data},
    random_bytes,
};
use std::{
    fs,
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

/// Training gives the same results on any number of ranks, and of threads per rank.
#[track_caller]
fn same_on_all(folder: &Path, options: &str) {
    let options = format!("train --quiet --samples 0 --seed 7 {options}");
    fine(folder, &format!("{options} --threads 2 --out alone"));
    let alone = outcome(&folder.join("alone"));
    for (ranks, threads) in [(1, 1), (2, 2), (3, 1), (5, 1)] {
        fine_on(folder, ranks, &format!("{options} --threads {threads} --out on{ranks}"));
        let (model, checkpoint, log) = outcome(&folder.join(format!("on{ranks}")));
        assert!(model == alone.0, "{options}: another model on {ranks} ranks");
        assert_eq!(log, alone.2, "{options}: {ranks} ranks");
        assert!(checkpoint == alone.1, "{options}: another checkpoint on {ranks} ranks");
    }
}

/// Three tiles of hidden units, the last of which is not full: of five ranks some own none.
const BITS: &str = "--data data --hidden 150 --epochs 2 --batch-size 13 --k 3";

#[test]
fn persistent_chains() {
    let folder = folder("pcd");
    for monitor in ["pl", "pl-exact", "reconstruction", "none"] {
        same_on_all(&folder, &format!("{BITS} --chains 17 --monitor {monitor}"));
    }
    // Fewer chains and rows than ranks, and one tile.
    same_on_all(&folder, "--data data --hidden 5 --epochs 1 --batch-size 3 --k 1 --chains 2 --likelihood on");
}

#[test]
fn contrastive_divergence() {
    let folder = folder("cd");
    for monitor in ["pl", "reconstruction"] {
        same_on_all(&folder, &format!("{BITS} --algorithm cd --monitor {monitor}"));
    }
}

#[test]
fn every_rule_of_descent() {
    let folder = folder("rules");
    for rule in [
        "--centring 0.01 --exchange on --init data",
        "--momentum 0.9",
        "--l2 0.001 --l1 0.0001",
        "--sparsity 0.1:0.5",
        "--centring 0.02 --momentum 0.5 --l2 0.001 --sparsity 0.2:0.1 --average 0.5 --likelihood on --validation 0.3 --keep best",
    ] {
        same_on_all(&folder, &format!("{BITS} --chains 9 {rule}"));
    }
    // Units that are busy in most rows are exchanged after a thousand updates.
    same_on_all(
        &folder,
        "--data data --hidden 70 --epochs 205 --batch-size 10 --k 1 --centring 0.01 --exchange on --log-every 200",
    );
}

#[test]
fn recipes_and_what_is_watched() {
    let folder = folder("recipes");
    same_on_all(
        &folder,
        "--recipe density --data data --hidden 70 --epochs 2 --batch-size 10 --chains 11 --validation 0.2",
    );
    same_on_all(&folder, "--recipe features --data data --hidden 70 --epochs 2");
    same_on_all(&folder, &format!("{BITS} --binarise sample --shuffle on --health-every 3 --schedule cosine"));
}

const MIXED: &str = "--visible binary:3,potts:1x4,gaussian:2 --scale standard --hidden 70 --epochs 2 --batch-size 9";

#[test]
fn every_law() {
    let folder = empty_folder(&[env!("CARGO_CRATE_NAME"), "laws"]);
    npy::save(&mixed(false), 6, &folder.join("mixed.npy")).expect("an array");
    npy::save(&mixed(true), 6, &folder.join("missing.npy")).expect("an array");
    let options = format!("--data mixed.npy --monitor reconstruction {MIXED}");
    same_on_all(&folder, &format!("{options} --chains 8"));
    same_on_all(&folder, &format!("{options} --chains 8 --variance 0.1 --centring 0.01 --lr 0.01"));
    same_on_all(&folder, &format!("{options} --algorithm cd --variance 0.1 --momentum 0.5 --lr 0.01"));
    let options = format!("--data missing.npy {MIXED} --chains 18");
    same_on_all(&folder, &format!("{options} --monitor reconstruction --centring 0.01"));
    same_on_all(&folder, &format!("{options} --algorithm cd --monitor none").replace("--chains 18", ""));
}

#[test]
fn labels_and_rows_on_disk() {
    let folder = empty_folder(&[env!("CARGO_CRATE_NAME"), "labels"]);
    let values: Vec<f32> = random_bytes(50 * 15, 0.4, 1).into_iter().map(|x| f32::from(x > 0)).collect();
    npy::save(&values, 15, &folder.join("x.npy")).expect("an array");
    let labels: String = (0..50).map(|r| format!("{}\n", ["a", "b", "c"][r % 3])).collect();
    fs::write(folder.join("labels.csv"), labels).expect("labels");
    let options = "--data x.npy --hidden 70 --epochs 2 --batch-size 10 --chains 9";
    same_on_all(&folder, &format!("{options} --labels labels.csv --hybrid 0.1"));
    fine(&folder, &format!("train --quiet --samples 0 {options} --shuffle on --out memory"));
    fine_on(&folder, 3, &format!("train --quiet --samples 0 {options} --shuffle on --in-place --out disk"));
    assert!(outcome(&folder.join("memory")) == outcome(&folder.join("disk")));
    for command in
        ["classify labelled.safetensors --data x.npy --out", "impute labelled.safetensors --data x.npy --out"]
    {
        fine(&folder, &format!("train --quiet --samples 0 {options} --labels labels.csv --out run"));
        fs::copy(folder.join("run/model.safetensors"), folder.join("labelled.safetensors")).expect("a model");
        fine(&folder, &format!("{command} alone.csv"));
        fine_on(&folder, 3, &format!("{command} ranks.csv"));
        let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a table");
        assert_eq!(read("alone.csv"), read("ranks.csv"), "{command}");
    }
}

/// A run of three ranks resumes with two, and without MPI, at any update.
#[test]
fn runs_go_on_with_other_ranks() {
    let folder = folder("resume");
    let options = format!("train --quiet --samples 0 {BITS} --chains 11 --centring 0.01 --momentum 0.5 --average 0.5");
    fine(&folder, &format!("{options} --out whole"));
    let whole = outcome(&folder.join("whole"));
    for stop in [1, 4, 6] {
        fine_on(&folder, 3, &format!("{options} --stop-after {stop} --out parts"));
        fine_on(&folder, 2, &format!("train --quiet --samples 0 --resume parts --stop-after {}", stop + 1));
        fine(&folder, "train --quiet --samples 0 --resume parts");
        assert!(outcome(&folder.join("parts")) == whole, "stopped after {stop}");
        fine(&folder, &format!("{options} --stop-after {stop} --out parts"));
        fine_on(&folder, 5, "train --quiet --samples 0 --resume parts");
        assert!(outcome(&folder.join("parts")) == whole, "without MPI until {stop}");
    }
}

/// Results with a model, in a file or on standard output, without durations.
#[test]
fn all_else_that_computes() {
    let folder = folder("verbs");
    fine(&folder, "train --quiet --samples 0 --data data --hidden 70 --epochs 3 --batch-size 10 --out run");
    let model = "run/model.safetensors --data data";
    for arguments in [
        format!("evaluate {model} --log-z ais --runs 11 --temperatures 60 --burn-in 5 --json"),
        format!("evaluate {model} --log-z bracket --runs 7 --temperatures 60 --burn-in 20 --json"),
        format!("diagnose {model} --chains 6 --steps 60 --json"),
        format!("info {model} --json"),
    ] {
        let timeless = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.contains("\"seconds\"")).map(str::to_string).collect()
        };
        let alone = fine(&folder, &arguments);
        assert!(alone.lines().count() > 5, "{arguments}: {alone}");
        assert_eq!(timeless(&fine_on(&folder, 3, &arguments)), timeless(&alone), "{arguments}");
    }
    for (command, name) in [
        (format!("transform {model} --batch-size 7 --out"), "h.npy"),
        (format!("transform {model} --sample --out"), "bits.csv"),
        (format!("score {model} --log-z ais --runs 5 --temperatures 50 --burn-in 5 --out"), "scores.csv"),
        (format!("sample {model} --chains 7 --rows 2 --steps 5 --out"), "samples.npy"),
        (format!("sample {model} --chains 7 --rows 2 --steps 5 --temper 4 --means --out"), "tempered.csv"),
        (format!("sample {model} --chains 7 --rows 2 --steps 5 --clamp 0-3=1 --out"), "clamped.csv"),
    ] {
        let read = |name: &str| fs::read(folder.join(name)).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        fine(&folder, &format!("{command} alone-{name}"));
        for ranks in [2, 5] {
            fine_on(&folder, ranks, &format!("{command} {ranks}-{name}"));
            assert!(read(&format!("{ranks}-{name}")) == read(&format!("alone-{name}")), "{command} on {ranks} ranks");
        }
    }
}

/// Clocks differ from rank to rank, the number of epochs and what is written do not.
#[test]
fn a_run_for_some_minutes() {
    let folder = folder("minutes");
    let options = format!("--quiet --samples 0 {BITS} --chains 11").replace("--epochs 2", "");
    let shell = "sleep 0.$OMPI_COMM_WORLD_RANK;";
    fine_after(&folder, 3, shell, &format!("train {options} --minutes 0.05 --checkpoint-every 1minutes --out ranks"));
    let (model, checkpoint, log) = outcome(&folder.join("ranks"));
    let updates = Checkpoint::load(&folder.join("ranks/checkpoint.safetensors")).expect("a checkpoint").trainer.updates;
    let epochs = updates / 4;
    assert!(epochs >= 1 && updates == 4 * epochs, "{updates} updates");
    fine(&folder, &format!("train {options} --epochs {epochs} --checkpoint-every 1minutes --out alone"));
    let alone = outcome(&folder.join("alone"));
    assert!(model == alone.0 && checkpoint == alone.1, "{epochs} epochs: another model or checkpoint");
    assert_eq!(log, alone.2);
}

/// A matrix library does not guarantee bits, but ranks must stay in step.
#[test]
fn sums_of_a_matrix_library() {
    let folder = folder("gemm");
    fine_on(&folder, 3, &format!("train --quiet --samples 0 {BITS} --centring 0.01 --sums gemm --out run"));
    assert_eq!(outcome(&folder.join("run")).2.lines().count(), 3);
}

const ENDLESS: &str =
    "train --quiet --data data --hidden 70 --epochs 1000000 --batch-size 10 --k 2 --log-every 1 --likelihood off";

/// Waits until a run has written some lines of its log into a folder.
#[track_caller]
fn until_it_trains(folder: &Path, out: &str, child: &mut Child) {
    let begin = Instant::now();
    while !fs::read_to_string(folder.join(out).join("log.csv")).is_ok_and(|text| text.contains("\n3,")) {
        let text = |name| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let ended = child.try_wait().expect("a status");
        assert!(ended.is_none() && begin.elapsed() < LIMIT, "{}{}", text("stdout"), text("stderr"));
        thread::sleep(Duration::from_millis(10));
    }
}

fn signal(process: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &process.to_string()]).status().expect("kill");
    assert!(status.success());
}

/// A shell command with which a rank records its process.
fn note(rank: usize) -> String {
    format!("[ $OMPI_COMM_WORLD_RANK != {rank} ] || echo $$ > pid;")
}

fn noted(folder: &Path) -> u32 {
    fs::read_to_string(folder.join("pid")).expect("a number").trim().parse().expect("a number")
}

#[test]
fn sigterm_ends_in_one_checkpoint() {
    let folder = folder("sigterm");
    let options = format!("{ENDLESS} --checkpoint-every 1000000");
    for out in ["mpirun", "rank"] {
        // By default, Open MPI kills the ranks a second after SIGTERM: too little for a checkpoint on a busy machine. It waits as long
        // before it passes SIGTERM on, and does not read the ranks' output meanwhile, so they must be quiet.
        let patience = ["--mca", "odls_base_sigkill_timeout", "8"];
        let arguments = format!("{options} --out {out}");
        let mut child = mpirun(&patience, &folder, 3, &note(2), &places::harmonium(), &arguments);
        until_it_trains(&folder, out, &mut child);
        signal(if out == "mpirun" { child.id() } else { noted(&folder) }, "TERM");
        let (status, _, stderr) = end(&folder, child);
        assert_ne!(status, 0, "{out}: {stderr}");
        let said: Vec<_> = stderr.lines().filter(|line| line.starts_with("stopped after update ")).collect();
        assert_eq!(said.len(), 1, "{out}: {stderr}");
        let checkpoint = Checkpoint::load(&folder.join(out).join("checkpoint.safetensors")).expect("a checkpoint");
        let updates = checkpoint.trainer.updates;
        assert_eq!(said[0], format!("stopped after update {updates}; to resume: harmonium train --resume {out}"));
        fine_on(&folder, 2, &format!("train --quiet --resume {out} --stop-after {}", updates + 3));
        fine(&folder, &format!("{options} --out again --stop-after {}", updates + 3));
        assert!(outcome(&folder.join(out)) == outcome(&folder.join("again")), "{out}");
    }
}

#[test]
fn a_rank_that_dies_ends_the_run() {
    let folder = folder("death");
    for (name, victim) in [("first", 0), ("other", 2)] {
        let mut child = start(&folder, 3, &note(victim), &format!("{ENDLESS} --checkpoint-every 1 --out {name}"));
        until_it_trains(&folder, name, &mut child);
        signal(noted(&folder), "KILL");
        let (status, _, stderr) = end(&folder, child);
        assert_ne!(status, 0, "{stderr}");
        assert_eq!(stderr.matches(&format!("process rank {victim} with PID")).count(), 1, "{stderr}");
        assert_eq!(errors(&stderr), [""; 0], "{stderr}");
        let checkpoint = Checkpoint::load(&folder.join(name).join("checkpoint.safetensors")).expect("a checkpoint");
        let stop = checkpoint.trainer.updates + 2;
        fine_on(&folder, 2, &format!("train --quiet --resume {name} --stop-after {stop}"));
        fine(&folder, &format!("{ENDLESS} --out again --stop-after {stop}"));
        // The log may have had another line when the run ended.
        let (found, expected) = (outcome(&folder.join(name)), outcome(&folder.join("again")));
        assert!(found.1 == expected.1, "{name}");
    }
}

#[test]
fn ranks_that_differ_are_refused() {
    let folder = folder("differ");
    for rank in 0..3 {
        fs::create_dir_all(folder.join(format!("r{rank}"))).expect("a folder");
        write_data(&folder.join(format!("r{rank}/data")), &[50, 15], 1);
    }
    let own = "cd r$OMPI_COMM_WORLD_RANK;";
    let train = "train --quiet --data data --hidden 8 --epochs 1 --batch-size 10 --k 2 --out ../run";
    // The good case, in which each rank has a copy of its own.
    let (status, _, stderr) = end(&folder, start(&folder, 3, own, train));
    assert_eq!(status, 0, "{stderr}");
    fs::remove_dir_all(folder.join("run")).expect("removed");

    write_data(&folder.join("r2/data"), &[50, 15], 2);
    fails(&folder, own, train, 1, "error: rows: expected the same on all ranks, 50 rows, fingerprint ");
    write_data(&folder.join("r2/data"), &[51, 15], 1);
    fails(&folder, own, train, 1, "found 51 rows, fingerprint ");
    fs::remove_file(folder.join("r2/data")).expect("removed");
    fails(&folder, own, train, 1, "error: rank 2 of 3 on ");
    fails(&folder, own, train, 1, "data: expected a folder with MNIST's files");
    for rank in 0..2 {
        fs::remove_file(folder.join(format!("r{rank}/data"))).expect("removed");
    }
    // All report the same error, so only the first one prints it.
    fails(&folder, own, train, 1, "error: data: expected a folder with MNIST's files");
    let seed = "set -- \"$@\" --seed $OMPI_COMM_WORLD_RANK;";
    fails(&folder, seed, train, 2, "--seed 0\" as on rank 0, found \"");
    fails(&folder, "", "train --hidden 0", 2, "error: ");
    assert!(!folder.join("run").exists(), "it has begun");

    // Models that differ, and another checkpoint.
    for (rank, seed) in [(0, 1), (1, 1), (2, 2)] {
        write_data(&folder.join(format!("r{rank}/data")), &[50, 15], 1);
        let data = folder.join(format!("r{rank}"));
        fine(&data, &format!("train --quiet --data data --hidden 8 --epochs 1 --samples 0 --seed {seed} --out old"));
    }
    let evaluate = "evaluate old/model.safetensors --data data --log-z none";
    fails(&folder, own, evaluate, 1, "error: parameters: expected the same on all ranks, SHA-256 ");
    fails(&folder, own, "train --quiet --resume old --epochs 2", 1, "expected the same on all ranks, ");
}
