//! The conditionals of either layer, and chains of them.
//!
//! P(h_j = 1|v) = σ(c_j + (vW)_j) and P(v_i = 1|h) = σ(b_i + (hWᵀ)_i): given one layer the units of the other are
//! independent, so that a step of block Gibbs sampling draws a whole layer at once. A chain always goes on from *samples*;
//! means come with them for gradients and pictures.

use crate::{
    backend::{Activations, Backend, ChainState, Layer, Rows, Shape, Values},
    error::{Error, Result},
    rbm::{Resident, check},
    uniforms::Uniforms,
};

impl<B: Backend> Resident<B> {
    /// pre = vW + c and P(h|v) = σ(pre), into `hidden`.
    ///
    /// `v`: rows × n_visible, values in [0, 1]. Canonical on [`Cpu`](crate::Cpu).
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape.
    pub fn propup(&self, v: B::Batch<'_>, hidden: &mut Activations) -> Result<()> {
        self.conditional(Layer::Visible, v, None, hidden)
    }

    /// pre = hWᵀ + b and P(v|h) = σ(pre), into `visible`.
    ///
    /// `h`: rows × n_hidden, values in [0, 1]. Canonical on [`Cpu`](crate::Cpu).
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape.
    pub fn propdown(&self, h: B::Batch<'_>, visible: &mut Activations) -> Result<()> {
        self.conditional(Layer::Hidden, h, None, visible)
    }

    /// [`propup`](Self::propup), and h ~ P(h|v): unit (r, j) is on iff its number u < its mean. Draws rows·n_hidden numbers.
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape.
    pub fn sample_h_given_v(&self, v: B::Batch<'_>, draws: &mut Uniforms, hidden: &mut Activations) -> Result<()> {
        self.conditional(Layer::Visible, v, Some(draws), hidden)
    }

    /// [`propdown`](Self::propdown), and v ~ P(v|h). Draws rows·n_visible numbers.
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape.
    pub fn sample_v_given_h(&self, h: B::Batch<'_>, draws: &mut Uniforms, visible: &mut Activations) -> Result<()> {
        self.conditional(Layer::Hidden, h, Some(draws), visible)
    }

    /// v ~ P(v|h), then h' ~ P(h|v): one step of a chain on the hidden layer.
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape.
    pub fn gibbs_hvh(
        &self, h: B::Batch<'_>, draws: &mut Uniforms, visible: &mut Activations, hidden: &mut Activations,
    ) -> Result<()> {
        self.sample_v_given_h(h, draws, visible)?;
        let data = self.backend.load(Rows::new(Values::F32(&visible.sample), self.shape.n_visible())?)?;
        let rows = visible.sample.len() / self.shape.n_visible();
        self.sample_h_given_v(B::batch(&data, 0..rows), draws, hidden)
    }

    /// h ~ P(h|v), then v' ~ P(v|h): one step of a chain on the visible layer.
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape.
    pub fn gibbs_vhv(
        &self, v: B::Batch<'_>, draws: &mut Uniforms, hidden: &mut Activations, visible: &mut Activations,
    ) -> Result<()> {
        self.sample_h_given_v(v, draws, hidden)?;
        let data = self.backend.load(Rows::new(Values::F32(&hidden.sample), self.shape.n_hidden())?)?;
        let rows = hidden.sample.len() / self.shape.n_hidden();
        self.sample_v_given_h(B::batch(&data, 0..rows), draws, visible)
    }

    fn conditional(
        &self, given: Layer, rows: B::Batch<'_>, draws: Option<&mut Uniforms>, out: &mut Activations,
    ) -> Result<()> {
        let n = self.check_batch(given, rows)?;
        out.resize(n * self.shape.units(given.other()), draws.is_some());
        self.backend.activate(&self.parameters, given, rows, draws, out)
    }
}

/// M independent Gibbs chains of one RBM.
///
/// What lasts is the hidden state, as bits, one inverse temperature a chain and the place in the random sequence. The
/// visible state is made from it in every step. A sweep draws, step after step, M·n_visible numbers for v and M·n_hidden
/// for h, chain after chain: chain m is the same whatever the number of workers.
#[derive(Clone, Debug)]
pub struct Chains<B: Backend> {
    backend: B,
    shape: Shape,
    swept: bool,
    state: B::Chains,
}

impl<B: Backend> Chains<B> {
    /// Chains with all hidden units off: the tutorial's start of persistent chains.
    ///
    /// # Errors
    /// [`Error::Argument`] where `n_chains` is 0.
    pub fn new(backend: &B, shape: Shape, n_chains: usize, draws: Uniforms) -> Result<Self> {
        let words = shape.n_hidden().div_ceil(64);
        // So many units can be indexed by a BLAS and the CUDA kernels; and no length below can overflow.
        let units = n_chains.checked_mul(shape.n_visible() + shape.n_hidden());
        if units.is_none_or(|units| units > i32::MAX as usize) {
            return Err(no_chains(n_chains));
        }
        let hidden = n_chains * words;
        Self::from_state(
            backend,
            shape,
            &ChainState { hidden: vec![0; hidden], betas: vec![1.0; n_chains], uniforms: draws },
        )
    }

    /// Chains in a state taken earlier, perhaps on another device.
    ///
    /// # Errors
    /// [`Error::Argument`] where there is no chain, [`Error::Length`] where the bits do not fit the number of chains,
    /// [`Error::Value`] where an inverse temperature is not finite.
    pub fn from_state(backend: &B, shape: Shape, state: &ChainState) -> Result<Self> {
        let len = state.betas.len();
        if len == 0 {
            return Err(no_chains(0));
        }
        let words = shape.n_hidden().div_ceil(64);
        if state.hidden.len() != len * words {
            return Err(Error::Length { what: "chains", expected: len * words, found: state.hidden.len() });
        }
        check("betas", &state.betas, len)?;
        let last = shape.n_hidden() % 64;
        if last != 0 && state.hidden.chunks_exact(words).any(|chain| chain[words - 1] >> last != 0) {
            return Err(Error::Argument {
                what: "chains",
                expected: "no bit beyond the last hidden unit".into(),
                found: "one".into(),
            });
        }
        Ok(Self { backend: backend.clone(), shape, swept: false, state: backend.chains(shape, state)? })
    }

    /// Chains whose hidden states are drawn from P(h|v), one for each row of data.
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape.
    pub fn from_visible(rbm: &Resident<B>, v: B::Batch<'_>, draws: Uniforms) -> Result<Self> {
        let rows = rbm.check_batch(Layer::Visible, v)?;
        let mut chains = Self::new(&rbm.backend, rbm.shape, rows, draws)?;
        chains.backend.start(&rbm.parameters, &mut chains.state, v)?;
        Ok(chains)
    }

    /// How many chains there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        B::n_chains(&self.state)
    }

    /// k times: v ~ P(v|h), then h ~ P(h|v).
    ///
    /// Canonical on [`Cpu`](crate::Cpu): the same bits as k calls of [`Resident::gibbs_hvh`].
    ///
    /// # Errors
    /// [`Error::Argument`] where k is 0 or the RBM has another shape.
    pub fn sweep(&mut self, rbm: &Resident<B>, k: usize) -> Result<()> {
        check_k(k)?;
        self.check_shape(rbm)?;
        self.backend.sweep(&rbm.parameters, &mut self.state, k)?;
        self.swept = true;
        Ok(())
    }

    /// The visible layer of the last step: pre-activations, means and samples, chains × n_visible.
    ///
    /// # Errors
    /// [`Error::Argument`] where the chains have not moved yet.
    pub fn visible(&self, out: &mut Activations) -> Result<()> {
        if !self.swept {
            return Err(Error::Argument { what: "chains", expected: "a sweep before".into(), found: "none".into() });
        }
        out.resize(self.len() * self.shape.n_visible(), true);
        self.backend.visible(&self.state, out)
    }

    /// The hidden samples as numbers 0 and 1, chains × n_hidden.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn hidden(&self) -> Result<Vec<f32>> {
        let words = self.shape.n_hidden().div_ceil(64);
        let state = self.state()?;
        let bits = |chain: &[u64]| {
            (0..self.shape.n_hidden()).map(|j| (chain[j / 64] >> (j % 64) & 1) as f32).collect::<Vec<_>>()
        };
        Ok(state.hidden.chunks_exact(words).flat_map(bits).collect())
    }

    /// All that lasts of the chains.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn state(&self) -> Result<ChainState> {
        self.backend.chain_state(&self.state)
    }

    /// A copy that draws other numbers.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn drawing(&self, draws: Uniforms) -> Result<Self> {
        let state = ChainState { uniforms: draws, ..self.state()? };
        Self::from_state(&self.backend, self.shape, &state)
    }

    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    pub(crate) fn device_state(&mut self) -> &mut B::Chains {
        self.swept = true;
        &mut self.state
    }

    pub(crate) fn check_shape(&self, rbm: &Resident<B>) -> Result<()> {
        if self.shape == rbm.shape {
            return Ok(());
        }
        let text = |shape: Shape| format!("{} × {}", shape.n_visible(), shape.n_hidden());
        Err(Error::Argument { what: "rbm", expected: format!("shape {}", text(self.shape)), found: text(rbm.shape) })
    }
}

fn no_chains(n: usize) -> Error {
    Error::Argument {
        what: "n_chains",
        expected: "at least 1, and as many as fit in memory".into(),
        found: n.to_string(),
    }
}

pub(crate) fn check_k(k: usize) -> Result<()> {
    match k {
        0 => Err(Error::Argument { what: "k", expected: "at least 1".into(), found: "0".into() }),
        _ => Ok(()),
    }
}
