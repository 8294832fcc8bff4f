//! IDX: what is read is what was written, and nothing else is read.

use super::{judge, recognise};
use harmonium::idx::read_idx;

pub fn run(bytes: &[u8]) {
    let read = match read_idx(bytes, "a.file") {
        Ok(read) => read,
        Err(error) => return judge(&error),
    };
    let product = read.dimensions().iter().map(|&size| size as u128).fold(1, u128::saturating_mul);
    assert!(product == read.values().len() as u128 || read.dimensions().contains(&0) && read.values().is_empty());
    if bytes[0] == 0 {
        let sizes = read.dimensions().iter().flat_map(|&size| (size as u32).to_be_bytes());
        let header = [0, 0, 8, read.dimensions().len() as u8].into_iter().chain(sizes);
        assert!(header.chain(read.values().iter().copied()).eq(bytes.iter().copied()), "other bytes give the same");
    }
    let rows = read.dimensions()[0];
    let data = read.clone().into_dataset();
    recognise(bytes, data.as_ref());
    match data {
        Ok(data) => assert_eq!(data.len(), rows),
        Err(error) => judge(&error),
    }
    if let Err(error) = read.into_labels() {
        judge(&error);
    }
}
