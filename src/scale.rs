//! Scales of columns, and their inverses: to mean 0 and variance 1 for Gaussian units, to [0, 1] for binary units.

use crate::{
    dataset::Dataset,
    error::{Error, Result},
    rbm::check,
    rows::Rows,
    units::{Segment, Segments},
};

/// The distance from [0, 1] that rounding may cause: of a deviation, 2⁻²⁴ of it, and of the quotient.
const ROUNDING: f32 = 1.0 / (1 << 22) as f32;

/// The mean and the deviation of each visible unit's column. A model sees rows as (x - mean)/deviation, and its samples become data by
/// mean + deviation·v. A model file can store a scale together with the model.
///
/// Potts sites and unscaled units have mean 0 and deviation 1. A segment of binary units is scaled as a whole, or not at all.
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
    /// The means and standard deviations of the columns of Gaussian units. A column without variance gets deviation 1. Missing values
    /// are ignored.
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

    /// x over the greatest absolute value, one number for each segment of binary or Gaussian units: images with values 0 to 16 get
    /// values within [0, 1]. Missing values are ignored.
    ///
    /// `rows`: read with the laws that [`unscaled`](Self::unscaled) returns; `visible`: the laws of the model.
    ///
    /// # Errors
    /// [`Error::Law`] with the first negative value of a binary unit, which would stay negative.
    pub fn max(rows: Rows<'_>, visible: Segments) -> Result<Self> {
        let (mean, mut deviation) = (vec![0.0; rows.units()], vec![1.0; rows.units()]);
        for (segment, units) in visible.iter().filter(|(segment, _)| !is_potts(*segment)) {
            let mut greatest = 0.0f32;
            for row in 0..rows.len() {
                for column in units.clone() {
                    let x = rows.value(row, column);
                    if x < 0.0 && !segment.is_number() {
                        let (law, expected) = (segment.law(), "values of at least 0 for the scale max");
                        return Err(Error::Law { row, column, law, expected, found: x });
                    }
                    greatest = greatest.max(x.abs());
                }
            }
            deviation[units].fill(if greatest > 0.0 { greatest } else { 1.0 });
        }
        Ok(Self { mean, deviation })
    }

    /// (x - min)/(max - min) of each column of binary or Gaussian units, or 0 if all values are equal. The arguments are those of
    /// [`max`](Self::max).
    pub fn min_max(rows: Rows<'_>, visible: Segments) -> Self {
        let (mut mean, mut deviation) = (vec![0.0; rows.units()], vec![1.0; rows.units()]);
        let columns = visible.iter().filter(|(segment, _)| !is_potts(*segment)).flat_map(|(_, units)| units);
        for i in columns {
            let values = || (0..rows.len()).filter(|&r| !rows.is_missing(r, i)).map(|r| rows.value(r, i));
            let (least, greatest) =
                (values().fold(f32::INFINITY, f32::min), values().fold(f32::NEG_INFINITY, f32::max));
            if least <= greatest {
                // The difference of finite numbers may overflow.
                let width = (f64::from(greatest) - f64::from(least)).min(f64::from(f32::MAX)) as f32;
                (mean[i], deviation[i]) = (least, if width > 0.0 { width } else { 1.0 });
            }
        }
        Self { mean, deviation }
    }

    /// The laws with which rows are read before they are scaled for `visible`: segments of binary units that are scaled may have any
    /// numbers, as Gaussian units do.
    pub fn unscaled(&self, visible: Segments) -> Segments {
        let is_scaled = |i: usize| (self.mean[i], self.deviation[i]) != (0.0, 1.0);
        numbers_where(visible, |units| units.into_iter().any(is_scaled))
    }

    /// A scale with these numbers, one for each visible unit.
    ///
    /// # Errors
    /// [`Error::Length`] if the lengths differ, [`Error::Value`] if a number is not finite, [`Error::Argument`] if a
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

    /// The means; n_visible values in units of the data.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The deviations; n_visible values in units of the data.
    pub fn deviation(&self) -> &[f32] {
        &self.deviation
    }

    /// Scales rows for the model: (x - mean)/deviation, in `f64` and rounded once.
    ///
    /// # Errors
    /// [`Error::Argument`] if the number of columns differs.
    pub fn apply(&self, data: &Dataset) -> Result<Dataset> {
        Ok(self.apply_for(data, data.segments())?.0)
    }

    /// Scales rows for a model with these laws. Values of binary units outside of [0, 1] become 0 or 1; the second result is their
    /// number.
    ///
    /// # Errors
    /// [`Error::Argument`] if the number of columns differs, [`Error::Law`] if a value violates its law.
    pub fn apply_for(&self, data: &Dataset, visible: Segments) -> Result<(Dataset, usize)> {
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
        let mut outside = 0;
        for (_, units) in visible.iter().filter(|(segment, _)| matches!(segment, Segment::Binary(_))) {
            for x in values.chunks_exact_mut(data.units()).flat_map(|row| &mut row[units.clone()]) {
                outside += usize::from(*x < -ROUNDING || *x > 1.0 + ROUNDING);
                // `clamp` keeps NaN.
                *x = x.clamp(0.0, 1.0);
            }
        }
        Ok((Dataset::with_missing(values, visible)?, outside))
    }

    /// Converts values of the model to data, mean + deviation·v; rows × n_visible.
    pub fn undo(&self, values: &mut [f32]) {
        for row in values.chunks_exact_mut(self.mean.len()) {
            for ((x, mean), deviation) in row.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *x = deviation.mul_add(*x, *mean);
            }
        }
    }
}

/// The laws with Gaussian units in place of all but the Potts sites.
pub fn as_numbers(visible: Segments) -> Segments {
    numbers_where(visible, |_| true)
}

/// The laws with Gaussian units in place of the chosen segments of binary units.
fn numbers_where(visible: Segments, is_number: impl Fn(std::ops::Range<usize>) -> bool) -> Segments {
    let all: Vec<_> = visible
        .iter()
        .map(|(segment, units)| match segment {
            Segment::Binary(n) if is_number(units) => Segment::Gaussian(n),
            other => other,
        })
        .collect();
    // The number of units stays the same, and that of segments does not grow.
    Segments::new(&all).unwrap_or(visible)
}

fn is_potts(segment: Segment) -> bool {
    matches!(segment, Segment::Potts { .. })
}

/// The Gaussian units.
fn numbers(segments: Segments) -> impl Iterator<Item = usize> {
    segments.iter().filter(|(segment, _)| segment.is_number()).flat_map(|(_, units)| units)
}

/// The first Gaussian unit whose column has the same number in all rows, and that number. The density of such a column can grow without
/// bound.
pub fn without_variance(rows: Rows<'_>) -> Option<(usize, f32)> {
    let values = |i: usize| (0..rows.len()).filter(move |&r| !rows.is_missing(r, i)).map(move |r| rows.value(r, i));
    let only = |i: usize| values(i).next().filter(|&first| values(i).all(|x| x == first));
    numbers(rows.segments()).find_map(|i| only(i).map(|x| (i, x)))
}
