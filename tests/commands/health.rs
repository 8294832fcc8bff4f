//! Health of the chains through the command: their starts in a sorted file, and a single chain.

use crate::oracle::{
    program::{SMALL, fine, folder, run},
    shape,
};
use harmonium::{
    Algorithm, Cpu, Monitor, Purpose, Rbm, Settings, Trainer, Uniforms, diagnostics::check_up, idx, model,
};
use std::{fs, path::Path};

/// The numbers of rows of both classes in a sorted file.
const OFF: usize = 300;

/// Writes a sorted file with `units` values a row: first all off, then all on, except that the last unit is always on and the one before it
/// always off. (Images show differences between units.)
fn write_sorted(path: &Path, units: usize) {
    let mut bytes = vec![0, 0, 8, 2];
    bytes.extend([2 * OFF, units].iter().flat_map(|&size| (size as u32).to_be_bytes()));
    for row in 0..2 * OFF {
        bytes.extend(vec![if row < OFF { 0 } else { 255 }; units - 2]);
        bytes.extend([0, 255]);
    }
    fs::write(path, bytes).expect("data");
}

/// A model of ten visible units with two valleys, one a class, that no chain leaves. F is -30 in the first valley and 5.4 less in the
/// second.
fn two_valleys(path: &Path) {
    let weights = (0..100).map(|k| if k < 80 { 4.0 } else { 0.0 }).collect();
    let visible = [vec![0.3 - 20.0; 8], vec![-30.0, 30.0]].concat();
    let rbm = Rbm::from_parts(shape(10, 10), weights, visible, vec![0.3 - 16.0; 10]).expect("a model");
    model::save(rbm.view(), path).expect("saved");
}

/// The rows at which chains start: the first ones of the seed's permutation.
fn starts(n: usize) -> Vec<usize> {
    let mut order = Uniforms::new(123, Purpose::Shuffling).permutation(2 * OFF);
    order.truncate(n);
    order
}

#[test]
fn diagnose_starts_at_rows_of_all_classes() {
    let folder = folder("diagnose");
    write_sorted(&folder.join("data"), 10);
    two_valleys(&folder.join("model.safetensors"));
    let said = fine(&folder, "diagnose model.safetensors --data data --steps 20 --json");
    let found: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let on = starts(10).iter().filter(|&&row| row >= OFF).count();
    assert!((1..10).contains(&on), "{on} of 10 starts are on");
    // Within a valley, F varies much less than one chain in the other valley moves the mean.
    let fresh = found["equilibrium_gap"]["fresh"].as_f64().expect("a number");
    assert!((fresh + 30.0 + 0.54 * on as f64).abs() < 0.2, "{fresh}, {on} of 10 starts are on");
}

#[test]
fn sample_starts_at_rows_of_all_classes() {
    let folder = folder("sample");
    write_sorted(&folder.join("data"), 10);
    two_valleys(&folder.join("model.safetensors"));
    fine(&folder, "sample model.safetensors --data data --chains 12 --rows 1 --steps 5 --image 2x5");
    let file = std::io::BufReader::new(fs::File::open(folder.join("samples.png")).expect("a picture"));
    let mut reader = png::Decoder::new(file).read_info().expect("a picture");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a small one")];
    reader.next_frame(&mut pixels).expect("a picture");
    // Images of five pixels, one pixel apart; the second row of pixels is inside them.
    let width = 12 * 6 - 1;
    let found: Vec<bool> = (0..12).map(|chain| pixels[width + 2 + 6 * chain] > 128).collect();
    let expected: Vec<bool> = starts(12).iter().map(|&row| row >= OFF).collect();
    assert_eq!(found, expected);
    assert!(found.contains(&true) && found.contains(&false), "{found:?}");
}

/// The fresh chains of the command's check-up equal those of the library at these rows.
#[test]
fn check_ups_start_at_rows_of_all_classes() {
    let folder = folder("check-up");
    let path = folder.join("data");
    write_sorted(&path, 15);
    fine(&folder, &format!("{SMALL} --chains 7 --health-every 25 --shuffle off --out out"));
    let health = fs::read_to_string(folder.join("out/health.csv")).expect("health.csv");

    let file = fs::File::open(&path).expect("data");
    let data = idx::read_idx(file, "data").expect("an IDX file").into_dataset().expect("rows");
    let settings = Settings {
        algorithm: Algorithm::Pcd { n_chains: 7 },
        k: 2,
        monitor: Monitor::PseudoLikelihood,
        seed: 123,
        ..Settings::default()
    };
    let cpu = Cpu::detect().expect("a CPU");
    let mut rbm = Rbm::new(shape(15, 8), 123).on(cpu).expect("resident");
    let mut trainer = Trainer::new(cpu, rbm.shape(), settings).expect("a trainer");
    let rows = starts(7);
    assert!(rows.iter().any(|&row| row < OFF) && rows.iter().any(|&row| row >= OFF), "{rows:?}");
    let rows = data.select(&rows).expect("rows");
    let mut lines = health.lines().skip(1);
    for (update, batch) in (1..).zip((0..4).flat_map(|_| data.batches(10))) {
        trainer.step(&mut rbm, data.rows().range(batch), 0.1).expect("a step");
        if update % 25 == 0 {
            let draws = Uniforms::new(123, Purpose::Diagnosis);
            let gap = check_up(&rbm, trainer.chains(), rows.rows(), 1000, draws, update).expect("a check-up").gap;
            let lag = u8::from(gap.lags().expect("seven chains a side"));
            let expected =
                format!("{:.4},{:.4},{:.4},{:.4},{lag}", gap.persistent, gap.fresh, gap.gap, gap.standard_error);
            let line = lines.next().expect("a line for each check-up");
            assert!(
                line.starts_with(&format!("{update},")) && line.ends_with(&expected),
                "{line}, expected {expected}"
            );
        }
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn a_single_chain_gets_no_lag() {
    let folder = folder("single");
    let arguments = format!("{SMALL} --chains 1 --health-every 3 --stop-after 10 --out out").replace("--quiet", "");
    let (status, _, said) = run(&folder, &arguments);
    assert_eq!(status, 0, "{said}");
    let unknown = |said: &str| said.lines().filter(|line| line.contains("whether the chains lag is unknown")).count();
    assert_eq!((unknown(&said), said.contains("the chains lag:")), (1, false), "{said}");
    let (status, _, said) = run(&folder, "train --resume out");
    assert_eq!((status, said.contains("lag")), (0, false), "{said}");
    let health = fs::read_to_string(folder.join("out/health.csv")).expect("health.csv");
    assert_eq!(health.lines().count(), 7);
    for line in health.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!((fields.len(), &fields[9..]), (11, &["", ""][..]), "{line}");
        assert!(fields[6..9].iter().all(|number| number.parse::<f64>().is_ok()), "{line}");
    }

    let (status, text, said) = run(&folder, "diagnose out/model.safetensors --data data --steps 50 --chains 2");
    assert_eq!((status, unknown(&said), said.contains("the chains lag:")), (0, 1, false), "{said}");
    assert!(text.contains(" ± unknown nats"), "{text}");
    let said = fine(&folder, "diagnose out/model.safetensors --data data --steps 50 --chains 2 --json");
    let found: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let gap = &found["equilibrium_gap"];
    assert!(gap["standard_error"].is_null() && gap["degrees_of_freedom"].is_null() && gap["gap"].is_f64(), "{gap}");
}
