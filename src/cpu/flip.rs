//! Flips one visible bit of each row of a group. The change of the softplus terms gives log P(x_i|x_-i).

use super::{
    layers::{self, Partial, total},
    tempered::Tempered,
    tiles::{Row, TILE},
};
use crate::{elementary::softplus, lanes::LANES};

/// The flip of a unit in a group of rows.
#[derive(Default)]
pub(crate) struct Flip {
    pub unit: usize,
    /// The change of the unit in each row: 1 or -1.
    changes: Vec<f32>,
    /// Σ_j sp(a_j + change·W_ij) - sp(a_j) of each row, lane by lane.
    partials: Vec<Partial>,
}

impl Flip {
    /// Starts with the states of the unit.
    pub fn begin(&mut self, unit: usize, states: impl Iterator<Item = bool>) {
        self.unit = unit;
        self.changes.clear();
        self.changes.extend(states.map(|is_on| if is_on { -1.0 } else { 1.0 }));
        self.partials.clear();
        self.partials.resize(self.changes.len(), [0.0; LANES]);
    }

    /// Adds a tile of hidden units, given their pre-activations.
    pub fn add(&mut self, model: Tempered<'_>, tile: usize, vectors: usize, pre: &[Row]) {
        let (parameters, Self { unit, changes, partials }) = (model.parameters, self);
        let weights = &parameters.weights[parameters.row(*unit, tile)];
        layers::add_flip(model.cpu.isa, pre, weights, changes, parameters.shape.n_hidden(), tile, vectors, partials);
    }

    /// log P(x_i|x_-i) of each row, as an `f32`.
    pub fn log_conditionals(&self, model: Tempered<'_>, out: &mut [f64]) {
        let bias = model.parameters.visible_bias[self.unit / TILE].units()[self.unit % TILE];
        for ((out, partial), change) in out.iter_mut().zip(&self.partials).zip(&self.changes) {
            // log P = -sp(-(F(x̃_i) - F(x))).
            let difference = f64::from(-change * bias) - total(*partial);
            *out = -f64::from(softplus(-difference as f32));
        }
    }
}
