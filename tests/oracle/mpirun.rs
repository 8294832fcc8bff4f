//! Runs of the command with several ranks: Open MPI's `mpirun`, without which they fail.

use super::{places, random_bytes};
use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The time limit of a run: generous, because it must catch runs that hang, not slow machines.
pub const LIMIT: Duration = Duration::from_secs(300);

/// Starts the command with this number of ranks in this folder, with its output in two files there. `shell`: commands that each rank
/// runs first.
pub fn start(folder: &Path, ranks: usize, shell: &str, arguments: &str) -> Child {
    mpirun(&[], folder, ranks, shell, &places::harmonium(), arguments)
}

/// The same with options of mpirun and another program.
pub fn mpirun(options: &[&str], folder: &Path, ranks: usize, shell: &str, program: &Path, arguments: &str) -> Child {
    let file = |name| Stdio::from(File::create(folder.join(name)).expect("a file"));
    let mut command = Command::new("mpirun");
    command.current_dir(folder).args(["--oversubscribe", "--allow-run-as-root", "-n", &ranks.to_string()]);
    command.args(options).args(["sh", "-c", &format!("{shell} exec \"$0\" \"$@\"")]).arg(program);
    command.args(arguments.split_whitespace()).stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
    command.spawn().expect("Open MPI's mpirun")
}

/// Exit status, standard output and standard error of a run that ends in time.
#[track_caller]
pub fn end(folder: &Path, mut child: Child) -> (i32, String, String) {
    let begin = Instant::now();
    let text = |name| String::from_utf8_lossy(&fs::read(folder.join(name)).expect("a file")).into_owned();
    loop {
        match child.try_wait().expect("a status") {
            Some(status) => return (status.code().unwrap_or(-1), text("stdout"), text("stderr")),
            None if begin.elapsed() < LIMIT => thread::sleep(Duration::from_millis(10)),
            None => {
                let _ = child.kill();
                panic!("after {LIMIT:?}: {}{}", text("stdout"), text("stderr"));
            }
        }
    }
}

/// Standard output of a run with this number of ranks that succeeds.
#[track_caller]
pub fn fine_on(folder: &Path, ranks: usize, arguments: &str) -> String {
    fine_after(folder, ranks, "", arguments).0
}

/// Standard output and standard error of such a run, before which each rank runs shell commands.
#[track_caller]
pub fn fine_after(folder: &Path, ranks: usize, shell: &str, arguments: &str) -> (String, String) {
    let (status, stdout, stderr) = end(folder, start(folder, ranks, shell, arguments));
    assert_eq!(status, 0, "{ranks} ranks, {arguments}: {stderr}");
    (stdout, stderr)
}

/// The messages of the ranks, without those of mpirun.
pub fn errors(stderr: &str) -> Vec<&str> {
    stderr.lines().filter(|line| line.starts_with("error: ") || line.contains("panicked")).collect()
}

/// Rows of three bits, a state of four and two numbers. With `has_missing` every eleventh value is missing.
pub fn mixed(has_missing: bool) -> Vec<f32> {
    let mut random = random_bytes(6 * 50, 1.0, 3).into_iter().map(|byte| f32::from(byte) / 256.0);
    let mut next = move || random.next().expect("a number");
    let row = |_| {
        let bits = [0.3, 0.5, 0.9].map(|p| if next() < p { 1.0 } else { 0.0 });
        let state = (next() * 4.0).floor();
        [bits[0], bits[1], bits[2], state, 100.0 + 10.0 * next(), 5.0 * state + next()]
    };
    let all = (0..50).flat_map(row).collect::<Vec<_>>().into_iter();
    all.enumerate().map(|(n, x)| if has_missing && n % 11 == 10 { f32::NAN } else { x }).collect()
}

/// Asserts that a run of three ranks fails with this status and that one rank reports this message.
#[track_caller]
pub fn fails(folder: &Path, shell: &str, arguments: &str, status: i32, expected: &str) {
    let (found, stdout, stderr) = end(folder, start(folder, 3, shell, arguments));
    let errors = errors(&stderr);
    assert!(errors.len() == 1 && errors[0].contains(expected), "{arguments}: expected {expected}, found {stderr}");
    assert_eq!((found, stdout.as_str()), (status, ""), "{arguments}: {stderr}");
}
