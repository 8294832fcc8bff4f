//! What lives on the device: parameters, chains, data, the statistics of an update.
//!
//! Rows of weights, and whatever has a number for each unit, are padded to [`LINE`] floats, so that each begins on a memory
//! line of its own. Bits are as the host has them, in words half as wide.

use super::launch::{self, Buffer, Graph, Grid, Ptr, Side};
use crate::{
    backend::{ChainState, Layer, Shape},
    error::{CudaError, Error, Result},
    uniforms::Uniforms,
};
use cudarc::driver::CudaStream;
use std::{marker::PhantomData, sync::Arc};

/// Floats of a memory line.
const LINE: usize = 32;

/// How far apart rows of so many units are.
pub(super) fn stride(units: usize) -> usize {
    units.next_multiple_of(LINE)
}

/// How many 32-bit words hold the bits of a layer.
pub(super) fn words(units: usize) -> usize {
    units.div_ceil(64) * 2
}

/// A count as the kernels take it.
pub(super) fn count(what: &'static str, n: usize) -> Result<u32> {
    // As many blocks as a grid may have.
    const LIMIT: usize = i32::MAX as usize;
    if n > LIMIT {
        return Err(Error::Cuda(CudaError::TooLarge { what, limit: LIMIT, found: n }));
    }
    Ok(n as u32)
}

/// Rows with the stride of the device.
pub(super) fn pad(rows: &[f32], units: usize) -> Vec<f32> {
    let mut padded = vec![0.0; rows.len() / units * stride(units)];
    for (to, from) in padded.chunks_exact_mut(stride(units)).zip(rows.chunks_exact(units)) {
        to[..units].copy_from_slice(from);
    }
    padded
}

/// Undoes [`pad`], as far as `rows` goes.
pub(super) fn strip(padded: &[f32], units: usize, rows: &mut [f32]) {
    for (to, from) in rows.chunks_exact_mut(units).zip(padded.chunks_exact(stride(units))) {
        to.copy_from_slice(&from[..units]);
    }
}

/// How many threads a block has where each makes one unit.
pub(super) fn threads(units: u32) -> u32 {
    units.next_multiple_of(32).min(1024)
}

pub(super) fn blocks(what: &'static str, n: usize) -> Result<u32> {
    count(what, n.div_ceil(256))
}

/// Sixteen threads for each row.
pub(super) fn sixteen_a_row(rows: u32) -> Grid {
    Grid::new(rows.div_ceil(8), 128)
}

/// A block of 256 threads for each 32 × 32 weights.
pub(super) fn tiles_of(parameters: &launch::Parameters) -> Result<Grid> {
    let tiles = parameters.n_visible.div_ceil(32) as usize * parameters.n_hidden.div_ceil(32) as usize;
    Ok(Grid::new(count("weights", tiles)?, 256))
}

pub(super) fn rows_of(batch: Batch<'_>, turn: &Turn) -> Result<launch::Rows> {
    Ok(launch::Rows {
        place: turn.rows(),
        rows: count("rows", batch.rows)?,
        stride: count("units", batch.units)?,
        eight_bit: u32::from(batch.eight_bit),
    })
}

/// Bits as numbers 0 and 1.
pub(super) fn unpack(bits: &[u32], units: usize, out: &mut [f32]) {
    for (row, bits) in out.chunks_exact_mut(units).zip(bits.chunks_exact(words(units))) {
        for (j, x) in row.iter_mut().enumerate() {
            *x = (bits[j / 32] >> (j % 32) & 1) as f32;
        }
    }
}

/// Shared memory, copied when somebody writes to it whom it does not belong to alone.
#[derive(Debug)]
pub(super) struct Shared<T>(Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// What can be copied on the device.
pub(super) trait Copied: Sized {
    fn copied(&self, stream: &Arc<CudaStream>) -> Result<Self>;
}

impl<T: Copied> Shared<T> {
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }

    /// The value, to be written to.
    pub fn own(&mut self, stream: &Arc<CudaStream>) -> Result<&mut T> {
        if Arc::get_mut(&mut self.0).is_none() {
            self.0 = Arc::new(self.0.copied(stream)?);
        }
        // There is one reference to what was just made.
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
    /// n_visible + 1 rows, the last one zeros.
    pub weights: Buffer<f32>,
    /// n_hidden + 1 rows, the last one zeros.
    pub transposed: Buffer<f32>,
    pub visible_bias: Buffer<f32>,
    pub hidden_bias: Buffer<f32>,
}

impl Numbers {
    /// `transposed` and the row of zeros are made but not filled.
    pub fn new(
        stream: &Arc<CudaStream>, shape: Shape, weights: &[f32], visible_bias: &[f32], hidden_bias: &[f32],
    ) -> Result<Self> {
        let (nv, nh) = (shape.n_visible(), shape.n_hidden());
        let mut new = Self {
            weights: Buffer::zeros(stream, (nv + 1) * stride(nh))?,
            transposed: Buffer::zeros(stream, (nh + 1) * stride(nv))?,
            visible_bias: Buffer::zeros(stream, stride(nv))?,
            hidden_bias: Buffer::zeros(stream, stride(nh))?,
        };
        new.weights.write(stream, &pad(weights, nh))?;
        new.visible_bias.write(stream, visible_bias)?;
        new.hidden_bias.write(stream, hidden_bias)?;
        Ok(new)
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

    pub fn arguments(&self, shape: Shape) -> launch::Parameters {
        launch::Parameters {
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
pub struct Parameters {
    pub(super) shape: Shape,
    pub(super) numbers: Shared<Numbers>,
}

impl Parameters {
    /// The way from the layer `given` to the other one.
    pub(super) fn side(&self, given: Layer) -> Side {
        let (weights, bias) = match given {
            Layer::Visible => (&self.numbers.weights, &self.numbers.hidden_bias),
            Layer::Hidden => (&self.numbers.transposed, &self.numbers.visible_bias),
        };
        let made = self.shape.units(given.other());
        Side {
            weights: weights.ptr(),
            bias: bias.ptr(),
            reference: Ptr::NULL,
            given: self.shape.units(given) as u32,
            made: made as u32,
            stride: stride(made) as u32,
        }
    }
}

/// The numbers of some chains.
#[derive(Debug)]
pub(super) struct States {
    /// The generator's state where the next draw stands.
    pub generator: Buffer<u64>,
    pub betas: Buffer<f32>,
    pub hidden: Buffer<u32>,
    /// Of the last step of the last sweep.
    pub visible: Buffer<u32>,
    pub visible_pre: Buffer<f32>,
    pub hidden_mean: Buffer<f32>,
    /// Visible and hidden states as numbers, where the gemm road moves the chains: room for one sweep, nothing that lasts.
    pub numbers: Option<[Buffer<f32>; 2]>,
}

impl Copied for States {
    fn copied(&self, stream: &Arc<CudaStream>) -> Result<Self> {
        Ok(Self {
            generator: self.generator.copy(stream)?,
            betas: self.betas.copy(stream)?,
            hidden: self.hidden.copy(stream)?,
            visible: self.visible.copy(stream)?,
            visible_pre: self.visible_pre.copy(stream)?,
            hidden_mean: self.hidden_mean.copy(stream)?,
            numbers: None,
        })
    }
}

/// The states of M chains.
#[derive(Clone, Debug)]
pub struct Chains {
    pub(super) shape: Shape,
    /// What the host knows without asking: where the device's generator stands, and the inverse temperatures.
    pub(super) uniforms: Uniforms,
    pub(super) betas: Vec<f32>,
    pub(super) states: Shared<States>,
}

impl Chains {
    pub(super) fn new(stream: &Arc<CudaStream>, shape: Shape, state: &ChainState) -> Result<Self> {
        let chains = state.betas.len();
        count("chains", chains)?;
        let (nv, nh) = (shape.n_visible(), shape.n_hidden());
        let halves: Vec<u32> = state.hidden.iter().flat_map(|&word| [word as u32, (word >> 32) as u32]).collect();
        let states = States {
            generator: Buffer::of(stream, &[state.uniforms.state()])?,
            betas: Buffer::of(stream, &state.betas)?,
            hidden: Buffer::of(stream, &halves)?,
            visible: Buffer::zeros(stream, chains * words(nv))?,
            visible_pre: Buffer::zeros(stream, chains * stride(nv))?,
            hidden_mean: Buffer::zeros(stream, chains * stride(nh))?,
            numbers: None,
        };
        Ok(Self { shape, uniforms: state.uniforms.clone(), betas: state.betas.clone(), states: Shared::new(states) })
    }

    /// Makes them `n` chains, whose states are to be set; new ones are cold.
    pub(super) fn resize(&mut self, stream: &Arc<CudaStream>, n: usize) -> Result<()> {
        if n == self.betas.len() {
            return Ok(());
        }
        let mut betas = self.betas.clone();
        betas.resize(n, 1.0);
        let hidden = vec![0; n * words(self.shape.n_hidden()) / 2];
        *self = Self::new(stream, self.shape, &ChainState { hidden, betas, uniforms: self.uniforms.clone() })?;
        Ok(())
    }

    pub(super) fn state(&self, stream: &Arc<CudaStream>) -> Result<ChainState> {
        let halves = self.states.hidden.read(stream)?;
        let hidden = halves.chunks_exact(2).map(|half| u64::from(half[0]) | u64::from(half[1]) << 32).collect();
        Ok(ChainState { hidden, betas: self.betas.clone(), uniforms: self.uniforms.clone() })
    }

    pub(super) fn arguments(&self) -> launch::Chains {
        let States { betas, hidden, visible, visible_pre, hidden_mean, .. } = &*self.states;
        launch::Chains {
            hidden: hidden.ptr(),
            betas: betas.ptr(),
            visible: visible.ptr(),
            visible_pre: visible_pre.ptr(),
            hidden_mean: hidden_mean.ptr(),
        }
    }
}

/// Rows of data, as wide as they came.
#[derive(Debug)]
pub(super) enum Values {
    U8(Buffer<u8>),
    F32(Buffer<f32>),
}

/// A data set in device memory.
#[derive(Debug)]
pub struct Data<'a> {
    pub(super) values: Values,
    pub(super) rows: usize,
    pub(super) units: usize,
    pub(super) host: PhantomData<&'a ()>,
}

/// Some rows of it.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub(super) address: u64,
    pub(super) rows: usize,
    pub(super) units: usize,
    pub(super) eight_bit: bool,
    pub(super) data: PhantomData<&'a ()>,
}

/// Which rows, and which bit, the kernels look at; where to find the hidden means of the batch as rows.
#[derive(Debug)]
pub(super) struct Turn(pub Buffer<u64>);

impl Turn {
    pub fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        Buffer::zeros(stream, 3).map(Self)
    }

    pub fn rows(&self) -> Ptr<u64> {
        self.0.ptr()
    }

    pub fn bit(&self) -> Ptr<u32> {
        self.0.ptr().offset(1).cast()
    }

    pub fn means(&self) -> Ptr<u64> {
        self.0.ptr().offset(2)
    }
}

/// A captured update, and what it was captured with: sizes and addresses. Where those are the same it can be replayed.
#[derive(Debug)]
pub(super) struct Captured {
    pub key: [u64; 24],
    /// None where the launches were made once, but not recorded yet.
    pub graph: Option<Graph>,
}

/// What an update needs besides parameters, data and chains.
#[derive(Debug)]
pub struct Work {
    pub(super) turn: Turn,
    /// Of how many rows the following have room.
    pub(super) rows: usize,
    /// P, the hidden means of the batch.
    pub(super) positive: Buffer<f32>,
    /// What was watched, for each row of the batch.
    pub(super) values: Buffer<f64>,
    /// What only some monitors need: pre-activations, their means on and off, the terms of every bit.
    pub(super) pre: Buffer<f32>,
    pub(super) means: Buffer<f32>,
    pub(super) terms: Buffer<f64>,
    /// The gemm road's: the batch's rows and the chains' visible states as numbers.
    pub(super) numbers: [Buffer<f32>; 2],
    /// The sum over updates of the mean of what was watched.
    pub(super) watched: Buffer<f64>,
    /// Only records.
    pub(super) recorder: Arc<CudaStream>,
    pub(super) captured: Option<Captured>,
}
