//! Backpropagation through σ layers with softmax units on top.
//!
//! With x₀ the inputs, a_l = x_{l-1}W_l + c_l, y_l = σ(a_l), x_l = m_l∘y_l and p = softmax(a_L), the cost of B rows is
//! E = -(1/B)·Σ_r ln p_r,class. Its derivative by a_L is δ_L = (p - onehot)/B; by W_l it is x_{l-1}ᵀδ_l, by c_l the sum of the rows
//! of δ_l, and δ_l = (δ_{l+1}W_{l+1}ᵀ)∘m_l∘y_l∘(1 - y_l) below the top.
//!
//! m_l is 1 without dropout. With it a unit is dropped with probability d, and m_l is 1/(1 - d) otherwise. So the means
//! are those of the pretrained net, and the net needs no change for use. Source: N. Srivastava and others, "Dropout: a simple
//! way to prevent neural networks from overfitting", 2014, section 10.

use crate::{
    matrix::{product, rows},
    net::{Layer, Net},
};
use harmonium::{Cpu, Uniforms};
use rayon::prelude::*;

/// The number of values in a task of a thread.
pub(crate) const PIECE: usize = 1 << 14;

/// Dropout rates.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropout {
    /// The rate of the inputs, at least 0 and below 1.
    pub inputs: f32,
    /// The rate of the outputs of all layers except the top one, at least 0 and below 1.
    pub hidden: f32,
}

/// The gradient of one layer.
#[derive(Clone, Debug)]
pub struct LayerGradient {
    /// The gradient of [`input_weights`](Layer::input_weights), inputs × outputs.
    pub weights: Vec<f32>,
    /// The gradient of the hidden bias, one for each output.
    pub bias: Vec<f32>,
}

/// Buffers for one minibatch, reused between minibatches.
#[derive(Clone, Debug)]
pub struct Backprop {
    /// x_{l-1}: the inputs of each layer.
    inputs: Vec<Vec<f32>>,
    /// m_{l-1}; empty without dropout.
    masks: Vec<Vec<f32>>,
    /// y_l, and p at the top.
    outputs: Vec<Vec<f32>>,
    deltas: Vec<Vec<f32>>,
    /// The result of the last call of [`gradient`](Self::gradient).
    pub gradients: Vec<LayerGradient>,
}

impl Backprop {
    /// Buffers for a net of this shape.
    pub fn new(net: &Net) -> Self {
        let none = vec![Vec::new(); net.layers.len()];
        let gradient = |layer: &Layer| LayerGradient {
            weights: vec![0.0; layer.input_weights().len()],
            bias: vec![0.0; layer.outputs()],
        };
        Self {
            inputs: none.clone(),
            masks: none.clone(),
            outputs: none.clone(),
            deltas: none,
            gradients: net.layers.iter().map(gradient).collect(),
        }
    }

    /// p, the probabilities of the classes for each row of `values`: rows × classes.
    pub fn classify(&mut self, net: &Net, values: &[f32]) -> &[f32] {
        self.forward(net, values, None);
        &self.outputs[net.layers.len() - 1]
    }

    /// Computes the gradient of E over these rows into [`gradients`](Self::gradients); returns E in nats a row.
    ///
    /// `values`: rows × inputs; `classes`: a class for each row, below the number of softmax units.
    pub fn gradient(
        &mut self, net: &Net, values: &[f32], classes: &[usize], dropout: Option<(Dropout, Cpu, &mut Uniforms)>,
    ) -> f64 {
        self.forward(net, values, dropout);
        let (top, n) = (net.layers.len() - 1, classes.len() as f32);
        self.deltas[top].clone_from(&self.outputs[top]);
        let mut cost = 0.0;
        for (row, &class) in self.deltas[top].chunks_exact_mut(net.layers[top].outputs()).zip(classes) {
            cost -= f64::from(row[class].max(f32::MIN_POSITIVE)).ln();
            row[class] -= 1.0;
            row.iter_mut().for_each(|x| *x /= n);
        }
        for l in (0..=top).rev() {
            let (layer, gradient) = (&net.layers[l], &mut self.gradients[l]);
            let (n_in, n_out) = (layer.inputs(), layer.outputs());
            product(&mut gradient.weights, rows(&self.inputs[l], n_in).reversed_axes(), rows(&self.deltas[l], n_out));
            gradient.bias.fill(0.0);
            for row in self.deltas[l].chunks_exact(n_out) {
                gradient.bias.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            if l > 0 {
                let (below, here) = self.deltas.split_at_mut(l);
                let delta = &mut below[l - 1];
                delta.resize(classes.len() * n_in, 0.0);
                product(delta, rows(&here[0], n_out), rows(layer.input_weights(), n_out).reversed_axes());
                delta.par_chunks_mut(PIECE).zip(self.outputs[l - 1].par_chunks(PIECE)).for_each(|(delta, y)| {
                    delta.iter_mut().zip(y).for_each(|(delta, y)| *delta *= y * (1.0 - y));
                });
                multiply(delta, &self.masks[l]);
            }
        }
        cost / f64::from(n)
    }

    fn forward(&mut self, net: &Net, values: &[f32], mut dropout: Option<(Dropout, Cpu, &mut Uniforms)>) {
        for (l, layer) in net.layers.iter().enumerate() {
            let (n_in, n_out) = (layer.inputs(), layer.outputs());
            let inputs = &mut self.inputs[l];
            inputs.clear();
            inputs.extend_from_slice(if l == 0 { values } else { &self.outputs[l - 1] });
            self.masks[l].clear();
            if let Some((shares, cpu, draws)) = &mut dropout {
                let share = if l == 0 { shares.inputs } else { shares.hidden };
                if share > 0.0 {
                    let (mask, kept) = (&mut self.masks[l], 1.0 / (1.0 - share));
                    mask.resize(inputs.len(), 0.0);
                    cpu.uniforms(draws, mask);
                    mask.par_chunks_mut(PIECE).for_each(|mask| {
                        mask.iter_mut().for_each(|u| *u = if *u < share { 0.0 } else { kept });
                    });
                    multiply(inputs, mask);
                }
            }
            let out = &mut self.outputs[l];
            out.resize(inputs.len() / n_in * n_out, 0.0);
            product(out, rows(inputs, n_in), rows(layer.input_weights(), n_out));
            let is_top = l + 1 == net.layers.len();
            out.par_chunks_exact_mut(n_out).for_each(|row| {
                row.iter_mut().zip(&layer.hidden_bias).for_each(|(x, c)| *x += c);
                if is_top { softmax(row) } else { row.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())) }
            });
        }
    }
}

/// x ← x∘mask; an empty mask changes nothing.
fn multiply(values: &mut [f32], mask: &[f32]) {
    values.par_chunks_mut(PIECE).zip(mask.par_chunks(PIECE)).for_each(|(values, mask)| {
        values.iter_mut().zip(mask).for_each(|(x, m)| *x *= m);
    });
}

fn softmax(row: &mut [f32]) {
    let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|x| *x = (*x - greatest).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= sum);
}
