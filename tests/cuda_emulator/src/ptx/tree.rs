//! The syntax tree. It is only grammar: building code from it decides which opcodes exist.

use super::types::{Space, Type};

/// A whole translation unit.
#[derive(Debug, Default)]
pub struct Module {
    /// `.version`, major and minor.
    pub version: (u32, u32),
    /// `.target`, such as `sm_70`.
    pub target: String,
    /// Variables of module scope.
    pub variables: Vec<Variable>,
    /// Kernels and device functions.
    pub functions: Vec<Function>,
}

/// A variable or a parameter.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its state space.
    pub space: Space,
    /// Its name.
    pub name: String,
    /// Its alignment in bytes.
    pub align: usize,
    /// Its size; 0 for an array that is sized at launch.
    pub size: usize,
    /// The initial bytes; empty if there are none.
    pub init: Vec<u8>,
}

/// A kernel (`.entry`) or a device function (`.func`).
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// `.entry` rather than `.func`.
    pub kernel: bool,
    /// Parameters in order.
    pub params: Vec<Variable>,
    /// The results of a `.func`.
    pub returns: Vec<Variable>,
    /// The product of `.maxntid` or `.reqntid`.
    pub max_threads: Option<u32>,
    /// `.reqnctapercluster`: blocks of a cluster in each dimension.
    pub cluster: Option<[u32; 3]>,
    /// `.explicitcluster`: must be launched with clusters.
    pub explicit_cluster: bool,
    /// Statements; `None` for a declaration.
    pub body: Option<Vec<Statement>>,
}

/// One statement of a body.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Statement {
    Open,
    Close,
    Label(String),
    /// `.reg .b32 %r<10>` has a count of 10; `.reg .b32 x` none.
    Registers(Type, String, Option<u64>),
    Variable(Variable),
    /// A label before `.branchtargets`.
    Targets(String, Vec<String>),
    Instruction(Instruction),
}

impl Statement {
    /// Whether a name occurs among the operands.
    pub fn mentions(&self, name: &str) -> bool {
        match self {
            Self::Instruction(instruction) => instruction.operands.iter().any(|o| o.mentions(name)),
            _ => false,
        }
    }
}

/// An instruction as written.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// The guard's register and whether it is negated.
    pub guard: Option<(String, bool)>,
    /// The dotted opcode.
    pub opcode: String,
    /// Operands in order.
    pub operands: Vec<Operand>,
    /// Its line in the text.
    pub line: usize,
}

/// An operand as written.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Operand {
    Name(String),
    Not(String),
    Int(u64),
    F32(u32),
    F64(u64),
    /// `[base+offset]`.
    Address(Box<Operand>, i64),
    Vector(Vec<Operand>),
    List(Vec<Operand>),
    /// `a|b`.
    Pair(Box<Operand>, Box<Operand>),
}

impl Operand {
    fn mentions(&self, name: &str) -> bool {
        match self {
            Self::Name(own) | Self::Not(own) => own == name,
            Self::Address(base, _) => base.mentions(name),
            Self::Vector(parts) | Self::List(parts) => parts.iter().any(|p| p.mentions(name)),
            Self::Pair(a, b) => a.mentions(name) || b.mentions(name),
            Self::Int(_) | Self::F32(_) | Self::F64(_) => false,
        }
    }
}
