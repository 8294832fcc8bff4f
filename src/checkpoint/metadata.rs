//! The JSON object of a checkpoint, and the tensors besides those of the model.

use super::{
    Checkpoint, FIRST_FORMAT, FORMAT, Place,
    rows::{CheckUpRow, EpochRow},
};
use crate::{
    descent::{Centring, Descent, RuleState, Sparsity},
    error::Result,
    log_partition::TrackerState,
    model,
    monitor::Monitor,
    rbm::{Gradient, Rbm},
    shape::Shape,
    tensors::{Tensor, Tensors},
    train::{Algorithm, Settings, TrainerState},
    uniforms::Uniforms,
    verbs::ChainState,
};
use serde::{Deserialize, Serialize, Serializer, ser::Error as _};
use std::collections::BTreeMap;

/// The name of the text after the checksum, in messages.
pub(super) const METADATA: &str = "the metadata of a checkpoint";

/// Parses a JSON object. The error names the invalid field and the problem.
pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> std::result::Result<T, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|problem| problem.to_string())?;
    json.end().map_err(|problem| problem.to_string())?;
    Ok(value)
}

/// A finite number, stored as text. An infinite number or NaN is an error that names it.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Exact(pub f64);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let text = format!("{:?}", self.0);
        if self.0.is_finite() { serializer.serialize_str(&text) } else { Err(S::Error::custom(text)) }
    }
}

impl TryFrom<String> for Exact {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let number = text.parse().ok().filter(|x: &f64| x.is_finite());
        number.map(Self).ok_or_else(|| format!("expected a finite number, found {text}"))
    }
}

#[derive(Deserialize)]
pub(super) struct Format {
    pub format: u64,
}

/// The JSON object. The order of the fields is that in the file.
#[derive(Serialize, Deserialize)]
pub(super) struct Metadata {
    algorithm: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    averaged: Option<u64>,
    batch: u64,
    bit: usize,
    data: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    descent: Option<Rules>,
    epoch: u64,
    format: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    health: Vec<CheckUpRow>,
    k: usize,
    log: Vec<EpochRow>,
    monitor: Monitor,
    options: BTreeMap<String, String>,
    reported: u64,
    seconds: Exact,
    seed: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    smooth: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracker: Option<Tracked>,
    uniforms_position: u64,
    uniforms_seed: u64,
    updates: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variance: Option<Exact>,
    version: String,
    watched: Exact,
}

/// The rules of descent.
#[derive(Serialize, Deserialize)]
struct Rules {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    centring: Option<Exact>,
    l1: Exact,
    l2: Exact,
    momentum: Exact,
    /// Target, cost and rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sparsity: Option<[Exact; 3]>,
}

impl Rules {
    fn of(descent: Descent) -> Self {
        let exact = |x: f32| Exact(f64::from(x));
        let Descent { centring, momentum, l2, l1, sparsity } = descent;
        Self {
            centring: centring.map(|centring| exact(centring.rate)),
            l1: exact(l1),
            l2: exact(l2),
            momentum: exact(momentum),
            sparsity: sparsity.map(|Sparsity { target, cost, rate }| [target, cost, rate].map(exact)),
        }
    }

    fn descent(&self) -> Descent {
        let single = |x: &Exact| x.0 as f32;
        let sparsity = |[target, cost, rate]: [f32; 3]| Sparsity { target, cost, rate };
        Descent {
            centring: self.centring.as_ref().map(|rate| Centring { rate: single(rate) }),
            momentum: single(&self.momentum),
            l2: single(&self.l2),
            l1: single(&self.l1),
            sparsity: self.sparsity.as_ref().map(|numbers| sparsity(numbers.each_ref().map(single))),
        }
    }
}

fn is_false(x: &bool) -> bool {
    !x
}

/// The part of a running log Z that is not a tensor.
#[derive(Serialize, Deserialize)]
struct Tracked {
    log_z: Exact,
    uniforms_position: u64,
    uniforms_seed: u64,
    variance: Exact,
}

/// The tensors that only some checkpoints have.
pub(super) fn more_tensors(checkpoint: &Checkpoint) -> Vec<Tensor> {
    let shape = checkpoint.rbm.shape();
    let (nv, nh) = (shape.n_visible(), shape.n_hidden());
    let mut tensors = Vec::new();
    if let Some(rule) = &checkpoint.trainer.rule {
        tensors.push(Tensor::new("visible_offset", vec![nv], &rule.visible_offset));
        tensors.push(Tensor::new("hidden_offset", vec![nh], &rule.hidden_offset));
        tensors.push(Tensor::new("hidden_mean", vec![nh], &rule.hidden_mean));
        if let Some(Gradient { weights, visible_bias, hidden_bias, .. }) = &rule.velocity {
            tensors.push(Tensor::new("velocity_weights", vec![nv, nh], weights));
            tensors.push(Tensor::new("velocity_visible_bias", vec![nv], visible_bias));
            tensors.push(Tensor::new("velocity_hidden_bias", vec![nh], hidden_bias));
        }
    }
    let models =
        [(checkpoint.average.as_ref().map(|(average, _)| average), AVERAGE), (checkpoint.smooth.as_ref(), SMOOTH)];
    for (model, names) in models {
        let Some(view) = model.map(Rbm::view) else { continue };
        tensors.push(Tensor::new(names[0], vec![nv, nh], view.weights()));
        tensors.push(Tensor::new(names[1], vec![nv], view.visible_bias()));
        tensors.push(Tensor::new(names[2], vec![nh], view.hidden_bias()));
        if !view.visible_log_variance().is_empty() {
            tensors.push(Tensor::new(names[3], vec![nv], view.visible_log_variance()));
        }
    }
    if let Some(tracker) = &checkpoint.tracker {
        let particles = tracker.log_weights.len();
        let words = if shape.visible().is_discrete() { nv.div_ceil(64) } else { nv.div_ceil(2) };
        tensors.push(Tensor::new("tracker_visible", vec![particles, words], &tracker.visible));
        tensors.push(Tensor::new("tracker_log_weights", vec![particles], &tracker.log_weights));
        tensors.push(Tensor::new("tracker_free_energies", vec![particles], &tracker.free_energies));
    }
    tensors
}

/// Reads a tensor of the expected shape and checks that its numbers are finite.
fn numbers<const N: usize>(file: &Tensors<'_>, name: &str, expected: [usize; N]) -> Result<Vec<f32>> {
    let (found, values) = file.tensor::<f32, N>(name)?;
    if found != expected {
        return Err(file.fail(format!("{name} of shape {expected:?}"), format!("{found:?}")));
    }
    match values.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(file.fail(format!("{name}[{index}] to be a finite number"), values[index].to_string())),
        None => Ok(values),
    }
}

/// Reads the state of the rules of descent.
fn rule_state(file: &Tensors<'_>, shape: Shape, descent: Descent) -> Result<RuleState> {
    let (nv, nh) = (shape.n_visible(), shape.n_hidden());
    let mut state = RuleState::new(shape, descent);
    state.visible_offset = numbers(file, "visible_offset", [nv])?;
    state.hidden_offset = numbers(file, "hidden_offset", [nh])?;
    state.hidden_mean = numbers(file, "hidden_mean", [nh])?;
    if let Some(velocity) = &mut state.velocity {
        velocity.weights = numbers(file, "velocity_weights", [nv, nh])?;
        velocity.visible_bias = numbers(file, "velocity_visible_bias", [nv])?;
        velocity.hidden_bias = numbers(file, "velocity_hidden_bias", [nh])?;
    }
    Ok(state)
}

/// The tensor names of the averaged model and of the tracked model.
const AVERAGE: [&str; 4] =
    ["average_weights", "average_visible_bias", "average_hidden_bias", "average_visible_log_variance"];
const SMOOTH: [&str; 4] =
    ["smooth_weights", "smooth_visible_bias", "smooth_hidden_bias", "smooth_visible_log_variance"];

/// Reads a model under other tensor names.
fn other_model(file: &Tensors<'_>, rbm: &Rbm, names: [&str; 4]) -> Result<Rbm> {
    let shape = rbm.shape();
    let (nv, nh) = (shape.n_visible(), shape.n_hidden());
    let weights = numbers(file, names[0], [nv, nh])?;
    let visible_bias = numbers(file, names[1], [nv])?;
    let hidden_bias = numbers(file, names[2], [nh])?;
    let other = Rbm::from_parts(shape, weights, visible_bias, hidden_bias)?;
    match rbm.view().visible_log_variance() {
        [] => Ok(other),
        _ => other.with_visible_log_variance(numbers(file, names[3], [nv])?),
    }
}

impl Tracked {
    fn of(state: &TrackerState) -> Self {
        let (uniforms_seed, uniforms_position) = state.uniforms.parts();
        let (log_z, variance) = (Exact(state.log_z), Exact(state.variance));
        Self { log_z, uniforms_position, uniforms_seed, variance }
    }

    fn state(&self, file: &Tensors<'_>) -> Result<TrackerState> {
        let (_, visible) = file.tensor::<u64, 2>("tracker_visible")?;
        let (_, log_weights) = file.tensor::<f64, 1>("tracker_log_weights")?;
        let (_, free_energies) = file.tensor::<f64, 1>("tracker_free_energies")?;
        Ok(TrackerState {
            visible,
            log_weights,
            log_z: self.log_z.0,
            variance: self.variance.0,
            free_energies,
            uniforms: Uniforms::from_parts(self.uniforms_seed, self.uniforms_position),
        })
    }
}

impl Metadata {
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let Checkpoint { settings, trainer, place, log, health, data, options, version, .. } = checkpoint;
        let is_plain = settings.descent.is_plain();
        let has_figures = log.iter().any(|epoch| epoch.figures.is_some());
        let is_first = is_plain && !has_figures && checkpoint.average.is_none() && checkpoint.smooth.is_none();
        let (uniforms_seed, uniforms_position) = trainer.chains.uniforms.parts();
        Self {
            algorithm: settings.algorithm.name().into(),
            averaged: checkpoint.average.as_ref().map(|(_, taken)| *taken),
            batch: place.batch,
            bit: trainer.bit,
            data: data.clone(),
            descent: (!is_plain).then(|| Rules::of(settings.descent)),
            epoch: place.epoch,
            format: if is_first { FIRST_FORMAT } else { FORMAT },
            health: health.iter().map(CheckUpRow::of).collect(),
            k: settings.k,
            log: log.iter().map(EpochRow::of).collect(),
            monitor: settings.monitor,
            options: options.clone(),
            reported: trainer.reported,
            seconds: Exact(place.seconds),
            seed: settings.seed,
            smooth: checkpoint.smooth.is_some(),
            tracker: checkpoint.tracker.as_ref().map(Tracked::of),
            uniforms_position,
            uniforms_seed,
            updates: trainer.updates,
            variance: (settings.variance != 0.0).then(|| Exact(f64::from(settings.variance))),
            version: version.clone(),
            watched: Exact(trainer.watched),
        }
    }

    /// Builds the checkpoint. The file is not trusted: the checksum proves that it is complete, not who wrote it.
    pub fn with_tensors(self, file: &Tensors<'_>) -> Result<Checkpoint> {
        let rbm = model::from_tensors(file)?;
        let ([n_chains, words], hidden) = file.tensor("chains")?;
        let ([n_betas], betas) = file.tensor("betas")?;
        let expected = [n_betas, rbm.shape().n_hidden().div_ceil(64)];
        if [n_chains, words] != expected || n_chains == 0 {
            let expected = format!("chains of shape {expected:?}, as betas and weights have it, and at least one");
            return Err(file.fail(expected, format!("{:?}", [n_chains, words])));
        }
        if let Some(index) = betas.iter().position(|beta: &f32| !beta.is_finite()) {
            let expected = format!("betas[{index}] to be a finite number");
            return Err(file.fail(expected, betas[index].to_string()));
        }
        let algorithm = Algorithm::named(&self.algorithm, n_chains);
        let algorithm = algorithm.map_err(|problem| file.fail(METADATA, problem.to_string()))?;
        let uniforms = Uniforms::from_parts(self.uniforms_seed, self.uniforms_position);
        let descent = self.descent.as_ref().map_or(Descent::default(), Rules::descent);
        let variance = self.variance.as_ref().map_or(0.0, |rate| rate.0 as f32);
        descent.check().map_err(|problem| file.fail(METADATA, problem.to_string()))?;
        let rule = (!descent.is_plain()).then(|| rule_state(file, rbm.shape(), descent)).transpose()?;
        let average = self.averaged.map(|taken| Ok((other_model(file, &rbm, AVERAGE)?, taken))).transpose()?;
        let smooth = self.smooth.then(|| other_model(file, &rbm, SMOOTH)).transpose()?;
        let tracker = self.tracker.as_ref().map(|tracked| tracked.state(file)).transpose()?;
        let extras = model::extras(file, rbm.shape())?;
        Ok(Checkpoint {
            extras,
            rbm,
            settings: Settings { algorithm, k: self.k, monitor: self.monitor, seed: self.seed, descent, variance },
            trainer: TrainerState {
                chains: ChainState { hidden, betas, uniforms },
                bit: self.bit,
                updates: self.updates,
                reported: self.reported,
                watched: self.watched.0,
                rule,
            },
            place: Place::new(self.epoch, self.batch, self.seconds.0),
            log: self.log.into_iter().map(EpochRow::epoch).collect(),
            health: self.health.into_iter().map(CheckUpRow::check_up).collect(),
            average,
            tracker,
            smooth,
            data: self.data,
            options: self.options,
            version: self.version,
        })
    }
}
