//! Decoded kernels: every register is a slot, every label an index, every immediate a constant register.

use super::access::Access;
use super::copies::Copy;
use super::lanes::Registers;
use super::mbarrier::{Operation, Post};

/// The reason why a launch was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An address outside of every allocation, or a write to constant memory.
    IllegalAddress,
    /// An address that is not a multiple of the access's size.
    MisalignedAddress,
    /// A race, a barrier that can never open, or `trap`.
    LaunchFailed,
    /// More instructions than the settings allow.
    Timeout,
}

/// A fault of a running kernel.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The kind of fault.
    pub cause: Cause,
    /// What happened.
    pub what: String,
    /// The lane that caused it, if known.
    pub lane: Option<usize>,
}

impl Fault {
    /// A fault without a lane.
    pub fn new(cause: Cause, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { cause, what, lane: None }
    }

    /// A fault of one lane.
    pub fn of(lane: usize, cause: Cause, what: impl Into<String>) -> Self {
        let lane = Some(lane);
        Self { lane, ..Self::new(cause, what) }
    }
}

/// An operation on the lanes of a mask.
pub type Compute = Box<dyn Fn(&mut Registers, u32) + Send + Sync>;

/// The combination of the predicates of all threads at a barrier.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum BarrierReduction {
    /// Into a register.
    Count { d: usize, p: usize, negated: bool },
    /// Into a predicate.
    And { d: usize, p: usize, negated: bool },
    /// Into a predicate.
    Or { d: usize, p: usize, negated: bool },
}

/// The effect of an instruction.
pub enum Action {
    /// Arithmetic on the executing lanes' own registers.
    Compute(Compute),
    /// A load, a store or an atomic.
    Access(Access),
    /// The start of an asynchronous copy.
    Copy(Box<Copy>),
    /// The end of a group of copies.
    CopyCommit,
    /// Waits for all groups of copies except this many, or for all copies.
    CopyWait(Option<u32>),
    /// An operation on an mbarrier.
    Mbarrier(Box<Operation>),
    /// The start of an asynchronous store.
    Post(Box<Post>),
    /// A jump to an index.
    Branch(usize),
    /// A jump through a table (`brx.idx`).
    Table { index: usize, targets: Vec<usize> },
    /// The end of a thread.
    Exit,
    /// A barrier of the block; slots of its number and its thread count.
    Barrier { id: usize, count: Option<usize>, reduction: Option<BarrierReduction> },
    /// The arrival at the barrier of the cluster, which does not order memory if it is relaxed.
    ClusterArrive { relaxed: bool, aligned: bool },
    /// The end of the barrier of the cluster.
    ClusterWait { aligned: bool },
    /// An exchange among the lanes in the register `members`.
    Collective { members: usize, run: Compute },
    /// `trap`.
    Trap,
}

/// An instruction.
pub struct Op {
    /// A predicate and whether it is negated.
    pub guard: Option<(usize, bool)>,
    /// Its effect.
    pub action: Action,
    /// Its text.
    pub text: Box<str>,
}

/// Registers with initial values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Special {
    Thread(usize),
    ThreadCount(usize),
    Block(usize),
    BlockCount(usize),
    /// A block's coordinate in its cluster.
    ClusterBlock(usize),
    ClusterBlockCount(usize),
    ClusterRank,
    ClusterRankCount,
    Cluster(usize),
    ClusterCount(usize),
    Lane,
    Warp,
    WarpCount,
    /// The same for all.
    Always(u32),
    MaskEqual,
    MaskBelow,
    MaskUpTo,
    MaskAbove,
    MaskFrom,
}

/// An executable kernel.
pub struct Code {
    /// Its name.
    pub name: String,
    /// Its instructions; the last is an exit.
    pub ops: Vec<Op>,
    /// The registers of a new warp: immediates are set, all others are all ones.
    pub template: Registers,
    /// Special registers that are read, and their slots.
    pub specials: Vec<(Special, usize)>,
    /// Offset and size of each parameter.
    pub params: Vec<(usize, usize)>,
    /// Bytes of statically sized shared memory; that with a size at launch follows.
    pub shared: usize,
    /// Bytes of local memory of each thread.
    pub local: usize,
    /// The most threads of a block that the kernel allows.
    pub max_threads: u32,
    /// Blocks of a cluster in each dimension, if the kernel specifies them.
    pub cluster: Option<[u32; 3]>,
    /// Whether the kernel must be launched with clusters.
    pub explicit_cluster: bool,
}

impl Code {
    /// Bytes of all parameters.
    pub fn param_bytes(&self) -> usize {
        self.params.last().map_or(0, |(offset, size)| offset + size)
    }
}
