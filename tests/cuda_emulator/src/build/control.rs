//! Jumps, calls, ends and barriers.

use super::builder::Builder;
use super::form::Form;
use crate::machine::{Action, BarrierReduction};
use crate::ptx::Operand;

impl Builder<'_> {
    /// Decodes `bra`, `brx`, `ret`, `exit`, `trap`, `call`, barriers, fences and hints about dependent launches.
    pub fn control(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        form.take("uni");
        match form.head {
            "bra" => match operands {
                [Operand::Name(label)] => self.jump(vec![label.clone()]),
                _ => return Err("expected a label".to_owned()),
            },
            "brx" => {
                form.take("idx");
                let [index, Operand::Name(table)] = operands else {
                    return Err("expected an index and a table".to_owned());
                };
                let index = self.source::<u32>(index)?;
                self.jump_table(index, table)?;
            }
            "ret" if self.is_inlined() => self.jump(vec![String::new()]),
            "ret" | "exit" => self.push(Action::Exit),
            "trap" => self.push(Action::Trap),
            "call" => return self.call(operands),
            // Every access is indivisible and immediate.
            "membar" | "fence" => {
                const KINDS: [&str; 9] =
                    ["cta", "cluster", "gl", "gpu", "sys", "sc", "acq_rel", "mbarrier_init", "release"];
                while form.any(&KINDS).is_some() {}
            }
            // A launch begins when all earlier ones have ended.
            "griddepcontrol" => while form.any(&["launch_dependents", "wait"]).is_some() {},
            _ => return self.barrier(form, operands),
        }
        Ok(())
    }

    fn call(&mut self, operands: &[Operand]) -> Result<(), String> {
        match operands {
            [Operand::Name(name)] => self.inline(name, &[], &[]),
            [Operand::Name(name), Operand::List(args)] => self.inline(name, &[], args),
            [Operand::List(returns), Operand::Name(name)] => self.inline(name, returns, &[]),
            [Operand::List(returns), Operand::Name(name), Operand::List(args)] => self.inline(name, returns, args),
            _ => Err("indirect calls are not supported".to_owned()),
        }
    }

    fn cluster_barrier(&mut self, form: &mut Form) -> Result<(), String> {
        let aligned = form.take("aligned");
        let action = match form.any(&["arrive", "wait"]) {
            Some("arrive") => {
                let relaxed = form.take("relaxed");
                form.take("release");
                Action::ClusterArrive { relaxed, aligned }
            }
            Some(_) => {
                form.take("acquire");
                Action::ClusterWait { aligned }
            }
            None => return Err("unsupported barrier".to_owned()),
        };
        self.push(action);
        Ok(())
    }

    fn barrier(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        if form.take("cluster") {
            return self.cluster_barrier(form);
        }
        form.take("cta");
        form.take("aligned");
        if form.take("warp") {
            form.take("sync");
            let [members] = operands else {
                return Err("expected a member mask".to_owned());
            };
            let members = self.source::<u32>(members)?;
            let run = Box::new(|_: &mut _, _| ());
            self.push(Action::Collective { members, run });
            return Ok(());
        }
        if form.take("sync") {
            let id = match operands.first() {
                Some(id) => self.source::<u32>(id)?,
                None => self.constant(false, 0),
            };
            let count = operands.get(1).map(|count| self.source::<u32>(count)).transpose()?;
            self.push(Action::Barrier { id, count, reduction: None });
            return Ok(());
        }
        if !form.take("red") {
            return Err("unsupported barrier".to_owned());
        }
        let [d @ Operand::Name(name), id, count @ .., p] = operands else {
            return Err("operands are missing".to_owned());
        };
        let id = self.source::<u32>(id)?;
        let count = count.first().map(|count| self.source::<u32>(count)).transpose()?;
        let (p, negated) = self.predicate(p)?;
        let reduction = match form.any(&["popc", "and", "or"]) {
            Some("popc") => BarrierReduction::Count { d: self.destination::<u32>(d)?, p, negated },
            Some("and") => BarrierReduction::And { d: self.predicate_register(name)?, p, negated },
            Some(_) => BarrierReduction::Or { d: self.predicate_register(name)?, p, negated },
            None => return Err("the reduction is missing".to_owned()),
        };
        self.push(Action::Barrier { id, count, reduction: Some(reduction) });
        Ok(())
    }
}
