//! The chains that a process moves: all of them, or with several ranks a contiguous share.
//!
//! Buffers have room for all chains on every rank. A share is therefore addresses within them, and how many numbers the chains
//! before it and behind it draw.

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

/// What the kernels read and write of some chains.
pub(super) struct Share {
    pub shape: Shape,
    /// The number of the first chain, how many there are, and how many all processes have.
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
    /// Visible states as hidden layers read them, and hidden states, as numbers.
    pub numbers: [Ptr<f32>; 2],
    /// Where rows of these are, and the memory for it unless the chains have it.
    places: Ptr<u64>,
    _places: Buffer<u64>,
    /// What the chains keep of their visible states.
    pub kept: Vec<Keeping>,
    _cursor: Option<Cursor>,
}

/// Neighbouring chains that keep neighbouring rows, from the first row on.
#[derive(Clone, Copy)]
pub(super) struct Keeping {
    pub rows: RowsArgument,
    pub left_out: bool,
    /// The first chain, counted from the first of the share, and how many there are.
    pub first: usize,
    pub n: u32,
}

/// The same numbers from another one on; null stays null.
pub(super) fn from<T>(numbers: Ptr<T>, first: usize) -> Ptr<T> {
    if numbers.address == 0 { numbers } else { numbers.offset(first) }
}

impl Share {
    /// The chains that belong to this process, in room that was made. `by_layers`: as for [`CudaChains::own`].
    pub fn new(cuda: &Cuda, chains: &CudaChains, kept: Option<Kept<'_>>, by_layers: bool) -> Result<Self> {
        let (shape, states, own) = (chains.shape, &*chains.states, cuda.part().range(chains.len()));
        let (nv, nh, first, n) = (shape.n_visible(), shape.n_hidden(), own.start, count("chains", own.len())?);
        let [scaled, hidden] = [0, 1].map(|layer| states.numbers[layer].ptr());
        let values = from(states.values.ptr(), first * stride(nv));
        let visible = if scaled.address == 0 { values } else { from(scaled, first * stride(nv)) };
        let numbers = [visible, from(hidden, first * stride(nh))];
        // Those of all chains are recorded in graphs, where nothing can be made.
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

    /// Chain m of all keeps row m mod rows. A kernel begins with the first of its rows: chains before the first that keeps it are
    /// launched by themselves.
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

    /// How many numbers lie between the generator's place and the first ones that the visible and the hidden layer of a step draw,
    /// `before` of them ahead of the first step.
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
