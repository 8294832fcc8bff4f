//! What to do next: `harmonium` without arguments, and `harmonium data`.

use crate::{arguments::DATA, console, data};
use clap::Args;
use harmonium::{
    Error, Result,
    formats::{self, Reading},
};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Guide {
    /// A folder with MNIST's IDX files, or one data file, to check [default: none; list public data sets].
    pub path: Option<PathBuf>,
    #[command(flatten)]
    pub selection: data::Selection,
}

/// The model file of a run without options.
const MODEL: &str = "harmonium-out/model.safetensors";

/// Public data sets: name, contents, chapters of the book that use it, place.
const SOURCES: [(&str, &str, &str, &str); 5] = [
    (
        "MNIST",
        "60 000 + 10 000 digits, 28 × 28 grey pixels",
        "tutorial, features, dbn",
        "in data/mnist of the repository",
    ),
    (
        "mushrooms, dna",
        "tables of 112 and 180 bits: train, valid, test",
        "likelihoods, density",
        "https://github.com/arranger1044/DEBD, datasets/",
    ),
    (
        "RF00379",
        "3827 aligned sequences of RNA, 136 sites",
        "laws",
        "https://github.com/spqb/adabmDCApy, example_data/RF00379.fasta",
    ),
    (
        "patches",
        "60 000 whitened patches, 14 × 14 real numbers",
        "laws",
        "made by docs/natural_images.py of the repository",
    ),
    ("digits", "1797 digits, 8 × 8 pixels, with labels", "python", "sklearn.datasets.load_digits()"),
];

/// Prints what the user can do next. The list depends on the files in the current folder.
pub fn welcome(commands: &str) -> Result<()> {
    let mut lines =
        vec!["harmonium trains Restricted Boltzmann Machines and shows what they have learned.".into(), String::new()];
    let mut add = |command: &str, what: &str| lines.push(format!("  {command:<58} {what}"));
    if Path::new(DATA).is_dir() {
        add("harmonium train", "train on MNIST as the Deep Learning Tutorials do");
        add("harmonium train --recipe density --minutes 2 --out better", "train a better model of the same digits");
    }
    add("harmonium train --recipe density --data FILE", "train on your data: npy, npz, csv, svmlight, IDX, FASTA");
    add("harmonium data [FILE]", "list public data sets, or print how a file is read");
    if Path::new(MODEL).is_file() {
        add("harmonium report harmonium-out", "write a report of the last run: one HTML page");
        add(&format!("harmonium evaluate {MODEL}"), "measure the likelihood of its model");
    }
    add("harmonium COMMAND --help", "list the options of a command");
    lines.extend([String::new(), format!("Commands: {commands}")]);
    console::answer(&lines)
}

pub fn run(options: &Guide) -> Result<()> {
    let Some(path) = &options.path else {
        let mut lines =
            vec!["Public data sets that the chapters of the book use. harmonium does not download them:".into()];
        for (name, what, chapters, place) in SOURCES {
            lines.extend([
                String::new(),
                format!("{name}: {what}"),
                format!("  source: {place}"),
                format!("  chapters: {chapters}"),
            ]);
        }
        let found = if Path::new(DATA).is_dir() { "exists" } else { "does not exist" };
        lines.extend([String::new(), format!("{DATA} {found} here. To check a file: harmonium data FILE")]);
        return console::answer(&lines);
    };
    let how = options.selection.reading(None)?;
    let (images, is_within) = match how.open(path) {
        // Values outside [0, 1], which binary units cannot have.
        Err(Error::Format { expected, .. }) if expected == formats::UNIT_INTERVAL => {
            (Reading { as_numbers: true, ..how }.open(path)?, false)
        }
        other => (other?, true),
    };
    let (rows, visible) = (images.rows.len(), images.rows.segments());
    let mut lines = vec![format!("{}: {rows} rows of {} values", path.display(), images.rows.units())];
    lines.extend(images.assumed.map(|text| format!("read as {text}")));
    lines.push(match is_within {
        true => format!("units: {visible}"),
        false => format!("values outside [0, 1]: use --scale max or minmax, or --visible {visible} --scale standard"),
    });
    lines.extend(images.img_shape.map(|(height, width)| format!("images: {height} × {width}")));
    lines.extend(images.labels.map(|labels| format!("labels: {}", labels.names().join(", "))));
    console::answer(&lines)
}
