//! Kernels and device functions, statement by statement.

use std::collections::HashMap;

use super::builder::{Builder, Globals, Symbol};
use super::form::Form;
use crate::machine::{Action, Code, LOCAL, PARAM, Registers, SHARED};
use crate::ptx::{Function, Instruction, Operand, Space, Statement, Variable};

fn align(offset: usize, to: usize) -> usize {
    offset.next_multiple_of(to.max(1))
}

impl<'m> Builder<'m> {
    /// Builds a kernel.
    pub fn kernel(globals: &'m Globals<'m>, function: &'m Function) -> Result<Code, String> {
        let mut builder = Self {
            globals,
            carry: 0,
            scopes: vec![HashMap::new()],
            ops: Vec::new(),
            template: Registers::default(),
            constants: HashMap::new(),
            specials: Vec::new(),
            shared: 0,
            local: 0,
            jumps: Vec::new(),
            labels: HashMap::new(),
            depth: 0,
            guard: None,
            text: "".into(),
        };
        builder.carry = builder.new_predicate();
        for (&name, &address) in &globals.addresses {
            builder.declare(name, Symbol::Variable(Space::Global, address));
        }
        builder.lay_out_shared(function)?;
        let (mut params, mut end) = (Vec::new(), 0);
        builder.scopes.push(HashMap::new());
        for param in &function.params {
            let offset = align(end, param.align);
            end = offset + param.size;
            params.push((offset, param.size));
            let address = PARAM + offset as u64;
            builder.declare(&param.name, Symbol::Variable(Space::Param, address));
        }
        builder.body(function)?;
        builder.text = "exit".into();
        builder.guard = None;
        builder.push(Action::Exit);
        let Self { ops, template, specials, shared, local, .. } = builder;
        Ok(Code {
            name: function.name.clone(),
            ops,
            template,
            specials,
            params,
            shared: align(shared, 16),
            local: align(local, 16),
            max_threads: function.max_threads.unwrap_or(1024),
            cluster: function.cluster,
            explicit_cluster: function.explicit_cluster,
        })
    }

    fn variable(&mut self, variable: &Variable) -> Result<(), String> {
        if variable.space == Space::Shared && self.depth > 0 {
            return Err(format!("{}: shared variables of device functions are not supported", variable.name));
        }
        let end = match variable.space {
            Space::Shared => &mut self.shared,
            _ => &mut self.local,
        };
        let offset = align(*end, variable.align);
        *end = offset + variable.size;
        // Parameters of a call are in local memory, where the callee finds them.
        let base = if variable.space == Space::Shared { SHARED } else { LOCAL };
        let symbol = Symbol::Variable(variable.space, base + offset as u64);
        self.declare(&variable.name, symbol);
        Ok(())
    }

    /// Lays out the shared variables of module scope that the kernel can reach; those with a size at launch are last.
    fn lay_out_shared(&mut self, function: &'m Function) -> Result<(), String> {
        let module = self.globals.module;
        let bodies = |f: &'m Function| f.body.iter().flatten();
        let reachable = || {
            let callees = module.functions.iter().filter(|f| !f.kernel);
            callees.chain([function]).flat_map(bodies)
        };
        let shared = module.variables.iter().filter(|v| v.space == Space::Shared);
        for variable in shared.clone().filter(|v| v.size > 0) {
            if reachable().any(|statement| statement.mentions(&variable.name)) {
                self.variable(variable)?;
            }
        }
        let declared = bodies(function).filter_map(|statement| match statement {
            Statement::Variable(v) if v.space == Space::Shared => Some(v),
            _ => None,
        });
        let end = declared.fold(self.shared, |end, v| align(end, v.align) + v.size);
        for variable in shared.filter(|v| v.size == 0) {
            let address = SHARED + align(end, 16) as u64;
            self.declare(&variable.name, Symbol::Variable(Space::Shared, address));
        }
        Ok(())
    }

    fn body(&mut self, function: &'m Function) -> Result<(), String> {
        let Some(body) = &function.body else {
            return Err(format!("{} has no body", function.name));
        };
        for statement in body {
            match statement {
                Statement::Open => self.scopes.push(HashMap::new()),
                Statement::Close => {
                    self.scopes.pop();
                }
                Statement::Label(name) => {
                    self.labels.insert(name.clone(), self.ops.len());
                }
                Statement::Targets(name, labels) => {
                    self.declare(name, Symbol::Targets(labels.clone()));
                }
                Statement::Registers(ty, name, count) => {
                    let first = self.new_register(*ty);
                    for _ in 1..count.unwrap_or(1) {
                        self.new_register(*ty);
                    }
                    let symbol = match count {
                        Some(count) => Symbol::Family(*ty, first, *count),
                        None => Symbol::Register(*ty, first),
                    };
                    self.declare(name, symbol);
                }
                Statement::Variable(variable) => self.variable(variable)?,
                Statement::Instruction(instruction) => self
                    .instruction(instruction)
                    .map_err(|e| format!("line {}: {}: {e}", instruction.line, instruction.opcode))?,
            }
        }
        let end = self.ops.len();
        for (at, labels) in std::mem::take(&mut self.jumps) {
            let find = |label: &String| match self.labels.get(label) {
                Some(&index) => Ok(index),
                None if label.is_empty() => Ok(end),
                None => Err(format!("label {label} is not defined")),
            };
            let found: Vec<usize> = labels.iter().map(find).collect::<Result<_, _>>()?;
            match &mut self.ops[at].action {
                Action::Table { targets, .. } => *targets = found,
                action => *action = Action::Branch(found[0]),
            }
        }
        Ok(())
    }

    /// Inlines a device function at a call; its parameters are the caller's variables.
    pub fn inline(&mut self, name: &str, returns: &[Operand], args: &[Operand]) -> Result<(), String> {
        if self.depth == 32 {
            return Err("calls are nested too deeply; recursion is not supported".to_owned());
        }
        let functions = &self.globals.module.functions;
        let Some(callee) = functions.iter().find(|f| f.name == name && f.body.is_some()) else {
            return Err(format!("function {name} has no body"));
        };
        let mut scope = HashMap::new();
        let formals = callee.returns.iter().chain(&callee.params);
        let actuals = returns.iter().chain(args);
        for (formal, actual) in formals.zip(actuals) {
            let Operand::Name(actual) = actual else {
                return Err("an argument must be a variable".to_owned());
            };
            let Some(symbol @ Symbol::Variable(..)) = self.symbol(actual) else {
                return Err(format!("{actual} is not a variable"));
            };
            scope.insert(formal.name.clone(), symbol.clone());
        }
        let outer = self.scopes.split_off(1);
        self.scopes.push(scope);
        let jumps = std::mem::take(&mut self.jumps);
        let labels = std::mem::take(&mut self.labels);
        let (guard, text) = (self.guard, self.text.clone());
        self.depth += 1;
        // Lanes that do not call jump over it.
        if let Some((p, negated)) = guard {
            self.guard = Some((p, !negated));
            self.jump(vec![String::new()]);
        }
        let result = self.body(callee);
        self.depth -= 1;
        (self.guard, self.text) = (guard, text);
        self.jumps = jumps;
        self.labels = labels;
        self.scopes.truncate(1);
        self.scopes.extend(outer);
        result
    }

    /// Whether a device function is under construction, so that `ret` is a jump to its end.
    pub fn is_inlined(&self) -> bool {
        self.depth > 0
    }

    /// Jumps to one label or through a table; an empty label is the end of the function.
    pub fn jump(&mut self, labels: Vec<String>) {
        self.jumps.push((self.ops.len(), labels));
        self.push(Action::Branch(0));
    }

    /// Jumps through a table of labels.
    pub fn jump_table(&mut self, index: usize, table: &str) -> Result<(), String> {
        let Some(Symbol::Targets(labels)) = self.symbol(table).cloned() else {
            return Err(format!("{table} is not a list of labels"));
        };
        self.jumps.push((self.ops.len(), labels));
        let targets = Vec::new();
        self.push(Action::Table { index, targets });
        Ok(())
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), String> {
        self.text = format!("{}, line {}", instruction.opcode, instruction.line).into();
        self.guard = match &instruction.guard {
            None => None,
            Some((name, negated)) => Some((self.predicate_register(name)?, *negated)),
        };
        let mut form = Form::new(&instruction.opcode);
        self.decode(&mut form, &instruction.operands)?;
        form.finish()
    }

    fn decode(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        let float = form.types.first().is_some_and(|ty| ty.is_float());
        match form.head {
            "add" | "sub" | "mul" | "div" | "min" | "max" | "abs" | "neg" if float => self.float(form, operands),
            "fma" | "mad" if float => self.float(form, operands),
            "sqrt" | "rcp" | "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" | "copysign" | "testp" => {
                self.float(form, operands)
            }
            "mov" | "selp" | "prmt" | "cvta" | "isspacep" | "mapa" | "getctarank" => self.moves(form, operands),
            "cvt" => self.convert(form, operands),
            "setp" | "set" | "slct" => self.compare(form, operands),
            "ld" | "ldu" | "st" | "atom" | "red" | "prefetch" | "prefetchu" => self.memory(form, operands),
            "cp" => self.copy(form, operands),
            "mbarrier" => self.mbarrier(form, operands),
            "bra" | "brx" | "ret" | "exit" | "trap" | "call" | "bar" | "barrier" | "membar" | "fence"
            | "griddepcontrol" => self.control(form, operands),
            "shfl" | "vote" | "match" | "redux" | "activemask" => self.warp(form, operands),
            "mma" => self.matrix(form, operands),
            _ => self.integer(form, operands),
        }
    }
}
