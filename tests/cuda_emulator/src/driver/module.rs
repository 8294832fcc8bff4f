//! Modules, functions and launches.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::device::{SHARED_DEFAULT, SHARED_LIMIT};
use super::state::{State, api};
use super::status::{Status, put};
use super::work::Work;
use crate::build::{Builder, Globals};
use crate::machine::Code;
use crate::ptx::{self, Space};

/// A kernel and its attributes.
pub struct Function {
    /// Its code.
    pub code: Code,
    /// The most dynamic shared memory it may be launched with.
    dynamic_limit: AtomicUsize,
    version: c_int,
}

/// What a module owns.
pub struct Module {
    functions: HashMap<String, usize>,
    variables: HashMap<String, (u64, usize)>,
}

/// The newest PTX that a driver reads.
fn newest_ptx(driver: c_int) -> (u32, u32) {
    let (major, minor) = (driver as u32 / 1000, driver as u32 % 1000 / 10);
    match (major, minor) {
        (..11, _) => (6, 5),
        (11, minor) => (7, minor),
        (12, 0..=5) => (8, minor),
        (12, minor) => (8, minor - 1),
        (major, minor) => (major - 4, minor),
    }
}

impl State {
    fn load(&mut self, text: &str) -> Result<Module, Status> {
        let invalid = |what: String| {
            eprintln!("cuda emulator: PTX: {what}");
            Status::InvalidPtx
        };
        let module = ptx::parse(text).map_err(invalid)?;
        if module.version > newest_ptx(self.settings.driver) {
            return Err(Status::UnsupportedPtxVersion);
        }
        let target = module.target.trim_start_matches("sm_").trim_end_matches(char::is_alphabetic);
        if target.parse::<u32>().map_err(|e| invalid(e.to_string()))? > 86 {
            return Err(Status::NoBinaryForGpu);
        }
        let (mut addresses, mut variables) = (HashMap::new(), HashMap::new());
        for variable in &module.variables {
            let mut bytes = variable.init.clone();
            // What is not initialised is zero, as in C.
            bytes.resize(variable.size, 0);
            let address = match variable.space {
                Space::Const => self.heap.constant(&bytes),
                Space::Global => {
                    let address = self.heap.allocate(bytes.len());
                    if let Some(memory) = self.heap.range(address, bytes.len()) {
                        memory.copy_from_slice(&bytes);
                    }
                    address
                }
                _ => continue,
            };
            addresses.insert(variable.name.as_str(), address);
            variables.insert(variable.name.clone(), (address, bytes.len()));
        }
        let settings = &self.settings;
        let globals = Globals { module: &module, addresses, settings };
        let mut codes = Vec::new();
        for kernel in module.functions.iter().filter(|f| f.kernel) {
            codes.push(Builder::kernel(&globals, kernel).map_err(invalid)?);
        }
        let mut functions = HashMap::new();
        for code in codes {
            let handle = self.handle();
            functions.insert(code.name.clone(), handle);
            let version = (module.version.0 * 10 + module.version.1) as c_int;
            let dynamic_limit = AtomicUsize::new(SHARED_DEFAULT.saturating_sub(code.shared));
            self.functions.insert(handle, Arc::new(Function { code, dynamic_limit, version }));
        }
        Ok(Module { functions, variables })
    }

    fn add_module(&mut self, out: *mut usize, bytes: &[u8]) -> Result<(), Status> {
        self.ready()?;
        let text = std::str::from_utf8(bytes).map_err(|_| Status::InvalidImage)?;
        let module = self.load(text)?;
        let handle = self.handle();
        put(out, handle)?;
        self.modules.insert(handle, module);
        Ok(())
    }

    fn function(&self, function: usize) -> Result<Arc<Function>, Status> {
        self.functions.get(&function).cloned().ok_or(Status::InvalidHandle)
    }

    fn module(&self, module: usize) -> Result<&Module, Status> {
        self.modules.get(&module).ok_or(Status::InvalidHandle)
    }
}

/// A name of the client.
fn name(text: *const c_char) -> Result<String, Status> {
    if text.is_null() {
        return Err(Status::InvalidValue);
    }
    // SAFETY: the interface asks for a string that ends in a zero byte.
    let text = unsafe { CStr::from_ptr(text) };
    Ok(text.to_string_lossy().into_owned())
}

api! {
    fn cuModuleLoadData(state, out: *mut usize, image: *const c_char) {
        if image.is_null() {
            return Err(Status::InvalidValue);
        }
        // SAFETY: an image is PTX that ends in a zero byte, or a binary whose magic number comes before any zero byte.
        let text = unsafe { CStr::from_ptr(image) };
        state.add_module(out, text.to_bytes())
    }

    fn cuModuleLoad(state, out: *mut usize, path: *const c_char) {
        let bytes = std::fs::read(name(path)?).map_err(|_| Status::FileNotFound)?;
        state.add_module(out, &bytes)
    }

    fn cuModuleUnload(state, module: usize) {
        let module = state.modules.remove(&module).ok_or(Status::InvalidHandle)?;
        for function in module.functions.values() {
            state.functions.remove(function);
        }
        for (address, _) in module.variables.values() {
            state.heap.free(*address);
        }
        Ok(())
    }

    fn cuModuleGetFunction(state, out: *mut usize, module: usize, text: *const c_char) {
        state.ready()?;
        let functions = &state.module(module)?.functions;
        put(out, *functions.get(&name(text)?).ok_or(Status::NotFound)?)
    }

    fn cuModuleGetGlobal_v2(state, address: *mut u64, size: *mut usize, module: usize, text: *const c_char) {
        state.ready()?;
        let variables = &state.module(module)?.variables;
        let &(found, bytes) = variables.get(&name(text)?).ok_or(Status::NotFound)?;
        if !size.is_null() {
            put(size, bytes)?;
        }
        put(address, found)
    }

    fn cuFuncGetAttribute(state, out: *mut c_int, attribute: c_uint, function: usize) {
        let function = state.function(function)?;
        put(out, match attribute {
            0 => function.code.max_threads as c_int,
            1 => function.code.shared as c_int,
            3 => function.code.local as c_int,
            4 => 32,
            5 => function.version,
            6 => 86,
            8 => function.dynamic_limit.load(Ordering::Relaxed) as c_int,
            2 | 7 | 9 => 0,
            _ => return Err(Status::InvalidValue),
        })
    }

    fn cuFuncSetAttribute(state, function: usize, attribute: c_uint, value: c_int) {
        let function = state.function(function)?;
        let size = usize::try_from(value).map_err(|_| Status::InvalidValue)?;
        match attribute {
            8 if size + function.code.shared <= SHARED_LIMIT => {
                function.dynamic_limit.store(size, Ordering::Relaxed);
                Ok(())
            }
            9 if size <= 100 => Ok(()),
            _ => Err(Status::InvalidValue),
        }
    }

    fn cuFuncSetCacheConfig(state, function: usize, _config: c_uint) {
        state.function(function).map(|_| ())
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(state, out: *mut c_int, function: usize, threads: c_int, shared: usize) {
        put(out, occupancy(&*state.function(function)?, threads, shared)?)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        state, out: *mut c_int, function: usize, threads: c_int, shared: usize, _flags: c_uint,
    ) {
        put(out, occupancy(&*state.function(function)?, threads, shared)?)
    }

    fn cuLaunchKernel(
        state, function: usize,
        grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
        block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: c_uint, stream: usize, params: *const *const c_void, extra: *const c_void,
    ) {
        state.ready()?;
        let function = state.function(function)?;
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let threads = block.iter().map(|&n| u64::from(n)).product::<u64>();
        let sane = !grid.contains(&0)
            && grid_x <= i32::MAX as u32
            && grid_y.max(grid_z) <= 65535
            && (1..=1024).contains(&threads)
            && block_z <= 64
            && shared as usize <= function.dynamic_limit.load(Ordering::Relaxed)
            && extra.is_null();
        if !sane {
            return Err(Status::InvalidValue);
        }
        if threads > u64::from(function.code.max_threads) {
            return Err(Status::LaunchOutOfResources);
        }
        let params = read_params(&function.code, params)?;
        state.submit(stream, Work::Launch { function, grid, block, shared: shared as usize, params })
    }
}

fn occupancy(function: &Function, threads: c_int, shared: usize) -> Result<c_int, Status> {
    let threads = usize::try_from(threads).ok().filter(|&n| n > 0).ok_or(Status::InvalidValue)?;
    let memory = function.code.shared + shared + 1024;
    Ok((1536 / threads.next_multiple_of(32)).min((100 << 10) / memory).min(16) as c_int)
}

/// Reads as many bytes of each argument as the kernel declares; nothing tells how many the client meant.
fn read_params(code: &Code, params: *const *const c_void) -> Result<Vec<u8>, Status> {
    let mut bytes = vec![0; code.param_bytes()];
    if params.is_null() && !code.params.is_empty() {
        return Err(Status::InvalidValue);
    }
    for (i, &(offset, size)) in code.params.iter().enumerate() {
        // SAFETY: the interface asks for one pointer for each parameter of the kernel.
        let param = unsafe { params.add(i).read() }.cast::<u8>();
        if param.is_null() {
            return Err(Status::InvalidValue);
        }
        // SAFETY: each of them points to as many bytes as the parameter has.
        let source = unsafe { std::slice::from_raw_parts(param, size) };
        bytes[offset..offset + size].copy_from_slice(source);
    }
    Ok(bytes)
}
