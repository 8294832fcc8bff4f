//! Exchanges among the lanes of a warp.

use super::builder::Builder;
use super::form::{Form, with_int};
use crate::machine::{Action, LANES, Registers, lanes};
use crate::ptx::{Operand, Type};

fn whole(yes: bool) -> u32 {
    (yes as u32).wrapping_neg()
}

impl Builder<'_> {
    /// Decodes `shfl.sync`, `vote.sync`, `match.sync`, `redux.sync` and `activemask`.
    pub fn warp(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        if form.head == "activemask" {
            let [d] = operands else {
                return Err("expected one operand".to_owned());
            };
            let d = self.destination::<u32>(d)?;
            self.compute(move |r, mask| r.write(mask, d, &[mask; LANES]));
            return Ok(());
        }
        if !form.take("sync") {
            return Err("only the .sync form is supported".to_owned());
        }
        match form.head {
            "shfl" => self.shuffle(form, operands),
            "vote" => self.vote(form, operands),
            "match" => self.find_equal(form, operands),
            _ => self.reduce(form, operands),
        }
    }

    /// Appends an exchange among the lanes that an operand names.
    pub fn collective(
        &mut self, members: &Operand, run: impl Fn(&mut Registers, u32) + Send + Sync + 'static,
    ) -> Result<(), String> {
        let members = self.source::<u32>(members)?;
        let run = Box::new(run);
        self.push(Action::Collective { members, run });
        Ok(())
    }

    fn shuffle(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let [d, a, b, c, members] = operands else {
            return Err("expected five operands".to_owned());
        };
        let mode = form.any(&["up", "down", "bfly", "idx"]).ok_or("the mode is missing")?;
        let (d, p) = match d {
            Operand::Pair(d, p) => match &**p {
                Operand::Name(p) => (&**d, Some(self.predicate_register(p)?)),
                _ => return Err("expected a predicate".to_owned()),
            },
            d => (d, None),
        };
        let (a, b, c) = (self.source::<u32>(a)?, self.source::<u32>(b)?, self.source::<u32>(c)?);
        let d = self.destination::<u32>(d)?;
        self.collective(members, move |r, mask| {
            let values = *r.row::<u32>(a);
            let (mut out, mut valid) = (values, 0u32);
            for lane in lanes(mask) {
                let (b, c) = (r.narrow[b][lane] & 31, r.narrow[c][lane]);
                let (segment, clamp) = (c >> 8 & 31, c & 31);
                let own = lane as u32;
                let highest = own & segment | clamp & !segment;
                let (from, inside) = match mode {
                    "up" => (own.wrapping_sub(b), own as i32 - b as i32 >= highest as i32),
                    "down" => (own + b, own + b <= highest),
                    "bfly" => (own ^ b, own ^ b <= highest),
                    _ => {
                        let from = own & segment | b & !segment;
                        (from, from <= highest)
                    }
                };
                valid |= u32::from(inside) << lane;
                // The value of a lane that does not take part is undefined: a visible value is better.
                out[lane] = match inside {
                    true if mask >> (from & 31) & 1 == 0 => u32::MAX,
                    true => values[from as usize & 31],
                    false => values[lane],
                };
            }
            r.write(mask, d, &out);
            if let Some(p) = p {
                r.write_predicate(mask, p, valid);
            }
        })
    }

    fn vote(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let [Operand::Name(name), p, members] = operands else {
            return Err("expected three operands".to_owned());
        };
        let (p, negated) = self.predicate(p)?;
        let named = self.source::<u32>(members)?;
        let flip = whole(negated);
        if form.take("ballot") {
            let d = self.destination::<u32>(&operands[0])?;
            return self.collective(members, move |r, mask| {
                let bits = (r.predicates[p] ^ flip) & mask;
                let out = r.row::<u32>(named).map(|own| bits & own);
                r.write(mask, d, &out);
            });
        }
        let d = self.predicate_register(name)?;
        let f: fn(u32, u32) -> bool = match form.any(&["any", "all", "uni"]) {
            Some("any") => |bits, _| bits != 0,
            Some("all") => |bits, own| bits == own,
            Some(_) => |bits, own| bits == own || bits == 0,
            None => return Err("the mode is missing".to_owned()),
        };
        self.collective(members, move |r, mask| {
            let bits = (r.predicates[p] ^ flip) & mask;
            let named = *r.row::<u32>(named);
            let out = lanes(mask).fold(0, |out, lane| {
                let own = named[lane] & mask;
                out | u32::from(f(bits & own, own)) << lane
            });
            r.write_predicate(mask, d, out);
        })
    }

    fn find_equal(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let [d, a, members] = operands else {
            return Err("expected three operands".to_owned());
        };
        let all = form.take("all");
        if !all && !form.take("any") {
            return Err("the mode is missing".to_owned());
        }
        let (d, p) = match d {
            Operand::Pair(d, p) => match &**p {
                Operand::Name(p) => (&**d, Some(self.predicate_register(p)?)),
                _ => return Err("expected a predicate".to_owned()),
            },
            d => (d, None),
        };
        let d = self.destination::<u32>(d)?;
        let named = self.source::<u32>(members)?;
        let wide = form.ty()?.size() == 8;
        let a = if wide { self.source::<u64>(a)? } else { self.source::<u32>(a)? };
        self.collective(members, move |r, mask| {
            let value = |lane: usize| if wide { r.wide[a][lane] } else { u64::from(r.narrow[a][lane]) };
            let (mut out, mut agreed) = ([0; LANES], 0);
            for lane in lanes(mask) {
                let own = r.narrow[named][lane] & mask;
                let equal = lanes(own).filter(|&l| value(l) == value(lane)).fold(0, |m, l| m | 1 << l);
                let unanimous = equal == own;
                agreed |= u32::from(unanimous) << lane;
                out[lane] = if all && !unanimous { 0 } else { equal };
            }
            r.write(mask, d, &out);
            if let Some(p) = p {
                r.write_predicate(mask, p, agreed);
            }
        })
    }

    fn reduce(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let [d, a, members] = operands else {
            return Err("expected three operands".to_owned());
        };
        let name = form.any(&["add", "min", "max", "and", "or", "xor"]).ok_or("the operation is missing")?;
        if !matches!(form.ty()?, Type::B32 | Type::U32 | Type::S32) {
            return Err("unsupported type".to_owned());
        }
        let (a, d) = (self.source::<u32>(a)?, self.destination::<u32>(d)?);
        let named = self.source::<u32>(members)?;
        with_int!(form.ty()?, T => {
            let f: fn(T, T) -> T = match name {
                "add" => T::wrapping_add,
                "min" => T::min,
                "max" => T::max,
                "and" => |a, b| a & b,
                "or" => |a, b| a | b,
                _ => |a, b| a ^ b,
            };
            self.collective(members, move |r, mask| {
                let mut out = [0; LANES];
                for lane in lanes(mask) {
                    let own = r.narrow[named][lane] & mask;
                    let all = lanes(own).map(|l| r.narrow[a][l] as T).reduce(f);
                    out[lane] = all.map_or(0, |v| v as u32);
                }
                r.write(mask, d, &out);
            })
        })
    }
}
