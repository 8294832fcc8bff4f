//! The equilibrium gap: a test of whether the mean free energies of persistent and fresh chains differ.

use super::{
    free_energies,
    statistics::{Difference, standard_errors},
};
use crate::{device::Batch, error::Result, gibbs::Chains, resident::Resident, uniforms::Uniforms, verbs::Activations};

/// The difference between the mean free energies of persistent chains and of fresh ones, from [`equilibrium_gap`].
///
/// ```
/// use harmonium::diagnostics::EquilibriumGap;
///
/// let gap = EquilibriumGap::of(&[-10.0, -11.0, -9.0, -10.0], &[-20.0, -21.0, -19.0, -20.0]);
/// assert_eq!((gap.gap, gap.lags()), (10.0, Some(true)));
/// // A single chain has no standard error.
/// assert_eq!(EquilibriumGap::of(&[-10.0], &[-20.0, -21.0]).lags(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EquilibriumGap {
    /// The mean free energy of the persistent chains, in nats.
    pub persistent: f64,
    /// The mean free energy of chains that started at data, in nats.
    pub fresh: f64,
    /// persistent - fresh, in nats.
    pub gap: f64,
    /// The standard error of the gap, in nats. NaN if either side has a single chain, which shows no scatter.
    pub standard_error: f64,
    /// The degrees of freedom of Student's t, which say how well the standard error is known. NaN if it is unknown.
    pub degrees_of_freedom: f64,
}

impl EquilibriumGap {
    /// Compares F(v) of persistent chains with F(v) of fresh ones, one number a chain, in nats.
    pub fn of(persistent: &[f64], fresh: &[f64]) -> Self {
        let Difference { means: [persistent, fresh], standard_error, degrees_of_freedom } =
            Difference::of(persistent, fresh);
        Self { persistent, fresh, gap: persistent - fresh, standard_error, degrees_of_freedom }
    }

    /// True if the persistent chains lag behind the model; `None` if either side has a single chain.
    ///
    /// Welch's t-test: they lag if |gap| > t·standard error with P(|T| > t) = 2·(1 - Φ(3)) = 0.0027 for Student's T of these
    /// degrees of freedom. That is three standard errors for very many chains, 3.2 for 20 a side, and 19 for two a side. The test
    /// assumes normal free energies and independent chains.
    pub fn lags(&self) -> Option<bool> {
        let is_known = !self.standard_error.is_nan();
        is_known.then(|| self.gap.abs() > standard_errors(self.degrees_of_freedom) * self.standard_error)
    }

    /// One line if the chains [lag](Self::lags), or if a single chain cannot show it.
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
                "whether the chains lag is unknown: a single chain has no standard error, and there is only one persistent \
                 chain or only one that started at data"
                    .into(),
            ),
        }
    }
}

/// The mean free energy of chains minus that of fresh chains, which start at rows of data and make `steps` Gibbs steps, in nats.
///
/// The gap is near 0 if both have reached the model's distribution. Persistent chains that cannot follow the parameters stay
/// where the model was (higher F, gap > 0) or in modes that the data lacks (gap < 0). Fresh chains with too few steps still depend
/// on the data.
///
/// `chains` do not move: a copy makes one step with the current parameters. `rows`: take them from all over the data, as neighbours
/// in a file that is sorted by class would start all fresh chains in one class. `draws`: numbers for the copy and then for the
/// fresh chains. Costs `steps` steps of as many chains as there are rows.
///
/// ```
/// use harmonium::{Chains, Cpu, Dataset, Purpose, Rbm, Shape, Uniforms, diagnostics::equilibrium_gap};
///
/// # fn main() -> harmonium::Result<()> {
/// let rbm = Rbm::new(Shape::new(6, 4)?, 123).on(Cpu::detect()?)?;
/// let mut chains = Chains::from_hidden_bias(&rbm, 50, Uniforms::new(123, Purpose::Sampling))?;
/// chains.sweep(&rbm, 100)?;
/// // The weights are small, so even chains from very different data reach the model's distribution.
/// let data = Dataset::from_u8(vec![255; 50 * 6], 6)?;
/// let gap = equilibrium_gap(&rbm, &chains, &data, 100, Uniforms::new(123, Purpose::Diagnosis))?;
/// assert_eq!(gap.lags(), Some(false));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Argument`](crate::Error::Argument) if chains or rows do not fit the RBM, or `steps` is 0.
pub fn equilibrium_gap<'a>(
    rbm: &Resident, chains: &Chains, rows: impl Into<Batch<'a>>, steps: usize, draws: Uniforms,
) -> Result<EquilibriumGap> {
    let mut copy = chains.drawing(draws)?;
    let persistent = free_energies_after(rbm, &mut copy, 1)?;
    gap_to_fresh(rbm, &persistent, rows, steps, copy.state()?.uniforms)
}

/// F(v) of each chain after `steps` steps.
fn free_energies_after(rbm: &Resident, chains: &mut Chains, steps: usize) -> Result<Vec<f64>> {
    let mut visible = Activations::default();
    chains.sweep(rbm, steps)?;
    chains.visible(rbm, &mut visible)?;
    free_energies(rbm, &visible.sample)
}

/// The gap between the given free energies and those of fresh chains.
pub(super) fn gap_to_fresh<'a>(
    rbm: &Resident, persistent: &[f64], rows: impl Into<Batch<'a>>, steps: usize, draws: Uniforms,
) -> Result<EquilibriumGap> {
    let mut fresh = Chains::from_visible(rbm, rows, draws)?;
    Ok(EquilibriumGap::of(persistent, &free_energies_after(rbm, &mut fresh, steps)?))
}
