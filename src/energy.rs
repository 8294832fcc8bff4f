//! Energy, free energy and its gradient.
//!
//! E(v, h) = -b·v - c·h - vᵀWh, and F(v) = -log Σ_h e^-E(v,h) = -b·v - Σ_j sp(c_j + (vW)_j), so that P(v) = e^-F(v)/Z.

use crate::{
    device::Batch,
    error::{Error, Result},
    rbm::{Gradient, RbmRef, check},
    resident::Resident,
    rows::Rows,
    shape::Layer,
};

impl RbmRef<'_> {
    /// E(v, h) = -b·v - c·h - vᵀWh of each pair of rows in nats, summed in `f64`.
    ///
    /// `v`: rows × n_visible; `h`: as many rows × n_hidden; values in [0, 1]. O(rows·n_visible·n_hidden).
    ///
    /// ```
    /// use harmonium::{Rbm, Rows, Shape, Values};
    ///
    /// let rbm = Rbm::from_parts(Shape::new(2, 1)?, vec![3.0, 0.0], vec![1.0, 0.0], vec![-2.0])?;
    /// let (v, h) = (Rows::new(Values::F32(&[1.0, 1.0]), 2)?, Rows::new(Values::F32(&[1.0]), 1)?);
    /// assert_eq!(rbm.view().energy(v, h)?, [-1.0 + 2.0 - 3.0]);
    /// # Ok::<(), harmonium::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if the rows do not fit the shape or each other.
    pub fn energy(&self, v: Rows<'_>, h: Rows<'_>) -> Result<Vec<f64>> {
        let shape = self.shape();
        let expected = (v.len(), shape.n_visible(), shape.n_hidden());
        if (h.len(), v.units(), h.units()) != expected {
            return Err(Error::Argument {
                what: "v and h",
                expected: format!("as many rows of {} and of {} values", shape.n_visible(), shape.n_hidden()),
                found: format!("{} rows of {} and {} rows of {}", v.len(), v.units(), h.len(), h.units()),
            });
        }
        let precision = self.precision();
        let row = |r: usize| {
            let mut sum = 0.0;
            for (j, &c) in self.hidden_bias().iter().enumerate() {
                sum += f64::from(h.value(r, j)) * f64::from(c);
            }
            for (i, weights) in self.weights().chunks_exact(shape.n_hidden()).enumerate() {
                let x = f64::from(precision[i]) * f64::from(v.value(r, i));
                if x != 0.0 {
                    let field: f64 =
                        weights.iter().enumerate().map(|(j, &w)| f64::from(h.value(r, j)) * f64::from(w)).sum();
                    sum += x * field;
                }
            }
            let own = |i, energy| sum += if v.is_missing(r, i) { 0.0 } else { energy };
            shape.visible().minus_own_energies(|i| v.value(r, i), self.visible_bias(), &precision, own);
            -sum
        };
        Ok((0..v.len()).map(row).collect())
    }
}

impl Resident {
    /// F(v) = -b·v - Σ_j sp(c_j + (vW)_j) of each row, in nats.
    ///
    /// `v`: rows × n_visible, values in [0, 1]. The softplus terms are `f32` ([`SOFTPLUS_ULP`](crate::elementary::SOFTPLUS_ULP)),
    /// their sum is `f64`. Canonical on [`Cpu`](crate::Cpu).
    ///
    /// ```
    /// use harmonium::{Cpu, Dataset, Rbm, Shape};
    ///
    /// # fn main() -> harmonium::Result<()> {
    /// let rbm = Rbm::from_parts(Shape::new(2, 1)?, vec![3.0, 0.0], vec![1.0, 0.0], vec![-2.0])?.on(Cpu::detect()?)?;
    /// let free_energy = rbm.free_energy(&Dataset::from_u8(vec![255, 255], 2)?)?[0];
    /// assert!((free_energy - (-1.0 - (1.0 + 1f64.exp()).ln())).abs() < 1e-6);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if the rows do not fit the shape.
    pub fn free_energy<'a>(&self, v: impl Into<Batch<'a>>) -> Result<Vec<f64>> {
        self.each_row(v.into(), |v, out| self.device.free_energy(&self.parameters, v.0, out))
    }

    /// Σ_r w_r ∂F(v_r)/∂θ: -Σ w v_i σ(pre_j) for W_ij, -Σ w v_i for b_i, -Σ w σ(pre_j) for c_j.
    ///
    /// `v`: rows × n_visible, values in [0, 1]; `weights`: one finite number w for each row. Overwrites `out`.
    ///
    /// # Errors
    /// [`Error::Argument`] if the rows do not fit the shape, [`Error::Length`] if the numbers of weights and rows differ,
    /// [`Error::Value`] if a weight is not finite.
    pub fn free_energy_gradient<'a>(&self, v: impl Into<Batch<'a>>, weights: &[f32], out: &mut Gradient) -> Result<()> {
        self.reading(Layer::Visible, v.into(), |v| {
            check("weights", weights, v.len())?;
            self.check_gradient(out)?;
            self.device.free_energy_gradient(&self.parameters, v.0, &mut self.device.work(self.shape)?, weights, out)
        })
    }
}
