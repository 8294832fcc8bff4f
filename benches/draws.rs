//! Random numbers and the sampling of whole layers and of data. Throughput: elements = numbers drawn, or units sampled.
//!
//! | id | |
//! |---|---|
//! | `draw/rand_pcg/N` | the baseline: one sequential generator of rand_pcg |
//! | `draw/scalar`, `draw/avx2`, `draw/avx512` | `Cpu::uniforms` on each instruction set of this machine |
//! | `sample/naive/N` | the baseline: σ with the standard library's exp, one generator, unit after unit |
//! | `sample/scalar` … `sample/avx512`, `/MxVxH` | a Gibbs step of M chains with no unit on: bias, σ, draw and packing only |
//! | `epoch/scalar` … `epoch/avx512`, `/NxV` | `Epochs::show` with fresh bits for N rows of V bytes, four fifths of them 0 |

mod common;

use common::{Outcome, criterion, pool, time};
use criterion::{BenchmarkId, Criterion, Throughput};
use harmonium::{Binarise, Chains, Cpu, Dataset, Epochs, Isa, Purpose, Rbm, Shape, Uniforms, uniforms::unit_interval};
use rand_core::Rng;

fn draws(c: &mut Criterion) -> Outcome {
    let mut out = vec![0.0f32; 16_384];
    let mut group = c.benchmark_group("draw");
    group.throughput(Throughput::Elements(out.len() as u64));
    let one = pool(1)?;
    let mut uniforms = Uniforms::new(1, Purpose::Sampling);
    let mut generator = uniforms.generator();
    let size = out.len();
    group.bench_function(BenchmarkId::new("rand_pcg", size), |b| {
        time(b, &one, || out.iter_mut().for_each(|u| *u = unit_interval(generator.next_u32())));
    });
    for isa in Isa::available() {
        group.bench_function(BenchmarkId::new(isa.name(), size), |b| {
            time(b, &one, || Cpu::with_isa(isa).uniforms(&mut uniforms, &mut out));
        });
    }
    Ok(())
}

fn samples(c: &mut Criterion) -> Outcome {
    const CHAINS: usize = 20;
    let shape = Shape::new(784, 500)?;
    let units = shape.n_visible() + shape.n_hidden();
    let mut group = c.benchmark_group("sample");
    group.throughput(Throughput::Elements((CHAINS * units) as u64));
    let one = pool(1)?;

    let pre: Vec<f32> = (0..CHAINS * units).map(|i| (i % 97) as f32 / 16.0 - 5.0).collect();
    let mut bits = vec![false; pre.len()];
    let mut generator = Uniforms::new(1, Purpose::Sampling).generator();
    group.bench_function(BenchmarkId::new("naive", CHAINS * units), |b| {
        time(b, &one, || {
            for (bit, &pre) in bits.iter_mut().zip(&pre) {
                *bit = unit_interval(generator.next_u32()) < 1.0 / (1.0 + (-pre).exp());
            }
        });
    });

    let off = |n: usize| vec![-100.0; n];
    let weights = vec![0.0; shape.n_visible() * shape.n_hidden()];
    let rbm = Rbm::from_parts(shape, weights, off(shape.n_visible()), off(shape.n_hidden()))?;
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(isa);
        let resident = rbm.on(cpu)?;
        let mut chains = Chains::new(cpu, shape, CHAINS, Uniforms::new(1, Purpose::Sampling))?;
        group.bench_function(BenchmarkId::new(isa.name(), format!("{CHAINS}x784x500")), |b| {
            time(b, &one, || chains.sweep(&resident, 1));
        });
    }
    Ok(())
}

fn epochs(c: &mut Criterion) -> Outcome {
    const ROWS: usize = 5000;
    let mut generator = Uniforms::new(1, Purpose::Sampling).generator();
    let mut byte = || if generator.next_u32().is_multiple_of(5) { generator.next_u32() as u8 } else { 0 };
    let data = Dataset::from_u8((0..ROWS * 784).map(|_| byte()).collect(), 784)?;
    let mut group = c.benchmark_group("epoch");
    group.throughput(Throughput::Elements((ROWS * 784) as u64));
    let one = pool(1)?;
    for isa in Isa::available() {
        let (mut epochs, mut epoch) = (Epochs::new(true, Binarise::Sample, 1)?, 0);
        group.bench_function(BenchmarkId::new(isa.name(), format!("{ROWS}x784")), |b| {
            time(b, &one, || {
                epoch += 1;
                epochs.show_on(isa, &data, epoch).len()
            });
        });
    }
    Ok(())
}

fn main() -> Outcome {
    let mut c = criterion();
    draws(&mut c)?;
    samples(&mut c)?;
    epochs(&mut c)?;
    c.final_summary();
    Ok(())
}
