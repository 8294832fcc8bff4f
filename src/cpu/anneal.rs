//! Runs of annealed importance sampling on the CPU: each worker carries its runs through all temperatures.
//!
//! A step from β to β' is a step of a sweep whose visible layer is drawn at β and whose hidden layer at β'. One sum vW gives
//! the softplus terms of both temperatures and the hidden pre-activations. The terms are `f32`, their differences are added
//! up in `f64`, one partial sum a lane; the visible terms are `f64` throughout. Draws have the places of a sweep's.

use super::{
    chains::{CpuChains, SomeChains, Sweep},
    groups::{MOST_ROWS, Scratch, SweepDraws, Tempered, empty, in_groups, put, with_scratch},
    host::Cpu,
    layers::{self, total},
    tiles::{CpuParameters, Row, TILE, gather, spread},
};
use crate::{
    error::Result,
    lanes::threads::{RowsMut, share},
    shape::Layer,
    verbs,
};

/// What all runs share.
struct AllRuns<'a> {
    cpu: Cpu,
    parameters: &'a CpuParameters,
    betas: &'a [f32],
    reference: &'a [Row],
    /// b - reference: the derivative of the visible terms in β.
    slopes: &'a [f64],
    sweep: Sweep,
}

impl verbs::Tempering for Cpu {
    fn anneal(
        &self, parameters: &CpuParameters, chains: &mut CpuChains, reference: &[f32], betas: &[f32],
        log_weights: &mut [f64],
    ) -> Result<()> {
        let Some(&last) = betas.last() else { return Ok(()) };
        let units = parameters.shape.n_visible();
        let mut bias = vec![0.0; units];
        gather(&parameters.visible_bias, units, &mut bias);
        let slopes: Vec<f64> = bias.iter().zip(reference).map(|(&b, &a)| f64::from(b) - f64::from(a)).collect();
        let reference = spread(reference, units);
        chains.betas.fill(last);
        let (part, sweep) = chains.sweep(betas.len() - 1);
        let all = AllRuns { cpu: *self, parameters, betas, reference: &reference, slopes: &slopes, sweep };
        share((part, RowsMut::new(1, log_weights)), &|runs| {
            in_groups(*self, runs, |(part, log_weights)| {
                with_scratch(|scratch| all.run_group(part, log_weights.values, scratch));
            });
        });
        Ok(())
    }
}

impl AllRuns<'_> {
    fn run_group(&self, part: SomeChains<'_>, log_weights: &mut [f64], scratch: &mut Scratch) {
        let Self { cpu, parameters, reference, .. } = *self;
        let (betas, hidden, visible, visible_pre, hidden_mean) = part;
        let (shape, n) = (parameters.shape, betas.len());
        let Scratch { sums, draws, partials, .. } = scratch;
        let mut places = SweepDraws::new(self.sweep.state, shape, self.sweep.chains, hidden.first, n, draws);
        let mut at = [0.0; MOST_ROWS];
        for (step, pair) in self.betas.windows(2).enumerate() {
            let (from, to) = (pair[0], pair[1]);
            let last = step + 2 == self.betas.len();
            at.fill(from);
            let model = Tempered { cpu, parameters, reference, betas: &at[..n] };
            let states = places.layer(0, draws);
            model.make_from_bits(Layer::Hidden, hidden.values, sums, |tile, vectors, pre| {
                if last {
                    put(tile, visible_pre.width, pre, visible_pre.values);
                }
                let words = &mut visible.values[tile..];
                layers::draw(cpu.isa, pre, shape.n_visible(), tile, vectors, states, words, visible.width, false);
            });
            let states = places.layer(1, draws);
            empty(partials, n);
            model.take_bits(Layer::Visible, visible.values, sums);
            model.sums(Layer::Visible, sums, |tile, vectors, sums| {
                let bias = &parameters.hidden_bias[tile];
                layers::anneal(cpu.isa, sums, bias, from, to, shape.n_hidden(), tile, vectors, partials);
                let words = &mut hidden.values[tile..];
                layers::draw(cpu.isa, sums, shape.n_hidden(), tile, vectors, states, words, hidden.width, last);
                if last {
                    put(tile, hidden_mean.width, sums, hidden_mean.values);
                }
            });
            let warmer = f64::from(to) - f64::from(from);
            let words = visible.values.chunks_exact(visible.width);
            for ((log_weight, words), partial) in log_weights.iter_mut().zip(words).zip(&*partials) {
                *log_weight += warmer * sum_of_active(words, self.slopes) + total(*partial);
            }
        }
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
