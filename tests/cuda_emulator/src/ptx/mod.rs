//! The PTX language: text to syntax tree.

mod body;
mod lexer;
mod parser;
mod tree;
mod types;

pub use parser::parse;
pub use tree::{Function, Instruction, Module, Operand, Statement, Variable};
pub use types::{Space, Type};
