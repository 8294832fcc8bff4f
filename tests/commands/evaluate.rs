//! `harmonium evaluate` and `harmonium diagnose` as scripts use them: JSON keys, warnings, errors.

use crate::oracle::{
    exact::{Exact, rows_f64},
    random_bits, random_rbm, rows, shape,
};
use harmonium::{ChainState, Chains, Cpu, Purpose, Rbm, Uniforms, diagnostics::Recorder, log_partition, model};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Creates a folder with a model and two data files of bits.
fn folder(name: &str, rbm: &Rbm) -> (PathBuf, Vec<f32>) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("evaluate").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    model::save(rbm.view(), &folder.join("model.safetensors")).unwrap();
    let n_visible = rbm.shape().n_visible();
    let bits = random_bits(60 * n_visible, 0.4, 1);
    write_rows(&folder.join("rows.idx"), &bits, &[n_visible]);
    write_rows(&folder.join("train.idx"), &random_bits(90 * n_visible, 0.4, 2), &[n_visible]);
    (folder, bits)
}

/// Writes bits as an IDX file of 0 and 255.
fn write_rows(path: &Path, bits: &[f32], sides: &[usize]) {
    let rows = bits.len() / sides.iter().product::<usize>();
    let mut idx = vec![0, 0, 8, 1 + sides.len() as u8];
    [rows].iter().chain(sides).for_each(|&n| idx.extend((n as u32).to_be_bytes()));
    idx.extend(bits.iter().map(|&x| if x == 1.0 { 200 } else { 100 }));
    fs::write(path, idx).unwrap();
}

fn harmonium(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_harmonium")).current_dir(folder).args(arguments).output().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn near(found: &serde_json::Value, expected: f64) {
    let found = found.as_f64().unwrap();
    assert!((found - expected).abs() <= 1e-4 * expected.abs().max(1.0), "found {found}, expected {expected}");
}

#[test]
fn evaluate_agrees_with_the_oracle() {
    let rbm = random_rbm(shape(10, 6), 1.0, 3);
    let (folder, bits) = folder("exact", &rbm);
    let arguments = ["evaluate", "model.safetensors", "--data", "rows.idx", "--limit", "50", "--json"];
    let output = harmonium(&folder, &arguments);
    assert!(output.stderr.is_empty(), "{output:?}");
    let found = json(&output);
    let naive = Exact::of(&rbm);
    let data = &rows_f64(&bits, 10)[..50];
    let mean = |f: &dyn Fn(&[f64]) -> f64| data.iter().map(|v| f(v)).sum::<f64>() / 50.0;
    assert_eq!((&found["n_visible"], &found["n_hidden"], &found["rows"]), (&10.into(), &6.into(), &50.into()));
    near(&found["mean_free_energy"], mean(&|v| naive.free_energy(v)));
    near(&found["log_z"]["estimate"], naive.log_z());
    near(&found["log_z"]["lower"], naive.log_z());
    assert_eq!((&found["log_z"]["method"], &found["log_z"]["agreement"]), (&"exact".into(), &"exact".into()));
    assert!(found["log_z"]["effective_sample_size"].is_null() && found["log_z"]["warning"].is_null());
    assert_eq!((&found["log_z"]["verdict"], &found["training"]), (&"exact".into(), &serde_json::Value::Null));
    near(&found["log_likelihood"]["mean"], naive.log_likelihood(data));
    near(&found["log_likelihood"]["upper"], naive.log_likelihood(data));
    assert!(found["log_likelihood"]["standard_error"].as_f64().unwrap() > 0.0);
    near(&found["pseudo_log_likelihood"], mean(&|v| naive.pseudo_log_likelihood(v)));
    let reconstruction = |v: &[f64]| crate::oracle::exact::cross_entropy(v, &naive.visible_pre(&naive.p_hidden(v)));
    near(&found["reconstruction_cross_entropy"], mean(&reconstruction));
    assert!(found["seconds"].as_f64().unwrap() > 0.0);

    let none = json(&harmonium(&folder, &[&arguments[..], &["--log-z", "none"]].concat()));
    assert!(none["log_z"].is_null() && none["log_likelihood"].is_null());
    let text = String::from_utf8(harmonium(&folder, &arguments[..6]).stdout).unwrap();
    assert!(
        text.contains("binarised") && text.contains("log-likelihood") && text.contains(" exact: all states"),
        "{text}"
    );
}

#[test]
fn evaluate_warns_about_unreliable_results() {
    let rbm = random_rbm(shape(10, 6), 1.0, 3);
    let (folder, _) = folder("annealed", &rbm);
    let run = |more: &[&str]| {
        let arguments = ["evaluate", "model.safetensors", "--data", "rows.idx", "--json", "--runs", "30"];
        harmonium(&folder, &[&arguments[..], more].concat())
    };
    let truth = log_partition::exact(rbm.view()).unwrap().estimate;
    let bracket = ["--log-z", "bracket", "--temperatures", "2000", "--burn-in", "2000"];
    let output = run(&[&bracket[..], &["--train", "train.idx"]].concat());
    assert!(output.stderr.is_empty(), "{output:?}");
    let found = json(&output);
    let z = &found["log_z"];
    assert_eq!(
        (&z["method"], &z["agreement"], &z["verdict"]),
        (&"bracket".into(), &"meet".into(), &"bracketed".into())
    );
    assert!(z["lower"].as_f64().unwrap() <= truth && truth <= z["upper"].as_f64().unwrap(), "{z} {truth}");
    assert!(z["warning"].is_null() && z["reason"].as_str().unwrap().contains("all starts mix (R̂ 1.0"), "{z}");
    assert_eq!(found["training"], serde_json::json!({ "path": "train.idx", "evaluated": false }));
    let again = json(&run(&[&bracket[..], &["--train", "train.idx", "--threads", "1"]].concat()));
    assert_eq!(&again["log_z"], z, "the number of threads");
    let fewer = json(&run(&[&bracket[..4], &["--train", "train.idx", "--burn-in", "500"]].concat()));
    assert_ne!(&fewer["log_z"], z, "the burn-in");

    // A notice reports rows that serve for both.
    let output = run(&bracket);
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(stderr.starts_with("notice: rows.idx: the evaluated rows also") && stderr.lines().count() == 1);
    let both = serde_json::json!({ "path": "rows.idx", "evaluated": true });
    assert_eq!(json(&output)["training"], both);
    let output = run(&[&bracket[..], &["--train", "rows.idx"]].concat());
    assert!(output.stderr.is_empty(), "{output:?}");
    assert_eq!(json(&output)["training"], both);

    let output = run(&["--log-z", "ais", "--temperatures", "10", "--train", "train.idx"]);
    let found = json(&output);
    let z = &found["log_z"];
    assert_eq!(
        (&z["method"], &z["agreement"], &z["verdict"]),
        (&"ais".into(), &"unchecked".into(), &"lower_bound".into())
    );
    assert!(z["upper"].is_null() && found["log_likelihood"]["lower"].is_null());
    let warning = z["warning"].as_str().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("warning: {warning}\n"));
    let other = json(&run(&["--log-z", "ais", "--temperatures", "10"]));
    assert_ne!(other["log_z"]["estimate"], z["estimate"], "the base rate is that of other rows");
}

/// Chains start in all classes of a sorted file: its last rows are as likely starts as its first ones.
#[test]
fn chains_start_at_rows_of_the_whole_file() {
    // Two valleys of equal depth that no chain leaves.
    let rbm = Rbm::from_parts(shape(10, 10), vec![4.0; 100], vec![-20.0; 10], vec![-20.0; 10]).unwrap();
    let (folder, _) = folder("sorted", &rbm);
    let rows = [vec![0.0; 1000], vec![1.0; 1000]].concat();
    write_rows(&folder.join("sorted.idx"), &rows, &[10]);
    let arguments = ["evaluate", "model.safetensors", "--data", "rows.idx", "--train", "sorted.idx", "--json"];
    let annealing = ["--log-z", "bracket", "--temperatures", "500", "--burn-in", "100"];
    let whole = json(&harmonium(&folder, &[&arguments[..], &annealing].concat()));
    write_rows(&folder.join("sorted.idx"), &rows[..1000], &[10]);
    let half = json(&harmonium(&folder, &[&arguments[..], &annealing].concat()));
    // If all starts were of one class, reverse runs of both files would differ by the base rate only.
    let reverse = |found: &serde_json::Value| found["log_z"]["r_hat"].as_f64().unwrap_or(f64::INFINITY);
    assert!(reverse(&whole) > 1.1 && reverse(&half) > 1.1);
    let truth = log_partition::exact(rbm.view()).unwrap().estimate;
    for found in [&whole, &half] {
        let z = &found["log_z"];
        assert!(z["lower"].as_f64().unwrap() <= truth && truth <= z["upper"].as_f64().unwrap_or(f64::INFINITY), "{z}");
    }
}

#[test]
fn a_bracket_needs_one_row_only() {
    let rbm = random_rbm(shape(10, 6), 1.0, 3);
    let (folder, bits) = folder("one", &rbm);
    write_rows(&folder.join("one.idx"), &bits[..10], &[10]);
    let arguments = ["evaluate", "model.safetensors", "--data", "one.idx", "--log-z", "bracket", "--json"];
    let output = harmonium(&folder, &[&arguments[..], &["--runs", "30", "--temperatures", "2000"]].concat());
    let found = json(&output);
    let (z, truth) = (&found["log_z"], log_partition::exact(rbm.view()).unwrap().estimate);
    assert!(z["lower"].as_f64().unwrap() <= truth && truth <= z["upper"].as_f64().unwrap(), "{z} {truth}");
    assert_eq!((&found["rows"], &z["agreement"]), (&1.into(), &"meet".into()));
    // One row gives no standard error.
    assert_eq!(found["log_likelihood"]["standard_error"], serde_json::Value::Null);
    let arguments = ["evaluate", "model.safetensors", "--data", "one.idx"];
    let text = String::from_utf8(harmonium(&folder, &arguments).stdout).unwrap();
    assert!(text.contains("standard error unknown"), "{text}");
}

/// The training rows lie in one valley and the test rows in another, 3 nats deeper.
#[test]
fn training_rows_do_not_hide_a_valley() {
    let bias = vec![0.15 - 20.0; 10];
    let rbm = Rbm::from_parts(shape(10, 10), vec![4.0; 100], bias.clone(), bias).unwrap();
    let (folder, _) = folder("valleys", &rbm);
    write_rows(&folder.join("train-images-idx3-ubyte"), &[0.0; 400], &[2, 5]);
    write_rows(&folder.join("t10k-images-idx3-ubyte"), &[1.0; 200], &[2, 5]);
    let arguments = ["evaluate", "model.safetensors", "--data", ".", "--log-z", "bracket", "--json"];
    let output = harmonium(&folder, &arguments);
    let found = json(&output);
    let (z, likelihood) = (&found["log_z"], &found["log_likelihood"]);
    let truth = log_partition::exact(rbm.view()).unwrap().estimate;
    assert!(z["lower"].as_f64().unwrap() <= truth && truth <= z["upper"].as_f64().unwrap(), "{z} {truth}");
    assert_eq!((&z["verdict"], found["training"]["path"].as_str()), (&"bracketed".into(), Some(".")));
    let (mean, upper) = (likelihood["mean"].as_f64().unwrap(), likelihood["upper"].as_f64().unwrap());
    assert!(-0.5 < mean && mean <= 0.0 && upper <= 0.0, "{likelihood}");
}

/// Some training rows lie in a valley so narrow that annealing never reaches it.
#[test]
fn an_unknown_upper_end_is_not_printed() {
    let weights = (0..320).map(|k| if k / 8 % 2 == 0 { 3.0 } else { -3.0 }).collect();
    let rbm = Rbm::from_parts(shape(40, 8), weights, vec![0.0; 40], vec![-55.5; 8]).unwrap();
    let (folder, _) = folder("narrow", &rbm);
    let hole: Vec<f32> = (0..10 * 40).map(|k| if k % 2 == 0 { 1.0 } else { 0.0 }).collect();
    write_rows(&folder.join("train.idx"), &[random_bits(30 * 40, 0.5, 3), hole].concat(), &[40]);
    let arguments =
        ["evaluate", "model.safetensors", "--data", "rows.idx", "--train", "train.idx", "--log-z", "bracket"];
    let short = ["--temperatures", "100", "--burn-in", "1000"];
    let output = harmonium(&folder, &[&arguments[..], &short, &["--json"]].concat());
    let found = json(&output);
    let (z, likelihood) = (&found["log_z"], &found["log_likelihood"]);
    let truth = log_partition::exact(rbm.view()).unwrap().estimate;
    assert_eq!((&z["verdict"], &z["agreement"]), (&"lower_bound".into(), &"divided".into()), "{z}");
    assert!(z["lower"].as_f64().unwrap() <= truth && z["upper"].is_null() && likelihood["lower"].is_null(), "{found}");
    let warning = z["warning"].as_str().unwrap();
    assert_eq!((z["reason"].as_str(), warning.contains("it is unknown how much")), (Some(warning), true));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("warning: {warning}\n"));
    let text = String::from_utf8(harmonium(&folder, &[&arguments[..], &short].concat()).stdout).unwrap();
    assert!(
        text.contains(" at least ") && text.contains("lower_bound: chains") && text.contains(" at most "),
        "{text}"
    );
}

/// The chains use random numbers of another purpose than those of `train`. The comparison with fresh chains continues their sequence.
#[test]
fn diagnose_draws_other_numbers_than_training() {
    let rbm = random_rbm(shape(10, 6), 0.5, 3);
    let (folder, bits) = folder("purpose", &rbm);
    let arguments = ["diagnose", "model.safetensors", "--data", "rows.idx", "--chains", "8", "--steps", "50", "--json"];
    let found = json(&harmonium(&folder, &arguments));

    let resident = rbm.on(Cpu::detect().unwrap()).unwrap();
    let order = Uniforms::new(123, Purpose::Shuffling).permutation(60);
    let starts: Vec<f32> = order[..4].iter().flat_map(|row| bits[row * 10..][..10].to_vec()).collect();
    let draws = Uniforms::new(123, Purpose::Diagnosis);
    let at_data = Chains::from_visible(&resident, rows(&starts, 10), draws).unwrap();
    let ChainState { mut hidden, uniforms, .. } = at_data.state().unwrap();
    hidden.resize(8, 0);
    let state = ChainState { hidden, betas: vec![1.0; 8], uniforms };
    let mut chains = Chains::from_state(resident.device(), rbm.shape(), &state).unwrap();
    let mut recorder = Recorder::new(&resident, &chains, 0);
    chains.sweep(&resident, 50).unwrap();
    for _ in 0..50 {
        chains.sweep(&resident, 1).unwrap();
        recorder.record(&resident, &chains).unwrap();
    }
    near(&found["statistics"][0]["mean"], recorder.health().unwrap().statistics[0].mean);
    let state = chains.state().unwrap();
    let half = ChainState { hidden: state.hidden[4..].to_vec(), betas: vec![1.0; 4], ..state.clone() };
    let mut half = Chains::from_state(resident.device(), rbm.shape(), &half).unwrap();
    half.sweep(&resident, 1).unwrap();
    let mut visible = harmonium::Activations::default();
    half.visible(&resident, &mut visible).unwrap();
    let energies = resident.free_energy(rows(&visible.sample, 10)).unwrap();
    near(&found["equilibrium_gap"]["persistent"], energies.iter().sum::<f64>() / 4.0);
}

#[test]
fn diagnose_reports_chain_statistics() {
    let rbm = random_rbm(shape(10, 6), 0.5, 3);
    let (folder, _) = folder("diagnose", &rbm);
    let arguments = ["diagnose", "model.safetensors", "--data", "rows.idx", "--steps", "2000", "--plot", "trace.svg"];
    let output = harmonium(&folder, &[&arguments[..], &["--json"]].concat());
    let found = json(&output);
    assert!(output.stderr.is_empty(), "{output:?}");
    assert_eq!((&found["chains"], &found["steps"]), (&20.into(), &2000.into()));
    assert_eq!(found["warnings"], serde_json::json!([]));
    let energy = &found["statistics"][0];
    assert_eq!(energy["name"], "free energy");
    assert!(energy["r_hat"].as_f64().unwrap() < 1.01 && energy["autocorrelation_time"].as_f64().unwrap() < 20.0);
    assert!(fs::read_to_string(folder.join("trace.svg")).unwrap().ends_with("</svg>\n"));
    let text = String::from_utf8(harmonium(&folder, &arguments).stdout).unwrap();
    assert!(text.contains("equilibrium gap") && text.contains("bulk ESS"), "{text}");

    // Two valleys that no chain leaves.
    let rbm = Rbm::from_parts(shape(10, 10), vec![4.0; 100], vec![-19.9; 10], vec![-19.9; 10]).unwrap();
    let (folder, _) = self::folder("stuck", &rbm);
    let output = harmonium(&folder, &arguments);
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("have not mixed"));
}

#[test]
fn wrong_arguments_give_one_line() {
    let rbm = random_rbm(shape(40, 30), 0.5, 3);
    let (folder, _) = folder("wrong", &rbm);
    let other = random_rbm(shape(9, 5), 0.5, 3);
    model::save(other.view(), &folder.join("other.safetensors")).unwrap();
    for (arguments, status, says) in [
        (vec!["evaluate", "model.safetensors", "--data", "rows.idx", "--log-z", "exact"], 1, "2^30 states"),
        (vec!["evaluate", "other.safetensors", "--data", "rows.idx"], 1, "rows of 9 values"),
        (vec!["diagnose", "other.safetensors", "--data", "rows.idx"], 1, "rows of 9 values"),
        (vec!["evaluate", "model.safetensors", "--data", "rows.idx", "--runs", "1"], 2, "at least 2"),
        (
            vec!["evaluate", "model.safetensors", "--data", "rows.idx", "--split", "test"],
            1,
            "--split: expected a folder",
        ),
        (
            vec!["evaluate", "model.safetensors", "--data", "rows.idx", "--log-z", "bracket", "--train", "none"],
            1,
            "found nothing; put them there or give --train PATH",
        ),
        (vec!["evaluate", "none.safetensors", "--data", "rows.idx"], 1, "none.safetensors"),
        (vec!["diagnose", "model.safetensors", "--data", "rows.idx", "--steps", "3"], 2, "at least 4"),
    ] {
        let output = harmonium(&folder, &arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(says) && stderr.lines().count() == 1, "{stderr}");
    }
}

/// Bits in bytes of 0 and 1 have the likelihood of the same bits as 0 and 255. A notice reports them as bits.
#[test]
fn bytes_of_0_and_1_are_bits() {
    let rbm = random_rbm(shape(10, 6), 1.0, 3);
    let (folder, bits) = folder("bytes", &rbm);
    let mut idx = [0, 0, 8, 2, 0, 0, 0, 60, 0, 0, 0, 10].to_vec();
    idx.extend(bits.iter().map(|&x| x as u8));
    fs::write(folder.join("bits.idx"), idx).unwrap();
    let [grey, bytes] = ["rows.idx", "bits.idx"].map(|data| {
        harmonium(&folder, &["evaluate", "model.safetensors", "--data", data, "--json", "--log-z", "exact"])
    });
    assert_eq!(json(&grey)["log_likelihood"], json(&bytes)["log_likelihood"]);
    let said = String::from_utf8(bytes.stderr).unwrap();
    assert_eq!(said, "notice: bits.idx: 60 × 10, eight-bit, values 0 to 1: bits\n");
    let options =
        ["train", "--data", "bits.idx", "--epochs", "1", "--hidden", "4", "--likelihood", "off", "--samples", "0"];
    for (more, expected) in [(&["--quiet"][..], 0), (&[], 1)] {
        let said = String::from_utf8(harmonium(&folder, &[&options, more].concat()).stderr).unwrap();
        assert_eq!(
            said.matches("notice: bits.idx: 60 × 10, eight-bit, values 0 to 1: bits\n").count(),
            expected,
            "{said}"
        );
    }
}
