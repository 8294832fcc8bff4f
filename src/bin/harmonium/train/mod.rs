//! `harmonium train`: the loop over epochs, and what it writes.

mod job;
mod learner;
mod minutes;
mod options;
mod recipes;
mod results;
mod rows;
mod values;
mod watch;
mod words;

pub use options::Train;
pub use values::Every;
pub use words::words;

use crate::{
    checkpoints::{Checkpoints, Stop},
    console::{self, Progress, duration, significant},
    data,
    log::{Log, write_health, write_log},
    ranks, resume,
};
use harmonium::{
    Average, Chains, Checkpoint, Data, Dataset, Device, Epochs, Error, Lent, Purpose, Rbm, Resident, Result, Trainer,
    Uniforms,
    checkpoint::{Epoch, Figures, Place},
    diagnostics::{CheckUp, check_up},
    model,
};
use job::Job;
use learner::Learner;
use rows::{Rows, Shown};
use std::{ops::Range, time::Instant};
use values::{Keep, Switch};
use watch::Watch;

/// Gibbs steps of a check-up of the chains.
const CHECK_UP_STEPS: usize = 1000;
/// Updates between two refreshes of the progress bar.
const STRIDE: u64 = 16;
/// Updates between two parameters of the average.
const AVERAGE_STRIDE: u64 = 10;
/// Updates between two exchanges of hidden units.
const EXCHANGE_STRIDE: u64 = 1000;
/// The mean above which a hidden unit is exchanged for its complement.
const BUSY: f32 = 0.52;

/// Trains a model. Returns the number of the signal that stopped the run, if any.
pub fn run(device: &Device, options: &Train, resumed: Option<Checkpoint>) -> Result<Option<u8>> {
    let mut job = Job::new(options.clone(), resumed)?;
    if let Some(minutes) = options.minutes {
        job.options.epochs = minutes::epochs_within(&job, device, minutes)?;
        job.options.spread_lines();
        job.progress.line(&format!("{} epochs take about {minutes} minutes", job.options.epochs));
        job.progress = Progress::training(job.updates(), options.quiet);
    }
    let last = job.resumed.as_ref().map(|checkpoint| checkpoint.trainer.updates);
    let fingerprint = job.fingerprint()?;
    ranks::check_same("--data", &format!("fingerprint {fingerprint}"))?;
    ranks::check_same("options", &format!("{:?}, {:?}", job.options.stored(), job.settings))?;
    let mut checkpoints = Checkpoints::new(&job.options, job.settings, job.extras.clone(), fingerprint, last)?;
    // From here on signals stop the run with a checkpoint.
    job.announce();
    let path = resume::path(&job.options.out);
    if job.resumed.is_none() && path.exists() {
        job.progress.line(&format!("this run will replace {} of an earlier run", path.display()));
    }
    let (rbm, epochs, stop) = job.train(device, &mut checkpoints)?;
    match stop.or_else(|| checkpoints.end_at_once()) {
        // Printed with --quiet too: the run is incomplete.
        Some(Stop::Signal(number)) => {
            console::complain(&checkpoints.how_to_resume());
            return Ok(Some(number));
        }
        Some(Stop::Asked) => job.progress.line(&checkpoints.how_to_resume()),
        None => {
            let rbm = match job.options.keep {
                Keep::Best => ranks::of_first(job.shape, || model::load(&job.out("model.safetensors")))?,
                Keep::Last => rbm,
            };
            job.draw_samples(device, &rbm)?;
            job.draw_curve(&epochs)?;
            job.conclude(&epochs);
        }
    }
    Ok(None)
}

/// The state of a run.
struct Run<'a> {
    trainer: Trainer,
    learner: Learner,
    lent: Lent<'a>,
    place: Place,
    log: Log,
    average: Average,
    watch: Option<Watch>,
    /// The rows for check-ups. They stay the same, so that differences between check-ups come from the model.
    starts: Option<Dataset>,
}

impl Job {
    /// Runs the remaining epochs until the end, a stall or a stop. Returns the model, the log, and the reason of a stop.
    fn train(&self, device: &Device, checkpoints: &mut Checkpoints<'_>) -> Result<(Rbm, Vec<Epoch>, Option<Stop>)> {
        let mut epochs = self.epochs()?;
        let mut rbm = match &self.resumed {
            Some(checkpoint) => checkpoint.rbm.clone(),
            None => self.initial_model(&mut epochs)?,
        };
        let lent = rbm.lend(device)?;
        let mut run = self.start(device, lent, &mut epochs)?;
        // A resumed run may have made all requested updates already.
        let done = self.resumed.as_ref().map(|checkpoint| checkpoint.trainer.updates);
        let is_over = |run: &Run<'_>| run.place.epoch >= self.options.epochs as u64;
        let mut stop = done.filter(|_| !is_over(&run)).and_then(|updates| checkpoints.stop(updates));
        self.progress.advance(run.place.epoch * self.in_epoch() + run.place.batch);
        let whole = match &self.rows {
            Rows::InMemory(rows) if self.uses_rows_unchanged() => Some(device.load(rows.rows())?),
            _ => None,
        };
        while !is_over(&run) && stop.is_none() && !self.has_stalled(&run.log) {
            stop = self.epoch(&mut run, &mut epochs, whole.as_ref(), checkpoints)?;
        }
        let kept = run.kept().to_rbm()?;
        run.lent.finish()?;
        Ok((kept, run.log.epochs, stop))
    }

    fn start<'l>(&self, device: &Device, lent: Lent<'l>, epochs: &mut Epochs) -> Result<Run<'l>> {
        let (trainer, place, log, average) = match &self.resumed {
            Some(Checkpoint { trainer, place, log, health, average, .. }) => {
                let log = Log { epochs: log.clone(), health: health.clone() };
                let average = average.as_ref().map(|(mean, taken)| Average::from_parts(device, mean, *taken));
                let trainer = Trainer::from_state(device, self.shape, self.settings, trainer)?;
                (trainer, *place, log, average.transpose()?.unwrap_or_default())
            }
            None => {
                let trainer = self.trainer(device, &lent, epochs)?;
                (trainer, Place::default(), Log::default(), Average::default())
            }
        };
        let mut starts = None;
        if self.options.health_every.is_some() {
            write_health(&self.out("health.csv"), &log.health)?;
            starts = Some(data::from_all_over(self.rows.source(), trainer.chains().len(), self.options.seed)?);
        }
        let watch = Watch::new(self, &lent)?;
        Ok(Run { trainer, learner: Learner::new(&self.options)?, lent, place, log, average, watch, starts })
    }

    /// Runs the rest of an epoch and writes its results. `whole`: all rows on the device, if epochs use them unchanged.
    fn epoch(
        &self, run: &mut Run<'_>, epochs: &mut Epochs, whole: Option<&Data<'_>>, checkpoints: &mut Checkpoints<'_>,
    ) -> Result<Option<Stop>> {
        let number = run.place.epoch;
        self.progress.title(self.title(number, &run.log));
        while run.place.epoch == number {
            let begin = Instant::now();
            let batches = self.window(run.place.batch);
            let shown = self.show(epochs, number, batches.clone())?;
            let loaded = match whole {
                Some(_) => None,
                None => Some(run.lent.device().load(shown.rows.rows())?),
            };
            if let Some(data) = whole.or(loaded.as_ref()) {
                let stop = self.batches(run, batches, &shown, data, begin, checkpoints)?;
                if stop.is_some() {
                    return Ok(stop);
                }
            }
        }
        Ok(None)
    }

    /// Runs some minibatches of an epoch; writes the results after the last one. `data`: the rows on the device. Training time counts from
    /// `begin`.
    fn batches(
        &self, run: &mut Run<'_>, batches: Range<u64>, rows_shown: &Shown<'_>, data: &Data<'_>, mut begin: Instant,
        checkpoints: &mut Checkpoints<'_>,
    ) -> Result<Option<Stop>> {
        let number = run.place.epoch;
        let (in_epoch, total) = (self.in_epoch(), self.updates());
        let averaged_from = self.options.averaged_from(total);
        let end = batches.end;
        let mut shown = batches.start;
        let mut range = 0..0;
        for n in batches.map(|batch| batch + 1) {
            range = self.batch(n - 1);
            range = range.start - rows_shown.first..range.end - rows_shown.first;
            let updates = number * in_epoch + n;
            let lr = self.options.schedule.at(self.options.lr, updates - 1, total);
            run.trainer.set_k(self.options.k.at(updates - 1, total))?;
            if n == in_epoch && self.is_line(number + 1) {
                run.watch.as_mut().map_or(Ok(()), |watch| watch.before_last_update(&run.lent))?;
            }
            let rows = rows_shown.rows.rows().range(range.clone());
            run.learner.step(&mut run.trainer, &mut run.lent, data.range(range.clone()), rows, lr)?;
            let is_averaged = averaged_from.is_some_and(|from| updates > from);
            if is_averaged && updates.is_multiple_of(AVERAGE_STRIDE) {
                run.average.take(&run.lent)?;
            } else if !is_averaged && self.options.exchange == Switch::On && updates.is_multiple_of(EXCHANGE_STRIDE) {
                let units = run.trainer.exchange_busy_units(&mut run.lent, BUSY)?;
                if let Some(watch) = run.watch.as_mut().filter(|_| !units.is_empty()) {
                    watch.exchange(&units)?;
                }
            }
            if let Some(watch) = &mut run.watch {
                watch.after_update(&run.lent, updates, &self.progress)?;
            }
            if n % STRIDE == 0 || n == end {
                self.progress.advance(n - shown);
                shown = n;
            }
            let is_due = |every| updates.is_multiple_of(every as u64);
            if let (true, Some(rows)) = (self.options.health_every.is_some_and(is_due), &run.starts) {
                let looked = Instant::now();
                checkpoints.finite(&run.lent, data.range(range.clone()), None, number, updates)?;
                let is_first = run.log.health.is_empty();
                let found = self.check_up(&run.lent, run.trainer.chains(), rows, updates, is_first)?;
                run.log.health.push(found);
                write_health(&self.out("health.csv"), &run.log.health)?;
                begin += looked.elapsed();
            }
            // The line of the log must come before the checkpoint at the end of an epoch.
            if n == in_epoch {
                break;
            }
            let stop = checkpoints.stop(updates);
            if stop.is_some() || checkpoints.is_due(updates, None) {
                run.place = Place::new(number, n, run.place.seconds + begin.elapsed().as_secs_f64());
                self.save(run, data.range(range.clone()), checkpoints)?;
                begin = Instant::now();
            }
            if stop.is_some() {
                return Ok(stop);
            }
        }
        let seconds = run.place.seconds + begin.elapsed().as_secs_f64();
        if end < in_epoch {
            run.place = Place::new(number, end, seconds);
            return Ok(None);
        }
        run.place = Place::new(number + 1, 0, seconds);
        let updates = run.place.epoch * in_epoch;
        let is_last = run.place.epoch == self.options.epochs as u64;
        if self.is_line(run.place.epoch) {
            self.write_line(run, data.range(range.clone()), checkpoints)?;
        }
        let stop = checkpoints.stop(updates).filter(|_| !is_last);
        let ends = stop.is_some() || is_last || self.has_stalled(&run.log);
        if ends || checkpoints.is_due(updates, Some(run.place.epoch)) {
            self.save(run, data.range(range), checkpoints)?;
        }
        Ok(stop)
    }

    /// Writes a checkpoint. An error if parameters are not finite.
    fn save(&self, run: &Run<'_>, batch: harmonium::Batch<'_>, checkpoints: &mut Checkpoints<'_>) -> Result<()> {
        let state = run.trainer.state()?;
        let since = state.updates - state.reported;
        let mean = (since > 0).then(|| state.watched / since as f64);
        let rbm = checkpoints.finite(&run.lent, batch, mean, run.place.epoch, state.updates)?;
        let average = run.average.mean().map(|mean| Ok::<_, Error>((mean.to_rbm()?, run.average.taken())));
        let watch = run.watch.as_ref().map(Watch::state).transpose()?;
        checkpoints.save(rbm, state, run.place, &run.log, average.transpose()?, watch)
    }

    /// Writes a line of the log, the model and its images.
    fn write_line(
        &self, run: &mut Run<'_>, batch: harmonium::Batch<'_>, checkpoints: &mut Checkpoints<'_>,
    ) -> Result<()> {
        let number = run.place.epoch - 1;
        let title = self.settings.monitor.title();
        let report = run.trainer.take_report()?;
        let last = checkpoints.finite(&run.lent, batch, report.monitor, number, report.updates)?;
        let figures = self.figures(run, &last)?;
        let before = run.log.epochs.last().map_or(0.0, |epoch| epoch.seconds);
        let mut line = Epoch::new(report.updates, report.monitor, run.place.seconds);
        line.figures = figures;
        run.log.epochs.push(line);
        let watched = report.monitor.map_or(String::new(), |monitor| format!("{title} {monitor:.2}, "));
        let likelihood = figures.and_then(|figures| watch::in_words(&figures)).unwrap_or_default();
        let labels = run.learner.take_labels().map_or(String::new(), |mean| format!("log P(label|v) {mean:.4}, "));
        let (seconds, updates) = (run.place.seconds - before, report.since_last);
        let (time, rate) = (duration(seconds), significant(updates as f64 / seconds));
        self.progress
            .line(&format!("epoch {number}: {watched}{labels}{likelihood}{updates} updates in {time}, {rate}/s"));
        if let Some(warning) = run.log.warning(title, self.shape.visible()) {
            self.progress.warn(&format!("{warning}; the model does not learn with --lr {:?}", self.options.lr));
        }
        if let Some(watch) = &mut run.watch {
            watch.warn(number + 1, self.options.epochs as u64, figures, &self.progress);
        }
        let every = self.options.log_every.unwrap_or(1) as u64;
        write_log(&self.out("log.csv"), &run.log.epochs, every, self.options.epochs as u64)?;
        let kept = run.average.mean().map(Resident::to_rbm).transpose()?;
        if self.options.keep == Keep::Last || run.log.last_is_best() {
            model::save_with(kept.as_ref().unwrap_or(&last).view(), &self.extras, &self.out("model.safetensors"))?;
        }
        if self.options.keep == Keep::Best || kept.is_some() {
            model::save_with(last.view(), &self.extras, &self.out("last.safetensors"))?;
        }
        self.draw_epoch(number, kept.as_ref().unwrap_or(&last), &run.lent, &run.trainer)
    }

    /// The likelihood and further figures for the log. `None` with `--likelihood off`.
    fn figures(&self, run: &mut Run<'_>, last: &Rbm) -> Result<Option<Figures>> {
        let Some(watch) = &mut run.watch else { return Ok(None) };
        let (total, epochs) = (self.updates(), run.place.epoch);
        let t = epochs * self.in_epoch() - 1;
        let lr = self.options.schedule.at(self.options.lr, t, total);
        let is_last = epochs == self.options.epochs as u64;
        let found = watch.figures(&run.lent, run.average.mean(), last, epochs, is_last)?;
        Ok(Some(Figures { learning_rate: lr, k: self.options.k.at(t, total), ..found }))
    }

    /// Whether the validation likelihood has not improved for `--patience` lines.
    fn has_stalled(&self, log: &Log) -> bool {
        self.options.patience.is_some_and(|patience| log.lines_since_best().is_some_and(|lines| lines >= patience))
    }

    /// The title of the progress bar: the epoch and the figures of the last line, the most important ones first.
    fn title(&self, epoch: u64, log: &Log) -> String {
        let last = log.epochs.last();
        let figures = last.and_then(|line| line.figures).and_then(|figures| watch::in_few_words(&figures));
        let monitor = last.and_then(|line| line.monitor);
        let monitor = monitor.map(|monitor| format!("{} {monitor:.2}", self.settings.monitor.title()));
        [Some(format!("epoch {epoch}")), figures, monitor].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// Checks the persistent chains. Warns if they lag, and at the first check-up if there are too few chains to know.
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
}

impl Run<'_> {
    /// The model to save: the average if there is one.
    fn kept(&self) -> &Resident {
        self.average.mean().unwrap_or(&self.lent)
    }
}
