//! Visible layers of any laws against the naive program, for every instruction set: the same bits. And any text as laws.

use crate::canonical_laws::CanonicalLaws;
use harmonium::{
    Activations, ChainState, Chains, Cpu, Isa, Purpose, Rbm, Rows, Segment, Segments, Shape, Uniforms, Values,
};
use rand_core::Rng;
use rand_pcg::Pcg32;

fn bits(values: &[f32]) -> Vec<u32> {
    // Zeros of either sign are one number.
    values.iter().map(|&x| (x + 0.0).to_bits()).collect()
}

pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(laws) = text.parse::<Segments>() {
        assert_eq!(laws.to_string().parse(), Ok(laws), "{text}");
        assert_eq!(laws.iter().map(|(segment, _)| segment.units()).sum::<usize>(), laws.units(), "{text}");
    }
    let mut rest = bytes;
    let mut byte = || {
        let Some((&first, others)) = rest.split_first() else { return 0 };
        rest = others;
        usize::from(first)
    };
    let list: Vec<Segment> = (0..1 + byte() % 4)
        .map(|_| match byte() % 3 {
            0 => Segment::Binary(1 + byte() as u32 % 70),
            1 => Segment::Potts { sites: 1 + byte() as u32 % 9, states: 2 + byte() as u32 % 24 },
            _ => Segment::Gaussian(1 + byte() as u32 % 70),
        })
        .collect();
    let visible = Segments::new(&list).expect("right segments");
    let (nv, nh, chains, k) = (visible.units(), 1 + byte() % 20, 1 + byte() % 5, 1 + byte() % 2);
    let size = [1e-3, 0.1, 1.0, 30.0, 1e4][byte() % 5];
    let seed = byte() as u64;
    let mut generator = Pcg32::new(seed, 7);
    let mut symmetric = |size: f64| (size * (f64::from(generator.next_u32()) / 2f64.powi(31) - 1.0)) as f32;
    let shape = Shape::with_visible(visible, nh).expect("a right shape");
    let mut some = |n: usize| (0..n).map(|_| symmetric(size)).collect::<Vec<_>>();
    let mut rbm = Rbm::from_parts(shape, some(nv * nh), some(nv), some(nh)).expect("a right model");
    if !visible.is_discrete() {
        let mut log_variance = vec![0.0; nv];
        for (_, units) in visible.iter().filter(|(segment, _)| segment.is_number()) {
            log_variance[units].iter_mut().for_each(|log| *log = symmetric(3.0));
        }
        rbm = rbm.with_visible_log_variance(log_variance).expect("right variances");
    }
    let program = CanonicalLaws { rbm: &rbm };
    let draws = Uniforms::new(seed, Purpose::Sampling);
    let mut sequence = draws.generator();
    let mut naive = (Activations::default(), Activations { sample: vec![0.0; chains * nh], ..Activations::default() });
    for _ in 0..k {
        naive.0 = program.sample_v(&naive.1.sample, &mut sequence);
        naive.1 = program.sample_h(&naive.0.sample, &mut sequence);
    }
    for isa in Isa::available() {
        let what = format!("{visible} × {nh}, {chains} chains, {k} steps, {}", isa.name());
        let cpu = Cpu::with_isa(isa);
        let resident = rbm.on(cpu).expect("resident");
        let hidden = vec![0; chains * nh.div_ceil(64)];
        let state = ChainState { hidden, betas: vec![1.0; chains], uniforms: draws.clone() };
        let mut fast = Chains::from_state(cpu, shape, &state).expect("chains");
        fast.sweep(&resident, k).expect("a sweep");
        let mut out = Activations::default();
        fast.visible(&resident, &mut out).expect("the visible layer");
        assert_eq!(bits(&out.pre_activation), bits(&naive.0.pre_activation), "{what}: pre-activations");
        assert_eq!(bits(&out.sample), bits(&naive.0.sample), "{what}: visible samples");
        assert_eq!(fast.hidden().expect("hidden"), naive.1.sample, "{what}: hidden samples");
        Rows::with_segments(Values::F32(&out.sample), visible).expect("states that the laws allow");
    }
}
