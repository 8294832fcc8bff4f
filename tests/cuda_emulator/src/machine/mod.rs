//! The machine that runs decoded kernels.

mod access;
mod cluster;
mod code;
mod copies;
mod grid;
mod heap;
mod lanes;
mod mbarrier;
mod races;
mod warp;

pub use access::{Access, Kind, Place, Update};
pub use code::{Action, BarrierReduction, Cause, Code, Fault, Op, Special};
pub use copies::Copy;
pub use grid::{Launch, Shuffle, run};
pub use heap::{BASE, Heap, LOCAL, PARAM, SHARED, SHARED_BITS};
pub use lanes::{LANES, Lane, Raw, Registers, Row, lanes};
pub use mbarrier::{Awaited, Operation, Post, Target, What};
