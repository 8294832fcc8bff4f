//! Runs a test a second time, in a process that finds the emulator on its library path.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, LaunchConfig};
use cudarc::nvrtc::Ptx;

const INSIDE: &str = "HARMONIUM_EMULATOR_TEST_INSIDE";

/// A folder of this test with links under the names of the real libraries.
fn links(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("a test knows its own path");
    let deps = exe.parent().expect("a test lies in a folder");
    let library = deps.join("libharmonium_cuda_emulator.so");
    assert!(library.exists(), "{} is not built", library.display());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("the folder can be created");
    for name in ["libcuda.so", "libcublas.so"] {
        let link = folder.join(name);
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&library, &link).expect("the link can be created");
    }
    folder
}

/// Runs `body` with the emulator and the given settings, and returns its stderr.
///
/// In the process with the emulator, the body runs and the process ends.
pub fn emulated(test: &str, settings: &[(&str, &str)], body: impl FnOnce()) -> String {
    if std::env::var_os(INSIDE).is_some() {
        body();
        std::process::exit(0);
    }
    let id = settings.iter().map(|(k, v)| format!("-{k}-{v}")).collect::<String>();
    let exe = std::env::current_exe().expect("a test knows its own path");
    let mut command = Command::new(exe);
    command.args(["--exact", test, "--nocapture", "--test-threads=1", "--include-ignored"]);
    command.env(INSIDE, "1").env("LD_LIBRARY_PATH", links(&format!("{test}{id}")));
    for (key, value) in settings {
        command.env(format!("HARMONIUM_EMULATOR_{key}"), value);
    }
    let output = command.output().expect("a test can be started");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{test} with {settings:?} failed:\n{stderr}");
    stderr
}

/// A device with a module of the fixtures.
#[allow(dead_code, reason = "not every test uses every part")]
pub struct Device {
    pub context: Arc<CudaContext>,
    pub stream: Arc<CudaStream>,
    pub module: Arc<CudaModule>,
}

#[allow(dead_code, reason = "not every test uses every part")]
impl Device {
    /// Loads the PTX of a fixture.
    pub fn with_fixture(name: &str) -> Self {
        let path = format!("{}/tests/fixtures/{name}.ptx", env!("CARGO_MANIFEST_DIR"));
        Self::with_ptx(&std::fs::read_to_string(path).expect("the fixture exists"))
    }

    /// Loads PTX.
    pub fn with_ptx(text: &str) -> Self {
        let context = CudaContext::new(0).expect("there is a device");
        // SAFETY: everything here uses one stream.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().expect("a stream can be created");
        let module = context.load_module(Ptx::from_src(text)).expect("the module loads");
        Self { context, stream, module }
    }

    /// A kernel of the module.
    pub fn kernel(&self, name: &str) -> CudaFunction {
        self.module.load_function(name).expect("the kernel exists")
    }
}

/// A one-dimensional launch.
#[allow(dead_code, reason = "not every test uses every part")]
pub fn grid(blocks: u32, threads: u32, shared_mem_bytes: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes }
}
