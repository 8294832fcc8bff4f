//! A launch: the clusters of a grid, one after another.

use std::collections::BTreeMap;

use super::cluster;
use super::code::{Code, Fault, Special};
use super::heap::Heap;
use super::lanes::{LANES, Registers};
use super::races::Races;
use super::warp::{Environment, Shared, Warp};
use crate::settings::Settings;

/// A kernel with all its launch parameters.
#[derive(Clone)]
pub struct Launch<'a> {
    /// The kernel.
    pub code: &'a Code,
    /// Blocks in each dimension.
    pub grid: [u32; 3],
    /// Threads of a block in each dimension.
    pub block: [u32; 3],
    /// Blocks of a cluster in each dimension: divisors of the grid's.
    pub cluster: [u32; 3],
    /// Bytes of shared memory beyond the kernel's declarations.
    pub dynamic_shared: usize,
    /// The bytes of the parameters.
    pub params: Vec<u8>,
}

/// The order of everything that is unordered. Without a seed it is the natural order.
pub struct Shuffle(Option<u64>);

impl Shuffle {
    /// The order for the launch of a number.
    pub fn new(seed: Option<u64>, number: u64) -> Self {
        Self(seed.map(|seed| crate::settings::mix(seed ^ number << 32)))
    }

    fn draw(&mut self) -> Option<u64> {
        let state = self.0.as_mut()?;
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        Some(crate::settings::mix(*state))
    }

    /// Permutes items.
    pub fn permute<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            if let Some(x) = self.draw() {
                items.swap(i, (x % (i as u64 + 1)) as usize);
            }
        }
    }

    /// The number of warp steps that an asynchronous store takes; often none, and always none without a seed.
    pub fn delay(&mut self) -> u64 {
        self.draw().map_or(0, |x| if x & 1 == 0 { 0 } else { (x >> 1) % 256 })
    }

    /// The number of instructions that a warp executes before the next warp continues.
    pub fn quantum(&mut self) -> u64 {
        self.draw().map_or(1 << 16, |x| 16 + x % 4096)
    }
}

/// Runs a launch and returns the number of instructions that its threads executed. Also prints a fault to stderr.
pub fn run(launch: Launch, heap: &mut Heap, settings: &Settings, number: u64) -> Result<u64, Fault> {
    let Launch { code, grid, block, cluster, dynamic_shared, ref params } = launch;
    let mut shuffle = Shuffle::new(settings.seed, number);
    let threads = block.iter().product::<u32>();
    let size = cluster.iter().product::<u32>() as usize;
    let mut order = std::array::from_fn(|i| i as u8);
    shuffle.permute(&mut order);
    let shared = || Shared { bytes: vec![0xff; code.shared + dynamic_shared], barriers: BTreeMap::new(), ended: false };
    let mut env = Environment {
        heap,
        shared: std::iter::repeat_with(shared).take(size).collect(),
        params: &mut params.clone(),
        frame: code.local,
        order,
        posts: Vec::new(),
        posts_at_once: settings.seed.is_none(),
        races: settings.races.then(|| Races::new(threads, size as u32)),
        budget: settings.max_instructions,
        executed: 0,
    };
    let count = threads.div_ceil(LANES as u32) as usize;
    let blank = |w: usize| {
        let (rank, w) = (w / count, w % count);
        let live = u32::MAX >> (LANES as u32 - (threads - (w * LANES) as u32).min(LANES as u32));
        let mut registers = code.template.clone();
        fill(&mut registers, &launch, rank, w);
        Warp::new(rank, w, live, registers, vec![0xff; code.local * LANES])
    };
    let clusters: [u32; 3] = std::array::from_fn(|axis| grid[axis] / cluster[axis]);
    let mut numbers: Vec<u64> = (0..clusters.iter().map(|&n| u64::from(n)).product()).collect();
    shuffle.permute(&mut numbers);
    for number in numbers {
        let (w, h) = (u64::from(clusters[0]), u64::from(clusters[1]));
        let position = [number % w, number / w % h, number / (w * h)].map(|x| x as u32);
        let place = |rank: usize| -> [u32; 3] {
            let inside = coordinate(rank as u32, cluster);
            std::array::from_fn(|axis| position[axis] * cluster[axis] + inside[axis])
        };
        let mut warps: Vec<Warp> = (0..count * size).map(blank).collect();
        for warp in &mut warps {
            let place = place(warp.block);
            for &(special, slot) in &code.specials {
                match special {
                    Special::Block(axis) => warp.registers.narrow[slot] = [place[axis]; LANES],
                    Special::Cluster(axis) => warp.registers.narrow[slot] = [position[axis]; LANES],
                    _ => {}
                }
            }
        }
        for shared in &mut env.shared {
            shared.bytes.fill(0xff);
            shared.barriers.clear();
            shared.ended = false;
        }
        if let Some(races) = &mut env.races {
            races.begin(number as u32);
        }
        if let Err((fault, pc, warp)) = cluster::run(code, &mut warps, &mut env, &mut shuffle) {
            report(&launch, &fault, pc, warp / count, warp % count, place(warp / count));
            return Err(fault);
        }
    }
    Ok(env.executed)
}

/// Sets the special registers that do not depend on the position of the cluster.
fn fill(registers: &mut Registers, launch: &Launch, rank: usize, warp: usize) {
    let Launch { code, grid, block, cluster, .. } = *launch;
    for &(special, slot) in &code.specials {
        registers.narrow[slot] = std::array::from_fn(|lane| {
            let thread = (warp * LANES + lane) as u32;
            match special {
                Special::Thread(axis) => coordinate(thread, block)[axis],
                Special::ThreadCount(axis) => block[axis],
                Special::Block(_) | Special::Cluster(_) => 0,
                Special::BlockCount(axis) => grid[axis],
                Special::ClusterBlock(axis) => coordinate(rank as u32, cluster)[axis],
                Special::ClusterBlockCount(axis) => cluster[axis],
                Special::ClusterRank => rank as u32,
                Special::ClusterRankCount => cluster.iter().product(),
                Special::ClusterCount(axis) => grid[axis] / cluster[axis],
                Special::Lane => lane as u32,
                Special::Warp => warp as u32,
                Special::WarpCount => block.iter().product::<u32>().div_ceil(LANES as u32),
                Special::Always(value) => value,
                Special::MaskEqual => 1 << lane,
                Special::MaskBelow => (1 << lane) - 1,
                Special::MaskUpTo => u32::MAX >> (31 - lane),
                Special::MaskAbove => !(u32::MAX >> (31 - lane)),
                Special::MaskFrom => u32::MAX << lane,
            }
        });
    }
}

fn coordinate(thread: u32, block: [u32; 3]) -> [u32; 3] {
    [thread % block[0], thread / block[0] % block[1], thread / (block[0] * block[1])]
}

fn report(launch: &Launch, fault: &Fault, pc: usize, rank: usize, warp: usize, place: [u32; 3]) {
    let Launch { code, block, cluster, .. } = launch;
    let thread = coordinate((warp * LANES + fault.lane.unwrap_or(0)) as u32, *block);
    let text = code.ops.get(pc).map_or("", |op| &op.text);
    let rank = if *cluster == [1; 3] { String::new() } else { format!(" (rank {rank} of its cluster)") };
    eprintln!(
        "cuda emulator: {:?} in kernel {}, block {place:?}{rank}, thread {thread:?}, instruction {pc} ({text}): {}",
        fault.cause, code.name, fault.what
    );
}
