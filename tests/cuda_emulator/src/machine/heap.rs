//! Device memory in an address range that contains no host pointer.

use std::collections::BTreeMap;

/// The first device address. It is not canonical on any current CPU, so the host cannot read it by mistake.
pub const BASE: u64 = 0x0100_0000_0000_0000;
/// The start of the generic addresses of a block's shared memory.
pub const SHARED: u64 = 0x0200_0000_0000_0000;
/// Bits of an address inside a block's shared memory. The bits above are 0 for the own block, else one more than a rank.
pub const SHARED_BITS: u32 = 24;
/// The start of the generic addresses of a thread's local memory.
pub const LOCAL: u64 = 0x0300_0000_0000_0000;
/// The start of the generic addresses of a kernel's parameters.
pub const PARAM: u64 = 0x0400_0000_0000_0000;

/// The alignment that `cuMemAlloc` guarantees.
const ALIGNMENT: u64 = 256;

/// One allocation.
pub struct Allocation {
    /// Its contents.
    pub bytes: Vec<u8>,
    /// `.const` memory, which a kernel cannot write.
    pub read_only: bool,
}

/// All device memory.
#[derive(Default)]
pub struct Heap {
    blocks: BTreeMap<u64, Allocation>,
    used: u64,
    next: u64,
}

impl Heap {
    /// Allocates memory whose bytes are all ones: NaN for both floating-point types.
    ///
    /// Addresses are never reused, and at least 256 bytes between two allocations belong to neither.
    pub fn allocate(&mut self, size: usize) -> u64 {
        let address = BASE + self.next;
        let pages = (size as u64 / ALIGNMENT + 2) * ALIGNMENT;
        self.next += pages;
        self.used += size as u64;
        let block = Allocation { bytes: vec![0xff; size], read_only: false };
        self.blocks.insert(address, block);
        address
    }

    /// Allocates read-only memory with the given contents.
    pub fn constant(&mut self, bytes: &[u8]) -> u64 {
        let address = self.allocate(bytes.len());
        if let Some(block) = self.blocks.get_mut(&address) {
            block.bytes.copy_from_slice(bytes);
            block.read_only = true;
        }
        address
    }

    /// Frees the allocation at an address; `false` if there is none.
    pub fn free(&mut self, address: u64) -> bool {
        let block = self.blocks.remove(&address);
        self.used -= block.as_ref().map_or(0, |b| b.bytes.len() as u64);
        block.is_some()
    }

    /// Bytes that are allocated.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The allocation that contains an address, and its start.
    #[inline]
    pub fn find(&mut self, address: u64) -> Option<(u64, &mut Allocation)> {
        let (&base, block) = self.blocks.range_mut(..=address).next_back()?;
        Some((base, block))
    }

    /// A range that is inside one allocation.
    pub fn range(&mut self, address: u64, size: usize) -> Option<&mut [u8]> {
        let (base, block) = self.find(address)?;
        let start = (address - base) as usize;
        block.bytes.get_mut(start..start.checked_add(size)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_where_the_allocation_ends() {
        let mut heap = Heap::default();
        let a = heap.allocate(100);
        let b = heap.allocate(8);
        assert_eq!(a % ALIGNMENT, 0);
        assert!(b - a >= 100 + ALIGNMENT);
        assert_eq!(heap.range(a + 92, 8).unwrap(), [0xff; 8]);
        assert!(heap.range(a + 93, 8).is_none());
        assert!(heap.range(a - 1, 1).is_none());
        assert!(heap.range(b - 1, 1).is_none());
        assert_eq!(heap.used(), 108);
        assert!(heap.free(a) && !heap.free(a));
        assert!(heap.range(a, 1).is_none());
    }
}
