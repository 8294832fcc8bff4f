//! Arrays that a command writes, as npy or csv.

use crate::console;
use harmonium::{Error, Result, npy, storage};
use std::{
    io::{self, Write},
    path::Path,
};

/// The format of an array file, by the end of its name.
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

    /// The format of `--out`. An error if it is neither.
    pub fn of_out(path: &Path) -> Result<Self> {
        Self::of(path).ok_or_else(|| Error::Argument {
            what: "--out",
            expected: "a name that ends with .npy or .csv".into(),
            found: path.display().to_string(),
        })
    }

    /// Writes rows of `units` numbers atomically and prints a line about it. A csv file has no header, and the shortest decimals that
    /// parse to the same `f32`.
    pub fn save(self, values: &[f32], units: usize, path: &Path, what: &str) -> Result<()> {
        self.save_parts([Ok(values.to_vec())], values.len() / units, units, path, what)
    }

    /// [`save`](Self::save) for rows that arrive in parts.
    pub fn save_parts(
        self, parts: impl IntoIterator<Item = Result<Vec<f32>>>, rows: usize, units: usize, path: &Path, what: &str,
    ) -> Result<()> {
        // Report the error of the rows, not the resulting error of the file.
        let mut failure = None;
        let parts = parts.into_iter().map_while(|part| part.map_err(|problem| failure = Some(problem)).ok());
        let saved = match self {
            Format::Npy => npy::save_parts(parts, rows, units, path),
            Format::Csv => storage::write_atomically(path, |file| write_csv(parts, units, file)),
        };
        if let Some(failure) = failure {
            return Err(failure);
        }
        saved?;
        console::say(&format!("{}: {rows} {what} of {units} values", path.display()));
        Ok(())
    }
}

fn write_csv(parts: impl Iterator<Item = Vec<f32>>, units: usize, file: &mut dyn Write) -> io::Result<()> {
    let mut file = io::BufWriter::with_capacity(1 << 16, file);
    for part in parts {
        for row in part.chunks_exact(units) {
            for (i, x) in row.iter().enumerate() {
                write!(file, "{}{x}", if i == 0 { "" } else { "," })?;
            }
            writeln!(file)?;
        }
    }
    file.flush()
}
