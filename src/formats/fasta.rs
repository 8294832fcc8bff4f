//! FASTA files: aligned sequences of RNA, DNA or proteins, with one unit for each letter that a site can have.
//!
//! | [`Alphabet`] | letters, in the order of their units | chosen for |
//! |---|---|---|
//! | `Rna` | `-ACGU` | sequences of nucleotides with at least one U |
//! | `Dna` | `-ACGT` | other sequences of nucleotides |
//! | `Protein` | `-ACDEFGHIKLMNPQRSTVWY` | all other sequences |
//!
//! Row r has sites × letters values: unit s·letters + l is 1 if sequence r has letter l at site s. Exactly one unit of each site
//! is on. Sequences are nucleotides if every letter is one of their codes (A, C, G, T, U and the ambiguous R, Y, S, W, K, M, B,
//! D, H, V, N) and at least half of the letters are A, C, G, T or U.
//!
//! - Lower case counts as upper case, `.` as the gap `-`, and T and U are the same nucleotide.
//! - All other letters, and `*`, are unknown or ambiguous. They count as gaps; [`Alignment::n_unknown`] counts them.
//! - Blanks and line breaks within a sequence are ignored. Any other character is an error.
//! - All sequences must have the same number of sites. The first one that differs is an error.
//!
//! With feature `gzip` a gzipped stream is recognised by its first two bytes and unpacked while it is read.

use super::{
    Reading, read_unpacked,
    table::{Numbers, Table},
};
use crate::{
    dataset::Dataset,
    error::Result,
    storage::{format_error, stream_error},
    units::{Segment, Segments},
};
use std::io::{BufRead, BufReader, ErrorKind, Read};

/// The first byte of a FASTA file.
pub const START: [u8; 1] = *b">";
/// The greatest length of a name in bytes; the rest of a longer name is dropped.
const LONGEST_NAME: usize = 1 << 16;

/// The set of letters that a site can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alphabet {
    /// A gap or one of four nucleotides, with uracil.
    Rna,
    /// A gap or one of four nucleotides, with thymine.
    Dna,
    /// A gap or one of twenty amino acids.
    Protein,
}

impl Alphabet {
    /// `RNA`, `DNA` or `protein`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rna => "RNA",
            Self::Dna => "DNA",
            Self::Protein => "protein",
        }
    }

    /// The letters, in the order of their units.
    pub fn letters(self) -> &'static str {
        match self {
            Self::Rna => "-ACGU",
            Self::Dna => "-ACGT",
            Self::Protein => "-ACDEFGHIKLMNPQRSTVWY",
        }
    }

    /// The alphabet of sequences with these counts of capital letters, A to Z.
    fn of(counts: &[u64; 26]) -> Self {
        let sum = |letters: &str| letters.bytes().map(|letter| counts[usize::from(letter - b'A')]).sum::<u64>();
        let (all, exact) = (counts.iter().sum::<u64>(), sum("ACGTU"));
        if exact + sum("RYSWKMBDHVN") < all || 2 * exact < all {
            Self::Protein
        } else if sum("U") > 0 {
            Self::Rna
        } else {
            Self::Dna
        }
    }

    /// The number of a letter's unit, or `None` if the alphabet lacks the letter.
    fn unit(self, letter: u8) -> Option<usize> {
        let letter = match (self, letter) {
            (Self::Rna, b'T') => b'U',
            (Self::Dna, b'U') => b'T',
            _ => letter,
        };
        self.letters().bytes().position(|one| one == letter)
    }
}

/// Aligned sequences.
#[derive(Clone, Debug, PartialEq)]
pub struct Alignment {
    names: Vec<String>,
    /// Capital letters and gaps: sequences × sites.
    letters: Vec<u8>,
    sites: usize,
    alphabet: Alphabet,
}

/// Reads a FASTA file, gzipped or not; `source_name` is its name in errors.
///
/// # Errors
/// [`Error::Format`](crate::Error::Format) if the stream is not a FASTA file as the module describes it;
/// [`Error::File`](crate::Error::File) if it cannot be read.
///
/// ```
/// use harmonium::formats::fasta::{Alphabet, read_fasta};
///
/// let family = read_fasta(&b">one\nGA-U\n>two\ngnAU\n"[..], "family.fasta")?;
/// assert_eq!((family.alphabet(), family.sites(), family.n_unknown()), (Alphabet::Rna, 4, 1));
/// assert_eq!(family.sequence(1), "GNAU");
/// let rows = family.into_dataset()?;
/// assert_eq!((rows.len(), rows.units()), (2, 20));
/// # Ok::<(), harmonium::Error>(())
/// ```
pub fn read_fasta(reader: impl Read, source_name: &str) -> Result<Alignment> {
    read_fasta_within(reader, source_name, isize::MAX as u64)
}

/// [`read_fasta`] with a limit of memory: refuses sequences that need more than `max_bytes`, for their letters and rows together.
///
/// # Errors
/// Those of [`read_fasta`].
pub fn read_fasta_within(reader: impl Read, source_name: &str, max_bytes: u64) -> Result<Alignment> {
    read_unpacked(reader, source_name, |reader| read_plain(reader, source_name, max_bytes))
}

fn read_plain(reader: &mut dyn Read, source_name: &str, max_bytes: u64) -> Result<Alignment> {
    let fail = |expected: &str, found: String| format_error(source_name, expected, found);
    let mut reader = BufReader::new(reader);
    let (mut names, mut letters, mut counts) = (Vec::<Vec<u8>>::new(), Vec::new(), [0; 26]);
    // sites: length of the first sequence, once it is complete. before: letters before the current sequence. name_bytes: bytes of names.
    let (mut sites, mut before, mut name_bytes) = (None, 0, 0_u64);
    let (mut in_name, mut at_start) = (false, true);
    let mut ended = |number: usize, length: usize| {
        let expected = *sites.get_or_insert(length);
        match length == expected && length > 0 {
            true => Ok(()),
            false if length == 0 => {
                Err(fail("at least one letter in each sequence", format!("none in sequence {number}")))
            }
            false => {
                let found = format!("{length} in sequence {number}");
                Err(fail(&format!("aligned sequences, {expected} letters in each as in the first one"), found))
            }
        }
    };
    loop {
        let bytes = match reader.fill_buf() {
            Ok(bytes) => bytes,
            Err(problem) if problem.kind() == ErrorKind::Interrupted => continue,
            Err(problem) => return Err(stream_error(source_name, problem)),
        };
        if bytes.is_empty() {
            break;
        }
        let n = bytes.len();
        for &byte in bytes {
            match byte {
                b'\n' => (in_name, at_start) = (false, true),
                _ if in_name => {
                    if let Some(name) = names.last_mut().filter(|name| byte != b'\r' && name.len() < LONGEST_NAME) {
                        name.push(byte);
                        name_bytes += 1;
                    }
                }
                b'>' if at_start => {
                    if !names.is_empty() {
                        ended(names.len(), letters.len() - before)?;
                    }
                    (in_name, before) = (true, letters.len());
                    names.push(Vec::new());
                    name_bytes += size_of::<Vec<u8>>() as u64;
                }
                b'\r' | b' ' | b'\t' => {}
                _ if names.is_empty() => {
                    return Err(fail(
                        "a FASTA file, which begins with >",
                        format!("a file that begins with [{byte:02x}]"),
                    ));
                }
                b'-' | b'.' | b'*' | b'A'..=b'Z' | b'a'..=b'z' => {
                    let letter = if byte == b'.' { b'-' } else { byte.to_ascii_uppercase() };
                    if letter.is_ascii_alphabetic() {
                        counts[usize::from(letter - b'A')] += 1;
                    }
                    letters.push(letter);
                    at_start = false;
                }
                _ => {
                    let shown = char::from(byte).escape_default();
                    let place = format!("letter {} of sequence {}", letters.len() - before + 1, names.len());
                    return Err(fail("letters, -, . or * in sequences", format!("{shown} as {place}")));
                }
            }
        }
        reader.consume(n);
        // Every letter becomes at least five units.
        if (6 * letters.len() as u64).saturating_add(name_bytes) > max_bytes {
            let expected = format!("sequences that take at most {max_bytes} bytes of memory");
            return Err(fail(&expected, format!("{} letters and more", letters.len())));
        }
    }
    if names.is_empty() {
        return Err(fail("a FASTA file, which begins with >", "nothing".into()));
    }
    ended(names.len(), letters.len() - before)?;
    let (alphabet, sites) = (Alphabet::of(&counts), letters.len() / names.len());
    let needed = (letters.len() as u64).saturating_mul(1 + alphabet.letters().len() as u64).saturating_add(name_bytes);
    if needed > max_bytes {
        let expected = format!("sequences that take at most {max_bytes} bytes of memory");
        return Err(fail(&expected, format!("{} sequences of {sites} letters, {needed} bytes", names.len())));
    }
    let names = names.into_iter().map(|name| String::from_utf8_lossy(&name).into_owned()).collect();
    Ok(Alignment { names, letters, sites, alphabet })
}

impl Alignment {
    /// The alphabet of the sequences.
    pub fn alphabet(&self) -> Alphabet {
        self.alphabet
    }

    /// The number of letters of each sequence, gaps included.
    pub fn sites(&self) -> usize {
        self.sites
    }

    /// The text after the `>` of each sequence.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Sequence number `number`, counted from 0, in capital letters and gaps.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn sequence(&self, number: usize) -> &str {
        std::str::from_utf8(&self.letters[number * self.sites..][..self.sites]).expect("letters are ASCII")
    }

    /// The number of letters outside of the alphabet. They count as gaps.
    pub fn n_unknown(&self) -> usize {
        self.letters.iter().filter(|&&letter| self.alphabet.unit(letter).is_none()).count()
    }

    /// Converts the sequences to rows for Potts units: sequences × (sites · letters) bits, one of each site on.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) if a row would have more units than a [`Shape`](crate::Shape) allows.
    pub fn into_dataset(self) -> Result<Dataset> {
        let segments = self.segments()?;
        let values = self.into_bits(segments).into_iter().map(|bit| 255 * bit).collect();
        Dataset::from_u8(values, segments.units())?.with_segments(segments)
    }

    fn segments(&self) -> Result<Segments> {
        let (sites, states) = (self.sites.try_into().unwrap_or(u32::MAX), self.alphabet.letters().len() as u32);
        Segments::new(&[Segment::Potts { sites, states }])
    }

    fn into_bits(self, segments: Segments) -> Vec<u8> {
        let states = segments.units() / self.sites;
        let mut values = vec![0; self.letters.len() * states];
        for (&letter, site) in self.letters.iter().zip(values.chunks_exact_mut(states)) {
            site[self.alphabet.unit(letter).unwrap_or(0)] = 1;
        }
        values
    }
}

/// Reads a FASTA file as bits.
pub(super) fn read_table(reader: &mut dyn Read, source_name: &str, how: &Reading) -> Result<Table> {
    let alignment = read_fasta_within(reader, source_name, how.max_bytes)?;
    let (n, sites, unknown) = (alignment.names.len(), alignment.sites, alignment.n_unknown());
    let (name, letters) = (alignment.alphabet.name(), alignment.alphabet.letters());
    let unknown_note = if unknown == 0 { String::new() } else { format!("; {unknown} unknown letters count as gaps") };
    let text = format!("{n} sequences of {sites} sites, {name}, each site one of {letters}{unknown_note}");
    let segments = alignment.segments()?;
    let numbers = Numbers::Bits(alignment.into_bits(segments));
    Ok(Table { declared: Some((segments, text)), ..Table::new(numbers, segments.units()) })
}
