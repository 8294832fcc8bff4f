//! The state of the emulator, behind one lock.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::graph::{Capture, Node, Point};
use super::module::{Function, Module};
use super::status::Status;
use crate::machine::Heap;
use crate::settings::Settings;

/// Bytes that must be free for a new stream, instantiated graph or cuBLAS handle, which does not keep them.
const OUTSIDE_POOLS: u64 = 16384;

/// The state of the process.
pub struct State {
    /// The settings in the environment.
    pub settings: Settings,
    /// Whether `cuInit` was called.
    pub initialised: bool,
    /// Device memory.
    pub heap: Heap,
    /// The reference count of each device's primary context.
    pub retained: Vec<usize>,
    /// The bytes that the memory pool of each device keeps after their release.
    pub kept: Vec<u64>,
    /// Bytes that were released to the pools since the last synchronisation: until the next one only the pools can reuse them.
    pub returned: u64,
    /// A fault of earlier work: every later call returns it until the context ends.
    pub sticky: Option<Status>,
    /// Streams by handle; 0 is the default stream.
    pub streams: HashSet<usize>,
    /// Captures by handle.
    pub captures: HashMap<usize, Capture>,
    /// Events, and the point of a capture at which they were recorded.
    pub events: HashMap<usize, Option<Point>>,
    /// Modules by handle.
    pub modules: HashMap<usize, Module>,
    /// Functions by handle.
    pub functions: HashMap<usize, Arc<Function>>,
    /// Graphs and instantiated graphs by handle.
    pub graphs: HashMap<usize, Arc<Vec<Node>>>,
    /// Pinned host memory: size by address.
    pub pinned: HashMap<usize, usize>,
    /// cuBLAS handles and their streams.
    pub blas: HashMap<usize, crate::blas::Handle>,
    /// Allocations that were requested.
    pub allocations: u64,
    /// Launches that were performed.
    pub launches: u64,
    /// Launches of graphs so far.
    pub graph_launches: u64,
    /// Copies to the host so far.
    pub reads: u64,
    handles: usize,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| Mutex::new(State::new(Settings::from_environment())));

impl State {
    fn new(settings: Settings) -> Self {
        Self {
            retained: vec![0; settings.devices.max(0) as usize],
            kept: vec![0; settings.devices.max(0) as usize],
            returned: 0,
            settings,
            initialised: false,
            heap: Heap::default(),
            sticky: None,
            streams: HashSet::new(),
            captures: HashMap::new(),
            events: HashMap::new(),
            modules: HashMap::new(),
            functions: HashMap::new(),
            graphs: HashMap::new(),
            pinned: HashMap::new(),
            blas: HashMap::new(),
            allocations: 0,
            launches: 0,
            graph_launches: 0,
            reads: 0,
            handles: 0x1000,
        }
    }

    /// A new handle.
    pub fn handle(&mut self) -> usize {
        self.handles += 16;
        self.handles
    }

    /// Refuses calls before `cuInit`, without a context, or after a fault.
    pub fn ready(&self) -> Result<(), Status> {
        if !self.initialised {
            return Err(Status::NotInitialized);
        }
        if self.retained.iter().all(|&n| n == 0) {
            return Err(Status::InvalidContext);
        }
        self.sticky.map_or(Ok(()), Err)
    }

    /// Checks that there is memory outside the pools: for streams, instantiated graphs, handles of cuBLAS.
    pub fn check_memory_outside_pools(&self) -> Result<(), Status> {
        let taken = self.heap.used().saturating_add(self.returned).saturating_add(OUTSIDE_POOLS);
        if taken > self.settings.memory { Err(Status::OutOfMemory) } else { Ok(()) }
    }
}

/// Runs a call of the interface. No panic may unwind into the client.
pub fn with_state(call: impl FnOnce(&mut State) -> Result<(), Status>) -> Status {
    let run = || {
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        call(&mut state)
    };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
        Ok(Ok(())) => Status::Success,
        Ok(Err(status)) => status,
        Err(_) => Status::Unknown,
    }
}

/// Exported functions. Each body receives the state and returns a `Result`.
macro_rules! api {
    ($(fn $name:ident($state:ident $(, $arg:ident: $ty:ty)* $(,)?) $body:block)*) => {$(
        #[doc = concat!("The driver's `", stringify!($name), "`.")]
        ///
        /// # Safety
        ///
        /// As for the real function: pointers must be valid for its reads and writes.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, clippy::too_many_arguments)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> $crate::driver::Status {
            $crate::driver::with_state(|$state| $body)
        }
    )*};
}
pub(crate) use api;
