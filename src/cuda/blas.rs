//! cuBLAS: C ← α·A·B + β·C over row-major matrices in device memory.
//!
//! cuBLAS is column-major: to cuBLAS the same memory holds the transposed matrix. So it computes Cᵀ = Bᵀ·Aᵀ, and nothing is
//! copied. It uses a workspace from here, so that it allocates nothing while launches are captured.
#![allow(unsafe_code)]

use super::{
    buffer::{Buffer, Ptr},
    failure::failed,
    launch::wait_for_memory,
    sizes::count,
};
use crate::error::{CudaError, Error, Result};
use cudarc::{
    cublas::{
        result::{CublasError, create_handle, destroy_handle, set_stream},
        sys::{self, cublasMath_t as Math, cublasOperation_t as Operation},
    },
    driver::{CudaContext, CudaStream},
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// NVIDIA's recommended sizes from compute capability 9.0 on, and before, in bytes.
const WORKSPACE: usize = 32 << 20;
const WORKSPACE_BEFORE_9: usize = 4 << 20;

/// A row-major matrix in device memory, to be read as it is or transposed.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    at: Ptr<f32>,
    rows: u32,
    columns: u32,
    stride: u32,
    transposed: bool,
}

impl Matrix {
    /// `rows` rows of `columns` numbers, `stride` apart.
    pub fn new(at: Ptr<f32>, rows: u32, columns: u32, stride: u32) -> Self {
        Self { at, rows, columns, stride, transposed: false }
    }

    /// The same memory, read with rows and columns exchanged.
    pub fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// Rows and columns, as it is read.
    fn size(self) -> (u32, u32) {
        if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) }
    }

    fn operation(self) -> Operation {
        if self.transposed { Operation::CUBLAS_OP_T } else { Operation::CUBLAS_OP_N }
    }
}

struct Handle(sys::cublasHandle_t);

// SAFETY: cuBLAS allows any thread to use a handle, one at a time; a mutex guards this one.
unsafe impl Send for Handle {}

/// The library, opened for a device. All products of a device run in its one stream, so that they can share a workspace.
pub(super) struct Blas {
    context: Arc<CudaContext>,
    handle: Mutex<Handle>,
    workspace: Buffer<u8>,
    math: Math,
}

impl fmt::Debug for Blas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cuBLAS")
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        let handle = self.handle.get_mut().unwrap_or_else(PoisonError::into_inner);
        // A failure of either call has no remedy here.
        let _ = self.context.bind_to_thread();
        // SAFETY: `open` created the handle, and nothing else has it.
        let _ = unsafe { destroy_handle(handle.0) };
    }
}

fn blas_failed(call: &'static str) -> impl Fn(CublasError) -> Error {
    move |error| Error::Cuda(CudaError::Failed { call, problem: format!("{:?}", error.0) })
}

impl Blas {
    /// With `tf32`, cuBLAS may round the factors of products to ten bits behind the point.
    ///
    /// # Errors
    /// [`CudaError::NoCublas`] if the library cannot be loaded; out of memory; an error of cuBLAS.
    pub fn open(stream: &Arc<CudaStream>, tf32: bool) -> Result<Self> {
        // SAFETY: loads a library that the system's administrator installed on the library path.
        if !unsafe { sys::is_culib_present() } {
            return Err(Error::Cuda(CudaError::NoCublas));
        }
        let context = stream.context().clone();
        let (major, _) = context.compute_capability().map_err(failed("cuDeviceGetAttribute"))?;
        let workspace = Buffer::zeros(stream, if major >= 9 { WORKSPACE } else { WORKSPACE_BEFORE_9 })?;
        wait_for_memory(stream)?;
        context.bind_to_thread().map_err(failed("selection of the device"))?;
        let handle = Mutex::new(Handle(create_handle().map_err(blas_failed("cublasCreate"))?));
        let math = if tf32 { Math::CUBLAS_TF32_TENSOR_OP_MATH } else { Math::CUBLAS_DEFAULT_MATH };
        Ok(Self { context, handle, workspace, math })
    }

    /// c ← alpha·a·b + beta·c, where `c` is rows(a) × columns(b). With beta = 0, `c` is not read.
    pub fn multiply(&self, stream: &CudaStream, alpha: f32, a: Matrix, b: Matrix, beta: f32, c: Matrix) -> Result<()> {
        let ((m, k), (inner, n)) = (a.size(), b.size());
        assert!(k == inner && c.size() == (m, n) && !c.transposed, "a is {m} × {k}, b is {inner} × {n}");
        let int = |x: u32| count("rows or units", x as usize).map(|x| x as i32);
        let (m, n, k) = (int(m)?, int(n)?, int(k)?);
        let (lda, ldb, ldc) = (int(a.stride)?, int(b.stride)?, int(c.stride)?);
        self.context.bind_to_thread().map_err(failed("selection of the device"))?;
        let held = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = held.0;
        // SAFETY: the handle and the stream are alive, and the lock is held to the end of the function.
        unsafe { set_stream(handle, stream.cu_stream().cast()) }.map_err(blas_failed("cublasSetStream"))?;
        // SAFETY: the workspace is alive as long as the handle. Setting a stream resets the workspace, so each call sets it again.
        unsafe { sys::cublasSetWorkspace_v2(handle, self.workspace.ptr().address as _, self.workspace.len()) }
            .result()
            .map_err(blas_failed("cublasSetWorkspace"))?;
        // SAFETY: as above.
        unsafe { sys::cublasSetMathMode(handle, self.math) }.result().map_err(blas_failed("cublasSetMathMode"))?;
        // SAFETY: the addresses are those of buffers of rows × stride numbers each, whose sizes follow from the shape and
        // the number of rows that went into the matrices; they are released in stream order, so after this product. `c`
        // is none of the factors. Both scalars are read before the call returns.
        unsafe {
            sys::cublasSgemm_v2(
                handle,
                b.operation(),
                a.operation(),
                n,
                m,
                k,
                &raw const alpha,
                b.at.address as *const f32,
                ldb,
                a.at.address as *const f32,
                lda,
                &raw const beta,
                c.at.address as *mut f32,
                ldc,
            )
        }
        .result()
        .map_err(blas_failed("cublasSgemm"))
    }
}
