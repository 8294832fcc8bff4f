//! The race detector.
//!
//! Two accesses to the same bytes, at least one of them a write and not both atomic, must be ordered. What orders them is
//! program order, a barrier of the block between them, or an exchange or barrier of the warp in which both lanes took part.
//! Nothing orders two blocks of a launch.

use std::collections::HashMap;

use super::code::{Cause, Fault};
use super::heap::SHARED;
use super::lanes::{LANES, Row, lanes};

/// How memory is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Touch {
    Read,
    Write,
    Atomic,
}

const NOBODY: u32 = u32::MAX;

/// Who touched something, and when.
#[derive(Clone, Copy)]
struct Stamp {
    /// The thread's number in the grid.
    thread: u32,
    /// Barriers of the block passed so far.
    epoch: u32,
    /// Exchanges of the warp passed so far.
    clock: u32,
    pc: u32,
}

const NEVER: Stamp = Stamp { thread: NOBODY, epoch: 0, clock: 0, pc: 0 };

/// The history of a granule. Two reads are kept, so that a writer who is one of two readers is still caught.
#[derive(Clone, Copy)]
struct Cell {
    write: Stamp,
    atomic: Stamp,
    reads: [Stamp; 2],
}

const CLEAN: Cell = Cell { write: NEVER, atomic: NEVER, reads: [NEVER; 2] };

const PAGE: usize = 256;

/// A page holds one cell per word until something smaller than a word is touched.
struct Page {
    granule: usize,
    cells: Vec<Cell>,
}

impl Page {
    fn refine(&mut self) {
        self.granule = 1;
        self.cells = self.cells.iter().flat_map(|&cell| [cell; 4]).collect();
    }
}

/// What the lanes of a warp know of each other.
struct Knowledge {
    clock: u32,
    /// `known[a][b]`: all that lane `b` did before this clock is ordered before what lane `a` does now.
    known: [[u32; LANES]; LANES],
}

/// What orders two accesses.
struct Order {
    threads: u32,
    block: u32,
    epoch: u32,
    warps: Vec<Knowledge>,
}

/// Everything that a launch has touched so far.
pub struct Races {
    order: Order,
    pages: HashMap<u64, Vec<Option<Page>>>,
}

/// An access of some lanes of a warp to memory of one region.
pub struct Accesses<'a> {
    /// The warp.
    pub warp: usize,
    /// The lanes.
    pub mask: u32,
    /// The instruction.
    pub pc: usize,
    /// What is done.
    pub touch: Touch,
    /// Where the region begins.
    pub base: u64,
    /// Where each lane's access begins.
    pub addresses: &'a Row<u64>,
    /// Bytes of each lane's access.
    pub size: usize,
}

impl Races {
    /// A detector for blocks of so many threads.
    pub fn new(threads: u32) -> Self {
        let order = Order { threads, block: 0, epoch: 0, warps: Vec::new() };
        Self { order, pages: HashMap::new() }
    }

    /// A block begins; shared memory has no past.
    pub fn begin_block(&mut self, block: u32) {
        self.pages.remove(&SHARED);
        self.order.block = block;
        self.order.epoch = 0;
        let fresh = || Knowledge { clock: 0, known: [[0; LANES]; LANES] };
        let count = self.order.threads.div_ceil(LANES as u32) as usize;
        self.order.warps.clear();
        self.order.warps.resize_with(count, fresh);
    }

    /// The block has passed a barrier.
    pub fn barrier(&mut self) {
        self.order.epoch += 1;
    }

    /// Lanes of a warp have met.
    pub fn meet(&mut self, warp: usize, mask: u32) {
        let Knowledge { clock, known } = &mut self.order.warps[warp];
        *clock += 1;
        let mut joint = [0; LANES];
        for row in lanes(mask).map(|lane| &known[lane]) {
            for (joint, known) in joint.iter_mut().zip(row) {
                *joint = (*joint).max(*known);
            }
        }
        for lane in lanes(mask) {
            joint[lane] = *clock;
        }
        for lane in lanes(mask) {
            known[lane] = joint;
        }
    }

    /// Notes what lanes touch, or tells with whom the first of them collides.
    pub fn touch(&mut self, accesses: &Accesses) -> Result<(), Fault> {
        let &Accesses { warp, pc, touch, size, base, .. } = accesses;
        let Self { order, pages } = self;
        let pages = pages.entry(base).or_default();
        for lane in lanes(accesses.mask) {
            let now = Stamp {
                thread: order.block * order.threads + (warp * LANES + lane) as u32,
                epoch: order.epoch,
                clock: order.warps[warp].clock,
                pc: pc as u32,
            };
            let mut at = (accesses.addresses[lane] - base) as usize;
            let end = at + size;
            while at < end {
                if pages.len() <= at / PAGE {
                    pages.resize_with(at / PAGE + 1, || None);
                }
                let page = pages[at / PAGE].get_or_insert_with(|| Page { granule: 4, cells: vec![CLEAN; PAGE / 4] });
                if size < page.granule {
                    page.refine();
                }
                let cell = &mut page.cells[at % PAGE / page.granule];
                if let Some((kind, past)) = order.update(cell, touch, now) {
                    let what = order.describe(touch, base + at as u64, kind, past);
                    return Err(Fault::of(lane, Cause::LaunchFailed, what));
                }
                at += page.granule;
            }
        }
        Ok(())
    }
}

impl Order {
    /// Whether something past is ordered before what a thread does now.
    fn before(&self, past: &Stamp, thread: u32) -> bool {
        if past.thread == NOBODY || past.thread == thread {
            return true;
        }
        let first = self.block * self.threads;
        let Some(other) = past.thread.checked_sub(first).filter(|&n| n < self.threads) else {
            return false;
        };
        if past.epoch < self.epoch {
            return true;
        }
        let (own, other) = ((thread - first) as usize, other as usize);
        let warp = own / LANES;
        warp == other / LANES && past.clock < self.warps[warp].known[own % LANES][other % LANES]
    }

    /// Notes an access in a cell, and gives back one that it collides with.
    fn update(&self, cell: &mut Cell, touch: Touch, now: Stamp) -> Option<(Touch, Stamp)> {
        let late = |past: &Stamp| !self.before(past, now.thread);
        let collision = if late(&cell.write) {
            Some((Touch::Write, cell.write))
        } else if touch != Touch::Atomic && late(&cell.atomic) {
            Some((Touch::Atomic, cell.atomic))
        } else if touch != Touch::Read {
            let read = cell.reads.iter().find(|read| late(read));
            read.map(|read| (Touch::Read, *read))
        } else {
            None
        };
        match touch {
            Touch::Write => cell.write = now,
            Touch::Atomic => cell.atomic = now,
            Touch::Read => cell.reads[usize::from(late(&cell.reads[0]))] = now,
        }
        collision
    }

    fn describe(&self, touch: Touch, address: u64, kind: Touch, past: Stamp) -> String {
        let (space, start) = if address >= SHARED { ("shared", SHARED) } else { ("global", 0) };
        let (block, thread) = (past.thread / self.threads, past.thread % self.threads);
        format!(
            "race: {touch:?} of {space} address {:#x}, unordered with the {kind:?} by block {block} thread {thread} at instruction {}",
            address - start,
            past.pc
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = crate::machine::BASE;

    fn access(races: &mut Races, thread: usize, touch: Touch, offset: u64, size: usize) -> bool {
        let accesses = Accesses {
            warp: thread / LANES,
            mask: 1 << (thread % LANES),
            pc: 0,
            touch,
            base: BASE,
            addresses: &[BASE + offset; LANES],
            size,
        };
        races.touch(&accesses).is_ok()
    }

    fn block() -> Races {
        let mut races = Races::new(64);
        races.begin_block(0);
        races
    }

    #[test]
    fn pairs_of_accesses() {
        use Touch::{Atomic, Read, Write};
        for (first, second, ordered) in [
            (Read, Read, true),
            (Read, Write, false),
            (Write, Read, false),
            (Write, Write, false),
            (Atomic, Atomic, true),
            (Atomic, Read, false),
            (Write, Atomic, false),
        ] {
            for other in [1, 40] {
                let mut races = block();
                assert!(access(&mut races, 0, first, 0, 4));
                assert_eq!(access(&mut races, other, second, 0, 4), ordered, "{first:?} {second:?}");
                let mut races = block();
                assert!(access(&mut races, 0, first, 0, 4));
                races.barrier();
                assert!(access(&mut races, other, second, 0, 4));
                let mut races = block();
                assert!(access(&mut races, 0, first, 0, 4));
                races.begin_block(1);
                assert_eq!(access(&mut races, other, second, 0, 4), ordered);
            }
        }
    }

    #[test]
    fn one_of_two_readers_writes() {
        let mut races = block();
        assert!(access(&mut races, 1, Touch::Read, 0, 4));
        assert!(access(&mut races, 2, Touch::Read, 0, 4));
        assert!(!access(&mut races, 2, Touch::Write, 0, 4));
    }

    #[test]
    fn a_meeting_orders_only_who_takes_part() {
        let mut races = block();
        assert!(access(&mut races, 0, Touch::Write, 0, 4));
        races.meet(0, 0b011);
        assert!(access(&mut races, 1, Touch::Read, 0, 4));
        assert!(!access(&mut races, 2, Touch::Read, 0, 4));
        // What is known is passed on.
        let mut races = block();
        assert!(access(&mut races, 0, Touch::Write, 0, 4));
        races.meet(0, 0b011);
        races.meet(0, 0b110);
        assert!(access(&mut races, 2, Touch::Read, 0, 4));
    }

    #[test]
    fn neighbouring_bytes_are_apart() {
        let mut races = block();
        assert!(access(&mut races, 0, Touch::Write, 0, 1));
        assert!(access(&mut races, 1, Touch::Write, 1, 1));
        assert!(!access(&mut races, 2, Touch::Read, 0, 4));
    }
}
