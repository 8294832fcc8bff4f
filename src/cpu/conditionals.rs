//! The conditional of one layer given the other, for any rows, into row-major buffers.

use super::{
    groups::{LayerDraws, Scratch, in_groups, with_scratch},
    host::Cpu,
    layers,
    parameters::CpuParameters,
    tempered::Tempered,
    tiles::{Row, TILE},
};
use crate::{
    error::Result,
    lanes::threads::{RowsMut, share},
    rows::Rows,
    shape::Layer,
    uniforms::Uniforms,
    verbs::{Activations, Conditionals, unpack},
};

/// A part of the rows, their pre-activations, means and samples; no samples if only means are computed.
type SomeRows<'a> = (Rows<'a>, RowsMut<'a, f32>, RowsMut<'a, f32>, Option<RowsMut<'a, f32>>);

impl Conditionals for Cpu {
    fn conditional(
        &self, parameters: &CpuParameters, rows: Rows<'_>, given: Layer, draws: Option<&mut Uniforms>,
        out: &mut Activations,
    ) -> Result<()> {
        let units = parameters.shape.units(given.other());
        let state = draws.map(|draws| {
            let state = draws.state();
            draws.skip((rows.len() * units) as u64);
            state
        });
        let sample = state.is_some().then(|| RowsMut::new(units, &mut out.sample));
        let part = (rows, RowsMut::new(units, &mut out.pre_activation), RowsMut::new(units, &mut out.mean), sample);
        share(self.own(part), &|part| {
            in_groups(*self, part, |group| {
                let model = Tempered::untempered(*self, parameters, group.0.len());
                with_scratch(|scratch| conditional(model, given, group, state, scratch));
            });
        });
        Ok(())
    }
}

fn conditional(model: Tempered<'_>, given: Layer, group: SomeRows<'_>, state: Option<u64>, scratch: &mut Scratch) {
    let (rows, pre_activation, mean, mut sample) = group;
    let (isa, units) = (model.cpu.isa, mean.width);
    let Scratch { sums, draws: [draws, _], bits: words, visible: layer, .. } = scratch;
    words.clear();
    words.resize(rows.len(), 0);
    draws.prepare(units, mean.first, rows.len());
    draws.begin(state.unwrap_or(0));
    let LayerDraws { states, .. } = draws;
    if given == Layer::Hidden && !model.parameters.shape.visible().is_binary() {
        model.take_rows(given, rows, sums);
        model.make_visible(sums, layer);
        pre_activation.values.copy_from_slice(&layer.pre);
        match sample {
            Some(sample) => {
                model.draw_visible(states, true, layer);
                match &layer.numbers[..] {
                    [] => unpack(&layer.words, units, sample.values),
                    numbers => sample.values.copy_from_slice(numbers),
                }
            }
            None => model.means_of_visible(layer),
        }
        return mean.values.copy_from_slice(&layer.pre);
    }
    model.make_from_rows(given, rows, sums, |tile, vectors, pre| {
        let columns = tile * TILE..units.min((tile + 1) * TILE);
        flatten(pre, columns.clone(), pre_activation.values, units);
        match &mut sample {
            Some(sample) => {
                layers::draw(isa, pre, units, tile, vectors, states, words, 1, true);
                for (row, word) in sample.values.chunks_exact_mut(units).zip(&*words) {
                    unpack(&[*word], columns.len(), &mut row[columns.clone()]);
                }
            }
            None => layers::means(isa, pre, units, tile, vectors),
        }
        flatten(pre, columns, mean.values, units);
    });
}

/// Copies a tile of each row to its columns in a row-major buffer.
fn flatten(tile: &[Row], columns: std::ops::Range<usize>, out: &mut [f32], units: usize) {
    for (row, out) in tile.iter().zip(out.chunks_exact_mut(units)) {
        out[columns.clone()].copy_from_slice(&row.units()[..columns.len()]);
    }
}
