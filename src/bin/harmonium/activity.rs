//! Statistics of hidden units over data, as text and as JSON.

use harmonium::diagnostics::Activity;
use serde_json::{Value, json};

/// Minimum, quartiles and maximum, with linear interpolation; NaN without numbers.
pub fn five(numbers: &[f64]) -> [f64; 5] {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return [f64::NAN; 5] };
    [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| {
        let at = part * last as f64;
        let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
        below + at.fract() * (above - below)
    })
}

/// The number of constant units, as text.
pub fn constant(activity: &Activity) -> String {
    let (units, rows) = (activity.mean.len(), activity.rows);
    let (off, on) = (activity.always_off(), activity.always_on());
    format!("of {units} hidden units, {off} are always off and {on} always on, over {rows} rows")
}

/// A table of means and deviations over units.
pub fn table(activity: &Activity) -> Vec<String> {
    let mut lines = vec![
        constant(activity),
        format!("{:<10} {:>9} {:>9} {:>9} {:>9} {:>9}", "", "min", "25 %", "median", "75 %", "max"),
    ];
    for (name, numbers) in [("mean", &activity.mean), ("std dev", &activity.standard_deviation)] {
        let numbers: String = five(numbers).iter().map(|x| format!(" {x:>9.5}")).collect();
        lines.push(format!("{name:<10}{numbers}"));
    }
    lines
}

/// All statistics, for each unit.
pub fn json(activity: &Activity) -> Value {
    json!({
        "rows": activity.rows,
        "always_off": activity.always_off(),
        "always_on": activity.always_on(),
        "mean": activity.mean,
        "standard_deviation": activity.standard_deviation,
    })
}

#[cfg(test)]
mod tests {
    use super::five;

    #[test]
    fn quartiles_are_interpolated() {
        assert_eq!(five(&[4.0, 1.0, 2.0, 3.0]), [1.0, 1.75, 2.5, 3.25, 4.0]);
        assert_eq!(five(&[7.0]), [7.0; 5]);
        assert!(five(&[]).iter().all(|x| x.is_nan()));
    }
}
