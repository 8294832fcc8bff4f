//! Invalid values and models for visible units of several laws, and their messages.

use crate::oracle::{
    laws::{law_rows, random_laws, segments},
    rows,
};
use harmonium::{
    Algorithm, ChainState, Chains, Cpu, Dataset, Error, Purpose, Rbm, RbmRef, Rows, Settings, Shape, Trainer, Uniforms,
    Values,
    log_partition::{Annealing, BaseRate, Start, ais, reverse_ais},
};

/// Each law refuses invalid values and reports their position.
#[test]
fn rows_that_a_law_does_not_allow_are_refused() {
    let visible = segments("binary:2,potts:2x3,gaussian:2");
    let right = [1.0, 0.5, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, -3.5, 1e30];
    let with = |changes: &[(usize, f32)]| {
        let mut values = [right, right, right].concat();
        changes.iter().for_each(|&(at, x)| values[20 + at] = x);
        values
    };
    law_rows(&with(&[]), visible);
    let no_state = "a single 1 among the states of the site that begins here";
    for (changes, column, law, expected) in [
        (&[(0, -0.5)][..], 0, "binary", "a value within [0, 1]"),
        (&[(1, 1.5)], 1, "binary", "a value within [0, 1]"),
        (&[(1, f32::NAN)], 1, "binary", "a value within [0, 1]"),
        (&[(4, 0.5)], 4, "potts", "0 or 1"),
        (&[(7, f32::NAN)], 7, "potts", "0 or 1"),
        (&[(3, 0.0)], 2, "potts", no_state),
        (&[(7, 1.0)], 5, "potts", no_state),
        (&[(8, f32::INFINITY)], 8, "gaussian", "a finite number"),
        (&[(9, f32::NAN)], 9, "gaussian", "a finite number"),
    ] {
        let values = with(changes);
        let plain = random_laws("binary:2,potts:2x3,gaussian:2", 3, 1.0, 1).on(Cpu::detect().expect("a CPU"));
        let plain = plain.expect("resident");
        let problems = [
            Rows::with_segments(Values::F32(&values), visible).expect_err("a wrong row"),
            Dataset::of_numbers(values.clone(), visible).expect_err("a wrong row"),
        ];
        for problem in problems {
            let Error::Law { row: 2, column: at, law: of, expected: allowed, found } = problem else {
                panic!("{problem:?}")
            };
            assert_eq!((at, of, allowed), (column, law, expected));
            assert_eq!(found.to_bits(), values[20 + column].to_bits());
            let text = problem.to_string();
            assert!(
                text.contains("row 2") && text.contains(&format!("column {column}")) && text.contains(law),
                "{text}"
            );
        }
        // As rows of another law that permits them: the model checks them itself.
        if values.iter().all(|x| x.is_finite()) {
            let numbers = law_rows(&values, segments("gaussian:10"));
            let problem = plain.free_energy(numbers).expect_err("a wrong row");
            assert!(matches!(problem, Error::Law { row: 2, column: at, .. } if at == column), "{problem:?}");
        }
    }
    // Eight-bit values are bits and states too, where 255 stands for 1.
    let bytes = [0, 128, 255, 0, 0];
    Rows::with_segments(Values::U8(&bytes), segments("binary:2,potts:1x3")).expect("right rows");
    let problem = Rows::with_segments(Values::U8(&bytes), segments("potts:1x5")).expect_err("a grey state");
    assert!(matches!(problem, Error::Law { row: 0, column: 1, law: "potts", .. }), "{problem:?}");
}

/// Rows without declared laws work if the model's laws permit their values, and give the same results.
#[test]
fn rows_without_laws_serve_where_they_can() {
    let rbm = random_laws("binary:2,potts:1x3", 4, 1.0, 2);
    let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
    let values = [1.0, 0.0, 0.0, 1.0, 0.0];
    let said = resident.free_energy(law_rows(&values, rbm.shape().visible())).expect("free energy");
    assert_eq!(resident.free_energy(rows(&values, 5)), Ok(said));
    let problem = resident.free_energy(rows(&[1.0, 0.0, 1.0, 1.0, 0.0], 5)).expect_err("two states");
    assert!(matches!(problem, Error::Law { row: 0, column: 2, law: "potts", .. }), "{problem:?}");
}

#[test]
fn segments_and_variances_must_fit() {
    let argument = |problem: Error, what: &str| {
        assert!(matches!(&problem, Error::Argument { what: of, .. } if *of == what), "{problem:?}");
        problem.to_string()
    };
    let data = Dataset::from_u8(vec![255, 0, 0, 255], 2).expect("rows");
    let text = argument(data.clone().with_segments(segments("potts:1x3")).expect_err("three units"), "rows");
    assert!(text.contains("3 values") && text.ends_with("found 2"), "{text}");
    assert_eq!(data.with_segments(segments("potts:1x2")).expect("states").segments(), segments("potts:1x2"));
    let problem = Dataset::of_numbers(vec![0.0; 7], segments("gaussian:3")).expect_err("no whole row");
    assert_eq!(problem, Error::Length { what: "rows", expected: 9, found: 7 });

    // Variances: none without Gaussian units, 0 for others, at most e^±40.
    let what = "visible_log_variance";
    let shape = |text: &str| Shape::with_visible(segments(text), 1).expect("a shape");
    let rbm = |text: &str| {
        let n = segments(text).units();
        Rbm::from_parts(shape(text), vec![0.5; n], vec![0.0; n], vec![0.0]).expect("a model")
    };
    let refused = |text: &str, values: &[f32]| {
        let problem = rbm(text).with_visible_log_variance(values.to_vec()).expect_err("wrong variances");
        let borrowed = rbm(text);
        let borrowed: RbmRef<'_> = borrowed.view();
        // A NaN is not equal to itself.
        let again = borrowed.with_visible_log_variance(values).expect_err("wrong variances");
        assert_eq!(problem.to_string(), again.to_string());
        problem
    };
    assert_eq!(refused("binary:2", &[0.0, 0.0]), Error::Length { what, expected: 0, found: 2 });
    assert_eq!(refused("binary:2", &[]), Error::Length { what, expected: 0, found: 0 });
    assert_eq!(refused("gaussian:2", &[0.0]), Error::Length { what, expected: 2, found: 1 });
    let expected = "0, as the unit is not Gaussian";
    assert_eq!(
        refused("potts:1x2,gaussian:1", &[0.0, 0.1, 1.0]),
        Error::Value { what, index: 1, expected, found: 0.1 }
    );
    for wrong in [40.1, -41.0, f32::INFINITY, f32::NAN] {
        let problem = refused("binary:1,gaussian:2", &[0.0, 40.0, wrong]);
        assert!(matches!(problem, Error::Value { index: 2, .. }), "{problem:?}");
    }
    assert!(rbm("gaussian:1").with_visible_log_variance(vec![-40.0]).is_ok());

    // A base rate of other laws.
    let potts = rbm("potts:2x2").on(Cpu::detect().expect("a CPU")).expect("resident");
    for base_rate in [BaseRate::uniform(4), BaseRate::broad(rbm("gaussian:4").view())] {
        let problem = ais(&potts, &base_rate, &Annealing::default()).expect_err("another base rate");
        assert!(argument(problem, "base_rate").contains("potts:2x2"));
        let problem = reverse_ais(&potts, &base_rate, Start::Annealed, &Annealing::default());
        argument(problem.expect_err("another base rate"), "base_rate");
    }
}

/// Chains and trainers of other laws with as many units are refused, and the message names both laws.
#[test]
fn shapes_of_other_laws_are_told_apart() {
    let device = Cpu::detect().expect("a CPU");
    let model = |text: &str| random_laws(text, 3, 1.0, 1).on(device).expect("resident");
    let draws = || Uniforms::new(1, Purpose::Sampling);
    let (potts, binary) = (model("potts:2x2"), model("binary:4"));
    let mut chains = Chains::new(device, potts.shape(), 2, draws()).expect("chains");
    let mut problems = vec![chains.sweep(&binary, 1).expect_err("other laws").to_string()];
    let settings = Settings { algorithm: Algorithm::Pcd { n_chains: 3 }, ..Settings::default() };
    let mut trainer = Trainer::new(device, potts.shape(), settings).expect("trainer");
    problems.push(trainer.step(&mut binary.clone(), rows(&[0.0; 4], 4), 0.1).expect_err("other laws").to_string());
    problems.push(
        trainer
            .set_chains(Chains::new(device, binary.shape(), 3, draws()).expect("chains"))
            .expect_err("other laws")
            .to_string(),
    );
    problems.push(potts.clone().approach(&binary, 0.5).expect_err("other laws").to_string());
    assert!(problems.iter().all(|text| text.contains("potts:2x2") && text.contains("binary:4")), "{problems:#?}");
}

/// At β = 0 a Gaussian unit would have no precision.
#[test]
fn chains_of_numbers_have_a_temperature() {
    let visible = segments("potts:1x2,gaussian:1");
    let shape = Shape::with_visible(visible, 3).expect("a shape");
    for beta in [0.0, -1.0] {
        let state =
            ChainState { hidden: vec![0; 2], betas: vec![1.0, beta], uniforms: Uniforms::new(1, Purpose::Sampling) };
        let problem = Chains::from_state(Cpu::detect().expect("a CPU"), shape, &state).expect_err("no precision");
        assert!(matches!(problem, Error::Value { what: "betas", index: 1, .. }), "{problem:?}");
    }
}
