//! Models whose visible units follow several laws, and the calls that tests compare between the CPU and CUDA.
#![allow(dead_code)]

use super::oracle::{generator, random_rbm, symmetric, uniform};
use harmonium::{
    Activations, BatchMeans, ChainState, Chains, Device, Gradient, Monitor, Purpose, Rbm, Result, Rows, Segment,
    Segments, Settings, Shape, Trainer, Uniforms, Values,
    log_partition::{Annealing, BaseRate, Schedule, Start, ais, bracket},
};

/// Sites across words and warps; more states than lanes; laws in any order; more units than a block has threads, or than a list
/// holds.
pub const LAYERS: [(&str, usize); 9] = [
    ("potts:1x2", 1),
    ("potts:13x5", 33),
    ("potts:3x41", 70),
    ("potts:40x7,binary:9", 20),
    ("gaussian:1", 2),
    ("gaussian:33", 40),
    ("binary:70,potts:9x5,gaussian:21", 37),
    ("gaussian:3,potts:2x3,binary:5,potts:2x4,gaussian:2", 65),
    ("gaussian:300,potts:90x9,binary:40", 34),
];

pub fn shapes() -> impl Iterator<Item = (usize, Shape)> {
    LAYERS.into_iter().map(|(visible, n_hidden)| shape(visible, n_hidden)).enumerate()
}

pub fn shape(visible: &str, n_hidden: usize) -> Shape {
    Shape::with_visible(visible.parse().expect("segments"), n_hidden).expect("a shape")
}

/// A model whose Gaussian units have standard deviations from 0.5 to 2.
pub fn model(shape: Shape, seed: u64) -> Rbm {
    let rbm = random_rbm(shape, 2.0 / (shape.n_visible().max(4) as f64).sqrt(), seed);
    if shape.visible().is_discrete() {
        return rbm;
    }
    let mut numbers = generator(seed + 1);
    let mut log_variance = vec![0.0; shape.n_visible()];
    for (segment, units) in shape.visible().iter() {
        if let Segment::Gaussian(_) = segment {
            log_variance[units].iter_mut().for_each(|log| *log = symmetric(&mut numbers, 1.4));
        }
    }
    rbm.with_visible_log_variance(log_variance).expect("variances")
}

/// Rows of valid states: binary units are grey if `grey`, a Gaussian unit is sometimes 0.
pub fn states(segments: Segments, rows: usize, grey: bool, seed: u64) -> Vec<f32> {
    let mut numbers = generator(seed);
    let mut all = vec![0.0; rows * segments.units()];
    for row in all.chunks_exact_mut(segments.units()) {
        for (segment, units) in segments.iter() {
            match segment {
                Segment::Binary(_) => row[units].iter_mut().for_each(|x| {
                    let u = uniform(&mut numbers);
                    *x = if grey && u < 0.7 { u as f32 } else { f32::from(u < 0.4) };
                }),
                Segment::Potts { states, .. } => row[units].chunks_exact_mut(states as usize).for_each(|site| {
                    site[(uniform(&mut numbers) * f64::from(states)) as usize] = 1.0;
                }),
                Segment::Gaussian(_) => row[units].iter_mut().for_each(|x| {
                    *x = if uniform(&mut numbers) < 0.1 { 0.0 } else { symmetric(&mut numbers, 3.0) };
                }),
            }
        }
    }
    all
}

pub fn law_rows(values: &[f32], segments: Segments) -> Rows<'_> {
    Rows::with_segments(Values::F32(values), segments).expect("rows")
}

pub fn draws(seed: u64) -> Uniforms {
    let mut draws = Uniforms::new(seed, Purpose::Sampling);
    draws.skip(seed * 1000);
    draws
}

/// A device's answers in a test, as exact numbers.
#[derive(Clone, Default)]
pub struct Answers(pub Vec<(String, Vec<f64>)>);

impl Answers {
    pub fn single(&mut self, what: &str, values: &[f32]) {
        self.0.push((what.to_owned(), values.iter().map(|&x| f64::from(x)).collect()));
    }

    pub fn double(&mut self, what: &str, values: &[f64]) {
        self.0.push((what.to_owned(), values.to_vec()));
    }

    pub fn activations(&mut self, what: &str, of: &Activations) {
        self.single(&format!("{what}: pre-activation"), &of.pre_activation);
        self.single(&format!("{what}: mean"), &of.mean);
        self.single(&format!("{what}: sample"), &of.sample);
    }

    pub fn gradient(&mut self, what: &str, of: &Gradient) {
        self.single(&format!("{what}: weights"), &of.weights);
        self.single(&format!("{what}: visible bias"), &of.visible_bias);
        self.single(&format!("{what}: hidden bias"), &of.hidden_bias);
        self.single(&format!("{what}: log variance"), &of.visible_log_variance);
    }

    pub fn chains(&mut self, what: &str, of: &Chains) {
        let ChainState { hidden, betas, uniforms } = of.state().expect("state");
        let halves = hidden.iter().flat_map(|word| [(word >> 32) as f64, (word & 0xffff_ffff) as f64]);
        self.double(&format!("{what}: hidden"), &halves.collect::<Vec<_>>());
        self.single(&format!("{what}: betas"), &betas);
        self.double(&format!("{what}: position"), &[uniforms.position() as f64]);
    }

    pub fn rbm(&mut self, of: &Rbm) {
        self.single("weights", of.view().weights());
        self.single("visible bias", of.view().visible_bias());
        self.single("hidden bias", of.view().hidden_bias());
        self.single("log variance", of.view().visible_log_variance());
    }
}

/// A description of the first difference, if any.
pub fn difference(expected: &Answers, found: &Answers) -> Option<String> {
    assert_eq!(expected.0.len(), found.0.len());
    expected.0.iter().zip(&found.0).find_map(|((name, expected), (_, found))| {
        assert!(expected.iter().all(|x| x.is_finite()), "{name}: {expected:?}");
        if expected.len() != found.len() {
            return Some(format!("{name}: {} numbers on the CPU, {} on CUDA", expected.len(), found.len()));
        }
        let differs = |(a, b): (&f64, &f64)| a.to_bits() != b.to_bits();
        let at = expected.iter().zip(found).position(differs)?;
        let n = expected.iter().zip(found).filter(|&pair| differs(pair)).count();
        let (cpu, cuda) = (expected[at], found[at]);
        Some(format!("{name}[{at}]: {cpu:e} on the CPU, {cuda:e} on CUDA; {n} of {} differ", found.len()))
    })
}

/// The states of chains at several inverse temperatures.
pub fn of_chains(device: &Device, rbm: &Rbm, n: usize, k: usize) -> Result<Answers> {
    let mut answers = Answers::default();
    let resident = rbm.on(device)?;
    // At β = 0 a Gaussian unit has no precision.
    let betas = (0..n).map(|m| [1.0, 0.5, 0.125][m % 3]).collect();
    let hidden = vec![0; n * rbm.shape().n_hidden().div_ceil(64)];
    let state = ChainState { hidden, betas, uniforms: draws(7) };
    let mut chains = Chains::from_state(device, rbm.shape(), &state)?;
    let mut visible = Activations::default();
    for _ in 0..2 {
        chains.sweep(&resident, k)?;
        chains.visible(&resident, &mut visible)?;
        answers.chains("sweep", &chains);
        answers.activations("visible", &visible);
    }
    // A copy does not move with the original.
    let mut before = chains.clone();
    chains.sweep(&resident, 1)?;
    answers.chains("the copy", &before);
    before.visible(&resident, &mut visible)?;
    answers.activations("visible of the copy", &visible);
    before.sweep(&resident, 1)?;
    answers.chains("after the copy", &chains);
    answers.chains("the copy, moved", &before);
    Ok(answers)
}

/// Either layer given the other.
pub fn of_conditionals(device: &Device, rbm: &Rbm, v: Rows<'_>, h: Rows<'_>) -> Result<Answers> {
    let mut answers = Answers::default();
    let resident = rbm.on(device)?;
    let (visible, hidden) = (device.load(v)?, device.load(h)?);
    let (v, h) = (visible.range(1..v.len()), hidden.range(1..h.len()));
    let (mut out, mut other, mut draws) = (Activations::default(), Activations::default(), draws(3));
    resident.propup(v, &mut out)?;
    answers.activations("propup", &out);
    resident.propdown(h, &mut out)?;
    answers.activations("propdown", &out);
    resident.sample_h_given_v(v, &mut draws, &mut out)?;
    answers.activations("h given v", &out);
    resident.sample_v_given_h(h, &mut draws, &mut out)?;
    answers.activations("v given h", &out);
    resident.gibbs_hvh(h, &mut draws, &mut other, &mut out)?;
    answers.activations("hvh", &out);
    resident.gibbs_vhv(v, &mut draws, &mut other, &mut out)?;
    answers.activations("vhv", &out);
    answers.double("position", &[draws.position() as f64]);
    answers.chains("from rows", &Chains::from_visible(&resident, v, draws)?);
    Ok(answers)
}

/// Energies and pseudo-likelihoods of rows.
pub fn of_energies(device: &Device, rbm: &Rbm, v: Rows<'_>) -> Result<Answers> {
    let mut answers = Answers::default();
    let resident = rbm.on(device)?;
    let data = device.load(v)?;
    let batch = data.range(1..v.len());
    answers.double("free energy", &resident.free_energy(batch)?);
    let weights: Vec<f32> = (1..v.len()).map(|r| r as f32 / 3.0 - 1.0).collect();
    let mut gradient = Gradient::zero(rbm.shape());
    resident.free_energy_gradient(batch, &weights, &mut gradient)?;
    answers.gradient("gradient of F", &gradient);
    let visible = rbm.shape().visible();
    if visible.is_discrete() {
        answers.double("pseudo-likelihood", &resident.pseudo_log_likelihood(batch)?);
        for site in [0, visible.sites() / 2, visible.sites() - 1] {
            answers.double("of a site", &resident.pseudo_log_likelihood_of_bit(batch, site)?);
        }
    }
    Ok(answers)
}

/// log Z, including the own terms of the base rate and of the model.
pub fn of_annealing(device: &Device, rbm: &Rbm, v: Rows<'_>, runs: usize) -> Result<Answers> {
    let mut answers = Answers::default();
    let (resident, base_rate) = (rbm.on(device)?, BaseRate::fit(v));
    let schedule = Schedule::new(7).expect("schedule");
    let settings = Annealing { runs, schedule, burn_in: 3, ..Annealing::default() };
    let found = ais(&resident, &base_rate, &settings)?;
    answers.double("log Z", &[found.estimate, found.effective_sample_size]);
    for start in [Start::Annealed, Start::Rows(v.into())] {
        let found = bracket(&resident, &base_rate, start, &settings)?;
        answers.double("bracket", &[found.estimate, found.effective_sample_size]);
    }
    Ok(answers)
}

/// Trains on a device and returns its answers. `sizes`: the sizes of successive batches.
pub fn train(device: &Device, rbm: &Rbm, data: Rows<'_>, settings: Settings, sizes: &[usize]) -> Result<Answers> {
    let mut answers = Answers::default();
    let mut rbm = rbm.clone();
    let data = device.load(data)?;
    let mut trainer = Trainer::new(device, rbm.shape(), settings)?;
    let mut lent = rbm.lend(device)?;
    let mut first = 0;
    for &size in sizes {
        trainer.step(&mut lent, data.range(first..first + size), 0.05)?;
        first += size;
    }
    let mut gradient = Gradient::zero(lent.shape());
    let mut means = BatchMeans::default();
    trainer.gradient_and_means(&lent, data.range(0..sizes[0]), &mut gradient, &mut means)?;
    lent.apply(&gradient, 0.05)?;
    trainer.step(&mut lent, data.range(0..sizes[0]), 0.05)?;
    // A copy does not change, and a mean of the two changes all parameters.
    let before = lent.clone();
    trainer.step(&mut lent, data.range(0..sizes[0]), 0.05)?;
    lent.approach(&before, 0.25)?;
    answers.rbm(&before.to_rbm()?);
    let mut visible = Activations::default();
    // Both copies of the weights are the same: k steps of other chains read both.
    let mut chains = Chains::new(device, lent.shape(), 2, draws(5))?;
    chains.sweep(&lent, 3)?;
    chains.visible(&lent, &mut visible)?;
    lent.finish()?;
    let monitor = trainer.take_report()?.monitor;
    answers.double("monitor", monitor.as_slice());
    answers.gradient("gradient", &gradient);
    answers.single("mean of v", &means.visible);
    answers.single("mean of P(h|v)", &means.hidden);
    answers.rbm(&rbm);
    answers.chains("chains", trainer.chains());
    answers.activations("other chains", &visible);
    let state = trainer.state()?;
    if let Some(rule) = state.rule {
        answers.single("visible offset", &rule.visible_offset);
        answers.single("hidden offset", &rule.hidden_offset);
        answers.single("hidden mean", &rule.hidden_mean);
        if let Some(velocity) = rule.velocity {
            answers.gradient("velocity", &velocity);
        }
    }
    Ok(answers)
}

/// Every monitor that is available for a model.
pub fn monitors(shape: Shape) -> Vec<Monitor> {
    match shape.visible().is_discrete() {
        true => {
            vec![Monitor::PseudoLikelihood, Monitor::Reconstruction, Monitor::ExactPseudoLikelihood, Monitor::None]
        }
        false => vec![Monitor::Reconstruction, Monitor::None],
    }
}
