//! A likelihood that can be published: PCD with the centred gradient and a falling learning rate on MNIST's bits, then log Z.
//!
//! `cargo run --release --features gzip --example likelihood` takes seconds. The model has 20 hidden units, so log Z is exact.

use harmonium::{
    Algorithm, Binarise, Cpu, Descent, Epochs, Monitor, Rbm, Settings, Trainer,
    descent::{Centring, Rate},
    formats::mnist::{self, Split},
    log_likelihood, log_partition,
};
use std::error::Error;

const MNIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist");
const BATCH: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut images = mnist::open(MNIST, Split::Train)?.rows;
    images.keep(0..10_000)?;

    let descent = Descent { centring: Some(Centring::default()), l2: 2e-4, ..Descent::default() };
    let settings = Settings {
        algorithm: Algorithm::Pcd { n_chains: 100 },
        k: 1,
        monitor: Monitor::None,
        seed: 1,
        descent,
        ..Settings::default()
    };
    let cpu = Cpu::detect()?;
    let mut rbm = Rbm::from_data(images.rows(), 20, 1)?.on(cpu)?;
    let mut trainer = Trainer::new(cpu, rbm.shape(), settings)?;
    trainer.centre_at(&images.rows().clipped_means())?;

    // Rows in a new order and fresh bits in every epoch; the learning rate falls to 0.
    let (n_epochs, per_epoch) = (10, (images.len() / BATCH) as u64);
    let mut epochs = Epochs::new(true, Binarise::Sample, 1)?;
    for epoch in 0..n_epochs {
        let shown = epochs.show(&images, epoch)?;
        for (n, batch) in shown.batches(BATCH).enumerate() {
            let update = epoch * per_epoch + n as u64;
            let lr = Rate::Linear.at(0.2, update, n_epochs * per_epoch);
            trainer.step(&mut rbm, shown.rows().range(batch), lr)?;
        }
    }

    let test = mnist::open(MNIST, Split::Test)?.rows.binarised();
    let log_z = log_partition::exact(rbm.to_rbm()?.view())?;
    let result = log_likelihood(&rbm, &test, &log_z)?;
    println!("{:.2} nats a row, standard error {:.2} ({})", result.mean, result.standard_error, result.reason);
    Ok(())
}
