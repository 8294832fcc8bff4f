//! A cluster: blocks whose warps meet at barriers. Without clusters, each block is its own cluster.

use super::code::{BarrierReduction, Cause, Code, Fault};
use super::grid::Shuffle;
use super::lanes::{LANES, lanes};
use super::mbarrier::Posted;
use super::warp::{Environment, Warp};

/// A fault, and its instruction and warp of the cluster.
pub type Located = (Fault, usize, usize);

/// The number of failed polls of all mbarriers by all threads after which they count as stuck.
const PATIENCE: u32 = 256;

/// Runs all threads of a cluster to their ends. The warps are ordered by block.
pub fn run(code: &Code, warps: &mut [Warp], env: &mut Environment, shuffle: &mut Shuffle) -> Result<(), Located> {
    let count = warps.len() / env.shared.len();
    let mut order: Vec<usize> = (0..warps.len()).collect();
    let (mut step, mut idle_rounds) = (0, 0);
    loop {
        shuffle.permute(&mut order);
        let mut moves = false;
        for &w in &order {
            let warp = &mut warps[w];
            if warp.can_run() || !warp.failed_polls.is_empty() {
                let quantum = shuffle.quantum();
                let before = warp.failed_polls.clone();
                warp.run(&code.ops, env, quantum).map_err(|fault| (fault, warp.pc, w))?;
                moves |= warp.can_run() || warp.live == 0 || warp.failed_polls != before;
                if warp.live == 0 {
                    end(w / count, &warps[w / count * count..][..count], env)?;
                }
                step += 1;
                moves |= deliver(count, env, |post| *post.due.get_or_insert_with(|| step + shuffle.delay()) <= step)?;
            }
        }
        for (rank, block) in warps.chunks_exact_mut(count).enumerate() {
            let locate = |(fault, pc, w): Located| (fault, pc, w + rank * count);
            if block.iter().any(Warp::can_run) {
                moves = true;
            } else if block.iter().any(|warp| warp.live != 0) {
                moves |= release(rank, block, env).map_err(locate)?;
            }
        }
        moves |= admit(warps, env);
        if env.shared.iter().all(|shared| shared.ended) {
            // Stores that are still in flight find no memory.
            return deliver(count, env, |_| true).map(|_| ());
        }
        // Everything in flight arrives before threads count as stuck.
        if moves || deliver(count, env, |_| true)? {
            idle_rounds = 0;
        } else if idle_rounds < PATIENCE && warps.iter().any(|warp| !warp.failed_polls.is_empty()) {
            idle_rounds += 1;
        } else {
            return Err(stuck(warps, env));
        }
    }
}

/// Delivers asynchronous stores that are due; `false` if there are none.
fn deliver(count: usize, env: &mut Environment, mut is_due: impl FnMut(&mut Posted) -> bool) -> Result<bool, Located> {
    let mut moves = false;
    for mut post in std::mem::take(&mut env.posts) {
        if is_due(&mut post) {
            let (pc, w) = (post.pc, post.block * count + post.warp);
            post.deliver(env).map_err(|fault| (fault, pc, w))?;
            moves = true;
        } else {
            env.posts.push(post);
        }
    }
    Ok(moves)
}

/// A warp has ended. If it was the last of its block, the block's shared memory may not be used any more.
fn end(rank: usize, warps: &[Warp], env: &mut Environment) -> Result<(), Located> {
    if warps.iter().any(|warp| warp.live != 0) {
        return Ok(());
    }
    env.shared[rank].ended = true;
    let count = warps.len();
    match &mut env.races {
        Some(races) => races.end_block(rank).map_err(|(fault, pc, block, w)| (fault, pc, block * count + w)),
        None => Ok(()),
    }
}

/// Opens the barrier of the cluster if all live threads have arrived; `false` if not.
fn admit(warps: &mut [Warp], env: &mut Environment) -> bool {
    if warps.iter().any(|warp| warp.live & !warp.arrived != 0) || warps.iter().all(|warp| warp.live == 0) {
        return false;
    }
    if let Some(races) = &mut env.races {
        races.complete(warps.iter().map(|warp| (warp.block, warp.number, warp.live)));
    }
    for warp in warps {
        warp.admit(env);
    }
    true
}

/// Opens every barrier of a block that all of its threads have reached; `false` if there is none.
fn release(rank: usize, warps: &mut [Warp], env: &mut Environment) -> Result<bool, Located> {
    let live: u32 = warps.iter().map(|warp| warp.live.count_ones()).sum();
    let mut ids: Vec<u32> = warps.iter().flat_map(|warp| warp.arrivals.iter().map(|a| a.id)).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut released = false;
    for id in ids {
        let arrivals = || {
            warps
                .iter()
                .enumerate()
                .flat_map(|(w, warp)| warp.arrivals.iter().map(move |a| (w, a)))
                .filter(|(_, arrival)| arrival.id == id)
        };
        let arrived: u32 = arrivals().map(|(_, a)| a.mask.count_ones()).sum();
        let Some((_, first)) = arrivals().next() else {
            continue;
        };
        if arrived != first.count.unwrap_or(live) {
            continue;
        }
        let (pc, all) = (first.pc, first.count.is_none());
        if let Some((w, other)) = arrivals().find(|(_, a)| all && a.pc != pc) {
            let what = format!("divergent barrier: others wait at instruction {pc}");
            let lane = other.mask.trailing_zeros() as usize;
            let fault = Fault::of(lane, Cause::LaunchFailed, what);
            return Err((fault, other.pc, w));
        }
        reduce(warps, id);
        for warp in warps.iter_mut() {
            for arrival in std::mem::take(&mut warp.arrivals) {
                if arrival.id == id {
                    warp.enqueue(arrival.pc + 1, arrival.mask);
                } else {
                    warp.arrivals.push(arrival);
                }
            }
        }
        if let Some(races) = &mut env.races {
            races.barrier(rank);
        }
        released = true;
    }
    Ok(released)
}

/// Combines the predicates of the threads at a barrier.
fn reduce(warps: &mut [Warp], id: u32) {
    let (mut ones, mut zeros) = (0, 0);
    let source = |reduction: BarrierReduction| match reduction {
        BarrierReduction::Count { p, negated, .. }
        | BarrierReduction::And { p, negated, .. }
        | BarrierReduction::Or { p, negated, .. } => (p, negated),
    };
    for warp in warps.iter() {
        for arrival in warp.arrivals.iter().filter(|a| a.id == id) {
            if let Some((p, negated)) = arrival.reduction.map(source) {
                let bits = warp.registers.predicates[p] ^ (negated as u32).wrapping_neg();
                ones += (bits & arrival.mask).count_ones();
                zeros += (!bits & arrival.mask).count_ones();
            }
        }
    }
    for warp in warps.iter_mut() {
        let Warp { arrivals, registers, .. } = warp;
        for arrival in arrivals.iter().filter(|a| a.id == id) {
            let whole = |yes: bool| (yes as u32).wrapping_neg();
            match arrival.reduction {
                None => {}
                Some(BarrierReduction::Count { d, .. }) => {
                    registers.write(arrival.mask, d, &[ones; LANES]);
                }
                Some(BarrierReduction::And { d, .. }) => {
                    registers.write_predicate(arrival.mask, d, whole(zeros == 0));
                }
                Some(BarrierReduction::Or { d, .. }) => {
                    registers.write_predicate(arrival.mask, d, whole(ones > 0));
                }
            }
        }
    }
}

/// No thread can continue: reports what one of them waits for.
fn stuck(warps: &[Warp], env: &Environment) -> Located {
    for (w, warp) in warps.iter().enumerate() {
        if let Some(rest) = warp.failed_polls.first() {
            let lane = lanes(rest.mask).next().unwrap_or(0);
            return (Fault::of(lane, Cause::LaunchFailed, rest.describe(env)), rest.pc, w);
        }
    }
    for (w, warp) in warps.iter().enumerate() {
        if let Some((pc, mask)) = warp.parked_at() {
            let lane = lanes(mask).next().unwrap_or(0);
            let what = format!("lanes {mask:#x} wait for others of their warp that never arrive");
            return (Fault::of(lane, Cause::LaunchFailed, what), pc, w);
        }
    }
    for (w, warp) in warps.iter().enumerate() {
        if let Some(arrival) = warp.arrivals.first() {
            let lane = lanes(arrival.mask).next().unwrap_or(0);
            let what = format!("barrier {} waits for threads that never arrive", arrival.id);
            return (Fault::of(lane, Cause::LaunchFailed, what), arrival.pc, w);
        }
    }
    for (w, warp) in warps.iter().enumerate() {
        if let Some(&(pc, mask)) = warp.waits.first() {
            let lane = lanes(mask).next().unwrap_or(0);
            let what = "the barrier of the cluster waits for threads that never arrive";
            return (Fault::of(lane, Cause::LaunchFailed, what), pc, w);
        }
    }
    let what = "no thread can continue";
    (Fault::new(Cause::LaunchFailed, what), 0, 0)
}
