//! Parquet files: pyarrow's tables are read unchanged, and files that are not tables of numbers give an error.

use harmonium::{
    Result,
    formats::{Images, LabelSource, Reading},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

fn table(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables").join(name)
}

fn labelled_by(column: &str) -> Reading {
    Reading { labels: LabelSource::Column(column.parse().expect("a column")), ..Reading::default() }
}

fn read(name: &str, how: &Reading) -> Result<Images> {
    let bytes = fs::read(table(name)).expect("a table");
    how.read(&bytes[..], "x.parquet")
}

#[track_caller]
fn refused(name: &str, how: &Reading, message: &str) {
    assert_eq!(read(name, how).expect_err("must be refused").to_string(), format!("x.parquet: expected {message}"));
}

#[test]
fn tables_are_read_as_they_are() {
    for name in ["snappy.parquet", "zstd.parquet", "gzip.parquet", "none.parquet"] {
        for column in ["kind", "6", "-1"] {
            let images = read(name, &labelled_by(column)).expect(name);
            assert_eq!(images.assumed.as_deref(), Some("5 of 300 values are missing"), "{name}");
            let rows = images.rows.rows();
            assert_eq!((rows.len(), rows.units()), (50, 6));
            for r in 0..50 {
                let bit = (r % 2) as f32;
                let row = [f32::from(u8::from(r % 3 == 0)), bit, bit, bit, (r % 8) as f32 / 8.0, (r % 5) as f32 / 4.0];
                for (i, x) in row.into_iter().enumerate() {
                    let is_missing = i == 5 && r % 10 == 4;
                    let found = (rows.is_missing(r, i), rows.value(r, i));
                    assert_eq!(found, (is_missing, if is_missing { 0.0 } else { x }), "{name}, row {r}, column {i}");
                }
            }
            let labels = images.labels.expect("as asked for");
            assert_eq!(labels.names(), ["cat", "dog", "emu"]);
            let expected: Vec<_> = (0..50u32).map(|r| (r % 7 > 0).then_some(r % 3)).collect();
            assert_eq!(labels.states(), expected);
        }
    }
    let images = read("index.parquet", &Reading::default()).expect("a table");
    assert_eq!(images.assumed.as_deref(), Some("without pandas' index __index_level_0__"));
    assert_eq!(images.rows.rows().to_vec(), [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]);
    // Numbers can be labels too.
    let labels = read("index.parquet", &labelled_by("x")).expect("a table").labels.expect("labels");
    assert_eq!((labels.names().join(" "), labels.states()), ("0 1".into(), &[Some(0), Some(1), Some(1)][..]));
    let how = Reading { visible: Some("gaussian:3".parse().expect("laws")), ..Reading::default() };
    let found = read("unsigned.parquet", &how).expect("numbers").rows.rows().to_vec();
    let (half, most) = (2_147_483_648.0, 4_294_967_296.0);
    assert_eq!(found, [7.0, half, half * most, 250.0, most, 1.0, 65535.0, 5.0, 2.0]);
}

#[test]
fn what_is_no_table_of_numbers() {
    let all = Reading::default();
    let text = "numbers or truth values, or --label-column for its text, in column kind, found text";
    refused("snappy.parquet", &all, text);
    let types = "numbers or truth values, or text for labels in column";
    let found = read("when.parquet", &all).expect_err("times").to_string();
    assert!(found.starts_with(&format!("x.parquet: expected {types} when, found Timestamp")), "{found}");
    refused("list.parquet", &all, &format!("{types} list.list.element, found lists or groups"));
    refused("unsigned.parquet", &all, "values within [0, 1], found 7 in row 0, column 0");
    refused(
        "snappy.parquet",
        &labelled_by("sort"),
        "labels in one of the columns flag, small, big, byte, single, double, kind, found sort",
    );
    refused("snappy.parquet", &labelled_by("7"), "labels in one of 7 columns, 0 to 6, found 7");
    refused(
        "snappy.parquet",
        &labelled_by("single"),
        "labels that are words or whole numbers in column single, found 0.125 in row 1",
    );
    let own = Reading { labels: LabelSource::Own, ..Reading::default() };
    let message = "a file with labels of its own: MNIST's folder, an svmlight file or an npz file with y_train, y, labels or target, found none";
    refused("index.parquet", &own, message);
    let little = Reading { max_bytes: 800, ..Reading::default() };
    refused(
        "index.parquet",
        &little,
        "a table that takes at most 33 bytes of memory, found one of 2 columns of numbers, by its header",
    );
    refused("snappy.parquet", &little, "a Parquet file of less than 800 bytes of memory, found a longer one");
}

/// For any changed bytes the result is a table or an error, never a panic.
#[test]
fn damaged_files() {
    let bytes = fs::read(table("unsigned.parquet")).expect("a table");
    let how = Reading { visible: Some("gaussian:3".parse().expect("laws")), max_bytes: 1 << 24, ..Reading::default() };
    for end in 0..bytes.len() {
        how.read(&bytes[..end], "x.parquet").expect_err("cut off");
    }
    let (mut read, mut refused) = (0, 0);
    for name in ["unsigned.parquet", "index.parquet", "none.parquet", "zstd.parquet"] {
        let bytes = fs::read(table(name)).expect("a table");
        for at in 0..bytes.len() {
            for other in [0xff, bytes[at] ^ 1] {
                let mut damaged = bytes.clone();
                damaged[at] = other;
                let how = if name == "unsigned.parquet" {
                    how.clone()
                } else {
                    Reading { max_bytes: 1 << 24, ..labelled_by("-1") }
                };
                match how.read(&damaged[..], "x.parquet") {
                    Ok(_) => read += 1,
                    Err(problem) => {
                        assert!(!problem.to_string().contains('\n'), "{problem}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(read > 1000 && refused > 1000, "{read} read, {refused} refused");
}

/// `train` and `classify` with names of columns.
#[cfg(feature = "cli")]
#[test]
fn by_the_command() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("parquet");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    let run = |arguments: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_harmonium"));
        let output = command.current_dir(&folder).args(arguments.split_whitespace()).output().expect("started");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let data = table("zstd.parquet");
    let data = data.display();
    let (status, stderr) =
        run(&format!("train --quiet --data {data} --label-column kind --hidden 4 --epochs 2 --samples 0"));
    assert_eq!((status, &*stderr), (Some(0), ""));
    let (status, stderr) = run(&format!("classify harmonium-out/model.safetensors --data {data} --label-column kind"));
    assert_eq!(status, Some(0), "{stderr}");
    let (status, stderr) = run(&format!("train --quiet --data {data}"));
    let message = "numbers or truth values, or --label-column for its text, in column kind, found text";
    assert_eq!((status, stderr), (Some(1), format!("error: {data}: expected {message}\n")));
}
