//! An RBM as a device computes with it: to read, or to train.
//!
//! Every device needs the weights in a form of its own (the CPU in tiles, in both directions; CUDA in device memory), so that
//! all methods that compute stand here. A [`Resident`] owns its parameters; a [`Lent`] writes them back to the buffers of
//! their owner, whom the borrow checker keeps away until then, so that there are never two sources of truth.

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
    /// See [`RbmRef::on`].
    pub fn on(&self, device: impl Into<Device>) -> Result<Resident> {
        self.view().on(device)
    }

    /// Short for `self.view_mut().lend(device)`.
    ///
    /// # Errors
    /// See [`RbmMut::lend`].
    pub fn lend(&mut self, device: impl Into<Device>) -> Result<Lent<'_>> {
        self.view_mut().lend(device)
    }
}

impl RbmRef<'_> {
    /// The parameters as `device` computes with them; costs one pass over the weights.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn on(&self, device: impl Into<Device>) -> Result<Resident> {
        let device = device.into();
        let parameters = device.upload(*self)?;
        Ok(Resident { device, shape: self.shape(), parameters })
    }
}

impl<'a> RbmMut<'a> {
    /// Lends the parameters to `device`. The owner's buffers hold what has become of them once the loan ends.
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn lend(self, device: impl Into<Device>) -> Result<Lent<'a>> {
        let resident = self.view().on(device)?;
        Ok(Lent { owner: self, resident, returned: false })
    }
}

/// An RBM on a device, with parameters of its own: what answers questions, moves chains and is trained.
///
/// Owns everything that it needs, so that it can be kept in a struct beside a [`Trainer`](crate::Trainer) and go from thread
/// to thread.
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

    /// The device that computes with it.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A copy of the parameters in an [`Rbm`].
    ///
    /// # Errors
    /// What the device says; on the CPU none.
    pub fn to_rbm(&self) -> Result<Rbm> {
        let mut rbm = Rbm::zero(self.shape);
        self.device.download(&self.parameters, rbm.view_mut())?;
        Ok(rbm)
    }

    /// θ ← θ - lr·gradient: with [`Trainer::gradient`](crate::Trainer::gradient)'s gradient what
    /// [`Trainer::step`](crate::Trainer::step) does. With canonical sums it is that to the bit, else up to rounding.
    ///
    /// `lr`: finite. ln σ² of Gaussian units stays as it is. Costs a pass over the weights, on all threads.
    ///
    /// # Errors
    /// [`Error::Length`] where the gradient does not fit the shape, [`Error::Argument`] where lr is not finite.
    pub fn apply(&mut self, gradient: &Gradient, lr: f32) -> Result<()> {
        check_rate(lr)?;
        self.check_gradient(gradient)?;
        self.device.apply(&mut self.parameters, gradient, lr)
    }

    /// θ ← θ + share·(θ' - θ), θ' being the parameters of `to`: a mean of parameters takes one more.
    ///
    /// `share`: finite. Canonical on every device. Costs a pass over the weights.
    ///
    /// # Errors
    /// [`Error::Argument`] where `to` has another shape or the share is not finite, [`Error::Device`] where it is elsewhere.
    pub fn approach(&mut self, to: &Resident, share: f32) -> Result<()> {
        check("share", &[share], 1).map_err(|_| Error::Argument {
            what: "share",
            expected: "a finite number".into(),
            found: share.to_string(),
        })?;
        self.check_belongs("rbm", &to.device, to.shape)?;
        self.device.approach(&mut self.parameters, &to.parameters, share)
    }

    /// The batch must have rows of this layer's units, and at least one.
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
                expected: format!("rows of {segments}, as they say themselves before they are loaded"),
                found: format!("rows of {}", batch.segments()),
            }),
        }
    }

    /// How well the mean of v given the hidden means of each row explains the row, in nats: with h = P(h|v) and a = b + (Wh),
    /// the binary units' Σ_i [v_i·a_i - sp(a_i)], minus a cross-entropy, the Potts sites' a_s - ln Σe^a of the state s that is on,
    /// and the Gaussian units' -(v_i - a_i)²/2σ_i². The larger the better.
    ///
    /// `v`: rows × n_visible.
    ///
    /// # Errors
    /// [`Error::Argument`] where the rows do not fit the shape, [`Error::Law`] where a value is none that its law allows.
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

    /// Rows of these states of a layer, which are known to be right.
    pub(crate) fn rows<'a>(&self, layer: Layer, values: &'a [f32]) -> Rows<'a> {
        Rows::of(Values::F32(values), self.shape.segments(layer))
    }

    /// Runs `run` with the batch, checked, on this device.
    pub(crate) fn reading<T>(
        &self, layer: Layer, batch: Batch<'_>, run: impl FnOnce(Batch<'_>) -> Result<T>,
    ) -> Result<T> {
        self.check_batch(layer, &batch)?;
        self.device.reading(batch, run)
    }

    /// One number for each row of the batch.
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

    /// Fails where `what`, made for another shape or device, does not belong to this RBM.
    pub(crate) fn check_belongs(&self, what: &'static str, device: &Device, shape: Shape) -> Result<()> {
        if self.shape != shape {
            let (expected, found) = self.shape.told_from(shape);
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

/// An RBM on loan to a device: a [`Resident`], and the buffers that its parameters return to.
///
/// The owner's buffers are written when the loan ends: by [`finish`](Self::finish), which reports failure, or by dropping
/// it, which cannot (and on the CPU need not).
#[derive(Debug)]
pub struct Lent<'a> {
    owner: RbmMut<'a>,
    resident: Resident,
    returned: bool,
}

impl Lent<'_> {
    /// Writes the parameters to their owner's buffers and ends the loan.
    ///
    /// # Errors
    /// What the device says; on the CPU none. [`Error::Argument`] where the [`Resident`] was exchanged for one of another
    /// shape.
    pub fn finish(mut self) -> Result<()> {
        self.write_back()
    }

    fn write_back(&mut self) -> Result<()> {
        self.returned = true;
        let Resident { device, shape, parameters } = &self.resident;
        let expected = self.owner.view().shape();
        if *shape != expected {
            let (expected, found) = expected.told_from(*shape);
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
            // Nobody is left to hear of a failure; `finish` is for those who want to know.
            let _ = self.write_back();
        }
    }
}
