//! Products of row-major matrices by the crate ndarray, on all threads of rayon's pool.

use ndarray::{ArrayView2, ArrayViewMut2, Axis, linalg::general_mat_mul, parallel::prelude::*};

/// The number of rows or columns in a part. It does not depend on the number of threads, so any number of threads gives the same bits.
const PART: usize = 256;

/// A view of a flat row-major buffer as a matrix.
pub fn rows(values: &[f32], columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((values.len() / columns, columns), values).expect("whole rows")
}

/// `out` ← a·b.
pub fn product(out: &mut [f32], a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) {
    let (height, width) = (a.nrows(), b.ncols());
    let mut out = ArrayViewMut2::from_shape((height, width), out).expect("room for the product");
    let axis = Axis(usize::from(width >= height));
    out.axis_chunks_iter_mut(axis, PART).into_par_iter().enumerate().for_each(|(n, mut out)| {
        let part = ndarray::Slice::from(n * PART..n * PART + out.len_of(axis));
        match axis {
            Axis(0) => general_mat_mul(1.0, &a.slice_axis(axis, part), &b, 0.0, &mut out),
            _ => general_mat_mul(1.0, &a, &b.slice_axis(axis, part), 0.0, &mut out),
        }
    });
}
