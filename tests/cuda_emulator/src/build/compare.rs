//! Comparisons.

use super::builder::Builder;
use super::form::{Form, with_float, with_int};
use crate::machine::{Lane, Registers};
use crate::ptx::{Operand, Type};

type Test = Box<dyn Fn(&mut Registers) -> u32 + Send + Sync>;

const COMPARISONS: [&str; 18] = [
    "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan",
];

impl Builder<'_> {
    /// Decodes `setp`, `set` and `slct`.
    pub fn compare(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        match form.head {
            "setp" => self.set_predicate(form, operands),
            "set" => self.set_register(form, operands),
            _ => self.select_by_sign(form, operands),
        }
    }

    fn set_predicate(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let [d, a, b, rest @ ..] = operands else {
            return Err("expected three operands".to_owned());
        };
        let (p, q) = match d {
            Operand::Name(p) => (self.predicate_register(p)?, None),
            Operand::Pair(p, q) => match (&**p, &**q) {
                (Operand::Name(p), Operand::Name(q)) => {
                    (self.predicate_register(p)?, Some(self.predicate_register(q)?))
                }
                _ => return Err("expected predicates".to_owned()),
            },
            other => return Err(format!("expected a predicate, found {other:?}")),
        };
        let test = self.test(form, a, b)?;
        let combine: fn(u32, u32) -> u32 = match form.any(&["and", "or", "xor"]) {
            Some("or") => |a, b| a | b,
            Some("xor") => |a, b| a ^ b,
            _ => |a, b| a & b,
        };
        let (c, flip) = match rest {
            [] => (self.new_predicate(), u32::MAX),
            [c, ..] => {
                let (c, negated) = self.predicate(c)?;
                (c, (negated as u32).wrapping_neg())
            }
        };
        self.compute(move |r, mask| {
            let bits = test(r);
            let other = r.predicates[c] ^ flip;
            r.write_predicate(mask, p, combine(bits, other));
            if let Some(q) = q {
                r.write_predicate(mask, q, combine(!bits, other));
            }
        });
        Ok(())
    }

    fn set_register(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let [d, a, b] = operands else {
            return Err("expected three operands".to_owned());
        };
        // The first type is the destination's.
        let yes = match form.types.remove(0) {
            Type::F32 => 1f32.to_bits(),
            Type::U32 | Type::S32 => u32::MAX,
            other => return Err(format!("unsupported type {other:?}")),
        };
        let test = self.test(form, a, b)?;
        let d = self.destination::<u32>(d)?;
        self.compute(move |r, mask| {
            let bits = test(r);
            let out = std::array::from_fn(|i| if bits >> i & 1 != 0 { yes } else { 0 });
            r.write(mask, d, &out);
        });
        Ok(())
    }

    /// `slct.dtype.ctype d, a, b, c`: `a` if `c >= 0`.
    fn select_by_sign(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        form.take("ftz");
        let float = form.types.get(1) == Some(&Type::F32);
        let positive = move |c: u32| if float { f32::from_bits(c) >= 0.0 } else { c as i32 >= 0 };
        super::form::with_bits!(form.ty()?, T => {
            self.ternary(operands, move |a: T, b: T, c: u32| if positive(c) { a } else { b })
        })
    }

    fn test(&mut self, form: &mut Form, a: &Operand, b: &Operand) -> Result<Test, String> {
        let ty = form.ty()?;
        let Some(name) = form.any(&COMPARISONS) else {
            return Err("the comparison is missing".to_owned());
        };
        if ty.is_float() {
            let flush = form.take("ftz");
            return with_float!(ty, T => {
                let flushed = move |x: T| if flush && x.is_subnormal() { 0.0 } else { x };
                let f: fn(T, T) -> bool = match name {
                    "eq" => |a, b| a == b,
                    "ne" => |a, b| a != b && !a.is_nan() && !b.is_nan(),
                    "lt" => |a, b| a < b,
                    "le" => |a, b| a <= b,
                    "gt" => |a, b| a > b,
                    "ge" => |a, b| a >= b,
                    "equ" => |a, b| a == b || a.is_nan() || b.is_nan(),
                    "neu" => |a, b| a != b,
                    "ltu" => |a, b| a < b || a.is_nan() || b.is_nan(),
                    "leu" => |a, b| a <= b || a.is_nan() || b.is_nan(),
                    "gtu" => |a, b| a > b || a.is_nan() || b.is_nan(),
                    "geu" => |a, b| a >= b || a.is_nan() || b.is_nan(),
                    "num" => |a, b| !a.is_nan() && !b.is_nan(),
                    "nan" => |a, b| a.is_nan() || b.is_nan(),
                    other => return Err(format!("unsupported comparison {other}")),
                };
                self.tester(a, b, move |a: T, b: T| f(flushed(a), flushed(b)))
            });
        }
        with_int!(ty, T => match name {
            "eq" => self.tester(a, b, |a: T, b: T| a == b),
            "ne" => self.tester(a, b, |a: T, b: T| a != b),
            "lt" | "lo" => self.tester(a, b, |a: T, b: T| a < b),
            "le" | "ls" => self.tester(a, b, |a: T, b: T| a <= b),
            "gt" | "hi" => self.tester(a, b, |a: T, b: T| a > b),
            "ge" | "hs" => self.tester(a, b, |a: T, b: T| a >= b),
            other => Err(format!("unsupported comparison {other}")),
        })
    }

    fn tester<T: Lane>(
        &mut self, a: &Operand, b: &Operand, f: impl Fn(T, T) -> bool + Copy + Send + Sync + 'static,
    ) -> Result<Test, String> {
        let (a, b) = (self.source::<T>(a)?, self.source::<T>(b)?);
        Ok(Box::new(move |r| r.test2(a, b, f)))
    }
}
