//! Products of small matrices by a whole warp.

use super::builder::Builder;
use super::form::Form;
use crate::machine::{LANES, Registers};
use crate::ptx::{Operand, Type};

/// Rows of a, columns of b, and their common dimension.
const ROWS: usize = 16;
const COLUMNS: usize = 8;
const DEPTH: usize = 32;

/// The lane, register and byte of row or column `at` of a factor, `depth` along the sum: a has two registers of either half.
fn place(at: usize, depth: usize, halves: usize) -> (usize, usize, usize) {
    (at % 8 * 4 + depth % 16 / 4, at / 8 + depth / 16 * halves, depth % 4)
}

/// Rows of a factor from registers of bytes.
fn factor<const N: usize>(r: &Registers, slots: &[usize], signed: bool) -> [[i16; DEPTH]; N] {
    std::array::from_fn(|at| {
        std::array::from_fn(|depth| {
            let (lane, register, byte) = place(at, depth, N / 8);
            let byte = r.narrow[slots[register]][lane].to_le_bytes()[byte];
            if signed { i16::from(byte as i8) } else { i16::from(byte) }
        })
    })
}

impl Builder<'_> {
    /// Decodes `mma.sync` of bytes.
    pub fn matrix(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        for expected in ["sync", "aligned", "m16n8k32", "row", "col"] {
            if !form.take(expected) {
                return Err(format!("only mma.sync.aligned.m16n8k32.row.col is known, and .{expected} is missing"));
            }
        }
        let [Type::S32, a_type @ (Type::U8 | Type::S8), b_type @ (Type::U8 | Type::S8), Type::S32] = form.types[..]
        else {
            return Err(format!("unsupported types {:?}", form.types));
        };
        let [Operand::Vector(d), Operand::Vector(a), Operand::Vector(b), Operand::Vector(c)] = operands else {
            return Err("expected four vectors".to_owned());
        };
        let sources = |builder: &mut Self, parts: &[Operand], n: usize| {
            let slots: Vec<usize> = parts.iter().map(|part| builder.source::<u32>(part)).collect::<Result<_, _>>()?;
            if slots.len() == n { Ok(slots) } else { Err(format!("expected a vector of {n}")) }
        };
        let (a, b, c) = (sources(self, a, 4)?, sources(self, b, 2)?, sources(self, c, 4)?);
        let d: Vec<usize> = d.iter().map(|part| self.destination::<u32>(part)).collect::<Result<_, _>>()?;
        if d.len() != 4 {
            return Err("expected a vector of 4".to_owned());
        }
        self.collective(&Operand::Int(u64::from(u32::MAX)), move |r, mask| {
            let rows = factor::<ROWS>(r, &a, a_type == Type::S8);
            let columns = factor::<COLUMNS>(r, &b, b_type == Type::S8);
            let mut out = [[u32::MAX; LANES]; 4];
            // Without all lanes the result is undefined: a visible value is better.
            if mask == u32::MAX {
                for (i, row) in rows.iter().enumerate() {
                    for (j, column) in columns.iter().enumerate() {
                        let (lane, register) = (i % 8 * 4 + j / 2, i / 8 * 2 + j % 2);
                        let sum: i32 = row.iter().zip(column).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
                        out[register][lane] = r.narrow[c[register]][lane].wrapping_add(sum as u32);
                    }
                }
            }
            for (d, out) in d.iter().zip(&out) {
                r.write(mask, *d, out);
            }
        })
    }
}
