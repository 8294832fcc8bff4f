//! Tests of the library on the CPU: every law, rule, estimator and file, against the oracle. One program, because it links faster
//! than many.

mod activity;
mod beginnings;
mod convergence;
#[cfg(all(feature = "csv", feature = "npz"))]
mod data_in;
mod dataset;
mod descent;
mod diagnostics;
mod elementary;
mod epochs;
mod errors;
mod golden;
mod labels;
mod likelihood;
mod log_partition;
mod missing;
mod on_disk;
#[path = "../oracle/mod.rs"]
mod oracle;
mod oracle_itself;
mod raster;
mod tempering;
mod tracker;
mod tracker_visits;
mod units;
mod units_learning;
mod units_likelihood;
mod units_refused;
mod units_sampler;
