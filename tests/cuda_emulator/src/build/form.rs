//! The parts of an opcode.

use crate::ptx::Type;

/// The parts of a dotted opcode. The decoder must take every modifier; a remaining one is unknown.
pub struct Form<'a> {
    /// The part before the first dot.
    pub head: &'a str,
    /// All parts that name a type, in order.
    pub types: Vec<Type>,
    modifiers: Vec<&'a str>,
}

impl<'a> Form<'a> {
    /// Splits an opcode.
    pub fn new(opcode: &'a str) -> Self {
        let mut parts = opcode.split('.');
        let head = parts.next().unwrap_or_default();
        let (mut types, mut modifiers) = (Vec::new(), Vec::new());
        for part in parts {
            match Type::parse(part) {
                Some(ty) => types.push(ty),
                None => modifiers.push(part),
            }
        }
        Self { head, types, modifiers }
    }

    /// Takes a modifier if it is present.
    pub fn take(&mut self, modifier: &str) -> bool {
        let at = self.modifiers.iter().position(|m| *m == modifier);
        if let Some(at) = at {
            self.modifiers.remove(at);
        }
        at.is_some()
    }

    /// Takes the first modifier that has an entry in a table.
    pub fn pick<T>(&mut self, table: impl Fn(&str) -> Option<T>) -> Option<T> {
        let at = self.modifiers.iter().position(|m| table(m).is_some())?;
        table(self.modifiers.remove(at))
    }

    /// Takes the first of some modifiers that is present.
    pub fn any(&mut self, names: &[&'static str]) -> Option<&'static str> {
        self.pick(|m| names.iter().find(|name| **name == m).copied())
    }

    /// The only or first type.
    pub fn ty(&self) -> Result<Type, String> {
        self.types.first().copied().ok_or("the type is missing".to_owned())
    }

    /// Returns an error if a modifier was not taken.
    pub fn finish(&self) -> Result<(), String> {
        match self.modifiers.first() {
            None => Ok(()),
            Some(modifier) => Err(format!("unsupported modifier .{modifier}")),
        }
    }
}

/// Runs an expression with a type alias for an integer type of PTX.
macro_rules! with_int {
    ($ty:expr, $alias:ident => $body:expr) => {{
        use $crate::ptx::Type;
        match $ty {
            Type::B16 | Type::U16 => {
                type $alias = u16;
                $body
            }
            Type::S16 => {
                type $alias = i16;
                $body
            }
            Type::B32 | Type::U32 => {
                type $alias = u32;
                $body
            }
            Type::S32 => {
                type $alias = i32;
                $body
            }
            Type::B64 | Type::U64 => {
                type $alias = u64;
                $body
            }
            Type::S64 => {
                type $alias = i64;
                $body
            }
            other => Err(format!("unsupported type {other:?}")),
        }
    }};
}

/// Like `with_int`, for types without a sign.
macro_rules! with_bits {
    ($ty:expr, $alias:ident => $body:expr) => {{
        use $crate::ptx::Type;
        match $ty {
            Type::B8 | Type::B16 | Type::U16 | Type::S16 => {
                type $alias = u16;
                $body
            }
            Type::B32 | Type::U32 | Type::S32 | Type::F32 => {
                type $alias = u32;
                $body
            }
            Type::B64 | Type::U64 | Type::S64 | Type::F64 => {
                type $alias = u64;
                $body
            }
            other => Err(format!("unsupported type {other:?}")),
        }
    }};
}

/// Like `with_int`, for integers of all widths.
macro_rules! with_any_int {
    ($ty:expr, $alias:ident => $body:expr) => {{
        use $crate::ptx::Type;
        match $ty {
            Type::U8 | Type::B8 => { type $alias = u8; $body }
            Type::S8 => { type $alias = i8; $body }
            other => $crate::build::form::with_int!(other, $alias => $body),
        }
    }};
}

/// Like `with_int`, for the floating-point types.
macro_rules! with_float {
    ($ty:expr, $alias:ident => $body:expr) => {{
        use $crate::ptx::Type;
        match $ty {
            Type::F32 => {
                type $alias = f32;
                $body
            }
            Type::F64 => {
                type $alias = f64;
                $body
            }
            other => Err(format!("unsupported type {other:?}")),
        }
    }};
}

pub(crate) use {with_any_int, with_bits, with_float, with_int};
