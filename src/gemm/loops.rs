//! The fused loops around the products: bias, sigmoid and sample in one pass over a flat row.

use crate::{
    elementary::{sigmoid_lanes, softplus_lanes},
    lanes::{LANES, Vector, Wide, dispatch},
};

/// Runs the body for each vector of a row: `n` numbers from `start` on, the last vector perhaps in part.
macro_rules! for_vectors {
    ($len:expr, |$span:ident, $n:ident| $body:block) => {
        for start in (0..$len).step_by(LANES) {
            let $n = LANES.min($len - start);
            let $span = start..start + $n;
            $body
        }
    };
}

/// Up to [`LANES`] numbers, filled up with 0.
#[inline(always)]
fn load<L: Wide>(l: L, from: &[f32]) -> L::F {
    match <&Vector>::try_from(from) {
        Ok(vector) => l.load(vector),
        Err(_) => {
            let mut vector = [0.0; LANES];
            vector[..from.len()].copy_from_slice(from);
            l.load(&vector)
        }
    }
}

/// The first numbers of a vector.
#[inline(always)]
fn store<L: Wide>(l: L, x: L::F, to: &mut [f32]) {
    match <&mut Vector>::try_from(&mut *to) {
        Ok(vector) => l.store(x, vector),
        Err(_) => {
            let mut vector = [0.0; LANES];
            l.store(x, &mut vector);
            let n = to.len();
            to.copy_from_slice(&vector[..n]);
        }
    }
}

/// The numbers of `terms`, the first `n`, added to a sum in `f64`.
#[inline(always)]
fn add<L: Wide>(l: L, terms: L::F, n: usize, sum: &mut [f64; LANES]) {
    let mut vector = [0.0; LANES];
    l.store(terms, &mut vector);
    for lane in 0..n {
        sum[lane] += f64::from(vector[lane]);
    }
}

dispatch! {
    /// pre ← β·pre + (β·bias + (1 - β)·reference), and mean ← σ(pre), for one row.
    pub(super) fn activate(|l| pre: &mut [f32], beta: f32, bias: &[f32], reference: Option<&[f32]>, mean: &mut [f32]) {
        let (beta, rest) = (l.splat(beta), l.splat(1.0 - beta));
        for_vectors!(pre.len(), |span, _n| {
            let reference = reference.map_or(l.splat(0.0), |reference| load(l, &reference[span.clone()]));
            let bias = l.mul_add(beta, load(l, &bias[span.clone()]), l.mul(rest, reference));
            let x = l.mul_add(beta, load(l, &pre[span.clone()]), bias);
            store(l, x, &mut pre[span.clone()]);
            store(l, sigmoid_lanes(l, x), &mut mean[span]);
        });
    }

    /// sample ← 1 where u < mean, else 0, for one row; `state` is the generator's for its first unit.
    pub(super) fn fire(|l| mean: &[f32], state: u64, sample: &mut [f32]) {
        let mut draws = l.states(state);
        for_vectors!(mean.len(), |span, _n| {
            let on = l.less(l.draw(&mut draws), load(l, &mean[span.clone()]));
            store(l, l.select(on, l.splat(1.0), l.splat(0.0)), &mut sample[span]);
        });
    }

    /// Σ sp(pre).
    pub(super) fn sum_softplus(|l| pre: &[f32]) -> f64 {
        let mut sum = [0.0; LANES];
        for_vectors!(pre.len(), |span, n| {
            add(l, softplus_lanes(l, load(l, &pre[span])), n, &mut sum);
        });
        sum.iter().sum()
    }

    /// Σ [sp(pre + change·w) - sp(pre)].
    pub(super) fn sum_flip(|l| pre: &[f32], weights: &[f32], change: f32) -> f64 {
        let mut sum = [0.0; LANES];
        for_vectors!(pre.len(), |span, n| {
            let (x, w) = (load(l, &pre[span.clone()]), load(l, &weights[span]));
            let flipped = softplus_lanes(l, l.mul_add(l.splat(change), w, x));
            add(l, l.add(flipped, l.negate(softplus_lanes(l, x))), n, &mut sum);
        });
        sum.iter().sum()
    }

    /// Σ [sp(pre) - x·pre].
    pub(super) fn sum_cross_entropy(|l| pre: &[f32], x: &[f32]) -> f64 {
        let mut sum = [0.0; LANES];
        for_vectors!(pre.len(), |span, n| {
            let p = load(l, &pre[span.clone()]);
            add(l, l.mul_add(l.negate(load(l, &x[span])), p, softplus_lanes(l, p)), n, &mut sum);
        });
        sum.iter().sum()
    }
}
