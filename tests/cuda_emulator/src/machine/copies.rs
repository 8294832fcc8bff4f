//! Asynchronous copies from global to shared memory.
//!
//! A copy is read at once and written when the thread waits for it. So an earlier read finds the old contents, and the
//! race detector sees the write where it has certainly happened.

use super::access::Access;
use super::code::{Action, Fault, Op};
use super::lanes::{Row, lanes};
use super::warp::{Environment, Warp};

/// An asynchronous copy.
pub struct Copy {
    /// Reads into temporary registers.
    pub load: Access,
    /// Only its address is used.
    pub target: Access,
    /// Writes the temporary registers to the address in `address`.
    pub store: Access,
    /// The registers with the copied values.
    pub values: Vec<usize>,
    /// The register with the target address.
    pub address: usize,
}

/// A copy for which some lanes have not waited.
pub struct Pending {
    pc: usize,
    mask: u32,
    addresses: Row<u64>,
    values: Vec<Row<u32>>,
    /// The group that the copy belongs to, by lane.
    groups: Row<u32>,
}

/// The copies of a warp.
#[derive(Default)]
pub struct Copies {
    pending: Vec<Pending>,
    /// The number of groups that each lane has committed.
    committed: Row<u32>,
}

impl Copies {
    /// Lanes close a group.
    pub fn commit(&mut self, mask: u32) {
        for lane in lanes(mask) {
            self.committed[lane] += 1;
        }
    }

    /// Removes the copies for which lanes now wait: all except their last groups, or, without a number, all.
    fn due(&mut self, mask: u32, but: Option<u32>) -> Vec<Pending> {
        let Self { pending, committed } = self;
        let mut due = Vec::new();
        for copy in pending.iter_mut() {
            let is_due = |lane: &usize| but.is_none_or(|but| copy.groups[*lane] + but < committed[*lane]);
            let now = lanes(mask & copy.mask).filter(is_due).fold(0, |now, lane| now | 1 << lane);
            if now != 0 {
                copy.mask &= !now;
                due.push(Pending { mask: now, values: copy.values.clone(), ..*copy });
            }
        }
        pending.retain(|copy| copy.mask != 0);
        due
    }
}

impl Copy {
    /// Begins the copies of some lanes.
    pub fn begin(&self, warp: &mut Warp, env: &mut Environment, mask: u32, pc: usize) -> Result<(), Fault> {
        self.load.run(warp, env, mask, pc)?;
        let addresses = self.target.addresses(&warp.registers);
        let values = self.values.iter().map(|&slot| warp.registers.narrow[slot]).collect();
        let groups = warp.copies.committed;
        warp.copies.pending.push(Pending { pc, mask, addresses, values, groups });
        Ok(())
    }

    fn finish(&self, warp: &mut Warp, env: &mut Environment, copy: &Pending) -> Result<(), Fault> {
        for (&slot, values) in self.values.iter().zip(&copy.values) {
            warp.registers.narrow[slot] = *values;
        }
        warp.registers.wide[self.address] = copy.addresses;
        self.store.run(warp, env, copy.mask, copy.pc)
    }
}

/// Lanes wait for all of their copies except those of their last groups, or, without a number, for all.
pub fn wait(ops: &[Op], warp: &mut Warp, env: &mut Environment, mask: u32, but: Option<u32>) -> Result<(), Fault> {
    for pending in warp.copies.due(mask, but) {
        if let Some(Action::Copy(copy)) = ops.get(pending.pc).map(|op| &op.action) {
            copy.finish(warp, env, &pending)?;
        }
    }
    Ok(())
}
