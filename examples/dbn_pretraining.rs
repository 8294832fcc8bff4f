//! Greedy pretraining of a deep belief net, with parameters that the layers own and the RBMs borrow.
//!
//! Three sigmoid layers own their weights W and bias b, as in any network crate. An RBM trains each of them in place:
//! `RbmMut::from_parts` borrows W and b from the layer. Only the visible bias, which the net does not need, belongs to the training.
//! Each layer is trained on the mean activations of the one below, which are computed once.
//!
//! `cargo run --release --features gzip --example dbn_pretraining` takes seconds.

use harmonium::{Activations, Algorithm, Cpu, Dataset, Monitor, Rbm, RbmMut, RbmRef, Result, Settings, Shape, Trainer};
use std::error::Error;

/// h = σ(vW + b), a layer of a network that is independent of RBMs.
struct SigmoidLayer {
    shape: Shape,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl SigmoidLayer {
    fn new(n_in: usize, n_out: usize, seed: u64) -> Result<Self> {
        let shape = Shape::new(n_in, n_out)?;
        let (weights, _, bias) = Rbm::new(shape, seed).into_parts();
        Ok(Self { shape, weights, bias })
    }

    /// Trains W and b of this layer by CD-1.
    fn pretrain(&mut self, cpu: &Cpu, data: &Dataset, epochs: usize, seed: u64) -> Result<()> {
        let settings =
            Settings { algorithm: Algorithm::Cd, k: 1, monitor: Monitor::Reconstruction, seed, ..Settings::default() };
        let mut visible_bias = vec![0.0; self.shape.n_visible()];
        let mut trainer = Trainer::new(cpu, self.shape, settings)?;
        let mut rbm =
            RbmMut::from_parts(self.shape, &mut self.weights, &mut visible_bias, &mut self.bias)?.lend(cpu)?;
        for epoch in 0..epochs {
            for batch in data.batches(10) {
                trainer.step(&mut rbm, data.rows().range(batch), 0.01)?;
            }
            let cost = trainer.take_report()?.monitor.unwrap_or(f64::NAN);
            println!("  epoch {epoch}: reconstruction {cost:.2}");
        }
        rbm.finish()
    }

    /// The mean activations of all rows.
    fn forward(&self, cpu: &Cpu, data: &Dataset) -> Result<Dataset> {
        let visible_bias = vec![0.0; self.shape.n_visible()];
        let rbm = RbmRef::from_parts(self.shape, &self.weights, &visible_bias, &self.bias)?.on(cpu)?;
        let mut hidden = Activations::default();
        rbm.propup(data.rows(), &mut hidden)?;
        Dataset::from_f32(hidden.mean, self.shape.n_hidden())
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let mut data = Dataset::open(concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist"))?;
    data.keep(0..5_000)?;

    let cpu = Cpu::detect()?;
    let sizes = [data.units(), 256, 128, 64];
    let mut net: Vec<SigmoidLayer> = Vec::new();
    for (n, pair) in sizes.windows(2).enumerate() {
        net.push(SigmoidLayer::new(pair[0], pair[1], n as u64)?);
    }
    for (n, layer) in net.iter_mut().enumerate() {
        println!("layer {n}: {}", layer.shape);
        let (place, before) = (layer.weights.as_ptr(), layer.weights.clone());
        layer.pretrain(&cpu, &data, 3, n as u64)?;
        assert_eq!(layer.weights.as_ptr(), place, "the layer still owns the same buffer");
        assert_ne!(layer.weights, before, "the layer has been trained");
        data = layer.forward(&cpu, &data)?;
    }
    println!("{} rows of {} values at the top", data.len(), data.units());
    Ok(())
}
