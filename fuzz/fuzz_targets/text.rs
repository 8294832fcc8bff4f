#![no_main]
#![allow(dead_code)]

#[path = "../../tests/oracle/canonical.rs"]
mod canonical;
#[path = "../../tests/oracle/canonical_laws.rs"]
mod canonical_laws;
#[path = "../../tests/fuzzing/mod.rs"]
mod fuzzing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::text::run(bytes));
