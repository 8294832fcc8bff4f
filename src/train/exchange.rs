//! The exchange of hidden units for their opposites, h_j → 1 - h_j, which leaves the model of the visible units unchanged.
//!
//! W_ij → -W_ij for all i, c_j → -c_j, and b_i gains the old W_ij, so that E changes by a constant only. A unit that is on in most
//! rows becomes one that is on in few, and sums over active units cost less. A centred gradient is invariant to the exchange.

use crate::{
    descent::RuleState,
    error::{Error, Result},
    rbm::Gradient,
    resident::Resident,
    shape::Shape,
    verbs::ChainState,
};

impl Resident {
    /// Exchanges hidden units for their opposites, h_j → 1 - h_j: W_ij → -W_ij, c_j → -c_j, b_i → b_i + W_ij.
    ///
    /// The model of the visible units is unchanged; log Z and all free energies change by the same constant. Costs a copy of the
    /// parameters to the host and back.
    ///
    /// `units`: indices of hidden units.
    ///
    /// # Errors
    /// [`Error::Argument`] if an index is not that of a hidden unit.
    pub fn exchange_units(&mut self, units: &[usize]) -> Result<()> {
        if let Some(unit) = units.iter().find(|&&unit| unit >= self.shape().n_hidden()) {
            let expected = format!("hidden units below {}", self.shape().n_hidden());
            return Err(Error::Argument { what: "units", expected, found: unit.to_string() });
        }
        let mut rbm = self.to_rbm()?;
        let (weights, visible_bias, hidden_bias, _) = rbm.view_mut().parts();
        exchange(units, weights, visible_bias, hidden_bias);
        *self = rbm.on(self.device())?;
        Ok(())
    }
}

fn exchange(units: &[usize], weights: &mut [f32], visible_bias: &mut [f32], hidden_bias: &mut [f32]) {
    let n_hidden = hidden_bias.len();
    for &j in units {
        for (row, bias) in weights.chunks_exact_mut(n_hidden).zip(visible_bias.iter_mut()) {
            *bias += row[j];
            row[j] = -row[j];
        }
        hidden_bias[j] = -hidden_bias[j];
    }
}

/// The same exchange in the state of the rules of descent and in the states of chains.
pub(crate) fn exchange_states(units: &[usize], shape: Shape, rule: &mut RuleState, chains: &mut ChainState) {
    if let Some(Gradient { weights, visible_bias, hidden_bias, .. }) = &mut rule.velocity {
        exchange(units, weights, visible_bias, hidden_bias);
    }
    for &j in units {
        rule.hidden_offset[j] = 1.0 - rule.hidden_offset[j];
        for chain in chains.hidden.chunks_exact_mut(shape.n_hidden().div_ceil(64)) {
            chain[j / 64] ^= 1 << (j % 64);
        }
    }
}
