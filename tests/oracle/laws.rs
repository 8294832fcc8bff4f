//! The RBM with visible units of several laws in `f64`: plain loops, and the definition if there is one. Discrete units are
//! enumerated; Gaussian units are integrated over a grid.

use super::{
    exact::{log_sum_exp, sigmoid, softplus, state},
    generator,
    statistics::{gamma, mean_error, pre_error, softplus_error},
    symmetric, uniform,
};
use harmonium::{
    Activations, Rbm, Rows, Segment, Segments, Shape, Values,
    elementary::{exp, normal},
};
use rand_core::Rng;
use rand_pcg::Pcg32;
use std::{f64::consts::TAU, ops::Range};

/// Parameters in `f64`: W (n_visible × n_hidden, row-major), b, c in one list, and the precisions s.
#[derive(Clone, Debug)]
pub struct Laws {
    pub visible: Segments,
    pub nv: usize,
    pub nh: usize,
    pub theta: Vec<f64>,
    pub s: Vec<f64>,
}

/// Segments from valid text.
pub fn segments(text: &str) -> Segments {
    text.parse().expect("right segments")
}

/// A model with these laws; all parameters uniform within ± `range`, ln σ² within ±1.
pub fn random_laws(text: &str, n_hidden: usize, range: f64, seed: u64) -> Rbm {
    let shape = Shape::with_visible(segments(text), n_hidden).expect("a right shape");
    let mut generator = generator(seed);
    let mut some = |n: usize, range: f64| (0..n).map(|_| symmetric(&mut generator, range)).collect::<Vec<_>>();
    let (nv, nh) = (shape.n_visible(), n_hidden);
    let rbm = Rbm::from_parts(shape, some(nv * nh, range), some(nv, range), some(nh, range)).expect("a right model");
    let mut log_variance = some(nv, 1.0);
    for (_, units) in shape.visible().iter().filter(|(segment, _)| !segment.is_number()) {
        log_variance[units].fill(0.0);
    }
    if shape.visible().is_discrete() { rbm } else { rbm.with_visible_log_variance(log_variance).expect("variances") }
}

/// `n` random rows with these laws: bits or, with `grey`, numbers within [0, 1]; one state per site; numbers within ±2.
pub fn random_states(visible: Segments, n: usize, grey: bool, seed: u64) -> Vec<f32> {
    let mut generator = generator(seed);
    let mut out = vec![0.0; n * visible.units()];
    for row in out.chunks_exact_mut(visible.units()) {
        for (segment, units) in visible.iter() {
            for site in units.step_by(segment.states()) {
                let u = uniform(&mut generator);
                match segment {
                    Segment::Binary(_) if grey => row[site] = if u < 0.3 { 0.0 } else { u as f32 },
                    Segment::Binary(_) => row[site] = f32::from(u < 0.4),
                    Segment::Potts { states, .. } => row[site + (u * f64::from(states)) as usize] = 1.0,
                    Segment::Gaussian(_) => row[site] = (4.0 * u - 2.0) as f32,
                }
            }
        }
    }
    out
}

/// A site with `states` states, in state `s`.
fn one_of(s: usize, states: usize) -> Vec<f64> {
    (0..states).map(|other| f64::from(u8::from(other == s))).collect()
}

/// Rows from valid values.
pub fn law_rows(values: &[f32], visible: Segments) -> Rows<'_> {
    Rows::with_segments(Values::F32(values), visible).expect("right rows")
}

impl Laws {
    pub fn of(rbm: &Rbm) -> Self {
        let view = rbm.view();
        let theta = view.weights().iter().chain(view.visible_bias()).chain(view.hidden_bias());
        let (nv, nh) = (rbm.shape().n_visible(), rbm.shape().n_hidden());
        // In the contract s is the `f32` e^-ln σ².
        let s = match view.visible_log_variance() {
            [] => vec![1.0; nv],
            all => all.iter().map(|&log| f64::from(exp(-log))).collect(),
        };
        Self { visible: rbm.shape().visible(), nv, nh, theta: theta.map(|&x| f64::from(x)).collect(), s }
    }

    pub fn w(&self, i: usize, j: usize) -> f64 {
        self.theta[i * self.nh + j]
    }

    pub fn b(&self, i: usize) -> f64 {
        self.theta[self.nv * self.nh + i]
    }

    pub fn c(&self, j: usize) -> f64 {
        self.theta[self.nv * self.nh + self.nv + j]
    }

    pub fn is_gaussian(&self, i: usize) -> bool {
        self.visible.iter().any(|(segment, units)| segment.is_number() && units.contains(&i))
    }

    /// The model with the distribution of e^-βE.
    pub fn tempered(&self, beta: f64) -> Self {
        let mut hot = self.clone();
        for i in 0..self.nv {
            if self.is_gaussian(i) {
                hot.s[i] *= beta;
            } else {
                (0..self.nh).for_each(|j| hot.theta[i * self.nh + j] *= beta);
                hot.theta[self.nv * self.nh + i] *= beta;
            }
        }
        hot.theta[self.nv * self.nh + self.nv..].iter_mut().for_each(|c| *c *= beta);
        hot
    }

    /// The variables: single binary and Gaussian units, and the units of each site together.
    pub fn sites(&self) -> Vec<(Segment, Range<usize>)> {
        let of = |(segment, units): (Segment, Range<usize>)| {
            units.step_by(segment.states()).map(move |first| (segment, first..first + segment.states()))
        };
        self.visible.iter().flat_map(of).collect()
    }

    /// The energy of unit i alone: s·(v - b)²/2 or -b·v.
    fn own_energy(&self, i: usize, v: f64) -> f64 {
        if self.is_gaussian(i) { self.s[i] * (v - self.b(i)).powi(2) / 2.0 } else { -self.b(i) * v }
    }

    /// E(v, h) from the definition.
    pub fn energy(&self, v: &[f64], h: &[f64]) -> f64 {
        let mut sum = 0.0;
        for i in 0..self.nv {
            sum += self.own_energy(i, v[i]);
            for j in 0..self.nh {
                sum -= self.s[i] * v[i] * self.w(i, j) * h[j];
            }
        }
        sum - (0..self.nh).map(|j| self.c(j) * h[j]).sum::<f64>()
    }

    /// c + (s·v)W, and |c| + |s·v||W|.
    pub fn hidden_pre(&self, v: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let term = |i: usize, j: usize| self.s[i] * v[i] * self.w(i, j);
        let sum = |j: usize| self.c(j) + (0..self.nv).map(|i| term(i, j)).sum::<f64>();
        let size = |j: usize| self.c(j).abs() + (0..self.nv).map(|i| term(i, j).abs()).sum::<f64>();
        ((0..self.nh).map(sum).collect(), (0..self.nh).map(size).collect())
    }

    /// b + hWᵀ, and |b| + |h||W|ᵀ.
    pub fn visible_pre(&self, h: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let sum = |i: usize| self.b(i) + (0..self.nh).map(|j| h[j] * self.w(i, j)).sum::<f64>();
        let size = |i: usize| self.b(i).abs() + (0..self.nh).map(|j| (h[j] * self.w(i, j)).abs()).sum::<f64>();
        ((0..self.nv).map(sum).collect(), (0..self.nv).map(size).collect())
    }

    pub fn p_hidden(&self, v: &[f64]) -> Vec<f64> {
        self.hidden_pre(v).0.into_iter().map(sigmoid).collect()
    }

    /// The means of visible units with these pre-activations.
    pub fn means(&self, pre: &[f64]) -> Vec<f64> {
        let of = |(segment, units): (Segment, Range<usize>)| match segment {
            Segment::Binary(_) => vec![sigmoid(pre[units.start])],
            Segment::Potts { .. } => {
                let log = log_sum_exp(&pre[units.clone()]);
                pre[units].iter().map(|a| (a - log).exp()).collect()
            }
            Segment::Gaussian(_) => vec![pre[units.start]],
        };
        self.sites().into_iter().flat_map(of).collect()
    }

    /// The greatest error of a mean if the errors of the pre-activations are `error`. For a site: d ln P_s = da_s - Σ P·da, two
    /// errors; the rounding of a - max a, at most the range, in numerator and sum; an exponential each, and the last rounding.
    pub fn mean_errors(&self, pre: &[f64], error: &[f64]) -> Vec<f64> {
        let means = self.means(pre);
        let of = |(segment, units): (Segment, Range<usize>)| match segment {
            Segment::Binary(_) => vec![mean_error(error[units.start])],
            Segment::Potts { .. } => {
                let greatest = |x: &[f64]| x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let range =
                    greatest(&pre[units.clone()]) - pre[units.clone()].iter().copied().fold(f64::INFINITY, f64::min);
                let log = 2.0 * greatest(&error[units.clone()]) + gamma(2) * range + gamma(8);
                means[units].iter().map(|p| p * log.exp_m1() + 2e-38).collect()
            }
            Segment::Gaussian(_) => vec![error[units.start]],
        };
        self.sites().into_iter().flat_map(of).collect()
    }

    /// F(v) = own energies - Σ_j sp(c_j + (xW)_j).
    pub fn free_energy(&self, v: &[f64]) -> f64 {
        let own: f64 = (0..self.nv).map(|i| self.own_energy(i, v[i])).sum();
        own - self.hidden_pre(v).0.into_iter().map(softplus).sum::<f64>()
    }

    /// The greatest error of F from `f32` terms: x is rounded before the multiplication, and so is a product b·v.
    pub fn free_energy_error(&self, v: &[f64]) -> f64 {
        let (pre, size) = self.hidden_pre(v);
        let own: f64 = (0..self.nv).map(|i| gamma(2) * self.own_energy(i, v[i]).abs()).sum();
        own + pre
            .iter()
            .zip(&size)
            .map(|(&a, &size)| softplus_error(pre_error(self.nv + 1, size), softplus(a)))
            .sum::<f64>()
    }

    /// ∂F(v)/∂θ for W, b, c and ln σ²: with x = s·v, -x_i·σ_j; -v_i or -s·(v_i - b_i); -σ_j; 0 or
    /// -s·(v_i - b_i)²/2 + Σ_j x_i·W_ij·σ_j.
    pub fn free_energy_gradient(&self, v: &[f64]) -> Vec<f64> {
        let p = self.p_hidden(v);
        let mut out = Vec::new();
        for i in 0..self.nv {
            out.extend(p.iter().map(|p| -self.s[i] * v[i] * p));
        }
        out.extend((0..self.nv).map(|i| if self.is_gaussian(i) { -self.s[i] * (v[i] - self.b(i)) } else { -v[i] }));
        out.extend(p.iter().map(|p| -p));
        if self.visible.is_discrete() {
            return out;
        }
        out.extend((0..self.nv).map(|i| {
            let product: f64 = (0..self.nh).map(|j| self.s[i] * v[i] * self.w(i, j) * p[j]).sum();
            if self.is_gaussian(i) { product - self.own_energy(i, v[i]) } else { 0.0 }
        }));
        out
    }

    /// The number of parameters, with ln σ².
    pub fn parameters(&self) -> usize {
        self.theta.len() + if self.visible.is_discrete() { 0 } else { self.nv }
    }

    /// The same model with `by` added to parameter `at`.
    pub fn moved(&self, at: usize, by: f64) -> Self {
        let mut moved = self.clone();
        match at.checked_sub(self.theta.len()) {
            None => moved.theta[at] += by,
            Some(i) if self.is_gaussian(i) => moved.s[i] *= (-by).exp(),
            Some(_) => {}
        }
        moved
    }

    /// (f(θ + step) - f(θ - step))/2step for one parameter.
    pub fn difference(&self, at: usize, step: f64, f: impl Fn(&Self) -> f64) -> f64 {
        (f(&self.moved(at, step)) - f(&self.moved(at, -step))) / (2.0 * step)
    }

    /// Visible states with the logarithms of their volumes: all states of discrete units, a grid for Gaussian ones.
    ///
    /// e^-F is a sum of normal densities of width σ. A sum over a grid of step σ/3 has a relative error of 2e^(-2π²·9) (Poisson's
    /// summation), and the mass beyond 10 σ outside of the least and the greatest mean is 1e-22.
    pub fn nodes(&self) -> Vec<(Vec<f64>, f64)> {
        let mut nodes = vec![(Vec::new(), 0.0)];
        for (segment, units) in self.sites() {
            let i = units.start;
            let choices: Vec<(Vec<f64>, f64)> = match segment {
                Segment::Binary(_) => vec![(vec![0.0], 0.0), (vec![1.0], 0.0)],
                Segment::Potts { states, .. } => {
                    (0..states as usize).map(|s| (one_of(s, states as usize), 0.0)).collect()
                }
                Segment::Gaussian(_) => {
                    let sigma = 1.0 / self.s[i].sqrt();
                    let sum = |sign: f64| (0..self.nh).map(|j| (sign * self.w(i, j)).max(0.0)).sum::<f64>();
                    let (low, high) = (self.b(i) - sum(-1.0) - 10.0 * sigma, self.b(i) + sum(1.0) + 10.0 * sigma);
                    let n = (3.0 * (high - low) / sigma).ceil();
                    let step = (high - low) / n;
                    (0..=n as usize).map(|k| (vec![low + k as f64 * step], step.ln())).collect()
                }
            };
            let extended = |(v, log): &(Vec<f64>, f64)| {
                choices.iter().map(|(part, volume)| ([&v[..], part].concat(), log + volume)).collect::<Vec<_>>()
            };
            nodes = nodes.iter().flat_map(extended).collect();
        }
        nodes
    }

    /// ln Z = ln ∫ e^-F(v) dv over the nodes.
    pub fn log_z(&self) -> f64 {
        log_sum_exp(&self.nodes().iter().map(|(v, volume)| volume - self.free_energy(v)).collect::<Vec<_>>())
    }

    /// -F(h) = ln ∫ e^-E(v, h) dv in closed form, from the table of the laws.
    pub fn minus_hidden_free_energy(&self, h: &[f64]) -> f64 {
        let pre = self.visible_pre(h).0;
        let visible = self.sites().into_iter().map(|(segment, units)| {
            let i = units.start;
            match segment {
                Segment::Binary(_) => softplus(pre[i]),
                Segment::Potts { .. } => log_sum_exp(&pre[units]),
                Segment::Gaussian(_) => {
                    0.5 * ((TAU / self.s[i]).ln() + self.s[i] * (pre[i].powi(2) - self.b(i).powi(2)))
                }
            }
        });
        visible.sum::<f64>() + (0..self.nh).map(|j| self.c(j) * h[j]).sum::<f64>()
    }

    /// ln Z by enumeration of the hidden states, which needs no grid.
    pub fn log_z_of_hidden(&self) -> f64 {
        let terms = (0..1 << self.nh).map(|h| self.minus_hidden_free_energy(&state(h, self.nh)));
        log_sum_exp(&terms.collect::<Vec<_>>())
    }

    /// p(h) of all h.
    pub fn p_h(&self) -> Vec<f64> {
        let log_z = self.log_z_of_hidden();
        (0..1 << self.nh).map(|h| (self.minus_hidden_free_energy(&state(h, self.nh)) - log_z).exp()).collect()
    }

    /// log P(v_g|v_-g) of the discrete variable `site`, from free energies alone.
    pub fn log_conditional(&self, v: &[f64], site: usize) -> f64 {
        let (segment, units) = self.sites()[site].clone();
        let states = match segment {
            Segment::Binary(_) => vec![vec![0.0], vec![1.0]],
            _ => (0..units.len()).map(|s| one_of(s, units.len())).collect(),
        };
        let with = |part: &Vec<f64>| {
            let mut other = v.to_vec();
            other[units.clone()].copy_from_slice(part);
            -self.free_energy(&other)
        };
        -self.free_energy(v) - log_sum_exp(&states.iter().map(with).collect::<Vec<_>>())
    }
}
