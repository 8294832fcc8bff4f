//! The command `harmonium`: trains RBMs, measures and samples them, and shows what they have learned.

mod activity;
mod arguments;
mod checkpoints;
mod clamp;
mod classify;
mod console;
mod data;
mod diagnose;
mod evaluate;
mod examples;
mod exchange;
mod filters;
mod guide;
mod impute;
mod in_place;
mod info;
mod judge;
mod log;
mod memory;
mod numbers;
mod plot;
mod pool;
mod ranks;
mod report;
mod resume;
mod sample;
mod score;
mod shell;
mod signals;
mod train;
mod transform;

use arguments::Command;
use std::process::ExitCode;

/// Why the command fails.
enum Failure {
    /// The command line is wrong: exit status 2.
    Usage(String),
    /// A signal stopped it, and the command has reported this: exit status 128 + the signal's number.
    Signal(u8),
    /// Any other error: exit status 1.
    Run(harmonium::Error),
}

impl From<harmonium::Error> for Failure {
    fn from(problem: harmonium::Error) -> Self {
        Failure::Run(problem)
    }
}

fn main() -> ExitCode {
    let ranks = match ranks::join() {
        Ok(ranks) => ranks,
        Err(problem) => return fail(&problem.to_string(), 1),
    };
    let outcome = match std::env::args_os().len() {
        0 | 1 => guide::welcome(&arguments::names()).map_err(Failure::Run),
        _ => arguments::parse().map_err(Failure::Usage).and_then(|command| command.map_or(Ok(()), run)),
    };
    let (text, status) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Signal(number)) => return ExitCode::from(128 + number),
        Err(Failure::Usage(text)) => (text, 2),
        Err(Failure::Run(problem)) => (problem.to_string(), 1),
    };
    match ranks {
        Some(ranks) => ranks.fail(&text, status),
        None => fail(&text, status),
    }
}

fn fail(text: &str, status: u8) -> ExitCode {
    console::complain(&format!("error: {text}"));
    ExitCode::from(status)
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Train(options) => {
            let (options, checkpoint) = resume::settle(*options)?;
            options.check()?;
            let stopped = options.compute.run(|device| train::run(device, &options, checkpoint))?;
            stopped.map_or(Ok(()), |signal| Err(Failure::Signal(signal)))
        }
        Command::Sample(options) => options.compute.run(|device| sample::run(device, &options)),
        Command::Impute(options) => options.compute.run(|device| impute::run(device, &options)),
        Command::Evaluate(options) => options.judge.compute.run(|device| evaluate::run(device, &options)),
        Command::Transform(options) => options.compute.run(|device| transform::run(device, &options)),
        Command::Score(options) => options.judge.compute.run(|device| score::run(device, &options)),
        Command::Classify(options) => options.compute.run(|device| classify::run(device, &options)),
        Command::Diagnose(options) => options.compute.run(|device| diagnose::run(device, &options)),
        Command::Filters(options) => filters::run(&options),
        Command::Report(options) => options.compute.run(|device| report::run(device, &options)),
        Command::Info(options) => options.compute.run(|device| info::run(device, &options)),
        Command::Data(options) => Ok(guide::run(&options)?),
        Command::Completions(options) => Ok(shell::completions(arguments::all(), &options)?),
        Command::Man(options) => Ok(shell::manual(arguments::all(), &options)?),
        Command::Import(options) => Ok(exchange::import(&options)?),
        Command::Export(options) => Ok(exchange::export(&options)?),
    }
}
