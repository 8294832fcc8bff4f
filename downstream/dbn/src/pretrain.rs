//! Greedy pretraining: each layer is an RBM that learns the means of the layer below.
//!
//! The lower layers learn by CD-1. The top layer has the labels beside its inputs, as a Potts site, and learns by PCD, because samples
//! come from it. Source: G. E. Hinton, S. Osindero, Y.-W. Teh, "A fast learning algorithm for deep belief nets", 2006.

use crate::{
    digits::Digits,
    net::{Layer, Net},
};
use harmonium::{
    Activations, Algorithm, Binarise, Chains, Dataset, Descent, Device, Epochs, Error, Monitor, Purpose, Rbm, Result,
    Settings, Shape, Trainer, Uniforms,
    descent::{Centring, Rate},
};

/// The settings of pretraining. Learning rates are the initial ones; they decay linearly to 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pretraining {
    /// The number of passes over the data for each layer.
    pub epochs: u64,
    /// Rows in a minibatch, and persistent chains of the top layer.
    pub batch: usize,
    /// The learning rate of the lower layers.
    pub lr: f32,
    /// The momentum of the lower layers.
    pub momentum: f32,
    /// The learning rate of the top layer, which uses the centred gradient instead of momentum.
    pub top_lr: f32,
    /// L2 weight decay: each update subtracts lr·l2·w from each weight w.
    pub l2: f32,
}

impl Default for Pretraining {
    fn default() -> Self {
        Self { epochs: 10, batch: 100, lr: 0.05, momentum: 0.9, top_lr: 0.1, l2: 2e-4 }
    }
}

impl Pretraining {
    /// Checks the ranges of the settings.
    ///
    /// # Errors
    /// [`Error::Argument`] with the first wrong one.
    pub fn check(&self) -> Result<()> {
        let fail = |what, expected: &str, found| Err(Error::Argument { what, expected: expected.into(), found });
        match self {
            Self { batch: 0, .. } => fail("batch", "at least one row", "0".into()),
            Self { lr, top_lr, .. } if ![lr, top_lr].into_iter().all(|lr| lr.is_finite() && *lr >= 0.0) => {
                fail("lr", "finite numbers of at least 0", format!("{lr} and {top_lr}"))
            }
            _ => Ok(()),
        }
    }
}

/// The number of rows that are propagated at a time, so that the buffer of unused pre-activations stays small.
const ROWS: usize = 1_000;

/// Trains a stack of layers of these sizes. `report` receives the layer, the epoch and the log-likelihood of the reconstruction in nats a
/// row ([`Monitor::Reconstruction`]).
///
/// # Errors
/// Those of [`Pretraining::check`], [`Shape::new`], [`Trainer`] and [`Rbm`].
pub fn pretrain(
    device: &Device, data: &Digits, sizes: &[usize], how: &Pretraining, seed: u64,
    mut report: impl FnMut(usize, u64, f64),
) -> Result<Net> {
    how.check()?;
    // Refuse an impossible layer before training the others.
    let inputs = [&[data.rows().units()], sizes].concat();
    inputs.windows(2).try_for_each(|pair| Shape::new(pair[0], pair[1]).map(drop))?;
    let mut net = Net { layers: Vec::new(), classes: data.labels().names().to_vec() };
    let mut rows = data.rows().clone();
    for (n, &size) in sizes.iter().enumerate() {
        let (is_top, seed) = (n + 1 == sizes.len(), seed.wrapping_add(n as u64));
        if is_top {
            rows = data.labels().beside(&rows)?;
        }
        let mut layer = Layer::from_rbm(Rbm::from_data(rows.rows(), size, seed)?);
        train_layer(device, &mut layer, &rows, is_top, how, seed, |epoch, cost| report(n, epoch, cost))?;
        if !is_top {
            rows = forward(device, &layer, &rows)?;
        }
        net.layers.push(layer);
    }
    Ok(net)
}

/// Trains one layer, in its own buffers.
///
/// # Errors
/// Those of [`Trainer`].
pub fn train_layer(
    device: &Device, layer: &mut Layer, data: &Dataset, is_top: bool, how: &Pretraining, seed: u64,
    mut report: impl FnMut(u64, f64),
) -> Result<()> {
    let (algorithm, lr, descent) = match is_top {
        true => {
            let descent = Descent { centring: Some(Centring::default()), l2: how.l2, ..Descent::default() };
            (Algorithm::Pcd { n_chains: how.batch }, how.top_lr, descent)
        }
        false => (Algorithm::Cd, how.lr, Descent { momentum: how.momentum, l2: how.l2, ..Descent::default() }),
    };
    let settings = Settings { algorithm, k: 1, monitor: Monitor::Reconstruction, seed, descent, ..Settings::default() };
    let mut trainer = Trainer::new(device, layer.shape, settings)?;
    let mut epochs = Epochs::new(true, Binarise::None, seed)?;
    let mut lent = layer.rbm_mut()?.lend(device)?;
    if is_top {
        trainer.centre_at(&data.rows().clipped_means())?;
        trainer.set_chains(Chains::from_hidden_bias(&lent, how.batch, Uniforms::new(seed, Purpose::Training))?)?;
    }
    let updates = how.epochs * data.batches(how.batch).count() as u64;
    let mut update = 0;
    for epoch in 0..how.epochs {
        let shown = epochs.show(data, epoch)?;
        let loaded = device.load(shown.rows())?;
        for batch in shown.batches(how.batch) {
            trainer.step(&mut lent, loaded.range(batch), Rate::Linear.at(lr, update, updates))?;
            update += 1;
        }
        report(epoch, trainer.take_report()?.monitor.unwrap_or(f64::NAN));
    }
    lent.finish()
}

/// P(h|v) of all rows.
///
/// # Errors
/// Those of [`Resident::propup`](harmonium::Resident::propup).
pub fn forward(device: &Device, layer: &Layer, data: &Dataset) -> Result<Dataset> {
    let rbm = layer.rbm()?.on(device)?;
    let (mut hidden, mut means) = (Activations::default(), Vec::with_capacity(data.len() * layer.outputs()));
    for batch in data.batches(ROWS) {
        rbm.propup(data.rows().range(batch), &mut hidden)?;
        means.extend_from_slice(&hidden.mean);
    }
    Dataset::from_f32(means, layer.outputs())
}
