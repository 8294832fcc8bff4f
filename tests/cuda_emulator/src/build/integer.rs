//! Integer and logic instructions.

use super::builder::Builder;
use super::form::{Form, with_bits, with_int};
use crate::machine::{LANES, Lane, Row, lanes};
use crate::ptx::{Operand, Type};

impl Builder<'_> {
    /// Decodes integer and logic instructions.
    pub fn integer(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let ty = form.ty()?;
        let carries = form.take("cc") | matches!(form.head, "addc" | "subc" | "madc");
        if carries {
            return self.with_carry(form, operands);
        }
        let saturates = ty == Type::S32 && form.take("sat");
        match form.head {
            "add" if saturates => self.binary(operands, i32::saturating_add),
            "sub" if saturates => self.binary(operands, i32::saturating_sub),
            "add" => with_int!(ty, T => self.binary(operands, T::wrapping_add)),
            "sub" => with_int!(ty, T => self.binary(operands, T::wrapping_sub)),
            "mul" => self.multiply(form, operands),
            "mad" => self.multiply_add(form, operands),
            "mul24" => self.multiply_24(form, operands),
            // The hardware returns all ones for a division by zero, and the dividend as its remainder.
            "div" => with_int!(ty, T => self.binary(operands, |a: T, b: T| match b {
                0 => !0,
                _ => a.wrapping_div(b),
            })),
            "rem" => with_int!(ty, T => self.binary(operands, |a: T, b: T| match b {
                0 => a,
                _ => a.wrapping_rem(b),
            })),
            "min" => with_int!(ty, T => self.binary(operands, |a: T, b: T| a.min(b))),
            "max" => with_int!(ty, T => self.binary(operands, |a: T, b: T| a.max(b))),
            "sad" => with_int!(ty, T => self.ternary(operands, |a: T, b: T, c: T| {
                c.wrapping_add(if a > b { a.wrapping_sub(b) } else { b.wrapping_sub(a) })
            })),
            "abs" => with_int!(ty, T => self.unary(operands, |a: T| if a > 0 { a } else { a.wrapping_neg() })),
            "neg" => with_int!(ty, T => self.unary(operands, T::wrapping_neg)),
            "and" | "or" | "xor" | "not" | "cnot" => self.logic(form, operands),
            "shl" => with_bits!(ty, T => self.binary(operands, |a: T, n: u32| a.checked_shl(n).unwrap_or(0))),
            "shr" => {
                with_int!(ty, T => self.binary(operands, |a: T, n: u32| a >> n.min(T::BITS - 1) >> u32::from(n >= T::BITS)))
            }
            "shf" => self.funnel(form, operands),
            "popc" => with_bits!(ty, T => self.unary(operands, |a: T| a.count_ones())),
            "clz" => with_bits!(ty, T => self.unary(operands, |a: T| a.leading_zeros())),
            "brev" => with_bits!(ty, T => self.unary(operands, |a: T| a.reverse_bits())),
            "bfind" => self.find_bit(form, operands),
            "bfe" => match ty {
                Type::U32 => {
                    self.ternary(operands, |a: u32, b: u32, c: u32| extract(u64::from(a), b, c, 32, false) as u32)
                }
                Type::S32 => self.ternary(operands, |a: i32, b: u32, c: u32| extract(a as u64, b, c, 32, true) as u32),
                Type::U64 => self.ternary(operands, |a: u64, b: u32, c: u32| extract(a, b, c, 64, false)),
                Type::S64 => self.ternary(operands, |a: u64, b: u32, c: u32| extract(a, b, c, 64, true)),
                other => Err(format!("unsupported type {other:?}")),
            },
            "bfi" => self.insert(ty, operands),
            "lop3" => self.lookup(operands),
            "dp4a" => self.dot(form, operands),
            other => Err(format!("unknown opcode {other}")),
        }
    }

    fn multiply(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let ty = form.ty()?;
        if form.take("wide") {
            return match ty {
                Type::U16 => self.binary(operands, |a: u16, b: u16| u32::from(a) * u32::from(b)),
                Type::S16 => self.binary(operands, |a: i16, b: i16| i32::from(a) * i32::from(b)),
                Type::U32 => self.binary(operands, |a: u32, b: u32| u64::from(a) * u64::from(b)),
                Type::S32 => self.binary(operands, |a: i32, b: i32| i64::from(a) * i64::from(b)),
                other => Err(format!("unsupported type {other:?}")),
            };
        }
        if form.take("hi") {
            return with_int!(ty, T => self.binary(operands, |a: T, b: T| high(a as i128, b as i128, T::BITS) as T));
        }
        form.take("lo");
        with_int!(ty, T => self.binary(operands, T::wrapping_mul))
    }

    fn multiply_add(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let ty = form.ty()?;
        if form.take("wide") {
            return match ty {
                Type::U16 => {
                    self.ternary(operands, |a: u16, b: u16, c: u32| (u32::from(a) * u32::from(b)).wrapping_add(c))
                }
                Type::S16 => {
                    self.ternary(operands, |a: i16, b: i16, c: i32| (i32::from(a) * i32::from(b)).wrapping_add(c))
                }
                Type::U32 => {
                    self.ternary(operands, |a: u32, b: u32, c: u64| (u64::from(a) * u64::from(b)).wrapping_add(c))
                }
                Type::S32 => {
                    self.ternary(operands, |a: i32, b: i32, c: i64| (i64::from(a) * i64::from(b)).wrapping_add(c))
                }
                other => Err(format!("unsupported type {other:?}")),
            };
        }
        if form.take("hi") {
            return with_int!(ty, T => self.ternary(operands, |a: T, b: T, c: T| {
                (high(a as i128, b as i128, T::BITS) as T).wrapping_add(c)
            }));
        }
        form.take("lo");
        with_int!(ty, T => self.ternary(operands, |a: T, b: T, c: T| a.wrapping_mul(b).wrapping_add(c)))
    }

    fn multiply_24(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let shift = if form.take("hi") { 16 } else { 0 };
        form.take("lo");
        match form.ty()? {
            Type::U32 => self.binary(operands, move |a: u32, b: u32| {
                ((u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)) >> shift) as u32
            }),
            Type::S32 => self.binary(operands, move |a: i32, b: i32| {
                ((i64::from(a << 8 >> 8) * i64::from(b << 8 >> 8)) >> shift) as u32
            }),
            other => Err(format!("unsupported type {other:?}")),
        }
    }

    /// `add.cc`, `addc`, `mad.lo.cc` and so on: 128-bit arithmetic; the bit above the result is the carry.
    fn with_carry(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let ty = form.ty()?;
        let (uses, subtracts) = (form.head.ends_with('c'), form.head.starts_with("sub"));
        let half = form.any(&["lo", "hi"]);
        let carry = self.carry;
        with_int!(ty, T => {
            let (d, sources) = operands.split_first().ok_or("operands are missing")?;
            let sources: Vec<usize> = sources.iter().map(|o| self.source::<T>(o)).collect::<Result<_, _>>()?;
            let d = self.destination::<<T as Lane>::Raw>(d)?;
            let (last, factors) = sources.split_last().ok_or("operands are missing")?;
            let (last, factors) = (*last, factors.to_vec());
            if factors.len() != if half.is_some() { 2 } else { 1 } {
                return Err("wrong number of operands".to_owned());
            }
            self.compute(move |r, mask| {
                let bits = |x: T| (x as i128 & ((1i128 << T::BITS) - 1)) as u128;
                let mut carries = 0u32;
                for lane in lanes(mask) {
                    let get = |slot: usize| T::from_raw(r.row::<<T as Lane>::Raw>(slot)[lane]);
                    let first = match (half, &factors[..]) {
                        (Some("hi"), &[a, b]) => high(get(a) as i128, get(b) as i128, T::BITS) as T,
                        (Some(_), &[a, b]) => get(a).wrapping_mul(get(b)),
                        _ => get(factors[0]),
                    };
                    let own = u128::from(uses && r.predicates[carry] >> lane & 1 != 0);
                    let (a, b) = (bits(first), bits(get(last)));
                    let sum = if subtracts { a.wrapping_sub(b).wrapping_sub(own) } else { a + b + own };
                    carries |= u32::from(sum >> T::BITS & 1 != 0) << lane;
                    r.write(1 << lane, d, &[(sum as T).into_raw(); LANES]);
                }
                r.write_predicate(mask, carry, carries);
            });
            Ok(())
        })
    }

    fn logic(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let ty = form.ty()?;
        if ty == Type::Pred {
            return self.predicate_logic(form.head, operands);
        }
        with_bits!(ty, T => match form.head {
            "and" => self.binary(operands, |a: T, b: T| a & b),
            "or" => self.binary(operands, |a: T, b: T| a | b),
            "xor" => self.binary(operands, |a: T, b: T| a ^ b),
            "not" => self.unary(operands, |a: T| !a),
            _ => self.unary(operands, |a: T| T::from(a == 0)),
        })
    }

    fn predicate_logic(&mut self, head: &str, operands: &[Operand]) -> Result<(), String> {
        let [Operand::Name(d), sources @ ..] = operands else {
            return Err("expected a predicate".to_owned());
        };
        let d = self.predicate_register(d)?;
        let sources: Vec<_> = sources.iter().map(|o| self.predicate(o)).collect::<Result<_, _>>()?;
        let f: fn(u32, u32) -> u32 = match head {
            "and" => |a, b| a & b,
            "or" => |a, b| a | b,
            "xor" => |a, b| a ^ b,
            _ => |a, _| !a,
        };
        let (Some(&(a, na)), Some(&(b, nb))) = (sources.first(), sources.last()) else {
            return Err("operands are missing".to_owned());
        };
        let flip = |negated: bool| (negated as u32).wrapping_neg();
        self.compute(move |r, mask| {
            let bits = f(r.predicates[a] ^ flip(na), r.predicates[b] ^ flip(nb));
            r.write_predicate(mask, d, bits);
        });
        Ok(())
    }

    fn funnel(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let left = form.take("l");
        if !left && !form.take("r") {
            return Err("the direction is missing".to_owned());
        }
        let wrap = form.take("wrap");
        form.take("clamp");
        self.ternary(operands, move |a: u32, b: u32, c: u32| {
            let n = if wrap { c & 31 } else { c.min(32) };
            let both = u64::from(b) << 32 | u64::from(a);
            if left { (both << n >> 32) as u32 } else { (both >> n) as u32 }
        })
    }

    fn find_bit(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let shift = form.take("shiftamt");
        with_int!(form.ty()?, T => self.unary(operands, move |a: T| {
            let zeros = if (a as i128) < 0 { (!a).leading_zeros() } else { a.leading_zeros() };
            match T::BITS.checked_sub(zeros + 1) {
                Some(at) if shift => T::BITS - 1 - at,
                Some(at) => at,
                None => u32::MAX,
            }
        }))
    }

    fn insert(&mut self, ty: Type, operands: &[Operand]) -> Result<(), String> {
        let [d, a, b, c, e] = operands else {
            return Err("expected five operands".to_owned());
        };
        let (start, length) = (self.source::<u32>(c)?, self.source::<u32>(e)?);
        with_bits!(ty, T => {
            let (a, b) = (self.source::<T>(a)?, self.source::<T>(b)?);
            let d = self.destination::<<T as Lane>::Raw>(d)?;
            self.compute(move |r, mask| {
                let out: Row<<T as Lane>::Raw> = std::array::from_fn(|lane| {
                    let get = |slot: usize| u64::from(r.row::<<T as Lane>::Raw>(slot)[lane]);
                    let (at, n) = (r.narrow[start][lane] & 255, r.narrow[length][lane] & 255);
                    let field = if n >= 64 { u64::MAX } else { (1 << n) - 1 };
                    let field = field.checked_shl(at).unwrap_or(0);
                    let (a, b) = (get(a), get(b));
                    (a.checked_shl(at).unwrap_or(0) & field | b & !field) as _
                });
                r.write(mask, d, &out);
            });
            Ok(())
        })
    }

    fn lookup(&mut self, operands: &[Operand]) -> Result<(), String> {
        let [abc @ .., Operand::Int(table)] = operands else {
            return Err("expected a table".to_owned());
        };
        let table = *table as u32;
        let term = move |i: u32, bits: u32| if table >> i & 1 != 0 { bits } else { 0 };
        self.ternary(abc, move |a: u32, b: u32, c: u32| {
            term(0, !a & !b & !c)
                | term(1, !a & !b & c)
                | term(2, !a & b & !c)
                | term(3, !a & b & c)
                | term(4, a & !b & !c)
                | term(5, a & !b & c)
                | term(6, a & b & !c)
                | term(7, a & b & c)
        })
    }

    fn dot(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let signed = |ty: Option<&Type>| ty == Some(&Type::S32);
        let (sa, sb) = (signed(form.types.first()), signed(form.types.get(1)));
        let byte = |x: u32, i: usize, signed: bool| {
            let byte = x.to_le_bytes()[i];
            if signed { i32::from(byte as i8) } else { i32::from(byte) }
        };
        self.ternary(operands, move |a: u32, b: u32, c: i32| {
            (0..4).fold(c, |sum, i| sum.wrapping_add(byte(a, i, sa) * byte(b, i, sb)))
        })
    }
}

/// The upper half of a product; exact for 64-bit factors too, since the bits that wrap are above it.
fn high(a: i128, b: i128, bits: u32) -> i128 {
    a.wrapping_mul(b) >> bits
}

/// `bfe`: a field of `length` bits from `start` on; a signed one is extended with its highest existing bit.
fn extract(a: u64, start: u32, length: u32, width: u32, signed: bool) -> u64 {
    let (start, length) = (start & 255, length & 255);
    if length == 0 {
        return 0;
    }
    let top = (start + length - 1).min(width - 1);
    let fill = signed && a >> top & 1 != 0;
    let field = if length >= 64 { u64::MAX } else { (1 << length) - 1 };
    let kept = width.saturating_sub(start);
    let known = if kept >= 64 { u64::MAX } else { (1 << kept) - 1 };
    let bits = a.checked_shr(start).unwrap_or(0) & field & known;
    if !fill {
        return bits;
    }
    bits | !(field & known)
}
