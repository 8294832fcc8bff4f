//! The orderings of mbarriers.
//!
//! A thread that arrives at an mbarrier, or stores something whose bytes it counts, releases its accesses and its knowledge. A
//! thread that has observed the end of a phase knows everything that was released in it and in earlier ones. An asynchronous
//! store is not an access of its thread: it has happened for threads that know that the phase which counted its bytes has
//! ended.

use std::rc::Rc;

use super::pages::Stamp;

/// Everything that is ordered before an access: the last phase of the cluster's barrier, the epoch of each block and the clock of
/// each thread before which everything is known, and the number of ended phases of each mbarrier. All threads of a block often have
/// the same knowledge, and then share it.
type Known = Vec<u32>;

/// What a thread releases.
pub type Release = Known;

fn join(into: &mut Known, other: &[u32]) {
    if into.len() < other.len() {
        into.resize(other.len(), 0);
    }
    for (own, other) in into.iter_mut().zip(other) {
        *own = (*own).max(*other);
    }
}

/// Whether `one` contains all knowledge of `other`.
fn covers(one: &[u32], other: &[u32]) -> bool {
    one.len() >= other.len() && one.iter().zip(other).all(|(one, other)| one >= other)
}

/// An mbarrier.
struct Counted {
    /// Everything that has been released so far.
    gathered: Known,
    /// Phases that have ended.
    ended: u32,
    /// Everything that had been released when the last of them ended.
    released: Rc<Known>,
    /// The threads that have observed the end of the last one, and when.
    seen: Vec<Stamp>,
}

/// The mbarriers of a cluster. Empty until the first one.
#[derive(Default)]
pub struct Signals {
    blocks: usize,
    threads: usize,
    /// The knowledge of each thread.
    known: Vec<Rc<Known>>,
    mbarriers: Vec<Counted>,
    /// For each asynchronous store that has happened, the mbarrier that counted it, and the phase.
    landed: Vec<Option<(usize, u32)>>,
    /// What the arrivals at the barrier of the cluster have released: so far, and when it was last passed.
    arrived: Known,
    met: Rc<Known>,
    /// The last two that were joined, and the result.
    last: Option<[Rc<Known>; 3]>,
}

impl Signals {
    /// A new mbarrier in a cluster with this many blocks and thread numbers.
    pub fn add_mbarrier(&mut self, blocks: usize, threads: usize) -> usize {
        if self.known.is_empty() {
            (self.blocks, self.threads) = (blocks, threads);
            self.met = Rc::new(vec![0; 1 + blocks + threads]);
            self.arrived = self.met.to_vec();
            self.known = vec![self.met.clone(); threads];
        }
        let (gathered, released) = (self.arrived.clone(), self.met.clone());
        self.mbarriers.push(Counted { gathered, ended: 0, released, seen: Vec::new() });
        self.mbarriers.len() - 1
    }

    /// A new asynchronous store.
    pub fn add_post(&mut self) -> u32 {
        self.landed.push(None);
        self.landed.len() as u32 - 1
    }

    /// Whether there are no mbarriers.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// What a thread releases: its knowledge, the last phase of the cluster's barrier that it has passed, what its block did
    /// before an epoch, and what the threads of its warp did before a clock, from thread `first` on.
    pub fn release(
        &self, thread: usize, passed: u32, (block, epoch): (usize, u32), first: usize, clocks: &[u32],
    ) -> Release {
        let mut release = self.known.get(thread).map_or_else(Vec::new, |known| known.to_vec());
        if !release.is_empty() {
            release[0] = release[0].max(passed);
            release[1 + block] = release[1 + block].max(epoch);
            let at = 1 + self.blocks + first;
            for (own, clock) in release[at..].iter_mut().zip(clocks) {
                *own = (*own).max(*clock);
            }
        }
        release
    }

    /// A release reaches an mbarrier.
    pub fn gather(&mut self, number: usize, release: &Release) {
        join(&mut self.mbarriers[number].gathered, release);
    }

    /// An asynchronous store happens, and an mbarrier counts it. Returns whether its thread knew of all phases that have ended: if
    /// not, the bytes could have arrived earlier and been counted in another phase.
    pub fn land(&mut self, post: u32, number: usize, release: &Release) -> bool {
        let ended = self.mbarriers[number].ended;
        self.landed[post as usize] = Some((number, ended));
        release.get(1 + self.blocks + self.threads + number).copied().unwrap_or(0) >= ended
    }

    /// A phase of an mbarrier ends. Every thread that observed the end of the previous one must have been certain to observe it.
    pub fn end_phase(&mut self, number: usize, place: impl Fn(&Stamp) -> (usize, usize)) -> Result<(), Stamp> {
        let seen = std::mem::take(&mut self.mbarriers[number].seen);
        let late = |stamp: &&Stamp| {
            let (thread, block) = place(stamp);
            !self.holds(&self.mbarriers[number].gathered, stamp, thread, block)
        };
        if let Some(stamp) = seen.iter().find(late) {
            return Err(*stamp);
        }
        let at = 1 + self.blocks + self.threads + number;
        let Counted { gathered, ended, released, .. } = &mut self.mbarriers[number];
        *ended += 1;
        if gathered.len() <= at {
            gathered.resize(at + 1, 0);
        }
        gathered[at] = *ended;
        *released = Rc::new(gathered.clone());
        Ok(())
    }

    /// A thread has observed the end of an mbarrier's last phase; returns the last phase of the cluster's barrier that it now
    /// knows to have ended.
    pub fn observe(&mut self, thread: usize, number: usize, stamp: Stamp, relaxed: bool) -> u32 {
        let barrier = &mut self.mbarriers[number];
        if barrier.ended > 0 {
            barrier.seen.retain(|other| other.thread != stamp.thread);
            barrier.seen.push(stamp);
        }
        if !relaxed {
            let released = barrier.released.clone();
            self.known[thread] = self.joint(&self.known[thread].clone(), &released);
        }
        self.known[thread][0]
    }

    /// Threads exchange their knowledge.
    pub fn meet(&mut self, threads: impl Iterator<Item = usize> + Clone) {
        let Some(first) = threads.clone().next().filter(|_| !self.is_empty()) else {
            return;
        };
        let mut all = self.known[first].clone();
        for thread in threads.clone() {
            if !Rc::ptr_eq(&all, &self.known[thread]) {
                all = self.joint(&all, &self.known[thread].clone());
            }
        }
        for thread in threads {
            if !Rc::ptr_eq(&all, &self.known[thread]) {
                self.known[thread] = all.clone();
            }
        }
    }

    /// Threads arrive at the barrier of the cluster.
    pub fn arrive(&mut self, threads: impl Iterator<Item = usize>) {
        let mut last = None;
        for known in threads.filter_map(|thread| self.known.get(thread)) {
            if last.is_none_or(|last| !Rc::ptr_eq(last, known)) {
                join(&mut self.arrived, known);
            }
            last = Some(known);
        }
    }

    /// All have arrived at the barrier of the cluster.
    pub fn complete(&mut self) {
        if !self.is_empty() {
            self.met = Rc::new(self.arrived.clone());
        }
    }

    /// Threads pass the barrier of the cluster.
    pub fn pass(&mut self, threads: impl Iterator<Item = usize>) {
        if !self.is_empty() {
            for thread in threads {
                self.known[thread] = self.joint(&self.known[thread].clone(), &self.met.clone());
            }
        }
    }

    /// Whether a thread knows of an access by another thread, of a block.
    pub fn before(&self, past: &Stamp, thread: usize, block: usize, to: usize) -> bool {
        self.known.get(to).is_some_and(|known| self.holds(known, past, thread, block))
    }

    fn holds(&self, known: &[u32], past: &Stamp, thread: usize, block: usize) -> bool {
        match past.post() {
            None => past.epoch < known[1 + block] || past.clock < known[1 + self.blocks + thread],
            Some(post) => self.landed[post as usize].is_some_and(|(number, phase)| {
                known.get(1 + self.blocks + self.threads + number).is_some_and(|&ended| phase < ended)
            }),
        }
    }

    fn joint(&mut self, one: &Rc<Known>, other: &Rc<Known>) -> Rc<Known> {
        if Rc::ptr_eq(one, other) {
            return one.clone();
        }
        if let Some([first, second, joint]) = &self.last
            && Rc::ptr_eq(first, one)
            && Rc::ptr_eq(second, other)
        {
            return joint.clone();
        }
        let joint = if covers(one, other) {
            one.clone()
        } else if covers(other, one) {
            other.clone()
        } else {
            let mut joint = one.to_vec();
            join(&mut joint, other);
            Rc::new(joint)
        };
        self.last = Some([one.clone(), other.clone(), joint.clone()]);
        joint
    }
}
