//! Conversions between types.
//!
//! The common conversions are compiled individually. All others go through a value that holds every number of every type exactly.

use super::builder::Builder;
use super::form::{Form, with_any_int};
use super::rounding::{Rounding, canonical, flush, saturate};
use crate::machine::Place;
use crate::ptx::{Operand, Type};

/// Rounds to an integer that is still a floating-point number.
fn integral(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "rni" => f64::round_ties_even,
        "rzi" => f64::trunc,
        "rmi" => f64::floor,
        "rpi" => f64::ceil,
        _ => return None,
    })
}

/// Any number of any type, exact.
#[derive(Clone, Copy)]
enum Number {
    Int(i128),
    Float(f64),
}

/// The effects of a conversion besides the change of type.
#[derive(Clone, Copy)]
struct How {
    integral: Option<fn(f64) -> f64>,
    rounding: Rounding,
    ftz: bool,
    sat: bool,
    /// Whether NaN becomes the lowest integer instead of zero.
    odd_nan: bool,
}

impl How {
    fn flush(self, x: f32) -> f32 {
        if self.ftz { flush(x) } else { x }
    }
}

fn reader(ty: Type) -> Result<fn(u64) -> Number, String> {
    match ty {
        Type::F32 => Ok(|raw| Number::Float(f32::from_bits(raw as u32).into())),
        Type::F64 => Ok(|raw| Number::Float(f64::from_bits(raw))),
        _ => with_any_int!(ty, T => Ok(|raw| Number::Int((raw as T).into()))),
    }
}

fn writer(ty: Type) -> Result<fn(How, Number) -> u64, String> {
    match ty {
        Type::F32 => Ok(|how, number| {
            let x = match number {
                Number::Int(v) if how.rounding == Rounding::Nearest => v as f32,
                Number::Int(v) => how.rounding.narrow(v as f64, (v - (v as f64) as i128) as f64),
                Number::Float(v) => how.rounding.narrow(how.integral.map_or(v, |round| round(v)), 0.0),
            };
            let x = canonical(how.flush(x));
            u64::from((if how.sat { saturate(x) } else { x }).to_bits())
        }),
        Type::F64 => Ok(|how, number| match number {
            Number::Int(v) => (v as f64).to_bits(),
            Number::Float(v) => how.integral.map_or(v, |round| round(v)).to_bits(),
        }),
        _ => with_any_int!(ty, T => Ok(|how, number| {
            let value = match number {
                Number::Int(v) if how.sat => v.clamp(T::MIN.into(), T::MAX.into()) as T,
                Number::Int(v) => v as T,
                Number::Float(v) if v.is_nan() && how.odd_nan => (1u64 << (T::BITS - 1)) as T,
                // Rust's casts saturate as PTX's do, and convert NaN to zero.
                Number::Float(v) => how.integral.map_or(v, |round| round(v)) as T,
            };
            value as i64 as u64
        })),
    }
}

impl Builder<'_> {
    /// Decodes `cvt`.
    pub fn convert(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let &[to, from] = &form.types[..] else {
            return Err("expected two types".to_owned());
        };
        let how = How {
            integral: form.pick(integral),
            rounding: form.pick(Rounding::parse).unwrap_or(Rounding::Nearest),
            ftz: form.take("ftz"),
            sat: form.take("sat"),
            odd_nan: from == Type::F64 || to.size() == 8,
        };
        if from.is_float() && !to.is_float() && how.integral.is_none() {
            return Err("the rounding is missing".to_owned());
        }
        if to == Type::F64 && (how.sat || how.rounding != Rounding::Nearest) {
            return Err("only .rn is supported for f64".to_owned());
        }
        let [d, a] = operands else {
            return Err("expected two operands".to_owned());
        };
        let plain = !how.ftz && !how.sat && how.integral.is_none() && how.rounding == Rounding::Nearest;
        let same = matches!(self.place(d)?, Place::Wide(_)) == (to.size() == 8);
        match (to, from) {
            _ if !plain || !same => self.convert_any(to, from, how, d, a),
            (Type::U64 | Type::S64, Type::U32) => self.unary(operands, |a: u32| u64::from(a)),
            (Type::U64 | Type::S64, Type::S32) => self.unary(operands, |a: i32| i64::from(a)),
            (Type::U32 | Type::S32, Type::U64 | Type::S64) => self.unary(operands, |a: u64| a as u32),
            (Type::U16 | Type::S16, Type::U32 | Type::S32) => self.unary(operands, |a: u32| a as u16),
            (Type::U32 | Type::S32, Type::U16) => self.unary(operands, |a: u16| u32::from(a)),
            (Type::U32 | Type::S32, Type::U8) => self.unary(operands, |a: u8| u32::from(a)),
            (Type::F32, Type::U32) => self.unary(operands, |a: u32| a as f32),
            (Type::F32, Type::S32) => self.unary(operands, |a: i32| a as f32),
            (Type::F64, Type::F32) => self.unary(operands, |a: f32| f64::from(a)),
            (Type::F32, Type::F64) => self.unary(operands, |a: f64| canonical(a as f32)),
            _ => self.convert_any(to, from, how, d, a),
        }
    }

    fn convert_any(&mut self, to: Type, from: Type, how: How, d: &Operand, a: &Operand) -> Result<(), String> {
        let (read, write) = (reader(from)?, writer(to)?);
        let single = from == Type::F32;
        let f = move |raw: u64| match read(raw) {
            Number::Float(v) if single => write(how, Number::Float(how.flush(v as f32).into())),
            number => write(how, number),
        };
        let a = match from.size() {
            8 => Place::Wide(self.source::<u64>(a)?),
            _ => Place::Narrow(self.source::<u32>(a)?),
        };
        match (self.place(d)?, a) {
            (Place::Wide(d), Place::Wide(a)) => self.compute(move |r, mask| r.map1(mask, d, a, f)),
            (Place::Wide(d), Place::Narrow(a)) => {
                self.compute(move |r, mask| r.map1(mask, d, a, |a: u32| f(a.into())));
            }
            (Place::Narrow(d), Place::Wide(a)) => {
                self.compute(move |r, mask| r.map1(mask, d, a, |a: u64| f(a) as u32));
            }
            (Place::Narrow(d), Place::Narrow(a)) => {
                self.compute(move |r, mask| r.map1(mask, d, a, |a: u32| f(a.into()) as u32));
            }
        }
        Ok(())
    }
}
