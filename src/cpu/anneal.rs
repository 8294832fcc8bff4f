//! Annealed importance sampling on the CPU. Each worker carries its runs through all temperatures.
//!
//! A step from β to β' is a step of a sweep whose visible layer is sampled at β and whose hidden layer at β'. One sum vW gives the
//! softplus terms at both temperatures and the hidden pre-activations. The terms are `f32`; their differences are added in `f64`,
//! with one partial sum per lane. The visible terms are `f64` throughout. Random numbers have the same positions as in a sweep.

use super::{
    chains::{CpuChains, SomeChains, Sweep, VisibleStates, draw_visible, take_visible},
    groups::{Scratch, SweepDraws, empty, in_groups, put, with_scratch},
    host::Cpu,
    layers::{self, total},
    parameters::CpuParameters,
    tempered::{MOST_ROWS, Tempered},
    tiles::{Row, TILE, gather, spread},
};
use crate::{
    error::Result,
    lanes::threads::{RowsMut, share},
    shape::Layer,
    verbs,
};

/// The inputs that are common to all runs.
struct AllRuns<'a> {
    cpu: Cpu,
    parameters: &'a CpuParameters,
    betas: &'a [f32],
    reference: &'a [Row],
    /// b; then the biases and precisions of the reference.
    bias: &'a [f32],
    references: [&'a [f32]; 2],
    /// b - reference: the derivative of the visible terms with respect to β.
    slopes: &'a [f64],
    sweep: Sweep<'a>,
}

impl verbs::Tempering for Cpu {
    fn anneal(
        &self, parameters: &CpuParameters, chains: &mut CpuChains, reference: [&[f32]; 2], betas: &[f32],
        log_weights: &mut [f64],
    ) -> Result<()> {
        let Some(&last) = betas.last() else { return Ok(()) };
        let units = parameters.shape.n_visible();
        let mut bias = vec![0.0; units];
        gather(&parameters.visible_bias, units, &mut bias);
        let slopes: Vec<f64> = bias.iter().zip(reference[0]).map(|(&b, &a)| f64::from(b) - f64::from(a)).collect();
        let (references, reference) = (reference, spread(reference[0], units));
        chains.betas.fill(last);
        let (part, mut sweep) = chains.sweep(betas.len() - 1);
        sweep.grid = parameters.grid(*self, sweep.chains * (betas.len() - 1));
        let all = AllRuns {
            cpu: *self,
            parameters,
            betas,
            reference: &reference,
            bias: &bias,
            references,
            slopes: &slopes,
            sweep,
        };
        share(self.own((part, RowsMut::new(1, log_weights))), &|runs| {
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
        let (betas, hidden, visible, visible_pre, hidden_mean, mut numbers) = part;
        let (shape, n) = (parameters.shape, betas.len());
        let Scratch { sums, on_grid, draws, partials, visible: layer, .. } = scratch;
        let mut places = SweepDraws::new(self.sweep.state, shape, self.sweep.chains, hidden.first, n, draws);
        let mut at = [0.0; MOST_ROWS];
        for (step, pair) in self.betas.windows(2).enumerate() {
            let (from, towards) = (pair[0], pair[1]);
            let last = step + 2 == self.betas.len();
            at.fill(from);
            let reference_precision = self.references[1];
            let model = Tempered { cpu, parameters, reference, reference_precision, betas: &at[..n] };
            if step == 0 && self.sweep.grid.is_some() {
                on_grid.begin(model);
            }
            let states = places.layer(0, draws);
            let to = VisibleStates {
                words: visible.values,
                numbers: numbers.as_mut().map(|numbers| &mut *numbers.values),
                pre: last.then_some(&mut *visible_pre.values),
            };
            let grid = self.sweep.grid.filter(|_| !last);
            if !on_grid.draw(model, grid, Layer::Hidden, hidden.values, states, to.words) {
                draw_visible(model, hidden.values, states, sums, layer, to);
            }
            let states = places.layer(1, draws);
            empty(partials, n);
            take_visible(model, visible.values, numbers.as_ref().map(|numbers| &*numbers.values), sums);
            model.sums(Layer::Visible, sums, |tile, vectors, sums| {
                let bias = &parameters.hidden_bias[tile];
                layers::anneal(cpu.isa, sums, bias, from, towards, shape.n_hidden(), tile, vectors, partials);
                let words = &mut hidden.values[tile..];
                layers::draw(cpu.isa, sums, shape.n_hidden(), tile, vectors, states, words, hidden.width, last);
                if last {
                    put(tile, hidden_mean.width, sums, hidden_mean.values);
                }
            });
            let warmer = f64::from(towards) - f64::from(from);
            let own = |r: usize| match &numbers {
                None => sum_of_active(&visible.values[r * visible.width..][..visible.width], self.slopes),
                Some(numbers) => self.own_slope(&numbers.values[r * numbers.width..][..numbers.width]),
            };
            for (r, (log_weight, partial)) in log_weights.iter_mut().zip(&*partials).enumerate() {
                *log_weight += warmer * own(r) + total(*partial);
            }
        }
    }
}

impl AllRuns<'_> {
    /// The derivative with respect to β of the visible units' own terms, if not all states are bits; units in ascending order.
    fn own_slope(&self, x: &[f32]) -> f64 {
        let (visible, [bias, precision]) = (self.parameters.shape.visible(), self.references);
        let mut sum = 0.0;
        visible.each_own_slope(x, [self.bias, &self.parameters.precision], [bias, precision], |slope| sum += slope);
        sum
    }
}

/// The sum of the values of active units, in ascending order.
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
