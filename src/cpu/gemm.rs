//! C ← A·B for rows in tiles: a safe function around sgemm of a matrix library.
//!
//! By default matrixmultiply computes it, in pure Rust. With feature `blas` it is `cblas_sgemm` of the BLAS that the final binary
//! links (through blas-src, as with ndarray). Feature `openblas` selects the system's OpenBLAS.
#![allow(unsafe_code)]

use super::tiles::{Row, TILE, tiles};
use std::ops::Range;

// Links the library; the crate itself is not used.
#[cfg(feature = "openblas")]
extern crate blas_src as _;

/// A BLAS counts in `i32`, so longer sums are computed in parts.
const LONGEST: usize = 1 << 30;

/// A matrix in a flat buffer: `rows` rows of `columns` numbers, `stride` apart. It can be read transposed.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    stride: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    pub fn new(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self { values, rows, columns, stride, transposed: false }
    }

    /// `rows` rows of `tiles` tiles each.
    pub fn of_tiles(values: &'a [Row], rows: usize, tiles: usize) -> Self {
        Self::new(numbers(values), rows, tiles * TILE, tiles * TILE)
    }

    /// The first columns of a matrix that is not transposed.
    pub fn first_columns(self, columns: usize) -> Self {
        Self { columns, ..self }
    }

    /// The transpose of the matrix, in the same buffer.
    pub fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// The number of rows and columns, after a transposition.
    pub fn size(self) -> (usize, usize) {
        if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) }
    }

    /// A range of columns, after a transposition.
    fn columns(self, part: Range<usize>) -> Self {
        match self.transposed {
            false => Self { values: &self.values[part.start..], columns: part.len(), ..self },
            true => Self { values: &self.values[part.start * self.stride..], rows: part.len(), ..self },
        }
    }
}

/// The numbers of rows of tiles, as a slice.
fn numbers(rows: &[Row]) -> &[f32] {
    // SAFETY: a `Row` is `repr(C)` over `TILE` numbers, and its size is a multiple of its alignment, so rows are contiguous without
    // gaps. The result has the lifetime of the borrow.
    unsafe { std::slice::from_raw_parts(rows.as_ptr().cast(), rows.len() * TILE) }
}

/// `c` ← a·b. A row of `c` has as many tiles as the columns of the product need. Numbers beyond the columns are unchanged.
pub(super) fn sgemm(a: Matrix<'_>, b: Matrix<'_>, c: &mut [Row]) {
    sgemm_in_parts(LONGEST, a, b, c);
}

fn sgemm_in_parts(longest: usize, a: Matrix<'_>, b: Matrix<'_>, c: &mut [Row]) {
    let ((m, k), (inner, n)) = (a.size(), b.size());
    let stride = tiles(n) * TILE;
    let fits = |x: Matrix<'_>| x.rows == 0 || (x.rows - 1) * x.stride + x.columns <= x.values.len();
    assert!(k == inner && c.len() * TILE == m * stride && fits(a) && fits(b), "a is {m} × {k}, b is {inner} × {n}");
    assert!([m, n, a.stride, b.stride, stride].iter().all(|&x| x <= i32::MAX as usize), "too large for a BLAS");
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: as in `numbers`, with a mutable borrow.
    let c = unsafe { std::slice::from_raw_parts_mut(c.as_mut_ptr().cast::<f32>(), c.len() * TILE) };
    for from in (0..k).step_by(longest) {
        let part = from..k.min(from + longest);
        // The rows of b are the columns of its transpose.
        let (a, b) = (a.columns(part.clone()), b.t().columns(part.clone()).t());
        multiply((m, part.len(), n), a, b, if from > 0 { 1.0 } else { 0.0 }, c, stride);
    }
}

#[cfg(not(feature = "blas"))]
fn multiply((m, k, n): (usize, usize, usize), a: Matrix<'_>, b: Matrix<'_>, beta: f32, c: &mut [f32], stride: usize) {
    let strides = |x: Matrix<'_>| {
        let stride = x.stride as isize;
        if x.transposed { (1, stride) } else { (stride, 1) }
    };
    let ((row_a, column_a), (row_b, column_b)) = (strides(a), strides(b));
    // SAFETY: `sgemm_in_parts` checked that the buffers hold m × k, k × n and m × n numbers at these strides. `c` is borrowed
    // mutably, so it overlaps neither of the others.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.values.as_ptr(),
            row_a,
            column_a,
            b.values.as_ptr(),
            row_b,
            column_b,
            beta,
            c.as_mut_ptr(),
            stride as isize,
            1,
        );
    }
}

#[cfg(feature = "blas")]
fn multiply((m, k, n): (usize, usize, usize), a: Matrix<'_>, b: Matrix<'_>, beta: f32, c: &mut [f32], stride: usize) {
    use cblas_sys::{CBLAS_LAYOUT, CBLAS_TRANSPOSE, cblas_sgemm};
    let transpose = |x: Matrix<'_>| match x.transposed {
        true => CBLAS_TRANSPOSE::CblasTrans,
        false => CBLAS_TRANSPOSE::CblasNoTrans,
    };
    // SAFETY: `sgemm_in_parts` checked that the buffers hold m × k, k × n and m × n numbers at these leading dimensions, and that
    // all sizes fit an `i32`. `c` is borrowed mutably, so it overlaps neither of the others.
    unsafe {
        cblas_sgemm(
            CBLAS_LAYOUT::CblasRowMajor,
            transpose(a),
            transpose(b),
            m as i32,
            n as i32,
            k as i32,
            1.0,
            a.values.as_ptr(),
            a.stride as i32,
            b.values.as_ptr(),
            b.stride as i32,
            beta,
            c.as_mut_ptr(),
            stride as i32,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums in parts equal whole sums, for both transpositions of the factors.
    #[test]
    fn long_sums_go_in_parts() {
        let (m, k, n) = (3, 7, 5);
        let a: Vec<f32> = (0..m * k).map(|x| x as f32).collect();
        let b: Vec<f32> = (0..k * n).map(|x| (x % 11) as f32).collect();
        let turned: Vec<f32> = (0..n * k).map(|x| b[x % k * n + x / k]).collect();
        for longest in [1, 2, 3, 7, LONGEST] {
            for b in [Matrix::new(&b, k, n, n), Matrix::new(&turned, n, k, k).t()] {
                let mut c = vec![Row::ZERO; m];
                sgemm_in_parts(longest, Matrix::new(&a, m, k, k), b, &mut c);
                for (i, row) in c.iter().enumerate() {
                    for (j, &found) in row.units().iter().enumerate() {
                        let sum: usize = (0..k).map(|l| (i * k + l) * ((l * n + j) % 11)).sum();
                        assert_eq!(found, if j < n { sum as f32 } else { 0.0 }, "{longest}: {i}, {j}");
                    }
                }
            }
        }
    }
}
