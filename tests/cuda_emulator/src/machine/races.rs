//! The race detector.
//!
//! Two accesses to the same bytes, at least one of them a write and not both atomic, must be ordered. What orders them is
//! program order, a barrier of the block between them, or an exchange or barrier of the warp in which both lanes took part.
//! Nothing orders two blocks of a launch.

mod pages;

use super::code::{Cause, Fault};
use super::heap::SHARED;
use super::lanes::{LANES, Row, lanes};
use pages::{Cell, NEVER, NOBODY, PAGE, Page, Settled, Stamp};

pub use pages::Touch;

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
    /// The pages of each region, by where it begins.
    regions: Vec<(u64, Vec<Option<Page>>)>,
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
    /// The lowest and the highest of them.
    pub low: u64,
    /// See `low`.
    pub high: u64,
    /// Bytes of each lane's access.
    pub size: usize,
}

impl Races {
    /// A detector for blocks of so many threads.
    pub fn new(threads: u32) -> Self {
        let order = Order { threads, block: 0, epoch: 0, warps: Vec::new() };
        Self { order, regions: Vec::new() }
    }

    /// A block begins; shared memory has no past.
    pub fn begin_block(&mut self, block: u32) {
        self.regions.retain(|(base, _)| *base != SHARED);
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
        let &Accesses { warp, pc, touch, size, base, low, high, .. } = accesses;
        let Self { order, regions } = self;
        let at = regions.iter().position(|region| region.0 == base).unwrap_or_else(|| {
            regions.push((base, Vec::new()));
            regions.len() - 1
        });
        let pages = &mut regions[at].1;
        let now = (order.block, order.epoch);
        let (first, end) = ((low - base) as usize, (high - base) as usize + size);
        if pages.len() < end.div_ceil(PAGE) {
            pages.resize_with(end.div_ceil(PAGE), || None);
        }
        // Most warps read what others read too.
        if touch == Touch::Read
            && first / PAGE == (end - 1) / PAGE
            && let Some(page) = &pages[first / PAGE]
            && page.is_settled(first % PAGE, end - first, now)
        {
            return Ok(());
        }
        let clock = order.warps[warp].clock;
        for lane in lanes(accesses.mask) {
            let thread = order.block * order.threads + (warp * LANES + lane) as u32;
            let stamp = Stamp { thread, epoch: order.epoch, clock, pc: pc as u32 };
            let mut at = (accesses.addresses[lane] - base) as usize;
            let end = at + size;
            while at < end {
                let page = pages[at / PAGE].get_or_insert_with(Page::new);
                let granule = page.granule(size);
                match order.update(page.cell(at % PAGE, touch != Touch::Read), touch, stamp) {
                    Ok(settled) => page.settle(at % PAGE, settled, now),
                    Err((kind, past)) => {
                        let what = order.describe(touch, base + at as u64, kind, past);
                        return Err(Fault::of(lane, Cause::LaunchFailed, what));
                    }
                }
                at += granule;
            }
        }
        Ok(())
    }
}

impl Order {
    /// The number of a thread in the block that runs, if it is one of its threads.
    fn in_block(&self, thread: u32) -> Option<u32> {
        thread.checked_sub(self.block * self.threads).filter(|&n| n < self.threads)
    }

    /// Whether something past is ordered before what a thread does now.
    fn before(&self, past: &Stamp, thread: u32) -> bool {
        if past.thread == NOBODY || past.thread == thread {
            return true;
        }
        let Some(other) = self.in_block(past.thread) else {
            return false;
        };
        if past.epoch < self.epoch {
            return true;
        }
        let (own, other) = ((thread - self.block * self.threads) as usize, other as usize);
        let warp = own / LANES;
        warp == other / LANES && past.clock < self.warps[warp].known[own % LANES][other % LANES]
    }

    /// Notes an access in a cell, and tells whether that settles it, or which other access it collides with.
    fn update(&self, cell: Cell, touch: Touch, now: Stamp) -> Result<Settled, (Touch, Stamp)> {
        let late = |past: &Stamp| !self.before(past, now.thread);
        let Cell { reads, writes } = cell;
        if let Some([write, atomic]) = &writes {
            if late(write) {
                return Err((Touch::Write, *write));
            }
            if touch != Touch::Atomic && late(atomic) {
                return Err((Touch::Atomic, *atomic));
            }
        }
        if touch != Touch::Read {
            if let Some(read) = reads.iter().find(|read| late(read)) {
                return Err((Touch::Read, *read));
            }
            if let Some([write, atomic]) = writes {
                *if touch == Touch::Write { write } else { atomic } = now;
            }
            return Ok(Settled::No);
        }
        let at = usize::from(late(&reads[0]));
        reads[at] = now;
        Ok(self.settled(reads[1 - at], now, writes))
    }

    /// What follows from two reads: sure collisions of writers, and no collision of readers.
    fn settled(&self, other: Stamp, now: Stamp, writes: Option<&mut [Stamp; 2]>) -> Settled {
        let writes = writes.map_or([NEVER; 2], |writes| *writes);
        let Some(own) = self.in_block(other.thread) else {
            let untouched = other.thread != NOBODY && writes.iter().all(|past| past.thread == NOBODY);
            return if untouched { Settled::ForGood } else { Settled::No };
        };
        let earlier =
            |past: &Stamp| past.thread == NOBODY || past.epoch < now.epoch && self.in_block(past.thread).is_some();
        let warp = (now.thread - self.block * self.threads) as usize / LANES;
        let apart = other.epoch == now.epoch && own as usize / LANES != warp;
        if apart && writes.iter().all(earlier) { Settled::ForNow } else { Settled::No }
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
            low: BASE + offset,
            high: BASE + offset,
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

    #[test]
    fn what_is_settled_still_collides_with_writers() {
        // Read by two warps and then by many: no writer may come before the next barrier.
        for writer in [1, 40, 50] {
            let mut races = Races::new(96);
            races.begin_block(0);
            assert!(access(&mut races, 3, Touch::Write, 0, 4));
            races.barrier();
            for reader in [1, 40, 2, 41, 1] {
                assert!(access(&mut races, reader, Touch::Read, 0, 4));
            }
            assert!(!access(&mut races, writer, Touch::Write, 0, 4));
            let mut races = Races::new(96);
            races.begin_block(0);
            for reader in [1, 40, 2] {
                assert!(access(&mut races, reader, Touch::Read, 0, 4));
            }
            races.barrier();
            assert!(access(&mut races, writer, Touch::Write, 0, 4));
            assert_eq!(access(&mut races, 2, Touch::Read, 0, 4), writer == 2);
        }
        // Read by two blocks: nobody may write any more.
        for writer in [1, 40] {
            let mut races = block();
            assert!(access(&mut races, 1, Touch::Read, 0, 4));
            races.begin_block(1);
            assert!(access(&mut races, 1, Touch::Read, 0, 4));
            races.barrier();
            assert!(access(&mut races, 2, Touch::Read, 0, 4));
            assert!(!access(&mut races, writer, Touch::Write, 0, 4));
        }
    }
}
