//! The reference models that judge the library, and helpers that the tests share.
//!
//! - [`exact`]: the mathematics in `f64`, by plain loops and by enumeration;
//! - [`laws`]: the same for visible layers with several laws, and their contract;
//! - [`canonical`]: the numerics contract in `f32`, as one sequential program; the library must give the same bits;
//! - [`statistics`]: goodness of fit and rounding bounds;
//! - [`places`]: the folders of data, of the command and for scratch files;
//! - `program`: the command, `mpirun`: the same with several ranks, and `device`: the CUDA device, if there is one; `faults`: faults planted in CUDA's kernels.
//!
//! [`for_each_device`] writes a test once for every device.
// No test file uses all of this; and indices, as in the formulas, are the plainest form of this code.
#![allow(dead_code, unused_imports, unused_macros, clippy::needless_range_loop)]

pub mod canonical;
pub mod canonical_laws;
#[cfg(feature = "cuda")]
pub mod device;
pub mod errors;
pub mod exact;
#[cfg(feature = "cuda")]
pub mod faults;
pub mod laws;
#[cfg(all(feature = "cli", feature = "mpi"))]
pub mod mpirun;
pub mod places;
#[cfg(feature = "cli")]
pub mod program;
pub mod statistics;

use harmonium::{
    Checkpoint, Cpu, Device, Gradient, Rbm, Rows, Shape, Sums, Values,
    checkpoint::Epoch,
    diagnostics::{CheckUp, EquilibriumGap},
};
use rand_core::Rng;
use rand_pcg::Pcg32;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// The CPU with the sums of a matrix library.
pub fn gemm() -> Device {
    Cpu::detect().and_then(|cpu| cpu.with_sums(Sums::Gemm)).expect("a CPU").into()
}

/// Whether this device must give the canonical bits. The results of other devices agree up to rounding.
pub fn is_canonical(device: &Device) -> bool {
    device.sums() == Sums::Canonical
}

/// Whether the device interprets its kernels. A test with many runs then selects some of them.
pub fn is_emulated(device: &Device) -> bool {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(cuda) = device {
        return device::is_emulated(cuda);
    }
    let _ = device;
    false
}

/// Generates each test once for every device and kind of sums, in a module named after it. To add a device, add a line at the end.
/// If a device is missing, its tests report that and do nothing.
macro_rules! for_each_device {
    (@device $module:ident, $make:expr, $($(#[$meta:meta])* fn $name:ident($device:ident) $body:block)*) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;
            $(
                $(#[$meta])*
                #[test]
                fn $name() {
                    let Some($device) = $make else { return };
                    $body
                }
            )*
        }
    };
    ($($tests:tt)*) => {
        for_each_device! { @device cpu, Some(harmonium::Device::from(harmonium::Cpu::detect().expect("a CPU"))), $($tests)* }
        for_each_device! { @device gemm, Some(crate::oracle::gemm()), $($tests)* }
        #[cfg(feature = "cuda")]
        for_each_device! { @device cuda, crate::oracle::device::cuda().map(harmonium::Device::from), $($tests)* }
        #[cfg(feature = "cuda")]
        for_each_device! { @device cuda_gemm, crate::oracle::device::cuda_gemm().map(harmonium::Device::from), $($tests)* }
    };
}
pub(crate) use for_each_device;

/// [`for_each_device`] for the devices that read the host's memory, in tests that count allocations.
macro_rules! for_each_host_device {
    ($($tests:tt)*) => {
        for_each_device! { @device cpu, Some(harmonium::Device::from(harmonium::Cpu::detect().expect("a CPU"))), $($tests)* }
        for_each_device! { @device gemm, Some(crate::oracle::gemm()), $($tests)* }
    };
}
pub(crate) use for_each_host_device;

/// A sequential generator for the tests' own random numbers.
pub fn generator(seed: u64) -> Pcg32 {
    Pcg32::new(seed ^ 0x5eed_5eed_5eed_5eed, 0x2545_f491_4f6c_dd1d)
}

/// A number in [0, 1).
pub fn uniform(generator: &mut Pcg32) -> f64 {
    f64::from(generator.next_u32()) / 2f64.powi(32)
}

/// A number in [-range, range).
pub fn symmetric(generator: &mut Pcg32, range: f64) -> f32 {
    (range * (2.0 * uniform(generator) - 1.0)) as f32
}

/// A shape from valid sizes.
pub fn shape(n_visible: usize, n_hidden: usize) -> Shape {
    Shape::new(n_visible, n_hidden).expect("a right shape")
}

/// An RBM with all parameters uniform within ± `range`.
pub fn random_rbm(shape: Shape, range: f64, seed: u64) -> Rbm {
    let mut generator = generator(seed);
    let mut some = |n: usize| (0..n).map(|_| symmetric(&mut generator, range)).collect::<Vec<_>>();
    let (nv, nh) = (shape.n_visible(), shape.n_hidden());
    Rbm::from_parts(shape, some(nv * nh), some(nv), some(nh)).expect("a right model")
}

/// `n` values: a share `density` of real numbers in (0, 1], the others 0.
pub fn random_values(n: usize, density: f64, seed: u64) -> Vec<f32> {
    let mut generator = generator(seed);
    let mut value = || if uniform(&mut generator) < density { 1.0 - uniform(&mut generator) as f32 } else { 0.0 };
    (0..n).map(|_| value()).collect()
}

/// `n` bits as numbers, 1 with probability `density`.
pub fn random_bits(n: usize, density: f64, seed: u64) -> Vec<f32> {
    let mut generator = generator(seed);
    (0..n).map(|_| f32::from(uniform(&mut generator) < density)).collect()
}

/// `n` eight-bit values: a share `density` is not 0.
pub fn random_bytes(n: usize, density: f64, seed: u64) -> Vec<u8> {
    let mut generator = generator(seed);
    let mut byte = || if uniform(&mut generator) < density { (generator.next_u32() % 255) as u8 + 1 } else { 0 };
    (0..n).map(|_| byte()).collect()
}

/// Rows from valid numbers.
pub fn rows(values: &[f32], units: usize) -> Rows<'_> {
    Rows::new(Values::F32(values), units).expect("right rows")
}

/// Rows from valid eight-bit values.
pub fn byte_rows(values: &[u8], units: usize) -> Rows<'_> {
    Rows::new(Values::U8(values), units).expect("right rows")
}

/// The numbers of a gradient in one list: W, b, c.
pub fn flat(gradient: &Gradient) -> Vec<f64> {
    let Gradient { weights, visible_bias, hidden_bias, .. } = gradient;
    weights.iter().chain(visible_bias).chain(hidden_bias).map(|&x| f64::from(x)).collect()
}

/// The bits of numbers, for comparisons to the bit. Zeros of either sign are equal.
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|&x| (x + 0.0).to_bits()).collect()
}

/// Adds a log and a check-up to a checkpoint, with numbers that text would round.
pub fn fill_log(checkpoint: &mut Checkpoint) {
    checkpoint.log = vec![Epoch::new(5, Some(-0.1), 1e-300), Epoch::new(10, None, 0.1)];
    checkpoint.health = vec![CheckUp {
        updates: 7,
        r_hat: Some(1.0 + f64::EPSILON),
        bulk_effective_sample_size: Some(1e-300),
        autocorrelation_time: None,
        visible_flip_rate: 0.1,
        hidden_flip_rate: 0.0,
        gap: EquilibriumGap {
            persistent: -3.5,
            fresh: -1.25,
            gap: -2.25,
            standard_error: 0.1,
            degrees_of_freedom: f64::INFINITY,
        },
    }];
}

/// Asserts that two lists of numbers have the same bits, and reports the first difference.
#[track_caller]
pub fn assert_bits(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let differs = |(a, b): (&f32, &f32)| (a + 0.0).to_bits() != (b + 0.0).to_bits();
    if let Some(at) = found.iter().zip(expected).position(differs) {
        let n = found.iter().zip(expected).filter(|&(a, b)| differs((a, b))).count();
        panic!("{what}[{at}]: found {:?}, expected {:?}; {n} of {} differ", found[at], expected[at], found.len());
    }
}

/// Runs `work` in a pool of `threads` threads. Each number of threads has one pool for the whole process.
pub fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    static POOLS: Mutex<BTreeMap<usize, Arc<ThreadPool>>> = Mutex::new(BTreeMap::new());
    let new = || Arc::new(ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool"));
    // The lock is released before the work begins, so that tests run in parallel.
    let pool = Arc::clone(POOLS.lock().expect("no test panics here").entry(threads).or_insert_with(new));
    pool.install(work)
}
