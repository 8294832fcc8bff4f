//! Samples of visible units of several laws: the bits of one sequential program, and a kernel that leaves the model's distribution
//! invariant.
//!
//! Statistical tests have fixed seeds and a false-alarm rate of 1e-6 a comparison, some three hundred in all.

use crate::oracle::{
    assert_bits,
    canonical_laws::CanonicalLaws,
    exact::{product, rows_f64, state},
    generator, in_pool,
    laws::{Laws, law_rows, random_laws, random_states, segments},
    random_bits, random_values, rows,
    statistics::{assert_distribution, assert_normal, draw_from},
};
use harmonium::{
    Activations, ChainState, Chains, Cpu, Device, Isa, Purpose, Rbm, Segment, Shape, Uniforms, elementary::sigmoid,
};

/// Sizes that are not multiples of 16 or 64, sites across their borders, one and several of everything.
const LAYERS: [&str; 7] = [
    "potts:1x2",
    "potts:31x5",
    "gaussian:1",
    "gaussian:97",
    "binary:61,potts:3x7,gaussian:50",
    "gaussian:70,binary:3,potts:1x200",
    "potts:20x3,gaussian:9,potts:2x37,binary:20,gaussian:66",
];
/// Positions of draws: odd ones, and across 2^32 and the end of the 64-bit count.
const PLACES: [u64; 4] = [0, 77, (1 << 32) - 100, u64::MAX - 100];

/// A model with moderate pre-activations.
fn model(text: &str, nh: usize, seed: u64) -> Rbm {
    random_laws(text, nh, 2.0 / (segments(text).units().max(nh) as f64).sqrt(), seed)
}

fn chain_state(hidden: &[f32], n_hidden: usize, betas: Vec<f32>, uniforms: Uniforms) -> ChainState {
    let word = |part: &[f32]| part.iter().rev().fold(0u64, |word, &x| word << 1 | u64::from(x == 1.0));
    let hidden = hidden.chunks_exact(n_hidden).flat_map(|row| row.chunks(64).map(word)).collect();
    ChainState { hidden, betas, uniforms }
}

#[test]
fn draws_are_the_sequential_programs() {
    for (seed, text) in LAYERS.into_iter().enumerate() {
        for (nh, n) in [(1, 1), (37, 7), (130, 71)] {
            let rbm = model(text, nh, seed as u64);
            let (program, visible) = (CanonicalLaws { rbm: &rbm }, segments(text));
            let (h, v) = (random_bits(n * nh, 0.5, 1), random_states(visible, n, false, 2));
            let grey = random_values(n * nh, 0.8, 3);
            for place in PLACES {
                let mut draws = Uniforms::new(5, Purpose::Sampling);
                draws.seek(place);
                let mut generator = draws.generator();
                let of_h = [&h, &grey].map(|h| program.sample_v(h, &mut generator));
                let of_v = program.sample_h(&v, &mut generator);
                for (isa, threads) in Isa::available().into_iter().zip([2, 3, 1]) {
                    let what = format!("{text} × {nh}, {n} rows, {}, place {place}", isa.name());
                    let mut draws = draws.clone();
                    let resident = rbm.on(Cpu::with_isa(isa)).expect("resident");
                    in_pool(threads, || {
                        let mut out = Activations::default();
                        for (h, expected) in [&h, &grey].into_iter().zip(&of_h) {
                            resident.sample_v_given_h(rows(h, nh), &mut draws, &mut out).expect("v");
                            assert_bits(&out.pre_activation, &expected.pre_activation, &what);
                            assert_bits(&out.sample, &expected.sample, &what);
                        }
                        resident.sample_h_given_v(law_rows(&v, visible), &mut draws, &mut out).expect("h");
                        assert_bits(&out.pre_activation, &of_v.pre_activation, &what);
                        assert_bits(&out.sample, &of_v.sample, &what);
                        let drawn = n * (2 * visible.units() + nh);
                        assert_eq!(draws.position(), place.wrapping_add(drawn as u64), "{what}");
                    });
                }
            }
        }
    }
}

#[test]
fn sweeps_are_the_sequential_programs() {
    for (seed, text) in LAYERS.into_iter().enumerate() {
        for (nh, n) in [(5, 2), (65, 70)] {
            let (rbm, visible) = (model(text, nh, seed as u64), segments(text));
            let program = CanonicalLaws { rbm: &rbm };
            let v = random_states(visible, n, true, 2);
            let draws = Uniforms::new(6, Purpose::Training);
            let mut generator = draws.generator();
            let mut hidden = vec![program.sample_h(&v, &mut generator).sample];
            let mut expected = Vec::new();
            for step in 0..6 {
                expected.push(program.sample_v(&hidden[step], &mut generator));
                hidden.push(program.sample_h(&expected[step].sample, &mut generator).sample);
            }
            for (isa, threads) in Isa::available().into_iter().flat_map(|isa| [1, 2, 3].map(|threads| (isa, threads))) {
                let resident = rbm.on(Cpu::with_isa(isa)).expect("resident");
                in_pool(threads, || {
                    let rows_of_v = law_rows(&v, visible);
                    let mut chains = Chains::from_visible(&resident, rows_of_v, draws.clone()).expect("chains");
                    let mut out = Activations::default();
                    for (k, step) in [(1, 1), (2, 3), (3, 6)] {
                        chains.sweep(&resident, k).expect("sweep");
                        chains.visible(&resident, &mut out).expect("visible");
                        assert_bits(&out.pre_activation, &expected[step - 1].pre_activation, text);
                        assert_bits(&out.sample, &expected[step - 1].sample, text);
                        assert_bits(&chains.hidden().expect("hidden"), &hidden[step], text);
                        // Means after a sweep are those of a conditional.
                        let mut alone = Activations::default();
                        resident.propdown(rows(&hidden[step - 1], nh), &mut alone).expect("propdown");
                        assert_bits(&out.mean, &alone.mean, text);
                    }
                });
            }
        }
    }
}

/// Number 0 of a site decides, no other one, with all its 32 bits: with two states s = 0 is chosen iff u < σ(a_0 - a_1), up to
/// rounding: a relative 1.7 ulp of e^x and one of the last addition.
#[test]
fn a_site_of_two_states_is_a_binary_unit() {
    let n = 20_000;
    let shape = Shape::with_visible(segments("potts:1x2"), 1).expect("a shape");
    for a in [-18.0f32, -3.0, -0.1, 0.0, 2.0, 17.5] {
        let rbm = Rbm::from_parts(shape, vec![0.0; 2], vec![a, 0.0], vec![0.0]).expect("a model");
        let resident = rbm.on(Cpu::detect().expect("a CPU")).expect("resident");
        let (mut out, mut draws) = (Activations::default(), Uniforms::new(7, Purpose::Sampling));
        let mut generator = draws.generator();
        resident.sample_v_given_h(rows(&vec![0.0; n], 1), &mut draws, &mut out).expect("v");
        let mut told = 0;
        for site in out.sample.chunks_exact(2) {
            let u = (f64::from(rand_core::Rng::next_u32(&mut generator)) + 0.5) / 2f64.powi(32);
            rand_core::Rng::next_u32(&mut generator);
            let p = crate::oracle::exact::sigmoid(f64::from(a));
            if (u - p).abs() > 2f64.powi(-22) * p.min(1.0 - p) {
                assert_eq!(site[0] == 1.0, u < p, "a = {a}, u = {u}");
                told += 1;
            }
        }
        assert!(told > n - 5);
        assert!((out.mean[0] - sigmoid(a)).abs() <= 4.0 * f32::EPSILON * sigmoid(a));
    }
}

/// The cell of a row: states of the discrete variables in mixed radix, the first one least significant.
fn cell(model: &Laws, v: &[f64]) -> usize {
    let (mut cell, mut radix) = (0, 1);
    for (segment, units) in model.sites() {
        let states = match segment {
            Segment::Binary(_) => 2,
            Segment::Potts { states, .. } => states as usize,
            Segment::Gaussian(_) => continue,
        };
        let at = if states == 2 && units.len() == 1 { v[units.start] as usize } else { position(&v[units]) };
        cell += radix * at;
        radix *= states;
    }
    cell
}

fn position(site: &[f64]) -> usize {
    site.iter().position(|&x| x == 1.0).expect("one state")
}

/// P(cell|h) of all cells.
fn p_cells(model: &Laws, h: &[f64]) -> Vec<f64> {
    let means = model.means(&model.visible_pre(h).0);
    let mut all = vec![1.0];
    for (segment, units) in model.sites() {
        let p = match segment {
            Segment::Binary(_) => product(&means[units]),
            Segment::Potts { .. } => means[units].to_vec(),
            Segment::Gaussian(_) => continue,
        };
        all = p.iter().flat_map(|p| all.iter().map(move |q| p * q)).collect();
    }
    all
}

/// Asserts that pairs (v, h) have the model's distribution: discrete units and h by enumeration, and the residuals (v - a(h))/σ of
/// Gaussian units, of all rows and of those with the most frequent h, as standard normal numbers.
#[track_caller]
fn assert_joint(model: &Laws, v: &[f32], h: &[f32], what: &str) {
    let (v, h) = (rows_f64(v, model.nv), rows_f64(h, model.nh));
    let index = |h: &[f64]| h.iter().enumerate().map(|(j, &x)| (x as usize) << j).sum::<usize>();
    let p_h = model.p_h();
    let p: Vec<f64> = (0..p_h.len())
        .flat_map(|at| p_cells(model, &state(at, model.nh)).into_iter().map(|p| p * p_h[at]).collect::<Vec<_>>())
        .collect();
    let cells = p.len() / p_h.len();
    let mut counts = vec![0; p.len()];
    v.iter().zip(&h).for_each(|(v, h)| counts[index(h) * cells + cell(model, v)] += 1);
    if p.len() > 1 {
        assert_distribution(&counts, &p, what);
    }
    let likely = (0..p_h.len()).max_by(|&a, &b| p_h[a].total_cmp(&p_h[b])).expect("a state");
    for i in (0..model.nv).filter(|&i| model.is_gaussian(i)) {
        let residual = |(v, h): (&Vec<f64>, &Vec<f64>)| (v[i] - model.visible_pre(h).0[i]) * model.s[i].sqrt();
        assert_normal(v.iter().zip(&h).map(residual).collect(), what);
        let there = v.iter().zip(&h).filter(|(_, h)| index(h) == likely).map(residual);
        assert_normal(there.collect(), what);
    }
}

const SMALL: [&str; 5] =
    ["potts:2x3", "potts:1x2,potts:1x5", "gaussian:2", "binary:2,potts:1x3,gaussian:1", "gaussian:1,binary:3"];

fn devices() -> [Device; 2] {
    [Cpu::detect().expect("a CPU").into(), crate::oracle::gemm()]
}

/// The draw itself, given hidden states.
#[test]
fn draws_are_distributed_as_said() {
    let n = 40_000;
    for (seed, text) in SMALL.into_iter().enumerate() {
        let rbm = random_laws(text, 3, 1.2, seed as u64);
        let model = Laws::of(&rbm);
        for device in devices() {
            let resident = rbm.on(&device).expect("resident");
            let (mut out, mut draws) = (Activations::default(), Uniforms::new(11, Purpose::Sampling));
            for at in [0, 5, 7] {
                let h = state(at, 3);
                let single: Vec<f32> = h.iter().map(|&x| x as f32).collect();
                resident.sample_v_given_h(rows(&single.repeat(n), 3), &mut draws, &mut out).expect("v");
                let p = p_cells(&model, &h);
                let mut counts = vec![0; p.len()];
                let v = rows_f64(&out.sample, model.nv);
                v.iter().for_each(|v| counts[cell(&model, v)] += 1);
                if p.len() > 1 {
                    assert_distribution(&counts, &p, text);
                }
                let pre = model.visible_pre(&h).0;
                for i in (0..model.nv).filter(|&i| model.is_gaussian(i)) {
                    assert_normal(v.iter().map(|v| (v[i] - pre[i]) * model.s[i].sqrt()).collect(), text);
                }
            }
        }
    }
}

/// Chains that start at p(h) stay there, at every inverse temperature, with v given h.
#[test]
fn the_models_distribution_is_stationary() {
    let (nh, n) = (3, 40_000);
    for (seed, text) in SMALL.into_iter().enumerate() {
        let rbm = random_laws(text, nh, 1.2, 20 + seed as u64);
        for device in devices() {
            let resident = rbm.on(&device).expect("resident");
            for beta in [1.0, 0.5, 1.75f32] {
                let model = Laws::of(&rbm).tempered(f64::from(beta));
                let (p, mut chance) = (model.p_h(), generator(seed as u64));
                let mut start = || state(draw_from(&p, &mut chance), nh).into_iter().map(|x| x as f32);
                let hidden: Vec<f32> = (0..n).flat_map(|_| start().collect::<Vec<_>>()).collect();
                let given = chain_state(&hidden, nh, vec![beta; n], Uniforms::new(12, Purpose::Sampling));
                let mut chains = Chains::from_state(&device, rbm.shape(), &given).expect("chains");
                let mut out = Activations::default();
                for k in [1, 3] {
                    chains.sweep(&resident, k).expect("sweep");
                    chains.visible(&resident, &mut out).expect("visible");
                    let h = chains.hidden().expect("hidden");
                    assert_joint(&model, &out.sample, &h, &format!("{text}, beta {beta}, k = {k}"));
                }
            }
        }
    }
}

/// Chains converge there from elsewhere: all hidden units off, a hundred steps of models with autocorrelation times of a few steps.
#[test]
fn chains_come_to_the_models_distribution() {
    let n = 20_000;
    for (seed, text) in SMALL.into_iter().enumerate() {
        let rbm = random_laws(text, 3, 0.8, 40 + seed as u64);
        let (device, model) = (Cpu::detect().expect("a CPU"), Laws::of(&rbm));
        let resident = rbm.on(device).expect("resident");
        let mut chains = Chains::new(device, rbm.shape(), n, Uniforms::new(13, Purpose::Sampling)).expect("chains");
        chains.sweep(&resident, 100).expect("sweep");
        let mut out = Activations::default();
        chains.visible(&resident, &mut out).expect("visible");
        assert_joint(&model, &out.sample, &chains.hidden().expect("hidden"), text);
    }
}
