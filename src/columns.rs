//! Sums over the columns of rows, which may arrive in parts: means of units, and the fit of a model without weights.

use crate::{rows::Rows, units::Segments};

/// For each unit, the number of rows that have it, and Σ v and Σ v² over them, in `f64`, rows in ascending order.
///
/// Rows that are added in parts, in order, give the same bits as all rows at once.
///
/// ```
/// use harmonium::{Columns, Dataset};
///
/// let data = Dataset::from_f32(vec![0.25, 1.0, 0.75, 0.0], 2)?;
/// let mut columns = Columns::new(data.segments());
/// for row in 0..2 {
///     columns.add(data.rows().range(row..row + 1));
/// }
/// assert_eq!(columns.clipped_means(), data.rows().clipped_means());
/// # Ok::<(), harmonium::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    segments: Segments,
    rows: usize,
    counts: Vec<usize>,
    sums: Vec<f64>,
    /// All 0 without Gaussian units.
    squares: Vec<f64>,
}

impl Columns {
    /// Sums without rows, for units with these laws.
    pub fn new(segments: Segments) -> Self {
        let units = segments.units();
        Self { segments, rows: 0, counts: vec![0; units], sums: vec![0.0; units], squares: vec![0.0; units] }
    }

    /// Sums over these rows.
    pub(crate) fn of(rows: Rows<'_>) -> Self {
        let mut columns = Self::new(rows.segments());
        columns.add(rows);
        columns
    }

    /// Adds rows with the same laws; missing values are ignored.
    ///
    /// # Panics
    /// If the rows have other laws.
    pub fn add(&mut self, rows: Rows<'_>) {
        assert_eq!(rows.segments(), self.segments, "rows of other laws");
        let is_discrete = self.segments.is_discrete();
        for r in 0..rows.len() {
            for (i, sum) in self.sums.iter_mut().enumerate() {
                *sum += f64::from(rows.value(r, i));
            }
            if !is_discrete {
                for (i, sum) in self.squares.iter_mut().enumerate() {
                    let v = f64::from(rows.value(r, i));
                    *sum += v * v;
                }
            }
        }
        self.rows += rows.len();
        self.counts.iter_mut().for_each(|n| *n += rows.len());
        for r in 0..if rows.has_missing() { rows.len() } else { 0 } {
            self.counts.iter_mut().enumerate().for_each(|(i, n)| *n -= usize::from(rows.is_missing(r, i)));
        }
    }

    /// The laws of the units.
    pub fn segments(&self) -> Segments {
        self.segments
    }

    /// The number of rows added.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// [`Rows::clipped_means`] of all rows.
    pub fn clipped_means(&self) -> Vec<f32> {
        self.clipped_means_f64().into_iter().map(|mean| mean as f32).collect()
    }

    /// The same before rounding to `f32`.
    pub(crate) fn clipped_means_f64(&self) -> Vec<f64> {
        let mut means = self.sums.clone();
        self.segments.clipped_means(&mut means, &self.counts);
        means
    }

    /// Fits a model without weights: biases near the maximum of the likelihood, and the precisions of Gaussian units.
    pub(crate) fn fit(&self) -> (Vec<f64>, Vec<f64>) {
        self.segments.fit(&self.counts, &self.sums, &self.squares)
    }
}
