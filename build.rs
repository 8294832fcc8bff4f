//! Concatenates the CUDA kernels into one source, which NVRTC can compile at run time for the device.
//!
//! This does not depend on the host and needs no toolkit. Without the feature `cuda` it does nothing.

use std::{env, fs, path::Path};

/// In the order of use; `kernels/compile.py` has the same list.
const FILES: [&str; 16] = [
    "uniforms.cuh",
    "elementary.cuh",
    "units.cuh",
    "layers.cuh",
    "chains.cu",
    "clusters.cu",
    "strips.cu",
    "phases.cu",
    "energies.cu",
    "learn.cu",
    "rules.cuh",
    "descend.cu",
    "gemm.cu",
    "visible.cu",
    "grid.cuh",
    "grid.cu",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed=kernels");
    let read = |name: &str| {
        let path = Path::new("kernels").join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let is_text = |line: &&str| !line.starts_with("#include \"") && !line.starts_with("#pragma once");
    let mut source = String::new();
    for file in FILES {
        for line in read(file).lines().filter(is_text) {
            source.push_str(line);
            source.push('\n');
        }
    }
    let hash = format!("{:016x}", fnv(&source));
    for ptx in ["ptx/compute_70.ptx", "ptx/compute_80.ptx", "ptx/compute_90.ptx"] {
        if !read(ptx).starts_with(&format!("// harmonium kernels {hash}\n")) {
            println!("cargo::warning=kernels/{ptx} is older than the kernels and will not be used: run .ci/cuda");
        }
    }
    println!("cargo::rustc-env=HARMONIUM_KERNELS_HASH={hash}");
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("kernels.cu"), source).expect("OUT_DIR can be written");
}

/// FNV-1a of 64 bits.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
