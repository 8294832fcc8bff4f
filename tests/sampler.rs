//! Random numbers and samples: draws are those of one sequential generator, and the Gibbs kernels leave the model's distribution
//! invariant.
//!
//! Every statistical test has fixed seeds and a false-alarm rate of 1e-6 a comparison, some two hundred in all. With random seeds,
//! one run in five thousand would fail by chance.

mod oracle;

use harmonium::{
    Activations, Batch, ChainState, Chains, Device, Purpose, Rbm, Resident, Uniforms, uniforms::unit_interval,
};
use oracle::{
    assert_bits,
    canonical::sample,
    exact::{Exact, index, product, state},
    for_each_device, generator, random_bits, random_rbm, rows, shape,
    statistics::{assert_distribution, draw_from},
};
use rand_core::Rng;

/// M. E. O'Neill's PCG32 and its seeding here, implemented independently.
struct Independent(u64);

impl Independent {
    const STREAM: u64 = 0x1405_7b7e_f767_814f;

    fn new(seed: u64, purpose: u64) -> Self {
        let mut z = seed.wrapping_add(purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let mut new = Self((z ^ z >> 31).wrapping_add(Self::STREAM));
        new.next();
        new
    }

    fn next(&mut self) -> u32 {
        let s = self.0;
        self.0 = s.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(Self::STREAM);
        let x = ((s >> 18 ^ s) >> 27) as u32;
        x.rotate_right((s >> 59) as u32)
    }
}

#[test]
fn the_sequence_is_pcg32() {
    let purposes =
        [Purpose::Initialisation, Purpose::Training, Purpose::Sampling, Purpose::Annealing, Purpose::Diagnosis];
    for seed in [0, 1, 123, u64::MAX] {
        for (number, purpose) in (1..).zip(purposes) {
            let mut independent = Independent::new(seed, number);
            let mut generator = Uniforms::new(seed, purpose).generator();
            assert!((0..1000).all(|_| generator.next_u32() == independent.next()), "seed {seed}, {purpose:?}");
        }
    }
}

#[test]
fn a_position_is_a_number_of_draws() {
    let mut uniforms = Uniforms::new(7, Purpose::Sampling);
    let mut sequential = uniforms.generator();
    for position in 0..3000 {
        uniforms.seek(position);
        assert_eq!(uniforms.generator().next_u32(), sequential.next_u32(), "position {position}");
    }
    // Distant positions: the sequence continues across them, and they equal `advance` from the beginning.
    for position in [1 << 20, (1 << 32) - 50, (1 << 40) - 50, (1 << 40) + 12_345, 1 << 63, u64::MAX - 50] {
        uniforms.seek(position);
        let mut here = uniforms.generator();
        let mut advanced = Uniforms::new(7, Purpose::Sampling).generator();
        advanced.advance(position);
        for n in 0..100 {
            let mut uniforms = uniforms.clone();
            uniforms.skip(n);
            let x = here.next_u32();
            assert_eq!((x, x), (advanced.next_u32(), uniforms.generator().next_u32()), "{position} + {n}");
        }
    }
    assert_eq!([unit_interval(0), unit_interval(255), unit_interval(256)], [0.0, 0.0, 2f32.powi(-24)]);
    assert_eq!(unit_interval(u32::MAX), 1.0 - 2f32.powi(-24));
}

/// Positions of draws: odd ones, and across 2^32, 2^40 and the end of the 64-bit count.
const PLACES: [u64; 8] =
    [0, 1, 77, (1 << 20) - 3, (1 << 32) - 100, (1 << 40) - 100, (1 << 40) + 54_321, u64::MAX - 100];

fn resident(device: &Device, rbm: &Rbm) -> Resident {
    rbm.on(device).expect("resident")
}

/// Calls `work` with a batch of the rows.
fn with_batch<T>(device: &Device, values: &[f32], units: usize, work: impl FnOnce(Batch<'_>) -> T) -> T {
    let data = device.load(rows(values, units)).expect("data");
    work(data.range(0..values.len() / units))
}

/// Chains with these hidden states.
fn chains(device: &Device, rbm: &Rbm, hidden: &[f32], betas: &[f32], draws: Uniforms) -> Chains {
    let n_hidden = rbm.shape().n_hidden();
    let mut words = Vec::new();
    for row in hidden.chunks_exact(n_hidden) {
        words.extend(
            row.chunks(64).map(|part| part.iter().rev().fold(0u64, |word, &x| word << 1 | u64::from(x == 1.0))),
        );
    }
    let state = ChainState { hidden: words, betas: betas.to_vec(), uniforms: draws };
    let chains = Chains::from_state(device, rbm.shape(), &state).expect("chains");
    assert_eq!(chains.state().expect("state"), state);
    assert_bits(&chains.hidden().expect("hidden"), hidden, "hidden");
    chains
}

fn counts(cells: usize, all: impl Iterator<Item = usize>) -> Vec<u64> {
    let mut counts = vec![0; cells];
    all.for_each(|cell| counts[cell] += 1);
    counts
}

for_each_device! {
    /// For any means, and for any split of the work: one generator, element by element.
    fn draws_are_one_sequential_generators(device) {
        for (seed, (nv, nh, n)) in [(1, 1, 1), (3, 5, 2), (33, 31, 7), (64, 64, 20), (65, 129, 21), (97, 300, 130)].into_iter().enumerate() {
            let rbm = random_rbm(shape(nv, nh), 2.0 / (nv as f64).sqrt(), seed as u64);
            let resident = resident(&device, &rbm);
            let (mut visible, mut hidden) = (Activations::default(), Activations::default());
            let v = random_bits(n * nv, 0.4, seed as u64);
            for place in PLACES {
                let mut draws = Uniforms::new(seed as u64, Purpose::Sampling);
                draws.seek(place);
                let mut generator = draws.generator();
                with_batch(&device, &v, nv, |v| resident.sample_h_given_v(v, &mut draws, &mut hidden)).expect("h");
                assert_bits(&hidden.sample, &sample(&hidden.pre_activation, &mut generator), "h");
                assert_eq!(draws.position(), place.wrapping_add((n * nh) as u64));
                with_batch(&device, &hidden.sample.clone(), nh, |h| resident.sample_v_given_h(h, &mut draws, &mut visible)).expect("v");
                assert_bits(&visible.sample, &sample(&visible.pre_activation, &mut generator), "v");
                with_batch(&device, &hidden.sample.clone(), nh, |h| resident.gibbs_hvh(h, &mut draws, &mut visible, &mut hidden)).expect("hvh");
                assert_bits(&visible.sample, &sample(&visible.pre_activation, &mut generator), "hvh v");
                assert_bits(&hidden.sample, &sample(&hidden.pre_activation, &mut generator), "hvh h");
                with_batch(&device, &v, nv, |v| resident.gibbs_vhv(v, &mut draws, &mut hidden, &mut visible)).expect("vhv");
                assert_bits(&hidden.sample, &sample(&hidden.pre_activation, &mut generator), "vhv h");
                assert_bits(&visible.sample, &sample(&visible.pre_activation, &mut generator), "vhv v");
                let all = (n * (nh + nv) * 3) as u64;
                assert_eq!(draws.position(), place.wrapping_add(all));
            }
        }
    }

    /// Chains: M·n_visible numbers, then M·n_hidden, step by step; after `from_visible`'s M·n_hidden.
    fn chains_draw_in_order(device) {
        for (seed, (nv, nh, n)) in [(1, 1, 1), (3, 5, 2), (33, 31, 7), (65, 129, 21), (130, 70, 65)].into_iter().enumerate() {
            let rbm = random_rbm(shape(nv, nh), 2.0 / (nv as f64).sqrt(), seed as u64);
            let resident = resident(&device, &rbm);
            let v = random_bits(n * nv, 0.4, seed as u64);
            for place in PLACES {
                for k in [1, 2, 5] {
                    let mut draws = Uniforms::new(seed as u64, Purpose::Training);
                    draws.seek(place);
                    let mut chains = with_batch(&device, &v, nv, |v| Chains::from_visible(&resident, v, draws.clone())).expect("chains");
                    let (mut visible, mut hidden) = (Activations::default(), Activations::default());
                    with_batch(&device, &v, nv, |v| resident.propup(v, &mut hidden)).expect("propup");
                    assert_bits(&chains.hidden().expect("hidden"), &sample(&hidden.pre_activation, &mut draws.generator()), "start");
                    // Before the first step it is the layer that this step will draw.
                    let (mut first, mut ahead) = (chains.clone(), Activations::default());
                    first.sweep(&resident, 1).expect("sweep");
                    first.visible(&resident, &mut visible).expect("visible");
                    chains.visible(&resident, &mut ahead).expect("visible");
                    assert_eq!(ahead, visible);
                    assert_eq!(chains.state().expect("state").uniforms.position(), place.wrapping_add((n * nh) as u64));
                    chains.sweep(&resident, k).expect("sweep");
                    chains.visible(&resident, &mut visible).expect("visible");
                    draws.skip((n * nh + (k - 1) * n * (nv + nh)) as u64);
                    let mut generator = draws.generator();
                    assert_bits(&visible.sample, &sample(&visible.pre_activation, &mut generator), "v");
                    with_batch(&device, &visible.sample, nv, |v| resident.propup(v, &mut hidden)).expect("propup");
                    // On canonical devices these are the means that the chain had; on others a draw could fall between.
                    if oracle::is_canonical(&device) {
                        assert_bits(&chains.hidden().expect("hidden"), &sample(&hidden.pre_activation, &mut generator), "h");
                    }
                    draws.skip((n * (nv + nh)) as u64);
                    assert_eq!(chains.state().expect("state").uniforms, draws);
                }
            }
        }
    }

    /// Not only one comparison of each draw is right but all its 32 bits: a unit is on at the least bias that the sequential
    /// program finds, off just below, and that bias is logit(u) up to rounding. Numbers near 0 and near 1 test states that occur
    /// once in 40 million draws, in either direction: with W = 35, b = c = -17.5 half of the units are on.
    fn a_unit_is_on_iff_u_is_below_its_mean(device) {
        const SCANNED: u64 = 1 << 27;
        let start = Uniforms::new(9, Purpose::Sampling);
        let mut generator = start.generator();
        // 4000 consecutive numbers, and separately those within 2^-20 of an end.
        let mut places: Vec<(u64, Vec<u32>)> = vec![(0, (0..4000).map(|_| generator.next_u32()).collect())];
        places.extend((4000..SCANNED).filter_map(|place| {
            let x = generator.next_u32();
            (x.min(!x) < 1 << 12).then(|| (place, vec![x]))
        }));
        let farthest = places[1..].iter().fold([u32::MAX; 2], |[low, high], (_, x)| [low.min(x[0]), high.min(!x[0])]);
        assert!(places.len() > 200 && farthest.iter().all(|&x| x < 107), "{farthest:?}");
        // Ascending order of the finite numbers, as integers.
        let number = |key: i64| f32::from_bits(if key >= 0 { key as u32 } else { 0x8000_0000 | (-1 - key) as u32 });
        for (place, numbers) in places {
            let mut draws = start.clone();
            let bounds: Vec<(f32, f32)> = numbers.iter().zip(place..).map(|(&x, place)| {
                draws.seek(place);
                let here = draws.generator();
                let (mut low, mut high) = (-i64::from(90f32.to_bits()), i64::from(90f32.to_bits()));
                while high - low > 1 {
                    let middle = (low + high).div_euclid(2);
                    if sample(&[number(middle)], &mut here.clone())[0] == 1.0 { high = middle } else { low = middle }
                }
                let logit = ((f64::from(x) + 0.5) / (f64::from(!x) + 0.5)).ln();
                let rounding = 2f64.powi(-20) + logit.abs() * 2f64.powi(-23);
                assert!((f64::from(number(high)) - logit).abs() <= rounding, "{x}: {} {logit}", number(high));
                (number(low), number(high))
            }).collect();
            draws.seek(place);
            let n = numbers.len();
            let (off, on): (Vec<f32>, Vec<f32>) = bounds.into_iter().unzip();
            for (bias, expected) in [(on, 1.0), (off, 0.0)] {
                let rbm = Rbm::from_parts(shape(1, n), vec![0.0; n], vec![0.0], bias).expect("model");
                let mut hidden = Activations::default();
                with_batch(&device, &[0.0], 1, |v| resident(&device, &rbm).sample_h_given_v(v, &mut draws.clone(), &mut hidden)).expect("h");
                assert_bits(&hidden.sample, &vec![expected; n], "sample");
            }
        }
    }

    /// Pairs of units, each a model of its own, that hold each other on or off: W = 28, b = c = -14, symmetric, so half of them are
    /// on. One draw in 1.2 million switches, as often from on to off as from off to on. With W = 176 no draw ever does.
    fn pairs_go_over_as_often_from_on_as_from_off(device) {
        const PAIRS: usize = 64;
        let weight = |i: usize| [28.0, 176.0][i % 2];
        let weights = (0..PAIRS * PAIRS).map(|at| if at / PAIRS == at % PAIRS { weight(at / PAIRS) } else { 0.0 }).collect();
        let bias: Vec<f32> = (0..PAIRS).map(|i| -weight(i) / 2.0).collect();
        let rbm = Rbm::from_parts(shape(PAIRS, PAIRS), weights, bias.clone(), bias).expect("model");
        let resident = resident(&device, &rbm);
        let (n, sweeps, k) = (1000, 100, 10);
        let mut before: Vec<u64> = (0..n).map(|m| [0, u64::MAX][m % 2]).collect();
        let state = ChainState { hidden: before.clone(), betas: vec![1.0; n], uniforms: Uniforms::new(14, Purpose::Sampling) };
        let mut chains = Chains::from_state(&device, rbm.shape(), &state).expect("chains");
        let mut over = [0, 0];
        for _ in 0..sweeps {
            chains.sweep(&resident, k).expect("sweep");
            let after = chains.state().expect("state").hidden;
            for (before, after) in before.iter().zip(&after) {
                over[0] += u64::from((before & !after).count_ones());
                over[1] += u64::from((!before & after).count_ones());
                assert_eq!((before ^ after) & 0xaaaa_aaaa_aaaa_aaaa, 0, "a pair that is certain");
            }
            before = after;
        }
        // Half of the pairs are on, and each draws 2k times in a sweep.
        let each = k as f64 / (1.0 + 14f64.exp());
        let rest = (n * sweeps * PAIRS / 2) as u64 - over[0] - over[1];
        assert_distribution(&[over[0], over[1], rest], &[each, each, 1.0 - 2.0 * each], "on to off, off to on, neither");
    }

    /// The frequency of active units with given probabilities, singly and in pairs.
    fn draws_are_distributed_as_said(device) {
        let probabilities = [0.003, 0.1, 0.5, 0.77, 0.998f64];
        let bias: Vec<f32> = probabilities.iter().map(|p| (p / (1.0 - p)).ln() as f32).collect();
        let rbm = Rbm::from_parts(shape(1, 5), vec![0.0; 5], vec![0.0], bias).expect("model");
        let mut hidden = Activations::default();
        let mut draws = Uniforms::new(10, Purpose::Sampling);
        let n = 100_000;
        with_batch(&device, &vec![0.0; n], 1, |v| resident(&device, &rbm).sample_h_given_v(v, &mut draws, &mut hidden)).expect("h");
        assert_distribution(&counts(32, hidden.sample.chunks_exact(5).map(index)), &product(&probabilities), "units of a row");
        let pairs = |a: &[f32]| index(&a[..5]) << 5 | index(&a[5..]);
        let two: Vec<f64> = product(&probabilities).iter().flat_map(|p| product(&probabilities).into_iter().map(move |q| p * q)).collect();
        assert_distribution(&counts(1024, hidden.sample.chunks_exact(10).map(pairs)), &two, "rows two by two");
    }

    /// From p(v, h), the kernel must not change the distribution.
    fn the_models_distribution_is_stationary(device) {
        let (nv, nh, n) = (4, 3, 40_000);
        let rbm = random_rbm(shape(nv, nh), 1.2, 11);
        let resident = resident(&device, &rbm);
        let p = Exact::of(&rbm).joint(1.0);
        let mut chance = generator(11);
        let (mut v, mut h) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let pair = draw_from(&p, &mut chance);
            v.extend(state(pair >> nh, nv).into_iter().map(|x| x as f32));
            h.extend(state(pair & 7, nh).into_iter().map(|x| x as f32));
        }
        let pairs = |v: &[f32], h: &[f32]| counts(1 << (nv + nh), v.chunks_exact(nv).zip(h.chunks_exact(nh)).map(|(v, h)| index(v) << nh | index(h)));
        assert_distribution(&pairs(&v, &h), &p, "start");
        let mut draws = Uniforms::new(11, Purpose::Sampling);
        let (mut visible, mut hidden) = (Activations::default(), Activations { sample: h.clone(), ..Activations::default() });
        for step in 1..=4 {
            with_batch(&device, &hidden.sample.clone(), nh, |h| resident.gibbs_hvh(h, &mut draws, &mut visible, &mut hidden)).expect("hvh");
            assert_distribution(&pairs(&visible.sample, &hidden.sample), &p, &format!("hvh, step {step}"));
        }
        visible.sample = v;
        for step in 1..=4 {
            with_batch(&device, &visible.sample.clone(), nv, |v| resident.gibbs_vhv(v, &mut draws, &mut hidden, &mut visible)).expect("vhv");
            assert_distribution(&pairs(&visible.sample, &hidden.sample), &p, &format!("vhv, step {step}"));
        }
        for k in 1..=4 {
            let mut chains = chains(&device, &rbm, &h, &vec![1.0; n], Uniforms::new(k as u64, Purpose::Sampling));
            for sweep in 1..=2 {
                chains.sweep(&resident, k).expect("sweep");
                chains.visible(&resident, &mut visible).expect("visible");
                assert_distribution(&pairs(&visible.sample, &chains.hidden().expect("hidden")), &p, &format!("k = {k}, sweep {sweep}"));
            }
        }
    }

    /// The kernel does move: its transitions from each state are P(v|h)P(h'|v), k times.
    fn steps_go_where_the_conditionals_say(device) {
        let (nv, nh, n) = (3, 2, 20_000);
        let rbm = random_rbm(shape(nv, nh), 1.5, 12);
        let (resident, model) = (resident(&device, &rbm), Exact::of(&rbm));
        let (mut visible, mut hidden) = (Activations::default(), Activations::default());
        let pairs = |v: &[f32], h: &[f32]| counts(32, v.chunks_exact(nv).zip(h.chunks_exact(nh)).map(|(v, h)| index(v) << nh | index(h)));
        let mut draws = Uniforms::new(12, Purpose::Sampling);
        for start in 0..4 {
            let row: Vec<f32> = state(start, nh).into_iter().map(|x| x as f32).collect();
            let mut p = vec![0.0; 4];
            p[start] = 1.0;
            for k in 1..=4 {
                let mut chains = chains(&device, &rbm, &row.repeat(n), &vec![1.0; n], Uniforms::new((4 * start + k) as u64, Purpose::Sampling));
                chains.sweep(&resident, k).expect("sweep");
                chains.visible(&resident, &mut visible).expect("visible");
                let found = pairs(&visible.sample, &chains.hidden().expect("hidden"));
                assert_distribution(&found, &model.after_sweeps(&p, k), &format!("from {start}, k = {k}"));
            }
            with_batch(&device, &row.repeat(n), nh, |h| resident.gibbs_hvh(h, &mut draws, &mut visible, &mut hidden)).expect("hvh");
            assert_distribution(&pairs(&visible.sample, &hidden.sample), &model.after_sweeps(&p, 1), &format!("hvh from {start}"));
        }
        for row in [[0.0, 0.0, 0.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.25, 0.5, 0.9f32]] {
            with_batch(&device, &row.repeat(n), nv, |v| resident.gibbs_vhv(v, &mut draws, &mut hidden, &mut visible)).expect("vhv");
            let p_h = model.p_all_hidden(&row.map(f64::from));
            let mut expected = vec![0.0; 32];
            for (h, p) in p_h.iter().enumerate() {
                for (v, q) in model.p_all_visible(h).into_iter().enumerate() {
                    expected[v << nh | h] = p * q;
                }
            }
            assert_distribution(&pairs(&visible.sample, &hidden.sample), &expected, &format!("vhv from {row:?}"));
        }
    }

    /// At inverse temperature β a chain's distribution is p^β, normalised; chains of different β do not mix.
    fn a_chain_keeps_its_temperature(device) {
        let (nv, nh, n) = (3, 3, 20_000);
        let rbm = random_rbm(shape(nv, nh), 1.5, 13);
        let (resident, model) = (resident(&device, &rbm), Exact::of(&rbm));
        let temperatures = [0.0, 0.5, 1.0, 1.75];
        let mut chance = generator(13);
        let (mut hidden, mut betas) = (Vec::new(), Vec::new());
        let p = temperatures.map(|beta| model.joint(beta));
        for m in 0..4 * n {
            hidden.extend(state(draw_from(&p[m % 4], &mut chance) & 7, nh).into_iter().map(|x| x as f32));
            betas.push(temperatures[m % 4] as f32);
        }
        let mut chains = chains(&device, &rbm, &hidden, &betas, Uniforms::new(13, Purpose::Sampling));
        let mut visible = Activations::default();
        for k in 1..=3 {
            chains.sweep(&resident, k).expect("sweep");
            chains.visible(&resident, &mut visible).expect("visible");
            let hidden = chains.hidden().expect("hidden");
            for (which, p) in p.iter().enumerate() {
                let pair = |(v, h): (&[f32], &[f32])| index(v) << nh | index(h);
                let pairs = visible.sample.chunks_exact(nv).zip(hidden.chunks_exact(nh)).skip(which).step_by(4).map(pair);
                assert_distribution(&counts(64, pairs), p, &format!("beta {}, k = {k}", temperatures[which]));
            }
        }
        assert_eq!(chains.state().expect("state").betas, betas);
    }
}
