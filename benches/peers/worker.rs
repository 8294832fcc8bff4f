//! harmonium's side of the comparison of `run.py`: updates on demand.
//!
//! `peers_worker DATA N_HIDDEN cd|pcd|ais K ROWS CHAINS LR THREADS SUMS [MODEL]`: DATA holds rows of 784 eight-bit values;
//! SUMS is `cpu`, `cpu-pl` (with the pseudo-likelihood as monitor) or `gemm`. Reads commands, a line each: `run N` makes N updates
//! (`ais`: one run of N temperatures for all CHAINS) and answers with N, the seconds and, for `ais`, the estimate of
//! log Z; `save PATH` writes weights, visible and hidden bias as little-endian `f32`.

use harmonium::{
    Algorithm, Cpu, Dataset, Device, Monitor, Rbm, Settings, Shape, Sums, Trainer,
    log_partition::{Annealing, BaseRate, Schedule, ais},
};
use std::{error::Error, io::BufRead, time::Instant};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const VISIBLE: usize = 784;

/// Executes the commands: `run` prints its result, `save` writes the parameters.
fn serve<S>(
    state: &mut S, mut run: impl FnMut(&mut S, usize) -> Outcome<Option<f64>>, save: impl Fn(&S) -> Outcome<Rbm>,
) -> Outcome {
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("run", n)) => {
                let n = n.parse()?;
                let start = Instant::now();
                let found = run(state, n)?;
                let seconds = start.elapsed().as_secs_f64();
                println!("{n} {seconds} {}", found.map_or(String::new(), |found| found.to_string()));
            }
            Some(("save", path)) => {
                let (weights, visible_bias, hidden_bias) = save(state)?.into_parts();
                let numbers = weights.iter().chain(&visible_bias).chain(&hidden_bias);
                std::fs::write(path, numbers.flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())?;
                println!("saved");
            }
            _ => return Err(format!("expected run N or save PATH, found {line:?}").into()),
        }
    }
    Ok(())
}

fn train(device: &Device, data: &Dataset, shape: Shape, settings: Settings, rows: usize, lr: f32) -> Outcome {
    let mut rbm = Rbm::new(shape, settings.seed);
    let loaded = device.load(data.rows())?;
    // The peers leave out the rows after the last whole minibatch.
    let epoch: Vec<_> = data.batches(rows).filter(|batch| batch.len() == rows).collect();
    let mut batches = epoch.into_iter().cycle();
    let mut state = (Trainer::new(device, shape, settings)?, rbm.lend(device)?);
    serve(
        &mut state,
        |(trainer, lent), n| {
            for batch in batches.by_ref().take(n) {
                trainer.step(lent, loaded.range(batch), lr)?;
            }
            Ok(None)
        },
        |(_, lent)| Ok(lent.to_rbm()?),
    )
}

fn anneal(data: &Dataset, shape: Shape, runs: usize, model: &str) -> Outcome {
    let bytes = std::fs::read(model)?;
    let mut numbers: Vec<f32> = bytes.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect();
    let hidden_bias = numbers.split_off(VISIBLE * shape.n_hidden() + VISIBLE);
    let visible_bias = numbers.split_off(VISIBLE * shape.n_hidden());
    let mut rbm = Rbm::from_parts(shape, numbers, visible_bias, hidden_bias)?;
    let base_rate = BaseRate::fit(data.rows());
    serve(
        &mut rbm,
        |rbm, n| {
            let settings = Annealing { runs, schedule: Schedule::new(n)?, ..Annealing::default() };
            Ok(Some(ais(&rbm.on(Cpu::detect()?)?, &base_rate, &settings)?.estimate))
        },
        |rbm| Ok(rbm.clone()),
    )
}

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, n_hidden, algorithm, k, rows, n_chains, lr, threads, sums, model @ ..] = &arguments[..] else {
        return Err("DATA N_HIDDEN cd|pcd|ais K ROWS CHAINS LR THREADS SUMS [MODEL]".into());
    };
    let data = Dataset::from_u8(std::fs::read(data)?, VISIBLE)?;
    let (shape, n_chains) = (Shape::new(VISIBLE, n_hidden.parse()?)?, n_chains.parse()?);
    let (rows, lr) = (rows.parse()?, lr.parse()?);
    let algorithm_of = |name: &str| match name {
        "cd" => Algorithm::Cd,
        _ => Algorithm::Pcd { n_chains },
    };
    let monitor = if sums == "cpu-pl" { Monitor::PseudoLikelihood } else { Monitor::None };
    let settings = Settings { algorithm: algorithm_of(algorithm), k: k.parse()?, monitor, ..Settings::default() };
    // Everything runs inside one `install`: entering the pool for each update costs microseconds.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build()?;
    let work = || match (algorithm.as_str(), sums.as_str(), model) {
        ("ais", _, [model]) => anneal(&data, shape, n_chains, model),
        (_, "gemm", _) => train(&Cpu::detect()?.with_sums(Sums::Gemm)?.into(), &data, shape, settings, rows, lr),
        _ => train(&Cpu::detect()?.into(), &data, shape, settings, rows, lr),
    };
    pool.install(|| work().map_err(|problem| problem.to_string())).map_err(Into::into)
}
