//! From the syntax tree to code that runs: names become slots, labels indices, device functions are put in place of calls.

#![allow(
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    reason = "one text serves all types, and to some of them a cast does nothing"
)]

mod builder;
mod compare;
mod control;
mod convert;
mod float;
mod form;
mod function;
mod integer;
mod matrix;
mod mbarrier;
mod memory;
mod moves;
mod rounding;
mod warp;

pub use builder::{Builder, Globals};
