//! The preparation of a run: combines options with data, chooses the initial model, and checks a checkpoint against both.

use super::{
    Train,
    rows::{InPlace, Rows},
    values::{Init, Scaling, Switch, Validation},
    watch::FAR,
};
use crate::{
    console::{Progress, complain},
    data,
    memory::{self, Besides},
    resume, sample,
};
use harmonium::{
    Algorithm, Binarise, Chains, Checkpoint, Columns, Dataset, Device, Epochs, Error, Monitor, Purpose, Rbm, Resident,
    Result, Scale, Segment, Segments, Settings, Shape, Trainer, Uniforms, Values,
    checkpoint::Place,
    formats::{Images, LabelSource, Reading, labels::with_labels},
    model::{self, Extras},
    scale::as_numbers,
    storage,
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

/// A checked run: options, data and everything that follows from both.
pub struct Job {
    pub options: Train,
    pub rows: Rows,
    /// Bits of the evaluated validation rows, with `--likelihood on`.
    pub validation: Option<Arc<Dataset>>,
    /// Height and width of the images, if rows are images.
    pub sides: Option<(usize, usize)>,
    /// The initial model, if it comes from a file.
    pub first: Option<Rbm>,
    /// The scale of the data and the names of its labels.
    pub extras: Extras,
    /// How to read further rows of the same kind.
    pub reading: Reading,
    pub shape: Shape,
    pub settings: Settings,
    /// The checkpoint of a resumed run.
    pub resumed: Option<Checkpoint>,
    pub progress: Progress,
    /// Column sums over the rows of the first epoch, once they are known.
    pub first_columns: OnceLock<Columns>,
    /// Locks the output folder against other runs until it is dropped.
    _lock: Option<File>,
}

impl Job {
    pub fn new(mut options: Train, resumed: Option<Checkpoint>) -> Result<Self> {
        let first = match &options.init {
            Init::Model(path) if resumed.is_none() => Some(model::load_with(path)?),
            _ => None,
        };
        // An initial model determines the types of the rows and their scale.
        let known = match (&first, &resumed) {
            (Some((first, extras)), _) => Some((first.shape().visible(), extras.clone())),
            (_, Some(checkpoint)) => Some((checkpoint.rbm.shape().visible(), checkpoint.extras.clone())),
            _ => None,
        };
        let asked = known.as_ref().filter(|(visible, extras)| {
            options.visible.is_none_or(|given| given == extras.data_units(*visible) || given == *visible)
        });
        let is_scaled_now = known.is_none() && [Scaling::Max, Scaling::Minmax].contains(&options.scale);
        let laws = match asked {
            Some((visible, extras)) => data::laws(data::before_scale(*visible, extras)),
            None if is_scaled_now => options.visible.map(as_numbers),
            None => options.visible,
        };
        let mut reading = Reading { as_numbers: is_scaled_now, ..options.selection.reading(laws)? };
        let in_place = InPlace::open(&options, &reading, known.as_ref().map(|(_, extras)| extras))?;
        let (mut rows, sides, labels) = match in_place {
            Some(rows) => {
                let sides = rows.img_shape();
                (Rows::InPlace(Box::new(rows)), sides, None)
            }
            None => {
                let images = data::training(&options.data, &reading)?;
                notice(&options, &options.data, &images);
                (Rows::InMemory(images.rows), images.img_shape, images.labels)
            }
        };
        reading.visible = data::laws(rows.segments());
        // The types of the model's units. Columns that are scaled to [0, 1] are read as numbers.
        let laws = match options.visible {
            None if is_scaled_now && rows.segments() == as_numbers(rows.segments()) => {
                Segments::new(&[Segment::Binary(rows.units().try_into().unwrap_or(u32::MAX))])?
            }
            Some(given) if is_scaled_now => given,
            _ => rows.segments(),
        };
        let mut extras = known.as_ref().map(|(_, extras)| extras.clone()).unwrap_or_default();
        if known.is_none() {
            extras.labels = labels.as_ref().map_or(Vec::new(), |labels| labels.names().to_vec());
        }
        if labels.is_some() && extras.labels.len() < 2 {
            let expected = match &known {
                Some(_) => format!("no labels, as the model of --init {} has none", options.init),
                None => "at least two different labels".into(),
            };
            let found = labels.map_or(0, |labels| labels.names().len()).to_string();
            return Err(Error::Format { source_name: options.data.display().to_string(), expected, found });
        }
        rows = rows.map(|rows| data::labelled(rows, labels.as_ref(), &extras.labels, &options.data))?;
        let laws = if extras.labels.is_empty() { laws } else { with_labels(laws, extras.labels.len())? };
        let path = options.data.display().to_string();
        let at_most = |what, limit: usize, why: &str, found: usize| {
            let expected = format!("at most {limit}, {why} {path}");
            if found <= limit { Ok(()) } else { Err(Error::Argument { what, expected, found: found.to_string() }) }
        };
        if let Some(limit) = options.limit {
            at_most("--limit", rows.len(), "the training rows of", limit)?;
            rows.keep_first(limit)?;
        }
        let mut validation = validation(&options, &mut rows, &reading, &extras)?;
        if let Rows::InPlace(rows) = &mut rows {
            rows.scan_all()?;
        }
        let known = known.map(|(visible, _)| visible).filter(|visible| visible.units() == rows.units());
        let visible = known.unwrap_or(laws);
        if resumed.is_none() {
            options.settle(rows.len(), visible);
        }
        if rows.has_missing() || validation.as_ref().is_some_and(|rows| rows.rows().has_missing()) {
            options.follow_no_likelihood()?;
        }
        if first.is_none() && resumed.is_none() {
            extras.scale = scale(&options, &rows, visible)?;
        }
        at_most("--batch-size", rows.len(), "the training rows taken from", options.batch_size)?;
        let first = first.map(|(first, _)| first);
        if let (Some(first), Init::Model(path)) = (&first, &options.init) {
            let site = extras.labels.len();
            data::check_fits(first.shape().n_visible() - site, path, &options.data, rows.units() - site)?;
            let expected = first.shape().visible();
            if laws != expected && !expected.is_binary() && extras.scale.is_none() {
                let expected = format!("{expected}, as in the model of --init {}", options.init);
                return Err(Error::Argument { what: "--visible", expected, found: laws.to_string() });
            }
        }
        let hidden = match (&first, &resumed) {
            (Some(first), _) => first.shape().n_hidden(),
            (_, Some(checkpoint)) if matches!(options.init, Init::Model(_)) => checkpoint.rbm.shape().n_hidden(),
            _ => options.hidden,
        };
        if hidden != options.hidden && options.given.iter().any(|given| given == "hidden") {
            let (expected, found) = (format!("{hidden}, as in the model of --init {}", options.init), options.hidden);
            return Err(Error::Argument { what: "--hidden", expected, found: found.to_string() });
        }
        let as_model = |rows, path: &Path| -> Result<Dataset> {
            let (rows, clamped) = data::scaled(rows, &extras, visible, path)?;
            clamped.iter().filter(|_| !options.quiet).for_each(|clamped| complain(clamped));
            Ok(rows)
        };
        rows = rows.map(|rows| as_model(rows, &options.data))?;
        validation = validation.map(|rows| as_model(rows, options.validation_path())).transpose()?;
        let shape = Shape::with_visible(visible, hidden).map_err(|problem| match problem {
            Error::Argument { expected, found, .. } => Error::Argument { what: "--hidden", expected, found },
            other => other,
        })?;
        if let (Some(alpha), None) = (options.hybrid.0, shape.label()) {
            return Err(Error::Argument {
                what: "--hybrid",
                expected: "visible units that end with a label, potts:1xSTATES".into(),
                found: format!("{alpha} with {visible}"),
            });
        }
        let settings = options.settings();
        let is_pseudo = [Monitor::PseudoLikelihood, Monitor::ExactPseudoLikelihood].contains(&settings.monitor);
        if is_pseudo && !visible.is_discrete() {
            return Err(Error::Argument {
                what: "--monitor",
                expected: "reconstruction or none, as Gaussian units have no pseudo-likelihood".into(),
                found: settings.monitor.to_string(),
            });
        }
        let n_chains = match settings.algorithm {
            Algorithm::Pcd { n_chains } => {
                let limit = i32::MAX as usize / (shape.n_visible() + shape.n_hidden());
                at_most("--chains", limit, "the most chains with 2^31 units for the rows of", n_chains)?;
                n_chains
            }
            _ => options.batch_size,
        };
        let updates = (options.epochs as u64).saturating_mul(rows.len().div_ceil(options.batch_size) as u64);
        let progress = Progress::training(updates, options.quiet);
        let sides = match data::sides(options.image, sides, data::pictured(shape.visible()).len()) {
            Ok(sides) => Some(sides),
            // A wrong --image is an error. Without --image, there are no images.
            Err(problem) if options.image.is_some() => return Err(problem),
            Err(problem) => {
                progress.warn(&format!("no images: {problem}"));
                None
            }
        };
        if sides.is_some() {
            let limit = sample::MOST_PIXELS / (sample::TUTORIAL.chains * shape.n_visible());
            at_most("--samples", limit, "the most that fit into one image for the rows of", options.samples)?;
        }
        let (is_watched, is_shuffled) = (options.likelihood == Some(Switch::On), options.shuffle == Some(Switch::On));
        let kept = [options.average.0.is_some(), options.momentum.0.is_some(), is_watched];
        let bytes = match (options.binarise, &rows) {
            (Binarise::None, _) if !is_shuffled => 0,
            (Binarise::None, Rows::InMemory(rows)) if matches!(rows.rows().values(), Values::F32(_)) => 4,
            _ => 1,
        };
        let models = kept.into_iter().filter(|&is_kept| is_kept).count();
        let besides = Besides { models, values: rows.besides(bytes, options.batch_size), bytes: 1 };
        memory::check(shape, n_chains, options.batch_size, besides)?;
        storage::create_folder(&options.out)?;
        storage::check_writable(&options.out)?;
        let lock = storage::hold_folder(&options.out)?;
        storage::remove_temporaries(&options.out)?;
        // Find out now, not after the first epoch or at the end.
        for name in [
            "checkpoint.safetensors",
            "model.safetensors",
            "last.safetensors",
            "log.csv",
            "health.csv",
            "curve.svg",
            "samples.png",
        ] {
            storage::check_replaceable(&options.out.join(name))?;
        }
        let validation = validation.filter(|_| is_watched).map(|all| {
            let some = rows.validation_for_evaluation(all, options.seed)?;
            bits(&some, options.binarise, options.seed, FAR + 1).map(Arc::new)
        });
        let validation = validation.transpose()?;
        let shuffle = options.shuffle == Some(Switch::On);
        Epochs::new(shuffle, options.binarise, options.seed)?;
        Ok(Self {
            options,
            rows,
            validation,
            sides,
            first,
            extras,
            reading,
            shape,
            settings,
            resumed,
            progress,
            first_columns: OnceLock::new(),
            _lock: lock,
        })
    }

    /// The path of a file in the output folder.
    pub fn out(&self, name: &str) -> PathBuf {
        self.options.out.join(name)
    }

    /// The number of minibatches in an epoch.
    pub fn in_epoch(&self) -> u64 {
        self.rows.len().div_ceil(self.options.batch_size) as u64
    }

    /// The number of updates of the whole run.
    pub fn updates(&self) -> u64 {
        (self.options.epochs as u64).saturating_mul(self.in_epoch())
    }

    /// Whether there is a line of the log after `epochs` epochs.
    pub fn is_line(&self, epochs: u64) -> bool {
        let every = self.options.log_every.unwrap_or(1) as u64;
        epochs.is_multiple_of(every) || epochs == self.options.epochs as u64
    }

    /// The order of the rows and their bits in each epoch.
    pub fn epochs(&self) -> Result<Epochs> {
        Epochs::new(self.options.shuffle == Some(Switch::On), self.options.binarise, self.options.seed)
    }

    /// The initial model.
    pub fn initial_model(&self, epochs: &mut Epochs) -> Result<Rbm> {
        Ok(match (&self.first, &self.options.init) {
            (Some(first), _) => first.clone(),
            (None, Init::Tutorial) => Rbm::new(self.shape, self.options.seed),
            _ => Rbm::from_columns(&self.first_columns(epochs)?, self.shape.n_hidden(), self.options.seed)?,
        })
    }

    /// A trainer for the first update. With `--init tutorial`, chains start with all units off, else at random states of the hidden
    /// biases. The offsets of a centred gradient start at the means of the data.
    pub fn trainer(&self, device: &Device, rbm: &Resident, epochs: &mut Epochs) -> Result<Trainer> {
        let mut trainer = Trainer::new(device, self.shape, self.settings)?;
        if self.options.init != Init::Tutorial {
            let draws = Uniforms::new(self.options.seed, Purpose::Training);
            trainer.set_chains(Chains::from_hidden_bias(rbm, trainer.chains().len(), draws)?)?;
        }
        if self.settings.descent.centring.is_some() {
            trainer.centre_at(&self.first_columns(epochs)?.clipped_means())?;
        }
        Ok(trainer)
    }

    /// The fingerprint of the data.
    ///
    /// # Errors
    /// If a checkpoint has another fingerprint, or does not fit the options.
    pub fn fingerprint(&self) -> Result<String> {
        let found = self.rows.fingerprint()?;
        let path = resume::path(&self.options.out);
        let Some(checkpoint) = &self.resumed else { return Ok(found) };
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
                found: format!("the rows of {}, fingerprint {}", self.options.data.display(), shown(&found)),
            });
        }
        if checkpoint.rbm.shape() != self.shape || checkpoint.settings != self.settings {
            let text = |shape: Shape, settings| format!("{shape} units, {settings:?}");
            let found = text(checkpoint.rbm.shape(), checkpoint.settings);
            return format_error(text(self.shape, self.settings), found);
        }
        let Checkpoint { place: Place { epoch, batch, .. }, log, trainer, .. } = checkpoint;
        let batches = self.in_epoch();
        let updates = epoch.checked_mul(batches).and_then(|n| n.checked_add(*batch));
        let reported = log.last().map_or(0, |line| line.updates);
        let fits = *batch < batches && (updates, reported) == (Some(trainer.updates), trainer.reported);
        // A finished run can have one line more, as its last epoch always has one.
        let every = self.options.log_every.unwrap_or(1) as u64;
        let lines = epoch / every..=epoch.div_ceil(every);
        if !fits || !lines.contains(&(log.len() as u64)) {
            let (update, rows) = (trainer.updates, log.len());
            let found = format!("epoch {epoch}, batch {batch}, update {update}, {rows} lines of the log");
            return format_error(format!("a position within epochs of {batches} batches"), found);
        }
        Ok(found)
    }
}

/// Prints the assumptions about a file.
fn notice(options: &Train, path: &Path, images: &Images) {
    if let Some(assumed) = data::assumed(path, images).filter(|_| !options.quiet) {
        complain(&assumed);
    }
}

/// The scale of the columns for `--scale`; `None` without it.
///
/// # Errors
/// If no unit can be scaled this way, or if a column of Gaussian units is constant and `--scale standard` is not given.
fn scale(options: &Train, all: &Rows, visible: Segments) -> Result<Option<Scale>> {
    let source_name = options.data.display().to_string();
    let has = |is: fn(Segment) -> bool| visible.iter().any(|(segment, _)| is(segment));
    let (can, law) = match options.scale {
        Scaling::None => (true, ""),
        Scaling::Standard => (has(Segment::is_number), "Gaussian"),
        Scaling::Max | Scaling::Minmax => (has(|segment| segment.states() == 1), "binary or Gaussian"),
    };
    if !can {
        return Err(Error::Argument {
            what: "--scale",
            expected: format!("none, as no visible unit of {visible} is {law}"),
            found: options.scale.to_string(),
        });
    }
    match (options.scale, all) {
        (Scaling::None, _) | (_, Rows::InPlace(_)) => {}
        (Scaling::Standard, Rows::InMemory(rows)) => return Ok(Some(Scale::standard(rows.rows()))),
        (Scaling::Minmax, Rows::InMemory(rows)) => return Ok(Some(Scale::min_max(rows.rows(), visible))),
        (Scaling::Max, Rows::InMemory(rows)) => {
            return Scale::max(rows.rows(), visible).map(Some).map_err(|problem| match problem {
                Error::Law { row, column, found, .. } => Error::Format {
                    source_name,
                    expected: "values of at least 0 for --scale max, or any values for --scale minmax".into(),
                    found: format!("{found} in row {row}, column {column}"),
                },
                other => other,
            });
        }
    }
    match all.without_variance()? {
        None => Ok(None),
        Some((column, value)) => Err(Error::Format {
            source_name,
            expected: "columns of Gaussian units with different values, or --scale standard".into(),
            found: format!("{value} in all rows of column {column}"),
        }),
    }
}

/// The validation rows before scaling. A fraction of the rows is removed from the training rows.
fn validation(options: &Train, rows: &mut Rows, how: &Reading, extras: &Extras) -> Result<Option<Dataset>> {
    let fitting = |images: Images, path: &Path| {
        let (expected, found) = (rows.units() - extras.labels.len(), images.rows.units());
        if found == expected {
            return data::labelled(images.rows, images.labels.as_ref(), &extras.labels, path);
        }
        Err(Error::Format {
            source_name: path.display().to_string(),
            expected: format!("rows of {expected} values, as in {}", options.data.display()),
            found: format!("rows of {found}"),
        })
    };
    let rest = || data::rest(&options.data, how)?.map(|rest| fitting(rest, &options.data)).transpose();
    match &options.validation {
        None | Some(Validation::None) => Ok(None),
        Some(Validation::Rest) if options.given.iter().any(|given| given == "validation") => {
            let rest = rest()?.ok_or_else(|| Error::Argument {
                what: "--validation",
                expected: format!(
                    "a fraction of the rows, a file or none, as {} has no further rows",
                    options.data.display()
                ),
                found: "rest".into(),
            })?;
            Ok(Some(rest))
        }
        Some(Validation::Rest) => rest(),
        Some(Validation::File(path)) => {
            // A file of labels belongs to the rows of --data.
            let is_file = matches!(how.labels, LabelSource::File(_));
            let labels = if is_file { LabelSource::IfOwn } else { how.labels.clone() };
            let images = data::file(path, "--validation", &Reading { labels, ..how.clone() })?;
            notice(options, path, &images);
            if !extras.labels.is_empty() && images.labels.is_none() {
                return Err(Error::Format {
                    source_name: path.display().to_string(),
                    expected: "rows with labels; use --label-column, or --validation PART".into(),
                    found: "none".into(),
                });
            }
            fitting(images, path).map(Some)
        }
        Some(Validation::Part(part)) => {
            let n = (part * rows.len() as f64).round() as usize;
            if n == 0 || n == rows.len() {
                let expected = format!("a fraction that puts some of {} rows on either side", rows.len());
                return Err(Error::Argument { what: "--validation", expected, found: part.to_string() });
            }
            rows.take(n, options.seed).map(Some)
        }
    }
}

/// The bits of rows for the likelihood: a fixed sample with `--binarise sample`, else x >= 0.5.
pub fn bits(rows: &Dataset, binarise: Binarise, seed: u64, epoch: u64) -> Result<Dataset> {
    match binarise {
        Binarise::Sample => Ok(Epochs::new(false, binarise, seed)?.show(rows, epoch)?.clone()),
        _ => Ok(rows.binarised()),
    }
}
