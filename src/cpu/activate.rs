//! One layer given the other, for rows of any kind, into flat buffers.

use super::{
    Cpu,
    chains::unpack,
    groups::{COLD, LayerDraws, Tempered, in_groups, with_scratch},
    layers,
    threads::{RowsMut, Split, share},
    tiles::{Parameters, Row, TILE, tiles},
};
use crate::{
    backend::{Activations, Layer, Rows},
    uniforms::Uniforms,
};

/// Some of the rows and what becomes of them. There are no samples where nothing is drawn.
struct Part<'a> {
    rows: Rows<'a>,
    pre_activation: RowsMut<'a, f32>,
    mean: RowsMut<'a, f32>,
    sample: Option<RowsMut<'a, f32>>,
}

impl Split for Part<'_> {
    fn pieces(&self) -> usize {
        self.mean.pieces()
    }

    fn split(self, pieces: usize) -> (Self, Self) {
        let (rows, other_rows) = (self.rows.range(0..pieces), self.rows.range(pieces..self.rows.len()));
        let (pre_activation, other_pre_activation) = self.pre_activation.split(pieces);
        let (mean, other_mean) = self.mean.split(pieces);
        let (sample, other_sample) = self.sample.map(|sample| sample.split(pieces)).unzip();
        (
            Self { rows, pre_activation, mean, sample },
            Self { rows: other_rows, pre_activation: other_pre_activation, mean: other_mean, sample: other_sample },
        )
    }
}

pub(super) fn run(
    cpu: Cpu, parameters: &Parameters, given: Layer, rows: Rows<'_>, draws: Option<&mut Uniforms>,
    out: &mut Activations,
) {
    let units = parameters.shape.units(given.other());
    let draws = draws.map(|draws| {
        let here = LayerDraws { state: draws.state(), units };
        draws.skip((rows.len() * units) as u64);
        here
    });
    let part = Part {
        rows,
        pre_activation: RowsMut::new(units, &mut out.pre_activation),
        mean: RowsMut::new(units, &mut out.mean),
        sample: draws.is_some().then(|| RowsMut::new(units, &mut out.sample)),
    };
    let zeros = vec![Row::ZERO; tiles(units)];
    share(part, &|part| {
        in_groups(part, |group| {
            let model = Tempered { isa: cpu.isa, parameters, reference: &zeros, betas: &COLD[..group.rows.len()] };
            run_group(model, given, group, draws);
        });
    });
}

fn run_group(model: Tempered<'_>, given: Layer, group: Part<'_>, draws: Option<LayerDraws>) {
    let Part { rows, pre_activation, mean, mut sample } = group;
    let units = mean.width;
    with_scratch(|scratch| {
        let mut states = std::mem::take(&mut scratch.states);
        let mut words = std::mem::take(&mut scratch.bits);
        words.clear();
        words.resize(rows.len(), 0);
        if let Some(draws) = draws {
            draws.jumps(mean.first, rows.len(), &mut scratch.jumps[0]);
            draws.states(&scratch.jumps[0], &mut states);
        }
        model.make_from_rows(given, rows, scratch, |tile, vectors, pre| {
            let columns = tile * TILE..units.min((tile + 1) * TILE);
            flatten(pre, columns.clone(), pre_activation.values, units);
            match &mut sample {
                Some(sample) => {
                    layers::fire(model.isa, pre, units, tile, vectors, &mut states, &mut words, 1);
                    for (row, &word) in sample.values.chunks_exact_mut(units).zip(&words) {
                        unpack(&[word], columns.len(), &mut row[columns.clone()]);
                    }
                }
                None => layers::means(model.isa, pre, units, tile, vectors),
            }
            flatten(pre, columns, mean.values, units);
        });
        (scratch.states, scratch.bits) = (states, words);
    });
}

/// Writes a tile of each row where its columns stand in a row-major buffer.
fn flatten(tile: &[Row], columns: std::ops::Range<usize>, out: &mut [f32], units: usize) {
    for (row, out) in tile.iter().zip(out.chunks_exact_mut(units)) {
        out[columns.clone()].copy_from_slice(&row.units()[..columns.len()]);
    }
}
