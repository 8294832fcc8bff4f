//! log Z of a trained model: by enumeration, and by annealing.
//!
//! | id | |
//! |---|---|
//! | `log_partition/cpu/exact-784x20-tT` | enumeration of 2^20 states. Throughput: elements = states |
//! | `log_partition/cpu/moments-784x20-tT` | with all means and pair correlations |
//! | `log_partition/cpu/ais-784x500-RxS-tT` | R runs of S temperatures. Throughput: elements = temperatures of all runs |

mod common;

use common::{Job, Outcome, TRAINING_ROWS, TUTORIAL, criterion, mnist, pool, quick, time};
use criterion::{BenchmarkId, Throughput};
use harmonium::{
    Cpu,
    log_partition::{self, Annealing, BaseRate, Schedule, ais},
};
use std::time::Duration;

fn main() -> Outcome {
    let mut c = criterion();
    if let Some(data) = mnist(TRAINING_ROWS)? {
        let small = Job { n_hidden: if quick() { 10 } else { 20 }, ..TUTORIAL }.trained(&data, 3000)?;
        let large = TUTORIAL.trained(&data, 3000)?;
        let resident = large.on(Cpu::detect()?)?;
        let base_rate = BaseRate::fit(data.rows());
        let schedule = Schedule::new(if quick() { 10 } else { 14_500 })?;
        let settings = Annealing { schedule, ..Annealing::default() };
        let mut group = c.benchmark_group("log_partition");
        group.sample_size(10).warm_up_time(Duration::from_millis(1));
        for t in [1, 2] {
            let pool = pool(t)?;
            let id = |what: String| BenchmarkId::new("cpu", format!("{what}-t{t}"));
            let units = small.shape().n_hidden();
            group.throughput(Throughput::Elements(1 << units));
            group.bench_function(id(format!("exact-784x{units}")), |b| {
                time(b, &pool, || log_partition::exact(small.view()));
            });
            group.bench_function(id(format!("moments-784x{units}")), |b| {
                time(b, &pool, || log_partition::exact::moments(small.view()));
            });
            let (runs, steps) = (settings.runs, settings.schedule.steps());
            group.throughput(Throughput::Elements((runs * steps) as u64));
            group.bench_function(id(format!("ais-784x500-{runs}x{steps}")), |b| {
                time(b, &pool, || ais(&resident, &base_rate, &settings));
            });
        }
        group.finish();
    }
    c.final_summary();
    Ok(())
}
