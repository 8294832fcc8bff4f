//! Chains on the CPU: packed bits, each worker carrying its chains through all k steps.

use super::{
    Cpu,
    groups::{LayerDraws, Scratch, Tempered, in_groups, with_scratch},
    layers,
    threads::{RowsMut, Split, share},
    tiles::{Parameters, Row, tiles},
};
use crate::{
    backend::{Activations, ChainState, Layer, Rows, Shape},
    uniforms::{Jump, Uniforms},
};

/// The states of M chains, chain after chain, tile after tile.
#[derive(Clone, Debug)]
pub struct Chains {
    pub(super) shape: Shape,
    pub(super) uniforms: Uniforms,
    pub(super) betas: Vec<f32>,
    pub(super) reference: Vec<Row>,
    pub(super) hidden: Vec<u64>,
    /// Of the last step of the last sweep: visible samples and pre-activations, hidden means.
    pub(super) visible: Vec<u64>,
    pub(super) visible_pre: Vec<Row>,
    pub(super) hidden_mean: Vec<Row>,
}

impl Chains {
    pub(super) fn new(shape: Shape, state: &ChainState) -> Self {
        let mut new = Self {
            shape,
            uniforms: state.uniforms.clone(),
            betas: state.betas.clone(),
            reference: vec![Row::ZERO; tiles(shape.n_visible())],
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

    /// All chains, to be cut into parts, with where their sweep's draws start. Moves the sequence on by `k` steps.
    pub(super) fn sweep(&mut self, k: usize) -> (Part<'_>, Sweep) {
        let sweep = Sweep { state: self.uniforms.state(), k, chains: self.len() };
        let drawn = k as u64 * self.len() as u64 * (self.shape.n_visible() + self.shape.n_hidden()) as u64;
        self.uniforms.skip(drawn);
        let (visible, hidden) = (tiles(self.shape.n_visible()), tiles(self.shape.n_hidden()));
        let part = Part {
            betas: &self.betas,
            reference: &self.reference,
            hidden: RowsMut::new(hidden, &mut self.hidden),
            visible: RowsMut::new(visible, &mut self.visible),
            visible_pre: RowsMut::new(visible, &mut self.visible_pre),
            hidden_mean: RowsMut::new(hidden, &mut self.hidden_mean),
        };
        (part, sweep)
    }

    pub(super) fn visible(&self, cpu: Cpu, out: &mut Activations) {
        let units = self.shape.n_visible();
        super::tiles::gather(&self.visible_pre, units, &mut out.pre_activation);
        let mut means = self.visible_pre.clone();
        for row in means.chunks_exact_mut(tiles(units)) {
            for (tile, row) in row.chunks_exact_mut(1).enumerate() {
                layers::means(cpu.isa, row, units, tile, super::tiles::vectors(units, tile));
            }
        }
        super::tiles::gather(&means, units, &mut out.mean);
        unpack(&self.visible, units, &mut out.sample);
    }
}

/// Bits as numbers 0 and 1.
pub(super) fn unpack(bits: &[u64], units: usize, out: &mut [f32]) {
    for (row, bits) in out.chunks_exact_mut(units).zip(bits.chunks_exact(tiles(units))) {
        for (j, x) in row.iter_mut().enumerate() {
            *x = (bits[j / 64] >> (j % 64) & 1) as f32;
        }
    }
}

/// Some of the chains.
pub(super) struct Part<'a> {
    pub betas: &'a [f32],
    pub reference: &'a [Row],
    pub hidden: RowsMut<'a, u64>,
    pub visible: RowsMut<'a, u64>,
    pub visible_pre: RowsMut<'a, Row>,
    pub hidden_mean: RowsMut<'a, Row>,
}

impl Split for Part<'_> {
    fn pieces(&self) -> usize {
        self.betas.len()
    }

    fn split(self, pieces: usize) -> (Self, Self) {
        let (betas, other_betas) = self.betas.split_at(pieces);
        let (hidden, other_hidden) = self.hidden.split(pieces);
        let (visible, other_visible) = self.visible.split(pieces);
        let (visible_pre, other_visible_pre) = self.visible_pre.split(pieces);
        let (hidden_mean, other_hidden_mean) = self.hidden_mean.split(pieces);
        let reference = self.reference;
        (
            Self { betas, reference, hidden, visible, visible_pre, hidden_mean },
            Self {
                betas: other_betas,
                reference,
                hidden: other_hidden,
                visible: other_visible,
                visible_pre: other_visible_pre,
                hidden_mean: other_hidden_mean,
            },
        )
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
    pub(super) fn run(self, cpu: Cpu, parameters: &Parameters, part: Part<'_>) {
        in_groups(part, |group| with_scratch(|scratch| self.run_group(cpu, parameters, group, scratch)));
    }

    fn run_group(self, cpu: Cpu, parameters: &Parameters, group: Part<'_>, scratch: &mut Scratch) {
        let Part { betas, reference, hidden, visible, visible_pre, hidden_mean } = group;
        let shape = parameters.shape;
        let model = Tempered { isa: cpu.isa, parameters, reference, betas };
        let mut jumps = std::mem::take(&mut scratch.jumps);
        let mut states = std::mem::take(&mut scratch.states);
        let mut draws = LayerDraws { state: self.state, units: shape.n_visible() };
        draws.jumps(visible.first, betas.len(), &mut jumps[0]);
        LayerDraws { units: shape.n_hidden(), ..draws }.jumps(visible.first, betas.len(), &mut jumps[1]);
        let over = |units: usize| Jump::over((self.chains * units) as u64);
        let (over_visible, over_hidden) = (over(shape.n_visible()), over(shape.n_hidden()));
        for step in 1..=self.k {
            let last = step == self.k;
            draws.states(&jumps[0], &mut states);
            model.make_from_bits(Layer::Hidden, hidden.values, scratch, |tile, vectors, pre| {
                if last {
                    for (row, pre) in visible_pre.values[tile..].iter_mut().step_by(visible_pre.width).zip(&*pre) {
                        *row = *pre;
                    }
                }
                let words = &mut visible.values[tile..];
                layers::fire(cpu.isa, pre, shape.n_visible(), tile, vectors, &mut states, words, visible.width);
            });
            draws.state = over_visible.from(draws.state);
            draws.states(&jumps[1], &mut states);
            model.make_from_bits(Layer::Visible, visible.values, scratch, |tile, vectors, pre| {
                let words = &mut hidden.values[tile..];
                layers::fire(cpu.isa, pre, shape.n_hidden(), tile, vectors, &mut states, words, hidden.width);
                if last {
                    for (row, mean) in hidden_mean.values[tile..].iter_mut().step_by(hidden_mean.width).zip(&*pre) {
                        *row = *mean;
                    }
                }
            });
            draws.state = over_hidden.from(draws.state);
        }
        (scratch.jumps, scratch.states) = (jumps, states);
    }
}

/// A sweep of all chains, shared among the threads.
pub(super) fn sweep(cpu: Cpu, parameters: &Parameters, chains: &mut Chains, k: usize) {
    let (part, sweep) = chains.sweep(k);
    share(part, &|part| sweep.run(cpu, parameters, part));
}

/// As many chains as there are rows, with h ~ P(h|v).
pub(super) fn start(cpu: Cpu, parameters: &Parameters, chains: &mut Chains, rows: Rows<'_>) {
    chains.resize(rows.len());
    let draws = LayerDraws { state: chains.uniforms.state(), units: chains.shape.n_hidden() };
    chains.uniforms.skip((rows.len() * chains.shape.n_hidden()) as u64);
    let (part, _) = chains.sweep(0);
    share(part, &|part| {
        in_groups(part, |group| {
            let (first, n) = (group.hidden.first, group.pieces());
            let model = Tempered { isa: cpu.isa, parameters, reference: group.reference, betas: group.betas };
            with_scratch(|scratch| {
                start_group(model, rows.range(first..first + n), draws, group.hidden, scratch, |_, _| {});
            });
        });
    });
}

/// h ~ P(h|v) for a group; `keep` gets the means of each tile.
pub(super) fn start_group(
    model: Tempered<'_>, rows: Rows<'_>, draws: LayerDraws, hidden: RowsMut<'_, u64>, scratch: &mut Scratch,
    mut keep: impl FnMut(usize, &[Row]),
) {
    let mut states = std::mem::take(&mut scratch.states);
    draws.jumps(hidden.first, rows.len(), &mut scratch.jumps[1]);
    draws.states(&scratch.jumps[1], &mut states);
    model.make_from_rows(Layer::Visible, rows, scratch, |tile, vectors, pre| {
        let words = &mut hidden.values[tile..];
        layers::fire(model.isa, pre, draws.units, tile, vectors, &mut states, words, hidden.width);
        keep(tile, pre);
    });
    scratch.states = states;
}
