//! Rules of descent: how an update uses the gradient, with one file for each rule.
//!
//! A [`Descent`] selects the rules. [`Trainer::step`](crate::Trainer::step) applies them in the pass that makes the update,
//! with the same bits on every device. Without rules the update is θ ← θ - lr·gradient. A [`RuleState`] holds the rules' state between
//! updates.
//!
//! | file | rule | effect on |
//! |---|---|---|
//! | [`rate`], [`steps`] | a decreasing learning rate, an increasing number of Gibbs steps | the lr and the k of each update |
//! | [`sparsity`] | a target for hidden means | the hidden means of the data |
//! | [`centring`] | offsets of units | the gradient |
//! | [`decay`] | L2 and L1 on the weights | the weights before the step |
//! | [`momentum`] | a velocity of steps | the step |
//!
//! # One update
//!
//! With P the hidden means of the B rows v, N those of the M chains' ends v⁻, offsets μ and λ (0 without centring) and
//! the pull s of sparsity (0 without it), all of them from before the update, and with
//! ⟨x, y⟩ = -(1/B)·Σ_r x_r + (1/M)·Σ_m y_m:
//!
//! 1. P̂ = P - (λ + s) and N̂ = N - λ, for each row and chain;
//! 2. a_r = 1 - P̂_r·λ and d_r = 1 - (v_r·μ - μ·μ), the same with N̂ and v⁻ for each chain; products in `f64`, summed as
//!    energies are, rounded to `f32` at the end;
//! 3. ĝ_j = ⟨P̂_rj, N̂_mj⟩, and the gradient G_ij = ⟨v_ri·P̂_rj, v⁻_mi·N̂_mj⟩ - μ_i·ĝ_j of the weights,
//!    ⟨a_r·v_ri, a_m·v⁻_mi⟩ - μ_i·⟨a_r, a_m⟩ of b and ⟨d_r·P̂_rj, d_m·N̂_mj⟩ of c;
//! 4. the weights decay, velocities accumulate the gradients, the parameters take their step;
//! 5. the offsets move towards the means of the data.
//!
//! That is the centred gradient in its cheapest form: two numbers for each row and chain, instead of two products of the whole
//! gradient with the offsets.

pub mod centring;
pub mod decay;
pub mod momentum;
pub mod rate;
pub mod sparsity;
pub mod steps;

pub use centring::Centring;
pub use rate::Rate;
pub use sparsity::Sparsity;
pub use steps::Steps;

use crate::{
    error::{Error, Result},
    lanes::Lanes,
    rbm::{Gradient, check},
    shape::Shape,
};

/// The rules that updates follow; by default none. The [module](self) has the equations.
///
/// ```
/// use harmonium::{Cpu, Dataset, Descent, Rbm, Settings, Shape, Trainer, descent::Centring};
///
/// # fn main() -> harmonium::Result<()> {
/// let descent = Descent { centring: Some(Centring::default()), momentum: 0.5, l2: 2e-4, ..Descent::default() };
/// assert!(!descent.is_plain() && Descent::default().is_plain());
///
/// let data = Dataset::from_u8(vec![255, 0, 255, 0, 255, 0], 3)?;
/// let cpu = Cpu::detect()?;
/// let mut rbm = Rbm::new(Shape::new(3, 2)?, 123).on(cpu)?;
/// let mut trainer = Trainer::new(cpu, rbm.shape(), Settings { descent, ..Settings::default() })?;
/// trainer.step(&mut rbm, &data, 0.1)?;
/// let state = trainer.state()?.rule.expect("rules have a state");
/// assert!(state.velocity.is_some());
/// assert!(state.visible_offset.iter().all(|offset| (offset - 0.5).abs() < 1e-6));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Descent {
    /// The centred gradient, if it is used.
    pub centring: Option<Centring>,
    /// The momentum, the fraction of a parameter's velocity that is kept, within [0, 1).
    pub momentum: f32,
    /// L2 decay, at least 0: each update subtracts the fraction lr·l2 of every weight.
    pub l2: f32,
    /// L1 decay, at least 0: each update reduces the absolute value of every weight by lr·l1.
    pub l1: f32,
    /// A target for hidden means, if it is used.
    pub sparsity: Option<Sparsity>,
}

impl Descent {
    /// Returns true if the update is θ ← θ - lr·gradient without any rule.
    pub fn is_plain(self) -> bool {
        self == Self::default()
    }

    /// Checks that each number is in its rule's range.
    pub(crate) fn check(self) -> Result<()> {
        let within = |what, x: f32, expected: &str, is_right: bool| match is_right {
            true => Ok(()),
            false => Err(Error::Argument { what, expected: expected.into(), found: x.to_string() }),
        };
        let part = |x: f32| (0.0..=1.0).contains(&x);
        within("momentum", self.momentum, "at least 0 and below 1", (0.0..1.0).contains(&self.momentum))?;
        for (what, x) in [("l2", self.l2), ("l1", self.l1)] {
            within(what, x, "a finite number of at least 0", x.is_finite() && x >= 0.0)?;
        }
        if let Some(Centring { rate }) = self.centring {
            within("centring", rate, "a rate within [0, 1]", part(rate))?;
        }
        if let Some(Sparsity { target, cost, rate }) = self.sparsity {
            within("sparsity target", target, "a mean within [0, 1]", part(target))?;
            within("sparsity cost", cost, "a finite number of at least 0", cost.is_finite() && cost >= 0.0)?;
            within("sparsity rate", rate, "a rate within [0, 1]", part(rate))?;
        }
        Ok(())
    }

    /// The numbers that all parameters need in an update with this learning rate.
    pub(crate) fn pace(self, lr: f32) -> Pace {
        let sparsity = self.sparsity.unwrap_or(Sparsity { target: 0.0, cost: 0.0, rate: 0.0 });
        let product = |x: f32| f64::from(lr) * f64::from(x);
        Pace {
            lr,
            keep: (1.0 - product(self.l2)) as f32,
            shrink: product(self.l1) as f32,
            momentum: self.momentum,
            slide: self.centring.map_or(0.0, |centring| centring.rate),
            target: sparsity.target,
            cost: sparsity.cost,
            mean_rate: sparsity.rate,
        }
    }
}

/// The numbers of one update, the same on every device: struct `Pace` of kernels/descend.cu.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Pace {
    pub lr: f32,
    /// The fraction of a weight that L2 leaves.
    pub keep: f32,
    /// The amount by which L1 reduces the absolute value of a weight.
    pub shrink: f32,
    pub momentum: f32,
    /// ν of the offsets; 0 without centring.
    pub slide: f32,
    pub target: f32,
    pub cost: f32,
    /// ν of the running hidden means of sparsity.
    pub mean_rate: f32,
}

impl Pace {
    /// Returns true if weights decay.
    pub fn decays(self) -> bool {
        self.keep != 1.0 || self.shrink != 0.0
    }

    /// Returns true if a parameter with gradient 0 keeps its bits.
    pub fn keeps_at_rest(self) -> bool {
        self.lr.is_sign_positive() && !self.decays() && self.momentum == 0.0
    }
}

/// The state of the rules between updates, as a checkpoint stores it and as devices exchange it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RuleState {
    /// μ, n_visible values: 0 without centring.
    pub visible_offset: Vec<f32>,
    /// λ, n_hidden values: 0 without centring.
    pub hidden_offset: Vec<f32>,
    /// q, n_hidden values: the running hidden means of sparsity, or 0 without it.
    pub hidden_mean: Vec<f32>,
    /// The velocity, which is the last step of each parameter, if there is momentum.
    pub velocity: Option<Gradient>,
}

impl RuleState {
    /// The state before the first update: offsets ½, hidden means at their target, and velocity 0.
    pub fn new(shape: Shape, descent: Descent) -> Self {
        let offset = if descent.centring.is_some() { 0.5 } else { 0.0 };
        Self {
            visible_offset: vec![offset; shape.n_visible()],
            hidden_offset: vec![offset; shape.n_hidden()],
            hidden_mean: vec![descent.sparsity.map_or(0.0, |sparsity| sparsity.target); shape.n_hidden()],
            velocity: (descent.momentum > 0.0).then(|| Gradient::zero(shape)),
        }
    }

    /// Checks the state against the shape and the rules.
    pub(crate) fn check(&self, shape: Shape, descent: Descent) -> Result<()> {
        check("visible_offset", &self.visible_offset, shape.n_visible())?;
        check("hidden_offset", &self.hidden_offset, shape.n_hidden())?;
        check("hidden_mean", &self.hidden_mean, shape.n_hidden())?;
        match (&self.velocity, descent.momentum > 0.0) {
            (Some(velocity), true) => {
                check("velocity of weights", &velocity.weights, shape.n_visible() * shape.n_hidden())?;
                check("velocity of visible_bias", &velocity.visible_bias, shape.n_visible())?;
                check("velocity of hidden_bias", &velocity.hidden_bias, shape.n_hidden())
            }
            (None, false) => Ok(()),
            (found, expected) => {
                let text = |is_there| if is_there { "a velocity" } else { "no velocity" };
                Err(Error::Argument {
                    what: "velocity",
                    expected: text(expected).into(),
                    found: text(found.is_some()).into(),
                })
            }
        }
    }
}

/// x + rate·(to - x): one step of a running mean.
#[inline(always)]
pub(crate) fn slide<L: Lanes>(l: L, x: L::F, to: L::F, rate: L::F) -> L::F {
    l.mul_add(rate, l.add(to, l.negate(x)), x)
}

/// The limit below which decreasing numbers become 0, before they are subnormal, which would cost a hundred times as much.
const LEAST: f32 = 1e-30;

/// x, or 0 if |x| is below [`LEAST`].
#[inline(always)]
pub(crate) fn settled<L: Lanes>(l: L, x: L::F) -> L::F {
    l.select(l.less(l.larger(x, l.negate(x)), l.splat(LEAST)), l.splat(0.0), x)
}

#[cfg(test)]
mod tests {
    use super::{centring, decay, momentum, slide, sparsity};
    use crate::lanes::printed::{check, function};

    #[test]
    fn the_kernels_have_these_functions() {
        check(
            "rules.cuh",
            "// Printed from the functions of src/descent/, which document the formulas: see src/lanes/printed.rs.\n",
            &[
                function("slide", "x moved towards another number.", ["x", "to", "rate"], |l, [x, to, rate]| {
                    slide(l, x, to, rate)
                }),
                function(
                    "centre_of",
                    "The centre of a visible unit with this offset: 0 if the offset is tiny.",
                    ["offset"],
                    |l, [offset]| centring::centre_of(l, offset),
                ),
                function(
                    "centred",
                    "The gradient of weights with a visible unit of this centre.",
                    ["gradient", "centre", "slope"],
                    |l, [gradient, centre, slope]| centring::centred(l, gradient, centre, slope),
                ),
                function(
                    "next_offset",
                    "An offset after an update whose rows have this mean.",
                    ["offset", "mean", "rate"],
                    |l, [offset, mean, rate]| centring::next_offset(l, offset, mean, rate),
                ),
                function(
                    "pull",
                    "The sparsity penalty on hidden means.",
                    ["mean", "target", "cost"],
                    |l, [mean, target, cost]| sparsity::pull(l, mean, target, cost),
                ),
                function(
                    "shrunk",
                    "keep times a weight, moved towards 0 by shrink.",
                    ["weight", "keep", "shrink"],
                    |l, [weight, keep, shrink]| decay::shrunk(l, weight, keep, shrink),
                ),
                function(
                    "next_velocity",
                    "The velocity after an update.",
                    ["velocity", "momentum", "lr", "gradient"],
                    |l, [velocity, momentum, lr, gradient]| {
                        momentum::next_velocity(l, velocity, momentum, lr, gradient)
                    },
                ),
            ],
        );
    }
}
