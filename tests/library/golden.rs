//! Digests that hold across releases: training, sampling and saving give the same bits as in the past.
//!
//! The other tests compare one build with a sequential program of the same version, or runs of one build with each other. These
//! compare it with the past. A change that intends to alter bits edits the digest in the same commit, and documents it under
//! **Numerics** in CHANGELOG.md.

use crate::oracle::{byte_rows, fill_log, in_pool, random_bytes, random_rbm, shape};
use harmonium::{
    Algorithm, Checkpoint, Cpu, Dataset, Isa, Monitor, Purpose, Rbm, Settings, Trainer, Uniforms,
    checkpoint::{Place, fingerprint},
    idx,
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fs::File, path::Path};

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of the numbers as little-endian bytes. A digest of floating-point numbers depends on the sign of zeros.
fn digest(tensors: &[&[f32]]) -> String {
    sha256(&tensors.iter().flat_map(|tensor| tensor.iter()).flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())
}

/// The digest of an RBM's weights, visible and hidden bias after training.
fn trained(isa: Isa, mut rbm: Rbm, data: &Dataset, batch_size: usize, settings: Settings, lr: f32) -> String {
    let cpu = Cpu::with_isa(isa);
    let mut trainer = Trainer::new(cpu, rbm.shape(), settings).expect("a trainer");
    let mut lent = rbm.lend(cpu).expect("lent");
    for batch in data.batches(batch_size) {
        trainer.step(&mut lent, data.rows().range(batch), lr).expect("a step");
    }
    lent.finish().expect("finished");
    let (weights, visible_bias, hidden_bias) = rbm.into_parts();
    digest(&[&weights, &visible_bias, &hidden_bias])
}

/// The tutorial's run, limited to the first 400 rows.
#[test]
fn the_tutorials_tensors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mnist/train-images-idx3-ubyte.gz");
    let file = flate2::read::GzDecoder::new(File::open(path).expect("MNIST lies in data/mnist"));
    let mut data = idx::read_idx(file, "MNIST").expect("an IDX file").into_dataset().expect("rows");
    data.keep(0..400).expect("as many rows");
    for isa in Isa::available() {
        let rbm = Rbm::new(shape(784, 500), 123);
        let found = in_pool(2, || trained(isa, rbm, &data, 20, Settings::default(), 0.1));
        assert_eq!(found, "8fd48501f6bdb9a2bce140edd77ed7b4b9ca62b681cefebecb1b6e088c416a94", "{}", isa.name());
    }
}

#[test]
fn contrastive_divergence_at_ragged_sizes() {
    let data = Dataset::from_u8(random_bytes(217 * 97, 0.4, 1), 97).expect("rows");
    let settings =
        Settings { algorithm: Algorithm::Cd, k: 3, monitor: Monitor::Reconstruction, seed: 7, ..Settings::default() };
    for isa in Isa::available() {
        let found = trained(isa, random_rbm(shape(97, 131), 0.3, 2), &data, 7, settings, 0.05);
        assert_eq!(found, "44eeb6607e0a2b0dd179561f3a83b6f8e8b7b9dfb555697d8804fe33d72a8c6f", "{}", isa.name());
    }
}

#[test]
fn a_thousand_draws() {
    for isa in Isa::available() {
        let mut numbers = vec![0.0; 1000];
        Cpu::with_isa(isa).uniforms(&mut Uniforms::new(123, Purpose::Training), &mut numbers);
        assert_eq!(
            digest(&[&numbers]),
            "fc5bb98f86300b05d0cebfd96eaf3b77cb7b9e7ef84fcf5f093e538ad08fb799",
            "{}",
            isa.name()
        );
    }
}

/// The layout and the content of the file; its values need not come from a run.
#[test]
fn a_checkpoint() {
    let bytes = random_bytes(20 * 15, 0.4, 3);
    let rows = byte_rows(&bytes, 15);
    let cpu = Cpu::detect().expect("a CPU");
    let mut rbm = random_rbm(shape(15, 70), 0.3, 4);
    let settings = Settings { algorithm: Algorithm::Pcd { n_chains: 3 }, k: 2, ..Settings::default() };
    let mut trainer = Trainer::new(cpu, rbm.shape(), settings).expect("a trainer");
    let mut lent = rbm.lend(cpu).expect("lent");
    trainer.step(&mut lent, rows, 0.1).expect("a step");
    lent.finish().expect("finished");
    let state = trainer.state().expect("a state");
    let mut checkpoint = Checkpoint::new(rbm, settings, state, Place::new(3, 1, 1.5), fingerprint(rows));
    fill_log(&mut checkpoint);
    checkpoint.options = BTreeMap::from([("hidden".into(), "70".into()), ("lr".into(), "0.1".into())]);
    checkpoint.version = "0.1.0".into();
    assert_eq!(
        sha256(&checkpoint.to_bytes().expect("bytes")),
        "b0e57928c8b3f8578a0936cb0a2befaaa2670fc82267054c3b98fd926037dfae"
    );
}
