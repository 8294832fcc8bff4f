//! Visible layers with several laws: first all sums of a layer, row-major, then one pass of each law over its units.
//!
//! A layer of binary units does not need this: its tiles become bits one by one, while they are in the first-level cache.

use super::{
    groups::VisibleLayer,
    tempered::{LayerScratch, Tempered},
    tiles::{TILE, gather, tiles},
};
use crate::{
    lanes::dispatch,
    shape::{Layer, Shape},
    uniforms::Jump,
    units::{Law, Room, Segments, VisibleRow, by_law},
};

impl Tempered<'_> {
    /// Computes the pre-activations of the visible layers from the hidden states in `scratch`.
    pub fn make_visible(&self, scratch: &mut LayerScratch, layer: &mut VisibleLayer) {
        let units = self.parameters.shape.n_visible();
        let VisibleLayer { pre, bias, reference, .. } = layer;
        pre.resize(self.betas.len() * units, 0.0);
        self.sums(Layer::Hidden, scratch, |tile, _, sums| {
            let columns = tile * TILE..units.min((tile + 1) * TILE);
            for (sums, row) in sums.iter().zip(pre.chunks_exact_mut(units)) {
                row[columns.clone()].copy_from_slice(&sums.units()[..columns.len()]);
            }
        });
        bias.resize(units, 0.0);
        gather(&self.parameters.visible_bias, units, bias);
        reference.clear();
        reference.resize(units, 0.0);
        if !self.reference.is_empty() {
            gather(self.reference, units, reference);
        }
        let laws = LayerLaws { segments: self.parameters.shape.visible(), units, bias, reference };
        pre_activations(self.cpu.isa, laws, self.precisions(), self.betas, pre);
    }

    /// Samples the layers from their pre-activations, with the generator's states for the first unit of each row. With `means`, the
    /// means overwrite the pre-activations.
    pub fn draw_visible(&self, states: &[u64], means: bool, layer: &mut VisibleLayer) {
        let shape = self.parameters.shape;
        let VisibleLayer { pre, words, numbers, room, .. } = layer;
        words.clear();
        words.resize(self.betas.len() * tiles(shape.n_visible()), 0);
        numbers.resize(if shape.visible().is_discrete() { 0 } else { pre.len() }, 0.0);
        draw(self.cpu.isa, shape.visible(), self.precisions(), self.betas, states, means, pre, words, numbers, room);
        if !numbers.is_empty() {
            numbers_of_bits(shape, words, numbers);
        }
    }

    /// Overwrites the pre-activations with the means, without sampling.
    pub fn means_of_visible(&self, layer: &mut VisibleLayer) {
        means(self.cpu.isa, self.parameters.shape.visible(), &mut layer.pre, &mut layer.room);
    }

    /// s of all units, and s of the model at β = 0.
    fn precisions(&self) -> [&[f32]; 2] {
        [&self.parameters.precision, self.reference_precision]
    }
}

/// Writes the bits of units as numbers.
fn numbers_of_bits(shape: Shape, words: &[u64], numbers: &mut [f32]) {
    let rows = numbers.chunks_exact_mut(shape.n_visible()).zip(words.chunks_exact(tiles(shape.n_visible())));
    for (numbers, words) in rows {
        for (segment, units) in shape.visible().iter() {
            if !segment.is_number() {
                units.for_each(|i| numbers[i] = (words[i / TILE] >> (i % TILE) & 1) as f32);
            }
        }
    }
}

/// The inputs that are common to all rows of a layer.
#[derive(Clone, Copy)]
struct LayerLaws<'a> {
    segments: Segments,
    units: usize,
    bias: &'a [f32],
    reference: &'a [f32],
}

dispatch! {
    /// Overwrites sums with pre-activations, at the inverse temperature of each row.
    fn pre_activations(|l| laws: LayerLaws<'_>, precisions: [&[f32]; 2], betas: &[f32], sums: &mut [f32]) {
        let LayerLaws { segments, units, bias, reference } = laws;
        for (row, &beta) in sums.chunks_exact_mut(units).zip(betas) {
            for (segment, units) in segments.iter() {
                let precisions = precisions.map(|all| all.get(units.clone()).unwrap_or_default());
                let (bias, reference) = (&bias[units.clone()], &reference[units.clone()]);
                by_law!(segment, |law| law.pre_activations(l, &mut row[units], bias, reference, precisions, beta));
            }
        }
    }

    /// Samples all rows, segment by segment.
    fn draw(
        |l| segments: Segments, precisions: [&[f32]; 2], betas: &[f32], states: &[u64], means: bool, pre: &mut [f32],
        words: &mut [u64], numbers: &mut [f32], room: &mut Room,
    ) {
        let all = segments.units();
        for (segment, units) in segments.iter() {
            let jump = Jump::over(units.start as u64);
            for (r, (&beta, &state)) in betas.iter().zip(states).enumerate() {
                let width = tiles(all);
                let mut row = VisibleRow {
                    pre: &mut pre[r * all..][..all],
                    means,
                    words: &mut words[r * width..][..width],
                    numbers: if numbers.is_empty() { &mut [] } else { &mut numbers[r * all..][..all] },
                    precision: precisions[0],
                    reference_precision: precisions[1],
                    beta,
                };
                by_law!(segment, |law| law.draw(l, &mut row, units.clone(), jump.from(state), room));
            }
        }
    }

    /// Overwrites pre-activations with means.
    pub(super) fn means(|l| segments: Segments, pre: &mut [f32], room: &mut Room) {
        for row in pre.chunks_exact_mut(segments.units()) {
            for (segment, units) in segments.iter() {
                by_law!(segment, |law| law.means(l, &mut row[units], room));
            }
        }
    }
}
