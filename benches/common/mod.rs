//! Shared by the benches: measurement times, data, trained models, thread pools, and jobs with their names.
//!
//! Every id is `operation/sums/size`: the operation; its implementation (`cpu`, the matrix library behind `Sums::Gemm`, or a baseline
//! defined here); the sizes, with the number of threads last (`t2`).
#![allow(dead_code, reason = "no bench uses all of it")]

#[path = "../../tests/oracle/places.rs"]
mod places;

use criterion::{Bencher, Criterion};
use harmonium::{
    Algorithm, Batch, Cpu, Dataset, Device, Gradient, Monitor, Rbm, Resident, Settings, Shape, Sums, Trainer, idx,
};
use std::{
    error::Error,
    fmt::{self, Display},
    fs::File,
    hint::black_box,
    ops::Range,
    time::{Duration, Instant},
};

pub type Outcome = Result<(), Box<dyn Error>>;

/// The matrix library behind [`Sums::Gemm`] in this build.
pub const SGEMM: &str = match (cfg!(feature = "openblas"), cfg!(feature = "blas")) {
    (true, _) => "openblas",
    (false, true) => "blas",
    (false, false) => "matrixmultiply",
};

/// Whether everything runs only once: `cargo bench -- --test`, `cargo test --benches`.
pub fn quick() -> bool {
    std::env::args().any(|a| a == "--test") || !std::env::args().any(|a| a == "--bench")
}

/// Short measurements: several hundred must fit into a quarter of an hour.
pub fn criterion() -> Criterion {
    if cfg!(feature = "blas") && std::env::var_os("OPENBLAS_NUM_THREADS").is_none() {
        eprintln!("note: OPENBLAS_NUM_THREADS is not set; the matrix library may use all cores, regardless of the id");
    }
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .nresamples(10_000)
        .configure_from_args()
}

/// The CPU with the sums of that library.
pub fn gemm() -> harmonium::Result<Device> {
    Ok(Cpu::detect()?.with_sums(Sums::Gemm)?.into())
}

pub fn pool(threads: usize) -> Result<rayon::ThreadPool, rayon::ThreadPoolBuildError> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build()
}

/// Times `f`. All calls of a sample run inside one `install`.
pub fn time<T>(bencher: &mut Bencher<'_>, pool: &rayon::ThreadPool, mut f: impl FnMut() -> T + Send) {
    bencher.iter_custom(|iterations| {
        pool.install(|| {
            let start = Instant::now();
            for _ in 0..iterations {
                black_box(f());
            }
            start.elapsed()
        })
    });
}

/// The first rows of MNIST, or a message and `None` if the file is missing.
pub fn mnist(rows: usize) -> Result<Option<Dataset>, Box<dyn Error>> {
    let path = places::mnist().join("train-images-idx3-ubyte.gz");
    let Ok(file) = File::open(&path) else {
        eprintln!("skipped: no data/mnist/train-images-idx3-ubyte.gz");
        return Ok(None);
    };
    let mut data = idx::read_idx(flate2::read::GzDecoder::new(file), "MNIST")?.into_dataset()?;
    data.keep(0..rows.min(data.len()))?;
    Ok(Some(data))
}

/// The number of training rows.
pub const TRAINING_ROWS: usize = 50_000;

/// A kind of update of an RBM with 784 visible units.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub n_hidden: usize,
    pub algorithm: Algorithm,
    pub k: usize,
    pub batch: usize,
    pub monitor: Monitor,
}

/// The tutorial's update without a monitor.
pub const TUTORIAL: Job =
    Job { n_hidden: 500, algorithm: Algorithm::Pcd { n_chains: 20 }, k: 15, batch: 20, monitor: Monitor::None };

impl Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Job { n_hidden, algorithm, k, batch, monitor } = self;
        match algorithm {
            Algorithm::Pcd { n_chains } => write!(f, "784x{n_hidden}-pcd{k}-{batch}rows-{n_chains}chains")?,
            _ => write!(f, "784x{n_hidden}-cd{k}-{batch}rows")?,
        }
        match monitor {
            Monitor::None => Ok(()),
            Monitor::PseudoLikelihood => write!(f, "-pl"),
            other => write!(f, "-{other:?}"),
        }
    }
}

impl Job {
    pub fn settings(self) -> Settings {
        Settings { algorithm: self.algorithm, k: self.k, monitor: self.monitor, ..Settings::default() }
    }

    /// The batches of one epoch after another.
    pub fn batches(self, data: &Dataset) -> impl Iterator<Item = Range<usize>> + use<> {
        let epoch: Vec<_> = data.batches(self.batch).collect();
        epoch.into_iter().cycle()
    }

    /// An RBM after a number of updates, as the density of the layers determines the time of an update.
    pub fn trained(self, data: &Dataset, updates: usize) -> Result<Rbm, Box<dyn Error>> {
        self.trained_on(&Cpu::detect()?.into(), data, if quick() { updates.min(10) } else { updates })
    }

    /// The same on any device, with all updates even if [`quick`].
    pub fn trained_on(self, device: &Device, data: &Dataset, updates: usize) -> Result<Rbm, Box<dyn Error>> {
        let mut rbm = Rbm::new(Shape::new(784, self.n_hidden)?, 123);
        let mut lent = rbm.lend(device)?;
        let mut trainer = Trainer::new(device, lent.shape(), self.settings())?;
        let loaded = device.load(data.rows())?;
        let mut batches = self.batches(data).take(updates);
        batches.try_for_each(|rows| trainer.step(&mut lent, loaded.range(rows), 0.1))?;
        lent.finish()?;
        Ok(rbm)
    }

    /// Times updates of a copy of `rbm`, after a warm-up of the chains.
    pub fn bench(
        self, bencher: &mut Bencher<'_>, device: &Device, rbm: &Rbm, data: &Dataset, threads: usize,
    ) -> Outcome {
        self.bench_updates(bencher, device, rbm, data, threads, |trainer, rbm, batch| trainer.step(rbm, batch, 0.1))
    }

    /// The same updates with a gradient that the caller receives and applies.
    pub fn bench_own_rule(
        self, bencher: &mut Bencher<'_>, device: &Device, rbm: &Rbm, data: &Dataset, threads: usize,
    ) -> Outcome {
        let mut gradient = Gradient::zero(rbm.shape());
        self.bench_updates(bencher, device, rbm, data, threads, |trainer, rbm, batch| {
            trainer.gradient(rbm, batch, &mut gradient)?;
            rbm.apply(&gradient, 0.1)
        })
    }

    fn bench_updates(
        self, bencher: &mut Bencher<'_>, device: &Device, rbm: &Rbm, data: &Dataset, threads: usize,
        mut update: impl FnMut(&mut Trainer, &mut Resident, Batch<'_>) -> harmonium::Result<()> + Send,
    ) -> Outcome {
        let pool = pool(threads)?;
        let mut resident = rbm.on(device)?;
        let mut trainer = Trainer::new(device, rbm.shape(), self.settings())?;
        let loaded = device.load(data.rows())?;
        let mut batches = self.batches(data);
        let mut next = || {
            let rows = batches.next().expect("the data has a batch");
            update(&mut trainer, &mut resident, loaded.range(rows)).expect("the job is well-formed");
        };
        pool.install(|| (0..if quick() { 1 } else { 20 }).for_each(|_| next()));
        time(bencher, &pool, next);
        Ok(())
    }
}
