//! Chains of a model trained on MNIST, 784 × 500, and the sampling program. Throughput: elements = Gibbs steps of a chain.
//!
//! | id | |
//! |---|---|
//! | `sweep/SUMS/MxVxH-kK-tT` | K steps of M chains on T threads: 20 chains as in training and sampling, 10 000 as a test set |

mod common;

use common::{Outcome, SGEMM, TRAINING_ROWS, TUTORIAL, criterion, gemm, mnist, pool, time};
use criterion::{BenchmarkId, Criterion, Throughput};
use harmonium::{Chains, Cpu, Dataset, Device, Purpose, Rbm, Uniforms};

fn sweep(c: &mut Criterion, sums: &str, device: &Device, rbm: &Rbm, data: &Dataset) -> Outcome {
    let resident = rbm.on(device)?;
    let loaded = device.load(data.rows())?;
    let mut group = c.benchmark_group("sweep");
    for (m, k, threads) in [(20, 15, 1), (20, 15, 2), (10_000, 1, 1), (10_000, 1, 2)] {
        let pool = pool(threads)?;
        let draws = Uniforms::new(1, Purpose::Sampling);
        let mut chains = Chains::from_visible(&resident, loaded.range(0..m), draws)?;
        group.throughput(Throughput::Elements((m * k) as u64));
        group.bench_function(BenchmarkId::new(sums, format!("{m}x784x500-k{k}-t{threads}")), |b| {
            time(b, &pool, || chains.sweep(&resident, k));
        });
    }
    Ok(())
}

fn main() -> Outcome {
    let mut c = criterion();
    if let Some(data) = mnist(TRAINING_ROWS)? {
        let rbm = TUTORIAL.trained(&data, 3000)?;
        sweep(&mut c, "cpu", &Cpu::detect()?.into(), &rbm, &data)?;
        sweep(&mut c, SGEMM, &gemm()?, &rbm, &data)?;
    }
    c.final_summary();
    Ok(())
}
