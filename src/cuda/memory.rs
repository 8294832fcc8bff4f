//! The objects on the device besides data: parameters and chains.

use super::{
    arguments::{ChainsArgument, ParametersArgument, RowsArgument, SideArgument},
    buffer::{Buffer, Ptr},
    data::{Batch, Cursor, Data},
    descend::CudaRule,
    handle::Cuda,
    sizes::{block_of_weights, count, pad, stride, strip, words},
    visible::Laws,
    work::CudaWork,
};
use crate::{
    descent::RuleState,
    error::{CudaError, Error, Result},
    rbm::{RbmMut, RbmRef},
    rows::Rows,
    shape::{Layer, Shape},
    uniforms::Uniforms,
    verbs::{ChainState, Memory},
};
use cudarc::driver::CudaStream;
use std::sync::Arc;

impl Memory for Cuda {
    type Parameters = CudaParameters;
    type Chains = CudaChains;
    type Work = CudaWork;
    type Rule = CudaRule;
    type Batch<'a> = Batch<'a>;

    fn upload(&self, rbm: RbmRef<'_>) -> Result<CudaParameters> {
        let (stream, shape) = (self.stream(), rbm.shape());
        let mut numbers = Numbers::new(stream, shape)?;
        numbers.weights.write(stream, &pad(rbm.weights(), shape.n_hidden()))?;
        numbers.visible_bias.write(stream, rbm.visible_bias())?;
        numbers.hidden_bias.write(stream, rbm.hidden_bias())?;
        self.transpose(numbers.argument(shape))?;
        Ok(CudaParameters { shape, numbers: Shared::new(numbers), laws: Laws::of(stream, rbm)? })
    }

    fn download(&self, parameters: &CudaParameters, to: RbmMut<'_>) -> Result<()> {
        let (weights, visible_bias, hidden_bias, log_variance) = to.parts();
        if let Some(laws) = &parameters.laws {
            log_variance.fill(0.0);
            log_variance.iter_mut().zip(&laws.log_variance).for_each(|(to, from)| *to = *from);
        }
        parameters.numbers.read(self.stream(), parameters.shape, weights, visible_bias, hidden_bias)
    }

    fn chains(&self, shape: Shape, state: &ChainState) -> Result<CudaChains> {
        CudaChains::new(self.stream(), shape, state)
    }

    fn n_chains(chains: &CudaChains) -> usize {
        chains.len()
    }

    fn chain_state(&self, chains: &CudaChains) -> Result<ChainState> {
        let hidden = chains.states.hidden.read(self.stream())?;
        Ok(ChainState { hidden, betas: chains.betas.clone(), uniforms: chains.uniforms.clone() })
    }

    fn temper(&self, chains: &mut CudaChains, betas: &[f32]) -> Result<()> {
        chains.betas.copy_from_slice(betas);
        chains.own(self.stream(), false)?.betas.write(self.stream(), betas)
    }

    fn work(&self, _: Shape) -> Result<CudaWork> {
        CudaWork::new(self)
    }

    fn rule(&self, shape: Shape, state: &RuleState) -> Result<CudaRule> {
        CudaRule::new(self.stream(), shape, state)
    }

    fn rule_state(&self, rule: &CudaRule, shape: Shape) -> Result<RuleState> {
        rule.state(self.stream(), shape)
    }
}

impl Cuda {
    /// Computes the transposed weights.
    pub(super) fn transpose(&self, parameters: ParametersArgument) -> Result<()> {
        self.run().transpose(self.stream(), block_of_weights(&parameters, [32, 32])?, parameters)
    }
}

/// Copy-on-write memory: shared between clones, and copied by the first writer that is not the only owner.
#[derive(Debug)]
pub(super) struct Shared<T>(Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Objects that can be copied on the device.
pub(super) trait Copied: Sized {
    fn copied(&self, stream: &Arc<CudaStream>) -> Result<Self>;
}

impl<T: Copied> Shared<T> {
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }

    /// The value for writing; copies it first if it is shared.
    pub fn own(&mut self, stream: &Arc<CudaStream>) -> Result<&mut T> {
        if Arc::get_mut(&mut self.0).is_none() {
            self.0 = Arc::new(self.0.copied(stream)?);
        }
        // The new copy has one reference.
        Arc::get_mut(&mut self.0).ok_or_else(|| {
            Error::Cuda(CudaError::Failed { call: "copy on write", problem: "the copy is shared already".into() })
        })
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The parameters of an RBM, or a gradient.
#[derive(Debug)]
pub(super) struct Numbers {
    /// n_visible + 1 rows; the last one is zeros.
    pub weights: Buffer<f32>,
    /// n_hidden + 1 rows; the last one is zeros.
    pub transposed: Buffer<f32>,
    pub visible_bias: Buffer<f32>,
    pub hidden_bias: Buffer<f32>,
}

impl Numbers {
    /// All 0.
    pub fn new(stream: &Arc<CudaStream>, shape: Shape) -> Result<Self> {
        Ok(Self {
            transposed: Buffer::zeros(stream, (shape.n_hidden() + 1) * stride(shape.n_visible()))?,
            ..Self::gradient(stream, shape)?
        })
    }

    /// All 0, without transposed weights.
    pub fn gradient(stream: &Arc<CudaStream>, shape: Shape) -> Result<Self> {
        Ok(Self {
            weights: Buffer::zeros(stream, (shape.n_visible() + 1) * stride(shape.n_hidden()))?,
            transposed: Buffer::EMPTY,
            visible_bias: Buffer::zeros(stream, stride(shape.n_visible()))?,
            hidden_bias: Buffer::zeros(stream, stride(shape.n_hidden()))?,
        })
    }

    pub fn read(
        &self, stream: &Arc<CudaStream>, shape: Shape, weights: &mut [f32], visible_bias: &mut [f32],
        hidden_bias: &mut [f32],
    ) -> Result<()> {
        strip(&self.weights.read(stream)?, shape.n_hidden(), weights);
        strip(&self.visible_bias.read(stream)?, shape.n_visible(), visible_bias);
        strip(&self.hidden_bias.read(stream)?, shape.n_hidden(), hidden_bias);
        Ok(())
    }

    pub fn argument(&self, shape: Shape) -> ParametersArgument {
        ParametersArgument {
            weights: self.weights.ptr(),
            transposed: self.transposed.ptr(),
            visible_bias: self.visible_bias.ptr(),
            hidden_bias: self.hidden_bias.ptr(),
            n_visible: shape.n_visible() as u32,
            n_hidden: shape.n_hidden() as u32,
            weights_stride: stride(shape.n_hidden()) as u32,
            transposed_stride: stride(shape.n_visible()) as u32,
        }
    }
}

impl Copied for Numbers {
    fn copied(&self, stream: &Arc<CudaStream>) -> Result<Self> {
        Ok(Self {
            weights: self.weights.copy(stream)?,
            transposed: self.transposed.copy(stream)?,
            visible_bias: self.visible_bias.copy(stream)?,
            hidden_bias: self.hidden_bias.copy(stream)?,
        })
    }
}

/// The parameters of an RBM.
#[derive(Clone, Debug)]
pub struct CudaParameters {
    pub(super) shape: Shape,
    pub(super) numbers: Shared<Numbers>,
    /// None if all visible units are binary.
    pub(super) laws: Option<Arc<Laws>>,
}

impl CudaParameters {
    /// The direction from the layer `given` to the other one.
    pub(super) fn side(&self, given: Layer) -> SideArgument {
        let (weights, bias) = match given {
            Layer::Visible => (&self.numbers.weights, &self.numbers.hidden_bias),
            Layer::Hidden => (&self.numbers.transposed, &self.numbers.visible_bias),
        };
        let made = self.shape.units(given.other());
        SideArgument {
            weights: weights.ptr(),
            bias: bias.ptr(),
            reference: Ptr::NULL,
            given: self.shape.units(given) as u32,
            made: made as u32,
            stride: stride(made) as u32,
        }
    }
}

/// The states of some chains.
#[derive(Debug)]
pub(super) struct States {
    /// The generator's state at the next draw.
    pub generator: Buffer<u64>,
    pub betas: Buffer<f32>,
    pub hidden: Buffer<u64>,
    /// After the last step of the last sweep: visible bits, or states as numbers if not all visible units are binary.
    pub visible: Buffer<u64>,
    pub values: Buffer<f32>,
    pub visible_pre: Buffer<f32>,
    pub hidden_mean: Buffer<f32>,
    /// Visible and hidden states as numbers, as the other layer reads them, if layers are computed from numbers. Scratch of one
    /// sweep.
    pub numbers: [Buffer<f32>; 2],
    /// The weights on a grid. Scratch of one sweep.
    pub grid: Buffer<u32>,
    /// The addresses of both, for kernels that read them as rows.
    pub places: Buffer<u64>,
}

impl Copied for States {
    fn copied(&self, stream: &Arc<CudaStream>) -> Result<Self> {
        Ok(Self {
            generator: self.generator.copy(stream)?,
            betas: self.betas.copy(stream)?,
            hidden: self.hidden.copy(stream)?,
            visible: self.visible.copy(stream)?,
            values: self.values.copy(stream)?,
            visible_pre: self.visible_pre.copy(stream)?,
            hidden_mean: self.hidden_mean.copy(stream)?,
            numbers: [Buffer::EMPTY, Buffer::EMPTY],
            grid: Buffer::EMPTY,
            places: Buffer::EMPTY,
        })
    }
}

/// The states of M chains.
#[derive(Clone, Debug)]
pub struct CudaChains {
    pub(super) shape: Shape,
    /// The host's copies: the position of the device's generator, and the inverse temperatures.
    pub(super) uniforms: Uniforms,
    pub(super) betas: Vec<f32>,
    pub(super) states: Shared<States>,
    pub(super) held: Option<Arc<Held>>,
}

/// Rows of visible states and their cursor: chain m keeps the present values of row m mod rows.
#[derive(Debug)]
pub(super) struct Held {
    data: Data,
    cursor: Cursor,
}

impl Held {
    pub fn new(cuda: &Cuda, rows: Rows<'_>) -> Result<Self> {
        let data = Data::new(cuda, rows)?;
        let cursor = Cursor::at(data.range(0..data.len()), 0)?;
        Ok(Self { data, cursor })
    }

    pub fn kept(&self) -> Result<Kept<'_>> {
        let batch = self.data.range(0..self.data.len());
        Ok(Kept { batch, rows: batch.argument(&self.cursor)?, left_out: false })
    }
}

/// The values that chain m keeps in its visible states: the present ones of row m mod rows; or if `left_out`, 0 for the missing
/// ones of that row.
#[derive(Clone, Copy)]
pub(super) struct Kept<'a> {
    pub batch: Batch<'a>,
    pub rows: RowsArgument,
    pub left_out: bool,
}

impl CudaChains {
    fn new(stream: &Arc<CudaStream>, shape: Shape, state: &ChainState) -> Result<Self> {
        let chains = state.betas.len();
        count("chains", chains)?;
        let (nv, nh, binary) = (shape.n_visible(), shape.n_hidden(), shape.visible().is_binary());
        let states = States {
            generator: Buffer::of(stream, &[state.uniforms.state()])?,
            betas: Buffer::of(stream, &state.betas)?,
            hidden: Buffer::of(stream, &state.hidden)?,
            visible: Buffer::zeros(stream, if binary { chains * words(nv) } else { 0 })?,
            values: Buffer::zeros(stream, if binary { 0 } else { chains * stride(nv) })?,
            visible_pre: Buffer::zeros(stream, chains * stride(nv))?,
            hidden_mean: Buffer::zeros(stream, chains * stride(nh))?,
            numbers: [Buffer::EMPTY, Buffer::EMPTY],
            grid: Buffer::EMPTY,
            places: Buffer::EMPTY,
        };
        let (uniforms, betas) = (state.uniforms.clone(), state.betas.clone());
        Ok(Self { shape, uniforms, betas, states: Shared::new(states), held: None })
    }

    pub(super) fn len(&self) -> usize {
        self.betas.len()
    }

    /// Changes the number of chains to `n`. The caller must set their states; new ones have β = 1.
    pub(super) fn resize(&mut self, stream: &Arc<CudaStream>, n: usize) -> Result<()> {
        if n == self.len() {
            return Ok(());
        }
        let mut betas = self.betas.clone();
        betas.resize(n, 1.0);
        let hidden = vec![0; n * words(self.shape.n_hidden())];
        let state = ChainState { hidden, betas, uniforms: self.uniforms.clone() };
        *self = Self { held: self.held.take(), ..Self::new(stream, self.shape, &state)? };
        Ok(())
    }

    /// The values that they keep in their visible states.
    pub(super) fn kept(&self) -> Result<Option<Kept<'_>>> {
        self.held.as_ref().map(|held| held.kept()).transpose()
    }

    /// Copies the states if they are shared. Allocates both layers as numbers if chains move a layer at a time (`by_layers`), or if
    /// not all visible units are binary.
    pub(super) fn own(&mut self, stream: &Arc<CudaStream>, by_layers: bool) -> Result<&mut States> {
        let visible = self.shape.visible();
        let n = if by_layers || !visible.is_binary() { self.len() } else { 0 };
        let states = self.states.own(stream)?;
        let own = visible.is_binary() || !visible.is_discrete();
        states.numbers[0].grow(stream, if own { n * stride(self.shape.n_visible()) } else { 0 })?;
        if states.numbers[1].grow(stream, n * stride(self.shape.n_hidden()))? {
            let visible = if own { states.numbers[0].ptr() } else { states.values.ptr() };
            states.places = Buffer::of(stream, &[visible.address, states.numbers[1].ptr().address])?;
        }
        Ok(states)
    }

    /// The rows of a layer's states as numbers, as the other layer reads them.
    pub(super) fn rows(&self, layer: Layer) -> Result<RowsArgument> {
        let (place, units) = (layer as usize, self.shape.units(layer));
        Ok(RowsArgument {
            place: self.states.places.ptr().offset(place),
            missing: Ptr::NULL,
            rows: count("chains", self.len())?,
            stride: stride(units) as u32,
            eight_bit: 0,
        })
    }

    pub(super) fn argument(&self) -> ChainsArgument {
        let States { betas, hidden, visible, visible_pre, hidden_mean, .. } = &*self.states;
        ChainsArgument {
            hidden: hidden.ptr().cast(),
            betas: betas.ptr(),
            visible: visible.ptr().cast(),
            visible_pre: visible_pre.ptr(),
            hidden_mean: hidden_mean.ptr(),
        }
    }
}
