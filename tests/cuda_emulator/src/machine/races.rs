//! The race detector.
//!
//! Two accesses to the same bytes, at least one of them a write and not both atomic, must be ordered. What orders them is
//! program order, a barrier of the block between them, an exchange or barrier of the warp in which both lanes took part, or a
//! barrier of the cluster: what came before one thread's arrival is ordered before what comes after another's wait. The same
//! holds for mbarriers.
//! Nothing orders two clusters of a launch.

mod pages;
mod phases;
mod signals;

use super::code::{Cause, Fault};
use super::heap::SHARED;
use super::lanes::{LANES, Row, lanes};
use pages::{Cell, NEVER, NOBODY, PAGE, Page, Settled, Stamp};
use phases::Phases;
use signals::Signals;

pub use pages::Touch;
pub use signals::Release;

/// What the lanes of a warp know of each other.
struct Knowledge {
    clock: u32,
    /// `known[a][b]`: all that lane `b` did before this clock is ordered before what lane `a` does now.
    known: [[u32; LANES]; LANES],
    /// Lanes that have arrived at the barrier of the cluster and not yet passed it.
    arrived: u32,
}

/// The time of a block. It goes on when the block passes a barrier, and when threads arrive at the cluster's.
#[derive(Clone, Copy, Default)]
struct Time {
    epoch: u32,
    /// The epoch that began with the last barrier of the block: what came before it is ordered.
    passed: u32,
}

/// What orders two accesses. Threads are numbered so that each block of the grid begins at a multiple of a power of two.
struct Order {
    /// Binary logarithm of the numbers that a block takes up.
    shift: u32,
    /// Blocks of a cluster.
    size: u32,
    cluster: u32,
    blocks: Vec<Time>,
    warps: Vec<Knowledge>,
    phases: Phases,
    signals: Signals,
}

/// Everything that a launch has touched so far.
pub struct Races {
    order: Order,
    /// The pages of each region, by where it begins.
    regions: Vec<(u64, Vec<Option<Page>>)>,
    /// For each block of the cluster, when each thread of the others last used its shared memory, itself and by asynchronous
    /// stores; empty where none did.
    visits: Vec<Vec<[Stamp; 2]>>,
}

/// An access of some lanes of a warp to memory of one region.
pub struct Accesses<'a> {
    /// The rank of the block.
    pub block: usize,
    /// The warp of the block.
    pub warp: usize,
    /// The lanes.
    pub mask: u32,
    /// The instruction.
    pub pc: usize,
    /// What is done.
    pub touch: Touch,
    /// Where the region begins.
    pub base: u64,
    /// The rank of the block whose shared memory the region is.
    pub home: Option<usize>,
    /// Where each lane's access begins.
    pub addresses: &'a Row<u64>,
    /// The lowest and the highest of them.
    pub low: u64,
    /// See `low`.
    pub high: u64,
    /// Bytes of each lane's access.
    pub size: usize,
    /// The number of the asynchronous store that this is.
    pub post: Option<u32>,
}

impl Races {
    /// A detector for blocks of so many threads, and clusters of so many blocks.
    pub fn new(threads: u32, size: u32) -> Self {
        let shift = threads.next_power_of_two().max(LANES as u32).ilog2();
        let (blocks, warps) = (Vec::new(), Vec::new());
        let (phases, signals) = (Phases::default(), Signals::default());
        let order = Order { shift, size, cluster: 0, blocks, warps, phases, signals };
        Self { order, regions: Vec::new(), visits: Vec::new() }
    }

    /// A cluster begins; shared memory has no past.
    pub fn begin(&mut self, cluster: u32) {
        self.regions.retain(|(base, _)| *base < SHARED);
        let order = &mut self.order;
        order.cluster = cluster;
        order.blocks.clear();
        order.blocks.resize(order.size as usize, Time::default());
        let fresh = || Knowledge { clock: 0, known: [[0; LANES]; LANES], arrived: 0 };
        order.warps.clear();
        order.warps.resize_with(order.threads() / LANES, fresh);
        order.phases = Phases::default();
        order.signals = Signals::default();
        self.visits = vec![Vec::new(); order.size as usize];
    }

    /// A block has passed a barrier.
    pub fn barrier(&mut self, block: usize) {
        let Order { shift, blocks, phases, signals, .. } = &mut self.order;
        blocks[block].epoch += 1;
        blocks[block].passed = blocks[block].epoch;
        let threads = block << *shift..(block + 1) << *shift;
        phases.meet(threads.clone());
        signals.meet(threads);
    }

    /// Lanes of a warp have met.
    pub fn meet(&mut self, block: usize, warp: usize, mask: u32) {
        let warp = self.order.warp(block, warp);
        let Knowledge { clock, known, .. } = &mut self.order.warps[warp];
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
        let threads = lanes(mask).map(|lane| warp * LANES + lane);
        self.order.phases.meet(threads.clone());
        self.order.signals.meet(threads);
    }

    /// Lanes of a warp arrive at the barrier of the cluster.
    pub fn arrive(&mut self, block: usize, warp: usize, mask: u32, relaxed: bool) {
        let (threads, size) = (self.order.threads(), self.order.size as usize);
        let warp = self.order.warp(block, warp);
        let Order { blocks, warps, phases, signals, .. } = &mut self.order;
        let (time, knowledge) = (&mut blocks[block], &mut warps[warp]);
        // What comes from now on is told from what came before.
        time.epoch += 1;
        knowledge.clock += 1;
        knowledge.arrived |= mask;
        phases.begin(threads, size);
        if !relaxed {
            let threads = lanes(mask).map(|lane| warp * LANES + lane);
            phases.release(threads.clone(), knowledge.clock, block, time.passed);
            signals.arrive(threads);
        }
    }

    /// All of the cluster have arrived at its barrier: given are the blocks, warps and live lanes.
    pub fn complete(&mut self, live: impl Iterator<Item = (usize, usize, u32)>) {
        let order = &mut self.order;
        let shift = order.shift;
        let live: Vec<_> = live.map(|(block, warp, mask)| (block, (block << shift) / LANES + warp, mask)).collect();
        for &(_, warp, mask) in &live {
            order.signals.arrive(lanes(!mask).map(|lane| warp * LANES + lane));
        }
        order.phases.complete(live.into_iter());
        order.signals.complete();
    }

    /// Lanes of a warp pass the barrier of the cluster.
    pub fn wait(&mut self, block: usize, warp: usize, mask: u32) {
        let warp = self.order.warp(block, warp);
        self.order.warps[warp].arrived &= !mask;
        let threads = lanes(mask).map(|lane| warp * LANES + lane);
        self.order.phases.acquire(threads.clone(), block);
        self.order.signals.pass(threads);
    }

    /// A new mbarrier; gives back its number.
    pub fn add_mbarrier(&mut self) -> usize {
        self.order.signals.add_mbarrier(self.order.size as usize, self.order.threads())
    }

    /// A new asynchronous store; gives back its number.
    pub fn add_post(&mut self) -> u32 {
        self.order.signals.add_post()
    }

    /// Lanes of a warp arrive at mbarriers or store something asynchronously: what each of them releases.
    pub fn release(&mut self, block: usize, warp: usize, mask: u32) -> Vec<(usize, Release)> {
        let Order { shift, blocks, warps, phases, signals, .. } = &mut self.order;
        let first = (block << *shift) + warp * LANES;
        let (time, knowledge) = (&mut blocks[block], &mut warps[first / LANES]);
        // What comes from now on is told from what came before.
        time.epoch += 1;
        knowledge.clock += 1;
        let release = |lane: usize| {
            let mut clocks = knowledge.known[lane];
            clocks[lane] = knowledge.clock;
            let thread = first + lane;
            (lane, signals.release(thread, phases.passed(thread), (block, time.passed), first, &clocks))
        };
        lanes(mask).map(release).collect()
    }

    /// A release comes to an mbarrier.
    pub fn gather(&mut self, mbarrier: usize, release: &Release) {
        self.order.signals.gather(mbarrier, release);
    }

    /// An asynchronous store happens in the present phase of an mbarrier; says whether it could happen in none before.
    pub fn land(&mut self, post: u32, mbarrier: usize, release: &Release) -> bool {
        self.order.signals.land(post, mbarrier, release)
    }

    /// A phase of an mbarrier ends, or might have ended too early for one who waited for the phase before.
    pub fn end_phase(&mut self, mbarrier: usize) -> Result<(), String> {
        let (first, shift, size) = (self.order.first(), self.order.shift, self.order.size);
        let place = |stamp: &Stamp| ((stamp.thread - first) as usize, (stamp.thread - first) as usize >> shift);
        self.order.signals.end_phase(mbarrier, place).map_err(|stamp| {
            let (block, thread) = (stamp.thread >> shift, stamp.thread & ((1 << shift) - 1));
            format!(
                "race: a phase of the mbarrier ends, unordered with the wait for the phase before by thread {thread} of block \
                 rank {} at instruction {}, which might find neither phase",
                block % size,
                stamp.pc
            )
        })
    }

    /// Lanes of a warp have seen the last phase of an mbarrier end.
    pub fn observe(&mut self, block: usize, warp: usize, mask: u32, pc: usize, mbarrier: usize, relaxed: bool) {
        let order = &mut self.order;
        let epoch = order.blocks[block].epoch;
        let (first, warp) = (order.first(), order.warp(block, warp));
        let clock = order.warps[warp].clock;
        for thread in lanes(mask).map(|lane| warp * LANES + lane) {
            let stamp = Stamp { thread: first + thread as u32, epoch, clock, pc: pc as u32 };
            let ended = order.signals.observe(thread, mbarrier, stamp, relaxed);
            order.phases.learn(thread, ended);
        }
    }

    /// A block has ended: whoever of the cluster has used its shared memory must have told it so. A fault comes with the
    /// instruction, the block and the warp that made the access.
    pub fn end_block(&mut self, block: usize) -> Result<(), (Fault, usize, usize, usize)> {
        let Self { order, visits, .. } = self;
        if visits[block].is_empty() {
            return Ok(());
        }
        let first = order.first();
        let threads = block << order.shift..(block + 1) << order.shift;
        order.signals.meet(threads.clone());
        let own = order.phases.latest(threads);
        let late = |visit: &&Stamp| visit.thread != NOBODY && !order.before(visit, first + own as u32);
        let Some(visit) = visits[block].iter().flatten().find(late) else {
            return Ok(());
        };
        let thread = (visit.thread - first) as usize;
        let (other, inside) = (thread >> order.shift, thread & ((1 << order.shift) - 1));
        let what = format!("the block of rank {block}, whose shared memory this is, may have ended before");
        Err((Fault::of(inside % LANES, Cause::LaunchFailed, what), visit.pc as usize, other, inside / LANES))
    }

    /// Notes what lanes touch, or tells with whom the first of them collides.
    pub fn touch(&mut self, accesses: &Accesses) -> Result<(), Fault> {
        let &Accesses { block, pc, touch, size, base, low, high, home, .. } = accesses;
        // Each block's shared memory has two names: its own, and the one by which others know it.
        let region = home.map_or(base, |rank| SHARED + rank as u64);
        if let Some(home) = home.filter(|home| *home != block) {
            self.visit(home, accesses)?;
        }
        let Self { order, regions, .. } = self;
        let warp = order.warp(block, accesses.warp);
        let at = regions.iter().position(|other| other.0 == region).unwrap_or_else(|| {
            regions.push((region, Vec::new()));
            regions.len() - 1
        });
        let pages = &mut regions[at].1;
        let epoch = order.blocks[block].epoch;
        let now = (order.cluster * order.size + block as u32, epoch);
        let (first, end) = ((low - base) as usize, (high - base) as usize + size);
        if pages.len() < end.div_ceil(PAGE) {
            pages.resize_with(end.div_ceil(PAGE), || None);
        }
        // Most warps read what others read too. (Between arrival and wait a read is ordered later than others of its epoch.)
        if touch == Touch::Read
            && first / PAGE == (end - 1) / PAGE
            && let Some(page) = &pages[first / PAGE]
            && page.is_settled(first % PAGE, end - first, now)
            && order.warps[warp].arrived & accesses.mask == 0
        {
            return Ok(());
        }
        let clock = order.warps[warp].clock;
        for lane in lanes(accesses.mask) {
            let thread = order.first() + (warp * LANES + lane) as u32;
            let stamp = match accesses.post {
                None => Stamp { thread, epoch, clock, pc: pc as u32 },
                Some(post) => Stamp::of_post(thread, post, pc as u32),
            };
            let mut at = (accesses.addresses[lane] - base) as usize;
            let end = at + size;
            while at < end {
                let page = pages[at / PAGE].get_or_insert_with(Page::new);
                let granule = page.granule(size);
                if accesses.post.is_some() {
                    page.keep_all_reads();
                }
                match order.update(page.cell(at % PAGE, touch != Touch::Read), touch, stamp) {
                    Ok(settled) => page.settle(at % PAGE, settled, now),
                    Err((kind, past)) => {
                        let what = order.describe(touch, at as u64, base, home, kind, past);
                        return Err(Fault::of(lane, Cause::LaunchFailed, what));
                    }
                }
                at += granule;
            }
        }
        Ok(())
    }

    /// Notes that lanes use another block's shared memory, or tells who of them may find that block not begun.
    fn visit(&mut self, home: usize, accesses: &Accesses) -> Result<(), Fault> {
        let &Accesses { block, mask, pc, post, .. } = accesses;
        let Self { order, visits, .. } = self;
        let warp = order.warp(block, accesses.warp);
        let visits = &mut visits[home];
        visits.resize(order.threads(), [NEVER; 2]);
        let (epoch, clock) = (order.blocks[block].epoch, order.warps[warp].clock);
        for lane in lanes(mask) {
            let thread = warp * LANES + lane;
            if !order.phases.has_passed(thread) {
                let what = format!(
                    "the block of rank {home}, whose shared memory this is, may not have begun: no barrier of the cluster came before"
                );
                return Err(Fault::of(lane, Cause::LaunchFailed, what));
            }
            let number = order.first() + thread as u32;
            match post {
                None => visits[thread][0] = Stamp { thread: number, epoch, clock, pc: pc as u32 },
                Some(post) => visits[thread][1] = Stamp::of_post(number, post, pc as u32),
            }
        }
        Ok(())
    }
}

impl Order {
    /// How many numbers the threads of a cluster take up.
    fn threads(&self) -> usize {
        (self.size as usize) << self.shift
    }

    /// The number of the cluster's first thread in the grid.
    fn first(&self) -> u32 {
        (self.cluster * self.size) << self.shift
    }

    /// The number of a warp in the cluster.
    fn warp(&self, block: usize, warp: usize) -> usize {
        (block << self.shift) / LANES + warp
    }

    /// The number of a thread in the cluster that runs, if it is one of its threads.
    fn in_cluster(&self, thread: u32) -> Option<usize> {
        let own = thread.wrapping_sub(self.first()) as usize;
        (own < self.threads()).then_some(own)
    }

    /// Whether something past is ordered before what a thread does now.
    fn before(&self, past: &Stamp, thread: u32) -> bool {
        let is_post = past.post().is_some();
        if past.thread == NOBODY || past.thread == thread && !is_post {
            return true;
        }
        let Some(other) = self.in_cluster(past.thread) else {
            return false;
        };
        let own = (thread - self.first()) as usize;
        if self.signals.before(past, other, other >> self.shift, own) {
            return true;
        }
        if is_post {
            return false;
        }
        let block = own >> self.shift;
        if block == other >> self.shift {
            if past.epoch < self.blocks[block].passed {
                return true;
            }
            let warp = own / LANES;
            if warp == other / LANES && past.clock < self.warps[warp].known[own % LANES][other % LANES] {
                return true;
            }
        }
        self.phases.before(past, other, other >> self.shift, own)
    }

    /// Notes an access in a cell, and tells whether that settles it, or which other access it collides with.
    fn update(&self, cell: Cell, touch: Touch, now: Stamp) -> Result<Settled, (Touch, Stamp)> {
        // Two asynchronous stores of one thread count as ordered, though the first may come last: to where nobody looks yet a
        // thread may send again and again.
        let both_posts = |past: &Stamp| past.thread == now.thread && past.post().is_some() && now.post().is_some();
        let late = |past: &Stamp| !both_posts(past) && !self.before(past, now.thread);
        let Cell { reads, writes, all_reads } = cell;
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
            if let Some(all) = all_reads {
                if let Some(read) = all.iter().find(|read| late(read)) {
                    return Err((Touch::Read, *read));
                }
                if touch == Touch::Write {
                    all.clear();
                }
            }
            if let Some([write, atomic]) = writes {
                *if touch == Touch::Write { write } else { atomic } = now;
            }
            return Ok(Settled::No);
        }
        if let Some(all) = all_reads {
            all.retain(|read| late(read));
            all.push(now);
            return Ok(Settled::No);
        }
        if self.size > 1 {
            self.keep(reads, now);
            return Ok(self.settled_by_cluster(reads, now, writes));
        }
        let at = usize::from(late(&reads[0]));
        reads[at] = now;
        Ok(self.settled(reads[1 - at], now, writes))
    }

    /// Whether a thread of the cluster has arrived at its barrier and not passed it.
    fn has_arrived(&self, thread: usize) -> bool {
        self.warps[thread / LANES].arrived >> (thread % LANES) & 1 != 0
    }

    /// Whether something past is ordered before all that the threads of a block do in this epoch.
    fn before_all(&self, past: &Stamp, block: usize) -> bool {
        past.thread == NOBODY
            || past.post().is_none()
                && self.in_cluster(past.thread).is_some_and(|writer| {
                    let home = writer >> self.shift;
                    home == block && past.epoch < self.blocks[block].passed
                        || self.phases.before_all(past, writer, home, block)
                })
    }

    /// What follows from two reads: sure collisions of writers, and no collision of readers.
    fn settled(&self, other: Stamp, now: Stamp, writes: Option<&mut [Stamp; 2]>) -> Settled {
        let writes = writes.map_or([NEVER; 2], |writes| *writes);
        let Some(thread) = self.in_cluster(other.thread) else {
            let untouched = other.thread != NOBODY && writes.iter().all(|past| past.thread == NOBODY);
            return if untouched { Settled::ForGood } else { Settled::No };
        };
        let apart = other.epoch == now.epoch && thread / LANES != (now.thread - self.first()) as usize / LANES;
        if apart && writes.iter().all(|past| self.before_all(past, 0)) { Settled::ForNow } else { Settled::No }
    }

    /// Keeps two reads. Of three that are not ordered, one is of another cluster or released as late as any, and the other
    /// is of another block than that: between them they collide with most of the writers that any collides with.
    fn keep(&self, reads: &mut [Stamp; 2], now: Stamp) {
        let own = reads.iter().position(|read| read.thread == now.thread);
        if let Some(at) = own.or_else(|| reads.iter().position(|read| self.before(read, now.thread))) {
            reads[at] = now;
            return;
        }
        let lateness = |read: &Stamp| match self.in_cluster(read.thread) {
            None => 2,
            Some(thread) => u8::from(self.has_arrived(thread) && !self.phases.is_released(read, thread)),
        };
        let [first, second] = *reads;
        let mut kept = first;
        for read in [second, now] {
            if lateness(&read) > lateness(&kept) {
                kept = read;
            }
        }
        let worth = |read: &Stamp| (read.thread >> self.shift != kept.thread >> self.shift, lateness(read));
        let mut other = NEVER;
        for read in [first, second, now].into_iter().filter(|read| read.thread != kept.thread) {
            if other.thread == NOBODY || worth(&read) >= worth(&other) {
                other = read;
            }
        }
        *reads = [kept, other];
    }

    /// What follows from the reads that were kept: as `settled`. One of this epoch of the block, and one of another warp of
    /// it or of another block, are ordered before no writer before whom a third read of the epoch is not ordered too.
    fn settled_by_cluster(&self, reads: &[Stamp; 2], now: Stamp, writes: Option<&mut [Stamp; 2]>) -> Settled {
        let writes = writes.map_or([NEVER; 2], |writes| *writes);
        let is_foreign = |read: &Stamp| read.thread != NOBODY && self.in_cluster(read.thread).is_none();
        if reads.iter().any(is_foreign) {
            let untouched = writes.iter().all(|past| past.thread == NOBODY);
            return if untouched { Settled::ForGood } else { Settled::No };
        }
        let own = (now.thread - self.first()) as usize;
        let is_here = |read: &Stamp| read.thread >> self.shift == now.thread >> self.shift && read.epoch == now.epoch;
        let is_far =
            |read: &Stamp| read.thread >> self.shift != now.thread >> self.shift && !self.before(read, now.thread);
        let [one, other] = reads;
        let apart = match (is_here(one), is_here(other)) {
            (true, true) => one.thread / LANES as u32 != other.thread / LANES as u32,
            (true, false) => is_far(other),
            (false, true) => is_far(one),
            (false, false) => false,
        };
        let block = own >> self.shift;
        let settled = apart && !self.has_arrived(own) && writes.iter().all(|past| self.before_all(past, block));
        if settled { Settled::ForNow } else { Settled::No }
    }

    fn describe(&self, touch: Touch, at: u64, base: u64, home: Option<usize>, kind: Touch, past: Stamp) -> String {
        let (block, thread) = (past.thread >> self.shift, past.thread & ((1 << self.shift) - 1));
        let (cluster, rank) = (block / self.size, block % self.size);
        let who = match self.size {
            1 => format!("block {block} thread {thread}"),
            _ => format!("thread {thread} of block rank {rank} of cluster {cluster}"),
        };
        let place = match home {
            None => format!("global address {:#x}", base + at),
            Some(_) if self.size == 1 => format!("shared address {at:#x}"),
            Some(rank) => format!("shared address {at:#x} of block rank {rank}"),
        };
        format!("race: {touch:?} of {place}, unordered with the {kind:?} by {who} at instruction {}", past.pc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = crate::machine::BASE;

    fn access(races: &mut Races, thread: usize, touch: Touch, offset: u64, size: usize) -> bool {
        let accesses = Accesses {
            block: 0,
            warp: thread / LANES,
            mask: 1 << (thread % LANES),
            pc: 0,
            touch,
            base: BASE,
            home: None,
            addresses: &[BASE + offset; LANES],
            low: BASE + offset,
            high: BASE + offset,
            size,
            post: None,
        };
        races.touch(&accesses).is_ok()
    }

    fn block() -> Races {
        let mut races = Races::new(64, 1);
        races.begin(0);
        races
    }

    /// The same in a cluster of two blocks of 64 threads, whose threads are numbered through.
    fn in_pair(races: &mut Races, thread: usize, touch: Touch, home: Option<usize>) -> bool {
        let accesses = Accesses {
            block: thread / 64,
            warp: thread % 64 / LANES,
            mask: 1 << (thread % LANES),
            pc: 0,
            touch,
            base: BASE,
            home,
            addresses: &[BASE; LANES],
            low: BASE,
            high: BASE,
            size: 4,
            post: None,
        };
        races.touch(&accesses).is_ok()
    }

    fn pair() -> Races {
        let mut races = Races::new(64, 2);
        races.begin(3);
        races
    }

    const WARPS: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

    fn arrive(races: &mut Races, relaxed: bool) {
        WARPS.iter().for_each(|&(block, warp)| races.arrive(block, warp, u32::MAX, relaxed));
    }

    fn complete(races: &mut Races) {
        races.complete(WARPS.iter().map(|&(block, warp)| (block, warp, u32::MAX)));
    }

    fn pass(races: &mut Races) {
        WARPS.iter().for_each(|&(block, warp)| races.wait(block, warp, u32::MAX));
    }

    fn meet(races: &mut Races) {
        arrive(races, false);
        complete(races);
        pass(races);
    }

    #[test]
    fn a_barrier_of_the_cluster_orders_all_of_it() {
        use Touch::{Atomic, Read, Write};
        for (first, second, ordered) in
            [(Read, Write, false), (Write, Read, false), (Write, Atomic, false), (Read, Read, true)]
        {
            for (one, other) in [(0, 1), (0, 40), (5, 64), (70, 20), (127, 0)] {
                let run = |between: &dyn Fn(&mut Races)| {
                    let mut races = pair();
                    assert!(in_pair(&mut races, one, first, None));
                    between(&mut races);
                    in_pair(&mut races, other, second, None)
                };
                assert_eq!(run(&|_| ()), ordered);
                assert!(run(&meet));
                assert!(run(&|races| (meet(races), meet(races)).0));
                assert_eq!(run(&|races| arrive(races, false)), ordered);
                assert_eq!(
                    run(&|races| (arrive(races, false), complete(races)).0),
                    ordered,
                    "who has not waited knows nothing"
                );
                assert_eq!(run(&|races| (arrive(races, true), complete(races), pass(races)).0), ordered, "relaxed");
                let same_block = one / 64 == other / 64;
                assert_eq!(run(&|races| races.barrier(0)), ordered || same_block && one < 64);
                // The next cluster knows nothing of it.
                assert_eq!(run(&|races| (meet(races), races.begin(4)).0), ordered);
            }
        }
    }

    #[test]
    fn what_comes_after_the_arrival_is_not_ordered() {
        for between in [0, 1] {
            let mut races = pair();
            arrive(&mut races, false);
            if between == 1 {
                complete(&mut races);
            }
            assert!(in_pair(&mut races, 3, Touch::Write, None));
            if between == 0 {
                complete(&mut races);
            }
            pass(&mut races);
            assert!(!in_pair(&mut races, 64, Touch::Read, None));
            // The next barrier orders it.
            meet(&mut races);
            assert!(in_pair(&mut races, 64, Touch::Read, None));
        }
    }

    #[test]
    fn barriers_of_the_block_pass_on_what_the_cluster_knows() {
        // One thread waits, and tells the others of its block; others have told who arrives.
        let mut races = pair();
        WARPS[1..].iter().for_each(|&(block, warp)| races.arrive(block, warp, u32::MAX, false));
        assert!(in_pair(&mut races, 40, Touch::Write, None), "after its own arrival");
        races.barrier(0);
        races.arrive(0, 0, u32::MAX, false);
        complete(&mut races);
        races.wait(1, 0, 1);
        assert!(in_pair(&mut races, 64, Touch::Read, None));
        assert!(!in_pair(&mut races, 65, Touch::Read, None));
        let mut races = pair();
        assert!(in_pair(&mut races, 40, Touch::Write, None));
        arrive(&mut races, false);
        complete(&mut races);
        races.wait(1, 0, 1);
        races.meet(1, 0, 0b11);
        assert!(in_pair(&mut races, 65, Touch::Read, None));
        races.barrier(1);
        assert!(in_pair(&mut races, 127, Touch::Read, None));
    }

    #[test]
    fn who_has_ended_has_arrived() {
        let mut races = pair();
        assert!(in_pair(&mut races, 64, Touch::Write, None));
        WARPS[..2].iter().for_each(|&(block, warp)| races.arrive(block, warp, u32::MAX, false));
        races.complete([(0, 0, u32::MAX), (0, 1, u32::MAX), (1, 0, 0), (1, 1, 0)].into_iter());
        races.wait(0, 0, u32::MAX);
        assert!(in_pair(&mut races, 5, Touch::Read, None));
    }

    #[test]
    fn shared_memory_of_others_lasts_from_barrier_to_barrier() {
        let mut races = pair();
        assert!(in_pair(&mut races, 64, Touch::Write, Some(1)), "its own");
        assert!(!in_pair(&mut races, 0, Touch::Read, Some(1)), "not begun");
        let mut races = pair();
        assert!(in_pair(&mut races, 0, Touch::Write, Some(0)) && in_pair(&mut races, 64, Touch::Write, Some(1)));
        meet(&mut races);
        assert!(in_pair(&mut races, 7, Touch::Read, Some(1)) && in_pair(&mut races, 70, Touch::Read, Some(0)));
        assert!(races.end_block(1).is_err());
        arrive(&mut races, false);
        assert!(races.end_block(1).is_err(), "nobody has waited");
        complete(&mut races);
        races.wait(1, 1, 1 << 9);
        assert!(races.end_block(1).is_ok(), "one has waited");
        assert!(races.end_block(0).is_err());
    }

    /// A thread arrives at an mbarrier for one thread.
    fn signal(races: &mut Races, mbarrier: usize, thread: usize) -> bool {
        for (_, release) in races.release(thread / 64, thread % 64 / LANES, 1 << (thread % LANES)) {
            races.gather(mbarrier, &release);
        }
        races.end_phase(mbarrier).is_ok()
    }

    fn observe(races: &mut Races, mbarrier: usize, thread: usize, relaxed: bool) {
        races.observe(thread / 64, thread % 64 / LANES, 1 << (thread % LANES), 0, mbarrier, relaxed);
    }

    #[test]
    fn an_mbarrier_orders_who_arrives_before_who_waits() {
        use Touch::{Atomic, Read, Write};
        for (first, second) in [(Read, Write), (Write, Read), (Write, Atomic)] {
            for (one, other) in [(0, 1), (0, 40), (5, 64), (127, 0)] {
                let run = |between: &dyn Fn(&mut Races, usize)| {
                    let mut races = pair();
                    let mbarrier = races.add_mbarrier();
                    assert!(in_pair(&mut races, one, first, None));
                    between(&mut races, mbarrier);
                    in_pair(&mut races, other, second, None)
                };
                assert!(run(&|races, m| (signal(races, m, one), observe(races, m, other, false)).1));
                assert!(!run(&|races, m| _ = signal(races, m, one)), "who has not waited knows nothing");
                assert!(!run(&|races, m| (signal(races, m, one), observe(races, m, other, true)).1), "relaxed");
                assert!(!run(&|races, m| observe(races, m, other, false)), "nobody has arrived");
                // Another thread arrives: of the block, or of the warp, after they have met.
                let also = if one % 64 == 3 { 4 } else { one / 64 * 64 + 3 };
                assert!(!run(&|races, m| (signal(races, m, also), observe(races, m, other, false)).1));
                let told = |races: &mut Races, m| {
                    races.barrier(one / 64);
                    signal(races, m, also);
                    observe(races, m, other, false);
                };
                assert!(run(&told));
                // A third passes it on: by another mbarrier, by its block, or by the barrier of the cluster.
                let third = other / 64 * 64 + 50;
                let by_mbarrier = |races: &mut Races, m| {
                    let next = races.add_mbarrier();
                    signal(races, m, one);
                    observe(races, m, 77, false);
                    signal(races, next, 77);
                    observe(races, next, other, false);
                };
                assert!(run(&by_mbarrier));
                let by_block = |races: &mut Races, m| {
                    signal(races, m, one);
                    observe(races, m, third, false);
                    races.barrier(other / 64);
                };
                assert!(run(&by_block));
                assert!(run(&|races, m| (signal(races, m, one), observe(races, m, third, false), meet(races)).2));
            }
        }
    }

    #[test]
    fn a_warp_passes_on_what_its_lanes_know_to_mbarriers() {
        let run = |met: bool| {
            let mut races = pair();
            let mbarrier = races.add_mbarrier();
            assert!(in_pair(&mut races, 7, Touch::Write, None));
            if met {
                races.meet(0, 0, 1 | 1 << 7);
            }
            signal(&mut races, mbarrier, 0);
            observe(&mut races, mbarrier, 100, false);
            in_pair(&mut races, 100, Touch::Read, None)
        };
        assert!(run(true) && !run(false));
    }

    #[test]
    fn what_comes_after_an_arrival_is_not_released() {
        let mut races = pair();
        let mbarrier = races.add_mbarrier();
        signal(&mut races, mbarrier, 0);
        assert!(in_pair(&mut races, 0, Touch::Write, None));
        observe(&mut races, mbarrier, 100, false);
        assert!(!in_pair(&mut races, 100, Touch::Read, None));
    }

    #[test]
    fn phases_must_not_end_before_all_have_seen_the_last() {
        for (seen, ordered) in [(5, true), (1, false), (100, false)] {
            let mut races = pair();
            let mbarrier = races.add_mbarrier();
            assert!(signal(&mut races, mbarrier, 0));
            observe(&mut races, mbarrier, seen, false);
            if ordered {
                races.barrier(0);
            }
            assert_eq!(signal(&mut races, mbarrier, 0), ordered, "{seen}");
        }
    }

    /// A thread begins an asynchronous store.
    fn post(races: &mut Races, number: u32, thread: usize) -> bool {
        races
            .touch(&Accesses {
                block: thread / 64,
                warp: thread % 64 / LANES,
                mask: 1 << (thread % LANES),
                pc: 0,
                touch: Touch::Write,
                base: BASE,
                home: None,
                addresses: &[BASE; LANES],
                low: BASE,
                high: BASE,
                size: 4,
                post: Some(number),
            })
            .is_ok()
    }

    #[test]
    fn an_asynchronous_store_has_happened_for_who_has_seen_its_phase() {
        for reader in [0, 1, 100] {
            let run = |between: &dyn Fn(&mut Races, usize, u32)| {
                let mut races = pair();
                let (mbarrier, number) = (races.add_mbarrier(), races.add_post());
                assert!(post(&mut races, number, 0));
                between(&mut races, mbarrier, number);
                in_pair(&mut races, reader, Touch::Read, None)
            };
            let count = |races: &mut Races, m, number| {
                assert!(races.land(number, m, &Release::new()));
                races.end_phase(m).unwrap();
            };
            assert!(run(&|races, m, number| (count(races, m, number), observe(races, m, reader, false)).1));
            assert!(!run(&count), "nobody has waited, and even its own thread must");
            assert!(!run(&|races, _, _| meet(races)), "no barrier tells that it has happened");
            assert!(!run(&|races, m, number| (count(races, m, number), meet(races)).1));
            let early = |races: &mut Races, m, number| {
                races.end_phase(m).unwrap();
                assert!(!races.land(number, m, &Release::new()), "its thread knows of no phase");
                observe(races, m, reader, false);
            };
            assert!(!run(&early), "it was counted in the phase after");
        }
    }

    #[test]
    fn an_asynchronous_store_collides_with_every_reader() {
        for late in [1, 2, 40, 50] {
            let run = |all: bool| {
                let mut races = pair();
                let (mbarrier, number) = (races.add_mbarrier(), races.add_post());
                assert!(post(&mut races, number, 64));
                assert!(races.land(number, mbarrier, &Release::new()));
                races.end_phase(mbarrier).unwrap();
                let readers = [1, 2, 40, 50];
                for reader in readers {
                    observe(&mut races, mbarrier, reader, false);
                    assert!(in_pair(&mut races, reader, Touch::Read, None));
                }
                let next = races.add_mbarrier();
                for reader in readers.into_iter().filter(|&reader| all || reader != late) {
                    signal(&mut races, next, reader);
                }
                observe(&mut races, next, 64, false);
                let number = races.add_post();
                post(&mut races, number, 64)
            };
            assert!(run(true) && !run(false), "{late}");
        }
    }

    #[test]
    fn readers_of_a_later_phase_are_noted() {
        for (reader, writer) in [(2, 64), (2, 1), (70, 1), (41, 100)] {
            let mut races = pair();
            assert!(in_pair(&mut races, 1, Touch::Read, None) && in_pair(&mut races, 40, Touch::Read, None));
            meet(&mut races);
            assert!(in_pair(&mut races, reader, Touch::Read, None));
            assert!(!in_pair(&mut races, writer, Touch::Write, None), "{reader} {writer}");
        }
        // Between arrival and wait, too, and however many read in time.
        for (late, writer) in [(5, 64), (5, 1), (5, 40)] {
            let mut races = pair();
            races.arrive(0, 0, 1 << late, false);
            for reader in [1, 40, late, 41, 70, 2] {
                assert!(in_pair(&mut races, reader, Touch::Read, None));
            }
            races.arrive(0, 0, !(1 << late), false);
            WARPS[1..].iter().for_each(|&(block, warp)| races.arrive(block, warp, u32::MAX, false));
            complete(&mut races);
            pass(&mut races);
            assert!(!in_pair(&mut races, writer, Touch::Write, None), "{writer}");
        }
    }

    #[test]
    fn a_reader_of_another_block_is_not_forgotten() {
        for readers in [[1, 70, 2, 40], [70, 1, 40, 2], [1, 2, 40, 70], [1, 40, 70, 2]] {
            let mut races = pair();
            assert!(readers.iter().all(|&reader| in_pair(&mut races, reader, Touch::Read, None)));
            races.barrier(0);
            assert!(!in_pair(&mut races, 3, Touch::Write, None), "{readers:?}");
        }
    }

    #[test]
    fn readers_that_need_not_be_noted_are_still_seen() {
        // Many of one block read, some of them between arrival and wait.
        for late in [false, true] {
            for writer in [0, 63, 64, 100] {
                let mut races = pair();
                assert!(in_pair(&mut races, 1, Touch::Read, None) && in_pair(&mut races, 40, Touch::Read, None));
                races.arrive(0, 0, 1 << 5, false);
                assert!(in_pair(&mut races, 2, Touch::Read, None) && in_pair(&mut races, 41, Touch::Read, None));
                if late {
                    assert!(in_pair(&mut races, 5, Touch::Read, None));
                }
                WARPS.iter().for_each(|&(block, warp)| {
                    let mask = if (block, warp) == (0, 0) { !(1 << 5) } else { u32::MAX };
                    races.arrive(block, warp, mask, false);
                });
                complete(&mut races);
                pass(&mut races);
                assert_eq!(in_pair(&mut races, writer, Touch::Write, None), !late, "{writer}");
            }
        }
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
                races.barrier(0);
                assert!(access(&mut races, other, second, 0, 4));
                let mut races = block();
                assert!(access(&mut races, 0, first, 0, 4));
                races.begin(1);
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
        races.meet(0, 0, 0b011);
        assert!(access(&mut races, 1, Touch::Read, 0, 4));
        assert!(!access(&mut races, 2, Touch::Read, 0, 4));
        // What is known is passed on.
        let mut races = block();
        assert!(access(&mut races, 0, Touch::Write, 0, 4));
        races.meet(0, 0, 0b011);
        races.meet(0, 0, 0b110);
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
            let mut races = Races::new(96, 1);
            races.begin(0);
            assert!(access(&mut races, 3, Touch::Write, 0, 4));
            races.barrier(0);
            for reader in [1, 40, 2, 41, 1] {
                assert!(access(&mut races, reader, Touch::Read, 0, 4));
            }
            assert!(!access(&mut races, writer, Touch::Write, 0, 4));
            let mut races = Races::new(96, 1);
            races.begin(0);
            for reader in [1, 40, 2] {
                assert!(access(&mut races, reader, Touch::Read, 0, 4));
            }
            races.barrier(0);
            assert!(access(&mut races, writer, Touch::Write, 0, 4));
            assert_eq!(access(&mut races, 2, Touch::Read, 0, 4), writer == 2);
        }
        // Read by two blocks: nobody may write any more.
        for writer in [1, 40] {
            let mut races = block();
            assert!(access(&mut races, 1, Touch::Read, 0, 4));
            races.begin(1);
            assert!(access(&mut races, 1, Touch::Read, 0, 4));
            races.barrier(0);
            assert!(access(&mut races, 2, Touch::Read, 0, 4));
            assert!(!access(&mut races, writer, Touch::Write, 0, 4));
        }
    }
}
