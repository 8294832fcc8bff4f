//! Runs of annealed importance sampling on the CPU: each worker carries its runs through all temperatures.
//!
//! A step from β to β' is a step of a sweep whose visible layer is drawn at β and whose hidden layer at β'. One sum vW gives
//! the softplus terms of both temperatures and the hidden pre-activations. The terms are `f32`, their differences are added
//! up in `f64`, one partial sum a lane; the visible terms are `f64` throughout. Draws stand where a sweep's do.

use super::{
    Cpu,
    chains::{Chains, Part, Sweep},
    groups::{GROUP, LayerDraws, Scratch, Tempered, empty, in_groups, with_scratch},
    layers::{self, total},
    threads::{Split, share},
    tiles::{Parameters, Row, TILE, gather, spread, vectors},
};
use crate::{backend::Layer, uniforms::Jump};

/// Some of the runs.
struct Runs<'a> {
    part: Part<'a>,
    log_weights: &'a mut [f64],
}

impl Split for Runs<'_> {
    fn pieces(&self) -> usize {
        self.part.pieces()
    }

    fn split(self, pieces: usize) -> (Self, Self) {
        let (part, other_part) = self.part.split(pieces);
        let (log_weights, other_log_weights) = self.log_weights.split_at_mut(pieces);
        (Self { part, log_weights }, Self { part: other_part, log_weights: other_log_weights })
    }
}

/// What all runs share.
struct Annealing<'a> {
    cpu: Cpu,
    parameters: &'a Parameters,
    betas: &'a [f32],
    reference: &'a [Row],
    /// b - reference: the derivative of the visible terms in β.
    slopes: &'a [f64],
    sweep: Sweep,
}

/// See [`Backend::anneal`](crate::Backend::anneal).
pub(super) fn anneal(
    cpu: Cpu, parameters: &Parameters, chains: &mut Chains, reference: &[f32], betas: &[f32], log_weights: &mut [f64],
) {
    let Some(&last) = betas.last() else { return };
    let units = parameters.shape.n_visible();
    let mut bias = vec![0.0; units];
    gather(&parameters.visible_bias, units, &mut bias);
    let slopes: Vec<f64> = bias.iter().zip(reference).map(|(&b, &a)| f64::from(b) - f64::from(a)).collect();
    let reference = spread(reference, units);
    chains.betas.fill(last);
    let (part, sweep) = chains.sweep(betas.len() - 1);
    let annealing = Annealing { cpu, parameters, betas, reference: &reference, slopes: &slopes, sweep };
    share(Runs { part, log_weights }, &|runs| {
        in_groups(runs, |group| with_scratch(|scratch| annealing.run_group(group, scratch)));
    });
}

impl Annealing<'_> {
    fn run_group(&self, group: Runs<'_>, scratch: &mut Scratch) {
        let Self { cpu: Cpu { isa }, parameters, reference, .. } = *self;
        let Runs { part: Part { betas, hidden, visible, visible_pre, hidden_mean, .. }, log_weights } = group;
        let (shape, n) = (parameters.shape, betas.len());
        let mut jumps = std::mem::take(&mut scratch.jumps);
        let mut states = std::mem::take(&mut scratch.states);
        let mut partials = std::mem::take(&mut scratch.partials);
        let mut sums = vec![Row::ZERO; n];
        let mut draws = LayerDraws { state: self.sweep.state, units: shape.n_visible() };
        draws.jumps(visible.first, n, &mut jumps[0]);
        LayerDraws { units: shape.n_hidden(), ..draws }.jumps(visible.first, n, &mut jumps[1]);
        let over = |units: usize| Jump::over((self.sweep.chains * units) as u64);
        let (over_visible, over_hidden) = (over(shape.n_visible()), over(shape.n_hidden()));
        let mut at = [0.0; GROUP];
        for (step, pair) in self.betas.windows(2).enumerate() {
            let (from, to) = (pair[0], pair[1]);
            let last = step + 2 == self.betas.len();
            at.fill(from);
            let model = Tempered { isa, parameters, reference, betas: &at[..n] };
            draws.states(&jumps[0], &mut states);
            model.make_from_bits(Layer::Hidden, hidden.values, scratch, |tile, vectors, pre| {
                if last {
                    visible_pre.values[tile..]
                        .iter_mut()
                        .step_by(visible_pre.width)
                        .zip(&*pre)
                        .for_each(|(row, pre)| *row = *pre);
                }
                let words = &mut visible.values[tile..];
                layers::fire(isa, pre, shape.n_visible(), tile, vectors, &mut states, words, visible.width);
            });
            draws.state = over_visible.from(draws.state);
            draws.states(&jumps[1], &mut states);
            empty(&mut partials, n);
            let inputs = &mut scratch.inputs;
            inputs.take_bits(isa, visible.values, shape.n_visible(), parameters.skip(Layer::Visible));
            for (tile, bias) in parameters.hidden_bias.iter().enumerate() {
                let vectors = vectors(shape.n_hidden(), tile);
                inputs.sums(isa, parameters.strip(Layer::Visible, tile), vectors, &mut sums);
                layers::anneal(isa, &mut sums, bias, from, to, shape.n_hidden(), tile, vectors, &mut partials);
                let words = &mut hidden.values[tile..];
                layers::fire(isa, &mut sums, shape.n_hidden(), tile, vectors, &mut states, words, hidden.width);
                if last {
                    let rows = hidden_mean.values[tile..].iter_mut().step_by(hidden_mean.width);
                    rows.zip(&sums).for_each(|(row, mean)| *row = *mean);
                }
            }
            draws.state = over_hidden.from(draws.state);
            let warmer = f64::from(to) - f64::from(from);
            let words = visible.values.chunks_exact(visible.width);
            for ((log_weight, words), partial) in log_weights.iter_mut().zip(words).zip(&partials) {
                *log_weight += warmer * sum_of_active(words, self.slopes) + total(*partial);
            }
        }
        (scratch.jumps, scratch.states, scratch.partials) = (jumps, states, partials);
    }
}

/// The sum of the values of the units that are on, ascending.
fn sum_of_active(words: &[u64], values: &[f64]) -> f64 {
    let mut sum = 0.0;
    for (values, &word) in values.chunks(TILE).zip(words) {
        let mut word = word;
        while word != 0 {
            sum += values[word.trailing_zeros() as usize];
            word &= word - 1;
        }
    }
    sum
}
