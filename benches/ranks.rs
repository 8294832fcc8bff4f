//! Updates of the tutorial's model with many chains, on several ranks: the time of an update, and its part in MPI.
//!
//! ```sh
//! cargo bench --features mpi --bench ranks --no-run                       # prints the path of the program
//! mpirun -n 2 --bind-to none target/release/deps/ranks-… --bench --threads 1
//! target/release/deps/ranks-… --bench --threads 2                         # one process, without MPI
//! ```
//!
//! Prints one line of JSON a job, for one update on rank 0: `ms` is the median over runs, `collectives_ms` the part in MPI, which
//! includes waiting for the slowest rank, `bytes` the bytes that each rank receives. `ranks.py` alternates both programs and
//! extrapolates the lines to 64 machines.

mod common;

use common::{Job, Outcome, TRAINING_ROWS, TUTORIAL, mnist, pool, quick};
use harmonium::{Algorithm, Cpu, Device, Ranks, Traffic, Trainer};
use std::time::Instant;

/// Chains and Gibbs steps.
const JOBS: [(usize, usize); 4] = [(1000, 15), (1000, 1), (250, 15), (4000, 15)];
/// Runs, and updates in each run.
const RUNS: usize = 7;
const UPDATES: u32 = 12;

fn main() -> Outcome {
    let option = |name: &str| std::env::args().skip_while(|word| word != name).nth(1);
    let threads = option("--threads").map_or(Ok(1), |text| text.parse())?;
    let only: Option<usize> = option("--chains").map(|text| text.parse()).transpose()?;
    let Some(data) = mnist(TRAINING_ROWS)? else { return Ok(()) };
    let cpu = Cpu::detect()?;
    let is_launched =
        ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"].iter().any(|name| std::env::var_os(name).is_some());
    let ranks = is_launched.then(|| Ranks::join(cpu)).transpose()?;
    let device = ranks.as_ref().map_or(Device::from(cpu), Device::from);
    let pool = pool(threads)?;
    let rbm = pool.install(|| TUTORIAL.trained(&data, 3000).map_err(|problem| problem.to_string()))?;
    for (n_chains, k) in JOBS.into_iter().filter(|job| only.is_none_or(|chains| chains == job.0)) {
        let job = Job { algorithm: Algorithm::Pcd { n_chains }, k, ..TUTORIAL };
        let mut resident = rbm.on(&device)?;
        let mut trainer = Trainer::new(&device, rbm.shape(), job.settings())?;
        let mut batches = job.batches(&data);
        let mut run = |updates: u32| -> harmonium::Result<(f64, Traffic)> {
            let (begin, before) = (Instant::now(), traffic(ranks.as_ref()));
            for _ in 0..updates {
                let batch = batches.next().expect("the data has a batch");
                trainer.step(&mut resident, data.rows().range(batch), 0.1)?;
            }
            let mut spent = traffic(ranks.as_ref());
            (spent.calls, spent.bytes) = (spent.calls - before.calls, spent.bytes - before.bytes);
            spent.time -= before.time;
            Ok((begin.elapsed().as_secs_f64(), spent))
        };
        let (runs, updates) = if quick() { (1, 1) } else { (RUNS, UPDATES) };
        let mut all = pool.install(|| {
            run(updates)?;
            (0..runs).map(|_| run(updates)).collect::<harmonium::Result<Vec<_>>>()
        })?;
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (seconds, spent) = all[all.len() / 2];
        if ranks.as_ref().is_none_or(|ranks| ranks.rank() == 0) {
            let each = |x: f64| x / f64::from(updates);
            println!(
                "{{\"job\": \"{job}\", \"chains\": {n_chains}, \"k\": {k}, \"ranks\": {}, \"threads\": {threads}, \"ms\": {:.3}, \
                 \"collectives_ms\": {:.3}, \"collectives\": {}, \"bytes\": {}}}",
                ranks.as_ref().map_or(1, Ranks::len),
                each(1e3 * seconds),
                each(1e3 * spent.time.as_secs_f64()),
                each(spent.calls as f64),
                each(spent.bytes as f64),
            );
        }
    }
    Ok(())
}

fn traffic(ranks: Option<&Ranks>) -> Traffic {
    ranks.map(Ranks::traffic).unwrap_or_default()
}
