//! The work of a stream: performed now, or each time a graph is launched.

use std::sync::Arc;

use super::module::Function;
use super::state::State;
use super::status::Status;
use crate::blas::Gemm;
use crate::machine::{Cause, Fault, Launch, run};

/// An item of work with all its scalar arguments.
#[derive(Clone)]
pub enum Work {
    /// A kernel.
    Launch {
        /// The kernel.
        function: Arc<Function>,
        /// Blocks in each dimension.
        grid: [u32; 3],
        /// Threads of a block in each dimension.
        block: [u32; 3],
        /// Blocks of a cluster in each dimension.
        cluster: [u32; 3],
        /// Bytes of dynamic shared memory.
        shared: usize,
        /// The bytes of the parameters.
        params: Vec<u8>,
    },
    /// A copy from the host.
    ToDevice { to: u64, from: usize, size: usize },
    /// A copy to the host.
    ToHost { to: usize, from: u64, size: usize },
    /// A copy inside the device's memory.
    Within { to: u64, from: u64, size: usize },
    /// Repeats a pattern of bytes.
    Fill { to: u64, pattern: Vec<u8>, count: usize },
    /// Matrix products.
    Gemm(Gemm),
}

fn cause(cause: Cause) -> Status {
    match cause {
        Cause::IllegalAddress => Status::IllegalAddress,
        Cause::MisalignedAddress => Status::MisalignedAddress,
        Cause::LaunchFailed => Status::LaunchFailed,
        Cause::Timeout => Status::LaunchTimeout,
    }
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Work::Launch { function, .. } => write!(f, "launch of {}", function.code.name),
            Work::ToDevice { size, .. } => write!(f, "copy of {size} bytes to the device"),
            Work::ToHost { size, .. } => write!(f, "copy of {size} bytes to the host"),
            Work::Within { size, .. } => write!(f, "copy of {size} bytes on the device"),
            Work::Fill { pattern, count, .. } => write!(f, "{} bytes filled", pattern.len() * count),
            Work::Gemm(_) => write!(f, "matrix product"),
        }
    }
}

impl State {
    /// Prints a client's call, if tracing is on.
    pub fn trace(&self, what: impl std::fmt::Display) {
        if self.settings.trace {
            eprintln!("cuda emulator: call: {what}");
        }
    }

    /// Submits a client's work to a stream.
    pub fn submit(&mut self, stream: usize, work: Work) -> Result<(), Status> {
        match self.capture_of(stream) {
            Some(_) => self.trace(format_args!("captured {work}")),
            None => self.trace(&work),
        }
        self.enqueue(stream, work)
    }

    /// Gives work to a stream: records it if the stream is capturing, otherwise performs it at once.
    pub fn enqueue(&mut self, stream: usize, work: Work) -> Result<(), Status> {
        self.ready()?;
        self.check_stream(stream)?;
        match self.capture_of(stream) {
            Some(capture) => {
                self.record(capture, stream, work);
                Ok(())
            }
            None => self.perform(&work),
        }
    }

    /// Performs work. Later calls report a kernel's fault, as with asynchronous hardware.
    pub fn perform(&mut self, work: &Work) -> Result<(), Status> {
        match work {
            Work::Launch { function, grid, block, cluster, shared, params } => {
                self.launches += 1;
                let start = std::time::Instant::now();
                let launch = Launch {
                    code: &function.code,
                    grid: *grid,
                    block: *block,
                    cluster: *cluster,
                    dynamic_shared: *shared,
                    params: params.clone(),
                };
                let result = if self.launches >= self.settings.fail_launch {
                    Err(Fault::new(Cause::LaunchFailed, "requested by the settings"))
                } else {
                    run(launch, &mut self.heap, &self.settings, self.launches)
                };
                match result {
                    Ok(executed) if self.settings.stats => {
                        let (name, seconds) = (&function.code.name, start.elapsed().as_secs_f64());
                        eprintln!(
                            "cuda emulator: {name}: {executed} instructions in {seconds:.6} s, {:.1} M/s",
                            executed as f64 / seconds / 1e6
                        );
                    }
                    Ok(_) => {}
                    Err(fault) => self.sticky = Some(cause(fault.cause)),
                }
                Ok(())
            }
            Work::ToDevice { to, from, size } => {
                let target = range(self, *to, *size)?;
                // SAFETY: the caller of the copy guarantees `size` readable bytes at `from`, and device memory is separate.
                unsafe { (*from as *const u8).copy_to_nonoverlapping(target.as_mut_ptr(), *size) };
                Ok(())
            }
            Work::ToHost { to, from, size } => {
                self.reads += 1;
                if self.reads == self.settings.fail_read {
                    return Err(Status::Unknown);
                }
                let source = range(self, *from, *size)?;
                // SAFETY: the caller of the copy guarantees `size` writable bytes at `to`, and device memory is separate.
                unsafe { (*to as *mut u8).copy_from_nonoverlapping(source.as_ptr(), *size) };
                Ok(())
            }
            Work::Within { to, from, size } => {
                let bytes = range(self, *from, *size)?.to_vec();
                range(self, *to, *size)?.copy_from_slice(&bytes);
                Ok(())
            }
            Work::Fill { to, pattern, count } => {
                let target = range(self, *to, pattern.len() * count)?;
                for chunk in target.chunks_exact_mut(pattern.len()) {
                    chunk.copy_from_slice(pattern);
                }
                Ok(())
            }
            Work::Gemm(gemm) => gemm.run(&mut self.heap, self.settings.approx_seed).or_else(|what| {
                eprintln!("cuda emulator: {what}");
                self.sticky = Some(Status::IllegalAddress);
                Ok(())
            }),
        }
    }
}

fn range(state: &mut State, address: u64, size: usize) -> Result<&mut [u8], Status> {
    if size == 0 {
        return Ok(&mut []);
    }
    state.heap.range(address, size).ok_or(Status::InvalidValue)
}
