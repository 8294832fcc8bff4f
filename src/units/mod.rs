//! The laws of visible units, that is their distributions given the hidden layer: one file for each law.
//!
//! Hidden units are bits. The visible layer is a list of [`Segments`], each of one law, and the energy of both layers is
//!
//! > E(v, h) = Σ_Gaussian s_i·(v_i - b_i)²/2 - Σ_others b_i·v_i - c·h - Σ_ij s_i·v_i·W_ij·h_j,
//!
//! where s_i = 1/σ_i² is the precision of a Gaussian unit and 1 for all others. With x_i = s_i·v_i and a_i = b_i + (Wh)_i:
//!
//! | law | states v | P(v given h) | log-normaliser | P(v_i given the other units) |
//! |---|---|---|---|---|
//! | binary | a bit | σ(a_i) | ln(1 + e^a) | known |
//! | Potts | one bit of a site is 1 | softmax of a over the site's units | ln Σ_s e^a_s | known, by sites |
//! | Gaussian | a number | N(a_i, σ_i²) | ½·ln 2πσ² + s·(a² - b²)/2 | - |
//!
//! P(h_j = 1|v) = σ(c_j + Σ_i x_i·W_ij) for all of them. The Gaussian law is that of K. Cho, A. Ilin, T. Raiko, "Improved
//! learning of Gaussian-Bernoulli restricted Boltzmann machines", 2011, in which W and b keep their size if σ is learnt.
//! The Potts law is that of F. Y. Wu, "The Potts model", 1982, and of R. Salakhutdinov, A. Mnih, G. Hinton, "Restricted Boltzmann
//! machines for collaborative filtering", 2007, equation 1.
//!
//! # Draws
//!
//! Unit i of a row has number i of the row's numbers, under every law. A binary unit compares it with σ(a). A Gaussian unit
//! takes Φ⁻¹ of it ([`normal`](crate::elementary::normal)). A Potts site uses the number of its first unit and ignores the others.
//!
//! The draw of a Potts site is by inversion, with the number u = (x + ½)·2^-32 of the site's first unit. Let w_s = e^(a_s - max a) in
//! `f32`, W_s their sums up to state s in `f64`, states in ascending order, and W the whole sum. The draw is the first state with
//! u·W < W_s. So the probability of a state is accurate to 2^-32 and to the error of e^x; a state that is e^-87.3 times as probable as
//! the most probable one is never drawn. This needs one number a site and S exponentials. The alternative, the greatest
//! a_s - ln(-ln u_s), would need S numbers and 2S logarithms.
//!
//! All code over lanes is the same for every instruction set, and is also printed for the CUDA kernels (`kernels/units.cuh`).

pub(crate) mod binary;
pub(crate) mod gaussian;
pub(crate) mod potts;
mod segments;

pub use gaussian::MAX_LOG_VARIANCE;
pub use segments::{Segment, Segments};

use crate::lanes::{LANES, Lanes, Vector, Wide};
use std::ops::Range;

/// β·sum + (β·bias + (1 - β)·reference): the pre-activation at inverse temperature β, between a model that has only the reference
/// bias and the model itself at β = 1.
#[inline(always)]
pub(crate) fn pre_activation<L: Lanes>(l: L, sum: L::F, bias: L::F, reference: L::F, beta: L::F) -> L::F {
    let rest = l.add(l.splat(1.0), l.negate(beta));
    l.mul_add(beta, sum, l.mul_add(beta, bias, l.mul(rest, reference)))
}

/// The visible units of one row, from pre-activations to means and samples.
pub(crate) struct VisibleRow<'a> {
    /// a of all units in log-odds. If means are asked for, they replace a.
    pub pre: &'a mut [f32],
    pub means: bool,
    /// The bits that are drawn, initially 0; Gaussian units have none.
    pub words: &'a mut [u64],
    /// The numbers that are drawn; empty without Gaussian units.
    pub numbers: &'a mut [f32],
    /// s of all units, s of the model at β = 0, and β; empty without Gaussian units.
    pub precision: &'a [f32],
    pub reference_precision: &'a [f32],
    pub beta: f32,
}

impl VisibleRow<'_> {
    /// Sets sixteen bits from unit `first` on.
    #[inline(always)]
    fn set_bits(&mut self, first: usize, bits: u16) {
        let bits = u128::from(bits) << (first % 64);
        self.words[first / 64] |= bits as u64;
        if bits >> 64 != 0 {
            self.words[first / 64 + 1] |= (bits >> 64) as u64;
        }
    }
}

/// Scratch for a draw.
#[derive(Default)]
pub(crate) struct Room {
    weights: Vec<f32>,
    through: Vec<f64>,
}

/// The operations of a law.
pub(crate) trait Law: Copy {
    /// Converts sums over the hidden units to a, at inverse temperature β between a model with only the reference biases and the model
    /// itself. `precisions`: those of the model and of the reference, empty without Gaussian units.
    #[inline(always)]
    fn pre_activations<L: Wide>(
        self, l: L, sums: &mut [f32], bias: &[f32], reference: &[f32], _precisions: [&[f32]; 2], beta: f32,
    ) {
        let beta = l.splat(beta);
        for part in vectors(0..sums.len()) {
            let (bias, reference) = (load(l, &bias[part.clone()]), load(l, &reference[part.clone()]));
            let sums = &mut sums[part];
            store(l, pre_activation(l, load(l, sums), bias, reference, beta), sums);
        }
    }

    /// Draws the states of `units` of a row. `state` is the generator's state for the first unit's number.
    fn draw<L: Wide>(self, l: L, row: &mut VisibleRow<'_>, units: Range<usize>, state: u64, room: &mut Room);

    /// Converts a to the mean of each unit.
    fn means<L: Wide>(self, l: L, pre: &mut [f32], room: &mut Room);

    /// The log-normaliser of units with these a, in nats: log Σ_v e^-E(v) without the terms of h alone. `bias` and `precision` are the
    /// units'.
    fn log_normaliser(self, pre: &[f64], bias: &[f32], precision: &[f64]) -> f64;

    /// The means of units with these a.
    fn means_f64(self, pre: &[f64], out: &mut [f64]);

    /// Minus the energy of a unit alone in state x with this bias and precision, in nats.
    #[inline(always)]
    fn minus_own_energy(self, x: f32, bias: f32, _precision: f32) -> f64 {
        f64::from(x) * f64::from(bias)
    }

    /// The log-probability of the states `x` given a, in nats, as if they were independent, without a Gaussian unit's term of σ.
    fn reconstruction(self, x: &[f32], pre: &[f32], precision: &[f32]) -> f64;

    /// The first of some units, counted from 0, whose value violates the law; and the values that the law permits.
    fn wrong(self, x: &[f32]) -> Option<(usize, &'static str)>;

    /// The mean of a unit with this sum over n rows, clipped such that its bias is finite.
    fn clipped_mean(self, sum: f64, n: usize) -> f64;

    /// The bias of a unit with this mean in a model without weights; the same bits on every machine.
    fn bias_of(self, mean: f64) -> f64;

    /// Fits a model without weights to sums and sums of squares over n rows of each unit: finite biases near the best ones, and the
    /// precisions of Gaussian units.
    fn fit(self, n: &[usize], sums: &[f64], squares: &[f64]) -> (Vec<f64>, Vec<f64>);
}

/// Evaluates an expression with the law of a segment.
macro_rules! by_law {
    ($segment:expr, |$law:ident| $body:expr) => {
        match $segment {
            $crate::units::Segment::Binary(_) => {
                let $law = $crate::units::binary::Binary;
                $body
            }
            $crate::units::Segment::Potts { states, .. } => {
                let $law = $crate::units::potts::Potts { states: states as usize };
                $body
            }
            $crate::units::Segment::Gaussian(_) => {
                let $law = $crate::units::gaussian::Gaussian;
                $body
            }
        }
    };
}
pub(crate) use by_law;

impl Segments {
    /// The log-normaliser of the whole layer, in nats. `precision`: s of each unit.
    pub(crate) fn log_normaliser(self, pre: &[f64], bias: &[f32], precision: &[f64]) -> f64 {
        let of = |(segment, units): (Segment, Range<usize>)| {
            by_law!(segment, |law| law.log_normaliser(&pre[units.clone()], &bias[units.clone()], &precision[units]))
        };
        self.iter().map(of).sum()
    }

    /// The means of all units.
    pub(crate) fn means_f64(self, pre: &[f64], out: &mut [f64]) {
        for (segment, units) in self.iter() {
            by_law!(segment, |law| law.means_f64(&pre[units.clone()], &mut out[units]));
        }
    }

    /// Calls `take` with each unit and its [`Law::minus_own_energy`], in ascending order.
    #[inline(always)]
    pub(crate) fn minus_own_energies(
        self, x: impl Fn(usize) -> f32, bias: &[f32], precision: &[f32], mut take: impl FnMut(usize, f64),
    ) {
        for (segment, units) in self.iter() {
            by_law!(segment, |law| units.for_each(|i| take(i, law.minus_own_energy(x(i), bias[i], precision[i]))));
        }
    }

    /// Calls `take` for each unit, in ascending order, with its [`Law::minus_own_energy`] in one model minus that in another. Each model
    /// is given by its biases and precisions.
    #[inline(always)]
    pub(crate) fn each_own_slope(self, x: &[f32], of: [&[f32]; 2], than: [&[f32]; 2], mut take: impl FnMut(f64)) {
        for (segment, units) in self.iter() {
            by_law!(segment, |law| units.for_each(|i| {
                let energy = |[bias, precision]: [&[f32]; 2]| law.minus_own_energy(x[i], bias[i], precision[i]);
                take(energy(of) - energy(than));
            }));
        }
    }

    /// The sum of [`Law::reconstruction`] over the units of a row that are not missing: first by sites of a segment, then by segments.
    pub(crate) fn reconstruction(
        self, x: &[f32], pre: &[f32], precision: &[f32], is_there: impl Fn(usize) -> bool,
    ) -> f64 {
        let of = |(segment, units): (Segment, Range<usize>)| -> f64 {
            let site = |first: usize| {
                let units = first..first + segment.states();
                let precision = if precision.is_empty() { precision } else { &precision[units.clone()] };
                by_law!(segment, |law| law.reconstruction(&x[units.clone()], &pre[units], precision))
            };
            units.step_by(segment.states()).filter(|&first| is_there(first)).map(site).sum()
        };
        self.iter().map(of).sum()
    }

    /// [`Law::clipped_mean`] of all units.
    pub(crate) fn clipped_means(self, sums: &mut [f64], n: &[usize]) {
        for (segment, units) in self.iter() {
            let of = sums[units.clone()].iter_mut().zip(&n[units]);
            of.for_each(|(sum, &n)| *sum = by_law!(segment, |law| law.clipped_mean(*sum, n)));
        }
    }

    /// [`Law::bias_of`] of all units.
    pub(crate) fn biases_of(self, means: &[f64]) -> Vec<f32> {
        let of = |(segment, units): (Segment, Range<usize>)| {
            means[units].iter().map(move |&mean| by_law!(segment, |law| law.bias_of(mean)) as f32)
        };
        self.iter().flat_map(of).collect()
    }

    /// [`Law::fit`] of a whole layer.
    pub(crate) fn fit(self, n: &[usize], sums: &[f64], squares: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (mut bias, mut precision) = (Vec::new(), Vec::new());
        for (segment, units) in self.iter() {
            let (b, s) = by_law!(segment, |law| law.fit(&n[units.clone()], &sums[units.clone()], &squares[units]));
            bias.extend(b);
            precision.extend(s);
        }
        (bias, precision)
    }
}

/// Σ (a + ln x) of many terms with x ≥ 1. It takes a logarithm only if the product of x has become large. The same bits on every
/// machine.
struct LogSums {
    sum: f64,
    product: f64,
}

impl Default for LogSums {
    fn default() -> Self {
        Self { sum: 0.0, product: 1.0 }
    }
}

impl LogSums {
    /// Adds a term; x is below 2^32, as a site has fewer states.
    fn add(&mut self, a: f64, x: f64) {
        const LARGE: f64 = 1e290;
        self.sum += a;
        self.product *= x;
        if self.product > LARGE {
            self.sum += libm::log(self.product);
            self.product = 1.0;
        }
    }

    fn total(self) -> f64 {
        self.sum + libm::log(self.product)
    }
}

/// A mean over n rows that is at least 1/n away from 0 and 1; ½ if n is below 2.
fn clipped(sum: f64, n: usize) -> f64 {
    let n = n as f64;
    if n < 2.0 { 0.5 } else { (sum / n).clamp(1.0 / n, 1.0 - 1.0 / n) }
}

/// Loads up to sixteen numbers as a vector.
#[inline(always)]
fn load<L: Wide>(l: L, from: &[f32]) -> L::F {
    match from.first_chunk::<LANES>() {
        Some(vector) => l.load(vector),
        None => {
            let mut vector: Vector = [0.0; LANES];
            vector[..from.len()].copy_from_slice(from);
            l.load(&vector)
        }
    }
}

/// Stores a vector as up to sixteen numbers.
#[inline(always)]
fn store<L: Wide>(l: L, a: L::F, to: &mut [f32]) {
    match to.first_chunk_mut::<LANES>() {
        Some(vector) => l.store(a, vector),
        None => {
            let mut vector: Vector = [0.0; LANES];
            l.store(a, &mut vector);
            to.copy_from_slice(&vector[..to.len()]);
        }
    }
}

/// Splits units into groups of sixteen; the last group may be shorter.
#[inline(always)]
fn vectors(units: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = units.end;
    units.step_by(LANES).map(move |first| first..end.min(first + LANES))
}

#[cfg(test)]
mod tests {
    use super::{binary, gaussian, pre_activation};
    use crate::lanes::printed::{check, function};

    #[test]
    fn the_kernels_have_these_functions() {
        check(
            "units.cuh",
            "// Printed from the functions of src/units/, which document the formulas: see src/lanes/printed.rs.\n",
            &[
                function(
                    "pre_activation_of",
                    "The pre-activation at inverse temperature beta.",
                    ["sum", "bias", "reference", "beta"],
                    |l, [sum, bias, reference, beta]| pre_activation(l, sum, bias, reference, beta),
                ),
                function(
                    "is_rare",
                    "Whether a unit with these odds of being off takes the rarer of its states.",
                    ["odds", "distance"],
                    |l, [odds, distance]| binary::is_rare(l, odds, distance),
                ),
                function(
                    "precision_at",
                    "The precision of a Gaussian unit at inverse temperature beta.",
                    ["precision", "reference", "beta"],
                    |l, [precision, reference, beta]| gaussian::precision_at(l, precision, reference, beta),
                ),
                function(
                    "gaussian_mean",
                    "The mean of a Gaussian unit at inverse temperature beta.",
                    ["sum", "bias", "precision", "reference", "reference_precision", "beta"],
                    |l, [sum, bias, precision, reference, reference_precision, beta]| {
                        gaussian::mean(l, sum, bias, precision, reference, reference_precision, beta)
                    },
                ),
                function(
                    "gaussian_state",
                    "A Gaussian unit with this mean and precision, from a standard normal number z.",
                    ["mean", "precision", "z"],
                    |l, [mean, precision, z]| gaussian::state(l, mean, precision, z),
                ),
            ],
        );
    }
}
