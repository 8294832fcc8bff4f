//! Moves, selections and conversions of addresses.

use super::builder::{Builder, window};
use super::form::{Form, with_bits};
use crate::machine::{Lane, Place, Row, SHARED, SHARED_BITS, Special, lanes};
use crate::ptx::{Operand, Space, Type};

/// The special register of a name.
pub fn special(name: &str) -> Option<Special> {
    let axis = |suffix: &str| ["x", "y", "z"].iter().position(|axis| *axis == suffix);
    if let Some((base, suffix)) = name.split_once('.') {
        let axis = axis(suffix)?;
        return match base {
            "%tid" => Some(Special::Thread(axis)),
            "%ntid" => Some(Special::ThreadCount(axis)),
            "%ctaid" => Some(Special::Block(axis)),
            "%nctaid" => Some(Special::BlockCount(axis)),
            "%cluster_ctaid" => Some(Special::ClusterBlock(axis)),
            "%cluster_nctaid" => Some(Special::ClusterBlockCount(axis)),
            "%clusterid" => Some(Special::Cluster(axis)),
            "%nclusterid" => Some(Special::ClusterCount(axis)),
            _ => None,
        };
    }
    Some(match name {
        "%cluster_ctarank" => Special::ClusterRank,
        "%cluster_nctarank" => Special::ClusterRankCount,
        "%laneid" => Special::Lane,
        "%warpid" => Special::Warp,
        "%nwarpid" => Special::WarpCount,
        "WARP_SZ" => Special::Always(32),
        "%lanemask_eq" => Special::MaskEqual,
        "%lanemask_lt" => Special::MaskBelow,
        "%lanemask_le" => Special::MaskUpTo,
        "%lanemask_gt" => Special::MaskAbove,
        "%lanemask_ge" => Special::MaskFrom,
        _ => return None,
    })
}

/// An address of shared memory mapped to the block of a rank; an impossible rank maps to no address.
fn mapped(address: u32, rank: u32) -> u32 {
    address & ((1 << SHARED_BITS) - 1) | rank.saturating_add(1).min(u32::MAX >> SHARED_BITS) << SHARED_BITS
}

/// The rank of the block to which an address of shared memory belongs.
fn rank_of(address: u32, own: u32) -> u32 {
    (address >> SHARED_BITS).checked_sub(1).unwrap_or(own)
}

impl Builder<'_> {
    /// Decodes `mov`, `selp`, `prmt`, `cvta`, `isspacep`, `mapa` and `getctarank`.
    pub fn moves(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let ty = match form.head {
            "isspacep" => Type::B64,
            _ => form.ty()?,
        };
        match form.head {
            "selp" => self.select(ty, operands),
            "prmt" => self.permute(form, operands),
            "mapa" | "getctarank" => self.map_address(form, ty, operands),
            "cvta" => {
                let back = form.take("to");
                let space = form.pick(Space::parse).ok_or("the state space is missing")?;
                let shift = if back { window(space).wrapping_neg() } else { window(space) };
                self.unary(operands, move |a: u64| a.wrapping_add(shift))
            }
            "isspacep" => self.is_in_space(form, operands),
            _ if ty == Type::Pred => {
                let [Operand::Name(d), a] = operands else {
                    return Err("expected two predicates".to_owned());
                };
                let ((a, negated), d) = (self.predicate(a)?, self.predicate_register(d)?);
                let flip = (negated as u32).wrapping_neg();
                self.compute(move |r, mask| r.write_predicate(mask, d, r.predicates[a] ^ flip));
                Ok(())
            }
            _ => match operands {
                [Operand::Vector(parts), a] => self.unpack(ty, parts, a),
                [d, Operand::Vector(parts)] => self.pack(ty, d, parts),
                [_, Operand::Name(clock)] if clock.starts_with("%clock") || clock == "%globaltimer" => {
                    self.clock(ty, &operands[0])
                }
                _ => with_bits!(ty, T => self.unary(operands, |a: T| a)),
            },
        }
    }

    /// `mapa` and `getctarank`, on addresses of shared memory or on generic ones.
    fn map_address(&mut self, form: &mut Form, ty: Type, operands: &[Operand]) -> Result<(), String> {
        let window = if form.take("shared::cluster") { 0 } else { SHARED };
        // Addresses outside of shared memory map to no address.
        let inside = move |a: u64| a.checked_sub(window).and_then(|a| u32::try_from(a).ok());
        if form.head == "mapa" {
            return match ty {
                Type::U32 if window == 0 => self.binary(operands, mapped),
                Type::U64 => self.binary(operands, move |a: u64, rank: u32| {
                    inside(a).map_or(0, |a| window + u64::from(mapped(a, rank)))
                }),
                _ => Err(format!("unsupported type {ty:?}")),
            };
        }
        let [d, a] = operands else {
            return Err("expected two operands".to_owned());
        };
        let (d, own) = (self.destination::<u32>(d)?, self.special(Special::ClusterRank));
        match ty {
            Type::U32 if window == 0 => {
                let a = self.source::<u32>(a)?;
                self.compute(move |r, mask| r.map2(mask, d, a, own, rank_of));
            }
            Type::U64 => {
                let a = self.source::<u64>(a)?;
                let rank = move |a: u64, own: u32| inside(a).map_or(u32::MAX, |a| rank_of(a, own));
                self.compute(move |r, mask| r.map2(mask, d, a, own, rank));
            }
            _ => return Err(format!("unsupported type {ty:?}")),
        }
        Ok(())
    }

    /// Clocks count their readings: time advances, but the same run reads the same times.
    fn clock(&mut self, ty: Type, d: &Operand) -> Result<(), String> {
        use std::sync::atomic::{AtomicU32, Ordering};
        let ticks = AtomicU32::new(0);
        with_bits!(ty, T => {
            let d = self.destination::<<T as Lane>::Raw>(d)?;
            self.compute(move |r, mask| {
                let now = ticks.fetch_add(1, Ordering::Relaxed);
                r.map1(mask, d, d, |_: T| now as T);
            });
            Ok(())
        })
    }

    fn select(&mut self, ty: Type, operands: &[Operand]) -> Result<(), String> {
        let [d, a, b, p] = operands else {
            return Err("expected four operands".to_owned());
        };
        let (p, negated) = self.predicate(p)?;
        let flip = (negated as u32).wrapping_neg();
        with_bits!(ty, T => {
            let (a, b) = (self.source::<T>(a)?, self.source::<T>(b)?);
            let d = self.destination::<<T as Lane>::Raw>(d)?;
            self.compute(move |r, mask| {
                let bits = r.predicates[p] ^ flip;
                let (a, b): (Row<<T as Lane>::Raw>, Row<_>) = (*r.row(a), *r.row(b));
                let out = std::array::from_fn(|i| if bits >> i & 1 != 0 { a[i] } else { b[i] });
                r.write(mask, d, &out);
            });
            Ok(())
        })
    }

    fn permute(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let mode = form.any(&["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]);
        self.ternary(operands, move |a: u32, b: u32, c: u32| {
            let bytes = (u64::from(b) << 32 | u64::from(a)).to_le_bytes();
            let n = c as usize & 3;
            let out: [u8; 4] = std::array::from_fn(|i| match mode {
                None => {
                    let selector = c >> (4 * i);
                    let byte = bytes[selector as usize & 7];
                    if selector & 8 != 0 { (byte as i8 >> 7) as u8 } else { byte }
                }
                Some("f4e") => bytes[n + i],
                Some("b4e") => bytes[(n + 8 - i) & 7],
                Some("rc8") => bytes[n],
                Some("ecl") => bytes[i.max(n)],
                Some("ecr") => bytes[i.min(n)],
                _ => bytes[(n & 1) * 2 + (i & 1)],
            });
            u32::from_le_bytes(out)
        })
    }

    fn is_in_space(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let space = form.pick(Space::parse).ok_or("the state space is missing")?;
        let [Operand::Name(p), a] = operands else {
            return Err("expected a predicate and an address".to_owned());
        };
        let (a, p) = (self.source::<u64>(a)?, self.predicate_register(p)?);
        let start = match space {
            Space::Global | Space::Const | Space::Generic => crate::machine::BASE,
            other => window(other),
        };
        let bits = if space == Space::Shared { SHARED_BITS } else { 56 };
        self.compute(move |r, mask| {
            let bits = r.test2(a, a, |a: u64, _| a >> bits == start >> bits);
            r.write_predicate(mask, p, bits);
        });
        Ok(())
    }

    /// `mov.b64 %rd, {%r1, %r2}`: the first part is the lowest.
    fn pack(&mut self, ty: Type, d: &Operand, parts: &[Operand]) -> Result<(), String> {
        let bits = 8 * ty.size() / parts.len();
        let parts: Vec<usize> = parts.iter().map(|p| self.source::<u32>(p)).collect::<Result<_, _>>()?;
        let d = self.place(d)?;
        let field = (1u64 << bits) - 1;
        self.compute(move |r, mask| {
            let joined = |lane: usize| {
                let shifted = |(i, slot): (usize, &usize)| (u64::from(r.narrow[*slot][lane]) & field) << (i * bits);
                parts.iter().enumerate().map(shifted).sum::<u64>()
            };
            let out: [u64; 32] = std::array::from_fn(joined);
            match d {
                Place::Wide(d) => r.write(mask, d, &out),
                Place::Narrow(d) => r.write(mask, d, &out.map(|v| v as u32)),
            }
        });
        Ok(())
    }

    fn unpack(&mut self, ty: Type, parts: &[Operand], a: &Operand) -> Result<(), String> {
        let bits = 8 * ty.size() / parts.len();
        let a = self.place(a)?;
        let parts: Vec<usize> = parts.iter().map(|p| self.destination::<u32>(p)).collect::<Result<_, _>>()?;
        let field = (1u64 << bits) - 1;
        self.compute(move |r, mask| {
            for lane in lanes(mask) {
                let whole = match a {
                    Place::Wide(a) => r.wide[a][lane],
                    Place::Narrow(a) => u64::from(r.narrow[a][lane]),
                };
                for (i, &slot) in parts.iter().enumerate() {
                    r.narrow[slot][lane] = (whole >> (i * bits) & field) as u32;
                }
            }
        });
        Ok(())
    }
}
