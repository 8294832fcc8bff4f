//! Small models through every call: few enough operations for an interpreter that detects undefined behaviour (`.ci/sanitizers`),
//! and cheap enough to run everywhere.

#![allow(dead_code)]

#[path = "oracle/canonical.rs"]
mod canonical;
#[path = "oracle/canonical_laws.rs"]
mod canonical_laws;
mod fuzzing;

use harmonium::{
    Activations, Algorithm, Chains, Cpu, Gradient, Isa, Monitor, Purpose, Rbm, Rows, Settings, Shape, Sums, Trainer,
    Uniforms, Values,
};

/// Inputs of the differential fuzzer: the maximum number of weights, then visible, hidden, rows, chains and k less 1, density,
/// magnitude of the parameters, kind. Less than a tile, a whole one, slightly more than one.
const SMALL: [[u8; 9]; 6] = [
    [0, 0, 0, 0, 0, 0, 255, 3, 0],
    [0, 4, 2, 3, 2, 1, 128, 3, 1],
    [3, 16, 64, 1, 0, 0, 60, 3, 4],
    [0, 66, 3, 2, 1, 0, 200, 3, 2],
    [0, 3, 17, 5, 5, 0, 100, 5, 7],
    [0, 3, 17, 1, 1, 0, 128, 3, 12],
];

/// Inputs of the fuzzer of laws: segments less 1, law and sizes of each, then hidden units, chains, k, magnitude and seed.
const LAWS: [&[u8]; 2] = [&[2, 0, 3, 1, 1, 1, 2, 4, 2, 1, 1, 2, 5], &[0, 1, 2, 23, 3, 1, 0, 1, 6]];

#[test]
fn every_law_equals_the_naive_program() {
    LAWS.into_iter().for_each(fuzzing::laws::run);
}

#[test]
fn every_road_equals_the_naive_model() {
    for bytes in SMALL {
        fuzzing::differential::run(&bytes);
    }
}

#[test]
fn the_other_verbs() {
    let shape = Shape::new(17, 5).expect("a right shape");
    let rbm = Rbm::new(shape, 1);
    let bytes: Vec<u8> = (0..3 * 17).map(|n| if n % 3 == 0 { 0 } else { n * 5 }).collect();
    let v = Rows::new(Values::U8(&bytes), 17).expect("rows");
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(isa);
        let resident = rbm.on(cpu).expect("resident");
        resident.free_energy(v).expect("F");
        resident.pseudo_log_likelihood(v).expect("PL");
        resident.pseudo_log_likelihood_of_bit(v, 16).expect("PL");
        let mut gradient = Gradient::zero(shape);
        resident.free_energy_gradient(v, &[1.0, -1.0, 0.5], &mut gradient).expect("a gradient");
        let mut chains = Chains::from_visible(&resident, v, Uniforms::new(1, Purpose::Sampling)).expect("chains");
        chains.sweep(&resident, 1).expect("a sweep");
        chains.visible(&resident, &mut Activations::default()).expect("means");
        for monitor in [Monitor::PseudoLikelihood, Monitor::ExactPseudoLikelihood, Monitor::Reconstruction] {
            let settings = Settings { algorithm: Algorithm::Cd, k: 1, monitor, seed: 1, ..Settings::default() };
            let mut trainer = Trainer::new(cpu, shape, settings).expect("a trainer");
            let mut rbm = rbm.clone();
            let mut lent = rbm.lend(cpu).expect("lent");
            trainer.step(&mut lent, v, 0.1).expect("a step");
            trainer.gradient(&lent, v, &mut gradient).expect("a gradient");
            lent.apply(&gradient, 0.1).expect("applied");
            assert!(trainer.take_report().expect("a report").monitor.is_some());
        }
    }
    let gemm = Cpu::detect().and_then(|cpu| cpu.with_sums(Sums::Gemm)).expect("a CPU");
    rbm.on(gemm).expect("resident").free_energy(v).expect("F");
}
