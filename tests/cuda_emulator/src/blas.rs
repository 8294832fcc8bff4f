//! The exports of libcublas: matrix products in single precision, column-major.

use std::ffi::{c_int, c_longlong, c_uint, c_void};

use crate::driver::{State, Status, Work, with_state};
use crate::machine::Heap;
use crate::settings::mix;

/// A `cublasStatus_t`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BlasStatus {
    Success = 0,
    NotInitialized = 1,
    InvalidValue = 7,
    ExecutionFailed = 13,
}

/// The state of a handle.
#[derive(Clone, Copy, Debug, Default)]
pub struct Handle {
    stream: usize,
    /// Whether factors are rounded to TF32.
    tf32: bool,
}

/// `CUBLAS_TF32_TENSOR_OP_MATH`, and a bit that any mode may have.
const TF32_MATH: c_uint = 3;
const DISALLOW_REDUCED_REDUCTION: c_uint = 16;

/// A number with ten bits behind the point, the nearest one, ties to even. Hardware and library may round otherwise.
fn tf32(x: f32) -> f32 {
    let bits = x.to_bits();
    if x.is_finite() { f32::from_bits(bits.wrapping_add(0xfff + (bits >> 13 & 1)) & !0x1fff) } else { x }
}

/// A matrix operand.
#[derive(Clone, Copy)]
struct Matrix {
    address: u64,
    leading: usize,
    stride: i64,
    transposed: bool,
}

/// `count` products `C = alpha op(A) op(B) + beta C`.
#[derive(Clone)]
pub struct Gemm {
    /// The handle whose workspace the products use.
    pub handle: usize,
    size: [usize; 3],
    scale: [f32; 2],
    matrices: [Matrix; 3],
    count: usize,
    tf32: bool,
}

impl Gemm {
    /// Computes the products. Each element is one fused sum in ascending order. With a seed it is the sum of several such sums,
    /// of every second, third … term; seed and sizes choose their number. The real library's order is as unknown, and as
    /// constant.
    pub fn run(&self, heap: &mut Heap, seed: Option<u64>) -> Result<(), String> {
        let ([m, n, k], [alpha, beta]) = (self.size, self.scale);
        let sizes = self.size.iter().fold(0, |hash, &x| mix(hash ^ x as u64));
        let parts = seed.map_or(1, |seed| 1 + (mix(seed ^ sizes) % 8) as usize);
        for i in 0..self.count {
            let [a, b, c] = self.matrices.map(|x| x.address.wrapping_add((x.stride * i as i64 * 4) as u64));
            let [ma, mb, mc] = self.matrices;
            let (mut a, mut b) = (fetch(heap, a, &ma, m, k)?, fetch(heap, b, &mb, k, n)?);
            if self.tf32 {
                a.iter_mut().chain(&mut b).for_each(|x| *x = tf32(*x));
            }
            let length = mc.leading * (n - 1) + m;
            let out =
                heap.range(c, length * 4).ok_or_else(|| format!("sgemm: C at {c:#x} is not in one allocation"))?;
            for col in 0..n {
                for row in 0..m {
                    let at = |x: &[f32], of: &Matrix, r: usize, c: usize| match of.transposed {
                        true => x[c + r * of.leading],
                        false => x[r + c * of.leading],
                    };
                    let part = |first: usize| {
                        let terms = (first..k).step_by(parts);
                        terms.fold(0f32, |sum, l| at(&a, &ma, row, l).mul_add(at(&b, &mb, l, col), sum))
                    };
                    let sum = (1..parts).fold(part(0), |sum, first| sum + part(first));
                    let at = 4 * (row + col * mc.leading);
                    let old = f32::from_le_bytes([out[at], out[at + 1], out[at + 2], out[at + 3]]);
                    // With beta = 0, C is not read: it may hold anything.
                    let new = if beta == 0.0 { alpha * sum } else { alpha.mul_add(sum, beta * old) };
                    out[at..at + 4].copy_from_slice(&new.to_le_bytes());
                }
            }
        }
        Ok(())
    }
}

fn fetch(heap: &mut Heap, address: u64, matrix: &Matrix, rows: usize, cols: usize) -> Result<Vec<f32>, String> {
    let (rows, cols) = if matrix.transposed { (cols, rows) } else { (rows, cols) };
    if rows == 0 || cols == 0 {
        return Ok(Vec::new());
    }
    let length = matrix.leading * (cols - 1) + rows;
    let bytes = heap.range(address, length * 4);
    let bytes = bytes.ok_or_else(|| format!("sgemm: an operand at {address:#x} is not in one allocation"))?;
    let word = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    Ok(bytes.chunks_exact(4).map(word).collect())
}

/// Calls that need a handle.
fn with_handle(handle: usize, call: impl FnOnce(&mut State) -> Result<BlasStatus, Status>) -> BlasStatus {
    let mut result = BlasStatus::NotInitialized;
    let status = with_state(|state| {
        if state.blas.contains_key(&handle) {
            result = call(state)?;
        }
        Ok(())
    });
    if status == Status::Success { result } else { BlasStatus::ExecutionFailed }
}

macro_rules! blas {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block)*) => {$(
        #[doc = concat!("The library's `", stringify!($name), "`.")]
        ///
        /// # Safety
        ///
        /// As for the real function: pointers must be valid for its reads and writes.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, clippy::too_many_arguments)]
        pub unsafe extern "C" fn $name($($arg: $ty),*) -> BlasStatus $body
    )*};
}

fn put<T>(out: *mut T, value: T) -> BlasStatus {
    if out.is_null() {
        return BlasStatus::InvalidValue;
    }
    // SAFETY: the interface requires a writable pointer, and it is not null.
    unsafe { out.write(value) };
    BlasStatus::Success
}

blas! {
    fn cublasCreate_v2(out: *mut usize) {
        let mut result = BlasStatus::NotInitialized;
        let status = with_state(|state| {
            state.ready()?;
            state.check_memory_outside_pools()?;
            let handle = state.handle();
            state.blas.insert(handle, Handle::default());
            result = put(out, handle);
            Ok(())
        });
        if status == Status::Success { result } else { BlasStatus::NotInitialized }
    }

    fn cublasDestroy_v2(handle: usize) {
        with_handle(handle, |state| {
            state.blas.remove(&handle);
            Ok(BlasStatus::Success)
        })
    }

    fn cublasGetVersion_v2(_handle: usize, out: *mut c_int) {
        put(out, 120_000)
    }

    fn cublasSetStream_v2(handle: usize, stream: usize) {
        with_handle(handle, |state| {
            state.check_stream(stream)?;
            state.blas.entry(handle).or_default().stream = stream;
            Ok(BlasStatus::Success)
        })
    }

    fn cublasGetStream_v2(handle: usize, out: *mut usize) {
        with_handle(handle, |state| Ok(put(out, state.blas[&handle].stream)))
    }

    fn cublasSetMathMode(handle: usize, mode: c_uint) {
        // Default, pedantic and TF32; the others are not supported.
        with_handle(handle, |state| {
            let mode = mode & !DISALLOW_REDUCED_REDUCTION;
            if !matches!(mode, 0 | 2 | TF32_MATH) {
                return Ok(BlasStatus::InvalidValue);
            }
            state.blas.entry(handle).or_default().tf32 = mode == TF32_MATH;
            Ok(BlasStatus::Success)
        })
    }

    fn cublasSetWorkspace_v2(handle: usize, _address: *mut c_void, _size: usize) {
        with_handle(handle, |_| Ok(BlasStatus::Success))
    }

    fn cublasGetPointerMode_v2(handle: usize, out: *mut c_uint) {
        with_handle(handle, |_| Ok(put(out, 0)))
    }

    fn cublasSetPointerMode_v2(handle: usize, mode: c_uint) {
        // Scalars are always read from the host.
        with_handle(handle, |_| Ok(if mode == 0 { BlasStatus::Success } else { BlasStatus::InvalidValue }))
    }

    fn cublasSgemm_v2(
        handle: usize, op_a: c_uint, op_b: c_uint, m: c_int, n: c_int, k: c_int, alpha: *const f32,
        a: u64, lda: c_int, b: u64, ldb: c_int, beta: *const f32, c: u64, ldc: c_int,
    ) {
        gemm(handle, [op_a, op_b], [m, n, k], [alpha, beta], [(a, lda, 0), (b, ldb, 0), (c, ldc, 0)], 1)
    }

    fn cublasSgemmStridedBatched(
        handle: usize, op_a: c_uint, op_b: c_uint, m: c_int, n: c_int, k: c_int, alpha: *const f32,
        a: u64, lda: c_int, stride_a: c_longlong, b: u64, ldb: c_int, stride_b: c_longlong,
        beta: *const f32, c: u64, ldc: c_int, stride_c: c_longlong, count: c_int,
    ) {
        let matrices = [(a, lda, stride_a), (b, ldb, stride_b), (c, ldc, stride_c)];
        gemm(handle, [op_a, op_b], [m, n, k], [alpha, beta], matrices, count)
    }
}

fn gemm(
    handle: usize, ops: [c_uint; 2], size: [c_int; 3], scale: [*const f32; 2], matrices: [(u64, c_int, i64); 3],
    count: c_int,
) -> BlasStatus {
    with_handle(handle, |state| {
        let [m, n, k] = size;
        let rows = [if ops[0] == 0 { m } else { k }, if ops[1] == 0 { k } else { n }, m];
        let narrow = matrices.iter().zip(rows).any(|(x, rows)| x.1 < rows.max(1));
        let null = scale.iter().any(|s| s.is_null());
        if size.iter().any(|&x| x < 0) || count < 0 || ops.iter().any(|&op| op > 2) || narrow || null {
            return Ok(BlasStatus::InvalidValue);
        }
        if m == 0 || n == 0 {
            return Ok(BlasStatus::Success);
        }
        // SAFETY: the interface requires readable scalars, and they are not null.
        let scale = scale.map(|s| unsafe { s.read_unaligned() });
        let transposed = [ops[0] != 0, ops[1] != 0, false];
        let gemm = Gemm {
            handle,
            size: size.map(|x| x as usize),
            scale,
            matrices: std::array::from_fn(|i| Matrix {
                address: matrices[i].0,
                leading: matrices[i].1 as usize,
                stride: matrices[i].2,
                transposed: transposed[i],
            }),
            count: count as usize,
            tf32: state.blas[&handle].tf32,
        };
        let stream = state.blas[&handle].stream;
        state.submit(stream, Work::Gemm(gemm))?;
        Ok(BlasStatus::Success)
    })
}
