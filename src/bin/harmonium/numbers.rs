//! Arrays of numbers that a command writes.

use crate::console;
use harmonium::{Error, Result, npy, storage};
use std::{
    io::{self, Write},
    path::Path,
};

/// What a file of numbers is, by the end of its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Npy,
    Csv,
}

impl Format {
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "npy" => Some(Self::Npy),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// The format of `--out`, which must be one of these.
    pub fn of_out(path: &Path) -> Result<Self> {
        Self::of(path).ok_or_else(|| Error::Argument {
            what: "--out",
            expected: "a name that ends with .npy or .csv".into(),
            found: path.display().to_string(),
        })
    }

    /// Writes rows of `units` numbers, whole or not at all, and says so. A line of text has the shortest decimals that give the same
    /// `f32` back, and no header stands before them.
    pub fn save(self, values: &[f32], units: usize, path: &Path, what: &str) -> Result<()> {
        match self {
            Format::Npy => npy::save(values, units, path)?,
            Format::Csv => storage::write_atomically(path, |file| write_csv(values, units, file))?,
        }
        console::say(&format!("{}: {} {what} of {units} values", path.display(), values.len() / units));
        Ok(())
    }
}

fn write_csv(values: &[f32], units: usize, file: &mut dyn Write) -> io::Result<()> {
    let mut file = io::BufWriter::with_capacity(1 << 16, file);
    for row in values.chunks_exact(units) {
        for (i, x) in row.iter().enumerate() {
            write!(file, "{}{x}", if i == 0 { "" } else { "," })?;
        }
        writeln!(file)?;
    }
    file.flush()
}
