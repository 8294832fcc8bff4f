//! Missing values and clamped units: the model of a row without some values is the RBM without those units, and clamped chains
//! sample the conditional distribution.

use crate::oracle::{
    generator, in_pool,
    laws::{Laws, random_laws, random_states, segments},
    uniform,
};
use harmonium::{
    Activations, Algorithm, Chains, Cpu, Dataset, Error, Gradient, Monitor, Purpose, Rbm, Scale, Segment, Segments,
    Settings, Shape, Trainer, Uniforms, likelihood::log_likelihoods, log_partition,
};
use rand_pcg::Pcg32;

const LAYERS: [&str; 5] =
    ["binary:150", "potts:31x5", "gaussian:97", "binary:61,potts:3x7,gaussian:50", "gaussian:2,potts:1x70,binary:9"];

/// The mask of missing sites: each with probability 0.3, but not all of them.
fn missing_sites(visible: Segments, draws: &mut Pcg32) -> Vec<bool> {
    let mut missing: Vec<bool> = (0..visible.sites()).map(|_| uniform(draws) < 0.3).collect();
    missing[0] &= missing.iter().any(|&x| !x) && missing.len() > 1;
    missing
}

/// The units of the present sites, and the laws of a layer with only these.
fn there(visible: Segments, missing: &[bool]) -> (Vec<usize>, Segments) {
    let (mut units, mut laws, mut site) = (Vec::new(), Vec::new(), 0);
    for (segment, of) in visible.iter() {
        for first in of.step_by(segment.states()) {
            if !missing[site] {
                units.extend(first..first + segment.states());
                laws.push(match segment {
                    Segment::Potts { states, .. } => Segment::Potts { sites: 1, states },
                    Segment::Gaussian(_) => Segment::Gaussian(1),
                    _ => Segment::Binary(1),
                });
            }
            site += 1;
        }
    }
    // Adjacent segments with one law are merged.
    let mut text: Vec<(Segment, usize)> = Vec::new();
    for law in laws {
        match text.last_mut() {
            Some((last, n)) if *last == law => *n += 1,
            _ => text.push((law, 1)),
        }
    }
    let of = |(law, n): &(Segment, usize)| match law {
        Segment::Potts { states, .. } => format!("potts:{n}x{states}"),
        Segment::Gaussian(_) => format!("gaussian:{n}"),
        _ => format!("binary:{n}"),
    };
    (units, segments(&text.iter().map(of).collect::<Vec<_>>().join(",")))
}

/// The RBM with only these visible units.
fn with_only(rbm: &Rbm, units: &[usize], laws: Segments) -> Rbm {
    let (view, n_hidden) = (rbm.view(), rbm.shape().n_hidden());
    let weights = units.iter().flat_map(|i| &view.weights()[i * n_hidden..][..n_hidden]).copied().collect();
    let bias = units.iter().map(|&i| view.visible_bias()[i]).collect();
    let shape = Shape::with_visible(laws, n_hidden).expect("a right shape");
    let part = Rbm::from_parts(shape, weights, bias, view.hidden_bias().to_vec()).expect("right parts");
    match view.visible_log_variance() {
        _ if laws.is_discrete() => part,
        all => part.with_visible_log_variance(units.iter().map(|&i| all[i]).collect()).expect("right parts"),
    }
}

/// Rows with NaN for each missing site.
fn with_holes(values: &[f32], visible: Segments, missing: &[Vec<bool>]) -> Vec<f32> {
    let mut values = values.to_vec();
    for (row, missing) in values.chunks_exact_mut(visible.units()).zip(missing) {
        let (there, _) = there(visible, missing);
        (0..row.len()).filter(|i| !there.contains(i)).for_each(|i| row[i] = f32::NAN);
    }
    values
}

/// The terms of the rows are the same numbers, added in other lanes in `f64`.
fn assert_close(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() <= 1e-12 * (1.0 + a.abs()) * 1000.0, "{what}: {a} and {b}");
}

#[test]
fn a_row_is_one_of_the_rbm_without_what_is_missing() {
    for (seed, text) in LAYERS.into_iter().enumerate() {
        let (visible, n, nh) = (segments(text), 13, 37);
        let rbm = random_laws(text, nh, 0.2, seed as u64);
        let mut draws = generator(seed as u64 + 70);
        let values = random_states(visible, n, false, 6);
        let missing: Vec<_> = (0..n).map(|_| missing_sites(visible, &mut draws)).collect();
        let data = Dataset::with_missing(with_holes(&values, visible, &missing), visible).expect("right rows");
        assert!(data.rows().has_missing());
        let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("a resident");
        let mut hidden = Activations::default();
        resident.propup(&data, &mut hidden).expect("means");
        let energies = resident.free_energy(&data).expect("energies");
        let explained = resident.reconstruction(data.rows()).expect("reconstructions");
        let pseudo = visible.is_discrete().then(|| resident.pseudo_log_likelihood(&data).expect("a likelihood"));
        let mut gradient = Gradient::zero(rbm.shape());
        for r in 0..n {
            let (units, laws) = there(visible, &missing[r]);
            let part = with_only(&rbm, &units, laws).on(Cpu::detect().expect("a CPU")).expect("a resident");
            let row = units.iter().map(|i| values[r * visible.units() + i]).collect();
            let row = Dataset::of_numbers(row, laws).expect("a right row");
            let mut alone = Activations::default();
            part.propup(&row, &mut alone).expect("means");
            assert_eq!(alone.pre_activation, hidden.pre_activation[r * nh..][..nh], "{text}, row {r}");
            assert_close(part.free_energy(&row).expect("an energy")[0], energies[r], text);
            assert_close(part.reconstruction(row.rows()).expect("one")[0], explained[r], text);
            if let Some(pseudo) = &pseudo {
                assert_close(part.pseudo_log_likelihood(&row).expect("one")[0], pseudo[r], text);
            }
            // The gradient of one row.
            let mut weights = vec![0.0; n];
            weights[r] = 1.0;
            resident.free_energy_gradient(&data, &weights, &mut gradient).expect("a gradient");
            let mut own = Gradient::zero(part.shape());
            part.free_energy_gradient(&row, &[1.0], &mut own).expect("a gradient");
            assert_eq!(gradient.hidden_bias, own.hidden_bias, "{text}");
            for i in 0..visible.units() {
                let at = units.iter().position(|&unit| unit == i);
                let expected = at.map_or(&[0.0; 37][..], |at| &own.weights[at * nh..][..nh]);
                assert_eq!(&gradient.weights[i * nh..][..nh], expected, "{text}, row {r}, unit {i}");
                assert_eq!(gradient.visible_bias[i], at.map_or(0.0, |at| own.visible_bias[at]), "{text}, unit {i}");
                if !visible.is_discrete() {
                    let expected = at.map_or(0.0, |at| own.visible_log_variance.get(at).copied().unwrap_or(0.0));
                    assert_eq!(gradient.visible_log_variance[i], expected, "{text}, unit {i}");
                }
            }
        }
    }
}

/// The gradient of an update with many chains is that of -mean log P_O(v_O), where P_O is the RBM with the units of the row. Each
/// number is a mean over M independent chains, whose variance is known by enumeration. Six standard errors: a false alarm in one of
/// 5·10^8 numbers, of which there are some hundred.
#[test]
fn updates_follow_the_likelihood_of_what_is_there() {
    let text = "binary:3,potts:1x3,gaussian:1";
    let (visible, nh, patterns, copies) = (segments(text), 2, 7, 3000);
    let rbm = random_laws(text, nh, 0.7, 3);
    let mut draws = generator(5);
    let values = random_states(visible, patterns, false, 9);
    let missing: Vec<_> = (0..patterns).map(|_| missing_sites(visible, &mut draws)).collect();
    let holes = with_holes(&values, visible, &missing);
    let data = Dataset::with_missing(holes.repeat(copies), visible).expect("right rows");
    let nv = visible.units();
    let (mut mean, mut variance) = (vec![0.0; nv * nh + nv + nh], vec![0.0; nv * nh + nv + nh]);
    for (r, missing) in missing.iter().enumerate() {
        let (units, laws) = there(visible, missing);
        let model = Laws::of(&with_only(&rbm, &units, laws));
        let place = |at: usize| match at {
            _ if at < model.nv * nh => units[at / nh] * nh + at % nh,
            _ if at < model.nv * nh + model.nv => nv * nh + units[at - model.nv * nh],
            _ => nv * nh + nv + at - model.nv * nh - model.nv,
        };
        let row: Vec<f64> = units.iter().map(|i| f64::from(values[r * nv + i])).collect();
        let log_z = model.log_z();
        let at_row = model.free_energy_gradient(&row);
        let (mut first, mut second) = (vec![0.0; mean.len()], vec![0.0; mean.len()]);
        for (v, volume) in model.nodes() {
            let p = (volume - model.free_energy(&v) - log_z).exp();
            for (at, g) in model.free_energy_gradient(&v).into_iter().enumerate().take(model.nv * nh + model.nv + nh) {
                first[place(at)] += p * g;
                second[place(at)] += p * g * g;
            }
        }
        for (at, g) in at_row.into_iter().enumerate().take(model.nv * nh + model.nv + nh) {
            mean[place(at)] += (g - first[place(at)]) / patterns as f64;
        }
        for at in 0..mean.len() {
            variance[at] += (second[at] - first[at] * first[at]) / (patterns * patterns * copies) as f64;
        }
    }
    for (algorithm, threads) in [(Algorithm::Cd, 2), (Algorithm::Pcd { n_chains: patterns * copies }, 1)] {
        let settings = Settings { algorithm, k: 60, monitor: Monitor::None, seed: 8, ..Settings::default() };
        let cpu = Cpu::detect().expect("a CPU");
        let resident = rbm.on(cpu).expect("a resident");
        let mut gradient = Gradient::zero(rbm.shape());
        let mut trainer = Trainer::new(cpu, rbm.shape(), settings).expect("a trainer");
        in_pool(threads, || trainer.gradient(&resident, &data, &mut gradient)).expect("a gradient");
        // b of a Gaussian unit is compared by the gradient of s·v alone: b itself cancels between the phases.
        let found = [&gradient.weights[..], &gradient.visible_bias, &gradient.hidden_bias].concat();
        for (at, (&found, (mean, variance))) in found.iter().zip(mean.iter().zip(&variance)).enumerate() {
            let bound = 6.0 * variance.sqrt() + 1e-5;
            assert!((f64::from(found) - mean).abs() < bound, "{algorithm:?}, {at}: {found}, {mean} within {bound}");
        }
    }
}

/// Unit by unit: clamped units keep their values, and draws of the others equal those of chains that clamp nothing else, on any
/// number of threads.
#[test]
fn held_units_stay() {
    for (seed, text) in LAYERS.into_iter().enumerate() {
        let (visible, n) = (segments(text), 70);
        let rbm = random_laws(text, 19, 0.3, seed as u64);
        let mut draws = generator(seed as u64);
        let missing: Vec<_> = (0..n).map(|_| missing_sites(visible, &mut draws)).collect();
        let values = with_holes(&random_states(visible, n, false, 4), visible, &missing);
        let given = Dataset::with_missing(values.clone(), visible).expect("right rows");
        let run = |threads: usize| {
            in_pool(threads, || {
                let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("a resident");
                let mut chains =
                    Chains::from_visible(&resident, &given, Uniforms::new(3, Purpose::Sampling)).expect("chains");
                chains.hold(given.rows()).expect("held");
                chains.sweep(&resident, 7).expect("swept");
                let mut visible = Activations::default();
                chains.visible(&resident, &mut visible).expect("a layer");
                (visible, chains.hidden().expect("bits"))
            })
        };
        let one = run(1);
        assert_eq!(one, run(3), "{text}");
        let mut moved = 0;
        for ((&given, &sample), &mean) in values.iter().zip(&one.0.sample).zip(&one.0.mean) {
            if given.is_nan() {
                assert!(sample.is_finite());
                moved += usize::from(sample != 0.0);
            } else {
                assert_eq!((sample, mean), (given, given), "{text}");
            }
        }
        assert!(moved > 0, "{text}");
    }
}

#[test]
fn what_is_missing_goes_with_its_row() {
    let nan = f32::NAN;
    let data =
        Dataset::with_missing(vec![1.0, nan, 0.2, 0.8, nan, nan, 0.0, 1.0], segments("binary:2")).expect("right rows");
    let holes = |data: &Dataset| data.rows().to_vec().iter().map(|x| x.is_nan()).collect::<Vec<_>>();
    let told = [false, true, false, false, true, true, false, false];
    assert_eq!(holes(&data), told);
    assert_eq!(holes(&data.binarised()), told);
    assert_eq!(holes(&data.select(&[2, 0]).expect("rows")), [true, true, false, true]);
    let mut kept = data.clone();
    kept.keep(1..3).expect("rows");
    assert_eq!(holes(&kept), [false, false, true, true]);
    // Level 0 is at most any value, but missing values stay missing.
    let mut epochs = harmonium::Epochs::new(true, "threshold:0-0".parse().expect("levels"), 3).expect("epochs");
    let shown = epochs.show(&data, 5).expect("an epoch");
    for r in 0..4 {
        for i in 0..2 {
            assert_eq!(shown.rows().value(r, i), if shown.rows().is_missing(r, i) { 0.0 } else { 1.0 });
        }
    }
    assert_eq!(holes(shown).iter().filter(|&&hole| hole).count(), 3);
    // Means are over the rows with a value: three of each column, clipped at 2/3.
    let expected = [0.5, 2.0 / 3.0];
    let means = Dataset::with_missing(vec![0.5, nan, 0.4, 1.0, 0.6, 1.0, nan, 1.0], segments("binary:2"));
    let means = means.expect("right rows").rows().clipped_means();
    means.iter().zip(expected).for_each(|(mean, expected): (&f32, f32)| assert!((mean - expected).abs() < 1e-6));
    let numbers = Dataset::with_missing(vec![1.0, nan, 3.0, 5.0], segments("gaussian:2")).expect("right rows");
    let scale = Scale::standard(numbers.rows());
    assert_eq!((scale.mean(), scale.deviation()), (&[2.0, 5.0][..], &[1.0, 1.0][..]));
    assert_eq!(holes(&scale.apply(&numbers).expect("scaled")), [false, true, false, false]);
}

#[test]
fn what_cannot_be_missing_or_held_is_refused() {
    let nan = f32::NAN;
    let law = |problem: Error| problem.to_string();
    let partly = Dataset::with_missing(vec![1.0, nan, 0.0], segments("potts:1x3"));
    assert_eq!(
        law(partly.expect_err("a part of a site")),
        "rows: row 0, column 0, potts: expected all states of a site missing, or none, found NaN"
    );
    assert_eq!(
        law(Dataset::with_missing(vec![0.5, 2.0], segments("binary:2")).expect_err("no value of a bit")),
        "rows: row 0, column 1, binary: expected a value within [0, 1], found 2"
    );
    let cpu = Cpu::detect().expect("a CPU");
    let shape = Shape::new(2, 2).expect("a shape");
    let rbm = Rbm::new(shape, 1).on(cpu).expect("a resident");
    let mut chains = Chains::new(cpu, shape, 2, Uniforms::new(1, Purpose::Sampling)).expect("chains");
    let hold = |chains: &mut Chains, values: Vec<f32>| {
        let given = Dataset::with_missing(values, segments("binary:2")).expect("right rows");
        chains.hold(given.rows()).expect_err("not to be held").to_string()
    };
    assert_eq!(
        hold(&mut chains, vec![1.0, nan]),
        "held: expected 2 rows of 2 values, a row for each chain, found 1 rows of 2"
    );
    assert_eq!(
        hold(&mut chains, vec![1.0, nan, nan, 0.5]),
        "rows: row 1, column 1, binary: expected 0 or 1 for a held unit, found 0.5"
    );
    let holes = Dataset::with_missing(vec![1.0, nan], segments("binary:2")).expect("right rows");
    let log_z = log_partition::exact::log_partition(Rbm::new(shape, 1).view()).expect("log Z");
    assert_eq!(
        log_likelihoods(&rbm, &holes, &log_z).expect_err("no log Z for it").to_string(),
        "rows: expected rows without missing values, found missing values"
    );
}

/// The monitored bit of a row that lacks it counts 0, also if rows are bits and the monitor shares the positive phase's sums.
#[test]
fn a_monitored_bit_that_is_missing_counts_nothing() {
    let (n_visible, n) = (9, 11);
    let mut draws = generator(31);
    let values: Vec<f32> = (0..n * n_visible)
        .map(|_| if uniform(&mut draws) < 0.3 { f32::NAN } else { f32::from(uniform(&mut draws) < 0.5) })
        .collect();
    let data = Dataset::with_missing(values, segments("binary:9")).expect("rows");
    let cpu = Cpu::detect().expect("a CPU");
    let shape = Shape::new(n_visible, 6).expect("a shape");
    let settings =
        Settings { algorithm: Algorithm::Cd, k: 1, monitor: Monitor::PseudoLikelihood, ..Settings::default() };
    let mut rbm = Rbm::new(shape, 3).on(cpu).expect("resident");
    let mut trainer = Trainer::new(cpu, shape, settings).expect("a trainer");
    for bit in (0..n_visible).cycle().take(20) {
        let terms = rbm.pseudo_log_likelihood_of_bit(data.rows(), bit).expect("the bit's terms");
        for (r, term) in terms.iter().enumerate() {
            assert_eq!(*term == 0.0, data.rows().is_missing(r, bit), "bit {bit} of row {r}");
        }
        trainer.step(&mut rbm, &data, 0.5).expect("a step");
        let found = trainer.take_report().expect("a report").monitor;
        assert_eq!(found, Some(terms.iter().sum::<f64>() / n as f64), "bit {bit}");
    }
}
