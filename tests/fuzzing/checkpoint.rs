//! Checkpoints: bytes as they are, and with start and checksum made right, so that what lies behind is reached.

use super::judge;
use harmonium::{Checkpoint, Cpu, Rows, Trainer, Values};
use sha2::{Digest, Sha256};

const START: &[u8] = br#"{"__metadata__":{"harmonium":"checkpoint sha256:"#;
const DIGITS: usize = 64;

/// The same bytes with the start and the checksum of a checkpoint, where there is room for them.
pub fn sealed(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let at = 8 + START.len();
    bytes.get_mut(8..at)?.copy_from_slice(START);
    bytes.get_mut(at..at + DIGITS)?.fill(b'0');
    let digits: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    bytes[at..at + DIGITS].copy_from_slice(digits.as_bytes());
    Some(bytes)
}

pub fn run(bytes: &[u8]) {
    read(bytes);
    if let Some(sealed) = sealed(bytes.to_vec()) {
        read(&sealed);
    }
}

fn read(bytes: &[u8]) {
    let checkpoint = match Checkpoint::from_bytes(bytes, "a.file") {
        Ok(checkpoint) => checkpoint,
        Err(error) => return judge(&error),
    };
    let written = checkpoint.to_bytes().expect("can be written");
    // Bytes, as a number of a running likelihood may be none.
    let again = Checkpoint::from_bytes(&written, "a.file").expect("can be read");
    assert!(again.to_bytes().expect("can be written") == written, "another checkpoint");
    // Whether it can be gone on from or not, somebody must be told. Only small ones: the time is the fuzzer's.
    let shape = checkpoint.rbm.shape();
    let cpu = Cpu::detect().expect("a CPU");
    let trainer = Trainer::from_state(cpu, shape, checkpoint.settings, &checkpoint.trainer);
    if let Ok(mut trainer) = trainer
        && shape.n_visible() * shape.n_hidden() <= 1 << 12
        && checkpoint.settings.k <= 4
    {
        let mut rbm = checkpoint.rbm.clone();
        let mut lent = rbm.lend(cpu).expect("lent");
        // The first state of each site.
        let mut row = vec![1.0 / 255.0; shape.n_visible()];
        for (segment, units) in shape.visible().iter().filter(|(segment, _)| segment.states() > 1) {
            row[units.clone()].fill(0.0);
            units.step_by(segment.states()).for_each(|first| row[first] = 1.0);
        }
        // A number of updates at its very end must not overflow; a model of huge weights may well leave the finite numbers.
        if checkpoint.trainer.updates < u64::MAX {
            let row = Rows::with_segments(Values::F32(&row), shape.visible()).expect("a row");
            trainer.step(&mut lent, row, 0.1).expect("a step");
        }
    }
}
