//! `harmonium evaluate`: the likelihood of data under a model, with intervals and warnings.

use crate::{
    arguments::OUTPUT_HEADING,
    console,
    judge::{Judge, LogZ},
};
use clap::Args;
use harmonium::{Device, LogLikelihood, LogPartition, Result, Summary};
use serde_json::{Value, json};
use std::{path::PathBuf, time::Instant};

#[derive(Args)]
pub struct Evaluate {
    #[command(flatten)]
    pub judge: Judge,
    /// Print JSON.
    #[arg(long, help_heading = OUTPUT_HEADING)]
    pub json: bool,
}

/// The results for a model and rows, in nats a row.
struct Evaluation {
    n_visible: usize,
    n_hidden: usize,
    rows: usize,
    mean_free_energy: f64,
    /// The source of the base rate and the chains, and whether it is the evaluated data.
    training: Option<(PathBuf, bool)>,
    log_z: Option<LogPartition>,
    log_likelihood: Option<LogLikelihood>,
    /// `None` with Gaussian units.
    pseudo_log_likelihood: Option<f64>,
    reconstruction: f64,
    is_binary: bool,
    seconds: f64,
}

pub fn run(device: &Device, options: &Evaluate) -> Result<()> {
    let start = Instant::now();
    let judged = options.judge.judge(device, LogZ::Auto)?;
    let shape = judged.resident.shape();
    let log_likelihood = |log_z| LogLikelihood::of(shape, &judged.free_energies, log_z);
    let evaluation = Evaluation {
        n_visible: shape.n_visible(),
        n_hidden: shape.n_hidden(),
        rows: judged.rows.len(),
        mean_free_energy: Summary::of(&judged.free_energies).mean,
        training: judged.training.clone(),
        log_z: judged.log_z.clone(),
        log_likelihood: judged.log_z.as_ref().map(log_likelihood),
        pseudo_log_likelihood: judged.pseudo_log_likelihoods()?.map(|each| Summary::of(&each).mean),
        reconstruction: judged.reconstructions()?.iter().sum::<f64>() / judged.rows.len() as f64,
        is_binary: shape.visible().is_binary(),
        seconds: start.elapsed().as_secs_f64(),
    };
    console::answer(&match options.json {
        true => vec![format!("{:#}", evaluation.json())],
        false => evaluation.table(&options.judge),
    })?;
    judged.notices(&options.judge);
    Ok(())
}

/// An interval, without its infinite ends.
fn interval(low: f64, high: f64) -> String {
    match (low.is_finite(), high.is_finite()) {
        (true, false) => format!("at least {low:.4}"),
        (false, true) => format!("at most {high:.4}"),
        _ => format!("{low:.4} to {high:.4}"),
    }
}

impl Evaluation {
    fn json(&self) -> Value {
        // Infinity and NaN become null.
        let log_z = self.log_z.as_ref().map(|z| {
            json!({
                "estimate": z.estimate,
                "lower": z.lower,
                "upper": z.upper,
                "verdict": z.verdict().to_string(),
                "reason": z.reason(),
                "effective_sample_size": z.effective_sample_size,
                "method": z.method.to_string(),
                "agreement": z.agreement.to_string(),
                "forward": z.forward,
                "reverse": z.reverse,
                "overlap": z.overlap,
                "r_hat": z.r_hat,
                "mix": z.mix,
                "warning": z.warning(),
            })
        });
        let log_likelihood = self.log_likelihood.as_ref().map(|l| {
            json!({
                "mean": l.mean,
                "standard_error": l.standard_error,
                "lower": l.lower,
                "upper": l.upper,
                "bits_per_dimension": l.bits_per_dimension(),
            })
        });
        let mut json = json!({
            "n_visible": self.n_visible,
            "n_hidden": self.n_hidden,
            "rows": self.rows,
            "mean_free_energy": self.mean_free_energy,
            "training": self.training.as_ref().map(|(path, evaluated)| {
                json!({ "path": path.display().to_string(), "evaluated": evaluated })
            }),
            "log_z": log_z,
            "log_likelihood": log_likelihood,
            "pseudo_log_likelihood": self.pseudo_log_likelihood,
            "seconds": self.seconds,
        });
        json[if self.is_binary { "reconstruction_cross_entropy" } else { "reconstruction" }] =
            self.reconstruction.into();
        json
    }

    fn table(&self, options: &Judge) -> Vec<String> {
        let each = |name: &str, nats: f64, more: String| {
            format!("{name:<29} {nats:>12.4} {:>12.6} {more}", nats / self.n_visible as f64).trim_end().to_string()
        };
        let Self { n_visible, n_hidden, rows, .. } = self;
        let mut lines = vec![
            format!("{}: {n_visible} visible and {n_hidden} hidden units", options.model.display()),
            format!(
                "{}: {rows} rows{}",
                options.data.display(),
                if self.is_binary { ", binarised (x ≥ 0.5 → 1)" } else { "" }
            ),
            format!("{:<29} {:>12} {:>12}", "", "nats a row", "a unit"),
            each("mean free energy", self.mean_free_energy, String::new()),
        ];
        if let Some(z) = &self.log_z {
            let verdict = z.verdict();
            let ends = if z.runs == 0 { String::new() } else { format!("{}, ", interval(z.lower, z.upper)) };
            lines.push(format!("{:<29} {:>12.4} {:>12} {ends}{verdict}: {}", "log Z", z.estimate, "", z.reason()));
            if z.runs > 0 {
                let directions = match (z.forward, z.reverse) {
                    (Some(forward), Some(reverse)) => format!(", forward {forward:.4}, reverse {reverse:.4}"),
                    _ => String::new(),
                };
                let (method, runs, agreement) = (z.method, z.runs, z.agreement);
                let size = format!("effective sample size {:.1}", z.effective_sample_size);
                lines.push(format!("{:<29} {method} of {runs} runs{directions}, {size}, {agreement}", ""));
            }
        }
        if let Some((path, evaluated)) = &self.training {
            let which = if *evaluated { "the evaluated rows" } else { "training rows" };
            let path = path.display();
            lines.push(format!("{:<29} base rate and some of the chains from {path}, {which}", ""));
        }
        if let Some(l) = &self.log_likelihood {
            let (interval, bits) = (interval(l.lower, l.upper), l.bits_per_dimension());
            let (error, verdict) = (console::known(l.standard_error, 4), l.verdict);
            let more = format!("{interval}, log Z {verdict}, standard error {error}, {bits:.6} bits a unit");
            lines.push(each("log-likelihood", l.mean, more));
        }
        if let Some(nats) = self.pseudo_log_likelihood {
            lines.push(each("pseudo-log-likelihood", nats, String::new()));
        }
        let name = if self.is_binary { "reconstruction cross-entropy" } else { "reconstruction" };
        lines.push(each(name, self.reconstruction, String::new()));
        lines.push(format!("{:.1} s", self.seconds));
        lines
    }
}
