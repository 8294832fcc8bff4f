//! The fuzzers' bodies on the stable toolchain: on the seeds, on seeds with changed bytes, and on random bytes. `HARMONIUM_FUZZ`
//! multiplies the number of inputs of each body (`.ci/fuzz`).

#![allow(dead_code)]

#[path = "oracle/canonical.rs"]
mod canonical;
#[path = "oracle/canonical_laws.rs"]
mod canonical_laws;
mod fuzzing;

use rand_core::Rng;
use rand_pcg::Pcg32;
use std::{env, fs, path::Path};

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).expect("seeds").map(|entry| entry.expect("a seed").path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths.into_iter().map(|path| fs::read(path).expect("a seed")).collect()
}

/// A seed after random changes, or random bytes.
fn input(seeds: &[Vec<u8>], generator: &mut Pcg32) -> Vec<u8> {
    let mut below = |n: usize| ((u64::from(generator.next_u32()) * n as u64) >> 32) as usize;
    let mut bytes = match below(8) {
        0 => (0..below(300)).map(|_| 0).collect(),
        _ => seeds[below(seeds.len())].clone(),
    };
    for _ in 0..below(6) {
        let at = below(bytes.len() + 1);
        match below(7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, below(256) as u8),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'0', b'['][below(8)],
            4 if at < bytes.len() => bytes[at] ^= 1 << below(8),
            5 => {
                let end = (at + below(16)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = below(bytes.len() + 1);
                bytes.splice(to..to, part);
            }
            _ => {
                for _ in 0..4 {
                    if at < bytes.len() {
                        let at = (at + below(8)).min(bytes.len() - 1);
                        bytes[at] = below(256) as u8;
                    }
                }
            }
        }
    }
    bytes
}

fn fuzz(target: &str, body: fn(&[u8]), inputs: usize) {
    let seeds = seeds(target);
    seeds.iter().for_each(|seed| body(seed));
    let mut generator = Pcg32::new(1, 2);
    let times = env::var("HARMONIUM_FUZZ").map_or(1, |n| n.parse().expect("HARMONIUM_FUZZ is a whole number"));
    for n in 0..times * inputs {
        let bytes = input(&seeds, &mut generator);
        if std::panic::catch_unwind(|| body(&bytes)).is_err() {
            panic!("{target}: input {n} breaks a promise: {bytes:02x?}");
        }
    }
}

#[test]
fn idx() {
    fuzz("idx", fuzzing::idx::run, 20_000);
}

#[test]
fn fasta() {
    fuzz("fasta", fuzzing::fasta::run, 20_000);
}

#[test]
fn npy() {
    fuzz("npy", fuzzing::npy::run, 20_000);
}

#[test]
fn text() {
    fuzz("text", fuzzing::text::run, 20_000);
}

#[test]
fn model() {
    fuzz("model", fuzzing::model::run, 20_000);
}

#[test]
fn checkpoint() {
    fuzz("checkpoint", fuzzing::checkpoint::run, 8_000);
}

#[test]
fn laws() {
    fuzz("laws", fuzzing::laws::run, 300);
}

#[test]
fn differential() {
    fuzz("differential", fuzzing::differential::run, 400);
}
