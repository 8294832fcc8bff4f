//! Exact results by enumeration of all states: log Z, moments and the exact gradient.
//!
//! Z = Σ_h e^(c·h) Π_i (1 + e^(b_i + (hWᵀ)_i)), or the same with the layers exchanged. The states of the smaller layer are
//! enumerated; the units of the other layer are independent given them and are summed in closed form. States come in the order of
//! F. Gray's code (U.S. patent 2,632,058, 1953), in which neighbours differ in one unit, so that a state costs one row of
//! the weights. A table of e^W even avoids exponentials: e^a ← e^a·e^±W_j for all units. Π(1 + e^a) is multiplied sixteen lanes
//! wide, exponents are taken out before they overflow, and each state needs one logarithm. If |a| could leave the range of
//! `f64` (|a| > 600), the same walk adds softplus terms instead, about fifty times as slow.
//!
//! All arithmetic is in `f64`. The walk starts from scratch every 2048 states, so that rounding does not build up. The blocks of
//! states depend on their number alone, so the result is the same for any number of threads and any instruction set. The last bits
//! may differ between systems, as exp, ln and ln_1p come from the C library; the same holds for every other log Z, for likelihoods,
//! and for the exact gradient. Training by sampling, samples and free energies do not depend on the C library: their exp and softplus
//! are the crate's own ([`elementary`](crate::elementary)).

pub use super::walk::MAX_UNITS;

use super::{
    Agreement, LogPartition, Method,
    products::{sigmoid, softplus},
    walk::Walk,
};
use crate::{
    error::{Error, Result},
    rbm::{Gradient, RbmRef},
    rows::Rows,
    shape::Shape,
};

/// log Z by enumeration of the smaller layer, in nats; of the hidden layer if any visible unit is not binary.
///
/// O(2^min(n_visible, n_hidden)·max(n_visible, n_hidden)): a third of a second of one core for 784 × 20. The relative error is about
/// 1e-12. `lower` and `upper` equal the estimate, and the effective sample size is infinite.
///
/// ```
/// use harmonium::{Rbm, Shape, log_partition};
///
/// // Without weights and biases all 2^(3 + 2) states have the energy 0.
/// let rbm = Rbm::from_parts(Shape::new(3, 2)?, vec![0.0; 6], vec![0.0; 3], vec![0.0; 2])?;
/// assert!((log_partition::exact(rbm.view())?.estimate - 32f64.ln()).abs() < 1e-12);
/// # Ok::<(), harmonium::Error>(())
/// ```
///
/// # Errors
/// [`Error::States`] if the smaller layer has more than [`MAX_UNITS`] units, [`Error::Isa`] if `HARMONIUM_ISA` is invalid.
pub fn log_partition(rbm: RbmRef<'_>) -> Result<LogPartition> {
    log_partition_watched(rbm, &|_| {})
}

/// [`log_partition`] with progress: calls `watch`, on any thread, with the number of states completed since, 2^min(n_visible, n_hidden)
/// in total.
///
/// # Errors
/// Those of [`log_partition`].
pub fn log_partition_watched(rbm: RbmRef<'_>, watch: &(dyn Fn(u64) + Sync)) -> Result<LogPartition> {
    let log_z = Walk::new(rbm)?.log_z(watch);
    Ok(LogPartition {
        estimate: log_z,
        lower: log_z,
        upper: log_z,
        effective_sample_size: f64::INFINITY,
        method: Method::Exact,
        agreement: Agreement::Exact,
        runs: 0,
        forward: None,
        reverse: None,
        overlap: None,
        r_hat: None,
        mix: None,
        excess: None,
        refuted: None,
    })
}

/// Expectations of all units and pairs under the model, and its log Z.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// log Z in nats.
    pub log_partition: f64,
    /// <v_i>; n_visible values within [0, 1] for binary units.
    pub visible: Vec<f64>,
    /// <h_j>; n_hidden values within [0, 1].
    pub hidden: Vec<f64>,
    /// <v_i·h_j>; n_visible × n_hidden, row-major.
    pub products: Vec<f64>,
}

/// The expectations of v, h and v·h under the model, by enumeration. Costs about eight times as much as log Z alone.
///
/// ```
/// use harmonium::{Rbm, Shape, log_partition::exact};
///
/// // Without weights, v and h are independent: <v·h> = 3/4·1/2.
/// let rbm = Rbm::from_parts(Shape::new(1, 1)?, vec![0.0], vec![3f32.ln()], vec![0.0])?;
/// let moments = exact::moments(rbm.view())?;
/// assert!((moments.visible[0] - 0.75).abs() < 1e-6 && (moments.products[0] - 0.375).abs() < 1e-6);
/// # Ok::<(), harmonium::Error>(())
/// ```
///
/// # Errors
/// Those of [`log_partition`].
pub fn moments(rbm: RbmRef<'_>) -> Result<Moments> {
    let walk = Walk::new(rbm)?;
    let log_partition = walk.log_z(&|_| {});
    let (outer, inner, products) = walk.moments(log_partition);
    let shape = rbm.shape();
    let (visible, hidden) = if walk.hidden_outside { (inner, outer) } else { (outer, inner) };
    let product = |k: usize| {
        let (i, j) = (k / shape.n_hidden(), k % shape.n_hidden());
        if walk.hidden_outside { products[j * visible.len() + i] } else { products[i * hidden.len() + j] }
    };
    let products = (0..shape.n_visible() * shape.n_hidden()).map(product).collect();
    Ok(Moments { log_partition, visible, hidden, products })
}

/// log P(v) = -F(v) - log Z of each row, in nats, all in `f64`.
///
/// `v`: rows × n_visible, values 0 and 1. O(rows·n_visible·n_hidden) besides log Z.
///
/// # Errors
/// Those of [`log_partition`], [`Error::Argument`] if the rows do not fit the shape.
pub fn log_likelihood(rbm: RbmRef<'_>, v: Rows<'_>) -> Result<Vec<f64>> {
    check_rows(rbm.shape(), v)?;
    let log_z = Walk::new(rbm)?.log_z(&|_| {});
    let precision = rbm.precision();
    let row = |r: usize| {
        let mut bias = 0.0;
        let visible = rbm.shape().visible();
        visible.minus_own_energies(|i| v.value(r, i), rbm.visible_bias(), &precision, |_, energy| bias += energy);
        bias + pre_activations(rbm, v, r).into_iter().map(softplus).sum::<f64>() - log_z
    };
    Ok((0..v.len()).map(row).collect())
}

/// The exact gradient of the mean negative log-likelihood of rows, which contrastive divergence approximates.
///
/// -(1/B)·Σ_r v_ri·σ_rj + <v_i·h_j> for W_ij, -mean(v_i) + <v_i> for b_i, -mean(σ_j) + <h_j> for c_j, with
/// σ_r = σ(v_r·W + c). `v`: rows × n_visible, values in [0, 1]. Overwrites `out` and returns log Z in nats. Together with
/// [`Resident::apply`](crate::Resident::apply) it trains models without sampling noise, if they can be enumerated.
///
/// ```
/// use harmonium::{Dataset, Gradient, Rbm, Shape, log_partition::exact};
///
/// // The gradient of b is -mean(v) + <v>, here -1 + 1/2 and 0 + 1/2.
/// let rbm = Rbm::from_parts(Shape::new(2, 1)?, vec![0.0; 2], vec![0.0; 2], vec![0.0])?;
/// let mut gradient = Gradient::zero(rbm.shape());
/// let log_z = exact::gradient(rbm.view(), Dataset::from_u8(vec![255, 0], 2)?.rows(), &mut gradient)?;
/// assert_eq!(gradient.visible_bias, [-0.5, 0.5]);
/// assert!((log_z - 8f64.ln()).abs() < 1e-12);
/// # Ok::<(), harmonium::Error>(())
/// ```
///
/// # Errors
/// Those of [`log_partition`], [`Error::Argument`] if the rows do not fit the shape.
pub fn gradient(rbm: RbmRef<'_>, v: Rows<'_>, out: &mut Gradient) -> Result<f64> {
    check_rows(rbm.shape(), v)?;
    let Moments { log_partition, visible: mut vs, hidden: mut hs, products: mut vhs } = moments(rbm)?;
    let (share, precision) = (1.0 / v.len() as f64, rbm.precision());
    for (i, &s) in precision.iter().enumerate() {
        vs[i] *= f64::from(s);
        vhs[i * hs.len()..][..hs.len()].iter_mut().for_each(|product| *product *= f64::from(s));
    }
    for r in 0..v.len() {
        let means: Vec<f64> = pre_activations(rbm, v, r).into_iter().map(sigmoid).collect();
        hs.iter_mut().zip(&means).for_each(|(h, mean)| *h -= share * mean);
        for (i, products) in vhs.chunks_exact_mut(means.len()).enumerate() {
            let x = share * (f64::from(precision[i]) * f64::from(v.value(r, i)));
            vs[i] -= x;
            if x != 0.0 {
                products.iter_mut().zip(&means).for_each(|(product, mean)| *product -= x * mean);
            }
        }
    }
    let single = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect();
    *out = Gradient {
        weights: single(vhs),
        visible_bias: single(vs),
        hidden_bias: single(hs),
        visible_log_variance: vec![0.0; rbm.visible_log_variance().len()],
    };
    Ok(log_partition)
}

pub(super) fn check_rows(shape: Shape, v: Rows<'_>) -> Result<()> {
    let expected = shape.n_visible();
    if v.units() == expected && v.len() > 0 {
        return Ok(());
    }
    let found = format!("{} of {}", v.len(), v.units());
    Err(Error::Argument { what: "rows", expected: format!("at least one, of {expected} values"), found })
}

/// xW + c of row `r`.
fn pre_activations(rbm: RbmRef<'_>, v: Rows<'_>, r: usize) -> Vec<f64> {
    let mut pre: Vec<f64> = rbm.hidden_bias().iter().map(|&c| f64::from(c)).collect();
    let precision = rbm.precision();
    for (i, weights) in rbm.weights().chunks_exact(pre.len()).enumerate() {
        let x = f64::from(precision[i]) * f64::from(v.value(r, i));
        if x != 0.0 {
            pre.iter_mut().zip(weights).for_each(|(pre, &w)| *pre += x * f64::from(w));
        }
    }
    pre
}
