//! Classification: the label is the last Potts site of the visible layer, and is predicted from the other visible units.
//!
//! With the hidden pre-activations a of a row without its label, a = c + Σ_i x_i·W_ij over the other units i,
//!
//! > log P(y = s|v) = T_s - ln Σ_t e^T_t,  T_s = b_s + Σ_j sp(a_j + W_sj):
//!
//! This is exact, and one matrix product serves all states. A [`Discriminator`] descends the gradient of it. Source: H. Larochelle,
//! Y. Bengio, "Classification using discriminative restricted Boltzmann machines", 2008, equations 2 to 4.
//!
//! Canonical on every device: the device computes a, and the host the rest. Sums over hidden units are in `f64` with sixteen
//! partial sums each; sums over rows and states are in ascending order.

use crate::{
    cpu::Cpu,
    elementary::{sigmoid, sigmoid_lanes, softplus, softplus_lanes},
    error::{Error, Result},
    lanes::{
        LANES, Vector, dispatch,
        isa::Isa,
        threads::{RowsMut, share},
    },
    rbm::Gradient,
    resident::{Resident, check_rate},
    rows::{Rows, Values},
    shape::{Layer, Shape},
    units::Segment,
    verbs::Activations,
};
use std::ops::Range;

impl Shape {
    /// The units of the label, which are those of the last Potts site; `None` if the layer does not end with one.
    ///
    /// ```
    /// use harmonium::Shape;
    ///
    /// assert_eq!(Shape::with_visible("binary:784,potts:1x10".parse()?, 500)?.label(), Some(784..794));
    /// assert_eq!(Shape::with_visible("potts:4x2".parse()?, 5)?.label(), Some(6..8));
    /// assert_eq!(Shape::new(784, 500)?.label(), None);
    /// # Ok::<(), harmonium::Error>(())
    /// ```
    pub fn label(self) -> Option<Range<usize>> {
        let (segment, units) = self.visible().iter().last()?;
        matches!(segment, Segment::Potts { .. }).then_some(units.end - segment.states()..units.end)
    }
}

impl Resident {
    /// log P(y = s|v) of each row for all states s of the label ([`Shape::label`]), in nats, rows × states. Labels within the rows are
    /// ignored.
    ///
    /// `v`: rows × n_visible. Costs one [`propup`](Self::propup) and a softplus for each row, state and hidden unit.
    ///
    /// ```
    /// use harmonium::{Cpu, Dataset, Rbm, Shape};
    ///
    /// # fn main() -> harmonium::Result<()> {
    /// let shape = Shape::with_visible("binary:2,potts:1x3".parse()?, 4)?;
    /// let rbm = Rbm::new(shape, 123).on(Cpu::detect()?)?;
    /// let unlabelled = vec![1.0, 0.0, f32::NAN, f32::NAN, f32::NAN];
    /// let logs = rbm.log_label_probabilities(Dataset::with_missing(unlabelled, shape.visible())?.rows())?;
    /// assert!((logs.iter().map(|log| log.exp()).sum::<f64>() - 1.0).abs() < 1e-12);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if the model has no label or the rows do not fit the shape.
    pub fn log_label_probabilities(&self, v: Rows<'_>) -> Result<Vec<f64>> {
        let mut discriminator = Discriminator::new()?;
        discriminator.prepare(self, v)?;
        Ok(discriminator.logs)
    }
}

/// Descends the gradient of -mean log P(y|v), which trains an RBM as a classifier. Its buffers are reused between calls.
///
/// For a hybrid model, alternate its steps with those of a [`Trainer`](crate::Trainer) with a smaller rate: together they descend
/// -log P(y|v) - α·log P(v, y).
///
/// ```
/// use harmonium::{Cpu, Dataset, Rbm, Shape, labels::Discriminator};
///
/// # fn main() -> harmonium::Result<()> {
/// // The label is whether the two bits differ.
/// let rows = [[0, 0, 1, 0], [0, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0]].map(|row: [u8; 4]| row.map(|bit| 255 * bit)).concat();
/// let shape = Shape::with_visible("binary:2,potts:1x2".parse()?, 8)?;
/// let data = Dataset::from_u8(rows, 4)?.with_segments(shape.visible())?;
/// let mut rbm = Rbm::new(shape, 123).on(Cpu::detect()?)?;
/// let mut discriminator = Discriminator::new()?;
/// for _ in 0..2000 {
///     discriminator.step(&mut rbm, data.rows(), 0.5)?;
/// }
/// assert!(discriminator.step(&mut rbm, data.rows(), 0.5)? > -0.05);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Discriminator {
    cpu: Cpu,
    isa: Isa,
    /// The rows without their labels.
    values: Vec<f32>,
    missing: Vec<u64>,
    hidden: Activations,
    /// The label's weights, states × n_hidden, and biases.
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// s of the visible units, if any is Gaussian.
    precision: Vec<f32>,
    /// log P(y = s|v), rows × states.
    logs: Vec<f64>,
    /// δ_sy - P(s|v), rows × states; 0 if the label is missing.
    errors: Vec<f32>,
    /// Σ_s errors·σ(a_j + W_sj), rows × n_hidden, and the same summed over rows, states × n_hidden.
    pulls: Vec<f32>,
    label_pulls: Vec<f32>,
    gradient: Option<Gradient>,
}

impl Discriminator {
    /// Creates a discriminator with empty buffers.
    ///
    /// # Errors
    /// [`Error::Isa`] as [`Isa::detect`].
    pub fn new() -> Result<Self> {
        Ok(Self {
            cpu: Cpu::detect()?,
            isa: Isa::detect()?,
            values: Vec::new(),
            missing: Vec::new(),
            hidden: Activations::default(),
            weights: Vec::new(),
            bias: Vec::new(),
            precision: Vec::new(),
            logs: Vec::new(),
            errors: Vec::new(),
            pulls: Vec::new(),
            label_pulls: Vec::new(),
            gradient: None,
        })
    }

    /// Computes the hidden pre-activations without the label, and the log-probabilities of all labels.
    fn prepare(&mut self, rbm: &Resident, v: Rows<'_>) -> Result<Range<usize>> {
        let shape = rbm.shape();
        let (label, visible, n_hidden) = (label(shape)?, shape.visible(), shape.n_hidden());
        let words = visible.units().div_ceil(64);
        rbm.check_batch(Layer::Visible, &v.into())?;
        self.missing.clear();
        self.missing.extend_from_slice(v.missing());
        self.missing.resize(v.len() * words, 0);
        self.values.clear();
        self.values.extend((0..v.len()).flat_map(|r| (0..v.units()).map(move |i| v.value(r, i))));
        for (row, missing) in self.values.chunks_exact_mut(v.units()).zip(self.missing.chunks_exact_mut(words)) {
            row[label.clone()].fill(0.0);
            label.clone().for_each(|i| missing[i / 64] |= 1 << (i % 64));
        }
        let rows = Rows::of(Values::F32(&self.values), visible).without(&self.missing);
        rbm.propup(rows, &mut self.hidden)?;
        let model = rbm.to_rbm()?;
        self.weights.clear();
        self.weights.extend_from_slice(&model.view().weights()[label.start * n_hidden..label.end * n_hidden]);
        self.bias.clear();
        self.bias.extend_from_slice(&model.view().visible_bias()[label.clone()]);
        self.precision = if visible.is_discrete() { Vec::new() } else { model.view().precision() };
        self.logs.resize(v.len() * label.len(), 0.0);
        let (isa, pre, weights, bias) = (self.isa, &self.hidden.pre_activation, &self.weights, &self.bias);
        share(RowsMut::new(label.len(), &mut self.logs), &|part: RowsMut<'_, f64>| {
            for (r, logs) in (part.first..).zip(part.values.chunks_exact_mut(part.width)) {
                let pre = &pre[r * n_hidden..][..n_hidden];
                for ((log, weights), &bias) in logs.iter_mut().zip(weights.chunks_exact(n_hidden)).zip(bias) {
                    *log = f64::from(bias) + sum_of_softplus(isa, pre, weights);
                }
                let greatest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total = logs.iter().fold(0.0, |sum, log| sum + libm::exp(log - greatest));
                let normaliser = greatest + libm::log(total);
                logs.iter_mut().for_each(|log| *log -= normaliser);
            }
        });
        Ok(label)
    }

    /// Writes the gradient of -mean log P(y|v) to `out`, and returns mean log P(y|v) in nats. Rows with a missing label are ignored; the
    /// mean is over the others.
    ///
    /// `v`: at least one row of n_visible values. P(y|v) does not depend on the biases of units other than the label, so their gradient
    /// is 0. It does not train ln σ².
    ///
    /// # Errors
    /// [`Error::Argument`] if the model has no label, the rows do not fit the shape or all labels are missing;
    /// [`Error::Length`] if `out` does not fit.
    pub fn gradient(&mut self, rbm: &Resident, v: Rows<'_>, out: &mut Gradient) -> Result<f64> {
        rbm.check_gradient(out)?;
        let label = self.prepare(rbm, v)?;
        let (states, n_hidden, isa) = (label.len(), rbm.shape().n_hidden(), self.isa);
        self.errors.clear();
        let (mut sum, mut labelled) = (0.0, 0);
        for (r, logs) in self.logs.chunks_exact(states).enumerate() {
            let is_there = !v.is_missing(r, label.start);
            let state = (0..states).find(|s| v.value(r, label.start + s) == 1.0).filter(|_| is_there);
            labelled += usize::from(state.is_some());
            sum += state.map_or(0.0, |s| logs[s]);
            let error = |(s, log): (usize, &f64)| {
                state.map_or(0.0, |state| f64::from(u8::from(s == state)) - libm::exp(*log)) as f32
            };
            self.errors.extend(logs.iter().enumerate().map(error));
        }
        if labelled == 0 {
            let (expected, found) = ("at least one row with a label".into(), format!("none of {}", v.len()));
            return Err(Error::Argument { what: "labels", expected, found });
        }
        self.pulls.resize(v.len() * n_hidden, 0.0);
        self.label_pulls.resize(states * n_hidden, 0.0);
        let (pre, weights, errors) = (&self.hidden.pre_activation, &self.weights, &self.errors);
        share(RowsMut::new(n_hidden, &mut self.pulls), &|part: RowsMut<'_, f32>| {
            for (r, pulls) in (part.first..).zip(part.values.chunks_exact_mut(n_hidden)) {
                pulls.fill(0.0);
                let pre = &pre[r * n_hidden..][..n_hidden];
                for (weights, &error) in weights.chunks_exact(n_hidden).zip(&errors[r * states..]) {
                    add_means(isa, pre, weights, error, pulls);
                }
            }
        });
        share(RowsMut::new(n_hidden, &mut self.label_pulls), &|part: RowsMut<'_, f32>| {
            for (s, pulls) in (part.first..).zip(part.values.chunks_exact_mut(n_hidden)) {
                pulls.fill(0.0);
                let weights = &weights[s * n_hidden..][..n_hidden];
                for (pre, errors) in pre.chunks_exact(n_hidden).zip(errors.chunks_exact(states)) {
                    add_means(isa, pre, weights, errors[s], pulls);
                }
            }
        });
        let share_of_one = 1.0 / labelled as f32;
        let rows = Rows::of(Values::F32(&self.values), rbm.shape().visible()).without(&self.missing);
        self.cpu.minus_products(rbm.shape(), &self.precision, rows, &self.pulls, share_of_one, out);
        out.visible_log_variance.fill(0.0);
        out.visible_bias.fill(0.0);
        for (s, i) in label.clone().enumerate() {
            let total = self.errors.iter().skip(s).step_by(states).fold(0.0, |sum: f32, error| sum + error);
            out.visible_bias[i] = -(total * share_of_one);
        }
        let to = &mut out.weights[label.start * n_hidden..label.end * n_hidden];
        to.iter_mut().zip(&self.label_pulls).for_each(|(to, pull)| *to = -(pull * share_of_one));
        Ok(sum / labelled as f64)
    }

    /// θ ← θ - lr·[`gradient`](Self::gradient). Returns mean log P(y|v) before the step, in nats.
    ///
    /// `lr`: finite.
    ///
    /// # Errors
    /// Those of [`gradient`](Self::gradient), and [`Error::Argument`] if lr is not finite.
    pub fn step(&mut self, rbm: &mut Resident, v: Rows<'_>, lr: f32) -> Result<f64> {
        check_rate(lr)?;
        let mut gradient = self.gradient.take().unwrap_or_else(|| Gradient::zero(rbm.shape()));
        if rbm.check_gradient(&gradient).is_err() {
            gradient = Gradient::zero(rbm.shape());
        }
        let mean = self.gradient(rbm, v, &mut gradient);
        let done = mean.and_then(|mean| rbm.apply(&gradient, lr).map(|()| mean));
        self.gradient = Some(gradient);
        done
    }
}

/// The label's units, or an error if there is no label.
fn label(shape: Shape) -> Result<Range<usize>> {
    shape.label().ok_or_else(|| Error::Argument {
        what: "rbm",
        expected: "visible units that end with a label, potts:1xSTATES".into(),
        found: shape.visible().to_string(),
    })
}

dispatch! {
    /// Σ_j sp(pre_j + weights_j).
    fn sum_of_softplus(|l| pre: &[f32], weights: &[f32]) -> f64 {
        let mut partial = [0.0; LANES];
        let (pre, rest) = pre.as_chunks::<LANES>();
        let (weights, last) = weights.as_chunks::<LANES>();
        for (pre, weights) in pre.iter().zip(weights) {
            let mut terms: Vector = [0.0; LANES];
            l.store(softplus_lanes(l, l.add(l.load(pre), l.load(weights))), &mut terms);
            for lane in 0..LANES {
                partial[lane] += f64::from(terms[lane]);
            }
        }
        for (partial, (pre, weight)) in partial.iter_mut().zip(rest.iter().zip(last)) {
            *partial += f64::from(softplus(pre + weight));
        }
        partial.iter().sum()
    }

    /// out_j += error·σ(pre_j + weights_j).
    fn add_means(|l| pre: &[f32], weights: &[f32], error: f32, out: &mut [f32]) {
        let (pre, rest) = pre.as_chunks::<LANES>();
        let (weights, last) = weights.as_chunks::<LANES>();
        let (out, end) = out.as_chunks_mut::<LANES>();
        for ((pre, weights), out) in pre.iter().zip(weights).zip(out) {
            let mean = sigmoid_lanes(l, l.add(l.load(pre), l.load(weights)));
            l.store(l.mul_add(l.splat(error), mean, l.load(out)), out);
        }
        for (out, (pre, weight)) in end.iter_mut().zip(rest.iter().zip(last)) {
            *out = error.mul_add(sigmoid(pre + weight), *out);
        }
    }
}
