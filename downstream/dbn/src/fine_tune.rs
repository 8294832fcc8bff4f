//! Fine-tuning: descent by minibatches with momentum, the epoch chosen by the error on validation rows.

use crate::{
    backprop::{Backprop, Dropout, PIECE},
    digits::Digits,
    net::{Layer, Net},
};
use harmonium::{Cpu, Error, Purpose, Result, Uniforms, descent::Rate};
use rayon::prelude::*;

/// The settings of fine-tuning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FineTuning {
    /// The number of passes over the data.
    pub epochs: u64,
    /// Rows in a minibatch.
    pub batch: usize,
    /// The initial learning rate; it decays linearly to 0.
    pub lr: f32,
    /// The momentum: v ← momentum·v - lr·gradient, θ ← θ + v.
    pub momentum: f32,
    /// The dropout rates.
    pub dropout: Dropout,
}

impl Default for FineTuning {
    fn default() -> Self {
        Self { epochs: 50, batch: 100, lr: 0.3, momentum: 0.9, dropout: Dropout { inputs: 0.2, hidden: 0.3 } }
    }
}

impl FineTuning {
    /// Checks the ranges of the settings.
    ///
    /// # Errors
    /// [`Error::Argument`] with the first wrong one.
    pub fn check(&self) -> Result<()> {
        let check = |what, x: f32, is_right: bool, expected: &str| match is_right {
            true => Ok(()),
            false => Err(Error::Argument { what, expected: expected.into(), found: x.to_string() }),
        };
        let is_part = |x: f32| (0.0..1.0).contains(&x);
        check("batch", self.batch as f32, self.batch > 0, "at least one row")?;
        check("lr", self.lr, self.lr.is_finite() && self.lr >= 0.0, "a finite number of at least 0")?;
        check("momentum", self.momentum, is_part(self.momentum), "at least 0 and below 1")?;
        check("dropout of inputs", self.dropout.inputs, is_part(self.dropout.inputs), "at least 0 and below 1")?;
        check("dropout", self.dropout.hidden, is_part(self.dropout.hidden), "at least 0 and below 1")
    }
}

/// The report of [`fine_tune`] on one epoch.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Counted from 0.
    pub epoch: u64,
    /// The mean cost of the updates, in nats a row.
    pub cost: f64,
    /// The fraction of validation rows with a wrong class.
    pub validation: f64,
    /// Whether this is the least validation error so far.
    pub is_best: bool,
}

/// Trains all layers of `net` by backpropagation, in their own buffers. The final parameters are those after the epoch with the
/// least error on `validation`. Returns this error, a fraction of the rows. Without epochs, the parameters do not change.
///
/// # Errors
/// Those of [`FineTuning::check`]; [`Error::Argument`] if the net has other inputs or classes than the rows; [`Error::Value`] if
/// a parameter becomes non-finite.
pub fn fine_tune(
    cpu: Cpu, net: &mut Net, train: &Digits, validation: &Digits, how: &FineTuning, seed: u64,
    mut told: impl FnMut(Told),
) -> Result<f64> {
    how.check()?;
    for digits in [train, validation] {
        net.check(digits.rows().units(), digits.labels().names())?;
    }
    let (found, expected) = (net.layers.last().map_or(0, Layer::outputs), net.classes.len());
    if found != expected {
        let expected = format!("{expected} softmax units on top, one for each class");
        return Err(Error::Argument { what: "net", expected, found: found.to_string() });
    }
    let mut backprop = Backprop::new(net);
    let mut velocity = backprop.gradients.clone();
    let (mut best, mut least) = (net.clone(), f64::INFINITY);
    let mut orders = Uniforms::new(seed, Purpose::Shuffling);
    let mut draws = Uniforms::new(seed, Purpose::Other);
    let updates = how.epochs * train.len().div_ceil(how.batch) as u64;
    let mut update = 0;
    for epoch in 0..how.epochs {
        let (mut cost, order) = (0.0, orders.permutation(train.len()));
        for batch in order.chunks(how.batch) {
            let values = train.rows().select(batch)?.rows().to_vec();
            let classes: Vec<usize> = batch.iter().map(|&row| train.classes()[row]).collect();
            let dropout = Some((how.dropout, cpu, &mut draws));
            cost += backprop.gradient(net, &values, &classes, dropout) * batch.len() as f64;
            let lr = Rate::Linear.at(how.lr, update, updates);
            for ((layer, v), g) in net.layers.iter_mut().zip(&mut velocity).zip(&backprop.gradients) {
                step(layer.input_weights_mut(), &mut v.weights, &g.weights, how.momentum, lr);
                step(&mut layer.hidden_bias, &mut v.bias, &g.bias, how.momentum, lr);
            }
            update += 1;
        }
        net.layers.iter().try_for_each(|layer| layer.rbm().map(drop))?;
        let validation = error(&mut backprop, net, validation);
        let is_best = validation < least;
        if is_best {
            least = validation;
            best.copy_from(net);
        }
        told(Told { epoch, cost: cost / train.len() as f64, validation, is_best });
    }
    net.copy_from(&best);
    Ok(least)
}

/// v ← momentum·v - lr·g, θ ← θ + v.
fn step(parameters: &mut [f32], velocity: &mut [f32], gradient: &[f32], momentum: f32, lr: f32) {
    let all = parameters.par_chunks_mut(PIECE).zip(velocity.par_chunks_mut(PIECE)).zip(gradient.par_chunks(PIECE));
    all.for_each(|((parameters, velocity), gradient)| {
        for ((x, v), g) in parameters.iter_mut().zip(velocity).zip(gradient) {
            *v = momentum * *v - lr * g;
            *x += *v;
        }
    });
}

/// The fraction of rows whose most probable class is wrong.
pub fn error(backprop: &mut Backprop, net: &Net, digits: &Digits) -> f64 {
    const ROWS: usize = 500;
    let mut wrong = 0;
    for batch in digits.rows().batches(ROWS) {
        let p = backprop.classify(net, &digits.rows().rows().range(batch.clone()).to_vec());
        let n = digits.n_classes();
        for (p, &class) in p.chunks_exact(n).zip(&digits.classes()[batch]) {
            let most = p.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(class, _)| class);
            wrong += usize::from(most != Some(class));
        }
    }
    wrong as f64 / digits.len() as f64
}
