//! Certain lower bounds of log Z: a sum over some states never exceeds the sum over all.

use super::{exact::check_rows, rounding, walk::LogSum};
use crate::{
    error::{Error, Result},
    gibbs::Chains,
    resident::Resident,
    rows::{Rows, Values},
    shape::{Layer, Shape},
    verbs::{Activations, unpack},
};
use std::collections::{BTreeSet, HashSet};

/// log Σ e^-F(v) over the distinct rows v, in nats: a lower bound of log Z, as Z is the same sum over all states.
///
/// - `v`: rows × n_visible, values 0 and 1, of binary and Potts units. Repeated rows count once.
/// - `free_energies`: F(v) of each row in nats, from [`Resident::free_energy`](crate::Resident::free_energy). The bound is lowered by
///   2^-20·(n_hidden + |log Σ|) for their `f32` arithmetic.
///
/// Pass the bound to [`LogPartition::at_least`](super::LogPartition::at_least).
///
/// ```
/// use harmonium::{Cpu, Dataset, Rbm, Shape, log_partition};
///
/// # fn main() -> harmonium::Result<()> {
/// let rbm = Rbm::new(Shape::new(2, 3)?, 123);
/// // All four states: the bound is log Z, except for the margin for rounding.
/// let states = Dataset::from_u8(vec![0, 0, 0, 255, 255, 0, 255, 255], 2)?;
/// let free_energies = rbm.on(Cpu::detect()?)?.free_energy(&states)?;
/// let bound = log_partition::lower_bound(rbm.shape(), states.rows(), &free_energies)?;
/// let exact = log_partition::exact(rbm.view())?.estimate;
/// assert!(bound <= exact && exact < bound + 1e-4);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Argument`] if the rows do not fit the shape or there are Gaussian units, [`Error::Length`] if the numbers of rows and
/// free energies differ, [`Error::Value`] if a value is neither 0 nor 1.
pub fn lower_bound(shape: Shape, v: Rows<'_>, free_energies: &[f64]) -> Result<f64> {
    check_rows(shape, v)?;
    v.check_complete()?;
    if free_energies.len() != v.len() {
        return Err(Error::Length { what: "free_energies", expected: v.len(), found: free_energies.len() });
    }
    if !shape.visible().is_discrete() {
        let expected = "visible units that are bits, because states of real numbers have densities".into();
        return Err(Error::Argument { what: "lower_bound", expected, found: shape.visible().to_string() });
    }
    let grey = match v.values() {
        Values::U8(x) => x.iter().position(|&x| x != 0 && x != 255),
        Values::F32(x) => x.iter().position(|&x| x != 0.0 && x != 1.0),
    };
    if let Some(index) = grey {
        let found = v.value(index / v.units(), index % v.units());
        return Err(Error::Value { what: "rows", index, expected: "0 or 1", found });
    }
    let mut seen = HashSet::new();
    let mut sum = LogSum::EMPTY;
    for (r, free_energy) in free_energies.iter().enumerate() {
        let word = |first| (first..v.units().min(first + 64)).fold(0, |bits, i| bits << 1 | u64::from(v.bit(r, i)));
        if seen.insert((0..v.units()).step_by(64).map(word).collect::<Vec<u64>>()) {
            sum.add(-free_energy);
        }
    }
    let sum = sum.log();
    Ok(sum - rounding(shape.n_hidden(), sum.abs()))
}

/// The greatest number of states kept for each layer. More would cost more than they add, as so many chains rarely repeat a state.
const MOST_STATES: usize = 4096;

/// Distinct states of either layer that chains have visited, as bits.
#[derive(Debug, Default)]
pub(super) struct Visited {
    visible: BTreeSet<Vec<u64>>,
    hidden: BTreeSet<Vec<u64>>,
}

impl Visited {
    /// Adds hidden states of `words` words each.
    pub fn take_hidden(&mut self, hidden: &[u64], words: usize) {
        for state in hidden.chunks_exact(words) {
            if self.hidden.len() < MOST_STATES {
                self.hidden.insert(state.to_vec());
            }
        }
    }

    /// Adds the current states of chains.
    pub fn take(&mut self, rbm: &Resident, chains: &Chains) -> Result<()> {
        let n_visible = rbm.shape().n_visible();
        self.take_hidden(&chains.state()?.hidden, rbm.shape().n_hidden().div_ceil(64));
        if rbm.shape().visible().is_discrete() && self.visible.len() < MOST_STATES {
            let mut visible = Activations::default();
            chains.visible(rbm, &mut visible)?;
            let word = |bits: &[f32]| bits.iter().rev().fold(0, |word, &bit| word << 1 | u64::from(bit != 0.0));
            self.visible.extend(visible.sample.chunks_exact(n_visible).map(|row| row.chunks(64).map(word).collect()));
        }
        Ok(())
    }

    /// The greater of log Σ e^-F(v) and log Σ e^-F(h) over the states, where -F(h) is c·h plus the log-normaliser of b + hWᵀ. Lowered
    /// by the possible rounding error. -∞ without states.
    pub fn bound(&self, rbm: &Resident) -> Result<f64> {
        let (n_visible, n_hidden) = (rbm.shape().n_visible(), rbm.shape().n_hidden());
        let numbers = |states: &BTreeSet<Vec<u64>>, units: usize| {
            let mut rows = vec![0.0; states.len() * units];
            rows.chunks_exact_mut(units).zip(states).for_each(|(row, state)| unpack(state, units, row));
            rows
        };
        let mut greatest = f64::NEG_INFINITY;
        let mut consider = |terms: &mut dyn Iterator<Item = f64>, units: usize| {
            let mut sum = LogSum::EMPTY;
            terms.for_each(|term| sum.add(term));
            let sum = sum.log();
            greatest = greatest.max(sum - rounding(units, sum.abs()));
        };
        if !self.visible.is_empty() {
            let rows = numbers(&self.visible, n_visible);
            let energies = rbm.free_energy(rbm.rows(Layer::Visible, &rows))?;
            consider(&mut energies.iter().map(|free_energy| -free_energy), n_hidden);
        }
        if !self.hidden.is_empty() {
            let rows = numbers(&self.hidden, n_hidden);
            let mut visible = Activations::default();
            rbm.propdown(rbm.rows(Layer::Hidden, &rows), &mut visible)?;
            let model = rbm.to_rbm()?;
            let (bias, visible_bias) = (model.view().hidden_bias(), model.view().visible_bias());
            let precision: Vec<f64> = model.view().precision().into_iter().map(f64::from).collect();
            // For a large b, s·(a² - b²)/2 of a Gaussian unit needs more digits than an `f32` a has.
            let is_discrete = rbm.shape().visible().is_discrete();
            let wide = |h: &[f32], i: usize| {
                let weights = &model.view().weights()[i * n_hidden..][..n_hidden];
                let on = h.iter().zip(weights).map(|(&h, &w)| f64::from(h) * f64::from(w));
                f64::from(visible_bias[i]) + on.sum::<f64>()
            };
            let each = rows.chunks_exact(n_hidden).zip(visible.pre_activation.chunks_exact(n_visible));
            let minus_free_energy = each.map(|(h, pre)| {
                let on: f64 = h.iter().zip(bias).map(|(&h, &c)| f64::from(h) * f64::from(c)).sum();
                let pre: Vec<f64> = match is_discrete {
                    true => pre.iter().map(|&pre| f64::from(pre)).collect(),
                    false => (0..n_visible).map(|i| wide(h, i)).collect(),
                };
                on + rbm.shape().visible().log_normaliser(&pre, visible_bias, &precision)
            });
            consider(&mut minus_free_energy.into_iter(), n_visible);
        }
        Ok(greatest)
    }
}
