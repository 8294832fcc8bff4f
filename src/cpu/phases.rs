//! Both phases of an update on the CPU, and the monitor: one split among the threads.

use super::{
    chains::{CpuChains, SomeChains, Sweep, start_group},
    energies,
    groups::{Scratch, put, with_scratch},
    host::Cpu,
    layers,
    parameters::CpuParameters,
    pseudo_likelihood::{begin_flip, end_flip, pseudo_log_likelihood, pseudo_log_likelihood_of_site},
    statistics::CpuWork,
    tempered::Tempered,
    tiles::{Row, tiles},
};
use crate::{
    error::Result,
    lanes::threads::{RowsMut, Split, share},
    rows::Rows,
    shape::Layer,
    verbs::{self, Plan, Watch},
};
use std::mem::take;

impl verbs::Contrasting for Cpu {
    fn phases(
        &self, parameters: &CpuParameters, batch: Rows<'_>, chains: &mut CpuChains, work: &mut CpuWork, plan: Plan,
    ) -> Result<()> {
        self.run_phases(parameters, batch, chains, work, plan);
        work.watch(plan);
        Ok(())
    }

    fn watched(&self, work: &CpuWork) -> Result<f64> {
        Ok(work.watched)
    }

    fn watch_from(&self, work: &mut CpuWork, sum: f64) -> Result<()> {
        work.watched = sum;
        Ok(())
    }
}

impl Cpu {
    /// [`phases`](verbs::Contrasting::phases) without the sum of the monitor, whose terms remain in `work`.
    pub(super) fn run_phases(
        &self, parameters: &CpuParameters, batch: Rows<'_>, chains: &mut CpuChains, work: &mut CpuWork, plan: Plan,
    ) {
        let (width, rows) = (tiles(parameters.shape.n_hidden()), batch.len());
        work.positive.resize(rows * width, Row::ZERO);
        work.values.resize(rows, 0.0);
        let start = (!plan.persistent).then(|| {
            chains.resize(rows);
            chains.take_draws(rows as u64 * parameters.shape.n_hidden() as u64)
        });
        let (part, mut sweep) = chains.sweep(plan.k);
        sweep.grid = parameters.grid(*self, sweep.chains * plan.k.saturating_sub(1));
        if batch.has_missing() {
            work.left_out.leave_out(batch);
            sweep.held = Some(&work.left_out);
        }
        let job = Job {
            positive: self.own(RowsMut::new(width, &mut work.positive)),
            values: self.own(RowsMut::new(1, &mut work.values)),
            chains: self.own(part),
        };
        let phases = BothPhases { cpu: *self, parameters, batch, plan, start, sweep };
        share(job, &|job| phases.run(job));
    }
}

impl CpuWork {
    /// Adds the mean of the monitor over the batch to the sum.
    pub(super) fn watch(&mut self, plan: Plan) {
        if plan.watch != Watch::Nothing {
            self.watched += self.values.iter().sum::<f64>() / self.values.len() as f64;
        }
    }
}

/// A part of the rows of the batch and of the chains: equal ranges if chains start at rows.
struct Job<'a> {
    positive: RowsMut<'a, Row>,
    values: RowsMut<'a, f64>,
    chains: SomeChains<'a>,
}

impl Split for Job<'_> {
    fn pieces(&self) -> usize {
        self.positive.pieces().max(self.chains.pieces())
    }

    fn split(self, pieces: usize) -> (Self, Self) {
        let share = |of: usize| (of * pieces).div_ceil(self.pieces());
        let (rows, chains) = (share(self.positive.pieces()), share(self.chains.pieces()));
        let (positive, other_positive) = self.positive.split(rows);
        let (values, other_values) = self.values.split(rows);
        let (chains, other_chains) = self.chains.split(chains);
        (
            Self { positive, values, chains },
            Self { positive: other_positive, values: other_values, chains: other_chains },
        )
    }
}

#[derive(Clone, Copy)]
struct BothPhases<'a> {
    cpu: Cpu,
    parameters: &'a CpuParameters,
    batch: Rows<'a>,
    plan: Plan,
    /// The generator's state for h ~ P(h|v), if chains start at the batch.
    start: Option<u64>,
    sweep: Sweep<'a>,
}

impl BothPhases<'_> {
    fn run(self, job: Job<'_>) {
        let Job { mut positive, mut values, mut chains } = job;
        let n = positive.pieces();
        let rows = self.batch.range(positive.first..positive.first + n);
        for first in (0..n).step_by(self.cpu.group()) {
            let group = first..n.min(first + self.cpu.group());
            let hidden = self.start.map(|state| (state, chains.1.part(group.clone())));
            let (rows, positive) = (rows.range(group.clone()), positive.part(group.clone()).values);
            with_scratch(|scratch| {
                let values = values.part(group.clone()).values;
                if !self.positive(rows, hidden, positive, values, scratch) {
                    self.watch(rows, positive, values, scratch);
                }
            });
        }
        let (betas, hidden, visible, visible_pre, hidden_mean, numbers) = &mut chains;
        let (hidden, visible) = (hidden.reborrow(), visible.reborrow());
        let numbers = numbers.as_mut().map(RowsMut::reborrow);
        let part = (*betas, hidden, visible, visible_pre.reborrow(), hidden_mean.reborrow(), numbers);
        self.sweep.run(self.cpu, self.parameters, part);
        if self.plan.watch == Watch::Reconstruction && self.start.is_some() {
            with_scratch(|Scratch { row, .. }| {
                energies::reconstruction(self.model(rows), rows, visible_pre.values, values.values, row);
            });
        }
    }

    /// Computes P of a group and starts its chains. Returns whether `values` has the monitor: if rows are bits, the flip of a bit
    /// can use the pre-activations that are computed here.
    fn positive(
        &self, rows: Rows<'_>, hidden: Option<(u64, RowsMut<'_, u64>)>, positive: &mut [Row], values: &mut [f64],
        scratch: &mut Scratch,
    ) -> bool {
        let (model, units) = (self.model(rows), self.parameters.shape.n_hidden());
        model.take_rows(Layer::Visible, rows, &mut scratch.sums);
        let mut flip = take(&mut scratch.flip);
        let site = match self.plan.watch {
            Watch::Site(site) if scratch.sums.holds_bits() => Some(site),
            _ => None,
        };
        let flips = site.is_some_and(|site| begin_flip(model, rows, site, &mut flip));
        let mut see = |tile: usize, vectors: usize, pre: &[Row]| {
            if flips {
                flip.add(model, tile, vectors, pre);
            }
        };
        let mut keep = |tile: usize, means: &[Row]| put(tile, tiles(units), means, positive);
        match hidden {
            Some((state, hidden)) => start_group(model, state, hidden, scratch, see, keep),
            None => model.make(Layer::Visible, &mut scratch.sums, |tile, vectors, pre| {
                see(tile, vectors, pre);
                layers::means(self.cpu.isa, pre, units, tile, vectors);
                keep(tile, pre);
            }),
        }
        if flips {
            end_flip(model, rows, &flip, values);
        }
        scratch.flip = flip;
        flips
    }

    /// Computes the monitor of a group before the chains move.
    fn watch(&self, rows: Rows<'_>, positive: &[Row], values: &mut [f64], scratch: &mut Scratch) {
        let model = self.model(rows);
        match self.plan.watch {
            Watch::Site(site) => pseudo_log_likelihood_of_site(model, rows, site, values, scratch),
            Watch::AllSites => pseudo_log_likelihood(model, rows, values, scratch),
            Watch::Reconstruction if self.start.is_none() => {
                energies::mean_field_reconstruction(model, rows, positive, values, scratch)
            }
            Watch::Reconstruction | Watch::Nothing => {}
        }
    }

    fn model(&self, rows: Rows<'_>) -> Tempered<'_> {
        Tempered::untempered(self.cpu, self.parameters, rows.len())
    }
}
