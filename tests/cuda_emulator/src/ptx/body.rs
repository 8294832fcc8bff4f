//! The grammar of function bodies.

use super::lexer::Kind;
use super::parser::Parser;
use super::tree::{Instruction, Operand, Statement};
use super::types::{Space, Type};

impl Parser {
    /// The statements up to the closing brace.
    pub(super) fn body(&mut self) -> Result<Vec<Statement>, String> {
        let mut out = Vec::new();
        let mut depth = 1;
        while depth > 0 {
            if self.take('{') {
                depth += 1;
                out.push(Statement::Open);
            } else if self.take('}') {
                depth -= 1;
                out.push(Statement::Close);
            } else if !self.take(';') {
                self.statement(&mut out)?;
            }
        }
        out.pop();
        Ok(out)
    }

    fn statement(&mut self, out: &mut Vec<Statement>) -> Result<(), String> {
        let line = self.line();
        let guard = if self.take('@') {
            let negated = self.take('!');
            Some((self.word()?, negated))
        } else {
            None
        };
        let word = self.word()?;
        match word.as_str() {
            ".reg" => {
                let name = self.word()?;
                let Some(ty) = Type::parse(&name[1..]) else {
                    return self.error(format_args!("unknown register type {name}"));
                };
                loop {
                    let name = self.word()?;
                    let mut count = None;
                    if self.take('<') {
                        count = Some(self.int()?);
                        self.expect('>')?;
                    }
                    out.push(Statement::Registers(ty, name, count));
                    if !self.take(',') {
                        break;
                    }
                }
                return self.expect(';');
            }
            ".loc" | ".file" => {
                self.skip_line();
                return Ok(());
            }
            ".pragma" => {
                while !self.take(';') {
                    self.next()?;
                }
                return Ok(());
            }
            directive if directive.starts_with('.') => {
                let Some(space) = Space::parse(&directive[1..]) else {
                    return self.error(format_args!("unknown directive {directive}"));
                };
                let variable = self.variable(space)?;
                out.push(Statement::Variable(variable));
                return Ok(());
            }
            _ => {}
        }
        if guard.is_none() && self.take(':') {
            out.push(if self.take_word(".branchtargets") {
                Statement::Targets(word, self.comma_list(';', Self::word)?)
            } else {
                Statement::Label(word)
            });
            return Ok(());
        }
        let operands = self.comma_list(';', Self::operand)?;
        out.push(Statement::Instruction(Instruction { guard, opcode: word, operands, line }));
        Ok(())
    }

    /// One operand.
    pub(super) fn operand(&mut self) -> Result<Operand, String> {
        if self.take('{') {
            return Ok(Operand::Vector(self.comma_list('}', Self::operand)?));
        }
        if self.take('(') {
            return Ok(Operand::List(self.comma_list(')', Self::operand)?));
        }
        if self.take('[') {
            let base = self.operand()?;
            let offset = match self.peek() {
                Some(Kind::Punct('+')) => {
                    self.at += 1;
                    self.int()?
                }
                Some(Kind::Punct('-')) => self.int()?,
                _ => 0,
            };
            self.expect(']')?;
            return Ok(Operand::Address(Box::new(base), offset as i64));
        }
        if self.take('!') {
            return Ok(Operand::Not(self.word()?));
        }
        let negative = self.take('-');
        let first = match self.next()? {
            Kind::Int(v) if negative => Operand::Int(v.wrapping_neg()),
            Kind::Int(v) => Operand::Int(v),
            Kind::F32(v) => Operand::F32(v),
            Kind::F64(v) if negative => Operand::F64(v ^ 1 << 63),
            Kind::F64(v) => Operand::F64(v),
            Kind::Word(name) => Operand::Name(name),
            other => return self.error(format_args!("unexpected {other:?}")),
        };
        if self.take('|') {
            return Ok(Operand::Pair(Box::new(first), Box::new(self.operand()?)));
        }
        Ok(first)
    }
}
