//! A deep belief net of another program: its sigmoid layers own W and b, and RBMs train them in place.

mod oracle;

use harmonium::{
    Activations, Algorithm, Data, Device, Error, Gradient, Monitor, Rbm, RbmMut, RbmRef, Rows, Settings, Shape,
    Trainer, Values,
};
use oracle::{assert_bits, for_each_device, random_bytes, random_values, shape};

/// A layer of a feed-forward net: σ(xW + b).
struct SigmoidLayer {
    n_in: usize,
    n_out: usize,
    w: Vec<f32>,
    b: Vec<f32>,
}

impl SigmoidLayer {
    fn new(n_in: usize, n_out: usize, seed: u64) -> Self {
        let (w, _, b) = Rbm::new(shape(n_in, n_out), seed).into_parts();
        Self { n_in, n_out, w, b }
    }

    fn shape(&self) -> Shape {
        shape(self.n_in, self.n_out)
    }
}

fn settings(seed: u64) -> Settings {
    Settings { algorithm: Algorithm::Cd, k: 1, monitor: Monitor::Reconstruction, seed, ..Settings::default() }
}

/// Greedy pretraining of a stack: the RBM of each layer is trained on the mean activations of the layer below. Returns the means of
/// the top layer and the last report of each layer.
fn pretrain(device: &Device, layers: &mut [SigmoidLayer], data: Rows<'_>, epochs: usize) -> (Vec<f32>, Vec<f64>) {
    let mut means: Option<Vec<f32>> = None;
    let mut reports = Vec::new();
    for (seed, layer) in layers.iter_mut().enumerate() {
        let input = match &means {
            Some(means) => Rows::new(Values::F32(means), layer.n_in).expect("means are within [0, 1]"),
            None => data,
        };
        let held = device.load(input).expect("data");
        let mut visible_bias = vec![0.0; layer.n_in];
        let mut trainer = Trainer::new(device, layer.shape(), settings(seed as u64)).expect("trainer");
        let rbm =
            RbmMut::from_parts(layer.shape(), &mut layer.w, &mut visible_bias, &mut layer.b).expect("the layer fits");
        let mut lent = rbm.lend(device).expect("lent");
        for _ in 0..epochs {
            for first in (0..input.len()).step_by(10) {
                trainer.step(&mut lent, held.range(first..first + 10), 0.1).expect("step");
            }
        }
        reports.push(trainer.take_report().expect("report").monitor.expect("a monitor"));
        lent.finish().expect("finish");
        let mut out = Activations::default();
        let rbm = RbmRef::from_parts(layer.shape(), &layer.w, &visible_bias, &layer.b).expect("the layer fits");
        rbm.on(device).expect("resident").propup(held.range(0..input.len()), &mut out).expect("propup");
        drop(held);
        means = Some(out.mean);
    }
    (means.expect("at least one layer"), reports)
}

for_each_device! {
    fn a_stack_is_trained_in_place(device) {
        let bytes = random_bytes(50 * 60, 0.3, 1);
        let data = Rows::new(Values::U8(&bytes), 60).expect("data");
        let sizes = [60, 40, 33, 20];
        let new = || -> Vec<SigmoidLayer> {
            sizes.windows(2).enumerate().map(|(seed, n)| SigmoidLayer::new(n[0], n[1], seed as u64)).collect()
        };
        let (mut layers, untrained) = (new(), new());
        let places = |layers: &[SigmoidLayer]| -> Vec<_> { layers.iter().map(|l| (l.w.as_ptr(), l.b.as_ptr(), l.w.capacity())).collect() };
        let before = places(&layers);
        let (top, reports) = pretrain(&device, &mut layers, data, 3);
        assert_eq!(before, places(&layers), "the layers' buffers are where they were");
        for (layer, untrained) in layers.iter().zip(&untrained) {
            let moved = |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(a, b)| a != b).count();
            assert!(moved(&layer.w, &untrained.w) > layer.w.len() * 9 / 10, "nearly all weights have moved");
            assert!(moved(&layer.b, &untrained.b) == layer.b.len(), "all biases have moved");
        }
        assert!(top.len() == 50 * 20 && top.iter().all(|p| (0.0..=1.0).contains(p)));
        assert!(reports.iter().all(|report| report.is_finite() && *report < 0.0));

        // An RBM that owns the parameters of the first layer gives the same result.
        let mut owned = Rbm::new(shape(60, 40), 0);
        let mut trainer = Trainer::new(&device, owned.shape(), settings(0)).expect("trainer");
        let held = device.load(data).expect("data");
        let mut lent = owned.lend(&device).expect("lent");
        for first in (0..150).step_by(10) {
            step(&mut trainer, &mut lent, &held, first % 50);
        }
        // Dropping ends the loan as `finish` does.
        drop(lent);
        let (w, _, c) = owned.into_parts();
        assert_bits(&layers[0].w, &w, "weights");
        assert_bits(&layers[0].b, &c, "hidden bias");
    }

    /// The feed-forward net sees the trained parameters at once, and the trainer sees the net's changes.
    fn the_net_and_the_rbm_are_one(device) {
        let mut layer = SigmoidLayer::new(12, 7, 5);
        let mut visible_bias = vec![0.0; 12];
        let x = random_values(30 * 12, 0.5, 5);
        let held = device.load(Rows::new(Values::F32(&x), 12).expect("rows")).expect("data");
        let mut trainer = Trainer::new(&device, layer.shape(), settings(5)).expect("trainer");
        let shape = layer.shape();
        for round in 0..3 {
            // Fine-tuning changes the layer between loans.
            layer.w[round] += 0.25;
            let before = layer.w.clone();
            let rbm = RbmMut::from_parts(shape, &mut layer.w, &mut visible_bias, &mut layer.b).expect("fits");
            let mut lent = rbm.lend(&device).expect("lent");
            assert_bits(lent.to_rbm().expect("copy").view().weights(), &before, "what is lent");
            step(&mut trainer, &mut lent, &held, 10 * round);
            let after = lent.to_rbm().expect("copy");
            lent.finish().expect("finish");
            assert_bits(after.view().weights(), &layer.w, "what came back");
            assert!(before != layer.w);
        }
    }
}

/// One update with ten rows.
fn step(trainer: &mut Trainer, lent: &mut harmonium::Lent<'_>, held: &Data<'_>, first: usize) {
    trainer.step(lent, held.range(first..first + 10), 0.1).expect("step");
}

/// Arguments that do not fit give an error with their name, and no panic.
#[test]
fn misfits_are_errors() {
    let two = shape(2, 3);
    let length = |what, expected, found| Error::Length { what, expected, found };
    let error = RbmMut::from_parts(two, &mut [0.0; 5], &mut [0.0; 2], &mut [0.0; 3]).expect_err("short");
    assert_eq!(error, length("weights", 6, 5));
    let error = RbmMut::from_parts(two, &mut [0.0; 6], &mut [0.0; 3], &mut [0.0; 3]).expect_err("long");
    assert_eq!(error, length("visible_bias", 2, 3));
    let error = RbmRef::from_parts(two, &[0.0; 6], &[0.0; 2], &[0.0; 4]).expect_err("long");
    assert_eq!(error, length("hidden_bias", 3, 4));
    let error = RbmRef::from_parts(two, &[0.0, 1.0, f32::NAN, 0.0, 0.0, 0.0], &[0.0; 2], &[0.0; 3]).expect_err("NaN");
    assert!(matches!(error, Error::Value { what: "weights", index: 2, .. }));
    assert!(Shape::new(0, 3).is_err() && Shape::new(3, 0).is_err() && Shape::new(1 << 16, 1 << 16).is_err());
    assert!(Rows::new(Values::F32(&[0.0, 1.5]), 2).is_err() && Rows::new(Values::F32(&[0.0, f32::NAN]), 2).is_err());
    assert!(Rows::new(Values::U8(&[1, 2, 3]), 2).is_err() && Rows::new(Values::U8(&[]), 0).is_err());

    let device = harmonium::Cpu::detect().expect("cpu");
    let mut rbm = Rbm::new(two, 0);
    let right = Settings::default();
    assert!(Trainer::new(device, two, Settings { k: 0, ..right }).is_err());
    assert!(Trainer::new(device, two, Settings { algorithm: Algorithm::Pcd { n_chains: 0 }, ..right }).is_err());
    let mut trainer = Trainer::new(device, two, right).expect("trainer");
    let mut other = Trainer::new(device, shape(2, 4), right).expect("trainer");
    let before = rbm.clone();
    let mut lent = rbm.lend(device).expect("lent");
    let rows = |values, units| Rows::new(Values::F32(values), units).expect("rows");
    assert!(trainer.step(&mut lent, rows(&[0.5; 3], 3), 0.1).is_err());
    assert!(trainer.step(&mut lent, rows(&[], 2), 0.1).is_err());
    assert!(trainer.step(&mut lent, rows(&[0.5; 2], 2), f32::NAN).is_err());
    assert!(other.step(&mut lent, rows(&[0.5; 2], 2), 0.1).is_err());
    assert!(lent.propup(rows(&[0.5; 3], 3), &mut Activations::default()).is_err());
    assert!(lent.propdown(rows(&[0.5; 2], 2), &mut Activations::default()).is_err());
    assert!(lent.free_energy(rows(&[0.5; 3], 1)).is_err());
    let mut gradient = Gradient::zero(two);
    let mut weighted = |weights| lent.free_energy_gradient(rows(&[0.5; 4], 2), weights, &mut gradient);
    assert_eq!(weighted(&[1.0]).expect_err("one weight for two rows"), length("weights", 2, 1));
    let error = weighted(&[1.0, f32::INFINITY]).expect_err("infinity");
    assert!(matches!(error, Error::Value { what: "weights", index: 1, .. }));
    drop(lent);
    assert_eq!(rbm, before, "what fails changes nothing");
}
