//! `harmonium report`: writes a report of a run, one HTML page.

mod folder;
mod page;
mod sections;

use crate::{
    activity,
    arguments::{Compute, DATA_HEADING},
    console::{self, duration},
    data::{self, Selection},
};
use askama::Template;
use clap::Args;
use folder::Folder;
use harmonium::{Device, Error, Result, diagnostics::Activity, storage};
use page::Page;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Report {
    /// Folder of a run, as train writes it; the report is DIR/report.html.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Rows for statistics of the hidden units: a folder with MNIST's IDX files, or one data file [default: the run's data].
    ///
    /// Of a folder, the test rows, or the training rows if there are none.
    #[arg(long, value_name = "PATH", help_heading = DATA_HEADING)]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub compute: Compute,
}

/// Statistics of the hidden units and the data, or why they are unknown.
enum Hidden {
    Known(Activity, PathBuf),
    Unknown(String),
}

pub fn run(device: &Device, options: &Report) -> Result<()> {
    let run = Folder::open(&options.folder)?;
    let hidden = match (&options.data, kept(&run)) {
        (Some(path), _) => Hidden::Known(look(device, &run, path, &options.selection)?, path.clone()),
        (None, Some((path, selection))) => match look(device, &run, &path, &selection) {
            Ok(activity) => Hidden::Known(activity, path),
            Err(problem) => Hidden::Unknown(problem.to_string()),
        },
        (None, None) => Hidden::Unknown("the folder does not say which data the run used".into()),
    };
    let sections = [
        Some(sections::curves(&run)?),
        sections::pictures(&run)?,
        sections::samples(&run)?,
        Some(sections::weights(&run)?),
        Some(sections::hidden(&hidden)?),
        Some(sections::health(&run)?),
        Some(sections::settings(&run)),
        Some(sections::files(&run)),
    ];
    let facts = facts(&run, &hidden);
    let title = options.folder.display().to_string();
    let page = Page::new(title, facts, sections.into_iter().flatten().collect());
    let path = options.folder.join("report.html");
    let text = page
        .render()
        .map_err(|problem| Error::File { path: path.display().to_string(), problem: problem.to_string() })?;
    storage::write_atomically(&path, |file| file.write_all(text.as_bytes()))?;
    console::say(&format!("{}: {} KiB", path.display(), text.len().div_ceil(1024)));
    Ok(())
}

/// The data of the run, according to its checkpoint.
fn kept(run: &Folder) -> Option<(PathBuf, Selection)> {
    let options = &run.checkpoint.as_ref()?.options;
    let option = |name: &str| options.get(name).cloned();
    let selection =
        Selection { array: option("array"), labels: option("labels"), label_column: option("label-column") };
    Some((option("data")?.into(), selection))
}

fn look(device: &Device, run: &Folder, path: &Path, selection: &Selection) -> Result<Activity> {
    let model = run.path.join("model.safetensors");
    let read = |path: &Path, how: &_| data::starting(path, "--data", how);
    let images = data::fitting((&run.model, &run.extras), &model, (path, selection), read)?;
    run.model.on(device)?.activity(images.rows.binarised().rows())
}

/// The facts at the top of the page.
fn facts(run: &Folder, hidden: &Hidden) -> Vec<(String, String)> {
    let mut facts = vec![("visible × hidden units".into(), run.model.shape().to_string())];
    if let Some(checkpoint) = &run.checkpoint {
        let k = checkpoint.options.get("k").map_or("", String::as_str);
        facts.push(("method".into(), format!("{}-{k}", checkpoint.settings.algorithm.name().to_uppercase())));
    }
    if let Some(last) = run.log.last() {
        facts.push(("epochs".into(), last.epoch.saturating_add(1).to_string()));
        facts.push(("updates".into(), last.updates.to_string()));
        facts.push(("training time".into(), duration(last.seconds)));
        for (name, x) in [
            ("log-likelihood, at most", last.log_likelihood),
            ("validation rows, at most", last.validation),
            (sections::monitor(run), last.monitor),
        ] {
            facts.extend(x.map(|x| (format!("{name}, nats a row"), format!("{x:.2}"))));
        }
    }
    if let Hidden::Known(activity, _) = hidden {
        let (off, on) = (activity.always_off(), activity.always_on());
        facts.push(("hidden units that are always".into(), format!("off {off}, on {on}")));
    }
    facts
}

impl Hidden {
    /// A description.
    fn text(&self) -> String {
        match self {
            Hidden::Known(activity, path) => {
                let constant = activity::constant(activity);
                format!("P(h = 1 | v) of each unit over rows v of {}: {constant}.", path.display())
            }
            Hidden::Unknown(why) => format!("Left out: {why}. To include them: harmonium report DIR --data PATH"),
        }
    }
}
