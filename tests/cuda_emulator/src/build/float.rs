//! Floating-point arithmetic.

use super::builder::Builder;
use super::form::Form;
use super::rounding::{Rounding, canonical, flush, perturb, saturate, two_sum};
use crate::ptx::{Operand, Type};

impl Builder<'_> {
    /// Decodes floating-point instructions.
    pub fn float(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        match form.ty()? {
            Type::F32 => self.single(form, operands),
            Type::F64 => self.double(form, operands),
            other => Err(format!("unsupported type {other:?}")),
        }
    }

    fn single(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let (ftz, sat) = (form.take("ftz"), form.take("sat"));
        let rounding = form.pick(Rounding::parse).unwrap_or(Rounding::Nearest);
        let approximate = form.take("approx") | form.take("full");
        let seed = self.globals.settings.approx_seed;
        let input = move |x: f32| if ftz { flush(x) } else { x };
        let output = move |x: f32| {
            let x = canonical(if ftz { flush(x) } else { x });
            if sat { saturate(x) } else { x }
        };
        let plain = !ftz && !sat;
        let exact = plain && rounding == Rounding::Nearest;
        match form.head {
            "add" if exact => self.binary(operands, |a: f32, b: f32| canonical(a + b)),
            "sub" if exact => self.binary(operands, |a: f32, b: f32| canonical(a - b)),
            "mul" if exact => self.binary(operands, |a: f32, b: f32| canonical(a * b)),
            "fma" if exact => self.ternary(operands, |a: f32, b: f32, c: f32| canonical(a.mul_add(b, c))),
            "add" => self.binary(operands, move |a: f32, b: f32| output(sum(rounding, input(a), input(b)))),
            "sub" => self.binary(operands, move |a: f32, b: f32| output(sum(rounding, input(a), -input(b)))),
            "mul" => self.binary(operands, move |a: f32, b: f32| output(fused(rounding, input(a), input(b), None))),
            "fma" | "mad" => self.ternary(operands, move |a: f32, b: f32, c: f32| {
                output(fused(rounding, input(a), input(b), Some(input(c))))
            }),
            "div" if approximate => {
                self.binary(operands, move |a: f32, b: f32| output(perturb(seed, b, input(a) / input(b), 2)))
            }
            "div" => self.binary(operands, move |a: f32, b: f32| output(quotient(rounding, input(a), input(b)))),
            "rcp" if approximate => self.approximate(operands, seed, 1, move |a| output(1.0 / input(a))),
            "rcp" => self.unary(operands, move |a: f32| output(quotient(rounding, 1.0, input(a)))),
            "sqrt" if approximate => self.approximate(operands, seed, 1, move |a| output(input(a).sqrt())),
            "sqrt" => self.unary(operands, move |a: f32| output(root(rounding, input(a)))),
            "rsqrt" => self.approximate(operands, seed, 2, move |a| output((1.0 / f64::from(input(a)).sqrt()) as f32)),
            "ex2" => self.approximate(operands, seed, 2, move |a| output(f64::from(input(a)).exp2() as f32)),
            "lg2" => self.approximate(operands, seed, 1, move |a| output(f64::from(input(a)).log2() as f32)),
            "sin" => self.approximate(operands, seed, 4, move |a| output(f64::from(input(a)).sin() as f32)),
            "cos" => self.approximate(operands, seed, 4, move |a| output(f64::from(input(a)).cos() as f32)),
            "tanh" => self.approximate(operands, seed, 64, move |a| output(f64::from(input(a)).tanh() as f32)),
            "neg" => self.unary(operands, move |a: f32| -input(a)),
            "abs" => self.unary(operands, move |a: f32| input(a).abs()),
            "copysign" => self.binary(operands, |a: f32, b: f32| b.copysign(a)),
            "testp" => self.test_property(form, operands),
            "min" | "max" => {
                let largest = form.head == "max";
                let nan = form.take("NaN");
                self.binary(operands, move |a: f32, b: f32| output(extreme(largest, nan, input(a), input(b))))
            }
            other => Err(format!("unknown opcode {other}")),
        }
    }

    fn double(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        if form.pick(Rounding::parse).unwrap_or(Rounding::Nearest) != Rounding::Nearest {
            return Err("only .rn is supported for f64".to_owned());
        }
        if form.take("approx") {
            form.take("ftz");
            return match form.head {
                "rcp" => self.unary(operands, |a: f64| upper_word(1.0 / upper_word(a))),
                "rsqrt" => self.unary(operands, |a: f64| upper_word(1.0 / upper_word(a).sqrt())),
                other => Err(format!("{other}.approx is not supported for f64")),
            };
        }
        match form.head {
            "add" => self.binary(operands, |a: f64, b: f64| a + b),
            "sub" => self.binary(operands, |a: f64, b: f64| a - b),
            "mul" => self.binary(operands, |a: f64, b: f64| a * b),
            "div" => self.binary(operands, |a: f64, b: f64| a / b),
            "fma" | "mad" => self.ternary(operands, f64::mul_add),
            "rcp" => self.unary(operands, |a: f64| 1.0 / a),
            "sqrt" => self.unary(operands, f64::sqrt),
            "neg" => self.unary(operands, |a: f64| -a),
            "abs" => self.unary(operands, f64::abs),
            "copysign" => self.binary(operands, |a: f64, b: f64| b.copysign(a)),
            "min" => self.binary(
                operands,
                |a: f64, b: f64| if a == b && a == 0.0 { signed_zero(false, a, b) } else { a.min(b) },
            ),
            "max" => self
                .binary(operands, |a: f64, b: f64| if a == b && a == 0.0 { signed_zero(true, a, b) } else { a.max(b) }),
            other => Err(format!("{other} is not supported for f64")),
        }
    }

    /// An instruction whose last bits only the hardware defines. Rounds to nearest, perturbed if the settings require it.
    fn approximate(
        &mut self, operands: &[Operand], seed: Option<u64>, ulps: i64,
        f: impl Fn(f32) -> f32 + Copy + Send + Sync + 'static,
    ) -> Result<(), String> {
        self.unary(operands, move |a: f32| perturb(seed, a, f(a), ulps))
    }

    fn test_property(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let [Operand::Name(p), a] = operands else {
            return Err("expected two operands".to_owned());
        };
        let (a, p) = (self.source::<f32>(a)?, self.predicate_register(p)?);
        const PROPERTIES: [&str; 6] = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];
        let f: fn(f32) -> bool = match form.any(&PROPERTIES) {
            Some("finite") => |a| a.is_finite(),
            Some("infinite") => |a| a.is_infinite(),
            Some("number") => |a| !a.is_nan(),
            Some("notanumber") => |a| a.is_nan(),
            Some("normal") => |a| a.is_normal(),
            Some(_) => |a| a.is_subnormal(),
            None => return Err("the property is missing".to_owned()),
        };
        self.compute(move |r, mask| {
            let bits = r.test2(a, a, |a: f32, _| f(a));
            r.write_predicate(mask, p, bits);
        });
        Ok(())
    }
}

/// The approximate instructions of double precision read and write only the upper 32 bits; subnormal numbers are zeros.
fn upper_word(x: f64) -> f64 {
    let x = if x.is_subnormal() { 0f64.copysign(x) } else { x };
    f64::from_bits(x.to_bits() & !0xffff_ffff)
}

fn signed_zero(largest: bool, a: f64, b: f64) -> f64 {
    let negative = if largest {
        a.is_sign_negative() && b.is_sign_negative()
    } else {
        a.is_sign_negative() || b.is_sign_negative()
    };
    if negative { -0.0 } else { 0.0 }
}

fn extreme(largest: bool, nan: bool, a: f32, b: f32) -> f32 {
    if nan && (a.is_nan() || b.is_nan()) {
        return f32::NAN;
    }
    if a == 0.0 && b == 0.0 {
        return signed_zero(largest, f64::from(a), f64::from(b)) as f32;
    }
    if largest { a.max(b) } else { a.min(b) }
}

fn sum(rounding: Rounding, a: f32, b: f32) -> f32 {
    if rounding == Rounding::Nearest {
        return a + b;
    }
    let (value, rest) = two_sum(f64::from(a), f64::from(b));
    match rounding {
        // An exact cancellation is negative zero when rounding down.
        Rounding::Down if value == 0.0 && !(a == 0.0 && b == 0.0 && a.is_sign_positive() && b.is_sign_positive()) => {
            -0.0
        }
        _ => rounding.narrow(value, rest),
    }
}

fn fused(rounding: Rounding, a: f32, b: f32, c: Option<f32>) -> f32 {
    if rounding == Rounding::Nearest {
        return match c {
            Some(c) => a.mul_add(b, c),
            None => a * b,
        };
    }
    // The product of two single-precision numbers is exact in double precision.
    let product = f64::from(a) * f64::from(b);
    let (value, rest) = two_sum(product, f64::from(c.unwrap_or(0.0)));
    match c {
        None => rounding.narrow(product, 0.0),
        Some(_) => rounding.narrow(value, rest),
    }
}

fn quotient(rounding: Rounding, a: f32, b: f32) -> f32 {
    if rounding == Rounding::Nearest {
        return a / b;
    }
    let (a, b) = (f64::from(a), f64::from(b));
    let value = a / b;
    let rest = (-value).mul_add(b, a) / b;
    rounding.narrow(value, if rest.is_finite() { rest } else { 0.0 })
}

fn root(rounding: Rounding, a: f32) -> f32 {
    if rounding == Rounding::Nearest {
        return a.sqrt();
    }
    let a = f64::from(a);
    let value = a.sqrt();
    let rest = (-value).mul_add(value, a) / (2.0 * value);
    rounding.narrow(value, if rest.is_finite() { rest } else { 0.0 })
}
