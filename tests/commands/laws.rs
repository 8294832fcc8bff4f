//! Visible units of several types through the command: training, resuming, evaluation, sampling, errors.

use crate::oracle::program::{fine, folder, outcome, run};
use harmonium::{Dataset, Rbm, Shape, model, npy};
use serde_json::Value;
use std::{fs, path::Path};

/// Asserts this exit status and one line of error with these texts.
#[track_caller]
fn fails(folder: &Path, arguments: &str, status: i32, says: &[&str]) {
    let (found, stdout, stderr) = run(folder, arguments);
    assert_eq!((found, stdout.as_str()), (status, ""), "{arguments}: {stderr}");
    assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{arguments}: {stderr}");
    says.iter().for_each(|says| assert!(stderr.contains(says), "{arguments}: {says} is not in {stderr}"));
}

/// The JSON of `evaluate`.
fn evaluated(folder: &Path, arguments: &str) -> Value {
    let (status, stdout, stderr) = run(folder, &format!("evaluate {arguments} --json"));
    assert_eq!(status, 0, "{arguments}: {stderr}");
    serde_json::from_str(&stdout).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("expected a number, found {value}"))
}

/// Reads an array that the command wrote.
fn array(path: &Path, units: usize) -> Vec<f32> {
    let bytes = fs::read(path).expect("an array");
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]])) + 10;
    let text = String::from_utf8_lossy(&bytes[10..header]).into_owned();
    let values: Vec<f32> = bytes[header..].as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect();
    assert!(header % 64 == 0 && text.contains("'<f4'"), "{text}");
    assert!(text.contains(&format!("({}, {units})", values.len() / units)), "{text}");
    values
}

/// Scattered numbers in [0, 1).
fn scattered(n: usize) -> impl Iterator<Item = f32> {
    (1..=n).map(|i| (i as f32 * 0.618_034).fract())
}

/// Rows of three bits, a state of four and two numbers, the second of which follows the state.
fn mixed(rows: usize) -> Vec<f32> {
    let mut random = scattered(6 * rows);
    let mut next = move || random.next().expect("a number");
    (0..rows)
        .flat_map(|_| {
            let bits = [next() < 0.3, next() < 0.5, next() < 0.9].map(|bit| if bit { 1.0 } else { 0.0 });
            let state = (next() * 4.0).floor();
            [bits[0], bits[1], bits[2], state, 100.0 + 10.0 * next(), 5.0 * state + next()]
        })
        .collect()
}

const MIXED: &str = "--data mixed.npy --visible binary:3,potts:1x4,gaussian:2 --scale standard";

#[test]
fn ten_classes_are_learnt() {
    let folder = folder("classes");
    let states: Vec<f32> = (0..500).map(|row| (row % 10) as f32).collect();
    npy::save(&states, 1, &folder.join("classes.npy")).expect("data");
    let train =
        "train --quiet --data classes.npy --visible potts:1x10 --hidden 20 --batch-size 100 --epochs 200 --lr 0.05";
    fine(&folder, &format!("{train} --samples 0 --out out"));
    let found = evaluated(&folder, "out/model.safetensors --data classes.npy --log-z exact");
    let log_likelihood = number(&found["log_likelihood"]["mean"]);
    assert!((log_likelihood + 10f64.ln()).abs() < 0.02, "{log_likelihood}");
    fine(&folder, "sample out/model.safetensors --data classes.npy --chains 50 --rows 4 --steps 10 --out samples.npy");
    let samples = array(&folder.join("samples.npy"), 10);
    assert_eq!(samples.len(), 2000);
    let one = |row: &[f32]| row.iter().filter(|&&x| x == 1.0).count() == 1 && row.iter().sum::<f32>() == 1.0;
    assert!(samples.chunks_exact(10).all(one), "a row that is no class");
}

/// A run that stops after every second update and resumes on other numbers of threads ends with the same bytes.
#[test]
fn runs_of_mixed_units_resume_to_the_bit() {
    let folder = folder("mixed-resume");
    npy::save(&mixed(50), 6, &folder.join("mixed.npy")).expect("data");
    let small =
        format!("train --quiet {MIXED} --hidden 7 --epochs 3 --batch-size 15 --samples 1 --image 1x3 --validation 0.2");
    for options in [
        "--algorithm cd --k 2",
        "--lr 0.02 --average 0.5",
        "--recipe density --chains 7 --k 1:50%,2 --lr 0.02",
        "--centring 0.1 --momentum 0.5 --l2 0.01 --sparsity 0.2:0.5 --lr 0.02 --binarise sample",
    ] {
        fine(&folder, &format!("{small} {options} --threads 2 --out whole"));
        let whole = outcome(&folder.join("whole"));
        for stop in (1..9).step_by(2) {
            let _ = fs::remove_dir_all(folder.join("parts"));
            fine(&folder, &format!("{small} {options} --threads 1 --stop-after {stop} --out parts"));
            fine(&folder, "train --quiet --resume parts --threads 3");
            assert!(outcome(&folder.join("parts")) == whole, "{options}, stopped after {stop}");
        }
    }
}

#[test]
fn a_model_of_mixed_units_is_evaluated_and_sampled() {
    let folder = folder("mixed");
    let rows = mixed(400);
    npy::save(&rows, 6, &folder.join("mixed.npy")).expect("data");
    let train =
        format!("train --quiet {MIXED} --hidden 16 --epochs 60 --batch-size 50 --chains 100 --lr 0.02 --image 1x3");
    fine(&folder, &format!("{train} --out out"));
    let (rbm, extras) = model::load_with(&folder.join("out/model.safetensors")).expect("a model");
    assert_eq!(rbm.shape().visible().to_string(), "binary:3,potts:1x4,gaussian:2");
    let scale = extras.scale.clone().expect("a scale");
    let mean = |column: usize| rows.iter().skip(column).step_by(6).map(|&x| f64::from(x)).sum::<f64>() / 400.0;
    assert_eq!(scale.mean()[..7], [0.0; 7]);
    for (unit, column) in [(7, 4), (8, 5)] {
        assert!((f64::from(scale.mean()[unit]) - mean(column)).abs() < 1e-5, "unit {unit}");
    }
    let exact = evaluated(&folder, "out/model.safetensors --data mixed.npy --log-z exact");
    let log_z = number(&exact["log_z"]["estimate"]);
    assert!(exact["pseudo_log_likelihood"].is_null(), "{exact}");
    // The density of unscaled data is lower by the logarithms of the columns' divisors.
    let nats: f64 = scale.deviation().iter().map(|&x| f64::from(x).ln()).sum();
    let (status, _, stderr) = run(&folder, "evaluate out/model.safetensors --data mixed.npy --log-z exact");
    assert!(
        status == 0 && stderr.contains(&format!("densities of the unscaled data are {nats:.4} nats a row lower")),
        "{stderr}"
    );
    let bracket = "out/model.safetensors --data mixed.npy --log-z bracket --temperatures 1000 --burn-in 1000";
    let found = evaluated(&folder, bracket);
    let (lower, upper) = (number(&found["log_z"]["lower"]), number(&found["log_z"]["upper"]));
    assert!(lower <= log_z && log_z <= upper && upper - lower < 0.5, "{lower} to {upper} has no {log_z}");
    // Better than independent columns: the second number follows the state.
    let energy = number(&exact["log_likelihood"]["mean"]);
    assert!(energy.is_finite(), "{exact}");
    fine(&folder, "sample out/model.safetensors --data mixed.npy --chains 100 --rows 20 --steps 20 --out samples.npy");
    let samples = array(&folder.join("samples.npy"), 9);
    let rows: Vec<_> = samples.chunks_exact(9).collect();
    assert!(rows.iter().all(|row| row[3..7].iter().sum::<f32>() == 1.0), "one state");
    // Close to the data: standard errors of 2000 samples are below .2, and the model's own error is small.
    let average = |unit: usize| rows.iter().map(|row| f64::from(row[unit])).sum::<f64>() / rows.len() as f64;
    assert!((average(7) - mean(4)).abs() < 1.0 && (average(8) - mean(5)).abs() < 1.5, "{} {}", average(7), average(8));
    fine(
        &folder,
        "sample out/model.safetensors --data mixed.npy --chains 5 --rows 2 --steps 1 --image 3x1 --out picture.png",
    );
    fine(&folder, "filters out/model.safetensors --image 1x3 --out filters.png");
    let (status, stdout, stderr) = run(&folder, "info out/model.safetensors --json");
    assert!(status == 0 && stdout.contains("\"visible\": \"binary:3,potts:1x4,gaussian:2\""), "{stdout}{stderr}");
    let (status, stdout, stderr) = run(&folder, "diagnose out/model.safetensors --data mixed.npy --steps 200 --json");
    assert!(status == 0 && stdout.contains("free energy"), "{stdout}{stderr}");
    // Training continues from the model, with its types and its scale.
    let on =
        "train --quiet --data mixed.npy --init out/model.safetensors --epochs 1 --batch-size 50 --lr 0.01 --samples 0";
    fine(&folder, &format!("{on} --hidden 16 --out on"));
    let (next, same) = model::load_with(&folder.join("on/model.safetensors")).expect("a model");
    assert_eq!((next.shape(), same), (rbm.shape(), extras));
}

/// J. Melchior's model of two Gaussian units, whose log Z is known: log Z = 1.4042286714. The parameters of the file are `f32`,
/// off by up to 2^-24 of their size; the derivative of log Z in each is at most the size of a state, below 10, and there are
/// sixteen below 8: together less than 1e-5, of which most cancel.
#[test]
fn the_known_model_of_two_gaussian_units() {
    let folder = folder("toy");
    let single = |values: &[f64]| values.iter().map(|&x| x as f32).collect::<Vec<_>>();
    let weights = single(&[
        -2.135_598_06,
        -0.712_205_01,
        0.648_416_91,
        2.178_805_54,
        0.758_401_29,
        -2.139_796_72,
        2.099_109_78,
        -0.647_210_76,
    ]);
    let shape = Shape::with_visible("gaussian:2".parse().expect("laws"), 4).expect("a shape");
    let hidden_bias = single(&[-7.877_925_14, -7.606_031_39, -7.739_357_58, -7.722_771]);
    let log_variance = [0.742_412_56_f64, 0.731_014_19].map(|sigma| (2.0 * sigma.ln()) as f32).to_vec();
    let rbm = Rbm::from_parts(shape, weights, vec![0.0; 2], hidden_bias).expect("a model");
    let rbm = rbm.with_visible_log_variance(log_variance).expect("variances");
    model::save(rbm.view(), &folder.join("toy.safetensors")).expect("saved");
    let rows: Vec<f32> = scattered(400).map(|x| 6.0 * x - 3.0).collect();
    npy::save(&rows, 2, &folder.join("rows.npy")).expect("data");
    let exact = evaluated(&folder, "toy.safetensors --data rows.npy --log-z exact");
    let log_z = number(&exact["log_z"]["estimate"]);
    assert!((log_z - 1.404_228_671_4).abs() < 1e-5, "{log_z}");
    let found =
        evaluated(&folder, "toy.safetensors --data rows.npy --log-z bracket --temperatures 1000 --burn-in 2000");
    let (lower, upper) = (number(&found["log_z"]["lower"]), number(&found["log_z"]["upper"]));
    assert!(lower <= log_z && log_z <= upper && upper - lower < 0.3, "{lower} to {upper}");
}

/// A FASTA file declares its units as Potts sites.
#[test]
fn sequences_are_sites() {
    let folder = folder("sequences");
    let text: String = (0..40).map(|n| format!(">s{n}\n{}\n", ["GACU-", "GAAU-", "CACUG"][n % 3])).collect();
    fs::write(folder.join("family.fasta"), text).expect("data");
    let train = "train --quiet --data family.fasta --hidden 5 --epochs 20 --batch-size 10 --samples 0 --out out";
    fine(&folder, train);
    let rbm = model::load(&folder.join("out/model.safetensors")).expect("a model");
    assert_eq!(rbm.shape().visible().to_string(), "potts:5x5");
    let found = evaluated(&folder, "out/model.safetensors --data family.fasta --log-z exact");
    assert!(number(&found["log_likelihood"]["mean"]) < 0.0, "{found}");
    assert!(number(&found["pseudo_log_likelihood"]) < 0.0, "{found}");
    // Binary units accept them too, and so does a model of binary units.
    fine(&folder, &train.replace("--out out", "--visible binary:25 --out bits"));
    let found = evaluated(&folder, "bits/model.safetensors --data family.fasta --log-z exact");
    assert!(number(&found["log_likelihood"]["mean"]) < 0.0, "{found}");
    fine(&folder, &train.replace("--out out", "--visible binary:25 --stop-after 20 --out part"));
    fine(&folder, "train --quiet --resume part");
    let on = "train --quiet --data family.fasta --init bits/model.safetensors --hidden 5 --epochs 1 --batch-size 10 --samples 0";
    fine(&folder, &format!("{on} --out on"));
    let [part, bits, on] = ["part", "bits", "on"].map(|out| model::load(&folder.join(out).join("model.safetensors")));
    assert_eq!(part, bits, "resumed");
    assert!(on.expect("a model").shape().visible().is_binary());
}

/// MNIST's labels are the last column if there is one unit more than pixels.
#[test]
fn labels_of_a_folder_are_a_site() {
    let folder = folder("labels");
    fs::create_dir(folder.join("digits")).expect("a folder");
    let idx = |sizes: &[u32], values: Vec<u8>| {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(values);
        bytes
    };
    for (set, n) in [("train", 60), ("t10k", 20)] {
        let images: Vec<u8> = (0..4 * n).map(|i| if (i / 4) % 10 < i % 4 * 3 { 250 } else { 5 }).collect();
        let (images, labels) = (idx(&[n, 2, 2], images), idx(&[n], (0..n).map(|row| (row % 10) as u8).collect()));
        fs::write(folder.join(format!("digits/{set}-images-idx3-ubyte")), images).expect("images");
        fs::write(folder.join(format!("digits/{set}-labels-idx1-ubyte")), labels).expect("labels");
    }
    let train =
        "train --quiet --data digits --visible binary:4,potts:1x10 --hidden 6 --epochs 2 --batch-size 20 --samples 1";
    fine(&folder, &format!("{train} --out out"));
    let found = evaluated(&folder, "out/model.safetensors --data digits --log-z exact");
    assert_eq!((&found["rows"], &found["n_visible"]), (&20.into(), &14.into()));
    fails(
        &folder,
        "train --data digits --visible binary:4,potts:1x5 --out no",
        1,
        &["digits", "row 5", "potts:1x5", "found 5"],
    );
}

#[test]
fn rows_that_laws_do_not_allow() {
    let folder = folder("refused");
    let save = |name: &str, values: &[f32], units: usize| npy::save(values, units, &folder.join(name)).expect("data");
    save("states.npy", &[0.0, 1.0, 4.0, 2.0, 3.0, 0.5], 2);
    save("numbers.npy", &[1.0, 2.0, 1.0, f32::INFINITY], 2);
    save("constant.npy", &[1.0, 2.0, 1.0, 3.0, 1.0, 4.0], 2);
    save("mixed.npy", &mixed(40), 6);
    let train = |options: &str| format!("train --out no --epochs 1 {options}");
    let refused = [
        ("--data states.npy --visible potts:2x4", "states.npy", "row 1, column 0", "4"),
        ("--data states.npy --visible potts:2x5", "states.npy", "row 2, column 1", "0.5"),
        ("--data states.npy --visible binary:2", "states.npy", "column 0 (binary)", "4 in row 1"),
        ("--data states.npy --visible potts:1x2", "states.npy", "0 or 1 in column 0 (potts)", "4 in row 1"),
        ("--data states.npy --visible potts:3x4", "states.npy", "rows of 12 values, or of 3", "rows of 2"),
        (
            "--data numbers.npy --visible gaussian:2",
            "numbers.npy",
            "a finite number in column 1 (gaussian)",
            "inf in row 1",
        ),
        ("--data constant.npy --visible gaussian:2", "constant.npy", "--scale standard", "1 in all rows of column 0"),
        (
            "--data mixed.npy --visible binary:3,potts:1x4,gaussian:2 --image 1x3 --monitor pl",
            "--monitor",
            "Gaussian",
            "mixed",
        ),
        ("--data states.npy --visible potts:2x5 --scale standard", "states.npy", "0.5", "column 1"),
    ];
    for (options, file, expected, found) in refused {
        let says: &[&str] = if found == "mixed" { &[file, expected] } else { &[file, expected, found] };
        fails(&folder, &train(options), 1, says);
    }
    fine(
        &folder,
        "train --quiet --data constant.npy --visible gaussian:2 --scale standard --epochs 1 --batch-size 2 --hidden 2 --out ok",
    );
    save("bits.npy", &[1.0, 0.0, 1.0, 1.0], 2);
    fails(&folder, &train("--data bits.npy --scale standard"), 1, &["--scale", "Gaussian"]);
    let usage =
        [("--visible potts:3", "potts:3"), ("--visible binary:0", "binary:0"), ("--visible wrong:3", "wrong:3")];
    for (options, found) in usage {
        fails(&folder, &train(&format!("--data bits.npy {options}")), 2, &["--visible", found]);
    }
    let data = Dataset::of_numbers(vec![1.0, 2.0], "gaussian:2".parse().expect("laws"));
    assert_eq!(data.expect("rows").segments().to_string(), "gaussian:2");
}
