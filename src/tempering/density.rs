//! ln p_β(h) of a hidden layer, computed from the pre-activations of the visible layer.

use crate::{rows::Rows, shape::Shape, units::Segment};

/// Scratch for the computation of a density.
pub(super) struct Scratch {
    shape: Shape,
    pre: Vec<f64>,
    precision: Vec<f64>,
    /// Zeros, as biases would add a constant only.
    bias: Vec<f32>,
    held: Vec<bool>,
}

impl Scratch {
    pub fn new(shape: Shape) -> Self {
        let n = shape.n_visible();
        Self { shape, pre: vec![0.0; n], precision: vec![1.0; n], bias: vec![0.0; n], held: vec![false; n] }
    }

    /// Marks the units of a chain that are held. Returns Σ s·v·a over them.
    pub fn hold(&mut self, held: &Rows<'_>, pre: &[f32], precision: &[f32]) -> f64 {
        let mut sum = 0.0;
        for (i, (&a, &s)) in pre.iter().zip(precision).enumerate() {
            self.held[i] = !held.is_missing(0, i);
            if self.held[i] {
                sum += f64::from(s) * f64::from(held.value(0, i)) * f64::from(a);
            }
        }
        sum
    }

    /// β·own + Σ_g A_g(β) + const, where `own` is c·h plus the terms of held units, and `pre` has the pre-activations at β = 1.
    pub fn log_density(&mut self, own: f64, pre: &[f32], precision: &[f32], beta: f32) -> f64 {
        let beta = f64::from(beta);
        for (segment, units) in self.shape.visible().iter() {
            for (n, i) in units.enumerate() {
                let (a, of_state) = (f64::from(pre[i]), n % segment.states());
                self.precision[i] = if segment.is_number() { beta * f64::from(precision[i]) } else { 1.0 };
                // A held unit adds 0 or a constant, as a Gaussian unit of mean 0, a site of one state or a unit that is off does.
                self.pre[i] = match (self.held[i], segment) {
                    (false, Segment::Gaussian(_)) => a,
                    (false, _) => beta * a,
                    (true, Segment::Gaussian(_)) => 0.0,
                    (true, Segment::Potts { .. }) if of_state == 0 => 0.0,
                    (true, _) => f64::NEG_INFINITY,
                };
            }
        }
        beta * own + self.shape.visible().log_normaliser(&self.pre, &self.bias, &self.precision)
    }
}
