//! The conditionals of either layer, and chains of them.
//!
//! P(h_j = 1|v) = σ(c_j + (vW)_j) and P(v_i = 1|h) = σ(b_i + (hWᵀ)_i): given one layer the units of the other are
//! independent, so that a step of block Gibbs sampling draws a whole layer at once. A chain always goes on from *samples*;
//! means come with them for gradients and pictures.

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
    /// pre = vW + c and P(h|v) = σ(pre), into `hidden`.
    ///
    /// `v`: rows × n_visible, values in [0, 1]. Canonical on [`Cpu`](crate::Cpu).
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape.
    pub fn propup<'a>(&self, v: impl Into<Batch<'a>>, hidden: &mut Activations) -> Result<()> {
        self.conditional(Layer::Visible, v, None, hidden)
    }

    /// pre = hWᵀ + b and P(v|h) = σ(pre), into `visible`.
    ///
    /// `h`: rows × n_hidden, values in [0, 1]. Canonical on [`Cpu`](crate::Cpu).
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape.
    pub fn propdown<'a>(&self, h: impl Into<Batch<'a>>, visible: &mut Activations) -> Result<()> {
        self.conditional(Layer::Hidden, h, None, visible)
    }

    /// [`propup`](Self::propup), and h ~ P(h|v): unit (r, j) is on iff its number u < its mean. Draws rows·n_hidden numbers.
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape.
    pub fn sample_h_given_v<'a>(
        &self, v: impl Into<Batch<'a>>, draws: &mut Uniforms, hidden: &mut Activations,
    ) -> Result<()> {
        self.conditional(Layer::Visible, v, Some(draws), hidden)
    }

    /// [`propdown`](Self::propdown), and v ~ P(v|h). Draws rows·n_visible numbers.
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape.
    pub fn sample_v_given_h<'a>(
        &self, h: impl Into<Batch<'a>>, draws: &mut Uniforms, visible: &mut Activations,
    ) -> Result<()> {
        self.conditional(Layer::Hidden, h, Some(draws), visible)
    }

    /// v ~ P(v|h), then h' ~ P(h|v): one step of a chain on the hidden layer.
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape.
    pub fn gibbs_hvh<'a>(
        &self, h: impl Into<Batch<'a>>, draws: &mut Uniforms, visible: &mut Activations, hidden: &mut Activations,
    ) -> Result<()> {
        self.sample_v_given_h(h, draws, visible)?;
        self.sample_h_given_v(self.rows(Layer::Visible, &visible.sample), draws, hidden)
    }

    /// h ~ P(h|v), then v' ~ P(v|h): one step of a chain on the visible layer.
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape.
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

/// M independent Gibbs chains of one RBM.
///
/// What lasts is the hidden state, as bits, one inverse temperature a chain and the place in the random sequence. The
/// visible state is made from it in every step. A sweep draws, step after step, M·n_visible numbers for v and M·n_hidden
/// for h, chain after chain: chain m is the same whatever the number of workers.
#[derive(Clone, Debug)]
pub struct Chains {
    device: Device,
    shape: Shape,
    swept: bool,
    state: States,
    /// What visible units are held at.
    held: Option<Dataset>,
}

impl Chains {
    /// Chains with all hidden units off: the tutorial's start of persistent chains.
    ///
    /// # Errors
    /// [`Error::Argument`] where `n_chains` is 0.
    pub fn new(device: impl Into<Device>, shape: Shape, n_chains: usize, draws: Uniforms) -> Result<Self> {
        check_number("n_chains", 1, shape, n_chains)?;
        let hidden = n_chains * shape.n_hidden().div_ceil(64);
        let state = ChainState { hidden: vec![0; hidden], betas: vec![1.0; n_chains], uniforms: draws };
        Self::from_state(device, shape, &state)
    }

    /// Chains in a state taken earlier, perhaps on another device.
    ///
    /// # Errors
    /// [`Error::Argument`] where there is no chain or too many, [`Error::Length`] where the bits do not fit the number of chains,
    /// [`Error::Value`] where an inverse temperature is not finite, or not above 0 where there are Gaussian units: at 0 they have
    /// no distribution.
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

    /// Chains whose hidden states are drawn from P(h|v), one for each row of data.
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape.
    pub fn from_visible<'a>(rbm: &Resident, v: impl Into<Batch<'a>>, draws: Uniforms) -> Result<Self> {
        rbm.reading(Layer::Visible, v.into(), |rows| {
            let mut chains = Self::new(&rbm.device, rbm.shape, rows.len(), draws)?;
            rbm.device.start(&rbm.parameters, &mut chains.state, rows.0)?;
            Ok(chains)
        })
    }

    /// Chains whose hidden units are drawn by their biases alone, h_j ~ Bernoulli(σ(c_j)), which is P(h|v) at v = 0.
    ///
    /// For persistent chains beside [`Rbm::from_data`](crate::Rbm::from_data): their first step draws visible layers about as
    /// dense as the data. Draws M·n_hidden numbers, chain after chain; canonical on [`Cpu`](crate::Cpu).
    ///
    /// # Errors
    /// [`Error::Argument`] where `n_chains` is 0.
    pub fn from_hidden_bias(rbm: &Resident, n_chains: usize, draws: Uniforms) -> Result<Self> {
        check_number("n_chains", 1, rbm.shape, n_chains)?;
        let nothing = vec![0; n_chains * rbm.shape.n_visible()];
        Self::from_visible(rbm, Rows::of(Values::U8(&nothing), rbm.shape.visible()), draws)
    }

    /// Holds visible units where they are said to be: from now on chain m leaves those of `v`'s row m that are there at their
    /// values, and draws the others, those that are missing ([`Dataset::with_missing`]), from P(v|h).
    ///
    /// `v`: as many rows as chains; binary units have 0 or 1. What is held has no distribution: it is the last step's sample
    /// and mean too ([`visible`](Self::visible)). All units draw their numbers, held or not, so that the others' do not depend
    /// on it. The chains then sample P(v_missing, h | v_there): Gibbs sampling of a conditional distribution is that of the
    /// joint one with the given units fixed.
    ///
    /// [`state`](Self::state) has the hidden layer alone, without what is held.
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
    /// # Errors
    /// [`Error::Argument`] where there are not as many rows as chains, or rows of other units; [`Error::Law`] where a value is none
    /// that its law allows, or that of a binary unit neither 0 nor 1; what the device says, on the CPU nothing.
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
                let (law, expected, found) = ("binary", "0 or 1 where it is held", rows.value(r, i));
                return Err(Error::Law { row: r, column: i, law, expected, found });
            }
        }
        self.device.hold(&mut self.state, Some(rows))?;
        self.held = Some(given);
        Ok(())
    }

    /// Lets all visible units move again.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn release(&mut self) -> Result<()> {
        self.held = None;
        self.device.hold(&mut self.state, None)
    }

    /// How many chains there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.state.len()
    }

    /// k times: v ~ P(v|h), then h ~ P(h|v).
    ///
    /// Canonical on [`Cpu`](crate::Cpu): the same bits as k calls of [`Resident::gibbs_hvh`].
    ///
    /// # Errors
    /// [`Error::Argument`] where k is 0 or the RBM has another shape.
    pub fn sweep(&mut self, rbm: &Resident, k: usize) -> Result<()> {
        check_k(k)?;
        self.check_belongs(rbm)?;
        self.device.sweep(&rbm.parameters, &mut self.state, k)?;
        self.swept = true;
        Ok(())
    }

    /// The visible layer of the last step: pre-activations, means and samples, chains × n_visible.
    ///
    /// Chains that have not moved yet have no last step; what comes then is the layer that their first step is going to draw.
    ///
    /// # Errors
    /// [`Error::Argument`] where the RBM has another shape, [`Error::Device`] where it is on another device.
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
    /// What the device says; on the CPU none.
    pub fn hidden(&self) -> Result<Vec<f32>> {
        let mut hidden = vec![0.0; self.len() * self.shape.n_hidden()];
        unpack(&self.state()?.hidden, self.shape.n_hidden(), &mut hidden);
        Ok(hidden)
    }

    /// All that lasts of the chains.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn state(&self) -> Result<ChainState> {
        self.device.chain_state(&self.state)
    }

    /// A copy that draws other numbers; it holds what these hold.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn drawing(&self, draws: Uniforms) -> Result<Self> {
        let state = ChainState { uniforms: draws, ..self.state()? };
        let mut copy = Self::from_state(&self.device, self.shape, &state)?;
        if let Some(held) = &self.held {
            copy.hold(held.rows())?;
        }
        Ok(copy)
    }

    /// Gives each chain another inverse temperature, one that [`from_state`](Self::from_state) would take.
    pub(crate) fn temper(&mut self, betas: &[f32]) -> Result<()> {
        self.device.temper(&mut self.state, betas)
    }

    /// What visible units are held at.
    pub(crate) fn held(&self) -> Option<Rows<'_>> {
        self.held.as_ref().map(Dataset::rows)
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// The device that they are on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The states, for a verb that moves them.
    pub(crate) fn states_mut(&mut self) -> &mut States {
        self.swept = true;
        &mut self.state
    }

    /// Fails where others are of another shape or on another device.
    pub(crate) fn check_like(&self, others: &Chains) -> Result<()> {
        if self.shape != others.shape {
            let (expected, found) = self.shape.told_from(others.shape);
            return Err(Error::Argument { what: "chains", expected, found });
        }
        self.device.check("chains", &others.device)
    }

    pub(crate) fn check_belongs(&self, rbm: &Resident) -> Result<()> {
        rbm.check_belongs("chains", &self.device, self.shape)
    }
}

/// There must be at least `least` chains, and no more units than a BLAS and the CUDA kernels can index; then no length that is
/// made of them overflows.
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
