//! Fingerprints of data.

use super::hex;
use crate::rows::{Rows, Values};
use sha2::{Digest, Sha256};

/// A fingerprint of rows: 64 hexadecimal digits, SHA-256 of type, sizes and all values.
pub fn fingerprint(rows: Rows<'_>) -> String {
    let mut fingerprint = Fingerprint::new(rows.len());
    fingerprint.add(rows);
    fingerprint.finish()
}

/// Computes a [`fingerprint`] of rows that arrive in parts, one after the other, all with the same units.
///
/// ```
/// use harmonium::{Dataset, checkpoint::{Fingerprint, fingerprint}};
///
/// let data = Dataset::from_u8(vec![0, 50, 100, 150], 2)?;
/// let mut parts = Fingerprint::new(data.len());
/// (0..2).for_each(|row| parts.add(data.rows().range(row..row + 1)));
/// assert_eq!(parts.finish(), fingerprint(data.rows()));
/// # Ok::<(), harmonium::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Fingerprint {
    hash: Sha256,
    /// The number of rows in total, and the number added so far.
    len: usize,
    came: usize,
    /// The number of words of mask in a row, and the masks of all rows once a row with a missing value has been added.
    words: usize,
    missing: Vec<u64>,
}

impl Fingerprint {
    /// Starts a fingerprint of `len` rows.
    pub fn new(len: usize) -> Self {
        Self { hash: Sha256::new(), len, came: 0, words: 0, missing: Vec::new() }
    }

    /// Adds the next rows.
    pub fn add(&mut self, rows: Rows<'_>) {
        if self.words == 0 {
            let kind: &[u8] = match rows.values() {
                Values::U8(_) => b"u8 ",
                Values::F32(_) => b"f32",
            };
            self.hash.update(kind);
            self.hash.update((self.len as u64).to_le_bytes());
            self.hash.update((rows.units() as u64).to_le_bytes());
            self.words = rows.units().div_ceil(64);
        }
        match rows.values() {
            Values::U8(values) => self.hash.update(values),
            Values::F32(values) => {
                for values in values.chunks(1024) {
                    self.hash.update(values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
                }
            }
        }
        if rows.has_missing() {
            self.missing.resize(self.came * self.words, 0);
            self.missing.extend_from_slice(rows.missing());
        }
        self.came += rows.len();
    }

    /// The fingerprint of all rows.
    pub fn finish(mut self) -> String {
        if !self.missing.is_empty() {
            self.missing.resize(self.came * self.words, 0);
            self.hash.update(b"missing");
            self.missing.iter().for_each(|word| self.hash.update(word.to_le_bytes()));
        }
        hex(&self.hash.finalize())
    }
}
