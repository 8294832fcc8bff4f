//! `harmonium diagnose`: checks whether chains of a model mix, and how fast.
//!
//! Half of the chains start at random rows of the data, half with all hidden units off, as R̂ needs starting points that are more dispersed
//! than the chains' distribution. The burn-in has as many steps as the record. The command also reports how often hidden units are on,
//! over all rows.

use crate::{
    activity,
    arguments::{Compute, DATA, DATA_HEADING, OUTPUT_HEADING, at_least},
    console::{self, Progress},
    data, memory,
    plot::{self, BLUE, Line, Look, ORANGE},
};
use clap::Args;
use harmonium::{
    Batch, ChainState, Chains, Device, Purpose, Resident, Result, Uniforms,
    diagnostics::{Activity, EquilibriumGap, Health, Recorder, equilibrium_gap},
    model,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Diagnose {
    /// Model file, as train writes it.
    pub model: PathBuf,
    /// Rows at which half of the chains start: a folder with MNIST's IDX files, or one data file.
    ///
    /// Of a folder, the test rows, or the training rows if there are none.
    #[arg(long, value_name = "PATH", default_value = DATA, help_heading = DATA_HEADING)]
    pub data: PathBuf,
    #[command(flatten)]
    pub selection: data::Selection,
    /// Number of chains; half start at data and half with all hidden units off.
    #[arg(long, value_name = "N", default_value = "20", value_parser = at_least::<2>, help_heading = "Chains")]
    pub chains: usize,
    /// Recorded Gibbs steps, after a burn-in of the same length.
    #[arg(long, value_name = "N", default_value = "5000", value_parser = at_least::<4>, help_heading = "Chains")]
    pub steps: usize,
    #[command(flatten)]
    pub compute: Compute,
    /// Print JSON.
    #[arg(long, help_heading = OUTPUT_HEADING)]
    pub json: bool,
    /// Plot the free energy of each chain over the steps, as SVG.
    #[arg(long, value_name = "FILE", help_heading = OUTPUT_HEADING)]
    pub plot: Option<PathBuf>,
}

/// The number of recorded overlaps, besides the free energy.
const OVERLAPS: usize = 4;
/// The seed. The random numbers differ from those of `train` with the same seed, as their purpose is another.
const SEED: u64 = 123;
/// The number of steps between two reports of progress.
const STEPS: usize = 100;

pub fn run(device: &Device, options: &Diagnose) -> Result<()> {
    let (rbm, extras) = model::load_with(&options.model)?;
    let read = |path: &Path, how: &_| data::starting(path, "--data", how);
    let rows =
        data::fitting((&rbm, &extras), &options.model, (&options.data, &options.selection), read)?.rows.binarised();
    memory::check_record(rbm.shape(), options.chains, options.steps, 1 + OVERLAPS)?;
    let starts = data::from_all_over(&rows, options.chains.div_ceil(2), SEED)?;
    let half = starts.len();
    let resident = rbm.on(device)?;
    let activity = resident.activity(rows.rows())?;
    let data = device.load(starts.rows())?;
    let at_data = data.range(0..half);
    let mut chains = both_starts(&resident, at_data, options.chains)?;
    let mut recorder = Recorder::new(&resident, &chains, OVERLAPS);
    let progress = Progress::new("chains", 2 * options.steps as u64, "steps", false);
    for done in (0..options.steps).step_by(STEPS) {
        let k = STEPS.min(options.steps - done);
        chains.sweep(&resident, k)?;
        progress.advance(k as u64);
    }
    for _ in 0..options.steps {
        chains.sweep(&resident, 1)?;
        recorder.record(&resident, &chains)?;
        progress.advance(1);
    }
    drop(progress);
    let health = recorder.health()?;
    let draws = chains.state()?.uniforms;
    let gap = equilibrium_gap(&resident, &without_data(&resident, &chains, half)?, at_data, 2 * options.steps, draws)?;
    if let Some(path) = &options.plot {
        let name = "step; chains started at data (blue) or with all hidden units off (orange)";
        let line = |(n, values)| Line {
            points: plot::in_order(values),
            colour: if n < half { BLUE } else { ORANGE },
            look: Look::Faint,
        };
        let lines: Vec<_> = recorder.free_energies().iter().map(Vec::as_slice).enumerate().map(line).collect();
        plot::write(path, name, "free energy, nats", &lines)?;
    }
    let warnings: Vec<String> = [health.warning(), gap.warning()].into_iter().flatten().collect();
    console::answer(&match options.json {
        true => vec![format!("{:#}", as_json(&health, &gap, &activity, &warnings))],
        false => table(options, &health, &gap, &activity),
    })?;
    warnings.iter().for_each(|warning| console::complain(&format!("warning: {warning}")));
    Ok(())
}

/// `n` chains: the first ones start at the rows, the others with all hidden units off.
fn both_starts(rbm: &Resident, rows: Batch<'_>, n: usize) -> Result<Chains> {
    let draws = Uniforms::new(SEED, Purpose::Diagnosis);
    let ChainState { mut hidden, mut betas, uniforms } = Chains::from_visible(rbm, rows, draws)?.state()?;
    hidden.resize(n * rbm.shape().n_hidden().div_ceil(64), 0);
    betas.resize(n, 1.0);
    Chains::from_state(rbm.device(), rbm.shape(), &ChainState { hidden, betas, uniforms })
}

/// Copies of the chains that did not start at data, or of all chains if each did.
fn without_data(rbm: &Resident, chains: &Chains, from_data: usize) -> Result<Chains> {
    let ChainState { hidden, betas, uniforms } = chains.state()?;
    let from = if from_data < betas.len() { from_data } else { 0 };
    let words = hidden.len() / betas.len();
    let state = ChainState { hidden: hidden[from * words..].to_vec(), betas: betas[from..].to_vec(), uniforms };
    Chains::from_state(rbm.device(), rbm.shape(), &state)
}

fn as_json(health: &Health, gap: &EquilibriumGap, activity: &Activity, warnings: &[String]) -> Value {
    let statistics = health.statistics.iter().map(|s| {
        json!({
            "name": s.name,
            "mean": s.mean,
            "standard_deviation": s.standard_deviation,
            "r_hat": s.r_hat,
            "bulk_effective_sample_size": s.bulk_effective_sample_size,
            "autocorrelation_time": s.autocorrelation_time,
        })
    });
    json!({
        "chains": health.chains,
        "steps": health.draws,
        "statistics": statistics.collect::<Vec<_>>(),
        "visible_flip_rate": health.visible_flip_rate,
        "hidden_flip_rate": health.hidden_flip_rate,
        "equilibrium_gap": {
            "persistent": gap.persistent,
            "fresh": gap.fresh,
            "gap": gap.gap,
            "standard_error": gap.standard_error,
            "degrees_of_freedom": gap.degrees_of_freedom,
        },
        "hidden": activity::json(activity),
        "warnings": warnings,
    })
}

fn table(options: &Diagnose, health: &Health, gap: &EquilibriumGap, activity: &Activity) -> Vec<String> {
    let mut lines = vec![
        format!("{}: {} chains, {} steps recorded", options.model.display(), health.chains, health.draws),
        format!(
            "{:<12} {:>12} {:>12} {:>9} {:>11} {:>21}",
            "", "mean", "std dev", "R̂", "bulk ESS", "autocorrelation time"
        ),
    ];
    for s in &health.statistics {
        let time = s.autocorrelation_time;
        let time = if time.is_finite() { format!("{time:.1} steps") } else { "unknown".into() };
        lines.push(format!(
            "{:<12} {:>12.4} {:>12.4} {:>8.3} {:>11.0} {time:>21}",
            s.name, s.mean, s.standard_deviation, s.r_hat, s.bulk_effective_sample_size
        ));
    }
    let [visible, hidden] = [health.visible_flip_rate, health.hidden_flip_rate].map(|rate| 100.0 * rate);
    lines.push(format!("a Gibbs step flips {visible:.2} % of the visible and {hidden:.2} % of the hidden units"));
    lines.push(format!(
        "equilibrium gap {:.3} ± {} nats: mean free energy {:.3}; {:.3} for chains started at data",
        gap.gap,
        console::known(gap.standard_error, 3),
        gap.persistent,
        gap.fresh
    ));
    lines.extend(activity::table(activity));
    lines
}
