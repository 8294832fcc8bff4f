//! The first signal stops training with a checkpoint, which resumes with the same bits. The second one ends the process at once,
//! and so does the first one while samples are drawn.

use crate::oracle::program::{SMALL, UPDATES, command, fine, folder, outcome};
use harmonium::Checkpoint;
use std::{
    io::{self, BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

/// Starts a run without end and waits for its first line.
fn endless(folder: &Path, out: &str, k: &str) -> (Child, BufReader<ChildStdout>) {
    let options = format!(
        "train --data data --hidden 8 --epochs 1000000 --batch-size 10 --k {k} --log-every 1 --likelihood off --checkpoint-every 1000000"
    );
    let mut command = command(folder, &format!("{options} --out {out}"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    lines.read_line(&mut String::new()).expect("a line");
    (child, lines)
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().expect("kill");
    assert!(status.success());
}

#[test]
fn a_signal_stops_with_a_checkpoint() {
    let folder = folder("signals");
    for (name, status) in [("INT", 130), ("TERM", 143)] {
        let (child, mut lines) = endless(&folder, name, "2");
        // A few epochs, with a line each.
        for _ in 0..5 {
            lines.read_line(&mut String::new()).expect("a line");
        }
        signal(&child, name);
        // The pipe must be read until the end, or it fills up.
        io::copy(&mut lines, &mut io::sink()).expect("all lines");
        let output = child.wait_with_output().expect("ended");
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(status), "{stderr}");
        let said = stderr.lines().last().expect("a line");
        let updates = said.strip_prefix("stopped after update ").and_then(|said| said.split_once(';'));
        let (updates, rest) = updates.unwrap_or_else(|| panic!("{stderr}"));
        assert_eq!(rest, format!(" to resume: harmonium train --resume {name}"));
        let updates: u64 = updates.parse().expect("a number");
        let checkpoint = Checkpoint::load(&folder.join(name).join("checkpoint.safetensors")).expect("a checkpoint");
        assert_eq!(checkpoint.trainer.updates, updates);

        let stop = updates + 7;
        fine(&folder, &format!("train --quiet --resume {name} --stop-after {stop}"));
        let again = "train --quiet --data data --hidden 8 --epochs 1000000 --batch-size 10 --k 2 --log-every 1 --likelihood off --checkpoint-every 1000000";
        fine(&folder, &format!("{again} --out again --stop-after {stop}"));
        assert!(outcome(&folder.join(name)) == outcome(&folder.join("again")), "{name} after update {updates}");
    }
}

#[test]
fn a_second_signal_stops_at_once() {
    let folder = folder("twice");
    for (first, second, status) in [("INT", "INT", 130), ("TERM", "TERM", 143), ("INT", "TERM", 143)] {
        // An update without end.
        let (mut child, _lines) = endless(&folder, "out", "4000000000");
        signal(&child, first);
        thread::sleep(Duration::from_millis(200));
        assert_eq!(child.try_wait().expect("asked"), None, "the first signal waits for the update");
        // On a busy machine the first one may still be pending, and two pending signals of a kind are one.
        let ended = (0..300).find_map(|_| {
            signal(&child, second);
            thread::sleep(Duration::from_millis(200));
            child.try_wait().expect("asked")
        });
        assert_eq!(ended.and_then(|status| status.code()), Some(status));
        assert!(!folder.join("out/checkpoint.safetensors").exists());
    }
}

#[test]
fn a_signal_does_not_wait_for_samples() {
    let folder = folder("late");
    for (name, status) in [("INT", 130), ("TERM", 143)] {
        let mut command =
            command(&folder, &format!("{SMALL} --out {name} --image 3x5 --samples 2000").replace("--quiet", ""));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map(|line| line.expect("a line"));
        assert!(lines.any(|line| line.starts_with("epoch 3")), "the last epoch");
        // The run draws samples, or soon will. (All rows take seconds, more than twenty times as long as this.)
        thread::sleep(Duration::from_millis(300));
        signal(&child, name);
        lines.for_each(drop);
        assert_eq!(child.wait().expect("ended").code(), Some(status));
        assert!(!folder.join(name).join("samples.png").exists());
        // It ends instead of continuing.
        fine(&folder, &format!("train --quiet --resume {name} --samples 1"));
        assert!(folder.join(name).join("samples.png").exists());
        let checkpoint = Checkpoint::load(&folder.join(name).join("checkpoint.safetensors")).expect("a checkpoint");
        assert_eq!(checkpoint.trainer.updates, UPDATES);
    }
}
