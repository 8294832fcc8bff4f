//! Simulates a disk that loses data that were not synced, and a power failure at every moment.

use super::*;
use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

/// An operation of the disk; the journal lists them in order.
#[derive(Clone, Debug, PartialEq)]
enum Operation {
    Create { file: usize, name: PathBuf },
    Write { file: usize, bytes: Vec<u8> },
    Sync { file: usize },
    Rename { from: PathBuf, to: PathBuf },
    SyncFolder,
    Remove { name: PathBuf },
}

/// The step that a faulty writer leaves out: a control that the test must detect.
#[derive(Clone, Copy, PartialEq)]
enum Negligence {
    None,
    /// The file is not synced before it takes its name.
    NoSync,
    /// The folder is not synced.
    NoFolderSync,
}

struct Recorder {
    journal: Rc<RefCell<Vec<Operation>>>,
    negligence: Negligence,
    /// The number of the operation that fails, as on a full disk.
    fails_at: usize,
}

impl Recorder {
    fn new(negligence: Negligence) -> Self {
        Self { journal: Rc::default(), negligence, fails_at: usize::MAX }
    }

    fn record(&self, operation: Operation) -> io::Result<()> {
        record(&self.journal, self.fails_at, operation)
    }
}

fn record(journal: &RefCell<Vec<Operation>>, fails_at: usize, operation: Operation) -> io::Result<()> {
    if journal.borrow().len() == fails_at && !matches!(operation, Operation::Remove { .. }) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    journal.borrow_mut().push(operation);
    Ok(())
}

/// An open file of the recorder, numbered in the order of creation.
struct Handle {
    file: usize,
    journal: Rc<RefCell<Vec<Operation>>>,
    fails_at: usize,
}

impl Write for Handle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A system may write only a part of the bytes at once.
        let bytes = &bytes[..bytes.len().min(5000)];
        record(&self.journal, self.fails_at, Operation::Write { file: self.file, bytes: bytes.to_vec() })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for Recorder {
    type File = Handle;

    fn create(&self, path: &Path) -> io::Result<Handle> {
        let file = self.journal.borrow().len();
        self.record(Operation::Create { file, name: path.into() })?;
        Ok(Handle { file, journal: self.journal.clone(), fails_at: self.fails_at })
    }

    fn sync(&self, file: Handle) -> io::Result<()> {
        if self.negligence == Negligence::NoSync { Ok(()) } else { self.record(Operation::Sync { file: file.file }) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.record(Operation::Rename { from: from.into(), to: to.into() })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.record(Operation::Remove { name: path.into() })
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        if self.negligence == Negligence::NoFolderSync { Ok(()) } else { self.record(Operation::SyncFolder) }
    }
}

/// The effect of a power failure on a write that was not synced.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Kept,
    Dropped,
    /// This number of bytes arrives; the rest are zeros.
    Torn(usize),
}

/// The folder after a power failure that follows these operations. Bit n of `kept` says whether operation n, if it was not synced, is
/// kept; `fate` applies to the writes that are kept. The file `a` existed before, with the contents `old`.
fn after_failure(journal: &[Operation], kept: u64, fate: Fate, old: &[u8]) -> BTreeMap<PathBuf, Vec<u8>> {
    let synced = |file: usize, n: usize| journal[n..].contains(&Operation::Sync { file });
    let folder_synced = |n: usize| journal[n..].contains(&Operation::SyncFolder);
    let mut contents: BTreeMap<usize, Vec<u8>> = BTreeMap::from([(usize::MAX, old.to_vec())]);
    let mut names: BTreeMap<PathBuf, usize> = BTreeMap::from([("d/a".into(), usize::MAX)]);
    // If a rename arrives, the name that it removes existed, even if no other process saw it.
    let mut created: BTreeMap<&Path, usize> = BTreeMap::new();
    for (n, operation) in journal.iter().enumerate() {
        let lucky = kept >> (n % 64) & 1 == 1;
        match operation {
            Operation::Create { file, name } => {
                contents.insert(*file, Vec::new());
                created.insert(name, *file);
                if folder_synced(n) || lucky {
                    names.insert(name.clone(), *file);
                }
            }
            Operation::Write { file, bytes } => {
                let content = contents.entry(*file).or_default();
                match fate {
                    _ if synced(*file, n) => content.extend(bytes),
                    Fate::Kept if lucky => content.extend(bytes),
                    Fate::Torn(len) if lucky => {
                        content.extend(&bytes[..len.min(bytes.len())]);
                        content.extend(vec![0; bytes.len() - len.min(bytes.len())]);
                    }
                    _ => {}
                }
            }
            Operation::Rename { from, to } => {
                if folder_synced(n) || lucky {
                    names.remove(from);
                    names.insert(to.clone(), created[from.as_path()]);
                }
            }
            Operation::Remove { name } => {
                if folder_synced(n) || lucky {
                    names.remove(name);
                }
            }
            Operation::Sync { .. } | Operation::SyncFolder => {}
        }
    }
    names.into_iter().map(|(name, file)| (name, contents[&file].clone())).collect()
}

/// Two files' worth of bytes, more than one write each.
fn versions() -> (Vec<u8>, Vec<u8>) {
    let bytes = |seed: usize| (0..20_000 + seed).map(|n| (n * 31 + seed) as u8 | 1).collect::<Vec<u8>>();
    (bytes(1), bytes(2))
}

/// All possible contents of `a` after a power failure at each step, as (completed steps, contents).
fn failures(journal: &[Operation], old: &[u8], mut found: impl FnMut(usize, Option<&Vec<u8>>)) {
    for steps in 0..=journal.len() {
        for kept in 0..1u64 << steps.min(12) {
            for fate in [Fate::Kept, Fate::Dropped, Fate::Torn(0), Fate::Torn(1), Fate::Torn(4096)] {
                found(steps, after_failure(&journal[..steps], kept, fate, old).get(Path::new("d/a")));
            }
        }
    }
}

/// Whether the file is always the old or the new one; and whether it is the new one once the write has returned.
fn judge(journal: &[Operation]) -> (bool, bool) {
    let (old, new) = versions();
    let (mut whole, mut lasting) = (true, true);
    failures(journal, &old, |steps, found| {
        whole &= found == Some(&old) || found == Some(&new);
        lasting &= steps < journal.len() || found == Some(&new);
    });
    (whole, lasting)
}

fn journal_of(negligence: Negligence) -> Vec<Operation> {
    let disk = Recorder::new(negligence);
    write_to(&disk, Path::new("d/a"), |file| file.write_all(&versions().1)).expect("written");
    disk.journal.take()
}

#[test]
fn always_the_old_or_the_new_file() {
    let journal = journal_of(Negligence::None);
    assert!(matches!(journal[..], [Operation::Create { .. }, Operation::Write { .. }, .., Operation::SyncFolder]));
    assert_eq!(judge(&journal), (true, true));
}

#[test]
fn without_the_syncs_files_are_lost() {
    assert_eq!(judge(&journal_of(Negligence::NoSync)), (false, false), "a torn file must have been found");
    assert_eq!(judge(&journal_of(Negligence::NoFolderSync)), (true, false), "a lost file must have been found");
}

#[test]
fn a_plain_overwrite_loses_both() {
    let (old, new) = versions();
    let (create, write) = (Operation::Create { file: 0, name: "d/a".into() }, Operation::Write { file: 0, bytes: new });
    let journal = [create, write, Operation::Sync { file: 0 }, Operation::SyncFolder];
    let mut whole = true;
    failures(&journal, &old, |_, found| whole &= found.is_some_and(|found| found.len() >= old.len() && found[9] != 0));
    assert!(!whole, "a torn file must have been found");
}

#[test]
fn a_full_disk_at_any_step() {
    let (old, new) = versions();
    let steps = journal_of(Negligence::None).len();
    for fails_at in 0..steps {
        let disk = Recorder { fails_at, ..Recorder::new(Negligence::None) };
        let error = write_to(&disk, Path::new("d/a"), |file| file.write_all(&new));
        assert_eq!(error.expect_err("the disk is full").kind(), io::ErrorKind::StorageFull, "at step {fails_at}");
        let mut journal = disk.journal.take();
        let cleaned = journal.iter().filter(|operation| matches!(operation, Operation::Remove { .. })).count();
        let renamed = journal.iter().any(|operation| matches!(operation, Operation::Rename { .. }));
        assert_eq!(cleaned, usize::from(fails_at > 0 && !renamed), "the temporary file, at step {fails_at}");
        failures(&journal, &old, |_, found| assert!(found == Some(&old) || found == Some(&new)));
        journal.push(Operation::SyncFolder);
        let left = after_failure(&journal, 0, Fate::Kept, &old);
        assert_eq!(left.len(), 1, "nothing temporary is left at step {fails_at}");
    }
}

/// Errors of file systems that cannot sync folders are ignored; all other errors are reported.
#[cfg(unix)]
#[test]
fn folders_that_cannot_be_synced() {
    // EACCES, EBADF, EISDIR and EINVAL have the same numbers on every Unix, as have EIO, ENOENT and ENOSPC.
    for passed_over in [13, 9, 21, 22] {
        assert!(is_unsupported(&io::Error::from_raw_os_error(passed_over)), "{passed_over}");
    }
    assert!(is_unsupported(&io::ErrorKind::Unsupported.into()));
    for failure in [5, 2, 28] {
        assert!(!is_unsupported(&io::Error::from_raw_os_error(failure)), "{failure}");
    }
    // On Linux, one available file system refuses to sync; a missing folder is an error.
    let processes = Path::new("/proc/self");
    if File::open(processes).is_ok_and(|folder| folder.sync_all().is_err()) {
        System.sync_folder(processes).expect("passed over");
    }
    System.sync_folder(Path::new("/proc/self/none")).expect_err("no such folder");
}

#[test]
fn names_of_temporaries() {
    for name in [".harmonium-1-0.tmp", ".harmonium-4294967295-18446744073709551615.tmp"] {
        assert!(is_temporary(name), "{name}");
    }
    for name in
        ["harmonium-1-0.tmp", ".harmonium-1.tmp", ".harmonium--1.tmp", ".harmonium-a-1.tmp", ".harmonium-1-0.tmp~"]
    {
        assert!(!is_temporary(name), "{name}");
    }
}
