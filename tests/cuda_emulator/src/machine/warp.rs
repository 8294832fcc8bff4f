//! A warp: lanes that execute the same instruction together as long as possible.
//!
//! Lanes with the same program counter form a group. The group with the lowest counter runs, and groups that reach the
//! same instruction merge, so structured code converges without further analysis.

use std::collections::BTreeMap;

use super::code::{Action, BarrierReduction, Cause, Fault, Op};
use super::copies::{self, Copies};
use super::heap::Heap;
use super::lanes::{Registers, lanes};
use super::mbarrier::{FailedPoll, Mbarrier, Posted};
use super::races::Races;

/// Shared memory of a block.
pub struct Shared {
    /// Its contents.
    pub bytes: Vec<u8>,
    /// Its mbarriers, by address.
    pub barriers: BTreeMap<u64, Mbarrier>,
    /// Whether the block has ended, and with it its memory.
    pub ended: bool,
}

/// The common state of the lanes of a cluster.
pub struct Environment<'a> {
    /// Device memory.
    pub heap: &'a mut Heap,
    /// Shared memory of each block of the cluster, by rank.
    pub shared: Vec<Shared>,
    /// The kernel's parameters.
    pub params: &'a mut [u8],
    /// Bytes of each thread's local memory.
    pub frame: usize,
    /// The order of simultaneous writes by lanes.
    pub order: [u8; 32],
    /// Asynchronous stores in flight.
    pub posts: Vec<Posted>,
    /// Whether they arrive at once.
    pub posts_at_once: bool,
    /// The race detector, if it is on.
    pub races: Option<Races>,
    /// Warp instructions that may still be executed.
    pub budget: u64,
    /// Instructions executed so far, counted once for each thread.
    pub executed: u64,
}

/// Lanes that wait at a barrier of the block.
pub struct Arrival {
    /// The barrier instruction.
    pub pc: usize,
    /// The lanes.
    pub mask: u32,
    /// The barrier's number.
    pub id: u32,
    /// The number of threads it waits for, if the instruction specifies it.
    pub count: Option<u32>,
    /// The combination of predicates, if any.
    pub reduction: Option<BarrierReduction>,
}

/// The state of a warp.
pub struct Warp {
    /// Its registers.
    pub registers: Registers,
    /// Its lanes' local memories, one after another.
    pub local: Vec<u8>,
    /// The rank of its block in the cluster.
    pub block: usize,
    /// Its number in the block.
    pub number: usize,
    /// Lanes that have not ended.
    pub live: u32,
    /// Lanes at a barrier of the block.
    pub arrivals: Vec<Arrival>,
    /// Lanes that have arrived at the barrier of the cluster before all others have.
    pub arrived: u32,
    /// Lanes that have arrived at the barrier of the cluster and may pass it.
    pub admitted: u32,
    /// Lanes that wait at the barrier of the cluster.
    pub waits: Vec<(usize, u32)>,
    /// Lanes whose query of an mbarrier failed: they continue, but not in the same step of the warp.
    pub failed_polls: Vec<FailedPoll>,
    /// Asynchronous copies.
    pub copies: Copies,
    /// The instruction of the group that runs.
    pub pc: usize,
    mask: u32,
    /// Groups that can run, the lowest counter last.
    waiting: Vec<(usize, u32)>,
    /// Groups at an exchange for which lanes are missing.
    parked: Vec<(usize, u32)>,
}

impl Warp {
    /// A warp before its first instruction.
    pub fn new(block: usize, number: usize, live: u32, registers: Registers, local: Vec<u8>) -> Self {
        Self {
            registers,
            local,
            block,
            number,
            live,
            arrivals: Vec::new(),
            arrived: 0,
            admitted: 0,
            waits: Vec::new(),
            failed_polls: Vec::new(),
            copies: Copies::default(),
            pc: 0,
            mask: live,
            waiting: Vec::new(),
            parked: Vec::new(),
        }
    }

    /// Whether some lanes can continue, other than those of a failed poll.
    pub fn can_run(&self) -> bool {
        self.mask != 0 || !self.waiting.is_empty()
    }

    /// The instruction at which lanes wait for others of their warp, if any do.
    pub fn parked_at(&self) -> Option<(usize, u32)> {
        self.parked.first().copied()
    }

    /// Schedules a group at an instruction.
    pub fn enqueue(&mut self, pc: usize, mask: u32) {
        if mask == 0 {
            return;
        }
        let at = self.waiting.partition_point(|group| group.0 > pc);
        match self.waiting.get_mut(at) {
            Some(group) if group.0 == pc => group.1 |= mask,
            _ => self.waiting.insert(at, (pc, mask)),
        }
    }

    /// Moves the group to an instruction, and switches to a group that is further behind.
    fn go(&mut self, pc: usize) {
        self.pc = pc;
        if let Some(&(next, _)) = self.waiting.last()
            && pc >= next
        {
            let mask = std::mem::take(&mut self.mask);
            self.enqueue(pc, mask);
            self.resume();
        }
    }

    fn resume(&mut self) {
        if self.mask == 0
            && let Some((pc, mask)) = self.waiting.pop()
        {
            (self.pc, self.mask) = (pc, mask);
        }
    }

    /// Some lanes stop here; the rest of the group continues.
    fn leave(&mut self, lanes: u32) {
        self.mask &= !lanes;
        let next = self.pc + 1;
        if self.mask == 0 {
            self.resume();
        } else {
            self.go(next);
        }
    }

    /// Runs until no lane can continue, or the quantum of instructions is used up.
    pub fn run(&mut self, ops: &[Op], env: &mut Environment, quantum: u64) -> Result<(), Fault> {
        for rest in std::mem::take(&mut self.failed_polls) {
            self.enqueue(rest.pc + 1, rest.mask);
        }
        self.resume();
        for _ in 0..quantum {
            if self.mask == 0 {
                break;
            }
            if env.budget == 0 {
                return Err(Fault::new(Cause::Timeout, "the budget of instructions is used up"));
            }
            env.budget -= 1;
            let op = &ops[self.pc];
            let active = match op.guard {
                Some((p, negated)) => self.mask & (self.registers.predicates[p] ^ (negated as u32).wrapping_neg()),
                None => self.mask,
            };
            env.executed += u64::from(active.count_ones());
            self.step(ops, op, active, env)?;
        }
        Ok(())
    }

    fn step(&mut self, ops: &[Op], op: &Op, active: u32, env: &mut Environment) -> Result<(), Fault> {
        if active == 0 {
            self.go(self.pc + 1);
            return Ok(());
        }
        match &op.action {
            Action::Compute(compute) => {
                compute(&mut self.registers, active);
                self.go(self.pc + 1);
            }
            Action::Access(access) => {
                access.run(self, env, active, self.pc)?;
                self.go(self.pc + 1);
            }
            Action::Copy(copy) => {
                copy.begin(self, env, active, self.pc)?;
                self.go(self.pc + 1);
            }
            Action::CopyCommit => {
                self.copies.commit(active);
                self.go(self.pc + 1);
            }
            Action::CopyWait(but) => {
                copies::wait(ops, self, env, active, *but)?;
                self.go(self.pc + 1);
            }
            Action::Mbarrier(operation) => {
                let mut rest = 0;
                for place in operation.run(self, env, active, self.pc)? {
                    rest |= place.mask;
                    self.failed_polls.push(place);
                }
                self.leave(rest);
            }
            Action::Post(post) => {
                post.run(self, env, active, self.pc)?;
                self.go(self.pc + 1);
            }
            Action::Branch(target) => self.branch(active, *target),
            Action::Table { index, targets } => {
                for lane in lanes(active) {
                    let entry = self.registers.narrow[*index][lane];
                    let Some(&target) = targets.get(entry as usize) else {
                        let what = format!("entry {entry} of a table of {} targets", targets.len());
                        return Err(Fault::of(lane, Cause::LaunchFailed, what));
                    };
                    self.enqueue(target, 1 << lane);
                }
                self.leave(active);
            }
            Action::Exit => {
                self.live &= !active;
                for (pc, mask) in std::mem::take(&mut self.parked) {
                    self.enqueue(pc, mask);
                }
                self.leave(active);
            }
            Action::Barrier { id, count, reduction } => {
                let lane = active.trailing_zeros() as usize;
                let value = |slot: usize| self.registers.narrow[slot][lane];
                self.arrivals.push(Arrival {
                    pc: self.pc,
                    mask: active,
                    id: value(*id),
                    count: count.map(value),
                    reduction: *reduction,
                });
                self.leave(active);
            }
            Action::ClusterArrive { relaxed, aligned } => {
                self.check_aligned(active, *aligned)?;
                if let Some(lane) = lanes(active & (self.arrived | self.admitted)).next() {
                    let what = "the lane arrives at the barrier of the cluster a second time without waiting";
                    return Err(Fault::of(lane, Cause::LaunchFailed, what));
                }
                self.arrived |= active;
                if let Some(races) = &mut env.races {
                    races.arrive(self.block, self.number, active, *relaxed);
                }
                self.go(self.pc + 1);
            }
            Action::ClusterWait { aligned } => {
                self.check_aligned(active, *aligned)?;
                if let Some(lane) = lanes(active & !(self.arrived | self.admitted)).next() {
                    let what = "the lane waits at the barrier of the cluster without having arrived";
                    return Err(Fault::of(lane, Cause::LaunchFailed, what));
                }
                let (passes, waits) = (active & self.admitted, active & self.arrived);
                self.pass(passes, env);
                if waits != 0 {
                    self.waits.push((self.pc, waits));
                }
                self.leave(waits);
            }
            Action::Collective { members, run } => self.collective(active, *members, run, env)?,
            Action::Trap => {
                let lane = active.trailing_zeros() as usize;
                return Err(Fault::of(lane, Cause::LaunchFailed, "trap"));
            }
        }
        Ok(())
    }

    fn check_aligned(&self, active: u32, aligned: bool) -> Result<(), Fault> {
        match lanes(self.live & !active).next() {
            Some(lane) if aligned => {
                let what = "an aligned barrier of the cluster is reached without this lane of the warp";
                Err(Fault::of(lane, Cause::LaunchFailed, what))
            }
            _ => Ok(()),
        }
    }

    /// Lanes continue after the barrier of the cluster.
    fn pass(&mut self, mask: u32, env: &mut Environment) {
        self.admitted &= !mask;
        if let Some(races) = &mut env.races {
            races.wait(self.block, self.number, mask);
        }
    }

    /// All threads of the cluster have arrived: waiting lanes continue, and others will not have to wait.
    pub fn admit(&mut self, env: &mut Environment) {
        self.admitted = std::mem::take(&mut self.arrived);
        for (pc, mask) in std::mem::take(&mut self.waits) {
            self.pass(mask, env);
            self.enqueue(pc + 1, mask);
        }
    }

    fn branch(&mut self, taken: u32, target: usize) {
        let rest = self.mask & !taken;
        self.mask = taken;
        self.enqueue(self.pc + 1, rest);
        self.go(target);
    }

    fn collective(
        &mut self, mut active: u32, members: usize, run: &super::code::Compute, env: &mut Environment,
    ) -> Result<(), Fault> {
        let pc = self.pc;
        if let Some(at) = self.parked.iter().position(|group| group.0 == pc) {
            let (_, mask) = self.parked.swap_remove(at);
            active |= mask;
            self.mask |= mask;
        }
        let named = *self.registers.row::<u32>(members);
        if let Some(lane) = lanes(active).find(|&lane| named[lane] >> lane & 1 == 0) {
            let what = format!("the lane is not in its own member mask {:#x}", named[lane]);
            return Err(Fault::of(lane, Cause::LaunchFailed, what));
        }
        let wanted = lanes(active).fold(0, |all, lane| all | named[lane]) & self.live;
        if wanted & !active != 0 {
            self.parked.push((pc, active));
            self.leave(active);
            return Ok(());
        }
        run(&mut self.registers, active);
        if let Some(races) = &mut env.races {
            let mut rest = active;
            while rest != 0 {
                let met = named[rest.trailing_zeros() as usize] & active;
                races.meet(self.block, self.number, met);
                rest &= !met;
            }
        }
        self.go(pc + 1);
        Ok(())
    }
}
