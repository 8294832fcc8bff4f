//! Results from a model: features, scores and labels of rows equal those of the library.

use crate::oracle::program::{folder, run};
use harmonium::{
    Activations, Cpu, Dataset, Purpose, Resident, Uniforms, labels::Discriminator, log_partition::exact::log_partition,
    model, npy,
};
use std::{fs, path::Path};

/// Rows of twelve bits: six equal ones and six of their complement, in one of two orders; the label is the order.
fn rows(n: usize) -> (Vec<f32>, Vec<usize>) {
    let noise = (1..=12 * n).map(|i| (i as f64 * 0.618_033_988).fract() < 0.1);
    let labels: Vec<usize> = (0..n).map(|r| usize::from(r * r % 3 == 1)).collect();
    let bit = |(i, flip): (usize, bool)| f32::from(u8::from((i % 12 < 6) ^ (labels[i / 12] == 1) ^ flip));
    (noise.enumerate().map(bit).collect(), labels)
}

/// A folder with rows, their labels, and a model of them with labels.
fn trained(name: &str) -> std::path::PathBuf {
    let folder = folder(name);
    let (values, labels) = rows(60);
    npy::save(&values, 12, &folder.join("x.npy")).expect("written");
    let text: String = labels.iter().map(|label| format!("{}\n", ["left", "right"][*label])).collect();
    fs::write(folder.join("labels.csv"), text).expect("written");
    fine(
        &folder,
        "train --quiet --data x.npy --labels labels.csv --hidden 5 --epochs 30 --batch-size 10 --hybrid 0.1 --lr 0.5 \
         --algorithm cd --k 1 --validation none --samples 0 --out run",
    );
    fine(
        &folder,
        "train --quiet --data x.npy --hidden 5 --epochs 5 --batch-size 10 --validation none --samples 0 --out plain",
    );
    folder
}

#[track_caller]
fn fine(folder: &Path, arguments: &str) -> (String, String) {
    let (status, stdout, stderr) = run(folder, arguments);
    assert_eq!(status, 0, "{arguments}: {stderr}");
    (stdout, stderr)
}

#[track_caller]
fn fails(folder: &Path, arguments: &str, message: &str) {
    let (status, stdout, stderr) = run(folder, arguments);
    let last = stderr.lines().last().unwrap_or_default();
    assert_eq!((status, stdout.as_str(), last), (1, "", format!("error: {message}").as_str()), "{arguments}");
}

fn resident(path: &Path) -> Resident {
    model::load(path).expect("a model").on(Cpu::detect().expect("a CPU")).expect("a resident")
}

/// The numbers of an array or a table without its header.
fn numbers(path: &Path) -> Vec<f32> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("csv") => {
            let text = fs::read_to_string(path).expect("a table");
            text.lines().flat_map(|line| line.split(',').map(|x| x.parse().expect("a number"))).collect()
        }
        _ => {
            let bytes = fs::read(path).expect("an array");
            let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]])) + 10;
            bytes[header..].as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect()
        }
    }
}

#[test]
fn features_are_the_librarys() {
    let folder = trained("features");
    let rbm = resident(&folder.join("plain/model.safetensors"));
    let data = Dataset::from_f32(rows(60).0, 12).expect("right rows");
    let mut hidden = Activations::default();
    rbm.propup(&data, &mut hidden).expect("means");
    for out in ["h.npy", "h.csv"] {
        let (said, _) = fine(&folder, &format!("transform plain/model.safetensors --data x.npy --out {out}"));
        assert_eq!(said, format!("{out}: 60 rows of hidden means of 5 values\n"));
        assert_eq!(numbers(&folder.join(out)), hidden.mean, "{out}");
    }
    let mut draws = Uniforms::new(7, Purpose::Sampling);
    rbm.sample_h_given_v(&data, &mut draws, &mut hidden).expect("samples");
    for more in ["", "--batch-size 7 --threads 2"] {
        fine(&folder, &format!("transform plain/model.safetensors --data x.npy --sample --seed 7 --out s.npy {more}"));
        assert_eq!(numbers(&folder.join("s.npy")), hidden.sample, "{more}");
    }
    fails(
        &folder,
        "transform plain/model.safetensors --data x.npy --out h.txt",
        "--out: expected a name that ends with .npy or .csv, found h.txt",
    );
}

#[test]
fn scores_are_the_librarys() {
    let folder = trained("scores");
    let rbm = resident(&folder.join("plain/model.safetensors"));
    let data = Dataset::from_f32(rows(60).0, 12).expect("right rows").binarised();
    let energies = rbm.free_energy(&data).expect("energies");
    let pseudo = rbm.pseudo_log_likelihood(&data).expect("likelihoods");
    let explained = rbm.reconstruction(data.rows()).expect("reconstructions");
    fine(&folder, "score plain/model.safetensors --data x.npy");
    let text = |lines: &[Vec<f64>]| -> String {
        let line = |numbers: &Vec<f64>| numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(",") + "\n";
        lines.iter().map(line).collect()
    };
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a table");
    let lines: Vec<_> = (0..60).map(|r| vec![energies[r], pseudo[r], explained[r]]).collect();
    let header = "free_energy,pseudo_log_likelihood,reconstruction\n";
    assert_eq!(read("scores.csv"), format!("{header}{}", text(&lines)));
    fine(&folder, "score plain/model.safetensors --data x.npy --log-z exact --out all.csv");
    let log_z = log_partition(rbm.to_rbm().expect("a model").view()).expect("log Z");
    let log_p = |r: usize| -energies[r] - log_z.estimate;
    let lines: Vec<_> =
        (0..60).map(|r| vec![energies[r], log_p(r), log_p(r), log_p(r), pseudo[r], explained[r]]).collect();
    let header = "free_energy,log_likelihood,log_likelihood_lower,log_likelihood_upper,pseudo_log_likelihood,\
                  reconstruction\n";
    assert_eq!(read("all.csv"), format!("{header}{}", text(&lines)));

    // There is no log Z for a row with a missing value.
    let mut holes = rows(60).0;
    holes[5] = f32::NAN;
    npy::save(&holes, 12, &folder.join("holes.npy")).expect("written");
    fine(&folder, "score plain/model.safetensors --data holes.npy --out holes.csv");
    let with_holes = Dataset::with_missing(holes, "binary:12".parse().expect("laws")).expect("right rows").binarised();
    let first = rbm.free_energy(&with_holes).expect("energies")[0];
    assert!(read("holes.csv").lines().nth(1).is_some_and(|line| line.starts_with(&format!("{first},"))));
    fails(
        &folder,
        "score plain/model.safetensors --data holes.npy --log-z exact --out holes.csv",
        "--log-z: expected none for rows with missing values, as each such row has a log Z of its own, found another method for \
         holes.npy",
    );
}

#[test]
fn labels_are_predicted() {
    let folder = trained("told");
    let rbm = resident(&folder.join("run/model.safetensors"));
    let (values, labels) = rows(60);
    let unlabelled: Vec<f32> =
        values.chunks_exact(12).flat_map(|row| row.iter().copied().chain([f32::NAN; 2])).collect();
    let unlabelled = Dataset::with_missing(unlabelled, rbm.shape().visible()).expect("right rows");
    let logs = rbm.log_label_probabilities(unlabelled.rows()).expect("logarithms");
    let told: Vec<usize> = logs.chunks_exact(2).map(|logs| usize::from(logs[1] > logs[0])).collect();
    let right = told.iter().zip(&labels).filter(|(told, own)| told == own).count();
    assert!(right >= 57, "{right} of 60");
    let (said, _) =
        fine(&folder, "classify run/model.safetensors --data x.npy --labels labels.csv --json --out told.csv");
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&said["labelled"], &said["right"]), (&60.into(), &right.into()));
    assert_eq!(said["labels"], serde_json::json!(["left", "right"]));
    let own = logs.chunks_exact(2).zip(&labels).map(|(logs, &label)| logs[label]).sum::<f64>() / 60.0;
    assert!((said["mean_log_probability"].as_f64().expect("a number") - own).abs() < 1e-12);
    let table = fs::read_to_string(folder.join("told.csv")).expect("a table");
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("label,own,P(left),P(right)"));
    for ((line, logs), (&told, &own)) in lines.zip(logs.chunks_exact(2)).zip(told.iter().zip(&labels)) {
        let names = ["left", "right"];
        assert_eq!(line, format!("{},{},{},{}", names[told], names[own], logs[0].exp(), logs[1].exp()));
    }
    // Features know no label unless they are asked to.
    let labelled: Vec<f32> = values
        .chunks_exact(12)
        .zip(&labels)
        .flat_map(|(row, &label)| row.iter().copied().chain([f32::from(label == 0), f32::from(label == 1)]))
        .collect();
    let labelled = Dataset::with_missing(labelled, rbm.shape().visible()).expect("right rows");
    let transform = "transform run/model.safetensors --data x.npy --out features.npy";
    for (options, rows) in
        [("", &unlabelled), ("--labels labels.csv", &unlabelled), ("--labels labels.csv --with-labels", &labelled)]
    {
        fine(&folder, &format!("{transform} {options}"));
        let mut hidden = Activations::default();
        rbm.propup(rows.rows(), &mut hidden).expect("means");
        assert!(numbers(&folder.join("features.npy")) == hidden.mean, "{options}");
    }
    for (model, expected) in [
        ("run", "rows with labels, found none in x.npy"),
        ("plain", "a model with labels, found none in plain/model.safetensors"),
    ] {
        let options = format!("transform {model}/model.safetensors --data x.npy --with-labels");
        fails(&folder, &options, &format!("--with-labels: expected {expected}"));
    }
    // Without labels there is no accuracy.
    let (said, _) = fine(&folder, "classify run/model.safetensors --data x.npy");
    let rights = told.iter().sum::<usize>();
    assert_eq!(said, format!("x.npy: 60 rows; left: {}, right: {rights}\n", 60 - rights));
    fails(
        &folder,
        "classify plain/model.safetensors --data x.npy",
        "plain/model.safetensors: expected a model whose last visible units are a label, as after train --labels, \
         found binary:12",
    );
    let (status, _, stderr) = run(&folder, "train --data x.npy --hybrid 0.1 --hidden 3 --epochs 1 --out none");
    let expected =
        "error: --hybrid: expected visible units that end with a label, potts:1xSTATES, found 0.1 with binary:12\n";
    assert_eq!((status, stderr.as_str()), (1, expected));
}

/// `--hybrid` makes a step of the trainer with a fraction of the rate and a step of a [`Discriminator`] for each minibatch; without
/// labels only the former.
#[test]
fn a_hybrid_run_is_both_steps() {
    use harmonium::{Algorithm, Chains, Monitor, Rbm, Settings, Shape, Trainer};
    let folder = trained("hybrid");
    let (values, labels) = rows(60);
    let shape = Shape::with_visible("binary:12,potts:1x2".parse().expect("laws"), 3).expect("a shape");
    for labelled in [60, 20] {
        let states = |r: usize| match labels[r] {
            _ if r >= labelled => [f32::NAN; 2],
            0 => [1.0, 0.0],
            _ => [0.0, 1.0],
        };
        let complete = values.chunks_exact(12).enumerate().flat_map(|(r, row)| [row, &states(r)].concat()).collect();
        let data = Dataset::with_missing(complete, shape.visible()).expect("right rows");
        let cpu = Cpu::detect().expect("a CPU");
        let mut rbm = Rbm::from_data(data.rows(), 3, 9).expect("a model").on(cpu).expect("a resident");
        let settings =
            Settings { algorithm: Algorithm::Cd, k: 1, monitor: Monitor::None, seed: 9, ..Settings::default() };
        let mut trainer = Trainer::new(cpu, shape, settings).expect("a trainer");
        let draws = Uniforms::new(9, Purpose::Training);
        let chains = Chains::from_hidden_bias(&rbm, trainer.chains().len(), draws).expect("chains");
        trainer.set_chains(chains).expect("set");
        let mut discriminator = Discriminator::new().expect("a CPU");
        let mut logs = Vec::new();
        for batch in data.batches(20) {
            let has_labels = batch.start < labelled;
            let batch = data.rows().range(batch);
            trainer.step(&mut rbm, batch, 0.5 * 0.25).expect("a step");
            if has_labels {
                logs.push(discriminator.step(&mut rbm, batch, 0.5).expect("a step"));
            }
        }
        let name = |r: usize| if r < labelled { ["left", "right"][labels[r]] } else { "NA" };
        let text: String = (0..60).map(|r| format!("{}\n", name(r))).collect();
        fs::write(folder.join("some.csv"), text).expect("written");
        let (said, _) = fine(
            &folder,
            "train --data x.npy --labels some.csv --hidden 3 --epochs 1 --batch-size 20 --hybrid 0.25 --lr 0.5 --seed 9 \
             --algorithm cd --k 1 --monitor none --likelihood off --shuffle off --validation none --samples 0 --out both",
        );
        let written = model::load(&folder.join("both/model.safetensors")).expect("a model");
        assert_eq!(written, rbm.to_rbm().expect("a model"), "{labelled}");
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        assert!(said.contains(&format!("epoch 0: log P(label|v) {mean:.4}, 3 updates")), "{mean}: {said}");
    }
}
