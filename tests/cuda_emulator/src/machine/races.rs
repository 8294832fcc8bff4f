//! The race detector.
//!
//! Two accesses to the same bytes, at least one of them a write and not both atomic, must be ordered. They are ordered by
//! program order; by a barrier of the block between them; by an exchange or barrier of the warp in which both lanes took part; or
//! by a barrier of the cluster, which orders everything before one thread's arrival before everything after another's wait.
//! Mbarriers order in the same way.
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

/// The orderings that the lanes of a warp know of each other.
struct Knowledge {
    clock: u32,
    /// `known[a][b]`: everything that lane `b` did before this clock is ordered before lane `a`'s next access.
    known: [[u32; LANES]; LANES],
    /// Lanes that have arrived at the barrier of the cluster and not passed it.
    arrived: u32,
}

/// The time of a block. It advances when the block passes a barrier, and when threads arrive at the cluster's.
#[derive(Clone, Copy, Default)]
struct Time {
    epoch: u32,
    /// The epoch that began with the last barrier of the block: earlier accesses are ordered.
    passed: u32,
}

/// The orderings between accesses. Threads are numbered so that each block of the grid begins at a multiple of a power of two.
struct Order {
    /// Binary logarithm of the thread numbers per block.
    shift: u32,
    /// Blocks of a cluster.
    size: u32,
    cluster: u32,
    blocks: Vec<Time>,
    warps: Vec<Knowledge>,
    phases: Phases,
    signals: Signals,
}

/// All accesses of a launch so far.
pub struct Races {
    order: Order,
    /// The pages of each region, by its start.
    regions: Vec<(u64, Vec<Option<Page>>)>,
    /// For each block of the cluster, the last time each thread of the others used its shared memory, directly and by asynchronous
    /// stores; empty if none did.
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
    /// The kind of access.
    pub touch: Touch,
    /// The start of the region.
    pub base: u64,
    /// The rank of the block that owns the region, if it is shared memory.
    pub home: Option<usize>,
    /// The start of each lane's access.
    pub addresses: &'a Row<u64>,
    /// The lowest and the highest of them.
    pub low: u64,
    /// See `low`.
    pub high: u64,
    /// Bytes of each lane's access.
    pub size: usize,
    /// The number of the asynchronous store, if it is one.
    pub post: Option<u32>,
}

impl Races {
    /// A detector for blocks of `threads` threads and clusters of `size` blocks.
    pub fn new(threads: u32, size: u32) -> Self {
        let shift = threads.next_power_of_two().max(LANES as u32).ilog2();
        let (blocks, warps) = (Vec::new(), Vec::new());
        let (phases, signals) = (Phases::default(), Signals::default());
        let order = Order { shift, size, cluster: 0, blocks, warps, phases, signals };
        Self { order, regions: Vec::new(), visits: Vec::new() }
    }

    /// A cluster begins; shared memory has no history.
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

    /// Lanes of a warp have synchronised.
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
        // Separates later accesses from earlier ones.
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

    /// All threads of the cluster have arrived at its barrier; `live` are blocks, warps and live lanes.
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

    /// A new mbarrier; returns its number.
    pub fn add_mbarrier(&mut self) -> usize {
        self.order.signals.add_mbarrier(self.order.size as usize, self.order.threads())
    }

    /// A new asynchronous store; returns its number.
    pub fn add_post(&mut self) -> u32 {
        self.order.signals.add_post()
    }

    /// Lanes of a warp arrive at mbarriers or store asynchronously: returns what each of them releases.
    pub fn release(&mut self, block: usize, warp: usize, mask: u32) -> Vec<(usize, Release)> {
        let Order { shift, blocks, warps, phases, signals, .. } = &mut self.order;
        let first = (block << *shift) + warp * LANES;
        let (time, knowledge) = (&mut blocks[block], &mut warps[first / LANES]);
        // Separates later accesses from earlier ones.
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

    /// A release reaches an mbarrier.
    pub fn gather(&mut self, mbarrier: usize, release: &Release) {
        self.order.signals.gather(mbarrier, release);
    }

    /// An asynchronous store happens in the current phase of an mbarrier; returns whether no earlier phase could have counted it.
    pub fn land(&mut self, post: u32, mbarrier: usize, release: &Release) -> bool {
        self.order.signals.land(post, mbarrier, release)
    }

    /// A phase of an mbarrier ends; an error if it might have ended too early for a thread that waited for the previous one.
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

    /// Lanes of a warp have observed the end of an mbarrier's last phase.
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

    /// A block has ended: every access by others to its shared memory must be ordered before its end. A fault comes with the
    /// instruction, the block and the warp of the access.
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

    /// Records an access, or reports with what its first colliding lane collides.
    pub fn touch(&mut self, accesses: &Accesses) -> Result<(), Fault> {
        let &Accesses { block, pc, touch, size, base, low, high, home, .. } = accesses;
        // Each block's shared memory has two addresses: its own, and that for other blocks.
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

    /// Records an access to another block's shared memory, or reports that this block may not have begun.
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
    /// The number of thread numbers of a cluster.
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

    /// The number of a thread in the current cluster, if it is one of its threads.
    fn in_cluster(&self, thread: u32) -> Option<usize> {
        let own = thread.wrapping_sub(self.first()) as usize;
        (own < self.threads()).then_some(own)
    }

    /// Whether a past access is ordered before a thread's next one.
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

    /// Records an access in a cell, and returns whether that settles it, or the access with which it collides.
    fn update(&self, cell: Cell, touch: Touch, now: Stamp) -> Result<Settled, (Touch, Stamp)> {
        // Two asynchronous stores of one thread count as ordered, though the first may arrive last: a thread may send again and
        // again to memory that is not read yet.
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

    /// Whether a past access is ordered before all accesses of a block's threads in this epoch.
    fn before_all(&self, past: &Stamp, block: usize) -> bool {
        past.thread == NOBODY
            || past.post().is_none()
                && self.in_cluster(past.thread).is_some_and(|writer| {
                    let home = writer >> self.shift;
                    home == block && past.epoch < self.blocks[block].passed
                        || self.phases.before_all(past, writer, home, block)
                })
    }

    /// The consequence of two reads: certain collisions of writers, and no collision of readers.
    fn settled(&self, other: Stamp, now: Stamp, writes: Option<&mut [Stamp; 2]>) -> Settled {
        let writes = writes.map_or([NEVER; 2], |writes| *writes);
        let Some(thread) = self.in_cluster(other.thread) else {
            let untouched = other.thread != NOBODY && writes.iter().all(|past| past.thread == NOBODY);
            return if untouched { Settled::ForGood } else { Settled::No };
        };
        let apart = other.epoch == now.epoch && thread / LANES != (now.thread - self.first()) as usize / LANES;
        if apart && writes.iter().all(|past| self.before_all(past, 0)) { Settled::ForNow } else { Settled::No }
    }

    /// Keeps two reads. Of three unordered ones, one is of another cluster or released as late as any, and the other
    /// is of another block than that: these two collide with most of the writers with which any collides.
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

    /// The consequence of the kept reads, as in `settled`. One read of this epoch of the block, and one of another warp of
    /// it or of another block, are ordered before no writer that would be unordered with a third read of the epoch.
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
mod tests;
