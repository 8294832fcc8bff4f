//! The CPU: packed bits, sums of active rows, fused loops, one split among threads a phase.
//!
//! Every verb of [`Cpu`] is *canonical*: the same bits for any number of threads, any instruction set, and on CUDA.
//!
//! | call | road |
//! |---|---|
//! | chains, `sample_*`, `gibbs_*`, `propup`, `propdown` | sum of active rows, with a factor each where states are real; dense product in the same order where more than seven tenths of the units are not 0 |
//! | free energies, the pseudo-likelihood of one bit, cross-entropies | the same sums, then softplus terms added up in `f64` |
//! | the exact pseudo-likelihood | the same sums, then products of the factors by which a flip changes P |
//! | gradients and updates | the same sums over rows instead of units, then the step and the transposition of each block |
//!
//! The order of the files is that of the data: `tiles` (how numbers are kept), `inputs` (which units are on), `sums` (from
//! one layer to the other), `layers` (bias, sigmoid, sample), `groups` (all of them for a group of rows), `activate`,
//! `chains`, `anneal`, `energies`, `flips`, `phases`, `learn`. The instruction sets stand in `isa` and `crate::lanes`, the
//! threads in `threads`.

mod activate;
mod anneal;
mod chains;
mod energies;
mod flips;
mod groups;
mod inputs;
pub(crate) mod isa;
pub(crate) mod layers;
mod learn;
mod phases;
mod sums;
pub(crate) mod threads;
mod tiles;

use crate::{
    backend::{Activations, Backend, ChainState, Gradient, Layer, Plan, Rows, Shape, sealed::Sealed},
    error::Result,
    uniforms::Uniforms,
};
use groups::{COLD, Tempered, in_groups, with_scratch};
use isa::Isa;
use learn::Statistics;
use threads::{RowsMut, Split, share};
use tiles::{Parameters, Row, tiles};

/// The CPU with one of its instruction sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    isa: Isa,
}

impl Cpu {
    /// The CPU with its widest instruction set, or the one that `HARMONIUM_ISA` names.
    ///
    /// # Errors
    /// [`Error::Isa`](crate::Error::Isa) where `HARMONIUM_ISA` names one that this machine lacks.
    pub fn detect() -> Result<Self> {
        Ok(Self { isa: Isa::detect()? })
    }

    /// The CPU with a given instruction set.
    pub fn with_isa(isa: Isa) -> Self {
        Self { isa }
    }

    /// Fills `out` with the next numbers of the sequence, in order, and moves it on.
    pub fn uniforms(self, draws: &mut Uniforms, out: &mut [f32]) {
        layers::uniforms(self.isa, draws.state(), out);
        draws.skip(out.len() as u64);
    }

    /// The instruction set.
    pub fn isa(self) -> Isa {
        self.isa
    }
}

/// Rows of results with the rows of data that they are for, to be cut among threads.
struct PerRow<'a, T> {
    rows: Rows<'a>,
    out: RowsMut<'a, T>,
}

impl<T: Send> Split for PerRow<'_, T> {
    fn pieces(&self) -> usize {
        self.out.pieces()
    }

    fn split(self, pieces: usize) -> (Self, Self) {
        let (rows, other_rows) = (self.rows.range(0..pieces), self.rows.range(pieces..self.rows.len()));
        let (out, other_out) = self.out.split(pieces);
        (Self { rows, out }, Self { rows: other_rows, out: other_out })
    }
}

/// Runs `f` for groups of rows, on all threads.
fn per_group<T: Send>(rows: Rows<'_>, width: usize, out: &mut [T], f: impl Fn(Rows<'_>, RowsMut<'_, T>) + Sync) {
    share(PerRow { rows, out: RowsMut::new(width, out) }, &|part| {
        in_groups(part, |group| f(group.rows, group.out));
    });
}

impl Cpu {
    /// The model itself, for a group of rows.
    fn model<'a>(self, parameters: &'a Parameters, zeros: &'a [Row], rows: usize) -> Tempered<'a> {
        Tempered { isa: self.isa, parameters, reference: zeros, betas: &COLD[..rows] }
    }

    fn means(self, parameters: &Parameters, rows: Rows<'_>, out: &mut Vec<Row>) {
        let units = parameters.shape.n_hidden();
        let width = tiles(units);
        out.clear();
        out.resize(rows.len() * width, Row::ZERO);
        per_group(rows, width, out, |rows, out| {
            let model = self.model(parameters, &[], rows.len());
            with_scratch(|scratch| {
                model.make_from_rows(Layer::Visible, rows, scratch, |tile, vectors, pre| {
                    layers::means(self.isa, pre, units, tile, vectors);
                    out.values[tile..].iter_mut().step_by(width).zip(&*pre).for_each(|(row, mean)| *row = *mean);
                });
            });
        });
    }
}

impl Sealed for Cpu {}

#[allow(private_interfaces)]
impl Backend for Cpu {
    type Parameters = Parameters;
    type Chains = chains::Chains;
    type Work = phases::Work;
    type Data<'a> = Rows<'a>;
    type Batch<'a> = Rows<'a>;

    fn load<'a>(&self, rows: Rows<'a>) -> Result<Rows<'a>> {
        Ok(rows)
    }

    fn batch<'a>(data: &'a Rows<'_>, rows: std::ops::Range<usize>) -> Rows<'a> {
        data.range(rows)
    }

    fn batch_size(batch: Rows<'_>) -> (usize, usize) {
        (batch.len(), batch.units())
    }

    fn upload(&self, shape: Shape, weights: &[f32], visible_bias: &[f32], hidden_bias: &[f32]) -> Result<Parameters> {
        Ok(Parameters::new(shape, weights, visible_bias, hidden_bias))
    }

    fn download(
        &self, parameters: &Parameters, weights: &mut [f32], visible_bias: &mut [f32], hidden_bias: &mut [f32],
    ) -> Result<()> {
        parameters.write(weights, visible_bias, hidden_bias);
        Ok(())
    }

    fn activate(
        &self, parameters: &Parameters, given: Layer, rows: Rows<'_>, draws: Option<&mut Uniforms>,
        out: &mut Activations,
    ) -> Result<()> {
        activate::run(*self, parameters, given, rows, draws, out);
        Ok(())
    }

    fn free_energy(&self, parameters: &Parameters, rows: Rows<'_>, out: &mut [f64]) -> Result<()> {
        per_group(rows, 1, out, |rows, out| {
            energies::free_energy(self.model(parameters, &[], rows.len()), rows, out.values);
        });
        Ok(())
    }

    fn free_energy_gradient(
        &self, parameters: &Parameters, rows: Rows<'_>, weights: &[f32], work: &mut phases::Work, out: &mut Gradient,
    ) -> Result<()> {
        self.means(parameters, rows, &mut work.positive);
        let statistics = Statistics::of_rows(rows, &work.positive, weights);
        learn::gradient(self.isa, &mut parameters.clone(), statistics, &mut work.panels, out);
        Ok(())
    }

    fn pseudo_log_likelihood(
        &self, parameters: &Parameters, rows: Rows<'_>, bit: Option<usize>, out: &mut [f64],
    ) -> Result<()> {
        per_group(rows, 1, out, |rows, out| {
            let model = self.model(parameters, &[], rows.len());
            match bit {
                Some(bit) => energies::pseudo_log_likelihood_of_bit(model, rows, bit, out.values),
                None => flips::pseudo_log_likelihood(model, rows, out.values),
            }
        });
        Ok(())
    }

    fn chains(&self, shape: Shape, state: &ChainState) -> Result<chains::Chains> {
        Ok(chains::Chains::new(shape, state))
    }

    fn n_chains(chains: &chains::Chains) -> usize {
        chains.len()
    }

    fn chain_state(&self, chains: &chains::Chains) -> Result<ChainState> {
        Ok(chains.state())
    }

    fn start(&self, parameters: &Parameters, chains: &mut chains::Chains, rows: Rows<'_>) -> Result<()> {
        chains::start(*self, parameters, chains, rows);
        Ok(())
    }

    fn sweep(&self, parameters: &Parameters, chains: &mut chains::Chains, k: usize) -> Result<()> {
        chains::sweep(*self, parameters, chains, k);
        Ok(())
    }

    fn anneal(
        &self, parameters: &Parameters, chains: &mut chains::Chains, reference: &[f32], betas: &[f32],
        log_weights: &mut [f64],
    ) -> Result<()> {
        anneal::anneal(*self, parameters, chains, reference, betas, log_weights);
        Ok(())
    }

    fn visible(&self, chains: &chains::Chains, out: &mut Activations) -> Result<()> {
        chains.visible(*self, out);
        Ok(())
    }

    fn work(&self, _: Shape) -> Result<phases::Work> {
        Ok(phases::Work::default())
    }

    fn phases(
        &self, parameters: &Parameters, batch: Rows<'_>, chains: &mut chains::Chains, plan: Plan,
        work: &mut phases::Work,
    ) -> Result<()> {
        phases::run(*self, parameters, batch, chains, plan, work);
        Ok(())
    }

    fn gradient(
        &self, parameters: &Parameters, batch: Rows<'_>, chains: &chains::Chains, work: &mut phases::Work,
        out: &mut Gradient,
    ) -> Result<()> {
        let statistics = Statistics::of_update(batch, &work.positive, chains);
        learn::gradient(self.isa, &mut parameters.clone(), statistics, &mut work.panels, out);
        Ok(())
    }

    fn update(
        &self, parameters: &mut Parameters, batch: Rows<'_>, chains: &chains::Chains, work: &mut phases::Work, lr: f32,
    ) -> Result<()> {
        let statistics = Statistics::of_update(batch, &work.positive, chains);
        learn::update(self.isa, parameters, statistics, &mut work.panels, lr);
        Ok(())
    }

    fn apply(&self, parameters: &mut Parameters, gradient: &Gradient, lr: f32) -> Result<()> {
        learn::apply(parameters, gradient, lr);
        Ok(())
    }

    fn watched(&self, work: &mut phases::Work) -> Result<f64> {
        Ok(std::mem::take(&mut work.watched))
    }

    fn watch_from(&self, work: &mut phases::Work, sum: f64) -> Result<()> {
        work.watched = sum;
        Ok(())
    }
}
