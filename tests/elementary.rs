//! exp, σ, softplus and ln(1 + t): held to the bounds that their documentation states, and the same bits in every vector kernel.
//!
//! Over about a million values spread evenly over all bit patterns of `f32`; with `HARMONIUM_EXHAUSTIVE=1` over all of
//! them, 2^32, in some ten minutes. The stated bounds are what the exhaustive run found, rounded up.

mod oracle;

use harmonium::{
    Cpu, Isa, Rbm,
    elementary::{EXP_ULP, LN_1P_ULP, SIGMOID_ULP, SOFTPLUS_ULP, exp, ln_1p, sigmoid, softplus},
};
use oracle::{assert_bits, exact, rows, shape};

/// Below, e^x is no normal number and taken for 0.
const LOWEST: f32 = -87.3;
/// Above, e^x is taken for infinite.
const HIGHEST: f32 = 88.72;
/// How many units in the last place softplus may fall from a number to a greater one.
const SOFTPLUS_FALL: i64 = 4;
/// Digests of the results of exp, σ and softplus over every [`STRIDE`]-th number.
const PINNED: [u64; 3] = [0x192a_2afd_a777_447b, 0x0fed_0d45_f7c2_f143, 0x928e_e57c_ad02_28b0];
/// Numbers from one tested to the next. Odd and no power of two, so that all low bits occur.
const STRIDE: usize = 4099;

/// All finite numbers in ascending order, by number: -1 is -0, 0 is 0.
fn nth(n: i64) -> f32 {
    if n >= 0 { f32::from_bits(n as u32) } else { f32::from_bits(0x8000_0000 | (-1 - n) as u32) }
}

/// The place of a number that is not negative in that order.
fn place(x: f32) -> i64 {
    i64::from(x.to_bits())
}

/// How many units in the last place of `exact` a result is off.
fn ulps(found: f32, exact: f64) -> f64 {
    let exponent = exact.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() as i32;
    (f64::from(found) - exact).abs() / 2f64.powi(exponent - 23)
}

/// Every `stride`-th finite number from `from` to below `to`.
fn walk(from: i64, to: i64, stride: usize) {
    let (mut exp_before, mut sigmoid_before, mut softplus_greatest) = (0.0, 0.0, 0);
    for x in (from..to).step_by(stride).map(nth) {
        let (e, s, p) = (exp(x), sigmoid(x), softplus(x));
        let wide = f64::from(x);
        if x < LOWEST {
            assert_eq!((e, s, p), (0.0, 0.0, 0.0), "at {x:e}");
        } else {
            let off = ulps(s, exact::sigmoid(wide));
            assert!(off <= SIGMOID_ULP, "sigmoid({x:e}) = {s:e} is off by {off} ulp");
            let off = ulps(p, exact::softplus(wide));
            assert!(off <= SOFTPLUS_ULP, "softplus({x:e}) = {p:e} is off by {off} ulp");
            if x > HIGHEST {
                assert_eq!(e, f32::INFINITY, "at {x:e}");
            } else {
                let off = ulps(e, wide.exp());
                assert!(off <= EXP_ULP, "exp({x:e}) = {e:e} is off by {off} ulp");
            }
        }
        assert!((0.0..=1.0).contains(&s), "sigmoid({x:e}) = {s:e}");
        assert!(e >= exp_before, "exp falls at {x:e}");
        assert!(s >= sigmoid_before, "sigmoid falls at {x:e}");
        (exp_before, sigmoid_before) = (e, s);
        // Not infinite either: sp(x) is at most x + ln 2.
        assert!(p.is_finite() && p >= 0.0, "softplus({x:e}) = {p:e}");
        assert!(place(p) >= softplus_greatest - SOFTPLUS_FALL, "softplus falls too far at {x:e}");
        softplus_greatest = softplus_greatest.max(place(p));
    }
}

#[test]
fn bounds_hold_and_order_is_kept() {
    let stride = if std::env::var_os("HARMONIUM_EXHAUSTIVE").is_some() { 1 } else { STRIDE };
    let end = i64::from(f32::INFINITY.to_bits());
    // Four pieces that overlap by one step, so that order is checked across their borders too.
    let cut = |quarter: i64| -end + quarter * (end / 2 / stride as i64 * stride as i64);
    std::thread::scope(|scope| {
        for quarter in 0..4 {
            let to = if quarter == 3 { end } else { cut(quarter + 1) + 1 };
            scope.spawn(move || walk(cut(quarter), to, stride));
        }
    });
}

/// Every mantissa, and smaller numbers down to where a normal result ends.
#[test]
fn the_logarithm_keeps_its_bound() {
    let stride = if std::env::var_os("HARMONIUM_EXHAUSTIVE").is_some() { 1 } else { 61 };
    let near = |from: f32, to: f32, stride: usize| {
        for t in (from.to_bits()..=to.to_bits()).step_by(stride).map(f32::from_bits) {
            let off = ulps(ln_1p(t), f64::from(t).ln_1p());
            assert!(off <= LN_1P_ULP, "ln_1p({t:e}) = {:e} is off by {off} ulp", ln_1p(t));
        }
    };
    near(f32::EPSILON, 1.0, stride);
    near(1e-37, f32::EPSILON, 64 * stride);
    for t in [0.0038, 0.5, 1.0 - 1e-3] {
        near(t, t + 1e-3, 1);
    }
    assert_eq!((ln_1p(0.0), ln_1p(1.0)), (0.0, std::f32::consts::LN_2));
    assert!(ln_1p(f32::NAN).is_nan());
}

#[test]
fn where_precision_is_easily_lost() {
    // All numbers near the ends of the ranges, near 0, and where softplus leaves the straight line.
    for centre in [LOWEST, HIGHEST, 87.3, -16.7, 16.7, -0.1, 0.1, std::f32::consts::LN_2, 1.0] {
        let at = if centre >= 0.0 { place(centre) } else { -1 - place(-centre) };
        walk(at - 20_000, at + 20_000, 1);
    }
    walk(-20_000, 20_000, 1);
}

/// The bits themselves: files and other devices rely on them, so that no change, however small, may go unnoticed. Whoever
/// changes a function on purpose writes the new numbers here and in the kernels.
#[test]
fn the_bits_are_pinned() {
    let end = i64::from(f32::INFINITY.to_bits());
    // FNV-1a over words.
    let digest = |f: fn(f32) -> f32| {
        let word = |hash: u64, n| (hash ^ u64::from(f(nth(n)).to_bits())).wrapping_mul(0x0000_0100_0000_01b3);
        (-end..end).step_by(STRIDE).fold(0xcbf2_9ce4_8422_2325, word)
    };
    assert_eq!([exp, sigmoid, softplus].map(digest), PINNED);
}

#[test]
fn special_values() {
    assert!([exp, sigmoid, softplus].iter().all(|f| f(f32::NAN).is_nan() && f(-f32::NAN).is_nan()));
    assert_eq!([exp(0.0), exp(-0.0), sigmoid(0.0), sigmoid(-0.0)], [1.0, 1.0, 0.5, 0.5]);
    assert_eq!([exp(f32::NEG_INFINITY), sigmoid(f32::NEG_INFINITY), softplus(f32::NEG_INFINITY)], [0.0, 0.0, 0.0]);
    assert_eq!(
        [exp(f32::INFINITY), sigmoid(f32::INFINITY), softplus(f32::INFINITY)],
        [f32::INFINITY, 1.0, f32::INFINITY]
    );
    assert_eq!([sigmoid(1e4), sigmoid(-1e4), softplus(1e4), softplus(-1e4)], [1.0, 0.0, 1e4, 0.0]);
    // log σ(x) = -sp(-x), where σ(x) is 0.
    assert_eq!(-softplus(-f32::from(-10_000i16)), -1e4);
}

/// About 100 000 numbers, spread over all bit patterns, that may be parameters.
fn spread() -> Vec<f32> {
    let end = i64::from(f32::INFINITY.to_bits());
    (-end..end).step_by(43_003).map(nth).collect()
}

#[test]
fn vectors_give_the_same_sigmoid() {
    // One visible unit that is on: each pre-activation is a weight.
    let x = spread();
    let shape = shape(1, x.len());
    let rbm = Rbm::from_parts(shape, x.clone(), vec![0.0], vec![0.0; x.len()]).expect("a right model");
    let expected: Vec<f32> = x.iter().map(|&x| sigmoid(x)).collect();
    for isa in Isa::available() {
        let mut hidden = harmonium::Activations::default();
        let resident = rbm.on(Cpu::with_isa(isa)).expect("resident");
        resident.propup(rows(&[1.0], 1), &mut hidden).expect("propup");
        assert_bits(&hidden.pre_activation, &x, isa.name());
        assert_bits(&hidden.mean, &expected, isa.name());
    }
}

#[test]
fn vectors_give_the_same_softplus() {
    // One visible and one hidden unit: F(v) = -sp(v·w), and v runs over rows.
    let n = 50_000;
    let v: Vec<f32> = (0..n).map(|r| r as f32 / (n - 1) as f32).collect();
    for w in [-100.0, -1.0, 0.01, 1.0, 20.0, 200.0] {
        let rbm = Rbm::from_parts(shape(1, 1), vec![w], vec![0.0], vec![0.0]).expect("a right model");
        for isa in Isa::available() {
            let free = rbm.on(Cpu::with_isa(isa)).expect("resident").free_energy(rows(&v, 1)).expect("free energy");
            for (&v, free) in v.iter().zip(free) {
                assert_eq!(-free, f64::from(softplus(v * w)), "{}: softplus({})", isa.name(), v * w);
            }
        }
    }
}
