//! Free energies and cross-entropies on the CPU, group by group.
//!
//! Terms are `f32`; they are added up in `f64`, one partial sum a lane.

use super::{
    groups::{Scratch, Tempered, empty, in_groups, put, spread_row, with_scratch},
    host::Cpu,
    layers::{self, total},
    learn,
    pseudo_likelihood::{pseudo_log_likelihood, pseudo_log_likelihood_of_bit},
    statistics::{CpuWork, Statistics},
    tiles::{CpuParameters, Row, gather, tiles},
};
use crate::{
    error::Result,
    lanes::{
        LANES,
        isa::Isa,
        threads::{RowsMut, share},
    },
    rbm::Gradient,
    rows::{Rows, Values},
    shape::Layer,
    verbs::Energies,
};

/// Runs `run` for groups of rows, on all threads.
fn each_group<T: Send>(
    cpu: Cpu, parameters: &CpuParameters, rows: Rows<'_>, width: usize, out: &mut [T],
    run: impl Fn(Tempered<'_>, Rows<'_>, &mut [T], &mut Scratch) + Sync,
) {
    share((rows, RowsMut::new(width, out)), &|part| {
        in_groups(cpu, part, |(rows, out)| {
            let model = Tempered::cold(cpu, parameters, rows.len());
            with_scratch(|scratch| run(model, rows, out.values, scratch));
        });
    });
}

impl Energies for Cpu {
    fn free_energy(&self, parameters: &CpuParameters, rows: Rows<'_>, out: &mut [f64]) -> Result<()> {
        each_group(*self, parameters, rows, 1, out, free_energy);
        Ok(())
    }

    fn free_energy_gradient(
        &self, parameters: &CpuParameters, rows: Rows<'_>, work: &mut CpuWork, weights: &[f32], out: &mut Gradient,
    ) -> Result<()> {
        let units = parameters.shape.n_hidden();
        let width = tiles(units);
        work.positive.clear();
        work.positive.resize(rows.len() * width, Row::ZERO);
        each_group(*self, parameters, rows, width, &mut work.positive, |model, rows, out, scratch| {
            model.make_from_rows(Layer::Visible, rows, &mut scratch.sums, |tile, vectors, pre| {
                layers::means(self.isa, pre, units, tile, vectors);
                put(tile, width, pre, out);
            });
        });
        let statistics = Statistics::of_rows(rows, &work.positive, weights);
        learn::gradient(*self, parameters.shape, statistics, &mut work.panels, out);
        Ok(())
    }

    fn pseudo_log_likelihood(
        &self, parameters: &CpuParameters, rows: Rows<'_>, bit: Option<usize>, out: &mut [f64],
    ) -> Result<()> {
        each_group(*self, parameters, rows, 1, out, |model, rows, out, scratch| match bit {
            Some(bit) => pseudo_log_likelihood_of_bit(model, rows, bit, out, scratch),
            None => pseudo_log_likelihood(model, rows, out, scratch),
        });
        Ok(())
    }
}

/// F(v) of each row.
fn free_energy(model: Tempered<'_>, rows: Rows<'_>, out: &mut [f64], scratch: &mut Scratch) {
    let (isa, units) = (model.cpu.isa, model.parameters.shape.n_hidden());
    let Scratch { sums, partials, row, .. } = scratch;
    empty(partials, rows.len());
    model.make_from_rows(Layer::Visible, rows, sums, |tile, vectors, pre| {
        layers::add_softplus(isa, pre, units, tile, vectors, partials);
    });
    for (r, (out, partial)) in out.iter_mut().zip(&*partials).enumerate() {
        let mut bias = [0.0; LANES];
        spread_row(rows, r, row);
        layers::add_products(isa, row, &model.parameters.visible_bias, &mut bias);
        *out = -total(bias) - total(*partial);
    }
}

/// -Σ_i [sp(p_i) - x_i·p_i] of each row, p being the visible pre-activations.
pub(super) fn cross_entropy(isa: Isa, rows: Rows<'_>, pre: &[Row], out: &mut [f64], row: &mut Vec<Row>) {
    for (r, (out, pre)) in out.iter_mut().zip(pre.chunks_exact(tiles(rows.units()))).enumerate() {
        let mut partial = [0.0; LANES];
        spread_row(rows, r, row);
        layers::add_cross_entropy(isa, pre, row, rows.units(), &mut partial);
        *out = -total(partial);
    }
}

/// The same with the pre-activations that hidden means give.
pub(super) fn mean_field_cross_entropy(
    model: Tempered<'_>, rows: Rows<'_>, hidden_means: &[Row], out: &mut [f64], scratch: &mut Scratch,
) {
    let shape = model.parameters.shape;
    let width = tiles(shape.n_visible());
    let Scratch { sums, flat, base, row, .. } = scratch;
    flat.clear();
    flat.resize(rows.len() * shape.n_hidden(), 0.0);
    gather(hidden_means, shape.n_hidden(), flat);
    base.clear();
    base.resize(rows.len() * width, Row::ZERO);
    let means = Rows::of(Values::F32(flat), shape.n_hidden());
    model.make_from_rows(Layer::Hidden, means, sums, |tile, _, pre| put(tile, width, pre, base));
    cross_entropy(model.cpu.isa, rows, base, out, row);
}
