//! The CUDA device of the tests: a GPU, or the emulator on the library path.

use harmonium::{Cuda, CudaError, Error, Program, Result, Sums};
use std::{io::Write, process::Command, sync::OnceLock};

/// The name that the emulator reports.
pub const EMULATOR: &str = "Harmonium CUDA emulator";

/// The environment variable with the task of a test that runs itself in another process.
const INSIDE: &str = "HARMONIUM_CUDA_TASK";

/// Whether the tests have the device to themselves, so that a test may fill it: `HARMONIUM_CUDA=alone`, or an exclusive device.
pub fn alone() -> bool {
    let alone = std::env::var_os("HARMONIUM_CUDA").is_some_and(|value| value == "alone") || task().is_some();
    if !alone {
        not_applicable("others may use the device, as HARMONIUM_CUDA=alone would deny");
    }
    alone
}

/// Whether the device is the emulator.
pub fn is_emulated(cuda: &Cuda) -> bool {
    cuda.name() == EMULATOR
}

/// Device 0, or `None` with a message if there is no driver or no device. All tests of a process share one handle, because each
/// `Cuda::new` loads the kernels again.
///
/// # Panics
/// If a device is expected: on another error, or with `HARMONIUM_CUDA=required` (or `alone`).
pub fn cuda() -> Option<Cuda> {
    present(opened())
}

/// Device 0 with cuBLAS's sums. A missing cuBLAS counts as a missing driver.
pub fn cuda_gemm() -> Option<Cuda> {
    static OPENED: OnceLock<Result<Cuda>> = OnceLock::new();
    present(OPENED.get_or_init(|| opened()?.with_sums(Sums::Gemm)).clone())
}

fn opened() -> Result<Cuda> {
    static OPENED: OnceLock<Result<Cuda>> = OnceLock::new();
    OPENED.get_or_init(|| Cuda::with_program(0, program())).clone()
}

/// The kernels to test. `HARMONIUM_CUDA_KERNELS=compiled` selects kernels that NVRTC compiles from the source, instead of the PTX
/// that comes with the crate.
///
/// # Panics
/// If the variable has another value.
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

/// Reports, despite the test harness, that a test is skipped.
///
/// # Panics
/// With `HARMONIUM_CUDA=required` or `alone`.
pub fn skipped(why: &str) {
    let required = std::env::var_os("HARMONIUM_CUDA").is_some_and(|value| value == "required" || value == "alone");
    assert!(!required, "skipped: {why}");
    say("skipped", why);
}

/// Reports that a test does not apply to the present device, which is not a failure even if a device is required.
pub fn not_applicable(why: &str) {
    say("not applicable", why);
}

fn say(what: &str, why: &str) {
    let name = std::thread::current().name().unwrap_or("a CUDA test").to_owned();
    let _ = writeln!(std::io::stderr(), "{name}: {what}: {why}");
}

/// Runs `inside` of a test in a process of its own. Returns its output, and whether it succeeded.
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

/// The task of this process, if a test started it.
pub fn task() -> Option<String> {
    std::env::var(INSIDE).ok()
}

/// Whether the emulator is there; if not, reports that. A GPU is not a failure: it cannot be made to fail.
pub fn emulator() -> bool {
    let Some(cuda) = cuda() else { return false };
    if !is_emulated(&cuda) {
        not_applicable("the device is not the emulator");
        return false;
    }
    true
}
