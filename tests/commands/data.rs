//! Data formats through the command: the same digits in every format, labels, scales, notices and errors.

use crate::oracle::program::{command, fine, folder, outcome, run, write_data};
use harmonium::{
    Dataset,
    formats::{
        Reading,
        npz::{self, Array},
    },
    model, npy,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

const TRAIN: &str = "train --quiet --hidden 8 --epochs 2 --batch-size 10 --samples 0";

/// A folder with the digits.
fn digits(name: &str) -> PathBuf {
    let folder = folder(name);
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/digits");
    for entry in fs::read_dir(from).expect("digits") {
        let path = entry.expect("a file").path();
        fs::copy(&path, folder.join(path.file_name().expect("a name"))).expect("a copy");
    }
    folder
}

#[track_caller]
fn fails(folder: &Path, arguments: &str, status: i32, message: &str) {
    let (found, stdout, stderr) = run(folder, arguments);
    assert_eq!((found, stdout.as_str(), stderr.as_str()), (status, "", &*format!("error: {message}\n")), "{arguments}");
}

fn model_bytes(folder: &Path, data: &str) -> Vec<u8> {
    fine(folder, &format!("{TRAIN} {data} --out out"));
    fs::read(folder.join("out/model.safetensors")).expect("a model")
}

#[test]
fn every_format_trains_the_same_model() {
    let folder = digits("formats");
    let plain = model_bytes(&folder, "--data f8.npy --scale max");
    for data in ["big-endian-fortran.npy", "pictures.npy", "channels.npy", "digits.npz", "digits.svm"] {
        let data = format!("--data {data} --scale max");
        assert!(model_bytes(&folder, &data) == plain, "{data}");
    }
    let labelled = model_bytes(&folder, "--data f8.npy --labels labels.npy --scale max");
    for data in [
        "digits.npz --labels own",
        "digits.npz --array X --labels own",
        "digits.svm --labels own",
        "digits.csv --label-column -1",
    ] {
        let data = format!("--data {data} --scale max");
        assert!(model_bytes(&folder, &data) == labelled, "{data}");
    }
    let (rbm, extras) = model::load_with(&folder.join("out/model.safetensors")).expect("a model");
    assert_eq!(rbm.shape().visible().to_string(), "binary:64,potts:1x10");
    assert_eq!(extras.labels, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let scale = extras.scale.expect("a scale");
    assert_eq!((scale.mean(), scale.deviation()), (&[0.0; 74][..], &[[16.0; 64].as_slice(), &[1.0; 10]].concat()[..]));
}

/// Each path selects its own array of an archive, and an array its own labels.
#[test]
fn one_archive_has_all_parts() {
    let folder = folder("parts");
    let part = |from: usize, rows: usize| Array {
        shape: vec![rows, 6],
        values: (6 * from..6 * (from + rows)).map(|n| f32::from(u8::from(n * n % 5 < 2))).collect(),
    };
    let labels = |from: usize, rows: usize| Array {
        shape: vec![rows],
        values: (from..from + rows).map(|r| f32::from(u8::from(r % 3 == 0))).collect(),
    };
    let arrays = [
        ("x_train", part(0, 40)),
        ("y_train", labels(0, 40)),
        ("x_test", part(40, 20)),
        ("y_test", labels(40, 20)),
        ("more_data", part(60, 40)),
    ];
    npz::save(&arrays, &folder.join("all.npz")).expect("written");
    npz::save(&[("a", part(0, 40)), ("y", labels(0, 40))], &folder.join("train.npz")).expect("written");
    npz::save(&[("a", part(40, 20)), ("y", labels(40, 20))], &folder.join("test.npz")).expect("written");
    let whole = model_bytes(&folder, "--data train.npz:a --labels own --validation test.npz --array a --likelihood on");
    let log = fs::read(folder.join("out/log.csv")).expect("a log");
    let parts = model_bytes(&folder, "--data all.npz --labels own --validation all.npz:x_test --likelihood on");
    assert!(parts == whole);
    // Without the seconds of each line.
    let figures = |log: &[u8]| {
        let text = String::from_utf8(log.to_vec()).expect("text");
        let fields =
            |line: &str| line.split(',').enumerate().filter(|(n, _)| *n != 3).map(|(_, x)| x.to_string()).collect();
        text.lines().map(fields).collect::<Vec<Vec<_>>>()
    };
    assert_eq!(figures(&log), figures(&fs::read(folder.join("out/log.csv")).expect("a log")));
    let classify = |data: &str| run(&folder, &format!("classify out/model.safetensors --data {data} --json")).1;
    let (all, test) = (classify("all.npz:x_test"), classify("test.npz:a"));
    assert_eq!(all.replace("all.npz:x_test", "FILE"), test.replace("test.npz:a", "FILE"));
    assert!(all.contains("accuracy"), "{all}");
    // Labels in another array do not count, although their number fits.
    fine(&folder, "transform out/model.safetensors --data all.npz:more_data --out h.npy");
    let message =
        "all.npz: expected an array of labels, more_labels, found x_train, y_train, x_test, y_test, more_data";
    fails(&folder, "train --data all.npz:more_data --labels own --out out", 1, message);
    fails(
        &folder,
        "train --data all.npz:x --out out",
        1,
        "all.npz: expected an array x, found x_train, y_train, x_test, y_test, more_data",
    );
}

/// Missing values in any format give the same model. The likelihood is off, and options that need it are errors.
#[test]
fn rows_with_missing_values_are_trained_on() {
    let folder = folder("missing-rows");
    let is_missing = |n: usize| n % 7 == 3;
    let bit = |n: usize| f32::from(u8::from(n * n % 5 < 2));
    let rows = |missing: f32| (0..240).map(|n| if is_missing(n) { missing } else { bit(n) }).collect::<Vec<_>>();
    let text = |missing: &str| -> String {
        let field = |n: usize| if is_missing(n) { missing.to_string() } else { bit(n).to_string() };
        (0..40).map(|r| format!("{}\n", (6 * r..6 * r + 6).map(field).collect::<Vec<_>>().join(","))).collect()
    };
    npy::save(&rows(f32::NAN), 6, &folder.join("nan.npy")).expect("written");
    npy::save(&rows(0.0), 6, &folder.join("zero.npy")).expect("written");
    fs::write(folder.join("empty.csv"), text("")).expect("written");
    fs::write(folder.join("na.csv"), text("NA")).expect("written");
    let usual = "--validation none --visible binary:6";
    let model = model_bytes(&folder, &format!("--data nan.npy {usual}"));
    for data in ["empty.csv", "na.csv", "nan.npy --likelihood off"] {
        assert!(model_bytes(&folder, &format!("--data {data} {usual}")) == model, "{data}");
    }
    assert!(model_bytes(&folder, &format!("--data zero.npy {usual}")) != model);
    let train = TRAIN.replace("--quiet ", "") + " --data nan.npy --visible binary:6 --validation 0.25 --out out";
    let (status, _, stderr) = run(&folder, &train);
    assert!(
        status == 0
            && stderr.contains("notice: nan.npy: some values are missing; training does not estimate the likelihood\n")
    );
    for (option, expected, found) in
        [("--likelihood", "off", "on"), ("--keep", "last", "best"), ("--patience", "none", "3")]
    {
        let message = format!(
            "{option}: expected {expected}, as training does not estimate the likelihood of rows with missing values, found {found}"
        );
        fails(&folder, &format!("{train} --quiet {option} {found}"), 1, &message);
    }
}

/// Other commands apply the scale of training and find the labels; samples are unscaled.
#[test]
fn a_model_with_labels_and_scale_is_used() {
    let folder = digits("used");
    fine(&folder, &format!("{TRAIN} --data digits.csv --label-column -1 --scale minmax --out out"));
    let evaluate = "evaluate out/model.safetensors --log-z exact --json";
    let (status, whole, stderr) = run(&folder, &format!("{evaluate} --data digits.csv --label-column 64"));
    assert_eq!((status, &*stderr), (0, "notice: digits.csv: 40 × 64, commas between fields, no header\n"));
    let (status, same, stderr) = run(&folder, &format!("{evaluate} --data f8.npy --labels labels.npy"));
    assert_eq!((status, &*stderr), (0, ""));
    let numbers = |text: &str| text.lines().filter(|line| !line.contains("seconds")).collect::<Vec<_>>().join("\n");
    assert_eq!(numbers(&whole), numbers(&same));
    // The labels of an svmlight file need no option.
    let (status, same, _) = run(&folder, &format!("{evaluate} --data digits.svm"));
    assert_eq!((status, numbers(&same)), (0, numbers(&whole)));
    fine(&folder, "sample out/model.safetensors --data digits.svm --chains 5 --rows 2 --steps 3 --out samples.npy");
    let samples = npy_values(&folder.join("samples.npy"));
    for row in samples.chunks_exact(74) {
        assert!(row[..64].iter().all(|&x| (0.0..=16.0).contains(&x)), "{row:?}");
        assert_eq!((row[64..].iter().sum::<f32>(), row[64..].iter().filter(|&&x| x == 1.0).count()), (1.0, 1));
    }
    assert!(samples.iter().any(|&x| x > 1.0), "samples are as the data");
    assert!(fine(&folder, "info out/model.safetensors").contains("\nlabels 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n"));
    // Values outside of the scale are clipped and counted.
    let how = Reading { as_numbers: true, ..Reading::default() };
    let mut rows = how.open(folder.join("f8.npy")).expect("digits").rows.rows().to_vec();
    rows.truncate(128);
    (rows[2], rows[3], rows[70]) = (-5.0, 99.0, 99.0);
    npy::save(&rows, 64, &folder.join("others.npy")).expect("data");
    fs::write(folder.join("two.txt"), "label\n3\n7\n").expect("labels");
    let (status, _, stderr) = run(&folder, &format!("{evaluate} --data others.npy --labels two.txt"));
    let moved = "notice: others.npy: 3 values outside of the model's scale were clipped to 0 or 1\n";
    assert_eq!((status, stderr.contains(moved)), (0, true), "{stderr}");
    fs::write(folder.join("two.txt"), "3\n11\n").expect("labels");
    let names = "0, 1, 2, 3, 4, 5, 6, 7, 8, 9";
    fails(
        &folder,
        &format!("{evaluate} --data others.npy --labels two.txt"),
        1,
        &format!("others.npy: expected labels of {names}, found 11 in row 1"),
    );
}

fn npy_values(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).expect("an array");
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]])) + 10;
    bytes[header..].as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect()
}

/// Scale and labels survive a resumed run and `--init MODEL`.
#[test]
fn runs_with_labels_and_scale_resume() {
    let folder = digits("go-on");
    for data in ["--data digits.csv --label-column -1 --scale minmax", "--data digits.npz --labels own --scale max"] {
        fine(&folder, &format!("{TRAIN} {data} --validation 0.25 --out whole"));
        let _ = fs::remove_dir_all(folder.join("parts"));
        fine(&folder, &format!("{TRAIN} {data} --validation 0.25 --stop-after 2 --out parts"));
        fine(&folder, "train --quiet --resume parts --samples 0");
        assert!(outcome(&folder.join("parts")) == outcome(&folder.join("whole")), "{data}");
        let of = |out: &str| model::load_with(&folder.join(out).join("model.safetensors")).expect("a model");
        let (rbm, extras) = of("whole");
        let (words, _) = data.split_once(" --scale").expect("a scale");
        fine(&folder, &format!("{TRAIN} {words} --init whole/model.safetensors --out on"));
        let (next, same) = of("on");
        assert_eq!((next.shape(), same), (rbm.shape(), extras), "{data}");
    }
}

/// MNIST's labels become the last site.
#[test]
fn labels_of_a_folder() {
    let folder = folder("mnist");
    fs::create_dir(folder.join("mnist")).expect("a folder");
    for (set, rows) in [("train", 30u32), ("t10k", 20)] {
        write_data(&folder.join(format!("mnist/{set}-images-idx3-ubyte")), &[rows, 4, 4], 3);
        let labels: Vec<u8> = (0..rows).map(|row| (row % 3) as u8).collect();
        let labels = [&[0, 0, 8, 1][..], &rows.to_be_bytes(), &labels].concat();
        fs::write(folder.join(format!("mnist/{set}-labels-idx1-ubyte")), labels).expect("labels");
    }
    fine(&folder, &format!("{TRAIN} --data mnist --labels own --out out"));
    let (rbm, extras) = model::load_with(&folder.join("out/model.safetensors")).expect("a model");
    assert_eq!((rbm.shape().visible().to_string(), extras.labels.len()), ("binary:16,potts:1x3".into(), 3));
    let found = fine(&folder, "evaluate out/model.safetensors --data mnist --log-z exact");
    assert!(found.contains("mnist: 20 rows"), "{found}");
    // The images alone, with labels from another file.
    let labels = "--data mnist/train-images-idx3-ubyte --labels mnist/train-labels-idx1-ubyte";
    fine(&folder, &format!("{TRAIN} {labels} --shuffle off --out other"));
    fine(&folder, &format!("{TRAIN} --data mnist --labels own --shuffle off --out out"));
    let bytes = |out: &str| fs::read(folder.join(out).join("model.safetensors")).expect("a model");
    assert!(bytes("out") == bytes("other"));
}

/// Text labels of real-valued rows, with a notice about the table.
#[test]
fn text_labels_of_real_numbers() {
    let folder = folder("words");
    let rows = (0..30).map(|row| format!("{}.5,{},{}\n", row % 7, row * row % 11, ["setosa", "virginica"][row % 2]));
    fs::write(folder.join("iris.data"), rows.collect::<String>()).expect("data");
    let train =
        "train --hidden 4 --epochs 1 --lr 0.01 --samples 0 --visible gaussian:2 --scale standard --data iris.data";
    let output = command(&folder, &format!("{train} --label-column -1 --out out")).output().expect("started");
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert!(
        output.status.success() && stderr.contains("notice: iris.data: 30 × 2, commas between fields, no header\n"),
        "{stderr}"
    );
    let (rbm, extras) = model::load_with(&folder.join("out/model.safetensors")).expect("a model");
    assert_eq!(rbm.shape().visible().to_string(), "gaussian:2,potts:1x2");
    assert_eq!(extras.labels, ["setosa", "virginica"]);
    // A model without labels ignores the labels of the data.
    fine(&folder, "train --quiet --hidden 4 --epochs 1 --samples 0 --data data --out plain");
    let rows = Dataset::open(folder.join("data")).expect("data").rows().to_vec();
    let text: String = rows
        .chunks_exact(15)
        .map(|row| format!("{},x\n", row.iter().map(f32::to_string).collect::<Vec<_>>().join(",")))
        .collect();
    fs::write(folder.join("data.csv"), text).expect("data");
    fine(&folder, "evaluate plain/model.safetensors --data data.csv --label-column -1 --log-z exact");
}

#[test]
#[rustfmt::skip]
fn what_does_not_fit_is_refused() {
    let folder = digits("refused");
    let train = |options: &str| format!("train --quiet {options}");
    fails(&folder, &train("--data f8.npy"), 1, "f8.npy: expected values within [0, 1], or --scale max or minmax; --visible gaussian:N for real numbers, \
        --visible potts:SITESxSTATES for categories, found 5 in row 0, column 2");
    fails(&folder, &train("--data f8.npy --labels labels.npy --label-column 1"), 2, "the argument '--labels <own|FILE>' cannot be used with '--label-column <N|NAME>'");
    fails(&folder, &train("--data f8.npy --labels nothing.npy --scale max"), 1, "nothing.npy: No such file or directory (os error 2)");
    fails(&folder, &train("--data f8.npy --labels own --scale max"), 1, "f8.npy: expected a file with labels of its own: MNIST's folder, an svmlight file or an npz \
        file with y_train, y, labels or target, found none");
    fails(&folder, &train("--data data --labels labels.npy"), 1, "labels.npy: expected 50 labels, as many as there are rows, found 40");
    fails(&folder, &train("--data f8.npy --label-column 64 --scale max"), 1, "f8.npy: expected labels in one of 64 columns, 0 to 63, found 64");
    fails(&folder, &train("--data f8.npy --label-column class --scale max"), 1, "f8.npy: expected the number of a column, as the file names none, found class");
    fails(&folder, &train("--data f8.npy --label-column 0 --scale max"), 1, "f8.npy: expected at least two different labels, found 1");
    fails(&folder, &train("--data digits.npz --array Z"), 1, "digits.npz: expected an array Z, found X, y");
    fails(&folder, &train("--data f8.npy --array X"), 1, "f8.npy: expected an npz file with an array X, found an npy file");
    fails(&folder, &train("--data f8.npy --visible potts:64x17 --scale max"), 1, "--scale: expected none, as no visible unit of potts:64x17 is binary or Gaussian, found max");
    fails(&folder, &train("--data f8.npy --labels labels.npy --scale max --validation f8.npy"), 1, "f8.npy: expected rows with labels; use --label-column, or \
        --validation PART, found none");
    npy::save(&[3.0, 1.0, -2.0, 4.0, 0.0, 0.5], 3, &folder.join("wide.npy")).expect("data");
    npy::save(&[0.0, 1.0, -2.0, 0.5], 2, &folder.join("below.npy")).expect("data");
    fails(&folder, &train("--data below.npy --scale max"), 1, "below.npy: expected values of at least 0 for --scale max, or any values for --scale minmax, found -2 in row 1, column 0");
    fine(&folder, &train("--data below.npy --scale minmax --hidden 2 --epochs 1 --samples 0 --out below"));
    fails(&folder, &train("--data wide.npy --init below/model.safetensors --label-column 0"), 1, "wide.npy: expected no labels, as the model of --init below/model.safetensors has none, found 2");
}
