//! The grammar of modules.

use super::lexer::{Kind, Token, tokens};
use super::tree::{Function, Module, Operand, Variable};
use super::types::{Space, Type};

/// Parses a module.
pub fn parse(text: &str) -> Result<Module, String> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, at: 0 };
    let mut module = Module::default();
    while parser.at < parser.tokens.len() {
        parser.top(&mut module)?;
    }
    Ok(module)
}

/// The remaining tokens.
pub(super) struct Parser {
    tokens: Vec<Token>,
    pub(super) at: usize,
}

const LINKAGE: [&str; 5] = [".visible", ".extern", ".weak", ".common", ".noreturn"];

impl Parser {
    pub(super) fn line(&self) -> usize {
        let last = self.tokens.len().saturating_sub(1);
        self.tokens.get(self.at.min(last)).map_or(0, |t| t.line)
    }

    pub(super) fn error<T>(&self, what: impl std::fmt::Display) -> Result<T, String> {
        Err(format!("line {}: {what}", self.line()))
    }

    pub(super) fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|t| &t.kind)
    }

    pub(super) fn next(&mut self) -> Result<Kind, String> {
        let Some(kind) = self.peek().cloned() else {
            return self.error("unexpected end");
        };
        self.at += 1;
        Ok(kind)
    }

    pub(super) fn take(&mut self, c: char) -> bool {
        let found = self.peek() == Some(&Kind::Punct(c));
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, c: char) -> Result<(), String> {
        if self.take(c) {
            return Ok(());
        }
        let found = self.peek().cloned();
        self.error(format_args!("expected {c:?}, found {found:?}"))
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Kind::Word(w)) if w == word);
        self.at += usize::from(found);
        found
    }

    pub(super) fn word(&mut self) -> Result<String, String> {
        match self.next()? {
            Kind::Word(word) => Ok(word),
            other => self.error(format_args!("expected a name, found {other:?}")),
        }
    }

    pub(super) fn int(&mut self) -> Result<u64, String> {
        let negative = self.take('-');
        match self.next()? {
            Kind::Int(v) if negative => Ok(v.wrapping_neg()),
            Kind::Int(v) => Ok(v),
            other => self.error(format_args!("expected an integer, found {other:?}")),
        }
    }

    pub(super) fn comma_list<T>(
        &mut self, close: char, mut item: impl FnMut(&mut Self) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let mut out = Vec::new();
        while !self.take(close) {
            out.push(item(self)?);
            if !self.take(',') {
                self.expect(close)?;
                break;
            }
        }
        Ok(out)
    }

    pub(super) fn skip_line(&mut self) {
        let line = self.line();
        while self.at < self.tokens.len() && self.tokens[self.at].line == line {
            self.at += 1;
        }
    }

    fn top(&mut self, module: &mut Module) -> Result<(), String> {
        while LINKAGE.iter().any(|word| self.take_word(word)) {}
        let word = self.word()?;
        match word.as_str() {
            ".version" => {
                // The lexer reads `8.0` as one number.
                let Kind::F64(bits) = self.next()? else {
                    return self.error("bad .version");
                };
                let tenths = (f64::from_bits(bits) * 10.0).round() as u32;
                module.version = (tenths / 10, tenths % 10);
            }
            ".target" => {
                module.target = self.word()?;
                while self.take(',') {
                    self.word()?;
                }
            }
            ".address_size" => {
                if self.int()? != 64 {
                    return self.error("only 64-bit addresses are supported");
                }
            }
            ".file" => self.skip_line(),
            ".section" => {
                self.word()?;
                while !self.take('}') {
                    self.next()?;
                }
            }
            ".entry" | ".func" => {
                let function = self.function(word == ".entry")?;
                module.functions.push(function);
            }
            space => match Space::parse(&space[1..]) {
                Some(space) => {
                    let variable = self.variable(space)?;
                    module.variables.push(variable);
                }
                None => return self.error(format_args!("unknown directive {word}")),
            },
        }
        Ok(())
    }

    pub(super) fn variable(&mut self, space: Space) -> Result<Variable, String> {
        let (mut align, mut element, mut lanes) = (0, None, 1);
        let name = loop {
            let word = self.word()?;
            match word.as_str() {
                ".align" => align = self.int()? as usize,
                ".ptr" | ".global" | ".const" | ".shared" | ".local" => {}
                ".v2" => lanes = 2,
                ".v4" => lanes = 4,
                _ if word.starts_with('.') => match Type::parse(&word[1..]) {
                    Some(ty) => element = Some(ty),
                    None => return self.error(format_args!("unknown type {word}")),
                },
                _ => break word,
            }
            // `.ptr .align 8` is about the pointee.
            if word == ".ptr" && self.take_word(".align") {
                self.int()?;
            }
        };
        let Some(element) = element else {
            return self.error(format_args!("{name} has no type"));
        };
        let mut count = lanes;
        let mut sized = true;
        while self.take('[') {
            sized = !self.take(']');
            if sized {
                count *= self.int()? as usize;
                self.expect(']')?;
            }
        }
        let mut init = Vec::new();
        if self.take('=') {
            self.initialiser(element.size(), &mut init)?;
        }
        if matches!(self.peek(), Some(Kind::Punct(';'))) {
            self.at += 1;
        }
        let full = if sized { count * element.size() } else { 0 };
        if !init.is_empty() {
            init.resize(full.max(init.len()), 0);
        }
        Ok(Variable { space, name, align: align.max(element.size()), size: full.max(init.len()), init })
    }

    fn initialiser(&mut self, size: usize, out: &mut Vec<u8>) -> Result<(), String> {
        if self.take('{') {
            return self.comma_list('}', |p| p.initialiser(size, out)).map(|_| ());
        }
        let bits = match self.operand()? {
            Operand::Int(v) | Operand::F64(v) => v,
            Operand::F32(v) => u64::from(v),
            other => return self.error(format_args!("unsupported initialiser {other:?}")),
        };
        out.extend_from_slice(&bits.to_le_bytes()[..size]);
        Ok(())
    }

    fn params(&mut self) -> Result<Vec<Variable>, String> {
        if !self.take('(') {
            return Ok(Vec::new());
        }
        self.comma_list(')', |p| {
            p.word()?;
            p.variable(Space::Param)
        })
    }

    fn function(&mut self, kernel: bool) -> Result<Function, String> {
        let returns = self.params()?;
        let name = self.word()?;
        let params = self.params()?;
        let (mut max_threads, mut cluster, mut explicit_cluster) = (None, None, false);
        let body = loop {
            if self.take(';') {
                break None;
            }
            if self.take('{') {
                break Some(self.body()?);
            }
            let directive = self.word()?;
            let mut sizes = Vec::new();
            while matches!(self.peek(), Some(Kind::Int(_) | Kind::Punct(','))) {
                if !self.take(',') {
                    sizes.push(self.int()? as u32);
                }
            }
            match directive.as_str() {
                ".maxntid" | ".reqntid" => max_threads = Some(sizes.iter().product()),
                ".reqnctapercluster" => {
                    cluster = Some(std::array::from_fn(|axis| sizes.get(axis).copied().unwrap_or(1)));
                }
                ".explicitcluster" => explicit_cluster = true,
                _ => {}
            }
        };
        Ok(Function { name, kernel, params, returns, max_threads, cluster, explicit_cluster, body })
    }
}
