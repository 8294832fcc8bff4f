//! Models of other programs.

use super::{
    Table,
    command::{folder, run},
};
use harmonium::{
    Rbm, Shape,
    formats::npz::{self, Archive, Array},
    model,
};
use std::fs;

const SKLEARN: [&str; 3] = ["components_", "intercept_hidden_", "intercept_visible_"];
const RBMS: [&str; 3] = ["weight_matrix", "hbias", "vbias"];

/// Arrays of ones with these names and shapes.
fn ones<'a, const N: usize>(names: [&'a str; N], shapes: [&[usize]; N]) -> Vec<(&'a str, Array)> {
    let array = |shape: &[usize]| Array { shape: shape.to_vec(), values: vec![1.0; shape.iter().product()] };
    names.into_iter().zip(shapes.map(array)).collect()
}

#[cfg(target_os = "linux")]
#[test]
#[rustfmt::skip]
fn models_of_other_programs() {
    let folder = folder("exchange");
    let with = |x: f32, which: usize, at: usize| {
        let mut arrays = ones(SKLEARN, [&[2, 3], &[2], &[3]]);
        arrays[which].1.values[at] = x;
        arrays
    };
    let npz = |name: &str, arrays: Vec<(&str, Array)>| npz::save(&arrays, &folder.join(name)).expect("an archive");
    npz("nothing", vec![]);
    npz("other", ones(["a", "b"], [&[2], &[3]]));
    npz("two", ones(["components_", "intercept_hidden_"], [&[2, 3], &[2]]));
    npz("good", with(1.0, 0, 0));
    npz("more", ones(["components_", "h_samples_", "intercept_hidden_", "intercept_visible_"], [&[2, 3], &[9, 2], &[2], &[3]]));
    npz("flat", ones(SKLEARN, [&[6], &[2], &[3]]));
    npz("deep", ones(SKLEARN, [&[2, 3, 1], &[2], &[3]]));
    npz("transposed", ones(SKLEARN, [&[3, 2], &[2], &[3]]));
    npz("row", ones(SKLEARN, [&[2, 3], &[1, 2], &[3]]));
    npz("column", ones(SKLEARN, [&[2, 3], &[2], &[3, 1]]));
    npz("no-units", ones(RBMS, [&[0, 2], &[2], &[0]]));
    npz("rbms-transposed", ones(RBMS, [&[2, 3], &[2], &[3]]));
    npz("nan", with(f32::NAN, 0, 5));
    npz("inf", with(f32::INFINITY, 1, 1));
    npz("minus-inf", with(f32::NEG_INFINITY, 2, 0));
    fs::write(folder.join("text"), "hello").expect("a file");
    let good = fs::read(folder.join("good")).expect("an archive");
    fs::write(folder.join("cut"), &good[..good.len() / 2]).expect("a file");
    // The first array's header, with a type that is not numeric; the archive's checksums are checked at the end.
    let at = good.windows(3).position(|bytes| bytes == b"<f4").expect("a type");
    let other_type = [&good[..at], b"<O8", &good[at + 3..]].concat();
    fs::write(folder.join("objects"), other_type).expect("a file");
    let mixed = Rbm::new(Shape::with_visible("binary:3,potts:1x2".parse().expect("laws"), 2).expect("a shape"), 1);
    model::save(mixed.view(), &folder.join("mixed.safetensors")).expect("a model");
    let (status, stderr) = run(&folder, "import good --out good.safetensors");
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(run(&folder, "import more"), (0, String::new()));

    let (sklearn, rbms) = ("components_, intercept_hidden_, intercept_visible_", "weight_matrix, hbias, vbias");
    let cases: Vec<(&str, i32, String)> = vec![
        ("import", 2, "the following required arguments were not provided: <FILE>".into()),
        ("import good --format torch", 2, "invalid value 'torch' for '--format <NAME>': expected one of sklearn, rbms".into()),
        ("import missing", 1, "missing: No such file or directory (os error 2)".into()),
        ("import /dev/zero", 1, "/dev/zero: expected a regular file, found a device or a pipe".into()),
        ("import .", 1, ".: Is a directory (os error 21)".into()),
        ("import text", 1, "text: expected a zip archive of npy arrays, found invalid Zip archive: Could not find EOCD".into()),
        ("import cut", 1, "cut: expected a zip archive of npy arrays, found invalid Zip archive: Could not find EOCD".into()),
        ("import nothing", 1, format!("nothing: expected arrays {sklearn}, or {rbms}, found none")),
        ("import other", 1, format!("other: expected arrays {sklearn}, or {rbms}, found a, b")),
        ("import two", 1, format!("two: expected arrays {sklearn}, or {rbms}, found components_, intercept_hidden_")),
        ("import good --format rbms", 1, format!("good: expected arrays {rbms}, found {sklearn}")),
        ("import objects", 1, "objects: components_: expected an array of type b1, i1 to i8, u1 to u8, or f2, f4 or f8, in either byte order, found <O8".into()),
        ("import flat", 1, "flat: expected components_ of two dimensions, found [6]".into()),
        ("import deep", 1, "deep: expected components_ of two dimensions, found [2, 3, 1]".into()),
        ("import transposed", 1, "transposed: expected intercept_hidden_ of shape [3], to match components_ of shape [3, 2], found [2]".into()),
        ("import row", 1, "row: expected intercept_hidden_ of shape [2], to match components_ of shape [2, 3], found [1, 2]".into()),
        ("import column", 1, "column: expected intercept_visible_ of shape [3], to match components_ of shape [2, 3], found [3, 1]".into()),
        ("import rbms-transposed", 1, "rbms-transposed: expected hbias of shape [3], to match weight_matrix of shape [2, 3], found [2]".into()),
        ("import no-units", 1, "no-units: expected weight_matrix: at least one visible and one hidden unit, and at most 2147483647 weights, found 0 × 2".into()),
        ("import nan", 1, "nan: expected components_ of finite 32-bit numbers, found NaN at [1, 2]".into()),
        ("import inf", 1, "inf: expected intercept_hidden_ of finite 32-bit numbers, found inf at [1]".into()),
        ("import minus-inf", 1, "minus-inf: expected intercept_visible_ of finite 32-bit numbers, found -inf at [0]".into()),
        ("import good --out no/m", 1, "no/m: No such file or directory (os error 2)".into()),
        ("export", 2, "the following required arguments were not provided: --format <NAME> <MODEL>".into()),
        ("export good.safetensors", 2, "the following required arguments were not provided: --format <NAME>".into()),
        ("export good --format rbms", 1, "good: expected a safetensors file, found a header that goes beyond the end".into()),
        ("export mixed.safetensors --format sklearn", 1, "mixed.safetensors: expected binary visible units, the only ones of scikit-learn, found binary:3,potts:1x2".into()),
        ("export mixed.safetensors --format rbms", 1, "mixed.safetensors: expected binary visible units, the only ones of rbms, found binary:3,potts:1x2".into()),
        ("export good.safetensors --format rbms --out no/m", 1, "no/m: No such file or directory (os error 2)".into()),
    ];
    let mut table = Table::default();
    for (arguments, status, message) in &cases {
        let found = run(&folder, arguments);
        table.message(arguments, &format!("{} {}", found.0, found.1.trim_end()), &format!("{status} error: {message}"));
    }
    let array = Array { shape: vec![2, 2], values: vec![0.0; 3] };
    table.case("a shape of other values", npz::save(&[("a", array)], "x".as_ref()), "x: expected a of shape [2, 2], found 3 values");
    let mut archive = Archive::open(&folder.join("good"), u64::MAX).expect("an archive");
    table.case("an array that is not there", archive.array("a"), &format!("{}: a: expected a zip archive of npy arrays, found specified file not found in archive", folder.join("good").display()));
    table.judge(31);
}
