//! `harmonium info`: the size of a model and statistics of its parameters.

use crate::{
    activity,
    arguments::{Compute, DATA_HEADING, OUTPUT_HEADING},
    console, data,
};
use clap::Args;
use harmonium::{Device, Result, Summary, model};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Info {
    /// Model file, as train writes it.
    pub model: PathBuf,
    /// Also print how often hidden units are on over these rows [default: no rows].
    ///
    /// A folder with MNIST's IDX files (test rows, or training rows if there are none), or one data file.
    #[arg(long, value_name = "PATH", help_heading = DATA_HEADING)]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub selection: data::Selection,
    #[command(flatten)]
    pub compute: Compute,
    /// Print JSON.
    #[arg(long, help_heading = OUTPUT_HEADING)]
    pub json: bool,
}

fn json(summary: &Summary) -> serde_json::Value {
    let Summary { min, max, mean, .. } = summary;
    serde_json::json!({ "min": min, "max": max, "mean": mean, "standard_deviation": summary.standard_deviation() })
}

fn line(name: &str, width: usize, summary: &Summary) -> String {
    let Summary { min, max, mean, .. } = summary;
    format!("{name:<width$} {min:>10.5} {max:>10.5} {mean:>10.5} {:>10.5}", summary.standard_deviation())
}

pub fn run(device: &Device, options: &Info) -> Result<()> {
    let (rbm, extras) = model::load_with(&options.model)?;
    let (n_visible, n_hidden) = (rbm.shape().n_visible(), rbm.shape().n_hidden());
    let view = rbm.view();
    let parameters = n_visible * n_hidden + n_visible + n_hidden + view.visible_log_variance().len();
    let mut tensors =
        vec![("weights", view.weights()), ("visible_bias", view.visible_bias()), ("hidden_bias", view.hidden_bias())];
    if !view.visible_log_variance().is_empty() {
        tensors.push(("visible_log_variance", view.visible_log_variance()));
    }
    let tensors: Vec<_> = tensors.into_iter().map(|(name, numbers)| (name, Summary::of(numbers))).collect();
    let visible = rbm.shape().visible();
    let activity = match &options.data {
        None => None,
        Some(path) => {
            let read = |path: &Path, how: &_| data::starting(path, "--data", how);
            let images = data::fitting((&rbm, &extras), &options.model, (path, &options.selection), read)?;
            Some(rbm.on(device)?.activity(images.rows.binarised().rows())?)
        }
    };
    let lines = if options.json {
        let mut json = serde_json::json!({
            "file": options.model.display().to_string(),
            "n_visible": n_visible,
            "n_hidden": n_hidden,
            "visible": visible.to_string(),
            "parameters": parameters,
        });
        if !extras.labels.is_empty() {
            json["labels"] = extras.labels.clone().into();
        }
        for (name, summary) in &tensors {
            json[*name] = self::json(summary);
        }
        if let Some(activity) = &activity {
            json["hidden"] = activity::json(activity);
        }
        vec![format!("{json:#}")]
    } else {
        let file = options.model.display();
        let width = tensors.iter().map(|(name, _)| name.len() + 1).max().unwrap_or(0);
        let laws = if visible.is_binary() { String::new() } else { format!(", visible {visible}") };
        let heading = [
            format!("{file}: {n_visible} visible and {n_hidden} hidden units, {parameters} parameters{laws}"),
            format!("{:<width$} {:>10} {:>10} {:>10} {:>10}", "", "min", "max", "mean", "std dev"),
        ];
        let labels = format!("labels {}", extras.labels.join(", "));
        let labels = Some(labels).filter(|_| !extras.labels.is_empty());
        let [first, second] = heading;
        [first]
            .into_iter()
            .chain(labels)
            .chain([second])
            .chain(tensors.iter().map(|(name, summary)| line(name, width, summary)))
            .chain(activity.iter().flat_map(activity::table))
            .collect()
    };
    console::answer(&lines)
}
