//! Files after a killed process, a full disk, a read-only folder, or changed bytes.
//!
//! (`src/storage/tests.rs` simulates power failures, on a disk that loses everything that was not flushed.)

use crate::oracle::{byte_rows, generator, random_bytes, shape, uniform};
use harmonium::{
    Algorithm, Checkpoint, Cpu, Error, Monitor, Rbm, Settings, Trainer,
    checkpoint::{Place, fingerprint},
};
use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("faults").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

// Killed processes

const NV: usize = 200;
const NH: usize = 150;

/// Trains on generated rows, from a checkpoint or from the beginning, one update at a time.
struct Run {
    trainer: Trainer,
    settings: Settings,
    rbm: Rbm,
    rows: Vec<u8>,
    cpu: Cpu,
}

impl Run {
    fn new(from: Option<&Checkpoint>) -> Self {
        let cpu = Cpu::detect().expect("a CPU");
        let settings = Settings {
            algorithm: Algorithm::Pcd { n_chains: 5 },
            k: 1,
            monitor: Monitor::PseudoLikelihood,
            seed: 3,
            ..Settings::default()
        };
        let trainer = match from {
            Some(from) => Trainer::from_state(cpu, shape(NV, NH), settings, &from.trainer),
            None => Trainer::new(cpu, shape(NV, NH), settings),
        };
        let rbm = from.map_or_else(|| Rbm::new(shape(NV, NH), 1), |from| from.rbm.clone());
        Self { trainer: trainer.expect("a trainer"), settings, rbm, rows: random_bytes(10 * NV, 0.3, 1), cpu }
    }

    fn step(&mut self) {
        let mut lent = self.rbm.lend(self.cpu).expect("lent");
        self.trainer.step(&mut lent, byte_rows(&self.rows, NV), 0.05).expect("a step");
        lent.finish().expect("finished");
    }

    fn checkpoint(&mut self) -> Checkpoint {
        let trainer = self.trainer.state().expect("a state");
        let (place, data) = (Place::new(trainer.updates, 0, 0.0), fingerprint(byte_rows(&self.rows, NV)));
        Checkpoint::new(self.rbm.clone(), self.settings, trainer, place, data)
    }
}

/// The variable that makes this test program the victim: its working folder.
const VICTIM: &str = "HARMONIUM_TEST_VICTIM";
/// The variable that makes the victim overwrite its checkpoint in place, as a careless program would.
const CARELESS: &str = "HARMONIUM_TEST_CARELESS";

/// The victim: resumes from the checkpoint, saves after every update, then acknowledges it.
#[test]
fn victim() {
    let Some(folder) = env::var_os(VICTIM).map(PathBuf::from) else { return };
    let path = folder.join("checkpoint.safetensors");
    harmonium::storage::remove_temporaries(&folder).expect("no temporaries");
    let from = path.exists().then(|| Checkpoint::load(&path).expect("a checkpoint"));
    let mut run = Run::new(from.as_ref());
    loop {
        run.step();
        let checkpoint = run.checkpoint();
        if env::var_os(CARELESS).is_some() {
            let mut file = fs::File::create(&path).expect("a file");
            checkpoint
                .to_bytes()
                .expect("bytes")
                .chunks(4096)
                .for_each(|bytes| file.write_all(bytes).expect("written"));
        } else {
            checkpoint.save(&path).expect("saved");
        }
        println!("saved {}", checkpoint.trainer.updates);
        std::io::stdout().flush().expect("said");
    }
}

/// Starts the victim and kills it at a random moment. Returns the last update that it acknowledged.
fn kill_one(folder: &Path, careless: bool, moment: f64) -> u64 {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command
        .args(["--exact", "faults::victim", "--nocapture"])
        .env(VICTIM, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if careless {
        command.env(CARELESS, "1");
    }
    let mut child = command.spawn().expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    // The test harness may print at the beginning of the line.
    let saved = |line: &str| line.strip_suffix('\n')?.rsplit_once("saved ")?.1.parse::<u64>().ok();
    let mut last = 0;
    let mut line = String::new();
    while last == 0 && lines.read_line(&mut line).expect("a line") > 0 {
        last = saved(&line).unwrap_or(0);
        line.clear();
    }
    assert!(last > 0, "the victim has ended by itself");
    // Another thread kills it, while this one reads its pipe.
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_secs_f64(moment * 0.02));
        child.kill().expect("killed");
        child.wait().expect("ended")
    });
    while lines.read_line(&mut line).expect("a line") > 0 {
        last = saved(&line).unwrap_or(last);
        line.clear();
    }
    assert_eq!(killer.join().expect("joined").code(), None, "the victim has ended by itself");
    last
}

const KILLS: usize = 100;

#[test]
fn no_acknowledged_checkpoint_is_lost() {
    let folder = folder("kill");
    let mut generator = generator(1);
    let mut temporaries = 0;
    let mut last = None;
    for n in 0..KILLS {
        let acknowledged = kill_one(&folder, false, uniform(&mut generator));
        let found = Checkpoint::load(&folder.join("checkpoint.safetensors")).expect("readable after every kill");
        let updates = found.trainer.updates;
        assert!(updates == acknowledged || updates == acknowledged + 1, "kill {n}: {acknowledged}, found {updates}");
        temporaries += fs::read_dir(&folder).expect("a folder").count() - 1;
        last = Some(found);
    }
    harmonium::storage::remove_temporaries(&folder).expect("removed");
    assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 1, "a temporary file was left for good");

    // After a hundred kills, the result has the bits of an undisturbed run.
    let last = last.expect("a checkpoint");
    let mut run = Run::new(None);
    (0..last.trainer.updates).for_each(|_| run.step());
    assert!(run.checkpoint().to_bytes() == last.to_bytes());
    eprintln!("{KILLS} kills, {} updates, {temporaries} times within a write", last.trainer.updates);
}

#[test]
fn the_control_that_must_fail() {
    let folder = folder("careless");
    let mut generator = generator(2);
    let path = folder.join("checkpoint.safetensors");
    for n in 0..KILLS {
        kill_one(&folder, true, uniform(&mut generator));
        if let Err(error) = Checkpoint::load(&path) {
            eprintln!("kill {n}: {error}");
            return;
        }
    }
    panic!("{KILLS} kills have not torn a file that is overwritten in place: the test above would find nothing");
}

// Full disks and missing permissions

const SMALL: &str =
    "train --quiet --data data --hidden 400 --epochs 3 --batch-size 10 --k 1 --checkpoint-every 2updates";

/// Creates a folder with data and a run that stopped after 7 of 15 updates.
fn stopped(name: &str) -> PathBuf {
    let folder = folder(name);
    let mut bytes = vec![0, 0, 8, 2, 0, 0, 0, 50, 0, 0, 0, 15];
    bytes.extend(random_bytes(50 * 15, 0.4, 1));
    fs::write(folder.join("data"), bytes).expect("data");
    shell(&folder, &format!("$H {SMALL} --out whole && $H {SMALL} --out out --stop-after 7")).fine();
    folder
}

struct Outcome(i32, String);

impl Outcome {
    #[track_caller]
    fn fine(self) {
        assert_eq!((self.0, self.1.as_str()), (0, ""));
    }
}

/// Runs a script in which `$H` is the command.
fn shell(folder: &Path, script: &str) -> Outcome {
    shell_in(&mut Command::new("sh"), folder, script)
}

fn shell_in(command: &mut Command, folder: &Path, script: &str) -> Outcome {
    let command = command.current_dir(folder).env("H", env!("CARGO_BIN_EXE_harmonium")).args(["-c", script]);
    let output = command.output().expect("a shell");
    Outcome(output.status.code().expect("not killed"), String::from_utf8(output.stderr).expect("text"))
}

/// Runs a script as root of its own namespace, where it can mount file systems. `None` if the system does not allow this; an error in CI.
fn namespace(folder: &Path, script: &str) -> Option<Outcome> {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh"]);
        command
    };
    let allowed =
        unshare().args(["-c", "mount -t tmpfs none /mnt"]).output().is_ok_and(|output| output.status.success());
    if !allowed {
        assert!(env::var_os("CI").is_none(), "CI must try this, but it may not mount anything: {script}");
        eprintln!("no namespaces here: {script}");
        return None;
    }
    Some(shell_in(&mut unshare(), folder, script))
}

/// The final files of a run, without the log's column of seconds.
fn at_the_end(out: &Path) -> (Vec<u8>, Vec<u8>) {
    let mut checkpoint = Checkpoint::load(&out.join("checkpoint.safetensors")).expect("a checkpoint");
    checkpoint.place.seconds = 0.0;
    checkpoint.log.iter_mut().for_each(|epoch| epoch.seconds = 0.0);
    (fs::read(out.join("model.safetensors")).expect("a model"), checkpoint.to_bytes().expect("bytes"))
}

/// Every file of a folder.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    files.map(|path| (path.clone(), fs::read(path).expect("a file"))).collect()
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_grow() {
    let folder = stopped("limit");
    let out = folder.join("out");
    let before = snapshot(&out);
    // No file of more than 8 blocks of 512 bytes; a checkpoint has 30 000 bytes.
    let Outcome(status, stderr) = shell(&folder, "trap '' XFSZ; ulimit -f 8; exec $H train --quiet --resume out");
    assert_eq!((status, stderr.as_str()), (1, "error: out/checkpoint.safetensors: File too large (os error 27)\n"));
    assert!(snapshot(&out) == before, "what was there has changed");
    shell(&folder, "$H train --quiet --resume out").fine();
    assert!(at_the_end(&out) == at_the_end(&folder.join("whole")), "it did not go on to the bit");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let folder = stopped("full");
    // The folder is copied to a small disk, on which one file takes all room but 16 KiB.
    let script = "
        mkdir small && mount -t tmpfs -o size=256k none small && cp -r out data small && cd small || exit 9
        cp -r out ../before
        dd if=/dev/zero of=filler bs=4096 2>/dev/null
        truncate -s -16384 filler
        $H train --quiet --resume out
        echo status $? >&2
        cp -r out ../after
        rm filler
        $H train --quiet --resume out && cp -r out ../end";
    let Some(Outcome(status, stderr)) = namespace(&folder, script) else { return };
    let said = "error: out/checkpoint.safetensors: No space left on device (os error 28)\nstatus 1\n";
    assert_eq!((status, stderr.as_str()), (0, said));
    let names = |name: &str| {
        let files = snapshot(&folder.join(name));
        files.into_iter().map(|(path, bytes)| (path.file_name().map(Into::<PathBuf>::into), bytes)).collect::<Vec<_>>()
    };
    assert!(names("before") == names("after"), "what was there has changed");
    assert!(at_the_end(&folder.join("end")) == at_the_end(&folder.join("whole")), "it did not go on to the bit");
}

#[cfg(target_os = "linux")]
#[test]
fn a_read_only_folder() {
    let folder = stopped("read-only");
    let before = snapshot(&folder.join("out"));
    // Permissions do not bind root; a file system that is mounted read-only does.
    let script = "mount --bind out out && mount -o remount,ro,bind out && exec $H train --quiet --resume out";
    let Some(Outcome(status, stderr)) = namespace(&folder, script) else { return };
    assert_eq!((status, stderr.as_str()), (1, "error: out: Read-only file system (os error 30)\n"));
    assert!(snapshot(&folder.join("out")) == before);
    shell(&folder, "$H train --quiet --resume out").fine();
    assert!(at_the_end(&folder.join("out")) == at_the_end(&folder.join("whole")));
}

// Changed bytes

/// The bytes of a small checkpoint.
fn small() -> Vec<u8> {
    let cpu = Cpu::detect().expect("a CPU");
    let settings = Settings { algorithm: Algorithm::Pcd { n_chains: 2 }, k: 1, ..Settings::default() };
    let mut trainer = Trainer::new(cpu, shape(3, 2), settings).expect("a trainer");
    let mut rbm = Rbm::new(shape(3, 2), 1);
    let mut lent = rbm.lend(cpu).expect("lent");
    trainer.step(&mut lent, byte_rows(&[0, 255, 9], 3), 0.1).expect("a step");
    lent.finish().expect("finished");
    let (state, data) = (trainer.state().expect("a state"), fingerprint(byte_rows(&[0, 255, 9], 3)));
    let mut checkpoint = Checkpoint::new(rbm, settings, state, Place::new(0, 1, 0.25), data);
    checkpoint.options = BTreeMap::from([("lr".into(), "0.1".into())]);
    checkpoint.to_bytes().expect("bytes")
}

fn refused(bytes: &[u8], what: &str) {
    match Checkpoint::from_bytes(bytes, "file.x") {
        Err(Error::Format { source_name, .. }) if source_name == "file.x" => {}
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn every_bit_and_every_length() {
    let whole = small();
    Checkpoint::from_bytes(&whole, "file.x").expect("a checkpoint");
    for len in 0..whole.len() {
        refused(&whole[..len], &format!("{len} bytes of {}", whole.len()));
    }
    let mut damaged = whole.clone();
    for bit in 0..8 * whole.len() {
        damaged[bit / 8] ^= 1 << (bit % 8);
        refused(&damaged, &format!("bit {bit} of {}", 8 * whole.len()));
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
    for more in [0, b' ', 0xff] {
        refused(&[whole.as_slice(), &[more]].concat(), "one byte more");
    }
    assert!(damaged == whole);
}

#[test]
fn a_torn_page_anywhere() {
    let whole = Run::new(None).checkpoint().to_bytes().expect("bytes");
    for page in 0..whole.len().div_ceil(512) {
        let mut torn = whole.clone();
        let span = page * 512..whole.len().min(page * 512 + 512);
        torn[span.clone()].fill(0);
        if torn != whole {
            refused(&torn, &format!("page {page}"));
        }
        torn[span.start..].fill(0);
        if torn != whole {
            refused(&torn, &format!("from page {page} on"));
        }
    }
}
