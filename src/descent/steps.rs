//! The number of Gibbs steps of an update, over a run: `15`, or `1:60%,5` for 1 in the first 60 % of the updates and then 5.
//!
//! While the model is far from the data, few steps work as well as many. Later, few steps leave a bias that more steps remove.

use crate::error::{Error, Result, shown};
use std::{
    fmt::{self, Display},
    str::FromStr,
};

/// The number k of Gibbs steps over a run.
///
/// ```
/// use harmonium::descent::Steps;
///
/// let k: Steps = "1:60%,5".parse()?;
/// assert_eq!((k.at(0, 1000), k.at(599, 1000), k.at(600, 1000)), (1, 1, 5));
/// assert!((k.mean() - 2.6).abs() < 1e-12);
/// # Ok::<(), harmonium::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    /// Each number of steps, with the percentage of the run up to which it applies; the last one applies to the end.
    parts: Vec<(usize, f64)>,
}

impl Steps {
    /// k in update `t` of `n`, with t counted from 0.
    pub fn at(&self, t: u64, n: u64) -> usize {
        let percent = t as f64 * 100.0;
        let part = self.parts.iter().find(|(_, until)| percent < until * n as f64);
        part.or(self.parts.last()).map_or(1, |(k, _)| *k)
    }

    /// Each k, with the fraction of the run for which it applies.
    pub fn parts(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        let before = std::iter::once(0.0).chain(self.parts.iter().map(|(_, until)| *until));
        self.parts.iter().zip(before).map(|(&(k, until), from)| (k, (until - from) / 100.0))
    }

    /// The mean of k over a run.
    pub fn mean(&self) -> f64 {
        self.parts().map(|(k, part)| k as f64 * part).sum()
    }
}

impl From<usize> for Steps {
    /// The same k in every update, at least 1.
    fn from(k: usize) -> Self {
        Self { parts: vec![(k.max(1), 100.0)] }
    }
}

impl Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.parts.len() - 1;
        let part = |(n, (k, until)): (usize, &(usize, f64))| {
            if n == last { k.to_string() } else { format!("{k}:{until}%") }
        };
        f.pad(&self.parts.iter().enumerate().map(part).collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Steps {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.parse().ok().filter(|&k: &usize| k > 0);
        let part = |text: &str| match text.split_once(':') {
            None => Some((number(text)?, 100.0)),
            Some((k, until)) => {
                let until: f64 = until.strip_suffix('%')?.parse().ok()?;
                Some((number(k)?, until)).filter(|_| until > 0.0 && until < 100.0)
            }
        };
        let parts: Option<Vec<_>> = text.split(',').map(part).collect();
        let rises = |parts: &Vec<(usize, f64)>| {
            parts.windows(2).all(|pair| pair[0].1 < pair[1].1) && parts.last().is_some_and(|last| last.1 == 100.0)
        };
        parts.filter(rises).map(|parts| Self { parts }).ok_or_else(|| Error::Argument {
            what: "k",
            expected: "a whole number of at least 1, or such numbers up to parts of the run, as 1:60%,5".into(),
            found: shown(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_over_a_run() {
        let at = |text: &str| {
            let steps: Steps = text.parse().expect("steps");
            assert_eq!(steps.to_string(), text);
            let ks: Vec<usize> = (0..10).map(|t| steps.at(t, 10)).collect();
            assert!((steps.mean() - ks.iter().sum::<usize>() as f64 / 10.0).abs() < 1e-9);
            ks
        };
        assert_eq!(at("3"), [3; 10]);
        assert_eq!(at("1:60%,5"), [1, 1, 1, 1, 1, 1, 5, 5, 5, 5]);
        assert_eq!(at("1:20%,2:30%,9"), [1, 1, 2, 9, 9, 9, 9, 9, 9, 9]);
        for wrong in ["", "0", "1:60%", "1:60,5", "1:60%,2:50%,5", "1:100%,5", "x", "1,5", "-1", "1:nan%,2"] {
            assert!(wrong.parse::<Steps>().is_err(), "{wrong}");
        }
    }
}
