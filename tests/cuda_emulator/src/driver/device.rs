//! Initialisation, devices and contexts.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_uint};

use super::state::{State, api};
use super::status::{Status, put};

/// The most shared memory of a block without a request for more.
pub const SHARED_DEFAULT: usize = 48 << 10;
/// The shared memory of a multiprocessor that the system reserves for each block.
pub const SHARED_RESERVED: usize = 1 << 10;

/// Multiprocessors of the device.
pub const MULTIPROCESSORS: usize = 16;

thread_local! {
    /// The context bound to this thread: 0 is none, otherwise one more than the device's number.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// The number of an existing device.
pub fn device(state: &State, ordinal: c_int) -> Result<usize, Status> {
    if !state.initialised {
        return Err(Status::NotInitialized);
    }
    match usize::try_from(ordinal) {
        Ok(i) if i < state.retained.len() => Ok(i),
        _ => Err(Status::InvalidDevice),
    }
}

/// A multiprocessor by compute capability: bytes of shared memory, threads and blocks.
pub fn multiprocessor(capability: c_int) -> (usize, usize, usize) {
    match capability {
        80 => (164 << 10, 2048, 32),
        87 => (164 << 10, 1536, 16),
        89 | 120.. => (100 << 10, 1536, 24),
        90.. => (228 << 10, 2048, 32),
        // All others are like 8.6, whatever they report.
        _ => (100 << 10, 1536, 16),
    }
}

/// The most shared memory that a block can request.
pub fn shared_limit(capability: c_int) -> usize {
    multiprocessor(capability).0 - SHARED_RESERVED
}

/// The attributes of the device that programs query, and few others.
fn attribute(number: c_uint, capability: c_int) -> c_int {
    let (shared, threads, blocks) = multiprocessor(capability);
    match number {
        1..=3 => 1024,
        4 => 64,
        5 => i32::MAX,
        6 | 7 => 65535,
        8 => SHARED_DEFAULT as c_int,
        9 => 1 << 16,
        10 => 32,
        12 | 82 => 1 << 16,
        13 => 1_000_000,
        14 => 512,
        16 => MULTIPROCESSORS as c_int,
        38 => 4 << 20,
        39 => threads as c_int,
        41 | 115 => 1,
        75 => capability / 10,
        76 => capability % 10,
        81 => shared as c_int,
        97 => shared_limit(capability) as c_int,
        106 => blocks as c_int,
        111 => SHARED_RESERVED as c_int,
        120 => c_int::from(capability >= 90),
        _ => 0,
    }
}

api! {
    fn cuInit(state, flags: c_uint) {
        if flags != 0 {
            return Err(Status::InvalidValue);
        }
        if state.settings.devices <= 0 {
            return Err(Status::NoDevice);
        }
        state.initialised = true;
        Ok(())
    }

    fn cuDriverGetVersion(state, out: *mut c_int) {
        put(out, state.settings.driver)
    }

    fn cuDeviceGetCount(state, out: *mut c_int) {
        put(out, state.settings.devices.max(0))
    }

    fn cuDeviceGet(state, out: *mut c_int, ordinal: c_int) {
        device(state, ordinal)?;
        put(out, ordinal)
    }

    fn cuDeviceGetName(state, out: *mut c_char, length: c_int, ordinal: c_int) {
        device(state, ordinal)?;
        let name = c"Harmonium CUDA emulator".to_bytes_with_nul();
        if out.is_null() || (length as usize) < name.len() {
            return Err(Status::InvalidValue);
        }
        // SAFETY: the caller owns `length` bytes at `out`, and the name is not longer.
        unsafe { out.copy_from_nonoverlapping(name.as_ptr().cast(), name.len()) };
        Ok(())
    }

    fn cuDeviceGetUuid_v2(state, out: *mut [u8; 16], ordinal: c_int) {
        let i = device(state, ordinal)?;
        put(out, [i as u8; 16])
    }

    fn cuDeviceGetAttribute(state, out: *mut c_int, number: c_uint, ordinal: c_int) {
        device(state, ordinal)?;
        put(out, attribute(number, state.settings.capability))
    }

    fn cuDeviceTotalMem_v2(state, out: *mut usize, ordinal: c_int) {
        device(state, ordinal)?;
        put(out, state.settings.memory as usize)
    }

    fn cuDevicePrimaryCtxRetain(state, out: *mut usize, ordinal: c_int) {
        let i = device(state, ordinal)?;
        put(out, i + 1)?;
        state.retained[i] += 1;
        Ok(())
    }

    fn cuDevicePrimaryCtxRelease_v2(state, ordinal: c_int) {
        let i = device(state, ordinal)?;
        let count = &mut state.retained[i];
        *count = count.checked_sub(1).ok_or(Status::InvalidContext)?;
        if state.retained.iter().all(|&n| n == 0) {
            state.sticky = None;
        }
        Ok(())
    }

    fn cuCtxGetCurrent(state, out: *mut usize) {
        let _ = state;
        put(out, CURRENT.get())
    }

    fn cuCtxSetCurrent(state, context: usize) {
        if context > state.retained.len() {
            return Err(Status::InvalidContext);
        }
        CURRENT.set(context);
        Ok(())
    }

    fn cuCtxSynchronize(state) {
        state.ready()?;
        state.forbid_while_capturing()?;
        state.returned = 0;
        Ok(())
    }

    fn cuCtxSetFlags(state, _flags: c_uint) {
        state.ready()
    }

    fn cuProfilerStart(state) {
        state.ready()
    }

    fn cuProfilerStop(state) {
        state.ready()
    }
}
