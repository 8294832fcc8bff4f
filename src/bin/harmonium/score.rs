//! `harmonium score`: the likelihood of each row under a model.

use crate::{
    arguments::OUTPUT_HEADING,
    console,
    judge::{Judge, LogZ},
};
use clap::Args;
use harmonium::{Device, LogPartition, Result, storage};
use std::{fmt::Write, path::PathBuf};

#[derive(Args)]
pub struct Score {
    #[command(flatten)]
    pub judge: Judge,
    /// CSV table to write, with a line for each row; values are in nats.
    #[arg(long, value_name = "FILE", default_value = "scores.csv", help_heading = OUTPUT_HEADING)]
    pub out: PathBuf,
}

/// Writes the table. It has columns of log P only with `--log-z`, and the pseudo-likelihood only without Gaussian units.
pub fn run(device: &Device, options: &Score) -> Result<()> {
    let judged = options.judge.judge(device, LogZ::None)?;
    let mut columns = vec![("free_energy", judged.free_energies.clone())];
    if let Some(log_z) = &judged.log_z {
        let most = if judged.resident.shape().visible().is_discrete() { 0.0 } else { f64::INFINITY };
        let with = |log_z: f64| judged.free_energies.iter().map(|f| (-f - log_z).min(most)).collect();
        let LogPartition { estimate, lower, upper, .. } = *log_z;
        columns.extend([
            ("log_likelihood", with(estimate)),
            ("log_likelihood_lower", with(upper)),
            ("log_likelihood_upper", with(lower)),
        ]);
    }
    if let Some(each) = judged.pseudo_log_likelihoods()? {
        columns.push(("pseudo_log_likelihood", each));
    }
    columns.push(("reconstruction", judged.reconstructions()?));
    let mut text = columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",") + "\n";
    for r in 0..judged.rows.len() {
        let line: Vec<_> = columns.iter().map(|(_, each)| each[r].to_string()).collect();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", line.join(","));
    }
    storage::write_atomically(&options.out, |file| file.write_all(text.as_bytes()))?;
    console::say(&format!("{}: {} rows, {} scores each", options.out.display(), judged.rows.len(), columns.len()));
    judged.notices(&options.judge);
    Ok(())
}
