//! The interface of a backend: one trait for each subject, with few, coarse and fused operations.
//!
//! The operations are those of the model, not of a tensor library. One call makes k Gibbs steps of all chains; another makes a
//! whole update. They check nothing. [`Device`](crate::Device) is the only caller, for the modules above it, which first compare
//! shapes, devices and lengths. Code outside the crate cannot reach these traits.

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

/// The conditional distribution of a layer given the other: row-major buffers, rows × units.
///
/// Each call overwrites the buffers and reuses their memory.
///
/// ```
/// use harmonium::{Activations, Cpu, Dataset, Rbm, Shape};
///
/// # fn main() -> harmonium::Result<()> {
/// let rbm = Rbm::from_parts(Shape::new(2, 1)?, vec![1.0, -2.0], vec![0.0; 2], vec![0.5])?.on(Cpu::detect()?)?;
/// let mut hidden = Activations::default();
/// rbm.propup(&Dataset::from_f32(vec![1.0, 0.0, 1.0, 1.0], 2)?, &mut hidden)?;
/// assert_eq!(hidden.pre_activation, [1.5, -0.5]);             // c + vW of both rows
/// assert!((hidden.mean[0] - 0.8176).abs() < 1e-4);            // σ(1.5)
/// assert!(hidden.sample.is_empty());                          // propup does not sample
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activations {
    /// The pre-activation, which is the sum over the other layer plus the bias, rows × units; in log-odds for binary units.
    pub pre_activation: Vec<f32>,
    /// The mean given the other layer, rows × units: σ(pre-activation), the probability that a binary unit is on.
    pub mean: Vec<f32>,
    /// The sample, rows × units: 1 if a binary unit is on, else 0. Empty after calls that only compute means.
    pub sample: Vec<f32>,
}

impl Activations {
    pub(crate) fn resize(&mut self, len: usize, sampled: bool) {
        self.pre_activation.resize(len, 0.0);
        self.mean.resize(len, 0.0);
        self.sample.resize(if sampled { len } else { 0 }, 0.0);
    }
}

/// The means of a minibatch and of its hidden units.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct BatchMeans {
    /// ⟨v⟩: the mean of each visible unit over the rows, n_visible.
    pub visible: Vec<f32>,
    /// ⟨p⟩: the mean of P(h_j = 1|v) over the rows, n_hidden.
    pub hidden: Vec<f32>,
}

/// The state of M chains, for a checkpoint or for a move to another device.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainState {
    /// The hidden bits, ⌈n_hidden/64⌉ words a chain. Unit j is bit j mod 64 of word j/64; bits beyond the last unit are 0.
    pub hidden: Vec<u64>,
    /// The inverse temperature of each chain; 1 is the model's.
    pub betas: Vec<f32>,
    /// The position of the next random number.
    pub uniforms: Uniforms,
}

/// Expands bits to the numbers 0 and 1. Each row has whole words; unit j is bit j mod 64 of word j/64.
pub(crate) fn unpack(words: &[u64], units: usize, out: &mut [f32]) {
    for (row, words) in out.chunks_exact_mut(units).zip(words.chunks_exact(units.div_ceil(64))) {
        row.iter_mut().enumerate().for_each(|(j, x)| *x = (words[j / 64] >> (j % 64) & 1) as f32);
    }
}

/// Packs the numbers 0 and 1 into bits: the inverse of [`unpack`].
pub(crate) fn pack(values: &[f32], units: usize) -> Vec<u64> {
    let words = values.chunks_exact(units).flat_map(|row| row.chunks(64));
    words.map(|unit| unit.iter().enumerate().fold(0, |word, (i, &x)| word | u64::from(x != 0.0) << i)).collect()
}

/// Returns an error unless there are words for `rows` rows, and no bit beyond the last unit is set.
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

/// The order in which a device adds up units and rows: one fixed order, or that of a matrix library.
///
/// ```
/// use harmonium::{Cpu, Sums};
///
/// # fn main() -> harmonium::Result<()> {
/// let cpu = Cpu::detect()?;
/// assert_eq!(cpu.sums(), Sums::Canonical);
/// assert_eq!(cpu.with_sums(Sums::Gemm)?.sums(), Sums::Gemm);
/// assert!(cpu.with_sums(Sums::GemmTf32).is_err());            // on a GPU only
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sums {
    /// In ascending order, with one accumulator for each sum: the same bits on every device.
    #[default]
    Canonical,
    /// Products of a matrix library: sgemm on the CPU, cuBLAS on a GPU. The random numbers are the same; the rounding differs.
    Gemm,
    /// As [`Gemm`](Self::Gemm), but cuBLAS may round factors to eleven bits (TF32) to use the tensor cores; on a GPU only.
    GemmTf32,
    /// On a GPU, products of a matrix library for calls with many chains or rows, and canonical sums for others. On the CPU,
    /// canonical sums.
    Auto,
}

names!(Sums, "sums", Canonical = "canonical", Gemm = "gemm", GemmTf32 = "gemm-tf32", Auto = "auto");

/// The quantity that is monitored at every update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    Nothing,
    /// The pseudo-likelihood of one visible variable, a binary unit or a Potts site, times the number of variables.
    Site(usize),
    /// The pseudo-likelihood of all visible variables.
    AllSites,
    /// The cross-entropy of the reconstruction.
    Reconstruction,
}

/// The options of one update.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The number of Gibbs steps.
    pub k: usize,
    /// Whether the chains continue from their states, or start at the batch.
    pub persistent: bool,
    pub watch: Watch,
}

/// The objects in a device's memory, and the copies to and from the host.
pub(crate) trait Memory: Sized {
    /// The parameters in the layout of the device.
    type Parameters: Clone + Debug + Send + Sync;
    /// The states of M chains.
    type Chains: Clone + Debug + Send + Sync;
    /// Scratch of an update: statistics of both phases. Reused, so that only the first update allocates memory.
    type Work: Debug + Send + Sync;
    /// The state of the rules of descent.
    type Rule: Debug + Send + Sync;
    /// Rows of data that the device can read.
    type Batch<'a>: Copy + Debug + Send + Sync;

    fn upload(&self, rbm: RbmRef<'_>) -> Result<Self::Parameters>;
    fn download(&self, parameters: &Self::Parameters, to: RbmMut<'_>) -> Result<()>;
    /// Chains in a given state.
    fn chains(&self, shape: Shape, state: &ChainState) -> Result<Self::Chains>;
    fn n_chains(chains: &Self::Chains) -> usize;
    fn chain_state(&self, chains: &Self::Chains) -> Result<ChainState>;
    /// Sets the inverse temperature of each chain.
    fn temper(&self, chains: &mut Self::Chains, betas: &[f32]) -> Result<()>;
    /// Scratch for updates.
    fn work(&self, shape: Shape) -> Result<Self::Work>;
    fn rule(&self, shape: Shape, state: &RuleState) -> Result<Self::Rule>;
    fn rule_state(&self, rule: &Self::Rule, shape: Shape) -> Result<RuleState>;
}

/// The conditional distribution of one layer given the other.
pub(crate) trait Conditionals: Memory {
    /// The conditional of the other layer, given rows of states of the layer `given`. Samples if there are draws.
    fn conditional(
        &self, parameters: &Self::Parameters, rows: Self::Batch<'_>, given: Layer, draws: Option<&mut Uniforms>,
        out: &mut Activations,
    ) -> Result<()>;
}

/// Free energies and pseudo-likelihoods of rows.
pub(crate) trait Energies: Memory {
    /// F(v) = -b·v - Σ_j sp(c_j + (vW)_j) of each row.
    fn free_energy(&self, parameters: &Self::Parameters, rows: Self::Batch<'_>, out: &mut [f64]) -> Result<()>;
    /// Σ_r weight_r ∂F(v_r)/∂θ.
    fn free_energy_gradient(
        &self, parameters: &Self::Parameters, rows: Self::Batch<'_>, work: &mut Self::Work, weights: &[f32],
        out: &mut Gradient,
    ) -> Result<()>;
    /// The log pseudo-likelihood of each row: of all visible variables, or the number of variables times the term of one.
    fn pseudo_log_likelihood(
        &self, parameters: &Self::Parameters, rows: Self::Batch<'_>, site: Option<usize>, out: &mut [f64],
    ) -> Result<()>;
}

/// Gibbs sampling.
pub(crate) trait Sampling: Memory {
    /// Starts one chain per row: h ~ P(h|v).
    fn start(&self, parameters: &Self::Parameters, chains: &mut Self::Chains, rows: Self::Batch<'_>) -> Result<()>;
    /// k times v ~ P(v|h), h ~ P(h|v), for every chain; k ≥ 1.
    fn sweep(&self, parameters: &Self::Parameters, chains: &mut Self::Chains, k: usize) -> Result<()>;
    /// The visible layer of the last step of the last sweep.
    fn visible(&self, chains: &Self::Chains, out: &mut Activations) -> Result<()>;
    /// Clamps visible units: sweeps keep the values of these rows, one row for each chain; only missing values move. Without rows
    /// all units move.
    fn hold(&self, chains: &mut Self::Chains, held: Option<Rows<'_>>) -> Result<()>;
}

/// Annealed importance sampling, from a base rate to the model or back.
pub(crate) trait Tempering: Memory {
    /// For each chain and each pair (β, β') of neighbours in `betas`: v ~ P_β(v|h), its log weight gains log p*_β'(v) - log
    /// p*_β(v), and h ~ P_β'(h|v). Here p*_β(v) = exp(-(1 - β)·e_0(v) - β·e(v))·Π_j (1 + e^(β·pre_j)), with the visible units' own
    /// energies e of the model and e_0 of the reference biases and precisions. The precisions are empty without Gaussian units. The
    /// draws are those of a sweep with as many steps. The chains keep the last β.
    fn anneal(
        &self, parameters: &Self::Parameters, chains: &mut Self::Chains, reference: [&[f32]; 2], betas: &[f32],
        log_weights: &mut [f64],
    ) -> Result<()>;
}

/// The statistics of both phases of a gradient.
pub(crate) trait Contrasting: Memory {
    /// Runs both phases of an update and the monitor: the hidden means of the batch, and the chains after k steps. Without
    /// persistence, the number of chains becomes the number of rows.
    fn phases(
        &self, parameters: &Self::Parameters, batch: Self::Batch<'_>, chains: &mut Self::Chains, work: &mut Self::Work,
        plan: Plan,
    ) -> Result<()>;
    /// The monitor: the sum over updates of the mean over rows, since [`watch_from`](Self::watch_from).
    fn watched(&self, work: &Self::Work) -> Result<f64>;
    /// Sets the sum of the monitor.
    fn watch_from(&self, work: &mut Self::Work, sum: f64) -> Result<()>;
}

/// Gradients and updates from the statistics of the last phases.
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
    /// θ ← θ - lr·gradient, where the gradient is that of the statistics.
    fn update(
        &self, parameters: &mut Self::Parameters, batch: Self::Batch<'_>, chains: &Self::Chains, work: &mut Self::Work,
        lr: f32,
    ) -> Result<()>;
    /// The update of the rules of descent.
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
