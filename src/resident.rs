//! Parameters on a device: [`Resident`], which owns them, and [`Lent`], which writes them back to their owner.

use crate::{
    device::{Batch, Device, On, Parameters},
    error::{Error, Result},
    rbm::{Gradient, Rbm, RbmMut, RbmRef, check, log_variances},
    rows::{Rows, Values},
    shape::{Layer, Shape},
    verbs::Activations,
};

impl Rbm {
    /// Short for `self.view().on(device)`.
    ///
    /// # Errors
    /// Those of [`RbmRef::on`].
    pub fn on(&self, device: impl Into<Device>) -> Result<Resident> {
        self.view().on(device)
    }

    /// Short for `self.view_mut().lend(device)`.
    ///
    /// # Errors
    /// Those of [`RbmMut::lend`].
    pub fn lend(&mut self, device: impl Into<Device>) -> Result<Lent<'_>> {
        self.view_mut().lend(device)
    }
}

impl RbmRef<'_> {
    /// Copies the parameters to `device`, in its own layout. Costs one pass over the weights.
    ///
    /// # Errors
    /// Errors of the device; none on the CPU.
    pub fn on(&self, device: impl Into<Device>) -> Result<Resident> {
        let device = device.into();
        let parameters = device.upload(*self)?;
        Ok(Resident { device, shape: self.shape(), parameters })
    }
}

impl<'a> RbmMut<'a> {
    /// Lends the parameters to `device`. The device's parameters are written back to the owner's buffers when the loan ends.
    ///
    /// # Errors
    /// Errors of the device; none on the CPU.
    pub fn lend(self, device: impl Into<Device>) -> Result<Lent<'a>> {
        let resident = self.view().on(device)?;
        Ok(Lent { owner: self, resident, returned: false })
    }
}

/// An RBM on a device, which owns its parameters there: for energies, conditionals, chains and training.
///
/// Each device needs the weights in a layout of its own: the CPU in tiles, in both directions; CUDA in device memory. So everything
/// that computes is a method of this type, and of no other.
///
/// It borrows nothing, so a struct can own it together with a [`Trainer`](crate::Trainer), and it can move between threads.
///
/// ```
/// use harmonium::{Cpu, Dataset, Rbm, Shape};
///
/// # fn main() -> harmonium::Result<()> {
/// // E(v, h) = -b·v - c·h - vᵀWh with one hidden unit: F(v) = -b·v - ln(1 + e^(c + v·W)).
/// let rbm = Rbm::from_parts(Shape::new(2, 1)?, vec![1.0, -1.0], vec![0.5, 0.25], vec![0.0])?;
/// let resident = rbm.on(Cpu::detect()?)?;
/// let f = resident.free_energy(&Dataset::from_f32(vec![1.0, 0.0], 2)?)?;
/// assert!((f[0] - (-0.5 - (1.0 + 1f64.exp()).ln())).abs() < 1e-6);        // nats
/// assert_eq!(resident.to_rbm()?, rbm);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Resident {
    pub(crate) device: Device,
    pub(crate) shape: Shape,
    pub(crate) parameters: Parameters,
}

impl Resident {
    /// The sizes of the layers.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The device of the parameters.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Copies the parameters to an [`Rbm`].
    ///
    /// # Errors
    /// Errors of the device; none on the CPU.
    pub fn to_rbm(&self) -> Result<Rbm> {
        let mut rbm = Rbm::zero(self.shape);
        self.device.download(&self.parameters, rbm.view_mut())?;
        Ok(rbm)
    }

    /// θ ← θ - lr·gradient. With the result of [`Trainer::gradient`](crate::Trainer::gradient) it is the update of
    /// [`Trainer::step`](crate::Trainer::step): to the bit with canonical sums, otherwise up to rounding.
    ///
    /// `lr`: finite. ln σ² of Gaussian units is unchanged. Costs one pass over the weights, shared by all threads.
    ///
    /// # Errors
    /// [`Error::Length`] if the gradient does not fit the shape, [`Error::Argument`] if lr is not finite.
    pub fn apply(&mut self, gradient: &Gradient, lr: f32) -> Result<()> {
        check_rate(lr)?;
        self.check_gradient(gradient)?;
        self.device.apply(&mut self.parameters, gradient, lr)
    }

    /// θ ← θ + share·(θ' - θ), where θ' are the parameters of `to`; for running means of parameters.
    ///
    /// `share`: finite. Canonical on every device. Costs one pass over the weights.
    ///
    /// # Errors
    /// [`Error::Argument`] if `to` has another shape or the share is not finite, [`Error::Device`] if it is on another device.
    pub fn approach(&mut self, to: &Resident, share: f32) -> Result<()> {
        check("share", &[share], 1).map_err(|_| Error::Argument {
            what: "share",
            expected: "a finite number".into(),
            found: share.to_string(),
        })?;
        self.check_belongs("rbm", &to.device, to.shape)?;
        self.device.approach(&mut self.parameters, &to.parameters, share)
    }

    /// Returns an error unless the batch has at least one row, and rows of this layer's units.
    pub(crate) fn check_batch(&self, layer: Layer, batch: &Batch<'_>) -> Result<()> {
        let (units, expected) = (batch.units(), self.shape.units(layer));
        if units != expected {
            return Err(Error::Argument {
                what: "batch",
                expected: format!("rows of {expected} values"),
                found: format!("rows of {units}"),
            });
        }
        if batch.len() == 0 {
            return Err(Error::Argument { what: "batch", expected: "at least one row".into(), found: "none".into() });
        }
        let segments = self.shape.segments(layer);
        match batch.0 {
            _ if batch.segments() == segments => Ok(()),
            On::Cpu(rows) => rows.check(segments),
            #[cfg(feature = "cuda")]
            On::Cuda(_) => Err(Error::Argument {
                what: "batch",
                expected: format!("rows of {segments}, set before the rows are loaded"),
                found: format!("rows of {}", batch.segments()),
            }),
        }
    }

    /// Scores each row's reconstruction, in nats: the sum over units of a term with h = P(h|v) and a = b + (Wh).
    ///
    /// - Binary units: v_i·a_i - sp(a_i), minus a cross-entropy.
    /// - Potts sites: a_s - ln Σe^a, where s is the state that is on.
    /// - Gaussian units: -(v_i - a_i)²/2σ_i².
    ///
    /// Greater is better. `v`: rows × n_visible.
    ///
    /// # Errors
    /// [`Error::Argument`] if the rows do not fit the shape, [`Error::Law`] if a value violates its law.
    pub fn reconstruction(&self, v: Rows<'_>) -> Result<Vec<f64>> {
        self.check_batch(Layer::Visible, &v.into())?;
        let (visible, precision) = (self.shape.visible(), self.to_rbm()?.view().precision());
        let (mut hidden, mut down) = (Activations::default(), Activations::default());
        self.propup(v, &mut hidden)?;
        self.propdown(self.rows(Layer::Hidden, &hidden.mean), &mut down)?;
        let rows = Rows::of(v.values(), visible).to_vec();
        let each = rows.chunks_exact(v.units()).zip(down.pre_activation.chunks_exact(v.units())).enumerate();
        let row = |(r, (x, a))| visible.reconstruction(x, a, &precision, |i| !v.is_missing(r, i));
        Ok(each.map(row).collect())
    }

    /// Valid states of a layer as rows.
    pub(crate) fn rows<'a>(&self, layer: Layer, values: &'a [f32]) -> Rows<'a> {
        Rows::of(Values::F32(values), self.shape.segments(layer))
    }

    /// Checks the batch and calls `run` with it on this device.
    pub(crate) fn reading<T>(
        &self, layer: Layer, batch: Batch<'_>, run: impl FnOnce(Batch<'_>) -> Result<T>,
    ) -> Result<T> {
        self.check_batch(layer, &batch)?;
        self.device.reading(batch, run)
    }

    /// Computes one number for each row of the batch.
    pub(crate) fn each_row(
        &self, batch: Batch<'_>, run: impl FnOnce(Batch<'_>, &mut [f64]) -> Result<()>,
    ) -> Result<Vec<f64>> {
        self.reading(Layer::Visible, batch, |batch| {
            let mut out = vec![0.0; batch.len()];
            run(batch, &mut out)?;
            Ok(out)
        })
    }

    pub(crate) fn check_gradient(&self, gradient: &Gradient) -> Result<()> {
        let expected = self.shape.n_visible() * self.shape.n_hidden();
        for (what, expected, found) in [
            ("gradient.weights", expected, gradient.weights.len()),
            ("gradient.visible_bias", self.shape.n_visible(), gradient.visible_bias.len()),
            ("gradient.hidden_bias", self.shape.n_hidden(), gradient.hidden_bias.len()),
            ("gradient.visible_log_variance", log_variances(self.shape), gradient.visible_log_variance.len()),
        ] {
            if expected != found {
                return Err(Error::Length { what, expected, found });
            }
        }
        Ok(())
    }

    /// Returns an error if `what` was made for another shape or device.
    pub(crate) fn check_belongs(&self, what: &'static str, device: &Device, shape: Shape) -> Result<()> {
        if self.shape != shape {
            let (expected, found) = self.shape.mismatch(shape);
            return Err(Error::Argument { what, expected, found });
        }
        self.device.check(what, device)
    }
}

pub(crate) fn check_rate(lr: f32) -> Result<()> {
    check("lr", &[lr], 1).map_err(|_| Error::Argument {
        what: "lr",
        expected: "a finite number".into(),
        found: lr.to_string(),
    })
}

/// An RBM on loan to a device: a [`Resident`] that borrows the owner's buffers and writes its parameters back to them.
///
/// The write happens when the loan ends: by [`finish`](Self::finish), which reports an error, or by dropping the loan, which cannot
/// report one. On the CPU the write cannot fail. During the loan the borrow checker forbids access to the buffers, so there is
/// never a second, older copy.
///
/// ```
/// use harmonium::{Cpu, Dataset, RbmMut, Settings, Shape, Trainer};
///
/// # fn main() -> harmonium::Result<()> {
/// // The buffers belong to a layer of a larger network.
/// let (mut weights, mut b, mut c) = (vec![0.1; 4 * 2], vec![0.0; 4], vec![0.0; 2]);
/// let (cpu, shape) = (Cpu::detect()?, Shape::new(4, 2)?);
/// let mut lent = RbmMut::from_parts(shape, &mut weights, &mut b, &mut c)?.lend(cpu)?;
/// let mut trainer = Trainer::new(cpu, shape, Settings::default())?;
/// trainer.step(&mut lent, &Dataset::from_u8(vec![255, 0, 0, 255], 4)?, 0.1)?;
/// lent.finish()?;
/// assert_ne!(weights, [0.1; 4 * 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Lent<'a> {
    owner: RbmMut<'a>,
    resident: Resident,
    returned: bool,
}

impl Lent<'_> {
    /// Writes the parameters to the owner's buffers and ends the loan.
    ///
    /// # Errors
    /// Errors of the device; none on the CPU. [`Error::Argument`] if the [`Resident`] was replaced by one of another shape.
    pub fn finish(mut self) -> Result<()> {
        self.write_back()
    }

    fn write_back(&mut self) -> Result<()> {
        self.returned = true;
        let Resident { device, shape, parameters } = &self.resident;
        let expected = self.owner.view().shape();
        if *shape != expected {
            let (expected, found) = expected.mismatch(*shape);
            return Err(Error::Argument { what: "rbm", expected, found });
        }
        device.download(parameters, self.owner.reborrow())
    }
}

impl std::ops::Deref for Lent<'_> {
    type Target = Resident;

    fn deref(&self) -> &Resident {
        &self.resident
    }
}

impl std::ops::DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Resident {
        &mut self.resident
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if !self.returned {
            // Drop cannot report an error; callers who need it use `finish`.
            let _ = self.write_back();
        }
    }
}
