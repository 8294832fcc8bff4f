//! npy: whole rows of values within [0, 1] or missing, or an error.

use super::{judge, recognise};
use harmonium::{
    Values,
    npy::{MAGIC, read_npy},
};

pub fn run(bytes: &[u8]) {
    let data = read_npy(bytes, "a.file");
    if bytes.starts_with(&MAGIC) {
        recognise(bytes, data.as_ref());
    }
    let data = match data {
        Ok(data) => data,
        Err(error) => return judge(&error),
    };
    assert!(data.units() > 0);
    let len = match data.rows().values() {
        Values::U8(values) => values.len(),
        Values::F32(values) => {
            assert!(values.iter().all(|x| (0.0..=1.0).contains(x) || x.is_nan()));
            values.len()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(len, data.len() * data.units());
    assert!(bytes.len() >= len);
}
