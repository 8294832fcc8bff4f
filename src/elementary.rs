//! The elementary functions of an RBM: exp, σ, softplus, a logarithm and normal draws in `f32`, the same bits on every machine.
//!
//! Each is one fixed sequence of IEEE-754 operations (fused multiply-add, division, rounding to an integer), written for
//! any number of lanes and without branches. The same functions print the text of the CUDA kernels. A library's `exp`
//! would give other bits on another machine.
//!
//! | function | greatest error over all finite `f32` | monotone |
//! |---|---|---|
//! | [`exp`] | 1.7 ulp ([`EXP_ULP`]) | yes |
//! | [`sigmoid`] | 2.5 ulp ([`SIGMOID_ULP`]) | yes |
//! | [`softplus`] | 3.25 ulp ([`SOFTPLUS_ULP`]) | up to 4 ulp: if x < y, sp(x) is at most 4 ulp above sp(y) |
//! | [`ln_1p`] | 2.25 ulp ([`LN_1P_ULP`]) within [0, 1] | not promised |
//! | [`normal`] | [`NORMAL_ERROR`] times the greater one of 1 and \|z\| | not promised |
//!
//! If the true value is below e^-87.3 = 1.215e-38, just above the smallest normal number, the result is exactly 0, so that
//! subnormal numbers never occur. The result for NaN is NaN. `tests/library/elementary.rs` checks these bounds.

use crate::{
    lanes::{Lanes, One},
    uniforms::end_distance,
};

/// The greatest error of [`exp`] in units in the last place of the result.
pub const EXP_ULP: f64 = 1.7;
/// The greatest error of [`sigmoid`] in units in the last place of the result.
pub const SIGMOID_ULP: f64 = 2.5;
/// The greatest error of [`softplus`] in units in the last place of the result.
pub const SOFTPLUS_ULP: f64 = 3.25;
/// The greatest error of [`ln_1p`] in units in the last place of the result.
pub const LN_1P_ULP: f64 = 2.25;

/// The greatest error of [`normal`], in multiples of the greater one of 1 and |z|.
pub const NORMAL_ERROR: f64 = 3.25 / 8_388_608.0;

/// The range of x in which e^x is a normal and finite number.
const EXP_MIN: f32 = -87.3;
const EXP_MAX: f32 = 88.72;
/// ln 2 in two parts; the high part has so few bits that its product with an exponent is exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// (e^r - 1)/r on [0, ln 2], minimax in relative error of e^r; all positive, so that rounding preserves the order.
const EXP: [f32; 6] = [0.999_999_8, 0.500_005_84, 0.166_610_14, 0.041_914_992, 0.007_792_272_6, 0.001_948_77];
/// (2·atanh(√z)/√z - 2)/z on (0, 1/9], minimax.
const ATANH: [f32; 4] = [0.666_664_1, 0.400_217, 0.279_991_42, 0.280_244_6];

/// Φ⁻¹(½ + q)/q on [0, ⅜] in q² - 0.0703125, and -Φ⁻¹(d)/s in 1/s - 0.3203125, s = √(-2·ln d), for d within [2^-33, ⅛]; minimax in
/// relative error. Centred arguments keep powers small, and thereby the effect of rounding.
const NORMAL_CENTRE: [f32; 9] =
    [2.726_665, 3.759_873_2, 11.265_303, 42.121_643, 175.018_98, 749.690_5, 3_385.108_4, 22_173.68, 113_157.46];
const NORMAL_TAIL: [f32; 9] = [
    0.776_849_45,
    -1.112_749_6,
    -0.915_851_5,
    0.700_488_9,
    -0.748_57,
    0.959_678_05,
    -1.462_747_1,
    3.781_356_6,
    -8.206_334,
];
const NORMAL_MIDDLES: [f32; 2] = [0.070_312_5, 0.320_312_5];
/// The border between the two.
const NORMAL_BORDER: f32 = 0.125;

/// e^x for x within [EXP_MIN, EXP_MAX].
///
/// x = n·ln 2 + r with r in [0, ln 2): with r and all coefficients positive every step is monotone in x, hence the result.
#[inline(always)]
fn exp_within<L: Lanes>(l: L, x: L::F) -> L::F {
    let n = l.floor(l.mul(x, l.splat(std::f32::consts::LOG2_E)));
    let r = l.mul_add(n, l.splat(-LN_2_LOW), l.mul_add(n, l.splat(-LN_2_HIGH), x));
    let q = polynomial(l, &EXP, r);
    // n is within -126..=127, so n + 127 is the biased exponent of the normal number 2^n. The bits of 1.5·2^23 + m
    // end in m, so that an addition converts to an integer, the same on every machine.
    let power = l.shift_to_exponent(l.add(n, l.splat(127.0 + 12_582_912.0)));
    l.mul(l.mul_add(q, r, l.splat(1.0)), power)
}

/// c₀ + c₁x + c₂x² + …, by Horner's rule.
#[inline(always)]
fn polynomial<L: Lanes, const N: usize>(l: L, coefficients: &[f32; N], x: L::F) -> L::F {
    let mut sum = l.splat(coefficients[N - 1]);
    for &c in coefficients[..N - 1].iter().rev() {
        sum = l.mul_add(sum, x, l.splat(c));
    }
    sum
}

#[inline(always)]
pub(crate) fn exp_lanes<L: Lanes>(l: L, x: L::F) -> L::F {
    let y = exp_within(l, l.smaller(l.splat(EXP_MAX), l.larger(l.splat(EXP_MIN), x)));
    let y = l.select(l.less(l.splat(EXP_MAX), x), l.splat(f32::INFINITY), y);
    l.select(l.less(x, l.splat(EXP_MIN)), l.splat(0.0), y)
}

/// e^-x, the odds that a unit with pre-activation x is off, with x clamped to ±87.3.
#[inline(always)]
pub(crate) fn odds_off_lanes<L: Lanes>(l: L, x: L::F) -> L::F {
    exp_within(l, l.smaller(l.splat(-EXP_MIN), l.larger(l.splat(EXP_MIN), l.negate(x))))
}

/// σ(x), from x and its odds e^-x.
#[inline(always)]
pub(crate) fn mean_of_odds_lanes<L: Lanes>(l: L, x: L::F, odds: L::F) -> L::F {
    let y = l.div(l.splat(1.0), l.add(l.splat(1.0), odds));
    l.select(l.less(x, l.splat(EXP_MIN)), l.splat(0.0), y)
}

#[inline(always)]
pub(crate) fn sigmoid_lanes<L: Lanes>(l: L, x: L::F) -> L::F {
    mean_of_odds_lanes(l, x, odds_off_lanes(l, x))
}

#[inline(always)]
pub(crate) fn softplus_lanes<L: Lanes>(l: L, x: L::F) -> L::F {
    let a = l.smaller(x, l.negate(x));
    let e = exp_within(l, l.larger(l.splat(EXP_MIN), a));
    let t = l.select(l.less(a, l.splat(EXP_MIN)), l.splat(0.0), e);
    l.add(l.larger(l.splat(0.0), x), ln_1p_lanes(l, t))
}

/// ln(1 + t) for t within [0, 1]: 2·atanh(s) with s = t/(2 + t), accurate for small t where 1 + t is not.
#[inline(always)]
pub(crate) fn ln_1p_lanes<L: Lanes>(l: L, t: L::F) -> L::F {
    let s = l.div(t, l.add(l.splat(2.0), t));
    let z = l.mul(s, s);
    l.mul_add(l.mul(s, z), polynomial(l, &ATANH, z), l.add(s, s))
}

/// ln x = n·ln 2 + ln m for a normal number x = m·2^n above 0.
#[inline(always)]
pub(crate) fn ln_lanes<L: Lanes>(l: L, x: L::F) -> L::F {
    let n = l.exponent(x);
    let log = ln_1p_lanes(l, l.add(l.mantissa(x), l.splat(-1.0)));
    l.mul_add(n, l.splat(LN_2_HIGH), l.mul_add(n, l.splat(LN_2_LOW), log))
}

/// Φ⁻¹ of the number at this distance, from 2^-33 to ½, from the lower end of the unit interval, or from the upper end if `upper` is
/// true.
#[inline(always)]
pub(crate) fn normal_lanes<L: Lanes>(l: L, distance: L::F, upper: L::M) -> L::F {
    let z = normal_size_lanes(l, distance);
    l.select(upper, z, l.negate(z))
}

/// |Φ⁻¹| of a number at this distance from an end.
#[inline(always)]
fn normal_size_lanes<L: Lanes>(l: L, distance: L::F) -> L::F {
    let q = l.add(l.splat(0.5), l.negate(distance));
    let centre = l.mul(q, polynomial(l, &NORMAL_CENTRE, l.mul_add(q, q, l.splat(-NORMAL_MIDDLES[0]))));
    let s = l.sqrt(l.mul(l.splat(-2.0), ln_lanes(l, distance)));
    let tail = l.mul(s, polynomial(l, &NORMAL_TAIL, l.add(l.div(l.splat(1.0), s), l.splat(-NORMAL_MIDDLES[1]))));
    l.select(l.less(distance, l.splat(NORMAL_BORDER)), tail, centre)
}

/// e^x: 0 below -87.3, +∞ above 88.72, NaN for NaN.
pub fn exp(x: f32) -> f32 {
    exp_lanes(One, x)
}

/// σ(x) = 1/(1 + e^-x), within [0, 1]: the probability that a unit with pre-activation x (log-odds) is on.
///
/// 0 below -87.3. Both 1 + e^-x and its reciprocal round monotonically, so σ is monotone.
///
/// ```
/// use harmonium::elementary::{sigmoid, softplus};
///
/// assert_eq!((sigmoid(0.0), sigmoid(-100.0), sigmoid(100.0)), (0.5, 0.0, 1.0));
/// // log σ(x) = -sp(-x) is finite even if σ(x) is 0.
/// assert_eq!(-softplus(100.0), -100.0);
/// ```
pub fn sigmoid(x: f32) -> f32 {
    sigmoid_lanes(One, x)
}

/// sp(x) = ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|): the amount in nats by which a hidden unit with pre-activation x lowers the free
/// energy.
///
/// Also log σ(x) = -sp(-x), which is finite even if σ is 0.
pub fn softplus(x: f32) -> f32 {
    softplus_lanes(One, x)
}

/// ln(1 + t) for t within [0, 1]. With t = m - 1 it is the logarithm of a mantissa m within [1, 2].
pub fn ln_1p(t: f32) -> f32 {
    ln_1p_lanes(One, t)
}

/// ln x for x ≥ 1, such as a sum of exponentials of which the greatest is 1. The error is at most 2^-22 times the greater one of
/// 1 and ln x.
pub fn ln(x: f32) -> f32 {
    ln_lanes(One, x)
}

/// z = Φ⁻¹(u) with u = (x + ½)·2^-32: the standard normal number, of mean 0 and variance 1, for the output x of the generator.
///
/// z lies within ±6.34. It is computed from the distance of u to the nearer end of the unit interval, rounded to `f32`.
///
/// ```
/// use harmonium::elementary::normal;
///
/// assert_eq!(normal(0), -normal(u32::MAX));
/// assert!((normal(0xd762_5e89) - 1.0).abs() < 1e-6);
/// ```
pub fn normal(x: u32) -> f32 {
    let upper = x > u32::MAX / 2;
    normal_lanes(One, end_distance(x, upper), upper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Isa,
        lanes::{
            LANES, Vector, dispatch,
            printed::{check, function},
        },
        uniforms::{Purpose, Uniforms},
    };
    use rand_core::Rng;

    dispatch! {
        /// Normal numbers, for the generator's states from `state` on.
        fn normals(|l| state: u64, out: &mut [Vector]) {
            let mut draws = l.states(state);
            for vector in out {
                let x = l.draw(&mut draws);
                let upper = l.less(l.splat(0.5 - f32::EPSILON / 4.0), l.unit_interval(x));
                l.store(normal_lanes(l, l.end_distance(x, upper), upper), vector);
            }
        }
    }

    #[test]
    fn vectors_give_the_same_normal_numbers() {
        let draws = Uniforms::new(3, Purpose::Sampling);
        let mut generator = draws.generator();
        let expected: Vec<u32> = (0..20_000 * LANES).map(|_| normal(generator.next_u32()).to_bits()).collect();
        for isa in Isa::available() {
            let mut found = vec![[0.0; LANES]; 20_000];
            normals(isa, draws.state(), &mut found);
            assert!(found.as_flattened().iter().map(|z| z.to_bits()).eq(expected.iter().copied()), "{isa}");
        }
    }

    #[test]
    fn the_kernels_have_these_functions() {
        check(
            "elementary.cuh",
            "// Printed from the functions of src/elementary.rs, which document the formulas: see src/lanes/printed.rs.\n",
            &[
                function("exp_within", "e^x for x within [-87.3, 88.72].", ["x"], |l, [x]| exp_within(l, x)),
                function("odds_off", "e^-x, the odds that a unit is off, for x limited to +-87.3.", ["x"], |l, [x]| {
                    odds_off_lanes(l, x)
                }),
                function("mean_of_odds", "The sigmoid of x, from odds_off(x).", ["x", "odds"], |l, [x, odds]| {
                    mean_of_odds_lanes(l, x, odds)
                }),
                function("sigmoid", "1/(1 + e^-x), within [0, 1].", ["x"], |l, [x]| sigmoid_lanes(l, x)),
                function("ln_1p", "ln(1 + t) for t within [0, 1].", ["t"], |l, [t]| ln_1p_lanes(l, t)),
                function("softplus", "ln(1 + e^x).", ["x"], |l, [x]| softplus_lanes(l, x)),
                function("exp_of", "e^x: 0 below -87.3, infinite above 88.72.", ["x"], |l, [x]| exp_lanes(l, x)),
                function("ln_of", "ln x of a normal number above 0.", ["x"], |l, [x]| ln_lanes(l, x)),
                function(
                    "normal_size",
                    "The magnitude of the normal number at this distance from an end of the unit interval.",
                    ["distance"],
                    |l, [distance]| normal_size_lanes(l, distance),
                ),
            ],
        );
    }
}
