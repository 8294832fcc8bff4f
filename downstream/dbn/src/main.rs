//! Trains a deep belief net on MNIST and prints its error.

use clap::Parser;
use harmonium::{
    Cpu, Device, Result,
    formats::mnist::Split,
    raster::{sample_sheet, write_png},
    storage::create_folder,
};
use harmonium_dbn::{
    Digits, FineTuning, Net, Pretraining,
    backprop::{Backprop, Dropout},
    fine_tune::{error, fine_tune},
    pretrain::pretrain,
    sample::sample,
};
use std::{path::PathBuf, process::ExitCode, time::Instant};

/// Trains a deep belief net on MNIST: pretraining layer by layer, samples, fine-tuning by backpropagation.
#[derive(Parser)]
struct Options {
    /// Folder with MNIST's files.
    #[arg(long, default_value = "data/mnist")]
    data: PathBuf,
    /// Folder for results: the pretrained stack, its samples, the fine-tuned net.
    #[arg(long, default_value = "harmonium-out/dbn")]
    out: PathBuf,
    /// Sizes of the hidden layers, from bottom to top.
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 1000, 1000])]
    layers: Vec<usize>,
    /// Seed of all random numbers.
    #[arg(long, default_value_t = 123)]
    seed: u64,
    /// Number of threads [default: the number of processors].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Read a pretrained stack from this folder instead of training it.
    #[arg(long)]
    from: Option<PathBuf>,
    /// Epochs of pretraining for each layer.
    #[arg(long, default_value_t = Pretraining::default().epochs)]
    pretrain_epochs: u64,
    /// Initial learning rate of pretraining.
    #[arg(long, default_value_t = Pretraining::default().lr)]
    pretrain_lr: f32,
    /// Epochs of fine-tuning; 0 for pretraining only.
    #[arg(long, default_value_t = FineTuning::default().epochs)]
    epochs: u64,
    /// Initial learning rate of fine-tuning.
    #[arg(long, default_value_t = FineTuning::default().lr)]
    lr: f32,
    /// Momentum of fine-tuning.
    #[arg(long, default_value_t = FineTuning::default().momentum)]
    momentum: f32,
    /// Dropout rate of the inputs in fine-tuning.
    #[arg(long, default_value_t = FineTuning::default().dropout.inputs)]
    input_dropout: f32,
    /// Dropout rate of hidden units in fine-tuning.
    #[arg(long, default_value_t = FineTuning::default().dropout.hidden)]
    dropout: f32,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let threads = usize::from(options.threads.unwrap_or(0));
    let done = match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        // The whole run is inside the pool, where tasks start faster.
        Ok(pool) => pool.install(|| run(&options)).map_err(|problem| problem.to_string()),
        Err(problem) => Err(problem.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let begin = Instant::now();
    let seconds = || begin.elapsed().as_secs();
    let pretraining =
        Pretraining { epochs: options.pretrain_epochs, lr: options.pretrain_lr, ..Pretraining::default() };
    let fine_tuning = FineTuning {
        epochs: options.epochs,
        lr: options.lr,
        momentum: options.momentum,
        dropout: Dropout { inputs: options.input_dropout, hidden: options.dropout },
        ..FineTuning::default()
    };
    pretraining.check()?;
    fine_tuning.check()?;
    let cpu = Cpu::detect()?;
    let device = Device::from(cpu);
    let train = Digits::open(&options.data, Split::Train)?;
    let source = options.data.display().to_string();
    let validation = Digits::open(&options.data, Split::Validation)?.like(&train, &source)?;
    create_folder(&options.out)?;

    let mut net = match &options.from {
        Some(folder) => Net::load(folder)?,
        None => {
            println!("{pretraining:?}");
            let net = pretrain(&device, &train, &options.layers, &pretraining, options.seed, |layer, epoch, cost| {
                println!("{:5} s  layer {} epoch {epoch}: reconstruction {cost:.2}", seconds(), layer + 1);
            })?;
            net.save(&options.out.join("pretrained"))?;
            net
        }
    };

    net.check(train.rows().units(), train.labels().names())?;
    let (times, each, side) = (10, 2, train.rows().units().isqrt());
    let classes: Vec<usize> = (0..train.n_classes() * each).map(|chain| chain / each).collect();
    let means = sample(&device, &net, &classes, times, 200, options.seed)?;
    write_png(&sample_sheet(&means, (side, side), times, classes.len())?, &options.out.join("samples.png"))?;

    if options.epochs == 0 {
        return Ok(());
    }
    println!("{fine_tuning:?}");
    net.add_classes()?;
    let best = fine_tune(cpu, &mut net, &train, &validation, &fine_tuning, options.seed, |report| {
        let (mark, percent) = (if report.is_best { ", the best" } else { "" }, 100.0 * report.validation);
        println!("{:5} s  epoch {}: cost {:.5}, validation {percent:.2} %{mark}", seconds(), report.epoch, report.cost);
    })?;
    net.save(&options.out.join("fine-tuned"))?;
    let test = Digits::open(&options.data, Split::Test)?.like(&train, &source)?;
    let test = error(&mut Backprop::new(&net), &net, &test);
    println!("{:5} s  validation {:.2} %, test {:.2} %", seconds(), 100.0 * best, 100.0 * test);
    Ok(())
}
