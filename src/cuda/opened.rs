//! Opening a device: the driver, the device, one stream, and the kernels compiled for it.

use super::{
    failure::{failed, message},
    launch::{self, Kernels, PTX, PTX_OF_CLUSTERS, PTX_OF_GRID, SOURCE},
};
use crate::error::{CudaError, Error, Result};
use cudarc::{
    driver::{
        CudaContext, CudaModule, CudaStream, DriverError, result,
        sys::{CUdevice_attribute as Attribute, cudaError_enum as Code},
    },
    nvrtc::{CompileError, CompileOptions, Ptx, compile_ptx_with_opts},
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The first line of PTX that was compiled from this source.
const FIRST_LINE: &str = concat!("// harmonium kernels ", env!("HARMONIUM_KERNELS_HASH"));

/// The oldest driver that accepts the PTX, in the driver's format, and the oldest device.
const OLDEST_DRIVER: i32 = 12000;
const OLDEST_DEVICE: (i32, i32) = (7, 0);
/// The oldest device whose matrix units multiply the kernels' bytes.
const OLDEST_GRID: (i32, i32) = (8, 0);
/// The oldest device with clusters of blocks.
const OLDEST_CLUSTERS: (i32, i32) = (9, 0);

/// The source of the kernels.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Program<'a> {
    /// The PTX that comes with the crate; if the driver rejects it, the source, compiled by NVRTC.
    Own,
    /// The PTX that comes with the crate.
    OwnPtx,
    /// The source, compiled by NVRTC for the device.
    Compiled,
    /// Another source, for tests that inject faults.
    Source(&'a str),
    /// Other PTX. Its first line must name the source.
    Ptx(&'a str),
}

/// The number of devices that this process has opened: each has its own handle.
static HANDLES: AtomicUsize = AtomicUsize::new(0);

/// An opened device.
pub(super) struct Opened {
    /// From 1, in the order of opening.
    pub handle: usize,
    pub context: Arc<CudaContext>,
    pub stream: Arc<CudaStream>,
    pub kernels: Kernels,
    pub name: String,
    pub multiprocessors: u32,
    /// Bytes of shared memory that a block of `layer_by_strips` may use.
    pub strips: u32,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("ordinal", &self.context.ordinal()).field("handle", &self.handle).finish()
    }
}

/// How many devices the driver has.
pub(super) fn devices() -> Result<usize> {
    if !launch::driver_is_there() {
        return Err(Error::Cuda(CudaError::NoDriver));
    }
    let driver = launch::driver_version()?;
    if driver < OLDEST_DRIVER {
        let (expected, found) = (launch::version(OLDEST_DRIVER), launch::version(driver));
        return Err(Error::Cuda(CudaError::DriverTooOld { expected, found }));
    }
    match result::init().and_then(|()| CudaContext::device_count()) {
        Ok(n) => Ok(usize::try_from(n).unwrap_or(0)),
        Err(DriverError(Code::CUDA_ERROR_NO_DEVICE)) => Ok(0),
        Err(error) => Err(failed("cuInit")(error)),
    }
}

impl Opened {
    pub fn open(ordinal: usize, program: Program<'_>) -> Result<Self> {
        let found = devices()?;
        if ordinal >= found {
            return Err(Error::Cuda(CudaError::NoDevice { ordinal, found }));
        }
        let context = CudaContext::new(ordinal).map_err(failed("opening of the device"))?;
        launch::without_events(&context);
        let capability = context.compute_capability().map_err(failed("cuDeviceGetAttribute"))?;
        if capability < OLDEST_DEVICE {
            return Err(Error::Cuda(CudaError::DeviceTooOld { found: format!("{}.{}", capability.0, capability.1) }));
        }
        let stream = context.new_stream().map_err(failed("creation of a stream"))?;
        let name = context.name().map_err(failed("cuDeviceGetName"))?;
        let kernels = load(&context, capability, program)?;
        let attribute = |which| context.attribute(which).map(|n| n as u32).map_err(failed("cuDeviceGetAttribute"));
        let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let strips = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        kernels.allow_strips(strips).map_err(failed("cuFuncSetAttribute"))?;
        launch::keep_memory(&context)?;
        let handle = HANDLES.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Self { handle, context, stream, kernels, name, multiprocessors, strips })
    }
}

fn load(context: &Arc<CudaContext>, capability: (i32, i32), program: Program<'_>) -> Result<Kernels> {
    let kernels = |ptx: Ptx, newer: &[Arc<CudaModule>]| {
        let loaded = context.load_module(ptx).and_then(|module| Kernels::load(&module, newer));
        loaded.map_err(|error| message(&error))
    };
    let compiled = |source: &str| compile(source, capability).and_then(|ptx| kernels(ptx, &[]));
    let given = |ptx: &str| {
        if ptx.lines().next() != Some(FIRST_LINE) {
            return Err("it was compiled from another source".to_owned());
        }
        // The driver may be too old for the PTX of newer devices.
        let newer = [(OLDEST_GRID, PTX_OF_GRID), (OLDEST_CLUSTERS, PTX_OF_CLUSTERS)]
            .into_iter()
            .filter(|(oldest, ptx)| capability >= *oldest && ptx.lines().next() == Some(FIRST_LINE))
            .filter_map(|(_, ptx)| context.load_module(Ptx::from_src(ptx)).ok());
        kernels(Ptx::from_src(ptx), &newer.collect::<Vec<_>>())
    };
    let not_tried = || Err("not tried".to_owned());
    let (ptx, nvrtc) = match program {
        Program::Own => match given(PTX) {
            // PTX for exactly this device gains less than the second that NVRTC takes.
            Ok(kernels) => return Ok(kernels),
            ptx => (ptx, compiled(SOURCE)),
        },
        Program::OwnPtx => (given(PTX), not_tried()),
        Program::Ptx(ptx) => (given(ptx), not_tried()),
        Program::Compiled => (not_tried(), compiled(SOURCE)),
        Program::Source(source) => (not_tried(), compiled(source)),
    };
    match (ptx, nvrtc) {
        (Ok(kernels), _) | (_, Ok(kernels)) => Ok(kernels),
        (Err(ptx), Err(nvrtc)) => Err(Error::Cuda(CudaError::NoKernels { nvrtc, ptx })),
    }
}

/// Compiles for a device. The compiler may fuse no multiplication and addition; the source fuses explicitly.
fn compile(source: &str, (major, minor): (i32, i32)) -> std::result::Result<Ptx, String> {
    if !launch::compiler_is_there() {
        return Err("libnvrtc cannot be loaded".to_owned());
    }
    let options = CompileOptions {
        fmad: Some(false),
        options: vec![format!("--gpu-architecture=compute_{major}{minor}"), "--std=c++17".to_owned()],
        name: Some("kernels.cu".to_owned()),
        ..CompileOptions::default()
    };
    compile_ptx_with_opts(source, options).map_err(|error| match error {
        CompileError::CompileError { log, .. } => log.to_string_lossy().trim().to_owned(),
        other => format!("{other:?}"),
    })
}
