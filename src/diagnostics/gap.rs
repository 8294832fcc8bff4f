//! Persistent chains against fresh ones: whether their mean free energies differ by more than chance makes them.

use super::{
    free_energies,
    statistics::{Difference, standard_errors},
};
use crate::{device::Batch, error::Result, gibbs::Chains, resident::Resident, uniforms::Uniforms, verbs::Activations};

/// Persistent chains against fresh ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EquilibriumGap {
    /// The mean free energy of the persistent chains, in nats.
    pub persistent: f64,
    /// That of chains that started at data.
    pub fresh: f64,
    /// persistent - fresh.
    pub gap: f64,
    /// Of the gap. NaN where either side has a single chain, which does not show how free energies scatter.
    pub standard_error: f64,
    /// How well the standard error is known: the degrees of freedom of Student's t. NaN where it is not known at all.
    pub degrees_of_freedom: f64,
}

impl EquilibriumGap {
    /// From F(v) of persistent and of fresh chains, in nats.
    pub fn of(persistent: &[f64], fresh: &[f64]) -> Self {
        let Difference { means: [persistent, fresh], standard_error, degrees_of_freedom } =
            Difference::of(persistent, fresh);
        Self { persistent, fresh, gap: persistent - fresh, standard_error, degrees_of_freedom }
    }

    /// Whether the persistent chains lag; none where a side has a single chain, of which nothing can be said.
    ///
    /// Welch's t-test: they do where |gap| > t·standard error with P(|T| > t) = 2·(1 - Φ(3)) = 0.0027 for Student's T of these
    /// degrees of freedom. That is three standard errors of very many chains, 3.2 of 20 a side, and 19 of two a side. Free
    /// energies are taken for normal and chains for independent.
    pub fn lags(&self) -> Option<bool> {
        let is_known = !self.standard_error.is_nan();
        is_known.then(|| self.gap.abs() > standard_errors(self.degrees_of_freedom) * self.standard_error)
    }

    /// What must be said, if anything: that the chains [lag](Self::lags), or that a single chain does not show it.
    pub fn warning(&self) -> Option<String> {
        match self.lags() {
            Some(false) => None,
            Some(true) => Some(format!(
                "the chains lag: their mean free energy is {:.2} nats from that of chains started at data ({:.2} ± {:.2})",
                self.gap.abs(),
                self.gap,
                self.standard_error
            )),
            None => Some(
                "whether the chains lag is unknown: a single chain has no standard error, and there is one only that \
                 persists or one only that started at data"
                    .into(),
            ),
        }
    }
}

/// The mean free energy of chains minus that of chains started at rows of data and run for `steps` Gibbs steps, in nats.
///
/// Near 0 where both have come to the model's distribution. Persistent chains that cannot keep up with the parameters sit
/// where the model was (higher F, gap > 0) or in valleys that data does not know (gap < 0); fresh ones that are not run
/// long enough still remember the data. `chains` stay where they are: a copy makes one step with these parameters. `rows`:
/// from all over the data; neighbours in a file that is sorted by class start all fresh chains in one class. Costs `steps`
/// steps of as many chains as there are rows. `draws`: numbers for the copy and then for the fresh chains.
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) where chains or rows do not fit the RBM, or `steps` is 0.
pub fn equilibrium_gap<'a>(
    rbm: &Resident, chains: &Chains, rows: impl Into<Batch<'a>>, steps: usize, draws: Uniforms,
) -> Result<EquilibriumGap> {
    let mut copy = chains.drawing(draws)?;
    let persistent = free_energies_after(rbm, &mut copy, 1)?;
    gap_to_fresh(rbm, &persistent, rows, steps, copy.state()?.uniforms)
}

/// F(v) of each chain after so many steps.
fn free_energies_after(rbm: &Resident, chains: &mut Chains, steps: usize) -> Result<Vec<f64>> {
    let mut visible = Activations::default();
    chains.sweep(rbm, steps)?;
    chains.visible(rbm, &mut visible)?;
    free_energies(rbm, &visible.sample)
}

/// The gap between these free energies and those of fresh chains.
pub(super) fn gap_to_fresh<'a>(
    rbm: &Resident, persistent: &[f64], rows: impl Into<Batch<'a>>, steps: usize, draws: Uniforms,
) -> Result<EquilibriumGap> {
    let mut fresh = Chains::from_visible(rbm, rows, draws)?;
    Ok(EquilibriumGap::of(persistent, &free_energies_after(rbm, &mut fresh, steps)?))
}
