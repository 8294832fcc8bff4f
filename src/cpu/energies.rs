//! Free energies and cross-entropies on the CPU, group by group.
//!
//! Terms are `f32`; they are added in `f64`, with one partial sum per lane.

use super::{
    groups::{Scratch, empty, in_groups, put, spread_row, with_scratch},
    host::Cpu,
    layers::{self, total},
    learn,
    parameters::CpuParameters,
    pseudo_likelihood::{pseudo_log_likelihood, pseudo_log_likelihood_of_site},
    statistics::{CpuWork, Panels, Statistics, own_gradients, squares_about},
    tempered::Tempered,
    tiles::{Row, TILE, gather, spread_into, tiles},
};
use crate::{
    elementary::softplus,
    error::Result,
    lanes::{
        LANES,
        threads::{RowsMut, share},
    },
    rbm::Gradient,
    rows::{Rows, Values},
    shape::{Layer, Shape},
    verbs::Energies,
};

/// Calls `run` for groups of rows, on all threads.
fn each_group<T: Send>(
    cpu: Cpu, parameters: &CpuParameters, rows: Rows<'_>, width: usize, out: &mut [T],
    run: impl Fn(Tempered<'_>, Rows<'_>, &mut [T], &mut Scratch) + Sync,
) {
    share(cpu.own((rows, RowsMut::new(width, out))), &|part| {
        in_groups(cpu, part, |(rows, out)| {
            let model = Tempered::untempered(cpu, parameters, rows.len());
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
        let statistics = Statistics::of_rows(rows, &work.positive, weights, &parameters.precision);
        learn::gradient(*self, parameters.shape, statistics, &mut work.panels, out);
        out.visible_log_variance.fill(0.0);
        let about = |i: usize, b: f64| squares_about(rows, i, b, |r| weights[r]);
        own_gradients(
            parameters,
            |i, b| about(i, b).1,
            out,
            |i, out| {
                // The gradient of b is -s·Σ w·(v - b).
                let b = f64::from(parameters.visible_bias[i / TILE].units()[i % TILE]);
                out.visible_bias[i] = -(f64::from(parameters.precision[i]) * about(i, b).0) as f32;
            },
        );
        Ok(())
    }

    fn pseudo_log_likelihood(
        &self, parameters: &CpuParameters, rows: Rows<'_>, site: Option<usize>, out: &mut [f64],
    ) -> Result<()> {
        each_group(*self, parameters, rows, 1, out, |model, rows, out, scratch| match site {
            Some(site) => pseudo_log_likelihood_of_site(model, rows, site, out, scratch),
            None => pseudo_log_likelihood(model, rows, out, scratch),
        });
        Ok(())
    }
}

impl Cpu {
    /// -share·Σ_r x_ri·p_rj for W_ij and -share·Σ_r p_rj for c_j, for any p, rows × n_hidden. The gradient of b is overwritten.
    pub(crate) fn minus_products(
        self, shape: Shape, precision: &[f32], rows: Rows<'_>, p: &[f32], share: f32, out: &mut Gradient,
    ) {
        let weights = vec![share; rows.len()];
        let mut tiled = vec![Row::ZERO; rows.len() * tiles(shape.n_hidden())];
        spread_into(p, shape.n_hidden(), &mut tiled);
        let statistics = Statistics::of_rows(rows, &tiled, &weights, precision);
        learn::gradient(self, shape, statistics, &mut Panels::default(), out);
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
        let mut own = [0.0; LANES];
        if model.parameters.precision.is_empty() {
            spread_row(rows, r, row);
            layers::add_products(isa, row, &model.parameters.visible_bias, &mut own);
        } else {
            let (bias, precision) = (flat(&model.parameters.visible_bias, rows.units()), &model.parameters.precision);
            let visible = model.parameters.shape.visible();
            visible.minus_own_energies(
                |i| rows.value(r, i),
                &bias,
                precision,
                |i, energy| {
                    if !rows.is_missing(r, i) {
                        own[i % LANES] += energy;
                    }
                },
            );
        }
        *out = -total(own) - total(*partial);
    }
}

/// The numbers of one row of tiles in unit order.
fn flat(tiled: &[Row], units: usize) -> Vec<f32> {
    let mut numbers = vec![0.0; units];
    gather(tiled, units, &mut numbers);
    numbers
}

/// Scores the visible pre-activations p against the present values of each row: -Σ_i [sp(p_i) - x_i·p_i] for binary units.
pub(super) fn reconstruction(model: Tempered<'_>, rows: Rows<'_>, pre: &[Row], out: &mut [f64], row: &mut Vec<Row>) {
    let (isa, visible) = (model.cpu.isa, model.parameters.shape.visible());
    for (r, (out, pre)) in out.iter_mut().zip(pre.chunks_exact(tiles(rows.units()))).enumerate() {
        if !visible.is_binary() {
            let x: Vec<f32> = (0..rows.units()).map(|i| rows.value(r, i)).collect();
            let (pre, precision) = (flat(pre, rows.units()), &model.parameters.precision);
            *out = visible.reconstruction(&x, &pre, precision, |i| !rows.is_missing(r, i));
            continue;
        }
        let mut partial = [0.0; LANES];
        if rows.has_missing() {
            let pre = flat(pre, rows.units());
            for i in (0..rows.units()).filter(|&i| !rows.is_missing(r, i)) {
                partial[i % LANES] += f64::from((-rows.value(r, i)).mul_add(pre[i], softplus(pre[i])));
            }
        } else {
            spread_row(rows, r, row);
            layers::add_cross_entropy(isa, pre, row, rows.units(), &mut partial);
        }
        *out = -total(partial);
    }
}

/// [`reconstruction`] with the pre-activations given the hidden means.
pub(super) fn mean_field_reconstruction(
    model: Tempered<'_>, rows: Rows<'_>, hidden_means: &[Row], out: &mut [f64], scratch: &mut Scratch,
) {
    let shape = model.parameters.shape;
    let width = tiles(shape.n_visible());
    let Scratch { sums, flat, base, row, visible: layer, .. } = scratch;
    flat.clear();
    flat.resize(rows.len() * shape.n_hidden(), 0.0);
    gather(hidden_means, shape.n_hidden(), flat);
    base.clear();
    base.resize(rows.len() * width, Row::ZERO);
    let means = Rows::of(Values::F32(flat), shape.segments(Layer::Hidden));
    if shape.visible().is_binary() {
        model.make_from_rows(Layer::Hidden, means, sums, |tile, _, pre| put(tile, width, pre, base));
    } else {
        model.take_rows(Layer::Hidden, means, sums);
        model.make_visible(sums, layer);
        spread_into(&layer.pre, shape.n_visible(), base);
    }
    reconstruction(model, rows, base, out, row);
}
