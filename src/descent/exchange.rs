//! Hidden units exchanged for their opposites: h_j → 1 - h_j, the same model in other words.
//!
//! W_ij → -W_ij for all i, c_j → -c_j, and b gains the old W_·j, so that E changes by a constant only. A unit that is on in most
//! rows becomes one that is on in few, and sums over active units cost less; a centred gradient learns the same either way.

use super::RuleState;
use crate::{rbm::Rbm, verbs::ChainState};

/// Exchanges these hidden units in the model, in what the rules keep and in the chains.
pub(crate) fn exchange(units: &[usize], rbm: &mut Rbm, rule: &mut RuleState, chains: &mut ChainState) {
    let n_hidden = rbm.shape().n_hidden();
    let (weights, visible_bias, hidden_bias) = rbm.view_mut().parts();
    let turn = |weights: &mut [f32], visible_bias: &mut [f32], hidden_bias: &mut [f32]| {
        for &j in units {
            for (row, bias) in weights.chunks_exact_mut(n_hidden).zip(visible_bias.iter_mut()) {
                *bias += row[j];
                row[j] = -row[j];
            }
            hidden_bias[j] = -hidden_bias[j];
        }
    };
    turn(weights, visible_bias, hidden_bias);
    if let Some(velocity) = &mut rule.velocity {
        turn(&mut velocity.weights, &mut velocity.visible_bias, &mut velocity.hidden_bias);
    }
    for &j in units {
        rule.hidden_offset[j] = 1.0 - rule.hidden_offset[j];
        for chain in chains.hidden.chunks_exact_mut(n_hidden.div_ceil(64)) {
            chain[j / 64] ^= 1 << (j % 64);
        }
    }
}
