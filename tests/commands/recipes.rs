//! Recipes, update rules, rows as bits and the running likelihood, through the command.

use crate::oracle::{
    program::{fine, folder, outcome, run, write_data},
    random_bytes,
};
use harmonium::{
    Binarise, Checkpoint, Cpu, Dataset, Epochs, Purpose, Rbm, Uniforms, log_likelihood, log_partition, model,
    npy::read_npy,
};
use std::{collections::BTreeMap, fs, path::Path};

/// Runs with a short last minibatch in each of four epochs: 20 updates.
const SMALL: &str = "train --quiet --data data --hidden 8 --epochs 4 --batch-size 12 --samples 1";
const UPDATES: u64 = 20;

/// Asserts this exit status and one line of error with this text.
#[track_caller]
fn fails(folder: &Path, arguments: &str, status: i32, says: &str) {
    let (found, stdout, stderr) = run(folder, arguments);
    assert_eq!((found, stdout.as_str()), (status, ""), "{arguments}: {stderr}");
    assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{arguments}: {stderr}");
    assert!(stderr.contains(says), "{arguments}: {stderr}");
}

/// The columns of a log, by name.
fn log(out: &Path) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(out.join("log.csv")).expect("a log");
    let mut lines = text.lines().map(|line| line.split(',').map(String::from).collect::<Vec<_>>());
    let names = lines.next().expect("a heading");
    let lines: Vec<_> = lines.collect();
    assert!(lines.iter().all(|line| line.len() == names.len()), "{text}");
    names.into_iter().enumerate().map(|(n, name)| (name, lines.iter().map(|line| line[n].clone()).collect())).collect()
}

fn numbers(log: &BTreeMap<String, Vec<String>>, column: &str) -> Vec<f64> {
    log[column].iter().map(|text| text.parse().unwrap_or_else(|_| panic!("{column}: {text}"))).collect()
}

fn load(path: impl AsRef<Path>) -> Rbm {
    model::load(path.as_ref()).expect("a model")
}

/// With any update rules, a run that stops after any update resumes with the same bits, on other numbers of threads.
#[test]
fn runs_with_rules_resume_with_the_same_bits() {
    let folder = folder("resume");
    for (name, options) in [
        ("density", "--recipe density --chains 7 --k 1:50%,2 --average 0.5 --validation 0.2 --likelihood on"),
        (
            "all",
            "--centring 0.1 --momentum 0.5 --l2 0.01 --l1 0.001 --sparsity 0.2:0.5 --schedule cosine --k 2 --shuffle on \
             --binarise threshold:10-200 --average 0.3 --keep best --validation 0.2 --init data --log-every 2",
        ),
        ("features", "--recipe features --binarise sample --schedule inverse-sqrt:5"),
    ] {
        fine(&folder, &format!("{SMALL} {options} --threads 2 --out whole"));
        let whole = outcome(&folder.join("whole"));
        for stop in 1..=UPDATES {
            let (before, after) = if stop % 2 == 0 { (1, 3) } else { (3, 1) };
            let _ = fs::remove_dir_all(folder.join("parts"));
            fine(&folder, &format!("{SMALL} {options} --threads {before} --stop-after {stop} --out parts"));
            fine(&folder, &format!("train --quiet --resume parts --samples 1 --threads {after}"));
            assert!(outcome(&folder.join("parts")) == whole, "{name}, stopped after {stop}");
        }
    }
}

#[test]
fn recipes_are_tables_that_can_be_overridden() {
    let folder = folder("tables");
    let options = "train --data data --hidden 8 --epochs 2 --samples 0 --out out";
    let said = fine(&folder, &format!("{options} --recipe density --batch-size 20"));
    let recipe = said.lines().nth(1).expect("a second line");
    assert!(recipe.starts_with("recipe density: --init data --binarise sample "), "{recipe}");
    assert!(recipe.contains(" --lr 0.2 ") && recipe.contains(" --k 1:60%,5 ") && !recipe.contains("batch"), "{recipe}");
    // 4/N of 50 rows.
    assert!(recipe.ends_with("--l2 0.08") && !recipe.contains("--updates"), "{recipe}");
    let stored = Checkpoint::load(&folder.join("out/checkpoint.safetensors")).expect("a checkpoint").options;
    for (name, value) in
        [("recipe", "density"), ("batch-size", "20"), ("l2", "0.08"), ("schedule", "linear"), ("epochs", "2")]
    {
        assert_eq!(stored.get(name).map(String::as_str), Some(value), "{name}");
    }
    // There are fewer rows than in the recipe's minibatches. There are fewer chains with new bits in each epoch, and no persistent
    // ones with CD.
    for (more, chains) in [("", Some(100)), ("--binarise threshold:1-200", Some(200)), ("--algorithm cd", None)] {
        let said = fine(&folder, &format!("{options} --recipe density {more}"));
        let found = said.lines().nth(1).expect("a second line").split(" --chains ").nth(1);
        assert_eq!(found.and_then(|rest| rest.split(' ').next()?.parse().ok()), chains, "{said}");
    }
    let said = fine(&folder, &format!("{options} --recipe density --l2 off --schedule constant --batch-size 10"));
    assert!(!said.contains("--l2") && !said.contains("--schedule"), "{said}");
    let said = fine(&folder, "train --data data --hidden 8 --updates 21 --batch-size 12 --samples 0 --out out");
    assert!(!said.contains("recipe") && said.contains("epoch 4: ") && !said.contains("epoch 5: "), "{said}");
    // The features recipe differs.
    let said = fine(&folder, &format!("{options} --recipe features --batch-size 10"));
    assert!(said.contains("CD-1, ") && said.contains("--sparsity "), "{said}");
}

#[test]
fn the_best_model_and_the_last_one() {
    let folder = folder("kept");
    let out = folder.join("out");
    fine(&folder, &format!("{SMALL} --out out"));
    assert!(!out.join("last.safetensors").exists());
    let checkpoint = Checkpoint::load(&out.join("checkpoint.safetensors")).expect("a checkpoint");
    assert_eq!(load(out.join("model.safetensors")), checkpoint.rbm);
    // The mean of the parameters after updates 10 and 20.
    fine(&folder, &format!("{SMALL} --average 1 --out out"));
    let checkpoint = Checkpoint::load(&out.join("checkpoint.safetensors")).expect("a checkpoint");
    let (mean, taken) = checkpoint.average.expect("a mean");
    assert_eq!(taken, 2);
    assert!(mean != checkpoint.rbm);
    assert_eq!(load(out.join("model.safetensors")), mean);
    assert_eq!(load(out.join("last.safetensors")), checkpoint.rbm);
    // With this rate, the validation likelihood soon becomes worse.
    let diverging = format!("{SMALL} --lr 10 --validation 0.3").replace("--epochs 4", "--epochs 8");
    fine(&folder, &format!("{diverging} --keep best --out best"));
    let best = folder.join("best");
    let validation = numbers(&log(&best), "validation");
    let most = validation.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let line = validation.iter().position(|&x| x == most).expect("a best line");
    assert!(line < 7, "the last one is the best: {validation:?}");
    fine(&folder, &format!("{diverging} --stop-after {} --out stopped", (line + 1) * 3));
    assert_eq!(load(best.join("model.safetensors")), load(folder.join("stopped/model.safetensors")));
    assert!(load(best.join("last.safetensors")) != load(best.join("model.safetensors")));
    // --patience ends the run a few lines later.
    let (status, stdout, _) = run(&folder, &format!("{diverging} --patience 2 --out patient").replace(" --quiet", ""));
    assert_eq!(status, 0);
    let lines = log(&folder.join("patient"))["epoch"].len();
    let first = (2..=8)
        .find(|&n| {
            let known = &validation[..n];
            let most = known.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            n == 8 || known.len() - 1 - known.iter().rposition(|&x| x == most).expect("one") >= 2
        })
        .expect("a line");
    assert_eq!(lines, first, "{validation:?}: {stdout}");
}

/// The log evaluates all rows of small data: as bits by threshold, or as a fixed sample of bits, in an order of its own.
#[test]
fn the_log_evaluates_bits_of_all_rows() {
    let folder = folder("evaluated");
    write_data(&folder.join("others"), &[31, 15], 2);
    for binarise in [Binarise::None, Binarise::Sample] {
        fine(&folder, &format!("{SMALL} --validation others --binarise {binarise} --out out"));
        let rbm =
            load(folder.join("out/model.safetensors")).on(Cpu::detect().expect("a CPU")).expect("a resident model");
        let mean = |file: &str, epoch: u64| {
            let rows = Dataset::open(folder.join(file)).expect("rows");
            let bits = match binarise {
                Binarise::Sample => {
                    let order = Uniforms::new(123, Purpose::Shuffling).permutation_start(rows.len(), rows.len());
                    let mut epochs = Epochs::new(false, binarise, 123).expect("epochs");
                    epochs.show(&rows.select(&order).expect("rows"), epoch).expect("bits").clone()
                }
                _ => rows.binarised(),
            };
            rbm.free_energy(&bits).expect("energies").iter().sum::<f64>() / rows.len() as f64
        };
        // Epochs that no run reaches give the bits.
        let gap = mean("others", (1 << 40) + 1) - mean("data", 1 << 40);
        let logged = *numbers(&log(&folder.join("out")), "free_energy_gap").last().expect("a line");
        // The log has six decimals.
        assert!((logged - gap).abs() < 1e-6, "{binarise}: {logged}, expected {gap}");
    }
}

/// The log's log Z agrees with the exact one at each line.
#[test]
fn the_running_likelihood_is_the_likelihood() {
    let folder = folder("likelihood");
    write_data(&folder.join("data"), &[500, 15], 3);
    write_data(&folder.join("others"), &[200, 15], 4);
    let options = "train --quiet --data data --validation others --hidden 8 --epochs 40 --batch-size 10 --samples 0";
    for more in ["--binarise threshold", "--recipe density --init data --binarise threshold"] {
        fine(&folder, &format!("{options} {more} --log-every 8 --out out"));
        let log = log(&folder.join("out"));
        assert_eq!(log["epoch"], ["7", "15", "23", "31", "39"]);
        let cpu = Cpu::detect().expect("a cpu");
        let rbm = load(folder.join("out/model.safetensors")).on(cpu).expect("resident");
        let exact = log_partition::exact(rbm.to_rbm().expect("an rbm").view()).expect("log Z");
        let last = |column: &str| *numbers(&log, column).last().expect("a line");
        // Six standard errors, and the rounding to six decimals.
        let error = 6.0 * last("standard_error") + 1e-5;
        assert!((0.0..0.5).contains(&last("standard_error")), "{log:?}");
        assert!((last("log_z") - exact.estimate).abs() < error, "{} for {}", last("log_z"), exact.estimate);
        let others = harmonium::formats::open(folder.join("others")).expect("rows").rows.binarised();
        let expected = log_likelihood(&rbm, &others, &exact).expect("a likelihood").mean;
        assert!((last("validation") - expected).abs() < error, "{} for {expected}", last("validation"));
        assert!((last("free_energy_gap") - (last("log_likelihood") - last("validation"))).abs() < 1e-5);
        assert!(numbers(&log, "update_ratio").iter().all(|&x| x > 0.0 && x < 0.5));
        assert!(last("ess") <= 100.0 && last("ess") >= 2.0);
    }
    // It can be off, and does not change the model.
    fine(&folder, &format!("{options} --out with"));
    fine(&folder, &format!("{options} --likelihood off --out without"));
    assert_eq!(load(folder.join("with/model.safetensors")), load(folder.join("without/model.safetensors")));
    assert!(log(&folder.join("without"))["log_z"].iter().all(String::is_empty));
}

/// Warnings report models worse than independent columns, and constant hidden units.
#[test]
fn poor_models_get_warnings() {
    let folder = folder("poor");
    let mut data = vec![0, 0, 8, 2];
    data.extend([400_u32, 3000].iter().flat_map(|size| size.to_be_bytes()));
    data.extend(random_bytes(400 * 3000, 0.003, 5).into_iter().map(|x| if x > 0 { 255 } else { 0 }));
    fs::write(folder.join("sparse"), data).expect("data");
    let options = "train --data sparse --hidden 20 --epochs 10 --batch-size 20 --k 1 --samples 0 --out out";
    let (status, _, stderr) = run(&folder, options);
    assert_eq!(status, 0);
    assert!(stderr.contains("nats a row; independent columns give -"), "{stderr}");
    assert!(stderr.contains("20 of 20 hidden units are constant over all rows; see --init data"), "{stderr}");
    let (status, _, stderr) = run(&folder, &format!("{options} --init data"));
    assert_eq!(status, 0);
    assert!(!stderr.contains("hidden units are constant"), "{stderr}");
}

#[test]
fn an_initial_model() {
    let folder = folder("init");
    fine(&folder, &format!("{SMALL} --out first"));
    fine(
        &folder,
        &format!("{SMALL} --init first/model.safetensors --lr 1e-30 --out second").replace("--hidden 8 ", ""),
    );
    let (first, second) = (load(folder.join("first/model.safetensors")), load(folder.join("second/model.safetensors")));
    assert_eq!(first, second);
    fails(
        &folder,
        "train --data data --batch-size 10 --init first/model.safetensors --hidden 9 --out third",
        1,
        "--hidden: expected 8, as in the model of --init first/model.safetensors, found 9",
    );
    write_data(&folder.join("wide"), &[50, 16], 1);
    fails(
        &folder,
        "train --data wide --batch-size 10 --init first/model.safetensors --out third",
        1,
        "wide: expected rows of 15 values, the visible units of first/model.safetensors, found rows of 16",
    );
    fails(&folder, "train --data data --init nowhere --batch-size 10", 1, "nowhere: ");
    // It resumes from its own checkpoint, without the first model.
    fine(&folder, &format!("{SMALL} --init first/model.safetensors --stop-after 3 --out part"));
    fs::remove_dir_all(folder.join("first")).expect("removed");
    fine(&folder, "train --quiet --resume part --samples 0");
}

#[test]
fn validation_rows() {
    let folder = folder("validation");
    write_data(&folder.join("others"), &[30, 15], 8);
    write_data(&folder.join("wide"), &[30, 16], 8);
    let said = |validation: &str| {
        let options = format!("{SMALL} --validation {validation} --out out").replace(" --quiet", "");
        let (status, stdout, stderr) = run(&folder, &options);
        assert_eq!(status, 0, "{stderr}");
        (
            stdout.split_whitespace().next().expect("a number").to_string(),
            log(&folder.join("out"))["validation"][0].clone(),
        )
    };
    assert_eq!(said("none").0, "50");
    assert!(said("none").1.is_empty());
    // The rows are removed from the training rows.
    assert_eq!(said("0.2").0, "40");
    assert!(!said("0.2").1.is_empty());
    let (rows, likelihood) = said("others");
    assert!(rows == "50" && !likelihood.is_empty());
    for (validation, status, says) in [
        (
            "rest",
            1,
            "--validation: expected a fraction of the rows, a file or none, as data has no further rows, found rest",
        ),
        ("wide", 1, "wide: expected rows of 15 values, as in data, found rows of 16"),
        ("nowhere", 1, "nowhere: "),
        ("0.001", 1, "--validation: expected a fraction that puts some of 50 rows on either side, found 0.001"),
        ("1.5", 2, "expected a fraction of the rows above 0 and below 1"),
    ] {
        fails(&folder, &format!("{SMALL} --validation {validation} --out out"), status, says);
    }
}

#[test]
fn options_that_exclude_each_other() {
    let folder = folder("wrong");
    for (options, says) in [
        ("--minutes 1 --epochs 3", "--minutes: expected without --epochs, found both"),
        ("--updates 10 --epochs 3", "--updates: expected without --epochs, found both"),
        ("--minutes 0", "expected a number of minutes above 0"),
        ("--minutes nan", "expected a number of minutes above 0"),
        ("--momentum 1", "--momentum: expected a number below 1, found 1"),
        ("--centring 2", "--centring: expected a number at most 1, found 2"),
        ("--average 1.5", "--average: expected a number at most 1, found 1.5"),
        ("--l2=-1", "expected a finite number of at least 0, or off"),
        ("--l1 nan", "expected a finite number of at least 0, or off"),
        ("--sparsity 2:1", "expected a mean in [0, 1] and a strength of at least 0, such as 0.05:1, or off"),
        ("--k 1:60%", "expected a whole number of at least 1, or such numbers up to parts of the run"),
        ("--schedule steep", "expected constant, linear, cosine or inverse-sqrt:GAMMA with GAMMA above 0"),
        ("--binarise threshold:9-3", "threshold:LOW-HIGH"),
        ("--recipe best", "--recipe"),
        ("--exchange on", "--exchange: expected only with --centring and without --sparsity, found on"),
        ("--keep best --likelihood off", "--keep best: expected only with --likelihood on, found off"),
        ("--patience 3 --likelihood off", "--patience: expected only with --likelihood on, found off"),
        ("--keep best", "--keep best: expected only with rows for --validation, found none"),
        ("--patience 3", "--patience: expected only with rows for --validation, found none"),
    ] {
        fails(&folder, &format!("train --data data --batch-size 10 --out out {options}"), 2, says);
    }
    assert!(!folder.join("out").exists());
    // A run with a schedule cannot become longer.
    fine(&folder, &format!("{SMALL} --schedule linear --stop-after 3 --out out"));
    fails(
        &folder,
        "train --resume out --epochs 9",
        2,
        "--epochs: expected 4, the length of the schedule in out/checkpoint.safetensors",
    );
    fails(&folder, "train --resume out --minutes 9", 2, "--minutes: expected without --resume");
    fails(
        &folder,
        "train --resume out --l2 0.5",
        2,
        "--l2: expected none, as in out/checkpoint.safetensors, found 0.5",
    );
    fails(&folder, "train --resume out --recipe density", 2, "--recipe: expected none, as in out/checkpoint");
}

/// A run with --minutes prints the number of epochs, and equals the run with this number.
#[test]
fn minutes_are_epochs() {
    let folder = folder("minutes");
    let options = "train --data data --hidden 8 --batch-size 12 --samples 0";
    let said = fine(&folder, &format!("{options} --minutes 0.003 --out timed"));
    let line = said.lines().find(|line| line.ends_with(" epochs take about 0.003 minutes")).expect("a line");
    let epochs: usize = line.split(' ').next().expect("a number").parse().expect("a number");
    assert_eq!(said.lines().filter(|line| line.starts_with("epoch ")).count(), epochs.div_ceil(epochs.div_ceil(25)));
    fine(&folder, &format!("{options} --epochs {epochs} --out counted"));
    assert!(outcome(&folder.join("timed")) == outcome(&folder.join("counted")));
}

/// Sorted rows give as good a model as shuffled ones, as epochs shuffle them.
#[test]
fn rows_of_files_are_shuffled() {
    let folder = folder("shuffle");
    let options = format!("{SMALL} --lr 0.5");
    let learnt = |more: &str| {
        fine(&folder, &format!("{options} {more} --out out"));
        load(folder.join("out/model.safetensors"))
    };
    assert_eq!(learnt(""), learnt("--shuffle on"));
    assert!(learnt("--shuffle off") != learnt("--shuffle on"));
    assert!(learnt("--seed 5 --shuffle on") != learnt("--shuffle on"));
    // A run with bits from a threshold equals a run on a file of the same bits.
    let rows = harmonium::formats::open(folder.join("data")).expect("rows").rows;
    let bits: Vec<u8> = (0..50 * 15).map(|n| 255 * u8::from(rows.rows().bit(n / 15, n % 15))).collect();
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (50, 15), }";
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((118_u16).to_le_bytes());
    file.extend(format!("{header:<117}\n").bytes());
    file.extend(&bits);
    fs::write(folder.join("bits.npy"), &file).expect("a file");
    assert_eq!(read_npy(&file[..], "bits").expect("bits").len(), 50);
    let of_bits: Dataset = harmonium::formats::open(folder.join("bits.npy")).expect("bits").rows;
    assert_eq!(of_bits.binarised(), rows.binarised());
    fine(&folder, &format!("{options} --out bits").replace("--data data", "--data bits.npy"));
    assert_eq!(learnt("--binarise threshold"), load(folder.join("bits/model.safetensors")));
}
