//! The textbook RBM in `f64`: plain loops, and exponential time if the definition takes it.

use harmonium::{Rbm, Shape};

/// Parameters in `f64` in one list: W (n_visible × n_hidden, row-major), b, c.
#[derive(Clone, Debug)]
pub struct Exact {
    pub nv: usize,
    pub nh: usize,
    pub theta: Vec<f64>,
}

/// ln(1 + e^x).
pub fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// 1/(1 + e^-x).
pub fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// ln Σ e^x.
pub fn log_sum_exp(x: &[f64]) -> f64 {
    let greatest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    greatest + x.iter().map(|x| (x - greatest).exp()).sum::<f64>().ln()
}

/// State number `index` of `units` binary units: unit i is bit i.
pub fn state(index: usize, units: usize) -> Vec<f64> {
    (0..units).map(|i| (index >> i & 1) as f64).collect()
}

/// The index of a state.
pub fn index(state: &[f32]) -> usize {
    state.iter().enumerate().map(|(i, &x)| usize::from(x == 1.0) << i).sum()
}

/// Rows of `f32` as rows of `f64`.
pub fn rows_f64(values: &[f32], units: usize) -> Vec<Vec<f64>> {
    values.chunks_exact(units).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect()
}

/// The mean of `f` over rows.
pub fn mean(rows: &[Vec<f64>], f: impl Fn(&[f64]) -> f64) -> f64 {
    rows.iter().map(|row| f(row)).sum::<f64>() / rows.len() as f64
}

impl Exact {
    pub fn of(rbm: &Rbm) -> Self {
        let view = rbm.view();
        let theta = view.weights().iter().chain(view.visible_bias()).chain(view.hidden_bias());
        Self { nv: rbm.shape().n_visible(), nh: rbm.shape().n_hidden(), theta: theta.map(|&x| f64::from(x)).collect() }
    }

    pub fn shape(&self) -> Shape {
        Shape::new(self.nv, self.nh).expect("a right shape")
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

    /// E(v, h) = -b·v - c·h - vᵀWh.
    pub fn energy(&self, v: &[f64], h: &[f64]) -> f64 {
        let mut sum = 0.0;
        for i in 0..self.nv {
            sum -= self.b(i) * v[i];
            for j in 0..self.nh {
                sum -= v[i] * self.w(i, j) * h[j];
            }
        }
        for j in 0..self.nh {
            sum -= self.c(j) * h[j];
        }
        sum
    }

    /// c + vW.
    pub fn hidden_pre(&self, v: &[f64]) -> Vec<f64> {
        (0..self.nh).map(|j| self.c(j) + (0..self.nv).map(|i| v[i] * self.w(i, j)).sum::<f64>()).collect()
    }

    /// b + hWᵀ.
    pub fn visible_pre(&self, h: &[f64]) -> Vec<f64> {
        (0..self.nv).map(|i| self.b(i) + (0..self.nh).map(|j| h[j] * self.w(i, j)).sum::<f64>()).collect()
    }

    /// |c| + |v||W|: the rounding error of a pre-activation is proportional to it.
    pub fn hidden_size(&self, v: &[f64]) -> Vec<f64> {
        (0..self.nh).map(|j| self.c(j).abs() + (0..self.nv).map(|i| (v[i] * self.w(i, j)).abs()).sum::<f64>()).collect()
    }

    /// |b| + |h||Wᵀ|.
    pub fn visible_size(&self, h: &[f64]) -> Vec<f64> {
        (0..self.nv).map(|i| self.b(i).abs() + (0..self.nh).map(|j| (h[j] * self.w(i, j)).abs()).sum::<f64>()).collect()
    }

    /// P(h_j = 1|v).
    pub fn p_hidden(&self, v: &[f64]) -> Vec<f64> {
        self.hidden_pre(v).into_iter().map(sigmoid).collect()
    }

    /// P(v_i = 1|h).
    pub fn p_visible(&self, h: &[f64]) -> Vec<f64> {
        self.visible_pre(h).into_iter().map(sigmoid).collect()
    }

    /// F(v) = -b·v - Σ_j sp(c_j + (vW)_j).
    pub fn free_energy(&self, v: &[f64]) -> f64 {
        let bias: f64 = (0..self.nv).map(|i| self.b(i) * v[i]).sum();
        -bias - self.hidden_pre(v).into_iter().map(softplus).sum::<f64>()
    }

    /// ∂F(v)/∂θ: -v_i σ_j, -v_i, -σ_j.
    pub fn free_energy_gradient(&self, v: &[f64]) -> Vec<f64> {
        let p = self.p_hidden(v);
        let mut out = Vec::with_capacity(self.theta.len());
        for &x in v {
            out.extend(p.iter().map(|p| -x * p));
        }
        out.extend(v.iter().map(|x| -x));
        out.extend(p.iter().map(|p| -p));
        out
    }

    /// ln Z = ln Σ_v e^-F(v). O(2^n_visible).
    pub fn log_z(&self) -> f64 {
        let terms: Vec<f64> = (0..1 << self.nv).map(|v| -self.free_energy(&state(v, self.nv))).collect();
        log_sum_exp(&terms)
    }

    /// p(v, h) ∝ e^(-βE(v,h)) of all pairs; pair (v, h) has index v·2^n_hidden + h.
    pub fn joint(&self, beta: f64) -> Vec<f64> {
        let energies: Vec<f64> = (0..1usize << (self.nv + self.nh))
            .map(|s| -beta * self.energy(&state(s >> self.nh, self.nv), &state(s & ((1 << self.nh) - 1), self.nh)))
            .collect();
        let log_z = log_sum_exp(&energies);
        energies.into_iter().map(|e| (e - log_z).exp()).collect()
    }

    /// p(v) of all v.
    pub fn p_v(&self) -> Vec<f64> {
        let log_z = self.log_z();
        (0..1 << self.nv).map(|v| (-self.free_energy(&state(v, self.nv)) - log_z).exp()).collect()
    }

    /// P(v'|h) of all v'.
    pub fn p_all_visible(&self, h: usize) -> Vec<f64> {
        product(&self.p_visible(&state(h, self.nh)))
    }

    /// P(h|v) of all h, for a v that may be real-valued.
    pub fn p_all_hidden(&self, v: &[f64]) -> Vec<f64> {
        product(&self.p_hidden(v))
    }

    /// The distribution of (v, h') after k steps v ~ P(v|h), h' ~ P(h|v), from hidden states with the distribution `start`. Pair
    /// (v, h') has index v·2^n_hidden + h'.
    pub fn after_sweeps(&self, start: &[f64], k: usize) -> Vec<f64> {
        let hidden_states = 1 << self.nh;
        let mut hidden = start.to_vec();
        let mut pairs = Vec::new();
        for _ in 0..k {
            pairs = vec![0.0; hidden_states << self.nv];
            for (h, p) in hidden.iter().enumerate() {
                for (v, q) in self.p_all_visible(h).into_iter().enumerate() {
                    for (next, r) in self.p_all_hidden(&state(v, self.nv)).into_iter().enumerate() {
                        pairs[v * hidden_states + next] += p * q * r;
                    }
                }
            }
            hidden = (0..hidden_states).map(|h| pairs.iter().skip(h).step_by(hidden_states).sum()).collect();
        }
        pairs
    }

    /// The mean of ln p(v) over rows of data, in nats a row.
    pub fn log_likelihood(&self, data: &[Vec<f64>]) -> f64 {
        let log_z = self.log_z();
        mean(data, |v| -self.free_energy(v) - log_z)
    }

    /// The gradient of *minus* [`Self::log_likelihood`]: mean of ∂F over data minus its expectation under the model.
    pub fn loss_gradient(&self, data: &[Vec<f64>]) -> Vec<f64> {
        let mut out = vec![0.0; self.theta.len()];
        for v in data {
            add(&mut out, 1.0 / data.len() as f64, &self.free_energy_gradient(v));
        }
        for (v, p) in self.p_v().into_iter().enumerate() {
            add(&mut out, -p, &self.free_energy_gradient(&state(v, self.nv)));
        }
        out
    }

    /// The gradient of contrastive divergence in closed form: with P and N the hidden means of the data and of the chains' ends,
    /// -xᵀP/B + vᵀN/M, -mean(x) + mean(v), -mean(P) + mean(N).
    pub fn cd_gradient(&self, data: &[Vec<f64>], ends: &[Vec<f64>]) -> Vec<f64> {
        let mut out = vec![0.0; self.theta.len()];
        for (rows, sign) in [(data, -1.0), (ends, 1.0)] {
            for x in rows {
                let p = self.p_hidden(x);
                let scale = sign / rows.len() as f64;
                for i in 0..self.nv {
                    for j in 0..self.nh {
                        out[i * self.nh + j] += scale * x[i] * p[j];
                    }
                    out[self.nv * self.nh + i] += scale * x[i];
                }
                for j in 0..self.nh {
                    out[self.nv * self.nh + self.nv + j] += scale * p[j];
                }
            }
        }
        out
    }

    /// log P(x_i|x_-i) from free energies alone. x is rounded to bits, x ≥ 0.5 → 1.
    pub fn log_conditional(&self, x: &[f64], i: usize) -> f64 {
        let x: Vec<f64> = x.iter().map(|&x| if x >= 0.5 { 1.0 } else { 0.0 }).collect();
        let mut flipped = x.clone();
        flipped[i] = 1.0 - flipped[i];
        -softplus(-(self.free_energy(&flipped) - self.free_energy(&x)))
    }

    /// log PL(x) = Σ_i log P(x_i|x_-i).
    pub fn pseudo_log_likelihood(&self, x: &[f64]) -> f64 {
        (0..self.nv).map(|i| self.log_conditional(x, i)).sum()
    }

    /// The same model with `by` added to parameter `at`.
    pub fn moved(&self, at: usize, by: f64) -> Self {
        let mut moved = self.clone();
        moved.theta[at] += by;
        moved
    }

    /// Central differences of `f` in each parameter: (f(θ + s) - f(θ - s))/2s.
    pub fn finite_difference(&self, s: f64, f: impl Fn(&Self) -> f64) -> Vec<f64> {
        (0..self.theta.len()).map(|at| (f(&self.moved(at, s)) - f(&self.moved(at, -s))) / (2.0 * s)).collect()
    }
}

/// Σ_i [x_i ln σ(p_i) + (1 - x_i) ln(1 - σ(p_i))].
pub fn cross_entropy(x: &[f64], pre: &[f64]) -> f64 {
    x.iter().zip(pre).map(|(x, p)| -x * softplus(-p) - (1.0 - x) * softplus(*p)).sum()
}

/// The distribution of independent bits with these probabilities.
pub fn product(p: &[f64]) -> Vec<f64> {
    let one = |s: usize| p.iter().enumerate().map(|(i, p)| if s >> i & 1 == 1 { *p } else { 1.0 - p }).product();
    (0..1 << p.len()).map(one).collect()
}

/// sum += scale·x.
pub fn add(sum: &mut [f64], scale: f64, x: &[f64]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += scale * x;
    }
}
