//! The chains that a process moves: all of them, or with several ranks a contiguous share.
//!
//! Every rank has buffers for all chains. A share consists of addresses within them, and of the positions of its random numbers
//! among those of all chains.

use super::{
    arguments::RowsArgument,
    buffer::{Buffer, Ptr},
    data::Cursor,
    handle::Cuda,
    memory::{CudaChains, Kept},
    sizes::{count, stride, words},
};
use crate::{
    error::Result,
    shape::{Layer, Shape},
};

/// The arguments of kernels for a share of the chains.
pub(super) struct Share {
    pub shape: Shape,
    /// The number of the first chain, the number of chains here, and the number of chains of all processes.
    pub first: usize,
    pub n: u32,
    all: u64,
    pub generator: Ptr<u64>,
    pub betas: Ptr<f32>,
    pub hidden: Ptr<u32>,
    pub visible: Ptr<u32>,
    pub values: Ptr<f32>,
    pub visible_pre: Ptr<f32>,
    pub hidden_mean: Ptr<f32>,
    /// Visible states as hidden layers read them, and hidden states; both as numbers.
    pub numbers: [Ptr<f32>; 2],
    /// The addresses of `numbers` in device memory, and the buffer for them unless the chains have one.
    places: Ptr<u64>,
    _places: Buffer<u64>,
    /// The values that the chains keep in their visible states.
    pub kept: Vec<Keeping>,
    _cursor: Option<Cursor>,
}

/// Consecutive chains that keep consecutive rows, beginning with the first row.
#[derive(Clone, Copy)]
pub(super) struct Keeping {
    pub rows: RowsArgument,
    pub left_out: bool,
    /// The first chain, counted from the first of the share, and the number of chains.
    pub first: usize,
    pub n: u32,
}

/// The address of number `first`; null stays null.
pub(super) fn from<T>(numbers: Ptr<T>, first: usize) -> Ptr<T> {
    if numbers.address == 0 { numbers } else { numbers.offset(first) }
}

impl Share {
    /// The share of this process, in allocated buffers. `by_layers`: as for [`CudaChains::own`].
    pub fn new(cuda: &Cuda, chains: &CudaChains, kept: Option<Kept<'_>>, by_layers: bool) -> Result<Self> {
        let (shape, states, own) = (chains.shape, &*chains.states, cuda.part().range(chains.len()));
        let (nv, nh, first, n) = (shape.n_visible(), shape.n_hidden(), own.start, count("chains", own.len())?);
        let [scaled, hidden] = [0, 1].map(|layer| states.numbers[layer].ptr());
        let values = from(states.values.ptr(), first * stride(nv));
        let visible = if scaled.address == 0 { values } else { from(scaled, first * stride(nv)) };
        let numbers = [visible, from(hidden, first * stride(nh))];
        // The addresses for all chains are captured in graphs, which cannot allocate.
        let has_places = own.len() == chains.len() || !by_layers;
        let new = if has_places { Buffer::EMPTY } else { Buffer::of(cuda.stream(), &numbers.map(|at| at.address))? };
        let mut share = Self {
            shape,
            first,
            n,
            all: chains.len() as u64,
            generator: states.generator.ptr(),
            betas: states.betas.ptr().offset(first),
            hidden: states.hidden.ptr().offset(first * words(nh)).cast(),
            visible: from(states.visible.ptr(), first * words(nv)).cast(),
            values,
            visible_pre: states.visible_pre.ptr().offset(first * stride(nv)),
            hidden_mean: states.hidden_mean.ptr().offset(first * stride(nh)),
            numbers,
            places: if has_places { states.places.ptr() } else { new.ptr() },
            _places: new,
            kept: Vec::new(),
            _cursor: None,
        };
        if let Some(kept) = kept.filter(|_| n > 0) {
            share.keep(kept)?;
        }
        Ok(share)
    }

    /// Chain m keeps row m mod rows. A kernel begins with the first row, so the chains before the first one that keeps it need a
    /// launch of their own.
    fn keep(&mut self, Kept { batch, rows, left_out }: Kept<'_>) -> Result<()> {
        let row = self.first % batch.len();
        let before = if row == 0 { 0 } else { self.n.min((batch.len() - row) as u32) };
        if before > 0 {
            let rest = batch.range(row..batch.len());
            let cursor = Cursor::at(rest, 0)?;
            self.kept.push(Keeping { rows: rest.argument(&cursor)?, left_out, first: 0, n: before });
            self._cursor = Some(cursor);
        }
        if before < self.n {
            self.kept.push(Keeping { rows, left_out, first: before as usize, n: self.n - before });
        }
        Ok(())
    }

    /// The positions of the first random numbers of the share's visible and hidden layers in a step, counted from the generator's
    /// state. The first step begins at position `before`.
    pub fn draws(&self, before: u64, step: usize) -> [u64; 2] {
        let [visible, hidden] = [self.shape.n_visible() as u64, self.shape.n_hidden() as u64];
        let (step, first) = (before + step as u64 * self.all * (visible + hidden), self.first as u64);
        [step + first * visible, step + self.all * visible + first * hidden]
    }

    /// The rows of a layer's states as numbers, as the other layer reads them.
    pub fn rows(&self, layer: Layer) -> RowsArgument {
        RowsArgument {
            place: self.places.offset(layer as usize),
            missing: Ptr::NULL,
            rows: self.n,
            stride: stride(self.shape.units(layer)) as u32,
            eight_bit: 0,
        }
    }
}
