//! The tutorial's run on MNIST with library calls only: PCD-15, 500 hidden units, then filters and samples as images.
//!
//! `cargo run --release --features gzip,png --example mnist` takes seconds; `-- --full` makes the whole run.

use harmonium::{
    Activations, Chains, Cpu, Purpose, Rbm, Settings, Shape, Trainer, Uniforms,
    formats::mnist::{self, Split},
    model, raster,
};
use std::{error::Error, path::Path};

const MNIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist");

fn main() -> Result<(), Box<dyn Error>> {
    let (rows, epochs) = if std::env::args().any(|argument| argument == "--full") { (50_000, 15) } else { (10_000, 2) };
    let mut images = mnist::open(MNIST, Split::Train)?.rows;
    images.keep(0..rows)?;

    let cpu = Cpu::detect()?;
    let mut rbm = Rbm::new(Shape::new(images.units(), 500)?, 123);
    let mut trainer = Trainer::new(cpu, rbm.shape(), Settings::default())?;
    let mut lent = rbm.lend(cpu)?;
    for epoch in 0..epochs {
        for batch in images.batches(20) {
            trainer.step(&mut lent, images.rows().range(batch), 0.1)?;
        }
        println!("epoch {epoch}: pseudo-likelihood {:.2}", trainer.take_report()?.monitor.unwrap_or(f64::NAN));
    }
    lent.finish()?;

    // Twenty chains start at test images from all over the file. The images show means; the chains continue from samples.
    let test = mnist::open(MNIST, Split::Test)?.rows.shuffled(123);
    let resident = rbm.on(cpu)?;
    let mut chains = Chains::from_visible(&resident, test.rows().range(0..20), Uniforms::new(123, Purpose::Sampling))?;
    let (mut visible, mut means) = (Activations::default(), Vec::new());
    for _ in 0..10 {
        chains.sweep(&resident, 1000)?;
        chains.visible(&resident, &mut visible)?;
        means.extend_from_slice(&visible.mean);
    }

    let out = Path::new("harmonium-out/example");
    std::fs::create_dir_all(out)?;
    model::save(rbm.view(), &out.join("model.safetensors"))?;
    raster::write_png(
        &raster::filters(rbm.view(), (28, 28), (10, 10), raster::FilterScale::Own)?,
        &out.join("filters.png"),
    )?;
    raster::write_png(&raster::sample_sheet(&means, (28, 28), 10, 20)?, &out.join("samples.png"))?;
    println!("written to {}", out.display());
    Ok(())
}
