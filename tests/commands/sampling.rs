//! Samples as arrays, conditional samples, classes, tempering and imputation through the command.

use crate::oracle::{
    exact::{log_sum_exp, state},
    generator,
    laws::{Laws, random_laws},
    program::{empty_folder, fine, run},
    uniform,
};
use harmonium::{
    Rbm, Scale, Shape,
    model::{self, Extras},
    npy,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

fn folder(name: &str) -> PathBuf {
    empty_folder(&["sampling", name])
}

/// The notices of a successful run.
#[track_caller]
fn notices(folder: &Path, arguments: &str) -> String {
    let (status, _, stderr) = run(folder, arguments);
    assert_eq!(status, 0, "{arguments}: {stderr}");
    stderr
}

/// Reads an array that the command wrote.
fn array(path: PathBuf) -> Vec<f32> {
    let bytes = fs::read(path).expect("an array");
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]])) + 10;
    bytes[header..].as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect()
}

/// Reads a table that the command wrote.
fn table(path: PathBuf) -> Vec<f32> {
    let text = fs::read_to_string(path).expect("a table");
    text.lines().flat_map(|line| line.split(',').map(|x| x.parse().expect("a number")).collect::<Vec<_>>()).collect()
}

const PATTERNS: [[u8; 20]; 2] = [
    [1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0],
    [0, 0, 1, 1, 1, 0, 0, 1, 1, 0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1],
];

/// Rows of the two patterns in turn, one value in fifty wrong.
fn patterns(rows: usize) -> Vec<f32> {
    let mut draws = generator(1);
    let value = |n: usize| {
        let right = PATTERNS[n / 20 % 2][n % 20];
        f32::from(if uniform(&mut draws) < 0.02 { 1 - right } else { right })
    };
    (0..20 * rows).map(value).collect()
}

/// A folder with a model of the patterns.
fn learned(name: &str) -> PathBuf {
    let folder = folder(name);
    npy::save(&patterns(1000), 20, &folder.join("patterns.npy")).expect("data");
    let train = "train --quiet --data patterns.npy --hidden 20 --batch-size 50 --epochs 100 --lr 0.05 --k 1";
    fine(&folder, &format!("{train} --samples 0 --image 4x5 --out out"));
    folder
}

/// The fraction of a column's values that agree with the alternating patterns.
fn right(values: &[f32], column: usize) -> f64 {
    let rows = values.len() / 20;
    let is_right = |r: &usize| (values[r * 20 + column] > 0.5) == (PATTERNS[r % 2][column] == 1);
    (0..rows).filter(is_right).count() as f64 / rows as f64
}

#[test]
fn one_half_of_a_pattern_determines_the_other() {
    let folder = learned("halves");
    let first: Vec<f32> = (0..400).flat_map(|r| PATTERNS[r % 2][..10].iter().map(|&x| f32::from(x))).collect();
    npy::save(&first, 10, &folder.join("first.npy")).expect("rows");
    let sample = "sample out/model.safetensors --clamp 0-9=first.npy --rows 2 --steps 50";
    assert!(notices(&folder, &format!("{sample} --out s.npy")).contains("chains start at random hidden states"));
    let samples = array(folder.join("s.npy"));
    assert_eq!(samples.len(), 2 * 400 * 20);
    for column in 0..20 {
        let right = right(&samples, column);
        assert!(if column < 10 { right == 1.0 } else { right >= 0.95 }, "column {column}: {right}");
    }
    // The second half, by values; one pattern for all chains.
    let values: Vec<String> = PATTERNS[1][10..].iter().map(u8::to_string).collect();
    fine(
        &folder,
        &format!(
            "sample out/model.safetensors --start random --clamp 10-19={} --rows 5 --steps 50 --out t.csv",
            values.join(",")
        ),
    );
    let samples = table(folder.join("t.csv"));
    for column in 0..20 {
        let is_right = |row: &&[f32]| row[column] == f32::from(PATTERNS[1][column]);
        let right = samples.chunks_exact(20).filter(is_right).count() as f64 / 100.0;
        assert!(right >= 0.95, "column {column}: {right}");
    }
    // Half of each row is missing, except for every third row, which is complete.
    let mut rows = patterns(300);
    for (r, row) in rows.chunks_exact_mut(20).enumerate() {
        let half = if r % 4 < 2 { 0..10 } else { 10..20 };
        row[if r % 3 == 0 { 0..0 } else { half }].fill(f32::NAN);
    }
    npy::save(&rows, 20, &folder.join("holes.npy")).expect("rows");
    let impute = "impute out/model.safetensors --data holes.npy --draws 50 --burn-in 20";
    fine(&folder, &format!("{impute} --out full.npy --threads 1"));
    let full = array(folder.join("full.npy"));
    let (mut right, mut all) = (vec![0.0; 20], vec![0.0; 20]);
    for (n, (&x, &was)) in full.iter().zip(&rows).enumerate() {
        if was.is_nan() {
            all[n % 20] += 1.0;
            right[n % 20] += f64::from((x > 0.5) == (PATTERNS[n / 20 % 2][n % 20] == 1));
            assert!((0.0..=1.0).contains(&x));
        } else {
            assert_eq!(x.to_bits(), was.to_bits());
        }
    }
    assert!(right.iter().zip(&all).all(|(right, all)| right / all >= 0.95 && *all >= 90.0), "{right:?} of {all:?}");
    // Other numbers of threads and fewer rows change nothing, and text has the same numbers.
    fine(&folder, &format!("{impute} --out full.csv --threads 3"));
    assert_eq!(table(folder.join("full.csv")), full);
    npy::save(&rows[..20 * 70], 20, &folder.join("some.npy")).expect("rows");
    fine(&folder, &impute.replace("holes", "some").replace("--draws", "--out some-full.npy --draws"));
    assert_eq!(array(folder.join("some-full.npy")), full[..20 * 70]);
    // Nothing to do.
    assert!(notices(&folder, &impute.replace("holes", "patterns")).contains("no value is missing"));
}

/// Rows of scaled numbers, bits and categories: known values keep their bits, and imputed means agree with the exact ones. Rows are
/// independent, so the variance between their means gives the standard error of the overall mean.
#[test]
fn imputed_values_are_the_conditional_means() {
    let folder = folder("means");
    let laws = "binary:2,potts:1x3,gaussian:2";
    let rbm = random_laws(laws, 3, 1.2, 5);
    let scale = Scale::from_parts(vec![0.0, 0.0, 0.0, 0.0, 0.0, 10.0, -3.0], vec![1.0, 1.0, 1.0, 1.0, 1.0, 2.5, 0.1])
        .expect("a scale");
    model::save_with(rbm.view(), &Extras::new(Some(scale.clone()), Vec::new()), &folder.join("m")).expect("a model");
    let nan = f32::NAN;
    let row = [1.0, nan, nan, nan, nan, 12.3, nan];
    let n = 640;
    npy::save(&row.repeat(n), 7, &folder.join("rows.npy")).expect("rows");
    fine(&folder, "impute m --data rows.npy --draws 100 --burn-in 50 --out full.npy");
    let full = array(folder.join("full.npy"));
    let model = Laws::of(&rbm);
    let held = [1.0, (12.3f32 - 10.0) as f64 / 2.5];
    let log = |h: usize| {
        let h = state(h, 3);
        let pre = model.visible_pre(&h).0;
        let given = held[0] * pre[0] + model.s[5] * held[1] * pre[5];
        let rest = (1.0 + pre[1].exp()).ln() + log_sum_exp(&pre[2..5]) + model.s[6] * pre[6].powi(2) / 2.0;
        given + rest + (0..3).map(|j| model.c(j) * h[j]).sum::<f64>()
    };
    let logs: Vec<f64> = (0..8).map(log).collect();
    let all = log_sum_exp(&logs);
    for i in 0..7 {
        let values: Vec<f64> = full.iter().skip(i).step_by(7).map(|&x| f64::from(x)).collect();
        if !row[i].is_nan() {
            assert!(values.iter().all(|&x| x == f64::from(row[i])));
            continue;
        }
        let of = |h: usize| (logs[h] - all).exp() * model.means(&model.visible_pre(&state(h, 3)).0)[i];
        let expected = f64::from(scale.mean()[i]) + f64::from(scale.deviation()[i]) * (0..8).map(of).sum::<f64>();
        let mean = values.iter().sum::<f64>() / n as f64;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
        let z = (mean - expected) / (variance / n as f64).sqrt();
        // A normal number exceeds it in size with probability 1e-6.
        assert!(z.abs() < 4.9, "{i}: {mean} of {expected}, z {z}");
    }
    assert!(full.chunks_exact(7).all(|row| (row[2..5].iter().sum::<f32>() - 1.0).abs() < 1e-5));
}

#[test]
fn samples_are_arrays_and_images() {
    let folder = folder("forms");
    let rbm = random_laws("binary:9,potts:1x4", 5, 1.0, 6);
    model::save(rbm.view(), &folder.join("m")).expect("a model");
    let sample = "sample m --start random --chains 6 --rows 3 --steps 5";
    fine(&folder, &format!("{sample} --class 2 --out s.npy --threads 1"));
    let samples = array(folder.join("s.npy"));
    assert!(samples.len() == 18 * 13 && samples.chunks_exact(13).all(|row| row[9..] == [0.0, 0.0, 1.0, 0.0]));
    assert!(samples.iter().all(|&x| x == 0.0 || x == 1.0));
    fine(&folder, &format!("{sample} --clamp 9-12=2 --out s.csv --threads 2"));
    assert_eq!(table(folder.join("s.csv")), samples);
    fine(&folder, &format!("{sample} --means --out m.npy"));
    let means = array(folder.join("m.npy"));
    assert!(means.iter().any(|&x| x != 0.0 && x != 1.0));
    assert!(means.chunks_exact(13).all(|row| (row[9..].iter().sum::<f32>() - 1.0).abs() < 1e-5));
    // Images show means unless --bits is given; 3 × 3 pixels without the label.
    fine(&folder, &format!("{sample} --out m.png"));
    fine(&folder, &format!("{sample} --means --out means.png"));
    fine(&folder, &format!("{sample} --bits --out bits.png"));
    let read = |name: &str| fs::read(folder.join(name)).expect("a picture");
    assert!(read("m.png") == read("means.png") && read("m.png") != read("bits.png"));
    // Without data, chains start at random, with a notice. Data that do not fit give a notice too.
    assert_eq!(
        notices(&folder, "sample m --rows 1 --steps 1"),
        "notice: chains start at random hidden states: data/mnist does not exist, and neither --data nor --start is given\n"
    );
    fs::create_dir_all(folder.join("data/mnist")).expect("a folder");
    assert!(
        notices(&folder, "sample m --rows 1 --steps 1")
            .starts_with("notice: chains start at random hidden states: data/mnist: expected")
    );
    // Rows of another file.
    npy::save(&samples, 13, &folder.join("starts.npy")).expect("rows");
    assert_eq!(notices(&folder, "sample m --start starts.npy --chains 6 --rows 1 --steps 1"), "");
    let outside = run(&folder, "sample m --class 4");
    assert_eq!(
        (outside.0, outside.2.as_str()),
        (1, "error: --class: expected a class from 0 to 3, a state of potts:1x4, found 4\n")
    );
    let part = run(&folder, "sample m --clamp 8-10=1");
    assert_eq!(
        (part.0, part.2.as_str()),
        (
            1,
            "error: --clamp: expected whole sites of potts:1x4, such as 9-12, found column 9 without the whole site in order\n"
        )
    );
    let rbm = random_laws("binary:6", 5, 1.0, 6);
    model::save(rbm.view(), &folder.join("oblong")).expect("a model");
    let (status, _, stderr) = run(&folder, "sample oblong --start random");
    let expected = "error: --image: expected height and width of the images, as 6 values a row are not a square; \
                    or --out with a name that ends with .npy or .csv, found none\n";
    assert_eq!((status, stderr.as_str()), (1, expected));
}

/// Two modes that no plain chain leaves: all units on, of weight e³, and all off.
#[test]
fn tempered_chains_leave_their_mode() {
    let folder = folder("modes");
    let weights = (0..16 * 16).map(|at| if at % 16 == 0 { 20.0 } else { 0.0 }).collect();
    let mut hidden = vec![0.0; 16];
    hidden[0] = -160.0;
    let rbm = Rbm::from_parts(Shape::new(16, 16).expect("a shape"), weights, vec![-10.0; 16], hidden).expect("a model");
    model::save(rbm.view(), &folder.join("m")).expect("a model");
    let sample = "sample m --start random --chains 40 --rows 5 --steps 50 --clamp 0=1";
    fine(&folder, &format!("{sample} --out plain.csv"));
    assert!(
        table(folder.join("plain.csv")).chunks_exact(16).all(|row| row[0] == 1.0 && row[1..].iter().sum::<f32>() < 4.0)
    );
    let said = notices(&folder, &format!("{sample} --temper 8 --out tempered.csv"));
    assert!(said.starts_with("notice: ") && said.contains(" inverse temperatures from 1 to 0.000, "), "{said}");
    let tempered = table(folder.join("tempered.csv"));
    // Given that unit 0 is on, all on and all off have the weights e^(-160 + 10 + 15·10) and e^-10. The probability that three of
    // 200 samples are off is below 200³·(5e-5)³ = 1e-6.
    let on = tempered.chunks_exact(16).filter(|row| row.iter().sum::<f32>() > 8.0).count();
    assert!(on >= 198 && tempered.chunks_exact(16).all(|row| row[0] == 1.0), "{on} of 200");
}
