//! Tail averaging: the mean of the parameters over the last part of a run.
//!
//! θ̄ ← θ̄ + (θ - θ̄)/n for the n-th parameters that are taken. The noise of single updates averages out, where a constant
//! learning rate would leave it and a falling one has not yet removed it.
//!
//! Source: B. T. Polyak, A. B. Juditsky, "Acceleration of stochastic approximation by averaging", 1992.

use crate::{
    device::Device,
    error::{Error, Result},
    rbm::Rbm,
    resident::Resident,
};

/// The mean of some parameters, on the device where they are.
///
/// ```
/// use harmonium::{Average, Cpu, Rbm, Shape};
///
/// # fn main() -> harmonium::Result<()> {
/// let rbm = Rbm::new(Shape::new(6, 4)?, 1).on(Cpu::detect()?)?;
/// let mut average = Average::default();
/// average.take(&rbm)?;        // now and then while it is trained, such as every ten updates
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
    /// A mean of `taken` parameters that was made earlier, perhaps on another device.
    ///
    /// # Errors
    /// [`Error::Argument`] where none were taken, and what the device says.
    pub fn from_parts(device: impl Into<Device>, mean: &Rbm, taken: u64) -> Result<Self> {
        if taken == 0 {
            return Err(Error::Argument { what: "taken", expected: "at least 1".into(), found: "0".into() });
        }
        Ok(Self { mean: Some(mean.on(device)?), taken })
    }

    /// Takes the parameters of `rbm`, as they are now, into the mean. Costs less than an eighth of an update.
    ///
    /// # Errors
    /// [`Error::Argument`] and [`Error::Device`] where `rbm` has another shape or is on another device than those before.
    pub fn take(&mut self, rbm: &Resident) -> Result<()> {
        match &mut self.mean {
            None => self.mean = Some(rbm.clone()),
            Some(mean) => mean.approach(rbm, (1.0 / (self.taken + 1) as f64) as f32)?,
        }
        self.taken += 1;
        Ok(())
    }

    /// The mean, where parameters were taken.
    pub fn mean(&self) -> Option<&Resident> {
        self.mean.as_ref()
    }

    /// How many parameters were taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }
}
