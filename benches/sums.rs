//! The sum of active rows against matrix products, one thread, 784 × 500, at many densities and numbers of chains.
//!
//! | id | elements | |
//! |---|---|---|
//! | `sum/cpu/MxVxH-D` | 2·M·V·H | sums of both half-steps at density D: a step minus the same step with no unit on |
//! | `sum/matrixmultiply/MxVxH`, `sum/openblas/MxVxH` | 2·M·V·H | both products of a step, at any density |
//! | `step/cpu/MxVxH-D` | M | the whole Gibbs step, at density D of both layers |
//! | `step/matrixmultiply/MxVxH` or `step/openblas` | M | the same by `Sums::Gemm` with the library of this build |
//!
//! Biases set the density; the weights are too small to change it. `openblas` needs the feature of that name
//! (`blas` for another library); set OPENBLAS_NUM_THREADS=1 for it.

#![allow(unsafe_code, reason = "calls the matrix libraries directly")]

mod common;

use common::{Outcome, SGEMM, criterion, gemm, pool, time};
use criterion::{BenchmarkId, Criterion, Throughput};
use harmonium::{Chains, Cpu, Device, Purpose, Rbm, Resident, Shape, Uniforms};
use std::time::{Duration, Instant};

const VISIBLE: usize = 784;
const HIDDEN: usize = 500;
const CHAINS: [usize; 4] = [1, 20, 128, 512];
const DENSITIES: [f32; 7] = [0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// An RBM whose units are all on with the same probability, and chains in equilibrium.
fn prepared(device: &Device, density: f32, n_chains: usize) -> Result<(Resident, Chains), harmonium::Error> {
    let shape = Shape::new(VISIBLE, HIDDEN)?;
    let weights = Rbm::new(shape, 1).view().weights().iter().map(|w| 1e-4 * w).collect();
    let bias = (density / (1.0 - density)).ln().clamp(-100.0, 100.0);
    let rbm = Rbm::from_parts(shape, weights, vec![bias; VISIBLE], vec![bias; HIDDEN])?.on(device)?;
    let mut chains = Chains::new(device, shape, n_chains, Uniforms::new(1, Purpose::Sampling))?;
    chains.sweep(&rbm, 1)?;
    Ok((rbm, chains))
}

fn steps(c: &mut Criterion) -> Outcome {
    let mut group = c.benchmark_group("step");
    let (cpu, gemm, one) = (Device::from(Cpu::detect()?), gemm()?, pool(1)?);
    for m in CHAINS {
        group.throughput(Throughput::Elements(m as u64));
        let (rbm, mut chains) = prepared(&gemm, 0.1, m)?;
        let size = format!("{m}x{VISIBLE}x{HIDDEN}");
        group.bench_function(BenchmarkId::new(SGEMM, &size), |b| time(b, &one, || chains.sweep(&rbm, 1)));
        for density in &DENSITIES[1..] {
            let (rbm, mut chains) = prepared(&cpu, *density, m)?;
            group.bench_function(BenchmarkId::new("cpu", format!("{size}-{density:.2}")), |b| {
                time(b, &one, || chains.sweep(&rbm, 1));
            });
        }
    }
    Ok(())
}

fn sums(c: &mut Criterion) -> Outcome {
    let mut group = c.benchmark_group("sum");
    let (cpu, one) = (Device::from(Cpu::detect()?), pool(1)?);
    for m in CHAINS {
        group.throughput(Throughput::Elements((2 * m * VISIBLE * HIDDEN) as u64));
        let size = format!("{m}x{VISIBLE}x{HIDDEN}");
        let (idle_rbm, mut idle) = prepared(&cpu, DENSITIES[0], m)?;
        for density in &DENSITIES[1..] {
            let (rbm, mut chains) = prepared(&cpu, *density, m)?;
            let timed = |rbm: &Resident, chains: &mut Chains, steps: u64| {
                one.install(|| {
                    let start = Instant::now();
                    (0..steps).for_each(|_| chains.sweep(rbm, 1).expect("the chains fit"));
                    start.elapsed()
                })
            };
            group.bench_function(BenchmarkId::new("cpu", format!("{size}-{density:.2}")), |b| {
                b.iter_custom(|steps| {
                    let whole = timed(&rbm, &mut chains, steps);
                    let rest = timed(&idle_rbm, &mut idle, steps);
                    whole.saturating_sub(rest).max(Duration::from_nanos(1))
                });
            });
        }
        let mut products = Products::new(m);
        group.bench_function(BenchmarkId::new("matrixmultiply", &size), |b| {
            time(b, &one, || products.matrixmultiply());
        });
        #[cfg(feature = "blas")]
        group.bench_function(BenchmarkId::new(SGEMM, &size), |b| time(b, &one, || products.blas()));
    }
    Ok(())
}

/// Both products of a Gibbs step: visible ← hidden·Wᵀ, hidden ← visible·W.
struct Products {
    m: usize,
    weights: Vec<f32>,
    visible: Vec<f32>,
    hidden: Vec<f32>,
}

impl Products {
    fn new(m: usize) -> Self {
        // Small values, so that repeated products stay bounded.
        let weights = vec![1e-4; VISIBLE * HIDDEN];
        Self { m, weights, visible: vec![1.0; m * VISIBLE], hidden: vec![1.0; m * HIDDEN] }
    }

    fn matrixmultiply(&mut self) {
        let Self { m, weights, visible, hidden } = self;
        let (nv, nh) = (VISIBLE as isize, HIDDEN as isize);
        let (w, v, h) = (weights.as_ptr(), visible.as_mut_ptr(), hidden.as_mut_ptr());
        // SAFETY: the buffers hold VISIBLE × HIDDEN, m × VISIBLE and m × HIDDEN numbers, and the strides address exactly those.
        unsafe {
            matrixmultiply::sgemm(*m, HIDDEN, VISIBLE, 1.0, h, nh, 1, w, 1, nh, 0.0, v, nv, 1);
            matrixmultiply::sgemm(*m, VISIBLE, HIDDEN, 1.0, v, nv, 1, w, nh, 1, 0.0, h, nh, 1);
        }
    }

    #[cfg(feature = "blas")]
    fn blas(&mut self) {
        use cblas_sys::{CBLAS_LAYOUT::CblasRowMajor, CBLAS_TRANSPOSE as T, cblas_sgemm};
        let Self { m, weights, visible, hidden } = self;
        let (m, nv, nh) = (*m as i32, VISIBLE as i32, HIDDEN as i32);
        let (w, v, h) = (weights.as_ptr(), visible.as_mut_ptr(), hidden.as_mut_ptr());
        // SAFETY: as above, with rows of nv and nh numbers.
        unsafe {
            cblas_sgemm(CblasRowMajor, T::CblasNoTrans, T::CblasTrans, m, nv, nh, 1.0, h, nh, w, nh, 0.0, v, nv);
            cblas_sgemm(CblasRowMajor, T::CblasNoTrans, T::CblasNoTrans, m, nh, nv, 1.0, v, nv, w, nh, 0.0, h, nh);
        }
    }
}

fn main() -> Outcome {
    let mut c = criterion();
    sums(&mut c)?;
    steps(&mut c)?;
    c.final_summary();
    Ok(())
}
