//! Names, registers and the list of operations under construction.

use std::collections::HashMap;

use crate::machine::{Action, LANES, LOCAL, Lane, Op, PARAM, Place, Raw, Registers, SHARED, Special};
use crate::ptx::{Module, Operand, Space, Type};
use crate::settings::Settings;

/// The common data of all kernels of a module.
pub struct Globals<'m> {
    /// The syntax tree.
    pub module: &'m Module,
    /// Device addresses of the variables of module scope.
    pub addresses: HashMap<&'m str, u64>,
    /// The settings of approximate instructions.
    pub settings: &'m Settings,
}

/// The meaning of a name.
#[derive(Clone)]
pub(super) enum Symbol {
    Register(Type, usize),
    /// Numbered registers: type, first slot, count.
    Family(Type, usize, u64),
    /// The declared space and the generic address.
    Variable(Space, u64),
    Targets(Vec<String>),
}

/// Builds one kernel.
pub struct Builder<'m> {
    /// The module's data.
    pub globals: &'m Globals<'m>,
    /// The predicate that holds the carry of `add.cc` and similar instructions.
    pub carry: usize,
    pub(super) scopes: Vec<HashMap<String, Symbol>>,
    pub(super) ops: Vec<Op>,
    pub(super) template: Registers,
    pub(super) constants: HashMap<(bool, u64), usize>,
    pub(super) specials: Vec<(Special, usize)>,
    pub(super) shared: usize,
    pub(super) local: usize,
    /// Jumps of the function under construction, to be resolved at its end.
    pub(super) jumps: Vec<(usize, Vec<String>)>,
    pub(super) labels: HashMap<String, usize>,
    pub(super) depth: usize,
    pub(super) guard: Option<(usize, bool)>,
    pub(super) text: Box<str>,
}

/// The offset that makes an address of a state space generic.
pub fn window(space: Space) -> u64 {
    match space {
        Space::Shared | Space::Cluster => SHARED,
        Space::Local => LOCAL,
        Space::Param => PARAM,
        Space::Generic | Space::Global | Space::Const => 0,
    }
}

impl<'m> Builder<'m> {
    /// Declares a name in the innermost scope.
    pub(super) fn declare(&mut self, name: &str, symbol: Symbol) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned(), symbol);
        }
    }

    /// Appends an action under the guard of the instruction.
    pub fn push(&mut self, action: Action) {
        self.ops.push(Op { guard: self.guard, action, text: self.text.clone() });
    }

    /// Appends an operation on registers.
    pub fn compute(&mut self, run: impl Fn(&mut Registers, u32) + Send + Sync + 'static) {
        self.push(Action::Compute(Box::new(run)));
    }

    /// The first slot of fresh registers of a type.
    pub(super) fn new_register(&mut self, ty: Type) -> usize {
        match ty {
            Type::Pred => self.new_predicate(),
            _ if ty.size() == 8 => self.new_wide(u64::MAX),
            _ => self.new_narrow(u32::MAX),
        }
    }

    /// A new predicate.
    pub fn new_predicate(&mut self) -> usize {
        self.template.predicates.push(0);
        self.template.predicates.len() - 1
    }

    fn new_narrow(&mut self, value: u32) -> usize {
        self.template.narrow.push([value; LANES]);
        self.template.narrow.len() - 1
    }

    fn new_wide(&mut self, value: u64) -> usize {
        self.template.wide.push([value; LANES]);
        self.template.wide.len() - 1
    }

    /// The meaning of a name in this scope.
    pub(super) fn symbol(&self, name: &str) -> Option<&Symbol> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name))
    }

    /// The type and slot of a register.
    pub fn register(&self, name: &str) -> Option<(Type, usize)> {
        if let Some(Symbol::Register(ty, slot)) = self.symbol(name) {
            return Some((*ty, *slot));
        }
        let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let number: u64 = name[prefix.len()..].parse().ok()?;
        match self.symbol(prefix) {
            Some(Symbol::Family(ty, first, count)) if number < *count => Some((*ty, first + number as usize)),
            _ => None,
        }
    }

    /// The declared space and generic address of a variable.
    pub fn address_of(&self, name: &str) -> Option<(Space, u64)> {
        match self.symbol(name) {
            Some(Symbol::Variable(space, address)) => Some((*space, *address)),
            _ => None,
        }
    }

    /// A register that always holds a value.
    pub fn constant(&mut self, wide: bool, value: u64) -> usize {
        if let Some(&slot) = self.constants.get(&(wide, value)) {
            return slot;
        }
        let slot = if wide { self.new_wide(value) } else { self.new_narrow(value as u32) };
        self.constants.insert((wide, value), slot);
        slot
    }

    /// The register of `%tid.x` and similar names.
    pub fn special(&mut self, special: Special) -> usize {
        if let Some((_, slot)) = self.specials.iter().find(|(s, _)| *s == special) {
            return *slot;
        }
        let slot = self.new_narrow(0);
        self.specials.push((special, slot));
        slot
    }

    /// The slot of an operand that is read as a type.
    pub fn source<T: Lane>(&mut self, operand: &Operand) -> Result<usize, String> {
        let wide = size_of::<T::Raw>() == 8;
        match operand {
            Operand::Int(v) => Ok(self.constant(wide, *v)),
            Operand::F32(v) => Ok(self.constant(wide, u64::from(*v))),
            Operand::F64(v) if wide => Ok(self.constant(true, *v)),
            Operand::F64(v) => Ok(self.constant(false, u64::from((f64::from_bits(*v) as f32).to_bits()))),
            _ => match self.place(operand)? {
                Place::Wide(slot) if wide => Ok(slot),
                Place::Narrow(slot) if !wide => Ok(slot),
                Place::Wide(slot) => {
                    let low = self.new_narrow(0);
                    let guard = self.guard.take();
                    self.compute(move |r, mask| r.map1(mask, low, slot, |a: u64| a as u32));
                    self.guard = guard;
                    Ok(low)
                }
                Place::Narrow(_) => Err("a 64-bit operand is in a 32-bit register".to_owned()),
            },
        }
    }

    /// The register that an operand names, whatever its width.
    pub fn place(&mut self, operand: &Operand) -> Result<Place, String> {
        let Operand::Name(name) = operand else {
            return Err(format!("expected a register, found {operand:?}"));
        };
        if let Some((ty, slot)) = self.register(name) {
            return match ty {
                Type::Pred => Err(format!("{name} is a predicate")),
                _ if ty.size() == 8 => Ok(Place::Wide(slot)),
                _ => Ok(Place::Narrow(slot)),
            };
        }
        if let Some((space, address)) = self.address_of(name) {
            let address = address.wrapping_sub(window(space));
            return Ok(Place::Wide(self.constant(true, address)));
        }
        match super::moves::special(name) {
            Some(special) => Ok(Place::Narrow(self.special(special))),
            None => Err(format!("{name} is not known")),
        }
    }

    /// The slot of a destination; `_` is never read.
    pub fn destination<R: Raw>(&mut self, operand: &Operand) -> Result<usize, String> {
        let wide = size_of::<R>() == 8;
        if matches!(operand, Operand::Name(name) if name == "_") {
            return Ok(if wide { self.new_wide(0) } else { self.new_narrow(0) });
        }
        match self.place(operand)? {
            Place::Wide(slot) if wide => Ok(slot),
            Place::Narrow(slot) if !wide => Ok(slot),
            _ => Err(format!("{operand:?} has the wrong width")),
        }
    }

    /// The slot of a predicate for writing.
    pub fn predicate_register(&mut self, name: &str) -> Result<usize, String> {
        match self.register(name) {
            Some((Type::Pred, slot)) => Ok(slot),
            None if name == "_" => Ok(self.new_predicate()),
            _ => Err(format!("{name} is not a predicate")),
        }
    }

    /// The slot of a predicate for reading, and whether it is negated.
    pub fn predicate(&mut self, operand: &Operand) -> Result<(usize, bool), String> {
        match operand {
            Operand::Name(name) => Ok((self.predicate_register(name)?, false)),
            Operand::Not(name) => Ok((self.predicate_register(name)?, true)),
            // A new predicate is false in all lanes and is never written.
            Operand::Int(v) => Ok((self.new_predicate(), *v != 0)),
            other => Err(format!("expected a predicate, found {other:?}")),
        }
    }

    /// `d = f(a)`.
    pub fn unary<A: Lane, D: Lane>(
        &mut self, operands: &[Operand], f: impl Fn(A) -> D + Copy + Send + Sync + 'static,
    ) -> Result<(), String> {
        let [d, a] = operands else {
            return Err("expected two operands".to_owned());
        };
        let (a, d) = (self.source::<A>(a)?, self.destination::<D::Raw>(d)?);
        self.compute(move |r, mask| r.map1(mask, d, a, f));
        Ok(())
    }

    /// `d = f(a, b)`.
    pub fn binary<A: Lane, B: Lane, D: Lane>(
        &mut self, operands: &[Operand], f: impl Fn(A, B) -> D + Copy + Send + Sync + 'static,
    ) -> Result<(), String> {
        let [d, a, b] = operands else {
            return Err("expected three operands".to_owned());
        };
        let (a, b) = (self.source::<A>(a)?, self.source::<B>(b)?);
        let d = self.destination::<D::Raw>(d)?;
        self.compute(move |r, mask| r.map2(mask, d, a, b, f));
        Ok(())
    }

    /// `d = f(a, b, c)`.
    pub fn ternary<A: Lane, B: Lane, C: Lane, D: Lane>(
        &mut self, operands: &[Operand], f: impl Fn(A, B, C) -> D + Copy + Send + Sync + 'static,
    ) -> Result<(), String> {
        let [d, a, b, c] = operands else {
            return Err("expected four operands".to_owned());
        };
        let (a, b, c) = (self.source::<A>(a)?, self.source::<B>(b)?, self.source::<C>(c)?);
        let d = self.destination::<D::Raw>(d)?;
        self.compute(move |r, mask| r.map3(mask, d, a, b, c, f));
        Ok(())
    }
}
