//! The CUDA device of the tests: a real one, or the emulator on the library path.

use harmonium::{Cuda, CudaError, Error, Program, Result, Sums};
use std::{io::Write, process::Command, sync::OnceLock};

/// What the emulator calls itself.
pub const EMULATOR: &str = "Harmonium CUDA emulator";

/// Set where a test runs itself again, to what it is to do there.
const INSIDE: &str = "HARMONIUM_CUDA_TASK";

/// Whether nobody else uses the device, so that a test may fill it: `HARMONIUM_CUDA=alone`, or a device of its own.
pub fn alone() -> bool {
    let alone = std::env::var_os("HARMONIUM_CUDA").is_some_and(|value| value == "alone") || task().is_some();
    if !alone {
        not_applicable("others may use the device, as HARMONIUM_CUDA=alone would deny");
    }
    alone
}

/// Whether it is the emulator's.
pub fn is_emulated(cuda: &Cuda) -> bool {
    cuda.name() == EMULATOR
}

/// Device 0; `None`, after saying so, where there is no driver or no device. All tests of a process share one handle, because
/// each `Cuda::new` loads the kernels anew.
///
/// # Panics
/// Where there should be a device: another error, or `HARMONIUM_CUDA=required` (or `alone`).
pub fn cuda() -> Option<Cuda> {
    present(opened())
}

/// Device 0 with cuBLAS's sums; without cuBLAS as without a driver.
pub fn cuda_gemm() -> Option<Cuda> {
    static OPENED: OnceLock<Result<Cuda>> = OnceLock::new();
    present(OPENED.get_or_init(|| opened()?.with_sums(Sums::Gemm)).clone())
}

fn opened() -> Result<Cuda> {
    static OPENED: OnceLock<Result<Cuda>> = OnceLock::new();
    OPENED.get_or_init(|| Cuda::with_program(0, program())).clone()
}

/// The kernels that this run is to test: `HARMONIUM_CUDA_KERNELS=compiled` takes what NVRTC makes of the source, in place of the
/// PTX that comes with the crate.
///
/// # Panics
/// With another value of it.
fn program() -> Program<'static> {
    match std::env::var("HARMONIUM_CUDA_KERNELS").as_deref() {
        Err(_) => Program::Own,
        Ok("compiled") => Program::Compiled,
        Ok(other) => panic!("HARMONIUM_CUDA_KERNELS: expected compiled, found {other}"),
    }
}

fn present(opened: Result<Cuda>) -> Option<Cuda> {
    match opened {
        Ok(cuda) => Some(cuda),
        Err(Error::Cuda(why @ (CudaError::NoDriver | CudaError::NoDevice { .. } | CudaError::NoCublas))) => {
            skipped(&why.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Says, past the test harness, that a test does nothing.
///
/// # Panics
/// With `HARMONIUM_CUDA=required` or `alone`.
pub fn skipped(why: &str) {
    let required = std::env::var_os("HARMONIUM_CUDA").is_some_and(|value| value == "required" || value == "alone");
    assert!(!required, "skipped: {why}");
    say("skipped", why);
}

/// Says that a test has nothing to do on the device that is there, which is no failure wherever a device is required.
pub fn not_applicable(why: &str) {
    say("not applicable", why);
}

fn say(what: &str, why: &str) {
    let name = std::thread::current().name().unwrap_or("a CUDA test").to_owned();
    let _ = writeln!(std::io::stderr(), "{name}: {what}: {why}");
}

/// Runs `inside` of a test in a process of its own. Tells what it said, and whether it ended well.
pub fn apart(test: &str, task: &str, settings: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().expect("a test knows its own path"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(INSIDE, task);
    for (name, value) in settings {
        command.env(name, value);
    }
    let output = command.output().expect("a test can be started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    (output.status.success(), said)
}

/// What this process is to do, where a test has started it.
pub fn task() -> Option<String> {
    std::env::var(INSIDE).ok()
}

/// Whether the emulator is there, after saying what is not. A real device is no failure: it cannot be told to fail.
pub fn emulator() -> bool {
    let Some(cuda) = cuda() else { return false };
    if !is_emulated(&cuda) {
        not_applicable("the device is not the emulator");
        return false;
    }
    true
}
