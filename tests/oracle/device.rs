//! The CUDA device of the tests: a real one, or the emulator on the library path.

use harmonium::{Cuda, CudaError, Error, Result, Sums};
use std::{io::Write, process::Command, sync::OnceLock};

/// What the emulator calls itself.
pub const EMULATOR: &str = "Harmonium CUDA emulator";

/// Set where a test runs itself again, to what it is to do there.
const INSIDE: &str = "HARMONIUM_CUDA_TASK";

/// Device 0; `None`, after saying so, where there is no driver or no device. All tests of a process share one handle, because
/// each `Cuda::new` compiles the kernels, which takes NVRTC a second.
///
/// # Panics
/// Where there should be a device: another error, or `HARMONIUM_CUDA=required`.
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
    OPENED.get_or_init(|| Cuda::new(0)).clone()
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
pub fn skipped(why: &str) {
    assert!(std::env::var_os("HARMONIUM_CUDA").is_none_or(|value| value != "required"), "skipped: {why}");
    let name = std::thread::current().name().unwrap_or("a CUDA test").to_owned();
    let _ = writeln!(std::io::stderr(), "{name}: skipped: {why}");
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

/// Whether the emulator is there, after saying what is not.
pub fn emulator() -> bool {
    let Some(cuda) = cuda() else { return false };
    if cuda.name() != EMULATOR {
        skipped("the device is not the emulator");
        return false;
    }
    true
}
