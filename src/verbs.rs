//! What a device must be able to do for an RBM: few verbs, coarse and fused, one trait for each subject.
//!
//! The verbs are the model's, not a tensor library's: one call makes a whole sweep of k Gibbs steps over all chains, another
//! one a whole update. They check nothing. [`Device`](crate::Device) is the only caller, for the floors above, which compare
//! shapes, devices and lengths first; so no verb can be reached from outside of the crate.

use crate::{
    descent::{Pace, RuleState},
    error::{Error, Result},
    names::names,
    rbm::{Gradient, RbmMut, RbmRef},
    rows::Rows,
    shape::{Layer, Shape},
    uniforms::Uniforms,
};
use std::fmt::Debug;

/// What a conditional gives for each unit of a layer: flat row-major buffers, made anew by every call that fills them and
/// kept from call to call so that nothing is allocated twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activations {
    /// The sum over the other layer plus the bias, rows × units, in log-odds.
    pub pre_activation: Vec<f32>,
    /// σ of it: the probability of being on.
    pub mean: Vec<f32>,
    /// 1 where the unit was drawn on, else 0; empty after calls that only compute means.
    pub sample: Vec<f32>,
}

impl Activations {
    pub(crate) fn resize(&mut self, len: usize, sampled: bool) {
        self.pre_activation.resize(len, 0.0);
        self.mean.resize(len, 0.0);
        self.sample.resize(if sampled { len } else { 0 }, 0.0);
    }
}

/// The means of a batch and of the hidden units that belong to it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct BatchMeans {
    /// ⟨v⟩: the mean of each visible unit over the rows, n_visible.
    pub visible: Vec<f32>,
    /// ⟨p⟩: the mean of P(h_j = 1|v) over the rows, n_hidden.
    pub hidden: Vec<f32>,
}

/// The lasting state of M chains: what a checkpoint keeps and what goes from one device to another.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainState {
    /// The hidden bits, ⌈n_hidden/64⌉ words a chain; unit j is bit j mod 64 of word j/64, bits beyond the last unit are 0.
    pub hidden: Vec<u64>,
    /// The inverse temperature of each chain.
    pub betas: Vec<f32>,
    /// The place of the next draw.
    pub uniforms: Uniforms,
}

/// Writes bits as numbers 0 and 1: `words` whole words a row, unit j being bit j mod 64 of word j/64.
pub(crate) fn unpack(words: &[u64], units: usize, out: &mut [f32]) {
    for (row, words) in out.chunks_exact_mut(units).zip(words.chunks_exact(units.div_ceil(64))) {
        row.iter_mut().enumerate().for_each(|(j, x)| *x = (words[j / 64] >> (j % 64) & 1) as f32);
    }
}

/// Numbers 0 and 1 as bits: the reverse of [`unpack`].
pub(crate) fn pack(values: &[f32], units: usize) -> Vec<u64> {
    let words = values.chunks_exact(units).flat_map(|row| row.chunks(64));
    words.map(|unit| unit.iter().enumerate().fold(0, |word, (i, &x)| word | u64::from(x != 0.0) << i)).collect()
}

/// There must be the words of so many rows, and no bit where no unit is.
pub(crate) fn check_packed(what: &'static str, words: &[u64], rows: usize, shape: Shape, layer: Layer) -> Result<()> {
    let (width, last) = (shape.units(layer).div_ceil(64), shape.units(layer) % 64);
    if words.len() != rows * width {
        return Err(Error::Length { what, expected: rows * width, found: words.len() });
    }
    if last != 0 && words.chunks_exact(width).any(|row| row[width - 1] >> last != 0) {
        let name = match layer {
            Layer::Visible => "visible",
            Layer::Hidden => "hidden",
        };
        let expected = format!("no bit beyond the last {name} unit");
        return Err(Error::Argument { what, expected, found: "one".into() });
    }
    Ok(())
}

/// How a device adds up units and rows: in one fixed order, or as a matrix library likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sums {
    /// In ascending order, in one accumulator each: the same bits on every device.
    #[default]
    Canonical,
    /// Products of a matrix library: sgemm on the CPU, cuBLAS on a GPU. The same draws, other rounding.
    Gemm,
    /// The same, but cuBLAS may round factors to eleven bits (TF32) where that lets it use the tensor cores; on a GPU only.
    GemmTf32,
    /// On a GPU products for calls with many chains or rows, else canonical; on the CPU canonical.
    Auto,
}

names!(Sums, "sums", Canonical = "canonical", Gemm = "gemm", GemmTf32 = "gemm-tf32", Auto = "auto");

/// What is watched at every update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    Nothing,
    /// The pseudo-likelihood's term of one visible variable: a binary unit or a Potts site.
    Site(usize),
    /// The pseudo-likelihood.
    AllSites,
    /// How well the reconstruction explains the data.
    Reconstruction,
}

/// One update, but for the parameters, the data and the chains.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Gibbs steps.
    pub k: usize,
    /// Whether the chains continue from where they are, or start at the batch.
    pub persistent: bool,
    pub watch: Watch,
}

/// What lives on a device, and the ways there and back.
pub(crate) trait Memory: Sized {
    /// The parameters as the device computes with them.
    type Parameters: Clone + Debug + Send + Sync;
    /// The states of M chains.
    type Chains: Clone + Debug + Send + Sync;
    /// What an update needs besides: statistics of both phases. Reused, so that only the first update allocates.
    type Work: Debug + Send + Sync;
    /// What rules of descent keep from update to update.
    type Rule: Debug + Send + Sync;
    /// Some rows of data that the device can read.
    type Batch<'a>: Copy + Debug + Send + Sync;

    fn upload(&self, rbm: RbmRef<'_>) -> Result<Self::Parameters>;
    fn download(&self, parameters: &Self::Parameters, to: RbmMut<'_>) -> Result<()>;
    /// Chains in a given state.
    fn chains(&self, shape: Shape, state: &ChainState) -> Result<Self::Chains>;
    fn n_chains(chains: &Self::Chains) -> usize;
    fn chain_state(&self, chains: &Self::Chains) -> Result<ChainState>;
    /// Gives each chain another inverse temperature.
    fn temper(&self, chains: &mut Self::Chains, betas: &[f32]) -> Result<()>;
    /// Room for updates.
    fn work(&self, shape: Shape) -> Result<Self::Work>;
    fn rule(&self, shape: Shape, state: &RuleState) -> Result<Self::Rule>;
    fn rule_state(&self, rule: &Self::Rule, shape: Shape) -> Result<RuleState>;
}

/// One layer given the other.
pub(crate) trait Conditionals: Memory {
    /// The conditional of the other layer, given rows of states of the layer `given`; sampled where there are draws.
    fn conditional(
        &self, parameters: &Self::Parameters, rows: Self::Batch<'_>, given: Layer, draws: Option<&mut Uniforms>,
        out: &mut Activations,
    ) -> Result<()>;
}

/// How likely rows are.
pub(crate) trait Energies: Memory {
    /// F(v) = -b·v - Σ_j sp(c_j + (vW)_j) of each row.
    fn free_energy(&self, parameters: &Self::Parameters, rows: Self::Batch<'_>, out: &mut [f64]) -> Result<()>;
    /// Σ_r weight_r ∂F(v_r)/∂θ.
    fn free_energy_gradient(
        &self, parameters: &Self::Parameters, rows: Self::Batch<'_>, work: &mut Self::Work, weights: &[f32],
        out: &mut Gradient,
    ) -> Result<()>;
    /// The log pseudo-likelihood of each row, of all visible variables or their number times that of one.
    fn pseudo_log_likelihood(
        &self, parameters: &Self::Parameters, rows: Self::Batch<'_>, site: Option<usize>, out: &mut [f64],
    ) -> Result<()>;
}

/// Chains that move.
pub(crate) trait Sampling: Memory {
    /// Starts as many chains as there are rows: h ~ P(h|v).
    fn start(&self, parameters: &Self::Parameters, chains: &mut Self::Chains, rows: Self::Batch<'_>) -> Result<()>;
    /// k times v ~ P(v|h), h ~ P(h|v), for every chain; k ≥ 1.
    fn sweep(&self, parameters: &Self::Parameters, chains: &mut Self::Chains, k: usize) -> Result<()>;
    /// The visible layer of the last step of the last sweep.
    fn visible(&self, chains: &Self::Chains, out: &mut Activations) -> Result<()>;
    /// Sweeps leave the visible units of these rows, one a chain, at their values where they are there; all move again without
    /// rows.
    fn hold(&self, chains: &mut Self::Chains, held: Option<Rows<'_>>) -> Result<()>;
}

/// Chains that move from a base rate to the model or back.
pub(crate) trait Tempering: Memory {
    /// For each chain and each pair (β, β') of neighbours in `betas`: v ~ P_β(v|h), its log weight gains
    /// log p*_β'(v) - log p*_β(v), and h ~ P_β'(h|v), where p*_β(v) = exp(-(1 - β)·e_0(v) - β·e(v))·Π_j (1 + e^(β·pre_j)) with
    /// the visible units' own energies e of the model and e_0 of the reference biases and precisions; these are empty where
    /// there is no Gaussian unit.
    /// Draws as so many steps of a sweep do. The chains keep the last β.
    fn anneal(
        &self, parameters: &Self::Parameters, chains: &mut Self::Chains, reference: [&[f32]; 2], betas: &[f32],
        log_weights: &mut [f64],
    ) -> Result<()>;
}

/// The statistics that a gradient is made of.
pub(crate) trait Contrasting: Memory {
    /// Both phases of an update, and what is watched: the hidden means of the batch, the chains k steps later. Chains that do
    /// not persist become as many as the batch has rows.
    fn phases(
        &self, parameters: &Self::Parameters, batch: Self::Batch<'_>, chains: &mut Self::Chains, work: &mut Self::Work,
        plan: Plan,
    ) -> Result<()>;
    /// The sum over updates of the mean over rows of what was watched, since [`watch_from`](Self::watch_from).
    fn watched(&self, work: &Self::Work) -> Result<f64>;
    /// What is watched adds up from this sum on.
    fn watch_from(&self, work: &mut Self::Work, sum: f64) -> Result<()>;
}

/// Gradients and updates, from the statistics of the phases that were run last.
pub(crate) trait Learning: Memory {
    /// The means over the rows of the batch, visible and hidden.
    fn batch_means(
        &self, batch: Self::Batch<'_>, work: &mut Self::Work, shape: Shape, out: &mut BatchMeans,
    ) -> Result<()>;
    /// The gradient.
    fn gradient(
        &self, parameters: &Self::Parameters, batch: Self::Batch<'_>, chains: &Self::Chains, work: &mut Self::Work,
        out: &mut Gradient,
    ) -> Result<()>;
    /// θ ← θ - lr·gradient, the gradient being that of the statistics.
    fn update(
        &self, parameters: &mut Self::Parameters, batch: Self::Batch<'_>, chains: &Self::Chains, work: &mut Self::Work,
        lr: f32,
    ) -> Result<()>;
    /// The same by the rules of descent.
    fn descend(
        &self, parameters: &mut Self::Parameters, batch: Self::Batch<'_>, chains: &Self::Chains, work: &mut Self::Work,
        rule: &mut Self::Rule, pace: Pace,
    ) -> Result<()>;
    /// ln σ² ← ln σ² - lr·gradient for Gaussian units, within its limits.
    fn learn_variance(&self, parameters: &mut Self::Parameters, gradient: &[f32], lr: f32) -> Result<()>;
    /// θ ← θ + share·(to - θ).
    fn approach(&self, parameters: &mut Self::Parameters, to: &Self::Parameters, share: f32) -> Result<()>;
    /// θ ← θ - lr·gradient, for any gradient.
    fn apply(&self, parameters: &mut Self::Parameters, gradient: &Gradient, lr: f32) -> Result<()>;
}
