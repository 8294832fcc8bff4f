//! C ← α·A·B + β·C: one safe function over checked row-major views.
//!
//! matrixmultiply computes it, in pure Rust; with feature `blas` the `cblas_sgemm` of whatever BLAS the final binary links
//! (through blas-src, as with ndarray); feature `openblas` picks the system's OpenBLAS.
#![allow(unsafe_code)]

// Links the library; nothing of the crate is named.
#[cfg(feature = "openblas")]
extern crate blas_src as _;

/// A matrix in a flat row-major buffer, to be read as it is or transposed.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    columns: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// `values` in rows of `columns`.
    pub fn new(values: &'a [f32], columns: usize) -> Self {
        Self { values, columns, transposed: false }
    }

    /// The same buffer, read with rows and columns exchanged.
    pub fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// Rows and columns, as it is read.
    fn size(self) -> (usize, usize) {
        let rows = self.values.len() / self.columns;
        if self.transposed { (self.columns, rows) } else { (rows, self.columns) }
    }
}

/// c ← alpha·a·b + beta·c, `c` being rows(a) × columns(b). With beta = 0 nothing of `c` is read.
pub(super) fn sgemm(alpha: f32, a: Matrix<'_>, b: Matrix<'_>, beta: f32, c: &mut [f32]) {
    let ((m, k), (inner, n)) = (a.size(), b.size());
    assert!(k == inner && c.len() == m * n, "a is {m} × {k}, b is {inner} × {n}, c has {} values", c.len());
    if m == 0 || n == 0 {
        return;
    }
    multiply(m, k, n, alpha, a, b, beta, c);
}

#[cfg(not(feature = "blas"))]
#[allow(clippy::too_many_arguments)]
fn multiply(m: usize, k: usize, n: usize, alpha: f32, a: Matrix<'_>, b: Matrix<'_>, beta: f32, c: &mut [f32]) {
    let strides = |x: Matrix<'_>| {
        let columns = x.columns as isize;
        if x.transposed { (1, columns) } else { (columns, 1) }
    };
    let ((row_a, column_a), (row_b, column_b)) = (strides(a), strides(b));
    // SAFETY: `sgemm` checked that the buffers hold m × k, k × n and m × n numbers, and the strides walk just those; `c` is
    // borrowed mutably, so that it overlaps neither.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            alpha,
            a.values.as_ptr(),
            row_a,
            column_a,
            b.values.as_ptr(),
            row_b,
            column_b,
            beta,
            c.as_mut_ptr(),
            n as isize,
            1,
        );
    }
}

#[cfg(feature = "blas")]
#[allow(clippy::too_many_arguments)]
fn multiply(m: usize, k: usize, n: usize, alpha: f32, a: Matrix<'_>, b: Matrix<'_>, beta: f32, c: &mut [f32]) {
    use cblas_sys::{CBLAS_LAYOUT, CBLAS_TRANSPOSE, cblas_sgemm};
    let transpose = |x: Matrix<'_>| match x.transposed {
        true => CBLAS_TRANSPOSE::CblasTrans,
        false => CBLAS_TRANSPOSE::CblasNoTrans,
    };
    // A BLAS counts in i32. `Shape` keeps layers below that; more rows than that go in pieces.
    const MOST_ROWS: usize = 1 << 24;
    if m > MOST_ROWS && !a.transposed {
        let (a_rest, c_rest) = (&a.values[MOST_ROWS * k..], MOST_ROWS * n);
        let first = Matrix::new(&a.values[..MOST_ROWS * k], k);
        multiply(MOST_ROWS, k, n, alpha, first, b, beta, &mut c[..c_rest]);
        return multiply(m - MOST_ROWS, k, n, alpha, Matrix::new(a_rest, k), b, beta, &mut c[c_rest..]);
    }
    // SAFETY: `sgemm` checked that the buffers hold m × k, k × n and m × n numbers, and the leading dimensions are their row
    // lengths; `c` is borrowed mutably, so that it overlaps neither.
    unsafe {
        cblas_sgemm(
            CBLAS_LAYOUT::CblasRowMajor,
            transpose(a),
            transpose(b),
            m as i32,
            n as i32,
            k as i32,
            alpha,
            a.values.as_ptr(),
            a.columns as i32,
            b.values.as_ptr(),
            b.columns as i32,
            beta,
            c.as_mut_ptr(),
            n as i32,
        );
    }
}
