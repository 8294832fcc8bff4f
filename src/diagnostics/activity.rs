//! Activity of hidden units over data: how often each is on, and which never change.

use crate::{error::Result, resident::Resident, rows::Rows, shape::Layer, verbs::Activations};

/// A hidden unit is constant if all its means are within this distance of 0, or of 1.
const CONSTANT_DISTANCE: f32 = 0.01;
/// The number of means in one call, few enough to stay in a cache.
const MEANS_PER_CALL: usize = 1 << 18;

/// Statistics of p = P(h_j = 1|v) for each hidden unit j over rows v, from [`Resident::activity`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Activity {
    /// The number of rows.
    pub rows: usize,
    /// The mean of p for each unit, within [0, 1]; n_hidden values.
    pub mean: Vec<f64>,
    /// √(Σ(p - mean)²/rows), the standard deviation of p over these rows, at most 1/2; n_hidden values.
    pub standard_deviation: Vec<f64>,
    /// The least p of each unit; n_hidden values.
    pub least: Vec<f32>,
    /// The greatest p of each unit; n_hidden values.
    pub greatest: Vec<f32>,
}

impl Activity {
    /// The number of units with p < 0.01 for every row.
    pub fn always_off(&self) -> usize {
        self.greatest.iter().filter(|&&p| p < CONSTANT_DISTANCE).count()
    }

    /// The number of units with p > 0.99 for every row.
    pub fn always_on(&self) -> usize {
        self.least.iter().filter(|&&p| p > 1.0 - CONSTANT_DISTANCE).count()
    }
}

impl Resident {
    /// Mean and standard deviation of p = P(h_j = 1|v) over the rows, for each hidden unit j.
    ///
    /// `v`: rows × n_visible. One pass in ascending order of the rows, in `f64`: m ← m + (p - m)/n and
    /// S ← S + (p - m_before)·(p - m_after), where n counts the rows (Welford 1962). A unit with the same p for all rows therefore
    /// has deviation 0. Canonical if [`propup`](Self::propup) is. Costs one `propup` of all rows, a few at a time.
    ///
    /// ```
    /// use harmonium::{Cpu, Dataset, Rbm, Shape};
    ///
    /// # fn main() -> harmonium::Result<()> {
    /// // One unit copies a bit, and one is never on.
    /// let rbm = Rbm::from_parts(Shape::new(1, 2)?, vec![80.0, 0.0], vec![0.0], vec![-40.0, -40.0])?;
    /// let activity = rbm.on(Cpu::detect()?)?.activity(Dataset::from_u8(vec![0, 0, 255, 255], 1)?.rows())?;
    /// assert_eq!((activity.always_off(), activity.always_on()), (1, 0));
    /// assert!((activity.mean[0] - 0.5).abs() < 1e-6 && (activity.standard_deviation[0] - 0.5).abs() < 1e-6);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) if the rows do not fit the shape, or there are none.
    pub fn activity(&self, v: Rows<'_>) -> Result<Activity> {
        self.check_batch(Layer::Visible, &v.into())?;
        let units = self.shape().n_hidden();
        let (mut mean, mut squares) = (vec![0.0f64; units], vec![0.0f64; units]);
        let (mut least, mut greatest) = (vec![f32::INFINITY; units], vec![f32::NEG_INFINITY; units]);
        let mut hidden = Activations::default();
        let mut n = 0.0;
        let at_once = (MEANS_PER_CALL / units).max(1);
        for first in (0..v.len()).step_by(at_once) {
            self.propup(v.range(first..v.len().min(first + at_once)), &mut hidden)?;
            for row in hidden.mean.chunks_exact(units) {
                n += 1.0;
                for (j, &p) in row.iter().enumerate() {
                    (least[j], greatest[j]) = (least[j].min(p), greatest[j].max(p));
                    let from_before = f64::from(p) - mean[j];
                    mean[j] += from_before / n;
                    squares[j] += from_before * (f64::from(p) - mean[j]);
                }
            }
        }
        let standard_deviation = squares.into_iter().map(|squares| (squares / n).sqrt()).collect();
        Ok(Activity { rows: v.len(), mean, standard_deviation, least, greatest })
    }
}
