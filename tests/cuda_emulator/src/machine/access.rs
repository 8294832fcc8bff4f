//! Loads, stores and atomics, with every address checked.

use super::code::{Cause, Fault};
use super::heap::{BASE, LOCAL, PARAM, SHARED, SHARED_BITS};
use super::lanes::{LANES, Lane, Registers, Row, lanes};
use super::races::{Accesses, Touch};
use super::warp::{Environment, Warp};
use crate::ptx::Type;

/// The file and slot of a register.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Place {
    Narrow(usize),
    Wide(usize),
}

/// The new value of an atomic, from the old value and the operands.
pub type Update = Box<dyn Fn(u64, u64, u64) -> u64 + Send + Sync>;

/// The operation at the addresses.
pub enum Kind {
    /// One register for each element; `None` for those that are discarded.
    Load(Type, Vec<Option<Place>>),
    /// One register for each element.
    Store(Type, Vec<Place>),
    /// An indivisible update that returns the old value.
    Atomic {
        /// Bytes of the operand: 4 or 8.
        size: usize,
        /// The register for the old value.
        d: Option<Place>,
        /// The operand.
        b: Place,
        /// The second operand of a compare-and-swap; otherwise equal to `b`.
        c: Place,
        /// The new value.
        update: Update,
    },
}

/// A memory instruction.
pub struct Access {
    /// The address register.
    pub base: Place,
    /// The offset as written plus the window of the state space.
    pub offset: u64,
    /// Declared visible to other threads (`.relaxed`, `.acquire`, `.release`): never a race with another such access.
    pub strong: bool,
    /// Declared to be in the block's own shared memory.
    pub own: bool,
    /// The operation.
    pub kind: Kind,
}

/// The distance between the addresses of neighbouring lanes, if all lanes take part and it is constant.
fn step(addresses: &Row<u64>, mask: u32) -> Option<u64> {
    let step = addresses[1].wrapping_sub(addresses[0]);
    let even = addresses.windows(2).fold(true, |even, pair| even & (pair[1].wrapping_sub(pair[0]) == step));
    // (A long distance may wrap around.)
    (even && mask == u32::MAX && step.wrapping_add(1 << 32) < 1 << 33).then_some(step)
}

/// The lowest and the highest address of the lanes of a mask, and the union of their bits.
fn extent(addresses: &Row<u64>, mask: u32) -> (u64, u64, u64) {
    if let Some(step) = step(addresses, mask) {
        let (first, last) = (addresses[0], addresses[LANES - 1]);
        return (first.min(last), first.max(last), first | step);
    }
    lanes(mask)
        .map(|lane| addresses[lane])
        .fold((u64::MAX, 0, 0), |(low, high, bits), address| (low.min(address), high.max(address), bits | address))
}

/// Memory that contains all addresses of an access.
struct Region<'a> {
    base: u64,
    bytes: &'a mut [u8],
    /// Bytes between the copies of neighbouring lanes; 0 for memory that lanes share.
    stride: usize,
}

impl Region<'_> {
    fn at(&mut self, lane: usize, address: u64, size: usize) -> &mut [u8] {
        let start = (address - self.base) as usize + lane * self.stride;
        &mut self.bytes[start..start + size]
    }
}

/// Each lane's value of an address register, plus an offset.
pub fn addresses(registers: &Registers, base: Place, offset: u64) -> Row<u64> {
    match base {
        Place::Narrow(slot) => registers.narrow[slot].map(|a| offset.wrapping_add(a.into())),
        Place::Wide(slot) => registers.wide[slot].map(|a| offset.wrapping_add(a)),
    }
}

/// The rank of the block to which an address of shared memory belongs, and the start of its memory. With `own`, an address of
/// another block is invalid.
pub fn home(address: u64, block: usize, own: bool) -> Option<(usize, u64)> {
    let named = ((address - SHARED) >> SHARED_BITS) as usize;
    let rank = if named == 0 { block } else { named - 1 };
    (named == 0 || !own).then_some((rank, SHARED + ((named as u64) << SHARED_BITS)))
}

/// The fault of a lane that uses the shared memory of a block after its end.
pub fn ended(lane: usize, rank: usize) -> Fault {
    let what = format!("the block of rank {rank}, whose shared memory this is, has ended");
    Fault::of(lane, Cause::LaunchFailed, what)
}

/// The value of a lane's register.
pub fn get(registers: &Registers, place: Place, lane: usize) -> u64 {
    match place {
        Place::Narrow(slot) => u64::from(registers.narrow[slot][lane]),
        Place::Wide(slot) => registers.wide[slot][lane],
    }
}

fn put(registers: &mut Registers, place: Place, lane: usize, value: u64) {
    match place {
        Place::Narrow(slot) => registers.narrow[slot][lane] = value as u32,
        Place::Wide(slot) => registers.wide[slot][lane] = value,
    }
}

impl Access {
    fn span(&self) -> usize {
        match &self.kind {
            Kind::Load(ty, elements) => ty.size() * elements.len(),
            Kind::Store(ty, elements) => ty.size() * elements.len(),
            Kind::Atomic { size, .. } => *size,
        }
    }

    /// The start of each lane's access.
    pub fn addresses(&self, registers: &Registers) -> Row<u64> {
        addresses(registers, self.base, self.offset)
    }

    /// Performs the access for the lanes of a mask.
    pub fn run(&self, warp: &mut Warp, env: &mut Environment, mask: u32, pc: usize) -> Result<(), Fault> {
        let addresses = self.addresses(&warp.registers);
        if self.together(warp, env, mask, &addresses, pc)? {
            return Ok(());
        }
        let mut rest = mask;
        while rest != 0 {
            let lane = rest.trailing_zeros() as usize;
            // Lanes may use shared memory of several blocks.
            let is_near = |other: &usize| (addresses[*other] ^ addresses[lane]) >> SHARED_BITS == 0;
            let near = match addresses[lane] {
                SHARED..LOCAL => lanes(rest).filter(is_near).fold(0, |near, other| near | 1 << other),
                _ => 1 << lane,
            };
            if near != mask && near != 1 << lane && self.together(warp, env, near, &addresses, pc)? {
                rest &= !near;
                continue;
            }
            rest &= !(1 << lane);
            if !self.together(warp, env, 1 << lane, &addresses, pc)? {
                let (address, span) = (addresses[lane], self.span());
                let what = format!("{span} bytes at {address:#x} lie outside of every allocation");
                return Err(Fault::of(lane, Cause::IllegalAddress, what));
            }
        }
        Ok(())
    }

    /// Performs the access if one region contains all addresses; `Ok(false)` if none does.
    fn together(
        &self, warp: &mut Warp, env: &mut Environment, mask: u32, addresses: &Row<u64>, pc: usize,
    ) -> Result<bool, Fault> {
        let span = self.span();
        let (low, high, bits) = extent(addresses, mask);
        if bits & (span as u64 - 1) != 0 {
            return match lanes(mask).find(|&lane| !addresses[lane].is_multiple_of(span as u64)) {
                Some(lane) => {
                    let what = format!("{:#x} is not a multiple of {span}", addresses[lane]);
                    Err(Fault::of(lane, Cause::MisalignedAddress, what))
                }
                None => Ok(false),
            };
        }
        let mut shared_by_threads = low < LOCAL;
        let loads = matches!(self.kind, Kind::Load(..));
        let Warp { registers, local, number, block, .. } = warp;
        let mut home = None;
        let mut region = match low {
            BASE..SHARED => match env.heap.find(low) {
                Some((base, block)) => {
                    if block.read_only && !loads {
                        return Ok(false);
                    }
                    shared_by_threads = !block.read_only;
                    Region { base, bytes: &mut block.bytes, stride: 0 }
                }
                None => return Ok(false),
            },
            SHARED..LOCAL => {
                let Some((rank, base)) = self::home(low, *block, self.own) else {
                    return Ok(false);
                };
                let Some(shared) = env.shared.get_mut(rank) else {
                    return Ok(false);
                };
                if shared.ended {
                    return Err(ended(lanes(mask).find(|&lane| addresses[lane] == low).unwrap_or(0), rank));
                }
                home = Some(rank);
                Region { base, bytes: &mut shared.bytes, stride: 0 }
            }
            LOCAL..PARAM => Region { base: LOCAL, bytes: local, stride: env.frame },
            _ if low >= PARAM && loads => Region { base: PARAM, bytes: env.params, stride: 0 },
            _ => return Ok(false),
        };
        let limit = if region.stride > 0 { region.stride } else { region.bytes.len() };
        if (high - region.base).saturating_add(span as u64) > limit as u64 {
            return Ok(false);
        }
        if let Some(races) = &mut env.races
            && shared_by_threads
        {
            let touch = match &self.kind {
                Kind::Atomic { .. } => Touch::Atomic,
                _ if self.strong => Touch::Atomic,
                Kind::Load(..) => Touch::Read,
                Kind::Store(..) => Touch::Write,
            };
            let (block, warp, base, size) = (*block, *number, region.base, span);
            let post = None;
            races.touch(&Accesses { block, warp, mask, pc, touch, base, home, addresses, low, high, size, post })?;
        }
        match &self.kind {
            Kind::Load(ty, elements) => {
                for (i, place) in elements.iter().enumerate() {
                    if let Some(place) = *place {
                        let shift = (i * ty.size()) as u64;
                        load(*ty, registers, place, &mut region, mask, &addresses.map(|a| a.wrapping_add(shift)));
                    }
                }
            }
            Kind::Store(ty, elements) => {
                let size = ty.size();
                for lane in env.order.iter().map(|&lane| lane as usize) {
                    if mask >> lane & 1 == 0 {
                        continue;
                    }
                    let bytes = region.at(lane, addresses[lane], span);
                    for (chunk, &place) in bytes.chunks_exact_mut(size).zip(elements) {
                        chunk.copy_from_slice(&get(registers, place, lane).to_le_bytes()[..size]);
                    }
                }
            }
            Kind::Atomic { size, d, b, c, update } => {
                for lane in env.order.iter().map(|&lane| lane as usize) {
                    if mask >> lane & 1 == 0 {
                        continue;
                    }
                    let (b, c) = (get(registers, *b, lane), get(registers, *c, lane));
                    let bytes = region.at(lane, addresses[lane], *size);
                    let mut old = [0; 8];
                    old[..*size].copy_from_slice(bytes);
                    let old = u64::from_le_bytes(old);
                    bytes.copy_from_slice(&update(old, b, c).to_le_bytes()[..*size]);
                    if let Some(d) = *d {
                        put(registers, d, lane, old);
                    }
                }
            }
        }
        Ok(true)
    }
}

fn load(ty: Type, registers: &mut Registers, place: Place, region: &mut Region, mask: u32, addresses: &Row<u64>) {
    macro_rules! gather {
        ($ty:ty) => {{
            const SIZE: usize = size_of::<$ty>();
            let read = |bytes: &[u8]| {
                let mut word = [0; SIZE];
                word.copy_from_slice(bytes);
                <$ty>::from_le_bytes(word) as i64 as u64
            };
            // Most warps read one number or neighbours.
            let values: Row<u64> = match step(addresses, mask).filter(|_| region.stride == 0) {
                Some(0) => [read(region.at(0, addresses[0], SIZE)); LANES],
                Some(step) if step == SIZE as u64 => {
                    let bytes = region.at(0, addresses[0], LANES * SIZE);
                    std::array::from_fn(|lane| read(&bytes[lane * SIZE..][..SIZE]))
                }
                _ => std::array::from_fn(|lane| match mask >> lane & 1 {
                    0 => 0,
                    _ => read(region.at(lane, addresses[lane], SIZE)),
                }),
            };
            match place {
                Place::Narrow(slot) => registers.write(mask, slot, &values.map(|v| u32::from_raw(v as u32))),
                Place::Wide(slot) => registers.write(mask, slot, &values),
            }
        }};
    }
    match ty {
        Type::Pred | Type::B8 | Type::U8 => gather!(u8),
        Type::S8 => gather!(i8),
        Type::B16 | Type::U16 => gather!(u16),
        Type::S16 => gather!(i16),
        Type::B32 | Type::U32 | Type::F32 => gather!(u32),
        Type::S32 => gather!(i32),
        Type::B64 | Type::U64 | Type::S64 | Type::F64 => gather!(u64),
    }
}
