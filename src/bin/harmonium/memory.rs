//! Checks that a run fits in memory, before it allocates.

use crate::ranks;
use harmonium::{Error, Result, Shape};
use std::fs;

/// The memory of a run besides its model, chains and minibatch.
#[derive(Clone, Copy, Default)]
pub struct Besides {
    /// Number of further models: mean parameters, velocities.
    pub models: usize,
    /// Values of shuffled or binarised rows, and the bytes of each.
    pub values: usize,
    pub bytes: usize,
}

/// Fails if a run of these sizes needs more than the free memory.
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
        expected: format!("sizes that fit into {} MiB of free memory", mib(available)),
        found: format!("{shape} weights, {n_chains} chains and {batch_size} rows: {} MiB", mib(needed)),
    })
}

/// Fails if a record of `numbers` values of each chain at each of `steps` steps needs more than the free memory.
pub fn check_record(shape: Shape, n_chains: usize, steps: usize, numbers: usize) -> Result<()> {
    let (free, chains) = (u128::from(free()), n_chains as u128);
    let states = chains.saturating_mul(16 * shape.n_visible() as u128 + 8 * shape.n_hidden() as u128);
    let record = chains.saturating_mul(steps as u128).saturating_mul(8 * numbers as u128);
    if states.saturating_add(record) <= free {
        return Ok(());
    }
    Err(Error::Argument {
        what: "--chains and --steps",
        expected: format!("numbers that fit into {} MiB of free memory", free >> 20),
        found: format!("{n_chains} and {steps}"),
    })
}

/// An upper bound of the bytes that grow with the sizes. Weights: the model, a copy for a file, the file's bytes twice, and both
/// layouts for the kernels, with rows padded to whole tiles. Chains: pre-activations, means and their image.
fn needed(shape: Shape, n_chains: usize, batch_size: usize) -> u128 {
    let (visible, hidden) = (shape.n_visible() as u128, shape.n_hidden() as u128);
    let tiled = |units: u128| units.next_multiple_of(64);
    let weights = 16 * visible * hidden + 4 * (visible * tiled(hidden) + hidden * tiled(visible));
    weights + n_chains as u128 * (16 * tiled(visible) + 8 * tiled(hidden)) + batch_size as u128 * 4 * tiled(hidden)
}

/// The free memory in bytes, divided by the ranks on this machine. Without limit if the system does not report it.
pub fn free() -> u64 {
    available().map_or(u64::MAX, |bytes| u64::try_from(bytes).unwrap_or(u64::MAX) / ranks::on_this_machine())
}

/// Available bytes without swapping: those of the machine, or of the control group if it has fewer.
fn available() -> Option<u128> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let machine = meminfo(&read("/proc/meminfo")?)?;
    let group = read("/sys/fs/cgroup/memory.max")
        .and_then(|most| group(&most, &read("/sys/fs/cgroup/memory.current")?, &read("/sys/fs/cgroup/memory.stat")?));
    Some(group.map_or(machine, |group| group.min(machine)))
}

/// The remaining bytes of a control group. The kernel can drop its cached files.
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
    fn sizes_are_checked() {
        let shape = |n_visible, n_hidden| Shape::new(n_visible, n_hidden).expect("a right shape");
        check_within(64 << 20, shape(784, 500), 20, 20, Besides::default())
            .expect("the tutorial's run fits into 64 MiB");
        let error = check_within(1 << 30, shape(784, 2_000_000), 20, 20, Besides::default())
            .expect_err("too large")
            .to_string();
        let expected = "--hidden, --chains and --batch-size: expected sizes that fit into 1024 MiB of free memory, \
                        found 784 × 2000000 weights, 20 chains and 20 rows: 36713 MiB";
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
