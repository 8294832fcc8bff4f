//! The conditional distributions of both layers, and Gibbs chains.
//!
//! P(h_j = 1|v) = σ(c_j + (vW)_j) and P(v_i = 1|h) = σ(b_i + (hWᵀ)_i). Given one layer, the units of the other are
//! independent, so a step of block Gibbs sampling draws a whole layer at once. A chain always continues from *samples*;
//! means are computed as well, for gradients and images.

use crate::{
    dataset::Dataset,
    device::{Batch, Device, States},
    error::{Error, Result},
    rbm::check,
    resident::Resident,
    rows::{Rows, Values},
    shape::{Layer, Shape},
    uniforms::Uniforms,
    verbs::{Activations, ChainState, check_packed, unpack},
};

impl Resident {
    /// pre = vW + c and P(h|v) = σ(pre), written to `hidden`.
    ///
    /// `v`: rows × n_visible, values in [0, 1]; pre in log-odds. Canonical on [`Cpu`](crate::Cpu).
    ///
    /// # Errors
    /// [`Error::Argument`] if the rows do not fit the shape.
    pub fn propup<'a>(&self, v: impl Into<Batch<'a>>, hidden: &mut Activations) -> Result<()> {
        self.conditional(Layer::Visible, v, None, hidden)
    }

    /// pre = hWᵀ + b and P(v|h) = σ(pre), written to `visible`.
    ///
    /// `h`: rows × n_hidden, values in [0, 1]; pre in log-odds. Canonical on [`Cpu`](crate::Cpu).
    ///
    /// # Errors
    /// [`Error::Argument`] if the rows do not fit the shape.
    pub fn propdown<'a>(&self, h: impl Into<Batch<'a>>, visible: &mut Activations) -> Result<()> {
        self.conditional(Layer::Hidden, h, None, visible)
    }

    /// [`propup`](Self::propup), then h ~ P(h|v): unit (r, j) is on iff its number u < its mean. Draws rows·n_hidden numbers.
    ///
    /// # Errors
    /// [`Error::Argument`] if the rows do not fit the shape.
    pub fn sample_h_given_v<'a>(
        &self, v: impl Into<Batch<'a>>, draws: &mut Uniforms, hidden: &mut Activations,
    ) -> Result<()> {
        self.conditional(Layer::Visible, v, Some(draws), hidden)
    }

    /// [`propdown`](Self::propdown), then v ~ P(v|h). Draws rows·n_visible numbers.
    ///
    /// # Errors
    /// [`Error::Argument`] if the rows do not fit the shape.
    pub fn sample_v_given_h<'a>(
        &self, h: impl Into<Batch<'a>>, draws: &mut Uniforms, visible: &mut Activations,
    ) -> Result<()> {
        self.conditional(Layer::Hidden, h, Some(draws), visible)
    }

    /// v ~ P(v|h), then h' ~ P(h|v): one step of a chain on the hidden layer.
    ///
    /// # Errors
    /// [`Error::Argument`] if the rows do not fit the shape.
    pub fn gibbs_hvh<'a>(
        &self, h: impl Into<Batch<'a>>, draws: &mut Uniforms, visible: &mut Activations, hidden: &mut Activations,
    ) -> Result<()> {
        self.sample_v_given_h(h, draws, visible)?;
        self.sample_h_given_v(self.rows(Layer::Visible, &visible.sample), draws, hidden)
    }

    /// h ~ P(h|v), then v' ~ P(v|h): one step of a chain on the visible layer.
    ///
    /// # Errors
    /// [`Error::Argument`] if the rows do not fit the shape.
    pub fn gibbs_vhv<'a>(
        &self, v: impl Into<Batch<'a>>, draws: &mut Uniforms, hidden: &mut Activations, visible: &mut Activations,
    ) -> Result<()> {
        self.sample_h_given_v(v, draws, hidden)?;
        self.sample_v_given_h(self.rows(Layer::Hidden, &hidden.sample), draws, visible)
    }

    fn conditional<'a>(
        &self, given: Layer, rows: impl Into<Batch<'a>>, draws: Option<&mut Uniforms>, out: &mut Activations,
    ) -> Result<()> {
        self.reading(given, rows.into(), |rows| {
            out.resize(rows.len() * self.shape.units(given.other()), draws.is_some());
            self.device.conditional(&self.parameters, rows.0, given, draws, out)
        })
    }
}

/// M independent Gibbs chains of one RBM: each step draws v ~ P(v|h) with P(v_i = 1|h) = σ(b_i + (hWᵀ)_i), then h ~ P(h|v) with
/// P(h_j = 1|v) = σ(c_j + (vW)_j).
///
/// The state of the chains is the hidden layer as bits, one inverse temperature for each chain, and the position in the random
/// sequence. Each step draws the visible layer from it. A sweep draws, step after step, M·n_visible numbers for v and M·n_hidden
/// for h, chain after chain. So each chain is the same for any number of threads.
///
/// ```
/// use harmonium::{Activations, Chains, Cpu, Purpose, Rbm, Shape, Uniforms};
///
/// # fn main() -> harmonium::Result<()> {
/// // One visible unit with a bias of ln 3, which is on with probability 3/4.
/// let cpu = Cpu::detect()?;
/// let rbm = Rbm::from_parts(Shape::new(1, 1)?, vec![0.0], vec![3f32.ln()], vec![0.0])?.on(cpu)?;
/// let mut chains = Chains::new(cpu, rbm.shape(), 10_000, Uniforms::new(123, Purpose::Sampling))?;
/// chains.sweep(&rbm, 1)?;
/// let mut visible = Activations::default();
/// chains.visible(&rbm, &mut visible)?;
/// assert!((visible.mean[0] - 0.75).abs() < 1e-6);
/// assert!((visible.sample.iter().sum::<f32>() / 10_000.0 - 0.75).abs() < 0.03);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Chains {
    device: Device,
    shape: Shape,
    swept: bool,
    state: States,
    /// The values of held visible units; other units are missing.
    held: Option<Dataset>,
}

impl Chains {
    /// Chains with all hidden units off, as the tutorial starts persistent chains.
    ///
    /// # Errors
    /// [`Error::Argument`] if `n_chains` is 0.
    pub fn new(device: impl Into<Device>, shape: Shape, n_chains: usize, draws: Uniforms) -> Result<Self> {
        check_number("n_chains", 1, shape, n_chains)?;
        let hidden = n_chains * shape.n_hidden().div_ceil(64);
        let state = ChainState { hidden: vec![0; hidden], betas: vec![1.0; n_chains], uniforms: draws };
        Self::from_state(device, shape, &state)
    }

    /// Restores chains from a state, perhaps of another device.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are no chains or too many, [`Error::Length`] if the bits do not fit the number of chains,
    /// [`Error::Value`] if an inverse temperature is not finite, or not above 0 with Gaussian units, which have no distribution
    /// at 0.
    pub fn from_state(device: impl Into<Device>, shape: Shape, state: &ChainState) -> Result<Self> {
        let len = state.betas.len();
        check_number("n_chains", 1, shape, len)?;
        check_packed("chains", &state.hidden, len, shape, Layer::Hidden)?;
        check("betas", &state.betas, len)?;
        if !shape.visible().is_discrete()
            && let Some(index) = state.betas.iter().position(|&beta| beta <= 0.0)
        {
            let (expected, found) = ("a number above 0, as there are Gaussian units", state.betas[index]);
            return Err(Error::Value { what: "betas", index, expected, found });
        }
        let device = device.into();
        let state = device.chains(shape, state)?;
        Ok(Self { device, shape, swept: false, state, held: None })
    }

    /// Chains with hidden states drawn from P(h|v), one chain for each row of data.
    ///
    /// # Errors
    /// [`Error::Argument`] if the rows do not fit the shape.
    pub fn from_visible<'a>(rbm: &Resident, v: impl Into<Batch<'a>>, draws: Uniforms) -> Result<Self> {
        rbm.reading(Layer::Visible, v.into(), |rows| {
            let mut chains = Self::new(&rbm.device, rbm.shape, rows.len(), draws)?;
            rbm.device.start(&rbm.parameters, &mut chains.state, rows.0)?;
            Ok(chains)
        })
    }

    /// Chains with hidden units drawn from their biases alone, h_j ~ Bernoulli(σ(c_j)), which is P(h|v) at v = 0.
    ///
    /// Use them as persistent chains with [`Rbm::from_data`](crate::Rbm::from_data): their first step draws visible layers about as
    /// dense as the data. Draws M·n_hidden numbers, chain after chain. Canonical on [`Cpu`](crate::Cpu).
    ///
    /// # Errors
    /// [`Error::Argument`] if `n_chains` is 0.
    pub fn from_hidden_bias(rbm: &Resident, n_chains: usize, draws: Uniforms) -> Result<Self> {
        check_number("n_chains", 1, rbm.shape, n_chains)?;
        let nothing = vec![0; n_chains * rbm.shape.n_visible()];
        Self::from_visible(rbm, Rows::of(Values::U8(&nothing), rbm.shape.visible()), draws)
    }

    /// Holds visible units at given values. From now on chain m keeps the units that are present in row m of `v`, and draws the
    /// missing ones ([`Dataset::with_missing`]) from P(v|h).
    ///
    /// `v`: one row for each chain; values of binary units are 0 or 1. The last step's sample and mean of a held unit are its value
    /// ([`visible`](Self::visible)). All units use their random numbers, held or not, so that those of other units do not change.
    ///
    /// The chains then sample P(v_missing, h | v_present): Gibbs sampling of a conditional distribution is that of the
    /// joint distribution with the given units fixed. [`state`](Self::state) contains the hidden layer only, not the held values.
    ///
    /// ```
    /// use harmonium::{Activations, Chains, Cpu, Dataset, Purpose, Rbm, Shape, Uniforms};
    ///
    /// # fn main() -> harmonium::Result<()> {
    /// let rbm = Rbm::new(Shape::new(3, 2)?, 123).on(Cpu::detect()?)?;
    /// let given = Dataset::with_missing(vec![1.0, f32::NAN, 0.0], "binary:3".parse()?)?;
    /// let mut chains = Chains::from_visible(&rbm, given.rows(), Uniforms::new(123, Purpose::Sampling))?;
    /// chains.hold(given.rows())?;
    /// chains.sweep(&rbm, 100)?;
    /// let mut visible = Activations::default();
    /// chains.visible(&rbm, &mut visible)?;
    /// assert_eq!((visible.sample[0], visible.sample[2]), (1.0, 0.0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`Error::Argument`] if the number of rows differs from that of chains, or rows have other units; [`Error::Law`] if a value
    /// violates its law, or a held binary unit is neither 0 nor 1; errors of the device (the CPU has none).
    pub fn hold(&mut self, v: Rows<'_>) -> Result<()> {
        let visible = self.shape.visible();
        if (v.len(), v.units()) != (self.len(), visible.units()) {
            return Err(Error::Argument {
                what: "held",
                expected: format!("{} rows of {} values, a row for each chain", self.len(), visible.units()),
                found: format!("{} rows of {}", v.len(), v.units()),
            });
        }
        let given = Dataset::with_missing(v.to_vec(), visible)?;
        let rows = given.rows();
        for i in visible.iter().filter(|(segment, _)| !segment.is_number()).flat_map(|(_, units)| units) {
            let grey = |r: &usize| !matches!(rows.value(*r, i), 0.0 | 1.0);
            if let Some(r) = (0..rows.len()).find(grey) {
                let (law, expected, found) = ("binary", "0 or 1 for a held unit", rows.value(r, i));
                return Err(Error::Law { row: r, column: i, law, expected, found });
            }
        }
        self.device.hold(&mut self.state, Some(rows))?;
        self.held = Some(given);
        Ok(())
    }

    /// Releases all held units.
    ///
    /// # Errors
    /// Errors of the device; the CPU has none.
    pub fn release(&mut self) -> Result<()> {
        self.held = None;
        self.device.hold(&mut self.state, None)
    }

    /// The number of chains.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.state.len()
    }

    /// Makes k steps: v ~ P(v|h), then h ~ P(h|v).
    ///
    /// Canonical on [`Cpu`](crate::Cpu): the same bits as k calls of [`Resident::gibbs_hvh`].
    ///
    /// # Errors
    /// [`Error::Argument`] if k is 0 or the RBM has another shape.
    pub fn sweep(&mut self, rbm: &Resident, k: usize) -> Result<()> {
        check_k(k)?;
        self.check_belongs(rbm)?;
        self.device.sweep(&rbm.parameters, &mut self.state, k)?;
        self.swept = true;
        Ok(())
    }

    /// Writes the visible layer of the last step: pre-activations (log-odds), means and samples, chains × n_visible.
    ///
    /// Before the first step, this is the layer that the first step is going to draw.
    ///
    /// # Errors
    /// [`Error::Argument`] if the RBM has another shape, [`Error::Device`] if it is on another device.
    pub fn visible(&self, rbm: &Resident, out: &mut Activations) -> Result<()> {
        self.check_belongs(rbm)?;
        if !self.swept {
            let mut first = self.clone();
            first.sweep(rbm, 1)?;
            return first.visible(rbm, out);
        }
        out.resize(self.len() * self.shape.n_visible(), true);
        self.device.visible(&self.state, out)
    }

    /// The hidden samples as numbers 0 and 1, chains × n_hidden.
    ///
    /// # Errors
    /// Errors of the device; the CPU has none.
    pub fn hidden(&self) -> Result<Vec<f32>> {
        let mut hidden = vec![0.0; self.len() * self.shape.n_hidden()];
        unpack(&self.state()?.hidden, self.shape.n_hidden(), &mut hidden);
        Ok(hidden)
    }

    /// The complete state of the chains, for [`from_state`](Self::from_state).
    ///
    /// # Errors
    /// Errors of the device; the CPU has none.
    pub fn state(&self) -> Result<ChainState> {
        self.device.chain_state(&self.state)
    }

    /// A copy of the chains, held units included, that draws from another sequence of random numbers.
    ///
    /// # Errors
    /// Errors of the device; the CPU has none.
    pub fn drawing(&self, draws: Uniforms) -> Result<Self> {
        let state = ChainState { uniforms: draws, ..self.state()? };
        let mut copy = Self::from_state(&self.device, self.shape, &state)?;
        if let Some(held) = &self.held {
            copy.hold(held.rows())?;
        }
        Ok(copy)
    }

    /// Sets the inverse temperature of each chain; [`from_state`](Self::from_state) has the permitted values.
    pub(crate) fn temper(&mut self, betas: &[f32]) -> Result<()> {
        self.device.temper(&mut self.state, betas)
    }

    /// The values of held visible units.
    pub(crate) fn held(&self) -> Option<Rows<'_>> {
        self.held.as_ref().map(Dataset::rows)
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// The device of the chains.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The states, for an operation that changes them.
    pub(crate) fn states_mut(&mut self) -> &mut States {
        self.swept = true;
        &mut self.state
    }

    /// Checks that other chains have the same shape and device.
    pub(crate) fn check_like(&self, others: &Chains) -> Result<()> {
        if self.shape != others.shape {
            let (expected, found) = self.shape.mismatch(others.shape);
            return Err(Error::Argument { what: "chains", expected, found });
        }
        self.device.check("chains", &others.device)
    }

    pub(crate) fn check_belongs(&self, rbm: &Resident) -> Result<()> {
        rbm.check_belongs("chains", &self.device, self.shape)
    }
}

/// Checks that there are at least `least` chains, and no more units than a BLAS and the CUDA kernels can index, so that no length
/// computed from them overflows.
pub(crate) fn check_number(what: &'static str, least: usize, shape: Shape, n: usize) -> Result<()> {
    let units = n.checked_mul(shape.n_visible() + shape.n_hidden());
    if n >= least && units.is_some_and(|units| units <= i32::MAX as usize) {
        return Ok(());
    }
    let expected = format!("at least {least}, and as many as fit in memory");
    Err(Error::Argument { what, expected, found: n.to_string() })
}

pub(crate) fn check_k(k: usize) -> Result<()> {
    match k {
        0 => Err(Error::Argument { what: "k", expected: "at least 1".into(), found: "0".into() }),
        _ => Ok(()),
    }
}
