//! Models: finite parameters that come back to the bit, or an error.

use super::judge;
use harmonium::model;

pub fn run(bytes: &[u8]) {
    let rbm = match model::from_bytes(bytes, "a.file") {
        Ok(rbm) => rbm,
        Err(error) => return judge(&error),
    };
    rbm.view().check_finite().expect("only finite parameters are read");
    let written = model::to_bytes(rbm.view()).expect("can be written");
    let again = model::from_bytes(&written, "a.file").expect("can be read");
    assert!(model::to_bytes(again.view()).expect("can be written") == written);
}
