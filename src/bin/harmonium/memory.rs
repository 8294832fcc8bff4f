//! Whether a run fits in memory, found out before any of it is asked for.

use crate::ranks;
use harmonium::{Error, Result, Shape};
use std::fs;

/// What a run keeps besides a model, chains and a batch.
#[derive(Clone, Copy, Default)]
pub struct Besides {
    /// Models as they are computed with: means of parameters, velocities.
    pub models: usize,
    /// Values of the rows that an epoch shows in another order, or as bits, and the bytes of each.
    pub values: usize,
    pub bytes: usize,
}

/// Fails where a run of these sizes needs more memory than there is.
pub fn check(shape: Shape, n_chains: usize, batch_size: usize, besides: Besides) -> Result<()> {
    check_within(free().into(), shape, n_chains, batch_size, besides)
}

fn check_within(available: u128, shape: Shape, n_chains: usize, batch_size: usize, besides: Besides) -> Result<()> {
    let models = besides.models as u128 * needed(shape, 0, 0);
    let needed = needed(shape, n_chains, batch_size) + models + besides.values as u128 * besides.bytes as u128;
    if needed <= available {
        return Ok(());
    }
    let mib = |bytes: u128| bytes.div_ceil(1 << 20);
    Err(Error::Argument {
        what: "--hidden, --chains and --batch-size",
        expected: format!("sizes that fit into the {} MiB of memory that are free", mib(available)),
        found: format!("{shape} weights, {n_chains} chains and {batch_size} rows: {} MiB", mib(needed)),
    })
}

/// Fails where so many chains, of which `numbers` are kept at each of `steps` steps, need more memory than there is.
pub fn check_record(shape: Shape, n_chains: usize, steps: usize, numbers: usize) -> Result<()> {
    let (free, chains) = (u128::from(free()), n_chains as u128);
    let states = chains.saturating_mul(16 * shape.n_visible() as u128 + 8 * shape.n_hidden() as u128);
    let record = chains.saturating_mul(steps as u128).saturating_mul(8 * numbers as u128);
    if states.saturating_add(record) <= free {
        return Ok(());
    }
    Err(Error::Argument {
        what: "--chains and --steps",
        expected: format!("as many as fit into the {} MiB of memory that are free", free >> 20),
        found: format!("{n_chains} and {steps}"),
    })
}

/// An upper bound but for what does not grow with the sizes. Weights: the model, a copy for a file, the file's bytes twice,
/// and both forms that are computed with, their rows filled up to whole tiles. Chains: pre-activations and means, and their
/// picture.
fn needed(shape: Shape, n_chains: usize, batch_size: usize) -> u128 {
    let (visible, hidden) = (shape.n_visible() as u128, shape.n_hidden() as u128);
    let tiled = |units: u128| units.next_multiple_of(64);
    let weights = 16 * visible * hidden + 4 * (visible * tiled(hidden) + hidden * tiled(visible));
    weights + n_chains as u128 * (16 * tiled(visible) + 8 * tiled(hidden)) + batch_size as u128 * 4 * tiled(hidden)
}

/// How much memory data may take, where the system tells: of this machine's free memory the part of this rank.
pub fn free() -> u64 {
    available().map_or(u64::MAX, |bytes| u64::try_from(bytes).unwrap_or(u64::MAX) / ranks::on_this_machine())
}

/// Bytes that can be had without swapping: of the machine, or of the control group where it allows less.
fn available() -> Option<u128> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let machine = meminfo(&read("/proc/meminfo")?)?;
    let group = read("/sys/fs/cgroup/memory.max")
        .and_then(|most| group(&most, &read("/sys/fs/cgroup/memory.current")?, &read("/sys/fs/cgroup/memory.stat")?));
    Some(group.map_or(machine, |group| group.min(machine)))
}

/// What a control group still allows: of what it uses, the contents of files can be dropped.
fn group(most: &str, used: &str, statistics: &str) -> Option<u128> {
    let number = |text: &str| text.trim().parse::<u128>().ok();
    let files = statistics.lines().find_map(|line| line.strip_prefix("file ")).and_then(number)?;
    Some(number(most)?.saturating_sub(number(used)?.saturating_sub(files)))
}

/// `MemAvailable` in bytes.
fn meminfo(text: &str) -> Option<u128> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u128 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_weighed() {
        let shape = |n_visible, n_hidden| Shape::new(n_visible, n_hidden).expect("a right shape");
        check_within(64 << 20, shape(784, 500), 20, 20, Besides::default())
            .expect("the tutorial's run fits into 64 MiB");
        let error = check_within(1 << 30, shape(784, 2_000_000), 20, 20, Besides::default())
            .expect_err("too large")
            .to_string();
        let expected = "--hidden, --chains and --batch-size: expected sizes that fit into the 1024 MiB of memory that are \
                        free, found 784 × 2000000 weights, 20 chains and 20 rows: 36713 MiB";
        assert_eq!(error, expected);
        check_within(1 << 30, shape(10, 10), 1_000_000, 1, Besides::default()).expect_err("too many chains");
        let means = Besides { models: 8, ..Besides::default() };
        check_within(64 << 20, shape(784, 500), 20, 20, means).expect_err("eight more models");
        let rows = Besides { values: 50_000 * 784, bytes: 1, ..Besides::default() };
        check_within(32 << 20, shape(784, 50), 20, 20, rows).expect_err("a copy of the rows");
        assert_eq!(meminfo("MemTotal: 9 kB\nMemAvailable:    1024 kB\n"), Some(1 << 20));
        assert_eq!(meminfo("MemTotal: 9 kB\n"), None);
        assert_eq!(group("1000\n", "900\n", "anon 300\nfile 600\n"), Some(700));
        assert_eq!(group("max\n", "900\n", "anon 300\nfile 600\n"), None);
    }
}
