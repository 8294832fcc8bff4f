//! The command, as people and scripts use it: one test program for all of its commands.

mod command;
mod data;
mod evaluate;
mod faults;
mod health;
mod laws;
mod on_disk;
#[path = "../oracle/mod.rs"]
mod oracle;
mod recipes;
mod report;
mod results;
mod resume;
mod sampling;
#[cfg(unix)]
mod signals;
