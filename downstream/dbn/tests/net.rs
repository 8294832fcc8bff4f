//! Small nets against plain loops: gradients, learning, ownership of buffers, threads, files.

use harmonium::{Cpu, Dataset, Device, Error, Purpose, Uniforms, formats::Labels, model};
use harmonium_dbn::{
    Digits, FineTuning, Layer, Net, Pretraining,
    backprop::{Backprop, Dropout},
    fine_tune::{error, fine_tune},
    pretrain::{pretrain, train_layer},
    sample::sample,
};
use std::path::PathBuf;

const NO_DROPOUT: Dropout = Dropout { inputs: 0.0, hidden: 0.0 };

fn cpu() -> Cpu {
    Cpu::detect().expect("a CPU")
}

/// Pseudo-random numbers in [0, 1).
fn uniforms(n: usize, seed: u64) -> Vec<f32> {
    let mut out = vec![0.0; n];
    cpu().uniforms(&mut Uniforms::new(seed, Purpose::Other), &mut out);
    out
}

/// Pseudo-random numbers in [-1, 1).
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    uniforms(n, seed).iter().map(|u| 2.0 * u - 1.0).collect()
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|class| class.to_string()).collect()
}

/// A net with a layer of classes on top.
fn net(sizes: &[usize], seed: u64) -> Net {
    let layer = |(n, pair): (usize, &[usize])| {
        let mut layer = Layer::zero(pair[0], pair[1]).expect("sizes");
        let seed = seed + 10 * n as u64;
        layer.weights = numbers(pair[0] * pair[1], seed);
        layer.hidden_bias = numbers(pair[1], seed + 1);
        layer
    };
    Net { layers: sizes.windows(2).enumerate().map(layer).collect(), classes: names(sizes[sizes.len() - 1]) }
}

/// The dropout masks by definition, from the numbers of the sequence, layer after layer.
fn masks(sizes: &[usize], rows: usize, dropout: Dropout, seed: u64) -> Vec<Vec<f64>> {
    let all = uniforms(rows * sizes.iter().sum::<usize>(), seed);
    let mut rest = all.iter();
    let mask = |(l, &size): (usize, &usize)| {
        let share = if l == 0 { dropout.inputs } else { dropout.hidden };
        let of = |&u: &f32| if u < share { 0.0 } else { 1.0 / (1.0 - f64::from(share)) };
        let n = if share > 0.0 { rows * size } else { 0 };
        let mut mask: Vec<f64> = rest.by_ref().take(n).map(of).collect();
        mask.resize(rows * size, 1.0);
        mask
    };
    sizes.iter().enumerate().map(mask).collect()
}

/// The cost of a net by plain loops in `f64`, with one changed bias or weight.
fn cost(net: &Net, values: &[f32], classes: &[usize], masks: &[Vec<f64>], changed: (usize, bool, usize, f64)) -> f64 {
    let mut total = 0.0;
    for (r, (row, &class)) in values.chunks(net.layers[0].inputs()).zip(classes).enumerate() {
        let mut x: Vec<f64> = row.iter().map(|&x| x.into()).collect();
        for (l, layer) in net.layers.iter().enumerate() {
            let n = layer.outputs();
            let at = |is_bias: bool, i: usize, value: f32| match changed {
                (layer, bias, index, by) if (layer, bias, index) == (l, is_bias, i) => f64::from(value) + by,
                _ => f64::from(value),
            };
            let mask = &masks[l][r * x.len()..];
            let a = |j: usize| {
                let term = |(i, x): (usize, &f64)| x * mask[i] * at(false, i * n + j, layer.weights[i * n + j]);
                x.iter().enumerate().map(term).sum::<f64>() + at(true, j, layer.hidden_bias[j])
            };
            let a: Vec<f64> = (0..n).map(a).collect();
            if l + 1 == net.layers.len() {
                total += a.iter().map(|a| a.exp()).sum::<f64>().ln() - a[class];
            } else {
                x = a.iter().map(|a| 1.0 / (1.0 + (-a).exp())).collect();
            }
        }
    }
    total / classes.len() as f64
}

/// Sums have at most 9 + 7 + 5 + 4 = 25 terms on the way to a number, inputs are below 2 and weights below 1 in size: so the terms of
/// the three layers add up to less than 3·9·2 = 54, and roundings of 2^-24 to less than 25·54·2^-24 = 8.1e-5. Central differences of
/// step 1e-4 in `f64` err by a sixth of 1e-8 times the third derivative, whose terms are products of three inputs and weights: by
/// less than 1e-6.
#[test]
fn gradients_are_differences_of_the_cost() {
    let (sizes, seed) = ([9, 7, 5, 4], 7);
    let net = net(&sizes, 1);
    let (values, classes) = (uniforms(6 * 9, 2), [0, 1, 2, 3, 1, 0]);
    for dropout in [NO_DROPOUT, Dropout { inputs: 0.2, hidden: 0.5 }, Dropout { inputs: 0.0, hidden: 0.3 }] {
        let masks = masks(&sizes[..3], 6, dropout, seed);
        assert_eq!(masks.concat().contains(&0.0), dropout != NO_DROPOUT);
        let (mut backprop, mut draws) = (Backprop::new(&net), Uniforms::new(seed, Purpose::Other));
        let found = backprop.gradient(&net, &values, &classes, Some((dropout, cpu(), &mut draws)));
        let expected = cost(&net, &values, &classes, &masks, (9, false, 0, 0.0));
        assert!((found - expected).abs() < 8.1e-5, "{found} {expected}");
        for (l, gradient) in backprop.gradients.iter().enumerate() {
            for (is_bias, gradient) in [(false, &gradient.weights), (true, &gradient.bias)] {
                assert!(gradient.iter().any(|&g| g.abs() > 1e-3), "a gradient that can be told from rounding");
                for (i, &found) in gradient.iter().enumerate() {
                    let at = |by| cost(&net, &values, &classes, &masks, (l, is_bias, i, by));
                    let expected = (at(1e-4) - at(-1e-4)) / 2e-4;
                    let off = (f64::from(found) - expected).abs();
                    assert!(off < 8.2e-5, "{dropout:?}, layer {l}, bias {is_bias}, {i}: {found} {expected}");
                }
            }
        }
    }
}

/// Whether unit i of 16 is on in a row of this class: the left, right, even or odd half.
fn is_on(class: usize, i: usize) -> bool {
    match class {
        0 => i < 8,
        1 => i >= 8,
        2 => i.is_multiple_of(2),
        _ => !i.is_multiple_of(2),
    }
}

fn stripes(rows: usize) -> Digits {
    let values = (0..rows * 16).map(|n| if is_on(n / 16 % 4, n % 16) { 230 } else { 10 }).collect();
    let labels = Labels::new(names(4), (0..rows as u32).map(|row| Some(row % 4)).collect()).expect("labels");
    Digits::new(Dataset::from_u8(values, 16).expect("rows"), labels).expect("as many")
}

fn pretraining() -> Pretraining {
    Pretraining { epochs: 20, batch: 20, lr: 0.1, ..Pretraining::default() }
}

fn fine_tuning() -> FineTuning {
    FineTuning { epochs: 10, batch: 20, lr: 0.1, dropout: NO_DROPOUT, ..FineTuning::default() }
}

fn pretrained(sizes: &[usize]) -> Net {
    pretrain(&cpu().into(), &stripes(400), sizes, &pretraining(), 5, |_, _, _| {}).expect("pretrained")
}

#[test]
fn a_stack_learns_stripes() {
    let (train, validation, device) = (stripes(400), stripes(40), Device::from(cpu()));
    let mut reports = Vec::new();
    let told = |layer: usize, epoch: u64, cost: f64| reports.push((layer, epoch, cost));
    let mut net = pretrain(&device, &train, &[12, 20], &pretraining(), 5, told).expect("pretrained");
    assert_eq!(reports.len(), 40);
    for layer in reports.chunks(20) {
        assert!(layer[19].2 > layer[0].2, "a layer that learns reconstructs better: {layer:?}");
    }

    // Samples of a class show its pattern: its units have greater means than the others.
    let classes: Vec<usize> = (0..20).map(|chain| chain % 4).collect();
    let means = sample(&device, &net, &classes, 3, 10, 5).expect("samples");
    assert_eq!(means.len(), 3 * 20 * 16);
    for class in 0..4 {
        let [mut on, mut off] = [0.0; 2];
        for picture in means.chunks_exact(16).skip(class).step_by(4) {
            picture.iter().enumerate().for_each(|(i, x)| *if is_on(class, i) { &mut on } else { &mut off } += x);
        }
        assert!(on > off, "class {class}: {on} {off}");
    }

    net.add_classes().expect("classes");
    let places = |net: &Net| -> Vec<_> {
        net.layers.iter().map(|l| (l.weights.as_ptr(), l.weights.capacity(), l.hidden_bias.as_ptr())).collect()
    };
    let before = places(&net);
    let best = fine_tune(cpu(), &mut net, &train, &validation, &fine_tuning(), 5, |_| {}).expect("fine-tuned");
    assert_eq!(best, 0.0, "four patterns without noise");
    assert_eq!(before, places(&net), "fine-tuning works in the layers' own buffers");
    assert_eq!(error(&mut Backprop::new(&net), &net, &validation), best, "the best net is left there");
}

#[test]
fn buffers_are_lent_and_returned() {
    let mut layer = Layer::zero(16, 12).expect("sizes");
    let place = |layer: &Layer| {
        let of = |values: &Vec<f32>| (values.as_ptr(), values.len(), values.capacity());
        [of(&layer.weights), of(&layer.visible_bias), of(&layer.hidden_bias)]
    };
    layer.weights = numbers(16 * 12, 9);
    let (before, weights, data) = (place(&layer), layer.weights.clone(), stripes(40));
    train_layer(&cpu().into(), &mut layer, data.rows(), false, &pretraining(), 1, |_, _| {}).expect("trained");
    assert_eq!(before, place(&layer), "the same allocations");
    assert!(layer.weights.iter().zip(&weights).all(|(a, b)| a != b), "that hold what was learnt");
}

/// The widths give products with several parts.
#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let mut net = pretrained(&[300, 520]);
            net.add_classes().expect("classes");
            let how = FineTuning { epochs: 2, dropout: Dropout { inputs: 0.2, hidden: 0.5 }, ..fine_tuning() };
            fine_tune(cpu(), &mut net, &stripes(400), &stripes(40), &how, 5, |_| {}).expect("fine-tuned");
            net
        })
    };
    let one = run(1);
    assert!([2, 3].into_iter().all(|threads| run(threads) == one));
}

#[test]
fn nets_are_kept_in_files() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("nets_are_kept_in_files");
    let _ = std::fs::remove_dir_all(&folder);
    let net = pretrained(&[7, 5]);
    net.save(&folder).expect("saved");
    assert_eq!(Net::load(&folder).expect("loaded"), net);
    // A layer's file is a model of harmonium.
    let (first, second) = (folder.join("layer-1.safetensors"), folder.join("layer-2.safetensors"));
    assert_eq!(model::load(&first).expect("a model").view().weights(), net.layers[0].weights);

    let refused = |expected: &str, found: &str| {
        let problem = Net::load(&folder).expect_err("a wrong stack");
        assert!(
            matches!(&problem, Error::Format { expected: e, found: f, .. } if e == expected && f == found),
            "{problem}"
        );
    };
    std::fs::copy(&second, &first).expect("copied");
    refused("5 visible units, as many as the layer below has hidden ones", "7");
    std::fs::remove_file(&second).expect("removed");
    net.save(&folder).expect("saved");
    std::fs::remove_file(&second).expect("removed");
    refused("layers of which the last one has labels", "none there");
    std::fs::remove_file(&first).expect("removed");
    assert!(matches!(Net::load(&folder), Err(Error::File { .. })));
}

#[test]
fn what_does_not_fit_is_refused() {
    let argument = |result: harmonium::Result<()>| match result {
        Err(Error::Argument { what, expected, found }) => format!("{what}: {expected}, {found}"),
        other => format!("{other:?}"),
    };
    let rows = Dataset::from_u8(vec![0; 4], 2).expect("rows");
    let missing = Labels::missing(2, names(2));
    assert_eq!(argument(Digits::new(rows.clone(), missing).map(drop)), "labels: a label for each row, 2 missing");
    assert!(matches!(Digits::new(rows, Labels::missing(3, names(2))), Err(Error::Length { what: "labels", .. })));

    let device = Device::from(cpu());
    let draw = |net: &Net, classes: &[usize]| argument(sample(&device, net, classes, 1, 1, 1).map(drop));
    assert_eq!(draw(&Net::default(), &[0]), "stack: at least one layer, none");
    assert_eq!(draw(&net(&[16, 8], 1), &[0]), "stack: labels at its top, 16 × 8");
    assert_eq!(draw(&pretrained(&[8]), &[4]), "stack: more than 4 classes, 4");

    let tune = |net: &Net, how: FineTuning| {
        let (train, mut net) = (stripes(40), net.clone());
        argument(fine_tune(cpu(), &mut net, &train, &train, &how, 1, |_| {}).map(drop))
    };
    let (fits, how) = (net(&[16, 4], 1), fine_tuning());
    assert_eq!(tune(&net(&[15, 4], 1), how), "net: 16 inputs, 15");
    assert_eq!(tune(&Net::default(), how), "net: 16 inputs, 0");
    assert_eq!(tune(&net(&[16, 3], 1), how), "net: the classes 0, 1, 2, 3, 0, 1, 2");
    assert_eq!(tune(&pretrained(&[8]), how), "net: 4 softmax units on top, one for each class, 8");
    assert_eq!(tune(&fits, FineTuning { batch: 0, ..how }), "batch: at least one row, 0");
    assert_eq!(tune(&fits, FineTuning { momentum: 1.0, ..how }), "momentum: at least 0 and below 1, 1");
    let mut broken = fits;
    broken.layers[0].weights[3] = f32::NAN;
    let (train, how) = (stripes(40), FineTuning { epochs: 1, ..how });
    assert!(matches!(fine_tune(cpu(), &mut broken, &train, &train, &how, 1, |_| {}), Err(Error::Value { .. })));
}
