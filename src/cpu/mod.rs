//! The CPU backend: packed bits, sums of active rows, fused loops, and one split among threads per phase. [`Cpu`] documents how
//! each call is computed.
//!
//! The order of the files is that of the flow of data. Each file uses only those before it:
//!
//! - `host`: the device. `tiles`: the layout of numbers. `decision`: bits from integer sums. `grid`: weights in 16 bits.
//! - `parameters`: the layout of weights. `sums`, `gemm`: the sums of one layer over the other. `inputs`: active units, and the
//!   choice of a kernel for their sums. `layers`: bias, sigmoid and sample. `tempered`: all of these for a group of rows.
//!   `samples`: samples without these sums. `flip`: one bit that changes.
//! - `groups`: the scratch of a worker. `visible`: visible layers with several laws.
//! - The operations of the backend: `conditionals`, `chains`, `held`, `anneal`, `pseudo_likelihood`, `statistics`, `blocks`,
//!   `descend`, `learn`, `energies`, `phases`.

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
#[cfg(feature = "cuda")]
pub(crate) use host::Part;
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
