//! FASTA: one unit of each site on, or an error.

use super::{judge, recognise};
use harmonium::formats::fasta::{START, read_fasta};

pub fn run(bytes: &[u8]) {
    let alignment = match read_fasta(bytes, "a.file") {
        Ok(alignment) => alignment,
        Err(error) => {
            if bytes.starts_with(&START) {
                recognise(bytes, Err(&error));
            }
            return judge(&error);
        }
    };
    let (n, sites, letters) = (alignment.names().len(), alignment.sites(), alignment.alphabet().letters());
    assert!(n > 0 && sites > 0 && n * sites <= bytes.len());
    let sequences: Vec<_> = (0..n).map(|number| alignment.sequence(number).to_owned()).collect();
    let unknown = sequences.iter().flat_map(|sequence| sequence.chars()).filter(|c| !letters.contains(*c));
    // T and U are one letter.
    assert!(unknown.count() >= alignment.n_unknown());
    let data = alignment.into_dataset().expect("rows");
    assert_eq!((data.len(), data.units()), (n, sites * letters.len()));
    for row in 0..n {
        let on = |site: usize| {
            (0..letters.len()).filter(|letter| data.rows().bit(row, site * letters.len() + letter)).count()
        };
        assert!((0..sites).all(|site| on(site) == 1));
    }
    if bytes.starts_with(&START) {
        recognise(bytes, Ok(&data));
    }
}
