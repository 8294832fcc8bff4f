//! `harmonium completions` and `harmonium man`: what a shell and `man` need of the command line.

use clap::Args;
use clap_complete::Shell;
use harmonium::{Error, Result, storage::create_folder};
use std::{io::Write, path::PathBuf};

#[derive(Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Args)]
pub struct Manual {
    /// Folder for the pages, one for each command; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "man")]
    pub out: PathBuf,
}

pub fn completions(mut all: clap::Command, options: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut all, "harmonium", &mut script);
    match std::io::stdout().lock().write_all(&script) {
        Err(problem) if problem.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::File { path: "standard output".into(), problem: problem.to_string() })
        }
        _ => Ok(()),
    }
}

pub fn manual(all: clap::Command, options: &Manual) -> Result<()> {
    create_folder(&options.out)?;
    clap_mangen::generate_to(all, &options.out)
        .map_err(|problem| Error::File { path: options.out.display().to_string(), problem: problem.to_string() })
}
