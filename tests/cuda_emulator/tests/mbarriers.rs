//! Mbarriers and asynchronous stores on a device of compute capability 9.0: exchanges between blocks, and faults.

mod common;

use common::{Device, emulated, grid};
use cudarc::driver::sys::cudaError_enum as Code;
use cudarc::driver::{DriverError, LaunchConfig, PushKernelArg};

const CAPABILITY: (&str, &str) = ("CAPABILITY", "90");

/// Orders, and delays of stores, in which correct kernels must give the same results.
const ORDERS: [&[(&str, &str)]; 6] = [
    &[CAPABILITY],
    &[CAPABILITY, ("SEED", "1")],
    &[CAPABILITY, ("SEED", "2")],
    &[CAPABILITY, ("SEED", "77")],
    &[CAPABILITY, ("RACES", "0")],
    &[CAPABILITY, ("RACES", "0"), ("SEED", "5")],
];

/// Launches a kernel of the fixture with a buffer of `words` words and some numbers; returns the buffer.
fn launch(kernel: &str, shape: LaunchConfig, words: usize, numbers: &[u32]) -> Result<Vec<u32>, DriverError> {
    let device = Device::with_fixture("mbarrier");
    let stream = &device.stream;
    let mut out = stream.alloc_zeros::<u32>(words)?;
    let kernel = device.kernel(kernel);
    let mut launch = stream.launch_builder(&kernel);
    launch.arg(&mut out);
    for number in numbers {
        launch.arg(number);
    }
    // SAFETY: the arguments are the kernel's.
    unsafe { launch.launch(shape) }?;
    stream.synchronize()?;
    stream.clone_dtoh(&out)
}

/// Runs a kernel in every order, and compares its output.
fn assert_output(test: &str, kernel: &str, shape: LaunchConfig, numbers: &[u32], expected: &[u32]) {
    for settings in ORDERS {
        emulated(test, settings, || {
            assert_eq!(launch(kernel, shape, expected.len(), numbers).as_deref(), Ok(expected));
        });
    }
}

#[test]
fn blocks_exchange_words_round_by_round() {
    let rounds = 9;
    let mut words: [[u32; 7]; 2] = [[0; 7], std::array::from_fn(|w| w as u32)];
    for half in 0..2 * rounds as usize {
        let sum = words[1 - half % 2].iter().fold(0u32, |sum, word| sum.wrapping_mul(3).wrapping_add(*word));
        words[half % 2] = std::array::from_fn(|w| sum.wrapping_add(w as u32));
    }
    let [first, second] = words;
    let last = std::iter::zip(first, second)
        .fold(0u32, |last, (a, b)| last.wrapping_mul(3).wrapping_add(a).wrapping_add(b.wrapping_mul(5)));
    let expected = vec![last; 8 * 64];
    assert_output("blocks_exchange_words_round_by_round", "exchange", grid(8, 64, 0), &[rounds, 0], &expected);
}

#[test]
fn an_mbarrier_is_a_barrier_of_a_block() {
    let rounds = 7;
    let cell = |i: u32| (i + rounds) % 64 + (0..rounds).sum::<u32>();
    let expected: Vec<u32> = (0..64).map(|i| if i < 32 { cell(i) + 1000 * cell(i + 32) } else { 0 }).collect();
    assert_output("an_mbarrier_is_a_barrier_of_a_block", "arrivals", grid(1, 64, 0), &[rounds], &expected);
}

#[test]
fn wide_stores_and_arrivals_from_other_blocks() {
    let sum = |before: u32| {
        let places = [1, 10, 100, 1000];
        (0..4).map(|i| (before + i) * places[i as usize]).sum::<u32>() + 10_000 * 7 + 100_000 * before
    };
    let expected = [3, 0, 1, 2].map(sum);
    assert_output("wide_stores_and_arrivals_from_other_blocks", "wide", grid(4, 32, 0), &[], &expected);
}

/// A faulty kernel: words of its message, all of them, or, separated by bars, one of several.
fn caught(test: &str, kernel: &str, numbers: &[u32], words: &[&str]) {
    for settings in ORDERS.iter().filter(|settings| !settings.contains(&("RACES", "0"))) {
        let stderr = emulated(test, settings, || {
            let failed = Err(DriverError(Code::CUDA_ERROR_LAUNCH_FAILED));
            assert_eq!(launch(kernel, grid(4, 64, 0), 256, numbers), failed);
        });
        for word in words.iter().copied().chain([&*format!("kernel {kernel}"), "thread [", "instruction "]) {
            let found = word.split('|').any(|word| stderr.contains(word));
            assert!(found, "{word:?} is missing with {settings:?} in: {stderr}");
        }
    }
}

macro_rules! faults {
    ($($name:ident: $kernel:literal, $numbers:expr, [$($word:literal),*];)*) => {$(
        #[test]
        fn $name() {
            caught(stringify!($name), $kernel, &$numbers, &[$($word),*]);
        }
    )*};
}

// An exchange receives the number of rounds and the number of the fault.
faults! {
    words_read_without_a_wait: "exchange", [3, 1], ["race: Read of shared", "Write by thread"];
    words_read_after_a_barrier_only: "exchange", [3, 2], ["race: Read of shared", "Write by thread"];
    an_expectation_before_all_have_seen_the_round: "exchange", [3, 3], ["race: a phase of the mbarrier|race: Write of shared", "of block rank"];
    one_byte_too_many: "exchange", [3, 4], ["waits forever", "0 arrivals and 1 bytes", "of block rank"];
    words_overwritten_while_they_are_read: "exchange", [3, 5], ["race: Write of shared|race: Read of shared"];
    words_overwritten_without_a_barrier: "exchange", [3, 6], ["race"];
    a_block_that_ends_before_words_come: "exchange", [3, 7], ["rank 2", "ended"];
    a_block_that_has_not_begun: "exchange", [3, 8], ["may not have begun"];
    an_mbarrier_of_another_block: "exchange", [3, 9], ["the mbarrier of rank"];
    a_phase_too_far_ahead: "exchange", [1, 10], ["race|waits forever"];
    a_block_that_computes_nothing: "exchange", [3, 11], ["race: bytes for the mbarrier", "unordered with the end of its last phase"];
    more_arrivals_than_a_phase_has: "too_many_arrivals", [], ["1 arrivals at an mbarrier whose phase waits for 0"];
    fewer_arrivals_than_a_phase_has: "too_few_arrivals", [], ["waits forever", "for 1 arrivals and 0 bytes"];
    an_mbarrier_that_nobody_initialised: "no_barrier_there", [], ["no mbarrier was initialised"];
    an_mbarrier_that_not_all_have_seen: "unseen_barrier", [], ["race|no mbarrier was initialised"];
    a_write_after_the_arrival: "write_after_arrival", [], ["race: ", "of shared address"];
}
