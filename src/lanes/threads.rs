//! Splits work among threads, in the caller's rayon pool or sequentially.
//!
//! Work is split by nested joins: no queue, no lock, no allocation. The result of a part never depends on the split. A join costs
//! microseconds inside the pool and more outside of it, so run a whole training loop inside one `install`. A thread that has to be
//! woken begins tens of microseconds late. So there is one split per phase, never one per product, and small jobs are not split.

use std::ops::Range;

/// Work that can be split in two.
pub(crate) trait Split: Sized + Send {
    /// The number of indivisible pieces.
    fn pieces(&self) -> usize;
    /// The first `pieces` pieces, and the rest.
    fn split(self, pieces: usize) -> (Self, Self);
}

/// The least size of a part of [`share_pieces`], in vectors of 16 numbers: about as much work as waking a thread. Debug builds split
/// small jobs too, so that tests of small models see every split.
const LEAST_VECTORS: usize = if cfg!(debug_assertions) { 1 } else { 1 << 13 };
/// The number of parts for each thread: a thread that begins late takes fewer of them.
const PARTS_A_THREAD: usize = 8;

/// Runs `work` in as many parts as the pool has threads: for work whose parts repeat something, such as reading all weights.
pub(crate) fn share<W: Split>(work: W, run: &(impl Fn(W) + Sync)) {
    let parts = threads().min(work.pieces());
    share_in(work, parts, run);
}

/// Runs `work`, whose pieces have nothing in common, in a few parts for each thread; alone if it is small. `vectors`: its
/// approximate size, in vectors of 16 numbers that it reads or writes.
pub(crate) fn share_pieces<W: Split>(work: W, vectors: usize, run: &(impl Fn(W) + Sync)) {
    let threads = threads();
    let most = if threads > 1 { PARTS_A_THREAD * threads } else { 1 };
    let parts = most.min(work.pieces()).min(vectors / LEAST_VECTORS);
    share_in(work, parts, run);
}

fn share_in<W: Split>(work: W, parts: usize, run: &(impl Fn(W) + Sync)) {
    if parts <= 1 {
        return run(work);
    }
    let left = parts / 2;
    let pieces = work.pieces();
    let (a, b) = work.split((pieces * left).div_ceil(parts));
    join(|| share_in(a, left, run), || share_in(b, parts - left, run));
}

/// Runs `work` in consecutive parts of at most `pieces` pieces.
pub(crate) fn in_parts<W: Split>(work: W, pieces: usize, mut run: impl FnMut(W)) {
    let mut rest = work;
    while rest.pieces() > 0 {
        let n = rest.pieces().min(pieces);
        let (part, others) = rest.split(n);
        run(part);
        rest = others;
    }
}

#[cfg(feature = "rayon")]
fn threads() -> usize {
    rayon::current_num_threads()
}

#[cfg(feature = "rayon")]
fn join(a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
    rayon::join(a, b);
}

#[cfg(not(feature = "rayon"))]
fn threads() -> usize {
    1
}

#[cfg(not(feature = "rayon"))]
fn join(a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
    a();
    b();
}

/// Rows of a slice as pieces of work, with the number of the first one. The last row may be short.
pub(crate) struct RowsMut<'a, T> {
    pub first: usize,
    pub width: usize,
    pub values: &'a mut [T],
}

impl<'a, T: Send> RowsMut<'a, T> {
    pub fn new(width: usize, values: &'a mut [T]) -> Self {
        Self { first: 0, width, values }
    }

    /// Reborrows the rows.
    pub fn reborrow(&mut self) -> RowsMut<'_, T> {
        RowsMut { first: self.first, width: self.width, values: self.values }
    }

    /// Reborrows a range of the rows, counted from the first one here.
    pub fn part(&mut self, rows: Range<usize>) -> RowsMut<'_, T> {
        let values = &mut self.values[rows.start * self.width..rows.end * self.width];
        RowsMut { first: self.first + rows.start, width: self.width, values }
    }
}

impl<T: Send> Split for RowsMut<'_, T> {
    fn pieces(&self) -> usize {
        self.values.len().div_ceil(self.width)
    }

    fn split(self, pieces: usize) -> (Self, Self) {
        let (a, b) = self.values.split_at_mut((pieces * self.width).min(self.values.len()));
        let (first, width) = (self.first, self.width);
        (Self { first, width, values: a }, Self { first: first + pieces, width, values: b })
    }
}

impl<T: Sync> Split for &[T] {
    fn pieces(&self) -> usize {
        self.len()
    }

    fn split(self, pieces: usize) -> (Self, Self) {
        self.split_at(pieces)
    }
}

/// Optional work next to other work.
impl<W: Split> Split for Option<W> {
    fn pieces(&self) -> usize {
        self.as_ref().map_or(0, W::pieces)
    }

    fn split(self, pieces: usize) -> (Self, Self) {
        self.map(|work| work.split(pieces)).unzip()
    }
}

/// Tuples of work with equal numbers of pieces, which are split at the same positions.
macro_rules! split_tuples {
    ($(($first:ident $(, $other:ident)*))*) => {$(
        #[allow(non_snake_case)]
        impl<$first: Split, $($other: Split),*> Split for ($first, $($other),*) {
            fn pieces(&self) -> usize {
                self.0.pieces()
            }

            fn split(self, pieces: usize) -> (Self, Self) {
                let ($first, $($other),*) = self;
                let ($first, $($other),*) = ($first.split(pieces), $($other.split(pieces)),*);
                (($first.0, $($other.0),*), ($first.1, $($other.1),*))
            }
        }
    )*};
}
split_tuples! { (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) }
