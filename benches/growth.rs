//! How the tutorial's update grows with the hidden layer, k, the chains and the threads. Throughput: elements = updates.
//!
//! Ids are those of `update`: `update/cpu/JOB-tT`. Every model starts after a few hundred updates.

mod common;

use common::{Job, Outcome, TRAINING_ROWS, TUTORIAL, criterion, mnist};
use criterion::{BenchmarkId, Throughput};
use harmonium::{Algorithm, Cpu};

fn main() -> Outcome {
    let mut c = criterion();
    let Some(data) = mnist(TRAINING_ROWS)? else { return Ok(()) };
    let cpu = Cpu::detect()?.into();
    let mut group = c.benchmark_group("update");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    let mut bench = |job: Job, rbm: &_, threads: usize| {
        let mut outcome = Ok(());
        group.bench_function(BenchmarkId::new("cpu", format!("{job}-t{threads}")), |b| {
            outcome = job.bench(b, &cpu, rbm, &data, threads);
        });
        outcome
    };
    for (n_hidden, warm_up) in [(125, 1000), (250, 1000), (1000, 500), (2000, 300), (4000, 200), (8000, 100)] {
        let job = Job { n_hidden, ..TUTORIAL };
        bench(job, &job.trained(&data, warm_up)?, 1)?;
    }
    let rbm = TUTORIAL.trained(&data, 1000)?;
    for k in [1, 2, 4, 8, 16, 32, 64] {
        bench(Job { k, ..TUTORIAL }, &rbm, 1)?;
    }
    for n_chains in [1, 10, 100, 1000, 10_000] {
        bench(Job { algorithm: Algorithm::Pcd { n_chains }, ..TUTORIAL }, &rbm, 1)?;
    }
    for threads in [1, 2, 3, 4] {
        bench(TUTORIAL, &rbm, threads)?;
    }
    Ok(())
}
