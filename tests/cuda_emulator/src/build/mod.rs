//! From the syntax tree to executable code: names become slots, labels become indices, device functions are inlined.

#![allow(
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    reason = "one text serves all types, and for some of them a cast has no effect"
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
