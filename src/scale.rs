//! Columns brought to mean 0 and variance 1, where Gaussian units begin well, and back.

use crate::{
    dataset::Dataset,
    error::{Error, Result},
    rbm::check,
    rows::Rows,
    units::Segments,
};

/// The mean and the standard deviation of each visible unit's column, which a model file keeps beside the model: rows come to it as
/// (x - mean)/deviation, and its samples become data as mean + deviation·v. Units of other laws than Gaussian have 0 and 1.
///
/// ```
/// use harmonium::{Dataset, Scale};
///
/// let data = Dataset::of_numbers(vec![1.0, 10.0, 3.0, 10.0], "gaussian:2".parse()?)?;
/// let scale = Scale::standard(data.rows());
/// // The second column has no variance, and gets deviation 1.
/// assert_eq!((scale.mean(), scale.deviation()), (&[2.0, 10.0][..], &[1.0, 1.0][..]));
/// let mut rows = scale.apply(&data)?.rows().to_vec();
/// assert_eq!(rows, [-1.0, 0.0, 1.0, 0.0]);
/// scale.undo(&mut rows);
/// assert_eq!(rows, [1.0, 10.0, 3.0, 10.0]);
/// # Ok::<(), harmonium::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Scale {
    /// The means and standard deviations of the columns of Gaussian units; a column without variance gets deviation 1.
    ///
    /// Two passes in `f64`, rows in ascending order.
    pub fn standard(rows: Rows<'_>) -> Self {
        let (mut mean, mut deviation) = (vec![0.0; rows.units()], vec![1.0; rows.units()]);
        for i in numbers(rows.segments()) {
            let values = || (0..rows.len()).filter(|&r| !rows.is_missing(r, i)).map(|r| f64::from(rows.value(r, i)));
            let n = values().count().max(1) as f64;
            let centre = values().sum::<f64>() / n;
            let variance = values().map(|x| (x - centre) * (x - centre)).sum::<f64>() / n;
            let root = variance.sqrt() as f32;
            mean[i] = centre as f32;
            deviation[i] = if root > 0.0 { root } else { 1.0 };
        }
        Self { mean, deviation }
    }

    /// A scale of these numbers, as many as visible units.
    ///
    /// # Errors
    /// [`Error::Length`] where they differ in number, [`Error::Value`] where one is not finite, [`Error::Argument`] where a
    /// deviation is not above 0.
    pub fn from_parts(mean: Vec<f32>, deviation: Vec<f32>) -> Result<Self> {
        check("visible_mean", &mean, mean.len())?;
        check("visible_deviation", &deviation, mean.len())?;
        match deviation.iter().find(|&&x| x <= 0.0) {
            Some(x) => {
                let expected = "numbers above 0".into();
                Err(Error::Argument { what: "visible_deviation", expected, found: x.to_string() })
            }
            None => Ok(Self { mean, deviation }),
        }
    }

    /// The means, n_visible.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The standard deviations, n_visible.
    pub fn deviation(&self) -> &[f32] {
        &self.deviation
    }

    /// The rows as the model sees them: (x - mean)/deviation, in `f64` and rounded once.
    ///
    /// # Errors
    /// [`Error::Argument`] where there are other columns in number.
    pub fn apply(&self, data: &Dataset) -> Result<Dataset> {
        if data.units() != self.mean.len() {
            let (expected, found) = (format!("{} values a row", self.mean.len()), data.units().to_string());
            return Err(Error::Argument { what: "rows", expected, found });
        }
        let mut values = data.rows().to_vec();
        for i in numbers(data.segments()) {
            let (mean, deviation) = (f64::from(self.mean[i]), f64::from(self.deviation[i]));
            for x in values.iter_mut().skip(i).step_by(data.units()) {
                *x = ((f64::from(*x) - mean) / deviation) as f32;
            }
        }
        Dataset::with_missing(values, data.segments())
    }

    /// Values of the model as data: mean + deviation·v, rows × n_visible.
    pub fn undo(&self, values: &mut [f32]) {
        for row in values.chunks_exact_mut(self.mean.len()) {
            for ((x, mean), deviation) in row.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *x = deviation.mul_add(*x, *mean);
            }
        }
    }
}

/// The Gaussian units.
fn numbers(segments: Segments) -> impl Iterator<Item = usize> {
    segments.iter().filter(|(segment, _)| segment.is_number()).flat_map(|(_, units)| units)
}

/// The first Gaussian unit whose column is the same number in all rows, and that number: a density can grow there without bound.
pub fn without_variance(rows: Rows<'_>) -> Option<(usize, f32)> {
    let values = |i: usize| (0..rows.len()).filter(move |&r| !rows.is_missing(r, i)).map(move |r| rows.value(r, i));
    let only = |i: usize| values(i).next().filter(|&first| values(i).all(|x| x == first));
    numbers(rows.segments()).find_map(|i| only(i).map(|x| (i, x)))
}
