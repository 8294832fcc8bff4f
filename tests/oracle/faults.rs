//! Faults planted in the kernels, each in a process of its own.

use super::device::{self, apart, emulator, task};
use harmonium::{Cuda, Program};

/// A fault: its name, the text in the source, the replacement, and a word from the report that should find it.
pub struct Fault {
    pub name: &'static str,
    pub from: &'static str,
    pub to: &'static str,
    pub found: &'static str,
}

/// Runs a test again for every fault, with the orders of threads that the seeds choose.
pub fn catches(
    test: &str, capability: &str, faults: &[Fault], seeds: &[&str],
    verdict: impl Fn(Program<'_>) -> std::result::Result<(), String>,
) {
    let (source, _) = Cuda::kernels();
    if let Some(name) = task() {
        let fault = faults.iter().find(|fault| fault.name == name);
        let source = fault.map_or(source.to_owned(), |fault| source.replace(fault.from, fault.to));
        match verdict(Program::Source(&source)) {
            Ok(()) => println!("as the CPU"),
            Err(why) => println!("caught: {why}"),
        }
        return;
    }
    if !emulator() {
        return;
    }
    let device = ("HARMONIUM_EMULATOR_CAPABILITY", capability);
    let (_, said) = apart(test, "no fault", &[device]);
    if said.contains("libnvrtc cannot be loaded") {
        return device::skipped("the faults need NVRTC, and libnvrtc cannot be loaded");
    }
    assert!(said.contains("as the CPU"), "without a fault: {said}");
    for Fault { name, from, to, found } in faults {
        assert!(source.contains(from), "{name}: the source has changed: {from}");
        assert_ne!(from, to);
        // Every order of the threads must find the fault; at least one of them must find it by the expected report.
        let all_said = Vec::from_iter(seeds.iter().map(|&seed| {
            let settings = [device, ("HARMONIUM_EMULATOR_SEED", seed), ("HARMONIUM_EMULATOR_APPROX_SEED", "1")];
            let (_, said) = apart(test, name, &settings);
            assert!(!said.contains("as the CPU") && said.contains("caught: "), "{name}: not caught: {said}");
            assert!(!said.contains("no kernels"), "{name}: does not compile: {said}");
            said
        }));
        assert!(all_said.iter().any(|said| said.contains(found)), "{name}: found otherwise: {all_said:?}");
        println!("{name}: {found}");
    }
}
