//! Updates for each type of visible units: PCD-5 with 100 rows and 100 chains on random rows. Throughput: elements = updates.
//!
//! The id is `laws/SUMS/LAWSxHIDDEN-tT`; `cpu` stands for canonical sums, other names for a matrix library.

mod common;

use common::{Outcome, SGEMM, criterion, gemm, pool, time};
use criterion::{BenchmarkId, Throughput};
use harmonium::{
    Algorithm, Chains, Cpu, Dataset, Device, Monitor, Purpose, Rbm, Segment, Segments, Settings, Trainer, Uniforms,
};
use rand_core::Rng;

const ROWS: usize = 100;
const JOBS: [(&str, usize); 4] =
    [("binary:680", 100), ("potts:136x5", 100), ("potts:100x21", 100), ("gaussian:196", 196)];

/// Uniformly distributed states, or normally distributed numbers.
fn random(visible: Segments) -> harmonium::Result<Dataset> {
    let mut generator = Uniforms::new(1, Purpose::Sampling).generator();
    let mut values = Vec::new();
    for _ in 0..ROWS {
        for (segment, units) in visible.iter() {
            for _ in units.step_by(segment.states()) {
                let x = generator.next_u32();
                match segment {
                    Segment::Binary(_) => values.push(if x.is_multiple_of(5) { 1.0 } else { 0.0 }),
                    Segment::Gaussian(_) => values.push(harmonium::elementary::normal(x)),
                    Segment::Potts { states, .. } => {
                        values.extend((0..states).map(|s| if x % states == s { 1.0 } else { 0.0 }));
                    }
                }
            }
        }
    }
    Dataset::of_numbers(values, visible)
}

fn main() -> Outcome {
    let mut c = criterion();
    let mut group = c.benchmark_group("laws");
    group.throughput(Throughput::Elements(1));
    let (cpu, gemm) = (Device::from(Cpu::detect()?), gemm()?);
    for (laws, n_hidden) in JOBS {
        let data = random(laws.parse()?)?;
        let rbm = Rbm::from_data(data.rows(), n_hidden, 123)?;
        for (sums, device) in [("cpu", &cpu), (SGEMM, &gemm)] {
            for threads in [1, 2] {
                let algorithm = Algorithm::Pcd { n_chains: 100 };
                let settings = Settings { algorithm, k: 5, monitor: Monitor::None, ..Settings::default() };
                let mut resident = rbm.on(device)?;
                let mut trainer = Trainer::new(device, rbm.shape(), settings)?;
                trainer.set_chains(Chains::from_hidden_bias(&resident, 100, Uniforms::new(1, Purpose::Training))?)?;
                let pool = pool(threads)?;
                group.bench_function(BenchmarkId::new(sums, format!("{laws}x{n_hidden}-t{threads}")), |b| {
                    time(b, &pool, || trainer.step(&mut resident, &data, 0.001).expect("an update"));
                });
            }
        }
    }
    group.finish();
    c.final_summary();
    Ok(())
}
