//! Allocation, copies and fills.

use std::alloc::{Layout, alloc, dealloc};
use std::ffi::{c_int, c_uchar, c_uint, c_ushort};

use super::device::device;
use super::state::{State, api};
use super::status::{Status, put};
use super::work::Work;

/// The alignment of pinned host memory.
const PAGE: usize = 4096;

/// Attributes of memory pools.
const RELEASE_THRESHOLD: c_uint = 4;
const RESERVED: c_uint = 5;
const USED: c_uint = 7;

impl State {
    fn allocate(&mut self, size: usize) -> Result<u64, Status> {
        self.allocations += 1;
        let full = self.heap.used().saturating_add(size as u64) > self.settings.memory;
        if full || self.allocations >= self.settings.fail_alloc {
            return Err(Status::OutOfMemory);
        }
        self.returned = self.returned.saturating_sub(size as u64);
        Ok(self.heap.allocate(size))
    }

    /// The device whose memory pool has a handle: one more than the device's number.
    fn device_of_pool(&self, pool: usize) -> Result<usize, Status> {
        pool.checked_sub(1).filter(|&device| device < self.kept.len()).ok_or(Status::InvalidValue)
    }

    fn release(&mut self, address: u64) -> Result<(), Status> {
        match address == 0 || self.heap.free(address) {
            true => Ok(()),
            false => Err(Status::InvalidValue),
        }
    }
}

api! {
    fn cuMemAlloc_v2(state, out: *mut u64, size: usize) {
        state.ready()?;
        state.forbid_while_capturing()?;
        if size == 0 {
            return Err(Status::InvalidValue);
        }
        put(out, state.allocate(size)?)
    }

    fn cuMemFree_v2(state, address: u64) {
        state.ready()?;
        state.forbid_while_capturing()?;
        state.release(address)
    }

    fn cuMemAllocAsync(state, out: *mut u64, size: usize, stream: usize) {
        state.ready()?;
        state.check_stream(stream)?;
        if state.capture_of(stream).is_some() {
            return Err(Status::CaptureUnsupported);
        }
        put(out, if size == 0 { 0 } else { state.allocate(size)? })
    }

    fn cuMemFreeAsync(state, address: u64, stream: usize) {
        state.ready()?;
        state.check_stream(stream)?;
        if state.capture_of(stream).is_some() {
            return Err(Status::CaptureUnsupported);
        }
        let before = state.heap.used();
        state.release(address)?;
        state.returned += before - state.heap.used();
        Ok(())
    }

    fn cuMemGetInfo_v2(state, free: *mut usize, total: *mut usize) {
        state.ready()?;
        let all = state.settings.memory;
        put(free, all.saturating_sub(state.heap.used()) as usize)?;
        put(total, all as usize)
    }

    fn cuDeviceGetDefaultMemPool(state, out: *mut usize, ordinal: c_int) {
        put(out, device(state, ordinal)? + 1)
    }

    fn cuMemPoolSetAttribute(state, pool: usize, attribute: c_uint, value: *const u64) {
        let device = state.device_of_pool(pool)?;
        if attribute != RELEASE_THRESHOLD || value.is_null() {
            return Err(Status::InvalidValue);
        }
        // SAFETY: the interface requires a pointer to a value of the attribute's type, which has 64 bits.
        state.kept[device] = unsafe { value.read() };
        Ok(())
    }

    fn cuMemPoolGetAttribute(state, pool: usize, attribute: c_uint, out: *mut u64) {
        let device = state.device_of_pool(pool)?;
        put(out, match attribute {
            RELEASE_THRESHOLD => state.kept[device],
            // Nothing is kept, whatever the threshold.
            RESERVED | USED => state.heap.used(),
            _ => return Err(Status::InvalidValue),
        })
    }

    fn cuMemHostAlloc(state, out: *mut *mut u8, size: usize, _flags: c_uint) {
        state.ready()?;
        state.forbid_while_capturing()?;
        let layout = Layout::from_size_align(size, PAGE).map_err(|_| Status::InvalidValue)?;
        if size == 0 {
            return Err(Status::InvalidValue);
        }
        // SAFETY: the layout's size is not zero.
        let address = unsafe { alloc(layout) };
        if address.is_null() {
            return Err(Status::OutOfMemory);
        }
        put(out, address)?;
        state.pinned.insert(address as usize, size);
        Ok(())
    }

    fn cuMemFreeHost(state, address: *mut u8) {
        state.ready()?;
        let size = state.pinned.remove(&(address as usize)).ok_or(Status::InvalidValue)?;
        let layout = Layout::from_size_align(size, PAGE).map_err(|_| Status::InvalidValue)?;
        // SAFETY: the address was allocated with this layout, and was just removed from the list.
        unsafe { dealloc(address, layout) };
        Ok(())
    }

    fn cuMemcpyHtoDAsync_v2(state, to: u64, from: usize, size: usize, stream: usize) {
        state.submit(stream, Work::ToDevice { to, from, size })
    }

    fn cuMemcpyHtoD_v2(state, to: u64, from: usize, size: usize) {
        state.forbid_while_capturing()?;
        state.submit(0, Work::ToDevice { to, from, size })
    }

    fn cuMemcpyDtoHAsync_v2(state, to: usize, from: u64, size: usize, stream: usize) {
        state.submit(stream, Work::ToHost { to, from, size })
    }

    fn cuMemcpyDtoH_v2(state, to: usize, from: u64, size: usize) {
        state.forbid_while_capturing()?;
        state.submit(0, Work::ToHost { to, from, size })
    }

    fn cuMemcpyDtoDAsync_v2(state, to: u64, from: u64, size: usize, stream: usize) {
        state.submit(stream, Work::Within { to, from, size })
    }

    fn cuMemcpyDtoD_v2(state, to: u64, from: u64, size: usize) {
        state.forbid_while_capturing()?;
        state.submit(0, Work::Within { to, from, size })
    }

    fn cuMemsetD8Async(state, to: u64, value: c_uchar, count: usize, stream: usize) {
        let pattern = vec![value];
        state.submit(stream, Work::Fill { to, pattern, count })
    }

    fn cuMemsetD8_v2(state, to: u64, value: c_uchar, count: usize) {
        state.forbid_while_capturing()?;
        let pattern = vec![value];
        state.submit(0, Work::Fill { to, pattern, count })
    }

    fn cuMemsetD16Async(state, to: u64, value: c_ushort, count: usize, stream: usize) {
        let pattern = value.to_le_bytes().to_vec();
        state.submit(stream, Work::Fill { to, pattern, count })
    }

    fn cuMemsetD32Async(state, to: u64, value: c_uint, count: usize, stream: usize) {
        let pattern = value.to_le_bytes().to_vec();
        state.submit(stream, Work::Fill { to, pattern, count })
    }

    fn cuMemsetD32_v2(state, to: u64, value: c_uint, count: usize) {
        state.forbid_while_capturing()?;
        let pattern = value.to_le_bytes().to_vec();
        state.submit(0, Work::Fill { to, pattern, count })
    }
}
