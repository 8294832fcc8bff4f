//! Tail averaging of parameters: [`Average`].

use crate::{
    device::Device,
    error::{Error, Result},
    rbm::Rbm,
    resident::Resident,
};

/// The mean of parameters over the last part of a run (tail averaging), on the device of the parameters.
///
/// > θ̄ ← θ̄ + (θ - θ̄)/n
///
/// for the n-th parameters. The average removes the noise of single updates, which a constant learning rate would leave. Source: B.
/// T. Polyak, A. B. Juditsky, "Acceleration of stochastic approximation by averaging", 1992.
///
/// ```
/// use harmonium::{Average, Cpu, Rbm, Shape};
///
/// # fn main() -> harmonium::Result<()> {
/// let rbm = Rbm::new(Shape::new(6, 4)?, 1).on(Cpu::detect()?)?;
/// let mut average = Average::default();
/// average.take(&rbm)?;        // at intervals during training, such as every ten updates
/// average.take(&rbm)?;
/// assert_eq!(average.mean().map(|mean| mean.to_rbm()), Some(rbm.to_rbm()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Average {
    mean: Option<Resident>,
    taken: u64,
}

impl Average {
    /// Creates a mean of `taken` parameters from its parts, which may come from another device.
    ///
    /// # Errors
    /// [`Error::Argument`] if `taken` is 0; errors of the device.
    pub fn from_parts(device: impl Into<Device>, mean: &Rbm, taken: u64) -> Result<Self> {
        if taken == 0 {
            return Err(Error::Argument { what: "taken", expected: "at least 1".into(), found: "0".into() });
        }
        Ok(Self { mean: Some(mean.on(device)?), taken })
    }

    /// Adds the current parameters of `rbm` to the mean. Costs less than an eighth of an update.
    ///
    /// # Errors
    /// [`Error::Argument`] or [`Error::Device`] if `rbm` has another shape or device than the parameters before it.
    pub fn take(&mut self, rbm: &Resident) -> Result<()> {
        match &mut self.mean {
            None => self.mean = Some(rbm.clone()),
            Some(mean) => mean.approach(rbm, (1.0 / (self.taken + 1) as f64) as f32)?,
        }
        self.taken += 1;
        Ok(())
    }

    /// The mean; `None` before the first parameters.
    pub fn mean(&self) -> Option<&Resident> {
        self.mean.as_ref()
    }

    /// The number of parameters in the mean.
    pub fn taken(&self) -> u64 {
        self.taken
    }
}
