//! Samples of units with several laws according to the numerics contract: every device must give the same bits.

use super::canonical;
use harmonium::{
    Activations, Rbm, Segment,
    elementary::{exp, normal},
};
use rand_core::Rng;
use rand_pcg::Pcg32;

/// The numerics contract for several laws as one sequential `f32` program.
pub struct CanonicalLaws<'a> {
    pub rbm: &'a Rbm,
}

impl CanonicalLaws<'_> {
    fn s(&self, i: usize) -> f32 {
        self.rbm.view().visible_log_variance().get(i).map_or(1.0, |log| exp(-log))
    }

    /// b + hWᵀ of each row, and a sample. Each unit takes one number; a site uses that of its first unit.
    pub fn sample_v(&self, h: &[f32], generator: &mut Pcg32) -> Activations {
        let (view, visible, nh) = (self.rbm.view(), self.rbm.shape().visible(), self.rbm.shape().n_hidden());
        let mut out = Activations::default();
        for h in h.chunks_exact(nh) {
            let sum = |i: usize| (0..nh).fold(0.0f32, |sum, j| h[j].mul_add(view.weights()[i * nh + j], sum));
            let pre: Vec<f32> = (0..visible.units()).map(|i| sum(i) + view.visible_bias()[i]).collect();
            for (segment, units) in visible.iter() {
                for i in units.step_by(segment.states()) {
                    match segment {
                        Segment::Binary(_) => out.sample.extend(canonical::sample(&pre[i..=i], generator)),
                        Segment::Gaussian(_) => {
                            let sigma = (1.0 / self.s(i)).sqrt();
                            out.sample.push(sigma.mul_add(normal(generator.next_u32()), pre[i]));
                        }
                        Segment::Potts { states, .. } => {
                            out.sample.extend(potts_state(&pre[i..i + states as usize], generator));
                        }
                    }
                }
            }
            out.pre_activation.extend(pre);
        }
        out
    }

    /// c + (s·v)W of each row, with s·v in `f32`, and a sample.
    pub fn sample_h(&self, v: &[f32], generator: &mut Pcg32) -> Activations {
        let (view, nv, nh) = (self.rbm.view(), self.rbm.shape().n_visible(), self.rbm.shape().n_hidden());
        let mut out = Activations::default();
        for v in v.chunks_exact(nv) {
            let term = |sum: f32, i: usize, j: usize| (self.s(i) * v[i]).mul_add(view.weights()[i * nh + j], sum);
            let pre = |j: usize| (0..nv).fold(0.0f32, |sum, i| term(sum, i, j)) + view.hidden_bias()[j];
            out.pre_activation.extend((0..nh).map(pre));
        }
        out.sample = canonical::sample(&out.pre_activation, generator);
        out
    }
}

/// The first state s with u·W < W_s, where u = (x + ½)·2^-32 from the first of as many numbers as there are states.
fn potts_state(a: &[f32], generator: &mut Pcg32) -> Vec<f32> {
    let x: Vec<u32> = a.iter().map(|_| generator.next_u32()).collect();
    let greatest = a.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = a.iter().map(|a| f64::from(exp(a - greatest))).collect();
    let up_to = |s: usize| weights[..=s].iter().sum::<f64>();
    let target = (f64::from(x[0]) + 0.5) / 2f64.powi(32) * up_to(a.len() - 1);
    let chosen = (0..a.len() - 1).find(|&s| target < up_to(s)).unwrap_or(a.len() - 1);
    (0..a.len()).map(|s| f32::from(s == chosen)).collect()
}
