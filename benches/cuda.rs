//! Times on a GPU: updates, chains, annealing and free energies on MNIST, for each kind of sums.
//!
//! Prints a line of JSON for each job and kind of sums: median seconds a call by the device's clock (`device`) and by the host's clock
//! (`host`). One measurement covers many calls; the host waits for the last one.
//!
//! `--job NAME` and `--sums NAME` select jobs. `--quick` runs everything once. `--trained N` sets the number of updates before the
//! jobs with 500 hidden units. `--save FILE` writes that model as `f32`: weights, visible bias, hidden bias. `--device` only prints
//! the driver's name of the GPU.

mod common;

use common::{Job, Outcome, TRAINING_ROWS, TUTORIAL, mnist};
use harmonium::{
    Algorithm, Chains, Cuda, CudaError, Dataset, Device, Error, Monitor, Purpose, Rbm, Result, Sums, Sweeps, Trainer,
    Uniforms,
    log_partition::{Annealing, BaseRate, Schedule, ais},
};
use std::time::Instant;

/// The defaults of [`harmonium::log_partition::Annealing`].
const RUNS: usize = 100;
const TEMPERATURES: usize = 14_500;
/// The number of the tutorial's updates before models are compared with those of other programs.
const EPOCH: usize = 2500;

struct Options {
    job: Option<String>,
    sums: Option<String>,
    quick: bool,
    trained: usize,
    save: Option<String>,
    device: bool,
}

impl Options {
    fn of_arguments() -> std::result::Result<Self, String> {
        let mut options = Self { job: None, sums: None, quick: false, trained: EPOCH, save: None, device: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name}: expected a value"));
            match name.as_str() {
                "--job" => options.job = Some(value()?),
                "--sums" => options.sums = Some(value()?),
                "--trained" => options.trained = value()?.parse().map_err(|_| "--trained: expected a number")?,
                "--save" => options.save = Some(value()?),
                "--device" => options.device = true,
                // Arguments that cargo adds: `cargo test --benches`, `cargo bench`.
                "--quick" | "--test" => options.quick = true,
                "--bench" => {}
                _ => return Err(format!("{name}: expected --job, --sums, --quick, --trained, --save or --device")),
            }
        }
        if options.quick {
            options.trained = options.trained.min(10);
        }
        Ok(options)
    }

    fn wants(&self, job: &str, sums: Sums) -> bool {
        let same = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        same(&self.job, job) && same(&self.sums, &sums.to_string())
    }
}

/// The setting of a job: the device with a kind of sums, models and data.
struct Bench<'a> {
    options: &'a Options,
    cuda: Cuda,
    device: Device,
    data: &'a Dataset,
    rbm: &'a Rbm,
}

impl Bench<'_> {
    /// Times `call` and prints the result. `unit`: the unit of work; `n`: units in a call.
    fn time(&self, job: &str, unit: &str, n: usize, mut call: impl FnMut() -> Result<()>) -> Outcome {
        let mut stretch = |calls: usize| -> Result<[f64; 2]> {
            let start = Instant::now();
            let device = self.cuda.seconds_of(|| (0..calls).try_for_each(|_| call()))?;
            Ok([device, start.elapsed().as_secs_f64()].map(|seconds| seconds / calls as f64))
        };
        let (calls, repeats) = if self.options.quick {
            (1, 1)
        } else {
            // The first calls capture graphs and choose kernels.
            let [_, first] = stretch(1)?;
            // Few calls if each takes long.
            let [_, host] = if first < 0.5 { stretch(3)? } else { [first; 2] };
            (((0.1 / host) as usize).max(1), if host < 0.5 { 7 } else { 3 })
        };
        let mut found = (0..repeats).map(|_| stretch(calls)).collect::<Result<Vec<_>>>()?;
        let mut sorted = |clock: usize| {
            found.sort_by(|a, b| a[clock].total_cmp(&b[clock]));
            [found[0][clock], found[repeats / 2][clock], found[repeats - 1][clock]]
        };
        let ([device_least, device, device_most], [host_least, host, host_most]) = (sorted(0), sorted(1));
        println!(
            "{}",
            serde_json::json!({
                "who": "harmonium", "job": job, "sums": self.cuda.sums().to_string(), "unit": unit, "units_a_call": n,
                "device": device, "device_least": device_least, "device_most": device_most,
                "host": host, "host_least": host_least, "host_most": host_most,
                "calls": calls, "repeats": repeats,
            })
        );
        Ok(())
    }

    /// `name`: updates of a model.
    fn updates(&self, name: &str, job: Job, rbm: &Rbm) -> Outcome {
        let mut resident = rbm.on(&self.device)?;
        let mut trainer = Trainer::new(&self.device, rbm.shape(), job.settings())?;
        let loaded = self.device.load(self.data.rows())?;
        let mut batches = job.batches(self.data);
        self.time(name, "update", 1, || {
            let rows = batches.next().expect("the data has a batch");
            trainer.step(&mut resident, loaded.range(rows), 0.1)
        })
    }

    fn chains(&self, name: &str, n: usize, k: usize) -> Outcome {
        let resident = self.rbm.on(&self.device)?;
        let loaded = self.device.load(self.data.rows())?;
        let draws = Uniforms::new(1, Purpose::Sampling);
        let mut chains = Chains::from_visible(&resident, loaded.range(0..n), draws)?;
        self.time(name, "step of all chains", k, || chains.sweep(&resident, k))
    }

    fn annealing(&self, name: &str) -> Outcome {
        let resident = self.rbm.on(&self.device)?;
        let base_rate = BaseRate::fit(self.data.rows());
        let steps = if self.options.quick { 10 } else { TEMPERATURES };
        let settings = Annealing { runs: RUNS, schedule: Schedule::new(steps)?, ..Annealing::default() };
        let mut found = None;
        self.time(name, "temperature of 100 runs", steps, || {
            found = Some(ais(&resident, &base_rate, &settings)?.estimate);
            Ok(())
        })?;
        let sums = self.cuda.sums().to_string();
        println!("{}", serde_json::json!({"who": "harmonium", "job": "same work", "sums": sums, "log_z": found}));
        Ok(())
    }

    fn free_energies(&self, name: &str) -> Outcome {
        let resident = self.rbm.on(&self.device)?;
        let loaded = self.device.load(self.data.rows())?;
        let rows = if self.options.quick { 100 } else { 10_000 };
        self.time(name, "row", rows, || resident.free_energy(loaded.range(0..rows)).map(drop))
    }
}

fn main() -> Outcome {
    let options = Options::of_arguments()?;
    let cuda = match Cuda::new(0) {
        Err(Error::Cuda(why @ (CudaError::NoDriver | CudaError::NoDevice { .. }))) => {
            eprintln!("skipped: {why}");
            return Ok(());
        }
        other => other?,
    };
    if options.device {
        println!("{}", cuda.name());
        return Ok(());
    }
    let Some(data) = mnist(TRAINING_ROWS)? else { return Ok(()) };
    let canonical = Device::from(cuda.clone());
    let watched = Job { monitor: Monitor::PseudoLikelihood, ..TUTORIAL };
    let cd = Job { n_hidden: 1024, algorithm: Algorithm::Cd, k: 1, batch: 128, ..TUTORIAL };
    let pcd = Job { n_hidden: 2048, algorithm: Algorithm::Pcd { n_chains: 512 }, k: 1, batch: 512, ..TUTORIAL };
    let mut failed = false;
    let some = |n: usize| if options.quick { n.min(2) } else { n };
    let rbm = TUTORIAL.trained_on(&canonical, &data, options.trained)?;
    if let Some(path) = &options.save {
        let (weights, visible_bias, hidden_bias) = rbm.clone().into_parts();
        let numbers = weights.iter().chain(&visible_bias).chain(&hidden_bias);
        std::fs::write(path, numbers.flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())?;
    }
    for (name, job, warm_up) in [
        ("tutorial", Some(TUTORIAL), 0),
        ("tutorial-pl", Some(watched), 0),
        ("cd1-1024", Some(cd), 600),
        ("pcd1-2048", Some(pcd), 200),
        ("10000x1", None, 0),
        ("10000x15", None, 0),
        ("10000x15-strips", None, 0),
        ("1000x15", None, 0),
        ("1000x15-strips", None, 0),
        ("20x15", None, 0),
        ("ais", None, 0),
        ("free-energies", None, 0),
    ] {
        // Canonical sums without steps on the grid.
        let strips = name.ends_with("-strips");
        let all: &[_] = match strips {
            true => &[Sums::Canonical],
            false => &[Sums::Canonical, Sums::Gemm, Sums::GemmTf32, Sums::Auto],
        };
        let wanted: Vec<_> = all.iter().copied().filter(|&sums| options.wants(name, sums)).collect();
        let own = match job {
            Some(job) if warm_up > 0 && !wanted.is_empty() => Some(job.trained_on(&canonical, &data, some(warm_up))?),
            _ => None,
        };
        for sums in wanted {
            let timed = || {
                let sweeps = if strips { Sweeps::Strips } else { Sweeps::Auto };
                let cuda = cuda.clone().with_sums(sums)?.with_sweeps(sweeps);
                let bench = Bench { options: &options, device: cuda.clone().into(), cuda, data: &data, rbm: &rbm };
                match (name, job) {
                    (_, Some(job)) => bench.updates(name, job, own.as_ref().unwrap_or(&rbm)),
                    ("10000x1", _) => bench.chains(name, if options.quick { 100 } else { 10_000 }, 1),
                    ("10000x15" | "10000x15-strips", _) => {
                        bench.chains(name, if options.quick { 100 } else { 10_000 }, 15)
                    }
                    ("1000x15" | "1000x15-strips", _) => bench.chains(name, if options.quick { 100 } else { 1000 }, 15),
                    ("20x15", _) => bench.chains(name, 20, 15),
                    ("ais", _) => bench.annealing(name),
                    (_, None) => bench.free_energies(name),
                }
            };
            // A failed job does not stop the others.
            if let Err(problem) = timed() {
                let (sums, problem) = (sums.to_string(), problem.to_string());
                let report = serde_json::json!({
                    "who": "harmonium", "job": name, "sums": sums, "unit": "", "problem": problem,
                });
                println!("{report}");
                failed = true;
            }
        }
    }
    if failed { Err("not every job could be timed".into()) } else { Ok(()) }
}
