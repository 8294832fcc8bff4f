//! The fast methods of every instruction set against the naive model: arbitrary shape, states, density and parameters, the
//! same bits.

use crate::canonical::{Canonical, CanonicalTrainer, sample};
use harmonium::{
    Activations, Algorithm, ChainState, Chains, Cpu, Isa, Monitor, Purpose, Rbm, Rows, Settings, Shape, Trainer,
    Uniforms, Values,
};
use rand_core::Rng;
use rand_pcg::Pcg32;

/// Bytes, one after another, and 0 after the last.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn up_to(&mut self, most: usize) -> usize {
        1 + usize::from(self.byte()) % most
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    // Zeros of either sign are one number.
    values.iter().map(|&x| (x + 0.0).to_bits()).collect()
}

pub fn run(bytes: &[u8]) {
    let mut source = Source(bytes);
    // Few weights, for the naive model takes its time, of every kind of shape: less than a tile (64 units), a little more or two
    // of them, seldom in both layers at once. Rows and chains: up to one group of the dense product (5 rows) and some more.
    let weights = [200, 200, 200, 5000][usize::from(source.byte()) % 4];
    let nv = source.up_to(140);
    let nh = source.up_to((weights / nv).clamp(1, 140));
    let most = if nv * nh > 400 { 2 } else { 7 };
    let (rows, chains) = (source.up_to(most), source.up_to(most));
    let k = source.up_to((most / chains).clamp(1, 3));
    let density = f64::from(source.byte()) / 255.0;
    // From what is hardly a number to what a sum of can still be one.
    let size = [1e-40, 1e-3, 0.1, 1.0, 30.0, 1e4, 1e20, 1e30][usize::from(source.byte()) % 8];
    let (kind, seed) = (source.byte(), source.word());
    // So many steps of so many chains that samples are decided on a grid.
    let (chains, k) = if kind & 8 != 0 && nv * nh <= 400 { (chains + 15, k + 4) } else { (chains, k) };
    let mut generator = Pcg32::new(u64::from(seed), 7);
    let mut uniform = || f64::from(generator.next_u32()) / 2f64.powi(32);
    let parameters: Vec<f32> = (0..nv * nh + nv + nh)
        .map(|n| {
            // Some are given by the bytes, whatever they mean; the others are made up.
            let given = if n % 5 == 0 { f32::from_bits(source.word()) } else { f32::NAN };
            if given.abs() <= 1e30 && given != 0.0 { given } else { (size * (2.0 * uniform() - 1.0)) as f32 }
        })
        .collect();
    let mut values = |n: usize| -> Vec<f32> {
        let value = |u: f64, x: f64| {
            if u >= density {
                0.0
            } else if kind & 1 == 0 {
                1.0
            } else {
                1.0 - x as f32
            }
        };
        (0..n).map(|_| value(uniform(), uniform())).collect()
    };
    let (v, h) = (values(rows * nv), values(rows * nh));
    let betas: Vec<f32> = (0..chains).map(|m| if kind & 2 == 0 { 1.0 } else { 1.0 / (1 + m) as f32 }).collect();

    let shape = Shape::new(nv, nh).expect("a right shape");
    let (weights, biases) = parameters.split_at(nv * nh);
    let (b, c) = biases.split_at(nv);
    let rbm = Rbm::from_parts(shape, weights.to_vec(), b.to_vec(), c.to_vec()).expect("a right model");
    let model = Canonical::of(&rbm);
    let view = |values: &'_ [f32], units| Rows::new(Values::F32(values), units).map(|rows| rows.len());
    assert_eq!((view(&v, nv), view(&h, nh)), (Ok(rows), Ok(rows)));

    let ones = vec![1.0; rows];
    let (up, down) = (model.propup(&v, &ones), model.propdown(&h, &ones));
    let draws = Uniforms::new(u64::from(seed), Purpose::Training);
    let samples = sample(&up.pre_activation, &mut draws.generator());
    // k steps of chains that begin with all units off.
    let mut naive = (Activations::default(), vec![0.0; chains * nh]);
    let mut sequence = draws.generator();
    for _ in 0..k {
        let (visible, hidden) = model.hvh(&naive.1, &betas, &mut sequence);
        naive = (visible, hidden.sample);
    }
    // Updates of a trainer.
    let algorithm = if kind & 4 == 0 { Algorithm::Cd } else { Algorithm::Pcd { n_chains: chains } };
    let mut trained = model.clone();
    let mut trainer = CanonicalTrainer::new(&trained, algorithm, k, &draws);
    (0..2).for_each(|_| trainer.step(&mut trained, &v, 0.1));

    for isa in Isa::available() {
        let cpu = Cpu::with_isa(isa);
        let resident = rbm.on(cpu).expect("resident");
        let what = format!("{nv} × {nh}, {rows} rows, {chains} chains, {}", isa.name());
        let mut out = Activations::default();
        let v_rows = Rows::new(Values::F32(&v), nv).expect("rows");
        resident.sample_h_given_v(v_rows, &mut draws.clone(), &mut out).expect("samples");
        assert_eq!(bits(&out.pre_activation), bits(&up.pre_activation), "{what}: hidden pre-activations");
        assert_eq!(bits(&out.mean), bits(&up.mean), "{what}: hidden means");
        assert_eq!(out.sample, samples, "{what}: hidden samples");
        resident.propdown(Rows::new(Values::F32(&h), nh).expect("rows"), &mut out).expect("means");
        assert_eq!(bits(&out.pre_activation), bits(&down.pre_activation), "{what}: visible pre-activations");

        let state =
            ChainState { hidden: vec![0; chains * nh.div_ceil(64)], betas: betas.clone(), uniforms: draws.clone() };
        let mut fast = Chains::from_state(cpu, shape, &state).expect("chains");
        fast.sweep(&resident, k).expect("a sweep");
        fast.visible(&resident, &mut out).expect("the visible layer");
        assert_eq!(bits(&out.pre_activation), bits(&naive.0.pre_activation), "{what}: chains' pre-activations");
        assert_eq!(out.sample, naive.0.sample, "{what}: chains' visible samples");
        assert_eq!(fast.hidden().expect("hidden"), naive.1, "{what}: chains' hidden samples");

        let settings = Settings { algorithm, k, monitor: Monitor::None, seed: u64::from(seed), ..Settings::default() };
        let mut rbm = rbm.clone();
        let mut trainer = Trainer::new(cpu, shape, settings).expect("a trainer");
        let mut lent = rbm.lend(cpu).expect("lent");
        (0..2).for_each(|_| trainer.step(&mut lent, v_rows, 0.1).expect("a step"));
        lent.finish().expect("finished");
        let (w, b, c) = rbm.into_parts();
        assert_eq!(
            (bits(&w), bits(&b), bits(&c)),
            (bits(&trained.w), bits(&trained.b), bits(&trained.c)),
            "{what}: trained"
        );
    }
}
