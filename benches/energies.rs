//! Quantities of a trained model, 784 × 500, for rows of MNIST. Throughput: elements = rows.
//!
//! | id | |
//! |---|---|
//! | `free_energy/SUMS/RxVxH-tT` | F of R rows |
//! | `pseudo_likelihood/SUMS/RxVxH-bit-tT` | n_visible·log P(x_i\|x_-i), the monitor's term |
//! | `pseudo_likelihood/SUMS/RxVxH-exact-tT` | log PL(x), all bits |
//! | `propup/SUMS/RxVxH-tT` | mean activations, as a DBN feeds them upward |

mod common;

use common::{Outcome, SGEMM, TRAINING_ROWS, TUTORIAL, criterion, gemm, mnist, pool, quick, time};
use criterion::{BenchmarkId, Criterion, Throughput};
use harmonium::{Activations, Cpu, Dataset, Device, Rbm};
use std::time::Duration;

fn energies(c: &mut Criterion, sums: &str, device: &Device, rbm: &Rbm, data: &Dataset) -> Outcome {
    let rbm = rbm.on(device)?;
    let loaded = device.load(data.rows())?;
    for t in [1, 2] {
        let pool = pool(t)?;
        let id = |size: String| BenchmarkId::new(sums, format!("{size}-t{t}"));

        let mut group = c.benchmark_group("free_energy");
        for n in [20, 10_000] {
            let rows = loaded.range(0..n);
            group.throughput(Throughput::Elements(n as u64));
            group.bench_function(id(format!("{n}x784x500")), |b| time(b, &pool, || rbm.free_energy(rows)));
        }
        group.finish();

        let mut group = c.benchmark_group("pseudo_likelihood");
        for n in [20, 10_000] {
            let rows = loaded.range(0..n);
            group.throughput(Throughput::Elements(n as u64));
            group.bench_function(id(format!("{n}x784x500-bit")), |b| {
                time(b, &pool, || rbm.pseudo_log_likelihood_of_bit(rows, 406));
            });
        }
        // Four thousand million factors: matrix sums, with a softplus for each, would need minutes.
        let exact = [(20, true), (10_000, sums != SGEMM && !quick())];
        for (n, _) in exact.into_iter().filter(|&(_, wanted)| wanted) {
            let rows = loaded.range(0..n);
            group.throughput(Throughput::Elements(n as u64));
            group.sample_size(10).warm_up_time(Duration::from_millis(1));
            group.bench_function(id(format!("{n}x784x500-exact")), |b| {
                time(b, &pool, || rbm.pseudo_log_likelihood(rows));
            });
        }
        group.finish();

        let mut group = c.benchmark_group("propup");
        let n = if quick() { 1000 } else { data.len() };
        let rows = loaded.range(0..n);
        let mut hidden = Activations::default();
        group.throughput(Throughput::Elements(n as u64)).sample_size(10);
        group.bench_function(id(format!("{n}x784x500")), |b| time(b, &pool, || rbm.propup(rows, &mut hidden)));
        group.finish();
    }
    Ok(())
}

fn main() -> Outcome {
    let mut c = criterion();
    if let Some(data) = mnist(TRAINING_ROWS)? {
        let rbm = TUTORIAL.trained(&data, 3000)?;
        energies(&mut c, "cpu", &Cpu::detect()?.into(), &rbm, &data)?;
        energies(&mut c, SGEMM, &gemm()?, &rbm, &data)?;
    }
    c.final_summary();
    Ok(())
}
