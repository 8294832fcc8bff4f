//! What is certain of log Z without enumeration or chains.

use super::{exact::check_rows, rounding, walk::LogSum};
use crate::{
    error::{Error, Result},
    rows::{Rows, Values},
    shape::Shape,
};
use std::collections::HashSet;

/// log Σ e^-F(v) over the distinct rows v, in nats. log Z is never less, as Z is the same sum over all states.
///
/// `v`: rows × n_visible, values 0 and 1; rows that occur again count once. `free_energies`: F(v) of each row, from
/// [`Resident::free_energy`](crate::Resident::free_energy); 2^-20·(n_hidden + |log Σ|) is taken off for their `f32` arithmetic.
/// Hand the bound to [`LogPartition::at_least`](super::LogPartition::at_least).
///
/// # Errors
/// [`Error::Argument`] where the rows do not fit the shape, [`Error::Length`] where rows and free energies differ in number,
/// [`Error::Value`] where a value is neither 0 nor 1.
pub fn lower_bound(shape: Shape, v: Rows<'_>, free_energies: &[f64]) -> Result<f64> {
    check_rows(shape, v)?;
    if free_energies.len() != v.len() {
        return Err(Error::Length { what: "free_energies", expected: v.len(), found: free_energies.len() });
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
