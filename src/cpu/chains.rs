//! Chains on the CPU: packed bits. Each worker carries its chains through all k steps.

use super::{
    grid::Grid,
    groups::{LayerDraws, Scratch, SweepDraws, VisibleLayer, in_groups, put, with_scratch},
    held::Held,
    host::Cpu,
    layers,
    parameters::CpuParameters,
    tempered::{LayerScratch, Tempered},
    tiles::{Row, gather, spread_into, tiles},
    visible,
};
use crate::{
    error::Result,
    lanes::threads::{RowsMut, share},
    rows::{Rows, Values},
    shape::{Layer, Shape},
    uniforms::Uniforms,
    units::Room,
    verbs::{Activations, ChainState, Sampling, unpack},
};

/// The states of M chains, ordered by chain and then by tile.
#[derive(Clone, Debug)]
pub struct CpuChains {
    pub(super) shape: Shape,
    pub(super) uniforms: Uniforms,
    pub(super) betas: Vec<f32>,
    pub(super) hidden: Vec<u64>,
    /// Results of the last step of the last sweep: visible samples as bits and, with Gaussian units, as numbers, chains ×
    /// n_visible; visible pre-activations; hidden means.
    pub(super) visible: Vec<u64>,
    pub(super) numbers: Vec<f32>,
    pub(super) visible_pre: Vec<Row>,
    pub(super) hidden_mean: Vec<Row>,
    held: Option<Held>,
}

/// A part of the chains: inverse temperatures, hidden and visible bits, visible pre-activations, hidden means, and visible numbers
/// with Gaussian units.
pub(super) type SomeChains<'a> =
    (&'a [f32], RowsMut<'a, u64>, RowsMut<'a, u64>, RowsMut<'a, Row>, RowsMut<'a, Row>, Option<RowsMut<'a, f32>>);

impl CpuChains {
    pub(super) fn new(shape: Shape, state: &ChainState) -> Self {
        let mut new = Self {
            shape,
            uniforms: state.uniforms.clone(),
            betas: state.betas.clone(),
            hidden: state.hidden.clone(),
            visible: Vec::new(),
            numbers: Vec::new(),
            visible_pre: Vec::new(),
            hidden_mean: Vec::new(),
            held: None,
        };
        new.resize(state.betas.len());
        new
    }

    /// Sets the number of chains. New chains have all units off and β = 1.
    pub(super) fn resize(&mut self, n: usize) {
        let (visible, hidden) = (tiles(self.shape.n_visible()), tiles(self.shape.n_hidden()));
        self.betas.resize(n, 1.0);
        self.hidden.resize(n * hidden, 0);
        self.visible.resize(n * visible, 0);
        self.numbers.resize(if self.has_numbers() { n * self.shape.n_visible() } else { 0 }, 0.0);
        self.visible_pre.resize(n * visible, Row::ZERO);
        self.hidden_mean.resize(n * hidden, Row::ZERO);
    }

    fn has_numbers(&self) -> bool {
        !self.shape.visible().is_discrete()
    }

    /// The visible samples of the last step as numbers; `None` if all are bits.
    pub(super) fn visible_rows(&self) -> Option<Rows<'_>> {
        self.has_numbers().then(|| Rows::of(Values::F32(&self.numbers), self.shape.visible()))
    }

    pub(super) fn len(&self) -> usize {
        self.betas.len()
    }

    pub(super) fn state(&self) -> ChainState {
        ChainState { hidden: self.hidden.clone(), betas: self.betas.clone(), uniforms: self.uniforms.clone() }
    }

    /// Reserves the next `n` random numbers and returns the generator's state at the first of them.
    pub(super) fn take_draws(&mut self, n: u64) -> u64 {
        let state = self.uniforms.state();
        self.uniforms.skip(n);
        state
    }

    /// All chains, ready to be split, and their sweep of `k` steps. Reserves the random numbers of the sweep.
    pub(super) fn sweep(&mut self, k: usize) -> (SomeChains<'_>, Sweep<'_>) {
        let chains = self.len();
        let units = self.shape.n_visible() + self.shape.n_hidden();
        let state = self.take_draws(k as u64 * chains as u64 * units as u64);
        let (visible, hidden) = (tiles(self.shape.n_visible()), tiles(self.shape.n_hidden()));
        let has_numbers = self.has_numbers();
        let part = (
            &*self.betas,
            RowsMut::new(hidden, &mut self.hidden),
            RowsMut::new(visible, &mut self.visible),
            RowsMut::new(visible, &mut self.visible_pre),
            RowsMut::new(hidden, &mut self.hidden_mean),
            has_numbers.then(|| RowsMut::new(self.shape.n_visible(), &mut self.numbers)),
        );
        (part, Sweep { state, k, chains, held: self.held.as_ref(), grid: None, means: true })
    }
}

/// A sweep of all chains. The fields that describe it are common to all workers.
#[derive(Clone, Copy)]
pub(super) struct Sweep<'a> {
    /// The generator's state for the first random number.
    pub state: u64,
    k: usize,
    pub chains: usize,
    /// The clamped visible states.
    pub held: Option<&'a Held>,
    /// The weights on a grid, for layers whose pre-activations and means are not needed.
    pub grid: Option<&'a Grid>,
    /// Whether the hidden means of the last step are needed.
    pub means: bool,
}

impl Sweep<'_> {
    /// Sweeps a part of the chains.
    pub(super) fn run(self, cpu: Cpu, parameters: &CpuParameters, part: SomeChains<'_>) {
        in_groups(cpu, part, |group| with_scratch(|scratch| self.run_group(cpu, parameters, group, scratch)));
    }

    fn run_group(self, cpu: Cpu, parameters: &CpuParameters, group: SomeChains<'_>, scratch: &mut Scratch) {
        let (betas, hidden, visible, visible_pre, hidden_mean, mut numbers) = group;
        let shape = parameters.shape;
        let model = Tempered { betas, ..Tempered::untempered(cpu, parameters, 0) };
        let Scratch { sums, on_grid, draws, visible: layer, .. } = scratch;
        let mut places = SweepDraws::new(self.state, shape, self.chains, hidden.first, betas.len(), draws);
        if self.grid.is_some() {
            on_grid.begin(model);
        }
        for step in 1..=self.k {
            let last = step == self.k;
            let wanted = last && self.means;
            let states = places.layer(0, draws);
            let to = VisibleStates {
                words: visible.values,
                numbers: numbers.as_mut().map(|numbers| &mut *numbers.values),
                pre: last.then_some(&mut *visible_pre.values),
            };
            let grid = self.grid.filter(|_| !last);
            if !on_grid.draw(model, grid, Layer::Hidden, hidden.values, states, to.words) {
                draw_visible(model, hidden.values, states, sums, layer, to);
            }
            if let Some(held) = self.held {
                let numbers = numbers.as_mut().map(|numbers| &mut *numbers.values);
                held.write(hidden.first, shape.n_visible(), visible.values, numbers);
            }
            let states = places.layer(1, draws);
            let grid = self.grid.filter(|_| !wanted);
            if on_grid.draw(model, grid, Layer::Visible, visible.values, states, hidden.values) {
                continue;
            }
            take_visible(model, visible.values, numbers.as_ref().map(|numbers| &*numbers.values), sums);
            model.make(Layer::Visible, sums, |tile, vectors, pre| {
                let words = &mut hidden.values[tile..];
                layers::draw(cpu.isa, pre, shape.n_hidden(), tile, vectors, states, words, hidden.width, wanted);
                if wanted {
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
        share(self.own((rows, &*chains.betas, hidden)), &|part| {
            in_groups(*self, part, |(rows, betas, hidden)| {
                let model = Tempered { betas, ..Tempered::untempered(*self, parameters, 0) };
                with_scratch(|scratch| {
                    model.take_rows(Layer::Visible, rows, &mut scratch.sums);
                    start_group(model, state, hidden, scratch, |_, _, _| {}, |_, _| {});
                });
            });
        });
        Ok(())
    }

    fn sweep(&self, parameters: &CpuParameters, chains: &mut CpuChains, k: usize) -> Result<()> {
        let (part, mut sweep) = chains.sweep(k);
        sweep.means = false;
        sweep.grid = parameters.grid(*self, sweep.chains * k.saturating_sub(1));
        share(self.own(part), &|part| sweep.run(*self, parameters, part));
        Ok(())
    }

    fn visible(&self, chains: &CpuChains, out: &mut Activations) -> Result<()> {
        let units = chains.shape.n_visible();
        gather(&chains.visible_pre, units, &mut out.pre_activation);
        out.mean.copy_from_slice(&out.pre_activation);
        visible::means(self.isa, chains.shape.visible(), &mut out.mean, &mut Room::default());
        match chains.visible_rows() {
            Some(_) => out.sample.copy_from_slice(&chains.numbers),
            None => unpack(&chains.visible, units, &mut out.sample),
        }
        if let Some(held) = &chains.held {
            held.write_means(units, &mut out.mean);
        }
        Ok(())
    }

    fn hold(&self, chains: &mut CpuChains, held: Option<Rows<'_>>) -> Result<()> {
        chains.held = held.map(Held::at);
        Ok(())
    }
}

/// The output buffers for the visible states of a group.
pub(super) struct VisibleStates<'a> {
    /// Rows × tiles.
    pub words: &'a mut [u64],
    /// Rows × n_visible, unless all states are bits.
    pub numbers: Option<&'a mut [f32]>,
    /// Rows × tiles, if pre-activations are needed.
    pub pre: Option<&'a mut [Row]>,
}

/// v ~ P(v|h) for a group with the given hidden bits. `states` are the generator's for the first unit of each row.
pub(super) fn draw_visible(
    model: Tempered<'_>, hidden: &[u64], states: &mut [u64], sums: &mut LayerScratch, layer: &mut VisibleLayer,
    mut to: VisibleStates<'_>,
) {
    let shape = model.parameters.shape;
    let (units, width) = (shape.n_visible(), tiles(shape.n_visible()));
    if shape.visible().is_binary() {
        return model.make_from_bits(Layer::Hidden, hidden, sums, |tile, vectors, pre| {
            if let Some(kept) = &mut to.pre {
                put(tile, width, pre, kept);
            }
            let words = &mut to.words[tile..];
            layers::draw(model.cpu.isa, pre, units, tile, vectors, states, words, width, false);
        });
    }
    model.take_bits(Layer::Hidden, hidden, sums);
    model.make_visible(sums, layer);
    model.draw_visible(states, false, layer);
    to.words.copy_from_slice(&layer.words);
    if let Some(numbers) = to.numbers {
        numbers.copy_from_slice(&layer.numbers);
    }
    if let Some(kept) = to.pre {
        spread_into(&layer.pre, units, kept);
    }
}

/// Loads the visible states of a group as inputs of a sum: bits, or numbers unless all are bits.
pub(super) fn take_visible(model: Tempered<'_>, words: &[u64], numbers: Option<&[f32]>, sums: &mut LayerScratch) {
    match numbers {
        None => model.take_bits(Layer::Visible, words, sums),
        Some(numbers) => {
            let rows = Rows::of(Values::F32(numbers), model.parameters.shape.visible());
            model.take_rows(Layer::Visible, rows, sums);
        }
    }
}

/// h ~ P(h|v) for a group whose visible states are in `scratch`. The random numbers of all rows begin at `state`. For each tile,
/// `see` receives the number of vectors and the pre-activations, and `keep` the means.
pub(super) fn start_group(
    model: Tempered<'_>, state: u64, hidden: RowsMut<'_, u64>, scratch: &mut Scratch,
    mut see: impl FnMut(usize, usize, &[Row]), mut keep: impl FnMut(usize, &[Row]),
) {
    let units = model.parameters.shape.n_hidden();
    let Scratch { sums, draws: [_, draws], .. } = scratch;
    draws.prepare(units, hidden.first, model.betas.len());
    draws.begin(state);
    let LayerDraws { states, .. } = draws;
    model.make(Layer::Visible, sums, |tile, vectors, pre| {
        see(tile, vectors, pre);
        let words = &mut hidden.values[tile..];
        layers::draw(model.cpu.isa, pre, units, tile, vectors, states, words, hidden.width, true);
        keep(tile, pre);
    });
}
