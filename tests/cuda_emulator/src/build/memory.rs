//! Loads, stores and atomics.

use super::builder::{Builder, window};
use super::form::{Form, with_float, with_int};
use crate::machine::{Access, Action, Copy, Kind, Place, Update};
use crate::ptx::{Operand, Space, Type};

/// Hints and scopes without effect here.
const HINTS: [&str; 27] = [
    "nc",
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "weak",
    "cta",
    "cluster",
    "gpu",
    "sys",
    "L1",
    "L2",
    "L2::64B",
    "L2::128B",
    "L2::256B",
    "L1::evict_normal",
    "L1::evict_unchanged",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
    "L2::evict_normal",
    "L2::evict_first",
    "L2::evict_last",
    "L2::evict_unchanged",
];
const ORDERS: [&str; 4] = ["relaxed", "acquire", "release", "acq_rel"];

impl Builder<'_> {
    /// Decodes every instruction that accesses memory.
    pub fn memory(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        if form.head.starts_with("prefetch") {
            while form.pick(|m| Space::parse(m).map(|_| ())).is_some() || form.any(&HINTS).is_some() {}
            return Ok(());
        }
        if form.head == "st" && form.take("async") {
            return self.post(form, operands);
        }
        let space = form.pick(Space::parse).unwrap_or(Space::Generic);
        let strong = form.any(&ORDERS).is_some();
        form.take("volatile");
        while form.any(&HINTS).is_some() {}
        match form.head {
            "ld" | "ldu" => self.load(form, operands, space, strong),
            "st" => self.store(form, operands, space, strong),
            _ => self.atomic(form, operands, space),
        }
    }

    /// The address register and its offset.
    pub(super) fn address(&mut self, operand: &Operand, space: Space) -> Result<(Place, u64), String> {
        let Operand::Address(base, offset) = operand else {
            return Err("expected an address".to_owned());
        };
        let offset = *offset as u64;
        match &**base {
            Operand::Name(name) => match self.address_of(name) {
                // A variable's address implies its space; the access may name another word for that space.
                Some((_, address)) => Ok((Place::Wide(self.constant(true, address)), offset)),
                None => Ok((self.place(base)?, offset.wrapping_add(window(space)))),
            },
            Operand::Int(address) => {
                let base = self.constant(true, *address);
                Ok((Place::Wide(base), offset.wrapping_add(window(space))))
            }
            other => Err(format!("unsupported address {other:?}")),
        }
    }

    pub(super) fn elements(form: &mut Form, operand: &Operand) -> Result<Vec<Operand>, String> {
        let count = match form.any(&["v2", "v4"]) {
            None => return Ok(vec![operand.clone()]),
            Some("v2") => 2,
            Some(_) => 4,
        };
        match operand {
            Operand::Vector(parts) if parts.len() == count => Ok(parts.clone()),
            _ => Err(format!("expected a vector of {count}")),
        }
    }

    fn load(&mut self, form: &mut Form, operands: &[Operand], space: Space, strong: bool) -> Result<(), String> {
        let [d, address] = operands else {
            return Err("expected two operands".to_owned());
        };
        let (ty, (base, offset)) = (form.ty()?, self.address(address, space)?);
        let mut places = Vec::new();
        for part in Self::elements(form, d)? {
            places.push(match &part {
                Operand::Name(name) if name == "_" => None,
                part => match self.place(part)? {
                    Place::Narrow(_) if ty.size() == 8 => return Err("the register is too narrow".to_owned()),
                    place => Some(place),
                },
            });
        }
        let own = space == Space::Shared;
        let kind = Kind::Load(ty, places);
        self.push(Action::Access(Access { base, offset, strong, own, kind }));
        Ok(())
    }

    fn store(&mut self, form: &mut Form, operands: &[Operand], space: Space, strong: bool) -> Result<(), String> {
        let [address, a] = operands else {
            return Err("expected two operands".to_owned());
        };
        let (ty, (base, offset)) = (form.ty()?, self.address(address, space)?);
        let mut places = Vec::new();
        for part in Self::elements(form, a)? {
            places.push(self.stored(ty, &part)?);
        }
        let own = space == Space::Shared;
        let kind = Kind::Store(ty, places);
        self.push(Action::Access(Access { base, offset, strong, own, kind }));
        Ok(())
    }

    /// A register whose low bytes are stored: it may be wider than the type, and so may a variable's address.
    pub(super) fn stored(&mut self, ty: Type, operand: &Operand) -> Result<Place, String> {
        match operand {
            Operand::Name(_) => match self.place(operand)? {
                Place::Narrow(_) if ty.size() == 8 => Err("the register is too narrow".to_owned()),
                place => Ok(place),
            },
            _ if ty.size() == 8 => Ok(Place::Wide(self.source::<u64>(operand)?)),
            _ => Ok(Place::Narrow(self.source::<u32>(operand)?)),
        }
    }

    /// Decodes `cp.async`.
    pub fn copy(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        if !form.take("async") {
            return Err("only asynchronous copies are known".to_owned());
        }
        match (form.any(&["commit_group", "wait_group", "wait_all"]), operands) {
            (Some("commit_group"), []) => self.push(Action::CopyCommit),
            (Some("wait_group"), [Operand::Int(but)]) => self.push(Action::CopyWait(Some(*but as u32))),
            (Some("wait_all"), []) => self.push(Action::CopyWait(None)),
            (None, [to, from, Operand::Int(size @ (4 | 8 | 16))]) => {
                if form.pick(Space::parse) != Some(Space::Shared) || form.pick(Space::parse) != Some(Space::Global) {
                    return Err("expected .shared.global".to_owned());
                }
                while form.any(&HINTS).is_some() {}
                let values: Vec<usize> = (0..size / 4).map(|_| self.new_register(Type::B32)).collect();
                let places = || values.iter().map(|&slot| Place::Narrow(slot));
                let address = self.new_register(Type::B64);
                let (to, from) = (self.address(to, Space::Shared)?, self.address(from, Space::Global)?);
                let access = |(base, offset), kind| Access { base, offset, strong: false, own: true, kind };
                let store = || Kind::Store(Type::B32, places().collect());
                let load = access(from, Kind::Load(Type::B32, places().map(Some).collect()));
                let (target, store) = (access(to, store()), access((Place::Wide(address), 0), store()));
                self.push(Action::Copy(Box::new(Copy { load, target, store, values, address })));
            }
            _ => return Err("unsupported operands".to_owned()),
        }
        Ok(())
    }

    fn atomic(&mut self, form: &mut Form, operands: &[Operand], space: Space) -> Result<(), String> {
        let (d, rest) = match form.head {
            "red" => (None, operands),
            _ => operands.split_first().map(|(d, rest)| (Some(d), rest)).ok_or("operands are missing")?,
        };
        let [address, b, c @ ..] = rest else {
            return Err("operands are missing".to_owned());
        };
        let ty = form.ty()?;
        let (base, offset) = self.address(address, space)?;
        let d = match d {
            None => None,
            Some(Operand::Name(name)) if name == "_" => None,
            Some(d) => Some(self.place(d)?),
        };
        let b = self.stored(ty, b)?;
        let c = match c.first() {
            Some(c) => self.stored(ty, c)?,
            None => b,
        };
        let update = update(form, ty)?;
        let size = ty.size();
        let own = space == Space::Shared;
        let kind = Kind::Atomic { size, d, b, c, update };
        self.push(Action::Access(Access { base, offset, strong: true, own, kind }));
        Ok(())
    }
}

fn update(form: &mut Form, ty: Type) -> Result<Update, String> {
    const NAMES: [&str; 10] = ["add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"];
    let name = form.any(&NAMES).ok_or("the operation is missing")?;
    form.take("noftz");
    if ty.size() < 4 {
        return Err(format!("unsupported type {ty:?}"));
    }
    if ty.is_float() && name == "add" {
        return with_float!(ty, T => {
            let float = |bits: u64| T::from_bits(bits as _);
            Ok(Box::new(move |old: u64, b: u64, _: u64| (float(old) + float(b)).to_bits() as u64) as Update)
        });
    }
    with_int!(ty, T => {
        let f: fn(T, T, T) -> T = match name {
            "add" => |old, b, _| old.wrapping_add(b),
            "min" => |old, b, _| old.min(b),
            "max" => |old, b, _| old.max(b),
            "and" => |old, b, _| old & b,
            "or" => |old, b, _| old | b,
            "xor" => |old, b, _| old ^ b,
            "exch" => |_, b, _| b,
            "cas" => |old, b, c| if old == b { c } else { old },
            "inc" => |old, b, _| if old >= b { 0 } else { old + 1 },
            _ => |old, b, _| if old == 0 || old > b { b } else { old - 1 },
        };
        Ok(Box::new(move |old: u64, b: u64, c: u64| f(old as T, b as T, c as T) as u64) as Update)
    })
}
