//! log.csv: one line for each epoch; health.csv: one for each check-up of the chains.

use harmonium::{Result, checkpoint::Epoch, diagnostics::CheckUp, storage};
use std::path::Path;

/// What a run has told so far.
#[derive(Clone, Default)]
pub struct Log {
    pub epochs: Vec<Epoch>,
    pub health: Vec<CheckUp>,
}

/// Writes all epochs so far, under the heading `epoch,updates,monitor,seconds`.
pub fn write_log(path: &Path, epochs: &[Epoch]) -> Result<()> {
    storage::write_atomically(path, |file| {
        writeln!(file, "epoch,updates,monitor,seconds")?;
        for (number, Epoch { updates, monitor, seconds }) in epochs.iter().enumerate() {
            let monitor = monitor.map_or(String::new(), |monitor| format!("{monitor:.6}"));
            writeln!(file, "{number},{updates},{monitor},{seconds:.3}")?;
        }
        Ok(())
    })
}

/// Writes all check-ups so far. What cannot be told is left empty; `lag` is 1 where a warning was given.
pub fn write_health(path: &Path, check_ups: &[CheckUp]) -> Result<()> {
    storage::write_atomically(path, |file| {
        writeln!(
            file,
            "updates,r_hat,bulk_effective_sample_size,autocorrelation_time,visible_flip_rate,hidden_flip_rate,\
             persistent_free_energy,fresh_free_energy,equilibrium_gap,standard_error,lag"
        )?;
        for check_up in check_ups {
            let known = |x: Option<f64>| x.map_or(String::new(), |x| format!("{x:.4}"));
            let gap = &check_up.gap;
            writeln!(
                file,
                "{},{},{},{},{:.6},{:.6},{:.4},{:.4},{:.4},{:.4},{}",
                check_up.updates,
                known(check_up.r_hat),
                known(check_up.bulk_effective_sample_size),
                known(check_up.autocorrelation_time),
                check_up.visible_flip_rate,
                check_up.hidden_flip_rate,
                gap.persistent,
                gap.fresh,
                gap.gap,
                gap.standard_error,
                u8::from(gap.warning().is_some())
            )?;
        }
        Ok(())
    })
}
