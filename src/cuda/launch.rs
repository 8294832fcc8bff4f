//! The kernels as typed functions: one for each, with the types of its parameters.
//!
//! The driver takes untyped pointers to arguments and checks neither their number nor their widths. So this file names each kernel
//! once with its types, in the order and layout of kernels/*.cu. A test compares them with the parameter lists in the PTX.
#![allow(unsafe_code)]

use super::{
    arguments::{
        ChainsArgument, LawsArgument, MeansArgument, ParametersArgument, RowsArgument, RuleArgument, SideArgument,
        StatisticsArgument, StepArgument,
    },
    buffer::Ptr,
    failure::failed,
};
use crate::{
    descent::Pace,
    error::{CudaError, Error, Result},
};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaGraph, CudaModule, CudaStream, DeviceRepr, DriverError, LaunchArgs, LaunchConfig,
    PushKernelArg, result, sys,
};
use std::{fmt, sync::Arc};

/// The kernels' source.
pub(super) const SOURCE: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.cu"));
/// The same, compiled once by an old NVRTC for hosts that have only a driver. Without the kernels of newer devices.
pub(super) const PTX: &str = include_str!("../../kernels/ptx/compute_70.ptx");
/// Those of matrix units, for compute capability 8.0 and later.
pub(super) const PTX_OF_GRID: &str = include_str!("../../kernels/ptx/compute_80.ptx");
/// Those of clusters of blocks, for 9.0 and later.
pub(super) const PTX_OF_CLUSTERS: &str = include_str!("../../kernels/ptx/compute_90.ptx");

/// Marks types that a kernel takes byte for byte as parameters.
macro_rules! device_types {
    ($($name:ident),*) => {$(
        // SAFETY: `repr(C)` with the fields of the kernels' struct, all of them plain numbers.
        unsafe impl DeviceRepr for $name {}
    )*};
}
device_types!(
    SideArgument,
    RowsArgument,
    LawsArgument,
    ChainsArgument,
    StatisticsArgument,
    ParametersArgument,
    StepArgument,
    RuleArgument,
    Pace,
    MeansArgument
);

// SAFETY: `repr(transparent)` over the address that the kernel takes as its pointer.
unsafe impl<T> DeviceRepr for Ptr<T> {}

/// The number of blocks and of threads per block, and the bytes of shared memory per block beyond the kernel's declarations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub blocks: u32,
    pub slices: u32,
    pub threads: u32,
    pub shared: u32,
}

impl Grid {
    pub fn new(blocks: u32, threads: u32) -> Self {
        Self { blocks, slices: 1, threads, shared: 0 }
    }

    /// # Safety
    /// The arguments must be the kernel's in number, order and width. Every address among them must be that of a buffer whose
    /// size follows from the shape and the number of rows that go with it: the kernels stay within those sizes. A buffer
    /// is released in stream order, so after this launch.
    unsafe fn launch(self, launch: &mut LaunchArgs<'_>, call: &'static str) -> Result<()> {
        let config = LaunchConfig {
            grid_dim: (self.blocks, self.slices, 1),
            block_dim: (self.threads, 1, 1),
            shared_mem_bytes: self.shared,
        };
        // SAFETY: the caller guarantees it.
        unsafe { launch.launch(config) }.map(drop).map_err(failed(call))
    }
}

/// Defines [`Kernels`]: the loaded functions, and for each a method that launches it. Some only exist for newer devices.
macro_rules! kernels {
    (
        $(fn $name:ident($($argument:ident: $type:ty),* $(,)?);)*
        newer { $(fn $newer_name:ident($($newer_argument:ident: $newer_type:ty),* $(,)?);)* }
    ) => {
        /// The kernels, loaded.
        pub(super) struct Kernels {
            $($name: CudaFunction,)*
            $($newer_name: Option<CudaFunction>,)*
        }

        impl Kernels {
            /// Loads the kernels from a module. Newer ones may be there, in the other modules, or missing.
            pub fn load(module: &Arc<CudaModule>, newer: &[Arc<CudaModule>]) -> std::result::Result<Self, DriverError> {
                let optional = |name| {
                    for module in [module].into_iter().chain(newer) {
                        match module.load_function(name) {
                            Err(DriverError(sys::cudaError_enum::CUDA_ERROR_NOT_FOUND)) => {}
                            loaded => return loaded.map(Some),
                        }
                    }
                    Ok(None)
                };
                Ok(Self {
                    $($name: module.load_function(stringify!($name))?,)*
                    $($newer_name: optional(stringify!($newer_name))?,)*
                })
            }

            $(
                #[allow(clippy::too_many_arguments)]
                pub fn $name(&self, stream: &CudaStream, grid: Grid, $($argument: $type),*) -> Result<()> {
                    let mut launch = stream.launch_builder(&self.$name);
                    $(launch.arg(&$argument);)*
                    // SAFETY: as `Grid::launch` requires; the arguments are the kernel's in number, order and width (the test
                    // below).
                    unsafe { grid.launch(&mut launch, concat!("kernel ", stringify!($name))) }
                }
            )*
            $(
                #[allow(clippy::too_many_arguments)]
                pub fn $newer_name(
                    &self, stream: &CudaStream, grid: Grid, $($newer_argument: $newer_type),*
                ) -> Result<()> {
                    let absent = DriverError(sys::cudaError_enum::CUDA_ERROR_NOT_FOUND);
                    let kernel = self.$newer_name.as_ref().ok_or_else(|| failed("cuModuleGetFunction")(absent))?;
                    let mut launch = stream.launch_builder(kernel);
                    $(launch.arg(&$newer_argument);)*
                    // SAFETY: as above.
                    unsafe { grid.launch(&mut launch, concat!("kernel ", stringify!($newer_name))) }
                }
            )*
        }

        /// Name of each kernel, and size of each of its parameters.
        #[cfg(test)]
        const SIGNATURES: &[(&str, &[usize])] = &[
            $((stringify!($name), &[$(size_of::<$type>()),*]),)*
            $((stringify!($newer_name), &[$(size_of::<$newer_type>()),*]),)*
        ];
    };
}

kernels! {
    fn begin(cursor: Ptr<u64>, rows: u64, missing: u64, bit: u32);
    fn propagate(
        side: SideArgument, rows: RowsArgument, round: u32, betas: Ptr<f32>, generator: Ptr<u64>, pre_activations: Ptr<f32>,
        means: Ptr<f32>, samples: Ptr<u32>,
    );
    fn finish(generator: Ptr<u64>, n: u64, values: Ptr<f64>, rows: u32, watched: Ptr<f64>);
    fn sweep(down: SideArgument, up: SideArgument, chains: ChainsArgument, generator: Ptr<u64>, first: u64, k: u32);
    fn anneal(
        down: SideArgument, up: SideArgument, chains: ChainsArgument, generator: Ptr<u64>, betas: Ptr<f32>, pairs: u32, log_weights: Ptr<f64>,
    );
    fn free_energy(up: SideArgument, rows: RowsArgument, visible_bias: Ptr<f32>, out: Ptr<f64>);
    fn pseudo_likelihood_of_bit(
        up: SideArgument, rows: RowsArgument, visible_bias: Ptr<f32>, place_of_bit: Ptr<u32>, out: Ptr<f64>,
    );
    fn pseudo_likelihood_of_bits(
        up: SideArgument, rows: RowsArgument, visible_bias: Ptr<f32>, pre: Ptr<f32>, on: Ptr<f32>, off: Ptr<f32>, out: Ptr<f64>,
    );
    fn sum_terms(terms: Ptr<f64>, rows: u32, units: u32, out: Ptr<f64>);
    fn cross_entropy(rows: RowsArgument, units: u32, pre: Ptr<f32>, stride: u32, out: Ptr<f64>);
    fn elementwise(pre: Ptr<f32>, off: u32, out: Ptr<f32>, n: u64);
    fn learn(statistics: StatisticsArgument, parameters: ParametersArgument, step: StepArgument);
    fn learn_from_numbers(statistics: StatisticsArgument, parameters: ParametersArgument, step: StepArgument);
    fn descend(parameters: Ptr<f32>, gradient: Ptr<f32>, lr: f32, n: u64);
    fn transpose(parameters: ParametersArgument);
    fn count_from_offsets(statistics: StatisticsArgument, parameters: ParametersArgument, rule: RuleArgument, pace: Pace);
    fn descend_biases(statistics: StatisticsArgument, parameters: ParametersArgument, rule: RuleArgument, pace: Pace);
    fn descend_weights(statistics: StatisticsArgument, parameters: ParametersArgument, rule: RuleArgument, pace: Pace);
    fn descend_weights_from_numbers(
        statistics: StatisticsArgument, parameters: ParametersArgument, rule: RuleArgument, pace: Pace,
    );
    fn descend_by_products(gradient: Ptr<f32>, parameters: ParametersArgument, rule: RuleArgument, pace: Pace);
    fn approach(parameters: Ptr<f32>, to: Ptr<f32>, part: f32, n: u64);
    fn numbers_of_rows(rows: RowsArgument, round: u32, row_weights: Ptr<f32>, out: Ptr<f32>, stride: u32);
    fn numbers_of_bits(bits: Ptr<u32>, units: u32, out: Ptr<f32>, stride: u32);
    fn activate(
        side: SideArgument, rows: u32, sums: Ptr<f32>, betas: Ptr<f32>, beta_step: u32, generator: Ptr<u64>, first: u64,
        pre_activations: Ptr<f32>, means: Ptr<f32>, states: Ptr<f32>, bits: Ptr<u32>,
    );
    fn free_energy_of_sums(up: SideArgument, rows: RowsArgument, visible_bias: Ptr<f32>, sums: Ptr<f32>, out: Ptr<f64>);
    fn pseudo_likelihood_of_sums(
        up: SideArgument, rows: RowsArgument, visible_bias: Ptr<f32>, place_of_bit: Ptr<u32>, sums: Ptr<f32>, out: Ptr<f64>,
    );
    fn gain(
        down: SideArgument, up: SideArgument, chains: u32, states: Ptr<f32>, sums: Ptr<f32>, betas: Ptr<f32>, log_weights: Ptr<f64>,
    );
    fn learn_bias(means: MeansArgument, bias: Ptr<f32>, step: StepArgument);
    fn layer_by_strips(
        side: SideArgument, given: Ptr<u32>, chains: u32, betas: Ptr<f32>, beta_step: u32, generator: Ptr<u64>, first: u64,
        tile: u32, at_once: u32, pre_activations: Ptr<f32>, means: Ptr<f32>, bits: Ptr<u32>,
    );
    fn scaled_rows(rows: RowsArgument, units: u32, precision: Ptr<f32>, out: Ptr<f32>, stride: u32);
    fn visible_layer(
        down: SideArgument, laws: LawsArgument, sums: Ptr<f32>, betas: Ptr<f32>, beta_step: u32, generator: Ptr<u64>,
        first: u64, pre_activations: Ptr<f32>, means: Ptr<f32>, states: Ptr<f32>, scaled: Ptr<f32>,
    );
    fn keep_visible(
        rows: RowsArgument, left_out: u32, units: u32, precision: Ptr<f32>, states: Ptr<f32>, scaled: Ptr<f32>, stride: u32,
        bits: Ptr<u32>,
    );
    fn reconstruction(rows: RowsArgument, laws: LawsArgument, pre: Ptr<f32>, stride: u32, out: Ptr<f64>);
    fn gain_of_laws(
        down: SideArgument, up: SideArgument, laws: LawsArgument, chains: u32, states: Ptr<f32>, sums: Ptr<f32>,
        betas: Ptr<f32>, log_weights: Ptr<f64>,
    );
    fn own_energies(rows: RowsArgument, laws: LawsArgument, units: u32, visible_bias: Ptr<f32>, out: Ptr<f64>);
    fn variance_gradients(
        rows: RowsArgument, of_rows: f32, ends: Ptr<f32>, stride: u32, chains: u32, of_chains: f32, laws: LawsArgument,
        parameters: ParametersArgument, gradient: ParametersArgument, log_variance: Ptr<f32>,
    );
    fn own_gradients(
        rows: RowsArgument, laws: LawsArgument, row_weights: Ptr<f32>, parameters: ParametersArgument,
        gradient: ParametersArgument, log_variance: Ptr<f32>,
    );
    fn pseudo_likelihood_of_states(
        up: SideArgument, rows: RowsArgument, laws: LawsArgument, visible_bias: Ptr<f32>, place_of_site: Ptr<u32>,
        pre: Ptr<f32>, terms: Ptr<f64>,
    );
    fn pseudo_likelihood_of_sites(
        rows: RowsArgument, laws: LawsArgument, place_of_site: Ptr<u32>, terms: Ptr<f64>, units: u32, out: Ptr<f64>,
    );
    newer {
        fn sweep_in_clusters(
            down: SideArgument, up: SideArgument, chains: ChainsArgument, generator: Ptr<u64>, first: u64, k: u32, capacity: u32,
        );
        fn largest_sizes(up: SideArgument, visible_bias: Ptr<f32>, parts: Ptr<u32>);
        fn put_on_grid(up: SideArgument, down: SideArgument, parts: Ptr<u32>, grids: Ptr<u32>, planes: Ptr<u32>);
        fn draw_on_grid(
            side: SideArgument, rows: Ptr<f32>, stride: u32, grid: Ptr<u32>, planes: Ptr<u32>, given: Ptr<u32>, chains: u32,
            betas: Ptr<f32>, generator: Ptr<u64>, first: u64, bits: Ptr<u32>,
        );
    }
}

impl Kernels {
    /// Whether there are kernels for clusters of blocks.
    pub fn have_clusters(&self) -> bool {
        self.sweep_in_clusters.is_some()
    }

    /// Whether there are kernels that draw on a grid.
    pub fn have_grid(&self) -> bool {
        self.draw_on_grid.is_some()
    }

    /// Allows blocks of `layer_by_strips` this much shared memory.
    pub fn allow_strips(&self, bytes: u32) -> std::result::Result<(), DriverError> {
        let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        self.layer_by_strips.set_attribute(attribute, bytes as i32)
    }
}

/// Launches that were recorded once and are repeated as a whole.
pub(super) struct Graph {
    graph: CudaGraph,
    /// The stream of the last launch.
    stream: Arc<CudaStream>,
}

impl Drop for Graph {
    fn drop(&mut self) {
        // The graph may still be running. If this call fails, the next one reports the error.
        let _ = self.stream.synchronize();
    }
}

// SAFETY: the driver allows any thread to use a graph, one at a time; a graph is launched through `&mut` only.
unsafe impl Send for Graph {}
// SAFETY: no call through a shared reference touches the graph.
unsafe impl Sync for Graph {}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Graph")
    }
}

impl Graph {
    /// Records the launches of `launches` in `recorder`, a stream without other users, to be repeated in `stream`.
    pub fn record(
        recorder: &Arc<CudaStream>, stream: &Arc<CudaStream>, launches: impl FnOnce(&CudaStream) -> Result<()>,
    ) -> Result<Self> {
        wait_for_memory(stream)?;
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        recorder.begin_capture(mode).map_err(failed("start of capture"))?;
        let launched = launches(recorder);
        // Ends the capture in any case: a stream that stays in capture mode is unusable.
        let graph = recorder.end_capture(sys::CUgraphInstantiate_flags(0));
        launched?;
        match graph.map_err(failed("end of capture"))? {
            Some(graph) => Ok(Self { graph, stream: stream.clone() }),
            None => Err(failed("capture")(DriverError(sys::cudaError_enum::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED))),
        }
    }

    /// Repeats the launches. The caller ensures that the buffers in the graph are still the same.
    pub fn launch(&mut self) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(failed("selection of the device"))?;
        // SAFETY: the graph and the stream are alive as long as `self`; the addresses in the graph are those of live buffers,
        // whose addresses and sizes `Captured::key` compares before every launch.
        unsafe { result::graph::launch(self.graph.cu_graph_exec(), self.stream.cu_stream()) }.map_err(failed("graph"))
    }
}

/// Seconds on the device between the end of earlier work in the stream and the end of the work of `work`. Waits for that end.
pub(super) fn seconds_of(stream: &Arc<CudaStream>, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    // cudarc has only that form of cuEventElapsedTime that came with this driver.
    let found = driver_version()?;
    if found < 12080 {
        return Err(Error::Cuda(CudaError::DriverTooOld { expected: "12.8".into(), found: version(found) }));
    }
    let moment = || stream.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).map_err(failed("event"));
    let begin = moment()?;
    work()?;
    let end = moment()?;
    let milliseconds = begin.elapsed_ms(&end).map_err(failed("work on the device"))?;
    Ok(f64::from(milliseconds) / 1e3)
}

/// Whether the driver's library can be loaded. Otherwise everything else in this module panics inside cudarc.
pub(super) fn driver_is_there() -> bool {
    // SAFETY: loads a library that the system's administrator installed on the library path.
    unsafe { sys::is_culib_present() }
}

/// Whether NVRTC can be loaded.
pub(super) fn compiler_is_there() -> bool {
    // SAFETY: as above.
    unsafe { cudarc::nvrtc::sys::is_culib_present() }
}

/// The driver's version in its own format: 12040 is 12.4.
pub(super) fn driver_version() -> Result<i32> {
    let mut version = 0;
    // SAFETY: writes one int.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(failed("cuDriverGetVersion"))?;
    Ok(version)
}

/// A version in the usual format.
pub(super) fn version(v: i32) -> String {
    format!("{}.{}", v / 1000, v % 1000 / 10)
}

/// Lets the device's memory pool keep a gibibyte of released memory. By default it returns all of it to the driver, and a call
/// that allocates again would wait for the driver longer than for its work.
pub(super) fn keep_memory(context: &CudaContext) -> Result<()> {
    const KEPT: u64 = 1 << 30;
    context.bind_to_thread().map_err(failed("selection of the device"))?;
    let mut pool = std::ptr::null_mut();
    // SAFETY: writes the handle of the pool that the device has.
    let found = unsafe { sys::cuDeviceGetDefaultMemPool(&raw mut pool, context.cu_device()) };
    match found.result() {
        // Without a pool, allocating and releasing memory are blocking calls.
        Err(DriverError(sys::cudaError_enum::CUDA_ERROR_NOT_SUPPORTED)) => return Ok(()),
        found => found.map_err(failed("cuDeviceGetDefaultMemPool"))?,
    }
    let (mut kept, threshold) = (KEPT, sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD);
    // SAFETY: this attribute is 64 bits, which are read before the call returns.
    unsafe { sys::cuMemPoolSetAttribute(pool, threshold, (&raw mut kept).cast()) }
        .result()
        .map_err(failed("cuMemPoolSetAttribute"))
}

/// Waits until all released memory is available again. The pool holds the memory of dropped buffers until somebody waits for
/// their stream; streams, graphs and cuBLAS allocate elsewhere, and would find a full device.
pub(super) fn wait_for_memory(stream: &CudaStream) -> Result<()> {
    stream.synchronize().map_err(failed("work on the device"))
}

/// Disables cudarc's events. All work of this crate is in one stream per device, so nothing has to wait for events, and launches
/// can be captured.
pub(super) fn without_events(context: &CudaContext) {
    // SAFETY: every buffer is used in the stream that allocated it; a graph's own stream only records.
    unsafe { context.disable_event_tracking() };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name of each kernel in the PTX, and size of each of its parameters.
    fn signatures(ptx: &str) -> Vec<(String, Vec<usize>)> {
        let size = |parameter: &str| match parameter.split_once('[') {
            Some((_, bytes)) => bytes.trim_end_matches(']').parse().expect("a size"),
            None => match parameter.split_whitespace().find(|word| word.starts_with('.') && *word != ".param") {
                Some(".u64") => 8,
                Some(".u32" | ".f32") => 4,
                other => panic!("{other:?} in {parameter}"),
            },
        };
        let entry = |text: &str| {
            let (name, rest) = text.split_once('(').expect("a parameter list");
            let (parameters, _) = rest.split_once(')').expect("the end of the list");
            (name.trim().to_owned(), parameters.split(',').map(|parameter| size(parameter.trim())).collect())
        };
        ptx.split(".visible .entry ").skip(1).map(entry).collect()
    }

    #[test]
    fn wrappers_have_the_parameters_of_the_kernels() {
        let mut kernels: Vec<_> = [PTX, PTX_OF_GRID, PTX_OF_CLUSTERS].into_iter().flat_map(signatures).collect();
        let mut wrappers: Vec<_> = SIGNATURES.iter().map(|(name, sizes)| (name.to_string(), sizes.to_vec())).collect();
        kernels.sort();
        wrappers.sort();
        assert_eq!(kernels, wrappers);
    }

    #[test]
    fn a_lost_parameter_is_detected() {
        let ptx = PTX;
        let kernels = signatures(&ptx.replacen(".param .u32 sweep_param_5", "", 1).replacen(
            "sweep_param_4,",
            "sweep_param_4",
            1,
        ));
        assert!(kernels.iter().any(|(name, sizes)| name == "sweep" && sizes.len() == 5), "{kernels:?}");
    }
}
