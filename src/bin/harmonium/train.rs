//! `harmonium train`.

use crate::{
    arguments::Train,
    checkpoints::{Checkpoints, Stop},
    console::{self, Progress, duration, significant},
    data,
    log::{Log, write_health, write_log},
    memory,
    plot::{self, BLUE, Line, Look, ORANGE},
    resume, sample,
};
use harmonium::{
    Activations, Algorithm, Chains, Checkpoint, Dataset, Device, Error, Monitor, Purpose, Rbm, Resident, Result,
    Settings, Shape, Trainer, Uniforms,
    checkpoint::{Epoch, Place, fingerprint},
    diagnostics::{CheckUp, check_up},
    formats::Images,
    model,
    raster::{self, Tiling},
    storage,
};
use std::{fs::File, time::Instant};

/// The tutorial's run on one core of 2008: minutes, and the mean pseudo-likelihood of each epoch.
const TUTORIAL_MINUTES: f64 = 122.466;
const TUTORIAL_CURVE: [f64; 15] = [
    -90.65, -81.24, -74.91, -73.02, -68.41, -63.27, -66.00, -68.12, -68.32, -64.29, -61.52, -61.65, -63.55, -63.38,
    -62.76,
];
/// How many filters are shown, from top to bottom and from left to right.
const FILTERS: (usize, usize) = (10, 10);
/// How many chains are shown at most.
const MOST_CHAINS: usize = 400;
/// How many Gibbs steps a check-up of the chains takes.
const CHECK_UP_STEPS: usize = 1000;
/// How many updates go by between two looks at the progress bar.
const STRIDE: u64 = 16;

/// What a run needs besides its options; everything that can be wrong with them has been found.
struct Job<'a> {
    options: &'a Train,
    rows: Dataset,
    /// Height and width of the rows' images, where there is one.
    sides: Option<(usize, usize)>,
    shape: Shape,
    settings: Settings,
    /// Where the run goes on, if it does not begin.
    resumed: Option<Checkpoint>,
    progress: Progress,
    /// Keeps other runs out of the folder that is written to.
    _held: Option<File>,
}

/// Gives the number of the signal that stopped the run, if one did.
pub fn run(device: &Device, options: &Train, resumed: Option<Checkpoint>) -> Result<Option<u8>> {
    let job = Job::new(options, resumed)?;
    let last = job.resumed.as_ref().map(|checkpoint| checkpoint.trainer.updates);
    let mut checkpoints = Checkpoints::new(options, job.settings, job.fingerprint()?, last)?;
    let mut rbm = match &job.resumed {
        Some(checkpoint) => checkpoint.rbm.clone(),
        None => Rbm::new(job.shape, options.seed),
    };
    let (epochs, stop) = job.train(device, &mut rbm, &mut checkpoints)?;
    match stop.or_else(|| checkpoints.end_at_once()) {
        // Said also to those who want to hear nothing but errors: the run has not done its work.
        Some(Stop::Signal(number)) => {
            console::complain(&checkpoints.how_to_go_on());
            return Ok(Some(number));
        }
        Some(Stop::Asked) => job.progress.line(&checkpoints.how_to_go_on()),
        None => {
            job.draw_samples(device, &rbm)?;
            job.draw_curve(&epochs)?;
            job.conclude(&epochs);
        }
    }
    Ok(None)
}

impl<'a> Job<'a> {
    fn new(options: &'a Train, resumed: Option<Checkpoint>) -> Result<Self> {
        let Images { mut rows, img_shape: sides, .. } = data::training(&options.data)?;
        let at_most = |what, limit: usize, why: &str, found: usize| {
            let expected = format!("at most {limit}, {why} {}", options.data.display());
            if found <= limit { Ok(()) } else { Err(Error::Argument { what, expected, found: found.to_string() }) }
        };
        if let Some(limit) = options.limit {
            at_most("--limit", rows.len(), "the training rows of", limit)?;
            rows.keep(0..limit)?;
        }
        at_most("--batch-size", rows.len(), "the training rows taken from", options.batch_size)?;
        let shape = Shape::new(rows.units(), options.hidden).map_err(|problem| match problem {
            Error::Argument { expected, found, .. } => Error::Argument { what: "--hidden", expected, found },
            other => other,
        })?;
        let settings = options.settings();
        let n_chains = match settings.algorithm {
            Algorithm::Pcd { n_chains } => {
                let limit = i32::MAX as usize / (shape.n_visible() + shape.n_hidden());
                at_most("--chains", limit, "as many as have 2^31 units with the rows of", n_chains)?;
                n_chains
            }
            _ => options.batch_size,
        };
        let updates = (options.epochs as u64).saturating_mul(rows.len().div_ceil(options.batch_size) as u64);
        let progress = Progress::new(updates, "updates", options.quiet);
        let sides = match data::sides(options.image, sides, shape.n_visible()) {
            Ok(sides) => Some(sides),
            // What the user said is wrong, which is another thing than that nobody knows.
            Err(problem) if options.image.is_some() => return Err(problem),
            Err(problem) => {
                progress.warn(&format!("no pictures: {problem}"));
                None
            }
        };
        if sides.is_some() {
            let limit = sample::MOST_PIXELS / (sample::TUTORIAL.chains * shape.n_visible());
            at_most("--samples", limit, "as many as one picture holds of the rows of", options.samples)?;
        }
        memory::check(shape, n_chains, options.batch_size)?;
        storage::create_folder(&options.out)?;
        storage::check_writable(&options.out)?;
        let held = storage::hold_folder(&options.out)?;
        storage::remove_temporaries(&options.out)?;
        // Not after the first epoch or at the very end.
        for name in ["checkpoint.safetensors", "model.safetensors", "log.csv", "health.csv", "curve.svg", "samples.png"]
        {
            storage::check_replaceable(&options.out.join(name))?;
        }
        Ok(Self { options, rows, sides, shape, settings, resumed, progress, _held: held })
    }

    /// What tells the data apart; fails where it is not what the run began with, or the checkpoint does not fit it.
    fn fingerprint(&self) -> Result<String> {
        let found = fingerprint(self.rows.rows());
        let path = resume::path(&self.options.out);
        let Some(checkpoint) = &self.resumed else {
            if path.exists() {
                self.progress.line(&format!("{} of an earlier run will be replaced", path.display()));
            }
            return Ok(found);
        };
        if let Some(warning) = resume::other_version(checkpoint) {
            self.progress.warn(&warning);
        }
        let format_error =
            |expected, found| Err(Error::Format { source_name: path.display().to_string(), expected, found });
        if checkpoint.data != found {
            let shown = |digits: &str| digits.chars().take(16).collect::<String>();
            return Err(Error::Argument {
                what: "--data",
                expected: format!("the rows of {}, fingerprint {}", path.display(), shown(&checkpoint.data)),
                found: format!("those of {}, fingerprint {}", self.options.data.display(), shown(&found)),
            });
        }
        if checkpoint.rbm.shape() != self.shape || checkpoint.settings != self.settings {
            let text = |shape: Shape, settings| format!("{shape} units, {settings:?}");
            let found = text(checkpoint.rbm.shape(), checkpoint.settings);
            return format_error(text(self.shape, self.settings), found);
        }
        let Checkpoint { place: Place { epoch, batch, .. }, log, trainer, .. } = checkpoint;
        let batches = self.rows.len().div_ceil(self.options.batch_size) as u64;
        let reported = epoch.checked_mul(batches);
        let updates = reported.and_then(|n| n.checked_add(*batch));
        let fits = *batch < batches && (updates, reported) == (Some(trainer.updates), Some(trainer.reported));
        if !fits || log.len() as u64 != *epoch {
            let (update, rows) = (trainer.updates, log.len());
            let found = format!("epoch {epoch}, batch {batch}, update {update}, {rows} rows of the log");
            return format_error(format!("a place within epochs of {batches} batches"), found);
        }
        Ok(found)
    }

    /// All epochs that are left, with everything that is written after each; or some, where the run is stopped.
    fn train(
        &self, device: &Device, rbm: &mut Rbm, checkpoints: &mut Checkpoints<'_>,
    ) -> Result<(Vec<Epoch>, Option<Stop>)> {
        self.announce();
        let data = device.load(self.rows.rows())?;
        let (mut trainer, mut place, mut log) = match &self.resumed {
            Some(Checkpoint { trainer, place, log, health, .. }) => {
                let log = Log { epochs: log.clone(), health: health.clone() };
                (Trainer::from_state(device, self.shape, self.settings, trainer)?, *place, log)
            }
            None => (Trainer::new(device, self.shape, self.settings)?, Place::default(), Log::default()),
        };
        // The same rows at every check-up, so that chance among rows is not taken for a change of the model.
        let mut starts = None;
        if self.options.health_every.is_some() {
            write_health(&self.options.out.join("health.csv"), &log.health)?;
            starts = Some(data::from_all_over(&self.rows, trainer.chains().len(), self.options.seed)?);
        }
        let mut lent = rbm.lend(device)?;
        let batches: Vec<_> = self.rows.batches(self.options.batch_size).collect();
        let in_epoch = batches.len() as u64;
        let epochs = self.options.epochs as u64;
        let title = self.settings.monitor.title();
        // A run that goes on may have made all the updates that are asked for.
        let done = self.resumed.as_ref().map(|checkpoint| checkpoint.trainer.updates);
        let mut stop = done.filter(|_| place.epoch < epochs).and_then(|updates| checkpoints.stop(updates));
        self.progress.advance(place.epoch * in_epoch + place.batch);
        while place.epoch < epochs && stop.is_none() {
            let number = place.epoch;
            self.progress.title(match log.epochs.last().and_then(|epoch| epoch.monitor) {
                Some(monitor) => format!("epoch {number}, {title} {monitor:.2}"),
                None => format!("epoch {number}"),
            });
            let mut begin = Instant::now();
            let mut shown = place.batch;
            for (n, range) in (1..).zip(&batches).skip(place.batch as usize) {
                trainer.step(&mut lent, data.range(range.clone()), self.options.lr)?;
                if n % STRIDE == 0 || n == in_epoch {
                    self.progress.advance(n - shown);
                    shown = n;
                }
                let updates = number * in_epoch + n;
                let is_due = |every| updates.is_multiple_of(every as u64);
                if let (true, Some(rows)) = (self.options.health_every.is_some_and(is_due), &starts) {
                    let looked = Instant::now();
                    checkpoints.finite(&lent, data.range(range.clone()), None, number, updates)?;
                    let found = self.check_up(&lent, trainer.chains(), rows, updates, log.health.is_empty())?;
                    log.health.push(found);
                    write_health(&self.options.out.join("health.csv"), &log.health)?;
                    begin += looked.elapsed();
                }
                // What belongs to the end of an epoch comes before its checkpoint.
                if n == in_epoch {
                    break;
                }
                stop = checkpoints.stop(updates);
                if stop.is_some() || checkpoints.is_due(updates, None) {
                    let state = trainer.state()?;
                    place = Place::new(number, n, place.seconds + begin.elapsed().as_secs_f64());
                    let batch = data.range(range.clone());
                    let mean = state.watched / (state.updates - state.reported) as f64;
                    let rbm = checkpoints.finite(&lent, batch, Some(mean), number, updates)?;
                    checkpoints.save(rbm, state, place, &log)?;
                    begin = Instant::now();
                }
                if stop.is_some() {
                    return Ok((log.epochs, stop));
                }
            }
            let report = trainer.take_report()?;
            place = Place::new(number + 1, 0, place.seconds + begin.elapsed().as_secs_f64());
            let before = log.epochs.last().map_or(0.0, |epoch| epoch.seconds);
            log.epochs.push(Epoch::new(report.updates, report.monitor, place.seconds));
            let watched = report.monitor.map_or(String::new(), |monitor| format!("{title} {monitor:.2}, "));
            let (seconds, updates) = (place.seconds - before, report.since_last);
            let (time, rate) = (duration(seconds), significant(updates as f64 / seconds));
            self.progress.line(&format!("epoch {number}: {watched}{updates} updates in {time}, {rate}/s"));
            let last = batches.last().cloned().unwrap_or_default();
            let rbm = checkpoints.finite(&lent, data.range(last), report.monitor, number, report.updates)?;
            if let Some(warning) = log.warning(title, self.shape.n_visible()) {
                self.progress.warn(&format!("{warning}: the model does not learn with --lr {:?}", self.options.lr));
            }
            self.write_epoch(number, &log.epochs, &rbm, &lent, &trainer)?;
            stop = checkpoints.stop(report.updates).filter(|_| place.epoch < epochs);
            if stop.is_some() || place.epoch == epochs || checkpoints.is_due(report.updates, Some(place.epoch)) {
                checkpoints.save(rbm, trainer.state()?, place, &log)?;
            }
        }
        lent.finish()?;
        Ok((log.epochs, stop))
    }

    /// How the chains are after this update; says so where they lag, and at the first check-up of a run where chains are too
    /// few to show it.
    fn check_up(
        &self, rbm: &Resident, chains: &Chains, rows: &Dataset, updates: u64, is_first: bool,
    ) -> Result<CheckUp> {
        let draws = Uniforms::new(self.options.seed, Purpose::Diagnosis);
        let found = check_up(rbm, chains, rows.rows(), CHECK_UP_STEPS, draws, updates)?;
        if let Some(warning) = found.gap.warning().filter(|_| is_first || found.gap.lags().is_some()) {
            self.progress.warn(&format!("update {updates}: {warning}"));
        }
        Ok(found)
    }

    /// The log, the model so far and pictures of it.
    fn write_epoch(
        &self, number: u64, epochs: &[Epoch], rbm: &Rbm, resident: &Resident, trainer: &Trainer,
    ) -> Result<()> {
        let out = &self.options.out;
        let view = rbm.view();
        write_log(&out.join("log.csv"), epochs)?;
        model::save(view, &out.join("model.safetensors"))?;
        let Some(sides) = self.sides else { return Ok(()) };
        let filters = raster::filters(view, sides, FILTERS)?;
        raster::write_png(&filters, &out.join(format!("filters_at_epoch_{number}.png")))?;
        let mut visible = Activations::default();
        trainer.chains().visible(resident, &mut visible)?;
        let tiling = Tiling::new(sides, grid(trainer.chains().len().min(MOST_CHAINS))).spaced();
        let shown = visible.mean.len().min(MOST_CHAINS * self.shape.n_visible());
        let chains = raster::tile_raster_images(&visible.mean[..shown], &tiling)?;
        raster::write_png(&chains, &out.join(format!("chains_at_epoch_{number}.png")))
    }

    /// Chains that start at test rows, or where there are none at training rows.
    fn draw_samples(&self, device: &Device, rbm: &Rbm) -> Result<()> {
        let Some(sides) = self.sides.filter(|_| self.options.samples > 0) else { return Ok(()) };
        let test = data::test(&self.options.data)?.filter(|test| test.rows.units() == self.shape.n_visible());
        let start = test.as_ref().map_or(&self.rows, |test| &test.rows);
        let chains = sample::TUTORIAL.chains.min(start.len());
        let sheet = sample::Sheet { chains, rows: self.options.samples, ..sample::TUTORIAL };
        let progress = Progress::new(sheet.rows as u64, "rows of samples", self.options.quiet);
        let picture = sample::draw(device, rbm, start, sides, sheet, self.options.seed, &progress)?;
        raster::write_png(&picture, &self.options.out.join("samples.png"))
    }

    fn draw_curve(&self, epochs: &[Epoch]) -> Result<()> {
        let monitor: Option<Vec<f64>> = epochs.iter().map(|epoch| epoch.monitor).collect();
        let Some(monitor) = monitor else { return Ok(()) };
        let mut lines = vec![Line { values: &monitor, colour: BLUE, look: Look::Marked("this run") }];
        if self.is_tutorial() && self.settings.monitor == Monitor::PseudoLikelihood {
            lines.push(Line { values: &TUTORIAL_CURVE, colour: ORANGE, look: Look::Dashed("the tutorial") });
        }
        let name = format!("{}, nats a row", self.settings.monitor.title());
        plot::write(&self.options.out.join("curve.svg"), "epoch", &name, &lines)
    }

    fn announce(&self) {
        let Train { data, batch_size, lr, k, hidden, .. } = self.options;
        let method = match self.settings.algorithm {
            Algorithm::Pcd { n_chains } => format!("PCD-{k} with {n_chains} chains"),
            other => format!("{}-{k}", other.name().to_uppercase()),
        };
        let (n, units, data) = (self.rows.len(), self.shape.n_visible(), data.display());
        let sizes = format!("{n} rows of {units} from {data}, {hidden} hidden units");
        self.progress.line(&format!("{sizes}, {method}, batches of {batch_size}, learning rate {lr:?}"));
    }

    fn conclude(&self, epochs: &[Epoch]) {
        let seconds = epochs.last().map_or(0.0, |epoch| epoch.seconds);
        let mut beside = String::new();
        if self.is_tutorial() && epochs.len() == TUTORIAL_CURVE.len() {
            let times = TUTORIAL_MINUTES * 60.0 / seconds;
            beside = format!("; the tutorial's took {TUTORIAL_MINUTES} minutes: {times:.0} times faster");
        }
        self.progress.line(&format!("training took {}{beside}", duration(seconds)));
        self.progress.line(&format!("written to {}", self.options.out.display()));
    }

    /// Whether an epoch of this run is one of the tutorial's, whatever its seed and monitor.
    fn is_tutorial(&self) -> bool {
        let Train { hidden, batch_size, lr, k, .. } = *self.options;
        (hidden, batch_size, lr, k) == (500, 20, 0.1, 15)
            && self.settings.algorithm == Algorithm::Pcd { n_chains: 20 }
            && (self.rows.len(), self.rows.units()) == (50_000, 784)
    }
}

/// Rows and columns, as near to each other as they can be with no row missing: 20 tiles are 4 × 5.
fn grid(tiles: usize) -> (usize, usize) {
    let rows = tiles.isqrt().max(1);
    (rows, tiles.div_ceil(rows))
}
