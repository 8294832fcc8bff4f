//! Stopped training resumes to the bit, by the library: at every update, for every algorithm and monitor, on every device, with
//! other numbers of threads. States that do not fit are refused, and fingerprints of different data differ.

mod oracle;

use harmonium::{
    Algorithm, Checkpoint, Device, Error, Monitor, Rbm, Settings, Trainer,
    checkpoint::{Place, fingerprint},
};
use oracle::{byte_rows, fill_log, for_each_device, in_pool, is_emulated, random_bytes, shape};
use std::collections::BTreeMap;

/// Four epochs of five batches.
const UPDATES: u64 = 20;
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Cd, Algorithm::Pcd { n_chains: 10 }, Algorithm::Pcd { n_chains: 3 }];
const MONITORS: [Monitor; 4] =
    [Monitor::None, Monitor::PseudoLikelihood, Monitor::ExactPseudoLikelihood, Monitor::Reconstruction];

/// The results of a run of the library: a checkpoint's bytes, and the bits of its reports.
type Left = (Vec<u8>, Vec<Option<u64>>);

/// Makes `updates` updates from a checkpoint or from the beginning, with a report after every seventh.
fn go_on(device: &Device, settings: Settings, from: Option<&Checkpoint>, updates: u64) -> Left {
    let (nv, nh) = (15, 70);
    let bytes = random_bytes(50 * nv, 0.4, 1);
    let rows = byte_rows(&bytes, nv);
    let data = device.load(rows).expect("data");
    let mut rbm = from.map_or_else(|| Rbm::new(shape(nv, nh), 1), |from| from.rbm.clone());
    let mut trainer = match from {
        Some(from) => Trainer::from_state(device, shape(nv, nh), settings, &from.trainer).expect("a trainer"),
        None => Trainer::new(device, shape(nv, nh), settings).expect("a trainer"),
    };
    let mut lent = rbm.lend(device).expect("lent");
    let mut reports = Vec::new();
    for update in from.map_or(0, |from| from.trainer.updates)..updates {
        let first = (update % 5) as usize * 10;
        trainer.step(&mut lent, data.range(first..first + 10), 0.1).expect("a step");
        if update % 7 == 6 {
            reports.push(trainer.take_report().expect("a report").monitor.map(f64::to_bits));
        }
    }
    let (rbm, state) = (lent.to_rbm().expect("a copy"), trainer.state().expect("a state"));
    let place = Place::new(updates / 5, updates % 5, 1.5);
    let mut checkpoint = Checkpoint::new(rbm, settings, state, place, fingerprint(rows));
    fill_log(&mut checkpoint);
    checkpoint.options = BTreeMap::from([("a \"quoted\" \\ name".into(), "and\nits ünïcode".into())]);
    checkpoint.version = "1.2.3".into();
    let bytes = checkpoint.to_bytes().expect("bytes");
    assert_eq!(Checkpoint::from_bytes(&bytes, "x").expect("a checkpoint"), checkpoint);
    (bytes, reports)
}

for_each_device! {
    fn the_library_goes_on_at_every_update(device) {
        for algorithm in ALGORITHMS {
            for monitor in MONITORS {
                let settings = Settings { algorithm, k: 2, monitor, seed: 9, ..Settings::default() };
                let (whole, reports) = in_pool(2, || go_on(&device, settings, None, UPDATES));
                let every = if is_emulated(&device) { 4 } else { 1 };
                for stop in (1..UPDATES).step_by(every) {
                    let (before, after) = if stop % 2 == 0 { (1, 3) } else { (3, 1) };
                    let (bytes, mut told) = in_pool(before, || go_on(&device, settings, None, stop));
                    let checkpoint = Checkpoint::from_bytes(&bytes, "x").expect("a checkpoint");
                    let (bytes, rest) = in_pool(after, || go_on(&device, settings, Some(&checkpoint), UPDATES));
                    told.extend(rest);
                    assert!(bytes == whole && told == reports, "{algorithm:?}, {monitor:?}, stopped after {stop}");
                }
            }
        }
    }
}

#[test]
fn states_that_do_not_fit() {
    let cpu = harmonium::Cpu::detect().expect("a CPU");
    let settings = Settings { algorithm: Algorithm::Pcd { n_chains: 4 }, k: 1, ..Settings::default() };
    let good = Trainer::new(cpu, shape(5, 3), settings).expect("a trainer").state().expect("a state");
    let with = |change: &dyn Fn(&mut harmonium::TrainerState)| {
        let mut state = good.clone();
        change(&mut state);
        Trainer::from_state(cpu, shape(5, 3), settings, &state).expect_err("must be refused").to_string()
    };
    assert_eq!(with(&|s| s.bit = 5), "bit: expected less than 5, found 5");
    assert_eq!(with(&|s| s.reported = 1), "reported: expected at most 0, the number of updates, found 1");
    assert_eq!(with(&|s| s.chains.betas.truncate(3)), "chains: expected 4, found 3");
    assert_eq!(with(&|s| s.chains.hidden[0] = 8), "chains: expected no bit beyond the last hidden unit, found one");
    assert_eq!(with(&|s| s.chains.hidden.truncate(3)), "chains: expected 4 values, found 3");
    assert_eq!(with(&|s| s.chains.betas[2] = f32::NAN), "betas[2]: expected a finite number, found NaN");
    let error = Trainer::from_state(cpu, shape(5, 3), Settings { k: 0, ..settings }, &good);
    assert_eq!(error.expect_err("must be refused").to_string(), "k: expected at least 1, found 0");
    Trainer::from_state(cpu, shape(5, 3), settings, &good).expect("a trainer");
}

#[test]
fn what_is_not_finite_is_not_saved() {
    let cpu = harmonium::Cpu::detect().expect("a CPU");
    let settings = Settings { algorithm: Algorithm::Cd, k: 1, ..Settings::default() };
    let (bytes, _) = go_on(&cpu.into(), settings, None, 3);
    let good = Checkpoint::from_bytes(&bytes, "x").expect("a checkpoint");
    let with = |change: &dyn Fn(&mut Checkpoint)| {
        let mut checkpoint = good.clone();
        change(&mut checkpoint);
        checkpoint.to_bytes().expect_err("must be refused").to_string()
    };
    assert_eq!(with(&|c| c.trainer.watched = f64::NAN), "log: expected finite numbers, found NaN");
    assert_eq!(with(&|c| c.place.seconds = f64::INFINITY), "log: expected finite numbers, found inf");
    assert_eq!(with(&|c| c.log[0].monitor = Some(f64::NEG_INFINITY)), "log: expected finite numbers, found -inf");
    assert_eq!(with(&|c| c.health[0].r_hat = Some(f64::NAN)), "log: expected finite numbers, found NaN");
    assert_eq!(with(&|c| c.health[0].gap.fresh = f64::INFINITY), "log: expected finite numbers, found inf");
    assert_eq!(with(&|c| c.health[0].gap.standard_error = f64::INFINITY), "log: expected finite numbers, found inf");
    assert_eq!(with(&|c| c.trainer.chains.hidden.truncate(19)), "chains: expected 20 values, found 19");

    let mut rbm = good.rbm.clone();
    let mut trainer = Trainer::new(cpu, rbm.shape(), settings).expect("a trainer");
    let bytes = random_bytes(50 * 15, 0.4, 1);
    let mut lent = rbm.lend(cpu).expect("lent");
    for _ in 0..40 {
        trainer.step(&mut lent, byte_rows(&bytes, 15), f32::MAX).expect("a step");
    }
    let mut lost = good.clone();
    lost.rbm = lent.to_rbm().expect("a copy");
    assert!(matches!(lost.to_bytes(), Err(Error::Value { expected: "a finite number", .. })));
}

/// The uncertainty of a check-up's standard error is restored as well, and so is an unknown one.
#[test]
fn check_ups_come_back() {
    let settings = Settings { algorithm: Algorithm::Cd, k: 1, ..Settings::default() };
    let (bytes, _) = go_on(&harmonium::Cpu::detect().expect("a CPU").into(), settings, None, 3);
    let mut checkpoint = Checkpoint::from_bytes(&bytes, "x").expect("a checkpoint");
    for (standard_error, degrees_of_freedom) in [(0.1, f64::INFINITY), (0.1, 2.94), (0.0, 1.0), (f64::NAN, f64::NAN)] {
        let gap = &mut checkpoint.health[0].gap;
        (gap.standard_error, gap.degrees_of_freedom) = (standard_error, degrees_of_freedom);
        let found = Checkpoint::from_bytes(&checkpoint.to_bytes().expect("bytes"), "x").expect("a checkpoint");
        // NaN is not equal to itself, but its text is.
        assert_eq!(format!("{:?}", found.health), format!("{:?}", checkpoint.health));
    }
}

#[test]
fn fingerprints_tell_data_apart() {
    let bytes = random_bytes(60, 0.5, 1);
    let numbers: Vec<f32> = bytes.iter().map(|&x| f32::from(x) / 255.0).collect();
    let mut other = bytes.clone();
    other[59] ^= 1;
    let all = [
        fingerprint(byte_rows(&bytes, 15)),
        fingerprint(byte_rows(&bytes, 20)),
        fingerprint(byte_rows(&bytes[..45], 15)),
        fingerprint(byte_rows(&other, 15)),
        fingerprint(oracle::rows(&numbers, 15)),
    ];
    assert_eq!(all[0], fingerprint(byte_rows(&bytes, 15)));
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len(), "{all:?}");
    assert!(all.iter().all(|digits| digits.len() == 64));
}
