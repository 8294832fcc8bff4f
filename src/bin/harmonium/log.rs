//! log.csv: one line for each epoch.

use harmonium::{Result, checkpoint::Epoch, storage};
use std::path::Path;

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
