//! Mbarriers and asynchronous stores.

use super::builder::Builder;
use super::form::Form;
use crate::machine::{Action, Awaited, Operation, Post, Target, What};
use crate::ptx::{Operand, Space, Type};

impl Builder<'_> {
    /// An operand in shared memory: of the block itself, of any block of the cluster, or by a generic address.
    fn target(&mut self, operand: &Operand, space: Space) -> Result<Target, String> {
        let (base, offset) = self.address(operand, space)?;
        Ok(Target { base, offset, own: space == Space::Shared })
    }

    /// Decodes all operations on an mbarrier.
    pub fn mbarrier(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        const NAMES: [&str; 6] = ["init", "inval", "expect_tx", "arrive", "test_wait", "try_wait"];
        let name = form.any(&NAMES).ok_or("the operation is missing or not supported")?;
        let expects = name == "arrive" && form.take("expect_tx");
        let by_parity = name.ends_with("wait") && form.take("parity");
        let space = form.pick(Space::parse).unwrap_or(Space::Generic);
        if !matches!(space, Space::Generic | Space::Shared | Space::Cluster) || form.types != [Type::B64] {
            return Err("expected .b64 in shared memory".to_owned());
        }
        let relaxed = !name.starts_with('i') && form.take("relaxed");
        if !name.starts_with('i') {
            while form.any(&["acquire", "release", "cta", "cluster"]).is_some() {}
        }
        let (at, what) = match (name, operands) {
            ("init", [at, count]) => (at, What::Init { count: self.source::<u32>(count)? }),
            ("inval", [at]) => (at, What::Invalidate),
            ("expect_tx", [at, bytes]) => (at, What::Expect { bytes: self.source::<u32>(bytes)? }),
            ("arrive", [state, at, rest @ ..]) if rest.len() <= 1 && (rest.len() == 1 || !expects) => {
                let state = match state {
                    Operand::Name(name) if name == "_" => None,
                    _ if space == Space::Cluster => return Err("another block's mbarrier returns no state".to_owned()),
                    state => Some(self.destination::<u64>(state)?),
                };
                let number = rest.first().map(|number| self.source::<u32>(number)).transpose()?;
                let (count, bytes) = if expects { (None, number) } else { (number, None) };
                (at, What::Arrive { state, count, bytes, relaxed })
            }
            // The longest time to wait has no effect here.
            ("test_wait", [Operand::Name(done), at, phase]) | ("try_wait", [Operand::Name(done), at, phase, ..]) => {
                let done = self.predicate_register(done)?;
                let phase = match by_parity {
                    true => Awaited::Parity(self.source::<u32>(phase)?),
                    false => Awaited::State(self.source::<u64>(phase)?),
                };
                (at, What::Wait { done, phase, relaxed })
            }
            _ => return Err("unsupported operands".to_owned()),
        };
        let target = self.target(at, space)?;
        self.push(Action::Mbarrier(Box::new(Operation { target, what })));
        Ok(())
    }

    /// Decodes `st.async`.
    pub fn post(&mut self, form: &mut Form, operands: &[Operand]) -> Result<(), String> {
        form.take("weak");
        if !form.take("shared::cluster") || !form.take("mbarrier::complete_tx::bytes") {
            return Err("expected .shared::cluster.mbarrier::complete_tx::bytes".to_owned());
        }
        let ([to, values, barrier], ty) = (operands, form.ty()?) else {
            return Err("expected three operands".to_owned());
        };
        if ty.size() < 4 {
            return Err(format!("unsupported type {ty:?}"));
        }
        let parts = Self::elements(form, values)?;
        let values = parts.iter().map(|part| self.stored(ty, part)).collect::<Result<_, _>>()?;
        let (to, barrier) = (self.target(to, Space::Cluster)?, self.target(barrier, Space::Cluster)?);
        self.push(Action::Post(Box::new(Post { to, barrier, ty, values })));
        Ok(())
    }
}
