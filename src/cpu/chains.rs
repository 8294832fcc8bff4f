//! Chains on the CPU: packed bits, each worker carrying its chains through all k steps.

use super::{
    groups::{LayerDraws, Scratch, SweepDraws, Tempered, in_groups, put, with_scratch},
    host::Cpu,
    layers,
    tiles::{CpuParameters, Row, gather, tiles, vectors},
};
use crate::{
    error::Result,
    lanes::threads::{RowsMut, share},
    rows::Rows,
    shape::{Layer, Shape},
    uniforms::Uniforms,
    verbs::{Activations, ChainState, Sampling, unpack},
};

/// The states of M chains, chain after chain, tile after tile.
#[derive(Clone, Debug)]
pub struct CpuChains {
    pub(super) shape: Shape,
    pub(super) uniforms: Uniforms,
    pub(super) betas: Vec<f32>,
    pub(super) hidden: Vec<u64>,
    /// Of the last step of the last sweep: visible samples and pre-activations, hidden means.
    pub(super) visible: Vec<u64>,
    pub(super) visible_pre: Vec<Row>,
    pub(super) hidden_mean: Vec<Row>,
}

/// Some of the chains: inverse temperatures, hidden and visible bits, visible pre-activations, hidden means.
pub(super) type SomeChains<'a> = (&'a [f32], RowsMut<'a, u64>, RowsMut<'a, u64>, RowsMut<'a, Row>, RowsMut<'a, Row>);

impl CpuChains {
    pub(super) fn new(shape: Shape, state: &ChainState) -> Self {
        let mut new = Self {
            shape,
            uniforms: state.uniforms.clone(),
            betas: state.betas.clone(),
            hidden: state.hidden.clone(),
            visible: Vec::new(),
            visible_pre: Vec::new(),
            hidden_mean: Vec::new(),
        };
        new.resize(state.betas.len());
        new
    }

    /// Makes them `n` chains; new ones are off and cold.
    pub(super) fn resize(&mut self, n: usize) {
        let (visible, hidden) = (tiles(self.shape.n_visible()), tiles(self.shape.n_hidden()));
        self.betas.resize(n, 1.0);
        self.hidden.resize(n * hidden, 0);
        self.visible.resize(n * visible, 0);
        self.visible_pre.resize(n * visible, Row::ZERO);
        self.hidden_mean.resize(n * hidden, Row::ZERO);
    }

    pub(super) fn len(&self) -> usize {
        self.betas.len()
    }

    pub(super) fn state(&self) -> ChainState {
        ChainState { hidden: self.hidden.clone(), betas: self.betas.clone(), uniforms: self.uniforms.clone() }
    }

    /// The state of the generator where the next `n` numbers begin; moves the sequence on by them.
    pub(super) fn take_draws(&mut self, n: u64) -> u64 {
        let state = self.uniforms.state();
        self.uniforms.skip(n);
        state
    }

    /// All chains, to be cut into parts, with their sweep of `k` steps, whose draws are taken.
    pub(super) fn sweep(&mut self, k: usize) -> (SomeChains<'_>, Sweep) {
        let chains = self.len();
        let units = self.shape.n_visible() + self.shape.n_hidden();
        let state = self.take_draws(k as u64 * chains as u64 * units as u64);
        let (visible, hidden) = (tiles(self.shape.n_visible()), tiles(self.shape.n_hidden()));
        let part = (
            &*self.betas,
            RowsMut::new(hidden, &mut self.hidden),
            RowsMut::new(visible, &mut self.visible),
            RowsMut::new(visible, &mut self.visible_pre),
            RowsMut::new(hidden, &mut self.hidden_mean),
        );
        (part, Sweep { state, k, chains })
    }
}

/// A sweep of all chains.
#[derive(Clone, Copy)]
pub(super) struct Sweep {
    /// The generator's state for the first draw.
    pub state: u64,
    k: usize,
    pub chains: usize,
}

impl Sweep {
    /// The sweep for some of the chains.
    pub(super) fn run(self, cpu: Cpu, parameters: &CpuParameters, part: SomeChains<'_>) {
        in_groups(cpu, part, |group| with_scratch(|scratch| self.run_group(cpu, parameters, group, scratch)));
    }

    fn run_group(self, cpu: Cpu, parameters: &CpuParameters, group: SomeChains<'_>, scratch: &mut Scratch) {
        let (betas, hidden, visible, visible_pre, hidden_mean) = group;
        let shape = parameters.shape;
        let model = Tempered { betas, ..Tempered::cold(cpu, parameters, 0) };
        let Scratch { sums, draws, .. } = scratch;
        let mut places = SweepDraws::new(self.state, shape, self.chains, hidden.first, betas.len(), draws);
        for step in 1..=self.k {
            let last = step == self.k;
            let states = places.layer(0, draws);
            model.make_from_bits(Layer::Hidden, hidden.values, sums, |tile, vectors, pre| {
                if last {
                    put(tile, visible_pre.width, pre, visible_pre.values);
                }
                let words = &mut visible.values[tile..];
                layers::draw(cpu.isa, pre, shape.n_visible(), tile, vectors, states, words, visible.width, false);
            });
            let states = places.layer(1, draws);
            model.make_from_bits(Layer::Visible, visible.values, sums, |tile, vectors, pre| {
                let words = &mut hidden.values[tile..];
                layers::draw(cpu.isa, pre, shape.n_hidden(), tile, vectors, states, words, hidden.width, last);
                if last {
                    put(tile, hidden_mean.width, pre, hidden_mean.values);
                }
            });
        }
    }
}

impl Sampling for Cpu {
    fn start(&self, parameters: &CpuParameters, chains: &mut CpuChains, rows: Rows<'_>) -> Result<()> {
        chains.resize(rows.len());
        let units = chains.shape.n_hidden();
        let state = chains.take_draws(rows.len() as u64 * units as u64);
        let hidden = RowsMut::new(tiles(units), &mut chains.hidden);
        share((rows, &*chains.betas, hidden), &|part| {
            in_groups(*self, part, |(rows, betas, hidden)| {
                let model = Tempered { betas, ..Tempered::cold(*self, parameters, 0) };
                with_scratch(|scratch| start_group(model, rows, state, hidden, scratch, |_, _| {}));
            });
        });
        Ok(())
    }

    fn sweep(&self, parameters: &CpuParameters, chains: &mut CpuChains, k: usize) -> Result<()> {
        let (part, sweep) = chains.sweep(k);
        share(part, &|part| sweep.run(*self, parameters, part));
        Ok(())
    }

    fn visible(&self, chains: &CpuChains, out: &mut Activations) -> Result<()> {
        let units = chains.shape.n_visible();
        gather(&chains.visible_pre, units, &mut out.pre_activation);
        let mut means = chains.visible_pre.clone();
        for row in means.chunks_exact_mut(tiles(units)) {
            for (tile, row) in row.chunks_exact_mut(1).enumerate() {
                layers::means(self.isa, row, units, tile, vectors(units, tile));
            }
        }
        gather(&means, units, &mut out.mean);
        unpack(&chains.visible, units, &mut out.sample);
        Ok(())
    }
}

/// h ~ P(h|v) for a group, with the draws of all rows that begin at `state`; `keep` gets the means of each tile.
pub(super) fn start_group(
    model: Tempered<'_>, rows: Rows<'_>, state: u64, hidden: RowsMut<'_, u64>, scratch: &mut Scratch,
    mut keep: impl FnMut(usize, &[Row]),
) {
    let units = model.parameters.shape.n_hidden();
    let Scratch { sums, draws: [_, draws], .. } = scratch;
    draws.prepare(units, hidden.first, rows.len());
    draws.begin(state);
    let LayerDraws { states, .. } = draws;
    model.make_from_rows(Layer::Visible, rows, sums, |tile, vectors, pre| {
        let words = &mut hidden.values[tile..];
        layers::draw(model.cpu.isa, pre, units, tile, vectors, states, words, hidden.width, true);
        keep(tile, pre);
    });
}
