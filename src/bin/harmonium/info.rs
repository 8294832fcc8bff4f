//! `harmonium info`.

use crate::{Failure, arguments::Info, console};
use harmonium::model;

/// How the numbers of one tensor are distributed.
struct Summary {
    min: f64,
    max: f64,
    mean: f64,
    standard_deviation: f64,
}

impl Summary {
    fn of(values: &[f32]) -> Self {
        let numbers = || values.iter().map(|&x| f64::from(x));
        let n = values.len() as f64;
        let mean = numbers().sum::<f64>() / n;
        let variance = numbers().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        Self {
            min: numbers().fold(f64::INFINITY, f64::min),
            max: numbers().fold(f64::NEG_INFINITY, f64::max),
            mean,
            standard_deviation: variance.sqrt(),
        }
    }

    fn json(&self) -> serde_json::Value {
        let Self { min, max, mean, standard_deviation } = self;
        serde_json::json!({ "min": min, "max": max, "mean": mean, "standard_deviation": standard_deviation })
    }

    fn line(&self, name: &str) -> String {
        let Self { min, max, mean, standard_deviation } = self;
        format!("{name:<13} {min:>10.5} {max:>10.5} {mean:>10.5} {standard_deviation:>10.5}")
    }
}

pub fn run(options: &Info) -> Result<(), Failure> {
    let rbm = model::load(&options.model)?;
    let (n_visible, n_hidden) = (rbm.shape().n_visible(), rbm.shape().n_hidden());
    let parameters = n_visible * n_hidden + n_visible + n_hidden;
    let view = rbm.view();
    let tensors = [
        ("weights", Summary::of(view.weights())),
        ("visible_bias", Summary::of(view.visible_bias())),
        ("hidden_bias", Summary::of(view.hidden_bias())),
    ];
    let lines = if options.json {
        let mut json = serde_json::json!({
            "file": options.model.display().to_string(),
            "n_visible": n_visible,
            "n_hidden": n_hidden,
            "parameters": parameters,
        });
        for (name, summary) in &tensors {
            json[*name] = summary.json();
        }
        vec![format!("{json:#}")]
    } else {
        let heading = [
            format!(
                "{}: {n_visible} visible and {n_hidden} hidden units, {parameters} parameters",
                options.model.display()
            ),
            format!("{:<13} {:>10} {:>10} {:>10} {:>10}", "", "least", "greatest", "mean", "deviation"),
        ];
        heading.into_iter().chain(tensors.iter().map(|(name, summary)| summary.line(name))).collect()
    };
    Ok(console::answer(&lines)?)
}
