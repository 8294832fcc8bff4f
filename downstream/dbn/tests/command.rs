//! The program on MNIST: a small run, and errors.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

const MNIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/mnist");

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn run(out: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harmonium-dbn"));
    command.args(["--data", MNIST]).arg("--out").arg(out).args(options).output().expect("the program runs")
}

/// Every file in a folder, sorted by name.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.clone(), std::fs::read(&path).expect("a file"))),
        }
    }
    found.sort();
    found
}

/// A small net errs less than a linear classifier, whose 12 % Y. LeCun and others report ("Gradient-based learning applied to document
/// recognition", 1998, section III.C.1). The files are the same on any number of threads, and from a stack that another run pretrained.
#[test]
fn a_small_run() {
    let parent = folder("a_small_run");
    let small_run = |name: &str, options: &[&str]| {
        let out = parent.join(name);
        let common = ["--layers", "96,64", "--pretrain-epochs", "1", "--epochs", "2", "--dropout", "0.1"];
        let done = run(&out, &[&common, options].concat());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let printed = String::from_utf8(done.stdout).expect("text");
        let (_, test) = printed.trim_end().trim_end_matches(" %").rsplit_once(", test ").expect("a test error");
        assert!(test.parse::<f64>().expect("a number") < 12.0, "{printed}");
        let of = |(name, bytes): (PathBuf, _)| (name.strip_prefix(&out).expect("a file there").to_owned(), bytes);
        files(&out).into_iter().map(of).collect::<Vec<_>>()
    };
    let one = small_run("one", &["--threads", "1"]);
    let names: Vec<_> = one.iter().map(|(name, _)| name.to_str().expect("text").to_string()).collect();
    let layers = |folder, n| (1..=n).map(move |n| format!("{folder}/layer-{n}.safetensors"));
    let expected: Vec<_> = layers("fine-tuned", 3).chain(layers("pretrained", 2)).collect();
    assert_eq!(names, [&expected[..], &["samples.png".into()]].concat());
    assert!(one == small_run("two", &["--threads", "2"]), "the same on one thread and on two");

    let pretrained = parent.join("one/pretrained");
    let mut from = small_run("from", &["--from", pretrained.to_str().expect("text")]);
    from.extend(one.iter().filter(|(name, _)| name.starts_with("pretrained")).cloned());
    from.sort();
    assert!(one == from, "the same as in one run");
}

#[test]
fn errors_are_one_line() {
    let parent = folder("what_is_wrong");
    let nothing = parent.join("nothing");
    let nothing = nothing.to_str().expect("text");
    for (options, expected) in [
        (&["--dropout", "1"][..], "error: dropout: expected at least 0 and below 1, found 1\n".to_string()),
        (&["--input-dropout=-1"], "error: dropout of inputs: expected at least 0 and below 1, found -1\n".into()),
        (&["--momentum", "1"], "error: momentum: expected at least 0 and below 1, found 1\n".into()),
        (&["--lr", "inf"], "error: lr: expected a finite number of at least 0, found inf\n".into()),
        (&["--pretrain-lr", "nan"], "error: lr: expected finite numbers of at least 0, found NaN and 0.1\n".into()),
        (
            &["--layers", "96,0"],
            "error: shape: expected at least one visible and one hidden unit, and at most 2147483647 weights, found 96 × 0\n"
                .into(),
        ),
        (&["--from", nothing], format!("error: {nothing}/layer-1.safetensors: No such file or directory (os error 2)\n")),
    ] {
        let done = run(&parent.join("out"), options);
        assert_eq!((done.status.code(), String::from_utf8_lossy(&done.stderr)), (Some(1), expected.into()), "{options:?}");
    }
    for options in [&["--threads", "0"], &["--layers", ""], &["--epochs", "-1"]] {
        assert_eq!(run(&parent.join("out"), options).status.code(), Some(2), "{options:?}");
    }
}
