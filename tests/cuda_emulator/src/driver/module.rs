//! Modules, functions and launches.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use super::device::{MULTIPROCESSORS, SHARED_DEFAULT, SHARED_RESERVED, multiprocessor, shared_limit};
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
    /// Whether its clusters may have more than eight blocks.
    large_clusters: AtomicBool,
    /// Blocks of a cluster in each dimension; 0 if unspecified.
    cluster: [AtomicU32; 3],
    version: c_int,
}

/// The variables and functions of a module.
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
        let target = module.target.trim_start_matches("sm_");
        let plain = target.trim_end_matches(char::is_alphabetic);
        let (needs, has) = (plain.parse::<c_int>().map_err(|e| invalid(e.to_string()))?, self.settings.capability);
        // A letter marks what only this one architecture has.
        if needs > has || plain != target && needs != has {
            return Err(Status::NoBinaryForGpu);
        }
        let (mut addresses, mut variables) = (HashMap::new(), HashMap::new());
        for variable in &module.variables {
            let mut bytes = variable.init.clone();
            // Memory that is not initialised is zero, as in C.
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
            let cluster = code.cluster.unwrap_or([0; 3]).map(AtomicU32::new);
            let large_clusters = AtomicBool::new(false);
            self.functions.insert(handle, Arc::new(Function { code, dynamic_limit, large_clusters, cluster, version }));
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

/// A name from the client.
fn name(text: *const c_char) -> Result<String, Status> {
    if text.is_null() {
        return Err(Status::InvalidValue);
    }
    // SAFETY: the interface requires a string that ends in a zero byte.
    let text = unsafe { CStr::from_ptr(text) };
    Ok(text.to_string_lossy().into_owned())
}

api! {
    fn cuModuleLoadData(state, out: *mut usize, image: *const c_char) {
        if image.is_null() {
            return Err(Status::InvalidValue);
        }
        // SAFETY: an image is PTX that ends in a zero byte, or a binary whose magic number precedes any zero byte.
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
            6 => state.settings.capability,
            8 => function.dynamic_limit.load(Ordering::Relaxed) as c_int,
            10 => c_int::from(function.code.explicit_cluster),
            11..=13 => function.cluster[attribute as usize - 11].load(Ordering::Relaxed) as c_int,
            14 => c_int::from(function.large_clusters.load(Ordering::Relaxed)),
            2 | 7 | 9 | 15 => 0,
            _ => return Err(Status::InvalidValue),
        })
    }

    fn cuFuncSetAttribute(state, function: usize, attribute: c_uint, value: c_int) {
        let function = state.function(function)?;
        let size = usize::try_from(value).map_err(|_| Status::InvalidValue)?;
        match attribute {
            8 if size + function.code.shared <= shared_limit(state.settings.capability) => {
                function.dynamic_limit.store(size, Ordering::Relaxed);
                Ok(())
            }
            9 if size <= 100 => Ok(()),
            // The kernel's own declaration cannot be changed.
            11..=13 if function.code.cluster.is_none() => {
                function.cluster[attribute as usize - 11].store(size as u32, Ordering::Relaxed);
                Ok(())
            }
            14 if size <= 1 => {
                function.large_clusters.store(size == 1, Ordering::Relaxed);
                Ok(())
            }
            15 if size <= 2 => Ok(()),
            _ => Err(Status::InvalidValue),
        }
    }

    fn cuFuncSetCacheConfig(state, function: usize, _config: c_uint) {
        state.function(function).map(|_| ())
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(state, out: *mut c_int, function: usize, threads: c_int, shared: usize) {
        put(out, occupancy(state, &*state.function(function)?, threads, shared)?)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        state, out: *mut c_int, function: usize, threads: c_int, shared: usize, _flags: c_uint,
    ) {
        put(out, occupancy(state, &*state.function(function)?, threads, shared)?)
    }

    fn cuLaunchKernel(
        state, function: usize,
        grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
        block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: c_uint, stream: usize, params: *const *const c_void, extra: *const c_void,
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        state.launch(function, grid, block, shared as usize, None, stream, params, extra)
    }

    fn cuLaunchKernelEx(state, config: *const Config, function: usize, params: *const *const c_void, extra: *const c_void) {
        if config.is_null() {
            return Err(Status::InvalidValue);
        }
        // SAFETY: the interface requires a pointer to a configuration.
        let &Config { grid, block, shared, stream, attributes, count } = unsafe { &*config };
        let mut cluster = None;
        if count > 0 {
            // SAFETY: the configuration states that this many attributes are there.
            for attribute in unsafe { std::slice::from_raw_parts(attributes, count as usize) } {
                match attribute.id {
                    CLUSTER_DIMENSION => cluster = Some([attribute.value[0], attribute.value[1], attribute.value[2]]),
                    // Priorities and hints have no effect here.
                    IGNORE | CLUSTER_SCHEDULING | PROGRAMMATIC_SERIALIZATION | PRIORITY => {}
                    _ => return Err(Status::NotSupported),
                }
            }
        }
        state.launch(function, grid, block, shared as usize, cluster, stream, params, extra)
    }

    fn cuOccupancyMaxPotentialClusterSize(state, out: *mut c_int, function: usize, _config: *const Config) {
        put(out, state.function(function)?.cluster_limit() as c_int)
    }

    fn cuOccupancyMaxActiveClusters(state, out: *mut c_int, function: usize, config: *const Config) {
        if config.is_null() {
            return Err(Status::InvalidValue);
        }
        // SAFETY: the interface requires a pointer to a configuration.
        let &Config { block, shared, attributes, count, .. } = unsafe { &*config };
        let function = state.function(function)?;
        let mut cluster = function.cluster();
        if count > 0 {
            // SAFETY: the configuration states that this many attributes are there.
            let attributes = unsafe { std::slice::from_raw_parts(attributes, count as usize) };
            if let Some(Attribute { value, .. }) = attributes.iter().find(|attribute| attribute.id == CLUSTER_DIMENSION) {
                cluster = Some([value[0], value[1], value[2]]);
            }
        }
        let size = cluster.unwrap_or([1; 3]).iter().product::<u32>();
        let blocks = occupancy(state, &function, block.iter().product::<u32>() as c_int, shared as usize)?;
        put(out, (blocks as usize * MULTIPROCESSORS).checked_div(size as usize).ok_or(Status::InvalidClusterSize)? as c_int)
    }
}

/// `CUlaunchConfig`.
#[repr(C)]
pub struct Config {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared: c_uint,
    stream: usize,
    attributes: *const Attribute,
    count: c_uint,
}

/// `CUlaunchAttribute`: its kind, and 64 bytes of value.
#[repr(C, align(8))]
struct Attribute {
    id: c_uint,
    padding: c_uint,
    value: [c_uint; 16],
}

const IGNORE: c_uint = 0;
const CLUSTER_DIMENSION: c_uint = 4;
const CLUSTER_SCHEDULING: c_uint = 5;
const PROGRAMMATIC_SERIALIZATION: c_uint = 6;
const PRIORITY: c_uint = 8;

/// The most blocks of a cluster, and the most that every device of its kind can run.
const CLUSTER_LIMIT: u64 = 16;
const PORTABLE_CLUSTER: u64 = 8;

impl Function {
    /// The most blocks that a cluster may have.
    fn cluster_limit(&self) -> u64 {
        if self.large_clusters.load(Ordering::Relaxed) { CLUSTER_LIMIT } else { PORTABLE_CLUSTER }
    }

    /// Blocks of a cluster in each dimension, if the kernel or one of its attributes specifies them.
    fn cluster(&self) -> Option<[u32; 3]> {
        let sizes = [0, 1, 2].map(|axis| self.cluster[axis].load(Ordering::Relaxed));
        sizes.iter().any(|&n| n > 0).then(|| sizes.map(|n| n.max(1)))
    }
}

impl State {
    #[allow(clippy::too_many_arguments, reason = "the interface has this many")]
    fn launch(
        &mut self, function: usize, grid: [u32; 3], block: [u32; 3], shared: usize, cluster: Option<[u32; 3]>,
        stream: usize, params: *const *const c_void, extra: *const c_void,
    ) -> Result<(), Status> {
        self.ready()?;
        let function = self.function(function)?;
        let threads = block.iter().map(|&n| u64::from(n)).product::<u64>();
        let sane = !grid.contains(&0)
            && grid[0] <= i32::MAX as u32
            && grid[1].max(grid[2]) <= 65535
            && (1..=1024).contains(&threads)
            && block[2] <= 64
            && shared <= function.dynamic_limit.load(Ordering::Relaxed)
            && extra.is_null();
        if !sane {
            return Err(Status::InvalidValue);
        }
        if threads > u64::from(function.code.max_threads) {
            return Err(Status::LaunchOutOfResources);
        }
        let cluster = self.check_cluster(&function, grid, cluster)?;
        let params = read_params(&function.code, params)?;
        self.submit(stream, Work::Launch { function, grid, block, cluster, shared, params })
    }

    /// The clusters of a launch, if they are valid.
    fn check_cluster(
        &self, function: &Function, grid: [u32; 3], requested: Option<[u32; 3]>,
    ) -> Result<[u32; 3], Status> {
        let declared = function.cluster();
        if requested.is_some() && declared.is_some() && requested != declared {
            return Err(Status::InvalidClusterSize);
        }
        let Some(cluster) = requested.or(declared) else {
            return if function.code.explicit_cluster { Err(Status::InvalidClusterSize) } else { Ok([1; 3]) };
        };
        let size = cluster.iter().map(|&n| u64::from(n)).product::<u64>();
        let fits = !cluster.contains(&0)
            && size <= function.cluster_limit()
            && std::iter::zip(grid, cluster).all(|(grid, cluster)| grid.is_multiple_of(cluster));
        match fits {
            true if size > 1 && self.settings.capability < 90 => Err(Status::NotSupported),
            true => Ok(cluster),
            false => Err(Status::InvalidClusterSize),
        }
    }
}

/// The number of blocks of a kernel that a multiprocessor holds. Registers do not limit it here.
fn occupancy(state: &State, function: &Function, threads: c_int, shared: usize) -> Result<c_int, Status> {
    let (memory, most_threads, most_blocks) = multiprocessor(state.settings.capability);
    let threads = usize::try_from(threads).ok().filter(|&n| n > 0).ok_or(Status::InvalidValue)?;
    let needs = function.code.shared + shared + SHARED_RESERVED;
    Ok((most_threads / threads.next_multiple_of(32)).min(memory / needs).min(most_blocks) as c_int)
}

/// Reads the bytes of each argument that the kernel declares; nothing states how many the client meant.
fn read_params(code: &Code, params: *const *const c_void) -> Result<Vec<u8>, Status> {
    let mut bytes = vec![0; code.param_bytes()];
    if params.is_null() && !code.params.is_empty() {
        return Err(Status::InvalidValue);
    }
    for (i, &(offset, size)) in code.params.iter().enumerate() {
        // SAFETY: the interface requires one pointer for each parameter of the kernel.
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
