//! Free energies, the pseudo-likelihood of one bit and cross-entropies on the CPU, for a group of at most
//! [`GROUP`](super::groups::GROUP) rows.
//!
//! Terms are `f32`; they are added up in `f64`, one partial sum a lane.

use super::{
    Cpu,
    groups::{COLD, Tempered, empty, round, spread_row, with_scratch},
    layers::{self, total},
    tiles::{Row, TILE, gather, tiles},
};
use crate::{
    backend::{Layer, Rows, Values},
    elementary::softplus,
    lanes::LANES,
};

/// F(v) of each row.
pub(super) fn free_energy(model: Tempered<'_>, rows: Rows<'_>, out: &mut [f64]) {
    let units = model.parameters.shape.n_hidden();
    with_scratch(|scratch| {
        let mut partials = std::mem::take(&mut scratch.partials);
        empty(&mut partials, rows.len());
        model.make_from_rows(Layer::Visible, rows, scratch, |tile, vectors, pre| {
            layers::add_softplus(model.isa, pre, units, tile, vectors, &mut partials);
        });
        for (r, (out, partial)) in out.iter_mut().zip(&partials).enumerate() {
            let mut bias = [0.0; LANES];
            spread_row(rows, r, &mut scratch.row);
            layers::add_products(model.isa, &scratch.row, &model.parameters.visible_bias, &mut bias);
            *out = -total(bias) - total(*partial);
        }
        scratch.partials = partials;
    });
}

/// log P(x_i|x_-i) = -sp(-(F(x̃_i) - F(x))), from the sum that flipping bit i adds to the softplus.
fn of_bit(x: bool, bias: f32, added: f64) -> f64 {
    let difference = f64::from(if x { bias } else { -bias }) - added;
    -f64::from(softplus(-difference as f32))
}

/// n_visible·log P(x_i|x_-i) of each row for one bit i.
pub(super) fn pseudo_log_likelihood_of_bit(model: Tempered<'_>, rows: Rows<'_>, bit: usize, out: &mut [f64]) {
    log_conditionals_of_bit(model, rows, bit, out);
    out.iter_mut().for_each(|log| *log *= model.parameters.shape.n_visible() as f64);
}

/// log P(x_i|x_-i) of each row for one bit i, an `f32`.
pub(super) fn log_conditionals_of_bit(model: Tempered<'_>, rows: Rows<'_>, bit: usize, out: &mut [f64]) {
    let units = model.parameters.shape.n_hidden();
    with_scratch(|scratch| {
        let mut bits = std::mem::take(&mut scratch.bits);
        let mut partials = std::mem::take(&mut scratch.partials);
        let mut changes = std::mem::take(&mut scratch.changes);
        round(rows, &mut bits);
        empty(&mut partials, rows.len());
        changes.clear();
        changes.extend((0..rows.len()).map(|r| if rows.bit(r, bit) { -1.0 } else { 1.0 }));
        model.make_from_bits(Layer::Visible, &bits, scratch, |tile, vectors, pre| {
            let weights = &model.parameters.weights[model.parameters.block(bit / TILE, tile) + bit % TILE];
            layers::add_flip(model.isa, pre, weights, &changes, units, tile, vectors, &mut partials);
        });
        let bias = model.parameters.visible_bias[bit / TILE].units()[bit % TILE];
        for (r, (out, partial)) in out.iter_mut().zip(&partials).enumerate() {
            *out = of_bit(rows.bit(r, bit), bias, total(*partial));
        }
        (scratch.bits, scratch.partials, scratch.changes) = (bits, partials, changes);
    });
}

/// -Σ_i [sp(p_i) - x_i·p_i] of each row, p being the visible pre-activations.
pub(super) fn cross_entropy(cpu: Cpu, rows: Rows<'_>, pre: &[Row], out: &mut [f64]) {
    with_scratch(|scratch| {
        for (r, (out, pre)) in out.iter_mut().zip(pre.chunks_exact(tiles(rows.units()))).enumerate() {
            let mut partial = [0.0; LANES];
            spread_row(rows, r, &mut scratch.row);
            layers::add_cross_entropy(cpu.isa, pre, &scratch.row, rows.units(), &mut partial);
            *out = -total(partial);
        }
    });
}

/// The same with the pre-activations that hidden means give.
pub(super) fn mean_field_cross_entropy(model: Tempered<'_>, rows: Rows<'_>, hidden_means: &[Row], out: &mut [f64]) {
    let shape = model.parameters.shape;
    with_scratch(|scratch| {
        let mut flat = std::mem::take(&mut scratch.flat);
        let mut pre_rows = std::mem::take(&mut scratch.base);
        let width = tiles(shape.n_visible());
        flat.clear();
        flat.resize(rows.len() * shape.n_hidden(), 0.0);
        gather(hidden_means, shape.n_hidden(), &mut flat);
        pre_rows.clear();
        pre_rows.resize(rows.len() * width, Row::ZERO);
        let means = Rows::of(Values::F32(&flat), shape.n_hidden());
        let model = Tempered { betas: &COLD[..rows.len()], ..model };
        model.make_from_rows(Layer::Hidden, means, scratch, |tile, _, pre| {
            pre_rows[tile..].iter_mut().step_by(width).zip(&*pre).for_each(|(row, pre)| *row = *pre);
        });
        for (r, (out, pre)) in out.iter_mut().zip(pre_rows.chunks_exact(width)).enumerate() {
            let mut partial = [0.0; LANES];
            spread_row(rows, r, &mut scratch.row);
            layers::add_cross_entropy(model.isa, pre, &scratch.row, shape.n_visible(), &mut partial);
            *out = -total(partial);
        }
        (scratch.flat, scratch.base) = (flat, pre_rows);
    });
}
