//! `--sums`: sums in a fixed order, matrix products, or a choice by size.

mod oracle;

use oracle::program::{fine, folder, run};
use std::{fs, path::Path};

/// Trains a model and returns its bytes.
#[track_caller]
fn trained(folder: &Path, out: &str, options: &str) -> Vec<u8> {
    fine(
        folder,
        &format!("train --data data --hidden 8 --epochs 1 --batch-size 10 --k 2 --quiet --out {out} {options}"),
    );
    fs::read(folder.join(out).join("model.safetensors")).expect("a model")
}

/// The last monitor of a run, in nats a row.
fn monitor(folder: &Path, out: &str) -> f64 {
    let log = fs::read_to_string(folder.join(out).join("log.csv")).expect("a log");
    let last = log.lines().last().expect("an epoch");
    last.split(',').find_map(|field| field.parse().ok().filter(|x: &f64| *x < 0.0)).expect("a monitor")
}

#[test]
fn sums_on_the_cpu() {
    let folder = folder("cpu");
    // For few units matrixmultiply gives the canonical sums; for several hundred it adds partial sums.
    oracle::program::write_data(&folder.join("data"), &[50, 30, 40], 1);
    let canonical = trained(&folder, "unsaid", "");
    assert_eq!(trained(&folder, "canonical", "--sums canonical"), canonical);
    assert_eq!(trained(&folder, "auto", "--sums auto"), canonical);
    assert_ne!(trained(&folder, "gemm", "--sums gemm"), canonical);
    let (of_gemm, of_canonical) = (monitor(&folder, "gemm"), monitor(&folder, "unsaid"));
    // Five updates from the same start: if rounding changes a draw, it changes one bit of one chain.
    assert!((of_gemm - of_canonical).abs() < 0.1 * of_canonical.abs(), "{of_gemm} {of_canonical}");

    let message = "error: --sums: expected canonical, gemm or auto with --device cpu, found gemm-tf32\n";
    let refused = run(&folder, "train --data data --hidden 8 --sums gemm-tf32 --out refused");
    assert_eq!(refused, (2, String::new(), message.into()));
    assert!(!folder.join("refused").exists());
    let (status, _, stderr) = run(&folder, "train --data data --sums fast");
    assert!(status == 2 && stderr.contains("fast") && stderr.contains("canonical, gemm, gemm-tf32, auto"), "{stderr}");
}

#[test]
fn every_command_that_computes() {
    let folder = folder("commands");
    trained(&folder, "out", "");
    let free_energy = |sums: &str| {
        let said = fine(&folder, &format!("evaluate out/model.safetensors --data data --log-z exact --json {sums}"));
        let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        json["mean_free_energy"].as_f64().unwrap_or_else(|| panic!("a number: {said}"))
    };
    let canonical = free_energy("");
    assert_eq!(free_energy("--sums auto"), canonical);
    // 23 units, weights of about 1: about 1e-6 a row.
    assert!((free_energy("--sums gemm") - canonical).abs() < 1e-4);
    for sums in ["canonical", "gemm", "auto"] {
        let common = format!("--data data --chains 4 --sums {sums}");
        fine(&folder, &format!("sample out/model.safetensors {common} --rows 2 --steps 3 --image 3x5"));
        fine(&folder, &format!("diagnose out/model.safetensors {common} --steps 20 --json"));
    }
}

/// A run resumes with its own sums only.
#[test]
fn a_checkpoint_keeps_the_sums() {
    let folder = folder("resume");
    let whole = trained(&folder, "whole", "--sums gemm");
    let stop = |out: &str, sums: &str| {
        fine(
            &folder,
            &format!(
                "train --data data --hidden 8 --epochs 1 --batch-size 10 --k 2 --stop-after 2 --quiet --out {out} {sums}"
            ),
        );
    };
    stop("gemm", "--sums gemm");
    let refused = run(&folder, "train --resume gemm --sums canonical");
    let message = "error: --sums: expected gemm, as in gemm/checkpoint.safetensors, found canonical\n";
    assert_eq!(refused, (2, String::new(), message.into()));
    fine(&folder, "train --resume gemm --quiet");
    assert_eq!(fs::read(folder.join("gemm/model.safetensors")).expect("a model"), whole);

    stop("canonical", "");
    let refused = run(&folder, "train --resume canonical --sums gemm");
    let message = "error: --sums: expected canonical, as in canonical/checkpoint.safetensors, found gemm\n";
    assert_eq!(refused, (2, String::new(), message.into()));
    fine(&folder, "train --resume canonical --sums canonical --quiet");
}

#[cfg(feature = "cuda")]
#[test]
fn sums_on_a_gpu() {
    if oracle::device::cuda_gemm().is_none() {
        return;
    }
    let folder = folder("cuda");
    let canonical = trained(&folder, "cpu", "");
    assert_eq!(trained(&folder, "canonical", "--device cuda"), canonical);
    assert_eq!(trained(&folder, "auto", "--device cuda --sums auto"), canonical, "so few rows are canonical");
    let gemm = trained(&folder, "gemm", "--device cuda --sums gemm");
    let tf32 = trained(&folder, "tf32", "--device cuda --sums gemm-tf32");
    assert!(gemm != canonical && tf32 != canonical && gemm != tf32);
    // TF32 changes each mean by about 1e-3, and so one draw in a thousand.
    for (out, within) in [("gemm", 0.1), ("tf32", 1.0)] {
        let (found, expected) = (monitor(&folder, out), monitor(&folder, "cpu"));
        assert!((found - expected).abs() < within, "{out}: {found} {expected}");
    }
    let free_energy = |options: &str| {
        let said = fine(&folder, &format!("evaluate cpu/model.safetensors --data data --log-z none --json {options}"));
        let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        json["mean_free_energy"].as_f64().unwrap_or_else(|| panic!("a number: {said}"))
    };
    assert!((free_energy("--device cuda --sums gemm") - free_energy("")).abs() < 1e-4);
}
