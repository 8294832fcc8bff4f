//! The CPU: packed bits, sums of active rows, fused loops, one split among threads a phase.
//!
//! With canonical sums every verb gives the same bits for any number of threads and any instruction set, and on CUDA.
//!
//! | call | how it is made |
//! |---|---|
//! | chains, `sample_*`, `gibbs_*`, `propup`, `propdown` | sum of active rows, with a factor each where states are real; dense product in the same order where more than seven tenths of the units are not 0 |
//! | samples of chains whose means are not wanted | whole numbers, the weights rounded to 16 bits; where these leave a unit open, its sum |
//! | free energies, the pseudo-likelihood of one bit, cross-entropies | the same sums, then softplus terms added up in `f64` |
//! | the exact pseudo-likelihood | the same sums, then products of the factors by which a flip changes P |
//! | gradients and updates | the same sums over rows instead of units, then the step and the transposition of each block |
//!
//! With [`Sums::Gemm`](crate::Sums::Gemm) a matrix library makes these sums (`gemm`), and nothing else changes.
//!
//! The order of the files is that of the data: `host` (the device), `tiles` (how numbers are kept), `decision` (bits
//! from whole numbers), `grid` (weights in 16 bits),
//! `parameters`, `sums` and `gemm` (from one layer to the other), `inputs` (which units are on, and how their sums are made),
//! `layers` (bias, sigmoid, sample), `tempered` (all of them for a group of rows), `samples` (samples without these sums), `flip` (one
//! bit that changes), `groups` (what a worker needs for its rows), `visible` (visible layers of several laws), `conditionals`, `chains`, `held`, `anneal`,
//! `pseudo_likelihood`, `statistics`, `blocks`, `descend`, `learn`, `energies`, `phases`. Each uses only those before it.

mod anneal;
mod blocks;
mod chains;
mod conditionals;
mod decision;
mod descend;
mod energies;
mod flip;
mod gemm;
mod grid;
mod groups;
mod held;
mod host;
mod inputs;
mod layers;
mod learn;
mod parameters;
mod phases;
mod pseudo_likelihood;
#[cfg(feature = "mpi")]
mod ranks;
mod samples;
mod statistics;
mod sums;
mod tempered;
mod tiles;
mod visible;

pub use host::Cpu;
#[cfg(feature = "mpi")]
pub use ranks::{Ranks, Traffic};

use crate::{
    descent::RuleState,
    error::Result,
    rbm::{RbmMut, RbmRef},
    rows::Rows,
    shape::Shape,
    verbs::{ChainState, Memory},
};
use chains::CpuChains;
use descend::CpuRule;
use parameters::CpuParameters;
use statistics::CpuWork;

impl Memory for Cpu {
    type Parameters = CpuParameters;
    type Chains = CpuChains;
    type Work = CpuWork;
    type Rule = CpuRule;
    type Batch<'a> = Rows<'a>;

    fn upload(&self, rbm: RbmRef<'_>) -> Result<CpuParameters> {
        Ok(CpuParameters::new(rbm, self.gemm))
    }

    fn download(&self, parameters: &CpuParameters, to: RbmMut<'_>) -> Result<()> {
        parameters.write(to);
        Ok(())
    }

    fn chains(&self, shape: Shape, state: &ChainState) -> Result<CpuChains> {
        Ok(CpuChains::new(shape, state))
    }

    fn n_chains(chains: &CpuChains) -> usize {
        chains.len()
    }

    fn chain_state(&self, chains: &CpuChains) -> Result<ChainState> {
        Ok(chains.state())
    }

    fn temper(&self, chains: &mut CpuChains, betas: &[f32]) -> Result<()> {
        chains.betas.copy_from_slice(betas);
        Ok(())
    }

    fn work(&self, _: Shape) -> Result<CpuWork> {
        Ok(CpuWork::default())
    }

    fn rule(&self, shape: Shape, state: &RuleState) -> Result<CpuRule> {
        Ok(CpuRule::new(*self, shape, state))
    }

    fn rule_state(&self, rule: &CpuRule, shape: Shape) -> Result<RuleState> {
        Ok(rule.state(shape))
    }
}
