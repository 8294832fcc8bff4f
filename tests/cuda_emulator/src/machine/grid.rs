//! A launch: the blocks of a grid, one after another.

use super::block;
use super::code::{Code, Fault, Special};
use super::heap::Heap;
use super::lanes::{LANES, Registers};
use super::races::Races;
use super::warp::{Environment, Warp};
use crate::settings::Settings;

/// A kernel with everything it is launched with.
#[derive(Clone)]
pub struct Launch<'a> {
    /// The kernel.
    pub code: &'a Code,
    /// Blocks in each dimension.
    pub grid: [u32; 3],
    /// Threads of a block in each dimension.
    pub block: [u32; 3],
    /// Bytes of shared memory beyond what the kernel declares.
    pub dynamic_shared: usize,
    /// The bytes of the parameters.
    pub params: Vec<u8>,
}

/// The order of everything that has none. Without a seed it is the natural one.
pub struct Shuffle(Option<u64>);

impl Shuffle {
    fn draw(&mut self) -> Option<u64> {
        let state = self.0.as_mut()?;
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        Some(crate::settings::mix(*state))
    }

    /// Puts things into an order of its own.
    pub fn permute<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            if let Some(x) = self.draw() {
                items.swap(i, (x % (i as u64 + 1)) as usize);
            }
        }
    }

    /// How many instructions a warp executes before the next has its turn.
    pub fn quantum(&mut self) -> u64 {
        self.draw().map_or(1 << 16, |x| 16 + x % 4096)
    }
}

/// Runs a launch and gives back how many instructions its threads executed. A fault is also told on stderr.
pub fn run(launch: Launch, heap: &mut Heap, settings: &Settings, number: u64) -> Result<u64, Fault> {
    let Launch { code, grid, block, dynamic_shared, mut params } = launch;
    let mut shuffle = Shuffle(settings.seed.map(|seed| crate::settings::mix(seed ^ number << 32)));
    let threads = block.iter().product::<u32>();
    let mut order = std::array::from_fn(|i| i as u8);
    shuffle.permute(&mut order);
    let mut shared = vec![0xff; code.shared + dynamic_shared];
    let mut env = Environment {
        heap,
        shared: &mut shared,
        params: &mut params,
        frame: code.local,
        order,
        races: settings.races.then(|| Races::new(threads)),
        budget: settings.max_instructions,
        executed: 0,
    };
    let blank = |w: usize| {
        let live = u32::MAX >> (LANES as u32 - (threads - (w * LANES) as u32).min(LANES as u32));
        let mut registers = code.template.clone();
        fill(&mut registers, code, w, block, grid);
        Warp::new(w, live, registers, vec![0xff; code.local * LANES])
    };
    let count = threads.div_ceil(LANES as u32) as usize;
    let blocks = grid.iter().map(|&n| u64::from(n)).product::<u64>();
    let mut numbers: Vec<u64> = (0..blocks).collect();
    shuffle.permute(&mut numbers);
    for number in numbers {
        let (w, h) = (u64::from(grid[0]), u64::from(grid[1]));
        let position = [number % w, number / w % h, number / (w * h)].map(|x| x as u32);
        let mut warps: Vec<Warp> = (0..count).map(blank).collect();
        for warp in &mut warps {
            for &(special, slot) in &code.specials {
                if let Special::Block(axis) = special {
                    warp.registers.narrow[slot] = [position[axis]; LANES];
                }
            }
        }
        env.shared.fill(0xff);
        if let Some(races) = &mut env.races {
            races.begin_block(number as u32);
        }
        if let Err((fault, pc, warp)) = block::run(code, &mut warps, &mut env, &mut shuffle) {
            report(code, &fault, pc, warp, position, block);
            return Err(fault);
        }
    }
    Ok(env.executed)
}

/// Fills the special registers that do not depend on the block.
fn fill(registers: &mut Registers, code: &Code, warp: usize, block: [u32; 3], grid: [u32; 3]) {
    for &(special, slot) in &code.specials {
        registers.narrow[slot] = std::array::from_fn(|lane| {
            let thread = (warp * LANES + lane) as u32;
            match special {
                Special::Thread(axis) => coordinate(thread, block)[axis],
                Special::ThreadCount(axis) => block[axis],
                Special::Block(_) => 0,
                Special::BlockCount(axis) => grid[axis],
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

fn report(code: &Code, fault: &Fault, pc: usize, warp: usize, position: [u32; 3], block: [u32; 3]) {
    let thread = coordinate((warp * LANES + fault.lane.unwrap_or(0)) as u32, block);
    let text = code.ops.get(pc).map_or("", |op| &op.text);
    eprintln!(
        "cuda emulator: {:?} in kernel {}, block {position:?}, thread {thread:?}, instruction {pc} ({text}): {}",
        fault.cause, code.name, fault.what
    );
}
