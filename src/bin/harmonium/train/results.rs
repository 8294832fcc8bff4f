//! The output of a run: images of the model and its chains, the curve, and messages at its start and end.

use super::{
    Job,
    recipes::Recipe,
    values::{Init, Switch},
};
use crate::{
    console::{Progress, duration},
    data, log,
    plot::{self, BLUE, GREEN, Line, Look, ORANGE, Points, RED},
    sample,
};
use harmonium::{
    Activations, Algorithm, Binarise, Device, Monitor, Rbm, Resident, Result, Trainer,
    checkpoint::Epoch,
    descent::{Rate, Steps},
    raster::{self, FilterScale, Tiling},
};

/// The tutorial's run on one core of 2008: minutes, and the mean pseudo-likelihood of each epoch in nats a row.
const TUTORIAL_MINUTES: f64 = 122.466;
const TUTORIAL_CURVE: [f64; 15] = [
    -90.65, -81.24, -74.91, -73.02, -68.41, -63.27, -66.00, -68.12, -68.32, -64.29, -61.52, -61.65, -63.55, -63.38,
    -62.76,
];
/// The last message of the tutorial's run.
const DENSITY: &str = "a better model of the same data: harmonium train --recipe density --minutes 1";
/// The greatest number of filters in an image.
const MOST_FILTERS: usize = 100;
/// The greatest number of chains in an image.
const MOST_CHAINS: usize = 400;

impl Job {
    /// Writes images of the filters and of the chains after an epoch.
    pub fn draw_epoch(&self, number: u64, rbm: &Rbm, resident: &Resident, trainer: &Trainer) -> Result<()> {
        let out = &self.options.out;
        let Some(sides) = self.sides else { return Ok(()) };
        let tiles = data::grid(self.shape.n_hidden().min(MOST_FILTERS));
        let filters = raster::filters(data::pictured_part(rbm)?.view(), sides, tiles, FilterScale::Own)?;
        raster::write_png(&filters, &out.join(format!("filters_at_epoch_{number}.png")))?;
        let mut visible = Activations::default();
        trainer.chains().visible(resident, &mut visible)?;
        let tiling = Tiling::new(sides, data::grid(trainer.chains().len().min(MOST_CHAINS))).spaced();
        let shown = visible.mean.len().min(MOST_CHAINS * self.shape.n_visible());
        let laws = self.shape.visible();
        let shown = data::columns(&visible.mean[..shown], self.shape.n_visible(), data::pictured(laws));
        let chains = raster::tile_raster_images(&shown, &tiling)?;
        raster::write_png(&chains, &out.join(format!("chains_at_epoch_{number}.png")))
    }

    /// Writes an image of samples, from chains that start at test rows, or at training rows if there are no test rows.
    pub fn draw_samples(&self, device: &Device, rbm: &Rbm) -> Result<()> {
        let Some(sides) = self.sides.filter(|_| self.options.samples > 0) else { return Ok(()) };
        let test = data::test(&self.options.data, &self.reading)?;
        let units = self.extras.data_units(self.shape.visible()).units();
        let test = test.filter(|test| test.rows.units() == units);
        let test = test.map(|test| {
            let (names, path) = (&self.extras.labels, &self.options.data);
            let rows = data::labelled(test.rows, test.labels.as_ref(), names, path)?;
            Ok::<_, harmonium::Error>(data::scaled(rows, &self.extras, self.shape.visible(), path)?.0)
        });
        let test = test.transpose()?;
        let start = test.as_ref().map_or(self.rows.source(), |rows| rows);
        let chains = sample::TUTORIAL.chains.min(start.len());
        let sheet = sample::Sheet { chains, rows: self.options.samples, ..sample::TUTORIAL };
        let progress = Progress::new("samples", sheet.rows as u64, "rows of samples", self.options.quiet);
        let picture = sample::draw(device, rbm, start, sides, sheet, self.options.seed, &progress)?;
        raster::write_png(&picture, &self.options.out.join("samples.png"))
    }

    /// Plots the monitor and the log-likelihoods, if known, over the epochs of the log.
    pub fn draw_curve(&self, epochs: &[Epoch]) -> Result<()> {
        let (every, of) = (self.options.log_every.unwrap_or(1) as u64, self.options.epochs as u64);
        let numbers = |of_line: &dyn Fn(&Epoch) -> Option<f64>| -> Points {
            let value = |(line, epoch)| (log::epoch_of(line, every, of), of_line(epoch).unwrap_or(f64::NAN));
            (1..).zip(epochs).map(value).collect()
        };
        let title = self.settings.monitor.title();
        let monitor = (BLUE, title.to_string(), numbers(&|line| line.monitor));
        let train = (GREEN, "log-likelihood".to_string(), numbers(&|line| line.figures?.log_likelihood));
        let others = (RED, "validation log-likelihood".to_string(), numbers(&|line| line.figures?.validation));
        let known: Vec<_> = [monitor, train, others]
            .into_iter()
            .filter(|(_, _, points)| points.iter().any(|(_, x)| x.is_finite()))
            .collect();
        if known.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<_> = known
            .iter()
            .map(|(colour, name, points)| Line { points: points.clone(), colour: *colour, look: Look::Marked(name) })
            .collect();
        if self.is_tutorial() && self.settings.monitor == Monitor::PseudoLikelihood {
            let points = plot::in_order(&TUTORIAL_CURVE);
            lines.push(Line { points, colour: ORANGE, look: Look::Dashed("the tutorial's") });
        }
        plot::write(&self.options.out.join("curve.svg"), "epoch", "nats a row", &lines)
    }

    /// Prints data, model, algorithm and recipe.
    pub fn announce(&self) {
        let options = &self.options;
        let k = &options.k;
        let method = match self.settings.algorithm {
            Algorithm::Pcd { n_chains } => format!("PCD-{k} with {n_chains} chains"),
            other => format!("{}-{k}", other.name().to_uppercase()),
        };
        let (n, units, data) = (self.rows.len(), self.shape.n_visible(), options.data.display());
        let visible = self.shape.visible();
        let laws = if visible.is_binary() { String::new() } else { format!(" ({visible})") };
        let sizes = format!("{n} rows of {units}{laws} from {data}, {} hidden units", self.shape.n_hidden());
        let (batch_size, lr) = (options.batch_size, options.lr);
        self.progress.line(&format!("{sizes}, {method}, batches of {batch_size}, learning rate {lr:?}"));
        if options.recipe != Recipe::Tutorial && self.resumed.is_none() {
            let is_given = |name: &str| options.given.iter().any(|given| given == name);
            let table = options.recipe.options(is_given);
            let mut words: Vec<_> = table.iter().map(|(name, value)| format!("--{name} {value}")).collect();
            let chains = options.recipe.chains(options.binarise).and(options.chains).filter(|_| !is_given("chains"));
            words.extend(chains.map(|chains| format!("--chains {chains}")));
            if options.recipe.l2_of_rows(1, options.binarise).is_some() && !is_given("l2") {
                words.push(format!("--l2 {}", options.l2));
            }
            self.progress.line(&format!("recipe {}: {}", options.recipe, words.join(" ")));
        }
    }

    /// Prints the training time and the output folder.
    pub fn conclude(&self, epochs: &[Epoch]) {
        let seconds = epochs.last().map_or(0.0, |epoch| epoch.seconds);
        let mut beside = String::new();
        let is_whole = self.is_tutorial() && epochs.len() == TUTORIAL_CURVE.len();
        if is_whole {
            let times = TUTORIAL_MINUTES * 60.0 / seconds;
            beside = format!("; {times:.0} times faster than the tutorial's {TUTORIAL_MINUTES} minutes");
        }
        self.progress.line(&format!("training took {}{beside}", duration(seconds)));
        self.progress.line(&format!("results are in {}", self.options.out.display()));
        if is_whole {
            self.progress.line(DENSITY);
        }
    }

    /// Whether this is the tutorial's run, except for seed, monitor and number of epochs.
    fn is_tutorial(&self) -> bool {
        let options = &self.options;
        let is_constant =
            options.schedule == Rate::Constant && options.average.0.is_none() && options.k == Steps::from(15);
        let is_plain = options.shuffle != Some(Switch::On) && options.binarise == Binarise::None;
        (options.hidden, options.batch_size, options.lr) == (500, 20, 0.1)
            && (is_constant && is_plain && options.init == Init::Tutorial && self.settings.descent.is_plain())
            && self.settings.algorithm == Algorithm::Pcd { n_chains: 20 }
            && (self.rows.len(), self.rows.units()) == (50_000, 784)
    }
}
