//! Both phases of an update on the CPU, and what is watched: one split among the threads.

use super::{
    Cpu,
    chains::{Chains, Part, Sweep, start_group},
    energies, flips,
    groups::{COLD, GROUP, LayerDraws, Tempered, with_scratch},
    layers,
    learn::Panels,
    threads::{RowsMut, Split, share},
    tiles::{Parameters, Row, tiles},
};
use crate::backend::{Layer, Plan, Rows, Watch};

/// Statistics of an update, kept so that only the first one allocates.
#[derive(Debug, Default)]
pub struct Work {
    /// P, the hidden means of the batch: rows × tiles.
    pub(super) positive: Vec<Row>,
    /// Room for an update.
    pub(super) panels: Panels,
    /// What was watched, for each row of the batch.
    values: Vec<f64>,
    /// The sum over updates of the mean of that.
    pub(super) watched: f64,
    /// The visible bias of the model at β = 0, for batches: zeros.
    zeros: Vec<Row>,
}

pub(super) fn run(
    cpu: Cpu, parameters: &Parameters, batch: Rows<'_>, chains: &mut Chains, plan: Plan, work: &mut Work,
) {
    let shape = parameters.shape;
    let (visible, hidden) = (tiles(shape.n_visible()), tiles(shape.n_hidden()));
    let rows = batch.len();
    work.positive.resize(rows * hidden, Row::ZERO);
    work.values.resize(rows, 0.0);
    work.zeros.resize(visible, Row::ZERO);
    let mut start = None;
    if !plan.persistent {
        chains.resize(rows);
        start = Some(LayerDraws { state: chains.uniforms.state(), units: shape.n_hidden() });
        chains.uniforms.skip((rows * shape.n_hidden()) as u64);
    }
    let (part, sweep) = chains.sweep(plan.k);
    let job = Job {
        positive: RowsMut::new(hidden, &mut work.positive),
        values: RowsMut::new(1, &mut work.values),
        chains: part,
    };
    let phases = Phases { cpu, parameters, batch, plan, start, sweep, zeros: &work.zeros };
    share(job, &|job| phases.run(job));
    if plan.watch != Watch::Nothing {
        work.watched += work.values.iter().sum::<f64>() / rows as f64;
    }
}

/// Some rows of the batch and some of the chains: the same ones where chains start at rows.
struct Job<'a> {
    positive: RowsMut<'a, Row>,
    values: RowsMut<'a, f64>,
    chains: Part<'a>,
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
struct Phases<'a> {
    cpu: Cpu,
    parameters: &'a Parameters,
    batch: Rows<'a>,
    plan: Plan,
    /// The draws of h ~ P(h|v), where chains start at the batch.
    start: Option<LayerDraws>,
    sweep: Sweep,
    zeros: &'a [Row],
}

impl Phases<'_> {
    fn run(self, job: Job<'_>) {
        let Job { positive, values, mut chains } = job;
        let first = positive.first;
        let n = positive.pieces();
        let rows = self.batch.range(first..first + n);
        for start in (0..n).step_by(GROUP) {
            let end = n.min(start + GROUP);
            let width = chains.hidden.width;
            let hidden = self.start.map(|draws| {
                (
                    draws,
                    RowsMut {
                        first: first + start,
                        width,
                        values: &mut chains.hidden.values[start * width..end * width],
                    },
                )
            });
            self.positive(rows.range(start..end), hidden, &mut positive.values[start * width..end * width]);
            self.watch(rows.range(start..end), &positive.values[start * width..], &mut values.values[start..end]);
        }
        let visible_pre = {
            let Part { betas, reference, hidden, visible, visible_pre, hidden_mean } = &mut chains;
            let again = Part {
                betas,
                reference,
                hidden: hidden.reborrow(),
                visible: visible.reborrow(),
                visible_pre: visible_pre.reborrow(),
                hidden_mean: hidden_mean.reborrow(),
            };
            self.sweep.run(self.cpu, self.parameters, again);
            &*visible_pre.values
        };
        if self.plan.watch == Watch::Reconstruction && self.start.is_some() {
            energies::cross_entropy(self.cpu, rows, visible_pre, values.values);
        }
    }

    /// P of a group, and the start of its chains.
    fn positive(&self, rows: Rows<'_>, hidden: Option<(LayerDraws, RowsMut<'_, u64>)>, positive: &mut [Row]) {
        let n = rows.len();
        let model = self.model(n);
        let units = self.parameters.shape.n_hidden();
        let width = tiles(units);
        let mut keep = |tile: usize, means: &[Row]| {
            positive[tile..].iter_mut().step_by(width).zip(means).for_each(|(row, mean)| *row = *mean);
        };
        with_scratch(|scratch| match hidden {
            Some((draws, hidden)) => start_group(model, rows, draws, hidden, scratch, keep),
            None => model.make_from_rows(Layer::Visible, rows, scratch, |tile, vectors, pre| {
                layers::means(self.cpu.isa, pre, units, tile, vectors);
                keep(tile, pre);
            }),
        });
    }

    /// What of a group is watched before the chains move.
    fn watch(&self, rows: Rows<'_>, positive: &[Row], values: &mut [f64]) {
        let model = self.model(rows.len());
        match self.plan.watch {
            Watch::Bit(bit) => energies::pseudo_log_likelihood_of_bit(model, rows, bit, values),
            Watch::AllBits => flips::pseudo_log_likelihood(model, rows, values),
            Watch::Reconstruction if self.start.is_none() => {
                energies::mean_field_cross_entropy(model, rows, positive, values)
            }
            Watch::Reconstruction | Watch::Nothing => {}
        }
    }

    fn model(&self, rows: usize) -> Tempered<'_> {
        Tempered { isa: self.cpu.isa, parameters: self.parameters, reference: self.zeros, betas: &COLD[..rows] }
    }
}
