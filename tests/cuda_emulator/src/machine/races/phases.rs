//! The orderings of the cluster's barrier.
//!
//! A phase ends when all threads have arrived. Since no thread arrives a second time before waiting, a thread
//! has passed either all phases that have ended or all except the last.

use super::pages::Stamp;
use super::{LANES, lanes};

/// What the arrivals up to some phase have released.
#[derive(Clone, Default)]
struct Released {
    /// For each thread, the clock of its warp: everything that the thread did before is released.
    clocks: Vec<u32>,
    /// For each block, an epoch: everything that its threads did before is released.
    epochs: Vec<u32>,
}

impl Released {
    fn covers(&self, past: &Stamp, thread: usize, block: usize) -> bool {
        past.clock < self.clocks[thread] || past.epoch < self.epochs[block]
    }
}

/// The barrier of a cluster. Empty until the first arrival.
#[derive(Default)]
pub struct Phases {
    /// Phases that have ended.
    ended: u32,
    /// For each thread, the number of phases that it knows to have ended.
    passed: Vec<u32>,
    /// For each block, the number of threads that have not passed the last of them.
    behind: Vec<u32>,
    /// By the phase before the last one that ended, by the last one, and by the current one.
    released: [Released; 3],
}

impl Phases {
    /// A thread of a cluster of `threads` threads and `blocks` blocks arrives.
    pub fn begin(&mut self, threads: usize, blocks: usize) {
        if self.passed.is_empty() {
            self.passed = vec![0; threads];
            self.behind = vec![0; blocks];
            let nothing = Released { clocks: vec![0; threads], epochs: vec![0; blocks] };
            self.released = [nothing.clone(), nothing.clone(), nothing];
        }
    }

    /// Threads of a block release what they did before this clock of their warp, and what the block did before an epoch.
    pub fn release(&mut self, threads: impl Iterator<Item = usize>, clock: u32, block: usize, epoch: u32) {
        let Released { clocks, epochs } = &mut self.released[2];
        for thread in threads {
            clocks[thread] = clock;
        }
        epochs[block] = epochs[block].max(epoch);
    }

    /// All live threads have arrived: blocks, warps of the cluster, and lanes. All accesses of others are complete.
    pub fn complete(&mut self, warps: impl Iterator<Item = (usize, usize, u32)>) {
        self.ended += 1;
        self.behind.fill(0);
        let clocks = &mut self.released[2].clocks;
        for (block, warp, live) in warps {
            self.behind[block] += live.count_ones();
            for lane in lanes(!live) {
                clocks[warp * LANES + lane] = u32::MAX;
            }
        }
        self.released.rotate_left(1);
        // Releases remain, and a relaxed arrival adds nothing to them.
        let [_, last, next] = &mut self.released;
        next.clocks.copy_from_slice(&last.clocks);
        next.epochs.copy_from_slice(&last.epochs);
    }

    /// Threads of a block pass the phase that has just ended.
    pub fn acquire(&mut self, threads: impl Iterator<Item = usize>, block: usize) {
        for thread in threads {
            self.passed[thread] = self.ended;
            self.behind[block] = self.behind[block].saturating_sub(1);
        }
    }

    /// Threads exchange their knowledge of ended phases.
    pub fn meet(&mut self, threads: impl Iterator<Item = usize> + Clone) {
        if self.ended == 0 {
            return;
        }
        let latest = threads.clone().map(|thread| self.passed[thread]).max().unwrap_or(0);
        for thread in threads {
            self.passed[thread] = latest;
        }
    }

    /// The number of phases that a thread knows to have ended.
    pub fn passed(&self, thread: usize) -> u32 {
        self.passed.get(thread).copied().unwrap_or(0)
    }

    /// A thread learns that this many phases have ended.
    pub fn learn(&mut self, thread: usize, ended: u32) {
        if let Some(passed) = self.passed.get_mut(thread) {
            *passed = ended.max(*passed);
        }
    }

    /// Whether a thread knows that all blocks of the cluster have begun.
    pub fn has_passed(&self, thread: usize) -> bool {
        self.passed.get(thread).is_some_and(|&passed| passed > 0)
    }

    /// Of some threads, the one that knows most.
    pub fn latest(&self, threads: std::ops::Range<usize>) -> usize {
        let first = threads.start;
        threads.max_by_key(|&thread| self.passed.get(thread)).unwrap_or(first)
    }

    /// Whether an access of a thread of a block is released to a thread.
    pub fn before(&self, past: &Stamp, thread: usize, block: usize, to: usize) -> bool {
        let last = usize::from(self.passed.get(to) == Some(&self.ended));
        self.ended > 0 && self.has_passed(to) && self.released[last].covers(past, thread, block)
    }

    /// Whether a thread has arrived since an access, and released it.
    pub fn is_released(&self, past: &Stamp, thread: usize) -> bool {
        self.released[2].clocks.get(thread).is_some_and(|&clock| past.clock < clock)
    }

    /// Whether an access of a thread of a block is released to all threads of a block.
    pub fn before_all(&self, past: &Stamp, thread: usize, block: usize, to: usize) -> bool {
        let last = usize::from(self.behind.get(to) == Some(&0));
        self.ended > 0 && self.released[last].covers(past, thread, block)
    }
}
