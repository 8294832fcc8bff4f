//! Mbarriers: objects in shared memory that count arrivals and bytes, and stores whose bytes they count.
//!
//! A phase of an mbarrier ends when the expected number of threads has arrived, and all announced bytes have arrived.
//! Bytes may arrive before they are announced. The counts are kept outside the emulated memory.

use super::access::{Place, addresses, ended, get, home};
use super::code::{Cause, Fault};
use super::heap::{LOCAL, SHARED};
use super::lanes::{LANES, Registers, Row, lanes};
use super::races::{Accesses, Races, Release, Touch};
use super::warp::{Environment, Warp};
use crate::ptx::Type;

/// The most arrivals, and the most bytes on either side, that an mbarrier can count.
const MOST: i64 = (1 << 20) - 1;

/// The counts of an mbarrier.
pub struct Mbarrier {
    /// Expected arrivals in each phase.
    count: u32,
    /// Arrivals that the phase still needs.
    pending: u32,
    /// Announced bytes that have not arrived; negative if they arrived before the announcement.
    bytes: i64,
    /// Phases that have ended.
    phase: u64,
    /// Its number for the race detector.
    number: usize,
}

/// An operand that names shared memory.
pub struct Target {
    /// The address register.
    pub base: Place,
    /// The offset of the address.
    pub offset: u64,
    /// Whether it must be in the block's own memory.
    pub own: bool,
}

/// The phase for which a thread waits.
pub enum Awaited {
    /// The phase of this parity that is current or has just ended.
    Parity(usize),
    /// The phase in which the thread arrived.
    State(usize),
}

/// The operations on an mbarrier; fields are slots of registers.
pub enum What {
    /// Initialises it.
    Init { count: usize },
    /// Releases its memory for other uses.
    Invalidate,
    /// Announces bytes.
    Expect { bytes: usize },
    /// Announces bytes and arrives.
    Arrive { state: Option<usize>, count: Option<usize>, bytes: Option<usize>, relaxed: bool },
    /// Queries a phase.
    Wait { done: usize, phase: Awaited, relaxed: bool },
}

/// An instruction on an mbarrier.
pub struct Operation {
    /// The address of the mbarrier.
    pub target: Target,
    /// The operation.
    pub what: What,
}

/// An asynchronous store.
pub struct Post {
    /// The address of the values.
    pub to: Target,
    /// The mbarrier that counts their bytes, in the same block.
    pub barrier: Target,
    /// The type of each value.
    pub ty: Type,
    /// Registers that hold the values.
    pub values: Vec<Place>,
}

/// An asynchronous store in flight.
pub struct Posted {
    rank: usize,
    at: u64,
    bytes: Vec<u8>,
    barrier: u64,
    /// What its thread released, for the race detector.
    release: Option<(u32, Release)>,
    lane: usize,
    /// The instruction.
    pub pc: usize,
    /// The block that sent it.
    pub block: usize,
    /// The warp that sent it.
    pub warp: usize,
    /// The step in which it arrives, once that is decided.
    pub due: Option<u64>,
}

/// Lanes whose query of an mbarrier found the phase unfinished.
#[derive(Clone, PartialEq, Eq)]
pub struct FailedPoll {
    /// The instruction.
    pub pc: usize,
    /// The lanes.
    pub mask: u32,
    rank: usize,
    at: u64,
}

impl Target {
    fn addresses(&self, registers: &Registers) -> Row<u64> {
        addresses(registers, self.base, self.offset)
    }

    /// The rank of the block that contains a lane's operand, and the address in it.
    fn find(
        &self, env: &Environment, block: usize, lane: usize, address: u64, size: u64,
    ) -> Result<(usize, u64), Fault> {
        if !address.is_multiple_of(size) {
            let what = format!("{address:#x} is not a multiple of {size}");
            return Err(Fault::of(lane, Cause::MisalignedAddress, what));
        }
        let found = match address {
            SHARED..LOCAL => home(address, block, self.own),
            _ => None,
        };
        let inside = found.and_then(|(rank, base)| Some((rank, base, env.shared.get(rank)?)));
        match inside {
            Some((rank, _, shared)) if shared.ended => Err(ended(lane, rank)),
            Some((rank, base, shared)) if address - base + size <= shared.bytes.len() as u64 => {
                Ok((rank, address - base))
            }
            _ => {
                let what = format!("{size} bytes at {address:#x} lie outside of the shared memory that this may use");
                Err(Fault::of(lane, Cause::IllegalAddress, what))
            }
        }
    }
}

impl Mbarrier {
    /// Counts announced bytes, or, if negative, arrived ones.
    fn expect(&mut self, bytes: i64) -> Result<(), String> {
        self.bytes += bytes;
        match self.bytes.abs() > MOST {
            true => Err(format!("the mbarrier counts up to {MOST} bytes, and there are {}", self.bytes)),
            false => Ok(()),
        }
    }

    fn arrive(&mut self, count: u32) -> Result<(), String> {
        match self.pending.checked_sub(count) {
            Some(pending) if count > 0 => self.pending = pending,
            _ => return Err(format!("{count} arrivals at an mbarrier whose phase waits for {} more", self.pending)),
        }
        Ok(())
    }

    /// Ends the phase if nothing is missing.
    fn settle(&mut self, races: &mut Option<Races>) -> Result<(), String> {
        if self.pending > 0 || self.bytes != 0 {
            return Ok(());
        }
        self.phase += 1;
        self.pending = self.count;
        races.as_mut().map_or(Ok(()), |races| races.end_phase(self.number))
    }
}

/// Reports a lane's access to shared memory to the race detector.
#[allow(clippy::too_many_arguments, reason = "an access has this many parts")]
fn touch(
    warp: &Warp, env: &mut Environment, mask: u32, pc: usize, touch: Touch, (rank, at): (usize, u64), size: usize,
    post: Option<u32>,
) -> Result<(), Fault> {
    let Some(races) = &mut env.races else {
        return Ok(());
    };
    let address = SHARED + at;
    races.touch(&Accesses {
        block: warp.block,
        warp: warp.number,
        mask,
        pc,
        touch,
        base: SHARED,
        home: Some(rank),
        addresses: &[address; LANES],
        low: address,
        high: address,
        size,
        post,
    })
}

fn failed(lane: usize) -> impl Fn(String) -> Fault {
    move |what| Fault::of(lane, Cause::LaunchFailed, what)
}

impl Operation {
    /// Executes it for the lanes of a mask, and returns the failed polls.
    pub fn run(&self, warp: &mut Warp, env: &mut Environment, mask: u32, pc: usize) -> Result<Vec<FailedPoll>, Fault> {
        let addresses = self.target.addresses(&warp.registers);
        let mut failed_polls = Vec::new();
        let mut rest = mask;
        while rest != 0 {
            let first = rest.trailing_zeros() as usize;
            let same =
                lanes(rest).filter(|&lane| addresses[lane] == addresses[first]).fold(0, |same, lane| same | 1 << lane);
            rest &= !same;
            let (rank, at) = self.target.find(env, warp.block, first, addresses[first], 8)?;
            let kind = match self.what {
                What::Init { .. } | What::Invalidate => Touch::Write,
                _ => Touch::Atomic,
            };
            touch(warp, env, same, pc, kind, (rank, at), 8, None)?;
            if let What::Init { count } = self.what {
                self.begin(warp, env, same, (rank, at), count)?;
                continue;
            }
            let Environment { shared, races, order, .. } = &mut *env;
            let Some(barrier) = shared[rank].barriers.get_mut(&at) else {
                return Err(failed(first)("no mbarrier was initialised here".to_owned()));
            };
            let order = order.iter().map(|&lane| lane as usize).filter(|lane| same >> lane & 1 != 0);
            let value = |slot: usize, lane: usize| warp.registers.narrow[slot][lane];
            match &self.what {
                What::Init { .. } => {}
                What::Invalidate => {
                    shared[rank].barriers.remove(&at);
                }
                What::Expect { bytes } => {
                    for lane in order {
                        barrier.expect(value(*bytes, lane).into()).map_err(failed(lane))?;
                        barrier.settle(races).map_err(failed(lane))?;
                    }
                }
                What::Arrive { state, count, bytes, relaxed } => {
                    let (block, number) = (warp.block, warp.number);
                    let mut releases = match races {
                        Some(races) if !relaxed => races.release(block, number, same),
                        _ => Vec::new(),
                    };
                    for lane in order {
                        let bytes = bytes.map_or(0, |slot| warp.registers.narrow[slot][lane].into());
                        let count = count.map_or(1, |slot| warp.registers.narrow[slot][lane]);
                        if let Some(slot) = *state {
                            warp.registers.wide[slot][lane] = barrier.phase;
                        }
                        if let (Some(races), Some(at)) = (&mut *races, releases.iter().position(|(of, _)| *of == lane))
                        {
                            races.gather(barrier.number, &releases.swap_remove(at).1);
                        }
                        barrier.expect(bytes).map_err(failed(lane))?;
                        barrier.arrive(count).map_err(failed(lane))?;
                        barrier.settle(races).map_err(failed(lane))?;
                    }
                }
                What::Wait { done, phase, relaxed } => {
                    let is_over = |lane: &usize| match *phase {
                        Awaited::Parity(slot) => u64::from(value(slot, *lane) & 1) != barrier.phase & 1,
                        Awaited::State(slot) => warp.registers.wide[slot][*lane] < barrier.phase,
                    };
                    let over = order.filter(is_over).fold(0, |over, lane| over | 1 << lane);
                    warp.registers.write_predicate(same, *done, over);
                    if let Some(races) = races {
                        races.observe(warp.block, warp.number, over, pc, barrier.number, *relaxed);
                    }
                    if same & !over != 0 {
                        failed_polls.push(FailedPoll { pc, mask: same & !over, rank, at });
                    }
                }
            }
        }
        Ok(failed_polls)
    }

    /// Initialises an mbarrier.
    fn begin(
        &self, warp: &Warp, env: &mut Environment, mask: u32, (rank, at): (usize, u64), count: usize,
    ) -> Result<(), Fault> {
        let lane = mask.trailing_zeros() as usize;
        let count = warp.registers.narrow[count][lane];
        let what = match count {
            _ if mask & (mask - 1) != 0 => "several threads initialise one mbarrier".to_owned(),
            _ if env.shared[rank].barriers.contains_key(&at) => "the mbarrier was initialised before".to_owned(),
            0 => "an mbarrier for no arrivals".to_owned(),
            count if i64::from(count) > MOST => format!("an mbarrier for {count} arrivals"),
            _ => {
                let number = env.races.as_mut().map_or(0, Races::add_mbarrier);
                let barrier = Mbarrier { count, pending: count, bytes: 0, phase: 0, number };
                env.shared[rank].barriers.insert(at, barrier);
                return Ok(());
            }
        };
        Err(failed(lane)(what))
    }
}

impl Post {
    /// Sends the values of some lanes.
    pub fn run(&self, warp: &mut Warp, env: &mut Environment, mask: u32, pc: usize) -> Result<(), Fault> {
        let (to, barriers) = (self.to.addresses(&warp.registers), self.barrier.addresses(&warp.registers));
        let size = self.ty.size() * self.values.len();
        let mut posts = Vec::new();
        for lane in env.order.map(usize::from).into_iter().filter(|lane| mask >> lane & 1 != 0) {
            let (rank, at) = self.to.find(env, warp.block, lane, to[lane], size as u64)?;
            let (other, barrier) = self.barrier.find(env, warp.block, lane, barriers[lane], 8)?;
            if rank != other {
                let what = format!("the memory is that of the block of rank {rank}, the mbarrier of rank {other}");
                return Err(failed(lane)(what));
            }
            let ticket = env.races.as_mut().map(Races::add_post);
            touch(warp, env, 1 << lane, pc, Touch::Write, (rank, at), size, ticket)?;
            touch(warp, env, 1 << lane, pc, Touch::Atomic, (rank, barrier), 8, None)?;
            let value =
                |&place: &Place| get(&warp.registers, place, lane).to_le_bytes().into_iter().take(self.ty.size());
            let bytes = self.values.iter().flat_map(value).collect();
            let (block, warp) = (warp.block, warp.number);
            posts.push((ticket, Posted { rank, at, bytes, barrier, release: None, lane, pc, block, warp, due: None }));
        }
        let mut releases =
            env.races.as_mut().map(|races| races.release(warp.block, warp.number, mask)).unwrap_or_default();
        for (ticket, mut post) in posts {
            if let (Some(ticket), Some(at)) = (ticket, releases.iter().position(|(lane, _)| *lane == post.lane)) {
                post.release = Some((ticket, releases.swap_remove(at).1));
            }
            match env.posts_at_once {
                true => post.deliver(env)?,
                false => env.posts.push(post),
            }
        }
        Ok(())
    }
}

impl Posted {
    /// Performs the store and counts its bytes.
    pub fn deliver(self, env: &mut Environment) -> Result<(), Fault> {
        let Environment { shared, races, .. } = env;
        let shared = &mut shared[self.rank];
        if shared.ended {
            return Err(ended(self.lane, self.rank));
        }
        shared.bytes[self.at as usize..][..self.bytes.len()].copy_from_slice(&self.bytes);
        let Some(barrier) = shared.barriers.get_mut(&self.barrier) else {
            return Err(failed(self.lane)("there is no mbarrier to count the bytes".to_owned()));
        };
        if let (Some(races), Some((ticket, release))) = (&mut *races, &self.release) {
            if !races.land(*ticket, barrier.number, release) {
                let what = format!(
                    "race: bytes for the mbarrier at shared address {:#x} of block rank {}, unordered with the end of its last phase",
                    self.barrier, self.rank
                );
                return Err(failed(self.lane)(what));
            }
            races.gather(barrier.number, release);
        }
        let counted = barrier.expect(-(self.bytes.len() as i64)).and_then(|()| barrier.settle(races));
        counted.map_err(failed(self.lane))
    }
}

impl FailedPoll {
    /// Describes what the lanes wait for.
    pub fn describe(&self, env: &Environment) -> String {
        let Self { rank, at, .. } = self;
        let missing = env.shared[*rank].barriers.get(at).map_or(String::new(), |barrier| {
            let Mbarrier { pending, bytes, phase, .. } = barrier;
            format!(", whose phase {phase} (from 0) still waits for {pending} arrivals and {bytes} bytes")
        });
        format!("waits forever at the mbarrier at shared address {at:#x} of block rank {rank}{missing}")
    }
}
