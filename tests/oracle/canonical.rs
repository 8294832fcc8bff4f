//! The numerics contract as one sequential `f32` program. A canonical device gives the same bits.
//!
//! - A pre-activation starts from 0 and adds its units in ascending order, `acc = fma(x, W, acc)`. Then `pre = fma(β, acc, fma(β,
//!   bias, (1 - β)·reference))`, where the reference is 0.
//! - A unit is on iff u < σ(pre), where u = (x + ½)·2^-32 and x is the next number of one generator. If e^-pre ≥ 1, d = u is
//!   compared with 1/(1 + e^-pre). Otherwise d = 1 - u is compared with e^-pre/(1 + e^-pre). Both comparisons avoid a division.
//! - A step of M chains samples v of all chains, then h of all chains.
//! - The exact pseudo-likelihood multiplies the factors σ(-a_j) + σ(a_j)·e^±W_ij, unit j in lane j mod 16, as m·2^n.
//! - In the gradient each phase starts from 0 and adds its rows in ascending order by fused multiply-adds.

use harmonium::{
    Activations, Algorithm, Gradient, Rbm, Uniforms,
    elementary::{exp, ln_1p, sigmoid, softplus},
};
use rand_core::Rng;
use rand_pcg::Pcg32;

/// Parameters in the library's layout.
#[derive(Clone, Debug)]
pub struct Canonical {
    pub nv: usize,
    pub nh: usize,
    pub w: Vec<f32>,
    pub b: Vec<f32>,
    pub c: Vec<f32>,
}

/// Samples every unit in order from its pre-activation.
pub fn sample(pre: &[f32], generator: &mut Pcg32) -> Vec<f32> {
    let on = |&pre: &f32| {
        let (e, x) = (exp(-pre), generator.next_u32());
        let distance = |steps: u32| steps as f32 * 2f32.powi(-32) + 2f32.powi(-33);
        let below = |d: f32, limit: f32| d.mul_add(e, d) < limit;
        f32::from(if e < 1.0 { !below(distance(!x), e) } else { below(distance(x), 1.0) })
    };
    pre.iter().map(on).collect()
}

/// β·(acc + bias), with each multiplication fused with the addition after it.
fn scaled(beta: f32, acc: f32, bias: f32) -> f32 {
    beta.mul_add(acc, beta.mul_add(bias, (1.0 - beta) * 0.0))
}

/// The product of positive numbers m·2^n, m within [1, 2).
fn scaled_product(a: (f32, i32), b: (f32, i32)) -> (f32, i32) {
    let product = a.0 * b.0;
    let n = product.to_bits() as i32 / (1 << 23) - 127;
    (product * 2f32.powi(-n), a.1 + b.1 + n)
}

impl Canonical {
    pub fn of(rbm: &Rbm) -> Self {
        let view = rbm.view();
        Self {
            nv: rbm.shape().n_visible(),
            nh: rbm.shape().n_hidden(),
            w: view.weights().to_vec(),
            b: view.visible_bias().to_vec(),
            c: view.hidden_bias().to_vec(),
        }
    }

    /// P(h|v) of each row, at the row's inverse temperature.
    pub fn propup(&self, v: &[f32], betas: &[f32]) -> Activations {
        let mut out = Activations::default();
        for (v, &beta) in v.chunks_exact(self.nv).zip(betas) {
            for j in 0..self.nh {
                let mut acc = 0.0f32;
                for i in 0..self.nv {
                    acc = v[i].mul_add(self.w[i * self.nh + j], acc);
                }
                out.pre_activation.push(scaled(beta, acc, self.c[j]));
            }
        }
        out.mean = out.pre_activation.iter().map(|&x| sigmoid(x)).collect();
        out
    }

    /// P(v|h) of each row.
    pub fn propdown(&self, h: &[f32], betas: &[f32]) -> Activations {
        let mut out = Activations::default();
        for (h, &beta) in h.chunks_exact(self.nh).zip(betas) {
            for i in 0..self.nv {
                let mut acc = 0.0f32;
                for j in 0..self.nh {
                    acc = h[j].mul_add(self.w[i * self.nh + j], acc);
                }
                out.pre_activation.push(scaled(beta, acc, self.b[i]));
            }
        }
        out.mean = out.pre_activation.iter().map(|&x| sigmoid(x)).collect();
        out
    }

    /// Σ_i log P(x_i|x_-i) of one row of bits.
    pub fn pseudo_log_likelihood(&self, x: &[f32]) -> f64 {
        let pre = self.propup(x, &[1.0]).pre_activation;
        let term = |i: usize| {
            let weights = &self.w[i * self.nh..][..self.nh];
            let on = x[i] == 1.0;
            let sign = if on { -1.0 } else { 1.0 };
            let mut lanes = [(1.0f32, 0); 16];
            for (j, (&w, &a)) in weights.iter().zip(&pre).enumerate() {
                let factor = sigmoid(a).mul_add(exp(sign * w), sigmoid(-a));
                lanes[j % 16] = scaled_product(lanes[j % 16], (factor, 0));
            }
            for n in [8, 4, 2, 1] {
                for lane in 0..n {
                    lanes[lane] = scaled_product(lanes[lane], lanes[lane + n]);
                }
            }
            let (mantissa, exponent) = lanes[0];
            let mut added = f64::from(exponent) * std::f64::consts::LN_2 + f64::from(ln_1p(mantissa - 1.0));
            if weights.iter().any(|w| w.abs() >= 20.0) {
                let mut sums = [0.0; 16];
                for (j, (&w, &a)) in weights.iter().zip(&pre).enumerate() {
                    sums[j % 16] += f64::from(softplus(sign.mul_add(w, a)) - softplus(a));
                }
                for n in [8, 4, 2, 1] {
                    (0..n).for_each(|lane| sums[lane] += sums[lane + n]);
                }
                added = sums[0];
            }
            let bias = f64::from(if on { self.b[i] } else { -self.b[i] });
            -f64::from(softplus((added - bias) as f32))
        };
        (0..self.nv).map(term).sum()
    }

    /// One step of chains from hidden states: v, then h'.
    pub fn hvh(&self, h: &[f32], betas: &[f32], generator: &mut Pcg32) -> (Activations, Activations) {
        let mut visible = self.propdown(h, betas);
        visible.sample = sample(&visible.pre_activation, generator);
        let mut hidden = self.propup(&visible.sample, betas);
        hidden.sample = sample(&hidden.pre_activation, generator);
        (visible, hidden)
    }

    /// The gradient of rows x with hidden means `p` against chain ends `v` with hidden means `n`.
    pub fn gradient(&self, x: &[f32], p: &[f32], v: &[f32], n: &[f32]) -> Gradient {
        let (nv, nh) = (self.nv, self.nh);
        let (rows, chains) = (x.len() / nv, v.len() / nv);
        let (per_row, per_chain) = (1.0 / rows as f32, 1.0 / chains as f32);
        let element = |pos: f32, neg: f32| neg.mul_add(per_chain, -(pos * per_row));
        let product = |a: &[f32], b: &[f32], rows: usize, i: usize, j: usize| {
            (0..rows).fold(0.0f32, |sum, r| a[r * nv + i].mul_add(b[r * nh + j], sum))
        };
        let sum = |a: &[f32], units: usize, i: usize| a.iter().skip(i).step_by(units).fold(0.0f32, |sum, x| sum + x);
        let weight =
            |at: usize| element(product(x, p, rows, at / nh, at % nh), product(v, n, chains, at / nh, at % nh));
        Gradient {
            weights: (0..nv * nh).map(weight).collect(),
            visible_bias: (0..nv).map(|i| element(sum(x, nv, i), sum(v, nv, i))).collect(),
            hidden_bias: (0..nh).map(|j| element(sum(p, nh, j), sum(n, nh, j))).collect(),
            visible_log_variance: Vec::new(),
        }
    }

    /// θ ← θ - lr·gradient.
    pub fn apply(&mut self, gradient: &Gradient, lr: f32) {
        let Gradient { weights, visible_bias, hidden_bias, .. } = gradient;
        for (theta, gradient) in [(&mut self.w, weights), (&mut self.b, visible_bias), (&mut self.c, hidden_bias)] {
            for (theta, &g) in theta.iter_mut().zip(gradient) {
                *theta = (-lr).mul_add(g, *theta);
            }
        }
    }
}

/// Training according to the contract.
pub struct CanonicalTrainer {
    pub algorithm: Algorithm,
    pub k: usize,
    pub generator: Pcg32,
    /// The chains' hidden states.
    pub hidden: Vec<f32>,
    /// The chains' visible layer in the last step.
    pub visible: Activations,
}

impl CanonicalTrainer {
    pub fn new(model: &Canonical, algorithm: Algorithm, k: usize, draws: &Uniforms) -> Self {
        let hidden = match algorithm {
            Algorithm::Pcd { n_chains } => vec![0.0; n_chains * model.nh],
            _ => Vec::new(),
        };
        Self { algorithm, k, generator: draws.generator(), hidden, visible: Activations::default() }
    }

    /// The gradient of one update. Advances the chains.
    pub fn gradient(&mut self, model: &Canonical, x: &[f32]) -> Gradient {
        let Activations { mean: p, pre_activation, .. } = model.propup(x, &vec![1.0; x.len() / model.nv]);
        if self.algorithm == Algorithm::Cd {
            self.hidden = sample(&pre_activation, &mut self.generator);
        }
        let betas = vec![1.0; self.hidden.len() / model.nh];
        let mut means = Vec::new();
        for _ in 0..self.k {
            let (visible, hidden) = model.hvh(&self.hidden, &betas, &mut self.generator);
            (self.visible, self.hidden, means) = (visible, hidden.sample, hidden.mean);
        }
        model.gradient(x, &p, &self.visible.sample, &means)
    }

    /// One update.
    pub fn step(&mut self, model: &mut Canonical, x: &[f32], lr: f32) {
        let gradient = self.gradient(model, x);
        model.apply(&gradient, lr);
    }
}
