//! Wrong arguments and damaged or malicious files: each gives one exact message, and none exhausts memory.

mod arguments;
mod checkpoints;
mod command;
mod data;
mod exchange;
mod models;
#[path = "../oracle/mod.rs"]
mod oracle;

use harmonium::Result;
use std::fs;

/// The memory limit of this test's process and of each command.
const MOST_KIB: u64 = 64 << 10;

/// Collects all wrong messages, so that one run reports them all.
#[derive(Default)]
struct Table {
    cases: usize,
    wrong: Vec<String>,
}

impl Table {
    fn case<T>(&mut self, what: &str, result: Result<T>, message: &str) {
        let found = result.err().map_or("no error".into(), |error| error.to_string());
        self.message(what, &found, message);
    }

    fn message(&mut self, what: &str, found: &str, message: &str) {
        self.cases += 1;
        if found != message {
            self.wrong.push(format!("{what}:\n  expected {message}\n  found    {found}"));
        }
    }

    #[track_caller]
    fn judge(self, least: usize) {
        assert!(self.wrong.is_empty(), "{} of {}:\n{}", self.wrong.len(), self.cases, self.wrong.join("\n"));
        assert!(self.cases >= least, "only {} cases", self.cases);
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
            let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
            assert!(kib < MOST_KIB, "{kib} KiB were taken at the peak");
        }
    }
}
