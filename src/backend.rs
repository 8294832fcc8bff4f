//! What a device must be able to do for an RBM: few verbs, coarse and fused.
//!
//! The verbs are the model's, not a tensor library's: a whole sweep of k Gibbs steps over all chains is one call, so is a
//! whole update. Every algorithm above this floor is written once, over [`Backend`]; the choice is made at compile time and
//! [`Cpu`](crate::Cpu) is the default everywhere. The trait is sealed: its methods are for the floors above, which check
//! every shape before they call, and they may change in any release.

use crate::{
    error::{Error, Result, shown},
    uniforms::Uniforms,
};
use std::{
    fmt::{self, Debug, Display},
    ops::Range,
    str::FromStr,
};

/// The sizes of the two layers. Written and read as `784 × 500`, visible × hidden units; `784x500` is read too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    n_visible: usize,
    n_hidden: usize,
}

impl Shape {
    /// A shape of `n_visible` × `n_hidden` units.
    ///
    /// # Errors
    /// [`Error::Argument`] where a layer has no unit, or where the weights would be more than 2^31 - 1: what a BLAS and the
    /// CUDA kernels can index.
    pub fn new(n_visible: usize, n_hidden: usize) -> Result<Self> {
        let shape = Self { n_visible, n_hidden };
        let fits = n_visible.checked_mul(n_hidden).is_some_and(|n| n <= i32::MAX as usize);
        if n_visible == 0 || n_hidden == 0 || !fits {
            return Err(Error::Argument {
                what: "shape",
                expected: "at least one visible and one hidden unit, and at most 2147483647 weights".into(),
                found: shape.to_string(),
            });
        }
        Ok(shape)
    }

    /// The number of visible units.
    pub fn n_visible(self) -> usize {
        self.n_visible
    }

    /// The number of hidden units.
    pub fn n_hidden(self) -> usize {
        self.n_hidden
    }

    /// The number of units of one layer.
    pub fn units(self, layer: Layer) -> usize {
        match layer {
            Layer::Visible => self.n_visible,
            Layer::Hidden => self.n_hidden,
        }
    }
}

impl Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}", self.n_visible, self.n_hidden)
    }
}

impl FromStr for Shape {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let sizes = text.split_once(['×', 'x']).and_then(|(v, h)| v.trim().parse().ok().zip(h.trim().parse().ok()));
        let (n_visible, n_hidden) = sizes.ok_or_else(|| Error::Argument {
            what: "shape",
            expected: "visible × hidden units, such as 784 × 500".into(),
            found: shown(text),
        })?;
        Self::new(n_visible, n_hidden)
    }
}

/// One of the two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The layer that data is put into.
    Visible,
    /// The layer that explains it.
    Hidden,
}

impl Layer {
    /// The layer on the other side of the weights.
    pub fn other(self) -> Self {
        match self {
            Layer::Visible => Layer::Hidden,
            Layer::Hidden => Layer::Visible,
        }
    }
}

/// A borrowed row-major matrix of values in [0, 1], one row for each example.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    values: Values<'a>,
    units: usize,
}

/// The values of [`Rows`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values<'a> {
    /// Eight bits each; x stands for x/255.
    U8(&'a [u8]),
    /// The numbers themselves.
    F32(&'a [f32]),
}

/// The number that eight bits stand for: x/255, correctly rounded.
#[inline(always)]
pub fn unit_value(x: u8) -> f32 {
    f32::from(x) / 255.0
}

impl<'a> Rows<'a> {
    /// Rows of `units` values each.
    ///
    /// # Errors
    /// [`Error::Length`] where the values are no whole number of rows, [`Error::Argument`] where rows would have no value,
    /// [`Error::Value`] where one is not within [0, 1].
    pub fn new(values: Values<'a>, units: usize) -> Result<Self> {
        let found = match values {
            Values::U8(x) => x.len(),
            Values::F32(x) => x.len(),
        };
        if units == 0 {
            return Err(Error::Argument {
                what: "rows",
                expected: "at least one value a row".into(),
                found: "none".into(),
            });
        }
        if found % units != 0 {
            return Err(Error::Length { what: "rows", expected: found.div_ceil(units) * units, found });
        }
        if let Values::F32(x) = values {
            let outside = |x: &f32| !(0.0..=1.0).contains(x);
            if let Some(index) = x.iter().position(outside) {
                return Err(Error::Value { what: "rows", index, expected: "a value within [0, 1]", found: x[index] });
            }
        }
        Ok(Self { values, units })
    }

    /// Rows that are known to be right.
    pub(crate) fn of(values: Values<'a>, units: usize) -> Self {
        Self { values, units }
    }

    /// How many rows there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match self.values {
            Values::U8(x) => x.len() / self.units,
            Values::F32(x) => x.len() / self.units,
        }
    }

    /// How many values each row has.
    pub fn units(&self) -> usize {
        self.units
    }

    /// All values, row after row.
    pub fn values(&self) -> Values<'a> {
        self.values
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// Where the range does not lie within the rows.
    pub fn range(&self, rows: Range<usize>) -> Self {
        let span = rows.start * self.units..rows.end * self.units;
        let values = match self.values {
            Values::U8(x) => Values::U8(&x[span]),
            Values::F32(x) => Values::F32(&x[span]),
        };
        Self { values, units: self.units }
    }

    /// Value `i` of row `r`.
    #[inline(always)]
    pub fn value(&self, r: usize, i: usize) -> f32 {
        match self.values {
            Values::U8(x) => unit_value(x[r * self.units + i]),
            Values::F32(x) => x[r * self.units + i],
        }
    }

    /// Whether value `i` of row `r` counts as 1 where only 0 and 1 will do: x ≥ 0.5.
    #[inline(always)]
    pub fn bit(&self, r: usize, i: usize) -> bool {
        match self.values {
            Values::U8(x) => x[r * self.units + i] >= 128,
            Values::F32(x) => x[r * self.units + i] >= 0.5,
        }
    }
}

/// What a conditional gives for each unit of a layer: flat row-major buffers, made anew by every call that fills them and
/// kept from call to call so that nothing is allocated twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activations {
    /// The sum over the other layer plus the bias, rows × units.
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

/// A direction in parameter space, in the layout of the parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient {
    /// n_visible × n_hidden, row-major.
    pub weights: Vec<f32>,
    /// n_visible.
    pub visible_bias: Vec<f32>,
    /// n_hidden.
    pub hidden_bias: Vec<f32>,
}

impl Gradient {
    /// The gradient 0.
    pub fn zero(shape: Shape) -> Self {
        Self {
            weights: vec![0.0; shape.n_visible * shape.n_hidden],
            visible_bias: vec![0.0; shape.n_visible],
            hidden_bias: vec![0.0; shape.n_hidden],
        }
    }
}

/// The lasting state of M chains: what a checkpoint keeps and what goes from one device to another.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainState {
    /// The hidden bits, ⌈n_hidden/64⌉ words a chain; unit j is bit j mod 64 of word j/64, bits beyond the last unit are 0.
    pub hidden: Vec<u64>,
    /// The inverse temperature of each chain.
    pub betas: Vec<f32>,
    /// Where the next draw stands.
    pub uniforms: Uniforms,
}

/// What is watched at every update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    Nothing,
    /// The pseudo-likelihood's term of one visible unit.
    Bit(usize),
    /// The pseudo-likelihood.
    AllBits,
    /// The reconstruction cross-entropy.
    Reconstruction,
}

/// One update, but for the parameters, the data and the chains.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Gibbs steps.
    pub(crate) k: usize,
    /// Whether the chains go on from where they are, or start at the batch.
    pub(crate) persistent: bool,
    pub(crate) watch: Watch,
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// A device that RBMs live on. See the module's documentation.
#[allow(private_interfaces)]
pub trait Backend: sealed::Sealed + Clone + Debug + Send + Sync + 'static {
    /// The parameters as the device computes with them.
    type Parameters: Clone + Debug + Send + Sync;
    /// The states of M chains.
    type Chains: Clone + Debug + Send + Sync;
    /// What an update needs besides: statistics of both phases. Reused, so that only the first update allocates.
    type Work: Debug + Send + Sync;
    /// A data set where the device can read it.
    type Data<'a>: Send + Sync;
    /// Some rows of it.
    type Batch<'a>: Copy + Send + Sync;

    /// Makes data available to the device. On the CPU it stays where it is.
    fn load<'a>(&self, rows: Rows<'a>) -> Result<Self::Data<'a>>;
    /// Rows of that data.
    fn batch<'a>(data: &'a Self::Data<'_>, rows: Range<usize>) -> Self::Batch<'a>;
    /// How many rows a batch has, and how many values each.
    fn batch_size(batch: Self::Batch<'_>) -> (usize, usize);

    /// Parameters from their row-major buffers.
    fn upload(
        &self, shape: Shape, weights: &[f32], visible_bias: &[f32], hidden_bias: &[f32],
    ) -> Result<Self::Parameters>;
    /// And back.
    fn download(
        &self, parameters: &Self::Parameters, weights: &mut [f32], visible_bias: &mut [f32], hidden_bias: &mut [f32],
    ) -> Result<()>;

    /// The conditional of the other layer, given rows of states of the layer `given`; sampled where there are draws.
    fn activate(
        &self, parameters: &Self::Parameters, given: Layer, rows: Self::Batch<'_>, draws: Option<&mut Uniforms>,
        out: &mut Activations,
    ) -> Result<()>;

    /// F(v) = -b·v - Σ_j sp(c_j + (vW)_j) of each row.
    fn free_energy(&self, parameters: &Self::Parameters, rows: Self::Batch<'_>, out: &mut [f64]) -> Result<()>;
    /// Σ_r weight_r ∂F(v_r)/∂θ.
    fn free_energy_gradient(
        &self, parameters: &Self::Parameters, rows: Self::Batch<'_>, weights: &[f32], work: &mut Self::Work,
        out: &mut Gradient,
    ) -> Result<()>;
    /// The log pseudo-likelihood of each row, of all bits or n_visible times that of one.
    fn pseudo_log_likelihood(
        &self, parameters: &Self::Parameters, rows: Self::Batch<'_>, bit: Option<usize>, out: &mut [f64],
    ) -> Result<()>;

    /// Chains in a given state.
    fn chains(&self, shape: Shape, state: &ChainState) -> Result<Self::Chains>;
    /// How many chains there are.
    fn n_chains(chains: &Self::Chains) -> usize;
    /// The state of chains.
    fn chain_state(&self, chains: &Self::Chains) -> Result<ChainState>;
    /// Starts as many chains as there are rows: h ~ P(h|v).
    fn start(&self, parameters: &Self::Parameters, chains: &mut Self::Chains, rows: Self::Batch<'_>) -> Result<()>;
    /// k times v ~ P(v|h), h ~ P(h|v), for every chain; k ≥ 1.
    fn sweep(&self, parameters: &Self::Parameters, chains: &mut Self::Chains, k: usize) -> Result<()>;
    /// For each chain and each pair (β, β') of neighbours in `betas`: v ~ P_β(v|h), its log weight gains
    /// log p*_β'(v) - log p*_β(v), and h ~ P_β'(h|v), where p*_β(v) = exp((1 - β)·reference·v + β·b·v)·Π_j (1 + e^(β·pre_j)).
    /// Draws as so many steps of a sweep do. The chains keep the last β.
    fn anneal(
        &self, parameters: &Self::Parameters, chains: &mut Self::Chains, reference: &[f32], betas: &[f32],
        log_weights: &mut [f64],
    ) -> Result<()>;
    /// The visible layer of the last step of the last sweep.
    fn visible(&self, chains: &Self::Chains, out: &mut Activations) -> Result<()>;

    /// Room for updates.
    fn work(&self, shape: Shape) -> Result<Self::Work>;
    /// Both phases of an update, and what is watched: the hidden means of the batch, the chains k steps on. Chains that do
    /// not persist become as many as the batch has rows.
    fn phases(
        &self, parameters: &Self::Parameters, batch: Self::Batch<'_>, chains: &mut Self::Chains, plan: Plan,
        work: &mut Self::Work,
    ) -> Result<()>;
    /// The gradient that the phases make.
    fn gradient(
        &self, parameters: &Self::Parameters, batch: Self::Batch<'_>, chains: &Self::Chains, work: &mut Self::Work,
        out: &mut Gradient,
    ) -> Result<()>;
    /// θ ← θ - lr·gradient, the gradient being the one that the phases make.
    fn update(
        &self, parameters: &mut Self::Parameters, batch: Self::Batch<'_>, chains: &Self::Chains, work: &mut Self::Work,
        lr: f32,
    ) -> Result<()>;
    /// θ ← θ - lr·gradient.
    fn apply(&self, parameters: &mut Self::Parameters, gradient: &Gradient, lr: f32) -> Result<()>;
    /// What was watched since the last call: the sum over updates of the mean over rows. Begins again from 0.
    fn watched(&self, work: &mut Self::Work) -> Result<f64>;
    /// What is watched begins again from this sum: what [`watched`](Self::watched) gave, put back.
    fn watch_from(&self, work: &mut Self::Work, sum: f64) -> Result<()>;
}
