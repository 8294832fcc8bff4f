//! log.csv, with a line for each epoch or every few epochs, and health.csv, with a line for each check-up of the chains.

use harmonium::{Result, Segment, Segments, checkpoint::Epoch, diagnostics::CheckUp, storage};
use std::{f64::consts::LN_2, path::Path};

/// The lines of both files so far.
#[derive(Clone, Default)]
pub struct Log {
    pub epochs: Vec<Epoch>,
    pub health: Vec<CheckUp>,
}

/// The negative log-likelihood of a row in nats, if all bits and all states of a site are equally likely. Each real number adds 1/2, as
/// if its variance is 1.
fn even_odds(visible: Segments) -> f64 {
    let of = |segment: Segment| match segment {
        Segment::Binary(units) => LN_2 * f64::from(units),
        Segment::Potts { sites, states } => f64::from(states).ln() * f64::from(sites),
        Segment::Gaussian(units) => 0.5 * f64::from(units),
    };
    visible.iter().map(|(segment, _)| of(segment)).sum()
}

impl Log {
    /// A warning if the monitor of the last line is the first one that is clearly worse than even odds for every unit: four times as far
    /// below 0, or worse than even odds and at least a tenth worse than in the first line. (A new model is below even odds too, as its
    /// weights are random, and a model that learns slowly stays there for a while.)
    pub fn warning(&self, monitor: &str, visible: Segments) -> Option<String> {
        let even_odds = -even_odds(visible);
        let first = self.epochs.first()?.monitor?;
        let is_wrong = |now: f64| now < 4.0 * even_odds || now < even_odds && now < 1.1 * first;
        let number = self.epochs.iter().position(|epoch| epoch.monitor.is_some_and(is_wrong))?;
        let now = self.epochs[number].monitor.filter(|_| number + 1 == self.epochs.len())?;
        Some(format!("epoch {number}: {monitor} {now:.2} nats a row; even odds for every unit give {even_odds:.2}"))
    }

    /// The number of lines after the one with the best validation likelihood, if known.
    pub fn lines_since_best(&self) -> Option<usize> {
        let known = self.epochs.iter().enumerate().filter_map(|(n, line)| Some((n, line.figures?.validation?)));
        let best = known.fold(None, |best, (n, x)| match best {
            Some((_, most)) if most >= x => best,
            _ => Some((n, x)),
        });
        best.map(|(n, _)| self.epochs.len() - 1 - n)
    }

    /// Whether the last line has the best validation likelihood so far, or none is known.
    pub fn last_is_best(&self) -> bool {
        self.lines_since_best().is_none_or(|lines| lines == 0)
    }
}

/// The number of the epoch of a line. Lines count from 1, epochs from 0.
pub fn epoch_of(line: u64, every: u64, of: u64) -> u64 {
    (line * every).min(of) - 1
}

/// Writes all lines so far. Unknown values are empty fields.
pub fn write_log(path: &Path, epochs: &[Epoch], every: u64, of: u64) -> Result<()> {
    storage::write_atomically(path, |file| {
        writeln!(
            file,
            "epoch,updates,monitor,seconds,learning_rate,k,log_z,ess,standard_error,log_likelihood,validation,\
             free_energy_gap,update_ratio,constant_units"
        )?;
        let known = |x: Option<f64>| x.map_or(String::new(), |x| format!("{x:.6}"));
        for (line, Epoch { updates, monitor, seconds, figures, .. }) in (1..).zip(epochs) {
            let number = epoch_of(line, every, of);
            write!(file, "{number},{updates},{},{seconds:.6}", known(*monitor))?;
            let Some(figures) = figures else {
                writeln!(file, "{}", ",".repeat(10))?;
                continue;
            };
            write!(file, ",{:?},{}", figures.learning_rate, figures.k)?;
            for number in [
                figures.log_z,
                figures.effective_sample_size,
                figures.standard_error,
                figures.log_likelihood,
                figures.validation,
                figures.free_energy_gap,
            ] {
                write!(file, ",{}", known(number))?;
            }
            let ratio = figures.update_ratio.map_or(String::new(), |ratio| format!("{ratio:.3e}"));
            writeln!(file, ",{ratio},{}", figures.constant_units.map_or(String::new(), |n| n.to_string()))?;
        }
        Ok(())
    })
}

/// Writes all check-ups so far. Unknown values are empty fields; `lag` is 1 if the chains lag, else 0.
pub fn write_health(path: &Path, check_ups: &[CheckUp]) -> Result<()> {
    storage::write_atomically(path, |file| {
        writeln!(
            file,
            "updates,r_hat,bulk_effective_sample_size,autocorrelation_time,visible_flip_rate,hidden_flip_rate,\
             persistent_free_energy,fresh_free_energy,equilibrium_gap,standard_error,lag"
        )?;
        for check_up in check_ups {
            let CheckUp { updates, r_hat, bulk_effective_sample_size, autocorrelation_time, .. } = check_up;
            write!(file, "{updates},")?;
            for number in [r_hat, bulk_effective_sample_size, autocorrelation_time] {
                write!(file, "{},", number.map_or(String::new(), |x| format!("{x:.4}")))?;
            }
            write!(file, "{:.6},{:.6},", check_up.visible_flip_rate, check_up.hidden_flip_rate)?;
            let gap = &check_up.gap;
            write!(file, "{:.4},{:.4},{:.4},", gap.persistent, gap.fresh, gap.gap)?;
            match gap.lags() {
                Some(lags) => writeln!(file, "{:.4},{}", gap.standard_error, u8::from(lags))?,
                None => writeln!(file, ",")?,
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::{Epoch, Log};

    #[test]
    fn slow_starts_and_bad_ends() {
        let first_warning = |monitors: &[f64]| {
            let mut log = Log::default();
            let mut warned = monitors.iter().map(|&monitor| {
                log.epochs.push(Epoch::new(1, Some(monitor), 1.0));
                log.warning("pl", "binary:784".parse().expect("laws"))
            });
            let first = warned.position(|warning| warning.is_some());
            assert!(warned.all(|warning| warning.is_none()), "a second warning of {monitors:?}");
            first
        };
        for (monitors, expected) in [
            (&[-90.0, -80.0, -85.0][..], None),
            (&[-940.0, -930.0, -935.0, -700.0, -500.0, -560.0], None),
            (&[-726.16, -755.52, -704.88, -719.21], None),
            (&[-2e37, -1e37], Some(0)),
            (&[-6327.0, -3204.0], Some(0)),
            (&[-152.0, -1900.0, -2500.0], Some(1)),
            (&[-600.0, -590.0, -700.0, -800.0], Some(2)),
        ] {
            assert_eq!(first_warning(monitors), expected, "{monitors:?}");
        }
    }
}
