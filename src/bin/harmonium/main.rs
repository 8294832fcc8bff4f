//! The command `harmonium`: trains RBMs and shows what they have learnt.

mod arguments;
mod checkpoints;
mod console;
mod curve;
mod data;
mod diagnose;
mod evaluate;
mod filters;
mod info;
mod log;
mod memory;
mod pool;
mod resume;
mod sample;
mod signals;
mod train;

use arguments::{Command, Device, Road};
use harmonium::{Cpu, Gemm};
#[cfg(feature = "cuda")]
use harmonium::{Cuda, CudaGemm};
use std::process::ExitCode;

/// Why the command ends without having done its work.
enum Failure {
    /// It was called wrongly: exit status 2.
    Usage(String),
    /// A signal stopped it, which has been said: exit status 128 and the signal's number.
    Signal(u8),
    /// Anything else: exit status 1.
    Run(harmonium::Error),
}

impl From<harmonium::Error> for Failure {
    fn from(problem: harmonium::Error) -> Self {
        Failure::Run(problem)
    }
}

fn main() -> ExitCode {
    let command = match arguments::parse() {
        Ok(Some(command)) => command,
        Ok(None) => return ExitCode::SUCCESS,
        Err(usage) => return fail(Failure::Usage(usage)),
    };
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(failure),
    }
}

fn fail(failure: Failure) -> ExitCode {
    let (text, status) = match failure {
        Failure::Signal(number) => return ExitCode::from(128 + number),
        Failure::Usage(text) => (text, 2),
        Failure::Run(problem) => (problem.to_string(), 1),
    };
    console::complain(&format!("error: {text}"));
    ExitCode::from(status)
}

/// Runs something, written once for every backend, on a device by one of its roads.
macro_rules! on {
    ($device:expr, $road:expr, |$backend:ident| $run:expr) => {
        match ($device, $road) {
            (Device::Cpu, Road::Canonical | Road::Auto) => {
                let $backend = Cpu::detect()?;
                $run
            }
            (Device::Cpu, Road::Gemm) => {
                let $backend = Gemm::detect()?;
                $run
            }
            (Device::Cpu, Road::GemmTf32) => {
                let text = "--road: expected gemm-tf32 only with --device cuda, found it with cpu";
                return Err(Failure::Usage(text.into()));
            }
            #[cfg(feature = "cuda")]
            (Device::Cuda(ordinal), Road::Canonical) => {
                let $backend = Cuda::new(ordinal)?;
                $run
            }
            #[cfg(feature = "cuda")]
            (Device::Cuda(ordinal), road) => {
                let gemm = CudaGemm::new(ordinal)?;
                let $backend = match road {
                    Road::Auto => gemm.by_size(),
                    Road::GemmTf32 => gemm.with_tf32(),
                    Road::Canonical | Road::Gemm => gemm,
                };
                $run
            }
        }
    };
}

/// The only place that knows which devices and roads there are: everything below is written once for all of them.
fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Train(options) => {
            let (options, checkpoint) = resume::settle(options)?;
            options.check()?;
            let stopped = on!(options.compute.device, options.compute.road, |backend| {
                pool::install(options.compute.threads, || train::run(&backend, &options, checkpoint))?
            });
            stopped.map_or(Ok(()), |signal| Err(Failure::Signal(signal)))
        }
        Command::Sample(options) => {
            on!(options.compute.device, options.compute.road, |backend| {
                pool::install(options.compute.threads, || sample::run(&backend, &options))
            })
        }
        Command::Evaluate(options) => {
            on!(options.compute.device, options.compute.road, |backend| {
                pool::install(options.compute.threads, || evaluate::run(&backend, &options))
            })
        }
        Command::Diagnose(options) => {
            on!(options.compute.device, options.compute.road, |backend| {
                pool::install(options.compute.threads, || diagnose::run(&backend, &options))
            })
        }
        Command::Filters(options) => filters::run(&options),
        Command::Info(options) => info::run(&options),
    }
}
