//! Replica exchange: swaps follow the formula, every temperature has its distribution, modes that plain chains never leave are
//! visited with their weights, and the ladder lets neighbours swap.
//!
//! Statistical tests have fixed seeds and a false-alarm rate of 1e-6 a comparison, some two hundred in all.

use crate::oracle::{
    assert_bits,
    exact::{index, log_sum_exp, rows_f64, sigmoid, softplus, state},
    for_each_device, in_pool, is_emulated,
    laws::{Laws, random_laws},
    random_rbm, shape,
    statistics::assert_distribution,
};
use harmonium::{
    Activations, Chains, Cpu, Dataset, Device, Isa, Ladder, Purpose, Rbm, Resident, Rows, Segment, Tempered, Uniforms,
    Values,
};
use rand_core::Rng;

const LAYERS: [&str; 5] =
    ["binary:4", "potts:2x3", "gaussian:2", "binary:2,potts:1x3,gaussian:1", "gaussian:1,binary:3"];
/// The quantile of |t| with 99 degrees of freedom that is exceeded with probability 1e-6.
const STUDENT_99: f64 = 5.22;

fn tempered(rbm: &Resident, sets: usize, ladder: Ladder<'_>, seed: u64) -> Tempered {
    let start = Chains::from_hidden_bias(rbm, sets, Uniforms::new(seed, Purpose::Sampling)).expect("chains");
    Tempered::new(rbm, &start, ladder, Uniforms::new(seed, Purpose::Exchanging)).expect("tempered")
}

fn cpu() -> Cpu {
    Cpu::detect().expect("a CPU")
}

/// Hidden unit 0 switches all visible units on or off: two modes of weights 1 and e³, 300 nats apart.
fn two_modes() -> Rbm {
    let (nv, nh) = (30, 30);
    let weights = (0..nv * nh).map(|at| if at % nh == 0 { 20.0 } else { 0.0 }).collect();
    let mut hidden = vec![0.0; nh];
    hidden[0] = -297.0;
    Rbm::from_parts(shape(nv, nh), weights, vec![-10.0; nv], hidden).expect("a model")
}

/// For each row, whether it belongs to the mode with weight e³.
fn is_on(samples: &[f32]) -> impl Iterator<Item = bool> {
    samples.chunks_exact(30).map(|v| v.iter().sum::<f32>() > 15.0)
}

/// A step leaves its mode only if half of 30 units are wrong at σ(-10) each: p < 30!/15!²·e^-150.
#[test]
fn plain_chains_never_cross() {
    let rbm = two_modes().on(cpu()).expect("resident");
    let starts = [vec![0u8; 300], vec![255; 300]];
    for (mode, start) in starts.iter().enumerate() {
        let rows = Rows::new(Values::U8(start), 30).expect("rows");
        let mut chains = Chains::from_visible(&rbm, rows, Uniforms::new(1, Purpose::Sampling)).expect("chains");
        let mut visible = Activations::default();
        for _ in 0..1000 {
            chains.sweep(&rbm, 10).expect("sweep");
            chains.visible(&rbm, &mut visible).expect("visible");
            assert!(is_on(&visible.sample).all(|on| on == (mode == 1)));
        }
    }
}

/// Sets are independent, so the variance between their means gives the standard error of the mean over all, for any autocorrelation
/// time.
#[test]
fn tempered_chains_visit_both_modes_with_their_weights() {
    let (rbm, sets) = (two_modes().on(cpu()).expect("resident"), 100);
    // ln(1 + e^a) - ln(1 + e^-a) = a: the weights are e^(300 - 297) and 1, for each state of the other units.
    let expected = sigmoid(3.0);
    for (ladder, number) in [
        (Ladder::Adapted { at_most: 10, rounds: 400 }, 2),
        (Ladder::Fixed(&[1.0, 0.7, 0.4, 0.2, 0.1, 0.05, 0.0]), 7),
        // At 0.05 chains leave a mode, and the modes still have different weights.
        (Ladder::Fixed(&[1.0, 0.05]), 2),
    ] {
        let mut chains = tempered(&rbm, sets, ladder, 2);
        assert_eq!(chains.betas().len(), number, "{:?}", chains.betas());
        let (mut visible, mut on, steps) = (Activations::default(), vec![0.0; sets], 2000);
        for _ in 0..500 {
            chains.step(&rbm, 1).expect("step");
        }
        for _ in 0..steps {
            chains.step(&rbm, 1).expect("step");
            chains.coldest(&rbm, &mut visible).expect("coldest");
            on.iter_mut().zip(is_on(&visible.sample)).for_each(|(sum, on)| *sum += f64::from(u8::from(on)));
        }
        let means: Vec<f64> = on.iter().map(|sum| sum / f64::from(steps)).collect();
        let mean = means.iter().sum::<f64>() / sets as f64;
        let variance = means.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (sets - 1) as f64;
        let t = (mean - expected) / (variance / sets as f64).sqrt();
        assert!(variance < 1e-3 && t.abs() < STUDENT_99, "{:?}: {mean} of {expected}, t {t}", chains.betas());
        assert!(chains.round_trips() > 10 * sets as u64);
    }
}

for_each_device! {
    /// The states and inverse temperatures after a step, from those before it, by the definition in `f64`.
    fn swaps_are_those_that_the_formula_says(device) {
        let betas = [1.0, 0.75, 0.5, 0.125f32];
        let (sets, n) = (3, betas.len());
        let rounds = if is_emulated(&device) { 8 } else { 100 };
        for (seed, text) in LAYERS.into_iter().enumerate() {
            let rbm = random_laws(text, 5, 1.5, 60 + seed as u64);
            let model = Laws::of(&rbm);
            let resident = rbm.on(&device).expect("resident");
            let mut chains = tempered(&resident, sets, Ladder::Fixed(&betas), 3);
            let (mut swapped, mut tried) = (0, 0);
            for round in 0..rounds {
                let h = rows_f64(&chains.chains().hidden().expect("hidden"), 5);
                let before = chains.chains().state().expect("state").betas;
                chains.step(&resident, 1 + round % 2).expect("step");
                let after = chains.chains().state().expect("state").betas;
                let mut generator = Uniforms::new(3, Purpose::Exchanging).generator();
                generator.advance((round * sets * (n - 1)) as u64);
                for m in 0..sets {
                    // The chains of the set, coldest first.
                    let mut places: Vec<usize> = (0..n).map(|t| t * sets + m).collect();
                    places.sort_by(|&a, &b| before[b].total_cmp(&before[a]));
                    let now: Vec<f32> = places.iter().map(|&chain| before[chain]).collect();
                    assert_eq!(now, betas);
                    for t in 0..n - 1 {
                        let u = (f64::from(generator.next_u32()) + 0.5) / 2f64.powi(32);
                        if (t + round) % 2 == 1 {
                            continue;
                        }
                        let density = |t: usize, h: &[f64]| model.tempered(f64::from(betas[t])).minus_hidden_free_energy(h);
                        let (a, b) = (&h[places[t]], &h[places[t + 1]]);
                        let ratio = (density(t, b) + density(t + 1, a) - density(t, a) - density(t + 1, b)).exp();
                        let is_swapped = after[places[t]] != before[places[t]];
                        // The errors of pre-activations of five units of ±1.5 are below 1e-5, and so are those of sums of some of
                        // them.
                        if (u / ratio).ln().abs() > 1e-4 {
                            assert_eq!(is_swapped, u < ratio, "{text}, round {round}, set {m}, pair {t}: {u} {ratio}");
                        }
                        let two = [places[t], places[t + 1]];
                        assert_eq!(two.map(|chain| after[chain]), if is_swapped { [betas[t + 1], betas[t]] } else { [betas[t], betas[t + 1]] });
                        swapped += usize::from(is_swapped);
                        tried += 1;
                    }
                }
            }
            assert!(tried > 20 && swapped > tried / 5 && (swapped < tried || is_emulated(&device)), "{text}: {swapped} of {tried}");
        }
    }

    /// Chains of all temperatures converge to p_β(h) from another start, and the coldest to P(v|h).
    fn every_temperature_has_its_distribution(device) {
        let (betas, nh) = ([1.0, 0.6, 0.2f32], 3);
        let sets = if is_emulated(&device) { 400 } else { 20_000 };
        for (seed, text) in LAYERS.into_iter().enumerate() {
            let rbm = random_laws(text, nh, 1.5, 70 + seed as u64);
            let model = Laws::of(&rbm);
            let resident = rbm.on(&device).expect("resident");
            let mut chains = tempered(&resident, sets, Ladder::Fixed(&betas), 4);
            for _ in 0..60 {
                chains.step(&resident, 1).expect("step");
            }
            let (state, h) = (chains.chains().state().expect("state"), chains.chains().hidden().expect("hidden"));
            for beta in betas {
                let mut counts = vec![0; 1 << nh];
                let here = h.chunks_exact(nh).zip(&state.betas).filter(|(_, b)| **b == beta);
                here.for_each(|(h, _)| counts[index(h)] += 1);
                assert_distribution(&counts, &model.tempered(f64::from(beta)).p_h(), &format!("{text}, beta {beta}"));
            }
            // In the order of sets: v is that of the coldest chain's last step, and its mean is that chain's.
            let (mut coldest, mut all) = (Activations::default(), Activations::default());
            chains.coldest(&resident, &mut coldest).expect("coldest");
            chains.chains().visible(&resident, &mut all).expect("visible");
            for m in 0..sets {
                let chain = (0..betas.len()).map(|t| t * sets + m).find(|&chain| state.betas[chain] == 1.0).expect("one");
                let (from, to) = (chain * model.nv..(chain + 1) * model.nv, m * model.nv..(m + 1) * model.nv);
                assert_bits(&coldest.sample[to.clone()], &all.sample[from.clone()], text);
                assert_bits(&coldest.mean[to.clone()], &all.mean[from.clone()], text);
                assert_bits(&coldest.pre_activation[to], &all.pre_activation[from], text);
            }
        }
    }
}

/// For each layer one row of clamped values, NaN for units that move.
const HELD: [&[f32]; 5] = [
    &[1.0, f32::NAN, 0.0, f32::NAN],
    &[0.0, 1.0, 0.0, f32::NAN, f32::NAN, f32::NAN],
    &[0.8, f32::NAN],
    &[f32::NAN, 1.0, 0.0, 0.0, 1.0, f32::NAN],
    &[-1.3, 0.0, f32::NAN, 1.0],
];

/// ln Σ e^-E(v, h) over the units that move, up to a constant: a clamped one adds s·v·a.
fn log_density_given(model: &Laws, held: &[f32], h: &[f64]) -> f64 {
    let pre = model.visible_pre(h).0;
    let given: f64 =
        (0..model.nv).filter(|&i| !held[i].is_nan()).map(|i| model.s[i] * f64::from(held[i]) * pre[i]).sum();
    let moving = |(segment, units): (Segment, std::ops::Range<usize>)| match segment {
        _ if !held[units.start].is_nan() => 0.0,
        Segment::Binary(_) => softplus(pre[units.start]),
        Segment::Potts { .. } => log_sum_exp(&pre[units]),
        Segment::Gaussian(_) => model.s[units.start] * pre[units.start].powi(2) / 2.0,
    };
    given + model.sites().into_iter().map(moving).sum::<f64>() + (0..model.nh).map(|j| model.c(j) * h[j]).sum::<f64>()
}

/// p(h|v_clamped) of all h.
fn p_h_given(model: &Laws, held: &[f32]) -> Vec<f64> {
    let logs: Vec<f64> = (0..1 << model.nh).map(|at| log_density_given(model, held, &state(at, model.nh))).collect();
    let all = log_sum_exp(&logs);
    logs.into_iter().map(|log| (log - all).exp()).collect()
}

/// Chains with clamped units sample the conditional distribution, singly and at every temperature. Their means, on which imputation
/// relies, are those of the units that move.
#[test]
fn held_chains_sample_the_conditional_distribution() {
    let (betas, nh, sets) = ([1.0, 0.6, 0.2f32], 3, 20_000);
    for ((seed, text), held) in LAYERS.into_iter().enumerate().zip(HELD) {
        let rbm = random_laws(text, nh, 1.5, 70 + seed as u64);
        let model = Laws::of(&rbm);
        let resident = rbm.on(cpu()).expect("resident");
        let given = Dataset::with_missing(held.repeat(sets), model.visible).expect("rows");
        let mut alone = Chains::from_hidden_bias(&resident, sets, Uniforms::new(9, Purpose::Sampling)).expect("chains");
        alone.hold(given.rows()).expect("held");
        let ladder = Ladder::Fixed(&betas);
        let mut chains =
            Tempered::new(&resident, &alone, ladder, Uniforms::new(9, Purpose::Exchanging)).expect("tempered");
        alone.sweep(&resident, 60).expect("sweep");
        let count = |h: &[f32], is_here: &dyn Fn(usize) -> bool| {
            let mut counts = vec![0; 1 << nh];
            h.chunks_exact(nh)
                .enumerate()
                .filter(|(chain, _)| is_here(*chain))
                .for_each(|(_, h)| counts[index(h)] += 1);
            counts
        };
        let p = p_h_given(&model, held);
        assert_distribution(&count(&alone.hidden().expect("hidden"), &|_| true), &p, &format!("{text}, alone"));
        for _ in 0..60 {
            chains.step(&resident, 1).expect("step");
        }
        let (temperatures, h) =
            (chains.chains().state().expect("state").betas, chains.chains().hidden().expect("hidden"));
        for beta in betas {
            let p = p_h_given(&model.tempered(f64::from(beta)), held);
            assert_distribution(&count(&h, &|chain| temperatures[chain] == beta), &p, &format!("{text}, beta {beta}"));
        }
        let (mut of_alone, mut coldest) = (Activations::default(), Activations::default());
        alone.visible(&resident, &mut of_alone).expect("visible");
        chains.coldest(&resident, &mut coldest).expect("coldest");
        for visible in [of_alone, coldest] {
            let means: Vec<Vec<f64>> =
                (0..1 << nh).map(|at| model.means(&model.visible_pre(&state(at, nh)).0)).collect();
            for i in 0..model.nv {
                let found = |of: &[f32]| of.iter().skip(i).step_by(model.nv).map(|&x| f64::from(x)).collect::<Vec<_>>();
                if !held[i].is_nan() {
                    assert!(
                        found(&visible.mean).iter().chain(&found(&visible.sample)).all(|&x| x == f64::from(held[i]))
                    );
                    continue;
                }
                let expected: f64 = p.iter().zip(&means).map(|(p, means)| p * means[i]).sum();
                for of in [found(&visible.mean), found(&visible.sample)] {
                    let mean = of.iter().sum::<f64>() / sets as f64;
                    let variance = of.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (sets - 1) as f64;
                    let z = (mean - expected) / (variance / sets as f64).sqrt();
                    // A normal number exceeds this in magnitude with probability 1e-6.
                    assert!(z.abs() < 4.9, "{text}, unit {i}: {mean} of {expected}, z {z}");
                }
            }
        }
    }
}

#[test]
fn neighbours_swap_at_middling_rates() {
    for (text, range, at_most, reaches) in [
        ("binary:60", 1.0, 30, true),
        ("binary:60", 1.0, 6, false),
        ("potts:20x3", 0.8, 30, true),
        ("gaussian:12", 0.5, 30, true),
        ("binary:20,potts:3x4,gaussian:5", 0.6, 30, true),
    ] {
        let rbm = random_laws(text, 40, range, 80).on(cpu()).expect("resident");
        let mut chains = tempered(&rbm, 10, Ladder::Adapted { at_most, rounds: 600 }, 5);
        for _ in 0..1000 {
            chains.step(&rbm, 1).expect("step");
        }
        let (betas, rates) = (chains.betas(), chains.rates());
        assert!(rates.iter().all(|rate| (0.3..=0.6).contains(rate)), "{text}, at most {at_most}: {betas:?} {rates:?}");
        let floor = if rbm.shape().visible().is_discrete() { 0.0 } else { 1.0 / 64.0 };
        assert_eq!(betas[betas.len() - 1] == floor, reaches, "{text}: {betas:?}");
        assert_eq!(rates.len() + 1, betas.len());
        assert!(if reaches { betas.len() < at_most } else { betas.len() == at_most }, "{text}: {betas:?}");
    }
}

/// Two temperatures of a model without weights always swap, and the ladder has the least length.
#[test]
fn a_model_without_weights_has_two_temperatures() {
    let rbm = Rbm::from_parts(shape(5, 4), vec![0.0; 20], vec![0.0; 5], vec![0.0; 4]).expect("a model");
    let rbm = rbm.on(cpu()).expect("resident");
    let mut chains = tempered(&rbm, 3, Ladder::Adapted { at_most: 12, rounds: 100 }, 6);
    chains.step(&rbm, 1).expect("step");
    chains.step(&rbm, 1).expect("step");
    assert_eq!((chains.betas(), &chains.rates()[..]), (&[1.0, 0.0][..], &[1.0][..]));
}

#[test]
fn the_same_bits_on_any_number_of_threads_and_instruction_set() {
    for (text, nh) in [("binary:97", 65), ("binary:61,potts:3x7,gaussian:50", 37)] {
        let rbm = random_laws(text, nh, 0.4, 90);
        let run = |device: Device| {
            let rbm = rbm.on(device).expect("resident");
            let mut chains = tempered(&rbm, 7, Ladder::Adapted { at_most: 9, rounds: 100 }, 7);
            for k in 1..8 {
                chains.step(&rbm, k % 3 + 1).expect("step");
            }
            let mut visible = Activations::default();
            chains.coldest(&rbm, &mut visible).expect("coldest");
            let rates: Vec<u64> = chains.rates().into_iter().map(f64::to_bits).collect();
            (chains.chains().state().expect("state"), rates, visible, chains.round_trips())
        };
        let expected = in_pool(1, || run(Cpu::with_isa(Isa::available()[0]).into()));
        for isa in Isa::available() {
            for threads in [1, 2, 3, 8] {
                assert!(in_pool(threads, || run(Cpu::with_isa(isa).into())) == expected, "{text}, {isa}, {threads}");
            }
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let rbm = random_rbm(shape(4, 3), 1.0, 8).on(cpu()).expect("resident");
    let numbers = random_laws("gaussian:4", 3, 1.0, 8).on(cpu()).expect("resident");
    let start = |rbm: &Resident| Chains::from_hidden_bias(rbm, 2, Uniforms::new(8, Purpose::Sampling)).expect("chains");
    let falling = "betas: expected at least two numbers that fall from 1 to";
    for (rbm, ladder, expected) in [
        (&rbm, Ladder::Fixed(&[]), format!("{falling} 0 or more, found []")),
        (&rbm, Ladder::Fixed(&[1.0]), format!("{falling} 0 or more, found [1.0]")),
        (&rbm, Ladder::Fixed(&[0.9, 0.5]), format!("{falling} 0 or more, found [0.9, 0.5]")),
        (&rbm, Ladder::Fixed(&[1.0, 0.5, 0.5]), format!("{falling} 0 or more, found [1.0, 0.5, 0.5]")),
        (&rbm, Ladder::Fixed(&[1.0, -0.5]), format!("{falling} 0 or more, found [1.0, -0.5]")),
        (&rbm, Ladder::Fixed(&[1.0, f32::NAN]), "betas[1]: expected a finite number, found NaN".into()),
        (
            &numbers,
            Ladder::Fixed(&[1.0, 0.0]),
            format!("{falling} above 0, as there are Gaussian units, found [1.0, 0.0]"),
        ),
        (&rbm, Ladder::Adapted { at_most: 1, rounds: 100 }, "temperatures: expected at least 2, found 1".into()),
        (&rbm, Ladder::Adapted { at_most: 2, rounds: 99 }, "rounds: expected at least 100, found 99".into()),
        (
            &rbm,
            Ladder::Adapted { at_most: usize::MAX, rounds: 100 },
            format!(
                "chains at all temperatures: expected at least 1, and as many as fit in memory, found {}",
                usize::MAX
            ),
        ),
    ] {
        let refused = Tempered::new(rbm, &start(rbm), ladder, Uniforms::new(8, Purpose::Exchanging));
        assert_eq!(refused.map(|_| ()).map_err(|problem| problem.to_string()), Err(expected));
    }
    let others =
        Tempered::new(&rbm, &start(&numbers), Ladder::Fixed(&[1.0, 0.0]), Uniforms::new(8, Purpose::Exchanging));
    assert_eq!(
        others.map(|_| ()).map_err(|problem| problem.to_string()),
        Err("chains: expected shape 4 × 3 with visible units binary:4, found 4 × 3 with visible units gaussian:4"
            .into()),
    );
    let mut chains = tempered(&rbm, 2, Ladder::Fixed(&[1.0, 0.0]), 8);
    assert!(chains.step(&rbm, 0).is_err() && chains.step(&numbers, 1).is_err());
    assert!(chains.rates()[0].is_nan());
}
