//! Whole updates on MNIST: phases, chains, monitor, gradient, new parameters. Throughput: elements = updates.
//!
//! The id is `update/SUMS/JOB-tT`. JOB names sizes, algorithm, k, rows and chains, and ends with `-pl` if the pseudo-likelihood is
//! monitored. `update/cpu-own-rule/JOB` makes the same update by `Trainer::gradient` and `Resident::apply`, as update rules outside
//! of the crate do. The tutorial's job starts from a model after 3000 updates, the larger ones after a few hundred, as the density
//! of the layers determines the time of an update.

mod common;

use common::{Job, Outcome, SGEMM, TRAINING_ROWS, TUTORIAL, criterion, gemm, mnist};
use criterion::{BenchmarkId, Throughput};
use harmonium::{Algorithm, Cpu, Device, Monitor};

fn main() -> Outcome {
    let mut c = criterion();
    let Some(data) = mnist(TRAINING_ROWS)? else { return Ok(()) };
    let mut group = c.benchmark_group("update");
    group.throughput(Throughput::Elements(1));
    let (cpu, gemm) = (Device::from(Cpu::detect()?), gemm()?);
    let cd = Job { n_hidden: 1024, algorithm: Algorithm::Cd, k: 1, batch: 128, ..TUTORIAL };
    let pcd = Job { n_hidden: 2048, algorithm: Algorithm::Pcd { n_chains: 512 }, k: 1, batch: 512, ..TUTORIAL };
    let own = Job { algorithm: Algorithm::Pcd { n_chains: 100 }, k: 1, batch: 100, ..TUTORIAL };
    for (job, warm_up) in [(TUTORIAL, 3000), (own, 600), (cd, 600), (pcd, 200)] {
        let rbm = job.trained(&data, warm_up)?;
        for (sums, threads, monitor) in [
            ("cpu", 1, Monitor::None),
            ("cpu", 2, Monitor::None),
            ("cpu", 1, Monitor::PseudoLikelihood),
            ("cpu", 2, Monitor::PseudoLikelihood),
            ("cpu-own-rule", 1, Monitor::None),
            ("cpu-own-rule", 2, Monitor::None),
            (SGEMM, 1, Monitor::None),
            (SGEMM, 2, Monitor::None),
        ] {
            let job = Job { monitor, ..job };
            let mut outcome = Ok(());
            group.bench_function(BenchmarkId::new(sums, format!("{job}-t{threads}")), |b| {
                outcome = match sums {
                    "cpu" => job.bench(b, &cpu, &rbm, &data, threads),
                    "cpu-own-rule" => job.bench_own_rule(b, &cpu, &rbm, &data, threads),
                    _ => job.bench(b, &gemm, &rbm, &data, threads),
                };
            });
            outcome?;
        }
    }
    group.finish();
    c.final_summary();
    Ok(())
}
