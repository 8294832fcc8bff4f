//! The race detector's memory: the last accesses to each word.

/// The kind of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Touch {
    Read,
    Write,
    Atomic,
}

/// The thread of an empty stamp.
pub const NOBODY: u32 = u32::MAX;

/// The thread and time of an access.
#[derive(Clone, Copy)]
pub struct Stamp {
    /// The thread's number in the grid.
    pub thread: u32,
    /// The block's time.
    pub epoch: u32,
    /// The warp's time: exchanges, and arrivals at the barrier of the cluster, so far.
    pub clock: u32,
    /// The instruction.
    pub pc: u32,
}

/// The empty stamp.
pub const NEVER: Stamp = Stamp { thread: NOBODY, epoch: 0, clock: 0, pc: 0 };

impl Stamp {
    /// The stamp of an asynchronous store of a thread, by the store's number.
    pub fn of_post(thread: u32, post: u32, pc: u32) -> Self {
        Self { thread, epoch: post, clock: u32::MAX, pc }
    }

    /// The number of an asynchronous store, if this is the stamp of one.
    pub fn post(&self) -> Option<u32> {
        (self.clock == u32::MAX).then_some(self.epoch)
    }
}

/// Bytes of a page.
pub const PAGE: usize = 256;

/// A bit for each byte of a page.
type Bytes = [u64; PAGE / 64];

/// Whether all bytes from `start` on are marked.
fn all(marks: &Bytes, start: usize, size: usize) -> bool {
    (start / 64..=(start + size - 1) / 64).all(|word| {
        let (first, end) = (start.max(64 * word) % 64, (start + size - 64 * word).min(64));
        let wanted = u64::MAX << first & u64::MAX >> (64 - end);
        marks[word] & wanted == wanted
    })
}

/// The history of some bytes. It keeps two reads, so that a writer that is one of two readers is still caught.
///
/// A cell that two blocks have read, or two warps since the last barrier, is *settled*: every writer collides with it, so further
/// readers need not be recorded. Most reads are of that kind: weights that every block reads, lists that every
/// warp reads.
pub struct Page {
    /// Bytes of a cell: a word, until a smaller access.
    granule: usize,
    reads: Vec<[Stamp; 2]>,
    /// The last write and the last atomic update; empty before the first.
    writes: Vec<[Stamp; 2]>,
    /// All reads since the last write, for cells that are targets of asynchronous stores; otherwise empty.
    all_reads: Vec<Vec<Stamp>>,
    for_good: Bytes,
    /// The block and the epoch for which `for_now` is valid.
    now: (u32, u32),
    for_now: Bytes,
}

/// The history of a cell.
pub struct Cell<'a> {
    /// The last reads.
    pub reads: &'a mut [Stamp; 2],
    /// The last write and the last atomic update, if the page has any.
    pub writes: Option<&'a mut [Stamp; 2]>,
    /// All reads since the last write, if the page keeps them.
    pub all_reads: Option<&'a mut Vec<Stamp>>,
}

/// The writers that certainly collide with a reader.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Not all.
    No,
    /// All until the block's next barrier.
    ForNow,
    /// All of this launch.
    ForGood,
}

impl Page {
    /// A page without accesses.
    pub fn new() -> Self {
        Self {
            granule: 4,
            reads: vec![[NEVER; 2]; PAGE / 4],
            writes: Vec::new(),
            all_reads: Vec::new(),
            for_good: [0; 4],
            now: (0, 0),
            for_now: [0; 4],
        }
    }

    /// Whether reads of these bytes need not be recorded any more.
    pub fn is_settled(&self, start: usize, size: usize, now: (u32, u32)) -> bool {
        self.all_reads.is_empty()
            && (all(&self.for_good, start, size) || self.now == now && all(&self.for_now, start, size))
    }

    /// From now on keeps all reads; nothing is settled any more.
    pub fn keep_all_reads(&mut self) {
        self.all_reads.resize(self.reads.len(), Vec::new());
    }

    /// Records that reads of a cell need not be recorded any more.
    pub fn settle(&mut self, start: usize, how: Settled, now: (u32, u32)) {
        let bits = (u64::MAX >> (64 - self.granule)) << (start / self.granule * self.granule % 64);
        match how {
            Settled::No => {}
            Settled::ForGood => self.for_good[start / 64] |= bits,
            Settled::ForNow => {
                if self.now != now {
                    (self.now, self.for_now) = (now, [0; 4]);
                }
                self.for_now[start / 64] |= bits;
            }
        }
    }

    /// Makes cells small enough for an access, and returns their size.
    pub fn granule(&mut self, size: usize) -> usize {
        if size < self.granule {
            self.granule = 1;
            for stamps in [&mut self.reads, &mut self.writes] {
                *stamps = stamps.iter().flat_map(|&stamps| [stamps; 4]).collect();
            }
            let reads = std::mem::take(&mut self.all_reads);
            self.all_reads =
                reads.into_iter().flat_map(|reads| std::array::from_fn::<_, 4, _>(|_| reads.clone())).collect();
        }
        self.granule
    }

    /// The cell of a byte, for reading, or if `written` for writing.
    pub fn cell(&mut self, start: usize, written: bool) -> Cell<'_> {
        if written && self.writes.is_empty() {
            self.writes = vec![[NEVER; 2]; self.reads.len()];
        }
        let at = start / self.granule;
        Cell { reads: &mut self.reads[at], writes: self.writes.get_mut(at), all_reads: self.all_reads.get_mut(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_bytes() {
        let mut page = Page::new();
        for start in (56..132).step_by(4) {
            page.settle(start, Settled::ForGood, (0, 0));
        }
        page.settle(132, Settled::ForNow, (3, 1));
        assert!(page.is_settled(56, 76, (0, 0)));
        assert!(
            !page.is_settled(55, 4, (0, 0)) && !page.is_settled(56, 77, (0, 0)) && !page.is_settled(132, 4, (0, 0))
        );
        assert!(page.is_settled(132, 4, (3, 1)) && !page.is_settled(136, 1, (3, 1)));
        // A barrier ends the validity of `ForNow`.
        page.settle(252, Settled::ForNow, (3, 2));
        assert!(
            page.is_settled(252, 4, (3, 2)) && !page.is_settled(132, 4, (3, 2)) && !page.is_settled(132, 4, (3, 1))
        );
        // Separate bytes.
        assert_eq!(page.granule(1), 1);
        page.settle(201, Settled::ForGood, (0, 0));
        assert!(page.is_settled(201, 1, (0, 0)) && !page.is_settled(200, 2, (0, 0)) && page.is_settled(56, 76, (0, 0)));
    }
}
